/* Weight matrices: 16-bit floats, quantisation, packing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/matrix.h"

/* A compiler that knows half floats is a second opinion on them. */
#if defined(__FLT16_MAX__) && (defined(__SSE2__) || defined(__aarch64__)) && !defined(__clang__)
#define HAVE_FLOAT16 1
#endif

static const enum ol_weight_type all_types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16, OL_WEIGHT_Q8,
						OL_WEIGHT_Q4, OL_WEIGHT_NF4};

static uint32_t random_state = 1;

static uint32_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

static float noise(void)
{
	return (float)(int32_t)random_bits() * 0x1p-31f;
}

/* Roughly normal, as weights are. */
static float weight_like(void)
{
	return 0.02f * (noise() + noise() + noise() + noise());
}

static float float_of(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static uint32_t bits_of(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

/* --- 16-bit floats -------------------------------------------------------------------------- */

static double f16_value(uint32_t h)
{
	const int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
	const double magnitude =
		exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
	return h & 0x8000 ? -magnitude : magnitude;
}

static void every_f16_widens_and_returns(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		const float x = ol_f16_to_f32((uint16_t)h);
		if ((h & 0x7c00) == 0x7c00) {
			assert_true((h & 0x3ff) ? isnan(x) : isinf(x));
			assert_int_equal(signbit(x) != 0, h >> 15);
			/* Narrowing quiets a NaN and keeps the rest. */
			assert_int_equal(ol_f32_to_f16(x), (h & 0x3ff) ? h | 0x200 : h);
			continue;
		}
		assert_true((double)x == f16_value(h));
		assert_int_equal(signbit(x) != 0, h >> 15);
		assert_int_equal(ol_f32_to_f16(x), h);
	}
}

/* The nearest f16, ties to the even one: just below, on and just above the middle of every pair of
 * neighbours. */
static void f16_rounds_to_nearest_even(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 0x7c00; h++) {
		const double upper = h == 0x7bff ? 65536.0 : f16_value(h + 1);
		const float middle = (float)((f16_value(h) + upper) / 2); /* exact in f32 */
		const uint32_t bits = bits_of(middle);
		for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
			const uint32_t s = sign << 16;
			assert_int_equal(ol_f32_to_f16(float_of(s | (bits - 1))), sign | h);
			assert_int_equal(ol_f32_to_f16(float_of(s | bits)), sign | (h + h % 2));
			assert_int_equal(ol_f32_to_f16(float_of(s | (bits + 1))), sign | (h + 1));
		}
	}
	assert_int_equal(ol_f32_to_f16(INFINITY), 0x7c00);
	assert_int_equal(ol_f32_to_f16(-3e38f), 0xfc00);
	assert_int_equal(ol_f32_to_f16(0x1p-25f), 0);
	assert_int_equal(ol_f32_to_f16(0x1p-149f), 0);
	assert_int_equal(ol_f32_to_f16(-0x1p-149f), 0x8000);
}

static void f16_equals_the_compiler(void **state)
{
	(void)state;
#ifdef HAVE_FLOAT16
	for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 997) {
		const float x = float_of((uint32_t)bits);
		const _Float16 h = (_Float16)x;
		uint16_t expected;
		memcpy(&expected, &h, sizeof expected);
		if (!isnan(x) && ol_f32_to_f16(x) != expected)
			fail_msg("f16(%a) is %04x, not %04x", (double)x, expected,
				 ol_f32_to_f16(x));
	}
#else
	printf("skipped: this compiler has no _Float16\n");
#endif
}

