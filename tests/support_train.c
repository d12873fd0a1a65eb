/* Tiny models that can be trained, and the golden files of make_training.py: support_train.h. */
#include "tests/support_train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"

const char *const ol_golden_models[OL_GOLDEN_MODELS] = {"llama2", "llama3",  "llama3-tied",
							"smollm", "mistral", "qwen2",
							"qwen3",  "gemma2",  "gemma3"};

struct ol_model *ol_golden_model(const char *name, enum ol_weight_type type)
{
	const struct ol_import_options options = {.type = type};
	char folder[] = "/tmp/openledger-test-XXXXXX", file[64], path[128];
	struct ol_model *model = NULL;
	struct ol_error err;
	assert_non_null(mkdtemp(folder));
	snprintf(file, sizeof file, "%s/model.olm", folder);
	snprintf(path, sizeof path, "tests/golden/models/%s", name);
	ol_must(ol_import(file, path, &options, &err), &err);
	ol_must(ol_model_open(&model, file, &err), &err);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(folder), 0);
	return model;
}

double ol_norm(const float *x, size_t n)
{
	double sum = 0.0;
	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	return sqrt(sum);
}

static float *floats(size_t count)
{
	float *x = calloc(count, sizeof *x);
	assert_non_null(x);
	return x;
}

/* ---- All the weights --------------------------------------------------------------- */

/* Where a tensor is found among the weights; a matrix or a pointer to floats. */
static void *weight_place(struct ol_weights *w, struct ol_layer_weights *layers,
			  const struct ol_tensor *t)
{
	struct ol_layer_weights *layer = t->layer < 0 ? NULL : &layers[t->layer];
	switch (t->role) {
	case OL_TENSOR_EMBED: return &w->embed;
	case OL_TENSOR_HEAD: return &w->head;
	case OL_TENSOR_FINAL_NORM: return &w->final_norm;
	case OL_TENSOR_ATTENTION_NORM: return &layer->attention_norm;
	case OL_TENSOR_Q: return &layer->q;
	case OL_TENSOR_Q_BIAS: return &layer->q_bias;
	case OL_TENSOR_Q_NORM: return &layer->q_norm;
	case OL_TENSOR_K: return &layer->k;
	case OL_TENSOR_K_BIAS: return &layer->k_bias;
	case OL_TENSOR_K_NORM: return &layer->k_norm;
	case OL_TENSOR_V: return &layer->v;
	case OL_TENSOR_V_BIAS: return &layer->v_bias;
	case OL_TENSOR_O: return &layer->o;
	case OL_TENSOR_POST_ATTENTION_NORM: return &layer->post_attention_norm;
	case OL_TENSOR_FFN_NORM: return &layer->ffn_norm;
	case OL_TENSOR_GATE: return &layer->gate;
	case OL_TENSOR_UP: return &layer->up;
	case OL_TENSOR_DOWN: return &layer->down;
	case OL_TENSOR_POST_FFN_NORM: return &layer->post_ffn_norm;
	}
	OL_UNREACHABLE();
}

static void pack_slice(const struct ol_slice *s, const float *values)
{
	const float *rows = values + s->start;
	if (s->vector) {
		memcpy(s->place, rows, (size_t)s->cols * sizeof *rows);
		return;
	}
	ol_panels_clear(s->place, OL_WEIGHT_F32, s->rows, s->cols);
	ol_pack_rows(s->place, OL_WEIGHT_F32, s->rows, s->cols, rows, 0, s->rows);
}

void ol_plastic_pack(struct ol_plastic *p)
{
	for (int i = 0; i < p->slice_count; i++)
		pack_slice(&p->slices[i], p->values);
}

/* The canonical f32 rows of a tensor of any type. */
static void read_tensor(float *rows, void *source, const struct ol_tensor *t)
{
	if (t->vector) {
		memcpy(rows, *(const float **)source, (size_t)t->cols * sizeof *rows);
		return;
	}
	for (int row = 0; row < t->rows; row++)
		ol_matrix_row(rows + (size_t)row * (size_t)t->cols, source, row);
}

