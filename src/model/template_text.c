/* Strings that know, byte by byte, who wrote them.
 *
 * Most strings have one author, so the marks (one byte each) exist only where two met. Parts of a
 * string share its bytes and marks; only a builder makes new ones. */
#include "model/template_internal.h"

#include <string.h>

struct ol_tpl_text ol_tpl_text_of(const char *literal)
{
	return (struct ol_tpl_text){.bytes = literal, .size = strlen(literal)};
}

struct ol_tpl_text ol_tpl_text_part(struct ol_tpl_text text, size_t begin, size_t end)
{
	OL_ASSERT(begin <= end && end <= text.size);
	if (begin == end) /* nothing, written by nobody */
		return ol_tpl_text_of("");
	text.bytes += begin;
	if (text.origin == ORIGIN_MIXED)
		text.marks += begin;
	text.size = end - begin;
	return text;
}

bool ol_tpl_text_input(struct ol_tpl_text text, size_t begin, size_t end)
{
	if (text.origin == ORIGIN_MIXED)
		return memchr(text.marks + begin, 1, end - begin) != NULL;
	return text.origin == ORIGIN_INPUT && begin < end;
}

bool ol_tpl_text_equal(struct ol_tpl_text a, struct ol_tpl_text b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

int ol_tpl_text_order(struct ol_tpl_text a, struct ol_tpl_text b)
{
	/* The order of UTF-8 bytes is the order of code points, which is Python's. */
	const size_t size = OL_MIN(a.size, b.size);
	const int order = size ? memcmp(a.bytes, b.bytes, size) : 0;
	return order ? order : (a.size > b.size) - (a.size < b.size);
}

size_t ol_tpl_text_find(struct ol_tpl_text text, struct ol_tpl_text part, size_t from)
{
	if (part.size == 0)
		return from <= text.size ? from : SIZE_MAX;
	while (from <= text.size && part.size <= text.size - from) {
		const char *hit =
			memchr(text.bytes + from, part.bytes[0], text.size - from - part.size + 1);
		if (!hit)
			return SIZE_MAX;
		from = (size_t)(hit - text.bytes);
		if (memcmp(hit, part.bytes, part.size) == 0)
			return from;
		from++;
	}
	return SIZE_MAX;
}

size_t ol_tpl_text_find_last(struct ol_tpl_text text, struct ol_tpl_text part, size_t to)
{
	if (part.size > to)
		return SIZE_MAX;
	for (size_t at = to - part.size + 1; at-- > 0;)
		if (part.size == 0 || memcmp(text.bytes + at, part.bytes, part.size) == 0)
			return at;
	return SIZE_MAX;
}

uint32_t ol_tpl_next(struct ol_tpl_text text, size_t *offset)
{
	const uint8_t *bytes = (const uint8_t *)text.bytes;
	const uint32_t lead = bytes[(*offset)++];
	if (lead < 0x80)
		return lead;
	int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
	uint32_t character = lead & (0x3fu >> more);
	for (; more > 0 && *offset < text.size; more--)
		character = character << 6 | (bytes[(*offset)++] & 0x3f);
	return character;
}

static bool is_continuation(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

size_t ol_tpl_text_length(struct ol_tpl_text text)
{
	size_t length = 0;
	for (size_t i = 0; i < text.size; i++)
		length += !is_continuation(text.bytes[i]);
	return length;
}

size_t ol_tpl_text_offset(struct ol_tpl_text text, size_t characters)
{
	size_t at = 0;
	for (; at < text.size; at++)
		if (!is_continuation(text.bytes[at]) && characters-- == 0)
			break;
	return at;
}

static bool is_stripped(struct ol_tpl_text character, const struct ol_tpl_text *chars)
{
	size_t at = 0;
	return chars ? ol_tpl_text_find(*chars, character, 0) != SIZE_MAX
		     : ol_tpl_is_space(ol_tpl_next(character, &at));
}

struct ol_tpl_text ol_tpl_text_strip(struct ol_tpl_text text, const struct ol_tpl_text *chars,
				     int sides)
{
	size_t begin = 0, end = text.size;
	while ((sides & STRIP_LEFT) && begin < end) {
		size_t next = begin;
		ol_tpl_next(text, &next);
		if (!is_stripped(ol_tpl_text_part(text, begin, next), chars))
			break;
		begin = next;
	}
	while ((sides & STRIP_RIGHT) && begin < end) {
		size_t last = end - 1;
		while (last > begin && is_continuation(text.bytes[last]))
			last--;
		if (!is_stripped(ol_tpl_text_part(text, last, end), chars))
			break;
		end = last;
	}
	return ol_tpl_text_part(text, begin, end);
}

/* ---- builders -------------------------------------------------------------------------------- */

void ol_tpl_builder_init(struct ol_tpl_builder *b, struct ol_tpl_render *r)
{
	*b = (struct ol_tpl_builder){.r = r};
}

static bool reserve(struct ol_tpl_builder *b, size_t more)
{
	if (more > OL_TEMPLATE_OUTPUT_MAX - b->size)
		return ol_tpl_fail_limit(b->r, "the template makes a text of more than %d bytes",
					 OL_TEMPLATE_OUTPUT_MAX);
	if (b->size + more <= b->room)
		return true;
	const size_t room = OL_MAX(b->size + more, OL_MAX(b->room * 2, (size_t)64));
	char *bytes;
	uint8_t *marks = NULL;
	if (!ol_tpl_get(b->r, &bytes, room, 1) || (b->marks && !ol_tpl_get(b->r, &marks, room, 1)))
		return false;
	if (b->size)
		memcpy(bytes, b->bytes, b->size);
	if (b->marks)
		memcpy(marks, b->marks, b->size);
	b->bytes = bytes;
	b->marks = marks;
	b->room = room;
	return true;
}

/* Makes room for size bytes of an origin, and marks where two origins meet. */
static bool prepare(struct ol_tpl_builder *b, size_t size, enum ol_tpl_origin origin)
{
	if (!ol_tpl_spend(b->r, size) || !reserve(b, size))
		return false;
	if (b->size == 0)
		b->origin = origin == ORIGIN_MIXED ? ORIGIN_AUTHOR : origin;
	if (b->origin == origin || b->marks)
		return true;
	if (!ol_tpl_get(b->r, &b->marks, b->room, 1))
		return false;
	memset(b->marks, b->origin == ORIGIN_INPUT, b->size);
	b->origin = ORIGIN_MIXED;
	return true;
}

bool ol_tpl_add_bytes(struct ol_tpl_builder *b, const char *bytes, size_t size, bool input)
{
	return ol_tpl_add(b, (struct ol_tpl_text){.bytes = bytes,
						  .size = size,
						  .origin = input ? ORIGIN_INPUT : ORIGIN_AUTHOR});
}

bool ol_tpl_add_cstr(struct ol_tpl_builder *b, const char *text, bool input)
{
	return ol_tpl_add_bytes(b, text, strlen(text), input);
}

bool ol_tpl_add(struct ol_tpl_builder *b, struct ol_tpl_text text)
{
	if (text.size == 0)
		return true;
	if (!prepare(b, text.size, text.origin))
		return false;
	memcpy(b->bytes + b->size, text.bytes, text.size);
	if (b->marks && text.origin == ORIGIN_MIXED)
		memcpy(b->marks + b->size, text.marks, text.size);
	else if (b->marks)
		memset(b->marks + b->size, text.origin == ORIGIN_INPUT, text.size);
	b->size += text.size;
	return true;
}

bool ol_tpl_add_character(struct ol_tpl_builder *b, uint32_t character, bool input)
{
	char bytes[4] = {(char)character};
	size_t size = 1;
	if (character >= 0x80) {
		size = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
		for (size_t i = size - 1; i > 0; i--, character >>= 6)
			bytes[i] = (char)(0x80 | (character & 0x3f));
		bytes[0] = (char)(((0xf00u >> size) & 0xf0) | character);
	}
	return ol_tpl_add_bytes(b, bytes, size, input);
}

struct ol_tpl_value ol_tpl_built(const struct ol_tpl_builder *b)
{
	return ol_tpl_string((struct ol_tpl_text){.bytes = b->size ? b->bytes : "",
						  .marks = b->marks,
						  .size = b->size,
						  .origin = b->origin});
}

/* ---- upper and lower case -------------------------------------------------------------------- */

static bool is_cased(uint32_t c)
{
	return ol_tpl_to_upper(c) != c || ol_tpl_to_lower(c) != c || ol_tpl_upper_expansion(c);
}

static bool add_upper(struct ol_tpl_builder *b, uint32_t c, bool title, bool input)
{
	const uint32_t *many = title ? ol_tpl_title_expansion(c) : NULL;
	if (!many)
		many = ol_tpl_upper_expansion(c);
	if (!many)
		return ol_tpl_add_character(b, ol_tpl_to_upper(c), input);
	for (int i = 0; i < 3 && many[i]; i++)
		if (!ol_tpl_add_character(b, many[i], input))
			return false;
	return true;
}

/* A capital sigma becomes ς at the end of a word, σ elsewhere. */
static uint32_t lower_sigma(struct ol_tpl_text text, size_t next, bool after_cased)
{
	const bool before_cased = next < text.size && is_cased(ol_tpl_next(text, &next));
	return after_cased && !before_cased ? 0x3c2 : 0x3c3;
}

static bool add_lower(struct ol_tpl_builder *b, struct ol_tpl_text text, uint32_t c, size_t next,
		      bool after_cased, bool input)
{
	if (c == 0x3a3)
		c = lower_sigma(text, next, after_cased);
	else if (c == 0x130) /* the dotted capital I: its dot stays, as a combining one */
		return ol_tpl_add_cstr(b, "i\xcc\x87", input);
	return ol_tpl_add_character(b, ol_tpl_to_lower(c), input);
}

bool ol_tpl_add_case(struct ol_tpl_builder *b, struct ol_tpl_text text, enum ol_tpl_case to)
{
	bool after_cased = false;
	for (size_t at = 0; at < text.size;) {
		const size_t begin = at;
		const uint32_t c = ol_tpl_next(text, &at);
		const bool input = ol_tpl_text_input(text, begin, at);
		const bool upper = to == CASE_UPPER || (to == CASE_TITLE && !after_cased) ||
				   (to == CASE_CAPITAL && begin == 0);
		if (upper ? !add_upper(b, c, to != CASE_UPPER, input)
			  : !add_lower(b, text, c, at, after_cased, input))
			return false;
		after_cased = is_cased(c);
	}
	return true;
}
