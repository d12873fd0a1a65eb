/* config.json: what is read out of it, and one row for everything that is refused. */
#include "model/config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define SIZES                                                                                      \
	"\"vocab_size\":100,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":6,"  \
	"\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":512"
#define MODEL(type, more) "{\"model_type\":\"" type "\"," SIZES more "}"

static struct ol_config parse(const char *json)
{
	struct ol_config c;
	struct ol_error err = {0};
	if (ol_config_parse(&c, json, strlen(json), NULL, 0, "config.json", &err) != OL_OK)
		fail_msg("%s", err.text);
	return c;
}

/* ---- What is read ------------------------------------------------------------------------- */

static void test_llama(void **state)
{
	(void)state;
	const struct ol_config c =
		parse(MODEL("llama", ",\"rope_theta\":500000.0,"
				     "\"rms_norm_eps\":1e-05,"
				     "\"sliding_window\":null,\"head_dim\":null,"
				     "\"bos_token_id\":1,\"eos_token_id\":[2,3]"));
	assert_int_equal(c.arch, OL_ARCH_LLAMA);
	assert_int_equal(c.head_dim, 16);
	assert_int_equal(c.kv_heads, 2);
	assert_int_equal(c.context_max, 512);
	assert_false(c.tied_embeddings || c.qkv_bias || c.qk_norm || c.post_norms);
	assert_true(c.norm_eps == 1e-5f && c.embed_scale == 1 && c.attention_scale == 0.25f);
	assert_true(c.rope_theta == 500000 && c.rope_theta_local == 500000);
	assert_int_equal(c.rope_scaling, OL_ROPE_PLAIN);
	assert_int_equal(c.window, 0);
	assert_int_equal(c.bos_id, 1);
	assert_int_equal(c.eos_count, 2);
	assert_int_equal(c.eos_ids[1], 3);
}

static void test_llama_before_grouped_heads(void **state)
{
	(void)state;
	const struct ol_config c =
		parse("{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":8,"
		      "\"intermediate_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":4}");
	assert_int_equal(c.kv_heads, 4);
	assert_int_equal(c.head_dim, 2);
	assert_int_equal(c.bos_id, -1);
	assert_int_equal(c.eos_count, 0);
	assert_true(c.rope_theta == 10000 && c.norm_eps == 1e-6f);
}

static void test_rope_scaling(void **state)
{
	(void)state;
	static const char *const spellings[] = {
		MODEL("llama", ",\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\","
			       "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
			       "\"original_max_position_embeddings\":128}"),
		MODEL("llama", ",\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":5e5,"
			       "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
			       "\"original_max_position_embeddings\":128}")};
	for (size_t i = 0; i < OL_ARRAY_LEN(spellings); i++) {
		const struct ol_config c = parse(spellings[i]);
		assert_int_equal(c.rope_scaling, OL_ROPE_LLAMA3);
		assert_true(c.rope_theta == 5e5 && c.rope_factor == 8);
		assert_true(c.rope_low_freq_factor == 1 && c.rope_high_freq_factor == 4);
		assert_int_equal(c.rope_original_context, 128);
	}
	const struct ol_config linear =
		parse(MODEL("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}"));
	assert_int_equal(linear.rope_scaling, OL_ROPE_LINEAR);
	assert_true(linear.rope_factor == 2);
	const struct ol_config plain =
		parse(MODEL("llama", ",\"rope_parameters\":{\"rope_type\":\"default\","
				     "\"rope_theta\":7.0}"));
	assert_int_equal(plain.rope_scaling, OL_ROPE_PLAIN);
	assert_true(plain.rope_theta == 7 && plain.rope_factor == 1);
}

/* Which of the six layers are windowed, as a text of w and f. */
static void expect_windows(const char *json, int window, const char *layers)
{
	const struct ol_config c = parse(json);
	char actual[7] = {0};
	for (int i = 0; i < 6; i++)
		actual[i] = ol_config_layer_windowed(&c, i) ? 'w' : 'f';
	assert_string_equal(actual, layers);
	assert_int_equal(c.window, window);
}

#define FULL "\"full_attention\""
#define SLIDE "\"sliding_attention\""

