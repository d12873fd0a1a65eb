/* Integer products on AVX2: 16 codes widened to 16 bits, pairs summed in 32. */
#include "attrib/rows_kernels.h"

#include <immintrin.h>

static __m256i widen(const int8_t *p)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static int32_t sum(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

static int32_t dot(const int8_t *a, const int8_t *b, int n)
{
	__m256i acc = _mm256_setzero_si256();
	int i = 0;
	for (; i + 16 <= n; i += 16)
		acc = _mm256_add_epi32(acc, _mm256_madd_epi16(widen(a + i), widen(b + i)));
	int32_t rest = sum(acc);
	for (; i < n; i++)
		rest += a[i] * b[i];
	return rest;
}

static void dot_blocks(int32_t out[OL_ROW_BLOCKS], const int8_t *a, size_t stride, const int8_t *b,
		       int n)
{
	__m256i acc[OL_ROW_BLOCKS];
	int i = 0;
	for (int k = 0; k < OL_ROW_BLOCKS; k++)
		acc[k] = _mm256_setzero_si256();
	for (; i + 16 <= n; i += 16) {
		const __m256i right = widen(b + i);
		for (int k = 0; k < OL_ROW_BLOCKS; k++)
			acc[k] = _mm256_add_epi32(
				acc[k],
				_mm256_madd_epi16(widen(a + (size_t)k * stride + i), right));
	}
	for (int k = 0; k < OL_ROW_BLOCKS; k++) {
		out[k] = sum(acc[k]);
		for (int j = i; j < n; j++)
			out[k] += a[(size_t)k * stride + (size_t)j] * b[j];
	}
}

const struct ol_row_kernels ol_row_kernels_avx2 = {OL_ISA_AVX2, dot, dot_blocks};
