/* base/pool.h, floor 0: a pool of threads for data-parallel loops.
 *
 * ol_pool_for cuts [0, count) into single indices and lets the calling thread and the workers claim
 * them; it returns when all are done. Which thread runs which index is not defined, and by the
 * arithmetic contract it cannot matter. Between loops the workers spin for a short while, then
 * sleep: a token passes through hundreds of such loops. One loop at a time per pool. */
#ifndef OL_BASE_POOL_H
#define OL_BASE_POOL_H

#include "base/base.h"

enum { OL_POOL_THREADS_MAX = 256 };

struct ol_pool;

/* thread is in [0, threads): an index for per-thread scratch. */
typedef void ol_pool_fn(void *context, int index, int thread);

/* threads >= 1 counts the caller. Owned by the caller; close joins the workers. */
OL_MUST_CHECK enum ol_status ol_pool_open(struct ol_pool **pool_out, int threads);
void ol_pool_close(struct ol_pool *pool);
int ol_pool_threads(const struct ol_pool *pool);
void ol_pool_for(struct ol_pool *pool, int count, ol_pool_fn *fn, void *context);

/* Processors this process may run on (affinity and cgroup quota considered), at least 1. */
int ol_processor_count(void);

#endif
