/* math/gradient_rows_body.h, floor 1: what gradients_scalar.c and optimizer_scalar.c do row by row
 * or element by element, on sixteen lanes. */
#include <math.h>

#include "math/functions.h"
#include "math/gradients_internal.h"
#include "math/kernels_internal.h"
#include "math/lanes_functions.h"
#include "math/lanes_philox.h"

/* Runs the rest for vectors i = 0, 16, ... with n lanes each: 16, and what is left at the end. In
 * the first branch n is a constant, so that load and store need no mask there. */
#define FOR_LANES(count, ...)                                                                      \
	do {                                                                                       \
		int i = 0;                                                                         \
		for (; i + 16 <= (count); i += 16) {                                               \
			const int n = 16;                                                          \
			__VA_ARGS__;                                                               \
		}                                                                                  \
		if (i < (count)) {                                                                 \
			const int n = (count)-i;                                                   \
			__VA_ARGS__;                                                               \
		}                                                                                  \
	} while (0)

OL_INLINE v16 load(const float *p, int n)
{
	return n == 16 ? v16_load(p) : v16_load_part(p, n);
}

OL_INLINE void store(float *p, v16 x, int n)
{
	if (n == 16)
		v16_store(p, x);
	else
		v16_store_part(p, x, n);
}

/* `x` in the first n lanes, `old` in the others: adding a zero would turn a -0 into +0. */
OL_INLINE v16 among(int n, v16 x, v16 old)
{
	static const float lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	return n == 16 ? x : v16_select(v16_less(v16_load(lanes), v16_set((float)n)), x, old);
}

/* --- rows ------------------------------------------------------------------------------------- */

float OL_LANES_NAME(ol_rmsnorm_dx)(float *dx, const float *x, const float *weight, const float *dy,
				   int count, float eps, bool onto)
{
	v16 squares = v16_set(0.0f), dots = v16_set(0.0f);
	FOR_LANES(count, {
		const v16 a = load(x + i, n);
		squares = v16_fma(a, a, squares);
		dots = among(n, v16_fma(v16_mul(load(dy + i, n), load(weight + i, n)), a, dots),
			     dots);
	});
	const float mean = v16_tree_sum(squares) / (float)count;
	const float r = 1.0f / sqrtf(mean + eps);
	const float c = ((v16_tree_sum(dots) * r) / (float)count) * r;
	const v16 root = v16_set(r), minus_c = v16_set(-c);
	FOR_LANES(count, {
		const v16 g = v16_mul(load(dy + i, n), load(weight + i, n));
		v16 d = v16_mul(root, v16_fma(minus_c, load(x + i, n), g));
		if (onto)
			d = v16_add(load(dx + i, n), d);
		store(dx + i, d, n);
	});
	return r;
}

void OL_LANES_NAME(ol_rmsnorm_dw)(float *dweight, const float *dy, size_t dy_stride, const float *x,
				  size_t x_stride, const float *inverse, int M, int i0, int i1)
{
	for (int m = 0; m < M; m++) {
		const float *a = x + (size_t)m * x_stride + i0,
			    *d = dy + (size_t)m * dy_stride + i0;
		const v16 r = v16_set(inverse[m]);
		FOR_LANES(i1 - i0, {
			float *to = dweight + i0 + i;
			store(to, v16_fma(load(d + i, n), v16_mul(load(a + i, n), r), load(to, n)),
			      n);
		});
	}
}

void OL_LANES_NAME(ol_sum_rows)(float *db, const float *dy, size_t dy_stride, int M, int i0, int i1)
{
	for (int m = 0; m < M; m++) {
		const float *d = dy + (size_t)m * dy_stride + i0;
		FOR_LANES(i1 - i0, {
			float *to = db + i0 + i;
			store(to, v16_add(load(to, n), load(d + i, n)), n);
		});
	}
}

/* --- activations ------------------------------------------------------------------------------ */

/* Of x = gate, w its inner argument: y = x sigmoid(w); sigmoid(w) and 1 - sigmoid(w). */
struct gate {
	v16 y, up, down;
};

