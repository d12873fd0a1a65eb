/* Templates: opened once, rendered often. The grammar that the files around this one implement:
 *
 *     template   = { text | "{{" tuple "}}" | "{%" statement "%}" | "{#" comment "#}" }
 *     statement  = "set" target "=" tuple
 *                | "set" target { "|" filter } "%}" body "{%" "endset"
 *                | "for" names "in" tuple [ "if" expr ] "%}" body [ "else" body ] "endfor"
 *                | "if" tuple "%}" body { "elif" tuple body } [ "else" body ] "endif"
 *                | "macro" name signature "%}" body "endmacro"
 *                | "call" [ signature ] call "%}" body "endcall"
 *                | "filter" filter { "|" filter } "%}" body "endfilter"
 *                | "with" { name "=" expr } "%}" body "endwith"
 *                | "generation" "%}" body "endgeneration" | "break" | "continue"
 *     target     = names | name "." name
 *     names      = name | "(" names ")" | names { "," names }
 *     tuple      = expr { "," expr }
 *     expr       = or { "if" or [ "else" expr ] }
 *     or         = and { "or" and }             and   = not { "and" not }
 *     not        = "not" not | compare
 *     compare    = sum { ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not" "in" ) sum }
 *     sum        = concat { ( "+" | "-" ) concat }
 *     concat     = product { "~" product }
 *     product    = power { ( "*" | "/" | "//" | "%" ) power }
 *     power      = unary { "**" unary }
 *     unary      = ( "+" | "-" ) unary | primary { postfix } { "|" filter | "is" [ "not" ] test }
 *     postfix    = "." name | "." integer | "[" index "]" | "(" arguments ")"
 *     index      = expr | [ expr ] ":" [ expr ] [ ":" [ expr ] ]
 *     primary    = name | string { string } | number | "(" [ tuple ] ")" | list | dict
 *     filter     = name [ "(" arguments ")" ]
 *     test       = name [ "(" arguments ")" | primary { postfix } ]
 *     arguments  = expr, … , "*" expr, name "=" expr, … , "**" expr
 *
 * Where @huggingface/jinja and Python's jinja2 differ, this follows jinja2 as transformers sets it
 * up; test_chat_template.c lists the differences. */
#include "model/template_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TREE_MEMORY_MAX =
		1 << 30, /* address space for the tree of a source of OL_TEMPLATE_SOURCE_MAX */
	CHUNK_SIZE = 16 << 10,
	BYTES_PER_STEP = 64
};

struct ol_template {
	struct ol_arena arena; /* the source, its tokens, the tree */
	struct ol_tpl_source source;
	struct ol_tpl_node *body;
};

/* ---- what the other files share -------------------------------------------------------------- */

void *ol_tpl_alloc(struct ol_tpl_heap *heap, size_t size)
{
	if (size > CHUNK_SIZE / 4)
		return ol_arena_alloc(heap->arena, size);
	size = (size + 15) / 16 * 16;
	if (heap->chunk_left < size) {
		heap->chunk = ol_arena_alloc(heap->arena, CHUNK_SIZE);
		heap->chunk_left = heap->chunk ? CHUNK_SIZE : 0;
		if (!heap->chunk)
			return NULL;
	}
	void *piece = heap->chunk;
	heap->chunk += size;
	heap->chunk_left -= size;
	return piece;
}

bool ol_tpl_name_is(struct ol_tpl_name name, const char *word)
{
	return name.size == strlen(word) && memcmp(name.bytes, word, name.size) == 0;
}

OL_PRINTF(5, 0)
static enum ol_status fail_at(struct ol_error *err, enum ol_status status,
			      const struct ol_tpl_source *source, size_t at, const char *format,
			      va_list args)
{
	char sentence[OL_ERROR_TEXT_MAX];
	size_t line = 1, line_begin = 0;
	for (size_t i = 0; i < at; i++)
		if (source->bytes[i] == '\n') {
			line++;
			line_begin = i + 1;
		}
	const size_t column = ol_tpl_text_length(
		(struct ol_tpl_text){.bytes = source->bytes + line_begin, .size = at - line_begin});
	vsnprintf(sentence, sizeof sentence, format, args);
	return ol_fail(err, status, "%s:%zu:%zu: %s", source->path, line, column + 1, sentence);
}

