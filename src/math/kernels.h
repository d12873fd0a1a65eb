/* math/kernels.h, floor 1: the forward kernels, one table per instruction set.
 *
 * The scalar table is the specification (docs/ARITHMETIC.md); every other table equals it bit for
 * bit at every shape. No definition mentions batch, tile, thread or vector width: a result depends
 * on its own row, its weights and nothing else, so callers may cut the work as they like.
 *
 * Letters: M rows of activations, K inputs, O outputs, d head size, P positions in a page. */
#ifndef OL_MATH_KERNELS_H
#define OL_MATH_KERNELS_H

#include "math/matrix.h"

/* The version of the arithmetic contract that these kernels implement; receipts name it. */
#define OL_ARITHMETIC_VERSION "0-draft"

enum ol_isa { OL_ISA_SCALAR, OL_ISA_AVX2, OL_ISA_AVX512, OL_ISA_NEON };
enum { OL_ISAS = 4 };

/* The type in which keys and values are kept between steps. Append-only. */
enum ol_kv_type { OL_KV_F32 = 0, OL_KV_BF16 = 1 };
enum { OL_KV_TYPES = 2 };

/* A page holds OL_KV_PAGE consecutive positions (position % 16 = lane) of one sequence. Inside it,
 * for each layer and kv head: keys as [d][16] (lanes = positions), then values as [16][d]. */
enum { OL_KV_PAGE = 16 };

struct ol_attention {
	enum ol_kv_type kv_type;
	int head_dim;  /* d                                                                 */
	int group;     /* query heads that share this kv head                               */
	int window;    /* a query at position t sees positions > t - window; 0: all up to t */
	float scale;   /* applied to the finished q.k chain                                 */
	float softcap; /* 0, or s = softcap * tanh(s / softcap)                             */
};

struct ol_kernels {
	enum ol_isa isa;
	const char *name;
	int act_tile; /* act_prepare wants row0 to be a multiple of this */

	/* Activations, made ready once for all matrices that share them: as they are (f32), rounded
	 * (bf16), or quantised per row and block of 32 (q8, q4, nf4). The layout is the table's own
	 * business. act has act_bytes(), aligned to 64 bytes; rows [row0,row1) of x lie x_stride
	 * floats apart; row1 is M or a multiple of act_tile too: threads can share the work. */
	size_t (*act_bytes)(enum ol_weight_type type, int M, int K);
	void (*act_prepare)(void *act, enum ol_weight_type type, const float *x, size_t x_stride,
			    int M, int K, int row0, int row1);

	/* y (M,O) = x W^T for the outputs of panels [panel0,panel1); other columns stay. With many
	 * rows, 8 or more panels a call let the activations stay in the cache. */
	void (*matmul)(float *y, size_t y_stride, const void *act, const struct ol_matrix *w, int M,
		       int panel0, int panel1);

	/* y = x / sqrt(mean(x^2) + eps) * weight, over n values. y may be x. */
	void (*rmsnorm)(float *y, const float *x, const float *weight, int n, float eps);
	/* Rotates the pairs (x[i], x[i + half]) by the angles whose cosines and sines are given. */
	void (*rope)(float *x, const float *cosines, const float *sines, int half);
	/* y += x; y = silu(gate) * up; y = gelu_tanh(gate) * up */
	void (*add)(float *y, const float *x, int n);
	void (*silu_mul)(float *y, const float *gate, const float *up, int n);
	void (*gelu_mul)(float *y, const float *gate, const float *up, int n);
	void (*softcap)(float *x, float cap, int n); /* x = cap * tanh(x / cap) */

	/* Puts one position's key and value (d floats each) at `lane` of a page's K and V. */
	void (*kv_store)(void *page_k, void *page_v, enum ol_kv_type type, int lane, const float *k,
			 const float *v, int d);
	/* Causal attention of `rows` consecutive query positions pos0, pos0+1, … of one sequence
	 * over one kv head. q and out point at the group's first head of the first row; heads lie d
	 * floats, rows *_stride floats apart. pages[i] holds positions 16i..16i+15; k_offset and
	 * v_offset are the bytes from a page's start to this layer's and head's K and V (whole
	 * elements). Pages that no row can see may be NULL; lanes that a row cannot see may hold
	 * anything. scratch: attention_scratch() floats. */
	void (*attention)(float *out, size_t out_stride, const float *q, size_t q_stride,
			  const struct ol_attention *a, const void *const *pages, size_t k_offset,
			  size_t v_offset, int pos0, int rows, float *scratch);
	size_t (*attention_scratch)(const struct ol_attention *a, int pos0, int rows);

	/* Row reductions in 16 strided lanes and a tree (docs/ARITHMETIC.md, "Row reductions"). */
	float (*row_max)(const float *x, int n);
	float (*row_sum_exp)(const float *x, float max, int n); /* sum of exp(x - max) */

	/* LoRA: h (M,R) = x A^T, then y (M,O) = fma(scale, h B^T, y) for the outputs of panels
	 * [panel0,panel1). x and h are f32, neither rounded nor quantised; A (R,K) and B (O,R) are
	 * f32 or bf16 (widened). h is kept for the caller: the backward pass and the attribution
	 * index both read it. Rows of different adapters are different calls. */
	void (*lora_down)(float *h, size_t h_stride, const float *x, size_t x_stride,
			  const struct ol_matrix *a, int M);
	void (*lora_up)(float *y, size_t y_stride, const float *h, size_t h_stride,
			const struct ol_matrix *b, float scale, int M, int panel0, int panel1);

	/* ol_quantize_row (matrix.h). */
	bool (*quantize_row)(void *row, enum ol_weight_type type, const float *x, int cols);

	/* Elementary functions over arrays, for tests and for sampling. */
	void (*exp)(float *y, const float *x, int n);
	void (*tanh)(float *y, const float *x, int n);
};

/* NULL where this machine or this build lacks the instruction set. */
const struct ol_kernels *ol_kernels_for(enum ol_isa isa);
/* The fastest table this machine runs. */
const struct ol_kernels *ol_kernels_best(void);
bool ol_isa_parse(enum ol_isa *isa_out, const char *name); /* "scalar", "avx2", "avx512", "neon" */
bool ol_kv_type_parse(enum ol_kv_type *type_out, const char *name); /* "f32", "bf16" */

#endif
