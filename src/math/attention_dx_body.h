/* math/attention_dx_body.h, floor 1: the backward pass of attention, gradients_scalar.c on sixteen
 * lanes.
 *
 * For one query head and a block of its rows at a time, in tiles of CHAIN_ROWS:
 *     p  = q k^T, ds = dout v^T     lanes are keys; k and v transposed before
 *     p  = softmax, ds = its slope  row by row
 *     dq = ds k                     chains over keys, lanes are elements of the head
 *     dk += ds^T q, dv += p^T dout  chains over rows, tiles of keys
 * What a row does not see takes part in no chain, not even as a zero: keys that all rows of a tile
 * see (rows that all keys of a tile are seen by) are worked on together, the others step by step,
 * with the rows that count. */
#include <math.h>

#include "math/chains_body.h"
#include "math/gradients_internal.h"
#include "math/lanes_functions.h"
#include "math/lanes_transpose.h"

enum { BLOCK = 60 /* rows, a multiple of CHAIN_ROWS */ };

struct attention_work {
	const struct ol_attention *a;
	int T;
	size_t keys;                  /* T rounded up to CHAIN_LANES                        */
	size_t elements;              /* head_dim rounded up to CHAIN_LANES                 */
	float *k_columns, *v_columns; /* [d][keys]                              */
	float *k, *q, *dout;          /* [T][elements]                          */
	float *p, *ds;                /* [BLOCK][keys], row t0 first            */
	float *slope;                 /* [keys]                                 */
	int t0, t1;                   /* rows of the block                      */
};

static size_t rounded_up(int n)
{
	return ((size_t)n + CHAIN_LANES - 1) / CHAIN_LANES * CHAIN_LANES;
}

size_t OL_LANES_NAME(ol_attention_dx_scratch)(const struct ol_attention *a, int T)
{
	const size_t keys = rounded_up(T), elements = rounded_up(a->head_dim);
	return keys * (2 * (size_t)a->head_dim + 2 * BLOCK + 1) + 3 * (size_t)T * elements;
}

static int first_key(const struct attention_work *w, int t)
{
	return w->a->window > 0 ? OL_MAX(0, t - w->a->window + 1) : 0;
}

/* The last row, of all, that sees key j. */
static int last_row(const struct attention_work *w, int j)
{
	return w->a->window > 0 ? OL_MIN(w->T - 1, j + w->a->window - 1) : w->T - 1;
}

/* columns [d][keys] of x [T][d]; zeros past T. */
static void take_columns(float *columns, const float *x, size_t stride,
			 const struct attention_work *w)
{
	for (int t = 0; t < (int)w->keys; t += 16)
		for (int i = 0; i < w->a->head_dim; i += 16)
			transpose_block(columns + (size_t)i * w->keys + t, w->keys,
					x + (size_t)OL_MIN(t, w->T - 1) * stride + i, stride,
					OL_MAX(0, OL_MIN(16, w->T - t)),
					OL_MIN(16, w->a->head_dim - i), 16);
}

/* --- scores ----------------------------------------------------------------------------------- */

/* to [rows of the block][keys] = rows x times columns: at least what the rows see. */
static void products(float *to, const float *x, const float *columns,
		     const struct attention_work *w)
{
	const int rows = w->t1 - w->t0, tiles = chain_tiles(rows);
	struct chains q = {.c_stride = w->keys,
			   .a_row = w->elements,
			   .b_step = w->keys,
			   .groups = 1,
			   .steps = w->a->head_dim,
			   .lanes = CHAIN_LANES};

	for (int tile = 0; tile < tiles; tile++) {
		const int r = chain_tile_start(rows, tiles, tile);
		const int end = chain_tile_start(rows, tiles, tile + 1);
		q.a = x + (size_t)(w->t0 + r) * w->elements;
		for (int j = first_key(w, w->t0 + r) / CHAIN_LANES * CHAIN_LANES; j < w->t0 + end;
		     j += CHAIN_LANES) {
			q.c = to + (size_t)r * w->keys + j;
			q.b = columns + j;
			chains_anyhow[end - r](&q);
		}
	}
}

