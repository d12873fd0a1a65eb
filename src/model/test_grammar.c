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

#include "model/test_pieces.h"

static uint32_t below(uint32_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % n;
}

/* --- vocabularies ---------------------------------------------------------- */

enum { EOS = TEST_EOS };

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

/* What JSON is made of, in awkward portions. */
static const char *const awkward[] = {"\xe2\x80\xa8",
				      "a\xe2\x80\xa9",
				      "\xe2\x80\xa7",
				      "plain text",
				      "<b>",
				      "a",
				      "b",
				      "ab",
				      "abc",
				      "the",
				      " the",
				      "name",
				      "\"",
				      "\"}",
				      "\"]",
				      "\",",
				      "\",\"",
				      "\":",
				      "\": ",
				      "\": \"",
				      "{\"",
				      "{\"a",
				      "{\"a\":",
				      "\"a\"",
				      ", ",
				      ", \"",
				      "},",
				      "},{",
				      "}]",
				      "]}",
				      "[[",
				      "[{",
				      "[[[",
				      "{}",
				      "[]",
				      "\"\"",
				      "[\"",
				      "]]",
				      "}}",
				      "}}}",
				      "0",
				      "1",
				      "12",
				      "123",
				      "-1",
				      "-",
				      ".5",
				      "0.",
				      "e+",
				      "1,",
				      "2]",
				      "3}",
				      "10",
				      "00",
				      "true",
				      "tr",
				      "false",
				      "null",
				      "true,",
				      "null}",
				      "\\n",
				      "\\",
				      "\\u",
				      "\\u00",
				      "\\\"",
				      "\\\"\"",
				      "u",
				      "\\ud83d",
				      " ",
				      "  ",
				      "\n",
				      "\t",
				      "é",
				      "日本",
				      "😀",
				      "a\"",
				      "b\",\"c",
				      "x\\",
				      " a",
				      " {",
				      " \"",
				      "\"a"};

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
	tokenizer = test_tokenizer(awkward, OL_ARRAY_LEN(awkward));
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

/* The naive mask: every token by itself. */
static void naive_mask(struct ol_grammar_state *s, int size, uint64_t *mask)
{
	memset(mask, 0, ((size_t)size + 63) / 64 * sizeof *mask);
	for (int32_t id = 0; id < size; id++)
		if (ol_grammar_allows(s, id))
			mask[id / 64] |= 1ull << id % 64;
}

/* --- what a schema lets through -------------------------------------------- */

/* A text that is whole; or, ending with ~, one that may go on and has to; or, ending with !, one
 * whose last byte before it is the first that is refused. */
static int expect_text(const struct ol_grammar *g, const char *schema, const char *row)
{
	char text[512];
	const size_t size = strlen(row);
	const char last = size > 0 ? row[size - 1] : '\0';
	const size_t length = size - (last == '~' || last == '!');
	bool complete;
	assert_true(size < sizeof text);
	memcpy(text, row, length);
	text[length] = '\0';
	const size_t n = accepts(g, text, &complete);
	const size_t expected = last == '!' ? length - 1 : length;
	if (n == expected && (last == '!' || complete == (last != '~')))
		return 0;
	print_error("%s\n%s: %zu bytes accepted, not %zu%s\n", schema, row, n, expected,
		    complete ? ", complete" : "");
	return 1;
}

