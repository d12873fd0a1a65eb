/* math/gradient_rows_avx2.c: gradient_rows_body.h compiled for AVX2 and FMA. */
#include "math/gradient_rows_body.h"
