/* An ol_config as a Hugging Face config.json. What was written is read again and compared, so that
 * a config that config.json cannot say is refused and not bent. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "model/config.h"

static const struct {
	const char *type, *class;
} kinds[OL_ARCHES] = {
	[OL_ARCH_LLAMA] = {"llama", "LlamaForCausalLM"},
	[OL_ARCH_MISTRAL] = {"mistral", "MistralForCausalLM"},
	[OL_ARCH_QWEN2] = {"qwen2", "Qwen2ForCausalLM"},
	[OL_ARCH_QWEN3] = {"qwen3", "Qwen3ForCausalLM"},
	[OL_ARCH_GEMMA2] = {"gemma2", "Gemma2ForCausalLM"},
	[OL_ARCH_GEMMA3] = {"gemma3_text", "Gemma3ForCausalLM"},
};

static void put_int(json_t *root, const char *key, int32_t value)
{
	json_object_set_new(root, key, json_integer(value));
}

static void put_real(json_t *root, const char *key, double value)
{
	json_object_set_new(root, key, json_real(value));
}

/* The shortest decimal that is this f32. */
static void put_float(json_t *root, const char *key, float value)
{
	char digits[32];
	for (int precision = 1; precision <= 9; precision++) {
		snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
		if ((float)strtod(digits, NULL) == value)
			break;
	}
	put_real(root, key, strtod(digits, NULL));
}

static void put_bool(json_t *root, const char *key, bool value)
{
	json_object_set_new(root, key, json_boolean(value));
}

static void put_null(json_t *root, const char *key)
{
	json_object_set_new(root, key, json_null());
}

static void put_shape(json_t *root, const struct ol_config *c)
{
	const bool gelu = c->activation == OL_ACTIVATION_GELU_TANH;
	put_int(root, "vocab_size", c->vocab_size);
	put_int(root, "hidden_size", c->hidden);
	put_int(root, "intermediate_size", c->ffn);
	put_int(root, "num_hidden_layers", c->layers);
	put_int(root, "num_attention_heads", c->heads);
	put_int(root, "num_key_value_heads", c->kv_heads);
	put_int(root, "head_dim", c->head_dim);
	put_int(root, "max_position_embeddings", c->context_max);
	put_bool(root, "tie_word_embeddings", c->tied_embeddings);
	put_float(root, "rms_norm_eps", c->norm_eps);
	json_object_set_new(root, gelu ? "hidden_activation" : "hidden_act",
			    json_string(gelu ? "gelu_pytorch_tanh" : "silu"));
	put_bool(root, "attention_bias", c->qkv_bias);
}

static void put_rope(json_t *root, const struct ol_config *c)
{
	put_real(root, "rope_theta", c->rope_theta);
	if (c->arch == OL_ARCH_GEMMA3)
		put_real(root, "rope_local_base_freq", c->rope_theta_local);
	if (c->rope_scaling == OL_ROPE_PLAIN)
		return;
	json_t *scaling = json_object();
	const bool llama3 = c->rope_scaling == OL_ROPE_LLAMA3;
	json_object_set_new(scaling, "rope_type", json_string(llama3 ? "llama3" : "linear"));
	put_real(scaling, "factor", c->rope_factor);
	if (llama3) {
		put_real(scaling, "low_freq_factor", c->rope_low_freq_factor);
		put_real(scaling, "high_freq_factor", c->rope_high_freq_factor);
		put_int(scaling, "original_max_position_embeddings", c->rope_original_context);
	}
	json_object_set_new(root, "rope_scaling", scaling);
}

static void put_layer_types(json_t *root, const struct ol_config *c)
{
	json_t *types = json_array();
	for (int l = 0; l < c->layers; l++)
		json_array_append_new(types, json_string(ol_config_layer_windowed(c, l)
								 ? "sliding_attention"
								 : "full_attention"));
	json_object_set_new(root, "layer_types", types);
}

static void put_window(json_t *root, const struct ol_config *c)
{
	const bool qwen = c->arch == OL_ARCH_QWEN2 || c->arch == OL_ARCH_QWEN3;
	if (c->arch == OL_ARCH_LLAMA)
		return;
	if (c->window > 0)
		put_int(root, "sliding_window", c->window);
	else
		put_null(root, "sliding_window");
	if (qwen) {
		put_bool(root, "use_sliding_window", c->window > 0);
		put_int(root, "max_window_layers", c->window > 0 ? 0 : c->layers);
	}
	if (c->arch == OL_ARCH_GEMMA3)
		put_int(root, "sliding_window_pattern", c->window_period);
	if (c->window > 0 && c->window_period > 0 && c->window_period <= c->layers)
		put_layer_types(root, c);
}

static void put_gemma(json_t *root, const struct ol_config *c)
{
	const double scale = (double)c->attention_scale, scalar = 1.0 / (scale * scale);
	/* A whole number in every model that there is. */
	const bool whole = (float)(1.0 / sqrt(rint(scalar))) == c->attention_scale;
	put_real(root, "query_pre_attn_scalar", whole ? rint(scalar) : scalar);
	if (c->attention_softcap != 0)
		put_float(root, "attn_logit_softcapping", c->attention_softcap);
	else
		put_null(root, "attn_logit_softcapping");
	if (c->logit_softcap != 0)
		put_float(root, "final_logit_softcapping", c->logit_softcap);
	else
		put_null(root, "final_logit_softcapping");
}

static void put_tokens(json_t *root, const struct ol_config *c)
{
	if (c->bos_id >= 0)
		put_int(root, "bos_token_id", c->bos_id);
	if (c->eos_count == 1)
		put_int(root, "eos_token_id", c->eos_ids[0]);
	if (c->eos_count <= 1)
		return;
	json_t *list = json_array();
	for (int i = 0; i < c->eos_count; i++)
		json_array_append_new(list, json_integer(c->eos_ids[i]));
	json_object_set_new(root, "eos_token_id", list);
}

static bool reads_back(const struct ol_config *config, const char *json)
{
	struct ol_config again;
	struct ol_buf texts[2];
	bool same =
		ol_config_parse(&again, json, strlen(json), NULL, 0, "config.json", NULL) == OL_OK;
	ol_buf_init(&texts[0], 1 << 16);
	ol_buf_init(&texts[1], 1 << 16);
	same = same && ol_config_write(&texts[0], config) && ol_config_write(&texts[1], &again) &&
	       strcmp(texts[0].data, texts[1].data) == 0;
	ol_buf_release(&texts[0]);
	ol_buf_release(&texts[1]);
	return same;
}

enum ol_status ol_config_write_json(struct ol_buf *json, const struct ol_config *config, bool bf16,
				    const char *path, struct ol_error *err)
{
	json_t *root = json_pack("{s:[s], s:s, s:s}", "architectures", kinds[config->arch].class,
				 "model_type", kinds[config->arch].type, "torch_dtype",
				 bf16 ? "bfloat16" : "float32");
	put_shape(root, config);
	put_rope(root, config);
	put_window(root, config);
	if (config->arch == OL_ARCH_GEMMA2 || config->arch == OL_ARCH_GEMMA3)
		put_gemma(root, config);
	put_tokens(root, config);
	char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER |
						     JSON_REAL_PRECISION(17))
			  : NULL;
	json_decref(root);
	const bool same = text && reads_back(config, text);
	const bool written =
		text && ol_buf_append_text(json, text) && ol_buf_append_text(json, "\n");
	free(text);
	if (!written)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a config.json");
	if (!same)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: a config.json cannot say what kind of %s model this is", path,
			       ol_arch_name(config->arch));
	return OL_OK;
}
