#include "http/openai_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ol_fields_init(struct ol_fields *f, const json_t *root)
{
	*f = (struct ol_fields){.root = root, .status = 400};
	if (!json_is_object(root))
		ol_fields_fail(f, "", "invalid_type", "The request's body must be a JSON object.");
}

void ol_fields_fail(struct ol_fields *f, const char *param, const char *code, const char *format,
		    ...)
{
	va_list arguments;
	if (f->failed)
		return;
	f->failed = true;
	f->code = code;
	(void)snprintf(f->param, sizeof f->param, "%s", param);
	va_start(arguments, format);
	(void)vsnprintf(f->text, sizeof f->text, format, arguments);
	va_end(arguments);
}

void ol_fields_reply(const struct ol_fields *f, struct ol_http_request *request)
{
	ol_http_error(request, f->status, ol_http_error_type(f->status),
		      f->param[0] ? f->param : NULL, f->code, "%s", f->text);
}

const char *ol_json_kind(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT: return "an object";
	case JSON_ARRAY: return "an array";
	case JSON_STRING: return "a string";
	case JSON_INTEGER: return "an integer";
	case JSON_REAL: return "a decimal";
	case JSON_TRUE:
	case JSON_FALSE: return "a boolean";
	case JSON_NULL: return "null";
	}
	OL_UNREACHABLE();
}

const json_t *ol_fields_get(const struct ol_fields *f, const char *name)
{
	const json_t *value = json_object_get(f->root, name);
	return json_is_null(value) ? NULL : value;
}

static void wrong_type(struct ol_fields *f, const char *name, const char *wanted,
		       const json_t *value)
{
	ol_fields_fail(f, name, "invalid_type",
		       "Invalid type for '%s': expected %s, but got %s instead.", name, wanted,
		       ol_json_kind(value));
}

bool ol_fields_bool(struct ol_fields *f, const char *name, bool *out)
{
	const json_t *value = ol_fields_get(f, name);
	if (!value)
		return false;
	if (!json_is_boolean(value)) {
		wrong_type(f, name, "a boolean", value);
		return false;
	}
	*out = json_is_true(value);
	return true;
}

bool ol_fields_integer(struct ol_fields *f, const char *name, int64_t *out, int64_t low,
		       int64_t high)
{
	const json_t *value = ol_fields_get(f, name);
	if (!value)
		return false;
	if (!json_is_integer(value)) {
		wrong_type(f, name, "an integer", value);
		return false;
	}
	const int64_t n = json_integer_value(value);
	if (n < low || n > high) {
		ol_fields_fail(
			f, name, n < low ? "integer_below_min_value" : "integer_above_max_value",
			"Invalid '%s': integer %s. Expected a value %s %lld, but got %lld "
			"instead.",
			name, n < low ? "below minimum value" : "above maximum value",
			n < low ? ">=" : "<=", (long long)(n < low ? low : high), (long long)n);
		return false;
	}
	*out = n;
	return true;
}

bool ol_fields_number(struct ol_fields *f, const char *name, float *out, double low, double high)
{
	const json_t *value = ol_fields_get(f, name);
	if (!value)
		return false;
	if (!json_is_number(value)) {
		wrong_type(f, name, "a decimal", value);
		return false;
	}
	const double n = json_number_value(value);
	if (!(n >= low && n <= high)) {
		ol_fields_fail(f, name,
			       n < low ? "decimal_below_min_value" : "decimal_above_max_value",
			       "Invalid '%s': decimal %s. Expected a value %s %g, but got %g "
			       "instead.",
			       name, n < low ? "below minimum value" : "above maximum value",
			       n < low ? ">=" : "<=", n < low ? low : high, n);
		return false;
	}
	*out = (float)n;
	return true;
}

bool ol_fields_text(struct ol_fields *f, const char *name, const char **out)
{
	const json_t *value = ol_fields_get(f, name);
	if (!value)
		return false;
	if (!json_is_string(value)) {
		wrong_type(f, name, "a string", value);
		return false;
	}
	if (strlen(json_string_value(value)) != json_string_length(value)) {
		ol_fields_fail(f, name, "invalid_value", "Invalid '%s': it holds a NUL character.",
			       name);
		return false;
	}
	*out = json_string_value(value);
	return true;
}