static const struct {
	const char *schema;
	const char *texts[26];
} rows[] = {
	{"{\"type\":\"null\"}", {"null", "nul~", "nu1!", "t!", " !", "nulll!"}},
	{"{\"type\":\"boolean\"}", {"true", "false", "fale!", "0!", "T!"}},
	{"{\"type\":[\"string\",\"null\"]}", {"null", "\"null\"", "1!", "\"~"}},
	{"{\"type\":\"integer\"}",
	 {"0", "-1", "12", "-~", "01!", "-0!", "1.!", "1e!", "999999999999999999",
	  "1234567890123456789!", "+!", "--!"}},
	{"{\"type\":\"number\"}",
	 {"0", "-0", "-0.5", "1.~", "1.25e~", "1e5", "1E+05", "1e-12", "1e100!", "01!", ".!",
	  "1.2.!", "123456789012345678.12345678901234567", "1.123456789012345678!"}},
	{"{\"type\":\"integer\",\"minimum\":-12,\"maximum\":305}",
	 {"0", "-12", "-13!", "-2", "305", "306!", "31", "310!", "3050!", "-120!", "299"}},
	{"{\"type\":\"integer\",\"exclusiveMinimum\":9,\"exclusiveMaximum\":11.5}",
	 {"10", "11", "12!", "9!", "1~", "100!"}},
	{"{\"type\":\"integer\",\"minimum\":9.5}", {"10", "9~", "8~", "99", "0!", "-!"}},
	{"{\"type\":\"number\",\"minimum\":0}",
	 {"0", "0.5", "-!", "12", "1e!", "0.0", "123456789012345.123456", "1.1234567!"}},
	{"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":2}",
	 {"0~", "0.0~", "0.01", "1.99", "2", "2.0", "2.1!", "2.01!", "3!", "-!"}},
	{"{\"type\":\"number\",\"minimum\":-3,\"exclusiveMaximum\":-1}",
	 {"-3", "-3.0", "-3.1!", "-2", "-2.99", "-1.5", "-1~", "-1.0~", "-0!", "1!"}},
	{"{\"type\":\"number\",\"minimum\":-1,\"maximum\":1}",
	 {"-0.5", "0", "-0.0~", "-0~", "-1", "-1.1!", "1.0", "0.999999"}},
	{"{\"type\":\"string\"}",
	 {"\"\"",
	  "\"a b\"",
	  "\"\\n\\\"\\\\\\/\"",
	  "\"\n!",
	  "\"\x1f!",
	  "\"\\x!",
	  "\"\\u00e9\"",
	  "\"\\u0000!",
	  "\"\\ud83d\\ude00\"",
	  "\"\\ud83d\"!",
	  "\"\\ud83dx!",
	  "\"\\ude!",
	  "\"\\ud83d\\u0!",
	  "\"\xc3\xa9\"",
	  "\"\xc3\"!",
	  "\"\xc0!",
	  "\"\xed\xa0!",
	  "\"\xf0\x9f\x98\x80\"",
	  "\"\xf4\x90!",
	  "\"\xe0\x80!",
	  "'!",
	  "\"a\"\"!",
	  "\"a\" !",
	  "\"\x7f\"",
	  "\"\\uD83D\\uDE00\"",
	  "\"\\uABCd\""}},
	{"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
	 {"\"a\"!", "\"ab\"", "\"abc\"", "\"abcd!", "\"\xc3\xa9\xc3\xa9\xc3\xa9\"",
	  "\"\\n\\u0041\"", "\"\\ud83d\\ude00\"!", "\"ab\\n\"", "\"abc\\!"}},
	{"{\"type\":\"string\",\"pattern\":\"^a+b?$\"}",
	 {"\"a\"", "\"aaab\"", "\"b!", "\"ab\"", "\"abb!", "\"\"!"}},
	{"{\"type\":\"string\",\"pattern\":\"b\"}",
	 {"\"abc\"", "\"b\"", "\"a\"!", "\"a~", "\"\\nb\"", "\"\\\"b\""}},
	{"{\"type\":\"string\",\"pattern\":\"^(x|yz){2}$|^q\"}",
	 {"\"xx\"", "\"yzx\"", "\"x\"!", "\"xxx!", "\"q\"", "\"q anything\\t\""}},
	{"{\"pattern\":\"^[^a-c\\\\d]\\\\s\\\\x41\\\\u00e9\\\\u{1F600}.$\"}",
	 {"\"d A\xc3\xa9\xf0\x9f\x98\x80!\"", "\"a!", "\"7!",
	  "\"z\\tA\xc3\xa9\xf0\x9f\x98\x80\\\"\"", "\"z\\tA\xc3\xa9\xf0\x9f\x98\x80\\n!"}},
	{"{\"pattern\":\"^.{0,70}$\"}",
	 {"\"a b\"", "\"\xe2\x80\xa7\xe2\x80\xaa\"", "\"\xe2\x80\xa8!", "\"\xe2\x81\xa8\"",
	  "\"\\n!"}},
	{"{\"pattern\":\"^([^<]{0,66}|x.*)$\"}", {"\"a\\n\"", "\"a<!", "\"x<\""}},
	{"{\"pattern\":\"^\\\"\\\\\\\\$\"}", {"\"\\\"\\\\\"", "\"\\\\!", "\"\\u!"}},
	{"{\"pattern\":\"^[\\u0001-\\u001f]{1,2}$\"}",
	 {"\"\\u0001\"", "\"\\n\"", "\"\\u000a!", "\"\\u001f\\b\"", "\"\\u001F!", "\"\\u002!"}},
	{"{\"type\":\"string\",\"pattern\":\"^[a-z]*$\",\"minLength\":2,\"maxLength\":4}",
	 {"\"a\"!", "\"ab\"", "\"abcd\"", "\"abcde!"}},
	{"{\"type\":\"string\",\"format\":\"date\"}",
	 {"\"2024-02-29\"", "\"2023-02-29!", "\"2000-02-29\"", "\"1900-02-29!", "\"2023-04-31!",
	  "\"2023-13!", "\"0!", "\"2023-1-!", "\"2023-12-31\""}},
	{"{\"type\":\"string\",\"format\":\"date-time\"}",
	 {"\"2024-02-29T23:59:59Z\"", "\"2024-01-01T24!", "\"2024-01-01T00:00:00.125+01:30\"",
	  "\"2024-01-01 !", "\"2024-01-01T00:00:6!"}},
	{"{\"type\":\"string\",\"format\":\"time\"}", {"\"12:00:00Z\"", "\"12:00Z!"}},
	{"{\"type\":\"string\",\"format\":\"uuid\"}",
	 {"\"123e4567-e89b-12d3-a456-426614174000\"", "\"123e4567e!", "\"g!"}},
	{"{\"type\":\"string\",\"format\":\"ipv4\"}",
	 {"\"255.0.10.99\"", "\"256!", "\"1.2.3\"!", "\"01!", "\"1.2.3.4.!"}},
	{"{\"type\":\"string\",\"format\":\"email\"}",
	 {"\"a.b+c@d-e.org\"", "\"@!", "\"a@b\"!", "\"a..!", "\"a@-!"}},
	{"{\"type\":\"string\",\"format\":\"duration\"}",
	 {"\"P1D\"", "\"PT5M\"", "\"P\"!", "\"P1Y2M3D\"", "\"P2W\"", "\"PT\"!"}},
	{"{\"enum\":[\"a\",\"ab\",1,1.5,12,null,{\"k\":[1,true]},\"\\u001f\\\"\"]}",
	 {"\"a\"", "\"ab\"", "\"b!", "1", "12", "1.5", "1.~", "13!", "null", "{\"k\":[1,true]}",
	  "{\"k\": !", "\"\\u001f\\\"\"", "2!"}},
	{"{\"type\":\"string\",\"enum\":[\"a\",1]}", {"\"a\"", "1!"}},
	{"{\"type\":\"integer\",\"enum\":[1,2,2.5]}", {"1", "2", "2.!"}},
	{"{\"const\":\"x\"}", {"\"x\"", "\"y!"}},
	{"{\"const\":0.1}", {"0.1", "0.10!"}},
	{"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
	 {"[]", "[1]", "[1,2, 3]", "[1,  !", "[ !", "[1 !", "[,!", "[1,]!", "[1,2~", "[[!"}},
	{"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":2}",
	 {"[]!", "[true]", "[true,false]", "[true,false,!"}},
	{"{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
	 {"[]", "[1]", "[1,2]", "[1,2,!", "[2!"}},
	{"{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":3}",
	 {"[1,2]!", "[1,2,3]", "[1,2,3,3,3]", "[1,2,1!"}},
	{"{\"type\":\"object\",\"properties\":{\"b\":{\"const\":1},\"a\":{\"const\":2},\"ab\":{"
	 "\"const\":3}},\"required\":[\"a\"],\"additionalProperties\":false}",
	 {"{}!", "{\"a\":2}", "{\"b\":1,\"a\":2}", "{\"b\":1, \"a\": 2}", "{\"b\":1}!", "{\"ab!",
	  "{\"b\":1,\"ab!", "{\"a\":2,\"ab\":3}", "{\"a\":2,\"b!", "{\"a\":2,\"a\"!",
	  "{\"a\":2,\"ab\":3,!", "{ !", "{\"a\" !", "{\"a\":  !", "{\"a\":2 !", "{\"\\!", "{\"c!"}},
	{"{\"properties\":{\"a\":{\"const\":1},\"\\n\\\"\":{\"const\":2}}}",
	 {"{\"a\":1,\"\\n\\\"\":2}", "{\"\\n\\\"\":2}", "{\"\\n\\\"\":2,!", "{\"\\t!", "{}"}},
	{"{\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":{\"const\":2}}",
	 {"{\"ab\":1}", "{\"a\":2}", "{\"ab\":2!", "{\"abc\":2,\"ab\"!", "{\"\":2}", "{\"x\":1!",
	  "{\"ab\":1,\"ab\"!", "{\"ab\":1,\"\\u001f\":2,\"q\":2}", "{\"\\u006!"}},
	{"{\"properties\":{\"a\":false,\"b\":{\"const\":1}},\"additionalProperties\":true}",
	 {"{\"a\"!", "{\"b\":1}", "{\"b\":1,\"a\"!", "{\"aa\":[]}"}},
	{"{\"required\":[\"z\",\"z\"],\"additionalProperties\":{\"type\":\"null\"}}",
	 {"{\"z\":null}", "{\"z\":null,\"y\":null}", "{}!", "{\"y!"}},
	{"{\"properties\":{\"\":{\"const\":1}}}", {"{\"\":1}", "{}", "{\"a!"}},
	{"{\"type\":\"object\",\"additionalProperties\":false}", {"{}", "{\"!"}},
	{"{\"anyOf\":[{\"const\":\"abc\"},{\"type\":\"string\",\"maxLength\":1},{\"type\":"
	 "\"integer\"}"
	 "]}",
	 {"\"abc\"", "\"a\"", "\"ab\"!", "\"\"", "7", "\"b\""}},
	{"{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1},\"x\":{"
	 "\"const\":1}},"
	 "\"required\":[\"k\",\"x\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"type\":"
	 "\"integer\"}"
	 ",\"y\":{\"const\":2}},\"required\":[\"k\",\"y\"]}]}",
	 {"{\"k\":1,\"x\":1}", "{\"k\":1,\"y\":2}", "{\"k\":12,\"x!", "{\"k\":12,\"y\":2}"}},
	{"{\"oneOf\":[{\"properties\":{\"t\":{\"const\":\"a\"},\"v\":{\"const\":1}},"
	 "\"required\":[\"t\""
	 ",\"v\"]},{\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":[\"t\"]},{\"type"
	 "\":\"null\"}]"
	 "}",
	 {"{\"t\":\"a\",\"v\":1}", "{\"t\":\"b\"}", "{\"t\":\"b\",!", "null", "{\"t\":\"a\"}!"}},
	{"{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v"
	 "\":{\"type\":"
	 "\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},"
	 "\"required\""
	 ":[\"v\",\"next\"]}}}",
	 {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}", "{\"v\":1}!"}},
	{"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", {"[]", "[[],[[]]]", "[1!"}},
	{"{\"allOf\":[{\"$ref\":\"#/definitions/a~1b\"},{\"properties\":{\"y\":{\"const\":2}},"
	 "\"required\":[\"y\"]}],\"definitions\":{\"a/b\":{\"type\":\"object\",\"properties"
	 "\":{\"x\":{"
	 "\"const\":1}},\"required\":[\"x\"]}}}",
	 {"{\"x\":1,\"y\":2}", "{\"x\":1}!", "{\"y!"}},
	{"{\"$ref\":\"#/$defs/s\",\"maxLength\":2,\"$defs\":{\"s\":{\"type\":\"string\","
	 "\"minLength\":1,"
	 "\"maxLength\":5}}}",
	 {"\"\"!", "\"ab\"", "\"abc!"}},
	{"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2}},"
	 "\"anyOf\":[{"
	 "\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
	 {"{\"a\":1}", "{\"b\":2}", "{}!", "{\"a\":1,\"b\":2}"}},
	{"{\"title\":\"t\",\"x-more\":1,\"description\":\"d\",\"default\":3,\"type\":\"null\"}",
	 {"null"}},
	{"true", {"1", "null", "[{\"a\":[]}]", "\"\"", "]!"}},
	{"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"number\"},{\"type\":\"integer"
	 "\"}],\"minItems\":"
	 "2,\"maxItems\":2}",
	 {"[1.5,2]", "[1,2.!", "[1e5, 3]", "[-1,-2]"}},
};

static void test_rows(void **state)
{
	int wrong = 0;
	(void)state;
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		struct ol_grammar *g = open_schema(rows[r].schema);
		for (size_t i = 0; i < OL_ARRAY_LEN(rows[r].texts) && rows[r].texts[i]; i++)
			wrong += expect_text(g, rows[r].schema, rows[r].texts[i]);
		ol_grammar_close(g);
	}
	assert_int_equal(wrong, 0);
}

