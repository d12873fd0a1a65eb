/* attrib/influence.c: EK-FAC influence for adapters of which only B was trained. */
#include "attrib/influence.h"

#include "base/arena.h"
#include "math/eigen.h"
#include "math/functions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Second moments below this part of a linear's largest count as this: v^(-1/4) must not explode
 * where a weight was hardly ever moved. */
static const double MOMENT_FLOOR = 0x1p-40;

/* One adapted linear. */
struct factor {
	int outputs, rank;
	size_t offset;             /* of its (outputs, rank) floats in a row of gradients      */
	float scale;               /* of the adapter                                           */
	float *row_scale;          /* (outputs) a: v^(-1/4) is about a[o] b[r]                 */
	float *column_scale;       /* (rank) b, times the adapter's scale                      */
	float *cov_dy, *cov_h;     /* (outputs, outputs), (rank, rank) sums over rows          */
	struct ol_matrix basis_dy; /* eigenvectors as rows, f32 panels                         */
	struct ol_matrix basis_h;
	float *weight; /* (outputs, rank) sums of squares, then (F + lambda)^(-1/2)            */
};

struct ol_influence {
	const struct ol_kernels *kernels;
	const struct ol_gradients *gradients;
	struct ol_pool *threads;
	const struct ol_config *config;
	struct factor *factors; /* ol_linear_count(); rank 0: not adapted */
	int factor_count, rows_max, outputs_max, rank_max;
	size_t floats;
	enum ol_influence_phase phase;
	float *dy, *h;               /* (rows, outputs), (rows, rank): scaled        */
	float *turned_dy, *turned_h; /* the same in the eigenbases                   */
	void *act;
	float *const *out; /* of ol_influence_collect */
	const int *out_rows;
	int out_count;
};

/* --- life ------------------------------------------------------------------ */

static void release_factor(struct factor *f)
{
	free(f->row_scale);
	free(f->column_scale);
	free(f->cov_dy);
	free(f->cov_h);
	free(f->weight);
	free((void *)(uintptr_t)f->basis_dy.panels);
	free((void *)(uintptr_t)f->basis_h.panels);
}

void ol_influence_close(struct ol_influence *in)
{
	if (!in)
		return;
	for (int i = 0; in->factors && i < in->factor_count; i++)
		release_factor(&in->factors[i]);
	free(in->factors);
	free(in->dy);
	free(in->h);
	free(in->turned_dy);
	free(in->turned_h);
	free(in->act);
	free(in);
}

/* Panels of an (n,n) f32 matrix, to be filled. */
static bool open_basis(struct ol_matrix *basis, int n)
{
	void *panels = aligned_alloc(64, (ol_panels_bytes(OL_WEIGHT_F32, n, n) + 63) / 64 * 64);
	*basis = (struct ol_matrix){OL_WEIGHT_F32, n, n, panels};
	return panels != NULL;
}

/* log v^(-1/4) fitted by a row term plus a column term: its two-way means. */
static bool fit_scales(struct factor *f, const float *moments)
{
	const int outputs = f->outputs, rank = f->rank;
	double *rows = calloc((size_t)(outputs + rank), sizeof *rows), *columns = rows + outputs;
	if (!rows)
		return false;
	double largest = 0.0, mean = 0.0;
	for (int i = 0; moments && i < outputs * rank; i++)
		largest = OL_MAX(largest, (double)moments[i]);
	for (int o = 0; o < outputs && largest > 0.0; o++) {
		for (int r = 0; r < rank; r++) {
			const double v =
				OL_MAX((double)moments[o * rank + r] / largest, MOMENT_FLOOR);
			const double x = -0.25 * ol_log(v);
			rows[o] += x / rank;
			columns[r] += x / outputs;
			mean += x / ((double)outputs * rank);
		}
	}
	/* Linears keep their sizes against each other: the largest moment was divided out. */
	const double unit = largest > 0.0 ? -0.25 * ol_log(largest) : 0.0;
	for (int o = 0; o < outputs; o++)
		f->row_scale[o] = (float)ol_exp(rows[o] + unit - mean);
	for (int r = 0; r < rank; r++)
		f->column_scale[r] = (float)ol_exp(columns[r]) * f->scale;
	free(rows);
	return true;
}

