/* The backward kernels on one core: matmul_dx by weight type and matmul_dw beside OpenBLAS's sgemm
 * of the same shape where the machine has it (loaded at run time, never linked), LoRA's matrices,
 * attention and what works element by element. Times are processor time of the thread and the best
 * of many rounds in which the programs take turns, since the machine may be shared.
 *
 *     bench_gradients [seconds per figure [avx512|avx2|neon|scalar]] */
#include "base/arena.h"
#include "base/clock.h"
#include "math/gradients.h"
#include "math/peak.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 512, SIDE_MAX = 4096, RANK_MAX = 64, VOCABULARY = 32000 };

static double seconds_per_figure = 0.5;

/* cblas_sgemm with its enums as ints: row-major 101, no transposition 111, transposed 112. */
typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
		      const float *a, int lda, const float *b, int ldb, float beta, float *c,
		      int ldc);

static sgemm_fn *open_blas(void)
{
	void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	sgemm_fn *sgemm = NULL;
	void (*set_threads)(int) = NULL;
	char *(*core_name)(void) = NULL;
	if (!library) {
		printf("OpenBLAS is not installed: no comparison\n");
		return NULL;
	}
	*(void **)&sgemm = dlsym(library, "cblas_sgemm");
	*(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
	*(void **)&core_name = dlsym(library, "openblas_get_corename");
	if (!sgemm || !set_threads)
		return NULL;
	set_threads(1);
	/* An OpenBLAS older than the processor falls back to slow kernels; then set
	 * OPENBLAS_CORETYPE=SkylakeX. */
	printf("OpenBLAS, one thread, runs its kernels for: %s\n",
	       core_name ? core_name() : "(unknown)");
	return sgemm;
}

static void *need(size_t bytes)
{
	void *block = ol_block_alloc(bytes);
	if (!block) {
		fprintf(stderr, "bench_gradients: no memory for %zu MB\n", bytes >> 20);
		exit(1);
	}
	return block;
}

static void noise(float *x, size_t n)
{
	uint32_t state = 1;
	for (size_t i = 0; i < n; i++) {
		state = state * 1664525 + 1013904223;
		x[i] = (float)(int32_t)state * 0x1p-31f;
	}
}

struct bench {
	const struct ol_kernels *kernels;
	const struct ol_gradients *gradients;
	sgemm_fn *sgemm;
	float *x, *dy, *dx, *dw, *scratch;
	float *weights; /* row-major, for OpenBLAS */
	void *panels[OL_WEIGHT_TYPES];
};

static void pack(void *panels, enum ol_weight_type type, const float *weights, int O, int K)
{
	static float canonical[SIDE_MAX];
	ol_panels_clear(panels, type, O, K);
	for (int o = 0; o < O; o++) {
		if (!ol_quantize_row(canonical, type, weights + (size_t)o * (size_t)K, K))
			exit(1);
		ol_pack_rows(panels, type, O, K, canonical, o, 1);
	}
}

/* Seconds of one call, the shortest so far. */
#define TAKE(best, call)                                                                           \
	do {                                                                                       \
		const double start_ = ol_clock_thread_seconds();                                   \
		call;                                                                              \
		best = OL_MIN(best, ol_clock_thread_seconds() - start_);                           \
	} while (0)

/* Programs take turns for `figures` figures' time. */
#define FOR_A_WHILE(figures)                                                                       \
	for (double end_ = ol_clock_thread_seconds() + (figures)*seconds_per_figure;               \
	     ol_clock_thread_seconds() < end_;)

static void bench_matrices(const struct bench *b, int M, int K, int O)
{
	static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16, OL_WEIGHT_Q8,
						    OL_WEIGHT_NF4};
	const struct ol_gradients *g = b->gradients;
	double dx[OL_ARRAY_LEN(types)], dw = 1e9, blas_dx = 1e9, blas_dw = 1e9;
	const double gflop = 2e-9 * M * K * O;

	noise(b->weights, (size_t)K * (size_t)O);
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++) {
		pack(b->panels[types[t]], types[t], b->weights, O, K);
		dx[t] = 1e9;
	}
	memset(b->dw, 0, (size_t)K * (size_t)O * sizeof(float));
	FOR_A_WHILE(6)
	{
		for (size_t t = 0; t < OL_ARRAY_LEN(types); t++) {
			const struct ol_matrix w = {types[t], O, K, b->panels[types[t]]};
			TAKE(dx[t], g->matmul_dx(b->dx, (size_t)K, b->dy, (size_t)O, &w, M, 0, K,
						 false, b->scratch));
		}
		TAKE(dw, g->matmul_dw(b->dw, b->dy, (size_t)O, b->x, (size_t)K, M, 0, O, K));
		if (!b->sgemm)
			continue;
		TAKE(blas_dx, b->sgemm(101, 111, 111, M, K, O, 1.0f, b->dy, O, b->weights, K, 0.0f,
				       b->dx, K));
		TAKE(blas_dw,
		     b->sgemm(101, 112, 111, O, K, M, 1.0f, b->dy, O, b->x, K, 1.0f, b->dw, K));
	}
	printf("  %4d %5d %5d |", M, K, O);
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++)
		printf(" %6.1f", gflop / dx[t]);
	printf(" | %6.1f |", gflop / dw);
	if (b->sgemm)
		printf(" %6.1f %6.1f | dx %.3f .. %.3f  dw %.3f", gflop / blas_dx, gflop / blas_dw,
		       blas_dx / dx[0], blas_dx / dx[3], blas_dw / dw);
	printf("\n");
	fflush(stdout);
}

