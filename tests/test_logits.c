/* Right numbers: the engine's f32 logits against PyTorch's float64 for a tiny model of every
 * architecture (tests/golden/models, made by make_models.py), and, where it is present beside the
 * repository, against the recorded numbers and words of a small trained model. */
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "base/buf.h"
#include "model/sampler.h"
#include "model/tokenizer.h"

#define TRAINED "../shared/models/tinystories-656k"

enum { PATH_SIZE = 512, TRAINED_TOKENS_MAX = 512 };

/* Of the largest |logit| of the row. PyTorch's own float32 is within 2e-6 of its float64. */
static const double tolerance = 2e-5;

static char folder[] = "/tmp/openledger-test-XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

/* Imports and opens; the file's name is gone at once, its mapping stays. */
static struct ol_model *import_model(const char *path, enum ol_weight_type type)
{
	const struct ol_import_options options = {.type = type};
	struct ol_model *model = NULL;
	struct ol_error err;
	char file[2 * PATH_SIZE];
	snprintf(file, sizeof file, "%s/model.olm", folder);
	ol_must(ol_import(file, path, &options, &err), &err);
	ol_must(ol_model_open(&model, file, &err), &err);
	ol_must(ol_model_verify(model, &err), &err);
	assert_int_equal(unlink(file), 0);
	return model;
}

static json_t *load_json(const char *path, const char *name)
{
	char file[2 * PATH_SIZE];
	json_error_t error;
	snprintf(file, sizeof file, "%s/%s", path, name);
	json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		fail_msg("%s: %s", file, error.text);
	return root;
}

static int load_ids(int32_t *ids, int room, const json_t *root, const char *key)
{
	const json_t *array = json_object_get(root, key);
	const int count = (int)json_array_size(array);
	assert_in_range(count, 1, room);
	for (int i = 0; i < count; i++)
		ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
	return count;
}

static double row_error(const float *logits, const float *golden, int vocab)
{
	double worst = 0.0, largest = 0.0;
	for (int i = 0; i < vocab; i++) {
		const double difference = fabs((double)logits[i] - (double)golden[i]);
		/* A NaN is larger than anything. */
		worst = difference <= worst ? worst : difference;
		largest = fmax(largest, fabs((double)golden[i]));
	}
	return worst / largest;
}

static void load_golden(struct ol_timeline *t, const struct ol_model *model, const char *path)
{
	json_t *root = load_json(path, "golden.json");
	const json_t *tokens = json_object_get(root, "tokens"),
		     *text = json_object_get(root, "logits");
	ol_timeline_init(t, model, (int)json_array_size(tokens), 0);
	assert_true(t->count >= 40);
	load_ids(t->tokens, t->count, root, "tokens");
	assert_int_equal(json_integer_value(json_object_get(root, "vocab_size")), t->vocab);

	const size_t size = (size_t)t->count * (size_t)t->vocab * sizeof(float);
	uint8_t *bytes = malloc(size + 3);
	assert_non_null(bytes);
	assert_int_equal(json_string_length(text), (size + 2) / 3 * 4);
	assert_true(EVP_DecodeBlock(bytes, (const uint8_t *)json_string_value(text),
				    (int)json_string_length(text)) > 0);
	memcpy(t->logits, bytes, size);
	free(bytes);
	json_decref(root);
}

static void every_architecture_equals_pytorch(void **state)
{
	static const char *const names[] = {"llama2", "llama3", "llama3-tied", "smollm", "mistral",
					    "qwen2",  "qwen3",  "gemma2",      "gemma3"};
	int wrong = 0;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		char path[PATH_SIZE];
		struct ol_timeline t;
		double worst = 0.0;
		snprintf(path, sizeof path, "tests/golden/models/%s", names[i]);
		struct ol_model *model = import_model(path, OL_WEIGHT_F32);
		load_golden(&t, model, path);
		struct ol_engine *engine = ol_engine_for_test(model, NULL, 2, OL_KV_F32, 64);
		float *logits = calloc((size_t)t.count, (size_t)t.vocab * sizeof *logits);
		assert_non_null(logits);
		ol_way_prefill(engine, &t, NULL, logits);
		for (int row = 0; row < t.count; row++) {
			const size_t at = (size_t)row * (size_t)t.vocab;
			const double error = row_error(logits + at, t.logits + at, t.vocab);
			worst = error <= worst ? worst : error;
		}
		print_message("%-12s within %.1e\n", names[i], worst);
		wrong += !(worst <= tolerance);
		free(logits);
		ol_engine_close(engine);
		ol_timeline_release(&t);
		ol_model_close(model);
	}
	assert_int_equal(wrong, 0);
}

