/* Training runs on a tiny base: what is learned, and that nothing but base, data and config reaches
 * the result. */
#include "train/test_support.h"

#include <math.h>
#include <unistd.h>

#include "train/trainer_internal.h"

/* ---- Learning ------------------------------------------------------------------------------ */

static double mean_nats(struct ol_trainer *trainer, const struct toys *toys)
{
	double nats[TOYS_MAX], sum = 0;
	struct ol_error err = {0};
	must(ol_trainer_nats(trainer, nats, &err), &err);
	for (size_t i = 0; i < toys->list.count; i++)
		sum += nats[i] / 5;
	return sum / (double)toys->list.count;
}

static void test_losses_fall_by_every_method(void **state)
{
	(void)state;
	static const struct {
		enum ol_train_method method;
		bool attributable, rslora, from_scratch;
		double most; /* of the loss at the end, of that at the beginning */
	} rows[] = {
		{OL_TRAIN_LORA, false, false, false, 0.1},
		{OL_TRAIN_LORA, true, false, false, 0.35},
		{OL_TRAIN_LORA, false, true, false, 0.1},
		{OL_TRAIN_QLORA, false, false, false, 0.1},
		{OL_TRAIN_FULL, false, false, false, 0.1},
		{OL_TRAIN_FULL, false, false, true, 0.3},
	};
	static struct toys toys;
	make_toys(&toys, 32);
	struct ol_model *base = tiny_model(true, OL_WEIGHT_BF16);
	for (size_t i = 0; i < (SANITIZED ? 1 : OL_ARRAY_LEN(rows)); i++) {
		struct ol_train_config config = toy_config(rows[i].method, 80);
		config.attributable = rows[i].attributable;
		config.rslora = rows[i].rslora;
		config.from_scratch = rows[i].from_scratch;
		config.dropout = i == 0 ? 0.05f : 0;
		struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
		const double before = mean_nats(trainer, &toys);
		run_toys(trainer);
		const double after = mean_nats(trainer, &toys);
		if (!(after < rows[i].most * before))
			fail_msg("row %zu: %g nats before, %g after", i, before, after);
		ol_trainer_close(trainer);
	}
	ol_model_close(base);
}

static void test_preferences_are_learned(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 32);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	const struct ol_train_config config = toy_config(OL_TRAIN_DPO, 40);
	struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
	struct ol_step_report report;
	struct ol_error err = {0};
	must(ol_trainer_step(trainer, &report, &err), &err);
	/* B is zero: the policy is the reference. */
	assert_true(fabs(report.loss - log(2)) < 1e-12);
	assert_true(report.dpo_margin == 0);
	report = run_toys(trainer);
	assert_true(report.loss < 0.35);
	assert_true(report.dpo_accuracy == 1);
	assert_true(report.evaluated && report.evaluation.dpo_accuracy > 0.8);
	ol_trainer_close(trainer);
	ol_model_close(base);
}

/* -log sigmoid and its slope, where exp would overflow and where it would vanish. */
static void test_preference_loss(void **state)
{
	(void)state;
	for (double z = -600; z <= 600; z += 0.37) {
		double slope;
		const double loss = ol_preference_loss(z, &slope);
		const double expected = z > 0 ? log1p(exp(-z)) : -z + log1p(exp(z));
		assert_true(fabs(loss - expected) <= 4e-16 * fmax(1, fabs(expected)));
		assert_true(fabs(slope - 1 / (1 + exp(z))) <= 4e-16);
	}
}

/* ---- What is published --------------------------------------------------------------------- */

