/* The server's side: see node/signer.h. */
#define _GNU_SOURCE
#include "node/signer.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_file.h"
#include "node/home.h"
#include "node/signer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_TIMEOUT_MS = 20000 };

struct ol_signer {
	pthread_mutex_t lock; /* one question at a time */
	int socket;
	pid_t pid;
	bool dead;
	struct ol_note_key key;
	struct ol_log_checkpoint last;
};

bool ol_signer_exists(const char *folder)
{
	char path[OL_PATH_MAX];
	return ol_path_join(path, NULL, folder, "/node.key", "") == OL_OK &&
	       access(path, F_OK) == 0;
}

static enum ol_status create_state(const char *folder, const struct ol_ed25519_key *secret,
				   struct ol_error *err)
{
	char path[OL_PATH_MAX];
	uint8_t bytes[2 * OL_SIGNER_RECORD_STEP] = {0};
	struct ol_signer_record empty = {.sequence = 0};
	ol_sha256(empty.root, NULL, 0); /* of the tree without entries */
	memcpy(empty.key, secret->public_key, sizeof empty.key);
	ol_signer_record_seal(&empty);
	memcpy(bytes, &empty, sizeof empty);
	const enum ol_status s = ol_path_join(path, err, folder, "/node.state", "");
	return s == OL_OK ? ol_secret_file_create(path, bytes, sizeof bytes, err) : s;
}

enum ol_status ol_signer_create(const char *folder, const char *origin,
				const struct ol_random *random, struct ol_error *err)
{
	char path[OL_PATH_MAX], text[OL_NOTE_SECRET_TEXT];
	uint8_t seed[OL_ED25519_SEED_BYTES];
	struct ol_ed25519_key secret;
	struct ol_note_key key;
	enum ol_status s = ol_secret_folder_make(folder, err);
	if (s == OL_OK)
		s = ol_path_join(path, err, folder, "/node.key", "");
	if (s == OL_OK && access(path, F_OK) == 0)
		s = ol_fail(err, OL_ERR_INPUT, "%s exists already", path);
	if (s != OL_OK)
		return s;
	random->fill(random->self, seed, sizeof seed);
	ol_ed25519_key_from_seed(&secret, seed);
	ol_wipe(seed, sizeof seed);
	s = ol_note_key_init(&key, origin, OL_NOTE_ED25519, secret.public_key, err);
	/* The state first: a key without one is not used, a state without a key harms nobody. */
	if (s == OL_OK) {
		char state_path[OL_PATH_MAX];
		if (ol_path_join(state_path, NULL, folder, "/node.state", "") == OL_OK)
			unlink(state_path);
		s = create_state(folder, &secret, err);
	}
	if (s == OL_OK) {
		ol_note_secret_print(text, &key, &secret);
		const size_t length = strlen(text);
		text[length] = '\n';
		s = ol_secret_file_create(path, text, length + 1, err);
		ol_wipe(text, sizeof text);
	}
	ol_ed25519_key_wipe(&secret);
	return s;
}

static enum ol_status died(struct ol_signer *signer, struct ol_error *err, const char *why)
{
	signer->dead = true;
	return ol_fail(err, OL_ERR_IO,
		       "the signer %s; nothing can be signed until the node is "
		       "started again",
		       why);
}

