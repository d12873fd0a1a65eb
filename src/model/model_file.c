#include "model/model_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "math/kernels.h"
#include "model/model_internal.h"

enum { CHUNK_BYTES = 4 << 20 };

int ol_tensor_chunk_rows(const struct ol_tensor *tensor)
{
	const size_t row = (size_t)tensor->cols * sizeof(float);
	const int rows = (int)OL_MIN(CHUNK_BYTES / row, (size_t)1 << 20) / OL_PANEL * OL_PANEL;
	return OL_MIN(OL_MAX(rows, OL_PANEL), tensor->rows);
}

bool ol_model_file_checksum(uint8_t out[OL_SHA256_BYTES], const struct ol_file_header *header,
			    const uint8_t *after, size_t after_bytes)
{
	struct ol_sha256 hash;
	if (!ol_sha256_init(&hash))
		return false;
	ol_sha256_update(&hash, header, offsetof(struct ol_file_header, checksum));
	ol_sha256_update(&hash, after, after_bytes);
	ol_sha256_final(&hash, out);
	return true;
}

static uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

/* The one right value of every offset, given the sizes. Texts begin where this returns. */
static uint64_t place(struct ol_file_header *h)
{
	h->config_offset = sizeof *h;
	h->texts_offset = align_up(h->config_offset + h->config_bytes, 8);
	h->tensors_offset = h->texts_offset + h->text_count * sizeof(struct ol_file_text);
	return h->tensors_offset + h->tensor_count * sizeof(struct ol_file_tensor);
}

static void place_data(struct ol_file_header *h, uint64_t texts_end)
{
	h->data_offset = align_up(texts_end, OL_MODEL_PAGE);
	h->file_bytes = h->data_offset + h->data_bytes;
}

static void describe(struct ol_file_tensor *entry, const struct ol_tensor *t)
{
	*entry = (struct ol_file_tensor){.type = (uint32_t)t->type,
					 .rows = t->rows,
					 .cols = t->cols,
					 .vector = t->vector,
					 .offset = t->offset,
					 .bytes = t->bytes};
	memcpy(entry->name, t->name, strlen(t->name));
}

/* ---- Reading ------------------------------------------------------------------------------ */

static enum ol_status damaged(const char *path, const char *what, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_INPUT, "%s: %s; import the model again", path, what);
}

static enum ol_status check_version(const struct ol_file_header *h, const char *path,
				    struct ol_error *err)
{
	if (h->version != OL_MODEL_FILE_VERSION)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: model file version %u; this program reads version %d", path,
			       h->version, OL_MODEL_FILE_VERSION);
	if (h->arithmetic[sizeof h->arithmetic - 1] != '\0')
		return damaged(path, "the arithmetic version is not a text", err);
	if (strcmp(h->arithmetic, OL_ARITHMETIC_VERSION) != 0)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: made for arithmetic version \"%s\"; this program runs \"%s\"",
			       path, h->arithmetic, OL_ARITHMETIC_VERSION);
	if (h->weight_type >= OL_WEIGHT_TYPES)
		return damaged(path, "the weight type is unknown", err);
	return OL_OK;
}

static enum ol_status check_header(const struct ol_file_header *h, const uint8_t *bytes,
				   size_t size, const char *path, struct ol_error *err)
{
	const enum ol_status s = check_version(h, path, err);
	if (s != OL_OK)
		return s;
	if (h->config_bytes > OL_MODEL_CONFIG_MAX || h->text_count > OL_TEXTS_MAX ||
	    h->tensor_count > 3 + OL_LAYERS_MAX * OL_TENSOR_ROLES)
		return damaged(path, "the header's sizes are beyond their limits", err);
	struct ol_file_header expected = *h;
	const uint64_t texts_begin = place(&expected);
	if (h->file_bytes != size)
		return ol_fail(
			err, OL_ERR_INPUT,
			"%s: %zu bytes long, but its header says %llu: it is truncated or has "
			"something appended; import the model again",
			path, size, (unsigned long long)h->file_bytes);
	if (h->config_offset != expected.config_offset ||
	    h->texts_offset != expected.texts_offset ||
	    h->tensors_offset != expected.tensors_offset || h->data_offset < texts_begin ||
	    h->data_offset > size)
		return damaged(path, "the header's offsets are wrong", err);
	uint8_t sum[OL_SHA256_BYTES];
	if (!ol_model_file_checksum(sum, h, bytes + sizeof *h, h->data_offset - sizeof *h))
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	if (memcmp(sum, h->checksum, sizeof sum) != 0)
		return damaged(path, "the header's checksum is wrong", err);
	return OL_OK;
}

