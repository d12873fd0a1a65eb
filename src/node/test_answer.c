/* Answers that a grammar binds: whatever a model of random weights would say, the text is what was
 * asked for; in company, preempted, several choices of one prompt: the same bits as alone. */
#include "node/generate.h"
#include "node/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/test_pieces.h"

static const char *const pieces[] = {"{\"", "\":", "\", \"", "},{", "name", "age",        "tr",
				     "ue}", "12",  "[]",     "]}",  " a",   "\xc3\xa9\"", "\\u00"};

static struct ol_config tiny = {.arch = OL_ARCH_LLAMA,
				.hidden = 32,
				.ffn = 48,
				.layers = 2,
				.heads = 2,
				.kv_heads = 1,
				.head_dim = 16,
				.context_max = 512,
				.norm_eps = 1e-5f,
				.embed_scale = 1.0f,
				.attention_scale = 0.25f,
				.rope_theta = 10000.0,
				.rope_theta_local = 10000.0,
				.bos_id = -1,
				.eos_ids = {TEST_EOS},
				.eos_count = 1};

static struct ol_tokenizer *tokenizer;
static struct ol_grammar_vocab *vocab;
static struct ol_model *model;

static int set_up(void **state)
{
	(void)state;
	tokenizer = test_tokenizer(pieces, OL_ARRAY_LEN(pieces));
	tiny.vocab_size = ol_tokenizer_vocab_size(tokenizer) + 3; /* rows that no token has */
	if (ol_grammar_vocab_open(&vocab, tokenizer, tiny.vocab_size, tiny.eos_ids, 1, 0, NULL) !=
	    OL_OK)
		return -1;
	return ol_model_random(&model, &tiny, OL_WEIGHT_Q8, 3, NULL) == OL_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	ol_model_close(model);
	ol_grammar_vocab_close(vocab);
	ol_tokenizer_close(tokenizer);
	return 0;
}

static struct ol_grammar *open_schema(const char *text)
{
	struct ol_grammar *g = NULL;
	struct ol_error err = {0};
	json_t *schema = json_loads(text, 0, NULL);
	assert_non_null(schema);
	if (ol_grammar_open_schema(&g, vocab, schema, &err) != OL_OK)
		fail_msg("%s", err.text);
	json_decref(schema);
	return g;
}

static const char person[] =
	"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},"
	"\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":130},\"tags\":{\"type\":\"array\","
	"\"items\":{\"enum\":[\"x\",\"yz\",null]},\"maxItems\":3},\"ok\":{\"type\":\"boolean\"}},"
	"\"required\":[\"name\",\"age\",\"ok\"],\"additionalProperties\":false}";

/* One request and what came of it. */
struct asked {
	int32_t prompt[64];
	struct ol_request request;
	enum ol_outcome outcome;
	enum ol_finish finish;
	char text[4096];
	int32_t ids[512];
	size_t count;
	bool done;
};

static void on_done(void *context, enum ol_outcome outcome, struct ol_generation *g,
		    const struct ol_error *err)
{
	struct asked *a = context;
	(void)err;
	a->done = true;
	a->outcome = outcome;
	a->finish = g->finish;
	snprintf(a->text, sizeof a->text, "%s", g->text.data ? g->text.data : "");
	a->count = g->tokens.count;
	memcpy(a->ids, g->tokens.ids, a->count * sizeof *a->ids);
}

static void prepare(struct asked *a, const struct ol_grammar *g, uint64_t seed, int max_tokens)
{
	memset(a, 0, sizeof *a);
	const size_t count = 5 + seed % 40;
	for (size_t i = 0; i < count; i++)
		a->prompt[i] = TEST_BYTE + (int32_t)((seed * 31 + i * i) % 250);
	a->request = (struct ol_request){
		.tenant = 1,
		.prompt = a->prompt,
		.count = count,
		.answer = {.grammar = g,
			   .max_tokens = max_tokens,
			   .sampling = {.temperature = seed % 3 == 0 ? 0.0f : 1.5f,
					.top_k = seed % 4 == 1 ? 3 : 0,
					.top_p = seed % 5 == 2 ? 0.5f : 1.0f,
					.repeat_penalty = seed % 2 ? 1.0f : 1.3f,
					.seed = seed}},
		.on_done = on_done,
		.context = a};
}

