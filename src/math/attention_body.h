/* math/attention_body.h, floor 1: attention_scalar.c on sixteen lanes, for every instruction set.
 *
 * A tile is up to TILE query heads of the group, of one or several consecutive rows. It passes over
 * the keys three times: scores (lanes = the keys of a page), exponentials and their sums (lanes =
 * key position mod 16), values (lanes = elements of the head). Scores of keys that a row cannot see
 * become -inf, hence exponentials of +0 that change neither maximum nor sum; values they never
 * touch: keys that every row of the tile sees are worked on together, the others row by row, in
 * ascending order all the same. The including file defines
 *     TILE           query heads of a tile
 *     PAGES(R)       pages beside each other in the scores of R query heads
 *     VALUE_ROWS     query heads beside each other in the values
 *     VECTORS(R)     vectors of sixteen elements beside R of them */
#include <math.h>

#include "math/bf16_round.h"
#include "math/kernels_internal.h"
#include "math/lanes_functions.h"

enum {
	LANES = OL_KV_PAGE,
	CHUNK = 64 /* keys whose values stay in the first cache while the tile's rows pass */
};

struct tile {
	const struct ol_attention *a;
	const void *const *pages;
	size_t k_offset, v_offset;
	int count;                   /* query heads                                     */
	int first[TILE], last[TILE]; /* keys that each sees                             */
	float *out[TILE];
	int page0, page1;     /* pages that any sees: [page0,page1)                     */
	int common0, common1; /* keys that all see: [common0,common1)                   */
	float *queries;       /* [d][count]                                             */
	float *scores;        /* [page1 - page0][count][16]                             */
};

/* --- scores ----------------------------------------------------------------------------------- */

OL_INLINE v16 load_kv(const void *p, size_t index, bool bf16)
{
	return bf16 ? v16_from_bf16((const uint16_t *)p + index)
		    : v16_load((const float *)p + index);
}

/* The scores of R query heads against P pages from `page` on. */
OL_INLINE void dots(const struct tile *t, int page, int R, int P, bool bf16)
{
	v16 c[TILE][4];
	const void *k[4];
	const float *q = t->queries;
	const int d = t->a->head_dim;

	OL_UNROLL
	for (int p = 0; p < P; p++)
		k[p] = (const char *)t->pages[page + p] + t->k_offset;
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		OL_UNROLL
		for (int p = 0; p < P; p++)
			c[r][p] = v16_set(0.0f);
	}
	for (int i = 0; i < d; i++, q += R) {
		v16 keys[4];
		OL_UNROLL
		for (int p = 0; p < P; p++)
			keys[p] = load_kv(k[p], (size_t)i * LANES, bf16);
		OL_UNROLL
		for (int r = 0; r < R; r++) {
			const v16 x = v16_set(q[r]);
			OL_UNROLL
			for (int p = 0; p < P; p++)
				c[r][p] = v16_fma(x, keys[p], c[r][p]);
		}
	}
	const v16 scale = v16_set(t->a->scale);
	float *s = t->scores + (size_t)(page - t->page0) * (size_t)R * LANES;
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		OL_UNROLL
		for (int p = 0; p < P; p++)
			v16_store(s + (p * R + r) * LANES, v16_mul(c[r][p], scale));
	}
}

OL_INLINE void dots_of_all_pages(const struct tile *t, int R, bool bf16)
{
	int page = t->page0;
	for (; page + PAGES(R) <= t->page1; page += PAGES(R))
		dots(t, page, R, PAGES(R), bf16);
	for (; page < t->page1; page++)
		dots(t, page, R, 1, bf16);
}

#define DOTS(R)                                                                                    \
	static void dots_##R(const struct tile *t)                                                 \
	{                                                                                          \
		if (t->a->kv_type == OL_KV_BF16)                                                   \
			dots_of_all_pages(t, R, true);                                             \
		else                                                                               \
			dots_of_all_pages(t, R, false);                                            \
	}

DOTS(1)
DOTS(2)
DOTS(3)
DOTS(4)
DOTS(5)
DOTS(6)
#if TILE > 6
DOTS(7)
DOTS(8)
DOTS(9)
DOTS(10)
DOTS(11)
DOTS(12)
#endif

static void (*const dots_of[TILE + 1])(const struct tile *t) = {
	NULL,   dots_1, dots_2, dots_3,  dots_4,  dots_5,  dots_6,
#if TILE > 6
	dots_7, dots_8, dots_9, dots_10, dots_11, dots_12,
#endif
};

/* --- exponentials ----------------------------------------------------------------------------- */

