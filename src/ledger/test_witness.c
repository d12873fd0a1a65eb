/* The witness: one row per answer of c2sp.org/tlog-witness, logs that lie, memory over restarts. */
#define _GNU_SOURCE
#include "ledger/test_log.h"
#include "ledger/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

static uint64_t now_ms(void *self)
{
	(void)self;
	return 1679315147000;
}
static const struct ol_clock test_clock = {NULL, now_ms};
static char folder[] = "/tmp/openledger-test-XXXXXX";
static struct test_log honest, evil;

static struct ol_witness *open_witness(void)
{
	struct ol_witness *witness = NULL;
	struct ol_error err = {0};
	if (ol_witness_open(&witness, folder, &honest.key, 1, &test_clock, &err) != OL_OK)
		fail_msg("%s", err.text);
	return witness;
}

static int setup(void **state)
{
	(void)state;
	test_log_make(&honest, 1, 1000, 0);
	test_log_make(&evil, 1, 10, 1); /* the same key, another history from entry 10 on */
	if (!mkdtemp(folder))
		return 1;
	return ol_witness_create(folder, "witness.example/w1", &ol_random_system, NULL) != OL_OK;
}

static int teardown(void **state)
{
	(void)state;
	test_log_free(&honest);
	test_log_free(&evil);
	test_log_remove(folder);
	return 0;
}

/* Submits the log as it is, from old_size on. */
static enum ol_witness_answer submit(struct ol_witness *witness, struct test_log *log,
				     uint64_t old_size, struct ol_buf *reply, struct ol_buf *note)
{
	struct ol_log_checkpoint checkpoint;
	struct ol_proof proof = {.count = 0};
	struct ol_buf body;
	test_log_note(log, note, &checkpoint);
	if (old_size <= checkpoint.size)
		test_log_proof(log, &proof, old_size, checkpoint.size);
	ol_buf_init(&body, OL_WITNESS_REQUEST_MAX);
	ol_buf_init(reply, OL_NOTE_BYTES_MAX);
	assert_true(ol_witness_request_print(&body, old_size, &proof, note->data, note->size));
	const enum ol_witness_answer answer = ol_witness_add(witness, reply, body.data, body.size);
	ol_buf_release(&body);
	return answer;
}

static void expect(struct ol_witness *witness, struct test_log *log, uint64_t old_size,
		   enum ol_witness_answer expected, const char *body)
{
	struct ol_buf reply, note;
	const enum ol_witness_answer answer = submit(witness, log, old_size, &reply, &note);
	assert_int_equal(answer, expected);
	if (body)
		assert_non_null(strstr(reply.data, body));
	if (answer == OL_WITNESS_COSIGNED) {
		/* As the specification says: joined to the checkpoint it is a note. */
		struct ol_note whole;
		uint64_t time;
		assert_true(ol_buf_append(&note, reply.data, reply.size));
		assert_int_equal(ol_note_parse(&whole, note.data, note.size, NULL), OL_OK);
		assert_int_equal(ol_note_check(&whole, ol_witness_key(witness), &time),
				 OL_NOTE_SIGNED);
		assert_int_equal(time, 1679315147);
	}
	ol_buf_release(&reply);
	ol_buf_release(&note);
}

