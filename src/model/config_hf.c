/* A Hugging Face config.json to an ol_config. */
#include <math.h>
#include <string.h>

#include <jansson.h>

#include "math/matrix.h"
#include "model/config.h"

/* Reads keys and remembers the first failure, so that a config is a list of readings. */
struct reader {
	const char *path;
	struct ol_error *err;
	enum ol_status status;
};

#define REFUSE(r, status_code, ...)                                                                \
	((r)->status =                                                                             \
		 (r)->status == OL_OK ? ol_fail((r)->err, status_code, __VA_ARGS__) : (r)->status)

/* A key that is absent or null is NULL. */
static const json_t *get(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	return value && !json_is_null(value) ? value : NULL;
}

static double get_real(struct reader *r, const json_t *object, const char *key, double fallback)
{
	const json_t *value = get(object, key);
	if (!value)
		return fallback;
	if (!json_is_number(value)) {
		REFUSE(r, OL_ERR_INPUT, "%s: %s is not a number", r->path, key);
		return fallback;
	}
	return json_number_value(value);
}

static int32_t get_int(struct reader *r, const json_t *object, const char *key, int32_t fallback)
{
	const double value = get_real(r, object, key, fallback);
	if (value >= -2147483648.0 && value <= 2147483647.0 && value == floor(value))
		return (int32_t)value;
	REFUSE(r, OL_ERR_INPUT, "%s: %s is %g, which is not a whole number of 32 bits", r->path,
	       key, value);
	return fallback;
}

static int32_t need_int(struct reader *r, const json_t *object, const char *key)
{
	if (!get(object, key))
		REFUSE(r, OL_ERR_INPUT, "%s: %s is missing", r->path, key);
	return get_int(r, object, key, 1);
}

static bool get_bool(struct reader *r, const json_t *object, const char *key, bool fallback)
{
	const json_t *value = get(object, key);
	if (!value)
		return fallback;
	if (!json_is_boolean(value))
		REFUSE(r, OL_ERR_INPUT, "%s: %s is neither true nor false", r->path, key);
	return json_is_true(value);
}

static const char *get_text(struct reader *r, const json_t *object, const char *key,
			    const char *fallback)
{
	const json_t *value = get(object, key);
	if (!value)
		return fallback;
	if (!json_is_string(value)) {
		REFUSE(r, OL_ERR_INPUT, "%s: %s is not a text", r->path, key);
		return fallback;
	}
	return json_string_value(value);
}

/* ---- What we do not run ------------------------------------------------------------------- */

static void refuse_true(struct reader *r, const json_t *root, const char *key, const char *what)
{
	if (get_bool(r, root, key, false))
		REFUSE(r, OL_ERR_UNSUPPORTED, "%s: %s is true: %s", r->path, key, what);
}

static void read_arch(struct reader *r, const json_t *root, struct ol_config *c)
{
	static const struct {
		const char *model_type;
		enum ol_arch arch;
	} known[] = {{"llama", OL_ARCH_LLAMA},   {"mistral", OL_ARCH_MISTRAL},
		     {"qwen2", OL_ARCH_QWEN2},   {"qwen3", OL_ARCH_QWEN3},
		     {"gemma2", OL_ARCH_GEMMA2}, {"gemma3_text", OL_ARCH_GEMMA3}};
	const char *type = get_text(r, root, "model_type", NULL);
	const json_t *classes = get(root, "architectures");
	const char *class = json_string_value(json_array_get(classes, 0));
	if (r->status == OL_OK && !type)
		REFUSE(r, OL_ERR_INPUT, "%s: model_type is missing", r->path);
	if (class && !strstr(class, "ForCausalLM"))
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: the architecture %s (model_type \"%s\") is not supported: only "
		       "…ForCausalLM of llama, mistral, qwen2, qwen3, gemma2 and gemma3_text are",
		       r->path, class, type ? type : "");
	if (r->status != OL_OK)
		return;
	for (size_t i = 0; i < OL_ARRAY_LEN(known); i++)
		if (strcmp(type, known[i].model_type) == 0) {
			c->arch = known[i].arch;
			return;
		}
	REFUSE(r, OL_ERR_UNSUPPORTED,
	       "%s: the architecture \"%s\" is not supported; supported are llama, mistral, qwen2, "
	       "qwen3, gemma2 and gemma3_text",
	       r->path, type);
}

