/* math/attention_dx_neon.c: attention_dx_body.h compiled for NEON. */
#include "math/attention_dx_body.h"
