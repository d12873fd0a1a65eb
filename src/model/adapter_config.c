/* adapter_config.json as PEFT writes it: read with suspicion, written always the same. */
#include "model/adapter_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading --------------------------------------------------------------- */

static enum ol_status refuse(const struct ol_peft_config *p, enum ol_status status, const char *key,
			     const char *what, struct ol_error *err)
{
	char name[OL_MODULE_NAME_MAX];
	ol_source_printable(name, sizeof name, key, strlen(key));
	return ol_fail(err, status, "%s: \"%s\" %s", p->where, name, what);
}

/* What does not change the numbers: passed over whatever it says. */
static const char *const harmless[] = {
	"auto_mapping",        "inference_mode",    "megatron_config",
	"megatron_core",       "peft_version",      "revision",
	"runtime_config",      "qalora_group_size", "loftq_config",
	"ensure_weight_tying",
};

/* What is read by name below. */
static const char *const known[] = {
	"alpha_pattern",
	"base_model_name_or_path",
	"bias",
	"fan_in_fan_out",
	"init_lora_weights",
	"layers_pattern",
	"layers_to_transform",
	"lora_alpha",
	"lora_dropout",
	"peft_type",
	"r",
	"rank_pattern",
	"target_modules",
	"task_type",
	"use_dora",
	"use_rslora",
};

static bool listed(const char *const *list, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i], key) == 0)
			return true;
	return false;
}

/* null, false, {} and []: a feature that is not used. */
static bool is_off(const json_t *value)
{
	return !value || json_is_null(value) || json_is_false(value) ||
	       (json_is_object(value) && json_object_size(value) == 0) ||
	       (json_is_array(value) && json_array_size(value) == 0);
}

static enum ol_status check_keys(const struct ol_peft_config *p, struct ol_error *err)
{
	const char *key;
	json_t *value;
	json_object_foreach(p->root, key, value)
	{
		if (listed(harmless, OL_ARRAY_LEN(harmless), key) ||
		    listed(known, OL_ARRAY_LEN(known), key) || is_off(value))
			continue;
		return refuse(p, OL_ERR_UNSUPPORTED, key,
			      "asks for something that this program does not do", err);
	}
	return OL_OK;
}

/* A text that may be missing or null. */
static enum ol_status read_text(const struct ol_peft_config *p, const char *key,
				const char **text_out, struct ol_error *err)
{
	const json_t *value = json_object_get(p->root, key);
	*text_out = NULL;
	if (!value || json_is_null(value))
		return OL_OK;
	if (!json_is_string(value))
		return refuse(p, OL_ERR_INPUT, key, "is not a text", err);
	*text_out = json_string_value(value);
	return OL_OK;
}

static enum ol_status read_flag(const struct ol_peft_config *p, const char *key, bool *flag_out,
				struct ol_error *err)
{
	const json_t *value = json_object_get(p->root, key);
	*flag_out = json_is_true(value);
	if (value && !json_is_null(value) && !json_is_boolean(value))
		return refuse(p, OL_ERR_INPUT, key, "is neither true nor false", err);
	return OL_OK;
}

static bool is_rank(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 1 &&
	       json_integer_value(value) <= OL_RANK_MAX;
}

static bool is_alpha(const json_t *value)
{
	return json_is_number(value) && isfinite((float)json_number_value(value));
}

/* One text that must be this one, if it is there. */
static enum ol_status want_text(const struct ol_peft_config *p, const char *key, const char *wanted,
				bool required, struct ol_error *err)
{
	char what[160], shown[64];
	const char *text;
	const enum ol_status s = read_text(p, key, &text, err);
	if (s != OL_OK || (text && strcmp(text, wanted) == 0) || (!text && !required))
		return s;
	if (!text)
		return refuse(p, OL_ERR_INPUT, key, "is missing", err);
	ol_source_printable(shown, sizeof shown, text, strlen(text));
	snprintf(what, sizeof what, "is \"%s\"; this program runs \"%s\" only", shown, wanted);
	return refuse(p, OL_ERR_UNSUPPORTED, key, what, err);
}

/* Some ways of making the first A and B change the base's weights too; then the adapter means
 * nothing over the base as it was published. */
static enum ol_status check_init(const struct ol_peft_config *p, struct ol_error *err)
{
	static const char *const fine[] = {"gaussian", "eva", "orthogonal", "true", "false"};
	const json_t *value = json_object_get(p->root, "init_lora_weights");
	if (!value || json_is_null(value) || json_is_boolean(value) ||
	    (json_is_string(value) && listed(fine, OL_ARRAY_LEN(fine), json_string_value(value))))
		return OL_OK;
	return refuse(p, OL_ERR_UNSUPPORTED, "init_lora_weights",
		      "changes the base's own weights: convert the adapter to plain LoRA first",
		      err);
}