/* Sends a request and receives its answer: the payload's size, status in the first byte. */
static enum ol_status exchange(struct ol_signer *signer, uint8_t answer[OL_SIGNER_ANSWER_MAX],
			       size_t *size_out, const void *request, size_t size,
			       struct ol_error *err)
{
	struct pollfd wait = {.fd = signer->socket, .events = POLLIN};
	ssize_t got;
	if (signer->dead)
		return died(signer, err, "has ended");
	if (size > OL_SIGNER_MESSAGE_MAX)
		return ol_fail(err, OL_ERR_INPUT, "%zu bytes are more than the signer takes, %d",
			       size, OL_SIGNER_MESSAGE_MAX);
	while ((got = send(signer->socket, request, size, MSG_NOSIGNAL)) < 0 && errno == EINTR)
		;
	if (got < 0)
		return died(signer, err, "has ended");
	int ready;
	while ((ready = poll(&wait, 1, ANSWER_TIMEOUT_MS)) < 0 && errno == EINTR)
		;
	if (ready <= 0)
		return died(signer, err, "does not answer");
	while ((got = recv(signer->socket, answer, OL_SIGNER_ANSWER_MAX, 0)) < 0 && errno == EINTR)
		;
	if (got < 1)
		return died(signer, err, "has ended");
	*size_out = (size_t)got - 1;
	if (answer[0] == OL_OK)
		return OL_OK;
	return ol_fail(err, answer[0] <= OL_ERR_CANCELLED ? (enum ol_status)answer[0] : OL_ERR_IO,
		       "%.*s", (int)*size_out, (const char *)answer + 1);
}

static enum ol_status ask(struct ol_signer *signer, uint8_t answer[OL_SIGNER_ANSWER_MAX],
			  size_t *size_out, const void *request, size_t size, struct ol_error *err)
{
	OL_ASSERT(pthread_mutex_lock(&signer->lock) == 0);
	const enum ol_status s = exchange(signer, answer, size_out, request, size, err);
	OL_ASSERT(pthread_mutex_unlock(&signer->lock) == 0);
	return s;
}

enum ol_status ol_signer_attach(struct ol_signer **signer_out, int socket, int pid,
				struct ol_error *err)
{
	static const uint8_t hello[1] = {OL_SIGNER_HELLO};
	uint8_t answer[OL_SIGNER_ANSWER_MAX];
	char text[OL_VERIFIER_KEY_TEXT];
	size_t size;
	struct ol_signer *signer = calloc(1, sizeof *signer);
	if (!signer) {
		close(socket);
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	}
	OL_ASSERT(pthread_mutex_init(&signer->lock, NULL) == 0);
	signer->socket = socket;
	signer->pid = pid;
	enum ol_status s = ask(signer, answer, &size, hello, sizeof hello, err);
	const size_t head = 8 + OL_MERKLE_BYTES;
	if (s == OL_OK && (size <= head || size - head >= sizeof text))
		s = died(signer, err, "gave no sense");
	if (s == OL_OK) {
		signer->last.size = ol_load_u64(answer + 1);
		memcpy(signer->last.root, answer + 9, OL_MERKLE_BYTES);
		memcpy(text, answer + 1 + head, size - head);
		text[size - head] = '\0';
		s = ol_note_key_parse(&signer->key, text, err);
	}
	if (s == OL_OK) {
		memcpy(signer->last.origin, signer->key.name, sizeof signer->last.origin);
		*signer_out = signer;
	} else {
		ol_signer_stop(signer);
	}
	return s;
}

/* The child gets its end as descriptor 3 and nothing else that is open here: all others close on
 * exec. */
