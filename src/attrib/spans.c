#include "attrib/spans.h"

#include "base/bytes.h"
#include "math/functions.h"

#include <divsufsort.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double MICRO = 1e6; /* of a nat */

int32_t ol_span_token(const struct ol_span_corpus *c, uint32_t i)
{
	if (c->token_bytes == 2) {
		const uint16_t token = ol_load_u16(c->tokens + 2 * (size_t)i);
		return token == UINT16_MAX ? -1 : token;
	}
	return (int32_t)ol_load_u32(c->tokens + 4 * (size_t)i);
}

/* ---- Building ------------------------------------------------------------------------------- */

static void store_token(const struct ol_span_corpus *c, uint8_t *tokens, uint32_t i, int32_t token)
{
	if (c->token_bytes == 2)
		ol_store_u16(tokens + 2 * (size_t)i, (uint16_t)token);
	else
		ol_store_u32(tokens + 4 * (size_t)i, (uint32_t)token);
}

static enum ol_status measure(struct ol_span_corpus *c, const struct ol_span_text *texts,
			      uint32_t count, struct ol_error *err)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < count; i++) {
		OL_ASSERT(texts[i].count >= 0);
		total += (uint64_t)texts[i].count + 1;
		for (int32_t t = 0; t < texts[i].count; t++)
			if (texts[i].tokens[t] < 0 || (uint32_t)texts[i].tokens[t] >= c->vocab)
				return ol_fail(err, OL_ERR_INPUT,
					       "example %u, token %d: %d is outside the vocabulary "
					       "of %u",
					       i, t, texts[i].tokens[t], c->vocab);
	}
	if (total > OL_SPAN_TOKENS_MAX)
		return ol_fail(err, OL_ERR_FULL,
			       "%llu tokens are more than the %d of one span index",
			       (unsigned long long)total, OL_SPAN_TOKENS_MAX);
	c->token_count = (uint32_t)total;
	return OL_OK;
}

/* Suffixes of whole tokens in the order of their tokens, the separator above all: bytes are sorted
 * with the high byte of a token first, and the suffixes that begin inside a token left out. */
static bool sort_suffixes(const struct ol_span_corpus *c, uint32_t *suffixes)
{
	const int width = c->token_bytes;
	const size_t bytes = (size_t)c->token_count * (size_t)width;
	uint8_t *text = malloc(bytes + 1);
	int32_t *sorted = malloc((bytes + 1) * sizeof *sorted);
	bool good = text && sorted;
	for (size_t i = 0; good && i < bytes; i++)
		text[i] = c->tokens[i - i % (size_t)width + (size_t)width - 1 - i % (size_t)width];
	good = good && (bytes == 0 || divsufsort(text, sorted, (int32_t)bytes) == 0);
	for (size_t i = 0, n = 0; good && i < bytes; i++)
		if (sorted[i] % width == 0)
			suffixes[n++] = (uint32_t)(sorted[i] / width);
	free(text);
	free(sorted);
	return good;
}

enum ol_status ol_span_corpus_build(struct ol_span_build *build, const struct ol_span_text *texts,
				    uint32_t count, uint32_t vocab, struct ol_error *err)
{
	struct ol_span_corpus *c = &build->corpus;
	uint32_t at = 0;
	*build = (struct ol_span_build){.corpus = {.token_bytes = vocab <= UINT16_MAX ? 2 : 4,
						   .example_count = count,
						   .vocab = vocab}};
	enum ol_status s = measure(c, texts, count, err);
	if (s != OL_OK)
		return s;
	uint8_t *tokens = malloc((size_t)c->token_count * (size_t)c->token_bytes + 1);
	uint32_t *starts = malloc(((size_t)count + 1) * sizeof *starts);
	uint32_t *counts = calloc((size_t)vocab + 1, sizeof *counts);
	uint32_t *suffixes = malloc(((size_t)c->token_count + 1) * sizeof *suffixes);
	void *const owned[] = {tokens, starts, counts, suffixes};
	memcpy(build->owned, owned, sizeof owned);
	c->tokens = tokens;
	c->starts = starts;
	c->counts = counts;
	c->suffixes = suffixes;
	bool good = tokens && starts && counts && suffixes;
	for (uint32_t i = 0; good && i < count; i++) {
		starts[i] = at;
		for (int32_t t = 0; t < texts[i].count; t++) {
			store_token(c, tokens, at++, texts[i].tokens[t]);
			counts[texts[i].tokens[t]]++;
		}
		store_token(c, tokens, at++, -1);
	}
	if (good) {
		starts[count] = at;
		good = sort_suffixes(c, suffixes);
	}
	if (good)
		return OL_OK;
	ol_span_corpus_release(build);
	return ol_fail(err, OL_ERR_FULL, "out of memory for the spans of %u examples", count);
}

void ol_span_corpus_release(struct ol_span_build *build)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(build->owned); i++)
		free(build->owned[i]);
	*build = (struct ol_span_build){0};
}

enum ol_status ol_span_corpus_check(const struct ol_span_corpus *c, const char *where,
				    struct ol_error *err)
{
	uint64_t sum = 0;
	bool good = c->starts[0] == 0 && c->starts[c->example_count] == c->token_count;
	for (uint32_t i = 0; good && i < c->example_count; i++)
		good = c->starts[i] < c->starts[i + 1] && c->starts[i + 1] <= c->token_count &&
		       ol_span_token(c, c->starts[i + 1] - 1) == -1;
	for (uint32_t v = 0; v < c->vocab; v++)
		sum += c->counts[v];
	if (good && sum + c->example_count == c->token_count)
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT, "%s: the span index does not fit together", where);
}

