/* The sampler against docs/ARITHMETIC.md, "Sampling": each stage as a row, the whole against a
 * plain second implementation, the draws against the probabilities that they stand for. */
#include "model/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/functions.h"

enum { VOCAB_MAX = 300, HISTORY_MAX = 40 };

#define SETTINGS(t, p, r) .temperature = (t), .top_p = (p), .repeat_penalty = (r)
#define PLAIN SETTINGS(1, 1, 1)
#define GREEDY SETTINGS(0, 1, 1)

static struct ol_sampler *open_sampler(int vocab_size)
{
	struct ol_sampler *sampler = NULL;
	assert_int_equal(ol_sampler_open(&sampler, ol_kernels_for(OL_ISA_SCALAR), vocab_size),
			 OL_OK);
	return sampler;
}

static uint32_t roll(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)(z >> 32);
}

static float uniform(uint64_t *state, float low, float high)
{
	return low + (high - low) * (float)(roll(state) >> 8) / 16777216.0f;
}

/* ---- Rows ------------------------------------------------------------ */

enum { ROW_VOCAB = 5, DRAWS = 400 };

/* clang-format off */
/* Natural logarithms of probabilities that sum to one: {0.40, 0.30, 0.15, 0.10, 0.05}. */
#define DOWNHILL {-0.9162907f, -1.2039728f, -1.8971200f, -2.3025851f, -2.9957323f}

static const struct ol_logit_bias ban_first[] = {{0, -100.0f}};
static const struct ol_logit_bias lift_last[] = {{4, 2.0f}, {7, 100.0f}, {-1, 100.0f}};
static const struct ol_logit_bias lift_last_twice[] = {{4, 1.0f}, {4, 1.0f}};