static void bf16_rows(void **state)
{
	static const struct {
		uint32_t f32;
		uint16_t bf16;
	} rows[] = {
		{0x00000000, 0x0000}, {0x80000000, 0x8000},
		{0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80}, /* below the middle                */
		{0x3f808000, 0x3f80},                       /* the middle: to the even one     */
		{0x3f808001, 0x3f81}, {0x3f818000, 0x3f82},
		{0x00000001, 0x0000}, {0x00008001, 0x0001}, /* subnormals are kept             */
		{0x7f7f7fff, 0x7f7f}, {0x7f7f8000, 0x7f80}, /* to infinity */
		{0x7f800000, 0x7f80}, {0xff800000, 0xff80},
		{0x7f800001, 0x7fc0}, {0xffc12345, 0xffc1},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		assert_int_equal(ol_f32_to_bf16(float_of(rows[i].f32)), rows[i].bf16);
	for (uint32_t h = 0; h < 65536; h++) {
		assert_int_equal(bits_of(ol_bf16_to_f32((uint16_t)h)), h << 16);
		if ((h & 0x7fff) <= 0x7f80)
			assert_int_equal(ol_f32_to_bf16(ol_bf16_to_f32((uint16_t)h)), h);
	}
}

/* --- Names and sizes ------------------------------------------------------------------------ */

static void names_and_sizes(void **state)
{
	static const struct {
		enum ol_weight_type type;
		const char *name;
		int cols;
		size_t row, panel;
	} rows[] = {
		{OL_WEIGHT_F32, "f32", 33, 132, 33 * 128},
		{OL_WEIGHT_BF16, "bf16", 33, 66, 17 * 128},
		{OL_WEIGHT_Q8, "q8", 32, 34, 1088},
		{OL_WEIGHT_Q8, "q8", 33, 68, 2176},
		{OL_WEIGHT_Q4, "q4", 64, 36, 1152},
		{OL_WEIGHT_NF4, "nf4", 65, 54, 1728},
	};
	enum ol_weight_type type;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		assert_string_equal(ol_weight_type_name(rows[i].type), rows[i].name);
		assert_true(ol_weight_type_parse(&type, rows[i].name) && type == rows[i].type);
		assert_int_equal(ol_canonical_row_bytes(rows[i].type, rows[i].cols), rows[i].row);
		assert_int_equal(ol_panels_bytes(rows[i].type, 32, rows[i].cols), rows[i].panel);
		assert_int_equal(ol_panels_bytes(rows[i].type, 33, rows[i].cols),
				 2 * rows[i].panel);
	}
	assert_false(ol_weight_type_parse(&type, "q5"));
	assert_false(ol_weight_type_parse(&type, ""));
	assert_int_equal(ol_panel_count(0), 0);
	assert_int_equal(ol_panel_count(32), 1);
	assert_int_equal(ol_panel_count(33), 2);
}

/* --- Quantisation --------------------------------------------------------------------------- */

static void q8_block_as_specified(void **state)
{
	/* m = 127 gives scale 1: the codes are the numbers rounded half to even. */
	float x[32] = {127, -127, 0.5f, 1.5f, -2.5f, 126.5f, 0.25f, -0.0f};
	static const int8_t codes[8] = {127, -127, 0, 2, -2, 126, 0, 0};
	uint8_t row[34];
	(void)state;
	assert_true(ol_quantize_row(row, OL_WEIGHT_Q8, x, 32));
	assert_int_equal(row[0] | row[1] << 8, 0x3c00);
	assert_memory_equal(row + 2, codes, 8);
	/* A scale that f16 rounds down must not push a code past 127. */
	for (int i = 0; i < 32; i++)
		x[i] = i % 2 ? 127.06f : -127.06f;
	assert_true(ol_quantize_row(row, OL_WEIGHT_Q8, x, 32));
	for (int i = 0; i < 32; i++)
		assert_int_equal((int8_t)row[2 + i], i % 2 ? 127 : -127);
	/* Below half of the smallest f16 the block is zero. */
	x[0] = 127 * 0x1p-26f;
	memset(x + 1, 0, sizeof x - sizeof *x);
	assert_true(ol_quantize_row(row, OL_WEIGHT_Q8, x, 32));
	for (int i = 0; i < 34; i++)
		assert_int_equal(row[i], 0);
}

static void nf4_block_as_specified(void **state)
{
	float x[32] = {127, -127, 5.0f, 5.0625f, -6.0f, -5.9375f, 109.5f, 109.5625f};
	static const uint8_t codes[8] = {15, 0, 7, 8, 6, 7, 14, 15};
	uint8_t row[18];
	(void)state;
	assert_true(ol_quantize_row(row, OL_WEIGHT_NF4, x, 32));
	assert_int_equal(row[0] | row[1] << 8, 0x3c00);
	for (int i = 0; i < 8; i++)
		assert_int_equal(row[2 + i] & 15, codes[i]);
	for (int i = 8; i < 32; i++)
		assert_int_equal(i < 16 ? row[2 + i] & 15 : row[2 + i - 16] >> 4, OL_NF4_ZERO);
}

