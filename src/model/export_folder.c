/* Export as a Hugging Face folder: what import_folder.c reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "model/import_internal.h"
#include "model/model_internal.h"

struct export
{
	const struct ol_model *model;
	struct ol_writer *writer;
	uint8_t *row;
	float *floats;
};

static bool as_bf16(const struct ol_tensor *t)
{
	return t->type == OL_WEIGHT_BF16 && !t->vector;
}

static uint64_t file_bytes(const struct ol_tensor *t)
{
	return (uint64_t)t->rows * (uint64_t)t->cols * (as_bf16(t) ? 2 : 4);
}

static enum ol_status write_header(struct export *e, struct ol_error *err)
{
	const struct ol_layout *layout = &e->model->layout;
	struct ol_buf text;
	uint8_t length[8];
	uint64_t at = 0;
	ol_buf_init(&text, (size_t)1 << 28);
	ol_buf_append_text(&text, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (int i = 0; i < layout->count; i++) {
		const struct ol_tensor *t = &layout->tensors[i];
		const uint64_t end = at + file_bytes(t);
		char name[OL_SOURCE_NAME_MAX], shape[32];
		ol_folder_tensor_name(name, sizeof name, t, e->model->config.post_norms);
		if (t->vector)
			snprintf(shape, sizeof shape, "%d", t->cols);
		else
			snprintf(shape, sizeof shape, "%d,%d", t->rows, t->cols);
		ol_buf_printf(
			&text,
			",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
			name, as_bf16(t) ? "BF16" : "F32", shape, (unsigned long long)at,
			(unsigned long long)end);
		at = end;
	}
	ol_buf_append_text(&text, "}");
	while (text.size % 8 != 0 && ol_buf_append_text(&text, " ")) {
	}
	ol_store_u64(length, text.size);
	enum ol_status s = text.failed ? ol_fail(err, OL_ERR_FULL, "out of memory for a header")
				       : ol_writer_append(e->writer, length, sizeof length, err);
	if (s == OL_OK)
		s = ol_writer_append(e->writer, text.data, text.size, err);
	ol_buf_release(&text);
	return s;
}

/* The file holds Gemma's norms less 1; the reader's addition must give ours back. */
static enum ol_status take_one(struct export *e, const struct ol_tensor *t, struct ol_error *err)
{
	for (int i = 0; i < t->cols; i++) {
		const float ours = e->floats[i], stored = ours - 1.0f;
		if (stored + 1.0f != ours)
			return ol_fail(err, OL_ERR_UNSUPPORTED,
				       "%s: %s: a safetensors file cannot say this norm's value %d",
				       e->model->path, t->name, i);
		e->floats[i] = stored;
	}
	return OL_OK;
}

static enum ol_status write_tensor(struct export *e, const struct ol_tensor *t,
				   struct ol_error *err)
{
	const bool gemma_norm = e->model->config.post_norms && ol_tensor_is_norm(t->role);
	enum ol_status s = OL_OK;
	for (int r = 0; s == OL_OK && r < t->rows; r++) {
		s = ol_model_rows((void *)(uintptr_t)e->model, t, e->row, r, 1, err);
		if (s != OL_OK)
			break;
		if (as_bf16(t)) {
			s = ol_writer_append(e->writer, e->row, (size_t)t->cols * 2, err);
			continue;
		}
		ol_dequantize_row(e->floats, t->type, e->row, t->cols);
		if (gemma_norm)
			s = take_one(e, t, err);
		if (s == OL_OK)
			s = ol_writer_append(e->writer, e->floats,
					     (size_t)t->cols * sizeof *e->floats, err);
	}
	return s;
}

static enum ol_status write_weights(struct export *e, const char *path, struct ol_error *err)
{
	const struct ol_layout *layout = &e->model->layout;
	size_t row = 1, cols = 1;
	for (int i = 0; i < layout->count; i++) {
		const struct ol_tensor *t = &layout->tensors[i];
		row = OL_MAX(row, ol_canonical_row_bytes(t->type, t->cols));
		cols = OL_MAX(cols, (size_t)t->cols);
	}
	e->row = malloc(row);
	e->floats = malloc(cols * sizeof *e->floats);
	if (!e->row || !e->floats)
		return ol_fail(err, OL_ERR_FULL, "out of memory while exporting %s",
			       e->model->path);
	enum ol_status s = ol_writer_open(&e->writer, path, err);
	if (s != OL_OK)
		return s;
	s = write_header(e, err);
	for (int i = 0; s == OL_OK && i < layout->count; i++)
		s = write_tensor(e, &layout->tensors[i], err);
	if (s == OL_OK)
		return ol_writer_commit(e->writer, err);
	ol_writer_abort(e->writer);
	return s;
}

static enum ol_status write_text(const char *folder, const char *name, const char *bytes,
				 size_t size, struct ol_error *err)
{
	struct ol_writer *writer = NULL;
	struct ol_buf path;
	ol_buf_init(&path, 1 << 16);
	enum ol_status s =
		ol_buf_printf(&path, "%s/%s", folder, name)
			? ol_writer_open(&writer, path.data, err)
			: ol_fail(err, OL_ERR_INPUT, "the path of the folder is too long");
	if (s == OL_OK) {
		s = ol_writer_append(writer, bytes, size, err);
		if (s == OL_OK)
			s = ol_writer_commit(writer, err);
		else
			ol_writer_abort(writer);
	}
	ol_buf_release(&path);
	return s;
}

enum ol_status ol_export_folder(const char *folder, const struct ol_model *model,
				struct ol_error *err)
{
	struct export e = {.model = model};
	struct ol_buf config, path;
	ol_buf_init(&config, OL_MODEL_CONFIG_MAX);
	ol_buf_init(&path, 1 << 16);
	enum ol_status s = ol_config_write_json(&config, &model->config,
						model->type == OL_WEIGHT_BF16, model->path, err);
	if (s == OL_OK)
		s = ol_make_directories(folder, err);
	if (s == OL_OK)
		s = write_text(folder, "config.json", config.data, config.size, err);
	for (int i = 0; s == OL_OK && i < model->text_count; i++)
		s = write_text(folder, model->texts[i].name, model->texts[i].bytes,
			       model->texts[i].size, err);
	if (s == OL_OK && !ol_buf_printf(&path, "%s/model.safetensors", folder))
		s = ol_fail(err, OL_ERR_INPUT, "the path of the folder is too long");
	if (s == OL_OK)
		s = write_weights(&e, path.data, err);
	free(e.floats);
	free(e.row);
	ol_buf_release(&path);
	ol_buf_release(&config);
	return s;
}
