#define _GNU_SOURCE
#include "model/model_convert.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/pool.h"
#include "model/model_internal.h"

/* ---- A model of one's own ----------------------------------------------------------------- */

static bool copy_texts(struct ol_model *model, const struct ol_model *like)
{
	size_t bytes = 1;
	for (int i = 0; i < like->text_count; i++)
		bytes += strlen(like->texts[i].name) + 1 + like->texts[i].size + 1;
	char *at = model->text_block = malloc(bytes);
	if (!at)
		return false;
	for (int i = 0; i < like->text_count; i++) {
		const struct ol_model_text *text = &like->texts[i];
		const size_t name = strlen(text->name) + 1;
		memcpy(at, text->name, name);
		memcpy(at + name, text->bytes, text->size);
		at[name + text->size] = '\0';
		model->texts[i] = (struct ol_model_text){at, at + name, text->size};
		at += name + text->size + 1;
	}
	model->text_count = like->text_count;
	return true;
}

enum ol_status ol_model_blank(struct ol_model **model_out, const struct ol_model *like,
			      enum ol_weight_type type, struct ol_error *err)
{
	struct ol_model *model = ol_model_new(&like->config, type, like->path);
	if (model)
		model->block = ol_block_alloc((size_t)model->layout.bytes);
	if (!model || !model->block || !copy_texts(model, like)) {
		const unsigned long long bytes = model ? model->layout.bytes : 0;
		ol_model_close(model);
		return ol_fail(err, OL_ERR_FULL, "out of memory for %llu MB of %s weights",
			       bytes >> 20, ol_weight_type_name(type));
	}
	for (int i = 0; i < model->layout.count; i++) {
		const struct ol_tensor *t = &model->layout.tensors[i];
		if (!t->vector)
			ol_panels_clear((uint8_t *)model->block + t->offset, t->type, t->rows,
					t->cols);
	}
	ol_model_bind(model, model->block);
	*model_out = model;
	return OL_OK;
}

const struct ol_layout *ol_model_layout(const struct ol_model *model)
{
	return &model->layout;
}

bool ol_model_set_rows(struct ol_model *model, int tensor, const float *rows, int row0, int count)
{
	const struct ol_tensor *t = &model->layout.tensors[tensor];
	uint8_t *place = (uint8_t *)model->block + t->offset;
	OL_ASSERT(model->block && row0 >= 0 && count >= 0 && count <= t->rows - row0);
	if (t->vector) {
		if (count > 0)
			memcpy(place, rows, (size_t)t->cols * sizeof *rows);
		return true;
	}
	if (t->type == OL_WEIGHT_F32) {
		ol_pack_rows(place, t->type, t->rows, t->cols, rows, row0, count);
		return true;
	}
	uint8_t *row = malloc(ol_canonical_row_bytes(t->type, t->cols));
	bool ok = row != NULL;
	for (int r = 0; ok && r < count; r++) {
		ok = ol_quantize_row(row, t->type, rows + (size_t)r * (size_t)t->cols, t->cols);
		if (ok)
			ol_pack_rows(place, t->type, t->rows, t->cols, row, row0 + r, 1);
	}
	free(row);
	return ok;
}

void ol_model_get_rows(float *rows, const struct ol_model *model, int tensor, int row0, int count)
{
	const struct ol_tensor *t = &model->layout.tensors[tensor];
	if (t->vector) {
		if (count > 0)
			memcpy(rows, model->data + t->offset, (size_t)t->cols * sizeof *rows);
		return;
	}
	const struct ol_matrix matrix = ol_model_matrix(model, t);
	for (int r = 0; r < count; r++)
		ol_matrix_row(rows + (size_t)r * (size_t)t->cols, &matrix, row0 + r);
}

enum ol_status ol_model_save(const char *path, const struct ol_model *model, struct ol_error *err)
{
	const struct ol_model_source source = {
		.config = &model->config,
		.type = model->type,
		.texts = model->texts,
		.text_count = model->text_count,
		.rows = ol_model_rows,
		.context = (void *)(uintptr_t)model,
	};
	return ol_model_write(path, &source, err);
}

/* ---- Another weight type ------------------------------------------------------------------ */

enum trouble { NO_TROUBLE, NO_MEMORY, NOT_FINITE };

struct conversion {
	const struct ol_model *source;
	struct ol_model *model;
	uint8_t (*leaves)[OL_MERKLE_BYTES];
	atomic_int trouble;
	atomic_int tensor; /* where */
};

/* Buffers for a panel's rows. */
struct rows {
	uint8_t *from, *to;
	float *x;
};

