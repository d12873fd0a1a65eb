/* The arithmetic of version 0-draft, written down: SHA-256 over the little-endian logits of a fixed
 * random model and timeline. The same on every compiler, optimisation level and machine; whoever
 * changes a line here changes the arithmetic and must change its version too. */
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "crypto/sha256.h"
#include "model/sampler.h"

enum { TOKENS = 43, LLAMA_3 = 2, GEMMA_3 = 7 };

struct golden_row {
	int shape;
	enum ol_weight_type weights;
	enum ol_kv_type kv;
	const char *sha256;
};

static const struct golden_row golden[] = {
	{LLAMA_3, OL_WEIGHT_F32, OL_KV_F32,
	 "97f0c1964e0fdfa363ace6dccf553b8589845e17b12ded4b747edf55c3af1c48"},
	{LLAMA_3, OL_WEIGHT_F32, OL_KV_BF16,
	 "1dd3641fa45255793223134b807e6b24edebd44e2b6b67f6e1809c82f5ae7223"},
	{LLAMA_3, OL_WEIGHT_BF16, OL_KV_F32,
	 "0ec8489da877b790bea1e86d285e2db3766045cc2be3492102585b544097c76d"},
	{LLAMA_3, OL_WEIGHT_BF16, OL_KV_BF16,
	 "2858d785ad9241f1f053eb6ae812d844dad95d9c3dae89ad7f3401ee9fdeaa6d"},
	{LLAMA_3, OL_WEIGHT_Q8, OL_KV_F32,
	 "78d182f71e1befdefb572428bebea17dfd454b1f29482b6e151d52ed15e69602"},
	{LLAMA_3, OL_WEIGHT_Q8, OL_KV_BF16,
	 "a6d7125855d10b8c260c7fe696b99fcfa7827d6e4d4930cfb98d9e2604f1be8f"},
	{LLAMA_3, OL_WEIGHT_Q4, OL_KV_F32,
	 "8f035dd4be2ec4617ac4df1d2ba67915a3dbb374117181432486afdcf0ae9332"},
	{LLAMA_3, OL_WEIGHT_Q4, OL_KV_BF16,
	 "cdbd45bf475159662b3b305272200e8c90f1c28fac29edb8936e971423f3390b"},
	{LLAMA_3, OL_WEIGHT_NF4, OL_KV_F32,
	 "825c04aedebd7e2fd8bc220de517944a69464dfd70cff2aef783fc3ac1348051"},
	{LLAMA_3, OL_WEIGHT_NF4, OL_KV_BF16,
	 "99f9175ca7856b70d813c66af4ddc5c76a2267849b636202451bc3f16608ec1a"},
	{GEMMA_3, OL_WEIGHT_F32, OL_KV_F32,
	 "8e95b86679ec3e87c44c181ab5d3cc6f2bf32dac20489eb27c884f817587cf0b"},
	{GEMMA_3, OL_WEIGHT_F32, OL_KV_BF16,
	 "5a9cfd22783b0b87ae297759cab73c11cd8e3262bf7ac7bc8cfd1c14a10f14f1"},
	{GEMMA_3, OL_WEIGHT_BF16, OL_KV_F32,
	 "a5032d885a5ca5e3a3120ca32a1e14fa26cc5216673cbe0bcd034905d7112132"},
	{GEMMA_3, OL_WEIGHT_BF16, OL_KV_BF16,
	 "373166a54e014a91acdf48f7263e551055ac9f304ec45bb689ffdad8339e4f4e"},
	{GEMMA_3, OL_WEIGHT_Q8, OL_KV_F32,
	 "b907424c094c1ec7854e5af6b0554ad4c15c9f27ba040aa276fadd4e2190297b"},
	{GEMMA_3, OL_WEIGHT_Q8, OL_KV_BF16,
	 "011142f7971e0c01dfd48ce79cb8ed22254f399a4515fb2dd4f7521cd25f5aa2"},
	{GEMMA_3, OL_WEIGHT_Q4, OL_KV_F32,
	 "416832d52f250027386ca12546cd00c88ca96c1080a35e91727c9401538869a8"},
	{GEMMA_3, OL_WEIGHT_Q4, OL_KV_BF16,
	 "90f91cf2fdf763c79d8d0f1791a36c908768ea5a0152876c8f5d828e0ab799e7"},
	{GEMMA_3, OL_WEIGHT_NF4, OL_KV_F32,
	 "e289316c6a403b1fcb0ca811c611c0d47605a85306a19dbad0ba5a9ec39e6318"},
	{GEMMA_3, OL_WEIGHT_NF4, OL_KV_BF16,
	 "4c5e100fffb01eee0dc3714d5ec13acacef2b2c0032ca7573bdac6b46cb4da67"},
};