/* x in the lanes [low,high), -inf in the others. */
OL_INLINE v16 visible_lanes(v16 x, int low, int high)
{
	static const float lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	const v16 lane = v16_load(lanes), absent = v16_set(-INFINITY);
	x = v16_select(v16_less(lane, v16_set((float)high)), x, absent);
	return v16_select(v16_less(lane, v16_set((float)low)), absent, x);
}

/* Row t: scores become probabilities, and products with v the slopes of the scores. */
static void slopes(const struct attention_work *w, int t, const float *out, const float *dout)
{
	const int first = first_key(w, t), begin = first / 16 * 16, d = w->a->head_dim;
	const float softcap = w->a->softcap;
	float *p = w->p + (size_t)(t - w->t0) * w->keys,
	      *ds = w->ds + (size_t)(t - w->t0) * w->keys;
	const v16 scale = v16_set(w->a->scale), cap = v16_set(softcap), one = v16_set(1.0f);
	v16 max = v16_set(-INFINITY), sum = v16_set(0.0f);
	float lane[16] = {0};

	for (int j = begin; j <= t; j += 16) {
		v16 s = v16_mul(v16_load(p + j), scale);
		if (softcap > 0.0f) {
			const v16 y = v16_tanh(v16_div(s, cap));
			v16_store(w->slope + j, v16_fma(v16_sub(v16_set(-0.0f), y), y, one));
			s = v16_mul(cap, y);
		}
		if (j < first || j + 16 > t + 1)
			s = visible_lanes(s, first - j, t + 1 - j);
		max = v16_max(max, s);
		v16_store(p + j, s);
	}
	max = v16_set(v16_tree_max(max));
	for (int j = begin; j <= t; j += 16) {
		const v16 e = v16_exp(v16_sub(v16_load(p + j), max));
		sum = v16_add(sum, e);
		v16_store(p + j, e);
	}
	for (int i = 0; i < d; i++)
		lane[i % 16] = fmaf(dout[i], out[i], lane[i % 16]);
	const v16 inverse = v16_set(1.0f / v16_tree_sum(sum));
	const v16 mean = v16_set(v16_tree_sum(v16_load(lane)));
	for (int j = begin; j <= t; j += 16) {
		const v16 share = v16_mul(v16_load(p + j), inverse);
		v16 s = v16_mul(share, v16_sub(v16_load(ds + j), mean));
		if (softcap > 0.0f)
			s = v16_mul(s, v16_load(w->slope + j));
		v16_store(ds + j, v16_mul(s, scale));
		v16_store(p + j, share);
	}
}

/* --- sums ------------------------------------------------------------------------------------- */

/* All elements of the head of `count` chains that go on from c; q says the rest, its b at element
 * 0. */
static void all_elements(struct chains *q, chains_fn *const *kind, int count, float *c,
			 const float *b, int d)
{
	for (int i = 0; i < d; i += CHAIN_LANES) {
		q->c = c + i;
		q->b = b + i;
		q->lanes = OL_MIN(CHAIN_LANES, d - i);
		kind[count](q);
	}
}

/* dq of rows [ts,te): keys ascending. */
static void sum_keys(const struct attention_work *w, float *dq, size_t stride, int ts, int te)
{
	const int d = w->a->head_dim, last = te - 1;
	const int all0 = first_key(w, last), all1 = ts + 1; /* keys that all see */
	struct chains q = {.c_stride = stride,
			   .a_row = w->keys,
			   .b_step = w->elements,
			   .resume = true,
			   .groups = 1};

	for (int t = ts; t < te; t++)
		memset(dq + (size_t)t * stride, 0, (size_t)d * sizeof *dq);
	for (int j = first_key(w, ts); j < te;) {
		const bool all = j >= all0 && j < all1;
		const int row0 = OL_MAX(ts, j), row1 = OL_MIN(last, last_row(w, j)) + 1;
		const int from = all ? ts : row0, to = all ? te : row1;
		q.steps = all ? all1 - j : 1;
		q.a = w->ds + (size_t)(from - w->t0) * w->keys + j;
		all_elements(&q, chains_anyhow, to - from, dq + (size_t)from * stride,
			     w->k + (size_t)j * w->elements, d);
		j += q.steps;
	}
}

