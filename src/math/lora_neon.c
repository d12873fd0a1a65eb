/* math/lora_neon.c: lora_body.h compiled for NEON. */
#include "math/lora_body.h"
