/* math/matmul_int_neon.c, floor 1: the integer matmul for ARMv8.
 *
 * With the dot product instruction a group of 4 k is one step. Without it, two groups are
 * multiplied into 16 bits and added up by pairs into 32: 2 * 128 * 127 = 32512 fits.
 *
 * Activations: [ceil(M/4)][ceil(K/32)] struct act_block. Kernel: R rows x 8 outputs, R = 1..4.
 * Chains wait between chunks of K in a small buffer, so that a chunk of a panel is read from L1 by
 * all row tiles; no bit depends on it. */
#include <arm_neon.h>
#include <string.h>

#include "math/kernels_internal.h"

enum {
	TILE = OL_ACT_TILE_INT_NEON,
	GROUPS = OL_BLOCK / 4,
	SCALES_BYTES = 2 * OL_PANEL,
	Q8_BYTES = SCALES_BYTES + OL_BLOCK * OL_PANEL,
	Q4_BYTES = SCALES_BYTES + OL_BLOCK / 2 * OL_PANEL,
	CHUNK = 16,            /* blocks of K whose weights stay in L1            */
	ROW_GROUP = 16 * TILE, /* rows whose activations stay in L2 across panels */
	WIDTH = 8              /* outputs of a pass                               */
};

struct act_block {
	int8_t code[GROUPS][TILE][4];
	float scale[TILE];
};

static int blocks_of(int K)
{
	return K / OL_BLOCK + (K % OL_BLOCK != 0);
}

size_t ol_act_bytes_int_neon(int M, int K)
{
	const size_t tiles = ((size_t)M + TILE - 1) / TILE;
	return tiles * (size_t)blocks_of(K) * sizeof(struct act_block);
}

/* The largest |x| of 32, compared as bits, so that a NaN is never lost. */
static float block_max(const float *x)
{
	uint32x4_t larger = vdupq_n_u32(0);
	for (int i = 0; i < OL_BLOCK; i += 4)
		larger = vmaxq_u32(larger, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)),
						     vdupq_n_u32(0x7fffffff)));
	const uint32_t bits = vmaxvq_u32(larger);
	float m;
	memcpy(&m, &bits, sizeof m);
	return m;
}

static void quantize_block(struct act_block *block, int lane, const float *x)
{
	const float m = block_max(x);

	block->scale[lane] = 0;
	for (int g = 0; g < GROUPS; g++)
		memset(block->code[g][lane], 0, 4);
	if (m < 0x1p-100f)
		return;
	block->scale[lane] = m / 127.0f;
	const float inverse = 127.0f / m;
	for (int g = 0; g < GROUPS; g++) {
		/* Rounds half to even; a NaN becomes code 0. */
		const int32x4_t wide = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * g), inverse));
		const int16x4_t words = vmovn_s32(wide);
		const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
		memcpy(block->code[g][lane], &bytes, 4);
	}
}

