/* Tokenizers out of GGUF metadata, and back into it. */
#include "base/bytes.h"
#include "model/export_internal.h"
#include "model/gguf_config.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER = 4, UNUSED = 5, BYTE = 6 };

struct piece {
	const char *text;
	int32_t type;
	float score;
};

#define SPACE "\xc4\xa0"     /* what a space is in byte-level BPE */
#define BLOCK "\xe2\x96\x81" /* and in SentencePiece               */

static const struct piece byte_level[] = {
	{"a", NORMAL, 0},       {"b", NORMAL, 0},      {"ab", NORMAL, 0},   {SPACE, NORMAL, 0},
	{SPACE "a", NORMAL, 0}, {"1", NORMAL, 0},      {"2", NORMAL, 0},    {"12", NORMAL, 0},
	{"121", NORMAL, 0},     {"<|s|>", CONTROL, 0}, {"<tool>", USER, 0}, {"[PAD11]", UNUSED, 0},
	{"2121", NORMAL, 0},
};
static const char *const merges[] = {"a b", SPACE " a", "1 2", "12 1", "2 121"};

static const struct piece sentencepiece[] = {
	{"<unk>", UNKNOWN, 0},    {"<s>", CONTROL, 0}, {"</s>", CONTROL, 0},
	{"<0x21>", BYTE, 0},      {BLOCK, NORMAL, -9}, {"a", NORMAL, -8},
	{"b", NORMAL, -7},        {"ab", NORMAL, -2},  {BLOCK "a", NORMAL, -1},
	{BLOCK "ab", NORMAL, -3},
};

/* A GGUF file with nothing but a tokenizer. */
struct file {
	struct ol_buf body, whole;
	uint64_t keys;
	struct ol_gguf gguf;
};

static void put_text(struct file *f, const char *key, const char *text)
{
	ol_gguf_put_string(&f->body, key, text, strlen(text));
	f->keys++;
}

static void put_pieces(struct file *f, const struct piece *pieces, size_t count)
{
	ol_gguf_put_array(&f->body, "tokenizer.ggml.tokens", OL_GGUF_STRING, count);
	for (size_t i = 0; i < count; i++)
		ol_gguf_put_item(&f->body, pieces[i].text, strlen(pieces[i].text));
	ol_gguf_put_array(&f->body, "tokenizer.ggml.token_type", OL_GGUF_I32, count);
	for (size_t i = 0; i < count; i++)
		ol_buf_append(&f->body, &pieces[i].type, 4);
	ol_gguf_put_array(&f->body, "tokenizer.ggml.scores", OL_GGUF_F32, count);
	for (size_t i = 0; i < count; i++)
		ol_buf_append(&f->body, &pieces[i].score, 4);
	f->keys += 3;
}

static void put_id(struct file *f, const char *key, uint32_t id)
{
	ol_gguf_put_u32(&f->body, key, id);
	f->keys++;
}

static void put_flag(struct file *f, const char *key, bool value)
{
	ol_gguf_put_bool(&f->body, key, value);
	f->keys++;
}

static void file_init(struct file *f)
{
	*f = (struct file){0};
	ol_buf_init(&f->body, 1 << 20);
	ol_buf_init(&f->whole, 1 << 20);
}

static void file_release(struct file *f)
{
	ol_gguf_release(&f->gguf);
	ol_buf_release(&f->body);
	ol_buf_release(&f->whole);
}

static void init_byte_level(struct file *f, const char *pre)
{
	file_init(f);
	put_text(f, "tokenizer.ggml.model", "gpt2");
	put_text(f, "tokenizer.ggml.pre", pre);
	put_pieces(f, byte_level, OL_ARRAY_LEN(byte_level));
	ol_gguf_put_array(&f->body, "tokenizer.ggml.merges", OL_GGUF_STRING, OL_ARRAY_LEN(merges));
	for (size_t i = 0; i < OL_ARRAY_LEN(merges); i++)
		ol_gguf_put_item(&f->body, merges[i], strlen(merges[i]));
	f->keys++;
	put_id(f, "tokenizer.ggml.bos_token_id", 9);
}