/* --- what is refused ------------------------------------------------------- */

static const struct {
	const char *schema;
	enum ol_status status;
	const char *says;
} refusals[] = {
	{"3", OL_ERR_INPUT, "a schema must be an object"},
	{"false", OL_ERR_INPUT, "no value satisfies"},
	{"{\"type\":\"strin\"}", OL_ERR_INPUT, "\"type\" must be"},
	{"{\"type\":[]}", OL_ERR_INPUT, "empty list"},
	{"{\"typ\":\"string\"}", OL_ERR_UNSUPPORTED, "\"typ\" is not known"},
	{"{\"properties\":{\"a/b\":{\"multipleOf\":2}}}", OL_ERR_UNSUPPORTED,
	 "/properties/a~1b: \"multipleOf\""},
	{"{\"items\":{\"uniqueItems\":true}}", OL_ERR_UNSUPPORTED, "at /items: \"uniqueItems\""},
	{"{\"not\":{}}", OL_ERR_UNSUPPORTED, "\"not\""},
	{"{\"if\":{}}", OL_ERR_UNSUPPORTED, "\"if\""},
	{"{\"patternProperties\":{}}", OL_ERR_UNSUPPORTED, "\"patternProperties\""},
	{"{\"nullable\":true}", OL_ERR_UNSUPPORTED, "\"nullable\""},
	{"{\"enum\":[]}", OL_ERR_INPUT, "\"enum\" must be"},
	{"{\"enum\":[1],\"minimum\":3}", OL_ERR_UNSUPPORTED, "remove the other keywords"},
	{"{\"enum\":[1],\"type\":\"string\"}", OL_ERR_INPUT, "no value of \"enum\""},
	{"{\"const\":\"a\\u0000\"}", OL_ERR_FULL, "NUL"},
	{"{\"minLength\":-1}", OL_ERR_INPUT, "\"minLength\" must be"},
	{"{\"minLength\":3,\"maxLength\":2}", OL_ERR_INPUT, "above maxLength"},
	{"{\"minLength\":2,\"pattern\":\"^a$\"}", OL_ERR_INPUT, "no value satisfies pattern"},
	{"{\"minItems\":3,\"maxItems\":2}", OL_ERR_INPUT, "above maxItems"},
	{"{\"prefixItems\":[{}],\"items\":false,\"minItems\":2}", OL_ERR_INPUT, "minItems"},
	{"{\"items\":[{}]}", OL_ERR_UNSUPPORTED, "prefixItems"},
	{"{\"minimum\":3,\"maximum\":2,\"type\":\"integer\"}", OL_ERR_INPUT, "no value satisfies"},
	{"{\"type\":\"number\",\"minimum\":0.5}", OL_ERR_UNSUPPORTED, "whole bounds"},
	{"{\"type\":\"number\",\"minimum\":1e12}", OL_ERR_UNSUPPORTED, "within"},
	{"{\"exclusiveMinimum\":true}", OL_ERR_INPUT, "must be a number"},
	{"{\"format\":\"uri\"}", OL_ERR_UNSUPPORTED, "format \"uri\""},
	{"{\"pattern\":\"(?=a)\"}", OL_ERR_UNSUPPORTED, "look-around"},
	{"{\"pattern\":\"(a)\\\\1\"}", OL_ERR_UNSUPPORTED, "back references"},
	{"{\"pattern\":\"a\\\\b\"}", OL_ERR_UNSUPPORTED, "word boundaries"},
	{"{\"pattern\":\"\\\\p{L}\"}", OL_ERR_UNSUPPORTED, "escape"},
	{"{\"pattern\":\"a^\"}", OL_ERR_UNSUPPORTED, "may only begin"},
	{"{\"pattern\":\"(a$)\"}", OL_ERR_UNSUPPORTED, "may only begin"},
	{"{\"pattern\":\"(a\"}", OL_ERR_UNSUPPORTED, "not closed"},
	{"{\"pattern\":\"a)\"}", OL_ERR_UNSUPPORTED, "has no ("},
	{"{\"pattern\":\"[a\"}", OL_ERR_UNSUPPORTED, "not closed"},
	{"{\"pattern\":\"*a\"}", OL_ERR_UNSUPPORTED, "nothing to repeat"},
	{"{\"pattern\":\"a**\"}", OL_ERR_UNSUPPORTED, "nothing to repeat"},
	{"{\"pattern\":\"a{2\"}", OL_ERR_UNSUPPORTED, "not a quantifier"},
	{"{\"pattern\":\"a{3,2}\"}", OL_ERR_UNSUPPORTED, "out of order"},
	{"{\"pattern\":\"[z-a]\"}", OL_ERR_UNSUPPORTED, "a range"},
	{"{\"pattern\":\"\\\\ud83d\"}", OL_ERR_UNSUPPORTED, "surrogate"},
	{"{\"pattern\":\"a\\\\\"}", OL_ERR_UNSUPPORTED, "backslash"},
	{"{\"pattern\":\"[]\"}", OL_ERR_INPUT, "no value satisfies"},
	{"{\"pattern\":\"((.{1000}){1000}){1000}\"}", OL_ERR_FULL, "too large"},
	{"{\"pattern\":\"(a|b)*a(a|b){20}\"}", OL_ERR_FULL, "too large"},
	{"{\"required\":[\"a\"],\"additionalProperties\":false}", OL_ERR_INPUT,
	 "\"a\" is required, but"},
	{"{\"required\":\"a\"}", OL_ERR_INPUT, "list of names"},
	{"{\"properties\":[]}", OL_ERR_INPUT, "must be an object"},
	{"{\"$ref\":\"#/$defs/x\"}", OL_ERR_INPUT, "leads nowhere"},
	{"{\"$ref\":\"other.json\"}", OL_ERR_UNSUPPORTED, "same schema"},
	{"{\"$ref\":\"#\"}", OL_ERR_INPUT, "no value satisfies"},
	{"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", OL_ERR_INPUT,
	 "refers to itself without end"},
	{"{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", OL_ERR_FULL, ""},
	{"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", OL_ERR_INPUT, "no type"},
	{"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", OL_ERR_UNSUPPORTED,
	 "\"pattern\""},
	{"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},{\"properties\":{"
	 "\"b\":{}}}]}",
	 OL_ERR_UNSUPPORTED, "additionalProperties"},
	{"{\"anyOf\":[]}", OL_ERR_INPUT, "\"anyOf\" must be"},
	{"{\"oneOf\":[{\"type\":\"string\"},{\"const\":\"a\"}]}", OL_ERR_UNSUPPORTED,
	 "may match both"},
	{"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", OL_ERR_UNSUPPORTED,
	 "may match both"},
};

