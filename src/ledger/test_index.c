/* The index against a naive model of a random history: every answer after every catching up,
 * rebuilding to the same content, refusing what it does not belong to, and readers that fail. */
#include "ledger/test_history.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>

#include <cmocka.h>

struct world {
	struct test_folder folder;
	struct test_history history;
	struct ol_ledger_index *index;
	char path[128];
};

#define MUST(call)                                                                                 \
	do {                                                                                       \
		struct ol_error why = {0};                                                         \
		if ((call) != OL_OK)                                                               \
			fail_msg("%s: %s", #call, why.text);                                       \
	} while (0)

static struct world *new_world(uint64_t seed)
{
	struct world *w = calloc(1, sizeof *w);
	assert_non_null(w);
	test_folder_make(&w->folder);
	test_history_init(&w->history, seed);
	test_history_open(&w->history, &w->folder.disk);
	snprintf(w->path, sizeof w->path, "%s/%s", w->folder.path, OL_LEDGER_INDEX_FILE);
	MUST(ol_ledger_index_open(&w->index, w->path, &why));
	return w;
}

static void free_world(struct world *w)
{
	ol_ledger_index_close(w->index);
	test_history_release(&w->history);
	test_folder_drop(&w->folder);
	free(w);
}

static void catch_up(struct world *w)
{
	MUST(ol_ledger_index_catch_up(w->index, &w->folder.disk,
				      ol_ledger_durable(w->history.ledger), &why));
}

/* ---- Every answer against the model ---------------------------------------------- */

struct walk {
	const struct test_history *h;
	const struct ol_account_key *account;
	uint64_t expect, before; /* the next one; where a page ended */
	uint32_t seen;
	uint16_t kind;
	bool down;
};

static void same_event(const struct test_history *h, const struct ol_indexed_event *e)
{
	const struct test_event *model = &h->events[e->index];
	uint8_t id[OL_EVENT_ID_BYTES];
	ol_event_id(id, model->bytes, model->size);
	assert_true(e->index < h->event_count);
	assert_int_equal(e->size, model->size);
	assert_memory_equal(e->bytes, model->bytes, e->size);
	assert_memory_equal(e->id, id, sizeof id);
	assert_int_equal(e->kind, model->kind);
	assert_int_equal(e->sequence, model->sequence);
	assert_int_equal(e->timestamp_ms, model->timestamp_ms);
	assert_int_equal(e->transfer_count, model->transfer_count);
	assert_int_equal(e->first_transfer, model->first);
}

static void same_transfer(const struct test_history *h, const struct ol_indexed_transfer *t)
{
	assert_in_range(t->number, 1, h->transfer_count);
	const struct test_transfer *model = &h->transfers[t->number - 1];
	assert_memory_equal(&t->transfer, &model->t, sizeof t->transfer);
	assert_int_equal(t->sequence, model->sequence);
	assert_int_equal(t->timestamp_ms, model->timestamp_ms);
	assert_true(t->event_index == model->event_index);
}

static bool next_event(void *context, const struct ol_indexed_event *e)
{
	struct walk *w = context;
	while (w->kind != 0 && w->h->events[w->expect].kind != w->kind)
		w->expect--;
	assert_int_equal(e->index, w->expect);
	same_event(w->h, e);
	w->expect += w->down ? UINT64_MAX : 1;
	w->before = e->index;
	w->seen++;
	return true;
}

static void check_events(struct world *w)
{
	const struct test_history *h = &w->history;
	struct walk up = {.h = h};
	uint32_t of_kinds = 0;
	MUST(ol_ledger_index_events_from(w->index, 0, UINT32_MAX, next_event, &up, &why));
	assert_int_equal(up.seen, h->event_count);
	up = (struct walk){.h = h, .expect = h->event_count / 2};
	MUST(ol_ledger_index_events_from(w->index, h->event_count / 2, 5, next_event, &up, &why));
	assert_int_equal(up.seen, OL_MIN(5, h->event_count - h->event_count / 2));
	for (uint16_t kind = 0; kind < OL_EVENT_KINDS; kind++) {
		struct walk down = {.h = h,
				    .kind = kind,
				    .down = true,
				    .before = UINT64_MAX,
				    .expect = (uint64_t)h->event_count - 1};
		uint32_t seen;
		do { /* pages */
			seen = down.seen;
			MUST(ol_ledger_index_events(w->index, kind, down.before, 7, next_event,
						    &down, &why));
			assert_true(down.seen - seen <= 7);
		} while (down.seen > seen);
		if (kind > 0)
			of_kinds += down.seen;
		else
			assert_int_equal(down.seen, h->event_count);
	}
	assert_int_equal(of_kinds, h->event_count);
}

static bool next_of_account(void *context, const struct ol_indexed_transfer *t)
{
	struct walk *w = context;
	const struct ol_account_key *key = w->account;
	for (; w->expect > 0; w->expect--) {
		const struct ol_transfer *model = &w->h->transfers[w->expect - 1].t;
		if (memcmp(&model->debit, key, sizeof *key) == 0 ||
		    memcmp(&model->credit, key, sizeof *key) == 0)
			break;
	}
	assert_int_equal(t->number, w->expect);
	same_transfer(w->h, t);
	w->before = w->expect--;
	w->seen++;
	return true;
}

static void check_statements(struct world *w)
{
	const struct test_history *h = &w->history;
	uint64_t sides = 0;
	for (uint32_t i = 0; i < h->account_count; i++) {
		struct walk down = {.h = h,
				    .account = &h->accounts[i].key,
				    .before = UINT64_MAX,
				    .expect = h->transfer_count};
		uint32_t seen;
		do {
			seen = down.seen;
			MUST(ol_ledger_index_statement(w->index, down.account, down.before, 50,
						       next_of_account, &down, &why));
			assert_true(down.seen - seen <= 50);
		} while (down.seen > seen);
		assert_int_equal(down.seen, h->accounts[i].transfers);
		sides += down.seen;
	}
	assert_int_equal(sides, 2 * (uint64_t)h->transfer_count);
}

static bool next_of_event(void *context, const struct ol_indexed_transfer *t)
{
	struct walk *w = context;
	assert_int_equal(t->number, w->expect++);
	same_transfer(w->h, t);
	w->seen++;
	return true;
}

/* By id and by index, for some of them. */
static void check_single(struct world *w)
{
	struct test_history *h = &w->history;
	for (int i = 0; i < 20 && h->event_count > 0; i++) {
		const uint64_t at = test_below(h, h->event_count);
		const struct test_event *model = &h->events[at];
		struct walk up = {.h = h, .expect = model->first};
		struct ol_indexed_event e;
		struct ol_buf bytes;
		uint8_t id[OL_EVENT_ID_BYTES];
		ol_buf_init(&bytes, OL_EVENT_MAX);
		MUST(ol_ledger_index_event(w->index, &e, &bytes, at, &why));
		same_event(h, &e);
		assert_int_equal(e.index, at);
		ol_event_id(id, model->bytes, model->size);
		MUST(ol_ledger_index_event_by_id(w->index, &e, &bytes, id, &why));
		same_event(h, &e);
		assert_int_equal(e.index, at);
		ol_buf_release(&bytes);
		id[31] ^= 1;
		assert_int_equal(ol_ledger_index_event_by_id(w->index, &e, NULL, id, NULL),
				 OL_ERR_NOT_FOUND);
		MUST(ol_ledger_index_event_transfers(w->index, at, next_of_event, &up, &why));
		assert_int_equal(up.seen, model->transfer_count);
	}
	for (int i = 0; i < 20 && h->transfer_count > 0; i++) {
		struct ol_indexed_transfer t;
		struct ol_id id = h->transfers[test_below(h, h->transfer_count)].t.id;
		MUST(ol_ledger_index_transfer(w->index, &t, id, &why));
		assert_true(ol_id_equal(t.transfer.id, id));
		same_transfer(h, &t);
		id.low ^= 1;
		assert_int_equal(ol_ledger_index_transfer(w->index, &t, id, NULL),
				 OL_ERR_NOT_FOUND);
	}
	assert_int_equal(ol_ledger_index_event_transfers(w->index, h->event_count, next_of_event,
							 NULL, NULL),
			 OL_ERR_NOT_FOUND);
	assert_int_equal(ol_ledger_index_event(w->index, &(struct ol_indexed_event){0}, NULL,
					       h->event_count, NULL),
			 OL_ERR_NOT_FOUND);
}

static bool next_account(void *context, const struct ol_indexed_account *a)
{
	struct walk *w = context;
	const struct ol_indexed_account *model = &w->h->accounts[w->seen++];
	assert_memory_equal(a, model, sizeof *a);
	/* And as the book has it, which keeps its own sums. */
	const struct ol_account *book = ol_book_find(ol_ledger_book(w->h->ledger), &a->key);
	assert_non_null(book);
	assert_true(ol_total_equal(a->debits, book->debits_posted));
	assert_true(ol_total_equal(a->credits, book->credits_posted));
	assert_int_equal(a->flags, book->flags);
	assert_int_equal(a->opened_ms, book->opened_ms);
	return true;
}

static void check_sums(struct world *w)
{
	struct walk all = {.h = &w->history};
	struct ol_ledger_index_sums sums;
	MUST(ol_ledger_index_accounts(w->index, next_account, &all, &why));
	assert_int_equal(all.seen, w->history.account_count);
	MUST(ol_ledger_index_sums(w->index, &sums, &why));
	assert_int_equal(sums.events, w->history.event_count);
	assert_int_equal(sums.transfers, w->history.transfer_count);
	assert_int_equal(sums.accounts, w->history.account_count);
	for (int i = 0; i < OL_CURRENCY_COUNT; i++)
		assert_true(ol_total_equal(sums.debits[i], sums.credits[i]));
}

static void check_all(struct world *w)
{
	const struct ol_journal_mark *durable = ol_ledger_durable(w->history.ledger);
	struct ol_journal_mark mark;
	MUST(ol_ledger_index_position(w->index, &mark, &why));
	assert_memory_equal(&mark, durable, sizeof mark);
	check_events(w);
	check_statements(w);
	check_single(w);
	check_sums(w);
}

static void digest(uint8_t out[32], struct ol_ledger_index *index)
{
	MUST(ol_ledger_index_digest(index, out, NULL, &why));
}

static void digest_of_rebuilt(uint8_t out[32], struct world *w)
{
	char path[256];
	struct ol_ledger_index *again;
	snprintf(path, sizeof path, "%s/again.sqlite", w->folder.path);
	MUST(ol_ledger_index_rebuild(path, &w->folder.disk, ol_ledger_durable(w->history.ledger),
				     &why));
	MUST(ol_ledger_index_open(&again, path, &why));
	digest(out, again);
	ol_ledger_index_close(again);
}

static void an_index_follows_a_random_history(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct world *w = new_world(seed);
		uint8_t followed[32], rebuilt[32];
		test_begin(&w->history);
		test_commit(&w->history);
		for (int round = 0; round < 25; round++) {
			const uint64_t batches = test_below(&w->history, 8);
			for (uint64_t i = 0; i < batches; i++)
				test_batch(&w->history, 12);
			test_commit(&w->history);
			if (test_below(&w->history, 4) == 0)
				MUST(ol_ledger_seal(w->history.ledger, &why));
			if (test_below(&w->history, 6) == 0) { /* and opened again */
				ol_ledger_index_close(w->index);
				MUST(ol_ledger_index_open(&w->index, w->path, &why));
			}
			catch_up(w);
			check_all(w);
		}
		assert_true(w->history.retries > 5 && w->history.refused > 50);
		assert_true(w->history.transfer_count > 200 && w->history.event_count > 50);
		digest(followed, w->index);
		digest_of_rebuilt(rebuilt, w);
		assert_memory_equal(followed, rebuilt, sizeof followed);
		free_world(w);
	}
}

