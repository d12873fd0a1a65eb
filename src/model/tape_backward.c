/* One layer backward. The gradient of the residual stream lies in dx and takes each block's part
 * in; a block whose gradients nobody wants, and everything below the lowest wanted one, is left
 * out. */
#include <string.h>

#include "model/tape_internal.h"

struct phase {
	struct ol_tape *t;
	int layer;
	const struct ol_layer_weights *w;
	const struct ol_layer_gradients *g; /* NULL: the base is frozen */
	struct ol_tape_layer *kept;
	struct ol_tape_group above, group; /* the group just left, the group entered */
	bool fill_x;                       /* the entered group's input is needed again */
};

/* --- what is wanted -------------------------------------------------------- */

static bool linear_wanted(const struct ol_tape *t, int layer, enum ol_linear linear)
{
	const struct ol_tape_backward *r = t->request;
	const int index = ol_linear_index(t->config, layer, linear);
	const struct ol_adapter_view *adapter = t->batch->adapter;
	if (ol_tape_is_observed(t, layer, linear))
		return true;
	if (r->lora && adapter && adapter->linears[index].rank > 0 &&
	    (r->lora[index].a || r->lora[index].b))
		return true;
	if (!r->weights)
		return false;
	return linear == OL_LINEAR_HEAD ? r->weights->head != NULL
					: r->weights->layers[layer].linears[linear] != NULL;
}

static int lowest_in_layer(const struct ol_tape *t, int layer)
{
	static const struct ol_layer_gradients none;
	const struct ol_weight_gradients *w = t->request->weights;
	const struct ol_layer_gradients *g = w ? &w->layers[layer] : &none;
	const bool wanted[OL_LEVELS] = {
		[OL_LEVEL_ATTENTION_NORM] = g->attention_norm,
		[OL_LEVEL_QKV] = linear_wanted(t, layer, OL_LINEAR_Q) ||
				 linear_wanted(t, layer, OL_LINEAR_K) ||
				 linear_wanted(t, layer, OL_LINEAR_V) || g->q_norm || g->k_norm ||
				 g->q_bias || g->k_bias || g->v_bias,
		[OL_LEVEL_O] = linear_wanted(t, layer, OL_LINEAR_O),
		[OL_LEVEL_POST_ATTENTION_NORM] = g->post_attention_norm,
		[OL_LEVEL_FFN_NORM] = g->ffn_norm,
		[OL_LEVEL_GATE_UP] = linear_wanted(t, layer, OL_LINEAR_GATE) ||
				     linear_wanted(t, layer, OL_LINEAR_UP),
		[OL_LEVEL_DOWN] = linear_wanted(t, layer, OL_LINEAR_DOWN),
		[OL_LEVEL_POST_FFN_NORM] = g->post_ffn_norm,
	};
	for (int level = 0; level < OL_LEVELS; level++)
		if (wanted[level])
			return level;
	return OL_LEVELS;
}

int ol_tape_lowest_level(const struct ol_tape *t)
{
	const struct ol_weight_gradients *w = t->request->weights;
	const int layers = t->config->layers;
	if (w && w->embed)
		return -1;
	for (int l = 0; l < layers; l++) {
		const int level = lowest_in_layer(t, l);
		if (level < OL_LEVELS)
			return l * OL_LEVELS + level;
	}
	return layers * OL_LEVELS + (w && w->final_norm ? 0 : 1);
}

/* --- pieces ---------------------------------------------------------------- */

static void norm_again(const struct phase *p, const float *x, const float *weight, int row)
{
	const size_t hidden = (size_t)p->t->config->hidden, at = (size_t)row * hidden;
	p->t->kernels->rmsnorm(p->t->n + at, x + at, weight, (int)hidden, p->t->config->norm_eps);
}

/* The residual stream's gradient takes in that of a block's normed input. */
static void join_row(const struct phase *p, const float *x, const float *weight, int row)
{
	struct ol_tape *t = p->t;
	const size_t hidden = (size_t)t->config->hidden, at = (size_t)row * hidden;
	t->inverse[row] = t->gradients->rmsnorm_dx(t->dx + at, x + at, weight, t->dn + at,
						   (int)hidden, t->config->norm_eps, true);
}

