/* math/quantize_avx2.c: quantize_body.h compiled for AVX2. */
#include "math/quantize_body.h"
