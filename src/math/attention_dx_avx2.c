/* math/attention_dx_avx2.c: attention_dx_body.h compiled for AVX2 and FMA. */
#include "math/attention_dx_body.h"
