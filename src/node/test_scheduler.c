/* Many answers at once: each says what it would say alone, whoever else is there, however it was
 * cut, preempted or shared; every outcome happens; shares are fair. */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "math/functions.h"
#include "node/scheduler.h"

static const struct ol_config tiny = {.arch = OL_ARCH_LLAMA,
				      .vocab_size = 64,
				      .hidden = 32,
				      .ffn = 48,
				      .layers = 2,
				      .heads = 2,
				      .kv_heads = 1,
				      .head_dim = 16,
				      .context_max = 256,
				      .norm_eps = 1e-5f,
				      .embed_scale = 1.0f,
				      .attention_scale = 0.25f,
				      .rope_theta = 10000.0,
				      .rope_theta_local = 10000.0,
				      .bos_id = -1,
				      .eos_ids = {7},
				      .eos_count = 1};

enum { ADAPTERS = 3, TOKENS_MAX = 512 };

static struct ol_model *model;

/* While it is set, adapter 77 is not read to its end. */
static atomic_bool held;

/* --- adapters that lie in no folder ---------------------------------------- */

static enum ol_status open_adapter(void *self, struct ol_adapter **out, const char *folder,
				   const struct ol_config *base, struct ol_error *err)
{
	const uint32_t seed = (uint32_t)strtoul(folder, NULL, 10);
	const int rank = (int)(2 + seed % 5);
	const struct ol_adapter_config settings = {
		.rank = rank, .alpha = 8.0f, .targets = OL_TARGETS_ALL, .base_name = "tiny"};
	struct ol_lora_tensors tensors[2 * OL_LAYER_LINEARS + 1] = {0};
	uint16_t *values = malloc(sizeof *values * 64 * 16 * 64);
	size_t at = 0;
	(void)self;
	while (seed == 77 && atomic_load(&held))
		(void)nanosleep(&(struct timespec){0, 100000}, NULL);
	if (seed == 13) {
		free(values);
		return ol_fail(err, OL_ERR_INPUT, "adapter 13 is broken");
	}
	for (int i = 0; i < 2 * OL_LAYER_LINEARS; i++) {
		int outputs, inputs;
		ol_linear_shape(base, (enum ol_linear)(i % OL_LAYER_LINEARS), &outputs, &inputs);
		tensors[i] = (struct ol_lora_tensors){rank, 8.0f / (float)rank, values + at,
						      values + at + (size_t)(rank * inputs)};
		for (int k = 0; k < rank * (inputs + outputs); k++, at++) {
			const uint32_t counter[4] = {(uint32_t)at, seed, 0, 0}, key[2] = {1, 2};
			uint32_t word[4];
			ol_philox(word, counter, key);
			values[at] = ol_f32_to_bf16((float)(0.5 * ol_unit_double(word[0]) - 0.25));
		}
	}
	const enum ol_status s = ol_adapter_make(out, base, &settings, tensors, err);
	free(values);
	return s;
}

static size_t adapter_bytes(void *self, const char *folder)
{
	(void)self;
	(void)folder;
	return 4096;
}

static const struct ol_adapter_source source = {open_adapter, adapter_bytes, NULL};

/* --- a world ---------------------------------------------------------------- */

struct world {
	struct ol_engine *engine;
	struct ol_adapter_pool *pool;
	struct ol_scheduler *scheduler;
	double time;
};

static double world_now(void *context)
{
	struct world *w = context;
	return w->time;
}

static void open_world(struct world *w, int64_t positions, int step_rows,
		       struct ol_scheduler_options options)
{
	static const char *const names[] = {"0", "1", "2", "13", "77"};
	struct ol_error err;
	const struct ol_engine_options engine = {
		.threads = 1, .kv_positions = positions, .step_rows = step_rows};
	memset(w, 0, sizeof *w);
	if (ol_engine_open(&w->engine, model, &engine, &err) != OL_OK)
		fail_msg("%s", err.text);
	const struct ol_adapter_pool_options pool = {
		.base = &tiny, .bytes_max = (size_t)1 << 24, .source = &source};
	assert_int_equal(ol_adapter_pool_open(&w->pool, &pool, &err), OL_OK);
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++)
		assert_int_equal(ol_adapter_pool_register(w->pool, names[i], names[i], NULL),
				 OL_REGISTER_OK);
	options.engine = w->engine;
	options.adapters = w->pool;
	options.now = world_now;
	options.context = w;
	w->time = 1.0;
	if (ol_scheduler_open(&w->scheduler, &options, &err) != OL_OK)
		fail_msg("%s", err.text);
}

