/* Buffers: what fits is appended whole, what does not is dropped whole, and the first failure is
 * remembered. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void test_grows_and_stays_ended(void **state)
{
	(void)state;
	struct ol_buf buf;
	ol_buf_init(&buf, 100000);
	assert_null(buf.data);
	for (int i = 0; i < 10000; i++) {
		assert_true(ol_buf_append_text(&buf, "abcdefghij"));
		assert_int_equal(buf.size, (size_t)(i + 1) * 10);
		assert_int_equal(buf.data[buf.size], '\0');
	}
	assert_false(buf.failed);
	for (size_t i = 0; i < buf.size; i++)
		assert_int_equal(buf.data[i], "abcdefghij"[i % 10]);
	assert_false(ol_buf_append(&buf, "k", 1)); /* 100,000 is the limit */
	assert_int_equal(buf.size, 100000);
	ol_buf_release(&buf);
	assert_null(buf.data);
	assert_int_equal(buf.max, 100000);
}

static void test_limits(void **state)
{
	static const struct {
		size_t max, before, append;
		bool fits;
	} rows[] = {
		{0, 0, 0, true},
		{0, 0, 1, false},
		{1, 0, 1, true},
		{1, 1, 0, true},
		{1, 1, 1, false},
		{64, 0, 64, true},
		{64, 0, 65, false},
		{64, 63, 1, true},
		{64, 63, 2, false},
		{100, 40, 60, true},
		{100, 40, SIZE_MAX, false},
		{SIZE_MAX, 0, SIZE_MAX, false},
		{SIZE_MAX, 9, SIZE_MAX - 9, false},
	};
	static const char bytes[128] = {0};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_buf buf;
		ol_buf_init(&buf, rows[i].max);
		assert_true(ol_buf_append(&buf, bytes, rows[i].before));
		assert_int_equal(ol_buf_append(&buf, bytes, rows[i].append), rows[i].fits);
		assert_int_equal(buf.failed, !rows[i].fits);
		assert_int_equal(buf.size, rows[i].before + (rows[i].fits ? rows[i].append : 0));
		ol_buf_release(&buf);
	}
}

static void test_first_failure_is_remembered_until_cleared(void **state)
{
	(void)state;
	struct ol_buf buf;
	ol_buf_init(&buf, 4);
	assert_true(ol_buf_append_text(&buf, "ab"));
	assert_false(ol_buf_append_text(&buf, "cde"));
	assert_false(ol_buf_append_text(&buf, "c")); /* would fit, but there is a hole before it */
	assert_false(ol_buf_printf(&buf, "%d", 1));
	assert_string_equal(buf.data, "ab");
	assert_true(buf.failed);
	const char *memory = buf.data;
	ol_buf_clear(&buf);
	assert_false(buf.failed);
	assert_string_equal(buf.data, "");
	assert_true(ol_buf_append_text(&buf, "wxyz"));
	assert_ptr_equal(buf.data, memory);
	assert_string_equal(buf.data, "wxyz");
	ol_buf_release(&buf);
}

/* Texts shorter, as long as, and longer than the printer's own buffer of 512. */
static void test_printf_at_every_length(void **state)
{
	(void)state;
	for (int length = 500; length < 1100; length++) {
		struct ol_buf buf;
		ol_buf_init(&buf, 1000);
		assert_true(ol_buf_append_text(&buf, "<"));
		const bool fits = length + 1 <= 1000;
		assert_int_equal(ol_buf_printf(&buf, "%*d", length, 7), fits);
		assert_int_equal(buf.failed, !fits);
		assert_int_equal(buf.size, fits ? (size_t)length + 1 : 1);
		assert_int_equal(buf.data[buf.size], '\0');
		assert_int_equal(buf.data[buf.size - 1], fits ? '7' : '<');
		ol_buf_release(&buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_and_stays_ended),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_first_failure_is_remembered_until_cleared),
		cmocka_unit_test(test_printf_at_every_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
