/* Template source to tokens, as jinja2 with trim_blocks and lstrip_blocks (transformers' settings):
 *
 *     {% … %}   a statement; the newline right after it goes, and so does white space between the
 *               start of the line and it
 *     {{ … }}   an expression to print
 *     {# … #}   a comment, trimmed as a statement is
 *     {%- -%}   strip all white space before, after; {%+ and +%} keep it
 *     {% raw %} text in which none of this holds {% endraw %}
 *
 * Inside brackets the closing tags are not looked for, so {{ {'a': {}} }} is one expression. */
#include "model/template_internal.h"
#include "model/unicode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX = 64 }; /* characters of a number literal */

static const struct {
	const char *spelling;
	const char *description; /* NULL: the spelling */
} token_names[TOKEN_KINDS] = {
	[TOKEN_END] = {NULL, "the end of the template"},
	[TOKEN_TEXT] = {NULL, "text"},
	[TOKEN_PRINT_BEGIN] = {NULL, "{{"},
	[TOKEN_PRINT_END] = {NULL, "}}"},
	[TOKEN_BLOCK_BEGIN] = {NULL, "{%"},
	[TOKEN_BLOCK_END] = {NULL, "%}"},
	[TOKEN_NAME] = {NULL, "a name"},
	[TOKEN_STRING] = {NULL, "a string"},
	[TOKEN_INT] = {NULL, "a number"},
	[TOKEN_FLOAT] = {NULL, "a number"},
	[TOKEN_FLOOR_DIV] = {"//", NULL},
	[TOKEN_POWER] = {"**", NULL},
	[TOKEN_EQ] = {"==", NULL},
	[TOKEN_NE] = {"!=", NULL},
	[TOKEN_GE] = {">=", NULL},
	[TOKEN_LE] = {"<=", NULL},
	[TOKEN_ADD] = {"+", NULL},
	[TOKEN_SUB] = {"-", NULL},
	[TOKEN_MUL] = {"*", NULL},
	[TOKEN_DIV] = {"/", NULL},
	[TOKEN_MOD] = {"%", NULL},
	[TOKEN_TILDE] = {"~", NULL},
	[TOKEN_GT] = {">", NULL},
	[TOKEN_LT] = {"<", NULL},
	[TOKEN_ASSIGN] = {"=", NULL},
	[TOKEN_DOT] = {".", NULL},
	[TOKEN_COLON] = {":", NULL},
	[TOKEN_PIPE] = {"|", NULL},
	[TOKEN_COMMA] = {",", NULL},
	[TOKEN_L_PAREN] = {"(", NULL},
	[TOKEN_R_PAREN] = {")", NULL},
	[TOKEN_L_BRACKET] = {"[", NULL},
	[TOKEN_R_BRACKET] = {"]", NULL},
	[TOKEN_L_BRACE] = {"{", NULL},
	[TOKEN_R_BRACE] = {"}", NULL},
};

const char *ol_tpl_token_name(enum ol_tpl_token_kind kind)
{
	return token_names[kind].spelling ? token_names[kind].spelling
					  : token_names[kind].description;
}

struct lexer {
	struct ol_tpl_tokens *tokens;
	struct ol_tpl_heap *heap;
	const struct ol_tpl_source *source;
	struct ol_error *err;
	size_t at;
	bool line_start; /* only trimmed newlines lie between here and the last tag */
};

static bool starts_with(const struct lexer *lexer, size_t at, const char *text)
{
	const size_t size = strlen(text);
	return size <= lexer->source->size - at &&
	       memcmp(lexer->source->bytes + at, text, size) == 0;
}

static enum ol_status fail(struct lexer *lexer, size_t at, const char *sentence)
{
	return ol_tpl_fail_at(lexer->err, OL_ERR_INPUT, lexer->source, at, "%s", sentence);
}

