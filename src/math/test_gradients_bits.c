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

/* --- matmul_dw -------------------------------------------------------------------------------- */

/* `cut`: rows in pieces, from the first, as the chain runs; outputs in pieces, from the last. */
static void solve_dw(const struct ol_gradients *t, float *dw, const float *dy, size_t dy_stride,
		     const float *x, size_t x_stride, int M, int K, int O, int cut)
{
	if (cut == 0) {
		t->matmul_dw(dw, dy, dy_stride, x, x_stride, M, 0, O, K);
		return;
	}
	for (int m = 0; m < M; m += cut)
		for (int o = (O - 1) / cut * cut; o >= 0; o -= cut)
			t->matmul_dw(dw, dy + (size_t)m * dy_stride, dy_stride,
				     x + (size_t)m * x_stride, x_stride, OL_MIN(cut, M - m), o,
				     OL_MIN(o + cut, O), K);
}

static void check_dw(const struct ol_gradients *t, int M, int K, int O)
{
	const size_t x_stride = (size_t)K + 1, dy_stride = (size_t)O + 2;
	const size_t size = (size_t)O * (size_t)K;
	float *x = random_array((size_t)(M - 1) * x_stride + (size_t)K);
	float *dy = random_array((size_t)(M - 1) * dy_stride + (size_t)O);
	float *start = random_array(size), *expected = copy_of(start, size);
	solve_dw(scalar, expected, dy, dy_stride, x, x_stride, M, K, O, 0);
	for (int cut = 0; cut < 60; cut += 19) {
		float *dw = copy_of(start, size);
		solve_dw(t, dw, dy, dy_stride, x, x_stride, M, K, O, cut);
		same(dw, expected, size, "matmul_dw", t, M, K, O);
		free(dw);
	}
	free(x);
	free(dy);
	free(start);
	free(expected);
}

