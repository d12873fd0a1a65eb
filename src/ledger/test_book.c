/* One row for every answer of the book: what is sent, after what, and what it is told. */
#include "ledger/book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The world of every row, at this time:
 *
 *     GRANTS  overdraft, credit     ANN   1,000 credit, of which 300 reserved by R1
 *     CHAIN   overdraft, OPEN       BOB   0 credit; BOB_OPEN 500 OPEN
 *     FROZEN  100 credit, frozen    SHUT  closed                                               */
static const uint64_t NOW = UINT64_C(1800000000000);

enum who { GRANTS, CHAIN, ANN, BOB, BOB_OPEN, FROZEN, SHUT, NOBODY, ANN_OPEN, WRONG };

static struct ol_account_key key(enum who who)
{
	struct ol_account_key k;
	switch (who) {
	case GRANTS:
		ol_account_key_init(&k, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
		break;
	case CHAIN: ol_account_key_init(&k, OL_ACCOUNT_CHAIN, OL_CURRENCY_OPEN, 0, "1", 1); break;
	case ANN:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, "ann", 3);
		break;
	case BOB:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, "bob", 3);
		break;
	case BOB_OPEN:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_OPEN, 0, "bob", 3);
		break;
	case ANN_OPEN:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_OPEN, 0, "ann", 3);
		break;
	case FROZEN:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, "fro", 3);
		break;
	case SHUT:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, "shut", 4);
		break;
	case NOBODY:
		ol_account_key_init(&k, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, "new", 3);
		break;
	case WRONG: ol_account_key_init(&k, OL_ACCOUNT_GRANTS, OL_CURRENCY_OPEN, 0, NULL, 0); break;
	}
	return k;
}

/* Ids by number, made at NOW unless a row says otherwise. */
static struct ol_id id_at(uint64_t time_ms, uint8_t number)
{
	const uint8_t random[OL_ID_RANDOM_BYTES] = {number, 7};
	return number || time_ms ? ol_id_make(time_ms, random) : (struct ol_id){0};
}

enum { R1 = 1, R_POSTED, R_VOIDED, R_EXPIRED, T1, LINKED1, LINKED2, FIRST_FREE = 32 };

static struct ol_transfer transfer(uint8_t number, enum who debit, enum who credit, uint64_t units,
				   unsigned flags)
{
	return (struct ol_transfer){.id = id_at(NOW, number),
				    .debit = key(debit),
				    .credit = key(credit),
				    .amount = {units},
				    .code = OL_CODE_OTHER,
				    .flags = (uint16_t)flags};
}

static void post(struct ol_book *book, uint8_t *results, const struct ol_transfer *t,
		 uint32_t count, uint64_t now_ms)
{
	const struct ol_postings postings = {.transfers = t, .transfer_count = count};
	assert_int_equal(ol_book_admit(book, &postings, NULL), OL_OK);
	ol_book_post(book, NULL, results, &postings, now_ms);
	assert_int_equal(ol_book_check(book, NULL), OL_OK);
}

static void must_post(struct ol_book *book, const struct ol_transfer *t, uint32_t count,
		      uint64_t now_ms)
{
	uint8_t results[8];
	post(book, results, t, count, now_ms);
	for (uint32_t i = 0; i < count; i++)
		assert_string_equal(ol_post_name(results[i]), "ok");
}

static void set_flags(struct ol_book *book, enum who who, uint32_t flags, uint16_t action,
		      enum ol_account_outcome expected)
{
	const struct ol_account_op op = {.key = key(who), .action = action, .flags = flags};
	const struct ol_postings postings = {.accounts = &op, .account_count = 1};
	uint8_t result;
	ol_book_post(book, &result, NULL, &postings, ol_book_now_ms(book));
	assert_string_equal(ol_account_outcome_name(result), ol_account_outcome_name(expected));
}

static struct ol_transfer reservation(uint8_t number, uint64_t units, uint32_t timeout_s)
{
	struct ol_transfer t = transfer(number, ANN, BOB, units, OL_TRANSFER_PENDING);
	t.timeout_s = timeout_s;
	return t;
}

