/* f32 and bf16 matmul: every instruction set equals the scalar specification bit for bit, at every
 * shape, however the rows and panels are cut; and wrong definitions would be noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/bf16_fma.h"
#include "math/kernels_internal.h"

struct variant {
	const char *name;
	enum ol_weight_type type;
	size_t (*act_bytes)(int M, int K);
	void (*act_prepare)(void *act, const float *x, size_t x_stride, int M, int K, int row0,
			    int row1);
	void (*matmul)(float *y, size_t y_stride, const void *act, const struct ol_matrix *w, int M,
		       int panel0, int panel1);
};

#define VARIANT(TYPE, kind, isa)                                                                   \
	{                                                                                          \
#kind " " #isa, TYPE, ol_act_bytes_##kind##_##isa, ol_act_prepare_##kind##_##isa,  \
			ol_matmul_##kind##_##isa                                                   \
	}

static const struct variant reference[2] = {
	VARIANT(OL_WEIGHT_F32, f32, scalar),
	VARIANT(OL_WEIGHT_BF16, bf16, scalar),
};

static struct variant variants[8];
static int variant_count;

static void find_variants(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
		variants[variant_count++] = (struct variant)VARIANT(OL_WEIGHT_F32, f32, avx2);
		variants[variant_count++] = (struct variant)VARIANT(OL_WEIGHT_BF16, bf16, avx2);
	}
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	    __builtin_cpu_supports("avx512dq")) {
		variants[variant_count++] = (struct variant)VARIANT(OL_WEIGHT_F32, f32, avx512);
		variants[variant_count++] = (struct variant)VARIANT(OL_WEIGHT_BF16, bf16, avx512);
	}
	if (__builtin_cpu_supports("avx512bf16"))
		variants[variant_count++] =
			(struct variant)VARIANT(OL_WEIGHT_BF16, bf16, avx512bf16);
#elif defined(__aarch64__)
	variants[variant_count++] = (struct variant)VARIANT(OL_WEIGHT_F32, f32, neon);
	variants[variant_count++] = (struct variant)VARIANT(OL_WEIGHT_BF16, bf16, neon);
#endif
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static float random_float(void)
{
	return (float)(int32_t)random_bits() * 0x1p-31f;
}

/* Numbers whose products and sums fall around 2^-126, where flushing decides. */
static float tiny_float(void)
{
	const float sign = random_bits() & 1 ? -1.0f : 1.0f;
	switch (random_bits() % 8) {
	case 0: return sign * 0.0f;
	case 1: return sign * ldexpf(1.0f, -126);
	case 2: return sign * ldexpf((float)(1 + random_bits() % 127), -133); /* a subnormal bf16 */
	case 3: return sign;
	default:
		return sign * ldexpf((float)(128 + random_bits() % 128),
				     -7 - 60 - (int)(random_bits() % 24));
	}
}

static void *aligned(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
	assert_non_null(p);
	return p;
}

struct problem {
	int M, K, O;
	size_t x_stride, y_stride;
	float *x;
	struct ol_matrix w;
	void *panels;
};

static struct problem make_problem(enum ol_weight_type type, int M, int K, int O,
				   float (*number)(void))
{
	struct problem p = {.M = M, .K = K, .O = O};
	p.x_stride = (size_t)K + 3;
	p.y_stride = (size_t)O + 5;
	p.x = aligned((size_t)M * p.x_stride * sizeof(float));
	for (size_t i = 0; i < (size_t)M * p.x_stride; i++)
		p.x[i] = number();
	p.panels = aligned(ol_panels_bytes(type, O, K));
	ol_panels_clear(p.panels, type, O, K);
	float *row = aligned((size_t)K * sizeof(float));
	void *canonical = aligned(ol_canonical_row_bytes(type, K));
	for (int o = 0; o < O; o++) {
		for (int k = 0; k < K; k++)
			row[k] = number();
		assert_true(ol_quantize_row(canonical, type, row, K));
		ol_pack_rows(p.panels, type, O, K, canonical, o, 1);
	}
	free(row);
	free(canonical);
	p.w = (struct ol_matrix){type, O, K, p.panels};
	return p;
}

static void free_problem(struct problem *p)
{
	free(p->x);
	free(p->panels);
}

