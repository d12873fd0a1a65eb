#include "base/arena.h"
#include "model/model_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ol_model *ol_model_new(const struct ol_config *config, enum ol_weight_type type,
			      const char *path)
{
	struct ol_model *model = calloc(1, sizeof *model);
	if (!model)
		return NULL;
	const size_t length = strlen(path), room = sizeof model->path - 1;
	snprintf(model->path, sizeof model->path, "%s", path + (length > room ? length - room : 0));
	model->config = *config;
	model->type = type;
	model->layers = calloc((size_t)config->layers, sizeof *model->layers);
	if (!model->layers || !ol_layout_init(&model->layout, config, type)) {
		ol_model_close(model);
		return NULL;
	}
	model->weights.layers = model->layers;
	return model;
}

void ol_model_close(struct ol_model *model)
{
	if (!model)
		return;
	ol_block_free(model->block, (size_t)model->layout.bytes);
	ol_map_close(&model->map);
	ol_layout_release(&model->layout);
	free(model->text_block);
	free(model->layers);
	free(model);
}

struct ol_matrix ol_model_matrix(const struct ol_model *model, const struct ol_tensor *t)
{
	return (struct ol_matrix){t->type, t->rows, t->cols, model->data + t->offset};
}

static void bind_tensor(struct ol_model *model, int index)
{
	const struct ol_tensor *t = &model->layout.tensors[index];
	const float *vector = (const float *)(const void *)(model->data + t->offset);
	const struct ol_matrix matrix = ol_model_matrix(model, t);
	struct ol_layer_weights *layer = t->layer < 0 ? NULL : &model->layers[t->layer];
	switch (t->role) {
	case OL_TENSOR_EMBED: model->weights.embed = matrix; break;
	case OL_TENSOR_HEAD: model->weights.head = matrix; break;
	case OL_TENSOR_FINAL_NORM: model->weights.final_norm = vector; break;
	case OL_TENSOR_ATTENTION_NORM: layer->attention_norm = vector; break;
	case OL_TENSOR_Q: layer->q = matrix; break;
	case OL_TENSOR_Q_BIAS: layer->q_bias = vector; break;
	case OL_TENSOR_Q_NORM: layer->q_norm = vector; break;
	case OL_TENSOR_K: layer->k = matrix; break;
	case OL_TENSOR_K_BIAS: layer->k_bias = vector; break;
	case OL_TENSOR_K_NORM: layer->k_norm = vector; break;
	case OL_TENSOR_V: layer->v = matrix; break;
	case OL_TENSOR_V_BIAS: layer->v_bias = vector; break;
	case OL_TENSOR_O: layer->o = matrix; break;
	case OL_TENSOR_POST_ATTENTION_NORM: layer->post_attention_norm = vector; break;
	case OL_TENSOR_FFN_NORM: layer->ffn_norm = vector; break;
	case OL_TENSOR_GATE: layer->gate = matrix; break;
	case OL_TENSOR_UP: layer->up = matrix; break;
	case OL_TENSOR_DOWN: layer->down = matrix; break;
	case OL_TENSOR_POST_FFN_NORM: layer->post_ffn_norm = vector; break;
	}
}

void ol_model_bind(struct ol_model *model, const uint8_t *data)
{
	model->data = data;
	for (int i = 0; i < model->layout.count; i++)
		bind_tensor(model, i);
	if (model->config.tied_embeddings)
		model->weights.head = model->weights.embed;
}

const struct ol_config *ol_model_config(const struct ol_model *model)
{
	return &model->config;
}

const struct ol_weights *ol_model_weights(const struct ol_model *model)
{
	return &model->weights;
}

const uint8_t *ol_model_id(const struct ol_model *model)
{
	return model->id;
}

enum ol_weight_type ol_model_weight_type(const struct ol_model *model)
{
	return model->type;
}

uint64_t ol_model_parameters(const struct ol_model *model)
{
	uint64_t sum = 0;
	for (int i = 0; i < model->layout.count; i++)
		sum += (uint64_t)model->layout.tensors[i].rows *
		       (uint64_t)model->layout.tensors[i].cols;
	return sum;
}

uint64_t ol_model_nominal_bytes(const struct ol_model *model)
{
	uint64_t sum = 0;
	for (int i = 0; i < model->layout.count; i++) {
		const struct ol_tensor *t = &model->layout.tensors[i];
		/* A step reads one row of the embedding, unless it is the head as well. */
		if (t->role != OL_TENSOR_EMBED || model->config.tied_embeddings)
			sum += ol_tensor_canonical_bytes(t);
	}
	return sum;
}

const char *ol_model_text(const struct ol_model *model, const char *name, size_t *size_out)
{
	for (int i = 0; i < model->text_count; i++)
		if (strcmp(model->texts[i].name, name) == 0) {
			*size_out = model->texts[i].size;
			return model->texts[i].bytes;
		}
	*size_out = 0;
	return NULL;
}

