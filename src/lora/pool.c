/* lora/pool.c: the index, the readers' queue, and what stays in memory. */
#include "lora/pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { READERS_DEFAULT = 2, TABLE_MIN = 64, SIZE_UNKNOWN = 1 << 16 };

enum state { COLD, READING, WARM };

struct ol_pooled {
	char *name, *folder; /* one allocation */
	uint64_t hash;       /* of the name     */
	uint8_t sha256[OL_SHA256_BYTES];
	bool has_sha256, gone; /* gone: unregistered while pinned or read */
	enum state state;
	int pins;
	struct ol_adapter *adapter;      /* WARM                                        */
	size_t bytes;                    /* that it takes, or while READING may take     */
	size_t known;                    /* that it took when it was last read; 0: never */
	struct ol_pooled *newer, *older; /* WARM: by last use                           */
	/* Filled in by a reading thread between the two queues. */
	struct ol_adapter *read;
	struct ol_error *failure; /* NULL: none */
	struct ol_pooled *next;
};

struct queue {
	struct ol_pooled *first, **end;
};

struct ol_adapter_pool {
	const struct ol_config *base;
	const struct ol_adapter_source *source;
	void (*wake)(void *context);
	void *context;

	struct ol_pooled **table; /* by hash, linear probing; table_size is a power of two */
	size_t table_size, count;
	struct ol_pooled *newest, *oldest;
	struct ol_adapter_pool_stats stats;

	pthread_t readers[OL_POOL_READERS_MAX];
	int reader_count;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work;
	struct queue todo, done;
	bool closing;
};

/* --- queues ---------------------------------------------------------------- */

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

static void queue_push(struct queue *q, struct ol_pooled *a)
{
	a->next = NULL;
	*q->end = a;
	q->end = &a->next;
}

static struct ol_pooled *queue_pop(struct queue *q)
{
	struct ol_pooled *a = q->first;
	if (a) {
		q->first = a->next;
		if (!q->first)
			q->end = &q->first;
	}
	return a;
}

/* --- reading --------------------------------------------------------------- */

static enum ol_status folder_open(void *self, struct ol_adapter **adapter_out, const char *folder,
				  const struct ol_config *base, struct ol_error *err)
{
	(void)self;
	return ol_adapter_open(adapter_out, folder, base, err);
}

static size_t folder_bytes(void *self, const char *folder)
{
	char path[4096];
	struct stat info;
	(void)self;
	const int size = snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
	if (size < 0 || (size_t)size >= sizeof path || stat(path, &info) != 0)
		return 0;
	return (size_t)info.st_size;
}

const struct ol_adapter_source ol_adapter_folders = {folder_open, folder_bytes, NULL};

static void remember(struct ol_pooled *a, const struct ol_error *err)
{
	a->failure = malloc(sizeof *a->failure);
	if (a->failure)
		*a->failure = *err;
}

/* In a reading thread. Touches only what does not change while READING, and the result. */
static void read_one(const struct ol_adapter_pool *pool, struct ol_pooled *a)
{
	struct ol_error err = {0};
	enum ol_status s =
		pool->source->open(pool->source->self, &a->read, a->folder, pool->base, &err);
	if (s == OL_OK && a->has_sha256 &&
	    memcmp(ol_adapter_sha256(a->read), a->sha256, OL_SHA256_BYTES) != 0) {
		char is[2 * OL_SHA256_BYTES + 1], was[2 * OL_SHA256_BYTES + 1];
		ol_hex(is, ol_adapter_sha256(a->read), OL_SHA256_BYTES);
		ol_hex(was, a->sha256, OL_SHA256_BYTES);
		s = ol_fail(&err, OL_ERR_INPUT,
			    "adapter %s: %s/adapter_model.safetensors hashes to %s, but it was "
			    "registered as %s: restore the file, or register the adapter anew",
			    a->name, a->folder, is, was);
		ol_adapter_close(a->read);
	}
	if (s == OL_OK)
		return;
	a->read = NULL;
	remember(a, &err);
}

