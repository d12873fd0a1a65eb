/* ledger/book.h, floor 2: double entry. Accounts, transfers, and one named answer to each.
 *
 * The book is a state machine in memory: the answers to a batch are a function of (state, batch,
 * timestamp) and of nothing else, so that replaying the journal gives the same book. One thread
 * owns it; after ol_book_open it allocates nothing.
 *
 *     debits  what left an account          available = credits_posted
 *     credits what came in                              - debits_posted - debits_pending
 *
 * Two currencies that never meet: OPEN, and test credit. OPEN enters and leaves through a CHAIN
 * account, credit comes from a GRANTS account; neither kind exists in the other currency, so credit
 * has no way out.
 *
 * A transfer is posted at once, or in two phases: PENDING reserves an amount, then a second
 * transfer posts what was really spent and releases the rest (POST), or releases all (VOID), or the
 * time runs out. LINKED joins a transfer to the next one: a chain is posted whole or not at all.
 *
 * Ids are chosen by the client and carry a time. A retry within seven days finds the first one and
 * is answered EXISTS; after that the id is TOO OLD: nothing is ever posted twice. A refused
 * transfer leaves no trace, and the same id is judged anew. The chain of a retry must be whole: if
 * some of it stands in the book and some does not, CHAIN_DIFFERS, and nothing is posted.
 *
 * docs/LEDGER.md has the table of answers with the order in which they are found. */
#ifndef OL_LEDGER_BOOK_H
#define OL_LEDGER_BOOK_H

#include "ledger/amount.h"

/* ---- Accounts ------------------------------------------------------------ */

enum ol_currency { /* append-only */
		   OL_CURRENCY_OPEN = 0,
		   OL_CURRENCY_CREDIT = 1, /* "test credit" on every screen */
		   OL_CURRENCY_COUNT
};

enum ol_account_kind { /* append-only; what stands in id, zero-padded               */
		       OL_ACCOUNT_ADDRESS =
			       1, /* a person or a program: the 20 bytes of an EVM address     */
		       OL_ACCOUNT_PLATFORM =
			       2, /* the platform's own fees: zero                             */
		       OL_ACCOUNT_CLEARING =
			       3, /* where a price lands before it is split: zero; ends at 0   */
		       OL_ACCOUNT_POT =
			       4, /* an adapter's data share in one epoch: its id, and epoch   */
		       OL_ACCOUNT_DATANET =
			       5, /* a Datanet as a whole: its id                              */
		       OL_ACCOUNT_STAKERS =
			       6, /* those who stake on a Datanet: its id                      */
		       OL_ACCOUNT_CHAIN =
			       7, /* the world outside: where deposits come from. OPEN only    */
		       OL_ACCOUNT_OUTBOX =
			       8, /* withdrawals on their way to the chain: zero. OPEN only    */
		       OL_ACCOUNT_GRANTS =
			       9, /* where test credit comes from: zero. Credit only           */
		       OL_ACCOUNT_FUND =
			       10, /* anything else that is set aside: a name                   */
		       OL_ACCOUNT_KIND_LAST = OL_ACCOUNT_FUND
};

/* The name of an account. Longer ids (32-byte hashes) keep their first 24 bytes. */
struct ol_account_key {
	uint8_t kind, currency;
	uint16_t zero;
	uint32_t epoch; /* of a POT: hours since 1970; otherwise 0 */
	uint8_t id[24];
};

/* id may be shorter than 24 bytes or longer. */
void ol_account_key_init(struct ol_account_key *key, enum ol_account_kind kind,
			 enum ol_currency currency, uint32_t epoch, const void *id, size_t size);
bool ol_account_key_valid(const struct ol_account_key *key);
const char *ol_account_kind_name(enum ol_account_kind kind);

enum ol_account_flags {
	OL_ACCOUNT_OVERDRAFT = 1, /* may spend what it does not have                            */
	OL_ACCOUNT_FROZEN = 2,    /* nothing new leaves it; what is reserved may still be posted */
	OL_ACCOUNT_CLOSED = 4     /* nothing enters or leaves; only an empty account closes      */
};

struct ol_account {
	struct ol_account_key key;
	struct ol_total debits_posted, credits_posted, debits_pending, credits_pending;
	uint64_t opened_ms;
	uint32_t flags;
	uint8_t zero[20];
};

/* What can be spent or reserved; 0 when overdrawn. An amount that does not fit is its largest. */
struct ol_amount ol_account_available(const struct ol_account *account);

enum ol_account_action { OL_ACCOUNT_OPEN = 1, OL_ACCOUNT_SET_FLAGS = 2 };