/* y as the variant computes it; `cut` prepares and multiplies in pieces. */
static float *solve(const struct variant *v, const struct problem *p, bool cut)
{
	const size_t bytes = v->act_bytes(p->M, p->K);
	char *act = aligned(bytes);
	float *y = aligned((size_t)p->M * p->y_stride * sizeof(float));
	const int panels = ol_panel_count(p->O);
	memset(act + bytes, 0x5a, 64);
	for (size_t i = 0; i < (size_t)p->M * p->y_stride; i++)
		y[i] = 12345.0f;
	if (cut) {
		for (int row = 0; row < p->M; row += 48)
			v->act_prepare(act, p->x, p->x_stride, p->M, p->K, row,
				       OL_MIN(row + 48, p->M));
		for (int panel = panels - 1; panel >= 0; panel--)
			v->matmul(y, p->y_stride, act, &p->w, p->M, panel, panel + 1);
	} else {
		v->act_prepare(act, p->x, p->x_stride, p->M, p->K, 0, p->M);
		v->matmul(y, p->y_stride, act, &p->w, p->M, 0, panels);
	}
	for (int i = 0; i < 64; i++)
		assert_int_equal(act[bytes + (size_t)i], 0x5a);
	free(act);
	return y;
}

static void compare(const struct variant *v, const struct problem *p, const float *expected)
{
	for (int cut = 0; cut < 2; cut++) {
		float *y = solve(v, p, cut != 0);
		for (size_t i = 0; i < (size_t)p->M * p->y_stride; i++)
			if (memcmp(&y[i], &expected[i], sizeof *y) != 0) {
				print_message("%s M %d K %d O %d cut %d: y[%zu][%zu] is %a, not "
					      "%a\n",
					      v->name, p->M, p->K, p->O, cut, i / p->y_stride,
					      i % p->y_stride, (double)y[i], (double)expected[i]);
				fail();
			}
		free(y);
	}
}

static void check(int M, int K, int O, float (*number)(void))
{
	for (int r = 0; r < 2; r++) {
		struct problem p = make_problem(reference[r].type, M, K, O, number);
		float *expected = solve(&reference[r], &p, false);
		for (int i = 0; i < variant_count; i++)
			if (variants[i].type == reference[r].type)
				compare(&variants[i], &p, expected);
		free(expected);
		free_problem(&p);
	}
}

static void test_every_small_shape(void **state)
{
	(void)state;
	static const int Ks[] = {1, 2, 3, 31, 32, 33};
	static const int Os[] = {1, 15, 16, 17, 31, 32, 33, 48, 64, 100, 129, 160};
	for (int M = 1; M <= 27; M++)
		for (size_t k = 0; k < OL_ARRAY_LEN(Ks); k++)
			for (size_t o = ((size_t)M + k) % 3; o < OL_ARRAY_LEN(Os); o += 3)
				check(M, Ks[k], Os[o], random_float);
}