static void test_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		struct ol_grammar *g = NULL;
		struct ol_error err = {0};
		json_error_t error;
		json_t *schema =
			json_loads(refusals[i].schema, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
		assert_non_null(schema);
		const enum ol_status s = ol_grammar_open_schema(&g, vocab, schema, &err);
		if (s != refusals[i].status || !strstr(err.text, refusals[i].says))
			fail_msg("%s: status %d, \"%s\"", refusals[i].schema, s, err.text);
		assert_null(g);
		json_decref(schema);
	}
}

/* A schema one level too deep, one byte too long, one property too many. */
static void test_limits(void **state)
{
	struct ol_error err;
	struct ol_grammar *g;
	(void)state;
	for (int levels = OL_GRAMMAR_NESTING_MAX - 1; levels <= OL_GRAMMAR_NESTING_MAX; levels++) {
		json_t *schema = json_object();
		for (int i = 0; i < levels; i++)
			schema = json_pack("{s:o}", "items", schema);
		const enum ol_status s = ol_grammar_open_schema(&g, vocab, schema, &err);
		assert_int_equal(s, levels < OL_GRAMMAR_NESTING_MAX ? OL_OK : OL_ERR_FULL);
		ol_grammar_close(g);
		json_decref(schema);
	}
	for (int count = OL_GRAMMAR_PROPERTIES_MAX; count <= OL_GRAMMAR_PROPERTIES_MAX + 1;
	     count++) {
		json_t *properties = json_object();
		for (int i = 0; i < count; i++) {
			char name[16];
			snprintf(name, sizeof name, "p%d", i);
			json_object_set_new(properties, name, json_pack("{s:i}", "const", i));
		}
		json_t *schema = json_pack("{s:o}", "properties", properties);
		const enum ol_status s = ol_grammar_open_schema(&g, vocab, schema, &err);
		assert_int_equal(s, count > OL_GRAMMAR_PROPERTIES_MAX ? OL_ERR_FULL : OL_OK);
		if (s == OL_OK) {
			assert_false(
				expect_text(g, "many", "{\"p7\":7,\"p500\": 500,\"p999\":999}"));
			assert_false(expect_text(g, "many", "{\"p7\":7,\"p6\"!"));
		}
		ol_grammar_close(g);
		json_decref(schema);
	}
	json_t *values = json_array();
	for (int i = 0; i <= OL_GRAMMAR_ENUM_MAX; i++)
		json_array_append_new(values, json_integer(i));
	json_t *schema = json_pack("{s:o}", "enum", values);
	assert_int_equal(ol_grammar_open_schema(&g, vocab, schema, &err), OL_ERR_FULL);
	json_decref(schema);
	char *text = malloc(OL_GRAMMAR_SCHEMA_MAX + 1);
	memset(text, 'a', OL_GRAMMAR_SCHEMA_MAX);
	schema = json_pack("{s:s#}", "title", text, OL_GRAMMAR_SCHEMA_MAX);
	assert_int_equal(ol_grammar_open_schema(&g, vocab, schema, &err), OL_ERR_FULL);
	json_decref(schema);
	free(text);
}

