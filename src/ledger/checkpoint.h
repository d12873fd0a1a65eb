/* ledger/checkpoint.h, floor 2: what a log says of itself, signed: how many entries it has and the
 * root of their tree. The text of a signed note, as c2sp.org/tlog-checkpoint v1.0.0 has it:
 *
 *     example.com/log          origin: which log
 *     20852163                 size, decimal without leading zeros
 *     CsUYapGGPo4dkMgIAUqom…   root hash (RFC 6962), base64
 *                              (further lines are extensions: kept, never needed)
 */
#ifndef OL_LEDGER_CHECKPOINT_H
#define OL_LEDGER_CHECKPOINT_H

#include "crypto/merkle.h"
#include "ledger/note.h"

enum {
	OL_ORIGIN_MAX = OL_NOTE_NAME_MAX,
	OL_CHECKPOINT_TEXT_MAX = 8 * 1024 /* of the note's text, extensions included */
};
#define OL_TREE_SIZE_MAX ((uint64_t)INT64_MAX)

struct ol_log_checkpoint {
	char origin[OL_ORIGIN_MAX + 1];
	uint64_t size;
	uint8_t root[OL_MERKLE_BYTES];
	uint32_t extension_lines;
};

/* Of the text of a note (ol_note.text). */
OL_MUST_CHECK enum ol_status ol_log_checkpoint_parse(struct ol_log_checkpoint *checkpoint,
						     const char *text, size_t size,
						     struct ol_error *err);
/* Without extensions, as this program makes them. */
bool ol_log_checkpoint_print(struct ol_buf *text, const struct ol_log_checkpoint *checkpoint);

/* A signed checkpoint, in one go: a well-formed note whose text is a checkpoint of the log that
 * this key belongs to (its name is the origin), signed by the key. INPUT: anything else, and the
 * sentence says what. note (may be NULL) borrows bytes. */
OL_MUST_CHECK enum ol_status ol_log_checkpoint_open(struct ol_log_checkpoint *checkpoint,
						    struct ol_note *note, const char *bytes,
						    size_t size, const struct ol_note_key *log_key,
						    struct ol_error *err);

/* A decimal number without sign, spaces and leading zeros, at most max; used by all the formats of
 * the log. */
OL_MUST_CHECK bool ol_decimal_parse(uint64_t *value_out, const char *text, size_t length,
				    uint64_t max);

#endif
