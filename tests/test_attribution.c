#define _XOPEN_SOURCE 700 /* mkdtemp */
/* An attribution index and the scores made from it have the same bits whatever instruction set and
 * threads made them, whatever else was in the batch, and whether activations were kept. And they
 * say what they should: whose examples an answer is made of. */
#include "tests/support_train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "attrib/answer.h"
#include "attrib/build.h"
#include "base/file.h"

enum { EXAMPLES = 24, LENGTH = 20, GIVERS = 4, RANK = 4, ANSWERS = 5 };

static char path[256];

struct data {
	struct ol_model *model;
	struct ol_adapter *adapter;
	int32_t tokens[EXAMPLES][LENGTH + 1], targets[EXAMPLES][LENGTH];
	struct ol_sequence sequences[EXAMPLES];
	struct ol_index_source sources[EXAMPLES];
	char ids[EXAMPLES][16];
};

static const char *const givers[GIVERS] = {"Ada", "Bob",
					   "0x00112233445566778899aabbccddeeff00112233", "Dan"};

static void open_data(struct data *d, const char *name, enum ol_weight_type type)
{
	struct ol_dice dice = {77};
	d->model = ol_golden_model(name, type);
	const struct ol_config *c = ol_model_config(d->model);
	d->adapter = ol_adapter_for_test(c, OL_TARGETS_ALL, RANK, 5);
	for (int i = 0; i < EXAMPLES; i++) {
		for (int t = 0; t <= LENGTH; t++)
			d->tokens[i][t] = ol_dice_between(&dice, 3, c->vocab_size - 1);
		for (int t = 0; t < LENGTH; t++)
			d->targets[i][t] = t < 6 ? -1 : d->tokens[i][t + 1];
		if (i == EXAMPLES - 1) { /* a copy, by somebody else */
			memcpy(d->tokens[i], d->tokens[0], sizeof d->tokens[i]);
			memcpy(d->targets[i], d->targets[0], sizeof d->targets[i]);
		}
		(void)snprintf(d->ids[i], sizeof d->ids[i], "e%d", i);
		d->sequences[i] = (struct ol_sequence){d->tokens[i], d->targets[i], LENGTH, 0};
		d->sources[i] =
			(struct ol_index_source){d->ids[i], givers[i % GIVERS], &d->sequences[i],
						 (uint64_t)(i + 1) << 32 | (uint64_t)i, LENGTH - 6};
	}
}

static void close_data(struct data *d)
{
	ol_adapter_close(d->adapter);
	ol_model_close(d->model);
}

static void build(const struct data *d, struct ol_index_result *result,
		  const struct ol_kernels *kernels, int threads)
{
	struct ol_index_request q = {.model = d->model,
				     .adapter = d->adapter,
				     .sources = d->sources,
				     .source_count = EXAMPLES,
				     .kernels = kernels,
				     .threads = threads};
	struct ol_error err = {0};
	ol_index_defaults(&q.settings, ol_model_config(d->model));
	q.settings.first_layer = 0;
	q.settings.row_bytes = 1024; /* less than there is: directions must be chosen */
	q.settings.curvature_max = 10;
	ol_must(ol_index_build(result, path, &q, &err), &err);
}

static void the_same_root_everywhere(void **state)
{
	static const struct {
		const char *name;
		enum ol_weight_type type;
	} bases[] = {
		{"llama2", OL_WEIGHT_F32}, {"qwen3", OL_WEIGHT_Q8}, {"gemma3", OL_WEIGHT_BF16}};
	(void)state;
	for (size_t b = 0; b < OL_ARRAY_LEN(bases); b++) {
		struct data d;
		struct ol_index_result first, other;
		open_data(&d, bases[b].name, bases[b].type);
		build(&d, &first, ol_kernels_for(ol_first_isa()), 1);
		assert_int_equal(first.clusters, EXAMPLES - 1);
		assert_int_equal(first.merged[0], 1);
		for (int isa = 0; isa < OL_ISAS; isa++)
			for (int threads = 1; threads <= 2; threads++) {
				const struct ol_kernels *k = ol_kernels_for((enum ol_isa)isa);
				if (!k || isa < (int)ol_first_isa())
					continue;
				build(&d, &other, k, threads);
				if (memcmp(first.root, other.root, sizeof first.root) != 0)
					fail_msg("%s, %s, %d threads: another root", bases[b].name,
						 k->name, threads);
			}
		close_data(&d);
	}
}

