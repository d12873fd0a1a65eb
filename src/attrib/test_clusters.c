/* Which examples are the same: by tokens, by pieces, by rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/clusters.h"
#include "math/functions.h"

enum { COUNT = 200, WORDS = 60, VALUES = 2048 };

static uint32_t word(uint32_t a, uint32_t b)
{
	const uint32_t counter[4] = {a, b, 6, 0}, key[2] = {8, 9};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return out[0];
}

static int32_t tokens[COUNT][WORDS];
static struct ol_span_text texts[COUNT];

static void strangers(void)
{
	for (uint32_t i = 0; i < COUNT; i++) {
		texts[i] = (struct ol_span_text){tokens[i], WORDS};
		for (uint32_t t = 0; t < WORDS; t++)
			tokens[i][t] = (int32_t)(word(i, t) % 1000);
	}
}

static void test_texts(void **state)
{
	uint32_t clusters[COUNT], merged[OL_CLUSTER_WHYS];
	(void)state;
	strangers();
	assert_int_equal(ol_clusters_find(clusters, merged, texts, COUNT, NULL, NULL), OL_OK);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(clusters[i], i);
	memcpy(tokens[90], tokens[7], sizeof tokens[7]);
	memcpy(tokens[150], tokens[7], sizeof tokens[7]);
	memcpy(tokens[151], tokens[20], sizeof tokens[20]); /* its last word is another */
	tokens[151][WORDS - 1]++;
	memcpy(tokens[152], tokens[30], sizeof tokens[30]); /* half of it is */
	memcpy(tokens[152], tokens[31], sizeof tokens[31] / 2);
	texts[153].count = texts[154].count = 2; /* too short for pieces: only exact */
	tokens[153][0]++;
	assert_int_equal(ol_clusters_find(clusters, merged, texts, COUNT, NULL, NULL), OL_OK);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(clusters[i], i == 90 || i == 150 ? 7 : i == 151 ? 20 : i);
	assert_int_equal(merged[OL_CLUSTER_EXACT], 2);
	assert_int_equal(merged[OL_CLUSTER_TEXT], 1);
}

static void test_rows(void **state)
{
	static const uint32_t begin[] = {0, VALUES};
	const struct ol_row_layout layout = {1, VALUES, begin};
	const size_t stride = ol_row_bytes(&layout);
	uint8_t *rows = aligned_alloc(64, COUNT * stride);
	uint8_t *sketches = malloc((size_t)COUNT * OL_SKETCH_BYTES);
	float *x = malloc(VALUES * sizeof *x);
	uint32_t clusters[COUNT], merged[OL_CLUSTER_WHYS];
	struct ol_sketch_plan plan;
	(void)state;
	strangers();
	assert_true(ol_sketch_plan_init(&plan, VALUES));
	for (uint32_t i = 0; i < COUNT; i++) {
		/* From 100 on: an earlier one with noise, a cosine of 0.97 or, if odd, of 0.90. */
		const uint32_t like = i < 100 ? i : i - 100;
		const float noise = i < 100 ? 0.0f : i % 2 ? 0.48f : 0.25f;
		for (uint32_t v = 0; v < VALUES; v++)
			x[v] = (float)(word(1000 + like, v) % 2001) - 1000.0f +
			       noise * ((float)(word(2000 + i, v) % 2001) - 1000.0f);
		assert_true(ol_row_quantize(&layout, rows + i * stride, x));
		ol_sketch_make(&plan, &layout, sketches + (size_t)i * OL_SKETCH_BYTES,
			       rows + i * stride);
	}
	const struct ol_cluster_rows by_rows = {ol_row_kernels_for(OL_ISA_SCALAR), &layout, rows,
						sketches};
	assert_int_equal(ol_clusters_find(clusters, merged, texts, COUNT, &by_rows, NULL), OL_OK);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(clusters[i], i >= 100 && i % 2 == 0 ? i - 100 : i);
	assert_int_equal(merged[OL_CLUSTER_ROW], 50);
	ol_sketch_plan_release(&plan);
	free(rows);
	free(sketches);
	free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
