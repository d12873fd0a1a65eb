/* math/peak_internal.h, floor 1: the loops behind peak.h, one file per instruction set. Each runs
 * `rounds` rounds and returns the operations it did. */
#ifndef OL_MATH_PEAK_INTERNAL_H
#define OL_MATH_PEAK_INTERNAL_H

#include <stdint.h>

typedef uint64_t ol_peak_loop(uint64_t rounds);

ol_peak_loop ol_peak_f32_avx2, ol_peak_int8_avx2, ol_peak_int8_block32_avx2;
ol_peak_loop ol_peak_f32_avx512, ol_peak_int8_avx512, ol_peak_int8_block32_avx512;
ol_peak_loop ol_peak_bf16_avx512bf16;

#endif
