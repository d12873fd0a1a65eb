/* Building languages edge by edge: texts, characters, numbers in a range. */
#include "model/grammar_dfa.h"

#include "model/grammar_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits of a number that no bound limits: such a whole number fits 64 bits with its sign, and any
 * such number is finite as an f64. */
enum { INTEGER_DIGITS = 18, FRACTION_DIGITS = 17, EXPONENT_DIGITS = 2, RANGE_FRACTION_DIGITS = 6 };

void ol_nfa_init(struct ol_nfa *nfa)
{
	*nfa = (struct ol_nfa){0};
}

void ol_nfa_release(struct ol_nfa *nfa)
{
	free(nfa->edges);
	free(nfa->first);
	*nfa = (struct ol_nfa){0};
}

uint32_t ol_nfa_state(struct ol_nfa *nfa)
{
	void *first = nfa->first;
	if (nfa->failed || !ol_grammar_grow(&first, &nfa->state_room, nfa->state_count,
					    sizeof *nfa->first, OL_NFA_STATES_MAX)) {
		nfa->failed = true;
		return 0;
	}
	nfa->first = first;
	nfa->first[nfa->state_count] = -1;
	return nfa->state_count++;
}

void ol_nfa_edge(struct ol_nfa *nfa, uint32_t from, uint8_t low, uint8_t high, uint32_t to)
{
	void *edges = nfa->edges;
	if (nfa->failed || !ol_grammar_grow(&edges, &nfa->edge_room, nfa->edge_count,
					    sizeof *nfa->edges, OL_NFA_EDGES_MAX)) {
		nfa->failed = true;
		return;
	}
	nfa->edges = edges;
	nfa->edges[nfa->edge_count] = (struct ol_nfa_edge){to, nfa->first[from], low, high};
	nfa->first[from] = (int32_t)nfa->edge_count++;
}

void ol_nfa_skip(struct ol_nfa *nfa, uint32_t from, uint32_t to)
{
	ol_nfa_edge(nfa, from, 1, 0, to);
}

void ol_nfa_text(struct ol_nfa *nfa, uint32_t from, const char *text, size_t size, uint32_t to)
{
	if (size == 0)
		ol_nfa_skip(nfa, from, to);
	for (size_t i = 0; i < size && !nfa->failed; i++) {
		const uint32_t next = i + 1 == size ? to : ol_nfa_state(nfa);
		ol_nfa_edge(nfa, from, (uint8_t)text[i], (uint8_t)text[i], next);
		from = next;
	}
}

/* --- characters ------------------------------------------------------------ */

static size_t put_utf8(uint8_t out[4], uint32_t code)
{
	if (code < 0x80) {
		out[0] = (uint8_t)code;
		return 1;
	}
	const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	for (size_t i = n - 1; i > 0; i--, code >>= 6)
		out[i] = (uint8_t)(0x80 | (code & 0x3f));
	out[0] = (uint8_t)((0xf00u >> n) | code);
	return n;
}

/* All of [low, high] has the same number of bytes. Cut until the bytes are independent ranges. */
static void utf8_range(struct ol_nfa *nfa, uint32_t from, uint32_t low, uint32_t high, uint32_t to)
{
	uint8_t a[4], b[4];
	const size_t n = put_utf8(a, low);
	for (size_t i = 1; i < n; i++) {
		const uint32_t tail = (1u << 6 * i) - 1;
		if ((low & ~tail) == (high & ~tail))
			break;
		if (low & tail) {
			utf8_range(nfa, from, low, low | tail, to);
			utf8_range(nfa, from, (low | tail) + 1, high, to);
			return;
		}
		if ((high & tail) != tail) {
			utf8_range(nfa, from, low, (high & ~tail) - 1, to);
			utf8_range(nfa, from, high & ~tail, high, to);
			return;
		}
	}
	(void)put_utf8(b, high);
	for (size_t i = 0; i < n && !nfa->failed; i++) {
		const uint32_t next = i + 1 == n ? to : ol_nfa_state(nfa);
		ol_nfa_edge(nfa, from, a[i], b[i], next);
		from = next;
	}
}

/* The state that this byte leads to, made when it is first asked for; 0: not yet. */
static uint32_t branch(struct ol_nfa *nfa, uint32_t *state, uint32_t from, uint8_t byte)
{
	if (*state == 0) {
		*state = ol_nfa_state(nfa);
		ol_nfa_edge(nfa, from, byte, byte, *state);
	}
	return *state;
}