static void large_batches_take_several_transactions(void **state)
{
	struct world *w = new_world(77);
	uint8_t followed[32], rebuilt[32];
	(void)state;
	test_begin(&w->history);
	for (int i = 0; i < 6; i++)
		test_batch(&w->history, 8000);
	test_commit(&w->history);
	catch_up(w);
	assert_true(w->history.transfer_count > OL_LEDGER_INDEX_STEP_ROWS);
	check_all(w);
	digest(followed, w->index);
	digest_of_rebuilt(rebuilt, w);
	assert_memory_equal(followed, rebuilt, sizeof followed);
	free_world(w);
}

/* Thousands of accounts in one transaction: more than are kept in memory at once. */
static void many_accounts_in_one_record(void **state)
{
	static struct ol_account_op ops[OL_BATCH_ACCOUNTS_MAX];
	static struct ol_transfer transfers[4000];
	static uint8_t results[OL_BATCH_ACCOUNTS_MAX], posted[4000];
	const struct ol_account_key grants = test_account(0);
	struct world *w = new_world(5);
	struct ol_ledger_index_sums sums;
	struct ol_batch batch = {.account_results = results, .transfer_results = posted};
	uint8_t followed[32], rebuilt[32];
	(void)state;
	batch.postings = (struct ol_postings){ops, transfers, 90, 0};
	for (uint32_t i = 0; i < 90; i++)
		ops[i] = (struct ol_account_op){.key = test_account(i),
						.action = OL_ACCOUNT_OPEN,
						.flags = i == 0 ? OL_ACCOUNT_OVERDRAFT : 0};
	MUST(ol_ledger_post(w->history.ledger, &batch, &why));
	for (uint32_t i = 0; i < 3900; i++) {
		uint8_t id[20] = {1, (uint8_t)i, (uint8_t)(i >> 8)};
		transfers[i] = (struct ol_transfer){.id = ol_id_make(w->history.now_ms, id),
						    .debit = grants,
						    .amount = {i + 1},
						    .code = OL_CODE_GRANT,
						    .flags = OL_TRANSFER_OPENS};
		ol_account_key_init(&transfers[i].credit, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0,
				    id, sizeof id);
	}
	for (int round = 0; round < 3; round++) {
		batch.postings = (struct ol_postings){NULL, transfers, 0, 3900};
		for (uint32_t i = 0; i < 3900; i++)
			transfers[i].id.low ^= (uint64_t)round << 40;
		MUST(ol_ledger_post(w->history.ledger, &batch, &why));
		for (uint32_t i = 0; i < 3900; i++)
			assert_int_equal(posted[i], OL_POST_OK);
		test_commit(&w->history);
		catch_up(w);
	}
	MUST(ol_ledger_index_sums(w->index, &sums, &why));
	assert_int_equal(sums.accounts, 3990);
	assert_int_equal(sums.transfers, 3 * 3900);
	assert_int_equal(sums.debits[OL_CURRENCY_CREDIT].low, 3 * (3900 * 3901 / 2));
	assert_true(ol_total_equal(sums.debits[1], sums.credits[1]));
	digest(followed, w->index);
	digest_of_rebuilt(rebuilt, w);
	assert_memory_equal(followed, rebuilt, sizeof followed);
	free_world(w);
}

