/* Groups of linears: see tape_internal.h. Order of what meets in one number
 * (docs/ARITHMETIC.md, "Training"): dx is one chain over the group's base weights (q, k, v; gate,
 * up), continued over their adapters in the same order. */
#include "model/tape_internal.h"

/* Pieces of dx smaller than this cost more than they share out. */
enum { DX_COLUMNS_MIN = 256, DX_ROWS_MIN = 64 };

static const struct ol_matrix *weight_of(const struct ol_tape *t, int layer, enum ol_linear linear)
{
	const struct ol_layer_weights *w = &t->weights->layers[layer];
	switch (linear) {
	case OL_LINEAR_Q: return &w->q;
	case OL_LINEAR_K: return &w->k;
	case OL_LINEAR_V: return &w->v;
	case OL_LINEAR_O: return &w->o;
	case OL_LINEAR_GATE: return &w->gate;
	case OL_LINEAR_UP: return &w->up;
	case OL_LINEAR_DOWN: return &w->down;
	case OL_LINEAR_HEAD: return &t->weights->head;
	}
	OL_UNREACHABLE();
}

static int group_size(enum ol_linear first)
{
	return first == OL_LINEAR_Q ? 3 : first == OL_LINEAR_GATE ? 2 : 1;
}

void ol_tape_group_init(struct ol_tape_group *g, struct ol_tape *t, int layer, enum ol_linear first)
{
	const struct ol_adapter_view *adapter = t->batch->adapter;
	*g = (struct ol_tape_group){
		.layer = layer,
		.count = group_size(first),
		.rows = t->row_count,
	};
	for (int i = 0; i < g->count; i++) {
		const enum ol_linear linear = (enum ol_linear)((int)first + i);
		g->linears[i] = linear;
		g->weights[i] = weight_of(t, layer, linear);
		g->h[i] = first == OL_LINEAR_HEAD ? t->head_h : t->layers[layer].h[linear];
		if (adapter) {
			const struct ol_lora_view *view =
				&adapter->linears[ol_linear_index(t->config, layer, linear)];
			g->lora[i] = view->rank > 0 ? view : NULL;
		}
	}
	g->inputs = g->weights[0]->cols;
}

static const struct ol_lora_gradient *gradient_of(const struct ol_tape *t,
						  const struct ol_tape_group *g, int i)
{
	static const struct ol_lora_gradient none;
	const struct ol_lora_gradient *all = t->request->lora;
	return all && g->lora[i] ? &all[ol_linear_index(t->config, g->layer, g->linears[i])]
				 : &none;
}

static float *weight_gradient_of(const struct ol_tape *t, const struct ol_tape_group *g, int i)
{
	const struct ol_weight_gradients *all = t->request->weights;
	if (!all)
		return NULL;
	return g->linears[i] == OL_LINEAR_HEAD ? all->head
					       : all->layers[g->layer].linears[g->linears[i]];
}

bool ol_tape_is_observed(const struct ol_tape *t, int layer, enum ol_linear linear)
{
	const struct ol_tape_backward *r = t->request;
	return r->observe &&
	       (!r->observed || r->observed[ol_linear_index(t->config, layer, linear)]);
}

bool ol_tape_group_reads_x(const struct ol_tape *t, const struct ol_tape_group *g)
{
	bool reads = false;
	for (int i = 0; i < g->count; i++)
		reads = reads || ol_tape_is_observed(t, g->layer, g->linears[i]) ||
			gradient_of(t, g, i)->a || weight_gradient_of(t, g, i);
	return reads;
}

/* Rows of linear i's input as its adapter reads it, into `out` (rows of `inputs`). */
static void drop_rows(const struct ol_tape *t, const struct ol_tape_group *g, int i, float *out,
		      const float *x, int row0, int row1)
{
	struct ol_dropout key = *t->dropout;
	const size_t width = (size_t)g->inputs;
	key.layer = (uint32_t)g->layer;
	key.module = (uint32_t)g->linears[i];
	for (int r = row0; r < row1; r++) {
		const int row = g->row_ids ? g->row_ids[r] : r;
		const size_t at = (size_t)(r - row0) * width;
		t->gradients->dropout(out + at, x + at, &key,
				      t->batch->sequences[t->sequence_of[row]].example,
				      (uint32_t)t->positions[row], g->inputs);
	}
}

