/* math/lanes.h, floor 1: sixteen floats side by side, in whatever vectors the file is compiled for.
 *
 * A v16 is one AVX-512 register, two of AVX2 or four of NEON; an m16 is a truth value a lane. Every
 * operation works lane by lane, rounds once and never looks at a neighbour, so code written with it
 * gives the same bits on all three. Included only by files named *_avx512.c, *_avx2.c, *_neon.c;
 * OL_LANES_NAME(f) is the name of function f in their instruction set. */
#ifndef OL_MATH_LANES_H
#define OL_MATH_LANES_H

#include <stdint.h>
#include <string.h>

#include "base/base.h"

#define OL_INLINE static inline __attribute__((always_inline))
#define OL_UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)

#include <immintrin.h>

#define OL_LANES_NAME(f) f##_avx512

typedef __m512 v16;
typedef __mmask16 m16;

OL_INLINE v16 v16_set(float x)
{
	return _mm512_set1_ps(x);
}

OL_INLINE v16 v16_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

OL_INLINE void v16_store(float *p, v16 x)
{
	_mm512_storeu_ps(p, x);
}

/* The first n lanes (0 <= n <= 16); the rest read as zero and are not written. */
OL_INLINE v16 v16_load_part(const float *p, int n)
{
	return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

OL_INLINE void v16_store_part(float *p, v16 x, int n)
{
	_mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}

OL_INLINE v16 v16_add(v16 a, v16 b)
{
	return _mm512_add_ps(a, b);
}

OL_INLINE v16 v16_sub(v16 a, v16 b)
{
	return _mm512_sub_ps(a, b);
}

OL_INLINE v16 v16_mul(v16 a, v16 b)
{
	return _mm512_mul_ps(a, b);
}

OL_INLINE v16 v16_div(v16 a, v16 b)
{
	return _mm512_div_ps(a, b);
}

OL_INLINE v16 v16_sqrt(v16 a)
{
	return _mm512_sqrt_ps(a);
}

/* a * b + c, rounded once. */
OL_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* a > b ? a : b */
OL_INLINE v16 v16_max(v16 a, v16 b)
{
	return _mm512_max_ps(a, b);
}

/* a < b ? a : b */
OL_INLINE v16 v16_min(v16 a, v16 b)
{
	return _mm512_min_ps(a, b);
}

OL_INLINE m16 v16_less(v16 a, v16 b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

OL_INLINE v16 v16_select(m16 m, v16 yes, v16 no)
{
	return _mm512_mask_blend_ps(m, no, yes);
}

/* x with these bits only; x with these bits set. */
OL_INLINE v16 v16_and_bits(v16 x, uint32_t bits)
{
	return _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32((int)bits)));
}

OL_INLINE v16 v16_or(v16 a, v16 b)
{
	return _mm512_or_ps(a, b);
}

/* Rounded to f16 (ties to even, subnormals kept) and widened again. */
OL_INLINE v16 v16_round_f16(v16 x)
{
	return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* The bits of x plus those of n shifted 23 to the left: x * 2^n for an n added to 1.5 * 2^23. */
OL_INLINE v16 v16_scale_by(v16 x, v16 n)
{
	return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x),
						    _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
}

/* The bits of x shifted 16 to the left: of a bf16 pair, the even element as f32. */
OL_INLINE v16 v16_pair_even(v16 x)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 16));
}

OL_INLINE v16 v16_from_bf16(const uint16_t *p)
{
	return _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16));
}

OL_INLINE v16 v16_from_bf16_part(const uint16_t *p, int n)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(
		_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p)),
		16));
}