static void row_errors_are_seen(void **state)
{
	const float golden[] = {1.0f, -4.0f, 2.0f};
	float row[] = {1.0f, -4.0f, 2.0f};
	(void)state;
	assert_true(row_error(row, golden, 3) == 0.0);
	row[2] += 1e-4f;
	assert_true(row_error(row, golden, 3) > tolerance);
	row[2] = NAN;
	assert_false(row_error(row, golden, 3) <= tolerance);
}

/* ---- A trained model ------------------------------------------------------------ */

static bool trained_model_is_here(void)
{
	if (access(TRAINED "/model.safetensors", R_OK) == 0)
		return true;
	print_message("skipped: there is no " TRAINED "\n");
	return false;
}

static double nats_of(const float *logits, int vocab, int32_t token)
{
	double largest = -INFINITY, sum = 0.0;
	for (int i = 0; i < vocab; i++)
		largest = fmax(largest, (double)logits[i]);
	for (int i = 0; i < vocab; i++)
		sum += exp((double)logits[i] - largest);
	return largest + log(sum) - (double)logits[token];
}

struct trained {
	struct ol_model *model;
	struct ol_engine *engine;
	struct ol_session *session;
	float *logits; /* (TRAINED_TOKENS_MAX, vocab) */
	int vocab;
};

static void open_trained(struct trained *t, enum ol_weight_type type)
{
	t->model = import_model(TRAINED, type);
	t->vocab = ol_model_config(t->model)->vocab_size;
	t->engine = ol_engine_for_test(t->model, NULL, 2, OL_KV_F32, TRAINED_TOKENS_MAX);
	t->logits = calloc(TRAINED_TOKENS_MAX, (size_t)t->vocab * sizeof *t->logits);
	assert_non_null(t->logits);
	ol_must(ol_session_open(&t->session, t->engine), NULL);
}

static void close_trained(struct trained *t)
{
	ol_session_close(t->session);
	ol_engine_close(t->engine);
	ol_model_close(t->model);
	free(t->logits);
}

static void check_tokenizer(const struct trained *t, const json_t *reference, const int32_t *prompt,
			    int prompt_count, const int32_t *greedy, int greedy_count)
{
	const char *text = json_string_value(json_object_get(reference, "prompt"));
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_tokens ids = {0};
	struct ol_error err;
	struct ol_buf words;
	size_t size;
	const char *source = ol_model_text(t->model, "tokenizer.json", &size);
	assert_non_null(source);
	ol_must(ol_tokenizer_open(&tokenizer, source, size, TRAINED, &err), &err);
	ol_must(ol_tokenizer_encode(tokenizer, &ids, text, strlen(text), OL_SPECIAL_PARSE, true,
				    NULL, 0, &err),
		&err);
	assert_int_equal(ids.count, prompt_count);
	assert_memory_equal(ids.ids, prompt, ids.count * sizeof *prompt);
	ol_buf_init(&words, 1 << 16);
	assert_true(ol_tokenizer_decode(tokenizer, &words, greedy, (size_t)greedy_count, true));
	assert_string_equal(words.data,
			    json_string_value(json_object_get(reference, "greedy_text")));
	ol_buf_release(&words);
	ol_tokens_release(&ids);
	ol_tokenizer_close(tokenizer);
}

