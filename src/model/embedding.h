/* model/embedding.h, floor 2: a text as one vector: the mean of the last hidden states (after the
 * final norm) over all its tokens, made 1 long (docs/ARITHMETIC.md, "Embeddings").
 *
 *     zeros ── add, a position at a time, in order ── finish ──> n floats
 *
 * The hidden states have the same bits however a prompt was cut into steps, so the vector has. */
#ifndef OL_MODEL_EMBEDDING_H
#define OL_MODEL_EMBEDDING_H

#include "math/kernels.h"

/* sum += the hidden states of `count` positions, (count, n), one after the other. */
void ol_embedding_add(float *sum, const struct ol_kernels *kernels, const float *hidden, int count,
		      int n);
/* From the sum over `count` >= 1 positions to the vector, in place. A mean of zeros stays zeros. */
void ol_embedding_finish(float *sum, int count, int n);

#endif