/* ---- What it refuses ------------------------------------------------------------ */

static void it_takes_nothing_beyond_the_mark(void **state)
{
	struct world *w = new_world(9);
	struct ol_journal_mark durable, mark;
	(void)state;
	test_begin(&w->history);
	test_commit(&w->history);
	for (int i = 0; i < 10; i++)
		test_batch(&w->history, 10);
	test_commit(&w->history);
	durable = *ol_ledger_durable(w->history.ledger);
	for (int i = 0; i < 10; i++)
		test_batch(&w->history, 10);
	test_commit(&w->history);
	MUST(ol_ledger_index_catch_up(w->index, &w->folder.disk, &durable, &why));
	MUST(ol_ledger_index_position(w->index, &mark, &why));
	assert_memory_equal(&mark, &durable, sizeof mark);
	/* Without a mark: all there is. */
	MUST(ol_ledger_index_catch_up(w->index, &w->folder.disk, NULL, &why));
	check_all(w);
	/* And then nothing. */
	MUST(ol_ledger_index_catch_up(w->index, &w->folder.disk, NULL, &why));
	check_all(w);
	/* The file is ahead of what this mark says. */
	assert_int_equal(ol_ledger_index_catch_up(w->index, &w->folder.disk, &durable, NULL),
			 OL_ERR_INPUT);
	check_all(w);
	free_world(w);
}