/* ---- Looking up ----------------------------------------------------------------------------- */

struct search {
	const struct ol_span_corpus *c;
	const int32_t *tokens; /* of the answer, from where a match is to begin */
	int count;
	bool broken;
};

static uint32_t suffix_at(struct search *s, uint32_t rank)
{
	const uint32_t at = s->c->suffixes[rank];
	if (at < s->c->token_count)
		return at;
	s->broken = true;
	return 0;
}

/* Tokens in common of the answer and a suffix; *order: is the suffix behind the answer? A text ends
 * with a separator, and so a suffix does before the corpus. */
static int common(struct search *s, uint32_t rank, bool *behind)
{
	const uint32_t at = suffix_at(s, rank);
	int n = 0;
	*behind = false;
	while (n < s->count && (uint32_t)n < s->c->token_count - at) {
		const int32_t token = ol_span_token(s->c, at + (uint32_t)n);
		if (token != s->tokens[n]) {
			*behind = token < 0 || token > s->tokens[n];
			return n;
		}
		n++;
	}
	*behind = n == s->count;
	return n;
}

/* The longest match and the rank of a suffix that has it: one of the two neighbours of the place
 * where the answer's own suffix would stand, and the search comes by both. */
static int longest(struct search *s, uint32_t *rank_out)
{
	uint32_t low = 0, high = s->c->token_count;
	int most = 0;
	bool behind;
	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		const int n = common(s, middle, &behind);
		if (n > most) {
			most = n;
			*rank_out = middle;
		}
		if (behind)
			high = middle;
		else
			low = middle + 1;
	}
	return most;
}

static uint32_t example_of(const struct ol_span_corpus *c, uint32_t at)
{
	uint32_t low = 0, high = c->example_count;
	while (high - low > 1) {
		const uint32_t middle = low + (high - low) / 2;
		if (c->starts[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Puts one place into the list; false: there are too many examples. */
static bool add_source(struct ol_span *span, const struct ol_span_corpus *c, uint32_t at)
{
	const uint32_t example = example_of(c, at), offset = at - c->starts[example];
	int i = 0;
	while (i < span->source_count && span->sources[i].example < example)
		i++;
	if (i < span->source_count && span->sources[i].example == example) {
		span->sources[i].offset = OL_MIN(span->sources[i].offset, offset);
		return true;
	}
	if (span->source_count == OL_SPAN_SOURCES)
		return false;
	memmove(&span->sources[i + 1], &span->sources[i],
		(size_t)(span->source_count - i) * sizeof span->sources[0]);
	span->sources[i] = (struct ol_span_source){example, offset};
	span->source_count++;
	return true;
}

/* All places of the span, from one of their ranks on in both directions. */
static bool find_sources(struct search *s, struct ol_span *span, uint32_t rank)
{
	bool behind;
	int places = 1;
	const int count = s->count;
	s->count = span->count; /* compare no further */
	bool few = add_source(span, s->c, suffix_at(s, rank));
	for (uint32_t r = rank; few && r > 0 && common(s, r - 1, &behind) == span->count; r--)
		few = ++places <= OL_SPAN_OCCURRENCES &&
		      add_source(span, s->c, suffix_at(s, r - 1));
	for (uint32_t r = rank + 1;
	     few && r < s->c->token_count && common(s, r, &behind) == span->count; r++)
		few = ++places <= OL_SPAN_OCCURRENCES && add_source(span, s->c, suffix_at(s, r));
	s->count = count;
	return few;
}

/* -log p of the span's tokens less the log of how many places it could have stood at. */
static double surprise_of(const struct ol_span_corpus *c, const int32_t *tokens, int count)
{
	const double log_total = ol_log((double)c->token_count);
	double sum = -log_total;
	for (int i = 0; i < count; i++)
		sum += log_total - ol_log((double)OL_MAX(c->counts[tokens[i]], 1u));
	return sum;
}

enum ol_status ol_span_corpus_find(struct ol_span *spans_out, int *count_out,
				   const struct ol_span_corpus *corpus, const int32_t *tokens,
				   int count, struct ol_error *err)
{
	int end = 0;
	*count_out = 0;
	for (int i = 0; i + OL_SPAN_TOKENS <= count && *count_out < OL_SPANS_MAX; i++) {
		struct search s = {corpus, tokens + i, count - i, false};
		uint32_t rank = 0;
		OL_ASSERT(tokens[i] >= 0 && (uint32_t)tokens[i] < corpus->vocab);
		const int n = longest(&s, &rank);
		if (i + n > end && !s.broken) {
			end = i + n;
			const double surprise = surprise_of(corpus, tokens + i, n);
			struct ol_span span = {.begin = i, .count = n};
			if (n >= OL_SPAN_TOKENS && surprise > 0.0 &&
			    find_sources(&s, &span, rank)) {
				span.surprise = (uint64_t)rint(surprise * MICRO);
				spans_out[(*count_out)++] = span;
			}
		}
		if (s.broken)
			return ol_fail(err, OL_ERR_INPUT,
				       "the span index points outside of its tokens: build the "
				       "index again");
	}
	return OL_OK;
}
