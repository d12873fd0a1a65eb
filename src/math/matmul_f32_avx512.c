/* math/matmul_f32_avx512.c: matmul_f32_body.h compiled for AVX-512. */
#define MATMUL_NAME(f) f##_f32_avx512

/* 12 rows x 2 vectors: 24 of 32 registers are chains. */
#define TILE_ROWS 12
#define NARROW 2
#define WIDE(R) ((R) == 1 ? 8 : (R) <= 3 ? 4 : 2)
#define DEPTH 2048

#include "math/matmul_f32_body.h"
