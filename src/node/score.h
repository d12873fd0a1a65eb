/* node/score.h, floor 4: how well a model predicts a text, teacher-forced.
 *
 * The text is cut into windows of at most `window` positions; each is its own session and begins
 * with the tokenizer's opening tokens (BOS) if it has any. Every token of the text that has one
 * before it in its window is scored: -log p(token | the window so far). logits_sha256 is over
 * the logits of all positions, in order, as little-endian f32: two machines that print the same
 * hash computed the same. */
#ifndef OL_NODE_SCORE_H
#define OL_NODE_SCORE_H

#include "node/runtime.h"

struct ol_score {
	uint64_t tokens; /* scored */
	uint64_t bytes;  /* of the text */
	double nats; /* sum over the scored tokens, each rounded to f32, added in f64 in order */
	uint8_t logits_sha256[32];
	double seconds;
};

/* nats_out: NULL, or room for a nat count per token of the text (as ol_tokenizer_encode gives
 * without template); unscored tokens get 0. */
OL_MUST_CHECK enum ol_status ol_score_text(struct ol_score *score, struct ol_runtime *runtime,
					   const char *text, size_t size, int window,
					   struct ol_error *err);
/* The same over ids, under an adapter or NULL; with lead >= 0 that token opens each window. */
OL_MUST_CHECK enum ol_status ol_score_tokens(struct ol_score *score, struct ol_engine *engine,
					     const struct ol_adapter_view *adapter,
					     const int32_t *ids, size_t count, int32_t lead,
					     int window, float *nats_out, struct ol_error *err);

#endif
