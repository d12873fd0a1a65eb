/* math/function_constants.h, floor 1: the numbers of our elementary functions, shared by the scalar
 * specification and the vector versions (docs/ARITHMETIC.md, "Functions", lists the same). */
#ifndef OL_MATH_FUNCTION_CONSTANTS_H
#define OL_MATH_FUNCTION_CONSTANTS_H

/* exp f32: e^r = 1 + r + r^2 (C0 + C1 r + ... + C4 r^4), |r| <= ln(2)/2, minimax. */
#define OL_EXP_LOW -0x1.5d5894p+6f  /* -87.3365: below, the result is +0            */
#define OL_EXP_HIGH 0x1.61813ap+6f  /*  88.3762: above, the argument is taken as it */
#define OL_EXP_ROUND 0x1.8p+23f     /* adding it rounds to an integer (to even)     */
#define OL_EXP_LOG2E 0x1.715476p+0f
#define OL_EXP_LN2_HIGH 0x1.62e43p-1f
#define OL_EXP_LN2_LOW -0x1.05c61p-29f
#define OL_EXP_C0 0x1.fffffcp-2f
#define OL_EXP_C1 0x1.555492p-3f
#define OL_EXP_C2 0x1.5558f2p-5f
#define OL_EXP_C3 0x1.1239e2p-7f
#define OL_EXP_C4 0x1.6a2434p-10f

/* log f32: ln(1+f) = f - f^2/2 + f^3 (C0 + C1 f + ... + C8 f^8), sqrt(1/2) <= 1+f < sqrt(2). */
#define OL_LOG_SQRT_HALF_BITS 0x3f3504f3u
#define OL_LOG_LN2_HIGH 0x1.62ep-1f
#define OL_LOG_LN2_LOW 0x1.0bfbe8p-15f
#define OL_LOG_C0 0x1.555548p-2f
#define OL_LOG_C1 -0x1.000006p-2f
#define OL_LOG_C2 0x1.99a4b6p-3f
#define OL_LOG_C3 -0x1.555c4ep-3f
#define OL_LOG_C4 0x1.233768p-3f
#define OL_LOG_C5 -0x1.fc2208p-4f
#define OL_LOG_C6 0x1.e6f06ap-4f
#define OL_LOG_C7 -0x1.de3c16p-4f
#define OL_LOG_C8 0x1.1457a8p-4f

/* tanh f32: x + x^3 (C0 + C1 x^2 + ... + C4 x^8) for |x| < 0.625, else 1 - 2/(exp(2|x|) + 1). */
#define OL_TANH_SMALL 0.625f
#define OL_TANH_C0 -0x1.555532p-2f
#define OL_TANH_C1 0x1.110726p-3f
#define OL_TANH_C2 -0x1.b83c5ap-5f
#define OL_TANH_C3 0x1.52269ap-6f
#define OL_TANH_C4 -0x1.75e1ccp-8f

/* gelu_tanh: twice sqrt(2/pi) (x + 0.044715 x^3) = x (C0 + C1 x^2). */
#define OL_GELU_C0 0x1.988454p+0f
#define OL_GELU_C1 0x1.2444f2p-4f
/* Its slope: C0 + D1 x^2, D1 = 3 C1; x^2 counts as at most SQUARE_MAX. */
#define OL_GELU_D1 0x1.b6676cp-3f
#define OL_GELU_SQUARE_MAX 0x1p60f

#endif
