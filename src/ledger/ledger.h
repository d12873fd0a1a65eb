/* ledger/ledger.h, floor 2: book and journal as one thing, for one thread.
 *
 *     post, post, post, commit        answers are known at post, they may be told after commit
 *
 * Opening loads the newest good snapshot and replays the journal behind it; every answer in the
 * journal must be the answer of the book, or the opening is refused. After any failure of the disk
 * the ledger has stopped: it answers nothing more, and is to be closed and opened again.
 *
 * Threads that want something posted go through ledger/bookkeeper.h. */
#ifndef OL_LEDGER_LEDGER_H
#define OL_LEDGER_LEDGER_H

#include "base/clock.h"
#include "base/random.h"
#include "ledger/journal.h"
#include "ledger/snapshot.h"

struct ol_ledger_options {
	struct ol_disk disk; /* the folder; stays the caller's */
	struct ol_clock clock;
	struct ol_random random;
	struct ol_book_limits limits;
	struct ol_journal_options journal;
};

/* What opening found. */
struct ol_ledger_opening {
	bool created;      /* there was none                                    */
	uint64_t snapshot; /* sequence that the snapshot covered; 0: none        */
	uint32_t bad_snapshots;
	uint64_t replayed; /* records                                           */
	uint64_t replayed_transfers;
	uint64_t cut; /* bytes of a group that was never acknowledged       */
};

#define OL_EVENT_NOT_LOGGED UINT64_MAX

/* One batch: all of it lands in one record. */
struct ol_batch {
	struct ol_postings postings;
	const struct ol_event *events;
	uint32_t event_count;
	/* Out. The arrays are the caller's, one element each. */
	uint8_t *account_results;  /* enum ol_account_outcome                              */
	uint8_t *transfer_results; /* enum ol_post                                         */
	uint64_t *event_indexes;   /* in the public log; OL_EVENT_NOT_LOGGED: some of its
				      transfers were not posted now                        */
	uint64_t timestamp_ms;
	uint64_t sequence; /* of its record; 0: nothing of it was posted, so nothing was written */
};

struct ol_ledger;

/* opening_out may be NULL. OL_ERR_IO: among others, another process has the folder. */
OL_MUST_CHECK enum ol_status ol_ledger_open(struct ol_ledger **ledger_out,
					    struct ol_ledger_opening *opening_out,
					    const struct ol_ledger_options *options,
					    struct ol_error *err);
/* Neither commits nor seals: what was not committed is lost. */
void ol_ledger_close(struct ol_ledger *ledger);

/* OL_ERR_FULL: the book has no room. OL_ERR_INPUT: the batch is over a limit. In both cases nothing
 * happened and the ledger goes on; any other failure stops it. */
OL_MUST_CHECK enum ol_status ol_ledger_post(struct ol_ledger *ledger, struct ol_batch *batch,
					    struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_ledger_commit(struct ol_ledger *ledger, struct ol_error *err);
/* When there is nothing to do for a while, and before closing (ledger/journal.h). */
OL_MUST_CHECK enum ol_status ol_ledger_seal(struct ol_ledger *ledger, struct ol_error *err);
/* Commits, seals, and writes a snapshot. A failure leaves the older ones and stops the ledger only
 * if it was the journal's. */
OL_MUST_CHECK enum ol_status ol_ledger_snapshot(struct ol_ledger *ledger, struct ol_error *err);
/* The same from the files alone, beside the thread that goes on writing: a second book is loaded
 * and led up to `durable`, which that thread has said. It costs the memory of a second book and
 * holds nobody up. One at a time, and not while ol_ledger_snapshot runs. */
OL_MUST_CHECK enum ol_status ol_ledger_snapshot_beside(const struct ol_disk *disk,
						       const struct ol_journal_mark *durable,
						       const struct ol_book_limits *limits,
						       uint64_t secret, struct ol_error *err);
bool ol_ledger_stopped(const struct ol_ledger *ledger);

/* For reading, by the thread that owns the ledger. It may be ahead of what is durable. */
const struct ol_book *ol_ledger_book(const struct ol_ledger *ledger);
const struct ol_journal_mark *ol_ledger_durable(const struct ol_ledger *ledger);

/* ---- Check ------------------------------------------------------------ */

struct ol_ledger_report {
	struct ol_journal_mark end;
	uint64_t records, transfers, events;
	uint32_t accounts;
	uint32_t snapshots, bad_snapshots; /* compared; unreadable */
	uint8_t book[32];                  /* digest at the end    */
};

/* Derives everything again from the first record, beside a running writer if need be: every hash,
 * every answer, sums after every record (`sums`: slow, walks the book each time) or at the end, and
 * each snapshot against the book derived at its place. */
OL_MUST_CHECK enum ol_status ol_ledger_check(const struct ol_disk *disk,
					     struct ol_ledger_report *report_out,
					     const struct ol_book_limits *limits, uint64_t secret,
					     bool sums, struct ol_error *err);

#endif
