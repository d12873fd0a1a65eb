/* A ledger audited: what is right is found right, every kind of damage in its own row, and what
 * follows from the journal is made again. */
#define _GNU_SOURCE
#include "ledger/receipt.h"
#include "node/epoch.h"
#include "node/ledger_audit.h"
#include "node/test_books.h"

#include <pthread.h>
#include <sqlite3.h>
#include <time.h>

static const struct ol_book_limits limits = {1 << 12, 1 << 16, 1 << 12};

/* ---- An answer that is paid ------------------------------------------------------------ */

enum lie {
	NO_LIE,
	ANOTHER_AMOUNT,
	ANOTHER_ACCOUNT,
	ANOTHER_PRICE,
	A_PART_UNPAID,
	A_TRANSFER_TOO_MUCH,
	ANOTHER_RESERVATION,
	NO_USER_DATA,
	NOT_PAID_AT_ALL,
	ANOTHER_SIGNATURE,
	ANOTHER_NODE,
	LIES
};

static const char *const lie_found[] = {
	[ANOTHER_AMOUNT] = "a part was not paid as it says",
	[ANOTHER_ACCOUNT] = "a part was not paid as it says",
	[ANOTHER_PRICE] = "its price was not paid as it says",
	[A_PART_UNPAID] = "not all of its parts were paid",
	[A_TRANSFER_TOO_MUCH] = "one of its transfers is none of its parts",
	[ANOTHER_RESERVATION] = "its price was not paid as it says",
	[NO_USER_DATA] = "one of its transfers is another event's",
	[NOT_PAID_AT_ALL] = "not all of its parts were paid",
	[ANOTHER_SIGNATURE] = "its signature is not the node's",
	[ANOTHER_NODE] = "it is signed by a key that was never this log's",
};

struct sale {
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_transfer transfers[OL_PARTIES + 2];
	uint32_t count;
};

static struct ol_account_key clearing(void)
{
	struct ol_account_key key;
	ol_account_key_init(&key, OL_ACCOUNT_CLEARING, OL_CURRENCY_CREDIT, 0, NULL, 0);
	return key;
}

static void post_all(struct world *w, struct ol_transfer *transfers, uint32_t count,
		     const struct ol_event *event)
{
	uint8_t posted[OL_PARTIES + 2];
	uint64_t index;
	struct ol_batch batch = {.postings = {.transfers = transfers, .transfer_count = count},
				 .events = event,
				 .event_count = event != NULL,
				 .transfer_results = posted,
				 .event_indexes = &index};
	MUST(ol_bookkeeper_post(w->books.keeper, &batch, OL_DURABLE, &why));
	for (uint32_t i = 0; i < count; i++)
		assert_string_equal(ol_post_name((enum ol_post)posted[i]), "ok");
	w->events += event != NULL;
}

static struct ol_id reserve(struct world *w, uint8_t payer, struct ol_amount amount)
{
	struct ol_transfer t = {.id = ol_bookkeeper_id(w->books.keeper),
				.debit = somebody(payer),
				.credit = clearing(),
				.amount = amount,
				.timeout_s = 60,
				.code = OL_CODE_PRICE,
				.flags = OL_TRANSFER_PENDING | OL_TRANSFER_OPENS};
	post_all(w, &t, 1, NULL);
	return t.id;
}

static void fill_receipt(struct world *w, struct sale *sale, struct ol_id reservation)
{
	struct ol_listing listing = {.prompt_price = {1500},
				     .completion_price = {6001},
				     .ppm = {100000, 200000, 400000, 50000, 50000, 150000, 50000}};
	const uint64_t now = ol_bookkeeper_now_ms(w->books.keeper);
	for (uint8_t party = 0; party < OL_PARTIES; party++)
		if (party != OL_PARTY_DATA) {
			listing.accounts[party] = somebody((uint8_t)(100 + party));
			listing.accounts[party].currency = OL_CURRENCY_OPEN;
		}
	sale->receipt = (struct ol_receipt){.arithmetic = "0-draft",
					    .prompts = 1,
					    .sampling = {.temperature = 0.7f,
							 .top_p = 0.9f,
							 .repeat_penalty = 1,
							 .max_tokens = 100,
							 .room = 512,
							 .choices = 1},
					    .prompt_tokens = 17,
					    .completion_tokens = 33,
					    .reservation = reservation,
					    .epoch = ol_receipt_epoch(now),
					    .currency = OL_CURRENCY_CREDIT};
	ol_event_begin(&sale->receipt.head, OL_EVENT_RECEIPT, now);
	memcpy(sale->receipt.node, w->books.log_key.public_key, sizeof sale->receipt.node);
	memset(sale->receipt.adapter, 9, sizeof sale->receipt.adapter);
	assert_true(ol_price(&sale->receipt.price, &listing, 17, 33));
	ol_receipt_parts(&sale->receipt, sale->parts, &listing, false);
	ol_receipt_split(&sale->receipt, sale->parts);
}

