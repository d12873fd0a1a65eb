#include "model/split_parts.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define SPACES_LAST "\\s+(?!\\S)|\\s+"
#define LLAMA_LIKE(numbers)                                                                       \
	"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers                            \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" SPACES_LAST

const char *const ol_split_known_patterns[3] = {
	[OL_SPLIT_GPT2] = CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" SPACES_LAST,
	[OL_SPLIT_LLAMA3] = LLAMA_LIKE("\\p{N}{1,3}"),
	[OL_SPLIT_QWEN2] = LLAMA_LIKE("\\p{N}"),
};

const char *ol_split_known_pattern(enum ol_split_known known)
{
	return known == OL_SPLIT_DIGIT ? "\\p{N}" : ol_split_known_patterns[known];
}

void ol_pieces_release(struct ol_pieces *pieces)
{
	free(pieces->list);
	*pieces = (struct ol_pieces){0};
}

bool ol_pieces_push(struct ol_pieces *pieces, size_t begin, size_t end, bool matched)
{
	if (pieces->count == pieces->room) {
		const size_t room = OL_MAX(pieces->room * 2, (size_t)64);
		struct ol_piece *list = realloc(pieces->list, room * sizeof *list);
		if (!list)
			return false;
		pieces->list = list;
		pieces->room = room;
	}
	pieces->list[pieces->count++] = (struct ol_piece){(uint32_t)begin, (uint32_t)end, matched};
	return true;
}

bool ol_split_open_known(struct ol_split **split_out, enum ol_split_known known)
{
	struct ol_split *split = calloc(1, sizeof *split);
	if (!split)
		return false;
	split->kind = OL_SPLIT_KIND_KNOWN;
	split->known = known;
	*split_out = split;
	return true;
}

bool ol_split_open_string(struct ol_split **split_out, const char *string, size_t size)
{
	OL_ASSERT(size > 0);
	struct ol_split *split = calloc(1, sizeof *split);
	if (!split)
		return false;
	split->kind = OL_SPLIT_KIND_STRING;
	split->string = malloc(size);
	split->size = size;
	if (!split->string) {
		free(split);
		return false;
	}
	memcpy(split->string, string, size);
	*split_out = split;
	return true;
}

enum ol_status ol_split_open_regex(struct ol_split **split_out, const char *pattern, size_t size,
				   bool plain_engine, const char *where, struct ol_error *err)
{
	for (int known = 0; !plain_engine && known < (int)OL_ARRAY_LEN(ol_split_known_patterns);
	     known++)
		if (strlen(ol_split_known_patterns[known]) == size &&
		    memcmp(pattern, ol_split_known_patterns[known], size) == 0)
			return ol_split_open_known(split_out, (enum ol_split_known)known)
				       ? OL_OK
				       : ol_fail(err, OL_ERR_FULL, "%s: out of memory", where);
	struct ol_split *split = calloc(1, sizeof *split);
	if (!split)
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", where);
	split->kind = OL_SPLIT_KIND_REGEX;
	const enum ol_status s = ol_split_compile(split, pattern, size, where, err);
	if (s == OL_OK)
		*split_out = split;
	else
		ol_split_close(split);
	return s;
}

void ol_split_close(struct ol_split *split)
{
	if (!split)
		return;
	pcre2_code_free(split->code);
	free(split->string);
	free(split);
}

bool ol_split_needs_work(const struct ol_split *split)
{
	return split->kind == OL_SPLIT_KIND_REGEX;
}

int ol_split_single_byte(const struct ol_split *split)
{
	return split->kind == OL_SPLIT_KIND_STRING && split->size == 1 ? (uint8_t)split->string[0]
								       : -1;
}

/* A text being cut. Classes of ASCII sit in a small table of their own. */
struct cursor {
	const char *text;
	size_t end;
};

enum { SPACE = OL_UNICODE_SPACE, LETTER = OL_UNICODE_LETTER, NUMBER = OL_UNICODE_NUMBER };
enum { ANY_CLASS = SPACE | LETTER | NUMBER };

/* The class of the character at `at` (0: punctuation and such) and where the next one begins. */
static inline unsigned class_at(const struct cursor *c, size_t at, size_t *next)
{
	size_t length;
	const uint32_t code = ol_utf8_at(c->text + at, &length);
	*next = at + length;
	return ol_unicode_class(code) & ANY_CLASS;
}

/* Where a run of characters of one class ends. */
static size_t run_end(const struct cursor *c, size_t at, unsigned wanted)
{
	size_t next;
	while (at < c->end && class_at(c, at, &next) == wanted)
		at = next;
	return at;
}

static bool is_newline(char c)
{
	return c == '\n' || c == '\r';
}

/* 's 't 're 've 'm 'll 'd: bytes they take at `at`, where an apostrophe stands; 0 if none does.
 * Ignoring case, U+017F is an s. */
static size_t contraction(const struct cursor *c, size_t at, bool ignore_case)
{
	const size_t left = c->end - at;
	const char fold = ignore_case ? 0x20 : 0;
	if (left < 2)
		return 0;
	const char a = c->text[at + 1] | fold;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if (left < 3)
		return 0;
	const char b = c->text[at + 2];
	if (ignore_case && (uint8_t)c->text[at + 1] == 0xc5 && (uint8_t)b == 0xbf)
		return 3;
	if (((a == 'r' || a == 'v') && (b | fold) == 'e') || (a == 'l' && (b | fold) == 'l'))
		return 3;
	return 0;
}

