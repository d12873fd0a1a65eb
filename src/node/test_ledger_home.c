/* A node's ledger as one thing: posted, indexed, signed by the signer's process, published, closed
 * and opened again. */
#define _GNU_SOURCE
#include "node/ledger_home.h"
#include "node/test_folder.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { LONG_MS = 60000 };

#define MUST(call)                                                                                 \
	do {                                                                                       \
		struct ol_error why = {0};                                                         \
		if ((call) != OL_OK)                                                               \
			fail_msg("%s: %s", #call, why.text);                                       \
	} while (0)

struct world {
	struct ol_home home;
	struct ol_ledger_home paths;
	struct ol_signer *signer;
	pid_t signer_pid;
	struct ol_books books;
	uint64_t events;
};

/* A child of this test is the signer. */
static void start_signer(struct world *w)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	w->signer_pid = fork();
	assert_true(w->signer_pid >= 0);
	if (w->signer_pid == 0) {
		close(ends[0]);
		const enum ol_status s = ol_signer_serve(ends[1], w->paths.signer, ol_signer_rules,
							 ol_signer_rule_count, NULL);
		_exit(s == OL_OK ? 0 : 1);
	}
	close(ends[1]);
	MUST(ol_signer_attach(&w->signer, ends[0], w->signer_pid, &why));
}

static struct world *new_world(const char *origin)
{
	struct world *w = calloc(1, sizeof *w);
	assert_non_null(w);
	test_home_make(&w->home);
	MUST(ol_ledger_home(&w->paths, &w->home, &why));
	if (origin) {
		assert_int_equal(mkdir(w->paths.signer, 0700), 0);
		MUST(ol_signer_create(w->paths.signer, origin, &ol_random_system, &why));
		start_signer(w);
	}
	return w;
}

static void open_books(struct world *w)
{
	const struct ol_books_options options = {
		.limits = {1 << 12, 1 << 16, 1 << 12}, .signer = w->signer, .interval_ms = 1};
	MUST(ol_books_open(&w->books, &w->home, &options, &why));
}

static void free_world(struct world *w)
{
	ol_books_close(&w->books);
	if (w->signer)
		ol_signer_stop(w->signer);
	test_folder_remove(w->home.path);
	free(w);
}

static struct ol_account_key grants(void)
{
	struct ol_account_key key;
	ol_account_key_init(&key, OL_ACCOUNT_GRANTS, OL_CURRENCY_CREDIT, 0, NULL, 0);
	return key;
}

static struct ol_account_key somebody(uint8_t who)
{
	struct ol_account_key key;
	uint8_t id[20];
	memset(id, who, sizeof id);
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, id, sizeof id);
	return key;
}

/* A transfer with an event that speaks of it. Gives the event's index in the log. */
static uint64_t grant(struct world *w, uint8_t who)
{
	const struct ol_account_op op = {
		.key = grants(), .action = OL_ACCOUNT_OPEN, .flags = OL_ACCOUNT_OVERDRAFT};
	const struct ol_transfer transfer = {.id = ol_bookkeeper_id(w->books.keeper),
					     .debit = grants(),
					     .credit = somebody(who),
					     .amount = {1000},
					     .code = OL_CODE_GRANT,
					     .flags = OL_TRANSFER_OPENS};
	struct {
		struct ol_event_head head;
		struct ol_id id;
	} bytes = {.id = transfer.id};
	ol_event_begin(&bytes.head, OL_EVENT_GRANT, ol_bookkeeper_now_ms(w->books.keeper));
	const struct ol_event event = {.bytes = (const uint8_t *)&bytes,
				       .size = sizeof bytes,
				       .kind = OL_EVENT_GRANT,
				       .transfer_count = 1};
	uint8_t opened, posted;
	uint64_t index;
	struct ol_batch batch = {.postings = {&op, &transfer, 1, 1},
				 .events = &event,
				 .event_count = 1,
				 .account_results = &opened,
				 .transfer_results = &posted,
				 .event_indexes = &index};
	MUST(ol_bookkeeper_post(w->books.keeper, &batch, OL_DURABLE, &why));
	assert_int_equal(posted, OL_POST_OK);
	w->events++;
	return index;
}

static void check_proof(struct world *w, uint64_t event)
{
	struct ol_note_key key;
	const struct ol_log_policy policy = {.log = &key};
	struct ol_tlog_proof proof;
	struct ol_indexed_event indexed;
	struct ol_buf text;
	ol_buf_init(&text, OL_TLOG_PROOF_BYTES_MAX);
	MUST(ol_ledger_home_key(&key, &w->paths, &why));
	MUST(ol_publisher_wait(w->books.publisher, event, LONG_MS, &why));
	MUST(ol_publisher_prove(w->books.publisher, &text, event, NULL, 0, &why));
	MUST(ol_ledger_index_event(w->books.index, &indexed, NULL, event, &why));
	MUST(ol_tlog_proof_parse(&proof, text.data, text.size, &why));
	MUST(ol_tlog_proof_verify(&proof, indexed.id, &policy, NULL, &why));
	ol_buf_release(&text);
}

