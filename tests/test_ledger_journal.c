/* A small journal, damaged in every way: each bit of it flipped, pieces cut off, files gone. What
 * was acknowledged is never silently changed: either the opening refuses with a sentence, or it
 * says how much it cut off behind the last whole record, and that is what a crash leaves. */
#include "tests/support_crash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GROUPS = 5, SEGMENT_BYTES = 12288 };

struct small {
	struct ol_sim_disk *sim;
	struct ol_world world;
	uint8_t digest[32];
	uint64_t sequence, position; /* of the last acknowledged batch, before the seal */
	uint64_t events;
};

static struct ol_ledger_options options_of(struct small *small, struct ol_sim_disk *sim)
{
	struct ol_ledger_options o = ol_crash_ledger(sim, &small->world);
	o.journal.segment_bytes = SEGMENT_BYTES;
	return o;
}

static void post_one(struct ol_ledger *ledger, struct small *small, uint8_t number)
{
	static const uint8_t text[] = "an event with some bytes in it";
	struct ol_account_op op = {.action = OL_ACCOUNT_OPEN, .flags = OL_ACCOUNT_OVERDRAFT};
	struct ol_transfer t = {
		.amount = {number}, .code = OL_CODE_GRANT, .flags = OL_TRANSFER_OPENS};
	const struct ol_event event = {text, sizeof text, 3, 0, 1};
	const uint8_t random[OL_ID_RANDOM_BYTES] = {number};
	uint8_t op_result, result;
	uint64_t index;
	struct ol_batch batch = {.postings = {&op, &t, 1, 1},
				 .events = &event,
				 .event_count = 1,
				 .account_results = &op_result,
				 .transfer_results = &result,
				 .event_indexes = &index};
	struct ol_error err;
	ol_account_key_init(&op.key, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
	ol_account_key_init(&t.credit, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, &number, 1);
	t.debit = op.key;
	small->world.now_ms += 1000;
	t.id = ol_id_make(small->world.now_ms, random);
	ol_must(ol_ledger_post(ledger, &batch, &err), &err);
	assert_int_equal(result, OL_POST_OK);
	assert_true(index == small->events++);
}

/* A few groups over two segments, sealed. */
static void make_small(struct small *small, bool seal)
{
	struct ol_error err;
	struct ol_ledger *ledger = NULL;
	memset(small, 0, sizeof *small);
	small->sim = ol_sim_disk_open(3);
	ol_world_init(&small->world, 3);
	const struct ol_ledger_options o = options_of(small, small->sim);
	ol_must(ol_ledger_open(&ledger, NULL, &o, &err), &err);
	for (uint8_t i = 0; i < GROUPS; i++) {
		post_one(ledger, small, (uint8_t)(2 * i + 1));
		if (i % 2)
			post_one(ledger, small, (uint8_t)(2 * i + 2));
		ol_must(ol_ledger_commit(ledger, &err), &err);
	}
	small->sequence = ol_ledger_durable(ledger)->sequence;
	small->position = ol_ledger_durable(ledger)->position;
	if (seal)
		ol_must(ol_ledger_seal(ledger, &err), &err);
	ol_must(ol_book_digest(ol_ledger_book(ledger), small->digest, &err), &err);
	ol_ledger_close(ledger);
	/* What is closed in peace is durable, and the copy has nothing else. */
	struct ol_sim_disk *copy = ol_sim_disk_copy(small->sim, 4);
	ol_sim_disk_close(small->sim);
	small->sim = copy;
}

/* 0: refused; else how many bytes were cut. The book that opened must be the one that was. */
static bool open_damaged(struct small *small, struct ol_sim_disk *sim, uint64_t *cut_out,
			 char text[OL_ERROR_TEXT_MAX])
{
	const struct ol_ledger_options o = options_of(small, sim);
	struct ol_ledger_opening opening;
	struct ol_ledger *ledger = NULL;
	struct ol_error err = {OL_OK, ""};
	const enum ol_status s = ol_ledger_open(&ledger, &opening, &o, &err);
	snprintf(text, OL_ERROR_TEXT_MAX, "%s", err.text);
	if (s != OL_OK) {
		assert_true(strlen(text) > 20);
		return false;
	}
	uint8_t digest[32];
	ol_must(ol_book_digest(ol_ledger_book(ledger), digest, &err), &err);
	assert_true(ol_ledger_durable(ledger)->sequence >= small->sequence);
	assert_memory_equal(digest, small->digest, sizeof digest);
	assert_true(ol_ledger_durable(ledger)->event_count == small->events);
	*cut_out = opening.cut;
	ol_ledger_close(ledger);
	return true;
}

static void test_every_bit(void **state)
{
	static struct small small;
	uint64_t flips = 0, refused = 0, cut_off = 0;
	char text[OL_ERROR_TEXT_MAX];
	const char *name;
	(void)state;
	make_small(&small, true);
	uint64_t cut = 0;
	assert_true(open_damaged(&small, small.sim, &cut, text) && cut == 0);
	for (int file = 0; (name = ol_sim_disk_name(small.sim, file)) != NULL; file++) {
		size_t size;
		if (!strstr(name, ".journal"))
			continue;
		const uint8_t *bytes = ol_sim_disk_bytes(small.sim, name, &size);
		uint8_t *copy = malloc(size);
		assert_non_null(copy);
		memcpy(copy, bytes, size);
		for (size_t bit = 0; bit < 8 * size; bit++) {
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__)
			/* All of them is for the builds that are quick. */
			if (bit % 5 != 0)
				continue;
#endif
			/* Where the file was never written, a bit of each byte has to do. */
			if (!ol_slow() && bit % 8 != bit / 8 % 8 && copy[bit / 8] == 0 &&
			    bit / 8 % 512 != 0)
				continue;
			copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
			struct ol_sim_disk *sim = ol_sim_disk_copy(small.sim, 5);
			ol_sim_disk_put(sim, name, copy, size);
			copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
			cut = 0;
			if (!open_damaged(&small, sim, &cut, text))
				refused++;
			else if (cut > 0)
				cut_off++;
			else
				fail_msg("%s, byte %zu, bit %zu: nobody noticed", name, bit / 8,
					 bit % 8);
			flips++;
			ol_sim_disk_close(sim);
		}
		free(copy);
	}
	print_message("%llu flips: %llu refused, %llu behind the last batch and cut off\n",
		      (unsigned long long)flips, (unsigned long long)refused,
		      (unsigned long long)cut_off);
	assert_true(refused > 0 && cut_off > 0);
	ol_sim_disk_close(small.sim);
}

