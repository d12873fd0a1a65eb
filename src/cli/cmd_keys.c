/* openledger keys: who may use this node's API. */
#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/secret.h"
#include "node/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY INT64_C(86400)

/* What all three need. */
struct node {
	struct ol_home home;
	struct ol_store *store;
	struct ol_keys *keys;
};

static enum ol_status open_node(struct node *n, struct ol_error *err)
{
	const struct ol_keys_options options = {0};
	enum ol_status s = ol_home_open(&n->home, err);
	if (s == OL_OK)
		s = ol_store_open(&n->store, &n->home, OL_STORE_NODE, err);
	return s == OL_OK ? ol_keys_open(&n->keys, n->store, &options, err) : s;
}

static int close_node(struct node *n, enum ol_status s, const struct ol_error *err)
{
	struct ol_error why = {0};
	const enum ol_status closed = ol_keys_close(n->keys, &why);
	ol_store_close(n->store);
	if (s != OL_OK)
		return ol_report(err);
	return closed == OL_OK ? 0 : ol_report(&why);
}

/* ---- Showing keys ---- */

static void format_day(char text[32], int64_t seconds)
{
	const time_t t = (time_t)seconds;
	struct tm tm;
	if (seconds == 0 || !gmtime_r(&t, &tm) || strftime(text, 32, "%Y-%m-%d %H:%M", &tm) == 0)
		snprintf(text, 32, "-");
}

static const char *state_of(const struct ol_key_info *info)
{
	if (info->revoked_at != 0)
		return "revoked";
	return info->expires_at != 0 && info->expires_at <= (int64_t)time(NULL) ? "expired"
										: "active";
}

static json_t *amount_json(struct ol_amount a)
{
	char text[OL_AMOUNT_TEXT_MAX];
	ol_amount_print(text, a);
	return json_string(text);
}

static json_t *time_json(int64_t seconds)
{
	return seconds == 0 ? json_null() : json_integer(seconds);
}

static json_t *scopes_json(uint32_t scopes)
{
	json_t *list = json_array();
	for (int i = 0; i < OL_SCOPES; i++)
		if (scopes & 1u << i)
			json_array_append_new(list,
					      json_string(ol_scope_name((enum ol_scope)(1u << i))));
	return list;
}

static json_t *key_json(const struct ol_key_info *k)
{
	const struct ol_key_limits *l = &k->limits;
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:o, s:{s:I, s:I, s:I, s:I, s:o, s:o}, s:o, s:o, s:o,"
		" s:{s:I, s:I, s:o, s:I, s:I, s:o}}",
		"id", k->id, "name", k->name, "account", k->account, "hint", k->hint, "state",
		state_of(k), "scopes", scopes_json(k->scopes), "limits", "requests_per_minute",
		(json_int_t)l->requests_per_minute, "tokens_per_minute",
		(json_int_t)l->tokens_per_minute, "tokens_per_day", (json_int_t)l->tokens_per_day,
		"tokens_total", (json_int_t)l->tokens_total, "nano_per_day",
		amount_json(l->money_per_day), "nano_total", amount_json(l->money_total), "made_at",
		time_json(k->made_at), "expires_at", time_json(k->expires_at), "revoked_at",
		time_json(k->revoked_at), "usage", "requests", (json_int_t)k->requests, "tokens",
		(json_int_t)k->tokens, "nano", amount_json(k->money), "requests_today",
		(json_int_t)k->requests_today, "tokens_today", (json_int_t)k->tokens_today,
		"nano_today", amount_json(k->money_today));
}

/* "1200/5000", or "1200" where there is no limit. */
static void format_used(char text[48], int64_t used, int64_t limit)
{
	if (limit > 0)
		snprintf(text, 48, "%lld/%lld", (long long)used, (long long)limit);
	else
		snprintf(text, 48, "%lld", (long long)used);
}

