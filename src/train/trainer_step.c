/* A step's examples through the tape, micro-batch by micro-batch. */
#include "train/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "math/functions.h"

double ol_preference_loss(double z, double *slope_out)
{
	/* e <= 1 on either side of zero: nothing overflows. */
	const double e = ol_exp(z < 0 ? z : -z);
	*slope_out = z < 0 ? 1 / (1 + e) : e / (1 + e);
	return (z < 0 ? -z : 0) + ol_log(1 + e);
}

/* Sums in f64, in the order of the rows. */
static double sum_rows(const float *losses, const struct ol_sequence *sequence)
{
	double sum = 0;
	for (int i = 0; i < sequence->count; i++)
		if (sequence->targets[i] >= 0)
			sum += (double)losses[i];
	return sum;
}

/* ---- Losses alone ------------------------------------------------------------------------- */

enum ol_status ol_sequence_nats(struct ol_tape *tape, int rows_max,
				const struct ol_adapter_view *adapter,
				const struct ol_sequence *const *sequences, size_t count,
				double *nats, struct ol_error *err)
{
	int *rows = calloc(count + 1, sizeof *rows);
	struct ol_sequence *group = calloc(count + 1, sizeof *group);
	float *losses = malloc((size_t)rows_max * sizeof *losses);
	enum ol_status s = OL_OK;
	if (!rows || !group || !losses)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the losses of %zu sequences",
			    count);
	for (size_t i = 0; s == OL_OK && i < count; i++) {
		rows[i] = sequences[i]->count;
		if (rows[i] > rows_max)
			s = ol_fail(err, OL_ERR_INPUT,
				    "a sequence of %d tokens, but there is room for %d", rows[i],
				    rows_max);
	}
	for (size_t begin = 0; s == OL_OK && begin < count;) {
		const size_t end = ol_plan_group(rows, begin, count, rows_max);
		for (size_t i = begin; i < end; i++)
			group[i - begin] = *sequences[i];
		const struct ol_micro_batch batch = {group, (int)(end - begin), adapter, NULL};
		s = ol_tape_forward(tape, &batch, err);
		if (s != OL_OK)
			break;
		ol_tape_losses(tape, losses);
		const float *at = losses;
		for (; begin < end; at += rows[begin++])
			nats[begin] = sum_rows(at, sequences[begin]);
	}
	free(losses);
	free(group);
	free(rows);
	return s;
}

enum ol_status ol_answer_nats(struct ol_tape *tape, int rows_max,
			      const struct ol_adapter_view *adapter,
			      const struct ol_example *const *examples, size_t count, double *nats,
			      struct ol_error *err)
{
	const struct ol_sequence **sequences = calloc(count + 1, sizeof *sequences);
	if (!sequences)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu examples", count);
	for (size_t i = 0; i < count; i++)
		sequences[i] = &examples[i]->sequence;
	const enum ol_status s =
		ol_sequence_nats(tape, rows_max, adapter, sequences, count, nats, err);
	free(sequences);
	return s;
}

/* ---- The reference of preference tuning ---------------------------------------------------- */

enum ol_status ol_trainer_reference(struct ol_trainer *t, const uint32_t *examples, size_t count,
				    struct ol_error *err)
{
	const struct ol_sequence **sequences = calloc(2 * count + 1, sizeof *sequences);
	double *nats = calloc(2 * count + 1, sizeof *nats);
	size_t wanted = 0;
	enum ol_status s = OL_OK;
	if (!sequences || !nats)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the reference's losses");
	for (size_t i = 0; s == OL_OK && i < count; i++)
		if (isnan(t->reference[2 * examples[i]])) {
			sequences[wanted++] = &t->examples[examples[i]].sequence;
			sequences[wanted++] = &t->examples[examples[i]].rejected;
		}
	if (s == OL_OK && wanted > 0)
		s = ol_sequence_nats(t->tape, t->shape.rows_max,
				     t->start ? ol_adapter_views(t->start) : NULL, sequences,
				     wanted, nats, err);
	size_t at = 0;
	for (size_t i = 0; s == OL_OK && i < count; i++)
		if (isnan(t->reference[2 * examples[i]])) {
			/* An example that comes twice was asked for twice; both say the same. */
			while (at < wanted && sequences[at] != &t->examples[examples[i]].sequence)
				at += 2;
			t->reference[2 * examples[i]] = nats[at];
			t->reference[2 * examples[i] + 1] = nats[at + 1];
			at += 2;
		}
	free(nats);
	free(sequences);
	return s;
}