static struct ol_transfer second(uint8_t number, uint8_t pending, uint64_t units, unsigned flag)
{
	struct ol_transfer t = transfer(number, ANN, BOB, units, flag);
	t.pending_id = id_at(NOW, pending);
	return t;
}

static struct ol_book *make_world(void)
{
	static const struct ol_book_limits limits = {16, 64, 16};
	struct ol_book *book = NULL;
	assert_int_equal(ol_book_open(&book, &limits, 5, NULL), OL_OK);
	ol_book_advance(book, NOW - 2000);
	set_flags(book, GRANTS, OL_ACCOUNT_OVERDRAFT, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	set_flags(book, CHAIN, OL_ACCOUNT_OVERDRAFT, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	for (int who = ANN; who <= SHUT; who++)
		set_flags(book, (enum who)who, 0, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	const struct ol_transfer money[] = {
		transfer(20, GRANTS, ANN, 1000, 0),
		transfer(21, CHAIN, BOB_OPEN, 500, 0),
		transfer(22, GRANTS, FROZEN, 100, 0),
	};
	must_post(book, money, 3, NOW - 2000);
	const struct ol_transfer short_one = reservation(R_EXPIRED, 50, 1);
	must_post(book, &short_one, 1, NOW - 1000);
	const struct ol_transfer first[] = {
		reservation(R1, 300, 60),
		reservation(R_POSTED, 10, 60),
		reservation(R_VOIDED, 10, 60),
		second(10, R_POSTED, 10, OL_TRANSFER_POST),
		second(11, R_VOIDED, 0, OL_TRANSFER_VOID),
		transfer(T1, BOB, ANN, 10, 0),
		transfer(LINKED1, GRANTS, ANN, 5, OL_TRANSFER_LINKED),
		transfer(LINKED2, ANN, GRANTS, 5, 0),
	};
	must_post(book, first, 8, NOW);
	set_flags(book, FROZEN, OL_ACCOUNT_FROZEN, OL_ACCOUNT_SET_FLAGS, OL_ACCOUNT_OK);
	set_flags(book, SHUT, OL_ACCOUNT_CLOSED, OL_ACCOUNT_SET_FLAGS, OL_ACCOUNT_OK);
	return book;
}

/* A fine transfer of 5, and what a row changes of it. */
/* debit and credit by who, id by number: filled in by prepare(). */
static struct ol_transfer prepare(enum who debit, enum who credit, uint64_t units,
				  struct ol_transfer t)
{
	t.amount.nano = units;
	t.code = OL_CODE_OTHER;
	t.debit = key(debit);
	t.credit = key(credit);
	if (ol_id_is_zero(t.id))
		t.id = id_at(NOW, FIRST_FREE);
	return t;
}

static void check(const char *what, struct ol_transfer t, enum ol_post expected)
{
	struct ol_book *book = make_world();
	uint8_t before[32], after[32], result;
	assert_int_equal(ol_book_digest(book, before, NULL), OL_OK);
	post(book, &result, &t, 1, NOW);
	if (result != expected)
		fail_msg("%s: %s, should be %s", what, ol_post_name(result),
			 ol_post_name(expected));
	/* A refusal leaves no trace, and the same id may come again. */
	assert_int_equal(ol_book_digest(book, after, NULL), OL_OK);
	assert_int_equal(memcmp(before, after, sizeof before) == 0, expected != OL_POST_OK);
	ol_book_close(book);
}

static void test_single_transfers(void **state)
{
	const uint16_t pending = OL_TRANSFER_PENDING, spend = OL_TRANSFER_POST,
		       cancel = OL_TRANSFER_VOID, opens = OL_TRANSFER_OPENS;
	const struct ol_id r1 = id_at(NOW, R1);
	const struct {
		enum ol_post expected;
		enum who debit, credit;
		uint64_t units;
		struct ol_transfer t; /* the rest of it */
	} rows[] = {
		{OL_POST_OK, ANN, BOB, 5, {.flags = 0}},
		{OL_POST_OK, ANN, BOB, 690, {.flags = 0}},
		{OL_POST_OK, ANN, NOBODY, 5, {.flags = opens}},
		{OL_POST_OK, GRANTS, BOB, UINT64_MAX, {.flags = 0}},
		{OL_POST_OK, ANN, FROZEN, 5, {.flags = 0}},
		{OL_POST_OK, ANN, BOB, 5, {.flags = pending, .timeout_s = 86400}},
		{OL_POST_OK, ANN, BOB, 5, {.flags = spend, .pending_id = r1}},
		{OL_POST_OK, ANN, BOB, 300, {.flags = spend, .pending_id = r1}},
		{OL_POST_OK, ANN, BOB, 0, {.flags = cancel, .pending_id = r1}},
		{OL_POST_OK, ANN, BOB, 5, {.id = id_at(NOW + OL_ID_FUTURE_MS, 40)}},
		{OL_POST_OK, ANN, BOB, 5, {.id = id_at(NOW - OL_ID_LIFE_MS, 40)}},
		{OL_POST_CHAIN_OPEN, ANN, BOB, 5, {.flags = OL_TRANSFER_LINKED}},
		{OL_POST_ID_IN_FUTURE, ANN, BOB, 5, {.id = id_at(NOW + OL_ID_FUTURE_MS + 1, 40)}},
		{OL_POST_ID_TOO_OLD, ANN, BOB, 5, {.id = id_at(NOW - OL_ID_LIFE_MS - 1, 40)}},
		{OL_POST_UNKNOWN_FLAGS, ANN, BOB, 5, {.flags = 32}},
		{OL_POST_EXCLUSIVE_FLAGS, ANN, BOB, 5, {.flags = pending | spend}},
		{OL_POST_EXCLUSIVE_FLAGS, ANN, BOB, 5, {.flags = spend | cancel}},
		{OL_POST_EXCLUSIVE_FLAGS, ANN, BOB, 5, {.flags = spend | opens}},
		{OL_POST_INVALID_DEBIT, WRONG, BOB, 5, {.flags = 0}},
		{OL_POST_INVALID_CREDIT, ANN, WRONG, 5, {.flags = 0}},
		{OL_POST_SAME_ACCOUNT, ANN, ANN, 5, {.flags = 0}},
		{OL_POST_CURRENCY_DIFFERS, ANN, ANN_OPEN, 5, {.flags = 0}},
		{OL_POST_AMOUNT_ZERO, ANN, BOB, 0, {.flags = 0}},
		{OL_POST_AMOUNT_ZERO, ANN, BOB, 0, {.flags = spend, .pending_id = r1}},
		{OL_POST_AMOUNT_OF_VOID, ANN, BOB, 5, {.flags = cancel, .pending_id = r1}},
		{OL_POST_TIMEOUT_MISSING, ANN, BOB, 5, {.flags = pending}},
		{OL_POST_TIMEOUT_TOO_LONG, ANN, BOB, 5, {.flags = pending, .timeout_s = 86401}},
		{OL_POST_TIMEOUT_UNEXPECTED, ANN, BOB, 5, {.timeout_s = 1}},
		{OL_POST_PENDING_ID_MISSING, ANN, BOB, 5, {.flags = spend}},
		{OL_POST_PENDING_ID_UNEXPECTED, ANN, BOB, 5, {.pending_id = r1}},
		{OL_POST_DEBIT_NOT_FOUND, NOBODY, BOB, 5, {.flags = 0}},
		{OL_POST_CREDIT_NOT_FOUND, ANN, NOBODY, 5, {.flags = 0}},
		{OL_POST_PENDING_NOT_FOUND,
		 ANN,
		 BOB,
		 5,
		 {.flags = spend, .pending_id = id_at(NOW, 99)}},
		{OL_POST_PENDING_NOT_PENDING,
		 BOB,
		 ANN,
		 5,
		 {.flags = spend, .pending_id = id_at(NOW, T1)}},
		{OL_POST_PENDING_DIFFERENT_DEBIT,
		 FROZEN,
		 BOB,
		 5,
		 {.flags = spend, .pending_id = r1}},
		{OL_POST_PENDING_DIFFERENT_CREDIT,
		 ANN,
		 FROZEN,
		 5,
		 {.flags = spend, .pending_id = r1}},
		{OL_POST_PENDING_ALREADY_POSTED,
		 ANN,
		 BOB,
		 5,
		 {.flags = spend, .pending_id = id_at(NOW, R_POSTED)}},
		{OL_POST_PENDING_ALREADY_VOIDED,
		 ANN,
		 BOB,
		 5,
		 {.flags = spend, .pending_id = id_at(NOW, R_VOIDED)}},
		{OL_POST_PENDING_EXPIRED,
		 ANN,
		 BOB,
		 5,
		 {.flags = spend, .pending_id = id_at(NOW, R_EXPIRED)}},
		{OL_POST_EXCEEDS_PENDING, ANN, BOB, 301, {.flags = spend, .pending_id = r1}},
		{OL_POST_DEBIT_CLOSED, SHUT, BOB, 5, {.flags = 0}},
		{OL_POST_CREDIT_CLOSED, ANN, SHUT, 5, {.flags = 0}},
		{OL_POST_DEBIT_FROZEN, FROZEN, BOB, 5, {.flags = 0}},
		{OL_POST_OVERDRAFT, ANN, BOB, 701, {.flags = 0}},
		{OL_POST_OVERDRAFT, ANN, BOB, UINT64_MAX, {.flags = 0}},
		{OL_POST_OVERDRAFT, BOB, ANN, 1, {.flags = 0}},
		{OL_POST_OVERDRAFT, ANN, BOB, 701, {.flags = pending, .timeout_s = 1}},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char what[32];
		snprintf(what, sizeof what, "row %zu", i);
		check(what, prepare(rows[i].debit, rows[i].credit, rows[i].units, rows[i].t),
		      rows[i].expected);
	}
	struct ol_transfer t = transfer(FIRST_FREE, ANN, BOB, 5, 0);
	t.id = (struct ol_id){0};
	check("no id", t, OL_POST_ID_ZERO);
	t = transfer(FIRST_FREE, ANN, BOB, 5, 0);
	t.code = 0;
	check("no code", t, OL_POST_CODE_ZERO);
}

static void test_retries(void **state)
{
	struct ol_transfer t = reservation(R1, 300, 60);
	struct ol_transfer changed[8];
	static const enum ol_post expected[8] = {
		OL_POST_EXISTS_WITH_DIFFERENT_FLAGS,   OL_POST_EXISTS_WITH_DIFFERENT_CODE,
		OL_POST_EXISTS_WITH_DIFFERENT_AMOUNT,  OL_POST_EXISTS_WITH_DIFFERENT_DEBIT,
		OL_POST_EXISTS_WITH_DIFFERENT_CREDIT,  OL_POST_EXISTS_WITH_DIFFERENT_PENDING_ID,
		OL_POST_EXISTS_WITH_DIFFERENT_TIMEOUT, OL_POST_EXISTS_WITH_DIFFERENT_USER_DATA};
	(void)state;
	check("retry of a reservation", t, OL_POST_EXISTS);
	check("retry of a POST", second(10, R_POSTED, 10, OL_TRANSFER_POST), OL_POST_EXISTS);
	check("retry of what has expired", reservation(R_EXPIRED, 50, 1), OL_POST_EXISTS);
	for (int i = 0; i < 8; i++)
		changed[i] = t;
	changed[0].flags = 0;
	changed[1].code = 1;
	changed[2].amount.nano = 301;
	changed[3].debit = key(FROZEN);
	changed[4].credit = key(NOBODY);
	changed[5].pending_id.low = 1;
	changed[6].timeout_s = 61;
	changed[7].user_data[15] = 1;
	for (int i = 0; i < 8; i++)
		check(ol_post_name(expected[i]), changed[i], expected[i]);
}

/* Up to three transfers, and what each is told. */
static void test_chains(void **state)
{
	const unsigned linked = OL_TRANSFER_LINKED;
	const struct ol_transfer fine = transfer(50, ANN, BOB, 5, linked);
	const struct ol_transfer last = transfer(51, ANN, BOB, 5, 0);
	const struct ol_transfer too_much = transfer(52, ANN, BOB, 5000, 0);
	const struct ol_transfer old1 = transfer(LINKED1, GRANTS, ANN, 5, linked);
	const struct ol_transfer old2 = transfer(LINKED2, ANN, GRANTS, 5, 0);
	struct ol_transfer opens = transfer(53, ANN, NOBODY, 5, linked | OL_TRANSFER_OPENS);
	struct ol_transfer spends = transfer(54, NOBODY, BOB, 5, linked);
	struct ol_transfer reserves = reservation(55, 100, 10);
	reserves.flags |= OL_TRANSFER_LINKED;
	const struct ol_transfer takes = second(56, 55, 60, OL_TRANSFER_POST);
	const struct ol_transfer takes_too_much = second(57, 55, 101, OL_TRANSFER_POST);
	struct ol_transfer cancels = second(58, R1, 0, OL_TRANSFER_VOID | linked);
	const struct {
		const char *name;
		struct ol_transfer t[3];
		int count;
		enum ol_post expected[3];
	} rows[] = {
		{"a chain", {fine, last}, 2, {OL_POST_OK, OL_POST_OK}},
		{"the last is refused",
		 {fine, too_much},
		 2,
		 {OL_POST_LINKED_FAILED, OL_POST_OVERDRAFT}},
		{"open at the end", {last, fine}, 2, {OL_POST_OK, OL_POST_CHAIN_OPEN}},
		{"a chain again", {old1, old2}, 2, {OL_POST_EXISTS, OL_POST_EXISTS}},
		{"half of it is new",
		 {old1, last},
		 2,
		 {OL_POST_LINKED_FAILED, OL_POST_CHAIN_DIFFERS}},
		{"half of it is old",
		 {fine, old2},
		 2,
		 {OL_POST_LINKED_FAILED, OL_POST_CHAIN_DIFFERS}},
		{"money goes on", {opens, spends, last}, 3, {OL_POST_OK, OL_POST_OK, OL_POST_OK}},
		{"an account is unopened",
		 {opens, spends, too_much},
		 3,
		 {OL_POST_LINKED_FAILED, OL_POST_LINKED_FAILED, OL_POST_OVERDRAFT}},
		{"both phases", {reserves, takes}, 2, {OL_POST_OK, OL_POST_OK}},
		{"both phases undone",
		 {reserves, takes_too_much},
		 2,
		 {OL_POST_LINKED_FAILED, OL_POST_EXCEEDS_PENDING}},
		{"a release is undone",
		 {cancels, too_much},
		 2,
		 {OL_POST_LINKED_FAILED, OL_POST_OVERDRAFT}},
		{"the same id twice",
		 {fine, fine, last},
		 3,
		 {OL_POST_LINKED_FAILED, OL_POST_CHAIN_DIFFERS, OL_POST_LINKED_FAILED}},
		{"the first is refused, the next chain is not",
		 {too_much, fine, last},
		 3,
		 {OL_POST_OVERDRAFT, OL_POST_OK, OL_POST_OK}},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_book *book = make_world();
		uint8_t results[3], before[32], after[32];
		bool any = false;
		assert_int_equal(ol_book_digest(book, before, NULL), OL_OK);
		post(book, results, rows[i].t, (uint32_t)rows[i].count, NOW);
		for (int t = 0; t < rows[i].count; t++) {
			any |= results[t] == OL_POST_OK;
			if (results[t] != rows[i].expected[t])
				fail_msg("%s, %d: %s, should be %s", rows[i].name, t,
					 ol_post_name(results[t]),
					 ol_post_name(rows[i].expected[t]));
		}
		assert_int_equal(ol_book_digest(book, after, NULL), OL_OK);
		assert_int_equal(memcmp(before, after, sizeof before) != 0, any);
		ol_book_close(book);
	}
}

static void test_account_changes(void **state)
{
	struct ol_book *book = make_world();
	const uint16_t open = OL_ACCOUNT_OPEN, set = OL_ACCOUNT_SET_FLAGS;
	(void)state;
	set_flags(book, BOB, 0, 3, OL_ACCOUNT_UNKNOWN_ACTION);
	set_flags(book, BOB, 8, open, OL_ACCOUNT_UNKNOWN_FLAGS);
	set_flags(book, WRONG, 0, open, OL_ACCOUNT_INVALID_KEY);
	set_flags(book, NOBODY, 0, set, OL_ACCOUNT_NOT_FOUND);
	set_flags(book, BOB, 0, open, OL_ACCOUNT_EXISTS);
	set_flags(book, BOB, OL_ACCOUNT_FROZEN, open, OL_ACCOUNT_EXISTS_WITH_DIFFERENT_FLAGS);
	set_flags(book, ANN, OL_ACCOUNT_CLOSED, set, OL_ACCOUNT_NOT_EMPTY);
	set_flags(book, BOB, OL_ACCOUNT_CLOSED, set, OL_ACCOUNT_NOT_EMPTY); /* R1 may come */
	set_flags(book, GRANTS, 0, set, OL_ACCOUNT_OVERDRAWN);
	set_flags(book, NOBODY, 0, open, OL_ACCOUNT_OK);
	set_flags(book, NOBODY, OL_ACCOUNT_CLOSED, set, OL_ACCOUNT_OK);
	struct ol_account_op op = {.key = key(BOB), .action = open, .zeros = {[23] = 1}};
	const struct ol_postings postings = {.accounts = &op, .account_count = 1};
	uint8_t result;
	ol_book_post(book, &result, NULL, &postings, NOW);
	assert_int_equal(result, OL_ACCOUNT_RESERVED_FIELD);
	ol_book_close(book);
}

/* Which accounts can be: a row per kind, what may stand in its key. */
static void test_keys(void **state)
{
	static const struct {
		int kind;
		bool open, credit, id20, id24, epoch;
	} rows[] = {
		{0, false, false, false, false, false},
		{OL_ACCOUNT_ADDRESS, true, true, true, false, false},
		{OL_ACCOUNT_PLATFORM, true, true, false, false, false},
		{OL_ACCOUNT_CLEARING, true, true, false, false, false},
		{OL_ACCOUNT_POT, true, true, true, true, true},
		{OL_ACCOUNT_DATANET, true, true, true, true, false},
		{OL_ACCOUNT_STAKERS, true, true, true, true, false},
		{OL_ACCOUNT_CHAIN, true, false, true, true, false},
		{OL_ACCOUNT_OUTBOX, true, false, false, false, false},
		{OL_ACCOUNT_GRANTS, false, true, false, false, false},
		{OL_ACCOUNT_FUND, true, true, true, true, false},
		{OL_ACCOUNT_KIND_LAST + 1, false, false, false, false, false},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_account_key open = {.kind = (uint8_t)rows[i].kind};
		struct ol_account_key k = open;
		assert_int_equal(ol_account_key_valid(&k), rows[i].open);
		k.currency = OL_CURRENCY_CREDIT;
		assert_int_equal(ol_account_key_valid(&k), rows[i].credit);
		k.currency = OL_CURRENCY_COUNT;
		assert_false(ol_account_key_valid(&k));
		k = open;
		k.currency = rows[i].open ? OL_CURRENCY_OPEN : OL_CURRENCY_CREDIT;
		k.id[19] = 1;
		assert_int_equal(ol_account_key_valid(&k), rows[i].id20);
		k.id[19] = 0;
		k.id[20] = 1;
		assert_int_equal(ol_account_key_valid(&k), rows[i].id24);
		k.id[20] = 0;
		k.epoch = 1;
		assert_int_equal(ol_account_key_valid(&k), rows[i].epoch);
		k.epoch = 0;
		k.zero = 1;
		assert_false(ol_account_key_valid(&k));
	}
}

static uint64_t spendable(const struct ol_book *book, enum who who)
{
	const struct ol_account_key k = key(who);
	return ol_account_available(ol_book_find(book, &k)).nano;
}

/* Reserve 300, spend 120, have 180 back; let the next one run out to the millisecond. */
static void test_two_phases(void **state)
{
	struct ol_book *book = make_world();
	struct ol_transfer t;
	(void)state;
	assert_int_equal(spendable(book, ANN), 700);
	t = second(60, R1, 120, OL_TRANSFER_POST);
	must_post(book, &t, 1, NOW);
	assert_int_equal(spendable(book, ANN), 880);
	assert_int_equal(spendable(book, BOB), 120);
	assert_int_equal(ol_book_transfer(book, &t, id_at(NOW, R1)), OL_TRANSFER_SPENT);
	t = reservation(61, 800, 10);
	must_post(book, &t, 1, NOW);
	ol_book_advance(book, NOW + 9999);
	assert_int_equal(spendable(book, ANN), 80);
	assert_int_equal(ol_book_transfer(book, NULL, t.id), OL_TRANSFER_RESERVED);
	ol_book_advance(book, NOW + 10000);
	assert_int_equal(spendable(book, ANN), 880);
	assert_int_equal(ol_book_transfer(book, NULL, t.id), OL_TRANSFER_EXPIRED);
	/* A frozen account may still spend what is reserved. */
	t = reservation(62, 100, 10);
	must_post(book, &t, 1, NOW + 10000);
	set_flags(book, ANN, OL_ACCOUNT_FROZEN, OL_ACCOUNT_SET_FLAGS, OL_ACCOUNT_OK);
	t = second(63, 62, 100, OL_TRANSFER_POST);
	must_post(book, &t, 1, NOW + 10000);
	assert_int_equal(spendable(book, BOB), 220);
	assert_int_equal(ol_book_pending_count(book), 0);
	ol_book_close(book);
}

/* After seven days an id is gone, memory and all; a reservation made late by an old id still
 * ends. */
static void test_ids_leave(void **state)
{
	struct ol_book *book = make_world();
	struct ol_transfer t = transfer(70, ANN, BOB, 1, 0);
	uint8_t result;
	(void)state;
	ol_book_advance(book, NOW + OL_ID_LIFE_MS);
	post(book, &result, &t, 1, NOW + OL_ID_LIFE_MS);
	assert_int_equal(result, OL_POST_OK);
	struct ol_transfer late = reservation(71, 10, 86400);
	must_post(book, &late, 1, NOW + OL_ID_LIFE_MS);
	post(book, &result, &t, 1, NOW + OL_ID_LIFE_MS);
	assert_int_equal(result, OL_POST_EXISTS);
	post(book, &result, &t, 1, NOW + OL_ID_LIFE_MS + 1);
	assert_int_equal(result, OL_POST_ID_TOO_OLD);
	assert_int_equal(ol_book_transfer(book, NULL, t.id), OL_TRANSFER_UNKNOWN);
	assert_int_equal(ol_book_transfer(book, NULL, late.id), OL_TRANSFER_RESERVED);
	assert_int_equal(ol_book_pending_count(book), 1);
	ol_book_advance(book, NOW + OL_ID_LIFE_MS + 86400000);
	assert_int_equal(ol_book_id_count(book), 0);
	assert_int_equal(ol_book_pending_count(book), 0);
	assert_int_equal(ol_book_check(book, NULL), OL_OK);
	ol_book_close(book);
}

/* What there is no room for is said before anything happens, and names the limit. */
static void test_room(void **state)
{
	static const struct ol_book_limits limits = {3, 4, 2};
	struct ol_book *book = NULL;
	struct ol_error err;
	struct ol_transfer t[5];
	struct ol_postings postings = {.transfers = t};
	(void)state;
	assert_int_equal(ol_book_open(&book, &limits, 1, &err), OL_OK);
	set_flags(book, GRANTS, OL_ACCOUNT_OVERDRAFT, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	set_flags(book, ANN, 0, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	for (uint8_t i = 0; i < 5; i++)
		t[i] = transfer((uint8_t)(i + 1), GRANTS, ANN, 1, 0);
	postings.transfer_count = 5;
	assert_int_equal(ol_book_admit(book, &postings, &err), OL_ERR_FULL);
	assert_non_null(strstr(err.text, "0 of 4 transfers"));
	postings.transfer_count = 4;
	assert_int_equal(ol_book_admit(book, &postings, &err), OL_OK);
	t[0].flags = t[1].flags = t[2].flags = OL_TRANSFER_PENDING;
	assert_int_equal(ol_book_admit(book, &postings, &err), OL_ERR_FULL);
	assert_non_null(strstr(err.text, "0 of 2 open reservations"));
	t[0].flags = t[1].flags = OL_TRANSFER_OPENS;
	assert_int_equal(ol_book_admit(book, &postings, &err), OL_ERR_FULL);
	assert_non_null(strstr(err.text, "2 of 3 accounts"));
	postings.transfer_count = OL_BATCH_TRANSFERS_MAX + 1;
	assert_int_equal(ol_book_admit(book, &postings, &err), OL_ERR_FULL);
	ol_book_close(book);
	static const struct ol_book_limits wrong[] = {{0, 1, 1},
						      {1, 0, 1},
						      {1, 1, 0},
						      {1, 1, 2},
						      {OL_BOOK_ACCOUNTS_MAX + 1, 1, 1},
						      {1, OL_BOOK_IDS_MAX + 1u, 1}};
	for (size_t i = 0; i < OL_ARRAY_LEN(wrong); i++)
		assert_int_equal(ol_book_open(&book, &wrong[i], 1, &err), OL_ERR_INPUT);
}

/* Reservations that were spent do not fill the room of those that are open. */
static void test_many_reservations(void **state)
{
	static const struct ol_book_limits limits = {4, 10000, 4};
	struct ol_book *book = NULL;
	(void)state;
	assert_int_equal(ol_book_open(&book, &limits, 1, NULL), OL_OK);
	set_flags(book, GRANTS, OL_ACCOUNT_OVERDRAFT, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	set_flags(book, ANN, 0, OL_ACCOUNT_OPEN, OL_ACCOUNT_OK);
	for (int i = 0; i < 2000; i++) {
		struct ol_transfer t[2] = {transfer(1, GRANTS, ANN, 9, OL_TRANSFER_PENDING),
					   transfer(1, GRANTS, ANN, 9, OL_TRANSFER_POST)};
		t[0].id.low = (uint64_t)i * 2 + 1000;
		t[1].id.low = (uint64_t)i * 2 + 1001;
		t[0].timeout_s = 3600;
		t[1].pending_id = t[0].id;
		must_post(book, t, i % 100 == 99 ? 1 : 2, NOW + (uint64_t)i * 60000);
	}
	ol_book_advance(book, NOW + UINT64_C(2000) * 60000 + 3600000);
	assert_int_equal(ol_book_pending_count(book), 0);
	assert_int_equal(ol_book_check(book, NULL), OL_OK);
	ol_book_close(book);
}

static void test_names_and_ids(void **state)
{
	const uint8_t random[OL_ID_RANDOM_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	const struct ol_id id = ol_id_make(0x123456789abc, random);
	struct ol_id again;
	char text[OL_ID_TEXT_MAX];
	(void)state;
	for (int i = 0; i < OL_POST_COUNT; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(ol_post_name((enum ol_post)i),
						ol_post_name((enum ol_post)j));
	assert_string_equal(ol_post_name(OL_POST_COUNT), "?");
	assert_string_equal(ol_account_kind_name((enum ol_account_kind)0), "?");
	assert_string_equal(ol_account_kind_name(OL_ACCOUNT_POT), "pot");
	ol_id_print(text, id);
	assert_string_equal(text, "123456789abc02010a09080706050403");
	assert_true(ol_id_time_ms(id) == 0x123456789abc);
	assert_true(ol_id_parse(&again, text, 32) && ol_id_equal(id, again));
	assert_false(ol_id_parse(&again, text, 31));
	text[5] = 'A';
	assert_false(ol_id_parse(&again, text, 32));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_transfers),
		cmocka_unit_test(test_retries),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_account_changes),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_two_phases),
		cmocka_unit_test(test_ids_leave),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_many_reservations),
		cmocka_unit_test(test_names_and_ids),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
