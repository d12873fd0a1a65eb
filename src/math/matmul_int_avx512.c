/* math/matmul_int_avx512.c, floor 1: the integer matmul with VNNI.
 *
 * vpdpbusd multiplies unsigned bytes by signed ones, so weights enter as code+128 (q8, nf4) or
 * code+8 (q4) and the surplus, 128 or 8 times the sum of the activation codes, is taken off in the
 * accumulator's initial value. Sums stay below 32 * 255 * 127 < 2^31: exact.
 *
 * Activations: [ceil(M/6)][ceil(K/32)] struct act_block, six rows side by side, so that the kernel
 * reads one stream. Kernel: R rows x 32 outputs, R = 1..6, all in registers (12 integer and 12
 * float accumulators).
 *
 * One tile of rows (decode) reads the panel where it lies. More tiles share it by chunks of K that
 * stay in the L1 cache, 4-bit codes unpacked once per chunk; partial chains wait in a small buffer,
 * which changes no bit of them. */
#include "math/kernels_internal.h"

#include <immintrin.h>

enum {
	TILE = OL_ACT_TILE_INT_AVX512,
	GROUPS = OL_BLOCK / 4,
	SCALES_BYTES = 2 * OL_PANEL,
	CODES_BYTES = OL_BLOCK * OL_PANEL,
	Q8_BYTES = SCALES_BYTES + CODES_BYTES,
	Q4_BYTES = SCALES_BYTES + CODES_BYTES / 2,
	CHUNK = 16,            /* blocks of K whose weights stay in L1              */
	ROW_GROUP = 16 * TILE, /* rows whose activations stay in L2 across panels   */
	AHEAD = 4096,          /* bytes a decoding pass asks for before it needs them */
	DIRECT_TILES = 2,      /* so few tiles do not repay unpacking codes to memory   */
	LINE = 64
};

struct act_block {
	int8_t code[GROUPS][TILE][4];
	float scale[TILE];
	int32_t bias128[TILE]; /* -128 * the sum of the row's codes */
	int32_t bias8[TILE];   /* -8 * the sum                      */
};

static int blocks_of(int K)
{
	return K / OL_BLOCK + (K % OL_BLOCK != 0);
}

size_t ol_act_bytes_int_avx512(int M, int K)
{
	const size_t tiles = ((size_t)M + TILE - 1) / TILE;
	return tiles * (size_t)blocks_of(K) * sizeof(struct act_block);
}

static __m128i quantize_16(__m512i *sum, __m512 x, __m512 inverse)
{
	/* Rounds half to even whatever the mode register says. */
	const __m512i code = _mm512_cvt_roundps_epi32(
		_mm512_mul_ps(x, inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const __m128i bytes = _mm512_cvtepi32_epi8(code);
	*sum = _mm512_add_epi32(*sum, _mm512_cvtepi8_epi32(bytes));
	return bytes;
}

static void quantize_block(struct act_block *block, int lane, const float *x, int n)
{
	const __mmask16 low = (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1);
	const __mmask16 high = (__mmask16)(n >= 32 ? 0xffff : n > 16 ? (1u << (n - 16)) - 1 : 0);
	const __m512 x0 = _mm512_maskz_loadu_ps(low, x);
	const __m512 x1 = _mm512_maskz_loadu_ps(high, x + 16);
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	/* Compared as bits, so that a NaN is never lost. */
	const __m512i larger =
		_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x0), magnitude),
				 _mm512_and_si512(_mm512_castps_si512(x1), magnitude));
	const float m =
		_mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(larger))));
	__m512i sum = _mm512_setzero_si512();
	__m128i code[2] = {_mm_setzero_si128(), _mm_setzero_si128()};

	block->scale[lane] = 0;
	if (!(m < 0x1p-100f)) {
		const __m512 inverse = _mm512_set1_ps(127.0f / m);
		block->scale[lane] = m / 127.0f;
		code[0] = quantize_16(&sum, x0, inverse);
		code[1] = quantize_16(&sum, x1, inverse);
	}
	const int32_t total = _mm512_reduce_add_epi32(sum);
	block->bias128[lane] = -128 * total;
	block->bias8[lane] = -8 * total;
	for (int half = 0; half < 2; half++) {
		int8_t(*at)[TILE][4] = block->code + 4 * half;
		_mm_storeu_si32(at[0][lane], code[half]);
		_mm_storeu_si32(at[1][lane], _mm_shuffle_epi32(code[half], 1));
		_mm_storeu_si32(at[2][lane], _mm_shuffle_epi32(code[half], 2));
		_mm_storeu_si32(at[3][lane], _mm_shuffle_epi32(code[half], 3));
	}
}

