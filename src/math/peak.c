#include "math/peak.h"

#include "base/arena.h"
#include "base/clock.h"
#include "math/peak_internal.h"

#include <string.h>

static const char *const names[OL_PEAKS] = {"f32", "bf16", "int8", "int8_block32"};

const char *ol_peak_name(enum ol_peak kind)
{
	OL_ASSERT((unsigned)kind < OL_PEAKS);
	return names[kind];
}

static ol_peak_loop *best_loop(enum ol_peak kind)
{
#if defined(__x86_64__)
	const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	const bool avx512 = __builtin_cpu_supports("avx512f");
	const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
	switch (kind) {
	case OL_PEAK_F32: return avx512 ? ol_peak_f32_avx512 : avx2 ? ol_peak_f32_avx2 : NULL;
	case OL_PEAK_BF16:
		return __builtin_cpu_supports("avx512bf16") ? ol_peak_bf16_avx512bf16 : NULL;
	case OL_PEAK_INT8: return vnni ? ol_peak_int8_avx512 : avx2 ? ol_peak_int8_avx2 : NULL;
	case OL_PEAK_INT8_BLOCK32:
		return vnni ? ol_peak_int8_block32_avx512 : avx2 ? ol_peak_int8_block32_avx2 : NULL;
	}
	OL_UNREACHABLE();
#else
	(void)kind;
	return NULL;
#endif
}

struct ops_job {
	ol_peak_loop *loop;
	uint64_t rounds;
	uint64_t done[OL_POOL_THREADS_MAX]; /* operations, by index */
};

static void ops_slice(void *context, int index, int thread)
{
	struct ops_job *job = context;
	(void)thread;
	job->done[index] = job->loop(job->rounds);
}

/* Operations per second of one slice, which all threads of the pool (NULL: this one) run at once.
 * The slowest thread ends it, so a rate never claims what was not running together. */
static double ops_rate(struct ops_job *job, struct ol_pool *pool, double *elapsed)
{
	const int count = pool ? ol_pool_threads(pool) : 1;
	const double start = ol_clock_seconds();
	if (pool)
		ol_pool_for(pool, count, ops_slice, job);
	else
		ops_slice(job, 0, 0);
	*elapsed = ol_clock_seconds() - start;
	uint64_t done = 0;
	for (int i = 0; i < count; i++)
		done += job->done[i];
	return (double)done / *elapsed;
}

static double best_ops(struct ol_pool *pool, enum ol_peak kind, double seconds)
{
	static const double slice_seconds = 5e-4; /* above a pool's start, below a time slice */
	enum { SLICES_MIN = 32 };                 /* however long a busy machine makes one wait */
	struct ops_job job = {.loop = best_loop(kind), .rounds = 1000};
	double best = 0, elapsed;
	if (!job.loop)
		return 0;
	const double end = ol_clock_seconds() + seconds;
	for (int slice = 0; slice < SLICES_MIN || ol_clock_seconds() < end; slice++) {
		best = OL_MAX(best, ops_rate(&job, pool, &elapsed));
		if (elapsed < slice_seconds)
			job.rounds *= 2;
	}
	return best;
}

/* bf16 has two ways to the same bits, and which is faster depends on the maker of the processor. */
static double best_way(struct ol_pool *pool, enum ol_peak kind, double seconds)
{
	if (kind != OL_PEAK_BF16)
		return best_ops(pool, kind, seconds);
	const double dot = best_ops(pool, OL_PEAK_BF16, seconds / 2);
	const double fma = best_ops(pool, OL_PEAK_F32, seconds / 2);
	return OL_MAX(dot, fma);
}

double ol_peak_ops(enum ol_peak kind, double seconds)
{
	return best_way(NULL, kind, seconds);
}

double ol_peak_ops_pool(struct ol_pool *pool, enum ol_peak kind, double seconds)
{
	OL_ASSERT(pool);
	return best_way(pool, kind, seconds);
}

/* A reading order: `streams` places of a thread's part advance side by side, each prefetched
 * `ahead` bytes before it is read. No order is best on every machine. */
struct read_order {
	size_t streams, ahead;
};

static const struct read_order read_orders[] = {
	{1, 0}, {1, 2048}, {2, 2048}, {4, 512}, {4, 2048}, {8, 2048},
};

enum { LINE = 64, PARTS_PER_THREAD = 8 };

struct read_job {
	const uint8_t *block;
	size_t part_bytes;
	struct read_order order;
};

/* One word of every cache line: memory delivers whole lines, and reading the rest of a line from
 * the first cache changes the rate by nothing that could be measured. */
static void read_part(void *context, int index, int thread)
{
	const struct read_job *job = context;
	const uint8_t *part = job->block + (size_t)index * job->part_bytes;
	const size_t stream_bytes = job->part_bytes / job->order.streams;
	(void)thread;
	for (size_t at = 0; at < stream_bytes; at += LINE) {
		for (size_t s = 0; s < job->order.streams; s++) {
			const uint8_t *line = part + s * stream_bytes + at;
			if (job->order.ahead)
				__builtin_prefetch(line + job->order.ahead);
			(void)*(const volatile uint64_t *)line;
		}
	}
}

double ol_peak_read(struct ol_pool *pool, size_t bytes, double seconds)
{
	const int parts = ol_pool_threads(pool) * PARTS_PER_THREAD;
	const size_t granule =
		(size_t)parts * 8 * LINE; /* every stream of every part in whole lines */
	bytes -= bytes % granule;
	uint8_t *block = bytes ? ol_block_alloc(bytes) : NULL;
	if (!block)
		return 0;
	memset(block, 1, bytes); /* pages that were never written all map to one page of zeros */
	struct read_job job = {.block = block, .part_bytes = bytes / (size_t)parts};
	const double end = ol_clock_seconds() + seconds;
	double best = 0;
	do {
		for (size_t i = 0; i < OL_ARRAY_LEN(read_orders); i++) {
			job.order = read_orders[i];
			const double start = ol_clock_seconds();
			ol_pool_for(pool, parts, read_part, &job);
			best = OL_MAX(best, (double)bytes / (ol_clock_seconds() - start));
		}
	} while (ol_clock_seconds() < end);
	ol_block_free(block, bytes);
	return best;
}