static void init_sentencepiece(struct file *f)
{
	file_init(f);
	put_text(f, "tokenizer.ggml.model", "llama");
	put_pieces(f, sentencepiece, OL_ARRAY_LEN(sentencepiece));
	put_id(f, "tokenizer.ggml.bos_token_id", 1);
}

static enum ol_status write_tokenizer(struct file *f, struct ol_buf *text, const char **name,
				      struct ol_error *err)
{
	ol_gguf_put_header(&f->whole, 0, f->keys);
	ol_buf_append(&f->whole, f->body.data, f->body.size);
	assert_int_equal(
		ol_gguf_read(&f->gguf, (const uint8_t *)f->whole.data, f->whole.size, "x", err),
		OL_OK);
	ol_buf_init(text, 1 << 20);
	return ol_gguf_tokenizer(text, name, &f->gguf, "x.gguf", err);
}

/* The ids of a text, as decimal numbers between spaces. */
static void expect_ids(struct file *f, const char *text, const char *expected)
{
	struct ol_buf json, ids;
	struct ol_error err = {0};
	struct ol_tokenizer *tokenizer = NULL;
	struct ol_tokens tokens = {0};
	const char *name = NULL;
	ol_buf_init(&ids, 4096);
	if (write_tokenizer(f, &json, &name, &err) != OL_OK ||
	    ol_tokenizer_open(&tokenizer, json.data, json.size, name, &err) != OL_OK ||
	    ol_tokenizer_encode(tokenizer, &tokens, text, strlen(text), OL_SPECIAL_PARSE, true,
				NULL, 0, &err) != OL_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < tokens.count; i++)
		ol_buf_printf(&ids, "%s%d", i ? " " : "", tokens.ids[i]);
	assert_string_equal(ids.data, expected);
	ol_tokens_release(&tokens);
	ol_tokenizer_close(tokenizer);
	ol_buf_release(&ids);
	ol_buf_release(&json);
	file_release(f);
}

/* One text, cut as each name says: "12121" is a word, single digits or groups of three. */
static const struct {
	const char *pre, *text, *expected;
} cuts[] = {
	{"gpt-2", "ab a<tool>12121", "2 4 10 7 8"},   /* one word: 12 121 */
	{"smollm", "ab a<|s|>1212", "2 4 9 5 6 5 6"}, /* every digit alone       */
	{"qwen2", "ab a<|s|>1212", "2 4 9 5 6 5 6"},  /* every digit alone       */
	{"llama-bpe", "ab a1212", "9 2 4 8 6"},       /* BOS, and 121 2          */
	{"default", "ab a1212", "2 4 8 6"},
};

static void test_pre_tokenizers(void **state)
{
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(cuts); i++) {
		struct file f;
		init_byte_level(&f, cuts[i].pre);
		expect_ids(&f, cuts[i].text, cuts[i].expected);
	}
}

/* Added tokens keep their ids where they follow the others, and where they stand among them. */
static void test_ids_of_added_tokens(void **state)
{
	(void)state;
	static const struct piece after[] = {{"a", NORMAL, 0},  {"b", NORMAL, 0},
					     {"ab", NORMAL, 0}, {"<|s|>", CONTROL, 0},
					     {"<t>", USER, 0},  {"[PAD5]", UNUSED, 0}};
	static const struct piece before[] = {{"<|s|>", CONTROL, 0}, {"<t>", USER, 0},
					      {"[PAD2]", UNUSED, 0}, {"a", NORMAL, 0},
					      {"b", NORMAL, 0},      {"ab", NORMAL, 0}};
	for (int i = 0; i < 2; i++) {
		struct file f;
		file_init(&f);
		put_text(&f, "tokenizer.ggml.model", "gpt2");
		put_text(&f, "tokenizer.ggml.pre", "qwen2");
		put_pieces(&f, i ? before : after, OL_ARRAY_LEN(after));
		ol_gguf_put_array(&f.body, "tokenizer.ggml.merges", OL_GGUF_STRING, 1);
		ol_gguf_put_item(&f.body, "a b", 3);
		f.keys++;
		expect_ids(&f, "ab<t>b<|s|>", i ? "5 1 4 0" : "2 4 1 3");
	}
}

