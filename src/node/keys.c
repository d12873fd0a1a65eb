#include "node/keys_internal.h"

#include "base/bytes.h"
#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	WATCH_MS = 250,     /* between two looks for what others have changed */
	LOOK_US = 20000,    /* between two looks because of an unknown token  */
	FLUSH_US = 1000000, /* usage is written so often                      */
	TELL_AT_ONCE = 64
};
#define MICRO INT64_C(1000000)
#define DAY (86400 * MICRO)

int64_t key_now(const struct ol_keys *keys)
{
	struct timespec t;
	if (keys->options.now)
		return keys->options.now(keys->options.context);
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * MICRO + t.tv_nsec / 1000;
}

/* ---- The table in memory ---- */

static void index_put(struct ol_keys *keys, const struct key *key)
{
	const size_t mask = keys->index_room - 1;
	size_t i = (size_t)ol_load_u64(key->hash) & mask;
	while (keys->index[i] != 0)
		i = (i + 1) & mask;
	keys->index[i] = key->n;
}

/* Room for one more key and an index that is at most half full. */
static bool grow(struct ol_keys *keys)
{
	if (keys->count == keys->room) {
		const size_t room = OL_MAX(2 * keys->room, (size_t)16);
		struct key **grown = realloc(keys->keys, room * sizeof *grown);
		if (!grown)
			return false;
		keys->keys = grown;
		keys->room = room;
	}
	if (2 * (keys->count + 1) <= keys->index_room)
		return true;
	const size_t room = OL_MAX(2 * keys->index_room, (size_t)64);
	uint32_t *index = calloc(room, sizeof *index);
	if (!index)
		return false;
	free(keys->index);
	keys->index = index;
	keys->index_room = room;
	for (size_t i = 0; i < keys->count; i++)
		index_put(keys, keys->keys[i]);
	return true;
}

static void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

static struct ol_amount amount_at(struct ol_query *q, int column)
{
	return ol_amount((uint64_t)ol_query_int(q, column));
}

static const char key_columns[] =
	"SELECT n, id, hash, name, account, scopes, hint, requests_per_minute, tokens_per_minute,"
	" tokens_per_day, tokens_total, nano_per_day, nano_total, made_at, expires_at, revoked_at"
	" FROM keys WHERE n > ?1 ORDER BY n";

static struct key *read_key(struct ol_query *q, int64_t now)
{
	size_t hash_size;
	const void *hash = ol_query_blob(q, 2, &hash_size);
	struct key *key = calloc(1, sizeof *key);
	if (!key || hash_size != OL_SHA256_BYTES) {
		free(key);
		return NULL;
	}
	struct ol_key_info *info = &key->info;
	key->n = (uint32_t)ol_query_int(q, 0);
	memcpy(key->hash, hash, OL_SHA256_BYTES);
	copy_text(info->id, sizeof info->id, ol_query_text(q, 1));
	copy_text(info->name, sizeof info->name, ol_query_text(q, 3));
	copy_text(info->account, sizeof info->account, ol_query_text(q, 4));
	copy_text(info->hint, sizeof info->hint, ol_query_text(q, 6));
	info->scopes = (uint32_t)ol_query_int(q, 5);
	info->limits = (struct ol_key_limits){
		.requests_per_minute = ol_query_int(q, 7),
		.tokens_per_minute = ol_query_int(q, 8),
		.tokens_per_day = ol_query_int(q, 9),
		.tokens_total = ol_query_int(q, 10),
		.money_per_day = amount_at(q, 11),
		.money_total = amount_at(q, 12),
	};
	info->made_at = ol_query_int(q, 13);
	info->expires_at = ol_query_int(q, 14);
	info->revoked_at = ol_query_int(q, 15);
	key->day = key->pending.day = now / DAY;
	/* Full buckets: the limits of before a restart are forgotten, the budgets are not. */
	key->requests = (struct key_bucket){info->limits.requests_per_minute * 60 * MICRO, now};
	key->tokens = (struct key_bucket){info->limits.tokens_per_minute * 60 * MICRO, now};
	return key;
}