static enum ol_status check_kind(const struct ol_peft_config *p, struct ol_error *err)
{
	bool transposed, dora;
	enum ol_status s = want_text(p, "peft_type", "LORA", true, err);
	if (s == OL_OK)
		s = want_text(p, "task_type", "CAUSAL_LM", false, err);
	if (s == OL_OK)
		s = want_text(p, "bias", "none", false, err);
	if (s == OL_OK)
		s = read_flag(p, "fan_in_fan_out", &transposed, err);
	if (s == OL_OK && transposed)
		s = refuse(p, OL_ERR_UNSUPPORTED, "fan_in_fan_out",
			   "is true: transposed weights are not of this kind of model", err);
	if (s == OL_OK)
		s = read_flag(p, "use_dora", &dora, err);
	if (s == OL_OK && dora)
		s = refuse(p, OL_ERR_UNSUPPORTED, "use_dora",
			   "is true: DoRA adapters are not run by this program, only LoRA", err);
	if (s == OL_OK)
		s = check_init(p, err);
	return s;
}

/* Keys are names, or ends of names; PEFT takes them for regular expressions, in which a '.' matches
 * itself too. */
static enum ol_status read_pattern(const struct ol_peft_config *p, const char *name,
				   bool (*good)(const json_t *), const json_t **out,
				   struct ol_error *err)
{
	const char *key;
	json_t *value;
	json_t *pattern = json_object_get(p->root, name);
	*out = NULL;
	if (is_off(pattern))
		return OL_OK;
	if (!json_is_object(pattern))
		return refuse(p, OL_ERR_INPUT, name, "is not an object", err);
	json_object_foreach(pattern, key, value)
	{
		if (strpbrk(key, "^$*+?()[]{}|\\"))
			return refuse(p, OL_ERR_UNSUPPORTED, name,
				      "has a regular expression as a key: write the modules' names "
				      "out",
				      err);
		if (!good(value))
			return refuse(p, OL_ERR_INPUT, name,
				      "holds a number that is out of its range", err);
	}
	*out = pattern;
	return OL_OK;
}

static enum ol_status read_targets(struct ol_peft_config *p, struct ol_error *err)
{
	const json_t *value = json_object_get(p->root, "target_modules");
	if (json_is_string(value))
		return OL_OK; /* "all-linear" or a regular expression: the tensors will tell */
	if (!json_is_array(value) || json_array_size(value) == 0)
		return refuse(p, OL_ERR_INPUT, "target_modules",
			      "is missing, or not a list of names", err);
	for (size_t i = 0; i < json_array_size(value); i++)
		if (!json_is_string(json_array_get(value, i)))
			return refuse(p, OL_ERR_INPUT, "target_modules", "is not a list of names",
				      err);
	p->targets = value;
	return OL_OK;
}

static enum ol_status read_layers(struct ol_peft_config *p, struct ol_error *err)
{
	json_t *value = json_object_get(p->root, "layers_to_transform");
	const json_t *pattern = json_object_get(p->root, "layers_pattern");
	if (!is_off(pattern) &&
	    !(json_is_string(pattern) && (strcmp(json_string_value(pattern), "layers") == 0 ||
					  *json_string_value(pattern) == '\0')))
		return refuse(p, OL_ERR_UNSUPPORTED, "layers_pattern",
			      "is not \"layers\", which is what layers are called here", err);
	if (!value || json_is_null(value))
		return OL_OK;
	if (!json_is_integer(value) && !json_is_array(value))
		return refuse(p, OL_ERR_INPUT, "layers_to_transform", "is not a list of numbers",
			      err);
	for (size_t i = 0; i < json_array_size(value); i++)
		if (!json_is_integer(json_array_get(value, i)))
			return refuse(p, OL_ERR_INPUT, "layers_to_transform",
				      "is not a list of numbers", err);
	p->layers = value;
	return OL_OK;
}

