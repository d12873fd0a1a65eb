#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { ALIGN_FLOATS = 16, PIECE_FLOATS = 1 << 16 };

static int compare_params(const void *a, const void *b)
{
	const struct ol_param *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static int32_t piece_rows(const struct ol_param *p)
{
	const int32_t panels = (int32_t)OL_MAX(PIECE_FLOATS / (OL_PANEL * p->cols), 1);
	return OL_MIN(panels * OL_PANEL, p->rows);
}

static bool cut_pieces(struct ol_params *params)
{
	int count = 0;
	for (int i = 0; i < params->count; i++) {
		const int32_t rows = piece_rows(&params->list[i]);
		count += (params->list[i].rows + rows - 1) / rows;
	}
	params->pieces = calloc((size_t)count, sizeof *params->pieces);
	if (!params->pieces)
		return false;
	for (int i = 0; i < params->count; i++) {
		const struct ol_param *p = &params->list[i];
		const int32_t most = piece_rows(p);
		for (int32_t row = 0; row < p->rows; row += most)
			params->pieces[params->piece_count++] =
				(struct ol_param_piece){i, row, OL_MIN(most, p->rows - row)};
	}
	return true;
}

enum ol_status ol_params_init(struct ol_params *params, struct ol_param *list, int count,
			      struct ol_error *err)
{
	OL_ASSERT(count > 0);
	*params = (struct ol_params){.list = list, .count = count};
	qsort(list, (size_t)count, sizeof *list, compare_params);
	for (int i = 0; i < count; i++) {
		OL_ASSERT(i == 0 || strcmp(list[i - 1].name, list[i].name) < 0);
		list[i].count = (size_t)list[i].rows * (size_t)list[i].cols;
		list[i].offset = params->floats;
		params->floats += (list[i].count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
	}
	const size_t bytes = params->floats * sizeof(float);
	params->w = ol_block_alloc(bytes);
	params->g = ol_block_alloc(bytes);
	params->m = ol_block_alloc(bytes);
	params->v = ol_block_alloc(bytes);
	params->squares = calloc((size_t)count, sizeof *params->squares);
	if (params->w && params->g && params->m && params->v && params->squares &&
	    cut_pieces(params))
		return OL_OK;
	ol_params_release(params);
	return ol_fail(err, OL_ERR_FULL, "out of memory for %zu MB of weights and their moments",
		       4 * bytes >> 20);
}

void ol_params_release(struct ol_params *params)
{
	const size_t bytes = params->floats * sizeof(float);
	ol_block_free(params->w, bytes);
	ol_block_free(params->g, bytes);
	ol_block_free(params->m, bytes);
	ol_block_free(params->v, bytes);
	free(params->squares);
	free(params->pieces);
	free(params->list);
	*params = (struct ol_params){0};
}

int ol_params_find(const struct ol_params *params, const char *name)
{
	int low = 0, high = params->count;
	while (low < high) {
		const int middle = low + (high - low) / 2;
		const int order = strcmp(params->list[middle].name, name);
		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

uint64_t ol_params_trained(const struct ol_params *params)
{
	uint64_t sum = 0;
	for (int i = 0; i < params->count; i++)
		sum += params->list[i].trained ? params->list[i].count : 0;
	return sum;
}

/* ---- Over all tensors, by many threads ---------------------------------------------------- */

struct job {
	struct ol_params *params;
	const struct ol_gradients *kernels;
	struct ol_adamw step;
	float weight_decay;
};

static size_t piece_offset(const struct ol_params *params, const struct ol_param_piece *piece)
{
	const struct ol_param *p = &params->list[piece->param];
	return p->offset + (size_t)piece->row0 * (size_t)p->cols;
}

static size_t piece_count(const struct ol_params *params, const struct ol_param_piece *piece)
{
	return (size_t)piece->rows * (size_t)params->list[piece->param].cols;
}

static void clear_piece(void *context, int index, int thread)
{
	struct ol_params *params = context;
	const struct ol_param_piece *piece = &params->pieces[index];
	(void)thread;
	if (params->list[piece->param].trained)
		memset(params->g + piece_offset(params, piece), 0,
		       piece_count(params, piece) * sizeof *params->g);
}

void ol_params_clear_gradients(struct ol_params *params, struct ol_pool *pool)
{
	ol_pool_for(pool, params->piece_count, clear_piece, params);
}

static void square_param(void *context, int index, int thread)
{
	const struct job *job = context;
	const struct ol_param *p = &job->params->list[index];
	(void)thread;
	job->params->squares[index] =
		p->trained ? job->kernels->sum_squares(job->params->g + p->offset, p->count) : 0;
}

double ol_params_norm(struct ol_params *params, struct ol_pool *pool,
		      const struct ol_gradients *kernels)
{
	struct job job = {.params = params, .kernels = kernels};
	double sum = 0;
	ol_pool_for(pool, params->count, square_param, &job);
	for (int i = 0; i < params->count; i++)
		if (params->list[i].trained)
			sum += params->squares[i];
	return sqrt(sum);
}

static void step_piece(void *context, int index, int thread)
{
	const struct job *job = context;
	struct ol_params *params = job->params;
	const struct ol_param_piece *piece = &params->pieces[index];
	const struct ol_param *p = &params->list[piece->param];
	const size_t at = piece_offset(params, piece);
	struct ol_adamw step = job->step;
	(void)thread;
	if (!p->trained)
		return;
	step.weight_decay = p->decays ? job->weight_decay : 0;
	job->kernels->adamw(params->w + at, params->m + at, params->v + at, params->g + at,
			    piece_count(params, piece), &step);
}

void ol_optimizer_step(struct ol_optimizer *optimizer, struct ol_params *params,
		       struct ol_pool *pool, const struct ol_gradients *kernels,
		       const struct ol_optimizer_settings *s, double norm)
{
	optimizer->beta1_power *= (double)s->beta1;
	optimizer->beta2_power *= (double)s->beta2;
	const bool clips = s->clip_norm > 0 && norm > (double)s->clip_norm;
	struct job job = {
		.params = params,
		.kernels = kernels,
		.weight_decay = s->weight_decay,
		.step = {.learning_rate = s->learning_rate,
			 .beta1 = s->beta1,
			 .beta2 = s->beta2,
			 .eps = s->eps,
			 .grad_scale = clips ? (float)((double)s->clip_norm / norm) : 1,
			 .correction1 = (float)(1 - optimizer->beta1_power),
			 .correction2 = (float)(1 - optimizer->beta2_power)},
	};
	ol_pool_for(pool, params->piece_count, step_piece, &job);
}
