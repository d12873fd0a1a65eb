/* What tokenizers promise apart from being equal to the oracle (test_tokenizer_golden.c). */
#include "base/file.h"
#include "model/split.h"
#include "model/tokenizer.h"
#include "model/unicode.h"

#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const families[] = {"gpt2",      "gpt2-prefix", "smollm",   "llama3",
				       "qwen2",     "llama2",      "tiny",     "mistral",
				       "metaspace", "gemma",       "odd-bytes"};

static struct ol_tokenizer *open_family(const char *name)
{
	struct ol_tokenizer *t = NULL;
	struct ol_error err = {0};
	struct ol_map map;
	char path[PATH_MAX];
	snprintf(path, sizeof path, OL_SOURCE_DIR "/tests/golden/tokenizer/%s.json", name);
	assert_int_equal(ol_map_open(&map, path, &err), OL_OK);
	if (ol_tokenizer_open(&t, (const char *)map.data, map.size, path, &err) != OL_OK)
		fail_msg("%s", err.text);
	ol_map_close(&map);
	return t;
}

static uint32_t below(uint32_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % n;
}

/* Text of bits that matter to splitting, with the added tokens of all families among them. */
static const char *const bits[] = {
	"a",
	"B",
	"the",
	" the",
	"ledger",
	"it's",
	"'S",
	"'\xc5\xbf",
	"'ll",
	"'",
	" ",
	"  ",
	"\n",
	"\r\n",
	"\t",
	"\xc2\xa0",
	"\xe3\x80\x80",
	"\xe2\x80\xa8",
	"\xc2\x85",
	"1",
	"12",
	"1234",
	"\xd9\xa3",
	"\xc2\xbd",
	"\xe2\x85\xab",
	".",
	",;",
	"!?",
	"--",
	"\xe2\x80\x94",
	"\xc3\xa9",
	"e\xcc\x81",
	"\xe4\xb8\xad",
	"\xea\xb0\x80",
	"\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd",
	"\xe2\x96\x81",
	"\xd7\xa7\xd6\xb0",
	"\xc7\x85",
	"\xef\xbb\xbf",
	"\xe1\xa0\x8e",
	"_",
	"~",
	"*",
	"\x01",
	"\xe0\xa4\x95\xe0\xa5\x8d",
	"\xcc\x88",
};
static const char *const specials[] = {
	"<s>",           "</s>",         "<unk>",
	"<|endoftext|>", "<|im_start|>", "<|im_end|>",
	"<|eot_id|>",    "<|eom|>",      "<|begin_of_text|>",
	"<tool_call>",   "[INST]",       "[/INST]",
	"<end_of_turn>", "<h1>",         "<x>",
	"\n\n",
};

static void append_random(struct ol_buf *text, uint32_t *state, int count, bool with_specials)
{
	for (int i = 0; i < count; i++)
		ol_buf_append_text(text, with_specials && below(state, 3) == 0
						 ? specials[below(state, OL_ARRAY_LEN(specials))]
						 : bits[below(state, OL_ARRAY_LEN(bits))]);
}

static struct ol_tokens encode(const struct ol_tokenizer *t, const char *text, size_t size,
			       enum ol_special special, const struct ol_text_span *plain,
			       size_t count)
{
	struct ol_tokens tokens = {0};
	struct ol_error err = {0};
	if (ol_tokenizer_encode(t, &tokens, text, size, special, false, plain, count, &err) !=
	    OL_OK)
		fail_msg("%s", err.text);
	return tokens;
}

/* Every reason a file is refused for, and the words that say so. */
#define WITH(part)                                                                                 \
	"{" part                                                                                   \
	",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}"
