#include "node/idempotency.h"

#include "base/bytes.h"
#include "node/idempotency_index.h"
#include "node/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SWEEP_SECONDS = 60, SWEEP_ROWS = 256, WRITES_AT_ONCE = 256 };

struct waiter {
	ol_idempotency_ready *on_ready;
	void *context;
};

/* A request under way; later, an answer on its way to the disk. */
struct ol_lease {
	struct ol_idempotency *owner;
	struct ol_lease *next;
	uint8_t id[OL_SHA256_BYTES], fingerprint[OL_SHA256_BYTES];
	char account[OL_NAME_MAX + 1];
	uint64_t account_hash;
	uint32_t set_aside;
	struct ol_buf body;
	bool lost; /* longer than what was set aside */
	bool done; /* the writing thread's now, but for the waiters that still join */
	struct waiter waiters[OL_IDEMPOTENCY_WAITERS_MAX];
	int waiter_count;
	int status;
	char type[OL_IDEMPOTENCY_TYPE_MAX];
	void (*on_kept)(void *context, enum ol_status status);
	void *context;
};

/* Somebody who wants an answer that is on the disk. */
struct reading {
	struct reading *next;
	uint8_t id[OL_SHA256_BYTES];
	struct waiter waiter;
};

struct ol_idempotency {
	struct ol_store *store; /* the thread's alone, once it runs */
	struct ol_idempotency_options options;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t wake;
	struct kept_index index;
	struct kept_accounts accounts; /* kept and set aside */
	uint64_t bytes, replays;
	struct ol_lease *leases; /* under way, or done and not yet on the disk */
	int to_write;            /* of them: done                              */
	struct reading *readings;
	int64_t swept_at;
	pthread_t thread;
	bool running, closing;
};

static int64_t now_of(const struct ol_idempotency *d)
{
	return d->options.now ? d->options.now(d->options.context) : (int64_t)time(NULL);
}

/* ---- What is refused, and how ---- */

static const struct ol_idempotency_row rows[OL_IDEMPOTENCY_VERDICTS] = {
	{OL_IDEMPOTENCY_NEW, 0, "", "", ""},
	{OL_IDEMPOTENCY_WAIT, 0, "", "", ""},
	{OL_IDEMPOTENCY_REPLAY, 0, "", "", ""},
	{OL_IDEMPOTENCY_AGAIN, 0, "", "", ""},
	{OL_IDEMPOTENCY_LOST, 409, "invalid_request_error", "idempotency_answer_lost",
	 "The request with this Idempotency-Key was done and charged once, but its answer was too "
	 "long to keep: send it with a new key to have it done again."},
	{OL_IDEMPOTENCY_OTHER, 422, "invalid_request_error", "idempotency_key_reused",
	 "This Idempotency-Key was used for another request: use a new key for every request."},
	{OL_IDEMPOTENCY_BUSY, 409, "invalid_request_error", "idempotency_key_in_use",
	 "The first request with this Idempotency-Key is still under way: try again when it is "
	 "done."},
	{OL_IDEMPOTENCY_BAD_KEY, 400, "invalid_request_error", "idempotency_key_invalid",
	 "An Idempotency-Key is 1 to 255 printable ASCII characters."},
	{OL_IDEMPOTENCY_FULL, 429, "requests", "idempotency_store_full",
	 "This account has as many answers kept for its Idempotency-Keys of the last 24 hours as "
	 "may be: wait, or send the request without the key."},
	{OL_IDEMPOTENCY_CLOSED, 503, "server_error", "server_stopping",
	 "The server is stopping or out of memory: try again."},
};

const struct ol_idempotency_row *ol_idempotency_row(enum ol_idempotency_verdict verdict)
{
	OL_ASSERT((unsigned)verdict < OL_IDEMPOTENCY_VERDICTS && rows[verdict].verdict == verdict);
	return &rows[verdict];
}

static bool key_is_good(const char *key)
{
	const size_t length = strnlen(key, OL_IDEMPOTENCY_KEY_MAX + 1);
	bool good = length > 0 && length <= OL_IDEMPOTENCY_KEY_MAX;
	for (size_t i = 0; good && i < length; i++)
		good = key[i] >= 0x20 && key[i] < 0x7f;
	return good;
}

/* Every part with its length: no two lists of parts are written alike. */
static void hash_part(uint8_t out[OL_SHA256_BYTES], const void *bytes, size_t size)
{
	uint8_t both[8 + 2 * OL_SHA256_BYTES];
	ol_store_u64(both, size);
	memcpy(both + 8, out, OL_SHA256_BYTES);
	ol_sha256(both + 8 + OL_SHA256_BYTES, bytes, size);
	ol_sha256(out, both, sizeof both);
}

