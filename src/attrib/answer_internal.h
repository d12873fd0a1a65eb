/* attrib/answer_internal.h, floor 3: what the files that attribute an answer share. */
#ifndef OL_ATTRIB_ANSWER_INTERNAL_H
#define OL_ATTRIB_ANSWER_INTERNAL_H

#include "attrib/answer.h"

/* Fills in out->top: q->top examples of the highest scores, one of each cluster. rows: the answer's
 * OL_SCORE_BLOCKS. */
OL_MUST_CHECK enum ol_status ol_attribution_find_top(struct ol_attribution *out,
						     const struct ol_attribution_query *q,
						     const struct ol_row_kernels *kernels,
						     const uint8_t *rows, struct ol_error *err);

#endif