void ol_plastic_init(struct ol_plastic *p, const struct ol_model *model)
{
	memset(p, 0, sizeof *p);
	p->config = *ol_model_config(model);
	const size_t layers = (size_t)p->config.layers;
	assert_true(ol_layout_init(&p->layout, &p->config, OL_WEIGHT_F32));
	p->slice_count = p->layout.count;
	p->slices = calloc((size_t)p->slice_count, sizeof *p->slices);
	p->layers = calloc(layers, sizeof *p->layers);
	p->data = ol_block_alloc((size_t)p->layout.bytes);
	assert_true(p->slices && p->layers && p->data);
	p->weights.layers = p->layers;
	for (int i = 0; i < p->slice_count; i++) {
		const struct ol_tensor *t = &p->layout.tensors[i];
		struct ol_slice *s = &p->slices[i];
		*s = (struct ol_slice){.start = p->size,
				       .rows = t->rows,
				       .cols = t->cols,
				       .vector = t->vector,
				       .place = p->data + t->offset};
		snprintf(s->name, sizeof s->name, "%s", t->name);
		p->size += (size_t)t->rows * (size_t)t->cols;
		void *place = weight_place(&p->weights, p->layers, t);
		if (t->vector)
			*(const float **)place = s->place;
		else
			*(struct ol_matrix *)place =
				(struct ol_matrix){OL_WEIGHT_F32, t->rows, t->cols, s->place};
	}
	if (p->config.tied_embeddings)
		p->weights.head = p->weights.embed;
	p->values = floats(p->size);

	struct ol_weights source = *ol_model_weights(model);
	struct ol_layer_weights *copies = malloc(layers * sizeof *copies);
	assert_non_null(copies);
	memcpy(copies, source.layers, layers * sizeof *copies);
	for (int i = 0; i < p->slice_count; i++)
		read_tensor(p->values + p->slices[i].start,
			    weight_place(&source, copies, &p->layout.tensors[i]),
			    &p->layout.tensors[i]);
	free(copies);
	ol_plastic_pack(p);
}

void ol_plastic_release(struct ol_plastic *p)
{
	ol_block_free(p->data, (size_t)p->layout.bytes);
	ol_layout_release(&p->layout);
	free(p->values);
	free(p->slices);
	free(p->layers);
}

void ol_plastic_gradients_init(struct ol_plastic_gradients *g, const struct ol_plastic *p)
{
	memset(g, 0, sizeof *g);
	g->layers = calloc((size_t)p->config.layers, sizeof *g->layers);
	assert_non_null(g->layers);
	g->size = p->size;
	g->values = floats(g->size);
	g->tables.layers = g->layers;
	for (int i = 0; i < p->slice_count; i++)
		*ol_gradient_place(&g->tables, &p->layout.tensors[i]) =
			g->values + p->slices[i].start;
	if (p->config.tied_embeddings) {
		g->head_size = (size_t)p->config.vocab_size * (size_t)p->config.hidden;
		g->tables.head = g->tied_head = floats(g->head_size);
	}
}

void ol_plastic_gradients_clear(struct ol_plastic_gradients *g)
{
	memset(g->values, 0, g->size * sizeof *g->values);
	if (g->tied_head)
		memset(g->tied_head, 0, g->head_size * sizeof *g->tied_head);
}

void ol_plastic_gradients_tie(struct ol_plastic_gradients *g)
{
	for (size_t i = 0; i < g->head_size; i++)
		g->tables.embed[i] = g->tied_head[i] + g->tables.embed[i];
}

void ol_plastic_gradients_release(struct ol_plastic_gradients *g)
{
	free(g->layers);
	free(g->values);
	free(g->tied_head);
}

/* ---- Adapters ---------------------------------------------------------------------- */

/* Element i of A or B: see weights_of_adapter in make_training.py. */
static float lora_value(int number, bool is_b, size_t i)
{
	struct ol_dice dice = {((uint64_t)(2 * number + is_b) << 32) + i};
	const int8_t top = (int8_t)(ol_dice_next(&dice) >> 56);
	return (float)top / (is_b ? 1024.0f : 512.0f);
}

