/* Rows of 8 bits: every instruction set gives the scalar sums, and products are what they stand
 * for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/rows.h"
#include "math/functions.h"

enum { LONGEST = 300, VALUES = 70 + 1 + 129 };

static uint32_t word(uint32_t a, uint32_t b)
{
	const uint32_t counter[4] = {a, b, 1, 0}, key[2] = {8, 9};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return out[0];
}

static int8_t code(uint32_t a, uint32_t b)
{
	return (int8_t)((int)(word(a, b) % 255) - 127);
}

static void test_every_instruction_set(void **state)
{
	int8_t a[OL_ROW_BLOCKS][LONGEST], b[LONGEST];
	int32_t blocks[OL_ROW_BLOCKS];
	(void)state;
	for (int i = 0; i < LONGEST; i++) {
		for (uint32_t k = 0; k < OL_ROW_BLOCKS; k++)
			a[k][i] = k == 0 ? 127 : code(k, (uint32_t)i);
		b[i] = i < 150 ? -127 : code(99, (uint32_t)i);
	}
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_row_kernels *k = ol_kernels_for((enum ol_isa)isa)
							 ? ol_row_kernels_for((enum ol_isa)isa)
							 : NULL;
		for (int n = 0; k && n <= LONGEST; n++) {
			k->dot_blocks(blocks, a[0], LONGEST, b, n);
			for (int j = 0; j < OL_ROW_BLOCKS; j++) {
				int32_t right = 0;
				for (int i = 0; i < n; i++)
					right += a[j][i] * b[i];
				assert_int_equal(k->dot(a[j], b, n), right);
				assert_int_equal(blocks[j], right);
			}
		}
	}
}

/* The longest sum there is stays within 32 bits. */
static void test_largest_sum(void **state)
{
	int8_t *a = malloc(OL_ROW_VALUES_MAX);
	(void)state;
	memset(a, 127, OL_ROW_VALUES_MAX);
	for (int isa = 0; isa < OL_ISAS; isa++)
		if (ol_kernels_for((enum ol_isa)isa))
			assert_int_equal(
				ol_row_kernels_for((enum ol_isa)isa)->dot(a, a, OL_ROW_VALUES_MAX),
				127 * 127 * OL_ROW_VALUES_MAX);
	free(a);
}

static const uint32_t begin[] = {0, 70, 71, VALUES};
static const struct ol_row_layout layout = {3, VALUES, begin};

static void random_row(float *x, uint32_t which)
{
	for (uint32_t i = 0; i < VALUES; i++)
		x[i] = ((float)(word(which, i) % 2001) - 1000.0f) * (i < 70 ? 1e-6f : 1e3f);
}

static void test_products(void **state)
{
	_Alignas(64) uint8_t rows[OL_ROW_BLOCKS + 1][512];
	float x[VALUES], y[VALUES];
	double blocks[OL_ROW_BLOCKS];
	const struct ol_row_kernels *k = ol_row_kernels_for(OL_ISA_SCALAR);
	(void)state;
	assert_int_equal(ol_row_bytes(&layout), 64 + 256);
	for (uint32_t i = 0; i <= OL_ROW_BLOCKS; i++) {
		random_row(x, i);
		assert_true(ol_row_quantize(&layout, rows[0] + i * ol_row_bytes(&layout), x));
		assert_true(ol_row_check(&layout, rows[0] + i * ol_row_bytes(&layout)));
	}
	const uint8_t *last = rows[0] + OL_ROW_BLOCKS * ol_row_bytes(&layout);
	ol_row_dot_blocks(k, &layout, blocks, rows[0], last);
	for (size_t b = 0; b < OL_ROW_BLOCKS; b++) {
		double right = 0, size = 0;
		ol_row_dequantize(&layout, x, rows[0] + b * ol_row_bytes(&layout));
		ol_row_dequantize(&layout, y, last);
		for (int i = 0; i < VALUES; i++) {
			right += (double)x[i] * (double)y[i];
			size += fabs((double)x[i] * (double)y[i]);
		}
		assert_true(fabs(blocks[b] - right) < 1e-6 * size);
		assert_true(blocks[b] ==
			    ol_row_dot(k, &layout, rows[0] + b * ol_row_bytes(&layout), last));
	}
}