/* dy of a block whose output y has a norm of its own. */
static void post_norm_row(const struct phase *p, const float *y, const float *weight, int row)
{
	struct ol_tape *t = p->t;
	const size_t hidden = (size_t)t->config->hidden, at = (size_t)row * hidden;
	t->inverse_post[row] = t->gradients->rmsnorm_dx(t->dy + at, y + at, weight, t->dx + at,
							(int)hidden, t->config->norm_eps, false);
}

static void activate_row(const struct phase *p, int row)
{
	const struct ol_tape *t = p->t;
	const size_t at = (size_t)row * (size_t)t->config->ffn;
	const float *gate = p->kept->gate + at, *up = p->kept->up + at;
	if (t->config->activation == OL_ACTIVATION_SILU)
		t->kernels->silu_mul(t->f + at, gate, up, t->config->ffn);
	else
		t->kernels->gelu_mul(t->f + at, gate, up, t->config->ffn);
}

static void enter_down_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		if (p->w->post_ffn_norm)
			post_norm_row(p, p->kept->ffn_y, p->w->post_ffn_norm, r);
		if (p->fill_x)
			activate_row(p, r);
	}
	ol_tape_group_pull(p->t, &p->group, thread, row0, row1);
}

static void enter_gate_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape *t = p->t;
	const int ffn = t->config->ffn;
	int row0, row1;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	ol_tape_group_drop(p->t, &p->above, thread, row0, row1);
	for (int r = row0; r < row1; r++) {
		const size_t at = (size_t)r * (size_t)ffn;
		float *gate = p->kept->gate + at, *up = p->kept->up + at;
		if (t->config->activation == OL_ACTIVATION_SILU)
			t->gradients->silu_mul_dx(gate, up, gate, up, t->df + at, ffn);
		else
			t->gradients->gelu_mul_dx(gate, up, gate, up, t->df + at, ffn);
		if (p->fill_x)
			norm_again(p, p->kept->middle, p->w->ffn_norm, r);
	}
	ol_tape_group_pull(p->t, &p->group, thread, row0, row1);
}

static void enter_o_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	ol_tape_group_drop(p->t, &p->above, thread, row0, row1);
	for (int r = row0; r < row1; r++) {
		join_row(p, p->kept->middle, p->w->ffn_norm, r);
		if (p->w->post_attention_norm)
			post_norm_row(p, p->kept->attention_y, p->w->post_attention_norm, r);
	}
	ol_tape_group_pull(p->t, &p->group, thread, row0, row1);
}

static void leave_o_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	ol_tape_group_drop(p->t, &p->above, thread, row0, row1);
}

/* One sequence and kv head. */
static void attention_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape *t = p->t;
	const struct ol_config *c = t->config;
	const struct ol_attention a = ol_attention_settings(c, OL_KV_F32, p->layer);
	const struct ol_tape_layer *kept = p->kept;
	const int sequence = index / c->kv_heads, head = index % c->kv_heads;
	const size_t row0 = (size_t)t->row_starts[sequence], d = (size_t)c->head_dim;
	const size_t q_width = (size_t)c->heads * d, kv_width = (size_t)c->kv_heads * d;
	const size_t q = row0 * q_width + (size_t)(head * a.group) * d;
	const size_t kv = row0 * kv_width + (size_t)head * d;
	t->gradients->attention_dx(t->dq + q, t->dk + kv, t->dv + kv, kept->q + q, kept->k + kv,
				   kept->v + kv, kept->o + q, t->d_o + q, q_width, kv_width, &a,
				   t->row_starts[sequence + 1] - t->row_starts[sequence],
				   ol_tape_scratch(t, thread));
}

