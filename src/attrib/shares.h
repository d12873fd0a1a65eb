/* attrib/shares.h, floor 3: from signed scores to shares of a whole, in integers only.
 *
 *     scores of an answer, in 8 blocks of its positions
 *         │ judge: could they be noise? (random signs of the blocks)
 *         │ evidence: spans add a capped part
 *         ▼
 *     share table {payee, signed score, parts per billion} ─ its Merkle root goes on the receipt
 *         │ an epoch adds up the signed scores of its answers
 *         ▼
 *     net score of a payee, positive part, parts per billion of the data pot
 *
 * A score is a predicted change of the answer's loss, in 10^-9 nat: positive means that without
 * this payee's examples the answer would have been less likely. Which axioms this keeps, and the
 * test for each: docs/PAYOUT.md. */
#ifndef OL_ATTRIB_SHARES_H
#define OL_ATTRIB_SHARES_H

#include "crypto/sha256.h"

enum {
	OL_PAYEE_BYTES = 32,
	OL_SCORE_BLOCKS = 8,
	OL_SCORE_PATTERNS = 1 << OL_SCORE_BLOCKS,
	OL_SHARE_WHOLE = 1000000000, /* parts per billion; also: score units in a nat */
	OL_SHARE_ROW_BYTES = 44,     /* payee, score i64, share u32; little-endian    */
	/* Of the 256 patterns of signs at most so many may do as well: 4.7%. */
	OL_SCORE_TOLD_MAX = 12,
	OL_SCORE_UNTOLD_SHIFT = 2 /* what may be noise weighs a quarter in an answer's shares */
};
/* Larger scores are refused: nine million nats are no property of an answer. */
#define OL_SCORE_LIMIT (INT64_C(1) << 53)

/* One row of a share table; a table ascends by payee, each payee once. */
struct ol_share {
	uint8_t payee[OL_PAYEE_BYTES];
	int64_t score;
	uint32_t share;
};

/* Who is paid: an address ("0x" and 40 hexadecimal digits) behind 12 zero bytes; for any other
 * name SHA-256 of "openledger contributor", a zero byte and the name. */
void ol_payee_id(uint8_t payee[OL_PAYEE_BYTES], const char *contributor);
/* True where it is an address, which then are its last 20 bytes. */
bool ol_payee_is_address(const uint8_t payee[OL_PAYEE_BYTES]);

/* Nats to score units, to nearest, ties to even. OL_ERR_INPUT: NaN, infinite or above the limit. */
OL_MUST_CHECK enum ol_status ol_score_fix(int64_t *score_out, double nats, struct ol_error *err);

/* Is a sum of blocks told from zero? Were the blocks noise, their signs could be any. `told`
 * (count): of all patterns of signs at most OL_SCORE_TOLD_MAX give a payee's blocks as large a sum
 * as they have. Returns the same of the largest sum among the payees: is there a clear source? */
bool ol_scores_judge(bool *told, const int64_t (*blocks)[OL_SCORE_BLOCKS], size_t count);

/* What spans add: bonus (count) in score units. evidence (count) are weights; together the bonuses
 * are `part` parts per billion of what all positive scores and bonuses then are. */
OL_MUST_CHECK enum ol_status ol_shares_evidence(int64_t *bonus, const int64_t *scores,
						const uint64_t *evidence, size_t count,
						uint32_t part, struct ol_error *err);

/* shares (count) of weights: largest remainder, ties by SHA-256(salt ‖ payee), lowest first. They
 * sum to OL_SHARE_WHOLE, or are all 0 where all weights are. */
OL_MUST_CHECK enum ol_status ol_shares_split(struct ol_share *rows, const uint64_t *weights,
					     size_t count, const uint8_t salt[OL_SHA256_BYTES],
					     struct ol_error *err);
/* An answer's shares, of its rows' scores: positive parts, a quarter of them where not told. With
 * `clear` false all are 0. */
OL_MUST_CHECK enum ol_status ol_shares_of_answer(struct ol_share *rows, const bool *told,
						 size_t count, bool clear,
						 const uint8_t salt[OL_SHA256_BYTES],
						 struct ol_error *err);

/* The RFC 6962 root of a table: a leaf a row. OL_ERR_INPUT: not ascending by payee. */
OL_MUST_CHECK enum ol_status ol_shares_root(uint8_t root_out[OL_SHA256_BYTES],
					    const struct ol_share *rows, size_t count,
					    struct ol_error *err);
void ol_share_write(uint8_t out[OL_SHARE_ROW_BYTES], const struct ol_share *row);
void ol_share_read(struct ol_share *row, const uint8_t bytes[OL_SHARE_ROW_BYTES]);

/* An epoch: the sums of signed scores. Zero-initialised; a table ascending by payee. */
struct ol_epoch {
	struct ol_share *rows;
	size_t count;
	uint64_t answers;
};
void ol_epoch_release(struct ol_epoch *epoch);
/* Adds an answer's table. Nothing is added when it fails (a table that does not ascend, a sum
 * beyond 64 bits, no memory). */
OL_MUST_CHECK enum ol_status ol_epoch_add(struct ol_epoch *epoch, const struct ol_share *rows,
					  size_t count, struct ol_error *err);
/* Shares of the net scores' positive parts. May be asked at any time. */
OL_MUST_CHECK enum ol_status ol_epoch_close(struct ol_epoch *epoch,
					    const uint8_t salt[OL_SHA256_BYTES],
					    struct ol_error *err);

#endif
