/* The integer matmul against what the machine can do at most: a register-only loop of the
 * contract's own instructions, and plain reading of memory. Best of several runs, since the machine
 * may be shared. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/pool.h"
#include "math/kernels_internal.h"
#include "math/peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 8192, K = 2048, PIECE = 16 /* panels a thread claims at once */ };

static double seconds_per_figure = 0.5;

/* --- Reading memory ------------------------------------------------------------------------- */

enum { READ_PIECES = 2048 };

struct reader {
	const uint8_t *data;
	size_t piece;
	uint64_t found[READ_PIECES];
};

static void read_piece(void *context, int index, int thread)
{
	struct reader *r = context;
	const uint8_t *p = r->data + (size_t)index * r->piece;
	uint64_t found[8] = {0};
	(void)thread;
	for (size_t at = 0; at < r->piece; at += 64) {
		uint64_t line[8];
		__builtin_prefetch(p + at + 4096);
		memcpy(line, p + at, 64);
		for (int i = 0; i < 8; i++)
			found[i] |= line[i];
	}
	for (int i = 0; i < 8; i++)
		r->found[index] |= found[i];
}

/* GB/s of all threads reading once over memory much larger than any cache. */
static double measure_read_gbs(struct ol_pool *pool, const uint8_t *data, size_t bytes,
			       double seconds)
{
	static struct reader r;
	double best = 1e30;
	r.data = data;
	r.piece = bytes / READ_PIECES / 64 * 64;
	for (double end = ol_clock_seconds() + seconds; ol_clock_seconds() < end;) {
		const double start = ol_clock_seconds();
		ol_pool_for(pool, READ_PIECES, read_piece, &r);
		best = OL_MIN(best, ol_clock_seconds() - start);
	}
	return 1e-9 * (double)r.piece * READ_PIECES / best;
}

/* --- The kernels ---------------------------------------------------------------------------- */

typedef size_t act_bytes_fn(int M, int cols);
typedef void act_prepare_fn(void *act, const float *x, size_t x_stride, int M, int cols, int row0,
			    int row1);
typedef void matmul_fn(float *y, size_t y_stride, const void *act, const struct ol_matrix *w, int M,
		       int panel0, int panel1);

struct isa {
	const char *name;
	act_bytes_fn *act_bytes;
	act_prepare_fn *act_prepare;
	matmul_fn *matmul;
};

static const struct isa isas[] = {
#if defined(__x86_64__)
	{"avx512", ol_act_bytes_int_avx512, ol_act_prepare_int_avx512, ol_matmul_int_avx512},
	{"avx2", ol_act_bytes_int_avx2, ol_act_prepare_int_avx2, ol_matmul_int_avx2},
#elif defined(__aarch64__)
	{"neon", ol_act_bytes_int_neon, ol_act_prepare_int_neon, ol_matmul_int_neon},
#endif
};

static bool isa_runs(const struct isa *isa)
{
#if defined(__x86_64__)
	return strcmp(isa->name, "avx512") == 0 ? __builtin_cpu_supports("avx512vnni") != 0
						: __builtin_cpu_supports("avx2") != 0;
#else
	return isa != NULL;
#endif
}

enum { PIECES = N / OL_PANEL / PIECE };

struct work {
	const struct isa *isa;
	const void *act;
	float *y;
	const uint8_t *panels;
	enum ol_weight_type type;
	int M;
};

/* Piece `index` of a row of matrices: all their pieces are one loop, since it is the kernel that
 * is measured here and not the pool. */
static void multiply_piece(void *context, int index, int thread)
{
	const struct work *work = context;
	const size_t bytes = ol_panels_bytes(work->type, N, K);
	const struct ol_matrix w = {work->type, N, K,
				    work->panels + bytes * (size_t)(index / PIECES)};
	const int panel = index % PIECES * PIECE;
	(void)thread;
	work->isa->matmul(work->y, N, work->act, &w, work->M, panel, panel + PIECE);
}

static void *need(size_t bytes)
{
	void *block = ol_block_alloc(bytes);
	if (!block) {
		fprintf(stderr, "bench_matmul: no memory for %zu MB\n", bytes >> 20);
		exit(1);
	}
	return block;
}