static void matmul_dw(const struct ol_gradients *t)
{
	static const int shapes[][3] = {
		/* M, K, O */
		{1, 1, 1},    {3, 31, 5},    {13, 33, 16},   {12, 64, 64},   {31, 100, 65},
		{32, 96, 96}, {33, 65, 130}, {50, 320, 33},  {17, 17, 300},  {5, 290, 257},
		{64, 16, 88}, {70, 8, 100},  {257, 36, 100}, {300, 130, 40}, {2, 16, 1000},
		{40, 500, 8}, {40, 200, 16}, {520, 70, 24},  {9, 15, 15},    {33, 1, 70},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		check_dw(t, shapes[i][0], shapes[i][1], shapes[i][2]);
}

static void test_matmul_dw(void **state)
{
	(void)state;
	for_every_table(matmul_dw);
}

/* --- rows and elements ------------------------------------------------------------------------ */

enum { ROW = 150, ROWS = 7 };

static void check_norms(const struct ol_gradients *t, int n, float size)
{
	float *x = random_array((size_t)ROWS * ROW), *dy = random_array((size_t)ROWS * ROW);
	float *w = random_array((size_t)n), *start = random_array((size_t)n);
	float inverse[ROWS];
	for (int i = 0; i < ROWS * ROW; i++)
		x[i] *= size;
	for (int onto = 0; onto < 2; onto++)
		for (int m = 0; m < ROWS; m++) {
			float *a = copy_of(start, (size_t)n), *b = copy_of(start, (size_t)n);
			const size_t at = (size_t)m * ROW;
			inverse[m] = scalar->rmsnorm_dx(a, x + at, w, dy + at, n, 1e-30f, onto);
			const float r = t->rmsnorm_dx(b, x + at, w, dy + at, n, 1e-30f, onto);
			same(b, a, (size_t)n, "rmsnorm_dx", t, 1, n, onto);
			same(&r, &inverse[m], 1, "inverse", t, 1, n, onto);
			free(a);
			free(b);
		}
	float *a = copy_of(start, (size_t)n), *b = copy_of(start, (size_t)n);
	scalar->rmsnorm_dw(a, dy, ROW, x, ROW, inverse, ROWS, 0, n);
	for (int m = 0; m < ROWS; m += 3)
		for (int i = 0; i < n; i += 21)
			t->rmsnorm_dw(b, dy + (size_t)m * ROW, ROW, x + (size_t)m * ROW, ROW,
				      inverse + m, OL_MIN(3, ROWS - m), i, OL_MIN(i + 21, n));
	same(b, a, (size_t)n, "rmsnorm_dw", t, ROWS, n, 0);
	scalar->sum_rows(a, dy, ROW, ROWS, 0, n);
	for (int m = 0; m < ROWS; m += 3)
		for (int i = 0; i < n; i += 21)
			t->sum_rows(b, dy + (size_t)m * ROW, ROW, OL_MIN(3, ROWS - m), i,
				    OL_MIN(i + 21, n));
	same(b, a, (size_t)n, "sum_rows", t, ROWS, n, 0);
	free(a);
	free(b);
	free(x);
	free(dy);
	free(w);
	free(start);
}

static void check_elements(const struct ol_gradients *t, int n)
{
	const size_t size = (size_t)n;
	float *x = random_array(size), *u = random_array(size), *dy = random_array(size);
	float *a = random_array(2 * size), *b = copy_of(a, 2 * size);
	for (size_t i = 0; i < size; i++)
		x[i] *= ldexpf(1.0f, (int)(random_bits() % 12));
	scalar->silu_mul_dx(a, a + n, x, u, dy, n);
	t->silu_mul_dx(b, b + n, x, u, dy, n);
	same(b, a, 2 * size, "silu_mul_dx", t, 1, n, 1);
	scalar->gelu_mul_dx(a, a + n, x, u, dy, n);
	t->gelu_mul_dx(b, b + n, x, u, dy, n);
	same(b, a, 2 * size, "gelu_mul_dx", t, 1, n, 1);
	scalar->softcap_dx(a, dy, x, 30.0f, n);
	t->softcap_dx(b, dy, x, 30.0f, n);
	same(b, a, size, "softcap_dx", t, 1, n, 1);
	scalar->scale(a, x, 1.7f, n);
	t->scale(b, x, 1.7f, n);
	same(b, a, size, "scale", t, 1, n, 1);
	for (int target = 0; target < n; target += 1 + n / 3) {
		float loss = scalar->cross_entropy(a, x, n, target, 0.37f);
		float other = t->cross_entropy(b, x, n, target, 0.37f);
		same(b, a, size, "cross_entropy", t, 1, n, target);
		same(&other, &loss, 1, "loss", t, 1, n, target);
		other = t->cross_entropy(NULL, x, n, target, 0.37f);
		same(&other, &loss, 1, "loss alone", t, 1, n, target);
		memcpy(b, x, size * sizeof *b);
		t->cross_entropy(b, b, n, target, 0.37f);
		same(b, a, size, "cross_entropy in place", t, 1, n, target);
	}
	for (int round = 0; round < 8; round++) {
		static const float rates[] = {0.0f, 0x1p-24f, 0.1f, 0.5f, 0x1.fffffep-1f};
		const struct ol_dropout key = {rates[round % 5], random_bits(),
					       (uint32_t)random_bits(), (uint32_t)round, 5};
		const uint64_t example = random_bits();
		scalar->dropout(a, x, &key, example, 77, n);
		t->dropout(b, x, &key, example, 77, n);
		same(b, a, size, "dropout", t, 1, n, round);
	}
	free(x);
	free(u);
	free(dy);
	free(a);
	free(b);
}

static void check_optimiser(const struct ol_gradients *t, int n)
{
	const size_t size = (size_t)n;
	const struct ol_adamw s = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.3f, 0.19f, 0.001999f};
	float *g = random_array(size), *a = random_array(3 * size), *b;
	for (size_t i = 2 * size; i < 3 * size; i++)
		a[i] = fabsf(a[i]);
	b = copy_of(a, 3 * size);
	const double expected = scalar->sum_squares(g, size), got = t->sum_squares(g, size);
	assert_memory_equal(&got, &expected, sizeof got);
	scalar->adamw(a, a + n, a + 2 * n, g, size, &s);
	for (size_t i = 0; i < size; i += 37)
		t->adamw(b + i, b + size + i, b + 2 * size + i, g + i, OL_MIN(37, size - i), &s);
	same(b, a, 3 * size, "adamw", t, 1, n, 1);
	free(g);
	free(a);
	free(b);
}

