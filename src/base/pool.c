#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* One loop is one generation. The gate is one word, so that "is this loop still open" and "I am in"
 * cannot be told apart by a race:
 *
 *     generation (32 bits) | open (1 bit) | workers inside (16 bits)
 *
 * The owner writes the job and opens the gate; a worker that finds it open steps inside, claims
 * indices until none is left and steps out. When none is left the owner shuts the gate and waits
 * for those inside only: a worker that has not woken up yet, or lost its processor to another
 * program, holds nobody up. The job's fields are written only while the gate is shut and nobody is
 * inside. */
struct ol_pool {
	pthread_t *handles;
	int threads;
	int spin_max;
	ol_pool_fn *fn;
	void *context;
	int count;
	_Alignas(64) atomic_uint_fast64_t gate;
	_Alignas(64) atomic_int next;
	_Alignas(64) atomic_int sleepers;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

#define GATE_INSIDE UINT64_C(0xffff)
#define GATE_OPEN (UINT64_C(1) << 16)
#define GATE_GENERATION (UINT64_C(1) << 32)

struct worker_start {
	struct ol_pool *pool;
	int thread;
};

/* Pause instructions before a worker sleeps: some hundred microseconds, the time between two loops
 * of a token. With more threads than processors a spinning one only keeps another from working. */
enum { SPIN_MAX = 20000, SPIN_MAX_CROWDED = 100 };

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

static uint32_t generation_of(uint64_t gate)
{
	return (uint32_t)(gate / GATE_GENERATION);
}

static void wait_for_generation(struct ol_pool *pool, uint32_t seen)
{
	for (int spin = 0; spin < pool->spin_max; spin++) {
		if (generation_of(atomic_load_explicit(&pool->gate, memory_order_acquire)) != seen)
			return;
		cpu_relax();
	}
	pthread_mutex_lock(&pool->lock);
	atomic_fetch_add(&pool->sleepers, 1);
	while (generation_of(atomic_load(&pool->gate)) == seen)
		pthread_cond_wait(&pool->wake, &pool->lock);
	atomic_fetch_sub(&pool->sleepers, 1);
	pthread_mutex_unlock(&pool->lock);
}

/* Begins the next generation. Either this load sees a sleeper, or the sleeper sees the new gate. */
static void publish(struct ol_pool *pool, uint64_t open)
{
	const uint32_t next = generation_of(atomic_load(&pool->gate)) + 1;
	atomic_store(&pool->gate, next * GATE_GENERATION | open);
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
	uint32_t seen = 0;
	free(argument);
	for (;;) {
		wait_for_generation(pool, seen);
		uint64_t gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
		bool inside = false;
		while ((gate & GATE_OPEN) && !inside)
			inside = atomic_compare_exchange_weak(&pool->gate, &gate, gate + 1);
		seen = generation_of(gate);
		if (inside) {
			claim_all(pool, start.thread);
			atomic_fetch_sub_explicit(&pool->gate, 1, memory_order_release);
		}
		/* After the gate, not before: whoever has seen the last generation must see that it
		 * is the last. */
		if (atomic_load(&pool->stop))
			return NULL;
	}
}

enum ol_status ol_pool_open(struct ol_pool **pool_out, int threads)
{
	OL_ASSERT(threads >= 1 && threads <= OL_POOL_THREADS_MAX);
	struct ol_pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
	if (!pool)
		return OL_ERR_FULL;
	*pool = (struct ol_pool){.threads = 1};
	pool->spin_max = threads <= ol_processor_count() ? SPIN_MAX : SPIN_MAX_CROWDED;
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
	publish(pool, 0);
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
	publish(pool, GATE_OPEN);
	claim_all(pool, 0);
	atomic_fetch_and(&pool->gate, ~GATE_OPEN);
	for (int spin = 0; atomic_load_explicit(&pool->gate, memory_order_acquire) & GATE_INSIDE;
	     spin++) {
		if (spin < pool->spin_max)
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
