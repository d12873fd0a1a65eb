/* model/json_scan.h, floor 2: reading JSON forwards, piece by piece, without a tree.
 *
 * For big files of a known shape (safetensors headers). A scan remembers its first failure: after
 * it every function returns false or nothing, so that a reader may ask once at the end. */
#ifndef OL_MODEL_JSON_SCAN_H
#define OL_MODEL_JSON_SCAN_H

#include "base/buf.h"

struct ol_json_scan {
	const char *begin, *at, *end;
	const char *failure; /* what was wrong at `at`; NULL while all is well */
};

void ol_json_scan_init(struct ol_json_scan *scan, const char *text, size_t size);
/* Remembers the first failure; always false. */
bool ol_json_fail(struct ol_json_scan *scan, const char *what);
size_t ol_json_offset(const struct ol_json_scan *scan);

/* Skips white space; true and past it if the next character is c. */
bool ol_json_accept(struct ol_json_scan *scan, char c);
/* The same, but its absence is a failure. */
bool ol_json_expect(struct ol_json_scan *scan, char c);
/* A string, unescaped, into text (cleared first). Control characters and bad escapes fail; bytes
 * from 0x80 up are taken as they are. */
bool ol_json_string(struct ol_json_scan *scan, struct ol_buf *text);
/* A number that is a whole one from 0 to 2^64 - 1, without sign, fraction or exponent. */
bool ol_json_u64(struct ol_json_scan *scan, uint64_t *value);
/* Nothing but white space is left. */
bool ol_json_end(struct ol_json_scan *scan);

#endif
