/* math/quantize_scalar.c: f32 rows into canonical rows, the specification (docs/ARITHMETIC.md,
 * "Quantisation"): plain C with one defined order of operations. */
#include <string.h>

#include "base/bytes.h"
#include "math/kernels_internal.h"

enum {
	Q8_BLOCK_BYTES = 34, /* f16 scale, 32 codes   */
	Q4_BLOCK_BYTES = 18, /* f16 scale, 16 nibbles */
	NIBBLES = OL_BLOCK / 2
};

/* Round to nearest, ties to even, for |x| < 2^22. */
static float round_even(float x)
{
	return (x + 12582912.0f) - 12582912.0f;
}

static float clamp(float x, float low, float high)
{
	x = x < low ? low : x;
	return x > high ? high : x;
}

static bool all_finite(const float *x, int n)
{
	uint32_t largest = 0;
	for (int i = 0; i < n; i++) {
		const uint32_t magnitude = ol_float_bits(x[i]) & 0x7fffffff;
		largest = OL_MAX(largest, magnitude);
	}
	return largest < 0x7f800000;
}

static float largest_magnitude(const float x[OL_BLOCK])
{
	float m = 0;
	for (int i = 0; i < OL_BLOCK; i++) {
		const float a = x[i] < 0 ? -x[i] : x[i];
		m = a > m ? a : m;
	}
	return m;
}

/* The scale m/127 of q8 and nf4 as f16. False if it would be infinite. */
static bool scale_of(uint16_t *scale_out, const float x[OL_BLOCK])
{
	*scale_out = ol_f32_to_f16(largest_magnitude(x) / 127.0f);
	return *scale_out < 0x7c00;
}

static bool quantize_q8(uint8_t *block, const float x[OL_BLOCK])
{
	uint16_t scale;
	if (!scale_of(&scale, x))
		return false;
	ol_store_u16(block, scale);
	const float d = ol_f16_to_f32(scale);
	for (int i = 0; i < OL_BLOCK; i++) {
		/* Below 2^8, as m/127 and its f16 differ by less than a factor of two. */
		const float q = d == 0 ? 0 : clamp(round_even(x[i] / d), -127, 127);
		block[2 + i] = (uint8_t)(int8_t)q;
	}
	return true;
}

static bool quantize_nf4(uint8_t *block, const float x[OL_BLOCK])
{
	uint16_t scale;
	uint8_t code[OL_BLOCK];
	if (!scale_of(&scale, x))
		return false;
	ol_store_u16(block, scale);
	const float d = ol_f16_to_f32(scale);
	for (int i = 0; i < OL_BLOCK; i++) {
		const float v = d == 0 ? 0 : x[i] / d;
		code[i] = 0;
		/* The middle between two levels is exact; on it, the lower level is taken. */
		for (int j = 0; j + 1 < 16; j++)
			code[i] += v > 0.5f * (float)(ol_nf4_levels[j] + ol_nf4_levels[j + 1]);
	}
	for (int i = 0; i < NIBBLES; i++)
		block[2 + i] = (uint8_t)(code[i] | code[i + NIBBLES] << 4);
	return true;
}

/* Sums of a block are taken in 8 lanes (element i in lane i mod 8, ascending), then folded
 * 8 -> 4 -> 2 -> 1: lane j += lane j + half. */
enum { LANES = 8 };

static float fold(float lanes[LANES])
{
	for (int half = LANES / 2; half > 0; half /= 2)
		for (int j = 0; j < half; j++)
			lanes[j] += lanes[j + half];
	return lanes[0];
}

/* q[i] = the q4 level of x[i] * inverse. */
static void levels_q4(float q[OL_BLOCK], const float x[OL_BLOCK], float inverse)
{
	for (int i = 0; i < OL_BLOCK; i++) {
		/* Clamped first: a tiny scale's inverse must not leave round_even's range. */
		const float v = clamp(x[i] * inverse, -8, 7);
		q[i] = round_even(v);
	}
}

static float squared_error(const float q[OL_BLOCK], const float x[OL_BLOCK], float d)
{
	float lanes[LANES] = {0};
	for (int i = 0; i < OL_BLOCK; i += LANES) {
		for (int j = 0; j < LANES; j++) {
			const float e = x[i + j] - q[i + j] * d;
			lanes[j] += e * e;
		}
	}
	return fold(lanes);
}

