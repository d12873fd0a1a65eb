/* lora/pool.h, floor 3: a node's adapters: thousands registered, the hot ones in memory.
 *
 *     registered ── asked for ──> reading (a thread of the pool) ── collected ──> in memory
 *         ▲                            │ broken: says why, once a request asks       │ pinned by
 *         └────────────────────────────┴── least recently used, not pinned ──────────┘ requests
 *
 * A registered adapter costs its index entry: 100,000 are nothing. Those in memory stay under a
 * byte budget; room is made before reading, so the budget holds at every moment. Requests in flight
 * pin what they use. While one adapter is read, answers from others go on.
 *
 * The pool belongs to one thread, the model worker's. Only the queue to the reading threads is
 * shared, inside. What is read is checked against the hash it was registered with. */
#ifndef OL_LORA_POOL_H
#define OL_LORA_POOL_H

#include "model/adapter.h"

struct ol_adapter_pool;
struct ol_pooled; /* one pinned adapter */

enum { OL_POOL_ADAPTERS_MAX = 1 << 20, OL_POOL_READERS_MAX = 16 };

/* Reads an adapter; ol_adapter_open in a node, something that lies in tests. Called by the reading
 * threads. bytes: what one in that folder will take in memory, about; 0: not there. */
struct ol_adapter_source {
	enum ol_status (*open)(void *self, struct ol_adapter **adapter_out, const char *folder,
			       const struct ol_config *base, struct ol_error *err);
	size_t (*bytes)(void *self, const char *folder);
	void *self;
};
extern const struct ol_adapter_source ol_adapter_folders;

struct ol_adapter_pool_options {
	const struct ol_config *base;           /* borrowed */
	size_t bytes_max;                       /* of adapters in memory and being read */
	int readers;                            /* threads; 0: 2 */
	const struct ol_adapter_source *source; /* NULL: ol_adapter_folders */
	/* Called by a reading thread when there is something to collect; may be NULL. */
	void (*wake)(void *context);
	void *context;
};

OL_MUST_CHECK enum ol_status ol_adapter_pool_open(struct ol_adapter_pool **pool_out,
						  const struct ol_adapter_pool_options *options,
						  struct ol_error *err);
/* Nothing may be pinned. Waits for the reading threads. */
void ol_adapter_pool_close(struct ol_adapter_pool *pool);

enum ol_register {
	OL_REGISTER_OK,
	OL_REGISTER_EXISTS, /* the same name, folder and hash: nothing to do */
	OL_REGISTER_TAKEN,  /* the name belongs to another adapter           */
	OL_REGISTER_FULL    /* OL_POOL_ADAPTERS_MAX, or out of memory        */
};
/* sha256: what the adapter's file must hash to; NULL: taken as it is. Strings are copied. */
enum ol_register ol_adapter_pool_register(struct ol_adapter_pool *pool, const char *name,
					  const char *folder,
					  const uint8_t sha256[OL_SHA256_BYTES]);
/* False: no such name. Requests that have it pinned keep it to their end. */
bool ol_adapter_pool_unregister(struct ol_adapter_pool *pool, const char *name);
size_t ol_adapter_pool_count(const struct ol_adapter_pool *pool);

enum ol_acquire {
	OL_ACQUIRE_READY,     /* pinned; ol_adapter_pool_release it                       */
	OL_ACQUIRE_READING,   /* ask again after the next collect that says something      */
	OL_ACQUIRE_BUSY,      /* all memory is pinned by others: ask again after a release  */
	OL_ACQUIRE_UNKNOWN,   /* no such name                                             */
	OL_ACQUIRE_TOO_LARGE, /* larger than the whole budget                             */
	OL_ACQUIRE_BROKEN     /* unreadable, or not what was registered: err says why; the next
			      * acquire tries again                                       */
};
enum ol_acquire ol_adapter_pool_acquire(struct ol_adapter_pool *pool,
					const struct ol_pooled **pooled_out, const char *name,
					struct ol_error *err);
void ol_adapter_pool_release(struct ol_adapter_pool *pool, const struct ol_pooled *pooled);
const struct ol_adapter *ol_pooled_adapter(const struct ol_pooled *pooled);

/* Takes in what the reading threads have finished; how many. Never waits. */
int ol_adapter_pool_collect(struct ol_adapter_pool *pool);

struct ol_adapter_pool_stats {
	size_t registered, in_memory, reading, pinned;
	size_t bytes, bytes_max;
	uint64_t hits, cold_reads, evictions, failures;
};
void ol_adapter_pool_stats(const struct ol_adapter_pool *pool, struct ol_adapter_pool_stats *stats);

#endif