/* ---- Forward and backward ----------------------------------------------------------------- */

static bool is_pairs(const struct ol_trainer *t)
{
	return t->config.method == OL_TRAIN_DPO;
}

/* Puts a unit's sequences behind those of the group; returns how many it has. */
static int lay_out_unit(const struct ol_trainer *t, const struct ol_unit *unit,
			struct ol_sequence *out)
{
	out[0] = t->examples[unit->example].sequence;
	if (is_pairs(t))
		out[1] = t->examples[unit->example].rejected;
	return is_pairs(t) ? 2 : 1;
}

static void fill(float *out, int count, float value)
{
	for (int i = 0; i < count; i++)
		out[i] = value;
}

/* Preference pairs: every row of an answer counts beta * sigmoid(-z) / pairs, for the chosen one
 * and against the rejected one; z = beta * (gain of the chosen answer - gain of the rejected). */
static void weigh_pairs(struct ol_trainer *t, const struct ol_unit *units, int count, int pairs,
			const double *nats, struct ol_step_report *report)
{
	const double beta = (double)t->config.dpo_beta;
	float *weights = t->row_weights;
	for (int i = 0; i < count; i++) {
		const struct ol_example *e = &t->examples[units[i].example];
		const double *before = &t->reference[2 * units[i].example];
		const double chosen = before[0] - nats[2 * i];
		const double rejected = before[1] - nats[2 * i + 1];
		const double z = beta * (chosen - rejected);
		double slope;
		report->loss += ol_preference_loss(z, &slope);
		report->dpo_margin += z;
		report->dpo_accuracy += z > 0;
		const float weight = (float)(beta * slope / (double)pairs);
		fill(weights, e->sequence.count, weight);
		fill(weights + e->sequence.count, e->rejected.count, -weight);
		weights += units[i].rows;
	}
}

/* The sentence for a run that goes astray: the first example of the group whose loss is not a
 * number, else what the tape said. */
static enum ol_status diverged(const struct ol_trainer *t, const struct ol_unit *units, int count,
			       const struct ol_error *cause, struct ol_error *err)
{
	const int step = t->step + 1;
	const char *id = count == 1 ? t->examples[units[0].example].id : NULL;
	const float *losses = t->row_losses;
	for (int i = 0; i < count; i++) {
		for (int row = 0; row < units[i].rows; row++)
			if (!isfinite(losses[row]))
				return ol_fail(
					err, OL_ERR_INPUT,
					"the run diverges: at step %d the loss of the example "
					"\"%s\" is not finite; lower the learning rate",
					step, t->examples[units[i].example].id);
		losses += units[i].rows;
	}
	if (id)
		return ol_fail(err, OL_ERR_INPUT,
			       "the run diverges: at step %d the gradient of the example \"%s\" is "
			       "not finite; lower the learning rate",
			       step, id);
	return ol_fail(err, OL_ERR_INPUT,
		       "the run diverges at step %d, among the examples \"%s\" to \"%s\": %s", step,
		       t->examples[units[0].example].id, t->examples[units[count - 1].example].id,
		       cause->text);
}

struct group {
	const struct ol_unit *units;
	int count;
	double *nats; /* one or two a unit */
};

