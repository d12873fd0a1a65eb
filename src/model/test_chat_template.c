/* Rows that read as a specification of the template language, of who wrote which byte, of every
 * refusal with its place, and of the limits. In an expected text «…» stands around the input's.
 *
 * All expected texts are those of Python's jinja2 in the configuration of transformers. */
#include "base/file.h"
#include "model/chat_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 1719835384 }; /* Monday 2024-07-01 12:03:04 UTC */

static json_t *parse_json(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_ALLOW_NUL, &error);
	if (!json)
		fail_msg("%s in the test's own JSON %s", error.text, text);
	return json;
}

/* Renders; a failure leaves its sentence in text. */
static enum ol_status render(struct ol_buf *text, struct ol_spans *spans, const char *source,
			     const json_t *variables, const json_t *trusted)
{
	struct ol_template *tpl;
	struct ol_error err = {0};
	enum ol_status s = ol_template_open(&tpl, source, strlen(source), "t", &err);
	if (s == OL_OK) {
		s = ol_template_render(tpl, text, spans, variables, trusted, NOW, &err);
		ol_template_close(tpl);
	}
	if (s != OL_OK) {
		assert_int_equal(text->size, 0);
		assert_int_equal(spans->count, 0);
		assert_int_equal(err.status, s);
		ol_buf_append_text(text, err.text);
	}
	return s;
}

/* The text with «» around its spans, after checking that they ascend and do not touch. */
static void show(struct ol_buf *shown, const struct ol_buf *text, const struct ol_spans *spans)
{
	size_t at = 0;
	for (size_t i = 0; i < spans->count; i++) {
		const struct ol_text_span span = spans->spans[i];
		assert_true(span.begin < span.end && span.end <= text->size);
		assert_true(i == 0 || spans->spans[i - 1].end < span.begin);
		ol_buf_append(shown, text->data + at, span.begin - at);
		ol_buf_append_text(shown, "«");
		ol_buf_append(shown, text->data + span.begin, span.end - span.begin);
		ol_buf_append_text(shown, "»");
		at = span.end;
	}
	ol_buf_append(shown, text->data + at, text->size - at);
}

static void expect_shown(const char *source, const char *variables, const char *expected)
{
	struct ol_buf text, shown;
	struct ol_spans spans = {0};
	json_t *v = parse_json(variables),
	       *trusted = parse_json("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
	ol_buf_init(&text, OL_TEMPLATE_OUTPUT_MAX);
	ol_buf_init(&shown, OL_TEMPLATE_OUTPUT_MAX);
	const enum ol_status s = render(&text, &spans, source, v, trusted);
	if (s != OL_OK)
		fail_msg("%s: %s", source, text.data);
	show(&shown, &text, &spans);
	if (strcmp(shown.data ? shown.data : "", expected) != 0)
		fail_msg("%s\n gives    %s\n expected %s", source, shown.data, expected);
	ol_buf_release(&text);
	ol_buf_release(&shown);
	ol_spans_release(&spans);
	json_decref(v);
	json_decref(trusted);
}

static void expect_failure(const char *source, const char *variables, enum ol_status status,
			   const char *sentence)
{
	struct ol_buf text;
	struct ol_spans spans = {0};
	json_t *v = parse_json(variables);
	ol_buf_init(&text, OL_TEMPLATE_OUTPUT_MAX);
	const enum ol_status s = render(&text, &spans, source, v, NULL);
	if (s == OL_OK)
		fail_msg("%s is not refused but gives %s", source, text.data);
	if (strncmp(text.data, sentence, strlen(sentence)) != 0)
		fail_msg("%s\n is refused with %s\n expected        %s", source, text.data,
			 sentence);
	assert_int_equal(s, status);
	ol_buf_release(&text);
	ol_spans_release(&spans);
	json_decref(v);
}

/* ---- the language ---------------------------------------------------------------------------- */

struct row {
	const char *source, *expected;
};

static const char common_variables[] =
	"{\"s\": \"  Hi\", \"n\": 5, \"none_\": null, \"l\": [3, 1, 2], \"d\": {\"b\": 1, "
	"\"a\": [true]},"
	" \"ms\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", "
	"\"content\": \"a\"}]}";

static void expect_rows(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		expect_shown(rows[i].source, common_variables, rows[i].expected);
}

static void text_and_white_space(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"", ""},
		{"plain\n", "plain"}, /* one newline at the end goes */
		{"plain\n\n", "plain\n"},
		{"a\r\nb\rc", "a\nb\nc"},
		{"a{# comment {{ x }} #}b", "ab"},
		{"{% if true %}\nx\n{% endif %}\ny", "x\ny"}, /* the newline after a block goes */
		{"  {% if true %}x\n  {% endif %}y", "x\ny"}, /* and the white space before it */
		{"a  {% if true %}x{% endif %}", "a  x"},     /* but only at the start of a line */
		{"  {%+ if true %}x{% endif +%}\n.", "  x\n."}, /* + keeps both */
		{" \n {%- if true -%} \n x \n {%- endif -%} \n y", "xy"},
		{" {{- 1 -}} \n 2", "12"},
		{" {{ 1 }}\n2", " 1\n2"}, /* an expression trims nothing */
		{"  {# c #}\nx", "x"},
		{"x\n  {#- c -#}  \ny", "xy"},
		{"{% raw %}{{ x }}{% if %}{% endraw %}", "{{ x }}{% if %}"},
		{"a {%- raw -%} {{ }} {%- endraw -%} b", "a{{ }}b"},
		{"{{ {'a': {}} }}", "{'a': {}}"},
		{"{{ '}}' }}{{ '%}' }}", "}}%}"},
	};
	expect_rows(rows, OL_ARRAY_LEN(rows));
}

