/* Right gradients: the tape's f32 losses and gradients against PyTorch's float64 for a tiny model
 * of every architecture (tests/golden/training, made by make_training.py), and what must not be
 * seen in them: micro-batches, recomputation, the instruction set. */
#include "tests/support_train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 3, ROWS = 4 * OL_GOLDEN_LENGTH };

/* Shares of a tensor's largest gradient; PyTorch's own float32 is within 6e-6. */
static const double tolerance = 1e-5;
/* Shares of the loss. */
static const double loss_tolerance = 2e-6;

struct run {
	struct ol_golden golden;
	struct ol_plastic model;
	struct ol_plastic_gradients gradients;
	struct ol_plastic_lora lora;
	struct ol_tape *tape;
};

static void open_tape(struct run *run, const struct ol_kernels *kernels, bool recompute)
{
	const struct ol_tape_options options = {.kernels = kernels,
						.threads = 2,
						.rows_max = ROWS,
						.rank_max = run->golden.rank,
						.full = true,
						.recompute = recompute};
	struct ol_error err;
	ol_must(ol_tape_open(&run->tape, &run->model.config, &run->model.weights, &options, &err),
		&err);
}

static void open_run(struct run *run, const char *name)
{
	struct ol_model *model = ol_golden_model(name, OL_WEIGHT_F32);
	ol_golden_open(&run->golden, name);
	ol_plastic_init(&run->model, model);
	ol_model_close(model);
	ol_plastic_gradients_init(&run->gradients, &run->model);
	ol_plastic_lora_init(&run->lora, &run->model.config, run->golden.rank, run->golden.alpha);
	open_tape(run, NULL, false);
}

static void close_run(struct run *run)
{
	ol_tape_close(run->tape);
	ol_plastic_lora_release(&run->lora);
	ol_plastic_gradients_release(&run->gradients);
	ol_plastic_release(&run->model);
	ol_golden_close(&run->golden);
}

static double share(double value, double golden)
{
	return fabs(value - golden) / fabs(golden);
}

static double golden_number(const struct run *run, const char *section, const char *key)
{
	return json_number_value(ol_golden_get(&run->golden, section, key));
}

/* Loss, and nats of each example. */
static double loss_difference(const struct run *run, const char *section, double loss,
			      const double *nats)
{
	const json_t *golden = ol_golden_get(&run->golden, section, "nats");
	double worst = share(loss, golden_number(run, section, "loss"));
	assert_int_equal(json_array_size(golden), BATCH);
	for (size_t i = 0; i < BATCH; i++) {
		const double each = share(nats[i], json_number_value(json_array_get(golden, i)));
		worst = each <= worst ? worst : each;
	}
	return worst;
}

static bool judge(const char *name, const char *section, double loss, double gradient,
		  const char *worst)
{
	print_message("%-12s %-5s loss within %.1e, gradients within %.1e (%s)\n", name, section,
		      loss, gradient, worst);
	return loss <= loss_tolerance && gradient <= tolerance;
}

static bool full_is_right(struct run *run, const char *name)
{
	double nats[BATCH];
	const char *worst = "-";
	const struct ol_step_request request = {.sequences = run->golden.sequences,
						.count = BATCH,
						.per_pass = BATCH,
						.weights = &run->gradients.tables,
						.nats = nats};
	const double loss = ol_step_run(run->tape, &request);
	ol_plastic_gradients_tie(&run->gradients);
	const double gradient = ol_golden_difference(
		ol_golden_get(&run->golden, "full", "gradients"), run->model.slices,
		run->model.slice_count, run->gradients.values, &worst);
	return judge(name, "full", loss_difference(run, "full", loss, nats), gradient, worst);
}

static bool lora_is_right(struct run *run, const char *name)
{
	double nats[BATCH];
	const char *worst = "-";
	const struct ol_step_request request = {.sequences = run->golden.sequences,
						.count = BATCH,
						.per_pass = BATCH,
						.adapter = &run->lora.view,
						.lora = run->lora.gradients,
						.nats = nats};
	memset(run->lora.gradient_values, 0, run->lora.size * sizeof(float));
	const double loss = ol_step_run(run->tape, &request);
	const double gradient = ol_golden_difference(
		ol_golden_get(&run->golden, "lora", "gradients"), run->lora.slices,
		run->lora.slice_count, run->lora.gradient_values, &worst);
	return judge(name, "lora", loss_difference(run, "lora", loss, nats), gradient, worst);
}