static void two_worlds(struct world *w[2], uint64_t seed0, uint64_t seed1)
{
	w[0] = new_world(seed0);
	w[1] = new_world(seed1);
	for (int i = 0; i < 2; i++) {
		test_begin(&w[i]->history);
		for (int b = 0; b < 8; b++)
			test_batch(&w[i]->history, 6);
		test_commit(&w[i]->history);
		catch_up(w[i]);
	}
}

static void it_refuses_another_journal(void **state)
{
	struct world *w[2];
	struct ol_error err = {0};
	uint8_t before[32], after[32];
	(void)state;
	two_worlds(w, 21, 22);
	digest(before, w[0]->index);
	assert_int_equal(ol_ledger_index_catch_up(w[0]->index, &w[1]->folder.disk,
						  ol_ledger_durable(w[1]->history.ledger), &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "made from another one"));
	assert_int_equal(ol_ledger_index_catch_up(w[0]->index, &w[1]->folder.disk, NULL, &err),
			 OL_ERR_INPUT);
	digest(after, w[0]->index);
	assert_memory_equal(before, after, sizeof before);
	free_world(w[0]);
	free_world(w[1]);
}

/* The same journal restored from an older copy, which then went on differently. */
static void it_refuses_another_history(void **state)
{
	struct world *w[2];
	struct ol_journal_mark until;
	struct ol_error err = {0};
	(void)state;
	two_worlds(w, 30, 30); /* the same seed: the same id, and the same records */
	assert_memory_equal(ol_ledger_durable(w[0]->history.ledger),
			    ol_ledger_durable(w[1]->history.ledger), sizeof until);
	MUST(ol_ledger_index_catch_up(w[0]->index, &w[1]->folder.disk, NULL, &why)); /* fits */
	w[1]->history.seed ^= 0x1234567;
	for (int i = 0; i < 2; i++) {
		for (int b = 0; b < 5; b++)
			test_batch(&w[i]->history, 6);
		test_commit(&w[i]->history);
	}
	until = *ol_ledger_durable(w[1]->history.ledger);
	catch_up(w[0]);
	assert_int_equal(ol_ledger_index_catch_up(w[0]->index, &w[1]->folder.disk, &until, &err),
			 OL_ERR_INPUT);
	/* A mark of one history with the journal of the other: found at the mark, nothing kept. */
	const struct ol_journal_mark *own = ol_ledger_durable(w[0]->history.ledger);
	if (own->sequence <= until.sequence) {
		struct ol_journal_mark before, after;
		MUST(ol_ledger_index_position(w[1]->index, &before, &why));
		assert_int_equal(
			ol_ledger_index_catch_up(w[1]->index, &w[1]->folder.disk, own, &err),
			OL_ERR_INPUT);
		MUST(ol_ledger_index_position(w[1]->index, &after, &why));
		assert_memory_equal(&before, &after, sizeof before);
	}
	free_world(w[0]);
	free_world(w[1]);
}

