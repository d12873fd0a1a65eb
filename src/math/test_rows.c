/* What works on one row: every instruction set equals the scalar specification bit for bit at every
 * length, with every alignment; and wrong definitions would be noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/functions.h"
#include "math/kernels.h"

enum { ROW_MAX = 300, GUARD = 20 };

static const struct ol_kernels *scalar;

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static float random_float(float scale)
{
	return scale * ((float)(int32_t)random_bits() * 0x1p-31f);
}

static void fill(float *x, int n, float scale)
{
	for (int i = 0; i < n; i++)
		x[i] = random_bits() % 29 == 0 ? (random_bits() & 1 ? -0.0f : 0.0f)
					       : random_float(scale);
}

/* The same numbers in both, and beyond n what must not change. */
struct twins {
	float a[ROW_MAX + GUARD], b[ROW_MAX + GUARD];
};

static void fill_twins(struct twins *t, float scale)
{
	fill(t->a, ROW_MAX + GUARD, scale);
	memcpy(t->b, t->a, sizeof t->a);
}

static void same(const struct twins *t, const char *what, const char *isa, int n)
{
	for (int i = 0; i < ROW_MAX + GUARD; i++)
		if (memcmp(&t->a[i], &t->b[i], sizeof(float)) != 0) {
			print_message("%s %s n %d: element %d is %a, not %a\n", what, isa, n, i,
				      (double)t->b[i], (double)t->a[i]);
			fail();
		}
}

static void same_number(float expected, float got, const char *what, const char *isa, int n)
{
	if (memcmp(&expected, &got, sizeof got) != 0) {
		print_message("%s %s n %d: %a, not %a\n", what, isa, n, (double)got,
			      (double)expected);
		fail();
	}
}

static void compare_rows(const struct ol_kernels *k, int n, float scale)
{
	static float x[ROW_MAX + GUARD], w[ROW_MAX + GUARD], z[ROW_MAX + GUARD];
	static struct twins t;
	fill(x, ROW_MAX + GUARD, scale);
	fill(w, ROW_MAX + GUARD, scale);
	fill(z, ROW_MAX + GUARD, scale);

#define COMPARE(what, call)                                                                        \
	do {                                                                                       \
		fill_twins(&t, scale);                                                             \
		const struct ol_kernels *table = scalar;                                           \
		float *y = t.a;                                                                    \
		call;                                                                              \
		table = k;                                                                         \
		y = t.b;                                                                           \
		call;                                                                              \
		same(&t, what, k->name, n);                                                        \
	} while (0)

	COMPARE("rmsnorm", table->rmsnorm(y, x, w, n, 1e-5f));
	COMPARE("rmsnorm in place", table->rmsnorm(y, y, w, n, 1e-6f));
	COMPARE("add", table->add(y, x, n));
	COMPARE("silu_mul", table->silu_mul(y, x, w, n));
	COMPARE("silu_mul in place", table->silu_mul(y, y, w, n));
	COMPARE("gelu_mul", table->gelu_mul(y, x, w, n));
	COMPARE("softcap", table->softcap(y, 30.0f, n));
	COMPARE("exp", table->exp(y, x, n));
	COMPARE("tanh", table->tanh(y, x, n));
	COMPARE("rope", table->rope(y, w, z, n / 2));
#undef COMPARE
	const float max = scalar->row_max(x, n);
	same_number(max, k->row_max(x, n), "row_max", k->name, n);
	same_number(scalar->row_sum_exp(x, max, n), k->row_sum_exp(x, max, n), "row_sum_exp",
		    k->name, n);
}

typedef void table_fn(const struct ol_kernels *k);

static void for_every_table(table_fn *fn)
{
	for (int isa = OL_ISA_SCALAR + 1; isa < OL_ISAS; isa++)
		if (ol_kernels_for((enum ol_isa)isa))
			fn(ol_kernels_for((enum ol_isa)isa));
}

static void compare_every_length(const struct ol_kernels *k)
{
	static const float scales[] = {1.0f, 20.0f, 200.0f, 1e-20f, 1e30f};
	for (int n = 1; n <= ROW_MAX; n += n < 70 ? 1 : 7)
		compare_rows(k, n, scales[n % 5]);
}

static void test_rows_of_every_length(void **state)
{
	(void)state;
	for_every_table(compare_every_length);
}

