#include "node/replay.h"

#include "base/clock.h"
#include "model/embedding.h"
#include "node/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows a step: enough to keep the matmuls busy, few enough that the logits stay small. */
enum { CHUNK_MAX = 128 };

struct replaying {
	struct ol_runtime *runtime;
	const struct ol_replay_job *job;
	struct ol_replay *replay;
	struct ol_sampler *sampler;
	float *logits; /* (chunk, vocab) */
	int chunk;
};

static void differs(struct replaying *r, enum ol_replay_verdict verdict, size_t token,
		    int32_t claimed, int32_t chosen)
{
	r->replay->verdict = verdict;
	r->replay->token = token;
	r->replay->claimed = claimed;
	r->replay->chosen = chosen;
}

/* The answer has ended after `count` tokens. */
static void check_end(struct replaying *r, const struct ol_generation *g,
		      const struct ol_replay_choice *claim)
{
	if (g->tokens.count < claim->count) {
		differs(r, OL_REPLAY_LONGER, g->tokens.count, claim->tokens[g->tokens.count], -1);
	} else if (claim->finish != g->finish && claim->finish != OL_FINISH_CANCELLED) {
		differs(r, OL_REPLAY_FINISH, claim->count, -1, -1);
		r->replay->finish = claim->finish;
		r->replay->finish_chosen = g->finish;
	}
}

/* One position: what is chosen from its logits, against what is claimed. *more: there is another
 * claimed token to look at, or one more choice that must end the answer. */
static enum ol_status check_position(struct replaying *r, struct ol_answer *answer,
				     const struct ol_replay_choice *claim, const float *logits,
				     bool *more, struct ol_error *err)
{
	const struct ol_generation *g = ol_answer_generation(answer);
	const size_t at = g->tokens.count;
	bool goes_on;
	enum ol_status s = ol_answer_take(answer, logits, r->sampler, &goes_on, err);
	*more = false;
	if (s != OL_OK)
		return s;
	if (g->tokens.count == at || at == claim->count) { /* it ended, or should have */
		if (g->tokens.count == at)
			check_end(r, g, claim);
		else
			differs(r, OL_REPLAY_SHORTER, at, -1, g->tokens.ids[at]);
		return OL_OK;
	}
	if (g->tokens.ids[at] != claim->tokens[at]) {
		differs(r, OL_REPLAY_TOKEN, at, claim->tokens[at], g->tokens.ids[at]);
		return OL_OK;
	}
	if (!goes_on) {
		check_end(r, g, claim);
		return OL_OK;
	}
	/* Who left in the middle has paid for what he got; what would have come does not matter. */
	*more = at + 1 < claim->count || claim->finish != OL_FINISH_CANCELLED;
	return OL_OK;
}

/* The session holds the prompt without its last token. */
static enum ol_status replay_choice(struct replaying *r, struct ol_session *session, size_t choice,
				    struct ol_error *err)
{
	const struct ol_replay_job *job = r->job;
	const struct ol_replay_choice *claim = &job->choices[choice];
	const struct ol_config *config = ol_model_config(r->runtime->model);
	const struct ol_answer_model model = {config, r->runtime->tokenizer,
					      ol_engine_kernels(r->runtime->engine)};
	struct ol_answer_options options = job->options;
	struct ol_answer *answer;
	int32_t tokens[CHUNK_MAX];
	bool more = claim->count > 0 || claim->finish != OL_FINISH_CANCELLED;
	options.sampling.choice = (uint32_t)choice;
	options.on_text = NULL;
	r->replay->choice = choice;
	enum ol_status s = ol_answer_open(&answer, &model, job->prompt, job->prompt_count,
					  job->room, &options, err);
	if (s != OL_OK)
		return s;
	/* Position i's logits choose token i: the prompt's last token, then the claimed ones. */
	for (size_t done = 0; more && s == OL_OK;) {
		const size_t rows = OL_MIN((size_t)r->chunk, claim->count + 1 - done);
		for (size_t i = 0; i < rows; i++)
			tokens[i] = done + i == 0 ? job->prompt[job->prompt_count - 1]
						  : claim->tokens[done + i - 1];
		struct ol_run run = {.session = session,
				     .tokens = tokens,
				     .count = (int)rows,
				     .want = OL_LOGITS_ALL,
				     .logits = r->logits,
				     .adapter = ol_runtime_adapter(r->runtime)};
		s = ol_engine_step(r->runtime->engine, &run, 1, err);
		r->replay->positions += rows;
		for (size_t i = 0; i < rows && more && s == OL_OK; i++)
			s = check_position(r, answer, claim,
					   r->logits + i * (size_t)config->vocab_size, &more, err);
		done += rows;
	}
	ol_answer_close(answer);
	return s;
}

