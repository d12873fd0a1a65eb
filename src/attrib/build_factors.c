/* The curvature of an adapter, and the directions that its rows keep. */
#include "attrib/build_internal.h"
#include "attrib/influence.h"
#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Labels --------------------------------------------------------------------------------- */

struct labels {
	struct ol_engine *engine;
	struct ol_sampler *sampler;
	float *logits;
	struct ol_sequence *sequences; /* (count) with drawn targets, draw after draw */
	int32_t *targets;
	uint32_t count;
	double tokens; /* drawn */
};

/* Labels drawn from the model at every target of a sequence. */
static enum ol_status draw(const struct ol_build *b, struct labels *l,
			   const struct ol_sequence *sequence, uint64_t key, uint32_t draw_index,
			   int32_t *targets, struct ol_error *err)
{
	const size_t vocab = (size_t)b->config->vocab_size;
	const struct ol_sampling sampling = {.temperature = 1.0f,
					     .top_p = 1.0f,
					     .repeat_penalty = 1.0f,
					     .seed = b->q->settings.seed +
						     (key & 0xffffffff00000000u) + draw_index,
					     .choice = (uint32_t)key};
	struct ol_session *session;
	enum ol_status s = ol_session_open(&session, l->engine);
	if (s != OL_OK)
		return ol_fail(err, s, "out of memory for a session");
	struct ol_run run = {.session = session,
			     .tokens = sequence->tokens,
			     .count = sequence->count,
			     .want = OL_LOGITS_ALL,
			     .logits = l->logits,
			     .adapter = b->view};
	s = ol_engine_step(l->engine, &run, 1, err);
	for (int t = 0; s == OL_OK && t < sequence->count; t++) {
		targets[t] = -1;
		if (sequence->targets[t] < 0)
			continue;
		targets[t] = ol_sampler_choose(l->sampler, l->logits + (size_t)t * vocab, &sampling,
					       (uint32_t)t, sequence->tokens, t + 1, 0, NULL);
		l->tokens++;
	}
	ol_session_close(session);
	return s;
}

static enum ol_status open_labels(struct ol_build *b, struct labels *l, uint32_t examples,
				  struct ol_error *err)
{
	const uint32_t draws = b->q->settings.draws;
	const size_t vocab = (size_t)b->config->vocab_size;
	size_t rows = 0;
	for (uint32_t i = 0; i < examples; i++)
		rows += (size_t)b->sequences[(uint64_t)i * b->q->source_count / examples].count;
	l->sequences = malloc((size_t)examples * draws * sizeof *l->sequences);
	l->targets = malloc(rows * draws * sizeof *l->targets);
	l->logits = malloc((size_t)b->rows_max * vocab * sizeof *l->logits);
	if (!l->sequences || !l->targets || !l->logits)
		return ol_fail(err, OL_ERR_FULL, "out of memory for drawn labels");
	const struct ol_engine_options options = {.kernels = b->kernels,
						  .threads = b->q->threads,
						  .kv_positions = b->rows_max,
						  .step_rows = b->rows_max};
	enum ol_status s = ol_engine_open(&l->engine, b->q->model, &options, err);
	if (s == OL_OK)
		s = ol_sampler_open(&l->sampler, b->kernels, (int)vocab);
	return s;
}

static enum ol_status draw_labels(struct ol_build *b, struct labels *l, struct ol_error *err)
{
	const uint32_t all = b->q->source_count, draws = b->q->settings.draws;
	const uint32_t examples = OL_MIN(all, b->q->settings.curvature_max);
	enum ol_status s = open_labels(b, l, examples, err);
	int32_t *targets = l->targets;
	for (uint32_t d = 0; s == OL_OK && d < draws; d++)
		for (uint32_t i = 0; s == OL_OK && i < examples; i++) {
			const uint32_t source = (uint32_t)((uint64_t)i * all / examples);
			struct ol_sequence *sequence = &l->sequences[l->count++];
			*sequence = b->sequences[source];
			s = draw(b, l, sequence, b->q->sources[source].key, d, targets, err);
			sequence->targets = targets;
			targets += sequence->count;
			if (s == OL_OK && (i % 16 == 15 || i + 1 == examples))
				s = ol_build_progress(b, "labels", d * examples + i + 1,
						      draws * examples, err);
		}
	return s;
}

static void close_labels(struct labels *l)
{
	ol_sampler_close(l->sampler);
	ol_engine_close(l->engine);
	free(l->sequences);
	free(l->targets);
	free(l->logits);
}

/* ---- Curvature ------------------------------------------------------------------------------ */