static void hash_logits(char hex[65], const struct ol_timeline *t)
{
	uint8_t digest[OL_SHA256_BYTES], bytes[4];
	struct ol_sha256 hash;
	assert_true(ol_sha256_init(&hash));
	for (size_t i = 0; i < (size_t)t->count * (size_t)t->vocab; i++) {
		ol_store_u32(bytes, ol_float_bits(t->logits[i]));
		ol_sha256_update(&hash, bytes, sizeof bytes);
	}
	ol_sha256_final(&hash, digest);
	ol_hex(hex, digest, sizeof digest);
}

/* On every instruction set; the prefill is cut differently on each. */
static bool check_row(const struct golden_row *g, const struct ol_kernels *kernels)
{
	struct ol_model *model = NULL;
	struct ol_timeline t;
	struct ol_dice dice = {(uint64_t)kernels->isa};
	struct ol_error err;
	char hex[65];
	ol_must(ol_model_random(&model, &ol_shapes[g->shape].config, g->weights, 1, &err), &err);
	ol_timeline_init(&t, model, TOKENS, 7);
	struct ol_engine *engine = ol_engine_for_test(model, kernels, 2, g->kv, TOKENS);
	ol_way_chunks(engine, &t, &dice, t.logits);
	hash_logits(hex, &t);
	ol_engine_close(engine);
	ol_timeline_release(&t);
	ol_model_close(model);
	if (strcmp(hex, g->sha256) == 0)
		return true;
	print_error("%s, %s weights, %s cache, %s kernels: %s\n", ol_shapes[g->shape].name,
		    ol_weight_type_name(g->weights), ol_kv_name(g->kv), kernels->name, hex);
	return false;
}

static void the_golden_hashes_hold(void **state)
{
	int wrong = 0;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(golden); i++)
		for (int isa = 0; isa < OL_ISAS; isa++)
			if (ol_kernels_for((enum ol_isa)isa))
				wrong += !check_row(&golden[i], ol_kernels_for((enum ol_isa)isa));
	assert_int_equal(wrong, 0);
}

/* A generation: the words that a random model says after five of ours, by every filter at once. */
static const int32_t spoken[] = {113, 123, 14, 4,   68, 10, 24,  19, 115, 50, 45,
				 9,   72,  39, 115, 74, 62, 120, 45, 122, 58, 20,
				 37,  11,  95, 25,  52, 21, 118, 19, 111, 72};

static bool check_words(const struct ol_model *model, const struct ol_kernels *kernels)
{
	enum { PROMPT = 5, SPOKEN = (int)OL_ARRAY_LEN(spoken) };
	const struct ol_sampling sampling = {.temperature = 0.8f,
					     .top_k = 60,
					     .top_p = 0.95f,
					     .min_p = 0.01f,
					     .repeat_penalty = 1.1f,
					     .presence_penalty = 0.1f,
					     .frequency_penalty = 0.1f,
					     .seed = 2026};
	const int vocab = ol_model_config(model)->vocab_size;
	int32_t words[PROMPT + SPOKEN] = {1, 7, 30, 22, 64};
	struct ol_engine *engine = ol_engine_for_test(model, kernels, 2, OL_KV_F32, 64);
	struct ol_session *session = NULL;
	struct ol_sampler *sampler = NULL;
	float *logits = calloc(PROMPT, (size_t)vocab * sizeof *logits);
	assert_non_null(logits);
	ol_must(ol_session_open(&session, engine), NULL);
	ol_must(ol_sampler_open(&sampler, kernels, vocab), NULL);
	ol_feed(engine, session, words, PROMPT, logits);
	for (int i = 0; i < SPOKEN; i++) {
		const int at = PROMPT + i;
		const float *last = i == 0 ? logits + (PROMPT - 1) * vocab : logits;
		words[at] = ol_sampler_choose(sampler, last, &sampling, (uint32_t)at, words, at, i,
					      NULL);
		ol_feed(engine, session, words + at, 1, logits);
	}
	free(logits);
	ol_sampler_close(sampler);
	ol_session_close(session);
	ol_engine_close(engine);
	if (memcmp(words + PROMPT, spoken, sizeof spoken) == 0)
		return true;
	print_error("%s kernels said:", kernels->name);
	for (int i = 0; i < SPOKEN; i++)
		print_error(" %d,", words[PROMPT + i]);
	print_error("\n");
	return false;
}

static void a_golden_generation_repeats_itself(void **state)
{
	struct ol_model *model = NULL;
	struct ol_error err;
	int wrong = 0;
	(void)state;
	ol_must(ol_model_random(&model, &ol_shapes[LLAMA_3].config, OL_WEIGHT_Q8, 1, &err), &err);
	for (int isa = 0; isa < OL_ISAS; isa++)
		if (ol_kernels_for((enum ol_isa)isa))
			wrong += !check_words(model, ol_kernels_for((enum ol_isa)isa));
	ol_model_close(model);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_golden_generation_repeats_itself),
		cmocka_unit_test(the_golden_hashes_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
