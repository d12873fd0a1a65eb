/* math/matmul_dx_avx512.c: matmul_dx_body.h compiled for AVX-512. */
#include "math/matmul_dx_body.h"
