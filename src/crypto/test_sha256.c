/* SHA-256 against the vectors of FIPS 180-4 / NIST. */
#include "crypto/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const struct {
	const char *text, *hex;
	int repeat;
} vectors[] = {
	{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
	{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
	{"aaaaaaaaaa", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 100000},
};

static void test_known_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(vectors); i++) {
		uint8_t out[OL_SHA256_BYTES];
		char hex[2 * OL_SHA256_BYTES + 1];
		struct ol_sha256 hash;
		assert_true(ol_sha256_init(&hash));
		for (int r = 0; r < vectors[i].repeat; r++)
			ol_sha256_update(&hash, vectors[i].text, strlen(vectors[i].text));
		ol_sha256_final(&hash, out);
		ol_hex(hex, out, sizeof out);
		assert_string_equal(hex, vectors[i].hex);
		if (vectors[i].repeat == 1) {
			ol_sha256(out, vectors[i].text, strlen(vectors[i].text));
			ol_hex(hex, out, sizeof out);
			assert_string_equal(hex, vectors[i].hex);
		}
	}
}

static void test_release_in_the_middle(void **state)
{
	(void)state;
	struct ol_sha256 hash;
	assert_true(ol_sha256_init(&hash));
	ol_sha256_update(&hash, "half", 4);
	ol_sha256_release(&hash);
	assert_null(hash.context);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_vectors),
		cmocka_unit_test(test_release_in_the_middle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