/* Lane i += lane i + 8, then 4, 2, 1. */
OL_INLINE float v16_tree_sum(v16 x)
{
	const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

OL_INLINE float v16_tree_max(v16 x)
{
	const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
	__m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

#elif defined(__AVX2__)

#include <immintrin.h>

#define OL_LANES_NAME(f) f##_avx2

typedef struct {
	__m256 a, b;
} v16;
typedef v16 m16;

OL_INLINE v16 v16_set(float x)
{
	return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

OL_INLINE v16 v16_load(const float *p)
{
	return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

OL_INLINE void v16_store(float *p, v16 x)
{
	_mm256_storeu_ps(p, x.a);
	_mm256_storeu_ps(p + 8, x.b);
}

/* All ones in the lanes below n. */
OL_INLINE __m256i lanes_below(int n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n lanes (0 <= n <= 16); the rest read as zero and are not written. */
OL_INLINE v16 v16_load_part(const float *p, int n)
{
	return (v16){_mm256_maskload_ps(p, lanes_below(n)),
		     _mm256_maskload_ps(p + 8, lanes_below(n - 8))};
}

OL_INLINE void v16_store_part(float *p, v16 x, int n)
{
	_mm256_maskstore_ps(p, lanes_below(n), x.a);
	_mm256_maskstore_ps(p + 8, lanes_below(n - 8), x.b);
}

OL_INLINE v16 v16_add(v16 x, v16 y)
{
	return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

OL_INLINE v16 v16_sub(v16 x, v16 y)
{
	return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

OL_INLINE v16 v16_mul(v16 x, v16 y)
{
	return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

OL_INLINE v16 v16_div(v16 x, v16 y)
{
	return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

OL_INLINE v16 v16_sqrt(v16 x)
{
	return (v16){_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)};
}

/* x * y + z, rounded once. */
OL_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
	return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

/* x > y ? x : y */
OL_INLINE v16 v16_max(v16 x, v16 y)
{
	return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

/* x < y ? x : y */
OL_INLINE v16 v16_min(v16 x, v16 y)
{
	return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

OL_INLINE m16 v16_less(v16 x, v16 y)
{
	return (m16){_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}

OL_INLINE v16 v16_select(m16 m, v16 yes, v16 no)
{
	return (v16){_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}

/* x with these bits only. */
OL_INLINE v16 v16_and_bits(v16 x, uint32_t bits)
{
	const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32((int)bits));
	return (v16){_mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask)};
}

OL_INLINE v16 v16_or(v16 x, v16 y)
{
	return (v16){_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)};
}

OL_INLINE __m256 round_f16(__m256 x)
{
	return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Rounded to f16 (ties to even, subnormals kept) and widened again. */
OL_INLINE v16 v16_round_f16(v16 x)
{
	return (v16){round_f16(x.a), round_f16(x.b)};
}

OL_INLINE __m256 scale_by(__m256 x, __m256 n)
{
	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x),
						    _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
}

/* The bits of x plus those of n shifted 23 to the left: x * 2^n for an n added to 1.5 * 2^23. */
OL_INLINE v16 v16_scale_by(v16 x, v16 n)
{
	return (v16){scale_by(x.a, n.a), scale_by(x.b, n.b)};
}

/* The bits of x shifted 16 to the left: of a bf16 pair, the even element as f32. */
OL_INLINE v16 v16_pair_even(v16 x)
{
	return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.a), 16)),
		     _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.b), 16))};
}

OL_INLINE __m256 widen_bf16(__m128i h)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

OL_INLINE v16 v16_from_bf16(const uint16_t *p)
{
	return (v16){widen_bf16(_mm_loadu_si128((const void *)p)),
		     widen_bf16(_mm_loadu_si128((const void *)(p + 8)))};
}

OL_INLINE v16 v16_from_bf16_part(const uint16_t *p, int n)
{
	uint16_t copy[16] = {0};
	memcpy(copy, p, (size_t)n * sizeof *p);
	return v16_from_bf16(copy);
}

/* Lane i += lane i + 8, then 4, 2, 1. */
OL_INLINE float v16_tree_sum(v16 x)
{
	const __m256 a = _mm256_add_ps(x.a, x.b);
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

OL_INLINE float v16_tree_max(v16 x)
{
	const __m256 a = _mm256_max_ps(x.a, x.b);
	__m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

#elif defined(__ARM_NEON)

#include <arm_neon.h>

#define OL_LANES_NAME(f) f##_neon

typedef struct {
	float32x4_t q[4];
} v16;
typedef struct {
	uint32x4_t q[4];
} m16;

/* The four quarters of the result, each by one instruction. */
#define QUARTERS(type, expression)                                                                 \
	type r;                                                                                    \
	OL_UNROLL                                                                                  \
	for (int i = 0; i < 4; i++)                                                                \
		r.q[i] = (expression);                                                             \
	return r

OL_INLINE v16 v16_set(float x)
{
	QUARTERS(v16, vdupq_n_f32(x));
}

OL_INLINE v16 v16_load(const float *p)
{
	QUARTERS(v16, vld1q_f32(p + 4 * i));
}

OL_INLINE void v16_store(float *p, v16 x)
{
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		vst1q_f32(p + 4 * i, x.q[i]);
}

/* The first n lanes (0 <= n <= 16); the rest read as zero and are not written. */
OL_INLINE v16 v16_load_part(const float *p, int n)
{
	float copy[16] = {0};
	memcpy(copy, p, (size_t)n * sizeof *p);
	return v16_load(copy);
}

OL_INLINE void v16_store_part(float *p, v16 x, int n)
{
	float copy[16];
	v16_store(copy, x);
	memcpy(p, copy, (size_t)n * sizeof *p);
}

OL_INLINE v16 v16_add(v16 x, v16 y)
{
	QUARTERS(v16, vaddq_f32(x.q[i], y.q[i]));
}

OL_INLINE v16 v16_sub(v16 x, v16 y)
{
	QUARTERS(v16, vsubq_f32(x.q[i], y.q[i]));
}

OL_INLINE v16 v16_mul(v16 x, v16 y)
{
	QUARTERS(v16, vmulq_f32(x.q[i], y.q[i]));
}

OL_INLINE v16 v16_div(v16 x, v16 y)
{
	QUARTERS(v16, vdivq_f32(x.q[i], y.q[i]));
}

OL_INLINE v16 v16_sqrt(v16 x)
{
	QUARTERS(v16, vsqrtq_f32(x.q[i]));
}

/* x * y + z, rounded once. */
OL_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
	QUARTERS(v16, vfmaq_f32(z.q[i], x.q[i], y.q[i]));
}

/* x > y ? x : y (FMAX orders zeros by sign, so it is not used) */
OL_INLINE v16 v16_max(v16 x, v16 y)
{
	QUARTERS(v16, vbslq_f32(vcgtq_f32(x.q[i], y.q[i]), x.q[i], y.q[i]));
}

/* x < y ? x : y */
OL_INLINE v16 v16_min(v16 x, v16 y)
{
	QUARTERS(v16, vbslq_f32(vcltq_f32(x.q[i], y.q[i]), x.q[i], y.q[i]));
}

OL_INLINE m16 v16_less(v16 x, v16 y)
{
	QUARTERS(m16, vcltq_f32(x.q[i], y.q[i]));
}

OL_INLINE v16 v16_select(m16 m, v16 yes, v16 no)
{
	QUARTERS(v16, vbslq_f32(m.q[i], yes.q[i], no.q[i]));
}

/* x with these bits only. */
OL_INLINE v16 v16_and_bits(v16 x, uint32_t bits)
{
	QUARTERS(v16, vreinterpretq_f32_u32(
			      vandq_u32(vreinterpretq_u32_f32(x.q[i]), vdupq_n_u32(bits))));
}

OL_INLINE v16 v16_or(v16 x, v16 y)
{
	QUARTERS(v16, vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(x.q[i]),
						      vreinterpretq_u32_f32(y.q[i]))));
}

/* Rounded to f16 (ties to even, subnormals kept) and widened again. */
OL_INLINE v16 v16_round_f16(v16 x)
{
	QUARTERS(v16, vcvt_f32_f16(vcvt_f16_f32(x.q[i])));
}

/* The bits of x plus those of n shifted 23 to the left: x * 2^n for an n added to 1.5 * 2^23. */
OL_INLINE v16 v16_scale_by(v16 x, v16 n)
{
	QUARTERS(v16,
		 vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(x.q[i]),
						 vshlq_n_u32(vreinterpretq_u32_f32(n.q[i]), 23))));
}

/* The bits of x shifted 16 to the left: of a bf16 pair, the even element as f32. */
OL_INLINE v16 v16_pair_even(v16 x)
{
	QUARTERS(v16, vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x.q[i]), 16)));
}

OL_INLINE v16 v16_from_bf16(const uint16_t *p)
{
	QUARTERS(v16, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}

OL_INLINE v16 v16_from_bf16_part(const uint16_t *p, int n)
{
	uint16_t copy[16] = {0};
	memcpy(copy, p, (size_t)n * sizeof *p);
	return v16_from_bf16(copy);
}

/* Lane i += lane i + 8, then 4, 2, 1. */
OL_INLINE float v16_tree_sum(v16 x)
{
	const float32x4_t four = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
	const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
	return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

OL_INLINE float v16_tree_max(v16 x)
{
	float lane[16];
	v16_store(lane, x);
	for (int half = 8; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
	return lane[0];
}

#undef QUARTERS

#else
#error "lanes.h is for files of one instruction set (see cmake/rooms.cmake)"
#endif

#endif
