/* math/quantize_body.h, floor 1: quantize_scalar.c on sixteen lanes. Included once by
 * quantize_avx512.c, quantize_avx2.c and quantize_neon.c.
 *
 * A lane of q4 is a block, so that sixteen blocks try a candidate scale together and the sums over
 * a block's elements stay inside a lane, in the order that the specification gives them. A lane of
 * q8 and nf4 is an element. */
#include "base/bytes.h"
#include "math/kernels_internal.h"
#include "math/lanes.h"

enum {
	Q8_BLOCK_BYTES = 34, /* f16 scale, 32 codes           */
	Q4_BLOCK_BYTES = 18, /* f16 scale, 16 nibbles         */
	BLOCKS = 16,         /* of q4 side by side            */
	SUMS = 8,            /* a block's sums, folded at end */
	CANDIDATES = 22,
	NIBBLES = OL_BLOCK / 2,
	MAGNITUDE = 0x7fffffff,
	EXPONENT = 0x7f800000
};

/* Round to nearest, ties to even, for |x| < 2^22. */
OL_INLINE v16 round_even(v16 x)
{
	const v16 magic = v16_set(12582912.0f);
	return v16_sub(v16_add(x, magic), magic);
}

OL_INLINE v16 clamp(v16 x, float low, float high)
{
	return v16_min(v16_set(high), v16_max(v16_set(low), x));
}

/* --- q4 ------------------------------------------------------------------------------------- */

/* Elements of sixteen blocks, of unit size: u = x / unit, unit the power of two of the block's
 * largest magnitude. A block too small to have a scale is all zero. */
struct q4_group {
	float u[OL_BLOCK][BLOCKS];
	float codes[NIBBLES][BLOCKS]; /* bytes: low + 16 * high */
	float scale[BLOCKS];
	v16 unit, inverse_unit, largest; /* largest of u: 1 <= largest < 2 */
};

OL_INLINE v16 q4_level(v16 u, v16 inverse)
{
	return round_even(clamp(v16_mul(u, inverse), -8.0f, 7.0f));
}

OL_INLINE v16 fold(v16 sum[SUMS])
{
	OL_UNROLL
	for (int half = SUMS / 2; half > 0; half /= 2) {
		OL_UNROLL
		for (int j = 0; j < half; j++)
			sum[j] = v16_add(sum[j], sum[j + half]);
	}
	return sum[0];
}

/* Sum of (u - level * d)^2. The first term starts a sum: +0 plus it is the same number. */
OL_INLINE v16 q4_error(const struct q4_group *g, v16 inverse, v16 d)
{
	v16 sum[SUMS];
	OL_UNROLL
	for (int j = 0; j < SUMS; j++) {
		OL_UNROLL
		for (int i = j; i < OL_BLOCK; i += SUMS) {
			const v16 u = v16_load(g->u[i]);
			const v16 r = v16_sub(u, v16_mul(q4_level(u, inverse), d));
			sum[j] = i == j ? v16_mul(r, r) : v16_add(sum[j], v16_mul(r, r));
		}
	}
	return fold(sum);
}

/* The scale that fits the levels at a first guess best: sum(u q) / sum(q q), or 0. */
OL_INLINE v16 q4_least_squares(const struct q4_group *g, v16 inverse)
{
	v16 uq[SUMS], qq[SUMS];
	OL_UNROLL
	for (int j = 0; j < SUMS; j++) {
		OL_UNROLL
		for (int i = j; i < OL_BLOCK; i += SUMS) {
			const v16 u = v16_load(g->u[i]), q = q4_level(u, inverse);
			uq[j] = i == j ? v16_mul(u, q) : v16_add(uq[j], v16_mul(u, q));
			qq[j] = i == j ? v16_mul(q, q) : v16_add(qq[j], v16_mul(q, q));
		}
	}
	const v16 zero = v16_set(0.0f), below = fold(qq);
	return v16_select(v16_less(zero, below), v16_div(fold(uq), below), zero);
}