static bool open_factor(struct factor *f, const struct ol_lora_view *view, const float *moments)
{
	const size_t outputs = (size_t)view->b.rows, rank = (size_t)view->rank;
	f->outputs = view->b.rows;
	f->rank = view->rank;
	f->scale = view->scale;
	f->row_scale = calloc(outputs, sizeof(float));
	f->column_scale = calloc(rank, sizeof(float));
	f->cov_dy = calloc(outputs * outputs, sizeof(float));
	f->cov_h = calloc(rank * rank, sizeof(float));
	f->weight = calloc(outputs * rank, sizeof(float));
	return f->row_scale && f->column_scale && f->cov_dy && f->cov_h && f->weight &&
	       open_basis(&f->basis_dy, f->outputs) && open_basis(&f->basis_h, f->rank) &&
	       fit_scales(f, moments);
}

static bool open_scratch(struct ol_influence *in)
{
	const size_t rows = (size_t)in->rows_max, wide = (size_t)in->outputs_max;
	const size_t rank = (size_t)in->rank_max;
	const int act_width = OL_MAX(in->outputs_max, in->rank_max);
	const size_t act = in->kernels->act_bytes(OL_WEIGHT_F32, in->rows_max, act_width);
	in->dy = malloc(rows * wide * sizeof(float));
	in->turned_dy = malloc(rows * wide * sizeof(float));
	in->h = malloc(rows * rank * sizeof(float));
	in->turned_h = malloc(rows * rank * sizeof(float));
	in->act = aligned_alloc(64, (act + 63) / 64 * 64);
	return in->dy && in->turned_dy && in->h && in->turned_h && in->act;
}

enum ol_status ol_influence_open(struct ol_influence **influence_out,
				 const struct ol_config *config,
				 const struct ol_adapter_view *adapter,
				 const struct ol_influence_options *options, struct ol_error *err)
{
	struct ol_influence *in = calloc(1, sizeof *in);
	*influence_out = NULL;
	if (!in)
		return ol_fail(err, OL_ERR_FULL, "out of memory for influence scores");
	in->kernels = options->kernels ? options->kernels : ol_kernels_best();
	in->gradients = ol_gradients_for(in->kernels->isa);
	in->threads = options->threads;
	in->config = config;
	in->rows_max = options->rows_max;
	in->factor_count = config->layers * OL_LAYER_LINEARS;
	in->factors = calloc((size_t)in->factor_count, sizeof *in->factors);
	bool ok = in->factors != NULL;
	for (int i = 0; ok && i < in->factor_count; i++) {
		const struct ol_lora_view *view = &adapter->linears[i];
		if (view->rank == 0 || (options->linears && !options->linears[i]))
			continue;
		ok = open_factor(&in->factors[i], view,
				 options->second_moments ? options->second_moments[i] : NULL);
		in->factors[i].offset = in->floats;
		in->floats += (size_t)view->rank * (size_t)view->b.rows;
		in->outputs_max = OL_MAX(in->outputs_max, view->b.rows);
		in->rank_max = OL_MAX(in->rank_max, view->rank);
	}
	if (ok && in->floats == 0) {
		ol_influence_close(in);
		return ol_fail(err, OL_ERR_INPUT,
			       "the adapter adapts no layer, so nothing can be "
			       "attributed to its training examples");
	}
	if (!ok || !open_scratch(in)) {
		ol_influence_close(in);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the curvature of the adapter");
	}
	*influence_out = in;
	return OL_OK;
}

size_t ol_influence_floats(const struct ol_influence *in)
{
	return in->floats;
}

void ol_influence_begin(struct ol_influence *in, enum ol_influence_phase phase)
{
	in->phase = phase;
	in->out_count = 0;
}

void ol_influence_collect(struct ol_influence *in, float *const *out, const int *rows, int count)
{
	OL_ASSERT(in->phase == OL_INFLUENCE_PLAIN || in->phase == OL_INFLUENCE_GRADIENTS);
	in->out = out;
	in->out_rows = rows;
	in->out_count = count;
}

/* --- looking on -------------------------------------------------------------- */

