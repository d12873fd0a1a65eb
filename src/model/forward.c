/* The layers of a transformer over the rows of one step.
 *
 * Each phase is a loop over independent pieces that the pool's threads claim: tiles of rows,
 * ranges of output panels, or (run, kv head, tile of rows) for attention. Pieces may be cut
 * anywhere, because no number depends on the cut.
 *
 *   x = embed[token]
 *   per layer:  q,k,v = W norm(x);  rotate, keep k,v;  x += Wo attention;
 *               n = norm(x);  x += Wdown(act(Wgate n) * Wup n)
 *   y = norm(x);  logits = head y
 *
 * Where a run has an adapter, every W above is followed by y += scale B (A x) on that run's rows.
 */
#include "model/engine_internal.h"

#include "base/arena.h"

#include <string.h>

/* So few multiplications are done before another thread has noticed. */
enum { LORA_ALONE = 1 << 15 };

struct phase {
	struct ol_engine *e;
	const struct ol_layer_weights *w;
	int layer;
	int tile; /* rows a piece */

	/* a matmul phase */
	const struct ol_matrix *matrices[3];
	float *outputs[3];
	int matrix_count, panels, panels_a_piece, m;

	/* its adapters: the linears that the matrices are, what they read, whose rows */
	enum ol_linear linear; /* of matrices[0]; the others follow it */
	const float *x;        /* (m, cols) */
	const struct ol_stretch *stretches;
	int stretch_count, down_pieces, up_parts;

	/* a preparation phase */
	const float *input;
	enum ol_weight_type type;
	int width;
};

static int row_tile(const struct ol_engine *e, int rows)
{
	const int threads = ol_pool_threads(e->threads), unit = e->kernels->act_tile;
	const int wanted = (rows + threads * 4 - 1) / (threads * 4);
	return OL_MAX((wanted + unit - 1) / unit, 1) * unit;
}

static void over_rows(struct ol_engine *e, struct phase *p, ol_pool_fn *fn)
{
	p->tile = row_tile(e, e->row_count);
	ol_pool_for(e->threads, (e->row_count + p->tile - 1) / p->tile, fn, p);
}

/* Rows [row0,row1) of piece `index`. */
static void piece_rows(const struct phase *p, int index, int *row0, int *row1)
{
	*row0 = index * p->tile;
	*row1 = OL_MIN(*row0 + p->tile, p->e->row_count);
}

/* --- adapters -------------------------------------------------------------- */

/* Rows in a row under the same adapter become stretches of at most `tile` rows. */
static int cut_stretches(struct ol_stretch *out, const struct ol_row *rows, const int32_t *picked,
			 int count, int tile)
{
	int stretches = 0;
	for (int i = 0; i < count; i++) {
		const struct ol_adapter_view *adapter = rows[picked ? picked[i] : i].adapter;
		struct ol_stretch *last = stretches > 0 ? &out[stretches - 1] : NULL;
		if (!adapter)
			continue;
		if (last && last->adapter == adapter && last->row0 + last->count == i &&
		    last->count < tile)
			last->count++;
		else
			out[stretches++] = (struct ol_stretch){adapter, i, 1};
	}
	return stretches;
}

/* Finds the rows that have adapters and makes room for what A gives. */
static bool plan_adapters(struct ol_engine *e)
{
	e->stretch_count =
		cut_stretches(e->stretches, e->rows, NULL, e->row_count, row_tile(e, e->row_count));
	e->lora_stride = 0;
	for (int i = 0; i < e->stretch_count; i++)
		e->lora_stride = OL_MAX(e->lora_stride, e->stretches[i].adapter->rank_max);
	const size_t bytes = 3 * (size_t)e->row_count * (size_t)e->lora_stride * sizeof *e->lora;
	if (bytes > e->lora_bytes) {
		ol_block_free(e->lora, e->lora_bytes);
		e->lora = ol_block_alloc(bytes);
		e->lora_bytes = e->lora ? bytes : 0;
	}
	return bytes == 0 || e->lora;
}