/* The last name in order is the last segment. */
static void last_segment(struct ol_sim_disk *sim, char name_out[OL_DISK_NAME_MAX])
{
	const char *name;
	name_out[0] = '\0';
	for (int i = 0; (name = ol_sim_disk_name(sim, i)) != NULL; i++)
		if (strstr(name, ".journal") && strcmp(name, name_out) > 0)
			snprintf(name_out, OL_DISK_NAME_MAX, "%s", name);
}

/* A torn group is cut off; the same bytes with a later group behind them are damage, and the
 * sentence says where. */
static void test_torn_or_damaged(void **state)
{
	static struct small small;
	char name[OL_DISK_NAME_MAX], text[OL_ERROR_TEXT_MAX];
	uint64_t cut = 0;
	size_t size;
	(void)state;
	make_small(&small, true);
	last_segment(small.sim, name);
	uint8_t *bytes = ol_sim_disk_bytes(small.sim, name, &size);
	uint8_t *seal = NULL;
	for (size_t at = 4096; at < size; at += 4096)
		if (memcmp(bytes + at, "OLBATCH\n", 8) == 0)
			seal = bytes + at;
	assert_non_null(seal);
	/* The last batch, sealed, with a byte changed. */
	uint8_t *last = seal - 4096;
	last[200] ^= 1;
	assert_false(open_damaged(&small, small.sim, &cut, text));
	assert_non_null(strstr(text, "record 7 "));
	assert_non_null(strstr(text, name));
	assert_non_null(strstr(text, "at byte "));
	last[200] ^= 1;
	/* Its first sectors gone without a trace: the check finds it, too. */
	uint8_t lost[1024];
	memcpy(lost, last, sizeof lost);
	memset(last, 0, sizeof lost);
	const struct ol_ledger_options o = options_of(&small, small.sim);
	struct ol_ledger_report report;
	struct ol_error err;
	assert_false(open_damaged(&small, small.sim, &cut, text));
	assert_int_equal(ol_ledger_check(&o.disk, &report, &o.limits, 1, false, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "record 7 "));
	memcpy(last, lost, sizeof lost);
	/* The seal torn: nothing that was acknowledged is lost. */
	seal[40] ^= 1;
	assert_true(open_damaged(&small, small.sim, &cut, text));
	assert_true(cut >= 160 && cut <= 4096);
	ol_sim_disk_close(small.sim);
}

