/* Right numbers under adapters: folders as PEFT writes them (tests/golden/adapters, made by
 * make_adapters.py), opened and run by the engine, against PyTorch's float64 for base plus adapter.
 * The other way round, our folder in PyTorch, is tests/oracle/peft. */
#include "tests/support_train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

enum { POSITIONS_MAX = 64, VOCAB_MAX = 128, FLOATS_MAX = POSITIONS_MAX * VOCAB_MAX };

/* Of the largest |logit| of the row, as in test_logits. */
static const double tolerance = 2e-5;

struct reference {
	const char *base;
	int count, vocab;
	int32_t tokens[POSITIONS_MAX];
	float logits[FLOATS_MAX + 1];
};

static json_t *read_reference(struct reference *r, const char *folder)
{
	char file[128];
	snprintf(file, sizeof file, "%s/golden.json", folder);
	json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, NULL);
	const json_t *tokens = json_object_get(root, "tokens");
	const json_t *text = json_object_get(root, "logits");
	r->base = json_string_value(json_object_get(root, "base"));
	r->count = (int)json_array_size(tokens);
	r->vocab = (int)json_integer_value(json_object_get(root, "vocab_size"));
	assert_true(r->base && r->count >= 40 && r->count <= POSITIONS_MAX && r->vocab > 0);
	const size_t bytes = (size_t)(r->count * r->vocab) * sizeof(float);
	assert_true(bytes <= FLOATS_MAX * sizeof(float));
	assert_int_equal(json_string_length(text), (bytes + 2) / 3 * 4);
	assert_true(EVP_DecodeBlock((uint8_t *)r->logits, (const uint8_t *)json_string_value(text),
				    (int)json_string_length(text)) > 0);
	for (int i = 0; i < r->count; i++)
		r->tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)i));
	return root;
}

/* In two steps, so that attention reads adapted keys and values out of the cache. */
static void run(struct ol_engine *engine, const struct reference *r,
		const struct ol_adapter_view *adapter, float *logits)
{
	struct ol_session *session = NULL;
	struct ol_error err;
	ol_must(ol_session_open(&session, engine), NULL);
	for (int done = 0, count; done < r->count; done += count) {
		count = done == 0 ? 17 : r->count - done;
		struct ol_run step = {.session = session,
				      .tokens = r->tokens + done,
				      .count = count,
				      .want = OL_LOGITS_ALL,
				      .logits = logits + (ptrdiff_t)done * r->vocab,
				      .adapter = adapter};
		ol_must(ol_engine_step(engine, &step, 1, &err), &err);
	}
	ol_session_close(session);
}

static double difference(const struct reference *r, const float *logits)
{
	double worst = 0.0;
	for (int row = 0; row < r->count; row++) {
		double most = 0.0, largest = 0.0;
		for (int i = row * r->vocab; i < (row + 1) * r->vocab; i++) {
			const double d = fabs((double)logits[i] - (double)r->logits[i]);
			/* A NaN is larger than anything. */
			most = d <= most ? most : d;
			largest = fmax(largest, fabs((double)r->logits[i]));
		}
		worst = most / largest <= worst ? worst : most / largest;
	}
	return worst;
}

static void adapters_of_peft_equal_pytorch(void **state)
{
	static const char *const names[] = {"every-linear", "rslora-tied-head", "patterns",
					    "gemma"};
	static struct reference r;
	static float logits[FLOATS_MAX];
	int wrong = 0;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		char folder[96];
		struct ol_adapter *adapter = NULL;
		struct ol_error err;
		snprintf(folder, sizeof folder, "tests/golden/adapters/%s", names[i]);
		json_t *root = read_reference(&r, folder);
		struct ol_model *model = ol_golden_model(r.base, OL_WEIGHT_F32);
		ol_must(ol_adapter_open(&adapter, folder, ol_model_config(model), &err), &err);
		struct ol_engine *engine = ol_engine_for_test(model, NULL, 2, OL_KV_F32, 64);
		run(engine, &r, ol_adapter_views(adapter), logits);
		const double with = difference(&r, logits);
		run(engine, &r, NULL, logits);
		const double without = difference(&r, logits);
		print_message("%-16s within %.1e (the base alone: %.1e)\n", names[i], with,
			      without);
		wrong += !(with <= tolerance && without > 0.1);
		ol_engine_close(engine);
		ol_adapter_close(adapter);
		ol_model_close(model);
		json_decref(root);
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adapters_of_peft_equal_pytorch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
