/* A prompt that is read beside answers under way does not hold them up: the promise of
 * node/scheduler.h, on machines that a fake clock makes up. Whatever a machine is like, as long as
 * a row costs what rows before it did or more in proportion to how far it looks back, no answer
 * waits longer than max(0.1 s, twice its usual gap), and the prompt is read all the same. */
#include "node/pace.h"
#include "node/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPT = 4000, STREAMS_MAX = 33, GAPS_MAX = 40000 };

static const struct ol_config tiny = {.arch = OL_ARCH_LLAMA,
				      .vocab_size = 16,
				      .hidden = 16,
				      .ffn = 16,
				      .layers = 1,
				      .heads = 1,
				      .kv_heads = 1,
				      .head_dim = 16,
				      .context_max = 8192,
				      .norm_eps = 1e-5f,
				      .embed_scale = 1.0f,
				      .attention_scale = 0.25f,
				      .rope_theta = 10000.0,
				      .rope_theta_local = 10000.0,
				      .bos_id = -1,
				      .eos_count = 0};

/* Seconds of a step, of a row of it, and of a row for each position it looks back on. */
struct machine {
	const char *name;
	double step, row, back, noise;
	int streams;
};

struct world {
	struct machine m;
	struct ol_scheduler *scheduler;
	double time;
	uint32_t random;
	double last, *gaps; /* between tokens of an answer under way */
	int gap_count;
};

static double now(void *context)
{
	const struct world *w = context;
	return w->time;
}

/* Time passes by the machine's law. */
static enum ol_status step(void *context, struct ol_engine *engine, struct ol_run *runs, int count,
			   struct ol_error *err)
{
	struct world *w = context;
	double seconds = w->m.step;
	for (int i = 0; i < count; i++) {
		const double from = ol_session_length(runs[i].session);
		seconds += runs[i].count * (w->m.row + w->m.back * (from + 0.5 * runs[i].count));
	}
	w->random = w->random * 1664525u + 1013904223u;
	seconds *= 1.0 + w->m.noise * ((double)(w->random >> 8) / (1 << 23) - 1.0);
	w->time += seconds;
	return ol_engine_step(engine, runs, count, err);
}

/* Every answer under way gets a token in every step: the time between two is everybody's gap. */
static void on_step(void *context, int answers, int prompt_rows, double seconds)
{
	struct world *w = context;
	(void)seconds;
	(void)prompt_rows;
	assert_true(w->last == 0.0 || answers >= w->m.streams);
	if (answers < w->m.streams) /* not all have begun */
		return;
	if (w->last > 0.0 && w->gap_count < GAPS_MAX)
		w->gaps[w->gap_count++] = w->time - w->last;
	w->last = w->time;
}

