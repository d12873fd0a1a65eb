/* math/rows_avx512.c: rows_body.h compiled for AVX-512. */
#include "math/rows_body.h"
