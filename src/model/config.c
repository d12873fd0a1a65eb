#include "model/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static const char *const arch_names[OL_ARCHES] = {
	[OL_ARCH_LLAMA] = "llama", [OL_ARCH_MISTRAL] = "mistral", [OL_ARCH_QWEN2] = "qwen2",
	[OL_ARCH_QWEN3] = "qwen3", [OL_ARCH_GEMMA2] = "gemma2",   [OL_ARCH_GEMMA3] = "gemma3",
};

const char *ol_arch_name(enum ol_arch arch)
{
	OL_ASSERT((unsigned)arch < OL_ARCHES);
	return arch_names[arch];
}

/* ---- Checking ----------------------------------------------------------------------------- */

struct int_range {
	const char *key;
	int64_t value, low, high;
};

static enum ol_status check_ints(const struct int_range *ranges, size_t count, const char *path,
				 struct ol_error *err)
{
	for (size_t i = 0; i < count; i++) {
		const struct int_range *r = &ranges[i];
		if (r->value < r->low || r->value > r->high)
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: %s is %lld, which is not between %lld and %lld", path,
				       r->key, (long long)r->value, (long long)r->low,
				       (long long)r->high);
	}
	return OL_OK;
}

static enum ol_status check_real(const char *key, double value, double low, double high,
				 const char *path, struct ol_error *err)
{
	if (value >= low && value <= high) /* false for NaN */
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT, "%s: %s is %g, which is not between %g and %g", path, key,
		       value, low, high);
}

static enum ol_status check_sizes(const struct ol_config *c, const char *path, struct ol_error *err)
{
	const struct int_range ranges[] = {
		{"the architecture", c->arch, 0, OL_ARCHES - 1},
		{"vocab_size", c->vocab_size, 1, OL_VOCAB_MAX},
		{"hidden_size", c->hidden, 1, OL_HIDDEN_MAX},
		{"intermediate_size", c->ffn, 1, OL_FFN_MAX},
		{"num_hidden_layers", c->layers, 1, OL_LAYERS_MAX},
		{"num_attention_heads", c->heads, 1, OL_HEADS_MAX},
		{"num_key_value_heads", c->kv_heads, 1, c->heads},
		{"head_dim", c->head_dim, 2, OL_HEAD_DIM_MAX},
		{"max_position_embeddings", c->context_max, 1, OL_CONTEXT_MAX},
		{"sliding_window", c->window, 0, OL_CONTEXT_MAX},
		{"sliding_window_pattern", c->window_period, 0, OL_LAYERS_MAX},
		{"the activation", c->activation, 0, OL_ACTIVATION_GELU_TANH},
		{"the rope scaling", c->rope_scaling, 0, OL_ROPE_LLAMA3},
		{"bos_token_id", c->bos_id, -1, c->vocab_size - 1},
		{"the number of eos tokens", c->eos_count, 0, OL_EOS_MAX},
	};
	const enum ol_status s = check_ints(ranges, OL_ARRAY_LEN(ranges), path, err);
	if (s != OL_OK)
		return s;
	if (c->heads % c->kv_heads != 0)
		return ol_fail(
			err, OL_ERR_INPUT,
			"%s: num_attention_heads %d is not a multiple of num_key_value_heads %d",
			path, c->heads, c->kv_heads);
	if (c->head_dim % 2 != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: head_dim is %d, but rotary positions need an even number", path,
			       c->head_dim);
	for (int i = 0; i < c->eos_count; i++) {
		/* Some files list an end token that their vocabulary lacks: it never comes. */
		const struct int_range eos = {"eos_token_id", c->eos_ids[i], 0, OL_VOCAB_MAX};
		if (check_ints(&eos, 1, path, err) != OL_OK)
			return OL_ERR_INPUT;
	}
	return OL_OK;
}

