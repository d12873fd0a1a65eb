/* Idempotency-Key: one answer per key, whoever asks, whatever ends in between. */
#include "node/idempotency.h"
#include "node/test_folder.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

struct world {
	struct ol_home home;
	struct ol_idempotency *d;
	struct ol_idempotency_options options;
	_Atomic int64_t now; /* read by the thread that keeps answers, too */
};

static int64_t world_now(void *context)
{
	return ((struct world *)context)->now;
}

static void open_world(struct world *w)
{
	assert_int_equal(ol_idempotency_open(&w->d, &w->home, &w->options, NULL), OL_OK);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	test_home_make(&w->home);
	w->now = 1000000;
	w->options.now = world_now;
	w->options.context = w;
	open_world(w);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	ol_idempotency_close(w->d);
	test_folder_remove(w->home.path);
	free(w);
	return 0;
}

/* What a callback brought. */
struct got {
	_Atomic int calls;
	enum ol_idempotency_verdict verdict;
	enum ol_status status;
	int http;
	char type[OL_IDEMPOTENCY_TYPE_MAX];
	char body[256];
	size_t size;
};

static void on_ready(void *context, enum ol_idempotency_verdict verdict, const struct ol_kept *kept)
{
	struct got *got = context;
	got->verdict = verdict;
	if (kept) {
		got->http = kept->status;
		got->size = kept->size;
		snprintf(got->type, sizeof got->type, "%s", kept->type);
		snprintf(got->body, sizeof got->body, "%.*s", (int)kept->size,
			 (const char *)kept->body);
	}
	atomic_fetch_add(&got->calls, 1);
}

static void on_kept(void *context, enum ol_status status)
{
	struct got *got = context;
	got->status = status;
	atomic_fetch_add(&got->calls, 1);
}

static void await(struct got *got)
{
	for (int i = 0; i < 10000 && atomic_load(&got->calls) == 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(atomic_load(&got->calls), 1);
}

static enum ol_idempotency_verdict begin(struct world *w, struct ol_lease **lease,
					 const char *account, const char *key, const char *body,
					 struct got *got)
{
	uint8_t print[OL_SHA256_BYTES];
	ol_idempotency_fingerprint(print, "POST", "/v1/completions", body, strlen(body));
	return ol_idempotency_begin(w->d, lease, account, key, print, 200, got ? on_ready : NULL,
				    got);
}

static void finish(struct ol_lease *lease, int status, const char *body)
{
	struct got kept = {0};
	ol_idempotency_append(lease, body, strlen(body));
	ol_idempotency_finish(lease, status, "application/json", on_kept, &kept);
	await(&kept);
	assert_int_equal(kept.status, OL_OK);
}

static void answer(struct world *w, const char *account, const char *key, const char *body,
		   const char *text)
{
	struct ol_lease *lease;
	assert_int_equal(begin(w, &lease, account, key, body, NULL), OL_IDEMPOTENCY_NEW);
	finish(lease, 200, text);
}

static void expect_replay(struct world *w, const char *account, const char *key, const char *body,
			  const char *text)
{
	struct got got = {0};
	struct ol_lease *lease;
	assert_int_equal(begin(w, &lease, account, key, body, &got), OL_IDEMPOTENCY_WAIT);
	await(&got);
	assert_int_equal(got.verdict, OL_IDEMPOTENCY_REPLAY);
	assert_int_equal(got.http, 200);
	assert_string_equal(got.type, "application/json");
	assert_string_equal(got.body, text);
}

static void reopen(struct world *w)
{
	ol_idempotency_close(w->d);
	open_world(w);
}

static void verdicts_have_rows(void **state)
{
	(void)state;
	static const struct {
		enum ol_idempotency_verdict verdict;
		int http;
	} rows[] = {
		{OL_IDEMPOTENCY_NEW, 0},    {OL_IDEMPOTENCY_WAIT, 0},
		{OL_IDEMPOTENCY_REPLAY, 0}, {OL_IDEMPOTENCY_AGAIN, 0},
		{OL_IDEMPOTENCY_LOST, 409}, {OL_IDEMPOTENCY_OTHER, 422},
		{OL_IDEMPOTENCY_BUSY, 409}, {OL_IDEMPOTENCY_BAD_KEY, 400},
		{OL_IDEMPOTENCY_FULL, 429}, {OL_IDEMPOTENCY_CLOSED, 503},
	};
	assert_int_equal(OL_ARRAY_LEN(rows), OL_IDEMPOTENCY_VERDICTS);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_idempotency_row *row = ol_idempotency_row(rows[i].verdict);
		assert_int_equal(row->http, rows[i].http);
		assert_int_equal(strlen(row->sentence) > 20, rows[i].http != 0);
	}
}

