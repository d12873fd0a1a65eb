/* Attention: every instruction set equals the scalar specification bit for bit, rows together equal
 * rows one by one, what cannot be seen does not matter; and wrong definitions would be noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/functions.h"
#include "math/kernels.h"

enum { D_MAX = 512, POSITIONS = 640, PAGES = POSITIONS / OL_KV_PAGE, HEADS_MAX = 8, ROWS_MAX = 70 };

static const struct ol_kernels *scalar;

static uint64_t random_state = 88172645463325252u;

static uint32_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

static float random_float(void)
{
	return (float)(int32_t)random_bits() * 0x1p-31f;
}

/* One sequence of one kv head: its pages, and the keys and values that were stored in them. K lies
 * at byte 8 of a page and V behind it, so that nothing is aligned by luck. */
struct world {
	struct ol_attention a;
	void *pages[PAGES];
	size_t k_offset, v_offset;
	float *k, *v, *q;
	int positions;
};

static void *must(void *p)
{
	assert_non_null(p);
	return p;
}

static struct world make_world(struct ol_attention a, int positions, const struct ol_kernels *table)
{
	struct world w = {.a = a, .k_offset = 8, .positions = positions};
	const size_t d = (size_t)a.head_dim, element = a.kv_type == OL_KV_BF16 ? 2 : 4;
	const size_t half = d * OL_KV_PAGE * element;
	w.v_offset = w.k_offset + half + element;
	w.k = must(malloc((size_t)positions * d * sizeof(float)));
	w.v = must(malloc((size_t)positions * d * sizeof(float)));
	w.q = must(malloc((size_t)positions * HEADS_MAX * d * sizeof(float)));
	for (size_t i = 0; i < (size_t)positions * d; i++) {
		w.k[i] = random_float();
		w.v[i] = random_bits() % 50 == 0 ? -0.0f : random_float();
	}
	for (size_t i = 0; i < (size_t)positions * HEADS_MAX * d; i++)
		w.q[i] = random_float();
	for (int page = 0; page * OL_KV_PAGE < positions; page++) {
		w.pages[page] = must(malloc(w.v_offset + half));
		/* Garbage of a page's former life: all bits set is NaN in both types. */
		memset(w.pages[page], 0xff, w.v_offset + half);
	}
	for (int t = 0; t < positions; t++)
		table->kv_store((char *)w.pages[t / OL_KV_PAGE] + w.k_offset,
				(char *)w.pages[t / OL_KV_PAGE] + w.v_offset, a.kv_type,
				t % OL_KV_PAGE, w.k + (size_t)t * d, w.v + (size_t)t * d,
				a.head_dim);
	return w;
}

static void free_world(struct world *w)
{
	free(w->k);
	free(w->v);
	free(w->q);
	for (int page = 0; page * OL_KV_PAGE < w->positions; page++)
		free(w->pages[page]);
}

/* Makes everything that rows pos0 .. pos0+rows-1 cannot see NaN, pages that none sees NULL. */
static void spoil(struct world *w, int pos0, int rows)
{
	const size_t d = (size_t)w->a.head_dim;
	const int first = w->a.window > 0 ? OL_MAX(0, pos0 - w->a.window + 1) : 0;
	float nan_row[D_MAX];
	memset(nan_row, 0xff, sizeof nan_row);
	for (int page = 0; page * OL_KV_PAGE < w->positions; page++) {
		if ((page + 1) * OL_KV_PAGE <= first || page * OL_KV_PAGE >= pos0 + rows) {
			free(w->pages[page]);
			w->pages[page] = NULL;
			continue;
		}
		for (int t = page * OL_KV_PAGE; t < (page + 1) * OL_KV_PAGE; t++)
			if (t < first || t >= pos0 + rows)
				scalar->kv_store((char *)w->pages[page] + w->k_offset,
						 (char *)w->pages[page] + w->v_offset, w->a.kv_type,
						 t % OL_KV_PAGE, nan_row, nan_row, (int)d);
	}
}

/* out is rows x group x d, close together. */
static float *attend(const struct ol_kernels *table, const struct world *w, int pos0, int rows)
{
	const size_t d = (size_t)w->a.head_dim, width = (size_t)w->a.group * d;
	const size_t floats = table->attention_scratch(&w->a, pos0, rows);
	float *scratch = must(malloc((floats + 16) * sizeof(float)));
	float *out = must(malloc(((size_t)rows * width + 16) * sizeof(float)));
	memset(scratch, 0xff, (floats + 16) * sizeof(float));
	memset(out, 0xff, ((size_t)rows * width + 16) * sizeof(float));
	table->attention(out, width, w->q + (size_t)pos0 * HEADS_MAX * d, HEADS_MAX * d, &w->a,
			 (const void *const *)w->pages, w->k_offset, w->v_offset, pos0, rows,
			 scratch);
	for (size_t i = 0; i < 16; i++) {
		uint32_t bits[2];
		memcpy(&bits[0], &scratch[floats + i], 4);
		memcpy(&bits[1], &out[(size_t)rows * width + i], 4);
		assert_true(bits[0] == 0xffffffffu && bits[1] == 0xffffffffu);
	}
	free(scratch);
	return out;
}

