/* node/generate.h, floor 4: one answer to one prompt.
 *
 *     prompt ids ─ prefill in chunks ─┐
 *     ┌───────────────────────────────┴─ logits ─ sampler ─ token ─ text, held back while it may
 *     └─ one more step per token <──────────────────────────┘       be the start of a stop text */
#ifndef OL_NODE_GENERATE_H
#define OL_NODE_GENERATE_H

#include "base/buf.h"
#include "model/sampler.h"
#include "node/runtime.h"

enum { OL_STOPS_MAX = 16, OL_LOGPROBS_MAX = 20, OL_ANSWER_TEXT_MAX = 64 << 20 };

enum ol_finish { OL_FINISH_STOP, OL_FINISH_LENGTH, OL_FINISH_CANCELLED };
const char *ol_finish_name(enum ol_finish finish); /* "stop", "length", "cancelled" */

struct ol_generate_options {
	struct ol_sampling sampling;
	int max_tokens; /* 0: as many as the context holds */
	const char *stops[OL_STOPS_MAX];
	int stop_count;
	int logprobs;          /* alternatives per token; 0: none     */
	bool ignore_eos;       /* go on past the end-of-text tokens    */
	bool strip_lead_space; /* a chat answer does not begin with the tokenizer's joining space */
	/* Text as it becomes final, always whole UTF-8 characters. May be NULL. False cancels. */
	bool (*on_text)(void *context, const char *text, size_t size);
	void *context;
};

struct ol_token_info {
	float logprob; /* of the chosen token, under the raw logits */
	int32_t top_ids[OL_LOGPROBS_MAX];
	float top_logprobs[OL_LOGPROBS_MAX];
};

struct ol_generation {
	struct ol_tokens tokens;     /* without the token that ended it */
	struct ol_token_info *infos; /* tokens.count of them if logprobs > 0 */
	struct ol_buf text;
	enum ol_finish finish;
	double prefill_seconds, decode_seconds;
};

/* The runtime's engine must be started with room for prompt and answer. On failure nothing is
 * left to release. */
OL_MUST_CHECK enum ol_status ol_generate(struct ol_generation *generation,
					 struct ol_runtime *runtime, const struct ol_tokens *prompt,
					 const struct ol_generate_options *options,
					 struct ol_error *err);
void ol_generation_release(struct ol_generation *generation);

/* Runs tokens through a session in chunks of at most the engine's step; logits (vocab) of the
 * last. */
OL_MUST_CHECK enum ol_status ol_prefill(struct ol_engine *engine, struct ol_session *session,
					const int32_t *tokens, size_t count, float *logits,
					struct ol_error *err);

#endif