static void close_world(struct world *w)
{
	ol_scheduler_close(w->scheduler);
	ol_adapter_pool_close(w->pool);
	assert_int_equal(ol_engine_pages_free(w->engine), ol_engine_pages_total(w->engine));
	ol_engine_close(w->engine);
}

/* One request and what came of it. */
struct asked {
	struct ol_request request;
	int32_t prompt[TOKENS_MAX];
	char adapter[8];
	uint64_t id;
	bool done;
	enum ol_outcome outcome;
	int32_t answer[TOKENS_MAX];
	size_t count;
	char text[OL_ERROR_TEXT_MAX];
	int order; /* among those that ended */
};

static int ended;

static void on_done(void *context, enum ol_outcome outcome, struct ol_generation *generation,
		    const struct ol_error *err)
{
	struct asked *a = context;
	OL_ASSERT(!a->done);
	a->done = true;
	a->outcome = outcome;
	a->count = generation->tokens.count;
	a->order = ended++;
	for (size_t i = 0; i < a->count; i++)
		a->answer[i] = generation->tokens.ids[i];
	if (err)
		(void)snprintf(a->text, sizeof a->text, "%s", err->text);
}

static uint32_t below(uint32_t *seed, uint32_t n)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % n;
}

static void prepare(struct asked *a, uint32_t seed, int length, int max_tokens)
{
	memset(a, 0, sizeof *a);
	for (int i = 0; i < length; i++)
		a->prompt[i] = (int32_t)(8 + below(&seed, 56));
	a->request = (struct ol_request){.tenant = 1,
					 .prompt = a->prompt,
					 .count = (size_t)length,
					 .on_done = on_done,
					 .context = a};
	a->request.answer = (struct ol_answer_options){
		.max_tokens = max_tokens,
		.sampling = {
			.temperature = 1.0f, .top_p = 1.0f, .repeat_penalty = 1.0f, .seed = seed}};
}

static void set_adapter(struct asked *a, const char *name)
{
	(void)snprintf(a->adapter, sizeof a->adapter, "%s", name);
	a->request.adapter = a->adapter;
}

static void submit(struct world *w, struct asked *a)
{
	struct ol_error err = {0};
	const enum ol_submit r = ol_scheduler_submit(w->scheduler, &a->request, &a->id, &err);
	if (r != OL_SUBMIT_OK)
		fail_msg("submit %d: %s", (int)r, err.text);
}

/* Steps until nothing is left; adapters are read by threads, so a step may find nothing to do. */
static void run_dry(struct world *w)
{
	struct ol_scheduler_stats stats;
	for (;;) {
		const bool moved = ol_scheduler_step(w->scheduler);
		w->time += 0.001;
		ol_scheduler_stats(w->scheduler, &stats);
		if (!moved && stats.waiting + stats.prefilling + stats.decoding == 0)
			return;
		if (!moved)
			(void)nanosleep(&(struct timespec){0, 100000}, NULL);
	}
}

/* The same request with a machine of its own. */
static void alone(const struct asked *a, struct asked *out)
{
	struct world w;
	open_world(&w, 512, 256, (struct ol_scheduler_options){.batch_max = 1});
	*out = *a;
	out->done = false;
	out->request.prompt = out->prompt;
	out->request.adapter = a->request.adapter ? out->adapter : NULL;
	out->request.context = out;
	submit(&w, out);
	run_dry(&w);
	close_world(&w);
}

static void expect_same(const struct asked *a)
{
	struct asked *b = malloc(sizeof *b);
	assert_true(a->done);
	assert_int_equal(a->outcome, OL_OUTCOME_DONE);
	alone(a, b);
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->answer, b->answer, a->count * sizeof *a->answer);
	free(b);
}

/* --- tests ------------------------------------------------------------------ */

/* Random crowds in small machines: few pages (preemption), short steps (chunks), prefixes kept or
 * not, adapters mixed, arrivals at any time. */