static void lora_slices(struct ol_plastic_lora *lora, const struct ol_config *c, int rank)
{
	for (int i = 0; i < lora->slice_count; i++) {
		const int number = i / 2, layer = number / OL_LAYER_LINEARS;
		const bool is_b = i % 2;
		const enum ol_linear linear = layer == c->layers
						      ? OL_LINEAR_HEAD
						      : (enum ol_linear)(number % OL_LAYER_LINEARS);
		struct ol_slice *s = &lora->slices[i];
		int outputs, inputs;
		ol_linear_shape(c, linear, &outputs, &inputs);
		*s = (struct ol_slice){.start = lora->size,
				       .rows = is_b ? outputs : rank,
				       .cols = is_b ? rank : inputs};
		if (linear == OL_LINEAR_HEAD)
			snprintf(s->name, sizeof s->name, "head.%s", is_b ? "b" : "a");
		else
			snprintf(s->name, sizeof s->name, "layers.%d.%s.%s", layer,
				 ol_linear_name(linear), is_b ? "b" : "a");
		lora->size += (size_t)s->rows * (size_t)s->cols;
	}
}

void ol_plastic_lora_init(struct ol_plastic_lora *lora, const struct ol_config *config, int rank,
			  float alpha)
{
	memset(lora, 0, sizeof *lora);
	const int linears = ol_linear_count(config);
	lora->slice_count = 2 * linears;
	lora->slices = calloc((size_t)lora->slice_count, sizeof *lora->slices);
	lora->views = calloc((size_t)linears, sizeof *lora->views);
	lora->gradients = calloc((size_t)linears, sizeof *lora->gradients);
	assert_true(lora->slices && lora->views && lora->gradients);
	lora_slices(lora, config, rank);
	lora->values = floats(lora->size);
	lora->gradient_values = floats(lora->size);
	lora->view = (struct ol_adapter_view){lora->views, rank};

	for (int i = 0; i < lora->slice_count; i++) {
		struct ol_slice *s = &lora->slices[i];
		struct ol_lora_view *view = &lora->views[i / 2];
		float *gradient = lora->gradient_values + s->start;
		const size_t bytes = ol_panels_bytes(OL_WEIGHT_F32, s->rows, s->cols);
		s->place = aligned_alloc(64, (bytes + 63) / 64 * 64);
		assert_non_null(s->place);
		const struct ol_matrix m = {OL_WEIGHT_F32, s->rows, s->cols, s->place};
		*(i % 2 ? &view->b : &view->a) = m;
		*(i % 2 ? &lora->gradients[i / 2].b : &lora->gradients[i / 2].a) = gradient;
		view->scale = alpha / (float)rank;
		view->rank = rank;
		for (size_t j = 0; j < (size_t)s->rows * (size_t)s->cols; j++)
			lora->values[s->start + j] = lora_value(i / 2, i % 2, j);
	}
	ol_plastic_lora_pack(lora);
}

void ol_plastic_lora_pack(struct ol_plastic_lora *lora)
{
	for (int i = 0; i < lora->slice_count; i++)
		pack_slice(&lora->slices[i], lora->values);
}

void ol_plastic_lora_release(struct ol_plastic_lora *lora)
{
	for (int i = 0; i < lora->slice_count; i++)
		free(lora->slices[i].place);
	free(lora->slices);
	free(lora->views);
	free(lora->gradients);
	free(lora->values);
	free(lora->gradient_values);
}

/* ---- Golden files ------------------------------------------------------------------- */

/* Appends the tokens of an array; they are targets where `answers` (or all) says so. */
static void add_tokens(struct ol_golden *golden, int index, const json_t *tokens,
		       const json_t *answers, bool all)
{
	struct ol_sequence *s = &golden->sequences[index];
	assert_true(json_array_size(tokens) > 0);
	for (size_t i = 0; i < json_array_size(tokens); i++) {
		const bool answer = answers ? json_integer_value(json_array_get(answers, i)) : all;
		const int32_t token = (int32_t)json_integer_value(json_array_get(tokens, i));
		assert_in_range(s->count, 0, OL_GOLDEN_LENGTH - 1);
		golden->tokens[index][s->count] = token;
		golden->targets[index][s->count] = -1;
		if (answer) {
			assert_true(s->count > 0);
			golden->targets[index][s->count - 1] = token;
			golden->answers[index]++;
		}
		s->count++;
	}
	s->tokens = golden->tokens[index];
	s->targets = golden->targets[index];
	s->example = (uint64_t)index;
}