/* ---- Answers ---- */

struct answers {
	struct ol_attribution_query queries[ANSWERS];
	struct ol_attribution out[ANSWERS];
};

/* Prompts and answers out of examples, the last one of nowhere. */
static void ask(struct answers *a, const struct data *d, const struct ol_index *index)
{
	static int32_t strange[12];
	for (int i = 0; i < 12; i++)
		strange[i] = 3 + (i * 7) % 40;
	memset(a, 0, sizeof *a);
	for (int i = 0; i < ANSWERS; i++) {
		const bool last = i == ANSWERS - 1;
		a->queries[i] = (struct ol_attribution_query){
			.index = index,
			.adapter = d->adapter,
			.prompt = d->tokens[3 * i],
			.prompt_count = 4 + i,
			.response = last ? strange : d->tokens[3 * i] + 4 + i,
			.response_count = last ? 12 : 9 + i % 3,
			.top = 3,
			.gain = i % 2};
	}
}

static void release(struct answers *a)
{
	for (int i = 0; i < ANSWERS; i++)
		ol_attribution_release(&a->out[i]);
}

static void check_same(const struct ol_attribution *a, const struct ol_attribution *b)
{
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->root, b->root, sizeof a->root);
	assert_int_equal(a->clear, b->clear);
	assert_int_equal(a->top_count, b->top_count);
	assert_int_equal(a->span_count, b->span_count);
	for (int i = 0; i < a->top_count; i++)
		assert_true(a->top[i].example == b->top[i].example &&
			    a->top[i].score == b->top[i].score);
	assert_memory_equal(&a->nats, &b->nats, sizeof a->nats);
	if (isfinite(a->base_nats))
		assert_memory_equal(&a->base_nats, &b->base_nats, sizeof a->nats);
}

static void answer(struct answers *a, const struct data *d, const struct ol_index *index,
		   const struct ol_attributor_options *options, int at_once)
{
	struct ol_attributor *attributor;
	struct ol_error err = {0};
	ask(a, d, index);
	ol_must(ol_attributor_open(&attributor, d->model, options, &err), &err);
	for (int i = 0; i < ANSWERS; i += at_once)
		ol_must(ol_attribute(attributor, a->out + i, a->queries + i,
				     OL_MIN(at_once, ANSWERS - i), &err),
			&err);
	ol_attributor_close(attributor);
}

static void the_same_shares_everywhere(void **state)
{
	struct data d;
	struct ol_index_result result;
	struct ol_index *index;
	struct ol_error err = {0};
	struct answers first, other;
	(void)state;
	open_data(&d, "llama3", OL_WEIGHT_Q8);
	build(&d, &result, NULL, 2);
	ol_must(ol_index_open(&index, path, result.root, &err), &err);
	ol_must(ol_index_audit(index, &err), &err);
	struct ol_attributor_options o = {.kernels = ol_kernels_for(ol_first_isa()),
					  .threads = 1,
					  .rows_max = 64,
					  .rank_max = RANK};
	answer(&first, &d, index, &o, 1);
	for (int isa = (int)ol_first_isa(); isa < OL_ISAS; isa++)
		for (int way = 0; way < 6; way++) {
			o.kernels = ol_kernels_for((enum ol_isa)isa);
			o.threads = 1 + way % 3;
			o.recompute = way % 2;
			o.rows_max = way < 3 ? 40 : 200;
			if (!o.kernels)
				continue;
			answer(&other, &d, index, &o, way < 2 ? 2 : ANSWERS);
			for (int i = 0; i < ANSWERS; i++)
				check_same(&first.out[i], &other.out[i]);
			release(&other);
		}
	release(&first);
	ol_index_close(index);
	close_data(&d);
}

