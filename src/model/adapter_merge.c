/* W + scale B A, row by row, as a new model file.
 *
 * A merged row is what the LoRA kernel makes of W's row as y, B's row as h and A's columns as the
 * outputs of B: y[k] = fma(scale, chain over r of B[o][r] A[r][k], y[k]). */
#include "model/adapter_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "math/kernels.h"
#include "model/model_internal.h"

struct merge {
	const struct ol_model *base;
	const struct ol_adapter *adapter;
	const struct ol_kernels *kernels;
	int prepared;       /* index of the linear whose A is transposed now, or -1 */
	struct ol_matrix a; /* (inputs, rank) */
	void *panels;
	size_t panels_bytes;
	uint8_t *canonical; /* rows of the base's tensor */
	float *rows, *b;    /* (rows, cols), (rows, rank) */
};

/* Which linear a tensor is, as an index of the adapter's tables; -1: none. */
static int linear_of(const struct merge *m, const struct ol_tensor *t)
{
	for (int i = 0; i < OL_LINEARS; i++)
		if (ol_linear_role((enum ol_linear)i) == t->role)
			return ol_linear_index(&m->base->config, OL_MAX(t->layer, 0),
					       (enum ol_linear)i);
	return -1;
}

static bool prepare(struct merge *m, int index, int inputs)
{
	const struct ol_lora_tensors *t = &m->adapter->tensors[index];
	const size_t rank = (size_t)t->rank, columns = (size_t)inputs;
	if (m->prepared == index)
		return true;
	ol_block_free(m->panels, m->panels_bytes);
	m->panels_bytes = ol_panels_bytes(OL_WEIGHT_BF16, inputs, t->rank);
	m->panels = ol_block_alloc(m->panels_bytes);
	uint16_t *turned = malloc(rank * columns * sizeof *turned);
	const bool ok = m->panels && turned;
	for (size_t r = 0; ok && r < rank; r++)
		for (size_t k = 0; k < columns; k++)
			turned[k * rank + r] = t->a[r * columns + k];
	if (ok) {
		m->a = (struct ol_matrix){OL_WEIGHT_BF16, inputs, t->rank, m->panels};
		ol_panels_clear(m->panels, OL_WEIGHT_BF16, inputs, t->rank);
		ol_pack_rows(m->panels, OL_WEIGHT_BF16, inputs, t->rank, turned, 0, inputs);
		m->prepared = index;
	}
	free(turned);
	return ok;
}

static void add_product(struct merge *m, int index, int row0, int count)
{
	const struct ol_lora_tensors *t = &m->adapter->tensors[index];
	const size_t rank = (size_t)t->rank;
	for (size_t i = 0; i < (size_t)count * rank; i++)
		m->b[i] = ol_bf16_to_f32(t->b[(size_t)row0 * rank + i]);
	m->kernels->lora_up(m->rows, (size_t)m->a.rows, m->b, rank, &m->a, t->scale, count, 0,
			    ol_panel_count(m->a.rows));
}

/* An ol_rows_fn: rows of a tensor of the merged model. */
static enum ol_status merged_rows(void *context, const struct ol_tensor *tensor, void *canonical,
				  int row0, int count, struct ol_error *err)
{
	struct merge *m = context;
	const struct ol_layout *layout = &m->base->layout;
	const int index = linear_of(m, tensor);
	const size_t cols = (size_t)tensor->cols;
	const size_t row_bytes = ol_canonical_row_bytes(tensor->type, tensor->cols);
	int at = ol_layout_find(layout, tensor->role, tensor->layer);
	if (at < 0 && tensor->role == OL_TENSOR_HEAD) /* was tied, and is apart now */
		at = ol_layout_find(layout, OL_TENSOR_EMBED, -1);
	OL_ASSERT(at >= 0);
	const struct ol_tensor *source = &layout->tensors[at];
	const size_t source_bytes = ol_canonical_row_bytes(source->type, source->cols);
	const bool adapted = index >= 0 && m->adapter->tensors[index].rank > 0;
	enum ol_status s =
		ol_model_rows((void *)(uintptr_t)m->base, source, m->canonical, row0, count, err);
	for (int r = 0; s == OL_OK && r < count; r++)
		ol_dequantize_row(m->rows + (size_t)r * cols, source->type,
				  m->canonical + (size_t)r * source_bytes, source->cols);
	if (s == OL_OK && adapted) {
		if (!prepare(m, index, tensor->cols))
			return ol_fail(err, OL_ERR_FULL, "out of memory while merging %s",
				       tensor->name);
		add_product(m, index, row0, count);
	}
	for (int r = 0; s == OL_OK && r < count; r++)
		if (!ol_quantize_row((uint8_t *)canonical + (size_t)r * row_bytes, tensor->type,
				     m->rows + (size_t)r * cols, tensor->cols))
			s = ol_fail(err, OL_ERR_INPUT,
				    "%s: row %d of the merged matrix does not fit %s", tensor->name,
				    row0 + r, ol_weight_type_name(tensor->type));
	return s;
}

/* Room for the chunks in which ol_model_write asks for rows. */
static bool allocate(struct merge *m, const struct ol_config *config, enum ol_weight_type type)
{
	struct ol_layout layout;
	size_t rows = 1, values = 1, bytes = 1;
	if (!ol_layout_init(&layout, config, type))
		return false;
	for (int i = 0; i < layout.count; i++) {
		const struct ol_tensor *t = &layout.tensors[i];
		const size_t chunk = (size_t)ol_tensor_chunk_rows(t);
		rows = OL_MAX(rows, chunk);
		values = OL_MAX(values, chunk * (size_t)t->cols);
		/* No type is wider than f32. */
		bytes = OL_MAX(bytes, chunk * ol_canonical_row_bytes(OL_WEIGHT_F32, t->cols));
		bytes = OL_MAX(bytes, chunk * ol_canonical_row_bytes(OL_WEIGHT_Q8, t->cols));
	}
	ol_layout_release(&layout);
	m->canonical = malloc(bytes);
	m->rows = malloc(values * sizeof *m->rows);
	m->b = malloc(rows * (size_t)OL_MAX(m->adapter->view.rank_max, 1) * sizeof *m->b);
	return m->canonical && m->rows && m->b;
}

enum ol_status ol_adapter_merge(const char *output, const struct ol_model *base,
				const struct ol_adapter *adapter, enum ol_weight_type type,
				struct ol_error *err)
{
	struct merge m = {
		.base = base, .adapter = adapter, .kernels = ol_kernels_best(), .prepared = -1};
	struct ol_config config = base->config;
	OL_ASSERT(adapter->count == ol_linear_count(&config));
	if (adapter->config.targets & OL_TARGETS_HEAD)
		config.tied_embeddings = false;
	const struct ol_model_source source = {
		.config = &config,
		.type = type,
		.texts = base->texts,
		.text_count = base->text_count,
		.rows = merged_rows,
		.context = &m,
	};
	const enum ol_status s =
		allocate(&m, &config, type)
			? ol_model_write(output, &source, err)
			: ol_fail(err, OL_ERR_FULL, "out of memory while merging an adapter");
	free(m.b);
	free(m.rows);
	free(m.canonical);
	ol_block_free(m.panels, m.panels_bytes);
	return s;
}
