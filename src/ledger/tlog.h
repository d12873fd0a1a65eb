/* ledger/tlog.h, floor 2: the public log: entries in, files out that anybody can check
 * (c2sp.org/tlog-tiles: names in ledger/tile.h, files in ledger/log_store.h).
 *
 * The journal is what counts; this log follows from it and can be rebuilt to the same bytes. The
 * order that no crash can turn into a lie:
 *
 *     journal durable -> append -> flush: tiles and entries durable, what to sign is known
 *         -> the node's key signs -> publish: the checkpoint takes the place of the older one
 *
 * so a published checkpoint never covers an entry that could be lost or a tile that is not there.
 * A crash anywhere leaves an older checkpoint with all of its files; ol_tlog_open goes on from
 * there, and the caller appends the journal's entries from ol_tlog_size on again.
 *
 * One thread owns an ol_tlog. Anyone may read the files meanwhile (ledger/tile_reader.h). */
#ifndef OL_LEDGER_TLOG_H
#define OL_LEDGER_TLOG_H

#include "ledger/checkpoint.h"
#include "ledger/log_store.h"
#include "ledger/tile.h"

struct ol_tlog;

/* Goes on from the published checkpoint, which must be of the log that the key belongs to (its name
 * is the origin) and whose files must hash to its root; from nothing when there is none.
 * OL_ERR_INPUT: the files are damaged or of another log: rebuild them (ol_tlog_create). The store
 * is borrowed. */
OL_MUST_CHECK enum ol_status ol_tlog_open(struct ol_tlog **log_out,
					  const struct ol_log_store *store,
					  const struct ol_note_key *log_key, struct ol_error *err);
/* Starts from nothing, whatever the files say. When all entries have been appended again and
 * flushed, the files are what they were before. Partial tiles of former checkpoints stay. */
OL_MUST_CHECK enum ol_status ol_tlog_create(struct ol_tlog **log_out,
					    const struct ol_log_store *store,
					    const struct ol_note_key *log_key,
					    struct ol_error *err);
void ol_tlog_close(struct ol_tlog *log);

/* Entries so far, published or not: the index of the next one. */
uint64_t ol_tlog_size(const struct ol_tlog *log);
/* What the newest published checkpoint covers. */
uint64_t ol_tlog_published(const struct ol_tlog *log);

/* size at most OL_ENTRY_MAX (INPUT otherwise). A tile that becomes full is handed to the store.
 * After any other error the log must be closed and opened again. */
OL_MUST_CHECK enum ol_status ol_tlog_append(struct ol_tlog *log, const void *entry, size_t size,
					    struct ol_error *err);

/* Makes everything so far durable and says what a checkpoint of it would hold. */
OL_MUST_CHECK enum ol_status ol_tlog_flush(struct ol_tlog *log,
					   struct ol_log_checkpoint *checkpoint,
					   struct ol_error *err);
/* Publishes a signed checkpoint of the last flush: its text must be just that, signed by the log's
 * key, with cosignatures or without. Again later with more signatures is fine, so long as no flush
 * came between. */
OL_MUST_CHECK enum ol_status ol_tlog_publish(struct ol_tlog *log, const char *note, size_t size,
					     struct ol_error *err);

#endif
