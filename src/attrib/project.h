/* attrib/project.h, floor 3: from a backward pass to rows.
 *
 *     dy (rows, outputs), h (rows, rank) of a linear, as the tape shows them
 *         h'  = h V^T                     V: the rank's directions (an index's `inward`)
 *         G   = dy^T h'                   one chain over the cut's rows
 *         P   = U^T G                     U: the kept directions of the outputs (`outward`)
 *         row = (P * scale) * weight      weight: (F + lambda)^(-1/2)
 *
 * A cut is a range of a micro-batch's rows: a whole example, or a block of an answer. The product
 * of two rows is g . (F + lambda)^-1 g' as far as the kept directions go. */
#ifndef OL_ATTRIB_PROJECT_H
#define OL_ATTRIB_PROJECT_H

#include "attrib/index.h"
#include "base/pool.h"
#include "math/gradients.h"
#include "model/tape.h"

struct ol_projector;

struct ol_projector_options {
	const struct ol_kernels *kernels; /* NULL: the best */
	struct ol_pool *threads;          /* borrowed       */
	int rows_max;                     /* of a micro-batch */
};

/* Borrows the parts. OL_ERR_INPUT where they are not this adapter's: another shape or scale. */
OL_MUST_CHECK enum ol_status ol_projector_open(struct ol_projector **projector_out,
					       const struct ol_config *config,
					       const struct ol_adapter_view *adapter,
					       const struct ol_index_part *parts,
					       const struct ol_row_layout *layout,
					       const struct ol_projector_options *options,
					       struct ol_error *err);
void ol_projector_close(struct ol_projector *projector);

/* For ol_tape_backward.observed. */
const bool *ol_projector_observed(const struct ol_projector *projector);

struct ol_cut {
	int row0, row1; /* of the micro-batch; empty: a row of zeros */
};
/* The coming backward pass puts the row of each cut into out (count, values), both borrowed until
 * then. */
void ol_projector_begin(struct ol_projector *projector, float *out, const struct ol_cut *cuts,
			int count);
/* For ol_tape_backward.observe; context is the ol_projector. */
void ol_projector_observe(void *projector, const struct ol_tape_view *view);

#endif
