/* LoRA's two matrices: the scalar kernels say what docs/ARITHMETIC.md says, and every instruction
 * set equals them bit for bit at every shape and weight type, however rows and panels are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/kernels.h"

static uint64_t random_state = 88172645463325252u;

static float random_float(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (float)(int32_t)random_state * 0x1p-31f;
}

static float *random_array(size_t n)
{
	float *x = malloc(n * sizeof *x);
	assert_non_null(x);
	for (size_t i = 0; i < n; i++)
		x[i] = random_float();
	return x;
}

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

/* Rows lie further apart than they are long: what is between them must stay. */
struct problem {
	int M, K, R, O;
	size_t x_stride, h_stride, y_stride;
	float *x, *h, *y;
	struct ol_matrix a, b;
};

static const float scale = 1.7f;

static struct problem make_problem(enum ol_weight_type type, int M, int K, int R, int O)
{
	struct problem p = {.M = M, .K = K, .R = R, .O = O};
	p.x_stride = (size_t)K + 1;
	p.h_stride = (size_t)R + 2;
	p.y_stride = (size_t)O + 3;
	p.x = random_array((size_t)M * p.x_stride);
	p.h = random_array((size_t)M * p.h_stride);
	p.y = random_array((size_t)M * p.y_stride);
	p.a = random_matrix(type, R, K);
	p.b = random_matrix(type, O, R);
	return p;
}

static void free_problem(struct problem *p)
{
	free(p->x);
	free(p->h);
	free(p->y);
	free((void *)p->a.panels);
	free((void *)p->b.panels);
}

static float *copy_of(const float *x, size_t n)
{
	float *y = malloc(n * sizeof *y);
	assert_non_null(y);
	memcpy(y, x, n * sizeof *y);
	return y;
}

/* As the contract says it. */
static void reference(const struct problem *p, float *h, float *y)
{
	float *row = malloc((size_t)OL_MAX(p->K, p->R) * sizeof *row);
	assert_non_null(row);
	for (int r = 0; r < p->R; r++) {
		ol_matrix_row(row, &p->a, r);
		for (int m = 0; m < p->M; m++) {
			float c = 0.0f;
			for (int k = 0; k < p->K; k++)
				c = fmaf(p->x[(size_t)m * p->x_stride + (size_t)k], row[k], c);
			h[(size_t)m * p->h_stride + (size_t)r] = c;
		}
	}
	for (int o = 0; o < p->O; o++) {
		ol_matrix_row(row, &p->b, o);
		for (int m = 0; m < p->M; m++) {
			float c = 0.0f, *to = &y[(size_t)m * p->y_stride + (size_t)o];
			for (int r = 0; r < p->R; r++)
				c = fmaf(h[(size_t)m * p->h_stride + (size_t)r], row[r], c);
			*to = fmaf(scale, c, *to);
		}
	}
	free(row);
}

/* `cut`: row by row and panel by panel, from the last. */
static void solve(const struct ol_kernels *k, const struct problem *p, float *h, float *y, bool cut)
{
	const int panels = ol_panel_count(p->O);
	if (!cut) {
		k->lora_down(h, p->h_stride, p->x, p->x_stride, &p->a, p->M);
		k->lora_up(y, p->y_stride, h, p->h_stride, &p->b, scale, p->M, 0, panels);
		return;
	}
	for (int m = p->M - 1; m >= 0; m--)
		k->lora_down(h + (size_t)m * p->h_stride, p->h_stride,
			     p->x + (size_t)m * p->x_stride, p->x_stride, &p->a, 1);
	for (int panel = panels - 1; panel >= 0; panel--)
		k->lora_up(y, p->y_stride, h, p->h_stride, &p->b, scale, p->M, panel, panel + 1);
}

static void same(const float *got, const float *expected, size_t n, size_t stride,
		 const struct problem *p, const char *isa, const char *what)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(&got[i], &expected[i], sizeof *got) != 0) {
			print_message("%s %s %s, M %d K %d R %d O %d: [%zu][%zu] is %a, not %a\n",
				      isa, what, ol_weight_type_name(p->a.type), p->M, p->K, p->R,
				      p->O, i / stride, i % stride, (double)got[i],
				      (double)expected[i]);
			fail();
		}
}

static void check(enum ol_weight_type type, int M, int K, int R, int O)
{
	struct problem p = make_problem(type, M, K, R, O);
	const size_t hs = (size_t)M * p.h_stride, ys = (size_t)M * p.y_stride;
	float *h = copy_of(p.h, hs), *y = copy_of(p.y, ys);
	reference(&p, h, y);
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_kernels *k = ol_kernels_for((enum ol_isa)isa);
		for (int cut = 0; k && cut < 2; cut++) {
			float *h2 = copy_of(p.h, hs), *y2 = copy_of(p.y, ys);
			solve(k, &p, h2, y2, cut != 0);
			same(h2, h, hs, p.h_stride, &p, k->name, "h");
			same(y2, y, ys, p.y_stride, &p, k->name, "y");
			free(h2);
			free(y2);
		}
	}
	free(h);
	free(y);
	free_problem(&p);
}

static void test_every_table_is_the_contract(void **state)
{
	(void)state;
	static const int shapes[][3] = {
		/* K, R, O */
		{1, 1, 1},     {2, 3, 16},   {33, 8, 40},    {64, 16, 64},   {65, 17, 100},
		{128, 32, 33}, {77, 33, 90}, {256, 64, 200}, {31, 5, 129},   {100, 100, 31},
		{300, 48, 65}, {96, 40, 96}, {600, 20, 161}, {1030, 16, 34},
	};
	static const int rows[] = {1, 2, 3, 5, 6, 7, 12, 13, 16, 31, 50};
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		for (size_t m = 0; m < OL_ARRAY_LEN(rows); m++) {
			check(OL_WEIGHT_BF16, rows[m], shapes[i][0], shapes[i][1], shapes[i][2]);
			check(OL_WEIGHT_F32, rows[m], shapes[i][0], shapes[i][1], shapes[i][2]);
		}
}

/* Subnormal products are kept, unlike those of a bf16 matmul. */
static void test_subnormal_numbers_are_kept(void **state)
{
	(void)state;
	const float tiny = 0x1p-70f, x[2] = {0x1p-70f, 0.0f};
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_kernels *k = ol_kernels_for((enum ol_isa)isa);
		float h[1] = {0};
		uint16_t canonical[2];
		uint16_t panel[2 * OL_PANEL] __attribute__((aligned(64)));
		if (!k)
			continue;
		const float row[2] = {tiny, 0.0f};
		assert_true(ol_quantize_row(canonical, OL_WEIGHT_BF16, row, 2));
		ol_panels_clear(panel, OL_WEIGHT_BF16, 1, 2);
		ol_pack_rows(panel, OL_WEIGHT_BF16, 1, 2, canonical, 0, 1);
		const struct ol_matrix a = {OL_WEIGHT_BF16, 1, 2, panel};
		k->lora_down(h, 1, x, 2, &a, 1);
		assert_true(h[0] == 0x1p-140f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_table_is_the_contract),
		cmocka_unit_test(test_subnormal_numbers_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