static void test_bits_do_not_depend_on_company(void **state)
{
	enum { CROWD = 24, WARM = 3 };
	static const char *const names[] = {"0", "1", "2"};
	static const struct {
		int64_t positions;
		int step_rows, batch_max, prefixes_max;
	} rows[] = {{4096, 256, 32, 0}, {4096, 64, 8, 4}, {320, 32, 16, 3}, {288, 16, 16, 0}};
	struct asked *asked = calloc(CROWD, sizeof *asked);
	(void)state;
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		struct world w;
		struct ol_scheduler_stats stats;
		uint32_t seed = 99 + (uint32_t)r;
		open_world(&w, rows[r].positions, rows[r].step_rows,
			   (struct ol_scheduler_options){.batch_max = rows[r].batch_max,
							 .prefixes_max = rows[r].prefixes_max});
		/* Read before the crowd comes: how slow the readers are must not spread it. */
		for (int i = 0; i < WARM; i++) {
			prepare(&asked[i], 1, 1, 1);
			set_adapter(&asked[i], names[i]);
			submit(&w, &asked[i]);
		}
		run_dry(&w);
		for (int i = 0; i < CROWD; i++) {
			/* A third begins alike, so that there is something to share. */
			prepare(&asked[i], i % 3 ? 1000 + (uint32_t)i : 5,
				1 + (int)below(&seed, 90), 1 + (int)below(&seed, 40));
			asked[i].request.tenant = i % 3 ? below(&seed, 3) : 0;
			asked[i].request.answer.sampling.seed = (uint64_t)i;
			if (below(&seed, 4) || i % 3 == 0)
				set_adapter(&asked[i], names[i % 3 ? below(&seed, 3) : 0]);
			submit(&w, &asked[i]);
			for (uint32_t s = below(&seed, 4); s > 0; s--)
				(void)ol_scheduler_step(w.scheduler);
		}
		run_dry(&w);
		ol_scheduler_stats(w.scheduler, &stats);
		assert_int_equal(stats.finished, CROWD + WARM);
		assert_true(rows[r].positions > 1000 || stats.preempted > 0);
		assert_true(r != 1 || stats.shared_tokens > 0);
		for (int i = 0; i < CROWD; i++)
			expect_same(&asked[i]);
		close_world(&w);
	}
	free(asked);
}

static void test_outcomes(void **state)
{
	struct world w;
	struct asked *a = calloc(1, sizeof *a);
	(void)state;
	open_world(&w, 512, 64,
		   (struct ol_scheduler_options){.queue_max = 3, .tenant_queue_max = 2});
	prepare(&a[0], 1, 20, 5);
	set_adapter(&a[0], "nobody");
	submit(&w, &a[0]);
	run_dry(&w);
	assert_int_equal(a[0].outcome, OL_OUTCOME_UNKNOWN_ADAPTER);
	assert_non_null(strstr(a[0].text, "nobody"));

	prepare(&a[0], 1, 20, 5);
	set_adapter(&a[0], "13");
	submit(&w, &a[0]);
	run_dry(&w);
	assert_int_equal(a[0].outcome, OL_OUTCOME_BROKEN_ADAPTER);
	assert_non_null(strstr(a[0].text, "13 is broken"));

	prepare(&a[0], 1, 20, 5);
	a[0].request.deadline = w.time - 0.5;
	submit(&w, &a[0]);
	run_dry(&w);
	assert_int_equal(a[0].outcome, OL_OUTCOME_DEADLINE);

	close_world(&w);
	free(a);
}

