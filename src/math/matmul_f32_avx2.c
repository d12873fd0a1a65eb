/* math/matmul_f32_avx2.c: matmul_f32_body.h compiled for AVX2 and FMA. */
#define MATMUL_NAME(f) f##_f32_avx2

/* 6 rows x 1 vector of two registers: 12 of 16 registers are chains. */
#define TILE_ROWS 6
#define NARROW 1
#define WIDE(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)
#define DEPTH 1024

#include "math/matmul_f32_body.h"
