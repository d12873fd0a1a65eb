/* An adapter in memory: one block that is its safetensors file, tensors that point into it, and
 * panels packed from them. */
#include "model/adapter_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/file.h"

static const struct {
	const char *name, *module, *block;
} linear_names[OL_LINEARS] = {
	{"q", "q_proj", "self_attn"}, {"k", "k_proj", "self_attn"}, {"v", "v_proj", "self_attn"},
	{"o", "o_proj", "self_attn"}, {"gate", "gate_proj", "mlp"}, {"up", "up_proj", "mlp"},
	{"down", "down_proj", "mlp"}, {"head", "lm_head", NULL},
};

const char *ol_linear_name(enum ol_linear linear)
{
	return linear_names[linear].name;
}

const char *ol_module_short_name(enum ol_linear linear)
{
	return linear_names[linear].module;
}

void ol_module_name(char name[OL_MODULE_NAME_MAX], int layer, enum ol_linear linear)
{
	if (linear == OL_LINEAR_HEAD)
		snprintf(name, OL_MODULE_NAME_MAX, "%s", linear_names[linear].module);
	else
		snprintf(name, OL_MODULE_NAME_MAX, "model.layers.%d.%s.%s", layer,
			 linear_names[linear].block, linear_names[linear].module);
}

void ol_adapter_tensor_name(char name[OL_ADAPTER_TENSOR_NAME_MAX], int layer, enum ol_linear linear,
			    char side)
{
	char module[OL_MODULE_NAME_MAX];
	ol_module_name(module, layer, linear);
	snprintf(name, OL_ADAPTER_TENSOR_NAME_MAX, "base_model.model.%s.lora_%c.weight", module,
		 side);
}

/* The bits that one word of a target list stands for; 0: none. */
static uint32_t target_bits(const char *word, size_t length)
{
	if (length == 3 && memcmp(word, "all", 3) == 0)
		return OL_TARGETS_ALL;
	for (int i = 0; i < OL_LINEARS; i++) {
		const char *names[] = {linear_names[i].name, linear_names[i].module};
		for (size_t k = 0; k < OL_ARRAY_LEN(names); k++)
			if (strlen(names[k]) == length && memcmp(word, names[k], length) == 0)
				return 1u << i;
	}
	return 0;
}

enum ol_status ol_targets_parse(uint32_t *targets_out, const char *text, struct ol_error *err)
{
	uint32_t targets = 0;
	for (const char *at = text;;) {
		const size_t length = strcspn(at, ",");
		const uint32_t bits = target_bits(at, length);
		if (bits == 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "\"%.*s\" is no linear layer: name some of q, k, v, o, "
				       "gate, up, down, head, or all, with commas between them",
				       (int)OL_MIN(length, (size_t)64), at);
		targets |= bits;
		if (at[length] == '\0')
			break;
		at += length + 1;
	}
	*targets_out = targets;
	return OL_OK;
}

void ol_linear_shape(const struct ol_config *c, enum ol_linear linear, int *outputs, int *inputs)
{
	const int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	*inputs = linear == OL_LINEAR_O ? q : linear == OL_LINEAR_DOWN ? c->ffn : c->hidden;
	switch (linear) {
	case OL_LINEAR_Q: *outputs = q; return;
	case OL_LINEAR_K:
	case OL_LINEAR_V: *outputs = kv; return;
	case OL_LINEAR_O:
	case OL_LINEAR_DOWN: *outputs = c->hidden; return;
	case OL_LINEAR_GATE:
	case OL_LINEAR_UP: *outputs = c->ffn; return;
	case OL_LINEAR_HEAD: *outputs = c->vocab_size; return;
	}
	OL_UNREACHABLE();
}

float ol_lora_scale(double alpha, int rank, bool rslora)
{
	return (float)(alpha / (rslora ? sqrt((double)rank) : (double)rank));
}

double ol_lora_alpha(float scale, int rank, bool rslora)
{
	/* At most two roundings of 2^-53 away from what ol_lora_scale rounds to 24 bits. */
	return (double)scale * (rslora ? sqrt((double)rank) : (double)rank);
}