static void it_refuses_a_journal_that_lost_records(void **state)
{
	struct world *w = new_world(41);
	struct ol_journal_mark durable;
	struct ol_error err = {0};
	(void)state;
	test_begin(&w->history);
	test_commit(&w->history);
	catch_up(w);
	durable = *ol_ledger_durable(w->history.ledger);
	durable.sequence += 3;
	assert_int_equal(ol_ledger_index_catch_up(w->index, &w->folder.disk, &durable, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "ends before record"));
	free_world(w);
}

static void put_file(const char *path, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

static void it_refuses_other_files(void **state)
{
	static const struct {
		const char *sql;
		enum ol_status status;
		const char *word;
	} rows[] = {
		{"CREATE TABLE other(a)", OL_ERR_INPUT, "not the index"},
		{"PRAGMA application_id = 5; CREATE TABLE t(a)", OL_ERR_INPUT, "not the index"},
		{"PRAGMA application_id = 1330399576; PRAGMA user_version = 2; CREATE TABLE t(a)",
		 OL_ERR_UNSUPPORTED, "version 2"},
		{"PRAGMA application_id = 1330399576; PRAGMA user_version = 1; CREATE TABLE t(a)",
		 OL_ERR_IO, "no such table"},
	};
	struct test_folder folder;
	struct ol_ledger_index *index = NULL;
	char path[128];
	(void)state;
	test_folder_make(&folder);
	snprintf(path, sizeof path, "%s/x.sqlite", folder.path);
	assert_int_equal(ol_ledger_index_open_read_only(&index, path, NULL), OL_ERR_NOT_FOUND);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_error err = {0};
		sqlite3 *db;
		unlink(path);
		assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
		assert_int_equal(sqlite3_exec(db, rows[i].sql, NULL, NULL, NULL), SQLITE_OK);
		assert_int_equal(sqlite3_close(db), SQLITE_OK);
		assert_int_equal(ol_ledger_index_open(&index, path, &err), rows[i].status);
		assert_null(index);
		assert_non_null(strstr(err.text, rows[i].word));
	}
	put_file(path,
		 "this is no database at all, but long enough to be taken for one......"
		 "...................................................................",
		 120);
	assert_int_equal(ol_ledger_index_open(&index, path, NULL), OL_ERR_INPUT);
	test_folder_drop(&folder);
}

