/* The integer matmul of every instruction set against an oracle that is written from
 * docs/ARITHMETIC.md ("Integer matmul") with plain loops over canonical rows: it knows neither
 * panels nor tiles nor the packing. All comparisons are of bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/kernels_internal.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__aarch64__)
enum { SLOW = 1 }; /* sanitised, or likely emulated: the same tests over fewer shapes */
#else
enum { SLOW = 0 };
#endif

struct isa {
	const char *name;
	int tile;
	size_t (*act_bytes)(int M, int K);
	void (*act_prepare)(void *act, const float *x, size_t x_stride, int M, int K, int row0,
			    int row1);
	void (*matmul)(float *y, size_t y_stride, const void *act, const struct ol_matrix *w, int M,
		       int panel0, int panel1);
};

#define ISA(name, NAME)                                                                            \
	{                                                                                          \
#name, OL_ACT_TILE_INT_##NAME, ol_act_bytes_int_##name, ol_act_prepare_int_##name, \
			ol_matmul_int_##name                                                       \
	}

static const struct isa isas[] = {
	ISA(scalar, SCALAR),
#if defined(__x86_64__)
	ISA(avx2, AVX2),
	ISA(avx512, AVX512),
#elif defined(__aarch64__)
	ISA(neon, NEON),
#endif
};

static bool isa_runs(const struct isa *isa)
{
#if defined(__x86_64__)
	if (strcmp(isa->name, "avx2") == 0)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	if (strcmp(isa->name, "avx512") == 0)
		return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
	return isa != NULL;
}

static const enum ol_weight_type types[] = {OL_WEIGHT_Q8, OL_WEIGHT_Q4, OL_WEIGHT_NF4};

/* --- The oracle ----------------------------------------------------------------------------- */

/* NF4 levels as the contract lists them; deliberately not ol_nf4_levels. */
static const int nf4[16] = {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127};

static float half_float(const uint8_t *p)
{
	const int h = p[0] + 256 * p[1], exponent = h >> 10 & 31, fraction = h & 1023;
	const double magnitude =
		exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
	return (float)(h & 0x8000 ? -magnitude : magnitude);
}

static int weight_code(const uint8_t *block, enum ol_weight_type type, int i)
{
	if (type == OL_WEIGHT_Q8)
		return block[2 + i] >= 128 ? block[2 + i] - 256 : block[2 + i];
	const int nibble = i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4;
	return type == OL_WEIGHT_Q4 ? nibble - 8 : nf4[nibble];
}

static float oracle(const float *x, const uint8_t *row, enum ol_weight_type type, int K)
{
	float c = 0;
	for (int k0 = 0; k0 < K; k0 += 32) {
		const int n = K - k0 < 32 ? K - k0 : 32;
		const uint8_t *block = row + k0 / 32 * (type == OL_WEIGHT_Q8 ? 34 : 18);
		float m = 0, sa = 0, inverse = 0;
		for (int i = 0; i < n; i++)
			m = fabsf(x[k0 + i]) > m ? fabsf(x[k0 + i]) : m;
		if (m >= 0x1p-100f) {
			sa = m / 127.0f;
			inverse = 127.0f / m;
		}
		int sum = 0;
		for (int i = 0; i < n; i++)
			sum += (int)rintf(x[k0 + i] * inverse) * weight_code(block, type, i);
		const float scale = sa * half_float(block);
		c = fmaf((float)sum, scale, c);
	}
	return c;
}

/* --- Cases ---------------------------------------------------------------------------------- */

struct problem {
	enum ol_weight_type type;
	int M, K, O;
	float *x;        /* (M,K)                       */
	uint8_t *rows;   /* O canonical rows            */
	uint8_t *panels; /* the same, packed            */
	float *y;        /* (M,O), what the oracle says */
};

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

static void *need(size_t bytes)
{
	void *p = NULL;
	if (posix_memalign(&p, 64, bytes ? bytes : 64))
		abort();
	return p;
}

