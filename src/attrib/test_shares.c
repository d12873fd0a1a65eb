/* Shares: the parts are the whole, whatever the scores. OL_TEST_SLOW=1: 10^6 random vectors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/shares.h"
#include "crypto/merkle.h"
#include "math/functions.h"

enum { VECTORS = 100000, VECTORS_SLOW = 1000000, PAYEES = 24 };

static const uint8_t salt[OL_SHA256_BYTES] = {7};

static uint32_t word(uint32_t a, uint32_t b)
{
	const uint32_t counter[4] = {a, b, 0, 0}, key[2] = {5, 6};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return out[0];
}

static void name_payees(struct ol_share *rows, size_t count)
{
	memset(rows, 0, count * sizeof *rows);
	for (size_t i = 0; i < count; i++)
		rows[i].payee[0] = (uint8_t)(i + 1);
}

static uint64_t sum_of(const struct ol_share *rows, size_t count)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += rows[i].share;
	return sum;
}

/* Scores of every size and sign, many of them equal, some zero. */
static int64_t random_score(uint32_t vector, uint32_t i)
{
	const uint32_t w = word(vector, i);
	const int64_t size = (int64_t)(((uint64_t)w << 21 | w >> 11) >> (w % 53));
	return w & 1u << 30 ? -(size % OL_SCORE_LIMIT) : size % OL_SCORE_LIMIT;
}

static void test_parts_sum_exactly(void **state)
{
	const char *slow = getenv("OL_TEST_SLOW");
	const uint32_t vectors = slow && *slow == '1' ? VECTORS_SLOW : VECTORS;
	struct ol_share rows[PAYEES];
	bool told[PAYEES];
	(void)state;
	for (uint32_t v = 0; v < vectors; v++) {
		const size_t count = 1 + word(v, 1000) % PAYEES;
		bool any = false;
		name_payees(rows, count);
		for (uint32_t i = 0; i < count; i++) {
			rows[i].score = random_score(v, i);
			told[i] = word(v, 2000 + i) & 1;
			any = any || (told[i] ? rows[i].score : rows[i].score >> 2) > 0;
		}
		assert_int_equal(ol_shares_of_answer(rows, told, count, true, salt, NULL), OL_OK);
		assert_int_equal(sum_of(rows, count), any ? OL_SHARE_WHOLE : 0);
		for (size_t i = 0; i < count; i++)
			if (rows[i].score <= 0)
				assert_int_equal(rows[i].share, 0);
	}
}

/* Each share is the exact quotient rounded down, or one more. */
static void test_quota(void **state)
{
	struct ol_share rows[3];
	const uint64_t weights[3] = {1, 1, 1}, large[3] = {UINT64_MAX / 2, 3, UINT64_MAX / 4};
	(void)state;
	name_payees(rows, 3);
	assert_int_equal(ol_shares_split(rows, weights, 3, salt, NULL), OL_OK);
	int more = 0;
	for (int i = 0; i < 3; i++) {
		assert_in_range(rows[i].share, 333333333, 333333334);
		more += rows[i].share == 333333334;
	}
	assert_int_equal(more, 1);
	assert_int_equal(ol_shares_split(rows, large, 3, salt, NULL), OL_OK);
	assert_int_equal(rows[0].share, 666666667);
	assert_int_equal(rows[1].share, 0);
	assert_int_equal(rows[2].share, 333333333);
}

/* Whoever gets the odd billionth is chosen by the salt, not by the place or the address. */
static void test_ties_follow_the_hash(void **state)
{
	struct ol_share rows[2];
	const uint64_t weights[2] = {5, 5}, three[3] = {1, 1, 1};
	struct ol_share thrice[3];
	int first = 0;
	(void)state;
	name_payees(rows, 2);
	assert_int_equal(ol_shares_split(rows, weights, 2, salt, NULL), OL_OK);
	assert_int_equal(rows[0].share, 500000000);
	for (uint32_t i = 0; i < 300; i++) {
		uint8_t other[OL_SHA256_BYTES] = {(uint8_t)i, (uint8_t)(i >> 8)};
		name_payees(thrice, 3);
		assert_int_equal(ol_shares_split(thrice, three, 3, other, NULL), OL_OK);
		first += thrice[0].share == 333333334;
	}
	assert_in_range(first, 60, 140); /* a third of 300 */
}

