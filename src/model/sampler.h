/* model/sampler.h, floor 2: choosing the next token (docs/ARITHMETIC.md, "Sampling").
 *
 * A choice is a pure function of (logits, history, parameters, seed, choice index, position).
 * Order: mask, penalties, logit bias, temperature, top-k, top-p, min-p; then Gumbel-max with one
 * Philox word per candidate, so no draw depends on another. Temperature 0 is greedy: highest logit,
 * lowest id. */
#ifndef OL_MODEL_SAMPLER_H
#define OL_MODEL_SAMPLER_H

#include "base/base.h"
#include "math/kernels.h"

struct ol_logit_bias {
	int32_t token;
	float bias;
};

struct ol_sampling {
	float temperature;       /* >= 0; 0 is greedy                                    */
	int top_k;               /* 0: off                                               */
	float top_p;             /* 1: off                                               */
	float min_p;             /* 0: off                                               */
	float repeat_penalty;    /* 1: off; divides positive, multiplies negative logits    */
	float presence_penalty;  /* 0: off; OpenAI's definition, over generated tokens       */
	float frequency_penalty; /* 0: off                                               */
	uint64_t seed;
	uint32_t choice; /* index among the n answers to one prompt */
	const struct ol_logit_bias *bias;
	int bias_count;
};

/* Every value in its range; the error names the parameter. */
OL_MUST_CHECK enum ol_status ol_sampling_check(const struct ol_sampling *s, struct ol_error *err);

/* Owns scratch for a vocabulary; not shared between threads. */
struct ol_sampler;
OL_MUST_CHECK enum ol_status ol_sampler_open(struct ol_sampler **sampler_out,
					     const struct ol_kernels *kernels, int vocab_size);
void ol_sampler_close(struct ol_sampler *sampler);

/* position: the index in the timeline that the chosen token will have. history: all tokens so far,
 * of which the last `generated` were generated. allowed: a bit per token, or NULL for all; at least
 * one bit is set. The logits are not changed. */
int32_t ol_sampler_choose(struct ol_sampler *sampler, const float *logits,
			  const struct ol_sampling *s, uint32_t position, const int32_t *history,
			  int history_count, int generated, const uint64_t *allowed);

/* log softmax of tokens under the raw logits: logit - max - log(sum exp(logit - max)). Two passes
 * over the logits, however many tokens. */
void ol_token_logprobs(float *out, const struct ol_kernels *kernels, const float *logits,
		       int vocab_size, const int32_t *tokens, int count);
float ol_token_logprob(const struct ol_kernels *kernels, const float *logits, int vocab_size,
		       int32_t token);

/* The `count` highest logits, (logit descending, id ascending), into ids. count <= vocab_size. */
void ol_top_tokens(int32_t *ids, int count, const float *logits, int vocab_size);

#endif