#define MODEL(fields) "{\"model\":{" fields "}}"
static const struct {
	const char *file, *words;
	enum ol_status status;
} refusals[] = {
	{"", "0 bytes", OL_ERR_INPUT},
	{"hello", "neither a tokenizer.json nor", OL_ERR_INPUT},
	{"[]", "neither a tokenizer.json nor", OL_ERR_INPUT},
	{"{", "the file: malformed JSON at byte 1", OL_ERR_INPUT},
	{"{}", "\"model\" is missing", OL_ERR_INPUT},
	{"{\"model\":{}} x", "after the closing brace", OL_ERR_INPUT},
	{"{\"model\":{},\"model\":{}}", "\"model\" comes twice", OL_ERR_INPUT},
	{MODEL("\"type\":\"Unigram\""), "type \"Unigram\" is not supported", OL_ERR_UNSUPPORTED},
	{MODEL("\"type\":\"WordPiece\""), "type \"WordPiece\" is not supported",
	 OL_ERR_UNSUPPORTED},
	{MODEL("\"dropout\":0.1"), "model.dropout", OL_ERR_UNSUPPORTED},
	{MODEL("\"continuing_subword_prefix\":\"##\""), "model.continuing_subword_prefix",
	 OL_ERR_UNSUPPORTED},
	{MODEL("\"end_of_word_suffix\":\"</w>\""), "model.end_of_word_suffix", OL_ERR_UNSUPPORTED},
	{MODEL("\"merges\":[]"), "model.vocab is missing", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":0}"), "model.merges is missing", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "\"a\" has no id from 0", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":1.5},\"merges\":[]"), "\"a\" has no id from 0", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":9999999},\"merges\":[]"), "\"a\" has no id from 0", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"\\ud800\":0},\"merges\":[]"), "model.vocab: malformed", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a\"]"), "model.merges[0]", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a a\"]"), "(\"a\" + \"a\")", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"\"]]"), "model.merges[0]", OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\""), "model.unk_token",
	 OL_ERR_INPUT},
	{MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"fuse_unk\":1"), "model.fuse_unk", OL_ERR_INPUT},
	{WITH("\"normalizer\":{\"type\":\"NFKC\"}"), "normalizer: the type \"NFKC\"",
	 OL_ERR_UNSUPPORTED},
	{WITH("\"normalizer\":{\"type\":\"Lowercase\"}"), "\"Lowercase\"", OL_ERR_UNSUPPORTED},
	{WITH("\"normalizer\":{\"type\":\"Prepend\"}"), "\"prepend\" is missing", OL_ERR_INPUT},
	{WITH("\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"), "\"BertPreTokenizer\"",
	 OL_ERR_UNSUPPORTED},
	{WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
	      "\"behavior\":\"Removed\"}"),
	 "the pattern \"(\" is malformed", OL_ERR_INPUT},
	{WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h\"},"
	      "\"behavior\":\"Removed\"}"),
	 "an escape at byte 0", OL_ERR_UNSUPPORTED},
	{WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},"
	      "\"behavior\":\"?\"}"),
	 "\"behavior\"", OL_ERR_INPUT},
	{WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"xy\"}"), "one character",
	 OL_ERR_INPUT},
	{WITH("\"post_processor\":{\"type\":\"RobertaProcessing\"}"), "\"RobertaProcessing\"",
	 OL_ERR_UNSUPPORTED},
	{WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],"
	      "\"special_tokens\":{}}"),
	 "no place for the text", OL_ERR_INPUT},
	{WITH("\"decoder\":{\"type\":\"WordPiece\"}"), "decoder: the type \"WordPiece\"",
	 OL_ERR_UNSUPPORTED},
	{WITH("\"added_tokens\":[{\"id\":7,\"content\":\"<s>\"}]"), "declared as id 7",
	 OL_ERR_INPUT},
	{"{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"}],"
	 "\"model\":{\"vocab\":{\"a\":1},\"merges\":[]}}",
	 "belongs to another entry", OL_ERR_INPUT},
	{"\x0a\x03\x0a\x01"
	 "a\x12\x02\x18\x01",
	 "type UNIGRAM is not supported", OL_ERR_UNSUPPORTED},
	{"\x0a\x03\x0a\x05"
	 "a",
	 "neither a tokenizer.json nor", OL_ERR_INPUT},
};