static enum ol_status reload_keys(struct ol_keys *keys, struct ol_error *err)
{
	struct ol_query q;
	bool good = true;
	ol_query_open(&q, keys->store, key_columns);
	ol_query_bind_int(&q, (int64_t)keys->count);
	while (good && ol_query_row(&q)) {
		struct key *key = read_key(&q, key_now(keys));
		pthread_mutex_lock(&keys->lock);
		good = key && key->n == keys->count + 1 && key->n <= OL_KEYS_MAX && grow(keys);
		if (good) {
			keys->keys[keys->count++] = key;
			index_put(keys, key);
		} else {
			free(key);
		}
		pthread_mutex_unlock(&keys->lock);
	}
	const enum ol_status s = ol_query_close(&q, err);
	if (s == OL_OK && !good)
		return ol_fail(err, OL_ERR_FULL,
			       "cannot read the API keys: out of memory, or the table of keys is "
			       "damaged after row %zu",
			       keys->count);
	return s;
}

static enum ol_status reload_revoked(struct ol_keys *keys, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, keys->store, "SELECT n, revoked_at FROM keys WHERE revoked_at <> 0");
	while (ol_query_row(&q)) {
		const int64_t n = ol_query_int(&q, 0);
		pthread_mutex_lock(&keys->lock);
		if (n >= 1 && n <= (int64_t)keys->count)
			keys->keys[n - 1]->info.revoked_at = ol_query_int(&q, 1);
		pthread_mutex_unlock(&keys->lock);
	}
	return ol_query_close(&q, err);
}

/* Usage = what is written + what is not written yet. */
static enum ol_status reload_usage(struct ol_keys *keys, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, keys->store,
		      "SELECT key, sum(requests), sum(tokens), sum(nano),"
		      " sum(iif(day = ?1, requests, 0)), sum(iif(day = ?1, tokens, 0)),"
		      " sum(iif(day = ?1, nano, 0)) FROM key_usage GROUP BY key");
	ol_query_bind_int(&q, key_now(keys) / DAY);
	while (ol_query_row(&q)) {
		const int64_t n = ol_query_int(&q, 0);
		pthread_mutex_lock(&keys->lock);
		if (n >= 1 && n <= (int64_t)keys->count) {
			struct key *key = keys->keys[n - 1];
			struct ol_key_info *info = &key->info;
			const struct key_pending *p = &key->pending, *b = &key->before;
			key_roll(key, key_now(keys));
			info->requests = ol_query_int(&q, 1) + p->requests + b->requests;
			info->tokens = ol_query_int(&q, 2) + p->tokens + b->tokens;
			info->requests_today = ol_query_int(&q, 4) + p->requests;
			info->tokens_today = ol_query_int(&q, 5) + p->tokens;
			OL_ASSERT(ol_amount_add(&info->money, amount_at(&q, 3), p->money) &&
				  ol_amount_add(&info->money, info->money, b->money) &&
				  ol_amount_add(&info->money_today, amount_at(&q, 6), p->money));
		}
		pthread_mutex_unlock(&keys->lock);
	}
	return ol_query_close(&q, err);
}

enum ol_status keys_reload(struct ol_keys *keys, struct ol_error *err)
{
	enum ol_status s = reload_keys(keys, err);
	if (s == OL_OK)
		s = reload_revoked(keys, err);
	return s == OL_OK ? reload_usage(keys, err) : s;
}

bool keys_look(struct ol_keys *keys)
{
	const int64_t now = key_now(keys);
	bool found = false;
	pthread_mutex_lock(&keys->io);
	if (now - keys->looked_at > LOOK_US || now < keys->looked_at) {
		keys->looked_at = now;
		found = ol_store_changed(keys->store) && keys_reload(keys, NULL) == OL_OK;
	}
	pthread_mutex_unlock(&keys->io);
	if (found)
		keys_tell_ended(keys);
	return found;
}

void keys_tell_ended(struct ol_keys *keys)
{
	char ended[TELL_AT_ONCE][OL_KEY_ID_CHARS + 1];
	const int64_t now = key_now(keys) / MICRO;
	for (size_t i = 0, more = 1; more;) {
		int count = 0;
		pthread_mutex_lock(&keys->lock);
		for (; i < keys->count && count < TELL_AT_ONCE; i++) {
			struct key *key = keys->keys[i];
			const struct ol_key_info *info = &key->info;
			if (key->ended || (info->revoked_at == 0 &&
					   (info->expires_at == 0 || now < info->expires_at)))
				continue;
			key->ended = true;
			memcpy(ended[count++], info->id, sizeof info->id);
		}
		more = i < keys->count;
		pthread_mutex_unlock(&keys->lock);
		for (int k = 0; k < count && keys->options.on_revoked; k++)
			keys->options.on_revoked(keys->options.context, ended[k]);
	}
}

/* ---- Writing usage ---- */