static enum ol_status check_rope(const struct ol_config *c, const char *path, struct ol_error *err)
{
	enum ol_status s = check_real("rope_theta", c->rope_theta, 1, 1e12, path, err);
	if (s == OL_OK)
		s = check_real("rope_local_base_freq", c->rope_theta_local, 1, 1e12, path, err);
	if (s == OL_OK && c->rope_scaling != OL_ROPE_PLAIN)
		s = check_real("rope_scaling.factor", c->rope_factor, 1, 1e6, path, err);
	if (s != OL_OK || c->rope_scaling != OL_ROPE_LLAMA3)
		return s;
	s = check_real("rope_scaling.low_freq_factor", c->rope_low_freq_factor, 1e-3, 1e3, path,
		       err);
	if (s == OL_OK)
		s = check_real("rope_scaling.high_freq_factor", c->rope_high_freq_factor, 1e-3, 1e3,
			       path, err);
	if (s == OL_OK && !(c->rope_high_freq_factor > c->rope_low_freq_factor))
		s = ol_fail(err, OL_ERR_INPUT,
			    "%s: rope_scaling.high_freq_factor %g is not above low_freq_factor %g",
			    path, c->rope_high_freq_factor, c->rope_low_freq_factor);
	const struct int_range original = {"rope_scaling.original_max_position_embeddings",
					   c->rope_original_context, 1, OL_CONTEXT_MAX};
	return s == OL_OK ? check_ints(&original, 1, path, err) : s;
}

enum ol_status ol_config_check(const struct ol_config *c, const char *path, struct ol_error *err)
{
	enum ol_status s = check_sizes(c, path, err);
	if (s == OL_OK)
		s = check_rope(c, path, err);
	if (s == OL_OK)
		s = check_real("rms_norm_eps", (double)c->norm_eps, 1e-20, 1, path, err);
	if (s == OL_OK)
		s = check_real("the embedding scale", (double)c->embed_scale, 1e-6, 1e6, path, err);
	if (s == OL_OK)
		s = check_real("the attention scale", (double)c->attention_scale, 1e-6, 1e6, path,
			       err);
	if (s == OL_OK && c->attention_softcap != 0)
		s = check_real("attn_logit_softcapping", (double)c->attention_softcap, 1e-3, 1e6,
			       path, err);
	if (s == OL_OK && c->logit_softcap != 0)
		s = check_real("final_logit_softcapping", (double)c->logit_softcap, 1e-3, 1e6, path,
			       err);
	return s;
}

/* ---- The canonical text ------------------------------------------------------------------- */

enum field_kind { FIELD_ARCH, FIELD_INT, FIELD_ENUM, FIELD_BOOL, FIELD_F32, FIELD_F64, FIELD_EOS };

/* clang-format off */
#define FIELD(kind, name) {#name, kind, offsetof(struct ol_config, name)}
/* clang-format on */

/* The order of the lines. Append-only: the text enters every model id. */
static const struct field {
	const char *key;
	enum field_kind kind;
	size_t offset;
} fields[] = {
	FIELD(FIELD_ARCH, arch),
	FIELD(FIELD_INT, vocab_size),
	FIELD(FIELD_INT, hidden),
	FIELD(FIELD_INT, ffn),
	FIELD(FIELD_INT, layers),
	FIELD(FIELD_INT, heads),
	FIELD(FIELD_INT, kv_heads),
	FIELD(FIELD_INT, head_dim),
	FIELD(FIELD_INT, context_max),
	FIELD(FIELD_BOOL, tied_embeddings),
	FIELD(FIELD_BOOL, qkv_bias),
	FIELD(FIELD_BOOL, qk_norm),
	FIELD(FIELD_BOOL, post_norms),
	FIELD(FIELD_ENUM, activation),
	FIELD(FIELD_F32, norm_eps),
	FIELD(FIELD_F32, embed_scale),
	FIELD(FIELD_F32, attention_scale),
	FIELD(FIELD_F32, attention_softcap),
	FIELD(FIELD_F32, logit_softcap),
	FIELD(FIELD_INT, window),
	FIELD(FIELD_INT, window_period),
	FIELD(FIELD_F64, rope_theta),
	FIELD(FIELD_F64, rope_theta_local),
	FIELD(FIELD_ENUM, rope_scaling),
	FIELD(FIELD_F64, rope_factor),
	FIELD(FIELD_F64, rope_low_freq_factor),
	FIELD(FIELD_F64, rope_high_freq_factor),
	FIELD(FIELD_INT, rope_original_context),
	FIELD(FIELD_INT, bos_id),
	FIELD(FIELD_EOS, eos_ids),
};

_Static_assert(sizeof(enum ol_arch) == 4 && sizeof(enum ol_activation) == 4, "read as int32");

