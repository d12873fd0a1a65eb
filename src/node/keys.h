/* node/keys.h, floor 4: API keys: who may ask for what, and how much.
 *
 *     ol-4fQz…(43 characters: 256 random bits)…9aB(6: checksum)      shown once, then forgotten
 *
 * A token is 52 characters that a scanner for lost secrets finds by `ol-[0-9A-Za-z]{49}` and proves
 * by the checksum (CRC-32 of what comes before it, base 62). Only its SHA-256 is kept; it is looked
 * up by the hash and compared in constant time.
 *
 *     admit ──> reserve(tokens, money) ──> … the work … ──> settle(what it came to)
 *
 * Budgets are exact under concurrency: what is reserved counts as used until it is settled, so that
 * many requests at once cannot spend a budget twice. Usage is written about once a second and at
 * close; a crash forgets at most that second.
 *
 * A change made by another process (`openledger keys revoke`) is noticed within half a second, and
 * on_revoked is called for every key that has become invalid: whoever runs its requests ends them.
 *
 * All functions may be called from any thread. */
#ifndef OL_NODE_KEYS_H
#define OL_NODE_KEYS_H

#include "ledger/amount.h"
#include "node/store.h"

enum {
	OL_KEY_TOKEN_CHARS = 52, /* "ol-", 43, 6        */
	OL_KEY_ID_CHARS = 16,    /* "key-", 12          */
	OL_KEY_NAME_MAX = 64,    /* bytes of UTF-8      */
	OL_KEY_HINT_CHARS = 7,   /* "ol-4fQz"           */
	OL_ACCOUNT_MAX = 79,     /* of name characters; "local", or 0x… */
	OL_KEYS_MAX = 1000000    /* ever made on a node */
};
/* Of requests and tokens; of a minute's, a day's, a life's. */
#define OL_KEY_LIMIT_MAX INT64_C(100000000000)
#define OL_ACCOUNT_LOCAL "local"

/* What a key may be used for. Append-only bits: they are on disk. */
enum ol_scope {
	OL_SCOPE_NONE = 0,           /* of a route: open to everybody, no key needed   */
	OL_SCOPE_INFERENCE = 1 << 0, /* chat, completions, embeddings, tokenize        */
	OL_SCOPE_MODELS = 1 << 1,    /* list models                                    */
	OL_SCOPE_FILES = 1 << 2,     /* upload, read, delete files                     */
	OL_SCOPE_JOBS = 1 << 3,      /* fine-tuning jobs                               */
	OL_SCOPE_LEDGER = 1 << 4,    /* read the account's receipts and balances       */
	OL_SCOPE_DATANET = 1 << 5,   /* contribute, review                             */
	OL_SCOPE_METRICS = 1 << 6,   /* /metrics                                       */
	OL_SCOPE_ADMIN = 1 << 7      /* load and unload adapters, …; implies the others */
};
enum { OL_SCOPES = 8, OL_SCOPES_ALL = (1 << OL_SCOPES) - 1 };
enum { OL_SCOPES_DEFAULT = OL_SCOPE_INFERENCE | OL_SCOPE_MODELS | OL_SCOPE_FILES | OL_SCOPE_JOBS };
const char *ol_scope_name(enum ol_scope scope);
/* "inference,files"; the error lists the names there are. */
OL_MUST_CHECK enum ol_status ol_scopes_parse(uint32_t *scopes_out, const char *text,
					     struct ol_error *err);
bool ol_scopes_write(struct ol_buf *text, uint32_t scopes);

/* 0: no limit. Per-minute limits are buckets that hold a minute's worth and refill evenly. */
struct ol_key_limits {
	int64_t requests_per_minute, tokens_per_minute;
	int64_t tokens_per_day, tokens_total; /* days are UTC's */
	struct ol_amount money_per_day, money_total;
};

struct ol_key_info {
	char id[OL_KEY_ID_CHARS + 1];
	char hint[OL_KEY_HINT_CHARS + 1];
	char name[OL_KEY_NAME_MAX + 1];
	char account[OL_ACCOUNT_MAX + 1];
	uint32_t scopes;
	struct ol_key_limits limits;
	int64_t made_at, expires_at, revoked_at; /* seconds since 1970; 0: never */
	/* As far as known here: of this process up to now, of others up to their last writing. */
	int64_t requests_today, tokens_today, requests, tokens;
	struct ol_amount money_today, money;
};

/* ---- Opening ---- */

struct ol_keys;

struct ol_keys_options {
	/* Requests run as OL_ACCOUNT_LOCAL with every scope, whatever token they bring (client
	 * libraries insist on some), while no key has ever been made on this node. Only for a
	 * server that listens on loopback alone. */
	bool local;
	/* Look for changes by other processes, and write usage, on a thread of its own. */
	bool watch;
	/* For every key that becomes invalid (revoked, expired) while this is open. Called on the
	 * watching thread, or on that which revokes. Not to call back into keys. */
	void (*on_revoked)(void *context, const char *key_id);
	void *context;
	/* Microseconds since 1970; NULL: the clock. */
	int64_t (*now)(void *context);
};

