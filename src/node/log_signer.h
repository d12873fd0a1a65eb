/* node/log_signer.h, floor 4: how a checkpoint of this node gets its signatures: the proof that it
 * continues the last one is read from the log's files, the signer signs (node/signer.h), then
 * witnesses are asked to cosign (c2sp.org/tlog-witness).
 *
 * Witnesses are asked at most once an interval, and one that does not answer in time is left out
 * and asked less and less often: a log goes on without them. How many must have signed is for those
 * to say who verify. */
#ifndef OL_NODE_LOG_SIGNER_H
#define OL_NODE_LOG_SIGNER_H

#include "ledger/log_store.h"
#include "node/signer.h"

enum {
	OL_LOG_WITNESSES_MAX = 16,
	OL_LOG_WITNESS_TIMEOUT_MS = 3000,
	OL_LOG_WITNESS_INTERVAL_MS = 1000,
	OL_LOG_WITNESS_PAUSE_MS = 60000 /* the longest, after failures */
};

struct ol_log_witness {
	struct ol_note_key key; /* of type 4 */
	const char *url;        /* before /add-checkpoint */
};

/* "KEY=URL", as a command line has it; the URL stays inside the text. */
OL_MUST_CHECK enum ol_status ol_log_witness_parse(struct ol_log_witness *witness, const char *text,
						  struct ol_error *err);

struct ol_log_signer;

/* All borrowed but the witnesses' keys and URLs, which are copied. */
OL_MUST_CHECK enum ol_status ol_log_signer_open(struct ol_log_signer **signer_out,
						struct ol_signer *signer,
						const struct ol_log_source *files,
						const struct ol_log_witness *witnesses,
						uint32_t witness_count, struct ol_error *err);
void ol_log_signer_close(struct ol_log_signer *signer);
/* From now on a second key signs too: a key that follows the first (ledger/key_event.h). Borrowed.
 * */
void ol_log_signer_also(struct ol_log_signer *signer, struct ol_signer *second);

/* Appends the note: the checkpoint, the log's signature, and those of the witnesses that gave one.
 * The files of the checkpoint must be readable. self: an ol_log_signer, so that it fits where a
 * function to sign checkpoints is asked for. One thread. */
OL_MUST_CHECK enum ol_status ol_log_signer_sign(void *self, struct ol_buf *note,
						const struct ol_log_checkpoint *checkpoint,
						struct ol_error *err);

/* What the last asking of witness number `which` came to, in words; "" when it cosigned. */
const char *ol_log_signer_witness_trouble(const struct ol_log_signer *signer, uint32_t which);

#endif
