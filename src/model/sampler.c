/* Choosing the next token: each stage below is a paragraph of docs/ARITHMETIC.md, "Sampling". */
#include "model/sampler.h"

#include "base/arena.h"
#include "math/functions.h"

#include <stdlib.h>
#include <string.h>

/* The first word of a Philox counter says what the number is for. Append-only. */
enum { PURPOSE_SAMPLE = 0 };

/* -log(-log(u)) lies in (-2.86, 17.33) for every u that 24 bits can give: a candidate that
 * trails by more than the difference cannot win, so its draw need not be looked at. */
#define GUMBEL_MAX 17.34

struct candidate {
	float logit;
	int32_t id;
};

struct ol_sampler {
	const struct ol_kernels *kernels;
	int vocab_size;
	float *logits;                /* (vocab) after penalties and bias           */
	float *weights;               /* (vocab) exp(logit - max) of the candidates */
	struct candidate *candidates; /* (vocab)                                    */
	uint32_t *seen;               /* (vocab) occurrences, all zero between calls  */
	struct ol_arena arena;
};

static bool in_range(float x, float low, float high)
{
	return x >= low && x <= high; /* false for NaN */
}

enum ol_status ol_sampling_check(const struct ol_sampling *s, struct ol_error *err)
{
	/* Logits divided by less than this might overflow. */
	if (s->temperature != 0.0f && !in_range(s->temperature, 0x1p-64f, 100.0f))
		return ol_fail(err, OL_ERR_INPUT,
			       "temperature must be between 0 and 100; for greedy say 0");
	if (s->top_k < 0)
		return ol_fail(err, OL_ERR_INPUT, "top-k must be 0 (off) or more, not %d",
			       s->top_k);
	if (!in_range(s->top_p, 0x1p-126f, 1.0f))
		return ol_fail(err, OL_ERR_INPUT, "top-p must be above 0 and at most 1");
	if (!in_range(s->min_p, 0.0f, 1.0f))
		return ol_fail(err, OL_ERR_INPUT, "min-p must be between 0 and 1");
	if (!in_range(s->repeat_penalty, 0x1p-10f, 1024.0f))
		return ol_fail(err, OL_ERR_INPUT,
			       "repeat penalty must be above 0 and at most 1024");
	if (!in_range(s->presence_penalty, -1024.0f, 1024.0f))
		return ol_fail(err, OL_ERR_INPUT,
			       "presence penalty must be between -1024 and 1024");
	if (!in_range(s->frequency_penalty, -1024.0f, 1024.0f))
		return ol_fail(err, OL_ERR_INPUT,
			       "frequency penalty must be between -1024 and 1024");
	for (int i = 0; i < s->bias_count; i++)
		if (!in_range(s->bias[i].bias, -1024.0f, 1024.0f))
			return ol_fail(err, OL_ERR_INPUT,
				       "logit bias of token %d must be between -1024 and 1024",
				       s->bias[i].token);
	return OL_OK;
}

enum ol_status ol_sampler_open(struct ol_sampler **sampler_out, const struct ol_kernels *kernels,
			       int vocab_size)
{
	const size_t n = (size_t)vocab_size;
	struct ol_sampler *s = calloc(1, sizeof *s);
	if (!s)
		return OL_ERR_FULL;
	s->kernels = kernels;
	s->vocab_size = vocab_size;
	if (ol_arena_init(&s->arena, n * (8 + sizeof(struct candidate) + 4) + 1024) == OL_OK) {
		s->logits = ol_arena_alloc(&s->arena, n * sizeof *s->logits);
		s->weights = ol_arena_alloc(&s->arena, n * sizeof *s->weights);
		s->candidates = ol_arena_alloc(&s->arena, n * sizeof *s->candidates);
		s->seen = ol_arena_alloc(&s->arena, n * sizeof *s->seen);
	}
	if (!s->logits || !s->weights || !s->candidates || !s->seen) {
		ol_sampler_close(s);
		return OL_ERR_FULL;
	}
	*sampler_out = s;
	return OL_OK;
}

void ol_sampler_close(struct ol_sampler *sampler)
{
	if (!sampler)
		return;
	ol_arena_release(&sampler->arena);
	free(sampler);
}

