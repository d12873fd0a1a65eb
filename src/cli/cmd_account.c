/* openledger account: the EVM accounts whose keys are on this machine. */
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/passphrase.h"
#include "base/file.h"
#include "crypto/secret.h"
#include "crypto/sha256.h"
#include "crypto/text.h"
#include "ledger/index.h"
#include "ledger/keystore.h"
#include "node/cashier.h"
#include "node/home.h"
#include "node/ledger_home.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum ol_status open_keystore(struct ol_keystore *keystore, struct ol_error *err)
{
	struct ol_home home;
	char folder[OL_PATH_MAX];
	enum ol_status s = ol_home_open(&home, err);
	if (s == OL_OK)
		s = ol_path_join(folder, err, home.path, "/accounts", "");
	return s == OL_OK ? ol_keystore_open(keystore, folder, err) : s;
}

static int print_account(const struct ol_address *address, const char *path, bool json)
{
	char text[OL_ADDRESS_TEXT];
	ol_address_print(text, address);
	if (!json) {
		printf("%s\n", text);
		return 0;
	}
	json_t *object = json_pack("{s:s, s:s}", "object", "account", "address", text);
	if (path)
		json_object_set_new(object, "file", json_string(path));
	return ol_print_json(object);
}

static const struct ol_keyfile_cost *cost_of(bool light)
{
	return light ? &ol_keyfile_light : &ol_keyfile_standard;
}

