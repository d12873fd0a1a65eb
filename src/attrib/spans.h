/* attrib/spans.h, floor 3: which pieces of an answer stand word for word in the training examples.
 *
 *     corpus    every example's tokens, one after another, each ended by a separator that no answer
 *               can hold; a suffix array over them (4 bytes a token; tokens take 2, or 4 where the
 *               vocabulary needs it)
 *     spans     for every token of the answer the longest match that begins there, by one binary
 *               search; kept are those that end beyond all earlier ones, are at least
 *               OL_SPAN_TOKENS long, and surprise: sum of -log p(token) - log(corpus tokens) > 0, p
 *               the corpus' own frequencies. What stands in more than OL_SPAN_SOURCES examples is
 *               common property and is dropped.
 *
 * Spans are evidence and show where; how much they may add to pay is capped (shares.h). */
#ifndef OL_ATTRIB_SPANS_H
#define OL_ATTRIB_SPANS_H

#include "base/base.h"

enum {
	OL_SPAN_TOKENS = 8,
	OL_SPAN_SOURCES = 10,
	OL_SPANS_MAX = 1024,          /* of one answer; the rest is left out        */
	OL_SPAN_TOKENS_MAX = 1 << 29, /* of a corpus: what a 32-bit suffix sort takes */
	OL_SPAN_OCCURRENCES = 4096    /* more than so many are common property, too */
};

/* Arrays are little-endian and may lie in a mapped file. Entries of `suffixes` come from outside:
 * each is checked when it is used. */
struct ol_span_corpus {
	int token_bytes; /* 2 or 4; the separator has all bits set */
	const uint8_t *tokens;
	uint32_t token_count;   /* with the separators */
	const uint32_t *starts; /* (examples + 1): where each begins; the last is token_count */
	uint32_t example_count;
	const uint32_t *counts; /* (vocab) how often each token stands in it */
	uint32_t vocab;
	const uint32_t *suffixes; /* (token_count) */
};

/* What is built from token lists: owns its arrays, which corpus points at. */
struct ol_span_build {
	struct ol_span_corpus corpus;
	void *owned[4];
};
struct ol_span_text {
	const int32_t *tokens;
	int32_t count;
};
/* OL_ERR_INPUT: a token outside the vocabulary; OL_ERR_FULL: too many tokens, or no memory. */
OL_MUST_CHECK enum ol_status ol_span_corpus_build(struct ol_span_build *build,
						  const struct ol_span_text *texts, uint32_t count,
						  uint32_t vocab, struct ol_error *err);
void ol_span_corpus_release(struct ol_span_build *build);

/* Sizes and order of everything but the suffixes. */
OL_MUST_CHECK enum ol_status ol_span_corpus_check(const struct ol_span_corpus *corpus,
						  const char *where, struct ol_error *err);

struct ol_span_source {
	uint32_t example, offset; /* tokens into the example */
};
struct ol_span {
	int32_t begin, count; /* tokens of the answer */
	uint64_t surprise;    /* millionths of a nat above chance */
	int source_count;
	struct ol_span_source sources[OL_SPAN_SOURCES]; /* ascending by example, its first place */
};

/* Spans of an answer, ascending; spans_out (OL_SPANS_MAX). OL_ERR_INPUT: the suffixes are not what
 * they should be. */
OL_MUST_CHECK enum ol_status ol_span_corpus_find(struct ol_span *spans_out, int *count_out,
						 const struct ol_span_corpus *corpus,
						 const int32_t *tokens, int count,
						 struct ol_error *err);
/* Token i of the corpus; -1: a separator. */
int32_t ol_span_token(const struct ol_span_corpus *corpus, uint32_t i);

#endif
