/* What a user writes never becomes a special token: chat template and tokenizer together.
 *
 * Every conversation is rendered and encoded twice: once with special tokens (whole, and in halves
 * that only make a token with what the template wrote beside them) in every field that a client
 * can fill, once with harmless words in their place. The special tokens of both prompts must be the
 * same ones in the same order: those of the template.
 *
 * A template that replaces a user's words by a special token of its own does write that token; so
 * templates here do nothing that depends on the words. */
#include "base/file.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct tokenizer_row {
	const char *name;
	const char *tokens[6]; /* of its added ones; the first opens, the second closes */
} tokenizers[] = {
	{"llama2", {"<s>", "</s>", "<unk>"}},
	{"llama3", {"<|begin_of_text|>", "<|eot_id|>", "<|eom|>"}},
	{"qwen2", {"<|im_start|>", "<|im_end|>", "<tool_call>"}},
	{"gemma", {"<s>", "<end_of_turn>", "<h1>", "</s>"}},
	{"mistral", {"[INST]", "[/INST]", "<s>", "</s>", "<unk>"}},
};

static const char *const templates[] = {
	"{{ bos_token }}{% for m in messages %}"
	"{{ open ~ m.role ~ '\n' ~ m.content | trim ~ close }}{% endfor %}",
	"{% for m in messages %}{{ open }}{{ m | tojson }}{{ close }}{{ m.content.upper() }}"
	"{{ open }}{% endfor %}",
	/* halves: a byte of each token is left to the user */
	"{% for m in messages %}{{ open[:-1] }}{{ m.content }}{{ close }}"
	"{{ open[:2] ~ m.content[2:] }}{{ m.content[:-1] ~ close[-1:] }}{% endfor %}{{ open }}",
	"{% set ns = namespace(all='') %}{% for m in messages[::-1] %}"
	"{% set ns.all = ns.all + open + m.content.replace('#', '') + close %}{% endfor %}"
	"{{ ns.all }}{{ messages | map(attribute='content') | join(close) }}"
	"{{ ns.all.split('qf') | join('-') }}",
	"{% macro turn(m) %}{{ open }}{{ m.role }}: {{ caller(m.content) }}{{ close }}"
	"{% endmacro %}{% for m in messages %}{% call(c) turn(m) %}{{ c | indent(2, true) }}"
	"{{ tools | tojson(indent=1) }}{% endcall %}{% filter replace('xyz', open) %}"
	"xyz{{ m.content[::-1][::-1] }}{% endfilter %}{% endfor %}",
};

/* The text of one field: tokens, broken tokens ('#' inside: a template takes it out) and words;
 * harmless: nothing of a token in it. */
static void make_field(struct ol_buf *out, const struct tokenizer_row *row, uint32_t seed,
		       bool harmless)
{
	ol_buf_clear(out);
	ol_buf_append_text(out, "f");
	for (int i = 0; i < 4; i++) {
		seed = seed * 1664525 + 1013904223;
		const char *token = row->tokens[(seed >> 24) % 3];
		const size_t size = strlen(token), cut = (seed >> 16) % 3;
		/* 1: without its first bytes; 2: without its last */
		const size_t begin = cut == 1 ? 2 : 0, end = cut == 2 ? size - 1 : size;
		if (harmless)
			ol_buf_append_text(out, "qq");
		else if (cut == 0 && seed & 1 << 12)
			ol_buf_printf(out, "%.1s#%s", token, token + 1);
		else
			ol_buf_append(out, token + begin, end - begin);
		ol_buf_append_text(out, seed & 1 << 10 ? " a" : "");
	}
}

static json_t *make_variables(const struct tokenizer_row *row, uint32_t seed, bool harmless)
{
	struct ol_buf field;
	json_t *messages = json_array();
	ol_buf_init(&field, 1 << 16);
	for (uint32_t i = 0; i < 1 + seed % 4; i++) {
		make_field(&field, row, seed + i, harmless);
		json_t *role = json_string(seed & 1 << 20 ? field.data : "user");
		make_field(&field, row, seed + 100 + i, harmless);
		json_array_append_new(messages,
				      json_pack("{s:o, s:s, s:s}", "role", role, "content",
						field.data, field.data, field.data));
	}
	json_t *tools = json_pack("[{s:s}]", field.data, field.data);
	ol_buf_release(&field);
	return json_pack("{s:o, s:o}", "messages", messages, "tools", tools);
}

