/* The safetensors reader: one row for every way a file is refused. */
#include "base/bytes.h"
#include "model/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* header text, bytes of data after it, what is said ("" : it is read). */
static const struct {
	const char *name, *header;
	size_t data;
	const char *message;
} rows[] = {
	{"one tensor", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24,
	 ""},
	{"two, in the other order",
	 "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,8]},"
	 "\"a\":{\"data_offsets\":[0,4],\"shape\":[],\"dtype\":\"F32\"}}  ",
	 8, ""},
	{"metadata", "{\"__metadata__\":{\"format\":\"pt\"}}", 0, ""},
	{"nothing", "{}", 0, ""},
	{"an empty tensor", "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
	 ""},
	{"an escaped name",
	 "{\"\\u0061\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ""},
	{"no JSON", "safetensors", 0, "a \"{\" is missing at byte 8"},
	{"cut off", "{\"a\":{\"dtype\":\"F32\",\"sha", 4, "a string does not end"},
	{"rubbish behind", "{} x", 0, "something follows the end"},
	{"a list", "[]", 0, "a \"{\" is missing"},
	{"unknown key", "{\"a\":{\"dtype\":\"F32\",\"shapes\":[1]}}", 4, "an unknown key"},
	{"unknown dtype", "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
	 "an unknown dtype"},
	{"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4,
	 "tensor a: dtype, shape or data_offsets is missing"},
	{"dtype twice", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4,
	 "dtype stands there twice"},
	{"shape twice", "{\"a\":{\"shape\":[1],\"shape\":[1]}}", 4, "shape stands there twice"},
	{"offsets twice", "{\"a\":{\"data_offsets\":[0,4],\"data_offsets\":[0,4]}}", 4,
	 "data_offsets stands there twice"},
	{"nine dimensions", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1]", 1,
	 "more than 8 dimensions"},
	{"negative size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
	 "a whole number, 0 or more, is missing"},
	{"fraction", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4,
	 "a whole number, 0 or more, is missing"},
	{"leading zero", "{\"a\":{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}}", 4,
	 "a whole number, 0 or more, is missing"},
	{"overflowing number",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,4]}}", 4,
	 "a number does not fit 64 bits"},
	{"overflowing product",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
	 "tensor a: its size does not fit 64 bits"},
	{"overflowing bytes",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
	 "tensor a: its size does not fit 64 bits"},
	{"wrong shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,20]}}", 20,
	 "tensor a: its data_offsets do not match its dtype and shape"},
	{"truncated data", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}",
	 23, "tensor a: its data lie outside the file (is the file truncated?)"},
	{"backward offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}", 12,
	 "tensor a: its data lie outside the file"},
	{"something behind the data",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 6,
	 "2 bytes after the last tensor belong to nothing"},
	{"overlap",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
	 "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
	 12, "tensor b overlaps the one before it"},
	{"the same place twice",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	 "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
	 4, "overlaps the one before it"},
	{"hole",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	 "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
	 12, "there is a hole before tensor b"},
	{"hole at the front", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
	 "there is a hole before tensor a"},
	{"duplicate name",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	 "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
	 8, "tensor a stands there twice"},
	{"duplicate by escape",
	 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	 "\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
	 8, "tensor a stands there twice"},
	{"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0,
	 "not as safetensors headers"},
	{"metadata of numbers", "{\"__metadata__\":{\"a\":1}}", 0, "a string is missing"},
	{"a NUL in a name", "{\"a\\u0000b\":{}}", 0, "a string holds a NUL"},
	{"half a surrogate", "{\"\\ud800x\":{}}", 0, "half of a surrogate pair is missing"},
	{"a bad escape", "{\"\\x\":{}}", 0, "an unknown escape"},
	{"a raw newline in a name", "{\"a\nb\":{}}", 0, "a control character in a string"},
	{"a comma too many", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},}", 1,
	 "a string is missing"},
};

static enum ol_status read_bytes(struct ol_source_list *list, const uint8_t *bytes, size_t size,
				 struct ol_error *err)
{
	/* A copy of exactly this size, so that a sanitizer sees the first byte too far. */
	uint8_t *copy = malloc(size ? size : 1);
	if (size)
		memcpy(copy, bytes, size);
	*list = (struct ol_source_list){0};
	enum ol_status s = ol_safetensors_read(list, copy, size, "x.safetensors", err);
	if (s == OL_OK)
		s = ol_source_list_sort(list, err);
	free(copy);
	return s;
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		uint8_t bytes[512] = {0};
		struct ol_source_list list;
		struct ol_error err = {0};
		const size_t length = strlen(rows[i].header);
		ol_store_u64(bytes, length);
		memcpy(bytes + 8, rows[i].header, length);
		const enum ol_status s = read_bytes(&list, bytes, 8 + length + rows[i].data, &err);
		if ((s == OL_OK) != (rows[i].message[0] == '\0') ||
		    !strstr(err.text, rows[i].message) ||
		    (s != OL_OK && !strstr(err.text, "x.safetensors")))
			fail_msg("%s: status %d, \"%s\", wanted \"%s\"", rows[i].name, s, err.text,
				 rows[i].message);
		ol_source_list_release(&list);
	}
}

static void test_header_length(void **state)
{
	(void)state;
	static const struct {
		uint64_t length;
		size_t size;
		const char *message;
	} lengths[] = {
		{0, 0, "too few"},
		{2, 7, "too few"},
		{2, 9, "truncated"},
		{100000001, 16, "above the limit of 100000000"},
		{UINT64_MAX, 16, "above the limit"},
		{0, 8, "a \"{\" is missing"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(lengths); i++) {
		uint8_t bytes[16] = {0};
		struct ol_source_list list;
		struct ol_error err = {0};
		ol_store_u64(bytes, lengths[i].length);
		assert_int_equal(read_bytes(&list, bytes, lengths[i].size, &err), OL_ERR_INPUT);
		if (!strstr(err.text, lengths[i].message))
			fail_msg("row %zu: \"%s\"", i, err.text);
		ol_source_list_release(&list);
	}
}

static void test_what_is_read(void **state)
{
	(void)state;
	static const char header[] =
		"{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[4,8]},"
		"\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
	uint8_t bytes[256] = {0};
	struct ol_source_list list = {0};
	float x;
	const size_t begin = 8 + strlen(header);
	ol_store_u64(bytes, strlen(header));
	memcpy(bytes + 8, header, strlen(header));
	ol_store_u32(bytes + begin, ol_float_bits(1.5f));
	ol_store_u16(bytes + begin + 6, 0xc000); /* -2 */
	assert_int_equal(ol_safetensors_read(&list, bytes, begin + 8, "x", NULL), OL_OK);
	assert_int_equal(ol_source_list_sort(&list, NULL), OL_OK);
	const struct ol_source_tensor *a = ol_source_list_find(&list, "a");
	const struct ol_source_tensor *b = ol_source_list_find(&list, "b");
	assert_null(ol_source_list_find(&list, "c"));
	assert_int_equal(a->type, OL_SOURCE_F32);
	ol_source_read_row(&x, a, 0, 1);
	assert_true(x == 1.5f);
	assert_int_equal(b->type, OL_SOURCE_BF16);
	assert_int_equal(b->dims, 2);
	assert_int_equal(b->shape[0], 2);
	ol_source_read_row(&x, b, 1, 1);
	assert_true(x == -2.0f);
	ol_source_list_release(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_header_length),
		cmocka_unit_test(test_what_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
