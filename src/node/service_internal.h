/* node/service_internal.h, floor 4: what service.c (life), service_ask.c (asks, the clerk),
 * service_models.c (the index of adapters) and service_stats.c (numbers) share. */
#ifndef OL_NODE_SERVICE_INTERNAL_H
#define OL_NODE_SERVICE_INTERNAL_H

#include <pthread.h>

#include "node/service.h"

struct ol_open_ask;

struct ol_open_part {
	struct ol_open_ask *ask;
	size_t index;
	double last_token; /* when; 0: none yet */
	uint64_t tokens;   /* told so far */
};

/* An ask under way. Its parts change on the scheduler's thread alone, then on the clerk's. */
struct ol_open_ask {
	struct ol_service *service;
	struct ol_ask ask; /* what it points at is its own, but for caller and context */
	char model[OL_NAME_MAX + 1], account[OL_ASK_ACCOUNT_MAX], key_id[OL_ASK_KEY_MAX];
	struct ol_tokens *prompts;
	char *stops;
	struct ol_logit_bias *bias;
	size_t part_count, left; /* left: parts that have not ended */
	struct ol_open_part *open;
	struct ol_part *parts;
	uint64_t *tickets;
	float *embeddings;
	void *charge;
	double asked, first_token;
	/* Under the service's lock. */
	uint64_t number; /* among all that there have been */
	bool submitted, cancelled;
	struct ol_open_ask *next, *previous; /* of all that are open */
	struct ol_open_ask *next_done;       /* in the clerk's queue */
};

/* One adapter that can be asked for. */
struct ol_served_entry {
	char *name, *folder; /* one allocation */
	int64_t created;
	bool loaded;
};

struct ol_service_series {
	struct ol_counter *prompt_tokens, *shared_tokens, *answer_tokens, *preempted, *steps;
	struct ol_counter *hits, *cold_reads, *evictions, *failures;
	struct ol_counter *outcomes[OL_OUTCOME_STOPPED + 1], *refused[OL_ASK_RESULTS];
	struct ol_gauge *waiting, *prefilling, *decoding, *prefixes, *tokens_per_second;
	struct ol_gauge *pages_free, *pages_total;
	struct ol_gauge *registered, *in_memory, *reading, *pinned, *bytes, *bytes_max;
	struct ol_histogram *batch, *step, *first_token, *gap, *whole;
};

struct ol_service {
	struct ol_runtime runtime;
	struct ol_service_options o;
	char base_name[OL_NAME_MAX + 1], fingerprint[64];
	char home[OL_PATH_MAX]; /* "": none */
	int64_t opened, room;
	struct ol_grammar_vocab *vocab; /* NULL: no structured output */
	struct ol_adapter_source source;
	struct ol_adapter_pool *pool;
	struct ol_scheduler *scheduler;
	pthread_t thread, clerk;
	bool thread_runs, clerk_runs;
	struct ol_service_series series;
	double rate;         /* answer tokens a second, running mean; the scheduler's thread's */
	uint64_t rate_steps; /* that it is a mean of */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t done;  /* something for the clerk */
	struct ol_open_ask *asks, *first_done, **end_done;
	size_t ask_count;
	uint64_t last_id, last_number, last_group;
	bool closing;
	struct ol_service_stats stats;

	pthread_mutex_t models; /* of the index; the scheduler's lock may be taken under it */
	struct ol_served_entry **served; /* ascending by name */
	size_t served_count, served_room;
};

/* ---- service_ask.c ---- */
void *ol_service_clerk(void *service);

/* ---- service_models.c ---- */
/* Reads an adapter and holds it against its manifest: ol_adapter_source.open. */
enum ol_status ol_service_read(void *self, struct ol_adapter **adapter_out, const char *folder,
			       const struct ol_config *base, struct ol_error *err);
/* Finds the adapters of home and folder. Before the scheduler runs. */
OL_MUST_CHECK enum ol_status ol_service_scan(struct ol_service *service, const struct ol_home *home,
					     const char *folder, struct ol_error *err);
bool ol_service_has_adapter(struct ol_service *service, const char *name);
void ol_service_forget_models(struct ol_service *service);

/* ---- service_stats.c ---- */
void ol_service_register(struct ol_service *service);
/* ol_scheduler_options.on_step */
void ol_service_on_step(void *context, int answers, int prompt_rows, double seconds);

#endif