static void test_windows(void **state)
{
	(void)state;
	expect_windows(MODEL("mistral", ",\"sliding_window\":32"), 32, "wwwwww");
	expect_windows(MODEL("mistral", ",\"sliding_window\":null"), 0, "ffffff");
	expect_windows(MODEL("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":false"), 0,
		       "ffffff");
	expect_windows(MODEL("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":true,"
				      "\"max_window_layers\":0"),
		       32, "wwwwww");
	expect_windows(MODEL("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":true,"
				      "\"max_window_layers\":6"),
		       0, "ffffff");
	expect_windows(MODEL("gemma2", ",\"sliding_window\":32"), 32, "wfwfwf");
	expect_windows(MODEL("gemma3_text", ",\"sliding_window\":32"), 32, "wwwwwf");
	expect_windows(MODEL("gemma3_text", ",\"sliding_window\":32,\"sliding_window_pattern\":3"),
		       32, "wwfwwf");
	expect_windows(MODEL("gemma3_text", ",\"sliding_window\":32,\"layer_types\":[" SLIDE
					    "," FULL "," SLIDE "," FULL "," SLIDE "," FULL "]"),
		       32, "wfwfwf");
	expect_windows(MODEL("qwen3", ",\"sliding_window\":null,\"layer_types\":[" FULL "," FULL
				      "," FULL "," FULL "," FULL "," FULL "]"),
		       0, "ffffff");
}

static void test_gemma(void **state)
{
	(void)state;
	const struct ol_config two = parse(MODEL("gemma2", ",\"query_pre_attn_scalar\":144"));
	assert_true(two.post_norms && two.tied_embeddings && !two.qk_norm);
	assert_int_equal(two.activation, OL_ACTIVATION_GELU_TANH);
	assert_int_equal(two.head_dim, 256);
	assert_int_equal(two.window, 4096);
	assert_true(two.embed_scale == 8 && two.attention_scale == (float)(1 / 12.0));
	assert_true(two.attention_softcap == 50 && two.logit_softcap == 30);
	const struct ol_config off = parse(MODEL("gemma2", ",\"attn_logit_softcapping\":null,"
							   "\"final_logit_softcapping\":20.0"));
	assert_true(off.attention_softcap == 0 && off.logit_softcap == 20);
	const struct ol_config three = parse(
		MODEL("gemma3_text", ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":"
				     "\"linear\",\"factor\":8.0,\"rope_theta\":1000000.0},"
				     "\"sliding_attention\":{\"rope_type\":\"default\","
				     "\"rope_theta\":5000.0}}"));
	assert_true(three.qk_norm && three.post_norms && three.attention_softcap == 0);
	assert_true(three.rope_theta == 1e6 && three.rope_theta_local == 5000);
	assert_int_equal(three.rope_scaling, OL_ROPE_LINEAR);
	/* sqrt(40) = 6.3245…, rounded to the 8 bits of a bf16. */
	const char *odd = "{\"model_type\":\"gemma2\",\"vocab_size\":9,\"hidden_size\":40,"
			  "\"intermediate_size\":8,\"num_hidden_layers\":1,"
			  "\"num_attention_heads\":4}";
	assert_true(parse(odd).embed_scale == 6.3125f);
}

static void test_qwen(void **state)
{
	(void)state;
	const struct ol_config two = parse(MODEL("qwen2", ",\"tie_word_embeddings\":true"));
	assert_true(two.qkv_bias && !two.qk_norm && two.tied_embeddings);
	assert_int_equal(two.head_dim, 16);
	const struct ol_config three = parse(MODEL("qwen3", ",\"attention_bias\":false"));
	assert_true(!three.qkv_bias && three.qk_norm);
	assert_int_equal(three.head_dim, 128);
}

static void test_generation_config_wins(void **state)
{
	(void)state;
	static const char json[] = MODEL("llama", ",\"bos_token_id\":1,\"eos_token_id\":2");
	static const char generation[] = "{\"eos_token_id\":[7,8,9]}";
	struct ol_config c;
	assert_int_equal(ol_config_parse(&c, json, sizeof json - 1, generation,
					 sizeof generation - 1, "config.json", NULL),
			 OL_OK);
	assert_int_equal(c.bos_id, 1);
	assert_int_equal(c.eos_count, 3);
	assert_int_equal(c.eos_ids[0], 7);
}

static void test_canonical_text(void **state)
{
	(void)state;
	static const char *const models[] = {MODEL("llama", ""),
					     MODEL("mistral", ",\"sliding_window\":32"),
					     MODEL("qwen2", ",\"eos_token_id\":[1,2,3,4,5,6,7,8]"),
					     MODEL("qwen3", ""),
					     MODEL("gemma2", ""),
					     MODEL("gemma3_text", ",\"rope_theta\":0.1e7")};
	for (size_t i = 0; i < OL_ARRAY_LEN(models); i++) {
		const struct ol_config c = parse(models[i]);
		struct ol_config again;
		struct ol_buf a, b;
		ol_buf_init(&a, 1 << 16);
		ol_buf_init(&b, 1 << 16);
		assert_true(ol_config_write(&a, &c));
		assert_int_equal(ol_config_read(&again, a.data, a.size, "x", NULL), OL_OK);
		assert_true(ol_config_write(&b, &again));
		assert_string_equal(a.data, b.data);
		/* Another spelling of the same config is not the config. */
		ol_buf_append_text(&a, "\n");
		assert_int_equal(ol_config_read(&again, a.data, a.size, "x", NULL), OL_ERR_INPUT);
		for (size_t cut = 0; cut < b.size; cut++)
			assert_int_equal(ol_config_read(&again, b.data, cut, "x", NULL),
					 OL_ERR_INPUT);
		ol_buf_release(&a);
		ol_buf_release(&b);
	}
}

/* ---- Refusals ----------------------------------------------------------------------------- */

static const struct {
	const char *name, *json;
	enum ol_status status;
	const char *message;
} refusals[] = {
	{"no JSON", "{\n\"model_type\":", OL_ERR_INPUT, "config.json: line 2: "},
	{"a key twice", "{\"model_type\":\"llama\",\"model_type\":\"llama\"}", OL_ERR_INPUT,
	 "duplicate"},
	{"a list", "[]", OL_ERR_INPUT, "not a JSON object"},
	{"no model_type", "{}", OL_ERR_INPUT, "model_type is missing"},
	{"another architecture", MODEL("phi3", ""), OL_ERR_UNSUPPORTED,
	 "the architecture \"phi3\" is not supported; supported are llama, mistral, qwen2"},
	{"a multimodal one", MODEL("gemma3", ",\"text_config\":{}"), OL_ERR_UNSUPPORTED,
	 "the architecture \"gemma3\" is not supported"},
	{"a classifier", MODEL("llama", ",\"architectures\":[\"LlamaForSequenceClassification\"]"),
	 OL_ERR_UNSUPPORTED, "the architecture LlamaForSequenceClassification"},
	{"quantised already",
	 MODEL("llama", ",\"quantization_config\":{\"quant_method\":\"gptq\"}"), OL_ERR_UNSUPPORTED,
	 "already quantised (quantization_config, gptq)"},
	{"yarn", MODEL("qwen2", ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0}"),
	 OL_ERR_UNSUPPORTED, "rope scaling of type \"yarn\""},
	{"longrope", MODEL("llama", ",\"rope_scaling\":{\"rope_type\":\"longrope\"}"),
	 OL_ERR_UNSUPPORTED, "rope scaling of type \"longrope\""},
	{"dynamic", MODEL("llama", ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}"),
	 OL_ERR_UNSUPPORTED, "rope scaling of type \"dynamic\""},
	{"scaling without a factor", MODEL("llama", ",\"rope_scaling\":{\"type\":\"linear\"}"),
	 OL_ERR_INPUT, "rope_scaling.factor is 0"},
	{"scaling that is a text", MODEL("llama", ",\"rope_scaling\":\"linear\""), OL_ERR_INPUT,
	 "the rope scaling is not an object"},
	{"frequencies upside down",
	 MODEL("llama", ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
			"\"low_freq_factor\":4,\"high_freq_factor\":4,"
			"\"original_max_position_embeddings\":64}"),
	 OL_ERR_INPUT, "high_freq_factor 4 is not above low_freq_factor 4"},
	{"attention biases", MODEL("llama", ",\"attention_bias\":true"), OL_ERR_UNSUPPORTED,
	 "attention_bias is true"},
	{"feed-forward biases", MODEL("llama", ",\"mlp_bias\":true"), OL_ERR_UNSUPPORTED,
	 "mlp_bias is true"},
	{"a partial rotation", MODEL("llama", ",\"partial_rotary_factor\":0.5"), OL_ERR_UNSUPPORTED,
	 "partial_rotary_factor"},
	{"another activation", MODEL("llama", ",\"hidden_act\":\"relu\""), OL_ERR_UNSUPPORTED,
	 "hidden_act is \"relu\""},
	{"the exact GELU", MODEL("gemma2", ",\"hidden_activation\":\"gelu\""), OL_ERR_UNSUPPORTED,
	 "hidden_activation is \"gelu\""},
	{"windows on some layers",
	 MODEL("qwen2",
	       ",\"use_sliding_window\":true,\"sliding_window\":8,\"max_window_layers\":2"),
	 OL_ERR_UNSUPPORTED, "max_window_layers 2 of 6 layers"},
	{"windows without a period",
	 MODEL("qwen3", ",\"use_sliding_window\":true,\"sliding_window\":8,\"layer_types\":[" SLIDE
			"," FULL "," FULL "," SLIDE "," FULL "," FULL "]"),
	 OL_ERR_UNSUPPORTED, "layer_types follows no period (layer 2)"},
	{"too few layer types", MODEL("qwen3", ",\"layer_types\":[" FULL "]"), OL_ERR_INPUT,
	 "layer_types does not name every layer"},
	{"unknown layer types", MODEL("qwen3", ",\"layer_types\":[\"linear_attention\",1,1,1,1,1]"),
	 OL_ERR_UNSUPPORTED, "layer_types has \"linear_attention\""},
	{"a number as a text", MODEL("llama", ",\"rope_theta\":\"10000\""), OL_ERR_INPUT,
	 "rope_theta is not a number"},
	{"a fraction", MODEL("llama", ",\"head_dim\":16.5"), OL_ERR_INPUT, "head_dim is 16.5"},
	{"an odd head", MODEL("llama", ",\"head_dim\":15"), OL_ERR_INPUT, "head_dim is 15, but"},
	{"a huge head", MODEL("llama", ",\"head_dim\":1024"), OL_ERR_INPUT,
	 "head_dim is 1024, which is not between 2 and 512"},
	{"a truth that is a number", MODEL("llama", ",\"tie_word_embeddings\":1"), OL_ERR_INPUT,
	 "tie_word_embeddings is neither true nor false"},
	{"no epsilon", MODEL("llama", ",\"rms_norm_eps\":0"), OL_ERR_INPUT, "rms_norm_eps is 0"},
	{"theta 0", MODEL("llama", ",\"rope_theta\":0"), OL_ERR_INPUT, "rope_theta is 0"},
	{"nine ends", MODEL("llama", ",\"eos_token_id\":[1,2,3,4,5,6,7,8,9]"), OL_ERR_INPUT,
	 "eos_token_id has 9 entries, at most 8"},
	{"an end that is a text", MODEL("llama", ",\"eos_token_id\":\"</s>\""), OL_ERR_INPUT,
	 "eos_token_id is not a token id"},
	{"a start outside", MODEL("llama", ",\"bos_token_id\":100"), OL_ERR_INPUT,
	 "bos_token_id is 100, which is not between -1 and 99"},
	{"no scalar", MODEL("gemma2", ",\"query_pre_attn_scalar\":0"), OL_ERR_INPUT,
	 "query_pre_attn_scalar is 0"},
	{"a cap below 0", MODEL("gemma2", ",\"final_logit_softcapping\":-1"), OL_ERR_INPUT,
	 "final_logit_softcapping is -1"},
	{"heads that do not divide",
	 "{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":9,\"intermediate_size\":8,"
	 "\"num_hidden_layers\":1,\"num_attention_heads\":3,\"num_key_value_heads\":2,"
	 "\"head_dim\":4}",
	 OL_ERR_INPUT, "num_attention_heads 3 is not a multiple of num_key_value_heads 2"},
	{"a hidden size that does not divide",
	 "{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":9,\"intermediate_size\":8,"
	 "\"num_hidden_layers\":1,\"num_attention_heads\":2}",
	 OL_ERR_INPUT, "hidden_size 9 is not a multiple of num_attention_heads 2"},
};

static void test_every_refusal(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		struct ol_config c;
		struct ol_error err = {0};
		const enum ol_status s =
			ol_config_parse(&c, refusals[i].json, strlen(refusals[i].json), NULL, 0,
					"config.json", &err);
		if (s != refusals[i].status || !strstr(err.text, refusals[i].message) ||
		    !strstr(err.text, "config.json: "))
			fail_msg("%s: status %d, \"%s\", wanted \"%s\"", refusals[i].name, s,
				 err.text, refusals[i].message);
	}
}

