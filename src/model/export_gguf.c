/* Export as GGUF v3: what import_gguf.c reads, and what llama.cpp loads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/export_internal.h"
#include "model/gguf_config.h"
#include "model/import_internal.h"

enum { ALIGNMENT = 32 };

struct export
{
	const struct ol_model *model;
	const char *arch;
	struct ol_gguf_metadata metadata;
	struct ol_buf tensors; /* their entries */
	uint64_t tensor_count, offset;
	struct ol_writer *writer;
	uint8_t *row;
	float *floats;
	float factors[OL_HEAD_DIM_MAX]; /* rope_freqs.weight */
};

const char *ol_gguf_arch_name(const struct ol_config *c)
{
	return ol_arch_name(c->arch == OL_ARCH_MISTRAL ? OL_ARCH_LLAMA : c->arch);
}

/* ---- Metadata ----------------------------------------------------------------------------- */

static const char *key(const struct export *e, char full[128], const char *name)
{
	snprintf(full, 128, "%s.%s", e->arch, name);
	return full;
}

static void put_int(struct export *e, const char *name, int32_t value)
{
	char full[128];
	ol_gguf_put_u32(&e->metadata.body, key(e, full, name), (uint32_t)value);
	e->metadata.keys++;
}

static void put_real(struct export *e, const char *name, double value)
{
	char full[128];
	ol_gguf_put_f32(&e->metadata.body, key(e, full, name), (float)value);
	e->metadata.keys++;
}

static void put_text(struct export *e, const char *full, const char *text)
{
	ol_gguf_put_string(&e->metadata.body, full, text, strlen(text));
	e->metadata.keys++;
}

static bool is_gemma(const struct ol_config *c)
{
	return c->arch == OL_ARCH_GEMMA2 || c->arch == OL_ARCH_GEMMA3;
}

/* GGUF leaves some numbers to the architecture: a model that has others cannot be said in it. */
static enum ol_status check_implied(const struct export *e, struct ol_error *err)
{
	const struct ol_config *c = &e->model->config;
	const bool big = c->layers == (c->arch == OL_ARCH_GEMMA2 ? 46 : 62);
	const int per_head = is_gemma(c) && big ? c->hidden / c->heads : c->head_dim;
	const float scale = (float)(1.0 / sqrt((double)per_head));
	const char *what = NULL;
	if (fabsf(c->attention_scale - scale) > 1e-6f * scale)
		what = "its attention scale";
	else if (c->arch == OL_ARCH_GEMMA2 && c->window_period != 2)
		what = "its pattern of windows";
	else if (!is_gemma(c) && c->window > 0 && c->window_period != 0)
		what = "its pattern of windows";
	else if (e->model->type == OL_WEIGHT_NF4)
		what = "nf4 weights";
	if (!what)
		return OL_OK;
	return ol_fail(err, OL_ERR_UNSUPPORTED,
		       "%s cannot be written as GGUF, which has no way to say %s", e->model->path,
		       what);
}

static void put_config(struct export *e)
{
	const struct ol_config *c = &e->model->config;
	put_text(e, "general.architecture", e->arch);
	put_text(e, "general.type", "model");
	put_text(e, "general.name", "openledger");
	put_int(e, "vocab_size", c->vocab_size);
	put_int(e, "context_length", c->context_max);
	put_int(e, "embedding_length", c->hidden);
	put_int(e, "block_count", c->layers);
	put_int(e, "feed_forward_length", c->ffn);
	put_int(e, "attention.head_count", c->heads);
	put_int(e, "attention.head_count_kv", c->kv_heads);
	put_int(e, "attention.key_length", c->head_dim);
	put_int(e, "attention.value_length", c->head_dim);
	put_int(e, "rope.dimension_count", c->head_dim);
	put_real(e, "attention.layer_norm_rms_epsilon", (double)c->norm_eps);
	put_real(e, "rope.freq_base", c->rope_theta);
	if (c->window > 0)
		put_int(e, "attention.sliding_window", c->window);
	if (c->arch == OL_ARCH_GEMMA3) {
		put_int(e, "attention.sliding_window_pattern", c->window_period);
		put_real(e, "rope.freq_base_swa", c->rope_theta_local);
	}
	if (c->attention_softcap != 0)
		put_real(e, "attn_logit_softcapping", (double)c->attention_softcap);
	if (c->logit_softcap != 0)
		put_real(e, "final_logit_softcapping", (double)c->logit_softcap);
	if (c->rope_scaling == OL_ROPE_LINEAR) {
		char full[128];
		put_text(e, key(e, full, "rope.scaling.type"), "linear");
		put_real(e, "rope.scaling.factor", c->rope_factor);
	}
	if (c->rope_scaling == OL_ROPE_LLAMA3)
		put_int(e, "rope.scaling.original_context_length", c->rope_original_context);
}