static void the_same_request_gets_the_same_answer(void **state)
{
	struct world *w = *state;
	struct ol_lease *lease;
	answer(w, "local", "k1", "{}", "first");
	expect_replay(w, "local", "k1", "{}", "first");
	/* Another request, another account, another key. */
	assert_int_equal(begin(w, &lease, "local", "k1", "{ }", NULL), OL_IDEMPOTENCY_OTHER);
	answer(w, "0xother", "k1", "{ }", "second");
	answer(w, "local", "k2", "{ }", "third");
	reopen(w);
	expect_replay(w, "local", "k1", "{}", "first");
	expect_replay(w, "0xother", "k1", "{ }", "second");
	expect_replay(w, "local", "k2", "{ }", "third");
	assert_int_equal(begin(w, &lease, "local", "k1", "{ }", NULL), OL_IDEMPOTENCY_OTHER);
	/* Account and key are not simply put behind one another. */
	assert_int_equal(begin(w, &lease, "localk", "1", "{}", NULL), OL_IDEMPOTENCY_NEW);
	ol_idempotency_release(lease);
}

static void fingerprints_tell_requests_apart(void **state)
{
	(void)state;
	static const char *const rows[][3] = {
		{"POST", "/a", "x"}, {"PUT", "/a", "x"},  {"POST", "/b", "x"}, {"POST", "/a", "y"},
		{"POST", "/a", ""},  {"POST/a", "", "x"}, {"POST", "/ax", ""},
	};
	uint8_t prints[OL_ARRAY_LEN(rows)][OL_SHA256_BYTES];
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		ol_idempotency_fingerprint(prints[i], rows[i][0], rows[i][1], rows[i][2],
					   strlen(rows[i][2]));
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(prints[i], prints[k], OL_SHA256_BYTES);
	}
}

static void bad_keys_are_refused(void **state)
{
	struct world *w = *state;
	char longest[OL_IDEMPOTENCY_KEY_MAX + 2];
	struct ol_lease *lease;
	memset(longest, 'k', sizeof longest);
	longest[OL_IDEMPOTENCY_KEY_MAX + 1] = '\0';
	const char *const rows[] = {"", longest, "a\nb", "\x7f", "\xc3\xa9"};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		assert_int_equal(begin(w, &lease, "local", rows[i], "{}", NULL),
				 OL_IDEMPOTENCY_BAD_KEY);
	longest[OL_IDEMPOTENCY_KEY_MAX] = '\0';
	answer(w, "local", longest, "{}", "long");
	expect_replay(w, "local", longest, "{}", "long");
}

static void others_wait_for_the_first(void **state)
{
	struct world *w = *state;
	struct ol_lease *lease, *none;
	struct got got[OL_IDEMPOTENCY_WAITERS_MAX] = {{0}}, one_more = {0};
	assert_int_equal(begin(w, &lease, "local", "k", "{}", NULL), OL_IDEMPOTENCY_NEW);
	assert_int_equal(begin(w, &none, "local", "k", "{}", NULL), OL_IDEMPOTENCY_BUSY);
	assert_int_equal(begin(w, &none, "local", "k", "{ }", &one_more), OL_IDEMPOTENCY_OTHER);
	for (int i = 0; i < OL_IDEMPOTENCY_WAITERS_MAX; i++)
		assert_int_equal(begin(w, &none, "local", "k", "{}", &got[i]), OL_IDEMPOTENCY_WAIT);
	assert_int_equal(begin(w, &none, "local", "k", "{}", &one_more), OL_IDEMPOTENCY_BUSY);
	finish(lease, 200, "together");
	for (int i = 0; i < OL_IDEMPOTENCY_WAITERS_MAX; i++) {
		await(&got[i]);
		assert_int_equal(got[i].verdict, OL_IDEMPOTENCY_REPLAY);
		assert_string_equal(got[i].body, "together");
	}
}

static void our_failures_are_not_kept(void **state)
{
	struct world *w = *state;
	struct ol_lease *lease, *none;
	struct got waiting = {0}, kept = {0};
	assert_int_equal(begin(w, &lease, "local", "k", "{}", NULL), OL_IDEMPOTENCY_NEW);
	assert_int_equal(begin(w, &none, "local", "k", "{}", &waiting), OL_IDEMPOTENCY_WAIT);
	ol_idempotency_append(lease, "half an ans", 11);
	ol_idempotency_release(lease);
	await(&waiting);
	assert_int_equal(waiting.verdict, OL_IDEMPOTENCY_AGAIN);
	assert_int_equal(begin(w, &lease, "local", "k", "{}", NULL), OL_IDEMPOTENCY_NEW);
	ol_idempotency_append(lease, "broken", 6);
	ol_idempotency_finish(lease, 500, "application/json", on_kept, &kept);
	await(&kept);
	/* What the client did wrong is kept. */
	assert_int_equal(begin(w, &lease, "local", "k", "{}", NULL), OL_IDEMPOTENCY_NEW);
	finish(lease, 400, "wrong");
	struct got got = {0};
	assert_int_equal(begin(w, &none, "local", "k", "{}", &got), OL_IDEMPOTENCY_WAIT);
	await(&got);
	assert_int_equal(got.http, 400);
	struct ol_idempotency_stats stats;
	ol_idempotency_stats(w->d, &stats);
	assert_int_equal(stats.answers, 1);
	assert_int_equal(stats.bytes, OL_IDEMPOTENCY_ROW_BYTES + 5);
	assert_int_equal(stats.leases, 0);
}

