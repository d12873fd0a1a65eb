/* model/split_parts.h, floor 2: what split.c and split_regex.c share. Private to the two. */
#ifndef OL_MODEL_SPLIT_PARTS_H
#define OL_MODEL_SPLIT_PARTS_H

#include "model/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum ol_split_kind { OL_SPLIT_KIND_KNOWN, OL_SPLIT_KIND_STRING, OL_SPLIT_KIND_REGEX };

struct ol_split {
	enum ol_split_kind kind;
	enum ol_split_known known;
	char *string;
	size_t size;
	pcre2_code *code;
};

struct ol_split_work {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
};

/* The patterns of OL_SPLIT_GPT2 to QWEN2, as files spell them. */
extern const char *const ol_split_known_patterns[3];

enum ol_status ol_split_compile(struct ol_split *split, const char *pattern, size_t size,
				const char *where, struct ol_error *err);
enum ol_status ol_split_find_regex(const struct ol_split *split, struct ol_split_work *work,
				   struct ol_pieces *pieces, const char *text, size_t begin,
				   size_t end, struct ol_error *err);

#endif