/* Cancelled or over its time, under way and while it waits. */
static void test_endings(void **state)
{
	struct world w;
	struct ol_error err;
	uint64_t id;
	struct asked *a = calloc(4, sizeof *a);
	(void)state;
	open_world(&w, 512, 64,
		   (struct ol_scheduler_options){.queue_max = 3, .tenant_queue_max = 2});
	/* While it runs: what there is so far stays. */
	prepare(&a[0], 1, 20, 200);
	prepare(&a[1], 2, 20, 200);
	a[0].request.answer.ignore_eos = a[1].request.answer.ignore_eos = true;
	a[1].request.deadline = w.time + 0.02;
	submit(&w, &a[0]);
	submit(&w, &a[1]);
	for (int i = 0; i < 10; i++, w.time += 0.001)
		(void)ol_scheduler_step(w.scheduler);
	ol_scheduler_cancel(w.scheduler, a[0].id);
	run_dry(&w);
	assert_int_equal(a[0].outcome, OL_OUTCOME_CANCELLED);
	assert_in_range(a[0].count, 5, 11);
	assert_int_equal(a[1].outcome, OL_OUTCOME_DEADLINE);
	assert_in_range(a[1].count, 11, 25);

	/* While it waits. */
	for (int i = 0; i < 3; i++) {
		prepare(&a[i], 1, 20, 5);
		a[i].request.tenant = i == 2 ? 2 : 1;
		submit(&w, &a[i]);
	}
	prepare(&a[3], 1, 20, 5);
	assert_int_equal(ol_scheduler_submit(w.scheduler, &a[3].request, &id, &err),
			 OL_SUBMIT_FULL);
	ol_scheduler_cancel(w.scheduler, a[2].id);
	ol_scheduler_cancel(w.scheduler, 12345);
	(void)ol_scheduler_step(w.scheduler);
	assert_int_equal(a[2].outcome, OL_OUTCOME_CANCELLED);
	assert_int_equal(a[2].count, 0);
	run_dry(&w);
	for (int i = 0; i < 2; i++) {
		prepare(&a[i], 1, 20, 5);
		submit(&w, &a[i]);
	}
	assert_int_equal(ol_scheduler_submit(w.scheduler, &a[3].request, &id, &err),
			 OL_SUBMIT_TENANT_FULL);
	run_dry(&w);

	close_world(&w);
	free(a);
}

static void test_refusals_and_stopping(void **state)
{
	struct world w;
	struct ol_error err;
	uint64_t id;
	struct asked *a = calloc(6, sizeof *a);
	(void)state;
	open_world(&w, 512, 64, (struct ol_scheduler_options){0});
	prepare(&a[3], 1, 300, 5);
	assert_int_equal(ol_scheduler_submit(w.scheduler, &a[3].request, &id, &err),
			 OL_SUBMIT_INVALID);
	assert_non_null(strstr(err.text, "the context holds 256"));
	prepare(&a[3], 1, 20, 5);
	a[3].request.answer.sampling.top_p = 3.0f;
	assert_int_equal(ol_scheduler_submit(w.scheduler, &a[3].request, &id, &err),
			 OL_SUBMIT_INVALID);
	prepare(&a[4], 1, 20, 5);
	submit(&w, &a[4]);
	ol_scheduler_stop(w.scheduler, true);
	prepare(&a[5], 1, 20, 5);
	assert_int_equal(ol_scheduler_submit(w.scheduler, &a[5].request, &id, &err),
			 OL_SUBMIT_CLOSED);
	ol_scheduler_run(w.scheduler); /* returns when a[4] has ended */
	assert_int_equal(a[4].outcome, OL_OUTCOME_DONE);
	close_world(&w);

	open_world(&w, 512, 64, (struct ol_scheduler_options){.batch_max = 1});
	for (int i = 0; i < 2; i++) {
		prepare(&a[i], 1, 20, 50);
		submit(&w, &a[i]);
	}
	(void)ol_scheduler_step(w.scheduler);
	close_world(&w);
	assert_int_equal(a[0].outcome, OL_OUTCOME_STOPPED);
	assert_int_equal(a[1].outcome, OL_OUTCOME_STOPPED);
	free(a);
}

/* The same prompt costs less the second time; another tenant or adapter gains nothing by it. */
static void test_prefixes_stay_in_the_family(void **state)
{
	static const struct {
		uint64_t tenant;
		const char *adapter;
		uint64_t shared;
	} rows[] = {{1, "0", 0}, {1, "0", 63}, {2, "0", 0},
		    {1, "1", 0}, {1, NULL, 0}, {2, "0", 63}};
	struct world w;
	uint64_t before = 0;
	struct asked *a = calloc(1, sizeof *a);
	(void)state;
	open_world(&w, 2048, 256, (struct ol_scheduler_options){.prefixes_max = 8});
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		struct ol_scheduler_stats stats;
		prepare(a, 77, 64, 3);
		a->request.tenant = rows[r].tenant;
		if (rows[r].adapter)
			set_adapter(a, rows[r].adapter);
		submit(&w, a);
		run_dry(&w);
		ol_scheduler_stats(w.scheduler, &stats);
		assert_int_equal(stats.shared_tokens - before, rows[r].shared);
		before = stats.shared_tokens;
	}
	close_world(&w);
	free(a);
}

