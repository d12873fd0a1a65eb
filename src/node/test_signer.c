/* The signer: what it signs, everything it refuses, that it cannot be brought to sign two histories
 * by restarts or a torn state, that it is locked in, and that its death is seen. */
#define _GNU_SOURCE
#include "node/signer.h"
#include "crypto/secret_file.h"
#include "ledger/event.h"
#include "ledger/key_event.h"
#include "node/signer_internal.h"
#include "node/test_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

enum { HASH = OL_MERKLE_BYTES, LEAVES = 40 };
static const char origin[] = "example.com/log";
static char folder[] = "/tmp/openledger-test-XXXXXX";

/* Two histories that are the same for 10 leaves. */
static uint8_t leaf[2][LEAVES][HASH];

static enum ol_status node(void *self, uint8_t out[HASH], int level, uint64_t index,
			   struct ol_error *err)
{
	uint8_t(*leaves)[HASH] = self;
	uint8_t left[HASH], right[HASH];
	(void)err;
	if (level == 0) {
		memcpy(out, leaves[index], HASH);
		return OL_OK;
	}
	assert_int_equal(node(self, left, level - 1, 2 * index, NULL), OL_OK);
	assert_int_equal(node(self, right, level - 1, 2 * index + 1, NULL), OL_OK);
	ol_merkle_node(out, left, right);
	return OL_OK;
}

static void history(int which, uint64_t size, uint64_t old_size,
		    struct ol_log_checkpoint *checkpoint, struct ol_proof *proof)
{
	const struct ol_tree tree = {node, leaf[which]};
	memset(checkpoint, 0, sizeof *checkpoint);
	memcpy(checkpoint->origin, origin, sizeof origin);
	checkpoint->size = size;
	assert_int_equal(ol_tree_root(&tree, checkpoint->root, size, NULL), OL_OK);
	proof->count = 0;
	if (old_size <= size)
		assert_int_equal(ol_consistency_prove(&tree, proof, old_size, size, NULL), OL_OK);
}

/* A child of this test is the signer; rules may be NULL: those of the program. */
static enum ol_status start_with(struct ol_signer **signer, const struct ol_signer_rule *rules,
				 uint32_t rule_count, struct ol_error *err)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		const enum ol_status s = ol_signer_serve(ends[1], folder, rules, rule_count, NULL);
		_exit(s == OL_OK ? 0 : 1);
	}
	close(ends[1]);
	return ol_signer_attach(signer, ends[0], pid, err);
}

static struct ol_signer *start(void)
{
	struct ol_signer *signer = NULL;
	struct ol_error err = {0};
	if (start_with(&signer, ol_signer_rules, ol_signer_rule_count, &err) != OL_OK)
		fail_msg("%s", err.text);
	return signer;
}

static int setup(void **state)
{
	(void)state;
	for (int which = 0; which < 2; which++)
		for (int i = 0; i < LEAVES; i++) {
			const uint8_t bytes[2] = {(uint8_t)i, (uint8_t)(i < 10 ? 0 : which)};
			ol_merkle_leaf(leaf[which][i], bytes, sizeof bytes);
		}
	return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state)
{
	(void)state;
	test_folder_remove(folder);
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	test_folder_remove(folder);
	return ol_signer_create(folder, origin, &ol_random_system, NULL) != OL_OK;
}

static enum ol_status sign(struct ol_signer *signer, int which, uint64_t size)
{
	struct ol_log_checkpoint checkpoint, opened;
	struct ol_proof proof;
	struct ol_buf note;
	history(which, size, ol_signer_last(signer)->size, &checkpoint, &proof);
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	const enum ol_status s = ol_signer_checkpoint(signer, &note, &checkpoint, &proof, NULL);
	if (s == OL_OK) {
		assert_int_equal(ol_log_checkpoint_open(&opened, NULL, note.data, note.size,
							ol_signer_key(signer), NULL),
				 OL_OK);
		assert_int_equal(opened.size, size);
	}
	ol_buf_release(&note);
	return s;
}

static void test_a_key_and_its_checkpoints(void **state)
{
	(void)state;
	struct stat stat_of;
	char path[OL_PATH_MAX];
	assert_true(ol_signer_exists(folder));
	assert_int_equal(ol_signer_create(folder, origin, &ol_random_system, NULL), OL_ERR_INPUT);
	snprintf(path, sizeof path, "%s/node.key", folder);
	assert_int_equal(stat(path, &stat_of), 0);
	assert_int_equal(stat_of.st_mode & 0777, 0600);
	struct ol_signer *signer = start();
	assert_string_equal(ol_signer_key(signer)->name, origin);
	assert_int_equal(ol_signer_last(signer)->size, 0);
	for (uint64_t size = 0; size <= 20; size += 5)
		assert_int_equal(sign(signer, 0, size), OL_OK);
	assert_int_equal(sign(signer, 0, 20), OL_OK); /* again: the same */
	ol_signer_stop(signer);
}