OL_INLINE struct gate open_gate(v16 x, v16 w)
{
	const v16 one = v16_set(1.0f);
	const v16 e = v16_exp(v16_or(w, v16_set(-0.0f)));
	const v16 below = v16_add(one, e);
	const m16 negative = v16_less(w, v16_set(0.0f));
	const v16 large = v16_div(one, below);
	const v16 small = v16_mul(e, large);
	return (struct gate){
		.y = v16_div(v16_select(negative, v16_mul(x, e), x), below),
		.up = v16_select(negative, small, large),
		.down = v16_select(negative, large, small),
	};
}

void OL_LANES_NAME(ol_silu_mul_dx)(float *dgate, float *dup, const float *gate, const float *up,
				   const float *dy, int count)
{
	FOR_LANES(count, {
		const v16 g = load(gate + i, n);
		const struct gate s = open_gate(g, g);
		const v16 slope = v16_fma(s.y, s.down, s.up);
		const v16 d = load(dy + i, n), u = load(up + i, n);
		store(dgate + i, v16_mul(v16_mul(d, u), slope), n);
		store(dup + i, v16_mul(d, s.y), n);
	});
}

void OL_LANES_NAME(ol_gelu_mul_dx)(float *dgate, float *dup, const float *gate, const float *up,
				   const float *dy, int count)
{
	const v16 c0 = v16_set(OL_GELU_C0), c1 = v16_set(OL_GELU_C1), d1 = v16_set(OL_GELU_D1);
	const v16 most = v16_set(OL_GELU_SQUARE_MAX);
	FOR_LANES(count, {
		const v16 g = load(gate + i, n), square = v16_mul(g, g);
		const struct gate s = open_gate(g, v16_mul(g, v16_fma(square, c1, c0)));
		const v16 inner = v16_fma(v16_min(square, most), d1, c0);
		const v16 slope = v16_fma(v16_mul(s.y, s.down), inner, s.up);
		const v16 d = load(dy + i, n), u = load(up + i, n);
		store(dgate + i, v16_mul(v16_mul(d, u), slope), n);
		store(dup + i, v16_mul(d, s.y), n);
	});
}

void OL_LANES_NAME(ol_softcap_dx)(float *dx, const float *dy, const float *y, float cap, int count)
{
	const v16 c = v16_set(cap), one = v16_set(1.0f), minus = v16_set(-0.0f);
	FOR_LANES(count, {
		const v16 t = v16_div(load(y + i, n), c);
		store(dx + i, v16_mul(load(dy + i, n), v16_fma(v16_sub(minus, t), t, one)), n);
	});
}

void OL_LANES_NAME(ol_scale)(float *y, const float *x, float s, int count)
{
	const v16 factor = v16_set(s);
	FOR_LANES(count, store(y + i, v16_mul(factor, load(x + i, n)), n));
}

/* --- loss ------------------------------------------------------------------------------------- */

/* y = exp(x - max); returns their sum. y may be x. */
static float exponentials(float *y, const float *x, float max, int count)
{
	const v16 m = v16_set(max);
	v16 sum = v16_set(0.0f);
	/* Absent lanes would add exp(-max). */
	FOR_LANES(count, {
		const v16 e = v16_exp(v16_sub(load(x + i, n), m));
		sum = among(n, v16_add(sum, e), sum);
		store(y + i, e, n);
	});
	return v16_tree_sum(sum);
}

float OL_LANES_NAME(ol_cross_entropy)(float *dlogits, const float *logits, int count, int target,
				      float weight)
{
	OL_ASSERT(target >= 0 && target < count);
	const float max = OL_LANES_NAME(ol_row_max)(logits, count);
	const float ahead = logits[target] - max;
	if (!dlogits)
		return ol_logf(OL_LANES_NAME(ol_row_sum_exp)(logits, max, count)) - ahead;

	const float sum = exponentials(dlogits, logits, max, count), inverse = 1.0f / sum;
	const float hit = weight * (dlogits[target] * inverse - 1.0f);
	const v16 part = v16_set(inverse), share = v16_set(weight);
	FOR_LANES(count,
		  store(dlogits + i, v16_mul(share, v16_mul(load(dlogits + i, n), part)), n));
	dlogits[target] = hit;
	return ol_logf(sum) - ahead;
}

