/* math/matmul_int_avx2.c, floor 1: the integer matmul in 8-bit steps that cannot saturate.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds pairs into 16 bits with saturation. Here
 * no pair can reach it:
 *     q8, nf4  |w| times (a with the sign of w): |w| <= 128, |a| <= 127, a pair is at most
 *              2 * 128 * 127 = 32512 < 32767. The sign goes to a, which is never -128 and so
 *              negates exactly; |-128| = 128 is exact as an unsigned byte.
 *     q4       nibbles 0..15 times a: all 16 products that meet in one 16-bit lane of a block stay
 *              within 16 * 15 * 127 = 30480, so a block is summed in 16 bits, widened once, and 8
 *              times the sum of a is taken off.
 *
 * Activations: [ceil(M/4)][ceil(K/32)] struct act_block. Chains wait between chunks of K in a small
 * buffer, so that a chunk of a panel is read from L1 by all row tiles; no bit depends on it. */
#include <immintrin.h>
#include <string.h>

#include "math/kernels_internal.h"

enum {
	TILE = OL_ACT_TILE_INT_AVX2,
	GROUPS = OL_BLOCK / 4,
	SCALES_BYTES = 2 * OL_PANEL,
	Q8_BYTES = SCALES_BYTES + OL_BLOCK * OL_PANEL,
	Q4_BYTES = SCALES_BYTES + OL_BLOCK / 2 * OL_PANEL,
	CHUNK = 16,            /* blocks of K whose weights stay in L1            */
	ROW_GROUP = 16 * TILE, /* rows whose activations stay in L2 across panels */
	AHEAD = 4096,          /* bytes asked for before they are needed          */
	LINE = 64,
	WIDTH = 8 /* outputs in a register */
};

struct act_block {
	int8_t code[GROUPS][TILE][4];
	float scale[TILE];
	int32_t bias8[TILE]; /* -8 * the sum of the row's codes */
};

static int blocks_of(int K)
{
	return K / OL_BLOCK + (K % OL_BLOCK != 0);
}

size_t ol_act_bytes_int_avx2(int M, int K)
{
	const size_t tiles = ((size_t)M + TILE - 1) / TILE;
	return tiles * (size_t)blocks_of(K) * sizeof(struct act_block);
}

/* The largest |x| of 32, compared as bits, so that a NaN is never lost. */
static float block_max(const float *x)
{
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i larger = _mm256_setzero_si256();
	for (int i = 0; i < OL_BLOCK; i += WIDTH) {
		const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
		larger = _mm256_max_epi32(larger, _mm256_and_si256(bits, magnitude));
	}
	__m128i m =
		_mm_max_epi32(_mm256_castsi256_si128(larger), _mm256_extracti128_si256(larger, 1));
	m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
	m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
	return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

static __m256i quantize_8(const float *x, __m256 inverse)
{
	const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
	/* Rounds half to even whatever the mode register says. A NaN becomes code 0. */
	const __m256 code = _mm256_round_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const __m256 number = _mm256_cmp_ps(scaled, scaled, _CMP_ORD_Q);
	return _mm256_cvttps_epi32(_mm256_and_ps(code, number));
}

static void quantize_block(struct act_block *block, int lane, const float *x)
{
	const float m = block_max(x);
	int32_t sum = 0;

	block->scale[lane] = 0;
	for (int g = 0; g < GROUPS; g++)
		memset(block->code[g][lane], 0, 4);
	if (!(m < 0x1p-100f)) {
		const __m256 inverse = _mm256_set1_ps(127.0f / m);
		block->scale[lane] = m / 127.0f;
		for (int i = 0; i < OL_BLOCK; i += WIDTH) {
			int8_t code[WIDTH];
			const __m256i wide = quantize_8(x + i, inverse);
			const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide),
							      _mm256_extracti128_si256(wide, 1));
			_mm_storel_epi64((__m128i *)(void *)code, _mm_packs_epi16(words, words));
			for (int j = 0; j < WIDTH; j++)
				sum += code[j];
			memcpy(block->code[i / 4][lane], code, 4);
			memcpy(block->code[i / 4 + 1][lane], code + 4, 4);
		}
	}
	block->bias8[lane] = -8 * sum;
}