/* GGUF has a name for each of three ways to end; more are dropped. */
static void put_ends(struct export *e)
{
	static const char *const names[] = {"tokenizer.ggml.eos_token_id",
					    "tokenizer.ggml.eot_token_id",
					    "tokenizer.ggml.eom_token_id"};
	const struct ol_config *c = &e->model->config;
	if (c->bos_id >= 0) {
		ol_gguf_put_u32(&e->metadata.body, "tokenizer.ggml.bos_token_id",
				(uint32_t)c->bos_id);
		e->metadata.keys++;
	}
	for (int i = 0; i < OL_MIN(c->eos_count, (int)OL_ARRAY_LEN(names)); i++) {
		ol_gguf_put_u32(&e->metadata.body, names[i], (uint32_t)c->eos_ids[i]);
		e->metadata.keys++;
	}
}

/* ---- Tensors ------------------------------------------------------------------------------ */

/* Rows that are no whole number of blocks have no place in GGUF: such a matrix is written in f32,
 * with the same values. */
static enum ol_source_type type_of(const struct ol_tensor *t)
{
	const bool whole = t->cols % OL_BLOCK == 0;
	switch (t->type) {
	case OL_WEIGHT_F32: return OL_SOURCE_F32;
	case OL_WEIGHT_BF16: return OL_SOURCE_BF16;
	case OL_WEIGHT_Q8: return whole ? OL_SOURCE_Q8_0 : OL_SOURCE_F32;
	case OL_WEIGHT_Q4: return whole ? OL_SOURCE_Q4_0 : OL_SOURCE_F32;
	case OL_WEIGHT_NF4: break;
	}
	OL_UNREACHABLE();
}

static uint64_t row_bytes(enum ol_source_type type, int cols)
{
	return (uint64_t)cols / (uint64_t)ol_source_block_values(type) *
	       (uint64_t)ol_source_block_bytes(type);
}