static const struct ol_lora_view *lora_view(const struct phase *p, const struct ol_stretch *s,
					    int matrix)
{
	const enum ol_linear linear = (enum ol_linear)((int)p->linear + matrix);
	return &s->adapter->linears[ol_linear_index(p->e->config, p->layer, linear)];
}

static float *lora_rows(const struct phase *p, const struct ol_stretch *s, int matrix)
{
	const size_t row = (size_t)matrix * (size_t)p->e->row_count + (size_t)s->row0;
	return p->e->lora + row * (size_t)p->e->lora_stride;
}

static void lora_down_piece(const struct phase *p, int index)
{
	const int i = index % p->matrix_count;
	const struct ol_stretch *s = &p->stretches[index / p->matrix_count];
	const struct ol_lora_view *view = lora_view(p, s, i);
	const size_t inputs = (size_t)p->matrices[i]->cols;
	if (view->rank == 0)
		return;
	OL_ASSERT(view->a.cols == p->matrices[i]->cols && view->b.rows == p->matrices[i]->rows);
	p->e->kernels->lora_down(lora_rows(p, s, i), (size_t)p->e->lora_stride,
				 p->x + (size_t)s->row0 * inputs, inputs, &view->a, s->count);
}

static void lora_up_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const int i = index / p->up_parts % p->matrix_count, part = index % p->up_parts;
	const struct ol_stretch *s = &p->stretches[index / p->up_parts / p->matrix_count];
	const struct ol_lora_view *view = lora_view(p, s, i);
	const size_t outputs = (size_t)p->matrices[i]->rows;
	const int panels = ol_panel_count((int)outputs);
	const int panel0 = (int)((int64_t)panels * part / p->up_parts);
	const int panel1 = (int)((int64_t)panels * (part + 1) / p->up_parts);
	(void)thread;
	if (view->rank > 0 && panel0 < panel1)
		p->e->kernels->lora_up(p->outputs[i] + (size_t)s->row0 * outputs, outputs,
				       lora_rows(p, s, i), (size_t)p->e->lora_stride, &view->b,
				       view->scale, s->count, panel0, panel1);
}

/* Multiplications with B that the adapters of this phase ask for; 0: they leave it alone. */
static int64_t lora_work(const struct phase *p)
{
	int64_t work = 0;
	for (int k = 0; k < p->stretch_count; k++)
		for (int i = 0; i < p->matrix_count; i++)
			work += (int64_t)lora_view(p, &p->stretches[k], i)->rank *
				p->stretches[k].count * p->matrices[i]->rows;
	return work;
}

/* After the matmul, which has left A x in e->lora. */
static void lora_up(struct ol_engine *e, struct phase *p, int64_t work)
{
	const int pieces = p->stretch_count * p->matrix_count;
	p->up_parts = OL_MAX(ol_pool_threads(e->threads) * 4 / pieces, 1);
	if (work < LORA_ALONE)
		for (int i = 0; i < pieces * p->up_parts; i++)
			lora_up_piece(p, i, 0);
	else
		ol_pool_for(e->threads, pieces * p->up_parts, lora_up_piece, p);
}

/* --- matmuls --------------------------------------------------------------- */

static void matmul_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	(void)thread;
	if (index < p->down_pieces) {
		lora_down_piece(p, index);
		return;
	}
	int panel0 = (index - p->down_pieces) * p->panels_a_piece;
	int left = OL_MIN(p->panels_a_piece, p->panels - panel0);
	for (int i = 0; i < p->matrix_count && left > 0; i++) {
		const struct ol_matrix *w = p->matrices[i];
		const int count = ol_panel_count(w->rows), take = OL_MIN(left, count - panel0);
		if (take > 0) {
			p->e->kernels->matmul(p->outputs[i], (size_t)w->rows, p->e->act, w, p->m,
					      panel0, panel0 + take);
			left -= take;
		}
		panel0 = OL_MAX(panel0 - count, 0);
	}
}

/* All matrices read the activations now in e->act; their adapters read p->x, from which those were
 * made. */