/* Turns a row's heads back, then goes back through the head norms: into `raw`, from x. */
static void heads_back(const struct phase *p, float *grad, float *raw, const float *x,
		       const float *norm, float *inverse, int heads, const float *rope)
{
	const struct ol_tape *t = p->t;
	const int d = t->config->head_dim;
	for (int h = 0; h < heads; h++) {
		t->kernels->rope(grad + h * d, rope, rope + d, d / 2);
		if (norm)
			inverse[h] =
				t->gradients->rmsnorm_dx(raw + h * d, x + h * d, norm, grad + h * d,
							 d, t->config->norm_eps, false);
	}
}

static void enter_qkv_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	const struct ol_tape *t = p->t;
	const struct ol_config *c = t->config;
	const struct ol_tape_layer *kept = p->kept;
	const size_t d = (size_t)c->head_dim, heads = (size_t)c->heads,
		     kv_heads = (size_t)c->kv_heads;
	const float *ropes = ol_rope_is_local(c, p->layer) ? t->rope_local : t->rope;
	int row0, row1;
	ol_tape_tile(t, t->row_count, index, &row0, &row1);
	for (int r = row0; r < row1; r++) {
		const size_t row = (size_t)r, q = row * heads * d, k = row * kv_heads * d;
		const float *rope = ropes + row * (d / 2) * 3;
		const bool norms = kept->q_raw != NULL;
		/* With head norms attention's dy is not needed any more, and has q's shape. */
		heads_back(p, t->dq + q, t->d_o + q, norms ? kept->q_raw + q : NULL, p->w->q_norm,
			   t->inverse_q + row * heads, c->heads, rope);
		heads_back(p, t->dk + k, norms ? t->dk_raw + k : NULL,
			   norms ? kept->k_raw + k : NULL, p->w->k_norm,
			   t->inverse_k + row * kv_heads, c->kv_heads, rope);
		if (p->fill_x)
			norm_again(p, kept->x, p->w->attention_norm, r);
	}
	ol_tape_group_pull(p->t, &p->group, thread, row0, row1);
}

static void leave_piece(void *context, int index, int thread)
{
	const struct phase *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->t->row_count, index, &row0, &row1);
	ol_tape_group_drop(p->t, &p->above, thread, row0, row1);
	for (int r = row0; r < row1; r++)
		join_row(p, p->kept->x, p->w->attention_norm, r);
}

/* --- the halves ------------------------------------------------------------ */

static void enter_group(struct phase *p, enum ol_linear first, int level, const float *x, float *dx)
{
	p->above = p->group;
	ol_tape_group_init(&p->group, p->t, p->layer, first);
	p->group.x = x;
	p->group.dx = ol_tape_wanted_below(p->t, p->layer, level) ? dx : NULL;
	p->fill_x = ol_tape_group_reads_x(p->t, &p->group);
}

static void add_norm(struct phase *p, float *gradient, const float *dy, const float *x,
		     const float *inverse)
{
	ol_tape_add_vector(p->t, (struct ol_tape_vector){gradient, dy, x, inverse, p->t->row_count,
							 p->t->config->hidden});
}

/* False: nothing below is wanted. */
static bool ffn_half(struct phase *p)
{
	struct ol_tape *t = p->t;
	const int rows = t->row_count;

	enter_group(p, OL_LINEAR_DOWN, OL_LEVEL_DOWN, t->f, t->df);
	p->group.dy[0] = p->w->post_ffn_norm ? t->dy : t->dx;
	ol_tape_over_rows(t, rows, enter_down_piece, p);
	if (p->g && p->w->post_ffn_norm)
		add_norm(p, p->g->post_ffn_norm, t->dx, p->kept->ffn_y, t->inverse_post);
	ol_tape_group_spread(t, &p->group);
	if (!p->group.dx)
		return false;

	enter_group(p, OL_LINEAR_GATE, OL_LEVEL_GATE_UP, t->n, t->dn);
	p->group.dy[0] = p->kept->gate;
	p->group.dy[1] = p->kept->up;
	ol_tape_over_rows(t, rows, enter_gate_piece, p);
	ol_tape_group_spread(t, &p->group);
	return p->group.dx != NULL;
}

