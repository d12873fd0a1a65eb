/* math/matmul_dw_avx512.c: matmul_dw_body.h compiled for AVX-512. */
#include "math/matmul_dw_body.h"