/* --- forward --------------------------------------------------------------- */

void ol_tape_group_read(struct ol_tape *t, const struct ol_tape_group *g, int thread, int row0,
			int row1)
{
	const size_t width = (size_t)g->inputs;
	const float *x = g->x + (size_t)row0 * width;
	t->kernels->act_prepare(t->act, g->weights[0]->type, g->x, width, g->rows, g->inputs, row0,
				row1);
	for (int i = 0; i < g->count; i++) {
		const struct ol_lora_view *lora = g->lora[i];
		const float *read = x;
		if (!lora)
			continue;
		if (t->dropout) {
			read = ol_tape_tile_memory(t, thread);
			drop_rows(t, g, i, ol_tape_tile_memory(t, thread), x, row0, row1);
		}
		t->kernels->lora_down(g->h[i] + (size_t)row0 * (size_t)lora->rank,
				      (size_t)lora->rank, read, width, &lora->a, row1 - row0);
	}
}

struct multiply {
	struct ol_tape *t;
	const struct ol_tape_group *g;
	int panels, panels_a_piece;
};

static void multiply_piece(void *context, int index, int thread)
{
	const struct multiply *p = context;
	const struct ol_tape_group *g = p->g;
	const struct ol_kernels *kernels = p->t->kernels;
	int panel0 = index * p->panels_a_piece;
	int left = OL_MIN(p->panels_a_piece, p->panels - panel0);
	(void)thread;
	for (int i = 0; i < g->count && left > 0; i++) {
		const struct ol_matrix *w = g->weights[i];
		const struct ol_lora_view *lora = g->lora[i];
		const int count = ol_panel_count(w->rows), take = OL_MIN(left, count - panel0);
		if (take > 0) {
			kernels->matmul(g->y[i], (size_t)w->rows, p->t->act, w, g->rows, panel0,
					panel0 + take);
			if (lora)
				kernels->lora_up(g->y[i], (size_t)w->rows, g->h[i],
						 (size_t)lora->rank, &lora->b, lora->scale, g->rows,
						 panel0, panel0 + take);
			left -= take;
		}
		panel0 = OL_MAX(panel0 - count, 0);
	}
}

void ol_tape_group_multiply(struct ol_tape *t, const struct ol_tape_group *g)
{
	struct multiply p = {.t = t, .g = g};
	const int pieces = t->thread_count * 4;
	for (int i = 0; i < g->count; i++)
		p.panels += ol_panel_count(g->weights[i]->rows);
	p.panels_a_piece = OL_MAX((p.panels + pieces - 1) / pieces, 1);
	ol_pool_for(t->threads, (p.panels + p.panels_a_piece - 1) / p.panels_a_piece,
		    multiply_piece, &p);
}

/* --- backward -------------------------------------------------------------- */

void ol_tape_group_pull(struct ol_tape *t, const struct ol_tape_group *g, int thread, int row0,
			int row1)
{
	const int rows = row1 - row0;
	for (int i = 0; i < g->count; i++) {
		const struct ol_lora_view *lora = g->lora[i];
		const struct ol_lora_gradient *wanted = gradient_of(t, g, i);
		if (!lora)
			continue;
		const size_t rank = (size_t)lora->rank, at = (size_t)row0 * rank;
		const size_t width = (size_t)g->weights[i]->rows;
		if (g->dx || wanted->a) {
			t->gradients->matmul_dx(
				t->dh[i] + at, rank, g->dy[i] + (size_t)row0 * width, width,
				&lora->b, rows, 0, lora->rank, false, ol_tape_scratch(t, thread));
			t->gradients->scale(t->dh[i] + at, t->dh[i] + at, lora->scale,
					    rows * lora->rank);
		}
		if (wanted->b)
			t->gradients->scale(t->hs[i] + at, g->h[i] + at, lora->scale,
					    rows * lora->rank);
		if (wanted->a && t->dropout) {
			const size_t x = (size_t)row0 * (size_t)g->inputs;
			drop_rows(t, g, i, t->dropped[i] + x, g->x + x, row0, row1);
		}
	}
}