void ol_act_prepare_int_avx512(void *act, const float *x, size_t x_stride, int M, int K, int row0,
			       int row1)
{
	OL_ASSERT(row0 >= 0 && row1 <= M && row0 % TILE == 0);
	for (int row = row0; row < row1; row++) {
		struct act_block *block =
			(struct act_block *)act + (size_t)(row / TILE) * (size_t)blocks_of(K);
		for (int k = 0; k < K; k += OL_BLOCK)
			quantize_block(block++, row % TILE, x + (size_t)row * x_stride + k,
				       OL_MIN(OL_BLOCK, K - k));
	}
}

/* --- The kernel ----------------------------------------------------------------------------- */

/* Where a kernel finds its weights: a panel as packed, or codes and scales laid out for it. */
enum source { SOURCE_Q8, SOURCE_Q4, SOURCE_NF4, SOURCE_CHUNK128, SOURCE_CHUNK8 };
enum { SOURCES = 5 };

struct job {
	const struct act_block *act;
	const uint8_t *weights; /* the first block, `step` bytes from block to block     */
	size_t step;
	const float *scales; /* [blocks][32], for the SOURCE_CHUNKs                   */
	int blocks;
	const float *from; /* the chains so far, rows from_stride apart; NULL: all +0 */
	size_t from_stride;
	float *to;
	size_t to_stride;
	__mmask16 mask[2];       /* the outputs that exist                               */
	const uint8_t *prefetch; /* weights wanted next: `lines` lines a block            */
	int lines;
	const struct act_block *next_act; /* activations wanted next                     */
};

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i nf4_table(void)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi8(1, 40, 61, 78, 92, 105, 116, -128, -118, -108,
						    -97, -85, -72, -57, -36, -1));
}

/* Multiplies one group of 4 k of R rows by the 32 outputs' weights w. */
INLINE void dot_group(__m512i sum[TILE][2], const struct act_block *a, int group, __m512i w0,
		      __m512i w1, int R)
{
#pragma GCC unroll 6
	for (int r = 0; r < R; r++) {
		int32_t four;
		__builtin_memcpy(&four, a->code[group][r], 4);
		const __m512i x = _mm512_set1_epi32(four);
		sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], w0, x);
		sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], w1, x);
	}
}

INLINE void dot_nibbles(__m512i sum[TILE][2], const struct act_block *a, int group,
			const uint8_t *codes, enum source source, int R)
{
	const __m512i fifteen = _mm512_set1_epi8(15), table = nf4_table();
	const __m512i v0 = _mm512_loadu_si512(codes), v1 = _mm512_loadu_si512(codes + 64);
	__m512i low0 = _mm512_and_si512(v0, fifteen), low1 = _mm512_and_si512(v1, fifteen);
	__m512i high0 = _mm512_and_si512(_mm512_srli_epi16(v0, 4), fifteen);
	__m512i high1 = _mm512_and_si512(_mm512_srli_epi16(v1, 4), fifteen);
	if (source == SOURCE_NF4) {
		low0 = _mm512_shuffle_epi8(table, low0);
		low1 = _mm512_shuffle_epi8(table, low1);
		high0 = _mm512_shuffle_epi8(table, high0);
		high1 = _mm512_shuffle_epi8(table, high1);
	}
	dot_group(sum, a, group, low0, low1, R);
	dot_group(sum, a, group + GROUPS / 2, high0, high1, R);
}

