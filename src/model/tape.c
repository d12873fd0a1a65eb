/* The life of a tape, its memory and its batch: see tape.h. */
#include "model/tape.h"

#include <stdlib.h>
#include <string.h>

#include "model/tape_internal.h"

/* --- memory ---------------------------------------------------------------- */

/* Takes pieces from `memory` one after the other; without memory it only measures. */
struct plan {
	uint8_t *memory;
	size_t used;
};

static void *take_bytes(struct plan *plan, size_t bytes)
{
	void *at = plan->memory ? plan->memory + plan->used : NULL;
	plan->used += (bytes + 63) / 64 * 64;
	return at;
}

static float *take(struct plan *plan, size_t rows, size_t width)
{
	return take_bytes(plan, rows * width * sizeof(float));
}

static int32_t *take_indices(struct plan *plan, size_t count)
{
	return take_bytes(plan, count * sizeof(int32_t));
}

static size_t q_width(const struct ol_config *c)
{
	return (size_t)c->heads * (size_t)c->head_dim;
}

static size_t kv_width(const struct ol_config *c)
{
	return (size_t)c->kv_heads * (size_t)c->head_dim;
}

/* The widest input of a linear. */
static size_t inputs_max(const struct ol_config *c)
{
	const size_t hidden = (size_t)c->hidden, ffn = (size_t)c->ffn;
	return OL_MAX(OL_MAX(hidden, ffn), q_width(c));
}

static int row_tile(const struct ol_tape *t, int rows)
{
	const int unit = t->kernels->act_tile, pieces = t->thread_count * 4;
	const int most = OL_MAX(OL_TAPE_ROW_TILE_MAX / unit, 1);
	const int wanted = ((rows + pieces - 1) / pieces + unit - 1) / unit;
	return OL_MIN(OL_MAX(wanted, 1), most) * unit;
}

/* What is asked of matrices is asked for every type: a tape's size follows from the config. */
static size_t act_bytes_max(const struct ol_tape *t)
{
	size_t most = 0;
	for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
		const size_t bytes = t->kernels->act_bytes((enum ol_weight_type)type,
							   OL_MAX(t->rows_max, t->head_rows),
							   (int)inputs_max(t->config));
		most = OL_MAX(most, bytes);
	}
	return most;
}

static size_t scratch_floats(const struct ol_tape *t)
{
	const struct ol_config *c = t->config;
	const struct ol_attention a = ol_attention_settings(c, OL_KV_F32, 0);
	size_t most = t->gradients->attention_dx_scratch(&a, t->rows_max);
	const int rows = OL_MAX(t->rows_max, t->head_rows), rank = OL_MAX(t->rank_max, 1);
	const int q = (int)q_width(c), kv = (int)kv_width(c);
	const int shapes[][2] = {{q, c->hidden},      {kv, c->hidden},
				 {c->hidden, q},      {c->ffn, c->hidden},
				 {c->hidden, c->ffn}, {c->vocab_size, c->hidden}};
	for (size_t s = 0; s < OL_ARRAY_LEN(shapes); s++)
		for (int type = 0; type < OL_WEIGHT_TYPES; type++) {
			const enum ol_weight_type w = (enum ol_weight_type)type;
			const int outputs = shapes[s][0], inputs = shapes[s][1];
			const struct ol_matrix all[] = {{w, outputs, inputs, NULL},
							{w, rank, inputs, NULL},
							{w, outputs, rank, NULL}};
			for (size_t i = 0; i < OL_ARRAY_LEN(all); i++)
				most = OL_MAX(most, t->gradients->matmul_dx_scratch(&all[i], rows));
		}
	return most;
}

static void lay_out_layer(struct ol_tape *t, struct plan *plan, struct ol_tape_layer *kept)
{
	const struct ol_config *c = t->config;
	const size_t rows = (size_t)t->rows_max, hidden = (size_t)c->hidden, ffn = (size_t)c->ffn;
	kept->q = take(plan, rows, q_width(c));
	kept->k = take(plan, rows, kv_width(c));
	kept->v = take(plan, rows, kv_width(c));
	kept->q_raw = c->qk_norm ? take(plan, rows, q_width(c)) : NULL;
	kept->k_raw = c->qk_norm ? take(plan, rows, kv_width(c)) : NULL;
	kept->o = take(plan, rows, q_width(c));
	kept->attention_y = c->post_norms ? take(plan, rows, hidden) : NULL;
	kept->middle = take(plan, rows, hidden);
	kept->gate = take(plan, rows, ffn);
	kept->up = take(plan, rows, ffn);
	kept->ffn_y = c->post_norms ? take(plan, rows, hidden) : NULL;
	for (int i = 0; i < OL_LAYER_LINEARS; i++)
		kept->h[i] = take(plan, rows, (size_t)t->rank_max);
}

