/* math/attention_avx512.c: attention_body.h compiled for AVX-512. */
/* 12 heads x 2 pages and 6 heads x 4 vectors: 24 of 32 registers are chains. */
#define TILE 12
#define PAGES(R) ((R) <= 3 ? 4 : 2)
#define VALUE_ROWS 6
#define VECTORS(R) 4

#include "math/attention_body.h"
