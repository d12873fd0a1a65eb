/* node/scheduler_internal.h, floor 4: what scheduler.c (life, submitting, the loop),
 * scheduler_admit.c (who runs, with which pages) and scheduler_step.c (one step) share. */
#ifndef OL_NODE_SCHEDULER_INTERNAL_H
#define OL_NODE_SCHEDULER_INTERNAL_H

#include <pthread.h>

#include "node/pace.h"
#include "node/scheduler.h"

/* One request, from submit to on_done. */
struct ol_ticket {
	uint64_t id;
	struct ol_tenant *tenant;
	char *adapter; /* NULL: the base */
	const struct ol_pooled *pooled;
	struct ol_answer *answer;
	char *stops;                /* what the answer's stop texts point into */
	float *embedding;           /* NULL: an answer is wanted */
	bool begun;                 /* it has run under an adapter already */
	struct ol_session *session; /* NULL while it waits */
	uint64_t group;
	double deadline, weight;
	void (*on_done)(void *context, enum ol_outcome outcome, struct ol_generation *generation,
			const struct ol_error *err);
	void *context;
	bool cancelled;
	struct ol_ticket *next; /* in its tenant's queue */
};

/* Guarded by the lock, but for virtual_time and parked, which are the scheduler thread's. */
struct ol_tenant {
	uint64_t id;
	double weight, virtual_time; /* rows computed so far / weight */
	struct ol_ticket *first, **end;
	int waiting; /* in its queue or parked  */
	int running;
	int parked; /* the scheduler thread's   */
};

/* A finished session, kept so that what begins alike need not be computed again. */
struct ol_prefix {
	uint64_t tenant;
	uint8_t adapter[OL_SHA256_BYTES]; /* zero: the base. A name could change its meaning */
	struct ol_tokens tokens;          /* as many as the session holds */
	struct ol_session *session;
	uint64_t last_used;
};

struct ol_scheduler {
	struct ol_scheduler_options o;
	const struct ol_config *config;
	struct ol_answer_model model;
	int64_t room; /* positions of one answer */
	int step_rows;
	struct ol_sampler *sampler;
	float *logits; /* (batch_max, vocab) */
	float *hidden; /* (step_rows, hidden): of prompts whose embedding is wanted */
	struct ol_run *runs;
	struct ol_ticket **run_tickets; /* whose run it is */

	struct ol_ticket **running; /* in the order of admission */
	int running_count;
	struct ol_ticket **parked; /* taken from a queue, but not to be admitted yet */
	int parked_count;
	struct ol_prefix *prefixes;
	int prefix_count;
	uint64_t clock; /* of prefixes' use */
	double virtual_clock;
	struct ol_pace pace;
	double next_deadline; /* the earliest of those who wait, or earlier; 0: none */
	struct ol_scheduler_stats stats;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct ol_tenant **tenants;
	int tenant_count, tenant_room;
	int waiting;
	uint64_t last_id;
	uint64_t *cancels;
	int cancel_count, cancel_room;
	struct ol_errand *errands, **errands_end;
	bool woken, closed, draining;
};

/* ---- scheduler.c ---- */
/* Tells the owner and frees the ticket, which is in no list any more. */
void ol_ticket_finish(struct ol_scheduler *s, struct ol_ticket *ticket, enum ol_outcome outcome,
		      const struct ol_error *err);
/* Does what was posted. True if there was anything. */
bool ol_scheduler_run_errands(struct ol_scheduler *s);
/* A tenant without requests goes. Under the lock. */
void ol_tenant_forget(struct ol_scheduler *s, struct ol_tenant *tenant);

/* ---- scheduler_admit.c ---- */
/* Ends what was cancelled or is over its time, then fills the batch. True if anything moved. */
bool ol_scheduler_admit(struct ol_scheduler *s);
/* Lets kept prefixes go, oldest first, and with `preempt` the newest answers, until so many pages
 * are free. */
bool ol_scheduler_make_pages(struct ol_scheduler *s, int64_t pages, bool preempt);
/* Takes a running ticket out: its session becomes a prefix (keep) or goes. */
void ol_scheduler_leave(struct ol_scheduler *s, int index, bool keep);
void ol_scheduler_drop_prefixes(struct ol_scheduler *s);
/* Pages that `count` more positions take. */
int64_t ol_pages_for(const struct ol_session *session, int count);

#endif
