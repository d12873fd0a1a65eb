/* Values: what they are, how they compare, how Python would print them. */
#include "model/template_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ol_tpl_value ol_tpl_none(void)
{
	return (struct ol_tpl_value){.kind = KIND_NONE};
}

struct ol_tpl_value ol_tpl_bool(bool truth)
{
	return (struct ol_tpl_value){.kind = KIND_BOOL, .truth = truth};
}

struct ol_tpl_value ol_tpl_int(int64_t integer, bool input)
{
	return (struct ol_tpl_value){.kind = KIND_INT, .input = input, .integer = integer};
}

struct ol_tpl_value ol_tpl_float(double number, bool input)
{
	return (struct ol_tpl_value){.kind = KIND_FLOAT, .input = input, .number = number};
}

struct ol_tpl_value ol_tpl_string(struct ol_tpl_text text)
{
	return (struct ol_tpl_value){.kind = KIND_STRING, .text = text};
}

bool ol_tpl_undefined(struct ol_tpl_render *r, struct ol_tpl_value *out, const char *format, ...)
{
	char sentence[256];
	va_list args;
	va_start(args, format);
	vsnprintf(sentence, sizeof sentence, format, args);
	va_end(args);
	char *copy;
	const size_t size = strlen(sentence);
	if (!ol_tpl_get(r, &copy, size + 1, 1))
		return false;
	memcpy(copy, sentence, size);
	*out = (struct ol_tpl_value){.kind = KIND_UNDEFINED, .text = {.bytes = copy, .size = size}};
	return true;
}

/* ---- lists and dicts ------------------------------------------------------------------------- */

bool ol_tpl_list_make(struct ol_tpl_render *r, struct ol_tpl_value *out, enum ol_tpl_form form,
		      size_t room)
{
	struct ol_tpl_list *list;
	if (!ol_tpl_get(r, &list, 1, sizeof *list) ||
	    (room && !ol_tpl_get(r, &list->items, room, sizeof *list->items)))
		return false;
	list->form = form;
	list->room = room;
	*out = (struct ol_tpl_value){.kind = KIND_LIST, .list = list};
	return true;
}

