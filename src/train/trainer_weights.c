/* What is trained: adapters' A and B, or all weights of a model. */
#include "train/trainer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "math/functions.h"
#include "model/adapter_internal.h"

enum { PURPOSE_INIT_ADAPTER = 3, PURPOSE_INIT_MODEL = 4 }; /* the counters' first words */

float ol_trainer_scale(const struct ol_train_config *config)
{
	return ol_lora_scale((double)config->alpha, config->rank, config->rslora);
}

/* ---- Random numbers ----------------------------------------------------------------------- */

/* Element i of a tensor is word i mod 4 of Philox({purpose, i / 4, which, layer}, seed), made
 * uniform in +-width. */
static void draw(float *x, size_t count, double width, uint32_t purpose, uint32_t which,
		 uint32_t layer, uint64_t seed)
{
	const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	for (size_t i = 0; i < count; i += 4) {
		const uint32_t counter[4] = {purpose, (uint32_t)(i / 4), which, layer};
		uint32_t words[4];
		ol_philox(words, counter, key);
		for (size_t j = 0; j < 4 && i + j < count; j++)
			x[i + j] = (float)(width * (2 * ol_unit_double(words[j]) - 1));
	}
}

/* ---- Adapters ----------------------------------------------------------------------------- */

/* The tag of a parameter: 2 * ol_linear_index, plus 1 for B. */
static void linear_of(const struct ol_config *c, int index, int *layer, enum ol_linear *linear)
{
	const bool head = index == c->layers * OL_LAYER_LINEARS;
	*layer = head ? 0 : index / OL_LAYER_LINEARS;
	*linear = head ? OL_LINEAR_HEAD : (enum ol_linear)(index % OL_LAYER_LINEARS);
}

static bool is_target(const struct ol_trainer *t, int index)
{
	int layer;
	enum ol_linear linear;
	linear_of(t->c, index, &layer, &linear);
	return t->config.targets >> (int)linear & 1;
}

static struct ol_param lora_param(const struct ol_trainer *t, int index, bool is_b)
{
	int layer, outputs, inputs;
	enum ol_linear linear;
	linear_of(t->c, index, &layer, &linear);
	ol_linear_shape(t->c, linear, &outputs, &inputs);
	struct ol_param p = {
		.rows = is_b ? outputs : t->config.rank,
		.cols = is_b ? t->config.rank : inputs,
		.trained = is_b || !t->config.attributable,
		.decays = true,
		.tag = 2 * index + is_b,
	};
	if (linear == OL_LINEAR_HEAD)
		snprintf(p.name, sizeof p.name, "head.%c", is_b ? 'b' : 'a');
	else
		snprintf(p.name, sizeof p.name, "layers.%d.%s.%c", layer, ol_linear_name(linear),
			 is_b ? 'b' : 'a');
	return p;
}

/* A as PEFT begins (Kaiming's uniform with a = sqrt 5: +-1/sqrt(inputs)), rounded to bf16, so that
 * a frozen A is exactly what is published; B zero: the adapter begins as no change. */
static void init_lora(struct ol_trainer *t)
{
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		float *w = t->params.w + p->offset;
		int layer;
		enum ol_linear linear;
		linear_of(t->c, p->tag / 2, &layer, &linear);
		if (p->tag & 1)
			continue;
		draw(w, p->count, 1 / sqrt((double)p->cols), PURPOSE_INIT_ADAPTER, (uint32_t)linear,
		     (uint32_t)layer, t->config.init_seed);
		for (size_t k = 0; k < p->count; k++)
			w[k] = ol_bf16_to_f32(ol_f32_to_bf16(w[k]));
	}
}

static enum ol_status start_from(struct ol_trainer *t, struct ol_error *err)
{
	const struct ol_lora_tensors *tensors = ol_adapter_tensors(t->start);
	for (int i = 0; i < ol_linear_count(t->c); i++) {
		const int rank = is_target(t, i) ? t->config.rank : 0;
		if (tensors[i].rank != rank)
			return ol_fail(err, OL_ERR_INPUT,
				       "the adapter to go on from has rank %d where this run has "
				       "%d: give --rank and --targets as it has them",
				       tensors[i].rank, rank);
		if (rank > 0 && tensors[i].scale != ol_trainer_scale(&t->config))
			return ol_fail(err, OL_ERR_INPUT,
				       "the adapter to go on from has the scale %g, this run %g: "
				       "give --alpha as it has it",
				       (double)tensors[i].scale,
				       (double)ol_trainer_scale(&t->config));
	}
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		const struct ol_lora_tensors *from = &tensors[p->tag / 2];
		const uint16_t *values = p->tag & 1 ? from->b : from->a;
		for (size_t k = 0; k < p->count; k++)
			t->params.w[p->offset + k] = ol_bf16_to_f32(values[k]);
	}
	return OL_OK;
}