/* Runs them all in one batch; how many were preempted. */
static uint64_t run(struct asked *a, int count, int64_t positions, int batch)
{
	struct ol_engine *engine;
	struct ol_scheduler *scheduler;
	struct ol_scheduler_stats stats;
	struct ol_error err;
	uint64_t id;
	const struct ol_engine_options options = {
		.threads = 1, .kv_positions = positions, .step_rows = 64};
	assert_int_equal(ol_engine_open(&engine, model, &options, &err), OL_OK);
	const struct ol_scheduler_options scheduling = {
		.engine = engine, .tokenizer = tokenizer, .batch_max = batch};
	assert_int_equal(ol_scheduler_open(&scheduler, &scheduling, &err), OL_OK);
	for (int i = 0; i < count; i++) {
		a[i].done = false;
		assert_int_equal(ol_scheduler_submit(scheduler, &a[i].request, &id, &err),
				 OL_SUBMIT_OK);
	}
	while (ol_scheduler_step(scheduler))
		;
	ol_scheduler_stats(scheduler, &stats);
	ol_scheduler_close(scheduler);
	ol_engine_close(engine);
	for (int i = 0; i < count; i++)
		assert_true(a[i].done && a[i].outcome == OL_OUTCOME_DONE);
	return stats.preempted;
}

static void expect_person(const struct asked *a)
{
	json_error_t error;
	json_t *value = json_loads(a->text, JSON_REJECT_DUPLICATES, &error);
	const char *name;
	int age, ok;
	if (!value)
		fail_msg("%s: %s", a->text, error.text);
	if (json_unpack(value, "{s:s, s:i, s:b}", "name", &name, "age", &age, "ok", &ok) != 0)
		fail_msg("%s: something is missing", a->text);
	assert_in_range(age, 0, 130);
	assert_true(strlen(name) <= 4 * 12);
	json_decref(value);
}

static void test_answers_are_what_was_asked_for(void **state)
{
	enum { CROWD = 24 };
	struct asked *crowd = calloc(CROWD, sizeof *crowd), *alone = calloc(1, sizeof *alone);
	struct ol_grammar *g = open_schema(person);
	(void)state;
	for (int i = 0; i < CROWD; i++)
		prepare(&crowd[i], i % 5 == 4 ? NULL : g, (uint64_t)i, 200);
	ol_grammar_close(NULL);
	assert_true(run(crowd, CROWD, 512, 16) > 0);
	for (int i = 0; i < CROWD; i++) {
		*alone = crowd[i];
		alone->request.context = alone;
		(void)run(alone, 1, 512, 1);
		assert_int_equal(alone->count, crowd[i].count);
		assert_memory_equal(alone->ids, crowd[i].ids, alone->count * sizeof *alone->ids);
		if (i % 5 == 4)
			continue;
		assert_int_equal(crowd[i].finish, OL_FINISH_STOP);
		expect_person(&crowd[i]);
	}
	ol_grammar_close(g);
	free(crowd);
	free(alone);
}

/* Cut by max_tokens it is not whole, and says so; one token more than needed changes nothing. */
static void test_length(void **state)
{
	struct asked *a = calloc(1, sizeof *a);
	struct ol_grammar *g = open_schema(person);
	(void)state;
	prepare(a, g, 7, 0);
	(void)run(a, 1, 512, 1);
	const int whole = (int)a->count;
	char text[sizeof a->text];
	memcpy(text, a->text, sizeof text);
	for (int max = whole - 1; max <= whole + 1; max++) {
		prepare(a, g, 7, max);
		(void)run(a, 1, 512, 1);
		assert_int_equal(a->finish, max < whole ? OL_FINISH_LENGTH : OL_FINISH_STOP);
		assert_int_equal(a->count, OL_MIN(max, whole));
		assert_memory_equal(a->text, text, strlen(a->text));
	}
	ol_grammar_close(g);
	free(a);
}