/* `seen`: a bit for every id that must come up in DRAWS positions; no other may. */
static const struct row {
	const char *name;
	float logits[ROW_VOCAB];
	struct ol_sampling sampling;
	int history_count, generated;
	int32_t history[4];
	uint64_t allowed; /* 0: all */
	unsigned seen;
} rows[] = {
	{"all come up", DOWNHILL, {PLAIN}, .seen = 0x1f},
	{"greedy: the highest", {1, 3, 2, 0, -1}, {GREEDY}, .seen = 1 << 1},
	{"greedy: of equals the lowest id", {1, 3, 3, 3, 0}, {GREEDY}, .seen = 1 << 1},
	{"greedy: all negative", {-9, -3, -4, -5, -6}, {GREEDY}, .seen = 1 << 1},
	{"greedy: the highest that is allowed", {1, 3, 2, 0, -1}, {GREEDY}, .allowed = 0x19,
	 .seen = 1 << 0},
	{"greedy ignores top-k, top-p and min-p", {1, 3, 2, 0, -1},
	 {SETTINGS(0, 0.1f, 1), .top_k = 1, .min_p = 1}, .seen = 1 << 1},
	{"mask: the allowed alone", DOWNHILL, {PLAIN}, .allowed = 0x0a, .seen = 0x0a},
	{"mask before top-k", DOWNHILL, {PLAIN, .top_k = 2}, .allowed = 0x1c, .seen = 0x0c},
	{"mask: one is no choice", {9, 9, 9, -50, 9}, {PLAIN}, .allowed = 0x08, .seen = 0x08},
	{"repeat: positive logits are divided", {4, 3, 2, 1, 0}, {SETTINGS(0, 1, 2)},
	 .history_count = 1, .history = {0}, .seen = 1 << 1},
	{"repeat: negative ones are multiplied", {-4, -3, -5, -7, -8}, {SETTINGS(0, 1, 2)},
	 .history_count = 1, .history = {1}, .seen = 1 << 0},
	{"repeat: once, however often it was said", {4, 1.9f, 1, 0, 0}, {SETTINGS(0, 1, 2)},
	 .history_count = 3, .history = {0, 0, 0}, .seen = 1 << 0},
	{"repeat: below 1 invites", {2, 3, 0, 0, 0}, {SETTINGS(0, 1, 0.5f)}, .history_count = 1,
	 .history = {0}, .seen = 1 << 0},
	{"presence: generated tokens only", {4, 3, 2, 1, 0}, {GREEDY, .presence_penalty = 1.5f},
	 .history_count = 2, .generated = 1, .history = {0, 2}, .seen = 1 << 0},
	{"presence: once", {4, 3, 2, 1, 0}, {GREEDY, .presence_penalty = 0.9f},
	 .history_count = 3, .generated = 3, .history = {0, 0, 0}, .seen = 1 << 0},
	{"presence: subtracts", {4, 3, 2, 1, 0}, {GREEDY, .presence_penalty = 1.1f},
	 .history_count = 1, .generated = 1, .history = {0}, .seen = 1 << 1},
	{"frequency: for every occurrence", {4, 3, 2, 1, 0}, {GREEDY, .frequency_penalty = 0.4f},
	 .history_count = 3, .generated = 3, .history = {0, 0, 0}, .seen = 1 << 1},
	{"frequency: not the prompt's", {4, 3, 2, 1, 0}, {GREEDY, .frequency_penalty = 0.4f},
	 .history_count = 3, .generated = 2, .history = {0, 0, 0}, .seen = 1 << 0},
	{"bias: -100 bans", DOWNHILL, {PLAIN, .bias = ban_first, .bias_count = 1}, .seen = 0x1e},
	{"bias: lifts; tokens that do not exist are left out", {1, 1, 1, 1, 0},
	 {GREEDY, .bias = lift_last, .bias_count = 3}, .seen = 1 << 4},
	{"bias: twice is the sum", {1, 1, 1, 1, 0},
	 {GREEDY, .bias = lift_last_twice, .bias_count = 2}, .seen = 1 << 4},
	{"bias after penalties", {4, 3, 0, 0, 3.5f},
	 {SETTINGS(0, 1, 2), .bias = lift_last, .bias_count = 1}, .history_count = 1,
	 .history = {4}, .seen = 1 << 0},
	{"bias before top-k", DOWNHILL, {PLAIN, .top_k = 1, .bias = ban_first, .bias_count = 1},
	 .seen = 1 << 1},
	{"top-k: the k highest", DOWNHILL, {PLAIN, .top_k = 3}, .seen = 0x07},
	{"top-k: of equals the lower ids", {1, 0, 1, 1, 1}, {PLAIN, .top_k = 3}, .seen = 0x0d},
	{"top-k: more than there are", DOWNHILL, {PLAIN, .top_k = 99}, .seen = 0x1f},
	{"top-p: reached by the first", DOWNHILL, {SETTINGS(1, 0.39f, 1)}, .seen = 0x01},
	{"top-p: the one that reaches it is in", DOWNHILL, {SETTINGS(1, 0.41f, 1)}, .seen = 0x03},
	{"top-p: all but the last", DOWNHILL, {SETTINGS(1, 0.94f, 1)}, .seen = 0x0f},
	{"top-p: never nobody", DOWNHILL, {SETTINGS(1, 0x1p-126f, 1)}, .seen = 0x01},
	{"top-p: of equals the lower ids", {1, 1, 1, 1, 1}, {SETTINGS(1, 0.5f, 1)}, .seen = 0x07},
	{"top-p of what top-k left", DOWNHILL, {SETTINGS(1, 0.5f, 1), .top_k = 2}, .seen = 0x01},
	{"top-p after temperature", DOWNHILL, {SETTINGS(0.25f, 0.7f, 1)}, .seen = 0x01},
	{"min-p: a share of the highest", DOWNHILL, {PLAIN, .min_p = 0.3f}, .seen = 0x07},
	{"min-p: 1 leaves the highest and its equals", {2, 2, 1, 2, 0}, {PLAIN, .min_p = 1},
	 .seen = 0x0b},
	{"min-p after temperature", DOWNHILL, {SETTINGS(2, 1, 1), .min_p = 0.45f}, .seen = 0x0f},
	{"a low temperature is nearly greedy", {1, 3, 2, 0, -1}, {SETTINGS(0.01f, 1, 1)},
	 .seen = 1 << 1},
};
/* clang-format on */

