/* API keys: their form, every verdict, budgets that cannot be overspent, revocation by another
 * process, usage that survives. */
#include "node/keys.h"
#include "node/test_folder.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
/* Noon of some day. */
#define START (INT64_C(20000) * 86400 * SECOND + 12 * HOUR)

struct world {
	struct ol_home home;
	struct ol_store *store;
	struct ol_keys *keys;
	int64_t now;
	char ended[16][OL_KEY_ID_CHARS + 1];
	int ended_count;
};

static int64_t world_now(void *context)
{
	return ((struct world *)context)->now;
}

static void world_ended(void *context, const char *id)
{
	struct world *w = context;
	assert_true(w->ended_count < 16);
	snprintf(w->ended[w->ended_count++], sizeof w->ended[0], "%s", id);
}

static void open_keys(struct world *w, bool local)
{
	const struct ol_keys_options options = {
		.local = local, .on_revoked = world_ended, .context = w, .now = world_now};
	assert_int_equal(ol_store_open(&w->store, &w->home, OL_STORE_NODE, NULL), OL_OK);
	assert_int_equal(ol_keys_open(&w->keys, w->store, &options, NULL), OL_OK);
}

static void close_keys(struct world *w)
{
	assert_int_equal(ol_keys_close(w->keys, NULL), OL_OK);
	ol_store_close(w->store);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	test_home_make(&w->home);
	w->now = START;
	open_keys(w, false);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	close_keys(w);
	test_folder_remove(w->home.path);
	free(w);
	return 0;
}

static struct ol_key_info add(struct world *w, char token[OL_KEY_TOKEN_CHARS + 1],
			      struct ol_key_wish wish)
{
	struct ol_key_info info;
	if (wish.scopes == 0)
		wish.scopes = OL_SCOPES_DEFAULT;
	assert_int_equal(ol_keys_add(w->keys, token, &info, &wish, NULL), OL_OK);
	return info;
}

static enum ol_verdict admit(struct world *w, const char *token, enum ol_scope scope)
{
	struct ol_caller caller;
	int retry;
	return ol_keys_admit(w->keys, &caller, &retry, token, scope);
}

static void tokens_have_a_form(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1], other[OL_KEY_TOKEN_CHARS + 1];
	add(w, token, (struct ol_key_wish){0});
	add(w, other, (struct ol_key_wish){0});
	assert_string_not_equal(token, other);
	assert_int_equal(strlen(token), OL_KEY_TOKEN_CHARS);
	assert_memory_equal(token, "ol-", 3);
	for (int i = 3; i < OL_KEY_TOKEN_CHARS; i++)
		assert_non_null(strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "abcdefghijklmnopqrstuvwxyz",
				       token[i]));
	assert_true(ol_key_token_check(token));
	/* Every single typing error is seen. */
	for (int i = 0; i < OL_KEY_TOKEN_CHARS; i++) {
		char wrong[OL_KEY_TOKEN_CHARS + 1];
		memcpy(wrong, token, sizeof wrong);
		wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
		assert_false(ol_key_token_check(wrong));
		memcpy(wrong, token, sizeof wrong);
		wrong[i] = '\0';
		assert_false(ol_key_token_check(wrong));
	}
	char longer[OL_KEY_TOKEN_CHARS + 2];
	snprintf(longer, sizeof longer, "%s0", token);
	assert_false(ol_key_token_check(longer));
}

/* CRC-32 of the token's head, counted elsewhere: the form is a promise to scanners. */
static void the_checksum_is_the_documented_one(void **state)
{
	(void)state;
	assert_true(ol_key_token_check("ol-0000000000000000000000000000000000000000000"
				       "2mzihF"));
}

static void only_a_hash_is_kept(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1], path[OL_PATH_MAX];
	struct stat about;
	add(w, token, (struct ol_key_wish){.name = "mine"});
	assert_int_equal(ol_path_join(path, NULL, w->home.path, "/node.sqlite3", ""), OL_OK);
	assert_int_equal(stat(path, &about), 0);
	assert_int_equal(about.st_mode & 0777, 0600);
	FILE *file = fopen(path, "rb");
	char *bytes = malloc((size_t)about.st_size);
	assert_int_equal(fread(bytes, 1, (size_t)about.st_size, file), about.st_size);
	fclose(file);
	bool name = false;
	for (off_t i = 0; i + OL_KEY_HINT_CHARS + 1 < about.st_size; i++) {
		name |= memcmp(bytes + i, "mine", 4) == 0;
		assert_memory_not_equal(bytes + i, token + 3, OL_KEY_HINT_CHARS - 2);
	}
	assert_true(name);
	free(bytes);
}