static void rows_and_elements(const struct ol_gradients *t)
{
	for (int n = 1; n <= ROW; n++) {
		check_norms(t, n, 1.0f);
		check_norms(t, n, 0x1p-50f);
		check_elements(t, n);
		check_optimiser(t, n);
	}
	check_elements(t, 5000);
	check_optimiser(t, 5000);
}

static void test_rows_and_elements_of_every_length(void **state)
{
	(void)state;
	for_every_table(rows_and_elements);
}

/* All products dy x underflow to -0, so their sum is -0, and the last slope is +0. A table that let
 * lanes past the end add zeros would get -0 there. */
static void minus_zero_is_kept(const struct ol_gradients *t)
{
	float x[17], w[17], dy[17], a[17], b[17];
	for (int i = 0; i < 17; i++) {
		x[i] = i < 16 ? 0x1p-100f : 1.0f;
		w[i] = 1.0f;
		dy[i] = i < 16 ? -0x1p-60f : -0.0f;
	}
	scalar->rmsnorm_dx(a, x, w, dy, 17, 0.0f, false);
	t->rmsnorm_dx(b, x, w, dy, 17, 0.0f, false);
	assert_false(signbit(a[16]));
	assert_memory_equal(a, b, sizeof a);
}

static void test_signs_of_zeros(void **state)
{
	(void)state;
	for_every_table(minus_zero_is_kept);
}

/* --- attention -------------------------------------------------------------------------------- */

static void check_attention(const struct ol_gradients *t, int T, int d, int group, int window,
			    float softcap)
{
	const struct ol_attention a = {OL_KV_F32, d, group, window, 0.35f, softcap};
	const size_t q_stride = (size_t)(group * d) + 3, kv_stride = (size_t)d + 2;
	const size_t q_size = (size_t)(T - 1) * q_stride + (size_t)(group * d);
	const size_t kv_size = (size_t)(T - 1) * kv_stride + (size_t)d;
	float *q = random_array(q_size), *k = random_array(kv_size), *v = random_array(kv_size);
	float *out = random_array(q_size), *dout = random_array(q_size);
	float *dq[2], *dk[2], *dv[2];
	dq[0] = random_array(q_size);
	dk[0] = random_array(kv_size);
	dv[0] = random_array(kv_size);
	dq[1] = copy_of(dq[0], q_size);
	dk[1] = copy_of(dk[0], kv_size);
	dv[1] = copy_of(dv[0], kv_size);
	for (int i = 0; i < 2; i++) {
		const struct ol_gradients *g = i ? t : scalar;
		const size_t floats = g->attention_dx_scratch(&a, T);
		float *scratch = scratch_of(floats);
		g->attention_dx(dq[i], dk[i], dv[i], q, k, v, out, dout, q_stride, kv_stride, &a, T,
				scratch);
		free_scratch(scratch, floats);
	}
	same(dq[1], dq[0], q_size, "dq", t, T, d, window);
	same(dk[1], dk[0], kv_size, "dk", t, T, d, window);
	same(dv[1], dv[0], kv_size, "dv", t, T, d, window);
	for (int i = 0; i < 2; i++) {
		free(dq[i]);
		free(dk[i]);
		free(dv[i]);
	}
	free(q);
	free(k);
	free(v);
	free(out);
	free(dout);
}

static void attention(const struct ol_gradients *t)
{
	static const int windows[] = {0, 1, 2, 5, 13, 16, 40, 64};
	for (int T = 1; T <= 40; T++)
		check_attention(t, T, 1 + T * 7 % 37, 1 + T % 3, windows[T % 8],
				T % 4 == 1 ? 2.0f : 0.0f);
	for (int i = 0; i < 8; i++) {
		check_attention(t, 130, 32, 2, windows[i], 0.0f);
		check_attention(t, 75, 64, 1, windows[i], i % 2 ? 1.5f : 0.0f);
		check_attention(t, 61 + i, 16 + i, 3, windows[i], 0.0f);
	}
}

