/* openledger log: somebody's public log, looked at from outside. */
#include "base/file.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/sha256.h"
#include "crypto/text.h"
#include "ledger/monitor.h"
#include "node/home.h"
#include "node/key_rotation.h"
#include "node/log_http.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A verifier key, or a file that holds one (a key has a '+', a name of a file need not). */
static enum ol_status read_key(struct ol_note_key *key, const char *text, struct ol_error *err)
{
	char line[OL_VERIFIER_KEY_TEXT];
	struct ol_map map;
	if (!text)
		return ol_fail(err, OL_ERR_INPUT,
			       "--key is needed: the log's verifier key, from somebody you trust");
	if (strchr(text, '+'))
		return ol_note_key_parse(key, text, err);
	const enum ol_status s = ol_map_open(&map, text, err);
	if (s != OL_OK)
		return s;
	size_t length = 0;
	for (; length < map.size && length < sizeof line - 1; length++) {
		if (map.data[length] == '\n' || map.data[length] == '\r')
			break;
		line[length] = (char)map.data[length];
	}
	line[length] = '\0';
	ol_map_close(&map);
	return ol_note_key_parse(key, line, err);
}

/* A log by its URL, or in a folder of this machine. */
struct place {
	struct ol_log_http *http;
	struct ol_log_folder *folder;
	struct ol_log_source source;
};

static enum ol_status open_place(struct place *place, const struct ol_texts *operands,
				 struct ol_error *err)
{
	struct ol_map map;
	if (operands->count != 1)
		return ol_fail(err, OL_ERR_INPUT,
			       "name one log: its URL, or the folder of its "
			       "files");
	const char *where = operands->values[0];
	if (strncmp(where, "http://", 7) == 0 || strncmp(where, "https://", 8) == 0) {
		const enum ol_status s = ol_log_http_open(&place->http, where, err);
		if (s == OL_OK)
			place->source = ol_log_http_source(place->http);
		return s;
	}
	/* Looking must not make a folder where there is none. */
	char path[OL_PATH_MAX];
	enum ol_status s = ol_path_join(path, err, where, "/checkpoint", "");
	if (s == OL_OK)
		s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	ol_map_close(&map);
	s = ol_log_folder_open(&place->folder, where, err);
	if (s == OL_OK)
		place->source = ol_log_folder_store(place->folder).source;
	return s;
}

static void close_place(struct place *place)
{
	ol_log_http_close(place->http);
	ol_log_folder_close(place->folder);
}

static int print_report(const struct ol_monitor_report *report, bool json)
{
	const bool alarm = ol_monitor_is_alarm(report->finding);
	if (json) {
		json_t *object =
			json_pack("{s:s, s:s, s:b, s:I, s:I, s:s}", "object", "log.finding",
				  "finding", ol_monitor_finding_name(report->finding), "alarm",
				  alarm, "known_size", (json_int_t)report->known_size, "size",
				  (json_int_t)report->size, "text", report->text);
		if (report->evidence[0])
			json_object_set_new(object, "evidence", json_string(report->evidence));
		if (report->next_key[0])
			json_object_set_new(object, "next_key", json_string(report->next_key));
		return ol_print_json(object);
	}
	printf("%s%s\n", alarm ? "ALARM: " : "", report->text);
	if (report->evidence[0])
		printf("Evidence is kept in %s\n", report->evidence);
	if (report->next_key[0])
		printf("The log's key changes: the old key and the new one have signed that from "
		       "now on it is\n  %s\nGive --key that one.\n",
		       report->next_key);
	return fflush(stdout) == 0 ? 0 : 1;
}

static enum ol_status watch(struct ol_monitor *monitor, bool once, bool json, int interval,
			    int *failed, struct ol_error *err)
{
	ol_interrupt_catch();
	for (;;) {
		struct ol_monitor_report report;
		const struct timespec second = {.tv_sec = 1};
		const enum ol_status s = ol_monitor_step(monitor, &report, err);
		if (s != OL_OK)
			return s;
		const bool bad = ol_monitor_is_alarm(report.finding) ||
				 (once && report.finding == OL_MONITOR_UNREACHABLE);
		*failed |= bad;
		if (once || report.finding != OL_MONITOR_SAME)
			*failed |= print_report(&report, json);
		if (once || ol_monitor_is_alarm(report.finding))
			return OL_OK;
		for (int i = 0; i < interval && !ol_interrupted(); i++)
			nanosleep(&second, NULL);
		if (ol_interrupted())
			return OL_OK;
	}
}

