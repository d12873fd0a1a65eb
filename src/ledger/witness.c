#include "ledger/witness.h"
#include "base/file.h"
#include "crypto/secret.h"
#include "crypto/secret_file.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_MAX_BYTES = 4096, HASH_TEXT = 2 * OL_SHA256_BYTES + 1 };

struct log_state {
	struct ol_note_key key;
	char hash[HASH_TEXT];
	struct ol_log_checkpoint last; /* size 0 and the empty root before the first */
	struct ol_buf note;            /* cosigned; empty before the first           */
};

struct ol_witness {
	char folder[PATH_MAX_BYTES];
	struct ol_note_key key;
	struct ol_ed25519_key *secret;
	struct ol_clock clock;
	pthread_mutex_t lock;
	uint32_t log_count;
	struct log_state logs[];
};

static enum ol_status join(char path[PATH_MAX_BYTES], const char *a, const char *b, const char *c,
			   struct ol_error *err)
{
	const int length = snprintf(path, PATH_MAX_BYTES, "%s%s%s", a, b, c);
	if (length < 0 || length >= PATH_MAX_BYTES)
		return ol_fail(err, OL_ERR_INPUT, "the path %.60s… is too long", a);
	return OL_OK;
}

enum ol_status ol_witness_create(const char *folder, const char *name,
				 const struct ol_random *random, struct ol_error *err)
{
	char path[PATH_MAX_BYTES], text[OL_NOTE_SECRET_TEXT];
	uint8_t seed[OL_ED25519_SEED_BYTES];
	struct ol_ed25519_key secret;
	struct ol_note_key key;
	enum ol_status s = ol_secret_folder_make(folder, err);
	if (s == OL_OK)
		s = join(path, folder, "/witness.key", "", err);
	if (s != OL_OK)
		return s;
	random->fill(random->self, seed, sizeof seed);
	ol_ed25519_key_from_seed(&secret, seed);
	ol_wipe(seed, sizeof seed);
	s = ol_note_key_init(&key, name, OL_NOTE_COSIGNATURE, secret.public_key, err);
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

static enum ol_status load_key(struct ol_witness *witness, struct ol_error *err)
{
	char path[PATH_MAX_BYTES], text[OL_NOTE_SECRET_TEXT];
	size_t size;
	enum ol_status s = join(path, witness->folder, "/witness.key", "", err);
	if (s == OL_OK)
		s = ol_secret_file_read(path, text, sizeof text - 1, &size, err);
	if (s != OL_OK)
		return s;
	while (size > 0 && text[size - 1] == '\n')
		size--;
	text[size] = '\0';
	s = ol_note_secret_parse(&witness->key, witness->secret, text, err);
	ol_wipe(text, sizeof text);
	if (s == OL_OK && witness->key.type != OL_NOTE_COSIGNATURE)
		s = ol_fail(err, OL_ERR_INPUT, "%s is not a witness's key (type 4)", path);
	return s;
}

/* What was cosigned last must bear both signatures; anything else is damage, and the witness must
 * not forget what it signed. */
static enum ol_status load_log(struct ol_witness *witness, struct log_state *log,
			       struct ol_error *err)
{
	char path[PATH_MAX_BYTES];
	struct ol_map map;
	struct ol_note note;
	uint8_t hash[OL_SHA256_BYTES];
	ol_sha256(hash, log->key.name, strlen(log->key.name));
	ol_hex(log->hash, hash, sizeof hash);
	ol_buf_init(&log->note, OL_NOTE_BYTES_MAX);
	memcpy(log->last.origin, log->key.name, sizeof log->last.origin);
	ol_sha256(log->last.root, NULL, 0);
	enum ol_status s = join(path, witness->folder, "/", log->hash, err);
	if (s == OL_OK)
		s = ol_secret_folder_make(path, err);
	if (s == OL_OK) {
		char folder[PATH_MAX_BYTES];
		memcpy(folder, path, sizeof folder);
		s = join(path, folder, "/checkpoint", "", err);
	}
	if (s != OL_OK)
		return s;
	s = ol_map_open(&map, path, err);
	if (s == OL_ERR_NOT_FOUND)
		return OL_OK;
	if (s != OL_OK)
		return s;
	s = ol_log_checkpoint_open(&log->last, &note, (const char *)map.data, map.size, &log->key,
				   err);
	if (s == OL_OK && ol_note_check(&note, &witness->key, NULL) != OL_NOTE_SIGNED)
		s = ol_fail(err, OL_ERR_INPUT, "%s does not bear this witness's signature", path);
	if (s == OL_OK && !ol_buf_append(&log->note, map.data, map.size))
		s = ol_fail(err, OL_ERR_FULL, "%s is too large", path);
	ol_map_close(&map);
	return s;
}

enum ol_status ol_witness_open(struct ol_witness **witness_out, const char *folder,
			       const struct ol_note_key *logs, uint32_t log_count,
			       const struct ol_clock *clock, struct ol_error *err)
{
	if (log_count == 0 || log_count > OL_WITNESS_LOGS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "a witness follows 1 to %d logs",
			       OL_WITNESS_LOGS_MAX);
	struct ol_witness *witness =
		calloc(1, sizeof *witness + log_count * sizeof witness->logs[0]);
	if (!witness)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	OL_ASSERT(pthread_mutex_init(&witness->lock, NULL) == 0);
	witness->clock = *clock;
	witness->secret = ol_secret_alloc(sizeof *witness->secret);
	enum ol_status s = witness->secret ? join(witness->folder, folder, "", "", err)
					   : ol_fail(err, OL_ERR_FULL, "out of memory");
	if (s == OL_OK)
		s = load_key(witness, err);
	for (uint32_t i = 0; s == OL_OK && i < log_count; i++) {
		for (uint32_t j = 0; s == OL_OK && j < i; j++)
			if (strcmp(logs[i].name, logs[j].name) == 0)
				s = ol_fail(err, OL_ERR_INPUT, "the log \"%s\" is named twice",
					    logs[i].name);
		witness->logs[i].key = logs[i];
		witness->log_count = i + 1;
		if (s == OL_OK && logs[i].type != OL_NOTE_ED25519)
			s = ol_fail(err, OL_ERR_INPUT, "the key of \"%s\" is not a log's (type 1)",
				    logs[i].name);
		if (s == OL_OK)
			s = load_log(witness, &witness->logs[i], err);
	}
	if (s == OL_OK)
		*witness_out = witness;
	else
		ol_witness_close(witness);
	return s;
}

void ol_witness_close(struct ol_witness *witness)
{
	if (!witness)
		return;
	for (uint32_t i = 0; i < witness->log_count; i++)
		ol_buf_release(&witness->logs[i].note);
	pthread_mutex_destroy(&witness->lock);
	ol_secret_free(witness->secret);
	free(witness);
}

const struct ol_note_key *ol_witness_key(const struct ol_witness *witness)
{
	return &witness->key;
}

/* A request taken apart; borrows it. */
struct request {
	uint64_t old_size;
	struct ol_proof proof;
	struct ol_note note;
	const char *note_bytes;
	size_t note_size;
	struct ol_log_checkpoint checkpoint;
};

static bool parse(struct request *request, const char *text, size_t size, struct ol_error *err)
{
	const char *end = text + size, *stop = memchr(text, '\n', size);
	if (size > OL_WITNESS_REQUEST_MAX || !stop || stop - text < 4 ||
	    memcmp(text, "old ", 4) != 0 ||
	    !ol_decimal_parse(&request->old_size, text + 4, (size_t)(stop - text) - 4,
			      OL_TREE_SIZE_MAX)) {
		ol_fail(err, OL_ERR_INPUT,
			"the first line must be \"old N\", N decimal without leading zeros");
		return false;
	}
	text = stop + 1;
	if (ol_proof_parse(&request->proof, &text, end, err) != OL_OK)
		return false;
	request->note_bytes = text + 1;
	request->note_size = (size_t)(end - request->note_bytes);
	return ol_note_parse(&request->note, request->note_bytes, request->note_size, err) ==
		       OL_OK &&
	       ol_log_checkpoint_parse(&request->checkpoint, request->note.text,
				       request->note.text_size, err) == OL_OK;
}

/* Everything but remembering and signing. */
static enum ol_witness_answer judge(const struct log_state *log, const struct request *request,
				    struct ol_error *err)
{
	const struct ol_log_checkpoint *now = &request->checkpoint, *last = &log->last;
	uint8_t empty[OL_MERKLE_BYTES];
	if (ol_note_check(&request->note, &log->key, NULL) != OL_NOTE_SIGNED) {
		ol_fail(err, OL_ERR_INPUT, "the log's key did not sign this checkpoint");
		return OL_WITNESS_UNSIGNED;
	}
	if (request->old_size > now->size) {
		ol_fail(err, OL_ERR_INPUT, "the old size is larger than the checkpoint's");
		return OL_WITNESS_MALFORMED;
	}
	if (request->old_size != last->size)
		return OL_WITNESS_CONFLICT;
	ol_sha256(empty, NULL, 0);
	if (now->size == 0 && memcmp(now->root, empty, sizeof empty) != 0) {
		ol_fail(err, OL_ERR_INPUT, "a tree without entries has another root");
		return OL_WITNESS_INCONSISTENT;
	}
	if (!ol_consistency_verify(&request->proof, last->size, last->root, now->size, now->root)) {
		ol_fail(err, OL_ERR_INPUT,
			"the checkpoint of %" PRIu64 " entries does not continue the %" PRIu64
			" that were cosigned: the log forked, or the proof is wrong",
			now->size, last->size);
		return OL_WITNESS_INCONSISTENT;
	}
	return OL_WITNESS_COSIGNED;
}

/* The checkpoint's text under the log's signature and ours; line is where ours begins. */
static bool cosign(const struct ol_witness *witness, const struct log_state *log,
		   const struct request *request, struct ol_buf *note, size_t *line)
{
	const uint64_t now = witness->clock.now_ms(witness->clock.self) / 1000;
	bool fits = ol_note_append_text(note, request->note.text, request->note.text_size);
	for (uint32_t i = 0; i < request->note.line_count; i++) {
		const struct ol_note_line *from = &request->note.lines[i];
		if (from->id == log->key.id && from->name_length == strlen(log->key.name) &&
		    memcmp(from->name, log->key.name, from->name_length) == 0)
			fits = ol_buf_printf(note, "\xe2\x80\x94 %s %.*s\n", log->key.name,
					     (int)from->base64_length, from->base64) &&
			       fits;
	}
	*line = note->size;
	return ol_note_cosign(note, &witness->key, witness->secret, now, request->note.text,
			      request->note.text_size) &&
	       fits;
}

static enum ol_status remember(const struct ol_witness *witness, const struct log_state *log,
			       const struct ol_buf *note, struct ol_error *err)
{
	char path[PATH_MAX_BYTES], folder[PATH_MAX_BYTES];
	struct ol_writer *writer;
	enum ol_status s = join(folder, witness->folder, "/", log->hash, err);
	if (s == OL_OK)
		s = join(path, folder, "/checkpoint", "", err);
	if (s == OL_OK)
		s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, note->data, note->size, err);
	if (s != OL_OK) {
		ol_writer_abort(writer);
		return s;
	}
	return ol_writer_commit(writer, err);
}

