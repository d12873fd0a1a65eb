/* ledger/test_history.h, floor 2: for tests: a seeded random history posted through the ledger, and
 * a naive model of what an index of it must hold. */
#ifndef OL_LEDGER_TEST_HISTORY_H
#define OL_LEDGER_TEST_HISTORY_H

#include "ledger/index.h"
#include "ledger/ledger.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- A folder of its own ---- */

struct test_folder {
	char path[64];
	struct ol_disk disk; /* without syncs: no power fails here */
	struct ol_disk real;
};

static enum ol_status test_no_sync(void *self, int file, struct ol_error *err)
{
	(void)self, (void)file, (void)err;
	return OL_OK;
}

static inline void test_folder_make(struct test_folder *folder)
{
	/* In memory if there is such a place: SQLite syncs at every turn. */
	snprintf(folder->path, sizeof folder->path, "/dev/shm/openledger-test-XXXXXX");
	if (!mkdtemp(folder->path)) {
		snprintf(folder->path, sizeof folder->path, "/tmp/openledger-test-XXXXXX");
		OL_ASSERT(mkdtemp(folder->path));
	}
	OL_ASSERT(ol_disk_open(&folder->real, folder->path, NULL) == OL_OK);
	folder->disk = folder->real;
	folder->disk.sync = test_no_sync;
}

static inline void test_remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
		char name[512];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		const int length = snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		OL_ASSERT(length < (int)sizeof name);
		if (unlink(name) != 0)
			test_remove_tree(name);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

static inline void test_folder_drop(struct test_folder *folder)
{
	ol_disk_close(&folder->real);
	test_remove_tree(folder->path);
}

/* ---- The history ---- */

enum { TEST_ACCOUNTS = 14, TEST_ACCOUNTS_MAX = 512 };

struct test_transfer {
	struct ol_transfer t;
	uint64_t sequence, timestamp_ms, event_index;
};
struct test_event {
	uint8_t bytes[96];
	uint32_t size, transfer_count;
	uint16_t kind;
	uint64_t first, sequence, timestamp_ms; /* first: number of its first transfer */
};

struct test_history {
	uint64_t seed, now_ms;
	struct ol_ledger *ledger;
	/* The model. */
	struct test_transfer *transfers;
	struct test_event *events;
	struct ol_indexed_account accounts[TEST_ACCOUNTS_MAX];
	uint32_t transfer_count, event_count, account_count, transfer_room, event_room;
	uint64_t retries, refused; /* so that a test sees that they occurred */
};

static inline uint64_t test_next(struct test_history *h)
{
	h->seed ^= h->seed >> 12;
	h->seed ^= h->seed << 25;
	h->seed ^= h->seed >> 27;
	return h->seed * UINT64_C(2685821657736338717);
}

static inline uint64_t test_below(struct test_history *h, uint64_t n)
{
	return test_next(h) % n;
}

static uint64_t test_now(void *self)
{
	return ((struct test_history *)self)->now_ms;
}

static void test_fill(void *self, void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)bytes)[i] = (uint8_t)test_next(self);
}

static inline struct ol_account_key test_account(uint64_t number)
{
	struct ol_account_key key;
	uint8_t id[20];
	memset(id, (int)number, sizeof id);
	if (number == 0)
		ol_account_key_init(&key, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
	else
		ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, id, sizeof id);
	return key;
}

static inline void test_history_open(struct test_history *h, const struct ol_disk *disk)
{
	struct ol_error err;
	const struct ol_ledger_options options = {
		.disk = *disk,
		.clock = {.self = h, .now_ms = test_now},
		.random = {.self = h, .fill = test_fill},
		.limits = {1 << 14, 1 << 18, 1 << 14},
		.journal = {.segment_bytes = 1 << 20, .group_bytes = 0}};
	if (ol_ledger_open(&h->ledger, NULL, &options, &err) != OL_OK) {
		printf("%s\n", err.text);
		OL_ASSERT(!"the ledger opens");
	}
}

static inline void test_history_init(struct test_history *h, uint64_t seed)
{
	*h = (struct test_history){.seed = seed | 1, .now_ms = UINT64_C(1700000000000)};
}

static inline void test_history_release(struct test_history *h)
{
	ol_ledger_close(h->ledger);
	free(h->transfers);
	free(h->events);
}

static inline struct ol_indexed_account *test_find(struct test_history *h,
						   const struct ol_account_key *key)
{
	for (uint32_t i = 0; i < h->account_count; i++)
		if (memcmp(&h->accounts[i].key, key, sizeof *key) == 0)
			return &h->accounts[i];
	return NULL;
}

