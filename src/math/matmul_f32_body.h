/* math/matmul_f32_body.h, floor 1: a step of f32 is one k: c = fma(a, w, c). */
#include "math/lanes.h"

#define STEP_K 1
typedef float unit;
typedef v16 operand, weights;

OL_INLINE unit make_unit(const float *x, int k, int K)
{
	(void)K;
	return x[k];
}

OL_INLINE operand spread(unit u)
{
	return v16_set(u);
}

OL_INLINE weights load_weights(const char *p)
{
	return v16_load((const float *)(const void *)p);
}

OL_INLINE v16 step(v16 c, operand a, weights w)
{
	return v16_fma(a, w, c);
}

#include "math/matmul_body.h"

void MATMUL_NAME(ol_matmul)(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			    int M, int panel0, int panel1)
{
	matmul(y, y_stride, act, w, M, panel0, panel1);
}
