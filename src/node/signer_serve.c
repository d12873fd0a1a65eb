/* The signer's side: see node/signer.h. */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_file.h"
#include "ledger/event.h"
#include "node/home.h"
#include "node/signer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct state {
	struct ol_note_key key;
	struct ol_ed25519_key *secret; /* ol_secret_alloc */
	struct ol_signer_record last;
	const struct ol_signer_rule *rules;
	uint32_t rule_count;
	int state_file;
	bool broken; /* what is on the disk is not known: nothing is signed any more */
};

void ol_signer_record_seal(struct ol_signer_record *record)
{
	memcpy(record->magic, "OLSIGNER", sizeof record->magic);
	ol_sha256(record->check, record, offsetof(struct ol_signer_record, check));
}

bool ol_signer_record_good(const struct ol_signer_record *record)
{
	uint8_t check[OL_SHA256_BYTES];
	ol_sha256(check, record, offsetof(struct ol_signer_record, check));
	return memcmp(record->magic, "OLSIGNER", sizeof record->magic) == 0 &&
	       memcmp(check, record->check, sizeof check) == 0;
}

static enum ol_status read_key(struct state *state, const char *folder, struct ol_error *err)
{
	char path[OL_PATH_MAX], text[OL_NOTE_SECRET_TEXT];
	size_t size;
	enum ol_status s = ol_path_join(path, err, folder, "/node.key", "");
	if (s == OL_OK)
		s = ol_secret_file_read(path, text, sizeof text - 1, &size, err);
	if (s != OL_OK)
		return s;
	while (size > 0 && text[size - 1] == '\n')
		size--;
	text[size] = '\0';
	s = ol_note_secret_parse(&state->key, state->secret, text, err);
	ol_wipe(text, sizeof text);
	if (s == OL_OK && state->key.type != OL_NOTE_ED25519)
		s = ol_fail(err, OL_ERR_INPUT, "%s is a witness's key, not a log's", path);
	return s;
}

static enum ol_status read_state(struct state *state, const char *folder, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_signer_record record;
	bool any = false;
	const enum ol_status s = ol_path_join(path, err, folder, "/node.state", "");
	if (s != OL_OK)
		return s;
	state->state_file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (state->state_file < 0)
		return ol_fail(err, OL_ERR_IO,
			       "cannot open %s, which remembers the last signed checkpoint: %s; "
			       "without it the key could sign a second history and is not used",
			       path, strerror(errno));
	for (int i = 0; i < 2; i++) {
		if (pread(state->state_file, &record, sizeof record, i * OL_SIGNER_RECORD_STEP) !=
			    sizeof record ||
		    !ol_signer_record_good(&record) ||
		    memcmp(record.key, state->key.public_key, sizeof record.key) != 0)
			continue;
		if (!any || record.sequence > state->last.sequence)
			state->last = record;
		any = true;
	}
	if (!any)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s holds no good record of this key's last signed checkpoint; "
			       "restore it from a backup, or make a new key",
			       path);
	return OL_OK;
}

/* Durable before anything is answered. A failure is final: what the disk holds is not known. */
static enum ol_status remember(struct state *state, const struct ol_log_checkpoint *checkpoint,
			       struct ol_error *err)
{
	struct ol_signer_record next = state->last;
	next.sequence++;
	next.size = checkpoint->size;
	memcpy(next.root, checkpoint->root, sizeof next.root);
	ol_signer_record_seal(&next);
	const off_t at = next.sequence % 2 ? OL_SIGNER_RECORD_STEP : 0;
	if (pwrite(state->state_file, &next, sizeof next, at) != sizeof next ||
	    fdatasync(state->state_file) != 0) {
		state->broken = true;
		return ol_fail(err, OL_ERR_IO, "cannot remember the checkpoint of size %llu: %s",
			       (unsigned long long)checkpoint->size, strerror(errno));
	}
	state->last = next;
	return OL_OK;
}

static enum ol_status sign_checkpoint(struct state *state, uint8_t signature[64],
				      const uint8_t *bytes, size_t size, struct ol_error *err)
{
	struct ol_proof proof = {.count = size > 0 ? bytes[0] : 0};
	struct ol_log_checkpoint checkpoint;
	const size_t hashes = (size_t)proof.count * OL_MERKLE_BYTES;
	if (size < 1 || proof.count > OL_PROOF_HASHES_MAX || size - 1 < hashes)
		return ol_fail(err, OL_ERR_INPUT, "malformed request");
	memcpy(proof.hashes, bytes + 1, hashes);
	const char *text = (const char *)bytes + 1 + hashes;
	const size_t text_size = size - 1 - hashes;
	enum ol_status s = ol_log_checkpoint_parse(&checkpoint, text, text_size, err);
	if (s != OL_OK)
		return s;
	if (strcmp(checkpoint.origin, state->key.name) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the checkpoint is of \"%.80s\", the key is of \"%.80s\"",
			       checkpoint.origin, state->key.name);
	if (checkpoint.extension_lines != 0)
		return ol_fail(err, OL_ERR_INPUT, "the checkpoint has extension lines");
	if (checkpoint.size < state->last.size)
		return ol_fail(err, OL_ERR_INPUT,
			       "the checkpoint has %llu entries, one with %llu was signed before",
			       (unsigned long long)checkpoint.size,
			       (unsigned long long)state->last.size);
	if (!ol_consistency_verify(&proof, state->last.size, state->last.root, checkpoint.size,
				   checkpoint.root))
		return ol_fail(err, OL_ERR_INPUT,
			       "the checkpoint of %llu entries does not continue the one of %llu "
			       "that was signed before",
			       (unsigned long long)checkpoint.size,
			       (unsigned long long)state->last.size);
	s = remember(state, &checkpoint, err);
	if (s == OL_OK)
		ol_ed25519_sign(signature, state->secret, text, text_size);
	return s;
}

