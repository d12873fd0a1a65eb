/* The adapters of a home: installed whole, found by name, joined with their bases. */
#define _XOPEN_SOURCE 700 /* nftw */
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
	.vocab_size = 37,
	.hidden = 12,
	.ffn = 20,
	.layers = 1,
	.heads = 3,
	.kv_heads = 1,
	.head_dim = 4,
	.context_max = 64,
	.norm_eps = 1e-5f,
	.embed_scale = 1.0f,
	.attention_scale = 0.5f,
	.rope_theta = 10000,
	.rope_theta_local = 10000,
	.rope_factor = 1,
	.bos_id = -1,
};

static char folder[64];
static struct ol_home home;

static void must(enum ol_status s, const struct ol_error *err)
{
	if (s != OL_OK)
		fail_msg("status %d: %s", (int)s, err->text);
}

static void add_model(const char *name, uint64_t seed)
{
	const struct ol_import_options options = {.type = OL_WEIGHT_F32};
	struct ol_model *model;
	struct ol_error err;
	char hf[128], path[OL_PATH_MAX];
	snprintf(hf, sizeof hf, "%s/hf", folder);
	must(ol_model_random(&model, &base, OL_WEIGHT_F32, seed, &err), &err);
	must(ol_export_folder(hf, model, &err), &err);
	must(ol_home_model_path(&home, path, name, &err), &err);
	must(ol_import(path, hf, &options, &err), &err);
	ol_model_close(model);
}

static struct ol_adapter *make_adapter(uint16_t value, const char *base_name)
{
	uint16_t values[12];
	const struct ol_lora_tensors tensors[OL_LAYER_LINEARS + 1] = {
		{.rank = 1, .scale = 2.0f, .a = values, .b = values}};
	struct ol_adapter_config config = {.rank = 1, .alpha = 2.0f};
	struct ol_adapter *adapter = NULL;
	struct ol_error err;
	for (size_t i = 0; i < OL_ARRAY_LEN(values); i++)
		values[i] = value;
	snprintf(config.base_name, sizeof config.base_name, "%s", base_name);
	must(ol_adapter_make(&adapter, &base, &config, tensors, &err), &err);
	return adapter;
}

/* manifest of an adapter over the home's model of that name. */
static void describe(struct ol_manifest *m, const char *model)
{
	struct ol_runtime r;
	struct ol_error err;
	must(ol_runtime_open(&r, &home, model, &err), &err);
	ol_manifest_init(m);
	memcpy(m->base_id, ol_model_id(r.model), OL_MODEL_ID_BYTES);
	snprintf(m->base_name, sizeof m->base_name, "%s", model);
	ol_runtime_close(&r);
}

static void check_refused(enum ol_status s, enum ol_status wanted, const struct ol_error *err,
			  const char *words)
{
	if (s != wanted || !strstr(err->text, words))
		fail_msg("status %d, \"%s\"", (int)s, err->text);
}

static void adapters_are_installed_whole(void **state)
{
	struct ol_adapter *first = make_adapter(0x3f80, "one"),
			  *second = make_adapter(0x3f00, "one");
	struct ol_manifest m;
	struct ol_error err = {0};
	struct ol_names names = {0};
	char path[OL_PATH_MAX];
	bool found;
	(void)state;
	check_refused(ol_home_find_adapter(&home, path, "poet", &err), OL_ERR_NOT_FOUND, &err,
		      "nor any other: make one with `openledger train`");
	describe(&m, "one");
	must(ol_adapter_install(&home, "poet", first, &m, false, &err), &err);
	check_refused(ol_adapter_install(&home, "poet", second, &m, false, &err), OL_ERR_INPUT,
		      &err, "there is already an adapter \"poet\"");
	check_refused(ol_adapter_install(&home, ".poet", second, &m, true, &err), OL_ERR_INPUT,
		      &err, "is not a name");
	must(ol_adapter_install(&home, "poet", second, &m, true, &err), &err);
	must(ol_adapter_install(&home, "actor", first, &m, true, &err), &err);
	ol_manifest_release(&m);

	must(ol_home_adapters(&home, &names, &err), &err);
	assert_int_equal(names.count, 2);
	assert_string_equal(names.names[0], "actor");
	assert_string_equal(names.names[1], "poet");
	ol_names_release(&names);
	must(ol_home_find_adapter(&home, path, "poet", &err), &err);
	must(ol_adapter_manifest(&m, &found, path, &err), &err);
	assert_true(found);
	assert_memory_equal(m.adapter_sha256, ol_adapter_sha256(second), OL_SHA256_BYTES);
	ol_manifest_release(&m);
	check_refused(ol_home_find_adapter(&home, path, "singer", &err), OL_ERR_NOT_FOUND, &err,
		      "there are: actor, poet");
	check_refused(ol_home_find_adapter(&home, path, "./models", &err), OL_ERR_NOT_FOUND, &err,
		      "./models is no adapter");
	ol_adapter_close(first);
	ol_adapter_close(second);
}

