/* node/ledger_home.h, floor 4: where a node's ledger lies, and all of it opened as one thing.
 *
 *     HOME/ledger/                journal, snapshots, lock   (ledger/ledger.h)
 *     HOME/ledger/index.sqlite    the index                  (ledger/index.h)
 *     HOME/ledger/log.key         the log's verifier key     (ledger/note.h): public
 *     HOME/ledger/log/            the public files           (ledger/log_store.h)
 *     HOME/signer/                the node's key             (node/signer.h)
 *
 * Only the journal and the key count. Snapshots, index and public files follow from the journal;
 * `openledger ledger rebuild` makes them again. */
#ifndef OL_NODE_LEDGER_HOME_H
#define OL_NODE_LEDGER_HOME_H

#include "ledger/bookkeeper.h"
#include "ledger/publisher.h"
#include "node/home.h"
#include "node/log_signer.h"
#include "node/signer.h"

struct ol_ledger_home {
	char folder[OL_PATH_MAX], index[OL_PATH_MAX], key[OL_PATH_MAX], log[OL_PATH_MAX],
		signer[OL_PATH_MAX];
};

/* Names only. */
OL_MUST_CHECK enum ol_status ol_ledger_home(struct ol_ledger_home *paths,
					    const struct ol_home *home, struct ol_error *err);
/* The key that checkpoints of this ledger are signed with. NOT_FOUND: it has never published. */
OL_MUST_CHECK enum ol_status ol_ledger_home_key(struct ol_note_key *key_out,
						const struct ol_ledger_home *paths,
						struct ol_error *err);
/* Makes it this one: a copy of what the signer says, for commands that verify without it. INPUT:
 * the key bears another name than the one before. */
OL_MUST_CHECK enum ol_status ol_ledger_home_keep_key(const struct ol_ledger_home *paths,
						     const struct ol_note_key *key,
						     struct ol_error *err);

/* Zeros are fine everywhere. */
struct ol_books_options {
	struct ol_book_limits limits; /* OL_BOOKS_LIMITS                                      */
	const struct ol_clock *clock; /* the system's                                         */
	const struct ol_random *random;
	struct ol_journal_options journal; /* its own */
	/* The node's key, borrowed: it signs checkpoints (and what ol_books_sign is given). NULL:
	 * nothing is published, the index is caught up when the books are closed. */
	struct ol_signer *signer;
	struct ol_signer *second_signer; /* signs checkpoints too (node/key_rotation.h); or NULL */
	const struct ol_log_witness *witnesses; /* asked to cosign checkpoints; copied */
	uint32_t witness_count;
	uint32_t interval_ms; /* of the publisher */
};
#define OL_BOOKS_LIMITS ((struct ol_book_limits){1 << 20, 1 << 24, 1 << 16})

/* All of a node's ledger. The parts may be used from any thread, as their headers say. */
struct ol_books {
	struct ol_ledger_home paths;
	struct ol_disk disk;
	struct ol_ledger_opening opening; /* what was found               */
	struct ol_bookkeeper *keeper;     /* the one that writes          */
	struct ol_ledger_index *index;    /* the publisher catches it up  */
	struct ol_log_folder *folder;
	struct ol_log_store store; /* the public files             */
	struct ol_note_key log_key;
	struct ol_publisher *publisher; /* NULL without a signer        */
	/* Inside. */
	struct ol_signer *signer;
	struct ol_log_signer *log_signer; /* signs what is published        */
	struct ol_journal_mark durable;   /* the bookkeeper's thread's      */
	bool opened, has_disk;
};

/* Opens, in this order, disk, ledger, index, publisher, and makes what is missing; the index knows
 * all that is durable by then. One process at a time. The books must not move in memory until they
 * are closed. After a failure nothing is open. */
OL_MUST_CHECK enum ol_status ol_books_open(struct ol_books *books, const struct ol_home *home,
					   const struct ol_books_options *options,
					   struct ol_error *err);
/* What was posted is durable, and public if there is a publisher that works. Fine after a failed
 * opening. */
void ol_books_close(struct ol_books *books);

/* For the cashier (node/cashier.h): self is the books. The node's signature under an event, and the
 * newest checkpoint (size 0: there is none). */
OL_MUST_CHECK enum ol_status ol_books_sign(void *self,
					   uint8_t signature_out[OL_ED25519_SIGNATURE_BYTES],
					   const void *bytes, size_t size, struct ol_error *err);
void ol_books_checkpoint(void *self, uint64_t *size_out, uint8_t root_out[OL_MERKLE_BYTES]);

#endif
