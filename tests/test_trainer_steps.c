/* Ten steps of the trainer itself, full, LoRA and DPO, against PyTorch in float64
 * (tests/golden/training): loss, gradient norm and learning rate of every step. What lies below is
 * compared number by number in test_gradients and test_optimizer_steps; here it is the trainer's
 * own batches, weights of rows, preference pairs, reference, clipping and schedule. */
#include "tests/support_train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = OL_GOLDEN_STEPS };

/* Of losses (about 10 at first) absolutely, of gradient norms as shares. */
static const double loss_tolerance = 1e-5, norm_tolerance = 1e-5;

/* The golden A and B, which bf16 holds exactly. */
static struct ol_adapter *make_start(const struct ol_golden *golden, const struct ol_config *base)
{
	const struct ol_adapter_config config = {.rank = golden->rank,
						 .alpha = golden->alpha,
						 .targets = OL_TARGETS_ALL | OL_TARGETS_HEAD};
	const size_t linears = (size_t)ol_linear_count(base);
	struct ol_lora_tensors *tensors = calloc(linears, sizeof *tensors);
	struct ol_plastic_lora lora;
	struct ol_adapter *adapter = NULL;
	struct ol_error err;
	ol_plastic_lora_init(&lora, base, golden->rank, golden->alpha);
	uint16_t *bits = malloc(lora.size * sizeof *bits);
	assert_true(tensors && bits);
	for (size_t i = 0; i < lora.size; i++) {
		bits[i] = ol_f32_to_bf16(lora.values[i]);
		assert_true(ol_bf16_to_f32(bits[i]) == lora.values[i]);
	}
	for (size_t i = 0; i < linears; i++)
		tensors[i] = (struct ol_lora_tensors){.rank = golden->rank,
						      .scale = golden->alpha / (float)golden->rank,
						      .a = bits + lora.slices[2 * i].start,
						      .b = bits + lora.slices[2 * i + 1].start};
	ol_must(ol_adapter_make(&adapter, base, &config, tensors, &err), &err);
	ol_plastic_lora_release(&lora);
	free(bits);
	free(tensors);
	return adapter;
}

static double number_at(const json_t *steps, const char *key, int step)
{
	const json_t *array = json_object_get(steps, key);
	assert_int_equal(json_array_size(array), STEPS);
	return json_number_value(json_array_get(array, (size_t)step));
}

static void raise_to(double *worst, double difference)
{
	/* A NaN is larger than anything. */
	*worst = difference <= *worst ? *worst : difference;
}

static bool ten_steps_are_right(const char *name, enum ol_train_method method, const char *section)
{
	const bool full = method == OL_TRAIN_FULL;
	struct ol_model *model = ol_golden_model(name, OL_WEIGHT_F32);
	const struct ol_config *base = ol_model_config(model);
	struct ol_golden golden;
	struct ol_golden_data data;
	struct ol_error err;
	struct ol_trainer *trainer = NULL;
	double worst_loss = 0.0, worst_norm = 0.0;
	ol_golden_open(&golden, name);
	ol_golden_data_make(&data, &golden, method == OL_TRAIN_DPO);
	const json_t *steps = ol_golden_get(&golden, section, "steps");
	struct ol_train_config config = ol_golden_config(&golden, method, base);
	/* The peak is the last step of warm-up. */
	config.learning_rate = (float)number_at(steps, "learning_rates", config.warmup - 1);
	config.weight_decay = (float)json_number_value(json_object_get(steps, "weight_decay"));
	struct ol_adapter *start = full ? NULL : make_start(&golden, base);
	if (start)
		memcpy(config.start, ol_adapter_sha256(start), sizeof config.start);
	/* Micro-batches that cut every step of examples somewhere. */
	const struct ol_train_options options = {.threads = 2, .rows_max = 60, .start = start};
	ol_must(ol_trainer_open_examples(&trainer, model, &data.list, &config, &options, &err),
		&err);
	for (int step = 0; step < STEPS; step++) {
		struct ol_step_report report;
		ol_must(ol_trainer_step(trainer, &report, &err), &err);
		const double norm = number_at(steps, "gradient_norms", step);
		const double rate = number_at(steps, "learning_rates", step);
		raise_to(&worst_loss, fabs(report.loss - number_at(steps, "losses", step)));
		raise_to(&worst_norm, fabs(report.gradient_norm - norm) / norm);
		assert_true(fabs((double)report.learning_rate - rate) <= 2e-7 * rate);
		assert_int_equal(report.step, step + 1);
	}
	assert_true(ol_trainer_finished(trainer));
	ol_trainer_close(trainer);
	ol_adapter_close(start);
	ol_golden_close(&golden);
	ol_model_close(model);
	print_message("%-12s %s losses within %.1e, gradient norms within %.1e\n", name, section,
		      worst_loss, worst_norm);
	return worst_loss <= loss_tolerance && worst_norm <= norm_tolerance;
}

static void the_trainer_equals_pytorch(void **state)
{
	int wrong = 0;
	(void)state;
	for (int i = 0; i < OL_GOLDEN_MODELS; i++) {
		const char *name = ol_golden_models[i];
		wrong += !ten_steps_are_right(name, OL_TRAIN_FULL, "full");
		wrong += !ten_steps_are_right(name, OL_TRAIN_LORA, "lora");
		wrong += !ten_steps_are_right(name, OL_TRAIN_DPO, "dpo");
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_trainer_equals_pytorch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