/* Calls for each distinct token of history[0,count), once, with the number of its occurrences. */
static void for_each_distinct(struct ol_sampler *s, const int32_t *history, int count,
			      void (*apply)(float *logit, uint32_t occurrences,
					    const struct ol_sampling *p),
			      const struct ol_sampling *p)
{
	for (int i = 0; i < count; i++)
		s->seen[history[i]]++;
	for (int i = 0; i < count; i++) {
		uint32_t *seen = &s->seen[history[i]];
		if (*seen > 0)
			apply(&s->logits[history[i]], *seen, p);
		*seen = 0;
	}
}

static void repeat_penalty(float *logit, uint32_t occurrences, const struct ol_sampling *p)
{
	(void)occurrences;
	*logit = *logit > 0.0f ? *logit / p->repeat_penalty : *logit * p->repeat_penalty;
}

static void presence_and_frequency(float *logit, uint32_t occurrences, const struct ol_sampling *p)
{
	*logit = *logit - (float)occurrences * p->frequency_penalty;
	*logit = *logit - p->presence_penalty;
}

static void penalise(struct ol_sampler *s, const struct ol_sampling *p, const int32_t *history,
		     int history_count, int generated)
{
	if (p->repeat_penalty != 1.0f)
		for_each_distinct(s, history, history_count, repeat_penalty, p);
	if (p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f)
		for_each_distinct(s, history + history_count - generated, generated,
				  presence_and_frequency, p);
	for (int i = 0; i < p->bias_count; i++)
		if (p->bias[i].token >= 0 && p->bias[i].token < s->vocab_size)
			s->logits[p->bias[i].token] += p->bias[i].bias;
}

static bool is_allowed(const uint64_t *allowed, int id)
{
	return !allowed || (allowed[id / 64] >> (id % 64) & 1);
}

static int32_t greedy(const struct ol_sampler *s, const uint64_t *allowed)
{
	int32_t best = -1;
	for (int32_t id = 0; id < s->vocab_size; id++)
		if (is_allowed(allowed, id) && (best < 0 || s->logits[id] > s->logits[best]))
			best = id;
	return best;
}

/* The order of candidates: logit descending, id ascending. */
static bool ranks_before(struct candidate a, struct candidate b)
{
	return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct candidate *heap, int count, int root)
{
	for (;;) {
		int child = 2 * root + 1;
		if (child >= count)
			return;
		if (child + 1 < count && ranks_before(heap[child + 1], heap[child]))
			child++;
		if (!ranks_before(heap[child], heap[root]))
			return;
		const struct candidate swap = heap[root];
		heap[root] = heap[child];
		heap[child] = swap;
		root = child;
	}
}

static void heapify(struct candidate *heap, int count)
{
	for (int root = count / 2 - 1; root >= 0; root--)
		sift_down(heap, count, root);
}

/* Takes the first in rank off the heap and leaves it just behind the shrunken heap. */
static struct candidate heap_pop(struct candidate *heap, int *count)
{
	const struct candidate top = heap[0];
	heap[0] = heap[--*count];
	heap[*count] = top;
	sift_down(heap, *count, 0);
	return top;
}

static int compare_ids(const void *a, const void *b)
{
	const int32_t x = ((const struct candidate *)a)->id, y = ((const struct candidate *)b)->id;
	return (x > y) - (x < y);
}

/* After heap pops, the survivors lie at the end of the array: brings them to its start, by id. */
static int keep_popped(struct candidate *candidates, int heap_count, int count)
{
	memmove(candidates, candidates + heap_count,
		(size_t)(count - heap_count) * sizeof *candidates);
	qsort(candidates, (size_t)(count - heap_count), sizeof *candidates, compare_ids);
	return count - heap_count;
}

static int keep_top_k(struct ol_sampler *s, int count, int k)
{
	int left = count;
	if (k == 0 || k >= count)
		return count;
	heapify(s->candidates, count);
	for (int i = 0; i < k; i++)
		heap_pop(s->candidates, &left);
	return keep_popped(s->candidates, left, count);
}

/* The sum is a row reduction over the candidates by ascending id; then, by rank, a running sum
 * takes candidates until it reaches top_p of the whole. */
