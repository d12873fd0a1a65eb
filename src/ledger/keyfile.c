#include "ledger/keyfile.h"
#include "crypto/cipher.h"
#include "crypto/secret.h"
#include "crypto/sha256.h"
#include "crypto/text.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { DERIVED_BYTES = 32, IV_BYTES = 16, SALT_BYTES = 32, SALT_MAX = 256, ROUNDS_MAX = 10000000 };

/* geth's own two. */
const struct ol_keyfile_cost ol_keyfile_standard = {.n = 1 << 18, .r = 8, .p = 1};
const struct ol_keyfile_cost ol_keyfile_light = {.n = 1 << 12, .r = 8, .p = 6};

static void compute_mac(uint8_t mac[OL_KECCAK_BYTES], const uint8_t derived[DERIVED_BYTES],
			const uint8_t *ciphertext, size_t size)
{
	struct ol_keccak hash;
	ol_keccak_init(&hash);
	ol_keccak_update(&hash, derived + DERIVED_BYTES / 2, DERIVED_BYTES / 2);
	ol_keccak_update(&hash, ciphertext, size);
	ol_keccak_final(&hash, mac);
	ol_wipe(&hash, sizeof hash);
}

/* A random UUID (version 4). */
static void print_uuid(char text[37], const uint8_t random[16])
{
	char hex[33];
	uint8_t bytes[16];
	memcpy(bytes, random, sizeof bytes);
	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
	bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
	ol_hex(hex, bytes, sizeof bytes);
	snprintf(text, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

enum ol_status ol_keyfile_seal(struct ol_buf *json, const uint8_t secret[OL_SECP256K1_SECRET_BYTES],
			       const void *passphrase, size_t passphrase_size,
			       const struct ol_keyfile_cost *cost, const struct ol_random *random,
			       struct ol_error *err)
{
	uint8_t salt[SALT_BYTES], iv[IV_BYTES], id[16], derived[DERIVED_BYTES];
	uint8_t ciphertext[OL_SECP256K1_SECRET_BYTES], mac[OL_KECCAK_BYTES];
	char salt_hex[2 * SALT_BYTES + 1], iv_hex[2 * IV_BYTES + 1], mac_hex[2 * sizeof mac + 1];
	char text_hex[2 * sizeof ciphertext + 1], address_hex[2 * OL_ADDRESS_BYTES + 1], uuid[37];
	struct ol_address address;
	random->fill(random->self, salt, sizeof salt);
	random->fill(random->self, iv, sizeof iv);
	random->fill(random->self, id, sizeof id);
	if (!ol_scrypt(derived, sizeof derived, passphrase, passphrase_size, salt, sizeof salt,
		       cost->n, cost->r, cost->p))
		return ol_fail(err, OL_ERR_FULL,
			       "not enough memory to derive a key from the "
			       "passphrase");
	const bool good = ol_aes128_ctr(ciphertext, secret, sizeof ciphertext, derived, iv);
	compute_mac(mac, derived, ciphertext, sizeof ciphertext);
	ol_wipe(derived, sizeof derived);
	if (!good)
		return ol_fail(err, OL_ERR_FULL, "out of memory while encrypting a key");
	ol_address_from_secret(&address, secret);
	ol_hex(address_hex, address.bytes, sizeof address.bytes);
	ol_hex(salt_hex, salt, sizeof salt);
	ol_hex(iv_hex, iv, sizeof iv);
	ol_hex(mac_hex, mac, sizeof mac);
	ol_hex(text_hex, ciphertext, sizeof ciphertext);
	print_uuid(uuid, id);
	ol_buf_printf(json,
		      "{\"address\":\"%s\",\"crypto\":{\"cipher\":\"aes-128-ctr\","
		      "\"ciphertext\":\"%s\",\"cipherparams\":{\"iv\":\"%s\"},"
		      "\"kdf\":\"scrypt\",\"kdfparams\":{\"dklen\":%d,\"n\":%llu,\"p\":%u,"
		      "\"r\":%u,\"salt\":\"%s\"},\"mac\":\"%s\"},\"id\":\"%s\",\"version\":3}\n",
		      address_hex, text_hex, iv_hex, DERIVED_BYTES, (unsigned long long)cost->n,
		      cost->p, cost->r, salt_hex, mac_hex, uuid);
	return json->failed ? ol_fail(err, OL_ERR_FULL, "out of memory for a key file") : OL_OK;
}

/* A text of the object as bytes; false when it is missing, no hexadecimal, or longer than room. */
static bool get_hex(uint8_t *out, size_t room, size_t *size_out, const json_t *object,
		    const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	const size_t length = text ? strlen(text) : 0;
	*size_out = length / 2;
	return text && length / 2 <= room && ol_hex_parse(out, length / 2, text, length);
}

static bool get_number(uint64_t *out, const json_t *object, const char *name, uint64_t max)
{
	const json_t *value = json_object_get(object, name);
	const json_int_t number = json_integer_value(value);
	*out = (uint64_t)number;
	return json_is_integer(value) && number > 0 && (uint64_t)number <= max;
}

static enum ol_status malformed(struct ol_error *err, const char *what)
{
	return ol_fail(err, OL_ERR_INPUT, "the key file's \"%s\" is missing or malformed", what);
}

static enum ol_status derive(uint8_t derived[DERIVED_BYTES], const json_t *crypto,
			     const void *passphrase, size_t passphrase_size, struct ol_error *err)
{
	const char *kdf = json_string_value(json_object_get(crypto, "kdf"));
	const json_t *params = json_object_get(crypto, "kdfparams");
	uint8_t salt[SALT_MAX];
	uint64_t size, n, r, p, rounds;
	size_t salt_size;
	if (!kdf || !get_hex(salt, sizeof salt, &salt_size, params, "salt"))
		return malformed(err, !kdf ? "kdf" : "salt");
	if (!get_number(&size, params, "dklen", DERIVED_BYTES) || size != DERIVED_BYTES)
		return malformed(err, "dklen");
	if (strcmp(kdf, "scrypt") == 0) {
		if (!get_number(&n, params, "n", OL_SCRYPT_MEMORY_MAX / 128) ||
		    !get_number(&r, params, "r", 1024) || !get_number(&p, params, "p", 1024))
			return malformed(err, "kdfparams");
		if (n * r > OL_SCRYPT_MEMORY_MAX / 128 || n * r * p > OL_SCRYPT_MEMORY_MAX)
			return ol_fail(err, OL_ERR_UNSUPPORTED,
				       "the key file's scrypt asks for more than %llu MB",
				       OL_SCRYPT_MEMORY_MAX >> 20);
		if (!ol_scrypt(derived, DERIVED_BYTES, passphrase, passphrase_size, salt, salt_size,
			       n, (uint32_t)r, (uint32_t)p))
			return malformed(err, "kdfparams");
		return OL_OK;
	}
	const char *prf = json_string_value(json_object_get(params, "prf"));
	if (strcmp(kdf, "pbkdf2") != 0 || !prf || strcmp(prf, "hmac-sha256") != 0)
		return ol_fail(
			err, OL_ERR_UNSUPPORTED,
			"the key file's derivation \"%.40s\" is not known (scrypt, or pbkdf2 "
			"with hmac-sha256)",
			kdf);
	if (!get_number(&rounds, params, "c", ROUNDS_MAX) ||
	    !ol_pbkdf2_sha256(derived, DERIVED_BYTES, passphrase, passphrase_size, salt, salt_size,
			      (uint32_t)rounds))
		return malformed(err, "c");
	return OL_OK;
}

static enum ol_status decrypt(uint8_t secret[OL_SECP256K1_SECRET_BYTES], const json_t *crypto,
			      const void *passphrase, size_t passphrase_size, struct ol_error *err)
{
	const char *cipher = json_string_value(json_object_get(crypto, "cipher"));
	uint8_t derived[DERIVED_BYTES], iv[IV_BYTES], mac[OL_KECCAK_BYTES], right[OL_KECCAK_BYTES];
	uint8_t ciphertext[OL_SECP256K1_SECRET_BYTES];
	size_t size;
	if (!cipher || strcmp(cipher, "aes-128-ctr") != 0)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "the key file's cipher \"%.40s\" is not known (aes-128-ctr)",
			       cipher ? cipher : "");
	size_t text_size;
	if (!get_hex(ciphertext, sizeof ciphertext, &text_size, crypto, "ciphertext"))
		return malformed(err, "ciphertext");
	if (!get_hex(iv, sizeof iv, &size, json_object_get(crypto, "cipherparams"), "iv") ||
	    size != sizeof iv)
		return malformed(err, "iv");
	if (!get_hex(mac, sizeof mac, &size, crypto, "mac") || size != sizeof mac)
		return malformed(err, "mac");
	enum ol_status s = derive(derived, crypto, passphrase, passphrase_size, err);
	if (s != OL_OK)
		return s;
	compute_mac(right, derived, ciphertext, text_size);
	/* Early geth left out zeros at the beginning of a key. */
	uint8_t *tail = secret + OL_SECP256K1_SECRET_BYTES - text_size;
	memset(secret, 0, OL_SECP256K1_SECRET_BYTES);
	if (!ol_secret_equal(mac, right, sizeof mac))
		s = ol_fail(err, OL_ERR_INPUT, "the passphrase is wrong");
	else if (!ol_aes128_ctr(tail, ciphertext, text_size, derived, iv))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while decrypting a key");
	ol_wipe(derived, sizeof derived);
	return s;
}

static json_t *load(const char *json, size_t size, struct ol_error *err)
{
	json_error_t why;
	json_t *root = size <= OL_KEYFILE_BYTES_MAX
			       ? json_loadb(json, size, JSON_REJECT_DUPLICATES, &why)
			       : NULL;
	if (!json_is_object(root)) {
		json_decref(root);
		ol_fail(err, OL_ERR_INPUT,
			"this is not a key file: no JSON object of at most %d "
			"bytes",
			OL_KEYFILE_BYTES_MAX);
		return NULL;
	}
	return root;
}

static enum ol_status stated_address(struct ol_address *address, const json_t *root,
				     struct ol_error *err)
{
	const json_t *value = json_object_get(root, "address");
	const char *text = json_string_value(value);
	if (!value)
		return ol_fail(err, OL_ERR_NOT_FOUND, "the key file names no address");
	if (text && strncmp(text, "0x", 2) == 0)
		text += 2;
	if (!text || !ol_hex_parse(address->bytes, OL_ADDRESS_BYTES, text, strlen(text)))
		return malformed(err, "address");
	return OL_OK;
}

enum ol_status ol_keyfile_address(struct ol_address *address, const char *json, size_t size,
				  struct ol_error *err)
{
	json_t *root = load(json, size, err);
	if (!root)
		return OL_ERR_INPUT;
	const enum ol_status s = stated_address(address, root, err);
	json_decref(root);
	return s;
}

enum ol_status ol_keyfile_open(uint8_t secret_out[OL_SECP256K1_SECRET_BYTES], const char *json,
			       size_t size, const void *passphrase, size_t passphrase_size,
			       struct ol_error *err)
{
	struct ol_address stated, real;
	json_t *root = load(json, size, err);
	if (!root)
		return OL_ERR_INPUT;
	const json_t *version = json_object_get(root, "version");
	const json_t *crypto = json_object_get(root, "crypto");
	if (!crypto)
		crypto = json_object_get(root, "Crypto"); /* as early geth wrote it */
	enum ol_status s = OL_OK;
	if (!json_is_integer(version) || json_integer_value(version) != 3)
		s = ol_fail(err, OL_ERR_UNSUPPORTED, "only key files of version 3 can be read");
	else
		s = decrypt(secret_out, crypto, passphrase, passphrase_size, err);
	if (s == OL_OK && !ol_secp256k1_secret_valid(secret_out))
		s = ol_fail(err, OL_ERR_INPUT, "the key file holds no key of secp256k1");
	if (s == OL_OK) {
		const enum ol_status named = stated_address(&stated, root, err);
		ol_address_from_secret(&real, secret_out);
		if (named != OL_OK && named != OL_ERR_NOT_FOUND)
			s = named;
		else if (named == OL_OK && ol_address_compare(&stated, &real) != 0)
			s = ol_fail(err, OL_ERR_INPUT,
				    "the key file holds the key of another address than it says");
	}
	if (s != OL_OK)
		ol_wipe(secret_out, OL_SECP256K1_SECRET_BYTES);
	json_decref(root);
	return s;
}
