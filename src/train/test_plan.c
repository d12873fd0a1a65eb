/* Which examples make up which step, the learning rate of each, and the config's text. */
#include "train/plan.h"
#include "train/trainer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "crypto/sha256.h"
#include "math/functions.h"

enum { MANY = 997 };

/* Keys as examples have them. */
static void make_keys(uint64_t *keys, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t hash[OL_SHA256_BYTES];
		char id[32];
		const int length = snprintf(id, sizeof id, "example %zu", i);
		ol_sha256(hash, id, (size_t)length);
		memcpy(&keys[i], hash, sizeof keys[i]);
	}
}

static void open_plan(struct ol_plan *plan, const uint64_t *keys, size_t count, double fraction,
		      uint64_t seed)
{
	struct ol_error err = {0};
	if (ol_plan_init(plan, keys, count, fraction, seed, true, &err) != OL_OK)
		fail_msg("%s", err.text);
}

/* The train examples of one epoch, in order. */
static void epoch_order(struct ol_plan *plan, int64_t epoch, uint32_t *out)
{
	const int64_t n = (int64_t)plan->train_count;
	for (int64_t i = 0; i < n; i++)
		ol_plan_step(plan, epoch * n + i, 1, &out[i]);
}

static void test_every_epoch_has_every_example_once(void **state)
{
	(void)state;
	static uint64_t keys[MANY];
	static uint32_t order[2][MANY];
	struct ol_plan plan;
	make_keys(keys, MANY);
	open_plan(&plan, keys, MANY, 0.1, 7);
	assert_int_equal(plan.train_count + plan.held_out_count, MANY);
	for (int epoch = 0; epoch < 2; epoch++) {
		bool seen[MANY] = {false};
		for (size_t i = 0; i < plan.held_out_count; i++)
			seen[plan.held_out[i]] = true;
		epoch_order(&plan, epoch, order[epoch]);
		for (size_t i = 0; i < plan.train_count; i++) {
			assert_false(seen[order[epoch][i]]);
			seen[order[epoch][i]] = true;
		}
	}
	assert_memory_not_equal(order[0], order[1], plan.train_count * sizeof order[0][0]);
	ol_plan_release(&plan);
}

/* The number held out is about what was asked for: within five standard deviations. */
static void test_the_split_is_of_the_size_asked_for(void **state)
{
	(void)state;
	static uint64_t keys[MANY];
	make_keys(keys, MANY);
	for (int percent = 0; percent <= 50; percent += 5) {
		const double f = percent / 100.0, spread = sqrt(MANY * f * (1 - f));
		struct ol_plan plan;
		open_plan(&plan, keys, MANY, f, 7);
		assert_true(fabs((double)plan.held_out_count - MANY * f) <= 5 * spread);
		ol_plan_release(&plan);
	}
}

/* Without some of the examples the others are held out or not as before, and keep their order:
 * what retraining without a contributor rests on. The seed changes the order, not the split. */
static void test_examples_do_not_depend_on_each_other(void **state)
{
	(void)state;
	static uint64_t keys[MANY], fewer[MANY];
	static uint32_t index[MANY], all[MANY], some[MANY], other[MANY];
	struct ol_plan plan, subset, seeded;
	size_t kept = 0, at = 0;
	make_keys(keys, MANY);
	for (uint32_t i = 0; i < MANY; i++)
		if (i % 3 != 1) {
			index[kept] = i;
			fewer[kept++] = keys[i];
		}
	open_plan(&plan, keys, MANY, 0.2, 7);
	open_plan(&subset, fewer, kept, 0.2, 7);
	open_plan(&seeded, keys, MANY, 0.2, 8);
	epoch_order(&plan, 3, all);
	epoch_order(&subset, 3, some);
	epoch_order(&seeded, 3, other);
	for (size_t i = 0; i < plan.train_count; i++)
		if (all[i] % 3 != 1) {
			assert_true(at < subset.train_count);
			assert_int_equal(all[i], index[some[at++]]);
		}
	assert_int_equal(at, subset.train_count);
	assert_int_equal(plan.held_out_count, seeded.held_out_count);
	assert_memory_equal(plan.held_out, seeded.held_out,
			    plan.held_out_count * sizeof *plan.held_out);
	assert_memory_not_equal(all, other, plan.train_count * sizeof *all);
	ol_plan_release(&seeded);
	ol_plan_release(&subset);
	ol_plan_release(&plan);
}