bool ol_tpl_list_push(struct ol_tpl_render *r, struct ol_tpl_list *list, struct ol_tpl_value item)
{
	if (list->count == list->room) {
		const size_t room = OL_MAX(list->room * 2, (size_t)4);
		struct ol_tpl_value *items;
		if (!ol_tpl_get(r, &items, room, sizeof *items))
			return false;
		if (list->count)
			memcpy(items, list->items, list->count * sizeof *items);
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = item;
	return true;
}

bool ol_tpl_pair_make(struct ol_tpl_render *r, struct ol_tpl_value *out, struct ol_tpl_value first,
		      struct ol_tpl_value second)
{
	return ol_tpl_list_make(r, out, FORM_TUPLE, 2) && ol_tpl_list_push(r, out->list, first) &&
	       ol_tpl_list_push(r, out->list, second);
}

bool ol_tpl_dict_make(struct ol_tpl_render *r, struct ol_tpl_value *out, size_t room)
{
	struct ol_tpl_dict *dict;
	if (!ol_tpl_get(r, &dict, 1, sizeof *dict) ||
	    (room && !ol_tpl_get(r, &dict->pairs, room, sizeof *dict->pairs)))
		return false;
	dict->room = room;
	*out = (struct ol_tpl_value){.kind = KIND_DICT, .dict = dict};
	return true;
}

static bool find_pair(struct ol_tpl_render *r, struct ol_tpl_pair **found,
		      const struct ol_tpl_dict *dict, const struct ol_tpl_value *key)
{
	*found = NULL;
	if (key->kind == KIND_DICT || (key->kind == KIND_LIST && key->list->form == FORM_LIST))
		return ol_tpl_fail(r, "a %s cannot be the key of a dict", ol_tpl_kind_name(key));
	if (!ol_tpl_spend(r, dict->count))
		return false;
	for (size_t i = 0; i < dict->count && !*found; i++) {
		bool equal;
		if (!ol_tpl_equal(r, &equal, &dict->pairs[i].key, key))
			return false;
		if (equal)
			*found = &dict->pairs[i];
	}
	return true;
}

static bool push_pair(struct ol_tpl_render *r, struct ol_tpl_dict *dict, struct ol_tpl_value key,
		      struct ol_tpl_value value)
{
	if (dict->count == dict->room) {
		const size_t room = OL_MAX(dict->room * 2, (size_t)4);
		struct ol_tpl_pair *pairs;
		if (!ol_tpl_get(r, &pairs, room, sizeof *pairs))
			return false;
		if (dict->count)
			memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
		dict->pairs = pairs;
		dict->room = room;
	}
	dict->pairs[dict->count++] = (struct ol_tpl_pair){key, value};
	return true;
}

bool ol_tpl_dict_put(struct ol_tpl_render *r, struct ol_tpl_dict *dict, struct ol_tpl_value key,
		     struct ol_tpl_value value)
{
	struct ol_tpl_pair *pair;
	if (!find_pair(r, &pair, dict, &key))
		return false;
	if (!pair)
		return push_pair(r, dict, key, value);
	pair->value = value;
	return true;
}

bool ol_tpl_dict_find(struct ol_tpl_render *r, const struct ol_tpl_value **found,
		      const struct ol_tpl_dict *dict, const struct ol_tpl_value *key)
{
	struct ol_tpl_pair *pair;
	if (!find_pair(r, &pair, dict, key))
		return false;
	*found = pair ? &pair->value : NULL;
	return true;
}

bool ol_tpl_from_json(struct ol_tpl_render *r, struct ol_tpl_value *out, const json_t *json,
		      bool input)
{
	const enum ol_tpl_origin origin = input ? ORIGIN_INPUT : ORIGIN_AUTHOR;
	if (r->depth >= OL_TEMPLATE_EVALUATION_MAX)
		return ol_tpl_fail_limit(r, "the conversation is nested too deeply");
	r->depth++;
	bool ok = ol_tpl_spend(r, 1);
	switch (json_typeof(json)) {
	case JSON_NULL: *out = ol_tpl_none(); break;
	case JSON_TRUE:
	case JSON_FALSE: *out = ol_tpl_bool(json_is_true(json)); break;
	case JSON_INTEGER: *out = ol_tpl_int(json_integer_value(json), false); break;
	case JSON_REAL: *out = ol_tpl_float(json_real_value(json), false); break;
	case JSON_STRING:
		*out = ol_tpl_string((struct ol_tpl_text){.bytes = json_string_value(json),
							  .size = json_string_length(json),
							  .origin = origin});
		break;
	case JSON_ARRAY: {
		const size_t count = json_array_size(json);
		ok = ok && ol_tpl_list_make(r, out, FORM_LIST, count);
		for (size_t i = 0; ok && i < count; i++, out->list->count++)
			ok = ol_tpl_from_json(r, &out->list->items[i], json_array_get(json, i),
					      input);
		break;
	}
	case JSON_OBJECT: {
		/* jansson iterates an object in the order in which it was filled. */
		json_t *object =
			(json_t *)(uintptr_t)json; /* its iterators only take mutable ones */
		ok = ok && ol_tpl_dict_make(r, out, json_object_size(object));
		for (void *i = json_object_iter(object); ok && i;
		     i = json_object_iter_next(object, i)) {
			const char *key = json_object_iter_key(i);
			struct ol_tpl_value value;
			ok = ol_tpl_from_json(r, &value, json_object_iter_value(i), input) &&
			     push_pair(r, out->dict,
				       ol_tpl_string((struct ol_tpl_text){.bytes = key,
									  .size = strlen(key),
									  .origin = origin}),
				       value);
		}
		break;
	}
	}
	r->depth--;
	if (ok)
		out->input = input;
	return ok;
}

/* ---- questions ------------------------------------------------------------------------------- */

const char *ol_tpl_kind_name(const struct ol_tpl_value *value)
{
	static const char *const forms[] = {[FORM_LIST] = "list",
					    [FORM_TUPLE] = "tuple",
					    [FORM_RANGE] = "range",
					    [FORM_VIEW] = "dict view",
					    [FORM_LAZY] = "generator"};
	switch (value->kind) {
	case KIND_UNDEFINED: return "undefined value";
	case KIND_NONE: return "None";
	case KIND_BOOL: return "bool";
	case KIND_INT: return "int";
	case KIND_FLOAT: return "float";
	case KIND_STRING: return "string";
	case KIND_LIST: return forms[value->list->form];
	case KIND_DICT: return "dict";
	case KIND_NAMESPACE: return "namespace";
	case KIND_LOOP: return "loop";
	case KIND_MACRO: return "macro";
	case KIND_BUILTIN: return "function";
	}
	OL_UNREACHABLE();
}

bool ol_tpl_truth(const struct ol_tpl_value *value)
{
	switch (value->kind) {
	case KIND_UNDEFINED:
	case KIND_NONE: return false;
	case KIND_BOOL: return value->truth;
	case KIND_INT: return value->integer != 0;
	case KIND_FLOAT: return value->number != 0;
	case KIND_STRING: return value->text.size > 0;
	case KIND_LIST: return value->list->form == FORM_LAZY || value->list->count > 0;
	case KIND_DICT: return value->dict->count > 0;
	case KIND_LOOP: return value->loop->count > 0;
	case KIND_NAMESPACE:
	case KIND_MACRO:
	case KIND_BUILTIN: return true;
	}
	OL_UNREACHABLE();
}

bool ol_tpl_is_numeric(const struct ol_tpl_value *value)
{
	return value->kind == KIND_BOOL || value->kind == KIND_INT || value->kind == KIND_FLOAT;
}

double ol_tpl_as_double(const struct ol_tpl_value *value)
{
	return value->kind == KIND_FLOAT ? value->number
	       : value->kind == KIND_INT ? (double)value->integer
					 : (double)value->truth;
}

/* Undefined values explain themselves; others are of the wrong kind. */
static bool fail_kind(struct ol_tpl_render *r, const struct ol_tpl_value *value, const char *what,
		      const char *wanted)
{
	if (value->kind == KIND_UNDEFINED)
		return ol_tpl_fail(r, "%s needs %s, but %s", what, wanted, value->text.bytes);
	return ol_tpl_fail(r, "%s needs %s, not a %s", what, wanted, ol_tpl_kind_name(value));
}

bool ol_tpl_as_int(struct ol_tpl_render *r, int64_t *out, const struct ol_tpl_value *value,
		   const char *what)
{
	if (value->kind != KIND_INT && value->kind != KIND_BOOL)
		return fail_kind(r, value, what, "a whole number");
	*out = value->kind == KIND_INT ? value->integer : value->truth;
	return true;
}

bool ol_tpl_as_text(struct ol_tpl_render *r, struct ol_tpl_text *out,
		    const struct ol_tpl_value *value, const char *what)
{
	if (value->kind != KIND_STRING)
		return fail_kind(r, value, what, "a string");
	*out = value->text;
	return true;
}

static bool equal_lists(struct ol_tpl_render *r, bool *out, const struct ol_tpl_list *a,
			const struct ol_tpl_list *b)
{
	*out = a == b || (a->form == b->form && a->form != FORM_LAZY && a->count == b->count);
	for (size_t i = 0; a != b && *out && i < a->count; i++)
		if (!ol_tpl_equal(r, out, &a->items[i], &b->items[i]))
			return false;
	return true;
}

static bool equal_dicts(struct ol_tpl_render *r, bool *out, const struct ol_tpl_dict *a,
			const struct ol_tpl_dict *b)
{
	*out = a->count == b->count;
	for (size_t i = 0; *out && i < a->count; i++) {
		const struct ol_tpl_value *other;
		if (!ol_tpl_dict_find(r, &other, b, &a->pairs[i].key))
			return false;
		*out = other != NULL;
		if (other && !ol_tpl_equal(r, out, &a->pairs[i].value, other))
			return false;
	}
	return true;
}

bool ol_tpl_equal(struct ol_tpl_render *r, bool *out, const struct ol_tpl_value *a,
		  const struct ol_tpl_value *b)
{
	*out = false;
	if (ol_tpl_is_numeric(a) && ol_tpl_is_numeric(b)) {
		if (a->kind == KIND_INT && b->kind == KIND_INT)
			*out = a->integer == b->integer;
		else
			*out = ol_tpl_as_double(a) == ol_tpl_as_double(b);
		return true;
	}
	if (a->kind != b->kind)
		return true;
	switch (a->kind) {
	case KIND_UNDEFINED:
	case KIND_NONE: *out = true; return true;
	case KIND_STRING:
		*out = ol_tpl_text_equal(a->text, b->text);
		return !*out || ol_tpl_spend(r, a->text.size);
	case KIND_LIST:
	case KIND_DICT: {
		if (r->depth >= OL_TEMPLATE_EVALUATION_MAX)
			return ol_tpl_fail_limit(r,
						 "these values are nested too deeply to compare");
		r->depth++;
		const bool ok = ol_tpl_spend(r, 1) &&
				(a->kind == KIND_LIST ? equal_lists(r, out, a->list, b->list)
						      : equal_dicts(r, out, a->dict, b->dict));
		r->depth--;
		return ok;
	}
	case KIND_NAMESPACE: *out = a->dict == b->dict; return true;
	case KIND_LOOP: *out = a->loop == b->loop; return true;
	case KIND_MACRO: *out = a->macro == b->macro; return true;
	case KIND_BUILTIN: *out = a->bound == b->bound; return true;
	case KIND_BOOL:
	case KIND_INT:
	case KIND_FLOAT: break; /* numeric, above */
	}
	OL_UNREACHABLE();
}

bool ol_tpl_order(struct ol_tpl_render *r, int *out, const struct ol_tpl_value *a,
		  const struct ol_tpl_value *b, const char *op)
{
	*out = 0;
	if (a->kind == KIND_INT && b->kind == KIND_INT) {
		*out = (a->integer > b->integer) - (a->integer < b->integer);
		return true;
	}
	if (ol_tpl_is_numeric(a) && ol_tpl_is_numeric(b)) {
		const double x = ol_tpl_as_double(a), y = ol_tpl_as_double(b);
		*out = (x > y) - (x < y);
		return true;
	}
	if (a->kind == KIND_STRING && b->kind == KIND_STRING) {
		*out = ol_tpl_text_order(a->text, b->text);
		return ol_tpl_spend(r, OL_MIN(a->text.size, b->text.size));
	}
	if (a->kind == KIND_LIST && b->kind == KIND_LIST && a->list->form == b->list->form &&
	    a->list->form <= FORM_TUPLE && r->depth < OL_TEMPLATE_EVALUATION_MAX) {
		const struct ol_tpl_list *x = a->list, *y = b->list;
		bool ok = ol_tpl_spend(r, 1);
		r->depth++;
		for (size_t i = 0; ok && *out == 0 && i < OL_MIN(x->count, y->count); i++)
			ok = ol_tpl_order(r, out, &x->items[i], &y->items[i], op);
		r->depth--;
		if (*out == 0)
			*out = (x->count > y->count) - (x->count < y->count);
		return ok;
	}
	const struct ol_tpl_value *undefined = a->kind == KIND_UNDEFINED ? a : b;
	if (undefined->kind == KIND_UNDEFINED)
		return ol_tpl_fail(r, "%s has nothing to compare: %s", op, undefined->text.bytes);
	return ol_tpl_fail(r, "%s cannot compare a %s with a %s", op, ol_tpl_kind_name(a),
			   ol_tpl_kind_name(b));
}

bool ol_tpl_contains(struct ol_tpl_render *r, bool *out, const struct ol_tpl_value *whole,
		     const struct ol_tpl_value *part)
{
	*out = false;
	if (whole->kind == KIND_STRING) {
		struct ol_tpl_text text;
		if (!ol_tpl_as_text(r, &text, part, "`in` a string") ||
		    !ol_tpl_spend(r, whole->text.size))
			return false;
		*out = ol_tpl_text_find(whole->text, text, 0) != SIZE_MAX;
		return true;
	}
	if (whole->kind == KIND_DICT) {
		const struct ol_tpl_value *found;
		if (!ol_tpl_dict_find(r, &found, whole->dict, part))
			return false;
		*out = found != NULL;
		return true;
	}
	struct ol_tpl_list items;
	if (!ol_tpl_walk(r, &items, whole))
		return false;
	for (size_t i = 0; !*out && i < items.count; i++)
		if (!ol_tpl_equal(r, out, &items.items[i], part))
			return false;
	return ol_tpl_spend(r, items.count);
}

bool ol_tpl_walk(struct ol_tpl_render *r, struct ol_tpl_list *items,
		 const struct ol_tpl_value *value)
{
	*items = (struct ol_tpl_list){0};
	switch (value->kind) {
	case KIND_UNDEFINED: return true;
	case KIND_LIST:
		*items = *value->list;
		if (value->list->form == FORM_LAZY)
			value->list->count = 0;
		return true;
	case KIND_STRING:
		for (size_t at = 0; at < value->text.size;) {
			const size_t begin = at;
			ol_tpl_next(value->text, &at);
			if (!ol_tpl_list_push(
				    r, items,
				    ol_tpl_string(ol_tpl_text_part(value->text, begin, at))))
				return false;
		}
		return ol_tpl_spend(r, items->count);
	case KIND_DICT:
		for (size_t i = 0; i < value->dict->count; i++)
			if (!ol_tpl_list_push(r, items, value->dict->pairs[i].key))
				return false;
		return ol_tpl_spend(r, items->count);
	case KIND_NONE:
	case KIND_BOOL:
	case KIND_INT:
	case KIND_FLOAT:
	case KIND_NAMESPACE:
	case KIND_LOOP:
	case KIND_MACRO:
	case KIND_BUILTIN:
		return ol_tpl_fail(r, "a %s cannot be walked through", ol_tpl_kind_name(value));
	}
	OL_UNREACHABLE();
}

bool ol_tpl_length(struct ol_tpl_render *r, size_t *out, const struct ol_tpl_value *value)
{
	*out = 0;
	if (value->kind == KIND_STRING) {
		*out = ol_tpl_text_length(value->text);
		return ol_tpl_spend(r, value->text.size);
	}
	if (value->kind == KIND_DICT)
		*out = value->dict->count;
	else if (value->kind == KIND_LIST && value->list->form != FORM_LAZY)
		*out = value->list->count;
	else if (value->kind == KIND_LOOP)
		*out = value->loop->count;
	else if (value->kind != KIND_UNDEFINED)
		return ol_tpl_fail(r, "a %s has no length", ol_tpl_kind_name(value));
	return true;
}

/* ---- str() and repr() ------------------------------------------------------------------------ */

/* The shortest digits that read back as the same number, laid out as Python does. */
static bool add_float(struct ol_tpl_builder *b, double number, bool input)
{
	if (isnan(number) || isinf(number))
		return ol_tpl_add_cstr(b,
				       isnan(number) ? "nan"
				       : number > 0  ? "inf"
						     : "-inf",
				       input);
	char text[40];
	int digits = 1;
	do
		snprintf(text, sizeof text, "%.*e", digits - 1, number);
	while (strtod(text, NULL) != number && digits++ < 17);
	const char *e = strchr(text, 'e');
	OL_ASSERT(e);
	const int exponent = (int)strtol(e + 1, NULL, 10);
	if (exponent >= 16 || exponent < -4) {
		/* 1e+16, 1.5e-07: as printf writes them */
		return ol_tpl_add_cstr(b, text, input);
	}
	snprintf(text, sizeof text, "%.*f", OL_MAX(digits - 1 - exponent, 1), number);
	return ol_tpl_add_cstr(b, text, input);
}

static bool add_string_repr(struct ol_tpl_builder *b, struct ol_tpl_text text, bool input)
{
	static const char *const short_escapes[] = {['\t'] = "\\t", ['\n'] = "\\n", ['\r'] = "\\r"};
	const bool single = text.size && memchr(text.bytes, '\'', text.size);
	const char quote = single && !memchr(text.bytes, '"', text.size) ? '"' : '\'';
	bool ok = ol_tpl_add_bytes(b, &quote, 1, input);
	for (size_t at = 0; ok && at < text.size;) {
		const size_t begin = at;
		const uint32_t c = ol_tpl_next(text, &at);
		const bool mark = ol_tpl_text_input(text, begin, at);
		char escape[16];
		if (c == (uint32_t)quote || c == '\\') {
			snprintf(escape, sizeof escape, "\\%c", (char)c);
		} else if (c < OL_ARRAY_LEN(short_escapes) && short_escapes[c]) {
			snprintf(escape, sizeof escape, "%s", short_escapes[c]);
		} else if (!ol_tpl_is_printable(c)) {
			snprintf(escape, sizeof escape,
				 c < 0x100     ? "\\x%02x"
				 : c < 0x10000 ? "\\u%04x"
					       : "\\U%08x",
				 (unsigned)c);
		} else {
			ok = ol_tpl_add(b, ol_tpl_text_part(text, begin, at));
			continue;
		}
		ok = ol_tpl_add_cstr(b, escape, mark);
	}
	return ok && ol_tpl_add_bytes(b, &quote, 1, input);
}

static bool add_list_repr(struct ol_tpl_builder *b, const struct ol_tpl_list *list, bool input)
{
	const bool tuple = list->form == FORM_TUPLE;
	bool ok = ol_tpl_add_cstr(b, tuple ? "(" : "[", input);
	for (size_t i = 0; ok && i < list->count; i++)
		ok = (i == 0 || ol_tpl_add_cstr(b, ", ", input)) &&
		     ol_tpl_add_repr(b, &list->items[i]);
	return ok && (!tuple || list->count != 1 || ol_tpl_add_cstr(b, ",", input)) &&
	       ol_tpl_add_cstr(b, tuple ? ")" : "]", input);
}

static bool add_dict_repr(struct ol_tpl_builder *b, const struct ol_tpl_dict *dict, bool input)
{
	bool ok = ol_tpl_add_cstr(b, "{", input);
	for (size_t i = 0; ok && i < dict->count; i++)
		ok = (i == 0 || ol_tpl_add_cstr(b, ", ", input)) &&
		     ol_tpl_add_repr(b, &dict->pairs[i].key) && ol_tpl_add_cstr(b, ": ", input) &&
		     ol_tpl_add_repr(b, &dict->pairs[i].value);
	return ok && ol_tpl_add_cstr(b, "}", input);
}

static bool add_nested_repr(struct ol_tpl_builder *b, const struct ol_tpl_value *value)
{
	struct ol_tpl_render *r = b->r;
	if (r->depth >= OL_TEMPLATE_EVALUATION_MAX)
		return ol_tpl_fail_limit(r, "this value is nested too deeply to print");
	r->depth++;
	const bool ok = ol_tpl_spend(r, 1) &&
			(value->kind == KIND_LIST ? add_list_repr(b, value->list, value->input)
						  : add_dict_repr(b, value->dict, value->input));
	r->depth--;
	return ok;
}

bool ol_tpl_add_repr(struct ol_tpl_builder *b, const struct ol_tpl_value *value)
{
	char text[32];
	switch (value->kind) {
	case KIND_UNDEFINED: return ol_tpl_add_cstr(b, "Undefined", false);
	case KIND_NONE: return ol_tpl_add_cstr(b, "None", value->input);
	case KIND_BOOL: return ol_tpl_add_cstr(b, value->truth ? "True" : "False", value->input);
	case KIND_INT:
		snprintf(text, sizeof text, "%lld", (long long)value->integer);
		return ol_tpl_add_cstr(b, text, value->input);
	case KIND_FLOAT: return add_float(b, value->number, value->input);
	case KIND_STRING:
		return add_string_repr(b, value->text, value->text.origin == ORIGIN_INPUT);
	case KIND_LIST:
		if (value->list->form <= FORM_TUPLE)
			return add_nested_repr(b, value);
		return ol_tpl_fail(b->r,
				   "a %s has no text of its own; pass it through the list filter",
				   ol_tpl_kind_name(value));
	case KIND_DICT: return add_nested_repr(b, value);
	case KIND_NAMESPACE:
		return ol_tpl_add_cstr(b, "<Namespace ", false) && add_nested_repr(b, value) &&
		       ol_tpl_add_cstr(b, ">", false);
	case KIND_LOOP:
	case KIND_MACRO:
	case KIND_BUILTIN:
		return ol_tpl_fail(b->r, "a %s cannot be printed", ol_tpl_kind_name(value));
	}
	OL_UNREACHABLE();
}

bool ol_tpl_add_str(struct ol_tpl_builder *b, const struct ol_tpl_value *value)
{
	if (value->kind == KIND_STRING)
		return ol_tpl_add(b, value->text);
	return value->kind == KIND_UNDEFINED || ol_tpl_add_repr(b, value);
}

bool ol_tpl_str(struct ol_tpl_render *r, struct ol_tpl_text *out, const struct ol_tpl_value *value)
{
	if (value->kind == KIND_STRING) {
		*out = value->text;
		return true;
	}
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_add_str(&b, value))
		return false;
	*out = ol_tpl_built(&b).text;
	return true;
}
