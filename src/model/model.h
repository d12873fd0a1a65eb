/* model/model.h, floor 2: one model, ready to run.
 *
 *     a Hugging Face folder ─┐                        ┌─ mapped: opens in milliseconds
 *     a GGUF file ───────────┼─ ol_import ─> name.olm ┤
 *     random weights ────────┴────────────────────────┴─ in memory
 *
 * An ol_model is immutable and shared by threads. Its id is the RFC 6962 Merkle root over its
 * canonical tensors, its config and its tokenizer (docs/ARITHMETIC.md, "Model id"): the same id is
 * the same arithmetic, whatever the packing. */
#ifndef OL_MODEL_MODEL_H
#define OL_MODEL_MODEL_H

#include "math/matrix.h"
#include "model/config.h"

enum { OL_MODEL_ID_BYTES = 32 };

struct ol_model;

struct ol_layer_weights {
	/* Vectors of f32; NULL where the architecture has none. */
	const float *attention_norm, *ffn_norm;           /* (hidden) before each half */
	const float *post_attention_norm, *post_ffn_norm; /* (hidden) Gemma            */
	const float *q_norm, *k_norm;                     /* (head_dim)                */
	const float *q_bias, *k_bias, *v_bias;            /* (heads d), (kv_heads d)   */
	struct ol_matrix q, k, v, o, gate, up, down;
};

struct ol_weights {
	struct ol_matrix embed; /* (vocab, hidden)                               */
	struct ol_matrix head;  /* (vocab, hidden); the same panels as embed when tied */
	const float *final_norm;
	const struct ol_layer_weights *layers;
};

/* Maps a model file. Checks the header and every offset, not the content (ol_model_verify does). */
OL_MUST_CHECK enum ol_status ol_model_open(struct ol_model **model_out, const char *path,
					   struct ol_error *err);
/* Random weights, for benchmarks and tests: uniform in ±sqrt(3/fan_in) by Philox keyed with seed
 * and tensor, norms 1 plus a little, quantised like any import. No tokenizer. */
OL_MUST_CHECK enum ol_status ol_model_random(struct ol_model **model_out,
					     const struct ol_config *config,
					     enum ol_weight_type type, uint64_t seed,
					     struct ol_error *err);
void ol_model_close(struct ol_model *model);

const struct ol_config *ol_model_config(const struct ol_model *model);
const struct ol_weights *ol_model_weights(const struct ol_model *model);
const uint8_t *ol_model_id(const struct ol_model *model); /* OL_MODEL_ID_BYTES */
enum ol_weight_type ol_model_weight_type(const struct ol_model *model);
uint64_t ol_model_parameters(const struct ol_model *model);
/* Bytes of codes and scales without padding: what a decoding step has to read. */
uint64_t ol_model_nominal_bytes(const struct ol_model *model);
/* Text files kept with the model ("tokenizer.json", "chat_template.jinja", …): NULL if absent. */
const char *ol_model_text(const struct ol_model *model, const char *name, size_t *size_out);
/* Unpacks everything and recomputes the id. */
OL_MUST_CHECK enum ol_status ol_model_verify(const struct ol_model *model, struct ol_error *err);

struct ol_import_options {
	/* The type of every matrix; embeddings and the output head are q8 where this is q4. A GGUF
	 * tensor that already has the type keeps its codes and scales. */
	enum ol_weight_type type;
	/* Called now and then with bytes done and in all; may be NULL. Return false to cancel. */
	bool (*progress)(void *context, uint64_t done, uint64_t total);
	void *context;
};

/* path: a Hugging Face folder or a .gguf file. Writes `output` all or nothing; memory stays at one
 * tensor's size. Errors name the file, the tensor and what is wrong. */
OL_MUST_CHECK enum ol_status ol_import(const char *output, const char *path,
				       const struct ol_import_options *options,
				       struct ol_error *err);
/* Writes a Hugging Face folder: config.json, model.safetensors, tokenizer. bf16 as BF16, all else
 * as F32 with the same values. Files of those names are replaced, the weights last. */
OL_MUST_CHECK enum ol_status ol_export_folder(const char *folder, const struct ol_model *model,
					      struct ol_error *err);
/* A model to be trained from nothing: a config.json, the tokenizer and template of a folder, all
 * weights zero, f32. */
OL_MUST_CHECK enum ol_status ol_import_blank(const char *output, const char *config_path,
					     const char *tokenizer_folder, struct ol_error *err);
/* Writes a model as GGUF v3: f32, f16-free; q8 as Q8_0, q4 as Q4_0, bf16 as BF16, and the
 * tokenizer. */
OL_MUST_CHECK enum ol_status ol_export_gguf(const char *output, const struct ol_model *model,
					    struct ol_error *err);

#endif