static void add_qkv_vectors(struct phase *p)
{
	struct ol_tape *t = p->t;
	const struct ol_config *c = t->config;
	const int d = c->head_dim, rows = t->row_count;
	if (!p->g)
		return;
	if (p->kept->q_raw) {
		ol_tape_add_vector(t, (struct ol_tape_vector){p->g->q_norm, t->dq, p->kept->q_raw,
							      t->inverse_q, rows * c->heads, d});
		ol_tape_add_vector(t, (struct ol_tape_vector){p->g->k_norm, t->dk, p->kept->k_raw,
							      t->inverse_k, rows * c->kv_heads, d});
	}
	ol_tape_add_vector(t, (struct ol_tape_vector){p->g->q_bias, p->group.dy[0], NULL, NULL,
						      rows, c->heads * d});
	ol_tape_add_vector(t, (struct ol_tape_vector){p->g->k_bias, p->group.dy[1], NULL, NULL,
						      rows, c->kv_heads * d});
	ol_tape_add_vector(t, (struct ol_tape_vector){p->g->v_bias, p->group.dy[2], NULL, NULL,
						      rows, c->kv_heads * d});
}

static bool attention_half(struct phase *p)
{
	struct ol_tape *t = p->t;
	const int rows = t->row_count;

	enter_group(p, OL_LINEAR_O, OL_LEVEL_O, p->kept->o, t->d_o);
	p->group.dy[0] = p->w->post_attention_norm ? t->dy : t->dx;
	ol_tape_over_rows(t, rows, enter_o_piece, p);
	if (p->g) {
		add_norm(p, p->g->ffn_norm, t->dn, p->kept->middle, t->inverse);
		if (p->w->post_attention_norm)
			add_norm(p, p->g->post_attention_norm, t->dx, p->kept->attention_y,
				 t->inverse_post);
	}
	ol_tape_group_spread(t, &p->group);
	if (!p->group.dx)
		return false;

	enter_group(p, OL_LINEAR_Q, OL_LEVEL_QKV, t->n, t->dn);
	p->group.dy[0] = p->kept->q_raw ? t->d_o : t->dq;
	p->group.dy[1] = p->kept->k_raw ? t->dk_raw : t->dk;
	p->group.dy[2] = t->dv;
	if (t->dropout)
		ol_tape_over_rows(t, rows, leave_o_piece, p);
	ol_pool_for(t->threads, t->batch->sequence_count * t->config->kv_heads, attention_piece, p);
	ol_tape_over_rows(t, rows, enter_qkv_piece, p);
	add_qkv_vectors(p);
	ol_tape_group_spread(t, &p->group);
	return p->group.dx != NULL;
}

/* The last gradients of the way down show whether any before them was broken. */
static void check_group(struct ol_tape *t, const struct ol_tape_group *g)
{
	for (int i = 0; i < g->count; i++) {
		const int row = ol_tape_broken_row(g->dy[i], g->rows, g->weights[i]->rows);
		if (row >= 0 && t->broken_sequence < 0)
			t->broken_sequence = t->sequence_of[row];
	}
}

bool ol_tape_layer_backward(struct ol_tape *t, int layer)
{
	const struct ol_weight_gradients *all = t->request->weights;
	struct phase p = {
		.t = t,
		.layer = layer,
		.w = &t->weights->layers[layer],
		.g = all ? &all->layers[layer] : NULL,
		.kept = &t->layers[layer],
	};
	if (t->recompute && t->held_layer != layer)
		ol_tape_layer_forward(t, layer, true);
	if (!ffn_half(&p) || !attention_half(&p)) {
		check_group(t, &p.group);
		return false;
	}
	p.above = p.group;
	ol_tape_over_rows(t, t->row_count, leave_piece, &p);
	if (p.g)
		add_norm(&p, p.g->attention_norm, t->dn, p.kept->x, t->inverse);
	return ol_tape_wanted_below(t, layer, OL_LEVEL_ATTENTION_NORM);
}
