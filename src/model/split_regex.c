/* Patterns by PCRE2. Files write them in Oniguruma's Ruby dialect; what both engines read alike is
 * passed on, what they do not is spelled out or refused. */
#include "model/split_parts.h"

#include "base/buf.h"
#include "model/unicode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
	PATTERN_MAX = 1 << 16,
	MATCH_LIMIT = 2000000, /* steps of one match: a pattern that needs more hangs on purpose */
	DEPTH_LIMIT = 20000,
	STACK_START = 32 << 10,
	STACK_MAX = 4 << 20
};

/* White_Space: engines disagree about U+0085, U+180E and U+FEFF. */
#define WHITE_SPACE                                                                               \
	"\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"      \
	"\\x{202f}\\x{205f}\\x{3000}"
#define WORD_CHARACTERS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

struct translation {
	const char *pattern;
	size_t at, size;
	bool in_class;
	struct ol_buf out;
	const char *where;
	struct ol_error *err;
};

static enum ol_status refuse(const struct translation *t, const char *what)
{
	return ol_fail(t->err, OL_ERR_UNSUPPORTED,
		       "%s: the pattern uses %s at byte %zu, which is not "
		       "supported",
		       t->where, what, t->at);
}

/* PCRE2 knows Unicode 14, the oracle's engine a later one: adds the characters that are new to a
 * category ("L", "Lu"); nothing for other properties. Inside of brackets. */
static void append_newer(struct translation *t, const char *category, size_t size)
{
	for (uint16_t i = 0; size <= 2 && i < ol_unicode_newer_count; i++) {
		const struct ol_unicode_newer *n = &ol_unicode_newer[i];
		if (memcmp(n->category, category, size) == 0)
			ol_buf_printf(&t->out, "\\x{%x}-\\x{%x}", (unsigned)n->first,
				      (unsigned)n->last);
	}
}

/* \p{Name} and \P{Name}: general categories and scripts, which PCRE2 spells the same way. */
static enum ol_status translate_property(struct translation *t)
{
	const char *from = t->pattern + t->at, *close = NULL;
	const bool negative = from[1] == 'P';
	if (t->size - t->at > 3 && from[2] == '{')
		close = memchr(from, '}', OL_MIN(t->size - t->at, (size_t)40));
	if (!close || close == from + 3)
		return refuse(t, "a malformed \\p");
	for (const char *c = from + 3; c < close; c++)
		if (!isalnum((unsigned char)*c) && *c != '_')
			return refuse(t, "a property name that is not a word");
	if (negative && t->in_class)
		return refuse(t, "a negated escape inside of brackets");
	if (!t->in_class)
		ol_buf_append_text(&t->out, negative ? "[^" : "[");
	ol_buf_printf(&t->out, "\\p%.*s", (int)(close + 1 - (from + 2)), from + 2);
	append_newer(t, from + 3, (size_t)(close - (from + 3)));
	if (!t->in_class)
		ol_buf_append_text(&t->out, "]");
	t->at += (size_t)(close + 1 - from);
	return OL_OK;
}

static enum ol_status translate_class_escape(struct translation *t, const char *positive,
					     char letter)
{
	const bool negative = isupper((unsigned char)letter);
	if (t->in_class && negative)
		return refuse(t, "a negated escape inside of brackets");
	if (!t->in_class)
		ol_buf_append_text(&t->out, negative ? "[^" : "[");
	ol_buf_append_text(&t->out, positive);
	if (letter == 'w' || letter == 'W') {
		append_newer(t, "L", 1);
		append_newer(t, "M", 1);
		append_newer(t, "Pc", 2);
	}
	if (letter != 's' && letter != 'S')
		append_newer(t, "Nd", 2);
	if (!t->in_class)
		ol_buf_append_text(&t->out, "]");
	t->at += 2;
	return OL_OK;
}

static enum ol_status translate_code(struct translation *t)
{
	/* \uHHHH */
	const char *from = t->pattern + t->at;
	if (t->size - t->at < 6)
		return refuse(t, "a malformed \\u");
	for (int i = 2; i < 6; i++)
		if (!isxdigit((unsigned char)from[i]))
			return refuse(t, "a malformed \\u");
	ol_buf_printf(&t->out, "\\x{%.4s}", from + 2);
	t->at += 6;
	return OL_OK;
}

static enum ol_status translate_escape(struct translation *t)
{
	if (t->size - t->at < 2)
		return refuse(t, "a trailing backslash");
	const char letter = t->pattern[t->at + 1];
	switch (letter) {
	case 'p':
	case 'P':
		return translate_property(t);
	case 's':
	case 'S':
		return translate_class_escape(t, WHITE_SPACE, letter);
	case 'w':
	case 'W':
		return translate_class_escape(t, WORD_CHARACTERS, letter);
	case 'd':
	case 'D':
		return translate_class_escape(t, "\\p{Nd}", letter);
	case 'u':
		return translate_code(t);
	case 'r':
	case 'n':
	case 't':
	case 'f':
		break;
	default:
		if (isalnum((unsigned char)letter) || (unsigned char)letter >= 0x80)
			return refuse(t, "an escape");
	}
	ol_buf_append(&t->out, t->pattern + t->at, 2);
	t->at += 2;
	return OL_OK;
}

static bool next_is(const struct translation *t, const char *text)
{
	const size_t length = strlen(text);
	return t->size - t->at >= length && memcmp(t->pattern + t->at, text, length) == 0;
}

/* (?: (?= (?! (?<= (?<! (?> (?i: and plain groups mean the same to both engines. */
static enum ol_status check_group(const struct translation *t)
{
	static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
	if (next_is(t, "(*"))
		return refuse(t, "a verb");
	if (!next_is(t, "(?"))
		return OL_OK;
	for (size_t i = 0; i < OL_ARRAY_LEN(known); i++)
		if (next_is(t, known[i]))
			return OL_OK;
	return refuse(t, "a kind of group");
}

