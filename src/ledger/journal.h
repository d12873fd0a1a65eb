/* ledger/journal.h, floor 2: the append-only record of everything, durable before it is told.
 *
 * A folder of segment files. Each holds records; a record is one batch: {account ops, transfers
 * with their answers, events}, chained to the one before it by SHA-256. Records are gathered into a
 * group and become durable together:
 *
 *     append, append, ... commit        one write and one fdatasync a group
 *     seal                              an empty record after the last group
 *
 * A group starts at a multiple of 4096 of its file and pads itself to one, so no write ever touches
 * a sector that holds acknowledged bytes. A group is written only after the one before it is
 * durable. Therefore, when a record is bad on opening:
 *
 *     followed by a good record of a later group      it was durable once: damage. Refused, with
 *                                                     sequence and offset; nothing is changed.
 *     otherwise                                       the group that was being written when the
 *                                                     machine stopped, never acknowledged: cut off.
 *
 * The seal closes the one gap of this rule (damage in the very last group): the writer seals when
 * it has nothing to do, and at close, so that acknowledged records have a later group behind them.
 *
 * Any failure of write or sync is final: the journal says so at every later call, and only a new
 * opening, which reads what is really on the disk, goes on (docs/LEDGER.md; layout: FORMATS.md). */
#ifndef OL_LEDGER_JOURNAL_H
#define OL_LEDGER_JOURNAL_H

#include "base/disk.h"
#include "ledger/book.h"

enum {
	OL_EVENT_BYTES_MAX = 65535, /* C2SP tlog-tiles entry                         */
	OL_BATCH_EVENTS_MAX = 8190,
	OL_BATCH_EVENT_BYTES_MAX = 4 << 20,
	OL_RECORD_BYTES_MAX = 8 << 20, /* the largest batch fits                        */
	OL_GROUP_BYTES_MAX = 12 << 20,
	OL_JOURNAL_BLOCK = 4096,
	OL_JOURNAL_ID_BYTES = 16,
	OL_JOURNAL_HASH_BYTES = 32
};

/* A leaf of the public log. It is written only if the transfers it speaks of were all posted. */
struct ol_event {
	const uint8_t *bytes;
	uint32_t size;
	uint16_t kind;                           /* for queries; 0 is not a kind               */
	uint32_t first_transfer, transfer_count; /* of the same batch; none: always written    */
};

/* One record as it is written and read. Pointers are the caller's, or lie in the reader's buffer
 * until the next record. */
struct ol_journal_record {
	uint64_t sequence;     /* 1, 2, 3, ...                              */
	uint64_t timestamp_ms; /* never decreases                           */
	uint64_t position;     /* of its first byte: record bytes of all segments, in a row */
	uint64_t event_index;  /* of its first event in the public log      */
	struct ol_postings postings;
	const uint8_t *account_results, *transfer_results;
	const struct ol_event *events;
	uint32_t event_count;
	bool seal; /* nothing in it */
	uint8_t hash[OL_JOURNAL_HASH_BYTES];
};

/* Where a journal stands: after which record reading begins or writing goes on. */
struct ol_journal_mark {
	uint64_t sequence; /* of the last record; 0 before the first          */
	uint64_t last;     /* where that record begins                        */
	uint64_t position; /* just behind it                                  */
	uint64_t timestamp_ms;
	uint64_t event_count;
	uint8_t hash[OL_JOURNAL_HASH_BYTES];
	uint8_t id[OL_JOURNAL_ID_BYTES]; /* of the journal */
};

struct ol_journal_options {
	uint64_t segment_bytes; /* multiple of 4096; 0: OL_JOURNAL_SEGMENT_BYTES */
	uint32_t group_bytes;   /* room for one group; 0: OL_GROUP_BYTES_MAX     */
};
#define OL_JOURNAL_SEGMENT_BYTES (UINT64_C(64) << 20)

struct ol_journal;

/* Called for every record behind the mark, in order, seals included. A status other than OL_OK ends
 * the opening. */
typedef enum ol_status ol_journal_visit(void *context, const struct ol_journal_record *record,
					struct ol_error *err);

/* Makes a new journal (with this random id) in a folder that has none. */
OL_MUST_CHECK enum ol_status ol_journal_create(const struct ol_disk *disk,
					       const uint8_t id[OL_JOURNAL_ID_BYTES],
					       uint64_t now_ms, struct ol_error *err);

/* Opens it for writing: reads all records behind `from` (NULL: the beginning), cuts off what was
 * never acknowledged, and is ready to append. One process at a time: the caller holds the lock of
 * the folder (ol_disk.lock). OL_ERR_NOT_FOUND: there is no journal; OL_ERR_INPUT: it is damaged, or
 * does not reach as far as `from`. cut_out (or NULL): bytes that were cut off. */
OL_MUST_CHECK enum ol_status ol_journal_open(struct ol_journal **journal_out, uint64_t *cut_out,
					     const struct ol_disk *disk,
					     const struct ol_journal_options *options,
					     const struct ol_journal_mark *from,
					     ol_journal_visit *visit, void *context,
					     struct ol_error *err);
/* The same reading, changing nothing: for indexes and the public log, beside a running writer. It
 * ends at the first record that was not begun; mark_out (or NULL) says where. The next pass, from
 * there, may see more. It costs what is new, not what there is. */
OL_MUST_CHECK enum ol_status ol_journal_read(const struct ol_disk *disk,
					     struct ol_journal_mark *mark_out,
					     const struct ol_journal_mark *from,
					     ol_journal_visit *visit, void *context,
					     struct ol_error *err);
/* From the first record to the end, and every byte behind the end: a record that is gone, with
 * later ones behind it, is found. For `ledger check`. */
OL_MUST_CHECK enum ol_status ol_journal_verify(const struct ol_disk *disk,
					       struct ol_journal_mark *mark_out,
					       ol_journal_visit *visit, void *context,
					       struct ol_error *err);
/* Does not commit or seal. */
void ol_journal_close(struct ol_journal *journal);

/* Puts a record into the group: sequence, position and event_index are filled in. Events
 * whose transfers were not all posted must have been left out. OL_ERR_FULL: the group has no room,
 * commit first (nothing happened). */
OL_MUST_CHECK enum ol_status ol_journal_append(struct ol_journal *journal,
					       struct ol_journal_record *record,
					       struct ol_error *err);
/* Would a record of so many bytes (ol_journal_record_bytes) fit the group? */
bool ol_journal_has_room(const struct ol_journal *journal, uint32_t bytes);
/* Durable when it returns OL_OK; until then nothing of the group may be acknowledged. */
OL_MUST_CHECK enum ol_status ol_journal_commit(struct ol_journal *journal, struct ol_error *err);
/* Commits, then appends an empty record of this time and commits that; nothing to do when the last
 * one is a seal that is as late. A time before the last record's means that one's. */
OL_MUST_CHECK enum ol_status ol_journal_seal(struct ol_journal *journal, uint64_t now_ms,
					     struct ol_error *err);

/* The last record that is durable. */
const struct ol_journal_mark *ol_journal_durable(const struct ol_journal *journal);
/* The last record appended. */
const struct ol_journal_mark *ol_journal_end(const struct ol_journal *journal);

/* Bytes of a batch as a record, or 0 when it is over a limit. */
uint32_t ol_journal_record_bytes(const struct ol_journal_record *record);

#endif
