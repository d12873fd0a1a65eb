/* model/header_scan.h, floor 2: reading the JSON header of a safetensors file.
 *
 * Forwards, piece by piece, without a tree: its shape is known. A scan remembers its first failure:
 * after it every function returns false or nothing, so that a reader may ask once at the end. */
#ifndef OL_MODEL_HEADER_SCAN_H
#define OL_MODEL_HEADER_SCAN_H

#include "base/buf.h"

struct ol_header_scan {
	const char *begin, *at, *end;
	const char *failure; /* what was wrong at `at`; NULL while all is well */
};

void ol_header_scan_init(struct ol_header_scan *scan, const char *text, size_t size);
/* Remembers the first failure; always false. */
bool ol_header_fail(struct ol_header_scan *scan, const char *what);
size_t ol_header_offset(const struct ol_header_scan *scan);

/* Skips white space; true and past it if the next character is c. */
bool ol_header_accept(struct ol_header_scan *scan, char c);
/* The same, but its absence is a failure. */
bool ol_header_expect(struct ol_header_scan *scan, char c);
/* A string, unescaped, into text (cleared first). Control characters and bad escapes fail; bytes
 * from 0x80 up are taken as they are. */
bool ol_header_string(struct ol_header_scan *scan, struct ol_buf *text);
/* A number that is a whole one from 0 to 2^64 - 1, without sign, fraction or exponent. */
bool ol_header_u64(struct ol_header_scan *scan, uint64_t *value);
/* Nothing but white space is left. */
bool ol_header_end(struct ol_header_scan *scan);

#endif