static float noise(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return (float)(int32_t)*state * 0x1p-31f;
}

/* `copies` matrices (N,K) one after another; the first is random, the others repeat its bytes. */
static void fill_weights(uint8_t *panels, enum ol_weight_type type, int copies)
{
	const size_t bytes = ol_panels_bytes(type, N, K);
	static uint8_t row[K * 4];
	static float x[K];
	uint32_t state = 1;
	const int distinct = 4 * OL_PANEL;
	const size_t first = ol_panels_bytes(type, distinct, K);
	for (int o = 0; o < distinct; o++) {
		for (int k = 0; k < K; k++)
			x[k] = noise(&state);
		if (!ol_quantize_row(row, type, x, K))
			exit(1);
		ol_pack_rows(panels, type, distinct, K, row, o, 1);
	}
	for (size_t at = first; at < bytes * (size_t)copies; at += first)
		memcpy(panels + at, panels, first);
}

/* One core. The clock and the neighbours change from moment to moment, so every piece is set
 * against a slice of the register loop right before it, and every matrix against reading one of the
 * same size. Weights come from memory each time. */
static void bench_one_core(struct work *work, int copies, double seconds)
{
	enum { ROUNDS_MAX = 512 };
	static double share[ROUNDS_MAX * PIECES], gops[ROUNDS_MAX * PIECES];
	static double gbs[ROUNDS_MAX], reading[ROUNDS_MAX];
	static struct reader reader;
	const size_t bytes = ol_panels_bytes(work->type, N, K) / PIECES;
	const int all = copies * PIECES;
	const double operations = 2.0 * work->M * K * N / PIECES;
	int rounds = 0, pieces = 0;
	reader.data = work->panels;
	reader.piece = bytes / 64 * 64;
	for (double end = ol_clock_seconds() + seconds;
	     ol_clock_seconds() < end && rounds < ROUNDS_MAX; rounds++) {
		double multiply[PIECES], read[PIECES];
		for (int i = 0; i < PIECES; i++) {
			/* Far from what is multiplied next, so that no cache is warmed for it. */
			const double start = ol_clock_thread_seconds();
			read_piece(&reader, (rounds * PIECES + i + all / 2) % all, 0);
			read[i] = ol_clock_thread_seconds() - start;
		}
		for (int i = 0; i < PIECES; i++, pieces++) {
			const double peak = ol_peak_ops(OL_PEAK_INT8_BLOCK32, 0.0002);
			const double start = ol_clock_thread_seconds();
			multiply_piece(work, (rounds * PIECES + i) % all, 0);
			multiply[i] = ol_clock_thread_seconds() - start;
			gops[pieces] = 1e-9 * operations / multiply[i];
			share[pieces] = peak > 0 ? operations / multiply[i] / peak : 0;
		}
		gbs[rounds] = 1e-9 * (double)bytes / ol_median(multiply, PIECES);
		reading[rounds] = ol_median(read, PIECES) / ol_median(multiply, PIECES);
	}
	printf("  %4d %8.1f %6.3f %8.2f %6.3f\n", work->M, ol_median(gops, pieces),
	       ol_median(share, pieces), ol_median(gbs, rounds), ol_median(reading, rounds));
}

/* Seconds for `copies` matrices on all threads. */
static double time_all_cores(struct ol_pool *pool, struct work *work, int copies, double seconds)
{
	double best = 1e30;
	for (double end = ol_clock_seconds() + seconds; ol_clock_seconds() < end;) {
		const double start = ol_clock_seconds();
		ol_pool_for(pool, copies * PIECES, multiply_piece, work);
		best = OL_MIN(best, ol_clock_seconds() - start);
	}
	return best;
}

static void prepare(struct work *work, void *act, const float *x, int M)
{
	work->isa->act_prepare(act, x, K, M, K, 0, M);
	work->act = act;
	work->M = M;
}

enum { ROWS_MAX = 512, SET_MATRICES = 64 };

