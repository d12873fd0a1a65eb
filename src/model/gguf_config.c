#include "model/gguf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "math/functions.h"
#include "math/matrix.h"

/* Reads "ARCH.key" and remembers the first failure. */
struct reader {
	const struct ol_gguf *gguf;
	const char *path, *arch;
	struct ol_error *err;
	enum ol_status status;
};

#define REFUSE(r, status_code, ...)                                                                \
	((r)->status =                                                                             \
		 (r)->status == OL_OK ? ol_fail((r)->err, status_code, __VA_ARGS__) : (r)->status)

static const struct ol_gguf_value *get(const struct reader *r, const char *key)
{
	char full[128];
	snprintf(full, sizeof full, "%s.%s", r->arch, key);
	return ol_gguf_find(r->gguf, full);
}

static int32_t get_int(struct reader *r, const char *key, int32_t fallback)
{
	int64_t value = fallback;
	const struct ol_gguf_value *v = get(r, key);
	if (v && (!ol_gguf_int(v, &value) || value < INT32_MIN || value > INT32_MAX)) {
		REFUSE(r, OL_ERR_INPUT, "%s: %s.%s is not a whole number of 32 bits", r->path,
		       r->arch, key);
		return fallback;
	}
	return (int32_t)value;
}

static int32_t need_int(struct reader *r, const char *key)
{
	if (!get(r, key))
		REFUSE(r, OL_ERR_INPUT, "%s: the key %s.%s is missing", r->path, r->arch, key);
	return get_int(r, key, 1);
}

static double get_real(struct reader *r, const char *key, double fallback)
{
	double value = fallback;
	const struct ol_gguf_value *v = get(r, key);
	if (v && !ol_gguf_real(v, &value))
		REFUSE(r, OL_ERR_INPUT, "%s: %s.%s is not a number with a fraction", r->path,
		       r->arch, key);
	return value;
}

static enum ol_arch read_arch(struct reader *r, char name[64])
{
	static const enum ol_arch known[] = {OL_ARCH_LLAMA, OL_ARCH_QWEN2, OL_ARCH_QWEN3,
					     OL_ARCH_GEMMA2, OL_ARCH_GEMMA3};
	struct ol_gguf_text text, type;
	if (ol_gguf_string(ol_gguf_find(r->gguf, "general.type"), &type) &&
	    (type.size != 5 || memcmp(type.bytes, "model", 5) != 0)) {
		ol_source_printable(name, 64, type.bytes, type.size);
		REFUSE(r, OL_ERR_UNSUPPORTED, "%s: a GGUF of the type \"%s\", not a model", r->path,
		       name);
	}
	if (!ol_gguf_string(ol_gguf_find(r->gguf, "general.architecture"), &text)) {
		REFUSE(r, OL_ERR_INPUT, "%s: the key general.architecture is missing", r->path);
		return OL_ARCH_LLAMA;
	}
	ol_source_printable(name, 64, text.bytes, text.size);
	for (size_t i = 0; i < OL_ARRAY_LEN(known); i++)
		if (strcmp(name, ol_arch_name(known[i])) == 0)
			return known[i];
	REFUSE(r, OL_ERR_UNSUPPORTED,
	       "%s: the architecture \"%s\" is not supported; supported are llama, qwen2, qwen3, "
	       "gemma2 and gemma3",
	       r->path, name);
	return OL_ARCH_LLAMA;
}