static void describe(struct export *e, const char *name, enum ol_source_type type,
		     const uint64_t *shape, int dims)
{
	const uint64_t rows = dims == 2 ? shape[0] : 1;
	ol_gguf_put_tensor(&e->tensors, name, type, shape, dims, e->offset);
	e->offset += rows * row_bytes(type, (int)shape[dims - 1]);
	e->offset = (e->offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	e->tensor_count++;
}

static void describe_all(struct export *e)
{
	const struct ol_config *c = &e->model->config;
	for (int i = 0; i < e->model->layout.count; i++) {
		const struct ol_tensor *t = &e->model->layout.tensors[i];
		const uint64_t shape[2] = {(uint64_t)t->rows, (uint64_t)t->cols};
		char name[OL_SOURCE_NAME_MAX];
		ol_gguf_tensor_name(name, sizeof name, t);
		describe(e, name, type_of(t), t->vector ? shape + 1 : shape, t->vector ? 1 : 2);
	}
	if (c->rope_scaling == OL_ROPE_LLAMA3) {
		const uint64_t half = (uint64_t)c->head_dim / 2;
		ol_gguf_rope_factors(e->factors, c);
		describe(e, "rope_freqs.weight", OL_SOURCE_F32, &half, 1);
	}
}

int ol_gguf_file_row(const struct ol_config *c, enum ol_tensor_role role, int row)
{
	const int d = c->head_dim, within = row % d;
	const bool llama = c->arch == OL_ARCH_LLAMA || c->arch == OL_ARCH_MISTRAL;
	if (!llama || (role != OL_TENSOR_Q && role != OL_TENSOR_K))
		return row;
	return row - within + within / 2 + within % 2 * (d / 2);
}

static enum ol_status pad_file(struct export *e, uint64_t begin, struct ol_error *err)
{
	static const uint8_t zeros[ALIGNMENT];
	const uint64_t past = (ol_writer_offset(e->writer) - begin) % ALIGNMENT;
	return past ? ol_writer_append(e->writer, zeros, (size_t)(ALIGNMENT - past), err) : OL_OK;
}

static enum ol_status write_tensor(struct export *e, struct ol_tensor *t, struct ol_error *err)
{
	const bool widen = type_of(t) == OL_SOURCE_F32 && t->type != OL_WEIGHT_F32;
	const size_t size = ol_canonical_row_bytes(t->type, t->cols);
	enum ol_status s = OL_OK;
	for (int r = 0; s == OL_OK && r < t->rows; r++) {
		s = ol_model_rows((void *)(uintptr_t)e->model, t, e->row,
				  ol_gguf_file_row(&e->model->config, t->role, r), 1, err);
		if (s == OL_OK && widen) {
			ol_dequantize_row(e->floats, t->type, e->row, t->cols);
			s = ol_writer_append(e->writer, e->floats,
					     (size_t)t->cols * sizeof *e->floats, err);
		} else if (s == OL_OK) {
			s = ol_writer_append(e->writer, e->row, size, err);
		}
	}
	return s;
}

static enum ol_status write_file(struct export *e, struct ol_error *err)
{
	const struct ol_config *c = &e->model->config;
	struct ol_buf header;
	ol_buf_init(&header, 64);
	ol_gguf_put_header(&header, e->tensor_count, e->metadata.keys);
	enum ol_status s = ol_writer_append(e->writer, header.data, header.size, err);
	ol_buf_release(&header);
	if (s == OL_OK)
		s = ol_writer_append(e->writer, e->metadata.body.data, e->metadata.body.size, err);
	if (s == OL_OK)
		s = ol_writer_append(e->writer, e->tensors.data, e->tensors.size, err);
	if (s == OL_OK)
		s = pad_file(e, 0, err);
	const uint64_t begin = ol_writer_offset(e->writer);
	for (int i = 0; s == OL_OK && i < e->model->layout.count; i++) {
		s = write_tensor(e, &e->model->layout.tensors[i], err);
		if (s == OL_OK)
			s = pad_file(e, begin, err);
	}
	if (s == OL_OK && c->rope_scaling == OL_ROPE_LLAMA3)
		s = ol_writer_append(e->writer, e->factors,
				     (size_t)c->head_dim / 2 * sizeof *e->factors, err);
	if (s == OL_OK)
		s = pad_file(e, begin, err);
	OL_ASSERT(s != OL_OK || ol_writer_offset(e->writer) - begin == e->offset);
	return s;
}

static bool allocate(struct export *e)
{
	size_t row = 1, cols = 1;
	for (int i = 0; i < e->model->layout.count; i++) {
		const struct ol_tensor *t = &e->model->layout.tensors[i];
		row = OL_MAX(row, ol_canonical_row_bytes(t->type, t->cols));
		cols = OL_MAX(cols, (size_t)t->cols);
	}
	e->row = malloc(row);
	e->floats = malloc(cols * sizeof *e->floats);
	return e->row && e->floats;
}

static enum ol_status prepare(struct export *e, struct ol_error *err)
{
	enum ol_status s = check_implied(e, err);
	if (s != OL_OK)
		return s;
	put_config(e);
	put_ends(e);
	s = ol_export_tokenizer(&e->metadata, e->model, err);
	describe_all(e);
	if (s == OL_OK && (!allocate(e) || e->metadata.body.failed || e->tensors.failed))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while exporting %s", e->model->path);
	return s;
}

enum ol_status ol_export_gguf(const char *output, const struct ol_model *model,
			      struct ol_error *err)
{
	struct export e = {.model = model, .arch = ol_gguf_arch_name(&model->config)};
	ol_buf_init(&e.metadata.body, (size_t)1 << 30);
	ol_buf_init(&e.tensors, (size_t)1 << 30);
	enum ol_status s = prepare(&e, err);
	if (s == OL_OK)
		s = ol_writer_open(&e.writer, output, err);
	if (s == OL_OK) {
		s = write_file(&e, err);
		if (s == OL_OK)
			s = ol_writer_commit(e.writer, err);
		else
			ol_writer_abort(e.writer);
	}
	free(e.floats);
	free(e.row);
	ol_buf_release(&e.tensors);
	ol_buf_release(&e.metadata.body);
	return s;
}