void ol_idempotency_fingerprint(uint8_t out[OL_SHA256_BYTES], const char *method, const char *path,
				const void *body, size_t size)
{
	memset(out, 0, OL_SHA256_BYTES);
	hash_part(out, method, strlen(method));
	hash_part(out, path, strlen(path));
	hash_part(out, body, size);
}

/* ---- Beginning ---- */

static struct ol_lease *find_lease(const struct ol_idempotency *d,
				   const uint8_t id[OL_SHA256_BYTES])
{
	struct ol_lease *lease = d->leases;
	while (lease && memcmp(lease->id, id, OL_SHA256_BYTES) != 0)
		lease = lease->next;
	return lease;
}

static enum ol_idempotency_verdict join(struct ol_lease *lease, const uint8_t *fingerprint,
					const struct waiter *waiter)
{
	if (memcmp(lease->fingerprint, fingerprint, OL_SHA256_BYTES) != 0)
		return OL_IDEMPOTENCY_OTHER;
	if (!waiter->on_ready || lease->waiter_count == OL_IDEMPOTENCY_WAITERS_MAX)
		return OL_IDEMPOTENCY_BUSY;
	lease->waiters[lease->waiter_count++] = *waiter;
	return OL_IDEMPOTENCY_WAIT;
}

static enum ol_idempotency_verdict read_later(struct ol_idempotency *d,
					      const struct kept_entry *entry,
					      const uint8_t *fingerprint,
					      const struct waiter *waiter)
{
	if (memcmp(entry->fingerprint, fingerprint, OL_SHA256_BYTES) != 0)
		return OL_IDEMPOTENCY_OTHER;
	if (!entry->whole)
		return OL_IDEMPOTENCY_LOST;
	if (!waiter->on_ready)
		return OL_IDEMPOTENCY_BUSY;
	struct reading *reading = calloc(1, sizeof *reading);
	if (!reading)
		return OL_IDEMPOTENCY_CLOSED;
	memcpy(reading->id, entry->id, sizeof reading->id);
	reading->waiter = *waiter;
	reading->next = d->readings;
	d->readings = reading;
	pthread_cond_signal(&d->wake);
	return OL_IDEMPOTENCY_WAIT;
}

static enum ol_idempotency_verdict lease_new(struct ol_idempotency *d, struct ol_lease **lease_out,
					     const uint8_t *id, const char *account,
					     const uint8_t *fingerprint, size_t answer_max)
{
	uint8_t hash[OL_SHA256_BYTES];
	ol_sha256(hash, account, strlen(account));
	const uint64_t account_hash = ol_load_u64(hash);
	answer_max = OL_MIN(answer_max, (size_t)OL_IDEMPOTENCY_ANSWER_MAX);
	const uint32_t set_aside = (uint32_t)answer_max + OL_IDEMPOTENCY_ROW_BYTES;
	if (d->bytes + set_aside > d->options.bytes_max ||
	    accounts_get(&d->accounts, account_hash) + set_aside > d->options.account_bytes_max)
		return OL_IDEMPOTENCY_FULL;
	struct ol_lease *lease = calloc(1, sizeof *lease);
	if (!lease || !accounts_add(&d->accounts, account_hash, set_aside)) {
		free(lease);
		return OL_IDEMPOTENCY_CLOSED;
	}
	d->bytes += set_aside;
	lease->owner = d;
	memcpy(lease->id, id, OL_SHA256_BYTES);
	memcpy(lease->fingerprint, fingerprint, OL_SHA256_BYTES);
	snprintf(lease->account, sizeof lease->account, "%s", account);
	lease->account_hash = account_hash;
	lease->set_aside = set_aside;
	ol_buf_init(&lease->body, answer_max);
	lease->next = d->leases;
	d->leases = lease;
	*lease_out = lease;
	return OL_IDEMPOTENCY_NEW;
}