static void matmul(struct ol_engine *e, struct phase *p, int rows)
{
	const int64_t work = p->stretch_count > 0 ? lora_work(p) : 0;
	p->down_pieces = work > 0 ? p->stretch_count * p->matrix_count : 0;
	p->panels = 0;
	p->m = rows;
	for (int i = 0; i < p->matrix_count; i++)
		p->panels += ol_panel_count(p->matrices[i]->rows);
	const int pieces = ol_pool_threads(e->threads) * (rows >= 32 ? 4 : 8);
	p->panels_a_piece = OL_MAX((p->panels + pieces - 1) / pieces, 1);
	ol_pool_for(e->threads,
		    p->down_pieces + (p->panels + p->panels_a_piece - 1) / p->panels_a_piece,
		    matmul_piece, p);
	if (work > 0)
		lora_up(e, p, work);
}

static void matmul_one(struct ol_engine *e, struct phase *p, enum ol_linear linear,
		       const struct ol_matrix *w, float *out, const float *x)
{
	p->linear = linear;
	p->x = x;
	p->matrices[0] = w;
	p->outputs[0] = out;
	p->matrix_count = 1;
	matmul(e, p, e->row_count);
}

/* --- phases over rows ------------------------------------------------------ */

static void embed_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	struct ol_engine *e = p->e;
	const struct ol_config *c = e->config;
	const size_t hidden = (size_t)c->hidden, d = (size_t)c->head_dim;
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		float *x = e->x + (size_t)r * hidden;
		ol_matrix_row(x, &e->weights->embed, e->rows[r].token);
		if (c->embed_scale != 1.0f)
			for (size_t i = 0; i < hidden; i++)
				x[i] *= c->embed_scale;
		ol_rope_row(e->rope + (size_t)r * d, e->inv_freq, e->rows[r].position, c->head_dim);
		if (ol_rope_has_local(c))
			ol_rope_row(e->rope_local + (size_t)r * d, e->inv_freq_local,
				    e->rows[r].position, c->head_dim);
	}
}

/* The residual takes the last block's output (normed first, in Gemma). */
static void add_residual(struct ol_engine *e, const float *post_norm, int row)
{
	const size_t hidden = (size_t)e->config->hidden;
	float *x = e->x + (size_t)row * hidden, *y = e->y + (size_t)row * hidden;
	if (post_norm)
		e->kernels->rmsnorm(y, y, post_norm, (int)hidden, e->config->norm_eps);
	e->kernels->add(x, y, (int)hidden);
}

static void norm_row(struct ol_engine *e, const float *weight, int row)
{
	const size_t hidden = (size_t)e->config->hidden;
	e->kernels->rmsnorm(e->y + (size_t)row * hidden, e->x + (size_t)row * hidden, weight,
			    (int)hidden, e->config->norm_eps);
}

/* y = norm(x), made ready for a matmul of the given type. */
static void norm_and_prepare(struct ol_engine *e, const float *weight, enum ol_weight_type type,
			     int row0, int row1)
{
	const int hidden = e->config->hidden;
	for (int r = row0; r < row1; r++)
		norm_row(e, weight, r);
	e->kernels->act_prepare(e->act, type, e->y, (size_t)hidden, e->row_count, hidden, row0,
				row1);
}

static void enter_attention_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	if (p->layer > 0)
		for (int r = row0; r < row1; r++)
			add_residual(p->e, p->w[-1].post_ffn_norm, r);
	norm_and_prepare(p->e, p->w->attention_norm, p->w->q.type, row0, row1);
}

static void enter_ffn_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	for (int r = row0; r < row1; r++)
		add_residual(p->e, p->w->post_attention_norm, r);
	norm_and_prepare(p->e, p->w->ffn_norm, p->w->gate.type, row0, row1);
}

static void leave_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		add_residual(p->e, p->w->post_ffn_norm, r);
		norm_row(p->e, p->e->weights->final_norm, r);
	}
}