void ol_tape_group_drop(struct ol_tape *t, const struct ol_tape_group *g, int thread, int row0,
			int row1)
{
	const size_t width = (size_t)g->inputs;
	float *tile = ol_tape_tile_memory(t, thread);
	if (!t->dropout || !g->dx)
		return;
	for (int i = 0; i < g->count; i++) {
		const struct ol_lora_view *lora = g->lora[i];
		if (!lora)
			continue;
		const size_t rank = (size_t)lora->rank;
		t->gradients->matmul_dx(tile, width, t->dh[i] + (size_t)row0 * rank, rank, &lora->a,
					row1 - row0, 0, g->inputs, false,
					ol_tape_scratch(t, thread));
		drop_rows(t, g, i, tile, tile, row0, row1);
		for (int r = row0; r < row1; r++)
			t->kernels->add(g->dx + (size_t)r * width,
					tile + (size_t)(r - row0) * width, g->inputs);
	}
}

struct spread {
	struct ol_tape *t;
	const struct ol_tape_group *g;
};

static void spread_dx(struct ol_tape *t, const struct ol_tape_group *g,
		      const struct ol_tape_task *task, int thread)
{
	float *scratch = ol_tape_scratch(t, thread);
	const size_t width = (size_t)g->inputs, row0 = (size_t)task->row0;
	const int rows = task->row1 - task->row0;
	float *dx = g->dx + row0 * width;
	for (int i = 0; i < g->count; i++) {
		const struct ol_matrix *w = g->weights[i];
		t->gradients->matmul_dx(dx, width, g->dy[i] + row0 * (size_t)w->rows,
					(size_t)w->rows, w, rows, task->begin, task->end, i > 0,
					scratch);
	}
	for (int i = 0; i < g->count && !t->dropout; i++) {
		const struct ol_lora_view *lora = g->lora[i];
		if (lora)
			t->gradients->matmul_dx(dx, width, t->dh[i] + row0 * (size_t)lora->rank,
						(size_t)lora->rank, &lora->a, rows, task->begin,
						task->end, true, scratch);
	}
}

static void spread_vector(struct ol_tape *t, const struct ol_tape_vector *v, int i0, int i1)
{
	const size_t width = (size_t)v->width;
	if (v->inverse)
		t->gradients->rmsnorm_dw(v->gradient, v->dy, width, v->x, width, v->inverse,
					 v->rows, i0, i1);
	else
		t->gradients->sum_rows(v->gradient, v->dy, width, v->rows, i0, i1);
}

static void spread_piece(void *context, int index, int thread)
{
	const struct spread *p = context;
	struct ol_tape *t = p->t;
	const struct ol_tape_group *g = p->g;
	const struct ol_tape_task *task = &t->tasks[index];
	const int i = task->which, begin = task->begin, end = task->end;
	const size_t inputs = g ? (size_t)g->inputs : 0;
	switch (task->kind) {
	case OL_TASK_DX: spread_dx(t, g, task, thread); return;
	case OL_TASK_DW:
		t->gradients->matmul_dw(weight_gradient_of(t, g, i), g->dy[i],
					(size_t)g->weights[i]->rows, g->x, inputs, g->rows, begin,
					end, g->inputs);
		return;
	case OL_TASK_DA:
		t->gradients->matmul_dw(gradient_of(t, g, i)->a, t->dh[i], (size_t)g->lora[i]->rank,
					t->dropout ? t->dropped[i] : g->x, inputs, g->rows, begin,
					end, g->inputs);
		return;
	case OL_TASK_DB:
		t->gradients->matmul_dw(
			gradient_of(t, g, i)->b, g->dy[i], (size_t)g->weights[i]->rows, t->hs[i],
			(size_t)g->lora[i]->rank, g->rows, begin, end, g->lora[i]->rank);
		return;
	case OL_TASK_VECTOR: spread_vector(t, &t->vectors[i], begin, end); return;
	}
	OL_UNREACHABLE();
}

