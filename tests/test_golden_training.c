/* Training of version 0-draft, written down: the SHA-256 of adapters (and the id of a model) that
 * short runs over the tiny models of tests/golden/models end with. The same on every compiler,
 * optimisation level, instruction set and number of threads, however the steps are cut into
 * micro-batches; whoever changes a line here changes the arithmetic of training. */
#include "tests/support_train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAYS = 3 };

struct golden_row {
	const char *model;
	enum ol_weight_type base;
	enum ol_train_method method;
	bool attributable, rslora;
	float dropout;
	uint32_t targets;
	const char *sha256;
};

#define EVERY (OL_TARGETS_ALL | OL_TARGETS_HEAD)
#define QUERY_VALUE (1u << OL_LINEAR_Q | 1u << OL_LINEAR_V)

static const struct golden_row golden[] = {
	{"llama3", OL_WEIGHT_F32, OL_TRAIN_LORA, false, false, 0.0f, EVERY,
	 "48b8096fccbbfe99a90a71e26017c03aaa890547e0892215d57a984ab7375ea8"},
	{"llama3", OL_WEIGHT_BF16, OL_TRAIN_LORA, false, true, 0.1f, OL_TARGETS_ALL,
	 "bfd453307a3c77553c6ae206fe43c58ed4f3c87764c85dd1ac2473da347ff94b"},
	{"mistral", OL_WEIGHT_Q8, OL_TRAIN_LORA, true, false, 0.0f, QUERY_VALUE,
	 "a2600b7b4a8c5de7573424232eef0ee838f1c316149b1b189adaba0946e90f20"},
	{"gemma2", OL_WEIGHT_F32, OL_TRAIN_LORA, false, false, 0.0f, EVERY,
	 "ca1c9020b28da4c1fa3845966ac1b0dcf649a43e1fcd721c8e6205510bbdaa9f"},
	{"qwen3", OL_WEIGHT_NF4, OL_TRAIN_QLORA, false, false, 0.0f, OL_TARGETS_ALL,
	 "82280a75ea0e93ef8c2e716b03fe16643fe97277434cb59d7b33a185deb94d37"},
	{"gemma3", OL_WEIGHT_Q8, OL_TRAIN_QLORA, true, false, 0.05f, OL_TARGETS_ALL,
	 "e0bb7ddafe516b4be142f83ece5a8fa110064d4b8fc82bf692ea96396aced676"},
	{"smollm", OL_WEIGHT_F32, OL_TRAIN_DPO, false, false, 0.0f, OL_TARGETS_ALL,
	 "34ad8f53f7f0f1fca6fb6e9a371f93be3e4a6c47bfac7a65a3109ea9737122cf"},
	{"qwen2", OL_WEIGHT_F32, OL_TRAIN_FULL, false, false, 0.0f, 0,
	 "b84b1d0a1c5668e60d891cbf32de0cb9f0424ea48478636701cc1f3e62009acd"},
	{"llama3-tied", OL_WEIGHT_F32, OL_TRAIN_FULL, false, false, 0.0f, 0,
	 "4799338895e54d5bfaad7bf114cf1b7f46cb03317c629c01408361d633b29fd6"},
};

static void hash_result(char hex[65], const struct ol_trainer *trainer, bool full)
{
	struct ol_error err;
	if (!full) {
		struct ol_adapter *adapter = NULL;
		ol_must(ol_trainer_adapter(trainer, &adapter, &err), &err);
		ol_hex(hex, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
		ol_adapter_close(adapter);
		return;
	}
	char folder[] = "/tmp/openledger-test-XXXXXX", file[64];
	struct ol_model *model = NULL;
	assert_non_null(mkdtemp(folder));
	snprintf(file, sizeof file, "%s/trained.olm", folder);
	ol_must(ol_trainer_write_model(trainer, file, OL_WEIGHT_F32, &err), &err);
	ol_must(ol_model_open(&model, file, &err), &err);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(folder), 0);
	ol_hex(hex, ol_model_id(model), OL_MODEL_ID_BYTES);
	ol_model_close(model);
}

static void run_way(char hex[65], const struct golden_row *row, const struct ol_model *model,
		    const struct ol_train_options *options)
{
	struct ol_golden data_of;
	struct ol_golden_data data;
	struct ol_trainer *trainer = NULL;
	struct ol_error err;
	ol_golden_open(&data_of, row->model);
	ol_golden_data_make(&data, &data_of, row->method == OL_TRAIN_DPO);
	struct ol_train_config config =
		ol_golden_config(&data_of, row->method, ol_model_config(model));
	config.attributable = row->attributable;
	config.rslora = row->rslora;
	config.dropout = row->dropout;
	config.base_type = row->base;
	config.weight_decay = 0.01f;
	config.steps = 6;
	if (row->targets)
		config.targets = row->targets;
	ol_must(ol_trainer_open_examples(&trainer, model, &data.list, &config, options, &err),
		&err);
	while (!ol_trainer_finished(trainer)) {
		struct ol_step_report report;
		ol_must(ol_trainer_step(trainer, &report, &err), &err);
	}
	hash_result(hex, trainer, row->method == OL_TRAIN_FULL);
	ol_trainer_close(trainer);
	ol_golden_close(&data_of);
}

static int check_row(const struct golden_row *row)
{
	struct ol_model *model = ol_golden_model(row->model, row->base);
	int wrong = 0;
	for (int i = WAYS * (int)ol_first_isa(); i < WAYS * OL_ISAS; i++) {
		const int way = i % WAYS;
		const struct ol_train_options options = {
			.kernels = ol_kernels_for((enum ol_isa)(i / WAYS)),
			.threads = 1 << way,
			.rows_max = way == 0   ? 30
				    : way == 1 ? 200
					       : 60,
			.recompute = way == 1 ? 1 : -1};
		char hex[65];
		/* The fast matrix takes another way on each instruction set. */
		if (!options.kernels || (!ol_slow() && way != i / WAYS % WAYS))
			continue;
		run_way(hex, row, model, &options);
		if (strcmp(hex, row->sha256) == 0)
			continue;
		print_error("%s on %s %s%s, %s kernels, %d threads: %s\n",
			    ol_train_method_name(row->method), ol_weight_type_name(row->base),
			    row->model, row->attributable ? ", attributable" : "",
			    options.kernels->name, options.threads, hex);
		wrong++;
	}
	ol_model_close(model);
	return wrong;
}

static void the_golden_adapters_are_trained_again(void **state)
{
	int wrong = 0;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(golden); i++)
		wrong += check_row(&golden[i]);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_golden_adapters_are_trained_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