static void refuse_features(struct reader *r, const json_t *root)
{
	const json_t *quantization = get(root, "quantization_config");
	if (quantization)
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: the weights are already quantised (quantization_config, %s); import "
		       "the "
		       "original model",
		       r->path, get_text(r, quantization, "quant_method", "unnamed method"));
	refuse_true(r, root, "mlp_bias", "biases in the feed-forward layers are not supported");
	if (get_real(r, root, "partial_rotary_factor", 1) != 1)
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: partial_rotary_factor other than 1 is not supported", r->path);
}

/* ---- The parts ---------------------------------------------------------------------------- */

static bool is_gemma(enum ol_arch arch)
{
	return arch == OL_ARCH_GEMMA2 || arch == OL_ARCH_GEMMA3;
}

static void read_activation(struct reader *r, const json_t *root, struct ol_config *c)
{
	const char *key = get(root, "hidden_activation") ? "hidden_activation" : "hidden_act";
	const bool gelu = is_gemma(c->arch);
	const char *wanted = gelu ? "gelu_pytorch_tanh" : "silu";
	const char *name = get_text(r, root, key, wanted);
	if (strcmp(name, wanted) != 0 && r->status == OL_OK)
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: %s is \"%s\"; a %s model is run with \"%s\" only", r->path, key, name,
		       ol_arch_name(c->arch), wanted);
	c->activation = gelu ? OL_ACTIVATION_GELU_TANH : OL_ACTIVATION_SILU;
}

static void read_scaling(struct reader *r, const json_t *scaling, struct ol_config *c)
{
	const char *key = get(scaling, "rope_type") ? "rope_type" : "type";
	const char *name = get_text(r, scaling, key, "default");
	if (r->status != OL_OK || strcmp(name, "default") == 0)
		return;
	if (strcmp(name, "linear") == 0) {
		c->rope_scaling = OL_ROPE_LINEAR;
	} else if (strcmp(name, "llama3") == 0) {
		c->rope_scaling = OL_ROPE_LLAMA3;
		c->rope_low_freq_factor = get_real(r, scaling, "low_freq_factor", 0);
		c->rope_high_freq_factor = get_real(r, scaling, "high_freq_factor", 0);
		c->rope_original_context =
			get_int(r, scaling, "original_max_position_embeddings", 0);
	} else {
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: rope scaling of type \"%s\" is not supported; default, linear and "
		       "llama3 "
		       "are",
		       r->path, name);
	}
	c->rope_factor = get_real(r, scaling, "factor", 0);
}

/* rope_theta and rope_scaling, or the newer rope_parameters that holds both, once for the model or
 * once for each kind of layer. */
static void read_rope(struct reader *r, const json_t *root, struct ol_config *c)
{
	const bool local = c->arch == OL_ARCH_GEMMA3;
	const json_t *both = get(root, "rope_parameters");
	const json_t *full = get(both, "full_attention"), *sliding = get(both, "sliding_attention");
	const json_t *scaling = get(root, "rope_scaling");
	if (both)
		scaling = full ? full : both;
	const double plain = local ? 1e6 : 10000;
	c->rope_factor = 1;
	c->rope_theta = get_real(r, root, "rope_theta", plain);
	c->rope_theta = get_real(r, scaling, "rope_theta", c->rope_theta);
	c->rope_theta_local = c->rope_theta;
	if (local) {
		c->rope_theta_local = get_real(r, root, "rope_local_base_freq", 10000);
		c->rope_theta_local = get_real(r, sliding, "rope_theta", c->rope_theta_local);
	} else if (sliding || full) {
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: rope_parameters by kind of layer are supported for gemma3_text only",
		       r->path);
	}
	if (scaling && !json_is_object(scaling))
		REFUSE(r, OL_ERR_INPUT, "%s: the rope scaling is not an object", r->path);
	if (scaling)
		read_scaling(r, scaling, c);
	if (c->rope_scaling == OL_ROPE_PLAIN)
		c->rope_factor = 1;
}

