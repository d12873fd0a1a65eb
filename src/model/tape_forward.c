/* One layer forward, over whole sequences: the engine's arithmetic, keeping what backward needs. */
#include <string.h>

#include "model/tape_internal.h"

struct phase {
	struct ol_tape *t;
	int layer;
	bool again;
	const struct ol_layer_weights *w;
	struct ol_tape_layer *kept;
	float *next; /* (R, hidden) the residual stream after this layer */
	struct ol_tape_group group;
};

static void norm_row(const struct phase *p, const float *x, const float *weight, int row)
{
	const size_t hidden = (size_t)p->t->config->hidden;
	p->t->kernels->rmsnorm(p->t->n + (size_t)row * hidden, x + (size_t)row * hidden, weight,
			       (int)hidden, p->t->config->norm_eps);
}

/* out = x + y, y normed first where there is a post norm; without one y is in out already. */
static void join_row(const struct phase *p, float *out, const float *x, const float *y,
		     const float *post_norm, int row)
{
	const size_t hidden = (size_t)p->t->config->hidden, at = (size_t)row * hidden;
	if (post_norm)
		p->t->kernels->rmsnorm(out + at, y + at, post_norm, (int)hidden,
				       p->t->config->norm_eps);
	p->t->kernels->add(out + at, x + at, (int)hidden);
}

static void enter_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++)
		norm_row(p, p->kept->x, p->w->attention_norm, r);
	ol_tape_group_read(p->t, &p->group, thread, row0, row1);
}

static size_t page_offset(const struct ol_tape *t, int kv_head)
{
	return (size_t)kv_head * 2 * ol_kv_half_bytes(t->config, OL_KV_F32);
}

/* Bias, head norms and rotation of q and k; k and v go to their pages. */
static void keep_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape *t = p->t;
	const struct ol_config *c = t->config;
	const struct ol_tape_layer *kept = p->kept;
	const size_t d = (size_t)c->head_dim, half = ol_kv_half_bytes(c, OL_KV_F32);
	const size_t q_width = (size_t)c->heads * d, kv_width = (size_t)c->kv_heads * d;
	const float *ropes = ol_rope_is_local(c, p->layer) ? t->rope_local : t->rope;
	const float *q_bias = p->w->q_bias, *k_bias = p->w->k_bias;
	int row0, row1;
	(void)thread;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		float *q = kept->q + (size_t)r * q_width, *k = kept->k + (size_t)r * kv_width;
		float *v = kept->v + (size_t)r * kv_width;
		const float *rope = ropes + (size_t)r * (d / 2) * 3;
		if (kept->q_raw) {
			float *raw = kept->q_raw + (size_t)r * q_width;
			if (q_bias)
				t->kernels->add(raw, q_bias, (int)q_width);
			memcpy(q, raw, q_width * sizeof *q);
			raw = kept->k_raw + (size_t)r * kv_width;
			if (k_bias)
				t->kernels->add(raw, k_bias, (int)kv_width);
			memcpy(k, raw, kv_width * sizeof *k);
		}
		ol_heads_finish(t->kernels, c, q, c->heads, p->w->q_norm,
				kept->q_raw ? NULL : q_bias, rope);
		ol_heads_finish(t->kernels, c, k, c->kv_heads, p->w->k_norm,
				kept->q_raw ? NULL : k_bias, rope);
		if (p->w->v_bias)
			t->kernels->add(v, p->w->v_bias, (int)kv_width);
		const int position = t->positions[r];
		uint8_t *page = t->pages + (size_t)(t->first_pages[t->sequence_of[r]] +
						    position / OL_KV_PAGE) *
						   t->page_bytes;
		for (int h = 0; h < c->kv_heads; h++) {
			uint8_t *keys = page + page_offset(t, h);
			t->kernels->kv_store(keys, keys + half, OL_KV_F32, position % OL_KV_PAGE,
					     k + (size_t)h * d, v + (size_t)h * d, (int)d);
		}
	}
}

