/* math/matmul_bf16_scalar.c: the specification of bf16 matmul (docs/ARITHMETIC.md, "bf16"). */
#include "math/bf16_fma.h"
#include "math/kernels_internal.h"

/* Rows of act hold K rounded up to even; the element past K is +0. */
static size_t row_length(int K)
{
	return ((size_t)K + 1) & ~(size_t)1;
}

size_t ol_act_bytes_bf16_scalar(int M, int K)
{
	return (size_t)M * row_length(K) * sizeof(uint16_t);
}

void ol_act_prepare_bf16_scalar(void *act, const float *x, size_t x_stride, int M, int K, int row0,
				int row1)
{
	(void)M;
	for (int m = row0; m < row1; m++) {
		uint16_t *a = (uint16_t *)act + (size_t)m * row_length(K);
		a[row_length(K) - 1] = 0;
		for (int k = 0; k < K; k++)
			a[k] = ol_f32_to_bf16(x[(size_t)m * x_stride + (size_t)k]);
	}
}

void ol_matmul_bf16_scalar(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			   int M, int panel0, int panel1)
{
	const size_t length = row_length(w->cols);
	const int end = OL_MIN(panel1 * OL_PANEL, w->rows);

	for (int m = 0; m < M; m++) {
		const uint16_t *a = (const uint16_t *)act + (size_t)m * length;
		for (int o = panel0 * OL_PANEL; o < end; o++) {
			const uint16_t *panel = (const uint16_t *)w->panels +
						(size_t)(o / OL_PANEL) * length * OL_PANEL;
			float c = 0.0f;
			for (size_t k = 0; k < length; k += 2) {
				const uint16_t *pair = panel + k * OL_PANEL + 2 * (o % OL_PANEL);
				c = ol_fma_flushed(ol_bf16_flushed(a[k + 1]),
						   ol_bf16_flushed(pair[1]), c);
				c = ol_fma_flushed(ol_bf16_flushed(a[k]), ol_bf16_flushed(pair[0]),
						   c);
			}
			y[(size_t)m * y_stride + (size_t)o] = c;
		}
	}
}
