#include "http/ledger_routes.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/ethereum.h"
#include "crypto/text.h"
#include "attrib/shares.h"
#include "http/later.h"
#include "node/keys.h"
#include "node/receipt_shares.h"

enum { WAIT_MS = 3000, FILE_MAX = 1 << 20, SMALL_BODY_MAX = 64 << 10 };

struct ol_ledger_api {
	struct ol_economy *economy;
	struct ol_later *later;
	struct ol_later_route receipt, proof, event, log, file, account, listing, grant, epochs,
		shares, anybody;
};

/* --- events ---------------------------------------------------------------------------- */

/* The event of the path's id; waits until what is durable is in the index. False: answered. */
static bool find_event(struct ol_ledger_api *api, struct ol_http_request *request,
		       struct ol_indexed_event *event, struct ol_buf *bytes)
{
	struct ol_books *books = ol_economy_books(api->economy);
	const char *text = ol_http_param(request, "id");
	uint8_t id[OL_EVENT_ID_BYTES];
	struct ol_error err;

	if (!ol_hex_parse(id, sizeof id, text, strlen(text))) {
		ol_http_error(request, 400, "invalid_request_error", "id", "invalid_value",
			      "An id of the log has %d hexadecimal digits.", 2 * OL_EVENT_ID_BYTES);
		return false;
	}
	enum ol_status s = ol_ledger_index_event_by_id(books->index, event, bytes, id, &err);
	if (s == OL_ERR_NOT_FOUND && ol_publisher_settle(books->publisher, WAIT_MS, &err) == OL_OK)
		s = ol_ledger_index_event_by_id(books->index, event, bytes, id, &err);
	if (s == OL_ERR_NOT_FOUND)
		(void)ol_fail(&err, s, "No such event in this log.");
	if (s != OL_OK)
		ol_http_error_about(request, &err, "id", "not_found");
	return s == OL_OK;
}

static void set_hex(json_t *object, const char *name, const uint8_t *bytes, size_t size)
{
	char hex[2 * 64 + 1];

	OL_ASSERT(size <= 64);
	ol_hex(hex, bytes, size);
	json_object_set_new(object, name, json_string(hex));
}

static void set_base64(json_t *object, const char *name, const void *bytes, size_t size)
{
	struct ol_buf text;

	ol_buf_init(&text, OL_BASE64_LENGTH(OL_EVENT_MAX));
	if (ol_base64_append(&text, bytes, size))
		json_object_set_new(object, name, json_stringn(text.data, text.size));
	ol_buf_release(&text);
}

static void set_amount(json_t *object, const char *name, struct ol_amount amount)
{
	char text[OL_AMOUNT_TEXT_MAX];

	ol_amount_print(text, amount);
	json_object_set_new(object, name, json_string(text));
}

static json_t *account_json(const struct ol_account_key *key)
{
	json_t *json =
		json_pack("{s:s}", "kind", ol_account_kind_name((enum ol_account_kind)key->kind));

	if (key->kind == OL_ACCOUNT_ADDRESS) {
		char text[OL_ADDRESS_TEXT];
		struct ol_address address;
		memcpy(address.bytes, key->id, sizeof address.bytes);
		ol_address_print(text, &address);
		json_object_set_new(json, "address", json_string(text));
	} else {
		set_hex(json, "id", key->id, sizeof key->id);
	}
	if (key->kind == OL_ACCOUNT_POT)
		json_object_set_new(json, "epoch", json_integer(key->epoch));
	return json;
}

static json_t *event_json(const struct ol_indexed_event *event)
{
	json_t *json = json_pack("{s:s, s:I, s:I}", "kind",
				 event->kind > 0 && event->kind < OL_EVENT_KINDS
					 ? ol_event_kind_name((enum ol_event_kind)event->kind)
					 : "unknown",
				 "log_index", (json_int_t)event->index, "time_ms",
				 (json_int_t)event->timestamp_ms);

	set_hex(json, "id", event->id, sizeof event->id);
	set_base64(json, "bytes", event->bytes, event->size);
	return json;
}

static void get_event(void *self, struct ol_http_request *request)
{
	struct ol_indexed_event event;
	struct ol_buf bytes;

	ol_buf_init(&bytes, OL_EVENT_MAX);
	if (find_event(self, request, &event, &bytes))
		ol_http_reply_json(request, 200, event_json(&event));
	ol_buf_release(&bytes);
}

