/* model/layout.h, floor 2: which tensors a model has, and where they lie.
 *
 * A pure function of (config, weight type). Import, random models, the model file, the model id and
 * the GGUF writer walk this one list, so that none of them can disagree about a name or shape. */
#ifndef OL_MODEL_LAYOUT_H
#define OL_MODEL_LAYOUT_H

#include "math/matrix.h"
#include "model/config.h"

enum { OL_TENSOR_NAME_MAX = 48, OL_TENSOR_ALIGN = 64 };

/* What a tensor is for. The first three exist once, the others in every layer. */
enum ol_tensor_role {
	OL_TENSOR_EMBED,
	OL_TENSOR_HEAD,
	OL_TENSOR_FINAL_NORM,
	OL_TENSOR_ATTENTION_NORM,
	OL_TENSOR_Q,
	OL_TENSOR_Q_BIAS,
	OL_TENSOR_Q_NORM,
	OL_TENSOR_K,
	OL_TENSOR_K_BIAS,
	OL_TENSOR_K_NORM,
	OL_TENSOR_V,
	OL_TENSOR_V_BIAS,
	OL_TENSOR_O,
	OL_TENSOR_POST_ATTENTION_NORM,
	OL_TENSOR_FFN_NORM,
	OL_TENSOR_GATE,
	OL_TENSOR_UP,
	OL_TENSOR_DOWN,
	OL_TENSOR_POST_FFN_NORM
};
enum { OL_TENSOR_ROLES = 19 };

struct ol_tensor {
	char name[OL_TENSOR_NAME_MAX]; /* "embed", "layers.3.q", … */
	enum ol_tensor_role role;
	int32_t layer; /* -1 where there is one per model */
	enum ol_weight_type type;
	bool vector;        /* norms and biases: f32, one row, stored as plain floats */
	int32_t rows, cols; /* as y = x W^T sees them: (outputs, inputs)              */
	uint64_t offset;    /* from the start of the weights, OL_TENSOR_ALIGN-aligned  */
	uint64_t bytes;     /* panels, or plain floats                                 */
};

struct ol_layout {
	struct ol_tensor *tensors;
	int count;
	uint64_t bytes; /* of all the weights */
};

/* config must have passed ol_config_check. False: out of memory. */
OL_MUST_CHECK bool ol_layout_init(struct ol_layout *layout, const struct ol_config *config,
				  enum ol_weight_type type);
void ol_layout_release(struct ol_layout *layout);

/* Index of the tensor, or -1 if the model has none such. layer is ignored for what exists once. */
int ol_layout_find(const struct ol_layout *layout, enum ol_tensor_role role, int layer);

bool ol_tensor_is_norm(enum ol_tensor_role role);
/* Bytes of the canonical tensor: what the model id hashes. */
uint64_t ol_tensor_canonical_bytes(const struct ol_tensor *tensor);

#endif