/* One candidate (docs/ARITHMETIC.md, "q4", steps 1 to 6) for all sixteen blocks. A scale of zero
 * has no inverse and an infinite one leaves no number: neither error is less than anything. */
OL_INLINE void q4_try(const struct q4_group *g, int candidate, v16 *best_error, v16 *best_scale)
{
	const float level = 6.75f + 0.25f * (float)(candidate / 2);
	const v16 t = v16_set(candidate % 2 ? level : -level), one = v16_set(1.0f);
	const v16 a = q4_least_squares(g, v16_div(t, g->largest));
	const v16 scale = v16_round_f16(v16_mul(a, g->unit));
	const v16 d = v16_mul(scale, g->inverse_unit);
	const m16 usable = v16_less(v16_set(0.0f), v16_and_bits(scale, MAGNITUDE));
	const v16 tried = q4_error(g, v16_div(one, d), d);
	const v16 error = v16_select(usable, tried, *best_error);
	const m16 better = v16_less(error, *best_error);
	*best_error = v16_select(better, error, *best_error);
	*best_scale = v16_select(better, scale, *best_scale);
}

/* The blocks' elements by element, and their units. False: a value too large for any scale. */
static bool q4_gather(struct q4_group *g, const float *x, int cols)
{
	float m[BLOCKS];
	memset(g->u, 0, sizeof g->u);
	for (int b = 0; b * OL_BLOCK < cols; b++)
		for (int i = 0; i < OL_MIN(OL_BLOCK, cols - b * OL_BLOCK); i++)
			g->u[i][b] = x[b * OL_BLOCK + i];
	v16 largest = v16_set(0.0f);
	for (int i = 0; i < OL_BLOCK; i++)
		largest = v16_max(v16_and_bits(v16_load(g->u[i]), MAGNITUDE), largest);
	v16_store(m, largest);
	for (int b = 0; b < BLOCKS; b++)
		if (m[b] / 7.0f >= 65504.0f)
			return false;

	const v16 one = v16_set(1.0f), zero = v16_set(0.0f);
	const m16 small = v16_less(largest, v16_set(0x1p-40f));
	largest = v16_select(small, one, largest);
	g->unit = v16_and_bits(largest, EXPONENT);
	g->inverse_unit = v16_div(one, g->unit);
	g->largest = v16_mul(largest, g->inverse_unit);
	for (int i = 0; i < OL_BLOCK; i++) {
		const v16 u = v16_mul(v16_load(g->u[i]), g->inverse_unit);
		v16_store(g->u[i], v16_select(small, zero, u));
	}
	return true;
}

/* Up to sixteen blocks of a row: cols <= 16 * 32. */
static bool q4_quantize(uint8_t *out, const float *x, int cols)
{
	struct q4_group g;
	const v16 zero = v16_set(0.0f), one = v16_set(1.0f), eight = v16_set(8.0f);
	if (!q4_gather(&g, x, cols))
		return false;
	v16 best_error = q4_error(&g, zero, zero), best_scale = zero;
	for (int candidate = 0; candidate < CANDIDATES; candidate++)
		q4_try(&g, candidate, &best_error, &best_scale);

	v16_store(g.scale, best_scale);
	const m16 some = v16_less(zero, v16_and_bits(best_scale, MAGNITUDE));
	const v16 d = v16_mul(v16_select(some, best_scale, one), g.inverse_unit);
	const v16 inverse = v16_div(one, d);
	for (int i = 0; i < NIBBLES; i++) {
		const v16 low = q4_level(v16_load(g.u[i]), inverse);
		const v16 high = q4_level(v16_load(g.u[i + NIBBLES]), inverse);
		const v16 byte =
			v16_add(v16_add(low, eight), v16_mul(v16_add(high, eight), v16_set(16.0f)));
		v16_store(g.codes[i], v16_select(some, byte, v16_set(0x88)));
	}
	for (int b = 0; b * OL_BLOCK < cols; b++, out += Q4_BLOCK_BYTES) {
		ol_store_u16(out, ol_f32_to_f16(g.scale[b]));
		for (int i = 0; i < NIBBLES; i++)
			out[2 + i] = (uint8_t)(int)g.codes[i][b];
	}
	return true;
}