static void *reader(void *argument)
{
	struct ol_adapter_pool *pool = argument;
	(void)pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct ol_pooled *a = queue_pop(&pool->todo);
		if (!a && pool->closing)
			break;
		if (!a) {
			(void)pthread_cond_wait(&pool->work, &pool->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&pool->lock);
		read_one(pool, a);
		(void)pthread_mutex_lock(&pool->lock);
		queue_push(&pool->done, a);
		if (!pool->wake)
			continue;
		(void)pthread_mutex_unlock(&pool->lock); /* wake may take locks of its own */
		pool->wake(pool->context);
		(void)pthread_mutex_lock(&pool->lock);
	}
	(void)pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* --- life ------------------------------------------------------------------ */

static void release_one(struct ol_pooled *a)
{
	ol_adapter_close(a->adapter);
	ol_adapter_close(a->read);
	free(a->failure);
	free(a->name);
	free(a);
}

enum ol_status ol_adapter_pool_open(struct ol_adapter_pool **pool_out,
				    const struct ol_adapter_pool_options *options,
				    struct ol_error *err)
{
	struct ol_adapter_pool *pool = calloc(1, sizeof *pool);
	const int readers = options->readers > 0 ? options->readers : READERS_DEFAULT;
	*pool_out = NULL;
	OL_ASSERT(readers <= OL_POOL_READERS_MAX);
	if (pool)
		pool->table = calloc(TABLE_MIN, sizeof(struct ol_pooled *));
	if (!pool || !pool->table) {
		free(pool);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the pool of adapters");
	}
	pool->base = options->base;
	pool->source = options->source ? options->source : &ol_adapter_folders;
	pool->wake = options->wake;
	pool->context = options->context;
	pool->table_size = TABLE_MIN;
	pool->stats.bytes_max = options->bytes_max;
	queue_init(&pool->todo);
	queue_init(&pool->done);
	(void)pthread_mutex_init(&pool->lock, NULL);
	(void)pthread_cond_init(&pool->work, NULL);
	for (; pool->reader_count < readers; pool->reader_count++)
		if (pthread_create(&pool->readers[pool->reader_count], NULL, reader, pool) != 0)
			break;
	if (pool->reader_count == 0) {
		ol_adapter_pool_close(pool);
		return ol_fail(err, OL_ERR_FULL, "no thread to read adapters can be started");
	}
	*pool_out = pool;
	return OL_OK;
}

void ol_adapter_pool_close(struct ol_adapter_pool *pool)
{
	if (!pool)
		return;
	(void)pthread_mutex_lock(&pool->lock);
	pool->closing = true;
	for (struct ol_pooled *a; (a = queue_pop(&pool->todo));)
		if (a->gone) /* nobody has begun to read it */
			release_one(a);
	(void)pthread_cond_broadcast(&pool->work);
	(void)pthread_mutex_unlock(&pool->lock);
	for (int i = 0; i < pool->reader_count; i++)
		(void)pthread_join(pool->readers[i], NULL);
	for (struct ol_pooled *a; (a = queue_pop(&pool->done));)
		if (a->gone)
			release_one(a);
	for (size_t i = 0; i < pool->table_size; i++) {
		if (!pool->table[i])
			continue;
		OL_ASSERT(pool->table[i]->pins == 0);
		release_one(pool->table[i]);
	}
	(void)pthread_cond_destroy(&pool->work);
	(void)pthread_mutex_destroy(&pool->lock);
	free(pool->table);
	free(pool);
}

/* --- the index ------------------------------------------------------------- */

/* Names come from outside: their places in the table must not be for them to choose. */
static uint64_t hash_of(const char *name)
{
	uint8_t digest[OL_SHA256_BYTES];
	uint64_t hash;
	ol_sha256(digest, name, strlen(name));
	memcpy(&hash, digest, sizeof hash);
	return hash;
}

/* The place of the name, or the free one where it would go. */
static size_t place_of(const struct ol_adapter_pool *pool, const char *name, uint64_t hash)
{
	size_t i = hash & (pool->table_size - 1);
	while (pool->table[i] &&
	       (pool->table[i]->hash != hash || strcmp(pool->table[i]->name, name) != 0))
		i = (i + 1) & (pool->table_size - 1);
	return i;
}

static bool grow(struct ol_adapter_pool *pool)
{
	struct ol_pooled **old = pool->table;
	const size_t old_size = pool->table_size;
	if ((pool->count + 1) * 3 < old_size * 2)
		return true;
	struct ol_pooled **table = calloc(2 * old_size, sizeof(struct ol_pooled *));
	if (!table)
		return false;
	pool->table = table;
	pool->table_size = 2 * old_size;
	for (size_t i = 0; i < old_size; i++)
		if (old[i])
			table[place_of(pool, old[i]->name, old[i]->hash)] = old[i];
	free((void *)old);
	return true;
}

/* Frees a place; those behind it move up, so that every name is still found. */
static void take_out(struct ol_adapter_pool *pool, size_t place)
{
	const size_t mask = pool->table_size - 1;
	size_t hole = place;
	for (size_t i = (place + 1) & mask; pool->table[i]; i = (i + 1) & mask) {
		const size_t home = pool->table[i]->hash & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			pool->table[hole] = pool->table[i];
			hole = i;
		}
	}
	pool->table[hole] = NULL;
	pool->count--;
}