static void fill_transfers(struct world *w, struct sale *sale, uint8_t payer)
{
	const struct ol_receipt *r = &sale->receipt;
	sale->transfers[sale->count++] =
		(struct ol_transfer){.id = ol_bookkeeper_id(w->books.keeper),
				     .debit = somebody(payer),
				     .credit = clearing(),
				     .pending_id = r->reservation,
				     .amount = r->price,
				     .code = OL_CODE_PRICE,
				     .flags = OL_TRANSFER_POST};
	for (uint32_t i = 0; i < r->parts; i++) {
		sale->parts[i].transfer = ol_bookkeeper_id(w->books.keeper);
		sale->transfers[sale->count++] =
			(struct ol_transfer){.id = sale->parts[i].transfer,
					     .debit = clearing(),
					     .credit = sale->parts[i].account,
					     .amount = sale->parts[i].amount,
					     .code = OL_CODE_OTHER,
					     .flags = OL_TRANSFER_OPENS};
	}
}

static void sell(struct world *w, enum lie lie)
{
	struct sale sale = {.count = 0};
	uint8_t signature[OL_SIGNATURE_BYTES], id[OL_EVENT_ID_BYTES];
	struct ol_buf bytes;
	const uint8_t payer = 1;
	const struct ol_id reservation = reserve(w, payer, ol_amount(400));
	fill_receipt(w, &sale, reservation);
	fill_transfers(w, &sale, payer);
	ol_buf_init(&bytes, OL_RECEIPT_MAX);
	if (lie == ANOTHER_RESERVATION)
		sale.receipt.reservation.low ^= 1;
	if (lie == ANOTHER_NODE) {
		struct ol_ed25519_key stranger;
		ol_ed25519_key_from_seed(&stranger, (const uint8_t[32]){5});
		memcpy(sale.receipt.node, stranger.public_key, sizeof sale.receipt.node);
		ol_receipt_write(&bytes, &sale.receipt, sale.parts);
		ol_ed25519_sign(signature, &stranger, bytes.data, bytes.size);
	} else {
		ol_receipt_write(&bytes, &sale.receipt, sale.parts);
		MUST(ol_books_sign(&w->books, signature, bytes.data, bytes.size, &why));
	}
	signature[40] ^= lie == ANOTHER_SIGNATURE;
	assert_true(ol_buf_append(&bytes, signature, sizeof signature));
	struct ol_event event = {.bytes = (const uint8_t *)bytes.data,
				 .size = (uint32_t)bytes.size,
				 .kind = OL_EVENT_RECEIPT};
	ol_event_id(id, event.bytes, event.size);
	if (lie == ANOTHER_AMOUNT)
		sale.transfers[2].amount.nano--;
	if (lie == ANOTHER_ACCOUNT)
		sale.transfers[2].credit = somebody(77);
	if (lie == ANOTHER_PRICE)
		sale.transfers[0].amount.nano++;
	if (lie == A_PART_UNPAID)
		sale.count--;
	if (lie == A_TRANSFER_TOO_MUCH)
		sale.transfers[sale.count++] =
			(struct ol_transfer){.id = ol_bookkeeper_id(w->books.keeper),
					     .debit = somebody(payer),
					     .credit = somebody(77),
					     .amount = {1},
					     .code = OL_CODE_OTHER,
					     .flags = OL_TRANSFER_OPENS};
	if (lie == NOT_PAID_AT_ALL)
		sale.count = 0;
	for (uint32_t i = 0; i < sale.count && lie != NO_USER_DATA; i++)
		memcpy(sale.transfers[i].user_data, id, sizeof sale.transfers[i].user_data);
	for (uint32_t i = 0; i + 1 < sale.count; i++)
		sale.transfers[i].flags |= OL_TRANSFER_LINKED;
	event.transfer_count = sale.count;
	post_all(w, sale.transfers, sale.count, &event);
	ol_buf_release(&bytes);
}

/* ---- Looking ------------------------------------------------------------ */

static void audit(struct ol_ledger_audit *a, struct world *w)
{
	MUST(ol_ledger_audit(a, &w->paths, &limits, &why));
}