/* The answer is an example's own: that example did most, and its giver is paid. */
static void an_answer_finds_its_example(void **state)
{
	struct data d;
	struct ol_index_result result;
	struct ol_index *index;
	struct ol_error err = {0};
	struct answers a;
	uint64_t sum = 0;
	(void)state;
	open_data(&d, "llama2", OL_WEIGHT_F32);
	build(&d, &result, NULL, 2);
	ol_must(ol_index_open(&index, path, result.root, &err), &err);
	const struct ol_index_content *c = ol_index_content(index);
	const struct ol_attributor_options o = {.threads = 2, .rows_max = 64, .rank_max = RANK};
	answer(&a, &d, index, &o, ANSWERS);
	for (int i = 0; i < ANSWERS - 1; i++) {
		const struct ol_attribution *out = &a.out[i];
		assert_int_equal(out->top_count, 3);
		assert_int_equal(out->top[0].example, 3 * i);
		assert_true(out->top[0].score > out->top[1].score);
		assert_int_equal(out->span_count, 1);
		assert_int_equal(out->spans[0].begin, 0);
		assert_int_equal(out->spans[0].sources[0].example, 3 * i);
		for (uint32_t k = 0; k < out->count; k++) {
			sum += out->shares[k].share;
			if (out->clear && out->bonus[k] > 0)
				assert_string_equal(c->payees[k].name, givers[3 * i % GIVERS]);
		}
		assert_int_equal(sum, out->clear ? OL_SHARE_WHOLE : 0);
		sum = 0;
	}
	assert_int_equal(a.out[ANSWERS - 1].span_count, 0);
	release(&a);
	ol_index_close(index);
	close_data(&d);
}

static void what_cannot_be_attributed_is_refused(void **state)
{
	struct data d;
	struct ol_index_result result;
	struct ol_index *index;
	struct ol_attributor *attributor;
	struct ol_error err = {0};
	struct answers a;
	(void)state;
	open_data(&d, "llama2", OL_WEIGHT_F32);
	build(&d, &result, NULL, 1);
	ol_must(ol_index_open(&index, path, result.root, &err), &err);
	const struct ol_attributor_options o = {.threads = 1, .rows_max = 16, .rank_max = RANK};
	ol_must(ol_attributor_open(&attributor, d.model, &o, &err), &err);
	struct ol_adapter *stranger =
		ol_adapter_for_test(ol_model_config(d.model), OL_TARGETS_ALL, RANK, 6);
	const int32_t outside[2] = {4, ol_model_config(d.model)->vocab_size};
	for (int what = 0; what < 5; what++) {
		static const char *const sentences[] = {"longer than the 16", "another adapter",
							"empty", "outside", "outside"};
		ask(&a, &d, index);
		struct ol_attribution_query *q = &a.queries[1];
		if (what == 0)
			q->response_count = 13;
		if (what == 1)
			q->adapter = stranger;
		if (what == 2)
			q->response_count = 0;
		if (what >= 3)
			*(what == 3 ? &q->response : &q->prompt) = outside;
		if (what >= 3)
			*(what == 3 ? &q->response_count : &q->prompt_count) = 2;
		assert_int_equal(ol_attribute(attributor, a.out, a.queries, 2, &err), OL_ERR_INPUT);
		if (!strstr(err.text, sentences[what]))
			fail_msg("\"%s\" does not say \"%s\"", err.text, sentences[what]);
		assert_null(a.out[0].shares);
	}
	ol_adapter_close(stranger);
	ol_attributor_close(attributor);
	ol_index_close(index);
	close_data(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_root_everywhere),
		cmocka_unit_test(the_same_shares_everywhere),
		cmocka_unit_test(an_answer_finds_its_example),
		cmocka_unit_test(what_cannot_be_attributed_is_refused),
	};
	char name[] = "/tmp/openledger-attribution-XXXXXX";
	if (!mkdtemp(name))
		return 1;
	(void)snprintf(path, sizeof path, "%s/a.index", name);
	const int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(name);
	return failed;
}