static void same(const float *expected, const float *got, const struct world *w, int pos0, int rows,
		 const char *what)
{
	const size_t width = (size_t)w->a.group * (size_t)w->a.head_dim;
	for (size_t i = 0; i < (size_t)rows * width; i++)
		if (memcmp(&expected[i], &got[i], sizeof(float)) != 0) {
			print_message("%s: pos0 %d rows %d window %d group %d d %d kv %d softcap "
				      "%g: row %zu element %zu is %a, not %a\n",
				      what, pos0, rows, w->a.window, w->a.group, w->a.head_dim,
				      (int)w->a.kv_type, (double)w->a.softcap, i / width, i % width,
				      (double)got[i], (double)expected[i]);
			fail();
		}
}

/* The scalar rows one by one, then all tables with rows together, after spoiling the unseen. */
static void check(struct ol_attention a, int pos0, int rows)
{
	const int positions = (pos0 + rows + 15) / 16 * 16;
	struct world w = make_world(a, positions, scalar);
	const size_t width = (size_t)a.group * (size_t)a.head_dim;
	float *expected = must(malloc((size_t)rows * width * sizeof(float)));
	for (int r = 0; r < rows; r++) {
		float *row = attend(scalar, &w, pos0 + r, 1);
		memcpy(expected + (size_t)r * width, row, width * sizeof(float));
		free(row);
	}
	spoil(&w, pos0, rows);
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_kernels *table = ol_kernels_for((enum ol_isa)isa);
		if (!table)
			continue;
		float *got = attend(table, &w, pos0, rows);
		same(expected, got, &w, pos0, rows, table->name);
		free(got);
	}
	free(expected);
	free_world(&w);
}

static void test_every_combination_sampled(void **state)
{
	(void)state;
	static const int windows[] = {0, 1, 5, 16, 17, 33}, groups[] = {1, 2, 3, 4, 8};
	static const int dims[] = {1, 8, 15, 16, 24, 64, 80, 128};
	int count = 0;
	for (int pos0 = 0; pos0 <= 40; pos0++)
		for (int rows = 1; rows <= 20; rows++) {
			const struct ol_attention a = {
				.kv_type = (enum ol_kv_type)(random_bits() % OL_KV_TYPES),
				.head_dim = dims[random_bits() % OL_ARRAY_LEN(dims)],
				.group = groups[random_bits() % OL_ARRAY_LEN(groups)],
				.window = windows[random_bits() % OL_ARRAY_LEN(windows)],
				.scale = 0.125f,
				.softcap = random_bits() % 4 == 0 ? 30.0f : 0.0f,
			};
			if ((size_t)a.head_dim * (size_t)a.group * (size_t)rows > 2048 &&
			    random_bits() % 8 != 0)
				continue;
			check(a, pos0, rows);
			count++;
		}
	print_message("%d combinations\n", count);
}

static void test_all_windows_groups_and_types_meet(void **state)
{
	(void)state;
	static const int windows[] = {0, 1, 5, 16, 17, 33}, groups[] = {1, 2, 3, 4, 5, 6, 7, 8};
	for (size_t i = 0; i < OL_ARRAY_LEN(windows); i++)
		for (size_t g = 0; g < OL_ARRAY_LEN(groups); g++)
			for (int type = 0; type < OL_KV_TYPES; type++) {
				struct ol_attention a = {.kv_type = (enum ol_kv_type)type,
							 .head_dim = 24,
							 .group = groups[g],
							 .window = windows[i],
							 .scale = 0.2f};
				check(a, (int)(random_bits() % 41), 1 + (int)(random_bits() % 20));
				a.head_dim = 16 * (1 + (int)(random_bits() % 9));
				check(a, (int)(random_bits() % 41), 1);
			}
}

