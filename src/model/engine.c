/* The life of an engine, and steps: who takes part, which pages they need, whose logits go
 * where. */
#include "model/engine_internal.h"

#include <stdlib.h>
#include <string.h>

static size_t act_bytes_max(const struct ol_engine *e)
{
	const struct ol_config *c = e->config;
	const struct ol_layer_weights *layers = e->weights->layers;
	size_t most = e->kernels->act_bytes(e->weights->head.type, OL_LOGIT_ROWS, c->hidden);
	for (int l = 0; l < c->layers; l++) {
		const struct ol_matrix *all[] = {&layers[l].q, &layers[l].o, &layers[l].gate,
						 &layers[l].down};
		for (size_t i = 0; i < OL_ARRAY_LEN(all); i++) {
			const size_t bytes =
				e->kernels->act_bytes(all[i]->type, e->step_rows, all[i]->cols);
			most = OL_MAX(most, bytes);
		}
	}
	return most;
}

/* Buffers that are never live together share their memory: attention's and the FFN's. */
enum buffer_group { ALWAYS, ATTENTION, FFN };
enum { BUFFER_GROUPS = 3 };

struct buffer {
	void **place;
	size_t bytes;
	enum buffer_group group;
};

/* Lays the buffers out in the arena; a first call without memory only measures. */
static size_t lay_out(const struct buffer *buffers, size_t count, uint8_t *memory)
{
	size_t ends[BUFFER_GROUPS] = {0};
	for (enum buffer_group group = ALWAYS; group <= FFN; group++) {
		size_t end = group == ALWAYS ? 0 : ends[ALWAYS];
		for (size_t i = 0; i < count; i++) {
			if (buffers[i].group != group)
				continue;
			if (memory)
				*buffers[i].place = memory + end;
			end += (buffers[i].bytes + 63) / 64 * 64;
		}
		ends[group] = end;
	}
	return OL_MAX(ends[ATTENTION], ends[FFN]);
}

static bool allocate_buffers(struct ol_engine *e)
{
	const struct ol_config *c = e->config;
	const size_t rows = (size_t)e->step_rows, f = sizeof(float);
	const size_t hidden = rows * (size_t)c->hidden * f, ffn = rows * (size_t)c->ffn * f;
	const size_t head = rows * (size_t)c->head_dim * f;
	const size_t q = head * (size_t)c->heads, kv = head * (size_t)c->kv_heads;
	const size_t half = (size_t)c->head_dim / 2 + 1;
	const struct buffer buffers[] = {
		{(void **)&e->inv_freq, half * sizeof(double), ALWAYS},
		{(void **)&e->inv_freq_local, half * sizeof(double), ALWAYS},
		{(void **)&e->rows, rows * sizeof *e->rows, ALWAYS},
		{(void **)&e->runs, rows * sizeof *e->runs, ALWAYS},
		{(void **)&e->stretches, rows * sizeof *e->stretches, ALWAYS},
		{(void **)&e->x, hidden, ALWAYS},
		{(void **)&e->y, hidden, ALWAYS},
		{(void **)&e->rope, head, ALWAYS},
		{(void **)&e->rope_local, head, ALWAYS},
		{&e->act, act_bytes_max(e), ALWAYS},
		{(void **)&e->logits, OL_LOGIT_ROWS * (size_t)c->vocab_size * f, ALWAYS},
		{(void **)&e->q, q, ATTENTION},
		{(void **)&e->k, kv, ATTENTION},
		{(void **)&e->v, kv, ATTENTION},
		{(void **)&e->o, q, ATTENTION},
		{(void **)&e->gate, ffn, FFN},
		{(void **)&e->up, ffn, FFN},
	};
	e->buffer_bytes = lay_out(buffers, OL_ARRAY_LEN(buffers), NULL);
	e->buffers = ol_block_alloc(e->buffer_bytes);
	if (!e->buffers)
		return false;
	lay_out(buffers, OL_ARRAY_LEN(buffers), e->buffers);
	return true;
}