/* Every value that a block of levels times a half float can hold comes back as it was. */
static void quantising_is_exact_on_its_own_values(void **state)
{
	(void)state;
	for (int round = 0; round < 500; round++) {
		const float d = ol_f16_to_f32((uint16_t)(0x2000 + random_bits() % 0x1000));
		float x[32], back[32];
		uint8_t row[34];
		for (int i = 0; i < 32; i++)
			x[i] = d * (float)((int)(random_bits() % 16) - 8);
		x[round % 32] = -8 * d;
		assert_true(ol_quantize_row(row, OL_WEIGHT_Q4, x, 32));
		ol_dequantize_row(back, OL_WEIGHT_Q4, row, 32);
		for (int i = 0; i < 32; i++)
			assert_true(x[i] == back[i]);
		for (int i = 0; i < 32; i++)
			x[i] = d * (float)ol_nf4_levels[random_bits() % 16];
		x[round % 32] = 127 * d;
		assert_true(ol_quantize_row(row, OL_WEIGHT_NF4, x, 32));
		ol_dequantize_row(back, OL_WEIGHT_NF4, row, 32);
		for (int i = 0; i < 32; i++)
			assert_true(x[i] == back[i]);
	}
}

/* Squared error of a block under the plain Q4_0 rule: scale = the signed largest / -8. */
static double plain_q4_error(const float x[32])
{
	float m = 0;
	for (int i = 0; i < 32; i++)
		m = fabsf(x[i]) > fabsf(m) ? x[i] : m;
	const float d = ol_f16_to_f32(ol_f32_to_f16(m / -8));
	double error = 0;
	for (int i = 0; i < 32; i++) {
		const float q = d == 0 ? 0 : fmaxf(-8, fminf(7, rintf(x[i] / d)));
		error += pow((double)(x[i] - q * d), 2);
	}
	return error;
}

static double block_error(enum ol_weight_type type, const float x[32])
{
	uint8_t row[34];
	float back[32];
	double error = 0;
	assert_true(ol_quantize_row(row, type, x, 32));
	ol_dequantize_row(back, type, row, 32);
	for (int i = 0; i < 32; i++)
		error += pow((double)(x[i] - back[i]), 2);
	return error;
}

static void errors_stay_within_bounds(void **state)
{
	double q4 = 0, plain = 0, nf4 = 0, q8 = 0, power = 0;
	(void)state;
	for (int round = 0; round < 4000; round++) {
		float x[32];
		for (int i = 0; i < 32; i++) {
			x[i] = weight_like();
			power += (double)x[i] * (double)x[i];
		}
		const double p = plain_q4_error(x), mine = block_error(OL_WEIGHT_Q4, x);
		q4 += mine;
		plain += p;
		assert_true(mine <= p * 1.0001); /* the search contains the plain rule */
		nf4 += block_error(OL_WEIGHT_NF4, x);
		q8 += block_error(OL_WEIGHT_Q8, x);
	}
	printf("relative error: q8 %.5f, q4 %.4f (plain Q4_0 %.4f), nf4 %.4f\n", sqrt(q8 / power),
	       sqrt(q4 / power), sqrt(plain / power), sqrt(nf4 / power));
	assert_true(sqrt(q8 / power) < 0.0055);
	assert_true(sqrt(q4 / power) < 0.945 * sqrt(plain / power));
	assert_true(sqrt(nf4 / power) < 0.090);
}

static void q8_error_is_half_a_step(void **state)
{
	(void)state;
	for (int round = 0; round < 2000; round++) {
		float x[32], back[32], m = 0;
		uint8_t row[34];
		for (int i = 0; i < 32; i++) {
			x[i] = weight_like();
			m = fmaxf(m, fabsf(x[i]));
		}
		assert_true(ol_quantize_row(row, OL_WEIGHT_Q8, x, 32));
		ol_dequantize_row(back, OL_WEIGHT_Q8, row, 32);
		/* Half a step, and what an f16 scale rounded down takes from the largest. */
		const float bound = m / 127 * 0.5f * (1 + 0x1p-10f) + m * 0x1p-11f;
		for (int i = 0; i < 32; i++)
			assert_true(fabsf(x[i] - back[i]) <= bound);
	}
}

