/* ledger/index.h, floor 2: the journal as tables, for questions (SQLite, one file).
 *
 *     journal ── ol_ledger_index_catch_up ──> events, transfers, accounts ──> questions
 *                in order, never twice: what was read and how far stand in one transaction
 *
 * Nothing here counts: balances are the book's, and the file can be thrown away and made again from
 * the journal, to the same content (ol_ledger_index_digest). It may lag behind the journal;
 * ol_ledger_index_position says how far it has come. It holds only what was durable when it was
 * read.
 *
 * The file is read and written through ONE connection per process, with a rollback journal, never
 * a WAL (docs/LEDGER.md says why). One thread catches up, any thread asks; a question waits for at
 * most one transaction of catching up. What the visitors are given is borrowed until they return;
 * they must be quick, and must not call the index. Ending a walk: return false. */
#ifndef OL_LEDGER_INDEX_H
#define OL_LEDGER_INDEX_H

#include "base/buf.h"
#include "ledger/event.h"
#include "ledger/journal.h"

enum {
	OL_LEDGER_INDEX_VERSION = 1,
	/* A transaction of catching up ends with the record that brings it to this. */
	OL_LEDGER_INDEX_STEP_ROWS = 4096,
	OL_LEDGER_INDEX_STEP_BYTES = 1 << 20,
	OL_LEDGER_INDEX_BUSY_MS = 10000 /* patience with another process */
};
#define OL_LEDGER_INDEX_FILE "index.sqlite"

struct ol_ledger_index;

/* Makes the file when there is none. path "": a private one that is gone at close. OL_ERR_INPUT:
 * not such a file, or damaged; OL_ERR_UNSUPPORTED: another version's. A rebuild mends both. */
OL_MUST_CHECK enum ol_status ol_ledger_index_open(struct ol_ledger_index **index_out,
						  const char *path, struct ol_error *err);
/* The same to ask only, beside the process that writes it. NOT_FOUND: there is no file. */
OL_MUST_CHECK enum ol_status ol_ledger_index_open_read_only(struct ol_ledger_index **index_out,
							    const char *path, struct ol_error *err);
void ol_ledger_index_close(struct ol_ledger_index *index);

/* Takes in all records behind its position up to `until`, which must be durable: the file must not
 * know what a crash could take back. NULL: all that there is, when nobody writes the journal.
 * OL_ERR_INPUT: the file is of another journal or another history of it, or is ahead of it. After
 * an error the index stands where its last whole transaction ended. */
OL_MUST_CHECK enum ol_status ol_ledger_index_catch_up(struct ol_ledger_index *index,
						      const struct ol_disk *journal,
						      const struct ol_journal_mark *until,
						      struct ol_error *err);
/* Makes the file anew from the whole journal, beside the old one, and puts it in its place when it
 * is done. Nobody has it open. */
OL_MUST_CHECK enum ol_status ol_ledger_index_rebuild(const char *path,
						     const struct ol_disk *journal,
						     const struct ol_journal_mark *until,
						     struct ol_error *err);

/* The last record that it holds; sequence 0: none. */
OL_MUST_CHECK enum ol_status ol_ledger_index_position(struct ol_ledger_index *index,
						      struct ol_journal_mark *mark_out,
						      struct ol_error *err);
/* SHA-256 over position and all rows in order: equal for equal content. mark_out (or NULL): the
 * position that it is of. */
OL_MUST_CHECK enum ol_status ol_ledger_index_digest(struct ol_ledger_index *index, uint8_t out[32],
						    struct ol_journal_mark *mark_out,
						    struct ol_error *err);

/* ---- Events ------------------------------------------------------------ */

struct ol_indexed_event {
	uint64_t index;                  /* in the public log                            */
	uint64_t sequence, timestamp_ms; /* of its record                                */
	uint8_t id[OL_EVENT_ID_BYTES];   /* its leaf hash                                */
	uint16_t kind;
	uint32_t size;
	const uint8_t *bytes;
	/* Its transfers: so many from this number on (ol_indexed_transfer.number). */
	uint64_t first_transfer;
	uint32_t transfer_count;
};
typedef bool ol_ledger_index_event_visit(void *context, const struct ol_indexed_event *event);