void ol_golden_open(struct ol_golden *golden, const char *name)
{
	char file[128];
	json_error_t error;
	memset(golden, 0, sizeof *golden);
	snprintf(file, sizeof file, "tests/golden/training/%s.json", name);
	golden->root = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
	if (!golden->root)
		fail_msg("%s: %s", file, error.text);
	golden->rank = (int)json_integer_value(json_object_get(golden->root, "rank"));
	golden->alpha = (float)json_number_value(json_object_get(golden->root, "alpha"));
	const json_t *examples = json_object_get(golden->root, "examples");
	const json_t *pairs = json_object_get(golden->root, "pairs");
	assert_int_equal(json_array_size(examples), OL_GOLDEN_EXAMPLES);
	assert_int_equal(json_array_size(pairs), OL_GOLDEN_PAIRS);
	for (int i = 0; i < OL_GOLDEN_EXAMPLES; i++) {
		const json_t *e = json_array_get(examples, (size_t)i);
		add_tokens(golden, i, json_object_get(e, "tokens"), json_object_get(e, "answer"),
			   false);
	}
	for (int i = 0; i < 2 * OL_GOLDEN_PAIRS; i++) {
		const json_t *pair = json_array_get(pairs, (size_t)i / 2);
		const int index = OL_GOLDEN_EXAMPLES + i;
		add_tokens(golden, index, json_object_get(pair, "prompt"), NULL, false);
		add_tokens(golden, index, json_object_get(pair, i % 2 ? "rejected" : "chosen"),
			   NULL, true);
	}
}

void ol_golden_close(struct ol_golden *golden)
{
	json_decref(golden->root);
}

const json_t *ol_golden_get(const struct ol_golden *golden, const char *section, const char *key)
{
	const json_t *value = json_object_get(json_object_get(golden->root, section), key);
	assert_non_null(value);
	return value;
}

void ol_golden_data_make(struct ol_golden_data *data, const struct ol_golden *golden, bool pairs)
{
	memset(data, 0, sizeof *data);
	data->list.at = data->examples;
	data->list.count = pairs ? (size_t)OL_GOLDEN_PAIRS : OL_ARRAY_LEN(data->examples);
	for (size_t i = 0; i < data->list.count; i++) {
		struct ol_example *e = &data->examples[i];
		const size_t which =
			pairs ? OL_GOLDEN_EXAMPLES + 2 * i
			      : (i / OL_GOLDEN_BATCH + i % OL_GOLDEN_BATCH) % OL_GOLDEN_EXAMPLES;
		snprintf(data->ids[i], sizeof data->ids[i], "%zu", i);
		e->id = data->ids[i];
		e->contributor = "golden";
		e->key = i + 1;
		e->sequence = golden->sequences[which];
		e->answer_tokens = golden->answers[which];
		if (!pairs)
			continue;
		e->rejected = golden->sequences[which + 1];
		e->rejected_tokens = golden->answers[which + 1];
	}
}

struct ol_train_config ol_golden_config(const struct ol_golden *golden, enum ol_train_method method,
					const struct ol_config *base)
{
	struct ol_train_config config;
	ol_train_defaults(&config, method, base, OL_GOLDEN_STEPS * OL_GOLDEN_BATCH, 1.0);
	config.rank = golden->rank;
	config.alpha = golden->alpha;
	config.rslora = config.attributable = false;
	config.targets = OL_TARGETS_ALL | OL_TARGETS_HEAD;
	config.init_seed = 1;
	config.dropout = 0.0f;
	config.base_type = OL_WEIGHT_F32;
	config.learning_rate = 1e-2f;
	config.beta1 = 0.9f;
	config.beta2 = 0.999f;
	config.eps = 1e-8f;
	config.weight_decay = 0.0f;
	config.clip_norm = 1.0f;
	config.schedule = OL_SCHEDULE_COSINE;
	config.warmup = 3;
	config.final_fraction = 0.0f;
	config.steps = OL_GOLDEN_STEPS;
	config.batch = method == OL_TRAIN_DPO ? OL_GOLDEN_PAIRS : OL_GOLDEN_BATCH;
	config.order = OL_ORDER_DATASET;
	config.max_length = OL_GOLDEN_LENGTH;
	config.seed = 1;
	config.eval_fraction = 0.0f;
	config.eval_every = config.patience = 0;
	config.dpo_beta = (float)json_number_value(json_object_get(golden->root, "beta"));
	return config;
}