static void an_adapter_finds_its_base(void **state)
{
	static const struct {
		const char *adapter, *base_name, *model; /* model NULL: not found */
		bool manifest, wrong_id;
	} rows[] = {
		{"by-id", "gone", "two", true, false},
		{"by-name", "one", "one", true, true},
		{"by-config", "some/where/one", "one", false, false},
		{"by-nothing", "gone", NULL, true, true},
		{"unnamed", "", NULL, false, false},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_adapter *adapter = make_adapter(0x3f80, rows[i].base_name);
		struct ol_manifest m;
		struct ol_error err = {0};
		char path[OL_PATH_MAX], name[OL_NAME_MAX + 1], file[OL_PATH_MAX];
		describe(&m, "two");
		snprintf(m.base_name, sizeof m.base_name, "%s", rows[i].base_name);
		if (rows[i].wrong_id)
			m.base_id[0] ^= 1;
		must(ol_adapter_install(&home, rows[i].adapter, adapter, &m, true, &err), &err);
		must(ol_home_find_adapter(&home, path, rows[i].adapter, &err), &err);
		if (!rows[i].manifest) {
			assert_true(snprintf(file, sizeof file, "%.4000s/manifest.json", path) > 0);
			assert_int_equal(unlink(file), 0);
		}
		const enum ol_status s = ol_adapter_base(&home, name, path, &err);
		if (rows[i].model) {
			must(s, &err);
			assert_string_equal(name, rows[i].model);
		} else {
			check_refused(s, OL_ERR_NOT_FOUND, &err, "is not among the models");
		}
		ol_manifest_release(&m);
		ol_adapter_close(adapter);
	}
}

static void a_runtime_opens_under_an_adapter(void **state)
{
	struct ol_adapter *adapter = make_adapter(0x3f80, "two");
	struct ol_manifest m;
	struct ol_runtime r;
	struct ol_error err = {0};
	char path[OL_PATH_MAX];
	(void)state;
	describe(&m, "two");
	must(ol_adapter_install(&home, "two-more", adapter, &m, true, &err), &err);
	must(ol_adapter_install(&home, "one", adapter, &m, true, &err), &err);

	must(ol_runtime_open(&r, &home, "two-more", &err), &err);
	assert_memory_equal(ol_model_id(r.model), m.base_id, OL_MODEL_ID_BYTES);
	assert_memory_equal(ol_adapter_sha256(r.adapter), ol_adapter_sha256(adapter), 32);
	ol_runtime_close(&r);
	/* A model of the same name comes first. */
	must(ol_runtime_open(&r, &home, "one", &err), &err);
	assert_null(ol_runtime_adapter(&r));
	must(ol_runtime_adapt(&r, &home, "one", &err), &err);
	assert_non_null(ol_runtime_adapter(&r));
	ol_runtime_close(&r);
	/* A folder anywhere. */
	must(ol_home_adapter_path(&home, path, "two-more", &err), &err);
	must(ol_runtime_open(&r, &home, path, &err), &err);
	assert_non_null(ol_runtime_adapter(&r));
	ol_runtime_close(&r);
	check_refused(ol_runtime_open(&r, &home, "nobody", &err), OL_ERR_NOT_FOUND, &err,
		      "there is no model \"nobody\"");
	ol_manifest_release(&m);
	ol_adapter_close(adapter);
}

static int make_home(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/openledger-adapters-XXXXXX");
	if (!mkdtemp(folder) || setenv("OPENLEDGER_HOME", folder, 1) != 0 ||
	    ol_home_open(&home, NULL) != OL_OK)
		return -1;
	add_model("one", 1);
	add_model("two", 2);
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
		cmocka_unit_test(adapters_are_installed_whole),
		cmocka_unit_test(an_adapter_finds_its_base),
		cmocka_unit_test(a_runtime_opens_under_an_adapter),
	};
	return cmocka_run_group_tests(tests, make_home, remove_home);
}