static void attention_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape *t = p->t;
	const struct ol_config *c = t->config;
	const struct ol_attention a = ol_attention_settings(c, OL_KV_F32, p->layer);
	const struct ol_attention_task *task = &t->attention.tasks[index];
	const size_t width = (size_t)c->heads * (size_t)c->head_dim;
	const size_t first = (size_t)(t->row_starts[task->run] + task->row) * width +
			     (size_t)(task->kv_head * a.group * c->head_dim);
	const size_t keys = page_offset(t, task->kv_head);
	t->kernels->attention(p->kept->o + first, width, p->kept->q + first, width, &a,
			      t->page_list + t->first_pages[task->run], keys,
			      keys + ol_kv_half_bytes(c, OL_KV_F32), task->row, task->rows,
			      ol_attention_plan_scratch(&t->attention, thread));
}

static void read_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	ol_tape_group_read(p->t, &p->group, thread, row0, row1);
}

static void enter_ffn_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape_layer *kept = p->kept;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		join_row(p, kept->middle, kept->x, kept->attention_y, p->w->post_attention_norm, r);
		norm_row(p, kept->middle, p->w->ffn_norm, r);
	}
	ol_tape_group_read(p->t, &p->group, thread, row0, row1);
}

static void gate_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape *t = p->t;
	const size_t ffn = (size_t)t->config->ffn;
	int row0, row1;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		const size_t at = (size_t)r * ffn;
		const float *gate = p->kept->gate + at, *up = p->kept->up + at;
		if (t->config->activation == OL_ACTIVATION_SILU)
			t->kernels->silu_mul(t->f + at, gate, up, (int)ffn);
		else
			t->kernels->gelu_mul(t->f + at, gate, up, (int)ffn);
	}
	ol_tape_group_read(p->t, &p->group, thread, row0, row1);
}

static void leave_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	(void)thread;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++)
		join_row(p, p->next, p->kept->middle, p->kept->ffn_y, p->w->post_ffn_norm, r);
}

static void attention_half(struct phase *p)
{
	struct ol_tape *t = p->t;
	struct ol_tape_layer *kept = p->kept;
	const int rows = t->row_count;

	ol_tape_group_init(&p->group, t, p->layer, OL_LINEAR_Q);
	p->group.x = t->n;
	p->group.y[0] = kept->q_raw ? kept->q_raw : kept->q;
	p->group.y[1] = kept->k_raw ? kept->k_raw : kept->k;
	p->group.y[2] = kept->v;
	ol_tape_over_rows(t, rows, enter_piece, p);
	ol_tape_group_multiply(t, &p->group);
	ol_tape_over_rows(t, rows, keep_piece, p);
	ol_pool_for(t->threads, t->attention.count, attention_piece, p);

	ol_tape_group_init(&p->group, t, p->layer, OL_LINEAR_O);
	p->group.x = kept->o;
	p->group.y[0] = kept->attention_y ? kept->attention_y : kept->middle;
	ol_tape_over_rows(t, rows, read_piece, p);
	ol_tape_group_multiply(t, &p->group);
}

static void ffn_half(struct phase *p)
{
	struct ol_tape *t = p->t;
	struct ol_tape_layer *kept = p->kept;
	const int rows = t->row_count;

	ol_tape_group_init(&p->group, t, p->layer, OL_LINEAR_GATE);
	p->group.x = t->n;
	p->group.y[0] = kept->gate;
	p->group.y[1] = kept->up;
	ol_tape_over_rows(t, rows, enter_ffn_piece, p);
	ol_tape_group_multiply(t, &p->group);

	ol_tape_group_init(&p->group, t, p->layer, OL_LINEAR_DOWN);
	p->group.x = t->f;
	p->group.y[0] = kept->ffn_y ? kept->ffn_y : p->next;
	ol_tape_over_rows(t, rows, gate_piece, p);
	/* Run again for backward, only a post norm reads this. */
	if (!p->again || kept->ffn_y)
		ol_tape_group_multiply(t, &p->group);
	if (!p->again)
		ol_tape_over_rows(t, rows, leave_piece, p);
}

void ol_tape_layer_forward(struct ol_tape *t, int layer, bool again)
{
	struct phase p = {
		.t = t,
		.layer = layer,
		.again = again,
		.w = &t->weights->layers[layer],
		.kept = &t->layers[layer],
		.next = layer + 1 < t->config->layers ? t->layers[layer + 1].x : t->residual,
	};
	attention_half(&p);
	ffn_half(&p);
	t->held_layer = layer;
}
