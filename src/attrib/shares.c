#include "attrib/shares.h"

#include "base/bytes.h"
#include "crypto/merkle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

_Static_assert(OL_PAYEE_BYTES + 8 + 4 == OL_SHARE_ROW_BYTES, "a row of a share table, version 1");

/* ---- Payees --------------------------------------------------------------------------------- */

enum { ADDRESS_BYTES = 20, ADDRESS_AT = OL_PAYEE_BYTES - ADDRESS_BYTES };

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_address(uint8_t payee[OL_PAYEE_BYTES], const char *text)
{
	if (strlen(text) != 2 + 2 * ADDRESS_BYTES || text[0] != '0' || text[1] != 'x')
		return false;
	memset(payee, 0, ADDRESS_AT);
	for (int i = 0; i < ADDRESS_BYTES; i++) {
		const int high = hex_digit(text[2 + 2 * i]), low = hex_digit(text[3 + 2 * i]);
		if (high < 0 || low < 0)
			return false;
		payee[ADDRESS_AT + i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void ol_payee_id(uint8_t payee[OL_PAYEE_BYTES], const char *contributor)
{
	static const char domain[] = "openledger contributor"; /* hashed with its NUL */
	struct ol_sha256 hash;
	if (read_address(payee, contributor))
		return;
	OL_ASSERT(ol_sha256_init(&hash));
	ol_sha256_update(&hash, domain, sizeof domain);
	ol_sha256_update(&hash, contributor, strlen(contributor));
	ol_sha256_final(&hash, payee);
}

bool ol_payee_is_address(const uint8_t payee[OL_PAYEE_BYTES])
{
	for (int i = 0; i < ADDRESS_AT; i++)
		if (payee[i])
			return false;
	return true;
}

/* ---- Scores --------------------------------------------------------------------------------- */

enum ol_status ol_score_fix(int64_t *score_out, double nats, struct ol_error *err)
{
	const double units = rint(nats * OL_SHARE_WHOLE);
	*score_out = 0;
	if (!(units >= (double)-OL_SCORE_LIMIT && units <= (double)OL_SCORE_LIMIT))
		return ol_fail(err, OL_ERR_INPUT,
			       "a score of %g nats is no number that anybody can be paid by: the "
			       "index or the model is broken, and nobody is paid for this answer",
			       nats);
	*score_out = (int64_t)units;
	return OL_OK;
}

/* Which block changes its sign from pattern `step` to the next of a Gray code. */
static int flipped_block(int step)
{
	int block = 0;
	while (!(step >> block & 1))
		block++;
	return block;
}

/* The largest sum among the payees, for every pattern of signs; the blocks as they are come
 * first. own (count): how many patterns give a payee at least what it has. */
static void try_patterns(int64_t largest[OL_SCORE_PATTERNS], int *own,
			 const int64_t (*blocks)[OL_SCORE_BLOCKS], size_t count)
{
	for (int p = 0; p < OL_SCORE_PATTERNS; p++)
		largest[p] = INT64_MIN;
	for (size_t c = 0; c < count; c++) {
		bool negative[OL_SCORE_BLOCKS] = {false};
		int64_t sum = 0, first;
		for (int b = 0; b < OL_SCORE_BLOCKS; b++)
			sum += blocks[c][b];
		first = sum;
		own[c] = 0;
		for (int p = 0;;) {
			largest[p] = OL_MAX(largest[p], sum);
			own[c] += sum >= first;
			if (++p == OL_SCORE_PATTERNS)
				break;
			const int b = flipped_block(p);
			sum += negative[b] ? 2 * blocks[c][b] : -2 * blocks[c][b];
			negative[b] = !negative[b];
		}
	}
}

bool ol_scores_judge(bool *told, const int64_t (*blocks)[OL_SCORE_BLOCKS], size_t count)
{
	int64_t largest[OL_SCORE_PATTERNS];
	int above = 0;
	if (count == 0)
		return false;
	int *own = calloc(count, sizeof *own);
	OL_ASSERT(own);
	try_patterns(largest, own, blocks, count);
	for (size_t c = 0; c < count; c++) {
		int64_t sum = 0;
		for (int b = 0; b < OL_SCORE_BLOCKS; b++)
			sum += blocks[c][b];
		told[c] = sum > 0 && own[c] <= OL_SCORE_TOLD_MAX;
	}
	for (int p = 0; p < OL_SCORE_PATTERNS; p++)
		above += largest[p] >= largest[0];
	free(own);
	return largest[0] > 0 && above <= OL_SCORE_TOLD_MAX;
}

/* ---- Largest remainder ---------------------------------------------------------------------- */

struct remainder {
	uint64_t left;
	size_t row;
	const uint8_t *payee, *salt;
};

static void tie_hash(uint8_t out[OL_SHA256_BYTES], const struct remainder *r)
{
	uint8_t bytes[OL_SHA256_BYTES + OL_PAYEE_BYTES];
	memcpy(bytes, r->salt, OL_SHA256_BYTES);
	memcpy(bytes + OL_SHA256_BYTES, r->payee, OL_PAYEE_BYTES);
	ol_sha256(out, bytes, sizeof bytes);
}

static int by_remainder(const void *a, const void *b)
{
	const struct remainder *x = a, *y = b;
	uint8_t hash_x[OL_SHA256_BYTES], hash_y[OL_SHA256_BYTES];
	if (x->left != y->left)
		return x->left > y->left ? -1 : 1;
	if (x->left == 0) /* nothing is left over for these */
		return x->row < y->row ? -1 : 1;
	tie_hash(hash_x, x);
	tie_hash(hash_y, y);
	const int order = memcmp(hash_x, hash_y, sizeof hash_x);
	return order ? order : x->row < y->row ? -1 : 1;
}

/* parts (count) of whole by weights, whose sum fits 64 bits and is not 0. The weights' own rows
 * break ties. */
static enum ol_status apportion(uint64_t *parts, uint64_t whole, const uint64_t *weights,
				uint64_t sum, const struct ol_share *rows, size_t count,
				const uint8_t *salt, struct ol_error *err)
{
	struct remainder *list = malloc(count * sizeof *list);
	uint64_t given = 0;
	if (!list)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu shares", count);
	for (size_t i = 0; i < count; i++) {
		const wide product = (wide)weights[i] * whole;
		parts[i] = (uint64_t)(product / sum);
		given += parts[i];
		list[i] = (struct remainder){(uint64_t)(product % sum), i, rows[i].payee, salt};
	}
	qsort(list, count, sizeof *list, by_remainder);
	OL_ASSERT(whole - given < count || whole == given);
	for (size_t i = 0; i < whole - given; i++)
		parts[list[i].row]++;
	free(list);
	return OL_OK;
}

/* False where it is beyond 64 bits. */
static bool add_up(uint64_t *sum_out, const uint64_t *weights, size_t count)
{
	uint64_t sum = 0;
	bool fits = true;
	for (size_t i = 0; i < count; i++)
		fits = !__builtin_add_overflow(sum, weights[i], &sum) && fits;
	*sum_out = sum;
	return fits;
}

enum ol_status ol_shares_split(struct ol_share *rows, const uint64_t *weights, size_t count,
			       const uint8_t salt[OL_SHA256_BYTES], struct ol_error *err)
{
	uint64_t sum, *parts;
	for (size_t i = 0; i < count; i++)
		rows[i].share = 0;
	if (!add_up(&sum, weights, count))
		return ol_fail(err, OL_ERR_INPUT,
			       "the scores of %zu payees add up to more than 64 "
			       "bits hold",
			       count);
	if (sum == 0)
		return OL_OK;
	parts = malloc(count * sizeof *parts);
	if (!parts)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu shares", count);
	const enum ol_status s =
		apportion(parts, OL_SHARE_WHOLE, weights, sum, rows, count, salt, err);
	for (size_t i = 0; s == OL_OK && i < count; i++)
		rows[i].share = (uint32_t)parts[i];
	free(parts);
	return s;
}

enum ol_status ol_shares_of_answer(struct ol_share *rows, const bool *told, size_t count,
				   bool clear, const uint8_t salt[OL_SHA256_BYTES],
				   struct ol_error *err)
{
	uint64_t *weights = calloc(count + 1, sizeof *weights);
	if (!weights)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu shares", count);
	for (size_t i = 0; clear && i < count; i++) {
		const uint64_t positive = rows[i].score > 0 ? (uint64_t)rows[i].score : 0;
		weights[i] = told[i] ? positive : positive >> OL_SCORE_UNTOLD_SHIFT;
	}
	const enum ol_status s = ol_shares_split(rows, weights, count, salt, err);
	free(weights);
	return s;
}

enum ol_status ol_shares_evidence(int64_t *bonus, const int64_t *scores, const uint64_t *evidence,
				  size_t count, uint32_t part, struct ol_error *err)
{
	uint64_t sum, positive = 0;
	OL_ASSERT(part < OL_SHARE_WHOLE);
	if (!add_up(&sum, evidence, count))
		return ol_fail(err, OL_ERR_INPUT, "the spans' weights are beyond 64 bits");
	for (size_t i = 0; i < count; i++) {
		bonus[i] = 0;
		if (scores[i] > 0 &&
		    __builtin_add_overflow(positive, (uint64_t)scores[i], &positive))
			return ol_fail(err, OL_ERR_INPUT, "the scores are beyond 64 bits");
	}
	/* all = positive whole / (whole - part); the bonuses are what it is more. */
	const wide all = (wide)positive * part / (OL_SHARE_WHOLE - part);
	if (sum == 0 || all > (wide)INT64_MAX)
		return sum == 0 ? OL_OK
				: ol_fail(err, OL_ERR_INPUT, "the scores are beyond 64 bits");
	for (size_t i = 0; i < count; i++) /* rounded down: it never is more than the part */
		bonus[i] = (int64_t)((wide)evidence[i] * all / sum);
	return OL_OK;
}

/* ---- Tables --------------------------------------------------------------------------------- */

void ol_share_write(uint8_t out[OL_SHARE_ROW_BYTES], const struct ol_share *row)
{
	memcpy(out, row->payee, OL_PAYEE_BYTES);
	ol_store_u64(out + OL_PAYEE_BYTES, (uint64_t)row->score);
	ol_store_u32(out + OL_PAYEE_BYTES + 8, row->share);
}

void ol_share_read(struct ol_share *row, const uint8_t bytes[OL_SHARE_ROW_BYTES])
{
	memcpy(row->payee, bytes, OL_PAYEE_BYTES);
	row->score = (int64_t)ol_load_u64(bytes + OL_PAYEE_BYTES);
	row->share = ol_load_u32(bytes + OL_PAYEE_BYTES + 8);
}

static enum ol_status check_order(const struct ol_share *rows, size_t count, struct ol_error *err)
{
	for (size_t i = 1; i < count; i++)
		if (memcmp(rows[i - 1].payee, rows[i].payee, OL_PAYEE_BYTES) >= 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "row %zu of a share table: its payee does not come after "
				       "the one before",
				       i);
	return OL_OK;
}

enum ol_status ol_shares_root(uint8_t root_out[OL_SHA256_BYTES], const struct ol_share *rows,
			      size_t count, struct ol_error *err)
{
	struct ol_merkle tree;
	const enum ol_status s = check_order(rows, count, err);
	ol_merkle_init(&tree);
	for (size_t i = 0; s == OL_OK && i < count; i++) {
		uint8_t bytes[OL_SHARE_ROW_BYTES], leaf[OL_MERKLE_BYTES];
		ol_share_write(bytes, &rows[i]);
		ol_merkle_leaf(leaf, bytes, sizeof bytes);
		ol_merkle_add(&tree, leaf);
	}
	ol_merkle_root(&tree, root_out);
	return s;
}

/* ---- Epochs --------------------------------------------------------------------------------- */

void ol_epoch_release(struct ol_epoch *epoch)
{
	free(epoch->rows);
	*epoch = (struct ol_epoch){0};
}

/* Both tables ascend. Returns the rows of the sum; 0 and *fits false where a sum is too large. */
static size_t merge(struct ol_share *out, bool *fits, const struct ol_epoch *epoch,
		    const struct ol_share *rows, size_t count)
{
	size_t a = 0, b = 0, n = 0;
	*fits = true;
	while (a < epoch->count || b < count) {
		const int order =
			a == epoch->count ? 1
			: b == count      ? -1
				     : memcmp(epoch->rows[a].payee, rows[b].payee, OL_PAYEE_BYTES);
		out[n] = order <= 0 ? epoch->rows[a++] : rows[b];
		if (order == 0)
			*fits = !__builtin_add_overflow(out[n].score, rows[b].score,
							&out[n].score) &&
				*fits;
		b += order >= 0;
		out[n++].share = 0;
	}
	return n;
}

enum ol_status ol_epoch_add(struct ol_epoch *epoch, const struct ol_share *rows, size_t count,
			    struct ol_error *err)
{
	bool fits;
	enum ol_status s = check_order(rows, count, err);
	if (s != OL_OK)
		return s;
	struct ol_share *sum = malloc((epoch->count + count + 1) * sizeof *sum);
	if (!sum)
		return ol_fail(err, OL_ERR_FULL, "out of memory for an epoch's scores");
	const size_t n = merge(sum, &fits, epoch, rows, count);
	if (!fits) {
		free(sum);
		return ol_fail(err, OL_ERR_INPUT, "an epoch's score is beyond 64 bits");
	}
	free(epoch->rows);
	epoch->rows = sum;
	epoch->count = n;
	epoch->answers++;
	return OL_OK;
}

enum ol_status ol_epoch_close(struct ol_epoch *epoch, const uint8_t salt[OL_SHA256_BYTES],
			      struct ol_error *err)
{
	uint64_t *weights = calloc(epoch->count + 1, sizeof *weights);
	if (!weights)
		return ol_fail(err, OL_ERR_FULL, "out of memory for an epoch's shares");
	for (size_t i = 0; i < epoch->count; i++)
		weights[i] = epoch->rows[i].score > 0 ? (uint64_t)epoch->rows[i].score : 0;
	const enum ol_status s = ol_shares_split(epoch->rows, weights, epoch->count, salt, err);
	free(weights);
	return s;
}