static bool is_empty(const struct key_pending *p)
{
	return p->requests == 0 && p->tokens == 0 && ol_amount_is_zero(p->money);
}

static enum ol_status write_usage(struct ol_keys *keys, uint32_t n, const struct key_pending *p,
				  struct ol_error *err)
{
	struct ol_query q;
	if (is_empty(p))
		return OL_OK;
	ol_query_open(&q, keys->store,
		      "INSERT INTO key_usage (key, day, requests, tokens, nano)"
		      " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (key, day) DO UPDATE SET"
		      " requests = requests + excluded.requests, tokens = tokens + excluded.tokens,"
		      " nano = nano + excluded.nano");
	ol_query_bind_int(&q, n);
	ol_query_bind_int(&q, p->day);
	ol_query_bind_int(&q, p->requests);
	ol_query_bind_int(&q, p->tokens);
	ol_query_bind_int(&q, (int64_t)p->money.nano);
	return ol_query_run(&q, err);
}

struct written {
	uint32_t n;
	struct key_pending pending, before;
};

static void take_back(struct key_pending *to, const struct key_pending *written)
{
	to->requests -= written->requests;
	to->tokens -= written->tokens;
	OL_ASSERT(ol_amount_sub(&to->money, to->money, written->money));
}

/* What is being written is taken off only when it is durable, so that a failure loses nothing. A
 * day that ends meanwhile moves `pending` to `before`. */
static void mark_written(struct ol_keys *keys, const struct written *rows, size_t count)
{
	pthread_mutex_lock(&keys->lock);
	for (size_t i = 0; i < count; i++) {
		struct key *key = keys->keys[rows[i].n - 1];
		take_back(&key->before, &rows[i].before);
		take_back(key->pending.day == rows[i].pending.day ? &key->pending : &key->before,
			  &rows[i].pending);
	}
	pthread_mutex_unlock(&keys->lock);
}

/* The caller holds io. */
static enum ol_status flush(struct ol_keys *keys, struct ol_error *err)
{
	size_t count = 0, n = 0;
	pthread_mutex_lock(&keys->lock);
	for (size_t i = 0; i < keys->count; i++)
		n += !is_empty(&keys->keys[i]->pending) || !is_empty(&keys->keys[i]->before);
	struct written *rows = n > 0 ? malloc(n * sizeof *rows) : NULL;
	for (size_t i = 0; rows && i < keys->count; i++) {
		const struct key *key = keys->keys[i];
		if (!is_empty(&key->pending) || !is_empty(&key->before))
			rows[count++] = (struct written){key->n, key->pending, key->before};
	}
	pthread_mutex_unlock(&keys->lock);
	if (n == 0)
		return OL_OK;
	if (!rows)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the usage of API keys");
	enum ol_status s = ol_store_begin(keys->store, err);
	if (s == OL_OK) {
		for (size_t i = 0; i < count && s == OL_OK; i++) {
			s = write_usage(keys, rows[i].n, &rows[i].before, err);
			if (s == OL_OK)
				s = write_usage(keys, rows[i].n, &rows[i].pending, err);
		}
		s = ol_store_end(keys->store, s, err);
	}
	if (s == OL_OK)
		mark_written(keys, rows, count);
	free(rows);
	return s;
}

enum ol_status ol_keys_poll(struct ol_keys *keys, struct ol_error *err)
{
	pthread_mutex_lock(&keys->io);
	enum ol_status s = flush(keys, err);
	if (ol_store_changed(keys->store) && s == OL_OK)
		s = keys_reload(keys, err);
	pthread_mutex_unlock(&keys->io);
	keys_tell_ended(keys);
	return s;
}

/* ---- Opening ---- */

static void *watch(void *context)
{
	struct ol_keys *keys = context;
	int64_t flushed = key_now(keys);
	pthread_mutex_lock(&keys->lock);
	while (!keys->closing) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += WATCH_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&keys->wake, &keys->lock, &until);
		if (keys->closing)
			break;
		pthread_mutex_unlock(&keys->lock);
		const int64_t now = key_now(keys);
		/* What cannot be written or read now is tried again in the next round. */
		if (now - flushed >= FLUSH_US || now < flushed) {
			(void)ol_keys_poll(keys, NULL);
			flushed = now;
		} else if (keys_look(keys)) {
			keys_tell_ended(keys);
		}
		pthread_mutex_lock(&keys->lock);
	}
	pthread_mutex_unlock(&keys->lock);
	return NULL;
}

