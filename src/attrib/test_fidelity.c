/* The statistics of fidelity, against values known by other means. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/fidelity.h"

static void test_subsets(void **state)
{
	uint8_t a[100], b[100], more[101];
	int both = 0, kept = 0;
	(void)state;
	assert_true(ol_subset_draw(a, 100, 3, 0.5) && ol_subset_draw(b, 100, 4, 0.5));
	for (int i = 0; i < 100; i++) {
		kept += a[i];
		both += a[i] && b[i];
	}
	assert_int_equal(kept, 50);
	assert_in_range(both, 12, 38); /* 25, give or take five deviations */
	/* One example more changes the choice by at most one. */
	assert_true(ol_subset_draw(more, 101, 3, 50.0 / 101.0));
	int changed = 0;
	for (int i = 0; i < 100; i++)
		changed += more[i] != a[i];
	assert_in_range(changed, 0, 1);
}

static void test_spearman(void **state)
{
	const double a[] = {1, 2, 3, 4, 5}, b[] = {5, 6, 7, 8, 7}, c[] = {2, 2, 2, 2, 2};
	const double up[] = {1, 8, 27, 64, 125};
	(void)state;
	assert_true(fabs(ol_spearman(a, b, 5) - 0.8207826816681233) < 1e-12);
	assert_true(ol_spearman(a, up, 5) == 1.0);
	assert_true(ol_spearman(a, c, 5) == 0.0);
}

/* The glove game: two left gloves, one right; a pair is worth 1. */
static void test_shapley(void **state)
{
	double worth[8], values[3];
	(void)state;
	for (int set = 0; set < 8; set++)
		worth[set] = (set & 4) && (set & 3);
	ol_shapley(values, worth, 3);
	assert_true(fabs(values[0] - 1.0 / 6) < 1e-12);
	assert_true(fabs(values[1] - 1.0 / 6) < 1e-12);
	assert_true(fabs(values[2] - 4.0 / 6) < 1e-12);
}

static void test_distance(void **state)
{
	const double a[] = {1, 3, 0}, b[] = {3, 9, -5}, c[] = {0, 0, 2}, none[] = {0, -1, 0};
	(void)state;
	assert_true(ol_share_distance(a, b, 3) == 0.0);
	assert_true(ol_share_distance(a, c, 3) == 1.0);
	assert_true(ol_share_distance(a, none, 3) == 1.0);
	assert_true(ol_share_distance(none, none, 3) == 0.0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_subsets),
		cmocka_unit_test(test_spearman),
		cmocka_unit_test(test_shapley),
		cmocka_unit_test(test_distance),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
