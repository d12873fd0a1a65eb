/* The tojson filter: json.dumps with the arguments that transformers gives it. The punctuation of a
 * list or dict belongs to whoever built it. */
#include "model/template_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add_escape(struct ol_tpl_builder *b, uint32_t c, bool input)
{
	char escape[16];
	if (c >= 0x10000)
		snprintf(escape, sizeof escape, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)),
			 (unsigned)(0xdc00 | (c & 0x3ff)));
	else
		snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
	return ol_tpl_add_cstr(b, escape, input);
}

static bool add_string(struct ol_tpl_builder *b, struct ol_tpl_text text, bool ascii)
{
	static const char short_escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	const bool input = text.origin == ORIGIN_INPUT;
	size_t plain = 0; /* what waits to be copied as it is */
	bool ok = ol_tpl_add_cstr(b, "\"", input);
	for (size_t at = 0; ok && at < text.size;) {
		const size_t begin = at;
		const uint32_t c = ol_tpl_next(text, &at);
		const char *letter = NULL;
		for (size_t i = 0; c < 0x80 && i + 1 < sizeof short_escapes; i += 2)
			if ((uint32_t)short_escapes[i] == c)
				letter = &short_escapes[i + 1];
		if (!letter && c >= 0x20 && (c < 0x7f || !ascii))
			continue;
		const bool mark = ol_tpl_text_input(text, begin, at);
		ok = ol_tpl_add(b, ol_tpl_text_part(text, plain, begin)) &&
		     (letter ? ol_tpl_add_cstr(b, "\\", mark) &&
				       ol_tpl_add_bytes(b, letter, 1, mark)
			     : add_escape(b, c, mark));
		plain = at;
	}
	return ok && ol_tpl_add(b, ol_tpl_text_part(text, plain, text.size)) &&
	       ol_tpl_add_cstr(b, "\"", input);
}

/* The newline and indentation before an item, or before the closing bracket. */
static bool add_line(struct ol_tpl_builder *b, const struct ol_tpl_json_style *style, size_t level)
{
	if (!style->pretty)
		return true;
	bool ok = ol_tpl_add_cstr(b, "\n", false);
	for (size_t i = 0; ok && i < level; i++)
		ok = ol_tpl_add(b, style->indent);
	return ok;
}

static bool add_value(struct ol_tpl_builder *b, const struct ol_tpl_value *value,
		      const struct ol_tpl_json_style *style, size_t level);

/* What the style writes inside a container of the input is marked as the container is. */
static bool add_between(struct ol_tpl_builder *b, const struct ol_tpl_json_style *style, bool first,
			size_t level, bool input)
{
	struct ol_tpl_builder part;
	ol_tpl_builder_init(&part, b->r);
	if ((!first && !ol_tpl_add(&part, style->item_separator)) || !add_line(&part, style, level))
		return false;
	struct ol_tpl_text text = ol_tpl_built(&part).text;
	if (input)
		text.origin = ORIGIN_INPUT;
	return ol_tpl_add(b, text);
}

static bool add_list(struct ol_tpl_builder *b, const struct ol_tpl_value *value,
		     const struct ol_tpl_json_style *style, size_t level)
{
	const struct ol_tpl_list *list = value->list;
	if (list->form > FORM_TUPLE)
		return ol_tpl_fail(
			b->r, "tojson cannot write a %s; pass it through the list filter first",
			ol_tpl_kind_name(value));
	bool ok = ol_tpl_add_cstr(b, "[", value->input);
	for (size_t i = 0; ok && i < list->count; i++)
		ok = add_between(b, style, i == 0, level + 1, value->input) &&
		     add_value(b, &list->items[i], style, level + 1);
	return ok && (list->count == 0 || add_between(b, style, true, level, value->input)) &&
	       ol_tpl_add_cstr(b, "]", value->input);
}

static int by_key(const void *a, const void *b)
{
	const struct ol_tpl_pair *x = a, *y = b;
	return ol_tpl_text_order(x->key.text, y->key.text);
}

