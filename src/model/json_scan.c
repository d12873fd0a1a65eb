#include "model/json_scan.h"

#include "model/unicode.h"

#include <string.h>

static void skip_space(struct ol_json_scan *scan)
{
	while (scan->at < scan->size) {
		const char c = scan->text[scan->at];
		if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
			return;
		scan->at++;
	}
}

bool ol_json_scan_fail(struct ol_json_scan *scan, const char *what)
{
	if (!scan->failure)
		scan->failure = what;
	return false;
}

char ol_json_scan_peek(struct ol_json_scan *scan)
{
	skip_space(scan);
	return scan->at < scan->size ? scan->text[scan->at] : '\0';
}

bool ol_json_scan_take(struct ol_json_scan *scan, char c)
{
	skip_space(scan);
	if (scan->at >= scan->size || scan->text[scan->at] != c)
		return false;
	scan->at++;
	return true;
}

static bool scan_hex4(struct ol_json_scan *scan, uint32_t *value_out)
{
	uint32_t value = 0;
	if (scan->size - scan->at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		const char c = scan->text[scan->at++];
		uint32_t digit;
		if (c >= '0' && c <= '9')
			digit = (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			digit = (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return false;
		value = value << 4 | digit;
	}
	*value_out = value;
	return true;
}

/* The part of an escape after \u. */
static bool scan_unicode_escape(struct ol_json_scan *scan, uint32_t *code_out)
{
	uint32_t code, low;
	static const char half[] = "half of a surrogate pair is missing";
	if (!scan_hex4(scan, &code))
		return ol_json_scan_fail(scan, "a \\u is not followed by four digits");
	if (code >= 0xdc00 && code <= 0xdfff)
		return ol_json_scan_fail(scan, half);
	if (code >= 0xd800 && code <= 0xdbff) {
		if (scan->size - scan->at < 6 || scan->text[scan->at] != '\\' ||
		    scan->text[scan->at + 1] != 'u')
			return ol_json_scan_fail(scan, half);
		scan->at += 2;
		if (!scan_hex4(scan, &low) || low < 0xdc00 || low > 0xdfff)
			return ol_json_scan_fail(scan, half);
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	*code_out = code;
	return true;
}

static bool scan_escape(struct ol_json_scan *scan, char *out, size_t *n)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	if (scan->at >= scan->size)
		return ol_json_scan_fail(scan, "a string does not end");
	const char c = scan->text[scan->at++];
	if (c == 'u') {
		uint32_t code;
		if (!scan_unicode_escape(scan, &code))
			return false;
		*n += ol_utf8_put(out + *n, code);
		return true;
	}
	const char *name = c ? strchr(names, c) : NULL;
	if (!name)
		return ol_json_scan_fail(scan, "an unknown escape in a string");
	out[(*n)++] = values[name - names];
	return true;
}

bool ol_json_scan_string(struct ol_json_scan *scan, char *out, size_t *size_out)
{
	size_t n = 0;
	if (!ol_json_scan_take(scan, '"'))
		return ol_json_scan_fail(scan, "a string is missing");
	while (scan->at < scan->size) {
		const char c = scan->text[scan->at];
		if ((unsigned char)c < 0x20)
			return ol_json_scan_fail(scan, "a control character in a string");
		scan->at++;
		if (c == '"') {
			*size_out = n;
			return ol_utf8_check(out, n) == n ||
			       ol_json_scan_fail(scan, "a string is not UTF-8");
		}
		if (c != '\\')
			out[n++] = c;
		else if (!scan_escape(scan, out, &n))
			return false;
	}
	return ol_json_scan_fail(scan, "a string does not end");
}

bool ol_json_scan_u64(struct ol_json_scan *scan, uint64_t *value_out)
{
	uint64_t value = 0;
	skip_space(scan);
	const size_t begin = scan->at;
	while (scan->at < scan->size && scan->text[scan->at] >= '0' &&
	       scan->text[scan->at] <= '9') {
		const uint64_t digit = (uint64_t)(scan->text[scan->at] - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return ol_json_scan_fail(scan, "a number does not fit 64 bits");
		value = value * 10 + digit;
		scan->at++;
	}
	const char next = scan->at < scan->size ? scan->text[scan->at] : '\0';
	const bool zeros = scan->at - begin > 1 && scan->text[begin] == '0';
	if (scan->at == begin || zeros || next == '.' || next == 'e' || next == 'E')
		return ol_json_scan_fail(scan, "a whole number, 0 or more, is missing");
	*value_out = value;
	return true;
}

bool ol_json_scan_index(struct ol_json_scan *scan, int32_t *value_out)
{
	uint64_t value;
	if (!ol_json_scan_u64(scan, &value))
		return false;
	if (value > INT32_MAX)
		return ol_json_scan_fail(scan, "a number is larger than 2147483647");
	*value_out = (int32_t)value;
	return true;
}

static bool skip_string(struct ol_json_scan *scan)
{
	for (scan->at++; scan->at < scan->size; scan->at++) {
		if (scan->text[scan->at] == '"') {
			scan->at++;
			return true;
		}
		if (scan->text[scan->at] == '\\' && scan->at + 1 < scan->size)
			scan->at++;
	}
	return false;
}

bool ol_json_scan_skip(struct ol_json_scan *scan, size_t *begin_out)
{
	char open[OL_JSON_DEPTH_MAX];
	int depth = 0;
	skip_space(scan);
	*begin_out = scan->at;
	do {
		const char c = ol_json_scan_peek(scan);
		if (c == '"') {
			if (!skip_string(scan))
				return false;
		} else if (c == '{' || c == '[') {
			if (depth == OL_JSON_DEPTH_MAX)
				return false;
			open[depth++] = c;
			scan->at++;
		} else if (c == '}' || c == ']') {
			if (depth == 0 || open[depth - 1] != (c == '}' ? '{' : '['))
				return false;
			depth--;
			scan->at++;
		} else if (c == ',' || c == ':') {
			if (depth == 0)
				return false;
			scan->at++;
		} else {
			const size_t begin = scan->at;
			while (scan->at < scan->size && scan->text[scan->at] &&
			       !strchr(",:]}[{\" \n\r\t", scan->text[scan->at]))
				scan->at++;
			if (scan->at == begin)
				return false;
		}
	} while (depth > 0);
	return true;
}
