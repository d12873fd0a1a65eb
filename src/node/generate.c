#include "node/generate.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

enum ol_status ol_prefill(struct ol_engine *engine, struct ol_session *session,
			  const struct ol_adapter_view *adapter, const int32_t *tokens,
			  size_t count, float *logits, struct ol_error *err)
{
	const size_t most = (size_t)ol_engine_step_rows(engine);
	enum ol_status s = OL_OK;
	for (size_t done = 0; done < count && s == OL_OK;) {
		const size_t chunk = OL_MIN(most, count - done);
		struct ol_run run = {.session = session,
				     .tokens = tokens + done,
				     .count = (int)chunk,
				     .adapter = adapter};
		done += chunk;
		if (done == count && logits) {
			run.want = OL_LOGITS_LAST;
			run.logits = logits;
		}
		s = ol_engine_step(engine, &run, 1, err);
	}
	return s;
}

/* Prompt and answer through a session of their own. */
static enum ol_status run(struct ol_answer *a, const struct ol_runtime *r,
			  struct ol_session *session, struct ol_sampler *sampler, float *logits,
			  struct ol_error *err)
{
	const struct ol_adapter_view *adapter = ol_runtime_adapter(r);
	const struct ol_tokens *history = ol_answer_history(a);
	struct ol_generation *g = ol_answer_generation(a);
	const double start = ol_clock_seconds();
	enum ol_status s =
		ol_prefill(r->engine, session, adapter, history->ids, history->count, logits, err);
	const double prefilled = ol_clock_seconds();
	for (bool more = true; s == OL_OK && more;) {
		s = ol_answer_take(a, logits, sampler, &more, err);
		if (s == OL_OK && more)
			s = ol_prefill(r->engine, session, adapter,
				       &history->ids[history->count - 1], 1, logits, err);
	}
	g->prefill_seconds = prefilled - start;
	g->decode_seconds = ol_clock_seconds() - prefilled;
	return s;
}

enum ol_status ol_generate(struct ol_generation *generation, struct ol_runtime *runtime,
			   const struct ol_tokens *prompt, const struct ol_answer_options *options,
			   struct ol_error *err)
{
	const int64_t room = ol_engine_pages_total(runtime->engine) * OL_KV_PAGE;
	const struct ol_config *config = ol_model_config(runtime->model);
	const struct ol_answer_model model = {config, runtime->tokenizer,
					      ol_engine_kernels(runtime->engine)};
	struct ol_answer *answer;
	struct ol_session *session = NULL;
	struct ol_sampler *sampler = NULL;
	*generation = (struct ol_generation){0};
	enum ol_status s =
		ol_answer_open(&answer, &model, prompt->ids, prompt->count, room, options, err);
	if (s != OL_OK)
		return s;
	float *logits = malloc((size_t)config->vocab_size * sizeof *logits);
	if (!logits || ol_session_open(&session, runtime->engine) != OL_OK ||
	    ol_sampler_open(&sampler, model.kernels, config->vocab_size) != OL_OK)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the prompt");
	if (s == OL_OK)
		s = run(answer, runtime, session, sampler, logits, err);
	if (s == OL_OK) { /* it is the caller's now */
		*generation = *ol_answer_generation(answer);
		*ol_answer_generation(answer) = (struct ol_generation){0};
	}
	ol_session_close(session);
	ol_sampler_close(sampler);
	free(logits);
	ol_answer_close(answer);
	return s;
}
