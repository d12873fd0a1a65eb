/* The thread pool: every index exactly once, nothing before the call and nothing after it. Run
 * under TSan too (make test-slow). */
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { COUNT_MAX = 5000 };

struct loop {
	int threads;
	/* Plain memory on purpose: each index is one thread's alone, and the caller reads it after
	 * the loop. A missing fence or an index run twice is a race that TSan sees. */
	int runs[COUNT_MAX];
	int thread_of[COUNT_MAX];
	long sum_of_thread[OL_POOL_THREADS_MAX];
};

static void count_run(void *context, int index, int thread)
{
	struct loop *loop = context;
	loop->runs[index]++;
	loop->thread_of[index] = thread;
	loop->sum_of_thread[thread] += index;
}

static void check_loop(struct ol_pool *pool, struct loop *loop, int count)
{
	long sum = 0;
	memset(loop->runs, 0, sizeof loop->runs);
	memset(loop->sum_of_thread, 0, sizeof loop->sum_of_thread);
	ol_pool_for(pool, count, count_run, loop);
	for (int i = 0; i < COUNT_MAX; i++)
		assert_int_equal(loop->runs[i], i < count);
	for (int i = 0; i < count; i++)
		assert_in_range(loop->thread_of[i], 0, loop->threads - 1);
	for (int i = 0; i < loop->threads; i++)
		sum += loop->sum_of_thread[i];
	assert_int_equal(sum, (long)count * (count - 1) / 2);
}

static void test_every_index_once(void **state)
{
	static const int threads[] = {1, 2, 3, 4, 7, 16, 64};
	static const int counts[] = {0, 1, 2, 3, 63, 64, 65, COUNT_MAX};
	(void)state;
	struct loop *loop = calloc(1, sizeof *loop);
	assert_non_null(loop);
	for (size_t t = 0; t < OL_ARRAY_LEN(threads); t++) {
		struct ol_pool *pool;
		assert_int_equal(ol_pool_open(&pool, threads[t]), OL_OK);
		assert_int_equal(ol_pool_threads(pool), threads[t]);
		loop->threads = threads[t];
		for (size_t c = 0; c < OL_ARRAY_LEN(counts); c++)
			check_loop(pool, loop, counts[c]);
		ol_pool_close(pool);
	}
	free(loop);
}

static void add_one(void *context, int index, int thread)
{
	int *numbers = context;
	(void)thread;
	numbers[index] += 1;
}

/* A token is hundreds of short loops back to back: each must see all writes of the one before,
 * though other threads made them. */
static void test_many_short_loops(void **state)
{
	enum { LOOPS = 20000, WIDTH = 5 };
	(void)state;
	struct ol_pool *pool;
	int numbers[WIDTH] = {0};
	assert_int_equal(ol_pool_open(&pool, 3), OL_OK);
	for (int i = 0; i < LOOPS; i++)
		ol_pool_for(pool, WIDTH, add_one, numbers);
	for (int i = 0; i < WIDTH; i++)
		assert_int_equal(numbers[i], LOOPS);
	ol_pool_close(pool);
}

/* Long enough pauses that the workers go to sleep: the next loop must wake them. */
static void test_sleeping_workers_wake(void **state)
{
	const struct timespec pause = {0, 20 * 1000 * 1000};
	(void)state;
	struct ol_pool *pool;
	int numbers[64] = {0};
	assert_int_equal(ol_pool_open(&pool, 4), OL_OK);
	for (int i = 0; i < 10; i++) {
		nanosleep(&pause, NULL);
		ol_pool_for(pool, 64, add_one, numbers);
	}
	nanosleep(&pause, NULL);
	for (int i = 0; i < 64; i++)
		assert_int_equal(numbers[i], 10);
	ol_pool_close(pool); /* and asleep they can be joined */
}

static void test_open_and_close_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < 200; i++) {
		struct ol_pool *pool;
		assert_int_equal(ol_pool_open(&pool, 1 + i % 8), OL_OK);
		ol_pool_close(pool);
	}
	ol_pool_close(NULL);
}

/* Two owners, two pools, at the same time: nothing is shared between pools. */
/* Closing right after a loop, with workers that are still on their way into it or out of it: a
 * worker that lost its processor between the two must not sleep through the end. */
static void test_close_after_a_loop(void **state)
{
	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct ol_pool *pool;
		int numbers[8] = {0};
		assert_int_equal(ol_pool_open(&pool, 2 + round % 7), OL_OK);
		for (int i = 0; i < round % 3 + 1; i++)
			ol_pool_for(pool, 2 + round % 5, add_one, numbers);
		ol_pool_close(pool);
		for (int i = 0; i < 2 + round % 5; i++)
			assert_int_equal(numbers[i], round % 3 + 1);
	}
}

static void nested(void *context, int index, int thread)
{
	struct ol_pool *inner;
	int numbers[8] = {0};
	int *failures = context;
	(void)thread;
	if (ol_pool_open(&inner, 2) != OL_OK) {
		failures[index] = 1;
		return;
	}
	for (int i = 0; i < 50; i++)
		ol_pool_for(inner, 8, add_one, numbers);
	for (int i = 0; i < 8; i++)
		failures[index] += numbers[i] != 50;
	ol_pool_close(inner);
}

static void test_pools_are_independent(void **state)
{
	(void)state;
	struct ol_pool *outer;
	int failures[6] = {0};
	assert_int_equal(ol_pool_open(&outer, 3), OL_OK);
	ol_pool_for(outer, 6, nested, failures);
	for (int i = 0; i < 6; i++)
		assert_int_equal(failures[i], 0);
	ol_pool_close(outer);
}

static void test_processor_count(void **state)
{
	(void)state;
	assert_in_range(ol_processor_count(), 1, OL_POOL_THREADS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_index_once),
		cmocka_unit_test(test_many_short_loops),
		cmocka_unit_test(test_sleeping_workers_wake),
		cmocka_unit_test(test_open_and_close_at_once),
		cmocka_unit_test(test_close_after_a_loop),
		cmocka_unit_test(test_pools_are_independent),
		cmocka_unit_test(test_processor_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