static enum ol_witness_answer add(struct ol_witness *witness, struct log_state *log,
				  const struct request *request, struct ol_buf *reply,
				  struct ol_error *err)
{
	struct ol_buf note;
	size_t line;
	enum ol_witness_answer answer = judge(log, request, err);
	if (answer == OL_WITNESS_CONFLICT)
		ol_buf_printf(reply, "%" PRIu64 "\n", log->last.size);
	if (answer != OL_WITNESS_COSIGNED)
		return answer;
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	if (!cosign(witness, log, request, &note, &line)) {
		ol_fail(err, OL_ERR_FULL, "out of memory");
		answer = OL_WITNESS_FAILED;
	} else if (remember(witness, log, &note, err) != OL_OK) {
		answer = OL_WITNESS_FAILED;
	}
	if (answer == OL_WITNESS_COSIGNED) {
		ol_buf_append(reply, note.data + line, note.size - line);
		ol_buf_release(&log->note);
		log->note = note;
		log->last = request->checkpoint;
	} else {
		ol_buf_release(&note);
	}
	return answer;
}

enum ol_witness_answer ol_witness_add(struct ol_witness *witness, struct ol_buf *reply,
				      const char *request_bytes, size_t size)
{
	struct request request;
	struct ol_error err = {0};
	struct log_state *log = NULL;
	enum ol_witness_answer answer = OL_WITNESS_MALFORMED;
	memset(&request, 0, sizeof request);
	if (parse(&request, request_bytes, size, &err)) {
		for (uint32_t i = 0; i < witness->log_count; i++)
			if (strcmp(witness->logs[i].key.name, request.checkpoint.origin) == 0)
				log = &witness->logs[i];
		if (log) {
			OL_ASSERT(pthread_mutex_lock(&witness->lock) == 0);
			answer = add(witness, log, &request, reply, &err);
			OL_ASSERT(pthread_mutex_unlock(&witness->lock) == 0);
		} else {
			ol_fail(&err, OL_ERR_NOT_FOUND, "the log \"%s\" is not known here",
				request.checkpoint.origin);
			answer = OL_WITNESS_UNKNOWN_LOG;
		}
	}
	if (answer != OL_WITNESS_COSIGNED && answer != OL_WITNESS_CONFLICT)
		ol_buf_printf(reply, "%s\n", err.text);
	return answer;
}

bool ol_witness_checkpoint(struct ol_witness *witness, struct ol_buf *note, const char *origin_hash)
{
	bool found = false;
	OL_ASSERT(pthread_mutex_lock(&witness->lock) == 0);
	for (uint32_t i = 0; i < witness->log_count; i++) {
		const struct log_state *log = &witness->logs[i];
		if (strcmp(log->hash, origin_hash) == 0 && log->note.size > 0)
			found = ol_buf_append(note, log->note.data, log->note.size);
	}
	OL_ASSERT(pthread_mutex_unlock(&witness->lock) == 0);
	return found;
}

bool ol_witness_request_print(struct ol_buf *body, uint64_t old_size, const struct ol_proof *proof,
			      const char *note, size_t note_size)
{
	return ol_buf_printf(body, "old %" PRIu64 "\n", old_size) && ol_proof_print(body, proof) &&
	       ol_buf_append_text(body, "\n") && ol_buf_append(body, note, note_size);
}