static void test_pieces_missing(void **state)
{
	static struct small small;
	char name[OL_DISK_NAME_MAX], text[OL_ERROR_TEXT_MAX];
	uint64_t cut = 0;
	size_t size;
	(void)state;
	make_small(&small, true);
	last_segment(small.sim, name);
	/* The last segment as an empty file, and shorter by a byte in its first record. */
	static const size_t sizes[] = {0, 1, 4095, 4096 + 100};
	for (size_t i = 0; i < OL_ARRAY_LEN(sizes); i++) {
		struct ol_sim_disk *sim = ol_sim_disk_copy(small.sim, 6);
		uint8_t *bytes = ol_sim_disk_bytes(sim, name, &size);
		uint8_t copy[4200];
		memcpy(copy, bytes, sizeof copy);
		ol_sim_disk_put(sim, name, copy, sizes[i]);
		struct ol_ledger *ledger = NULL;
		struct ol_error err;
		const struct ol_ledger_options o = options_of(&small, sim);
		const enum ol_status s = ol_ledger_open(&ledger, NULL, &o, &err);
		/* Cut at the end of what was written, a journal alone cannot know. A snapshot can,
		 * and so can the checkpoint of the public log. */
		assert_int_equal(s, sizes[i] < 4096 ? OL_ERR_INPUT : OL_OK);
		ol_ledger_close(ledger);
		ol_sim_disk_close(sim);
	}
	/* An earlier segment that is shorter, or gone. */
	struct ol_sim_disk *sim = ol_sim_disk_copy(small.sim, 6);
	const char *first = "0000000000000000.journal";
	assert_string_not_equal(first, name);
	const uint8_t *bytes = ol_sim_disk_bytes(sim, first, &size);
	uint8_t *copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, bytes, size);
	ol_sim_disk_put(sim, first, copy, size - 4096);
	assert_false(open_damaged(&small, sim, &cut, text));
	assert_non_null(strstr(text, "damaged"));
	const struct ol_disk disk = ol_sim_disk_table(sim);
	assert_int_equal(disk.remove(disk.self, first, NULL), OL_OK);
	assert_false(open_damaged(&small, sim, &cut, text));
	assert_non_null(strstr(text, "first segment"));
	free(copy);
	ol_sim_disk_close(sim);
	ol_sim_disk_close(small.sim);
}

/* A snapshot knows how far the journal reached: cutting it shorter is found. A snapshot with a bit
 * flipped is passed over for an older one, or for none, and the book is the same. */
