/* Import from a Hugging Face folder: config.json, model.safetensors or its shards, tokenizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "model/import_internal.h"
#include "model/safetensors.h"

enum { PATH_ROOM = 4096, SHARDS_MAX = 1024 };

struct folder {
	const char *path;
	struct ol_import_plan plan;
	json_t *index; /* NULL: one file */
	struct shard {
		struct ol_map map;
		char path[PATH_ROOM];
	} * shards;
	int shard_count;
	const char *embed_name;
};

/* ---- Files of the folder ------------------------------------------------------------------ */

static enum ol_status join(char out[PATH_ROOM], const char *folder, const char *name,
			   struct ol_error *err)
{
	const int n = snprintf(out, PATH_ROOM, "%s/%s", folder, name);
	if (n < 0 || n >= PATH_ROOM)
		return ol_fail(err, OL_ERR_INPUT, "the path %s/%s is too long", folder, name);
	return OL_OK;
}

/* Maps a file of the folder; *map is empty and the status OL_OK where an optional one is absent. */
static enum ol_status open_file(struct ol_map *map, const char *folder, const char *name,
				bool optional, struct ol_error *err)
{
	char path[PATH_ROOM];
	*map = (struct ol_map){0};
	const enum ol_status s = join(path, folder, name, err);
	if (s != OL_OK)
		return s;
	if (optional && access(path, F_OK) != 0)
		return OL_OK;
	return ol_map_open(map, path, err);
}

/* *root_out is NULL where the file is absent. flags: jansson's, beside JSON_REJECT_DUPLICATES. */
static enum ol_status load_json(json_t **root_out, const char *folder, const char *name,
				size_t flags, struct ol_error *err)
{
	struct ol_map map;
	json_error_t error;
	*root_out = NULL;
	const enum ol_status s = open_file(&map, folder, name, true, err);
	if (s != OL_OK || !map.data)
		return s;
	*root_out = json_loadb((const char *)map.data, map.size, JSON_REJECT_DUPLICATES | flags,
			       &error);
	ol_map_close(&map);
	if (!*root_out)
		return ol_fail(err, OL_ERR_INPUT, "%s/%s: line %d: %s", folder, name, error.line,
			       error.text);
	return OL_OK;
}

static enum ol_status read_config(struct folder *f, struct ol_error *err)
{
	struct ol_map config, generation;
	char path[PATH_ROOM];
	enum ol_status s = join(path, f->path, "config.json", err);
	if (s == OL_OK && access(path, F_OK) != 0)
		return ol_fail(
			err, OL_ERR_NOT_FOUND,
			"%s holds no config.json: give a Hugging Face model folder or a .gguf "
			"file",
			f->path);
	if (s == OL_OK)
		s = open_file(&config, f->path, "config.json", false, err);
	if (s != OL_OK)
		return s;
	s = open_file(&generation, f->path, "generation_config.json", true, err);
	if (s == OL_OK)
		s = ol_config_parse(&f->plan.config, (const char *)config.data, config.size,
				    (const char *)generation.data, generation.size, path, err);
	ol_map_close(&generation);
	ol_map_close(&config);
	return s;
}

/* ---- Weights ------------------------------------------------------------------------------ */

static enum ol_status open_shard(struct folder *f, const char *name, struct ol_error *err)
{
	struct shard *shard = &f->shards[f->shard_count];
	enum ol_status s = join(shard->path, f->path, name, err);
	if (s == OL_OK)
		s = ol_map_open(&shard->map, shard->path, err);
	if (s != OL_OK)
		return s;
	f->shard_count++;
	return ol_safetensors_read(&f->plan.list, shard->map.data, shard->map.size, shard->path,
				   err);
}

static bool opened_already(const struct folder *f, const char *name)
{
	for (int i = 0; i < f->shard_count; i++)
		if (strcmp(strrchr(f->shards[i].path, '/') + 1, name) == 0)
			return true;
	return false;
}

/* {"weight_map": {"tensor": "file", …}} */
static enum ol_status open_indexed(struct folder *f, struct ol_error *err)
{
	json_t *map = json_object_get(f->index, "weight_map");
	const char *tensor;
	json_t *value;
	if (!json_is_object(map))
		return ol_fail(err, OL_ERR_INPUT,
			       "%s/model.safetensors.index.json: weight_map is missing", f->path);
	json_object_foreach(map, tensor, value)
	{
		const char *file = json_string_value(value);
		if (!file || !*file || strchr(file, '/') || strcmp(file, "..") == 0)
			return ol_fail(
				err, OL_ERR_INPUT,
				"%s/model.safetensors.index.json: a tensor lies in \"%s\", which "
				"is not a file name",
				f->path, file ? file : "");
		if (opened_already(f, file))
			continue;
		if (f->shard_count == SHARDS_MAX)
			return ol_fail(err, OL_ERR_INPUT,
				       "%s/model.safetensors.index.json: more than %d files",
				       f->path, SHARDS_MAX);
		const enum ol_status s = open_shard(f, file, err);
		if (s != OL_OK)
			return s;
	}
	return OL_OK;
}