/* Characters that are escaped: what their escapes begin with is shared. */
static void escaped(struct ol_nfa *nfa, uint32_t from, const uint32_t (*ranges)[2], size_t count,
		    uint32_t to)
{
	uint32_t path[4] = {0}, last[2] = {0}; /* \ u 0 0, then 0 or 1 */
	for (size_t i = 0; i < count; i++)
		for (uint32_t c = OL_MAX(ranges[i][0], 1u); c <= OL_MIN(ranges[i][1], 0x5cu); c++) {
			char text[OL_JSON_ESCAPE_MAX];
			const size_t size = ol_json_escape(text, c);
			if (size == 1)
				continue;
			uint32_t at = branch(nfa, &path[0], from, '\\');
			if (size > 2) {
				for (int k = 1; k < 4; k++)
					at = branch(nfa, &path[k], at, (uint8_t)text[k]);
				at = branch(nfa, &last[c >> 4], at, (uint8_t)text[4]);
			}
			ol_nfa_edge(nfa, at, (uint8_t)text[size - 1], (uint8_t)text[size - 1], to);
		}
}

void ol_nfa_chars(struct ol_nfa *nfa, uint32_t from, const uint32_t (*ranges)[2], size_t count,
		  uint32_t to)
{
	static const uint32_t parts[][2] = {{0x20, 0x21},       {0x23, 0x5b},    {0x5d, 0x7f},
					    {0x80, 0x7ff},      {0x800, 0xd7ff}, {0xe000, 0xffff},
					    {0x10000, 0x10ffff}};
	escaped(nfa, from, ranges, count, to);
	for (size_t k = 0; k < count; k++)
		for (size_t i = 0; i < OL_ARRAY_LEN(parts); i++) {
			const uint32_t a = OL_MAX(ranges[k][0], parts[i][0]);
			const uint32_t b = OL_MIN(ranges[k][1], parts[i][1]);
			if (a <= b)
				utf8_range(nfa, from, a, b, to);
		}
}

void ol_nfa_any_char(struct ol_nfa *nfa, uint32_t from, uint32_t to)
{
	static const uint32_t all[][2] = {{0, 0x10ffff}};
	ol_nfa_chars(nfa, from, all, 1, to);
}

void ol_nfa_length(struct ol_nfa *nfa, uint32_t from, uint32_t min, uint32_t max, uint32_t to)
{
	for (uint32_t n = 0; n < min && !nfa->failed; n++) {
		const uint32_t next = ol_nfa_state(nfa);
		ol_nfa_any_char(nfa, from, next);
		from = next;
	}
	for (uint32_t n = min; n < max && max != UINT32_MAX && !nfa->failed; n++) {
		const uint32_t next = ol_nfa_state(nfa);
		ol_nfa_skip(nfa, from, to);
		ol_nfa_any_char(nfa, from, next);
		from = next;
	}
	if (max == UINT32_MAX)
		ol_nfa_any_char(nfa, from, from);
	ol_nfa_skip(nfa, from, to);
}

/* --- numbers --------------------------------------------------------------- */

/* Digit strings of one length between two of that length. Both bounds are walked along while they
 * still bind: bit 0 of `tight` for low, bit 1 for high. */
static void same_length(struct ol_nfa *nfa, uint32_t from, const char *low, const char *high,
			int length, uint32_t to)
{
	uint32_t states[4] = {0, 0, 0, from}, next[4];
	bool used[4] = {false, false, false, true};
	for (int i = 0; i < length && !nfa->failed; i++) {
		bool next_used[4] = {false};
		for (int t = 0; t < 4; t++)
			next[t] = i + 1 == length ? to : ol_nfa_state(nfa);
		for (unsigned t = 0; t < 4; t++) {
			const char first = t & 1 ? low[i] : '0', last = t & 2 ? high[i] : '9';
			for (char d = first; used[t] && d <= last; d++) {
				const unsigned tight = (unsigned)((t & 1) && d == low[i]) |
						       (unsigned)((t & 2) && d == high[i]) << 1;
				ol_nfa_edge(nfa, states[t], (uint8_t)d, (uint8_t)d, next[tight]);
				next_used[tight] = true;
			}
		}
		memcpy(states, next, sizeof states);
		memcpy(used, next_used, sizeof used);
	}
}

static void magnitude(struct ol_nfa *nfa, uint32_t from, uint64_t low, uint64_t high, uint32_t to)
{
	char first[24], last[24];
	for (int length = 1; length <= 19; length++) {
		uint64_t begin = length > 1, end = 9;
		for (int i = 1; i < length; i++) {
			begin *= 10;
			end = end * 10 + 9;
		}
		begin = OL_MAX(begin, low);
		end = OL_MIN(end, high);
		if (begin > end)
			continue;
		snprintf(first, sizeof first, "%llu", (unsigned long long)begin);
		snprintf(last, sizeof last, "%llu", (unsigned long long)end);
		same_length(nfa, from, first, last, length, to);
	}
}