void ol_act_prepare_int_neon(void *act, const float *x, size_t x_stride, int M, int K, int row0,
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

/* Four outputs' sum: with dot products only [0], else outputs 0,1 in [0] and 2,3 in [1], each as
 * two halves. */
struct sum {
	int32x4_t half[2];
};

INLINE int8x16_t four_codes(const struct act_block *a, int group, int r)
{
	int32_t four;
	memcpy(&four, a->code[group][r], 4);
	return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Multiplies groups g and h of 4 k by the weights w (of g) and u (of h) of 4 outputs. */
INLINE void dot_two(struct sum *sum, int8x16_t x, int8x16_t w, int8x16_t z, int8x16_t u)
{
#ifdef __ARM_FEATURE_DOTPROD
	sum->half[0] = vdotq_s32(vdotq_s32(sum->half[0], w, x), u, z);
#else
	int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
	int16x8_t high = vmull_s8(vget_high_s8(w), vget_low_s8(x));
	low = vmlal_s8(low, vget_low_s8(u), vget_low_s8(z));
	high = vmlal_s8(high, vget_high_s8(u), vget_low_s8(z));
	sum->half[0] = vpadalq_s16(sum->half[0], low);
	sum->half[1] = vpadalq_s16(sum->half[1], high);
#endif
}

INLINE int32x4_t finish(const struct sum *sum)
{
#ifdef __ARM_FEATURE_DOTPROD
	return sum->half[0];
#else
	return vpaddq_s32(sum->half[0], sum->half[1]);
#endif
}

/* The signed weights of 4 outputs in groups g and h, h the partner of g in dot_two. */
INLINE void load_two(int8x16_t *w, int8x16_t *u, const uint8_t *codes, int step,
		     enum ol_weight_type type)
{
	const uint8x16_t bytes = vld1q_u8(codes + 128 * step);
	if (type == OL_WEIGHT_Q8) {
		const uint8x16_t flip = vdupq_n_u8(128);
		*w = vreinterpretq_s8_u8(veorq_u8(bytes, flip));
		*u = vreinterpretq_s8_u8(
			veorq_u8(vld1q_u8(codes + 128 * (step + GROUPS / 2)), flip));
		return;
	}
	const uint8x16_t low = vandq_u8(bytes, vdupq_n_u8(15)), high = vshrq_n_u8(bytes, 4);
	if (type == OL_WEIGHT_Q4) {
		*w = vsubq_s8(vreinterpretq_s8_u8(low), vdupq_n_s8(8));
		*u = vsubq_s8(vreinterpretq_s8_u8(high), vdupq_n_s8(8));
		return;
	}
	const int8x16_t table = vld1q_s8(ol_nf4_levels);
	*w = vqtbl1q_s8(table, low);
	*u = vqtbl1q_s8(table, high);
}

/* R rows by 8 outputs over some blocks; chains holds their sums so far. */
INLINE void run_pass(float (*chains)[OL_PANEL], const struct act_block *a, const uint8_t *weights,
		     int first, int blocks, enum ol_weight_type type, int R)
{
	const int bytes = type == OL_WEIGHT_Q8 ? Q8_BYTES : Q4_BYTES;
	float32x4_t c[TILE][2];

	for (int r = 0; r < R; r++)
		for (int v = 0; v < 2; v++)
			c[r][v] = vld1q_f32(chains[r] + first + 4 * v);
	for (int b = 0; b < blocks; b++, a++, weights += bytes) {
		struct sum sum[TILE][2];
		for (int r = 0; r < R; r++)
			for (int v = 0; v < 2; v++)
				sum[r][v].half[0] = sum[r][v].half[1] = vdupq_n_s32(0);
		for (int g = 0; g < GROUPS / 2; g++) {
			int8x16_t w[2], u[2];
			for (int v = 0; v < 2; v++)
				load_two(&w[v], &u[v], weights + SCALES_BYTES + 4 * (first + 4 * v),
					 g, type);
			for (int r = 0; r < R; r++) {
				const int8x16_t x = four_codes(a, g, r);
				const int8x16_t z = four_codes(a, g + GROUPS / 2, r);
				for (int v = 0; v < 2; v++)
					dot_two(&sum[r][v], x, w[v], z, u[v]);
			}
		}
		for (int v = 0; v < 2; v++) {
			float16x4_t halves;
			memcpy(&halves, weights + 2 * (first + 4 * v), sizeof halves);
			const float32x4_t scale = vcvt_f32_f16(halves);
			for (int r = 0; r < R; r++)
				c[r][v] = vfmaq_f32(c[r][v], vcvtq_f32_s32(finish(&sum[r][v])),
						    vmulq_n_f32(scale, a->scale[r]));
		}
	}
	for (int r = 0; r < R; r++)
		for (int v = 0; v < 2; v++)
			vst1q_f32(chains[r] + first + 4 * v, c[r][v]);
}

typedef void tile_fn(float (*chains)[OL_PANEL], const struct act_block *a, const uint8_t *weights,
		     int blocks);

#define TILE_FN(type, R)                                                                           \
	static void tile_##type##_##R(float(*chains)[OL_PANEL], const struct act_block *a,         \
				      const uint8_t *weights, int blocks)                          \
	{                                                                                          \
		for (int first = 0; first < OL_PANEL; first += WIDTH)                              \
			run_pass(chains, a, weights, first, blocks, OL_WEIGHT_##type, R);          \
	}
#define TILE_FNS(type)                                                                             \
	TILE_FN(type, 1)                                                                           \
	TILE_FN(type, 2)                                                                           \
	TILE_FN(type, 3)                                                                           \
	TILE_FN(type, 4)

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
	const int all = blocks_of(K);
	float chains[ROW_GROUP][OL_PANEL];

	memset(chains, 0, (size_t)rows * sizeof *chains);
	for (int b = 0; b < all; b += CHUNK)
		for (int row = 0; row < rows; row += TILE)
			tile_fns[type][OL_MIN(TILE, rows - row) - 1](
				chains + row, act + (size_t)(row / TILE) * (size_t)all + b,
				panel + (size_t)b * step, OL_MIN(CHUNK, all - b));
	for (int row = 0; row < rows; row++)
		memcpy(y + (size_t)row * y_stride, chains[row], (size_t)lanes * sizeof *y);
}

void ol_matmul_int_neon(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
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