static void what_is_too_long_is_done_all_the_same(void **state)
{
	struct world *w = *state;
	struct ol_lease *lease, *none;
	struct got got = {0};
	char piece[150];
	memset(piece, 'p', sizeof piece);
	assert_int_equal(begin(w, &lease, "local", "k", "{}", NULL), OL_IDEMPOTENCY_NEW);
	assert_int_equal(begin(w, &none, "local", "k", "{}", &got), OL_IDEMPOTENCY_WAIT);
	ol_idempotency_append(lease, piece, sizeof piece);
	ol_idempotency_append(lease, piece, sizeof piece);
	finish(lease, 200, "");
	await(&got);
	assert_int_equal(got.verdict, OL_IDEMPOTENCY_LOST);
	assert_int_equal(begin(w, &none, "local", "k", "{}", &got), OL_IDEMPOTENCY_LOST);
	reopen(w);
	assert_int_equal(begin(w, &none, "local", "k", "{}", &got), OL_IDEMPOTENCY_LOST);
}

static void room_is_bounded(void **state)
{
	struct world *w = *state;
	struct ol_lease *lease[4], *none;
	const uint64_t each = 200 + OL_IDEMPOTENCY_ROW_BYTES;
	ol_idempotency_close(w->d);
	w->options.account_bytes_max = 2 * each;
	w->options.bytes_max = 3 * each;
	open_world(w);
	/* While under way, what may come counts. */
	assert_int_equal(begin(w, &lease[0], "a", "1", "", NULL), OL_IDEMPOTENCY_NEW);
	assert_int_equal(begin(w, &lease[1], "a", "2", "", NULL), OL_IDEMPOTENCY_NEW);
	assert_int_equal(begin(w, &none, "a", "3", "", NULL), OL_IDEMPOTENCY_FULL);
	assert_int_equal(begin(w, &lease[2], "b", "1", "", NULL), OL_IDEMPOTENCY_NEW);
	assert_int_equal(begin(w, &none, "c", "1", "", NULL), OL_IDEMPOTENCY_FULL);
	ol_idempotency_release(lease[1]);
	assert_int_equal(begin(w, &lease[1], "c", "1", "", NULL), OL_IDEMPOTENCY_NEW);
	/* Afterwards what came. */
	finish(lease[0], 200, "x");
	assert_int_equal(begin(w, &none, "a", "4", "", NULL), OL_IDEMPOTENCY_FULL);
	finish(lease[1], 200, "x");
	finish(lease[2], 200, "x");
	reopen(w);
	struct ol_idempotency_stats stats;
	ol_idempotency_stats(w->d, &stats);
	assert_int_equal(stats.bytes, 3 * (OL_IDEMPOTENCY_ROW_BYTES + 1));
	/* A day later there is room again, and the keys are free. */
	w->now += OL_IDEMPOTENCY_SECONDS - 1;
	assert_int_equal(begin(w, &none, "b", "1", "", NULL), OL_IDEMPOTENCY_BUSY);
	w->now += 1;
	reopen(w);
	for (int i = 0; i < 5000 && stats.answers > 0; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		ol_idempotency_stats(w->d, &stats);
	}
	assert_int_equal(stats.answers, 0);
	assert_int_equal(stats.bytes, 0);
	answer(w, "b", "1", "another", "y");
}

static void a_key_is_free_after_a_day(void **state)
{
	struct world *w = *state;
	answer(w, "local", "k", "{}", "old");
	w->now += OL_IDEMPOTENCY_SECONDS - 1;
	expect_replay(w, "local", "k", "{}", "old");
	w->now += 1;
	answer(w, "local", "k", "{ }", "new");
	expect_replay(w, "local", "k", "{ }", "new");
	reopen(w);
	expect_replay(w, "local", "k", "{ }", "new");
}

/* ---- Many at once ---- */

enum { THREADS = 8, KEYS = 40, ROUNDS = 300 };

