/* Spans against a search that looks everywhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/spans.h"
#include "math/functions.h"

enum { TEXTS = 40, LONGEST = 60 };

static uint32_t word(uint32_t a, uint32_t b)
{
	const uint32_t counter[4] = {a, b, 2, 0}, key[2] = {8, 9};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return out[0];
}

/* The longest piece from `at` on that stands in any text, and in how many. */
static int look_everywhere(const struct ol_span_text *texts, int count, const int32_t *tokens,
			   int left, int *sources)
{
	int most = 0;
	*sources = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < count; i++) {
			bool has = false;
			for (int o = 0; o < texts[i].count; o++) {
				int n = 0;
				while (n < left && o + n < texts[i].count &&
				       texts[i].tokens[o + n] == tokens[n])
					n++;
				if (pass == 0)
					most = OL_MAX(most, n);
				has = has || n >= most;
			}
			*sources += pass == 1 && most > 0 && has;
		}
	return most;
}

static void compare(uint32_t seed, uint32_t vocab)
{
	static int32_t tokens[TEXTS][LONGEST];
	struct ol_span_text texts[TEXTS];
	int32_t answer[100];
	struct ol_span *spans = malloc(OL_SPANS_MAX * sizeof *spans);
	struct ol_span_build build;
	int count, found = 0, end = 0;
	for (uint32_t i = 0; i < TEXTS; i++) {
		texts[i] = (struct ol_span_text){tokens[i], (int32_t)(word(seed, i) % LONGEST)};
		for (int t = 0; t < LONGEST; t++)
			tokens[i][t] = (int32_t)(word(seed + 1, i * 100 + (uint32_t)t) % vocab);
		if (i % 3 == 0 && i > 0) /* copies */
			memcpy(tokens[i], tokens[i - 1], sizeof tokens[i]);
	}
	for (int t = 0; t < 100; t++)
		answer[t] = (int32_t)(word(seed + 2, (uint32_t)t) % vocab);
	memcpy(answer + 20, tokens[7] + 2, 30 * sizeof *answer);
	memcpy(answer + 60, tokens[9] + 5, 12 * sizeof *answer);
	assert_int_equal(ol_span_corpus_build(&build, texts, TEXTS, vocab, NULL), OL_OK);
	assert_int_equal(ol_span_corpus_check(&build.corpus, "here", NULL), OL_OK);
	assert_int_equal(ol_span_corpus_find(spans, &count, &build.corpus, answer, 100, NULL),
			 OL_OK);
	for (int at = 0; at < 100; at++) {
		int sources;
		const int n = look_everywhere(texts, TEXTS, answer + at, 100 - at, &sources);
		if (n == 0 || at + n <= end)
			continue;
		end = at + n;
		double surprise = -log(build.corpus.token_count);
		for (int t = at; t < at + n; t++)
			surprise +=
				log(build.corpus.token_count) - log(build.corpus.counts[answer[t]]);
		if (n < OL_SPAN_TOKENS || surprise <= 0 || sources > OL_SPAN_SOURCES)
			continue;
		assert_true(found < count);
		assert_int_equal(spans[found].begin, at);
		assert_int_equal(spans[found].count, n);
		assert_int_equal(spans[found].source_count, sources);
		assert_true(fabs((double)spans[found].surprise / 1e6 - surprise) < 1e-5);
		for (int s = 0; s < sources; s++) {
			const struct ol_span_source *source = &spans[found].sources[s];
			assert_memory_equal(texts[source->example].tokens + source->offset,
					    answer + at, (size_t)n * sizeof *answer);
		}
		found++;
	}
	assert_int_equal(found, count);
	ol_span_corpus_release(&build);
	free(spans);
}

static void test_equal_to_looking_everywhere(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 60; seed++) {
		compare(10 * seed, 3);     /* everything repeats */
		compare(10 * seed, 300);   /* two bytes */
		compare(10 * seed, 70000); /* four */
	}
}

static void test_common_property_is_dropped(void **state)
{
	const int32_t phrase[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	struct ol_span_text texts[OL_SPAN_SOURCES + 1];
	struct ol_span spans[4];
	struct ol_span_build build;
	int count;
	(void)state;
	for (int n = OL_SPAN_SOURCES; n <= OL_SPAN_SOURCES + 1; n++) {
		for (int i = 0; i < n; i++)
			texts[i] = (struct ol_span_text){phrase, 12};
		assert_int_equal(ol_span_corpus_build(&build, texts, (uint32_t)n, 100, NULL),
				 OL_OK);
		assert_int_equal(
			ol_span_corpus_find(spans, &count, &build.corpus, phrase, 12, NULL), OL_OK);
		assert_int_equal(count, n <= OL_SPAN_SOURCES);
		ol_span_corpus_release(&build);
	}
}

static void test_refusals(void **state)
{
	const int32_t tokens[3] = {1, 2, 100};
	const struct ol_span_text text = {tokens, 3}, good = {tokens, 2};
	struct ol_span_build build;
	struct ol_error err;
	struct ol_span spans[4];
	int32_t answer[10] = {1, 2, 1, 2, 1, 2, 1, 2, 1, 2};
	uint32_t bad[4] = {0, 1000, 2, 3};
	int count;
	(void)state;
	assert_int_equal(ol_span_corpus_build(&build, &text, 1, 100, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "example 0, token 2: 100"));
	assert_int_equal(ol_span_corpus_build(&build, &good, 1, 100, &err), OL_OK);
	struct ol_span_corpus corpus = build.corpus;
	corpus.suffixes = bad;
	assert_int_equal(ol_span_corpus_find(spans, &count, &corpus, answer, 10, &err),
			 OL_ERR_INPUT);
	corpus.vocab = 2; /* the counts no longer add up */
	assert_int_equal(ol_span_corpus_check(&corpus, "FILE", &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "FILE"));
	ol_span_corpus_release(&build);
	assert_int_equal(ol_span_corpus_build(&build, NULL, 0, 100, &err), OL_OK);
	assert_int_equal(ol_span_corpus_find(spans, &count, &build.corpus, answer, 10, &err),
			 OL_OK);
	assert_int_equal(count, 0);
	ol_span_corpus_release(&build);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_to_looking_everywhere),
		cmocka_unit_test(test_common_property_is_dropped),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
