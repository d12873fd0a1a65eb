#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "model/import_internal.h"

void ol_import_plan_init(struct ol_import_plan *plan, const char *path)
{
	*plan = (struct ol_import_plan){.path = path};
}

void ol_import_plan_release(struct ol_import_plan *plan)
{
	for (int i = 0; i < plan->text_count; i++)
		ol_buf_release(&plan->text_bytes[i]);
	ol_source_list_release(&plan->list);
	ol_layout_release(&plan->layout);
	free(plan->slots);
	free(plan->row);
	*plan = (struct ol_import_plan){0};
}

static enum ol_status out_of_memory(const struct ol_import_plan *plan, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_FULL, "out of memory while importing %s", plan->path);
}

/* ---- Texts -------------------------------------------------------------------------------- */

enum ol_status ol_import_keep(struct ol_import_plan *plan, const char *name, const void *bytes,
			      size_t size, struct ol_error *err)
{
	int at = 0; /* kept in ascending order of names */
	while (at < plan->text_count && strcmp(plan->text_names[at], name) < 0)
		at++;
	if (at < plan->text_count && strcmp(plan->text_names[at], name) == 0)
		return OL_OK;
	if (size > OL_MODEL_TEXT_MAX)
		return ol_fail(err, OL_ERR_INPUT, "%s: %s has %zu bytes, at most %d", plan->path,
			       name, size, OL_MODEL_TEXT_MAX);
	OL_ASSERT(plan->text_count < OL_TEXTS_MAX);
	for (int i = plan->text_count; i > at; i--) {
		plan->text_names[i] = plan->text_names[i - 1];
		plan->text_bytes[i] = plan->text_bytes[i - 1];
	}
	plan->text_count++;
	plan->text_names[at] = name;
	ol_buf_init(&plan->text_bytes[at], OL_MODEL_TEXT_MAX);
	return ol_buf_append(&plan->text_bytes[at], bytes, size) ? OL_OK : out_of_memory(plan, err);
}

/* ---- Which tensor comes from where -------------------------------------------------------- */

static bool same_tensor(const struct ol_source_tensor *a, const struct ol_source_tensor *b)
{
	return a->type == b->type && a->dims == b->dims && a->bytes == b->bytes &&
	       memcmp(a->shape, b->shape, sizeof a->shape) == 0 &&
	       memcmp(a->data, b->data, (size_t)a->bytes) == 0;
}

enum ol_status ol_import_tie(struct ol_import_plan *plan, const char **embed_name,
			     const char *head_name, struct ol_error *err)
{
	const struct ol_source_tensor *embed = ol_source_list_find(&plan->list, *embed_name);
	struct ol_source_tensor *head = ol_source_list_find(&plan->list, head_name);
	if (embed && head && plan->config.tied_embeddings) {
		if (!same_tensor(embed, head))
			return ol_fail(
				err, OL_ERR_INPUT,
				"%s: tensor %s differs from %s, but tie_word_embeddings says "
				"they are one; correct config.json",
				head->path, head_name, *embed_name);
		head->used = true;
	}
	if (!embed && head)
		*embed_name = head_name;
	if (!embed || !head)
		plan->config.tied_embeddings = true;
	return OL_OK;
}

static void print_shape(char *out, size_t room, const struct ol_source_tensor *t)
{
	size_t n = (size_t)snprintf(out, room, "(");
	for (int i = 0; i < t->dims && n < room; i++)
		n += (size_t)snprintf(out + n, room - n, "%s%llu", i ? ", " : "",
				      (unsigned long long)t->shape[i]);
	if (n < room)
		snprintf(out + n, room - n, ")");
}

