/* model/config.h, floor 2: what kind of transformer a model is.
 *
 * One struct describes every architecture we run; the differences between them are data, not code
 * paths. Read from a Hugging Face config.json or from GGUF metadata. */
#ifndef OL_MODEL_CONFIG_H
#define OL_MODEL_CONFIG_H

#include "base/base.h"
#include "base/buf.h"

/* Append-only: the numbers are on disk. */
enum ol_arch {
	OL_ARCH_LLAMA = 0, /* Llama 2, 3, 3.1+, SmolLM, TinyLlama */
	OL_ARCH_MISTRAL = 1,
	OL_ARCH_QWEN2 = 2,
	OL_ARCH_QWEN3 = 3,
	OL_ARCH_GEMMA2 = 4,
	OL_ARCH_GEMMA3 = 5
};
enum { OL_ARCHES = 6, OL_EOS_MAX = 8 };

enum ol_activation { OL_ACTIVATION_SILU = 0, OL_ACTIVATION_GELU_TANH = 1 };
enum ol_rope_scaling { OL_ROPE_PLAIN = 0, OL_ROPE_LINEAR = 1, OL_ROPE_LLAMA3 = 2 };

/* Named limits: a file that exceeds one is refused, naming it. */
enum {
	OL_LAYERS_MAX = 512,
	OL_HIDDEN_MAX = 1 << 16,
	OL_FFN_MAX = 1 << 18,
	OL_HEADS_MAX = 1024,
	OL_HEAD_DIM_MAX = 512,
	OL_VOCAB_MAX = 1 << 20,
	OL_CONTEXT_MAX = 1 << 24
};

struct ol_config {
	enum ol_arch arch;
	int32_t vocab_size, hidden, ffn, layers, heads, kv_heads, head_dim;
	int32_t context_max; /* positions the model was made for */
	bool tied_embeddings;
	bool qkv_bias;   /* Qwen2                                                            */
	bool qk_norm;    /* Qwen3, Gemma 3: RMSNorm over each head of q and k before RoPE      */
	bool post_norms; /* Gemma: a norm after attention and after the FFN, before the residual */
	enum ol_activation activation;
	float norm_eps;
	float embed_scale;     /* Gemma: sqrt(hidden) rounded as the original does; else 1  */
	float attention_scale; /* 1/sqrt(head_dim), or 1/sqrt(query_pre_attn_scalar)          */
	float attention_softcap, logit_softcap; /* 0: none */

	/* Layer l is windowed when window > 0 and (l + 1) % window_period != 0 (period 0: all). */
	int32_t window, window_period;

	double rope_theta;       /* of full-attention layers                        */
	double rope_theta_local; /* of windowed layers; equal to rope_theta unless Gemma 3 */
	enum ol_rope_scaling rope_scaling; /* full-attention layers only (Gemma 3), else all */
	double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
	int32_t rope_original_context;

	int32_t bos_id; /* -1: none */
	int32_t eos_ids[OL_EOS_MAX];
	int32_t eos_count;
};

const char *ol_arch_name(enum ol_arch arch); /* "llama", "mistral", "qwen2", … */
static inline bool ol_config_layer_windowed(const struct ol_config *c, int layer)
{
	return c->window > 0 && (c->window_period == 0 || (layer + 1) % c->window_period != 0);
}

/* config.json, and generation_config.json if there is one (NULL), into a checked config. The error
 * names the file, the key and the value. */
OL_MUST_CHECK enum ol_status ol_config_parse(struct ol_config *config, const char *json,
					     size_t size, const char *generation_json,
					     size_t generation_size, const char *path,
					     struct ol_error *err);
/* The other way: a config.json. OL_ERR_UNSUPPORTED where it has no way to say this config. */
OL_MUST_CHECK enum ol_status ol_config_write_json(struct ol_buf *json,
						  const struct ol_config *config, bool bf16,
						  const char *path, struct ol_error *err);
/* Every number inside its limits and consistent with the others; called by every reader. */
OL_MUST_CHECK enum ol_status ol_config_check(const struct ol_config *config, const char *path,
					     struct ol_error *err);
/* The canonical text that enters the model id and the model file: one "key value" line each, in a
 * fixed order, floats as hexadecimal. Parsing what was written gives the same struct. */
bool ol_config_write(struct ol_buf *text, const struct ol_config *config);
OL_MUST_CHECK enum ol_status ol_config_read(struct ol_config *config, const char *text, size_t size,
					    const char *path, struct ol_error *err);

#endif
