/* math/matmul_dw_avx2.c: matmul_dw_body.h compiled for AVX2 and FMA. */
#include "math/matmul_dw_body.h"