static void test_every_missing_key(void **state)
{
	(void)state;
	static const char *const keys[] = {"vocab_size", "hidden_size", "intermediate_size",
					   "num_hidden_layers", "num_attention_heads"};
	for (size_t missing = 0; missing < OL_ARRAY_LEN(keys); missing++) {
		struct ol_config c;
		struct ol_error err;
		struct ol_buf json;
		char message[64];
		ol_buf_init(&json, 4096);
		ol_buf_append_text(&json, "{\"model_type\":\"llama\"");
		for (size_t i = 0; i < OL_ARRAY_LEN(keys); i++)
			if (i != missing)
				ol_buf_printf(&json, ",\"%s\":8", keys[i]);
		ol_buf_append_text(&json, "}");
		assert_int_equal(
			ol_config_parse(&c, json.data, json.size, NULL, 0, "config.json", &err),
			OL_ERR_INPUT);
		snprintf(message, sizeof message, "%s is missing", keys[missing]);
		assert_non_null(strstr(err.text, message));
		ol_buf_release(&json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llama),
		cmocka_unit_test(test_llama_before_grouped_heads),
		cmocka_unit_test(test_rope_scaling),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_gemma),
		cmocka_unit_test(test_qwen),
		cmocka_unit_test(test_generation_config_wins),
		cmocka_unit_test(test_canonical_text),
		cmocka_unit_test(test_every_refusal),
		cmocka_unit_test(test_every_missing_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
