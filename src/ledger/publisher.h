/* ledger/publisher.h, floor 2: the thread that derives what is public from what is durable.
 *
 *     journal durable ── wake ──> index catches up ──> tlog: append, flush
 *                                     ──> signer ──> checkpoint published ──> waiters told
 *
 * Everything it makes follows from the journal: after a crash between any two steps it goes on and
 * the files become what they would have been. It never publishes what is not durable, and it stops
 * before it publishes what contradicts an older checkpoint. When it fails it stops with a sentence
 * (ol_publisher_state); the ledger goes on without it.
 *
 * A checkpoint is made at most every interval, unless somebody waits for one. */
#ifndef OL_LEDGER_PUBLISHER_H
#define OL_LEDGER_PUBLISHER_H

#include "ledger/index.h"
#include "ledger/proof.h"
#include "ledger/tlog.h"

enum { OL_PUBLISHER_INTERVAL_MS = 200 };

/* Appends the signed checkpoint, a whole note, to out. The files it covers are durable and can be
 * read, so that the signer can be given a proof of consistency. A status other than OL_OK stops the
 * publisher. On the publisher's thread. */
struct ol_checkpoint_signer {
	enum ol_status (*sign)(void *self, struct ol_buf *note,
			       const struct ol_log_checkpoint *checkpoint, struct ol_error *err);
	void *self;
};

/* Everything is borrowed and outlives the publisher. */
struct ol_publisher_options {
	const struct ol_disk *journal;
	struct ol_ledger_index *index; /* the publisher alone catches it up */
	const struct ol_log_store *store;
	const struct ol_note_key *log_key;
	struct ol_checkpoint_signer signer;
	uint32_t interval_ms; /* 0: OL_PUBLISHER_INTERVAL_MS */
};

struct ol_publisher;

/* Starts the thread. Files that do not fit are found there, and stop it (ol_publisher_state). */
OL_MUST_CHECK enum ol_status ol_publisher_open(struct ol_publisher **publisher_out,
					       const struct ol_publisher_options *options,
					       struct ol_error *err);
/* Lets it end what it does; publishes nothing more. Nobody is inside a call. */
void ol_publisher_close(struct ol_publisher *publisher);

/* All up to this mark is durable. Quick, from any thread, and never an older mark. */
void ol_publisher_wake(struct ol_publisher *publisher, const struct ol_journal_mark *durable);

/* Hurries, and waits until a checkpoint covers this event. OL_ERR_NOT_FOUND: not within the time;
 * OL_ERR_IO: the publisher has stopped. */
OL_MUST_CHECK enum ol_status ol_publisher_wait(struct ol_publisher *publisher, uint64_t event_index,
					       uint32_t timeout_ms, struct ol_error *err);
/* Until everything of the last wake is in the index and under a checkpoint. */
OL_MUST_CHECK enum ol_status ol_publisher_settle(struct ol_publisher *publisher,
						 uint32_t timeout_ms, struct ol_error *err);

/* The newest checkpoint; its note is appended to note (NULL: not wanted). NOT_FOUND: there is none
 * yet. */
OL_MUST_CHECK enum ol_status ol_publisher_checkpoint(struct ol_publisher *publisher,
						     struct ol_log_checkpoint *checkpoint_out,
						     struct ol_buf *note, struct ol_error *err);
/* Appends the proof of an event as text (c2sp.org/tlog-proof, ledger/proof.h), under the newest
 * checkpoint. extra (NULL: none) travels with it and proves nothing. NOT_FOUND: no checkpoint
 * covers the event yet. */
OL_MUST_CHECK enum ol_status ol_publisher_prove(struct ol_publisher *publisher, struct ol_buf *text,
						uint64_t event_index, const void *extra,
						size_t extra_size, struct ol_error *err);

struct ol_publisher_state {
	bool stopped;
	struct ol_error failure; /* why, if it stopped                              */
	struct ol_journal_mark durable, indexed;
	uint64_t published;   /* events under the newest checkpoint                 */
	uint64_t checkpoints; /* published since it was opened                      */
};
void ol_publisher_state(struct ol_publisher *publisher, struct ol_publisher_state *state_out);

/* ---- Again from the journal, with no publisher running (ledger/publisher_again.c) ---- */

struct ol_published {
	uint64_t size;  /* of the published checkpoint; 0 too when there is none */
	bool published; /* there is one                                         */
	uint64_t files; /* that belong to it                                    */
};

/* Compares every file under the published checkpoint with what the events in the index make.
 * OL_ERR_INPUT: the first that differs, by name. */
OL_MUST_CHECK enum ol_status ol_published_check(struct ol_published *published_out,
						const struct ol_log_store *store,
						const struct ol_note_key *log_key,
						struct ol_ledger_index *index,
						struct ol_error *err);
/* Makes those files again. Needs no signature: the events must give the root of the checkpoint that
 * is published, and if they do not, it refuses before anything else is said to the world. */
OL_MUST_CHECK enum ol_status ol_published_rebuild(struct ol_published *published_out,
						  const struct ol_log_store *store,
						  const struct ol_note_key *log_key,
						  struct ol_ledger_index *index,
						  struct ol_error *err);

#endif