void ol_act_prepare_int_avx2(void *act, const float *x, size_t x_stride, int M, int K, int row0,
			     int row1)
{
	OL_ASSERT(row0 >= 0 && row1 <= M && row0 % TILE == 0);
	for (int row = row0; row < row1; row++) {
		struct act_block *block =
			(struct act_block *)act + (size_t)(row / TILE) * (size_t)blocks_of(K);
		const float *from = x + (size_t)row * x_stride;
		int k = 0;
		for (; k + OL_BLOCK <= K; k += OL_BLOCK)
			quantize_block(block++, row % TILE, from + k);
		if (k < K) {
			float tail[OL_BLOCK] = {0};
			memcpy(tail, from + k, (size_t)(K - k) * sizeof *tail);
			quantize_block(block, row % TILE, tail);
		}
	}
}

/* --- The kernel ----------------------------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline))

/* Signed weights: the products of one group of 4 k, exact in 32 bits. */
INLINE void dot_signed(__m256i sum[TILE][4], const struct act_block *a, int group,
		       const __m256i w[4], int R, int V)
{
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i magnitude[4];
	for (int v = 0; v < V; v++)
		magnitude[v] = _mm256_abs_epi8(w[v]);
#pragma GCC unroll 4
	for (int r = 0; r < R; r++) {
		int32_t four;
		memcpy(&four, a->code[group][r], 4);
		const __m256i x = _mm256_set1_epi32(four);
		for (int v = 0; v < V; v++) {
			const __m256i pairs =
				_mm256_maddubs_epi16(magnitude[v], _mm256_sign_epi8(x, w[v]));
			sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(pairs, ones));
		}
	}
}

/* Nibbles 0..15: summed in 16 bits, which a whole block cannot exceed. */
INLINE void dot_nibbles(__m256i sum[TILE][4], const struct act_block *a, int group,
			const __m256i w[4], int R, int V)
{
#pragma GCC unroll 4
	for (int r = 0; r < R; r++) {
		int32_t four;
		memcpy(&four, a->code[group][r], 4);
		const __m256i x = _mm256_set1_epi32(four);
		for (int v = 0; v < V; v++)
			sum[r][v] = _mm256_add_epi16(sum[r][v], _mm256_maddubs_epi16(w[v], x));
	}
}

INLINE void dot_block(__m256i sum[TILE][4], const struct act_block *a, const uint8_t *codes,
		      enum ol_weight_type type, int R, int V)
{
	const __m256i fifteen = _mm256_set1_epi8(15), flip = _mm256_set1_epi8(-128);
	const __m256i table = _mm256_broadcastsi128_si256(
		_mm_loadu_si128((const __m128i *)(const void *)ol_nf4_levels));
	const int groups = type == OL_WEIGHT_Q8 ? GROUPS : GROUPS / 2;

#pragma GCC unroll 8
	for (int g = 0; g < groups; g++) {
		__m256i low[4], high[4];
		for (int v = 0; v < V; v++) {
			const __m256i bytes = _mm256_loadu_si256(
				(const __m256i *)(const void *)(codes + 128 * g + 32 * v));
			if (type == OL_WEIGHT_Q8) {
				low[v] = _mm256_xor_si256(bytes, flip);
				continue;
			}
			low[v] = _mm256_and_si256(bytes, fifteen);
			high[v] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), fifteen);
			if (type == OL_WEIGHT_NF4) {
				low[v] = _mm256_shuffle_epi8(table, low[v]);
				high[v] = _mm256_shuffle_epi8(table, high[v]);
			}
		}
		if (type == OL_WEIGHT_Q4) {
			dot_nibbles(sum, a, g, low, R, V);
			dot_nibbles(sum, a, g + GROUPS / 2, high, R, V);
			continue;
		}
		dot_signed(sum, a, g, low, R, V);
		if (type == OL_WEIGHT_NF4)
			dot_signed(sum, a, g + GROUPS / 2, high, R, V);
	}
}

