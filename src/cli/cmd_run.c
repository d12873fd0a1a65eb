/* The first look, until a base model ships: one tiny random model, its logits under every
 * instruction set of this machine, and the hash that is the same for all of them. */
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/sha256.h"
#include "math/functions.h"
#include "node/bench.h"
#include "node/score.h"

#include <stdio.h>
#include <string.h>

enum { DEMO_TOKENS = 256 };

struct demo_result {
	bool there;
	double seconds;
	uint8_t hash[32];
};

static enum ol_status demo_once(struct demo_result *result, const struct ol_model *model,
				enum ol_isa isa, const int32_t *tokens, struct ol_error *err)
{
	struct ol_engine_options options = {.kernels = ol_kernels_for(isa),
					    .kv_positions = DEMO_TOKENS};
	struct ol_engine *engine;
	struct ol_score score;
	*result = (struct demo_result){.there = options.kernels != NULL};
	if (!result->there)
		return OL_OK;
	enum ol_status s = ol_engine_open(&engine, model, &options, err);
	if (s != OL_OK)
		return s;
	s = ol_score_tokens(&score, engine, NULL, tokens, DEMO_TOKENS, -1, DEMO_TOKENS, NULL, err);
	result->seconds = score.seconds;
	memcpy(result->hash, score.logits_sha256, sizeof result->hash);
	ol_engine_close(engine);
	return s;
}

static void print_next_steps(void)
{
	static const char *const steps[][2] = {
		{"bench", "how fast this machine is"},
		{"import FOLDER-OR-GGUF --name NAME", "bring in a model"},
		{"generate -m NAME --chat -p QUESTION", "ask it something"},
		{"score -m NAME FILE", "the hash anyone else can reproduce"},
	};
	printf("\nWhat to try next:\n");
	for (size_t i = 0; i < OL_ARRAY_LEN(steps); i++)
		printf("  %s %-36s %s\n", ol_program, steps[i][0], steps[i][1]);
}

int ol_command_run(int argc, char **argv)
{
	static const enum ol_isa isas[] = {OL_ISA_SCALAR, OL_ISA_AVX2, OL_ISA_AVX512, OL_ISA_NEON};
	static const char *const names[] = {"scalar", "AVX2", "AVX-512", "NEON"};
	static const enum ol_weight_type types[] = {OL_WEIGHT_F32, OL_WEIGHT_BF16, OL_WEIGHT_Q8,
						    OL_WEIGHT_Q4};
	const struct ol_command_line line = {
		.command = "openledger run",
		.usage = "",
		.about = "A first look: the same bits on every instruction set."};
	const struct ol_config config = ol_bench_config(ol_bench_shape_find("tiny"), DEMO_TOKENS);
	int32_t tokens[DEMO_TOKENS];
	struct ol_error err = {0};
	bool same = true;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	for (uint32_t i = 0; i < DEMO_TOKENS; i++) {
		uint32_t words[4];
		ol_philox(words, (const uint32_t[4]){i, 0, 0, 0}, (const uint32_t[2]){1, 0});
		tokens[i] = (int32_t)(words[0] % (uint32_t)config.vocab_size);
	}
	printf("A tiny random model reads %d tokens; below, the SHA-256 of all its logits.\n"
	       "Whoever runs this, on whatever machine, must see the same hashes.\n",
	       DEMO_TOKENS);
	for (size_t t = 0; t < OL_ARRAY_LEN(types); t++) {
		struct ol_model *model;
		struct demo_result first = {0};
		enum ol_status s = ol_model_random(&model, &config, types[t], 1, &err);
		if (s != OL_OK)
			return ol_report(&err);
		printf("\n%s weights\n", ol_weight_type_name(types[t]));
		for (size_t i = 0; i < OL_ARRAY_LEN(isas) && s == OL_OK; i++) {
			struct demo_result result;
			char hex[65];
			s = demo_once(&result, model, isas[i], tokens, &err);
			if (s != OL_OK || !result.there)
				continue;
			if (!first.there)
				first = result;
			const bool equal = memcmp(first.hash, result.hash, sizeof result.hash) == 0;
			same = same && equal;
			ol_hex(hex, result.hash, sizeof result.hash);
			printf("  %-8s %s %8.1f ms  %s\n", names[i], hex, 1e3 * result.seconds,
			       equal ? "" : "DIFFERENT");
		}
		ol_model_close(model);
		if (s != OL_OK)
			return ol_report(&err);
	}
	if (!same) {
		fprintf(stderr,
			"openledger: the instruction sets of this machine disagree; please report "
			"it\n");
		return 1;
	}
	printf("\nAll equal, bit for bit.\n");
	print_next_steps();
	return 0;
}