static void on_done(void *context, enum ol_outcome outcome, struct ol_generation *g,
		    const struct ol_error *err)
{
	bool *done = context;
	(void)outcome;
	(void)g;
	(void)err;
	*done = true;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static struct ol_model *model;
static int32_t prompt[PROMPT];

static void submit(struct world *w, int length, int max_tokens, uint64_t tenant, bool *done)
{
	const struct ol_request r = {
		.tenant = tenant,
		.prompt = prompt,
		.count = (size_t)length,
		.answer = {.max_tokens = max_tokens,
			   .ignore_eos = true,
			   .sampling = {.top_p = 1.0f, .repeat_penalty = 1.0f}},
		.on_done = on_done,
		.context = done};
	struct ol_error err;
	uint64_t id;
	*done = false;
	if (ol_scheduler_submit(w->scheduler, &r, &id, &err) != OL_SUBMIT_OK)
		fail_msg("%s", err.text);
}

/* Streams run, then a long prompt comes, then another beside a short one. */
static void run_machine(const struct machine *m)
{
	struct world w = {.m = *m, .time = 1.0, .random = 7};
	struct ol_engine *engine;
	struct ol_error err;
	bool done[STREAMS_MAX], read[3];
	const struct ol_engine_options options = {
		.threads = 1, .kv_positions = 60000, .step_rows = 256};
	assert_int_equal(ol_engine_open(&engine, model, &options, &err), OL_OK);
	const struct ol_scheduler_options scheduling = {.engine = engine,
							.batch_max = STREAMS_MAX + 3,
							.now = now,
							.engine_step = step,
							.on_step = on_step,
							.context = &w};
	assert_int_equal(ol_scheduler_open(&w.scheduler, &scheduling, &err), OL_OK);
	w.gaps = calloc(GAPS_MAX, sizeof *w.gaps);
	for (int i = 0; i < m->streams; i++)
		submit(&w, 3 + i, 2000, 1, &done[i]);
	for (int i = 0; i < 200; i++)
		assert_true(ol_scheduler_step(w.scheduler));
	/* The streams' usual gaps, before anybody disturbs them. */
	const int quiet = w.gap_count;
	double *sorted = calloc(GAPS_MAX, sizeof *sorted);
	memcpy(sorted, w.gaps, (size_t)quiet * sizeof *sorted);
	qsort(sorted, (size_t)quiet, sizeof *sorted, compare);
	const double bound = OL_MAX(0.1, 2.0 * sorted[quiet / 2]);
	const double start = w.time;
	submit(&w, PROMPT, 1, 2, &read[0]);
	while (!read[0])
		assert_true(ol_scheduler_step(w.scheduler));
	const double first = w.time - start;
	submit(&w, PROMPT, 1, 2, &read[1]);
	for (int i = 0; i < 10; i++)
		assert_true(ol_scheduler_step(w.scheduler));
	const double later = w.time;
	submit(&w, 20, 1, 3, &read[2]);
	while (!read[2])
		assert_true(ol_scheduler_step(w.scheduler));
	const double soon = w.time - later;
	while (!read[1])
		assert_true(ol_scheduler_step(w.scheduler));
	double most = 0.0;
	for (int i = quiet; i < w.gap_count; i++)
		most = OL_MAX(most, w.gaps[i]);
	/* What reading takes at the least: it may fill a bound, less what the answers need. */
	const double usual = sorted[quiet / 2];
	const double work = PROMPT * (m->row + m->back * PROMPT / 2);
	const double ideal = work * bound / OL_MAX(bound - usual, 1e-9);
	print_message("%-28s bound %6.1f ms, longest gap %6.1f ms, prompt %.2f s (at best %.2f), "
		      "short one %.2f s\n",
		      m->name, 1e3 * bound, 1e3 * most, first, ideal, soon);
	assert_true(most <= bound);
	assert_true(first <= 2.5 * ideal + 64 * bound);
	assert_true(soon <= 12 * bound);
	free(w.gaps);
	free(sorted);
	ol_scheduler_close(w.scheduler);
	ol_engine_close(engine);
}

static void test_no_machine_stalls(void **state)
{
	static const struct machine machines[] = {
		{"fast", 1e-3, 2e-5, 5e-9, 0.0, 8},
		{"middling", 5e-3, 2e-4, 5e-8, 0.05, 4},
		{"slow rows", 10e-3, 3e-3, 1e-7, 0.05, 4},
		{"slow", 80e-3, 5e-3, 1e-6, 0.05, 2},
		{"attention is all", 2e-3, 1e-5, 2e-6, 0.0, 4},
		{"attention, slow and noisy", 20e-3, 1e-4, 2e-6, 0.08, 1},
		{"many streams", 4e-3, 4e-4, 2e-8, 0.05, 32},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(machines); i++)
		run_machine(&machines[i]);
}

/* The arithmetic by itself. */
static void test_pace(void **state)
{
	struct ol_pace p;
	(void)state;
	ol_pace_init(&p, 0.1);
	assert_int_equal(ol_pace_rows(&p, 0, 0, 256), 256); /* nobody waits */
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 0);   /* first what the answers need */
	ol_pace_measured(&p, 0.010, 1, 0, 0, true);
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 1); /* rows are not known */
	ol_pace_measured(&p, 0.011, 1, 1, 100, false);
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 2); /* at most twice as many */
	ol_pace_measured(&p, 0.010 + 64 * 0.001, 1, 64, 1000, false);
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 75);    /* 85 ms - 10 ms, 1 ms each */
	assert_int_equal(ol_pace_rows(&p, 1, 2000, 256), 37); /* twice as far back */
	assert_int_equal(ol_pace_rows(&p, 2, 0, 256), 65);    /* two answers */
	assert_int_equal(ol_pace_rows(&p, 3, 0, 256), 0);     /* another crowd */
	assert_int_equal(ol_pace_rows(&p, 1, 0, 40), 40);
	ol_pace_measured(&p, 0.012, 1, 2, 5, true); /* the rest of a prompt says nothing */
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 75);
	ol_pace_measured(&p, 0.5, 1, 2, 1000, true); /* unless it took long */
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 1);
	/* Slow machines: there is always a row, and the bound is twice the usual step. */
	ol_pace_init(&p, 0.1);
	ol_pace_measured(&p, 0.2, 1, 0, 0, true);
	ol_pace_measured(&p, 0.2 + 32 * 0.005, 1, 32, 1000, false);
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 28); /* 340 ms - 200 ms, 5 ms each */
	/* The median: one slow step changes nothing. */
	for (int i = 0; i < 5; i++)
		ol_pace_measured(&p, i == 3 ? 9.0 : 0.2, 1, 0, 0, true);
	assert_true(ol_pace_step(&p) == 0.2);
	/* The answers' time is measured anew now and then. */
	for (int i = 0; i < 64; i++)
		ol_pace_measured(&p, 0.3, 1, 8, 1000, false);
	assert_int_equal(ol_pace_rows(&p, 1, 0, 256), 0);
}

static int open_model(void **state)
{
	(void)state;
	for (int i = 0; i < PROMPT; i++)
		prompt[i] = i * i % 15;
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
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_no_machine_stalls),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
