/* LoRA training of a model of a known shape with random weights: tokens a
 * second, memory, and the share of the time that the machine's own peaks would
 * allow. The peer that train_torch.py measures does the same; bench/train runs
 * them in turn.
 *
 *     bench_train [--shape m110|m430|b1] [--weights f32|bf16|q8|q4|nf4]
 * [--layout 1x256]
 *                 [--rank 16] [--steps 5] [--threads 2] [--recompute]
 *
 * Adapters on q k v o gate up down, every token a target. b1 has the shape of
 * Llama 3.2 1B. Prints one line of JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "math/peak.h"
#include "node/bench.h"
#include "train/trainer.h"

enum { SEQUENCES_MAX = 64, STEPS_MAX = 1000 };

struct settings {
	const char *shape, *layout;
	enum ol_weight_type type;
	int sequences, length, rank, steps, threads;
	bool recompute;
};

static void stop(const char *why, const char *what)
{
	fprintf(stderr, "bench_train: %s%s\n", why, what);
	exit(1);
}

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK)
		stop(err->text, "");
}

static int positive(const char *text)
{
	char *end;
	const long n = strtol(text, &end, 10);
	if (*end || end == text || n < 1 || n > 1 << 20)
		stop("not a positive number: ", text);
	return (int)n;
}

static void parse(struct settings *s, int count, char **words)
{
	for (int i = 1; i < count; i++) {
		const char *option = words[i], *value = i + 1 < count ? words[i + 1] : "";
		if (strcmp(option, "--recompute") == 0) {
			s->recompute = true;
			continue;
		}
		i++;
		if (strcmp(option, "--shape") == 0)
			s->shape = value;
		else if (strcmp(option, "--layout") == 0)
			s->layout = value;
		else if (strcmp(option, "--rank") == 0)
			s->rank = positive(value);
		else if (strcmp(option, "--steps") == 0)
			s->steps = OL_MIN(positive(value), STEPS_MAX);
		else if (strcmp(option, "--threads") == 0)
			s->threads = positive(value);
		else if (strcmp(option, "--weights") != 0)
			stop("unknown option ", option);
		else if (!ol_weight_type_parse(&s->type, value))
			stop("unknown type of weights: ", value);
	}
	if (sscanf(s->layout, "%dx%d", &s->sequences, &s->length) != 2 || s->sequences < 1 ||
	    s->sequences > SEQUENCES_MAX || s->length < 2)
		stop("a layout is SEQUENCESxLENGTH, as 4x64: ", s->layout);
}

static struct ol_config make_config(const struct settings *s)
{
	static const struct ol_bench_shape b1 = {"b1", 2048, 8192, 16, 32, 8, 128256};
	const bool big = strcmp(s->shape, "b1") == 0;
	const struct ol_bench_shape *shape = big ? &b1 : ol_bench_shape_find(s->shape);
	if (!shape)
		stop("unknown shape: ", s->shape);
	struct ol_config config = ol_bench_config(shape, s->length);
	config.tied_embeddings = big;
	return config;
}

/* Random tokens, each the target of the one before it. */
static struct ol_example *make_examples(const struct settings *s, int vocab)
{
	const size_t length = (size_t)s->length;
	struct ol_example *examples = calloc((size_t)s->sequences, sizeof *examples);
	uint64_t state = 1;
	for (int i = 0; examples && i < s->sequences; i++) {
		int32_t *tokens = malloc((length + 1) * sizeof *tokens);
		if (!tokens)
			stop("out of memory", "");
		for (size_t t = 0; t <= length; t++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			tokens[t] = (int32_t)((state >> 33) % (uint64_t)vocab);
		}
		examples[i] = (struct ol_example){
			.id = "random",
			.contributor = "bench",
			.key = (uint64_t)i,
			.sequence = {tokens, tokens + 1, s->length, (uint64_t)i},
			.answer_tokens = s->length};
	}
	if (!examples)
		stop("out of memory", "");
	return examples;
}