/* Cuts [0, size) into at most `pieces` tasks, at multiples of `unit`. */
static void add_tasks(struct ol_tape *t, enum ol_tape_task_kind kind, int which, int size,
		      int pieces, int unit)
{
	const int units = (size + unit - 1) / unit, step = (units + pieces - 1) / pieces * unit;
	for (int begin = 0; begin < size; begin += step) {
		OL_ASSERT(t->task_count < t->task_room);
		t->tasks[t->task_count++] =
			(struct ol_tape_task){kind, which, begin, OL_MIN(begin + step, size), 0, 0};
	}
}

/* One piece of dx a thread, since every piece rearranges the dy that it reads: columns as long as
 * they are wide, then rows. */
static void add_dx_tasks(struct ol_tape *t, const struct ol_tape_group *g)
{
	const int columns = OL_MIN(t->thread_count, OL_MAX(g->inputs / DX_COLUMNS_MIN, 1));
	const int strips =
		OL_MIN((t->thread_count + columns - 1) / columns, OL_MAX(g->rows / DX_ROWS_MIN, 1));
	for (int i = 0; i < strips; i++) {
		const int first = t->task_count;
		add_tasks(t, OL_TASK_DX, 0, g->inputs, columns, OL_PANEL);
		for (int j = first; j < t->task_count; j++) {
			t->tasks[j].row0 = (int)((int64_t)g->rows * i / strips);
			t->tasks[j].row1 = (int)((int64_t)g->rows * (i + 1) / strips);
		}
	}
}

static void observe(const struct ol_tape *t, const struct ol_tape_group *g)
{
	for (int i = 0; i < g->count; i++) {
		if (!ol_tape_is_observed(t, g->layer, g->linears[i]))
			continue;
		const struct ol_tape_view view = {
			.layer = g->layer,
			.linear = g->linears[i],
			.rows = g->rows,
			.x = g->x,
			.h = g->lora[i] ? g->h[i] : NULL,
			.dy = g->dy[i],
		};
		t->request->observe(t->request->context, &view);
	}
}

void ol_tape_group_spread(struct ol_tape *t, struct ol_tape_group *g)
{
	const int pieces = t->thread_count * 4;
	struct spread p = {t, g};
	observe(t, g);
	t->task_count = 0;
	if (g->dx)
		add_dx_tasks(t, g);
	for (int i = 0; i < g->count; i++) {
		const struct ol_lora_gradient *wanted = gradient_of(t, g, i);
		const int outputs = g->weights[i]->rows;
		if (weight_gradient_of(t, g, i))
			add_tasks(t, OL_TASK_DW, i, outputs, pieces, OL_PANEL);
		if (wanted->a)
			add_tasks(t, OL_TASK_DA, i, g->lora[i]->rank, t->thread_count, 4);
		if (wanted->b)
			add_tasks(t, OL_TASK_DB, i, outputs, t->thread_count, OL_PANEL);
	}
	for (int i = 0; i < t->vector_count; i++)
		add_tasks(t, OL_TASK_VECTOR, i, t->vectors[i].width, t->thread_count, OL_PANEL);
	ol_pool_for(t->threads, t->task_count, spread_piece, &p);
	t->vector_count = 0;
}

void ol_tape_add_vector(struct ol_tape *t, struct ol_tape_vector vector)
{
	if (!vector.gradient)
		return;
	OL_ASSERT(t->vector_count < OL_TAPE_VECTORS_MAX);
	t->vectors[t->vector_count++] = vector;
}

void ol_tape_flush_vectors(struct ol_tape *t)
{
	struct spread p = {t, NULL};
	t->task_count = 0;
	for (int i = 0; i < t->vector_count; i++)
		add_tasks(t, OL_TASK_VECTOR, i, t->vectors[i].width, t->thread_count, OL_PANEL);
	ol_pool_for(t->threads, t->task_count, spread_piece, &p);
	t->vector_count = 0;
}