enum ol_status ol_engine_open(struct ol_engine **engine_out, const struct ol_model *model,
			      const struct ol_engine_options *options, struct ol_error *err)
{
	const struct ol_engine_options o = options ? *options : (struct ol_engine_options){0};
	if (o.step_rows < 0 || o.step_rows > OL_STEP_ROWS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "step rows must be between 1 and %d, not %d",
			       OL_STEP_ROWS_MAX, o.step_rows);
	if (o.threads < 0 || o.threads > OL_POOL_THREADS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "threads must be between 1 and %d, not %d",
			       OL_POOL_THREADS_MAX, o.threads);
	struct ol_engine *e = calloc(1, sizeof *e);
	if (!e)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening the engine");
	e->model = model;
	e->config = ol_model_config(model);
	e->weights = ol_model_weights(model);
	e->kernels = o.kernels ? o.kernels : ol_kernels_best();
	e->kv_type = o.kv_type;
	e->step_rows = o.step_rows ? o.step_rows : OL_STEP_ROWS_DEFAULT;
	const int64_t positions = o.kv_positions > 0 ? o.kv_positions : e->config->context_max;
	const int64_t pages = (positions + OL_KV_PAGE - 1) / OL_KV_PAGE;
	const int threads = o.threads ? o.threads : ol_processor_count();
	const size_t page_bytes = (size_t)e->config->layers * (size_t)e->config->kv_heads * 2 *
				  ol_kv_half_bytes(e->config, e->kv_type);
	if (ol_kv_pool_init(&e->kv, page_bytes, pages) != OL_OK ||
	    ol_pool_open(&e->threads, threads) != OL_OK || !allocate_buffers(e)) {
		ol_engine_close(e);
		return ol_fail(
			err, OL_ERR_FULL,
			"out of memory: %lld positions of KV cache and %d rows a step do not fit; "
			"ask for a smaller context",
			(long long)positions, o.step_rows ? o.step_rows : OL_STEP_ROWS_DEFAULT);
	}
	ol_rope_frequencies(e->inv_freq, e->config, false);
	ol_rope_frequencies(e->inv_freq_local, e->config, true);
	*engine_out = e;
	return OL_OK;
}

void ol_engine_close(struct ol_engine *engine)
{
	if (!engine)
		return;
	OL_ASSERT(engine->open_sessions == 0);
	ol_pool_close(engine->threads);
	ol_kv_pool_release(&engine->kv);
	ol_block_free(engine->buffers, engine->buffer_bytes);
	ol_attention_plan_release(&engine->attention);
	free(engine);
}

const struct ol_model *ol_engine_model(const struct ol_engine *engine)
{
	return engine->model;
}

const struct ol_kernels *ol_engine_kernels(const struct ol_engine *engine)
{
	return engine->kernels;
}

int ol_engine_step_rows(const struct ol_engine *engine)
{
	return engine->step_rows;
}

int64_t ol_engine_pages_free(const struct ol_engine *engine)
{
	return engine->kv.free_count;
}

int64_t ol_engine_pages_total(const struct ol_engine *engine)
{
	return engine->kv.page_count;
}

static enum ol_status check_runs(const struct ol_engine *e, const struct ol_run *runs,
				 int run_count, struct ol_error *err)
{
	int64_t rows = 0, pages = 0;
	for (int r = 0; r < run_count; r++) {
		const struct ol_run *run = &runs[r];
		OL_ASSERT(run->session->engine == e && run->count > 0);
		OL_ASSERT(run->want == OL_LOGITS_NONE || run->logits);
		rows += run->count;
		pages += ol_session_pages_needed(run->session, run->count);
		for (int i = 0; i < run->count; i++)
			if (run->tokens[i] < 0 || run->tokens[i] >= e->config->vocab_size)
				return ol_fail(err, OL_ERR_INPUT,
					       "token %d is outside the vocabulary of %d",
					       run->tokens[i], e->config->vocab_size);
	}
	if (rows > e->step_rows)
		return ol_fail(err, OL_ERR_INPUT,
			       "a step of %lld rows, but the engine has room for %d",
			       (long long)rows, e->step_rows);
	if (pages > e->kv.free_count)
		return ol_fail(
			err, OL_ERR_FULL,
			"the KV cache is full: %lld more pages of %d positions needed, %lld free",
			(long long)pages, OL_KV_PAGE, (long long)e->kv.free_count);
	return OL_OK;
}