enum ol_status ol_signer_start(struct ol_signer **signer_out, const char *folder,
			       const char *program, struct ol_error *err)
{
	enum { CHILD_SOCKET = 3 };
	int ends[2];
	pid_t pid;
	posix_spawn_file_actions_t actions;
	char path[OL_PATH_MAX], word[] = "signer", number[] = "3", name[] = "openledger";
	extern char **environ;
	const enum ol_status s = ol_path_join(path, err, folder, "", "");
	if (s != OL_OK)
		return s;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return ol_fail(err, OL_ERR_IO, "cannot make a socket for the signer: %s",
			       strerror(errno));
	char *const arguments[] = {name, word, path, number, NULL};
	/* dup2 onto itself would keep its close-on-exec flag. */
	const int child = ends[1] == CHILD_SOCKET ? fcntl(ends[1], F_DUPFD_CLOEXEC, 10) : ends[1];
	int failed = posix_spawn_file_actions_init(&actions);
	if (failed == 0)
		failed = posix_spawn_file_actions_adddup2(&actions, child, CHILD_SOCKET);
	if (failed == 0)
		failed = posix_spawn(&pid, program ? program : "/proc/self/exe", &actions, NULL,
				     arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	if (child != ends[1])
		close(child);
	if (failed != 0) {
		close(ends[0]);
		return ol_fail(err, OL_ERR_IO, "cannot start the signer: %s", strerror(failed));
	}
	return ol_signer_attach(signer_out, ends[0], pid, err);
}

void ol_signer_stop(struct ol_signer *signer)
{
	if (!signer)
		return;
	/* It reads the end of the stream and ends itself, whatever child still holds a copy. */
	shutdown(signer->socket, SHUT_RDWR);
	close(signer->socket);
	if (signer->pid > 0)
		while (waitpid(signer->pid, NULL, 0) < 0 && errno == EINTR)
			;
	pthread_mutex_destroy(&signer->lock);
	free(signer);
}

const struct ol_note_key *ol_signer_key(const struct ol_signer *signer)
{
	return &signer->key;
}

const struct ol_log_checkpoint *ol_signer_last(const struct ol_signer *signer)
{
	return &signer->last;
}

int ol_signer_socket(const struct ol_signer *signer)
{
	return signer->socket;
}

enum ol_status ol_signer_checkpoint(struct ol_signer *signer, struct ol_buf *note,
				    const struct ol_log_checkpoint *checkpoint,
				    const struct ol_proof *consistency, struct ol_error *err)
{
	uint8_t answer[OL_SIGNER_ANSWER_MAX];
	const uint8_t head[2] = {OL_SIGNER_CHECKPOINT, (uint8_t)consistency->count};
	struct ol_buf request, text;
	size_t size;
	OL_ASSERT(consistency->count <= OL_PROOF_HASHES_MAX);
	ol_buf_init(&request, OL_SIGNER_MESSAGE_MAX);
	ol_buf_init(&text, OL_CHECKPOINT_TEXT_MAX);
	ol_buf_append(&request, head, sizeof head);
	ol_buf_append(&request, consistency->hashes, (size_t)head[1] * OL_MERKLE_BYTES);
	enum ol_status s = OL_OK;
	if (!ol_log_checkpoint_print(&text, checkpoint) ||
	    !ol_buf_append(&request, text.data, text.size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a checkpoint");
	if (s == OL_OK)
		s = ask(signer, answer, &size, request.data, request.size, err);
	/* Whatever answered, only a right signature counts. */
	if (s == OL_OK &&
	    (size != OL_ED25519_SIGNATURE_BYTES ||
	     !ol_ed25519_verify(signer->key.public_key, answer + 1, text.data, text.size)))
		s = died(signer, err, "gave no sense");
	if (s == OL_OK) {
		signer->last = *checkpoint;
		if (!ol_note_append_text(note, text.data, text.size) ||
		    !ol_note_append_line(note, &signer->key, answer + 1, size))
			s = ol_fail(err, OL_ERR_FULL, "out of memory for a checkpoint");
	}
	ol_buf_release(&request);
	ol_buf_release(&text);
	return s;
}

enum ol_status ol_signer_event(struct ol_signer *signer,
			       uint8_t signature_out[OL_ED25519_SIGNATURE_BYTES], const void *bytes,
			       size_t size, struct ol_error *err)
{
	uint8_t answer[OL_SIGNER_ANSWER_MAX];
	const uint8_t head[1] = {OL_SIGNER_EVENT};
	struct ol_buf request;
	ol_buf_init(&request, OL_SIGNER_MESSAGE_MAX);
	ol_buf_append(&request, head, sizeof head);
	enum ol_status s = OL_OK;
	if (!ol_buf_append(&request, bytes, size))
		s = ol_fail(err, OL_ERR_INPUT, "an event of %zu bytes is too large to be signed",
			    size);
	if (s == OL_OK)
		s = ask(signer, answer, &size, request.data, request.size, err);
	if (s == OL_OK && size != OL_ED25519_SIGNATURE_BYTES)
		s = died(signer, err, "gave no sense");
	if (s == OL_OK)
		memcpy(signature_out, answer + 1, OL_ED25519_SIGNATURE_BYTES);
	ol_buf_release(&request);
	return s;
}
