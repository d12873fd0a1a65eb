/* model/json_scan.h, floor 2: walking through a JSON text in place, one token at a time.
 *
 * A vocabulary of 250,000 entries is 30 MB of JSON; building a tree of it takes a second. This
 * reads it in one pass instead: no tree, no recursion, strings unescaped straight to where they
 * belong. Every function returns false on malformed input and leaves `at` on the offending byte;
 * those that read a string or a number also say in `failure` what is wrong there. */
#ifndef OL_MODEL_JSON_SCAN_H
#define OL_MODEL_JSON_SCAN_H

#include "base/base.h"

enum { OL_JSON_DEPTH_MAX = 128 };

struct ol_json_scan {
	const char *text;
	size_t at, size;
	const char *failure; /* the first one; NULL while all is well */
};

/* Skips white space and consumes `c` if it comes next. */
bool ol_json_scan_take(struct ol_json_scan *scan, char c);
/* The next character that is not white space, not consumed; '\0' at the end. */
char ol_json_scan_peek(struct ol_json_scan *scan);
/* Unescapes a string into out, which has room for as many bytes as the text has left. Surrogate
 * pairs become one character; half of one is malformed, as is anything that is not UTF-8. */
bool ol_json_scan_string(struct ol_json_scan *scan, char *out, size_t *size_out);
/* A whole number from 0 to 2^31-1, or to 2^64-1: without sign, fraction or exponent. */
bool ol_json_scan_index(struct ol_json_scan *scan, int32_t *value_out);
bool ol_json_scan_u64(struct ol_json_scan *scan, uint64_t *value_out);
/* Passes over any value; its bytes are [*begin_out, scan->at). */
bool ol_json_scan_skip(struct ol_json_scan *scan, size_t *begin_out);
/* Remembers the first failure; always false. */
bool ol_json_scan_fail(struct ol_json_scan *scan, const char *what);

#endif
