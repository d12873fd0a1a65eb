/* What structured output costs: compiling a schema, and a step (mask and accept) while an answer is
 * made, beside trying every token of the vocabulary.
 *
 * usage: bench_grammar TOKENIZER [SCHEMA VALUE]
 *
 * Without a schema, those below. The value's text is cut by the tokenizer and fed token by token:
 * first with an empty cache, then ROUNDS times with a full one. One core. */
#include "base/clock.h"
#include "base/file.h"
#include "model/grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 50, STEPS_MAX = 1 << 16, NAIVE_MAX = 8 };

struct form {
	const char *name, *schema, *text;
};

static const struct form forms[] = {
	{"json object", "{\"type\":\"object\"}",
	 "{\"name\": \"Ada Lovelace\", \"born\": 1815, \"tags\": [\"mathematics\", \"engines\"], "
	 "\"place\": {\"city\": \"London\", \"at\": [51.5074, -0.1278]}, \"about\": \"She wrote "
	 "what is often called the first program, for a machine that was never built.\"}"},
	{"person",
	 "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":80},"
	 "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},\"email\":{\"type\":"
	 "\"string\",\"format\":\"email\"},\"mood\":{\"enum\":[\"happy\",\"sad\",\"neutral\"]},"
	 "\"friends\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"maxItems\":8},"
	 "\"born\":{\"type\":\"string\",\"format\":\"date\"}},\"required\":[\"name\",\"age\","
	 "\"email\",\"mood\",\"friends\",\"born\"],\"additionalProperties\":false}",
	 "{\"name\": \"Grace Hopper\", \"age\": 85, \"email\": \"grace@navy.example.org\", "
	 "\"mood\": \"happy\", \"friends\": [\"Howard Aiken\", \"Jean Sammet\"], \"born\": "
	 "\"1906-12-09\"}"},
	{"tree",
	 "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{"
	 "\"value\":{\"type\":\"string\"},\"children\":{\"type\":\"array\",\"items\":{\"$ref\":"
	 "\"#/$defs/node\"}}},\"required\":[\"value\",\"children\"],\"additionalProperties\":"
	 "false}}}",
	 "{\"value\": \"the root of it all\", \"children\": [{\"value\": \"left\", \"children\": "
	 "[]}, {\"value\": \"right\", \"children\": [{\"value\": \"deep\", \"children\": []}]}]}"},
	{"alternatives",
	 "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"kind\":{"
	 "\"const\":\"move\"},\"x\":{\"type\":\"number\"},\"y\":{\"type\":\"number\"}},"
	 "\"required\":"
	 "[\"kind\",\"x\",\"y\"],\"additionalProperties\":false},{\"type\":\"object\","
	 "\"properties\":"
	 "{\"kind\":{\"const\":\"say\"},\"text\":{\"type\":\"string\"}},\"required\":[\"kind\","
	 "\"text\"],\"additionalProperties\":false}]}}",
	 "[{\"kind\": \"move\", \"x\": 12.5, \"y\": -3}, {\"kind\": \"say\", \"text\": \"Here I "
	 "am, and here I stay.\"}, {\"kind\": \"move\", \"x\": 0, \"y\": 1e3}]"},
};

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void print_times(const char *what, double *times, size_t count)
{
	qsort(times, count, sizeof *times, compare);
	printf("  %-7s p50 %8.1f  p99 %8.1f  most %8.1f us (%zu steps)\n", what,
	       1e6 * times[count / 2], 1e6 * times[count * 99 / 100], 1e6 * times[count - 1],
	       count);
}

/* Feeds the tokens once; each step's seconds go to times, if any. False: one was not allowed. */
static bool feed(const struct ol_grammar *g, const struct ol_tokens *tokens, uint64_t *mask,
		 double *times, size_t *count)
{
	struct ol_grammar_state *s;
	bool ok = ol_grammar_begin(&s, g, true, true) == OL_OK;
	for (size_t i = 0; i < tokens->count && ok; i++) {
		const int32_t id = tokens->ids[i];
		const double start = ol_clock_thread_seconds();
		ok = ol_grammar_mask(s, mask) && mask[id / 64] >> id % 64 & 1 &&
		     ol_grammar_accept(s, id);
		if (*count < STEPS_MAX)
			times[(*count)++] = ol_clock_thread_seconds() - start;
	}
	ok = ok && ol_grammar_is_complete(s);
	ol_grammar_state_close(s);
	return ok;
}