/* "0.25/10 OPEN": decimals as far as they say something. */
static void format_open(char text[64], struct ol_amount used, struct ol_amount limit)
{
	char parts[2][OL_AMOUNT_OPEN_MAX];
	ol_amount_print_open(parts[0], used);
	ol_amount_print_open(parts[1], limit);
	for (int i = 0; i < 2; i++) {
		size_t end = strlen(parts[i]);
		while (end > 0 && parts[i][end - 1] == '0')
			end--;
		if (end > 0 && parts[i][end - 1] == '.')
			end--;
		parts[i][end] = '\0';
	}
	if (ol_amount_is_zero(limit))
		snprintf(text, 64, "%s", parts[0]);
	else
		snprintf(text, 64, "%s/%s", parts[0], parts[1]);
}

static void print_key(const struct ol_key_info *k)
{
	char day[48], total[48], money[64], made[32], expires[32];
	struct ol_buf scopes;
	ol_buf_init(&scopes, 256);
	ol_scopes_write(&scopes, k->scopes);
	format_used(day, k->tokens_today, k->limits.tokens_per_day);
	format_used(total, k->tokens, k->limits.tokens_total);
	format_open(money, k->money, k->limits.money_total);
	format_day(made, k->made_at);
	format_day(expires, k->expires_at);
	printf("%-16s  %-8s  %-7s  %-16s  %-12s  %-16s  %9lld  %13s  %15s  %11s  %s\n", k->id,
	       k->hint, state_of(k), k->name[0] ? k->name : "-", k->account, expires,
	       (long long)k->requests, day, total, money, scopes.data ? scopes.data : "");
	ol_buf_release(&scopes);
}

/* ---- keys add ---- */

struct add_line {
	struct ol_key_wish wish;
	const char *scopes, *expires, *money_day, *money_total;
	uint64_t requests_minute, tokens_minute, tokens_day, tokens_total;
	bool json;
};

/* "90d", "12h", "30m": from now. */
static enum ol_status parse_expiry(int64_t *at, const char *text, struct ol_error *err)
{
	char *end;
	errno = 0;
	const long long n = strtoll(text, &end, 10);
	int64_t unit = 0;
	if (end != text && *end && end[1] == '\0')
		unit = *end == 'd' ? DAY : *end == 'h' ? 3600 : *end == 'm' ? 60 : 0;
	if (errno != 0 || unit == 0 || n < 1 || n > 36500 * DAY / unit)
		return ol_fail(err, OL_ERR_INPUT,
			       "--expires %s is not a time from now: write 90d, 12h or 30m", text);
	*at = (int64_t)time(NULL) + n * unit;
	return OL_OK;
}

static enum ol_status parse_money(struct ol_amount *out, const char *option, const char *text,
				  struct ol_error *err)
{
	if (!text || ol_amount_parse_open(out, text, strlen(text)))
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT,
		       "--%s %s is not an amount of OPEN: write digits, with at most nine decimals "
		       "behind a point",
		       option, text);
}

static enum ol_status parse_limit(int64_t *out, const char *option, uint64_t value,
				  struct ol_error *err)
{
	if (value > (uint64_t)OL_KEY_LIMIT_MAX)
		return ol_fail(err, OL_ERR_INPUT, "--%s %llu is too large: at most %lld", option,
			       (unsigned long long)value, (long long)OL_KEY_LIMIT_MAX);
	*out = (int64_t)value;
	return OL_OK;
}

static enum ol_status check_add(struct add_line *l, struct ol_error *err)
{
	struct ol_key_limits *k = &l->wish.limits;
	enum ol_status s = ol_scopes_parse(&l->wish.scopes, l->scopes, err);
	if (s == OL_OK && l->expires)
		s = parse_expiry(&l->wish.expires_at, l->expires, err);
	if (s == OL_OK)
		s = parse_limit(&k->requests_per_minute, "requests-per-minute", l->requests_minute,
				err);
	if (s == OL_OK)
		s = parse_limit(&k->tokens_per_minute, "tokens-per-minute", l->tokens_minute, err);
	if (s == OL_OK)
		s = parse_limit(&k->tokens_per_day, "tokens-per-day", l->tokens_day, err);
	if (s == OL_OK)
		s = parse_limit(&k->tokens_total, "tokens", l->tokens_total, err);
	if (s == OL_OK)
		s = parse_money(&k->money_per_day, "open-per-day", l->money_day, err);
	return s == OL_OK ? parse_money(&k->money_total, "open", l->money_total, err) : s;
}

