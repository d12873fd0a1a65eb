/* RFC 6962 tree hashes against the vectors of the Certificate Transparency reference code, and
 * against the recursive definition of RFC 9162, section 2.1.1. */
#include "crypto/merkle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* The eight leaves of the reference tree, and its root after 0..8 of them. */
static const struct {
	uint8_t bytes[16];
	size_t size;
} leaves[8] = {
	{{0}, 0},
	{{0x00}, 1},
	{{0x10}, 1},
	{{0x20, 0x21}, 2},
	{{0x30, 0x31}, 2},
	{{0x40, 0x41, 0x42, 0x43}, 4},
	{{0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57}, 8},
	{{0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e,
	  0x6f},
	 16},
};
static const char *const roots[9] = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

static void test_reference_tree(void **state)
{
	(void)state;
	struct ol_merkle tree;
	uint8_t hash[OL_MERKLE_BYTES];
	char hex[2 * OL_MERKLE_BYTES + 1];
	ol_merkle_init(&tree);
	for (size_t n = 0; n <= 8; n++) {
		ol_merkle_root(&tree, hash);
		ol_hex(hex, hash, sizeof hash);
		assert_string_equal(hex, roots[n]);
		if (n == 8)
			break;
		ol_merkle_leaf(hash, leaves[n].bytes, leaves[n].size);
		ol_merkle_add(&tree, hash);
	}
}

/* The definition, word by word: split at the largest power of two below n. */
static void define_root(uint8_t out[OL_MERKLE_BYTES], const uint8_t (*leaf)[OL_MERKLE_BYTES],
			size_t n)
{
	if (n == 1) {
		memcpy(out, leaf[0], OL_MERKLE_BYTES);
		return;
	}
	size_t k = 1;
	while (k * 2 < n)
		k *= 2;
	uint8_t left[OL_MERKLE_BYTES], right[OL_MERKLE_BYTES];
	define_root(left, leaf, k);
	define_root(right, leaf + k, n - k);
	ol_merkle_node(out, left, right);
}

static void test_every_size_follows_the_definition(void **state)
{
	(void)state;
	static uint8_t leaf[200][OL_MERKLE_BYTES];
	struct ol_merkle tree;
	ol_merkle_init(&tree);
	for (size_t n = 1; n <= OL_ARRAY_LEN(leaf); n++) {
		uint8_t expected[OL_MERKLE_BYTES], actual[OL_MERKLE_BYTES];
		const uint8_t byte = (uint8_t)n;
		ol_merkle_leaf(leaf[n - 1], &byte, 1);
		ol_merkle_add(&tree, leaf[n - 1]);
		define_root(expected, (const uint8_t(*)[OL_MERKLE_BYTES])leaf, n);
		ol_merkle_root(&tree, actual);
		assert_memory_equal(actual, expected, sizeof actual);
	}
}

static void test_a_leaf_in_pieces(void **state)
{
	(void)state;
	struct ol_sha256 hash;
	uint8_t whole[OL_MERKLE_BYTES], pieces[OL_MERKLE_BYTES];
	ol_merkle_leaf(whole, "abcdef", 6);
	assert_true(ol_merkle_leaf_init(&hash));
	ol_sha256_update(&hash, "abc", 3);
	ol_sha256_update(&hash, "def", 3);
	ol_sha256_final(&hash, pieces);
	assert_memory_equal(whole, pieces, sizeof whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference_tree),
		cmocka_unit_test(test_every_size_follows_the_definition),
		cmocka_unit_test(test_a_leaf_in_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