static void test_two_histories(void **state)
{
	(void)state;
	struct ol_signer *signer = start();
	assert_int_equal(sign(signer, 0, 20), OL_OK);
	assert_int_equal(sign(signer, 1, 20), OL_ERR_INPUT); /* the same size, another root */
	assert_int_equal(sign(signer, 1, 30), OL_ERR_INPUT); /* a fork                       */
	assert_int_equal(sign(signer, 0, 19), OL_ERR_INPUT); /* rolled back                  */
	assert_int_equal(sign(signer, 0, 0), OL_ERR_INPUT);
	ol_signer_stop(signer);
	signer = start(); /* it remembers */
	assert_int_equal(ol_signer_last(signer)->size, 20);
	assert_int_equal(sign(signer, 1, 30), OL_ERR_INPUT);
	assert_int_equal(sign(signer, 0, 19), OL_ERR_INPUT);
	assert_int_equal(sign(signer, 0, 30), OL_OK);
	ol_signer_stop(signer);
}

static void spoil(off_t at, uint8_t bit)
{
	char path[OL_PATH_MAX];
	uint8_t byte;
	snprintf(path, sizeof path, "%s/node.state", folder);
	const int file = open(path, O_RDWR);
	assert_true(file >= 0);
	assert_int_equal(pread(file, &byte, 1, at), 1);
	byte ^= bit;
	assert_int_equal(pwrite(file, &byte, 1, at), 1);
	close(file);
}

/* Any bit of the newer record: the older one counts. Both: the key is not used. */
static void test_a_torn_state(void **state)
{
	(void)state;
	struct ol_signer *signer = start();
	struct ol_error err = {0};
	assert_int_equal(sign(signer, 0, 15), OL_OK); /* record 1, in the second place */
	assert_int_equal(sign(signer, 0, 20), OL_OK); /* record 2, in the first        */
	ol_signer_stop(signer);
	for (off_t at = 0; at < (off_t)sizeof(struct ol_signer_record); at += 7) {
		spoil(at, 4);
		signer = start();
		assert_int_equal(ol_signer_last(signer)->size, 15);
		ol_signer_stop(signer);
		spoil(at, 4);
	}
	spoil(3, 1);
	spoil(OL_SIGNER_RECORD_STEP + 20, 1);
	signer = NULL;
	assert_int_equal(start_with(&signer, NULL, 0, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "no good record"));
}

