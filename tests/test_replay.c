/* An answer can be had again from its prompt and settings, by one prefill and on any machine; and
 * what was changed in it is found, at the place where it was changed.
 *
 * Answers are made in crowds: batches of a scheduler, adapters mixed, pages scarce, on one
 * instruction set and thread count; each is replayed alone on another. OL_TEST_SLOW=1 makes ten
 * thousand of them. */
#include "node/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "node/scheduler.h"
#include "tests/support.h"

enum { ADAPTERS = 3, CROWD = 10, CHOICES_MAX = 3, PROMPT_MAX = 70, ANSWER_MAX = 40 };

/* One request of a crowd, and its choices as they came. */
struct asked {
	struct ol_request request;
	int32_t prompt[PROMPT_MAX];
	struct ol_logit_bias bias[4];
	char adapter[8];
	int adapter_index; /* -1: the base */
	int choice_count;
	struct came {
		int32_t tokens[ANSWER_MAX + 1];
		size_t count;
		enum ol_finish finish;
		bool done;
	} came[CHOICES_MAX];
};

struct world {
	struct ol_model *model;
	struct ol_config config;
	struct ol_adapter *adapters[ADAPTERS]; /* for replays; the pool makes its own */
};

static enum ol_status open_adapter(void *self, struct ol_adapter **out, const char *folder,
				   const struct ol_config *base, struct ol_error *err)
{
	const int index = folder[0] - '0';
	(void)self;
	(void)err;
	*out = ol_adapter_for_test(base, index == 1 ? 0x0f : OL_TARGETS_ALL, 3 + 5 * index,
				   (uint64_t)(77 + index));
	return OL_OK;
}

static size_t adapter_bytes(void *self, const char *folder)
{
	(void)self;
	(void)folder;
	return 1 << 20;
}

static void on_done(void *context, enum ol_outcome outcome, struct ol_generation *generation,
		    const struct ol_error *err)
{
	struct came *came = context;
	if (outcome != OL_OUTCOME_DONE)
		fail_msg("outcome %d: %s", (int)outcome, err ? err->text : "");
	assert_false(came->done);
	assert_true(generation->tokens.count <= ANSWER_MAX);
	came->done = true;
	came->count = generation->tokens.count;
	came->finish = generation->finish;
	for (size_t i = 0; i < came->count; i++)
		came->tokens[i] = generation->tokens.ids[i];
}

static float pick(struct ol_dice *dice, const float *values, int count)
{
	return values[ol_dice_between(dice, 0, count - 1)];
}
#define PICK(dice, ...)                                                                            \
	pick(dice, (const float[]){__VA_ARGS__},                                                   \
	     (int)(sizeof((const float[]){__VA_ARGS__}) / sizeof(float)))

/* Every setting that shapes an answer, each at its edges and inside. */
static void prepare(struct asked *a, const struct world *w, struct ol_dice *dice, int index)
{
	const int vocab = w->config.vocab_size;
	const int length = ol_dice_between(dice, 1, PROMPT_MAX);
	memset(a, 0, sizeof *a);
	for (int i = 0; i < length; i++)
		a->prompt[i] = ol_dice_between(dice, 0, vocab - 1);
	for (int i = 0; i < (int)OL_ARRAY_LEN(a->bias); i++)
		a->bias[i] = (struct ol_logit_bias){ol_dice_between(dice, 0, vocab / 4 - 1) +
							    i * (vocab / 4),
						    PICK(dice, -100.0f, -1.5f, 0.0f, 2.0f)};
	a->adapter_index = ol_dice_between(dice, -1, ADAPTERS - 1);
	a->choice_count = ol_dice_between(dice, 1, CHOICES_MAX);
	(void)snprintf(a->adapter, sizeof a->adapter, "%d", a->adapter_index);
	a->request = (struct ol_request){
		.tenant = (uint64_t)ol_dice_between(dice, 0, 2),
		.adapter = a->adapter_index >= 0 ? a->adapter : NULL,
		.prompt = a->prompt,
		.count = (size_t)length,
		.group = a->choice_count > 1 ? (uint64_t)index + 1 : 0,
		.on_done = on_done,
		.answer = {.max_tokens = ol_dice_between(dice, 1, ANSWER_MAX),
			   .ignore_eos = ol_dice_between(dice, 0, 3) == 0,
			   .sampling = {.temperature = PICK(dice, 0.0f, 0.3f, 1.0f, 1.7f),
					.top_k = (int)PICK(dice, 0, 1, 5, 40),
					.top_p = PICK(dice, 1.0f, 0.9f, 0.3f),
					.min_p = PICK(dice, 0.0f, 0.05f),
					.repeat_penalty = PICK(dice, 1.0f, 1.3f),
					.presence_penalty = PICK(dice, 0.0f, 0.5f),
					.frequency_penalty = PICK(dice, 0.0f, -0.4f),
					.seed = ol_dice_next(dice),
					.bias = a->bias,
					.bias_count = ol_dice_between(dice, 0, 1) *
						      (int)OL_ARRAY_LEN(a->bias)}}};
}

