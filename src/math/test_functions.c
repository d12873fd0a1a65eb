/* The elementary functions against double and long double libm, and their rules in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "math/functions.h"

static float float_of(uint32_t b)
{
	float x;
	memcpy(&x, &b, sizeof x);
	return x;
}

static uint32_t bits_of(float x)
{
	uint32_t b;
	memcpy(&b, &x, sizeof b);
	return b;
}

/* Distance from the true value in units of the last place of its f32 neighbourhood. */
static double ulps(float got, double truth)
{
	int e;
	frexp(truth, &e);
	const double ulp = ldexp(1.0, (e < -125 ? -125 : e) - 24);
	return fabs((double)got - truth) / ulp;
}

static double ulps_double(double got, long double truth)
{
	int e;
	frexpl(truth, &e);
	return (double)(fabsl((long double)got - truth) / ldexpl(1.0L, e - 53));
}

static double gelu(double x)
{
	const double u = sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x);
	return x / (1.0 + exp(-2.0 * u));
}

static double silu(double x)
{
	return x / (1.0 + exp(-x));
}

/* Every exponent and sign, `steps` mantissas each, inside [low, high]. */
static double worst(float (*f)(float), double (*truth)(double), float low, float high,
		    uint32_t steps)
{
	double worst_ulps = 0.0;
	for (uint32_t sign = 0; sign < 2; sign++)
		for (uint32_t e = 0; e < 255; e++)
			for (uint32_t i = 0; i < steps; i++) {
				const uint32_t mantissa = (i * 2654435761u) >> 9;
				const float x = float_of(sign << 31 | e << 23 | mantissa);
				if (x < low || x > high)
					continue;
				const double u = ulps(f(x), truth((double)x));
				worst_ulps = u > worst_ulps ? u : worst_ulps;
			}
	return worst_ulps;
}

static void test_f32_functions_are_within_their_bounds(void **state)
{
	(void)state;
	struct row {
		const char *name;
		float (*f)(float);
		double (*truth)(double);
		float low, high;
		double bound;
	};
	/* The bounds of functions.h. */
	static const struct row rows[] = {
		{"exp", ol_expf, exp, -87.3365f, 88.3762f, 1.0},
		{"log", ol_logf, log, 0x1p-149f, 0x1.fffffep127f, 1.0},
		{"tanh", ol_tanhf, tanh, -100.0f, 100.0f, 1.5},
		{"silu", ol_siluf, silu, -87.0f, 1e30f, 3.0},
		/* Below -3 the relative error of gelu grows with the exponent's. */
		{"gelu", ol_gelu_tanhf, gelu, -3.0f, 1e12f, 16.0},
		{"gelu tail", ol_gelu_tanhf, gelu, -9.0f, -3.0f, 160.0},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		double w = worst(r->f, r->truth, r->low, r->high, 1024);
		/* A dense grid where networks live. */
		for (float x = -20.0f; x < 20.0f; x += 0x1p-13f)
			if (x >= r->low && x <= r->high && r->truth((double)x) != 0.0) {
				const double u = ulps(r->f(x), r->truth((double)x));
				w = u > w ? u : w;
			}
		print_message("%-9s worst %.3f ulp (bound %.1f)\n", r->name, w, r->bound);
		assert_true(w <= r->bound);
	}
}

static void test_f32_functions_keep_their_rules_at_the_edges(void **state)
{
	(void)state;
	assert_int_equal(bits_of(ol_expf(0.0f)), bits_of(1.0f));
	assert_int_equal(bits_of(ol_expf(-0.0f)), bits_of(1.0f));
	assert_int_equal(bits_of(ol_expf(-87.34f)), 0);
	assert_int_equal(bits_of(ol_expf(-INFINITY)), 0);
	assert_true(ol_expf(-87.3365f) >= 0x1p-126f);
	assert_int_equal(bits_of(ol_expf(1e30f)), bits_of(ol_expf(88.3762f)));
	assert_true(isfinite(ol_expf(88.3762f)));
	assert_int_equal(bits_of(ol_logf(1.0f)), 0);
	assert_true(ol_logf(0.0f) == -INFINITY);
	assert_int_equal(bits_of(ol_tanhf(-0.0f)), 0x80000000u);
	assert_int_equal(bits_of(ol_tanhf(0.0f)), 0);
	assert_int_equal(bits_of(ol_tanhf(1e38f)), bits_of(1.0f));
	assert_int_equal(bits_of(ol_tanhf(-1e38f)), bits_of(-1.0f));
	assert_int_equal(bits_of(ol_siluf(-1e38f)), 0x80000000u);
	assert_int_equal(bits_of(ol_siluf(1e38f)), bits_of(1e38f));
	assert_int_equal(bits_of(ol_gelu_tanhf(-1e38f)), 0x80000000u);
	assert_int_equal(bits_of(ol_gelu_tanhf(1e38f)), bits_of(1e38f));
	assert_int_equal(bits_of(ol_gelu_tanhf(0.0f)), 0);
}