/* Values nest to the limit and no deeper, and at the limit there is a way out. */
static void test_depth(void **state)
{
	struct ol_grammar *g = open_schema("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}");
	struct ol_grammar_state *s = begin(g);
	(void)state;
	int depth = 0;
	while (ol_grammar_accept(s, 1 + '['))
		depth++;
	assert_int_equal(depth, OL_GRAMMAR_DEPTH_MAX);
	for (int i = 0; i < depth; i++)
		assert_true(ol_grammar_accept(s, 1 + ']'));
	assert_true(ol_grammar_is_over(s));
	ol_grammar_state_close(s);
	ol_grammar_close(g);
	/* An object with what it requires is two deep: the last array holds none. */
	g = open_schema("{\"$ref\":\"#/$defs/o\",\"$defs\":{\"o\":{\"properties\":{\"a\":{\"type\":"
			"\"array\",\"items\":{\"$ref\":\"#/$defs/o\"}}},\"required\":[\"a\"]}}}");
	s = begin(g);
	depth = 0;
	for (;;) {
		const char *open = "{\"a\":[";
		int k = 0;
		while (open[k] && ol_grammar_accept(s, 1 + open[k]))
			k++;
		if (open[k])
			break;
		depth += 2;
	}
	assert_int_equal(depth, OL_GRAMMAR_DEPTH_MAX);
	ol_grammar_state_close(s);
	ol_grammar_close(g);
}