static void adapter_hash(const struct ol_trainer *trainer, uint8_t out[OL_SHA256_BYTES])
{
	struct ol_adapter *adapter;
	struct ol_error err = {0};
	must(ol_trainer_adapter(trainer, &adapter, &err), &err);
	memcpy(out, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	ol_adapter_close(adapter);
}

/* The whole result of a run: adapter or weights, moments, losses of the examples. */
static void result_hash(const struct ol_trainer *t, uint8_t out[OL_SHA256_BYTES])
{
	struct ol_sha256 hash;
	const size_t bytes = t->params.floats * sizeof(float);
	assert_true(ol_sha256_init(&hash));
	if (t->config.method != OL_TRAIN_FULL) {
		adapter_hash(t, out);
		ol_sha256_update(&hash, out, OL_SHA256_BYTES);
	}
	ol_sha256_update(&hash, t->params.w, bytes);
	ol_sha256_update(&hash, t->params.m, bytes);
	ol_sha256_update(&hash, t->params.v, bytes);
	ol_sha256_update(&hash, t->example_losses, t->count * sizeof *t->example_losses);
	ol_sha256_update(&hash, &t->optimizer, sizeof t->optimizer);
	ol_sha256_update(&hash, &t->best.step, sizeof t->best.step);
	ol_sha256_update(&hash, &t->best.loss, sizeof t->best.loss);
	ol_sha256_update(&hash, t->best.values, t->best.bytes);
	ol_sha256_final(&hash, out);
}

/* A frozen A is what the public seed gives, to the bit, whatever was trained. */
static void test_a_frozen_a_is_the_seeds(void **state)
{
	(void)state;
	static struct toys few, many;
	make_toys(&few, 10);
	make_toys(&many, 30);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	struct ol_train_config config = toy_config(OL_TRAIN_LORA, 6);
	config.attributable = true;
	struct ol_adapter *adapters[2];
	struct ol_error err = {0};
	for (int i = 0; i < 2; i++) {
		config.seed = (uint64_t)i;
		struct ol_trainer *trainer = open_toys(base, i ? &many : &few, &config, NULL);
		run_toys(trainer);
		must(ol_trainer_adapter(trainer, &adapters[i], &err), &err);
		ol_trainer_close(trainer);
	}
	const struct ol_config *c = ol_model_config(base);
	const struct ol_lora_tensors *x = ol_adapter_tensors(adapters[0]);
	const struct ol_lora_tensors *y = ol_adapter_tensors(adapters[1]);
	for (int i = 0; i < ol_linear_count(c); i++) {
		int outputs, inputs;
		ol_linear_shape(c, i == 14 ? OL_LINEAR_HEAD : (enum ol_linear)(i % 7), &outputs,
				&inputs);
		assert_int_equal(x[i].rank, 4);
		assert_true(x[i].scale == 2);
		assert_memory_equal(x[i].a, y[i].a, 4 * (size_t)inputs * sizeof *x[i].a);
		assert_memory_not_equal(x[i].b, y[i].b, 4 * (size_t)outputs * sizeof *x[i].b);
		for (int k = 0; k < 4 * inputs; k++)
			assert_true(fabs((double)ol_bf16_to_f32(x[i].a[k])) <=
				    1.01 / sqrt((double)inputs));
	}
	ol_adapter_close(adapters[0]);
	ol_adapter_close(adapters[1]);
	ol_model_close(base);
}

/* Going on from an adapter begins with exactly its losses. */
static void test_training_goes_on_from_an_adapter(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 20);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	struct ol_train_config config = toy_config(OL_TRAIN_LORA, 20);
	struct ol_adapter *adapter;
	struct ol_error err = {0};
	double first[TOYS_MAX], second[TOYS_MAX];
	config.eval_fraction = 0;
	struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
	run_toys(trainer);
	must(ol_trainer_nats(trainer, first, &err), &err);
	must(ol_trainer_adapter(trainer, &adapter, &err), &err);
	ol_trainer_close(trainer);
	const struct ol_train_options options = {.start = adapter};
	trainer = open_toys(base, &toys, &config, &options);
	must(ol_trainer_nats(trainer, second, &err), &err);
	assert_memory_equal(first, second, 20 * sizeof *first);
	assert_memory_equal(ol_trainer_config(trainer)->start, ol_adapter_sha256(adapter),
			    OL_SHA256_BYTES);
	run_toys(trainer);
	ol_trainer_close(trainer);
	config.rank = 5;
	assert_int_equal(
		ol_trainer_open_examples(&trainer, base, &toys.list, &config, &options, &err),
		OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "--rank"));
	ol_adapter_close(adapter);
	ol_model_close(base);
}