static void lay_out_layers(struct ol_tape *t, struct plan *plan)
{
	const size_t rows = (size_t)t->rows_max, hidden = (size_t)t->config->hidden;
	const size_t layers = (size_t)t->config->layers;
	struct ol_tape_layer shared = {0}, *kept;
	t->layers = take_bytes(plan, layers * sizeof *t->layers);
	if (t->recompute)
		lay_out_layer(t, plan, &shared);
	for (size_t l = 0; l < layers; l++) {
		struct ol_tape_layer measured = shared;
		kept = plan->memory ? &t->layers[l] : &measured;
		*kept = shared;
		kept->x = take(plan, rows, hidden);
		if (!t->recompute)
			lay_out_layer(t, plan, kept);
	}
}

static void lay_out_batch(struct ol_tape *t, struct plan *plan)
{
	const size_t rows = (size_t)t->rows_max, d = (size_t)t->config->head_dim;
	t->tokens = take_indices(plan, rows);
	t->targets = take_indices(plan, rows);
	t->positions = take_indices(plan, rows);
	t->sequence_of = take_indices(plan, rows);
	t->row_starts = take_indices(plan, rows + 1);
	t->target_rows = take_indices(plan, rows);
	t->first_pages = take_indices(plan, rows);
	t->page_list = take_bytes(plan, rows * sizeof *t->page_list);
	t->frequencies = take_bytes(plan, d * sizeof(double));
	t->frequencies_local = take_bytes(plan, d * sizeof(double));
	t->rope = take(plan, rows, d / 2 * 3);
	t->rope_local = take(plan, rows, d / 2 * 3);
}

static void lay_out_head(struct ol_tape *t, struct plan *plan)
{
	const size_t rows = (size_t)t->head_rows, hidden = (size_t)t->config->hidden;
	t->head_x = take(plan, rows, hidden);
	t->head_h = take(plan, rows, (size_t)t->rank_max);
	t->head_dx = take(plan, rows, hidden);
	t->logits = take(plan, rows, (size_t)t->config->vocab_size);
	t->head_losses = take(plan, rows, 1);
}

static void lay_out_backward(struct ol_tape *t, struct plan *plan)
{
	const struct ol_config *c = t->config;
	const size_t rows = (size_t)t->rows_max, hidden = (size_t)c->hidden;
	const size_t heads = (size_t)c->heads, kv_heads = (size_t)c->kv_heads;
	t->dx = take(plan, rows, hidden);
	t->dy = c->post_norms ? take(plan, rows, hidden) : NULL;
	t->dn = take(plan, rows, hidden);
	t->inverse = take(plan, rows, 1);
	t->inverse_post = take(plan, rows, 1);
	t->inverse_q = take(plan, rows, heads);
	t->inverse_k = take(plan, rows, kv_heads);
	for (int i = 0; i < OL_TAPE_GROUP_MAX; i++) {
		t->dh[i] = take(plan, rows, (size_t)t->rank_max);
		t->hs[i] = take(plan, rows, (size_t)t->rank_max);
		if (t->rank_max > 0)
			t->dropped[i] = take(plan, rows, i == 0 ? inputs_max(c) : hidden);
	}
	/* Never live together: the gradients inside the two halves of a layer. */
	const size_t mark = plan->used;
	t->f = take(plan, rows, (size_t)c->ffn);
	t->df = take(plan, rows, (size_t)c->ffn);
	const size_t end = plan->used;
	plan->used = mark;
	t->d_o = take(plan, rows, q_width(c));
	t->dq = take(plan, rows, q_width(c));
	t->dk = take(plan, rows, kv_width(c));
	t->dv = take(plan, rows, kv_width(c));
	t->dk_raw = c->qk_norm ? take(plan, rows, kv_width(c)) : NULL;
	plan->used = OL_MAX(plan->used, end);
}