static void test_refusals(void **state)
{
	struct ol_share rows[2];
	const uint64_t weights[2] = {UINT64_MAX, 1};
	struct ol_error err;
	uint8_t root[OL_SHA256_BYTES];
	int64_t score;
	(void)state;
	name_payees(rows, 2);
	assert_int_equal(ol_shares_split(rows, weights, 2, salt, &err), OL_ERR_INPUT);
	assert_int_equal(sum_of(rows, 2), 0);
	const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY, 1e7, -1e7};
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		assert_int_equal(ol_score_fix(&score, bad[i], &err), OL_ERR_INPUT);
		assert_int_equal(score, 0);
		assert_non_null(strstr(err.text, "nobody is paid"));
	}
	assert_int_equal(ol_score_fix(&score, -1.2345678901, &err), OL_OK);
	assert_int_equal(score, -1234567890);
	memcpy(rows[1].payee, rows[0].payee, OL_PAYEE_BYTES);
	assert_int_equal(ol_shares_root(root, rows, 2, &err), OL_ERR_INPUT);
}

/* ---- Noise ---- */

static void test_noise_is_told_from_a_source(void **state)
{
	int64_t blocks[4][OL_SCORE_BLOCKS];
	bool told[4];
	int clear = 0;
	(void)state;
	for (uint32_t v = 0; v < 2000; v++) {
		for (uint32_t c = 0; c < 4; c++)
			for (uint32_t b = 0; b < OL_SCORE_BLOCKS; b++)
				blocks[c][b] = (int64_t)(word(v, 100 * c + b) % 2001) - 1000;
		clear += ol_scores_judge(told, (const int64_t(*)[OL_SCORE_BLOCKS])blocks, 4);
	}
	/* 12 of 256 patterns is a chance of 4.7%: 94 of 2,000, give or take five deviations. */
	assert_in_range(clear, 47, 141);
	for (int b = 0; b < OL_SCORE_BLOCKS; b++)
		blocks[2][b] = 900 + b;
	assert_true(ol_scores_judge(told, (const int64_t(*)[OL_SCORE_BLOCKS])blocks, 4));
	assert_true(told[2]);
	for (int b = 0; b < OL_SCORE_BLOCKS; b++) /* one block says it all: not told */
		blocks[2][b] = b == 3 ? 100000 : 0;
	assert_false(ol_scores_judge(told, (const int64_t(*)[OL_SCORE_BLOCKS])blocks, 4));
	assert_false(told[2]);
	memset(blocks, 0, sizeof blocks);
	assert_false(ol_scores_judge(told, (const int64_t(*)[OL_SCORE_BLOCKS])blocks, 4));
	assert_false(ol_scores_judge(told, NULL, 0));
}

static void test_no_clear_source_pays_nobody(void **state)
{
	struct ol_share rows[2];
	const bool told[2] = {true, true};
	(void)state;
	name_payees(rows, 2);
	rows[0].score = 10;
	assert_int_equal(ol_shares_of_answer(rows, told, 2, false, salt, NULL), OL_OK);
	assert_int_equal(sum_of(rows, 2), 0);
	assert_int_equal(rows[0].score, 10);
}

static void test_evidence_is_capped(void **state)
{
	const int64_t scores[3] = {6000, 3000, -5000};
	const uint64_t evidence[3] = {0, 1, 1}, none[3] = {0};
	int64_t bonus[3];
	(void)state;
	assert_int_equal(ol_shares_evidence(bonus, scores, evidence, 3, 100000000, NULL), OL_OK);
	assert_int_equal(bonus[0], 0);
	assert_int_equal(bonus[1], 500); /* 1000 of 10000 in all */
	assert_int_equal(bonus[2], 500);
	assert_int_equal(ol_shares_evidence(bonus, scores, none, 3, 100000000, NULL), OL_OK);
	assert_int_equal(bonus[1], 0);
}