static inline struct ol_indexed_account *test_touch(struct test_history *h,
						    const struct ol_account_key *key,
						    uint64_t timestamp_ms)
{
	struct ol_indexed_account *a = test_find(h, key);
	if (a)
		return a;
	OL_ASSERT(h->account_count < TEST_ACCOUNTS_MAX);
	a = &h->accounts[h->account_count++];
	*a = (struct ol_indexed_account){.key = *key, .opened_ms = timestamp_ms};
	return a;
}

#define TEST_GROW(array, count, room)                                                              \
	do {                                                                                       \
		if ((count) == (room)) {                                                           \
			(room) = (room) ? 2 * (room) : 64;                                         \
			(array) = realloc((array), (room) * sizeof *(array));                      \
			OL_ASSERT(array);                                                          \
		}                                                                                  \
	} while (0)

/* What the answers make of the model. */
static inline void test_note(struct test_history *h, const struct ol_batch *b)
{
	const uint32_t before = h->transfer_count;
	uint32_t number_of[OL_BATCH_TRANSFERS_MAX];
	for (uint32_t i = 0; i < b->postings.account_count; i++)
		if (b->account_results[i] == OL_ACCOUNT_OK)
			test_touch(h, &b->postings.accounts[i].key, b->timestamp_ms)->flags =
				b->postings.accounts[i].flags;
	for (uint32_t i = 0; i < b->postings.transfer_count; i++) {
		const struct ol_transfer *t = &b->postings.transfers[i];
		h->retries += b->transfer_results[i] == OL_POST_EXISTS;
		h->refused += b->transfer_results[i] > OL_POST_EXISTS;
		number_of[i] = 0;
		if (b->transfer_results[i] != OL_POST_OK)
			continue;
		TEST_GROW(h->transfers, h->transfer_count, h->transfer_room);
		h->transfers[h->transfer_count++] = (struct test_transfer){
			*t, b->sequence, b->timestamp_ms, OL_LEDGER_INDEX_NO_EVENT};
		number_of[i] = h->transfer_count;
		struct ol_indexed_account *debit = test_touch(h, &t->debit, b->timestamp_ms);
		struct ol_indexed_account *credit = test_touch(h, &t->credit, b->timestamp_ms);
		debit->transfers++;
		credit->transfers++;
		if (!(t->flags & OL_TRANSFER_PENDING)) {
			ol_total_add(&debit->debits, t->amount);
			ol_total_add(&credit->credits, t->amount);
		}
	}
	for (uint32_t i = 0; i < b->event_count; i++) {
		const struct ol_event *e = &b->events[i];
		if (b->event_indexes[i] == OL_EVENT_NOT_LOGGED)
			continue;
		OL_ASSERT(b->event_indexes[i] == h->event_count);
		TEST_GROW(h->events, h->event_count, h->event_room);
		struct test_event *model = &h->events[h->event_count];
		*model = (struct test_event){.size = e->size,
					     .transfer_count = e->transfer_count,
					     .kind = e->kind,
					     .sequence = b->sequence,
					     .timestamp_ms = b->timestamp_ms};
		memcpy(model->bytes, e->bytes, e->size);
		if (e->transfer_count > 0)
			model->first = number_of[e->first_transfer];
		for (uint32_t j = 0; j < e->transfer_count; j++) {
			struct test_transfer *t =
				&h->transfers[number_of[e->first_transfer + j] - 1];
			if (t->event_index == OL_LEDGER_INDEX_NO_EVENT)
				t->event_index = h->event_count;
		}
		h->event_count++;
	}
	OL_ASSERT(h->transfer_count >= before);
}

static inline void test_post(struct test_history *h, const struct ol_postings *postings,
			     const struct ol_event *events, uint32_t event_count)
{
	static uint8_t account_results[OL_BATCH_ACCOUNTS_MAX];
	static uint8_t transfer_results[OL_BATCH_TRANSFERS_MAX];
	static uint64_t event_indexes[OL_BATCH_EVENTS_MAX];
	struct ol_batch batch = {.postings = *postings,
				 .events = events,
				 .event_count = event_count,
				 .account_results = account_results,
				 .transfer_results = transfer_results,
				 .event_indexes = event_indexes};
	OL_ASSERT(ol_ledger_post(h->ledger, &batch, NULL) == OL_OK);
	test_note(h, &batch);
}

