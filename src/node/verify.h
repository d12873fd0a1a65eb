/* node/verify.h, floor 4: is this receipt true? Everything on it is computed again.
 *
 *     receipt ─┬─ its bytes            well-formed, the split of its price
 *              ├─ its signature        by the node's key
 *     proof ───┼─ the log              it is a leaf of a tree that a checkpoint signs
 *     listing ─┼─ the price            what the listing asks for so many tokens
 *     opening ─┼─ the commitments      it is about this prompt and this answer
 *     models ──┼─ the answer           one prefill, the same choices (node/replay.h)
 *     index ───┴─ the shares           one pass back, the same scores (node/receipt_shares.h)
 *
 * Each line is one check with its outcome. What cannot be checked for want of a part says what is
 * missing; it is not counted as true. */
#ifndef OL_NODE_VERIFY_H
#define OL_NODE_VERIFY_H

#include <jansson.h>

#include "ledger/opening.h"
#include "ledger/proof.h"
#include "ledger/receipt.h"
#include "node/home.h"

/* In the order in which they are made. */
enum ol_check_kind {
	OL_CHECK_RECEIPT,
	OL_CHECK_SIGNATURE,
	OL_CHECK_LOG,
	OL_CHECK_PRICE,
	OL_CHECK_OPENING,
	OL_CHECK_MODELS,
	OL_CHECK_ANSWER,
	OL_CHECK_SHARES,
	OL_CHECKS
};
const char *ol_check_name(enum ol_check_kind kind); /* "receipt", "signature", … */

enum ol_check_outcome { OL_CHECK_NOT_MADE, OL_CHECK_TRUE, OL_CHECK_FALSE };

struct ol_check {
	enum ol_check_outcome outcome;
	char text[OL_ERROR_TEXT_MAX]; /* what was found, or what is missing */
};

struct ol_verification {
	struct ol_check checks[OL_CHECKS];
	struct ol_receipt receipt; /* if OL_CHECK_RECEIPT is true */
	struct ol_receipt_part parts[OL_PARTIES];
	uint8_t id[OL_EVENT_ID_BYTES];
	uint64_t positions; /* of the replay */
	double seconds;
};

struct ol_verify_job {
	const uint8_t *bytes; /* of the receipt, with its signature */
	size_t size;
	const uint8_t *node;    /* the key it must be signed by; NULL: the one it names */
	const uint8_t *listing; /* the event of its price; NULL: not at hand            */
	size_t listing_size;
	/* The newest listing of the model that the log held when the request came: a receipt of an
	 * older one, or of none, is false. NULL: not looked for. */
	const uint8_t *in_force;
	size_t in_force_size;
	const struct ol_tlog_proof *proof;  /* NULL: not at hand                          */
	const struct ol_log_policy *policy; /* for the proof                              */
	/* The log's root at the receipt's checkpoint_size; NULL: not at hand. */
	const uint8_t *known_root;
	const struct ol_opening *opening; /* NULL: not at hand                          */
	const struct ol_home *home;       /* where models are; NULL: none               */
};

/* Makes all the checks it can. An error is a failure to check (memory, a broken model file); what a
 * receipt gets wrong stands in its checks. */
OL_MUST_CHECK enum ol_status ol_verify(struct ol_verification *verification,
				       const struct ol_verify_job *job, struct ol_error *err);
/* No check is false. */
bool ol_verification_holds(const struct ol_verification *verification);

#endif