static void test_bigger_shapes_cross_every_block(void **state)
{
	(void)state;
	static const int shapes[][3] = {
		{48, 257, 40},  {49, 512, 33},  {61, 513, 70}, {97, 255, 32},  {100, 1030, 17},
		{150, 300, 33}, {13, 2050, 64}, {1, 4096, 96}, {2, 1025, 130},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		check(shapes[i][0], shapes[i][1], shapes[i][2], random_float);
}

static void test_numbers_around_the_smallest_normal(void **state)
{
	(void)state;
	for (int i = 0; i < 60; i++)
		check(1 + i % 14, 1 + i % 9, 64, tiny_float);
}

/* The order and the flushing of one bf16 pair, written out by hand. */
static void test_bf16_pairs_as_a_specification(void **state)
{
	(void)state;
	struct row {
		const char *rule;
		float x0, x1, w0, w1, y;
	};
	static const struct row rows[] = {
		{"activations round to the nearest even bf16", 0x1.01p+0f, 0, 1, 0, 1.0f},
		{"and up from above the middle", 0x1.0102p+0f, 0, 1, 0, 0x1.02p+0f},
		{"the odd element enters first: its small product is swallowed by the even one",
		 0x1p+0f, 0x1p-25f, 1, 1, 1.0f},
		{"a subnormal input is zero", 0x1p-130f, 1, 0x1p+120f, 0x1p-3f, 0x1p-3f},
		{"a subnormal sum becomes zero", 0x1p-100f, 0, 0x1p-30f, 0, 0.0f},
		{"a negative one becomes minus zero", -0x1p-100f, 0, 0x1p-30f, 0, -0.0f},
		{"and is lost to what follows", 0x1p-126f, 0x1p-100f, 1, 0x1p-30f, 0x1p-126f},
		{"tininess is judged before a subnormal grid could round up to 2^-126", -0x1.9p-76f,
		 0x1p-126f, 0x1p-75f, 1, 0.0f},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const float x[2] = {rows[i].x0, rows[i].x1}, w[2] = {rows[i].w0, rows[i].w1};
		uint16_t canonical[2];
		uint16_t panels[2 * OL_PANEL] __attribute__((aligned(64)));
		assert_true(ol_quantize_row(canonical, OL_WEIGHT_BF16, w, 2));
		ol_panels_clear(panels, OL_WEIGHT_BF16, 1, 2);
		ol_pack_rows(panels, OL_WEIGHT_BF16, 1, 2, canonical, 0, 1);
		struct problem p = {.M = 1, .K = 2, .O = 1, .x_stride = 2, .y_stride = 1};
		p.x = (float *)x;
		p.w = (struct ol_matrix){OL_WEIGHT_BF16, 1, 2, panels};
		for (int v = -1; v < variant_count; v++) {
			const struct variant *variant = v < 0 ? &reference[1] : &variants[v];
			if (variant->type != OL_WEIGHT_BF16)
				continue;
			float *y = solve(variant, &p, false);
			if (memcmp(y, &rows[i].y, sizeof *y) != 0) {
				print_message("%s: %s: %a, not %a\n", variant->name, rows[i].rule,
					      (double)*y, (double)rows[i].y);
				fail();
			}
			free(y);
		}
	}
}

/* --- mutants: each is a plausible other definition; equality must not hold for it ------------- */

typedef float chain_fn(const float *a, const float *w, int K);

static float chain_right(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k++)
		c = fmaf(a[k], w[k], c);
	return c;
}

static float mutant_split_k(const float *a, const float *w, int K)
{
	const int half = K / 2;
	return chain_right(a, w, half) + chain_right(a + half, w + half, K - half);
}

static float mutant_two_roundings(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k++) {
		const float product = a[k] * w[k];
		c += product;
	}
	return c;
}

static float mutant_descending(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = K - 1; k >= 0; k--)
		c = fmaf(a[k], w[k], c);
	return c;
}

static float mutant_tree_of_chunks(const float *a, const float *w, int K)
{
	float part[4];
	for (int i = 0; i < 4; i++)
		part[i] = chain_right(a + i * K / 4, w + i * K / 4, (i + 1) * K / 4 - i * K / 4);
	return (part[0] + part[2]) + (part[1] + part[3]);
}

static float mutant_lanes_across_k(const float *a, const float *w, int K)
{
	float lane[16] = {0};
	for (int k = 0; k < K; k++)
		lane[k % 16] = fmaf(a[k], w[k], lane[k % 16]);
	for (int half = 8; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

static float rounded(float x)
{
	return ol_bf16_to_f32(ol_f32_to_bf16(x));
}

static float bf16_right(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k += 2) {
		c = ol_fma_flushed(rounded(a[k + 1]), rounded(w[k + 1]), c);
		c = ol_fma_flushed(rounded(a[k]), rounded(w[k]), c);
	}
	return c;
}

static float mutant_bf16_even_first(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k++)
		c = ol_fma_flushed(rounded(a[k]), rounded(w[k]), c);
	return c;
}

static float mutant_bf16_unrounded_activations(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k += 2) {
		c = ol_fma_flushed(a[k + 1], rounded(w[k + 1]), c);
		c = ol_fma_flushed(a[k], rounded(w[k]), c);
	}
	return c;
}

static float mutant_bf16_pair_summed_first(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k += 2) {
		const float pair =
			fmaf(rounded(a[k]), rounded(w[k]), rounded(a[k + 1]) * rounded(w[k + 1]));
		c += pair;
	}
	return c;
}

