#include "model/header_scan.h"

#include "model/unicode.h"

#include <string.h>

void ol_header_scan_init(struct ol_header_scan *scan, const char *text, size_t size)
{
	*scan = (struct ol_header_scan){text, text, text + size, NULL};
}

bool ol_header_fail(struct ol_header_scan *scan, const char *what)
{
	if (!scan->failure)
		scan->failure = what;
	return false;
}

size_t ol_header_offset(const struct ol_header_scan *scan)
{
	return (size_t)(scan->at - scan->begin);
}

static void skip_space(struct ol_header_scan *scan)
{
	while (scan->at < scan->end &&
	       (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
		scan->at++;
}

bool ol_header_accept(struct ol_header_scan *scan, char c)
{
	skip_space(scan);
	if (scan->failure || scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

bool ol_header_expect(struct ol_header_scan *scan, char c)
{
	if (ol_header_accept(scan, c))
		return true;
	switch (c) {
	case '{': return ol_header_fail(scan, "a \"{\" is missing");
	case '}': return ol_header_fail(scan, "a \"}\" or \",\" is missing");
	case '[': return ol_header_fail(scan, "a \"[\" is missing");
	case ']': return ol_header_fail(scan, "a \"]\" or \",\" is missing");
	case ':': return ol_header_fail(scan, "a \":\" is missing");
	case ',': return ol_header_fail(scan, "a \",\" is missing");
	default: return ol_header_fail(scan, "a string is missing");
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits after \u; -1 if they are not. */
static int32_t unit(struct ol_header_scan *scan)
{
	int32_t value = 0;
	if (scan->end - scan->at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const int digit = hex_digit(*scan->at++);
		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

static bool append_utf8(struct ol_buf *text, uint32_t c)
{
	char out[4];
	return ol_buf_append(text, out, ol_utf8_put(out, c));
}

static bool unicode_escape(struct ol_header_scan *scan, struct ol_buf *text)
{
	const int32_t first = unit(scan);
	if (first < 0)
		return ol_header_fail(scan, "a \\u is not followed by four digits");
	if (first == 0)
		return ol_header_fail(scan, "a string holds a NUL");
	if (first < 0xd800 || first > 0xdfff)
		return append_utf8(text, (uint32_t)first);
	const bool pair = first < 0xdc00 && scan->end - scan->at >= 2 && scan->at[0] == '\\' &&
			  scan->at[1] == 'u';
	if (pair)
		scan->at += 2;
	const int32_t second = pair ? unit(scan) : -1;
	if (second < 0xdc00 || second > 0xdfff)
		return ol_header_fail(scan, "half of a surrogate pair is missing");
	return append_utf8(text, 0x10000 + ((uint32_t)(first & 0x3ff) << 10) +
					 (uint32_t)(second & 0x3ff));
}

static bool escape(struct ol_header_scan *scan, struct ol_buf *text)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	if (scan->at == scan->end)
		return ol_header_fail(scan, "a string does not end");
	const char c = *scan->at++;
	if (c == 'u')
		return unicode_escape(scan, text);
	const char *found = c ? strchr(letters, c) : NULL;
	if (!found)
		return ol_header_fail(scan, "an unknown escape in a string");
	return ol_buf_append(text, &meant[found - letters], 1);
}

bool ol_header_string(struct ol_header_scan *scan, struct ol_buf *text)
{
	ol_buf_clear(text);
	if (!ol_header_expect(scan, '"'))
		return false;
	for (;;) {
		const char *run = scan->at;
		while (scan->at < scan->end && *scan->at != '"' && *scan->at != '\\' &&
		       (unsigned char)*scan->at >= ' ')
			scan->at++;
		if (!ol_buf_append(text, run, (size_t)(scan->at - run)))
			return ol_header_fail(scan, "out of memory");
		if (scan->at == scan->end)
			return ol_header_fail(scan, "a string does not end");
		const char c = *scan->at++;
		if (c == '"')
			return true;
		if (c != '\\')
			return ol_header_fail(scan, "a control character in a string");
		if (!escape(scan, text))
			return ol_header_fail(scan, "out of memory");
	}
}

bool ol_header_u64(struct ol_header_scan *scan, uint64_t *value)
{
	skip_space(scan);
	*value = 0;
	if (scan->failure)
		return false;
	const char *digits = scan->at;
	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') {
		const uint64_t digit = (uint64_t)(*scan->at - '0');
		if (*value > (UINT64_MAX - digit) / 10)
			return ol_header_fail(scan, "a number does not fit 64 bits");
		*value = *value * 10 + digit;
		scan->at++;
	}
	if (scan->at == digits || (*digits == '0' && scan->at - digits > 1))
		return ol_header_fail(scan, "a whole number, 0 or more, is missing");
	return true;
}

bool ol_header_end(struct ol_header_scan *scan)
{
	skip_space(scan);
	if (!scan->failure && scan->at != scan->end)
		return ol_header_fail(scan, "something follows the end");
	return !scan->failure;
}
