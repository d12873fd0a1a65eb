/* Small models, timelines and the ways of running them: see support.h. */
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SESSIONS_MAX = 64, STRANGER_LENGTH_MAX = 24 };

uint64_t ol_dice_next(struct ol_dice *dice)
{
	uint64_t z = dice->state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

int ol_dice_between(struct ol_dice *dice, int low, int high)
{
	return low + (int)(ol_dice_next(dice) % (uint64_t)(high - low + 1));
}

void ol_must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK)
		fail_msg("status %d: %s", (int)status, err ? err->text : "(no sentence)");
}

bool ol_slow(void)
{
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	const char *slow = getenv("OL_TEST_SLOW");
	return slow && strcmp(slow, "1") == 0;
#else
	return false;
#endif
}

enum ol_isa ol_first_isa(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return ol_kernels_for(OL_ISA_AVX2) ? OL_ISA_AVX2 : ol_kernels_best()->isa;
#endif
	return OL_ISA_SCALAR;
}

const char *ol_kv_name(enum ol_kv_type type)
{
	return type == OL_KV_F32 ? "f32" : "bf16";
}

/* clang-format off */
#define COMMON                                                                             \
	.context_max = 8192, .norm_eps = 1e-5f, .embed_scale = 1.0f, .bos_id = 1, .eos_ids = {2}, \
	.eos_count = 1, .activation = OL_ACTIVATION_SILU
/* theta is also the local theta: only Gemma 3 has two. */
#define THETA(theta) .rope_theta = theta, .rope_theta_local = theta

const struct ol_shape ol_shapes[] = {
	{"llama, many heads", {COMMON, THETA(10000.0), .arch = OL_ARCH_LLAMA, .vocab_size = 101,
		.hidden = 40, .ffn = 88, .layers = 2, .heads = 4, .kv_heads = 4, .head_dim = 10,
		.attention_scale = 0x1.43d136p-2f}},
	{"llama, odd hidden", {COMMON, THETA(10000.0), .arch = OL_ARCH_LLAMA, .vocab_size = 65,
		.hidden = 33, .ffn = 67, .layers = 2, .heads = 3, .kv_heads = 1, .head_dim = 6,
		.attention_scale = 0x1.a20bd8p-2f, .tied_embeddings = true}},
	{"llama 3", {COMMON, THETA(500000.0), .arch = OL_ARCH_LLAMA, .vocab_size = 131,
		.hidden = 50, .ffn = 70, .layers = 2, .heads = 6, .kv_heads = 2, .head_dim = 12,
		.attention_scale = 0x1.279a74p-2f, .rope_scaling = OL_ROPE_LLAMA3,
		.rope_factor = 8.0, .rope_low_freq_factor = 1.0, .rope_high_freq_factor = 4.0,
		.rope_original_context = 64}},
	{"mistral", {COMMON, THETA(10000.0), .arch = OL_ARCH_MISTRAL, .vocab_size = 97,
		.hidden = 48, .ffn = 66, .layers = 2, .heads = 6, .kv_heads = 2, .head_dim = 8,
		.attention_scale = 0x1.6a09e6p-2f, .window = 8}},
	{"qwen2", {COMMON, THETA(1000000.0), .arch = OL_ARCH_QWEN2, .vocab_size = 103,
		.hidden = 42, .ffn = 50, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 14,
		.attention_scale = 0x1.11acee56p-2f, .qkv_bias = true, .tied_embeddings = true}},
	{"qwen3", {COMMON, THETA(1000000.0), .arch = OL_ARCH_QWEN3, .vocab_size = 99,
		.hidden = 40, .ffn = 56, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 18,
		.attention_scale = 0x1.e2b7dep-3f, .qk_norm = true}},
	{"gemma 2", {COMMON, THETA(10000.0), .arch = OL_ARCH_GEMMA2, .vocab_size = 109,
		.hidden = 36, .ffn = 70, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 12,
		.attention_scale = 0x1.279a74p-2f, .post_norms = true, .tied_embeddings = true,
		.attention_softcap = 3.0f, .logit_softcap = 6.0f, .window = 16,
		.window_period = 2}},
	{"gemma 3", {COMMON, .arch = OL_ARCH_GEMMA3, .vocab_size = 107,
		.hidden = 44, .ffn = 60, .layers = 3, .heads = 2, .kv_heads = 1, .head_dim = 20,
		.attention_scale = 0x1.c9f25cp-3f, .post_norms = true, .tied_embeddings = true,
		.qk_norm = true, .window = 17, .window_period = 3, .rope_theta = 1000000.0,
		.rope_theta_local = 10000.0, .rope_scaling = OL_ROPE_LINEAR, .rope_factor = 8.0}},
};
/* clang-format on */
const int ol_shape_count = (int)OL_ARRAY_LEN(ol_shapes);