/* R rows by 8 V outputs over some blocks; chains holds their sums so far. */
INLINE void run_pass(float (*chains)[OL_PANEL], const struct act_block *a, const uint8_t *weights,
		     int first, int blocks, enum ol_weight_type type, int R, int V)
{
	const int step = type == OL_WEIGHT_Q8 ? Q8_BYTES : Q4_BYTES;
	const __m256i ones = _mm256_set1_epi16(1);
	__m256 c[TILE][4];

	for (int r = 0; r < R; r++)
		for (int v = 0; v < V; v++)
			c[r][v] = _mm256_loadu_ps(chains[r] + first + WIDTH * v);
	for (int b = 0; b < blocks; b++, a++, weights += step) {
		__m256i sum[TILE][4];
		__m256 scale[4];
		for (int at = 0; first == 0 && at < step; at += LINE)
			_mm_prefetch((const char *)weights + AHEAD + at, _MM_HINT_T0);
		for (int r = 0; r < R; r++)
			for (int v = 0; v < V; v++)
				sum[r][v] = _mm256_setzero_si256();
		dot_block(sum, a, weights + SCALES_BYTES + 4 * first, type, R, V);
		for (int v = 0; v < V; v++)
			scale[v] = _mm256_cvtph_ps(_mm_loadu_si128((
				const __m128i *)(const void *)(weights + 2 * (first + WIDTH * v))));
		for (int r = 0; r < R; r++) {
			const __m256 x = _mm256_set1_ps(a->scale[r]);
			for (int v = 0; v < V; v++) {
				__m256i total = sum[r][v];
				if (type == OL_WEIGHT_Q4)
					total = _mm256_add_epi32(_mm256_madd_epi16(total, ones),
								 _mm256_set1_epi32(a->bias8[r]));
				c[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total),
							  _mm256_mul_ps(x, scale[v]), c[r][v]);
			}
		}
	}
	for (int r = 0; r < R; r++)
		for (int v = 0; v < V; v++)
			_mm256_storeu_ps(chains[r] + first + WIDTH * v, c[r][v]);
}

typedef void tile_fn(float (*chains)[OL_PANEL], const struct act_block *a, const uint8_t *weights,
		     int blocks);

/* Few rows take more outputs at a time: registers full, and the panel read in fewer passes. */
#define TILE_FN(type, R, V)                                                                        \
	static void tile_##type##_##R(float(*chains)[OL_PANEL], const struct act_block *a,         \
				      const uint8_t *weights, int blocks)                          \
	{                                                                                          \
		for (int first = 0; first < OL_PANEL; first += WIDTH * (V))                        \
			run_pass(chains, a, weights, first, blocks, OL_WEIGHT_##type, R, V);       \
	}
#define TILE_FNS(type)                                                                             \
	TILE_FN(type, 1, 4)                                                                        \
	TILE_FN(type, 2, 2)                                                                        \
	TILE_FN(type, 3, 1)                                                                        \
	TILE_FN(type, 4, 1)

TILE_FNS(Q8)
TILE_FNS(Q4)
TILE_FNS(NF4)

static tile_fn *const tile_fns[OL_WEIGHT_TYPES][TILE] = {
	[OL_WEIGHT_Q8] = {tile_Q8_1, tile_Q8_2, tile_Q8_3, tile_Q8_4},
	[OL_WEIGHT_Q4] = {tile_Q4_1, tile_Q4_2, tile_Q4_3, tile_Q4_4},
	[OL_WEIGHT_NF4] = {tile_NF4_1, tile_NF4_2, tile_NF4_3, tile_NF4_4},
};

static void multiply_panel(float *y, size_t y_stride, const struct act_block *act,
			   enum ol_weight_type type, const uint8_t *panel, int rows, int K,
			   int lanes)
{
	const size_t step = type == OL_WEIGHT_Q8 ? Q8_BYTES : Q4_BYTES;
	const int all = blocks_of(K), chunk = rows > 1 ? CHUNK : all;
	_Alignas(32) float chains[ROW_GROUP][OL_PANEL];

	memset(chains, 0, (size_t)rows * sizeof *chains);
	for (int b = 0; b < all; b += chunk)
		for (int row = 0; row < rows; row += TILE)
			tile_fns[type][OL_MIN(TILE, rows - row) - 1](
				chains + row, act + (size_t)(row / TILE) * (size_t)all + b,
				panel + (size_t)b * step, OL_MIN(chunk, all - b));
	for (int row = 0; row < rows; row++)
		memcpy(y + (size_t)row * y_stride, chains[row], (size_t)lanes * sizeof *y);
}

void ol_matmul_int_avx2(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			int M, int panel0, int panel1)
{
	const size_t bytes = ol_panels_bytes(w->type, OL_PANEL, w->cols);

	OL_ASSERT(panel0 >= 0 && panel1 <= ol_panel_count(w->rows));
	for (int row = 0; row < M; row += ROW_GROUP) {
		const struct act_block *a = (const struct act_block *)act +
					    (size_t)(row / TILE) * (size_t)blocks_of(w->cols);
		for (int p = panel0; p < panel1; p++)
			multiply_panel(y + (size_t)row * y_stride + (size_t)p * OL_PANEL, y_stride,
				       a, w->type, (const uint8_t *)w->panels + (size_t)p * bytes,
				       OL_MIN(ROW_GROUP, M - row), w->cols,
				       OL_MIN(OL_PANEL, w->rows - p * OL_PANEL));
	}
}