INLINE void run_tile(const struct job *job, enum source source, int R)
{
	const bool chunk = source == SOURCE_CHUNK128 || source == SOURCE_CHUNK8;
	const bool nibbles = source == SOURCE_Q4 || source == SOURCE_NF4;
	const struct act_block *a = job->act, *next_act = job->next_act;
	const uint8_t *weights = job->weights, *prefetch = job->prefetch;
	const float *scales = job->scales;
	__m512 c[TILE][2];

	for (int r = 0; r < R; r++) {
		for (int v = 0; v < 2; v++)
			c[r][v] =
				job->from
					? _mm512_maskz_loadu_ps(
						  job->mask[v],
						  job->from + (size_t)r * job->from_stride + 16 * v)
					: _mm512_setzero_ps();
	}
	for (int b = 0; b < job->blocks; b++, a++, weights += job->step) {
		const uint8_t *codes = chunk ? weights : weights + SCALES_BYTES;
		__m512i sum[TILE][2];
#pragma GCC unroll 6
		for (int r = 0; r < R; r++) {
			const bool by8 = source == SOURCE_Q4 || source == SOURCE_CHUNK8;
			sum[r][0] = _mm512_set1_epi32(by8 ? a->bias8[r] : a->bias128[r]);
			sum[r][1] = sum[r][0];
		}
		if (nibbles) {
#pragma GCC unroll 4
			for (int g = 0; g < GROUPS / 2; g++)
				dot_nibbles(sum, a, g, codes + 128 * g, source, R);
		} else {
#pragma GCC unroll 8
			for (int g = 0; g < GROUPS; g++)
				dot_group(sum, a, g, _mm512_loadu_si512(codes + 128 * g),
					  _mm512_loadu_si512(codes + 128 * g + 64), R);
		}
		__m512 scale[2];
		for (int v = 0; v < 2; v++)
			scale[v] = chunk ? _mm512_loadu_ps(scales + 16 * v)
					 : _mm512_cvtph_ps(_mm256_loadu_si256(
						   (const __m256i *)(const void *)weights + v));
		if (chunk) {
			scales += OL_PANEL;
			for (size_t at = 0; at < sizeof *a; at += LINE)
				_mm_prefetch((const char *)next_act + at, _MM_HINT_T0);
			next_act++;
		}
		for (int i = 0; i < job->lines; i++, prefetch += LINE)
			_mm_prefetch((const char *)prefetch, _MM_HINT_T1);
#pragma GCC unroll 6
		for (int r = 0; r < R; r++) {
			const __m512 x = _mm512_set1_ps(a->scale[r]);
			for (int v = 0; v < 2; v++)
				c[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][v]),
							  _mm512_mul_ps(x, scale[v]), c[r][v]);
		}
	}
	for (int r = 0; r < R; r++)
		for (int v = 0; v < 2; v++)
			_mm512_mask_storeu_ps(job->to + (size_t)r * job->to_stride + 16 * v,
					      job->mask[v], c[r][v]);
}

typedef void tile_fn(const struct job *job);