/* Bits of a few values, so that a change of the contract is seen even where it stays accurate. */
static void test_f32_functions_have_these_bits(void **state)
{
	(void)state;
	uint32_t hash = 2166136261u;
	for (uint32_t i = 0; i < 1000000; i++) {
		const float x = ((float)i - 500000.0f) * 0x1p-13f;
		const float y[5] = {ol_expf(x), ol_logf(fabsf(x)), ol_tanhf(x), ol_siluf(x),
				    ol_gelu_tanhf(x)};
		for (int j = 0; j < 5; j++)
			hash = (hash ^ bits_of(y[j])) * 16777619u;
	}
	assert_int_equal(hash, 0x457954a4);
}

static uint64_t random_state = 0x9E3779B97F4A7C15u;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static double random_between(double low, double high)
{
	return low + (high - low) * ((double)(random_bits() >> 11) * 0x1p-53);
}

static void test_f64_functions_are_within_2_ulp(void **state)
{
	(void)state;
	double worst_exp = 0, worst_log = 0, worst_sin = 0, worst_cos = 0;

	for (int i = 0; i < 400000; i++) {
		const double range = i % 2 ? 1.0 : 708.0;
		const double x = random_between(-range, range);
		worst_exp = fmax(worst_exp, ulps_double(ol_exp(x), expl((long double)x)));
		uint64_t b = random_bits() >> 1;
		double z;
		memcpy(&z, &b, sizeof z);
		if (i % 2)
			z = random_between(0.5, 2.0);
		if (isfinite(z) && z > 0.0)
			worst_log = fmax(worst_log, ulps_double(ol_log(z), logl((long double)z)));
		static const double ranges[4] = {1.0, 100.0, 1e6, 0x1p31};
		const double angle = random_between(-ranges[i % 4], ranges[i % 4]);
		double s, c;
		ol_sincos(&s, &c, angle);
		worst_sin = fmax(worst_sin, ulps_double(s, sinl((long double)angle)));
		worst_cos = fmax(worst_cos, ulps_double(c, cosl((long double)angle)));
	}
	/* The nearest f64 to multiples of pi/2, where reduction is hardest. */
	for (int n = 1; n < 200000; n++) {
		const double angle = (double)n * 6829.0 * 0x1.921fb54442d18p+0;
		double s, c;
		ol_sincos(&s, &c, angle);
		worst_sin = fmax(worst_sin, ulps_double(s, sinl((long double)angle)));
		worst_cos = fmax(worst_cos, ulps_double(c, cosl((long double)angle)));
	}
	print_message("f64: exp %.3f log %.3f sin %.3f cos %.3f ulp\n", worst_exp, worst_log,
		      worst_sin, worst_cos);
	assert_true(worst_exp <= 2.0);
	assert_true(worst_log <= 2.0);
	assert_true(worst_sin <= 2.0);
	assert_true(worst_cos <= 2.0);
}

static void test_f64_edges(void **state)
{
	(void)state;
	double s, c;

	ol_sincos(&s, &c, 0.0);
	assert_true(s == 0.0 && c == 1.0);
	assert_true(ol_exp(0.0) == 1.0);
	assert_true(ol_exp(-709.0) == 0.0);
	assert_true(ol_exp(1e300) == ol_exp(709.0));
	assert_true(ol_log(1.0) == 0.0);
	assert_true(ol_log(0.0) == -INFINITY);
	assert_true(ulps_double(ol_log(0x1p-1074), logl(0x1p-1074L)) <= 2.0);
}

/* The vectors that the authors of Random123 publish (kat_vectors, philox4x32 10). */
static void test_philox_gives_the_published_vectors(void **state)
{
	(void)state;
	struct row {
		uint32_t counter[4], key[2], expected[4];
	};
	static const struct row rows[] = {
		{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
		 {0xffffffff, 0xffffffff},
		 {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
		 {0xa4093822, 0x299f31d0},
		 {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		uint32_t out[4];
		ol_philox(out, rows[i].counter, rows[i].key);
		assert_memory_equal(out, rows[i].expected, sizeof out);
	}
}

static void test_unit_numbers_are_never_0_or_1(void **state)
{
	(void)state;
	assert_true(ol_unit_double(0) == 0x1p-25);
	assert_true(ol_unit_double(0xff) == 0x1p-25);
	assert_true(ol_unit_double(5u << 8) == 5.5 * 0x1p-24);
	assert_true(ol_unit_double(0xffffffffu) == 1.0 - 0x1p-25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_f32_functions_are_within_their_bounds),
		cmocka_unit_test(test_f32_functions_keep_their_rules_at_the_edges),
		cmocka_unit_test(test_f32_functions_have_these_bits),
		cmocka_unit_test(test_f64_functions_are_within_2_ulp),
		cmocka_unit_test(test_f64_edges),
		cmocka_unit_test(test_philox_gives_the_published_vectors),
		cmocka_unit_test(test_unit_numbers_are_never_0_or_1),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