/* One event; its bytes are appended to `bytes` (NULL: not wanted), event_out->bytes points there.
 * NOT_FOUND: none, or none yet. Of two events with the same bytes the id finds the first. */
OL_MUST_CHECK enum ol_status ol_ledger_index_event(struct ol_ledger_index *index,
						   struct ol_indexed_event *event_out,
						   struct ol_buf *bytes, uint64_t event_index,
						   struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_ledger_index_event_by_id(struct ol_ledger_index *index,
							 struct ol_indexed_event *event_out,
							 struct ol_buf *bytes,
							 const uint8_t id[OL_EVENT_ID_BYTES],
							 struct ol_error *err);
/* Those of a kind (0: of every kind) before the event `before` (UINT64_MAX: the newest), newest
 * first, at most `limit`. */
OL_MUST_CHECK enum ol_status ol_ledger_index_events(struct ol_ledger_index *index, uint16_t kind,
						    uint64_t before, uint32_t limit,
						    ol_ledger_index_event_visit *visit,
						    void *context, struct ol_error *err);
/* All from this one on, in order, at most `limit`. */
OL_MUST_CHECK enum ol_status ol_ledger_index_events_from(struct ol_ledger_index *index,
							 uint64_t from, uint32_t limit,
							 ol_ledger_index_event_visit *visit,
							 void *context, struct ol_error *err);

/* ---- Transfers ------------------------------------------------------------ */

/* Only those that were posted; number 1, 2, 3, … in the order of the journal. */
struct ol_indexed_transfer {
	uint64_t number;
	uint64_t sequence, timestamp_ms; /* of its record                        */
	uint64_t event_index; /* the first event that speaks of it; OL_LEDGER_INDEX_NO_EVENT */
	struct ol_transfer transfer;
};
#define OL_LEDGER_INDEX_NO_EVENT UINT64_MAX
typedef bool ol_ledger_index_transfer_visit(void *context,
					    const struct ol_indexed_transfer *transfer);

OL_MUST_CHECK enum ol_status ol_ledger_index_transfer(struct ol_ledger_index *index,
						      struct ol_indexed_transfer *transfer_out,
						      struct ol_id id, struct ol_error *err);
/* What left or entered an account before the transfer with this number (UINT64_MAX: the newest),
 * newest first, at most `limit`. An account without any has none. */
OL_MUST_CHECK enum ol_status ol_ledger_index_statement(struct ol_ledger_index *index,
						       const struct ol_account_key *account,
						       uint64_t before, uint32_t limit,
						       ol_ledger_index_transfer_visit *visit,
						       void *context, struct ol_error *err);
/* In the order of its batch. NOT_FOUND: no such event. */
OL_MUST_CHECK enum ol_status ol_ledger_index_event_transfers(struct ol_ledger_index *index,
							     uint64_t event_index,
							     ol_ledger_index_transfer_visit *visit,
							     void *context, struct ol_error *err);

/* ---- Sums ------------------------------------------------------------ */

/* An account as the posted transfers make it: reservations move nothing. */
struct ol_indexed_account {
	struct ol_account_key key;
	uint64_t opened_ms;
	uint32_t flags;
	struct ol_total debits, credits; /* posted */
	uint64_t transfers;              /* of either side, reservations too */
};
typedef bool ol_ledger_index_account_visit(void *context, const struct ol_indexed_account *account);

/* NOT_FOUND: it was never opened. */
OL_MUST_CHECK enum ol_status ol_ledger_index_account(struct ol_ledger_index *index,
						     struct ol_indexed_account *account_out,
						     const struct ol_account_key *key,
						     struct ol_error *err);
/* In the order of their opening. */
OL_MUST_CHECK enum ol_status ol_ledger_index_accounts(struct ol_ledger_index *index,
						      ol_ledger_index_account_visit *visit,
						      void *context, struct ol_error *err);

struct ol_ledger_index_sums {
	uint64_t events, transfers, accounts;
	struct ol_total debits[OL_CURRENCY_COUNT], credits[OL_CURRENCY_COUNT];
};
OL_MUST_CHECK enum ol_status ol_ledger_index_sums(struct ol_ledger_index *index,
						  struct ol_ledger_index_sums *sums_out,
						  struct ol_error *err);

#endif