/* The index and the shards say the same of every tensor. */
static enum ol_status check_index(struct folder *f, struct ol_error *err)
{
	json_t *map = json_object_get(f->index, "weight_map");
	const char *tensor;
	json_t *value;
	char name[128];
	json_object_foreach(map, tensor, value)
	{
		const struct ol_source_tensor *t = ol_source_list_find(&f->plan.list, tensor);
		if (t && strcmp(strrchr(t->path, '/') + 1, json_string_value(value)) == 0)
			continue;
		ol_source_printable(name, sizeof name, tensor, strlen(tensor));
		return ol_fail(err, OL_ERR_INPUT,
			       "%s/%s: tensor %s is missing, though the index says it is there",
			       f->path, json_string_value(value), name);
	}
	for (size_t i = 0; i < f->plan.list.count; i++) {
		const struct ol_source_tensor *t = &f->plan.list.items[i];
		ol_source_printable(name, sizeof name, t->name, strlen(t->name));
		if (!json_object_get(map, t->name))
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: tensor %s does not stand in the index", t->path, name);
	}
	return OL_OK;
}

static enum ol_status open_weights(struct folder *f, struct ol_error *err)
{
	char path[PATH_ROOM];
	f->shards = calloc(SHARDS_MAX, sizeof *f->shards);
	if (!f->shards)
		return ol_fail(err, OL_ERR_FULL, "out of memory while importing %s", f->path);
	enum ol_status s = join(path, f->path, "model.safetensors", err);
	if (s == OL_OK && access(path, F_OK) == 0) {
		s = open_shard(f, "model.safetensors", err);
		return s == OL_OK ? ol_source_list_sort(&f->plan.list, err) : s;
	}
	if (s == OL_OK)
		s = load_json(&f->index, f->path, "model.safetensors.index.json", 0, err);
	if (s == OL_OK && !f->index)
		return ol_fail(
			err, OL_ERR_NOT_FOUND,
			"%s holds neither model.safetensors nor model.safetensors.index.json "
			"(PyTorch .bin files are not read: convert them to safetensors)",
			f->path);
	if (s == OL_OK)
		s = open_indexed(f, err);
	if (s == OL_OK)
		s = ol_source_list_sort(&f->plan.list, err);
	return s == OL_OK ? check_index(f, err) : s;
}

/* ---- Names -------------------------------------------------------------------------------- */

static const char *layer_name(enum ol_tensor_role role, bool gemma)
{
	switch (role) {
	case OL_TENSOR_ATTENTION_NORM: return "input_layernorm.weight";
	case OL_TENSOR_Q: return "self_attn.q_proj.weight";
	case OL_TENSOR_Q_BIAS: return "self_attn.q_proj.bias";
	case OL_TENSOR_Q_NORM: return "self_attn.q_norm.weight";
	case OL_TENSOR_K: return "self_attn.k_proj.weight";
	case OL_TENSOR_K_BIAS: return "self_attn.k_proj.bias";
	case OL_TENSOR_K_NORM: return "self_attn.k_norm.weight";
	case OL_TENSOR_V: return "self_attn.v_proj.weight";
	case OL_TENSOR_V_BIAS: return "self_attn.v_proj.bias";
	case OL_TENSOR_O: return "self_attn.o_proj.weight";
	case OL_TENSOR_POST_ATTENTION_NORM: return "post_attention_layernorm.weight";
	case OL_TENSOR_FFN_NORM: /* the others call "post attention" what comes before the FFN */
		return gemma ? "pre_feedforward_layernorm.weight"
			     : "post_attention_layernorm.weight";
	case OL_TENSOR_GATE: return "mlp.gate_proj.weight";
	case OL_TENSOR_UP: return "mlp.up_proj.weight";
	case OL_TENSOR_DOWN: return "mlp.down_proj.weight";
	case OL_TENSOR_POST_FFN_NORM: return "post_feedforward_layernorm.weight";
	case OL_TENSOR_EMBED:
	case OL_TENSOR_HEAD:
	case OL_TENSOR_FINAL_NORM: break;
	}
	OL_UNREACHABLE();
}