/* The six products of a LoRA pair: h and y forward, dB, dh, dA, dx backward. */
static void bench_lora(const struct bench *b, int M, int K, int O, int R)
{
	const struct ol_gradients *g = b->gradients;
	double t[6] = {1e9, 1e9, 1e9, 1e9, 1e9, 1e9};
	float *h = b->weights, *dh = h + ROWS_MAX * RANK_MAX;
	const struct ol_matrix A = {OL_WEIGHT_F32, R, K, b->panels[OL_WEIGHT_F32]};
	const struct ol_matrix B = {OL_WEIGHT_F32, O, R,
				    (char *)b->panels[OL_WEIGHT_F32] +
					    ol_panels_bytes(OL_WEIGHT_F32, RANK_MAX, SIDE_MAX)};

	pack((void *)A.panels, OL_WEIGHT_F32, b->x, R, K);
	pack((void *)B.panels, OL_WEIGHT_F32, b->x, O, R);
	memset(b->dw, 0, (size_t)RANK_MAX * 2 * SIDE_MAX * sizeof(float));
	noise(b->dx, (size_t)M * (size_t)K);
	FOR_A_WHILE(2)
	{
		TAKE(t[0], b->kernels->lora_down(h, (size_t)R, b->x, (size_t)K, &A, M));
		TAKE(t[1], b->kernels->lora_up(b->dx, (size_t)O, h, (size_t)R, &B, 2.0f, M, 0,
					       ol_panel_count(O)));
		TAKE(t[2], g->matmul_dw(b->dw, b->dy, (size_t)O, h, (size_t)R, M, 0, O, R));
		TAKE(t[3],
		     g->matmul_dx(dh, (size_t)R, b->dy, (size_t)O, &B, M, 0, R, false, b->scratch));
		TAKE(t[4], g->matmul_dw(b->dw + SIDE_MAX * RANK_MAX, dh, (size_t)R, b->x, (size_t)K,
					M, 0, R, K));
		TAKE(t[5],
		     g->matmul_dx(b->dx, (size_t)K, dh, (size_t)R, &A, M, 0, K, true, b->scratch));
	}
	printf("  %4d %5d %5d %4d |", M, K, O, R);
	for (int i = 0; i < 6; i++)
		printf(" %6.1f", 2e-9 * M * R * (i == 0 || i > 3 ? K : O) / t[i]);
	printf("\n");
	fflush(stdout);
}

static void bench_attention(const struct bench *b, int T, int d, int group)
{
	const struct ol_attention a = {OL_KV_F32, d, group, 0, 0.125f, 0.0f};
	const size_t width = (size_t)group * (size_t)d;
	const size_t scratch_bytes = b->gradients->attention_dx_scratch(&a, T) * sizeof(float);
	float *scratch = need(scratch_bytes);
	double best = 1e9;
	FOR_A_WHILE(1)
	{
		TAKE(best,
		     b->gradients->attention_dx(b->dx, b->dw, b->dw + T * d, b->x, b->x, b->x, b->x,
						b->dy, width, (size_t)d, &a, T, scratch));
	}
	/* Five products of d multiply-adds for every visible pair. */
	printf("  %4d %4d %5d | %6.1f GFLOP/s, %8.1f us\n", T, d, group,
	       5e-9 * d * group * T * (T + 1.0) / best, 1e6 * best);
	fflush(stdout);
	ol_block_free(scratch, scratch_bytes);
}

