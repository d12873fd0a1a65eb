/* The index file: what is written is read again, and nothing else is read. With
 * OPENLEDGER_KEEP_INDEX=FILE the small index is kept: the fuzzer's corpus was made so. */
#define _XOPEN_SOURCE 700 /* mkstemp */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "attrib/index_internal.h"
#include "base/file.h"
#include "math/functions.h"

enum { EXAMPLES = 5, PAYEES = 3, VOCAB = 50 };

static char path[] = "/tmp/openledger-index-XXXXXX";
static const char *const ids[EXAMPLES] = {"a", "b", "c", "d", "e"};
static const char *const givers[EXAMPLES] = {"Ada", "Bob", "Ada", "Cyd", "Bob"};
static const uint32_t begin[] = {0, 6, 14};

struct world {
	struct ol_index_content content;
	struct ol_index_part parts[2];
	float factors[64];
	struct ol_index_payee payees[PAYEES];
	struct ol_index_example examples[EXAMPLES];
	struct ol_span_build spans;
	int32_t tokens[EXAMPLES][8];
	uint8_t *rows, *payee_rows, sketches[EXAMPLES][OL_SKETCH_BYTES];
};

static float random_number(uint32_t i)
{
	const uint32_t counter[4] = {i, 0, 3, 0}, key[2] = {8, 9};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return (float)(2.0 * ol_unit_double(out[0]) - 1.0);
}

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, OL_PAYEE_BYTES);
}

static void make_people(struct world *w)
{
	static const char *const names[PAYEES] = {"Ada", "Bob", "Cyd"};
	for (int i = 0; i < PAYEES; i++) {
		ol_payee_id(w->payees[i].id, names[i]);
		w->payees[i].name = names[i];
	}
	qsort(w->payees, PAYEES, sizeof w->payees[0], by_id);
	for (uint32_t i = 0; i < EXAMPLES; i++) {
		uint32_t payee = 0;
		while (strcmp(w->payees[payee].name, givers[i]) != 0)
			payee++;
		/* e says what c said */
		w->examples[i] = (struct ol_index_example){ids[i], payee, i == 4 ? 2 : i,
							   8,      3,     i == 1 ? 0.5f : 1.0f};
		w->payees[payee].examples++;
		w->payees[payee].clusters += i != 4;
	}
}

static void make_rows(struct world *w)
{
	const struct ol_row_layout *layout = &w->content.layout;
	const size_t stride = ol_row_bytes(layout);
	struct ol_sketch_plan plan;
	assert_true(ol_sketch_plan_init(&plan, layout->values));
	w->rows = aligned_alloc(64, EXAMPLES * stride);
	w->payee_rows = aligned_alloc(64, PAYEES * stride);
	w->content.example_rows = w->rows;
	w->content.payee_rows = w->payee_rows;
	for (uint32_t i = 0; i < EXAMPLES; i++) {
		float x[14];
		for (uint32_t v = 0; v < 14; v++)
			x[v] = random_number(100 * i + v);
		assert_true(ol_row_quantize(layout, w->rows + i * stride, x));
		ol_sketch_make(&plan, layout, w->sketches[i], w->rows + i * stride);
	}
	for (uint32_t i = 0; i < PAYEES; i++)
		assert_true(ol_index_payee_row(&w->content, i, w->payee_rows + i * stride));
	ol_sketch_plan_release(&plan);
}