static void verdicts_have_rows(void **state)
{
	(void)state;
	static const struct {
		enum ol_verdict verdict;
		int http;
		bool retry;
	} rows[] = {
		{OL_VERDICT_OK, 200, false},           {OL_VERDICT_NO_KEY, 401, false},
		{OL_VERDICT_MALFORMED, 401, false},    {OL_VERDICT_UNKNOWN, 401, false},
		{OL_VERDICT_REVOKED, 401, false},      {OL_VERDICT_EXPIRED, 401, false},
		{OL_VERDICT_SCOPE, 403, false},        {OL_VERDICT_REQUESTS, 429, true},
		{OL_VERDICT_TOKENS_MINUTE, 429, true}, {OL_VERDICT_TOO_LARGE, 413, false},
		{OL_VERDICT_TOKENS_DAY, 429, true},    {OL_VERDICT_TOKENS_TOTAL, 403, false},
		{OL_VERDICT_MONEY_DAY, 402, true},     {OL_VERDICT_MONEY_TOTAL, 402, false},
	};
	assert_int_equal(OL_ARRAY_LEN(rows), OL_VERDICTS);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_verdict_row *row = ol_verdict_row(rows[i].verdict);
		assert_int_equal(row->http, rows[i].http);
		assert_int_equal(row->retry, rows[i].retry);
		assert_true(row->verdict == OL_VERDICT_OK || strlen(row->sentence) > 20);
	}
}

static void admission_gives_every_verdict(void **state)
{
	struct world *w = *state;
	char good[OL_KEY_TOKEN_CHARS + 1], revoked[OL_KEY_TOKEN_CHARS + 1],
		expired[OL_KEY_TOKEN_CHARS + 1], admin[OL_KEY_TOKEN_CHARS + 1];
	struct ol_caller caller;
	int retry;
	const struct ol_key_info info = add(w, good, (struct ol_key_wish){.account = "0xabc"});
	const struct ol_key_info dead = add(w, revoked, (struct ol_key_wish){0});
	add(w, expired, (struct ol_key_wish){.expires_at = START / SECOND + 10});
	add(w, admin, (struct ol_key_wish){.scopes = OL_SCOPE_ADMIN});
	assert_int_equal(admit(w, expired, OL_SCOPE_FILES), OL_VERDICT_OK);
	assert_int_equal(ol_keys_revoke(w->keys, dead.id, NULL), OL_OK);
	assert_int_equal(ol_keys_revoke(w->keys, dead.id, NULL), OL_OK);
	assert_int_equal(ol_keys_revoke(w->keys, "key-000000000000", NULL), OL_ERR_NOT_FOUND);
	w->now += 10 * SECOND;
	const struct {
		const char *token;
		enum ol_scope scope;
		enum ol_verdict verdict;
	} rows[] = {
		{NULL, OL_SCOPE_FILES, OL_VERDICT_NO_KEY},
		{"", OL_SCOPE_FILES, OL_VERDICT_NO_KEY},
		{"sk-something-else", OL_SCOPE_FILES, OL_VERDICT_MALFORMED},
		{"ol-00000000000000000000000000000000000000000002mzihF", OL_SCOPE_FILES,
		 OL_VERDICT_UNKNOWN},
		{revoked, OL_SCOPE_FILES, OL_VERDICT_REVOKED},
		{expired, OL_SCOPE_FILES, OL_VERDICT_EXPIRED},
		{good, OL_SCOPE_LEDGER, OL_VERDICT_SCOPE},
		{good, OL_SCOPE_ADMIN, OL_VERDICT_SCOPE},
		{good, OL_SCOPE_FILES, OL_VERDICT_OK},
		{admin, OL_SCOPE_FILES, OL_VERDICT_OK},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		assert_int_equal(
			ol_keys_admit(w->keys, &caller, &retry, rows[i].token, rows[i].scope),
			rows[i].verdict);
		if (rows[i].verdict != OL_VERDICT_OK)
			assert_int_equal(caller.account[0], 0);
	}
	assert_int_equal(ol_keys_admit(w->keys, &caller, &retry, good, OL_SCOPE_JOBS),
			 OL_VERDICT_OK);
	assert_string_equal(caller.account, "0xabc");
	assert_string_equal(caller.key_id, info.id);
	assert_int_equal(caller.scopes, OL_SCOPES_DEFAULT);
	assert_true(ol_keys_valid(w->keys, &caller));
	assert_int_equal(ol_keys_revoke(w->keys, info.id, NULL), OL_OK);
	assert_false(ol_keys_valid(w->keys, &caller));
}