static void test_bos_and_eos(void **state)
{
	(void)state;
	struct file f;
	init_byte_level(&f, "llama-bpe");
	put_flag(&f, "tokenizer.ggml.add_bos_token", false);
	expect_ids(&f, "ab", "2");
	init_byte_level(&f, "gpt-2");
	put_flag(&f, "tokenizer.ggml.add_bos_token", true);
	put_flag(&f, "tokenizer.ggml.add_eos_token", true);
	put_id(&f, "tokenizer.ggml.eos_token_id", 10);
	expect_ids(&f, "ab", "9 2 10");
}

static void test_sentencepiece(void **state)
{
	(void)state;
	struct file f;
	init_sentencepiece(&f);
	/* U+2581 a (-1) merges before a b (-2); "!" falls back to its byte. */
	expect_ids(&f, "ab!", "1 9 3");
	init_sentencepiece(&f);
	put_flag(&f, "tokenizer.ggml.add_bos_token", false);
	put_flag(&f, "tokenizer.ggml.add_space_prefix", false);
	expect_ids(&f, "ab a</s>", "7 8 2");
}

static void test_pre_names_go_both_ways(void **state)
{
	(void)state;
	assert_string_equal(ol_gguf_pre_name(NULL, false), "gpt-2");
	assert_string_equal(ol_gguf_pre_name(NULL, true), "smollm");
	assert_null(ol_gguf_pre_name("\\p{L}+", false));
	assert_string_equal(
		ol_gguf_pre_name(
			"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
			"?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
			false),
		"llama-bpe");
	assert_string_equal(
		ol_gguf_pre_name(
			"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
			"?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
			false),
		"qwen2");
}

static void expect_refusal(struct file *f, const char *message)
{
	struct ol_buf text;
	struct ol_error err = {0};
	const char *name;
	assert_int_not_equal(write_tokenizer(f, &text, &name, &err), OL_OK);
	if (!strstr(err.text, message) || !strstr(err.text, "x.gguf"))
		fail_msg("\"%s\", wanted \"%s\"", err.text, message);
	ol_buf_release(&text);
	file_release(f);
}

static void test_every_refusal(void **state)
{
	(void)state;
	struct file f;
	init_byte_level(&f, "tekken");
	expect_refusal(&f, "the pre-tokenizer \"tekken\" is not known");
	file_init(&f);
	put_text(&f, "tokenizer.ggml.model", "bert");
	expect_refusal(&f, "a tokenizer of the kind \"bert\" is not supported");
	file_init(&f);
	put_text(&f, "tokenizer.ggml.model", "llama");
	expect_refusal(&f, "tokenizer.ggml.tokens is no list of 1 to");
	file_init(&f);
	put_text(&f, "tokenizer.ggml.model", "gpt2");
	put_pieces(&f, byte_level, 3);
	expect_refusal(&f, "tokenizer.ggml.merges is no list of texts");
	init_sentencepiece(&f);
	put_id(&f, "tokenizer.ggml.eos_token_id", 10);
	expect_refusal(&f, "eos_token_id is no token");
	file_init(&f);
	put_text(&f, "tokenizer.ggml.model", "gpt2");
	put_pieces(&f, byte_level, 3);
	ol_gguf_put_array(&f.body, "tokenizer.ggml.merges", OL_GGUF_STRING, 1);
	ol_gguf_put_item(&f.body, "ab", 2);
	f.keys++;
	expect_refusal(&f, "tokenizer.ggml.merges: entry 0 is no pair");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pre_tokenizers),
		cmocka_unit_test(test_ids_of_added_tokens),
		cmocka_unit_test(test_bos_and_eos),
		cmocka_unit_test(test_sentencepiece),
		cmocka_unit_test(test_pre_names_go_both_ways),
		cmocka_unit_test(test_every_refusal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