static void test_a_log_that_grows_and_forks(void **state)
{
	(void)state;
	struct ol_witness *witness = open_witness();
	char hash[65];
	uint8_t sha[32];
	struct ol_buf served;
	ol_sha256(sha, "example.com/log", 15);
	ol_hex(hash, sha, sizeof sha);
	ol_buf_init(&served, OL_NOTE_BYTES_MAX);
	assert_false(ol_witness_checkpoint(witness, &served, hash));
	test_log_grow(&honest, 5);
	expect(witness, &honest, 0, OL_WITNESS_COSIGNED, NULL);
	expect(witness, &honest, 0, OL_WITNESS_CONFLICT, "5\n"); /* how a log learns the size */
	expect(witness, &honest, 5, OL_WITNESS_COSIGNED, NULL);  /* again: the same            */
	test_log_grow(&honest, 300);
	expect(witness, &honest, 4, OL_WITNESS_CONFLICT, "5\n");
	expect(witness, &honest, 5, OL_WITNESS_COSIGNED, NULL);
	expect(witness, &honest, 301, OL_WITNESS_MALFORMED, NULL); /* old above new */
	/* The twin: signed by the right key, but other entries under the same sizes. */
	test_log_grow(&evil, 300);
	expect(witness, &evil, 300, OL_WITNESS_INCONSISTENT, NULL); /* same size, other root  */
	test_log_grow(&evil, 400);
	expect(witness, &evil, 300, OL_WITNESS_INCONSISTENT, "forked");
	/* It remembers, and so over a restart. */
	ol_witness_close(witness);
	witness = open_witness();
	expect(witness, &evil, 300, OL_WITNESS_INCONSISTENT, NULL);
	expect(witness, &evil, 0, OL_WITNESS_CONFLICT, "300\n");
	test_log_grow(&honest, 301);
	expect(witness, &honest, 300, OL_WITNESS_COSIGNED, NULL);
	/* What it serves bears both signatures. */
	struct ol_log_checkpoint checkpoint;
	struct ol_note note;
	assert_true(ol_witness_checkpoint(witness, &served, hash));
	assert_int_equal(ol_log_checkpoint_open(&checkpoint, &note, served.data, served.size,
						&honest.key, NULL),
			 OL_OK);
	assert_int_equal(checkpoint.size, 301);
	assert_int_equal(ol_note_check(&note, ol_witness_key(witness), NULL), OL_NOTE_SIGNED);
	ol_buf_release(&served);
	ol_witness_close(witness);
}

static void test_who_signed(void **state)
{
	(void)state;
	struct ol_witness *witness = open_witness();
	struct test_log stranger;
	struct ol_buf reply, note;
	/* The right name, another key: as if unsigned. */
	test_log_make(&stranger, 2, 0, 0);
	test_log_grow(&stranger, 3);
	expect(witness, &stranger, 0, OL_WITNESS_UNSIGNED, NULL);
	/* A name that is not known here. */
	assert_int_equal(ol_note_key_init(&stranger.key, "example.com/other", OL_NOTE_ED25519,
					  stranger.secret.public_key, NULL),
			 OL_OK);
	ol_tlog_close(stranger.log);
	test_log_remove(stranger.path);
	assert_int_equal(mkdir(stranger.path, 0755), 0);
	ol_log_folder_close(stranger.folder);
	assert_int_equal(ol_log_folder_open(&stranger.folder, stranger.path, NULL), OL_OK);
	stranger.store = ol_log_folder_store(stranger.folder);
	assert_int_equal(ol_tlog_open(&stranger.log, &stranger.store, &stranger.key, NULL), OL_OK);
	test_log_grow(&stranger, 3);
	expect(witness, &stranger, 0, OL_WITNESS_UNKNOWN_LOG, "example.com/other");
	test_log_free(&stranger);
	/* A right signature and a wrong one of the same key: the note is spoilt. */
	assert_int_equal(submit(witness, &honest, 0, &reply, &note), OL_WITNESS_CONFLICT);
	ol_buf_release(&reply);
	const size_t size = note.size;
	char *line = memmem(note.data, size, "\n\n", 2);
	struct ol_buf body;
	struct ol_proof none = {.count = 0};
	ol_buf_init(&body, OL_WITNESS_REQUEST_MAX);
	assert_non_null(line);
	const size_t from = (size_t)(line + 2 - note.data);
	char again[512];
	assert_true(size - from < sizeof again);
	memcpy(again, note.data + from, size - from);
	assert_true(ol_buf_append(&note, again, size - from));
	note.data[note.size - 8] ^= 1;
	assert_true(ol_witness_request_print(&body, 0, &none, note.data, note.size));
	ol_buf_init(&reply, 4096);
	assert_int_equal(ol_witness_add(witness, &reply, body.data, body.size),
			 OL_WITNESS_UNSIGNED);
	ol_buf_release(&reply);
	ol_buf_release(&body);
	ol_buf_release(&note);
	ol_witness_close(witness);
}