static void expressions(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 3 }}",
		 "3 -4 2 -2 3.5 2.0"},
		{"{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** -1 }}", "64 4 0.5"},
		{"{{ 1 ~ 2 * 3 }} {{ 'x' ~ 1 + 'y' }}", "16 x1y"},
		{"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }}",
		 "True False True True"},
		{"{{ 'b' in 'abc' }} {{ 4 not in [4] }} {{ not 'x' in ['x'] }}",
		 "True False False"},
		{"{{ 0 or '' or 'x' }} {{ 1 and 0 }} {{ not [] }}", "x 0 True"},
		{"{{ 'a' if false }}|{{ 'a' if false else 'b' if false else 'c' }}", "|c"},
		{"{{ 'a' 'b' \"c\" }} {{ 'x\\ty\\u00e9\\x41\\'' }}", "abc x\tyéA'"},
		{"{{ 0x1f }} {{ 0b11 }} {{ 0o17 }} {{ 1_000 }} {{ 1.5e3 }} {{ 1e16 }}",
		 "31 3 15 1000 1500.0 1e+16"},
		{"{{ [1, 'a', none, true, 1.0, (1,), {'k': 'it\\'s'}] }}",
		 "[1, 'a', None, True, 1.0, (1,), {'k': \"it's\"}]"},
		{"{{ 'ab' * 2 }}{{ [1] + [2] }}{{ (1, 2)[-1] }}", "abab[1, 2]2"},
		{"{{ 'héllo'[1:4] }} {{ 'héllo'[::-1] }} {{ 'abcdef'[4:1:-2] }} {{ [1, 2, "
		 "3][-2:] }}",
		 "éll olléh ec [2, 3]"},
		{"{{ -5 | abs }} {{ (-5) | abs }} {{ 2 ** 2 is even }}", "5 5 2"},
		{"{{ nothing }}|{{ ms[0].nothing }}|{{ ms[9] }}|{{ nothing ~ 1 }}", "|||1"},
		{"{{ 'x' is string }} {{ 1 is number and 1 is not string }} {{ nothing is "
		 "defined }}",
		 "True True False"},
		{"{{ {'items': 1}['items'] }} {{ {'items': 1}.items is callable }}", "1 True"},
	};
	expect_rows(rows, OL_ARRAY_LEN(rows));
}

static void statements(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"{% set a, (b, c) = 1, 'xy' %}{{ a }}{{ b }}{{ c }}", "1xy"},
		{"{% set a | upper %} b{{ 1 }} {% endset %}[{{ a }}]", "[ B1 ]"},
		{"{% set v = 1 %}{% for i in [1, 2] %}{{ v }}{% set v = i + 5 %}{{ v }} {% "
		 "endfor %}{{ v }}",
		 "16 17 1"},
		{"{% set v = 1 %}{% if true %}{% set v = 2 %}{% endif %}{{ v }}", "2"},
		{"{% set ns = namespace(v=1) %}{% for i in [1, 2] %}{% set ns.v = ns.v + i %}{% "
		 "endfor %}{{ ns.v }}",
		 "4"},
		{"{% for i in [1, 2, 3] if i != 2 %}{{ i }}/{{ loop.index }}/{{ loop.length }} "
		 "{% endfor %}",
		 "1/1/2 3/2/2 "},
		{"{% for i in 'ab' %}{{ loop.previtem }}{{ i }}{{ loop.nextitem }},{% endfor %}",
		 "ab,ab,"},
		{"{% for i in [1, 2] %}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ "
		 "loop.cycle('x', 'y') }} {% endfor %}",
		 "TrueFalse2x FalseTrue1y "},
		{"{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{% for k in {'z': "
		 "1} %}{{ k }}{% endfor %}",
		 "a1z"},
		{"{% for i in nothing %}{% else %}none{% endfor %}", "none"},
		{"{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% "
		 "endfor %}",
		 "13"},
		{"{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
		 "1"},
		{"{% if 0 %}a{% elif '' %}b{% elif 1 %}c{% else %}d{% endif %}", "c"},
		{"{% macro m(a, b='x' ~ a) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, "
		 "b=2) }}",
		 "[1x1][12]"},
		{"{% macro m() %}<{{ caller(2) }}>{% endmacro %}{% call(x) m() %}{{ x }}!{% "
		 "endcall %}",
		 "<2!>"},
		{"{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, k=2) }}",
		 "(1,){'k': 2}"},
		{"{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ "
		 "f(3) }}",
		 "3210"},
		{"{% filter upper | trim %} ab {% endfilter %}", "AB"},
		{"{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "211"},
		{"{% generation %}said{% set x = 1 %}{% endgeneration %}{{ x is defined }}",
		 "saidFalse"},
		{"{{ strftime_now('%d %b %Y, %A %H:%M:%S %-d') }}",
		 "01 Jul 2024, Monday 12:03:04 1"},
		{"{{ range(3) | list }}{{ range(5, 0, -2) | list }}{{ dict(a=1) }}",
		 "[0, 1, 2][5, 3, 1]{'a': 1}"},
	};
	expect_rows(rows, OL_ARRAY_LEN(rows));
}