static void test_a_trained_model_is_written(void **state)
{
	(void)state;
	static struct toys toys;
	char path[] = "build/trained-XXXXXX";
	const int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	make_toys(&toys, 20);
	struct ol_model *base = tiny_model(true, OL_WEIGHT_BF16), *written;
	struct ol_train_config config = toy_config(OL_TRAIN_FULL, 12);
	struct ol_error err = {0};
	double first[TOYS_MAX], second[TOYS_MAX];
	config.eval_fraction = 0;
	struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
	run_toys(trainer);
	must(ol_trainer_nats(trainer, first, &err), &err);
	must(ol_trainer_write_model(trainer, path, OL_WEIGHT_F32, &err), &err);
	ol_trainer_close(trainer);
	must(ol_model_open(&written, path, &err), &err);
	must(ol_model_verify(written, &err), &err);
	trainer = open_toys(written, &toys, &config, NULL);
	must(ol_trainer_nats(trainer, second, &err), &err);
	assert_memory_equal(first, second, 20 * sizeof *first);
	ol_trainer_close(trainer);
	ol_model_close(written);
	ol_model_close(base);
	unlink(path);
}

/* ---- The best, and stopping ---------------------------------------------------------------- */

/* With a rate that destroys what was learned, the published state is the best, not the last. */
static void test_the_best_is_published_and_patience_ends(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 32);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	struct ol_train_config config = toy_config(OL_TRAIN_LORA, 400);
	struct ol_step_report report;
	struct ol_error err = {0};
	config.schedule = OL_SCHEDULE_CONSTANT;
	config.learning_rate = 0.3f;
	config.patience = 3;
	struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
	double best = INFINITY;
	int best_step = 0, stale = 0;
	uint8_t at_best[OL_SHA256_BYTES], published[OL_SHA256_BYTES];
	while (!ol_trainer_finished(trainer)) {
		must(ol_trainer_step(trainer, &report, &err), &err);
		assert_int_equal(report.evaluated, report.step % 4 == 0);
		if (!report.evaluated)
			continue;
		assert_int_equal(report.evaluation.best, report.evaluation.loss < best);
		stale = report.evaluation.best ? 0 : stale + 1;
		if (report.evaluation.best) {
			best = report.evaluation.loss;
			best_step = report.step;
			adapter_hash(trainer, at_best);
		}
		struct ol_evaluation again;
		must(ol_trainer_evaluate(trainer, &again, &err), &err);
		assert_true(again.loss == report.evaluation.loss);
		assert_true(fabs(again.perplexity - exp(again.loss)) < 1e-9 * again.perplexity);
	}
	double loss;
	assert_int_equal(ol_trainer_best(trainer, &loss), best_step);
	assert_true(loss == best);
	assert_true(ol_trainer_steps_done(trainer) < 400 && stale == 3);
	adapter_hash(trainer, published);
	assert_memory_equal(published, at_best, sizeof published);
	ol_trainer_close(trainer);
	ol_model_close(base);
}

/* Per-example losses: those of the batch that was last seen, at the weights before that step. */
static void test_losses_of_examples_are_remembered(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 12);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_F32);
	struct ol_train_config config = toy_config(OL_TRAIN_LORA, 3);
	double nats[TOYS_MAX];
	struct ol_step_report report;
	struct ol_error err = {0};
	config.learning_rate = 0;
	struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
	const float *losses = ol_trainer_example_losses(trainer);
	must(ol_trainer_nats(trainer, nats, &err), &err);
	must(ol_trainer_step(trainer, &report, &err), &err);
	double sum = 0;
	int seen = 0;
	for (size_t i = 0; i < toys.list.count; i++) {
		if (isnan(losses[i]))
			continue;
		assert_false(ol_trainer_is_held_out(trainer, i));
		assert_true(losses[i] == (float)(nats[i] / 5));
		sum += nats[i];
		seen++;
	}
	assert_int_equal(seen, 5);
	assert_int_equal(report.answer_tokens, 25);
	assert_true(fabs(report.loss - sum / 25) < 1e-12);
	ol_trainer_close(trainer);
	ol_model_close(base);
}

/* ---- Nothing else reaches the result ------------------------------------------------------- */

struct way {
	enum ol_isa isa;
	int threads, rows_max, recompute;
};