static void test_snapshots(void **state)
{
	static struct small small;
	char name[OL_DISK_NAME_MAX], text[OL_ERROR_TEXT_MAX];
	struct ol_ledger *ledger = NULL;
	struct ol_ledger_opening opening;
	struct ol_error err;
	uint64_t cut = 0;
	size_t size;
	(void)state;
	make_small(&small, true);
	const struct ol_ledger_options o = options_of(&small, small.sim);
	ol_must(ol_ledger_open(&ledger, NULL, &o, &err), &err);
	ol_must(ol_ledger_snapshot(ledger, &err), &err);
	post_one(ledger, &small, 99);
	ol_must(ol_ledger_snapshot(ledger, &err), &err);
	small.sequence = ol_ledger_durable(ledger)->sequence;
	ol_must(ol_book_digest(ol_ledger_book(ledger), small.digest, &err), &err);
	ol_ledger_close(ledger);
	ol_must(ol_ledger_open(&ledger, &opening, &o, &err), &err);
	assert_true(opening.snapshot == small.sequence && opening.replayed == 0);
	ol_ledger_close(ledger);
	/* Every 37th bit of the newest. */
	char newest[OL_DISK_NAME_MAX];
	snprintf(newest, sizeof newest, "%016llx.snapshot", (unsigned long long)small.sequence);
	uint8_t *bytes = ol_sim_disk_bytes(small.sim, newest, &size);
	for (size_t bit = 0; bit < 8 * size; bit += 37) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (!open_damaged(&small, small.sim, &cut, text))
			fail_msg("byte %zu: %s", bit / 8, text);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	bytes[5000] ^= 1;
	ol_must(ol_ledger_open(&ledger, &opening, &o, &err), &err);
	assert_true(opening.bad_snapshots == 1 && opening.snapshot < small.sequence);
	ol_ledger_close(ledger);
	bytes[5000] ^= 1;
	/* The journal without its end. */
	last_segment(small.sim, name);
	bytes = ol_sim_disk_bytes(small.sim, name, &size);
	size_t end = 4096;
	for (size_t at = 4096; at < size; at += 4096)
		if (memcmp(bytes + at, "OLBATCH\n", 8) == 0)
			end = at;
	memset(bytes + end, 0, 4096);
	assert_false(open_damaged(&small, small.sim, &cut, text));
	assert_non_null(strstr(text, "which a snapshot covers"));
	ol_sim_disk_close(small.sim);
}

/* One process at a time; a check may run beside it. */
static void test_lock(void **state)
{
	static struct small small;
	struct ol_ledger *ledger = NULL, *other = NULL;
	struct ol_ledger_report report;
	struct ol_error err;
	(void)state;
	make_small(&small, true);
	const struct ol_ledger_options o = options_of(&small, small.sim);
	ol_must(ol_ledger_open(&ledger, NULL, &o, &err), &err);
	assert_int_equal(ol_ledger_open(&other, NULL, &o, &err), OL_ERR_IO);
	ol_must(ol_ledger_check(&o.disk, &report, &o.limits, 9, true, &err), &err);
	assert_true(report.end.sequence == ol_ledger_durable(ledger)->sequence);
	assert_true(report.records == 7 && report.transfers == 7 && report.events == 7);
	assert_true(report.accounts == 8);
	ol_ledger_close(ledger);
	ol_must(ol_ledger_open(&ledger, NULL, &o, &err), &err);
	ol_ledger_close(ledger);
	ol_sim_disk_close(small.sim);
}

