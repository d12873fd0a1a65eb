/* math/functions.h, floor 1: our own elementary functions (docs/ARITHMETIC.md, "Functions").
 *
 * Made of + - * / sqrt fma and conversions only, so every machine gets the same bits; no libm in
 * a result. These scalar versions are the specification; vector versions in the kernels equal
 * them bit for bit. Arguments are finite; a NaN is an error of the caller. */
#ifndef OL_MATH_FUNCTIONS_H
#define OL_MATH_FUNCTIONS_H

#include "base/base.h"

/* f32, within 2 ulp of the true value on the stated range. */
float ol_expf(float x); /* x < -87.3365 -> +0; x > 88.3762 is taken as 88.3762 */
float ol_logf(float x); /* x > 0, subnormals included; ol_logf(0) = -infinity    */
float ol_tanhf(float x);
float ol_siluf(float x);      /* x / (1 + exp(-x)) */
float ol_gelu_tanhf(float x); /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */

/* f64, within 2 ulp; used for RoPE and sampling, never in an inner loop. */
double ol_exp(double x);
double ol_log(double x);
void ol_sincos(double *sin_out, double *cos_out, double x); /* |x| <= 2^31, reduced in f64 */

/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11). */
void ol_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
/* (top 24 bits + 1/2) * 2^-24, exactly: never 0, never 1. (Its 25 bits need a double.) */
static inline double ol_unit_double(uint32_t word)
{
	return ((double)(word >> 8) + 0.5) * 0x1p-24;
}

#endif
