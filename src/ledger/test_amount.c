/* Amounts: every border of the arithmetic, one text per amount, and splits that lose nothing. */
#include "ledger/amount.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX UINT64_MAX

static void test_add_and_sub(void **state)
{
	static const struct {
		uint64_t a, b;
		bool adds, subtracts;
	} rows[] = {
		{0, 0, true, true},
		{1, 0, true, true},
		{0, 1, true, false},
		{MAX, 0, true, true},
		{MAX, 1, false, true},
		{MAX - 1, 1, true, true},
		{MAX, MAX, false, true},
		{MAX / 2, MAX / 2 + 1, true, false},
		{MAX / 2 + 1, MAX / 2 + 1, false, true},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_amount out = {77};
		assert_int_equal(ol_amount_add(&out, ol_amount(rows[i].a), ol_amount(rows[i].b)),
				 rows[i].adds);
		assert_true(out.nano == (rows[i].adds ? rows[i].a + rows[i].b : 77));
		out.nano = 77;
		assert_int_equal(ol_amount_sub(&out, ol_amount(rows[i].a), ol_amount(rows[i].b)),
				 rows[i].subtracts);
		assert_true(out.nano == (rows[i].subtracts ? rows[i].a - rows[i].b : 77));
	}
}

static void test_mul_div(void **state)
{
	static const struct {
		uint64_t a, times, by;
		bool fits;
		uint64_t down, up;
	} rows[] = {
		{0, 5, 3, true, 0, 0},
		{10, 1, 3, true, 3, 4},
		{9, 1, 3, true, 3, 3},
		{1, 1, 0, false, 0, 0},
		{0, 0, 0, false, 0, 0},
		{MAX, MAX, MAX, true, MAX, MAX},
		{MAX, MAX, MAX - 1, false, 0, 0},
		{MAX, 2, 1, false, 0, 0},
		{MAX, 1, 2, true, MAX / 2, MAX / 2 + 1},
		{UINT64_C(1000000000000000000), 999999, 1000000, true, UINT64_C(999999000000000000),
		 UINT64_C(999999000000000000)},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_amount out = {77};
		assert_int_equal(ol_amount_mul_div(&out, ol_amount(rows[i].a), rows[i].times,
						   rows[i].by, OL_ROUND_DOWN),
				 rows[i].fits);
		assert_true(out.nano == (rows[i].fits ? rows[i].down : 77));
		out.nano = 77;
		assert_int_equal(ol_amount_mul_div(&out, ol_amount(rows[i].a), rows[i].times,
						   rows[i].by, OL_ROUND_UP),
				 rows[i].fits);
		assert_true(out.nano == (rows[i].fits ? rows[i].up : 77));
	}
	/* Rounded up, one more may not fit. */
	struct ol_amount out;
	assert_true(ol_amount_mul_div(&out, ol_amount(MAX), MAX - 1, MAX - 1, OL_ROUND_UP));
	assert_false(ol_amount_mul_div(&out, ol_amount(MAX), 3, 2, OL_ROUND_UP));
}

static void test_text(void **state)
{
	static const struct {
		const char *text;
		bool nano_ok;
		uint64_t nano;
		bool open_ok;
		uint64_t open;
	} rows[] = {
		{"0", true, 0, true, 0},
		{"1", true, 1, true, 1000000000},
		{"18446744073709551615", true, MAX, false, 0},
		{"18446744073709551616", false, 0, false, 0},
		{"99999999999999999999", false, 0, false, 0},
		{"18446744073.709551615", false, 0, true, MAX},
		{"18446744073.709551616", false, 0, false, 0},
		{"18446744074", true, 18446744074, false, 0},
		{"1.5", false, 0, true, 1500000000},
		{"0.000000001", false, 0, true, 1},
		{"0.0000000001", false, 0, false, 0},
		{"1.000000000", false, 0, true, 1000000000},
		{"1.0000000000", false, 0, false, 0},
		{"", false, 0, false, 0},
		{".", false, 0, false, 0},
		{".5", false, 0, false, 0},
		{"5.", false, 0, false, 0},
		{"1.5.0", false, 0, false, 0},
		{"00", false, 0, false, 0},
		{"01", false, 0, false, 0},
		{"00.5", false, 0, false, 0},
		{"-1", false, 0, false, 0},
		{"+1", false, 0, false, 0},
		{" 1", false, 0, false, 0},
		{"1 ", false, 0, false, 0},
		{"1e9", false, 0, false, 0},
		{"0x1", false, 0, false, 0},
		{"1,5", false, 0, false, 0},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_amount out = {77};
		const size_t length = strlen(rows[i].text);
		if (ol_amount_parse(&out, rows[i].text, length) != rows[i].nano_ok ||
		    out.nano != (rows[i].nano_ok ? rows[i].nano : 77))
			fail_msg("\"%s\" as nano-OPEN", rows[i].text);
		out.nano = 77;
		if (ol_amount_parse_open(&out, rows[i].text, length) != rows[i].open_ok ||
		    out.nano != (rows[i].open_ok ? rows[i].open : 77))
			fail_msg("\"%s\" as OPEN", rows[i].text);
	}
}

