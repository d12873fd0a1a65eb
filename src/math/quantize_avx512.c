/* math/quantize_avx512.c: quantize_body.h compiled for AVX-512. */
#include "math/quantize_body.h"