/* x in the lanes [low,high), -inf in the others. */
OL_INLINE v16 visible_lanes(v16 x, int low, int high)
{
	static const float lanes[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	const v16 lane = v16_load(lanes), absent = v16_set(-INFINITY);
	x = v16_select(v16_less(lane, v16_set((float)high)), x, absent);
	return v16_select(v16_less(lane, v16_set((float)low)), absent, x);
}

/* Turns the scores of query head r into exponentials and returns their sum. */
static float exponentials(const struct tile *t, int r)
{
	const size_t stride = (size_t)t->count * LANES;
	float *const scores = t->scores + (size_t)r * LANES;
	const float softcap = t->a->softcap;
	float *s = scores;
	v16 max = v16_set(-INFINITY), sum = v16_set(0.0f);

	for (int page = t->page0; page < t->page1; page++, s += stride) {
		const int low = t->first[r] - page * LANES, high = t->last[r] + 1 - page * LANES;
		v16 x = v16_load(s);
		if (softcap > 0.0f) {
			const v16 cap = v16_set(softcap);
			x = v16_mul(cap, v16_tanh(v16_div(x, cap)));
		}
		if (low > 0 || high < LANES)
			x = visible_lanes(x, low, high);
		if (softcap > 0.0f || low > 0 || high < LANES)
			v16_store(s, x);
		max = v16_max(max, x);
	}
	max = v16_set(v16_tree_max(max));
	s = scores;
	for (int page = t->page0; page < t->page1; page++, s += stride) {
		const v16 p = v16_exp(v16_sub(v16_load(s), max));
		sum = v16_add(sum, p);
		v16_store(s, p);
	}
	return v16_tree_sum(sum);
}

/* --- values ----------------------------------------------------------------------------------- */

/* Query heads r0 .. r0+R-1, elements from `element` on, keys [key0,key1) of their chains. */
struct weighing {
	const struct tile *t;
	int r0, element, part, key0, key1;
};

/* R query heads, V vectors of elements; `whole`, or the first `part` elements of one vector. */
OL_INLINE void weigh(const struct weighing *w, int R, int V, bool whole, bool bf16)
{
	const struct tile *t = w->t;
	const size_t d = (size_t)t->a->head_dim;
	const size_t element = (size_t)w->element;
	v16 c[VALUE_ROWS][4];

	OL_UNROLL
	for (int r = 0; r < R; r++) {
		const float *o = t->out[w->r0 + r] + element;
		OL_UNROLL
		for (int v = 0; v < V; v++)
			c[r][v] = whole ? v16_load(o + 16 * v) : v16_load_part(o, w->part);
	}
	for (int key = w->key0; key < w->key1;) {
		const int page = key / LANES;
		const int end = OL_MIN(w->key1, (page + 1) * LANES);
		const void *values = (const char *)t->pages[page] + t->v_offset;
		const float *p =
			t->scores +
			((size_t)(page - t->page0) * (size_t)t->count + (size_t)w->r0) * LANES;
		for (; key < end; key++) {
			const size_t lane = (size_t)(key % LANES), at = lane * d + element;
			v16 x[4];
			OL_UNROLL
			for (int v = 0; v < V; v++) {
				if (whole)
					x[v] = load_kv(values, at + (size_t)(16 * v), bf16);
				else if (bf16)
					x[v] = v16_from_bf16_part((const uint16_t *)values + at,
								  w->part);
				else
					x[v] = v16_load_part((const float *)values + at, w->part);
			}
			OL_UNROLL
			for (int r = 0; r < R; r++) {
				const v16 weight = v16_set(p[(size_t)(r * LANES) + lane]);
				OL_UNROLL
				for (int v = 0; v < V; v++)
					c[r][v] = v16_fma(weight, x[v], c[r][v]);
			}
		}
	}
	OL_UNROLL
	for (int r = 0; r < R; r++) {
		float *o = t->out[w->r0 + r] + element;
		OL_UNROLL
		for (int v = 0; v < V; v++) {
			if (whole)
				v16_store(o + 16 * v, c[r][v]);
			else
				v16_store_part(o, c[r][v], w->part);
		}
	}
}

/* All elements, VECTORS(R) vectors at a time as evenly as they divide. */
OL_INLINE void weigh_all(struct weighing *w, int R, bool bf16)
{
	const int vectors = w->t->a->head_dim / 16;
	const int blocks = (vectors + VECTORS(R) - 1) / VECTORS(R);

	for (int b = 0; b < blocks; b++) {
		const int v = vectors * b / blocks;
		w->element = 16 * v;
		switch (vectors * (b + 1) / blocks - v) {
		case 1: weigh(w, R, 1, true, bf16); break;
#define AT_LEAST(V)                                                                                \
	case V:                                                                                    \
		if (V <= VECTORS(R))                                                               \
			weigh(w, R, V, true, bf16);                                                \
		break;
			AT_LEAST(2)
			AT_LEAST(3)
			AT_LEAST(4)
#undef AT_LEAST
		}
	}
	w->element = 16 * vectors;
	w->part = w->t->a->head_dim - w->element;
	if (w->part > 0)
		weigh(w, R, 1, false, bf16);
}

#define WEIGH(R)                                                                                   \
	static void weigh_##R(struct weighing *w)                                                  \
	{                                                                                          \
		if (w->t->a->kv_type == OL_KV_BF16)                                                \
			weigh_all(w, R, true);                                                     \
		else                                                                               \
			weigh_all(w, R, false);                                                    \
	}

WEIGH(1)
WEIGH(2)
WEIGH(3)
WEIGH(4)
WEIGH(5)
WEIGH(6)

static void (*const weigh_of[VALUE_ROWS + 1])(struct weighing *w) = {
	NULL, weigh_1, weigh_2, weigh_3, weigh_4, weigh_5, weigh_6};

/* Query heads r0 .. r0+count-1, keys [key0,key1). */
static void weigh_keys(const struct tile *t, int r0, int count, int key0, int key1)
{
	struct weighing w = {.t = t, .r0 = r0, .key0 = key0, .key1 = key1};
	if (key0 < key1)
		weigh_of[count](&w);
}

static void values(const struct tile *t)
{
	const int groups = (t->count + VALUE_ROWS - 1) / VALUE_ROWS;

	for (int r = 0; r < t->count; r++)
		weigh_keys(t, r, 1, t->first[r], t->common0);
	for (int key = t->common0; key < t->common1;) {
		const int end = OL_MIN(t->common1, (key / CHUNK + 1) * CHUNK);
		for (int g = 0; g < groups; g++) {
			const int r0 = t->count * g / groups;
			weigh_keys(t, r0, t->count * (g + 1) / groups - r0, key, end);
		}
		key = end;
	}
	for (int r = 0; r < t->count; r++)
		weigh_keys(t, r, 1, OL_MAX(t->first[r], t->common1), t->last[r] + 1);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void attend(const struct tile *t)
{
	const int d = t->a->head_dim;
	float sums[TILE];

	dots_of[t->count](t);
	for (int r = 0; r < t->count; r++)
		sums[r] = exponentials(t, r);
	for (int r = 0; r < t->count; r++)
		memset(t->out[r], 0, (size_t)d * sizeof(float));
	values(t);
	for (int r = 0; r < t->count; r++) {
		const v16 sum = v16_set(sums[r]);
		int i = 0;
		for (; i + 16 <= d; i += 16)
			v16_store(t->out[r] + i, v16_div(v16_load(t->out[r] + i), sum));
		if (i < d)
			v16_store_part(t->out[r] + i,
				       v16_div(v16_load_part(t->out[r] + i, d - i), sum), d - i);
	}
}

size_t OL_LANES_NAME(ol_attention_scratch)(const struct ol_attention *a, int pos0, int rows)
{
	const size_t pages = ((size_t)pos0 + (size_t)rows + LANES - 1) / LANES;
	return (size_t)TILE * (pages * LANES + (size_t)a->head_dim);
}

void OL_LANES_NAME(ol_attention)(float *out, size_t out_stride, const float *q, size_t q_stride,
				 const struct ol_attention *a, const void *const *pages,
				 size_t k_offset, size_t v_offset, int pos0, int rows,
				 float *scratch)
{
	const int all = rows * a->group;
	const int tiles = (all + TILE - 1) / TILE;
	const size_t d = (size_t)a->head_dim;
	struct tile t = {.a = a, .pages = pages, .k_offset = k_offset, .v_offset = v_offset};

	t.queries = scratch;
	t.scores = scratch + (size_t)TILE * d;
	for (int i = 0; i < tiles; i++) {
		const int head0 = (int)((int64_t)all * i / tiles);
		t.count = (int)((int64_t)all * (i + 1) / tiles) - head0;
		for (int r = 0; r < t.count; r++) {
			const int row = (head0 + r) / a->group, head = (head0 + r) % a->group;
			const float *from = q + (size_t)row * q_stride + (size_t)head * d;
			t.out[r] = out + (size_t)row * out_stride + (size_t)head * d;
			t.last[r] = pos0 + row;
			t.first[r] = a->window > 0 ? OL_MAX(0, t.last[r] - a->window + 1) : 0;
			for (size_t k = 0; k < d; k++)
				t.queries[k * (size_t)t.count + (size_t)r] = from[k];
		}
		t.page0 = t.first[0] / LANES;
		t.page1 = t.last[t.count - 1] / LANES + 1;
		t.common0 = t.first[t.count - 1];
		t.common1 = t.last[0] + 1;
		if (t.common0 >= t.common1) /* a window so short that rows share no key */
			t.common0 = t.common1 = t.first[0];
		attend(&t);
	}
}

void OL_LANES_NAME(ol_kv_store)(void *page_k, void *page_v, enum ol_kv_type type, int lane,
				const float *k, const float *v, int d)
{
	if (type == OL_KV_BF16) {
		uint16_t *keys = (uint16_t *)page_k + lane;
		uint16_t *to = (uint16_t *)page_v + (size_t)lane * (size_t)d;
		for (int i = 0; i < d; i++) {
			keys[i * LANES] = (uint16_t)(ol_bf16_round_bits(k[i]) >> 16);
			to[i] = (uint16_t)(ol_bf16_round_bits(v[i]) >> 16);
		}
		return;
	}
	float *keys = (float *)page_k + lane;
	for (int i = 0; i < d; i++)
		keys[i * LANES] = k[i];
	memcpy((float *)page_v + (size_t)lane * (size_t)d, v, (size_t)d * sizeof *v);
}
