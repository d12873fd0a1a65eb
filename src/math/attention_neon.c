/* math/attention_neon.c: attention_body.h compiled for NEON. */
/* 6 heads x 1 vector of four registers: 24 of 32 registers are chains. */
#define TILE 6
#define PAGES(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)
#define VALUE_ROWS 6
#define VECTORS(R) ((R) == 1 ? 4 : (R) <= 3 ? 2 : 1)

#include "math/attention_body.h"
