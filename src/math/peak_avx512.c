#include "math/peak_internal.h"

#include <immintrin.h>

/* CHAINS independent accumulators: enough for two units of latency 5, and few enough for operands
 * to stay in the 32 registers beside them. KEEP ends what the compiler knows about a value, so that
 * it can neither merge chains nor take a round out of the loop. */
enum { CHAINS = 12, LANES = 16 };
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#define EACH_CHAIN _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++)
#define EACH_GROUP _Pragma("GCC unroll 8") for (int g = 0; g < 8; g++)

uint64_t ol_peak_f32_avx512(uint64_t rounds)
{
	__m512 sum[CHAINS];
	__m512 a = _mm512_set1_ps(0.75f), w = _mm512_set1_ps(1e-3f);
	EACH_CHAIN sum[i] = _mm512_set1_ps((float)i);
	for (uint64_t round = 0; round < rounds; round++) {
		EACH_CHAIN
		{
			sum[i] = _mm512_fmadd_ps(a, w, sum[i]);
			KEEP(sum[i]);
		}
	}
	return rounds * CHAINS * LANES * 2;
}

uint64_t ol_peak_int8_avx512(uint64_t rounds)
{
	__m512i sum[CHAINS];
	__m512i a = _mm512_set1_epi32(0x13579bdf), w = _mm512_set1_epi32(0x2468ace0);
	EACH_CHAIN sum[i] = _mm512_set1_epi32(i);
	for (uint64_t round = 0; round < rounds; round++) {
		EACH_CHAIN
		{
			sum[i] = _mm512_dpbusd_epi32(sum[i], w, a);
			KEEP(sum[i]);
		}
	}
	return rounds * CHAINS * LANES * 4 * 2;
}

/* A round is one block of 32 along k for CHAINS vectors of outputs: eight vpdpbusd on a sum that
 * starts from the correction for unsigned weights, then convert, multiply the scales, one fma. */
uint64_t ol_peak_int8_block32_avx512(uint64_t rounds)
{
	__m512 sum[CHAINS];
	__m512i a = _mm512_set1_epi32(0x13579bdf), w = _mm512_set1_epi32(0x2468ace0);
	__m512i correction = _mm512_set1_epi32(-1000);
	__m512 scale_a = _mm512_set1_ps(1e-3f), scale_w = _mm512_set1_ps(1e-4f);
	EACH_CHAIN sum[i] = _mm512_set1_ps((float)i);
	for (uint64_t round = 0; round < rounds; round++) {
		__m512i inner[CHAINS];
		EACH_CHAIN
		{
			inner[i] = correction;
			KEEP(inner[i]); /* else the first step would be one for all chains */
		}
		EACH_GROUP
		EACH_CHAIN
		{
			inner[i] = _mm512_dpbusd_epi32(inner[i], w, a);
			KEEP(inner[i]);
		}
		EACH_CHAIN
		{
			/* Unknown again in every chain, or one product would serve them all. */
			KEEP(scale_a);
			__m512 scale = _mm512_mul_ps(scale_a, scale_w);
			sum[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(inner[i]), scale, sum[i]);
			KEEP(sum[i]);
		}
	}
	return rounds * CHAINS * LANES * 32 * 2;
}