static void filters_and_methods(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"{{ {'b': [1, {}], 'a': 'é\"\\n'} | tojson }}",
		 "{\"b\": [1, {}], \"a\": \"é\\\"\\n\"}"},
		{"{{ {'b': [1, []]} | tojson(indent=2) }}",
		 "{\n  \"b\": [\n    1,\n    []\n  ]\n}"},
		{"{{ {'b': 1, 'a': 'é'} | tojson(separators=(',', ':'), sort_keys=true, "
		 "ensure_ascii=true) }}",
		 "{\"a\":\"\\u00e9\",\"b\":1}"},
		{"{{ ' a ' | trim }}{{ 'ß ﬁ' | upper }}{{ 'ΑΣ' | lower }}{{ 'a-b c' | title "
		 "}}{{ 'ab' | capitalize }}",
		 "aSS FIαςA-B CAb"},
		{"{{ [{'a': 1}, {}] | map(attribute='a', default=0) | list }}{{ ['x'] | "
		 "map('upper') | join }}",
		 "[1, 0]X"},
		{"{{ [{'r': 'u'}, {'r': 'v'}] | selectattr('r', 'equalto', 'v') | list | length }}",
		 "1"},
		{"{{ [1, 2, 3] | select('odd') | list }}{{ [1, 2, 3] | reject('odd') | list "
		 "}}{{ [0, 1] | select | list }}",
		 "[1, 3][2][1]"},
		{"{{ ['b', 'A', 'c'] | sort }}{{ [3, 1] | sort(reverse=true) }}{{ {'b': 1, 'a': "
		 "2} | dictsort }}",
		 "['A', 'b', 'c'][3, 1][('a', 2), ('b', 1)]"},
		{"{{ [1, 1, 2] | unique | list }}{{ [1, 2] | sum }}{{ [2, 1] | min }}{{ [2, 1] "
		 "| max }}",
		 "[1, 2]312"},
		{"{{ nothing | default('d') }}{{ '' | default('d', true) }}{{ '' | default('d') }}",
		 "dd"},
		{"{{ 'a\\nb\\n\\nc' | indent(2) }}", "a\n  b\n\n  c"},
		{"{{ '12' | int + 1 }}{{ '1.5' | float }}{{ 'x' | int(9) }}{{ 2.5 | round }}{{ "
		 "42.55 | round(1, 'floor') }}",
		 "131.592.042.5"},
		{"{{ 'abc' | reverse }}{{ [1, 2] | reverse | list }}{{ 'abc' | first }}{{ [1, "
		 "2] | last }}",
		 "cba[2, 1]a2"},
		{"{{ '<&>' | escape }}{{ '%s=%d' | format('a', 1) }}{{ '%s' % 'x' }}{{ "
		 "'{}{n}'.format(1, n=2) }}",
		 "&lt;&amp;&gt;a=1x12"},
		{"{{ ' a  b '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}",
		 "['a', 'b']['a', 'b,c']['a,b', 'c']"},
		{"{{ 'xxaxx'.strip('x') }}{{ 'aab'.lstrip('a') }}{{ 'baa'.rstrip('a') }}{{ "
		 "'aXb'.replace('X', '--') }}",
		 "abba--b"},
		{"{{ 'ab'.startswith('a') }}{{ 'ab'.endswith(('x', 'b')) }}{{ 'abcb'.find('b') "
		 "}}{{ 'abcb'.rfind('b') }}",
		 "TrueTrue13"},
		{"{{ {'a': 1}.get('b', 2) }}{{ {'a': 1}.keys() | list }}{{ {'a': 1}.values() | "
		 "list }}",
		 "2['a'][1]"},
		{"{% if [] | select %}a generator is always true{% endif %}",
		 "a generator is always true"},
	};
	expect_rows(rows, OL_ARRAY_LEN(rows));
}