/* ---- Tables and epochs ---- */

static void test_root(void **state)
{
	struct ol_share rows[2];
	uint8_t bytes[2][OL_SHARE_ROW_BYTES], leaf[2][OL_MERKLE_BYTES], root[OL_SHA256_BYTES];
	struct ol_share back;
	(void)state;
	name_payees(rows, 2);
	rows[0].score = -2;
	rows[1].score = 300;
	rows[1].share = OL_SHARE_WHOLE;
	for (int i = 0; i < 2; i++) {
		ol_share_write(bytes[i], &rows[i]);
		ol_share_read(&back, bytes[i]);
		assert_memory_equal(back.payee, rows[i].payee, sizeof back.payee);
		assert_true(back.score == rows[i].score && back.share == rows[i].share);
		ol_merkle_leaf(leaf[i], bytes[i], sizeof bytes[i]);
	}
	ol_merkle_node(leaf[0], leaf[0], leaf[1]);
	assert_int_equal(ol_shares_root(root, rows, 2, NULL), OL_OK);
	assert_memory_equal(root, leaf[0], sizeof root);
}

static void test_payees(void **state)
{
	uint8_t a[OL_PAYEE_BYTES], b[OL_PAYEE_BYTES];
	(void)state;
	ol_payee_id(a, "0x00112233445566778899aAbBcCdDeEfF00112233");
	assert_true(ol_payee_is_address(a));
	assert_int_equal(a[12], 0x00);
	assert_int_equal(a[22], 0xaa);
	assert_int_equal(a[31], 0x33);
	ol_payee_id(b, "0x00112233445566778899aAbBcCdDeEfF0011223g");
	assert_false(ol_payee_is_address(b));
	ol_payee_id(a, "Ada");
	ol_payee_id(b, "ada");
	assert_memory_not_equal(a, b, sizeof a);
}

/* An epoch nets: what one answer gives, another may take; splitting a payee changes nothing. */
static void test_epoch(void **state)
{
	struct ol_epoch epoch = {0};
	struct ol_share rows[3];
	(void)state;
	name_payees(rows, 3);
	rows[0].score = 100;
	rows[1].score = 50;
	rows[2].score = -30;
	assert_int_equal(ol_epoch_add(&epoch, rows, 3, NULL), OL_OK);
	rows[0].score = -90;
	rows[1].score = 10;
	rows[2].score = 70;
	assert_int_equal(ol_epoch_add(&epoch, rows + 1, 2, NULL), OL_OK);
	assert_int_equal(ol_epoch_add(&epoch, rows, 1, NULL), OL_OK);
	assert_int_equal(epoch.count, 3);
	assert_int_equal(epoch.answers, 3);
	assert_int_equal(ol_epoch_close(&epoch, salt, NULL), OL_OK);
	assert_int_equal(epoch.rows[0].score, 10);
	assert_int_equal(epoch.rows[1].score, 60);
	assert_int_equal(epoch.rows[2].score, 40);
	assert_int_equal(epoch.rows[0].share, 90909091);
	assert_int_equal(epoch.rows[1].share, 545454545);
	assert_int_equal(epoch.rows[2].share, 363636364);

	rows[0].score = INT64_MAX;
	assert_int_equal(ol_epoch_add(&epoch, rows, 1, NULL), OL_ERR_INPUT);
	assert_int_equal(epoch.rows[0].score, 10);
	assert_int_equal(epoch.answers, 3);
	memcpy(rows[0].payee, rows[2].payee, OL_PAYEE_BYTES);
	assert_int_equal(ol_epoch_add(&epoch, rows, 3, NULL), OL_ERR_INPUT);
	ol_epoch_release(&epoch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_sum_exactly),
		cmocka_unit_test(test_quota),
		cmocka_unit_test(test_ties_follow_the_hash),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_noise_is_told_from_a_source),
		cmocka_unit_test(test_no_clear_source_pays_nobody),
		cmocka_unit_test(test_evidence_is_capped),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_payees),
		cmocka_unit_test(test_epoch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
