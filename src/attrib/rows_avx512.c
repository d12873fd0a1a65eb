/* Integer products on AVX-512 VNNI: unsigned times signed bytes, so the left codes get 128 added,
 * and 128 times the sum of the right ones is taken off again. Sums wrap; what they come to fits. */
#include "attrib/rows_kernels.h"

#include <immintrin.h>

static __m512i load(const int8_t *p, __mmask64 mask)
{
	return _mm512_maskz_loadu_epi8(mask, p);
}

static __mmask64 mask_of(int left)
{
	return left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
}

static int32_t dot(const int8_t *a, const int8_t *b, int n)
{
	const __m512i offset = _mm512_set1_epi8((char)-128);
	__m512i acc = _mm512_setzero_si512(), extra = acc;
	for (int i = 0; i < n; i += 64) {
		const __mmask64 mask = mask_of(n - i);
		const __m512i right = load(b + i, mask);
		acc = _mm512_dpbusd_epi32(acc, _mm512_xor_si512(load(a + i, mask), offset), right);
		extra = _mm512_dpbusd_epi32(extra, offset, right);
	}
	return _mm512_reduce_add_epi32(_mm512_sub_epi32(acc, extra));
}

static void dot_blocks(int32_t out[OL_ROW_BLOCKS], const int8_t *a, size_t stride, const int8_t *b,
		       int n)
{
	const __m512i offset = _mm512_set1_epi8((char)-128);
	__m512i acc[OL_ROW_BLOCKS], extra = _mm512_setzero_si512();
	for (int k = 0; k < OL_ROW_BLOCKS; k++)
		acc[k] = extra;
	for (int i = 0; i < n; i += 64) {
		const __mmask64 mask = mask_of(n - i);
		const __m512i right = load(b + i, mask);
		extra = _mm512_dpbusd_epi32(extra, offset, right);
		for (int k = 0; k < OL_ROW_BLOCKS; k++)
			acc[k] = _mm512_dpbusd_epi32(
				acc[k],
				_mm512_xor_si512(load(a + (size_t)k * stride + i, mask), offset),
				right);
	}
	for (int k = 0; k < OL_ROW_BLOCKS; k++)
		out[k] = _mm512_reduce_add_epi32(_mm512_sub_epi32(acc[k], extra));
}

const struct ol_row_kernels ol_row_kernels_avx512 = {OL_ISA_AVX512, dot, dot_blocks};
