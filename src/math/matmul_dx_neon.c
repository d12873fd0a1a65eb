/* math/matmul_dx_neon.c: matmul_dx_body.h compiled for NEON. */
#include "math/matmul_dx_body.h"
