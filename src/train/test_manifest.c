/* Manifests: what is written is read back, and one row for every way a text is refused. */
#include "train/manifest.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct ol_config base = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = 37,
	.hidden = 12,
	.ffn = 20,
	.layers = 2,
	.heads = 3,
	.kv_heads = 1,
	.head_dim = 4,
	.context_max = 64,
};

static void make(struct ol_manifest *m, bool trained)
{
	const struct ol_manifest_source sources[] = {
		{.file = (char *)"cwe.jsonl",
		 .path = (char *)"data/cwe.jsonl",
		 .sha256 = {1, 2, 0xff},
		 .license = (char *)"Apache-2.0",
		 .attribution = (char *)"MITRE, \"CWE\"\nand others",
		 .train = true,
		 .export_ = true,
		 .commercial = true},
		{.file = (char *)"own.txt", .path = NULL, .train = true, .export_ = false},
	};
	ol_manifest_init(m);
	memset(m->adapter_sha256, 0xab, sizeof m->adapter_sha256);
	memset(m->base_id, 0x01, sizeof m->base_id);
	snprintf(m->base_name, sizeof m->base_name, "a base: \"ü\"");
	ol_manifest_stamp(m, 1795384036);
	m->trained = trained;
	if (!trained)
		return;
	ol_train_defaults(&m->config, OL_TRAIN_LORA, &base, 100, 2);
	m->examples = 12;
	m->train_loss = 1.0 / 3.0;
	m->eval_loss = 0.5;
	m->eval_perplexity = 1.6487212707;
	m->seconds = 12.25;
	for (size_t i = 0; i < OL_ARRAY_LEN(sources); i++)
		assert_true(ol_manifest_add_source(m, &sources[i]));
	assert_true(ol_manifest_add_contributor(m, "zoe", 3));
	assert_true(ol_manifest_add_contributor(m, "adam", 4));
	assert_true(ol_manifest_add_contributor(m, "zoe", 5));
	assert_true(ol_manifest_add_contributor(m, "mia", 1));
}

static char *text_of(const struct ol_manifest *m)
{
	struct ol_buf text;
	ol_buf_init(&text, OL_MANIFEST_MAX);
	assert_true(ol_manifest_write(&text, m));
	return text.data;
}

static void what_is_written_is_read_back(void **state)
{
	(void)state;
	for (int trained = 0; trained < 2; trained++) {
		struct ol_manifest m, again;
		struct ol_error err = {0};
		make(&m, trained);
		char *first = text_of(&m);
		if (ol_manifest_read(&again, first, strlen(first), "m", &err) != OL_OK)
			fail_msg("%s", err.text);
		char *second = text_of(&again);
		assert_string_equal(first, second);
		assert_string_equal(again.created, "2026-11-22T21:47:16Z");
		assert_string_equal(again.base_name, m.base_name);
		assert_memory_equal(again.adapter_sha256, m.adapter_sha256, OL_SHA256_BYTES);
		assert_int_equal(again.trained, trained);
		assert_true(isnan(again.eval_nats_per_byte));
		if (trained) {
			assert_int_equal(again.config.steps, m.config.steps);
			assert_true(again.config.learning_rate == m.config.learning_rate);
			assert_int_equal(again.contributor_count, 3);
			assert_string_equal(again.contributors[0].name, "adam");
			assert_string_equal(again.contributors[2].name, "zoe");
			assert_int_equal(again.contributors[2].examples, 8);
			assert_int_equal(again.sources[0].sha256[2], 0xff);
			assert_string_equal(again.sources[0].path, "data/cwe.jsonl");
			assert_null(again.sources[1].license);
			assert_false(again.sources[1].export_);
		}
		free(first);
		free(second);
		ol_manifest_release(&again);
		ol_manifest_release(&m);
	}
}

