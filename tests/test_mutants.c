/* The tests of "same bits" can fail. Each row is a kernel as an engine in a hurry would write it:
 * the sum cut in two, the softmax in moving blocks, a sum per thread. It runs in a copy of the
 * scalar table, and the row says which comparison sees it. The honest rows are the same code
 * without the shortcut: independent, naive kernels that must equal the specification to the bit. */
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TOKENS = 43, WIDTH_MAX = 256, LANES = 16 };

enum shortcut {
	HONEST,
	SPLIT_K,               /* two half sums, then their sum                               */
	SPLIT_K_IN_BATCHES,    /* the same, but only when there is more than one row           */
	SUM_PER_THREAD,        /* as many partial sums as there are panels in a thread's piece  */
	ONLINE_SOFTMAX,        /* running maximum, blocks of 8 keys counted from the chunk      */
	ONE_SUM_WHEN_DECODING, /* the sum of exponentials in one chain for a single row        */
	FRESH_KEYS_APART,      /* values of this chunk in a sum of their own                   */
	STALE_KEYS             /* the maximum taken over whole pages                           */
};

/* Set before an engine runs; kernels have no context of their own. */
static enum shortcut shortcut;

/* ---- Naive matmuls ------------------------------------------------------------ */

static size_t naive_act_bytes(enum ol_weight_type type, int M, int K)
{
	(void)type;
	return (size_t)M * (size_t)K * sizeof(float);
}

static void naive_act_prepare(void *act, enum ol_weight_type type, const float *x, size_t x_stride,
			      int M, int K, int row0, int row1)
{
	(void)type;
	(void)M;
	for (int m = row0; m < row1; m++)
		memcpy((float *)act + (size_t)m * (size_t)K, x + (size_t)m * x_stride,
		       (size_t)K * sizeof *x);
}

static float chain(const float *x, const float *w, int from, int to)
{
	float c = 0.0f;
	for (int k = from; k < to; k++)
		c = fmaf(x[k], w[k], c);
	return c;
}

static float int8_chain(const float *x, const uint8_t *row, int from, int to, int K)
{
	float c = 0.0f;
	for (int b = from; b < to; b++) {
		const uint8_t *block = row + (size_t)b * 34;
		const int n = OL_MIN(OL_BLOCK, K - b * OL_BLOCK);
		float most = 0.0f;
		int32_t sum = 0;
		for (int i = 0; i < n; i++)
			most = fmaxf(most, fabsf(x[b * OL_BLOCK + i]));
		if (most < 0x1p-100f)
			continue;
		for (int i = 0; i < n; i++)
			sum += (int32_t)rintf(x[b * OL_BLOCK + i] * (127.0f / most)) *
			       (int8_t)block[2 + i];
		c = fmaf((float)sum,
			 (most / 127.0f) * ol_f16_to_f32((uint16_t)(block[0] | block[1] << 8)), c);
	}
	return c;
}

static int parts_of(int M, int panels)
{
	if (shortcut == SPLIT_K || (shortcut == SPLIT_K_IN_BATCHES && M > 1))
		return 2;
	return shortcut == SUM_PER_THREAD ? panels : 1;
}

static float naive_output(const float *x, const struct ol_matrix *w, int output, int parts)
{
	const int n = w->type == OL_WEIGHT_Q8 ? (w->cols + OL_BLOCK - 1) / OL_BLOCK : w->cols;
	float weights[WIDTH_MAX], sum = 0.0f;
	uint8_t row[WIDTH_MAX / OL_BLOCK * 34];
	assert_true(w->cols <= WIDTH_MAX);
	if (w->type == OL_WEIGHT_Q8)
		ol_unpack_rows(row, w, output, 1);
	else
		ol_matrix_row(weights, w, output);
	for (int p = 0; p < parts; p++) {
		const int from = n * p / parts, to = n * (p + 1) / parts;
		const float part = w->type == OL_WEIGHT_Q8 ? int8_chain(x, row, from, to, w->cols)
							   : chain(x, weights, from, to);
		sum = p == 0 ? part : sum + part;
	}
	return sum;
}

static void naive_matmul(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			 int M, int panel0, int panel1)
{
	const int last = OL_MIN(panel1 * OL_PANEL, w->rows);
	for (int m = 0; m < M; m++)
		for (int o = panel0 * OL_PANEL; o < last; o++)
			y[(size_t)m * y_stride + (size_t)o] =
				naive_output((const float *)act + (size_t)m * (size_t)w->cols, w, o,
					     parts_of(M, panel1 - panel0));
}