static json_t *parts_json(const struct ol_receipt *r, const struct ol_receipt_part *parts)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < r->parts; i++) {
		json_t *part = json_pack("{s:s, s:I, s:o}", "party",
					 ol_party_name((enum ol_party)parts[i].party), "ppm",
					 (json_int_t)parts[i].ppm, "account",
					 account_json(&parts[i].account));
		set_amount(part, "nano", parts[i].amount);
		json_array_append_new(list, part);
	}
	return list;
}

static void get_receipt(void *self, struct ol_http_request *request)
{
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_indexed_event event;
	struct ol_receipt r;
	struct ol_buf bytes;
	char arithmetic[sizeof r.arithmetic + 1] = "";

	ol_buf_init(&bytes, OL_EVENT_MAX);
	if (!find_event(self, request, &event, &bytes)) {
	} else if (ol_receipt_read(&r, parts, event.bytes, event.size) != OL_RECEIPT_WELL) {
		ol_http_error(request, 404, "invalid_request_error", "id", "not_found",
			      "This event is not a receipt.");
	} else {
		json_t *json = event_json(&event);
		memcpy(arithmetic, r.arithmetic, sizeof r.arithmetic);
		set_hex(json, "node", r.node, 32);
		set_hex(json, "base", r.base, 32);
		set_hex(json, "adapter", r.adapter, 32);
		set_hex(json, "snapshot", r.snapshot, 32);
		set_hex(json, "listing", r.listing, 32);
		set_hex(json, "payer", r.payer, 32);
		set_amount(json, "price_nano", r.price);
		json_object_set_new(
			json, "currency",
			json_string(r.currency == OL_CURRENCY_CREDIT ? "test credit" : "OPEN"));
		json_object_set_new(json, "arithmetic", json_string(arithmetic));
		json_object_set_new(json, "prompt_tokens", json_integer(r.prompt_tokens));
		json_object_set_new(json, "completion_tokens", json_integer(r.completion_tokens));
		json_object_set_new(json, "split", parts_json(&r, parts));
		ol_http_reply_json(request, 200, json);
	}
	ol_buf_release(&bytes);
}

static void get_proof(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	struct ol_books *books = ol_economy_books(api->economy);
	struct ol_indexed_event event;
	struct ol_buf bytes, text;
	struct ol_error err;

	ol_buf_init(&bytes, OL_EVENT_MAX);
	ol_buf_init(&text, OL_TLOG_PROOF_BYTES_MAX);
	if (find_event(api, request, &event, &bytes)) {
		enum ol_status s = ol_publisher_wait(books->publisher, event.index, WAIT_MS, &err);
		if (s == OL_OK)
			s = ol_publisher_prove(books->publisher, &text, event.index, NULL, 0, &err);
		if (s == OL_OK)
			ol_http_reply_buf(request, 200, "text/plain; charset=utf-8", &text);
		else
			ol_http_error_about(request, &err, "id", "not_found");
	}
	ol_buf_release(&text);
	ol_buf_release(&bytes);
}

/* --- the log ------------------------------------------------------------------------------ */

static void get_log(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	struct ol_books *books = ol_economy_books(api->economy);
	char key[OL_VERIFIER_KEY_TEXT];
	struct ol_log_checkpoint checkpoint;
	struct ol_error err;
	const enum ol_status s = ol_publisher_checkpoint(books->publisher, &checkpoint, NULL, &err);

	if (s != OL_OK) {
		ol_http_error_about(request, &err, NULL, "not_found");
		return;
	}
	ol_note_key_print(key, &books->log_key);
	json_t *json = json_pack("{s:s, s:s, s:I}", "origin", checkpoint.origin, "key", key, "size",
				 (json_int_t)checkpoint.size);
	set_hex(json, "root", checkpoint.root, 32);
	ol_http_reply_json(request, 200, json);
}

/* Names of the log's own files only: no other can be asked for (ledger/log_store.h). */
static void get_file(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	struct ol_books *books = ol_economy_books(api->economy);
	const char *name = ol_http_param(request, "path");
	const bool is_checkpoint = strcmp(name, OL_CHECKPOINT_NAME) == 0;
	struct ol_tile tile;
	struct ol_buf bytes;
	struct ol_error err;

	if (!is_checkpoint && !ol_tile_path_parse(&tile, name)) {
		ol_http_error(request, 404, "invalid_request_error", NULL, "not_found",
			      "No file of a log has this name.");
		return;
	}
	ol_buf_init(&bytes, OL_BUNDLE_BYTES_MAX);
	const enum ol_status s =
		books->store.source.fetch(books->store.source.self, &bytes, name, &err);
	if (s == OL_OK) {
		ol_http_set_header(request, "Cache-Control",
				   is_checkpoint ? "no-cache"
						 : "public, max-age=31536000, immutable");
		ol_http_reply_buf(request, 200,
				  is_checkpoint ? "text/plain; charset=utf-8"
						: "application/octet-stream",
				  &bytes);
	} else {
		ol_http_error_about(request, &err, NULL, "not_found");
	}
	ol_buf_release(&bytes);
}