/* An answer holds its grammar; without end-of-text tokens it ends all the same. */
static void test_grammar_outlives_its_owner(void **state)
{
	struct asked *a = calloc(2, sizeof *a);
	struct ol_error err;
	struct ol_engine *engine;
	struct ol_scheduler *scheduler;
	uint64_t id;
	(void)state;
	const struct ol_engine_options options = {.threads = 1, .kv_positions = 512};
	assert_int_equal(ol_engine_open(&engine, model, &options, &err), OL_OK);
	const struct ol_scheduler_options scheduling = {.engine = engine, .tokenizer = tokenizer};
	assert_int_equal(ol_scheduler_open(&scheduler, &scheduling, &err), OL_OK);
	struct ol_grammar *g = open_schema("{\"type\":\"integer\"}");
	for (int i = 0; i < 2; i++) {
		prepare(&a[i], g, 3, 0);
		a[i].request.answer.ignore_eos = i == 1;
		assert_int_equal(ol_scheduler_submit(scheduler, &a[i].request, &id, &err),
				 OL_SUBMIT_OK);
	}
	ol_grammar_close(g);
	while (ol_scheduler_step(scheduler))
		;
	ol_scheduler_close(scheduler);
	ol_engine_close(engine);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(a[i].finish, OL_FINISH_STOP);
		assert_in_range(strlen(a[i].text), 1, 19);
		assert_int_equal(strspn(a[i].text, "-0123456789"), strlen(a[i].text));
	}
	/* 18 digits, or nothing that could follow: only then is there no token but the end. */
	assert_true(strlen(a[1].text) >= 18 || strcmp(a[1].text, "0") == 0);
	free(a);
}

/* Tokens that are not allowed are absent, whatever bias speaks for them. */
static void test_bias_cannot_force(void **state)
{
	const struct ol_logit_bias bias[] = {{TEST_BYTE + 'q', 1000.0f}, {TEST_EOS, 1000.0f}};
	struct asked *a = calloc(1, sizeof *a);
	struct ol_grammar *g = open_schema("{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},"
					   "\"minItems\":2,\"maxItems\":2}");
	(void)state;
	for (uint64_t seed = 0; seed < 6; seed++) {
		prepare(a, g, seed, 0);
		a->request.answer.sampling.bias = bias;
		a->request.answer.sampling.bias_count = 2;
		(void)run(a, 1, 512, 1);
		json_t *value = json_loads(a->text, 0, NULL);
		assert_int_equal(json_array_size(value), 2);
		json_decref(value);
	}
	ol_grammar_close(g);
	free(a);
}

/* Stop texts end an answer before them, wherever tokens cut them and whatever stands before. */
static void test_stops(void **state)
{
	static const struct {
		const char *said, *stops[2], *text;
		size_t said_size, text_size;
	} rows[] = {
		{"abst", {"st"}, "ab", 4, 2},
		{"ab\0st!", {"st"}, "ab\0", 6, 3},
		{"a\0\0end", {"\x01", "end"}, "a\0\0", 6, 3},
		{"one two", {"two", "ne"}, "o", 7, 1},
		{"aab", {"ab"}, "a", 3, 1},
		{"xy", {"yz"}, "xy", 2, 2},
	};
	struct ol_sampler *sampler;
	float *logits = calloc((size_t)tiny.vocab_size, sizeof *logits);
	const struct ol_answer_model answers = {&tiny, tokenizer, ol_kernels_for(OL_ISA_SCALAR)};
	(void)state;
	assert_int_equal(ol_sampler_open(&sampler, answers.kernels, tiny.vocab_size), OL_OK);
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		const int32_t prompt[] = {TEST_BYTE};
		struct ol_answer *a;
		struct ol_error err;
		bool more = true;
		struct ol_answer_options options = {
			.sampling = {.top_p = 1.0f, .repeat_penalty = 1.0f},
			.stops = {rows[r].stops[0], rows[r].stops[1]},
			.stop_count = rows[r].stops[1] ? 2 : 1};
		assert_int_equal(ol_answer_open(&a, &answers, prompt, 1, 100, &options, &err),
				 OL_OK);
		for (size_t i = 0; i <= rows[r].said_size && more; i++) {
			const int32_t token = i < rows[r].said_size
						      ? TEST_BYTE + (uint8_t)rows[r].said[i]
						      : TEST_EOS;
			logits[token] = 1.0f;
			assert_int_equal(ol_answer_take(a, logits, sampler, &more, &err), OL_OK);
			logits[token] = 0.0f;
		}
		const struct ol_generation *g = ol_answer_generation(a);
		assert_false(more);
		assert_int_equal(g->text.size, rows[r].text_size);
		assert_memory_equal(g->text.data, rows[r].text, rows[r].text_size);
		assert_int_equal(g->finish, OL_FINISH_STOP);
		ol_answer_close(a);
	}
	ol_sampler_close(sampler);
	free(logits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_are_what_was_asked_for),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_grammar_outlives_its_owner),
		cmocka_unit_test(test_bias_cannot_force),
		cmocka_unit_test(test_stops),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
