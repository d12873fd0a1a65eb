/* model/adapter_internal.h, floor 2: the inside of an ol_adapter, shared by the files that make,
 * read and write one. */
#ifndef OL_MODEL_ADAPTER_INTERNAL_H
#define OL_MODEL_ADAPTER_INTERNAL_H

#include <jansson.h>

#include "model/adapter.h"
#include "model/layout.h"
#include "model/source.h"

enum {
	OL_ADAPTER_HEADER_MAX = 1 << 20, /* of adapter_model.safetensors */
	OL_ADAPTER_CONFIG_MAX = 1 << 20, /* of adapter_config.json       */
	OL_MODULE_NAME_MAX = 64,
	OL_ADAPTER_TENSOR_NAME_MAX = 128
};

struct ol_adapter {
	struct ol_adapter_config config;
	int layers, count; /* count: of linears */
	struct ol_lora_tensors *tensors;
	struct ol_lora_view *linears;
	struct ol_adapter_view view;
	uint8_t *file; /* adapter_model.safetensors, whole: the tensors point into it */
	size_t file_bytes;
	void *panels;
	size_t panels_bytes;
	uint64_t parameters;
	uint8_t sha256[OL_SHA256_BYTES];
};

/* Which linear an index of the tables stands for. */
static inline enum ol_linear ol_linear_at(const struct ol_config *c, int index, int *layer)
{
	*layer = index / OL_LAYER_LINEARS;
	return *layer == c->layers ? OL_LINEAR_HEAD : (enum ol_linear)(index % OL_LAYER_LINEARS);
}

/* The same linear among the model's tensors. */
static inline enum ol_tensor_role ol_linear_role(enum ol_linear linear)
{
	static const enum ol_tensor_role roles[OL_LINEARS] = {
		OL_TENSOR_Q,    OL_TENSOR_K,  OL_TENSOR_V,    OL_TENSOR_O,
		OL_TENSOR_GATE, OL_TENSOR_UP, OL_TENSOR_DOWN, OL_TENSOR_HEAD};
	return roles[linear];
}

/* "model.layers.0.self_attn.q_proj", "lm_head": what Hugging Face calls a linear. */
void ol_module_name(char name[OL_MODULE_NAME_MAX], int layer, enum ol_linear linear);
/* The last part of it: "q_proj", "lm_head". */
const char *ol_module_short_name(enum ol_linear linear);
/* "base_model.model.MODULE.lora_A.weight"; side is 'A' or 'B'. */
void ol_adapter_tensor_name(char name[OL_ADAPTER_TENSOR_NAME_MAX], int layer, enum ol_linear linear,
			    char side);

/* alpha / rank or alpha / sqrt(rank), rounded once; and the alpha that gives a scale back. */
float ol_lora_scale(double alpha, int rank, bool rslora);
double ol_lora_alpha(float scale, int rank, bool rslora);

/* What an adapter_config.json says. */
struct ol_peft_config {
	struct ol_adapter_config config;
	double alpha;
	json_t *root;                               /* owned; the others are parts of it    */
	const json_t *targets;                      /* a list of names; NULL: whatever is there */
	const json_t *layers;                       /* a list of numbers; NULL: all         */
	const json_t *rank_pattern, *alpha_pattern; /* objects; NULL: none                  */
	const char *where;
};

OL_MUST_CHECK enum ol_status ol_peft_config_parse(struct ol_peft_config *peft, const char *json,
						  size_t size, const char *where,
						  struct ol_error *err);
void ol_peft_config_release(struct ol_peft_config *peft);
/* Rank and alpha of one linear, the patterns considered. */
int ol_peft_rank(const struct ol_peft_config *peft, int layer, enum ol_linear linear);
double ol_peft_alpha(const struct ol_peft_config *peft, int layer, enum ol_linear linear);

enum ol_peft_target { OL_PEFT_NOT_TARGET, OL_PEFT_TARGET, OL_PEFT_MAYBE_TARGET };
enum ol_peft_target ol_peft_is_target(const struct ol_peft_config *peft, int layer,
				      enum ol_linear linear);

/* adapter_config.json of an adapter: the same adapter, the same bytes. */
OL_MUST_CHECK bool ol_peft_config_write(struct ol_buf *text, const struct ol_adapter *adapter);

/* As ol_adapter_open, over bytes in memory. */
OL_MUST_CHECK enum ol_status ol_adapter_open_bytes(struct ol_adapter **adapter_out,
						   const char *config_json, size_t config_size,
						   const uint8_t *file, size_t file_size,
						   const char *folder, const struct ol_config *base,
						   struct ol_error *err);

#endif