/* ---- who wrote it ---------------------------------------------------------------------------- */

static void what_came_from_the_input_is_marked(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"{{ bos_token }}{{ s }}{{ eos_token }}",
		 "<s>«  Hi»</s>"},                                /* trusted is not input */
		{"{{ '<|' + ms[0].role + '|>' }}", "<|«user»|>"}, /* a role is the user's word */
		{"{{ s | trim }}{{ s.upper() }}{{ s[::-1] }}{{ s[3:] }}", "«Hi  HIiH  i»"},
		{"{{ 'a' ~ s ~ 'b' }}{{ ('a' + s) * 2 }}", "a«  Hi»ba«  Hi»a«  Hi»"},
		{"{{ (s + '<x>').replace('i', '<y>') }}",
		 "«  H»<y><x>"}, /* what is put in keeps its author */
		{"{{ '<x>'.replace('x', s) }}", "<«  Hi»>"},
		{"{{ ('<a>,' ~ s ~ ',<b>').split(',') | join('+') }}", "<a>+«  Hi»+<b>"},
		{"{{ 'x'.join(s) }}", "« »x« »x«H»x«i»"},
		{"{{ ms | map(attribute='content') | join('<sep>') }}", "«q»<sep>«a»"},
		{"{{ d | tojson }}", "«{\"b\": 1, \"a\": [true]}»"}, /* its punctuation, too */
		{"{{ d | tojson(indent=1) }}", "«{\n \"b\": 1,\n \"a\": [\n  true\n ]\n}»"},
		{"{{ {'k': s} | tojson }}", "{\"k\": «\"  Hi\"»}"}, /* but not the author's */
		{"{{ [s, 'x'] }}", "[«'  Hi'», 'x']"},
		{"{{ n }}{{ n + 1 }}{{ none_ }}{{ n | string }}", "«56None5»"},
		{"{{ ms | length }}{{ loop }}{{ n == 5 }}",
		 "2True"}, /* counts and answers are not */
		{"{% for m in ms %}{{ loop.index }}{{ m.content }}{% endfor %}", "1«q»2«a»"},
		{"{% for k, v in d.items() %}{{ k }}{% endfor %}", "«ba»"},
		{"{% set x %}<{{ s }}>{% endset %}{{ x }}{{ x | upper }}{{ x[1:] }}",
		 "<«  Hi»><«  HI»>«  Hi»>"},
		{"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(s) }}{{ m('x') }}", "<«  Hi»><x>"},
		{"{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}{{ s }}!{% endcall %}",
		 "[«  Hi»!]"},
		{"{% filter replace('H', '<h>') %}H{{ s }}{% endfilter %}", "<h>«  »<h>«i»"},
		{"{% set ns = namespace(t='') %}{% for m in ms %}{% set ns.t = ns.t + m.content "
		 "+ ';' %}{% endfor %}{{ ns.t }}",
		 "«q»;«a»;"},
		{"{{ '%s|%d' | format(s, n) }}{{ '{}-{}'.format(s, 'x') }}", "«  Hi»|«5  Hi»-x"},
		{"{{ s | indent(2, true) }}{{ s | escape }}", "  «  Hi  Hi»"},
		/* chosen by the input, not written by it */
		{"{{ 'user' if ms[0].role == 'user' else 'x' }}", "user"},
		{"{{ {'user': '<|u|>'}[ms[0].role] }}", "<|u|>"},
		{"{{ (s ~ 'x') | tojson }}{{ ('x' ~ s) | title }}", "\"«  Hi»x\"X«  Hi»"},
		{"{{ [s, '<|x|>'] | sort | last }}{{ [s] | first }}", "<|x|>«  Hi»"},
		{"{{ s.split('H') }}", "[«'  '», «'i'»]"},
		{"{{ strftime_now('%Y') }}{{ strftime_now(s) }}", "2024«  Hi»"},
		{"{{ dict(d, k='v') | tojson }}", "«{\"b\": 1, \"a\": [true], »\"k\"«: »\"v\"«}»"},
	};
	expect_rows(rows, OL_ARRAY_LEN(rows));
}

/* A word of the input that a template cannot mistake for white space or syntax: special tokens and
 * letters that no template here writes. twin gets '^' for every byte of a token. */
