/* Patterns of JSON Schema: ECMAScript's regular expressions, as far as they are regular.
 *
 *     alternatives  sequence ('|' sequence)*
 *     sequence      ['^'] (atom [quantifier])* ['$']       anchors only in the outermost sequences
 *     atom          character | '.' | '[' class ']' | '\' escape | '(' ['?:' | '?<name>'] … ')'
 *
 * A repeated atom is read again for every repetition: the pattern itself is the tree. */
#include "model/grammar_dfa.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { GROUPS_MAX = 64, REPEAT_MAX = 1000, RANGES_MAX = 512, CODE_MAX = 0x10ffff };

struct pattern {
	struct ol_nfa *nfa;
	const char *text;
	size_t size, at;
	int groups;
	const char *failure;
};

/* Code points, as ranges. */
struct set {
	uint32_t ranges[RANGES_MAX][2];
	size_t count;
	bool full; /* more than there is room for */
};

static bool fails(struct pattern *p, const char *why)
{
	if (!p->failure)
		p->failure = why;
	return false;
}

static char peek(const struct pattern *p)
{
	return p->at < p->size ? p->text[p->at] : '\0';
}

static bool peek_is(const struct pattern *p, char c)
{
	return p->at < p->size && p->text[p->at] == c;
}

/* --- sets of characters ---------------------------------------------------- */

static void add(struct set *set, uint32_t low, uint32_t high)
{
	if (set->count == RANGES_MAX) {
		set->full = true;
		return;
	}
	set->ranges[set->count][0] = low;
	set->ranges[set->count++][1] = high;
}

static int compare_ranges(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;
	return (x[0] > y[0]) - (x[0] < y[0]);
}

/* Ascending, disjoint, not touching. */
static void normalise(struct set *set)
{
	size_t kept = 0;
	qsort(set->ranges, set->count, sizeof *set->ranges, compare_ranges);
	for (size_t i = 0; i < set->count; i++) {
		if (kept > 0 && set->ranges[i][0] <= set->ranges[kept - 1][1] + 1)
			set->ranges[kept - 1][1] =
				OL_MAX(set->ranges[kept - 1][1], set->ranges[i][1]);
		else
			memmove(set->ranges[kept++], set->ranges[i], sizeof *set->ranges);
	}
	set->count = kept;
}

static void negate(struct set *set)
{
	struct set out = {.full = set->full};
	uint32_t next = 0;
	normalise(set);
	for (size_t i = 0; i < set->count; i++) {
		if (set->ranges[i][0] > next)
			add(&out, next, set->ranges[i][0] - 1);
		next = set->ranges[i][1] + 1;
	}
	if (next <= CODE_MAX)
		add(&out, next, CODE_MAX);
	*set = out;
}