static enum ol_status translate_character(struct translation *t)
{
	const char c = t->pattern[t->at];
	enum ol_status s = OL_OK;
	if (c == '\\')
		return translate_escape(t);
	if (t->in_class) {
		if (c == '[')
			s = refuse(t, "a bracket inside of brackets");
		else if (next_is(t, "&&"))
			s = refuse(t, "an intersection of classes");
		t->in_class = c != ']';
	} else if (c == '(') {
		s = check_group(t);
	} else if (c == '[') {
		t->in_class = true;
		if (next_is(t, "[]") || next_is(t, "[^]"))
			s = refuse(t, "an empty class");
		else if (next_is(t, "[^")) {
			ol_buf_append(&t->out, "[", 1);
			t->at++;
		}
	} else if (c == '^' || c == '$') {
		s = refuse(t, "a line anchor");
	}
	if (s != OL_OK)
		return s;
	ol_buf_append(&t->out, t->pattern + t->at, 1);
	t->at++;
	return OL_OK;
}

static enum ol_status compile(struct ol_split *split, const struct translation *t)
{
	int code;
	PCRE2_SIZE offset;
	split->code = pcre2_compile((PCRE2_SPTR)t->out.data, t->out.size,
				    PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK |
					    PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE,
				    &code, &offset, NULL);
	if (!split->code) {
		char reason[128] = "";
		pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
		return ol_fail(t->err, OL_ERR_INPUT, "%s: the pattern \"%.*s\" is malformed: %s",
			       t->where, (int)OL_MIN(t->size, (size_t)80), t->pattern, reason);
	}
	/* Without JIT (a machine that has none) the interpreter gives the same pieces. */
	(void)pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE);
	return OL_OK;
}

enum ol_status ol_split_compile(struct ol_split *split, const char *pattern, size_t size,
				const char *where, struct ol_error *err)
{
	struct translation t = {.pattern = pattern, .size = size, .where = where, .err = err};
	enum ol_status s = OL_OK;
	if (size == 0 || size > PATTERN_MAX)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: the pattern has %zu bytes; 1 to %d are "
			       "supported",
			       where, size, PATTERN_MAX);
	ol_buf_init(&t.out, 256 * PATTERN_MAX);
	while (s == OL_OK && t.at < size)
		s = translate_character(&t);
	if (s == OL_OK && t.in_class)
		s = ol_fail(err, OL_ERR_INPUT, "%s: the pattern does not close a bracket", where);
	if (s == OL_OK && t.out.failed)
		s = ol_fail(err, OL_ERR_FULL, "%s: out of memory", where);
	if (s == OL_OK)
		s = compile(split, &t);
	ol_buf_release(&t.out);
	return s;
}

bool ol_split_work_open(struct ol_split_work **work_out)
{
	struct ol_split_work *work = calloc(1, sizeof *work);
	if (!work)
		return false;
	work->match = pcre2_match_data_create(1, NULL);
	work->context = pcre2_match_context_create(NULL);
	work->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
	if (!work->match || !work->context) {
		ol_split_work_close(work);
		return false;
	}
	pcre2_set_match_limit(work->context, MATCH_LIMIT);
	pcre2_set_depth_limit(work->context, DEPTH_LIMIT);
	if (work->stack)
		pcre2_jit_stack_assign(work->context, NULL, work->stack);
	*work_out = work;
	return true;
}

void ol_split_work_close(struct ol_split_work *work)
{
	if (!work)
		return;
	pcre2_match_data_free(work->match);
	pcre2_match_context_free(work->context);
	pcre2_jit_stack_free(work->stack);
	free(work);
}

static size_t character_after(const char *text, size_t at, size_t end)
{
	at++;
	while (at < end && ((uint8_t)text[at] & 0xc0) == 0x80)
		at++;
	return at;
}

/* Oniguruma's iteration: an empty match right behind the last match is passed over. */
enum ol_status ol_split_find_regex(const struct ol_split *split, struct ol_split_work *work,
				   struct ol_pieces *pieces, const char *text, size_t begin,
				   size_t end, struct ol_error *err)
{
	const char *subject = text + begin;
	const size_t size = end - begin;
	size_t at = 0, covered = 0;
	bool any = false, ok = true;
	while (ok && at <= size) {
		const int found = pcre2_match(split->code, (PCRE2_SPTR)subject, size, at,
					      PCRE2_NO_UTF_CHECK, work->match, work->context);
		if (found == PCRE2_ERROR_NOMATCH)
			break;
		if (found < 0) {
			char reason[128] = "";
			pcre2_get_error_message(found, (PCRE2_UCHAR *)reason, sizeof reason);
			return ol_fail(err, OL_ERR_INPUT,
				       "the tokenizer's split pattern gave up at byte "
				       "%zu of a text: %s",
				       at, reason);
		}
		const PCRE2_SIZE *match = pcre2_get_ovector_pointer(work->match);
		const size_t from = match[0], to = match[1];
		if (to < from || from < covered)
			return ol_fail(err, OL_ERR_UNSUPPORTED,
				       "the tokenizer's split pattern matches backwards");
		if (from == to && any && to == covered) {
			at = character_after(subject, at, size);
			continue;
		}
		if (covered < from)
			ok = ol_pieces_push(pieces, begin + covered, begin + from, false);
		ok = ok && ol_pieces_push(pieces, begin + from, begin + to, true);
		at = covered = to;
		any = true;
	}
	if (ok && covered < size)
		ok = ol_pieces_push(pieces, begin + covered, end, false);
	return ok ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory while splitting a text");
}
