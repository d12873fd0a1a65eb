/* The ledger on a disk that lies: nothing acknowledged is ever lost, and what comes back is exactly
 * what was there. OL_CRASH_SEED=n runs one seed again. */
#include "tests/support_crash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void add(struct ol_crash_tally *sum, const struct ol_crash_tally *t)
{
	sum->recoveries += t->recoveries;
	sum->batches += t->batches;
	sum->acknowledged += t->acknowledged;
	sum->cuts += t->cuts;
	sum->snapshots += t->snapshots;
	sum->from_snapshot += t->from_snapshot;
	sum->checks += t->checks;
}

static void run(const struct ol_crash_options *options, struct ol_crash_tally *sum)
{
	struct ol_crash_tally tally = {0};
	char why[OL_ERROR_TEXT_MAX];
	if (!ol_crash_run(options, &tally, why))
		fail_msg("seed %llu, fault %d at call %llu: %s (recovery %llu)",
			 (unsigned long long)options->seed, (int)options->fault,
			 (unsigned long long)options->fault_call, why,
			 (unsigned long long)tally.recoveries);
	add(sum, &tally);
}

static void print_sum(const struct ol_crash_tally *sum)
{
	print_message(
		"%llu recoveries (%llu cut a torn group, %llu from a snapshot), %llu batches, "
		"%llu times acknowledged, %llu snapshots, %llu checks: nothing lost\n",
		(unsigned long long)sum->recoveries, (unsigned long long)sum->cuts,
		(unsigned long long)sum->from_snapshot, (unsigned long long)sum->batches,
		(unsigned long long)sum->acknowledged, (unsigned long long)sum->snapshots,
		(unsigned long long)sum->checks);
}

static void test_random_breaks(void **state)
{
	const char *again = getenv("OL_CRASH_SEED");
	struct ol_crash_tally sum = {0};
	struct ol_crash_options o = {
		.seed = again ? strtoull(again, NULL, 10) : 1, .recoveries = 500, .steps_max = 24};
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
	const uint64_t wanted = ol_slow() ? 1000000 : 10000;
#else
	const uint64_t wanted = 2000;
#endif
	(void)state;
	do {
		run(&o, &sum);
		o.seed++;
	} while (!again && sum.recoveries < wanted);
	print_sum(&sum);
	assert_true(sum.cuts > 0 && sum.from_snapshot > 0 && sum.checks > 0);
}

/* Every call of a history gets every fault, once. */
static void test_every_call_fails_once(void **state)
{
	struct ol_crash_tally sum = {0};
	const int histories = ol_slow() ? 200 : 4;
	(void)state;
	if (getenv("OL_CRASH_SEED"))
		skip();
	for (int h = 0; h < histories; h++)
		for (int fault = OL_SIM_EIO; fault <= OL_SIM_CUT; fault++)
			for (uint64_t call = 1; call <= 120; call++) {
				const struct ol_crash_options o = {
					.seed = 90000 + (uint64_t)h,
					.recoveries = 2,
					.steps_max = 40,
					.fault_call = call,
					.fault = (enum ol_sim_fault)fault};
				run(&o, &sum);
			}
	print_sum(&sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_breaks),
		cmocka_unit_test(test_every_call_fails_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