/* Opens an account or gives it new flags. */
struct ol_account_op {
	struct ol_account_key key;
	uint16_t action;
	uint16_t zero;
	uint32_t flags;
	uint8_t zeros[24];
};

enum ol_account_outcome { /* append-only, in the order of the checks */
			  OL_ACCOUNT_OK = 0,
			  OL_ACCOUNT_UNKNOWN_ACTION = 1,
			  OL_ACCOUNT_UNKNOWN_FLAGS = 2,
			  OL_ACCOUNT_RESERVED_FIELD =
				  3, /* a field that must be zero is not              */
			  OL_ACCOUNT_INVALID_KEY = 4,
			  OL_ACCOUNT_NOT_FOUND =
				  5,             /* SET_FLAGS of an account that was never opened */
			  OL_ACCOUNT_EXISTS = 6, /* opened before, with the same flags            */
			  OL_ACCOUNT_EXISTS_WITH_DIFFERENT_FLAGS = 7,
			  OL_ACCOUNT_NOT_EMPTY =
				  8, /* closing: there is a balance or a reservation  */
			  OL_ACCOUNT_OVERDRAWN =
				  9, /* taking OVERDRAFT from an account below zero   */
			  OL_ACCOUNT_OUTCOME_COUNT
};
const char *ol_account_outcome_name(enum ol_account_outcome outcome);

/* ---- Transfers ------------------------------------------------------------ */

/* high: milliseconds since 1970 (48 bits), then 16 random bits; low: 64 random bits. */
struct ol_id {
	uint64_t low, high;
};

enum { OL_ID_TEXT_MAX = 33, OL_ID_RANDOM_BYTES = 10 };

struct ol_id ol_id_make(uint64_t time_ms, const uint8_t random[OL_ID_RANDOM_BYTES]);
static inline uint64_t ol_id_time_ms(struct ol_id id)
{
	return id.high >> 16;
}
static inline bool ol_id_equal(struct ol_id a, struct ol_id b)
{
	return a.low == b.low && a.high == b.high;
}
static inline bool ol_id_is_zero(struct ol_id id)
{
	return (id.low | id.high) == 0;
}
/* 32 lower-case hexadecimal digits, time first: text sorts by time. */
void ol_id_print(char out[OL_ID_TEXT_MAX], struct ol_id id);
OL_MUST_CHECK bool ol_id_parse(struct ol_id *out, const char *text, size_t length);

enum ol_transfer_flags {
	OL_TRANSFER_LINKED = 1,  /* stands or falls with the next one                          */
	OL_TRANSFER_PENDING = 2, /* reserves                                                   */
	OL_TRANSFER_POST = 4,    /* spends from the reservation pending_id, releases the rest  */
	OL_TRANSFER_VOID = 8,    /* releases all of it; amount is 0                            */
	OL_TRANSFER_OPENS = 16   /* opens the credit account if there is none, with no flags   */
};

/* What a transfer is for. The book asks only that it is said. Append-only. */
enum ol_transfer_code {
	OL_CODE_DEPOSIT = 1,    /* chain -> address                             */
	OL_CODE_GRANT = 2,      /* grants -> address                            */
	OL_CODE_PRICE = 3,      /* address -> clearing: reserved, then posted   */
	OL_CODE_BASE_OWNER = 4, /* clearing -> the roles of a split             */
	OL_CODE_BUILDER = 5,
	OL_CODE_DATA = 6, /* clearing -> pot                              */
	OL_CODE_REVIEWERS = 7,
	OL_CODE_STAKERS = 8,
	OL_CODE_NODE = 9,
	OL_CODE_PLATFORM = 10,
	OL_CODE_CONTRIBUTOR = 11, /* pot -> address, when an epoch is closed      */
	OL_CODE_WITHDRAW = 12,    /* address -> outbox                            */
	OL_CODE_SETTLED = 13,     /* outbox -> chain                              */
	OL_CODE_RETURNED = 14,    /* outbox -> address                            */
	OL_CODE_OTHER = 15
};

struct ol_transfer {
	struct ol_id id;
	struct ol_account_key debit, credit; /* of POST and VOID: those of the reservation */
	struct ol_id pending_id;             /* of POST and VOID, otherwise zero           */
	uint8_t user_data[16];               /* free: the start of the receipt's id        */
	struct ol_amount amount;
	uint32_t timeout_s; /* of PENDING, otherwise zero                 */
	uint16_t code, flags;
};