/* Opens the accounts that the history plays with; two of them by transfers later on. */
static inline void test_begin(struct test_history *h)
{
	struct ol_account_op ops[TEST_ACCOUNTS];
	const uint32_t count = TEST_ACCOUNTS - 2;
	memset(ops, 0, sizeof ops);
	for (uint32_t i = 0; i < count; i++) {
		ops[i].key = test_account(i);
		ops[i].action = OL_ACCOUNT_OPEN;
		ops[i].flags = i == 0 ? OL_ACCOUNT_OVERDRAFT : 0;
	}
	test_post(h, &(struct ol_postings){.accounts = ops, .account_count = count}, NULL, 0);
}

static inline struct ol_transfer test_random_transfer(struct test_history *h)
{
	const struct test_transfer *old =
		h->transfer_count > 0 ? &h->transfers[test_below(h, h->transfer_count)] : NULL;
	struct ol_transfer t = {.code = (uint16_t)(1 + test_below(h, OL_CODE_OTHER))};
	uint8_t random[OL_ID_RANDOM_BYTES];
	test_fill(h, random, sizeof random);
	t.id = ol_id_make(h->now_ms, random);
	t.debit = test_account(test_below(h, 3) == 0 ? 0 : test_below(h, TEST_ACCOUNTS));
	t.credit = test_account(test_below(h, TEST_ACCOUNTS));
	t.amount = ol_amount(1 + test_next(h) % (test_below(h, 50) == 0 ? UINT64_MAX : 1000));
	if (test_below(h, 2))
		test_fill(h, t.user_data, sizeof t.user_data);
	if (test_below(h, 4) == 0)
		t.flags |= OL_TRANSFER_OPENS;
	if (test_below(h, 4) == 0) {
		t.flags |= OL_TRANSFER_PENDING;
		t.timeout_s = 60;
	} else if (old && old->t.flags & OL_TRANSFER_PENDING) {
		t.flags = test_below(h, 3) ? OL_TRANSFER_POST : OL_TRANSFER_VOID;
		t.debit = old->t.debit;
		t.credit = old->t.credit;
		t.pending_id = old->t.id;
		t.amount = ol_amount(
			t.flags & OL_TRANSFER_VOID ? 0 : 1 + test_next(h) % old->t.amount.nano);
	} else if (old && test_below(h, 12) == 0) {
		return old->t; /* a retry */
	}
	if (test_below(h, 5) == 0)
		t.flags |= OL_TRANSFER_LINKED;
	return t;
}

/* A batch of at most so many transfers, with events over any of them. */
static inline void test_batch(struct test_history *h, uint32_t transfers_max)
{
	static struct ol_transfer transfers[OL_BATCH_TRANSFERS_MAX];
	static uint8_t bytes[32][96];
	struct ol_event events[32] = {0};
	struct ol_account_op op = {.key = test_account(1 + test_below(h, TEST_ACCOUNTS - 1)),
				   .action = OL_ACCOUNT_SET_FLAGS,
				   .flags = test_below(h, 4) == 0 ? OL_ACCOUNT_FROZEN : 0};
	struct ol_postings p = {.accounts = &op,
				.transfers = transfers,
				.account_count = test_below(h, 6) == 0,
				.transfer_count = (uint32_t)test_below(h, transfers_max + 1)};
	const uint32_t event_count = (uint32_t)test_below(h, 5) * (uint32_t)test_below(h, 5);
	h->now_ms += test_below(h, 3000);
	for (uint32_t i = 0; i < p.transfer_count; i++)
		transfers[i] = test_random_transfer(h);
	if (p.transfer_count > 0)
		transfers[p.transfer_count - 1].flags &= (uint16_t)~OL_TRANSFER_LINKED;
	for (uint32_t i = 0; i < event_count; i++) {
		struct ol_event *e = &events[i];
		e->kind = (uint16_t)(1 + test_below(h, OL_EVENT_KINDS - 1));
		e->size = (uint32_t)(8 + test_below(h, sizeof bytes[0] - 8));
		test_fill(h, bytes[i], e->size);
		e->bytes = bytes[i];
		e->first_transfer = (uint32_t)test_below(h, p.transfer_count + 1);
		e->transfer_count = (uint32_t)test_below(
			h, OL_MIN(3, p.transfer_count - e->first_transfer) + 1);
	}
	test_post(h, &p, events, event_count);
}

static inline void test_commit(struct test_history *h)
{
	OL_ASSERT(ol_ledger_commit(h->ledger, NULL) == OL_OK);
}

#endif