static void read_shape(struct reader *r, struct ol_config *c)
{
	const struct ol_gguf_value *tokens = ol_gguf_find(r->gguf, "tokenizer.ggml.tokens");
	const struct ol_source_tensor *embed =
		ol_source_list_find(&r->gguf->tensors, "token_embd.weight");
	/* The embedding has the rows; the list of tokens may be padded or cut. */
	c->vocab_size = get_int(r, "vocab_size", 0);
	if (tokens && tokens->count <= OL_VOCAB_MAX)
		c->vocab_size = (int32_t)tokens->count;
	if (embed && embed->dims == 2 && embed->shape[0] <= OL_VOCAB_MAX)
		c->vocab_size = (int32_t)embed->shape[0];
	c->hidden = need_int(r, "embedding_length");
	c->ffn = need_int(r, "feed_forward_length");
	c->layers = need_int(r, "block_count");
	c->heads = need_int(r, "attention.head_count");
	c->kv_heads = get_int(r, "attention.head_count_kv", c->heads);
	c->context_max = need_int(r, "context_length");
	c->head_dim = get_int(r, "attention.key_length", c->heads > 0 ? c->hidden / c->heads : 0);
	if (get_int(r, "attention.value_length", c->head_dim) != c->head_dim)
		REFUSE(r, OL_ERR_UNSUPPORTED, "%s: keys and values of different sizes", r->path);
	if (get_int(r, "rope.dimension_count", c->head_dim) != c->head_dim)
		REFUSE(r, OL_ERR_UNSUPPORTED, "%s: rotary positions over a part of a head only",
		       r->path);
	if (get_int(r, "expert_count", 0) != 0)
		REFUSE(r, OL_ERR_UNSUPPORTED, "%s: a mixture of experts is not supported", r->path);
	c->norm_eps = (float)get_real(r, "attention.layer_norm_rms_epsilon", 1e-6);
	c->embed_scale = 1;
	c->attention_scale = c->head_dim > 0 ? (float)(1.0 / sqrt((double)c->head_dim)) : 0;
	c->qkv_bias = c->arch == OL_ARCH_QWEN2;
	c->qk_norm = c->arch == OL_ARCH_QWEN3;
}

static void read_gemma(struct reader *r, struct ol_config *c)
{
	const bool two = c->arch == OL_ARCH_GEMMA2;
	/* GGUF has no query_pre_attn_scalar: the largest of each family has hidden / heads. */
	if (c->layers == (two ? 46 : 62) && c->heads > 0)
		c->attention_scale = (float)(1.0 / sqrt((double)(c->hidden / c->heads)));
	c->activation = OL_ACTIVATION_GELU_TANH;
	c->embed_scale = ol_bf16_to_f32(ol_f32_to_bf16((float)sqrt((double)c->hidden)));
	c->post_norms = true;
	c->qk_norm = !two;
	c->attention_softcap = (float)get_real(r, "attn_logit_softcapping", two ? 50 : 0);
	c->logit_softcap = (float)get_real(r, "final_logit_softcapping", two ? 30 : 0);
	c->window = get_int(r, "attention.sliding_window", 4096);
	c->window_period = get_int(r, "attention.sliding_window_pattern", two ? 2 : 6);
	c->rope_theta_local = two ? c->rope_theta : get_real(r, "rope.freq_base_swa", 10000);
}

void ol_gguf_rope_factors(float *factors, const struct ol_config *c)
{
	const double pi = 3.14159265358979323846, context = c->rope_original_context;
	const double low = c->rope_low_freq_factor, high = c->rope_high_freq_factor;
	for (int i = 0; i < c->head_dim / 2; i++) {
		const double exponent = 2.0 * (double)i / (double)c->head_dim;
		const double wave = 2 * pi * ol_exp(exponent * ol_log(c->rope_theta));
		double factor = 1;
		if (wave > context / low)
			factor = c->rope_factor;
		else if (wave >= context / high) {
			const double smooth = (context / wave - low) / (high - low);
			factor = 1 / ((1 - smooth) / c->rope_factor + smooth);
		}
		factors[i] = (float)factor;
	}
}

/* Llama 3.1 stores its scaling as divisors of the frequencies. They are taken if they are the ones
 * that llama3 scaling gives with the factor that the longest waves have. */
