/* An adapter as GGUF, as llama.cpp loads it over a base of ours: F32, because that loses nothing
 * and llama.cpp rounds activations to the type of what they meet. */
#include "model/adapter_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/export_internal.h"
#include "model/import_internal.h"

enum { ALIGNMENT = 32 };

struct writing {
	const struct ol_adapter *adapter;
	const struct ol_config *base;
	double alpha; /* the file has one for all */
	struct ol_buf head, tensors;
	uint64_t tensor_count, offset;
	struct ol_writer *writer;
	float *row;
};

/* GGUF's scale is alpha / rank with one alpha: what an adapter has beside that goes into B. */
static float share_of_b(const struct writing *w, const struct ol_lora_tensors *t)
{
	return (float)(ol_lora_alpha(t->scale, t->rank, false) / w->alpha);
}

static void describe(struct writing *w, const char *name, char side, int rows, int cols)
{
	const uint64_t shape[2] = {(uint64_t)rows, (uint64_t)cols};
	char full[OL_SOURCE_NAME_MAX + 16];
	snprintf(full, sizeof full, "%s.lora_%c", name, side);
	ol_gguf_put_tensor(&w->tensors, full, OL_SOURCE_F32, shape, 2, w->offset);
	w->offset += (uint64_t)rows * (uint64_t)cols * sizeof(float);
	w->offset = (w->offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	w->tensor_count++;
}

static void describe_linear(struct writing *w, int index)
{
	int layer, outputs, inputs;
	const enum ol_linear linear = ol_linear_at(w->base, index, &layer);
	const int rank = w->adapter->tensors[index].rank;
	const struct ol_tensor tensor = {.role = ol_linear_role(linear), .layer = layer};
	char name[OL_SOURCE_NAME_MAX];
	if (rank == 0)
		return;
	ol_gguf_tensor_name(name, sizeof name, &tensor);
	ol_linear_shape(w->base, linear, &outputs, &inputs);
	describe(w, name, 'a', rank, inputs);
	describe(w, name, 'b', outputs, rank);
	if (w->alpha == 0.0)
		w->alpha =
			(double)(float)ol_lora_alpha(w->adapter->tensors[index].scale, rank, false);
}

static enum ol_status pad(struct writing *w, uint64_t begin, struct ol_error *err)
{
	static const uint8_t zeros[ALIGNMENT];
	const uint64_t past = (ol_writer_offset(w->writer) - begin) % ALIGNMENT;
	return past ? ol_writer_append(w->writer, zeros, (size_t)(ALIGNMENT - past), err) : OL_OK;
}

static enum ol_status write_row(struct writing *w, const uint16_t *values, int cols, float times,
				struct ol_error *err)
{
	for (int i = 0; i < cols; i++)
		w->row[i] = ol_bf16_to_f32(values[i]) * times;
	return ol_writer_append(w->writer, w->row, (size_t)cols * sizeof *w->row, err);
}

static enum ol_status write_linear(struct writing *w, int index, uint64_t begin,
				   struct ol_error *err)
{
	const struct ol_lora_tensors *t = &w->adapter->tensors[index];
	int layer, outputs, inputs;
	const enum ol_linear linear = ol_linear_at(w->base, index, &layer);
	enum ol_status s = OL_OK;
	if (t->rank == 0)
		return OL_OK;
	ol_linear_shape(w->base, linear, &outputs, &inputs);
	for (int r = 0; s == OL_OK && r < t->rank; r++)
		s = write_row(w, t->a + (size_t)r * (size_t)inputs, inputs, 1.0f, err);
	if (s == OL_OK)
		s = pad(w, begin, err);
	for (int r = 0; s == OL_OK && r < outputs; r++) {
		const int ours = ol_gguf_file_row(w->base, ol_linear_role(linear), r);
		s = write_row(w, t->b + (size_t)ours * (size_t)t->rank, t->rank, share_of_b(w, t),
			      err);
	}
	return s == OL_OK ? pad(w, begin, err) : s;
}

static void put_head(struct writing *w)
{
	const char *arch = ol_gguf_arch_name(w->base);
	ol_gguf_put_header(&w->head, w->tensor_count, 4);
	ol_gguf_put_string(&w->head, "general.architecture", arch, strlen(arch));
	ol_gguf_put_string(&w->head, "general.type", "adapter", strlen("adapter"));
	ol_gguf_put_string(&w->head, "adapter.type", "lora", strlen("lora"));
	ol_gguf_put_f32(&w->head, "adapter.lora.alpha", (float)w->alpha);
}

static enum ol_status write_file(struct writing *w, struct ol_error *err)
{
	enum ol_status s = ol_writer_append(w->writer, w->head.data, w->head.size, err);
	if (s == OL_OK)
		s = ol_writer_append(w->writer, w->tensors.data, w->tensors.size, err);
	if (s == OL_OK)
		s = pad(w, 0, err);
	const uint64_t begin = ol_writer_offset(w->writer);
	for (int i = 0; s == OL_OK && i < w->adapter->count; i++)
		s = write_linear(w, i, begin, err);
	OL_ASSERT(s != OL_OK || ol_writer_offset(w->writer) - begin == w->offset);
	return s;
}

static enum ol_status prepare(struct writing *w, struct ol_error *err)
{
	const struct ol_config *c = w->base;
	if (c->tied_embeddings && (w->adapter->config.targets & OL_TARGETS_HEAD))
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "an adapter of the head cannot be written as GGUF over a base whose "
			       "head is its embedding: export it as merged-gguf");
	for (int i = 0; i < w->adapter->count; i++)
		describe_linear(w, i);
	if (w->alpha == 0.0)
		w->alpha = 1.0; /* 0 would mean a scale of 1; every B is 0 then */
	put_head(w);
	w->row = malloc((size_t)OL_MAX(OL_MAX(c->hidden, c->ffn),
				       OL_MAX(c->heads * c->head_dim, OL_RANK_MAX)) *
			sizeof *w->row);
	if (!w->row || w->head.failed || w->tensors.failed)
		return ol_fail(err, OL_ERR_FULL, "out of memory while exporting an adapter");
	return OL_OK;
}

enum ol_status ol_adapter_write_gguf(const struct ol_adapter *adapter, const char *path,
				     const struct ol_config *base, struct ol_error *err)
{
	struct writing w = {.adapter = adapter, .base = base};
	OL_ASSERT(ol_linear_count(base) == adapter->count);
	ol_buf_init(&w.head, 1 << 16);
	ol_buf_init(&w.tensors, 1 << 24);
	enum ol_status s = prepare(&w, err);
	if (s == OL_OK)
		s = ol_writer_open(&w.writer, path, err);
	if (s == OL_OK) {
		s = write_file(&w, err);
		if (s == OL_OK)
			s = ol_writer_commit(w.writer, err);
		else
			ol_writer_abort(w.writer);
	}
	free(w.row);
	ol_buf_release(&w.tensors);
	ol_buf_release(&w.head);
	return s;
}