/* Choices of one prompt: it is read once. */
static void test_groups_read_once(void **state)
{
	enum { CHOICES = 5, LENGTH = 100 };
	struct world w;
	struct ol_scheduler_stats stats;
	struct asked *a = calloc(CHOICES, sizeof *a);
	(void)state;
	open_world(&w, 2048, 32, (struct ol_scheduler_options){0});
	for (int i = 0; i < CHOICES; i++) {
		prepare(&a[i], 3, LENGTH, 8);
		a[i].request.group = 9;
		a[i].request.answer.sampling.choice = (uint32_t)i;
		submit(&w, &a[i]);
	}
	run_dry(&w);
	ol_scheduler_stats(w.scheduler, &stats);
	assert_int_equal(stats.shared_tokens, (CHOICES - 1) * (LENGTH - 1));
	for (int i = 0; i < CHOICES; i++)
		expect_same(&a[i]);
	close_world(&w);
	free(a);
}

/* One tenant floods, another asks now and then: it gets its share of the batch. */
static void test_a_flood_does_not_starve_others(void **state)
{
	enum { FLOOD = 60 };
	struct world w;
	struct asked *a = calloc(FLOOD + 1, sizeof *a);
	(void)state;
	open_world(&w, 4096, 64, (struct ol_scheduler_options){.batch_max = 4});
	for (int i = 0; i < FLOOD; i++) {
		prepare(&a[i], (uint32_t)i, 20, 30);
		a[i].request.answer.ignore_eos = true;
		submit(&w, &a[i]);
	}
	for (int i = 0; i < 5; i++)
		(void)ol_scheduler_step(w.scheduler);
	prepare(&a[FLOOD], 500, 20, 30);
	a[FLOOD].request.tenant = 2;
	a[FLOOD].request.answer.ignore_eos = true;
	submit(&w, &a[FLOOD]);
	ended = 0;
	run_dry(&w);
	assert_true(a[FLOOD].order < 5);
	for (int i = 0; i <= FLOOD; i += 7)
		expect_same(&a[i]);
	close_world(&w);
	free(a);
}

/* A long prompt beside answers under way goes in pieces that keep to the bound. */
static void test_prompts_do_not_stall_answers(void **state)
{
	struct world w;
	struct ol_scheduler_stats stats;
	struct asked *a = calloc(2, sizeof *a);
	uint64_t prompt_before = 0;
	(void)state;
	open_world(&w, 2048, 256, (struct ol_scheduler_options){0});
	prepare(&a[0], 1, 4, 200);
	a[0].request.answer.ignore_eos = true;
	submit(&w, &a[0]);
	for (int i = 0; i < 20; i++)
		(void)ol_scheduler_step(w.scheduler);
	prepare(&a[1], 2, 240, 4);
	submit(&w, &a[1]);
	/* Time does not pass in steps here: nothing is known about rows but how many went well. */
	for (int i = 0; i < 4; i++) {
		ol_scheduler_stats(w.scheduler, &stats);
		prompt_before = stats.prompt_tokens;
		(void)ol_scheduler_step(w.scheduler);
		ol_scheduler_stats(w.scheduler, &stats);
		assert_int_equal(stats.prompt_tokens - prompt_before, 8 << i);
		assert_int_equal(stats.decoding, 1);
	}
	run_dry(&w);
	expect_same(&a[0]);
	expect_same(&a[1]);
	close_world(&w);
	free(a);
}

/* Who waits and is late or cancelled hears of it at once, not when a place comes free. */
static void test_waiting_ends_in_time(void **state)
{
	struct world w;
	struct asked *a = calloc(4, sizeof *a);
	(void)state;
	open_world(&w, 288, 64, (struct ol_scheduler_options){.batch_max = 2});
	for (int i = 0; i < 4; i++) {
		prepare(&a[i], (uint32_t)i, i < 2 ? 120 : 100, 100);
		a[i].request.answer.ignore_eos = true;
	}
	a[2].request.deadline = w.time + 0.01;
	submit(&w, &a[0]);
	for (int i = 0; i < 3; i++)
		(void)ol_scheduler_step(w.scheduler);
	submit(&w, &a[1]);
	submit(&w, &a[2]);
	submit(&w, &a[3]);
	(void)ol_scheduler_step(w.scheduler); /* no pages for a[1]: it is parked, or runs beside */
	w.time += 0.02;
	ol_scheduler_cancel(w.scheduler, a[3].id);
	(void)ol_scheduler_step(w.scheduler);
	assert_true(a[2].done && a[2].outcome == OL_OUTCOME_DEADLINE);
	assert_true(a[3].done && a[3].outcome == OL_OUTCOME_CANCELLED);
	ol_scheduler_cancel(w.scheduler, a[1].id);
	(void)ol_scheduler_step(w.scheduler);
	assert_true(a[1].done && a[1].outcome == OL_OUTCOME_CANCELLED);
	assert_false(a[0].done);
	run_dry(&w);
	expect_same(&a[0]);
	close_world(&w);
	free(a);
}