static enum ol_status read_numbers(struct ol_peft_config *p, struct ol_error *err)
{
	const json_t *rank = json_object_get(p->root, "r");
	const json_t *alpha = json_object_get(p->root, "lora_alpha");
	const json_t *dropout = json_object_get(p->root, "lora_dropout");
	const char *name;
	if (!is_rank(rank))
		return refuse(p, OL_ERR_INPUT, "r",
			      "is missing, or not a whole number from 1 to 512", err);
	if (!is_alpha(alpha))
		return refuse(p, OL_ERR_INPUT, "lora_alpha", "is missing, or not a number", err);
	if (dropout && !(json_is_number(dropout) && json_number_value(dropout) >= 0.0 &&
			 json_number_value(dropout) <= 1.0))
		return refuse(p, OL_ERR_INPUT, "lora_dropout", "is not a number from 0 to 1", err);
	p->config.rank = (int)json_integer_value(rank);
	p->alpha = json_number_value(alpha);
	p->config.alpha = (float)p->alpha;
	p->config.dropout = dropout ? (float)json_number_value(dropout) : 0.0f;
	enum ol_status s = read_flag(p, "use_rslora", &p->config.rslora, err);
	if (s == OL_OK)
		s = read_text(p, "base_model_name_or_path", &name, err);
	if (s != OL_OK || !name)
		return s;
	if (strlen(name) >= sizeof p->config.base_name)
		return refuse(p, OL_ERR_INPUT, "base_model_name_or_path",
			      "is longer than 255 bytes", err);
	memcpy(p->config.base_name, name, strlen(name) + 1);
	return OL_OK;
}

enum ol_status ol_peft_config_parse(struct ol_peft_config *peft, const char *json, size_t size,
				    const char *where, struct ol_error *err)
{
	json_error_t why;
	*peft = (struct ol_peft_config){.where = where};
	peft->root = json_loadb(json, size, JSON_REJECT_DUPLICATES, &why);
	if (!peft->root)
		return ol_fail(err, OL_ERR_INPUT, "%s: line %d: not JSON: %s", where, why.line,
			       why.text);
	if (!json_is_object(peft->root))
		return ol_fail(err, OL_ERR_INPUT, "%s: not a JSON object", where);
	enum ol_status s = check_kind(peft, err);
	if (s == OL_OK)
		s = check_keys(peft, err);
	if (s == OL_OK)
		s = read_numbers(peft, err);
	if (s == OL_OK)
		s = read_targets(peft, err);
	if (s == OL_OK)
		s = read_layers(peft, err);
	if (s == OL_OK)
		s = read_pattern(peft, "rank_pattern", is_rank, &peft->rank_pattern, err);
	if (s == OL_OK)
		s = read_pattern(peft, "alpha_pattern", is_alpha, &peft->alpha_pattern, err);
	return s;
}

void ol_peft_config_release(struct ol_peft_config *peft)
{
	json_decref(peft->root);
	*peft = (struct ol_peft_config){0};
}

/* --- asking ---------------------------------------------------------------- */

/* "q_proj" and "layers.0.self_attn.q_proj" name model.layers.0.self_attn.q_proj. */
static bool names_module(const char *key, const char *module)
{
	const size_t length = strlen(key), whole = strlen(module);
	if (length == 0 || length > whole || strcmp(module + whole - length, key) != 0)
		return false;
	return length == whole || module[whole - length - 1] == '.';
}

/* The first entry of a pattern that names the module, or NULL. */
static const json_t *find_pattern(const json_t *pattern, int layer, enum ol_linear linear)
{
	char module[OL_MODULE_NAME_MAX];
	const char *key;
	json_t *value;
	ol_module_name(module, layer, linear);
	json_object_foreach((json_t *)(uintptr_t)pattern, key, value)
	{
		if (names_module(key, module))
			return value;
	}
	return NULL;
}

int ol_peft_rank(const struct ol_peft_config *peft, int layer, enum ol_linear linear)
{
	const json_t *found = find_pattern(peft->rank_pattern, layer, linear);
	return found ? (int)json_integer_value(found) : peft->config.rank;
}

double ol_peft_alpha(const struct ol_peft_config *peft, int layer, enum ol_linear linear)
{
	const json_t *found = find_pattern(peft->alpha_pattern, layer, linear);
	return found ? json_number_value(found) : peft->alpha;
}

static bool has_layer(const json_t *layers, int layer)
{
	if (json_is_integer(layers))
		return json_integer_value(layers) == layer;
	for (size_t i = 0; i < json_array_size(layers); i++)
		if (json_integer_value(json_array_get(layers, i)) == layer)
			return true;
	return false;
}

enum ol_peft_target ol_peft_is_target(const struct ol_peft_config *peft, int layer,
				      enum ol_linear linear)
{
	char module[OL_MODULE_NAME_MAX];
	if (peft->layers && (linear == OL_LINEAR_HEAD || !has_layer(peft->layers, layer)))
		return OL_PEFT_NOT_TARGET;
	if (!peft->targets)
		return OL_PEFT_MAYBE_TARGET;
	ol_module_name(module, layer, linear);
	for (size_t i = 0; i < json_array_size(peft->targets); i++)
		if (names_module(json_string_value(json_array_get(peft->targets, i)), module))
			return OL_PEFT_TARGET;
	return OL_PEFT_NOT_TARGET;
}

