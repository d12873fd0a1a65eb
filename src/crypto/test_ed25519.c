/* Ed25519 against the vectors of RFC 8032, section 7.1, and what must be refused. */
#include "crypto/ed25519.h"
#include "crypto/sha256.h"
#include "crypto/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const struct {
	const char *seed, *public_key, *message, *signature;
} vectors[] = {
	{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
	 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
	 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701"
	 "cf9b46bd25bf5f0595bbe24655141438e7a100b"},
	{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
	 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
	 "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d"
	 "0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
	{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
	 "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
	 "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f7609"
	 "84dc6594a7c15e9716ed28dc027beceea1ec40a"},
};

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(vectors); i++) {
		uint8_t seed[32], message[2], signature[OL_ED25519_SIGNATURE_BYTES];
		const size_t size = strlen(vectors[i].message) / 2;
		struct ol_ed25519_key key;
		char hex[2 * sizeof signature + 1];
		assert_true(ol_hex_parse(seed, sizeof seed, vectors[i].seed, 64));
		assert_true(ol_hex_parse(message, size, vectors[i].message, 2 * size));
		ol_ed25519_key_from_seed(&key, seed);
		ol_hex(hex, key.public_key, sizeof key.public_key);
		assert_string_equal(hex, vectors[i].public_key);
		ol_ed25519_sign(signature, &key, message, size);
		ol_hex(hex, signature, sizeof signature);
		assert_string_equal(hex, vectors[i].signature);
		assert_true(ol_ed25519_verify(key.public_key, signature, message, size));
	}
}

/* Every bit of message, signature and key counts. */
static void test_a_flipped_bit_is_refused(void **state)
{
	(void)state;
	uint8_t seed[32] = {7}, bytes[20 + OL_ED25519_SIGNATURE_BYTES + OL_ED25519_PUBLIC_BYTES];
	uint8_t *message = bytes, *signature = bytes + 20, *public_key = bytes + 20 + 64;
	struct ol_ed25519_key key;
	ol_ed25519_key_from_seed(&key, seed);
	memset(message, 3, 20);
	memcpy(public_key, key.public_key, sizeof key.public_key);
	ol_ed25519_sign(signature, &key, message, 20);
	for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(ol_ed25519_verify(public_key, signature, message, 20));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(ol_ed25519_verify(public_key, signature, message, 20));
}

static void test_s_beyond_the_order_is_refused(void **state)
{
	(void)state;
	/* L, little-endian: s + L verifies with careless code. */
	static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
					  0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
					  0,    0,    0,    0,    0,    0,    0,    0,
					  0,    0,    0,    0,    0,    0,    0,    0x10};
	uint8_t seed[32] = {9}, signature[OL_ED25519_SIGNATURE_BYTES];
	struct ol_ed25519_key key;
	int carry = 0;
	ol_ed25519_key_from_seed(&key, seed);
	ol_ed25519_sign(signature, &key, "m", 1);
	for (int i = 0; i < 32; i++) {
		carry += signature[32 + i] + order[i];
		signature[32 + i] = (uint8_t)carry;
		carry >>= 8;
	}
	assert_false(ol_ed25519_verify(key.public_key, signature, "m", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_a_flipped_bit_is_refused),
		cmocka_unit_test(test_s_beyond_the_order_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
