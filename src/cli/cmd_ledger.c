/* openledger ledger: what the books say, whether it is true, and what follows from them, anew. */
#include "cli/commands.h"
#include "cli/options.h"
#include "base/file.h"
#include "crypto/ethereum.h"
#include "crypto/sha256.h"
#include "crypto/text.h"
#include "ledger/receipt.h"
#include "node/cashier.h"
#include "node/ledger_audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- What all of them need ------------------------------------------------------------ */

static void format_time(char text[32], uint64_t ms)
{
	const time_t seconds = (time_t)(ms / 1000);
	struct tm tm;
	if (!gmtime_r(&seconds, &tm) || strftime(text, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(text, 32, "-");
}

static enum ol_status find_ledger(struct ol_ledger_home *paths, struct ol_error *err)
{
	struct ol_home home;
	const enum ol_status s = ol_home_open(&home, err);
	return s == OL_OK ? ol_ledger_home(paths, &home, err) : s;
}

static enum ol_status open_index(struct ol_ledger_index **index, struct ol_ledger_home *paths,
				 struct ol_error *err)
{
	enum ol_status s = find_ledger(paths, err);
	if (s != OL_OK)
		return s;
	s = ol_ledger_index_open_read_only(index, paths->index, err);
	return s != OL_ERR_NOT_FOUND
		       ? s
		       : ol_fail(err, s,
				 "there is no index of a ledger in %s: `openledger serve` begins a "
				 "ledger, `openledger ledger rebuild` makes an index of one",
				 paths->folder);
}

static const char *const unit_of[OL_CURRENCY_COUNT] = {
	[OL_CURRENCY_OPEN] = "OPEN", [OL_CURRENCY_CREDIT] = "test credit"};

static const char *unit(const struct ol_account_key *key)
{
	return key->currency < OL_CURRENCY_COUNT ? unit_of[key->currency] : "?";
}

enum { ACCOUNT_TEXT = 96 };

/* "local" and 0x… as everywhere (node/cashier.h), otherwise the kind, with what of the id is not
 * zero, and the epoch. */
static void print_key(char text[ACCOUNT_TEXT], const struct ol_account_key *key)
{
	char hex[2 * sizeof key->id + 1];
	size_t length = sizeof key->id;
	struct ol_account_key local;
	if (ol_account_key_parse(&local, "local", (enum ol_currency)key->currency, NULL) == OL_OK &&
	    memcmp(&local, key, sizeof local) == 0) {
		snprintf(text, ACCOUNT_TEXT, "local");
		return;
	}
	while (length > 0 && key->id[length - 1] == 0)
		length--;
	if (key->kind == OL_ACCOUNT_ADDRESS) {
		struct ol_address address;
		memcpy(address.bytes, key->id, sizeof address.bytes);
		ol_address_print(text, &address);
		return;
	}
	ol_hex(hex, key->id, length);
	const char *kind = ol_account_kind_name((enum ol_account_kind)key->kind);
	if (key->epoch != 0)
		snprintf(text, ACCOUNT_TEXT, "%s:%s:%u", kind, hex, key->epoch);
	else
		snprintf(text, ACCOUNT_TEXT, "%s%s%s", kind, length > 0 ? ":" : "", hex);
}

/* The other way. */
static enum ol_status parse_key(struct ol_account_key *key, const char *text,
				enum ol_currency currency, struct ol_error *err)
{
	const char *colon = strchr(text, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
	const size_t kind_length = colon ? (size_t)(colon - text) : strlen(text);
	const size_t hex_length =
		!colon ? 0 : (second ? (size_t)(second - colon) : strlen(colon)) - 1;
	uint8_t id[sizeof key->id] = {0};
	uint64_t epoch = 0;
	if (strncmp(text, "0x", 2) == 0 || strcmp(text, "local") == 0)
		return ol_account_key_parse(key, text, currency, err);
	for (int kind = OL_ACCOUNT_ADDRESS; kind <= OL_ACCOUNT_KIND_LAST; kind++) {
		const char *name = ol_account_kind_name((enum ol_account_kind)kind);
		if (strlen(name) != kind_length || strncmp(name, text, kind_length) != 0)
			continue;
		if (hex_length > 2 * sizeof id || hex_length % 2 != 0 ||
		    !ol_hex_parse(id, hex_length / 2, colon ? colon + 1 : "", hex_length) ||
		    (second &&
		     !ol_decimal_parse(&epoch, second + 1, strlen(second + 1), UINT32_MAX)))
			break;
		ol_account_key_init(key, (enum ol_account_kind)kind, currency, (uint32_t)epoch, id,
				    sizeof id);
		return OL_OK;
	}
	return ol_fail(err, OL_ERR_INPUT,
		       "\"%s\" is no account: local, 0x and 40 digits, or a kind such as "
		       "platform, grants, or pot:HEX:EPOCH",
		       text);
}

static json_t *amount_json(struct ol_amount amount)
{
	char text[OL_AMOUNT_TEXT_MAX];
	ol_amount_print(text, amount);
	return json_string(text);
}

static json_t *total_json(struct ol_total plus, struct ol_total minus)
{
	char text[OL_TOTAL_TEXT_MAX];
	ol_total_print_difference(text, plus, minus);
	return json_string(text);
}

static json_t *key_json(const struct ol_account_key *key)
{
	char text[ACCOUNT_TEXT];
	print_key(text, key);
	return json_string(text);
}

static json_t *hex_json(const void *bytes, size_t size)
{
	char text[2 * 64 + 1];
	OL_ASSERT(size <= 64);
	ol_hex(text, bytes, size);
	return json_string(text);
}

/* ---- check ------------------------------------------------------------ */

static int print_audit(const struct ol_ledger_audit *audit, bool json)
{
	static const char *const words[] = {
		[OL_AUDIT_NOT_MADE] = "-", [OL_AUDIT_OK] = "ok", [OL_AUDIT_NOT_OK] = "NOT OK"};
	const bool holds = ol_ledger_audit_holds(audit);
	json_t *rows = json_array();
	for (int i = 0; i < OL_AUDIT_ROWS; i++) {
		const struct ol_audit_finding *f = &audit->rows[i];
		const char *name = ol_audit_row_name((enum ol_audit_row)i);
		json_array_append_new(rows,
				      json_pack("{s:s, s:o, s:s}", "name", name, "ok",
						f->outcome == OL_AUDIT_NOT_MADE
							? json_null()
							: json_boolean(f->outcome == OL_AUDIT_OK),
						"text", f->text));
		if (!json)
			printf("%-11s %-7s %s\n", name, words[f->outcome], f->text);
	}
	if (!json) {
		json_decref(rows);
		return !holds;
	}
	const int printed = ol_print_json(json_pack("{s:s, s:b, s:o}", "object", "ledger.check",
						    "ok", holds, "checks", rows));
	return printed | !holds;
}

static int command_check(int argc, char **argv)
{
	bool json = false;
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger ledger check",
		.usage = "[options]",
		.about = "Derives everything again from the journal and compares: balances, "
			 "snapshots, index,\nreceipts and the public log. Changes nothing; the "
			 "node may be running.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_ledger_home paths;
	struct ol_ledger_audit audit;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = find_ledger(&paths, &err);
	if (s == OL_OK)
		s = ol_ledger_audit(&audit, &paths, NULL, &err);
	return s == OL_OK ? print_audit(&audit, json) : ol_report(&err);
}

/* ---- rebuild ------------------------------------------------------------ */

static int command_rebuild(int argc, char **argv)
{
	bool json = false;
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger ledger rebuild",
		.usage = "[options]",
		.about = "Makes index and public files anew from the journal. The node must not be "
			 "running.\nRefuses if the journal is not the one behind the published "
			 "checkpoint.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_ledger_home paths;
	struct ol_ledger_rebuilt r;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = find_ledger(&paths, &err);
	if (s == OL_OK)
		s = ol_ledger_rebuild(&r, &paths, NULL, &err);
	if (s != OL_OK)
		return ol_report(&err);
	if (json)
		return ol_print_json(json_pack(
			"{s:s, s:I, s:I, s:I, s:I}", "object", "ledger.rebuild", "records",
			(json_int_t)r.until.sequence, "events", (json_int_t)r.until.event_count,
			"published", (json_int_t)r.published.size, "files",
			(json_int_t)r.published.files));
	printf("index       %" PRIu64 " records, %" PRIu64 " events\n", r.until.sequence,
	       r.until.event_count);
	if (r.published.published)
		printf("public log  %" PRIu64 " events under the checkpoint, %" PRIu64 " files\n",
		       r.published.size, r.published.files);
	else
		printf("public log  nothing has been published\n");
	return 0;
}

/* ---- show ------------------------------------------------------------ */

struct shown {
	struct ol_journal_mark mark;
	struct ol_ledger_index_sums sums;
	uint64_t kinds[OL_EVENT_KINDS];
	uint64_t seen;
	struct ol_note_key key;
	struct ol_log_checkpoint checkpoint;
	bool published;
};

static bool count_kind(void *context, const struct ol_indexed_event *event)
{
	struct shown *shown = context;
	if (event->kind < OL_EVENT_KINDS)
		shown->kinds[event->kind]++;
	shown->seen = event->index + 1;
	return true;
}

static enum ol_status read_published(struct shown *shown, const struct ol_ledger_home *paths,
				     struct ol_error *err)
{
	struct ol_log_folder *folder = NULL;
	struct ol_buf note;
	enum ol_status s = ol_ledger_home_key(&shown->key, paths, err);
	if (s == OL_ERR_NOT_FOUND)
		return OL_OK;
	if (s == OL_OK)
		s = ol_log_folder_open(&folder, paths->log, err);
	if (s != OL_OK)
		return s;
	const struct ol_log_store store = ol_log_folder_store(folder);
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	s = store.source.fetch(store.source.self, &note, OL_CHECKPOINT_NAME, err);
	if (s == OL_OK) {
		s = ol_log_checkpoint_open(&shown->checkpoint, NULL, note.data ? note.data : "",
					   note.size, &shown->key, err);
		shown->published = s == OL_OK;
	}
	ol_buf_release(&note);
	ol_log_folder_close(folder);
	return s == OL_ERR_NOT_FOUND ? OL_OK : s;
}

static enum ol_status look(struct shown *shown, struct ol_ledger_index *index,
			   const struct ol_ledger_home *paths, struct ol_error *err)
{
	uint64_t before = UINT64_MAX;
	enum ol_status s = ol_ledger_index_position(index, &shown->mark, err);
	if (s == OL_OK)
		s = ol_ledger_index_sums(index, &shown->sums, err);
	while (s == OL_OK && shown->seen != before) {
		before = shown->seen;
		s = ol_ledger_index_events_from(index, before, 4096, count_kind, shown, err);
	}
	return s == OL_OK ? read_published(shown, paths, err) : s;
}

static int print_shown_json(const struct shown *shown)
{
	json_t *kinds = json_object();
	for (int kind = 1; kind < OL_EVENT_KINDS; kind++)
		json_object_set_new(kinds, ol_event_kind_name((enum ol_event_kind)kind),
				    json_integer((json_int_t)shown->kinds[kind]));
	json_t *object = json_pack(
		"{s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "object", "ledger", "journal",
		hex_json(shown->mark.id, sizeof shown->mark.id), "records",
		(json_int_t)shown->mark.sequence, "events", (json_int_t)shown->sums.events,
		"transfers", (json_int_t)shown->sums.transfers, "accounts",
		(json_int_t)shown->sums.accounts, "kinds", kinds, "moved_open",
		total_json(shown->sums.debits[OL_CURRENCY_OPEN], (struct ol_total){0}),
		"moved_test_credit",
		total_json(shown->sums.debits[OL_CURRENCY_CREDIT], (struct ol_total){0}));
	if (shown->published)
		json_object_set_new(object, "checkpoint",
				    json_pack("{s:s, s:I, s:o}", "origin", shown->checkpoint.origin,
					      "size", (json_int_t)shown->checkpoint.size, "root",
					      hex_json(shown->checkpoint.root, OL_MERKLE_BYTES)));
	return ol_print_json(object);
}

static void print_shown(const struct shown *shown, const struct ol_ledger_home *paths)
{
	char id[2 * OL_JOURNAL_ID_BYTES + 1], root[2 * OL_MERKLE_BYTES + 1], when[32];
	char key[OL_VERIFIER_KEY_TEXT];
	ol_hex(id, shown->mark.id, sizeof shown->mark.id);
	format_time(when, shown->mark.timestamp_ms);
	printf("folder      %s\njournal     %s\n", paths->folder, id);
	printf("index       up to record %" PRIu64 " of %s UTC\n", shown->mark.sequence, when);
	printf("holds       %" PRIu64 " accounts, %" PRIu64 " transfers, %" PRIu64 " events\n",
	       shown->sums.accounts, shown->sums.transfers, shown->sums.events);
	for (int kind = 1; kind < OL_EVENT_KINDS; kind++)
		if (shown->kinds[kind] > 0)
			printf("            %8" PRIu64 " %s\n", shown->kinds[kind],
			       ol_event_kind_name((enum ol_event_kind)kind));
	if (!shown->published) {
		printf("public log  nothing has been published\n");
		return;
	}
	ol_hex(root, shown->checkpoint.root, OL_MERKLE_BYTES);
	ol_note_key_print(key, &shown->key);
	printf("public log  %" PRIu64 " events, root %s\nkey         %s\n", shown->checkpoint.size,
	       root, key);
}

static int command_show(int argc, char **argv)
{
	bool json = false;
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger ledger show",
		.usage = "[options]",
		.about = "Shows how much the ledger holds and how far it is public.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_ledger_index *index = NULL;
	struct ol_ledger_home paths;
	struct shown shown = {.seen = 0};
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = open_index(&index, &paths, &err);
	if (s == OL_OK)
		s = look(&shown, index, &paths, &err);
	ol_ledger_index_close(index);
	if (s != OL_OK)
		return ol_report(&err);
	if (json)
		return print_shown_json(&shown);
	print_shown(&shown, &paths);
	return 0;
}

/* ---- statement ------------------------------------------------------------ */

static const char *kind_of(const struct ol_transfer *t)
{
	if (t->flags & OL_TRANSFER_PENDING)
		return "reserved";
	if (t->flags & OL_TRANSFER_VOID)
		return "released";
	return "";
}

struct lines {
	struct ol_account_key account;
	json_t *list; /* NULL: text */
	uint64_t last;
};

static json_t *transfer_json(const struct ol_indexed_transfer *t)
{
	char id[OL_ID_TEXT_MAX];
	ol_id_print(id, t->transfer.id);
	json_t *object = json_pack(
		"{s:I, s:s, s:o, s:o, s:o, s:s, s:i, s:s, s:I, s:I}", "number",
		(json_int_t)t->number, "id", id, "debit", key_json(&t->transfer.debit), "credit",
		key_json(&t->transfer.credit), "amount", amount_json(t->transfer.amount),
		"currency", t->transfer.debit.currency == OL_CURRENCY_OPEN ? "open" : "credit",
		"code", (int)t->transfer.code, "kind",
		*kind_of(&t->transfer) ? kind_of(&t->transfer) : "posted", "time_ms",
		(json_int_t)t->timestamp_ms, "record", (json_int_t)t->sequence);
	if (t->event_index != OL_LEDGER_INDEX_NO_EVENT)
		json_object_set_new(object, "event", json_integer((json_int_t)t->event_index));
	return object;
}

static bool print_line(void *context, const struct ol_indexed_transfer *t)
{
	struct lines *lines = context;
	const bool out = memcmp(&t->transfer.debit, &lines->account, sizeof lines->account) == 0;
	char amount[OL_AMOUNT_OPEN_MAX], other[ACCOUNT_TEXT], when[32], event[32] = "";
	lines->last = t->number;
	if (lines->list) {
		json_array_append_new(lines->list, transfer_json(t));
		return true;
	}
	ol_amount_print_open(amount, t->transfer.amount);
	print_key(other, out ? &t->transfer.credit : &t->transfer.debit);
	format_time(when, t->timestamp_ms);
	if (t->event_index != OL_LEDGER_INDEX_NO_EVENT)
		snprintf(event, sizeof event, "event %" PRIu64, t->event_index);
	printf("%8" PRIu64 "  %s  %c%22s %-8s  %-4s %-44s %s\n", t->number, when, out ? '-' : '+',
	       amount, kind_of(&t->transfer), out ? "to" : "from", other, event);
	return true;
}

static int finish_statement(const struct ol_indexed_account *account, struct lines *lines,
			    bool more)
{
	char text[ACCOUNT_TEXT], total[OL_TOTAL_TEXT_MAX];
	ol_total_print_difference(total, account->credits, account->debits);
	if (lines->list) {
		json_t *object =
			json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:b}", "object", "statement",
				  "account", key_json(&account->key), "currency",
				  account->key.currency == OL_CURRENCY_OPEN ? "open" : "credit",
				  "balance", total_json(account->credits, account->debits),
				  "debits", total_json(account->debits, (struct ol_total){0}),
				  "credits", total_json(account->credits, (struct ol_total){0}),
				  "data", lines->list, "has_more", more);
		return ol_print_json(object);
	}
	print_key(text, &account->key);
	printf("%s: %" PRIu64 " transfers, balance %s nano-%s without reservations\n", text,
	       account->transfers, total, unit(&account->key));
	if (more)
		printf("Older ones: --before %" PRIu64 "\n", lines->last);
	return 0;
}

static int command_statement(int argc, char **argv)
{
	bool json = false, credit = false;
	int limit = 50;
	uint64_t before = UINT64_MAX;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_FLAG("credit", 0, credit, "the account in test credit, not in OPEN"),
		OL_NUMBER(INT, "limit", 'n', limit, "N", 1, 100000, "at most so many (50)"),
		OL_U64("before", 0, before, "NUMBER", "only those older than this one", NULL),
		OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger ledger statement",
		.usage = "ACCOUNT [options]",
		.about = "Shows what entered and left an account, newest first.\nACCOUNT is local, "
			 "0x…, or a kind such as platform, grants, pot:HEX:EPOCH.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands,
		.examples =
			"  openledger ledger statement 0x52908400098527886E0F7030069857D2E4169EE7 "
			"--credit\n  openledger ledger statement platform\n"};
	struct ol_ledger_index *index = NULL;
	struct ol_ledger_home paths;
	struct ol_indexed_account account;
	struct lines lines = {.list = NULL};
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = operands.count == 1
				   ? parse_key(&lines.account, operands.values[0],
					       credit ? OL_CURRENCY_CREDIT : OL_CURRENCY_OPEN, &err)
				   : ol_fail(&err, OL_ERR_INPUT, "name one account");
	if (s == OL_OK)
		s = open_index(&index, &paths, &err);
	if (s == OL_OK)
		s = ol_ledger_index_account(index, &account, &lines.account, &err);
	if (s == OL_OK && json)
		lines.list = json_array();
	if (s == OL_OK)
		s = ol_ledger_index_statement(index, &lines.account, before, (uint32_t)limit,
					      print_line, &lines, &err);
	struct lines rest = lines;
	rest.list = json_array(); /* is there one more? */
	if (s == OL_OK && lines.last > 0)
		s = ol_ledger_index_statement(index, &lines.account, lines.last, 1, print_line,
					      &rest, &err);
	const bool more = json_array_size(rest.list) > 0;
	json_decref(rest.list);
	ol_ledger_index_close(index);
	if (s == OL_OK)
		return finish_statement(&account, &lines, more);
	json_decref(lines.list);
	return ol_report(&err);
}

