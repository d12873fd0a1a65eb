/* model/model_id.h, floor 2: the identity of a model (docs/ARITHMETIC.md, "Model id").
 *
 * RFC 6962 root over these leaves, in this order; a leaf is one line of text, then bytes:
 *     "config\n"                     the canonical config text
 *     "text NAME BYTES\n"            each text kept with the model, names ascending
 *     "tensor NAME TYPE ROWS COLS\n" each tensor's canonical rows, names ascending
 * Names compare as bytes; numbers are decimal; TYPE is "f32", "bf16", "q8", "q4" or "nf4". */
#ifndef OL_MODEL_MODEL_ID_H
#define OL_MODEL_MODEL_ID_H

#include "crypto/merkle.h"
#include "model/layout.h"

enum { OL_TEXT_NAME_MAX = 40, OL_TEXTS_MAX = 16 };

/* A text kept with a model; borrowed. bytes[size] is NUL. */
struct ol_model_text {
	const char *name;
	const char *bytes;
	size_t size;
};

/* Begins the leaf of a tensor: then ol_sha256_update with its canonical rows, then final. */
OL_MUST_CHECK bool ol_tensor_leaf_init(struct ol_sha256 *hash, const struct ol_tensor *tensor);

/* texts must ascend by name. leaves: one per tensor, in the layout's order. False: no memory. */
OL_MUST_CHECK bool ol_model_id_compute(uint8_t id[OL_MERKLE_BYTES], const struct ol_config *config,
				       const struct ol_model_text *texts, int text_count,
				       const struct ol_layout *layout,
				       const uint8_t (*leaves)[OL_MERKLE_BYTES]);

#endif
