/* math/matmul_f32_scalar.c: the specification of f32 matmul (docs/ARITHMETIC.md, "Chains"). */
#include <math.h>
#include <string.h>

#include "math/kernels_internal.h"

size_t ol_act_bytes_f32_scalar(int M, int K)
{
	return (size_t)M * (size_t)K * sizeof(float);
}

void ol_act_prepare_f32_scalar(void *act, const float *x, size_t x_stride, int M, int K, int row0,
			       int row1)
{
	(void)M;
	for (int m = row0; m < row1; m++)
		memcpy((float *)act + (size_t)m * (size_t)K, x + (size_t)m * x_stride,
		       (size_t)K * sizeof(float));
}

void ol_matmul_f32_scalar(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			  int M, int panel0, int panel1)
{
	const size_t K = (size_t)w->cols;
	const int end = OL_MIN(panel1 * OL_PANEL, w->rows);

	for (int m = 0; m < M; m++) {
		const float *a = (const float *)act + (size_t)m * K;
		for (int o = panel0 * OL_PANEL; o < end; o++) {
			const float *lane = (const float *)w->panels +
					    (size_t)(o / OL_PANEL) * K * OL_PANEL + o % OL_PANEL;
			float c = 0.0f;
			for (size_t k = 0; k < K; k++)
				c = fmaf(a[k], lane[k * OL_PANEL], c);
			y[(size_t)m * y_stride + (size_t)o] = c;
		}
	}
}