/* ---- event ------------------------------------------------------------ */

static bool print_transfer(void *context, const struct ol_indexed_transfer *t)
{
	json_t *list = context;
	char amount[OL_AMOUNT_OPEN_MAX], debit[ACCOUNT_TEXT], credit[ACCOUNT_TEXT];
	if (list) {
		json_array_append_new(list, transfer_json(t));
		return true;
	}
	ol_amount_print_open(amount, t->transfer.amount);
	print_key(debit, &t->transfer.debit);
	print_key(credit, &t->transfer.credit);
	printf("transfer    %s %s %s: %s -> %s\n", amount, unit(&t->transfer.debit),
	       kind_of(&t->transfer), debit, credit);
	return true;
}

static void print_receipt(const struct ol_indexed_event *event)
{
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	char price[OL_AMOUNT_OPEN_MAX], hex[65];
	if (ol_receipt_read(&receipt, parts, event->bytes, event->size) != OL_RECEIPT_WELL)
		return;
	static const uint8_t none[sizeof receipt.adapter];
	const bool base = memcmp(receipt.adapter, none, sizeof none) == 0;
	ol_amount_print_open(price, receipt.price);
	ol_hex(hex, base ? receipt.base : receipt.adapter, sizeof receipt.adapter);
	printf("receipt     %u tokens in, %u out, %s %s\n%s %s\n", receipt.prompt_tokens,
	       receipt.completion_tokens, price,
	       receipt.currency < OL_CURRENCY_COUNT ? unit_of[receipt.currency] : "?",
	       base ? "base       " : "adapter    ", hex);
}

