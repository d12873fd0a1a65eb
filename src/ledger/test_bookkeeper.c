/* Many threads, one ledger: nothing is lost, nothing is told before it is durable, and a disk that
 * fails ends everything in words. */
#include "ledger/bookkeeper.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 8, POSTS = 60 };

static char folder[] = "/tmp/bookkeeper-XXXXXX";
static struct ol_disk real;

static void remove_name(void *context, const char *name)
{
	struct ol_error err;
	(void)context;
	(void)real.remove(real.self, name, &err);
}

static int set_up(void **state)
{
	struct ol_error err;
	(void)state;
	(void)snprintf(folder, sizeof folder, "/tmp/bookkeeper-XXXXXX");
	return mkdtemp(folder) && ol_disk_open(&real, folder, &err) == OL_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	struct ol_error err;
	(void)state;
	(void)real.list(real.self, remove_name, NULL, &err);
	ol_disk_close(&real);
	return remove(folder);
}

static struct ol_account_key address(uint8_t who)
{
	struct ol_account_key key;
	uint8_t id[20];
	memset(id, who, sizeof id);
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, id, sizeof id);
	return key;
}

static struct ol_account_key fund(enum ol_account_kind kind)
{
	struct ol_account_key key;
	ol_account_key_init(&key, kind, OL_CURRENCY_CREDIT, 0, NULL, 0);
	return key;
}

static struct ol_bookkeeper_options options_with(const struct ol_disk *disk)
{
	return (struct ol_bookkeeper_options){.ledger = {.disk = *disk,
							 .clock = ol_clock_system,
							 .random = ol_random_system,
							 .limits = {1 << 12, 1 << 16, 1 << 12}}};
}

static struct ol_bookkeeper *open_with(const struct ol_bookkeeper_options *options)
{
	struct ol_bookkeeper *keeper;
	struct ol_error err;
	if (ol_bookkeeper_open(&keeper, NULL, options, &err) != OL_OK)
		fail_msg("%s", err.text);
	return keeper;
}

/* One transfer, with its one answer. */
static enum ol_status post(struct ol_bookkeeper *keeper, struct ol_transfer *transfer,
			   enum ol_when when, uint8_t *result, struct ol_error *err)
{
	struct ol_batch batch = {.postings = {.transfers = transfer, .transfer_count = 1},
				 .transfer_results = result};
	return ol_bookkeeper_post(keeper, &batch, when, err);
}

static void must_post(struct ol_bookkeeper *keeper, struct ol_transfer transfer, enum ol_when when)
{
	struct ol_error err = {0};
	uint8_t result = OL_POST_COUNT;
	OL_ASSERT(post(keeper, &transfer, when, &result, &err) == OL_OK);
	if (result != OL_POST_OK)
		printf("%s\n", ol_post_name((enum ol_post)result));
	OL_ASSERT(result == OL_POST_OK);
}

static void open_grants(struct ol_bookkeeper *keeper)
{
	const struct ol_account_op op = {.key = fund(OL_ACCOUNT_GRANTS),
					 .action = OL_ACCOUNT_OPEN,
					 .flags = OL_ACCOUNT_OVERDRAFT};
	uint8_t result;
	struct ol_batch batch = {.postings = {.accounts = &op, .account_count = 1},
				 .account_results = &result};
	struct ol_error err;
	assert_int_equal(ol_bookkeeper_post(keeper, &batch, OL_DURABLE, &err), OL_OK);
	assert_int_equal(result, OL_ACCOUNT_OK);
}

static void grant(struct ol_bookkeeper *keeper, uint8_t who, struct ol_amount amount)
{
	must_post(keeper,
		  (struct ol_transfer){.id = ol_bookkeeper_id(keeper),
				       .debit = fund(OL_ACCOUNT_GRANTS),
				       .credit = address(who),
				       .amount = amount,
				       .code = OL_CODE_GRANT,
				       .flags = OL_TRANSFER_OPENS},
		  OL_DURABLE);
}

/* --- crowds ------------------------------------------------------------------------ */

struct payer {
	struct ol_bookkeeper *keeper;
	uint8_t who;
	uint64_t spent;
	pthread_t thread;
};

/* Reserves 10, posts from 1 to 10 of it; or gives it back. */
static void *pay(void *context)
{
	struct payer *p = context;
	for (uint64_t i = 0; i < POSTS; i++) {
		struct ol_transfer hold = {.id = ol_bookkeeper_id(p->keeper),
					   .debit = address(p->who),
					   .credit = fund(OL_ACCOUNT_CLEARING),
					   .amount = {10},
					   .timeout_s = 600,
					   .code = OL_CODE_PRICE,
					   .flags = OL_TRANSFER_PENDING | OL_TRANSFER_OPENS};
		must_post(p->keeper, hold, OL_SOON);
		struct ol_transfer end = hold;
		end.id = ol_bookkeeper_id(p->keeper);
		end.pending_id = hold.id;
		end.timeout_s = 0;
		end.amount.nano = i % 11;
		end.flags = i % 11 == 0 ? OL_TRANSFER_VOID : OL_TRANSFER_POST;
		p->spent += end.amount.nano;
		must_post(p->keeper, end, OL_DURABLE);
	}
	return NULL;
}

struct sums {
	uint64_t digest_size;
	uint8_t digest[32];
	uint32_t pending;
};

static void take_sums(void *context, const struct ol_book *book)
{
	struct sums *sums = context;
	struct ol_error err;
	OL_ASSERT(ol_book_check(book, &err) == OL_OK);
	OL_ASSERT(ol_book_digest(book, sums->digest, &err) == OL_OK);
	sums->pending = ol_book_pending_count(book);
}

