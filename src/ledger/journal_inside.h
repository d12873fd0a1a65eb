/* ledger/journal_inside.h, floor 2: the bytes of a journal (docs/FORMATS.md), shared by the reading
 * and the writing half. For nobody else. */
#ifndef OL_LEDGER_JOURNAL_INSIDE_H
#define OL_LEDGER_JOURNAL_INSIDE_H

#include "ledger/journal.h"

#include <string.h>

/* tests/ compile the two halves again with mistakes that the simulator must catch. */
#ifndef OL_MUTANT
#define OL_MUTANT(name) false
#endif

enum {
	RECORD_ALIGN = 64,
	RECORD_VERSION = 1,
	SEGMENT_VERSION = 1,
	SEGMENT_HEADER = OL_JOURNAL_BLOCK
};
enum record_kind { RECORD_BATCH = 1, RECORD_SEAL = 2 };

#define RECORD_MAGIC "OLBATCH\n"
#define SEGMENT_MAGIC "OLJOURN\n"

struct record_header {
	char magic[8];
	uint16_t version, kind;
	uint32_t length; /* all of it, a multiple of RECORD_ALIGN                     */
	uint64_t sequence;
	uint64_t group;    /* sequence of the first record that became durable with it  */
	uint64_t position; /* of its first byte, over all segments without their headers */
	uint64_t timestamp_ms;
	uint32_t accounts, transfers, events, event_bytes;
	uint8_t journal[OL_JOURNAL_ID_BYTES];
	uint64_t event_index;
	uint64_t zero;
	uint8_t previous[OL_JOURNAL_HASH_BYTES]; /* hash of the record before            */
	uint8_t hash[OL_JOURNAL_HASH_BYTES];     /* of all bytes but these               */
};
_Static_assert(sizeof(struct record_header) == 160, "journal record v1");
_Static_assert(offsetof(struct record_header, accounts) == 48, "journal record v1");
_Static_assert(offsetof(struct record_header, previous) == 96, "journal record v1");

/* Behind the header: account ops, transfers, event entries, account results, transfer results,
 * event bytes, zeros. */
struct event_entry {
	uint32_t size;
	uint16_t kind, zero;
	uint32_t first_transfer, transfer_count;
};
_Static_assert(sizeof(struct event_entry) == 16, "journal record v1");

struct segment_header {
	char magic[8];
	uint32_t version, zero;
	uint8_t journal[OL_JOURNAL_ID_BYTES];
	uint64_t base; /* position of its first record, and the name of the file */
	uint64_t first_sequence, first_event, created_ms;
	uint8_t previous[OL_JOURNAL_HASH_BYTES];
	uint8_t hash[OL_JOURNAL_HASH_BYTES];
	uint8_t zeros[SEGMENT_HEADER - 128];
};
_Static_assert(sizeof(struct segment_header) == SEGMENT_HEADER, "journal segment v1");
_Static_assert(offsetof(struct segment_header, hash) == 96, "journal segment v1");

/* ".journal" behind 16 hexadecimal digits of the base. */
void journal_segment_name(char name[OL_DISK_NAME_MAX], uint64_t base);
/* false: out of memory. */
OL_MUST_CHECK bool journal_record_hash(uint8_t out[OL_JOURNAL_HASH_BYTES], const void *record,
				       uint32_t length);
void journal_segment_hash(uint8_t out[OL_JOURNAL_HASH_BYTES], const struct segment_header *header);

/* What reading found out. */
struct journal_scan {
	struct ol_journal_mark mark; /* of the last whole record                          */
	uint64_t base;               /* of the last segment                               */
	uint64_t dirty;              /* bytes behind the mark up to the last that is not 0 */
	bool sealed;                 /* the last record is a seal                         */
};

enum journal_purpose {
	JOURNAL_FOLLOW, /* ends at the first record that was not begun                       */
	JOURNAL_VERIFY, /* looks at every byte behind it, too                                */
	JOURNAL_RECOVER /* and first makes sure that the last segment reads as it is on disk */
};

/* from == NULL: the beginning. */
OL_MUST_CHECK enum ol_status journal_scan(struct journal_scan *scan, const struct ol_disk *disk,
					  enum journal_purpose purpose,
					  const struct ol_journal_mark *from,
					  ol_journal_visit *visit, void *context,
					  struct ol_error *err);

#endif