/* One pass over the drawn labels. */
static enum ol_status look(struct ol_build *b, const struct labels *l, const bool *observed,
			   struct ol_influence *influence, const char *what, struct ol_error *err)
{
	const struct ol_tape_backward backward = {.row_weights = b->ones,
						  .observe = ol_influence_observe,
						  .context = influence,
						  .observed = observed};
	enum ol_status s = OL_OK;
	for (uint32_t at = 0; s == OL_OK && at < l->count;) {
		const int n = ol_build_group(b, l->sequences + at, l->count - at);
		s = ol_build_pass(b, l->sequences + at, n, &backward, err);
		at += (uint32_t)n;
		if (s == OL_OK)
			s = ol_build_progress(b, what, at, l->count, err);
	}
	return s;
}

/* Which linears are adapted and asked for. */
static int choose_linears(const struct ol_build *b, bool *observed)
{
	const struct ol_index_settings *s = &b->q->settings;
	int count = 0;
	for (uint32_t layer = s->first_layer; layer <= s->last_layer; layer++)
		for (int linear = 0; linear < OL_LAYER_LINEARS; linear++) {
			const int index =
				ol_linear_index(b->config, (int)layer, (enum ol_linear)linear);
			observed[index] =
				s->targets & 1u << linear && b->view->linears[index].rank > 0;
			count += observed[index];
		}
	return count;
}

/* ---- Which directions ----------------------------------------------------------------------- */

/* One direction of a linear's outputs. */
struct direction {
	int linear, row; /* ol_linear_index; of its eigenvectors */
	int rank;
	double value; /* how much of a gradient lies there, whitened and damped, per number */
};

static int by_value(const void *a, const void *b)
{
	const struct direction *x = a, *y = b;
	if (x->value != y->value)
		return x->value > y->value ? -1 : 1;
	return x->linear != y->linear ? x->linear - y->linear : x->row - y->row;
}

static double mean_of(const struct ol_influence_factor *f, double tokens)
{
	const int n = f->outputs * f->rank;
	double mean = 0.0;
	for (int i = 0; i < n; i++)
		mean += (double)f->squares[i] / tokens / n;
	return mean;
}

/* Appends a linear's directions; returns the sum of their values times ranks. */
static double add_directions(struct direction *out, const struct ol_influence_factor *f, int linear,
			     double tokens, double damping)
{
	const double lambda = damping * mean_of(f, tokens);
	double sum = 0.0;
	for (int o = 0; o < f->outputs; o++) {
		double energy = 0.0;
		for (int r = 0; r < f->rank; r++) {
			const double value = (double)f->squares[o * f->rank + r] / tokens;
			energy += value + lambda > 0.0 ? value / (value + lambda) : 0.0;
		}
		out[o] = (struct direction){linear, o, f->rank, energy / f->rank};
		sum += energy;
	}
	return sum;
}

/* The best directions that fit into a row come first; returns how many. */
static size_t choose(struct ol_build *b, struct direction *list, size_t count, int linears)
{
	const struct ol_row_layout most = {linears, 0, NULL};
	const size_t room =
		(b->q->settings.row_bytes - ol_row_codes_at(&most)) / OL_ROW_ALIGN * OL_ROW_ALIGN;
	size_t used = 0, n = 0;
	double kept = 0.0;
	qsort(list, count, sizeof *list, by_value);
	for (size_t i = 0; i < count; i++) {
		const struct direction one = list[i];
		if (used + (size_t)one.rank > room || !(one.value > 0.0))
			continue;
		used += (size_t)one.rank;
		kept += one.value * one.rank;
		list[n++] = one;
	}
	b->energy = kept;
	return n;
}

/* ---- Parts ---------------------------------------------------------------------------------- */

static float *unpack(const struct ol_matrix *basis)
{
	const size_t n = (size_t)basis->rows;
	float *rows = malloc(n * n * sizeof *rows);
	if (rows)
		ol_unpack_rows(rows, basis, 0, basis->rows);
	return rows;
}

static bool make_part(struct ol_build *b, struct ol_index_part *part, int linear,
		      const struct ol_influence_factor *f, const struct direction *list,
		      size_t count, double tokens)
{
	const size_t outputs = (size_t)f->outputs, rank = (size_t)f->rank;
	const double lambda = b->q->settings.damping * mean_of(f, tokens);
	size_t kept = 0, j = 0;
	for (size_t i = 0; i < count; i++)
		kept += list[i].linear == linear;
	float *outward = malloc((outputs * kept + 1) * sizeof *outward);
	float *weight = malloc((kept * rank + 1) * sizeof *weight);
	float *rows = unpack(f->outward), *inward = unpack(f->inward);
	for (size_t i = 0; outward && weight && rows && i < count; i++) {
		if (list[i].linear != linear)
			continue;
		const size_t row = (size_t)list[i].row;
		for (size_t o = 0; o < outputs; o++)
			outward[o * kept + j] = rows[row * outputs + o];
		for (size_t r = 0; r < rank; r++) {
			const double value = (double)f->squares[row * rank + r] / tokens + lambda;
			weight[j * rank + r] = value > 0.0 ? (float)(1.0 / sqrt(value)) : 0.0f;
		}
		j++;
	}
	const bool good = outward && weight && rows && inward;
	*part = (struct ol_index_part){.layer = linear / OL_LAYER_LINEARS,
				       .linear = linear % OL_LAYER_LINEARS,
				       .outputs = f->outputs,
				       .rank = f->rank,
				       .kept = (int32_t)kept,
				       .scale = b->view->linears[linear].scale,
				       .outward = outward,
				       .inward = inward,
				       .weight = weight};
	free(rows);
	return good;
}

