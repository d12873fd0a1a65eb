/* A PEFT folder into an adapter: the config says what there should be, the tensors must agree. */
#include "model/adapter_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "model/safetensors.h"

struct opening {
	const struct ol_config *base;
	struct ol_peft_config peft;
	struct ol_source_list list;
	struct ol_lora_tensors *tensors; /* ol_linear_count(base) */
	uint16_t **values;               /* 2 per linear, owned    */
	const char *path;                /* of the safetensors     */
	struct ol_error *err;
};

static enum ol_status refuse(const struct opening *o, enum ol_status status, const char *name,
			     const char *what)
{
	char shown[OL_ADAPTER_TENSOR_NAME_MAX];
	ol_source_printable(shown, sizeof shown, name, strlen(name));
	return ol_fail(o->err, status, "%s: tensor %s %s", o->path, shown, what);
}

/* A tensor of (rows, cols) as bf16; *values_out is the caller's to free. */
static enum ol_status take_tensor(struct opening *o, uint16_t **values_out,
				  struct ol_source_tensor *t, int rows, int cols)
{
	char what[160];
	if (t->type != OL_SOURCE_F32 && t->type != OL_SOURCE_F16 && t->type != OL_SOURCE_BF16) {
		snprintf(what, sizeof what, "is %s: adapters are F32, F16 or BF16", t->type_name);
		return refuse(o, OL_ERR_UNSUPPORTED, t->name, what);
	}
	if (t->dims != 2 || t->shape[0] != (uint64_t)rows || t->shape[1] != (uint64_t)cols) {
		snprintf(what, sizeof what,
			 "has not the shape [%d, %d] that this base and its rank ask for: is the "
			 "adapter for another base?",
			 rows, cols);
		return refuse(o, OL_ERR_INPUT, t->name, what);
	}
	const size_t count = (size_t)rows * (size_t)cols;
	uint16_t *values = *values_out = malloc(count * sizeof *values);
	float *row = malloc((size_t)cols * sizeof *row);
	if (!values || !row) {
		free(row);
		return refuse(o, OL_ERR_FULL, t->name, "does not fit the memory");
	}
	for (int r = 0; r < rows; r++) {
		ol_source_read_row(row, t, (uint64_t)r, cols);
		for (int i = 0; i < cols; i++)
			values[(size_t)r * (size_t)cols + (size_t)i] = ol_f32_to_bf16(row[i]);
	}
	free(row);
	t->used = true;
	return OL_OK;
}

static enum ol_status take_linear(struct opening *o, int index)
{
	int layer, outputs, inputs;
	const enum ol_linear linear = ol_linear_at(o->base, index, &layer);
	const enum ol_peft_target target = ol_peft_is_target(&o->peft, layer, linear);
	char names[2][OL_ADAPTER_TENSOR_NAME_MAX];
	struct ol_source_tensor *found[2];
	for (int side = 0; side < 2; side++) {
		ol_adapter_tensor_name(names[side], layer, linear, "AB"[side]);
		found[side] = ol_source_list_find(&o->list, names[side]);
	}
	if (!found[0] && !found[1] && target != OL_PEFT_TARGET)
		return OL_OK;
	for (int side = 0; side < 2; side++)
		if (!found[side])
			return refuse(o, OL_ERR_INPUT, names[side],
				      "is missing, but adapter_config.json asks for it");
	if (target == OL_PEFT_NOT_TARGET)
		return refuse(o, OL_ERR_INPUT, names[0],
			      "belongs to a module that adapter_config.json does not target");
	const int rank = ol_peft_rank(&o->peft, layer, linear);
	ol_linear_shape(o->base, linear, &outputs, &inputs);
	uint16_t **values = &o->values[2 * (size_t)index];
	enum ol_status s = take_tensor(o, &values[0], found[0], rank, inputs);
	if (s == OL_OK)
		s = take_tensor(o, &values[1], found[1], outputs, rank);
	o->tensors[index] = (struct ol_lora_tensors){
		.rank = rank,
		.scale = ol_lora_scale(ol_peft_alpha(&o->peft, layer, linear), rank,
				       o->peft.config.rslora),
		.a = values[0],
		.b = values[1]};
	return s;
}

static enum ol_status check_header(const uint8_t *file, size_t size, const char *path,
				   struct ol_error *err)
{
	if (size >= 8 && ol_load_u64(file) > OL_ADAPTER_HEADER_MAX)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: a header of %llu bytes, above an adapter's limit of %d", path,
			       (unsigned long long)ol_load_u64(file), OL_ADAPTER_HEADER_MAX);
	return OL_OK;
}

static enum ol_status take_all(struct opening *o, const uint8_t *file, size_t file_size)
{
	enum ol_status s = check_header(file, file_size, o->path, o->err);
	if (s == OL_OK)
		s = ol_safetensors_read(&o->list, file, file_size, o->path, o->err);
	if (s == OL_OK)
		s = ol_source_list_sort(&o->list, o->err);
	for (int i = 0; s == OL_OK && i < ol_linear_count(o->base); i++)
		s = take_linear(o, i);
	for (size_t i = 0; s == OL_OK && i < o->list.count; i++)
		if (!o->list.items[i].used)
			s = refuse(o, OL_ERR_UNSUPPORTED, o->list.items[i].name,
				   "is no LoRA weight of a linear layer that this base has");
	return s;
}

