/* The book against the plain one: random histories, compared after every batch; and many random
 * transfers whose sums are added up again. */
#include "tests/support_book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct ol_book_limits limits = {128, 4096, 1024};

static struct ol_book *open_book(const struct ol_book_limits *l, uint64_t secret)
{
	struct ol_error err;
	struct ol_book *book = NULL;
	ol_must(ol_book_open(&book, l, secret, &err), &err);
	return book;
}

struct bytes {
	uint8_t *data;
	size_t size, room, read;
};

static enum ol_status put_bytes(void *context, const void *data, size_t size, struct ol_error *err)
{
	struct bytes *b = context;
	(void)err;
	if (b->size + size > b->room) {
		b->room = 2 * (b->size + size);
		b->data = realloc(b->data, b->room);
		assert_non_null(b->data);
	}
	if (size > 0)
		memcpy(b->data + b->size, data, size);
	b->size += size;
	return OL_OK;
}

static enum ol_status get_bytes(void *context, void *data, size_t size, struct ol_error *err)
{
	struct bytes *b = context;
	if (size > b->size - b->read)
		return ol_fail(err, OL_ERR_INPUT, "too short");
	memcpy(data, b->data + b->read, size);
	b->read += size;
	return OL_OK;
}

/* Saved and loaded into a book of other limits and another secret, it is the same. */
static struct ol_book *through_bytes(struct ol_book *book, uint64_t secret)
{
	const struct ol_book_limits other = {100 + (uint32_t)(secret % 77),
					     4000 + (uint32_t)(secret % 999), 900};
	struct bytes bytes = {0};
	struct ol_error err;
	uint8_t before[32], after[32];
	struct ol_book *copy = open_book(&other, secret);
	ol_must(ol_book_save(book, put_bytes, &bytes, &err), &err);
	ol_must(ol_book_load(copy, get_bytes, &bytes, &err), &err);
	assert_true(bytes.read == bytes.size);
	ol_must(ol_book_digest(book, before, &err), &err);
	ol_must(ol_book_digest(copy, after, &err), &err);
	assert_memory_equal(before, after, sizeof before);
	free(bytes.data);
	ol_book_close(book);
	return copy;
}

static void run_history(uint64_t seed, int batches, uint64_t seen[OL_POST_COUNT],
			uint64_t seen_ops[OL_ACCOUNT_OUTCOME_COUNT])
{
	static struct ol_world world;
	struct ol_naive_book naive;
	struct ol_error err;
	uint8_t ops[2][OL_WORLD_BATCH_MAX], results[2][OL_WORLD_BATCH_MAX];
	struct ol_book *book = open_book(&limits, seed);
	ol_world_init(&world, seed);
	ol_naive_init(&naive);
	for (int b = 0; b < batches; b++) {
		struct ol_postings postings;
		if (b == 0)
			ol_world_open_accounts(&world, &postings);
		else
			ol_world_batch(&world, &postings, OL_WORLD_BATCH_MAX);
		if (b % 7 == 3) /* more often than the journal says: nothing changes */
			ol_book_advance(book, world.now_ms - world.now_ms % 3 > ol_book_now_ms(book)
						      ? world.now_ms - world.now_ms % 3
						      : ol_book_now_ms(book));
		ol_must(ol_book_admit(book, &postings, &err), &err);
		ol_book_post(book, ops[0], results[0], &postings, world.now_ms);
		ol_naive_post(&naive, ops[1], results[1], &postings, world.now_ms);
		for (uint32_t i = 0; i < postings.account_count; i++) {
			if (ops[0][i] != ops[1][i])
				fail_msg("seed %llu, batch %d, op %u: %s, should be %s",
					 (unsigned long long)seed, b, i,
					 ol_account_outcome_name(ops[0][i]),
					 ol_account_outcome_name(ops[1][i]));
			seen_ops[ops[0][i]]++;
		}
		for (uint32_t i = 0; i < postings.transfer_count; i++) {
			if (results[0][i] != results[1][i])
				fail_msg("seed %llu, batch %d, transfer %u: %s, should be %s",
					 (unsigned long long)seed, b, i,
					 ol_post_name(results[0][i]), ol_post_name(results[1][i]));
			seen[results[0][i]]++;
		}
		ol_must(ol_book_check(book, &err), &err);
		const char *difference = ol_naive_difference(&naive, book);
		if (difference)
			fail_msg("seed %llu, batch %d: %s", (unsigned long long)seed, b,
				 difference);
		if (b % 16 == 9)
			book = through_bytes(book, seed + (uint64_t)b);
		ol_world_wait(&world);
	}
	ol_naive_release(&naive);
	ol_book_close(book);
}

