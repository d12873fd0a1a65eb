/* math/matmul_dx_avx2.c: matmul_dx_body.h compiled for AVX2 and FMA. */
#include "math/matmul_dx_body.h"
