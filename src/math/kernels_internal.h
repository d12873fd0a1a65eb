/* math/kernels_internal.h, floor 1: what the files of this room give one another.
 *
 * Each kernel exists as NAME_scalar, NAME_avx2, NAME_avx512 and NAME_neon, in a file of that
 * ending; kernels.c puts them into tables. Signatures as in kernels.h. */
#ifndef OL_MATH_KERNELS_INTERNAL_H
#define OL_MATH_KERNELS_INTERNAL_H

#include "math/kernels.h"

#define OL_DECLARE_MATMUL(kind, isa)                                                               \
	size_t ol_act_bytes_##kind##_##isa(int M, int K);                                          \
	void ol_act_prepare_##kind##_##isa(void *act, const float *x, size_t x_stride, int M,      \
					   int K, int row0, int row1);                             \
	void ol_matmul_##kind##_##isa(float *y, size_t y_stride, const void *act,                  \
				      const struct ol_matrix *w, int M, int panel0, int panel1)

#define OL_DECLARE_KERNELS(isa)                                                                    \
	OL_DECLARE_MATMUL(f32, isa);                                                               \
	OL_DECLARE_MATMUL(bf16, isa);                                                              \
	OL_DECLARE_MATMUL(int, isa); /* q8, q4 and nf4: told apart by w->type */                   \
	void ol_rmsnorm_##isa(float *y, const float *x, const float *weight, int n, float eps);    \
	void ol_rope_##isa(float *x, const float *cosines, const float *sines, int half);          \
	void ol_add_##isa(float *y, const float *x, int n);                                        \
	void ol_silu_mul_##isa(float *y, const float *gate, const float *up, int n);               \
	void ol_gelu_mul_##isa(float *y, const float *gate, const float *up, int n);               \
	void ol_softcap_##isa(float *x, float cap, int n);                                         \
	void ol_kv_store_##isa(void *page_k, void *page_v, enum ol_kv_type type, int lane,         \
			       const float *k, const float *v, int d);                             \
	void ol_attention_##isa(float *out, size_t out_stride, const float *q, size_t q_stride,    \
				const struct ol_attention *a, const void *const *pages,            \
				size_t k_offset, size_t v_offset, int pos0, int rows,              \
				float *scratch);                                                   \
	size_t ol_attention_scratch_##isa(const struct ol_attention *a, int pos0, int rows);       \
	float ol_row_max_##isa(const float *x, int n);                                             \
	float ol_row_sum_exp_##isa(const float *x, float max, int n);                              \
	void ol_lora_down_##isa(float *h, size_t h_stride, const float *x, size_t x_stride,        \
				const struct ol_matrix *a, int M);                                 \
	void ol_lora_up_##isa(float *y, size_t y_stride, const float *h, size_t h_stride,          \
			      const struct ol_matrix *b, float scale, int M, int panel0,           \
			      int panel1);                                                         \
	bool ol_quantize_row_##isa(void *row, enum ol_weight_type type, const float *x, int cols); \
	void ol_exp_array_##isa(float *y, const float *x, int n);                                  \
	void ol_tanh_array_##isa(float *y, const float *x, int n)

/* Rows that the integer kernels of an instruction set keep side by side: row0 of
 * ol_act_prepare_int_* is a multiple of this. A table's act_tile is a common multiple of its
 * types' tiles. */
enum {
	OL_ACT_TILE_INT_SCALAR = 1,
	OL_ACT_TILE_INT_AVX2 = 4,
	OL_ACT_TILE_INT_AVX512 = 6,
	OL_ACT_TILE_INT_NEON = 4
};

/* AVX-512 with VDPBF16PS; ol_*_bf16_avx512 does without it. */
OL_DECLARE_MATMUL(bf16, avx512bf16);
OL_DECLARE_KERNELS(scalar);
OL_DECLARE_KERNELS(avx2);
OL_DECLARE_KERNELS(avx512);
OL_DECLARE_KERNELS(neon);

#endif
