/* ledger/bookkeeper.h, floor 2: the one thread that owns the ledger, for all who have something to
 * post.
 *
 *     any thread           ┌──────────── the bookkeeper ────────────┐
 *     post(SOON)    ─────> │ judged by the book ─> told             │
 *     post(DURABLE) ─────> │ judged ─> one commit for all that came ─> told
 *     look          ─────> │ between batches                        │
 *                          └─ nothing to do for a while: a seal ────┘
 *
 * The caller's batch is used where it lies: callers wait, and while one group is on its way to the
 * disk the next one gathers. What is told to the world must be DURABLE; a reservation may be taken
 * SOON, since nothing hangs on one that a crash forgets.
 *
 * When the disk fails the bookkeeper stops: every call says so. A new opening reads what is really
 * there. */
#ifndef OL_LEDGER_BOOKKEEPER_H
#define OL_LEDGER_BOOKKEEPER_H

#include "ledger/ledger.h"

struct ol_bookkeeper;

struct ol_bookkeeper_options {
	struct ol_ledger_options ledger;
	/* A snapshot whenever so many came, beside the work, and at close; 0: 100,000. */
	uint64_t snapshot_transfers;
	/* On the bookkeeper's thread after every commit, and once at opening: all up to the mark is
	 * durable. Must be quick and must not call back. May be NULL. */
	void (*on_commit)(void *context, const struct ol_journal_mark *durable);
	void *context;
};

OL_MUST_CHECK enum ol_status ol_bookkeeper_open(struct ol_bookkeeper **keeper_out,
						struct ol_ledger_opening *opening_out,
						const struct ol_bookkeeper_options *options,
						struct ol_error *err);
/* Nobody is inside a call. Commits, seals, writes a snapshot if there is reason to. */
void ol_bookkeeper_close(struct ol_bookkeeper *keeper);

enum ol_when { OL_SOON, OL_DURABLE };

/* Fills the batch's answers. OL_ERR_FULL, OL_ERR_INPUT: nothing of it happened. OL_ERR_IO: stopped;
 * of a batch that was waiting nobody knows whether it stands until the ledger is opened again. */
OL_MUST_CHECK enum ol_status ol_bookkeeper_post(struct ol_bookkeeper *keeper,
						struct ol_batch *batch, enum ol_when when,
						struct ol_error *err);

/* Calls look with the book as it stands, on the bookkeeper's thread; it may be ahead of the disk.
 */
typedef void ol_book_look(void *context, const struct ol_book *book);
OL_MUST_CHECK enum ol_status ol_bookkeeper_look(struct ol_bookkeeper *keeper, ol_book_look *look,
						void *context, struct ol_error *err);
/* One account. *found says whether there is one. */
OL_MUST_CHECK enum ol_status ol_bookkeeper_account(struct ol_bookkeeper *keeper,
						   struct ol_account *account_out, bool *found,
						   const struct ol_account_key *key,
						   struct ol_error *err);

/* From any thread: the clock's time, and a new id of it. */
uint64_t ol_bookkeeper_now_ms(const struct ol_bookkeeper *keeper);
struct ol_id ol_bookkeeper_id(const struct ol_bookkeeper *keeper);

#endif
