/* math/rows_avx2.c: rows_body.h compiled for AVX2 and FMA. */
#include "math/rows_body.h"