static void test_malformed_requests(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"",
		"\n",
		"old\n",
		"old 01\n\n",
		"old -1\n\n",
		"old 9223372036854775808\n\n",
		"new 0\n\n",
		"old 0\nnot base64\n\nx\n",
		"old 0\n\n",
		"old 0\n\nexample.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"old 0\n\nexample.com/log\n0\nAAAA\n\n\xe2\x80\x94 a AAAAAAA=\n",
	};
	struct ol_witness *witness = open_witness();
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_buf reply;
		ol_buf_init(&reply, 4096);
		assert_int_equal(ol_witness_add(witness, &reply, rows[i], strlen(rows[i])),
				 OL_WITNESS_MALFORMED);
		assert_true(reply.size > 1 && reply.data[reply.size - 1] == '\n');
		ol_buf_release(&reply);
	}
	/* 64 hashes are one too many. */
	struct ol_buf body, reply;
	ol_buf_init(&body, 1 << 16);
	ol_buf_init(&reply, 4096);
	ol_buf_append_text(&body, "old 1\n");
	for (int i = 0; i < 64; i++)
		ol_buf_append_text(&body, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
	ol_buf_append_text(&body, "\nx\n");
	assert_int_equal(ol_witness_add(witness, &reply, body.data, body.size),
			 OL_WITNESS_MALFORMED);
	ol_buf_release(&body);
	ol_buf_release(&reply);
	ol_witness_close(witness);
}

/* Every bit of a good request: whatever is changed, it is not cosigned as something else. */
static void test_every_flipped_bit(void **state)
{
	(void)state;
	struct ol_witness *witness = open_witness();
	struct ol_log_checkpoint checkpoint;
	struct ol_proof proof;
	struct ol_buf body, note;
	const uint64_t old_size = ol_tlog_size(honest.log);
	expect(witness, &honest, old_size, OL_WITNESS_COSIGNED, NULL);
	test_log_grow(&honest, old_size + 3);
	test_log_note(&honest, &note, &checkpoint);
	test_log_proof(&honest, &proof, old_size, checkpoint.size);
	ol_buf_init(&body, OL_WITNESS_REQUEST_MAX);
	assert_true(ol_witness_request_print(&body, old_size, &proof, note.data, note.size));
	for (size_t bit = 0; bit < 8 * body.size; bit++) {
		struct ol_buf reply;
		ol_buf_init(&reply, 4096);
		body.data[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_not_equal(ol_witness_add(witness, &reply, body.data, body.size),
				     OL_WITNESS_COSIGNED);
		body.data[bit / 8] ^= (char)(1 << bit % 8);
		ol_buf_release(&reply);
	}
	expect(witness, &honest, old_size, OL_WITNESS_COSIGNED, NULL);
	ol_buf_release(&body);
	ol_buf_release(&note);
	ol_witness_close(witness);
}

/* A witness that cannot remember does not sign; one whose memory is damaged does not start. */
static void test_its_memory(void **state)
{
	(void)state;
	struct ol_witness *witness = open_witness();
	char hash[65], path[256], aside[300];
	uint8_t sha[32];
	const uint64_t size = ol_tlog_size(honest.log);
	ol_sha256(sha, "example.com/log", 15);
	ol_hex(hash, sha, sizeof sha);
	expect(witness, &honest, size, OL_WITNESS_COSIGNED, NULL);
	snprintf(path, sizeof path, "%s/%s", folder, hash);
	snprintf(aside, sizeof aside, "%s.aside", path);
	assert_int_equal(rename(path, aside), 0);
	test_log_grow(&honest, size + 1);
	expect(witness, &honest, size, OL_WITNESS_FAILED, NULL);
	assert_int_equal(rename(aside, path), 0);
	expect(witness, &honest, size, OL_WITNESS_COSIGNED, NULL);
	ol_witness_close(witness);
	snprintf(aside, sizeof aside, "%s/checkpoint", path);
	FILE *file = fopen(aside, "r+");
	assert_non_null(file);
	fputs("X", file);
	fclose(file);
	struct ol_error err = {0};
	assert_int_equal(ol_witness_open(&witness, folder, &honest.key, 1, &test_clock, &err),
			 OL_ERR_INPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_log_that_grows_and_forks),
		cmocka_unit_test(test_who_signed),
		cmocka_unit_test(test_malformed_requests),
		cmocka_unit_test(test_every_flipped_bit),
		cmocka_unit_test(test_its_memory),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
