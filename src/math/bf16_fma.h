/* math/bf16_fma.h, floor 1: one step of a bf16 chain (docs/ARITHMETIC.md, "bf16"), portably.
 *
 * The step is what VDPBF16PS does: a fused multiply-add whose subnormal inputs count as zero and
 * whose result, rounded to 24 bits as if exponents had no lower end, becomes a zero of its own
 * sign when it is smaller than 2^-126. */
#ifndef OL_MATH_BF16_FMA_H
#define OL_MATH_BF16_FMA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A bf16 number as f32; a subnormal as the zero of its sign. */
static inline float ol_bf16_flushed(uint16_t h)
{
	const uint32_t bits = (uint32_t)((h & 0x7f80) ? h : h & 0x8000) << 16;
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* a, w and c are no subnormals. */
static inline float ol_fma_flushed(float a, float w, float c)
{
	const float y = fmaf(a, w, c);
	if (fabsf(y) > 0x1p-126f || y == 0.0f)
		return y;
	/* y may have been rounded up to 2^-126 on the coarse grid of the subnormals: look again
	 * 2^24 higher. The smaller factor is below 2^-51 here, so nothing overflows. */
	const float z = fabsf(a) < fabsf(w) ? fmaf(a * 0x1p24f, w, c * 0x1p24f)
					    : fmaf(a, w * 0x1p24f, c * 0x1p24f);
	return fabsf(z) < 0x1p-102f ? copysignf(0.0f, y) : y;
}

#endif