static void expect_all_ok(struct world *w)
{
	struct ol_ledger_audit a;
	audit(&a, w);
	for (int i = 0; i < OL_AUDIT_ROWS; i++)
		if (a.rows[i].outcome != OL_AUDIT_OK)
			fail_msg("%s: %s", ol_audit_row_name((enum ol_audit_row)i), a.rows[i].text);
	assert_true(ol_ledger_audit_holds(&a));
}

/* Exactly this row is not ok, and says so. */
static void expect_one(struct world *w, enum ol_audit_row row, const char *words)
{
	struct ol_ledger_audit a;
	audit(&a, w);
	assert_false(ol_ledger_audit_holds(&a));
	for (int i = 0; i < OL_AUDIT_ROWS; i++)
		if ((a.rows[i].outcome == OL_AUDIT_OK) == (i == (int)row))
			fail_msg("%s: %s", ol_audit_row_name((enum ol_audit_row)i), a.rows[i].text);
	if (!strstr(a.rows[row].text, words))
		fail_msg("\"%s\" instead of \"%s\"", a.rows[row].text, words);
}

static struct world *sold(int sales)
{
	struct world *w = new_world("example.com/node");
	open_books(w);
	for (uint8_t i = 0; i < 20; i++)
		grant(w, (uint8_t)(1 + i % 2));
	for (int i = 0; i < sales; i++)
		sell(w, NO_LIE);
	return w;
}

static void what_is_right_is_found_right(void **state)
{
	struct world *w = sold(10);
	struct ol_ledger_audit a;
	(void)state;
	MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
	expect_all_ok(w); /* beside the running node */
	ol_books_close(&w->books);
	expect_all_ok(w);
	audit(&a, w);
	assert_int_equal(a.receipts, 10);
	assert_int_equal(a.published, 30);
	assert_int_equal(a.report.events, 30);
	assert_non_null(strstr(a.rows[OL_AUDIT_INDEX].text, "behind: 0 and 0"));
	free_world(w);
}

static void there_must_be_a_ledger(void **state)
{
	struct world *w = new_world(NULL);
	struct ol_ledger_audit a;
	struct ol_ledger_rebuilt rebuilt;
	(void)state;
	assert_int_equal(ol_ledger_audit(&a, &w->paths, &limits, NULL), OL_ERR_NOT_FOUND);
	assert_int_equal(ol_ledger_rebuild(&rebuilt, &w->paths, &limits, NULL), OL_ERR_NOT_FOUND);
	assert_int_equal(mkdir(w->paths.folder, 0700), 0);
	assert_int_equal(ol_ledger_audit(&a, &w->paths, &limits, NULL), OL_ERR_NOT_FOUND);
	assert_int_equal(ol_ledger_rebuild(&rebuilt, &w->paths, &limits, NULL), OL_ERR_NOT_FOUND);
	assert_int_equal(rmdir(w->paths.folder), 0); /* nothing was made */
	free_world(w);
}

static void a_receipt_that_was_not_paid_as_it_says_is_found(void **state)
{
	(void)state;
	for (enum lie lie = ANOTHER_AMOUNT; lie < LIES; lie++) {
		struct world *w = sold(2);
		char words[128];
		snprintf(words, sizeof words, "the receipt of event %d: %s", (int)w->events,
			 lie_found[lie]);
		sell(w, lie);
		sell(w, NO_LIE);
		MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
		expect_one(w, OL_AUDIT_RECEIPTS, words);
		free_world(w);
	}
}

/* ---- Epochs ------------------------------------------------------------ */

enum epoch_lie {
	HONEST_CLOSE,
	ANOTHER_PAYEE,
	PAID_TWICE,
	ANOTHER_TABLE,
	OTHER_ANSWERS,
	FROM_THE_FUTURE,
	EPOCH_LIES
};

static const char *const epoch_lie_found[] = {
	[ANOTHER_PAYEE] = "not paid out by the scores", [PAID_TWICE] = "not paid out by the scores",
	[ANOTHER_TABLE] = "another share table",        [OTHER_ANSWERS] = "other numbers",
	[FROM_THE_FUTURE] = "leaves behind its own",
};

