/* node/generate.h, floor 4: one answer to one prompt.
 *
 *     prompt ids ─ prefill in chunks ─┐
 *     ┌───────────────────────────────┴─ logits ─ answer (node/answer.h) ─ token, text
 *     └─ one more step per token <──────────────────────────┘ */
#ifndef OL_NODE_GENERATE_H
#define OL_NODE_GENERATE_H

#include "node/answer.h"
#include "node/runtime.h"

/* The runtime's engine must be started with room for prompt and answer. On failure nothing is
 * left to release. */
OL_MUST_CHECK enum ol_status ol_generate(struct ol_generation *generation,
					 struct ol_runtime *runtime, const struct ol_tokens *prompt,
					 const struct ol_answer_options *options,
					 struct ol_error *err);

/* Runs tokens through a session in chunks of at most the engine's step, under an adapter or NULL;
 * logits (vocab) of the last. */
OL_MUST_CHECK enum ol_status ol_prefill(struct ol_engine *engine, struct ol_session *session,
					const struct ol_adapter_view *adapter,
					const int32_t *tokens, size_t count, float *logits,
					struct ol_error *err);

#endif