/* ---- A reader that fails anywhere ----------------------------------------------------- */

static int64_t fuel;
static struct ol_disk healthy;

static enum ol_status failing_read(void *self, int file, size_t *got_out, void *bytes, size_t size,
				   uint64_t offset, struct ol_error *err)
{
	if (fuel-- == 0)
		return ol_fail(err, OL_ERR_IO, "the disk does not read");
	return healthy.read(self, file, got_out, bytes, size, offset, err);
}

static void a_failing_disk_leaves_whole_transactions(void **state)
{
	struct world *w = new_world(55);
	struct ol_disk failing = w->folder.disk;
	uint8_t expected[32], got[32];
	int failures = 0;
	(void)state;
	healthy = w->folder.disk;
	failing.read = failing_read;
	test_begin(&w->history);
	for (int i = 0; i < 30; i++) {
		test_batch(&w->history, 2500);
		test_commit(&w->history);
	}
	digest_of_rebuilt(expected, w);
	for (int64_t at = 0;; at++) {
		struct ol_journal_mark mark;
		fuel = at;
		const enum ol_status s = ol_ledger_index_catch_up(
			w->index, &failing, ol_ledger_durable(w->history.ledger), NULL);
		MUST(ol_ledger_index_position(w->index, &mark, &why));
		if (s == OL_OK)
			break;
		assert_int_equal(s, OL_ERR_IO);
		failures++;
	}
	assert_true(failures >= 3);
	digest(got, w->index);
	assert_memory_equal(expected, got, sizeof got);
	check_all(w);
	free_world(w);
}

/* ---- Asking meanwhile ------------------------------------------------------------ */

struct crowd {
	struct world *w;
	bool done;
	uint64_t asked;
};

static bool whole(void *context, const struct ol_indexed_transfer *t)
{
	uint64_t *last = context;
	/* Newest first without holes on the grants' side is not given; the order is. */
	if (t->number >= *last)
		return *last = 0, false;
	*last = t->number;
	return true;
}

