/* math/matmul_int_scalar.c, floor 1: the integer matmul as docs/ARITHMETIC.md states it.
 *
 * Activations, per row: [ceil(K/32)] struct scalar_block. A last block shorter than 32 is filled
 * with code 0, which adds nothing to an integer sum. */
#include "math/kernels_internal.h"

#include <math.h>
#include <string.h>

struct scalar_block {
	float scale;
	int8_t code[OL_BLOCK];
};

static size_t blocks_of(int K)
{
	return ((size_t)K + OL_BLOCK - 1) / OL_BLOCK;
}

size_t ol_act_bytes_int_scalar(int M, int K)
{
	return (size_t)M * blocks_of(K) * sizeof(struct scalar_block);
}

/* The largest |x|, compared as bits: a NaN, which only a caller's error can bring here, beats every
 * number and so reaches the scale and the result. */
static float block_max(const float *x, int n)
{
	uint32_t largest = 0;
	for (int i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, x + i, sizeof bits);
		bits &= 0x7fffffff;
		largest = bits > largest ? bits : largest;
	}
	float m;
	memcpy(&m, &largest, sizeof m);
	return m;
}

static void quantize_block(struct scalar_block *block, const float *x, int n)
{
	const float m = block_max(x, n);
	memset(block, 0, sizeof *block);
	if (m < 0x1p-100f)
		return;
	block->scale = m / 127.0f;
	const float inverse = 127.0f / m;
	for (int i = 0; i < n; i++) {
		/* |x * inverse| < 127.5, and adding 1.5 * 2^23 rounds it half to even. */
		const float code = (x[i] * inverse + 12582912.0f) - 12582912.0f;
		block->code[i] = code > -128 && code < 128 ? (int8_t)code : 0;
	}
}

void ol_act_prepare_int_scalar(void *act, const float *x, size_t x_stride, int M, int K, int row0,
			       int row1)
{
	OL_ASSERT(row0 >= 0 && row1 <= M);
	for (int row = row0; row < row1; row++) {
		struct scalar_block *block =
			(struct scalar_block *)act + (size_t)row * blocks_of(K);
		for (int k = 0; k < K; k += OL_BLOCK)
			quantize_block(block++, x + (size_t)row * x_stride + k,
				       OL_MIN(OL_BLOCK, K - k));
	}
}

enum { SCALES_BYTES = 2 * OL_PANEL };

/* codes[k][lane] of one block of a panel; scales[lane]. */
static void read_block(int16_t codes[OL_BLOCK][OL_PANEL], float scales[OL_PANEL],
		       enum ol_weight_type type, const uint8_t *block)
{
	for (int o = 0; o < OL_PANEL; o++) {
		scales[o] = ol_f16_to_f32((uint16_t)(block[2 * o] | block[2 * o + 1] << 8));
		for (int k = 0; k < OL_BLOCK; k++) {
			const int i = type == OL_WEIGHT_Q8 ? k : k % 16;
			const int byte = block[SCALES_BYTES + (i / 4 * OL_PANEL + o) * 4 + i % 4];
			const int nibble = k < 16 ? byte & 15 : byte >> 4;
			if (type == OL_WEIGHT_Q8)
				codes[k][o] = (int16_t)(byte - 128);
			else if (type == OL_WEIGHT_Q4)
				codes[k][o] = (int16_t)(nibble - 8);
			else
				codes[k][o] = ol_nf4_levels[nibble];
		}
	}
}

static void multiply_panel(float *y, size_t y_stride, const struct scalar_block *act,
			   enum ol_weight_type type, const uint8_t *panel, int M, int K, int lanes)
{
	const size_t bytes =
		SCALES_BYTES + OL_PANEL * (type == OL_WEIGHT_Q8 ? OL_BLOCK : OL_BLOCK / 2);
	int16_t codes[OL_BLOCK][OL_PANEL];
	float scales[OL_PANEL];

	for (int m = 0; m < M; m++)
		memset(y + (size_t)m * y_stride, 0, (size_t)lanes * sizeof *y);
	for (size_t b = 0; b < blocks_of(K); b++) {
		read_block(codes, scales, type, panel + b * bytes);
		for (int m = 0; m < M; m++) {
			const struct scalar_block *a = act + (size_t)m * blocks_of(K) + b;
			int32_t sums[OL_PANEL] = {0};
			for (int k = 0; k < OL_BLOCK; k++)
				for (int o = 0; o < OL_PANEL; o++)
					sums[o] += a->code[k] * codes[k][o];
			float *c = y + (size_t)m * y_stride;
			for (int o = 0; o < lanes; o++)
				c[o] = fmaf((float)sums[o], a->scale * scales[o], c[o]);
		}
	}
}

void ol_matmul_int_scalar(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			  int M, int panel0, int panel1)
{
	const size_t bytes = ol_panels_bytes(w->type, OL_PANEL, w->cols);
	OL_ASSERT(panel0 >= 0 && panel1 <= ol_panel_count(w->rows));
	for (int p = panel0; p < panel1; p++)
		multiply_panel(y + (size_t)p * OL_PANEL, y_stride, act, w->type,
			       (const uint8_t *)w->panels + (size_t)p * bytes, M, w->cols,
			       OL_MIN(OL_PANEL, w->rows - p * OL_PANEL));
}
