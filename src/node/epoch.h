/* node/epoch.h, floor 4: contributors are paid: an adapter's data pot goes to those who shaped its
 * answers.
 *
 *     receipts of model and epoch ── their share tables ── signed scores added up ── positive parts
 *                                                                  │
 *     pot (what was paid for data) ────── split by them ─────> contributors, in one batch
 *                                                              with the event that says so
 *
 * Everything that decides is in the log and in the tables under their roots, so anybody can compute
 * it again (docs/PAYOUT.md). Scores are netted over the epoch before anything is positive: pay for
 * single answers would reward variance. A pot whose answers have no table, or in which nobody's sum
 * is positive, goes to the model's Datanet as a whole. Epochs are hours since 1970. */
#ifndef OL_NODE_EPOCH_H
#define OL_NODE_EPOCH_H

#include "node/ledger_home.h"

enum { OL_EPOCH_PAYEES_MAX = 8000 };

/* The event (docs/FORMATS.md). The table under `shares` holds who got which part. */
struct ol_epoch_event {
	struct ol_event_head head;
	uint8_t model[24]; /* of the pot's name */
	uint64_t epoch;
	uint32_t currency, payees;
	uint64_t answers; /* of which the scores were added up    */
	struct ol_amount amount;
	uint64_t log_size;  /* receipts among the first so many leaves were looked at */
	uint8_t shares[32]; /* zero: all of it went to the Datanet  */
};
_Static_assert(sizeof(struct ol_epoch_event) == 112, "epoch v1");

/* One pot that was emptied. */
struct ol_epoch_paid {
	struct ol_account_key pot;
	struct ol_amount amount;
	uint32_t payees;
	uint64_t answers;
};

/* Closes all pots of epochs that are over; with `early` those of the present one too (its later
 * answers fill the pot again). A pot that cannot be closed stays as it is: the others are paid, and
 * the first error is told. paid: called for each pot; may be NULL. The index must not be behind
 * (settle the publisher first). */
OL_MUST_CHECK enum ol_status ol_epoch_close_all(struct ol_books *books, const struct ol_home *home,
						bool early,
						void (*paid)(void *context,
							     const struct ol_epoch_paid *paid),
						void *context, struct ol_error *err);

/* The event again, from the receipts and tables that it follows from: the scores, the share table,
 * and its transfers, one by one. *fault: what is wrong, NULL: nothing. OL_ERR_NOT_FOUND: a table
 * that it needs is not here. */
OL_MUST_CHECK enum ol_status ol_epoch_check(const char **fault, struct ol_ledger_index *index,
					    const struct ol_home *home, uint64_t event_index,
					    const uint8_t *bytes, size_t size,
					    struct ol_error *err);

/* Whose account a payee of a share table is: an address, or set aside under the name's hash until
 * somebody shows that it is his. */
void ol_payee_account(struct ol_account_key *key, const uint8_t payee[32],
		      enum ol_currency currency);

#endif
