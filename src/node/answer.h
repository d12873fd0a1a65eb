/* node/answer.h, floor 4: one answer under way: logits in, tokens and text out.
 *
 *     logits ─ sampler ─ token ─ bytes ─ whole characters ─ text, held back while it may be the
 *                          │                                start of a stop text
 *                          └─> run it, and come back with new logits
 *
 * It knows no engine and no session: whoever has them (node/generate.h for one answer,
 * node/scheduler.h for many) brings the logits. So an answer that lost its session begins again
 * from ol_answer_history and goes on with the same bits. */
#ifndef OL_NODE_ANSWER_H
#define OL_NODE_ANSWER_H

#include "base/buf.h"
#include "crypto/sha256.h"
#include "model/config.h"
#include "model/grammar.h"
#include "model/sampler.h"
#include "model/tokenizer.h"

enum { OL_STOPS_MAX = 16, OL_LOGPROBS_MAX = 20, OL_ANSWER_TEXT_MAX = 64 << 20 };

enum ol_finish { OL_FINISH_STOP, OL_FINISH_LENGTH, OL_FINISH_CANCELLED };
const char *ol_finish_name(enum ol_finish finish); /* "stop", "length", "cancelled" */

struct ol_generation;

struct ol_answer_options {
	struct ol_sampling sampling;
	int max_tokens; /* 0: as many as the context holds */
	const char *stops[OL_STOPS_MAX];
	int stop_count;
	int logprobs;    /* alternatives per token; 0: none     */
	bool ignore_eos; /* go on past the end-of-text tokens    */
	/* What the text must be; NULL: anything. Held by the answer. When the text is whole and
	 * nothing can follow, the answer ends as by an end-of-text token. */
	const struct ol_grammar *grammar;
	bool strip_lead_space; /* a chat answer does not begin with the tokenizer's joining space */
	/* Text as it becomes final, always whole UTF-8 characters. May be NULL. False cancels. */
	bool (*on_text)(void *context, const char *text, size_t size);
	/* After every token, and when the answer has ended by itself: what there is so far; the
	 * first `final` bytes of its text will not change. May be NULL. False cancels. */
	bool (*on_token)(void *context, const struct ol_generation *generation, size_t final);
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
	/* The scheduler's to say: prompt tokens that were not run again, because what was kept of
	 * an earlier request begins alike; the adapter's hash (zeros: the base). */
	size_t cached;
	uint8_t adapter_sha256[OL_SHA256_BYTES];
};
void ol_generation_release(struct ol_generation *generation);

/* What an answer borrows, for its whole life. */
struct ol_answer_model {
	const struct ol_config *config;
	const struct ol_tokenizer *tokenizer; /* NULL: there will be no text */
	const struct ol_kernels *kernels;
};

struct ol_answer;

/* room: positions that prompt and answer may take together. The options are copied, what they point
 * at is borrowed. Fails for an empty or too long prompt and for bad sampling, in words. */
OL_MUST_CHECK enum ol_status ol_answer_open(struct ol_answer **answer_out,
					    const struct ol_answer_model *model,
					    const int32_t *prompt, size_t count, int64_t room,
					    const struct ol_answer_options *options,
					    struct ol_error *err);
void ol_answer_close(struct ol_answer *answer);

/* Chooses the next token from the logits (vocab) after the history. *more: run the last token of
 * the history and come back; else the answer is finished and its text complete. */
OL_MUST_CHECK enum ol_status ol_answer_take(struct ol_answer *answer, const float *logits,
					    struct ol_sampler *sampler, bool *more,
					    struct ol_error *err);
/* Prompt, then what was chosen so far. */
const struct ol_tokens *ol_answer_history(const struct ol_answer *answer);
/* What there is so far; stays the answer's. */
struct ol_generation *ol_answer_generation(struct ol_answer *answer);

#endif
