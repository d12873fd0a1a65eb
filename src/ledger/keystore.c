#define _GNU_SOURCE
#include "ledger/keystore.h"
#include "crypto/secret.h"
#include "crypto/secret_file.h"
#include "crypto/sha256.h"
#include "crypto/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum ol_status ol_keystore_open(struct ol_keystore *keystore, const char *folder,
				struct ol_error *err)
{
	const int length = snprintf(keystore->folder, sizeof keystore->folder, "%s", folder);
	if (length < 0 || (size_t)length >= sizeof keystore->folder)
		return ol_fail(err, OL_ERR_INPUT, "the path %.100s… is too long", folder);
	return ol_secret_folder_make(folder, err);
}

/* Is it the name of a key file, and of which account? */
static bool name_parse(struct ol_address *address, const char *name)
{
	const char *last = strrchr(name, '-');
	return strncmp(name, "UTC--", 5) == 0 && last && last > name && last[-1] == '-' &&
	       ol_hex_parse(address->bytes, OL_ADDRESS_BYTES, last + 1, strlen(last + 1));
}

/* Names of all key files, sorted: the time comes first in them. */
static enum ol_status list_names(const struct ol_keystore *keystore, char ***names_out,
				 size_t *count_out, struct ol_error *err)
{
	struct dirent **entries;
	const int count = scandir(keystore->folder, &entries, NULL, alphasort);
	size_t kept = 0;
	if (count < 0)
		return ol_fail(err, OL_ERR_IO, "cannot read the folder %s: %s", keystore->folder,
			       strerror(errno));
	char **names = calloc((size_t)count + 1, sizeof *names);
	bool failed = !names || count > OL_KEYSTORE_ACCOUNTS_MAX;
	for (int i = 0; i < count; i++) {
		struct ol_address address;
		if (!failed && name_parse(&address, entries[i]->d_name)) {
			names[kept] = strdup(entries[i]->d_name);
			failed = !names[kept++];
		}
		free(entries[i]);
	}
	free(entries);
	*names_out = names;
	*count_out = kept;
	return failed ? ol_fail(err, OL_ERR_FULL, "%s: out of memory, or more than %d accounts",
				keystore->folder, OL_KEYSTORE_ACCOUNTS_MAX)
		      : OL_OK;
}

static void free_names(char **names, size_t count)
{
	for (size_t i = 0; names && i < count; i++)
		free(names[i]);
	free(names);
}

enum ol_status ol_keystore_list(const struct ol_keystore *keystore,
				struct ol_address **addresses_out, size_t *count_out,
				struct ol_error *err)
{
	char **names;
	size_t count;
	*addresses_out = NULL;
	*count_out = 0;
	enum ol_status s = list_names(keystore, &names, &count, err);
	struct ol_address *addresses = s == OL_OK ? calloc(count + 1, sizeof *addresses) : NULL;
	if (s == OL_OK && !addresses)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for %zu accounts", count);
	for (size_t i = 0; s == OL_OK && i < count; i++)
		OL_ASSERT(name_parse(&addresses[i], names[i]));
	free_names(names, count);
	if (s == OL_OK) {
		*addresses_out = addresses;
		*count_out = count;
	}
	return s;
}