static void init_locks(struct ol_keys *keys)
{
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&keys->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&keys->io, NULL);
	pthread_mutex_init(&keys->lock, NULL);
}

static void release(struct ol_keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		free(keys->keys[i]);
	free(keys->keys);
	free(keys->index);
	pthread_cond_destroy(&keys->wake);
	pthread_mutex_destroy(&keys->io);
	pthread_mutex_destroy(&keys->lock);
	free(keys);
}

enum ol_status ol_keys_open(struct ol_keys **keys_out, struct ol_store *store,
			    const struct ol_keys_options *options, struct ol_error *err)
{
	struct ol_keys *keys = calloc(1, sizeof *keys);
	if (!keys)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the API keys");
	keys->store = store;
	keys->options = *options;
	init_locks(keys);
	enum ol_status s = keys_reload(keys, err);
	/* What ended before this process began is no news. */
	for (size_t i = 0; i < keys->count; i++)
		keys->keys[i]->ended = keys->keys[i]->info.revoked_at != 0;
	if (s == OL_OK && options->watch) {
		keys->watching = pthread_create(&keys->watcher, NULL, watch, keys) == 0;
		if (!keys->watching)
			s = ol_fail(err, OL_ERR_FULL, "cannot start the thread that watches keys");
	}
	if (s != OL_OK) {
		release(keys);
		return s;
	}
	*keys_out = keys;
	return OL_OK;
}

enum ol_status ol_keys_close(struct ol_keys *keys, struct ol_error *err)
{
	if (!keys)
		return OL_OK;
	if (keys->watching) {
		pthread_mutex_lock(&keys->lock);
		keys->closing = true;
		pthread_cond_signal(&keys->wake);
		pthread_mutex_unlock(&keys->lock);
		pthread_join(keys->watcher, NULL);
	}
	const enum ol_status s = flush(keys, err);
	release(keys);
	return s;
}

/* ---- Making and ending keys ---- */

static enum ol_status check_number(const char *what, int64_t value, struct ol_error *err)
{
	if (value >= 0 && value <= OL_KEY_LIMIT_MAX)
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT,
		       "%s is %lld; it must lie between 1 and %lld, or be 0 for "
		       "no limit",
		       what, (long long)value, (long long)OL_KEY_LIMIT_MAX);
}

static enum ol_status check_account(const char *account, struct ol_error *err)
{
	const size_t length = strlen(account);
	if (length <= OL_ACCOUNT_MAX && ol_name_check(account, NULL) == OL_OK)
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT,
		       "\"%s\" is not an account: use at most %d letters, digits, '.', '_', '-' "
		       "and ':', beginning with a letter or digit",
		       account, OL_ACCOUNT_MAX);
}