/* --- the file -------------------------------------------------------------- */

struct entry {
	char name[OL_ADAPTER_TENSOR_NAME_MAX];
	const uint16_t *values;
	const uint16_t **place; /* where the adapter keeps a pointer to its copy */
	int32_t rows, cols;
};

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static size_t entry_bytes(const struct entry *e)
{
	return (size_t)e->rows * (size_t)e->cols * sizeof(uint16_t);
}

/* The tensors that there are, sorted by name. */
static int list_entries(struct entry *entries, struct ol_adapter *adapter,
			const struct ol_config *base, const struct ol_lora_tensors *tensors)
{
	int count = 0;
	for (int i = 0; i < adapter->count; i++) {
		int layer;
		const enum ol_linear linear = ol_linear_at(base, i, &layer);
		int outputs, inputs;
		if (tensors[i].rank == 0)
			continue;
		ol_linear_shape(base, linear, &outputs, &inputs);
		struct entry *a = &entries[count++], *b = &entries[count++];
		*a = (struct entry){.values = tensors[i].a,
				    .place = &adapter->tensors[i].a,
				    .rows = tensors[i].rank,
				    .cols = inputs};
		*b = (struct entry){.values = tensors[i].b,
				    .place = &adapter->tensors[i].b,
				    .rows = outputs,
				    .cols = tensors[i].rank};
		ol_adapter_tensor_name(a->name, layer, linear, 'A');
		ol_adapter_tensor_name(b->name, layer, linear, 'B');
	}
	if (count > 0)
		qsort(entries, (size_t)count, sizeof *entries, by_name);
	return count;
}