static void run_way(const struct ol_model *base, const struct toys *toys,
		    const struct ol_train_config *config, const struct way *way,
		    uint8_t out[OL_SHA256_BYTES])
{
	const struct ol_train_options options = {.kernels = ol_kernels_for(way->isa),
						 .threads = way->threads,
						 .rows_max = way->rows_max,
						 .recompute = way->recompute};
	struct ol_trainer *trainer = open_toys(base, toys, config, &options);
	run_toys(trainer);
	result_hash(trainer, out);
	ol_trainer_close(trainer);
}

static struct ol_train_config config_of(int method, bool attributable)
{
	struct ol_train_config config = toy_config((enum ol_train_method)method, 6);
	config.dropout = 0.1f;
	config.attributable = attributable;
	config.batch = 7;
	return config;
}

static void test_the_way_it_runs_does_not_matter(void **state)
{
	(void)state;
	/* Threads, rows of a micro-batch, recomputation; the first three always. */
	static const int ways[][3] = {{2, 1000, -1}, {4, 40, 1}, {1, 25, -1}, {1, 1, 1},
				      {2, 30, 1},    {2, 1, -1}, {4, 55, -1}, {4, 1000, 1},
				      {3, 70, 0},    {1, 70, 1}};
	const int way_count = is_slow() ? (int)OL_ARRAY_LEN(ways) : 3;
	static struct toys toys;
	make_toys(&toys, 24);
	for (int method = 0; method < OL_TRAIN_METHODS; method++) {
		struct ol_model *base = tiny_model(method % 2, OL_WEIGHT_BF16);
		const struct ol_train_config config = config_of(method, method == OL_TRAIN_LORA);
		const int first_isa = SANITIZED ? ol_kernels_best()->isa : OL_ISA_SCALAR;
		const struct way first = {(enum ol_isa)first_isa, 1, 1, -1};
		uint8_t expected[OL_SHA256_BYTES], actual[OL_SHA256_BYTES];
		run_way(base, &toys, &config, &first, expected);
		for (int isa = first_isa; isa < OL_ISAS; isa++)
			for (int i = 0; i < way_count && ol_kernels_for((enum ol_isa)isa); i++) {
				const struct way way = {(enum ol_isa)isa, ways[i][0], ways[i][1],
							ways[i][2]};
				run_way(base, &toys, &config, &way, actual);
				if (memcmp(expected, actual, sizeof actual) != 0)
					fail_msg("method %s, instruction set %d, way %d",
						 ol_train_method_name(config.method), isa, i);
			}
		ol_model_close(base);
	}
}

/* The same on every machine and by every compiler: what short runs come to. */
static void test_known_results(void **state)
{
	(void)state;
	static const char *const known[OL_TRAIN_METHODS] = {
		"faec3fb0b43fbda9a4428585dd8e1f0d50c3e19f86589d6d5e5d6442c83871ed",
		"808690639d3333739acfb6822f75d1e2545f5945bece9cb303cc5987ed6581e9",
		"6bf24467188d7ac49e142fc81fb7b1fd9839bdf65701a75cf8f2426d6c4a1b46",
		"1bd4e0b781f4bcf9191aab77849a1f2010a1fd73c0a45adf372661b55ef04ea1",
	};
	static struct toys toys;
	make_toys(&toys, 24);
	for (int method = 0; method < OL_TRAIN_METHODS; method++) {
		struct ol_model *base = tiny_model(method % 2, OL_WEIGHT_BF16);
		const struct ol_train_config config = config_of(method, method == OL_TRAIN_DPO);
		const struct way way = {ol_kernels_best()->isa, 2, 0, 0};
		uint8_t hash[OL_SHA256_BYTES];
		char text[2 * OL_SHA256_BYTES + 1];
		run_way(base, &toys, &config, &way, hash);
		ol_hex(text, hash, sizeof hash);
		assert_string_equal(text, known[method]);
		ol_model_close(base);
	}
}