static void each_stage_does_what_its_row_says(void **state)
{
	struct ol_sampler *sampler = open_sampler(ROW_VOCAB);
	int wrong = 0;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		unsigned seen = 0;
		assert_int_equal(ol_sampling_check(&r->sampling, NULL), OL_OK);
		for (uint32_t position = 0; position < DRAWS; position++)
			seen |= 1u << ol_sampler_choose(sampler, r->logits, &r->sampling, position,
							r->history, r->history_count, r->generated,
							r->allowed ? &r->allowed : NULL);
		if (seen != r->seen) {
			print_error("%s: ids 0x%02x came up, not 0x%02x\n", r->name, seen, r->seen);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
	ol_sampler_close(sampler);
}

static void parameters_out_of_range_are_named(void **state)
{
	static const struct ol_logit_bias broken[] = {{3, NAN}};
	static const struct {
		const char *word;
		struct ol_sampling sampling;
	} bad[] = {
		{"temperature", {SETTINGS(-0.1f, 1, 1)}},
		{"temperature", {SETTINGS(NAN, 1, 1)}},
		{"temperature", {SETTINGS(INFINITY, 1, 1)}},
		{"temperature", {SETTINGS(1e-40f, 1, 1)}},
		{"top-k", {PLAIN, .top_k = -1}},
		{"top-p", {SETTINGS(1, 0.0f, 1)}},
		{"top-p", {SETTINGS(1, 1.01f, 1)}},
		{"top-p", {SETTINGS(1, NAN, 1)}},
		{"min-p", {PLAIN, .min_p = -0.1f}},
		{"min-p", {PLAIN, .min_p = 1.1f}},
		{"repeat penalty", {SETTINGS(1, 1, 0.0f)}},
		{"repeat penalty", {SETTINGS(1, 1, -1.0f)}},
		{"presence penalty", {PLAIN, .presence_penalty = NAN}},
		{"frequency penalty", {PLAIN, .frequency_penalty = INFINITY}},
		{"token 3", {PLAIN, .bias = broken, .bias_count = 1}},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		struct ol_error err = {0};
		assert_int_equal(ol_sampling_check(&bad[i].sampling, &err), OL_ERR_INPUT);
		if (!strstr(err.text, bad[i].word))
			fail_msg("row %zu should name %s: %s", i, bad[i].word, err.text);
	}
}

/* ---- A second implementation ------------------------------------------------------------ */

struct plain_candidate {
	float logit;
	int32_t id;
};

struct question {
	int vocab, history_count, generated;
	float logits[VOCAB_MAX];
	int32_t history[HISTORY_MAX];
	uint64_t allowed[(VOCAB_MAX + 63) / 64];
	struct ol_logit_bias bias[3];
	struct ol_sampling sampling;
	uint32_t position;
};

static int by_rank(const void *a, const void *b)
{
	const struct plain_candidate *x = a, *y = b;
	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b)
{
	const struct plain_candidate *x = a, *y = b;
	return (x->id > y->id) - (x->id < y->id);
}

static int occurrences(const int32_t *tokens, int count, int32_t id)
{
	int n = 0;
	for (int i = 0; i < count; i++)
		n += tokens[i] == id;
	return n;
}

static float adjusted(const struct question *q, int32_t id)
{
	const struct ol_sampling *s = &q->sampling;
	const int said =
		occurrences(q->history + q->history_count - q->generated, q->generated, id);
	float x = q->logits[id];
	if (occurrences(q->history, q->history_count, id) > 0)
		x = x > 0.0f ? x / s->repeat_penalty : x * s->repeat_penalty;
	if (said > 0) {
		x -= (float)said * s->frequency_penalty;
		x -= s->presence_penalty;
	}
	for (int i = 0; i < s->bias_count; i++)
		if (s->bias[i].token == id)
			x += s->bias[i].bias;
	return x;
}

static float sum_of_exponentials(const struct plain_candidate *c, int count, float most)
{
	float lane[16] = {0};
	for (int i = 0; i < count; i++)
		lane[i % 16] += ol_expf(c[i].logit - most);
	for (int half = 8; half >= 1; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

static double plain_gumbel(const struct question *q, int32_t id)
{
	const uint32_t key[2] = {(uint32_t)q->sampling.seed, (uint32_t)(q->sampling.seed >> 32)};
	const uint32_t counter[4] = {0, q->sampling.choice, q->position, (uint32_t)id};
	uint32_t words[4];
	ol_philox(words, counter, key);
	return -log(-log(((double)(words[0] >> 8) + 0.5) / 16777216.0));
}

static int32_t plain_choice(const struct question *q)
{
	const struct ol_sampling *s = &q->sampling;
	struct plain_candidate c[VOCAB_MAX];
	int count = 0, kept;
	for (int32_t id = 0; id < q->vocab; id++)
		if (q->allowed[id / 64] >> (id % 64) & 1)
			c[count++] = (struct plain_candidate){adjusted(q, id), id};
	if (s->temperature > 0.0f)
		for (int i = 0; i < count; i++)
			c[i].logit /= s->temperature;
	qsort(c, (size_t)count, sizeof *c, by_rank);
	if (s->temperature == 0.0f)
		return c[0].id;
	const float most = c[0].logit;
	if (s->top_k > 0 && s->top_k < count)
		count = s->top_k;
	if (s->top_p < 1.0f) {
		qsort(c, (size_t)count, sizeof *c, by_id);
		const float wanted = s->top_p * sum_of_exponentials(c, count, most);
		qsort(c, (size_t)count, sizeof *c, by_rank);
		float sum = 0.0f;
		for (kept = 0; kept < count && (kept == 0 || sum < wanted); kept++)
			sum += ol_expf(c[kept].logit - most);
		count = kept;
	}
	for (kept = 0; kept < count && ol_expf(c[kept].logit - most) >= s->min_p;)
		kept++;
	count = kept;
	qsort(c, (size_t)count, sizeof *c, by_id);
	int best = 0;
	for (int i = 1; i < count; i++)
		if ((double)c[i].logit + plain_gumbel(q, c[i].id) >
		    (double)c[best].logit + plain_gumbel(q, c[best].id))
			best = i;
	return c[best].id;
}

/* Every parameter is off half of the time; logits lie on a coarse grid, so that many are equal. */
static void random_question(struct question *q, uint64_t *dice, int vocab)
{
	const uint32_t flags = roll(dice);
	*q = (struct question){.vocab = vocab, .position = roll(dice) % 5000, .sampling = {PLAIN}};
	struct ol_sampling *s = &q->sampling;
	for (int i = 0; i < vocab; i++) {
		q->logits[i] = uniform(dice, -6.0f, 6.0f);
		if (flags & 1)
			q->logits[i] = rintf(q->logits[i] * 2.0f) / 2.0f;
		if (!(flags & 2) || roll(dice) % 3 == 0 || i == vocab / 2)
			q->allowed[i / 64] |= UINT64_C(1) << (i % 64);
	}
	q->history_count = (int)(roll(dice) % HISTORY_MAX);
	q->generated = (int)(roll(dice) % (uint32_t)(q->history_count + 1));
	for (int i = 0; i < q->history_count; i++)
		q->history[i] = (int32_t)(roll(dice) % (uint32_t)OL_MIN(vocab, 50));
	for (int i = 0; i < 3; i++)
		q->bias[i] = (struct ol_logit_bias){(int32_t)(roll(dice) % (uint32_t)vocab),
						    uniform(dice, -4.0f, 4.0f)};
	s->seed = (uint64_t)roll(dice) << 32 | roll(dice);
	s->choice = flags & 4 ? roll(dice) % 8 : 0;
	s->temperature = flags & 8 ? uniform(dice, 0.1f, 3.0f) : flags & 16 ? 0.0f : 1.0f;
	s->top_k = flags & 32 ? (int)(roll(dice) % 40) : 0;
	s->top_p = flags & 64 ? uniform(dice, 0.01f, 1.0f) : 1.0f;
	s->min_p = flags & 128 ? uniform(dice, 0.0f, 0.5f) : 0.0f;
	s->repeat_penalty = flags & 256 ? uniform(dice, 0.7f, 2.0f) : 1.0f;
	s->presence_penalty = flags & 512 ? uniform(dice, -2.0f, 2.0f) : 0.0f;
	s->frequency_penalty = flags & 1024 ? uniform(dice, -1.0f, 1.0f) : 0.0f;
	s->bias = q->bias;
	s->bias_count = flags & 2048 ? 3 : 0;
}

static int32_t choose(struct ol_sampler *sampler, const struct question *q)
{
	return ol_sampler_choose(sampler, q->logits, &q->sampling, q->position, q->history,
				 q->history_count, q->generated, q->allowed);
}

static void choices_equal_a_plain_second_implementation(void **state)
{
	const int vocabs[] = {1, 2, 15, 63, 64, 65, 299};
	uint64_t dice = 2024;
	(void)state;
	for (size_t v = 0; v < OL_ARRAY_LEN(vocabs); v++) {
		struct ol_sampler *sampler = open_sampler(vocabs[v]);
		for (int i = 0; i < 3000; i++) {
			struct question q, before;
			random_question(&q, &dice, vocabs[v]);
			memcpy(&before, &q, sizeof q);
			const int32_t ours = choose(sampler, &q), plain = plain_choice(&q);
			if (ours != plain)
				fail_msg("vocabulary %d, question %d: %d, plainly %d", vocabs[v], i,
					 ours, plain);
			assert_memory_equal(before.logits, q.logits, sizeof q.logits);
		}
		ol_sampler_close(sampler);
	}
}

/* ---- What a choice depends on ------------------------------------------------------------ */

/* Gumbel-max: taking away somebody who would not have won anyway changes nothing. */
static void a_loser_may_leave(void **state)
{
	struct ol_sampler *sampler = open_sampler(90);
	uint64_t dice = 5;
	(void)state;
	for (int i = 0; i < 300; i++) {
		struct question q;
		random_question(&q, &dice, 90);
		q.sampling.top_k = 0;
		q.sampling.top_p = 1.0f;
		q.sampling.min_p = 0.0f;
		const int32_t winner = choose(sampler, &q);
		for (int32_t id = 0; id < 90; id++) {
			struct question without = q;
			without.sampling.bias = without.bias;
			if (id == winner)
				continue;
			without.allowed[id / 64] &= ~(UINT64_C(1) << (id % 64));
			assert_int_equal(choose(sampler, &without), winner);
		}
	}
	ol_sampler_close(sampler);
}

/* The same question gets the same answer on every instruction set, whatever was asked before. */
static void a_choice_depends_on_its_question_alone(void **state)
{
	struct ol_sampler *samplers[OL_ISAS] = {0};
	uint64_t dice = 6;
	(void)state;
	for (int isa = 0; isa < OL_ISAS; isa++)
		if (ol_kernels_for((enum ol_isa)isa))
			assert_int_equal(ol_sampler_open(&samplers[isa],
							 ol_kernels_for((enum ol_isa)isa), 200),
					 OL_OK);
	for (int i = 0; i < 2000; i++) {
		struct question q, other;
		random_question(&q, &dice, 200);
		const int32_t first = choose(samplers[OL_ISA_SCALAR], &q);
		random_question(&other, &dice, 200);
		for (int isa = 0; isa < OL_ISAS; isa++) {
			if (!samplers[isa])
				continue;
			choose(samplers[isa], &other);
			assert_int_equal(choose(samplers[isa], &q), first);
		}
	}
	for (int isa = 0; isa < OL_ISAS; isa++)
		ol_sampler_close(samplers[isa]);
}

/* ---- Frequencies ------------------------------------------------------------ */

enum { FACES = 8, THROWS = 10000 };

static const float faces[FACES] = {0.5f, -1.0f, 1.25f, 0.0f, -0.5f, 2.0f, -2.0f, 0.75f};

/* Chi-square against the softmax of faces at a temperature over the ids in `kept`. */
static double chi_square(const struct ol_sampling *s, unsigned kept, const int *counts)
{
	double weights[FACES], sum = 0.0, chi = 0.0;
	for (int i = 0; i < FACES; i++) {
		weights[i] = kept >> i & 1 ? exp((double)faces[i] / (double)s->temperature) : 0.0;
		sum += weights[i];
	}
	for (int i = 0; i < FACES; i++) {
		const double expected = THROWS * weights[i] / sum;
		if (expected > 0.0)
			chi += (counts[i] - expected) * (counts[i] - expected) / expected;
		else
			assert_int_equal(counts[i], 0);
	}
	return chi;
}

static void frequencies_follow_the_probabilities(void **state)
{
	/* limit: what chi-square with that many degrees of freedom exceeds once in a thousand. */
	static const struct {
		struct ol_sampling sampling;
		unsigned kept;
		double limit;
	} dials[] = {
		{{PLAIN, .seed = 1}, 0xff, 24.32},
		{{PLAIN, .seed = UINT64_C(0xffffffff00000000)}, 0xff, 24.32},
		{{PLAIN, .seed = 1, .choice = 3}, 0xff, 24.32},
		{{SETTINGS(0.5f, 1, 1), .seed = 2}, 0xff, 24.32},
		{{SETTINGS(3.0f, 1, 1), .seed = 3}, 0xff, 24.32},
		{{PLAIN, .top_k = 3, .seed = 4}, 0xa4, 13.82},
		{{SETTINGS(1, 0.6f, 1), .seed = 5}, 0x24, 10.83},
		{{PLAIN, .min_p = 0.2f, .seed = 6}, 0xa5, 16.27},
	};
	struct ol_sampler *sampler = open_sampler(FACES);
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(dials); i++) {
		int counts[FACES] = {0};
		for (uint32_t position = 0; position < THROWS; position++)
			counts[ol_sampler_choose(sampler, faces, &dials[i].sampling, position, NULL,
						 0, 0, NULL)]++;
		const double chi = chi_square(&dials[i].sampling, dials[i].kept, counts);
		if (!(chi < dials[i].limit))
			fail_msg("row %zu: chi-square %.1f, at most %.2f", i, chi, dials[i].limit);
	}
	ol_sampler_close(sampler);
}

/* Neighbouring positions, answers and seeds are strangers: pairs of choices fill an 8 by 8 table
 * as the product of their probabilities. */
static void neighbours_are_independent(void **state)
{
	struct ol_sampler *sampler = open_sampler(FACES);
	double p[FACES], sum = 0.0;
	(void)state;
	for (int i = 0; i < FACES; i++)
		sum += exp((double)faces[i]);
	for (int i = 0; i < FACES; i++)
		p[i] = exp((double)faces[i]) / sum;
	for (int neighbour = 0; neighbour < 3; neighbour++) {
		static int counts[FACES][FACES];
		double chi = 0.0;
		memset(counts, 0, sizeof counts);
		for (uint32_t at = 0; at < THROWS; at++) {
			const struct ol_sampling one = {PLAIN, .seed = 9};
			const struct ol_sampling two = {PLAIN, .seed = neighbour == 2 ? 10 : 9,
							.choice = neighbour == 1};
			const uint32_t next = neighbour == 0 ? at + 1 : at;
			const int32_t a =
				ol_sampler_choose(sampler, faces, &one, at, NULL, 0, 0, NULL);
			counts[a]
			      [ol_sampler_choose(sampler, faces, &two, next, NULL, 0, 0, NULL)]++;
		}
		for (int a = 0; a < FACES; a++)
			for (int b = 0; b < FACES; b++) {
				const double expected = THROWS * p[a] * p[b];
				chi += (counts[a][b] - expected) * (counts[a][b] - expected) /
				       expected;
			}
		/* 63 degrees of freedom, once in a thousand. */
		if (!(chi < 103.5))
			fail_msg("neighbour %d: chi-square %.1f", neighbour, chi);
	}
	ol_sampler_close(sampler);
}

/* ---- Log probabilities and the highest tokens --------------------------------------------- */

static void log_probabilities_are_right_and_the_same_everywhere(void **state)
{
	uint64_t dice = 8;
	float logits[VOCAB_MAX];
	(void)state;
	for (int vocab = 1; vocab <= VOCAB_MAX; vocab += 13) {
		double sum = 0.0;
		for (int i = 0; i < vocab; i++) {
			logits[i] = uniform(&dice, -20.0f, 20.0f);
			sum += exp((double)logits[i]);
		}
		for (int32_t token = 0; token < vocab; token++) {
			const float ours = ol_token_logprob(ol_kernels_for(OL_ISA_SCALAR), logits,
							    vocab, token);
			const double exact = (double)logits[token] - log(sum);
			assert_true(fabs((double)ours - exact) <= 4e-6 * fmax(1.0, fabs(exact)));
			for (int isa = 0; isa < OL_ISAS; isa++) {
				const struct ol_kernels *k = ol_kernels_for((enum ol_isa)isa);
				const float there =
					k ? ol_token_logprob(k, logits, vocab, token) : ours;
				assert_memory_equal(&there, &ours, sizeof ours);
			}
		}
	}
}

static void the_highest_tokens_come_in_rank(void **state)
{
	uint64_t dice = 9;
	(void)state;
	for (int i = 0; i < 500; i++) {
		float logits[60];
		struct plain_candidate sorted[60];
		int32_t ids[60];
		for (int32_t id = 0; id < 60; id++) {
			logits[id] = rintf(uniform(&dice, -9.0f, 9.0f));
			sorted[id] = (struct plain_candidate){logits[id], id};
		}
		qsort(sorted, 60, sizeof *sorted, by_rank);
		const int count = 1 + (int)(roll(&dice) % 60);
		ol_top_tokens(ids, count, logits, 60);
		for (int place = 0; place < count; place++)
			assert_int_equal(ids[place], sorted[place].id);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_stage_does_what_its_row_says),
		cmocka_unit_test(parameters_out_of_range_are_named),
		cmocka_unit_test(choices_equal_a_plain_second_implementation),
		cmocka_unit_test(a_loser_may_leave),
		cmocka_unit_test(a_choice_depends_on_its_question_alone),
		cmocka_unit_test(frequencies_follow_the_probabilities),
		cmocka_unit_test(neighbours_are_independent),
		cmocka_unit_test(log_probabilities_are_right_and_the_same_everywhere),
		cmocka_unit_test(the_highest_tokens_come_in_rank),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