/* --- accounts ------------------------------------------------------------------------------ */

static enum ol_status set_balance(json_t *json, struct ol_bookkeeper *keeper, const char *account,
				  enum ol_currency currency, const char *name, struct ol_error *err)
{
	struct ol_account_key key;
	struct ol_account found;
	bool there = false;
	enum ol_status s = ol_account_key_parse(&key, account, currency, err);

	if (s == OL_OK)
		s = ol_bookkeeper_account(keeper, &found, &there, &key, err);
	if (s == OL_OK)
		set_amount(json, name, there ? ol_account_available(&found) : ol_amount(0));
	return s;
}

static void reply_account(struct ol_ledger_api *api, struct ol_http_request *request,
			  const char *account)
{
	struct ol_books *books = ol_economy_books(api->economy);
	json_t *json = json_pack("{s:s}", "account", account);
	struct ol_error err;
	enum ol_status s =
		set_balance(json, books->keeper, account, OL_CURRENCY_OPEN, "available_nano", &err);

	if (s == OL_OK)
		s = set_balance(json, books->keeper, account, OL_CURRENCY_CREDIT,
				"test_credit_nano", &err);
	if (s == OL_OK)
		ol_http_reply_json(request, 200, json);
	else
		ol_http_error_about(request, &err, NULL, "not_found");
	if (s != OL_OK)
		json_decref(json);
}

static void get_account(void *self, struct ol_http_request *request)
{
	reply_account(self, request, ol_http_caller(request)->account);
}

static bool amount_member(struct ol_amount *out, const json_t *json, const char *name)
{
	const json_t *value = json_object_get(json, name);

	return json_is_string(value) &&
	       ol_amount_parse(out, json_string_value(value), json_string_length(value));
}

static void post_grant(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	json_t *body = ol_http_body_json(request);
	struct ol_account_key key;
	struct ol_amount amount;
	struct ol_error err;

	if (!body)
		return;
	const char *account = json_string_value(json_object_get(body, "account"));
	enum ol_status s =
		!account ? ol_fail(&err, OL_ERR_INPUT, "account is missing: \"local\" or 0x…")
			 : ol_account_key_parse(&key, account, OL_CURRENCY_CREDIT, &err);
	if (s == OL_OK && !amount_member(&amount, body, "nano"))
		s = ol_fail(&err, OL_ERR_INPUT,
			    "nano is missing: the amount in nano-OPEN, as a string of digits");
	if (s == OL_OK)
		s = ol_cashier_grant(ol_economy_cashier(api->economy), &key, amount, &err);
	if (s == OL_OK)
		reply_account(api, request, account);
	else
		ol_http_error_about(request, &err, NULL, "not_found");
	json_decref(body);
}

/* {"party": {"ppm": N, "account": "0x…" | "platform" | …}} */
static enum ol_status read_party(struct ol_listing *listing, enum ol_party party,
				 const json_t *split, struct ol_error *err)
{
	const char *name = ol_party_name(party);
	const json_t *share = json_object_get(split, name);
	const json_t *ppm = json_object_get(share, "ppm");
	const char *account = json_string_value(json_object_get(share, "account"));
	enum ol_status s = OL_OK;

	if (!share)
		return OL_OK;
	if (!json_is_integer(ppm) || json_integer_value(ppm) < 0 ||
	    json_integer_value(ppm) > OL_PPM)
		return ol_fail(err, OL_ERR_INPUT, "split.%s.ppm is not between 0 and 1000000",
			       name);
	listing->ppm[party] = (uint32_t)json_integer_value(ppm);
	if (party == OL_PARTY_DATA || listing->ppm[party] == 0)
		return OL_OK;
	if (!account)
		return ol_fail(err, OL_ERR_INPUT, "split.%s has no account", name);
	if (strcmp(account, "platform") == 0)
		ol_account_key_init(&listing->accounts[party], OL_ACCOUNT_PLATFORM,
				    OL_CURRENCY_OPEN, 0, NULL, 0);
	else
		s = ol_account_key_parse(&listing->accounts[party], account, OL_CURRENCY_OPEN, err);
	return s;
}

