/* train/optimizer.h, floor 3: what is trained, as a list of tensors, and one AdamW step over it.
 *
 * Tensors ascend by name, as strings of bytes: that is the order in which their squares add up to
 * the gradient's norm, and in which checkpoints hold them. Values, gradient and both moments of a
 * tensor lie at the same offset of four arrays. */
#ifndef OL_TRAIN_OPTIMIZER_H
#define OL_TRAIN_OPTIMIZER_H

#include "base/pool.h"
#include "math/gradients.h"

enum { OL_PARAM_NAME_MAX = 64 };

struct ol_param {
	char name[OL_PARAM_NAME_MAX]; /* "layers.3.q.a", "embed", … */
	int32_t rows, cols;           /* row-major                     */
	bool trained;                 /* false: a frozen A             */
	bool decays;                  /* matrices do, norms and biases do not */
	int tag;                      /* the owner's                          */
	size_t count, offset;         /* floats                               */
};

/* A part of a tensor that one thread handles at once. */
struct ol_param_piece {
	int param;
	int32_t row0, rows; /* whole panels, but for the last ones */
};

struct ol_params {
	struct ol_param *list;
	int count;
	size_t floats;        /* of each array */
	float *w, *g, *m, *v; /* masters, gradient, moments; 64-byte aligned tensors */
	double *squares;      /* (count) scratch */
	struct ol_param_piece *pieces;
	int piece_count;
};

/* Takes the list (malloced) over, sorts it and makes the arrays, all zero. */
OL_MUST_CHECK enum ol_status ol_params_init(struct ol_params *params, struct ol_param *list,
					    int count, struct ol_error *err);
void ol_params_release(struct ol_params *params);
int ol_params_find(const struct ol_params *params, const char *name); /* -1: none */
uint64_t ol_params_trained(const struct ol_params *params);           /* numbers */

void ol_params_clear_gradients(struct ol_params *params, struct ol_pool *pool);

/* Of AdamW, beside the moments: the powers of beta after the steps so far (1 before the first). */
struct ol_optimizer {
	double beta1_power, beta2_power;
};
struct ol_optimizer_settings {
	float learning_rate, beta1, beta2, eps, weight_decay;
	float clip_norm; /* 0: off */
};

/* The Euclidean norm of the gradient of all trained tensors, in f64. */
double ol_params_norm(struct ol_params *params, struct ol_pool *pool,
		      const struct ol_gradients *kernels);
/* One step; norm: ol_params_norm, finite. */
void ol_optimizer_step(struct ol_optimizer *optimizer, struct ol_params *params,
		       struct ol_pool *pool, const struct ol_gradients *kernels,
		       const struct ol_optimizer_settings *settings, double norm);

#endif