/* The scale that fits levels q to x best: sum(x q) / sum(q q); 0 if all levels are 0. */
static float least_squares(const float q[OL_BLOCK], const float x[OL_BLOCK])
{
	float xq[LANES] = {0}, qq[LANES] = {0};
	for (int i = 0; i < OL_BLOCK; i += LANES) {
		for (int j = 0; j < LANES; j++) {
			xq[j] += x[i + j] * q[i + j];
			qq[j] += q[i + j] * q[i + j];
		}
	}
	const float below = fold(qq);
	return below == 0 ? 0 : fold(xq) / below;
}

/* Candidate scales put the largest element on level -(6.75 + step/4), step = 0..10, or on its
 * mirror image, so that either end of the lopsided range -8..7 may carry it; each is refined once
 * by least squares. The first candidate with the smallest squared error wins. */
static bool quantize_q4(uint8_t *block, const float x[OL_BLOCK])
{
	const float m = largest_magnitude(x);
	/* Unit size: no square over- or underflows. A power of two, so nothing is rounded. */
	float unit = 1, inverse_unit = 1, u[OL_BLOCK], q[OL_BLOCK], best_q[OL_BLOCK] = {0};
	float best_error = 0;
	uint16_t best = 0;

	if (m / 7.0f >= 65504.0f)
		return false;
	if (m >= 0x1p-40f) {
		const uint32_t exponent = ol_float_bits(m) >> 23;
		unit = ol_bits_float(exponent << 23);
		inverse_unit = ol_bits_float((254 - exponent) << 23);
		for (int i = 0; i < OL_BLOCK; i++)
			u[i] = x[i] * inverse_unit;
		best_error = squared_error(best_q, u, 0);
	}
	for (int candidate = 0; m >= 0x1p-40f && candidate < 22; candidate++) {
		const float level = 6.75f + 0.25f * (float)(candidate / 2);
		levels_q4(q, u, (candidate % 2 ? level : -level) / (m * inverse_unit));
		const uint16_t scale = ol_f32_to_f16(least_squares(q, u) * unit);
		const float d = ol_f16_to_f32(scale) * inverse_unit;
		if (d == 0 || (scale & 0x7fff) >= 0x7c00)
			continue;
		levels_q4(q, u, 1.0f / d);
		const float error = squared_error(q, u, d);
		if (error < best_error) {
			best_error = error;
			best = scale;
			memcpy(best_q, q, sizeof q);
		}
	}
	ol_store_u16(block, best);
	for (int i = 0; i < NIBBLES; i++)
		block[2 + i] = (uint8_t)((int)best_q[i] + 8) |
			       (uint8_t)(((int)best_q[i + NIBBLES] + 8) << 4);
	return true;
}

static bool quantize_blocks(uint8_t *row, enum ol_weight_type type, const float *x, int cols)
{
	for (int k = 0; k < cols; k += OL_BLOCK) {
		float block[OL_BLOCK] = {0};
		memcpy(block, x + k, (size_t)OL_MIN(OL_BLOCK, cols - k) * sizeof *x);
		bool fits = false;
		if (type == OL_WEIGHT_Q8)
			fits = quantize_q8(row, block);
		else if (type == OL_WEIGHT_Q4)
			fits = quantize_q4(row, block);
		else
			fits = quantize_nf4(row, block);
		if (!fits)
			return false;
		row += type == OL_WEIGHT_Q8 ? Q8_BLOCK_BYTES : Q4_BLOCK_BYTES;
	}
	return true;
}

bool ol_quantize_row_scalar(void *row, enum ol_weight_type type, const float *x, int cols)
{
	uint8_t *out = row;
	if (!all_finite(x, cols))
		return false;
	switch (type) {
	case OL_WEIGHT_F32: memcpy(out, x, (size_t)cols * sizeof *x); return true;
	case OL_WEIGHT_BF16:
		for (int k = 0; k < cols; k++) {
			const uint16_t h = ol_f32_to_bf16(x[k]);
			if ((h & 0x7fff) >= 0x7f80)
				return false;
			ol_store_u16(out + 2 * (size_t)k, h);
		}
		return true;
	case OL_WEIGHT_Q8:
	case OL_WEIGHT_Q4:
	case OL_WEIGHT_NF4: return quantize_blocks(out, type, x, cols);
	}
	OL_UNREACHABLE();
}
