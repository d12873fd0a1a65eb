/* math/quantize_neon.c: quantize_body.h compiled for NEON. */
#include "math/quantize_body.h"
