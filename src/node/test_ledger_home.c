/* A node's ledger as one thing: posted, indexed, signed by the signer's process, published, closed
 * and opened again. */
#define _GNU_SOURCE
#include "node/test_books.h"

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
