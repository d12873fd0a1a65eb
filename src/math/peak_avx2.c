#include "math/peak_internal.h"

#include <immintrin.h>

/* As peak_avx512.c, in 16 registers of 8 lanes. */
enum { CHAINS = 10, LANES = 8, BLOCK_CHAINS = 6 };
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#define EACH_CHAIN _Pragma("GCC unroll 10") for (int i = 0; i < CHAINS; i++)
#define EACH_BLOCK_CHAIN _Pragma("GCC unroll 6") for (int i = 0; i < BLOCK_CHAINS; i++)
#define EACH_GROUP _Pragma("GCC unroll 8") for (int g = 0; g < 8; g++)

uint64_t ol_peak_f32_avx2(uint64_t rounds)
{
	__m256 sum[CHAINS];
	__m256 a = _mm256_set1_ps(0.75f), w = _mm256_set1_ps(1e-3f);
	EACH_CHAIN sum[i] = _mm256_set1_ps((float)i);
	for (uint64_t round = 0; round < rounds; round++) {
		EACH_CHAIN
		{
			sum[i] = _mm256_fmadd_ps(a, w, sum[i]);
			KEEP(sum[i]);
		}
	}
	return rounds * CHAINS * LANES * 2;
}

/* Four products a lane without VNNI: pairs of u8 x s8 into 16 bits, pairs of those into 32. */
static inline __m256i dot4(__m256i sum, __m256i w, __m256i a, __m256i ones)
{
	KEEP(a); /* unknown each time, or its products would be taken out of the loop */
	const __m256i pairs = _mm256_maddubs_epi16(w, a);
	return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
}

uint64_t ol_peak_int8_avx2(uint64_t rounds)
{
	__m256i sum[CHAINS];
	__m256i a = _mm256_set1_epi32(0x13579bdf), w = _mm256_set1_epi32(0x2468ace0);
	const __m256i ones = _mm256_set1_epi16(1);
	EACH_CHAIN sum[i] = _mm256_set1_epi32(i);
	for (uint64_t round = 0; round < rounds; round++) {
		EACH_CHAIN
		{
			sum[i] = dot4(sum[i], w, a, ones);
			KEEP(sum[i]);
		}
	}
	return rounds * CHAINS * LANES * 4 * 2;
}

uint64_t ol_peak_int8_block32_avx2(uint64_t rounds)
{
	__m256 sum[BLOCK_CHAINS];
	__m256i a = _mm256_set1_epi32(0x13579bdf), w = _mm256_set1_epi32(0x2468ace0);
	const __m256i ones = _mm256_set1_epi16(1);
	__m256 scale_a = _mm256_set1_ps(1e-3f);
	EACH_BLOCK_CHAIN sum[i] = _mm256_set1_ps((float)i);
	for (uint64_t round = 0; round < rounds; round++) {
		__m256i inner[BLOCK_CHAINS];
		EACH_BLOCK_CHAIN inner[i] = _mm256_setzero_si256();
		EACH_GROUP
		EACH_BLOCK_CHAIN
		{
			inner[i] = dot4(inner[i], w, a, ones);
			KEEP(inner[i]);
		}
		EACH_BLOCK_CHAIN
		{
			/* Unknown again in every chain, or one product would serve them all. */
			KEEP(scale_a);
			__m256 scale = _mm256_mul_ps(scale_a, scale_a);
			sum[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(inner[i]), scale, sum[i]);
			KEEP(sum[i]);
		}
	}
	return rounds * BLOCK_CHAINS * LANES * 32 * 2;
}
