/* Filters on strings and numbers: value | name(arguments). Like jinja2's, the ones on strings take
 * the str() of anything. */
#include "model/template_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct ol_tpl_render render;
typedef struct ol_tpl_value value;
typedef struct ol_tpl_args args;
typedef struct ol_tpl_text text;

static bool truth_of(const value *v)
{
	return v && ol_tpl_truth(v);
}

/* ---- strings --------------------------------------------------------------------------------- */

static bool filter_case(render *r, value *out, const value *self, enum ol_tpl_case to)
{
	text whole;
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_str(r, &whole, self) || !ol_tpl_add_case(&b, whole, to))
		return false;
	*out = ol_tpl_built(&b);
	return true;
}

static bool filter_upper(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return filter_case(r, out, self, CASE_UPPER);
}

static bool filter_lower(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return filter_case(r, out, self, CASE_LOWER);
}

static bool filter_capitalize(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	return filter_case(r, out, self, CASE_CAPITAL);
}

/* Words begin after white space and - ( { [ <, unlike those of the method title(). */
static bool filter_title(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	text whole;
	struct ol_tpl_builder b;
	size_t begin = 0;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_str(r, &whole, self))
		return false;
	for (size_t at = 0; at < whole.size;) {
		const uint32_t c = ol_tpl_next(whole, &at);
		const bool separator =
			ol_tpl_is_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c));
		if (!separator && at < whole.size)
			continue;
		size_t second = begin;
		ol_tpl_next(whole, &second);
		if (!ol_tpl_add_case(&b, ol_tpl_text_part(whole, begin, second), CASE_UPPER) ||
		    !ol_tpl_add_case(&b, ol_tpl_text_part(whole, second, at), CASE_LOWER))
			return false;
		begin = at;
	}
	*out = ol_tpl_built(&b);
	return true;
}

static bool filter_string(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	text whole;
	if (!ol_tpl_str(r, &whole, self))
		return false;
	*out = ol_tpl_string(whole);
	return true;
}

static bool filter_trim(render *r, value *out, const value *self, const args *a)
{
	text whole, chars;
	const bool given = a->at[0] && a->at[0]->kind != KIND_NONE;
	if (!ol_tpl_str(r, &whole, self) || (given && !ol_tpl_as_text(r, &chars, a->at[0], "trim")))
		return false;
	*out = ol_tpl_string(
		ol_tpl_text_strip(whole, given ? &chars : NULL, STRIP_LEFT | STRIP_RIGHT));
	return ol_tpl_spend(r, whole.size - out->text.size);
}

static bool filter_replace(render *r, value *out, const value *self, const args *a)
{
	text whole, old, new;
	int64_t count = -1;
	return ol_tpl_str(r, &whole, self) && ol_tpl_str(r, &old, a->at[0]) &&
	       ol_tpl_str(r, &new, a->at[1]) &&
	       (!a->at[2] || a->at[2]->kind == KIND_NONE ||
		ol_tpl_as_int(r, &count, a->at[2], "the count of replace")) &&
	       ol_tpl_replace(r, out, whole, old, new, count);
}