/* Steps may be asked for in any order, as a resumed run does, and straddle epochs. */
static void test_steps_are_the_epochs_one_after_another(void **state)
{
	(void)state;
	enum { FEW = 11, BATCH = 4, STEPS = 9 };
	uint64_t keys[FEW];
	uint32_t stream[44], batch[BATCH];
	struct ol_plan plan;
	make_keys(keys, FEW);
	open_plan(&plan, keys, FEW, 0, 1);
	for (int epoch = 0; epoch < 4; epoch++)
		epoch_order(&plan, epoch, stream + epoch * FEW);
	for (int step = STEPS; step >= 0; step -= 2) {
		ol_plan_step(&plan, step, BATCH, batch);
		assert_memory_equal(batch, stream + step * BATCH, sizeof batch);
	}
	ol_plan_release(&plan);
}

static void test_small_sets_keep_something_on_both_sides(void **state)
{
	(void)state;
	uint64_t keys[3];
	struct ol_plan plan;
	make_keys(keys, 3);
	open_plan(&plan, keys, 3, 1e-6, 1); /* nobody's hash is so low */
	assert_int_equal(plan.held_out_count, 1);
	assert_int_equal(plan.train_count, 2);
	for (size_t i = 0; i < plan.train_count; i++)
		assert_true(keys[plan.held_out[0]] < keys[plan.train[i]]);
	ol_plan_release(&plan);
	const uint64_t low[] = {5, 3};
	open_plan(&plan, low, 2, 0.5, 1); /* both are below */
	assert_int_equal(plan.train_count, 1);
	assert_int_equal(plan.train[0], 0);
	ol_plan_release(&plan);
	open_plan(&plan, low, 1, 0.5, 1);
	assert_int_equal(plan.train_count, 1);
	assert_int_equal(plan.held_out_count, 0);
	ol_plan_release(&plan);
	struct ol_error err = {0};
	assert_int_equal(ol_plan_init(&plan, keys, 0, 0, 1, true, &err), OL_ERR_INPUT);
}

static void test_in_the_order_of_the_dataset(void **state)
{
	(void)state;
	uint64_t keys[5];
	uint32_t batch[7];
	struct ol_plan plan;
	make_keys(keys, 5);
	assert_int_equal(ol_plan_init(&plan, keys, 5, 0, 1, false, NULL), OL_OK);
	ol_plan_step(&plan, 1, 7, batch);
	const uint32_t expected[] = {2, 3, 4, 0, 1, 2, 3};
	assert_memory_equal(batch, expected, sizeof expected);
	ol_plan_release(&plan);
}

/* The first entries of an order, as docs/ARITHMETIC.md defines it. */
static void test_a_known_order(void **state)
{
	(void)state;
	const uint64_t keys[] = {0, 1, 2, 3, UINT64_MAX};
	struct ol_plan plan;
	uint64_t ranks[5];
	open_plan(&plan, keys, 5, 0, 0x0123456789abcdef);
	for (size_t i = 0; i < 5; i++) {
		const uint32_t counter[4] = {2, 6, (uint32_t)keys[i], (uint32_t)(keys[i] >> 32)};
		const uint32_t key[2] = {0x89abcdef, 0x01234567};
		uint32_t words[4];
		ol_philox(words, counter, key);
		ranks[i] = (uint64_t)words[1] << 32 | words[0];
	}
	uint32_t order[5];
	epoch_order(&plan, 6, order);
	for (size_t i = 1; i < 5; i++)
		assert_true(ranks[order[i - 1]] < ranks[order[i]]);
	ol_plan_release(&plan);
}