enum ol_idempotency_verdict ol_idempotency_begin(struct ol_idempotency *d,
						 struct ol_lease **lease_out, const char *account,
						 const char *key,
						 const uint8_t fingerprint[OL_SHA256_BYTES],
						 size_t answer_max, ol_idempotency_ready *on_ready,
						 void *context)
{
	const struct waiter waiter = {on_ready, context};
	enum ol_idempotency_verdict verdict;
	uint8_t id[OL_SHA256_BYTES] = {0};
	*lease_out = NULL;
	if (!key_is_good(key))
		return OL_IDEMPOTENCY_BAD_KEY;
	hash_part(id, account, strlen(account));
	hash_part(id, key, strlen(key));
	pthread_mutex_lock(&d->lock);
	struct ol_lease *lease = find_lease(d, id);
	const struct kept_entry *entry = kept_find(&d->index, id);
	/* Its row is removed by the next sweep, or replaced by the new answer. */
	if (entry && now_of(d) - entry->made_at >= OL_IDEMPOTENCY_SECONDS)
		entry = NULL;
	if (d->closing)
		verdict = OL_IDEMPOTENCY_CLOSED;
	else if (lease)
		verdict = join(lease, fingerprint, &waiter);
	else if (entry)
		verdict = read_later(d, entry, fingerprint, &waiter);
	else
		verdict = lease_new(d, lease_out, id, account, fingerprint, answer_max);
	pthread_mutex_unlock(&d->lock);
	return verdict;
}

/* ---- Ending ---- */

void ol_idempotency_append(struct ol_lease *lease, const void *bytes, size_t size)
{
	if (lease->lost || ol_buf_append(&lease->body, bytes, size))
		return;
	lease->lost = true;
	ol_buf_release(&lease->body);
	ol_buf_init(&lease->body, 0);
}

static void unlink_lease(struct ol_idempotency *d, const struct ol_lease *lease)
{
	struct ol_lease **at = &d->leases;
	while (*at != lease)
		at = &(*at)->next;
	*at = lease->next;
}

static void give_room_back(struct ol_idempotency *d, uint64_t account, uint32_t bytes)
{
	accounts_take(&d->accounts, account, bytes);
	d->bytes -= bytes;
}

static void free_lease(struct ol_lease *lease)
{
	ol_buf_release(&lease->body);
	free(lease);
}

/* The lease is nobody's any more: its waiters are stable. */
static void tell_waiters(struct ol_lease *lease, enum ol_idempotency_verdict verdict)
{
	const struct ol_kept kept = {lease->status, lease->type,
				     lease->body.data ? lease->body.data : "", lease->body.size};
	for (int i = 0; i < lease->waiter_count; i++)
		lease->waiters[i].on_ready(lease->waiters[i].context, verdict,
					   verdict == OL_IDEMPOTENCY_REPLAY ? &kept : NULL);
}

void ol_idempotency_release(struct ol_lease *lease)
{
	struct ol_idempotency *d = lease->owner;
	pthread_mutex_lock(&d->lock);
	unlink_lease(d, lease);
	give_room_back(d, lease->account_hash, lease->set_aside);
	pthread_mutex_unlock(&d->lock);
	tell_waiters(lease, OL_IDEMPOTENCY_AGAIN);
	free_lease(lease);
}

void ol_idempotency_finish(struct ol_lease *lease, int status, const char *type,
			   void (*on_kept)(void *context, enum ol_status status), void *context)
{
	struct ol_idempotency *d = lease->owner;
	if (status >= 500) {
		ol_idempotency_release(lease);
		on_kept(context, OL_OK);
		return;
	}
	lease->status = status;
	snprintf(lease->type, sizeof lease->type, "%s", type);
	lease->on_kept = on_kept;
	lease->context = context;
	pthread_mutex_lock(&d->lock);
	OL_ASSERT(d->running);
	lease->done = true;
	d->to_write++;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
}

/* ---- The thread that reads and writes ---- */

static enum ol_status write_answer(struct ol_idempotency *d, const struct ol_lease *lease,
				   struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, d->store,
		      "INSERT OR REPLACE INTO answers (id, account, fingerprint, made_at, status,"
		      " type, whole, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
	ol_query_bind_blob(&q, lease->id, sizeof lease->id);
	ol_query_bind_text(&q, lease->account);
	ol_query_bind_blob(&q, lease->fingerprint, sizeof lease->fingerprint);
	ol_query_bind_int(&q, now_of(d));
	ol_query_bind_int(&q, lease->status);
	ol_query_bind_text(&q, lease->type);
	ol_query_bind_int(&q, !lease->lost);
	ol_query_bind_blob(&q, lease->body.data, lease->body.size);
	return ol_query_run(&q, err);
}

/* The entry replaces what was set aside; and any answer of a day ago. */
static bool enter(struct ol_idempotency *d, const struct ol_lease *lease)
{
	struct kept_entry entry = {.made_at = now_of(d),
				   .account = lease->account_hash,
				   .bytes = OL_IDEMPOTENCY_ROW_BYTES + (uint32_t)lease->body.size,
				   .whole = !lease->lost};
	struct kept_entry *old = kept_find(&d->index, lease->id);
	memcpy(entry.id, lease->id, sizeof entry.id);
	memcpy(entry.fingerprint, lease->fingerprint, sizeof entry.fingerprint);
	if (old) {
		give_room_back(d, old->account, old->bytes);
		kept_remove(&d->index, old);
	}
	if (!kept_put(&d->index, &entry))
		return false;
	give_room_back(d, lease->account_hash, lease->set_aside - entry.bytes);
	return true;
}

