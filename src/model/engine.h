/* model/engine.h, floor 2: running a transformer.
 *
 *     ol_model    the weights: immutable, shared
 *     ol_engine   one worker's machinery over a model: threads, scratch memory, a pool of KV pages
 *     ol_session  one token timeline: its length and the KV pages that hold it
 *
 * A step takes runs of tokens from any number of sessions, puts their rows through every linear
 * layer together, and each session's rows through its own attention. By the arithmetic contract
 * the logits of a position depend on the tokens up to it and on nothing else: not on how a
 * prompt was cut into steps, nor on who else was in the batch, nor on threads or instruction
 * set. So a session can be dropped and recomputed (preemption), forked (shared prefix), or
 * replayed in one prefill (verifying an answer), and the bits stay.
 *
 * An engine and its sessions belong to one thread; several engines may share a model. */
#ifndef OL_MODEL_ENGINE_H
#define OL_MODEL_ENGINE_H

#include "base/pool.h"
#include "math/kernels.h"
#include "model/adapter.h"
#include "model/model.h"

struct ol_engine;
struct ol_session;

enum { OL_STEP_ROWS_DEFAULT = 256, OL_STEP_ROWS_MAX = 8192 };

struct ol_engine_options {
	const struct ol_kernels *kernels; /* NULL: the best */
	int threads;                      /* 0: all processors of this process */
	enum ol_kv_type kv_type;
	int64_t kv_positions; /* capacity of the page pool; 0: the config's context_max */
	int step_rows;        /* most rows in one step; 0: OL_STEP_ROWS_DEFAULT */
};

/* Borrows the model, which must outlive the engine. KV memory is reserved now, used as it fills. */
OL_MUST_CHECK enum ol_status ol_engine_open(struct ol_engine **engine_out,
					    const struct ol_model *model,
					    const struct ol_engine_options *options,
					    struct ol_error *err);
void ol_engine_close(struct ol_engine *engine); /* all its sessions must be closed */

const struct ol_model *ol_engine_model(const struct ol_engine *engine);
const struct ol_kernels *ol_engine_kernels(const struct ol_engine *engine);
int ol_engine_step_rows(const struct ol_engine *engine);
int64_t ol_engine_pages_free(const struct ol_engine *engine);
int64_t ol_engine_pages_total(const struct ol_engine *engine);

OL_MUST_CHECK enum ol_status ol_session_open(struct ol_session **session_out,
					     struct ol_engine *engine);
void ol_session_close(struct ol_session *session);
/* A new session that shares the first `length` positions: full pages by reference, the rest
 * copied. */
OL_MUST_CHECK enum ol_status ol_session_fork(struct ol_session **session_out,
					     const struct ol_session *source, int length);
int ol_session_length(const struct ol_session *session);
/* Forgets positions from `length` on and gives their pages back. */
void ol_session_truncate(struct ol_session *session, int length);

enum ol_logits { OL_LOGITS_NONE, OL_LOGITS_LAST, OL_LOGITS_ALL };

/* One session's part of a step: `count` tokens that follow what the session already holds. */
struct ol_run {
	struct ol_session *session;
	const int32_t *tokens;
	int count;
	enum ol_logits want;
	float *logits; /* out: (1 or count, vocab_size); NULL when none are wanted */
	float *hidden; /* out: (count, hidden) after the final norm; NULL: not wanted */
	/* What these tokens run under; NULL: the base alone. Made for this base, and the same from
	 * a session's first token to its last: what it keeps was computed with it. Runs of one step
	 * may have any mixture; neighbours with the same adapter are computed together. */
	const struct ol_adapter_view *adapter;
};

/* Appends every run to its session. All or nothing: OL_ERR_FULL when the page pool cannot hold
 * it (no session has changed; close or truncate one and try again), OL_ERR_INPUT for a token
 * outside the vocabulary or more than step_rows rows. A session may appear once. A NaN or
 * infinity in the logits is OL_ERR_INPUT: the weights are broken. */
OL_MUST_CHECK enum ol_status ol_engine_step(struct ol_engine *engine, struct ol_run *runs,
					    int run_count, struct ol_error *err);

#endif