static void files_are_refused_in_one_sentence(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		struct ol_tokenizer *t = NULL;
		struct ol_error err = {0};
		const char *file = refusals[i].file;
		const enum ol_status s = ol_tokenizer_open(&t, file, strlen(file), "x.json", &err);
		if (s != refusals[i].status || !strstr(err.text, refusals[i].words) ||
		    strncmp(err.text, "x.json: ", 8) != 0)
			fail_msg("row %zu gave %d: %s", i, (int)s, err.text);
		assert_null(t);
	}
}

/* Any prefix of a file is refused or a whole tokenizer, never a crash. */
static void truncated_files_are_refused(void **state)
{
	(void)state;
	struct ol_map map;
	assert_int_equal(
		ol_map_open(&map, OL_SOURCE_DIR "/tests/golden/tokenizer/qwen2.json", NULL), OL_OK);
	for (size_t size = 0; size + 2 < map.size; size += 7) {
		struct ol_tokenizer *t = NULL;
		char *copy = malloc(size + 1); /* so that reading past it is seen */
		memcpy(copy, map.data, size);
		assert_int_not_equal(ol_tokenizer_open(&t, copy, size, "x.json", NULL), OL_OK);
		free(copy);
	}
	ol_map_close(&map);
}

/* What a user wrote gives no special token, whatever stands around it. */
static void plain_text_never_becomes_special(void **state)
{
	(void)state;
	for (size_t f = 0; f < OL_ARRAY_LEN(families); f++) {
		struct ol_tokenizer *t = open_family(families[f]);
		const int32_t unknown = ol_tokenizer_unknown(t);
		uint32_t seed = 77 + (uint32_t)f;
		size_t seen = 0;
		for (int round = 0; round < 300; round++) {
			struct ol_buf text;
			ol_buf_init(&text, 1 << 20);
			append_random(&text, &seed, 1 + (int)below(&seed, 12), true);
			const struct ol_text_span all = {0, text.size};
			struct ol_tokens plain =
				encode(t, text.data, text.size, OL_SPECIAL_PARSE, &all, 1);
			struct ol_tokens none =
				encode(t, text.data, text.size, OL_SPECIAL_NONE, NULL, 0);
			struct ol_tokens parsed =
				encode(t, text.data, text.size, OL_SPECIAL_PARSE, NULL, 0);
			assert_int_equal(plain.count, none.count);
			for (size_t i = 0; i < plain.count; i++) {
				assert_int_equal(plain.ids[i], none.ids[i]);
				assert_true(plain.ids[i] == unknown ||
					    !ol_tokenizer_is_special(t, plain.ids[i]));
			}
			for (size_t i = 0; i < parsed.count; i++)
				seen += ol_tokenizer_is_special(t, parsed.ids[i]);
			ol_tokens_release(&plain);
			ol_tokens_release(&none);
			ol_tokens_release(&parsed);
			ol_buf_release(&text);
		}
		/* The same texts, parsed, are full of them (two families have none at all). */
		if (seen < 5 && strcmp(families[f], "metaspace") != 0 &&
		    strcmp(families[f], "odd-bytes") != 0)
			fail_msg("%s: %zu special tokens", families[f], seen);
		ol_tokenizer_close(t);
	}
}

/* Gemma's "\n\n" is found in what a user wrote, and where he and the template meet; "<h1>", which
 * is not special either, is not. */