static bool write_header(struct ol_buf *text, const struct entry *entries, int count)
{
	size_t at = 0;
	ol_buf_append_text(text, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (int i = 0; i < count; i++) {
		const size_t end = at + entry_bytes(&entries[i]);
		ol_buf_printf(
			text,
			",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
			entries[i].name, entries[i].rows, entries[i].cols, at, end);
		at = end;
	}
	ol_buf_append_text(text, "}");
	while (text->size % 8 != 0 && ol_buf_append_text(text, " ")) {
	}
	return !text->failed;
}

/* Index of the first number that is not finite, or -1. */
static int64_t first_broken(const struct entry *e)
{
	const size_t count = entry_bytes(e) / sizeof *e->values;
	for (size_t i = 0; i < count; i++)
		if ((e->values[i] & 0x7f80) == 0x7f80)
			return (int64_t)i;
	return -1;
}

static enum ol_status fill_file(struct ol_adapter *adapter, const struct entry *entries, int count,
				struct ol_error *err)
{
	struct ol_buf header;
	size_t bytes = 0;
	for (int i = 0; i < count; i++) {
		const int64_t broken = first_broken(&entries[i]);
		if (broken >= 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "tensor %s: value %lld is not a finite bf16 number",
				       entries[i].name, (long long)broken);
		bytes += entry_bytes(&entries[i]);
	}
	ol_buf_init(&header, OL_ADAPTER_HEADER_MAX);
	const bool written = write_header(&header, entries, count);
	adapter->file_bytes = 8 + header.size + bytes;
	adapter->file = written ? ol_block_alloc(adapter->file_bytes) : NULL;
	if (!adapter->file) {
		ol_buf_release(&header);
		return ol_fail(err, OL_ERR_FULL, "out of memory for an adapter of %zu bytes",
			       bytes);
	}
	ol_store_u64(adapter->file, header.size);
	memcpy(adapter->file + 8, header.data, header.size);
	uint8_t *at = adapter->file + 8 + header.size;
	ol_buf_release(&header);
	for (int i = 0; i < count; i++) {
		memcpy(at, entries[i].values, entry_bytes(&entries[i]));
		*entries[i].place = (const uint16_t *)(const void *)at;
		at += entry_bytes(&entries[i]);
		adapter->parameters += entry_bytes(&entries[i]) / sizeof(uint16_t);
	}
	ol_sha256(adapter->sha256, adapter->file, adapter->file_bytes);
	return OL_OK;
}

/* --- panels ---------------------------------------------------------------- */

static void set_matrix(struct ol_matrix *w, int rows, int cols, const uint8_t *panels, size_t *at)
{
	*w = (struct ol_matrix){.type = OL_WEIGHT_BF16, .rows = rows, .cols = cols};
	if (panels)
		w->panels = panels + *at;
	*at += ol_panels_bytes(OL_WEIGHT_BF16, rows, cols);
}

/* Lays all panels out; without memory it only measures. */
static size_t lay_out_panels(struct ol_adapter *adapter, const struct ol_config *base,
			     uint8_t *panels)
{
	size_t at = 0;
	for (int i = 0; i < adapter->count; i++) {
		const struct ol_lora_tensors *t = &adapter->tensors[i];
		struct ol_lora_view *view = &adapter->linears[i];
		int layer, outputs, inputs;
		*view = (struct ol_lora_view){.scale = t->scale, .rank = t->rank};
		if (t->rank == 0)
			continue;
		ol_linear_shape(base, ol_linear_at(base, i, &layer), &outputs, &inputs);
		set_matrix(&view->a, t->rank, inputs, panels, &at);
		set_matrix(&view->b, outputs, t->rank, panels, &at);
		adapter->view.rank_max = OL_MAX(adapter->view.rank_max, t->rank);
	}
	return at;
}

static void pack(const struct ol_matrix *w, const uint16_t *canonical)
{
	void *panels = (void *)(uintptr_t)w->panels;
	ol_panels_clear(panels, w->type, w->rows, w->cols);
	ol_pack_rows(panels, w->type, w->rows, w->cols, canonical, 0, w->rows);
}

static bool pack_panels(struct ol_adapter *adapter, const struct ol_config *base)
{
	adapter->panels_bytes = lay_out_panels(adapter, base, NULL);
	adapter->panels = ol_block_alloc(adapter->panels_bytes);
	if (!adapter->panels)
		return false;
	lay_out_panels(adapter, base, adapter->panels);
	for (int i = 0; i < adapter->count; i++)
		if (adapter->tensors[i].rank > 0) {
			pack(&adapter->linears[i].a, adapter->tensors[i].a);
			pack(&adapter->linears[i].b, adapter->tensors[i].b);
		}
	adapter->view.linears = adapter->linears;
	return true;
}

/* --- life ------------------------------------------------------------------ */

static enum ol_status check_tensors(struct ol_adapter *adapter, const struct ol_config *base,
				    const struct ol_lora_tensors *tensors, struct ol_error *err)
{
	adapter->config.targets = 0;
	for (int i = 0; i < adapter->count; i++) {
		int layer;
		const enum ol_linear linear = ol_linear_at(base, i, &layer);
		char module[OL_MODULE_NAME_MAX];
		ol_module_name(module, layer, linear);
		if (tensors[i].rank < 0 || tensors[i].rank > OL_RANK_MAX)
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: a rank of %d; ranks are from 1 to %d", module,
				       tensors[i].rank, OL_RANK_MAX);
		if (tensors[i].rank == 0)
			continue;
		if (!isfinite(tensors[i].scale))
			return ol_fail(err, OL_ERR_INPUT, "%s: its scale is not a finite number",
				       module);
		adapter->tensors[i].rank = tensors[i].rank;
		adapter->tensors[i].scale = tensors[i].scale;
		adapter->config.targets |= 1u << linear;
	}
	if (adapter->config.targets == 0)
		return ol_fail(err, OL_ERR_INPUT, "an adapter without tensors changes nothing");
	return OL_OK;
}

static enum ol_status fill(struct ol_adapter *adapter, const struct ol_config *base,
			   const struct ol_lora_tensors *tensors, struct ol_error *err)
{
	const size_t count = (size_t)adapter->count;
	adapter->tensors = calloc(count, sizeof *adapter->tensors);
	adapter->linears = calloc(count, sizeof *adapter->linears);
	struct entry *entries = malloc(2 * count * sizeof *entries);
	if (!adapter->tensors || !adapter->linears || !entries) {
		free(entries);
		return ol_fail(err, OL_ERR_FULL, "out of memory for an adapter");
	}
	enum ol_status s = check_tensors(adapter, base, tensors, err);
	if (s == OL_OK)
		s = fill_file(adapter, entries, list_entries(entries, adapter, base, tensors), err);
	if (s == OL_OK && !pack_panels(adapter, base))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for an adapter's panels");
	free(entries);
	return s;
}

