/* node/scheduler.h, floor 4: many answers at once: continuous batching over one base and any
 * mixture of adapters.
 *
 *     submit ─> inbox ─> waiting, by tenant ── admitted ──> prefill ── decode ──> done
 *     cancel ─┘              ▲   fair by work done           in chunks   a token a step
 *                            └──── preempted when the KV pages run out ────┘
 *
 * Requests join and leave at every step of the engine. A step holds a token of every answer under
 * way and, in what room is left, pieces of new prompts: so much of them that the answers under way
 * do not wait longer than the stall bound. What an answer says does not depend on any of this: by
 * the arithmetic contract its bits are those it would have alone, and a preempted one goes on with
 * the same bits.
 *
 * Pages of a common prefix are shared within one tenant and one adapter only: another tenant must
 * not be able to see, by the time it takes, what this one asked before.
 *
 * The scheduler runs on one thread: ol_scheduler_run, or a test's own loop around
 * ol_scheduler_step. Only submit, cancel and stop may be called from others. */
#ifndef OL_NODE_SCHEDULER_H
#define OL_NODE_SCHEDULER_H

#include "lora/pool.h"
#include "model/engine.h"
#include "node/answer.h"

struct ol_scheduler;

enum {
	OL_BATCH_MAX = 256,       /* answers under way */
	OL_QUEUE_MAX = 4096,      /* waiting in all; also the default */
	OL_ADAPTER_NAME_MAX = 256 /* bytes with the NUL */
};

struct ol_scheduler_options {
	struct ol_engine *engine;             /* borrowed; the scheduler's alone while it runs */
	const struct ol_tokenizer *tokenizer; /* borrowed; NULL: answers have no text         */
	struct ol_adapter_pool *adapters;     /* borrowed; NULL: only the base                */
	int batch_max;                        /* 0: 64                                        */
	int queue_max, tenant_queue_max;      /* 0: OL_QUEUE_MAX, a quarter of queue_max       */
	double stall_seconds;                 /* 0: 0.1                                       */
	int prefixes_max;                     /* finished sessions kept for sharing; 0: none    */
	double (*now)(void *context);         /* seconds; NULL: the clock                     */
	/* After every step that moved anything, on the scheduler's thread: how many answers it
	 * moved on, how many rows of prompts it read, how long the engine took. May be NULL. */
	void (*on_step)(void *context, int answers, int prompt_rows, double seconds);
	/* ol_engine_step, or what a test puts in its place; NULL: that. */
	enum ol_status (*engine_step)(void *context, struct ol_engine *engine, struct ol_run *runs,
				      int run_count, struct ol_error *err);
	void *context;
};

/* How a request ended. Every one has its code in HTTP and its row in the tests. */
enum ol_outcome {
	OL_OUTCOME_DONE,            /* the generation is whole                               */
	OL_OUTCOME_CANCELLED,       /* by the client; what there is so far                   */
	OL_OUTCOME_DEADLINE,        /* its time was over; what there is so far                */
	OL_OUTCOME_UNKNOWN_ADAPTER, /* err says the name                                     */
	OL_OUTCOME_BROKEN_ADAPTER,  /* err says why                                          */
	OL_OUTCOME_FAILED,          /* ours: memory, broken weights                          */
	OL_OUTCOME_STOPPED          /* the scheduler was closed                              */
};

struct ol_request {
	uint64_t tenant;
	double weight;         /* of the tenant, > 0: its share of the work; 0: 1          */
	const char *adapter;   /* NULL: the base. Copied                                   */
	const int32_t *prompt; /* copied                                                    */
	size_t count;
	struct ol_answer_options answer; /* stop texts are copied; on_text and its context are used
					  * on the scheduler's thread                          */
	/* Not NULL: no answer is wanted but the prompt's embedding (model/embedding.h), hidden
	 * floats, complete when on_done says DONE. Until then it is the scheduler's. */
	float *embedding;
	uint64_t group;  /* requests of one prompt (choices): the first one's prefill serves
			       * all. 0: none                                              */
	double deadline; /* as `now` tells time; 0: none                              */
	/* Called once, on the scheduler's thread. The generation holds what there is so far; who
	 * wants to keep it copies the struct and leaves zeros. */
	void (*on_done)(void *context, enum ol_outcome outcome, struct ol_generation *generation,
			const struct ol_error *err);
	void *context;
};

OL_MUST_CHECK enum ol_status ol_scheduler_open(struct ol_scheduler **scheduler_out,
					       const struct ol_scheduler_options *options,
					       struct ol_error *err);
/* Every request that is left ends as OL_OUTCOME_STOPPED. Nobody is inside run. */
void ol_scheduler_close(struct ol_scheduler *scheduler);

/* From any thread. */
enum ol_submit {
	OL_SUBMIT_OK,
	OL_SUBMIT_INVALID,     /* an option or the prompt's length; err says which: 400 */
	OL_SUBMIT_FULL,        /* too many wait: 429 */
	OL_SUBMIT_TENANT_FULL, /* too many of this tenant: 429 */
	OL_SUBMIT_NO_MEMORY,
	OL_SUBMIT_CLOSED /* stopping: 503 */
};
enum ol_submit ol_scheduler_submit(struct ol_scheduler *scheduler, const struct ol_request *request,
				   uint64_t *id_out, struct ol_error *err);
/* Several of one tenant: all or none. */
enum ol_submit ol_scheduler_submit_all(struct ol_scheduler *scheduler,
				       const struct ol_request *requests, size_t count,
				       uint64_t *ids_out, struct ol_error *err);
/* Ends a request soon, if it has not ended: its on_done says so. */
void ol_scheduler_cancel(struct ol_scheduler *scheduler, uint64_t id);
/* Something changed outside (an adapter was read): look again. For ol_adapter_pool_options.wake. */
void ol_scheduler_wake(void *scheduler);
/* Something to be done by the scheduler's thread, between two steps and before it admits what was
 * submitted later: whatever else touches the pool of adapters. Lies in the caller's memory until
 * `run` is called, which happens once, whatever becomes of the scheduler. */
struct ol_errand {
	void (*run)(struct ol_errand *errand);
	struct ol_errand *next;
};
void ol_scheduler_post(struct ol_scheduler *scheduler, struct ol_errand *errand);
/* Lets run return. drain: only when all that was submitted has ended. submit refuses from now on.
 */
void ol_scheduler_stop(struct ol_scheduler *scheduler, bool drain);

/* Runs until stopped; sleeps while there is nothing to do. */
void ol_scheduler_run(struct ol_scheduler *scheduler);
/* One step. False: nothing could be done now. */
bool ol_scheduler_step(struct ol_scheduler *scheduler);

struct ol_scheduler_stats {
	int waiting, prefilling, decoding, prefixes;
	uint64_t steps, prompt_tokens, shared_tokens, answer_tokens; /* shared: not run again */
	uint64_t finished, preempted;
	double step_seconds; /* median of the newest steps that only decode */
};
/* From the scheduler's thread, or when it does not run. */
void ol_scheduler_stats(const struct ol_scheduler *scheduler, struct ol_scheduler_stats *stats);

#endif
