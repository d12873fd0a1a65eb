/* node/service.h, floor 4: one serving node: a base, its adapters, and everybody who asks.
 *
 *      any thread            the scheduler's thread                     the clerk's thread
 *
 *     ol_service_ask ──> reserve ─> queue ─> steps ─> on_token …  ──> post ─> on_done
 *       │ refused: a result         │                 on_choice …       the charge, the receipt
 *       │ and a sentence            │
 *     ol_service_cancel ────────────┘
 *
 * An ask is one request of a client: one prompt or several, each with n answers to it, or each with
 * its embedding. Its model's name chooses the adapter. The scheduler's thread runs the model on all
 * cores and must not wait: on_token and on_choice only format and queue. When all answers of an ask
 * have ended, the clerk (a thread that may wait for a disk) settles its charge, makes its receipt
 * and hands over the whole.
 *
 * What an ask costs: the prompt's tokens and those of its answers. Of one that its client gave up,
 * those that were made until then; of one that failed by our fault, nothing.
 *
 * Adapters are found by the names of their folders and read when first asked for; until then one
 * costs an entry in an index. What is read is checked against its manifest.json: hash and base. */
#ifndef OL_NODE_SERVICE_H
#define OL_NODE_SERVICE_H

#include "base/metrics.h"
#include "node/runtime.h"
#include "node/scheduler.h"

#include <jansson.h>

struct ol_service;

enum {
	OL_ASK_PROMPTS_MAX = 1024,
	OL_ASK_CHOICES_MAX = 128, /* answers to each prompt */
	OL_ASK_PARTS_MAX = 1024,  /* prompts * choices      */
	OL_ASK_ACCOUNT_MAX = 64,  /* with the NUL           */
	OL_ASK_KEY_MAX = 32       /* with the NUL           */
};
/* A seed that we choose is below this, so that every JSON reader can hold it. */
#define OL_SEED_CHOSEN_MAX (UINT64_C(1) << 53)

/* ---- Asking ------------------------------------------------------------------------------- */

/* How an ask was taken. Every one has its code in HTTP and its row in the tests. */
enum ol_ask_result {
	OL_ASK_OK,
	OL_ASK_INVALID,       /* an option or a prompt; err says which           */
	OL_ASK_TOO_LONG,      /* prompt and answer do not fit into the context   */
	OL_ASK_UNKNOWN_MODEL, /* no base and no adapter of that name             */
	OL_ASK_REFUSED,       /* the accounting said no: ol_refusal has the rest */
	OL_ASK_FULL,          /* too many wait                                   */
	OL_ASK_TENANT_FULL,   /* too many of this account wait                   */
	OL_ASK_NO_MEMORY,
	OL_ASK_CLOSED /* draining                                        */
};
enum { OL_ASK_RESULTS = 9 };

/* Of OL_ASK_REFUSED: the accounting's words for HTTP. */
struct ol_refusal {
	int status;              /* 402, 403, 429, … */
	const char *type, *code; /* static; code may be NULL */
	int retry_after;         /* seconds; 0: waiting does not help */
};

struct ol_answered;

struct ol_ask {
	uint64_t id;                     /* of ol_service_id; 0: nobody will cancel it */
	const char *model;               /* NULL: the base. Copied */
	uint64_t tenant;                 /* who shares the machine and prefixes with whom */
	double weight;                   /* 0: 1                                          */
	const char *account;             /* who pays; NULL: ""                            */
	const char *key_id;              /* for ol_service_cancel_key; NULL: ""           */
	const void *caller;              /* the accounting's; outlives the ask            */
	const struct ol_tokens *prompts; /* copied */
	size_t prompt_count;
	bool embed;  /* the prompts' embeddings are wanted, no answers */
	int choices; /* answers to each prompt */
	/* Of every answer; `choice` and the callbacks are the service's to set. Bias and stop texts
	 * are copied. */
	struct ol_answer_options answer;
	/* Of answer.grammar, for the receipt: the response_format that it was compiled from, or
	 * {"type": "choice", "choices": […]}, as compact JSON. Borrowed until on_done. NULL:
	 * none. */
	const char *grammar_text;
	bool seed_given;
	double seconds; /* the most it may take; 0: the service's own bound */