/* --- choices and formats --------------------------------------------------- */

static void test_choices(void **state)
{
	struct ol_error err;
	struct ol_grammar *g;
	json_t *choices = parse("[\"yes\",\"yes, but\",\"no\\n\",\"{\"]");
	(void)state;
	assert_int_equal(ol_grammar_open_choice(&g, vocab, choices, &err), OL_OK);
	const char *const texts[] = {"yes", "yes, but", "no\n", "no~", "{", "{}!", "yes,~", "n0!"};
	for (size_t i = 0; i < OL_ARRAY_LEN(texts); i++)
		assert_false(expect_text(g, "choices", texts[i]));
	ol_grammar_close(g);
	json_decref(choices);
	const char *const bad[] = {"[]", "[1]", "[\"\"]", "{}"};
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		choices = parse(bad[i]);
		assert_int_equal(ol_grammar_open_choice(&g, vocab, choices, &err), OL_ERR_INPUT);
		json_decref(choices);
	}
}

static void test_formats(void **state)
{
	static const struct {
		const char *format;
		enum ol_status status;
		const char *text; /* NULL: no grammar */
	} cases[] = {
		{"{\"type\":\"text\"}", OL_OK, NULL},
		{"{\"type\":\"json_object\"}", OL_OK, "{\"a\":[1]}"},
		{"{\"type\":\"json_object\"}", OL_OK, "[!"},
		{"{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,"
		 "\"schema\":{"
		 "\"type\":\"null\"}}}",
		 OL_OK, "null"},
		{"{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\"}}", OL_ERR_INPUT, NULL},
		{"{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}", OL_ERR_INPUT, NULL},
		{"{\"type\":\"json_schema\"}", OL_ERR_INPUT, NULL},
		{"{\"type\":\"xml\"}", OL_ERR_INPUT, NULL},
		{"[]", OL_ERR_INPUT, NULL},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(cases); i++) {
		struct ol_error err;
		struct ol_grammar *g;
		json_t *format = parse(cases[i].format);
		assert_int_equal(ol_grammar_open_format(&g, vocab, format, &err), cases[i].status);
		assert_int_equal(g != NULL, cases[i].text != NULL);
		if (g)
			assert_false(expect_text(g, cases[i].format, cases[i].text));
		ol_grammar_close(g);
		json_decref(format);
	}
}

/* The id follows what shapes the output, its order too, and nothing else. */
static void test_ids(void **state)
{
	static const char *const texts[] = {"{\"properties\":{\"a\":{},\"b\":{}}}",
					    "{\"properties\":{\"b\":{},\"a\":{}}}",
					    "{ \"properties\": {\"a\": {}, \"b\": {}} }"};
	struct ol_grammar *g[3], *object;
	struct ol_error err;
	static const uint8_t expected[] = {0x8c, 0xc9, 0xa8, 0x18, 0xc0, 0x82, 0x11, 0x6c,
					   0xbe, 0xf4, 0xfa, 0xcf, 0x29, 0x79, 0x4f, 0xb0,
					   0xe3, 0xfa, 0x2f, 0x5e, 0x04, 0xf3, 0x1d, 0x47,
					   0x99, 0x06, 0x89, 0x16, 0x58, 0xb9, 0x95, 0xd5};
	(void)state;
	for (int i = 0; i < 3; i++)
		g[i] = open_schema(texts[i]);
	assert_int_equal(ol_grammar_open_json(&object, vocab, &err), OL_OK);
	assert_memory_equal(ol_grammar_id(g[0]), ol_grammar_id(g[2]), OL_GRAMMAR_ID_BYTES);
	assert_memory_not_equal(ol_grammar_id(g[0]), ol_grammar_id(g[1]), OL_GRAMMAR_ID_BYTES);
	assert_memory_equal(ol_grammar_id(object), expected, sizeof expected);
	for (int i = 0; i < 3; i++)
		ol_grammar_close(g[i]);
	ol_grammar_close(object);
}

/* --- masks ----------------------------------------------------------------- */

/* Walks at random through a grammar; at every step the fast mask must be the naive one. Returns
 * whether it came to an end; the text goes to `text`. */
static bool walk(const struct ol_grammar *g, const struct ol_tokenizer *t, int size, bool strip,
		 uint32_t *seed, int steps, int compare, struct ol_buf *text)
{
	const size_t words = ((size_t)size + 63) / 64;
	uint64_t *mask = calloc(words, sizeof *mask), *naive = calloc(words, sizeof *naive);
	struct ol_grammar_state *s;
	bool over = false;
	assert_int_equal(ol_grammar_begin(&s, g, strip, true), OL_OK);
	ol_buf_clear(text);
	for (int i = 0; i < steps && !over; i++) {
		assert_true(ol_grammar_mask(s, mask));
		if (i < compare) {
			naive_mask(s, size, naive);
			for (int32_t id = 0; id < size; id++)
				if ((mask[id / 64] ^ naive[id / 64]) >> id % 64 & 1)
					fail_msg("after \"%s\": token %d (\"%s\") is %s",
						 text->data ? text->data : "", id,
						 ol_tokenizer_entry(t, id, &(size_t){0}),
						 mask[id / 64] >> id % 64 & 1 ? "allowed"
									      : "not allowed");
		}
		int32_t token = (int32_t)below(seed, (uint32_t)size);
		/* Towards the end, what closes is preferred: quotes, brackets. */
		for (int tries = 0; tries < 40 && i > steps / 4; tries++) {
			const int32_t closing = 1 + "\"}]0ea"[below(seed, 6)];
			if (size < 1000 && mask[closing / 64] >> closing % 64 & 1)
				token = closing;
		}
		while (!(mask[token / 64] >> token % 64 & 1))
			token = (token + 1) % size;
		if (token == EOS && t == tokenizer)
			break;
		assert_true(ol_grammar_accept(s, token));
		size_t length = 0;
		const char *piece = ol_tokenizer_piece(t, token, &length);
		const size_t lead = strip && i == 0 && piece[0] == ' ';
		assert_true(ol_buf_append(text, piece + lead, length - lead));
		over = ol_grammar_is_over(s);
	}
	over = ol_grammar_is_complete(s);
	ol_grammar_state_close(s);
	free(mask);
	free(naive);
	return over;
}