enum ol_post { /* append-only; found in the order of docs/LEDGER.md */
	       OL_POST_OK = 0,
	       OL_POST_EXISTS = 1,        /* a retry: posted before, exactly so           */
	       OL_POST_LINKED_FAILED = 2, /* another one of its chain was refused         */
	       OL_POST_CHAIN_OPEN = 3,    /* the batch ends inside the chain              */
	       OL_POST_CHAIN_DIFFERS = 4, /* posted before, but not together with the rest */
	       OL_POST_ID_ZERO = 5,
	       OL_POST_ID_IN_FUTURE = 6, /* more than OL_ID_FUTURE_MS                    */
	       OL_POST_ID_TOO_OLD = 7,   /* more than OL_ID_LIFE_MS                      */
	       OL_POST_EXISTS_WITH_DIFFERENT_FLAGS = 8,
	       OL_POST_EXISTS_WITH_DIFFERENT_CODE = 9,
	       OL_POST_EXISTS_WITH_DIFFERENT_AMOUNT = 10,
	       OL_POST_EXISTS_WITH_DIFFERENT_DEBIT = 11,
	       OL_POST_EXISTS_WITH_DIFFERENT_CREDIT = 12,
	       OL_POST_EXISTS_WITH_DIFFERENT_PENDING_ID = 13,
	       OL_POST_EXISTS_WITH_DIFFERENT_TIMEOUT = 14,
	       OL_POST_EXISTS_WITH_DIFFERENT_USER_DATA = 15,
	       OL_POST_UNKNOWN_FLAGS = 16,
	       OL_POST_EXCLUSIVE_FLAGS =
		       17, /* two of PENDING, POST, VOID; OPENS with POST or VOID */
	       OL_POST_CODE_ZERO = 18,
	       OL_POST_INVALID_DEBIT = 19, /* not a key that ol_account_key_valid takes    */
	       OL_POST_INVALID_CREDIT = 20,
	       OL_POST_SAME_ACCOUNT = 21,
	       OL_POST_CURRENCY_DIFFERS = 22,
	       OL_POST_AMOUNT_ZERO = 23,
	       OL_POST_AMOUNT_OF_VOID = 24,     /* VOID says no amount                          */
	       OL_POST_TIMEOUT_MISSING = 25,    /* PENDING without                              */
	       OL_POST_TIMEOUT_TOO_LONG = 26,   /* more than OL_PENDING_SECONDS_MAX             */
	       OL_POST_TIMEOUT_UNEXPECTED = 27, /* without PENDING                              */
	       OL_POST_PENDING_ID_MISSING = 28, /* POST or VOID without                         */
	       OL_POST_PENDING_ID_UNEXPECTED = 29,
	       OL_POST_DEBIT_NOT_FOUND = 30,
	       OL_POST_CREDIT_NOT_FOUND = 31,
	       OL_POST_PENDING_NOT_FOUND = 32,
	       OL_POST_PENDING_NOT_PENDING = 33, /* that transfer reserved nothing               */
	       OL_POST_PENDING_DIFFERENT_DEBIT = 34,
	       OL_POST_PENDING_DIFFERENT_CREDIT = 35,
	       OL_POST_PENDING_ALREADY_POSTED = 36,
	       OL_POST_PENDING_ALREADY_VOIDED = 37,
	       OL_POST_PENDING_EXPIRED = 38,
	       OL_POST_EXCEEDS_PENDING = 39, /* more than was reserved                       */
	       OL_POST_DEBIT_CLOSED = 40,
	       OL_POST_CREDIT_CLOSED = 41,
	       OL_POST_DEBIT_FROZEN = 42,
	       OL_POST_OVERDRAFT = 43, /* more than is available                       */
	       OL_POST_COUNT
};
const char *ol_post_name(enum ol_post outcome); /* "exists_with_different_amount" */

#define OL_ID_LIFE_MS UINT64_C(604800000) /* 7 days   */
#define OL_ID_FUTURE_MS UINT64_C(300000)  /* 5 minutes */
#define OL_TIME_MS_MAX ((UINT64_C(1) << 48) - 1)
enum {
	OL_PENDING_SECONDS_MAX = 86400,
	OL_BATCH_TRANSFERS_MAX = 8190,
	OL_BATCH_ACCOUNTS_MAX = 8190
};

_Static_assert(sizeof(struct ol_account_key) == 32, "journal record v1");
_Static_assert(sizeof(struct ol_account) == 128, "snapshot v1");
_Static_assert(offsetof(struct ol_account, flags) == 104, "snapshot v1");
_Static_assert(sizeof(struct ol_account_op) == 64, "journal record v1");
_Static_assert(offsetof(struct ol_account_op, flags) == 36, "journal record v1");
_Static_assert(sizeof(struct ol_transfer) == 128, "journal record v1");
_Static_assert(offsetof(struct ol_transfer, pending_id) == 80, "journal record v1");
_Static_assert(offsetof(struct ol_transfer, amount) == 112, "journal record v1");
_Static_assert(offsetof(struct ol_transfer, flags) == 126, "journal record v1");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records lie in memory as on disk");