void ol_timeline_init(struct ol_timeline *t, const struct ol_model *model, int count, uint64_t seed)
{
	struct ol_dice dice = {seed};
	*t = (struct ol_timeline){.count = count};
	t->vocab = ol_model_config(model)->vocab_size;
	t->tokens = malloc((size_t)count * sizeof *t->tokens);
	t->logits = calloc((size_t)count * (size_t)t->vocab, sizeof *t->logits);
	assert_true(t->tokens && t->logits);
	for (int i = 0; i < count; i++)
		t->tokens[i] = ol_dice_between(&dice, 0, t->vocab - 1);
}

void ol_timeline_release(struct ol_timeline *t)
{
	free(t->tokens);
	free(t->logits);
}

int ol_first_difference(const struct ol_timeline *t, const float *logits)
{
	const size_t vocab = (size_t)t->vocab;
	for (int i = 0; i < t->count; i++)
		if (memcmp(t->logits + (size_t)i * vocab, logits + (size_t)i * vocab,
			   vocab * sizeof *logits) != 0)
			return i;
	return -1;
}

struct ol_adapter *ol_adapter_for_test(const struct ol_config *config, uint32_t targets, int rank,
				       uint64_t seed)
{
	const struct ol_adapter_config settings = {
		.rank = rank, .alpha = 2.0f * (float)rank, .base_name = "test"};
	const int count = ol_linear_count(config);
	struct ol_dice dice = {seed};
	struct ol_lora_tensors *tensors = calloc((size_t)count, sizeof *tensors);
	uint16_t **values = calloc(2 * (size_t)count, sizeof *values);
	struct ol_adapter *adapter = NULL;
	struct ol_error err;
	assert_true(tensors && values);
	for (int i = 0; i < count; i++) {
		const enum ol_linear linear =
			i == count - 1 ? OL_LINEAR_HEAD : (enum ol_linear)(i % OL_LAYER_LINEARS);
		int sizes[2];
		ol_linear_shape(config, linear, &sizes[1], &sizes[0]);
		if (!(targets & 1u << linear))
			continue;
		for (int side = 0; side < 2; side++) {
			const int n = rank * sizes[side];
			uint16_t *v = values[2 * i + side] = malloc((size_t)n * sizeof *v);
			assert_non_null(v);
			for (int k = 0; k < n; k++)
				v[k] = ol_f32_to_bf16((float)ol_dice_between(&dice, -999, 999) *
						      2e-4f);
		}
		tensors[i] = (struct ol_lora_tensors){
			.rank = rank, .scale = 2.0f, .a = values[2 * i], .b = values[2 * i + 1]};
	}
	ol_must(ol_adapter_make(&adapter, config, &settings, tensors, &err), &err);
	for (int i = 0; i < 2 * count; i++)
		free(values[i]);
	free(values);
	free(tensors);
	return adapter;
}

struct ol_engine *ol_engine_for_test(const struct ol_model *model, const struct ol_kernels *kernels,
				     int threads, enum ol_kv_type kv_type, int64_t kv_positions)
{
	const struct ol_engine_options options = {.kernels = kernels,
						  .threads = threads,
						  .kv_type = kv_type,
						  .kv_positions = kv_positions};
	struct ol_engine *engine = NULL;
	struct ol_error err;
	ol_must(ol_engine_open(&engine, model, &options, &err), &err);
	return engine;
}

static struct ol_session *open_session(struct ol_engine *engine)
{
	struct ol_session *session = NULL;
	ol_must(ol_session_open(&session, engine), NULL);
	return session;
}

static void step(struct ol_engine *engine, struct ol_run *runs, int run_count)
{
	struct ol_error err;
	ol_must(ol_engine_step(engine, runs, run_count, &err), &err);
}

void ol_feed(struct ol_engine *engine, struct ol_session *session, const int32_t *tokens, int count,
	     float *logits)
{
	ol_feed_adapted(engine, session, NULL, tokens, count, logits);
}

void ol_feed_adapted(struct ol_engine *engine, struct ol_session *session,
		     const struct ol_adapter_view *adapter, const int32_t *tokens, int count,
		     float *logits)
{
	const int vocab = ol_model_config(ol_engine_model(engine))->vocab_size;
	for (int at = 0; at < count;) {
		const int n = OL_MIN(count - at, ol_engine_step_rows(engine));
		struct ol_run run = {.session = session,
				     .tokens = tokens + at,
				     .count = n,
				     .want = logits ? OL_LOGITS_ALL : OL_LOGITS_NONE,
				     .logits = logits ? logits + (size_t)at * (size_t)vocab : NULL,
				     .adapter = adapter};
		step(engine, &run, 1);
		at += n;
	}
}