static void blank_tokens_are_found_everywhere(void **state)
{
	static const char text[] = "a\n\nb<h1>\n";
	static const struct {
		size_t begin, end; /* of the user's part */
		int blanks, headings;
	} rows[] = {{0, 0, 1, 1}, {0, 9, 1, 0}, {1, 2, 1, 1}, {2, 3, 1, 1}, {5, 6, 1, 0}};
	struct ol_tokenizer *t = open_family("gemma");
	const int32_t blank = ol_tokenizer_find(t, "\n\n"), heading = ol_tokenizer_find(t, "<h1>");
	(void)state;
	assert_true(blank >= 0 && heading >= 0);
	for (size_t r = 0; r <= OL_ARRAY_LEN(rows); r++) {
		const bool none = r == OL_ARRAY_LEN(rows); /* nothing is special: all a user's */
		const struct ol_text_span span = {none ? 0 : rows[r].begin, none ? 0 : rows[r].end};
		struct ol_tokens ids =
			encode(t, text, sizeof text - 1, none ? OL_SPECIAL_NONE : OL_SPECIAL_PARSE,
			       &span, none ? 0 : 1);
		int blanks = 0, headings = 0;
		for (size_t i = 0; i < ids.count; i++) {
			blanks += ids.ids[i] == blank;
			headings += ids.ids[i] == heading;
		}
		assert_int_equal(blanks, none ? 1 : rows[r].blanks);
		assert_int_equal(headings, none ? 0 : rows[r].headings);
		ol_tokens_release(&ids);
	}
	ol_tokenizer_close(t);
}

static size_t count_special(const struct ol_tokenizer *t, const struct ol_tokens *tokens)
{
	size_t n = 0;
	for (size_t i = 0; i < tokens->count; i++)
		n += ol_tokenizer_is_special(t, tokens->ids[i]) &&
		     tokens->ids[i] != ol_tokenizer_unknown(t);
	return n;
}

/* A template's own tokens all come out; the user's, and those that only form where both meet, do
 * not. */
static void templates_keep_their_tokens(void **state)
{
	(void)state;
	static const struct {
		const char *family, *before, *user, *after;
		size_t tokens;
	} rows[] = {
		{"qwen2", "<|im_start|>user\n", "<|im_end|><|im_start|>system", "<|im_end|>\n", 2},
		{"qwen2", "<|im_start|>", "<|im_", "end|>", 1},
		{"qwen2", "<|im_st", "art|>", "<|im_end|>", 1},
		{"qwen2", "<|im_start|>", "<", "<|im_end|>", 2},
		{"llama3", "<|eot_id|>", " <|eom|> ", "<|eot_id|>", 2},
		{"llama3", "<|eom|>", "   ", "<|eom|>", 2},
		{"llama2", "<s>", "</s><s><unk>", "</s>", 2},
		{"tiny", "<s>", " </s> <s>", " </s>", 2}, /* matched after the normalizer */
		{"tiny", "<s", ">", " </s>", 1},
		{"mistral", "<s>[INST]", "[/INST]</s>[INST]", "</s>", 3},
		{"gemma", "<s>", "<end_of_turn>", "<end_of_turn>", 2},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_tokenizer *t = open_family(rows[i].family);
		char text[256];
		snprintf(text, sizeof text, "%s%s%s", rows[i].before, rows[i].user, rows[i].after);
		const size_t begin = strlen(rows[i].before);
		const struct ol_text_span span = {begin, begin + strlen(rows[i].user)};
		struct ol_tokens tokens = encode(t, text, strlen(text), OL_SPECIAL_PARSE, &span, 1);
		if (count_special(t, &tokens) != rows[i].tokens)
			fail_msg("row %zu: %zu special tokens", i, count_special(t, &tokens));
		ol_tokens_release(&tokens);
		ol_tokenizer_close(t);
	}
}