enum ol_status ol_adapter_make(struct ol_adapter **adapter_out, const struct ol_config *base,
			       const struct ol_adapter_config *config,
			       const struct ol_lora_tensors *tensors, struct ol_error *err)
{
	struct ol_adapter *adapter = calloc(1, sizeof *adapter);
	if (!adapter)
		return ol_fail(err, OL_ERR_FULL, "out of memory for an adapter");
	OL_ASSERT(memchr(config->base_name, '\0', sizeof config->base_name));
	adapter->config = *config;
	adapter->layers = base->layers;
	adapter->count = ol_linear_count(base);
	const enum ol_status s = fill(adapter, base, tensors, err);
	if (s == OL_OK)
		*adapter_out = adapter;
	else
		ol_adapter_close(adapter);
	return s;
}

void ol_adapter_close(struct ol_adapter *adapter)
{
	if (!adapter)
		return;
	ol_block_free(adapter->panels, adapter->panels_bytes);
	ol_block_free(adapter->file, adapter->file_bytes);
	free(adapter->linears);
	free(adapter->tensors);
	free(adapter);
}

const struct ol_adapter_config *ol_adapter_settings(const struct ol_adapter *adapter)
{
	return &adapter->config;
}

const struct ol_adapter_view *ol_adapter_views(const struct ol_adapter *adapter)
{
	return &adapter->view;
}

const struct ol_lora_tensors *ol_adapter_tensors(const struct ol_adapter *adapter)
{
	return adapter->tensors;
}

const uint8_t *ol_adapter_sha256(const struct ol_adapter *adapter)
{
	return adapter->sha256;
}

uint64_t ol_adapter_parameters(const struct ol_adapter *adapter)
{
	return adapter->parameters;
}

size_t ol_adapter_bytes(const struct ol_adapter *adapter)
{
	return sizeof *adapter + adapter->file_bytes + adapter->panels_bytes +
	       (size_t)adapter->count * (sizeof *adapter->tensors + sizeof *adapter->linears);
}

static enum ol_status write_file(const char *folder, const char *name, const void *bytes,
				 size_t size, struct ol_error *err)
{
	struct ol_writer *writer = NULL;
	struct ol_buf path;
	ol_buf_init(&path, 1 << 16);
	enum ol_status s = ol_buf_printf(&path, "%s/%s", folder, name)
				   ? ol_writer_open(&writer, path.data, err)
				   : ol_fail(err, OL_ERR_INPUT, "the path %s is too long", folder);
	if (s == OL_OK)
		s = ol_writer_append(writer, bytes, size, err);
	if (s == OL_OK)
		s = ol_writer_commit(writer, err);
	else if (writer)
		ol_writer_abort(writer);
	ol_buf_release(&path);
	return s;
}

enum ol_status ol_adapter_write(const struct ol_adapter *adapter, const char *folder,
				struct ol_error *err)
{
	struct ol_buf config;
	enum ol_status s = ol_make_directories(folder, err);
	ol_buf_init(&config, OL_ADAPTER_CONFIG_MAX);
	if (s == OL_OK && !ol_peft_config_write(&config, adapter))
		s = ol_fail(err, OL_ERR_INPUT,
			    "adapter_config.json cannot be written: the base's name is not UTF-8, "
			    "or memory is short");
	/* The tensors last: a folder that holds them is whole. */
	if (s == OL_OK)
		s = write_file(folder, "adapter_config.json", config.data, config.size, err);
	if (s == OL_OK)
		s = write_file(folder, "adapter_model.safetensors", adapter->file,
			       adapter->file_bytes, err);
	ol_buf_release(&config);
	return s;
}