/* Takes the pages and lays the runs' tokens out as rows. On failure no session has changed. */
static enum ol_status lay_out_rows(struct ol_engine *e, const struct ol_run *runs, int run_count,
				   struct ol_error *err)
{
	e->row_count = 0;
	e->run_count = run_count;
	for (int r = 0; r < run_count; r++) {
		struct ol_session *session = runs[r].session;
		if (ol_session_reserve(session, runs[r].count) != OL_OK) {
			for (int done = 0; done < r; done++)
				ol_session_truncate(runs[done].session, runs[done].session->length);
			return ol_fail(err, OL_ERR_FULL, "out of memory for a session's page list");
		}
		e->runs[r] =
			(struct ol_row_run){session, e->row_count, runs[r].count, session->length};
		for (int i = 0; i < runs[r].count; i++)
			e->rows[e->row_count++] = (struct ol_row){
				session, session->length + i, runs[r].tokens[i], runs[r].adapter};
	}
	return OL_OK;
}

/* Computes the wanted rows' logits, OL_LOGIT_ROWS at a time so that the head's weights are read
 * once for many sessions. */
static enum ol_status give_logits(struct ol_engine *e, const struct ol_run *runs, int run_count,
				  struct ol_error *err)
{
	const size_t vocab = (size_t)e->config->vocab_size;
	float *out[OL_LOGIT_ROWS];
	int32_t rows[OL_LOGIT_ROWS];
	int count = 0;
	for (int r = 0; r < run_count; r++) {
		const int first = runs[r].want == OL_LOGITS_ALL    ? 0
				  : runs[r].want == OL_LOGITS_LAST ? runs[r].count - 1
								   : runs[r].count;
		for (int i = first; i < runs[r].count; i++) {
			out[count] = runs[r].logits + (size_t)(i - first) * vocab;
			rows[count++] = e->runs[r].row0 + i;
			if (count == OL_LOGIT_ROWS) {
				ol_forward_head(e, out, rows, count);
				count = 0;
			}
		}
	}
	if (count > 0)
		ol_forward_head(e, out, rows, count);
	for (int r = 0; r < run_count; r++) {
		const size_t given = runs[r].want == OL_LOGITS_ALL    ? (size_t)runs[r].count
				     : runs[r].want == OL_LOGITS_LAST ? 1
								      : 0;
		if (!ol_all_finite(runs[r].logits, given * vocab))
			return ol_fail(
				err, OL_ERR_INPUT,
				"the model produced a number that is not finite after position %d: "
				"its weights%s are broken, import %s again",
				runs[r].session->length, runs[r].adapter ? " or its adapter's" : "",
				runs[r].adapter ? "them" : "it");
	}
	return OL_OK;
}

enum ol_status ol_engine_step(struct ol_engine *engine, struct ol_run *runs, int run_count,
			      struct ol_error *err)
{
	enum ol_status s = check_runs(engine, runs, run_count, err);
	if (s == OL_OK)
		s = lay_out_rows(engine, runs, run_count, err);
	if (s != OL_OK || run_count == 0)
		return s;
	s = ol_forward(engine, err);
	if (s == OL_OK)
		s = give_logits(engine, runs, run_count, err);
	const size_t hidden = (size_t)engine->config->hidden;
	for (int r = 0; r < run_count; r++) {
		struct ol_session *session = runs[r].session;
		if (s == OL_OK)
			session->length += runs[r].count;
		else
			ol_session_truncate(session, session->length);
		if (s == OL_OK && runs[r].hidden)
			memcpy(runs[r].hidden, engine->y + (size_t)engine->runs[r].row0 * hidden,
			       (size_t)runs[r].count * hidden * sizeof(float));
	}
	return s;
}