	/* Part p is answer p % choices to prompt p / choices. All may be NULL but on_done. */
	/* On the scheduler's thread, as ol_answer_options.on_token: false cancels the whole ask. */
	bool (*on_token)(void *context, size_t part, const struct ol_generation *generation,
			 size_t final);
	/* On the scheduler's thread: a part has ended. */
	void (*on_choice)(void *context, size_t part, enum ol_outcome outcome,
			  const struct ol_generation *generation, const struct ol_error *err);
	/* On the clerk's thread, once, after all else. */
	void (*on_done)(void *context, const struct ol_answered *answered);
	void *context;
};

struct ol_usage {
	uint64_t prompt_tokens, completion_tokens;
	uint64_t cached_tokens; /* of the prompts: not run again */
};

/* What came of one part. */
struct ol_part {
	enum ol_outcome outcome;
	struct ol_generation generation;
	struct ol_error err; /* unless DONE, CANCELLED, DEADLINE */
	size_t told; /* tokens that are paid for: of what is not DONE, those before the end */
};

/* An ask that has ended. Everything is borrowed for the time of the call. */
struct ol_answered {
	const struct ol_ask *ask;
	const struct ol_part *parts; /* prompt_count * choices of them */
	size_t part_count;
	const float *embeddings; /* (part_count, hidden) where embed */
	int hidden;
	struct ol_usage usage;
	uint64_t seed;                       /* given or chosen */
	const uint8_t *adapter_sha256;       /* NULL: the base, or nothing was run */
	enum ol_outcome outcome;             /* the worst of the parts': DONE if all are */
	const struct ol_error *err;          /* of that part */
	double first_token_seconds, seconds; /* since it was asked; 0: never */
	json_t *receipt; /* what the accounting adds to the response; NULL: nothing */
};

/* on_done will be called exactly if the result is OL_ASK_OK; it may have been called before this
 * returns. */
enum ol_ask_result ol_service_ask(struct ol_service *service, const struct ol_ask *ask,
				  struct ol_refusal *refusal, struct ol_error *err);
/* A new id for an ask. */
uint64_t ol_service_id(struct ol_service *service);
/* Ends an ask soon, if it has begun and has not ended. Any thread; takes only the service's own
 * short lock. */
void ol_service_cancel(struct ol_service *service, uint64_t id);
/* All asks of a key that has become invalid. */
void ol_service_cancel_key(struct ol_service *service, const char *key_id);

/* ---- What it costs ------------------------------------------------------------------------ */

/* Money's side of an ask. All zero: nothing is charged and nothing is added. */
struct ol_accounting {
	/* On the asking thread, before anything runs; must not wait. completion_max: the most
	 * tokens that all answers together can have. True: *charge is handed to exactly one of post
	 * and release. False: *refusal and err say why not. */
	bool (*reserve)(void *self, void **charge, struct ol_refusal *refusal,
			const struct ol_ask *ask, uint64_t prompt_tokens, uint64_t completion_max,
			struct ol_error *err);
	/* On the clerk's thread; may wait for a disk. The answer is what will be sent: *receipt may
	 * be an object whose members join the response's "openledger". OL_ERR: it could not be
	 * booked, and the client gets an error instead of the answer. */
	enum ol_status (*post)(void *self, void *charge, json_t **receipt,
			       const struct ol_answered *answered, struct ol_error *err);
	/* Our failure: it costs nothing. On the clerk's or the asking thread. */
	void (*release)(void *self, void *charge);
	/* The seed of an ask that brought none, after its reserve; NULL function: random. */
	uint64_t (*seed)(void *self, void *charge, const struct ol_ask *ask);
	/* For /v1/models: what a model's tokens cost; NULL: nothing is asked. Any thread. */
	json_t *(*price)(void *self, const char *model);
	void *self;
};

/* ---- Life --------------------------------------------------------------------------------- */

