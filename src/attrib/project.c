#include "attrib/project.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

struct part {
	const struct ol_index_part *own; /* NULL: not looked at */
	struct ol_matrix inward;         /* panels              */
	uint32_t begin;                  /* of its values in a row */
};

struct ol_projector {
	const struct ol_kernels *kernels;
	const struct ol_gradients *gradients;
	struct ol_pool *threads;
	const struct ol_config *config;
	struct part *parts; /* by ol_linear_index */
	bool *observed;
	int linear_count, rows_max, outputs_max, rank_max;
	size_t values;
	float *turned;  /* (rows, rank)                      */
	float *scratch; /* (threads) of (outputs, rank)      */
	/* of ol_projector_begin */
	float *out;
	const struct ol_cut *cuts;
	int cut_count;
};

static bool open_part(struct part *part, const struct ol_index_part *own, uint32_t begin)
{
	const int rank = own->rank;
	const size_t bytes = (ol_panels_bytes(OL_WEIGHT_F32, rank, rank) + 63) / 64 * 64;
	void *panels = aligned_alloc(64, bytes);
	*part = (struct part){own, {OL_WEIGHT_F32, rank, rank, panels}, begin};
	if (!panels)
		return false;
	ol_panels_clear(panels, OL_WEIGHT_F32, rank, rank);
	ol_pack_rows(panels, OL_WEIGHT_F32, rank, rank, own->inward, 0, rank);
	return true;
}

static enum ol_status check_part(const struct ol_config *config,
				 const struct ol_adapter_view *adapter,
				 const struct ol_index_part *part, struct ol_error *err)
{
	if (part->layer < config->layers && part->linear < OL_LAYER_LINEARS) {
		const struct ol_lora_view *view = &adapter->linears[ol_linear_index(
			config, part->layer, (enum ol_linear)part->linear)];
		if (view->rank == part->rank && view->b.rows == part->outputs &&
		    ol_float_bits(view->scale) == ol_float_bits(part->scale))
			return OL_OK;
	}
	return ol_fail(err, OL_ERR_INPUT,
		       "layer %d, %s: the attribution index is of an adapter of another shape; "
		       "build it again with `openledger index`",
		       part->layer, ol_linear_name((enum ol_linear)part->linear));
}

static enum ol_status open_parts(struct ol_projector *p, const struct ol_adapter_view *adapter,
				 const struct ol_index_part *parts,
				 const struct ol_row_layout *layout, struct ol_error *err)
{
	for (int i = 0; i < layout->parts; i++) {
		const enum ol_status s = check_part(p->config, adapter, &parts[i], err);
		if (s != OL_OK)
			return s;
		const int index =
			ol_linear_index(p->config, parts[i].layer, (enum ol_linear)parts[i].linear);
		if (!open_part(&p->parts[index], &parts[i], layout->begin[i]))
			return ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
		p->observed[index] = true;
		p->outputs_max = OL_MAX(p->outputs_max, parts[i].outputs);
		p->rank_max = OL_MAX(p->rank_max, parts[i].rank);
	}
	return OL_OK;
}

enum ol_status ol_projector_open(struct ol_projector **projector_out,
				 const struct ol_config *config,
				 const struct ol_adapter_view *adapter,
				 const struct ol_index_part *parts,
				 const struct ol_row_layout *layout,
				 const struct ol_projector_options *options, struct ol_error *err)
{
	struct ol_projector *p = calloc(1, sizeof *p);
	*projector_out = NULL;
	if (!p)
		return ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
	p->kernels = options->kernels ? options->kernels : ol_kernels_best();
	p->gradients = ol_gradients_for(p->kernels->isa);
	p->threads = options->threads;
	p->config = config;
	p->rows_max = options->rows_max;
	p->values = (size_t)layout->values;
	p->linear_count = ol_linear_count(config);
	p->parts = calloc((size_t)p->linear_count, sizeof *p->parts);
	p->observed = calloc((size_t)p->linear_count, sizeof *p->observed);
	enum ol_status s = p->parts && p->observed
				   ? open_parts(p, adapter, parts, layout, err)
				   : ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
	if (s == OL_OK) {
		const size_t rank = (size_t)p->rank_max, wide = (size_t)p->outputs_max;
		const size_t threads = (size_t)ol_pool_threads(p->threads);
		p->turned = malloc((size_t)p->rows_max * rank * sizeof(float));
		p->scratch = malloc(threads * wide * rank * sizeof(float));
		if (!p->turned || !p->scratch)
			s = ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
	}
	if (s == OL_OK)
		*projector_out = p;
	else
		ol_projector_close(p);
	return s;
}

void ol_projector_close(struct ol_projector *p)
{
	if (!p)
		return;
	for (int i = 0; p->parts && i < p->linear_count; i++)
		free((void *)(uintptr_t)p->parts[i].inward.panels);
	free(p->parts);
	free(p->observed);
	free(p->turned);
	free(p->scratch);
	free(p);
}

const bool *ol_projector_observed(const struct ol_projector *p)
{
	return p->observed;
}

void ol_projector_begin(struct ol_projector *p, float *out, const struct ol_cut *cuts, int count)
{
	p->out = out;
	p->cuts = cuts;
	p->cut_count = count;
	memset(out, 0, (size_t)count * p->values * sizeof *out);
}

struct piece {
	const struct ol_projector *p;
	const struct part *part;
	const struct ol_tape_view *view;
};

/* One cut of one linear. */
static void project_piece(void *context, int index, int thread)
{
	const struct piece *q = context;
	const struct ol_projector *p = q->p;
	const struct ol_index_part *part = q->part->own;
	const struct ol_cut *cut = &p->cuts[index];
	const size_t outputs = (size_t)part->outputs, rank = (size_t)part->rank;
	const size_t room = (size_t)p->outputs_max * (size_t)p->rank_max;
	float *g = p->scratch + (size_t)thread * room;
	float *row = p->out + (size_t)index * p->values + q->part->begin;
	if (cut->row1 <= cut->row0)
		return;
	OL_ASSERT(cut->row0 >= 0 && cut->row1 <= q->view->rows);
	memset(g, 0, outputs * rank * sizeof *g);
	p->gradients->matmul_dw(g, q->view->dy + (size_t)cut->row0 * outputs, outputs,
				p->turned + (size_t)cut->row0 * rank, rank, cut->row1 - cut->row0,
				0, part->outputs, part->rank);
	p->gradients->matmul_dw(row, part->outward, (size_t)part->kept, g, rank, part->outputs, 0,
				part->kept, part->rank);
	for (int i = 0; i < part->kept * part->rank; i++)
		row[i] = (row[i] * part->scale) * part->weight[i];
}

void ol_projector_observe(void *projector, const struct ol_tape_view *view)
{
	struct ol_projector *p = projector;
	struct part *part = &p->parts[ol_linear_index(p->config, view->layer, view->linear)];
	struct piece q = {p, part, view};
	if (!part->own)
		return;
	OL_ASSERT(view->h && view->rows <= p->rows_max);
	const size_t rank = (size_t)part->own->rank;
	p->kernels->lora_down(p->turned, rank, view->h, rank, &part->inward, view->rows);
	ol_pool_for(p->threads, p->cut_count, project_piece, &q);
}
