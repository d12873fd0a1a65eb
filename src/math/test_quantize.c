/* Quantising on every instruction set against the scalar specification, to the byte: random rows,
 * and rows made to hit what a fast path could get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/kernels.h"

enum { COLS_MAX = 1100, ROW_BYTES_MAX = 4 * COLS_MAX };

static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16, OL_WEIGHT_Q8,
					    OL_WEIGHT_Q4, OL_WEIGHT_NF4};

static uint64_t random_state = 1;

static uint32_t random_bits(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)(z >> 32);
}

static int between(int low, int high)
{
	return low + (int)(random_bits() % (uint32_t)(high - low + 1));
}

static float noise(void)
{
	return (float)(int32_t)random_bits() * 0x1p-31f;
}

static float any_float(void)
{
	const uint32_t bits = random_bits();
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* ---- Kinds of blocks ---------------------------------------------------------------- */

typedef void fill_fn(float x[32]);

static void like_weights(float x[32])
{
	for (int i = 0; i < 32; i++)
		x[i] = 0.02f * (noise() + noise() + noise() + noise());
}

static void zeros_of_both_signs(float x[32])
{
	for (int i = 0; i < 32; i++)
		x[i] = random_bits() % 2 ? 0.0f : -0.0f;
}

/* Around 2^-40, where q4 gives up, and around the smallest f16 scales. */
static void small(float x[32])
{
	const int exponent = random_bits() % 2 ? between(-44, -36) : between(-30, -12);
	for (int i = 0; i < 32; i++)
		x[i] = ldexpf(noise(), exponent);
}

static void subnormal(float x[32])
{
	for (int i = 0; i < 32; i++)
		x[i] = ldexpf(noise(), between(-149, -120));
}

/* The largest values that types hold, and a little more. */
static void large(float x[32])
{
	static const float limits[] = {65504.0f * 7, 65504.0f * 8, 65504.0f * 127, 65519.0f * 127,
				       3.3895e38f};
	const float top = limits[between(0, 4)] * (1.0f + 0x1p-20f * noise());
	for (int i = 0; i < 32; i++)
		x[i] = top * noise();
	x[between(0, 31)] = random_bits() % 2 ? top : -top;
}

/* Whole and half levels of a scale: rounding meets ties, candidates meet equal errors. */
static void ties(float x[32])
{
	const float step = random_bits() % 2 ? ldexpf(1.0f, between(-20, 10)) : fabsf(noise());
	for (int i = 0; i < 32; i++)
		x[i] = step * 0.5f * (float)between(-16, 15);
	x[between(0, 31)] = random_bits() % 2 ? 7 * step : -8 * step;
}

/* The middles between two levels of nf4, exactly and one step beside. */
static void nf4_middles(float x[32])
{
	const float scale = ldexpf(1.0f, between(-12, 4));
	for (int i = 0; i < 32; i++) {
		const int j = between(0, 14);
		const float middle = 0.5f * (float)(ol_nf4_levels[j] + ol_nf4_levels[j + 1]);
		const int side = between(-1, 1);
		x[i] = scale * (side ? nextafterf(middle, side * INFINITY) : middle);
	}
	x[between(0, 31)] = 127 * scale;
}

static void one_giant(float x[32])
{
	like_weights(x);
	x[between(0, 31)] = 1000.0f * noise();
}

static void alone(float x[32])
{
	memset(x, 0, 32 * sizeof *x);
	x[between(0, 31)] = ldexpf(noise(), between(-50, 10));
}

static void any_bits(float x[32])
{
	for (int i = 0; i < 32; i++)
		x[i] = any_float();
}

static void one_not_finite(float x[32])
{
	like_weights(x);
	x[between(0, 31)] = random_bits() % 2 ? NAN : -INFINITY;
}

static const struct {
	const char *name;
	fill_fn *fill;
} kinds[] = {
	{"like weights", like_weights},
	{"zeros", zeros_of_both_signs},
	{"small", small},
	{"subnormal", subnormal},
	{"large", large},
	{"ties", ties},
	{"nf4 middles", nf4_middles},
	{"one giant", one_giant},
	{"alone", alone},
	{"any bits", any_bits},
	{"not finite", one_not_finite},
};

/* ---- Comparisons -------------------------------------------------------------------- */

static void compare(const char *what, const float *x, int cols)
{
	static uint8_t right[ROW_BYTES_MAX + 1], row[ROW_BYTES_MAX + 1];
	const struct ol_kernels *scalar = ol_kernels_for(OL_ISA_SCALAR);
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++) {
		const size_t bytes = ol_canonical_row_bytes(types[t], cols);
		const bool fits = scalar->quantize_row(right, types[t], x, cols);
		for (int isa = OL_ISA_SCALAR + 1; isa < OL_ISAS; isa++) {
			const struct ol_kernels *kernels = ol_kernels_for((enum ol_isa)isa);
			if (!kernels)
				continue;
			row[bytes] = 0x5a;
			if (kernels->quantize_row(row, types[t], x, cols) != fits)
				fail_msg("%s as %s, %d columns: %s %s it", what,
					 ol_weight_type_name(types[t]), cols, kernels->name,
					 fits ? "refuses" : "holds");
			if (fits && memcmp(row, right, bytes) != 0)
				fail_msg("%s as %s, %d columns: %s differs", what,
					 ol_weight_type_name(types[t]), cols, kernels->name);
			assert_int_equal(row[bytes], 0x5a);
		}
		if (fits) {
			assert_true(ol_quantize_row(row, types[t], x, cols));
			assert_memory_equal(row, right, bytes);
		}
	}
}

static void every_instruction_set_gives_the_same_bytes(void **state)
{
	float x[512];
	(void)state;
	for (size_t kind = 0; kind < OL_ARRAY_LEN(kinds); kind++) {
		for (int round = 0; round < 40; round++) {
			for (int block = 0; block < 16; block++)
				kinds[kind].fill(x + 32 * block);
			compare(kinds[kind].name, x, 512);
		}
		/* Alone: a row of a refused and fifteen other blocks says nothing of these. */
		for (int round = 0; round < 200; round++) {
			kinds[kind].fill(x);
			compare(kinds[kind].name, x, 32);
		}
	}
}

static void kinds_may_share_a_row(void **state)
{
	float x[COLS_MAX + 32];
	(void)state;
	for (int cols = 1; cols <= COLS_MAX; cols += cols < 70 ? 1 : 43) {
		for (int k = 0; k < cols; k += 32) {
			/* The last two kinds are refused by most types. */
			const int last = (int)OL_ARRAY_LEN(kinds) - 3;
			int kind = between(0, last);
			while (kinds[kind].fill == large)
				kind = between(0, last);
			kinds[kind].fill(x + k);
		}
		compare("a mixture", x, cols);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_instruction_set_gives_the_same_bytes),
		cmocka_unit_test(kinds_may_share_a_row),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
