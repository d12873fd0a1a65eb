/* math/gradients.h, floor 1: the backward kernels and what else training needs, one table per
 * instruction set. The scalar table is the specification (docs/ARITHMETIC.md, "Training"); every
 * other table equals it bit for bit at every shape.
 *
 * Letters as in kernels.h: M rows (tokens), K inputs, O outputs, d head size. A gradient with
 * respect to rows (dx) is a result of its own row; a gradient with respect to weights is one chain
 * over the rows in order, continued from call to call, so that neither micro-batches nor threads
 * can be seen in it. Callers may cut O, K and elementwise ranges as they like. "+=" below means
 * that the chain goes on from what the output holds. */
#ifndef OL_MATH_GRADIENTS_H
#define OL_MATH_GRADIENTS_H

#include "math/kernels.h"

/* What one AdamW step needs beside the arrays (Loshchilov and Hutter, 2019; Kingma and Ba, 2015).
 * Powers of beta come by repeated multiplication, in f64, and are part of a checkpoint. */
struct ol_adamw {
	float learning_rate, beta1, beta2, eps, weight_decay;
	float grad_scale;               /* multiplies every gradient first: clipping        */
	float correction1, correction2; /* 1 - beta1^t, 1 - beta2^t, rounded from f64       */
};

/* Which dropout mask: a pure function of these and of (position, channel). */
struct ol_dropout {
	float rate; /* in [0, 1); kept values are multiplied by 1 / (1 - rate) */
	uint64_t seed;
	uint32_t step, layer, module;
};

struct ol_gradients {
	enum ol_isa isa;

	/* dx (M,K), inputs [k0,k1) only: dx (+)= dy (M,O) W. One chain over o ascending,
	 * c = fma(dy[o], W[o][k], c), from +0, or with `onto` from dx as it is. W's values are
	 * those of ol_dequantize_row, whatever its type. k0 is a multiple of OL_PANEL; so is k1,
	 * or it is K. Every call unpacks its weights and transposes dy anew: give it all rows there
	 * are (64 or more), and threads ranges of inputs 256 or wider. scratch:
	 * matmul_dx_scratch() floats, 64-byte aligned. */
	void (*matmul_dx)(float *dx, size_t dx_stride, const float *dy, size_t dy_stride,
			  const struct ol_matrix *w, int M, int k0, int k1, bool onto,
			  float *scratch);
	size_t (*matmul_dx_scratch)(const struct ol_matrix *w, int M);
	/* dw (O,K) row-major, rows [o0,o1) only: dw[o][k] += chain over m of dy[m][o] and x[m][k].
	 * K may be small (a LoRA rank). */
	void (*matmul_dw)(float *dw, const float *dy, size_t dy_stride, const float *x,
			  size_t x_stride, int M, int o0, int o1, int K);

	/* Of y = rmsnorm(x) * weight: dx, or with `onto` dx += . Returns 1/sqrt(mean + eps). */
	float (*rmsnorm_dx)(float *dx, const float *x, const float *weight, const float *dy, int n,
			    float eps, bool onto);
	/* dweight[i] += chain over m of dy[m][i] and x[m][i] * inverse[m], i in [i0,i1). */
	void (*rmsnorm_dw)(float *dweight, const float *dy, size_t dy_stride, const float *x,
			   size_t x_stride, const float *inverse, int M, int i0, int i1);
	/* Of y = act(gate) * up: both gradients, from the values before the activation. They may
	 * overwrite gate and up. */
	void (*silu_mul_dx)(float *dgate, float *dup, const float *gate, const float *up,
			    const float *dy, int n);
	void (*gelu_mul_dx)(float *dgate, float *dup, const float *gate, const float *up,
			    const float *dy, int n);
	/* Of y = cap * tanh(x / cap), from y: dx = dy * (1 - (y/cap)^2). dx may be dy. */
	void (*softcap_dx)(float *dx, const float *dy, const float *y, float cap, int n);
	/* y[i] = s * x[i]; y may be x. */
	void (*scale)(float *y, const float *x, float s, int n);
	/* db[i] += chain over m of 1 and dy[m][i] (biases), i in [i0,i1). */
	void (*sum_rows)(float *db, const float *dy, size_t dy_stride, int M, int i0, int i1);

	/* Causal attention of one whole sequence (positions 0 .. T-1) over one kv head, with its
	 * group of query heads: from q, k (rotated), v and dout to dq, dk, dv. All are rows of T
	 * positions; *_stride floats lie between rows, the group's heads lie d floats apart.
	 * Probabilities are recomputed exactly as the forward kernel makes them (kv type f32).
	 * dk and dv are chains over (query head in the group, query position), both ascending.
	 * scratch: attention_dx_scratch() floats, 64-byte aligned. */
	void (*attention_dx)(float *dq, float *dk, float *dv, const float *q, const float *k,
			     const float *v, const float *out, const float *dout, size_t q_stride,
			     size_t kv_stride, const struct ol_attention *a, int T, float *scratch);
	size_t (*attention_dx_scratch)(const struct ol_attention *a, int T);

	/* One row of logits (n): returns -log softmax(logits)[target]; with dlogits (which may be
	 * logits) also dlogits[i] = weight * (softmax[i] - [i == target]). */
	float (*cross_entropy)(float *dlogits, const float *logits, int n, int target,
			       float weight);

	/* y = x * mask / (1 - rate), n channels of the row (example, position). y may be x. Applied
	 * to dy it is its own gradient. */
	void (*dropout)(float *y, const float *x, const struct ol_dropout *key, uint64_t example,
			uint32_t position, int n);

	/* Sum of squares in f64: 16 lanes and the tree; one tensor, whole. */
	double (*sum_squares)(const float *x, size_t n);
	/* One step of w (n) with first and second moments m, v and gradient g. */
	void (*adamw)(float *w, float *m, float *v, const float *g, size_t n,
		      const struct ol_adamw *s);
};

/* NULL where this machine or this build lacks the instruction set. */
const struct ol_gradients *ol_gradients_for(enum ol_isa isa);

#endif
