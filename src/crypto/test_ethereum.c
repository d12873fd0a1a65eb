/* Addresses, signatures and typed data against the examples of EIP-55, EIP-191 and EIP-712. */
#include "crypto/ethereum.h"
#include "crypto/sha256.h"
#include "crypto/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const char *const checksummed[] = {
	"0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
	"0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
	"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
	"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
};

static void test_checksums_of_eip55(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(checksummed); i++) {
		struct ol_address address;
		char text[OL_ADDRESS_TEXT];
		assert_int_equal(ol_address_parse(&address, checksummed[i], NULL), OL_OK);
		ol_address_print(text, &address);
		assert_string_equal(text, checksummed[i]);
	}
}

static void test_what_is_no_address(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum ol_status status;
	} rows[] = {
		{"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", OL_OK},        /* no checksum     */
		{"0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED", OL_OK},        /* none either     */
		{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", OL_ERR_INPUT}, /* one wrong case  */
		{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe", OL_ERR_INPUT},  /* too short       */
		{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAedd", OL_ERR_INPUT},
		{"5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed00", OL_ERR_INPUT}, /* no 0x           */
		{"0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", OL_ERR_INPUT},
		{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg", OL_ERR_INPUT},
		{"", OL_ERR_INPUT},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_address address;
		struct ol_error err = {0};
		assert_int_equal(ol_address_parse(&address, rows[i].text, &err), rows[i].status);
	}
}

/* The key of EIP-712's example is Keccak-256("cow"). */
static void make_cow(uint8_t secret[32])
{
	ol_keccak256(secret, "cow", 3);
}

static void test_the_mail_of_eip712(void **state)
{
	(void)state;
	static const char person_type[] = "Person(string name,address wallet)";
	static const char mail_type[] = "Mail(Person from,Person to,string contents)"
					"Person(string name,address wallet)";
	uint8_t secret[32], domain[32], from[32], to[32], mail[32], digest[32];
	uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES];
	struct ol_address cow, bob, contract, who;
	struct ol_eip712 s;
	char hex[2 * sizeof signature + 1], text[OL_ADDRESS_TEXT];
	make_cow(secret);
	ol_address_from_secret(&cow, secret);
	ol_address_print(text, &cow);
	assert_string_equal(text, "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826");
	assert_int_equal(ol_address_parse(&bob, "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB", NULL),
			 OL_OK);
	assert_int_equal(
		ol_address_parse(&contract, "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC", NULL),
		OL_OK);
	ol_eip712_domain(domain, "Ether Mail", "1", 1, &contract);
	ol_hex(hex, domain, sizeof domain);
	assert_string_equal(hex,
			    "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f");
	ol_eip712_begin(&s, person_type);
	ol_eip712_string(&s, "Cow", 3);
	ol_eip712_address(&s, &cow);
	ol_eip712_end(&s, from);
	ol_eip712_begin(&s, person_type);
	ol_eip712_string(&s, "Bob", 3);
	ol_eip712_address(&s, &bob);
	ol_eip712_end(&s, to);
	ol_eip712_begin(&s, mail_type);
	ol_eip712_bytes32(&s, from);
	ol_eip712_bytes32(&s, to);
	ol_eip712_string(&s, "Hello, Bob!", 11);
	ol_eip712_end(&s, mail);
	ol_hex(hex, mail, sizeof mail);
	assert_string_equal(hex,
			    "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e");
	ol_eip712_digest(digest, domain, mail);
	ol_hex(hex, digest, sizeof digest);
	assert_string_equal(hex,
			    "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");
	ol_secp256k1_sign(signature, secret, digest);
	ol_hex(hex, signature, sizeof signature);
	assert_string_equal(hex, "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
				 "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562"
				 "1c");
	assert_true(ol_address_recover(&who, signature, digest));
	assert_int_equal(ol_address_compare(&who, &cow), 0);
}

static void test_fields_of_typed_data(void **state)
{
	(void)state;
	/* u64 and bool are numbers of 32 big-endian bytes behind the type's hash. */
	static const char type[] = "T(uint64 a,bool b)";
	uint8_t bytes[96] = {0}, expected[32], actual[32];
	struct ol_eip712 s;
	ol_keccak256(bytes, type, strlen(type));
	memcpy(bytes + 56, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
	bytes[95] = 1;
	ol_keccak256(expected, bytes, sizeof bytes);
	ol_eip712_begin(&s, type);
	ol_eip712_u64(&s, 0x0102030405060708);
	ol_eip712_bool(&s, true);
	ol_eip712_end(&s, actual);
	assert_memory_equal(expected, actual, sizeof actual);
}

static void test_messages_of_eip191(void **state)
{
	(void)state;
	uint8_t digest[32];
	char hex[65];
	ol_eip191_digest(digest, "hello world", 11);
	ol_hex(hex, digest, sizeof digest);
	assert_string_equal(hex,
			    "d9eba16ed0ecae432b71fe008c98cc872bb4cc214d3220a36f365326cf807d68");
}

static void test_every_flipped_bit_of_a_signature(void **state)
{
	(void)state;
	uint8_t secret[32], digest[32] = {5}, public_key[OL_SECP256K1_PUBLIC_BYTES];
	uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES];
	make_cow(secret);
	ol_secp256k1_public(public_key, secret);
	ol_secp256k1_sign(signature, secret, digest);
	assert_true(ol_secp256k1_verify(public_key, signature, digest));
	for (size_t bit = 0; bit < 8 * sizeof signature; bit++) {
		signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(ol_secp256k1_verify(public_key, signature, digest));
		signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof digest; bit++) {
		digest[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(ol_secp256k1_verify(public_key, signature, digest));
		digest[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	signature[64] = (uint8_t)(signature[64] - 27); /* the other spelling of v */
	assert_true(ol_secp256k1_verify(public_key, signature, digest));
}

/* (r, n - s, other v) is the same signature again, and refused. */
static void test_a_high_s_is_refused(void **state)
{
	(void)state;
	uint8_t order[32], secret[32], digest[32] = {5}, public_key[OL_SECP256K1_PUBLIC_BYTES];
	uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES];
	int borrow = 0;
	assert_true(ol_hex_parse(
		order, 32, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 64));
	make_cow(secret);
	ol_secp256k1_public(public_key, secret);
	ol_secp256k1_sign(signature, secret, digest);
	for (int i = 31; i >= 0; i--) {
		const int difference = order[i] - signature[32 + i] - borrow;
		borrow = difference < 0;
		signature[32 + i] = (uint8_t)difference;
	}
	signature[64] ^= 27 ^ 28;
	assert_false(ol_secp256k1_verify(public_key, signature, digest));
}

static void test_what_is_no_secret(void **state)
{
	(void)state;
	uint8_t secret[32] = {0};
	assert_false(ol_secp256k1_secret_valid(secret));
	secret[31] = 1;
	assert_true(ol_secp256k1_secret_valid(secret));
	memset(secret, 0xff, sizeof secret);
	assert_false(ol_secp256k1_secret_valid(secret));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksums_of_eip55),
		cmocka_unit_test(test_what_is_no_address),
		cmocka_unit_test(test_the_mail_of_eip712),
		cmocka_unit_test(test_fields_of_typed_data),
		cmocka_unit_test(test_messages_of_eip191),
		cmocka_unit_test(test_every_flipped_bit_of_a_signature),
		cmocka_unit_test(test_a_high_s_is_refused),
		cmocka_unit_test(test_what_is_no_secret),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