static int command_new(int argc, char **argv)
{
	bool json = false, light = false;
	const char *file = NULL;
	const struct ol_option options[] = {
		OL_TEXT("passphrase-file", 0, file, "FILE",
			"the passphrase is in this file (0600)"),
		OL_FLAG("light", 0, light, "less memory and time to open it, and to guess it"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger account new",
		.usage = "[options]",
		.about = "Makes an account and keeps its key, encrypted with a passphrase. Without "
			 "the file\nor without the passphrase, what is on the account is lost.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_keystore keystore;
	struct ol_passphrase passphrase = {0};
	struct ol_address address;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = open_keystore(&keystore, &err);
	if (s == OL_OK)
		s = ol_passphrase_get(&passphrase, file, "A passphrase for the new account: ", true,
				      &err);
	if (s == OL_OK)
		s = ol_keystore_new(&keystore, &address, passphrase.bytes, passphrase.size,
				    cost_of(light), &ol_random_system, (uint64_t)time(NULL), &err);
	ol_passphrase_release(&passphrase);
	return s == OL_OK ? print_account(&address, NULL, json) : ol_report(&err);
}

static int command_list(int argc, char **argv)
{
	bool json = false;
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {.command = "openledger account list",
					     .usage = "[options]",
					     .about = "Lists the accounts whose keys are here.",
					     .options = options,
					     .option_count = OL_ARRAY_LEN(options)};
	struct ol_keystore keystore;
	struct ol_address *addresses = NULL;
	struct ol_error err = {0};
	size_t count = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = open_keystore(&keystore, &err);
	if (s == OL_OK)
		s = ol_keystore_list(&keystore, &addresses, &count, &err);
	if (s != OL_OK)
		return ol_report(&err);
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++) {
		char text[OL_ADDRESS_TEXT];
		ol_address_print(text, &addresses[i]);
		if (json)
			json_array_append_new(list, json_pack("{s:s, s:s}", "object", "account",
							      "address", text));
		else
			printf("%s\n", text);
	}
	free(addresses);
	if (json)
		return ol_print_json(json_pack("{s:s, s:o}", "object", "list", "data", list));
	json_decref(list);
	if (count == 0)
		printf("No accounts yet. `openledger account new` makes one.\n");
	return 0;
}

/* The one operand of show and export. */
static enum ol_status operand(struct ol_address *address, const struct ol_texts *operands,
			      struct ol_error *err)
{
	if (operands->count != 1)
		return ol_fail(err, OL_ERR_INPUT, "name one account: 0x and 40 digits");
	return ol_address_parse(address, operands->values[0], err);
}

static int command_show(int argc, char **argv)
{
	bool json = false;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {.command = "openledger account show",
					     .usage = "ADDRESS [options]",
					     .about = "Shows an account and where its key is.",
					     .options = options,
					     .option_count = OL_ARRAY_LEN(options),
					     .operands = &operands};
	struct ol_keystore keystore;
	struct ol_address address;
	struct ol_buf file;
	struct ol_error err = {0};
	char path[OL_KEYSTORE_PATH_MAX];
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	ol_buf_init(&file, OL_KEYFILE_BYTES_MAX);
	enum ol_status s = operand(&address, &operands, &err);
	if (s == OL_OK)
		s = open_keystore(&keystore, &err);
	if (s == OL_OK)
		s = ol_keystore_read(&keystore, &file, path, &address, &err);
	ol_buf_release(&file);
	if (s != OL_OK)
		return ol_report(&err);
	const int failed = print_account(&address, path, json);
	if (!json)
		printf("key file: %s\n", path);
	return failed;
}

/* A key file, or 64 hexadecimal digits, to a secret. */
static enum ol_status read_import(uint8_t secret[OL_SECP256K1_SECRET_BYTES], const char *path,
				  const char *old_file, struct ol_error *err)
{
	struct ol_map map;
	struct ol_passphrase passphrase = {0};
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	const char *text = (const char *)map.data;
	size_t length = map.size;
	while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
		length--;
	const size_t skip = length >= 2 && memcmp(text, "0x", 2) == 0 ? 2 : 0;
	if (length - skip == 64) {
		if (!ol_hex_parse(secret, OL_SECP256K1_SECRET_BYTES, text + skip, 64) ||
		    !ol_secp256k1_secret_valid(secret))
			s = ol_fail(err, OL_ERR_INPUT, "%s holds no private key of secp256k1",
				    path);
	} else {
		s = ol_passphrase_get(&passphrase, old_file,
				      "The passphrase of the key file: ", false, err);
		if (s == OL_OK)
			s = ol_keyfile_open(secret, text ? text : "", map.size, passphrase.bytes,
					    passphrase.size, err);
		ol_passphrase_release(&passphrase);
	}
	ol_map_close(&map);
	return s;
}

static int command_import(int argc, char **argv)
{
	bool json = false, light = false;
	const char *file = NULL, *old_file = NULL;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_TEXT("passphrase-file", 0, file, "FILE", "the new passphrase is in this file"),
		OL_TEXT("old-passphrase-file", 0, old_file, "FILE",
			"the passphrase of the key file that is imported"),
		OL_FLAG("light", 0, light, "less memory and time to open it, and to guess it"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger account import",
		.usage = "FILE [options]",
		.about =
			"Brings in an account: a key file of geth or MetaMask (Web3 Secret Storage "
			"3), or a file\nwith the private key as 64 hexadecimal digits. The key is "
			"kept under a passphrase of this\nmachine's.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_keystore keystore;
	struct ol_passphrase passphrase = {0};
	struct ol_address address;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	uint8_t *secret = ol_secret_alloc(OL_SECP256K1_SECRET_BYTES);
	enum ol_status s = OL_OK;
	if (!secret)
		s = ol_fail(&err, OL_ERR_FULL, "out of memory");
	else if (operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "name one file to import");
	if (s == OL_OK)
		s = open_keystore(&keystore, &err);
	if (s == OL_OK)
		s = read_import(secret, operands.values[0], old_file ? old_file : file, &err);
	if (s == OL_OK)
		s = ol_passphrase_get(&passphrase, file, "A passphrase for it here: ", true, &err);
	if (s == OL_OK)
		s = ol_keystore_add(&keystore, &address, secret, passphrase.bytes, passphrase.size,
				    cost_of(light), &ol_random_system, (uint64_t)time(NULL), &err);
	ol_passphrase_release(&passphrase);
	ol_secret_free(secret);
	return s == OL_OK ? print_account(&address, NULL, json) : ol_report(&err);
}

static int command_export(int argc, char **argv)
{
	bool private_key = false;
	const char *file = NULL;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_FLAG("private-key", 0, private_key,
			"print the key itself, unprotected; needs the passphrase"),
		OL_TEXT("passphrase-file", 0, file, "FILE", "the passphrase is in this file"),
	};
	const struct ol_command_line line = {
		.command = "openledger account export",
		.usage = "ADDRESS [options]",
		.about = "Prints an account's key file, as geth and MetaMask import it, encrypted "
			 "as it is.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_keystore keystore;
	struct ol_passphrase passphrase = {0};
	struct ol_address address;
	struct ol_buf json;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	ol_buf_init(&json, OL_KEYFILE_BYTES_MAX);
	enum ol_status s = operand(&address, &operands, &err);
	if (s == OL_OK)
		s = open_keystore(&keystore, &err);
	if (s == OL_OK)
		s = ol_keystore_read(&keystore, &json, NULL, &address, &err);
	if (s == OL_OK && private_key)
		s = ol_passphrase_get(&passphrase, file, "The account's passphrase: ", false, &err);
	if (s == OL_OK && private_key) {
		uint8_t secret[OL_SECP256K1_SECRET_BYTES];
		char hex[2 * OL_SECP256K1_SECRET_BYTES + 1];
		s = ol_keystore_unlock(&keystore, secret, &address, passphrase.bytes,
				       passphrase.size, &err);
		if (s == OL_OK) {
			ol_hex(hex, secret, sizeof secret);
			printf("0x%s\n", hex);
		}
		ol_wipe(secret, sizeof secret);
		ol_wipe(hex, sizeof hex);
	} else if (s == OL_OK) {
		fwrite(json.data, 1, json.size, stdout);
	}
	ol_passphrase_release(&passphrase);
	ol_buf_release(&json);
	return s == OL_OK ? 0 : ol_report(&err);
}

/* What there is to do with an account; the help is made of it. */
/* --- money ---------------------------------------------------------------------------- */

static struct ol_amount posted(struct ol_ledger_index *index, const char *account,
			       enum ol_currency currency, struct ol_error *err)
{
	struct ol_indexed_account found;
	struct ol_account_key key;
	if (ol_account_key_parse(&key, account, currency, err) != OL_OK ||
	    ol_ledger_index_account(index, &found, &key, NULL) != OL_OK)
		return ol_amount(0);
	const unsigned __int128 credits = ol_total_value(found.credits),
				debits = ol_total_value(found.debits);
	return ol_amount(credits > debits ? (uint64_t)(credits - debits) : 0);
}

static int print_holdings(const char *account, struct ol_amount open, struct ol_amount credit,
			  bool json)
{
	char nano[2][OL_AMOUNT_TEXT_MAX], text[2][OL_AMOUNT_OPEN_MAX];
	ol_amount_print(nano[0], open);
	ol_amount_print(nano[1], credit);
	ol_amount_print_open(text[0], open);
	ol_amount_print_open(text[1], credit);
	if (json)
		return ol_print_json(json_pack("{s:s, s:s, s:s}", "account", account, "posted_nano",
					       nano[0], "test_credit_nano", nano[1]));
	printf("%s\n  %20s OPEN\n  %20s test credit (never to be withdrawn)\n", account, text[0],
	       text[1]);
	return 0;
}

static int command_holdings(int argc, char **argv)
{
	bool json = false;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {OL_FLAG("json", 0, json, "machine-readable output")};
	const struct ol_command_line line = {
		.command = "openledger account balance",
		.usage = "ADDRESS|local [options]",
		.about =
			"What an account has in this node's ledger, as its index knows it: what is "
			"held for\nanswers under way is still counted.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_ledger_index *index = NULL;
	struct ol_ledger_home paths;
	struct ol_home home;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = operands.count == 1
				   ? ol_home_open(&home, &err)
				   : ol_fail(&err, OL_ERR_INPUT, "balance needs one account");
	if (s == OL_OK)
		s = ol_ledger_home(&paths, &home, &err);
	if (s == OL_OK)
		s = ol_ledger_index_open_read_only(&index, paths.index, &err);
	if (s != OL_OK)
		return ol_report(&err);
	const char *account = operands.values[0];
	const struct ol_amount open = posted(index, account, OL_CURRENCY_OPEN, &err);
	const struct ol_amount credit = posted(index, account, OL_CURRENCY_CREDIT, &err);
	ol_ledger_index_close(index);
	return err.status != OL_OK ? ol_report(&err) : print_holdings(account, open, credit, json);
}

/* Needs the ledger for itself: beside a running node, ask the node (POST /v1/grants). */
static int command_grant(int argc, char **argv)
{
	struct ol_texts operands = {0};
	const struct ol_command_line line = {
		.command = "openledger account grant",
		.usage = "ADDRESS|local AMOUNT",
		.about = "Gives test credit (in OPEN, up to nine decimals) to an account: it is "
			 "spent like OPEN,\nwhat it pays is test credit too, and it can never be "
			 "withdrawn. While the node runs, ask\nit instead: POST /v1/grants.",
		.operands = &operands};
	struct ol_cashier_options options = {.room = 1};
	const struct ol_books_options none = {.interval_ms = 0};
	struct ol_cashier *cashier = NULL;
	struct ol_books books;
	struct ol_account_key key;
	struct ol_amount amount;
	struct ol_home home;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s =
		operands.count == 2 && ol_amount_parse_open(&amount, operands.values[1],
							    strlen(operands.values[1]))
			? ol_account_key_parse(&key, operands.values[0], OL_CURRENCY_CREDIT, &err)
			: ol_fail(&err, OL_ERR_INPUT,
				  "grant needs an account and an amount in OPEN, like 12.5");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_books_open(&books, &home, &none, &err);
	if (s != OL_OK)
		return ol_report(&err);
	options.keeper = books.keeper;
	s = ol_cashier_open(&cashier, &options, &err);
	if (s == OL_OK)
		s = ol_cashier_grant(cashier, &key, amount, &err);
	ol_cashier_close(cashier);
	ol_books_close(&books);
	if (s != OL_OK)
		return ol_report(&err);
	printf("%s has %s more test credit\n", operands.values[0], operands.values[1]);
	return 0;
}

static const struct ol_subcommand commands[] = {
	{"new", "make an account; its key is kept here, encrypted", command_new},
	{"list", "the accounts whose keys are here", command_list},
	{"show", "one account, and where its key file is", command_show},
	{"balance", "what an account has in this node's ledger", command_holdings},
	{"grant", "test credit for an account", command_grant},
	{"import", "bring in a key file of geth or MetaMask, or a private key", command_import},
	{"export", "print a key file for geth or MetaMask, or the private key", command_export},
};

int ol_command_account(int argc, char **argv)
{
	const struct ol_family family = {
		.word = "account",
		.about = "Accounts of EVM chains: who pays and who is paid.\n",
		.footer =
			"\nPassphrases are asked for on the terminal, or come from "
			"--passphrase-file or\n$OPENLEDGER_PASSPHRASE.\n",
		.commands = commands,
		.count = OL_ARRAY_LEN(commands),
		.width = 8};
	return ol_family_run(&family, argc, argv);
}