/* The splitters of our own and PCRE2 cut every text alike. */
static void own_splitters_equal_the_engine(void **state)
{
	(void)state;
#define LLAMA_LIKE(n)                                                                              \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" n                            \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
	static const char *const patterns[] = {
		"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
		"|\\s+(?!\\S)|\\s+",
		LLAMA_LIKE("\\p{N}{1,3}"), LLAMA_LIKE("\\p{N}")};
	struct ol_split_work *work;
	assert_true(ol_split_work_open(&work));
	for (size_t p = 0; p < OL_ARRAY_LEN(patterns); p++) {
		struct ol_split *own, *engine;
		const size_t size = strlen(patterns[p]);
		uint32_t seed = 5;
		assert_int_equal(ol_split_open_regex(&own, patterns[p], size, false, "x", NULL),
				 OL_OK);
		assert_int_equal(ol_split_open_regex(&engine, patterns[p], size, true, "x", NULL),
				 OL_OK);
		assert_false(ol_split_needs_work(own));
		assert_true(ol_split_needs_work(engine));
		for (int round = 0; round < 4000; round++) {
			struct ol_pieces a = {0}, b = {0};
			struct ol_buf text;
			ol_buf_init(&text, 1 << 20);
			append_random(&text, &seed, 1 + (int)below(&seed, 16), false);
			assert_int_equal(
				ol_split_find(own, NULL, &a, text.data, 0, text.size, NULL), OL_OK);
			assert_int_equal(
				ol_split_find(engine, work, &b, text.data, 0, text.size, NULL),
				OL_OK);
			for (size_t i = 0; i < OL_MIN(a.count, b.count); i++)
				if (a.list[i].end != b.list[i].end || !a.list[i].matched ||
				    !b.list[i].matched)
					fail_msg("pattern %zu, piece %zu of \"%s\": %u and %u", p,
						 i, text.data, a.list[i].end, b.list[i].end);
			assert_int_equal(a.count, b.count);
			ol_pieces_release(&a);
			ol_pieces_release(&b);
			ol_buf_release(&text);
		}
		ol_split_close(own);
		ol_split_close(engine);
	}
	ol_split_work_close(work);
}

/* Pieces put together are the decoded text; cut at whole characters they can be shown as they
 * come. */
static void pieces_stream(void **state)
{
	(void)state;
	static const char *const names[] = {"gpt2", "llama3", "smollm", "gemma"};
	for (size_t f = 0; f < OL_ARRAY_LEN(names); f++) {
		struct ol_tokenizer *t = open_family(names[f]);
		uint32_t seed = 3;
		for (int round = 0; round < 200; round++) {
			struct ol_buf text, streamed, whole;
			ol_buf_init(&text, 1 << 20);
			ol_buf_init(&streamed, 1 << 20);
			ol_buf_init(&whole, 1 << 20);
			append_random(&text, &seed, 8, true);
			struct ol_tokens tokens =
				encode(t, text.data, text.size, OL_SPECIAL_PARSE, NULL, 0);
			for (size_t i = 0; i < tokens.count; i++) {
				size_t size;
				const char *piece = ol_tokenizer_piece(t, tokens.ids[i], &size);
				ol_buf_append(&streamed, piece, size);
				const size_t shown = ol_utf8_complete(streamed.data, streamed.size);
				assert_true(streamed.size - shown <= 3);
				assert_int_equal(ol_utf8_check(streamed.data, shown), shown);
			}
			assert_true(
				ol_tokenizer_decode(t, &whole, tokens.ids, tokens.count, false));
			assert_string_equal(streamed.data, whole.data);
			ol_tokens_release(&tokens);
			ol_buf_release(&text);
			ol_buf_release(&streamed);
			ol_buf_release(&whole);
		}
		ol_tokenizer_close(t);
	}
}

