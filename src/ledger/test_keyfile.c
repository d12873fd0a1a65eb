/* Key files against the vectors of the Web3 Secret Storage definition, everything that is refused,
 * and a folder of them. */
#define _GNU_SOURCE
#include "crypto/sha256.h"
#include "crypto/text.h"
#include "ledger/keystore.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* Cheap, for tests alone. */
static const struct ol_keyfile_cost cheap = {.n = 2, .r = 1, .p = 1};
static const char secret_hex[] = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

static const char pbkdf2_file[] =
	"{\"crypto\":{\"cipher\":\"aes-128-ctr\","
	"\"cipherparams\":{\"iv\":\"6087dab2f9fdbbfaddc31a909735c1e6\"},\"ciphertext\":"
	"\"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46\",\"kdf\":\"pbkdf2\","
	"\"kdfparams\":{\"c\":262144,\"dklen\":32,\"prf\":\"hmac-sha256\",\"salt\":"
	"\"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd\"},\"mac\":"
	"\"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2\"},"
	"\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}";
static const char scrypt_file[] =
	"{\"crypto\":{\"cipher\":\"aes-128-ctr\","
	"\"cipherparams\":{\"iv\":\"83dbcc02d8ccb40e466191a123791e0e\"},\"ciphertext\":"
	"\"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c\",\"kdf\":\"scrypt\","
	"\"kdfparams\":{\"dklen\":32,\"n\":262144,\"p\":8,\"r\":1,\"salt\":"
	"\"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19\"},\"mac\":"
	"\"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097\"},"
	"\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}";

static void check_vector(const char *json)
{
	uint8_t secret[32];
	char hex[65];
	assert_int_equal(ol_keyfile_open(secret, json, strlen(json), "testpassword", 12, NULL),
			 OL_OK);
	ol_hex(hex, secret, sizeof secret);
	assert_string_equal(hex, secret_hex);
}

static void test_the_published_vectors(void **state)
{
	(void)state;
	check_vector(pbkdf2_file);
	check_vector(scrypt_file);
}

static void make(struct ol_buf *json, uint8_t secret[32])
{
	assert_true(ol_hex_parse(secret, 32, secret_hex, 64));
	ol_buf_init(json, OL_KEYFILE_BYTES_MAX);
	assert_int_equal(ol_keyfile_seal(json, secret, "pass", 4, &cheap, &ol_random_system, NULL),
			 OL_OK);
}

static void test_what_is_written_is_read(void **state)
{
	(void)state;
	struct ol_buf json, again;
	struct ol_address stated, real;
	uint8_t secret[32], opened[32];
	struct ol_error err = {0};
	make(&json, secret);
	assert_int_equal(ol_keyfile_open(opened, json.data, json.size, "pass", 4, NULL), OL_OK);
	assert_memory_equal(secret, opened, 32);
	assert_int_equal(ol_keyfile_address(&stated, json.data, json.size, NULL), OL_OK);
	ol_address_from_secret(&real, secret);
	assert_int_equal(ol_address_compare(&stated, &real), 0);
	assert_int_equal(ol_keyfile_open(opened, json.data, json.size, "Pass", 4, &err),
			 OL_ERR_INPUT);
	assert_string_equal(err.text, "the passphrase is wrong");
	/* Salt and iv are new each time. */
	make(&again, secret);
	assert_int_equal(json.size, again.size);
	assert_memory_not_equal(json.data, again.data, json.size);
	ol_buf_release(&again);
	ol_buf_release(&json);
}

/* Whatever is changed in a file, it opens to the same key or not at all. */
static void test_every_changed_byte(void **state)
{
	(void)state;
	struct ol_buf json;
	uint8_t secret[32], opened[32];
	make(&json, secret);
	for (size_t i = 0; i < json.size; i++) {
		const char was = json.data[i];
		json.data[i] = was == '7' ? '8' : '7';
		if (ol_keyfile_open(opened, json.data, json.size, "pass", 4, NULL) == OL_OK)
			assert_memory_equal(secret, opened, 32);
		json.data[i] = was;
		if (ol_keyfile_open(opened, json.data, i, "pass", 4, NULL) == OL_OK)
			assert_true(i + 1 == json.size); /* the newline */
	}
	ol_buf_release(&json);
}

/* The file with one part replaced by another. */
static void replaced(struct ol_buf *out, const char *json, const char *from, const char *to)
{
	const char *at = strstr(json, from);
	assert_non_null(at);
	ol_buf_init(out, OL_KEYFILE_BYTES_MAX);
	ol_buf_append(out, json, (size_t)(at - json));
	ol_buf_append_text(out, to);
	ol_buf_append_text(out, at + strlen(from));
}