static void test_quantising(void **state)
{
	_Alignas(64) uint8_t row[320];
	float x[VALUES] = {0}, y[VALUES];
	(void)state;
	x[0] = 1.0f;
	x[1] = -0.5f;
	x[70] = 1e-35f; /* nothing */
	assert_true(ol_row_quantize(&layout, row, x));
	assert_int_equal(ol_row_codes(&layout, row)[0], 127);
	assert_int_equal(ol_row_codes(&layout, row)[1], -64); /* -63.5, ties to even */
	assert_true(ol_row_scales(row)[1] == 0.0f);
	ol_row_dequantize(&layout, y, row);
	assert_true(fabsf(y[0] - 1.0f) < 1e-6f && y[70] == 0.0f);
	const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY, 0x1p61f};
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		x[100] = bad[i];
		assert_false(ol_row_quantize(&layout, row, x));
	}
	x[100] = 1.0f;
	assert_true(ol_row_quantize(&layout, row, x) && ol_row_check(&layout, row));
	row[64 + 3] = 0x80; /* a code of -128 */
	assert_false(ol_row_check(&layout, row));
	row[64 + 3] = 0;
	row[319] = 1; /* the padding */
	assert_false(ol_row_check(&layout, row));
	row[319] = 0;
	memcpy(row, &bad[0], sizeof(float));
	assert_false(ol_row_check(&layout, row));
}

/* A sketch's product is right on average, and off by about |a||b| / sqrt(1020). */
static void test_sketches(void **state)
{
	enum { LONG = 5000, PAIRS = 40 };
	static const uint32_t ends[] = {0, LONG};
	const struct ol_row_layout wide = {1, LONG, ends};
	struct ol_sketch_plan plan;
	uint8_t *rows = aligned_alloc(64, 2 * ol_row_bytes(&wide));
	uint8_t sketches[2][OL_SKETCH_BYTES];
	float *x = malloc(LONG * sizeof *x);
	const struct ol_row_kernels *k = ol_row_kernels_for(OL_ISA_SCALAR);
	double off = 0, bias = 0;
	(void)state;
	assert_true(ol_sketch_plan_init(&plan, LONG));
	for (uint32_t p = 0; p < PAIRS; p++) {
		double sizes[2];
		for (uint32_t r = 0; r < 2; r++) {
			uint8_t *row = rows + r * ol_row_bytes(&wide);
			for (uint32_t i = 0; i < LONG; i++)
				x[i] = (float)(word(2 * p + r + 1000, i) % 2001) - 1000.0f;
			assert_true(ol_row_quantize(&wide, row, x));
			ol_sketch_make(&plan, &wide, sketches[r], row);
			sizes[r] = sqrt(ol_row_dot(k, &wide, row, row));
		}
		const double exact = ol_row_dot(k, &wide, rows, rows + ol_row_bytes(&wide));
		const double error =
			(ol_sketch_dot(k, sketches[0], sketches[1]) - exact) / sizes[0] / sizes[1];
		off += error * error / PAIRS;
		bias += error / PAIRS;
	}
	assert_true(sqrt(off) < 1.6 / sqrt(1020.0) && sqrt(off) > 0.5 / sqrt(1020.0));
	assert_true(fabs(bias) < 5.0 / sqrt(1020.0 * PAIRS));
	ol_sketch_plan_release(&plan);
	free(x);
	free(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_instruction_set),
		cmocka_unit_test(test_largest_sum),
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_quantising),
		cmocka_unit_test(test_sketches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
