/* The pool of adapters over a source that lies: slow, broken, of the wrong hash or size. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lora/pool.h"

static const struct ol_config config = {.vocab_size = 8,
					.hidden = 32,
					.ffn = 32,
					.layers = 1,
					.heads = 2,
					.kv_heads = 2,
					.head_dim = 16};

/* Folders are "RANK" or "RANK:fault": missing, broken, wrong (another adapter than promised), slow,
 * small (claims a byte), huge (claims more than any budget). */
struct liar {
	pthread_mutex_t lock;
	pthread_cond_t go;
	bool held; /* slow ones wait for the test's word */
	int reads;
};

static enum ol_status make(struct ol_adapter **out, int rank, uint16_t fill)
{
	enum { SIDE = 32 };
	static uint16_t a[OL_RANK_MAX * SIDE], b[OL_RANK_MAX * SIDE];
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct ol_lora_tensors tensors[OL_LAYER_LINEARS + 1] = {0};
	const struct ol_adapter_config settings = {
		.rank = rank, .alpha = 1.0f, .targets = 1u << OL_LINEAR_Q, .base_name = "base"};
	(void)pthread_mutex_lock(&lock);
	for (int i = 0; i < rank * SIDE; i++)
		a[i] = b[i] = (uint16_t)(0x3f00 + fill);
	tensors[OL_LINEAR_Q] = (struct ol_lora_tensors){rank, 1.0f / (float)rank, a, b};
	const enum ol_status s = ol_adapter_make(out, &config, &settings, tensors, NULL);
	(void)pthread_mutex_unlock(&lock);
	return s;
}

static enum ol_status lying_open(void *self, struct ol_adapter **out, const char *folder,
				 const struct ol_config *base, struct ol_error *err)
{
	struct liar *liar = self;
	OL_ASSERT(base == &config);
	(void)pthread_mutex_lock(&liar->lock);
	liar->reads++;
	while (liar->held && strstr(folder, "slow"))
		(void)pthread_cond_wait(&liar->go, &liar->lock);
	(void)pthread_mutex_unlock(&liar->lock);
	if (strstr(folder, "broken") || strstr(folder, "missing"))
		return ol_fail(err, OL_ERR_INPUT, "%s is broken", folder);
	return make(out, (int)strtol(folder, NULL, 10), strstr(folder, "wrong") ? 1 : 0);
}

static size_t honest_bytes(int rank)
{
	struct ol_adapter *adapter;
	assert_int_equal(make(&adapter, rank, 0), OL_OK);
	const size_t bytes = ol_adapter_bytes(adapter);
	ol_adapter_close(adapter);
	return bytes;
}

static size_t lying_bytes(void *self, const char *folder)
{
	(void)self;
	if (strstr(folder, "missing"))
		return 0;
	if (strstr(folder, "small"))
		return 1;
	return strstr(folder, "huge") ? (size_t)1 << 40
				      : honest_bytes((int)strtol(folder, NULL, 10));
}

struct world {
	struct liar liar;
	struct ol_adapter_source source;
	struct ol_adapter_pool *pool;
};

static void open_world(struct world *w, size_t bytes_max)
{
	struct ol_error err;
	memset(w, 0, sizeof *w);
	(void)pthread_mutex_init(&w->liar.lock, NULL);
	(void)pthread_cond_init(&w->liar.go, NULL);
	w->source = (struct ol_adapter_source){lying_open, lying_bytes, &w->liar};
	const struct ol_adapter_pool_options options = {
		.base = &config, .bytes_max = bytes_max, .readers = 2, .source = &w->source};
	if (ol_adapter_pool_open(&w->pool, &options, &err) != OL_OK)
		fail_msg("%s", err.text);
}

static void close_world(struct world *w)
{
	ol_adapter_pool_close(w->pool);
	(void)pthread_cond_destroy(&w->liar.go);
	(void)pthread_mutex_destroy(&w->liar.lock);
}

static void hold(struct world *w, bool held)
{
	(void)pthread_mutex_lock(&w->liar.lock);
	w->liar.held = held;
	(void)pthread_cond_broadcast(&w->liar.go);
	(void)pthread_mutex_unlock(&w->liar.lock);
}