static void local_needs_no_key_until_one_is_made(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1];
	struct ol_caller caller;
	int retry;
	close_keys(w);
	open_keys(w, true);
	assert_int_equal(ol_keys_admit(w->keys, &caller, &retry, NULL, OL_SCOPE_ADMIN),
			 OL_VERDICT_OK);
	assert_string_equal(caller.account, "local");
	assert_int_equal(caller.key, 0);
	/* Client libraries insist on sending some key. */
	assert_int_equal(admit(w, "nonsense", OL_SCOPE_FILES), OL_VERDICT_OK);
	const struct ol_key_info info = add(w, token, (struct ol_key_wish){0});
	assert_int_equal(admit(w, NULL, OL_SCOPE_FILES), OL_VERDICT_NO_KEY);
	assert_int_equal(admit(w, "nonsense", OL_SCOPE_FILES), OL_VERDICT_MALFORMED);
	/* Revoking the last one must not open the door again. */
	assert_int_equal(ol_keys_revoke(w->keys, info.id, NULL), OL_OK);
	assert_int_equal(admit(w, NULL, OL_SCOPE_FILES), OL_VERDICT_NO_KEY);
}

static void bad_wishes_are_refused(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1], long_name[OL_KEY_NAME_MAX + 2];
	struct ol_key_info info;
	struct ol_error err;
	memset(long_name, 'n', sizeof long_name);
	long_name[OL_KEY_NAME_MAX + 1] = '\0';
	const struct {
		struct ol_key_wish wish;
		const char *says;
	} rows[] = {
		{{.scopes = 0}, "scope"},
		{{.scopes = 1u << 20}, "scope"},
		{{.scopes = 1, .account = "a b"}, "account"},
		{{.scopes = 1, .account = ""}, "account"},
		{{.scopes = 1, .name = "a\nb"}, "control"},
		{{.scopes = 1, .name = long_name}, "64 bytes"},
		{{.scopes = 1, .expires_at = START / SECOND}, "expired"},
		{{.scopes = 1, .limits = {.requests_per_minute = -1}}, "requests per minute"},
		{{.scopes = 1, .limits = {.tokens_per_minute = OL_KEY_LIMIT_MAX + 1}},
		 "tokens per minute"},
		{{.scopes = 1, .limits = {.tokens_per_day = -5}}, "tokens per day"},
		{{.scopes = 1, .limits = {.tokens_total = -5}}, "tokens in all"},
		{{.scopes = 1, .limits = {.money_total = {UINT64_MAX}}}, "supply"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		assert_int_equal(ol_keys_add(w->keys, token, &info, &rows[i].wish, &err),
				 OL_ERR_INPUT);
		assert_non_null(strstr(err.text, rows[i].says));
	}
	assert_false(ol_keys_at(w->keys, 0, &info));
}

static void scopes_have_names(void **state)
{
	(void)state;
	uint32_t scopes;
	struct ol_buf text;
	struct ol_error err;
	ol_buf_init(&text, 1000);
	assert_true(ol_scopes_write(&text, OL_SCOPES_ALL));
	assert_int_equal(ol_scopes_parse(&scopes, text.data, NULL), OL_OK);
	assert_int_equal(scopes, OL_SCOPES_ALL);
	assert_int_equal(ol_scopes_parse(&scopes, "files,jobs", NULL), OL_OK);
	assert_int_equal(scopes, OL_SCOPE_FILES | OL_SCOPE_JOBS);
	assert_string_equal(ol_scope_name(OL_SCOPE_ADMIN), "admin");
	static const char *const bad[] = {"", "files,", ",files", "file", "files jobs", "FILES"};
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		assert_int_equal(ol_scopes_parse(&scopes, bad[i], &err), OL_ERR_INPUT);
		assert_non_null(strstr(err.text, "inference"));
	}
	ol_buf_release(&text);
}