static bool same(const struct ol_pooled *a, const char *folder, const uint8_t *sha256)
{
	return strcmp(a->folder, folder) == 0 && a->has_sha256 == (sha256 != NULL) &&
	       (!sha256 || memcmp(a->sha256, sha256, OL_SHA256_BYTES) == 0);
}

enum ol_register ol_adapter_pool_register(struct ol_adapter_pool *pool, const char *name,
					  const char *folder, const uint8_t sha256[OL_SHA256_BYTES])
{
	const uint64_t hash = hash_of(name);
	const struct ol_pooled *known = pool->table[place_of(pool, name, hash)];
	if (known)
		return same(known, folder, sha256) ? OL_REGISTER_EXISTS : OL_REGISTER_TAKEN;
	const size_t name_size = strlen(name) + 1, folder_size = strlen(folder) + 1;
	struct ol_pooled *a = NULL;
	if (pool->count < OL_POOL_ADAPTERS_MAX && grow(pool))
		a = calloc(1, sizeof *a);
	if (a)
		a->name = malloc(name_size + folder_size);
	if (!a || !a->name) {
		free(a);
		return OL_REGISTER_FULL;
	}
	memcpy(a->name, name, name_size);
	a->folder = a->name + name_size;
	memcpy(a->folder, folder, folder_size);
	a->hash = hash;
	a->has_sha256 = sha256 != NULL;
	if (sha256)
		memcpy(a->sha256, sha256, OL_SHA256_BYTES);
	pool->table[place_of(pool, name, hash)] = a;
	pool->count++;
	return OL_REGISTER_OK;
}

size_t ol_adapter_pool_count(const struct ol_adapter_pool *pool)
{
	return pool->count;
}

/* --- memory ---------------------------------------------------------------- */

static void unlink_used(struct ol_adapter_pool *pool, struct ol_pooled *a)
{
	*(a->newer ? &a->newer->older : &pool->newest) = a->older;
	*(a->older ? &a->older->newer : &pool->oldest) = a->newer;
	a->newer = a->older = NULL;
}

static void link_newest(struct ol_adapter_pool *pool, struct ol_pooled *a)
{
	a->newer = NULL;
	a->older = pool->newest;
	*(pool->newest ? &pool->newest->newer : &pool->oldest) = a;
	pool->newest = a;
}

static void drop(struct ol_adapter_pool *pool, struct ol_pooled *a)
{
	OL_ASSERT(a->state == WARM && a->pins == 0);
	unlink_used(pool, a);
	ol_adapter_close(a->adapter);
	a->adapter = NULL;
	a->state = COLD;
	pool->stats.bytes -= a->bytes;
	pool->stats.in_memory--;
}

/* Lets the least recently used go until `bytes` more fit. False, and nothing has gone, if pinned
 * ones leave no such room. */
static bool make_room(struct ol_adapter_pool *pool, size_t bytes)
{
	size_t used = pool->stats.bytes;
	const size_t most = pool->stats.bytes_max;
	for (const struct ol_pooled *a = pool->oldest; a && used + bytes > most; a = a->newer)
		if (a->pins == 0)
			used -= a->bytes;
	if (used + bytes > most)
		return false;
	for (struct ol_pooled *a = pool->oldest, *newer; pool->stats.bytes + bytes > most;
	     a = newer) {
		newer = a->newer;
		if (a->pins > 0)
			continue;
		drop(pool, a);
		pool->stats.evictions++;
	}
	return true;
}

bool ol_adapter_pool_unregister(struct ol_adapter_pool *pool, const char *name)
{
	const size_t place = place_of(pool, name, hash_of(name));
	struct ol_pooled *a = pool->table[place];
	if (!a)
		return false;
	take_out(pool, place);
	a->gone = true;
	if (a->state == READING || a->pins > 0)
		return true; /* collect or the last release sees to it */
	if (a->state == WARM)
		drop(pool, a);
	release_one(a);
	return true;
}

/* --- use ------------------------------------------------------------------- */

