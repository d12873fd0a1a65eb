/* The backward kernels of every instruction set equal the scalar specification bit for bit, at
 * every shape and weight type, however rows, inputs and outputs are cut into calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/gradients.h"

static const struct ol_gradients *scalar;

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Mostly ordinary numbers; zeros of both signs, and some so small that products vanish. */
static float random_float(void)
{
	const float x = (float)(int32_t)random_bits() * 0x1p-31f;
	switch (random_bits() % 32) {
	case 0: return 0.0f;
	case 1: return -0.0f;
	case 2: return x * 0x1p-80f;
	default: return x;
	}
}

/* `n` numbers on the heap, so that the sanitizer sees every step too far. */
static float *random_array(size_t n)
{
	float *x = malloc(n * sizeof *x + 1);
	assert_non_null(x);
	for (size_t i = 0; i < n; i++)
		x[i] = random_float();
	return x;
}

static float *copy_of(const float *x, size_t n)
{
	float *y = malloc(n * sizeof *y + 1);
	assert_non_null(y);
	memcpy(y, x, n * sizeof *y);
	return y;
}

static float *scratch_of(size_t floats)
{
	float *x = aligned_alloc(64, (floats * sizeof *x + 127) / 64 * 64);
	assert_non_null(x);
	memset(x, 0xff, floats * sizeof *x); /* NaNs: nothing may depend on them */
	memset(x + floats, 0x5a, 64);
	return x;
}

static void free_scratch(float *x, size_t floats)
{
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(((const char *)(x + floats))[i], 0x5a);
	free(x);
}

static void same(const float *got, const float *expected, size_t n, const char *what,
		 const struct ol_gradients *t, int M, int K, int O)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(&got[i], &expected[i], sizeof *got) != 0) {
			print_message("%s, table %d, M %d K %d O %d: element %zu is %a, not %a\n",
				      what, (int)t->isa, M, K, O, i, (double)got[i],
				      (double)expected[i]);
			fail();
		}
}

static void for_every_table(void (*fn)(const struct ol_gradients *))
{
	for (int isa = 0; isa < OL_ISAS; isa++)
		if (ol_gradients_for((enum ol_isa)isa))
			fn(ol_gradients_for((enum ol_isa)isa));
}

/* --- matmul_dx -------------------------------------------------------------------------------- */

static struct ol_matrix random_matrix(enum ol_weight_type type, int rows, int cols)
{
	const size_t bytes = ol_panels_bytes(type, rows, cols);
	void *panels = aligned_alloc(64, (bytes + 63) / 64 * 64);
	void *canonical = malloc(ol_canonical_row_bytes(type, cols));
	assert_true(panels && canonical);
	ol_panels_clear(panels, type, rows, cols);
	for (int o = 0; o < rows; o++) {
		float *row = random_array((size_t)cols);
		assert_true(ol_quantize_row(canonical, type, row, cols));
		ol_pack_rows(panels, type, rows, cols, canonical, o, 1);
		free(row);
	}
	free(canonical);
	return (struct ol_matrix){type, rows, cols, panels};
}

/* All at once, or by ranges of inputs and of rows, from the last. */
static void solve_dx(const struct ol_gradients *t, float *dx, size_t dx_stride, const float *dy,
		     size_t dy_stride, const struct ol_matrix *w, int M, bool onto, int cut)
{
	const size_t floats = t->matmul_dx_scratch(w, M);
	float *scratch = scratch_of(floats);
	if (cut == 0)
		t->matmul_dx(dx, dx_stride, dy, dy_stride, w, M, 0, w->cols, onto, scratch);
	else
		for (int m = (M - 1) / cut * cut; m >= 0; m -= cut)
			for (int k = (w->cols - 1) / 96 * 96; k >= 0; k -= 96)
				t->matmul_dx(dx + (size_t)m * dx_stride, dx_stride,
					     dy + (size_t)m * dy_stride, dy_stride, w,
					     OL_MIN(cut, M - m), k, OL_MIN(k + 96, w->cols), onto,
					     scratch);
	free_scratch(scratch, floats);
}

static void check_dx(const struct ol_gradients *t, enum ol_weight_type type, int M, int K, int O)
{
	struct ol_matrix w = random_matrix(type, O, K);
	const size_t dx_stride = (size_t)K + 1, dy_stride = (size_t)O + 2;
	const size_t dx_size = (size_t)(M - 1) * dx_stride + (size_t)K;
	float *dy = random_array((size_t)(M - 1) * dy_stride + (size_t)O);
	float *start = random_array(dx_size);
	for (int onto = 0; onto < 2; onto++) {
		float *expected = copy_of(start, dx_size);
		solve_dx(scalar, expected, dx_stride, dy, dy_stride, &w, M, onto != 0, 0);
		for (int cut = 0; cut < 15; cut += 7) {
			float *dx = copy_of(start, dx_size);
			solve_dx(t, dx, dx_stride, dy, dy_stride, &w, M, onto != 0, cut);
			same(dx, expected, dx_size, ol_weight_type_name(type), t, M, K, O);
			free(dx);
		}
		free(expected);
	}
	free(dy);
	free(start);
	free((void *)w.panels);
}

static void matmul_dx(const struct ol_gradients *t)
{
	static const int shapes[][3] = {
		/* M, K, O */
		{1, 1, 1},     {3, 31, 5},    {13, 33, 16},   {12, 64, 64},  {31, 100, 65},
		{32, 96, 96},  {33, 65, 130}, {50, 320, 33},  {17, 17, 300}, {5, 290, 257},
		{64, 32, 288}, {70, 40, 600}, {257, 36, 100}, {6, 600, 70},  {2, 16, 1000},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		for (int type = 0; type < OL_WEIGHT_TYPES; type++)
			check_dx(t, (enum ol_weight_type)type, shapes[i][0], shapes[i][1],
				 shapes[i][2]);
}

static void test_matmul_dx(void **state)
{
	(void)state;
	for_every_table(matmul_dx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matmul_dx),
	};
	scalar = ol_gradients_for(OL_ISA_SCALAR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
