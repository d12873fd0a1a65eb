/* A witness over HTTP, and a log that asks it: cosigned, refused, gone. */
#define _GNU_SOURCE
#include "http/witness_routes.h"
#include "ledger/test_log.h"
#include "node/log_http.h"
#include "node/log_signer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <time.h>
#include <cmocka.h>

static char signer_folder[] = "/tmp/openledger-test-XXXXXX";
static char witness_folder[] = "/tmp/openledger-test-XXXXXX";
static char log_folder[] = "/tmp/openledger-test-XXXXXX";
static struct ol_signer *signer;
static struct ol_witness *witness;
static struct ol_http_server *server;
static struct ol_log_folder *folder;
static struct ol_log_store store;
static struct ol_tlog *tlog;

/* The signer is a child of this test; it is made before the server's threads. */
static void start_signer(void)
{
	int ends[2];
	assert_int_equal(
		ol_signer_create(signer_folder, "example.com/log", &ol_random_system, NULL), OL_OK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		_exit(ol_signer_serve(ends[1], signer_folder, NULL, 0, NULL) != OL_OK);
	}
	close(ends[1]);
	assert_int_equal(ol_signer_attach(&signer, ends[0], pid, NULL), OL_OK);
}

static void start_server(void)
{
	static struct ol_http_route routes[OL_WITNESS_ROUTES];
	ol_witness_routes(routes, witness);
	const struct ol_http_options options = {.routes = routes,
						.route_count = OL_WITNESS_ROUTES,
						.guard = ol_witness_guard(),
						.log = OL_HTTP_LOG_OFF};
	assert_int_equal(ol_http_server_open(&server, &options, NULL), OL_OK);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(signer_folder) || !mkdtemp(witness_folder) || !mkdtemp(log_folder))
		return 1;
	start_signer();
	assert_int_equal(ol_witness_create(witness_folder, "w.example/1", &ol_random_system, NULL),
			 OL_OK);
	assert_int_equal(ol_witness_open(&witness, witness_folder, ol_signer_key(signer), 1,
					 &ol_clock_system, NULL),
			 OL_OK);
	start_server();
	assert_int_equal(ol_log_folder_open(&folder, log_folder, NULL), OL_OK);
	store = ol_log_folder_store(folder);
	return ol_tlog_open(&tlog, &store, ol_signer_key(signer), NULL) != OL_OK;
}

static int teardown(void **state)
{
	(void)state;
	ol_tlog_close(tlog);
	ol_log_folder_close(folder);
	ol_signer_stop(signer);
	ol_http_server_close(server);
	ol_witness_close(witness);
	test_log_remove(signer_folder);
	test_log_remove(witness_folder);
	test_log_remove(log_folder);
	return 0;
}