static void a_trained_model_says_what_it_said_elsewhere(void **state)
{
	struct trained t;
	int32_t prompt[TRAINED_TOKENS_MAX], greedy[TRAINED_TOKENS_MAX];
	(void)state;
	if (!trained_model_is_here())
		return;
	json_t *reference = load_json(TRAINED, "reference.json");
	open_trained(&t, OL_WEIGHT_F32);
	const int count = load_ids(prompt, TRAINED_TOKENS_MAX, reference, "prompt_ids");
	const int greedy_count = load_ids(greedy, TRAINED_TOKENS_MAX, reference, "greedy_ids");
	ol_feed(t.engine, t.session, prompt, count, t.logits);

	const json_t *nats = json_object_get(reference, "prompt_nats");
	double worst = 0.0;
	for (int i = 0; i + 1 < count; i++)
		worst = fmax(worst, fabs(nats_of(t.logits + i * t.vocab, t.vocab, prompt[i + 1]) -
					 json_real_value(json_array_get(nats, (size_t)i))));
	const json_t *head = json_object_get(reference, "last_prompt_logits_head");
	const float *last = t.logits + (count - 1) * t.vocab;
	double worst_logit = 0.0;
	assert_true(json_array_size(head) > 0);
	for (size_t i = 0; i < json_array_size(head); i++)
		worst_logit = fmax(worst_logit, fabs((double)last[i] -
						     json_real_value(json_array_get(head, i))));
	print_message("trained: nats within %.1e, logits within %.1e\n", worst, worst_logit);
	assert_true(worst <= 5e-5 && worst_logit <= 5e-5);

	memcpy(t.logits, last, (size_t)t.vocab * sizeof *last);
	for (int i = 0; i < greedy_count; i++) {
		int32_t best;
		ol_top_tokens(&best, 1, t.logits, t.vocab);
		if (best != greedy[i])
			fail_msg("greedy token %d is %d, not %d", i, best, greedy[i]);
		ol_feed(t.engine, t.session, &best, 1, t.logits);
	}
	check_tokenizer(&t, reference, prompt, count, greedy, greedy_count);
	close_trained(&t);
	json_decref(reference);
}

/* Stories that the f32 model tells at temperature 1, a seed each. */
enum { STORIES = 8, STORY_TOKENS = 200 };

static void tell_stories(struct trained *t, int32_t stories[STORIES][STORY_TOKENS])
{
	const struct ol_kernels *kernels = ol_kernels_best();
	struct ol_sampler *sampler = NULL;
	ol_must(ol_sampler_open(&sampler, kernels, t->vocab), NULL);
	for (int s = 0; s < STORIES; s++) {
		const struct ol_sampling sampling = {.temperature = 1.0f,
						     .top_p = 1.0f,
						     .repeat_penalty = 1.0f,
						     .seed = (uint64_t)s + 1};
		int32_t *story = stories[s];
		story[0] = ol_model_config(t->model)->bos_id;
		ol_session_truncate(t->session, 0);
		for (int i = 1; i < STORY_TOKENS; i++) {
			ol_feed(t->engine, t->session, story + i - 1, 1, t->logits);
			story[i] = ol_sampler_choose(sampler, t->logits, &sampling, (uint32_t)i,
						     story, i, i - 1, NULL);
		}
	}
	ol_sampler_close(sampler);
}

static double nats_a_token(struct trained *t, int32_t stories[STORIES][STORY_TOKENS])
{
	double sum = 0.0;
	for (int s = 0; s < STORIES; s++) {
		ol_session_truncate(t->session, 0);
		ol_feed(t->engine, t->session, stories[s], STORY_TOKENS - 1, t->logits);
		for (int i = 0; i + 1 < STORY_TOKENS; i++)
			sum += nats_of(t->logits + i * t->vocab, t->vocab, stories[s][i + 1]);
	}
	return sum / (STORIES * (STORY_TOKENS - 1));
}

static void fewer_bits_cost_little(void **state)
{
	static const struct {
		enum ol_weight_type type;
		double most; /* increase of perplexity over f32 */
	} rows[] = {
		{OL_WEIGHT_BF16, 0.005},
		{OL_WEIGHT_Q8, 0.005},
		{OL_WEIGHT_Q4, 0.08},
	};
	static int32_t stories[STORIES][STORY_TOKENS];
	struct trained t;
	int wrong = 0;
	(void)state;
	if (!trained_model_is_here())
		return;
	open_trained(&t, OL_WEIGHT_F32);
	tell_stories(&t, stories);
	const double exact = nats_a_token(&t, stories);
	close_trained(&t);
	/* Stories, not noise: the vocabulary alone would cost log(2048) = 7.6. */
	assert_true(exact > 0.5 && exact < 3.0);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		open_trained(&t, rows[i].type);
		const double increase = exp(nats_a_token(&t, stories) - exact) - 1.0;
		close_trained(&t);
		print_message("%s: perplexity %+.3f %% over f32 (%.4f nats a token)\n",
			      ol_weight_type_name(rows[i].type), 100.0 * increase, exact);
		wrong += !(increase <= rows[i].most);
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(row_errors_are_seen),
		cmocka_unit_test(every_architecture_equals_pytorch),
		cmocka_unit_test(a_trained_model_says_what_it_said_elsewhere),
		cmocka_unit_test(fewer_bits_cost_little),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