static void what_is_posted_becomes_public(void **state)
{
	struct world *w = new_world("example.com/node");
	uint8_t root[OL_MERKLE_BYTES];
	uint64_t size;
	(void)state;
	for (int life = 0; life < 3; life++) {
		struct ol_published published;
		open_books(w);
		assert_int_equal(w->books.opening.created, life == 0);
		ol_books_checkpoint(&w->books, &size, root);
		assert_int_equal(size, w->events); /* closing has published all */
		for (uint8_t i = 0; i < 40; i++) {
			const uint64_t event = grant(w, (uint8_t)(1 + i % 5));
			assert_int_equal(event, w->events - 1);
			if (i % 9 == 0)
				check_proof(w, event);
		}
		grant(w, 1); /* and not waited for */
		ol_books_close(&w->books);
		/* The signer's state goes on over its restarts. */
		ol_signer_stop(w->signer);
		start_signer(w);
		open_books(w);
		MUST(ol_publisher_settle(w->books.publisher, LONG_MS, &why));
		MUST(ol_published_check(&published, &w->books.store, &w->books.log_key,
					w->books.index, &why));
		assert_int_equal(published.size, w->events);
		for (uint64_t event = 0; event < w->events; event += 17)
			check_proof(w, event);
		ol_books_close(&w->books);
	}
	free_world(w);
}

static void one_process_at_a_time(void **state)
{
	struct world *w = new_world("example.com/node");
	const struct ol_books_options options = {0};
	struct ol_books second;
	(void)state;
	open_books(w);
	assert_int_equal(ol_books_open(&second, &w->home, &options, NULL), OL_ERR_IO);
	ol_books_close(&second); /* fine after a failure */
	check_proof(w, grant(w, 1));
	free_world(w);
}

static void a_ledger_without_a_signer_publishes_nothing(void **state)
{
	struct world *w = new_world(NULL);
	struct ol_ledger_index *index;
	struct ol_ledger_index_sums sums;
	struct ol_note_key key;
	uint8_t bytes[64] = {0};
	uint64_t size;
	(void)state;
	open_books(w);
	assert_null(w->books.publisher);
	grant(w, 1);
	grant(w, 2);
	ol_books_checkpoint(&w->books, &size, bytes);
	assert_int_equal(size, 0);
	assert_int_equal(ol_books_sign(&w->books, bytes, "x", 1, NULL), OL_ERR_UNSUPPORTED);
	ol_books_close(&w->books);
	assert_int_equal(ol_ledger_home_key(&key, &w->paths, NULL), OL_ERR_NOT_FOUND);
	MUST(ol_ledger_index_open_read_only(&index, w->paths.index, &why));
	MUST(ol_ledger_index_sums(index, &sums, &why));
	assert_int_equal(sums.events, 2);
	assert_int_equal(sums.transfers, 2);
	ol_ledger_index_close(index);
	free_world(w);
}

static void a_log_keeps_its_name(void **state)
{
	struct world *w = new_world("example.com/one");
	const struct ol_books_options none = {0};
	struct ol_error err = {0};
	(void)state;
	open_books(w);
	check_proof(w, grant(w, 1));
	ol_books_close(&w->books);
	ol_signer_stop(w->signer);
	test_folder_remove(w->paths.signer);
	assert_int_equal(mkdir(w->paths.signer, 0700), 0);
	MUST(ol_signer_create(w->paths.signer, "example.com/two", &ol_random_system, &why));
	start_signer(w);
	struct ol_books_options options = none;
	options.signer = w->signer;
	assert_int_equal(ol_books_open(&w->books, &w->home, &options, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "a log keeps its name"));
	free_world(w);
}

static void a_dead_signer_stops_the_publisher_and_not_the_ledger(void **state)
{
	struct world *w = new_world("example.com/node");
	struct ol_publisher_state s;
	(void)state;
	open_books(w);
	const uint64_t event = grant(w, 1);
	check_proof(w, event);
	kill(w->signer_pid, SIGKILL);
	grant(w, 2);
	assert_int_equal(ol_publisher_settle(w->books.publisher, LONG_MS, NULL), OL_ERR_IO);
	ol_publisher_state(w->books.publisher, &s);
	assert_true(s.stopped);
	grant(w, 3);
	check_proof(w, event); /* what is public stays provable */
	ol_books_close(&w->books);
	ol_signer_stop(w->signer);
	start_signer(w);
	open_books(w);
	check_proof(w, 2);
	free_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_posted_becomes_public),
		cmocka_unit_test(one_process_at_a_time),
		cmocka_unit_test(a_ledger_without_a_signer_publishes_nothing),
		cmocka_unit_test(a_log_keeps_its_name),
		cmocka_unit_test(a_dead_signer_stops_the_publisher_and_not_the_ledger),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