static void bench_rows(struct work *work, void *act, const float *x, int only)
{
	static const int rows[] = {1,  2,  3,  4,  5,  6,  7,   8,   12,
				   16, 24, 32, 48, 64, 96, 128, 256, 512};
	printf("%s %s, one core, N %d, K %d: M, Gop/s, share of the loop, GB/s of weights, "
	       "share of reading\n",
	       work->isa->name, ol_weight_type_name(work->type), N, K);
	for (size_t j = 0; j < OL_ARRAY_LEN(rows); j++) {
		if (only && rows[j] != only)
			continue;
		prepare(work, act, x, rows[j]);
		bench_one_core(work, SET_MATRICES, seconds_per_figure);
		fflush(stdout);
	}
}

static void bench_threads(struct work *work, struct ol_pool *pool, void *act, const float *x)
{
	static const int rows[] = {1, 2, 4, 8, 16, 32};
	const size_t set = SET_MATRICES * ol_panels_bytes(work->type, N, K);
	printf("%s %s, %d threads, %.2f GB of weights: rows, GB/s, share of reading, "
	       "share of the VNNI loop\n",
	       work->isa->name, ol_weight_type_name(work->type), ol_pool_threads(pool),
	       1e-9 * (double)set);
	for (size_t j = 0; j < OL_ARRAY_LEN(rows); j++) {
		const double T = seconds_per_figure;
		prepare(work, act, x, rows[j]);
		double read_gbs = measure_read_gbs(pool, work->panels, set, T / 2);
		const double peak =
			1e-9 * ol_pool_threads(pool) * ol_peak_ops(OL_PEAK_INT8_BLOCK32, T / 4);
		const double seconds = time_all_cores(pool, work, SET_MATRICES, T);
		const double again = measure_read_gbs(pool, work->panels, set, T / 2);
		read_gbs = OL_MAX(read_gbs, again);
		const double gbs = 1e-9 * (double)set / seconds;
		const double gops = 2e-9 * rows[j] * N * K * (double)SET_MATRICES / seconds;
		printf("  %4d %8.2f  %.3f of %.2f  %.3f\n", rows[j], gbs, gbs / read_gbs, read_gbs,
		       peak > 0 ? gops / peak : 0);
	}
	fflush(stdout);
}

/* bench_matmul [seconds per figure [avx512|avx2|neon [q8|q4|nf4 [rows|threads [M]]]]] */
int main(int argc, char **argv)
{
	static const enum ol_weight_type types[] = {OL_WEIGHT_Q8, OL_WEIGHT_Q4, OL_WEIGHT_NF4};
	const size_t bytes_max = SET_MATRICES * ol_panels_bytes(OL_WEIGHT_Q8, N, K);
	struct ol_pool *pool;
	if (argc > 1)
		seconds_per_figure = strtod(argv[1], NULL);
	if (ol_pool_open(&pool, ol_processor_count()))
		return 1;

	uint8_t *panels = need(bytes_max);
	float *x = need((size_t)ROWS_MAX * K * sizeof *x);
	float *y = need((size_t)ROWS_MAX * N * sizeof *y);
	void *act = need((size_t)ROWS_MAX * K * 4);
	uint32_t state = 7;
	for (size_t i = 0; i < (size_t)ROWS_MAX * K; i++)
		x[i] = noise(&state);

	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++) {
		if (argc > 3 && strcmp(argv[3], ol_weight_type_name(types[t])) != 0)
			continue;
		fill_weights(panels, types[t], SET_MATRICES);
		for (size_t i = 0; i < OL_ARRAY_LEN(isas); i++) {
			if (!isa_runs(&isas[i]) || (argc > 2 && strcmp(argv[2], isas[i].name) != 0))
				continue;
			struct work work = {&isas[i], NULL, y, panels, types[t], 0};
			if (argc <= 4 || strcmp(argv[4], "rows") == 0)
				bench_rows(&work, act, x,
					   argc > 5 ? (int)strtol(argv[5], NULL, 10) : 0);
			if (argc <= 4 || strcmp(argv[4], "threads") == 0)
				bench_threads(&work, pool, act, x);
		}
	}
	ol_pool_close(pool);
	return 0;
}
