#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* One loop is one generation. The owner writes the job, then publishes generation + 1; a worker
 * that sees a new generation claims indices until none is left and reports itself done. The owner
 * waits for every worker, so the job's fields are never written while one could read them. */
struct ol_pool {
	pthread_t *handles;
	int threads;
	ol_pool_fn *fn;
	void *context;
	int count;
	_Alignas(64) atomic_uint generation;
	_Alignas(64) atomic_int next;
	_Alignas(64) atomic_int busy; /* workers that have not finished this generation */
	_Alignas(64) atomic_int sleepers;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

struct worker_start {
	struct ol_pool *pool;
	int thread;
};

enum { SPIN_MAX = 20000 }; /* about 50-100 us of pause instructions, then sleep */

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void claim_all(struct ol_pool *pool, int thread)
{
	for (;;) {
		const int index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
		if (index >= pool->count)
			return;
		pool->fn(pool->context, index, thread);
	}
}

static void wait_for_generation(struct ol_pool *pool, unsigned seen)
{
	for (int spin = 0; spin < SPIN_MAX; spin++) {
		if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen)
			return;
		cpu_relax();
	}
	pthread_mutex_lock(&pool->lock);
	atomic_fetch_add(&pool->sleepers, 1);
	while (atomic_load(&pool->generation) == seen)
		pthread_cond_wait(&pool->wake, &pool->lock);
	atomic_fetch_sub(&pool->sleepers, 1);
	pthread_mutex_unlock(&pool->lock);
}

static void publish(struct ol_pool *pool)
{
	atomic_fetch_add(&pool->generation, 1);
	if (atomic_load(&pool->sleepers) > 0) {
		pthread_mutex_lock(&pool->lock);
		pthread_cond_broadcast(&pool->wake);
		pthread_mutex_unlock(&pool->lock);
	}
}

static void *worker_main(void *argument)
{
	const struct worker_start start = *(struct worker_start *)argument;
	struct ol_pool *pool = start.pool;
	free(argument);
	for (unsigned seen = 0;; seen++) {
		wait_for_generation(pool, seen);
		if (atomic_load(&pool->stop))
			return NULL;
		claim_all(pool, start.thread);
		atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_release);
	}
}

enum ol_status ol_pool_open(struct ol_pool **pool_out, int threads)
{
	OL_ASSERT(threads >= 1 && threads <= OL_POOL_THREADS_MAX);
	struct ol_pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
	if (!pool)
		return OL_ERR_FULL;
	*pool = (struct ol_pool){.threads = 1};
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pool->handles = calloc((size_t)threads, sizeof *pool->handles);
	bool ok = pool->handles != NULL;
	while (ok && pool->threads < threads) {
		struct worker_start *start = malloc(sizeof *start);
		if (start)
			*start = (struct worker_start){pool, pool->threads};
		ok = start &&
		     pthread_create(&pool->handles[pool->threads], NULL, worker_main, start) == 0;
		if (ok)
			pool->threads++;
		else
			free(start);
	}
	if (!ok) {
		ol_pool_close(pool);
		return OL_ERR_FULL;
	}
	*pool_out = pool;
	return OL_OK;
}

void ol_pool_close(struct ol_pool *pool)
{
	if (!pool)
		return;
	atomic_store(&pool->stop, true);
	publish(pool);
	for (int i = 1; i < pool->threads; i++)
		pthread_join(pool->handles[i], NULL);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool->handles);
	free(pool);
}

int ol_pool_threads(const struct ol_pool *pool)
{
	return pool->threads;
}

void ol_pool_for(struct ol_pool *pool, int count, ol_pool_fn *fn, void *context)
{
	if (pool->threads == 1 || count == 1) {
		for (int i = 0; i < count; i++)
			fn(context, i, 0);
		return;
	}
	if (count <= 0)
		return;
	pool->fn = fn;
	pool->context = context;
	pool->count = count;
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	atomic_store_explicit(&pool->busy, pool->threads - 1, memory_order_relaxed);
	publish(pool);
	claim_all(pool, 0);
	for (int spin = 0; atomic_load_explicit(&pool->busy, memory_order_acquire) > 0; spin++) {
		if (spin < SPIN_MAX)
			cpu_relax();
		else
			sched_yield();
	}
}

/* The cgroup v2 quota in whole processors, or 0 when there is none. */
static int cgroup_quota(void)
{
	long long quota = 0, period = 0;
	FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
	if (!file)
		return 0;
	const int fields = fscanf(file, "%lld %lld", &quota, &period);
	fclose(file);
	if (fields != 2 || quota <= 0 || period <= 0)
		return 0;
	return (int)OL_MAX(quota / period, 1);
}

int ol_processor_count(void)
{
	int count = 1;
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof set, &set) == 0)
		count = CPU_COUNT(&set);
	const int quota = cgroup_quota();
	if (quota > 0 && quota < count)
		count = quota;
	return OL_MIN(count, OL_POOL_THREADS_MAX);
}
