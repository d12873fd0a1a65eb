/* math/lora_scalar.c: the specification of LoRA's two matrices (docs/ARITHMETIC.md, "LoRA"). */
#include <math.h>

#include "math/kernels_internal.h"

/* Element k of row o. */
static float weight(const struct ol_matrix *w, int o, int k)
{
	const size_t panel = (size_t)(o / OL_PANEL), lane = (size_t)(o % OL_PANEL);
	const size_t K = (size_t)w->cols, at = (size_t)k;

	if (w->type == OL_WEIGHT_F32)
		return ((const float *)w->panels)[(panel * K + at) * OL_PANEL + lane];
	OL_ASSERT(w->type == OL_WEIGHT_BF16);
	const size_t pair = panel * ((K + 1) / 2) + at / 2;
	return ol_bf16_to_f32(((const uint16_t *)w->panels)[(pair * OL_PANEL + lane) * 2 + at % 2]);
}

static float chain(const float *x, const struct ol_matrix *w, int o)
{
	float c = 0.0f;
	for (int k = 0; k < w->cols; k++)
		c = fmaf(x[k], weight(w, o, k), c);
	return c;
}

void ol_lora_down_scalar(float *h, size_t h_stride, const float *x, size_t x_stride,
			 const struct ol_matrix *a, int M)
{
	for (int m = 0; m < M; m++)
		for (int r = 0; r < a->rows; r++)
			h[(size_t)m * h_stride + (size_t)r] = chain(x + (size_t)m * x_stride, a, r);
}

void ol_lora_up_scalar(float *y, size_t y_stride, const float *h, size_t h_stride,
		       const struct ol_matrix *b, float scale, int M, int panel0, int panel1)
{
	const int end = OL_MIN(panel1 * OL_PANEL, b->rows);

	for (int m = 0; m < M; m++)
		for (int o = panel0 * OL_PANEL; o < end; o++) {
			float *to = y + (size_t)m * y_stride + (size_t)o;
			*to = fmaf(scale, chain(h + (size_t)m * h_stride, b, o), *to);
		}
}