static void end_written(struct ol_idempotency *d, struct ol_lease *lease, enum ol_status s)
{
	pthread_mutex_lock(&d->lock);
	unlink_lease(d, lease);
	if (s == OL_OK && !enter(d, lease))
		s = OL_ERR_FULL;
	if (s != OL_OK)
		give_room_back(d, lease->account_hash, lease->set_aside);
	d->replays += (uint64_t)(lease->lost ? 0 : lease->waiter_count);
	pthread_mutex_unlock(&d->lock);
	lease->on_kept(lease->context, s);
	tell_waiters(lease, lease->lost ? OL_IDEMPOTENCY_LOST : OL_IDEMPOTENCY_REPLAY);
	free_lease(lease);
}

static void write_answers(struct ol_idempotency *d, struct ol_lease **leases, int count)
{
	enum ol_status s = ol_store_begin(d->store, NULL);
	if (s == OL_OK) {
		for (int i = 0; i < count && s == OL_OK; i++)
			s = write_answer(d, leases[i], NULL);
		s = ol_store_end(d->store, s, NULL);
	}
	for (int i = 0; i < count; i++)
		end_written(d, leases[i], s);
}

static void read_answer(struct ol_idempotency *d, struct reading *reading)
{
	struct ol_query q;
	struct ol_kept kept = {0};
	bool found = false;
	ol_query_open(&q, d->store,
		      "SELECT status, type, body FROM answers WHERE id = ? AND whole = 1");
	ol_query_bind_blob(&q, reading->id, sizeof reading->id);
	if (ol_query_row(&q)) {
		found = true;
		kept.status = (int)ol_query_int(&q, 0);
		kept.type = ol_query_text(&q, 1);
		kept.body = ol_query_blob(&q, 2, &kept.size);
		reading->waiter.on_ready(reading->waiter.context, OL_IDEMPOTENCY_REPLAY, &kept);
	}
	const enum ol_status s = ol_query_close(&q, NULL);
	if (!found)
		reading->waiter.on_ready(reading->waiter.context,
					 s == OL_OK ? OL_IDEMPOTENCY_AGAIN : OL_IDEMPOTENCY_CLOSED,
					 NULL);
	pthread_mutex_lock(&d->lock);
	d->replays += found;
	pthread_mutex_unlock(&d->lock);
	free(reading);
}

/* Removes some of the answers whose time is over. True: there may be more. */
static bool sweep(struct ol_idempotency *d)
{
	struct ol_query q;
	uint8_t ids[SWEEP_ROWS][OL_SHA256_BYTES];
	int count = 0;
	enum ol_status s = ol_store_begin(d->store, NULL);
	if (s != OL_OK)
		return false;
	ol_query_open(&q, d->store,
		      "DELETE FROM answers WHERE id IN (SELECT id FROM answers WHERE made_at <= ?1"
		      " ORDER BY made_at LIMIT ?2) RETURNING id");
	ol_query_bind_int(&q, now_of(d) - OL_IDEMPOTENCY_SECONDS);
	ol_query_bind_int(&q, SWEEP_ROWS);
	while (count < SWEEP_ROWS && ol_query_row(&q)) {
		size_t size;
		const void *id = ol_query_blob(&q, 0, &size);
		if (size == OL_SHA256_BYTES)
			memcpy(ids[count++], id, size);
	}
	s = ol_query_close(&q, NULL);
	if (ol_store_end(d->store, s, NULL) != OL_OK)
		return false;
	pthread_mutex_lock(&d->lock);
	for (int i = 0; i < count; i++) {
		struct kept_entry *entry = kept_find(&d->index, ids[i]);
		if (entry) {
			give_room_back(d, entry->account, entry->bytes);
			kept_remove(&d->index, entry);
		}
	}
	pthread_mutex_unlock(&d->lock);
	return count == SWEEP_ROWS;
}

static bool anything_to_do(const struct ol_idempotency *d)
{
	return d->to_write > 0 || d->readings || d->closing ||
	       now_of(d) - d->swept_at >= SWEEP_SECONDS;
}

static void wait_for_work(struct ol_idempotency *d)
{
	while (!anything_to_do(d)) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += SWEEP_SECONDS;
		pthread_cond_timedwait(&d->wake, &d->lock, &until);
	}
}