static void test_what_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to;
		enum ol_status status;
	} rows[] = {
		{"\"version\":3", "\"version\":1", OL_ERR_UNSUPPORTED},
		{"\"version\":3", "\"version\":\"3\"", OL_ERR_UNSUPPORTED},
		{"\"version\":3", "\"version\":3,\"version\":3", OL_ERR_INPUT},
		{"aes-128-ctr", "aes-128-cbc", OL_ERR_UNSUPPORTED},
		{"\"scrypt\"", "\"argon2\"", OL_ERR_UNSUPPORTED},
		{"\"dklen\":32", "\"dklen\":16", OL_ERR_INPUT},
		{"\"n\":2", "\"n\":3", OL_ERR_INPUT},
		{"\"n\":2", "\"n\":0", OL_ERR_INPUT},
		{"\"n\":2", "\"n\":-2", OL_ERR_INPUT},
		{"\"n\":2", "\"n\":1", OL_ERR_INPUT},
		{"\"n\":2", "\"n\":1099511627776", OL_ERR_INPUT},
		{"\"n\":2,\"p\":1,\"r\":1", "\"n\":1048576,\"p\":1,\"r\":1024", OL_ERR_UNSUPPORTED},
		{"\"n\":2,\"p\":1,\"r\":1", "\"n\":1048576,\"p\":1024,\"r\":8", OL_ERR_UNSUPPORTED},
		{"\"salt\":\"", "\"salt\":\"0", OL_ERR_INPUT},
		{"\"mac\":\"", "\"mac\":\"00", OL_ERR_INPUT},
		{"\"iv\":\"", "\"iv\":\"00", OL_ERR_INPUT},
		{"\"ciphertext\":\"", "\"ciphertext\":\"00", OL_ERR_INPUT},
		{"\"address\":\"", "\"address\":\"q", OL_ERR_INPUT},
		{"\"address\":\"0", "\"address\":\"1", OL_ERR_INPUT}, /* another account's */
		{"{", "[", OL_ERR_INPUT},
	};
	struct ol_buf json, changed;
	uint8_t secret[32];
	make(&json, secret);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		replaced(&changed, json.data, rows[i].from, rows[i].to);
		assert_int_equal(
			ol_keyfile_open(secret, changed.data, changed.size, "pass", 4, NULL),
			rows[i].status);
		ol_buf_release(&changed);
	}
	/* A file without an address is the definition's own form. */
	replaced(&changed, json.data, "\"address\":", "\"comment\":");
	assert_int_equal(ol_keyfile_open(secret, changed.data, changed.size, "pass", 4, NULL),
			 OL_OK);
	struct ol_address address;
	assert_int_equal(ol_keyfile_address(&address, changed.data, changed.size, NULL),
			 OL_ERR_NOT_FOUND);
	ol_buf_release(&changed);
	ol_buf_release(&json);
}

static void test_a_folder_of_accounts(void **state)
{
	(void)state;
	char folder[] = "/tmp/openledger-test-XXXXXX", path[OL_KEYSTORE_PATH_MAX];
	struct ol_keystore keystore;
	struct ol_address made[3], *list, stranger = {{1}};
	struct ol_buf json;
	struct stat stat_of;
	uint8_t secret[32];
	size_t count;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(ol_keystore_open(&keystore, folder, NULL), OL_OK);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(ol_keystore_new(&keystore, &made[i], "pw", 2, &cheap,
						 &ol_random_system, 1000000000 + 9 * i, NULL),
				 OL_OK);
	snprintf(path, sizeof path, "%s/README", folder);
	FILE *other = fopen(path, "w");
	assert_non_null(other);
	fclose(other);
	assert_int_equal(ol_keystore_list(&keystore, &list, &count, NULL), OL_OK);
	assert_int_equal(count, 3);
	assert_memory_equal(list, made, sizeof made);
	free(list);
	assert_int_equal(ol_keystore_unlock(&keystore, secret, &made[1], "pw", 2, NULL), OL_OK);
	ol_address_from_secret(&stranger, secret);
	assert_int_equal(ol_address_compare(&stranger, &made[1]), 0);
	assert_int_equal(ol_keystore_add(&keystore, &stranger, secret, "pw", 2, &cheap,
					 &ol_random_system, 5, NULL),
			 OL_ERR_INPUT); /* here already */
	assert_int_equal(ol_keystore_unlock(&keystore, secret, &made[1], "pv", 2, NULL),
			 OL_ERR_INPUT);
	stranger.bytes[3] ^= 1;
	assert_int_equal(ol_keystore_unlock(&keystore, secret, &stranger, "pw", 2, NULL),
			 OL_ERR_NOT_FOUND);
	ol_buf_init(&json, OL_KEYFILE_BYTES_MAX);
	assert_int_equal(ol_keystore_read(&keystore, &json, path, &made[0], NULL), OL_OK);
	ol_buf_release(&json);
	assert_non_null(strstr(path, "/UTC--2001-09-09T01-46-40.000000000Z--"));
	assert_int_equal(stat(path, &stat_of), 0);
	assert_int_equal(stat_of.st_mode & 0777, 0600);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(ol_keystore_unlock(&keystore, secret, &made[0], "pw", 2, NULL),
			 OL_ERR_INPUT);
	DIR *dir = opendir(folder);
	for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		unlink(path);
	}
	closedir(dir);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_published_vectors),
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_every_changed_byte),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_a_folder_of_accounts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