static void test_attention(void **state)
{
	(void)state;
	for_every_table(attention);
}

/* --- mutants: each is a plausible other definition; equality must not hold for it ------------- */

/* One weight's gradient over n rows, going on from `start`. */
typedef float gradient_fn(float start, const float *dy, const float *x, int n);

static float as_specified(float start, const float *dy, const float *x, int n)
{
	for (int m = 0; m < n; m++)
		start = fmaf(dy[m], x[m], start);
	return start;
}

static float mutant_summed_apart(float start, const float *dy, const float *x, int n)
{
	return start + as_specified(0.0f, dy, x, n);
}

static float mutant_two_halves(float start, const float *dy, const float *x, int n)
{
	return as_specified(start, dy, x, n / 2) +
	       as_specified(0.0f, dy + n / 2, x + n / 2, n - n / 2);
}

static float mutant_two_roundings(float start, const float *dy, const float *x, int n)
{
	for (int m = 0; m < n; m++) {
		const float product = dy[m] * x[m];
		start += product;
	}
	return start;
}

static float mutant_last_row_first(float start, const float *dy, const float *x, int n)
{
	for (int m = n - 1; m >= 0; m--)
		start = fmaf(dy[m], x[m], start);
	return start;
}

static float mutant_lanes_over_rows(float start, const float *dy, const float *x, int n)
{
	float lane[16] = {0};
	for (int m = 0; m < n; m++)
		lane[m % 16] = fmaf(dy[m], x[m], lane[m % 16]);
	for (int half = 8; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return start + lane[0];
}

/* How often `gradient` differs from matmul_dw, and (rows being outputs) from matmul_dx. */
static void count_differences(gradient_fn *gradient, int *dw_differs, int *dx_differs)
{
	enum { N = 40, ROUNDS = 200 };
	const struct ol_gradients *t = ol_gradients_for(ol_kernels_best()->isa);
	*dw_differs = *dx_differs = 0;
	for (int round = 0; round < ROUNDS; round++) {
		float *dy = random_array(N), *x = random_array(N), start = random_float();
		float dw = start, dx = start;
		const float expected = gradient(start, dy, x, N);
		t->matmul_dw(&dw, dy, 1, x, 1, N, 0, 1, 1);
		*dw_differs += memcmp(&dw, &expected, sizeof dw) != 0;

		float panels[2 * OL_PANEL] __attribute__((aligned(64)));
		const struct ol_matrix w = {OL_WEIGHT_F32, N, 1, panels};
		const size_t floats = t->matmul_dx_scratch(&w, 1);
		float *scratch = scratch_of(floats);
		ol_panels_clear(panels, w.type, N, 1);
		ol_pack_rows(panels, w.type, N, 1, x, 0, N);
		t->matmul_dx(&dx, 1, dy, (size_t)N, &w, 1, 0, 1, true, scratch);
		*dx_differs += memcmp(&dx, &expected, sizeof dx) != 0;
		free_scratch(scratch, floats);
		free(dy);
		free(x);
	}
}

static void test_mutants_are_caught(void **state)
{
	(void)state;
	static gradient_fn *const mutants[] = {mutant_summed_apart, mutant_two_halves,
					       mutant_two_roundings, mutant_last_row_first,
					       mutant_lanes_over_rows};
	int dw, dx;
	count_differences(as_specified, &dw, &dx);
	assert_true(dw == 0 && dx == 0);
	for (size_t i = 0; i < OL_ARRAY_LEN(mutants); i++) {
		count_differences(mutants[i], &dw, &dx);
		assert_true(dw > 40 && dx > 40);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matmul_dx),
		cmocka_unit_test(test_matmul_dw),
		cmocka_unit_test(test_rows_and_elements_of_every_length),
		cmocka_unit_test(test_signs_of_zeros),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_mutants_are_caught),
	};
	scalar = ol_gradients_for(OL_ISA_SCALAR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
