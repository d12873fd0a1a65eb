/* math/matmul_bf16_neon.c: matmul_bf16_body.h compiled for NEON. */
#define MATMUL_NAME(f) f##_bf16_neon

/* 4 rows x 1 vector of four registers: 16 of 32 registers are chains. */
#define TILE_ROWS 4
#define NARROW 1
#define WIDE(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)
#define DEPTH 1024

#include "math/matmul_bf16_body.h"