static enum ol_status read_listing(struct ol_ledger_api *api, struct ol_listing *listing,
				   const json_t *body, struct ol_error *err)
{
	const char *model = json_string_value(json_object_get(body, "model"));
	const json_t *split = json_object_get(body, "split");
	enum ol_status s = OL_OK;

	memset(listing, 0, sizeof *listing);
	if (!model)
		return ol_fail(err, OL_ERR_INPUT, "model is missing: the name it is served under");
	if (!amount_member(&listing->prompt_price, body, "prompt_nano_per_1000") ||
	    !amount_member(&listing->completion_price, body, "completion_nano_per_1000"))
		return ol_fail(err, OL_ERR_INPUT,
			       "prompt_nano_per_1000 and completion_nano_per_1000 are prices of "
			       "1,000 tokens in nano-OPEN, as strings of digits");
	if (!json_is_object(split))
		return ol_fail(err, OL_ERR_INPUT,
			       "split is missing: for each of base, builder, data, reviewers, "
			       "stakers, node and platform {ppm, account}");
	s = ol_economy_model(api->economy, listing->model, model, err);
	for (int party = 0; party < OL_PARTIES && s == OL_OK; party++)
		s = read_party(listing, (enum ol_party)party, split, err);
	return s;
}

static void post_listing(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	json_t *body = ol_http_body_json(request);
	struct ol_listing listing;
	uint8_t id[32];
	struct ol_error err;

	if (!body)
		return;
	enum ol_status s = read_listing(api, &listing, body, &err);
	if (s == OL_OK)
		s = ol_cashier_publish(ol_economy_cashier(api->economy), &listing, id, &err);
	json_decref(body);
	if (s != OL_OK) {
		ol_http_error_about(request, &err, NULL, "not_found");
		return;
	}
	json_t *json = json_pack("{s:I}", "version", (json_int_t)listing.version);
	set_hex(json, "id", id, sizeof id);
	set_hex(json, "model", listing.model, sizeof listing.model);
	ol_http_reply_json(request, 200, json);
}

/* --- contributors -------------------------------------------------------------------------- */

static void list_paid(void *context, const struct ol_epoch_paid *paid)
{
	json_t *one = json_pack("{s:o, s:I, s:I}", "pot", account_json(&paid->pot), "payees",
				(json_int_t)paid->payees, "answers", (json_int_t)paid->answers);

	set_amount(one, "nano", paid->amount);
	json_object_set_new(
		one, "currency",
		json_string(paid->pot.currency == OL_CURRENCY_CREDIT ? "test credit" : "OPEN"));
	json_array_append_new(context, one);
}

static void post_epochs(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	json_t *body = ol_http_body_json(request), *list = json_array();
	struct ol_error err;

	if (body) {
		const bool early = json_is_true(json_object_get(body, "early"));
		if (ol_economy_close_epochs(api->economy, early, list_paid, list, &err) == OL_OK)
			ol_http_reply_json(request, 200,
					   json_pack("{s:s, s:O}", "object", "list", "data", list));
		else
			ol_http_error_about(request, &err, NULL, "not_found");
	}
	json_decref(body);
	json_decref(list);
}

static void get_shares(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;
	const char *text = ol_http_param(request, "root");
	struct ol_buf table;
	struct ol_error err = {0};
	uint8_t root[32];

	ol_buf_init(&table, OL_SHARE_TABLE_MAX);
	enum ol_status s =
		ol_hex_parse(root, sizeof root, text, strlen(text))
			? ol_share_table_find(&table, ol_economy_home(api->economy), root, &err)
			: ol_fail(&err, OL_ERR_INPUT, "A root has 64 hexadecimal digits.");
	if (s == OL_ERR_NOT_FOUND)
		(void)ol_fail(&err, s, "No share table has this root.");
	const size_t count = table.size / OL_SHARE_ROW_BYTES;
	struct ol_share *rows = calloc(count + 1, sizeof *rows);
	if (s == OL_OK && !rows)
		s = ol_fail(&err, OL_ERR_FULL, "out of memory for a share table");
	if (s == OL_OK) {
		json_t *list = json_array();
		ol_share_table_rows(rows, (const uint8_t *)table.data, table.size);
		for (size_t i = 0; i < count; i++) {
			json_t *row = json_pack("{s:I, s:I}", "score", (json_int_t)rows[i].score,
						"share_ppb", (json_int_t)rows[i].share);
			set_hex(row, "payee", rows[i].payee, sizeof rows[i].payee);
			json_array_append_new(list, row);
		}
		ol_http_reply_json(request, 200,
				   json_pack("{s:s, s:s, s:o}", "object", "list", "score_unit",
					     "1e-9 nat", "data", list));
	} else {
		ol_http_error_about(request, &err, "root", "not_found");
	}
	free(rows);
	ol_buf_release(&table);
}

