/* math/functions.c: the elementary functions, as docs/ARITHMETIC.md ("Functions") defines them.
 * Every line below is part of that definition: do not reorder. */
#include "math/functions.h"

#include <math.h>
#include <string.h>

#include "math/function_constants.h"

static uint32_t bits_of(float x)
{
	uint32_t b;
	memcpy(&b, &x, sizeof b);
	return b;
}

static float float_of(uint32_t b)
{
	float x;
	memcpy(&x, &b, sizeof x);
	return x;
}

static uint64_t bits_of_double(double x)
{
	uint64_t b;
	memcpy(&b, &x, sizeof b);
	return b;
}

static double double_of(uint64_t b)
{
	double x;
	memcpy(&x, &b, sizeof x);
	return x;
}

float ol_expf(float x)
{
	if (x < OL_EXP_LOW)
		return 0.0f;
	if (x > OL_EXP_HIGH)
		x = OL_EXP_HIGH;
	/* The low bits of `shifted` are n + a constant; n = shifted - 1.5*2^23 is exact. */
	const float shifted = fmaf(x, OL_EXP_LOG2E, OL_EXP_ROUND);
	const float n = shifted - OL_EXP_ROUND;
	float r = fmaf(n, -OL_EXP_LN2_HIGH, x);
	r = fmaf(n, -OL_EXP_LN2_LOW, r);
	float p = OL_EXP_C4;
	p = fmaf(p, r, OL_EXP_C3);
	p = fmaf(p, r, OL_EXP_C2);
	p = fmaf(p, r, OL_EXP_C1);
	p = fmaf(p, r, OL_EXP_C0);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	/* p * 2^n: p is in [0.7, 1.5], n in [-126, 127]: adding n to the exponent is exact. */
	return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

float ol_logf(float x)
{
	if (x == 0.0f)
		return float_of(0xff800000u);
	int e = 0;
	if (x < 0x1p-126f) {
		x *= 0x1p23f;
		e = -23;
	}
	const uint32_t above = bits_of(x) - OL_LOG_SQRT_HALF_BITS;
	e += (int32_t)above >> 23;
	const float f = float_of((above & 0x7fffff) + OL_LOG_SQRT_HALF_BITS) - 1.0f;
	const float n = (float)e;
	float p = OL_LOG_C8;
	p = fmaf(p, f, OL_LOG_C7);
	p = fmaf(p, f, OL_LOG_C6);
	p = fmaf(p, f, OL_LOG_C5);
	p = fmaf(p, f, OL_LOG_C4);
	p = fmaf(p, f, OL_LOG_C3);
	p = fmaf(p, f, OL_LOG_C2);
	p = fmaf(p, f, OL_LOG_C1);
	p = fmaf(p, f, OL_LOG_C0);
	const float square = f * f;
	p = (p * f) * square;
	p = fmaf(n, OL_LOG_LN2_LOW, p);
	p = fmaf(-0.5f, square, p);
	return fmaf(n, OL_LOG_LN2_HIGH, f + p);
}

float ol_tanhf(float x)
{
	const float t = float_of(bits_of(x) & 0x7fffffff);
	float y;
	if (t < OL_TANH_SMALL) {
		const float z = t * t;
		float p = OL_TANH_C4;
		p = fmaf(p, z, OL_TANH_C3);
		p = fmaf(p, z, OL_TANH_C2);
		p = fmaf(p, z, OL_TANH_C1);
		p = fmaf(p, z, OL_TANH_C0);
		y = fmaf(p * z, t, t);
	} else {
		y = 1.0f - 2.0f / (ol_expf(t + t) + 1.0f);
	}
	return float_of(bits_of(y) | (bits_of(x) & 0x80000000u));
}

/* x / (1 + exp(-w)), with an exp that cannot overflow. */
static float times_sigmoid(float x, float w)
{
	const float e = ol_expf(float_of(bits_of(w) | 0x80000000u));
	const float numerator = w < 0.0f ? x * e : x;
	return numerator / (1.0f + e);
}

float ol_siluf(float x)
{
	return times_sigmoid(x, x);
}

float ol_gelu_tanhf(float x)
{
	return times_sigmoid(x, x * fmaf(x * x, OL_GELU_C1, OL_GELU_C0));
}

double ol_exp(double x)
{
	/* 1/2!, 1/3!, ..., 1/13!, each rounded to f64. */
	static const double c[12] = {0x1p-1,
				     0x1.5555555555555p-3,
				     0x1.5555555555555p-5,
				     0x1.1111111111111p-7,
				     0x1.6c16c16c16c17p-10,
				     0x1.a01a01a01a01ap-13,
				     0x1.a01a01a01a01ap-16,
				     0x1.71de3a556c734p-19,
				     0x1.27e4fb7789f5cp-22,
				     0x1.ae64567f544e4p-26,
				     0x1.1eed8eff8d898p-29,
				     0x1.6124613a86d09p-33};

	if (x < -708.0)
		return 0.0;
	if (x > 709.0)
		x = 709.0;
	const double shifted = fma(x, 0x1.71547652b82fep+0, 0x1.8p+52);
	const double n = shifted - 0x1.8p+52;
	double r = fma(n, -0x1.62e42fefa39efp-1, x);
	r = fma(n, -0x1.abc9e3b39803fp-56, r);
	double p = c[11];
	for (int i = 10; i >= 0; i--)
		p = fma(p, r, c[i]);
	p = fma(p, r, 1.0);
	p = fma(p, r, 1.0);
	return double_of(bits_of_double(p) + (bits_of_double(shifted) << 52));
}

double ol_log(double x)
{
	/* 2/3, 2/5, ..., 2/23, each rounded to f64: ln(1+f) = 2 artanh(s), s = f/(2+f). */
	static const double c[11] = {
		0x1.5555555555555p-1, 0x1.999999999999ap-2, 0x1.2492492492492p-2,
		0x1.c71c71c71c71cp-3, 0x1.745d1745d1746p-3, 0x1.3b13b13b13b14p-3,
		0x1.1111111111111p-3, 0x1.e1e1e1e1e1e1ep-4, 0x1.af286bca1af28p-4,
		0x1.8618618618618p-4, 0x1.642c8590b2164p-4};
	const uint64_t sqrt_half = UINT64_C(0x3fe6a09e667f3bcd);

	if (x == 0.0)
		return double_of(UINT64_C(0xfff0000000000000));
	int e = 0;
	if (x < 0x1p-1022) {
		x *= 0x1p52;
		e = -52;
	}
	const uint64_t above = bits_of_double(x) - sqrt_half;
	e += (int)((int64_t)above >> 52);
	const double f = double_of((above & UINT64_C(0xfffffffffffff)) + sqrt_half) - 1.0;
	const double n = (double)e;
	const double s = f / (2.0 + f);
	const double z = s * s;
	double p = c[10];
	for (int i = 9; i >= 0; i--)
		p = fma(p, z, c[i]);
	/* ln(1+f) = f - s (f - z p); n ln 2 in two parts, the high one with 32 bits. */
	const double small = fma(n, -0x1.718432a1b0e26p-35, s * fma(z, p, -f));
	return fma(n, 0x1.62e42ffp-1, f + small);
}

void ol_sincos(double *sin_out, double *cos_out, double x)
{
	/* -1/3!, 1/5!, ..., 1/17!  and  1/4!, -1/6!, ..., 1/16!, each rounded to f64. */
	static const double s[8] = {-0x1.5555555555555p-3,  0x1.1111111111111p-7,
				    -0x1.a01a01a01a01ap-13, 0x1.71de3a556c734p-19,
				    -0x1.ae64567f544e4p-26, 0x1.6124613a86d09p-33,
				    -0x1.ae7f3e733b81fp-41, 0x1.952c77030ad4ap-49};
	static const double c[7] = {0x1.5555555555555p-5,  -0x1.6c16c16c16c17p-10,
				    0x1.a01a01a01a01ap-16, -0x1.27e4fb7789f5cp-22,
				    0x1.1eed8eff8d898p-29, -0x1.93974a8c07c9dp-37,
				    0x1.ae7f3e733b81fp-45};

	/* x - n pi/2 as an unevaluated sum high + low; pi/2 in three parts of 53 bits. */
	const double shifted = fma(x, 0x1.45f306dc9c883p-1, 0x1.8p+52);
	const double n = shifted - 0x1.8p+52;
	const unsigned quadrant = (unsigned)bits_of_double(shifted) & 3;
	const double first = fma(n, -0x1.921fb54442d18p+0, x); /* exact */
	const double product = n * 0x1.1a62633145c07p-54;
	const double product_low = fma(n, 0x1.1a62633145c07p-54, -product);
	const double sum = first - product;
	const double shadow = sum - first;
	const double sum_low = (first - (sum - shadow)) - (product + shadow);
	const double tail = fma(n, 0x1.f1976b8p-110, sum_low - product_low);
	const double high = sum + tail;
	const double low = (sum - high) + tail;

	const double z = high * high;
	double p = s[7], q = c[6];
	for (int i = 6; i >= 0; i--)
		p = fma(p, z, s[i]);
	for (int i = 5; i >= 0; i--)
		q = fma(q, z, c[i]);
	const double half = 0.5 * z;
	const double sine = high + fma(z * high, p, low * (1.0 - half));
	const double near_one = 1.0 - half;
	const double cosine = near_one + (((1.0 - near_one) - half) + fma(z * z, q, -(high * low)));

	const double sines[4] = {sine, cosine, -sine, -cosine};
	*sin_out = sines[quadrant];
	*cos_out = sines[(quadrant + 1) & 3];
}

void ol_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
	uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
	uint32_t k0 = key[0], k1 = key[1];

	for (int round = 0; round < 10; round++) {
		const uint64_t a = (uint64_t)0xD2511F53u * c0;
		const uint64_t b = (uint64_t)0xCD9E8D57u * c2;
		c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)b;
		c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)a;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}