static int keep_top_p(struct ol_sampler *s, int count, float top_p, float max)
{
	if (top_p >= 1.0f)
		return count;
	for (int i = 0; i < count; i++)
		s->weights[i] = s->candidates[i].logit;
	const float wanted = top_p * s->kernels->row_sum_exp(s->weights, max, count);
	float sum = 0.0f;
	int left = count;
	heapify(s->candidates, count);
	do
		sum += ol_expf(heap_pop(s->candidates, &left).logit - max);
	while (left > 0 && sum < wanted);
	return keep_popped(s->candidates, left, count);
}

static int keep_min_p(struct ol_sampler *s, int count, float min_p, float max)
{
	int kept = 0;
	if (min_p <= 0.0f)
		return count;
	for (int i = 0; i < count; i++)
		if (ol_expf(s->candidates[i].logit - max) >= min_p)
			s->candidates[kept++] = s->candidates[i];
	return kept;
}

static double gumbel(const struct ol_sampling *p, uint32_t position, int32_t id)
{
	const uint32_t key[2] = {(uint32_t)p->seed, (uint32_t)(p->seed >> 32)};
	const uint32_t counter[4] = {PURPOSE_SAMPLE, p->choice, position, (uint32_t)id};
	uint32_t words[4];
	ol_philox(words, counter, key);
	return -ol_log(-ol_log(ol_unit_double(words[0])));
}

static int32_t draw(const struct ol_sampler *s, int count, const struct ol_sampling *p,
		    uint32_t position)
{
	double best = 0.0;
	int32_t chosen = -1;
	for (int i = 0; i < count; i++) {
		const struct candidate c = s->candidates[i];
		if (chosen >= 0 && (double)c.logit + GUMBEL_MAX < best)
			continue;
		const double value = (double)c.logit + gumbel(p, position, c.id);
		if (chosen < 0 || value > best) {
			best = value;
			chosen = c.id;
		}
	}
	return chosen;
}

int32_t ol_sampler_choose(struct ol_sampler *sampler, const float *logits,
			  const struct ol_sampling *p, uint32_t position, const int32_t *history,
			  int history_count, int generated, const uint64_t *allowed)
{
	struct ol_sampler *s = sampler;
	memcpy(s->logits, logits, (size_t)s->vocab_size * sizeof *logits);
	penalise(s, p, history, history_count, generated);
	if (p->temperature == 0.0f)
		return greedy(s, allowed);

	int count = 0;
	float max = 0.0f;
	for (int32_t id = 0; id < s->vocab_size; id++) {
		if (!is_allowed(allowed, id))
			continue;
		const float logit = s->logits[id] / p->temperature;
		max = count == 0 || logit > max ? logit : max;
		s->candidates[count++] = (struct candidate){logit, id};
	}
	OL_ASSERT(count > 0);
	count = keep_top_k(s, count, p->top_k);
	count = keep_top_p(s, count, p->top_p, max);
	count = keep_min_p(s, count, p->min_p, max);
	return draw(s, count, p, position);
}

void ol_token_logprobs(float *out, const struct ol_kernels *kernels, const float *logits,
		       int vocab_size, const int32_t *tokens, int count)
{
	const float max = kernels->row_max(logits, vocab_size);
	const float log_sum = ol_logf(kernels->row_sum_exp(logits, max, vocab_size));
	for (int i = 0; i < count; i++)
		out[i] = (logits[tokens[i]] - max) - log_sum;
}

float ol_token_logprob(const struct ol_kernels *kernels, const float *logits, int vocab_size,
		       int32_t token)
{
	float logprob;
	ol_token_logprobs(&logprob, kernels, logits, vocab_size, &token, 1);
	return logprob;
}

void ol_top_tokens(int32_t *ids, int count, const float *logits, int vocab_size)
{
	int kept = 0;
	for (int32_t id = 0; id < vocab_size; id++) {
		if (kept == count && !(logits[id] > logits[ids[kept - 1]]))
			continue;
		int place = kept < count ? kept++ : kept - 1;
		while (place > 0 && logits[id] > logits[ids[place - 1]]) {
			ids[place] = ids[place - 1];
			place--;
		}
		ids[place] = id;
	}
}