static void get_anybody(void *self, struct ol_http_request *request)
{
	struct ol_ledger_api *api = self;

	const struct ol_http_caller *caller = ol_http_caller(request);
	const char *address = ol_http_param(request, "address");

	/* What somebody spends, seen beside public receipts, would tell who asked. */
	if (strcmp(address, caller->account) != 0 && !(caller->scopes & OL_SCOPE_ADMIN))
		ol_http_error(request, 403, "permission_error", "address", "not_yours",
			      "Another account's balance is for admins.");
	else
		reply_account(api, request, address);
}

/* --- life ----------------------------------------------------------------------------------- */

enum ol_status ol_ledger_api_open(struct ol_ledger_api **api_out, struct ol_economy *economy,
				  struct ol_error *err)
{
	struct ol_ledger_api *api = calloc(1, sizeof *api);

	*api_out = NULL;
	if (!api)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the ledger's routes");
	api->economy = economy;
	const enum ol_status s = ol_later_open(&api->later, err);
	if (s != OL_OK) {
		free(api);
		return s;
	}
	api->receipt = (struct ol_later_route){api->later, get_receipt, api};
	api->proof = (struct ol_later_route){api->later, get_proof, api};
	api->event = (struct ol_later_route){api->later, get_event, api};
	api->log = (struct ol_later_route){api->later, get_log, api};
	api->file = (struct ol_later_route){api->later, get_file, api};
	api->account = (struct ol_later_route){api->later, get_account, api};
	api->listing = (struct ol_later_route){api->later, post_listing, api};
	api->grant = (struct ol_later_route){api->later, post_grant, api};
	api->epochs = (struct ol_later_route){api->later, post_epochs, api};
	api->shares = (struct ol_later_route){api->later, get_shares, api};
	api->anybody = (struct ol_later_route){api->later, get_anybody, api};
	*api_out = api;
	return OL_OK;
}

void ol_ledger_api_close(struct ol_ledger_api *api)
{
	if (!api)
		return;
	ol_later_close(api->later);
	free(api);
}

void ol_ledger_routes(struct ol_http_route out[OL_LEDGER_ROUTES], struct ol_ledger_api *api)
{
	const struct ol_http_route routes[OL_LEDGER_ROUTES] = {
		{"GET", "/v1/receipts/{id}", OL_SCOPE_NONE, 0, ol_later_handle, &api->receipt,
		 NULL},
		{"GET", "/v1/receipts/{id}/proof", OL_SCOPE_NONE, 0, ol_later_handle, &api->proof,
		 NULL},
		{"GET", "/v1/events/{id}", OL_SCOPE_NONE, 0, ol_later_handle, &api->event, NULL},
		{"GET", "/v1/log", OL_SCOPE_NONE, 0, ol_later_handle, &api->log, NULL},
		{"GET", "/log/{path*}", OL_SCOPE_NONE, 0, ol_later_handle, &api->file, NULL},
		{"GET", "/v1/account", OL_SCOPE_LEDGER, 0, ol_later_handle, &api->account, NULL},
		{"POST", "/v1/listings", OL_SCOPE_ADMIN, SMALL_BODY_MAX, ol_later_handle,
		 &api->listing, NULL},
		{"POST", "/v1/grants", OL_SCOPE_ADMIN, SMALL_BODY_MAX, ol_later_handle, &api->grant,
		 NULL},
		{"POST", "/v1/epochs/close", OL_SCOPE_ADMIN, SMALL_BODY_MAX, ol_later_handle,
		 &api->epochs, NULL},
		{"GET", "/v1/shares/{root}", OL_SCOPE_NONE, 0, ol_later_handle, &api->shares, NULL},
		{"GET", "/v1/accounts/{address}", OL_SCOPE_LEDGER, 0, ol_later_handle,
		 &api->anybody, NULL},
	};

	memcpy(out, routes, sizeof routes);
}