static uint64_t double_bits(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static void write_eos(struct ol_buf *text, const struct ol_config *c)
{
	for (int i = 0; i < c->eos_count; i++)
		ol_buf_printf(text, " %d", c->eos_ids[i]);
}

static void write_field(struct ol_buf *text, const struct ol_config *c, const struct field *f)
{
	const char *at = (const char *)c + f->offset;
	int32_t i = 0;
	if (f->kind == FIELD_INT || f->kind == FIELD_ENUM || f->kind == FIELD_ARCH)
		memcpy(&i, at, sizeof i);
	ol_buf_append_text(text, f->key);
	switch (f->kind) {
	case FIELD_ARCH: ol_buf_printf(text, " %s", ol_arch_name((enum ol_arch)i)); break;
	case FIELD_INT:
	case FIELD_ENUM: ol_buf_printf(text, " %d", i); break;
	case FIELD_BOOL: ol_buf_printf(text, " %d", *(const bool *)at); break;
	case FIELD_F32:
		ol_buf_printf(text, " 0x%08x", ol_float_bits(*(const float *)(const void *)at));
		break;
	case FIELD_F64:
		ol_buf_printf(text, " 0x%016llx",
			      (unsigned long long)double_bits(*(const double *)(const void *)at));
		break;
	case FIELD_EOS: write_eos(text, c); break;
	}
	ol_buf_append_text(text, "\n");
}

bool ol_config_write(struct ol_buf *text, const struct ol_config *config)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(fields); i++)
		write_field(text, config, &fields[i]);
	return !text->failed;
}

/* The words of one line after its key; each is decimal or 0x…; NUL-terminated. */
static bool read_words(struct ol_config *c, const struct field *f, char *words)
{
	char *at = (char *)c + f->offset;
	char *end = words;
	if (f->kind == FIELD_ARCH) {
		for (int a = 0; a < OL_ARCHES; a++)
			if (strcmp(words, arch_names[a]) == 0) {
				c->arch = (enum ol_arch)a;
				return true;
			}
		return false;
	}
	if (f->kind == FIELD_EOS) {
		for (c->eos_count = 0; *words && c->eos_count < OL_EOS_MAX; words = end) {
			c->eos_ids[c->eos_count++] = (int32_t)strtol(words, &end, 10);
			if (end == words)
				return false;
		}
		return *words == '\0';
	}
	if (f->kind == FIELD_F64 || f->kind == FIELD_F32) {
		const uint64_t bits = strtoull(words, &end, 16);
		const uint32_t low = (uint32_t)bits;
		if (f->kind == FIELD_F64)
			memcpy(at, &bits, sizeof bits);
		else
			memcpy(at, &low, sizeof low);
	} else {
		const long value = strtol(words, &end, 10);
		const int32_t narrow = (int32_t)value;
		if (f->kind == FIELD_BOOL)
			*(bool *)at = value == 1;
		else
			memcpy(at, &narrow, sizeof narrow);
	}
	return end != words && *end == '\0';
}

static bool read_line(struct ol_config *c, const struct field *f, const char **cursor,
		      const char *end)
{
	char line[256];
	const char *newline = memchr(*cursor, '\n', (size_t)(end - *cursor));
	const size_t key = strlen(f->key);
	const size_t length = newline ? (size_t)(newline - *cursor) : sizeof line;
	if (length >= sizeof line || length < key || memcmp(*cursor, f->key, key) != 0)
		return false;
	memcpy(line, *cursor, length);
	line[length] = '\0';
	*cursor = newline + 1;
	if (line[key] == ' ')
		return read_words(c, f, line + key + 1);
	return f->kind == FIELD_EOS && line[key] == '\0';
}

enum ol_status ol_config_read(struct ol_config *config, const char *text, size_t size,
			      const char *path, struct ol_error *err)
{
	const char *cursor = text, *const end = text + size;
	*config = (struct ol_config){0};
	for (size_t i = 0; i < OL_ARRAY_LEN(fields); i++)
		if (cursor == end || !read_line(config, &fields[i], &cursor, end))
			return ol_fail(
				err, OL_ERR_INPUT,
				"%s: the config text is damaged at \"%s\"; import the model again",
				path, fields[i].key);
	const enum ol_status s = ol_config_check(config, path, err);
	if (s != OL_OK)
		return s;
	/* One text per config, or one model could have two ids: only what we would write passes. */
	struct ol_buf again;
	ol_buf_init(&again, 1 << 16);
	const bool written = ol_config_write(&again, config);
	const bool same = written && again.size == size && memcmp(again.data, text, size) == 0;
	ol_buf_release(&again);
	if (!written)
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	if (!same)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: the config text is not in its canonical form; import it again",
			       path);
	return OL_OK;
}
