/* Right steps: ten steps of AdamW with warm-up, cosine, clipping and decoupled decay, in full and
 * over an adapter, against torch.optim.AdamW in float64 (tests/golden/training): the loss and the
 * gradient norm of every step, the loss afterwards, and how far each tensor has moved. */
#include "tests/support_train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/optimizer.h"
#include "train/schedule.h"

enum { STEPS = 10, WARMUP = 3, BATCH = 3 };

/* Of losses (about 10 at first, 0.2 to 6 in the end) absolutely; of norms as shares. */
static const double loss_tolerance = 1e-5, norm_tolerance = 1e-5;
/* Of how far a tensor has moved. Early steps of Adam are a gradient's sign, whatever its size: an
 * element whose gradient is all but zero may take one in the other direction. */
static const double change_tolerance = 1e-3;

struct learner {
	struct ol_golden golden;
	struct ol_plastic model;
	struct ol_plastic_gradients gradients;
	struct ol_plastic_lora lora;
	struct ol_tape *tape;
	bool full;
	/* Of what is trained: the model's, or the adapter's. */
	const struct ol_slice *slices;
	int slice_count;
	float *values, *gradient_values, *start;
	struct ol_params params;
	struct ol_optimizer optimizer;
};

static size_t slice_size(const struct ol_slice *s)
{
	return (size_t)s->rows * (size_t)s->cols;
}

static void open_params(struct learner *l)
{
	struct ol_param *list = calloc((size_t)l->slice_count, sizeof *list);
	struct ol_error err;
	assert_non_null(list);
	for (int i = 0; i < l->slice_count; i++) {
		const struct ol_slice *s = &l->slices[i];
		list[i] = (struct ol_param){.rows = s->rows,
					    .cols = s->cols,
					    .trained = true,
					    .decays = !s->vector,
					    .tag = i};
		snprintf(list[i].name, sizeof list[i].name, "%s", s->name);
	}
	ol_must(ol_params_init(&l->params, list, l->slice_count, &err), &err);
	l->optimizer = (struct ol_optimizer){1.0, 1.0};
	for (int i = 0; i < l->params.count; i++) {
		const struct ol_param *p = &l->params.list[i];
		memcpy(l->params.w + p->offset, l->values + l->slices[p->tag].start,
		       slice_size(&l->slices[p->tag]) * sizeof(float));
	}
}

static void open_learner(struct learner *l, const char *name, bool full)
{
	struct ol_model *model = ol_golden_model(name, OL_WEIGHT_F32);
	struct ol_error err;
	memset(l, 0, sizeof *l);
	l->full = full;
	ol_golden_open(&l->golden, name);
	ol_plastic_init(&l->model, model);
	ol_model_close(model);
	ol_plastic_gradients_init(&l->gradients, &l->model);
	ol_plastic_lora_init(&l->lora, &l->model.config, l->golden.rank, l->golden.alpha);
	l->slices = full ? l->model.slices : l->lora.slices;
	l->slice_count = full ? l->model.slice_count : l->lora.slice_count;
	l->values = full ? l->model.values : l->lora.values;
	l->gradient_values = full ? l->gradients.values : l->lora.gradient_values;
	const size_t bytes = (full ? l->model.size : l->lora.size) * sizeof(float);
	l->start = malloc(bytes);
	assert_non_null(l->start);
	memcpy(l->start, l->values, bytes);
	open_params(l);
	const struct ol_tape_options options = {
		.threads = 2, .rows_max = 128, .rank_max = l->golden.rank, .full = full};
	ol_must(ol_tape_open(&l->tape, &l->model.config, &l->model.weights, &options, &err), &err);
}

static void close_learner(struct learner *l)
{
	ol_tape_close(l->tape);
	ol_params_release(&l->params);
	ol_plastic_lora_release(&l->lora);
	ol_plastic_gradients_release(&l->gradients);
	ol_plastic_release(&l->model);
	ol_golden_close(&l->golden);
	free(l->start);
}

/* Loss of the examples first, first + 1, first + 2, and, if asked for, gradients into params. */
static double run_batch(struct learner *l, int first, bool backward)
{
	struct ol_sequence batch[BATCH];
	struct ol_step_request request = {.sequences = batch, .count = BATCH, .per_pass = 2};
	for (int i = 0; i < BATCH; i++)
		batch[i] = l->golden.sequences[(first + i) % OL_GOLDEN_EXAMPLES];
	if (!l->full)
		request.adapter = &l->lora.view;
	if (!backward)
		return ol_step_run(l->tape, &request);
	request.lora = l->full ? NULL : l->lora.gradients;
	request.weights = l->full ? &l->gradients.tables : NULL;
	ol_plastic_gradients_clear(&l->gradients);
	memset(l->lora.gradient_values, 0, l->lora.size * sizeof(float));
	const double loss = ol_step_run(l->tape, &request);
	if (l->full)
		ol_plastic_gradients_tie(&l->gradients);
	for (int i = 0; i < l->params.count; i++) {
		const struct ol_param *p = &l->params.list[i];
		memcpy(l->params.g + p->offset, l->gradient_values + l->slices[p->tag].start,
		       slice_size(&l->slices[p->tag]) * sizeof(float));
	}
	return loss;
}