/* What is over a limit, or would say too much, changes nothing. */
static void test_refused_batches(void **state)
{
	static struct small small;
	static uint8_t big[OL_EVENT_BYTES_MAX + 1];
	struct ol_ledger *ledger = NULL;
	struct ol_error err;
	uint64_t index;
	(void)state;
	make_small(&small, true);
	const struct ol_ledger_options o = options_of(&small, small.sim);
	ol_must(ol_ledger_open(&ledger, NULL, &o, &err), &err);
	const uint64_t before = ol_ledger_durable(ledger)->sequence;
	const struct {
		struct ol_event event;
		const char *says;
	} rows[] = {
		{{big, OL_EVENT_BYTES_MAX + 1, 1, 0, 0}, "over a limit"},
		{{big, 1, 0, 0, 0}, "has no kind"},
		{{big, 1, 1, 0, 1}, "names transfers"},
		{{big, 1, 1, 1, 0}, "names transfers"},
		{{big, 1, 1, UINT32_MAX, 2}, "names transfers"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_batch batch = {
			.events = &rows[i].event, .event_count = 1, .event_indexes = &index};
		assert_int_equal(ol_ledger_post(ledger, &batch, &err), OL_ERR_INPUT);
		assert_non_null(strstr(err.text, rows[i].says));
	}
	/* Nothing in it: nothing is written. */
	struct ol_batch nothing = {.event_count = 0};
	ol_must(ol_ledger_post(ledger, &nothing, &err), &err);
	assert_true(nothing.sequence == 0);
	/* The largest event fits, group by group. */
	const struct ol_event event = {big, 12000, 1, 0, 0};
	struct ol_batch batch = {.events = &event, .event_count = 1, .event_indexes = &index};
	for (int i = 0; i < 5; i++) {
		ol_must(ol_ledger_post(ledger, &batch, &err), &err);
		assert_true(batch.sequence == before + 1 + (uint64_t)i);
		assert_true(index == small.events++);
	}
	ol_must(ol_ledger_commit(ledger, &err), &err);
	assert_false(ol_ledger_stopped(ledger));
	ol_ledger_close(ledger);
	struct ol_ledger_report report;
	ol_must(ol_ledger_check(&o.disk, &report, &o.limits, 9, true, &err), &err);
	assert_true(report.events == small.events);
	ol_sim_disk_close(small.sim);
}

/* As much of everything as a batch may hold, twice; the second time all of it is a retry. */
static void test_largest_batch(void **state)
{
	enum { EVENTS = OL_BATCH_EVENT_BYTES_MAX / OL_EVENT_BYTES_MAX };
	static struct ol_account_op ops[OL_BATCH_ACCOUNTS_MAX];
	static struct ol_transfer transfers[OL_BATCH_TRANSFERS_MAX];
	static uint8_t op_results[OL_BATCH_ACCOUNTS_MAX], results[OL_BATCH_TRANSFERS_MAX];
	static uint8_t bytes[OL_EVENT_BYTES_MAX];
	static struct ol_world world;
	struct ol_event events[EVENTS];
	uint64_t indexes[EVENTS];
	struct ol_error err;
	struct ol_ledger *ledger = NULL;
	struct ol_ledger_report report;
	struct ol_sim_disk *sim = ol_sim_disk_open(8);
	(void)state;
	ol_world_init(&world, 8);
	struct ol_ledger_options o = ol_crash_ledger(sim, &world);
	o.limits = (struct ol_book_limits){20000, 20000, 9000};
	o.journal = (struct ol_journal_options){0};
	for (uint32_t i = 0; i < OL_BATCH_ACCOUNTS_MAX; i++) {
		ops[i] = (struct ol_account_op){.action = OL_ACCOUNT_OPEN,
						.flags = OL_ACCOUNT_OVERDRAFT};
		ol_account_key_init(&ops[i].key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_OPEN, 0, &i,
				    sizeof i);
	}
	for (uint32_t i = 0; i < OL_BATCH_TRANSFERS_MAX; i++) {
		const uint8_t random[OL_ID_RANDOM_BYTES] = {(uint8_t)i, (uint8_t)(i >> 8)};
		transfers[i] = (struct ol_transfer){.id = ol_id_make(world.now_ms, random),
						    .debit = ops[i].key,
						    .credit = ops[i ? i - 1 : 1].key,
						    .amount = {1 + i},
						    .code = OL_CODE_OTHER};
	}
	for (uint32_t i = 0; i < EVENTS; i++)
		events[i] = (struct ol_event){bytes, sizeof bytes, 1, i, 100};
	ol_must(ol_ledger_open(&ledger, NULL, &o, &err), &err);
	for (int turn = 0; turn < 2; turn++) {
		struct ol_batch batch = {
			.postings = {ops, transfers, OL_BATCH_ACCOUNTS_MAX, OL_BATCH_TRANSFERS_MAX},
			.events = events,
			.event_count = EVENTS,
			.account_results = op_results,
			.transfer_results = results,
			.event_indexes = indexes};
		ol_must(ol_ledger_post(ledger, &batch, &err), &err);
		assert_int_equal(results[8189], turn ? OL_POST_EXISTS : OL_POST_OK);
		assert_true(indexes[EVENTS - 1] ==
			    (turn ? OL_EVENT_NOT_LOGGED : (uint64_t)EVENTS - 1));
		assert_true(batch.sequence == (turn ? 0 : 1));
		ol_must(ol_ledger_commit(ledger, &err), &err);
	}
	ol_ledger_close(ledger);
	ol_must(ol_ledger_check(&o.disk, &report, &o.limits, 1, true, &err), &err);
	assert_true(report.transfers == OL_BATCH_TRANSFERS_MAX && report.events == EVENTS);
	ol_sim_disk_close(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_bit),      cmocka_unit_test(test_torn_or_damaged),
		cmocka_unit_test(test_pieces_missing), cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_lock),           cmocka_unit_test(test_refused_batches),
		cmocka_unit_test(test_largest_batch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