static void requests_per_minute_is_a_bucket(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1];
	struct ol_caller caller;
	int retry;
	add(w, token, (struct ol_key_wish){.limits = {.requests_per_minute = 3}});
	for (int i = 0; i < 3; i++)
		assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_OK);
	assert_int_equal(ol_keys_admit(w->keys, &caller, &retry, token, OL_SCOPE_FILES),
			 OL_VERDICT_REQUESTS);
	assert_in_range(retry, 20, 21);
	w->now += 20 * SECOND - 1;
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_REQUESTS);
	w->now += 1;
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_OK);
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_REQUESTS);
	/* A clock that is set back neither locks nor opens. */
	w->now -= 1000 * SECOND;
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_REQUESTS);
	w->now += 20 * SECOND;
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_OK);
}

static void budgets_give_every_verdict(void **state)
{
	struct world *w = *state;
	const struct {
		struct ol_key_limits limits;
		int64_t tokens;
		struct ol_amount money;
		enum ol_verdict verdict;
		int retry_low, retry_high;
	} rows[] = {
		{{0}, OL_KEY_LIMIT_MAX, {1}, OL_VERDICT_OK, 0, 0},
		{{.tokens_per_minute = 99}, 50, {0}, OL_VERDICT_TOKENS_MINUTE, 1, 1},
		{{.tokens_per_minute = 100}, 50, {0}, OL_VERDICT_OK, 0, 0},
		{{.tokens_per_minute = 49}, 50, {0}, OL_VERDICT_TOO_LARGE, 0, 0},
		{{.tokens_per_day = 99}, 50, {0}, OL_VERDICT_TOKENS_DAY, 43200, 43200},
		{{.tokens_per_day = 100}, 50, {0}, OL_VERDICT_OK, 0, 0},
		{{.tokens_total = 99}, 50, {0}, OL_VERDICT_TOKENS_TOTAL, 0, 0},
		{{.tokens_total = 100}, 50, {0}, OL_VERDICT_OK, 0, 0},
		{{.money_per_day = {19}}, 0, {10}, OL_VERDICT_MONEY_DAY, 43200, 43200},
		{{.money_per_day = {20}}, 0, {10}, OL_VERDICT_OK, 0, 0},
		{{.money_total = {19}}, 0, {10}, OL_VERDICT_MONEY_TOTAL, 0, 0},
		{{.money_total = {20}}, 0, {10}, OL_VERDICT_OK, 0, 0},
		{{.money_total = {UINT64_C(1) << 59}},
		 0,
		 {UINT64_MAX},
		 OL_VERDICT_MONEY_TOTAL,
		 0,
		 0},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char token[OL_KEY_TOKEN_CHARS + 1];
		struct ol_caller caller;
		struct ol_reservation first, second;
		int retry;
		add(w, token, (struct ol_key_wish){.limits = rows[i].limits});
		assert_int_equal(ol_keys_admit(w->keys, &caller, &retry, token, OL_SCOPE_FILES),
				 OL_VERDICT_OK);
		/* The first half fits (unless it alone is too large), the row judges the second. */
		const enum ol_verdict before = ol_keys_reserve(w->keys, &first, &retry, &caller,
							       rows[i].tokens, rows[i].money);
		const enum ol_verdict after = ol_keys_reserve(w->keys, &second, &retry, &caller,
							      rows[i].tokens, rows[i].money);
		if (i > 0)
			assert_int_equal(after, rows[i].verdict);
		else
			assert_int_equal(before, rows[i].verdict);
		if (after == rows[i].verdict)
			assert_in_range(retry, rows[i].retry_low, rows[i].retry_high);
		/* Our failure costs nothing: all of it is there again. */
		ol_keys_settle(w->keys, &first, 0, ol_amount(0));
		ol_keys_settle(w->keys, &second, 0, ol_amount(0));
		ol_keys_settle(w->keys, &second, 77, ol_amount(0)); /* empty: nothing */
		assert_int_equal(ol_keys_reserve(w->keys, &first, &retry, &caller, rows[i].tokens,
						 rows[i].money),
				 before);
		ol_keys_settle(w->keys, &first, 0, ol_amount(0));
	}
}

