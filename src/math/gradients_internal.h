/* math/gradients_internal.h, floor 1: what the files of the backward kernels give one another.
 *
 * Each kernel exists as NAME_scalar, NAME_avx2, NAME_avx512 and NAME_neon, in a file of that
 * ending; gradients.c puts them into tables. Signatures as in gradients.h. */
#ifndef OL_MATH_GRADIENTS_INTERNAL_H
#define OL_MATH_GRADIENTS_INTERNAL_H

#include "math/gradients.h"

/* The first word of a Philox counter: what the number is for (docs/ARITHMETIC.md, "Dropout"). */
enum { OL_PURPOSE_DROPOUT = 16 };

#define OL_DECLARE_GRADIENTS(isa)                                                                  \
	void ol_matmul_dx_##isa(float *dx, size_t dx_stride, const float *dy, size_t dy_stride,    \
				const struct ol_matrix *w, int M, int k0, int k1, bool onto,       \
				float *scratch);                                                   \
	size_t ol_matmul_dx_scratch_##isa(const struct ol_matrix *w, int M);                       \
	void ol_matmul_dw_##isa(float *dw, const float *dy, size_t dy_stride, const float *x,      \
				size_t x_stride, int M, int o0, int o1, int K);                    \
	float ol_rmsnorm_dx_##isa(float *dx, const float *x, const float *weight, const float *dy, \
				  int n, float eps, bool onto);                                    \
	void ol_rmsnorm_dw_##isa(float *dweight, const float *dy, size_t dy_stride,                \
				 const float *x, size_t x_stride, const float *inverse, int M,     \
				 int i0, int i1);                                                  \
	void ol_silu_mul_dx_##isa(float *dgate, float *dup, const float *gate, const float *up,    \
				  const float *dy, int n);                                         \
	void ol_gelu_mul_dx_##isa(float *dgate, float *dup, const float *gate, const float *up,    \
				  const float *dy, int n);                                         \
	void ol_softcap_dx_##isa(float *dx, const float *dy, const float *y, float cap, int n);    \
	void ol_scale_##isa(float *y, const float *x, float s, int n);                             \
	void ol_sum_rows_##isa(float *db, const float *dy, size_t dy_stride, int M, int i0,        \
			       int i1);                                                            \
	void ol_attention_dx_##isa(float *dq, float *dk, float *dv, const float *q,                \
				   const float *k, const float *v, const float *out,               \
				   const float *dout, size_t q_stride, size_t kv_stride,           \
				   const struct ol_attention *a, int T, float *scratch);           \
	size_t ol_attention_dx_scratch_##isa(const struct ol_attention *a, int T);                 \
	float ol_cross_entropy_##isa(float *dlogits, const float *logits, int n, int target,       \
				     float weight);                                                \
	void ol_dropout_##isa(float *y, const float *x, const struct ol_dropout *key,              \
			      uint64_t example, uint32_t position, int n);                         \
	double ol_sum_squares_##isa(const float *x, size_t n);                                     \
	void ol_adamw_##isa(float *w, float *m, float *v, const float *g, size_t n,                \
			    const struct ol_adamw *s)

OL_DECLARE_GRADIENTS(scalar);
OL_DECLARE_GRADIENTS(avx2);
OL_DECLARE_GRADIENTS(avx512);
OL_DECLARE_GRADIENTS(neon);

#endif
