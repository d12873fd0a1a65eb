/* Training again from a manifest: the same bytes when it tells the truth, a sentence when base or
 * data are others, another hash when the config is. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "node/reproduce.h"

#include "model/model_internal.h"
#include "node/adapters.h"
#include "node/runtime.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct ol_config base = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = 97,
	.hidden = 16,
	.ffn = 24,
	.layers = 2,
	.heads = 2,
	.kv_heads = 1,
	.head_dim = 8,
	.context_max = 64,
	.norm_eps = 1e-5f,
	.embed_scale = 1.0f,
	.attention_scale = 0x1.6a09e6p-2f,
	.rope_theta = 10000,
	.rope_theta_local = 10000,
	.rope_factor = 1,
	.bos_id = 1,
	.eos_ids = {2},
	.eos_count = 1,
};

static char folder[64], data_path[128];
static struct ol_home home;

static void must(enum ol_status s, const struct ol_error *err)
{
	if (s != OL_OK)
		fail_msg("status %d: %s", (int)s, err->text);
}

/* Ids 0 … 2 are <unk>, <s>, </s>; each printable character is a token. */
static void put_tokenizer(struct ol_buf *out)
{
	ol_buf_append_text(out, "{\"version\":\"1.0\",\"added_tokens\":[");
	for (int id = 0; id < 3; id++)
		ol_buf_printf(out,
			      "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,"
			      "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
			      "\"special\":true}",
			      id ? "," : "", id,
			      id == 0   ? "<unk>"
			      : id == 1 ? "<s>"
					: "</s>");
	ol_buf_append_text(out,
			   "],\"normalizer\":null,\"pre_tokenizer\":null,"
			   "\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":"
			   "\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":"
			   "false,\"merges\":[],\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2");
	for (int c = ' '; c < '~'; c++)
		ol_buf_printf(out, ",\"%s%c\":%d", c == '"' || c == '\\' ? "\\" : "", c,
			      c - ' ' + 3);
	ol_buf_append_text(out, "}}}");
}

static void add_model(const char *name, uint64_t seed)
{
	struct ol_model *model;
	struct ol_buf tokenizer;
	struct ol_error err;
	char path[OL_PATH_MAX];
	ol_buf_init(&tokenizer, 1 << 20);
	put_tokenizer(&tokenizer);
	must(ol_model_random(&model, &base, OL_WEIGHT_F32, seed, &err), &err);
	const struct ol_model_text text = {"tokenizer.json", tokenizer.data, tokenizer.size};
	const struct ol_model_source source = {.config = &base,
					       .type = OL_WEIGHT_F32,
					       .texts = &text,
					       .text_count = 1,
					       .rows = ol_model_rows,
					       .context = model};
	must(ol_home_model_path(&home, path, name, &err), &err);
	must(ol_model_write(path, &source, &err), &err);
	ol_model_close(model);
	ol_buf_release(&tokenizer);
}

static void write_data(const char *path, int first)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	for (int i = first; i < first + 12; i++)
		fprintf(file, "{\"prompt\":\"%d + %d =\",\"completion\":\" %d\",\"id\":\"e%d\"}\n",
			i, i, i + i, i);
	fclose(file);
}

/* One run, as `train` would make it; its adapter under `name`. */
static void train(const char *name, const char *model)
{
	struct ol_runtime r;
	struct ol_records *records;
	struct ol_dataset *dataset;
	struct ol_trainer *trainer;
	struct ol_adapter *adapter;
	struct ol_manifest m;
	struct ol_error err = {0};
	const char *path = data_path;
	const struct ol_train_options options = {.threads = 1};
	ol_manifest_init(&m);
	must(ol_runtime_open(&r, &home, model, &err), &err);
	must(ol_records_open(&records, &path, 1, OL_DATA_AUTO, &err), &err);
	ol_train_defaults(&m.config, OL_TRAIN_LORA, &base, 12, 1);
	m.config.rank = 3;
	m.config.steps = 4;
	m.config.batch = 5;
	m.config.warmup = 1;
	m.config.max_length = 32;
	m.config.eval_fraction = 0.2f;
	m.config.eval_every = 2;
	const struct ol_chat_format chat = ol_runtime_chat_format(&r);
	const struct ol_dataset_options cut = {.max_length = 32, .loss_on_prompt = true};
	must(ol_dataset_open(&dataset, records, &chat, &cut, &err), &err);
	must(ol_trainer_open(&trainer, r.model, dataset, &m.config, &options, &err), &err);
	while (!ol_trainer_finished(trainer)) {
		struct ol_step_report report;
		must(ol_trainer_step(trainer, &report, &err), &err);
	}
	must(ol_trainer_adapter(trainer, &adapter, &err), &err);
	m.config = *ol_trainer_config(trainer);
	m.loss_on_prompt = true;
	memcpy(m.base_id, ol_model_id(r.model), OL_MODEL_ID_BYTES);
	snprintf(m.base_name, sizeof m.base_name, "%s", model);
	must(ol_manifest_describe(&m, records, dataset, &err), &err);
	must(ol_adapter_install(&home, name, adapter, &m, true, &err), &err);
	ol_manifest_release(&m);
	ol_adapter_close(adapter);
	ol_trainer_close(trainer);
	ol_dataset_close(dataset);
	ol_records_close(records);
	ol_runtime_close(&r);
}