static enum ol_status push(struct lexer *lexer, struct ol_tpl_token token)
{
	struct ol_tpl_tokens *tokens = lexer->tokens;
	if (tokens->count == tokens->room) {
		const size_t room = OL_MAX(tokens->room * 2, (size_t)64);
		struct ol_tpl_token *items = ol_tpl_alloc(lexer->heap, room * sizeof *items);
		if (!items)
			return ol_tpl_fail_at(lexer->err, OL_ERR_FULL, lexer->source, token.at,
					      "the template has more tokens than fit into memory");
		if (tokens->count)
			memcpy(items, tokens->items, tokens->count * sizeof *items);
		tokens->items = items;
		tokens->room = room;
	}
	tokens->items[tokens->count++] = token;
	return OL_OK;
}

static enum ol_status push_tag(struct lexer *lexer, enum ol_tpl_token_kind kind, size_t at)
{
	return push(lexer, (struct ol_tpl_token){.kind = kind, .at = (uint32_t)at});
}

static struct ol_tpl_text source_text(const struct lexer *lexer)
{
	return (struct ol_tpl_text){.bytes = lexer->source->bytes, .size = lexer->source->size};
}

static void skip_space(struct lexer *lexer)
{
	const struct ol_tpl_text text = source_text(lexer);
	size_t at = lexer->at;
	while (at < text.size && ol_tpl_is_space(ol_tpl_next(text, &at)))
		lexer->at = at;
}

/* After a closing tag: its white-space control, then whether a line starts here. */
static void after_tag(struct lexer *lexer, bool strip, bool trim_newline)
{
	if (strip)
		skip_space(lexer);
	else if (trim_newline && starts_with(lexer, lexer->at, "\n"))
		lexer->at++;
	lexer->line_start = lexer->at > 0 && lexer->source->bytes[lexer->at - 1] == '\n';
}

/* "-%}", "+%}" or "%}" here? Moves behind it and its white space. */
static bool close_tag(struct lexer *lexer, const char *tag, bool trim_newline, bool plus)
{
	const char sign = lexer->at < lexer->source->size ? lexer->source->bytes[lexer->at] : '\0';
	const bool strip = sign == '-' && starts_with(lexer, lexer->at + 1, tag);
	const bool keep = plus && sign == '+' && starts_with(lexer, lexer->at + 1, tag);
	if (!strip && !keep && !starts_with(lexer, lexer->at, tag))
		return false;
	lexer->at += strlen(tag) + (strip || keep);
	after_tag(lexer, strip, trim_newline && !keep);
	return true;
}

/* Text from begin up to a tag at end, with the white space before the tag stripped by its sign. */
static enum ol_status push_text(struct lexer *lexer, size_t begin, size_t end, char sign,
				bool block)
{
	const char *bytes = lexer->source->bytes;
	const struct ol_tpl_text text = {.bytes = bytes + begin, .size = end - begin};
	if (sign == '-') {
		end = begin + ol_tpl_text_strip(text, NULL, STRIP_RIGHT).size;
	} else if (sign != '+' && block) {
		size_t line = end;
		while (line > begin && bytes[line - 1] != '\n')
			line--;
		const struct ol_tpl_text rest = {.bytes = bytes + line, .size = end - line};
		if ((line > begin || lexer->line_start) &&
		    ol_tpl_text_strip(rest, NULL, STRIP_LEFT).size == 0)
			end = line;
	}
	if (begin == end)
		return OL_OK;
	return push(lexer, (struct ol_tpl_token){.kind = TOKEN_TEXT,
						 .at = (uint32_t)begin,
						 .text = {bytes + begin, end - begin}});
}

/* "{%- raw" and the like at `at`; word is raw or endraw. Gives the offset of its closing tag. */
static bool is_raw_tag(struct lexer *lexer, size_t at, const char *word, size_t *close_out)
{
	if (!starts_with(lexer, at, "{%"))
		return false;
	const size_t saved = lexer->at;
	lexer->at = at + 2;
	if (starts_with(lexer, lexer->at, "-") || starts_with(lexer, lexer->at, "+"))
		lexer->at++;
	skip_space(lexer);
	bool is = starts_with(lexer, lexer->at, word);
	if (is) {
		lexer->at += strlen(word);
		skip_space(lexer);
		is = starts_with(lexer, lexer->at, "%}") || starts_with(lexer, lexer->at, "-%}") ||
		     starts_with(lexer, lexer->at, "+%}");
	}
	*close_out = lexer->at;
	lexer->at = saved;
	return is;
}

