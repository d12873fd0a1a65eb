/* math/matmul_bf16_body.h, floor 1: bf16 by ordinary fmas, two to a pair of k.
 *
 * On x86 the flushing of VDPBF16PS is just what the flush-to-zero and denormals-are-zero modes do
 * to an fma (64M lanes near 2^-126 compared), so the mode is on during the matmul. NEON's mode
 * judges tininess before rounding, so there the flushing is done by hand. */
#include "math/bf16_round.h"
#include "math/lanes.h"

#define STEP_K 2
typedef struct {
	float even, odd;
} unit;
typedef struct {
	v16 even, odd;
} operand, weights;

/* Subnormals become zeros of their sign; x86's mode would do the same. */
OL_INLINE uint32_t rounded_and_flushed(float x)
{
	const uint32_t bits = ol_bf16_round_bits(x);
	return bits & 0x7f800000 ? bits : bits & 0x80000000u;
}

OL_INLINE unit make_unit(const float *x, int k, int K)
{
	const uint32_t bits[2] = {rounded_and_flushed(x[k]),
				  k + 1 < K ? rounded_and_flushed(x[k + 1]) : 0};
	unit u;
	memcpy(&u, bits, sizeof u);
	return u;
}

OL_INLINE operand spread(unit u)
{
	return (operand){v16_set(u.even), v16_set(u.odd)};
}

#if defined(__ARM_NEON)

#include "math/bf16_fma.h"

OL_INLINE v16 flush(v16 x)
{
	const m16 tiny = v16_less(v16_and_bits(x, 0x7fffffff), v16_set(0x1p-126f));
	return v16_select(tiny, v16_and_bits(x, 0x80000000u), x);
}

OL_INLINE weights load_weights(const char *p)
{
	const v16 pairs = v16_load((const float *)(const void *)p);
	return (weights){flush(v16_pair_even(pairs)), flush(v16_and_bits(pairs, 0xffff0000u))};
}

static __attribute__((noinline)) v16 fma_near_zero(v16 a, v16 w, v16 c)
{
	float x[16], y[16], z[16];
	v16_store(x, a);
	v16_store(y, w);
	v16_store(z, c);
	for (int i = 0; i < 16; i++)
		z[i] = ol_fma_flushed(x[i], y[i], z[i]);
	return v16_load(z);
}

OL_INLINE v16 fma_flushed(v16 a, v16 w, v16 c)
{
	const v16 y = v16_fma(a, w, c);
	uint32x4_t tiny = vdupq_n_u32(0);
	OL_UNROLL
	for (int i = 0; i < 4; i++)
		tiny = vorrq_u32(tiny,
				 vbicq_u32(vcleq_f32(vabsq_f32(y.q[i]), vdupq_n_f32(0x1p-126f)),
					   vceqzq_f32(y.q[i])));
	return vmaxvq_u32(tiny) ? fma_near_zero(a, w, c) : y;
}

OL_INLINE v16 step(v16 c, operand a, weights w)
{
	return fma_flushed(a.even, w.even, fma_flushed(a.odd, w.odd, c));
}

#else

OL_INLINE weights load_weights(const char *p)
{
	const v16 pairs = v16_load((const float *)(const void *)p);
	return (weights){v16_pair_even(pairs), v16_and_bits(pairs, 0xffff0000u)};
}

OL_INLINE v16 step(v16 c, operand a, weights w)
{
	return v16_fma(a.even, w.even, v16_fma(a.odd, w.odd, c));
}

#endif

#include "math/matmul_body.h"

/* Not inlined: the compiler must not move arithmetic across the change of mode. */
static __attribute__((noinline)) void matmul_in_mode(float *y, size_t y_stride, const void *act,
						     const struct ol_matrix *w, int M, int panel0,
						     int panel1)
{
	matmul(y, y_stride, act, w, M, panel0, panel1);
}

void MATMUL_NAME(ol_matmul)(float *y, size_t y_stride, const void *act, const struct ol_matrix *w,
			    int M, int panel0, int panel1)
{
#if defined(__ARM_NEON)
	matmul_in_mode(y, y_stride, act, w, M, panel0, panel1);
#else
	const unsigned mode = _mm_getcsr();
	_mm_setcsr(mode | 0x8840); /* flush to zero, denormals are zero, no trap on underflow */
	matmul_in_mode(y, y_stride, act, w, M, panel0, panel1);
	_mm_setcsr(mode);
#endif
}
