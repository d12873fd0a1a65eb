/* math/gradients_scalar.c: the specification of the backward pass of matrices, rows and attention
 * (docs/ARITHMETIC.md, "Training"). Every order of operations below is part of the definition. */
#include <math.h>

#include "math/function_constants.h"
#include "math/functions.h"
#include "math/gradients_internal.h"

enum { LANES = 16 };

/* 16 -> 8 -> 4 -> 2 -> 1: lane i takes lane i + half. */
static float tree_sum(float lane[LANES])
{
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

/* --- matrices --------------------------------------------------------------------------------- */

size_t ol_matmul_dx_scratch_scalar(const struct ol_matrix *w, int M)
{
	(void)M;
	return (size_t)w->cols; /* one row of W */
}

void ol_matmul_dx_scalar(float *dx, size_t dx_stride, const float *dy, size_t dy_stride,
			 const struct ol_matrix *w, int M, int k0, int k1, bool onto,
			 float *scratch)
{
	OL_ASSERT(k0 % OL_PANEL == 0 && (k1 % OL_PANEL == 0 || k1 == w->cols));
	if (!onto)
		for (int m = 0; m < M; m++)
			for (int k = k0; k < k1; k++)
				dx[(size_t)m * dx_stride + (size_t)k] = 0.0f;
	for (int o = 0; o < w->rows; o++) {
		ol_matrix_row(scratch, w, o);
		for (int m = 0; m < M; m++) {
			const float d = dy[(size_t)m * dy_stride + (size_t)o];
			float *row = dx + (size_t)m * dx_stride;
			for (int k = k0; k < k1; k++)
				row[k] = fmaf(d, scratch[k], row[k]);
		}
	}
}

void ol_matmul_dw_scalar(float *dw, const float *dy, size_t dy_stride, const float *x,
			 size_t x_stride, int M, int o0, int o1, int K)
{
	for (int m = 0; m < M; m++) {
		const float *row = x + (size_t)m * x_stride;
		for (int o = o0; o < o1; o++) {
			const float d = dy[(size_t)m * dy_stride + (size_t)o];
			float *to = dw + (size_t)o * (size_t)K;
			for (int k = 0; k < K; k++)
				to[k] = fmaf(d, row[k], to[k]);
		}
	}
}

void ol_sum_rows_scalar(float *db, const float *dy, size_t dy_stride, int M, int i0, int i1)
{
	for (int m = 0; m < M; m++)
		for (int i = i0; i < i1; i++)
			db[i] += dy[(size_t)m * dy_stride + (size_t)i];
}

/* --- rows ------------------------------------------------------------------------------------- */

float ol_rmsnorm_dx_scalar(float *dx, const float *x, const float *weight, const float *dy, int n,
			   float eps, bool onto)
{
	float squares[LANES] = {0}, dots[LANES] = {0};
	for (int i = 0; i < n; i++) {
		squares[i % LANES] = fmaf(x[i], x[i], squares[i % LANES]);
		dots[i % LANES] = fmaf(dy[i] * weight[i], x[i], dots[i % LANES]);
	}
	const float mean = tree_sum(squares) / (float)n;
	const float r = 1.0f / sqrtf(mean + eps);
	const float c = ((tree_sum(dots) * r) / (float)n) * r;
	for (int i = 0; i < n; i++) {
		const float d = r * fmaf(-c, x[i], dy[i] * weight[i]);
		dx[i] = onto ? dx[i] + d : d;
	}
	return r;
}

void ol_rmsnorm_dw_scalar(float *dweight, const float *dy, size_t dy_stride, const float *x,
			  size_t x_stride, const float *inverse, int M, int i0, int i1)
{
	for (int m = 0; m < M; m++) {
		const float *a = x + (size_t)m * x_stride, *d = dy + (size_t)m * dy_stride;
		for (int i = i0; i < i1; i++)
			dweight[i] = fmaf(d[i], a[i] * inverse[m], dweight[i]);
	}
}

/* sigmoid(x) and 1 - sigmoid(x), neither by subtraction. */
struct sigmoids {
	float up, down;
};

static struct sigmoids sigmoids(float x)
{
	const float e = ol_expf(-fabsf(x));
	const float large = 1.0f / (1.0f + e);
	const float small = e * large;
	return x < 0.0f ? (struct sigmoids){small, large} : (struct sigmoids){large, small};
}

void ol_silu_mul_dx_scalar(float *dgate, float *dup, const float *gate, const float *up,
			   const float *dy, int n)
{
	for (int i = 0; i < n; i++) {
		const struct sigmoids s = sigmoids(gate[i]);
		const float y = ol_siluf(gate[i]);
		const float slope = fmaf(y, s.down, s.up);
		const float d = dy[i], u = up[i];
		dgate[i] = (d * u) * slope;
		dup[i] = d * y;
	}
}

void ol_gelu_mul_dx_scalar(float *dgate, float *dup, const float *gate, const float *up,
			   const float *dy, int n)
{
	for (int i = 0; i < n; i++) {
		const float g = gate[i], square = g * g;
		const struct sigmoids s = sigmoids(g * fmaf(square, OL_GELU_C1, OL_GELU_C0));
		const float y = ol_gelu_tanhf(g);
		/* Limited, so that 0 * infinity cannot happen where s.down has vanished. */
		const float limited = square < OL_GELU_SQUARE_MAX ? square : OL_GELU_SQUARE_MAX;
		const float inner = fmaf(limited, OL_GELU_D1, OL_GELU_C0);
		const float slope = fmaf(y * s.down, inner, s.up);
		const float d = dy[i], u = up[i];
		dgate[i] = (d * u) * slope;
		dup[i] = d * y;
	}
}

void ol_softcap_dx_scalar(float *dx, const float *dy, const float *y, float cap, int n)
{
	for (int i = 0; i < n; i++) {
		const float t = y[i] / cap;
		dx[i] = dy[i] * fmaf(-t, t, 1.0f);
	}
}

void ol_scale_scalar(float *y, const float *x, float s, int n)
{
	for (int i = 0; i < n; i++)
		y[i] = s * x[i];
}

/* --- attention -------------------------------------------------------------------------------- */

size_t ol_attention_dx_scratch_scalar(const struct ol_attention *a, int T)
{
	(void)a;
	return 2 * (size_t)T; /* probabilities and slopes of one query */
}

static float chain(const float *a, const float *b, int n)
{
	float c = 0.0f;
	for (int i = 0; i < n; i++)
		c = fmaf(a[i], b[i], c);
	return c;
}

static void add_outer(float *to, float c, const float *x, int n)
{
	for (int i = 0; i < n; i++)
		to[i] = fmaf(c, x[i], to[i]);
}

/* The probabilities that the forward pass used for keys first .. t, and in `slope` what the soft
 * cap lets through (1 without one). */
static void probabilities(float *p, float *slope, const float *q, const float *k, size_t kv_stride,
			  const struct ol_attention *a, int first, int t)
{
	float max = -INFINITY, lane[LANES] = {0};
	for (int j = first; j <= t; j++) {
		float s = chain(q, k + (size_t)j * kv_stride, a->head_dim) * a->scale;
		slope[j] = 1.0f;
		if (a->softcap > 0.0f) {
			const float tanh_s = ol_tanhf(s / a->softcap);
			slope[j] = fmaf(-tanh_s, tanh_s, 1.0f);
			s = a->softcap * tanh_s;
		}
		p[j] = s;
		max = max > s ? max : s;
	}
	for (int j = first; j <= t; j++) {
		p[j] = ol_expf(p[j] - max);
		lane[j % LANES] += p[j];
	}
	const float inverse = 1.0f / tree_sum(lane);
	for (int j = first; j <= t; j++)
		p[j] *= inverse;
}

void ol_attention_dx_scalar(float *dq, float *dk, float *dv, const float *q, const float *k,
			    const float *v, const float *out, const float *dout, size_t q_stride,
			    size_t kv_stride, const struct ol_attention *a, int T, float *scratch)
{
	const int d = a->head_dim;
	float *p = scratch, *ds = scratch + T;

	OL_ASSERT(a->kv_type == OL_KV_F32);
	for (int t = 0; t < T; t++)
		for (int i = 0; i < d; i++)
			dk[(size_t)t * kv_stride + (size_t)i] =
				dv[(size_t)t * kv_stride + (size_t)i] = 0.0f;
	for (int g = 0; g < a->group; g++)
		for (int t = 0; t < T; t++) {
			const size_t at = (size_t)t * q_stride + (size_t)g * (size_t)d;
			const int first = a->window > 0 ? OL_MAX(0, t - a->window + 1) : 0;
			float lane[LANES] = {0};

			probabilities(p, ds, q + at, k, kv_stride, a, first, t);
			for (int i = 0; i < d; i++)
				lane[i % LANES] = fmaf(dout[at + (size_t)i], out[at + (size_t)i],
						       lane[i % LANES]);
			const float mean = tree_sum(lane);
			for (int i = 0; i < d; i++)
				dq[at + (size_t)i] = 0.0f;
			for (int j = first; j <= t; j++) {
				const size_t key = (size_t)j * kv_stride;
				const float dp = chain(dout + at, v + key, d);
				float s = p[j] * (dp - mean);
				if (a->softcap > 0.0f)
					s *= ds[j];
				s *= a->scale;
				add_outer(dq + at, s, k + key, d);
				add_outer(dk + key, s, q + at, d);
				add_outer(dv + key, p[j], dout + at, d);
			}
		}
}