/* Borrows the store. */
OL_MUST_CHECK enum ol_status ol_keys_open(struct ol_keys **keys_out, struct ol_store *store,
					  const struct ol_keys_options *options,
					  struct ol_error *err);
/* Writes the usage that is not written yet: the status is that of this. */
enum ol_status ol_keys_close(struct ol_keys *keys, struct ol_error *err);
/* One round of what the watching thread does: changes by others, expiries, usage. */
enum ol_status ol_keys_poll(struct ol_keys *keys, struct ol_error *err);

/* ---- Making and ending keys ---- */

struct ol_key_wish {
	const char *name, *account; /* NULL: "", OL_ACCOUNT_LOCAL */
	uint32_t scopes;
	struct ol_key_limits limits;
	int64_t expires_at; /* 0: never */
};
/* token_out is the only copy there will ever be: show it, then ol_wipe it. Durable on OL_OK. */
OL_MUST_CHECK enum ol_status ol_keys_add(struct ol_keys *keys,
					 char token_out[OL_KEY_TOKEN_CHARS + 1],
					 struct ol_key_info *info_out,
					 const struct ol_key_wish *wish, struct ol_error *err);
/* By id. OL_ERR_NOT_FOUND; revoking twice is fine. Durable on OL_OK. */
OL_MUST_CHECK enum ol_status ol_keys_revoke(struct ol_keys *keys, const char *id,
					    struct ol_error *err);
/* Keys by number from 0, in the order they were made; false beyond the last. */
bool ol_keys_at(struct ol_keys *keys, size_t index, struct ol_key_info *info_out);
bool ol_keys_find(struct ol_keys *keys, const char *id, struct ol_key_info *info_out);

/* Is it a token by form and checksum? (A typing error is told from an unknown key.) */
bool ol_key_token_check(const char *token);

/* ---- Judging a request ---- */

/* Append-only. Each has its row in ol_verdict_row and in the tests. */
enum ol_verdict {
	OL_VERDICT_OK,
	OL_VERDICT_NO_KEY,    /* none given                                          */
	OL_VERDICT_MALFORMED, /* not a token: wrong length, characters or checksum   */
	OL_VERDICT_UNKNOWN,   /* never made here                                     */
	OL_VERDICT_REVOKED,
	OL_VERDICT_EXPIRED,
	OL_VERDICT_SCOPE,    /* the key may do other things                         */
	OL_VERDICT_REQUESTS, /* requests a minute                                   */
	OL_VERDICT_TOKENS_MINUTE,
	OL_VERDICT_TOO_LARGE, /* more tokens than a minute's limit in one request    */
	OL_VERDICT_TOKENS_DAY,
	OL_VERDICT_TOKENS_TOTAL,
	OL_VERDICT_MONEY_DAY,
	OL_VERDICT_MONEY_TOTAL
};
enum { OL_VERDICTS = 14 };
struct ol_verdict_row {
	enum ol_verdict verdict;
	int http;                /* status code                                    */
	const char *type, *code; /* of OpenAI's error object                       */
	const char *sentence;    /* for the client: what, and how to mend it       */
	bool retry;              /* waiting helps: send retry-after                */
};
const struct ol_verdict_row *ol_verdict_row(enum ol_verdict verdict);

struct ol_caller {
	uint32_t key;                     /* its number from 1; 0: local without a key        */
	char key_id[OL_KEY_ID_CHARS + 1]; /* "" for local                                   */
	char account[OL_ACCOUNT_MAX + 1];
	uint64_t tenant; /* hash of the account, for ol_request.tenant        */
	uint32_t scopes;
};
/* Judges token (NULL or "": none given) and counts one request. retry_out: seconds to wait when the
 * verdict's row says that helps. caller_out is zero unless OL_VERDICT_OK. */
OL_MUST_CHECK enum ol_verdict ol_keys_admit(struct ol_keys *keys, struct ol_caller *caller_out,
					    int *retry_out, const char *token, enum ol_scope scope);
/* Still valid? For work that goes on for long. */
bool ol_keys_valid(struct ol_keys *keys, const struct ol_caller *caller);

/* What is set aside for one request. */
struct ol_reservation {
	uint32_t key;
	int64_t tokens;
	struct ol_amount money;
};
/* All or nothing. tokens and money: the most that it can come to. */
OL_MUST_CHECK enum ol_verdict ol_keys_reserve(struct ol_keys *keys,
					      struct ol_reservation *reservation_out,
					      int *retry_out, const struct ol_caller *caller,
					      int64_t tokens, struct ol_amount money);
/* What it did come to (0 and 0: our failure costs nothing); gives back the rest. Once per
 * reservation; empties it. */
void ol_keys_settle(struct ol_keys *keys, struct ol_reservation *reservation, int64_t tokens,
		    struct ol_amount money);

#endif
