/* math/lanes_weights.h, floor 1: panels of every weight type as f32, on sixteen lanes. Included
 * only by files of one instruction set. */
#ifndef OL_MATH_LANES_WEIGHTS_H
#define OL_MATH_LANES_WEIGHTS_H

#include "math/lanes.h"
#include "math/matrix.h"

/* --- codes ------------------------------------------------------------------------------------ */

/* Sixteen words of four signed bytes. */
#if defined(__AVX512F__)

typedef __m512i w16;

OL_INLINE w16 w16_q8(const uint8_t *p)
{
	return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128));
}

OL_INLINE w16 w16_nibbles(const uint8_t *p, bool high)
{
	const __m512i bytes = _mm512_loadu_si512(p);
	return _mm512_and_si512(high ? _mm512_srli_epi16(bytes, 4) : bytes, _mm512_set1_epi8(15));
}

OL_INLINE w16 w16_q4(w16 codes)
{
	return _mm512_sub_epi8(codes, _mm512_set1_epi8(8));
}

OL_INLINE w16 w16_nf4(w16 codes)
{
	const __m128i levels = _mm_loadu_si128((const void *)ol_nf4_levels);
	return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), codes);
}

/* Byte j of every word. */
OL_INLINE v16 w16_byte(w16 x, int j)
{
	const __m512i top = _mm512_sll_epi32(x, _mm_cvtsi32_si128(24 - 8 * j));
	return _mm512_cvtepi32_ps(_mm512_srai_epi32(top, 24));
}

OL_INLINE v16 v16_from_f16(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

#elif defined(__AVX2__)

typedef struct {
	__m256i a, b;
} w16;

OL_INLINE w16 w16_q8(const uint8_t *p)
{
	const __m256i flip = _mm256_set1_epi8(-128);
	return (w16){_mm256_xor_si256(_mm256_loadu_si256((const void *)p), flip),
		     _mm256_xor_si256(_mm256_loadu_si256((const void *)(p + 32)), flip)};
}

OL_INLINE w16 w16_nibbles(const uint8_t *p, bool high)
{
	const __m256i mask = _mm256_set1_epi8(15);
	const __m256i a = _mm256_loadu_si256((const void *)p);
	const __m256i b = _mm256_loadu_si256((const void *)(p + 32));
	return (w16){_mm256_and_si256(high ? _mm256_srli_epi16(a, 4) : a, mask),
		     _mm256_and_si256(high ? _mm256_srli_epi16(b, 4) : b, mask)};
}

OL_INLINE w16 w16_q4(w16 codes)
{
	const __m256i eight = _mm256_set1_epi8(8);
	return (w16){_mm256_sub_epi8(codes.a, eight), _mm256_sub_epi8(codes.b, eight)};
}

OL_INLINE w16 w16_nf4(w16 codes)
{
	const __m256i levels =
		_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)ol_nf4_levels));
	return (w16){_mm256_shuffle_epi8(levels, codes.a), _mm256_shuffle_epi8(levels, codes.b)};
}

OL_INLINE v16 w16_byte(w16 x, int j)
{
	const __m128i shift = _mm_cvtsi32_si128(24 - 8 * j);
	return (v16){_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_sll_epi32(x.a, shift), 24)),
		     _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_sll_epi32(x.b, shift), 24))};
}

OL_INLINE v16 v16_from_f16(const uint16_t *p)
{
	return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)),
		     _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)))};
}

#else

typedef struct {
	int8x16_t q[4];
} w16;

OL_INLINE w16 w16_q8(const uint8_t *p)
{
	w16 r;
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		r.q[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 16 * i), vdupq_n_u8(128)));
	return r;
}

OL_INLINE w16 w16_nibbles(const uint8_t *p, bool high)
{
	w16 r;
	OL_UNROLL
	for (int i = 0; i < 4; i++) {
		const uint8x16_t x = vld1q_u8(p + 16 * i);
		r.q[i] = vreinterpretq_s8_u8(high ? vshrq_n_u8(x, 4) : vandq_u8(x, vdupq_n_u8(15)));
	}
	return r;
}

OL_INLINE w16 w16_q4(w16 codes)
{
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		codes.q[i] = vsubq_s8(codes.q[i], vdupq_n_s8(8));
	return codes;
}

OL_INLINE w16 w16_nf4(w16 codes)
{
	const int8x16_t levels = vld1q_s8(ol_nf4_levels);
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		codes.q[i] = vqtbl1q_s8(levels, vreinterpretq_u8_s8(codes.q[i]));
	return codes;
}

