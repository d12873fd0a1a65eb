/* Base64 (the vectors of RFC 4648, section 10) and hexadecimal: one spelling each. */
#include "crypto/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void test_base64_vectors(void **state)
{
	(void)state;
	static const struct {
		const char *bytes, *text;
	} rows[] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const size_t size = strlen(rows[i].bytes), length = strlen(rows[i].text);
		uint8_t bytes[8];
		size_t got;
		struct ol_buf buf;
		assert_int_equal(OL_BASE64_LENGTH(size), length);
		ol_buf_init(&buf, 64);
		assert_true(ol_buf_append_text(&buf, "="));
		assert_true(ol_base64_append(&buf, rows[i].bytes, size));
		assert_string_equal(buf.data + 1, rows[i].text);
		ol_buf_release(&buf);
		assert_true(ol_base64_parse(bytes, sizeof bytes, &got, rows[i].text, length));
		assert_int_equal(got, size);
		assert_memory_equal(bytes, rows[i].bytes, size);
		assert_true(ol_base64_parse_exact(bytes, size, rows[i].text, length));
		assert_false(ol_base64_parse_exact(bytes, size + 1, rows[i].text, length));
	}
}

static void test_what_is_no_base64(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"Zg=",  "Zg",    "Z===",     "====", "=",    "Zh==", /* a bit behind the byte */
		"Zm9=", "Zm9v=", "Zg==Zg==", "Zm-v", "Zm_v", "Zm 9v", "Zm9v\n", "Z=9v",
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		uint8_t bytes[16];
		size_t got;
		assert_false(ol_base64_parse(bytes, sizeof bytes, &got, rows[i], strlen(rows[i])));
	}
}

static void test_base64_keeps_to_its_room(void **state)
{
	(void)state;
	uint8_t bytes[3];
	size_t got;
	assert_true(ol_base64_parse(bytes, 2, &got, "Zm8=", 4));
	assert_false(ol_base64_parse(bytes, 2, &got, "Zm9v", 4));
}

static void test_hexadecimal(void **state)
{
	(void)state;
	uint8_t bytes[2];
	assert_true(ol_hex_parse(bytes, 2, "0aF9", 4));
	assert_memory_equal(bytes, "\x0a\xf9", 2);
	assert_false(ol_hex_parse(bytes, 2, "0aF", 3));
	assert_false(ol_hex_parse(bytes, 2, "0aFg", 4));
	assert_false(ol_hex_parse(bytes, 1, "0aF9", 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64_vectors),
		cmocka_unit_test(test_what_is_no_base64),
		cmocka_unit_test(test_base64_keeps_to_its_room),
		cmocka_unit_test(test_hexadecimal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
