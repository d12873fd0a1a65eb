/* attrib/influence.h, floor 3: how much each training example moved the loss of an answer.
 *
 * For an adapter whose A is public and fixed, only B was trained. The influence of example i on
 * query q is
 *
 *     s(i,q) = g_q . (F + lambda I)^-1 g_i
 *
 * g   gradient of the summed loss of the answer with respect to every B, in the coordinates in
 *     which Adam is plain gradient descent: multiplied by v^(-1/4), v Adam's second moment
 * F   the true Fisher, per linear: labels are drawn from the model, not read from the data. Its
 *     eigenvectors are those of a Kronecker product, its eigenvalues exact (EK-FAC; George et al.,
 *     2018; Grosse et al., 2023). v^(-1/4) is taken as an outer product, so that the gradient of
 *     a token stays one.
 *
 * The order of work, each a backward pass of a tape with ol_influence_observe looking on:
 *
 *     FACTORS ─ factorise ─> EIGENVALUES ─ precondition ─> GRADIENTS of examples and of queries
 *
 * Afterwards a score is a plain dot product of two rows. */
#ifndef OL_ATTRIB_INFLUENCE_H
#define OL_ATTRIB_INFLUENCE_H

#include "base/pool.h"
#include "math/gradients.h"
#include "model/tape.h"

struct ol_influence;

enum ol_influence_phase {
	OL_INFLUENCE_PLAIN,       /* rows are the gradients as they are: a baseline           */
	OL_INFLUENCE_FACTORS,     /* labels drawn from the model: covariances of dy and of h  */
	OL_INFLUENCE_EIGENVALUES, /* the same labels again: the diagonal in the eigenbasis    */
	OL_INFLUENCE_GRADIENTS    /* rows are (F + lambda I)^(-1/2) g                         */
};

struct ol_influence_options {
	const struct ol_kernels *kernels; /* NULL: the best */
	struct ol_pool *threads;          /* borrowed       */
	int rows_max;                     /* of a tape's micro-batch */
	/* ol_linear_count() pointers to Adam's second moments (outputs, rank) of B, or NULL: no
	 * preconditioning. Read at open. */
	const float *const *second_moments;
	const bool
		*linears; /* (ol_linear_count()) which are looked at; NULL: all that are adapted */
};

/* The adapter's views give ranks and scales and are not kept. The output head is left out. */
OL_MUST_CHECK enum ol_status ol_influence_open(struct ol_influence **influence_out,
					       const struct ol_config *config,
					       const struct ol_adapter_view *adapter,
					       const struct ol_influence_options *options,
					       struct ol_error *err);
void ol_influence_close(struct ol_influence *influence);
size_t ol_influence_floats(const struct ol_influence *influence); /* of a row of gradients */

void ol_influence_begin(struct ol_influence *influence, enum ol_influence_phase phase);
/* For GRADIENTS and PLAIN: the coming backward pass holds `count` sequences of so many rows; the
 * gradient of each goes to its place in out (ol_influence_floats() each). Borrowed until then. */
void ol_influence_collect(struct ol_influence *influence, float *const *out, const int *rows,
			  int count);
/* For ol_tape_backward.observe; context is the ol_influence. */
void ol_influence_observe(void *influence, const struct ol_tape_view *view);

/* After FACTORS. OL_ERR_INPUT if a covariance is not finite. */
OL_MUST_CHECK enum ol_status ol_influence_factorise(struct ol_influence *influence,
						    struct ol_error *err);
/* After EIGENVALUES, over `tokens` drawn labels. lambda is damping times the mean eigenvalue. */
void ol_influence_precondition(struct ol_influence *influence, double tokens, double damping);

/* One linear's factors, for who makes rows another way. False: it is not looked at. */
struct ol_influence_factor {
	int outputs, rank;
	const struct ol_matrix *outward, *inward; /* eigenvectors as rows; after FACTORS */
	const float *squares; /* (outputs, rank) in the eigenbases; after EIGENVALUES, before
			       * ol_influence_precondition: sums over the drawn labels     */
};
bool ol_influence_factor(const struct ol_influence *influence, int linear,
			 struct ol_influence_factor *factor_out);

#endif
