/* attrib/rows_kernels.h, floor 3: the tables of rows.h, one per instruction set. */
#ifndef OL_ATTRIB_ROWS_KERNELS_H
#define OL_ATTRIB_ROWS_KERNELS_H

#include "attrib/rows.h"

extern const struct ol_row_kernels ol_row_kernels_avx2, ol_row_kernels_avx512;

#endif