/* A request that needs many pages gets them, however many small ones come after it. */
static void test_small_ones_do_not_starve_a_big_one(void **state)
{
	enum { SMALL = 100 };
	struct world w;
	struct asked *a = calloc(SMALL + 2, sizeof *a);
	(void)state;
	open_world(&w, 320, 64, (struct ol_scheduler_options){.batch_max = 8});
	for (int i = 0; i < SMALL + 1; i++) {
		prepare(&a[i], (uint32_t)i, 4, 10);
		a[i].request.answer.ignore_eos = true;
	}
	prepare(&a[SMALL + 1], 999, 230, 10);
	a[SMALL + 1].request.tenant = 2;
	ended = 0;
	for (int i = 0; i < SMALL; i++) {
		submit(&w, &a[i]);
		if (i == 10)
			submit(&w, &a[SMALL + 1]);
		(void)ol_scheduler_step(w.scheduler);
	}
	run_dry(&w);
	assert_in_range(a[SMALL + 1].order, 0, 20);
	expect_same(&a[SMALL + 1]);
	close_world(&w);
	free(a);
}

/* One tenant asks for an adapter that is not there yet, again and again; others are answered. */
static void test_waiting_for_adapters_blocks_nobody(void **state)
{
	enum { COLD = 20 };
	struct world w;
	struct asked *a = calloc(COLD + 1, sizeof *a);
	(void)state;
	atomic_store(&held, true);
	open_world(&w, 2048, 64, (struct ol_scheduler_options){.batch_max = 8});
	for (int i = 0; i < COLD; i++) {
		prepare(&a[i], (uint32_t)i, 20, 4);
		set_adapter(&a[i], "77");
		submit(&w, &a[i]);
	}
	for (int i = 0; i < 5; i++)
		(void)ol_scheduler_step(w.scheduler);
	prepare(&a[COLD], 500, 20, 4);
	a[COLD].request.tenant = 2;
	submit(&w, &a[COLD]);
	for (int i = 0; i < 20; i++)
		(void)ol_scheduler_step(w.scheduler);
	assert_true(a[COLD].done);
	assert_false(a[0].done);
	atomic_store(&held, false);
	run_dry(&w);
	for (int i = 0; i <= COLD; i += 5)
		expect_same(&a[i]);
	close_world(&w);
	free(a);
}

/* Being fair costs little: an answer is put aside for another tenant's now and then, not in every
 * step. */
static void test_fairness_does_not_thrash(void **state)
{
	enum { TENANTS = 3, EACH = 24 };
	struct world w;
	struct ol_scheduler_stats stats;
	struct asked *a = calloc(TENANTS * EACH, sizeof *a);
	uint32_t seed = 4;
	(void)state;
	open_world(&w, 4096, 64, (struct ol_scheduler_options){.batch_max = 6, .prefixes_max = 4});
	for (int i = 0; i < TENANTS * EACH; i++) {
		prepare(&a[i], (uint32_t)i, 10 + (int)below(&seed, 60), 5 + (int)below(&seed, 30));
		a[i].request.tenant = (uint64_t)(i / EACH);
		a[i].request.weight = 1.0 + i / EACH;
		submit(&w, &a[i]);
		for (uint32_t n = below(&seed, 6); n > 0; n--)
			(void)ol_scheduler_step(w.scheduler);
	}
	run_dry(&w);
	ol_scheduler_stats(w.scheduler, &stats);
	assert_in_range(stats.preempted, 0, TENANTS * EACH / 4);
	for (int i = 0; i < TENANTS * EACH; i += 11)
		expect_same(&a[i]);
	close_world(&w);
	free(a);
}

