/* math/lanes_philox.h, floor 1: Philox4x32-10 (functions.c) on sixteen counters beside each other.
 * Included only by files of one instruction set. */
#ifndef OL_MATH_LANES_PHILOX_H
#define OL_MATH_LANES_PHILOX_H

#include "math/lanes.h"

/* Sixteen words; x * m as 64 bits, in two halves. */
#if defined(__AVX512F__)

typedef __m512i u32x16;

OL_INLINE u32x16 u32x16_set(uint32_t x)
{
	return _mm512_set1_epi32((int)x);
}

OL_INLINE u32x16 u32x16_load(const uint32_t *p)
{
	return _mm512_loadu_si512(p);
}

OL_INLINE void u32x16_store(uint32_t *p, u32x16 x)
{
	_mm512_storeu_si512(p, x);
}

OL_INLINE u32x16 u32x16_xor(u32x16 x, u32x16 y)
{
	return _mm512_xor_si512(x, y);
}

OL_INLINE void u32x16_multiply(u32x16 *high, u32x16 *low, u32x16 x, uint32_t m)
{
	const __m512i factor = _mm512_set1_epi64(m);
	const __m512i even = _mm512_mul_epu32(x, factor);
	const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
	*high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
	*low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

#elif defined(__AVX2__)

typedef struct {
	__m256i a, b;
} u32x16;

OL_INLINE u32x16 u32x16_set(uint32_t x)
{
	return (u32x16){_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)};
}

OL_INLINE u32x16 u32x16_load(const uint32_t *p)
{
	return (u32x16){_mm256_loadu_si256((const void *)p),
			_mm256_loadu_si256((const void *)(p + 8))};
}

OL_INLINE void u32x16_store(uint32_t *p, u32x16 x)
{
	_mm256_storeu_si256((void *)p, x.a);
	_mm256_storeu_si256((void *)(p + 8), x.b);
}

OL_INLINE u32x16 u32x16_xor(u32x16 x, u32x16 y)
{
	return (u32x16){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}

OL_INLINE void multiply_8(__m256i *high, __m256i *low, __m256i x, __m256i factor)
{
	const __m256i even = _mm256_mul_epu32(x, factor);
	const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
	*high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
	*low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

OL_INLINE void u32x16_multiply(u32x16 *high, u32x16 *low, u32x16 x, uint32_t m)
{
	const __m256i factor = _mm256_set1_epi64x(m);
	multiply_8(&high->a, &low->a, x.a, factor);
	multiply_8(&high->b, &low->b, x.b, factor);
}

#else

typedef struct {
	uint32x4_t q[4];
} u32x16;

OL_INLINE u32x16 u32x16_load(const uint32_t *p)
{
	return (u32x16){{vld1q_u32(p), vld1q_u32(p + 4), vld1q_u32(p + 8), vld1q_u32(p + 12)}};
}

OL_INLINE u32x16 u32x16_set(uint32_t x)
{
	const uint32x4_t q = vdupq_n_u32(x);
	return (u32x16){{q, q, q, q}};
}

OL_INLINE void u32x16_store(uint32_t *p, u32x16 x)
{
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		vst1q_u32(p + 4 * i, x.q[i]);
}

OL_INLINE u32x16 u32x16_xor(u32x16 x, u32x16 y)
{
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		x.q[i] = veorq_u32(x.q[i], y.q[i]);
	return x;
}

OL_INLINE void u32x16_multiply(u32x16 *high, u32x16 *low, u32x16 x, uint32_t m)
{
	const uint32x2_t factor = vdup_n_u32(m);
	OL_UNROLL
	for (int i = 0; i < 4; i++) {
		const uint64x2_t a = vmull_u32(vget_low_u32(x.q[i]), factor);
		const uint64x2_t b = vmull_u32(vget_high_u32(x.q[i]), factor);
		low->q[i] = vcombine_u32(vmovn_u64(a), vmovn_u64(b));
		high->q[i] = vcombine_u32(vshrn_n_u64(a, 32), vshrn_n_u64(b, 32));
	}
}

#endif

/* word[w][i] = word w for the counter (block + i, c1, c2, c3). */
OL_INLINE void philox_16(uint32_t word[4][16], uint32_t block, uint32_t c1, uint32_t c2,
			 uint32_t c3, const uint32_t key[2])
{
	uint32_t blocks[16], k0 = key[0], k1 = key[1];
	for (uint32_t i = 0; i < 16; i++)
		blocks[i] = block + i;
	u32x16 x0 = u32x16_load(blocks), x1 = u32x16_set(c1);
	u32x16 x2 = u32x16_set(c2), x3 = u32x16_set(c3);
	for (int round = 0; round < 10; round++) {
		u32x16 a_high, a_low, b_high, b_low;
		u32x16_multiply(&a_high, &a_low, x0, 0xD2511F53u);
		u32x16_multiply(&b_high, &b_low, x2, 0xCD9E8D57u);
		x0 = u32x16_xor(u32x16_xor(b_high, x1), u32x16_set(k0));
		x2 = u32x16_xor(u32x16_xor(a_high, x3), u32x16_set(k1));
		x1 = b_low;
		x3 = a_low;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	u32x16_store(word[0], x0);
	u32x16_store(word[1], x1);
	u32x16_store(word[2], x2);
	u32x16_store(word[3], x3);
}

#endif
