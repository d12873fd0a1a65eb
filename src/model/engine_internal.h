/* model/engine_internal.h, floor 2: what engine.c (life, sessions, steps), kv.c (pages) and
 * forward.c (layers) share. */
#ifndef OL_MODEL_ENGINE_INTERNAL_H
#define OL_MODEL_ENGINE_INTERNAL_H

#include "base/arena.h"
#include "model/blocks.h"
#include "model/engine.h"

/* KV pages: equal pieces of one reservation, counted references, a stack of free ones.
 *
 *   page of 16 positions:  layer 0: [head 0: K (d,16) V (16,d)] [head 1: …] …   layer 1: …
 */
struct ol_kv_pool {
	uint8_t *memory;
	size_t page_bytes;
	int64_t page_count;
	int32_t *references; /* per page */
	int64_t *free_pages; /* stack    */
	int64_t free_count;
};

OL_MUST_CHECK enum ol_status ol_kv_pool_init(struct ol_kv_pool *pool, size_t page_bytes,
					     int64_t page_count);
void ol_kv_pool_release(struct ol_kv_pool *pool);
void *ol_kv_page_take(struct ol_kv_pool *pool); /* asserts that one is free */
void ol_kv_page_share(struct ol_kv_pool *pool, const void *page);
void ol_kv_page_drop(struct ol_kv_pool *pool, const void *page);
bool ol_kv_page_shared(const struct ol_kv_pool *pool, const void *page);

struct ol_session {
	struct ol_engine *engine;
	void **pages; /* pages[i] holds positions 16i .. 16i+15 */
	int page_count, page_room;
	int length;
};

/* Pages that appending `count` positions would take from the pool, copies of shared ones
 * included. */
int64_t ol_session_pages_needed(const struct ol_session *session, int count);
/* Takes them. The pool has been asked before; only the page list can run out of memory, and
 * then nothing has changed. */
OL_MUST_CHECK enum ol_status ol_session_reserve(struct ol_session *session, int count);

/* One row of a step: where it sits in which session. */
struct ol_row {
	const struct ol_session *session;
	int32_t position;
	int32_t token;
	const struct ol_adapter_view *adapter; /* NULL: none */
};

/* Rows [row0, row0+count) of a step belong to one run, at consecutive positions from pos0. */
struct ol_row_run {
	const struct ol_session *session;
	int32_t row0, count, pos0;
};

/* Rows [row0, row0+count) of a matmul run under one adapter. */
struct ol_stretch {
	const struct ol_adapter_view *adapter;
	int32_t row0, count;
};

/* Scratch for a step of at most step_rows rows; R below is the number of rows in the step. */
struct ol_engine {
	const struct ol_model *model;
	const struct ol_config *config;
	const struct ol_weights *weights;
	const struct ol_kernels *kernels;
	struct ol_pool *threads;
	struct ol_kv_pool kv;
	enum ol_kv_type kv_type;
	int step_rows;
	int open_sessions;
	uint8_t *buffers; /* what the pointers below point into */
	size_t buffer_bytes;

	double *inv_freq, *inv_freq_local; /* (d/2) */
	struct ol_row *rows;               /* (R) */
	struct ol_row_run *runs;           /* (runs <= R) */
	int row_count, run_count;

	float *x;                 /* (R, hidden)   residual stream            */
	float *y;                 /* (R, hidden)   a block's output; also the normed input */
	float *q, *k, *v, *o;     /* (R, heads d), (R, kv_heads d) x2, (R, heads d) */
	float *gate, *up;         /* (R, ffn)                                 */
	float *rope, *rope_local; /* (R, d) cosines then sines               */
	void *act;                /* activations ready for a matmul           */
	float *logits;            /* (LOGIT_ROWS, vocab)                       */

	struct ol_stretch *stretches; /* (<= R) this step's rows that have an adapter  */
	int stretch_count;
	float *lora; /* (3, R, lora_stride) A x of linears that share an x */
	size_t lora_bytes;
	int lora_stride; /* the largest rank of this step */

	struct ol_attention_plan attention;
};

enum { OL_LOGIT_ROWS = 32 };

/* The layers: from engine->rows to engine->y, the hidden states after the final norm. */
OL_MUST_CHECK enum ol_status ol_forward(struct ol_engine *engine, struct ol_error *err);
/* logits (count, vocab), row i at out[i], for the hidden states of the given rows. */
void ol_forward_head(struct ol_engine *engine, float *const *out, const int32_t *rows, int count);

#endif