static enum ol_status check_source(const struct ol_source_tensor *source,
				   const struct ol_tensor *tensor, struct ol_error *err)
{
	char shape[128];
	const bool vector = tensor->vector;
	const bool fits = source->dims == (vector ? 1 : 2) &&
			  source->shape[source->dims - 1] == (uint64_t)tensor->cols &&
			  (vector || source->shape[0] == (uint64_t)tensor->rows);
	print_shape(shape, sizeof shape, source);
	if (!fits && vector)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: tensor %s has the shape %s, but the config asks for (%d)",
			       source->path, source->name, shape, tensor->cols);
	if (!fits)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: tensor %s has the shape %s, but the config asks for (%d, %d)",
			       source->path, source->name, shape, tensor->rows, tensor->cols);
	if (source->type == OL_SOURCE_OTHER)
		return ol_fail(
			err, OL_ERR_UNSUPPORTED,
			"%s: tensor %s is of type %s; F32, F16, BF16, Q8_0, Q4_0, Q4_K and Q6_K "
			"are read",
			source->path, source->name, source->type_name);
	return OL_OK;
}

static enum ol_status map_tensor(struct ol_import_plan *plan, int index, ol_import_name_fn *name,
				 void *context, struct ol_error *err)
{
	const struct ol_tensor *tensor = &plan->layout.tensors[index];
	struct ol_import_slot *slot = &plan->slots[index];
	char source_name[OL_SOURCE_NAME_MAX];
	name(context, source_name, slot, tensor);
	struct ol_source_tensor *source = ol_source_list_find(&plan->list, source_name);
	if (!source)
		return ol_fail(err, OL_ERR_INPUT, "%s: tensor %s is missing", plan->path,
			       source_name);
	source->used = true;
	slot->source = source;
	return check_source(source, tensor, err);
}

static enum ol_status refuse_leftovers(const struct ol_import_plan *plan,
				       bool (*ignored)(const char *name), struct ol_error *err)
{
	for (size_t i = 0; i < plan->list.count; i++) {
		const struct ol_source_tensor *t = &plan->list.items[i];
		char name[128];
		if (t->used || ignored(t->name))
			continue;
		ol_source_printable(name, sizeof name, t->name, strlen(t->name));
		return ol_fail(
			err, OL_ERR_UNSUPPORTED,
			"%s: tensor %s is not part of a %s model of %d layers as we know it; "
			"dropping it would change the answers",
			t->path, name, ol_arch_name(plan->config.arch), plan->config.layers);
	}
	return OL_OK;
}

enum ol_status ol_import_map(struct ol_import_plan *plan, enum ol_weight_type type,
			     ol_import_name_fn *name, void *context,
			     bool (*ignored)(const char *name), struct ol_error *err)
{
	size_t widest = 0;
	if (!ol_layout_init(&plan->layout, &plan->config, type))
		return out_of_memory(plan, err);
	plan->slots = calloc((size_t)plan->layout.count, sizeof *plan->slots);
	for (int i = 0; i < plan->layout.count; i++)
		widest = OL_MAX(widest, (size_t)plan->layout.tensors[i].cols);
	plan->row = malloc(widest * sizeof *plan->row);
	if (!plan->slots || !plan->row)
		return out_of_memory(plan, err);
	for (int i = 0; i < plan->layout.count; i++) {
		const enum ol_status s = map_tensor(plan, i, name, context, err);
		if (s != OL_OK)
			return s;
	}
	return refuse_leftovers(plan, ignored, err);
}

/* ---- Rows --------------------------------------------------------------------------------- */

/* Where row r of ours lies in the source. */
static uint64_t source_row(const struct ol_import_slot *slot, int r)
{
	const int d = slot->head_dim;
	if (d == 0)
		return (uint64_t)r;
	const int within = r % d, half = d / 2;
	return (uint64_t)(r - within + (within < half ? 2 * within : 2 * (within - half) + 1));
}

static bool is_finite(float x)
{
	return (ol_float_bits(x) & 0x7fffffff) < 0x7f800000;
}