/* Points the texts into the bytes; *end becomes the offset after the last one. */
static enum ol_status read_texts(struct ol_model *model, const struct ol_file_header *h,
				 const uint8_t *bytes, uint64_t *end, struct ol_error *err)
{
	for (uint32_t i = 0; i < h->text_count; i++) {
		const struct ol_file_text *entry =
			(const void *)(bytes + h->texts_offset + i * sizeof *entry);
		const struct ol_model_text *last = i ? &model->texts[i - 1] : NULL;
		if (entry->offset != *end || entry->bytes > OL_MODEL_TEXT_MAX ||
		    entry->bytes >= h->data_offset - *end || entry->reserved != 0)
			return damaged(model->path, "a text lies outside the file", err);
		if (!memchr(entry->name, '\0', sizeof entry->name) ||
		    (last && strcmp(last->name, entry->name) >= 0))
			return damaged(model->path, "the names of the texts are out of order", err);
		if (bytes[*end + entry->bytes] != '\0')
			return damaged(model->path, "a text does not end with a NUL", err);
		model->texts[i] = (struct ol_model_text){entry->name, (const char *)bytes + *end,
							 (size_t)entry->bytes};
		*end += entry->bytes + 1;
	}
	model->text_count = (int)h->text_count;
	return OL_OK;
}

static enum ol_status check_tensors(const struct ol_model *model, const struct ol_file_header *h,
				    const uint8_t *bytes, struct ol_error *err)
{
	if ((uint32_t)model->layout.count != h->tensor_count ||
	    model->layout.bytes != h->data_bytes)
		return damaged(model->path, "the tensors do not match the config", err);
	for (int i = 0; i < model->layout.count; i++) {
		struct ol_file_tensor expected;
		describe(&expected, &model->layout.tensors[i]);
		if (memcmp(&expected, bytes + h->tensors_offset + (size_t)i * sizeof expected,
			   sizeof expected) != 0)
			return ol_fail(
				err, OL_ERR_INPUT,
				"%s: the entry of tensor %s does not match the config; import "
				"the model again",
				model->path, model->layout.tensors[i].name);
	}
	return OL_OK;
}

enum ol_status ol_model_open_bytes(struct ol_model **model_out, const uint8_t *bytes, size_t size,
				   const char *path, struct ol_error *err)
{
	struct ol_file_header h;
	struct ol_config config;
	if (size < sizeof h || memcmp(bytes, OL_MODEL_FILE_MAGIC, sizeof h.magic) != 0)
		return ol_fail(
			err, OL_ERR_INPUT,
			"%s is not an OpenLedger model file (make one with `openledger import`)",
			path);
	memcpy(&h, bytes, sizeof h);
	enum ol_status s = check_header(&h, bytes, size, path, err);
	if (s == OL_OK)
		s = ol_config_read(&config, (const char *)bytes + h.config_offset,
				   (size_t)h.config_bytes, path, err);
	if (s != OL_OK)
		return s;
	struct ol_model *model = ol_model_new(&config, (enum ol_weight_type)h.weight_type, path);
	if (!model)
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	uint64_t end = place(&(struct ol_file_header){.config_bytes = h.config_bytes,
						      .text_count = h.text_count,
						      .tensor_count = h.tensor_count});
	s = read_texts(model, &h, bytes, &end, err);
	struct ol_file_header expected = h;
	place_data(&expected, end);
	if (s == OL_OK && memcmp(&expected, &h, sizeof h) != 0)
		s = damaged(path, "the weights do not begin where they should", err);
	if (s == OL_OK)
		s = check_tensors(model, &h, bytes, err);
	if (s != OL_OK) {
		ol_model_close(model);
		return s;
	}
	memcpy(model->id, h.id, sizeof model->id);
	ol_model_bind(model, bytes + h.data_offset);
	*model_out = model;
	return OL_OK;
}