/* Positions [from, to) of the timeline, their logits to their places. */
static void feed_part(struct ol_engine *engine, struct ol_session *session,
		      const struct ol_timeline *t, int from, int to, float *logits)
{
	if (from < to)
		ol_feed_adapted(engine, session, t->adapter, t->tokens + from, to - from,
				logits ? logits + (size_t)from * (size_t)t->vocab : NULL);
}

/* How many tokens to take next; OL_MIN would roll the dice twice. */
static int piece(struct ol_dice *dice, int most, int left)
{
	const int n = ol_dice_between(dice, 1, most);
	return OL_MIN(n, left);
}

void ol_way_decode(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		   float *logits)
{
	struct ol_session *session = open_session(engine);
	(void)dice;
	for (int i = 0; i < t->count; i++)
		feed_part(engine, session, t, i, i + 1, logits);
	ol_session_close(session);
}

void ol_way_prefill(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		    float *logits)
{
	struct ol_session *session = open_session(engine);
	(void)dice;
	feed_part(engine, session, t, 0, t->count, logits);
	ol_session_close(session);
}

void ol_way_chunks(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		   float *logits)
{
	struct ol_session *session = open_session(engine);
	for (int at = 0; at < t->count;) {
		const int n = piece(dice, 21, t->count - at);
		feed_part(engine, session, t, at, at + n, logits);
		at += n;
	}
	ol_session_close(session);
}

/* Asking for the last position's logits alone, in short steps that overlap. */
static void way_last(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		     float *logits)
{
	struct ol_session *session = open_session(engine);
	for (int i = 0; i < t->count; i++) {
		const int from = i - ol_dice_between(dice, 0, OL_MIN(i, 4));
		struct ol_run run = {.session = session,
				     .tokens = t->tokens + from,
				     .count = i + 1 - from,
				     .want = OL_LOGITS_LAST,
				     .logits = logits + (size_t)i * (size_t)t->vocab,
				     .adapter = t->adapter};
		ol_session_truncate(session, from);
		step(engine, &run, 1);
	}
	ol_session_close(session);
}

/* One of the timeline's adapters for strangers, its own, or none: the bits of strangers are
 * nobody's business, so they may change it as they like. */
static const struct ol_adapter_view *stranger_adapter(const struct ol_timeline *t,
						      struct ol_dice *dice)
{
	const int which = ol_dice_between(dice, 0, OL_STRANGER_ADAPTERS + 1);
	if (!t->strangers || which > OL_STRANGER_ADAPTERS)
		return NULL;
	return which == OL_STRANGER_ADAPTERS ? t->adapter : t->strangers[which];
}

/* A stranger's part of a step: a few random tokens, sometimes with logits, sometimes cut back. */
static struct ol_run stranger_run(struct ol_session *session, int32_t *tokens, float *logits,
				  const struct ol_timeline *t, struct ol_dice *dice)
{
	const enum ol_logits wants[] = {OL_LOGITS_NONE, OL_LOGITS_LAST, OL_LOGITS_ALL};
	const int count = ol_dice_between(dice, 1, 3);
	if (ol_session_length(session) + count > STRANGER_LENGTH_MAX)
		ol_session_truncate(session,
				    ol_dice_between(dice, 0, ol_session_length(session)) / 2);
	for (int i = 0; i < count; i++)
		tokens[i] = ol_dice_between(dice, 0, t->vocab - 1);
	return (struct ol_run){.session = session,
			       .tokens = tokens,
			       .count = count,
			       .want = wants[ol_dice_between(dice, 0, 2)],
			       .logits = logits,
			       .adapter = stranger_adapter(t, dice)};
}