/* One change to the text of the trained one. */
static const struct {
	const char *name, *from, *to, *message;
} rows[] = {
	{"another version", "\"manifest\": 1", "\"manifest\": 2", "a manifest of version 2"},
	{"no version", "\"manifest\": 1", "\"x\": 1", "\"manifest\" is missing"},
	{"a short hash", "\"abab", "\"ab", "\"adapter_sha256\" is missing or not"},
	{"an upper-case hash", "\"abab", "\"ABAB", "\"adapter_sha256\" is missing or not"},
	{"a base that is a text", "\"base\": {", "\"base\": \"\", \"z\": {", "\"base\" is missing"},
	{"a step count of words", "\"steps\": \"", "\"steps\": \"many",
	 "the training config is damaged"},
	{"a key that is gone", "\"rank\": ", "\"rang\": ", "the training config is damaged"},
	{"a number for a text", "\"batch\": \"", "\"batch\": 8, \"b\": \"",
	 "\"config\" is missing or not"},
	{"an unknown format", "\"auto\"", "\"xml\"", "\"data\" is missing or not"},
	{"a flag that is a number", "\"loss_on_prompt\": false", "\"loss_on_prompt\": 0",
	 "\"data\" is missing"},
	{"negative examples", "\"examples\": 12", "\"examples\": -12", "\"examples\" is missing"},
	{"a source without terms", "\"export\": true", "\"exports\": true",
	 "\"sources\" is missing"},
	{"a path too few", "\"data/cwe.jsonl\",\n", "\n", "\"sources\" is missing"},
	{"a contributor without a name", "\"name\": \"adam\"", "\"name\": null",
	 "\"contributors\" is missing"},
	{"a metric of words", "\"eval_loss\": 0.5", "\"eval_loss\": \"low\"",
	 "\"metrics\" is missing"},
	{"no time", "\"created\"", "\"erected\"", "\"run\" is missing"},
	{"a contributor out of order", "\"name\": \"adam\"", "\"name\": \"zzz\"",
	 "was changed by hand"},
	{"something more", "\"manifest\": 1", "\"extra\": 0, \"manifest\": 1",
	 "was changed by hand"},
	{"other spaces", "{\n", "{", "was changed by hand"},
	{"a key twice", "\"manifest\": 1", "\"manifest\": 1, \"manifest\": 1",
	 "not JSON: duplicate"},
	{"no JSON", "{\n", "", "not JSON"},
};

static void texts_are_refused(void **state)
{
	struct ol_manifest m;
	(void)state;
	make(&m, true);
	char *good = text_of(&m);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_manifest read;
		struct ol_error err = {0};
		struct ol_buf bad;
		const char *at = strstr(good, rows[i].from);
		if (!at)
			fail_msg("%s: nothing to change", rows[i].name);
		ol_buf_init(&bad, OL_MANIFEST_MAX);
		ol_buf_append(&bad, good, (size_t)(at - good));
		ol_buf_printf(&bad, "%s%s", rows[i].to, at + strlen(rows[i].from));
		const enum ol_status s =
			ol_manifest_read(&read, bad.data, bad.size, "m.json", &err);
		if (s == OL_OK || !strstr(err.text, rows[i].message) || !strstr(err.text, "m.json"))
			fail_msg("%s: status %d, \"%s\", wanted \"%s\"", rows[i].name, (int)s,
				 err.text, rows[i].message);
		ol_manifest_release(&read);
		ol_buf_release(&bad);
	}
	free(good);
	ol_manifest_release(&m);
}

static void terms_forbid_export_by_name(void **state)
{
	struct ol_manifest m;
	struct ol_error err = {0};
	(void)state;
	make(&m, true);
	assert_int_equal(ol_manifest_may_export(&m, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "own.txt (no licence named), whose terms forbid"));
	m.sources[1].export_ = true;
	assert_int_equal(ol_manifest_may_export(&m, &err), OL_OK);
	ol_manifest_release(&m);
}

static void cards_say_what_people_need(void **state)
{
	static const char *const wanted[] = {
		"---\nbase_model: \"a base: \\\"ü\\\"\"\nlibrary_name: peft\n",
		"license:\n- \"apache-2.0\"\n",
		"datasets:\n- \"cwe.jsonl\"\n- \"own.txt\"\n",
		"- name: \"na\\\"me\"\n",
		"- type: perplexity\n      value: 1.64872\n",
		"# na\"me\n",
		"rank 1, alpha 2, 24 parameters, on q.",
		"- cwe.jsonl: Apache-2.0; MITRE, \"CWE\" and others\n",
		"- own.txt: no licence named; what is made of it may not be handed out; no ",
		"; no commercial use\n",
		"- zoe: 8 examples\n",
		"held-out loss, nats per answer token: 0.5000",
		"`openledger reproduce`",
	};
	const uint16_t values[12] = {0x3f80};
	const struct ol_lora_tensors tensors[2 * OL_LAYER_LINEARS + 1] = {
		{.rank = 1, .scale = 2.0f, .a = values, .b = values}};
	const struct ol_adapter_config config = {.rank = 1, .alpha = 2.0f};
	struct ol_adapter *adapter = NULL;
	struct ol_manifest m;
	struct ol_buf card;
	(void)state;
	assert_int_equal(ol_adapter_make(&adapter, &base, &config, tensors, NULL), OL_OK);
	make(&m, true);
	ol_buf_init(&card, OL_MANIFEST_MAX);
	assert_true(ol_manifest_card(&card, &m, "na\"me", adapter));
	for (size_t i = 0; i < OL_ARRAY_LEN(wanted); i++)
		if (!strstr(card.data, wanted[i]))
			fail_msg("not in the card: %s\n%s", wanted[i], card.data);
	ol_buf_release(&card);
	ol_manifest_release(&m);
	ol_adapter_close(adapter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(texts_are_refused),
		cmocka_unit_test(terms_forbid_export_by_name),
		cmocka_unit_test(cards_say_what_people_need),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