static enum ol_status find_event(struct ol_ledger_index *index, struct ol_indexed_event *event,
				 struct ol_buf *bytes, const char *text, struct ol_error *err)
{
	uint8_t id[OL_EVENT_ID_BYTES];
	uint64_t number;
	if (strlen(text) == 2 * sizeof id && ol_hex_parse(id, sizeof id, text, strlen(text)))
		return ol_ledger_index_event_by_id(index, event, bytes, id, err);
	if (ol_decimal_parse(&number, text, strlen(text), INT64_MAX))
		return ol_ledger_index_event(index, event, bytes, number, err);
	return ol_fail(err, OL_ERR_INPUT,
		       "\"%s\" is no event: its id of 64 hexadecimal digits, or its number", text);
}

static const char *kind_name(uint16_t kind)
{
	return kind > 0 && kind < OL_EVENT_KINDS ? ol_event_kind_name((enum ol_event_kind)kind)
						 : "unknown";
}

static int print_event(struct ol_ledger_index *index, const struct ol_indexed_event *event,
		       bool json, struct ol_error *err)
{
	char id[65], when[32];
	json_t *list = json ? json_array() : NULL;
	ol_hex(id, event->id, sizeof event->id);
	format_time(when, event->timestamp_ms);
	if (!json) {
		printf("event       %" PRIu64
		       "\nid          %s\nkind        %s\ntime        %s UTC\n"
		       "record      %" PRIu64 "\nbytes       %u\n",
		       event->index, id, kind_name(event->kind), when, event->sequence,
		       event->size);
		if (event->kind == OL_EVENT_RECEIPT)
			print_receipt(event);
	}
	if (ol_ledger_index_event_transfers(index, event->index, print_transfer, list, err) !=
	    OL_OK) {
		json_decref(list);
		return ol_report(err);
	}
	if (!json)
		return 0;
	char *hex = malloc(2 * (size_t)event->size + 1);
	if (!hex) {
		json_decref(list);
		return ol_report(err);
	}
	ol_hex(hex, event->bytes, event->size);
	json_t *object =
		json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:s, s:o}", "object", "event", "index",
			  (json_int_t)event->index, "id", id, "kind", kind_name(event->kind),
			  "time_ms", (json_int_t)event->timestamp_ms, "record",
			  (json_int_t)event->sequence, "bytes", hex, "transfers", list);
	free(hex);
	return ol_print_json(object);
}

