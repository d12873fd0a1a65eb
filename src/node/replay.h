/* node/replay.h, floor 4: an answer again, from what is claimed of it: the heart of verification.
 *
 *     prompt + claimed answer ── one prefill ── logits of every position ── sampler ── same token?
 *
 * By the arithmetic contract the logits of a prefill are those of decoding token by token, so a
 * check needs no decoding: it costs a fraction of what the answer cost. The choice at each position
 * is made by the same state machine that made the answer (node/answer.h), so stop texts, limits and
 * grammars are checked with it. */
#ifndef OL_NODE_REPLAY_H
#define OL_NODE_REPLAY_H

#include "node/answer.h"
#include "node/runtime.h"

/* One claimed choice; borrowed. */
struct ol_replay_choice {
	const int32_t *tokens; /* without the token that ended it */
	size_t count;
	enum ol_finish finish;
};

struct ol_replay_job {
	const int32_t *prompt;
	size_t prompt_count;
	/* As the answer was made: sampling.choice is set here, on_text is not called. */
	struct ol_answer_options options;
	int64_t room; /* positions that prompt and answer could take together */
	const struct ol_replay_choice *choices;
	size_t choice_count;
};

enum ol_replay_verdict {
	OL_REPLAY_SAME,
	OL_REPLAY_TOKEN,   /* another token is chosen at `token`                        */
	OL_REPLAY_LONGER,  /* the answer is over at `token`, but the claim goes on        */
	OL_REPLAY_SHORTER, /* the claim is over at `token`, but the answer goes on        */
	OL_REPLAY_FINISH   /* it ends where it is said to, but for another reason         */
};

struct ol_replay {
	enum ol_replay_verdict verdict;
	/* Where it differs first. */
	size_t choice, token;
	int32_t claimed, chosen;              /* of OL_REPLAY_TOKEN; -1: none      */
	enum ol_finish finish, finish_chosen; /* of OL_REPLAY_FINISH               */
	uint64_t positions;                   /* run through the model             */
	double seconds;
};

/* The runtime's engine has room for prompt and longest choice. An error is a failure to check (a
 * token outside the vocabulary, no memory), not a verdict. */
OL_MUST_CHECK enum ol_status ol_replay_answer(struct ol_replay *replay, struct ol_runtime *runtime,
					      const struct ol_replay_job *job,
					      struct ol_error *err);
/* A prompt's embedding (model/embedding.h), hidden floats. */
OL_MUST_CHECK enum ol_status ol_replay_embedding(float *out, struct ol_runtime *runtime,
						 const int32_t *prompt, size_t count,
						 struct ol_error *err);
/* In words: "same bits", "choice 0, token 17: claimed 42, the model says 99". */
void ol_replay_text(char *text, size_t size, const struct ol_replay *replay);

#endif