static void answer_crowd(struct asked *crowd, const struct world *w, struct ol_engine *engine,
			 struct ol_dice *dice)
{
	static const struct ol_adapter_source source = {open_adapter, adapter_bytes, NULL};
	struct ol_scheduler_options options = {.engine = engine,
					       .batch_max = ol_dice_between(dice, 1, 16),
					       .prefixes_max = ol_dice_between(dice, 0, 3)};
	const struct ol_adapter_pool_options pool_options = {
		.base = &w->config, .bytes_max = (size_t)1 << 30, .source = &source};
	struct ol_scheduler_stats stats;
	struct ol_scheduler *scheduler;
	struct ol_adapter_pool *pool;
	struct ol_error err;
	ol_must(ol_adapter_pool_open(&pool, &pool_options, &err), &err);
	for (int i = 0; i < ADAPTERS; i++) {
		char name[2] = {(char)('0' + i), '\0'};
		assert_int_equal(ol_adapter_pool_register(pool, name, name, NULL), OL_REGISTER_OK);
	}
	options.adapters = pool;
	ol_must(ol_scheduler_open(&scheduler, &options, &err), &err);
	for (int i = 0; i < CROWD; i++)
		for (int c = 0; c < crowd[i].choice_count; c++) {
			uint64_t id;
			crowd[i].request.context = &crowd[i].came[c];
			crowd[i].request.answer.sampling.choice = (uint32_t)c;
			if (ol_scheduler_submit(scheduler, &crowd[i].request, &id, &err) !=
			    OL_SUBMIT_OK)
				fail_msg("%s", err.text);
			for (int steps = ol_dice_between(dice, 0, 2); steps > 0; steps--)
				(void)ol_scheduler_step(scheduler);
		}
	for (;;) {
		const bool moved = ol_scheduler_step(scheduler);
		ol_scheduler_stats(scheduler, &stats);
		if (!moved && stats.waiting + stats.prefilling + stats.decoding == 0)
			break;
		if (!moved)
			(void)nanosleep(&(struct timespec){0, 100000}, NULL);
	}
	ol_scheduler_close(scheduler);
	ol_adapter_pool_close(pool);
}

static struct ol_replay replay(const struct asked *a, const struct world *w,
			       struct ol_engine *engine, int adapter_index)
{
	struct ol_runtime runtime = {.model = w->model,
				     .engine = engine,
				     .adapter = adapter_index >= 0 ? w->adapters[adapter_index]
								   : NULL};
	struct ol_replay_choice choices[CHOICES_MAX];
	struct ol_replay result;
	struct ol_error err;
	for (int c = 0; c < a->choice_count; c++)
		choices[c] = (struct ol_replay_choice){a->came[c].tokens, a->came[c].count,
						       a->came[c].finish};
	const struct ol_replay_job job = {.prompt = a->prompt,
					  .prompt_count = a->request.count,
					  .options = a->request.answer,
					  .room = 512,
					  .choices = choices,
					  .choice_count = (size_t)a->choice_count};
	ol_must(ol_replay_answer(&result, &runtime, &job, &err), &err);
	assert_int_equal(ol_engine_pages_free(engine), ol_engine_pages_total(engine));
	return result;
}

static void expect(const struct ol_replay *r, enum ol_replay_verdict verdict, int choice,
		   size_t token)
{
	char text[256];
	ol_replay_text(text, sizeof text, r);
	if (r->verdict != verdict ||
	    (verdict != OL_REPLAY_SAME && (r->choice != (size_t)choice || r->token != token)))
		fail_msg("%s (verdict %d); expected verdict %d, choice %d, token %zu", text,
			 (int)r->verdict, (int)verdict, choice, token);
}

/* Each lie about one choice, told and found where it was told. */
static void forge(struct asked *a, const struct world *w, struct ol_engine *engine,
		  struct ol_dice *dice)
{
	const int c = ol_dice_between(dice, 0, a->choice_count - 1);
	struct came *came = &a->came[c];
	const struct came honest = *came;
	struct ol_replay r;
	if (honest.count > 0) {
		const size_t at = (size_t)ol_dice_between(dice, 0, (int)honest.count - 1);
		came->tokens[at] = (honest.tokens[at] + 1) % w->config.vocab_size;
		r = replay(a, w, engine, a->adapter_index);
		expect(&r, OL_REPLAY_TOKEN, c, at);
		assert_int_equal(r.chosen, honest.tokens[at]);
		*came = honest;

		came->count--; /* said to have ended one token before it did */
		r = replay(a, w, engine, a->adapter_index);
		expect(&r, OL_REPLAY_SHORTER, c, honest.count - 1);
		*came = honest;
	}
	if (honest.count < (size_t)a->request.answer.max_tokens) {
		came->tokens[came->count++] = 3; /* a token more than the answer has */
		r = replay(a, w, engine, a->adapter_index);
		expect(&r, OL_REPLAY_LONGER, c, honest.count);
		*came = honest;
	}
	came->finish = honest.finish == OL_FINISH_STOP ? OL_FINISH_LENGTH : OL_FINISH_STOP;
	r = replay(a, w, engine, a->adapter_index);
	expect(&r, OL_REPLAY_FINISH, c, honest.count);
	/* Who left early may have left anywhere, but what he got must be right. */
	came->finish = OL_FINISH_CANCELLED;
	came->count = (size_t)ol_dice_between(dice, 0, (int)honest.count);
	r = replay(a, w, engine, a->adapter_index);
	expect(&r, OL_REPLAY_SAME, 0, 0);
	*came = honest;
}