static enum ol_status too_large(const struct ol_adapter_pool *pool, const struct ol_pooled *a,
				size_t bytes, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_FULL,
		       "adapter %s takes %zu bytes, more than the %zu that all adapters may take: "
		       "raise the adapter memory",
		       a->name, bytes, pool->stats.bytes_max);
}

static enum ol_acquire begin_reading(struct ol_adapter_pool *pool, struct ol_pooled *a,
				     struct ol_error *err)
{
	const size_t found = pool->source->bytes(pool->source->self, a->folder);
	/* Where there is nothing, the reader will say what is wrong. */
	const size_t guess = found ? found : OL_MIN(SIZE_UNKNOWN, pool->stats.bytes_max);
	/* Once read, it is not read again before there is room for what it turned out to be. */
	const size_t bytes = a->known <= pool->stats.bytes_max ? OL_MAX(guess, a->known) : guess;
	if (bytes > pool->stats.bytes_max) {
		(void)too_large(pool, a, bytes, err);
		return OL_ACQUIRE_TOO_LARGE;
	}
	if (!make_room(pool, bytes))
		return OL_ACQUIRE_BUSY;
	a->state = READING;
	a->bytes = bytes;
	pool->stats.bytes += bytes;
	pool->stats.reading++;
	pool->stats.cold_reads++;
	(void)pthread_mutex_lock(&pool->lock);
	queue_push(&pool->todo, a);
	(void)pthread_cond_signal(&pool->work);
	(void)pthread_mutex_unlock(&pool->lock);
	return OL_ACQUIRE_READING;
}

enum ol_acquire ol_adapter_pool_acquire(struct ol_adapter_pool *pool,
					const struct ol_pooled **pooled_out, const char *name,
					struct ol_error *err)
{
	struct ol_pooled *a = pool->table[place_of(pool, name, hash_of(name))];
	*pooled_out = NULL;
	if (!a)
		return OL_ACQUIRE_UNKNOWN;
	if (a->state == READING)
		return OL_ACQUIRE_READING;
	if (a->state == COLD && a->failure) {
		(void)ol_fail(err, a->failure->status, "%s", a->failure->text);
		free(a->failure);
		a->failure = NULL;
		return OL_ACQUIRE_BROKEN;
	}
	if (a->state == COLD)
		return begin_reading(pool, a, err);
	pool->stats.hits++;
	pool->stats.pinned += a->pins == 0;
	a->pins++;
	unlink_used(pool, a);
	link_newest(pool, a);
	*pooled_out = a;
	return OL_ACQUIRE_READY;
}

void ol_adapter_pool_release(struct ol_adapter_pool *pool, const struct ol_pooled *pooled)
{
	struct ol_pooled *a = (struct ol_pooled *)(uintptr_t)pooled;
	OL_ASSERT(a->state == WARM && a->pins > 0);
	if (--a->pins > 0)
		return;
	pool->stats.pinned--;
	if (!a->gone)
		return;
	drop(pool, a);
	release_one(a);
}

const struct ol_adapter *ol_pooled_adapter(const struct ol_pooled *pooled)
{
	return pooled->adapter;
}

static void take_in(struct ol_adapter_pool *pool, struct ol_pooled *a)
{
	pool->stats.reading--;
	pool->stats.bytes -= a->bytes;
	a->state = COLD;
	if (a->gone) {
		release_one(a);
		return;
	}
	if (!a->read) {
		pool->stats.failures++;
		return;
	}
	/* It may be larger than its file promised. */
	a->bytes = a->known = ol_adapter_bytes(a->read);
	if (!make_room(pool, a->bytes)) {
		struct ol_error err;
		ol_adapter_close(a->read);
		a->read = NULL;
		if (a->bytes > pool->stats.bytes_max && too_large(pool, a, a->bytes, &err) != OL_OK)
			remember(a, &err);
		return;
	}
	a->adapter = a->read;
	a->read = NULL;
	a->state = WARM;
	pool->stats.bytes += a->bytes;
	pool->stats.in_memory++;
	link_newest(pool, a);
}

int ol_adapter_pool_collect(struct ol_adapter_pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	struct ol_pooled *first = pool->done.first;
	queue_init(&pool->done);
	(void)pthread_mutex_unlock(&pool->lock);
	int count = 0;
	for (struct ol_pooled *a = first, *next; a; a = next, count++) {
		next = a->next;
		take_in(pool, a);
	}
	return count;
}

void ol_adapter_pool_stats(const struct ol_adapter_pool *pool, struct ol_adapter_pool_stats *stats)
{
	*stats = pool->stats;
	stats->registered = pool->count;
}