enum ol_status ol_model_rows(void *context, const struct ol_tensor *tensor, void *canonical,
			     int row0, int count, struct ol_error *err)
{
	const struct ol_model *model = context;
	(void)err;
	if (tensor->vector) {
		memcpy(canonical, model->data + tensor->offset, (size_t)tensor->bytes);
	} else {
		const struct ol_matrix matrix = ol_model_matrix(model, tensor);
		ol_unpack_rows(canonical, &matrix, row0, count);
	}
	return OL_OK;
}

/* ---- Verifying ---------------------------------------------------------------------------- */

struct verifier {
	const struct ol_model *model;
	uint8_t (*leaves)[OL_MERKLE_BYTES];
	uint8_t *canonical, *panels; /* of one chunk */
};

/* Hashes a tensor out of its panels, and packs it again: lanes and elements that pad a panel must
 * be the padding, or a kernel could read what the id does not cover. */
static enum ol_status verify_tensor(struct verifier *v, int index, struct ol_error *err)
{
	const struct ol_tensor *t = &v->model->layout.tensors[index];
	const int chunk = ol_tensor_chunk_rows(t);
	const size_t row_bytes = ol_canonical_row_bytes(t->type, t->cols);
	struct ol_sha256 hash;
	if (!ol_tensor_leaf_init(&hash, t))
		return ol_fail(err, OL_ERR_FULL, "out of memory while verifying %s",
			       v->model->path);
	for (int row = 0; row < t->rows; row += chunk) {
		const int count = OL_MIN(chunk, t->rows - row);
		ol_model_rows((void *)(uintptr_t)v->model, t, v->canonical, row, count, NULL);
		ol_sha256_update(&hash, v->canonical, (size_t)count * row_bytes);
		if (t->vector)
			continue;
		const uint8_t *stored =
			v->model->data + t->offset + ol_panels_bytes(t->type, row, t->cols);
		ol_panels_clear(v->panels, t->type, count, t->cols);
		ol_pack_rows(v->panels, t->type, count, t->cols, v->canonical, 0, count);
		if (memcmp(v->panels, stored, ol_panels_bytes(t->type, count, t->cols)) != 0) {
			ol_sha256_release(&hash);
			return ol_fail(
				err, OL_ERR_INPUT,
				"%s: the padding of tensor %s is damaged near row %d; import the "
				"model again",
				v->model->path, t->name, row);
		}
	}
	ol_sha256_final(&hash, v->leaves[index]);
	return OL_OK;
}

static enum ol_status verify_all(struct verifier *v, struct ol_error *err)
{
	const struct ol_model *m = v->model;
	uint8_t id[OL_MODEL_ID_BYTES];
	char expected[2 * OL_MODEL_ID_BYTES + 1], actual[2 * OL_MODEL_ID_BYTES + 1];
	for (int i = 0; i < m->layout.count; i++) {
		const enum ol_status s = verify_tensor(v, i, err);
		if (s != OL_OK)
			return s;
	}
	if (!ol_model_id_compute(id, &m->config, m->texts, m->text_count, &m->layout,
				 (const uint8_t(*)[OL_MERKLE_BYTES])v->leaves))
		return ol_fail(err, OL_ERR_FULL, "out of memory while verifying %s", m->path);
	if (memcmp(id, m->id, sizeof id) == 0)
		return OL_OK;
	ol_hex(expected, m->id, sizeof m->id);
	ol_hex(actual, id, sizeof id);
	return ol_fail(err, OL_ERR_INPUT,
		       "%s: the weights have the id %s, not %s as its header says; import it again",
		       m->path, actual, expected);
}

enum ol_status ol_model_verify(const struct ol_model *model, struct ol_error *err)
{
	size_t canonical = 0, panels = 0;
	for (int i = 0; i < model->layout.count; i++) {
		const struct ol_tensor *t = &model->layout.tensors[i];
		const int chunk = ol_tensor_chunk_rows(t);
		canonical =
			OL_MAX(canonical, (size_t)chunk * ol_canonical_row_bytes(t->type, t->cols));
		panels = OL_MAX(panels, ol_panels_bytes(t->type, chunk, t->cols));
	}
	struct verifier v = {
		.model = model,
		.leaves = calloc((size_t)model->layout.count, sizeof *v.leaves),
		.canonical = ol_block_alloc(canonical),
		.panels = ol_block_alloc(panels),
	};
	const enum ol_status s = v.leaves && v.canonical && v.panels
					 ? verify_all(&v, err)
					 : ol_fail(err, OL_ERR_FULL,
						   "out of memory while verifying %s", model->path);
	ol_block_free(v.panels, panels);
	ol_block_free(v.canonical, canonical);
	free(v.leaves);
	return s;
}