static void problem_init(struct problem *p, enum ol_weight_type type, int M, int K, int O)
{
	*p = (struct problem){.type = type, .M = M, .K = K, .O = O};
	const size_t row = ol_canonical_row_bytes(type, K);
	p->x = need((size_t)M * (size_t)K * sizeof *p->x);
	p->rows = need((size_t)O * row);
	p->panels = need(ol_panels_bytes(type, O, K));
	p->y = need((size_t)M * (size_t)O * sizeof *p->y);
	for (int i = 0; i < M * K; i++)
		p->x[i] = noise() * (i % 7 == 0 ? 10 : 1);
	for (size_t i = 0; i < (size_t)O * row; i++)
		p->rows[i] = (uint8_t)(random_bits() >> 11);
	/* Every code occurs, -128 too; scales are finite: both signs, subnormal and large. */
	const size_t block = type == OL_WEIGHT_Q8 ? 34 : 18;
	for (size_t at = 1; at < (size_t)O * row; at += block)
		if ((p->rows[at] & 0x7c) == 0x7c)
			p->rows[at] ^= 0x10;
}

/* Fills panels and the oracle's answer, after x and rows are as the test wants them. */
static void problem_solve(struct problem *p)
{
	ol_panels_clear(p->panels, p->type, p->O, p->K);
	ol_pack_rows(p->panels, p->type, p->O, p->K, p->rows, 0, p->O);
	const size_t row = ol_canonical_row_bytes(p->type, p->K);
	for (int m = 0; m < p->M; m++)
		for (int o = 0; o < p->O; o++)
			p->y[m * p->O + o] = oracle(p->x + (size_t)m * (size_t)p->K,
						    p->rows + (size_t)o * row, p->type, p->K);
}

static void problem_release(struct problem *p)
{
	free(p->x);
	free(p->rows);
	free(p->panels);
	free(p->y);
}

static void fail_at(const struct isa *isa, const struct problem *p, int M, int O, int m, int o)
{
	fail_msg("%s %s, M %d K %d O %d: wrong at row %d output %d", isa->name,
		 ol_weight_type_name(p->type), M, p->K, O, m, o);
}

/* Multiplies the first M rows by the first O outputs, panels cut at `cut`, into a y whose other
 * cells must not change, and compares with the oracle. */
static void check(const struct isa *isa, const struct problem *p, const void *act, int M, int O,
		  int cut)
{
	const uint32_t untouched = 0x7fc0beef; /* a NaN that no kernel makes */
	const size_t stride = (size_t)O + 5;
	const struct ol_matrix w = {p->type, O, p->K, p->panels};
	float *y = need((size_t)(M + 1) * stride * sizeof *y);
	for (size_t i = 0; i < (size_t)(M + 1) * stride; i++)
		memcpy(y + i, &untouched, sizeof untouched);
	isa->matmul(y, stride, act, &w, M, 0, cut);
	isa->matmul(y, stride, act, &w, M, cut, ol_panel_count(O));
	for (int m = 0; m <= M; m++) {
		if (m < M && memcmp(y + (size_t)m * stride, p->y + m * p->O, (size_t)O * 4) != 0) {
			for (int o = 0; o < O; o++)
				if (memcmp(y + (size_t)m * stride + o, p->y + m * p->O + o, 4))
					fail_at(isa, p, M, O, m, o);
		}
		for (size_t o = m < M ? (size_t)O : 0; o < stride; o++)
			if (memcmp(y + (size_t)m * stride + o, &untouched, 4))
				fail_at(isa, p, M, O, m, (int)o);
	}
	free(y);
}

/* The activations of rows [0,M), made ready in two halves where there are two tiles. */
static void *prepared(const struct isa *isa, const struct problem *p, int M)
{
	void *act = need(isa->act_bytes(M, p->K));
	const int middle = M / 2 / isa->tile * isa->tile;
	memset(act, 0xee, isa->act_bytes(M, p->K));
	isa->act_prepare(act, p->x, (size_t)p->K, M, p->K, middle, M);
	isa->act_prepare(act, p->x, (size_t)p->K, M, p->K, 0, middle);
	return act;
}