static enum ol_status refuse_row(const struct ol_import_slot *slot, const struct ol_tensor *tensor,
				 const float *x, uint64_t row, struct ol_error *err)
{
	const struct ol_source_tensor *source = slot->source;
	for (int i = 0; i < tensor->cols; i++)
		if (!is_finite(x[i]))
			return ol_fail(
				err, OL_ERR_INPUT,
				"%s: tensor %s holds a value that is not a finite number at "
				"index %llu",
				source->path, source->name,
				(unsigned long long)(row * (uint64_t)tensor->cols + (uint64_t)i));
	return ol_fail(
		err, OL_ERR_INPUT,
		"%s: tensor %s has values too large for %s weights in row %llu; import it with "
		"--weights f32",
		source->path, source->name, ol_weight_type_name(tensor->type),
		(unsigned long long)row);
}

/* A GGUF row whose blocks are our canonical blocks: the bytes stay, if every scale is finite. */
static bool copy_row(void *canonical, const struct ol_import_slot *slot,
		     const struct ol_tensor *tensor, uint64_t row)
{
	const size_t size = ol_canonical_row_bytes(tensor->type, tensor->cols);
	const size_t block = (size_t)ol_source_block_bytes(slot->source->type);
	const uint8_t *bytes = ol_source_row(slot->source, row, tensor->cols);
	for (size_t at = 0; at < size; at += block)
		if ((ol_load_u16(bytes + at) & 0x7c00) == 0x7c00)
			return false;
	memcpy(canonical, bytes, size);
	return true;
}

/* Rows come in order, but those of a head may lie anywhere in it. */
static void forget_rows(const struct ol_import_slot *slot, const struct ol_tensor *tensor, int row0,
			int count)
{
	const struct ol_source_tensor *source = slot->source;
	const uint64_t row_bytes = source->bytes / (uint64_t)tensor->rows;
	if (slot->head_dim == 0)
		ol_map_forget(source->data + row_bytes * (uint64_t)row0,
			      (size_t)row_bytes * (size_t)count);
	else if (row0 + count == tensor->rows)
		ol_map_forget(source->data, (size_t)source->bytes);
}

static enum ol_status import_rows(void *context, const struct ol_tensor *tensor, void *canonical,
				  int row0, int count, struct ol_error *err)
{
	struct ol_import_plan *plan = context;
	const int index = ol_layout_find(&plan->layout, tensor->role, tensor->layer);
	const struct ol_import_slot *slot = &plan->slots[index];
	const enum ol_source_type from = slot->source->type;
	const bool same = (from == OL_SOURCE_Q8_0 && tensor->type == OL_WEIGHT_Q8) ||
			  (from == OL_SOURCE_Q4_0 && tensor->type == OL_WEIGHT_Q4);
	uint8_t *out = canonical;
	for (int r = row0; r < row0 + count; r++) {
		const uint64_t row = source_row(slot, r);
		if (!same || !copy_row(out, slot, tensor, row)) {
			ol_source_read_row(plan->row, slot->source, row, tensor->cols);
			for (int i = 0; slot->add != 0 && i < tensor->cols; i++)
				plan->row[i] += slot->add;
			if (!ol_quantize_row(out, tensor->type, plan->row, tensor->cols))
				return refuse_row(slot, tensor, plan->row, row, err);
		}
		out += ol_canonical_row_bytes(tensor->type, tensor->cols);
	}
	forget_rows(slot, tensor, row0, count);
	return OL_OK;
}

enum ol_status ol_import_run(struct ol_import_plan *plan, const char *output,
			     const struct ol_import_options *options, struct ol_error *err)
{
	struct ol_model_text texts[OL_TEXTS_MAX];
	for (int i = 0; i < plan->text_count; i++)
		texts[i] = (struct ol_model_text){plan->text_names[i], plan->text_bytes[i].data,
						  plan->text_bytes[i].size};
	const struct ol_model_source source = {
		.config = &plan->config,
		.type = options->type,
		.texts = texts,
		.text_count = plan->text_count,
		.rows = import_rows,
		.context = plan,
		.progress = options->progress,
		.progress_context = options->context,
	};
	return ol_model_write(output, &source, err);
}

enum ol_status ol_import(const char *output, const char *path,
			 const struct ol_import_options *options, struct ol_error *err)
{
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return ol_import_folder(output, path, options, err);
	return ol_import_gguf(output, path, options, err);
}
