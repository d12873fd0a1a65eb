#include "model/header_scan.h"

#include <string.h>

bool ol_header_accept(struct ol_json_scan *scan, char c)
{
	return !scan->failure && ol_json_scan_take(scan, c);
}

bool ol_header_expect(struct ol_json_scan *scan, char c)
{
	if (ol_header_accept(scan, c))
		return true;
	switch (c) {
	case '{': return ol_json_scan_fail(scan, "a \"{\" is missing");
	case '}': return ol_json_scan_fail(scan, "a \"}\" or \",\" is missing");
	case '[': return ol_json_scan_fail(scan, "a \"[\" is missing");
	case ']': return ol_json_scan_fail(scan, "a \"]\" or \",\" is missing");
	case ':': return ol_json_scan_fail(scan, "a \":\" is missing");
	default: return ol_json_scan_fail(scan, "a \",\" is missing");
	}
}

bool ol_header_string(struct ol_json_scan *scan, struct ol_buf *text)
{
	struct ol_json_scan ahead = *scan;
	size_t begin, size = 0;
	ol_buf_clear(text);
	if (scan->failure)
		return false;
	/* Unescaped it is no longer than it stands there. A string without an end fails below. */
	if (ol_json_scan_peek(&ahead) == '"' && !ol_json_scan_skip(&ahead, &begin))
		begin = scan->at;
	const size_t room = ahead.at > scan->at ? ahead.at - scan->at : 1;
	if (!ol_buf_append(text, scan->text + scan->at, OL_MIN(room, scan->size - scan->at)))
		return ol_json_scan_fail(scan, "out of memory");
	ol_buf_clear(text);
	if (!ol_json_scan_string(scan, text->data, &size))
		return false;
	if (memchr(text->data, 0, size))
		return ol_json_scan_fail(scan, "a string holds a NUL");
	text->size = size;
	text->data[size] = '\0';
	return true;
}

bool ol_header_u64(struct ol_json_scan *scan, uint64_t *value_out)
{
	*value_out = 0;
	return !scan->failure && ol_json_scan_u64(scan, value_out);
}

bool ol_header_end(struct ol_json_scan *scan)
{
	(void)ol_json_scan_peek(scan);
	if (!scan->failure && scan->at != scan->size)
		return ol_json_scan_fail(scan, "something follows the end");
	return !scan->failure;
}
