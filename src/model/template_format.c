/* Formatting: "%s" % x, "{}".format(x), strftime_now("%d %b %Y"). */
#include "model/template_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct ol_tpl_render render;
typedef struct ol_tpl_value value;
typedef struct ol_tpl_text text;

/* ---- % --------------------------------------------------------------------------------------- */

enum { PRECISION_MAX = 30 };

/* One conversion with its precision (-1: none). */
static bool add_converted(struct ol_tpl_builder *b, char conversion, int precision, const value *v)
{
	int64_t whole;
	char number[400];
	switch (conversion) {
	case 's':
		if (precision >= 0)
			break;
		return ol_tpl_add_str(b, v);
	case 'r': return ol_tpl_add_repr(b, v);
	case 'd':
	case 'i':
		if (v->kind == KIND_FLOAT && v->number > -9e18 && v->number < 9e18)
			whole = (int64_t)v->number;
		else if (!ol_tpl_as_int(b->r, &whole, v, "%d"))
			return false;
		snprintf(number, sizeof number, "%lld", (long long)whole);
		return ol_tpl_add_cstr(b, number, v->input);
	case 'f':
		if (!ol_tpl_is_numeric(v))
			return ol_tpl_fail(b->r, "%%f needs a number, not a %s",
					   ol_tpl_kind_name(v));
		snprintf(number, sizeof number, "%.*f", precision < 0 ? 6 : precision,
			 ol_tpl_as_double(v));
		return ol_tpl_add_cstr(b, number, v->input);
	default: break;
	}
	return ol_tpl_fail(b->r, "only %%s, %%r, %%d, %%i, %%f, %%.2f and %%%% can be formatted");
}

bool ol_tpl_percent(render *r, value *out, text format, const value *v)
{
	const bool many = v->kind == KIND_LIST && v->list->form == FORM_TUPLE;
	const value *items = many ? v->list->items : v;
	const size_t count = many ? v->list->count : 1;
	struct ol_tpl_builder b;
	size_t done = 0, used = 0;
	ol_tpl_builder_init(&b, r);
	for (size_t at = 0; at < format.size;) {
		if (format.bytes[at] != '%') {
			at++;
			continue;
		}
		if (!ol_tpl_add(&b, ol_tpl_text_part(format, done, at++)))
			return false;
		int precision = -1;
		if (at + 1 < format.size && format.bytes[at] == '.') {
			for (precision = 0, at++;
			     at < format.size && format.bytes[at] >= '0' && format.bytes[at] <= '9';
			     at++)
				precision = OL_MIN(precision * 10 + format.bytes[at] - '0',
						   PRECISION_MAX + 1);
			if (precision > PRECISION_MAX)
				return ol_tpl_fail(r, "%%f is limited to %d digits", PRECISION_MAX);
		}
		const char conversion = at < format.size ? format.bytes[at++] : '\0';
		done = at;
		if (conversion == '%' && precision < 0) {
			if (!ol_tpl_add(&b, ol_tpl_text_part(format, at - 1, at)))
				return false;
			continue;
		}
		if (used == count)
			return ol_tpl_fail(r, "this format has more conversions than values");
		if (!add_converted(&b, conversion, precision, &items[used++]))
			return false;
	}
	if (used < count && !(v->kind == KIND_DICT && !many))
		return ol_tpl_fail(r, "this format has fewer conversions than values");
	if (!ol_tpl_add(&b, ol_tpl_text_part(format, done, format.size)))
		return false;
	*out = ol_tpl_built(&b);
	return true;
}

/* ---- format() -------------------------------------------------------------------------------- */

/* The value of the field between { and }: nothing, a number or a name. */
static bool field_value(render *r, const value **out, text field, const struct ol_tpl_args *args,
			size_t *next)
{
	size_t index = 0;
	bool digits = field.size > 0 && field.size < 4;
	for (size_t i = 0; i < field.size; i++) {
		digits = digits && field.bytes[i] >= '0' && field.bytes[i] <= '9';
		index = digits ? index * 10 + (size_t)(field.bytes[i] - '0') : index;
	}
	if (field.size == 0)
		index = (*next)++;
	if (field.size == 0 || digits) {
		*out = index < args->count ? &args->plain[index] : NULL;
	} else {
		*out = NULL;
		for (size_t i = 0; i < args->named_count; i++)
			if (args->named[i].name.size == field.size &&
			    memcmp(args->named[i].name.bytes, field.bytes, field.size) == 0)
				*out = &args->named[i].value;
	}
	return *out || ol_tpl_fail(r, "format() has no value for the field {%.*s}",
				   (int)OL_MIN(field.size, (size_t)64), field.bytes);
}

