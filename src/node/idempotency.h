/* node/idempotency.h, floor 4: Idempotency-Key: a request that is sent twice is done once.
 *
 *     begin ─┬─ NEW ──> append(what is sent)… ─┬─ finish ──> on_kept: durable, send the end
 *            │                                 └─ release:  our failure: as if never asked
 *            ├─ WAIT ─> on_ready: REPLAY (the answer), LOST, AGAIN (begin again) or CLOSED
 *            └─ a refusal: ol_idempotency_row
 *
 * Per account and key, for 24 hours. The same key with another request (method, path, body) is
 * refused, as Stripe does it. What was answered is durable before its last byte is sent, so that
 * neither a crash nor `kill -9` makes a client pay twice for an answer it got whole; what was under
 * way then is forgotten, and a retry does it again. An answer that is longer than what was set
 * aside is not kept, but that it was given is (LOST).
 *
 * Bytes are bounded per account and in all; nothing is dropped before its time: when the room is
 * used up, new keys are refused (FULL).
 *
 * begin, append, finish and release may be called from any thread and never wait for the disk: one
 * thread of this module reads and writes, many answers in one commit. It calls on_kept and
 * on_ready, which must not wait either. */
#ifndef OL_NODE_IDEMPOTENCY_H
#define OL_NODE_IDEMPOTENCY_H

#include "base/buf.h"
#include "crypto/sha256.h"
#include "node/home.h"

enum {
	OL_IDEMPOTENCY_KEY_MAX = 255,         /* bytes, printable ASCII                          */
	OL_IDEMPOTENCY_SECONDS = 86400,       /* an answer is kept                               */
	OL_IDEMPOTENCY_ANSWER_MAX = 16 << 20, /* bytes of one answer                         */
	OL_IDEMPOTENCY_ROW_BYTES = 2048,      /* what an answer counts beside its bytes          */
	OL_IDEMPOTENCY_WAITERS_MAX = 32,      /* for one key                                     */
	OL_IDEMPOTENCY_TYPE_MAX = 64          /* bytes of a media type, with the NUL             */
};

struct ol_idempotency;
struct ol_lease;

struct ol_idempotency_options {
	uint64_t account_bytes_max, bytes_max; /* 0: 64 MiB, 1 GiB          */
	int64_t (*now)(void *context);         /* seconds; NULL: the clock  */
	void *context;
};

/* Append-only. Each has its row and its tests. */
enum ol_idempotency_verdict {
	OL_IDEMPOTENCY_NEW,     /* to be done: the lease is the caller's                     */
	OL_IDEMPOTENCY_WAIT,    /* on_ready will be called                                   */
	OL_IDEMPOTENCY_REPLAY,  /* of on_ready only: here is the answer                      */
	OL_IDEMPOTENCY_AGAIN,   /* of on_ready only: the first one came to nothing: begin again */
	OL_IDEMPOTENCY_LOST,    /* done, but its answer was too long to keep: 409             */
	OL_IDEMPOTENCY_OTHER,   /* the key belongs to another request: 422                   */
	OL_IDEMPOTENCY_BUSY,    /* the first one is under way, and too many wait: 409        */
	OL_IDEMPOTENCY_BAD_KEY, /* empty, too long, or not printable ASCII: 400              */
	OL_IDEMPOTENCY_FULL,    /* no room to keep one more: 429                             */
	OL_IDEMPOTENCY_CLOSED   /* memory or the store failed, or it is closing: 503         */
};
enum { OL_IDEMPOTENCY_VERDICTS = 10 };
struct ol_idempotency_row {
	enum ol_idempotency_verdict verdict;
	int http; /* 0: not a refusal */
	const char *type, *code, *sentence;
};
const struct ol_idempotency_row *ol_idempotency_row(enum ol_idempotency_verdict verdict);

/* An answer as it was sent; a stream's body is its bytes, events and all. Send it with the header
 * OL_IDEMPOTENCY_REPLAYED: true. */
#define OL_IDEMPOTENCY_REPLAYED "idempotent-replayed"
struct ol_kept {
	int status;
	const char *type;
	const void *body;
	size_t size;
};

/* Opens HOME/answers.sqlite3. */
OL_MUST_CHECK enum ol_status ol_idempotency_open(struct ol_idempotency **idempotency_out,
						 const struct ol_home *home,
						 const struct ol_idempotency_options *options,
						 struct ol_error *err);
/* Finishes what is to be kept and read. Every lease has been finished or released before, and
 * nothing is called any more. */
void ol_idempotency_close(struct ol_idempotency *idempotency);

/* What makes two requests the same. */
void ol_idempotency_fingerprint(uint8_t out[OL_SHA256_BYTES], const char *method, const char *path,
				const void *body, size_t size);

/* verdict is REPLAY (kept is valid during the call), LOST, AGAIN or CLOSED. */
typedef void ol_idempotency_ready(void *context, enum ol_idempotency_verdict verdict,
				  const struct ol_kept *kept);

/* answer_max: bytes to set aside for the answer; more is not kept. on_ready NULL: never WAIT, but
 * BUSY. *lease_out is set for NEW alone. */
enum ol_idempotency_verdict ol_idempotency_begin(struct ol_idempotency *idempotency,
						 struct ol_lease **lease_out, const char *account,
						 const char *key,
						 const uint8_t fingerprint[OL_SHA256_BYTES],
						 size_t answer_max, ol_idempotency_ready *on_ready,
						 void *context);

/* What is sent, as it is sent. One thread at a time per lease. */
void ol_idempotency_append(struct ol_lease *lease, const void *bytes, size_t size);

/* Both end the lease. on_kept is called once, when the answer is durable (OL_OK) or cannot be made
 * so (the client gets it all the same, but a retry will be done anew). Statuses of 500 and more are
 * not kept: on_kept says OL_OK at once, and who waits begins again. */
void ol_idempotency_finish(struct ol_lease *lease, int status, const char *type,
			   void (*on_kept)(void *context, enum ol_status status), void *context);
void ol_idempotency_release(struct ol_lease *lease);

struct ol_idempotency_stats {
	uint64_t answers, bytes, replays;
	int leases, waiters;
};
void ol_idempotency_stats(struct ol_idempotency *idempotency, struct ol_idempotency_stats *stats);

#endif
