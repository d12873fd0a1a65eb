/* math/functions.h, floor 1: our own elementary functions (docs/ARITHMETIC.md, "Functions").
 *
 * Made of + - * / sqrt fma and conversions only, so every machine gets the same bits; no libm in
 * a result. These scalar versions are the specification; vector versions in the kernels equal
 * them bit for bit. Arguments are finite; a NaN is an error of the caller. */
#ifndef OL_MATH_FUNCTIONS_H
#define OL_MATH_FUNCTIONS_H

#include "base/base.h"

/* f32. The bounds are asserted in test_functions.c against f64 libm. */
float ol_expf(float x);  /* 1 ulp; x < -87.3365 -> +0; x > 88.3762 is taken as 88.3762 */
float ol_logf(float x);  /* 1 ulp; x > 0, subnormals included; ol_logf(0) = -infinity  */
float ol_tanhf(float x); /* 1.5 ulp                                                    */
/* x / (1 + exp(-x)): 3 ulp; below -87.3365 it is -0. */
float ol_siluf(float x);
/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3): 16 ulp from -3 up,
 * 160 ulp down to -9, where the value is about 1e-28. */
float ol_gelu_tanhf(float x);

/* f64, within 2 ulp; used for RoPE and sampling, never in an inner loop. */
double ol_exp(double x); /* x < -708 -> +0; x > 709 is taken as 709 */
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
