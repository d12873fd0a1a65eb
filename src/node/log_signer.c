#include "node/log_signer.h"
#include "base/clock.h"
#include "ledger/tile_reader.h"
#include "ledger/witness.h"
#include "node/log_http.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct witness {
	struct ol_note_key key;
	struct ol_log_http *http;
	uint64_t size; /* that it cosigned last, as far as is known */
	double next;   /* not before this time, ol_clock_seconds */
	double pause;  /* seconds; doubles with every failure    */
	char trouble[OL_ERROR_TEXT_MAX];
};

struct ol_log_signer {
	struct ol_signer *signer, *second; /* second may be NULL */
	struct ol_log_source files;
	uint32_t count;
	struct witness witnesses[];
};

enum ol_status ol_log_witness_parse(struct ol_log_witness *witness, const char *text,
				    struct ol_error *err)
{
	char key[OL_VERIFIER_KEY_TEXT];
	const char *url = strstr(text, "=http://");
	if (!url)
		url = strstr(text, "=https://");
	if (!url || (size_t)(url - text) >= sizeof key)
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%.100s\" is not a witness: its verifier key, =, and its URL are "
			       "needed",
			       text);
	memcpy(key, text, (size_t)(url - text));
	key[url - text] = '\0';
	witness->url = url + 1;
	const enum ol_status s = ol_note_key_parse(&witness->key, key, err);
	if (s == OL_OK && witness->key.type != OL_NOTE_COSIGNATURE)
		return ol_fail(err, OL_ERR_INPUT, "the key of \"%s\" is not a witness's (type 4)",
			       witness->key.name);
	return s;
}

enum ol_status ol_log_signer_open(struct ol_log_signer **signer_out, struct ol_signer *inner,
				  const struct ol_log_source *files,
				  const struct ol_log_witness *witnesses, uint32_t witness_count,
				  struct ol_error *err)
{
	enum ol_status s = OL_OK;
	if (witness_count > OL_LOG_WITNESSES_MAX)
		return ol_fail(err, OL_ERR_INPUT, "a log asks at most %d witnesses",
			       OL_LOG_WITNESSES_MAX);
	struct ol_log_signer *signer =
		calloc(1, sizeof *signer + witness_count * sizeof signer->witnesses[0]);
	if (!signer)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	signer->signer = inner;
	signer->files = *files;
	for (uint32_t i = 0; s == OL_OK && i < witness_count; i++) {
		struct witness *witness = &signer->witnesses[i];
		witness->key = witnesses[i].key;
		witness->pause = 1e-3 * OL_LOG_WITNESS_INTERVAL_MS;
		signer->count = i + 1;
		s = ol_log_http_open(&witness->http, witnesses[i].url, err);
		if (s == OL_OK && witness->key.type != OL_NOTE_COSIGNATURE)
			s = ol_fail(err, OL_ERR_INPUT,
				    "the key of \"%s\" is not a witness's (type 4)",
				    witness->key.name);
	}
	if (s == OL_OK)
		*signer_out = signer;
	else
		ol_log_signer_close(signer);
	return s;
}

void ol_log_signer_close(struct ol_log_signer *signer)
{
	if (!signer)
		return;
	for (uint32_t i = 0; i < signer->count; i++)
		ol_log_http_close(signer->witnesses[i].http);
	free(signer);
}

void ol_log_signer_also(struct ol_log_signer *signer, struct ol_signer *second)
{
	signer->second = second;
}

const char *ol_log_signer_witness_trouble(const struct ol_log_signer *signer, uint32_t which)
{
	OL_ASSERT(which < signer->count);
	return signer->witnesses[which].trouble;
}