/* Preference tuning by hand: the margins of both pairs, then a step whose rows carry
 * d loss / d nats: beta * sigmoid(-beta * margin) / pairs, negative on what was rejected. */
static bool dpo_is_right(struct run *run, const char *name)
{
	enum { COUNT = 2 * OL_GOLDEN_PAIRS };
	const double beta = json_number_value(json_object_get(run->golden.root, "beta"));
	double with[COUNT], without[COUNT], weights[COUNT], loss = 0.0;
	const char *worst = "-";
	struct ol_step_request request = {.sequences = run->golden.sequences + OL_GOLDEN_EXAMPLES,
					  .count = COUNT,
					  .per_pass = COUNT,
					  .nats = without};
	ol_step_run(run->tape, &request);
	request.adapter = &run->lora.view;
	request.nats = with;
	ol_step_run(run->tape, &request);
	for (int i = 0; i < COUNT; i += 2) {
		const double margin = (without[i] - with[i]) - (without[i + 1] - with[i + 1]);
		loss += log1p(exp(-beta * margin)) / OL_GOLDEN_PAIRS;
		weights[i] = beta / (1.0 + exp(beta * margin)) / OL_GOLDEN_PAIRS;
		weights[i + 1] = -weights[i];
	}
	memset(run->lora.gradient_values, 0, run->lora.size * sizeof(float));
	request.lora = run->lora.gradients;
	request.weights_of = weights;
	ol_step_run(run->tape, &request);
	const double gradient = ol_golden_difference(
		ol_golden_get(&run->golden, "dpo", "gradients"), run->lora.slices,
		run->lora.slice_count, run->lora.gradient_values, &worst);
	return judge(name, "dpo", share(loss, golden_number(run, "dpo", "loss")), gradient, worst);
}

static void every_architecture_equals_pytorch(void **state)
{
	int wrong = 0;
	(void)state;
	for (int i = 0; i < OL_GOLDEN_MODELS; i++) {
		struct run run;
		open_run(&run, ol_golden_models[i]);
		wrong += !full_is_right(&run, ol_golden_models[i]);
		wrong += !lora_is_right(&run, ol_golden_models[i]);
		wrong += !dpo_is_right(&run, ol_golden_models[i]);
		close_run(&run);
	}
	assert_int_equal(wrong, 0);
}

static void differences_are_seen(void **state)
{
	struct run run;
	const char *worst = "-";
	(void)state;
	open_run(&run, "qwen3");
	assert_true(lora_is_right(&run, "qwen3"));
	const json_t *golden = ol_golden_get(&run.golden, "lora", "gradients");
	const struct ol_slice *last = &run.lora.slices[run.lora.slice_count - 1];
	float *x = run.lora.gradient_values + last->start;
	x[last->rows * last->cols / 2] += 1e-4f * (float)ol_norm(x, (size_t)last->rows * 4);
	assert_true(ol_golden_difference(golden, run.lora.slices, run.lora.slice_count,
					 run.lora.gradient_values, &worst) > tolerance);
	assert_string_equal(worst, "head.b");
	x[0] = NAN;
	assert_false(ol_golden_difference(golden, run.lora.slices, run.lora.slice_count,
					  run.lora.gradient_values, &worst) <= tolerance);
	close_run(&run);
}

/* The bits of all gradients and losses of one way to run the same step, in `out`. */
static void run_way(struct run *run, int per_pass, float *out)
{
	double nats[BATCH];
	struct ol_step_request request = {.sequences = run->golden.sequences,
					  .count = BATCH,
					  .per_pass = per_pass,
					  .weights = &run->gradients.tables,
					  .nats = nats};
	const size_t full = run->gradients.size, head = run->gradients.head_size;
	ol_plastic_gradients_clear(&run->gradients);
	ol_step_run(run->tape, &request);
	memcpy(out, run->gradients.values, full * sizeof *out);
	if (head)
		memcpy(out + full, run->gradients.tied_head, head * sizeof *out);
	request.weights = NULL;
	request.adapter = &run->lora.view;
	request.lora = run->lora.gradients;
	memset(run->lora.gradient_values, 0, run->lora.size * sizeof *out);
	ol_step_run(run->tape, &request);
	memcpy(out + full + head, run->lora.gradient_values, run->lora.size * sizeof *out);
	for (int i = 0; i < BATCH; i++)
		out[full + head + run->lora.size + (size_t)i] = (float)nats[i];
}