static void check_all(const struct problem *p)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(isas); i++) {
		if (!isa_runs(&isas[i]))
			continue;
		void *act = prepared(&isas[i], p, p->M);
		check(&isas[i], p, act, p->M, p->O, ol_panel_count(p->O) / 2);
		free(act);
	}
}

/* --- Tests ---------------------------------------------------------------------------------- */

enum { M_MAX = 20, K_MAX = 100, O_MAX = 70 };

/* Where shapes are thinned out: outputs at the edges of registers and panels, K at those of
 * blocks. */
static bool at_an_edge(int K, int M, int O)
{
	const int o = O % 32;
	return (o <= 1 || o == 7 || o == 9 || (o >= 15 && o <= 17) || o == 31 || O == O_MAX) &&
	       (K % 32 <= 2 || K % 32 >= 30) && (M < 8 || M == M_MAX);
}

/* Every M to 20 with every K to 100 and every O to 70. The results of
 * a smaller shape are a corner of the largest one's, because no result depends on the shape. */
static void every_small_shape(void **state)
{
	(void)state;
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++)
		for (int K = 1; K <= K_MAX; K++) {
			struct problem p;
			problem_init(&p, types[t], M_MAX, K, O_MAX);
			problem_solve(&p);
			for (size_t i = 0; i < OL_ARRAY_LEN(isas); i++)
				for (int M = 1; isa_runs(&isas[i]) && M <= M_MAX; M++) {
					void *act = prepared(&isas[i], &p, M);
					for (int O = 1; O <= O_MAX; O++)
						if (!(SLOW || i == 0) || at_an_edge(K, M, O))
							check(&isas[i], &p, act, M, O,
							      ol_panel_count(O) / 2);
					free(act);
				}
			problem_release(&p);
		}
}

/* Many tiles, many groups of rows, several chunks of K, ragged ends. */
static void larger_shapes(void **state)
{
	static const int shapes[][3] = {{1, 1700, 130}, {6, 1024, 96},  {7, 1025, 64},
					{13, 543, 97},  {33, 2049, 33}, {96, 512, 40},
					{97, 700, 33},  {131, 320, 65}, {300, 96, 32}};
	(void)state;
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++)
		for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++) {
			struct problem p;
			problem_init(&p, types[t], shapes[i][0], shapes[i][1], shapes[i][2]);
			problem_solve(&p);
			check_all(&p);
			problem_release(&p);
		}
}

/* Sums at both ends of their range: any step that saturates, wraps or rounds shows. */
static void extreme_codes(void **state)
{
	static const uint8_t q8[] = {0x7f, 0x81, 0x80, 0xff, 0x00}; /* 127 -127 -128 -1 0 */
	static const uint8_t q4[] = {0x00, 0xff, 0x0f, 0xf0, 0x88};
	(void)state;
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++)
		for (int sign = 0; sign < 4; sign++) {
			struct problem p;
			problem_init(&p, types[t], 13, 96, 40);
			const size_t block = types[t] == OL_WEIGHT_Q8 ? 34 : 18;
			const size_t bytes = (size_t)p.O * ol_canonical_row_bytes(p.type, p.K);
			for (int i = 0; i < p.M * p.K; i++)
				p.x[i] = sign == 0                ? 3.0f
					 : sign == 1              ? -3.0f
					 : sign == 2 && i % 2     ? 3.0f
					 : sign == 3 && i / 4 % 2 ? 3.0f
								  : -3.0f;
			for (size_t at = 0; at < bytes; at += block) {
				const size_t pick = at / block % 5;
				p.rows[at] = 0x00; /* 1.0 */
				p.rows[at + 1] = 0x3c;
				memset(p.rows + at + 2,
				       types[t] == OL_WEIGHT_Q8 ? q8[pick] : q4[pick], block - 2);
			}
			problem_solve(&p);
			check_all(&p);
			problem_release(&p);
		}
}