/* Nanoseconds an element. */
static void bench_elements(const struct bench *b)
{
	enum { ROW = 4096, COUNT = 16 * ROW };
	const struct ol_gradients *g = b->gradients;
	const struct ol_adamw s = {1e-4f, 0.9f, 0.999f, 1e-8f, 0.1f, 1.0f, 0.5f, 0.5f};
	const struct ol_dropout key = {.rate = 0.1f, .seed = 1};
	double t[7] = {1e9, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9}, sum = 0;
	float *w = b->dw, *m = w + COUNT, *v = m + COUNT;
	memset(v, 0, COUNT * sizeof *v);
	FOR_A_WHILE(2)
	{
		TAKE(t[0], g->rmsnorm_dx(b->dx, b->x, b->x, b->dy, ROW, 1e-6f, false));
		TAKE(t[1], g->silu_mul_dx(b->dx, b->dx + ROW, b->x, b->x + ROW, b->dy, ROW));
		TAKE(t[2], g->gelu_mul_dx(b->dx, b->dx + ROW, b->x, b->x + ROW, b->dy, ROW));
		TAKE(t[3], g->cross_entropy(b->dx, b->x, VOCABULARY, 7, 0.1f));
		TAKE(t[4], g->dropout(b->dx, b->x, &key, 1, 2, ROW));
		TAKE(t[5], sum += g->sum_squares(b->x, COUNT));
		TAKE(t[6], g->adamw(w, m, v, b->dy, COUNT, &s));
	}
	printf("ns an element: rmsnorm_dx %.3f, silu_mul_dx %.3f, gelu_mul_dx %.3f, cross_entropy "
	       "%.3f, dropout %.3f, sum_squares %.3f, adamw %.3f%s\n",
	       1e9 * t[0] / ROW, 1e9 * t[1] / ROW, 1e9 * t[2] / ROW, 1e9 * t[3] / VOCABULARY,
	       1e9 * t[4] / ROW, 1e9 * t[5] / COUNT, 1e9 * t[6] / COUNT, sum < 0 ? "!" : "");
}

int main(int argc, char **argv)
{
	static const int shapes[][3] = {
		/* rows, inputs, outputs: m110 (768, 2048 wide), m430 (1024, 4096), then others */
		{256, 768, 768},   {256, 768, 2048},  {256, 2048, 768},  {256, 1024, 1024},
		{256, 1024, 4096}, {256, 4096, 1024}, {256, 2048, 2048}, {512, 1024, 1024},
		{128, 1024, 1024}, {64, 1024, 1024},  {32, 1024, 4096},  {8, 1024, 1024},
	};
	static const int lora[][4] = {
		{256, 1024, 1024, 16}, {256, 1024, 4096, 16}, {256, 4096, 1024, 16},
		{256, 1024, 1024, 8},  {256, 1024, 1024, 64}, {1, 1024, 1024, 16},
	};
	static const int heads[][3] = {
		{128, 64, 1}, {256, 64, 1}, {512, 64, 2}, {512, 128, 1}, {2048, 64, 1},
	};
	struct bench b = {.kernels = ol_kernels_best()};
	enum ol_isa isa;

	if (argc > 1)
		seconds_per_figure = strtod(argv[1], NULL);
	if (argc > 2 && (!ol_isa_parse(&isa, argv[2]) || !(b.kernels = ol_kernels_for(isa)))) {
		fprintf(stderr, "bench_gradients: %s does not run here\n", argv[2]);
		return 1;
	}
	b.gradients = ol_gradients_for(b.kernels->isa);
	const size_t elements = (size_t)SIDE_MAX * SIDE_MAX, rows = (size_t)ROWS_MAX * SIDE_MAX;
	const struct ol_matrix largest = {OL_WEIGHT_F32, SIDE_MAX, SIDE_MAX, NULL};
	b.sgemm = open_blas();
	b.x = need(rows * sizeof(float));
	b.dy = need(rows * sizeof(float));
	b.dx = need(rows * sizeof(float));
	b.dw = need(elements * sizeof(float));
	b.weights = need(elements * sizeof(float));
	b.scratch = need(b.gradients->matmul_dx_scratch(&largest, ROWS_MAX) * sizeof(float));
	for (int t = 0; t < OL_WEIGHT_TYPES; t++)
		b.panels[t] = need(ol_panels_bytes((enum ol_weight_type)t, SIDE_MAX, SIDE_MAX));
	noise(b.x, rows);
	noise(b.dy, rows);

	printf("a register-only loop of f32 fmas: %.1f GFLOP/s\n",
	       1e-9 * ol_peak_ops(OL_PEAK_F32, seconds_per_figure));
	printf("%s, GFLOP/s: rows, inputs, outputs | matmul_dx f32 bf16 q8 nf4 | matmul_dw | "
	       "OpenBLAS dx dw | ours / its: dx f32 .. nf4, dw\n",
	       b.kernels->name);
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		bench_matrices(&b, shapes[i][0], shapes[i][1], shapes[i][2]);
	printf("LoRA, GFLOP/s: rows, inputs, outputs, rank | down, up | dB, dh, dA, dx\n");
	for (size_t i = 0; i < OL_ARRAY_LEN(lora); i++)
		bench_lora(&b, lora[i][0], lora[i][1], lora[i][2], lora[i][3]);
	printf("attention_dx: positions, head size, group\n");
	for (size_t i = 0; i < OL_ARRAY_LEN(heads); i++)
		bench_attention(&b, heads[i][0], heads[i][1], heads[i][2]);
	bench_elements(&b);
	return 0;
}