/* --- q8 and nf4 ----------------------------------------------------------------------------- */

/* x / d of a block, or 0 if d is zero; d = f16(largest / 127) goes there. False: infinite. */
OL_INLINE bool divide_block(v16 v[2], uint8_t *block, const float *x, int count)
{
	const int first = OL_MIN(count, 16);
	const v16 low = v16_load_part(x, first), zero = v16_set(0.0f);
	const v16 high = count > 16 ? v16_load_part(x + 16, count - 16) : zero;
	const float m =
		v16_tree_max(v16_max(v16_and_bits(low, MAGNITUDE), v16_and_bits(high, MAGNITUDE)));
	const uint16_t scale = ol_f32_to_f16(m / 127.0f);
	const v16 d = v16_set(ol_f16_to_f32(scale));
	ol_store_u16(block, scale);
	v[0] = scale == 0 ? zero : v16_div(low, d);
	v[1] = scale == 0 ? zero : v16_div(high, d);
	return scale < 0x7c00;
}

static bool q8_block(uint8_t *block, const float *x, int count)
{
	v16 v[2];
	float q[OL_BLOCK];
	if (!divide_block(v, block, x, count))
		return false;
	for (int half = 0; half < 2; half++)
		v16_store(q + 16 * half, clamp(round_even(v[half]), -127.0f, 127.0f));
	for (int i = 0; i < OL_BLOCK; i++)
		block[2 + i] = (uint8_t)(int8_t)q[i];
	return true;
}

/* How many middles between two levels lie below v. */
OL_INLINE v16 nf4_code(v16 v)
{
	const v16 one = v16_set(1.0f), zero = v16_set(0.0f);
	v16 code = zero;
	for (int j = 0; j + 1 < 16; j++) {
		const float middle = 0.5f * (float)(ol_nf4_levels[j] + ol_nf4_levels[j + 1]);
		code = v16_add(code, v16_select(v16_less(v16_set(middle), v), one, zero));
	}
	return code;
}

static bool nf4_block(uint8_t *block, const float *x, int count)
{
	v16 v[2];
	float byte[NIBBLES];
	if (!divide_block(v, block, x, count))
		return false;
	v16_store(byte, v16_add(nf4_code(v[0]), v16_mul(nf4_code(v[1]), v16_set(16.0f))));
	for (int i = 0; i < NIBBLES; i++)
		block[2 + i] = (uint8_t)(int)byte[i];
	return true;
}

/* --- Rows ----------------------------------------------------------------------------------- */

static bool all_finite(const float *x, int n)
{
	uint32_t largest = 0;
	for (int i = 0; i < n; i++) {
		const uint32_t magnitude = ol_float_bits(x[i]) & MAGNITUDE;
		largest = OL_MAX(largest, magnitude);
	}
	return largest < EXPONENT;
}

bool OL_LANES_NAME(ol_quantize_row)(void *row, enum ol_weight_type type, const float *x, int cols)
{
	uint8_t *out = row;
	if (type == OL_WEIGHT_F32 || type == OL_WEIGHT_BF16)
		return ol_quantize_row_scalar(row, type, x, cols);
	if (!all_finite(x, cols))
		return false;
	const int step = type == OL_WEIGHT_Q4 ? OL_BLOCK * BLOCKS : OL_BLOCK;
	for (int k = 0; k < cols; k += step) {
		const int count = OL_MIN(step, cols - k);
		bool fits;
		if (type == OL_WEIGHT_Q4)
			fits = q4_quantize(out, x + k, count);
		else if (type == OL_WEIGHT_Q8)
			fits = q8_block(out, x + k, count);
		else
			fits = nf4_block(out, x + k, count);
		if (!fits)
			return false;
		out += type == OL_WEIGHT_Q8 ? Q8_BLOCK_BYTES : step / OL_BLOCK * Q4_BLOCK_BYTES;
	}
	return true;
}
