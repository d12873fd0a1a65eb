/* math/rows_neon.c: rows_body.h compiled for NEON. */
#include "math/rows_body.h"