static void test_every_head_size_and_long_contexts(void **state)
{
	(void)state;
	for (int d = 1; d <= 160; d++)
		check((struct ol_attention){.kv_type = (enum ol_kv_type)(d % 2),
					    .head_dim = d,
					    .group = 1 + d % 3,
					    .scale = 0.1f},
		      d % 23, 1 + d % 9);
	check((struct ol_attention){OL_KV_F32, 512, 2, 0, 0.05f, 0.0f}, 30, 7);
	check((struct ol_attention){OL_KV_BF16, 511, 1, 9, 0.05f, 50.0f}, 30, 7);
	check((struct ol_attention){OL_KV_F32, 64, 3, 0, 0.125f, 0.0f}, 300, 30);
	check((struct ol_attention){OL_KV_BF16, 64, 3, 100, 0.125f, 0.0f}, 250, ROWS_MAX);
	check((struct ol_attention){OL_KV_F32, 80, 4, 0, 0.125f, 0.0f}, POSITIONS - 5, 5);
}

static void test_kv_store_is_the_same_everywhere(void **state)
{
	(void)state;
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_kernels *table = ol_kernels_for((enum ol_isa)isa);
		if (!table)
			continue;
		for (int d = 1; d < 70; d++)
			for (int type = 0; type < OL_KV_TYPES; type++) {
				struct ol_attention a = {.kv_type = (enum ol_kv_type)type,
							 .head_dim = d,
							 .group = 1};
				const uint64_t seed = random_state;
				struct world x = make_world(a, 21, scalar);
				random_state = seed;
				struct world y = make_world(a, 21, table);
				const size_t bytes =
					x.v_offset + (size_t)d * OL_KV_PAGE * (type ? 2 : 4);
				assert_memory_equal(x.pages[0], y.pages[0], bytes);
				assert_memory_equal(x.pages[1], y.pages[1], bytes);
				free_world(&x);
				free_world(&y);
			}
	}
}

/* --- the specification against plain double arithmetic, and mutants --------------------------- */

enum mutant {
	RIGHT,
	MASKED_KEYS_AS_ZERO, /* invisible keys take part with p = 0           */
	ONLINE_SOFTMAX,      /* maxima that move block by block               */
	SUM_AS_CHAIN,        /* no lanes                                      */
	LANES_FROM_WINDOW,   /* lanes counted from the first visible key      */
	SCALED_QUERY,        /* the scale before the chain                    */
	DIVIDED_BEFORE,      /* p / sum inside the value chain                */
	VALUES_BY_PAGE,      /* value chains per page, summed                 */
	UNROUNDED_CACHE      /* bf16 keys and values used before rounding     */
};

