/* math/rows_body.h, floor 1: rows_scalar.c on sixteen lanes. Included once by rows_avx512.c,
 * rows_avx2.c and rows_neon.c. */
#include <math.h>

#include "math/functions.h"
#include "math/kernels_internal.h"
#include "math/lanes_functions.h"

float OL_LANES_NAME(ol_row_max)(const float *x, int n)
{
	const v16 lowest = v16_set(-INFINITY);
	v16 max = lowest;
	int i = 0;
	for (; i + 16 <= n; i += 16)
		max = v16_max(max, v16_load(x + i));
	if (i < n) {
		float lane[16];
		v16_store(lane, lowest);
		memcpy(lane, x + i, (size_t)(n - i) * sizeof *x);
		/* A lane without an element keeps its value: max > -inf, or both are -inf. */
		max = v16_max(max, v16_load(lane));
	}
	return v16_tree_max(max);
}

float OL_LANES_NAME(ol_row_sum_exp)(const float *x, float max, int n)
{
	const v16 m = v16_set(max);
	v16 sum = v16_set(0.0f);
	int i = 0;
	for (; i + 16 <= n; i += 16)
		sum = v16_add(sum, v16_exp(v16_sub(v16_load(x + i), m)));
	if (i < n) {
		/* Absent lanes add exp(-inf) = +0 to a sum that is never -0. */
		float lane[16];
		v16_store(lane, v16_set(-INFINITY));
		memcpy(lane, x + i, (size_t)(n - i) * sizeof *x);
		sum = v16_add(sum, v16_exp(v16_sub(v16_load(lane), m)));
	}
	return v16_tree_sum(sum);
}

void OL_LANES_NAME(ol_rmsnorm)(float *y, const float *x, const float *weight, int n, float eps)
{
	v16 sum = v16_set(0.0f);
	int i = 0;
	for (; i + 16 <= n; i += 16) {
		const v16 a = v16_load(x + i);
		sum = v16_fma(a, a, sum);
	}
	const int tail = n - i;
	if (tail > 0) {
		const v16 a = v16_load_part(x + i, tail);
		sum = v16_fma(a, a, sum);
	}
	const float mean = v16_tree_sum(sum) / (float)n;
	const v16 r = v16_set(1.0f / sqrtf(mean + eps));
	for (i = 0; i + 16 <= n; i += 16)
		v16_store(y + i, v16_mul(v16_mul(v16_load(x + i), r), v16_load(weight + i)));
	if (tail > 0)
		v16_store_part(y + i,
			       v16_mul(v16_mul(v16_load_part(x + i, tail), r),
				       v16_load_part(weight + i, tail)),
			       tail);
}

void OL_LANES_NAME(ol_rope)(float *x, const float *cosines, const float *sines, int half)
{
	for (int i = 0; i < half; i += 16) {
		const int n = OL_MIN(16, half - i);
		const v16 a = v16_load_part(x + i, n), b = v16_load_part(x + half + i, n);
		const v16 c = v16_load_part(cosines + i, n), s = v16_load_part(sines + i, n);
		const v16 minus = v16_mul(b, s);
		const v16 turned = v16_fma(a, c, v16_sub(v16_set(-0.0f), minus));
		v16_store_part(x + half + i, v16_fma(b, c, v16_mul(a, s)), n);
		v16_store_part(x + i, turned, n);
	}
}

void OL_LANES_NAME(ol_add)(float *y, const float *x, int n)
{
	int i = 0;
	for (; i + 16 <= n; i += 16)
		v16_store(y + i, v16_add(v16_load(y + i), v16_load(x + i)));
	if (i < n)
		v16_store_part(y + i,
			       v16_add(v16_load_part(y + i, n - i), v16_load_part(x + i, n - i)),
			       n - i);
}

void OL_LANES_NAME(ol_silu_mul)(float *y, const float *gate, const float *up, int n)
{
	int i = 0;
	for (; i + 16 <= n; i += 16)
		v16_store(y + i, v16_mul(v16_silu(v16_load(gate + i)), v16_load(up + i)));
	if (i < n)
		v16_store_part(y + i,
			       v16_mul(v16_silu(v16_load_part(gate + i, n - i)),
				       v16_load_part(up + i, n - i)),
			       n - i);
}

void OL_LANES_NAME(ol_gelu_mul)(float *y, const float *gate, const float *up, int n)
{
	int i = 0;
	for (; i + 16 <= n; i += 16)
		v16_store(y + i, v16_mul(v16_gelu_tanh(v16_load(gate + i)), v16_load(up + i)));
	if (i < n)
		v16_store_part(y + i,
			       v16_mul(v16_gelu_tanh(v16_load_part(gate + i, n - i)),
				       v16_load_part(up + i, n - i)),
			       n - i);
}

void OL_LANES_NAME(ol_softcap)(float *x, float cap, int n)
{
	const v16 c = v16_set(cap);
	int i = 0;
	for (; i + 16 <= n; i += 16)
		v16_store(x + i, v16_mul(c, v16_tanh(v16_div(v16_load(x + i), c))));
	if (i < n)
		v16_store_part(x + i, v16_mul(c, v16_tanh(v16_div(v16_load_part(x + i, n - i), c))),
			       n - i);
}

void OL_LANES_NAME(ol_exp_array)(float *y, const float *x, int n)
{
	int i = 0;
	for (; i + 16 <= n; i += 16)
		v16_store(y + i, v16_exp(v16_load(x + i)));
	if (i < n)
		v16_store_part(y + i, v16_exp(v16_load_part(x + i, n - i)), n - i);
}

void OL_LANES_NAME(ol_tanh_array)(float *y, const float *x, int n)
{
	int i = 0;
	for (; i + 16 <= n; i += 16)
		v16_store(y + i, v16_tanh(v16_load(x + i)));
	if (i < n)
		v16_store_part(y + i, v16_tanh(v16_load_part(x + i, n - i)), n - i);
}