static void test_masks_of_rows(void **state)
{
	struct ol_buf text;
	uint32_t seed = 1;
	(void)state;
	ol_buf_init(&text, 1 << 20);
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		struct ol_grammar *g = open_schema(rows[r].schema);
		for (int turn = 0; turn < 2; turn++)
			(void)walk(g, tokenizer, vocab_size, turn == 1, &seed, 60, 40, &text);
		ol_grammar_close(g);
	}
	ol_buf_release(&text);
}

/* Tokenizers as models have them: byte-level, byte fallback, odd pieces. */
static void test_masks_of_families(void **state)
{
	static const char *const families[] = {"gpt2", "llama3", "llama2", "mistral", "gemma"};
	struct ol_buf text;
	uint32_t seed = 7;
	(void)state;
	ol_buf_init(&text, 1 << 20);
	for (size_t f = 0; f < OL_ARRAY_LEN(families); f++) {
		struct ol_tokenizer *t = open_family(families[f]);
		struct ol_grammar_vocab *own = NULL;
		struct ol_error err;
		const int size = ol_tokenizer_vocab_size(t);
		if (ol_grammar_vocab_open(&own, t, size, NULL, 0, 0, &err) != OL_OK)
			fail_msg("%s: %s", families[f], err.text);
		for (size_t r = 0; r < OL_ARRAY_LEN(rows); r += 4) {
			struct ol_grammar *g = NULL;
			json_t *schema = parse(rows[r].schema);
			assert_int_equal(ol_grammar_open_schema(&g, own, schema, &err), OL_OK);
			(void)walk(g, t, size, true, &seed, 40, 40, &text);
			ol_grammar_close(g);
			json_decref(schema);
		}
		ol_grammar_vocab_close(own);
		ol_tokenizer_close(t);
	}
	ol_buf_release(&text);
}

/* Without a token for every byte there is no JSON; choices need only what they hold. */
static void test_missing_bytes(void **state)
{
	static const struct {
		const char *choices;
		enum ol_status status;
	} cases[] = {{"[\"a\",\"b\"]", OL_OK}, {"[\"a\",\"}\"]", OL_ERR_UNSUPPORTED}};
	struct ol_tokenizer *t = open_family("unknown");
	struct ol_grammar_vocab *v = NULL;
	struct ol_grammar *g = NULL;
	struct ol_error err;
	(void)state;
	assert_int_equal(ol_grammar_vocab_open(&v, t, ol_tokenizer_vocab_size(t), NULL, 0, 0, &err),
			 OL_OK);
	assert_int_equal(ol_grammar_open_json(&g, v, &err), OL_ERR_UNSUPPORTED);
	assert_null(g);
	assert_non_null(strstr(err.text, "none for 0x"));
	for (size_t i = 0; i < OL_ARRAY_LEN(cases); i++) {
		json_t *choices = parse(cases[i].choices);
		assert_int_equal(ol_grammar_open_choice(&g, v, choices, &err), cases[i].status);
		ol_grammar_close(g);
		json_decref(choices);
	}
	ol_grammar_vocab_close(v);
	ol_tokenizer_close(t);
}

/* Masks do not depend on what the cache could hold; it keeps to its budget. */
static void test_cache_changes_nothing(void **state)
{
	enum { STEPS = 60 };
	struct ol_grammar_vocab *small = open_vocab(tokenizer, 3000);
	struct ol_grammar_vocab_stats stats;
	ol_grammar_vocab_stats(vocab, &stats);
	const uint64_t before = stats.misses;
	json_t *schema = parse("{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"object\"},"
			       "{\"type\":\"string\",\"maxLength\":9},{\"type\":\"integer\"}]}}");
	uint64_t *a = calloc((size_t)vocab_size / 64 + 1, sizeof *a);
	uint64_t *b = calloc((size_t)vocab_size / 64 + 1, sizeof *b);
	uint32_t seed = 3;
	(void)state;
	for (int turn = 0; turn < 4; turn++) {
		struct ol_grammar *g[2];
		struct ol_grammar_state *s[2];
		struct ol_error err;
		assert_int_equal(ol_grammar_open_schema(&g[0], vocab, schema, &err), OL_OK);
		assert_int_equal(ol_grammar_open_schema(&g[1], small, schema, &err), OL_OK);
		assert_memory_equal(ol_grammar_id(g[0]), ol_grammar_id(g[1]), OL_GRAMMAR_ID_BYTES);
		s[0] = begin(g[0]);
		s[1] = begin(g[1]);
		for (int i = 0; i < STEPS && !ol_grammar_is_complete(s[0]); i++) {
			int32_t token = (int32_t)below(&seed, (uint32_t)vocab_size);
			assert_true(ol_grammar_mask(s[0], a));
			assert_true(ol_grammar_mask(s[1], b));
			assert_memory_equal(a, b, ((size_t)vocab_size + 63) / 64 * sizeof *a);
			while (token == EOS || !(a[token / 64] >> token % 64 & 1))
				token = (token + 1) % vocab_size;
			assert_true(ol_grammar_accept(s[0], token));
			assert_true(ol_grammar_accept(s[1], token));
		}
		for (int i = 0; i < 2; i++) {
			ol_grammar_state_close(s[i]);
			ol_grammar_close(g[i]);
		}
	}
	ol_grammar_vocab_stats(small, &stats);
	assert_true(stats.cache_bytes <= 3000);
	const uint64_t evicting = stats.misses;
	ol_grammar_vocab_stats(vocab, &stats);
	assert_true(stats.misses - before < evicting);
	ol_grammar_vocab_close(small);
	json_decref(schema);
	free(a);
	free(b);
}