/* The pot of the receipts of sell, which have no tables, so that all of it is the Datanet's. */
static void close_by_hand(struct world *w, enum epoch_lie lie)
{
	const uint64_t now = ol_bookkeeper_now_ms(w->books.keeper);
	struct ol_receipt receipt = {.epoch = ol_receipt_epoch(now),
				     .currency = OL_CURRENCY_CREDIT};
	struct ol_epoch_event close = {.epoch = receipt.epoch,
				       .currency = OL_CURRENCY_CREDIT,
				       .payees = 1,
				       .amount = {10},
				       .log_size = w->events};
	struct ol_event event = {.bytes = (const uint8_t *)&close,
				 .size = sizeof close,
				 .kind = OL_EVENT_EPOCH_CLOSE};
	struct ol_transfer t[2] = {
		{.amount = {10}, .code = OL_CODE_CONTRIBUTOR, .flags = OL_TRANSFER_OPENS}};
	memset(receipt.adapter, 9, sizeof receipt.adapter);
	ol_receipt_pot(&t[0].debit, &receipt);
	ol_account_key_init(&t[0].credit, OL_ACCOUNT_DATANET, OL_CURRENCY_CREDIT, 0,
			    receipt.adapter, 32);
	memcpy(close.model, t[0].debit.id, sizeof close.model);
	ol_event_begin(&close.head, OL_EVENT_EPOCH_CLOSE, now);
	if (lie == ANOTHER_PAYEE)
		t[0].credit = somebody(77);
	t[1] = t[0];
	t[0].id = ol_bookkeeper_id(w->books.keeper);
	t[1].id = ol_bookkeeper_id(w->books.keeper);
	close.shares[0] = lie == ANOTHER_TABLE;
	close.answers = lie == OTHER_ANSWERS;
	close.log_size += lie == FROM_THE_FUTURE ? 1 : 0;
	event.transfer_count = lie == PAID_TWICE ? 2 : 1;
	post_all(w, t, event.transfer_count, &event);
}

static void an_epoch_that_the_node_closed_is_right(void **state)
{
	struct world *w = sold(3);
	struct ol_ledger_audit a;
	struct ol_home home;
	(void)state;
	snprintf(home.path, sizeof home.path, "%s", w->paths.folder);
	*strrchr(home.path, '/') = '\0';
	for (int i = 0; i < 2; i++) { /* early: what comes later fills the pot again */
		MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
		MUST(ol_epoch_close_all(&w->books, &home, true, NULL, NULL, &why));
		sell(w, NO_LIE);
	}
	MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
	expect_all_ok(w);
	audit(&a, w);
	assert_in_range(a.epochs, 2, 3); /* 3: the hour changed */
	assert_int_equal(a.epochs_unknown, 0);
	free_world(w);
}

static void an_epoch_that_was_not_paid_by_the_scores_is_found(void **state)
{
	(void)state;
	for (enum epoch_lie lie = HONEST_CLOSE; lie < EPOCH_LIES; lie++) {
		struct world *w = sold(3);
		close_by_hand(w, lie);
		sell(w, NO_LIE);
		MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
		if (lie == HONEST_CLOSE)
			expect_all_ok(w);
		else
			expect_one(w, OL_AUDIT_RECEIPTS, epoch_lie_found[lie]);
		free_world(w);
	}
}

/* ---- Damage ------------------------------------------------------------ */

static void flip(const char *folder, const char *name, long offset)
{
	char path[OL_PATH_MAX];
	MUST(ol_path_join(path, &why, folder, "/", name));
	FILE *file = fopen(path, "r+b");
	assert_non_null(file);
	assert_int_equal(fseek(file, offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
	const int byte = fgetc(file);
	assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
	assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
	assert_int_equal(fclose(file), 0);
}

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_changes(db) > 0, 1);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void rebuild(struct world *w)
{
	struct ol_ledger_rebuilt rebuilt;
	MUST(ol_ledger_rebuild(&rebuilt, &w->paths, &limits, &why));
	assert_true(rebuilt.published.published);
	assert_int_equal(rebuilt.published.size, w->events);
}

static void a_damaged_index_is_found_and_made_again(void **state)
{
	static const char *const rows[] = {
		"UPDATE transfers SET amount = amount + 1 WHERE number = 5",
		"UPDATE transfers SET event_index = NULL WHERE number = 3",
		"UPDATE events SET kind = 2 WHERE event_index = 4",
		"UPDATE events SET bytes = x'00' WHERE event_index = 4",
		"UPDATE accounts SET flags = 2 WHERE number = 2",
		"DELETE FROM transfers WHERE number = 7",
		"INSERT INTO meta VALUES('more', x'00')",
	};
	struct world *w = sold(5);
	(void)state;
	ol_books_close(&w->books);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		run_sql(w->paths.index, rows[i]);
		expect_one(w, OL_AUDIT_INDEX, "not what the journal gives");
		rebuild(w);
		expect_all_ok(w);
	}
	assert_int_equal(unlink(w->paths.index), 0);
	expect_one(w, OL_AUDIT_INDEX, "there is none");
	rebuild(w);
	expect_all_ok(w);
	flip(w->paths.folder, OL_LEDGER_INDEX_FILE, 3);
	expect_one(w, OL_AUDIT_INDEX, "damaged");
	rebuild(w);
	expect_all_ok(w);
	open_books(w);
	sell(w, NO_LIE);
	MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
	expect_all_ok(w);
	free_world(w);
}