static bool convert_rows(const struct conversion *c, int index, int row0, int count,
			 const struct rows *rows)
{
	const struct ol_tensor *from = &c->source->layout.tensors[index];
	const struct ol_tensor *to = &c->model->layout.tensors[index];
	const size_t from_bytes = ol_canonical_row_bytes(from->type, from->cols);
	const size_t to_bytes = ol_canonical_row_bytes(to->type, to->cols);
	ol_model_rows((void *)(uintptr_t)c->source, from, rows->from, row0, count, NULL);
	if (from->type == to->type) {
		memcpy(rows->to, rows->from, (size_t)count * to_bytes);
		return true;
	}
	for (int r = 0; r < count; r++) {
		ol_dequantize_row(rows->x, from->type, rows->from + (size_t)r * from_bytes,
				  from->cols);
		if (!ol_quantize_row(rows->to + (size_t)r * to_bytes, to->type, rows->x, to->cols))
			return false;
	}
	return true;
}

/* The kernel may forget what was read of a mapped file: it can read it again. */
static void forget(const struct ol_model *source, const struct ol_tensor *t)
{
	const uintptr_t page = OL_MODEL_PAGE;
	if (!source->map.data)
		return;
	const uintptr_t begin = ((uintptr_t)source->data + t->offset + page - 1) / page * page;
	const uintptr_t end = ((uintptr_t)source->data + t->offset + t->bytes) / page * page;
	if (end > begin)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static enum trouble convert_chunks(struct conversion *c, int index, const struct rows *rows,
				   struct ol_sha256 *hash)
{
	const struct ol_tensor *t = &c->model->layout.tensors[index];
	uint8_t *place = (uint8_t *)c->model->block + t->offset;
	const size_t row_bytes = ol_canonical_row_bytes(t->type, t->cols);
	for (int row = 0; row < t->rows; row += OL_PANEL) {
		const int count = OL_MIN(OL_PANEL, t->rows - row);
		if (!convert_rows(c, index, row, count, rows))
			return NOT_FINITE;
		ol_sha256_update(hash, rows->to, (size_t)count * row_bytes);
		if (t->vector)
			memcpy(place, rows->to, row_bytes);
		else
			ol_pack_rows(place, t->type, t->rows, t->cols, rows->to, row, count);
	}
	return NO_TROUBLE;
}

static enum trouble convert_tensor(struct conversion *c, int index)
{
	const struct ol_tensor *from = &c->source->layout.tensors[index];
	const struct ol_tensor *to = &c->model->layout.tensors[index];
	const size_t panel = OL_PANEL;
	const struct rows rows = {
		malloc(panel * ol_canonical_row_bytes(from->type, from->cols)),
		malloc(panel * ol_canonical_row_bytes(to->type, to->cols)),
		malloc((size_t)to->cols * sizeof(float)),
	};
	struct ol_sha256 hash;
	enum trouble trouble = NO_MEMORY;
	if (rows.from && rows.to && rows.x && ol_tensor_leaf_init(&hash, to)) {
		trouble = convert_chunks(c, index, &rows, &hash);
		ol_sha256_final(&hash, c->leaves[index]);
		forget(c->source, from);
	}
	free(rows.x);
	free(rows.to);
	free(rows.from);
	return trouble;
}

static void convert_task(void *context, int index, int thread)
{
	struct conversion *c = context;
	(void)thread;
	const enum trouble trouble = convert_tensor(c, index);
	if (trouble != NO_TROUBLE) {
		atomic_store(&c->tensor, index);
		atomic_store(&c->trouble, (int)trouble);
	}
}

static enum ol_status convert_all(struct conversion *c, int threads, struct ol_error *err)
{
	struct ol_model *model = c->model;
	struct ol_pool *pool;
	if (!c->leaves || ol_pool_open(&pool, threads ? threads : ol_processor_count()) != OL_OK)
		return ol_fail(err, OL_ERR_FULL, "out of memory while converting %s", model->path);
	ol_pool_for(pool, model->layout.count, convert_task, c);
	ol_pool_close(pool);
	if (atomic_load(&c->trouble) == NOT_FINITE)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: tensor %s holds a number that %s cannot hold", model->path,
			       model->layout.tensors[atomic_load(&c->tensor)].name,
			       ol_weight_type_name(model->type));
	if (atomic_load(&c->trouble) == NO_MEMORY ||
	    !ol_model_id_compute(model->id, &model->config, model->texts, model->text_count,
				 &model->layout, (const uint8_t(*)[OL_MERKLE_BYTES])c->leaves))
		return ol_fail(err, OL_ERR_FULL, "out of memory while converting %s", model->path);
	return OL_OK;
}

enum ol_status ol_model_convert(struct ol_model **model_out, const struct ol_model *source,
				enum ol_weight_type type, int threads, struct ol_error *err)
{
	struct conversion c = {.source = source};
	enum ol_status s = ol_model_blank(&c.model, source, type, err);
	if (s != OL_OK)
		return s;
	c.leaves = calloc((size_t)c.model->layout.count, sizeof *c.leaves);
	s = convert_all(&c, threads, err);
	free(c.leaves);
	if (s == OL_OK)
		*model_out = c.model;
	else
		ol_model_close(c.model);
	return s;
}