enum ol_status ol_adapter_open_bytes(struct ol_adapter **adapter_out, const char *config_json,
				     size_t config_size, const uint8_t *file, size_t file_size,
				     const char *folder, const struct ol_config *base,
				     struct ol_error *err)
{
	const size_t count = (size_t)ol_linear_count(base);
	struct ol_buf where, path;
	ol_buf_init(&where, 1 << 16);
	ol_buf_init(&path, 1 << 16);
	struct opening o = {.base = base, .err = err};
	o.tensors = calloc(count, sizeof *o.tensors);
	o.values = calloc(2 * count, sizeof *o.values);
	enum ol_status s = OL_OK;
	if (!ol_buf_printf(&where, "%s/adapter_config.json", folder) ||
	    !ol_buf_printf(&path, "%s/adapter_model.safetensors", folder) || !o.tensors ||
	    !o.values)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for an adapter");
	o.path = path.data;
	if (s == OL_OK)
		s = ol_peft_config_parse(&o.peft, config_json, config_size, where.data, err);
	if (s == OL_OK)
		s = take_all(&o, file, file_size);
	if (s == OL_OK) {
		struct ol_error why = {0};
		s = ol_adapter_make(adapter_out, base, &o.peft.config, o.tensors, &why);
		if (s != OL_OK)
			s = ol_fail(err, s, "%s: %s", o.path, why.text);
	}
	ol_peft_config_release(&o.peft);
	ol_source_list_release(&o.list);
	for (size_t i = 0; o.values && i < 2 * count; i++)
		free(o.values[i]);
	free(o.values);
	free(o.tensors);
	ol_buf_release(&path);
	ol_buf_release(&where);
	return s;
}

static enum ol_status map_part(struct ol_map *map, const char *folder, const char *name,
			       struct ol_error *err)
{
	struct ol_buf path;
	ol_buf_init(&path, 1 << 16);
	const enum ol_status s =
		ol_buf_printf(&path, "%s/%s", folder, name)
			? ol_map_open(map, path.data, err)
			: ol_fail(err, OL_ERR_INPUT, "the path %.200s… is too long", folder);
	ol_buf_release(&path);
	return s;
}

/* Both files of a folder; close them whatever happened. */
static enum ol_status map_folder(struct ol_map *config, struct ol_map *file, const char *folder,
				 struct ol_error *err)
{
	enum ol_status s = map_part(config, folder, "adapter_config.json", err);
	if (s == OL_OK && config->size > OL_ADAPTER_CONFIG_MAX)
		s = ol_fail(err, OL_ERR_INPUT,
			    "%s/adapter_config.json: %zu bytes, above the limit of %d", folder,
			    config->size, OL_ADAPTER_CONFIG_MAX);
	return s == OL_OK ? map_part(file, folder, "adapter_model.safetensors", err) : s;
}

enum ol_status ol_adapter_open(struct ol_adapter **adapter_out, const char *folder,
			       const struct ol_config *base, struct ol_error *err)
{
	struct ol_map config = {0}, file = {0};
	enum ol_status s = map_folder(&config, &file, folder, err);
	if (s == OL_OK)
		s = ol_adapter_open_bytes(adapter_out, (const char *)config.data, config.size,
					  file.data, file.size, folder, base, err);
	ol_map_close(&file);
	ol_map_close(&config);
	return s;
}

/* The linears that the tensors' names speak of. */
static void look_at(struct ol_adapter_about *about, const struct ol_source_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct ol_source_tensor *t = &list->items[i];
		about->parameters += t->dims == 2 ? t->shape[0] * t->shape[1] : 0;
		for (int k = 0; k < OL_LINEARS; k++) {
			char part[OL_MODULE_NAME_MAX];
			snprintf(part, sizeof part, ".%s.lora_",
				 ol_module_short_name((enum ol_linear)k));
			if (strstr(t->name, part))
				about->config.targets |= 1u << k;
		}
	}
}

enum ol_status ol_adapter_look(struct ol_adapter_about *about, const char *folder,
			       struct ol_error *err)
{
	struct ol_map config = {0}, file = {0};
	struct ol_peft_config peft = {0};
	struct ol_source_list list = {0};
	*about = (struct ol_adapter_about){0};
	enum ol_status s = map_folder(&config, &file, folder, err);
	if (s == OL_OK)
		s = ol_peft_config_parse(&peft, (const char *)config.data, config.size, folder,
					 err);
	if (s == OL_OK)
		s = check_header(file.data, file.size, folder, err);
	if (s == OL_OK)
		s = ol_safetensors_read(&list, file.data, file.size, folder, err);
	if (s == OL_OK) {
		about->config = peft.config;
		about->bytes = file.size;
		look_at(about, &list);
	}
	ol_source_list_release(&list);
	ol_peft_config_release(&peft);
	ol_map_close(&file);
	ol_map_close(&config);
	return s;
}