/* Lays everything out in t->memory; returns the bytes that it takes. */
static size_t lay_out(struct ol_tape *t)
{
	const struct ol_config *c = t->config;
	const size_t rows = (size_t)t->rows_max, hidden = (size_t)c->hidden;
	const size_t threads = (size_t)t->thread_count;
	const size_t tile = (size_t)OL_MAX(OL_TAPE_ROW_TILE_MAX, t->kernels->act_tile);
	struct plan plan = {t->memory, 0};

	lay_out_batch(t, &plan);
	lay_out_layers(t, &plan);
	t->residual = take(&plan, rows, hidden);
	t->hidden = take(&plan, rows, hidden);
	t->n = take(&plan, rows, hidden);
	t->act = take_bytes(&plan, act_bytes_max(t));
	lay_out_head(t, &plan);
	lay_out_backward(t, &plan);

	t->task_room = (OL_TAPE_GROUP_MAX * 3 + OL_TAPE_VECTORS_MAX + 1) * t->thread_count * 4;
	t->tasks = take_bytes(&plan, (size_t)t->task_room * sizeof *t->tasks);
	t->scratch_bytes = (scratch_floats(t) * sizeof(float) + 63) / 64 * 64;
	t->scratch = take_bytes(&plan, threads * t->scratch_bytes);
	t->tile_bytes = tile * inputs_max(c) * sizeof(float);
	t->tile_bytes = OL_MAX(t->tile_bytes, (size_t)c->vocab_size * sizeof(float));
	t->tile_bytes = (t->tile_bytes + 63) / 64 * 64;
	t->tiles = take_bytes(&plan, threads * t->tile_bytes);
	return plan.used;
}

static void set_up(struct ol_tape *t, const struct ol_config *config,
		   const struct ol_tape_options *o)
{
	const size_t logits_row = (size_t)config->vocab_size * sizeof(float);
	const int fit = (int)OL_MIN(OL_TAPE_HEAD_BYTES / logits_row, OL_TAPE_HEAD_ROWS_MAX);
	*t = (struct ol_tape){
		.config = config,
		.kernels = o->kernels ? o->kernels : ol_kernels_best(),
		.thread_count = o->threads ? o->threads : ol_processor_count(),
		.rows_max = o->rows_max,
		.rank_max = o->rank_max,
		.head_rows = OL_MAX(fit, OL_TAPE_HEAD_ROWS_MIN),
		.full = o->full,
		.recompute = o->recompute,
		.held_layer = -1,
	};
	t->head_rows = OL_MIN(t->head_rows, t->rows_max);
	t->gradients = ol_gradients_for(t->kernels->isa);
	t->page_bytes = (size_t)config->kv_heads * 2 * ol_kv_half_bytes(config, OL_KV_F32);
}

size_t ol_tape_bytes(const struct ol_config *config, const struct ol_tape_options *options)
{
	struct ol_tape t;
	set_up(&t, config, options);
	/* Pages come as a batch needs them; of few, long sequences it needs about this many. */
	const size_t pages = (size_t)t.rows_max / OL_KV_PAGE + 8;
	return lay_out(&t) + pages * t.page_bytes;
}

enum ol_status ol_tape_open(struct ol_tape **tape_out, const struct ol_config *config,
			    const struct ol_weights *weights, const struct ol_tape_options *options,
			    struct ol_error *err)
{
	OL_ASSERT(options->rows_max > 0 && options->rank_max >= 0);
	if (options->threads < 0 || options->threads > OL_POOL_THREADS_MAX)
		return ol_fail(err, OL_ERR_INPUT, "threads must be between 1 and %d, not %d",
			       OL_POOL_THREADS_MAX, options->threads);
	struct ol_tape *t = malloc(sizeof *t);
	if (!t)
		return ol_fail(err, OL_ERR_FULL, "out of memory while preparing to train");
	set_up(t, config, options);
	t->weights = weights;
	t->memory_bytes = lay_out(t);
	t->memory = ol_block_alloc(t->memory_bytes);
	if (!t->memory || ol_pool_open(&t->threads, t->thread_count) != OL_OK) {
		const double megabytes = (double)t->memory_bytes / 1e6;
		ol_tape_close(t);
		return ol_fail(err, OL_ERR_FULL,
			       "out of memory: %d tokens at a time need %.0f MB for training; ask "
			       "for smaller micro-batches or shorter examples",
			       options->rows_max, megabytes);
	}
	lay_out(t);
	ol_rope_frequencies(t->frequencies, config, false);
	ol_rope_frequencies(t->frequencies_local, config, true);
	*tape_out = t;
	return OL_OK;
}

