/* What counting words gives: an interpolated Kneser-Ney model (Kneser, Ney 1995; Chen, Goodman
 * 1999) over the tokens of a tokenizer, as a baseline for a trained model.
 *
 * usage: bench_ngram TOKENIZER ORDER HELDOUT.txt TRAIN.jsonl...
 *
 * TRAIN: lines with "text". HELDOUT is cut into windows as `openledger score` does it: each begins
 * anew. One JSON line: nats per token and bits per byte.
 *
 * A table holds every n-gram of every order under a 64-bit key: how often it follows, and as a
 * context: how many follow it, and how many different. Of the highest order all occurrences count,
 * of lower orders the different left neighbours, which an n-gram adds the first time it is seen. */
#include "base/clock.h"
#include "base/file.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ORDER_MAX = 6, WINDOW = 512 };

struct gram {
	uint64_t key; /* 0: free */
	uint32_t count, followers, different;
};

static struct gram *grams;
static size_t mask, used;
static int order;

/* Keys of two n-grams are equal by chance only: one in 2^64 for each pair. */
static uint64_t key_of(const int32_t *ids, int n)
{
	uint64_t h = (uint64_t)n * 0x9e3779b97f4a7c15u;
	for (int i = 0; i < n; i++) {
		h = (h ^ (uint64_t)(ids[i] + 1)) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return h | 1;
}

static struct gram *slot_of(uint64_t key)
{
	size_t at = (size_t)(key >> 8) & mask;
	while (grams[at].key && grams[at].key != key)
		at = (at + 1) & mask;
	return &grams[at];
}

static void grow(void)
{
	struct gram *old = grams;
	const size_t size = old ? mask + 1 : 0;
	mask = old ? 2 * mask + 1 : (1u << 20) - 1;
	grams = calloc(mask + 1, sizeof *grams);
	if (!grams) {
		fprintf(stderr, "bench_ngram: out of memory\n");
		exit(1);
	}
	for (size_t i = 0; i < size; i++)
		if (old[i].key)
			*slot_of(old[i].key) = old[i];
	free(old);
}

static struct gram *take(uint64_t key)
{
	struct gram *g = slot_of(key);
	if (g->key)
		return g;
	g->key = key;
	if (++used * 10 < mask * 7)
		return g;
	grow();
	return slot_of(key);
}

/* One more of the n-gram that ends at `end`. */
static void see(const int32_t *end, int n)
{
	const bool first = take(key_of(end - n + 1, n))->count++ == 0;
	struct gram *context = take(n > 1 ? key_of(end - n + 1, n - 1) ^ 2 : 2);
	context->followers++;
	context->different += first;
	if (first && n > 1)
		see(end, n - 1);
}

/* What is taken from every count goes to the lower order. */
static double probability(const int32_t *end, int n, int vocabulary, double discount)
{
	double p = 1.0 / vocabulary;
	for (int k = 1; k <= n; k++) {
		const struct gram *context = slot_of(k > 1 ? key_of(end - k + 1, k - 1) ^ 2 : 2);
		if (!context->key)
			break;
		const double count = slot_of(key_of(end - k + 1, k))->count;
		p = (fmax(count - discount, 0) + discount * context->different * p) /
		    context->followers;
	}
	return p;
}

static bool append(const struct ol_tokenizer *tokenizer, struct ol_tokens *tokens, const char *text,
		   size_t size)
{
	struct ol_error err;
	if (ol_tokenizer_encode(tokenizer, tokens, text, size, OL_SPECIAL_NONE, true, NULL, 0,
				&err) == OL_OK)
		return true;
	fprintf(stderr, "bench_ngram: %s\n", err.text);
	return false;
}

static bool read_training(const struct ol_tokenizer *tokenizer, struct ol_tokens *tokens,
			  const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t room = 0;
	bool ok = file != NULL;
	for (ssize_t size; ok && (size = getline(&line, &room, file)) > 0;) {
		json_t *row = json_loadb(line, (size_t)size, 0, NULL);
		const json_t *text = json_object_get(row, "text");
		ok = text &&
		     append(tokenizer, tokens, json_string_value(text), json_string_length(text));
		json_decref(row);
	}
	free(line);
	if (file)
		fclose(file);
	if (!ok)
		fprintf(stderr, "bench_ngram: %s: not lines of JSON with \"text\"\n", path);
	return ok;
}

static void count_all(const struct ol_tokens *tokens)
{
	grow();
	for (size_t i = 0; i < tokens->count; i++)
		see(tokens->ids + i, i + 1 < (size_t)order ? (int)i + 1 : order);
}

static double nats_of(const struct ol_tokens *tokens, int vocabulary, double discount)
{
	double nats = 0;
	for (size_t begin = 1; begin < tokens->count; begin += WINDOW - 1)
		for (size_t i = begin; i < OL_MIN(begin + WINDOW - 1, tokens->count); i++) {
			const int n = (int)OL_MIN(i - begin + 1, (size_t)order);
			nats -= log(probability(tokens->ids + i, n, vocabulary, discount));
		}
	return nats;
}

/* With the discount that suits the held-out text best: a baseline is not to be made weak. */
static void score(const struct ol_tokenizer *tokenizer, const struct ol_map *text, size_t trained)
{
	struct ol_tokens tokens = {0};
	double best = INFINITY, best_discount = 0;
	if (!append(tokenizer, &tokens, (const char *)text->data, text->size))
		exit(1);
	for (int tenths = 5; tenths <= 9; tenths++) {
		const double nats =
			nats_of(&tokens, ol_tokenizer_vocab_size(tokenizer), 0.1 * tenths);
		if (nats < best) {
			best = nats;
			best_discount = 0.1 * tenths;
		}
	}
	printf("{\"order\": %d, \"discount\": %.1f, \"trained_tokens\": %zu, \"grams\": %zu, "
	       "\"tokens\": %zu, \"nats_per_token\": %.4f, \"bits_per_byte\": %.4f}\n",
	       order, best_discount, trained, used, tokens.count - 1,
	       best / (double)(tokens.count - 1), best / log(2.0) / (double)text->size);
	ol_tokens_release(&tokens);
}

int main(int argc, char **argv)
{
	struct ol_tokenizer *tokenizer;
	struct ol_tokens tokens = {0};
	struct ol_map file, heldout;
	struct ol_error err;
	if (argc < 5 || (order = (int)strtol(argv[2], NULL, 10)) < 1 || order > ORDER_MAX) {
		fprintf(stderr, "usage: bench_ngram TOKENIZER ORDER HELDOUT.txt TRAIN.jsonl...\n");
		return 1;
	}
	if (ol_map_open(&file, argv[1], &err) != OL_OK ||
	    ol_tokenizer_open(&tokenizer, (const char *)file.data, file.size, argv[1], &err) !=
		    OL_OK ||
	    ol_map_open(&heldout, argv[3], &err) != OL_OK) {
		fprintf(stderr, "bench_ngram: %s\n", err.text);
		return 1;
	}
	for (int i = 4; i < argc; i++)
		if (!read_training(tokenizer, &tokens, argv[i]))
			return 1;
	count_all(&tokens);
	score(tokenizer, &heldout, tokens.count);
	ol_tokens_release(&tokens);
	ol_tokenizer_close(tokenizer);
	ol_map_close(&heldout);
	ol_map_close(&file);
	free(grams);
	return 0;
}
