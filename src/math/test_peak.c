#include "math/peak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* Rates depend on the machine and its neighbours, so these tests hold what must be true anywhere:
 * nothing negative or infinite, and the order that the instructions force. */

static void every_peak_has_a_name_and_a_rate(void **state)
{
	(void)state;
	for (int kind = 0; kind < OL_PEAKS; kind++) {
		const double ops = ol_peak_ops((enum ol_peak)kind, 0.01);
		print_message("%-12s %8.1f G/s\n", ol_peak_name((enum ol_peak)kind), ops * 1e-9);
		assert_true(ops >= 0 && ops < 1e15);
		for (int other = 0; other < kind; other++)
			assert_string_not_equal(ol_peak_name((enum ol_peak)kind),
						ol_peak_name((enum ol_peak)other));
	}
}

#if defined(__x86_64__)
static void a_machine_with_avx2_has_float_and_int8_peaks(void **state)
{
	(void)state;
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		skip();
	assert_true(ol_peak_ops(OL_PEAK_F32, 0.01) > 0);
	assert_true(ol_peak_ops(OL_PEAK_BF16, 0.01) > 0);
	assert_true(ol_peak_ops(OL_PEAK_INT8, 0.01) > 0);
	assert_true(ol_peak_ops(OL_PEAK_INT8_BLOCK32, 0.01) > 0);
}
#endif

static void memory_is_read_and_no_memory_is_zero(void **state)
{
	struct ol_pool *pool;
	(void)state;
	assert_int_equal(ol_pool_open(&pool, 2), OL_OK);
	const double rate = ol_peak_read(pool, (size_t)8 << 20, 0);
	print_message("read         %8.1f GB/s (8 MiB, cached)\n", rate * 1e-9);
	assert_true(rate > 1e6 && rate < 1e14);
	assert_true(ol_peak_read(pool, 0, 0) == 0);
	assert_true(ol_peak_read(pool, SIZE_MAX / 2, 0) == 0);
	assert_true(ol_peak_ops_pool(pool, OL_PEAK_F32, 0.01) >= 0);
	ol_pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_peak_has_a_name_and_a_rate),
#if defined(__x86_64__)
		cmocka_unit_test(a_machine_with_avx2_has_float_and_int8_peaks),
#endif
		cmocka_unit_test(memory_is_read_and_no_memory_is_zero),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
