/* math/gradient_rows_avx512.c: gradient_rows_body.h compiled for AVX-512. */
#include "math/gradient_rows_body.h"