/* Panels for every tensor, and the tables that the tape reads and writes. */
static enum ol_status bind_lora(struct ol_trainer *t, struct ol_error *err)
{
	const size_t linears = (size_t)ol_linear_count(t->c);
	t->views = calloc(linears, sizeof *t->views);
	t->lora = calloc(linears, sizeof *t->lora);
	for (int i = 0; i < t->params.count; i++)
		t->panels_bytes += ol_panels_bytes(OL_WEIGHT_F32, t->params.list[i].rows,
						   t->params.list[i].cols);
	t->panels = ol_block_alloc(t->panels_bytes);
	if (!t->views || !t->lora || !t->panels)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the adapter's panels");
	uint8_t *at = t->panels;
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		const struct ol_matrix matrix = {OL_WEIGHT_F32, p->rows, p->cols, at};
		struct ol_lora_view *view = &t->views[p->tag / 2];
		float *gradient = p->trained ? t->params.g + p->offset : NULL;
		view->rank = t->config.rank;
		view->scale = ol_trainer_scale(&t->config);
		*(p->tag & 1 ? &view->b : &view->a) = matrix;
		*(p->tag & 1 ? &t->lora[p->tag / 2].b : &t->lora[p->tag / 2].a) = gradient;
		ol_panels_clear(at, OL_WEIGHT_F32, p->rows, p->cols);
		at += ol_panels_bytes(OL_WEIGHT_F32, p->rows, p->cols);
	}
	t->view = (struct ol_adapter_view){t->views, t->config.rank};
	return OL_OK;
}

static enum ol_status make_lora(struct ol_trainer *t, struct ol_error *err)
{
	const int linears = ol_linear_count(t->c);
	struct ol_param *list = calloc((size_t)linears * 2, sizeof *list);
	int count = 0;
	if (!list)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the adapter's tensors");
	for (int i = 0; i < linears; i++)
		if (is_target(t, i)) {
			list[count++] = lora_param(t, i, false);
			list[count++] = lora_param(t, i, true);
		}
	enum ol_status s = ol_params_init(&t->params, list, count, err);
	if (s == OL_OK)
		s = bind_lora(t, err);
	if (s != OL_OK)
		return s;
	if (t->start)
		return start_from(t, err);
	init_lora(t);
	return OL_OK;
}

/* ---- All weights -------------------------------------------------------------------------- */

/* Weights to begin with: matrices uniform with the standard deviation sqrt(2 / (5 hidden)), those
 * that write into the residual stream smaller by sqrt(2 layers), so that its size does not grow
 * with depth; norms one, biases zero. */
static void init_tensor(struct ol_trainer *t, const struct ol_param *p)
{
	const struct ol_tensor *tensor = &ol_model_layout(t->weights)->tensors[p->tag];
	float *w = t->params.w + p->offset;
	if (tensor->vector) {
		for (size_t k = 0; k < p->count; k++)
			w[k] = ol_tensor_is_norm(tensor->role) ? 1 : 0;
		return;
	}
	double width = sqrt(3 * (2.0 / (5 * (double)t->c->hidden)));
	if (tensor->role == OL_TENSOR_O || tensor->role == OL_TENSOR_DOWN)
		width /= sqrt(2 * (double)t->c->layers);
	draw(w, p->count, width, PURPOSE_INIT_MODEL, (uint32_t)tensor->role,
	     (uint32_t)(tensor->layer + 1), t->config.init_seed);
}

static enum ol_status bind_full(struct ol_trainer *t, struct ol_error *err)
{
	const struct ol_layout *layout = ol_model_layout(t->weights);
	t->weight_gradients.layers =
		calloc((size_t)t->c->layers, sizeof *t->weight_gradients.layers);
	t->head_floats = (size_t)t->c->vocab_size * (size_t)t->c->hidden;
	if (t->c->tied_embeddings)
		t->head_gradient = ol_block_alloc(t->head_floats * sizeof(float));
	if (!t->weight_gradients.layers || (t->c->tied_embeddings && !t->head_gradient))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the gradients");
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		*ol_gradient_place(&t->weight_gradients, &layout->tensors[p->tag]) =
			t->params.g + p->offset;
	}
	if (t->c->tied_embeddings)
		t->weight_gradients.head = t->head_gradient;
	return OL_OK;
}

static enum ol_status make_full(struct ol_trainer *t, struct ol_error *err)
{
	enum ol_status s = ol_model_blank(&t->weights, t->base, OL_WEIGHT_F32, err);
	if (s != OL_OK)
		return s;
	const struct ol_layout *layout = ol_model_layout(t->weights);
	struct ol_param *list = calloc((size_t)layout->count, sizeof *list);
	if (!list)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the list of tensors");
	for (int i = 0; i < layout->count; i++) {
		const struct ol_tensor *tensor = &layout->tensors[i];
		list[i] = (struct ol_param){.rows = tensor->rows,
					    .cols = tensor->cols,
					    .trained = true,
					    .decays = !tensor->vector,
					    .tag = i};
		snprintf(list[i].name, sizeof list[i].name, "%s", tensor->name);
	}
	s = ol_params_init(&t->params, list, layout->count, err);
	if (s == OL_OK)
		s = bind_full(t, err);
	if (s != OL_OK)
		return s;
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		if (t->config.from_scratch)
			init_tensor(t, p);
		else
			ol_model_get_rows(t->params.w + p->offset, t->base, p->tag, 0, p->rows);
	}
	return OL_OK;
}

