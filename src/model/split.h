/* model/split.h, floor 2: finding the pieces a pattern cuts a text into.
 *
 * The patterns of the common tokenizers (GPT-2, Llama 3, Qwen 2 and 3) and plain strings have code
 * of their own; any other goes to PCRE2, translated from the dialect of Oniguruma. All of them
 * agree with the oracle's engine. */
#ifndef OL_MODEL_SPLIT_H
#define OL_MODEL_SPLIT_H

#include "base/base.h"

struct ol_split;
struct ol_split_work; /* scratch memory of one thread */

/* Patterns by name. */
enum ol_split_known {
	OL_SPLIT_GPT2,
	OL_SPLIT_LLAMA3,
	OL_SPLIT_QWEN2,
	OL_SPLIT_DIGIT, /* one character of \p{N} */
};

/* A piece of a text in bytes; matched: by the pattern, else what lies between matches. */
struct ol_piece {
	uint32_t begin, end;
	bool matched;
};
struct ol_pieces {
	struct ol_piece *list;
	size_t count, room;
};
/* The pattern as a tokenizer.json spells it. */
const char *ol_split_known_pattern(enum ol_split_known known);
void ol_pieces_release(struct ol_pieces *pieces);
OL_MUST_CHECK bool ol_pieces_push(struct ol_pieces *pieces, size_t begin, size_t end, bool matched);

OL_MUST_CHECK bool ol_split_open_known(struct ol_split **split_out, enum ol_split_known known);
OL_MUST_CHECK bool ol_split_open_string(struct ol_split **split_out, const char *string,
					size_t size);
/* `where` (a file and a key) opens the sentence of the error. A known pattern is recognised unless
 * plain_engine is asked for (tests compare the two). */
OL_MUST_CHECK enum ol_status ol_split_open_regex(struct ol_split **split_out, const char *pattern,
						 size_t size, bool plain_engine, const char *where,
						 struct ol_error *err);
void ol_split_close(struct ol_split *split);

OL_MUST_CHECK bool ol_split_work_open(struct ol_split_work **work_out);
void ol_split_work_close(struct ol_split_work *work);

/* Appends the pieces of text[begin, end): together they cover it, ascending. The text is valid
 * UTF-8; what is outside of the range is not looked at. */
OL_MUST_CHECK enum ol_status ol_split_find(const struct ol_split *split, struct ol_split_work *work,
					   struct ol_pieces *pieces, const char *text, size_t begin,
					   size_t end, struct ol_error *err);
bool ol_split_needs_work(const struct ol_split *split); /* else ol_split_find takes a NULL */
/* Is it this single byte, and nothing else? (For fast replacement.) -1: no. */
int ol_split_single_byte(const struct ol_split *split);

#endif
