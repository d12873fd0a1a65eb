/* What it costs to check an answer, beside what it cost to make it.
 *
 *     bench_verify [m110|m430|tiny] [prompt=32] [tokens=200] [rounds=5]
 *
 * For each weight type: an answer of so many tokens at batch 1 (temperature 0.8), then its replay
 * by one prefill (node/replay.h), in turn; medians of the rounds, models loaded before. */
#include "base/clock.h"
#include "node/bench.h"
#include "node/generate.h"
#include "node/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 64 };

static void must(enum ol_status s, const struct ol_error *err)
{
	if (s == OL_OK)
		return;
	fprintf(stderr, "bench_verify: %s\n", err->text);
	exit(1);
}

static void measure(const struct ol_bench_shape *shape, enum ol_weight_type type, int prompt_count,
		    int tokens, int rounds)
{
	const struct ol_config config = ol_bench_config(shape, 2 * (prompt_count + tokens));
	const int room = prompt_count + tokens;
	const struct ol_engine_options engine = {.kv_positions = 2 * (room + 16)};
	double made[ROUNDS_MAX], checked[ROUNDS_MAX];
	struct ol_runtime runtime = {0};
	struct ol_tokens prompt = {0};
	struct ol_error err;
	must(ol_model_random(&runtime.model, &config, type, 1, &err), &err);
	must(ol_runtime_start(&runtime, &engine, &err), &err);
	for (int i = 0; i < prompt_count; i++)
		if (!ol_tokens_push(&prompt, 3 + 7 * i))
			exit(1);
	for (int r = 0; r < rounds; r++) {
		const struct ol_answer_options options = {.max_tokens = tokens,
							  .ignore_eos = true,
							  .sampling = {.temperature = 0.8f,
								       .top_k = 40,
								       .top_p = 0.95f,
								       .repeat_penalty = 1.0f,
								       .seed = (uint64_t)r}};
		struct ol_generation answer;
		struct ol_replay replay;
		const double start = ol_clock_seconds();
		must(ol_generate(&answer, &runtime, &prompt, &options, &err), &err);
		made[r] = ol_clock_seconds() - start;
		const struct ol_replay_choice choice = {answer.tokens.ids, answer.tokens.count,
							answer.finish};
		const struct ol_replay_job job = {.prompt = prompt.ids,
						  .prompt_count = prompt.count,
						  .options = options,
						  .room = room,
						  .choices = &choice,
						  .choice_count = 1};
		must(ol_replay_answer(&replay, &runtime, &job, &err), &err);
		checked[r] = replay.seconds;
		if (replay.verdict != OL_REPLAY_SAME) {
			fprintf(stderr, "bench_verify: the replay differs\n");
			exit(1);
		}
		ol_generation_release(&answer);
	}
	const double a = ol_median(made, rounds), b = ol_median(checked, rounds);
	printf("%-5s %-5s  made in %7.1f ms  checked in %7.1f ms  %.3f\n", shape->name,
	       ol_weight_type_name(type), 1e3 * a, 1e3 * b, b / a);
	ol_tokens_release(&prompt);
	ol_runtime_close(&runtime);
}

int main(int argc, char **argv)
{
	static const enum ol_weight_type types[] = {OL_WEIGHT_BF16, OL_WEIGHT_Q8, OL_WEIGHT_Q4};
	const struct ol_bench_shape *shape = ol_bench_shape_find(argc > 1 ? argv[1] : "m110");
	const int prompt = (int)(argc > 2 ? strtol(argv[2], NULL, 10) : 32);
	const int tokens = (int)(argc > 3 ? strtol(argv[3], NULL, 10) : 200);
	const int rounds = (int)(argc > 4 ? strtol(argv[4], NULL, 10) : 5);
	if (!shape || prompt < 1 || tokens < 1 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "bench_verify [m110|m430|tiny] [prompt] [tokens] [rounds]\n");
		return 1;
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(types); i++)
		measure(shape, types[i], prompt, tokens, rounds);
	return 0;
}