static void a_new_day_brings_a_new_budget(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1];
	struct ol_caller caller;
	struct ol_reservation r;
	struct ol_key_info info;
	int retry;
	add(w, token, (struct ol_key_wish){.limits = {.tokens_per_day = 100}});
	assert_int_equal(ol_keys_admit(w->keys, &caller, &retry, token, OL_SCOPE_FILES),
			 OL_VERDICT_OK);
	assert_int_equal(ol_keys_reserve(w->keys, &r, &retry, &caller, 100, ol_amount(0)),
			 OL_VERDICT_OK);
	ol_keys_settle(w->keys, &r, 100, ol_amount(7));
	assert_int_equal(ol_keys_reserve(w->keys, &r, &retry, &caller, 1, ol_amount(0)),
			 OL_VERDICT_TOKENS_DAY);
	w->now += 12 * HOUR;
	assert_int_equal(ol_keys_reserve(w->keys, &r, &retry, &caller, 100, ol_amount(0)),
			 OL_VERDICT_OK);
	ol_keys_settle(w->keys, &r, 30, ol_amount(1));
	/* What of both days is not written yet is written to both. */
	close_keys(w);
	open_keys(w, false);
	assert_true(ol_keys_at(w->keys, 0, &info));
	assert_int_equal(info.tokens, 130);
	assert_int_equal(info.tokens_today, 30);
	assert_int_equal(info.money.nano, 8);
	assert_int_equal(info.money_today.nano, 1);
	assert_int_equal(info.requests, 1);
	assert_int_equal(info.requests_today, 0);
}

/* A second store stands for another process: SQLite keeps its connections apart just so. */
static void another_process_revokes(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1], fresh[OL_KEY_TOKEN_CHARS + 1];
	struct world other = {.home = w->home, .now = START};
	const struct ol_key_info info = add(w, token, (struct ol_key_wish){0});
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_OK);
	open_keys(&other, false);
	assert_int_equal(ol_keys_revoke(other.keys, info.id, NULL), OL_OK);
	assert_int_equal(other.ended_count, 1);
	assert_int_equal(w->ended_count, 0);
	assert_int_equal(ol_keys_poll(w->keys, NULL), OL_OK);
	assert_int_equal(w->ended_count, 1);
	assert_string_equal(w->ended[0], info.id);
	assert_int_equal(admit(w, token, OL_SCOPE_FILES), OL_VERDICT_REVOKED);
	assert_int_equal(ol_keys_poll(w->keys, NULL), OL_OK);
	assert_int_equal(w->ended_count, 1);
	/* A key made a moment ago by the other one works at once. */
	add(&other, fresh, (struct ol_key_wish){.expires_at = START / SECOND + 100});
	w->now += SECOND;
	assert_int_equal(admit(w, fresh, OL_SCOPE_FILES), OL_VERDICT_OK);
	/* Expiry ends what is under way, too. */
	w->now += 100 * SECOND;
	assert_int_equal(ol_keys_poll(w->keys, NULL), OL_OK);
	assert_int_equal(w->ended_count, 2);
	close_keys(&other);
}

static void the_watcher_notices_within_a_second(void **state)
{
	struct world *w = *state;
	char token[OL_KEY_TOKEN_CHARS + 1];
	struct ol_store *store;
	struct ol_keys *keys;
	struct ol_caller caller;
	int retry;
	const struct ol_keys_options options = {
		.watch = true, .on_revoked = world_ended, .context = w};
	assert_int_equal(ol_store_open(&store, &w->home, OL_STORE_NODE, NULL), OL_OK);
	assert_int_equal(ol_keys_open(&keys, store, &options, NULL), OL_OK);
	const struct ol_key_info info = add(w, token, (struct ol_key_wish){0});
	assert_int_equal(ol_keys_admit(keys, &caller, &retry, token, OL_SCOPE_FILES),
			 OL_VERDICT_OK);
	assert_int_equal(ol_keys_revoke(w->keys, info.id, NULL), OL_OK);
	bool gone = false;
	for (int i = 0; i < 100 && !gone; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		gone = !ol_keys_valid(keys, &caller);
	}
	assert_true(gone);
	assert_int_equal(ol_keys_close(keys, NULL), OL_OK);
	ol_store_close(store);
}

