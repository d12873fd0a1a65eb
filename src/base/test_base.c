/* Sentences for people, the stop on our own bugs, and numbers in bytes. */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void test_fail_fills_the_sentence_and_returns_the_status(void **state)
{
	(void)state;
	struct ol_error err;
	assert_int_equal(ol_fail(&err, OL_ERR_INPUT, "%s, line %d", "config.json", 3),
			 OL_ERR_INPUT);
	assert_int_equal(err.status, OL_ERR_INPUT);
	assert_string_equal(err.text, "config.json, line 3");
	assert_int_equal(ol_fail(NULL, OL_ERR_IO, "%s", "nobody reads this"), OL_ERR_IO);
}

static void test_a_long_sentence_is_cut_not_overrun(void **state)
{
	(void)state;
	struct {
		struct ol_error err;
		char guard[16];
	} s;
	memset(&s, '#', sizeof s);
	(void)ol_fail(&s.err, OL_ERR_IO, "%5000d", 1);
	assert_int_equal(strlen(s.err.text), OL_ERROR_TEXT_MAX - 1);
	for (size_t i = 0; i < sizeof s.guard; i++)
		assert_int_equal(s.guard[i], '#');
}

/* Exit codes and JSON carry these numbers. */
static void test_a_sentence_is_one_line_whatever_it_quotes(void **state)
{
	(void)state;
	struct ol_error err;
	(void)ol_fail(&err, OL_ERR_INPUT, "type \"%s\"", "a\nb\x1b[2Jc\td\x7f é");
	assert_string_equal(err.text, "type \"a?b?[2Jc?d? é\"");
}

static void test_status_numbers_are_a_promise(void **state)
{
	(void)state;
	assert_int_equal(OL_OK, 0);
	assert_int_equal(OL_ERR_INPUT, 1);
	assert_int_equal(OL_ERR_IO, 2);
	assert_int_equal(OL_ERR_FULL, 3);
	assert_int_equal(OL_ERR_UNSUPPORTED, 4);
	assert_int_equal(OL_ERR_NOT_FOUND, 5);
	assert_int_equal(OL_ERR_CANCELLED, 6);
}

static void test_assert_stops_the_process_and_says_where(void **state)
{
	(void)state;
	int ends[2];
	char said[512] = "";
	int status = 0;
	OL_ASSERT(1 + 1 == 2);
	assert_int_equal(pipe(ends), 0);
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const struct rlimit no_core = {0, 0};
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], 2);
		OL_ASSERT(1 + 1 == 3);
		_exit(0);
	}
	close(ends[1]);
	assert_true(read(ends[0], said, sizeof said - 1) > 0);
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(said, "internal error at src/base/test_base.c:"));
	assert_non_null(strstr(said, "1 + 1 == 3"));
}

static void test_bytes_are_little_endian_at_any_address(void **state)
{
	static const uint8_t bytes[9] = {0xff, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0xf8};
	(void)state;
	assert_int_equal(ol_load_u16(bytes + 1), 0x0201);
	assert_int_equal(ol_load_u32(bytes + 1), 0x04030201);
	assert_true(ol_load_u64(bytes + 1) == 0xf807060504030201);
	uint8_t out[11];
	memset(out, 0xee, sizeof out);
	ol_store_u64(out + 1, 0xf807060504030201);
	assert_memory_equal(out + 1, bytes + 1, 8);
	ol_store_u32(out + 1, 0x89abcdef);
	assert_memory_equal(out, "\xee\xef\xcd\xab\x89\x05", 6);
	ol_store_u16(out + 1, 0x1234);
	assert_memory_equal(out, "\xee\x34\x12\xab", 4);
	assert_int_equal(out[9], 0xee);
	assert_int_equal(ol_float_bits(-0.0f), 0x80000000u);
	assert_int_equal(ol_float_bits(ol_bits_float(0x7fc12345u)), 0x7fc12345u);
}

static void test_the_median_is_the_middle(void **state)
{
	(void)state;
	double values[] = {5, 1, 4, 2, 3};
	assert_true(ol_median(values, 0) == 0);
	assert_true(ol_median(values, 1) == 5);
	assert_true(ol_median(values, 2) == 3); /* of 5 and 1 */
	assert_true(ol_median(values, 5) == 3);
	assert_true(ol_median(values, 4) == 2.5); /* sorted by now: of 1 2 3 4 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fail_fills_the_sentence_and_returns_the_status),
		cmocka_unit_test(test_a_long_sentence_is_cut_not_overrun),
		cmocka_unit_test(test_a_sentence_is_one_line_whatever_it_quotes),
		cmocka_unit_test(test_status_numbers_are_a_promise),
		cmocka_unit_test(test_assert_stops_the_process_and_says_where),
		cmocka_unit_test(test_the_median_is_the_middle),
		cmocka_unit_test(test_bytes_are_little_endian_at_any_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