static void utf8_is_checked(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t valid, complete;
		const char *lossy;
	} rows[] = {
		{"abc", 3, 3, "abc"},
		{"a\xc3\xa9", 3, 3, "a\xc3\xa9"},
		{"a\xc3", 1, 1, "a\xef\xbf\xbd"},
		{"\xc3\x28", 0, 2, "\xef\xbf\xbd("},
		{"\xc0\xaf", 0, 2, "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong     */
		{"\xe0\x80\x80", 0, 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong     */
		{"\xed\xa0\x80", 0, 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate  */
		{"\xf4\x90\x80\x80", 0, 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"x\xe2\x96", 1, 1, "x\xef\xbf\xbd"},
		{"x\xf0\x9f\x91", 1, 1, "x\xef\xbf\xbd"},
		{"x\xf0\x9f\x91\x8d", 5, 5, "x\xf0\x9f\x91\x8d"},
		{"\xe2\x28\xa1", 0, 3, "\xef\xbf\xbd(\xef\xbf\xbd"},
		{"12345678\xff", 8, 9, "12345678\xef\xbf\xbd"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const size_t size = strlen(rows[i].bytes);
		struct ol_buf buf;
		ol_buf_init(&buf, 1000);
		assert_int_equal(ol_utf8_check(rows[i].bytes, size), rows[i].valid);
		assert_int_equal(ol_utf8_complete(rows[i].bytes, size), rows[i].complete);
		assert_true(ol_utf8_append_lossy(&buf, rows[i].bytes, size));
		assert_string_equal(buf.data, rows[i].lossy);
		ol_buf_release(&buf);
	}
}

static void nfc_composes(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to;
	} rows[] = {
		{"plain", "plain"},
		{"e\xcc\x81", "\xc3\xa9"},
		{"\xc3\xa9", "\xc3\xa9"},
		{"a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81"},            /* marks change places  */
		{"\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"}, /* Hangul               */
		{"\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81"},
		{"\xe2\x84\xab", "\xc3\x85"},                 /* the Angstrom sign    */
		{"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"}, /* never composed again */
		{"\xcc\x81\xcc\x81", "\xcc\x81\xcc\x81"},     /* no starter           */
		{"x\xcc\x88\xcc\x81y", "\xe1\xba\x8d\xcc\x81y"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_buf buf;
		ol_buf_init(&buf, 1000);
		assert_true(ol_unicode_nfc(&buf, NULL, rows[i].from, strlen(rows[i].from), NULL));
		assert_string_equal(buf.data, rows[i].to);
		ol_buf_release(&buf);
	}
}

static void bad_text_leaves_nothing(void **state)
{
	(void)state;
	struct ol_tokenizer *t = open_family("gpt2");
	struct ol_tokens tokens = {0};
	struct ol_error err = {0};
	assert_true(ol_tokens_push(&tokens, 5));
	assert_int_equal(
		ol_tokenizer_encode(t, &tokens, "abc\xff", 4, OL_SPECIAL_NONE, true, NULL, 0, &err),
		OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "byte 3"));
	assert_int_equal(tokens.count, 1);
	ol_tokens_release(&tokens);
	ol_tokenizer_close(t);
}

/* A word of a million characters takes seconds at most: merging is n log n. */
static void long_words_are_not_quadratic(void **state)
{
	(void)state;
	enum { SIZE = 1 << 20 };
	static const char *const names[] = {"gpt2", "llama2"};
	char *text = malloc(SIZE);
	uint32_t seed = 9;
	for (size_t i = 0; i < SIZE; i++)
		text[i] = "aeirnst"[below(&seed, 7)];
	for (size_t f = 0; f < OL_ARRAY_LEN(names); f++) {
		struct ol_tokenizer *t = open_family(names[f]);
		struct ol_tokens tokens = encode(t, text, SIZE, OL_SPECIAL_PARSE, NULL, 0);
		struct ol_buf buf;
		ol_buf_init(&buf, 2 * SIZE);
		assert_true(tokens.count < SIZE && tokens.count > SIZE / 10);
		assert_true(ol_tokenizer_decode(t, &buf, tokens.ids, tokens.count, true));
		assert_int_equal(buf.size, SIZE);
		assert_memory_equal(buf.data, text, SIZE);
		ol_buf_release(&buf);
		ol_tokens_release(&tokens);
		ol_tokenizer_close(t);
	}
	free(text);
}

/* A SentencePiece model, written field by field. */
static void put_piece(struct ol_buf *file, const char *text, float score, char type)
{
	const size_t size = strlen(text);
	const char head[] = {0x0a, (char)(size + 9), 0x0a, (char)size}, tail[] = {0x18, type};
	ol_buf_append(file, head, 4);
	ol_buf_append(file, text, size);
	ol_buf_append(file, "\x15", 1);
	ol_buf_append(file, &score, 4);
	ol_buf_append(file, tail, 2);
}

static void sentencepiece_models_work(void **state)
{
	(void)state;
	enum { NORMAL = 1, UNKNOWN, CONTROL, USER };
	struct ol_buf file;
	struct ol_tokenizer *t = NULL;
	struct ol_tokens tokens = {0};
	struct ol_error err = {0};
	ol_buf_init(&file, 1 << 16);
	put_piece(&file, "<unk>", 0, UNKNOWN);
	put_piece(&file, "<s>", 0, CONTROL);
	put_piece(&file,
		  "\xe2\x96\x81"
		  "a",
		  -1, NORMAL);                               /* 2 */
	put_piece(&file, "ab", -2, NORMAL);                  /* 3 */
	put_piece(&file, "\xe2\x96\x81", -3, NORMAL);        /* 4 */
	put_piece(&file, "a", -4, NORMAL);                   /* 5 */
	put_piece(&file, "b", -5, NORMAL);                   /* 6 */
	put_piece(&file, "<u>", 0, USER);                    /* 7 */
	ol_buf_append(&file, "\x12\x02\x18\x02", 4);         /* BPE                              */
	ol_buf_append(&file, "\x1a\x04\x18\x01\x20\x00", 6); /* dummy prefix, spaces are kept  */
	if (ol_tokenizer_open(&t, file.data, file.size, "x.model", &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_int_equal(ol_tokenizer_encode(t, &tokens, "aab  b<u>ab!?", 13, OL_SPECIAL_PARSE,
					     true, NULL, 0, &err),
			 OL_OK);
	static const int32_t wanted[] = {1, 2, 3, 4, 4, 6, 7, 3, 0};
	assert_int_equal(tokens.count, OL_ARRAY_LEN(wanted));
	assert_memory_equal(tokens.ids, wanted, sizeof wanted);
	assert_int_equal(ol_tokenizer_vocab_size(t), 8);
	assert_int_equal(ol_tokenizer_find(t, "ab"), 3);
	ol_tokens_release(&tokens);
	ol_tokenizer_close(t);
	ol_buf_release(&file);
}

struct job {
	const struct ol_tokenizer *t;
	const struct ol_buf *text;
	struct ol_tokens tokens;
};

static void *encode_job(void *argument)
{
	struct job *job = argument;
	job->tokens = encode(job->t, job->text->data, job->text->size, OL_SPECIAL_PARSE, NULL, 0);
	return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
	(void)state;
	struct ol_tokenizer *t = open_family("llama2");
	struct ol_buf text;
	struct job jobs[4];
	pthread_t threads[4];
	uint32_t seed = 21;
	ol_buf_init(&text, 1 << 20);
	append_random(&text, &seed, 20000, true);
	for (int i = 0; i < 4; i++) {
		jobs[i] = (struct job){t, &text, {0}};
		assert_int_equal(pthread_create(&threads[i], NULL, encode_job, &jobs[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].tokens.count, jobs[0].tokens.count);
		assert_memory_equal(jobs[i].tokens.ids, jobs[0].tokens.ids,
				    jobs[0].tokens.count * sizeof(int32_t));
	}
	for (int i = 0; i < 4; i++)
		ol_tokens_release(&jobs[i].tokens);
	ol_buf_release(&text);
	ol_tokenizer_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_refused_in_one_sentence),
		cmocka_unit_test(truncated_files_are_refused),
		cmocka_unit_test(plain_text_never_becomes_special),
		cmocka_unit_test(blank_tokens_are_found_everywhere),
		cmocka_unit_test(templates_keep_their_tokens),
		cmocka_unit_test(own_splitters_equal_the_engine),
		cmocka_unit_test(pieces_stream),
		cmocka_unit_test(utf8_is_checked),
		cmocka_unit_test(nfc_composes),
		cmocka_unit_test(bad_text_leaves_nothing),
		cmocka_unit_test(long_words_are_not_quadratic),
		cmocka_unit_test(sentencepiece_models_work),
		cmocka_unit_test(threads_share_a_tokenizer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
