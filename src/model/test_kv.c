/* The page pool under random life: sessions that grow, fork, shrink and close, beside a model that
 * counts. No page may leak, be held by two owners that write, or change under a sharer. */
#include "model/engine.h"
#include "math/functions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 31, POSITIONS = 64 * OL_KV_PAGE, SESSIONS = 12, LENGTH_MAX = 100 };

static struct ol_config tiny_config(void)
{
	return (struct ol_config){
		.arch = OL_ARCH_LLAMA,
		.vocab_size = VOCAB,
		.hidden = 12,
		.ffn = 20,
		.layers = 2,
		.heads = 2,
		.kv_heads = 1,
		.head_dim = 6,
		.context_max = POSITIONS,
		.norm_eps = 1e-5f,
		.embed_scale = 1.0f,
		.attention_scale = 0.408f,
		.rope_theta = 10000.0,
		.rope_theta_local = 10000.0,
		.bos_id = -1,
	};
}

struct world {
	struct ol_model *model;
	struct ol_engine *engine;
	struct ol_session *sessions[SESSIONS];
	int32_t tokens[SESSIONS][LENGTH_MAX]; /* what each session has been told */
	int lengths[SESSIONS];
	uint32_t counter;
};

static uint32_t random_below(struct world *w, uint32_t n)
{
	uint32_t words[4];
	ol_philox(words, (const uint32_t[4]){w->counter++, 0, 0, 0}, (const uint32_t[2]){5, 0});
	return words[0] % n;
}

static void open_world(struct world *w, int64_t positions)
{
	const struct ol_config config = tiny_config();
	struct ol_engine_options options = {.threads = 1, .kv_positions = positions};
	struct ol_error err;
	*w = (struct world){0};
	assert_int_equal(ol_model_random(&w->model, &config, OL_WEIGHT_F32, 3, &err), OL_OK);
	assert_int_equal(ol_engine_open(&w->engine, w->model, &options, &err), OL_OK);
}

static void close_world(struct world *w)
{
	for (int i = 0; i < SESSIONS; i++)
		ol_session_close(w->sessions[i]);
	assert_int_equal(ol_engine_pages_free(w->engine), ol_engine_pages_total(w->engine));
	ol_engine_close(w->engine);
	ol_model_close(w->model);
}

/* Appends tokens, expecting success exactly when the model says that the pages are there. */
static bool append(struct world *w, int i, int count)
{
	struct ol_error err;
	for (int k = 0; k < count; k++)
		w->tokens[i][w->lengths[i] + k] = (int32_t)random_below(w, VOCAB);
	struct ol_run run = {
		.session = w->sessions[i], .tokens = &w->tokens[i][w->lengths[i]], .count = count};
	const enum ol_status s = ol_engine_step(w->engine, &run, 1, &err);
	if (s == OL_OK)
		w->lengths[i] += count;
	else
		assert_int_equal(s, OL_ERR_FULL);
	assert_int_equal(ol_session_length(w->sessions[i]), w->lengths[i]);
	return s == OL_OK;
}

/* The logits of one more token in session i, and in a fresh session told the same: equal bits. */
static void check_against_fresh(struct world *w, int i)
{
	float kept[VOCAB], fresh[VOCAB];
	struct ol_error err;
	struct ol_session *probe, *again;
	const int32_t next = 7;
	if (w->lengths[i] == 0 ||
	    ol_engine_pages_free(w->engine) < 2 * (LENGTH_MAX / OL_KV_PAGE + 2))
		return;
	assert_int_equal(ol_session_fork(&probe, w->sessions[i], w->lengths[i]), OL_OK);
	assert_int_equal(ol_session_open(&again, w->engine), OL_OK);
	struct ol_run runs[2] = {
		{.session = probe,
		 .tokens = &next,
		 .count = 1,
		 .want = OL_LOGITS_LAST,
		 .logits = kept},
		{.session = again, .tokens = w->tokens[i], .count = w->lengths[i]},
	};
	assert_int_equal(ol_engine_step(w->engine, runs, 2, &err), OL_OK);
	struct ol_run last = {.session = again,
			      .tokens = &next,
			      .count = 1,
			      .want = OL_LOGITS_LAST,
			      .logits = fresh};
	assert_int_equal(ol_engine_step(w->engine, &last, 1, &err), OL_OK);
	assert_memory_equal(kept, fresh, sizeof kept);
	ol_session_close(probe);
	ol_session_close(again);
}