/* ---- The book ------------------------------------------------------------ */

/* Memory: 144 to 160 bytes an account, 88 to 112 an id, 32 a reservation, taken as it is touched.
 * What the book cannot hold is refused before it is journaled (ol_book_admit), so these numbers
 * never change an answer and may grow from one start to the next. */
struct ol_book_limits {
	uint32_t accounts_max;
	uint32_t ids_max;     /* transfers of the last seven days  */
	uint32_t pending_max; /* reservations open at one time     */
};
enum {
	OL_BOOK_ACCOUNTS_MAX = 1 << 26, /* what limits may ask for */
	OL_BOOK_IDS_MAX = 1 << 27
};

struct ol_book;

/* secret keys the hash tables, so that nobody can choose addresses that collide; it has no
 * influence on answers. */
OL_MUST_CHECK enum ol_status ol_book_open(struct ol_book **book_out,
					  const struct ol_book_limits *limits, uint64_t secret,
					  struct ol_error *err);
void ol_book_close(struct ol_book *book);

struct ol_postings {
	const struct ol_account_op *accounts; /* applied first, in order */
	const struct ol_transfer *transfers;
	uint32_t account_count, transfer_count;
};

/* Lets time pass: reservations that ran out are released, ids older than seven days leave. now_ms
 * never decreases. Doing this more often than the journal says changes nothing that comes later. */
void ol_book_advance(struct ol_book *book, uint64_t now_ms);

/* Is there room for whatever the batch may do? OL_ERR_FULL names the limit. To be asked before
 * anything of the batch is written down. */
OL_MUST_CHECK enum ol_status ol_book_admit(const struct ol_book *book,
					   const struct ol_postings *postings,
					   struct ol_error *err);

/* advance(now_ms), then the batch, which must have been admitted. One answer each: an
 * ol_account_outcome in account_results, an ol_post in transfer_results. */
void ol_book_post(struct ol_book *book, uint8_t *account_results, uint8_t *transfer_results,
		  const struct ol_postings *postings, uint64_t now_ms);

/* NULL when there is none. Valid until the next post. */
const struct ol_account *ol_book_find(const struct ol_book *book, const struct ol_account_key *key);
/* In the order of opening. */
uint32_t ol_book_account_count(const struct ol_book *book);
const struct ol_account *ol_book_account_at(const struct ol_book *book, uint32_t index);
uint64_t ol_book_now_ms(const struct ol_book *book);
uint32_t ol_book_id_count(const struct ol_book *book);      /* live */
uint32_t ol_book_pending_count(const struct ol_book *book); /* open */

enum ol_transfer_state {
	OL_TRANSFER_UNKNOWN,  /* never posted, or older than seven days */
	OL_TRANSFER_POSTED,   /* a transfer, a POST or a VOID           */
	OL_TRANSFER_RESERVED, /* PENDING: open, or how it ended         */
	OL_TRANSFER_SPENT,
	OL_TRANSFER_VOIDED,
	OL_TRANSFER_EXPIRED
};
/* transfer_out may be NULL. */
enum ol_transfer_state ol_book_transfer(const struct ol_book *book,
					struct ol_transfer *transfer_out, struct ol_id id);

/* The open reservations, in no order: the next one from number *at on (begin with 0), which moves
 * on. False: no more. */
bool ol_book_next_reserved(const struct ol_book *book, struct ol_transfer *transfer_out,
			   uint32_t *at);

/* Re-adds everything: debits equal credits in each currency, posted and pending; nobody without
 * OVERDRAFT is below zero; the open reservations are what the accounts say is pending. */
OL_MUST_CHECK enum ol_status ol_book_check(const struct ol_book *book, struct ol_error *err);

/* ---- Snapshots of it (ledger/snapshot.h) ---------------------------------- */

/* The state as bytes, the same for every book with the same history and clock. `put` is called with
 * pieces of any size; a status other than OL_OK ends the writing. */
typedef enum ol_status ol_book_put(void *context, const void *bytes, size_t size,
				   struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_book_save(const struct ol_book *book, ol_book_put *put,
					  void *context, struct ol_error *err);
/* SHA-256 of those bytes. */
OL_MUST_CHECK enum ol_status ol_book_digest(const struct ol_book *book, uint8_t out[32],
					    struct ol_error *err);
/* The other way, into a book just opened. `get` fills exactly size bytes. */
typedef enum ol_status ol_book_get(void *context, void *bytes, size_t size, struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_book_load(struct ol_book *book, ol_book_get *get, void *context,
					  struct ol_error *err);

#endif