/* One query head in the order that `m` says. */
static void mutant_row(float *out, const struct world *w, int t, enum mutant m)
{
	const int d = w->a.head_dim;
	const int first = w->a.window > 0 ? OL_MAX(0, t - w->a.window + 1) : 0;
	const int from = m == MASKED_KEYS_AS_ZERO ? 0 : first;
	const float *q = w->q + (size_t)t * HEADS_MAX * (size_t)d;
	const bool round = w->a.kv_type == OL_KV_BF16 && m != UNROUNDED_CACHE;
	float s[POSITIONS], max = -INFINITY, lane[16] = {0}, chain = 0.0f;

	for (int j = from; j <= t; j++) {
		float c = 0.0f;
		for (int i = 0; i < d; i++) {
			const float k = w->k[j * d + i];
			c = fmaf(m == SCALED_QUERY ? q[i] * w->a.scale : q[i],
				 round ? ol_bf16_to_f32(ol_f32_to_bf16(k)) : k, c);
		}
		s[j] = m == SCALED_QUERY ? c : c * w->a.scale;
		if (j < first)
			s[j] = -INFINITY;
		max = max > s[j] ? max : s[j];
	}
	float running = -INFINITY;
	for (int j = from; j <= t; j++) {
		if (m == ONLINE_SOFTMAX && s[j] > running) {
			const float shrink = ol_expf(running - s[j]);
			for (int l = 0; l < 16; l++)
				lane[l] *= shrink;
			running = s[j];
		}
		const float p = ol_expf(s[j] - (m == ONLINE_SOFTMAX ? running : max));
		lane[(m == LANES_FROM_WINDOW ? j - first : j) % 16] += p;
		chain += p;
		s[j] = ol_expf(s[j] - max);
	}
	for (int half = 8; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	const float sum = m == SUM_AS_CHAIN ? chain : lane[0];
	for (int i = 0; i < d; i++) {
		float o = 0.0f, page = 0.0f;
		for (int j = from; j <= t; j++) {
			float v = w->v[j * d + i];
			v = round ? ol_bf16_to_f32(ol_f32_to_bf16(v)) : v;
			if (m == VALUES_BY_PAGE && j % 16 == 0) {
				o += page;
				page = 0.0f;
			}
			if (m == VALUES_BY_PAGE)
				page = fmaf(s[j], v, page);
			else
				o = fmaf(m == DIVIDED_BEFORE ? s[j] / sum : s[j], v, o);
		}
		o += page;
		out[i] = m == DIVIDED_BEFORE ? o : o / sum;
	}
}

/* Of 70 rows; `infinite`: the values before position 40 are, and only later rows count. */
static int differing_rows(struct ol_attention a, enum mutant m, bool infinite)
{
	enum { TO = 75, POSITIONS_HERE = 80 };
	const int d = a.head_dim;
	struct world w = make_world(a, POSITIONS_HERE, scalar);
	int count = 0;
	for (int j = 0; infinite && j < 40; j++) {
		for (int i = 0; i < d; i++)
			w.v[j * d + i] = INFINITY;
		scalar->kv_store((char *)w.pages[j / OL_KV_PAGE] + w.k_offset,
				 (char *)w.pages[j / OL_KV_PAGE] + w.v_offset, a.kv_type,
				 j % OL_KV_PAGE, w.k + j * d, w.v + j * d, d);
	}
	for (int t = infinite ? 60 : 5; t < TO; t++) {
		float *expected = attend(scalar, &w, t, 1);
		float got[D_MAX];
		mutant_row(got, &w, t, m);
		count += memcmp(expected, got, (size_t)d * sizeof(float)) != 0;
		free(expected);
	}
	free_world(&w);
	return count;
}

static void test_mutants_are_caught(void **state)
{
	(void)state;
	struct row {
		const char *name;
		enum mutant mutant;
		enum ol_kv_type type;
		int window;
		bool infinite;
		bool right;
	};
	static const struct row rows[] = {
		{"as specified, f32", RIGHT, OL_KV_F32, 0, false, true},
		{"as specified, bf16", RIGHT, OL_KV_BF16, 0, false, true},
		{"as specified, window", RIGHT, OL_KV_F32, 21, false, true},
		{"as specified, infinite values out of the window", RIGHT, OL_KV_F32, 11, true,
		 true},
		{"masked keys as zero", MASKED_KEYS_AS_ZERO, OL_KV_F32, 11, true, false},
		{"online softmax", ONLINE_SOFTMAX, OL_KV_F32, 0, false, false},
		{"sum as a chain", SUM_AS_CHAIN, OL_KV_F32, 0, false, false},
		/* The tree joins residues mod 8, 4, 2, 1: turning the lanes changes nothing. */
		{"lanes from the window's start", LANES_FROM_WINDOW, OL_KV_F32, 21, false, true},
		{"scaled query", SCALED_QUERY, OL_KV_F32, 0, false, false},
		{"divided before", DIVIDED_BEFORE, OL_KV_F32, 0, false, false},
		{"values by page", VALUES_BY_PAGE, OL_KV_F32, 0, false, false},
		{"unrounded cache", UNROUNDED_CACHE, OL_KV_BF16, 0, false, false},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_attention a = {.kv_type = rows[i].type,
					       .head_dim = 24,
					       .group = 1,
					       .window = rows[i].window,
					       .scale = 0.3f};
		const int count = differing_rows(a, rows[i].mutant, rows[i].infinite);
		if ((count == 0) != rows[i].right) {
			print_message("%s: %d rows differ\n", rows[i].name, count);
			fail();
		}
	}
}

/* The numbers mean what the formula says: within 1e-5 of the same in double. */
static void test_attention_is_softmax_of_qk_times_v(void **state)
{
	(void)state;
	const struct ol_attention a = {OL_KV_F32, 40, 1, 30, 0.4f, 2.0f};
	struct world w = make_world(a, 64, scalar);
	for (int t = 0; t < 60; t++) {
		double p[64], sum = 0.0;
		const int first = OL_MAX(0, t - 29);
		for (int j = first; j <= t; j++) {
			double s = 0.0;
			for (int i = 0; i < 40; i++)
				s += (double)w.q[(size_t)t * HEADS_MAX * 40 + (size_t)i] *
				     (double)w.k[j * 40 + i];
			p[j] = exp(2.0 * tanh(s * 0.4 / 2.0));
			sum += p[j];
		}
		float *out = attend(scalar, &w, t, 1);
		for (int i = 0; i < 40; i++) {
			double o = 0.0;
			for (int j = first; j <= t; j++)
				o += p[j] / sum * (double)w.v[j * 40 + i];
			assert_true(fabs(o - (double)out[i]) < 1e-5);
		}
		free(out);
	}
	free_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attention_is_softmax_of_qk_times_v),
		cmocka_unit_test(test_every_combination_sampled),
		cmocka_unit_test(test_all_windows_groups_and_types_meet),
		cmocka_unit_test(test_every_head_size_and_long_contexts),
		cmocka_unit_test(test_kv_store_is_the_same_everywhere),
		cmocka_unit_test(test_mutants_are_caught),
	};
	scalar = ol_kernels_for(OL_ISA_SCALAR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