static struct ol_trainer *open_trainer(const struct settings *s, const struct ol_model *model,
				       const struct ol_example *examples)
{
	const struct ol_config *base = ol_model_config(model);
	const struct ol_examples list = {.at = examples, .count = (size_t)s->sequences};
	const struct ol_train_options options = {.threads = s->threads,
						 .rows_max = s->sequences * s->length,
						 .recompute = s->recompute ? 1 : -1};
	const bool quantised = s->type == OL_WEIGHT_NF4 || s->type == OL_WEIGHT_Q8;
	struct ol_train_config config;
	struct ol_trainer *trainer = NULL;
	struct ol_error err;
	ol_train_defaults(&config, quantised ? OL_TRAIN_QLORA : OL_TRAIN_LORA, base, list.count,
			  1.0);
	config.base_type = s->type;
	config.rank = s->rank;
	config.alpha = 2.0f * (float)s->rank;
	config.targets = OL_TARGETS_ALL;
	config.attributable = false;
	config.dropout = 0.0f;
	config.batch = s->sequences;
	config.order = OL_ORDER_DATASET;
	config.steps = s->steps + 1;
	config.warmup = 0;
	config.max_length = s->length;
	config.eval_fraction = 0.0f;
	config.eval_every = config.patience = 0;
	must(ol_trainer_open_examples(&trainer, model, &list, &config, &options, &err), &err);
	return trainer;
}

/* Multiply-adds of one pass over the linears and the head for one token. */
static double linear_size(const struct ol_config *c)
{
	double size = 0.0;
	for (int l = 0; l < OL_LINEARS; l++) {
		int outputs, inputs;
		ol_linear_shape(c, (enum ol_linear)l, &outputs, &inputs);
		size += (double)outputs * inputs * (l == OL_LINEAR_HEAD ? 1 : c->layers);
	}
	return size;
}

/* Seconds that a step would take at the machine's peaks: forward in the base's
 * type, the gradient of the inputs in f32. Adapters, attention and everything
 * else are not counted. */
static double ideal_seconds(const struct settings *s, const struct ol_config *c)
{
	const enum ol_peak kind = s->type == OL_WEIGHT_F32    ? OL_PEAK_F32
				  : s->type == OL_WEIGHT_BF16 ? OL_PEAK_BF16
							      : OL_PEAK_INT8_BLOCK32;
	const double operations = 2.0 * s->sequences * s->length * linear_size(c);
	struct ol_pool *pool;
	if (ol_pool_open(&pool, s->threads) != OL_OK)
		stop("cannot start threads", "");
	const double backward = ol_peak_ops_pool(pool, OL_PEAK_F32, 1.0);
	const double forward = kind == OL_PEAK_F32 ? backward : ol_peak_ops_pool(pool, kind, 1.0);
	ol_pool_close(pool);
	return forward > 0 && backward > 0 ? operations / forward + operations / backward : 0.0;
}

int main(int count, char **words)
{
	struct settings s = {.shape = "m110",
			     .layout = "1x256",
			     .type = OL_WEIGHT_F32,
			     .rank = 16,
			     .steps = 5,
			     .threads = 2};
	double rates[STEPS_MAX], sorted[STEPS_MAX];
	struct ol_step_report report;
	struct ol_model *model = NULL;
	struct ol_error err;
	struct rusage usage;
	parse(&s, count, words);
	const struct ol_config config = make_config(&s);
	must(ol_model_random(&model, &config, s.type, 1, &err), &err);
	struct ol_example *examples = make_examples(&s, config.vocab_size);
	struct ol_trainer *trainer = open_trainer(&s, model, examples);
	must(ol_trainer_step(trainer, &report, &err), &err);
	for (int i = 0; i < s.steps; i++) {
		must(ol_trainer_step(trainer, &report, &err), &err);
		rates[i] = sorted[i] = report.tokens / report.seconds;
	}
	getrusage(RUSAGE_SELF, &usage);
	const double median = ol_median(sorted, s.steps);
	const double ideal = ideal_seconds(&s, &config);
	printf("{\"trainer\": \"openledger\", \"shape\": \"%s\", \"type\": \"%s\", "
	       "\"layout\": \"%s\", \"recompute\": %s, \"threads\": %d, \"rank\": %d, "
	       "\"tokens_per_second\": %.1f, \"samples\": [",
	       s.shape, ol_weight_type_name(s.type), s.layout, s.recompute ? "true" : "false",
	       s.threads, s.rank, median);
	for (int i = 0; i < s.steps; i++)
		printf("%s%.1f", i ? ", " : "", rates[i]);
	printf("], \"share_of_peak\": %.3f, \"peak_memory_bytes\": %lld}\n",
	       ideal * median / (s.sequences * s.length), (long long)usage.ru_maxrss * 1024);
	ol_trainer_close(trainer);
	ol_model_close(model);
	for (int i = 0; i < s.sequences; i++)
		free((void *)(uintptr_t)examples[i].sequence.tokens);
	free(examples);
	return 0;
}