/* The list of layer types, if there is one, decides: windows must follow a period. */
static void read_layer_types(struct reader *r, const json_t *root, struct ol_config *c)
{
	const json_t *types = get(root, "layer_types");
	int32_t period = 0; /* layers are windowed but for each period-th */
	if (!types || r->status != OL_OK)
		return;
	if ((int64_t)json_array_size(types) != c->layers) {
		REFUSE(r, OL_ERR_INPUT, "%s: layer_types does not name every layer", r->path);
		return;
	}
	for (int i = 0; i < c->layers; i++) {
		const char *name = json_string_value(json_array_get(types, (size_t)i));
		const bool windowed = name && strcmp(name, "sliding_attention") == 0;
		if (!windowed && (!name || strcmp(name, "full_attention") != 0)) {
			REFUSE(r, OL_ERR_UNSUPPORTED,
			       "%s: layer_types has \"%s\"; full_attention and sliding_attention "
			       "are "
			       "supported",
			       r->path, name ? name : "something that is not a text");
			return;
		}
		if (!windowed && period == 0)
			period = i + 1;
		if (windowed != (period == 0 || (i + 1) % period != 0)) {
			REFUSE(r, OL_ERR_UNSUPPORTED,
			       "%s: layer_types follows no period (layer %d); windows must be on "
			       "every "
			       "layer, on none, or on all but every n-th",
			       r->path, i);
			return;
		}
	}
	c->window_period = period == 1 ? 0 : period;
	if (period == 1)
		c->window = 0;
	else if (c->window == 0)
		REFUSE(r, OL_ERR_INPUT,
		       "%s: layer_types has sliding_attention without sliding_window", r->path);
}

static void read_window(struct reader *r, const json_t *root, struct ol_config *c)
{
	const bool qwen = c->arch == OL_ARCH_QWEN2 || c->arch == OL_ARCH_QWEN3;
	const int32_t window = get_int(r, root, "sliding_window", 0);
	switch (c->arch) {
	case OL_ARCH_LLAMA: return;
	case OL_ARCH_MISTRAL: c->window = window; break;
	case OL_ARCH_QWEN2:
	case OL_ARCH_QWEN3:
		c->window = get_bool(r, root, "use_sliding_window", false) ? window : 0;
		break;
	case OL_ARCH_GEMMA2:
		c->window = window ? window : 4096;
		c->window_period = 2;
		break;
	case OL_ARCH_GEMMA3:
		c->window = window ? window : 4096;
		c->window_period = get_int(r, root, "sliding_window_pattern", 6);
		break;
	}
	if (get(root, "layer_types")) {
		read_layer_types(r, root, c);
	} else if (qwen && c->window > 0) {
		const int32_t full = get_int(r, root, "max_window_layers", 28);
		if (full >= c->layers)
			c->window = 0;
		else if (full > 0)
			REFUSE(r, OL_ERR_UNSUPPORTED,
			       "%s: max_window_layers %d of %d layers: windows must be on every "
			       "layer, "
			       "on none, or on all but every n-th",
			       r->path, full, c->layers);
	}
}

static void read_gemma(struct reader *r, const json_t *root, struct ol_config *c)
{
	const double scalar = get_real(r, root, "query_pre_attn_scalar", 256);
	const bool two = c->arch == OL_ARCH_GEMMA2;
	if (!(scalar > 0))
		REFUSE(r, OL_ERR_INPUT, "%s: query_pre_attn_scalar is %g", r->path, scalar);
	/* The original multiplies by a bf16, sqrt(hidden) rounded to 8 bits. */
	c->embed_scale = ol_bf16_to_f32(ol_f32_to_bf16((float)sqrt((double)c->hidden)));
	c->attention_scale = (float)(1.0 / sqrt(scalar));
	c->attention_softcap = (float)get_real(r, root, "attn_logit_softcapping", 0);
	c->logit_softcap = (float)get_real(r, root, "final_logit_softcapping", 0);
	/* A key that is absent has the class's default; null switches it off. */
	if (two && !json_object_get(root, "attn_logit_softcapping"))
		c->attention_softcap = 50;
	if (two && !json_object_get(root, "final_logit_softcapping"))
		c->logit_softcap = 30;
	c->post_norms = true;
	c->qk_norm = !two;
	if (get_bool(r, root, "use_bidirectional_attention", false))
		REFUSE(r, OL_ERR_UNSUPPORTED, "%s: bidirectional attention is not supported",
		       r->path);
}

