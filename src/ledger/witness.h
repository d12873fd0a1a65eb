/* ledger/witness.h, floor 2: a witness: it signs that a log only ever grew (c2sp.org/tlog-witness).
 *
 *     log ── POST add-checkpoint ──>  is the log known, and did it sign this?       404, 403
 *            old size                 is the old size the one I signed last?        409
 *            consistency proof        does the new tree continue that one?          422
 *            checkpoint               remember it, durably
 *         <── cosignature ──────────  then sign                                     200
 *
 * For each log it keeps the newest checkpoint that it cosigned, with both signatures, in
 *
 *     FOLDER/witness.key               PRIVATE+KEY+… of type 4, mode 0600
 *     FOLDER/SHA-256 of origin/checkpoint
 *
 * A log that shows different histories to different people must show one of them to the witness,
 * and gets no signature for the other. Any thread may call; one request is handled at a time, so
 * that checking and remembering cannot be torn apart. */
#ifndef OL_LEDGER_WITNESS_H
#define OL_LEDGER_WITNESS_H

#include "base/clock.h"
#include "base/random.h"
#include "ledger/proof.h"

enum {
	OL_WITNESS_LOGS_MAX = 1024,
	OL_WITNESS_REQUEST_MAX = OL_NOTE_BYTES_MAX + 8 * 1024,
	OL_WITNESS_PROOF_MAX = 63 /* hashes, by the specification */
};

struct ol_witness;

/* Makes FOLDER and a key of this name when there is none. INPUT: there is a key already. */
OL_MUST_CHECK enum ol_status ol_witness_create(const char *folder, const char *name,
					       const struct ol_random *random,
					       struct ol_error *err);
/* Reads the key and what was cosigned for these logs (one key each; names are origins). */
OL_MUST_CHECK enum ol_status ol_witness_open(struct ol_witness **witness_out, const char *folder,
					     const struct ol_note_key *logs, uint32_t log_count,
					     const struct ol_clock *clock, struct ol_error *err);
void ol_witness_close(struct ol_witness *witness);
const struct ol_note_key *ol_witness_key(const struct ol_witness *witness);

/* Append-only: the numbers are HTTP's. */
enum ol_witness_answer {
	OL_WITNESS_COSIGNED = 200,  /* body: signature lines                              */
	OL_WITNESS_MALFORMED = 400, /* body: a sentence, as for all below but 409         */
	OL_WITNESS_UNSIGNED = 403,  /* not signed by the log's key, or wrongly            */
	OL_WITNESS_UNKNOWN_LOG = 404,
	OL_WITNESS_CONFLICT = 409,     /* body: the size cosigned last, and a newline        */
	OL_WITNESS_INCONSISTENT = 422, /* a fork: nothing was signed                       */
	OL_WITNESS_FAILED = 500        /* the disk; nothing was signed                       */
};
/* Handles the body of an add-checkpoint request; the answer's body is appended to reply. */
OL_MUST_CHECK enum ol_witness_answer ol_witness_add(struct ol_witness *witness,
						    struct ol_buf *reply, const char *request,
						    size_t size);
/* The newest cosigned checkpoint of the log with this origin hash (64 digits), appended. */
OL_MUST_CHECK bool ol_witness_checkpoint(struct ol_witness *witness, struct ol_buf *note,
					 const char *origin_hash);

/* The request's body, for those who ask a witness. */
bool ol_witness_request_print(struct ol_buf *body, uint64_t old_size, const struct ol_proof *proof,
			      const char *note, size_t note_size);

#endif
