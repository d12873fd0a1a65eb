/* math/lanes_functions.h, floor 1: the elementary functions of functions.c on sixteen lanes, step
 * for step, with selections instead of branches. */
#ifndef OL_MATH_LANES_FUNCTIONS_H
#define OL_MATH_LANES_FUNCTIONS_H

#include "math/function_constants.h"
#include "math/lanes.h"

OL_INLINE v16 v16_exp(v16 x)
{
	const v16 one = v16_set(1.0f), low = v16_set(OL_EXP_LOW);
	const m16 vanishes = v16_less(x, low);
	x = v16_min(v16_max(x, low), v16_set(OL_EXP_HIGH));
	const v16 shifted = v16_fma(x, v16_set(OL_EXP_LOG2E), v16_set(OL_EXP_ROUND));
	const v16 n = v16_sub(shifted, v16_set(OL_EXP_ROUND));
	v16 r = v16_fma(n, v16_set(-OL_EXP_LN2_HIGH), x);
	r = v16_fma(n, v16_set(-OL_EXP_LN2_LOW), r);
	v16 p = v16_fma(v16_set(OL_EXP_C4), r, v16_set(OL_EXP_C3));
	p = v16_fma(p, r, v16_set(OL_EXP_C2));
	p = v16_fma(p, r, v16_set(OL_EXP_C1));
	p = v16_fma(p, r, v16_set(OL_EXP_C0));
	p = v16_fma(p, r, one);
	p = v16_fma(p, r, one);
	return v16_select(vanishes, v16_set(0.0f), v16_scale_by(p, shifted));
}

OL_INLINE v16 v16_tanh(v16 x)
{
	const v16 one = v16_set(1.0f);
	const v16 t = v16_and_bits(x, 0x7fffffff);
	const v16 z = v16_mul(t, t);
	v16 p = v16_fma(v16_set(OL_TANH_C4), z, v16_set(OL_TANH_C3));
	p = v16_fma(p, z, v16_set(OL_TANH_C2));
	p = v16_fma(p, z, v16_set(OL_TANH_C1));
	p = v16_fma(p, z, v16_set(OL_TANH_C0));
	const v16 small = v16_fma(v16_mul(p, z), t, t);
	const v16 e = v16_add(v16_exp(v16_add(t, t)), one);
	const v16 large = v16_sub(one, v16_div(v16_set(2.0f), e));
	const v16 y = v16_select(v16_less(t, v16_set(OL_TANH_SMALL)), small, large);
	return v16_or(y, v16_and_bits(x, 0x80000000u));
}

/* x / (1 + exp(-w)) */
OL_INLINE v16 v16_times_sigmoid(v16 x, v16 w)
{
	const v16 e = v16_exp(v16_or(w, v16_set(-0.0f)));
	const v16 numerator = v16_select(v16_less(w, v16_set(0.0f)), v16_mul(x, e), x);
	return v16_div(numerator, v16_add(v16_set(1.0f), e));
}

OL_INLINE v16 v16_silu(v16 x)
{
	return v16_times_sigmoid(x, x);
}

OL_INLINE v16 v16_gelu_tanh(v16 x)
{
	const v16 inner = v16_fma(v16_mul(x, x), v16_set(OL_GELU_C1), v16_set(OL_GELU_C0));
	return v16_times_sigmoid(x, v16_mul(x, inner));
}

#endif