static double tensor_difference(const json_t *golden, const float *x, size_t n)
{
	const json_t *entries = json_object_get(golden, "entries");
	const double norm = json_number_value(json_object_get(golden, "norm"));
	const double largest = json_number_value(json_object_get(golden, "largest"));
	double sum = 0.0, worst = 0.0;
	if (json_array_size(entries) == 0)
		return INFINITY;
	for (size_t i = 0; i < json_array_size(entries); i++) {
		const json_t *entry = json_array_get(entries, i);
		const size_t at = (size_t)json_integer_value(json_array_get(entry, 0));
		assert_true(at < n);
		const double difference =
			fabs((double)x[at] - json_number_value(json_array_get(entry, 1)));
		/* A NaN is larger than anything. */
		worst = difference / largest <= worst ? worst : difference / largest;
	}
	for (size_t i = 0; i < n; i++)
		sum += (double)x[i];
	const double in_sum = fabs(sum - json_number_value(json_object_get(golden, "sum"))) / norm;
	const double in_norm = fabs(ol_norm(x, n) - norm) / norm;
	worst = in_sum <= worst ? worst : in_sum;
	return in_norm <= worst ? worst : in_norm;
}

double ol_golden_difference(const json_t *gradients, const struct ol_slice *slices, int count,
			    const float *values, const char **worst_name)
{
	double worst = 0.0;
	if (json_object_size(gradients) != (size_t)count)
		return INFINITY;
	for (int i = 0; i < count; i++) {
		const struct ol_slice *s = &slices[i];
		const json_t *golden = json_object_get(gradients, s->name);
		const double difference = tensor_difference(golden, values + s->start,
							    (size_t)s->rows * (size_t)s->cols);
		if (!(difference <= worst)) {
			worst = difference;
			*worst_name = s->name;
		}
	}
	return worst;
}

/* ---- A step ------------------------------------------------------------------------- */

enum { ROWS_MAX = 8 * OL_GOLDEN_LENGTH };

double ol_step_run(struct ol_tape *tape, const struct ol_step_request *request)
{
	float row_weights[ROWS_MAX], losses[ROWS_MAX];
	double loss = 0.0, nats;
	int answers = 0;
	struct ol_error err;
	for (int i = 0; i < request->count; i++)
		for (int t = 0; t < request->sequences[i].count; t++)
			answers += request->sequences[i].targets[t] >= 0;

	for (int begin = 0, end; begin < request->count; begin = end) {
		end = OL_MIN(begin + request->per_pass, request->count);
		const struct ol_micro_batch batch = {.sequences = request->sequences + begin,
						     .sequence_count = end - begin,
						     .adapter = request->adapter};
		int row = 0;
		for (int i = begin; i < end; i++)
			for (int t = 0; t < request->sequences[i].count; t++, row++)
				row_weights[row] = request->weights_of
							   ? (float)request->weights_of[i]
							   : 1.0f / (float)answers;
		assert_true(row <= ROWS_MAX);
		ol_must(ol_tape_forward(tape, &batch, &err), &err);
		const struct ol_tape_backward backward = {.row_weights = row_weights,
							  .losses = losses,
							  .lora = request->lora,
							  .weights = request->weights};
		if (request->lora || request->weights)
			ol_must(ol_tape_backward(tape, &backward, &err), &err);
		else
			ol_tape_losses(tape, losses);
		row = 0;
		for (int i = begin; i < end; i++) {
			nats = 0.0;
			for (int t = 0; t < request->sequences[i].count; t++, row++)
				nats += (double)losses[row];
			if (request->nats)
				request->nats[i] = nats;
			loss += nats;
		}
	}
	return loss / answers;
}