static void add(struct world *w, const char *name, const char *folder)
{
	assert_int_equal(ol_adapter_pool_register(w->pool, name, folder, NULL), OL_REGISTER_OK);
}

static struct ol_adapter_pool_stats stats_of(const struct world *w)
{
	struct ol_adapter_pool_stats stats;
	ol_adapter_pool_stats(w->pool, &stats);
	return stats;
}

static enum ol_acquire ask(struct world *w, const char *name, const struct ol_pooled **out)
{
	static struct ol_error err;
	return ol_adapter_pool_acquire(w->pool, out, name, &err);
}

static void wait_a_moment(void)
{
	const struct timespec moment = {0, 100000};
	(void)nanosleep(&moment, NULL);
}

/* Asks until it is no longer being read. */
static enum ol_acquire get(struct world *w, const char *name, const struct ol_pooled **out)
{
	enum ol_acquire r;
	while ((r = ask(w, name, out)) == OL_ACQUIRE_READING) {
		wait_a_moment();
		(void)ol_adapter_pool_collect(w->pool);
	}
	return r;
}

static void use(struct world *w, const char *name)
{
	const struct ol_pooled *p;
	assert_int_equal(get(w, name, &p), OL_ACQUIRE_READY);
	ol_adapter_pool_release(w->pool, p);
}

/* Every outcome has a name. */
static void test_outcomes(void **state)
{
	struct world w;
	uint8_t right[OL_SHA256_BYTES], other[OL_SHA256_BYTES] = {1};
	struct ol_adapter *adapter;
	const struct ol_pooled *p, *q;
	struct ol_error err;
	(void)state;
	open_world(&w, 3 * honest_bytes(8));
	assert_int_equal(make(&adapter, 8, 0), OL_OK);
	memcpy(right, ol_adapter_sha256(adapter), sizeof right);
	ol_adapter_close(adapter);

	assert_int_equal(ol_adapter_pool_register(w.pool, "a", "8", right), OL_REGISTER_OK);
	assert_int_equal(ol_adapter_pool_register(w.pool, "a", "8", right), OL_REGISTER_EXISTS);
	assert_int_equal(ol_adapter_pool_register(w.pool, "a", "9", right), OL_REGISTER_TAKEN);
	assert_int_equal(ol_adapter_pool_register(w.pool, "a", "8", other), OL_REGISTER_TAKEN);
	assert_int_equal(ol_adapter_pool_register(w.pool, "a", "8", NULL), OL_REGISTER_TAKEN);
	assert_int_equal(ol_adapter_pool_register(w.pool, "wrong", "8:wrong", right),
			 OL_REGISTER_OK);
	add(&w, "broken", "8:broken");
	add(&w, "missing", "8:missing");
	add(&w, "huge", "8:huge");
	add(&w, "liar", "500:small");

	assert_int_equal(ask(&w, "nobody", &p), OL_ACQUIRE_UNKNOWN);
	assert_int_equal(ask(&w, "a", &p), OL_ACQUIRE_READING);
	assert_null(p);
	assert_int_equal(get(&w, "a", &p), OL_ACQUIRE_READY);
	assert_int_equal(ask(&w, "a", &q), OL_ACQUIRE_READY);
	assert_ptr_equal(p, q);
	assert_memory_equal(ol_adapter_sha256(ol_pooled_adapter(p)), right, sizeof right);
	ol_adapter_pool_release(w.pool, p);
	ol_adapter_pool_release(w.pool, q);

	assert_int_equal(ol_adapter_pool_acquire(w.pool, &p, "huge", &err), OL_ACQUIRE_TOO_LARGE);
	assert_non_null(strstr(err.text, "raise the adapter memory"));
	static const struct {
		const char *name, *words;
	} rows[] = {{"wrong", "registered as"},
		    {"broken", "8:broken is broken"},
		    {"missing", "8:missing is broken"},
		    {"liar", "more than the"}};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		for (int again = 0; again < 2; again++) {
			enum ol_acquire r;
			while ((r = ol_adapter_pool_acquire(w.pool, &p, rows[i].name, &err)) ==
			       OL_ACQUIRE_READING) {
				wait_a_moment();
				(void)ol_adapter_pool_collect(w.pool);
			}
			assert_int_equal(r, OL_ACQUIRE_BROKEN);
			assert_non_null(strstr(err.text, rows[i].words));
		}
	use(&w, "a");
	assert_false(ol_adapter_pool_unregister(w.pool, "nobody"));
	assert_true(ol_adapter_pool_unregister(w.pool, "a"));
	assert_int_equal(ask(&w, "a", &p), OL_ACQUIRE_UNKNOWN);
	assert_int_equal(stats_of(&w).bytes, 0);
	close_world(&w);
}