/* The added tokens of a prompt, in order; marked: with the template's spans, or without them. */
static void added_tokens(struct ol_tokens *added, const struct ol_tokenizer *tokenizer,
			 const struct tokenizer_row *row, const char *source,
			 const json_t *variables, bool marked)
{
	struct ol_template *tpl;
	struct ol_error err;
	struct ol_buf text;
	struct ol_spans spans = {0};
	struct ol_tokens ids = {0};
	json_t *trusted = json_pack("{s:s, s:s, s:s}", "bos_token", row->tokens[0], "open",
				    row->tokens[0], "close", row->tokens[1]);
	ol_buf_init(&text, OL_TEMPLATE_OUTPUT_MAX);
	if (ol_template_open(&tpl, source, strlen(source), "t", &err) != OL_OK ||
	    ol_template_render(tpl, &text, &spans, variables, trusted, 0, &err) != OL_OK ||
	    ol_tokenizer_encode(tokenizer, &ids, text.data, text.size, OL_SPECIAL_PARSE, false,
				marked ? spans.spans : NULL, marked ? spans.count : 0,
				&err) != OL_OK)
		fail_msg("%s: %s", row->name, err.text);
	for (size_t i = 0; i < ids.count; i++)
		for (size_t k = 0; k < OL_ARRAY_LEN(row->tokens) && row->tokens[k]; k++)
			if (ids.ids[i] == ol_tokenizer_find(tokenizer, row->tokens[k]))
				assert_true(ol_tokens_push(added, ids.ids[i]));
	ol_tokens_release(&ids);
	ol_spans_release(&spans);
	ol_buf_release(&text);
	ol_template_close(tpl);
	json_decref(trusted);
}

static void only_the_template_writes_special_tokens(void **state)
{
	(void)state;
	size_t template_tokens = 0, attacks = 0;
	for (size_t t = 0; t < OL_ARRAY_LEN(tokenizers); t++) {
		const struct tokenizer_row *row = &tokenizers[t];
		char path[512];
		struct ol_map map;
		struct ol_error err;
		struct ol_tokenizer *tokenizer;
		snprintf(path, sizeof path, OL_SOURCE_DIR "/tests/golden/tokenizer/%s.json",
			 row->name);
		if (ol_map_open(&map, path, &err) != OL_OK ||
		    ol_tokenizer_open(&tokenizer, (const char *)map.data, map.size, path, &err) !=
			    OL_OK)
			fail_msg("%s", err.text);
		for (uint32_t round = 0; round < 40 * OL_ARRAY_LEN(templates); round++) {
			const char *source = templates[round % OL_ARRAY_LEN(templates)];
			const uint32_t seed = (round + 1) * 2654435761u;
			json_t *hostile = make_variables(row, seed, false);
			json_t *harmless = make_variables(row, seed, true);
			struct ol_tokens attacked = {0}, expected = {0}, open_door = {0};
			added_tokens(&attacked, tokenizer, row, source, hostile, true);
			added_tokens(&expected, tokenizer, row, source, harmless, true);
			added_tokens(&open_door, tokenizer, row, source, hostile, false);
			if (attacked.count != expected.count ||
			    memcmp(attacked.ids, expected.ids,
				   expected.count * sizeof *expected.ids) != 0)
				fail_msg(
					"%s, round %u: %zu special tokens, not the template's "
					 "%zu, of %s",
					row->name, round, attacked.count, expected.count, source);
			template_tokens += expected.count;
			attacks += open_door.count > expected.count;
			ol_tokens_release(&attacked);
			ol_tokens_release(&expected);
			ol_tokens_release(&open_door);
			json_decref(hostile);
			json_decref(harmless);
		}
		ol_tokenizer_close(tokenizer);
		ol_map_close(&map);
	}
	/* The test can fail: without the spans most of these conversations do forge tokens. */
	assert_true(template_tokens > 1000);
	assert_true(attacks > 800);
	printf("%zu of 1000 conversations would have forged a token without the spans\n", attacks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_template_writes_special_tokens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