static void *work(void *context)
{
	struct ol_idempotency *d = context;
	for (;;) {
		struct ol_lease *leases[WRITES_AT_ONCE];
		int count = 0;
		pthread_mutex_lock(&d->lock);
		wait_for_work(d);
		for (struct ol_lease *l = d->leases; l && count < WRITES_AT_ONCE; l = l->next)
			if (l->done)
				leases[count++] = l;
		d->to_write -= count;
		struct reading *readings = d->readings;
		d->readings = NULL;
		const bool over = d->closing && count == 0 && !readings;
		const bool sweeping = now_of(d) - d->swept_at >= SWEEP_SECONDS;
		pthread_mutex_unlock(&d->lock);
		if (over)
			return NULL;
		if (count > 0)
			write_answers(d, leases, count);
		while (readings) {
			struct reading *next = readings->next;
			read_answer(d, readings);
			readings = next;
		}
		if (sweeping && !sweep(d)) {
			pthread_mutex_lock(&d->lock);
			d->swept_at = now_of(d);
			pthread_mutex_unlock(&d->lock);
		}
	}
}

/* ---- Opening ---- */

static enum ol_status load(struct ol_idempotency *d, struct ol_error *err)
{
	struct ol_query q;
	bool room = true;
	ol_query_open(&q, d->store,
		      "SELECT id, account, fingerprint, made_at, whole, length(body) FROM answers");
	while (room && ol_query_row(&q)) {
		struct kept_entry entry = {.made_at = ol_query_int(&q, 3),
					   .whole = ol_query_int(&q, 4) != 0};
		size_t id_size, print_size;
		const void *id = ol_query_blob(&q, 0, &id_size),
			   *print = ol_query_blob(&q, 2, &print_size);
		const char *account = ol_query_text(&q, 1);
		uint8_t hash[OL_SHA256_BYTES];
		if (id_size != sizeof entry.id || print_size != sizeof entry.fingerprint)
			continue;
		memcpy(entry.id, id, id_size);
		memcpy(entry.fingerprint, print, print_size);
		ol_sha256(hash, account, strlen(account));
		entry.account = ol_load_u64(hash);
		entry.bytes = OL_IDEMPOTENCY_ROW_BYTES + (uint32_t)ol_query_int(&q, 5);
		room = kept_put(&d->index, &entry) &&
		       accounts_add(&d->accounts, entry.account, entry.bytes);
		d->bytes += entry.bytes;
	}
	const enum ol_status s = ol_query_close(&q, err);
	return s == OL_OK && !room ? ol_fail(err, OL_ERR_FULL, "out of memory for kept answers")
				   : s;
}

static void release(struct ol_idempotency *d)
{
	ol_store_close(d->store);
	kept_release(&d->index);
	accounts_release(&d->accounts);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

enum ol_status ol_idempotency_open(struct ol_idempotency **idempotency_out,
				   const struct ol_home *home,
				   const struct ol_idempotency_options *options,
				   struct ol_error *err)
{
	struct ol_idempotency *d = calloc(1, sizeof *d);
	pthread_condattr_t monotonic;
	if (!d)
		return ol_fail(err, OL_ERR_FULL, "out of memory for kept answers");
	d->options = *options;
	if (d->options.account_bytes_max == 0)
		d->options.account_bytes_max = (uint64_t)64 << 20;
	if (d->options.bytes_max == 0)
		d->options.bytes_max = (uint64_t)1 << 30;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	enum ol_status s = ol_store_open(&d->store, home, OL_STORE_ANSWERS, err);
	if (s == OL_OK)
		s = load(d, err);
	if (s == OL_OK) {
		d->running = pthread_create(&d->thread, NULL, work, d) == 0;
		if (!d->running)
			s = ol_fail(err, OL_ERR_FULL, "cannot start the thread that keeps answers");
	}
	if (s != OL_OK) {
		release(d);
		return s;
	}
	*idempotency_out = d;
	return OL_OK;
}

void ol_idempotency_close(struct ol_idempotency *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->closing = true;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	OL_ASSERT(!d->leases); /* every lease is to be finished or released first */
	release(d);
}

void ol_idempotency_stats(struct ol_idempotency *d, struct ol_idempotency_stats *stats)
{
	pthread_mutex_lock(&d->lock);
	*stats = (struct ol_idempotency_stats){
		.answers = d->index.count, .bytes = d->bytes, .replays = d->replays};
	for (const struct ol_lease *l = d->leases; l; l = l->next) {
		stats->leases++;
		stats->waiters += l->waiter_count;
	}
	pthread_mutex_unlock(&d->lock);
}
