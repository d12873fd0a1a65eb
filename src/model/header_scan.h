/* model/header_scan.h, floor 2: reading the JSON header of a safetensors file.
 *
 * json_scan's pieces for a text whose shape is known: what must come is expected, its absence is a
 * failure with words. After the first failure every function returns false or nothing, so that a
 * reader may ask once at the end. */
#ifndef OL_MODEL_HEADER_SCAN_H
#define OL_MODEL_HEADER_SCAN_H

#include "base/buf.h"
#include "model/json_scan.h"

/* Skips white space; true and past it if the next character is c. */
bool ol_header_accept(struct ol_json_scan *scan, char c);
/* The same, but its absence is a failure. */
bool ol_header_expect(struct ol_json_scan *scan, char c);
/* A string, unescaped, into text (cleared first). One with a NUL fails: it would be a name. */
bool ol_header_string(struct ol_json_scan *scan, struct ol_buf *text);
bool ol_header_u64(struct ol_json_scan *scan, uint64_t *value_out);
/* Nothing but white space is left. */
bool ol_header_end(struct ol_json_scan *scan);

#endif
