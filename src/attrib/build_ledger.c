/* From rows to a ledger: sketches, clusters, clips, payees, spans, and the file. */
#include "attrib/build_internal.h"
#include "attrib/clusters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ledger {
	struct ol_build *b;
	struct ol_index_payee *payees;
	struct ol_index_example *examples;
	struct ol_span_text *texts;
	int32_t *tokens;
	uint8_t *sketches, *payee_rows;
	uint32_t *clusters;
	struct ol_span_build spans;
	struct ol_index_content content;
};

/* ---- Who ------------------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
	const struct ol_index_payee *x = a, *y = b;
	return memcmp(x->id, y->id, sizeof x->id);
}

static uint32_t find_payee(const struct ledger *l, const char *contributor)
{
	struct ol_index_payee key = {0};
	ol_payee_id(key.id, contributor);
	const struct ol_index_payee *found =
		bsearch(&key, l->payees, l->content.payee_count, sizeof key, by_id);
	OL_ASSERT(found);
	return (uint32_t)(found - l->payees);
}

static bool make_payees(struct ledger *l)
{
	const struct ol_index_request *q = l->b->q;
	uint32_t count = 0;
	l->payees = calloc((size_t)q->source_count, sizeof *l->payees);
	if (!l->payees)
		return false;
	for (uint32_t i = 0; i < q->source_count; i++) {
		ol_payee_id(l->payees[i].id, q->sources[i].contributor);
		l->payees[i].name = q->sources[i].contributor;
	}
	qsort(l->payees, q->source_count, sizeof *l->payees, by_id);
	for (uint32_t i = 0; i < q->source_count; i++)
		if (count == 0 || by_id(&l->payees[count - 1], &l->payees[i]) != 0)
			l->payees[count++] = l->payees[i];
	l->content.payee_count = count;
	return true;
}

/* ---- What they said ------------------------------------------------------------------------- */

/* A sequence's tokens, and the last target, which nothing follows. */
static bool make_texts(struct ledger *l)
{
	const struct ol_build *b = l->b;
	const uint32_t count = b->q->source_count;
	size_t total = 0, at = 0;
	for (uint32_t i = 0; i < count; i++)
		total += (size_t)b->sequences[i].count + 1;
	l->texts = calloc(count, sizeof *l->texts);
	l->tokens = malloc(total * sizeof *l->tokens);
	if (!l->texts || !l->tokens)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		const struct ol_sequence *s = &b->sequences[i];
		const int32_t last = s->targets[s->count - 1];
		l->texts[i] = (struct ol_span_text){l->tokens + at, s->count + (last >= 0)};
		memcpy(l->tokens + at, s->tokens, (size_t)s->count * sizeof *s->tokens);
		at += (size_t)s->count;
		if (last >= 0)
			l->tokens[at++] = last;
	}
	return true;
}

static bool make_examples(struct ledger *l)
{
	const struct ol_index_request *q = l->b->q;
	l->examples = calloc(q->source_count, sizeof *l->examples);
	for (uint32_t i = 0; l->examples && i < q->source_count; i++) {
		const uint32_t payee = find_payee(l, q->sources[i].contributor);
		l->examples[i] =
			(struct ol_index_example){.id = q->sources[i].id,
						  .payee = payee,
						  .cluster = l->clusters[i],
						  .tokens = (uint32_t)l->texts[i].count,
						  .answer_tokens = q->sources[i].answer_tokens,
						  .clip = 1.0f};
		l->payees[payee].examples++;
		l->payees[payee].clusters += l->clusters[i] == i;
		l->b->result->clusters += l->clusters[i] == i;
	}
	return l->examples != NULL;
}

static enum ol_status find_clusters(struct ledger *l, struct ol_error *err)
{
	const struct ol_build *b = l->b;
	const uint32_t count = b->q->source_count;
	struct ol_sketch_plan plan;
	const struct ol_cluster_rows rows = {ol_row_kernels_for(b->kernels->isa), &b->layout,
					     b->rows.data, l->sketches};
	if (!ol_sketch_plan_init(&plan, b->layout.values))
		return ol_fail(err, OL_ERR_FULL, "out of memory for sketches");
	for (uint32_t i = 0; i < count; i++)
		ol_sketch_make(&plan, &b->layout, l->sketches + (size_t)i * OL_SKETCH_BYTES,
			       b->rows.data + (size_t)i * b->stride);
	ol_sketch_plan_release(&plan);
	return ol_clusters_find(l->clusters, b->result->merged, l->texts, count, &rows, err);
}

/* ---- How much ------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Rows longer than nearly all the others, or than so many medians, are made as short. Duplicates do
 * not count: copying must not move the limit. */
