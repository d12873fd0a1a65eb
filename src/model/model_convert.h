/* model/model_convert.h, floor 2: models made in memory out of others.
 *
 *     a model, any weight type ── convert ──> the same in another type (a frozen base in nf4)
 *     a model's config, texts  ── blank ────> weights to be set, row by row, then sealed or saved
 *
 * What training needs: a base small enough to stay in memory, and weights that change. */
#ifndef OL_MODEL_MODEL_CONVERT_H
#define OL_MODEL_MODEL_CONVERT_H

#include "model/layout.h"
#include "model/model.h"

/* A copy with every matrix in `type` (embeddings and head as an import would have them), each
 * dequantised and quantised by the contract, or copied where it has the type already: the id is
 * that of an import of the same numbers. Owns all it needs. Beside the new weights memory holds
 * some rows a thread; pages of a mapped source are given back as they have been read.
 * threads 0: all. */
OL_MUST_CHECK enum ol_status ol_model_convert(struct ol_model **model_out,
					      const struct ol_model *source,
					      enum ol_weight_type type, int threads,
					      struct ol_error *err);

/* The same config and texts, all weights zero, no id. Until it is shared its owner may set rows. */
OL_MUST_CHECK enum ol_status ol_model_blank(struct ol_model **model_out,
					    const struct ol_model *like, enum ol_weight_type type,
					    struct ol_error *err);
/* The tensors of a model; the number of one in it is `tensor` below. */
const struct ol_layout *ol_model_layout(const struct ol_model *model);
/* rows (count, cols), row-major f32: quantised by the contract. False: a number that the type
 * cannot hold. Calls for different panels (OL_PANEL rows) may run on different threads. */
OL_MUST_CHECK bool ol_model_set_rows(struct ol_model *model, int tensor, const float *rows,
				     int row0, int count);
/* The other way, dequantised. */
void ol_model_get_rows(float *rows, const struct ol_model *model, int tensor, int row0, int count);

/* Writes any model as a file of its own type, all or nothing. */
OL_MUST_CHECK enum ol_status ol_model_save(const char *path, const struct ol_model *model,
					   struct ol_error *err);

#endif
