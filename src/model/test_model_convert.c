/* Models in memory: another weight type is the import of the same numbers, to the id. */
#include "math/kernels.h"
#include "model/model_convert.h"
#include "model/model_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* Nothing is a multiple of 32. */
static struct ol_config odd_config(bool tied)
{
	return (struct ol_config){
		.arch = OL_ARCH_QWEN2,
		.vocab_size = 70,
		.hidden = 36,
		.ffn = 50,
		.layers = 2,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 10,
		.context_max = 64,
		.tied_embeddings = tied,
		.qkv_bias = true,
		.norm_eps = 1e-5f,
		.embed_scale = 1,
		.attention_scale = 0.25f,
		.rope_theta = 10000,
		.rope_theta_local = 10000,
		.rope_factor = 1,
		.bos_id = 1,
	};
}

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK)
		fail_msg("%s", err->text);
}

/* A random model of f32 is quantised by ol_model_random exactly as an import would: converting the
 * f32 one must arrive at the same id as making it in that type. */
static void test_conversion_is_an_import(void **state)
{
	(void)state;
	static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16, OL_WEIGHT_Q8,
						    OL_WEIGHT_Q4, OL_WEIGHT_NF4};
	struct ol_error err = {0};
	for (int tied = 0; tied < 2; tied++) {
		const struct ol_config config = odd_config(tied);
		struct ol_model *source;
		must(ol_model_random(&source, &config, OL_WEIGHT_F32, 5, &err), &err);
		for (size_t i = 0; i < OL_ARRAY_LEN(types); i++) {
			struct ol_model *expected, *actual;
			must(ol_model_random(&expected, &config, types[i], 5, &err), &err);
			must(ol_model_convert(&actual, source, types[i], 2, &err), &err);
			assert_memory_equal(ol_model_id(actual), ol_model_id(expected),
					    OL_MODEL_ID_BYTES);
			assert_int_equal(ol_model_weight_type(actual), types[i]);
			assert_memory_equal(actual->data, expected->data, expected->layout.bytes);
			must(ol_model_verify(actual, &err), &err);
			ol_model_close(actual);
			ol_model_close(expected);
		}
		ol_model_close(source);
	}
}

/* Through a file, texts and all; the converted model outlives its source. */
static void test_texts_are_kept(void **state)
{
	(void)state;
	char path[] = "convert-XXXXXX";
	const int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	const struct ol_config config = odd_config(false);
	struct ol_error err = {0};
	struct ol_model *random, *mapped, *converted, *again;
	must(ol_model_random(&random, &config, OL_WEIGHT_BF16, 9, &err), &err);
	random->texts[0] = (struct ol_model_text){"chat_template.jinja", "{{ x }}", 7};
	random->texts[1] = (struct ol_model_text){"tokenizer.json", "{}", 2};
	random->text_count = 2;
	must(ol_model_save(path, random, &err), &err);
	random->text_count = 0;
	ol_model_close(random);
	must(ol_model_open(&mapped, path, &err), &err);
	must(ol_model_convert(&converted, mapped, OL_WEIGHT_NF4, 0, &err), &err);
	/* The source is still whole after its pages were given back. */
	must(ol_model_verify(mapped, &err), &err);
	ol_model_close(mapped);
	size_t size;
	assert_string_equal(ol_model_text(converted, "chat_template.jinja", &size), "{{ x }}");
	assert_int_equal(size, 7);
	must(ol_model_save(path, converted, &err), &err);
	must(ol_model_open(&again, path, &err), &err);
	assert_memory_equal(ol_model_id(again), ol_model_id(converted), OL_MODEL_ID_BYTES);
	ol_model_close(again);
	ol_model_close(converted);
	unlink(path);
}

static void test_rows_go_in_and_come_out(void **state)
{
	(void)state;
	const struct ol_config config = odd_config(false);
	struct ol_error err = {0};
	struct ol_model *source, *copy;
	must(ol_model_random(&source, &config, OL_WEIGHT_BF16, 3, &err), &err);
	must(ol_model_blank(&copy, source, OL_WEIGHT_BF16, &err), &err);
	const struct ol_layout *layout = ol_model_layout(source);
	for (int t = 0; t < layout->count; t++) {
		const int rows = layout->tensors[t].rows;
		const size_t cols = (size_t)layout->tensors[t].cols;
		float *x = malloc((size_t)rows * cols * sizeof *x);
		assert_non_null(x);
		ol_model_get_rows(x, source, t, 0, rows);
		/* In two parts, the cut inside a panel. */
		const int first = rows > 1 ? rows / 3 : rows;
		assert_true(ol_model_set_rows(copy, t, x, 0, first));
		assert_true(
			ol_model_set_rows(copy, t, x + (size_t)first * cols, first, rows - first));
		free(x);
	}
	assert_memory_equal(copy->data, source->data, source->layout.bytes);
	ol_model_close(copy);
	ol_model_close(source);
}

static void test_what_a_type_cannot_hold_is_named(void **state)
{
	(void)state;
	const struct ol_config config = odd_config(false);
	struct ol_error err = {0};
	struct ol_model *source, *blank, *converted;
	must(ol_model_random(&source, &config, OL_WEIGHT_F32, 3, &err), &err);
	must(ol_model_blank(&blank, source, OL_WEIGHT_F32, &err), &err);
	const int q = ol_layout_find(ol_model_layout(blank), OL_TENSOR_Q, 1);
	float row[36] = {[7] = 1e30f};
	assert_true(ol_model_set_rows(blank, q, row, 2, 1));
	assert_int_equal(ol_model_convert(&converted, blank, OL_WEIGHT_Q8, 1, &err), OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "layers.1.q"));
	ol_model_close(blank);
	ol_model_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conversion_is_an_import),
		cmocka_unit_test(test_texts_are_kept),
		cmocka_unit_test(test_rows_go_in_and_come_out),
		cmocka_unit_test(test_what_a_type_cannot_hold_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
