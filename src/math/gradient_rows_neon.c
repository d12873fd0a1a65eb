/* math/gradient_rows_neon.c: gradient_rows_body.h compiled for NEON. */
#include "math/gradient_rows_body.h"