static void random_words(char *text, char *twin, size_t room, uint32_t *seed)
{
	static const char *const words[] = {
		"<|im_start|>",    "<|im_end|>", "</s>",    "[INST]",   "[/INST]", "<<SYS>>",
		"<start_of_turn>", "<|eot_id|>", "{{ x }}", "{% if %}", "{#",      "<s>"};
	size_t used = 0;
	const uint32_t count = (*seed >> 8) % 6;
	for (uint32_t i = 0; i < count && used + 32 < room; i++) {
		*seed = *seed * 1664525 + 1013904223;
		const char *word = words[(*seed >> 16) % OL_ARRAY_LEN(words)];
		const size_t size = strlen(word);
		memcpy(text + used, word, size);
		memset(twin + used, '^', size);
		used += size;
		if (*seed & 1 << 12) {
			memcpy(text + used, "Жы", 4);
			memcpy(twin + used, "Жы", 4);
			used += 4;
		}
	}
	text[used] = twin[used] = '\0';
}

/* Two conversations that differ only in what their special tokens look like. */
static void random_conversation(json_t *variables[2], uint32_t *seed)
{
	static const char *const roles[] = {"system", "user",      "assistant",
					    "user",   "assistant", "tool"};
	char text[2][256];
	json_t *messages[2] = {json_array(), json_array()};
	const uint32_t count = 1 + (*seed >> 20) % 6;
	for (uint32_t i = 0; i < count; i++) {
		const char *role = roles[(*seed >> 9) % OL_ARRAY_LEN(roles)];
		random_words(text[0], text[1], sizeof text[0], seed);
		for (int k = 0; k < 2; k++)
			json_array_append_new(messages[k],
					      json_pack("{s:s, s:s, s:{s:[s, i]}}", "role",
							*seed & 1 << 15 ? role : text[k], "content",
							text[k], "extra", text[k], text[k], 5));
	}
	for (int k = 0; k < 2; k++)
		variables[k] = json_pack("{s:o, s:b}", "messages", messages[k],
					 "add_generation_prompt", 1);
}

static const char *const marking_templates[] = {
	"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% "
	"endfor %}",
	"{% for m in messages %}{{ '<s>[INST] ' + m['content'].strip() ~ ' [/INST]' }}{{ m | "
	"tojson(indent=2) }}"
	"{% endfor %}",
	"{% set ns = namespace(t='<s>') %}{% for m in messages[::-1] %}{% set ns.t = ns.t ~ "
	"m.role.upper() ~ "
	"'</s>' %}{% endfor %}{{ ns.t }}{{ ns.t[::-1] }}{{ ns.t | replace('S', '<eos>') | title }}",
	"{% macro turn(m, tag='<u>') %}{{ tag }}{% for k, v in m.items() %}{{ k }}={{ v }};{% "
	"endfor %}"
	"{% endmacro %}{% for m in messages %}{% filter trim %} {{ turn(m) }} {% endfilter %}{% "
	"endfor %}",
	"{% set all %}{% for m in messages %}{{ m.content }}\n{% endfor %}{% endset %}{{ all | "
	"indent(3) }}"
	"{{ all.split('\\n') | map('reverse') | join('<sep>') }}{{ messages | "
	"map(attribute='role') | list }}"
	"{{ messages | sort(attribute='content') | map(attribute='content') | join('|') | "
	"escape }}",
	"{{ '%s<%s>' % (messages[0].content, messages | length) }}{{ "
	"'{}</s>{}'.format(messages[0].role, bos_token) }}"
	"{{ (messages[0].content * 3)[1:-1:2] }}{{ messages[-1].content.partition('[') | tojson }}",
};

/* Bytes outside the spans are the author's: no letter of the input, and the same whatever the
 * input's tokens look like. Spans are the same, too: nothing is covered because of how it looks. */
