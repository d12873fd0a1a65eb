/* math/peak.h, floor 1: what this machine can do at best, so that a speed can be called a share.
 *
 * The loops live in registers and do nothing but the instructions that the kernels are made of, on
 * more independent chains than the processor has latency to hide: no kernel can be faster. Reading
 * memory is measured beside it, because a decoding step is one pass over the weights. Machines
 * drift with their neighbours: measure in the same run as what is compared. */
#ifndef OL_MATH_PEAK_H
#define OL_MATH_PEAK_H

#include "base/base.h"
#include "base/pool.h"

enum ol_peak {
	OL_PEAK_F32,         /* fused multiply-add of f32                                       */
	OL_PEAK_BF16,        /* pairs of bf16 into f32: by VDPBF16PS or two fmas, the faster    */
	OL_PEAK_INT8,        /* u8 x s8 into int32                                              */
	OL_PEAK_INT8_BLOCK32 /* the contract's block of 32, its inner sum counted alone: eight
			      * of the above, convert, multiply the scales, one fma             */
};
enum { OL_PEAKS = 4 };

const char *ol_peak_name(enum ol_peak kind); /* "f32", "bf16", "int8", "int8_block32" */

/* Operations per second (a multiply-add is two) of one core with the best instructions that this
 * machine has: the best of many slices of half a millisecond within `seconds`. 0 where no loop is
 * written for this machine, or it lacks the instruction. */
double ol_peak_ops(enum ol_peak kind, double seconds);
/* The same of all threads of the pool together, running at once. */
double ol_peak_ops_pool(struct ol_pool *pool, enum ol_peak kind, double seconds);

/* Bytes per second read from memory by all threads of the pool together: the best pass over a
 * block of `bytes` within `seconds` (at least one pass of every reading order). The block is
 * allocated here and wants to be several times the last cache, 1 GiB or more. 0 when there is no
 * memory for it. */
double ol_peak_read(struct ol_pool *pool, size_t bytes, double seconds);

#endif
