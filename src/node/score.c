#include "node/score.h"

#include "base/clock.h"
#include "crypto/sha256.h"
#include "model/sampler.h"

#include <stdlib.h>
#include <string.h>

struct scoring {
	struct ol_engine *engine;
	const struct ol_adapter_view *adapter;
	struct ol_score *score;
	struct ol_sha256 hash;
	float *logits;   /* (chunk, vocab) */
	int32_t *tokens; /* (window)       */
	int chunk;
};

/* Rows a step: enough to keep the matmuls busy, few enough that the logits stay small. */
enum { CHUNK_MAX = 128 };

static enum ol_status score_window(struct scoring *g, int count, int scored_from, float *nats_out,
				   struct ol_error *err)
{
	const struct ol_kernels *kernels = ol_engine_kernels(g->engine);
	const int vocab = ol_model_config(ol_engine_model(g->engine))->vocab_size;
	struct ol_session *session;
	enum ol_status s = ol_session_open(&session, g->engine);
	if (s != OL_OK)
		return ol_fail(err, s, "out of memory for a session");
	for (int done = 0; done < count && s == OL_OK; done += g->chunk) {
		const int rows = OL_MIN(g->chunk, count - done);
		struct ol_run run = {.session = session,
				     .tokens = g->tokens + done,
				     .count = rows,
				     .want = OL_LOGITS_ALL,
				     .logits = g->logits,
				     .adapter = g->adapter};
		s = ol_engine_step(g->engine, &run, 1, err);
		if (s == OL_OK)
			ol_sha256_update(&g->hash, g->logits,
					 (size_t)rows * (size_t)vocab * sizeof(float));
		for (int i = 0; i < rows && s == OL_OK; i++) {
			const int next = done + i + 1;
			if (next >= count || next < scored_from)
				continue;
			const float nats =
				-ol_token_logprob(kernels, g->logits + (size_t)i * (size_t)vocab,
						  vocab, g->tokens[next]);
			g->score->nats += (double)nats;
			g->score->tokens++;
			if (nats_out)
				nats_out[next - scored_from] = nats;
		}
	}
	ol_session_close(session);
	return s;
}

enum ol_status ol_score_tokens(struct ol_score *score, struct ol_engine *engine,
			       const struct ol_adapter_view *adapter, const int32_t *ids,
			       size_t count, int32_t lead, int window, float *nats_out,
			       struct ol_error *err)
{
	const size_t vocab = (size_t)ol_model_config(ol_engine_model(engine))->vocab_size;
	const double start = ol_clock_seconds();
	struct scoring g = {.engine = engine,
			    .adapter = adapter,
			    .score = score,
			    .chunk = OL_MIN(CHUNK_MAX, ol_engine_step_rows(engine))};
	*score = (struct ol_score){0};
	OL_ASSERT(window >= 2);
	if (nats_out)
		memset(nats_out, 0, count * sizeof *nats_out);
	g.logits = malloc((size_t)g.chunk * vocab * sizeof *g.logits);
	g.tokens = malloc((size_t)window * sizeof *g.tokens);
	const bool hashing = ol_sha256_init(&g.hash);
	enum ol_status s =
		g.logits && g.tokens && hashing
			? OL_OK
			: ol_fail(err, OL_ERR_FULL, "out of memory for %d rows of logits", g.chunk);
	const size_t opening = lead >= 0 ? 1 : 0;
	for (size_t done = 0; done < count && s == OL_OK;) {
		const size_t take = OL_MIN((size_t)window - opening, count - done);
		g.tokens[0] = lead;
		memcpy(g.tokens + opening, ids + done, take * sizeof *ids);
		/* Without an opening token the first of a window has nothing before it. */
		s = score_window(&g, (int)(take + opening), 1,
				 nats_out ? nats_out + done + (opening ? 0 : 1) : NULL, err);
		done += take;
	}
	if (hashing)
		ol_sha256_final(&g.hash, score->logits_sha256);
	score->seconds = ol_clock_seconds() - start;
	free(g.logits);
	free(g.tokens);
	return s;
}

enum ol_status ol_score_text(struct ol_score *score, struct ol_runtime *runtime, const char *text,
			     size_t size, int window, struct ol_error *err)
{
	struct ol_tokens ids = {0}, opening = {0};
	enum ol_status s = ol_runtime_need_tokenizer(runtime, err);
	if (s == OL_OK)
		s = ol_tokenizer_encode(runtime->tokenizer, &ids, text, size, OL_SPECIAL_NONE,
					false, NULL, 0, err);
	/* What the tokenizer puts around an empty text: its opening token comes first. */
	if (s == OL_OK)
		s = ol_tokenizer_encode(runtime->tokenizer, &opening, "", 0, OL_SPECIAL_NONE, true,
					NULL, 0, err);
	if (s == OL_OK && ids.count == 0)
		s = ol_fail(err, OL_ERR_INPUT, "there is no text to score");
	if (s == OL_OK) {
		const int32_t bos = ol_model_config(runtime->model)->bos_id;
		const bool has_lead = opening.count > 0 && opening.ids[0] == bos;
		s = ol_score_tokens(score, runtime->engine, ol_runtime_adapter(runtime), ids.ids,
				    ids.count, has_lead ? bos : -1, window, NULL, err);
		score->bytes = size;
	}
	ol_tokens_release(&opening);
	ol_tokens_release(&ids);
	return s;
}
