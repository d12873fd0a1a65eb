/* math/matmul_dw_neon.c: matmul_dw_body.h compiled for NEON. */
#include "math/matmul_dw_body.h"
