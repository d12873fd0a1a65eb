/* math/lanes_transpose.h, floor 1: blocks of numbers copied and transposed, on sixteen lanes.
 * Included only by files of one instruction set. */
#ifndef OL_MATH_LANES_TRANSPOSE_H
#define OL_MATH_LANES_TRANSPOSE_H

#include "math/lanes.h"

#if defined(__AVX512F__)

OL_INLINE void v16_transpose(v16 r[16])
{
	v16 t[16];
	OL_UNROLL
	for (int i = 0; i < 16; i += 4) {
		const v16 a = _mm512_unpacklo_ps(r[i], r[i + 1]);
		const v16 b = _mm512_unpackhi_ps(r[i], r[i + 1]);
		const v16 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]);
		const v16 d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
		t[i] = _mm512_shuffle_ps(a, c, 0x44);
		t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
		t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
		t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
	}
	/* t[4 i + j] holds column 4 q + j of rows 4 i .. 4 i + 3 in quarter q. */
	OL_UNROLL
	for (int j = 0; j < 4; j++) {
		const v16 a = _mm512_shuffle_f32x4(t[j], t[4 + j], 0x88);
		const v16 b = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0x88);
		const v16 c = _mm512_shuffle_f32x4(t[j], t[4 + j], 0xdd);
		const v16 d = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0xdd);
		r[j] = _mm512_shuffle_f32x4(a, b, 0x88);
		r[8 + j] = _mm512_shuffle_f32x4(a, b, 0xdd);
		r[4 + j] = _mm512_shuffle_f32x4(c, d, 0x88);
		r[12 + j] = _mm512_shuffle_f32x4(c, d, 0xdd);
	}
}

#elif defined(__AVX2__)

OL_INLINE void transpose_8(__m256 r[8])
{
	__m256 t[8];
	OL_UNROLL
	for (int i = 0; i < 8; i += 4) {
		const __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]);
		const __m256 b = _mm256_unpackhi_ps(r[i], r[i + 1]);
		const __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]);
		const __m256 d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
		t[i] = _mm256_shuffle_ps(a, c, 0x44);
		t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
		t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
		t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
	}
	OL_UNROLL
	for (int j = 0; j < 4; j++) {
		r[j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x20);
		r[4 + j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x31);
	}
}

OL_INLINE void v16_transpose(v16 r[16])
{
	__m256 corner[2][2][8];
	OL_UNROLL
	for (int i = 0; i < 16; i++) {
		corner[i / 8][0][i % 8] = r[i].a;
		corner[i / 8][1][i % 8] = r[i].b;
	}
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		transpose_8(corner[i / 2][i % 2]);
	OL_UNROLL
	for (int i = 0; i < 16; i++)
		r[i] = (v16){corner[0][i / 8][i % 8], corner[1][i / 8][i % 8]};
}

#else

OL_INLINE void transpose_4(float32x4_t r[4])
{
	const float32x4_t a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]);
	const float32x4_t c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
	r[0] = vcombine_f32(vget_low_f32(a), vget_low_f32(c));
	r[1] = vcombine_f32(vget_low_f32(b), vget_low_f32(d));
	r[2] = vcombine_f32(vget_high_f32(a), vget_high_f32(c));
	r[3] = vcombine_f32(vget_high_f32(b), vget_high_f32(d));
}

OL_INLINE void v16_transpose(v16 r[16])
{
	v16 t[16];
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++) {
			float32x4_t block[4];
			for (int u = 0; u < 4; u++)
				block[u] = r[4 * i + u].q[j];
			transpose_4(block);
			for (int u = 0; u < 4; u++)
				t[4 * j + u].q[i] = block[u];
		}
	OL_UNROLL
	for (int i = 0; i < 16; i++)
		r[i] = t[i];
}

#endif

/* Turns rows x columns numbers (at most 16 each) into columns x rows. Of each row of `to`, `width`
 * (rows .. 16) numbers are written, zeros behind `rows`. */
OL_INLINE void transpose_block(float *to, size_t to_stride, const float *from, size_t from_stride,
			       int rows, int columns, int width)
{
	v16 r[16];
	if (rows == 16 && columns == 16) {
		OL_UNROLL
		for (int i = 0; i < 16; i++)
			r[i] = v16_load(from + (size_t)i * from_stride);
		v16_transpose(r);
		OL_UNROLL
		for (int i = 0; i < 16; i++)
			v16_store(to + (size_t)i * to_stride, r[i]);
		return;
	}
	for (int i = 0; i < 16; i++)
		r[i] = i < rows ? v16_load_part(from + (size_t)i * from_stride, columns)
				: v16_set(0.0f);
	v16_transpose(r);
	for (int i = 0; i < columns; i++)
		v16_store_part(to + (size_t)i * to_stride, r[i], width);
}

/* to [M][width] = the first `count` numbers of each row, zeros behind. */
OL_INLINE void copy_rows(float *to, int width, const float *from, size_t stride, int M, int count)
{
	for (int m = 0; m < M; m++, from += stride)
		for (int i = 0; i < width; i += 16, to += 16) {
			if (i + 16 <= count)
				v16_store(to, v16_load(from + i));
			else
				v16_store(to, v16_load_part(from + OL_MIN(i, count),
							    OL_MAX(0, count - i)));
		}
}

#endif
