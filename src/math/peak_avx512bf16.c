#include "math/peak_internal.h"

#include <immintrin.h>

/* As peak_avx512.c; every vpdpbf16ps takes a pair of k. */
enum { CHAINS = 12, LANES = 16 };
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#define EACH_CHAIN _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++)

uint64_t ol_peak_bf16_avx512bf16(uint64_t rounds)
{
	__m512 sum[CHAINS];
	const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.75f), _mm512_set1_ps(0.5f));
	const __m512bh w = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(2e-3f));
	EACH_CHAIN sum[i] = _mm512_set1_ps((float)i);
	for (uint64_t round = 0; round < rounds; round++) {
		EACH_CHAIN
		{
			sum[i] = _mm512_dpbf16_ps(sum[i], a, w);
			KEEP(sum[i]);
		}
	}
	return rounds * CHAINS * LANES * 2 * 2;
}
