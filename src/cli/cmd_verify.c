/* openledger verify: is a receipt true? */
#include "base/file.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/text.h"
#include "ledger/index.h"
#include "ledger/tile_reader.h"
#include "node/ledger_home.h"
#include "node/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All that was found of one receipt; released as one. */
struct evidence {
	struct ol_map file, opening_file, proof_file;
	json_t *json, *opening_json;
	uint8_t bytes[OL_RECEIPT_MAX];
	size_t size;
	struct ol_opening_copy opening;
	bool opened;
	struct ol_note_key key;
	bool has_key, has_proof, has_root;
	uint8_t root[OL_MERKLE_BYTES]; /* of the log at the receipt's checkpoint */
	struct ol_log_policy policy;
	struct ol_buf proof_text, listing, in_force;
	struct ol_tlog_proof proof;
};

static void release(struct evidence *e)
{
	ol_map_close(&e->file);
	ol_map_close(&e->opening_file);
	ol_map_close(&e->proof_file);
	json_decref(e->json);
	json_decref(e->opening_json);
	if (e->opened)
		ol_opening_release(&e->opening);
	ol_buf_release(&e->proof_text);
	ol_buf_release(&e->listing);
	ol_buf_release(&e->in_force);
	free(e);
}

static enum ol_status load_json(json_t **out, struct ol_map *map, const char *path,
				struct ol_error *err)
{
	json_error_t why;
	enum ol_status s = ol_map_open(map, path, err);
	if (s != OL_OK)
		return s;
	*out = json_loadb((const char *)map->data, map->size,
			  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	return *out ? OL_OK
		    : ol_fail(err, OL_ERR_INPUT, "%s, line %d: %s", path, why.line, why.text);
}

/* An answer of the API, its "openledger" alone, or a receipt of GET /v1/receipts/{id}. */
static enum ol_status read_receipt(struct evidence *e, const char *path, struct ol_error *err)
{
	enum ol_status s = load_json(&e->json, &e->file, path, err);
	if (s != OL_OK)
		return s;
	const json_t *body = json_object_get(e->json, "openledger");
	if (!body)
		body = e->json;
	const json_t *receipt = json_object_get(body, "receipt");
	const json_t *bytes = json_object_get(receipt ? receipt : body, "bytes");
	const json_t *opening = json_object_get(body, "opening");
	if (!json_is_string(bytes) ||
	    !ol_base64_parse(e->bytes, sizeof e->bytes, &e->size, json_string_value(bytes),
			     json_string_length(bytes)))
		return ol_fail(err, OL_ERR_INPUT,
			       "%s holds no receipt: give an answer of the API as it came, or what "
			       "GET /v1/receipts/{id} says",
			       path);
	if (opening && !e->opening_json) {
		s = ol_opening_parse(&e->opening, opening, err);
		e->opened = s == OL_OK;
	}
	return s;
}

static enum ol_status read_opening(struct evidence *e, const char *path, struct ol_error *err)
{
	enum ol_status s = load_json(&e->opening_json, &e->opening_file, path, err);
	if (s == OL_OK)
		s = ol_opening_parse(&e->opening, e->opening_json, err);
	e->opened = s == OL_OK;
	return s;
}

static enum ol_status read_proof(struct evidence *e, const char *path, struct ol_error *err)
{
	enum ol_status s = ol_map_open(&e->proof_file, path, err);
	if (s == OL_OK)
		s = ol_tlog_proof_parse(&e->proof, (const char *)e->proof_file.data,
					e->proof_file.size, err);
	e->has_proof = s == OL_OK;
	return s;
}

/* --- what this machine's own ledger knows ---------------------------------------------- */

static enum ol_status prove_here(struct evidence *e, const struct ol_ledger_home *paths,
				 uint64_t index, const struct ol_receipt *receipt,
				 struct ol_error *err)
{
	struct ol_log_folder *folder;
	struct ol_log_checkpoint checkpoint;
	struct ol_proof proof;
	struct ol_buf note;
	uint8_t leaf[OL_EVENT_ID_BYTES];
	enum ol_status s = ol_log_folder_open(&folder, paths->log, err);
	if (s != OL_OK)
		return s;
	const struct ol_log_store store = ol_log_folder_store(folder);
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	ol_event_id(leaf, e->bytes, e->size);
	s = store.source.fetch(store.source.self, &note, OL_CHECKPOINT_NAME, err);
	if (s == OL_OK)
		s = ol_log_checkpoint_open(&checkpoint, NULL, note.data, note.size, &e->key, err);
	struct ol_tile_reader *reader =
		s == OL_OK ? ol_tile_reader_open(&store.source, checkpoint.size) : NULL;
	if (s == OL_OK && !reader)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the proof");
	if (s == OL_OK && receipt->checkpoint_size > 0 &&
	    receipt->checkpoint_size <= checkpoint.size) {
		const struct ol_tree tree = ol_tile_reader_tree(reader);
		s = ol_tree_root(&tree, e->root, receipt->checkpoint_size, err);
		e->has_root = s == OL_OK;
	}
	if (s == OL_OK && index >= checkpoint.size)
		s = OL_ERR_NOT_FOUND; /* not yet under a checkpoint: there is no proof */
	if (s == OL_OK)
		s = ol_tile_reader_inclusion(reader, &proof, leaf, index, checkpoint.root, err);
	if (s == OL_OK &&
	    !ol_tlog_proof_print(&e->proof_text, NULL, 0, index, &proof, note.data, note.size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the proof");
	if (s == OL_OK)
		s = ol_tlog_proof_parse(&e->proof, e->proof_text.data, e->proof_text.size, err);
	e->has_proof = s == OL_OK;
	if (reader)
		ol_tile_reader_close(reader);
	ol_buf_release(&note);
	ol_log_folder_close(folder);
	return s == OL_ERR_NOT_FOUND ? OL_OK : s;
}

struct walk {
	const struct ol_receipt *receipt;
	const uint8_t *model;
	struct ol_buf *out;
	bool failed;
};

/* Newest first: the first one of the model that was there before the request came. It was if the
 * checkpoint that the receipt knew covers it; and, should it name an old checkpoint, if it is older
 * than any request may get. */
static bool find_in_force(void *context, const struct ol_indexed_event *event)
{
	struct walk *w = context;
	const struct ol_receipt *r = w->receipt;
	struct ol_listing listing;
	if (ol_listing_read(&listing, event->bytes, event->size) != OL_LISTING_WELL ||
	    memcmp(listing.model, w->model, 32) != 0)
		return true;
	if (event->index >= r->checkpoint_size &&
	    event->timestamp_ms + OL_PENDING_SECONDS_MAX * UINT64_C(1000) >= r->head.time_ms)
		return true;
	w->failed = !ol_buf_append(w->out, event->bytes, event->size);
	return false;
}

/* The price list and the proof, if this node made the receipt. */
static enum ol_status look_here(struct evidence *e, const struct ol_home *home,
				struct ol_error *err)
{
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_indexed_event event;
	struct ol_ledger_home paths;
	struct ol_ledger_index *index;
	struct ol_receipt receipt;
	uint8_t id[OL_EVENT_ID_BYTES];
	enum ol_status s = ol_ledger_home(&paths, home, err);
	if (s != OL_OK || ol_receipt_read(&receipt, parts, e->bytes, e->size) != OL_RECEIPT_WELL)
		return s;
	if (!e->has_key)
		e->has_key = ol_ledger_home_key(&e->key, &paths, NULL) == OL_OK;
	s = ol_ledger_index_open_read_only(&index, paths.index, err);
	if (s != OL_OK)
		return s == OL_ERR_NOT_FOUND ? OL_OK : s;
	ol_event_id(id, e->bytes, e->size);
	s = ol_ledger_index_event_by_id(index, &event, &e->listing, receipt.listing, err);
	if (s == OL_OK || s == OL_ERR_NOT_FOUND)
		s = ol_ledger_index_event_by_id(index, &event, NULL, id, err);
	if (s == OL_OK) {
		/* Its own price comes before its base's. */
		const uint8_t *const models[] = {receipt.adapter, receipt.base};
		struct walk walk = {.receipt = &receipt, .out = &e->in_force};
		for (size_t i = 0; i < OL_ARRAY_LEN(models) && s == OL_OK; i++) {
			walk.model = models[i];
			if (e->in_force.size == 0)
				s = ol_ledger_index_events(index, OL_EVENT_LISTING, event.index,
							   UINT32_MAX, find_in_force, &walk, err);
		}
		if (s == OL_OK && walk.failed)
			s = ol_fail(err, OL_ERR_FULL, "out of memory for a listing");
	}
	if (s == OL_OK && e->has_key && !e->has_proof)
		s = prove_here(e, &paths, event.index, &receipt, err);
	ol_ledger_index_close(index);
	return s == OL_ERR_NOT_FOUND ? OL_OK : s;
}

/* --- output ---------------------------------------------------------------------------------- */

static const char *const marks[] = {
	[OL_CHECK_NOT_MADE] = "-", [OL_CHECK_TRUE] = "ok", [OL_CHECK_FALSE] = "FALSE"};

static void print_words(const struct ol_verification *v)
{
	char id[2 * OL_EVENT_ID_BYTES + 1];
	int made = 0;
	ol_hex(id, v->id, sizeof v->id);
	for (int i = 0; i < OL_CHECKS; i++) {
		made += v->checks[i].outcome == OL_CHECK_TRUE;
		printf("%-10s %-6s %s\n", ol_check_name((enum ol_check_kind)i),
		       marks[v->checks[i].outcome], v->checks[i].text);
	}
	if (!ol_verification_holds(v))
		printf("\nThis receipt is NOT true.\n");
	else
		printf("\nreceipt %.16s…: %s (%d of %d checks, %.3f s)\n", id,
		       v->checks[OL_CHECK_ANSWER].outcome == OL_CHECK_TRUE
			       ? "verified, same bits"
			       : "nothing found against it",
		       made, OL_CHECKS, v->seconds);
}

static json_t *checks_json(const struct ol_verification *v)
{
	static const char *const outcomes[] = {[OL_CHECK_NOT_MADE] = "not_made",
					       [OL_CHECK_TRUE] = "true",
					       [OL_CHECK_FALSE] = "false"};
	json_t *checks = json_object();
	for (int i = 0; i < OL_CHECKS; i++)
		json_object_set_new(checks, ol_check_name((enum ol_check_kind)i),
				    json_pack("{s:s, s:s}", "outcome",
					      outcomes[v->checks[i].outcome], "text",
					      v->checks[i].text));
	return checks;
}

static int print_object(const struct ol_verification *v)
{
	char id[2 * OL_EVENT_ID_BYTES + 1];
	ol_hex(id, v->id, sizeof v->id);
	return ol_print_json(json_pack("{s:s, s:b, s:o, s:f}", "id", id, "holds",
				       ol_verification_holds(v), "checks", checks_json(v),
				       "seconds", v->seconds));
}

/* --- evidence -------------------------------------------------------------------------------- */

/* Everything that another machine needs to see the same lie, in one file. */
static enum ol_status write_evidence(const char *path, const struct evidence *e,
				     const struct ol_verification *v, struct ol_error *err)
{
	struct ol_writer *writer = NULL;
	struct ol_buf bytes, listing;
	char key[OL_VERIFIER_KEY_TEXT] = "";
	ol_buf_init(&bytes, OL_BASE64_LENGTH(OL_RECEIPT_MAX));
	ol_buf_init(&listing, OL_BASE64_LENGTH(OL_EVENT_MAX));
	if (e->has_key)
		ol_note_key_print(key, &e->key);
	bool ok = ol_base64_append(&bytes, e->bytes, e->size) &&
		  ol_base64_append(&listing, e->listing.data, e->listing.size);
	json_t *json = json_pack("{s:s, s:{s:s}, s:s, s:s, s:o}", "challenge", "openledger/1",
				 "receipt", "bytes", ok && bytes.data ? bytes.data : "", "listing",
				 ok && listing.data ? listing.data : "", "key", key, "checks",
				 checks_json(v));
	if (e->opened)
		json_object_set_new(json, "opening", ol_opening_json(&e->opening.opening));
	if (e->has_proof && e->proof_text.size > 0)
		json_object_set_new(json, "proof",
				    json_stringn(e->proof_text.data, e->proof_text.size));
	char *text = json_dumps(json, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(json);
	enum ol_status s = text && ok ? ol_writer_open(&writer, path, err)
				      : ol_fail(err, OL_ERR_FULL, "out of memory");
	if (s == OL_OK) {
		s = ol_writer_append(writer, text, strlen(text), err);
		if (s == OL_OK)
			s = ol_writer_commit(writer, err);
		else
			ol_writer_abort(writer);
	}
	free(text);
	ol_buf_release(&bytes);
	ol_buf_release(&listing);
	return s;
}

/* --- the command ----------------------------------------------------------------------------- */

static enum ol_status gather(struct evidence *e, const char *file, const char *opening,
			     const char *proof, const char *key, const struct ol_home *home,
			     struct ol_error *err)
{
	enum ol_status s = OL_OK;
	ol_buf_init(&e->proof_text, OL_TLOG_PROOF_BYTES_MAX);
	ol_buf_init(&e->listing, OL_EVENT_MAX);
	ol_buf_init(&e->in_force, OL_EVENT_MAX);
	if (opening)
		s = read_opening(e, opening, err);
	if (s == OL_OK)
		s = read_receipt(e, file, err);
	if (s == OL_OK && proof)
		s = read_proof(e, proof, err);
	if (s == OL_OK && key) {
		s = ol_note_key_parse(&e->key, key, err);
		e->has_key = s == OL_OK;
	}
	return s == OL_OK ? look_here(e, home, err) : s;
}

static const char examples[] =
	"  curl … /v1/chat/completions … > answer.json; openledger verify answer.json\n"
	"  openledger verify answer.json --proof proof.txt --key "
	"'example.com/log+4b9b0e5f+AQ…'\n";

int ol_command_verify(int argc, char **argv)
{
	const char *opening = NULL, *proof = NULL, *key = NULL, *evidence = NULL;
	bool json = false, quick = false;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_TEXT("opening", 0, opening, "FILE",
			"salt, prompt and answer, if FILE does not hold them"),
		OL_TEXT("proof", 0, proof, "FILE",
			"that it stands in the log: what GET /v1/receipts/{id}/proof says"),
		OL_TEXT("key", 0, key, "KEY", "the node's verifier key, NAME+ID+KEY (GET /v1/log)"),
		OL_TEXT("evidence", 0, evidence, "FILE",
			"if something is false: write all that shows it, to challenge the receipt"),
		OL_FLAG("no-replay", 0, quick, "do not run the model again"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger verify",
		.usage = "FILE [options]",
		.about =
			"Computes everything on a receipt again: signature, log, price, split, and "
			"with the models\nat hand the answer itself, in one prefill. FILE is an "
			"answer of the API as it came. Ends with\n0 when nothing was found against "
			"it, with 2 when something is false.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands,
		.examples = examples};
	struct ol_verification *v = calloc(1, sizeof *v);
	struct evidence *e = calloc(1, sizeof *e);
	struct ol_home home;
	struct ol_error err = {0};
	enum ol_status s = v && e ? OL_OK : ol_fail(&err, OL_ERR_FULL, "out of memory");
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO) {
		free(v);
		free(e);
		return parsed == OL_PARSE_HELP ? 0 : 1;
	}
	if (s == OL_OK && operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "verify needs one FILE with a receipt in it");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = gather(e, operands.values[0], opening, proof, key, &home, &err);
	if (s == OL_OK) {
		e->policy = (struct ol_log_policy){.log = &e->key};
		const struct ol_verify_job job = {
			.bytes = e->bytes,
			.size = e->size,
			.node = e->has_key ? e->key.public_key : NULL,
			.listing = e->listing.size > 0 ? (const uint8_t *)e->listing.data : NULL,
			.listing_size = e->listing.size,
			.in_force = e->in_force.size > 0 ? (const uint8_t *)e->in_force.data : NULL,
			.in_force_size = e->in_force.size,
			.proof = e->has_proof ? &e->proof : NULL,
			.known_root = e->has_root ? e->root : NULL,
			.policy = e->has_key ? &e->policy : NULL,
			.opening = e->opened ? &e->opening.opening : NULL,
			.home = quick ? NULL : &home};
		s = ol_verify(v, &job, &err);
	}
	const int exit_status = s == OL_OK && !ol_verification_holds(v) ? 2 : 0;
	if (exit_status == 2 && evidence)
		s = write_evidence(evidence, e, v, &err);
	if (s == OL_OK && json)
		(void)print_object(v);
	else if (s == OL_OK)
		print_words(v);
	free(v);
	if (e)
		release(e);
	return s == OL_OK ? exit_status : ol_report(&err);
}