static void read_rope_factors(struct reader *r, struct ol_config *c)
{
	const struct ol_source_tensor *t =
		ol_source_list_find(&r->gguf->tensors, "rope_freqs.weight");
	const int half = c->head_dim / 2;
	float factors[OL_HEAD_DIM_MAX], expected[OL_HEAD_DIM_MAX];
	if (!t || r->status != OL_OK || half < 1 || half > OL_HEAD_DIM_MAX / 2)
		return;
	if (t->type != OL_SOURCE_F32 || t->dims != 1 || t->shape[0] != (uint64_t)half) {
		REFUSE(r, OL_ERR_INPUT, "%s: tensor rope_freqs.weight is not %d values of F32",
		       r->path, half);
		return;
	}
	ol_source_read_row(factors, t, 0, half);
	c->rope_scaling = OL_ROPE_LLAMA3;
	c->rope_factor = (double)factors[half - 1];
	c->rope_low_freq_factor = 1;
	c->rope_high_freq_factor = 4;
	c->rope_original_context = get_int(r, "rope.scaling.original_context_length", 8192);
	r->status = ol_config_check(c, r->path, r->err); /* before its numbers are used */
	if (r->status != OL_OK)
		return;
	ol_gguf_rope_factors(expected, c);
	for (int i = 0; i < half; i++)
		if (!(fabsf(factors[i] - expected[i]) <= 1e-4f * expected[i])) {
			REFUSE(r, OL_ERR_UNSUPPORTED,
			       "%s: tensor rope_freqs.weight is no rope scaling that we know "
			       "(value "
			       "%d; only Llama 3.1's is)",
			       r->path, i);
			return;
		}
}

static void read_rope(struct reader *r, struct ol_config *c)
{
	struct ol_gguf_text type = {"none", 4};
	char name[64];
	c->rope_factor = 1;
	c->rope_theta = get_real(r, "rope.freq_base", 10000);
	c->rope_theta_local = c->rope_theta;
	(void)ol_gguf_string(get(r, "rope.scaling.type"), &type);
	ol_source_printable(name, sizeof name, type.bytes, type.size);
	if (strcmp(name, "linear") == 0) {
		c->rope_scaling = OL_ROPE_LINEAR;
		c->rope_factor = get_real(r, "rope.scaling.factor", 1);
	} else if (strcmp(name, "none") != 0) {
		REFUSE(r, OL_ERR_UNSUPPORTED,
		       "%s: rope scaling of type \"%s\" is not supported; none, linear and Llama "
		       "3.1's "
		       "factors are",
		       r->path, name);
	}
}

static void add_eos(struct reader *r, struct ol_config *c, const char *key)
{
	int64_t id;
	if (!ol_gguf_int(ol_gguf_find(r->gguf, key), &id) || id < 0 || id > OL_VOCAB_MAX)
		return;
	for (int i = 0; i < c->eos_count; i++)
		if (c->eos_ids[i] == id)
			return;
	if (c->eos_count < OL_EOS_MAX)
		c->eos_ids[c->eos_count++] = (int32_t)id;
}

static void read_tokens(struct reader *r, struct ol_config *c)
{
	int64_t bos;
	c->bos_id = -1;
	if (ol_gguf_int(ol_gguf_find(r->gguf, "tokenizer.ggml.bos_token_id"), &bos) && bos >= 0 &&
	    bos < c->vocab_size)
		c->bos_id = (int32_t)bos;
	add_eos(r, c, "tokenizer.ggml.eos_token_id");
	add_eos(r, c, "tokenizer.ggml.eot_token_id"); /* ends a turn, and so an answer */
	add_eos(r, c, "tokenizer.ggml.eom_token_id");
}

enum ol_status ol_gguf_config(struct ol_config *config, const struct ol_gguf *gguf,
			      const char *path, struct ol_error *err)
{
	char arch[64] = "";
	struct reader r = {.gguf = gguf, .path = path, .arch = arch, .err = err};
	*config = (struct ol_config){.bos_id = -1};
	config->arch = read_arch(&r, arch);
	if (r.status == OL_OK) {
		read_shape(&r, config);
		read_rope(&r, config);
		if (config->arch == OL_ARCH_GEMMA2 || config->arch == OL_ARCH_GEMMA3)
			read_gemma(&r, config);
		else
			config->window = get_int(&r, "attention.sliding_window", 0);
		/* Mistral files call themselves llama; only a window tells. */
		if (config->arch == OL_ARCH_LLAMA && config->window > 0)
			config->arch = OL_ARCH_MISTRAL;
		read_tokens(&r, config);
		read_rope_factors(&r, config);
	}
	return r.status == OL_OK ? ol_config_check(config, path, err) : r.status;
}