static void test_groups_are_whole_units_within_the_rows(void **state)
{
	(void)state;
	const int sizes[] = {5, 5, 6, 20, 1, 1, 9};
	static const struct {
		int rows_max;
		size_t ends[7];
		int groups;
	} rows[] = {
		{10, {2, 3, 4, 6, 7}, 5},
		{16, {3, 4, 7}, 3},
		{1, {1, 2, 3, 4, 5, 6, 7}, 7},
		{47, {7}, 1},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		size_t begin = 0;
		for (int g = 0; g < rows[i].groups; g++) {
			begin = ol_plan_group(sizes, begin, 7, rows[i].rows_max);
			assert_int_equal(begin, rows[i].ends[g]);
		}
	}
}

/* ---- The schedule -------------------------------------------------------------------------- */

static void test_schedules(void **state)
{
	(void)state;
	const double pi = 3.14159265358979323846;
	for (int step = 0; step < 100; step++) {
		const double p = (step - 10) / 90.0, warm = (step + 1) / 10.0;
		const double expected[] = {1, 1 - 0.75 * p, 0.25 + 0.75 * (1 + cos(pi * p)) / 2};
		for (int s = 0; s < OL_SCHEDULES; s++) {
			const double f = ol_schedule_at((enum ol_schedule)s, step, 10, 100, 0.25);
			assert_true(fabs(f - (step < 10 ? warm : expected[s])) < 1e-15);
		}
	}
	assert_true(ol_schedule_at(OL_SCHEDULE_COSINE, 0, 0, 1, 0) == 1);
	assert_true(ol_schedule_at(OL_SCHEDULE_LINEAR, 3, 3, 4, 0) == 1);
	enum ol_schedule parsed;
	for (int s = 0; s < OL_SCHEDULES; s++) {
		assert_true(ol_schedule_parse(&parsed, ol_schedule_name((enum ol_schedule)s)));
		assert_int_equal(parsed, s);
	}
	assert_false(ol_schedule_parse(&parsed, "polynomial"));
}

/* ---- The config ---------------------------------------------------------------------------- */

static const struct ol_config base = {.hidden = 256, .context_max = 2048};

static struct ol_train_config some_config(void)
{
	struct ol_train_config c;
	ol_train_defaults(&c, OL_TRAIN_LORA, &base, 400, 0);
	return c;
}

static void test_defaults_are_in_range(void **state)
{
	(void)state;
	static const size_t counts[] = {1, 7, 100, 3000, 1000000};
	static const int widths[] = {64, 256, 2048, 8192};
	for (int m = 0; m < OL_TRAIN_METHODS; m++)
		for (size_t i = 0; i < OL_ARRAY_LEN(counts); i++)
			for (size_t w = 0; w < OL_ARRAY_LEN(widths); w++) {
				const struct ol_config model = {.hidden = widths[w],
								.context_max = 128};
				struct ol_train_config c;
				struct ol_error err = {0};
				ol_train_defaults(&c, (enum ol_train_method)m, &model, counts[i],
						  0);
				if (ol_train_config_check(&c, &model, &err) != OL_OK)
					fail_msg("%s", err.text);
			}
}

static void test_the_text_comes_back(void **state)
{
	(void)state;
	struct ol_train_config c = some_config(), again;
	struct ol_buf text, twice;
	c.method = OL_TRAIN_DPO;
	c.rslora = c.attributable = true;
	c.seed = UINT64_MAX;
	c.targets = 0xa5;
	c.start[31] = 0xfe;
	c.order = OL_ORDER_DATASET;
	c.learning_rate = 0x1.234568p-12f;
	ol_buf_init(&text, OL_TRAIN_CONFIG_MAX);
	ol_buf_init(&twice, OL_TRAIN_CONFIG_MAX);
	assert_true(ol_train_config_write(&text, &c));
	assert_int_equal(ol_train_config_read(&again, text.data, text.size, NULL), OL_OK);
	assert_true(ol_train_config_write(&twice, &again));
	assert_int_equal(text.size, twice.size);
	assert_memory_equal(text.data, twice.data, text.size);
	assert_true(again.learning_rate == c.learning_rate && again.seed == c.seed &&
		    again.rslora && again.attributable && again.targets == 0xa5 &&
		    again.start[31] == 0xfe && again.order == OL_ORDER_DATASET);
	ol_buf_release(&twice);
	/* Cut anywhere, or with anything more: not a config. */
	for (size_t cut = 0; cut < text.size; cut++)
		assert_int_equal(ol_train_config_read(&again, text.data, cut, NULL), OL_ERR_INPUT);
	assert_true(ol_buf_append_text(&text, "\n"));
	assert_int_equal(ol_train_config_read(&again, text.data, text.size, NULL), OL_ERR_INPUT);
	ol_buf_release(&text);
}