/* A token that no vocabulary has is the asker's mistake, and nobody else's step. */
static void test_tokens_are_checked(void **state)
{
	static const int32_t wrong[] = {-1, 64, INT32_MAX};
	struct world w;
	struct ol_error err;
	uint64_t id;
	struct asked *a = calloc(1, sizeof *a);
	(void)state;
	open_world(&w, 512, 64, (struct ol_scheduler_options){0});
	for (size_t i = 0; i < OL_ARRAY_LEN(wrong); i++) {
		prepare(a, 1, 20, 5);
		a->prompt[7] = wrong[i];
		assert_int_equal(ol_scheduler_submit(w.scheduler, &a->request, &id, &err),
				 OL_SUBMIT_INVALID);
		assert_non_null(strstr(err.text, "token 7 of the prompt"));
	}
	close_world(&w);
	free(a);
}

/* Threads that submit, cancel and wake at any time while it runs; stopping drains. */
enum { CLIENTS = 4, PER_CLIENT = 25 };

struct client {
	struct world *w;
	struct asked *asked; /* (PER_CLIENT) */
	uint32_t seed;
};

static void *be_a_client(void *argument)
{
	struct client *c = argument;
	for (int i = 0; i < PER_CLIENT; i++) {
		struct asked *a = &c->asked[i];
		struct ol_error err;
		if (ol_scheduler_submit(c->w->scheduler, &a->request, &a->id, &err) != OL_SUBMIT_OK)
			return argument;
		if (below(&c->seed, 3) == 0)
			ol_scheduler_cancel(c->w->scheduler, a->id);
		if (below(&c->seed, 3) == 0)
			ol_scheduler_wake(c->w->scheduler);
		if (below(&c->seed, 2) == 0)
			(void)nanosleep(&(struct timespec){0, 50000}, NULL);
	}
	return NULL;
}

static void *be_the_worker(void *argument)
{
	struct world *w = argument;
	ol_scheduler_run(w->scheduler);
	return NULL;
}

static void test_many_threads(void **state)
{
	struct world w;
	pthread_t worker, threads[CLIENTS];
	struct client clients[CLIENTS];
	struct asked *a = calloc(CLIENTS * PER_CLIENT, sizeof *a);
	int done = 0;
	(void)state;
	open_world(&w, 2048, 64, (struct ol_scheduler_options){.batch_max = 6, .prefixes_max = 2});
	for (int i = 0; i < CLIENTS * PER_CLIENT; i++) {
		prepare(&a[i], (uint32_t)i, 5 + i % 40, 1 + i % 12);
		a[i].request.tenant = (uint64_t)(i / PER_CLIENT);
		a[i].request.weight = 1.0 + i % 3;
		if (i % 2)
			set_adapter(&a[i], i % 4 == 1 ? "0" : "1");
	}
	assert_int_equal(pthread_create(&worker, NULL, be_the_worker, &w), 0);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){&w, a + i * PER_CLIENT, (uint32_t)i + 1};
		assert_int_equal(pthread_create(&threads[i], NULL, be_a_client, &clients[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++) {
		void *failed;
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	ol_scheduler_stop(w.scheduler, true);
	assert_int_equal(pthread_join(worker, NULL), 0);
	for (int i = 0; i < CLIENTS * PER_CLIENT; i++) {
		assert_true(a[i].done);
		done += a[i].outcome == OL_OUTCOME_DONE;
		if (a[i].outcome == OL_OUTCOME_DONE && i % 9 == 0)
			expect_same(&a[i]);
	}
	assert_in_range(done, CLIENTS * PER_CLIENT / 2, CLIENTS * PER_CLIENT);
	close_world(&w);
	free(a);
}

static int open_model(void **state)
{
	(void)state;
	return ol_model_random(&model, &tiny, OL_WEIGHT_Q8, 3, NULL) == OL_OK ? 0 : -1;
}

static int close_model(void **state)
{
	(void)state;
	ol_model_close(model);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits_do_not_depend_on_company),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_endings),
		cmocka_unit_test(test_refusals_and_stopping),
		cmocka_unit_test(test_prefixes_stay_in_the_family),
		cmocka_unit_test(test_groups_read_once),
		cmocka_unit_test(test_a_flood_does_not_starve_others),
		cmocka_unit_test(test_prompts_do_not_stall_answers),
		cmocka_unit_test(test_waiting_ends_in_time),
		cmocka_unit_test(test_small_ones_do_not_starve_a_big_one),
		cmocka_unit_test(test_waiting_for_adapters_blocks_nobody),
		cmocka_unit_test(test_fairness_does_not_thrash),
		cmocka_unit_test(test_tokens_are_checked),
		cmocka_unit_test(test_many_threads),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