enum ol_status ol_keystore_read(const struct ol_keystore *keystore, struct ol_buf *json,
				char path_out[OL_KEYSTORE_PATH_MAX],
				const struct ol_address *address, struct ol_error *err)
{
	char **names, path[OL_KEYSTORE_PATH_MAX], bytes[OL_KEYFILE_BYTES_MAX];
	size_t count, size;
	bool found = false;
	enum ol_status s = list_names(keystore, &names, &count, err);
	for (size_t i = 0; s == OL_OK && i < count && !found; i++) {
		struct ol_address other;
		found = name_parse(&other, names[i]) && ol_address_compare(&other, address) == 0;
		if (found)
			snprintf(path, sizeof path, "%s/%s", keystore->folder, names[i]);
	}
	free_names(names, count);
	if (s != OL_OK)
		return s;
	if (!found) {
		char text[OL_ADDRESS_TEXT];
		ol_address_print(text, address);
		return ol_fail(err, OL_ERR_NOT_FOUND,
			       "the key of %s is not here; `openledger account list` shows those "
			       "that are",
			       text);
	}
	s = ol_secret_file_read(path, bytes, sizeof bytes, &size, err);
	if (s == OL_OK && !ol_buf_append(json, bytes, size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a key file");
	if (path_out)
		snprintf(path_out, OL_KEYSTORE_PATH_MAX, "%s", path);
	return s;
}

enum ol_status ol_keystore_unlock(const struct ol_keystore *keystore,
				  uint8_t secret_out[OL_SECP256K1_SECRET_BYTES],
				  const struct ol_address *address, const void *passphrase,
				  size_t passphrase_size, struct ol_error *err)
{
	struct ol_buf json;
	ol_buf_init(&json, OL_KEYFILE_BYTES_MAX);
	enum ol_status s = ol_keystore_read(keystore, &json, NULL, address, err);
	if (s == OL_OK)
		s = ol_keyfile_open(secret_out, json.data ? json.data : "", json.size, passphrase,
				    passphrase_size, err);
	ol_buf_release(&json);
	if (s == OL_OK) {
		struct ol_address real;
		ol_address_from_secret(&real, secret_out);
		if (ol_address_compare(&real, address) != 0) {
			ol_wipe(secret_out, OL_SECP256K1_SECRET_BYTES);
			s = ol_fail(err, OL_ERR_INPUT,
				    "the key file holds the key of another account than its name "
				    "says");
		}
	}
	return s;
}

static bool is_here(const struct ol_keystore *keystore, const struct ol_address *address)
{
	struct ol_buf json;
	ol_buf_init(&json, OL_KEYFILE_BYTES_MAX);
	const enum ol_status s = ol_keystore_read(keystore, &json, NULL, address, NULL);
	ol_buf_release(&json);
	return s != OL_ERR_NOT_FOUND;
}

enum ol_status ol_keystore_add(const struct ol_keystore *keystore, struct ol_address *address,
			       const uint8_t secret[OL_SECP256K1_SECRET_BYTES],
			       const void *passphrase, size_t passphrase_size,
			       const struct ol_keyfile_cost *cost, const struct ol_random *random,
			       uint64_t time, struct ol_error *err)
{
	char path[OL_KEYSTORE_PATH_MAX], hex[2 * OL_ADDRESS_BYTES + 1], when[64];
	struct tm utc;
	struct ol_buf json;
	const time_t seconds = (time_t)time;
	ol_address_from_secret(address, secret);
	ol_hex(hex, address->bytes, sizeof address->bytes);
	if (is_here(keystore, address))
		return ol_fail(err, OL_ERR_INPUT, "the account 0x%s is here already", hex);
	if (!gmtime_r(&seconds, &utc) ||
	    strftime(when, sizeof when, "%Y-%m-%dT%H-%M-%S.000000000Z", &utc) == 0)
		return ol_fail(err, OL_ERR_INPUT, "the clock of this machine shows no usable time");
	snprintf(path, sizeof path, "%s/UTC--%s--%s", keystore->folder, when, hex);
	ol_buf_init(&json, OL_KEYFILE_BYTES_MAX);
	enum ol_status s =
		ol_keyfile_seal(&json, secret, passphrase, passphrase_size, cost, random, err);
	if (s == OL_OK)
		s = ol_secret_file_create(path, json.data, json.size, err);
	ol_buf_release(&json);
	return s;
}

enum ol_status ol_keystore_new(const struct ol_keystore *keystore, struct ol_address *address,
			       const void *passphrase, size_t passphrase_size,
			       const struct ol_keyfile_cost *cost, const struct ol_random *random,
			       uint64_t time, struct ol_error *err)
{
	uint8_t *secret = ol_secret_alloc(OL_SECP256K1_SECRET_BYTES);
	if (!secret)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a key");
	do /* all but one in 2^128 are valid */
		random->fill(random->self, secret, OL_SECP256K1_SECRET_BYTES);
	while (!ol_secp256k1_secret_valid(secret));
	const enum ol_status s = ol_keystore_add(keystore, address, secret, passphrase,
						 passphrase_size, cost, random, time, err);
	ol_secret_free(secret);
	return s;
}