void ol_tape_close(struct ol_tape *tape)
{
	if (!tape)
		return;
	ol_pool_close(tape->threads);
	ol_attention_plan_release(&tape->attention);
	ol_block_free(tape->pages, tape->pages_bytes);
	ol_block_free(tape->memory, tape->memory_bytes);
	free(tape);
}

struct ol_pool *ol_tape_threads(const struct ol_tape *tape)
{
	return tape->threads;
}

const float *ol_tape_hidden(const struct ol_tape *tape)
{
	return tape->hidden;
}

int ol_tape_broken_sequence(const struct ol_tape *tape)
{
	return tape->broken_sequence;
}

/* --- the batch ------------------------------------------------------------- */

void ol_tape_over_rows(struct ol_tape *t, int rows, ol_pool_fn *fn, void *context)
{
	const int tile = row_tile(t, rows);
	ol_pool_for(t->threads, (rows + tile - 1) / tile, fn, context);
}

void ol_tape_tile(const struct ol_tape *t, int rows, int index, int *row0, int *row1)
{
	const int tile = row_tile(t, rows);
	*row0 = index * tile;
	*row1 = OL_MIN(*row0 + tile, rows);
}

int ol_tape_broken_row(const float *x, int rows, int width)
{
	for (int r = 0; r < rows; r++)
		if (!ol_all_finite(x + (size_t)r * (size_t)width, (size_t)width))
			return r;
	return -1;
}

static bool make_pages(struct ol_tape *t, int count)
{
	const size_t bytes = (size_t)count * t->page_bytes;
	if (bytes > t->pages_bytes) {
		ol_block_free(t->pages, t->pages_bytes);
		t->pages = ol_block_alloc(bytes);
		t->pages_bytes = t->pages ? bytes : 0;
	}
	for (int i = 0; i < count && t->pages; i++)
		t->page_list[i] = t->pages + (size_t)i * t->page_bytes;
	return t->pages != NULL;
}

/* Token by token: what it is, where it stands, what it should predict. */
static enum ol_status take_sequence(struct ol_tape *t, int index, struct ol_error *err)
{
	const struct ol_sequence *s = &t->batch->sequences[index];
	const int vocab = t->config->vocab_size;
	OL_ASSERT(s->count > 0 && s->count <= t->rows_max - t->row_count);
	t->row_starts[index] = t->row_count;
	for (int i = 0; i < s->count; i++) {
		if (s->tokens[i] < 0 || s->tokens[i] >= vocab || s->targets[i] < -1 ||
		    s->targets[i] >= vocab)
			return ol_fail(err, OL_ERR_INPUT,
				       "sequence %d, position %d: token %d with target %d is "
				       "outside the vocabulary of %d",
				       index, i, s->tokens[i], s->targets[i], vocab);
		const int row = t->row_count++;
		t->tokens[row] = s->tokens[i];
		t->targets[row] = s->targets[i];
		t->positions[row] = i;
		t->sequence_of[row] = index;
		if (s->targets[i] >= 0)
			t->target_rows[t->target_count++] = row;
	}
	t->row_starts[index + 1] = t->row_count;
	return OL_OK;
}

static enum ol_status take_batch(struct ol_tape *t, const struct ol_micro_batch *batch,
				 struct ol_error *err)
{
	int pages = 0;
	bool fits = true;
	OL_ASSERT(batch->sequence_count > 0 && batch->sequence_count <= t->rows_max);
	OL_ASSERT(!batch->adapter || batch->adapter->rank_max <= t->rank_max);
	t->batch = batch;
	t->dropout = batch->dropout && batch->dropout->rate > 0.0f ? batch->dropout : NULL;
	t->row_count = t->target_count = 0;
	t->held_layer = -1;
	t->broken_sequence = -1;
	ol_attention_plan_clear(&t->attention);
	for (int i = 0; i < batch->sequence_count; i++) {
		const enum ol_status s = take_sequence(t, i, err);
		if (s != OL_OK)
			return s;
		t->first_pages[i] = pages;
		pages += (batch->sequences[i].count + OL_KV_PAGE - 1) / OL_KV_PAGE;
		fits = fits && ol_attention_plan_run(&t->attention, t->kernels, t->config, i, 0,
						     batch->sequences[i].count);
	}
	if (!fits || !ol_attention_plan_finish(&t->attention, t->thread_count) ||
	    !make_pages(t, pages))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the attention of %d tokens",
			       t->row_count);
	return OL_OK;
}