enum ol_status ol_model_open(struct ol_model **model_out, const char *path, struct ol_error *err)
{
	struct ol_map map;
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	s = ol_model_open_bytes(model_out, map.data, map.size, path, err);
	if (s == OL_OK)
		(*model_out)->map = map;
	else
		ol_map_close(&map);
	return s;
}

/* ---- Writing ------------------------------------------------------------------------------ */

struct writing {
	const struct ol_model_source *source;
	struct ol_layout layout;
	struct ol_writer *writer;
	struct ol_file_header header;
	struct ol_buf metadata; /* what lies between the header and the weights */
	uint8_t (*leaves)[OL_MERKLE_BYTES];
	uint8_t *canonical, *panels; /* of one chunk */
	size_t canonical_bytes, panels_bytes;
};

static void pad(struct ol_buf *buf, uint64_t size)
{
	static const uint8_t zeros[OL_MODEL_PAGE];
	while (!buf->failed && buf->size < size)
		ol_buf_append(buf, zeros, OL_MIN(sizeof zeros, (size_t)size - buf->size));
}

/* Everything before the weights, and the header but for the id and the checksum. */
static bool write_metadata(struct writing *w)
{
	const struct ol_model_source *source = w->source;
	struct ol_file_header *h = &w->header;
	struct ol_buf *out = &w->metadata;
	memcpy(h->magic, OL_MODEL_FILE_MAGIC, sizeof h->magic);
	h->version = OL_MODEL_FILE_VERSION;
	h->weight_type = (uint32_t)source->type;
	snprintf(h->arithmetic, sizeof h->arithmetic, "%s", OL_ARITHMETIC_VERSION);
	if (!ol_config_write(out, source->config))
		return false;
	h->config_bytes = out->size;
	h->text_count = (uint32_t)source->text_count;
	h->tensor_count = (uint32_t)w->layout.count;
	h->data_bytes = w->layout.bytes;
	uint64_t end = place(h);
	pad(out, h->texts_offset - sizeof *h);
	for (int i = 0; i < source->text_count; i++) {
		struct ol_file_text entry = {.offset = end, .bytes = source->texts[i].size};
		OL_ASSERT(strlen(source->texts[i].name) < sizeof entry.name);
		memcpy(entry.name, source->texts[i].name, strlen(source->texts[i].name));
		ol_buf_append(out, &entry, sizeof entry);
		end += entry.bytes + 1;
	}
	for (int i = 0; i < w->layout.count; i++) {
		struct ol_file_tensor entry;
		describe(&entry, &w->layout.tensors[i]);
		ol_buf_append(out, &entry, sizeof entry);
	}
	for (int i = 0; i < source->text_count; i++) {
		ol_buf_append(out, source->texts[i].bytes, source->texts[i].size);
		ol_buf_append(out, "", 1);
	}
	place_data(h, end);
	pad(out, h->data_offset - sizeof *h);
	return !out->failed;
}

static enum ol_status write_chunk(struct writing *w, const struct ol_tensor *t, int count,
				  struct ol_error *err)
{
	if (t->vector)
		return ol_writer_append(w->writer, w->canonical, (size_t)t->bytes, err);
	const size_t bytes = ol_panels_bytes(t->type, count, t->cols);
	ol_panels_clear(w->panels, t->type, count, t->cols);
	ol_pack_rows(w->panels, t->type, count, t->cols, w->canonical, 0, count);
	return ol_writer_append(w->writer, w->panels, bytes, err);
}