static void random_life(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, POSITIONS);
	for (int step = 0; step < 3000; step++) {
		const int i = (int)random_below(&w, SESSIONS), j = (int)random_below(&w, SESSIONS);
		const uint32_t what = random_below(&w, 10);
		if (!w.sessions[i]) {
			assert_int_equal(ol_session_open(&w.sessions[i], w.engine), OL_OK);
			w.lengths[i] = 0;
		} else if (what < 5) {
			const int room = LENGTH_MAX - 1 - w.lengths[i];
			if (room > 0)
				append(&w, i,
				       1 + (int)random_below(&w, (uint32_t)OL_MIN(room, 20)));
		} else if (what < 6) {
			const int keep = (int)random_below(&w, (uint32_t)w.lengths[i] + 1);
			ol_session_truncate(w.sessions[i], keep);
			w.lengths[i] = keep;
		} else if (what < 8 && i != j) {
			const int keep = (int)random_below(&w, (uint32_t)w.lengths[i] + 1);
			ol_session_close(w.sessions[j]);
			w.sessions[j] = NULL;
			if (ol_session_fork(&w.sessions[j], w.sessions[i], keep) == OL_OK) {
				memcpy(w.tokens[j], w.tokens[i], sizeof w.tokens[j]);
				w.lengths[j] = keep;
			}
		} else if (what < 9) {
			ol_session_close(w.sessions[i]);
			w.sessions[i] = NULL;
		} else {
			check_against_fresh(&w, i);
		}
	}
	close_world(&w);
}

static void full_pool_changes_nothing(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, 4 * OL_KV_PAGE);
	assert_int_equal(ol_session_open(&w.sessions[0], w.engine), OL_OK);
	assert_int_equal(ol_session_open(&w.sessions[1], w.engine), OL_OK);
	assert_true(append(&w, 0, 2 * OL_KV_PAGE));
	assert_true(append(&w, 1, OL_KV_PAGE + 1));
	assert_int_equal(ol_engine_pages_free(w.engine), 0);
	assert_false(append(&w, 0, 1));
	assert_true(append(&w, 1, OL_KV_PAGE - 1)); /* still fits into its last page */

	/* Two runs of which one does not fit: neither is taken. */
	ol_session_truncate(w.sessions[0], OL_KV_PAGE);
	w.lengths[0] = OL_KV_PAGE;
	struct ol_run runs[2] = {
		{.session = w.sessions[0], .tokens = w.tokens[0], .count = 1},
		{.session = w.sessions[1], .tokens = w.tokens[1], .count = 1},
	};
	struct ol_error err;
	assert_int_equal(ol_engine_step(w.engine, runs, 2, &err), OL_ERR_FULL);
	assert_int_equal(ol_session_length(w.sessions[0]), OL_KV_PAGE);
	assert_int_equal(ol_session_length(w.sessions[1]), 2 * OL_KV_PAGE);
	assert_int_equal(ol_engine_pages_free(w.engine), 1);
	close_world(&w);
}

static void bad_steps_are_refused(void **state)
{
	struct world w;
	struct ol_error err;
	const int32_t tokens[] = {0, VOCAB, -1};
	(void)state;
	open_world(&w, POSITIONS);
	assert_int_equal(ol_session_open(&w.sessions[0], w.engine), OL_OK);
	for (int i = 1; i < 3; i++) {
		struct ol_run run = {.session = w.sessions[0], .tokens = &tokens[i], .count = 1};
		assert_int_equal(ol_engine_step(w.engine, &run, 1, &err), OL_ERR_INPUT);
		assert_non_null(strstr(err.text, "outside the vocabulary of 31"));
	}
	static int32_t many[OL_STEP_ROWS_DEFAULT + 1];
	struct ol_run run = {
		.session = w.sessions[0], .tokens = many, .count = OL_STEP_ROWS_DEFAULT + 1};
	assert_int_equal(ol_engine_step(w.engine, &run, 1, &err), OL_ERR_INPUT);
	assert_int_equal(ol_session_length(w.sessions[0]), 0);
	assert_int_equal(ol_engine_pages_free(w.engine), ol_engine_pages_total(w.engine));
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_life),
		cmocka_unit_test(full_pool_changes_nothing),
		cmocka_unit_test(bad_steps_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