static void take_over(struct learner *l)
{
	for (int i = 0; i < l->params.count; i++) {
		const struct ol_param *p = &l->params.list[i];
		memcpy(l->values + l->slices[p->tag].start, l->params.w + p->offset,
		       slice_size(&l->slices[p->tag]) * sizeof(float));
	}
	if (l->full)
		ol_plastic_pack(&l->model);
	else
		ol_plastic_lora_pack(&l->lora);
}

static double number_at(const json_t *array, size_t i)
{
	assert_true(i < json_array_size(array));
	return json_number_value(json_array_get(array, i));
}

static void raise_to(double *worst, double difference)
{
	/* A NaN is larger than anything. */
	*worst = difference <= *worst ? *worst : difference;
}

/* How far every tensor has moved, and how long it is, against the golden file. */
static double change_difference(const struct learner *l, const json_t *steps)
{
	const json_t *norms = json_object_get(steps, "norms");
	const json_t *changes = json_object_get(steps, "changes");
	double worst = 0.0;
	assert_int_equal(json_object_size(changes), (size_t)l->slice_count);
	for (int i = 0; i < l->slice_count; i++) {
		const struct ol_slice *s = &l->slices[i];
		const double norm = json_number_value(json_object_get(norms, s->name));
		const double change = json_number_value(json_object_get(changes, s->name));
		double moved = 0.0;
		for (size_t j = s->start; j < s->start + slice_size(s); j++)
			moved += pow((double)l->values[j] - (double)l->start[j], 2);
		assert_true(norm > 0.0 && change > 0.0);
		raise_to(&worst, fabs(sqrt(moved) - change) / change);
		raise_to(&worst, fabs(ol_norm(l->values + s->start, slice_size(s)) - norm) / norm);
	}
	return worst;
}

static bool ten_steps_are_right(const char *name, bool full)
{
	struct learner l;
	double worst_loss = 0.0, worst_norm = 0.0, peak = 0.0;
	open_learner(&l, name, full);
	const json_t *steps = ol_golden_get(&l.golden, full ? "full" : "lora", "steps");
	const json_t *rates = json_object_get(steps, "learning_rates");
	const struct ol_gradients *kernels = ol_gradients_for(ol_kernels_best()->isa);
	for (size_t i = 0; i < STEPS; i++)
		peak = fmax(peak, number_at(rates, i));
	for (int step = 0; step < STEPS; step++) {
		const size_t at = (size_t)step;
		const double rate =
			peak * ol_schedule_at(OL_SCHEDULE_COSINE, step, WARMUP, STEPS, 0.0);
		assert_true(fabs(rate - number_at(rates, at)) <= 1e-12 * peak);
		const struct ol_optimizer_settings settings = {
			.learning_rate = (float)rate,
			.beta1 = 0.9f,
			.beta2 = 0.999f,
			.eps = 1e-8f,
			.weight_decay =
				(float)json_number_value(json_object_get(steps, "weight_decay")),
			.clip_norm = 1.0f};
		const double loss = run_batch(&l, step, true);
		const double norm = ol_params_norm(&l.params, ol_tape_threads(l.tape), kernels);
		const double right = number_at(json_object_get(steps, "gradient_norms"), at);
		raise_to(&worst_loss, fabs(loss - number_at(json_object_get(steps, "losses"), at)));
		raise_to(&worst_norm, fabs(norm - right) / right);
		ol_optimizer_step(&l.optimizer, &l.params, ol_tape_threads(l.tape), kernels,
				  &settings, norm);
		take_over(&l);
	}
	raise_to(&worst_loss, fabs(run_batch(&l, 0, false) -
				   json_number_value(json_object_get(steps, "loss_after"))));
	const double changed = change_difference(&l, steps);
	close_learner(&l);
	print_message("%-12s %s losses within %.1e, gradient norms within %.1e, changes %.1e\n",
		      name, full ? "full" : "lora", worst_loss, worst_norm, changed);
	return worst_loss <= loss_tolerance && worst_norm <= norm_tolerance &&
	       changed <= change_tolerance;
}

static void ten_steps_equal_pytorch(void **state)
{
	int wrong = 0;
	(void)state;
	for (int i = 0; i < OL_GOLDEN_MODELS; i++) {
		wrong += !ten_steps_are_right(ol_golden_models[i], true);
		wrong += !ten_steps_are_right(ol_golden_models[i], false);
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_steps_equal_pytorch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
