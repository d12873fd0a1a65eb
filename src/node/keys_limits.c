/* Judging a request: admit, reserve, settle. Only memory is touched. */
#include "node/keys_internal.h"

#include "base/bytes.h"
#include "crypto/secret.h"

#include <string.h>

#define MICRO INT64_C(1000000)
#define MINUTE (60 * MICRO)
#define DAY (86400 * MICRO)

/* ---- Buckets ---- */

/* limit <= OL_KEY_LIMIT_MAX: limit * MINUTE and every sum here stay below 2^63. */
static void bucket_fill(struct key_bucket *b, int64_t limit, int64_t now)
{
	const int64_t full = limit * MINUTE;
	int64_t passed = now - b->at;
	if (passed < 0) /* the clock was set back: begin to count from there */
		passed = 0;
	b->at = now;
	if (passed >= MINUTE && b->level >= 0)
		b->level = full;
	else
		b->level = OL_MIN(full, b->level + OL_MIN(passed, MINUTE) * limit);
}

/* Seconds, rounded up, until `count` can be taken. */
static int bucket_wait(const struct key_bucket *b, int64_t limit, int64_t count)
{
	const int64_t lacking = count * MINUTE - b->level;
	return lacking <= 0 ? 0 : (int)((lacking / limit + MICRO) / MICRO);
}

/* ---- Counters ---- */

static void add(struct ol_amount *sum, struct ol_amount more)
{
	/* What one key spends is bounded by the supply, which fits. */
	OL_ASSERT(ol_amount_add(sum, *sum, more));
}

void key_roll(struct key *key, int64_t now)
{
	const int64_t day = now / DAY;
	if (day <= key->day)
		return;
	key->before.day = key->pending.day;
	key->before.requests += key->pending.requests;
	key->before.tokens += key->pending.tokens;
	add(&key->before.money, key->pending.money);
	key->pending = (struct key_pending){.day = day};
	key->info.requests_today = key->info.tokens_today = 0;
	key->info.money_today = (struct ol_amount){0};
	key->day = day;
}

/* Does used + reserved + more stay within the limit? 0: there is none. */
static bool fits(int64_t limit, int64_t used, int64_t reserved, int64_t more)
{
	return limit == 0 || (more <= limit && used <= limit && reserved <= limit &&
			      used + reserved + more <= limit);
}

static bool affords(struct ol_amount limit, struct ol_amount used, struct ol_amount reserved,
		    struct ol_amount more)
{
	struct ol_amount sum;
	if (ol_amount_is_zero(limit))
		return true;
	return ol_amount_add(&sum, used, reserved) && ol_amount_add(&sum, sum, more) &&
	       ol_amount_compare(sum, limit) <= 0;
}

static int until_tomorrow(int64_t now)
{
	return (int)((DAY - now % DAY + MICRO - 1) / MICRO);
}

/* ---- Admission ---- */

struct key *key_lookup(const struct ol_keys *keys, const uint8_t hash[OL_SHA256_BYTES])
{
	if (keys->index_room == 0)
		return NULL;
	const size_t mask = keys->index_room - 1;
	for (size_t i = (size_t)ol_load_u64(hash) & mask; keys->index[i] != 0; i = (i + 1) & mask) {
		struct key *key = keys->keys[keys->index[i] - 1];
		if (ol_secret_equal(key->hash, hash, OL_SHA256_BYTES))
			return key;
	}
	return NULL;
}

static uint64_t tenant_of(const char *account)
{
	uint8_t hash[OL_SHA256_BYTES];
	ol_sha256(hash, account, strlen(account));
	return ol_load_u64(hash);
}

static enum ol_verdict judge(struct key *key, int *retry_out, enum ol_scope scope, int64_t now)
{
	const struct ol_key_info *info = &key->info;
	if (info->revoked_at != 0)
		return OL_VERDICT_REVOKED;
	if (info->expires_at != 0 && now / MICRO >= info->expires_at)
		return OL_VERDICT_EXPIRED;
	if (!(info->scopes & ((uint32_t)scope | OL_SCOPE_ADMIN)))
		return OL_VERDICT_SCOPE;
	const int64_t limit = info->limits.requests_per_minute;
	if (limit > 0) {
		bucket_fill(&key->requests, limit, now);
		*retry_out = bucket_wait(&key->requests, limit, 1);
		if (*retry_out > 0)
			return OL_VERDICT_REQUESTS;
		key->requests.level -= MINUTE;
	}
	key_roll(key, now);
	key->info.requests_today++;
	key->info.requests++;
	key->pending.requests++;
	return OL_VERDICT_OK;
}

static enum ol_verdict admit_local(const struct ol_keys *keys, struct ol_caller *caller)
{
	if (!keys->options.local || keys->count > 0)
		return OL_VERDICT_NO_KEY;
	memcpy(caller->account, OL_ACCOUNT_LOCAL, sizeof OL_ACCOUNT_LOCAL);
	caller->tenant = tenant_of(OL_ACCOUNT_LOCAL);
	caller->scopes = OL_SCOPES_ALL;
	return OL_VERDICT_OK;
}

static enum ol_verdict admit_hash(struct ol_keys *keys, struct ol_caller *caller, int *retry_out,
				  const uint8_t hash[OL_SHA256_BYTES], enum ol_scope scope)
{
	struct key *key = key_lookup(keys, hash);
	if (!key)
		return OL_VERDICT_UNKNOWN;
	const enum ol_verdict verdict = judge(key, retry_out, scope, key_now(keys));
	if (verdict != OL_VERDICT_OK)
		return verdict;
	caller->key = key->n;
	memcpy(caller->key_id, key->info.id, sizeof caller->key_id);
	memcpy(caller->account, key->info.account, sizeof caller->account);
	caller->scopes = key->info.scopes;
	caller->tenant = tenant_of(caller->account);
	return OL_VERDICT_OK;
}