static uint64_t next(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void test_text_there_and_back(void **state)
{
	uint64_t seed = 1;
	(void)state;
	for (int i = 0; i < 200000; i++) {
		const struct ol_amount a = {next(&seed) >> next(&seed) % 64};
		struct ol_amount b = {0}, c = {0};
		char nano[OL_AMOUNT_TEXT_MAX], open[OL_AMOUNT_OPEN_MAX];
		ol_amount_print(nano, a);
		ol_amount_print_open(open, a);
		assert_true(ol_amount_parse(&b, nano, strlen(nano)) && b.nano == a.nano);
		assert_true(ol_amount_parse_open(&c, open, strlen(open)) && c.nano == a.nano);
	}
}

static void test_totals(void **state)
{
	struct ol_total t = {0, 0}, u = {0, 0};
	char text[OL_TOTAL_TEXT_MAX];
	(void)state;
	ol_total_add(&t, ol_amount(MAX));
	ol_total_add(&t, ol_amount(1));
	assert_true(t.low == 0 && t.high == 1);
	ol_total_print_difference(text, t, u);
	assert_string_equal(text, "18446744073709551616");
	ol_total_print_difference(text, u, t);
	assert_string_equal(text, "-18446744073709551616");
	ol_total_sub(&t, ol_amount(1));
	assert_true(t.low == MAX && t.high == 0);
	ol_total_print_difference(text, t, t);
	assert_string_equal(text, "0");
	t = (struct ol_total){MAX, MAX};
	ol_total_print_difference(text, u, t);
	assert_string_equal(text, "-340282366920938463463374607431768211455");
}

/* ---- Splits ------------------------------------------------------------ */

static void name_part(struct ol_split_part *part, uint64_t name)
{
	memset(part, 0, sizeof *part);
	memcpy(part->account, &name, sizeof name);
}

static void test_split_rows(void **state)
{
	static const uint8_t receipt[32] = {9};
	static const struct {
		uint64_t total, weights[4], parts[4];
		int count;
	} rows[] = {
		{100, {1}, {100}, 1},
		{100, {500000, 500000}, {50, 50}, 2},
		{100, {600000, 300000, 100000}, {60, 30, 10}, 3},
		{0, {1, 2, 3}, {0, 0, 0}, 3},
		{10, {0, 1, 0}, {0, 10, 0}, 3},
		{7, {3, 2, 1, 1}, {3, 2, 1, 1}, 4},
		{8, {3, 2, 1, 1}, {4, 2, 1, 1}, 4},     /* fractions 3/7, 2/7, 1/7, 1/7    */
		{5, {600000, 399999, 1}, {3, 2, 0}, 3}, /* of which .999995 is the largest */
		{MAX, {INT64_MAX}, {MAX}, 1},
		{MAX, {1, 2}, {MAX / 3, MAX / 3 * 2}, 2},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_split_part parts[4];
		for (int p = 0; p < rows[i].count; p++) {
			name_part(&parts[p], (uint64_t)p + 1);
			parts[p].weight = rows[i].weights[p];
		}
		assert_true(ol_amount_split(parts, (size_t)rows[i].count, ol_amount(rows[i].total),
					    receipt));
		for (int p = 0; p < rows[i].count; p++)
			if (parts[p].amount.nano != rows[i].parts[p])
				fail_msg("row %zu, part %d: %llu", i, p,
					 (unsigned long long)parts[p].amount.nano);
	}
}

static void test_split_refusals(void **state)
{
	static const uint8_t receipt[32];
	struct ol_split_part parts[2];
	(void)state;
	name_part(&parts[0], 1);
	name_part(&parts[1], 2);
	assert_false(ol_amount_split(parts, 0, ol_amount(1), receipt));
	assert_false(ol_amount_split(parts, 2, ol_amount(1), receipt)); /* all weights 0 */
	parts[0].weight = INT64_MAX;
	assert_true(ol_amount_split(parts, 2, ol_amount(1), receipt));
	parts[1].weight = 1;
	assert_false(ol_amount_split(parts, 2, ol_amount(1), receipt));
}

/* The sum is the total; nobody is a nano away from the exact share; who has more weight never gets
 * less. Small totals over equal weights make ties. */
static void test_split_properties(void **state)
{
	enum { PARTS = 40 };
	uint64_t seed = 5;
	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct ol_split_part parts[PARTS];
		uint8_t receipt[32] = {0};
		const size_t count = 1 + next(&seed) % PARTS;
		const struct ol_amount total = {next(&seed) >> next(&seed) % 64};
		const uint64_t range = 1 + (next(&seed) >> (6 + next(&seed) % 58));
		unsigned __int128 sum = 0, whole = 0;
		receipt[0] = (uint8_t)round;
		for (size_t i = 0; i < count; i++) {
			name_part(&parts[i], next(&seed));
			parts[i].weight = next(&seed) % range;
			whole += parts[i].weight;
		}
		if (whole == 0)
			continue;
		assert_true(ol_amount_split(parts, count, total, receipt));
		for (size_t i = 0; i < count; i++) {
			const unsigned __int128 exact =
				(unsigned __int128)total.nano * parts[i].weight / whole;
			sum += parts[i].amount.nano;
			assert_true(parts[i].amount.nano == exact ||
				    parts[i].amount.nano == exact + 1);
			assert_true(parts[i].weight > 0 || parts[i].amount.nano == 0);
			for (size_t j = 0; j < count; j++)
				assert_true(parts[i].weight <= parts[j].weight ||
					    parts[i].amount.nano + 1 > parts[j].amount.nano ||
					    parts[i].fraction < parts[j].fraction);
		}
		assert_true(sum == total.nano);
	}
}