/* ---- Naive attention ------------------------------------------------------------ */

struct view {
	const struct ol_attention *a;
	const void *const *pages;
	size_t k_offset, v_offset;
	int pos0, rows;
};

static const float *value_of(const struct view *v, int position)
{
	const uint8_t *page = v->pages[position / LANES];
	return (const float *)(const void *)(page + v->v_offset) +
	       (size_t)(position % LANES) * (size_t)v->a->head_dim;
}

static float score_of(const struct view *v, const float *q, int position)
{
	const uint8_t *page = v->pages[position / LANES];
	const float *keys = (const float *)(const void *)(page + v->k_offset);
	float c = 0.0f;
	for (int i = 0; i < v->a->head_dim; i++)
		c = fmaf(q[i], keys[i * LANES + position % LANES], c);
	return c * v->a->scale;
}

static float exponential(float x)
{
	float y;
	ol_kernels_for(OL_ISA_SCALAR)->exp(&y, &x, 1);
	return y;
}

/* Blocks of 8 keys; what was summed under an older maximum is scaled down. */
static void attend_online(float *out, const struct view *v, const float *q, int first, int t)
{
	float most = -INFINITY, sum = 0.0f;
	memset(out, 0, (size_t)v->a->head_dim * sizeof *out);
	for (int j = first; j <= t;) {
		const int end = OL_MIN(t + 1, j + 8 - (j - v->pos0 % 8 + 8) % 8);
		float higher = most;
		for (int i = j; i < end; i++)
			higher = fmaxf(higher, score_of(v, q, i));
		const float shrink = exponential(most - higher);
		sum *= shrink;
		for (int i = 0; i < v->a->head_dim; i++)
			out[i] *= shrink;
		for (; j < end; j++) {
			const float p = exponential(score_of(v, q, j) - higher);
			sum += p;
			for (int i = 0; i < v->a->head_dim; i++)
				out[i] = fmaf(p, value_of(v, j)[i], out[i]);
		}
		most = higher;
	}
	for (int i = 0; i < v->a->head_dim; i++)
		out[i] /= sum;
}