/* The same schema again is the same grammar, with its masks; many others push it out; nothing of it
 * is lost to who holds it. */
static void test_grammars_are_kept(void **state)
{
	struct ol_grammar_vocab *own = open_vocab(tokenizer, 0);
	struct ol_grammar *first, *again, *other;
	struct ol_error err;
	json_t *schema = parse("{\"type\":\"array\"}"), *bad = parse("{\"not\":{}}");
	(void)state;
	assert_int_equal(ol_grammar_open_schema(&first, own, schema, &err), OL_OK);
	assert_int_equal(ol_grammar_open_schema(&again, own, schema, &err), OL_OK);
	assert_ptr_equal(first, again);
	ol_grammar_close(again);
	for (int i = 0; i < 2 * OL_GRAMMAR_KEPT_MAX; i++) {
		json_t *value = json_pack("{s:i}", "const", i);
		assert_int_equal(ol_grammar_open_schema(&other, own, value, &err), OL_OK);
		ol_grammar_close(other);
		assert_int_equal(ol_grammar_open_schema(&other, own, bad, &err),
				 OL_ERR_UNSUPPORTED);
		json_decref(value);
	}
	assert_int_equal(ol_grammar_open_schema(&again, own, schema, &err), OL_OK);
	assert_ptr_not_equal(first, again);
	ol_grammar_close(again);
	ol_grammar_vocab_close(own);
	assert_false(expect_text(first, "array", "[1, [true]]"));
	ol_grammar_close(first);
	json_decref(schema);
	json_decref(bad);
}

/* What may end an answer, and what may not. */
static void test_ends(void **state)
{
	struct ol_grammar *g = open_schema("{\"type\":\"integer\"}");
	uint64_t *mask = calloc((size_t)vocab_size / 64 + 1, sizeof *mask);
	(void)state;
	for (int allow = 0; allow < 2; allow++) {
		struct ol_grammar_state *s;
		assert_int_equal(ol_grammar_begin(&s, g, false, allow), OL_OK);
		assert_true(ol_grammar_mask(s, mask));
		assert_false(mask[0] & 1 << EOS);
		assert_false(ol_grammar_accept(s, EOS));
		assert_true(ol_grammar_accept(s, 1 + '7'));
		assert_true(ol_grammar_mask(s, mask));
		assert_int_equal(mask[0] & 1 << EOS, allow);
		assert_int_equal(ol_grammar_accept(s, EOS), allow);
		assert_true(ol_grammar_is_complete(s) && !ol_grammar_is_over(s));
		assert_false(ol_grammar_accept(s, -1));
		assert_false(ol_grammar_accept(s, vocab_size));
		ol_grammar_state_close(s);
	}
	ol_grammar_close(g);
	free(mask);
}

/* The space that opens a chat answer is no part of the text, and no text by itself. */
static void test_lead_space(void **state)
{
	struct ol_grammar *g = open_schema("{\"type\":\"object\"}");
	const int32_t space_brace = ol_tokenizer_find(tokenizer, " {");
	(void)state;
	assert_true(space_brace > 0);
	for (int strip = 0; strip < 2; strip++) {
		struct ol_grammar_state *s;
		assert_int_equal(ol_grammar_begin(&s, g, strip, true), OL_OK);
		assert_false(ol_grammar_accept(s, 1 + ' '));
		assert_int_equal(ol_grammar_accept(s, space_brace), strip);
		assert_int_equal(ol_grammar_accept(s, 1 + '}'), strip);
		assert_int_equal(ol_grammar_is_over(s), strip);
		ol_grammar_state_close(s);
	}
	ol_grammar_close(g);
}

/* More readings side by side than are followed: what is left is still valid and still ends. */
static void test_many_readings(void **state)
{
	enum { BRANCHES = 40 };
	json_t *branches = json_array();
	struct ol_grammar *g;
	struct ol_error err;
	struct ol_buf text;
	uint32_t seed = 5;
	int ended = 0;
	(void)state;
	for (int i = 0; i < BRANCHES; i++) {
		char pattern[32];
		snprintf(pattern, sizeof pattern, "^a{%d}b?$", i + 1);
		json_array_append_new(
			branches, json_pack("{s:s, s:s}", "type", "string", "pattern", pattern));
	}
	json_t *schema = json_pack("{s:o}", "anyOf", branches);
	assert_int_equal(ol_grammar_open_schema(&g, vocab, schema, &err), OL_OK);
	ol_buf_init(&text, 4096);
	for (int turn = 0; turn < 20; turn++)
		ended += walk(g, tokenizer, vocab_size, false, &seed, 60, 0, &text);
	assert_int_equal(ended, 20);
	ol_buf_release(&text);
	ol_grammar_close(g);
	json_decref(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_masks_of_rows),
		cmocka_unit_test(test_masks_of_families),
		cmocka_unit_test(test_missing_bytes),
		cmocka_unit_test(test_cache_changes_nothing),
		cmocka_unit_test(test_grammars_are_kept),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_lead_space),
		cmocka_unit_test(test_many_readings),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