/* Room for two: the least recently used goes, one that is pinned never. */
static void test_eviction(void **state)
{
	struct world w;
	const struct ol_pooled *a, *b, *c;
	(void)state;
	open_world(&w, 2 * honest_bytes(8));
	add(&w, "a", "8");
	add(&w, "b", "8");
	add(&w, "c", "8");
	use(&w, "a");
	use(&w, "b");
	use(&w, "a");
	use(&w, "c"); /* b goes */
	assert_int_equal(ask(&w, "a", &a), OL_ACQUIRE_READY);
	assert_int_equal(get(&w, "b", &b), OL_ACQUIRE_READY); /* c goes */
	assert_int_equal(stats_of(&w).evictions, 2);
	assert_int_equal(ask(&w, "c", &c), OL_ACQUIRE_BUSY);
	ol_adapter_pool_release(w.pool, a);
	assert_int_equal(get(&w, "c", &c), OL_ACQUIRE_READY); /* a goes */
	assert_int_equal(ask(&w, "a", &a), OL_ACQUIRE_BUSY);

	/* An adapter taken away stays with those who use it. */
	assert_true(ol_adapter_pool_unregister(w.pool, "c"));
	assert_int_equal(ask(&w, "c", &a), OL_ACQUIRE_UNKNOWN);
	assert_non_null(ol_adapter_views(ol_pooled_adapter(c)));
	ol_adapter_pool_release(w.pool, c);
	ol_adapter_pool_release(w.pool, b);
	assert_int_equal(stats_of(&w).in_memory, 1);
	close_world(&w);
}

/* One that is larger than it claims is read once, not over and over until there is room. */
static void test_no_reading_in_vain(void **state)
{
	struct world w;
	const struct ol_pooled *a, *b, *fat;
	const size_t each = honest_bytes(8);
	(void)state;
	open_world(&w, 2 * each + each / 2);
	add(&w, "a", "8");
	add(&w, "b", "8");
	add(&w, "fat", "8:small");
	assert_int_equal(get(&w, "a", &a), OL_ACQUIRE_READY);
	assert_int_equal(get(&w, "b", &b), OL_ACQUIRE_READY);
	assert_int_equal(get(&w, "fat", &fat), OL_ACQUIRE_BUSY);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ask(&w, "fat", &fat), OL_ACQUIRE_BUSY);
	assert_int_equal(stats_of(&w).cold_reads, 3);
	ol_adapter_pool_release(w.pool, a);
	assert_int_equal(get(&w, "fat", &fat), OL_ACQUIRE_READY);
	ol_adapter_pool_release(w.pool, fat);
	ol_adapter_pool_release(w.pool, b);
	close_world(&w);
}

/* While one is read, others are served; and one taken away meanwhile is not kept. */
static void test_slow_reads(void **state)
{
	struct world w;
	const struct ol_pooled *p;
	(void)state;
	open_world(&w, 4 * honest_bytes(8));
	add(&w, "fast", "8");
	add(&w, "slow", "8:slow");
	add(&w, "slow too", "8:slow");
	hold(&w, true);
	assert_int_equal(ask(&w, "slow", &p), OL_ACQUIRE_READING);
	use(&w, "fast");
	assert_int_equal(ask(&w, "slow", &p), OL_ACQUIRE_READING);
	assert_int_equal(ask(&w, "slow too", &p), OL_ACQUIRE_READING);
	assert_int_equal(stats_of(&w).reading, 2);
	assert_true(ol_adapter_pool_unregister(w.pool, "slow too"));
	hold(&w, false);
	use(&w, "slow");
	while (stats_of(&w).reading > 0) {
		wait_a_moment();
		(void)ol_adapter_pool_collect(w.pool);
	}
	assert_int_equal(stats_of(&w).in_memory, 2);
	assert_int_equal(w.liar.reads, 3);
	close_world(&w);
}