static float sum_of_lanes(float lane[LANES])
{
	for (int half = LANES / 2; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

static void attend(float *out, const struct view *v, const float *q, int t, float *p)
{
	const int first = v->a->window > 0 ? OL_MAX(0, t - v->a->window + 1) : 0;
	const int seen = shortcut == STALE_KEYS ? t / LANES * LANES + LANES - 1 : t;
	const int fresh = shortcut == FRESH_KEYS_APART ? OL_MAX(v->pos0, first) : first;
	float most = -INFINITY, lane[LANES] = {0};
	if (shortcut == ONLINE_SOFTMAX) {
		attend_online(out, v, q, first, t);
		return;
	}
	for (int j = first; j <= seen; j++)
		most = fmaxf(most, score_of(v, q, j));
	for (int j = first; j <= t; j++) {
		p[j] = exponential(score_of(v, q, j) - most);
		lane[shortcut == ONE_SUM_WHEN_DECODING && v->rows == 1 ? 0 : j % LANES] += p[j];
	}
	const float sum = sum_of_lanes(lane);
	for (int i = 0; i < v->a->head_dim; i++) {
		float old = 0.0f, new = 0.0f;
		for (int j = first; j < fresh; j++)
			old = fmaf(p[j], value_of(v, j)[i], old);
		for (int j = fresh; j <= t; j++)
			new = fmaf(p[j], value_of(v, j)[i], new);
		out[i] = (fresh > first ? old + new : new) / sum;
	}
}

static void naive_attention(float *out, size_t out_stride, const float *q, size_t q_stride,
			    const struct ol_attention *a, const void *const *pages, size_t k_offset,
			    size_t v_offset, int pos0, int rows, float *scratch)
{
	const struct view v = {a, pages, k_offset, v_offset, pos0, rows};
	for (int r = 0; r < rows; r++)
		for (int g = 0; g < a->group; g++)
			attend(out + (size_t)r * out_stride + (size_t)(g * a->head_dim), &v,
			       q + (size_t)r * q_stride + (size_t)(g * a->head_dim), pos0 + r,
			       scratch);
}

/* ---- The rows ------------------------------------------------------------ */

enum part { MATMUL, ATTENTION };

/* Which comparison sees the shortcut: the scalar kernels' tokens one by one against its own, its
 * own one by one against its own prefill, its prefill on one thread against four. */
struct row {
	const char *name;
	enum shortcut shortcut;
	enum part part;
	enum ol_weight_type weights;
	bool by_specification, by_prefill, by_threads;
};

static const struct row rows[] = {
	{"naive f32 matmul", HONEST, MATMUL, OL_WEIGHT_F32, false, false, false},
	{"naive q8 matmul", HONEST, MATMUL, OL_WEIGHT_Q8, false, false, false},
	{"naive attention", HONEST, ATTENTION, OL_WEIGHT_F32, false, false, false},
	{"f32, split k", SPLIT_K, MATMUL, OL_WEIGHT_F32, true, false, false},
	{"q8, split k", SPLIT_K, MATMUL, OL_WEIGHT_Q8, true, false, false},
	{"f32, split k in batches", SPLIT_K_IN_BATCHES, MATMUL, OL_WEIGHT_F32, false, true, false},
	{"q8, split k in batches", SPLIT_K_IN_BATCHES, MATMUL, OL_WEIGHT_Q8, false, true, false},
	{"f32, a sum per thread", SUM_PER_THREAD, MATMUL, OL_WEIGHT_F32, true, true, true},
	{"online softmax", ONLINE_SOFTMAX, ATTENTION, OL_WEIGHT_F32, true, true, false},
	{"decoding sums otherwise", ONE_SUM_WHEN_DECODING, ATTENTION, OL_WEIGHT_F32, true, true,
	 false},
	{"fresh keys apart", FRESH_KEYS_APART, ATTENTION, OL_WEIGHT_F32, true, true, false},
	{"stale keys", STALE_KEYS, ATTENTION, OL_WEIGHT_F32, true, true, false},
};

static void run(struct ol_timeline *t, const struct ol_model *model,
		const struct ol_kernels *kernels, int threads, ol_way_fn *way, float *logits)
{
	struct ol_engine *engine =
		ol_engine_for_test(model, kernels, threads, OL_KV_F32, 2 * TOKENS);
	struct ol_session *before = NULL;
	/* Pages are soiled first: what was there before must not be seen. */
	ol_must(ol_session_open(&before, engine), NULL);
	ol_feed(engine, before, t->tokens + 1, t->count - 1, NULL);
	ol_session_close(before);
	way(engine, t, NULL, logits);
	ol_engine_close(engine);
}

static bool check_row(const struct row *row, const struct ol_model *model)
{
	const struct ol_kernels *scalar = ol_kernels_for(OL_ISA_SCALAR);
	struct ol_kernels table = *scalar;
	struct ol_timeline t;
	ol_timeline_init(&t, model, TOKENS, 77);
	const size_t size = (size_t)t.count * (size_t)t.vocab * sizeof(float);
	float *other = malloc(size);
	assert_non_null(other);
	if (row->part == MATMUL) {
		table.act_tile = 1;
		table.act_bytes = naive_act_bytes;
		table.act_prepare = naive_act_prepare;
		table.matmul = naive_matmul;
	} else {
		table.attention = naive_attention;
	}
	shortcut = row->shortcut;

	run(&t, model, scalar, 1, ol_way_decode, t.logits);
	run(&t, model, &table, 1, ol_way_decode, other);
	const bool specification = ol_first_difference(&t, other) >= 0;
	memcpy(t.logits, other, size);
	run(&t, model, &table, 1, ol_way_prefill, other);
	const bool prefill = ol_first_difference(&t, other) >= 0;
	memcpy(t.logits, other, size);
	run(&t, model, &table, 4, ol_way_prefill, other);
	const bool threads = ol_first_difference(&t, other) >= 0;

	const bool as_written = specification == row->by_specification &&
				prefill == row->by_prefill && threads == row->by_threads;
	if (!as_written)
		print_error("%s: specification %s, prefill %s, threads %s\n", row->name,
			    specification ? "differs" : "equal", prefill ? "differs" : "equal",
			    threads ? "differs" : "equal");
	free(other);
	ol_timeline_release(&t);
	return as_written;
}

static void every_shortcut_is_seen(void **state)
{
	struct ol_config config = ol_shapes[2].config;
	int wrong = 0;
	(void)state;
	config.vocab_size = 1030; /* panels enough for threads to have pieces of different sizes */
	config.layers = 1;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_model *model = NULL;
		struct ol_error err;
		ol_must(ol_model_random(&model, &config, rows[i].weights, 4, &err), &err);
		wrong += !check_row(&rows[i], model);
		ol_model_close(model);
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_shortcut_is_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