static bool filter_escape(render *r, value *out, const value *self, const args *a)
{
	static const struct {
		char from;
		const char *to;
	} escapes[] = {
		{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
	(void)a;
	text whole;
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_str(r, &whole, self))
		return false;
	for (size_t at = 0; at < whole.size; at++) {
		bool added = false;
		for (size_t i = 0; i < OL_ARRAY_LEN(escapes) && !added; i++)
			if (whole.bytes[at] == escapes[i].from) {
				added = true;
				if (!ol_tpl_add_cstr(&b, escapes[i].to,
						     ol_tpl_text_input(whole, at, at + 1)))
					return false;
			}
		if (!added && !ol_tpl_add(&b, ol_tpl_text_part(whole, at, at + 1)))
			return false;
	}
	*out = ol_tpl_built(&b);
	return true;
}

static bool make_indent(render *r, text *out, const value *width)
{
	if (width && width->kind == KIND_STRING) {
		*out = width->text;
		return true;
	}
	int64_t count = 4;
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (width && !ol_tpl_as_int(r, &count, width, "an indentation"))
		return false;
	for (int64_t i = 0; i < count; i++)
		if (!ol_tpl_add_cstr(&b, " ", false))
			return false;
	*out = ol_tpl_built(&b).text;
	return true;
}

/* jinja2 adds a newline and then splits, so that one at the end makes an empty last line. */
static bool filter_indent(render *r, value *out, const value *self, const args *a)
{
	text whole, indent;
	value lines, kept;
	struct ol_tpl_builder closed, b;
	const bool first = truth_of(a->at[1]), blank = truth_of(a->at[2]);
	ol_tpl_builder_init(&closed, r);
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_str(r, &whole, self) || !make_indent(r, &indent, a->at[0]) ||
	    !ol_tpl_add(&closed, whole) || !ol_tpl_add_cstr(&closed, "\n", false))
		return false;
	whole = ol_tpl_built(&closed).text;
	if (!ol_tpl_split_lines(r, &lines, whole, false) ||
	    !ol_tpl_split_lines(r, &kept, whole, true))
		return false;
	bool input = false; /* who wrote the newline before this line */
	for (size_t i = 0; i < lines.list->count; i++) {
		const text line = lines.list->items[i].text, with_end = kept.list->items[i].text;
		const bool indented = i == 0 ? first : blank || line.size;
		if ((i && !ol_tpl_add_cstr(&b, "\n", input)) ||
		    (indented && !ol_tpl_add(&b, indent)) || !ol_tpl_add(&b, line))
			return false;
		input = ol_tpl_text_input(with_end, line.size, with_end.size);
	}
	*out = ol_tpl_built(&b);
	return true;
}

static bool filter_format(render *r, value *out, const value *self, const args *a)
{
	text format;
	value values;
	if (a->named_count)
		return ol_tpl_fail(r, "the filter 'format' knows %%s, not %%(name)s");
	if (!ol_tpl_str(r, &format, self) || !ol_tpl_list_make(r, &values, FORM_TUPLE, a->count))
		return false;
	for (size_t i = 0; i < a->count; i++)
		values.list->items[values.list->count++] = a->plain[i];
	return ol_tpl_percent(r, out, format, &values);
}