static enum ol_status sign_event(struct state *state, uint8_t signature[64], const uint8_t *bytes,
				 size_t size, struct ol_error *err)
{
	struct ol_event_head head;
	if (!ol_event_read(&head, bytes, size))
		return ol_fail(err, OL_ERR_INPUT, "this is no event of a known kind and version");
	for (uint32_t i = 0; i < state->rule_count; i++) {
		const char *why = "";
		if (state->rules[i].event_kind != head.kind)
			continue;
		if (!state->rules[i].well_formed(bytes, size, state->key.name,
						 state->key.public_key, &why))
			return ol_fail(err, OL_ERR_INPUT, "the %s is not signed: %s",
				       ol_event_kind_name(head.kind), why);
		ol_ed25519_sign(signature, state->secret, bytes, size);
		return OL_OK;
	}
	return ol_fail(err, OL_ERR_INPUT, "events of the kind \"%s\" are not signed",
		       ol_event_kind_name(head.kind));
}

static size_t hello(const struct state *state, uint8_t *out)
{
	char text[OL_VERIFIER_KEY_TEXT];
	ol_store_u64(out, state->last.size);
	memcpy(out + 8, state->last.root, OL_MERKLE_BYTES);
	ol_note_key_print(text, &state->key);
	memcpy(out + 8 + OL_MERKLE_BYTES, text, strlen(text));
	return 8 + OL_MERKLE_BYTES + strlen(text);
}

/* One request to one answer; the answer's size. */
static size_t answer(struct state *state, uint8_t out[OL_SIGNER_ANSWER_MAX], const uint8_t *request,
		     size_t size)
{
	struct ol_error err = {0};
	enum ol_status s = OL_ERR_INPUT;
	size_t answer_size = 1 + OL_ED25519_SIGNATURE_BYTES;
	if (state->broken)
		s = ol_fail(&err, OL_ERR_IO, "the signer's disk failed before; start it again");
	else if (size >= 1 && request[0] == OL_SIGNER_CHECKPOINT)
		s = sign_checkpoint(state, out + 1, request + 1, size - 1, &err);
	else if (size >= 1 && request[0] == OL_SIGNER_EVENT)
		s = sign_event(state, out + 1, request + 1, size - 1, &err);
	else if (size == 1 && request[0] == OL_SIGNER_HELLO) {
		s = OL_OK;
		answer_size = 1 + hello(state, out + 1);
	} else
		ol_fail(&err, s, "malformed request");
	out[0] = (uint8_t)s;
	if (s != OL_OK) {
		answer_size = 1 + strlen(err.text);
		memcpy(out + 1, err.text, answer_size - 1);
	}
	return answer_size;
}

static enum ol_status loop(struct state *state, int socket, struct ol_error *err)
{
	static uint8_t request[OL_SIGNER_MESSAGE_MAX + 1];
	uint8_t out[OL_SIGNER_ANSWER_MAX];
	for (;;) {
		const ssize_t got = recv(socket, request, sizeof request, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return ol_fail(err, OL_ERR_IO, "the signer's socket failed: %s",
				       strerror(errno));
		if (got == 0)
			return OL_OK; /* the server has gone */
		/* A message that was cut off is too large: malformed, like one without bytes. */
		const size_t size = (size_t)got > OL_SIGNER_MESSAGE_MAX ? 0 : (size_t)got;
		const size_t answer_size = answer(state, out, request, size);
		if (send(socket, out, answer_size, MSG_NOSIGNAL) < 0 && errno != EINTR)
			return errno == EPIPE
				       ? OL_OK
				       : ol_fail(err, OL_ERR_IO, "the signer's socket failed: %s",
						 strerror(errno));
	}
}

enum ol_status ol_signer_serve(int socket, const char *folder, const struct ol_signer_rule *rules,
			       uint32_t rule_count, struct ol_error *err)
{
	struct state state = {.rules = rules, .rule_count = rule_count, .state_file = -1};
	uint8_t warm[OL_ED25519_SIGNATURE_BYTES];
	struct ol_error why = {0};
	state.secret = ol_secret_alloc(sizeof *state.secret);
	if (!state.secret)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	enum ol_status s = read_key(&state, folder, &why);
	if (s == OL_OK)
		s = read_state(&state, folder, &why);
	if (s == OL_OK) {
		/* Whatever the libraries set up at their first use happens before the door closes.
		 * */
		ol_ed25519_sign(warm, state.secret, "", 0);
		ol_sha256(warm, "", 0);
		if (!ol_signer_confine())
			s = ol_fail(&why, OL_ERR_IO, "the signer cannot lock itself in: %s",
				    strerror(errno));
	}
	if (s == OL_OK) {
		s = loop(&state, socket, &why);
	} else {
		/* The server's first question is answered with the reason. */
		uint8_t out[1 + OL_ERROR_TEXT_MAX];
		while (recv(socket, out, sizeof out, 0) < 0 && errno == EINTR)
			;
		out[0] = (uint8_t)s;
		memcpy(out + 1, why.text, strlen(why.text));
		send(socket, out, 1 + strlen(why.text), MSG_NOSIGNAL);
	}
	ol_secret_free(state.secret);
	if (state.state_file >= 0)
		close(state.state_file);
	return s == OL_OK ? s : ol_fail(err, s, "%s", why.text);
}
