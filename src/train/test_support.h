/* train/test_support.h, floor 3: what the tests of this room share: a tiny base, and examples that
 * can be learned. Test programs include it once. */
#ifndef OL_TRAIN_TEST_SUPPORT_H
#define OL_TRAIN_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "train/trainer.h"

/* Where a sanitizer checks every access, the long loops are left to the other builds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
/* The full matrices run when OL_TEST_SLOW=1. */
static inline bool is_slow(void)
{
	const char *slow = getenv("OL_TEST_SLOW");
	return !SANITIZED && slow && strcmp(slow, "1") == 0;
}

static inline void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK)
		fail_msg("%s", err->text);
}

/* No size is a multiple of a panel, a block or a vector. */
static inline struct ol_config tiny_base(bool tied)
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
		.attention_scale = 0.3f,
		.rope_theta = 10000,
		.rope_theta_local = 10000,
		.rope_factor = 1,
		.bos_id = 1,
	};
}

static inline struct ol_model *tiny_model(bool tied, enum ol_weight_type type)
{
	const struct ol_config config = tiny_base(tied);
	struct ol_error err = {0};
	struct ol_model *model;
	must(ol_model_random(&model, &config, type, 11, &err), &err);
	return model;
}

enum { TOYS_MAX = 64, TOY_TOKENS_MAX = 24 };

/* Example i: a prompt of a few tokens, then an answer that is a function of the prompt's first
 * token. Lengths differ. The rejected answer is another prompt's. */
struct toys {
	struct ol_example examples[TOYS_MAX];
	struct ol_examples list;
	char ids[TOYS_MAX][16];
	int32_t tokens[2 * TOYS_MAX][TOY_TOKENS_MAX], targets[2 * TOYS_MAX][TOY_TOKENS_MAX];
};

static inline struct ol_sequence toy_sequence(struct toys *toys, int slot, int prompt, int subject,
					      int answer)
{
	int32_t *tokens = toys->tokens[slot], *targets = toys->targets[slot];
	const int count = prompt + 5;
	for (int t = 0; t < count; t++)
		tokens[t] = t == 0       ? 1
			    : t < prompt ? 3 + (subject * (t + 1)) % 30
					 : 35 + (answer * 7 + 5 * (t - prompt)) % 30;
	for (int t = 0; t < count; t++)
		targets[t] = t + 1 >= prompt && t + 1 < count ? tokens[t + 1] : -1;
	return (struct ol_sequence){tokens, targets, count, 0};
}

static inline void make_toys(struct toys *toys, int count)
{
	*toys = (struct toys){0};
	for (int i = 0; i < count; i++) {
		struct ol_example *e = &toys->examples[i];
		const int prompt = 3 + i % 7, subject = i % 16;
		uint8_t hash[OL_SHA256_BYTES];
		const int length = snprintf(toys->ids[i], sizeof toys->ids[i], "toy %d", i);
		ol_sha256(hash, toys->ids[i], (size_t)length);
		*e = (struct ol_example){
			.id = toys->ids[i],
			.contributor = i % 2 ? "odd" : "even",
			.sequence = toy_sequence(toys, 2 * i, prompt, subject, subject),
			.rejected = toy_sequence(toys, 2 * i + 1, prompt, subject, subject + 5),
			.answer_tokens = 5,
			.rejected_tokens = 5,
			.answer_bytes = 12,
		};
		memcpy(&e->key, hash, sizeof e->key);
	}
	toys->list = (struct ol_examples){.at = toys->examples, .count = (size_t)count};
	toys->list.snapshot[0] = (uint8_t)count;
}

/* A short run: batches that straddle epochs, an evaluation now and then. */
static inline struct ol_train_config toy_config(enum ol_train_method method, int steps)
{
	const struct ol_config base = tiny_base(false);
	struct ol_train_config c;
	ol_train_defaults(&c, method, &base, 40, 0);
	c.rank = 4;
	c.alpha = 8;
	c.targets = OL_TARGETS_ALL | OL_TARGETS_HEAD;
	c.learning_rate = method == OL_TRAIN_FULL ? 3e-3f : 1e-2f;
	c.steps = steps;
	c.batch = 5;
	c.warmup = 2;
	c.eval_fraction = 0.2f;
	c.eval_every = 4;
	return c;
}

static inline struct ol_trainer *open_toys(const struct ol_model *base, const struct toys *toys,
					   const struct ol_train_config *config,
					   const struct ol_train_options *options)
{
	struct ol_trainer *trainer;
	struct ol_error err = {0};
	must(ol_trainer_open_examples(&trainer, base, &toys->list, config, options, &err), &err);
	return trainer;
}

/* Runs to the end; the last report. */
static inline struct ol_step_report run_toys(struct ol_trainer *trainer)
{
	struct ol_step_report report = {0};
	struct ol_error err = {0};
	while (!ol_trainer_finished(trainer))
		must(ol_trainer_step(trainer, &report, &err), &err);
	return report;
}

#endif