static bool naive(const struct ol_grammar *g, const struct ol_tokens *tokens, int vocab_size,
		  double *times, size_t *count)
{
	struct ol_grammar_state *s;
	int allowed = 0; /* some token always is */
	bool ok = ol_grammar_begin(&s, g, true, true) == OL_OK;
	*count = 0;
	for (size_t i = 0; i < tokens->count && ok && *count < NAIVE_MAX; i++) {
		if (i % (tokens->count / NAIVE_MAX + 1) == 0) {
			const double start = ol_clock_thread_seconds();
			for (int32_t id = 0; id < vocab_size; id++)
				allowed += ol_grammar_allows(s, id);
			times[(*count)++] = ol_clock_thread_seconds() - start;
		}
		ok = ol_grammar_accept(s, tokens->ids[i]);
	}
	ol_grammar_state_close(s);
	return ok && allowed > 0;
}

static bool measure(const struct ol_tokenizer *t, const struct form *form, struct ol_error *err)
{
	const int vocab_size = ol_tokenizer_vocab_size(t);
	uint64_t *mask = calloc((size_t)vocab_size / 64 + 1, sizeof *mask);
	double *times = calloc(STEPS_MAX, sizeof *times);
	struct ol_grammar_vocab *vocab = NULL;
	struct ol_grammar *g = NULL;
	struct ol_tokens tokens = {0};
	size_t count = 0;
	json_t *schema = json_loads(form->schema, JSON_DECODE_ANY, NULL);
	double start = ol_clock_thread_seconds();
	bool ok = mask && times && schema &&
		  ol_grammar_vocab_open(&vocab, t, vocab_size, NULL, 0, 0, err) == OL_OK;
	const double opening = ol_clock_thread_seconds() - start;
	start = ol_clock_thread_seconds();
	ok = ok && ol_grammar_open_schema(&g, vocab, schema, err) == OL_OK;
	const double compiling = ol_clock_thread_seconds() - start;
	ok = ok && ol_tokenizer_encode(t, &tokens, form->text, strlen(form->text), OL_SPECIAL_NONE,
				       false, NULL, 0, err) == OL_OK;
	if (ok) {
		printf("%s: vocabulary %.1f ms, compiling %.3f ms, %zu bytes in %zu tokens\n",
		       form->name, 1e3 * opening, 1e3 * compiling, strlen(form->text),
		       tokens.count);
		ok = feed(g, &tokens, mask, times, &count) ||
		     ol_fail(err, OL_ERR_INPUT, "%s: the value does not fit the schema",
			     form->name) == OL_OK;
	}
	if (ok) {
		struct ol_grammar_vocab_stats stats;
		print_times("cold", times, count);
		count = 0;
		for (int round = 0; round < ROUNDS && ok; round++)
			ok = feed(g, &tokens, mask, times, &count);
		print_times("warm", times, count);
		ok = naive(g, &tokens, vocab_size, times, &count);
		print_times("naive", times, count);
		ol_grammar_vocab_stats(vocab, &stats);
		printf("  %llu masks kept in %.1f MB, tries %.1f MB\n",
		       (unsigned long long)stats.misses, (double)stats.cache_bytes / 1e6,
		       (double)stats.trie_bytes / 1e6);
	}
	ol_tokens_release(&tokens);
	ol_grammar_close(g);
	ol_grammar_vocab_close(vocab);
	json_decref(schema);
	free(mask);
	free(times);
	return ok;
}

static struct ol_tokenizer *open_tokenizer(const char *path, struct ol_error *err)
{
	struct ol_tokenizer *t = NULL;
	struct ol_map map;
	if (ol_map_open(&map, path, err) != OL_OK)
		return NULL;
	if (ol_tokenizer_open(&t, (const char *)map.data, map.size, path, err) != OL_OK)
		t = NULL;
	ol_map_close(&map);
	return t;
}

int main(int argc, char **argv)
{
	struct ol_error err = {0};
	if (argc != 2 && argc != 4) {
		fprintf(stderr, "usage: bench_grammar TOKENIZER [SCHEMA VALUE]\n");
		return 1;
	}
	struct ol_tokenizer *t = open_tokenizer(argv[1], &err);
	bool ok = t != NULL;
	if (ok)
		printf("%s: %d tokens\n", argv[1], ol_tokenizer_vocab_size(t));
	if (ok && argc == 4) {
		const struct form form = {"given", argv[2], argv[3]};
		ok = measure(t, &form, &err);
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(forms) && argc == 2 && ok; i++)
		ok = measure(t, &forms[i], &err);
	ol_tokenizer_close(t);
	if (!ok)
		fprintf(stderr, "bench_grammar: %s\n", err.text);
	return ok ? 0 : 1;
}
