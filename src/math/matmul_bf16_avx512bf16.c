/* math/matmul_bf16_avx512bf16.c: bf16 with VDPBF16PS, whose arithmetic the contract took over. */
#define MATMUL_NAME(f) f##_bf16_avx512bf16

/* 12 rows x 2 vectors: 24 of 32 registers are chains. */
#define TILE_ROWS 12
#define NARROW 2
#define WIDE(R) ((R) == 1 ? 8 : (R) <= 3 ? 4 : 2)
#define DEPTH 2048

#include "math/bf16_round.h"
#include "math/lanes.h"

/* A step is a pair of k, the even one in the low half. */
#define STEP_K 2
typedef uint32_t unit;
typedef __m512i operand, weights;

OL_INLINE unit make_unit(const float *x, int k, int K)
{
	return ol_bf16_round_bits(x[k]) >> 16 | (k + 1 < K ? ol_bf16_round_bits(x[k + 1]) : 0);
}

OL_INLINE operand spread(unit u)
{
	return _mm512_set1_epi32((int)u);
}

OL_INLINE weights load_weights(const char *p)
{
	return _mm512_loadu_si512(p);
}

OL_INLINE v16 step(v16 c, operand a, weights w)
{
	return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)w);
}

#include "math/matmul_body.h"

void ol_matmul_bf16_avx512bf16(float *y, size_t y_stride, const void *act,
			       const struct ol_matrix *w, int M, int panel0, int panel1)
{
	matmul(y, y_stride, act, w, M, panel0, panel1);
}