/* One question; its answer's lines are appended to reply. */
static enum ol_status ask_once(struct ol_log_signer *signer, struct witness *witness,
			       int *status_out, struct ol_buf *reply, const struct ol_buf *note,
			       const struct ol_log_checkpoint *checkpoint, struct ol_error *err)
{
	struct ol_proof proof = {.count = 0};
	struct ol_buf body;
	enum ol_status s = OL_OK;
	if (witness->size > checkpoint->size)
		return ol_fail(err, OL_ERR_INPUT,
			       "it cosigned %" PRIu64 " entries already, this log has %" PRIu64,
			       witness->size, checkpoint->size);
	struct ol_tile_reader *reader = ol_tile_reader_open(&signer->files, checkpoint->size);
	if (!reader)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	const struct ol_tree tree = ol_tile_reader_tree(reader);
	s = ol_consistency_prove(&tree, &proof, witness->size, checkpoint->size, err);
	ol_tile_reader_close(reader);
	if (s != OL_OK)
		return s;
	ol_buf_init(&body, OL_WITNESS_REQUEST_MAX);
	ol_buf_clear(reply);
	if (!ol_witness_request_print(&body, witness->size, &proof, note->data, note->size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory");
	if (s == OL_OK)
		s = ol_log_http_post(witness->http, status_out, reply, "add-checkpoint", body.data,
				     body.size, OL_LOG_WITNESS_TIMEOUT_MS, err);
	ol_buf_release(&body);
	return s;
}

/* Its lines count only if with them the note bears its signature. */
static enum ol_status take(struct ol_buf *note, const struct witness *witness,
			   const struct ol_buf *reply, size_t first_line, struct ol_error *err)
{
	struct ol_note parsed;
	struct ol_buf whole;
	enum ol_status s = OL_OK;
	ol_buf_init(&whole, note->max);
	if (!ol_buf_append(&whole, note->data, first_line) ||
	    !ol_buf_append(&whole, reply->data, reply->size))
		s = ol_fail(err, OL_ERR_FULL, "its answer is too large");
	if (s == OL_OK)
		s = ol_note_parse(&parsed, whole.data, whole.size, err);
	if (s == OL_OK && (ol_note_check(&parsed, &witness->key, NULL) != OL_NOTE_SIGNED))
		s = ol_fail(err, OL_ERR_INPUT, "its answer bears no right signature of its key");
	/* Only the line of the key that was checked is passed on. */
	for (uint32_t i = 0; s == OL_OK && i < parsed.line_count; i++)
		if (parsed.lines[i].id == witness->key.id &&
		    !ol_buf_printf(note, "\xe2\x80\x94 %s %.*s\n", witness->key.name,
				   (int)parsed.lines[i].base64_length, parsed.lines[i].base64))
			s = ol_fail(err, OL_ERR_FULL, "out of memory");
	ol_buf_release(&whole);
	return s;
}

static void ask(struct ol_log_signer *signer, struct witness *witness, struct ol_buf *note,
		size_t unsigned_size, const struct ol_buf *signed_note,
		const struct ol_log_checkpoint *checkpoint)
{
	struct ol_error err = {0};
	struct ol_buf reply;
	int status = 0;
	ol_buf_init(&reply, OL_NOTE_BYTES_MAX);
	enum ol_status s =
		ask_once(signer, witness, &status, &reply, signed_note, checkpoint, &err);
	uint64_t size;
	if (s == OL_OK && status == OL_WITNESS_CONFLICT && reply.size > 1 &&
	    ol_decimal_parse(&size, reply.data, reply.size - 1, OL_TREE_SIZE_MAX)) {
		witness->size = size; /* it knows better where it stands: once more from there */
		s = ask_once(signer, witness, &status, &reply, signed_note, checkpoint, &err);
	}
	if (s == OL_OK && status != OL_WITNESS_COSIGNED)
		s = ol_fail(&err, OL_ERR_INPUT, "it answered %d: %.200s", status,
			    reply.data ? reply.data : "");
	if (s == OL_OK)
		s = take(note, witness, &reply, unsigned_size, &err);
	if (s == OL_OK)
		witness->size = checkpoint->size;
	witness->pause = s == OL_OK ? 1e-3 * OL_LOG_WITNESS_INTERVAL_MS
				    : OL_MIN(2 * witness->pause, 1e-3 * OL_LOG_WITNESS_PAUSE_MS);
	witness->next = ol_clock_seconds() + witness->pause;
	memcpy(witness->trouble, s == OL_OK ? "" : err.text, s == OL_OK ? 1 : sizeof err.text);
	ol_buf_release(&reply);
}

/* A note with the signature of this key alone. */
static enum ol_status sign_with(struct ol_log_signer *signer, struct ol_signer *key,
				struct ol_buf *note, const struct ol_log_checkpoint *checkpoint,
				struct ol_error *err)
{
	const struct ol_log_checkpoint *last = ol_signer_last(key);
	struct ol_proof proof = {.count = 0};
	if (last->size > checkpoint->size)
		return ol_fail(err, OL_ERR_INPUT,
			       "the key signed a checkpoint of %" PRIu64
			       " entries, the log has only %" PRIu64
			       ": it was set back; restore its journal",
			       last->size, checkpoint->size);
	struct ol_tile_reader *reader = ol_tile_reader_open(&signer->files, checkpoint->size);
	if (!reader)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	enum ol_status s = ol_tile_reader_consistency(reader, &proof, last->size, last->root,
						      checkpoint->root, err);
	ol_tile_reader_close(reader);
	return s == OL_OK ? ol_signer_checkpoint(key, note, checkpoint, &proof, err) : s;
}

/* Where the signature lines of a checkpoint's note begin: behind its one empty line. */
static size_t lines_of(const struct ol_buf *note)
{
	const char *blank = strstr(note->data, "\n\n");
	OL_ASSERT(blank);
	return (size_t)(blank + 2 - note->data);
}

enum ol_status ol_log_signer_sign(void *self, struct ol_buf *note,
				  const struct ol_log_checkpoint *checkpoint, struct ol_error *err)
{
	struct ol_log_signer *signer = self;
	struct ol_buf own, second;
	ol_buf_init(&own, OL_NOTE_BYTES_MAX);
	ol_buf_init(&second, OL_NOTE_BYTES_MAX);
	enum ol_status s = sign_with(signer, signer->signer, &own, checkpoint, err);
	if (s == OL_OK && signer->second)
		s = sign_with(signer, signer->second, &second, checkpoint, err);
	if (s == OL_OK && signer->second) {
		const size_t from = lines_of(&second);
		ol_buf_append(&own, second.data + from, second.size - from);
	}
	if (s == OL_OK && (own.failed || !ol_buf_append(note, own.data, own.size)))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a checkpoint");
	for (uint32_t i = 0; s == OL_OK && i < signer->count; i++)
		if (ol_clock_seconds() >= signer->witnesses[i].next)
			ask(signer, &signer->witnesses[i], note, lines_of(&own), &own, checkpoint);
	ol_buf_release(&own);
	ol_buf_release(&second);
	return s;
}