static void test_files_that_are_not_used(void **state)
{
	(void)state;
	char path[OL_PATH_MAX];
	struct ol_signer *signer = NULL;
	struct ol_error err = {0};
	snprintf(path, sizeof path, "%s/node.key", folder);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(start_with(&signer, NULL, 0, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "others may read"));
	assert_int_equal(chmod(path, 0600), 0);
	snprintf(path, sizeof path, "%s/node.state", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(start_with(&signer, NULL, 0, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "second history"));
}

/* The state of another key does not stand for this one's. */
static void test_anothers_state(void **state)
{
	char path[OL_PATH_MAX], aside[OL_PATH_MAX];
	struct ol_signer *signer = NULL;
	snprintf(path, sizeof path, "%s/node.key", folder);
	snprintf(aside, sizeof aside, "%s.aside", folder);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(ol_signer_create(folder, origin, &ol_random_system, NULL), OL_OK);
	assert_int_equal(rename(aside, path), 0);
	assert_int_equal(start_with(&signer, NULL, 0, NULL), OL_ERR_INPUT);
	(void)state;
}

/* Bytes over the bare socket: each is answered with a refusal, and the signer goes on. */
static void test_malformed_messages(void **state)
{
	(void)state;
	static uint8_t large[OL_SIGNER_MESSAGE_MAX + 2];
	static const struct {
		const char *bytes;
		size_t size;
	} rows[] = {
		{"\x00", 1},
		{"\xff", 1},
		{"\x01?", 2},
		/* hello with more  */ {"\x02", 1},
		{"\x02\x00", 2},
		{"\x02\x01", 2}, /* a hash that is not there */
		{"\x02\xff", 2},
		{"\x02\x41", 2},
		{"\x02\x00text\n", 7},
		{"\x03", 1},
		{"\x03OLEV", 5},
		{"\x03OLEV\x01\x00\x05\x00\0\0\0\0\0\0\0\0", 17},
		{"\x03"
		 "example.com/log\n5\n",
		 20},
		{"\x02\x00"
		 "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		 64},
	};
	int ends[2];
	uint8_t answer[OL_SIGNER_ANSWER_MAX];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		_exit(ol_signer_serve(ends[1], folder, ol_signer_rules, ol_signer_rule_count,
				      NULL) != OL_OK);
	}
	close(ends[1]);
	uint64_t random = 7;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows) + 3000; i++) {
		uint8_t bytes[300];
		const void *message = bytes;
		size_t size = 1 + test_random(&random) % sizeof bytes;
		for (size_t b = 0; b < size; b++)
			bytes[b] = (uint8_t)test_random(&random);
		bytes[0] = (uint8_t)(2 + test_random(&random) % 2);
		if (i < OL_ARRAY_LEN(rows)) {
			message = rows[i].bytes;
			size = rows[i].size;
		}
		assert_int_equal(send(ends[0], message, size, MSG_NOSIGNAL), size);
		assert_true(recv(ends[0], answer, sizeof answer, 0) > 1);
		assert_int_equal(answer[0], OL_ERR_INPUT);
	}
	memset(large, 2, sizeof large);
	assert_int_equal(send(ends[0], large, sizeof large, MSG_NOSIGNAL), sizeof large);
	assert_true(recv(ends[0], answer, sizeof answer, 0) > 1);
	assert_int_equal(answer[0], OL_ERR_INPUT);
	close(ends[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_another_log_and_extensions(void **state)
{
	(void)state;
	struct ol_signer *signer = start();
	struct ol_log_checkpoint checkpoint;
	struct ol_proof proof;
	struct ol_buf note;
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	history(0, 5, 0, &checkpoint, &proof);
	checkpoint.origin[0] = 'E';
	assert_int_equal(ol_signer_checkpoint(signer, &note, &checkpoint, &proof, NULL),
			 OL_ERR_INPUT);
	history(0, 5, 0, &checkpoint, &proof);
	proof.count = 1; /* a hash too many */
	assert_int_equal(ol_signer_checkpoint(signer, &note, &checkpoint, &proof, NULL),
			 OL_ERR_INPUT);
	/* An extension line hidden in the origin. */
	history(0, 5, 0, &checkpoint, &proof);
	snprintf(checkpoint.origin, sizeof checkpoint.origin, "%s\n5\nx", origin);
	assert_int_equal(ol_signer_checkpoint(signer, &note, &checkpoint, &proof, NULL),
			 OL_ERR_INPUT);
	assert_int_equal(note.size, 0);
	ol_buf_release(&note);
	ol_signer_stop(signer);
}

static bool wants_abc(const uint8_t *bytes, size_t size, const char *log_origin,
		      const uint8_t key[OL_ED25519_PUBLIC_BYTES], const char **why)
{
	(void)key;
	*why = "it does not end in abc";
	return strcmp(log_origin, origin) == 0 && memcmp(bytes + size - 3, "abc", 3) == 0;
}

static void test_events_by_their_rules(void **state)
{
	(void)state;
	static const struct ol_signer_rule rules[] = {{OL_EVENT_GRANT, wants_abc}};
	struct ol_signer *signer = NULL;
	struct ol_error err = {0};
	uint8_t bytes[OL_EVENT_HEAD_BYTES + 3], signature[64];
	struct ol_event_head head;
	assert_int_equal(start_with(&signer, rules, 1, NULL), OL_OK);
	ol_event_begin(&head, OL_EVENT_GRANT, 5);
	memcpy(bytes, &head, sizeof head);
	memcpy(bytes + sizeof head, "abc", 3);
	assert_int_equal(ol_signer_event(signer, signature, bytes, sizeof bytes, NULL), OL_OK);
	assert_true(ol_ed25519_verify(ol_signer_key(signer)->public_key, signature, bytes,
				      sizeof bytes));
	bytes[sizeof bytes - 1] = 'd';
	assert_int_equal(ol_signer_event(signer, signature, bytes, sizeof bytes, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "does not end in abc"));
	ol_event_begin(&head, OL_EVENT_RECEIPT, 5); /* no rule here */
	memcpy(bytes, &head, sizeof head);
	assert_int_equal(ol_signer_event(signer, signature, bytes, sizeof bytes, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "are not signed"));
	ol_signer_stop(signer);
}

/* A key event signed by the old key and by the new one is taken; every flipped bit is not. */
static void test_a_key_follows_another(void **state)
{
	(void)state;
	struct ol_signer *signer = start();
	struct ol_ed25519_key next;
	struct ol_key_event event;
	const uint8_t seed[32] = {77};
	const uint8_t *trusted = ol_signer_key(signer)->public_key;
	uint8_t bytes[OL_KEY_EVENT_BYTES], stranger[32] = {1};
	ol_ed25519_key_from_seed(&next, seed);
	ol_key_event_begin(&event, origin, trusted, next.public_key, 99);
	assert_int_equal(
		ol_signer_event(signer, event.old_signature, &event, OL_KEY_EVENT_SIGNED, NULL),
		OL_OK);
	ol_ed25519_sign(event.new_signature, &next, &event, OL_KEY_EVENT_SIGNED);
	memcpy(bytes, &event, sizeof bytes);
	assert_int_equal(ol_key_event_check(NULL, bytes, sizeof bytes, origin, trusted),
			 OL_KEY_EVENT_WELL);
	for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(ol_key_event_check(NULL, bytes, sizeof bytes, origin, trusted),
				     OL_KEY_EVENT_WELL);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(ol_key_event_check(NULL, bytes, sizeof bytes - 1, origin, trusted),
			 OL_KEY_EVENT_SIZE);
	assert_int_equal(ol_key_event_check(NULL, bytes, sizeof bytes, "other", trusted),
			 OL_KEY_EVENT_ORIGIN);
	assert_int_equal(ol_key_event_check(NULL, bytes, sizeof bytes, origin, stranger),
			 OL_KEY_EVENT_OLD_KEY);
	bytes[6] = OL_EVENT_GRANT;
	assert_int_equal(ol_key_event_check(NULL, bytes, sizeof bytes, origin, trusted),
			 OL_KEY_EVENT_KIND);
	/* Neither of the keys is the signer's. */
	ol_key_event_begin(&event, origin, stranger, next.public_key, 99);
	assert_int_equal(
		ol_signer_event(signer, event.old_signature, &event, OL_KEY_EVENT_SIGNED, NULL),
		OL_ERR_INPUT);
	ol_key_event_begin(&event, origin, trusted, trusted, 99);
	assert_int_equal(
		ol_signer_event(signer, event.old_signature, &event, OL_KEY_EVENT_SIGNED, NULL),
		OL_ERR_INPUT);
	ol_signer_stop(signer);
}

/* A rule that tries what a burglar would: the kernel ends the process, and that is seen. */
static bool burglar(const uint8_t *bytes, size_t size, const char *log_origin,
		    const uint8_t key[OL_ED25519_PUBLIC_BYTES], const char **why)
{
	(void)log_origin;
	(void)key;
	*why = "nothing";
	switch (bytes[size - 1]) {
	case 0: return open("/etc/passwd", O_RDONLY) >= 0;
	case 1: return socket(AF_INET, SOCK_STREAM, 0) >= 0;
	case 2: return fork() >= 0;
	default: return execl("/bin/true", "true", (char *)NULL) == 0;
	}
}

static void test_it_is_locked_in_and_its_death_is_seen(void **state)
{
	(void)state;
	static const struct ol_signer_rule rules[] = {{OL_EVENT_GRANT, burglar}};
	for (uint8_t what = 0; what < 4; what++) {
		struct ol_signer *signer = NULL;
		struct ol_event_head head;
		struct ol_error err = {0};
		uint8_t bytes[OL_EVENT_HEAD_BYTES + 1], signature[64];
		assert_int_equal(start_with(&signer, rules, 1, NULL), OL_OK);
		ol_event_begin(&head, OL_EVENT_GRANT, 5);
		memcpy(bytes, &head, sizeof head);
		bytes[sizeof bytes - 1] = what;
		assert_int_equal(ol_signer_event(signer, signature, bytes, sizeof bytes, &err),
				 OL_ERR_IO);
		assert_non_null(strstr(err.text, "has ended"));
		assert_int_equal(ol_signer_event(signer, signature, bytes, sizeof bytes, NULL),
				 OL_ERR_IO);
		assert_int_equal(sign(signer, 0, 5), OL_ERR_IO);
		ol_signer_stop(signer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_key_and_its_checkpoints, fresh),
		cmocka_unit_test_setup(test_two_histories, fresh),
		cmocka_unit_test_setup(test_a_torn_state, fresh),
		cmocka_unit_test_setup(test_files_that_are_not_used, fresh),
		cmocka_unit_test_setup(test_anothers_state, fresh),
		cmocka_unit_test_setup(test_malformed_messages, fresh),
		cmocka_unit_test_setup(test_another_log_and_extensions, fresh),
		cmocka_unit_test_setup(test_events_by_their_rules, fresh),
		cmocka_unit_test_setup(test_a_key_follows_another, fresh),
		cmocka_unit_test_setup(test_it_is_locked_in_and_its_death_is_seen, fresh),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