OL_INLINE v16 w16_byte(w16 x, int j)
{
	v16 r;
	const int32x4_t shift = vdupq_n_s32(24 - 8 * j);
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		r.q[i] = vcvtq_f32_s32(
			vshrq_n_s32(vshlq_s32(vreinterpretq_s32_s8(x.q[i]), shift), 24));
	return r;
}

OL_INLINE v16 v16_from_f16(const uint16_t *p)
{
	v16 r;
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		r.q[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
	return r;
}

#endif

/* --- panels ----------------------------------------------------------------------------------- */

/* Four ks of the panel's outputs: to[j][o] = byte j of word o, times the output's scale. */
OL_INLINE void unpack_words(float *to, int count, w16 low, w16 high, v16 scale_low, v16 scale_high)
{
	for (int j = 0; j < count; j++) {
		v16_store(to + j * OL_PANEL, v16_mul(w16_byte(low, j), scale_low));
		v16_store(to + j * OL_PANEL + 16, v16_mul(w16_byte(high, j), scale_high));
	}
}

/* The first `count` ks (1 .. 32) of a block of 32. */
OL_INLINE void unpack_q8(float *to, const uint8_t *block, int count)
{
	const v16 low = v16_from_f16((const uint16_t *)(const void *)block);
	const v16 high = v16_from_f16((const uint16_t *)(const void *)block + 16);
	const uint8_t *codes = block + 2 * OL_PANEL;
	for (int k = 0; k < count; k += 4, codes += 4 * OL_PANEL)
		unpack_words(to + k * OL_PANEL, OL_MIN(4, count - k), w16_q8(codes),
			     w16_q8(codes + 64), low, high);
}

OL_INLINE void unpack_nibbles(float *to, const uint8_t *block, int count, bool nf4)
{
	const v16 low = v16_from_f16((const uint16_t *)(const void *)block);
	const v16 high = v16_from_f16((const uint16_t *)(const void *)block + 16);
	for (int k = 0; k < count; k += 4) {
		const uint8_t *codes = block + 2 * OL_PANEL + k % 16 * OL_PANEL;
		w16 a = w16_nibbles(codes, k >= 16), b = w16_nibbles(codes + 64, k >= 16);
		a = nf4 ? w16_nf4(a) : w16_q4(a);
		b = nf4 ? w16_nf4(b) : w16_q4(b);
		unpack_words(to + k * OL_PANEL, OL_MIN(4, count - k), a, b, low, high);
	}
}

OL_INLINE void unpack_bf16(float *to, const uint16_t *pairs, int count)
{
	for (int k = 0; k < count; k += 2, pairs += 2 * OL_PANEL) {
		OL_UNROLL
		for (int half = 0; half < 2; half++) {
			const v16 w =
				v16_load((const float *)(const void *)(pairs + half * OL_PANEL));
			v16_store(to + k * OL_PANEL + 16 * half, v16_pair_even(w));
			if (k + 1 < count)
				v16_store(to + (k + 1) * OL_PANEL + 16 * half,
					  v16_and_bits(w, 0xffff0000u));
		}
	}
}

/* to [k1 - k0][OL_PANEL]: inputs [k0,k1) of a panel's outputs as ol_dequantize_row says. k0 is a
 * multiple of OL_BLOCK, k1 too or it is K. */
static void unpack_panel(float *to, const struct ol_matrix *w, int panel, int k0, int k1)
{
	const size_t K = (size_t)w->cols, blocks = (K + OL_BLOCK - 1) / OL_BLOCK;
	const size_t at = (size_t)panel;

	if (w->type == OL_WEIGHT_F32) {
		memcpy(to, (const float *)w->panels + (at * K + (size_t)k0) * OL_PANEL,
		       (size_t)(k1 - k0) * OL_PANEL * sizeof *to);
		return;
	}
	if (w->type == OL_WEIGHT_BF16) {
		unpack_bf16(to,
			    (const uint16_t *)w->panels +
				    (at * ((K + 1) / 2) + (size_t)k0 / 2) * 2 * OL_PANEL,
			    k1 - k0);
		return;
	}
	const size_t bytes =
		2 * OL_PANEL + (w->type == OL_WEIGHT_Q8 ? OL_BLOCK : OL_BLOCK / 2) * OL_PANEL;
	const uint8_t *block =
		(const uint8_t *)w->panels + (at * blocks + (size_t)(k0 / OL_BLOCK)) * bytes;
	for (int k = k0; k < k1; k += OL_BLOCK, block += bytes, to += OL_BLOCK * OL_PANEL) {
		const int count = OL_MIN(OL_BLOCK, k1 - k);
		if (w->type == OL_WEIGHT_Q8)
			unpack_q8(to, block, count);
		else
			unpack_nibbles(to, block, count, w->type == OL_WEIGHT_NF4);
	}
}

#endif
