/* math/attention_dx_avx512.c: attention_dx_body.h compiled for AVX-512. */
#include "math/attention_dx_body.h"