/* ---- Exactness ---- */

enum { THREADS = 8, ROUNDS = 2000 };

struct spender {
	struct world *w;
	struct ol_caller caller;
	uint64_t seed;
	int64_t spent, paid;
};

static void *spend(void *context)
{
	struct spender *s = context;
	for (int i = 0; i < ROUNDS; i++) {
		struct ol_reservation r;
		int retry;
		const int64_t want = (int64_t)(test_random(&s->seed) % 50);
		if (ol_keys_reserve(s->w->keys, &r, &retry, &s->caller, want,
				    ol_amount((uint64_t)want)) != OL_VERDICT_OK)
			continue;
		const int64_t used =
			want > 0 ? (int64_t)(test_random(&s->seed) % (uint64_t)want) : 0;
		ol_keys_settle(s->w->keys, &r, used, ol_amount((uint64_t)used));
		s->spent += used;
	}
	return NULL;
}

static void many_threads_cannot_overspend(void **state)
{
	struct world *w = *state;
	enum { BUDGET = 100000 };
	char token[OL_KEY_TOKEN_CHARS + 1];
	struct spender spenders[THREADS];
	pthread_t threads[THREADS];
	struct ol_key_info info;
	int retry;
	int64_t spent = 0;
	add(w, token,
	    (struct ol_key_wish){.limits = {.tokens_total = BUDGET, .money_total = {BUDGET}}});
	for (int i = 0; i < THREADS; i++) {
		spenders[i] = (struct spender){.w = w, .seed = (uint64_t)i + 1};
		assert_int_equal(
			ol_keys_admit(w->keys, &spenders[i].caller, &retry, token, OL_SCOPE_FILES),
			OL_VERDICT_OK);
		assert_int_equal(pthread_create(&threads[i], NULL, spend, &spenders[i]), 0);
	}
	for (int i = 0; i < 50; i++)
		assert_int_equal(ol_keys_poll(w->keys, NULL), OL_OK);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		spent += spenders[i].spent;
	}
	assert_true(ol_keys_at(w->keys, 0, &info));
	assert_int_equal(info.tokens, spent);
	assert_int_equal(info.money.nano, spent);
	assert_in_range(spent, BUDGET - 50, BUDGET);
	/* Written once each, whatever was written while they ran. */
	close_keys(w);
	open_keys(w, false);
	assert_true(ol_keys_at(w->keys, 0, &info));
	assert_int_equal(info.tokens, spent);
	assert_int_equal(info.money.nano, spent);
	assert_int_equal(info.requests, THREADS);
}

/* Against a plain model: a random sequence of everything, three keys, days that pass, restarts. */
struct model_key {
	char token[OL_KEY_TOKEN_CHARS + 1];
	struct ol_caller caller;
	struct ol_key_limits limits;
	struct ol_reservation held;
	int64_t total, today, day, reserved;
};

static enum ol_verdict model_reserve(const struct model_key *k, int64_t tokens)
{
	if (k->limits.tokens_total && k->total + k->reserved + tokens > k->limits.tokens_total)
		return OL_VERDICT_TOKENS_TOTAL;
	if (k->limits.tokens_per_day && k->today + k->reserved + tokens > k->limits.tokens_per_day)
		return OL_VERDICT_TOKENS_DAY;
	return OL_VERDICT_OK;
}