static void what_many_threads_post_is_all_there(void **state)
{
	struct ol_bookkeeper_options options = options_with(&real);
	options.snapshot_transfers = 100; /* several, while they post */
	struct ol_bookkeeper *keeper = open_with(&options);
	struct payer payers[THREADS];
	struct sums sums, again;
	struct ol_error err;
	uint64_t spent = 0;
	(void)state;
	open_grants(keeper);
	for (uint8_t i = 0; i < THREADS; i++) {
		payers[i] = (struct payer){.keeper = keeper, .who = (uint8_t)(i + 1)};
		grant(keeper, payers[i].who, ol_amount(1000));
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&payers[i].thread, NULL, pay, &payers[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(payers[i].thread, NULL);
	for (int i = 0; i < THREADS; i++) {
		struct ol_account account;
		const struct ol_account_key key = address(payers[i].who);
		bool found;
		assert_int_equal(ol_bookkeeper_account(keeper, &account, &found, &key, &err),
				 OL_OK);
		assert_true(found);
		assert_int_equal(ol_account_available(&account).nano, 1000 - payers[i].spent);
		spent += payers[i].spent;
	}
	struct ol_account clearing;
	const struct ol_account_key key = fund(OL_ACCOUNT_CLEARING);
	bool found;
	assert_int_equal(ol_bookkeeper_account(keeper, &clearing, &found, &key, &err), OL_OK);
	assert_int_equal(ol_account_available(&clearing).nano, spent);
	assert_int_equal(ol_bookkeeper_look(keeper, take_sums, &sums, &err), OL_OK);
	assert_int_equal(sums.pending, 0);
	ol_bookkeeper_close(keeper);

	struct ol_ledger_report report;
	assert_int_equal(ol_ledger_check(&real, &report, &options.ledger.limits, 1, true, &err),
			 OL_OK);
	assert_int_equal(report.snapshots, OL_SNAPSHOTS_KEPT);
	assert_int_equal(report.bad_snapshots, 0);
	keeper = open_with(&options); /* from the disk */
	assert_int_equal(ol_bookkeeper_look(keeper, take_sums, &again, &err), OL_OK);
	assert_memory_equal(sums.digest, again.digest, sizeof sums.digest);
	ol_bookkeeper_close(keeper);
}

static void a_refusal_is_one_callers_alone(void **state)
{
	const struct ol_bookkeeper_options options = options_with(&real);
	struct ol_bookkeeper *keeper = open_with(&options);
	struct ol_transfer transfer;
	struct ol_error err;
	uint8_t result;
	(void)state;
	open_grants(keeper);
	grant(keeper, 1, ol_amount(5));
	transfer = (struct ol_transfer){.id = ol_bookkeeper_id(keeper),
					.debit = address(1),
					.credit = address(2),
					.amount = {6},
					.code = OL_CODE_OTHER,
					.flags = OL_TRANSFER_OPENS};
	assert_int_equal(post(keeper, &transfer, OL_DURABLE, &result, &err), OL_OK);
	assert_int_equal(result, OL_POST_OVERDRAFT);
	transfer.amount.nano = 5;
	assert_int_equal(post(keeper, &transfer, OL_DURABLE, &result, &err), OL_OK);
	assert_int_equal(result, OL_POST_OK);
	assert_int_equal(post(keeper, &transfer, OL_DURABLE, &result, &err), OL_OK);
	assert_int_equal(result, OL_POST_EXISTS);
	ol_bookkeeper_close(keeper);
}

/* --- a disk that fails --------------------------------------------------------------- */

static bool broken;

static enum ol_status failing_sync(void *self, int file, struct ol_error *err)
{
	return broken ? ol_fail(err, OL_ERR_IO, "no space left in the test")
		      : real.sync(self, file, err);
}

static void a_broken_disk_stops_everything_in_words(void **state)
{
	struct ol_disk disk = real;
	disk.sync = failing_sync;
	const struct ol_bookkeeper_options options = options_with(&disk);
	struct ol_bookkeeper *keeper = open_with(&options);
	struct ol_error err = {0};
	struct ol_account account;
	struct ol_transfer transfer;
	const struct ol_account_key one = address(1);
	uint8_t result;
	bool found;
	(void)state;
	open_grants(keeper);
	grant(keeper, 1, ol_amount(100));
	transfer = (struct ol_transfer){.id = ol_bookkeeper_id(keeper),
					.debit = fund(OL_ACCOUNT_GRANTS),
					.credit = one,
					.amount = {7},
					.code = OL_CODE_GRANT};
	broken = true;
	assert_int_equal(post(keeper, &transfer, OL_DURABLE, &result, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "no space left in the test"));
	assert_int_equal(post(keeper, &transfer, OL_SOON, &result, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "start the node again"));
	assert_int_equal(ol_bookkeeper_account(keeper, &account, &found, &one, &err), OL_ERR_IO);
	ol_bookkeeper_close(keeper);
	broken = false;

	keeper = open_with(&options); /* what was acknowledged is there */
	assert_int_equal(ol_bookkeeper_account(keeper, &account, &found, &one, &err), OL_OK);
	assert_true(ol_account_available(&account).nano >= 100);
	assert_int_equal(post(keeper, &transfer, OL_DURABLE, &result, &err), OL_OK);
	assert_true(result == OL_POST_OK || result == OL_POST_EXISTS); /* never twice */
	assert_int_equal(ol_bookkeeper_account(keeper, &account, &found, &one, &err), OL_OK);
	assert_int_equal(ol_account_available(&account).nano, 107);
	ol_bookkeeper_close(keeper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_many_threads_post_is_all_there, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_refusal_is_one_callers_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broken_disk_stops_everything_in_words, set_up,
						tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