/* \s+(?!\S)|\s+ : all the space up to the end; before anything else all but its last character. */
static size_t spaces_end(const struct cursor *c, size_t at, size_t run)
{
	if (run == c->end)
		return run;
	const size_t last = ol_utf8_before(c->text, run);
	return last > at ? last : run;
}

/* One match at `at` < end; the patterns match everywhere. */
static size_t gpt2_end(const struct cursor *c, size_t at)
{
	size_t next, length;
	if (c->text[at] == '\'' && (length = contraction(c, at, false)) > 0)
		return at + length;
	unsigned class = class_at(c, at, &next);
	if (c->text[at] == ' ' && next < c->end) {
		size_t after;
		const unsigned following = class_at(c, next, &after);
		if (following != SPACE)
			return run_end(c, after, following);
	}
	const size_t run = run_end(c, next, class);
	return class == SPACE ? spaces_end(c, at, run) : run;
}

/* ` ?[^\s\p{L}\p{N}]+[\r\n]*`, from where its first symbol stands. */
static size_t symbols_end(const struct cursor *c, size_t at)
{
	at = run_end(c, at, 0);
	while (at < c->end && is_newline(c->text[at]))
		at++;
	return at;
}

static size_t llama_end(const struct cursor *c, size_t at, int digits_max)
{
	size_t next, after, length;
	if (c->text[at] == '\'' && (length = contraction(c, at, true)) > 0)
		return at + length;
	const unsigned class = class_at(c, at, &next);
	if (class == LETTER)
		return run_end(c, next, LETTER);
	if (class == NUMBER) {
		for (int n = 1; n < digits_max && next < c->end; n++) {
			if (class_at(c, next, &after) != NUMBER)
				break;
			next = after;
		}
		return next;
	}
	const unsigned following = next < c->end ? class_at(c, next, &after) : SPACE;
	if (following == LETTER && !is_newline(c->text[at]))
		return run_end(c, after, LETTER);
	if (class != SPACE)
		return symbols_end(c, at);
	if (c->text[at] == ' ' && following == 0)
		return symbols_end(c, next);
	const size_t run = run_end(c, next, SPACE);
	for (size_t i = run; i > at; i--)
		if (is_newline(c->text[i - 1]))
			return i;
	return spaces_end(c, at, run);
}

static bool find_known(enum ol_split_known known, struct ol_pieces *pieces, const struct cursor *c,
		       size_t at)
{
	size_t next;
	switch (known) {
	case OL_SPLIT_GPT2:
		for (; at < c->end; at = next) {
			next = gpt2_end(c, at);
			if (!ol_pieces_push(pieces, at, next, true))
				return false;
		}
		return true;
	case OL_SPLIT_LLAMA3:
	case OL_SPLIT_QWEN2:
		for (; at < c->end; at = next) {
			next = llama_end(c, at, known == OL_SPLIT_LLAMA3 ? 3 : 1);
			if (!ol_pieces_push(pieces, at, next, true))
				return false;
		}
		return true;
	case OL_SPLIT_DIGIT: {
		size_t begin = at;
		for (; at < c->end; at = next) {
			if (class_at(c, at, &next) != NUMBER)
				continue;
			if ((begin < at && !ol_pieces_push(pieces, begin, at, false)) ||
			    !ol_pieces_push(pieces, at, next, true))
				return false;
			begin = next;
		}
		return begin == c->end || ol_pieces_push(pieces, begin, c->end, false);
	}
	}
	OL_UNREACHABLE();
}

static const char *find_bytes(const char *text, size_t size, const char *what, size_t what_size)
{
	while (size >= what_size) {
		const char *hit = memchr(text, what[0], size - what_size + 1);
		if (!hit || memcmp(hit, what, what_size) == 0)
			return hit;
		size -= (size_t)(hit + 1 - text);
		text = hit + 1;
	}
	return NULL;
}

static bool find_string(const struct ol_split *split, struct ol_pieces *pieces, const char *text,
			size_t begin, size_t end)
{
	while (begin < end) {
		const char *hit = find_bytes(text + begin, end - begin, split->string, split->size);
		const size_t at = hit ? (size_t)(hit - text) : end;
		if ((begin < at && !ol_pieces_push(pieces, begin, at, false)) ||
		    (hit && !ol_pieces_push(pieces, at, at + split->size, true)))
			return false;
		begin = hit ? at + split->size : end;
	}
	return true;
}

enum ol_status ol_split_find(const struct ol_split *split, struct ol_split_work *work,
			     struct ol_pieces *pieces, const char *text, size_t begin, size_t end,
			     struct ol_error *err)
{
	const struct cursor cursor = {text, end};
	bool ok = false;
	switch (split->kind) {
	case OL_SPLIT_KIND_KNOWN:
		ok = find_known(split->known, pieces, &cursor, begin);
		break;
	case OL_SPLIT_KIND_STRING:
		ok = find_string(split, pieces, text, begin, end);
		break;
	case OL_SPLIT_KIND_REGEX:
		return ol_split_find_regex(split, work, pieces, text, begin, end, err);
	}
	return ok ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory while splitting a text");
}