/* The flush that looks at the IEEE result: the design's first rule, which hardware contradicts. */
static float flush_after(float x)
{
	return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static float mutant_bf16_flush_after_rounding(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k += 2) {
		c = flush_after(
			fmaf(flush_after(rounded(a[k + 1])), flush_after(rounded(w[k + 1])), c));
		c = flush_after(fmaf(flush_after(rounded(a[k])), flush_after(rounded(w[k])), c));
	}
	return c;
}

static float bf16_right_flushed_inputs(const float *a, const float *w, int K)
{
	float c = 0.0f;
	for (int k = 0; k < K; k += 2) {
		c = ol_fma_flushed(flush_after(rounded(a[k + 1])), flush_after(rounded(w[k + 1])),
				   c);
		c = ol_fma_flushed(flush_after(rounded(a[k])), flush_after(rounded(w[k])), c);
	}
	return c;
}

/* How many of the outputs of a matmul differ from what `chain` says. */
static int differences(enum ol_weight_type type, int K, chain_fn *chain, float (*number)(void))
{
	enum { M = 5, O = 40 };
	const struct variant *v = &reference[type == OL_WEIGHT_BF16];
	struct problem p = make_problem(type, M, K, O, number);
	float *y = solve(v, &p, false), *w = aligned((size_t)K * sizeof *w);
	int count = 0;
	for (int o = 0; o < O; o++) {
		ol_matrix_row(w, &p.w, o);
		for (int m = 0; m < M; m++) {
			const float c = chain(p.x + (size_t)m * p.x_stride, w, K);
			count += memcmp(&c, &y[(size_t)m * p.y_stride + (size_t)o], sizeof c) != 0;
		}
	}
	free(w);
	free(y);
	free_problem(&p);
	return count;
}

static void test_mutants_are_caught(void **state)
{
	(void)state;
	struct row {
		const char *name;
		enum ol_weight_type type;
		chain_fn *chain;
		float (*number)(void);
		bool right;
	};
	static const struct row rows[] = {
		{"f32 as specified", OL_WEIGHT_F32, chain_right, random_float, true},
		{"split k", OL_WEIGHT_F32, mutant_split_k, random_float, false},
		{"two roundings", OL_WEIGHT_F32, mutant_two_roundings, random_float, false},
		{"descending k", OL_WEIGHT_F32, mutant_descending, random_float, false},
		{"tree over chunks", OL_WEIGHT_F32, mutant_tree_of_chunks, random_float, false},
		{"lanes across k", OL_WEIGHT_F32, mutant_lanes_across_k, random_float, false},
		{"bf16 as specified", OL_WEIGHT_BF16, bf16_right, random_float, true},
		{"bf16 as specified, tiny", OL_WEIGHT_BF16, bf16_right_flushed_inputs, tiny_float,
		 true},
		{"even first", OL_WEIGHT_BF16, mutant_bf16_even_first, random_float, false},
		{"unrounded activations", OL_WEIGHT_BF16, mutant_bf16_unrounded_activations,
		 random_float, false},
		{"pair summed first", OL_WEIGHT_BF16, mutant_bf16_pair_summed_first, random_float,
		 false},
		{"flush after rounding", OL_WEIGHT_BF16, mutant_bf16_flush_after_rounding,
		 tiny_float, false},
		{"subnormal inputs kept", OL_WEIGHT_BF16, bf16_right, tiny_float, false},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		int count = 0;
		for (int round = 0; round < 40; round++)
			count += differences(rows[i].type, rows[i].number == tiny_float ? 6 : 64,
					     rows[i].chain, rows[i].number);
		if ((count == 0) != rows[i].right) {
			print_message("%s: %d differences\n", rows[i].name, count);
			fail();
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_small_shape),
		cmocka_unit_test(test_bigger_shapes_cross_every_block),
		cmocka_unit_test(test_numbers_around_the_smallest_normal),
		cmocka_unit_test(test_bf16_pairs_as_a_specification),
		cmocka_unit_test(test_mutants_are_caught),
	};
	find_variants();
	for (int i = 0; i < variant_count; i++)
		print_message("compared with scalar: %s\n", variants[i].name);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