static int print_added(const struct add_line *l, const char *token, const struct ol_key_info *info)
{
	if (l->json) {
		json_t *object = key_json(info);
		json_object_set_new(object, "key", json_string(token));
		return ol_print_json(object);
	}
	/* The key alone on stdout, so that a script can take it. */
	fprintf(stderr,
		"%s for the account \"%s\". This is the only time the key is shown: keep it.\n",
		info->id, info->account);
	printf("%s\n", token);
	return fflush(stdout) == 0 ? 0 : 1;
}

static int add(int argc, char **argv)
{
	struct add_line l = {.scopes = "inference,models,files,jobs"};
	struct node node = {0};
	struct ol_error err = {0};
	struct ol_key_info info;
	char token[OL_KEY_TOKEN_CHARS + 1];
	int status = 1;
	const struct ol_option options[] = {
		OL_TEXT("name", 'n', l.wish.name, "TEXT", "what it is for, to tell keys apart"),
		OL_TEXT("account", 'a', l.wish.account, "ACCOUNT",
			"whose requests they are: files, jobs and fees (local)"),
		OL_TEXT("scopes", 's', l.scopes, "LIST",
			"of inference, models, files, jobs, ledger, datanet, metrics, admin "
			"(inference,models,files,jobs)"),
		OL_TEXT("expires", 'e', l.expires, "TIME", "90d, 12h or 30m from now (never)"),
		OL_U64("requests-per-minute", 0, l.requests_minute, "N", "no limit if not said",
		       NULL),
		OL_U64("tokens-per-minute", 0, l.tokens_minute, "N", "prompt and answer together",
		       NULL),
		OL_U64("tokens-per-day", 0, l.tokens_day, "N", "days begin at midnight UTC", NULL),
		OL_U64("tokens", 0, l.tokens_total, "N", "in the key's whole life", NULL),
		OL_TEXT("open-per-day", 0, l.money_day, "OPEN", "money, such as 2.5"),
		OL_TEXT("open", 0, l.money_total, "OPEN", "money in the key's whole life"),
		OL_FLAG("json", 0, l.json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger keys add",
		.usage = "[options]",
		.about = "Makes an API key and prints it. Only its hash is kept: a key that is\n"
			 "lost cannot be shown again, only revoked. From the first key on, this\n"
			 "node answers nobody without one. A running server knows it at once.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.examples = "  openledger keys add --name laptop\n"
			    "  KEY=$(openledger keys add -s inference --tokens-per-day 100000)\n"};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = check_add(&l, &err);
	if (s == OL_OK)
		s = open_node(&node, &err);
	if (s == OL_OK)
		s = ol_keys_add(node.keys, token, &info, &l.wish, &err);
	if (s == OL_OK)
		status = print_added(&l, token, &info);
	ol_wipe(token, sizeof token);
	const int closed = close_node(&node, s, &err);
	return s == OL_OK && closed == 0 ? status : 1;
}

/* ---- keys list, keys revoke ---- */

static int list(int argc, char **argv)
{
	bool json = false, all = false;
	struct node node = {0};
	struct ol_error err = {0};
	struct ol_key_info info;
	size_t shown = 0, hidden = 0;
	const struct ol_option options[] = {
		OL_FLAG("all", 0, all, "those that are revoked or expired, too"),
		OL_FLAG("json", 0, json, "machine-readable output (all keys)"),
	};
	const struct ol_command_line line = {
		.command = "openledger keys list",
		.usage = "[options]",
		.about = "Lists the API keys of this node and what they have used.\n"
			 "Money is in OPEN; \"used/limit\" where there is a limit.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	const enum ol_status s = open_node(&node, &err);
	json_t *data = json_array();
	for (size_t i = 0; s == OL_OK && ol_keys_at(node.keys, i, &info); i++) {
		if (json) {
			json_array_append_new(data, key_json(&info));
		} else if (!all && strcmp(state_of(&info), "active") != 0) {
			hidden++;
		} else {
			if (shown++ == 0)
				printf("%-16s  %-8s  %-7s  %-16s  %-12s  %-16s  %9s  %13s  %15s  "
				       "%11s  %s\n",
				       "ID", "BEGINS", "STATE", "NAME", "ACCOUNT", "EXPIRES (UTC)",
				       "REQUESTS", "TOKENS TODAY", "TOKENS", "OPEN", "SCOPES");
			print_key(&info);
		}
	}
	if (s == OL_OK && !json && shown + hidden == 0)
		printf("No keys yet: on loopback anybody may ask. `openledger keys add` makes "
		       "one.\n");
	if (s == OL_OK && hidden > 0)
		printf("%zu revoked or expired; --all shows them.\n", hidden);
	const int closed = close_node(&node, s, &err);
	if (s == OL_OK && json)
		return ol_print_json(json_pack("{s:s, s:o}", "object", "list", "data", data)) |
		       closed;
	json_decref(data);
	return closed;
}

static int revoke(int argc, char **argv)
{
	bool json = false;
	struct node node = {0};
	struct ol_error err = {0};
	struct ol_texts ids = {0};
	const struct ol_option options[] = {
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger keys revoke",
		.usage = "ID...",
		.about = "Revokes API keys, for good. A running server refuses them within a\n"
			 "second, and ends the requests that were asked with them.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &ids,
		.examples = "  openledger keys revoke key-4fQz0a9XbT2c\n"};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (ids.count == 0)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "name the keys to revoke; `openledger keys list` shows their ids");
	if (s == OL_OK)
		s = open_node(&node, &err);
	json_t *data = json_array();
	for (int i = 0; i < ids.count && s == OL_OK; i++) {
		struct ol_key_info info;
		s = ol_keys_revoke(node.keys, ids.values[i], &err);
		if (s == OL_OK && json && ol_keys_find(node.keys, ids.values[i], &info))
			json_array_append_new(data, key_json(&info));
		else if (s == OL_OK)
			printf("%s is revoked\n", ids.values[i]);
	}
	const int closed = close_node(&node, s, &err);
	if (s == OL_OK && json)
		return ol_print_json(json_pack("{s:s, s:o}", "object", "list", "data", data)) |
		       closed;
	json_decref(data);
	return closed;
}

int ol_command_keys(int argc, char **argv)
{
	static const char usage[] =
		"Usage: openledger keys add|list|revoke [options]\n"
		"API keys: who may use this node's API, for what, and how much of it.\n\n"
		"  add     make a key; prints it, once\n"
		"  list    the keys there are, and what they have used\n"
		"  revoke  end keys, and the requests under way with them\n\n"
		"As long as no key was ever made, a server on loopback answers everybody on this\n"
		"machine as the account \"local\"; a server on any other address always demands a\n"
		"key. `openledger keys COMMAND --help` tells more.\n";
	const char *what = argc > 1 ? argv[1] : "";
	if (strcmp(what, "add") == 0)
		return add(argc - 1, argv + 1);
	if (strcmp(what, "list") == 0)
		return list(argc - 1, argv + 1);
	if (strcmp(what, "revoke") == 0)
		return revoke(argc - 1, argv + 1);
	if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (*what)
		fprintf(stderr,
			"openledger: there is no command \"keys %s\"; there are add, list "
			"and revoke\n",
			what);
	else
		fputs(usage, stderr);
	return 1;
}
