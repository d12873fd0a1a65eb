/* Keccak-256 against known answers, and every way of cutting the input. */
#include "crypto/keccak.h"
#include "crypto/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void check(const char *text, const char *expected)
{
	uint8_t hash[OL_KECCAK_BYTES];
	char hex[2 * OL_KECCAK_BYTES + 1];
	ol_keccak256(hash, text, strlen(text));
	ol_hex(hex, hash, sizeof hash);
	assert_string_equal(hex, expected);
}

static void test_known_answers(void **state)
{
	(void)state;
	check("", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
	check("abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
	check("The quick brown fox jumps over the lazy dog",
	      "4d741b6f1eb29cb2a9b9911c82f56fa8d73b04959d3d9d222895df6c0b28aa15");
	check("Transfer(address,address,uint256)",
	      "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
}

/* Sizes around one and two blocks, each cut in two at every place. */
static void test_pieces_make_the_whole(void **state)
{
	(void)state;
	uint8_t bytes[2 * OL_KECCAK_RATE + 2];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 + 1);
	for (size_t size = OL_KECCAK_RATE - 2; size <= sizeof bytes; size++) {
		uint8_t whole[OL_KECCAK_BYTES], pieces[OL_KECCAK_BYTES];
		ol_keccak256(whole, bytes, size);
		for (size_t cut = 0; cut <= size; cut += 17) {
			struct ol_keccak hash;
			ol_keccak_init(&hash);
			ol_keccak_update(&hash, bytes, cut);
			ol_keccak_update(&hash, bytes + cut, size - cut);
			ol_keccak_final(&hash, pieces);
			assert_memory_equal(whole, pieces, sizeof whole);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_pieces_make_the_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