static void open_world(struct world *w)
{
	struct ol_span_text texts[EXAMPLES];
	memset(w, 0, sizeof *w);
	for (uint32_t i = 0; i < 64; i++)
		w->factors[i] = random_number(5000 + i);
	const float *f = w->factors;
	w->parts[0] = (struct ol_index_part){0, 3, 5, 2, 3, 2.0f, f, f + 15, f + 19};
	w->parts[1] = (struct ol_index_part){2, 1, 4, 2, 4, 2.0f, f + 25, f + 41, f + 45};
	for (int i = 0; i < EXAMPLES; i++) {
		texts[i] = (struct ol_span_text){w->tokens[i], 8};
		for (int t = 0; t < 8; t++)
			w->tokens[i][t] = (i == 4 ? 2 : i) * 7 + t;
	}
	assert_int_equal(ol_span_corpus_build(&w->spans, texts, EXAMPLES, VOCAB, NULL), OL_OK);
	make_people(w);
	w->content = (struct ol_index_content){.settings = {.seed = 7,
							    .damping = 0.1,
							    .draws = 2,
							    .curvature_max = 9,
							    .row_bytes = 2048,
							    .targets = 10,
							    .last_layer = 2,
							    .norm_part = 990000,
							    .norm_median = 8,
							    .span_part = 100000000},
					       .arithmetic = "0-draft",
					       .answer_tokens = 15,
					       .energy = 0.75,
					       .parts = w->parts,
					       .layout = {2, 14, begin},
					       .payees = w->payees,
					       .payee_count = PAYEES,
					       .examples = w->examples,
					       .example_count = EXAMPLES,
					       .sketches = w->sketches[0],
					       .spans = w->spans.corpus};
	make_rows(w);
}

static void close_world(struct world *w)
{
	ol_span_corpus_release(&w->spans);
	free(w->rows);
	free(w->payee_rows);
}

static uint8_t *written(struct world *w, uint8_t root[OL_SHA256_BYTES], size_t *size)
{
	struct ol_map map;
	assert_int_equal(ol_index_write(path, root, &w->content, NULL), OL_OK);
	assert_int_equal(ol_map_open(&map, path, NULL), OL_OK);
	uint8_t *bytes = aligned_alloc(64, (map.size + 63) / 64 * 64);
	memcpy(bytes, map.data, map.size);
	*size = map.size;
	ol_map_close(&map);
	return bytes;
}

static void test_round_trip(void **state)
{
	struct world w;
	uint8_t root[OL_SHA256_BYTES], again[OL_SHA256_BYTES];
	struct ol_index *index;
	struct ol_error err = {0};
	(void)state;
	open_world(&w);
	assert_int_equal(ol_index_write(path, root, &w.content, NULL), OL_OK);
	assert_int_equal(ol_index_write(path, again, &w.content, NULL), OL_OK);
	assert_memory_equal(root, again, sizeof root);
	if (ol_index_open(&index, path, root, &err) != OL_OK)
		fail_msg("%s", err.text);
	const struct ol_index_content *c = ol_index_content(index);
	assert_memory_equal(ol_index_root(index), root, sizeof root);
	assert_int_equal(ol_index_audit(index, &err), OL_OK);
	assert_int_equal(c->settings.seed, 7);
	assert_int_equal(c->settings.span_part, 100000000);
	assert_true(c->energy == 0.75 && !c->low_confidence);
	assert_int_equal(c->layout.values, 14);
	assert_memory_equal(c->parts[1].outward, w.parts[1].outward, 16 * sizeof(float));
	assert_memory_equal(c->parts[1].weight, w.parts[1].weight, 8 * sizeof(float));
	for (int i = 0; i < EXAMPLES; i++) {
		assert_string_equal(c->examples[i].id, ids[i]);
		assert_string_equal(c->payees[c->examples[i].payee].name, givers[i]);
		assert_int_equal(c->examples[i].cluster, w.examples[i].cluster);
	}
	assert_memory_equal(c->payee_rows, w.payee_rows, PAYEES * ol_row_bytes(&c->layout));
	ol_index_close(index);
	again[0] ^= 1;
	assert_int_equal(ol_index_open(&index, path, again, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "manifest"));
	close_world(&w);
}

/* A payee's row is the clipped sum of the clusters that it is paid for: Bob gave e, but c was first
 * and is Ada's; b is an outlier. */
static void test_payee_rows(void **state)
{
	struct world w;
	float sum[14], x[14];
	(void)state;
	open_world(&w);
	const struct ol_row_layout *layout = &w.content.layout;
	for (uint32_t p = 0; p < PAYEES; p++) {
		memset(sum, 0, sizeof sum);
		for (uint32_t i = 0; i < 4; i++) {
			ol_row_dequantize(layout, x, w.rows + i * ol_row_bytes(layout));
			for (int v = 0; v < 14 && w.examples[i].payee == p; v++)
				sum[v] += (i == 1 ? 0.5f : 1.0f) * x[v];
		}
		ol_row_dequantize(layout, x, w.payee_rows + p * ol_row_bytes(layout));
		for (int v = 0; v < 14; v++)
			assert_true(fabsf(x[v] - sum[v]) < 0.01f);
	}
	close_world(&w);
}