/* \d \w \s and, as capitals, the others. */
static void add_named(struct set *set, char name)
{
	static const uint32_t digit[][2] = {{'0', '9'}};
	static const uint32_t word[][2] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
	static const uint32_t space[][2] = {{9, 13},          {' ', ' '},       {0xa0, 0xa0},
					    {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
					    {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
					    {0xfeff, 0xfeff}};
	const char kind = (char)(name | 0x20);
	const uint32_t(*ranges)[2] = kind == 'd' ? digit : kind == 'w' ? word : space;
	const size_t count = kind == 'd'   ? OL_ARRAY_LEN(digit)
			     : kind == 'w' ? OL_ARRAY_LEN(word)
					   : OL_ARRAY_LEN(space);
	struct set named = {.count = 0};
	for (size_t i = 0; i < count; i++)
		add(&named, ranges[i][0], ranges[i][1]);
	if (name != kind)
		negate(&named);
	for (size_t i = 0; i < named.count; i++)
		add(set, named.ranges[i][0], named.ranges[i][1]);
}

static bool hex(struct pattern *p, int count, uint32_t *code)
{
	*code = 0;
	for (int i = 0; i < count; i++, p->at++) {
		const char c = peek(p);
		if (c >= '0' && c <= '9')
			*code = *code * 16 + (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*code = *code * 16 + (uint32_t)((c | 0x20) - 'a') + 10;
		else
			return fails(p, "a \\x or \\u is not followed by its hexadecimal digits");
	}
	return true;
}

/* After "\u": four digits, a pair of surrogates, or {digits}. */
static bool unicode_escape(struct pattern *p, uint32_t *code)
{
	uint32_t low;
	if (peek_is(p, '{')) {
		int count = 0;
		p->at++;
		while (p->at + (size_t)count < p->size && p->text[p->at + (size_t)count] != '}')
			count++;
		if (count < 1 || count > 6 || !hex(p, count, code) || *code > CODE_MAX ||
		    !peek_is(p, '}'))
			return fails(p, "a \\u{…} does not hold the number of a character");
		p->at++;
		return true;
	}
	if (!hex(p, 4, code))
		return false;
	if (*code < 0xd800 || *code > 0xdfff)
		return true;
	if (*code > 0xdbff || p->size - p->at < 6 || memcmp(p->text + p->at, "\\u", 2) != 0)
		return fails(p, "half of a surrogate pair can never match");
	p->at += 2;
	if (!hex(p, 4, &low) || low < 0xdc00 || low > 0xdfff)
		return fails(p, "half of a surrogate pair can never match");
	*code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

/* After a backslash. *named: it is a set of its own, and has been added; else *code. */
static bool escape(struct pattern *p, struct set *set, bool in_class, bool *named, uint32_t *code)
{
	static const char names[] = "tnrfv0", values[] = "\t\n\r\f\v";
	if (p->at >= p->size)
		return fails(p, "it ends with a backslash");
	const char c = p->text[p->at];
	*named = false;
	if (c && strchr("dDwWsS", c)) {
		add_named(set, c);
		*named = true;
		p->at++;
		return true;
	}
	if (c == 'u' || c == 'x') {
		p->at++;
		return c == 'u' ? unicode_escape(p, code) : hex(p, 2, code);
	}
	const char *name = c ? strchr(names, c) : NULL;
	if (name || (in_class && c == 'b')) {
		p->at++;
		*code = name ? (uint32_t)values[name - names] : '\b';
		return true;
	}
	if (c == 'b' || c == 'B')
		return fails(p, "word boundaries (\\b, \\B) are not supported");
	if (c >= '1' && c <= '9')
		return fails(p, "back references are not regular");
	if (((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_')
		return fails(p,
			     "it has an escape that is not supported (\\p, \\k, \\c and others)");
	size_t length;
	*code = ol_utf8_at(p->text + p->at, &length);
	p->at += length;
	return true;
}

static bool class_member(struct pattern *p, struct set *set, bool *named, uint32_t *code)
{
	size_t length;
	*named = false;
	if (p->at >= p->size)
		return fails(p, "a [ has no ]");
	if (p->text[p->at] == '\\') {
		p->at++;
		return escape(p, set, true, named, code);
	}
	*code = ol_utf8_at(p->text + p->at, &length);
	p->at += length;
	return true;
}

/* After "[". */
static bool read_class(struct pattern *p, struct set *set)
{
	const bool negated = peek_is(p, '^');
	p->at += negated;
	while (!peek_is(p, ']')) {
		uint32_t low, high;
		bool low_named, high_named;
		if (!class_member(p, set, &low_named, &low))
			return false;
		if (!peek_is(p, '-') || p->at + 1 >= p->size || p->text[p->at + 1] == ']') {
			if (!low_named)
				add(set, low, low);
			continue;
		}
		p->at++;
		if (!class_member(p, set, &high_named, &high))
			return false;
		if (low_named || high_named || low > high)
			return fails(p, "a range in [] is not from a lower to a higher character");
		add(set, low, high);
	}
	p->at++;
	if (negated)
		negate(set);
	return !set->full || fails(p, "a [] has too many ranges");
}

static void emit(struct pattern *p, struct set *set, uint32_t from, uint32_t to)
{
	normalise(set);
	ol_nfa_chars(p->nfa, from, (const uint32_t(*)[2])set->ranges, set->count, to);
}

/* --- structure ------------------------------------------------------------- */

static bool alternatives(struct pattern *p, uint32_t from, uint32_t to);

/* After "(": what kind of group it is. */
static bool open_group(struct pattern *p)
{
	if (!peek_is(p, '?'))
		return true;
	p->at++;
	if (peek_is(p, ':')) {
		p->at++;
		return true;
	}
	const bool name = p->size - p->at > 1 && p->text[p->at] == '<' &&
			  p->text[p->at + 1] != '=' && p->text[p->at + 1] != '!';
	const char *end = name ? memchr(p->text + p->at, '>', p->size - p->at) : NULL;
	if (!end)
		return fails(p, "look-around and flags inside groups are not supported");
	p->at = (size_t)(end - p->text) + 1;
	return true;
}

static bool atom(struct pattern *p, uint32_t from, uint32_t to)
{
	struct set set;
	bool named = false, ok = true;
	uint32_t code = 0;
	const char c = p->text[p->at];
	set.count = 0;
	set.full = false;
	if (c == '(') {
		p->at++;
		if (p->groups == GROUPS_MAX)
			return fails(p, "its groups nest too deep");
		p->groups++;
		ok = open_group(p) && alternatives(p, from, to);
		p->groups--;
		if (ok && !peek_is(p, ')'))
			return fails(p, "a ( has no )");
		p->at++;
		return ok;
	}
	if (c == '[') {
		p->at++;
		ok = read_class(p, &set);
	} else if (c == '\\') {
		p->at++;
		ok = escape(p, &set, false, &named, &code);
		if (ok && !named)
			add(&set, code, code);
	} else if (c == '.') {
		p->at++;
		add(&set, '\n', '\n');
		add(&set, '\r', '\r');
		add(&set, 0x2028, 0x2029);
		negate(&set);
	} else if (c == '^' || c == '$') {
		return fails(p, "^ may only begin it and $ only end it (or its outermost "
				"alternatives)");
	} else if (c && strchr("*+?{", c)) {
		return fails(p, "a quantifier has nothing to repeat");
	} else {
		size_t length;
		code = ol_utf8_at(p->text + p->at, &length);
		p->at += length;
		add(&set, code, code);
	}
	if (ok)
		emit(p, &set, from, to);
	return ok;
}

/* Passes over a group or a class without reading it closely: where its quantifier stands. */
static bool pass_atom(struct pattern *p)
{
	int depth = 0;
	bool in_class = false;
	do {
		if (p->at >= p->size)
			return fails(p, "a ( or [ is not closed");
		const char c = p->text[p->at];
		p->at += c == '\\' ? 2 : 1;
		if (in_class)
			in_class = c != ']';
		else if (c == '[')
			in_class = true;
		else if (c == '(')
			depth++;
		else if (c == ')')
			depth--;
	} while (depth > 0 || in_class);
	p->at = OL_MIN(p->at, p->size);
	return true;
}

static bool number(struct pattern *p, uint32_t *value)
{
	const size_t begin = p->at;
	*value = 0;
	for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
		*value = OL_MIN(*value * 10 + (uint32_t)(peek(p) - '0'), 1000000u);
	return p->at > begin;
}

/* A quantifier, if there is one; else once. */
static bool quantifier(struct pattern *p, uint32_t *min, uint32_t *max)
{
	const char c = peek(p);
	*min = c == '+' ? 1 : 0;
	*max = c == '?' ? 1 : UINT32_MAX;
	if (c == '{') {
		p->at++;
		if (!number(p, min))
			return fails(p, "a { is not a quantifier: write \\{ for the character");
		*max = *min;
		if (peek_is(p, ',')) {
			p->at++;
			if (!number(p, max))
				*max = UINT32_MAX;
		}
		if (!peek_is(p, '}'))
			return fails(p, "a { is not a quantifier: write \\{ for the character");
		if (*max < *min || *min > REPEAT_MAX || (*max > REPEAT_MAX && *max != UINT32_MAX))
			return fails(p, "a {min,max} is out of order or above 1000");
		p->at++;
	} else if (c && strchr("*+?", c)) {
		p->at++;
	} else {
		*min = *max = 1;
		return true;
	}
	if (peek_is(p, '?')) /* lazy: finds another match, but matches the same texts */
		p->at++;
	if (peek(p) && strchr("*+?{", peek(p)))
		return fails(p, "a quantifier has nothing to repeat");
	return true;
}

/* An atom and its quantifier, from *from on; *from is then the state after it. */
static bool repeated(struct pattern *p, uint32_t *from)
{
	const size_t begin = p->at;
	uint32_t min, max;
	/* Where does it end? What is read for that comes from a state that nothing leads to. */
	const bool bracket = peek_is(p, '(') || peek_is(p, '[');
	const uint32_t nowhere = ol_nfa_state(p->nfa);
	if (!(bracket ? pass_atom(p) : atom(p, nowhere, nowhere)) || !quantifier(p, &min, &max))
		return false;
	const size_t end = p->at;
	const uint32_t after = ol_nfa_state(p->nfa);
	for (uint32_t i = 0; i < min; i++) {
		const uint32_t next = ol_nfa_state(p->nfa);
		p->at = begin;
		if (p->nfa->failed || !atom(p, *from, next))
			return false;
		*from = next;
	}
	for (uint32_t i = min; i < max && max != UINT32_MAX; i++) {
		const uint32_t next = ol_nfa_state(p->nfa);
		p->at = begin;
		ol_nfa_skip(p->nfa, *from, after);
		if (p->nfa->failed || !atom(p, *from, next))
			return false;
		*from = next;
	}
	if (max == UINT32_MAX) {
		const uint32_t loop = ol_nfa_state(p->nfa), back = ol_nfa_state(p->nfa);
		p->at = begin;
		ol_nfa_skip(p->nfa, *from, loop);
		if (p->nfa->failed || !atom(p, loop, back))
			return false;
		ol_nfa_skip(p->nfa, back, loop);
		*from = loop;
	}
	ol_nfa_skip(p->nfa, *from, after);
	*from = after;
	p->at = end;
	return true;
}

static bool sequence(struct pattern *p, uint32_t from, uint32_t to)
{
	const bool outermost = p->groups == 0;
	bool anchored = !outermost;
	uint32_t state = ol_nfa_state(p->nfa);
	ol_nfa_skip(p->nfa, from, state);
	if (outermost && peek_is(p, '^'))
		p->at++;
	else if (outermost)
		ol_nfa_any_char(p->nfa, state, state);
	while (p->at < p->size && !peek_is(p, '|') && !(peek_is(p, ')') && !outermost)) {
		if (peek_is(p, ')'))
			return fails(p, "a ) has no (");
		if (outermost && peek_is(p, '$') &&
		    (p->at + 1 == p->size || p->text[p->at + 1] == '|')) {
			p->at++;
			anchored = true;
			break;
		}
		if (p->nfa->failed || !repeated(p, &state))
			return false;
	}
	if (!anchored) {
		const uint32_t rest = ol_nfa_state(p->nfa);
		ol_nfa_skip(p->nfa, state, rest);
		ol_nfa_any_char(p->nfa, rest, rest);
		state = rest;
	}
	ol_nfa_skip(p->nfa, state, to);
	return true;
}

static bool alternatives(struct pattern *p, uint32_t from, uint32_t to)
{
	for (;;) {
		if (!sequence(p, from, to))
			return false;
		if (!peek_is(p, '|'))
			return true;
		p->at++;
	}
}

enum ol_status ol_nfa_pattern(struct ol_nfa *nfa, uint32_t from, const char *pattern, size_t size,
			      uint32_t to, const char **failure)
{
	struct pattern p = {.nfa = nfa, .text = pattern, .size = size};
	*failure = NULL;
	const bool ok = alternatives(&p, from, to);
	*failure = p.failure;
	if (nfa->failed)
		return OL_ERR_FULL;
	return ok ? OL_OK : OL_ERR_UNSUPPORTED;
}

/* --- formats --------------------------------------------------------------- */

#define DAY_OF_MONTH                                                                               \
	"((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"            \
	"02-(0[1-9]|1[0-9]|2[0-8]))"
#define LEAP_YEAR "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
#define DATE "([1-9][0-9]{3}-" DAY_OF_MONTH "|" LEAP_YEAR "-02-29)"
#define CLOCK "([01][0-9]|2[0-3]):[0-5][0-9]"
#define TIME CLOCK ":[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" CLOCK ")"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define WORDS "[A-Za-z0-9]+(-+[A-Za-z0-9]+)*"
#define ATEXT "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"

const char *ol_grammar_format_pattern(const char *format)
{
	static const struct {
		const char *name, *pattern;
	} formats[] = {
		{"date", "^" DATE "$"},
		{"time", "^" TIME "$"},
		{"date-time", "^" DATE "T" TIME "$"},
		{"duration", "^P([0-9]{1,9}W|([0-9]{1,9}Y)?([0-9]{1,9}M)?[0-9]{1,9}D|"
			     "([0-9]{1,9}Y)?[0-9]{1,9}M|[0-9]{1,9}Y|"
			     "T[0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|"
			     "T[0-9]{1,9}M([0-9]{1,9}S)?|T[0-9]{1,9}S)$"},
		{"uuid", "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
		{"email", "^" ATEXT "(\\." ATEXT ")*@(" WORDS "\\.)+" WORDS "$"},
		{"hostname", "^(" LABEL "\\.){0,3}" LABEL "$"},
		{"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(formats); i++)
		if (strcmp(formats[i].name, format) == 0)
			return formats[i].pattern;
	return NULL;
}