static enum ol_status run_group(struct ol_trainer *t, const struct group *g, float row_weight,
				int pairs, struct ol_step_report *report, struct ol_error *err)
{
	const struct ol_dropout dropout = {
		.rate = t->config.dropout, .seed = t->config.seed, .step = (uint32_t)t->step};
	struct ol_error cause = {0};
	struct ol_micro_batch batch = {
		.sequences = t->sequences,
		.adapter = ol_trainer_adapts(t) ? &t->view : NULL,
		.dropout = t->config.dropout > 0 && ol_trainer_adapts(t) ? &dropout : NULL,
	};
	int rows = 0;
	for (int i = 0; i < g->count; i++) {
		batch.sequence_count +=
			lay_out_unit(t, &g->units[i], t->sequences + batch.sequence_count);
		rows += g->units[i].rows;
	}
	enum ol_status s = ol_tape_forward(t->tape, &batch, err);
	if (s != OL_OK)
		return s;
	fill(t->row_losses, rows, 0);
	if (is_pairs(t)) {
		ol_tape_losses(t->tape, t->row_losses);
		const float *at = t->row_losses;
		for (int i = 0; i < batch.sequence_count; at += t->sequences[i++].count)
			g->nats[i] = sum_rows(at, &t->sequences[i]);
		weigh_pairs(t, g->units, g->count, pairs, g->nats, report);
	} else {
		fill(t->row_weights, rows, row_weight);
	}
	const struct ol_tape_backward request = {
		.row_weights = t->row_weights,
		.losses = t->row_losses,
		.lora = ol_trainer_adapts(t) ? t->lora : NULL,
		.weights = ol_trainer_adapts(t) ? NULL : &t->weight_gradients,
	};
	s = ol_tape_backward(t->tape, &request, &cause);
	const float *at = t->row_losses;
	bool finite = true;
	for (int i = 0; i < batch.sequence_count; at += t->sequences[i++].count) {
		g->nats[i] = sum_rows(at, &t->sequences[i]);
		finite = finite && isfinite(g->nats[i]);
	}
	if (s == OL_ERR_INPUT || (s == OL_OK && !finite))
		return diverged(t, g->units, g->count, &cause, err);
	return s == OL_OK ? OL_OK : ol_fail(err, s, "%s", cause.text);
}

static void count_units(struct ol_trainer *t, int examples, struct ol_step_report *report)
{
	for (int i = 0; i < examples; i++) {
		const struct ol_example *e = &t->examples[t->batch[i]];
		const int rejected = is_pairs(t) ? e->rejected.count : 0;
		t->units[i] = (struct ol_unit){t->batch[i], e->sequence.count + rejected};
		t->unit_rows[i] = t->units[i].rows;
		report->tokens += t->units[i].rows;
		report->answer_tokens += e->answer_tokens + (is_pairs(t) ? e->rejected_tokens : 0);
	}
	report->examples = examples;
}

/* The loss of the step, and what is remembered of each example. */
static void sum_up(struct ol_trainer *t, int examples, struct ol_step_report *report)
{
	const int per_unit = is_pairs(t) ? 2 : 1;
	double sum = 0;
	for (int i = 0; i < examples; i++) {
		const struct ol_example *e = &t->examples[t->batch[i]];
		const double nats = t->nats[per_unit * i];
		sum += nats;
		t->example_losses[t->batch[i]] = (float)(nats / (double)e->answer_tokens);
	}
	if (!is_pairs(t)) {
		report->loss = sum / (double)report->answer_tokens;
		return;
	}
	report->loss /= (double)examples;
	report->dpo_margin /= (double)examples;
	report->dpo_accuracy /= (double)examples;
}

enum ol_status ol_trainer_accumulate(struct ol_trainer *t, int examples,
				     struct ol_step_report *report, struct ol_error *err)
{
	const int per_unit = is_pairs(t) ? 2 : 1;
	enum ol_status s = OL_OK;
	count_units(t, examples, report);
	if (is_pairs(t))
		s = ol_trainer_reference(t, t->batch, (size_t)examples, err);
	ol_params_clear_gradients(&t->params, t->pool);
	const float row_weight = 1 / (float)report->answer_tokens;
	for (size_t begin = 0; s == OL_OK && begin < (size_t)examples;) {
		const size_t end =
			ol_plan_group(t->unit_rows, begin, (size_t)examples, t->shape.rows_max);
		const struct group g = {t->units + begin, (int)(end - begin),
					t->nats + (size_t)per_unit * begin};
		s = run_group(t, &g, row_weight, examples, report, err);
		begin = end;
	}
	if (s == OL_OK) {
		ol_trainer_join_gradients(t);
		sum_up(t, examples, report);
	}
	return s;
}