static enum ol_status replay_all(struct replaying *r, struct ol_error *err)
{
	const struct ol_replay_job *job = r->job;
	struct ol_session *prompt, *session;
	enum ol_status s = ol_session_open(&prompt, r->runtime->engine);
	if (s != OL_OK)
		return ol_fail(err, s, "out of memory for a session");
	s = ol_prefill(r->runtime->engine, prompt, ol_runtime_adapter(r->runtime), job->prompt,
		       job->prompt_count - 1, NULL, err);
	r->replay->positions += job->prompt_count - 1;
	for (size_t i = 0; i < job->choice_count && s == OL_OK; i++) {
		if (r->replay->verdict != OL_REPLAY_SAME)
			break;
		s = ol_session_fork(&session, prompt, (int)job->prompt_count - 1);
		if (s != OL_OK) {
			s = ol_fail(err, s, "out of memory for a session");
			break;
		}
		s = replay_choice(r, session, i, err);
		ol_session_close(session);
	}
	ol_session_close(prompt);
	return s;
}

enum ol_status ol_replay_answer(struct ol_replay *replay, struct ol_runtime *runtime,
				const struct ol_replay_job *job, struct ol_error *err)
{
	const size_t vocab = (size_t)ol_model_config(runtime->model)->vocab_size;
	const double start = ol_clock_seconds();
	struct replaying r = {.runtime = runtime,
			      .job = job,
			      .replay = replay,
			      .chunk = OL_MIN(CHUNK_MAX, ol_engine_step_rows(runtime->engine))};
	*replay = (struct ol_replay){.verdict = OL_REPLAY_SAME};
	if (job->prompt_count == 0)
		return ol_fail(err, OL_ERR_INPUT, "the opening's prompt is empty");
	/* The last token is never run: it needs no position. */
	for (size_t i = 0; i < job->choice_count; i++)
		if ((int64_t)(job->prompt_count + job->choices[i].count) > job->room + 1)
			return ol_fail(err, OL_ERR_INPUT,
				       "choice %zu has %zu tokens: with the prompt's %zu they are "
				       "more than the %lld that there was room for",
				       i, job->choices[i].count, job->prompt_count,
				       (long long)job->room);
	enum ol_status s = OL_OK;
	r.logits = malloc((size_t)r.chunk * vocab * sizeof *r.logits);
	if (!r.logits ||
	    ol_sampler_open(&r.sampler, ol_engine_kernels(runtime->engine), (int)vocab) != OL_OK)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for %d rows of logits", r.chunk);
	if (s == OL_OK)
		s = replay_all(&r, err);
	ol_sampler_close(r.sampler);
	free(r.logits);
	replay->seconds = ol_clock_seconds() - start;
	return s;
}

enum ol_status ol_replay_embedding(float *out, struct ol_runtime *runtime, const int32_t *prompt,
				   size_t count, struct ol_error *err)
{
	const struct ol_kernels *kernels = ol_engine_kernels(runtime->engine);
	const int n = ol_model_config(runtime->model)->hidden;
	const size_t chunk = (size_t)OL_MIN(CHUNK_MAX, ol_engine_step_rows(runtime->engine));
	float *hidden = malloc(chunk * (size_t)n * sizeof *hidden);
	struct ol_session *session = NULL;
	enum ol_status s =
		hidden && count > 0 ? ol_session_open(&session, runtime->engine) : OL_ERR_FULL;

	if (s != OL_OK)
		s = ol_fail(err, s, "out of memory for an embedding");
	memset(out, 0, (size_t)n * sizeof *out);
	for (size_t done = 0; done < count && s == OL_OK;) {
		const int rows = (int)OL_MIN(chunk, count - done);
		struct ol_run run = {.session = session,
				     .tokens = prompt + done,
				     .count = rows,
				     .hidden = hidden,
				     .adapter = ol_runtime_adapter(runtime)};
		s = ol_engine_step(runtime->engine, &run, 1, err);
		if (s == OL_OK)
			ol_embedding_add(out, kernels, hidden, rows, n);
		done += (size_t)rows;
	}
	if (s == OL_OK)
		ol_embedding_finish(out, (int)count, n);
	ol_session_close(session);
	free(hidden);
	return s;
}

void ol_replay_text(char *text, size_t size, const struct ol_replay *r)
{
	switch (r->verdict) {
	case OL_REPLAY_SAME: snprintf(text, size, "same bits"); return;
	case OL_REPLAY_TOKEN:
		snprintf(text, size,
			 "choice %zu, token %zu: the receipt's is %d, the model's is %d", r->choice,
			 r->token, r->claimed, r->chosen);
		return;
	case OL_REPLAY_LONGER:
		snprintf(text, size,
			 "choice %zu, token %zu: the model's answer is over, the receipt's goes on "
			 "with %d",
			 r->choice, r->token, r->claimed);
		return;
	case OL_REPLAY_SHORTER:
		snprintf(text, size,
			 "choice %zu, token %zu: the receipt's answer is over, the model's goes on "
			 "with %d",
			 r->choice, r->token, r->chosen);
		return;
	case OL_REPLAY_FINISH:
		snprintf(text, size, "choice %zu ends for another reason: \"%s\", not \"%s\"",
			 r->choice, ol_finish_name(r->finish_chosen), ol_finish_name(r->finish));
		return;
	}
	OL_UNREACHABLE();
}