/* ---- Both --------------------------------------------------------------------------------- */

enum ol_status ol_trainer_make_weights(struct ol_trainer *t, struct ol_error *err)
{
	const enum ol_status s = ol_trainer_adapts(t) ? make_lora(t, err) : make_full(t, err);
	if (s != OL_OK)
		return s;
	t->shape.trained_parameters = ol_params_trained(&t->params);
	t->shape.state_bytes = 4 * t->params.floats * sizeof(float) + t->panels_bytes +
			       (t->head_gradient ? t->head_floats * sizeof(float) : 0) +
			       (t->weights ? (size_t)ol_model_layout(t->weights)->bytes : 0);
	return OL_OK;
}

void ol_trainer_release_weights(struct ol_trainer *t)
{
	ol_params_release(&t->params);
	ol_block_free(t->panels, t->panels_bytes);
	free(t->views);
	free(t->lora);
	free(t->weight_gradients.layers);
	ol_block_free(t->head_gradient, t->head_floats * sizeof(float));
	ol_model_close(t->weights);
}

static void pack_piece(void *context, int index, int thread)
{
	struct ol_trainer *t = context;
	const struct ol_param_piece *piece = &t->params.pieces[index];
	const struct ol_param *p = &t->params.list[piece->param];
	const float *w = t->params.w + p->offset + (size_t)piece->row0 * (size_t)p->cols;
	(void)thread;
	if (t->weights) {
		OL_ASSERT(ol_model_set_rows(t->weights, p->tag, w, piece->row0, piece->rows));
		return;
	}
	const struct ol_lora_view *view = &t->views[p->tag / 2];
	const struct ol_matrix *matrix = p->tag & 1 ? &view->b : &view->a;
	ol_pack_rows((void *)(uintptr_t)matrix->panels, OL_WEIGHT_F32, p->rows, p->cols, w,
		     piece->row0, piece->rows);
}

void ol_trainer_pack(struct ol_trainer *t)
{
	ol_pool_for(t->pool, t->params.piece_count, pack_piece, t);
}

enum { JOIN_FLOATS = 1 << 16 };

static void join_part(void *context, int index, int thread)
{
	struct ol_trainer *t = context;
	const size_t at = (size_t)index * JOIN_FLOATS;
	const size_t count = OL_MIN(t->head_floats - at, (size_t)JOIN_FLOATS);
	(void)thread;
	/* head + embed, an addition that does not ask for the order of its sides */
	t->kernels->add(t->weight_gradients.embed + at, t->head_gradient + at, (int)count);
	memset(t->head_gradient + at, 0, count * sizeof(float));
}

void ol_trainer_join_gradients(struct ol_trainer *t)
{
	if (t->head_gradient)
		ol_pool_for(t->pool, (int)((t->head_floats + JOIN_FLOATS - 1) / JOIN_FLOATS),
			    join_part, t);
}

/* ---- What is published -------------------------------------------------------------------- */

enum ol_status ol_trainer_make_adapter(const struct ol_trainer *t, const uint16_t *values,
				       struct ol_adapter **adapter_out, struct ol_error *err)
{
	const struct ol_adapter_config config = {
		.rank = t->config.rank,
		.alpha = t->config.alpha,
		.rslora = t->config.rslora,
		.targets = t->config.targets,
		.dropout = t->config.dropout,
	};
	struct ol_lora_tensors *tensors = calloc((size_t)ol_linear_count(t->c), sizeof *tensors);
	uint16_t *rounded = values ? NULL : malloc(t->params.floats * sizeof *rounded);
	enum ol_status s = OL_OK;
	if (!tensors || (!values && !rounded))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the adapter");
	size_t at = 0;
	for (int i = 0; s == OL_OK && i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		struct ol_lora_tensors *tensor = &tensors[p->tag / 2];
		for (size_t k = 0; rounded && k < p->count; k++)
			rounded[at + k] = ol_f32_to_bf16(t->params.w[p->offset + k]);
		tensor->rank = t->config.rank;
		tensor->scale = ol_trainer_scale(&t->config);
		*(p->tag & 1 ? &tensor->b : &tensor->a) = (values ? values : rounded) + at;
		at += p->count;
	}
	if (s == OL_OK)
		s = ol_adapter_make(adapter_out, t->c, &config, tensors, err);
	free(rounded);
	free(tensors);
	return s;
}

const float *ol_trainer_second_moment(const struct ol_trainer *t, int linear)
{
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		if (ol_trainer_adapts(t) && p->tag == 2 * linear + 1)
			return t->params.v + p->offset;
	}
	return NULL;
}