/* JSON has only strings as keys; Python writes numbers, booleans and None as such. */
static bool add_key(struct ol_tpl_builder *b, const struct ol_tpl_value *key,
		    const struct ol_tpl_json_style *style)
{
	if (key->kind == KIND_STRING)
		return add_string(b, key->text, style->ascii);
	if (key->kind != KIND_NONE && !ol_tpl_is_numeric(key))
		return ol_tpl_fail(b->r, "tojson cannot write a %s as a key",
				   ol_tpl_kind_name(key));
	return ol_tpl_add_cstr(b, "\"", key->input) && add_value(b, key, style, 0) &&
	       ol_tpl_add_cstr(b, "\"", key->input);
}

static bool sort_pairs(struct ol_tpl_render *r, struct ol_tpl_pair **sorted,
		       const struct ol_tpl_dict *dict)
{
	if (!ol_tpl_get(r, sorted, OL_MAX(dict->count, (size_t)1), sizeof **sorted) ||
	    !ol_tpl_spend(r, dict->count * 64))
		return false;
	for (size_t i = 0; i < dict->count; i++) {
		if (dict->pairs[i].key.kind != KIND_STRING)
			return ol_tpl_fail(r, "tojson can sort only keys that are strings");
		(*sorted)[i] = dict->pairs[i];
	}
	qsort(*sorted, dict->count, sizeof **sorted, by_key);
	return true;
}

static bool add_dict(struct ol_tpl_builder *b, const struct ol_tpl_value *value,
		     const struct ol_tpl_json_style *style, size_t level)
{
	const struct ol_tpl_dict *dict = value->dict;
	struct ol_tpl_pair *pairs = dict->pairs;
	bool ok = (!style->sort || sort_pairs(b->r, &pairs, dict)) &&
		  ol_tpl_add_cstr(b, "{", value->input);
	for (size_t i = 0; ok && i < dict->count; i++) {
		struct ol_tpl_text colon = style->key_separator;
		if (value->input)
			colon.origin = ORIGIN_INPUT;
		ok = add_between(b, style, i == 0, level + 1, value->input) &&
		     add_key(b, &pairs[i].key, style) && ol_tpl_add(b, colon) &&
		     add_value(b, &pairs[i].value, style, level + 1);
	}
	return ok && (dict->count == 0 || add_between(b, style, true, level, value->input)) &&
	       ol_tpl_add_cstr(b, "}", value->input);
}

static bool add_float(struct ol_tpl_builder *b, const struct ol_tpl_value *value)
{
	if (isnan(value->number))
		return ol_tpl_add_cstr(b, "NaN", value->input);
	if (isinf(value->number))
		return ol_tpl_add_cstr(b, value->number > 0 ? "Infinity" : "-Infinity",
				       value->input);
	return ol_tpl_add_repr(b, value);
}

static bool add_value(struct ol_tpl_builder *b, const struct ol_tpl_value *value,
		      const struct ol_tpl_json_style *style, size_t level)
{
	struct ol_tpl_render *r = b->r;
	bool ok;
	switch (value->kind) {
	case KIND_NONE: return ol_tpl_add_cstr(b, "null", value->input);
	case KIND_BOOL: return ol_tpl_add_cstr(b, value->truth ? "true" : "false", value->input);
	case KIND_INT: return ol_tpl_add_repr(b, value);
	case KIND_FLOAT: return add_float(b, value);
	case KIND_STRING: return add_string(b, value->text, style->ascii);
	case KIND_LIST:
	case KIND_DICT:
		if (r->depth >= OL_TEMPLATE_EVALUATION_MAX)
			return ol_tpl_fail_limit(r, "this value is nested too deeply for tojson");
		r->depth++;
		ok = ol_tpl_spend(r, 1) &&
		     (value->kind == KIND_LIST ? add_list(b, value, style, level)
					       : add_dict(b, value, style, level));
		r->depth--;
		return ok;
	case KIND_UNDEFINED:
		return ol_tpl_fail(r, "tojson cannot write an undefined value: %s",
				   value->text.bytes);
	case KIND_NAMESPACE:
	case KIND_LOOP:
	case KIND_MACRO:
	case KIND_BUILTIN:
		return ol_tpl_fail(r, "tojson cannot write a %s", ol_tpl_kind_name(value));
	}
	OL_UNREACHABLE();
}

bool ol_tpl_add_json(struct ol_tpl_builder *b, const struct ol_tpl_value *value,
		     const struct ol_tpl_json_style *style)
{
	return add_value(b, value, style, 0);
}