bool ol_tpl_format(render *r, value *out, const value *self, const struct ol_tpl_args *args)
{
	const text format = self->text;
	struct ol_tpl_builder b;
	size_t next = 0;
	ol_tpl_builder_init(&b, r);
	for (size_t at = 0; at < format.size;) {
		const size_t begin = at;
		while (at < format.size && format.bytes[at] != '{' && format.bytes[at] != '}')
			at++;
		if (!ol_tpl_add(&b, ol_tpl_text_part(format, begin, at)))
			return false;
		if (at == format.size)
			break;
		if (at + 1 < format.size && format.bytes[at + 1] == format.bytes[at]) {
			if (!ol_tpl_add(&b, ol_tpl_text_part(format, at, at + 1)))
				return false;
			at += 2;
			continue;
		}
		const size_t close = ol_tpl_text_find(format, ol_tpl_text_of("}"), at);
		if (format.bytes[at] == '}' || close == SIZE_MAX)
			return ol_tpl_fail(r, "format() found a single '%c'; write it twice",
					   format.bytes[at]);
		const text field = ol_tpl_text_part(format, at + 1, close);
		const value *v;
		if (field.size && memchr(field.bytes, ':', field.size))
			return ol_tpl_fail(r, "format() knows {}, {0} and {name}, without a ':'");
		if (!field_value(r, &v, field, args, &next) || !ol_tpl_add_str(&b, v))
			return false;
		at = close + 1;
	}
	*out = ol_tpl_built(&b);
	return true;
}

/* ---- strftime_now() -------------------------------------------------------------------------- */

/* One conversion in the C locale, UTC. false: not one we know. */
static bool format_time(char *out, size_t room, char conversion, const struct tm *t)
{
	static const char days[][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
					"Thursday", "Friday", "Saturday"};
	static const char months[][10] = {"January",   "February", "March",    "April",
					  "May",       "June",     "July",     "August",
					  "September", "October",  "November", "December"};
	const int hour12 = t->tm_hour % 12 ? t->tm_hour % 12 : 12, year = t->tm_year + 1900;
	switch (conversion) {
	case 'a': snprintf(out, room, "%.3s", days[t->tm_wday]); return true;
	case 'A': snprintf(out, room, "%s", days[t->tm_wday]); return true;
	case 'b': snprintf(out, room, "%.3s", months[t->tm_mon]); return true;
	case 'B': snprintf(out, room, "%s", months[t->tm_mon]); return true;
	case 'd': snprintf(out, room, "%02d", t->tm_mday); return true;
	case 'e': snprintf(out, room, "%2d", t->tm_mday); return true;
	case 'F': snprintf(out, room, "%d-%02d-%02d", year, t->tm_mon + 1, t->tm_mday); return true;
	case 'H': snprintf(out, room, "%02d", t->tm_hour); return true;
	case 'I': snprintf(out, room, "%02d", hour12); return true;
	case 'j': snprintf(out, room, "%03d", t->tm_yday + 1); return true;
	case 'm': snprintf(out, room, "%02d", t->tm_mon + 1); return true;
	case 'M': snprintf(out, room, "%02d", t->tm_min); return true;
	case 'p': snprintf(out, room, "%s", t->tm_hour < 12 ? "AM" : "PM"); return true;
	case 'S': snprintf(out, room, "%02d", t->tm_sec); return true;
	case 'T':
		snprintf(out, room, "%02d:%02d:%02d", t->tm_hour, t->tm_min, t->tm_sec);
		return true;
	case 'y': snprintf(out, room, "%02d", (year % 100 + 100) % 100); return true;
	case 'Y': snprintf(out, room, "%d", year); return true;
	case '%': snprintf(out, room, "%%"); return true;
	default: return false;
	}
}

bool ol_tpl_strftime_now(render *r, value *out, const value *self, const struct ol_tpl_args *args)
{
	(void)self;
	text format;
	struct tm t;
	const time_t now = (time_t)r->now;
	struct ol_tpl_builder b;
	ol_tpl_builder_init(&b, r);
	if (!ol_tpl_as_text(r, &format, args->at[0], "strftime_now"))
		return false;
	if (!gmtime_r(&now, &t))
		return ol_tpl_fail(r, "strftime_now: the clock is out of range");
	for (size_t at = 0; at < format.size;) {
		const size_t begin = at;
		char formatted[64], *from = formatted;
		while (at < format.size && format.bytes[at] != '%')
			at++;
		if (!ol_tpl_add(&b, ol_tpl_text_part(format, begin, at)))
			return false;
		if (at == format.size)
			break;
		const bool bare = at + 1 < format.size &&
				  format.bytes[at + 1] == '-'; /* %-d: no leading zero */
		const size_t conversion = at + 1 + bare;
		if (conversion >= format.size ||
		    !format_time(formatted, sizeof formatted, format.bytes[conversion], &t))
			return ol_tpl_fail(r, "strftime_now does not know this conversion");
		while (bare && from[0] == '0' && from[1])
			from++;
		if (!ol_tpl_add_cstr(&b, from, ol_tpl_text_input(format, at, conversion + 1)))
			return false;
		at = conversion + 1;
	}
	*out = ol_tpl_built(&b);
	return true;
}