/* What cannot be held is refused; what can, however large or small, is not. */
static void limits(void **state)
{
	static const struct {
		float x;
		bool f32, bf16, q8, q4, nf4;
	} rows[] = {
		{NAN, 0, 0, 0, 0, 0},     {INFINITY, 0, 0, 0, 0, 0},  {-INFINITY, 0, 0, 0, 0, 0},
		{3.4e38f, 1, 0, 0, 0, 0}, {-3.3e38f, 1, 1, 0, 0, 0},  {8.4e6f, 1, 1, 0, 0, 0},
		{8.3e6f, 1, 1, 1, 0, 1},  {4.6e5f, 1, 1, 1, 0, 1},    {-4.5e5f, 1, 1, 1, 1, 1},
		{1e-30f, 1, 1, 1, 1, 1},  {0x1p-149f, 1, 1, 1, 1, 1}, {0, 1, 1, 1, 1, 1},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		float x[40] = {0}, back[40];
		uint8_t row[160];
		x[35] = rows[i].x;
		const bool expected[] = {rows[i].f32, rows[i].bf16, rows[i].q8, rows[i].q4,
					 rows[i].nf4};
		for (size_t t = 0; t < OL_ARRAY_LEN(all_types); t++) {
			const bool fits = ol_quantize_row(row, all_types[t], x, 40);
			if (fits != expected[t])
				fail_msg("%g as %s: %s", (double)rows[i].x,
					 ol_weight_type_name(all_types[t]),
					 fits ? "held" : "refused");
			if (!fits)
				continue;
			ol_dequantize_row(back, all_types[t], row, 40);
			assert_true(fabsf(back[35] - x[35]) <= 0.05f * fabsf(x[35]) + 1e-6f);
			for (int k = 0; k < 40; k++)
				assert_true(k == 35 || back[k] == 0);
		}
	}
}

/* q4 does not depend on the size of the numbers: a power of two changes the scale alone. */
static void q4_is_free_of_units(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		float x[32];
		uint8_t row[18], scaled[18];
		for (int i = 0; i < 32; i++)
			x[i] = weight_like();
		assert_true(ol_quantize_row(row, OL_WEIGHT_Q4, x, 32));
		for (int i = 0; i < 32; i++)
			x[i] *= 256;
		assert_true(ol_quantize_row(scaled, OL_WEIGHT_Q4, x, 32));
		const float before = ol_f16_to_f32((uint16_t)(row[0] | row[1] << 8));
		const float after = ol_f16_to_f32((uint16_t)(scaled[0] | scaled[1] << 8));
		assert_true(after == 256 * before);
		assert_memory_equal(row + 2, scaled + 2, 16);
	}
}

/* --- Panels --------------------------------------------------------------------------------- */

/* Any bytes, not only what quantising makes: packing keeps codes (-128 too), scales and NaNs. */
static void packing_is_undone_by_unpacking(void **state)
{
	static const int shapes[][2] = {{1, 1},   {1, 32},  {31, 33}, {32, 64},
					{33, 31}, {64, 65}, {70, 100}};
	(void)state;
	for (size_t t = 0; t < OL_ARRAY_LEN(all_types); t++)
		for (size_t s = 0; s < OL_ARRAY_LEN(shapes); s++) {
			const enum ol_weight_type type = all_types[t];
			const int O = shapes[s][0], K = shapes[s][1];
			const size_t row = ol_canonical_row_bytes(type, K), all = (size_t)O * row;
			uint8_t *canonical = malloc(all), *back = calloc(1, all);
			uint8_t *panels = malloc(ol_panels_bytes(type, O, K));
			for (size_t i = 0; i < all; i++)
				canonical[i] = (uint8_t)(random_bits() >> 9);
			ol_panels_clear(panels, type, O, K);
			/* Any order, any number of rows at a time. */
			const int cut = O / 3;
			ol_pack_rows(panels, type, O, K, canonical + (size_t)cut * row, cut,
				     O - cut);
			ol_pack_rows(panels, type, O, K, canonical, 0, cut);
			const struct ol_matrix w = {type, O, K, panels};
			ol_unpack_rows(back, &w, 0, O);
			assert_memory_equal(canonical, back, all);
			memset(back, 0, all);
			ol_unpack_rows(back, &w, cut, 1);
			assert_memory_equal(canonical + (size_t)cut * row, back, row);
			free(canonical);
			free(back);
			free(panels);
		}
}

