/* The examples that did most for an answer: for people to look at, never for pay. */
#include "attrib/answer_internal.h"

#include <stdlib.h>
#include <string.h>

struct candidate {
	double value;
	uint32_t example;
};

static int by_value(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	if (x->value != y->value)
		return x->value > y->value ? -1 : 1;
	return x->example < y->example ? -1 : x->example > y->example;
}

/* The sketch of the answer: of the sum of its blocks. */
static enum ol_status sketch_answer(uint8_t sketch[OL_SKETCH_BYTES],
				    const struct ol_row_layout *layout, const uint8_t *rows,
				    struct ol_error *err)
{
	const size_t values = (size_t)layout->values, stride = ol_row_bytes(layout);
	float *sum = calloc(values, sizeof *sum), *one = malloc(values * sizeof *one);
	uint8_t *row = aligned_alloc(OL_ROW_ALIGN, stride);
	struct ol_sketch_plan plan = {0};
	enum ol_status s = OL_OK;
	if (!sum || !one || !row || !ol_sketch_plan_init(&plan, layout->values))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for a sketch");
	for (size_t b = 0; s == OL_OK && b < OL_SCORE_BLOCKS; b++) {
		ol_row_dequantize(layout, one, rows + b * stride);
		for (size_t i = 0; i < values; i++)
			sum[i] += one[i];
	}
	if (s == OL_OK && !ol_row_quantize(layout, row, sum))
		s = ol_fail(err, OL_ERR_INPUT, "the answer's gradient is not finite");
	if (s == OL_OK)
		ol_sketch_make(&plan, layout, sketch, row);
	ol_sketch_plan_release(&plan);
	free(sum);
	free(one);
	free(row);
	return s;
}

/* Examples that stand for their clusters; all of them, or those whose sketches say most. */
static enum ol_status shortlist(struct candidate *list, uint32_t *count_out,
				const struct ol_index_content *c,
				const struct ol_row_kernels *kernels, const uint8_t *rows,
				struct ol_error *err)
{
	uint8_t sketch[OL_SKETCH_BYTES];
	uint32_t n = 0;
	for (uint32_t i = 0; i < c->example_count; i++)
		if (c->examples[i].cluster == i)
			list[n++] = (struct candidate){0.0, i};
	*count_out = n;
	if (n <= OL_ATTRIBUTION_SCAN)
		return OL_OK;
	const enum ol_status s = sketch_answer(sketch, &c->layout, rows, err);
	for (uint32_t i = 0; s == OL_OK && i < n; i++)
		list[i].value = ol_sketch_dot(
			kernels, sketch, c->sketches + (size_t)list[i].example * OL_SKETCH_BYTES);
	if (s == OL_OK)
		qsort(list, n, sizeof *list, by_value);
	*count_out = OL_ATTRIBUTION_SHORTLIST;
	return s;
}

/* From the rows themselves. A row that the file should not hold scores nothing. */
static double exact(const struct ol_index_content *c, const struct ol_row_kernels *kernels,
		    const uint8_t *rows, uint32_t example)
{
	const uint8_t *row = c->example_rows + (size_t)example * ol_row_bytes(&c->layout);
	double blocks[OL_ROW_BLOCKS], sum = 0.0;
	if (!ol_row_check(&c->layout, row))
		return 0.0;
	ol_row_dot_blocks(kernels, &c->layout, blocks, rows, row);
	for (int b = 0; b < OL_ROW_BLOCKS; b++)
		sum += blocks[b];
	return sum / (double)c->answer_tokens;
}

enum ol_status ol_attribution_find_top(struct ol_attribution *out,
				       const struct ol_attribution_query *q,
				       const struct ol_row_kernels *kernels, const uint8_t *rows,
				       struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(q->index);
	const uint32_t wanted = (uint32_t)OL_MIN(OL_MAX(q->top, 0), OL_ATTRIBUTION_TOP_MAX);
	uint32_t count = 0;
	for (uint32_t i = 0; q->scores && i < c->example_count; i++)
		q->scores[i] = exact(c, kernels, rows, i);
	if (wanted == 0)
		return OL_OK;
	struct candidate *list = malloc((size_t)c->example_count * sizeof *list);
	out->top = calloc(wanted, sizeof *out->top);
	enum ol_status s = list && out->top
				   ? shortlist(list, &count, c, kernels, rows, err)
				   : ol_fail(err, OL_ERR_FULL, "out of memory for examples");
	for (uint32_t i = 0; s == OL_OK && i < count; i++)
		list[i].value = exact(c, kernels, rows, list[i].example) *
				(double)c->examples[list[i].example].clip;
	if (s == OL_OK)
		qsort(list, count, sizeof *list, by_value);
	for (uint32_t i = 0; s == OL_OK && i < OL_MIN(wanted, count); i++) {
		struct ol_attributed_example *top = &out->top[out->top_count++];
		top->example = list[i].example;
		s = ol_score_fix(&top->score, list[i].value, err);
	}
	free(list);
	return s;
}