static int command_event(int argc, char **argv)
{
	bool json = false;
	const char *out = NULL;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_TEXT("out", 'o', out, "FILE", "write the event's bytes to this file"),
		OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger ledger event",
		.usage = "ID [options]",
		.about = "Shows an event of the log and the transfers it speaks of. ID is its hash "
			 "or its number.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_ledger_index *index = NULL;
	struct ol_ledger_home paths;
	struct ol_indexed_event event = {.size = 0};
	struct ol_writer *writer = NULL;
	struct ol_buf bytes;
	struct ol_error err = {0};
	int status = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	ol_buf_init(&bytes, OL_EVENT_MAX);
	enum ol_status s = operands.count == 1
				   ? open_index(&index, &paths, &err)
				   : ol_fail(&err, OL_ERR_INPUT, "name one event: its id");
	if (s == OL_OK)
		s = find_event(index, &event, &bytes, operands.values[0], &err);
	if (s == OL_OK && out)
		s = ol_writer_open(&writer, out, &err);
	if (s == OL_OK && out) {
		s = ol_writer_append(writer, event.bytes, event.size, &err);
		if (s == OL_OK)
			s = ol_writer_commit(writer, &err);
		else
			ol_writer_abort(writer);
	}
	status = s == OL_OK ? print_event(index, &event, json, &err) : ol_report(&err);
	ol_ledger_index_close(index);
	ol_buf_release(&bytes);
	return status;
}