/* --- writing --------------------------------------------------------------- */

/* The shortest decimal that reads back as the same f64, or with `single` as the same f32. */
static bool put_number(struct ol_buf *text, double value, bool single)
{
	char digits[40];
	for (int precision = 1; precision <= 17; precision++) {
		snprintf(digits, sizeof digits, "%.*g", precision, value);
		const double back = strtod(digits, NULL);
		if (single ? (float)back == (float)value : back == value)
			break;
	}
	return ol_buf_append_text(text, digits);
}

static bool put_string(struct ol_buf *text, const char *value)
{
	json_t *string = json_string(value);
	char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
	const bool ok = quoted && ol_buf_append_text(text, quoted);
	free(quoted);
	json_decref(string);
	return ok;
}

/* Is this kind of linear adapted in every layer? */
static bool everywhere(const struct ol_adapter *adapter, enum ol_linear linear)
{
	for (int l = 0; l < adapter->layers && linear != OL_LINEAR_HEAD; l++)
		if (adapter->tensors[l * OL_LAYER_LINEARS + (int)linear].rank == 0)
			return false;
	return true;
}

static void put_item(struct ol_buf *text, const char *item, bool *first)
{
	ol_buf_printf(text, "%s\n    \"%s\"", *first ? "" : ",", item);
	*first = false;
}

static void put_targets(struct ol_buf *text, const struct ol_adapter *adapter)
{
	bool first = true;
	ol_buf_append_text(text, "  \"target_modules\": [");
	for (int i = 0; i < OL_LINEARS; i++) {
		const enum ol_linear linear = (enum ol_linear)i;
		char module[OL_MODULE_NAME_MAX];
		if (!(adapter->config.targets & 1u << i))
			continue;
		if (everywhere(adapter, linear)) {
			put_item(text, ol_module_short_name(linear), &first);
			continue;
		}
		for (int l = 0; l < adapter->layers; l++)
			if (adapter->tensors[l * OL_LAYER_LINEARS + i].rank > 0) {
				ol_module_name(module, l, linear);
				put_item(text, module, &first);
			}
	}
	ol_buf_append_text(text, "\n  ],\n");
}

/* The linears whose rank (or alpha) is not the one that stands for all. */
static void put_pattern(struct ol_buf *text, const struct ol_adapter *adapter, const char *name,
			bool ranks)
{
	const struct ol_adapter_config *c = &adapter->config;
	bool first = true;
	ol_buf_printf(text, "  \"%s\": {", name);
	for (int i = 0; i < adapter->count; i++) {
		const struct ol_lora_tensors *t = &adapter->tensors[i];
		char module[OL_MODULE_NAME_MAX];
		const bool usual =
			ranks ? t->rank == c->rank
			      : t->scale == ol_lora_scale((double)c->alpha, t->rank, c->rslora);
		if (t->rank == 0 || usual)
			continue;
		const int layer = i / OL_LAYER_LINEARS;
		const enum ol_linear linear = layer == adapter->layers
						      ? OL_LINEAR_HEAD
						      : (enum ol_linear)(i % OL_LAYER_LINEARS);
		ol_module_name(module, layer, linear);
		/* Without "model.": older readers want something before a key. */
		put_item(text, linear == OL_LINEAR_HEAD ? module : module + strlen("model."),
			 &first);
		ol_buf_append_text(text, ": ");
		if (ranks)
			ol_buf_printf(text, "%d", t->rank);
		else
			put_number(text, ol_lora_alpha(t->scale, t->rank, c->rslora), false);
	}
	ol_buf_append_text(text, first ? "},\n" : "\n  },\n");
}

bool ol_peft_config_write(struct ol_buf *text, const struct ol_adapter *adapter)
{
	const struct ol_adapter_config *c = &adapter->config;
	ol_buf_append_text(text, "{\n");
	put_pattern(text, adapter, "alpha_pattern", false);
	ol_buf_append_text(text, "  \"base_model_name_or_path\": ");
	if (!put_string(text, c->base_name))
		return false;
	ol_buf_append_text(text, ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
				 "  \"inference_mode\": true,\n  \"lora_alpha\": ");
	put_number(text, (double)c->alpha, true);
	ol_buf_append_text(text, ",\n  \"lora_dropout\": ");
	put_number(text, (double)c->dropout, true);
	ol_buf_printf(text, ",\n  \"peft_type\": \"LORA\",\n  \"r\": %d,\n", c->rank);
	put_pattern(text, adapter, "rank_pattern", true);
	put_targets(text, adapter);
	ol_buf_printf(text,
		      "  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n"
		      "  \"use_rslora\": %s\n}\n",
		      c->rslora ? "true" : "false");
	return !text->failed;
}