struct ol_service_options {
	/* Opened, not started. It is the service's from now on, also when opening fails. */
	struct ol_runtime *runtime;
	const char *base_name;           /* as clients call it; NULL: the runtime's name */
	const struct ol_home *home;      /* whose adapters of this base are served; NULL: none */
	const char *adapters;            /* a folder of adapters' folders, served too; NULL: none */
	struct ol_engine_options engine; /* kv_positions comes from kv_bytes */
	uint64_t kv_bytes; /* of KV pages; 0: a quarter of the machine's memory, 4 GiB at most */
	uint64_t adapter_bytes; /* of adapters in memory; 0: an eighth, 2 GiB at most */
	int readers;            /* threads that read adapters; 0: 2 */
	int batch_max, queue_max, prefixes_max; /* scheduler.h; prefixes_max 0: 64, < 0: none */
	double stall_seconds;
	double ask_seconds; /* the most an ask may take; 0: 600 */
	struct ol_accounting accounting;
	struct ol_metrics *metrics; /* borrowed; NULL: nobody looks */
};

OL_MUST_CHECK enum ol_status ol_service_open(struct ol_service **service_out,
					     const struct ol_service_options *options,
					     struct ol_error *err);
/* No more asks; those that are under way go on. */
void ol_service_drain(struct ol_service *service);
/* Asks under way: drained, if drain was called and this is 0. */
size_t ol_service_asks(struct ol_service *service);
/* What is left ends as OL_OUTCOME_STOPPED (its on_done is called), then all is released. */
void ol_service_close(struct ol_service *service);

/* ---- Models ------------------------------------------------------------------------------- */

/* One line of the list: the base, or an adapter of it. Texts are copies. */
struct ol_served {
	char name[OL_NAME_MAX + 1];
	char parent[OL_NAME_MAX + 1]; /* of an adapter: the base's name; "" of the base */
	char folder[OL_PATH_MAX];     /* of an adapter; "" of the base */
	int64_t created;              /* seconds since 1970 */
	bool loaded;                  /* by ol_service_load, not found at the start */
};
bool ol_service_find(struct ol_service *service, struct ol_served *served_out, const char *name);
/* The first name after `after` ("" or NULL: the base, which comes before all adapters; those come
 * sorted); false: there is no more. */
bool ol_service_next(struct ol_service *service, struct ol_served *served_out, const char *after);
size_t ol_service_count(struct ol_service *service); /* base and adapters */

/* Serves one more adapter, from a PEFT folder or by its name in the home. OL_ERR_INPUT: it does not
 * fit the base, or the name is taken. Reads its header only. */
OL_MUST_CHECK enum ol_status ol_service_load(struct ol_service *service, const char *name,
					     const char *folder, struct ol_error *err);
/* Answers under way keep it to their end. OL_ERR_NOT_FOUND. */
OL_MUST_CHECK enum ol_status ol_service_unload(struct ol_service *service, const char *name,
					       struct ol_error *err);

/* What the routes need to know. */
const struct ol_runtime *ol_service_runtime(const struct ol_service *service);
const char *ol_service_base_name(const struct ol_service *service);
/* For grammars (model/grammar.h); NULL: this model's tokens cannot spell JSON, or it has none. */
struct ol_grammar_vocab *ol_service_vocab(const struct ol_service *service);
/* Positions that prompt and answer may take together. */
int64_t ol_service_room(const struct ol_service *service);
/* "ol-<first 16 of the model id>-<arithmetic version>" */
const char *ol_service_fingerprint(const struct ol_service *service);
const struct ol_accounting *ol_service_accounting(const struct ol_service *service);

/* ---- Numbers ------------------------------------------------------------------------------ */

struct ol_service_stats {
	struct ol_scheduler_stats scheduler;
	struct ol_adapter_pool_stats adapters;
	int64_t pages_free, pages_total;
	uint64_t asks, failed, cancelled;
	size_t asks_open;
};
/* As of the last step. Any thread. */
void ol_service_stats(struct ol_service *service, struct ol_service_stats *stats);

#endif
