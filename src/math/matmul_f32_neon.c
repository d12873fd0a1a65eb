/* math/matmul_f32_neon.c: matmul_f32_body.h compiled for NEON. */
#define MATMUL_NAME(f) f##_f32_neon

/* 6 rows x 1 vector of four registers: 24 of 32 registers are chains. */
#define TILE_ROWS 6
#define NARROW 1
#define WIDE(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)
#define DEPTH 1024

#include "math/matmul_f32_body.h"
