#include "attrib/build.h"

#include "attrib/build_internal.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ROWS_MAX = 512,     /* of a micro-batch, unless an example is longer */
	OUTPUTS_MAX = 1024, /* of a linear: its eigenvectors take outputs^3  */
	SEQUENCES_MAX = 256
};

void ol_index_defaults(struct ol_index_settings *s, const struct ol_config *config)
{
	*s = (struct ol_index_settings){.seed = 1,
					.damping = 0.1,
					.draws = 2,
					.curvature_max = 256,
					.row_bytes = OL_INDEX_ROW_BYTES,
					.first_layer = (uint32_t)config->layers / 3,
					.last_layer = (uint32_t)config->layers - 1,
					.norm_part = 1000000,
					.norm_median = 1000000,
					.span_part = OL_SHARE_WHOLE / 10};
	static const enum ol_linear wanted[] = {OL_LINEAR_Q, OL_LINEAR_K, OL_LINEAR_V, OL_LINEAR_O,
						OL_LINEAR_DOWN};
	for (size_t i = 0; i < OL_ARRAY_LEN(wanted); i++) {
		int outputs, inputs;
		ol_linear_shape(config, wanted[i], &outputs, &inputs);
		if (outputs <= OUTPUTS_MAX || wanted[i] == OL_LINEAR_V)
			s->targets |= 1u << wanted[i];
	}
}

enum ol_status ol_index_settings_check(const struct ol_index_settings *s,
				       const struct ol_config *config, struct ol_error *err)
{
	if (!(s->damping > 0.0 && s->damping <= 1e6))
		return ol_fail(err, OL_ERR_INPUT,
			       "the damping is %g, which is not above 0 and at "
			       "most 10^6",
			       s->damping);
	if (s->draws < 1 || s->draws > 64)
		return ol_fail(err, OL_ERR_INPUT, "%u draws are not between 1 and 64", s->draws);
	if (s->curvature_max < 1 || s->norm_median < 1 || s->norm_part > 1000000)
		return ol_fail(err, OL_ERR_INPUT, "a number of examples or a norm is out of range");
	if (s->row_bytes < OL_INDEX_ROW_BYTES_MIN || s->row_bytes > OL_ROW_VALUES_MAX)
		return ol_fail(err, OL_ERR_INPUT, "%u bytes a row are not between %d and %d",
			       s->row_bytes, OL_INDEX_ROW_BYTES_MIN, OL_ROW_VALUES_MAX);
	if (s->span_part > OL_SHARE_WHOLE / 5)
		return ol_fail(err, OL_ERR_INPUT, "spans may add at most a fifth of the shares");
	if (s->first_layer > s->last_layer || s->last_layer >= (uint32_t)config->layers)
		return ol_fail(err, OL_ERR_INPUT, "layers %u to %u are not among the base's %d",
			       s->first_layer, s->last_layer, config->layers);
	if (s->targets == 0 || s->targets > OL_TARGETS_ALL)
		return ol_fail(err, OL_ERR_INPUT, "no linear of a layer is to be looked at");
	return OL_OK;
}

enum ol_status ol_build_progress(const struct ol_build *b, const char *what, uint32_t done,
				 uint32_t total, struct ol_error *err)
{
	if (!b->q->progress || b->q->progress(b->q->context, what, done, total))
		return OL_OK;
	return ol_fail(err, OL_ERR_CANCELLED, "stopped: there is no index");
}

/* ---- Passes --------------------------------------------------------------------------------- */

enum ol_status ol_build_pass(struct ol_build *b, const struct ol_sequence *sequences, int count,
			     const struct ol_tape_backward *request, struct ol_error *err)
{
	const struct ol_micro_batch micro = {sequences, count, b->view, NULL};
	const enum ol_status s = ol_tape_forward(b->tape, &micro, err);
	return s == OL_OK ? ol_tape_backward(b->tape, request, err) : s;
}

/* How many of the sequences from `begin` on go into one micro-batch. */
int ol_build_group(const struct ol_build *b, const struct ol_sequence *sequences, uint32_t count)
{
	int rows = 0, n = 0;
	while ((uint32_t)n < count && n < SEQUENCES_MAX && rows + sequences[n].count <= b->rows_max)
		rows += sequences[n++].count;
	OL_ASSERT(n > 0);
	return n;
}

/* ---- Rows ----------------------------------------------------------------------------------- */

static enum ol_status append_rows(struct ol_build *b, struct ol_writer *writer, const float *rows,
				  uint8_t *row, uint32_t first, int count, struct ol_error *err)
{
	enum ol_status s = OL_OK;
	for (int i = 0; s == OL_OK && i < count; i++) {
		if (!ol_row_quantize(&b->layout, row, rows + (size_t)i * (size_t)b->layout.values))
			return ol_fail(err, OL_ERR_INPUT,
				       "example %s: its gradient is not finite, so nothing can be "
				       "attributed to it",
				       b->q->sources[first + (uint32_t)i].id);
		s = ol_writer_append(writer, row, b->stride, err);
	}
	return s;
}

