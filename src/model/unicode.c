#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

/* The length of the well-formed character at s, or 0; *partial_out tells how many leading bytes
 * could still become one if more text followed (the "maximal subpart" of the Unicode standard). */
static size_t character_length(const uint8_t *s, size_t size, size_t *partial_out)
{
	*partial_out = 1;
	if (s[0] < 0x80)
		return 1;
	size_t length;
	uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
	if (s[0] >= 0xc2 && s[0] <= 0xdf) {
		length = 2;
	} else if (s[0] >= 0xe0 && s[0] <= 0xef) {
		length = 3;
		low = s[0] == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
		high = s[0] == 0xed ? 0x9f : 0xbf; /* no surrogates     */
	} else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		length = 4;
		low = s[0] == 0xf0 ? 0x90 : 0x80;
		high = s[0] == 0xf4 ? 0x8f : 0xbf; /* up to U+10FFFF    */
	} else {
		return 0;
	}
	for (size_t i = 1; i < length; i++) {
		if (i >= size || s[i] < low || s[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
		*partial_out = i + 1;
	}
	return length;
}

size_t ol_utf8_check(const char *text, size_t size)
{
	size_t at = 0, partial;
	while (at < size) {
		uint64_t eight;
		if (size - at >= sizeof eight) {
			memcpy(&eight, text + at, sizeof eight);
			if ((eight & 0x8080808080808080u) == 0) {
				at += sizeof eight;
				continue;
			}
		}
		const size_t length =
			character_length((const uint8_t *)text + at, size - at, &partial);
		if (length == 0)
			return at;
		at += length;
	}
	return size;
}

size_t ol_utf8_complete(const char *text, size_t size)
{
	for (size_t back = 1; back <= 3 && back <= size; back++) {
		const uint8_t *s = (const uint8_t *)text + size - back;
		size_t partial;
		if ((*s & 0xc0) == 0x80)
			continue;
		if (character_length(s, back, &partial) == 0 && *s >= 0xc2 && *s <= 0xf4 &&
		    partial == back)
			return size - back;
		return size;
	}
	return size;
}

bool ol_utf8_append_lossy(struct ol_buf *buf, const char *bytes, size_t size)
{
	while (size > 0) {
		const size_t valid = ol_utf8_check(bytes, size);
		if (!ol_buf_append(buf, bytes, valid))
			return false;
		bytes += valid;
		size -= valid;
		if (size > 0) {
			size_t partial;
			(void)character_length((const uint8_t *)bytes, size, &partial);
			if (!ol_buf_append_text(buf, "\xef\xbf\xbd"))
				return false;
			bytes += partial;
			size -= partial;
		}
	}
	return true;
}

size_t ol_utf8_put(char out[4], uint32_t code)
{
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		out[0] = (char)(0xe0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3f));
		out[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | code >> 18);
	out[1] = (char)(0x80 | (code >> 12 & 0x3f));
	out[2] = (char)(0x80 | (code >> 6 & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

/* Hangul syllables compose by arithmetic. */
enum {
	HANGUL_S = 0xac00,
	HANGUL_L = 0x1100,
	HANGUL_V = 0x1161,
	HANGUL_T = 0x11a7,
	HANGUL_LS = 19,
	HANGUL_VS = 21,
	HANGUL_TS = 28,
	HANGUL_SS = HANGUL_LS * HANGUL_VS * HANGUL_TS
};

/* One stretch that has to be looked at, decomposed. It holds a starter and its marks at a time,
 * plus what follows up to the next character that NFC leaves alone. */
struct stretch {
	uint32_t *codes;
	uint8_t *orders; /* of combining classes; 0 for starters */
	char *marks;
	size_t count, room;
};

static int compare_mark(const void *key, const void *entry)
{
	const uint32_t code = *(const uint32_t *)key;
	const struct ol_unicode_mark *mark = entry;
	return code < mark->first ? -1 : code > mark->last;
}

static uint8_t order_of(uint32_t code)
{
	const struct ol_unicode_mark *mark = bsearch(&code, ol_unicode_marks, ol_unicode_mark_count,
						     sizeof *mark, compare_mark);
	return mark ? mark->order : 0;
}

static int compare_decomposition(const void *key, const void *entry)
{
	const uint32_t code = *(const uint32_t *)key;
	const uint32_t other = ((const struct ol_unicode_decomposition *)entry)->code;
	return (code > other) - (code < other);
}

static int compare_composition(const void *key, const void *entry)
{
	const struct ol_unicode_composition *a = key, *b = entry;
	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return (a->second > b->second) - (a->second < b->second);
}

static bool stretch_push(struct stretch *s, uint32_t code, char mark)
{
	if (s->count == s->room) {
		const size_t room = OL_MAX(s->room * 2, (size_t)64);
		uint32_t *codes = realloc(s->codes, room * sizeof *codes);
		if (codes)
			s->codes = codes;
		uint8_t *orders = realloc(s->orders, room);
		if (orders)
			s->orders = orders;
		char *marks = realloc(s->marks, room);
		if (marks)
			s->marks = marks;
		if (!codes || !orders || !marks)
			return false;
		s->room = room;
	}
	s->codes[s->count] = code;
	s->orders[s->count] = order_of(code);
	s->marks[s->count] = mark;
	s->count++;
	return true;
}

static bool decompose(struct stretch *s, uint32_t code, char mark)
{
	if (code >= HANGUL_S && code < HANGUL_S + HANGUL_SS) {
		const uint32_t i = code - HANGUL_S, t = i % HANGUL_TS;
		return stretch_push(s, HANGUL_L + i / (HANGUL_VS * HANGUL_TS), mark) &&
		       stretch_push(s, HANGUL_V + i / HANGUL_TS % HANGUL_VS, mark) &&
		       (t == 0 || stretch_push(s, HANGUL_T + t, mark));
	}
	const struct ol_unicode_decomposition *d =
		bsearch(&code, ol_unicode_decompositions, ol_unicode_decomposition_count, sizeof *d,
			compare_decomposition);
	if (!d)
		return stretch_push(s, code, mark);
	for (int i = 0; i < d->count; i++)
		if (!stretch_push(s, ol_unicode_decomposed[d->begin + i], mark))
			return false;
	return true;
}

/* Stable counting sort of each run of marks by the order of their classes: a run of 100,000 marks
 * must not be quadratic. */
static bool order_marks(struct stretch *s)
{
	for (size_t begin = 0; begin < s->count;) {
		size_t end = begin, counts[257] = {0};
		bool sorted = true;
		for (; end < s->count && s->orders[end] > 0; end++) {
			counts[s->orders[end] + 1]++;
			sorted = sorted && (end == begin || s->orders[end - 1] <= s->orders[end]);
		}
		if (!sorted) {
			const size_t n = end - begin;
			uint32_t *codes = malloc(n * (sizeof *codes + 2));
			if (!codes)
				return false;
			char *marks = (char *)(codes + n), *orders = marks + n;
			for (int i = 1; i <= 256; i++)
				counts[i] += counts[i - 1];
			for (size_t i = begin; i < end; i++) {
				const size_t to = counts[s->orders[i]]++;
				codes[to] = s->codes[i];
				marks[to] = s->marks[i];
				orders[to] = (char)s->orders[i];
			}
			memcpy(s->codes + begin, codes, n * sizeof *codes);
			memcpy(s->marks + begin, marks, n);
			memcpy(s->orders + begin, orders, n);
			free(codes);
		}
		begin = end + 1;
	}
	return true;
}

/* The primary composite of two characters, or 0. */
static uint32_t compose(uint32_t a, uint32_t b)
{
	if (a >= HANGUL_L && a < HANGUL_L + HANGUL_LS && b >= HANGUL_V && b < HANGUL_V + HANGUL_VS)
		return HANGUL_S + ((a - HANGUL_L) * HANGUL_VS + (b - HANGUL_V)) * HANGUL_TS;
	if (a >= HANGUL_S && a < HANGUL_S + HANGUL_SS && (a - HANGUL_S) % HANGUL_TS == 0 &&
	    b > HANGUL_T && b < HANGUL_T + HANGUL_TS)
		return a + (b - HANGUL_T);
	const struct ol_unicode_composition key = {a, b, 0}, *found;
	found = bsearch(&key, ol_unicode_compositions, ol_unicode_composition_count, sizeof *found,
			compare_composition);
	return found ? found->composed : 0;
}

/* The canonical composition algorithm, in place. */
static void compose_stretch(struct stretch *s)
{
	size_t kept = 0, starter = SIZE_MAX;
	int last_order = -1; /* of the last character kept after the starter; -1: none */
	for (size_t i = 0; i < s->count; i++) {
		const uint8_t order = s->orders[i];
		const bool blocked = last_order >= 0 && (last_order >= order || last_order == 0);
		const uint32_t composed = starter == SIZE_MAX || blocked
						  ? 0
						  : compose(s->codes[starter], s->codes[i]);
		if (composed) {
			s->codes[starter] = composed;
			s->marks[starter] |= s->marks[i];
			continue;
		}
		s->codes[kept] = s->codes[i];
		s->orders[kept] = order;
		s->marks[kept] = s->marks[i];
		if (order == 0) {
			starter = kept;
			last_order = -1;
		} else {
			last_order = order;
		}
		kept++;
	}
	s->count = kept;
}

static bool put_stretch(struct ol_buf *out, struct ol_buf *marks_out, struct stretch *s)
{
	if (!order_marks(s))
		return false;
	compose_stretch(s);
	for (size_t i = 0; i < s->count; i++) {
		char bytes[4], marks[4];
		const size_t length = ol_utf8_put(bytes, s->codes[i]);
		memset(marks, s->marks[i], sizeof marks);
		if (!ol_buf_append(out, bytes, length) ||
		    (marks_out && !ol_buf_append(marks_out, marks, length)))
			return false;
	}
	s->count = 0;
	return true;
}

static char mark_of(const char *marks, size_t begin, size_t length)
{
	return marks && memchr(marks + begin, 1, length) ? 1 : 0;
}

static bool needs_look(uint32_t code)
{
	return (ol_unicode_class(code) & OL_UNICODE_NFC_LOOK) != 0;
}

bool ol_unicode_nfc(struct ol_buf *out, struct ol_buf *marks_out, const char *text, size_t size,
		    const char *marks_in)
{
	struct stretch s = {0};
	size_t done = 0, at = 0, length;
	bool ok = true;
	while (ok && at < size) {
		if ((uint8_t)text[at] < 0xcc) { /* below U+0300 NFC leaves everything alone */
			at++;
			continue;
		}
		if (!needs_look(ol_utf8_at(text + at, &length))) {
			at += length;
			continue;
		}
		/* The character before may be what this one composes with. */
		const size_t begin = at > done ? ol_utf8_before(text, at) : at;
		ok = ol_buf_append(out, text + done, begin - done) &&
		     (!marks_out || ol_buf_append(marks_out, marks_in + done, begin - done));
		for (at = begin; ok && at < size; at += length) {
			const uint32_t code = ol_utf8_at(text + at, &length);
			if (at > begin && !needs_look(code))
				break;
			ok = decompose(&s, code, mark_of(marks_in, at, length));
		}
		ok = ok && put_stretch(out, marks_out, &s);
		done = at;
	}
	ok = ok && ol_buf_append(out, text + done, size - done) &&
	     (!marks_out || ol_buf_append(marks_out, marks_in + done, size - done));
	free(s.codes);
	free(s.orders);
	free(s.marks);
	return ok;
}