static void *ask_meanwhile(void *context)
{
	struct crowd *crowd = context;
	const struct ol_account_key grants = test_account(0);
	do {
		struct ol_journal_mark mark;
		struct ol_ledger_index_sums sums;
		uint64_t last = UINT64_MAX;
		OL_ASSERT(ol_ledger_index_statement(crowd->w->index, &grants, UINT64_MAX, 100,
						    whole, &last, NULL) == OL_OK);
		OL_ASSERT(last != 0);
		OL_ASSERT(ol_ledger_index_position(crowd->w->index, &mark, NULL) == OL_OK);
		OL_ASSERT(ol_ledger_index_sums(crowd->w->index, &sums, NULL) == OL_OK);
		OL_ASSERT(ol_total_equal(sums.debits[1], sums.credits[1]));
		crowd->asked++;
	} while (!__atomic_load_n(&crowd->done, __ATOMIC_ACQUIRE));
	return NULL;
}

static void others_ask_while_it_catches_up(void **state)
{
	struct world *w = new_world(66);
	struct crowd crowd = {.w = w};
	struct ol_ledger_index *beside;
	pthread_t thread;
	(void)state;
	test_begin(&w->history);
	test_commit(&w->history);
	catch_up(w);
	assert_int_equal(pthread_create(&thread, NULL, ask_meanwhile, &crowd), 0);
	for (int i = 0; i < 20; i++) {
		test_batch(&w->history, 400);
		test_commit(&w->history);
		catch_up(w);
	}
	__atomic_store_n(&crowd.done, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_true(crowd.asked > 0);
	/* And another process, which only reads. */
	uint8_t ours[32], theirs[32];
	MUST(ol_ledger_index_open_read_only(&beside, w->path, &why));
	digest(ours, w->index);
	digest(theirs, beside);
	assert_memory_equal(ours, theirs, sizeof ours);
	ol_ledger_index_close(beside);
	check_all(w);
	free_world(w);
}

static void *catch_up_too(void *context)
{
	struct crowd *crowd = context;
	do {
		const enum ol_status s = ol_ledger_index_catch_up(
			crowd->w->index, &crowd->w->folder.disk, NULL, NULL);
		OL_ASSERT(s == OL_OK);
		crowd->asked++;
	} while (!__atomic_load_n(&crowd->done, __ATOMIC_ACQUIRE));
	return NULL;
}

/* Nothing is taken twice by two that catch up at once. */
static void two_may_catch_up_at_once(void **state)
{
	struct world *w = new_world(67);
	struct crowd crowd[2] = {{.w = w}, {.w = w}};
	pthread_t threads[2];
	(void)state;
	test_begin(&w->history);
	test_commit(&w->history);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, catch_up_too, &crowd[i]), 0);
	for (int i = 0; i < 20; i++) {
		test_batch(&w->history, 200);
		test_commit(&w->history);
	}
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&crowd[i].done, true, __ATOMIC_RELEASE);
		pthread_join(threads[i], NULL);
		assert_true(crowd[i].asked > 0);
	}
	MUST(ol_ledger_index_catch_up(w->index, &w->folder.disk, NULL, &why));
	check_all(w);
	free_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_index_follows_a_random_history),
		cmocka_unit_test(large_batches_take_several_transactions),
		cmocka_unit_test(many_accounts_in_one_record),
		cmocka_unit_test(it_takes_nothing_beyond_the_mark),
		cmocka_unit_test(it_refuses_another_journal),
		cmocka_unit_test(it_refuses_another_history),
		cmocka_unit_test(it_refuses_a_journal_that_lost_records),
		cmocka_unit_test(it_refuses_other_files),
		cmocka_unit_test(a_failing_disk_leaves_whole_transactions),
		cmocka_unit_test(others_ask_while_it_catches_up),
		cmocka_unit_test(two_may_catch_up_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