/* Grows the log, signs, publishes; what the witness's signature came to. */
static enum ol_note_check publish(struct ol_log_signer *log, uint64_t size)
{
	struct ol_log_checkpoint checkpoint;
	struct ol_error err = {0};
	struct ol_note parsed;
	struct ol_buf note;
	while (ol_tlog_size(tlog) < size)
		assert_int_equal(ol_tlog_append(tlog, "entry", 5, NULL), OL_OK);
	assert_int_equal(ol_tlog_flush(tlog, &checkpoint, NULL), OL_OK);
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	if (ol_log_signer_sign(log, &note, &checkpoint, &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_int_equal(ol_tlog_publish(tlog, note.data, note.size, NULL), OL_OK);
	assert_int_equal(ol_note_parse(&parsed, note.data, note.size, NULL), OL_OK);
	assert_int_equal(ol_note_check(&parsed, ol_signer_key(signer), NULL), OL_NOTE_SIGNED);
	const enum ol_note_check check = ol_note_check(&parsed, ol_witness_key(witness), NULL);
	ol_buf_release(&note);
	return check;
}

static void wait_an_interval(void)
{
	const struct timespec time = {1, 100000000};
	nanosleep(&time, NULL);
}

static void test_a_log_and_its_witness(void **state)
{
	(void)state;
	const struct ol_log_witness witnesses[1] = {
		{.key = *ol_witness_key(witness), .url = ol_http_server_url(server)}};
	struct ol_log_signer *log;
	assert_int_equal(ol_log_signer_open(&log, signer, &store.source, witnesses, 1, NULL),
			 OL_OK);
	assert_int_equal(publish(log, 10), OL_NOTE_SIGNED);
	assert_int_equal(publish(log, 20), OL_NOTE_UNSIGNED); /* asked a moment ago */
	wait_an_interval();
	assert_int_equal(publish(log, 400), OL_NOTE_SIGNED);
	assert_string_equal(ol_log_signer_witness_trouble(log, 0), "");
	ol_log_signer_close(log);
	/* A node that starts again does not know where the witness stands, and learns it. */
	assert_int_equal(ol_log_signer_open(&log, signer, &store.source, witnesses, 1, NULL),
			 OL_OK);
	assert_int_equal(publish(log, 500), OL_NOTE_SIGNED);
	/* A witness that is gone holds nobody up. */
	ol_http_server_close(server);
	server = NULL;
	wait_an_interval();
	assert_int_equal(publish(log, 600), OL_NOTE_UNSIGNED);
	assert_non_null(strstr(ol_log_signer_witness_trouble(log, 0), "no answer"));
	ol_log_signer_close(log);
	start_server();
}

static void test_another_witness_s_key(void **state)
{
	(void)state;
	const uint8_t nobody[OL_ED25519_PUBLIC_BYTES] = {1};
	struct ol_log_witness wrong = {.url = ol_http_server_url(server)};
	struct ol_log_signer *log;
	assert_int_equal(
		ol_note_key_init(&wrong.key, "w.example/1", OL_NOTE_COSIGNATURE, nobody, NULL),
		OL_OK);
	assert_int_equal(ol_log_signer_open(&log, signer, &store.source, &wrong, 1, NULL), OL_OK);
	assert_int_equal(publish(log, 700), OL_NOTE_UNSIGNED);
	assert_non_null(strstr(ol_log_signer_witness_trouble(log, 0), "no right signature"));
	ol_log_signer_close(log);
}

static void test_witnesses_on_a_command_line(void **state)
{
	(void)state;
	char key[OL_VERIFIER_KEY_TEXT], text[OL_VERIFIER_KEY_TEXT + 64];
	struct ol_log_witness parsed;
	ol_note_key_print(key, ol_witness_key(witness));
	snprintf(text, sizeof text, "%s=https://w.example/a=http://b", key);
	assert_int_equal(ol_log_witness_parse(&parsed, text, NULL), OL_ERR_INPUT);
	snprintf(text, sizeof text, "%s=https://w.example/a", key);
	assert_int_equal(ol_log_witness_parse(&parsed, text, NULL), OL_OK);
	assert_string_equal(parsed.url, "https://w.example/a");
	assert_int_equal(parsed.key.id, ol_witness_key(witness)->id);
	assert_int_equal(ol_log_witness_parse(&parsed, key, NULL), OL_ERR_INPUT);
	ol_note_key_print(key, ol_signer_key(signer)); /* a log's, not a witness's */
	snprintf(text, sizeof text, "%s=https://w.example/a", key);
	assert_int_equal(ol_log_witness_parse(&parsed, text, NULL), OL_ERR_INPUT);
}

static void test_requests(void **state)
{
	(void)state;
	struct ol_log_http *http;
	struct ol_buf reply;
	char path[128];
	uint8_t hash[32];
	char hex[65];
	int status = 0;
	assert_int_equal(ol_log_http_open(&http, ol_http_server_url(server), NULL), OL_OK);
	ol_buf_init(&reply, OL_NOTE_BYTES_MAX);
	assert_int_equal(ol_log_http_post(http, &status, &reply, "add-checkpoint", "nonsense", 8,
					  5000, NULL),
			 OL_OK);
	assert_int_equal(status, 400);
	assert_non_null(strstr(reply.data, "old N"));
	const struct ol_log_source source = ol_log_http_source(http);
	ol_buf_clear(&reply);
	assert_int_equal(source.fetch(source.self, &reply, "0000/checkpoint", NULL),
			 OL_ERR_NOT_FOUND);
	assert_int_equal(reply.size, 0);
	ol_sha256(hash, "example.com/log", 15);
	ol_hex(hex, hash, sizeof hash);
	snprintf(path, sizeof path, "%s/checkpoint", hex);
	assert_int_equal(source.fetch(source.self, &reply, path, NULL), OL_OK);
	assert_memory_equal(reply.data, "example.com/log\n", 16);
	/* An answer that does not fit is no answer. */
	struct ol_buf small;
	ol_buf_init(&small, 10);
	assert_int_equal(source.fetch(source.self, &small, path, NULL), OL_ERR_FULL);
	ol_buf_release(&small);
	ol_buf_release(&reply);
	ol_log_http_close(http);
	assert_int_equal(ol_log_http_open(&http, "file:///etc", NULL), OL_ERR_INPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_log_and_its_witness),
		cmocka_unit_test(test_another_witness_s_key),
		cmocka_unit_test(test_witnesses_on_a_command_line),
		cmocka_unit_test(test_requests),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