/* A piece of work over one linear's rows: y += x1^T x2, or y = x basis^T. */
struct piece {
	const struct ol_influence *in;
	float *y;
	const float *left, *right;
	const struct ol_matrix *basis;
	int rows, outputs, columns, unit;
};

static void outer_piece(void *context, int index, int thread)
{
	const struct piece *p = context;
	const int o0 = index * p->unit, o1 = OL_MIN(o0 + p->unit, p->outputs);
	(void)thread;
	p->in->gradients->matmul_dw(p->y, p->left, (size_t)p->outputs, p->right, (size_t)p->columns,
				    p->rows, o0, o1, p->columns);
}

/* y (outputs, columns) += left^T right, over rows in order. */
static void add_outer(const struct ol_influence *in, float *y, const float *left, int outputs,
		      const float *right, int columns, int rows)
{
	const int unit = OL_MAX(16, outputs / (4 * ol_pool_threads(in->threads)));
	struct piece p = {.in = in,
			  .y = y,
			  .left = left,
			  .right = right,
			  .rows = rows,
			  .outputs = outputs,
			  .columns = columns,
			  .unit = unit};
	ol_pool_for(in->threads, (outputs + unit - 1) / unit, outer_piece, &p);
}

static void turn_piece(void *context, int index, int thread)
{
	const struct piece *p = context;
	(void)thread;
	const int panels = ol_panel_count(p->basis->rows);
	p->in->kernels->matmul(p->y, (size_t)p->basis->rows, p->in->act, p->basis, p->rows,
			       index * p->unit, OL_MIN((index + 1) * p->unit, panels));
}

/* y = x basis^T: coordinates in the eigenbasis. */
static void turn(const struct ol_influence *in, float *y, const float *x,
		 const struct ol_matrix *basis, int rows)
{
	const int panels = ol_panel_count(basis->rows);
	struct piece p = {.in = in, .y = y, .basis = basis, .rows = rows};
	p.unit = OL_MAX(1, panels / (2 * ol_pool_threads(in->threads)));
	in->kernels->act_prepare(in->act, OL_WEIGHT_F32, x, (size_t)basis->cols, rows, basis->cols,
				 0, rows);
	ol_pool_for(in->threads, (panels + p.unit - 1) / p.unit, turn_piece, &p);
}

static void scale_rows(float *y, const float *x, const float *scale, int rows, int n)
{
	for (int m = 0; m < rows; m++)
		for (int i = 0; i < n; i++)
			y[(size_t)m * (size_t)n + (size_t)i] =
				x[(size_t)m * (size_t)n + (size_t)i] * scale[i];
}

static void square(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] *= x[i];
}

/* The gradient of each sequence, out of its own rows. */
static void collect(const struct ol_influence *in, const struct factor *f, const float *dy,
		    const float *h)
{
	const size_t floats = (size_t)f->outputs * (size_t)f->rank;
	int row = 0;
	for (int s = 0; s < in->out_count; s++) {
		float *out = in->out[s] + f->offset;
		memset(out, 0, floats * sizeof *out);
		add_outer(in, out, dy + (size_t)row * (size_t)f->outputs, f->outputs,
			  h + (size_t)row * (size_t)f->rank, f->rank, in->out_rows[s]);
		if (in->phase == OL_INFLUENCE_GRADIENTS)
			for (size_t i = 0; i < floats; i++)
				out[i] *= f->weight[i];
		row += in->out_rows[s];
	}
}

void ol_influence_observe(void *influence, const struct ol_tape_view *view)
{
	struct ol_influence *in = influence;
	if (view->linear == OL_LINEAR_HEAD || !view->h)
		return;
	struct factor *f = &in->factors[ol_linear_index(in->config, view->layer, view->linear)];
	const size_t rows = (size_t)view->rows;
	if (f->rank == 0)
		return;
	OL_ASSERT(view->rows <= in->rows_max);
	if (in->phase == OL_INFLUENCE_PLAIN) {
		for (size_t i = 0; i < rows * (size_t)f->rank; i++)
			in->h[i] = view->h[i] * f->scale;
		collect(in, f, view->dy, in->h);
		return;
	}
	scale_rows(in->dy, view->dy, f->row_scale, view->rows, f->outputs);
	scale_rows(in->h, view->h, f->column_scale, view->rows, f->rank);
	if (in->phase == OL_INFLUENCE_FACTORS) {
		add_outer(in, f->cov_dy, in->dy, f->outputs, in->dy, f->outputs, view->rows);
		add_outer(in, f->cov_h, in->h, f->rank, in->h, f->rank, view->rows);
		return;
	}
	turn(in, in->turned_dy, in->dy, &f->basis_dy, view->rows);
	turn(in, in->turned_h, in->h, &f->basis_h, view->rows);
	if (in->phase == OL_INFLUENCE_GRADIENTS) {
		collect(in, f, in->turned_dy, in->turned_h);
		return;
	}
	square(in->turned_dy, rows * (size_t)f->outputs);
	square(in->turned_h, rows * (size_t)f->rank);
	add_outer(in, f->weight, in->turned_dy, f->outputs, in->turned_h, f->rank, view->rows);
}