/* Zero rows, rows at the threshold 2^-100, huge rows, and single outliers. */
static void extreme_activations(void **state)
{
	static const float sizes[] = {0,        0x1p-149f, 0x1.fffffep-101f, 0x1p-100f, 0x1p-99f,
				      0x1p-60f, 1,         0x1p60f,          0x1p100f};
	(void)state;
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++) {
		struct problem p;
		problem_init(&p, types[t], 3 * (int)OL_ARRAY_LEN(sizes), 80, 33);
		for (int m = 0; m < p.M; m++)
			for (int k = 0; k < p.K; k++) {
				float *x = p.x + m * p.K + k;
				const float size = sizes[(size_t)m / 3];
				*x = m % 3 == 0   ? size * noise()
				     : m % 3 == 1 ? (k % 2 ? size : -size)
				     : k == 70    ? -size
						  : 0.0f;
			}
		problem_solve(&p);
		check_all(&p);
		problem_release(&p);
	}
}

/* A row of numbers and the codes that the contract gives them (m = 127, so code = rne(x)). */
static void codes_round_half_to_even(void **state)
{
	static const struct {
		float x;
		float code;
	} rows[] = {{127, 127}, {-127, -127}, {0.5f, 0},        {1.5f, 2},        {2.5f, 2},
		    {-0.5f, 0}, {-1.5f, -2},  {-2.5f, -2},      {126.5f, 126},    {125.5f, 126},
		    {0, 0},     {-0.0f, 0},   {0.49999997f, 0}, {0.50000006f, 1}, {1e-30f, 0}};
	enum { N = OL_ARRAY_LEN(rows) };
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(isas); i++) {
		if (!isa_runs(&isas[i]))
			continue;
		/* Output o picks element o: code 1, scale 1; and sa = 127/127. */
		uint8_t canonical[34 * N] = {0};
		float x[N], y[N];
		for (size_t o = 0; o < N; o++) {
			x[o] = rows[o].x;
			canonical[34 * o + 1] = 0x3c;
			canonical[34 * o + 2 + o] = 1;
		}
		uint8_t *panels = need(ol_panels_bytes(OL_WEIGHT_Q8, N, N));
		void *act = need(isas[i].act_bytes(1, N));
		const struct ol_matrix w = {OL_WEIGHT_Q8, N, N, panels};
		ol_panels_clear(panels, OL_WEIGHT_Q8, N, N);
		ol_pack_rows(panels, OL_WEIGHT_Q8, N, N, canonical, 0, N);
		isas[i].act_prepare(act, x, N, 1, N, 0, 1);
		isas[i].matmul(y, N, act, &w, 1, 0, 1);
		for (size_t o = 0; o < N; o++)
			if (y[o] != rows[o].code)
				fail_msg("%s: %.9g became %g, not %g", isas[i].name, (double)x[o],
					 (double)y[o], (double)rows[o].code);
		free(panels);
		free(act);
	}
}

/* A NaN or an infinity, a caller's error, is never hidden: the row's result is not finite. */
static void non_finite_shows(void **state)
{
	const float bad[] = {NAN, INFINITY, -INFINITY};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(isas); i++)
		for (size_t b = 0; isa_runs(&isas[i]) && b < OL_ARRAY_LEN(bad); b++) {
			struct problem p;
			float y[2 * 32];
			problem_init(&p, OL_WEIGHT_Q8, 2, 64, 32);
			problem_solve(&p);
			p.x[64 + 37] = bad[b];
			void *act = prepared(&isas[i], &p, 2);
			const struct ol_matrix w = {p.type, 32, 64, p.panels};
			isas[i].matmul(y, 32, act, &w, 2, 0, 1);
			for (int o = 0; o < 32; o++) {
				assert_true(isfinite(y[o]));
				assert_false(isfinite(y[32 + o]));
			}
			free(act);
			problem_release(&p);
		}
}

int main(void)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(isas); i++)
		if (!isa_runs(&isas[i]))
			printf("skipped on this machine: %s\n", isas[i].name);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_small_shape),
		cmocka_unit_test(larger_shapes),
		cmocka_unit_test(extreme_codes),
		cmocka_unit_test(extreme_activations),
		cmocka_unit_test(codes_round_half_to_even),
		cmocka_unit_test(non_finite_shows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