static enum ol_status write_tensor(struct writing *w, int index, struct ol_error *err)
{
	static const uint8_t zeros[OL_TENSOR_ALIGN];
	const struct ol_model_source *source = w->source;
	const struct ol_tensor *t = &w->layout.tensors[index];
	const size_t row_bytes = ol_canonical_row_bytes(t->type, t->cols);
	const int chunk = ol_tensor_chunk_rows(t);
	struct ol_sha256 hash;
	if (!ol_tensor_leaf_init(&hash, t))
		return ol_fail(err, OL_ERR_FULL, "out of memory at tensor %s", t->name);
	enum ol_status s = OL_OK;
	for (int row = 0; s == OL_OK && row < t->rows; row += chunk) {
		const int count = OL_MIN(chunk, t->rows - row);
		s = source->rows(source->context, t, w->canonical, row, count, err);
		if (s != OL_OK)
			break;
		ol_sha256_update(&hash, w->canonical, (size_t)count * row_bytes);
		s = write_chunk(w, t, count, err);
		const uint64_t done = ol_writer_offset(w->writer) - w->header.data_offset;
		if (s == OL_OK && source->progress &&
		    !source->progress(source->progress_context, done, w->layout.bytes))
			s = ol_fail(err, OL_ERR_CANCELLED,
				    "stopped at tensor %s; nothing was written", t->name);
	}
	ol_sha256_final(&hash, w->leaves[index]);
	const size_t past = (size_t)(t->bytes % OL_TENSOR_ALIGN);
	if (s == OL_OK && past > 0)
		s = ol_writer_append(w->writer, zeros, OL_TENSOR_ALIGN - past, err);
	return s;
}

static bool allocate(struct writing *w)
{
	for (int i = 0; i < w->layout.count; i++) {
		const struct ol_tensor *t = &w->layout.tensors[i];
		const int rows = ol_tensor_chunk_rows(t);
		w->canonical_bytes =
			OL_MAX(w->canonical_bytes,
			       (size_t)rows * ol_canonical_row_bytes(t->type, t->cols));
		w->panels_bytes = OL_MAX(w->panels_bytes, ol_panels_bytes(t->type, rows, t->cols));
	}
	w->leaves = calloc((size_t)w->layout.count, sizeof *w->leaves);
	w->canonical = ol_block_alloc(w->canonical_bytes);
	w->panels = ol_block_alloc(w->panels_bytes);
	return w->leaves && w->canonical && w->panels;
}

static enum ol_status write_all(struct writing *w, struct ol_error *err)
{
	const struct ol_model_source *source = w->source;
	struct ol_file_header *h = &w->header;
	enum ol_status s = ol_writer_append(w->writer, h, sizeof *h, err);
	if (s == OL_OK)
		s = ol_writer_append(w->writer, w->metadata.data, w->metadata.size, err);
	for (int i = 0; s == OL_OK && i < w->layout.count; i++)
		s = write_tensor(w, i, err);
	if (s != OL_OK)
		return s;
	if (!ol_model_id_compute(h->id, source->config, source->texts, source->text_count,
				 &w->layout, (const uint8_t(*)[OL_MERKLE_BYTES])w->leaves) ||
	    !ol_model_file_checksum(h->checksum, h, (const uint8_t *)w->metadata.data,
				    w->metadata.size))
		return ol_fail(err, OL_ERR_FULL, "out of memory while hashing the model");
	OL_ASSERT(ol_writer_offset(w->writer) == h->file_bytes);
	return ol_writer_patch(w->writer, 0, h, sizeof *h, err);
}

enum ol_status ol_model_write(const char *path, const struct ol_model_source *source,
			      struct ol_error *err)
{
	struct writing w = {.source = source};
	ol_buf_init(&w.metadata, (size_t)OL_TEXTS_MAX * OL_MODEL_TEXT_MAX);
	enum ol_status s = OL_OK;
	if (!ol_layout_init(&w.layout, source->config, source->type) || !allocate(&w) ||
	    !write_metadata(&w))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while writing %s", path);
	if (s == OL_OK)
		s = ol_writer_open(&w.writer, path, err);
	if (s == OL_OK) {
		s = write_all(&w, err);
		if (s == OL_OK)
			s = ol_writer_commit(w.writer, err);
		else
			ol_writer_abort(w.writer);
	}
	ol_block_free(w.panels, w.panels_bytes);
	ol_block_free(w.canonical, w.canonical_bytes);
	free(w.leaves);
	ol_buf_release(&w.metadata);
	ol_layout_release(&w.layout);
	return s;
}