enum ol_status ol_tpl_fail_at(struct ol_error *err, enum ol_status status,
			      const struct ol_tpl_source *source, size_t at, const char *format,
			      ...)
{
	va_list args;
	va_start(args, format);
	fail_at(err, status, source, at, format, args);
	va_end(args);
	return status;
}

bool ol_tpl_fail(struct ol_tpl_render *r, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	r->status = fail_at(r->err, OL_ERR_INPUT, r->source, r->at, format, args);
	va_end(args);
	return false;
}

bool ol_tpl_fail_limit(struct ol_tpl_render *r, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	r->status = fail_at(r->err, OL_ERR_FULL, r->source, r->at, format, args);
	va_end(args);
	return false;
}

bool ol_tpl_spend(struct ol_tpl_render *r, size_t size)
{
	r->steps += 1 + size / BYTES_PER_STEP;
	return r->steps <= OL_TEMPLATE_STEPS_MAX ||
	       ol_tpl_fail_limit(r, "rendering takes more than %d steps", OL_TEMPLATE_STEPS_MAX);
}

bool ol_tpl_get(struct ol_tpl_render *r, void *pointer_out, size_t count, size_t size)
{
	void *memory = count <= OL_TEMPLATE_MEMORY_MAX / size ? ol_tpl_alloc(&r->heap, count * size)
							      : NULL;
	memcpy(pointer_out, &memory, sizeof memory);
	return memory || ol_tpl_fail_limit(r, "rendering takes more than %d bytes of memory",
					   OL_TEMPLATE_MEMORY_MAX);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The offset of the first byte that is not UTF-8; size when all is. */
static size_t utf8_error(const char *text, size_t size)
{
	const uint8_t *bytes = (const uint8_t *)text;
	for (size_t at = 0; at < size;) {
		const uint8_t lead = bytes[at];
		const size_t length = lead < 0x80   ? 1
				      : lead < 0xc2 ? 0
				      : lead < 0xe0 ? 2
				      : lead < 0xf0 ? 3
				      : lead < 0xf5 ? 4
						    : 0;
		if (length == 0 || length > size - at)
			return at;
		for (size_t i = 1; i < length; i++)
			if ((bytes[at + i] & 0xc0) != 0x80)
				return at;
		if ((lead == 0xe0 && bytes[at + 1] < 0xa0) ||
		    (lead == 0xed && bytes[at + 1] > 0x9f) ||
		    (lead == 0xf0 && bytes[at + 1] < 0x90) ||
		    (lead == 0xf4 && bytes[at + 1] > 0x8f))
			return at;
		at += length;
	}
	return size;
}

/* All newlines become \n and one at the end is dropped, as jinja2 does. */
static enum ol_status take_source(struct ol_template *tpl, const char *source, size_t size,
				  const char *path, struct ol_error *err)
{
	char *bytes = ol_arena_alloc(&tpl->arena, size + 1);
	char *path_copy = ol_arena_strdup(&tpl->arena, path, strlen(path));
	if (!bytes || !path_copy)
		return ol_fail(err, OL_ERR_FULL, "%s: no memory for the template", path);
	size_t used = 0;
	for (size_t i = 0; i < size; i++) {
		const bool pair = source[i] == '\r' && i + 1 < size && source[i + 1] == '\n';
		if (!pair)
			bytes[used++] = source[i] == '\r' ? '\n' : source[i];
	}
	if (used && bytes[used - 1] == '\n')
		used--;
	tpl->source = (struct ol_tpl_source){path_copy, bytes, used};
	return OL_OK;
}

enum ol_status ol_template_open(struct ol_template **template_out, const char *source, size_t size,
				const char *path, struct ol_error *err)
{
	*template_out = NULL;
	if (size > OL_TEMPLATE_SOURCE_MAX)
		return ol_fail(err, OL_ERR_FULL,
			       "%s: the chat template has %zu bytes; the limit is %d", path, size,
			       OL_TEMPLATE_SOURCE_MAX);
	const size_t wrong = utf8_error(source, size);
	if (wrong < size)
		return ol_fail(err, OL_ERR_INPUT, "%s: byte %zu of the chat template is not UTF-8",
			       path, wrong);
	struct ol_template *tpl = calloc(1, sizeof *tpl);
	if (!tpl || ol_arena_init(&tpl->arena, TREE_MEMORY_MAX) != OL_OK) {
		free(tpl);
		return ol_fail(err, OL_ERR_FULL, "%s: no memory for the template", path);
	}
	struct ol_tpl_heap heap = {.arena = &tpl->arena};
	struct ol_tpl_tokens tokens;
	enum ol_status s = take_source(tpl, source, size, path, err);
	if (s == OL_OK)
		s = ol_tpl_lex(&tokens, &heap, &tpl->source, err);
	if (s == OL_OK)
		s = ol_tpl_parse(&tpl->body, &heap, &tpl->source, &tokens, err);
	if (s == OL_OK)
		*template_out = tpl;
	else
		ol_template_close(tpl);
	return s;
}

void ol_template_close(struct ol_template *tpl)
{
	if (!tpl)
		return;
	ol_arena_release(&tpl->arena);
	free(tpl);
}

/* ---- rendering ------------------------------------------------------------------------------- */

void ol_spans_release(struct ol_spans *spans)
{
	free(spans->spans);
	*spans = (struct ol_spans){0};
}

static bool add_span(struct ol_spans *spans, size_t begin, size_t end)
{
	if (spans->count && spans->spans[spans->count - 1].end == begin) {
		spans->spans[spans->count - 1].end = end;
		return true;
	}
	if (spans->count == spans->room) {
		const size_t room = OL_MAX(spans->room * 2, (size_t)16);
		struct ol_text_span *grown = realloc(spans->spans, room * sizeof *grown);
		if (!grown)
			return false;
		spans->spans = grown;
		spans->room = room;
	}
	spans->spans[spans->count++] = (struct ol_text_span){begin, end};
	return true;
}

/* The marks of a text that starts at byte `at` of the output, as spans. */
static bool add_spans(struct ol_spans *spans, struct ol_tpl_text text, size_t at)
{
	for (size_t begin = 0; begin < text.size;) {
		const bool input = ol_tpl_text_input(text, begin, begin + 1);
		size_t end = text.size;
		if (text.origin == ORIGIN_MIXED) {
			const uint8_t *change =
				memchr(text.marks + begin, !input, text.size - begin);
			end = change ? (size_t)(change - text.marks) : text.size;
		}
		if (input && !add_span(spans, at + begin, at + end))
			return false;
		begin = end;
	}
	return true;
}

enum ol_status ol_template_render(const struct ol_template *tpl, struct ol_buf *text,
				  struct ol_spans *input_spans, const json_t *variables,
				  const json_t *trusted, int64_t now, struct ol_error *err)
{
	struct ol_arena arena;
	if (ol_arena_init(&arena, OL_TEMPLATE_MEMORY_MAX) != OL_OK)
		return ol_fail(err, OL_ERR_FULL, "%s: no memory to render the template",
			       tpl->source.path);
	struct ol_tpl_render r = {.source = &tpl->source,
				  .heap = {.arena = &arena},
				  .err = err,
				  .variables = variables,
				  .trusted = trusted,
				  .now = now};
	struct ol_tpl_builder out;
	ol_tpl_builder_init(&out, &r);
	if (ol_tpl_run(&r, &out, tpl->body)) {
		const struct ol_tpl_text whole = ol_tpl_built(&out).text;
		if (!add_spans(input_spans, whole, text->size) ||
		    !ol_buf_append(text, whole.bytes, whole.size))
			r.status = ol_fail(err, OL_ERR_FULL,
					   "%s: the rendered text of %zu bytes does not fit",
					   tpl->source.path, whole.size);
	} else {
		OL_ASSERT(r.status != OL_OK);
	}
	ol_arena_release(&arena);
	return r.status;
}