static bool filter_tojson(render *r, value *out, const value *self, const args *a)
{
	const value *indent = a->at[1], *separators = a->at[2];
	struct ol_tpl_json_style style = {.ascii = truth_of(a->at[0]),
					  .sort = truth_of(a->at[3]),
					  .pretty = indent && indent->kind != KIND_NONE,
					  .key_separator = ol_tpl_text_of(": ")};
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	style.item_separator = ol_tpl_text_of(style.pretty ? "," : ", ");
	if (style.pretty && !make_indent(r, &style.indent, indent))
		return false;
	if (separators && separators->kind != KIND_NONE) {
		struct ol_tpl_list pair;
		if (!ol_tpl_walk(r, &pair, separators))
			return false;
		if (pair.count != 2)
			return ol_tpl_fail(r, "the separators of tojson are two strings");
		if (!ol_tpl_as_text(r, &style.item_separator, &pair.items[0], "a separator") ||
		    !ol_tpl_as_text(r, &style.key_separator, &pair.items[1], "a separator"))
			return false;
	}
	if (!ol_tpl_add_json(&b, self, &style))
		return false;
	*out = ol_tpl_built(&b);
	return true;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Python's int("…") and float("…"): white space around, underscores between digits. */
static bool parse_number(text whole, double *number, int64_t *integer, bool *is_int)
{
	char copy[64];
	size_t used = 0;
	whole = ol_tpl_text_strip(whole, NULL, STRIP_LEFT | STRIP_RIGHT);
	for (size_t i = 0; i < whole.size; i++) {
		const char c = whole.bytes[i];
		const bool between = i > 0 && i + 1 < whole.size &&
				     strchr("0123456789", whole.bytes[i - 1]) &&
				     whole.bytes[i + 1] && strchr("0123456789", whole.bytes[i + 1]);
		if (c == '_' && between)
			continue;
		if (used + 1 >= sizeof copy || !c || !strchr("+-.0123456789eEinfatyINFATY", c))
			return false;
		copy[used++] = c;
	}
	copy[used] = '\0';
	char *end;
	*is_int = used && strspn(copy + (copy[0] == '-' || copy[0] == '+'), "0123456789") ==
				  used - (copy[0] == '-' || copy[0] == '+');
	if (*is_int && used < 19)
		*integer = strtoll(copy, NULL, 10);
	else
		*is_int = false;
	*number = strtod(copy, &end);
	return used && end == copy + used;
}

static bool filter_int(render *r, value *out, const value *self, const args *a)
{
	double number = 0;
	int64_t integer = 0;
	bool is_int = false, ok = ol_tpl_is_numeric(self);
	bool input = self->input;
	if (a->at[1] && (a->at[1]->kind != KIND_INT || a->at[1]->integer != 10))
		return ol_tpl_fail(r, "the filter 'int' knows base 10 only");
	if (self->kind == KIND_STRING) {
		ok = parse_number(self->text, &number, &integer, &is_int);
		input = ol_tpl_text_input(self->text, 0, self->text.size);
	} else if (ok && self->kind != KIND_FLOAT) {
		is_int = true;
		integer = self->kind == KIND_INT ? self->integer : self->truth;
	} else if (ok) {
		number = self->number;
	}
	if (ok && !is_int) {
		ok = number > -9.2e18 && number < 9.2e18;
		integer = ok ? (int64_t)number : 0;
	}
	*out = ok ? ol_tpl_int(integer, input) : a->at[0] ? *a->at[0] : ol_tpl_int(0, false);
	return true;
}

static bool filter_float(render *r, value *out, const value *self, const args *a)
{
	(void)r;
	double number = 0;
	int64_t integer;
	bool is_int, input = self->input, ok = ol_tpl_is_numeric(self);
	if (ok)
		number = ol_tpl_as_double(self);
	if (self->kind == KIND_STRING) {
		ok = parse_number(self->text, &number, &integer, &is_int);
		input = ol_tpl_text_input(self->text, 0, self->text.size);
	}
	*out = ok ? ol_tpl_float(number, input) : a->at[0] ? *a->at[0] : ol_tpl_float(0, false);
	return true;
}

static bool filter_abs(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	const value zero = ol_tpl_int(0, false);
	if (!ol_tpl_is_numeric(self))
		return ol_tpl_fail(r, "abs needs a number, not a %s", ol_tpl_kind_name(self));
	if (self->kind == KIND_FLOAT) {
		*out = ol_tpl_float(fabs(self->number), self->input);
		return true;
	}
	const bool negative = self->kind == KIND_INT && self->integer < 0;
	return ol_tpl_arithmetic(r, out, negative ? TOKEN_SUB : TOKEN_ADD, &zero, self);
}

static bool filter_round(render *r, value *out, const value *self, const args *a)
{
	enum { PRECISION_MAX = 15 };
	int64_t precision = 0;
	text method = ol_tpl_text_of("common");
	char digits[400];
	if (!ol_tpl_is_numeric(self))
		return ol_tpl_fail(r, "round needs a number, not a %s", ol_tpl_kind_name(self));
	if ((a->at[0] && !ol_tpl_as_int(r, &precision, a->at[0], "the precision of round")) ||
	    (a->at[1] && !ol_tpl_as_text(r, &method, a->at[1], "the method of round")))
		return false;
	if (precision < 0 || precision > PRECISION_MAX)
		return ol_tpl_fail(r, "round knows precisions from 0 to %d", PRECISION_MAX);
	if (ol_tpl_text_equal(method, ol_tpl_text_of("common"))) {
		*out = *self; /* whole numbers stay; others go to the nearest, ties to even */
		if (self->kind == KIND_BOOL)
			*out = ol_tpl_int(self->truth, self->input);
		if (self->kind != KIND_FLOAT || !isfinite(self->number))
			return true;
		snprintf(digits, sizeof digits, "%.*f", (int)precision, self->number);
		out->number = strtod(digits, NULL);
		return true;
	}
	const bool up = ol_tpl_text_equal(method, ol_tpl_text_of("ceil"));
	if (!up && !ol_tpl_text_equal(method, ol_tpl_text_of("floor")))
		return ol_tpl_fail(r, "the method of round is common, ceil or floor");
	double scale = 1;
	for (int64_t i = 0; i < precision; i++)
		scale *= 10;
	const double scaled = ol_tpl_as_double(self) * scale;
	*out = ol_tpl_float((up ? ceil(scaled) : floor(scaled)) / scale, self->input);
	return true;
}

/* ---- anything -------------------------------------------------------------------------------- */

static bool filter_default(render *r, value *out, const value *self, const args *a)
{
	(void)r;
	const bool missing =
		self->kind == KIND_UNDEFINED || (truth_of(a->at[1]) && !ol_tpl_truth(self));
	*out = !missing ? *self : a->at[0] ? *a->at[0] : ol_tpl_string(ol_tpl_text_of(""));
	return true;
}

static bool filter_same(render *r, value *out, const value *self, const args *a)
{
	(void)r;
	(void)a;
	*out = *self;
	return true;
}

static bool filter_length(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	size_t length;
	if (!ol_tpl_length(r, &length, self))
		return false;
	*out = ol_tpl_int((int64_t)length, false);
	return true;
}

static bool filter_items(render *r, value *out, const value *self, const args *a)
{
	(void)a;
	if (self->kind == KIND_UNDEFINED)
		return ol_tpl_list_make(r, out, FORM_LAZY, 0);
	if (self->kind != KIND_DICT)
		return ol_tpl_fail(r, "items needs a dict, not a %s", ol_tpl_kind_name(self));
	return ol_tpl_dict_items(r, out, self, FORM_LAZY);
}

static const struct ol_tpl_builtin filters[] = {
	{"abs", filter_abs, 0, ""},
	{"capitalize", filter_capitalize, 0, ""},
	{"count", filter_length, 0, ""},
	{"d", filter_default, 0, "default_value boolean"},
	{"default", filter_default, 0, "default_value boolean"},
	{"e", filter_escape, 0, ""},
	{"escape", filter_escape, 0, ""},
	{"float", filter_float, 0, "default"},
	{"forceescape", filter_escape, 0, ""},
	{"format", filter_format, 0, NULL},
	{"indent", filter_indent, 0, "width first blank"},
	{"int", filter_int, 0, "default base"},
	{"items", filter_items, 0, ""},
	{"length", filter_length, 0, ""},
	{"lower", filter_lower, 0, ""},
	{"replace", filter_replace, 2, "old new count"},
	{"round", filter_round, 0, "precision method"},
	{"safe", filter_same, 0, ""},
	{"string", filter_string, 0, ""},
	{"title", filter_title, 0, ""},
	{"tojson", filter_tojson, 0, "ensure_ascii indent separators sort_keys"},
	{"trim", filter_trim, 0, "chars"},
	{"upper", filter_upper, 0, ""},
};

const struct ol_tpl_builtin *ol_tpl_filter(struct ol_tpl_name name)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(filters); i++)
		if (ol_tpl_name_is(name, filters[i].name))
			return &filters[i];
	return ol_tpl_sequence_filter(name);
}