void ol_folder_tensor_name(char *out, size_t room, const struct ol_tensor *tensor, bool gemma)
{
	if (tensor->role == OL_TENSOR_EMBED)
		snprintf(out, room, "model.embed_tokens.weight");
	else if (tensor->role == OL_TENSOR_HEAD)
		snprintf(out, room, "lm_head.weight");
	else if (tensor->role == OL_TENSOR_FINAL_NORM)
		snprintf(out, room, "model.norm.weight");
	else
		snprintf(out, room, "model.layers.%d.%s", tensor->layer,
			 layer_name(tensor->role, gemma));
}

static void folder_name(void *context, char *out, struct ol_import_slot *slot,
			const struct ol_tensor *tensor)
{
	const struct folder *f = context;
	const bool gemma = f->plan.config.post_norms;
	if (tensor->role == OL_TENSOR_EMBED)
		snprintf(out, OL_SOURCE_NAME_MAX, "%s", f->embed_name);
	else
		ol_folder_tensor_name(out, OL_SOURCE_NAME_MAX, tensor, gemma);
	slot->add = gemma && ol_tensor_is_norm(tensor->role) ? 1 : 0;
}

/* Buffers of older checkpoints that follow from the config. */
static bool folder_ignored(const char *name)
{
	static const char suffix[] = ".rotary_emb.inv_freq";
	const size_t length = strlen(name), tail = sizeof suffix - 1;
	return length >= tail && strcmp(name + length - tail, suffix) == 0;
}

/* ---- Texts -------------------------------------------------------------------------------- */

static enum ol_status keep_file(struct folder *f, const char *name, bool *found,
				struct ol_error *err)
{
	struct ol_map map;
	enum ol_status s = open_file(&map, f->path, name, true, err);
	*found = map.data != NULL;
	if (s == OL_OK && map.data)
		s = ol_import_keep(&f->plan, name, map.data, map.size, err);
	ol_map_close(&map);
	return s;
}

static enum ol_status keep_json(struct folder *f, const char *name, json_t *value,
				struct ol_error *err)
{
	if (json_object_size(value) == 0)
		return OL_OK;
	char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text)
		return ol_fail(err, OL_ERR_FULL, "out of memory while importing %s", f->path);
	const enum ol_status s = ol_import_keep(&f->plan, name, text, strlen(text), err);
	free(text);
	return s;
}

/* A special token is a text, or an object whose content is one. */
static void copy_tokens(json_t *out, const json_t *from)
{
	static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
	for (size_t i = 0; i < OL_ARRAY_LEN(keys); i++) {
		json_t *value = json_object_get(from, keys[i]);
		if (json_is_object(value))
			value = json_object_get(value, "content");
		if (json_is_string(value) && !json_object_get(out, keys[i]))
			json_object_set(out, keys[i], value);
	}
}

static void copy_keys(json_t *out, const json_t *from, const char *const *keys, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_t *value = json_object_get(from, keys[i]);
		if (value && !json_is_null(value) && !json_is_array(value) &&
		    !json_is_object(value))
			json_object_set(out, keys[i], value);
	}
}

/* The chat template: a text, or a list of {name, template} of which "default" counts. */
static enum ol_status keep_template(struct folder *f, const json_t *config, struct ol_error *err)
{
	const json_t *template = json_object_get(config, "chat_template");
	size_t i;
	json_t *item;
	if (json_is_array(template)) {
		const json_t *list = template;
		template = NULL;
		json_array_foreach(list, i, item)
		{
			const char *name = json_string_value(json_object_get(item, "name"));
			if (name && strcmp(name, "default") == 0)
				template = json_object_get(item, "template");
		}
	}
	if (!json_is_string(template))
		return OL_OK;
	return ol_import_keep(&f->plan, "chat_template.jinja", json_string_value(template),
			      json_string_length(template), err);
}

/* Of tokenizer_config.json and generation_config.json only what the program reads is kept: the
 * texts are part of the model's identity, and the rest of these files changes with every tool. */