/* dk or dv of keys [js,je): the block's rows ascending. weights: ds or p; x: q or dout. */
static void sum_rows_of(const struct attention_work *w, float *to, size_t stride,
			const float *weights, const float *x, int js, int je)
{
	const int d = w->a->head_dim, last = je - 1;
	const int all0 = last, all1 = last_row(w, js) + 1; /* rows that see all */
	const int end = OL_MIN(w->t1, last_row(w, last) + 1);
	struct chains q = {.c_stride = stride,
			   .a_step = w->keys,
			   .b_step = w->elements,
			   .resume = true,
			   .groups = 1};

	for (int t = OL_MAX(w->t0, js); t < end;) {
		const bool all = t >= all0 && t < all1;
		const int from = all ? js : OL_MAX(js, first_key(w, t));
		const int until = all ? je : OL_MIN(last, t) + 1;
		q.steps = all ? OL_MIN(all1, end) - t : 1;
		q.a = weights + (size_t)(t - w->t0) * w->keys + from;
		all_elements(&q, chains_beside, until - from, to + (size_t)from * stride,
			     x + (size_t)t * w->elements, d);
		t += q.steps;
	}
}

/* --- the whole -------------------------------------------------------------------------------- */

void OL_LANES_NAME(ol_attention_dx)(float *dq, float *dk, float *dv, const float *q, const float *k,
				    const float *v, const float *out, const float *dout,
				    size_t q_stride, size_t kv_stride, const struct ol_attention *a,
				    int T, float *scratch)
{
	const size_t d = (size_t)a->head_dim;
	struct attention_work w = {
		.a = a, .T = T, .keys = rounded_up(T), .elements = rounded_up(a->head_dim)};

	OL_ASSERT(a->kv_type == OL_KV_F32);
	w.k_columns = scratch;
	w.v_columns = w.k_columns + d * w.keys;
	w.p = w.v_columns + d * w.keys;
	w.ds = w.p + BLOCK * w.keys;
	w.slope = w.ds + BLOCK * w.keys;
	w.k = w.slope + w.keys;
	w.q = w.k + (size_t)T * w.elements;
	w.dout = w.q + (size_t)T * w.elements;
	take_columns(w.k_columns, k, kv_stride, &w);
	take_columns(w.v_columns, v, kv_stride, &w);
	copy_rows(w.k, (int)w.elements, k, kv_stride, T, a->head_dim);
	for (int t = 0; t < T; t++) {
		memset(dk + (size_t)t * kv_stride, 0, d * sizeof *dk);
		memset(dv + (size_t)t * kv_stride, 0, d * sizeof *dv);
	}
	for (int g = 0; g < a->group; g++) {
		const size_t head = (size_t)g * d;
		copy_rows(w.q, (int)w.elements, q + head, q_stride, T, a->head_dim);
		copy_rows(w.dout, (int)w.elements, dout + head, q_stride, T, a->head_dim);
		for (w.t0 = 0; w.t0 < T; w.t0 = w.t1) {
			w.t1 = OL_MIN(w.t0 + BLOCK, T);
			products(w.p, w.q, w.k_columns, &w);
			products(w.ds, w.dout, w.v_columns, &w);
			for (int t = w.t0; t < w.t1; t++)
				slopes(&w, t, out + (size_t)t * q_stride + head,
				       dout + (size_t)t * q_stride + head);
			for (int t = w.t0; t < w.t1; t += CHAIN_ROWS)
				sum_keys(&w, dq + head, q_stride, t, OL_MIN(t + CHAIN_ROWS, w.t1));
			for (int j = first_key(&w, w.t0); j < w.t1; j += CHAIN_ROWS) {
				const int end = OL_MIN(j + CHAIN_ROWS, w.t1);
				sum_rows_of(&w, dk, kv_stride, w.ds, w.q, j, end);
				sum_rows_of(&w, dv, kv_stride, w.p, w.dout, j, end);
			}
		}
	}
}