enum ol_verdict ol_keys_admit(struct ol_keys *keys, struct ol_caller *caller_out, int *retry_out,
			      const char *token, enum ol_scope scope)
{
	uint8_t hash[OL_SHA256_BYTES];
	*caller_out = (struct ol_caller){0};
	*retry_out = 0;
	/* Client libraries insist on some key: where none is needed, any will do. */
	pthread_mutex_lock(&keys->lock);
	const enum ol_verdict local = admit_local(keys, caller_out);
	pthread_mutex_unlock(&keys->lock);
	if (local == OL_VERDICT_OK || !token || !*token)
		return local;
	if (!ol_key_token_check(token))
		return OL_VERDICT_MALFORMED;
	ol_sha256(hash, token, OL_KEY_TOKEN_CHARS);
	for (int round = 0;; round++) {
		pthread_mutex_lock(&keys->lock);
		const enum ol_verdict verdict =
			admit_hash(keys, caller_out, retry_out, hash, scope);
		pthread_mutex_unlock(&keys->lock);
		/* It may have been made a moment ago by `openledger keys add`. */
		if (verdict != OL_VERDICT_UNKNOWN || round > 0 || !keys_look(keys))
			return verdict;
	}
}

bool ol_keys_valid(struct ol_keys *keys, const struct ol_caller *caller)
{
	if (caller->key == 0)
		return true;
	pthread_mutex_lock(&keys->lock);
	const struct ol_key_info *info = &keys->keys[caller->key - 1]->info;
	const bool valid = info->revoked_at == 0 &&
			   (info->expires_at == 0 || key_now(keys) / MICRO < info->expires_at);
	pthread_mutex_unlock(&keys->lock);
	return valid;
}

/* ---- Budgets ---- */

static enum ol_verdict judge_budgets(struct key *key, int *retry_out, int64_t tokens,
				     struct ol_amount money, int64_t now)
{
	const struct ol_key_info *info = &key->info;
	const struct ol_key_limits *limits = &info->limits;
	key_roll(key, now);
	if (!fits(limits->tokens_total, info->tokens, key->reserved_tokens, tokens))
		return OL_VERDICT_TOKENS_TOTAL;
	if (!affords(limits->money_total, info->money, key->reserved_money, money))
		return OL_VERDICT_MONEY_TOTAL;
	*retry_out = until_tomorrow(now);
	if (!fits(limits->tokens_per_day, info->tokens_today, key->reserved_tokens, tokens))
		return OL_VERDICT_TOKENS_DAY;
	if (!affords(limits->money_per_day, info->money_today, key->reserved_money, money))
		return OL_VERDICT_MONEY_DAY;
	*retry_out = 0;
	const int64_t limit = limits->tokens_per_minute;
	if (limit == 0)
		return OL_VERDICT_OK;
	if (tokens > limit)
		return OL_VERDICT_TOO_LARGE;
	bucket_fill(&key->tokens, limit, now);
	*retry_out = bucket_wait(&key->tokens, limit, tokens);
	if (*retry_out > 0)
		return OL_VERDICT_TOKENS_MINUTE;
	key->tokens.level -= tokens * MINUTE;
	return OL_VERDICT_OK;
}

enum ol_verdict ol_keys_reserve(struct ol_keys *keys, struct ol_reservation *reservation_out,
				int *retry_out, const struct ol_caller *caller, int64_t tokens,
				struct ol_amount money)
{
	OL_ASSERT(tokens >= 0 && tokens <= OL_KEY_LIMIT_MAX);
	*reservation_out = (struct ol_reservation){0};
	*retry_out = 0;
	if (caller->key == 0)
		return OL_VERDICT_OK;
	pthread_mutex_lock(&keys->lock);
	struct key *key = keys->keys[caller->key - 1];
	const enum ol_verdict verdict = judge_budgets(key, retry_out, tokens, money, key_now(keys));
	if (verdict == OL_VERDICT_OK) {
		key->reserved_tokens += tokens;
		add(&key->reserved_money, money);
		*reservation_out = (struct ol_reservation){caller->key, tokens, money};
	}
	pthread_mutex_unlock(&keys->lock);
	return verdict;
}

void ol_keys_settle(struct ol_keys *keys, struct ol_reservation *reservation, int64_t tokens,
		    struct ol_amount money)
{
	OL_ASSERT(tokens >= 0 && tokens <= OL_KEY_LIMIT_MAX);
	if (reservation->key == 0)
		return;
	pthread_mutex_lock(&keys->lock);
	struct key *key = keys->keys[reservation->key - 1];
	const int64_t now = key_now(keys), limit = key->info.limits.tokens_per_minute;
	key_roll(key, now);
	key->reserved_tokens -= reservation->tokens;
	OL_ASSERT(ol_amount_sub(&key->reserved_money, key->reserved_money, reservation->money));
	key->info.tokens += tokens;
	key->info.tokens_today += tokens;
	key->pending.tokens += tokens;
	add(&key->info.money, money);
	add(&key->info.money_today, money);
	add(&key->pending.money, money);
	if (limit > 0) {
		/* At most a minute's debt: the sums stay far below 2^63. */
		const int64_t more = OL_MIN(tokens, 2 * limit) - reservation->tokens;
		bucket_fill(&key->tokens, limit, now);
		key->tokens.level = OL_MAX(
			OL_MIN(key->tokens.level - more * MINUTE, limit * MINUTE), -limit * MINUTE);
	}
	*reservation = (struct ol_reservation){0};
	pthread_mutex_unlock(&keys->lock);
}