static void compare_functions(const struct ol_kernels *k)
{
	enum { STEP = 16381, BATCH = 256 };
	float x[BATCH], a[BATCH], b[BATCH];
	/* All of f32 but NaN, in steps of a prime. */
	for (uint64_t start = 0; start < UINT64_C(1) << 32; start += (uint64_t)STEP * BATCH) {
		for (int i = 0; i < BATCH; i++) {
			const uint32_t bits = (uint32_t)(start + (uint64_t)(i * STEP));
			memcpy(&x[i], &bits, sizeof bits);
			if (isnan(x[i]))
				x[i] = 1.0f;
		}
		scalar->exp(a, x, BATCH);
		k->exp(b, x, BATCH);
		assert_memory_equal(a, b, sizeof a);
		scalar->tanh(a, x, BATCH);
		k->tanh(b, x, BATCH);
		assert_memory_equal(a, b, sizeof a);
		for (int i = 0; i < BATCH; i++)
			if (isinf(x[i]))
				x[i] = 0.0f;
		float one[BATCH];
		for (int i = 0; i < BATCH; i++)
			one[i] = 1.0f;
		scalar->silu_mul(a, x, one, BATCH);
		k->silu_mul(b, x, one, BATCH);
		assert_memory_equal(a, b, sizeof a);
		scalar->gelu_mul(a, x, one, BATCH);
		k->gelu_mul(b, x, one, BATCH);
		assert_memory_equal(a, b, sizeof a);
	}
}

static void test_functions_over_all_exponents(void **state)
{
	(void)state;
	for_every_table(compare_functions);
}

/* --- rules, in numbers that show them --------------------------------------------------------- */

static void show_rules(const struct ol_kernels *k)
{
	/* max(a, b) = a > b ? a : b: of two zeros the later wins. */
	const float zeros[2] = {0.0f, -0.0f}, sorez[2] = {-0.0f, 0.0f};
	assert_true(signbit(k->row_max(zeros, 2)));
	assert_false(signbit(k->row_max(sorez, 2)));
	const float one = -7.0f;
	assert_true(k->row_max(&one, 1) == -7.0f);
	assert_true(k->row_sum_exp(&one, -7.0f, 1) == 1.0f);

	/* Sixteen lanes: the small numbers of lane 1 meet each other before they meet the big one
	 * of lane 0, so they count. A plain chain would lose them. */
	float x[32] = {0};
	x[0] = 0x1p12f;
	x[1] = x[17] = 0x1p-0f;
	float w[32], y[32];
	for (int i = 0; i < 32; i++)
		w[i] = 1.0f;
	k->rmsnorm(y, x, w, 32, 0.0f);
	const float mean = (0x1p24f + 2.0f) / 32.0f;
	assert_true(y[0] == 0x1p12f * (1.0f / sqrtf(mean)));

	/* x0' = x0 cos - x1 sin, x1' = x1 cos + x0 sin. */
	float pair[2] = {3.0f, 5.0f};
	const float c = 0.0f, s = 1.0f;
	k->rope(pair, &c, &s, 1);
	assert_true(pair[0] == -5.0f && pair[1] == 3.0f);
}

static void test_rules(void **state)
{
	(void)state;
	show_rules(scalar);
	for_every_table(show_rules);
}

/* --- mutants ---------------------------------------------------------------------------------- */

static float mutant_sum_exp_chain(const float *x, float max, int n)
{
	float sum = 0.0f;
	for (int i = 0; i < n; i++)
		sum += ol_expf(x[i] - max);
	return sum;
}

static float mutant_sum_exp_neighbours_first(const float *x, float max, int n)
{
	float lane[16] = {0};
	for (int i = 0; i < n; i++)
		lane[i % 16] += ol_expf(x[i] - max);
	for (int step = 1; step < 16; step *= 2)
		for (int i = 0; i < 16; i += 2 * step)
			lane[i] += lane[i + step];
	return lane[0];
}

static float mutant_sum_exp_eight_lanes(const float *x, float max, int n)
{
	float lane[8] = {0};
	for (int i = 0; i < n; i++)
		lane[i % 8] += ol_expf(x[i] - max);
	for (int half = 4; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

static float mutant_sum_exp_online(const float *x, float max, int n)
{
	float lane[16] = {0}, running = -INFINITY;
	for (int i = 0; i < n; i += 16) {
		float block = running;
		for (int j = i; j < n && j < i + 16; j++)
			block = block > x[j] ? block : x[j];
		for (int l = 0; l < 16; l++)
			lane[l] *= ol_expf(running - block);
		running = block;
		for (int j = i; j < n && j < i + 16; j++)
			lane[j - i] += ol_expf(x[j] - running);
	}
	(void)max;
	for (int half = 8; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

static void test_mutants_are_caught(void **state)
{
	(void)state;
	float (*const mutants[])(const float *, float,
				 int) = {mutant_sum_exp_chain, mutant_sum_exp_neighbours_first,
					 mutant_sum_exp_eight_lanes, mutant_sum_exp_online};
	for (size_t m = 0; m < OL_ARRAY_LEN(mutants); m++) {
		int caught = 0;
		for (int round = 0; round < 100; round++) {
			float x[200];
			fill(x, 200, 5.0f);
			const float max = scalar->row_max(x, 200);
			caught += mutants[m](x, max, 200) != scalar->row_sum_exp(x, max, 200);
		}
		assert_true(caught > 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_of_every_length),
		cmocka_unit_test(test_functions_over_all_exponents),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_mutants_are_caught),
	};
	scalar = ol_kernels_for(OL_ISA_SCALAR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