/* And what is part of the config does. */
static void test_what_is_in_the_config_matters(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 24);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	uint8_t hashes[8][OL_SHA256_BYTES];
	for (int i = 0; i < 8; i++) {
		struct ol_train_config config = config_of(OL_TRAIN_LORA, false);
		config.seed += i == 1;
		config.init_seed += i == 2;
		config.dropout = i == 3 ? 0.2f : config.dropout;
		config.weight_decay = i == 4 ? 0.2f : config.weight_decay;
		config.clip_norm = i == 5 ? 0.1f : config.clip_norm;
		config.schedule = i == 6 ? OL_SCHEDULE_LINEAR : config.schedule;
		config.rslora = i == 7;
		const struct way way = {ol_kernels_best()->isa, 2, 0, 0};
		run_way(base, &toys, &config, &way, hashes[i]);
		for (int j = 0; j < i; j++)
			assert_memory_not_equal(hashes[i], hashes[j], OL_SHA256_BYTES);
	}
	ol_model_close(base);
}

/* ---- What is refused ----------------------------------------------------------------------- */

static void test_what_cannot_be_trained_is_named(void **state)
{
	(void)state;
	static struct toys toys;
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	const struct ol_train_config lora = toy_config(OL_TRAIN_LORA, 3);
	const struct ol_train_config dpo = toy_config(OL_TRAIN_DPO, 3);
	const struct ol_train_options tight = {.memory_max = 1000};
	struct ol_trainer *trainer;
	struct ol_error err = {0};
	make_toys(&toys, 8);
	toys.tokens[6][1] = 70;
	assert_int_equal(ol_trainer_open_examples(&trainer, base, &toys.list, &lora, NULL, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "\"toy 3\" has a token outside the vocabulary of 70"));
	make_toys(&toys, 8);
	for (int t = 0; t < TOY_TOKENS_MAX; t++)
		toys.targets[8][t] = -1;
	assert_int_equal(ol_trainer_open_examples(&trainer, base, &toys.list, &lora, NULL, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "\"toy 4\" has no answer"));
	make_toys(&toys, 8);
	toys.examples[5].rejected.count = 0;
	assert_int_equal(ol_trainer_open_examples(&trainer, base, &toys.list, &dpo, NULL, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "\"toy 5\" has no rejected answer"));
	assert_int_equal(ol_trainer_open_examples(&trainer, base, &toys.list, &lora, &tight, &err),
			 OL_ERR_FULL);
	assert_non_null(strstr(err.text, "--max-length"));
	ol_model_close(base);
}

/* A rate far too high: the run ends with a sentence that names step and example, and the numbers
 * never come out as a result. */
static void test_a_diverging_run_stops(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 24);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_F32);
	struct ol_train_config config = toy_config(OL_TRAIN_FULL, 300);
	struct ol_step_report report;
	struct ol_error err = {0};
	config.learning_rate = 10;
	config.eps = 1e-30f;
	config.weight_decay = 10;
	config.eval_fraction = 0;
	config.schedule = OL_SCHEDULE_CONSTANT;
	struct ol_trainer *trainer = open_toys(base, &toys, &config, NULL);
	enum ol_status status = OL_OK;
	while (status == OL_OK && !ol_trainer_finished(trainer))
		status = ol_trainer_step(trainer, &report, &err);
	char step[32];
	snprintf(step, sizeof step, "step %d", ol_trainer_steps_done(trainer) + 1);
	assert_int_equal(status, OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "diverges"));
	assert_non_null(strstr(err.text, "\"toy "));
	assert_non_null(strstr(err.text, step));
	ol_trainer_close(trainer);
	ol_model_close(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_losses_fall_by_every_method),
		cmocka_unit_test(test_preferences_are_learned),
		cmocka_unit_test(test_preference_loss),
		cmocka_unit_test(test_a_frozen_a_is_the_seeds),
		cmocka_unit_test(test_training_goes_on_from_an_adapter),
		cmocka_unit_test(test_a_trained_model_is_written),
		cmocka_unit_test(test_the_best_is_published_and_patience_ends),
		cmocka_unit_test(test_losses_of_examples_are_remembered),
		cmocka_unit_test(test_the_way_it_runs_does_not_matter),
		cmocka_unit_test(test_known_results),
		cmocka_unit_test(test_what_is_in_the_config_matters),
		cmocka_unit_test(test_what_cannot_be_trained_is_named),
		cmocka_unit_test(test_a_diverging_run_stops),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