/* Among equals the receipt decides, not the place in the list and not the address alone. */
static void test_ties_are_a_lottery(void **state)
{
	enum { PARTS = 5, ROUNDS = 5000 };
	int won[PARTS] = {0};
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct ol_split_part parts[PARTS];
		uint8_t receipt[32] = {(uint8_t)round, (uint8_t)(round >> 8)};
		uint64_t winner = 0;
		for (int turn = 0; turn < PARTS; turn++) {
			for (int i = 0; i < PARTS; i++) {
				name_part(&parts[i], 100 + (uint64_t)((i + turn) % PARTS));
				parts[i].weight = 1;
			}
			assert_true(ol_amount_split(parts, PARTS, ol_amount(PARTS + 1), receipt));
			for (int i = 0; i < PARTS; i++) {
				uint64_t name;
				memcpy(&name, parts[i].account, sizeof name);
				if (parts[i].amount.nano == 2) {
					assert_true(turn == 0 || name == winner);
					winner = name;
				}
			}
		}
		won[winner - 100]++;
	}
	for (int i = 0; i < PARTS; i++) /* 1000 expected, standard deviation 28 */
		assert_in_range(won[i], 860, 1140);
}

/* The bytes that are hashed are a promise to everybody who checks a receipt. */
static void test_tie_is_this_hash(void **state)
{
	struct ol_split_part parts[2];
	uint8_t receipt[32];
	(void)state;
	for (int i = 0; i < 32; i++)
		receipt[i] = (uint8_t)i;
	name_part(&parts[0], 1);
	name_part(&parts[1], 2);
	parts[0].weight = parts[1].weight = 1;
	assert_true(ol_amount_split(parts, 2, ol_amount(3), receipt));
	assert_true(parts[0].tie == UINT64_C(0xc44e803d15395062));
	assert_true(parts[1].tie == UINT64_C(0x5f67c6758c9c5cc7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_sub),
		cmocka_unit_test(test_mul_div),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_there_and_back),
		cmocka_unit_test(test_totals),
		cmocka_unit_test(test_split_rows),
		cmocka_unit_test(test_split_refusals),
		cmocka_unit_test(test_split_properties),
		cmocka_unit_test(test_ties_are_a_lottery),
		cmocka_unit_test(test_tie_is_this_hash),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
