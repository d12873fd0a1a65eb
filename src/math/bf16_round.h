/* math/bf16_round.h, floor 1: a float to the nearest bf16, ties to even, for inner loops (the same
 * as ol_f32_to_bf16 for every number). */
#ifndef OL_MATH_BF16_ROUND_H
#define OL_MATH_BF16_ROUND_H

#include <stdint.h>
#include <string.h>

/* The result's bits in the high half, zeros in the low half: the rounded value as a float. */
static inline uint32_t ol_bf16_round_bits(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
}

#endif