static void matrix_row_is_the_dequantised_row(void **state)
{
	enum { O = 45, K = 77 };
	(void)state;
	for (size_t t = 0; t < OL_ARRAY_LEN(all_types); t++) {
		const enum ol_weight_type type = all_types[t];
		const size_t row = ol_canonical_row_bytes(type, K);
		uint8_t *canonical = malloc(O * row), *panels = malloc(ol_panels_bytes(type, O, K));
		float x[K], expected[K], got[K];
		ol_panels_clear(panels, type, O, K);
		for (int o = 0; o < O; o++) {
			for (int k = 0; k < K; k++)
				x[k] = weight_like();
			assert_true(ol_quantize_row(canonical + (size_t)o * row, type, x, K));
		}
		ol_pack_rows(panels, type, O, K, canonical, 0, O);
		const struct ol_matrix w = {type, O, K, panels};
		for (int o = 0; o < O; o++) {
			ol_dequantize_row(expected, type, canonical + (size_t)o * row, K);
			ol_matrix_row(got, &w, o);
			assert_memory_equal(expected, got, sizeof got);
		}
		free(canonical);
		free(panels);
	}
}

/* The layout that the header promises, byte by byte for one element. */
static void panels_are_laid_out_as_described(void **state)
{
	enum { O = 40, K = 70, ROW = 37, COL = 53 }; /* panel 1 lane 5, block 1 element 21 */
	uint8_t canonical[34 * 3] = {0}, panels[2 * 3 * 1088];
	(void)state;
	ol_panels_clear(panels, OL_WEIGHT_Q8, O, K);
	canonical[34 + 2 + 21] = 9;
	canonical[34] = 0xcd;
	ol_pack_rows(panels, OL_WEIGHT_Q8, O, K, canonical, ROW, 1);
	const uint8_t *block = panels + (3 + 1) * 1088;
	assert_int_equal(block[2 * 5], 0xcd);
	assert_int_equal(block[64 + 5 * 128 + 5 * 4 + 1], 128 + 9); /* 21 = 4*5 + 1 */
	assert_int_equal(block[64 + 5 * 128 + 6 * 4 + 1], 128);

	memset(canonical, 0x88, sizeof canonical);
	ol_panels_clear(panels, OL_WEIGHT_Q4, O, K);
	canonical[18 + 2 + 5] = 0x78; /* element 5 is 0, element 21 is -1 */
	canonical[18] = 0xcd;
	ol_pack_rows(panels, OL_WEIGHT_Q4, O, K, canonical, ROW, 1);
	block = panels + (3 + 1) * 576;
	assert_int_equal(block[2 * 5], 0xcd);
	assert_int_equal(block[64 + 1 * 128 + 5 * 4 + 1], 0x78);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_f16_widens_and_returns),
		cmocka_unit_test(f16_rounds_to_nearest_even),
		cmocka_unit_test(f16_equals_the_compiler),
		cmocka_unit_test(bf16_rows),
		cmocka_unit_test(names_and_sizes),
		cmocka_unit_test(q8_block_as_specified),
		cmocka_unit_test(nf4_block_as_specified),
		cmocka_unit_test(quantising_is_exact_on_its_own_values),
		cmocka_unit_test(errors_stay_within_bounds),
		cmocka_unit_test(q8_error_is_half_a_step),
		cmocka_unit_test(limits),
		cmocka_unit_test(q4_is_free_of_units),
		cmocka_unit_test(packing_is_undone_by_unpacking),
		cmocka_unit_test(matrix_row_is_the_dequantised_row),
		cmocka_unit_test(panels_are_laid_out_as_described),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