struct client {
	struct world *w;
	uint64_t seed;
	_Atomic int *done; /* (KEYS) how often each was really done */
	int failures;
};

static void *ask(void *context)
{
	struct client *c = context;
	for (int i = 0; i < ROUNDS; i++) {
		char key[32], text[32];
		const int n = (int)(test_random(&c->seed) % KEYS);
		struct ol_lease *lease;
		struct got got = {0};
		snprintf(key, sizeof key, "key-%d", n);
		snprintf(text, sizeof text, "answer %d", n);
		switch (begin(c->w, &lease, "local", key, key, &got)) {
		case OL_IDEMPOTENCY_NEW:
			if (test_random(&c->seed) % 3 == 0) {
				ol_idempotency_release(lease);
				break;
			}
			atomic_fetch_add(&c->done[n], 1);
			finish(lease, 200, text);
			break;
		case OL_IDEMPOTENCY_WAIT:
			await(&got);
			c->failures += got.verdict != OL_IDEMPOTENCY_AGAIN &&
				       (got.verdict != OL_IDEMPOTENCY_REPLAY ||
					strcmp(got.body, text) != 0);
			break;
		default: c->failures++;
		}
	}
	return NULL;
}

static void each_key_is_done_once(void **state)
{
	struct world *w = *state;
	_Atomic int done[KEYS] = {0};
	struct client clients[THREADS];
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++) {
		clients[i] = (struct client){w, (uint64_t)i + 1, done, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, ask, &clients[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(clients[i].failures, 0);
	}
	for (int n = 0; n < KEYS; n++)
		assert_int_equal(done[n], 1);
}

/* ---- kill -9 ---- */

/* The child answers key after key, and says so through the pipe once an answer is durable: as a
 * server sends its last byte. Every answer that was told must be there afterwards. */
_Noreturn static void serve_until_killed(const struct ol_home *home, int out)
{
	struct world w = {.home = *home};
	OL_ASSERT(ol_idempotency_open(&w.d, home, &w.options, NULL) == OL_OK);
	for (int n = 0;; n++) {
		char key[32];
		struct ol_lease *lease, *half;
		struct got kept = {0};
		snprintf(key, sizeof key, "half-%d", n);
		OL_ASSERT(begin(&w, &half, "local", key, key, NULL) == OL_IDEMPOTENCY_NEW);
		ol_idempotency_append(half, "half", 4);
		snprintf(key, sizeof key, "key-%d", n);
		OL_ASSERT(begin(&w, &lease, "local", key, key, NULL) == OL_IDEMPOTENCY_NEW);
		ol_idempotency_append(lease, key, strlen(key));
		ol_idempotency_finish(lease, 200, "application/json", on_kept, &kept);
		while (atomic_load(&kept.calls) == 0)
			nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL);
		OL_ASSERT(write(out, &n, sizeof n) == sizeof n);
	}
}

static void what_was_answered_survives_kill_9(void **state)
{
	struct world *w = *state;
	int told = 0;
	ol_idempotency_close(w->d);
	for (int round = 0; round < 3; round++) {
		int ends[2], n, last = -1;
		struct ol_home home;
		test_home_make(&home);
		assert_int_equal(pipe(ends), 0);
		const pid_t child = fork();
		if (child == 0)
			serve_until_killed(&home, ends[1]);
		close(ends[1]);
		for (int i = 0; i < 5 + 7 * round; i++)
			assert_int_equal(read(ends[0], &n, sizeof n), sizeof n);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		while (read(ends[0], &n, sizeof n) == sizeof n)
			last = n;
		close(ends[0]);
		if (last < 0)
			last = n;
		struct world after = {.home = home};
		open_world(&after);
		for (n = 0; n <= last; n++) {
			char key[32];
			struct ol_lease *lease;
			snprintf(key, sizeof key, "key-%d", n);
			expect_replay(&after, "local", key, key, key);
			snprintf(key, sizeof key, "half-%d", n);
			assert_int_equal(begin(&after, &lease, "local", key, key, NULL),
					 OL_IDEMPOTENCY_NEW);
			ol_idempotency_release(lease);
			told++;
		}
		ol_idempotency_close(after.d);
		test_folder_remove(home.path);
	}
	assert_true(told >= 5 + 12 + 19);
	open_world(w);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verdicts_have_rows),
		cmocka_unit_test(fingerprints_tell_requests_apart),
		ROW(the_same_request_gets_the_same_answer),
		ROW(bad_keys_are_refused),
		ROW(others_wait_for_the_first),
		ROW(our_failures_are_not_kept),
		ROW(what_is_too_long_is_done_all_the_same),
		ROW(room_is_bounded),
		ROW(a_key_is_free_after_a_day),
		ROW(each_key_is_done_once),
		ROW(what_was_answered_survives_kill_9),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