/* --- forward --------------------------------------------------------------- */

static void fill_rope(const struct ol_tape *t, float *table, const double *frequencies, int row)
{
	const int half = t->config->head_dim / 2;
	float *out = table + (size_t)row * (size_t)half * 3;
	ol_rope_row(out, frequencies, t->positions[row], t->config->head_dim);
	for (int i = 0; i < half; i++)
		out[2 * half + i] = -out[half + i];
}

static void embed_piece(void *context, int index, int thread)
{
	struct ol_tape *t = context;
	const struct ol_config *c = t->config;
	const size_t hidden = (size_t)c->hidden;
	int row0, row1;
	(void)thread;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		float *x = t->layers[0].x + (size_t)r * hidden;
		ol_matrix_row(x, &t->weights->embed, t->tokens[r]);
		if (c->embed_scale != 1.0f)
			t->gradients->scale(x, x, c->embed_scale, c->hidden);
		fill_rope(t, t->rope, t->frequencies, r);
		if (ol_rope_has_local(c))
			fill_rope(t, t->rope_local, t->frequencies_local, r);
	}
}

static void final_norm_piece(void *context, int index, int thread)
{
	const struct ol_tape *t = context;
	const size_t hidden = (size_t)t->config->hidden;
	int row0, row1;
	(void)thread;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++)
		t->kernels->rmsnorm(t->hidden + (size_t)r * hidden,
				    t->residual + (size_t)r * hidden, t->weights->final_norm,
				    (int)hidden, t->config->norm_eps);
}

enum ol_status ol_tape_forward(struct ol_tape *tape, const struct ol_micro_batch *batch,
			       struct ol_error *err)
{
	const enum ol_status s = take_batch(tape, batch, err);
	if (s != OL_OK)
		return s;
	ol_tape_over_rows(tape, tape->row_count, embed_piece, tape);
	for (int l = 0; l < tape->config->layers; l++)
		ol_tape_layer_forward(tape, l, false);
	ol_tape_over_rows(tape, tape->row_count, final_norm_piece, tape);
	return OL_OK;
}

void ol_tape_losses(struct ol_tape *tape, float *losses)
{
	OL_ASSERT(tape->batch);
	ol_tape_head(tape, losses, false);
}

/* --- backward -------------------------------------------------------------- */

static void final_norm_back_piece(void *context, int index, int thread)
{
	const struct ol_tape *t = context;
	const size_t hidden = (size_t)t->config->hidden;
	int row0, row1;
	(void)thread;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		const size_t at = (size_t)r * hidden;
		t->inverse[r] = t->gradients->rmsnorm_dx(t->dx + at, t->residual + at,
							 t->weights->final_norm, t->dn + at,
							 (int)hidden, t->config->norm_eps, false);
	}
}

static void embed_scale_piece(void *context, int index, int thread)
{
	const struct ol_tape *t = context;
	const int hidden = t->config->hidden;
	int row0, row1;
	(void)thread;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	float *dx = t->dx + (size_t)row0 * (size_t)hidden;
	t->gradients->scale(dx, dx, t->config->embed_scale, (row1 - row0) * hidden);
}

/* Columns of the embedding's gradient: one chain of additions over the rows in order. */
static void embed_gradient_piece(void *context, int index, int thread)
{
	const struct ol_tape *t = context;
	const int hidden = t->config->hidden, begin = index * OL_PANEL;
	const int width = OL_MIN(OL_PANEL, hidden - begin);
	(void)thread;
	for (int r = 0; r < t->row_count; r++)
		t->kernels->add(t->request->weights->embed + (size_t)t->tokens[r] * (size_t)hidden +
					begin,
				t->dx + (size_t)r * (size_t)hidden + begin, width);
}