static void prepare_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	p->e->kernels->act_prepare(p->e->act, p->type, p->input, (size_t)p->width, p->e->row_count,
				   p->width, row0, row1);
}

static void gate_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	struct ol_engine *e = p->e;
	const size_t ffn = (size_t)e->config->ffn;
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		float *gate = e->gate + (size_t)r * ffn;
		const float *up = e->up + (size_t)r * ffn;
		if (e->config->activation == OL_ACTIVATION_SILU)
			e->kernels->silu_mul(gate, gate, up, (int)ffn);
		else
			e->kernels->gelu_mul(gate, gate, up, (int)ffn);
	}
	e->kernels->act_prepare(e->act, p->w->down.type, e->gate, ffn, e->row_count, (int)ffn, row0,
				row1);
}

/* --- attention ------------------------------------------------------------- */

/* From a page's start to a head's keys; its values follow right after. */
static size_t kv_offset(const struct ol_engine *e, int layer, int head)
{
	const size_t before = (size_t)layer * (size_t)e->config->kv_heads + (size_t)head;
	return before * 2 * ol_kv_half_bytes(e->config, e->kv_type);
}

/* Bias, head norms and rotation of q and k; k and v go to their pages. */
static void keep_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	struct ol_engine *e = p->e;
	const struct ol_config *c = e->config;
	const size_t d = (size_t)c->head_dim, half = ol_kv_half_bytes(e->config, e->kv_type);
	const bool local = ol_rope_is_local(c, p->layer);
	int row0, row1;
	(void)thread;
	piece_rows(p, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		float *q = e->q + (size_t)r * (size_t)c->heads * d;
		float *k = e->k + (size_t)r * (size_t)c->kv_heads * d;
		float *v = e->v + (size_t)r * (size_t)c->kv_heads * d;
		const float *rope = (local ? e->rope_local : e->rope) + (size_t)r * d;
		ol_heads_finish(e->kernels, c, q, c->heads, p->w->q_norm, p->w->q_bias, rope);
		ol_heads_finish(e->kernels, c, k, c->kv_heads, p->w->k_norm, p->w->k_bias, rope);
		if (p->w->v_bias)
			e->kernels->add(v, p->w->v_bias, c->kv_heads * (int)d);
		const int position = e->rows[r].position;
		uint8_t *page = e->rows[r].session->pages[position / OL_KV_PAGE];
		for (int h = 0; h < c->kv_heads; h++) {
			uint8_t *keys = page + kv_offset(e, p->layer, h);
			e->kernels->kv_store(keys, keys + half, e->kv_type, position % OL_KV_PAGE,
					     k + (size_t)h * d, v + (size_t)h * d, (int)d);
		}
	}
}

static void attention_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	struct ol_engine *e = p->e;
	const struct ol_config *c = e->config;
	const struct ol_attention a = ol_attention_settings(c, e->kv_type, p->layer);
	const struct ol_attention_task *task = &e->attention.tasks[index];
	const struct ol_row_run *run = &e->runs[task->run];
	const size_t width = (size_t)c->heads * (size_t)c->head_dim;
	const size_t first = (size_t)(run->row0 + task->row) * width +
			     (size_t)(task->kv_head * a.group * c->head_dim);
	const size_t keys = kv_offset(e, p->layer, task->kv_head);
	e->kernels->attention(e->o + first, width, e->q + first, width, &a,
			      (const void *const *)run->session->pages, keys,
			      keys + ol_kv_half_bytes(e->config, e->kv_type), run->pos0 + task->row,
			      task->rows, ol_attention_plan_scratch(&e->attention, thread));
}

static bool plan_attention(struct ol_engine *e)
{
	ol_attention_plan_clear(&e->attention);
	for (int r = 0; r < e->run_count; r++)
		if (!ol_attention_plan_run(&e->attention, e->kernels, e->config, r, e->runs[r].pos0,
					   e->runs[r].count))
			return false;
	return ol_attention_plan_finish(&e->attention, ol_pool_threads(e->threads));
}

/* --- the whole ------------------------------------------------------------- */