static int command_monitor(int argc, char **argv)
{
	const char *key_text = NULL, *state = NULL;
	bool once = false, json = false;
	int interval = 10;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_TEXT("key", 0, key_text, "KEY", "the log's verifier key, or a file with it"),
		OL_TEXT("state", 0, state, "DIR",
			"what it has seen, and evidence (HOME/monitor/…)"),
		OL_FLAG("once", 0, once, "look once, do not follow"),
		OL_NUMBER(INT, "interval", 0, interval, "SECONDS", 1, 86400,
			  "between two looks (10)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger log monitor",
		.usage = "URL|DIR --key KEY [options]",
		.about = "Follows a log: reads every entry, checks every hash, and says in words "
			 "when the log\nforked, was rolled back, lacks files or was signed by "
			 "another key. Exit status 1: it did.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_home home;
	struct ol_note_key key;
	struct place place = {0};
	struct ol_monitor *monitor = NULL;
	struct ol_error err = {0};
	char folder[OL_PATH_MAX], hex[2 * OL_SHA256_BYTES + 1];
	uint8_t hash[OL_SHA256_BYTES];
	int failed = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = read_key(&key, key_text, &err);
	if (s == OL_OK && !state) {
		ol_sha256(hash, key.name, strlen(key.name));
		ol_hex(hex, hash, sizeof hash);
		s = ol_home_open(&home, &err);
		if (s == OL_OK)
			s = ol_path_join(folder, &err, home.path, "/monitor/", hex);
	}
	if (s == OL_OK)
		s = open_place(&place, &operands, &err);
	if (s == OL_OK) {
		const struct ol_monitor_options monitor_options = {
			.source = place.source, .log_key = &key, .folder = state ? state : folder};
		s = ol_monitor_open(&monitor, &monitor_options, &err);
	}
	if (s == OL_OK)
		s = watch(monitor, once, json, interval, &failed, &err);
	ol_monitor_close(monitor);
	close_place(&place);
	return s == OL_OK ? failed : ol_report(&err);
}

/* ---- verify ---- */

/* The leaf's hash: given, or of a file's bytes. */
static enum ol_status read_leaf(uint8_t leaf[OL_MERKLE_BYTES], const char *hex, const char *file,
				struct ol_error *err)
{
	struct ol_map map;
	if ((hex != NULL) == (file != NULL))
		return ol_fail(err, OL_ERR_INPUT,
			       "say which entry is proven: --entry FILE, or --leaf HASH");
	if (hex)
		return ol_hex_parse(leaf, OL_MERKLE_BYTES, hex, strlen(hex))
			       ? OL_OK
			       : ol_fail(err, OL_ERR_INPUT, "--leaf must be %d hexadecimal digits",
					 2 * OL_MERKLE_BYTES);
	const enum ol_status s = ol_map_open(&map, file, err);
	if (s != OL_OK)
		return s;
	ol_merkle_leaf(leaf, map.data, map.size);
	ol_map_close(&map);
	return OL_OK;
}

struct verify_job {
	const char *key_text, *leaf_hex, *entry;
	struct ol_texts proofs, witness_texts;
	int quorum;
};

static enum ol_status verify(const struct verify_job *job, struct ol_tlog_proof *proof,
			     struct ol_tlog_proof_result *result, struct ol_error *err)
{
	struct ol_note_key key, witnesses[OL_TEXTS_MAX];
	uint8_t leaf[OL_MERKLE_BYTES];
	struct ol_map map;
	if (job->proofs.count != 1)
		return ol_fail(err, OL_ERR_INPUT, "name one file with a proof");
	enum ol_status s = read_key(&key, job->key_text, err);
	for (int i = 0; s == OL_OK && i < job->witness_texts.count; i++)
		s = read_key(&witnesses[i], job->witness_texts.values[i], err);
	if (s == OL_OK)
		s = read_leaf(leaf, job->leaf_hex, job->entry, err);
	if (s == OL_OK)
		s = ol_map_open(&map, job->proofs.values[0], err);
	if (s != OL_OK)
		return s;
	const struct ol_log_policy policy = {.log = &key,
					     .witnesses = witnesses,
					     .witness_count = (uint32_t)job->witness_texts.count,
					     .quorum = (uint32_t)job->quorum};
	s = ol_tlog_proof_parse(proof, map.data ? (const char *)map.data : "", map.size, err);
	if (s == OL_OK)
		s = ol_tlog_proof_verify(proof, leaf, &policy, result, err);
	ol_map_close(&map);
	return s;
}

static int command_verify(int argc, char **argv)
{
	struct verify_job job = {.quorum = 0};
	bool json = false;
	const struct ol_option options[] = {
		OL_TEXT("key", 0, job.key_text, "KEY", "the log's verifier key, or a file with it"),
		OL_TEXT("entry", 0, job.entry, "FILE", "the entry's bytes"),
		OL_TEXT("leaf", 0, job.leaf_hex, "HASH", "or its leaf hash"),
		OL_TEXTS("witness", 0, job.witness_texts, "KEY", "a witness you trust"),
		OL_NUMBER(INT, "quorum", 0, job.quorum, "N", 0, OL_TEXTS_MAX,
			  "so many of them must have cosigned (0)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger log verify",
		.usage = "PROOF --key KEY --entry FILE [options]",
		.about = "Checks offline that an entry is in a log (c2sp.org/tlog-proof).",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &job.proofs};
	struct ol_tlog_proof proof;
	struct ol_tlog_proof_result result;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	if (verify(&job, &proof, &result, &err) != OL_OK)
		return ol_report(&err);
	if (json)
		return ol_print_json(json_pack(
			"{s:s, s:b, s:s, s:I, s:I, s:i}", "object", "log.verification", "valid", 1,
			"log", result.checkpoint.origin, "index", (json_int_t)proof.index, "size",
			(json_int_t)result.checkpoint.size, "cosigned", (int)result.cosigned));
	printf("The entry is number %" PRIu64 " of the %" PRIu64 " in the log %s", proof.index,
	       result.checkpoint.size, result.checkpoint.origin);
	if (job.witness_texts.count > 0)
		printf("; %u of %d witnesses cosigned", result.cosigned, job.witness_texts.count);
	printf(".\n");
	return 0;
}

static int command_rotate_key(int argc, char **argv)
{
	bool json = false;
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger log rotate-key",
		.usage = "[options]",
		.about = "Gives this node a new key, with the server stopped: the old key and the "
			 "new one sign\nan event of the log that says so, and the checkpoint that "
			 "covers it.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_home home;
	struct ol_note_key key;
	struct ol_error err = {0};
	char text[OL_VERIFIER_KEY_TEXT];
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_key_rotate(&key, &home, ol_signer_start, &err);
	if (s != OL_OK)
		return ol_report(&err);
	ol_note_key_print(text, &key);
	if (json)
		return ol_print_json(json_pack("{s:s, s:s}", "object", "log.key", "key", text));
	printf("The log's key is now\n  %s\n", text);
	return 0;
}

static const struct ol_subcommand commands[] = {
	{"monitor", "follow a log, and say in words when it lies", command_monitor},
	{"verify", "check offline that an entry is in a log", command_verify},
	{"rotate-key", "give this node a new key, announced by the old one", command_rotate_key},
};

int ol_command_log(int argc, char **argv)
{
	const struct ol_family family = {
		.word = "log",
		.about = "Public logs, looked at from outside, and the key of one's own.\n",
		.commands = commands,
		.count = OL_ARRAY_LEN(commands),
		.width = 10};
	return ol_family_run(&family, argc, argv);
}