/* --- dropout ---------------------------------------------------------------------------------- */

void OL_LANES_NAME(ol_dropout)(float *y, const float *x, const struct ol_dropout *key,
			       uint64_t example, uint32_t position, int count)
{
	const uint32_t seed[2] = {(uint32_t)key->seed, (uint32_t)(key->seed >> 32)};
	const uint32_t place[4] = {OL_PURPOSE_DROPOUT, key->step,
				   key->layer << 16 | (key->module & 0xffff), position};
	const float kept = 1.0f / (1.0f - key->rate);
	/* (t + 1/2) 2^-24 < rate, for the 24 bits t, is t < threshold: rate 2^24 is exact. */
	const uint32_t threshold = (uint32_t)ceil((double)key->rate * 0x1p24 - 0.5);
	const v16 zero = v16_set(0.0f);
	uint32_t row[4], word[4][16];
	float factor[64];

	ol_philox(row, place, seed);
	for (int at = 0; at < count; at += 64) {
		const float *from = x + at;
		float *to = y + at;
		philox_16(word, (uint32_t)(at / 4), (uint32_t)example, (uint32_t)(example >> 32),
			  row[2], row);
		for (int b = 0; b < 16; b++)
			for (int w = 0; w < 4; w++)
				factor[4 * b + w] = word[w][b] >> 8 < threshold ? 0.0f : kept;
		/* A dropped x becomes +0 whatever its sign. */
		FOR_LANES(OL_MIN(64, count - at), {
			const v16 f = v16_load(factor + i);
			const v16 scaled = v16_mul(load(from + i, n), f);
			store(to + i, v16_select(v16_less(zero, f), scaled, zero), n);
		});
	}
}

/* --- optimiser -------------------------------------------------------------------------------- */

double OL_LANES_NAME(ol_sum_squares)(const float *x, size_t n)
{
	double lane[16] = {0};
	size_t i = 0;
	for (; i + 16 <= n; i += 16)
		for (size_t l = 0; l < 16; l++)
			lane[l] += (double)x[i + l] * (double)x[i + l];
	for (; i < n; i++)
		lane[i % 16] += (double)x[i] * (double)x[i];
	for (int half = 8; half >= 1; half /= 2)
		for (int l = 0; l < half; l++)
			lane[l] += lane[l + half];
	return lane[0];
}

struct adamw {
	v16 beta1, rest1, beta2, rest2, scale, correction1, correction2, eps, decay, rate;
};

OL_INLINE void adamw_16(float *w, float *m, float *v, const float *g, const struct adamw *s, int n)
{
	const v16 d = v16_mul(load(g, n), s->scale);
	const v16 first = v16_fma(s->beta1, load(m, n), v16_mul(s->rest1, d));
	const v16 second = v16_fma(s->beta2, load(v, n), v16_mul(v16_mul(s->rest2, d), d));
	const v16 size = v16_add(v16_sqrt(v16_div(second, s->correction2)), s->eps);
	const v16 step = v16_div(v16_div(first, s->correction1), size);
	const v16 old = load(w, n);
	store(m, first, n);
	store(v, second, n);
	store(w, v16_fma(s->rate, v16_fma(s->decay, old, step), old), n);
}

void OL_LANES_NAME(ol_adamw)(float *w, float *m, float *v, const float *g, size_t n,
			     const struct ol_adamw *a)
{
	const struct adamw s = {
		.beta1 = v16_set(a->beta1),
		.rest1 = v16_set(1.0f - a->beta1),
		.beta2 = v16_set(a->beta2),
		.rest2 = v16_set(1.0f - a->beta2),
		.scale = v16_set(a->grad_scale),
		.correction1 = v16_set(a->correction1),
		.correction2 = v16_set(a->correction2),
		.eps = v16_set(a->eps),
		.decay = v16_set(a->weight_decay),
		.rate = v16_set(-a->learning_rate),
	};
	size_t i = 0;
	for (; i + 16 <= n; i += 16)
		adamw_16(w + i, m + i, v + i, g + i, &s, 16);
	if (i < n)
		adamw_16(w + i, m + i, v + i, g + i, &s, (int)(n - i));
}