static void layer(struct ol_engine *e, int index)
{
	const struct ol_layer_weights *w = &e->weights->layers[index];
	struct phase p = {.e = e,
			  .w = w,
			  .layer = index,
			  .stretches = e->stretches,
			  .stretch_count = e->stretch_count};

	over_rows(e, &p, enter_attention_piece);
	p.linear = OL_LINEAR_Q;
	p.x = e->y;
	p.matrix_count = 3;
	memcpy(p.matrices, (const struct ol_matrix *[]){&w->q, &w->k, &w->v}, sizeof p.matrices);
	memcpy(p.outputs, (float *[]){e->q, e->k, e->v}, sizeof p.outputs);
	matmul(e, &p, e->row_count);

	over_rows(e, &p, keep_piece);
	ol_pool_for(e->threads, e->attention.count, attention_piece, &p);
	p.input = e->o;
	p.type = w->o.type;
	p.width = w->o.cols;
	over_rows(e, &p, prepare_piece);
	matmul_one(e, &p, OL_LINEAR_O, &w->o, e->y, e->o);

	over_rows(e, &p, enter_ffn_piece);
	p.linear = OL_LINEAR_GATE;
	p.x = e->y;
	p.matrix_count = 2;
	memcpy(p.matrices, (const struct ol_matrix *[]){&w->gate, &w->up, NULL}, sizeof p.matrices);
	memcpy(p.outputs, (float *[]){e->gate, e->up, NULL}, sizeof p.outputs);
	matmul(e, &p, e->row_count);

	over_rows(e, &p, gate_piece);
	matmul_one(e, &p, OL_LINEAR_DOWN, &w->down, e->y, e->gate);
}

enum ol_status ol_forward(struct ol_engine *e, struct ol_error *err)
{
	const int layers = e->config->layers;
	if (!plan_attention(e))
		return ol_fail(err, OL_ERR_FULL,
			       "out of memory for the attention scores of %d rows", e->row_count);
	if (!plan_adapters(e))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the adapters of %d rows",
			       e->row_count);
	struct phase p = {.e = e};
	over_rows(e, &p, embed_piece);
	for (int i = 0; i < layers; i++)
		layer(e, i);
	p.w = &e->weights->layers[layers - 1];
	over_rows(e, &p, leave_piece);
	return OL_OK;
}

static void gather_rows(struct ol_engine *e, float *out, const int32_t *rows, int count)
{
	const size_t hidden = (size_t)e->config->hidden;
	for (int i = 0; i < count; i++)
		memcpy(out + (size_t)i * hidden, e->y + (size_t)rows[i] * hidden,
		       hidden * sizeof *out);
}

void ol_forward_head(struct ol_engine *e, float *const *out, const int32_t *rows, int count)
{
	const struct ol_matrix *head = &e->weights->head;
	const size_t vocab = (size_t)head->rows;
	struct ol_stretch stretches[OL_LOGIT_ROWS];
	struct phase p = {.e = e,
			  .matrices = {head},
			  .matrix_count = 1,
			  .linear = OL_LINEAR_HEAD,
			  .x = e->x,
			  .stretches = stretches};
	bool contiguous = true;
	if (e->stretch_count > 0)
		p.stretch_count = cut_stretches(stretches, e->rows, rows, count, count);
	for (int i = 1; i < count; i++)
		contiguous = contiguous && out[i] == out[0] + (size_t)i * vocab;
	p.outputs[0] = contiguous ? out[0] : e->logits;

	gather_rows(e, e->x, rows, count); /* the residual stream is not needed any more */
	e->kernels->act_prepare(e->act, head->type, e->x, (size_t)head->cols, count, head->cols, 0,
				count);
	matmul(e, &p, count);
	for (int i = 0; i < count; i++) {
		if (!contiguous)
			memcpy(out[i], e->logits + (size_t)i * vocab, vocab * sizeof(float));
		if (e->config->logit_softcap > 0.0f)
			e->kernels->softcap(out[i], e->config->logit_softcap, (int)vocab);
	}
}
