/* node/ledger_home.h, floor 4: where a node's ledger lies, and all of it opened as one thing.
 *
 *     HOME/ledger/                journal, snapshots, lock   (ledger/ledger.h)
 *     HOME/ledger/index.sqlite    the index                  (ledger/index.h)
 *     HOME/ledger/log.key         the log's verifier key     (ledger/note.h): public
 *     HOME/ledger/log/            the public files           (ledger/log_store.h)
 *
 * Only the journal counts. Snapshots, index and public files follow from it; `openledger ledger
 * rebuild` makes them again. */
#ifndef OL_NODE_LEDGER_HOME_H
#define OL_NODE_LEDGER_HOME_H

#include "ledger/ledger.h"
#include "ledger/publisher.h"
#include "node/home.h"

struct ol_bookkeeper;

struct ol_ledger_home {
	char folder[OL_PATH_MAX], index[OL_PATH_MAX], key[OL_PATH_MAX], log[OL_PATH_MAX];
};

/* Names only. */
OL_MUST_CHECK enum ol_status ol_ledger_home(struct ol_ledger_home *paths,
					    const struct ol_home *home, struct ol_error *err);
/* Makes the folders: the ledger's for its owner alone, the log's for everybody. */
OL_MUST_CHECK enum ol_status ol_ledger_home_make(const struct ol_ledger_home *paths,
						 struct ol_error *err);
/* The key that checkpoints of this ledger are signed with. NOT_FOUND: it has never published. */
OL_MUST_CHECK enum ol_status ol_ledger_home_key(struct ol_note_key *key_out,
						const struct ol_ledger_home *paths,
						struct ol_error *err);

struct ol_books_options {
	struct ol_book_limits limits; /* zeros: OL_BOOKS_LIMITS                            */
	const struct ol_clock *clock; /* NULL: the system's                                */
	const struct ol_random *random;
	/* Who signs checkpoints; borrowed. NULL: nothing is published, and `publisher` is NULL. */
	const struct ol_note_key *log_key;
	struct ol_checkpoint_signer signer;
	uint32_t interval_ms; /* of the publisher; 0: its own                             */
};
#define OL_BOOKS_LIMITS ((struct ol_book_limits){1 << 20, 1 << 24, 1 << 16})

/* All of a node's ledger. The parts may be used from any thread as their headers say. */
struct ol_books {
	struct ol_ledger_home paths;
	struct ol_disk disk;
	struct ol_bookkeeper *keeper;  /* the one that writes     */
	struct ol_ledger_index *index; /* caught up by publisher  */
	struct ol_log_folder *folder;
	struct ol_log_store store; /* the public files        */
	struct ol_note_key log_key;
	struct ol_publisher *publisher;
};

/* Opens, in this order, disk, index, ledger, publisher; makes what is missing. One process at a
 * time. Where the books are must not move until they are closed. */
OL_MUST_CHECK enum ol_status ol_books_open(struct ol_books *books, const struct ol_home *home,
					   const struct ol_books_options *options,
					   struct ol_error *err);
/* The other way round: what was posted is published first. Also after a failed opening. */
void ol_books_close(struct ol_books *books);

#endif
