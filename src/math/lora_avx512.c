/* math/lora_avx512.c: lora_body.h compiled for AVX-512. */
#include "math/lora_body.h"