static enum ol_status again(struct ol_reproduction *out, const char *name, const char *data,
			    struct ol_error *err)
{
	const struct ol_reproduce_request q = {
		.adapter = name, .data = &data, .data_count = data ? 1 : 0};
	return ol_reproduce(out, &home, &q, err);
}

static void check_refused(enum ol_status s, const struct ol_error *err, const char *words)
{
	if (s == OL_OK || !strstr(err->text, words))
		fail_msg("status %d, \"%s\", wanted \"%s\"", (int)s, err->text, words);
}

static void the_same_bytes_come_out(void **state)
{
	static const char *const settings[][2] = {{"OPENLEDGER_THREADS", "1"},
						  {"OPENLEDGER_THREADS", "3"},
						  {"OPENLEDGER_ISA", "scalar"}};
	struct ol_reproduction r;
	struct ol_error err = {0};
	(void)state;
	train("sums", "one");
	for (size_t i = 0; i < OL_ARRAY_LEN(settings); i++) {
		setenv(settings[i][0], settings[i][1], 1);
		must(again(&r, "sums", NULL, &err), &err);
		assert_true(r.same);
		assert_memory_equal(r.wanted, r.got, OL_SHA256_BYTES);
		unsetenv(settings[i][0]);
	}
	must(again(&r, "sums", data_path, &err), &err);
	assert_true(r.same);
}

/* Changes what the manifest says, and writes it again. */
static void change_manifest(const char *name, void (*change)(struct ol_manifest *m))
{
	char path[OL_PATH_MAX];
	struct ol_manifest m;
	struct ol_adapter *adapter;
	struct ol_error err = {0};
	bool found;
	must(ol_home_find_adapter(&home, path, name, &err), &err);
	must(ol_adapter_manifest(&m, &found, path, &err), &err);
	must(ol_adapter_open(&adapter, path, &base, &err), &err);
	change(&m);
	must(ol_adapter_install(&home, name, adapter, &m, true, &err), &err);
	ol_adapter_close(adapter);
	ol_manifest_release(&m);
}

static void another_seed(struct ol_manifest *m)
{
	m->config.seed++;
}

static void another_base(struct ol_manifest *m)
{
	m->base_id[0] ^= 1;
}

static void another_arithmetic(struct ol_manifest *m)
{
	snprintf(m->arithmetic, sizeof m->arithmetic, "9");
}

static void nothing_known(struct ol_manifest *m)
{
	m->trained = false;
}

static void a_manifest_that_lies_is_found_out(void **state)
{
	struct ol_reproduction r;
	struct ol_error err = {0};
	char other[160];
	(void)state;
	train("lies", "one");
	change_manifest("lies", another_seed);
	must(again(&r, "lies", NULL, &err), &err);
	assert_false(r.same);

	snprintf(other, sizeof other, "%s.other.jsonl", data_path);
	write_data(other, 50);
	check_refused(again(&r, "sums", other, &err), &err, "their snapshot has another hash");
	write_data(data_path, 2);
	check_refused(again(&r, "sums", NULL, &err), &err, "it has changed since");
	write_data(data_path, 1);
	must(again(&r, "sums", NULL, &err), &err);

	change_manifest("lies", another_base);
	check_refused(again(&r, "lies", NULL, &err), &err,
		      "\"one\" is not the base that \"lies\" was trained on");
	change_manifest("lies", another_arithmetic);
	check_refused(again(&r, "lies", NULL, &err), &err, "trained under arithmetic 9");
	change_manifest("lies", nothing_known);
	check_refused(again(&r, "lies", NULL, &err), &err, "nobody knows how \"lies\" was trained");
	check_refused(again(&r, "nobody", NULL, &err), &err, "there is no adapter \"nobody\"");
}

static int make_home(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/openledger-reproduce-XXXXXX");
	if (!mkdtemp(folder) || setenv("OPENLEDGER_HOME", folder, 1) != 0 ||
	    ol_home_open(&home, NULL) != OL_OK)
		return -1;
	snprintf(data_path, sizeof data_path, "%s/sums.jsonl", folder);
	write_data(data_path, 1);
	add_model("one", 1);
	return 0;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *at)
{
	(void)about;
	(void)kind;
	(void)at;
	return remove(path);
}

static int remove_home(void **state)
{
	(void)state;
	return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_bytes_come_out),
		cmocka_unit_test(a_manifest_that_lies_is_found_out),
	};
	return cmocka_run_group_tests(tests, make_home, remove_home);
}