static void a_damaged_public_log_is_found_and_made_again(void **state)
{
	static const char *const names[] = {"tile/0/000.p/25", "tile/entries/000.p/25"};
	struct world *w = sold(5);
	char path[OL_PATH_MAX];
	(void)state;
	ol_books_close(&w->books);
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		flip(w->paths.log, names[i], 40);
		expect_one(w, OL_AUDIT_LOG, names[i]);
		rebuild(w);
		expect_all_ok(w);
		MUST(ol_path_join(path, &why, w->paths.log, "/", names[i]));
		assert_int_equal(unlink(path), 0);
		expect_one(w, OL_AUDIT_LOG, names[i]);
		rebuild(w);
		expect_all_ok(w);
	}
	/* A checkpoint that the log's key did not sign. */
	flip(w->paths.log, OL_CHECKPOINT_NAME, 20);
	struct ol_ledger_rebuilt rebuilt;
	struct ol_ledger_audit a;
	audit(&a, w);
	assert_int_equal(a.rows[OL_AUDIT_LOG].outcome, OL_AUDIT_NOT_OK);
	assert_int_equal(ol_ledger_rebuild(&rebuilt, &w->paths, &limits, NULL), OL_ERR_INPUT);
	/* All of it gone: the node publishes it again, and may not sign anything else. */
	flip(w->paths.log, OL_CHECKPOINT_NAME, 20);
	test_folder_remove(w->paths.log);
	expect_one(w, OL_AUDIT_LOG, "is missing");
	open_books(w);
	MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
	expect_all_ok(w);
	free_world(w);
}

static void a_damaged_journal_is_the_end_of_it(void **state)
{
	struct world *w = sold(5);
	struct ol_ledger_audit a;
	(void)state;
	ol_books_close(&w->books);
	flip(w->paths.folder, "0000000000000000.journal", 9000);
	audit(&a, w);
	assert_int_equal(a.rows[OL_AUDIT_JOURNAL].outcome, OL_AUDIT_NOT_OK);
	for (int i = OL_AUDIT_BOOK; i < OL_AUDIT_ROWS; i++)
		assert_int_equal(a.rows[i].outcome, OL_AUDIT_NOT_MADE);
	assert_false(ol_ledger_audit_holds(&a));
	free_world(w);
}

/* ---- Beside a running node ------------------------------------------------------------ */

struct seller {
	struct world *w;
	bool done;
};

static void *sell_on(void *context)
{
	struct seller *seller = context;
	/* Bounded: the slower the machine, the more there is to audit. */
	for (int i = 0; i < 400 && !__atomic_load_n(&seller->done, __ATOMIC_ACQUIRE); i++) {
		grant(seller->w, 1);
		sell(seller->w, NO_LIE);
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	return NULL;
}

static void an_audit_runs_beside_the_node(void **state)
{
	struct world *w = sold(5);
	struct seller seller = {.w = w};
	struct ol_ledger_rebuilt rebuilt;
	pthread_t thread;
	(void)state;
	assert_int_equal(ol_ledger_rebuild(&rebuilt, &w->paths, &limits, NULL), OL_ERR_IO);
	assert_int_equal(pthread_create(&thread, NULL, sell_on, &seller), 0);
	for (int i = 0; i < 8; i++)
		expect_all_ok(w);
	__atomic_store_n(&seller.done, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
	expect_all_ok(w);
	free_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_right_is_found_right),
		cmocka_unit_test(there_must_be_a_ledger),
		cmocka_unit_test(a_receipt_that_was_not_paid_as_it_says_is_found),
		cmocka_unit_test(an_epoch_that_the_node_closed_is_right),
		cmocka_unit_test(an_epoch_that_was_not_paid_by_the_scores_is_found),
		cmocka_unit_test(a_damaged_index_is_found_and_made_again),
		cmocka_unit_test(a_damaged_public_log_is_found_and_made_again),
		cmocka_unit_test(a_damaged_journal_is_the_end_of_it),
		cmocka_unit_test(an_audit_runs_beside_the_node),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