static bool clip(struct ledger *l)
{
	const struct ol_build *b = l->b;
	const struct ol_index_settings *s = &b->q->settings;
	const struct ol_row_kernels *kernels = ol_row_kernels_for(b->kernels->isa);
	const uint32_t count = b->q->source_count;
	double *lengths = malloc(2 * (size_t)count * sizeof *lengths);
	uint32_t n = 0;
	if (!lengths)
		return false;
	double *sorted = lengths + count;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *row = b->rows.data + (size_t)i * b->stride;
		lengths[i] = sqrt(ol_row_dot(kernels, &b->layout, row, row));
		if (l->clusters[i] == i)
			sorted[n++] = lengths[i];
	}
	qsort(sorted, n, sizeof *sorted, by_size);
	const double most = sorted[(uint64_t)s->norm_part * (n - 1) / 1000000];
	const double limit = OL_MIN(most, s->norm_median * sorted[(n - 1) / 2]);
	for (uint32_t i = 0; i < count; i++)
		if (lengths[i] > limit) {
			l->examples[i].clip = (float)(limit / lengths[i]);
			b->result->clipped++;
		}
	free(lengths);
	return true;
}

static enum ol_status sum_payees(struct ledger *l, struct ol_error *err)
{
	const struct ol_index_content *c = &l->content;
	enum ol_status s = OL_OK;
	l->payee_rows = aligned_alloc(OL_ROW_ALIGN, (size_t)c->payee_count * l->b->stride);
	if (!l->payee_rows)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %u payees' rows",
			       c->payee_count);
	for (uint32_t i = 0; s == OL_OK && i < c->payee_count; i++) {
		if (!ol_index_payee_row(c, i, l->payee_rows + (size_t)i * l->b->stride))
			s = ol_fail(err, OL_ERR_FULL, "out of memory for a payee's row");
		else
			s = ol_build_progress(l->b, "payees", i + 1, c->payee_count, err);
	}
	return s;
}

/* ---- All of it ------------------------------------------------------------------------------ */

static void describe(struct ledger *l)
{
	const struct ol_build *b = l->b;
	struct ol_index_content *c = &l->content;
	memcpy(c->base_id, ol_model_id(b->q->model), sizeof c->base_id);
	memcpy(c->adapter_sha256, ol_adapter_sha256(b->q->adapter), sizeof c->adapter_sha256);
	memcpy(c->snapshot_sha256, b->q->snapshot_sha256, sizeof c->snapshot_sha256);
	memcpy(c->arithmetic, OL_ARITHMETIC_VERSION, sizeof OL_ARITHMETIC_VERSION);
	c->settings = b->q->settings;
	c->answer_tokens = b->answer_tokens;
	c->energy = b->energy;
	c->low_confidence = b->q->low_confidence;
	c->parts = b->parts;
	c->layout = b->layout;
	c->payees = l->payees;
	c->examples = l->examples;
	c->example_count = b->q->source_count;
	c->example_rows = b->rows.data;
	c->sketches = l->sketches;
}

static enum ol_status make(struct ledger *l, const char *path, struct ol_error *err)
{
	struct ol_build *b = l->b;
	const uint32_t count = b->q->source_count;
	l->sketches = malloc((size_t)count * OL_SKETCH_BYTES);
	l->clusters = malloc((size_t)count * sizeof *l->clusters);
	if (!l->sketches || !l->clusters || !make_payees(l) || !make_texts(l))
		return ol_fail(err, OL_ERR_FULL, "out of memory for the ledger of %u examples",
			       count);
	enum ol_status s = find_clusters(l, err);
	if (s == OL_OK && (!make_examples(l) || !clip(l)))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the ledger");
	if (s != OL_OK)
		return s;
	describe(l);
	s = sum_payees(l, err);
	if (s == OL_OK)
		s = ol_build_progress(b, "spans", 0, 1, err);
	if (s == OL_OK)
		s = ol_span_corpus_build(&l->spans, l->texts, count,
					 (uint32_t)b->config->vocab_size, err);
	if (s != OL_OK)
		return s;
	l->content.payee_rows = l->payee_rows;
	l->content.spans = l->spans.corpus;
	b->result->payees = l->content.payee_count;
	b->result->parts = (uint32_t)b->layout.parts;
	b->result->values = (uint32_t)b->layout.values;
	b->result->energy = b->energy;
	return ol_index_write(path, b->result->root, &l->content, err);
}

enum ol_status ol_build_ledger(struct ol_build *b, const char *path, struct ol_error *err)
{
	struct ledger l = {.b = b};
	const enum ol_status s = make(&l, path, err);
	ol_span_corpus_release(&l.spans);
	free(l.payees);
	free(l.examples);
	free(l.texts);
	free(l.tokens);
	free(l.sketches);
	free(l.payee_rows);
	free(l.clusters);
	return s;
}
