/* math/lora_avx2.c: lora_body.h compiled for AVX2 and FMA. */
#include "math/lora_body.h"