/* Every single bit of the file counts, but for those that opening leaves to the audit. */
static void test_every_bit(void **state)
{
	struct world w;
	uint8_t root[OL_SHA256_BYTES];
	size_t size, missed = 0;
	struct ol_index *index;
	(void)state;
	open_world(&w);
	uint8_t *bytes = written(&w, root, &size);
	for (size_t i = 0; i < size * 8; i++) {
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		if (ol_index_open_bytes(&index, bytes, size, "here", NULL, NULL) == OL_OK) {
			missed += ol_index_audit(index, NULL) == OL_OK;
			ol_index_close(index);
		}
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_int_equal(missed, 0);
	for (size_t cut = 0; cut < size; cut += 61)
		assert_int_equal(ol_index_open_bytes(&index, bytes, cut, "here", NULL, NULL),
				 OL_ERR_INPUT);
	free(bytes);
	close_world(&w);
}

/* With its hashes mended, a lie is still refused, by name. */
static void lie(struct world *w, const char *sentence)
{
	uint8_t root[OL_SHA256_BYTES];
	struct ol_index *index;
	struct ol_error err = {0};
	assert_int_equal(ol_index_write(path, root, &w->content, NULL), OL_OK);
	enum ol_status s = ol_index_open(&index, path, root, &err);
	if (s == OL_OK) {
		s = ol_index_audit(index, &err);
		ol_index_close(index);
	}
	assert_int_equal(s, OL_ERR_INPUT);
	if (!strstr(err.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", err.text, sentence);
	close_world(w);
	open_world(w);
}

static void test_lies(void **state)
{
	struct world w;
	(void)state;
	open_world(&w);
	w.payee_rows[64] ^= 1;
	lie(&w, "not the sum of its examples' rows");
	w.rows[64] = 0x80;
	lie(&w, "example's row");
	w.payee_rows[64] = 0x80;
	lie(&w, "payee's row is not what it should be");
	w.examples[1].clip = 1.5f;
	lie(&w, "example is not what");
	w.examples[1].clip = NAN;
	lie(&w, "example is not what");
	w.examples[0].cluster = 1;
	lie(&w, "example is not what");
	w.examples[4].cluster = 3; /* fine: but then Ada has no more clusters than before */
	w.payees[0].clusters++;
	lie(&w, "do not add up");
	w.examples[2].payee = PAYEES;
	lie(&w, "example is not what");
	w.examples[2].answer_tokens = 4;
	lie(&w, "tokens do not add up");
	w.payees[1].id[0] ^= 1;
	lie(&w, "id is not that of its name");
	w.factors[20] = INFINITY;
	lie(&w, "not finite");
	w.parts[0].kept = 2;
	lie(&w, "parts");
	w.parts[1].layer = 0;
	w.parts[1].linear = 1;
	lie(&w, "part is not what");
	w.content.settings.span_part = OL_SHARE_WHOLE;
	lie(&w, "header's numbers");
	w.content.answer_tokens = 0;
	lie(&w, "header's numbers");
	((uint32_t *)w.spans.owned[2])[3]++;
	lie(&w, "span index");
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_payee_rows),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_lies),
	};
	const int file = mkstemp(path);
	if (file < 0)
		return 1;
	close(file);
	const int failed = cmocka_run_group_tests(tests, NULL, NULL);
	const char *keep = getenv("OPENLEDGER_KEEP_INDEX");
	if (keep) {
		struct world w;
		uint8_t root[OL_SHA256_BYTES];
		open_world(&w);
		if (ol_index_write(keep, root, &w.content, NULL) != OL_OK)
			return 1;
		close_world(&w);
	}
	unlink(path);
	return failed;
}