/* ---- ledger ------------------------------------------------------------ */

static const struct {
	const char *name, *about;
	int (*run)(int argc, char **argv);
} subcommands[] = {
	{"check", "derives everything again and compares", command_check},
	{"rebuild", "makes index and public files anew", command_rebuild},
	{"show", "how much there is, and how far it is public", command_show},
	{"statement", "what entered and left an account", command_statement},
	{"event", "one event and its transfers", command_event},
};

int ol_command_ledger(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	for (size_t i = 0; i < OL_ARRAY_LEN(subcommands); i++)
		if (strcmp(subcommands[i].name, name) == 0)
			return subcommands[i].run(argc - 1, argv + 1);
	const bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
	if (!help && *name) {
		fprintf(stderr,
			"openledger: there is no \"ledger %s\"; `openledger ledger --help` lists "
			"them\n",
			name);
		return 1;
	}
	FILE *to = help ? stdout : stderr;
	fprintf(to, "Usage: openledger ledger COMMAND [options]\n\n"
		    "The books of this node: the journal in $OPENLEDGER_HOME/ledger and all that "
		    "follows\nfrom it.\n\nCommands:\n");
	for (size_t i = 0; i < OL_ARRAY_LEN(subcommands); i++)
		fprintf(to, "  %-10s %s\n", subcommands[i].name, subcommands[i].about);
	return help ? 0 : 1;
}