void ol_nfa_integer(struct ol_nfa *nfa, uint32_t from, int64_t low, int64_t high, uint32_t to)
{
	if (high >= 0)
		magnitude(nfa, from, (uint64_t)OL_MAX(low, (int64_t)0), (uint64_t)high, to);
	if (low < 0) {
		const uint32_t minus = ol_nfa_state(nfa);
		ol_nfa_edge(nfa, from, '-', '-', minus);
		magnitude(nfa, minus, high < 0 ? 0 - (uint64_t)high : 1, 0 - (uint64_t)low, to);
	}
}

/* Between 1 and max digits; zeros: all of them '0'; else not all of them, if some is asked for. */
enum digits { DIGITS_ANY, DIGITS_ZERO, DIGITS_SOME };
static void digits(struct ol_nfa *nfa, uint32_t from, int max, enum digits kind, uint32_t to)
{
	uint32_t zeros = from, others = ol_nfa_state(nfa);
	for (int i = 0; i < max && !nfa->failed; i++) {
		const uint32_t next_zeros = ol_nfa_state(nfa), next_others = ol_nfa_state(nfa);
		ol_nfa_edge(nfa, zeros, '0', '0', next_zeros);
		if (kind != DIGITS_ZERO) {
			ol_nfa_edge(nfa, zeros, '1', '9', next_others);
			ol_nfa_edge(nfa, others, '0', '9', next_others);
			ol_nfa_skip(nfa, next_others, to);
		}
		if (kind != DIGITS_SOME)
			ol_nfa_skip(nfa, next_zeros, to);
		zeros = next_zeros;
		others = next_others;
	}
}

void ol_nfa_number(struct ol_nfa *nfa, uint32_t from, uint32_t to)
{
	const uint32_t unsigned_part = ol_nfa_state(nfa), whole = ol_nfa_state(nfa),
		       point = ol_nfa_state(nfa), fraction = ol_nfa_state(nfa),
		       exponent = ol_nfa_state(nfa), power = ol_nfa_state(nfa);
	int64_t most = 1;
	for (int i = 0; i < INTEGER_DIGITS; i++)
		most *= 10;
	ol_nfa_skip(nfa, from, unsigned_part);
	ol_nfa_edge(nfa, from, '-', '-', unsigned_part);
	ol_nfa_integer(nfa, unsigned_part, 0, most - 1, whole);
	ol_nfa_skip(nfa, whole, fraction);
	ol_nfa_edge(nfa, whole, '.', '.', point);
	digits(nfa, point, FRACTION_DIGITS, DIGITS_ANY, fraction);
	ol_nfa_skip(nfa, fraction, to);
	ol_nfa_edge(nfa, fraction, 'e', 'e', exponent);
	ol_nfa_edge(nfa, fraction, 'E', 'E', exponent);
	ol_nfa_skip(nfa, exponent, power);
	ol_nfa_edge(nfa, exponent, '+', '+', power);
	ol_nfa_edge(nfa, exponent, '-', '-', power);
	digits(nfa, power, EXPONENT_DIGITS, DIGITS_ANY, to);
}

/* Sizes between low and high: a whole number in the range, or one just below a number of it. */
static void size_range(struct ol_nfa *nfa, uint32_t from, int64_t low, bool low_open, int64_t high,
		       bool high_open, uint32_t to)
{
	const int64_t first = low + low_open, last = high - high_open;
	if (first <= last) {
		const uint32_t whole = ol_nfa_state(nfa), point = ol_nfa_state(nfa);
		ol_nfa_integer(nfa, from, first, last, whole);
		ol_nfa_skip(nfa, whole, to);
		ol_nfa_edge(nfa, whole, '.', '.', point);
		digits(nfa, point, RANGE_FRACTION_DIGITS, DIGITS_ZERO, to);
	}
	if (low < high) {
		const uint32_t whole = ol_nfa_state(nfa), point = ol_nfa_state(nfa);
		ol_nfa_integer(nfa, from, low, high - 1, whole);
		ol_nfa_edge(nfa, whole, '.', '.', point);
		digits(nfa, point, RANGE_FRACTION_DIGITS, DIGITS_SOME, to);
	}
}

void ol_nfa_number_range(struct ol_nfa *nfa, uint32_t from, int64_t low, bool low_open,
			 int64_t high, bool high_open, uint32_t to)
{
	if (high >= 0)
		size_range(nfa, from, OL_MAX(low, (int64_t)0), low >= 0 && low_open, high,
			   high_open, to);
	if (low < 0) {
		const uint32_t minus = ol_nfa_state(nfa);
		ol_nfa_edge(nfa, from, '-', '-', minus);
		/* Zero has no sign. */
		size_range(nfa, minus, high < 0 ? -high : 0, high >= 0 || high_open, -low, low_open,
			   to);
	}
}