static bool make_parts(struct ol_build *b, const struct ol_influence *influence,
		       const struct direction *list, size_t count, double tokens)
{
	const int linears = ol_linear_count(b->config);
	uint32_t *kept = calloc((size_t)linears, sizeof *kept);
	b->parts = calloc((size_t)linears, sizeof *b->parts);
	b->begin = calloc((size_t)linears + 1, sizeof *b->begin);
	bool good = kept && b->parts && b->begin;
	for (size_t i = 0; good && i < count; i++)
		kept[list[i].linear]++;
	b->layout.begin = b->begin;
	for (int l = 0; good && l < linears; l++) {
		struct ol_influence_factor f;
		if (kept[l] == 0 || !ol_influence_factor(influence, l, &f))
			continue;
		good = make_part(b, &b->parts[b->layout.parts++], l, &f, list, count, tokens);
		b->layout.values += (int)kept[l] * f.rank;
		b->begin[b->layout.parts] = (uint32_t)b->layout.values;
	}
	free(kept);
	return good;
}

static enum ol_status choose_parts(struct ol_build *b, const struct ol_influence *influence,
				   int linears, double tokens, struct ol_error *err)
{
	struct ol_influence_factor f;
	size_t count = 0;
	double all = 0.0;
	for (int l = 0; l < ol_linear_count(b->config); l++)
		count += ol_influence_factor(influence, l, &f) ? (size_t)f.outputs : 0;
	struct direction *list = malloc((count + 1) * sizeof *list);
	if (!list)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the curvature's directions");
	size_t at = 0;
	for (int l = 0; l < ol_linear_count(b->config); l++)
		if (ol_influence_factor(influence, l, &f)) {
			all += add_directions(list + at, &f, l, tokens, b->q->settings.damping);
			at += (size_t)f.outputs;
		}
	const size_t kept = choose(b, list, count, linears);
	b->energy = all > 0.0 ? OL_MIN(b->energy / all, 1.0) : 0.0;
	const bool good = make_parts(b, influence, list, kept, tokens);
	free(list);
	if (good && b->layout.values == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "no label that the model draws moves this adapter: there is nothing "
			       "to attribute");
	return good ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for the index's factors");
}

/* ---- All of it ------------------------------------------------------------------------------ */

static enum ol_status curvature(struct ol_build *b, const struct labels *l, const bool *observed,
				int linears, struct ol_error *err)
{
	const struct ol_influence_options options = {.kernels = b->kernels,
						     .threads = ol_tape_threads(b->tape),
						     .rows_max = b->rows_max,
						     .linears = observed};
	struct ol_influence *influence;
	enum ol_status s = ol_influence_open(&influence, b->config, b->view, &options, err);
	if (s != OL_OK)
		return s;
	ol_influence_begin(influence, OL_INFLUENCE_FACTORS);
	s = look(b, l, observed, influence, "curvature", err);
	if (s == OL_OK)
		s = ol_influence_factorise(influence, err);
	ol_influence_begin(influence, OL_INFLUENCE_EIGENVALUES);
	if (s == OL_OK)
		s = look(b, l, observed, influence, "eigenvalues", err);
	if (s == OL_OK)
		s = choose_parts(b, influence, linears, l->tokens, err);
	ol_influence_close(influence);
	return s;
}

enum ol_status ol_build_factors(struct ol_build *b, struct ol_error *err)
{
	struct labels l = {0};
	bool *observed = calloc((size_t)ol_linear_count(b->config), sizeof *observed);
	if (!observed)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the curvature");
	const int linears = choose_linears(b, observed);
	enum ol_status s = OL_OK;
	if (linears == 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "the adapter changes none of the linears that the index would look at: "
			    "choose others with --targets and --layers");
	if (s == OL_OK)
		s = draw_labels(b, &l, err);
	if (s == OL_OK)
		s = curvature(b, &l, observed, linears, err);
	close_labels(&l);
	free(observed);
	return s;
}