/* One model, one crowd on one machine, replayed on another. Returns the answers checked. */
static int round_trip(struct ol_dice *dice, int visit)
{
	static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16, OL_WEIGHT_Q8,
						    OL_WEIGHT_Q4, OL_WEIGHT_NF4};
	const struct ol_kernels *isas[OL_ISAS];
	int isa_count = 0, checked = 0;
	struct world w = {.config = ol_shapes[visit % ol_shape_count].config};
	struct asked *crowd = calloc(CROWD, sizeof *crowd);
	struct ol_error err;
	assert_non_null(crowd);
	for (int isa = (int)ol_first_isa(); isa < OL_ISAS; isa++)
		if (ol_kernels_for((enum ol_isa)isa))
			isas[isa_count++] = ol_kernels_for((enum ol_isa)isa);
	ol_must(ol_model_random(&w.model, &w.config,
				types[ol_dice_between(dice, 0, OL_ARRAY_LEN(types) - 1)],
				(uint32_t)visit + 1, &err),
		&err);
	for (int i = 0; i < ADAPTERS; i++)
		(void)open_adapter(NULL, &w.adapters[i], (char[]){(char)('0' + i), '\0'}, &w.config,
				   NULL);
	const enum ol_kv_type kv = (enum ol_kv_type)ol_dice_between(dice, 0, OL_KV_TYPES - 1);
	struct ol_engine *here = ol_engine_for_test(
		w.model, isas[ol_dice_between(dice, 0, isa_count - 1)], ol_dice_between(dice, 1, 3),
		kv, ol_dice_between(dice, 12, 60) * 16);
	struct ol_engine *there =
		ol_engine_for_test(w.model, isas[ol_dice_between(dice, 0, isa_count - 1)],
				   ol_dice_between(dice, 1, 3), kv, 512);
	for (int i = 0; i < CROWD; i++)
		prepare(&crowd[i], &w, dice, i);
	answer_crowd(crowd, &w, here, dice);
	for (int i = 0; i < CROWD; i++) {
		const struct ol_replay r = replay(&crowd[i], &w, there, crowd[i].adapter_index);
		expect(&r, OL_REPLAY_SAME, 0, 0);
		checked += crowd[i].choice_count;
		if (i % 5 == visit % 5)
			forge(&crowd[i], &w, there, dice);
	}
	ol_engine_close(here);
	ol_engine_close(there);
	for (int i = 0; i < ADAPTERS; i++)
		ol_adapter_close(w.adapters[i]);
	ol_model_close(w.model);
	free(crowd);
	return checked;
}

static void answers_are_replayed_bit_for_bit(void **state)
{
	struct ol_dice dice = {2026};
	const int wanted = ol_slow() ? 10000 : 300;
	int checked = 0;
	(void)state;
	for (int visit = 0; checked < wanted; visit++)
		checked += round_trip(&dice, visit);
	print_message("%d answers replayed\n", checked);
}

/* What is claimed may be nonsense: it gets a sentence, never a verdict. */
static void nonsense_is_refused(void **state)
{
	struct world w = {.config = ol_shapes[0].config};
	struct asked a = {.choice_count = 1, .adapter_index = -1};
	const struct ol_sampling plain = {.top_p = 1.0f, .repeat_penalty = 1.0f};
	struct ol_replay result;
	struct ol_error err;
	(void)state;
	ol_must(ol_model_random(&w.model, &w.config, OL_WEIGHT_F32, 1, &err), &err);
	struct ol_engine *engine =
		ol_engine_for_test(w.model, ol_kernels_best(), 1, OL_KV_F32, 256);
	struct ol_runtime runtime = {.model = w.model, .engine = engine};
	struct ol_replay_choice choice = {a.came[0].tokens, 2, OL_FINISH_LENGTH};
	const struct {
		const char *what;
		size_t prompt_count;
		int max_tokens;
		int32_t token;
	} rows[] = {{"prompt is empty", 0, 2, 1},
		    {"more than the 4", 4, 0, 1},
		    {"token", 3, 2, 1 << 30},
		    {"token", 3, 2, -5}};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		a.came[0].tokens[0] = rows[i].token;
		const struct ol_replay_job job = {
			.prompt = a.prompt,
			.prompt_count = rows[i].prompt_count,
			.options = {.sampling = plain, .max_tokens = rows[i].max_tokens},
			.room = 4,
			.choices = &choice,
			.choice_count = 1};
		assert_int_equal(ol_replay_answer(&result, &runtime, &job, &err), OL_ERR_INPUT);
		if (!strstr(err.text, rows[i].what))
			fail_msg("row %zu: %s", i, err.text);
	}
	ol_engine_close(engine);
	ol_model_close(w.model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_replayed_bit_for_bit),
		cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