static enum ol_status keep_configs(struct folder *f, struct ol_error *err)
{
	static const char *const tokenizer_keys[] = {"add_bos_token", "add_eos_token"};
	static const char *const sampling_keys[] = {"do_sample",   "min_p", "repetition_penalty",
						    "temperature", "top_k", "top_p"};
	json_t *tokenizer = NULL, *special = NULL, *generation = NULL;
	json_t *kept = json_object(), *sampling = json_object();
	/* model_max_length is 10^30 in many of these files. */
	enum ol_status s = load_json(&tokenizer, f->path, "tokenizer_config.json",
				     JSON_DECODE_INT_AS_REAL, err);
	if (s == OL_OK)
		s = load_json(&special, f->path, "special_tokens_map.json", 0, err);
	if (s == OL_OK)
		s = load_json(&generation, f->path, "generation_config.json", 0, err);
	if (s == OL_OK) {
		copy_tokens(kept, tokenizer);
		copy_tokens(kept, special);
		copy_keys(kept, tokenizer, tokenizer_keys, OL_ARRAY_LEN(tokenizer_keys));
		copy_keys(sampling, generation, sampling_keys, OL_ARRAY_LEN(sampling_keys));
		s = keep_template(f, tokenizer, err);
	}
	if (s == OL_OK)
		s = keep_json(f, "tokenizer_config.json", kept, err);
	if (s == OL_OK)
		s = keep_json(f, "generation_config.json", sampling, err);
	json_decref(sampling);
	json_decref(kept);
	json_decref(generation);
	json_decref(special);
	json_decref(tokenizer);
	return s;
}

static enum ol_status keep_texts(struct folder *f, struct ol_error *err)
{
	bool found = false;
	enum ol_status s = keep_file(f, "tokenizer.json", &found, err);
	if (s == OL_OK && !found)
		s = keep_file(f, "tokenizer.model", &found, err);
	if (s == OL_OK)
		s = keep_file(f, "chat_template.jinja", &found, err);
	return s == OL_OK ? keep_configs(f, err) : s;
}

/* ---- The whole ---------------------------------------------------------------------------- */

static enum ol_status import_folder(struct folder *f, const char *output,
				    const struct ol_import_options *options, struct ol_error *err)
{
	f->embed_name = "model.embed_tokens.weight";
	enum ol_status s = read_config(f, err);
	if (s == OL_OK)
		s = open_weights(f, err);
	if (s == OL_OK)
		s = ol_import_tie(&f->plan, &f->embed_name, "lm_head.weight", err);
	if (s == OL_OK)
		s = ol_import_map(&f->plan, options->type, folder_name, f, folder_ignored, err);
	if (s == OL_OK)
		s = keep_texts(f, err);
	return s == OL_OK ? ol_import_run(&f->plan, output, options, err) : s;
}

enum ol_status ol_import_folder(const char *output, const char *path,
				const struct ol_import_options *options, struct ol_error *err)
{
	struct folder f = {.path = path};
	ol_import_plan_init(&f.plan, path);
	const enum ol_status s = import_folder(&f, output, options, err);
	for (int i = 0; i < f.shard_count; i++)
		ol_map_close(&f.shards[i].map);
	free(f.shards);
	json_decref(f.index);
	ol_import_plan_release(&f.plan);
	return s;
}

/* ---- From nothing ------------------------------------------------------------------------- */

static enum ol_status zero_rows(void *context, const struct ol_tensor *tensor, void *canonical,
				int row0, int count, struct ol_error *err)
{
	(void)context;
	(void)row0;
	(void)err;
	memset(canonical, 0, (size_t)count * ol_canonical_row_bytes(tensor->type, tensor->cols));
	return OL_OK;
}

enum ol_status ol_import_blank(const char *output, const char *config_path,
			       const char *tokenizer_folder, struct ol_error *err)
{
	struct folder f = {.path = tokenizer_folder};
	struct ol_map config;
	struct ol_model_text texts[OL_TEXTS_MAX];
	ol_import_plan_init(&f.plan, tokenizer_folder);
	enum ol_status s = ol_map_open(&config, config_path, err);
	if (s == OL_OK)
		s = ol_config_parse(&f.plan.config, (const char *)config.data, config.size, NULL, 0,
				    config_path, err);
	ol_map_close(&config);
	if (s == OL_OK)
		s = keep_texts(&f, err);
	if (s == OL_OK && f.plan.text_count == 0)
		s = ol_fail(err, OL_ERR_NOT_FOUND, "%s holds no tokenizer.json or tokenizer.model",
			    tokenizer_folder);
	if (s == OL_OK) {
		for (int i = 0; i < f.plan.text_count; i++)
			texts[i] = (struct ol_model_text){f.plan.text_names[i],
							  f.plan.text_bytes[i].data,
							  f.plan.text_bytes[i].size};
		const struct ol_model_source source = {.config = &f.plan.config,
						       .type = OL_WEIGHT_F32,
						       .texts = texts,
						       .text_count = f.plan.text_count,
						       .rows = zero_rows};
		s = ol_model_write(output, &source, err);
	}
	ol_import_plan_release(&f.plan);
	return s;
}
