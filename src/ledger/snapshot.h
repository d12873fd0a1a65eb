/* ledger/snapshot.h, floor 2: the book on disk, bound to the journal up to one record.
 *
 * A snapshot is a shortcut, never a source: it can be deleted, and `ledger check` makes it again
 * from the journal and compares. It is written under another name, made durable, then renamed. It
 * names the journal, the sequence, the position and the hash it covers, so it cannot be paired with
 * another history; and it covers only records that are durable. */
#ifndef OL_LEDGER_SNAPSHOT_H
#define OL_LEDGER_SNAPSHOT_H

#include "ledger/journal.h"

enum { OL_SNAPSHOTS_KEPT = 2 };

/* The book must be what the journal says at `covers`, its clock that record's time; and `covers`
 * must be durable. Older snapshots but
 * the last OL_SNAPSHOTS_KEPT go. */
OL_MUST_CHECK enum ol_status ol_snapshot_write(const struct ol_disk *disk,
					       const struct ol_book *book,
					       const struct ol_journal_mark *covers,
					       struct ol_error *err);

/* Opens a book from the newest snapshot that is good; without any, an empty one. *covers says where
 * the journal goes on (sequence 0: at its beginning). bad_out (or NULL): how many were not good. */
OL_MUST_CHECK enum ol_status ol_snapshot_load(const struct ol_disk *disk, struct ol_book **book_out,
					      struct ol_journal_mark *covers, uint32_t *bad_out,
					      const struct ol_book_limits *limits, uint64_t secret,
					      struct ol_error *err);

/* What the snapshots claim, newest first: the record that each covers, and the digest of the book
 * there (ol_book_digest). Those that are not good are left out and counted. */
struct ol_snapshot_claim {
	struct ol_journal_mark covers;
	uint8_t book[32];
};
OL_MUST_CHECK enum ol_status ol_snapshot_claims(const struct ol_disk *disk,
						struct ol_snapshot_claim *claims_out, size_t room,
						size_t *count_out, uint32_t *bad_out,
						struct ol_error *err);

#endif