static void no_byte_of_the_input_is_left_unmarked(void **state)
{
	(void)state;
	uint32_t seed = 20240701;
	json_t *trusted = parse_json("{\"bos_token\": \"<s>\"}");
	size_t covered = 0;
	for (int round = 0; round < 600; round++) {
		json_t *variables[2];
		struct ol_buf text[2], outside[2];
		struct ol_spans spans[2] = {{0}, {0}};
		seed = seed * 1664525 + 1013904223;
		random_conversation(variables, &seed);
		const char *source =
			marking_templates[(size_t)round % OL_ARRAY_LEN(marking_templates)];
		for (int k = 0; k < 2; k++) {
			ol_buf_init(&text[k], OL_TEMPLATE_OUTPUT_MAX);
			ol_buf_init(&outside[k], OL_TEMPLATE_OUTPUT_MAX);
			if (render(&text[k], &spans[k], source, variables[k], trusted) != OL_OK)
				fail_msg("%s: %s", source, text[k].data);
			size_t at = 0;
			for (size_t i = 0; i < spans[k].count; i++) {
				ol_buf_append(&outside[k], text[k].data + at,
					      spans[k].spans[i].begin - at);
				ol_buf_append_text(&outside[k], "\n#\n");
				at = spans[k].spans[i].end;
				covered += at - spans[k].spans[i].begin;
			}
			ol_buf_append(&outside[k], text[k].data + at, text[k].size - at);
			for (size_t i = 0; i < outside[k].size; i++)
				if (outside[k].data[i] == '^' ||
				    (unsigned char)outside[k].data[i] >= 0x80)
					fail_msg("%s leaves input unmarked in %s", source,
						 text[k].data);
		}
		/* Sorting, quoting and trimming may look at the bytes; the author's words stay. */
		if (round % (int)OL_ARRAY_LEN(marking_templates) < 2)
			assert_string_equal(outside[0].data ? outside[0].data : "",
					    outside[1].data ? outside[1].data : "");
		for (int k = 0; k < 2; k++) {
			ol_buf_release(&text[k]);
			ol_buf_release(&outside[k]);
			ol_spans_release(&spans[k]);
			json_decref(variables[k]);
		}
	}
	assert_true(covered > 10000);
	json_decref(trusted);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void every_refusal_names_its_place(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"a\n{{ 1 +", "t:2:1: this {{ has no }}"},
		{"a\n  {% if true", "t:2:3: this {% has no %}"},
		{"{# x", "t:1:1: this comment has no #}"},
		{"{% raw %}x", "t:1:1: this raw block has no {% endraw %}"},
		{"{{ 'x }}", "t:1:4: this string is not closed"},
		{"{{ '\\x4' }}", "t:1:5: this escape stands for no character"},
		{"{{ '\\ud800' }}", "t:1:5: this escape stands for no character"},
		{"{{ 1 ? 2 }}", "t:1:6: this character has no meaning in an expression"},
		{"{{ (1] }}", "t:1:6: this bracket closes nothing"},
		{"{{ 007 }}", "t:1:4: a whole number does not begin with 0"},
		{"{{ 99999999999999999999 }}",
		 "t:1:4: this whole number does not fit into 64 bits"},
		{"{{ }}", "t:1:4: an expression was expected here, not }}"},
		{"{{ 1 2 }}", "t:1:6: }} was expected here, not a number"},
		{"{{ a | nope }}", "t:1:8: there is no filter 'nope'"},
		{"{{ a is nope }}", "t:1:9: there is no test 'nope'"},
		{"{% nope %}", "t:1:4: there is no statement 'nope' here"},
		{"{% endif %}", "t:1:4: there is no statement 'endif' here"},
		{"{% if 1 %}x", "t:1:11: this block is not closed: there is no {% endif %}"},
		{"{% for x of y %}", "t:1:10: 'in' was expected here, not 'of'"},
		{"{% for x in y recursive %}{% endfor %}",
		 "t:1:15: recursive loops are not supported"},
		{"{% set 1 = 2 %}", "t:1:8: only names can be assigned to here"},
		{"{% macro m(a=1, b) %}{% endmacro %}",
		 "t:1:17: a parameter without a default cannot follow"},
		{"{{ f(a=1, 2) }}", "t:1:11: arguments without a name come first in a call"},
		{"é{{ nope.x }}",
		 "t:1:9: an undefined value has no attribute 'x': 'nope' is undefined"},
		{"{{ nope() }}", "t:1:8: this cannot be called: 'nope' is undefined"},
		{"{{ 1 + 'a' }}", "t:1:6: + does not work between a int and a string"},
		{"{{ 1 / 0 }}", "t:1:6: / by zero"},
		{"{{ 9223372036854775807 + 1 }}",
		 "t:1:24: the result of + does not fit into 64 bits"},
		{"{{ 1 < 'a' }}", "t:1:6: < cannot compare a int with a string"},
		{"{% for i in 5 %}{% endfor %}", "t:1:13: a int cannot be walked through"},
		{"{% set a, b = 1, 2, 3 %}", "t:1:4: 3 values cannot be unpacked into 2 names"},
		{"{% set d.x = 1 %}", "t:1:9: only a namespace() has attributes that can be set"},
		{"{{ l.append(1) }}",
		 "t:1:12: this cannot be called: 'append' would change a list"},
		{"{{ nope | tojson }}",
		 "t:1:11: tojson cannot write an undefined value: 'nope' is undefined"},
		{"{{ range }}", "t:1:4: a function cannot be printed"},
		{"{{ 'a' | replace('b') }}", "t:1:10: the filter 'replace' needs 2 argument(s)"},
		{"{{ 'a' | upper(1) }}",
		 "t:1:10: the filter 'upper' takes at most 0 arguments, not 1"},
		{"{{ 'a' | indent(x=1) }}",
		 "t:1:10: the filter 'indent' has no use for the argument 'x'"},
		{"{% macro m() %}{% endmacro %}{{ m(1) }}",
		 "t:1:34: the macro takes at most 0 arguments, not 1"},
		{"{% break %}", "t:1:4: break and continue belong into a loop"},
		{"\n\n {{ raise_exception('Roles must alternate') }}",
		 "t:3:20: the template refuses this conversation: Roles must alternate"},
		{"{{ strftime_now('%Q') }}", "t:1:16: strftime_now does not know this conversion"},
		{"{{ {[]: 1} }}", "t:1:5: a list cannot be the key of a dict"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		expect_failure(rows[i].source, common_variables, OL_ERR_INPUT, rows[i].expected);
}

static char *repeated(const char *before, const char *word, size_t count, const char *after)
{
	struct ol_buf buf;
	ol_buf_init(&buf, SIZE_MAX / 2);
	ol_buf_append_text(&buf, before);
	for (size_t i = 0; i < count; i++)
		ol_buf_append_text(&buf, word);
	ol_buf_append_text(&buf, after);
	assert_false(buf.failed);
	return buf.data;
}

static void every_limit_holds(void **state)
{
	(void)state;
	static const struct {
		const char *before, *word;
		size_t count;
		const char *after, *sentence;
	} rows[] = {
		{"", "x", OL_TEMPLATE_SOURCE_MAX + 1, "",
		 "t: the chat template has 1048577 bytes; the limit is 1048576"},
		{"{{ ", "(", 100, "", "t:1:68: brackets are nested too deeply here"},
		{"{{ ", "not ", 100, "1 }}",
		 "t:1:260: blocks and expressions are nested more than 64 deep here"},
		{"{{ ", "-", 100, "1 }}",
		 "t:1:68: blocks and expressions are nested more than 64 deep here"},
		{"", "{% if 1 %}", 100, "",
		 "t:1:651: blocks and expressions are nested more than 64 deep here"},
		{"{{ 'a'", " | upper", 300, " }}",
		 "t:1:1602: this expression is more than 200 operations high"},
		{"{{ 1", " and 1", 300, " }}",
		 "t:1:1200: this expression is more than 200 operations high"},
		{"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "", 0, "",
		 "t:1:19: the evaluation is nested more than 500 deep"},
		{"{% set s = 'x' * 999999 %}{% for a in range(9999) %}{% if 'y' in s %}{% endif "
		 "%}{% endfor %}",
		 "", 0, "", "t:1:63: rendering takes more than 10000000 steps"},
		{"{{ ('x' * 1000) * 99999999 }}", "", 0, "",
		 "t:1:17: the template makes a text of more than 67108864 bytes"},
		{"{{ [1] * 9999999999 }}", "", 0, "",
		 "t:1:8: this list would have more than 10000000 items"},
		{"{{ range(100001) }}", "", 0, "", "t:1:9: range() is limited to 100000 items"},
		{"{% set ns = namespace(x='abcdefgh' * 100000) %}{% for i in range(99) %}{% set "
		 "ns.x = ns.x ~ ns.x %}"
		 "{% endfor %}",
		 "", 0, "", "t:1:86: the template makes a text of more than 67108864 bytes"},
		{"{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = ns.x + "
		 "range(999) | list %}"
		 "{% endfor %}",
		 "", 0, "", "t:1:76: rendering takes more than 268435456 bytes of memory"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char *source = repeated(rows[i].before, rows[i].word, rows[i].count, rows[i].after);
		const bool brackets = strncmp(rows[i].word, "(", 2) == 0;
		expect_failure(source, "{}", brackets ? OL_ERR_INPUT : OL_ERR_FULL,
			       rows[i].sentence);
		free(source);
	}
	/* And just below them all is well. */
	char *source = repeated("{{ 1", " + 1", 5000, " }}");
	expect_shown(source, "{}", "5001");
	free(source);
	source = repeated("{{ ", "(", 60, "7");
	char *whole = repeated(source, ")", 60, " }}");
	expect_shown(whole, "{}", "7");
	free(source);
	free(whole);
}

static void source_that_is_not_utf8_is_refused(void **state)
{
	(void)state;
	static const char *const sources[] = {"ab\xff", "ab\xc0\x80", "ab\xed\xa0\x80",
					      "ab\xe2\x82", "ab\xf4\x90\x80\x80"};
	for (size_t i = 0; i < OL_ARRAY_LEN(sources); i++)
		expect_failure(sources[i], "{}", OL_ERR_INPUT,
			       "t: byte 2 of the chat template is not UTF-8");
}

static void rendering_appends_to_the_text(void **state)
{
	(void)state;
	struct ol_template *tpl;
	struct ol_buf text;
	struct ol_spans spans = {0};
	json_t *variables = parse_json("{\"x\": \"in\"}");
	ol_buf_init(&text, 20);
	assert_int_equal(ol_template_open(&tpl, "<{{ x }}>", 9, "t", NULL), OL_OK);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ol_template_render(tpl, &text, &spans, variables, NULL, NOW, NULL),
				 OL_OK);
	assert_string_equal(text.data, "<in><in>");
	assert_int_equal(spans.count, 2);
	assert_int_equal(spans.spans[1].begin, 5);
	assert_int_equal(spans.spans[1].end, 7);
	ol_buf_release(&text);
	ol_spans_release(&spans);
	ol_template_close(tpl);
	json_decref(variables);
}

/* ---- golden files ---------------------------------------------------------------------------- */

static json_t *load_json(const char *folder, const char *name)
{
	char path[512];
	json_error_t error;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	json_t *json = json_load_file(path, JSON_ALLOW_NUL, &error);
	if (!json)
		fail_msg("%s: %s", path, error.text);
	return json;
}

/* Nobody but the input says EVIL: each one must lie in a span. */
static void expect_evil_marked(const char *name, const struct ol_buf *text,
			       const struct ol_spans *spans)
{
	for (const char *evil = text->data; (evil = strstr(evil, "EVIL")); evil++) {
		const size_t at = (size_t)(evil - text->data);
		bool marked = false;
		for (size_t i = 0; i < spans->count; i++)
			marked |= spans->spans[i].begin <= at && at + 4 <= spans->spans[i].end;
		if (!marked)
			fail_msg("%s: byte %zu of the input is not marked", name, at);
	}
}

static void expect_golden(const char *folder, const char *name, const json_t *row,
			  const json_t *plan)
{
	char family[64], conversation[64], setting[64], path[600];
	assert_int_equal(sscanf(name, "%63[^/]/%63[^/]/%63s", family, conversation, setting), 3);
	snprintf(path, sizeof path, "%s/%s.jinja", folder, family);
	struct ol_map source;
	struct ol_error err = {0};
	if (ol_map_open(&source, path, &err) != OL_OK)
		fail_msg("%s", err.text);
	struct ol_template *tpl;
	if (ol_template_open(&tpl, (const char *)source.data, source.size, path, &err) != OL_OK)
		fail_msg("%s", err.text);
	json_t *variables = json_copy(json_object_get(json_object_get(plan, "settings"), setting));
	json_object_set(variables, "messages",
			json_object_get(json_object_get(plan, "conversations"), conversation));
	struct ol_buf text;
	struct ol_spans spans = {0};
	ol_buf_init(&text, OL_TEMPLATE_OUTPUT_MAX);
	const enum ol_status s =
		ol_template_render(tpl, &text, &spans, variables, json_object_get(plan, "trusted"),
				   json_integer_value(json_object_get(plan, "now")), &err);
	const json_t *expected = json_object_get(row, "text");
	if (!expected && s == OL_OK)
		fail_msg("%s is not refused but gives %s", name, text.data);
	if (expected && s != OL_OK)
		fail_msg("%s: %s", name, err.text);
	if (expected &&
	    (text.size != json_string_length(expected) ||
	     memcmp(text.size ? text.data : "", json_string_value(expected), text.size) != 0))
		fail_msg("%s\n gives    %s\n expected %s", name, text.data,
			 json_string_value(expected));
	if (text.size)
		expect_evil_marked(name, &text, &spans);
	ol_buf_release(&text);
	ol_spans_release(&spans);
	json_decref(variables);
	ol_template_close(tpl);
	ol_map_close(&source);
}

/* Templates of ours that write the published formats; with OPENLEDGER_TEMPLATE_GOLDEN, those of
 * another folder of the same shape instead (the oracle's, of templates that models ship with). */
static void golden_files_render_as_python_renders_them(void **state)
{
	(void)state;
	const char *other = getenv("OPENLEDGER_TEMPLATE_GOLDEN");
	const char *folder = other ? other : OL_SOURCE_DIR "/tests/golden/chat_template";
	json_t *plan = load_json(folder, "conversations.json"),
	       *rows = load_json(folder, "expected.json");
	const char *name;
	json_t *row;
	assert_true(json_object_size(rows) >= 100);
	json_object_foreach(rows, name, row) expect_golden(folder, name, row, plan);
	printf("%zu renderings as in %s\n", json_object_size(rows), folder);
	json_decref(plan);
	json_decref(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_and_white_space),
		cmocka_unit_test(expressions),
		cmocka_unit_test(statements),
		cmocka_unit_test(filters_and_methods),
		cmocka_unit_test(what_came_from_the_input_is_marked),
		cmocka_unit_test(no_byte_of_the_input_is_left_unmarked),
		cmocka_unit_test(every_refusal_names_its_place),
		cmocka_unit_test(every_limit_holds),
		cmocka_unit_test(source_that_is_not_utf8_is_refused),
		cmocka_unit_test(rendering_appends_to_the_text),
		cmocka_unit_test(golden_files_render_as_python_renders_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
