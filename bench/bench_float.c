/* The float kernels on one core: f32 and bf16 matmul by rows, beside OpenBLAS where the machine has
 * it (loaded at run time, never linked) and beside a register-only loop of fmas, and attention.
 * Times are processor time of the thread and the best of many rounds in which the programs take
 * turns, since the machine may be shared.
 *
 *     bench_float [seconds per figure [avx512|avx2|neon|scalar]] */
#include "base/arena.h"
#include "base/clock.h"
#include "math/kernels.h"
#include "math/peak.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 512, SIZE_MAX_K = 4096, SIZE_MAX_O = 4096 };

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
		fprintf(stderr, "bench_float: no memory for %zu MB\n", bytes >> 20);
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
	sgemm_fn *sgemm;
	float *x, *y, *weights; /* weights: row-major, for OpenBLAS */
	void *act, *panels[2];  /* f32, bf16 */
};

/* Random weights of all three forms. */
static void fill(const struct bench *b, int K, int O)
{
	static const enum ol_weight_type types[2] = {OL_WEIGHT_F32, OL_WEIGHT_BF16};
	static float canonical[SIZE_MAX_K];
	noise(b->weights, (size_t)K * (size_t)O);
	for (int t = 0; t < 2; t++)
		for (int o = 0; o < O; o++) {
			if (!ol_quantize_row(canonical, types[t],
					     b->weights + (size_t)o * (size_t)K, K))
				exit(1);
			ol_pack_rows(b->panels[t], types[t], O, K, canonical, o, 1);
		}
}

struct times {
	double f32, f32_prepare, bf16, bf16_prepare, blas;
};

static double timed(const struct bench *b, enum ol_weight_type type, int M, int K, int O,
		    double *prepare)
{
	const struct ol_matrix w = {type, O, K, b->panels[type == OL_WEIGHT_BF16]};
	const double start = ol_clock_thread_seconds();
	b->kernels->act_prepare(b->act, type, b->x, (size_t)K, M, K, 0, M);
	const double middle = ol_clock_thread_seconds();
	b->kernels->matmul(b->y, (size_t)O, b->act, &w, M, 0, ol_panel_count(O));
	*prepare = OL_MIN(*prepare, middle - start);
	return ol_clock_thread_seconds() - middle;
}

static void bench_matmul(const struct bench *b, int M, int K, int O)
{
	struct times t = {1e9, 1e9, 1e9, 1e9, 1e9};
	for (double end = ol_clock_thread_seconds() + 3 * seconds_per_figure;
	     ol_clock_thread_seconds() < end;) {
		t.f32 = OL_MIN(t.f32, timed(b, OL_WEIGHT_F32, M, K, O, &t.f32_prepare));
		t.bf16 = OL_MIN(t.bf16, timed(b, OL_WEIGHT_BF16, M, K, O, &t.bf16_prepare));
		if (b->sgemm) {
			const double start = ol_clock_thread_seconds();
			b->sgemm(101, 111, 112, M, O, K, 1.0f, b->x, K, b->weights, K, 0.0f, b->y,
				 O);
			t.blas = OL_MIN(t.blas, ol_clock_thread_seconds() - start);
		}
	}
	const double gflop = 2e-9 * M * K * O, giga_weights = 1e-9 * K * O;
	printf("  %4d %5d %5d | %7.1f %5.1f%% %6.1f | %7.1f %5.1f%% %6.1f |", M, K, O,
	       gflop / t.f32, 100 * t.f32_prepare / t.f32, 4 * giga_weights / t.f32, gflop / t.bf16,
	       100 * t.bf16_prepare / t.bf16, 2 * giga_weights / t.bf16);
	if (b->sgemm)
		printf(" %7.1f  %.3f  %.3f", gflop / t.blas, t.blas / t.f32,
		       t.blas / (t.f32 + t.f32_prepare));
	printf("\n");
	fflush(stdout);
}

static void bench_attention(const struct ol_kernels *kernels, int pos0, int rows, int d, int group,
			    enum ol_kv_type type)
{
	const struct ol_attention a = {type, d, group, 0, 0.125f, 0.0f};
	const int pages = (pos0 + rows + OL_KV_PAGE - 1) / OL_KV_PAGE;
	const size_t half = (size_t)d * OL_KV_PAGE * sizeof(float);
	const size_t width = (size_t)group * (size_t)d, queries = (size_t)rows * width;
	const size_t scratch_bytes = kernels->attention_scratch(&a, pos0, rows) * sizeof(float);
	const size_t cache_bytes = (size_t)pages * 2 * half, q_bytes = queries * sizeof(float);
	char *cache = need(cache_bytes);
	float *q = need(q_bytes), *out = need(q_bytes), *scratch = need(scratch_bytes);
	const void **page = calloc((size_t)pages, sizeof *page);
	float key[512];
	double best = 1e9, pairs = 0;

