/* model/adapter.h, floor 2: LoRA adapters.
 *
 *     PEFT folder (adapter_config.json + adapter_model.safetensors)
 *         │ open                               ▲ write
 *         ▼                                    │
 *     ol_adapter: bf16 A (R,in), B (out,R) per adapted linear, packed for the kernels
 *         │ ol_adapter_view
 *         ▼
 *     ol_run.adapter (serving: any mixture in one step)     ol_tape (training, in f32)
 *
 * Published adapters are bf16 (docs/ARITHMETIC.md, "LoRA"): what is served, hashed and attributed.
 * An adapter's sha256 is that of its adapter_model.safetensors, whose bytes are a function of the
 * tensors alone (docs/FORMATS.md, "Adapters"); import(export(a)) = a. Immutable once open; shared
 * by threads. */
#ifndef OL_MODEL_ADAPTER_H
#define OL_MODEL_ADAPTER_H

#include "base/buf.h"
#include "crypto/sha256.h"
#include "math/matrix.h"
#include "model/model.h"

/* The linear layers, in the order of the forward pass. Append-only: the numbers are on disk. */
enum ol_linear {
	OL_LINEAR_Q = 0,
	OL_LINEAR_K = 1,
	OL_LINEAR_V = 2,
	OL_LINEAR_O = 3,
	OL_LINEAR_GATE = 4,
	OL_LINEAR_UP = 5,
	OL_LINEAR_DOWN = 6,
	OL_LINEAR_HEAD = 7 /* once per model */
};
enum { OL_LINEARS = 8, OL_LAYER_LINEARS = 7, OL_RANK_MAX = 512 };
enum { OL_TARGETS_ALL = 0x7f, OL_TARGETS_HEAD = 0x80 }; /* bits 1 << ol_linear */

const char *ol_linear_name(enum ol_linear linear); /* "q", "k", … "down", "head" */
/* "q,k,v,o", "all", "all,head"; PEFT's names (q_proj, lm_head) too. */
OL_MUST_CHECK enum ol_status ol_targets_parse(uint32_t *targets_out, const char *text,
					      struct ol_error *err);

/* Index of a linear in the tables below: layer * 7 + linear, the head last. */
static inline int ol_linear_index(const struct ol_config *c, int layer, enum ol_linear linear)
{
	return (linear == OL_LINEAR_HEAD ? c->layers : layer) * OL_LAYER_LINEARS +
	       (linear == OL_LINEAR_HEAD ? 0 : (int)linear);
}
static inline int ol_linear_count(const struct ol_config *c)
{
	return c->layers * OL_LAYER_LINEARS + 1;
}
/* O and K of a linear. */
void ol_linear_shape(const struct ol_config *c, enum ol_linear linear, int *outputs, int *inputs);

/* y += scale * B (A x) for one linear; rank 0: not adapted. Borrows its panels (f32 or bf16). */
struct ol_lora_view {
	struct ol_matrix a, b;
	float scale;
	int32_t rank;
};
/* What a forward pass needs of an adapter: ol_linear_count() views. */
struct ol_adapter_view {
	const struct ol_lora_view *linears;
	int rank_max;
};

struct ol_adapter;

/* What adapter_config.json says. Ranks and alphas of single modules may differ (rank_pattern,
 * alpha_pattern): the views are the truth, this is for people and for writing. */
struct ol_adapter_config {
	int rank;
	float alpha;
	bool rslora; /* scale alpha / sqrt(rank) instead of alpha / rank */
	uint32_t targets;
	float dropout;
	char base_name[256]; /* base_model_name_or_path */
};

/* The bf16 tensors of one linear: canonical rows, row-major; rank 0: not adapted. */
struct ol_lora_tensors {
	int32_t rank;
	float scale;
	const uint16_t *a; /* (rank, inputs)  */
	const uint16_t *b; /* (outputs, rank) */
};

/* Out of tensors (ol_linear_count() of them, copied). NaN and infinity are refused by name. */
OL_MUST_CHECK enum ol_status ol_adapter_make(struct ol_adapter **adapter_out,
					     const struct ol_config *base,
					     const struct ol_adapter_config *config,
					     const struct ol_lora_tensors *tensors,
					     struct ol_error *err);
/* A PEFT folder; f32 and f16 tensors are rounded to bf16. Refuses by name what is not LoRA, not of
 * this base's shape, or unknown: nothing in a folder is trusted. */
OL_MUST_CHECK enum ol_status ol_adapter_open(struct ol_adapter **adapter_out, const char *folder,
					     const struct ol_config *base, struct ol_error *err);
void ol_adapter_close(struct ol_adapter *adapter);

/* What a folder says of itself, to list it: its base need not be known. */
struct ol_adapter_about {
	struct ol_adapter_config config; /* targets: of the tensors that are there */
	uint64_t parameters, bytes;      /* of the tensors; of their file          */
};
OL_MUST_CHECK enum ol_status ol_adapter_look(struct ol_adapter_about *about, const char *folder,
					     struct ol_error *err);

const struct ol_adapter_config *ol_adapter_settings(const struct ol_adapter *adapter);
const struct ol_adapter_view *ol_adapter_views(const struct ol_adapter *adapter);
const struct ol_lora_tensors *ol_adapter_tensors(const struct ol_adapter *adapter);
const uint8_t *ol_adapter_sha256(const struct ol_adapter *adapter); /* OL_SHA256_BYTES */
uint64_t ol_adapter_parameters(const struct ol_adapter *adapter);
size_t ol_adapter_bytes(const struct ol_adapter *adapter); /* of memory it holds */

/* Writes adapter_model.safetensors and adapter_config.json into the folder (made if missing), each
 * all or nothing. */
OL_MUST_CHECK enum ol_status ol_adapter_write(const struct ol_adapter *adapter, const char *folder,
					      struct ol_error *err);
/* Base and adapter as one new model, W + scale B A (docs/ARITHMETIC.md, "Merging"), its matrices in
 * the type asked for: a model file, all or nothing. */
OL_MUST_CHECK enum ol_status ol_adapter_merge(const char *output, const struct ol_model *base,
					      const struct ol_adapter *adapter,
					      enum ol_weight_type type, struct ol_error *err);
/* A GGUF LoRA file that llama.cpp loads over ol_export_gguf's base. */
OL_MUST_CHECK enum ol_status ol_adapter_write_gguf(const struct ol_adapter *adapter,
						   const char *path, const struct ol_config *base,
						   struct ol_error *err);

#endif
