/* math/rows_scalar.c: the specification of what works on one row (docs/ARITHMETIC.md, "Row
 * reductions", "RoPE"). */
#include <math.h>

#include "math/functions.h"
#include "math/kernels_internal.h"

enum { LANES = 16 };

/* 16 -> 8 -> 4 -> 2 -> 1: lane i takes lane i + half. */
static float tree_sum(float lane[LANES])
{
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

static float larger(float a, float b)
{
	return a > b ? a : b;
}

float ol_row_max_scalar(const float *x, int n)
{
	float lane[LANES];
	for (int i = 0; i < LANES; i++)
		lane[i] = -INFINITY;
	for (int i = 0; i < n; i++)
		lane[i % LANES] = larger(lane[i % LANES], x[i]);
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] = larger(lane[i], lane[i + half]);
	return lane[0];
}

float ol_row_sum_exp_scalar(const float *x, float max, int n)
{
	float lane[LANES] = {0};
	for (int i = 0; i < n; i++)
		lane[i % LANES] += ol_expf(x[i] - max);
	return tree_sum(lane);
}

void ol_rmsnorm_scalar(float *y, const float *x, const float *weight, int n, float eps)
{
	float lane[LANES] = {0};
	for (int i = 0; i < n; i++)
		lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
	const float mean = tree_sum(lane) / (float)n;
	const float r = 1.0f / sqrtf(mean + eps);
	for (int i = 0; i < n; i++)
		y[i] = (x[i] * r) * weight[i];
}

void ol_rope_scalar(float *x, const float *cosines, const float *sines, int half)
{
	for (int i = 0; i < half; i++) {
		const float a = x[i], b = x[i + half];
		x[i] = fmaf(a, cosines[i], -(b * sines[i]));
		x[i + half] = fmaf(b, cosines[i], a * sines[i]);
	}
}

void ol_add_scalar(float *y, const float *x, int n)
{
	for (int i = 0; i < n; i++)
		y[i] += x[i];
}

void ol_silu_mul_scalar(float *y, const float *gate, const float *up, int n)
{
	for (int i = 0; i < n; i++)
		y[i] = ol_siluf(gate[i]) * up[i];
}

void ol_gelu_mul_scalar(float *y, const float *gate, const float *up, int n)
{
	for (int i = 0; i < n; i++)
		y[i] = ol_gelu_tanhf(gate[i]) * up[i];
}

void ol_softcap_scalar(float *x, float cap, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = cap * ol_tanhf(x[i] / cap);
}

void ol_exp_array_scalar(float *y, const float *x, int n)
{
	for (int i = 0; i < n; i++)
		y[i] = ol_expf(x[i]);
}

void ol_tanh_array_scalar(float *y, const float *x, int n)
{
	for (int i = 0; i < n; i++)
		y[i] = ol_tanhf(x[i]);
}