/* Every answer is seen on the way, so none of the rules is left out by the dice. */
static void test_like_the_plain_book(void **state)
{
	uint64_t seen[OL_POST_COUNT] = {0}, seen_ops[OL_ACCOUNT_OUTCOME_COUNT] = {0}, all = 0;
	const int histories = ol_slow() ? 5000 : 400;
	(void)state;
	for (int i = 0; i < histories; i++)
		run_history(1000 + (uint64_t)i, 64, seen, seen_ops);
	for (int i = 0; i < OL_POST_COUNT; i++) {
		all += seen[i];
		if (seen[i] == 0)
			fail_msg("no transfer was answered %s", ol_post_name((enum ol_post)i));
	}
	for (int i = 0; i < OL_ACCOUNT_OUTCOME_COUNT; i++)
		if (seen_ops[i] == 0)
			fail_msg("no account change was answered %s",
				 ol_account_outcome_name((enum ol_account_outcome)i));
	print_message("%llu transfers, %llu posted, %llu retries\n", (unsigned long long)all,
		      (unsigned long long)seen[OL_POST_OK],
		      (unsigned long long)seen[OL_POST_EXISTS]);
}

/* ---- Many transfers ------------------------------------------------------------ */

enum { CROWD = 2000, CROWD_BATCH = OL_BATCH_TRANSFERS_MAX };

static struct ol_account_key crowd_key(uint64_t number)
{
	struct ol_account_key key;
	const uint8_t id[20] = {(uint8_t)number, (uint8_t)(number >> 8), 1};
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, (enum ol_currency)(number % 2), 0, id, 20);
	return key;
}

/* Between accounts of one currency, chains, reservations, and what becomes of them. */
static void crowd_batch(struct ol_transfer *t, struct ol_dice *dice, uint64_t now_ms)
{
	for (int i = 0; i < CROWD_BATCH; i++) {
		const uint64_t roll = ol_dice_next(dice);
		const uint64_t from = (roll >> 32) % CROWD;
		uint8_t random[OL_ID_RANDOM_BYTES] = {0};
		memcpy(random, &roll, sizeof roll);
		t[i] = (struct ol_transfer){
			.id = ol_id_make(now_ms, random),
			.debit = crowd_key(from),
			.credit = crowd_key((from + 2 + ol_dice_next(dice) % (CROWD - 2) / 2 * 2) %
					    CROWD),
			.amount = {1 + roll % 1000},
			.code = OL_CODE_OTHER};
		if (roll % 16 < 3) {
			t[i].flags = OL_TRANSFER_PENDING;
			t[i].timeout_s = 1 + (uint32_t)(roll >> 40) % 20000;
		} else if (roll % 16 < 5 && i > 20) {
			const struct ol_transfer *first = &t[i - 1 - (int)(roll >> 20 & 15)];
			t[i].debit = first->debit;
			t[i].credit = first->credit;
			t[i].pending_id = first->id;
			t[i].amount.nano = 1 + first->amount.nano / 2;
			t[i].flags = OL_TRANSFER_POST;
		}
		if (roll % 8 == 7 && i + 1 < CROWD_BATCH)
			t[i].flags |= OL_TRANSFER_LINKED;
	}
}

/* Debits equal credits after every batch, and what could not be paid was not. */
static void test_sums_of_many(void **state)
{
	static struct ol_transfer transfers[CROWD_BATCH];
	static struct ol_account_op ops[CROWD];
	static uint8_t results[CROWD_BATCH];
	const struct ol_book_limits many = {CROWD, 4000000, 1000000};
	const int batches = ol_slow() ? 1300 : 123;
	uint64_t now_ms = UINT64_C(1800000000000), posted = 0, all = 0;
	struct ol_dice dice = {11};
	struct ol_error err;
	struct ol_postings opening = {.accounts = ops, .account_count = CROWD};
	struct ol_book *book = open_book(&many, 3);
	(void)state;
	for (uint64_t i = 0; i < CROWD; i++)
		ops[i] = (struct ol_account_op){.key = crowd_key(i),
						.action = OL_ACCOUNT_OPEN,
						.flags = i < 40 ? OL_ACCOUNT_OVERDRAFT : 0};
	ol_book_post(book, results, NULL, &opening, now_ms);
	for (int b = 0; b < batches; b++) {
		const struct ol_postings postings = {.transfers = transfers,
						     .transfer_count = CROWD_BATCH};
		now_ms += 3600000;
		crowd_batch(transfers, &dice, now_ms);
		ol_book_advance(book, now_ms);
		ol_must(ol_book_admit(book, &postings, &err), &err);
		ol_book_post(book, NULL, results, &postings, now_ms);
		ol_must(ol_book_check(book, &err), &err);
		for (int i = 0; i < CROWD_BATCH; i++)
			posted += results[i] == OL_POST_OK;
		all += CROWD_BATCH;
	}
	print_message("%llu transfers, %llu posted\n", (unsigned long long)all,
		      (unsigned long long)posted);
	assert_true(posted > all / 3 && posted < all);
	ol_book_close(book);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums_of_many),
		cmocka_unit_test(test_like_the_plain_book),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