static enum ol_status check_wish(const struct ol_keys *keys, const struct ol_key_wish *w,
				 struct ol_error *err)
{
	const struct ol_key_limits *l = &w->limits;
	enum ol_status s = check_account(w->account ? w->account : OL_ACCOUNT_LOCAL, err);
	if (s == OL_OK && w->name && strlen(w->name) > OL_KEY_NAME_MAX)
		s = ol_fail(err, OL_ERR_INPUT, "a key's name has at most %d bytes",
			    OL_KEY_NAME_MAX);
	for (const char *p = w->name ? w->name : ""; s == OL_OK && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			s = ol_fail(err, OL_ERR_INPUT,
				    "a key's name must not hold control characters");
	if (s == OL_OK && (w->scopes == 0 || w->scopes & ~(uint32_t)OL_SCOPES_ALL))
		s = ol_fail(err, OL_ERR_INPUT, "a key needs at least one scope of those there are");
	if (s == OL_OK)
		s = check_number("requests per minute", l->requests_per_minute, err);
	if (s == OL_OK)
		s = check_number("tokens per minute", l->tokens_per_minute, err);
	if (s == OL_OK)
		s = check_number("tokens per day", l->tokens_per_day, err);
	if (s == OL_OK)
		s = check_number("tokens in all", l->tokens_total, err);
	const struct ol_amount supply = ol_amount(UINT64_C(1000000000) * OL_NANO_PER_OPEN);
	if (s == OL_OK && (ol_amount_compare(l->money_per_day, supply) > 0 ||
			   ol_amount_compare(l->money_total, supply) > 0))
		s = ol_fail(err, OL_ERR_INPUT, "a budget cannot exceed the supply of 10^9 OPEN");
	if (s == OL_OK && w->expires_at != 0 && w->expires_at <= key_now(keys) / MICRO)
		s = ol_fail(err, OL_ERR_INPUT, "the key would have expired already");
	return s;
}

static enum ol_status insert_key(struct ol_keys *keys, const char *token, const char *id,
				 const struct ol_key_wish *w, struct ol_error *err)
{
	const struct ol_key_limits *l = &w->limits;
	uint8_t hash[OL_SHA256_BYTES];
	char hint[OL_KEY_HINT_CHARS + 1] = "";
	struct ol_query q;
	ol_sha256(hash, token, OL_KEY_TOKEN_CHARS);
	memcpy(hint, token, OL_KEY_HINT_CHARS);
	ol_query_open(&q, keys->store,
		      "INSERT INTO keys (id, hash, name, account, scopes, hint,"
		      " requests_per_minute, tokens_per_minute, tokens_per_day, tokens_total,"
		      " nano_per_day, nano_total, made_at, expires_at, revoked_at)"
		      " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)");
	ol_query_bind_text(&q, id);
	ol_query_bind_blob(&q, hash, sizeof hash);
	ol_query_bind_text(&q, w->name ? w->name : "");
	ol_query_bind_text(&q, w->account ? w->account : OL_ACCOUNT_LOCAL);
	ol_query_bind_int(&q, w->scopes);
	ol_query_bind_text(&q, hint);
	ol_query_bind_int(&q, l->requests_per_minute);
	ol_query_bind_int(&q, l->tokens_per_minute);
	ol_query_bind_int(&q, l->tokens_per_day);
	ol_query_bind_int(&q, l->tokens_total);
	ol_query_bind_int(&q, (int64_t)l->money_per_day.nano);
	ol_query_bind_int(&q, (int64_t)l->money_total.nano);
	ol_query_bind_int(&q, key_now(keys) / MICRO);
	ol_query_bind_int(&q, w->expires_at);
	return ol_query_run(&q, err);
}

enum ol_status ol_keys_add(struct ol_keys *keys, char token_out[OL_KEY_TOKEN_CHARS + 1],
			   struct ol_key_info *info_out, const struct ol_key_wish *wish,
			   struct ol_error *err)
{
	char id[OL_KEY_ID_CHARS + 1];
	enum ol_status s = check_wish(keys, wish, err);
	if (s != OL_OK)
		return s;
	key_token_make(token_out, id);
	pthread_mutex_lock(&keys->io);
	if (keys->count >= OL_KEYS_MAX)
		s = ol_fail(err, OL_ERR_FULL, "this node has made %d keys, and makes no more",
			    OL_KEYS_MAX);
	if (s == OL_OK)
		s = insert_key(keys, token_out, id, wish, err);
	if (s == OL_OK)
		s = keys_reload(keys, err);
	pthread_mutex_unlock(&keys->io);
	if (s != OL_OK)
		ol_wipe(token_out, OL_KEY_TOKEN_CHARS + 1);
	else
		OL_ASSERT(ol_keys_find(keys, id, info_out));
	return s;
}

enum ol_status ol_keys_revoke(struct ol_keys *keys, const char *id, struct ol_error *err)
{
	struct ol_query q;
	struct ol_key_info info;
	pthread_mutex_lock(&keys->io);
	ol_query_open(&q, keys->store,
		      "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at = 0");
	ol_query_bind_int(&q, key_now(keys) / MICRO);
	ol_query_bind_text(&q, id);
	enum ol_status s = ol_query_run(&q, err);
	if (s == OL_OK)
		s = keys_reload(keys, err);
	pthread_mutex_unlock(&keys->io);
	if (s == OL_OK && !ol_keys_find(keys, id, &info))
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "there is no key \"%s\"; `openledger keys list` shows those that there "
			    "are",
			    id);
	if (s == OL_OK)
		keys_tell_ended(keys);
	return s;
}

bool ol_keys_at(struct ol_keys *keys, size_t index, struct ol_key_info *info_out)
{
	pthread_mutex_lock(&keys->lock);
	const bool found = index < keys->count;
	if (found) {
		key_roll(keys->keys[index], key_now(keys));
		*info_out = keys->keys[index]->info;
	}
	pthread_mutex_unlock(&keys->lock);
	return found;
}

bool ol_keys_find(struct ol_keys *keys, const char *id, struct ol_key_info *info_out)
{
	for (size_t i = 0; ol_keys_at(keys, i, info_out); i++)
		if (strcmp(info_out->id, id) == 0)
			return true;
	return false;
}