static enum ol_status lex_raw(struct lexer *lexer, size_t open, size_t close)
{
	lexer->at = close;
	if (!close_tag(lexer, "%}", false, false))
		return fail(lexer, close, "a raw block opens with {% raw %} or {%- raw -%}");
	const size_t begin = lexer->at;
	for (size_t at = begin; at < lexer->source->size; at++) {
		if (lexer->source->bytes[at] != '{' || !is_raw_tag(lexer, at, "endraw", &close))
			continue;
		const enum ol_status s =
			push_text(lexer, begin, at, lexer->source->bytes[at + 2], true);
		lexer->at = close;
		return s == OL_OK && !close_tag(lexer, "%}", true, true)
			       ? fail(lexer, close, "endraw is closed by %}")
			       : s;
	}
	return fail(lexer, open, "this raw block has no {% endraw %}");
}

static enum ol_status lex_comment(struct lexer *lexer, size_t open)
{
	for (; lexer->at < lexer->source->size; lexer->at++)
		if (close_tag(lexer, "#}", true, true))
			return OL_OK;
	return fail(lexer, open, "this comment has no #}");
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

static char peek(const struct lexer *lexer, size_t ahead)
{
	const size_t left = lexer->source->size - lexer->at;
	return ahead < left ? lexer->source->bytes[lexer->at + ahead] : '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits of a base with single underscores between them, into text without those. */
static size_t take_digits(struct lexer *lexer, char *text, size_t used, int base)
{
	while (used < NUMBER_MAX) {
		const char c = peek(lexer, 0);
		if (digit_value(c) < base)
			text[used++] = c;
		else if (c != '_' || digit_value(peek(lexer, 1)) >= base || used == 0)
			break;
		lexer->at++;
	}
	return used;
}

static enum ol_status lex_number(struct lexer *lexer)
{
	char text[NUMBER_MAX + 4] = {0};
	const size_t begin = lexer->at;
	struct ol_tpl_token token = {.kind = TOKEN_INT, .at = (uint32_t)begin};
	int base = 10;
	if (peek(lexer, 0) == '0' && peek(lexer, 1) && strchr("bBoOxX", peek(lexer, 1))) {
		base = strchr("bB", peek(lexer, 1)) ? 2 : strchr("oO", peek(lexer, 1)) ? 8 : 16;
		if (digit_value(peek(lexer, 2)) < base)
			lexer->at += 2;
		else
			base = 10;
	}
	size_t used = take_digits(lexer, text, 0, base);
	if (base == 10 && peek(lexer, 0) == '.' && is_digit(peek(lexer, 1))) {
		token.kind = TOKEN_FLOAT;
		lexer->at++;
		if (used < NUMBER_MAX)
			text[used++] = '.';
		used = take_digits(lexer, text, used, 10);
	}
	const bool sign = peek(lexer, 1) == '+' || peek(lexer, 1) == '-';
	if (base == 10 && (peek(lexer, 0) == 'e' || peek(lexer, 0) == 'E') &&
	    is_digit(peek(lexer, 1 + sign))) {
		token.kind = TOKEN_FLOAT;
		for (int i = 0; i < 1 + sign; i++, lexer->at++)
			if (used < NUMBER_MAX)
				text[used++] = peek(lexer, 0);
		used = take_digits(lexer, text, used, 10);
	}
	if (used >= NUMBER_MAX)
		return fail(lexer, begin, "this number has too many digits");
	if (token.kind == TOKEN_INT && base == 10 && used > 1 && text[0] == '0' &&
	    strspn(text, "0") != used)
		return fail(lexer, begin, "a whole number does not begin with 0");
	errno = 0;
	if (token.kind == TOKEN_FLOAT)
		token.number = strtod(text, NULL);
	else
		token.integer = strtoll(text, NULL, base);
	if (token.kind == TOKEN_INT && errno == ERANGE)
		return fail(lexer, begin, "this whole number does not fit into 64 bits");
	return push(lexer, token);
}

/* The digits of \x41, B, \U00000041 or \101: their count is fixed, but octal has up to 3. */
static bool take_code(const char **from, const char *end, int digits, int base, uint32_t *code)
{
	*code = 0;
	int taken = 0;
	for (; taken < digits && *from < end && digit_value(**from) < base; taken++)
		*code = *code * (uint32_t)base + (uint32_t)digit_value(*(*from)++);
	return base == 8 ? taken > 0 : taken == digits;
}

/* One escape after its backslash; NULL when it stands for no character. */
static const char *take_escape(const char *from, const char *end, char *out, size_t *used)
{
	static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
	for (size_t i = 0; i + 1 < sizeof plain; i += 2)
		if (*from == plain[i]) {
			out[(*used)++] = plain[i + 1];
			return from + 1;
		}
	if (*from == '\n')
		return from + 1;
	const char kind = *from;
	uint32_t code;
	bool ok;
	if (kind == 'x' || kind == 'u' || kind == 'U') {
		from++;
		ok = take_code(&from, end, kind == 'x' ? 2 : kind == 'u' ? 4 : 8, 16, &code);
	} else if (kind >= '0' && kind <= '7') {
		ok = take_code(&from, end, 3, 8, &code);
	} else if (kind == 'N') {
		return NULL;
	} else { /* an unknown escape stays as it is written */
		out[(*used)++] = '\\';
		return from;
	}
	if (!ok || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return NULL;
	*used += ol_utf8_put(out + *used, code);
	return from;
}

static enum ol_status lex_string(struct lexer *lexer)
{
	const char *bytes = lexer->source->bytes, quote = bytes[lexer->at];
	const size_t begin = lexer->at;
	size_t end = begin + 1;
	bool escapes = false;
	for (; end < lexer->source->size && bytes[end] != quote; end++)
		if (bytes[end] == '\\') {
			escapes = true;
			end++;
		}
	if (end >= lexer->source->size)
		return fail(lexer, begin, "this string is not closed");
	lexer->at = end + 1;
	struct ol_tpl_token token = {.kind = TOKEN_STRING,
				     .at = (uint32_t)begin,
				     .text = {bytes + begin + 1, end - begin - 1}};
	if (!escapes)
		return push(lexer, token);

	/* No escape is shorter than its character: \u0800, six bytes, is three. */
	char *out = ol_tpl_alloc(lexer->heap, end - begin + 4);
	if (!out)
		return ol_tpl_fail_at(lexer->err, OL_ERR_FULL, lexer->source, begin,
				      "the template's strings do not fit into memory");
	size_t used = 0;
	for (const char *from = bytes + begin + 1; from < bytes + end;) {
		if (*from != '\\') {
			out[used++] = *from++;
			continue;
		}
		const size_t at = (size_t)(from - bytes);
		from = take_escape(from + 1, bytes + end, out, &used);
		if (!from)
			return fail(lexer, at, "this escape stands for no character");
	}
	token.text = (struct ol_tpl_name){out, used};
	return push(lexer, token);
}

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
	       (unsigned char)c >= 0x80;
}

static enum ol_status lex_operator(struct lexer *lexer, char *closers, size_t *depth)
{
	for (int kind = TOKEN_FLOOR_DIV; kind < TOKEN_KINDS; kind++) {
		const char *spelling = token_names[kind].spelling;
		if (!starts_with(lexer, lexer->at, spelling))
			continue;
		const char *bracket = strchr("()[]{}", *spelling);
		if (bracket && strchr("([{", *bracket)) {
			if (*depth == OL_TEMPLATE_DEPTH_MAX)
				return fail(lexer, lexer->at,
					    "brackets are nested too deeply here");
			closers[(*depth)++] = bracket[1];
		} else if (bracket && (*depth == 0 || closers[--*depth] != *bracket)) {
			return fail(lexer, lexer->at, "this bracket closes nothing");
		}
		const size_t at = lexer->at;
		lexer->at += strlen(spelling);
		return push_tag(lexer, (enum ol_tpl_token_kind)kind, at);
	}
	return fail(lexer, lexer->at, "this character has no meaning in an expression");
}

/* The inside of {% %} or {{ }}, up to its closing tag. */
static enum ol_status lex_code(struct lexer *lexer, size_t open, bool block)
{
	char closers[OL_TEMPLATE_DEPTH_MAX];
	size_t depth = 0;
	enum ol_status s = push_tag(lexer, block ? TOKEN_BLOCK_BEGIN : TOKEN_PRINT_BEGIN, open);
	while (s == OL_OK) {
		skip_space(lexer);
		if (lexer->at >= lexer->source->size)
			return fail(lexer, open, block ? "this {% has no %}" : "this {{ has no }}");
		const size_t at = lexer->at;
		if (depth == 0 && close_tag(lexer, block ? "%}" : "}}", block, block))
			return push_tag(lexer, block ? TOKEN_BLOCK_END : TOKEN_PRINT_END, at);
		const char c = peek(lexer, 0);
		if (is_digit(c)) {
			s = lex_number(lexer);
		} else if (is_name_byte(c)) {
			while (lexer->at < lexer->source->size && is_name_byte(peek(lexer, 0)))
				lexer->at++;
			s = push(lexer, (struct ol_tpl_token){.kind = TOKEN_NAME,
							      .at = (uint32_t)at,
							      .text = {lexer->source->bytes + at,
								       lexer->at - at}});
		} else if (c == '\'' || c == '"') {
			s = lex_string(lexer);
		} else {
			s = lex_operator(lexer, closers, &depth);
		}
	}
	return s;
}

/* The next "{{", "{%" or "{#"; the end of the source when there is none. */
static size_t find_tag(const struct lexer *lexer)
{
	const struct ol_tpl_source *source = lexer->source;
	for (size_t at = lexer->at; at + 1 < source->size; at++)
		if (source->bytes[at] == '{' && strchr("{%#", source->bytes[at + 1]) &&
		    source->bytes[at + 1] != '\0')
			return at;
	return source->size;
}

enum ol_status ol_tpl_lex(struct ol_tpl_tokens *tokens_out, struct ol_tpl_heap *heap,
			  const struct ol_tpl_source *source, struct ol_error *err)
{
	*tokens_out = (struct ol_tpl_tokens){0};
	struct lexer lexer = {.tokens = tokens_out,
			      .heap = heap,
			      .source = source,
			      .err = err,
			      .line_start = true};
	enum ol_status s = OL_OK;
	while (s == OL_OK && lexer.at < source->size) {
		const size_t begin = lexer.at, open = find_tag(&lexer);
		if (open == source->size) {
			lexer.at = open;
			s = push_text(&lexer, begin, open, '+', false);
			break;
		}
		const char tag = source->bytes[open + 1];
		const char sign = open + 2 < source->size ? source->bytes[open + 2] : '\0';
		size_t close;
		s = push_text(&lexer, begin, open, sign, tag != '{');
		if (s != OL_OK)
			break;
		lexer.at = open + 2 + (sign == '-' || sign == '+');
		if (tag == '#')
			s = lex_comment(&lexer, open);
		else if (is_raw_tag(&lexer, open, "raw", &close))
			s = lex_raw(&lexer, open, close);
		else
			s = lex_code(&lexer, open, tag == '%');
	}
	return s == OL_OK ? push_tag(&lexer, TOKEN_END, source->size) : s;
}
