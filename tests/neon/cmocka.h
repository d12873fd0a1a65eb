/* tests/neon/cmocka.h: as much of cmocka's interface as the tests of src/math use, for a machine
 * that we cross-compile to and that has no cmocka (scripts/test-neon). The first failure ends the
 * program with status 1. */
#ifndef OL_TESTS_NEON_CMOCKA_H
#define OL_TESTS_NEON_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void CMUnitTestFunction(void **state);
typedef int CMFixtureFunction(void **state);

struct CMUnitTest {
	const char *name;
	CMUnitTestFunction *test;
	CMFixtureFunction *setup, *teardown;
};

#define cmocka_unit_test(test)                                                                     \
	{                                                                                          \
#test, test, NULL, NULL                                                            \
	}
#define cmocka_unit_test_setup_teardown(test, setup, teardown)                                     \
	{                                                                                          \
#test, test, setup, teardown                                                       \
	}

#define fail_msg(...)                                                                              \
	do {                                                                                       \
		printf("%s:%d: ", __FILE__, __LINE__);                                             \
		printf(__VA_ARGS__);                                                               \
		printf("\n");                                                                      \
		exit(1);                                                                           \
	} while (0)
#define fail() fail_msg("failed")
#define print_message(...) printf(__VA_ARGS__)
/* Leaves the test function: to be used in its outermost frame. */
#define skip()                                                                                     \
	do {                                                                                       \
		printf("skipped\n");                                                               \
		return;                                                                            \
	} while (0)

#define assert_true(condition)                                                                     \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("%s", #condition);                                                \
	} while (0)
#define assert_false(condition) assert_true(!(condition))
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_string_not_equal(a, b) assert_true(strcmp(a, b) != 0)
#define assert_memory_equal(a, b, size) assert_true(memcmp(a, b, size) == 0)
#define assert_memory_not_equal(a, b, size) assert_true(memcmp(a, b, size) != 0)
#define assert_in_range(value, low, high) assert_true((value) >= (low) && (value) <= (high))
#define assert_int_equal(a, b)                                                                     \
	do {                                                                                       \
		const long long left_ = (long long)(a), right_ = (long long)(b);                   \
		if (left_ != right_)                                                               \
			fail_msg("%s: %lld, not %lld", #a, left_, right_);                         \
	} while (0)
#define assert_int_not_equal(a, b) assert_true((long long)(a) != (long long)(b))

static inline int cmocka_run_tests(const struct CMUnitTest *tests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		void *state = NULL;
		printf("  %s\n", tests[i].name);
		fflush(stdout);
		if (tests[i].setup && tests[i].setup(&state) != 0)
			return 1;
		tests[i].test(&state);
		if (tests[i].teardown && tests[i].teardown(&state) != 0)
			return 1;
	}
	return 0;
}

/* No group fixtures. */
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
	((void)(setup), (void)(teardown),                                                          \
	 cmocka_run_tests(tests, sizeof(tests) / sizeof((tests)[0])))

#endif