/* One row per way to be wrong: the sentence names the option. */
static void test_what_is_out_of_range_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *said;
		size_t offset;
		bool real;
		double value;
	} rows[] = {
#define INT_ROW(said, name, value) {said, offsetof(struct ol_train_config, name), false, value}
#define REAL_ROW(said, name, value)                                                                \
	{                                                                                          \
		said, offsetof(struct ol_train_config, name), true, value                          \
	}
		INT_ROW("--rank", rank, 0),
		INT_ROW("--rank", rank, OL_RANK_MAX + 1),
		INT_ROW("--steps", steps, 0),
		INT_ROW("--batch", batch, 0),
		INT_ROW("--warmup", warmup, 1000000),
		INT_ROW("--max-length", max_length, 4096),
		INT_ROW("--max-length", max_length, 1),
		INT_ROW("--targets", targets, 0),
		INT_ROW("--targets", targets, 0x100),
		INT_ROW("--patience", patience, -1),
		REAL_ROW("--alpha", alpha, 0),
		REAL_ROW("--dropout", dropout, 1),
		REAL_ROW("--lr", learning_rate, -1),
		REAL_ROW("--lr", learning_rate, NAN),
		REAL_ROW("--beta2", beta2, 1),
		REAL_ROW("--eps", eps, 0),
		REAL_ROW("--eval-fraction", eval_fraction, 1),
		REAL_ROW("--final-fraction", final_fraction, 1.5),
		REAL_ROW("--dpo-beta", dpo_beta, 0),
		REAL_ROW("--clip", clip_norm, -1),
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_train_config c = some_config();
		struct ol_error err = {0};
		const int integer = (int)(rows[i].real ? 0 : rows[i].value);
		const float real = (float)rows[i].value;
		memcpy((char *)&c + rows[i].offset,
		       rows[i].real ? (const void *)&real : (const void *)&integer, 4);
		assert_int_equal(ol_train_config_check(&c, &base, &err), OL_ERR_INPUT);
		if (!strstr(err.text, rows[i].said))
			fail_msg("%s is not named: %s", rows[i].said, err.text);
	}
	struct ol_train_config c = some_config();
	struct ol_error err = {0};
	c.method = OL_TRAIN_QLORA;
	c.base_type = OL_WEIGHT_BF16;
	assert_int_equal(ol_train_config_check(&c, &base, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "nf4 or q8"));
	c = some_config();
	c.from_scratch = true;
	assert_int_equal(ol_train_config_check(&c, &base, &err), OL_ERR_INPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_epoch_has_every_example_once),
		cmocka_unit_test(test_the_split_is_of_the_size_asked_for),
		cmocka_unit_test(test_examples_do_not_depend_on_each_other),
		cmocka_unit_test(test_steps_are_the_epochs_one_after_another),
		cmocka_unit_test(test_small_sets_keep_something_on_both_sides),
		cmocka_unit_test(test_in_the_order_of_the_dataset),
		cmocka_unit_test(test_a_known_order),
		cmocka_unit_test(test_groups_are_whole_units_within_the_rows),
		cmocka_unit_test(test_schedules),
		cmocka_unit_test(test_defaults_are_in_range),
		cmocka_unit_test(test_the_text_comes_back),
		cmocka_unit_test(test_what_is_out_of_range_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