void ol_way_strangers(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		      float *logits, int sessions)
{
	struct ol_session *all[SESSIONS_MAX];
	struct ol_run runs[SESSIONS_MAX];
	int32_t tokens[SESSIONS_MAX][3];
	float *waste = malloc((size_t)sessions * 3 * (size_t)t->vocab * sizeof *waste);
	assert_true(waste && sessions <= SESSIONS_MAX);
	for (int i = 0; i < sessions; i++)
		all[i] = open_session(engine);
	for (int at = 0; at < t->count;) {
		const int ours = ol_dice_between(dice, 0, sessions - 1);
		const int n = piece(dice, 9, t->count - at);
		for (int i = 0; i < sessions; i++) {
			/* Session 0 is the timeline; it takes another place in every step. */
			const int who = i == ours ? 0 : i == 0 ? ours : i;
			if (who == 0)
				runs[i] = (struct ol_run){.session = all[0],
							  .tokens = t->tokens + at,
							  .count = n,
							  .want = OL_LOGITS_ALL,
							  .logits = logits +
								    (size_t)at * (size_t)t->vocab,
							  .adapter = t->adapter};
			else
				runs[i] = stranger_run(all[who], tokens[i],
						       waste + (size_t)i * 3 * (size_t)t->vocab, t,
						       dice);
		}
		step(engine, runs, sessions);
		at += n;
	}
	for (int i = 0; i < sessions; i++)
		ol_session_close(all[i]);
	free(waste);
}

static void way_strangers(struct ol_engine *engine, const struct ol_timeline *t,
			  struct ol_dice *dice, float *logits)
{
	ol_way_strangers(engine, t, dice, logits, ol_dice_between(dice, 2, 6));
}

/* A shared prefix: while a fork goes on with the right words, its source is cut back into a page
 * that they share and writes other words there, and so does another fork. Then the source takes it
 * all back. */
static void way_fork(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
		     float *logits)
{
	const int prefix = ol_dice_between(dice, 1, t->count - 1);
	const int back = ol_dice_between(dice, 0, prefix);
	struct ol_session *source = open_session(engine), *fork, *other;
	feed_part(engine, source, t, 0, prefix, logits);
	ol_must(ol_session_fork(&fork, source, prefix), NULL);
	ol_must(ol_session_fork(&other, source, back), NULL);
	ol_session_truncate(source, back);
	for (int at = prefix; at < t->count; at++) {
		const int32_t wrong = (t->tokens[at] + 1) % t->vocab;
		struct ol_run runs[] = {
			{.session = other, .tokens = &wrong, .count = 1},
			{.session = fork,
			 .tokens = t->tokens + at,
			 .count = 1,
			 .want = OL_LOGITS_LAST,
			 .logits = logits + (size_t)at * (size_t)t->vocab,
			 .adapter = t->adapter},
			{.session = source,
			 .tokens = &wrong,
			 .count = 1,
			 .adapter = stranger_adapter(t, dice)},
		};
		step(engine, runs, 3);
	}
	ol_session_close(fork);
	ol_session_truncate(source, back);
	ol_session_close(other);
	feed_part(engine, source, t, back, t->count, logits);
	ol_session_close(source);
}

/* Wrong words, taken back, and the right ones. */
static void way_truncate(struct ol_engine *engine, const struct ol_timeline *t,
			 struct ol_dice *dice, float *logits)
{
	struct ol_session *session = open_session(engine);
	for (int at = 0; at < t->count;) {
		const int n = piece(dice, 17, t->count - at);
		for (int i = ol_dice_between(dice, 0, 19); i > 0; i--) {
			const int32_t wrong = ol_dice_between(dice, 0, t->vocab - 1);
			ol_feed(engine, session, &wrong, 1, NULL);
		}
		ol_session_truncate(session, at);
		feed_part(engine, session, t, at, at + n, logits);
		at += n;
	}
	ol_session_close(session);
}

/* Preempted: the pages are given up halfway and soiled by others, the prefix is replayed later. */
static void way_preempt(struct ol_engine *engine, const struct ol_timeline *t, struct ol_dice *dice,
			float *logits)
{
	const int half = ol_dice_between(dice, 1, t->count - 1);
	struct ol_session *session = open_session(engine), *thief = open_session(engine);
	feed_part(engine, session, t, 0, half, logits);
	ol_session_close(session);
	for (int i = 0; i < t->count; i++) {
		const int32_t wrong = ol_dice_between(dice, 0, t->vocab - 1);
		ol_feed(engine, thief, &wrong, 1, NULL);
	}
	session = open_session(engine);
	feed_part(engine, session, t, 0, half, NULL);
	ol_session_truncate(thief, half);
	feed_part(engine, session, t, half, t->count, logits);
	ol_session_close(thief);
	ol_session_close(session);
}

const struct ol_way ol_ways[] = {
	{"token by token", ol_way_decode},
	{"in one prefill", ol_way_prefill},
	{"in random chunks", ol_way_chunks},
	{"asking for the last logits only", way_last},
	{"among strangers", way_strangers},
	{"forked from a shared prefix", way_fork},
	{"after wrong words were taken back", way_truncate},
	{"preempted and computed again", way_preempt},
};
const int ol_way_count = (int)OL_ARRAY_LEN(ol_ways);