/* --- curvature --------------------------------------------------------------- */

/* Eigenvectors of the symmetric (n,n) sums, as panels. */
static bool eigenbasis(struct ol_matrix *basis, const float *sums)
{
	const int n = basis->rows;
	const size_t size = (size_t)n * (size_t)n;
	double *a = malloc((2 * size + 5 * (size_t)n) * sizeof *a);
	float *rows = malloc(size * sizeof *rows);
	bool ok = a && rows;
	if (ok) {
		double *vectors = a + size, *values = vectors + size, *scratch = values + n;
		for (size_t i = 0; i < size; i++)
			a[i] = sums[i];
		ok = ol_eigen_symmetric(values, vectors, a, n, scratch);
		for (size_t i = 0; ok && i < size; i++)
			rows[i] = (float)vectors[i];
	}
	if (ok) {
		void *panels = (void *)(uintptr_t)basis->panels;
		ol_panels_clear(panels, OL_WEIGHT_F32, n, n);
		ol_pack_rows(panels, OL_WEIGHT_F32, n, n, rows, 0, n);
	}
	free(a);
	free(rows);
	return ok;
}

struct bases {
	struct ol_influence *in;
	bool *failed;
};

static void eigenbasis_piece(void *context, int index, int thread)
{
	const struct bases *b = context;
	struct factor *f = &b->in->factors[index];
	(void)thread;
	b->failed[index] = f->rank > 0 && (!eigenbasis(&f->basis_dy, f->cov_dy) ||
					   !eigenbasis(&f->basis_h, f->cov_h));
}

enum ol_status ol_influence_factorise(struct ol_influence *in, struct ol_error *err)
{
	struct bases b = {in, calloc((size_t)in->factor_count, sizeof(bool))};
	if (!b.failed)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the curvature's eigenvectors");
	ol_pool_for(in->threads, in->factor_count, eigenbasis_piece, &b);
	enum ol_status s = OL_OK;
	for (int i = 0; i < in->factor_count && s == OL_OK; i++)
		if (b.failed[i])
			s = ol_fail(err, OL_ERR_INPUT,
				    "layer %d, %s: the gradients' covariance has no eigenvectors; "
				    "the adapter or its base holds values that are not finite",
				    i / OL_LAYER_LINEARS,
				    ol_linear_name((enum ol_linear)(i % OL_LAYER_LINEARS)));
	free(b.failed);
	return s;
}

void ol_influence_precondition(struct ol_influence *in, double tokens, double damping)
{
	for (int i = 0; i < in->factor_count; i++) {
		struct factor *f = &in->factors[i];
		const int n = f->outputs * f->rank;
		double mean = 0.0;
		for (int j = 0; j < n; j++)
			mean += (double)f->weight[j] / tokens / n;
		for (int j = 0; j < n; j++) {
			const double value = (double)f->weight[j] / tokens + damping * mean;
			f->weight[j] = value > 0.0 ? (float)(1.0 / sqrt(value)) : 0.0f;
		}
	}
}

bool ol_influence_factor(const struct ol_influence *in, int linear,
			 struct ol_influence_factor *factor_out)
{
	if (linear >= in->factor_count || in->factors[linear].rank == 0)
		return false;
	const struct factor *f = &in->factors[linear];
	*factor_out = (struct ol_influence_factor){f->outputs, f->rank, &f->basis_dy, &f->basis_h,
						   f->weight};
	return true;
}