	if (!page)
		exit(1);
	noise(q, queries);
	noise(key, 512);
	for (int t = 0; t < pos0 + rows; t++) {
		char *p = cache + (size_t)(t / OL_KV_PAGE) * 2 * half;
		page[t / OL_KV_PAGE] = p;
		kernels->kv_store(p, p + half, type, t % OL_KV_PAGE, key + t % 200, key + t % 100,
				  d);
	}
	for (double end = ol_clock_thread_seconds() + seconds_per_figure;
	     ol_clock_thread_seconds() < end;) {
		const double start = ol_clock_thread_seconds();
		for (int row = 0; row < rows; row += 64)
			kernels->attention(out + (size_t)row * width, width,
					   q + (size_t)row * width, width, &a, page, 0, half,
					   pos0 + row, OL_MIN(64, rows - row), scratch);
		best = OL_MIN(best, ol_clock_thread_seconds() - start);
	}
	for (int t = pos0; t < pos0 + rows; t++)
		pairs += t + 1;
	printf("  %4d %5d %4d %5d %4s | %7.1f GFLOP/s, %8.1f us\n", rows, pos0, d, group,
	       type == OL_KV_BF16 ? "bf16" : "f32", 4e-9 * pairs * d * group / best, 1e6 * best);
	free(page);
	ol_block_free(cache, cache_bytes);
	ol_block_free(q, q_bytes);
	ol_block_free(out, q_bytes);
	ol_block_free(scratch, scratch_bytes);
}

static void bench_all_attention(const struct ol_kernels *kernels)
{
	static const int shapes[][4] = {
		/* rows, pos0, d, group */
		{512, 0, 64, 1},    {512, 0, 64, 4}, {512, 0, 128, 4}, {512, 0, 80, 3},
		{512, 1536, 64, 4}, {1, 511, 64, 1}, {1, 511, 64, 4},  {1, 4095, 64, 4},
	};
	printf("attention, %s: rows, first position, head size, group, cache | 4 d FLOP a visible "
	       "pair\n",
	       kernels->name);
	for (size_t i = 0; i < OL_ARRAY_LEN(shapes); i++)
		for (int type = 0; type < OL_KV_TYPES; type++)
			bench_attention(kernels, shapes[i][1], shapes[i][0], shapes[i][2],
					shapes[i][3], (enum ol_kv_type)type);
}

int main(int argc, char **argv)
{
	static const int square[][2] = {
		{1024, 1024}, {2048, 2048}, {4096, 4096}, {1024, 4096}, {4096, 1024}};
	static const int rows[] = {1, 2, 3, 4, 5, 6, 8, 12, 13, 16, 24, 32, 64, 128};
	struct bench b = {.kernels = ol_kernels_best()};
	enum ol_isa isa;

	if (argc > 1)
		seconds_per_figure = strtod(argv[1], NULL);
	if (argc > 2) {
		if (!ol_isa_parse(&isa, argv[2]) || !(b.kernels = ol_kernels_for(isa))) {
			fprintf(stderr, "bench_float: %s does not run here\n", argv[2]);
			return 1;
		}
	}
	const size_t elements = (size_t)SIZE_MAX_K * SIZE_MAX_O;
	b.sgemm = open_blas();
	b.x = need((size_t)ROWS_MAX * SIZE_MAX_K * sizeof(float));
	b.y = need((size_t)ROWS_MAX * SIZE_MAX_O * sizeof(float));
	b.act = need((size_t)ROWS_MAX * SIZE_MAX_K * sizeof(float));
	b.weights = need(elements * sizeof(float));
	b.panels[0] = need(elements * sizeof(float));
	b.panels[1] = need(elements * sizeof(uint16_t));
	noise(b.x, (size_t)ROWS_MAX * SIZE_MAX_K);

	printf("a register-only loop of f32 fmas: %.1f GFLOP/s\n",
	       1e-9 * ol_peak_ops(OL_PEAK_F32, seconds_per_figure));
	printf("matmul, %s: rows, inputs, outputs | f32: GFLOP/s, preparing the rows, GB/s of "
	       "weights | bf16: the same | OpenBLAS: GFLOP/s, ours / its, with preparing\n",
	       b.kernels->name);
	for (size_t i = 0; i < OL_ARRAY_LEN(square); i++) {
		fill(&b, square[i][0], square[i][1]);
		bench_matmul(&b, ROWS_MAX, square[i][0], square[i][1]);
	}
	fill(&b, 4096, 4096);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		bench_matmul(&b, rows[i], 4096, 4096);
	bench_all_attention(b.kernels);
	return 0;
}
