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

/* The book must be what the journal says at `covers`, which must be durable. Older snapshots but
 * the last OL_SNAPSHOTS_KEPT go. */
OL_MUST_CHECK enum ol_status ol_snapshot_write(const struct ol_disk *disk,
					       const struct ol_book *book,
					       const struct ol_journal_mark *covers,
					       struct ol_error *err);

/* Loads the newest good one into a book just made: the book is replaced by *book_io, since a
 * snapshot found bad half-way leaves nothing of use. *covers says where to go on; sequence 0 when
 * there is no good snapshot (then the book is empty). bad_out (or NULL): how many were not good. */
OL_MUST_CHECK enum ol_status ol_snapshot_load(const struct ol_disk *disk, struct ol_book **book_out,
					      struct ol_journal_mark *covers, uint32_t *bad_out,
					      const struct ol_book_limits *limits, uint64_t secret,
					      struct ol_error *err);

#endif