static void embed_backward(struct ol_tape *t)
{
	const int hidden = t->config->hidden, rows = t->row_count;
	const int broken = ol_tape_broken_row(t->dx, rows, hidden);
	if (broken >= 0 && t->broken_sequence < 0)
		t->broken_sequence = t->sequence_of[broken];
	if (t->lowest >= 0)
		return;
	if (t->config->embed_scale != 1.0f)
		ol_tape_over_rows(t, rows, embed_scale_piece, t);
	ol_pool_for(t->threads, (hidden + OL_PANEL - 1) / OL_PANEL, embed_gradient_piece, t);
}

static void layers_backward(struct ol_tape *t)
{
	const struct ol_weight_gradients *wanted = t->request->weights;
	int layer = t->config->layers - 1;
	if (!ol_tape_wanted_below(t, t->config->layers, 1))
		return;
	ol_tape_over_rows(t, t->row_count, final_norm_back_piece, t);
	if (wanted)
		ol_tape_add_vector(t, (struct ol_tape_vector){wanted->final_norm, t->dn,
							      t->residual, t->inverse, t->row_count,
							      t->config->hidden});
	if (ol_tape_wanted_below(t, t->config->layers, 0))
		while (layer >= 0 && ol_tape_layer_backward(t, layer))
			layer--;
	ol_tape_flush_vectors(t);
	embed_backward(t);
}

enum ol_status ol_tape_backward(struct ol_tape *tape, const struct ol_tape_backward *request,
				struct ol_error *err)
{
	OL_ASSERT(tape->batch && (!request->weights || tape->full));
	tape->request = request;
	tape->lowest = ol_tape_lowest_level(tape);
	tape->vector_count = 0;
	ol_tape_head(tape, request->losses, true);
	const bool loss_broken = tape->broken_sequence >= 0;
	if (!loss_broken)
		layers_backward(tape);
	tape->request = NULL;
	const struct ol_micro_batch *batch = tape->batch;
	tape->batch = NULL; /* once: its activations were overwritten */
	if (tape->broken_sequence < 0)
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT,
		       "the %s of sequence %d (example %llu) is not finite: the run diverges; try "
		       "a lower learning rate",
		       loss_broken ? "loss" : "gradient", tape->broken_sequence,
		       (unsigned long long)batch->sequences[tape->broken_sequence].example);
}

float **ol_gradient_place(struct ol_weight_gradients *g, const struct ol_tensor *tensor)
{
	struct ol_layer_gradients *layer = tensor->layer < 0 ? NULL : &g->layers[tensor->layer];
	switch (tensor->role) {
	case OL_TENSOR_EMBED: return &g->embed;
	case OL_TENSOR_HEAD: return &g->head;
	case OL_TENSOR_FINAL_NORM: return &g->final_norm;
	case OL_TENSOR_ATTENTION_NORM: return &layer->attention_norm;
	case OL_TENSOR_Q: return &layer->linears[OL_LINEAR_Q];
	case OL_TENSOR_Q_BIAS: return &layer->q_bias;
	case OL_TENSOR_Q_NORM: return &layer->q_norm;
	case OL_TENSOR_K: return &layer->linears[OL_LINEAR_K];
	case OL_TENSOR_K_BIAS: return &layer->k_bias;
	case OL_TENSOR_K_NORM: return &layer->k_norm;
	case OL_TENSOR_V: return &layer->linears[OL_LINEAR_V];
	case OL_TENSOR_V_BIAS: return &layer->v_bias;
	case OL_TENSOR_O: return &layer->linears[OL_LINEAR_O];
	case OL_TENSOR_POST_ATTENTION_NORM: return &layer->post_attention_norm;
	case OL_TENSOR_FFN_NORM: return &layer->ffn_norm;
	case OL_TENSOR_GATE: return &layer->linears[OL_LINEAR_GATE];
	case OL_TENSOR_UP: return &layer->linears[OL_LINEAR_UP];
	case OL_TENSOR_DOWN: return &layer->linears[OL_LINEAR_DOWN];
	case OL_TENSOR_POST_FFN_NORM: return &layer->post_ffn_norm;
	}
	OL_UNREACHABLE();
}