static void model_step(struct world *w, struct model_key *k, uint64_t *seed)
{
	const int64_t tokens = (int64_t)(test_random(seed) % 40);
	int retry;
	if (w->now / (24 * HOUR) != k->day) {
		k->day = w->now / (24 * HOUR);
		k->today = 0;
	}
	if (k->held.key == 0) {
		const enum ol_verdict expected = model_reserve(k, tokens);
		assert_int_equal(ol_keys_reserve(w->keys, &k->held, &retry, &k->caller, tokens,
						 ol_amount(0)),
				 expected);
		if (expected == OL_VERDICT_OK)
			k->reserved += tokens;
		return;
	}
	/* More than was reserved counts, too. */
	k->reserved -= k->held.tokens;
	ol_keys_settle(w->keys, &k->held, tokens, ol_amount(0));
	k->total += tokens;
	k->today += tokens;
}

static void budgets_follow_the_model(void **state)
{
	struct world *w = *state;
	struct model_key keys[3] = {{.limits = {.tokens_total = 20000, .tokens_per_day = 300}},
				    {.limits = {.tokens_per_day = 500}},
				    {.limits = {.tokens_total = 3000}}};
	uint64_t seed = 4711;
	int retry;
	for (int i = 0; i < 3; i++) {
		add(w, keys[i].token, (struct ol_key_wish){.limits = keys[i].limits});
		assert_int_equal(ol_keys_admit(w->keys, &keys[i].caller, &retry, keys[i].token,
					       OL_SCOPE_FILES),
				 OL_VERDICT_OK);
	}
	for (int step = 0; step < 5000; step++) {
		const uint64_t what = test_random(&seed) % 500;
		w->now += (int64_t)(test_random(&seed) % 100) * SECOND;
		if (what < 5) {
			assert_int_equal(ol_keys_poll(w->keys, NULL), OL_OK);
		} else if (what == 5) {
			/* An orderly restart: what was held is given up, nothing else changes. */
			close_keys(w);
			open_keys(w, false);
			for (int i = 0; i < 3; i++) {
				keys[i].held = (struct ol_reservation){0};
				keys[i].reserved = 0;
			}
		} else {
			model_step(w, &keys[what % 3], &seed);
		}
	}
	for (int i = 0; i < 3; i++) {
		struct ol_key_info info;
		assert_true(ol_keys_at(w->keys, (size_t)i, &info));
		assert_int_equal(info.tokens, keys[i].total);
	}
}

/* ---- The store ---- */

static void a_newer_store_is_left_alone(void **state)
{
	struct world *w = *state;
	struct ol_store *again;
	struct ol_query q;
	struct ol_error err;
	ol_query_open(&q, w->store, "PRAGMA user_version = 999");
	assert_int_equal(ol_query_run(&q, NULL), OL_OK);
	assert_int_equal(ol_store_open(&again, &w->home, OL_STORE_NODE, &err), OL_ERR_UNSUPPORTED);
	assert_non_null(strstr(err.text, "999"));
}

static void a_file_that_is_no_store_is_refused(void **state)
{
	(void)state;
	struct ol_home home;
	struct ol_store *store;
	struct ol_error err;
	char path[OL_PATH_MAX];
	test_home_make(&home);
	assert_int_equal(ol_path_join(path, NULL, home.path, "/node.sqlite3", ""), OL_OK);
	FILE *file = fopen(path, "wb");
	for (int i = 0; i < 4096; i++)
		fputc('x', file);
	fclose(file);
	assert_int_equal(ol_store_open(&store, &home, OL_STORE_NODE, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "node.sqlite3"));
	test_folder_remove(home.path);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ROW(tokens_have_a_form),
		cmocka_unit_test(the_checksum_is_the_documented_one),
		ROW(only_a_hash_is_kept),
		cmocka_unit_test(verdicts_have_rows),
		ROW(admission_gives_every_verdict),
		ROW(local_needs_no_key_until_one_is_made),
		ROW(bad_wishes_are_refused),
		cmocka_unit_test(scopes_have_names),
		ROW(requests_per_minute_is_a_bucket),
		ROW(budgets_give_every_verdict),
		ROW(a_new_day_brings_a_new_budget),
		ROW(another_process_revokes),
		ROW(the_watcher_notices_within_a_second),
		ROW(many_threads_cannot_overspend),
		ROW(budgets_follow_the_model),
		ROW(a_newer_store_is_left_alone),
		cmocka_unit_test(a_file_that_is_no_store_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