/* Closing while reads are under way and results wait. */
static void test_close_early(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct world w;
		const struct ol_pooled *p;
		char name[16];
		open_world(&w, 100 * honest_bytes(8));
		for (int i = 0; i < 20; i++) {
			(void)snprintf(name, sizeof name, "%d", i);
			add(&w, name, "8");
			assert_int_equal(ask(&w, name, &p), OL_ACQUIRE_READING);
			if (i % 3 == round % 3)
				assert_true(ol_adapter_pool_unregister(w.pool, name));
		}
		close_world(&w);
	}
}

static uint32_t below(uint32_t *seed, uint32_t n)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % n;
}

/* Anything, in any order: the budget holds, what is pinned stays, nothing is lost. */
static void test_random_days(void **state)
{
	enum { NAMES = 40, PINS = 6, STEPS = 20000 };
	(void)state;
	struct world w;
	const struct ol_pooled *pinned[PINS] = {0};
	uint32_t seed = 12345;
	uint64_t ready = 0;
	open_world(&w, 8 * honest_bytes(8));
	for (int step = 0; step < STEPS; step++) {
		char name[16], folder[32];
		const uint32_t which = below(&seed, NAMES), pin = below(&seed, PINS);
		static const char *const faults[] = {"", "", "", ":broken", ":small"};
		(void)snprintf(name, sizeof name, "n%u", which);
		(void)snprintf(folder, sizeof folder, "%u%s", 1 + which % 16, faults[which % 5]);
		switch (below(&seed, 8)) {
		case 0: (void)ol_adapter_pool_register(w.pool, name, folder, NULL); break;
		case 1:
			if (below(&seed, 20) == 0)
				(void)ol_adapter_pool_unregister(w.pool, name);
			break;
		case 2: (void)ol_adapter_pool_collect(w.pool); break;
		case 3:
			if (pinned[pin])
				ol_adapter_pool_release(w.pool, pinned[pin]);
			pinned[pin] = NULL;
			break;
		default:
			if (!pinned[pin] && ask(&w, name, &pinned[pin]) == OL_ACQUIRE_READY)
				ready++;
		}
		const struct ol_adapter_pool_stats stats = stats_of(&w);
		assert_true(stats.bytes <= stats.bytes_max);
		for (int i = 0; i < PINS; i++)
			assert_true(!pinned[i] ||
				    ol_adapter_views(ol_pooled_adapter(pinned[i]))->rank_max > 0);
	}
	for (int i = 0; i < PINS; i++)
		if (pinned[i])
			ol_adapter_pool_release(w.pool, pinned[i]);
	assert_int_equal(stats_of(&w).pinned, 0);
	assert_true(ready > 100);
	close_world(&w);
}

/* 100,000 registered cost an index, and are found. */
static void test_many(void **state)
{
	enum { MANY = 100000 };
	struct world w;
	char name[32];
	(void)state;
	open_world(&w, 4 * honest_bytes(8));
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof name, "adapter-%d", i);
		add(&w, name, "8");
	}
	for (int i = 0; i < MANY; i += 2) {
		(void)snprintf(name, sizeof name, "adapter-%d", i);
		assert_true(ol_adapter_pool_unregister(w.pool, name));
	}
	assert_int_equal(ol_adapter_pool_count(w.pool), MANY / 2);
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof name, "adapter-%d", i);
		assert_int_equal(ol_adapter_pool_register(w.pool, name, "8", NULL),
				 i % 2 ? OL_REGISTER_EXISTS : OL_REGISTER_OK);
	}
	use(&w, "adapter-77777");
	use(&w, "adapter-77778");
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_eviction),
		cmocka_unit_test(test_no_reading_in_vain),
		cmocka_unit_test(test_slow_reads),
		cmocka_unit_test(test_close_early),
		cmocka_unit_test(test_random_days),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
