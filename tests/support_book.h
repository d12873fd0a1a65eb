/* tests/support_book.h: the book again, slow and plain: a list of accounts, a list of transfers,
 * every balance a sum over the list, a chain tried on a copy. And random batches that know how to
 * be wrong. Nothing of src/ledger/book*.c is used. */
#ifndef OL_TESTS_SUPPORT_BOOK_H
#define OL_TESTS_SUPPORT_BOOK_H

#include "ledger/book.h"
#include "tests/support.h"

struct ol_naive_account {
	struct ol_account_key key;
	uint32_t flags;
	uint64_t opened_ms;
};

struct ol_naive_transfer {
	struct ol_transfer t;
	uint64_t posted_ms;
	enum ol_transfer_state state;
};

struct ol_naive_book {
	uint64_t now_ms;
	struct ol_naive_account *accounts;
	struct ol_naive_transfer *transfers;
	int account_count, transfer_count, account_room, transfer_room;
};

void ol_naive_init(struct ol_naive_book *naive);
void ol_naive_release(struct ol_naive_book *naive);
void ol_naive_copy(struct ol_naive_book *to,
		   const struct ol_naive_book *from); /* to: released or init */
void ol_naive_advance(struct ol_naive_book *naive, uint64_t now_ms);
void ol_naive_post(struct ol_naive_book *naive, uint8_t *account_results, uint8_t *transfer_results,
		   const struct ol_postings *postings, uint64_t now_ms);

/* NULL when the book says the same about every account and every transfer; else what differs. */
const char *ol_naive_difference(const struct ol_naive_book *naive, const struct ol_book *book);

/* ---- Random batches ------------------------------------------------------------ */

enum { OL_WORLD_ACCOUNTS = 24, OL_WORLD_BATCH_MAX = 24, OL_WORLD_SENT_MAX = 256 };

/* A few accounts of every kind, and what was sent before, to be sent again. */
struct ol_world {
	struct ol_dice dice;
	uint64_t now_ms;
	struct ol_transfer sent[OL_WORLD_SENT_MAX];
	int sent_count;
	struct ol_account_op ops[OL_WORLD_BATCH_MAX];
	struct ol_transfer transfers[OL_WORLD_BATCH_MAX];
};

void ol_world_init(struct ol_world *world, uint64_t seed);
/* Seconds, sometimes hours, sometimes days. */
void ol_world_wait(struct ol_world *world);
/* Opens every account of the world: the first batch of a history. */
void ol_world_open_accounts(struct ol_world *world, struct ol_postings *postings);
/* Points into world; at most `max` transfers. */
void ol_world_batch(struct ol_world *world, struct ol_postings *postings, int max);

#endif
