/* math/attention_avx2.c: attention_body.h compiled for AVX2 and FMA. */
/* 6 heads x 1 vector of two registers: 12 of 16 registers are chains. */
#define TILE 6
#define PAGES(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)
#define VALUE_ROWS 6
#define VECTORS(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)

#include "math/attention_body.h"
