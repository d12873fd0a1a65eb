/* The output head over the rows that have a target, some at a time: logits are never whole in
 * memory. */
#include <string.h>

#include "model/tape_internal.h"

struct head {
	struct ol_tape *t;
	bool backward;
	struct ol_tape_group group;
};

static void gather_piece(void *context, int index, int thread)
{
	const struct head *p = context;
	const struct ol_tape *t = p->t;
	const size_t hidden = (size_t)t->config->hidden;
	int row0, row1;
	ol_tape_tile(t, p->group.rows, index, &row0, &row1);
	for (int r = row0; r < row1; r++)
		memcpy(t->head_x + (size_t)r * hidden,
		       t->hidden + (size_t)p->group.row_ids[r] * hidden, hidden * sizeof(float));
	ol_tape_group_read(p->t, &p->group, thread, row0, row1);
}

static void loss_piece(void *context, int index, int thread)
{
	const struct head *p = context;
	const struct ol_tape *t = p->t;
	const int vocab = t->config->vocab_size, row = p->group.row_ids[index];
	const float cap = t->config->logit_softcap;
	float *logits = t->logits + (size_t)index * (size_t)vocab;
	if (cap > 0.0f)
		t->kernels->softcap(logits, cap, vocab);
	if (!p->backward) {
		t->head_losses[index] =
			t->gradients->cross_entropy(NULL, logits, vocab, t->targets[row], 0.0f);
		return;
	}
	float *capped = ol_tape_tile_memory(t, thread);
	if (cap > 0.0f)
		memcpy(capped, logits, (size_t)vocab * sizeof *capped);
	t->head_losses[index] = t->gradients->cross_entropy(logits, logits, vocab, t->targets[row],
							    t->request->row_weights[row]);
	if (cap > 0.0f)
		t->gradients->softcap_dx(logits, logits, capped, cap, vocab);
}

static void pull_piece(void *context, int index, int thread)
{
	const struct head *p = context;
	int row0, row1;
	ol_tape_tile(p->t, p->group.rows, index, &row0, &row1);
	ol_tape_group_pull(p->t, &p->group, thread, row0, row1);
}

static void scatter_piece(void *context, int index, int thread)
{
	const struct head *p = context;
	const struct ol_tape *t = p->t;
	const size_t hidden = (size_t)t->config->hidden;
	int row0, row1;
	ol_tape_tile(t, p->group.rows, index, &row0, &row1);
	ol_tape_group_drop(p->t, &p->group, thread, row0, row1);
	for (int r = row0; r < row1; r++)
		memcpy(t->dn + (size_t)p->group.row_ids[r] * hidden,
		       t->head_dx + (size_t)r * hidden, hidden * sizeof(float));
}

static void head_backward(struct head *p)
{
	struct ol_tape *t = p->t;
	const bool below = ol_tape_wanted_below(t, t->config->layers, 1);
	p->group.dy[0] = t->logits;
	p->group.dx = below ? t->head_dx : NULL;
	ol_tape_over_rows(t, p->group.rows, pull_piece, p);
	ol_tape_group_spread(t, &p->group);
	if (below)
		ol_tape_over_rows(t, p->group.rows, scatter_piece, p);
}

void ol_tape_head(struct ol_tape *t, float *losses, bool backward)
{
	const size_t rows = (size_t)t->row_count;
	struct head p = {.t = t, .backward = backward};
	if (losses)
		memset(losses, 0, rows * sizeof *losses);
	if (backward)
		memset(t->dn, 0, rows * (size_t)t->config->hidden * sizeof *t->dn);
	for (int begin = 0; begin < t->target_count; begin += t->head_rows) {
		const int count = OL_MIN(t->head_rows, t->target_count - begin);
		ol_tape_group_init(&p.group, t, t->config->layers, OL_LINEAR_HEAD);
		p.group.rows = count;
		p.group.row_ids = t->target_rows + begin;
		p.group.x = t->head_x;
		p.group.y[0] = t->logits;
		ol_tape_over_rows(t, count, gather_piece, &p);
		ol_tape_group_multiply(t, &p.group);
		ol_pool_for(t->threads, count, loss_piece, &p);
		for (int i = 0; i < count; i++) {
			const int row = t->target_rows[begin + i];
			if (losses)
				losses[row] = t->head_losses[i];
			if (t->broken_sequence < 0 && !ol_all_finite(&t->head_losses[i], 1))
				t->broken_sequence = t->sequence_of[row];
		}
		if (backward && t->broken_sequence < 0)
			head_backward(&p);
	}
}