static enum ol_status make_rows(struct ol_build *b, struct ol_writer *writer, struct ol_error *err)
{
	struct ol_projector *projector = NULL;
	const struct ol_projector_options options = {.kernels = b->kernels,
						     .threads = ol_tape_threads(b->tape),
						     .rows_max = b->rows_max};
	const uint32_t count = b->q->source_count;
	const size_t values = (size_t)b->layout.values;
	struct ol_cut cuts[SEQUENCES_MAX];
	float *rows = malloc(SEQUENCES_MAX * values * sizeof *rows);
	uint8_t *row = aligned_alloc(OL_ROW_ALIGN, b->stride);
	enum ol_status s = rows && row ? ol_projector_open(&projector, b->config, b->view, b->parts,
							   &b->layout, &options, err)
				       : ol_fail(err, OL_ERR_FULL, "out of memory for rows");
	for (uint32_t at = 0; s == OL_OK && at < count;) {
		const int n = ol_build_group(b, b->sequences + at, count - at);
		for (int i = 0, row0 = 0; i < n; row0 = cuts[i++].row1)
			cuts[i] =
				(struct ol_cut){row0, row0 + b->sequences[at + (uint32_t)i].count};
		const struct ol_tape_backward backward = {.row_weights = b->ones,
							  .observe = ol_projector_observe,
							  .context = projector,
							  .observed =
								  ol_projector_observed(projector)};
		ol_projector_begin(projector, rows, cuts, n);
		s = ol_build_pass(b, b->sequences + at, n, &backward, err);
		if (s == OL_OK)
			s = append_rows(b, writer, rows, row, at, n, err);
		at += (uint32_t)n;
		if (s == OL_OK)
			s = ol_build_progress(b, "examples", at, count, err);
	}
	ol_projector_close(projector);
	free(rows);
	free(row);
	return s;
}

/* The rows lie in a file of their own until the index is written: memory may not hold them. */
static enum ol_status write_rows(struct ol_build *b, struct ol_error *err)
{
	struct ol_writer *writer;
	enum ol_status s = ol_writer_open(&writer, b->rows_path, err);
	if (s != OL_OK)
		return s;
	s = make_rows(b, writer, err);
	if (s != OL_OK) {
		ol_writer_abort(writer);
		return s;
	}
	s = ol_writer_commit(writer, err);
	return s == OL_OK ? ol_map_open(&b->rows, b->rows_path, err) : s;
}

/* ---- Life ----------------------------------------------------------------------------------- */

static enum ol_status take_sources(struct ol_build *b, struct ol_error *err)
{
	const struct ol_index_request *q = b->q;
	b->sequences = calloc((size_t)q->source_count + 1, sizeof *b->sequences);
	if (!b->sequences)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %u examples", q->source_count);
	b->rows_max = ROWS_MAX;
	for (uint32_t i = 0; i < q->source_count; i++) {
		const struct ol_index_source *source = &q->sources[i];
		if (strlen(source->contributor) > OL_INDEX_NAME_MAX || !*source->contributor)
			return ol_fail(err, OL_ERR_INPUT,
				       "example %s: its contributor's name is empty or longer than "
				       "%d bytes",
				       source->id, OL_INDEX_NAME_MAX);
		b->sequences[i] = *source->sequence;
		b->rows_max = OL_MAX(b->rows_max, source->sequence->count);
		b->answer_tokens += source->answer_tokens;
	}
	b->ones = malloc((size_t)b->rows_max * sizeof *b->ones);
	for (int i = 0; b->ones && i < b->rows_max; i++)
		b->ones[i] = 1.0f;
	return b->ones ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for rows");
}

static enum ol_status open_build(struct ol_build *b, const char *path, struct ol_error *err)
{
	const struct ol_index_request *q = b->q;
	enum ol_status s = ol_index_settings_check(&q->settings, b->config, err);
	const int length = snprintf(b->rows_path, sizeof b->rows_path, "%s.rows", path);
	if (s == OL_OK && (length < 0 || (size_t)length >= sizeof b->rows_path))
		s = ol_fail(err, OL_ERR_INPUT, "the path %s is too long", path);
	if (s == OL_OK && (q->source_count == 0 || q->source_count > OL_INDEX_EXAMPLES_MAX))
		s = ol_fail(err, OL_ERR_INPUT, "%u examples are not between 1 and %d",
			    q->source_count, OL_INDEX_EXAMPLES_MAX);
	if (s == OL_OK)
		s = take_sources(b, err);
	if (s != OL_OK)
		return s;
	const struct ol_tape_options tape = {.kernels = b->kernels,
					     .threads = q->threads,
					     .rows_max = b->rows_max,
					     .rank_max = b->view->rank_max};
	return ol_tape_open(&b->tape, b->config, ol_model_weights(q->model), &tape, err);
}

static void close_build(struct ol_build *b)
{
	for (int i = 0; b->parts && i < b->layout.parts; i++) {
		free((void *)(uintptr_t)b->parts[i].outward);
		free((void *)(uintptr_t)b->parts[i].inward);
		free((void *)(uintptr_t)b->parts[i].weight);
	}
	free(b->parts);
	free(b->begin);
	ol_tape_close(b->tape);
	if (b->rows.data)
		ol_map_close(&b->rows);
	if (b->rows_path[0])
		(void)unlink(b->rows_path);
	free(b->sequences);
	free(b->ones);
}

enum ol_status ol_index_build(struct ol_index_result *result, const char *path,
			      const struct ol_index_request *request, struct ol_error *err)
{
	struct ol_build b = {.q = request,
			     .config = ol_model_config(request->model),
			     .view = ol_adapter_views(request->adapter),
			     .kernels = request->kernels ? request->kernels : ol_kernels_best(),
			     .result = result};
	*result = (struct ol_index_result){.examples = request->source_count};
	enum ol_status s = open_build(&b, path, err);
	if (s == OL_OK)
		s = ol_build_factors(&b, err);
	if (s == OL_OK) {
		b.stride = ol_row_bytes(&b.layout);
		s = write_rows(&b, err);
	}
	if (s == OL_OK)
		s = ol_build_ledger(&b, path, err);
	close_build(&b);
	return s;
}
