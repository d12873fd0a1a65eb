/* model/blocks.h, floor 2: the small pieces of the transformer that the engine (forward.c) and the
 * tape (tape.c) share, so that both give the same bits. Shapes: d = head_dim. */
#ifndef OL_MODEL_BLOCKS_H
#define OL_MODEL_BLOCKS_H

#include "math/kernels.h"
#include "model/config.h"

/* out (d/2): inverse frequencies (docs/ARITHMETIC.md, "RoPE frequencies") of full-attention layers,
 * or of the layers for which ol_rope_is_local. */
void ol_rope_frequencies(double *out, const struct ol_config *c, bool local);
/* out (d): cosines, then sines, of one position. */
void ol_rope_row(float *out, const double *frequencies, int position, int head_dim);
/* Gemma 3: the windowed layers have frequencies of their own. */
static inline bool ol_rope_has_local(const struct ol_config *c)
{
	return c->rope_theta_local != c->rope_theta;
}
static inline bool ol_rope_is_local(const struct ol_config *c, int layer)
{
	return ol_rope_has_local(c) && ol_config_layer_windowed(c, layer);
}

/* Of q or k of one row, (heads, d): bias, head norms and rotation; norm and bias may be NULL. */
void ol_heads_finish(const struct ol_kernels *kernels, const struct ol_config *c, float *x,
		     int heads, const float *norm, const float *bias, const float *rope);

struct ol_attention ol_attention_settings(const struct ol_config *c, enum ol_kv_type kv_type,
					  int layer);
/* Bytes of one head's keys (or values) in a page. */
size_t ol_kv_half_bytes(const struct ol_config *config, enum ol_kv_type type);

/* A step's attention, cut into tasks: `rows` rows of a run from `row` on, for one kv head. */
struct ol_attention_task {
	int32_t run, row, rows, kv_head;
};
struct ol_attention_plan {
	struct ol_attention_task *tasks;
	int count, room;
	uint8_t *scratch; /* threads pieces of thread_bytes */
	size_t thread_bytes, scratch_bytes;
};
/* Plan the runs one after the other (count rows at positions from pos0), then make room. Long
 * contexts are cut into fewer rows a task; the longest rows come first, so that threads finish
 * together. False: out of memory. */
void ol_attention_plan_clear(struct ol_attention_plan *plan);
OL_MUST_CHECK bool ol_attention_plan_run(struct ol_attention_plan *plan,
					 const struct ol_kernels *kernels,
					 const struct ol_config *c, int run, int pos0, int count);
OL_MUST_CHECK bool ol_attention_plan_finish(struct ol_attention_plan *plan, int threads);
void ol_attention_plan_release(struct ol_attention_plan *plan);
static inline float *ol_attention_plan_scratch(const struct ol_attention_plan *plan, int thread)
{
	return (float *)(void *)(plan->scratch + (size_t)thread * plan->thread_bytes);
}

bool ol_all_finite(const float *x, size_t n);

#endif