static void read_shape(struct reader *r, const json_t *root, struct ol_config *c)
{
	const bool gemma = is_gemma(c->arch), qwen2 = c->arch == OL_ARCH_QWEN2;
	c->vocab_size = need_int(r, root, "vocab_size");
	c->hidden = need_int(r, root, "hidden_size");
	c->ffn = need_int(r, root, "intermediate_size");
	c->layers = need_int(r, root, "num_hidden_layers");
	c->heads = need_int(r, root, "num_attention_heads");
	c->kv_heads = get_int(r, root, "num_key_value_heads", c->heads);
	if (r->status == OL_OK && c->heads > 0 && !gemma && !get(root, "head_dim") &&
	    c->arch != OL_ARCH_QWEN3 && c->hidden % c->heads != 0)
		REFUSE(r, OL_ERR_INPUT,
		       "%s: hidden_size %d is not a multiple of num_attention_heads %d, and there "
		       "is "
		       "no head_dim",
		       r->path, c->hidden, c->heads);
	int32_t head_dim = c->heads > 0 ? c->hidden / c->heads : 0;
	if (gemma)
		head_dim = 256;
	else if (c->arch == OL_ARCH_QWEN3)
		head_dim = 128;
	c->head_dim = get_int(r, root, "head_dim", head_dim);
	c->context_max = get_int(r, root, "max_position_embeddings", gemma ? 8192 : 2048);
	c->tied_embeddings = get_bool(r, root, "tie_word_embeddings", gemma);
	c->norm_eps = (float)get_real(r, root, "rms_norm_eps", 1e-6);
	c->qkv_bias = qwen2;
	c->qk_norm = c->arch == OL_ARCH_QWEN3;
	c->embed_scale = 1;
	c->attention_scale = c->head_dim > 0 ? (float)(1.0 / sqrt((double)c->head_dim)) : 0;
	if (!qwen2)
		refuse_true(r, root, "attention_bias",
			    "biases in the attention layers are supported for qwen2 only");
}

static void read_tokens(struct reader *r, const json_t *root, struct ol_config *c)
{
	const json_t *eos = get(root, "eos_token_id");
	if (get(root, "bos_token_id"))
		c->bos_id = get_int(r, root, "bos_token_id", -1);
	if (!eos)
		return;
	const size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
	if (count > OL_EOS_MAX) {
		REFUSE(r, OL_ERR_INPUT, "%s: eos_token_id has %zu entries, at most %d", r->path,
		       count, OL_EOS_MAX);
		return;
	}
	c->eos_count = 0;
	for (size_t i = 0; i < count; i++) {
		const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
		const json_int_t value = json_integer_value(id);
		if (!json_is_integer(id) || value < 0 || value > INT32_MAX) {
			REFUSE(r, OL_ERR_INPUT, "%s: eos_token_id is not a token id", r->path);
			return;
		}
		c->eos_ids[c->eos_count++] = (int32_t)value;
	}
}

/* ---- The whole ---------------------------------------------------------------------------- */

static json_t *load(struct reader *r, const char *json, size_t size)
{
	json_error_t error;
	json_t *root = json_loadb(json, size, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		REFUSE(r, OL_ERR_INPUT, "%s: line %d: %s", r->path, error.line, error.text);
	else if (!json_is_object(root))
		REFUSE(r, OL_ERR_INPUT, "%s: not a JSON object", r->path);
	return root;
}

enum ol_status ol_config_parse(struct ol_config *config, const char *json, size_t size,
			       const char *generation_json, size_t generation_size,
			       const char *path, struct ol_error *err)
{
	struct reader r = {.path = path, .err = err, .status = OL_OK};
	*config = (struct ol_config){.bos_id = -1};
	json_t *root = load(&r, json, size);
	if (r.status == OL_OK)
		read_arch(&r, root, config);
	if (r.status == OL_OK) {
		refuse_features(&r, root);
		read_shape(&r, root, config);
		read_activation(&r, root, config);
		read_rope(&r, root, config);
		read_window(&r, root, config);
		if (is_gemma(config->arch))
			read_gemma(&r, root, config);
		read_tokens(&r, root, config);
	}
	json_decref(root);
	if (r.status == OL_OK && generation_json) {
		/* What the generation config says about BOS and EOS wins. */
		r.path = "generation_config.json";
		root = load(&r, generation_json, generation_size);
		if (r.status == OL_OK)
			read_tokens(&r, root, config);
		json_decref(root);
	}
	return r.status == OL_OK ? ol_config_check(config, path, err) : r.status;
}