static void how_a_step_is_run_leaves_no_trace(void **state)
{
	static const char *const names[] = {"gemma3", "qwen2", "llama3-tied", "gemma2"};
	const size_t count = ol_slow() ? OL_ARRAY_LEN(names) : 2;
	(void)state;
	for (size_t i = 0; i < count; i++) {
		struct run run;
		open_run(&run, names[i]);
		const size_t size =
			run.gradients.size + run.gradients.head_size + run.lora.size + BATCH;
		float *first = malloc(size * sizeof *first), *other = malloc(size * sizeof *other);
		assert_true(first && other);
		run_way(&run, BATCH, first);
		for (int per_pass = 1; per_pass < BATCH; per_pass++) {
			run_way(&run, per_pass, other);
			assert_memory_equal(first, other, size * sizeof *first);
		}
		for (int isa = 2 * (int)ol_first_isa(); isa < 2 * OL_ISAS; isa++) {
			const struct ol_kernels *kernels = ol_kernels_for((enum ol_isa)(isa / 2));
			if (!kernels)
				continue;
			ol_tape_close(run.tape);
			open_tape(&run, kernels, isa % 2);
			run_way(&run, 1 + isa % BATCH, other);
			assert_memory_equal(first, other, size * sizeof *first);
		}
		free(first);
		free(other);
		close_run(&run);
	}
}

static double cosine(const float *a, const float *b, size_t n)
{
	double sum = 0.0;
	for (size_t i = 0; i < n; i++)
		sum += (double)a[i] * (double)b[i];
	return sum / (ol_norm(a, n) * ol_norm(b, n));
}

/* Bases of fewer bits: the gradient through them against that through their weights in f32. All
 * that differs is the rounding of activations. */
static void fewer_bits_keep_the_direction(void **state)
{
	static const struct {
		enum ol_weight_type type;
		double least;
	} rows[] = {{OL_WEIGHT_BF16, 0.9995}, {OL_WEIGHT_Q8, 0.995}, {OL_WEIGHT_NF4, 0.995}};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_model *model = ol_golden_model("llama3", rows[i].type);
		struct run run;
		ol_golden_open(&run.golden, "llama3");
		ol_plastic_init(&run.model, model);
		ol_plastic_lora_init(&run.lora, &run.model.config, run.golden.rank,
				     run.golden.alpha);
		open_tape(&run, NULL, false);
		const struct ol_step_request request = {.sequences = run.golden.sequences,
							.count = BATCH,
							.per_pass = BATCH,
							.adapter = &run.lora.view,
							.lora = run.lora.gradients};
		const double exact = ol_step_run(run.tape, &request);
		float *wide = malloc(run.lora.size * sizeof *wide);
		assert_non_null(wide);
		memcpy(wide, run.lora.gradient_values, run.lora.size * sizeof *wide);
		memset(run.lora.gradient_values, 0, run.lora.size * sizeof *wide);

		ol_tape_close(run.tape);
		const struct ol_weights own = run.model.weights;
		run.model.weights = *ol_model_weights(model);
		open_tape(&run, NULL, false);
		const double loss = ol_step_run(run.tape, &request);
		const double angle = cosine(wide, run.lora.gradient_values, run.lora.size);
		print_message("%-5s loss %.5f for %.5f, cosine of the gradients %.6f\n",
			      ol_weight_type_name(rows[i].type), loss, exact, angle);
		assert_true(angle >= rows[i].least && angle < 1.0);
		assert_true(share(loss, exact) < 0.02 && loss != exact);
		run.model.weights = own;
		free(wide);
		ol_tape_close(run.tape);
		ol_plastic_lora_release(&run.lora);
		ol_plastic_release(&run.model);
		ol_golden_close(&run.golden);
		ol_model_close(model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_architecture_equals_pytorch),
		cmocka_unit_test(differences_are_seen),
		cmocka_unit_test(how_a_step_is_run_leaves_no_trace),
		cmocka_unit_test(fewer_bits_keep_the_direction),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