#define TILE_FN(source, R)                                                                         \
	static void tile_##source##_##R(const struct job *job)                                     \
	{                                                                                          \
		run_tile(job, SOURCE_##source, R);                                                 \
	}
#define TILE_FNS(source)                                                                           \
	TILE_FN(source, 1)                                                                         \
	TILE_FN(source, 2)                                                                         \
	TILE_FN(source, 3)                                                                         \
	TILE_FN(source, 4)                                                                         \
	TILE_FN(source, 5)                                                                         \
	TILE_FN(source, 6)
#define TILE_ROW(source)                                                                           \
	{                                                                                          \
		tile_##source##_1, tile_##source##_2, tile_##source##_3, tile_##source##_4,        \
			tile_##source##_5, tile_##source##_6                                       \
	}

TILE_FNS(Q8)
TILE_FNS(Q4)
TILE_FNS(NF4)
TILE_FNS(CHUNK128)
TILE_FNS(CHUNK8)

static tile_fn *const tile_fns[SOURCES][TILE] = {
	[SOURCE_Q8] = TILE_ROW(Q8),         [SOURCE_Q4] = TILE_ROW(Q4),
	[SOURCE_NF4] = TILE_ROW(NF4),       [SOURCE_CHUNK128] = TILE_ROW(CHUNK128),
	[SOURCE_CHUNK8] = TILE_ROW(CHUNK8),
};

static enum source panel_source(enum ol_weight_type type)
{
	return type == OL_WEIGHT_Q8 ? SOURCE_Q8 : type == OL_WEIGHT_Q4 ? SOURCE_Q4 : SOURCE_NF4;
}

/* --- Chunks --------------------------------------------------------------------------------- */

/* What several row tiles share; it lives on the stack, mostly in L1. */
struct chunk {
	_Alignas(64) uint8_t codes[CHUNK * CODES_BYTES];
	_Alignas(64) float scales[CHUNK][OL_PANEL];
	_Alignas(64) float chains[ROW_GROUP][OL_PANEL];
};

/* Widens the scales of `blocks` blocks and unpacks their codes if there are two to a byte. */
static void chunk_fill(struct chunk *chunk, enum ol_weight_type type, const uint8_t *panel,
		       int blocks)
{
	const __m512i fifteen = _mm512_set1_epi8(15), table = nf4_table();
	const size_t step = type == OL_WEIGHT_Q8 ? Q8_BYTES : Q4_BYTES;

	for (int b = 0; b < blocks; b++, panel += step) {
		for (int v = 0; v < 2; v++)
			_mm512_store_ps(chunk->scales[b] + 16 * v,
					_mm512_cvtph_ps(_mm256_loadu_si256(
						(const __m256i *)(const void *)panel + v)));
		if (type == OL_WEIGHT_Q8)
			continue;
		uint8_t *out = chunk->codes + (size_t)b * CODES_BYTES;
		for (int at = 0; at < CODES_BYTES / 2; at += 64) {
			const __m512i v = _mm512_loadu_si512(panel + SCALES_BYTES + at);
			__m512i low = _mm512_and_si512(v, fifteen);
			__m512i high = _mm512_and_si512(_mm512_srli_epi16(v, 4), fifteen);
			if (type == OL_WEIGHT_NF4) {
				low = _mm512_shuffle_epi8(table, low);
				high = _mm512_shuffle_epi8(table, high);
			}
			_mm512_store_si512(out + at, low);
			_mm512_store_si512(out + CODES_BYTES / 2 + at, high);
		}
	}
}

/* One panel for rows [0, rows) of act, chunk by chunk. y points at the first row and output. */
static void multiply_chunks(float *y, size_t y_stride, const struct act_block *act,
			    enum ol_weight_type type, const uint8_t *panel, int rows, int K,
			    const __mmask16 mask[2], struct chunk *chunk)
{
	const size_t step = type == OL_WEIGHT_Q8 ? Q8_BYTES : Q4_BYTES;
	const int all = blocks_of(K), tiles = (rows + TILE - 1) / TILE;
	const bool direct = tiles <= DIRECT_TILES;
	const enum source source = direct                 ? panel_source(type)
				   : type == OL_WEIGHT_Q4 ? SOURCE_CHUNK8
							  : SOURCE_CHUNK128;
	const int lines = (int)((step + LINE - 1) / LINE);

	for (int b0 = 0; b0 < all; b0 += CHUNK) {
		const int blocks = OL_MIN(CHUNK, all - b0);
		const uint8_t *weights = panel + (size_t)b0 * step;
		const bool first = b0 == 0, last = b0 + blocks == all;
		if (!direct)
			chunk_fill(chunk, type, weights, blocks);
		int fetched = 0; /* lines a block of the next chunk, shared out by rows */
		for (int t = 0; t < tiles; t++) {
			const int row = t * TILE;
			const int wanted = (lines * OL_MIN(rows, row + TILE) + rows - 1) / rows;
			struct job job = {
				.act = act + (size_t)t * (size_t)all + b0,
				.weights = direct                 ? weights
					   : type == OL_WEIGHT_Q8 ? weights + SCALES_BYTES
								  : chunk->codes,
				.step = direct || type == OL_WEIGHT_Q8 ? step : CODES_BYTES,
				.scales = chunk->scales[0],
				.blocks = blocks,
				.from = first ? NULL : chunk->chains[row],
				.from_stride = OL_PANEL,
				.to = last ? y + (size_t)row * y_stride : chunk->chains[row],
				.to_stride = last ? y_stride : OL_PANEL,
				.mask = {mask[0], mask[1]},
				.prefetch = weights + (size_t)blocks * step +
					    (size_t)(fetched * blocks) * LINE,
				.lines = wanted - fetched,
				.next_act = act + (size_t)(t + 1) * (size_t)all + b0,
			};
			tile_fns[source][OL_MIN(TILE, rows - row) - 1](&job);
			fetched = wanted;
		}
	}
}

static void multiply_tile(float *y, size_t y_stride, const struct act_block *act,
			  enum ol_weight_type type, const uint8_t *panel, int rows, int K,
			  const __mmask16 mask[2])
{
	const enum source source = type == OL_WEIGHT_Q8   ? SOURCE_Q8
				   : type == OL_WEIGHT_Q4 ? SOURCE_Q4
							  : SOURCE_NF4;
	const struct job job = {
		.act = act,
		.weights = panel,
		.step = type == OL_WEIGHT_Q8 ? Q8_BYTES : Q4_BYTES,
		.blocks = blocks_of(K),
		.to = y,
		.to_stride = y_stride,
		.mask = {mask[0], mask[1]},
		.prefetch = panel + AHEAD,
		.lines = type == OL_WEIGHT_Q8 ? Q8_BYTES / LINE : Q4_BYTES / LINE,
	};
	tile_fns[source][rows - 1](&job);
}

void ol_matmul_int_avx512(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			  int M, int panel0, int panel1)
{
	const size_t bytes = ol_panels_bytes(w->type, OL_PANEL, w->cols);
	struct chunk chunk;

	OL_ASSERT(panel0 >= 0 && panel1 <= ol_panel_count(w->rows));
	/* Groups of about the same size: a small last one would unpack for few rows. */
	const int tiles = (M + TILE - 1) / TILE, groups = (M + ROW_GROUP - 1) / ROW_GROUP;
	const int group_rows = groups ? (tiles + groups - 1) / groups * TILE : 0;
	for (int row = 0; row < M; row += group_rows) {
		const int rows = OL_MIN(group_rows, M - row);
		const struct act_block *a = (const struct act_block *)act +
					    (size_t)(row / TILE) * (size_t)blocks_of(w->cols);
		for (int p = panel0; p < panel1; p++) {
			const uint8_t *panel = (const uint8_t *)w->panels + (size_t)p * bytes;
			const int lanes = OL_MIN(OL_PANEL, w->rows - p * OL_PANEL);
			const __mmask16 mask[2] = {
				(__mmask16)(lanes >= 16 ? 0xffff : (1 << lanes) - 1),
				(__mmask16)(lanes >= 32  ? 0xffff
					    : lanes > 16 ? (1 << (lanes - 16)) - 1
							 : 0)};
			float *out = y + (size_t)row * y_stride + (size_t)p * OL_PANEL;
			if (rows <= TILE)
				multiply_tile(out, y_stride, a, w->type, panel, rows, w->cols,
					      mask);
			else
				multiply_chunks(out, y_stride, a, w->type, panel, rows, w->cols,
						mask, &chunk);
		}
	}
}
