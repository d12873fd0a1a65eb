/* model/unicode.h, floor 2: UTF-8, the character classes that tokenizers split by, and NFC.
 *
 * The tables (unicode_table.c) are generated from the oracle library by
 * tests/oracle/tokenizer/make_unicode.mjs. Classes follow Unicode 16, as its pattern engine does;
 * normalization follows the older version its normalizer has. */
#ifndef OL_MODEL_UNICODE_H
#define OL_MODEL_UNICODE_H

#include "base/base.h"
#include "base/buf.h"

enum ol_unicode_flag {
	OL_UNICODE_SPACE = 1,  /* White_Space                                                   */
	OL_UNICODE_LETTER = 2, /* \p{L}                                                          */
	OL_UNICODE_NUMBER = 4, /* \p{N}                                                          */
	OL_UNICODE_WORD = 8,   /* \w: a single_word added token may not stand beside one         */
	OL_UNICODE_NFC_LOOK = 16 /* may change, or be changed by its neighbours, under NFC       */
};

/* The offset of the first byte that is not part of valid UTF-8; size when all of it is valid. */
size_t ol_utf8_check(const char *text, size_t size);
/* How many bytes of a growing text end on a whole character: a last character that may still be
 * completed by more bytes is left out, bytes that can never become one are not. For streaming. */
size_t ol_utf8_complete(const char *text, size_t size);
/* Appends bytes, each maximal part that is not UTF-8 replaced by one U+FFFD. */
bool ol_utf8_append_lossy(struct ol_buf *buf, const char *bytes, size_t size);

/* The code point at text, which is valid UTF-8 and not empty; its length goes to *length. */
static inline uint32_t ol_utf8_at(const char *text, size_t *length)
{
	const uint8_t *s = (const uint8_t *)text;
	if (s[0] < 0x80) {
		*length = 1;
		return s[0];
	}
	if (s[0] < 0xe0) {
		*length = 2;
		return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
	}
	if (s[0] < 0xf0) {
		*length = 3;
		return (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
	}
	*length = 4;
	return (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
}
/* Where the character that ends before text[end] begins; end > 0. */
static inline size_t ol_utf8_before(const char *text, size_t end)
{
	do
		end--;
	while (end > 0 && ((uint8_t)text[end] & 0xc0) == 0x80);
	return end;
}
/* Writes a code point, 1 to 4 bytes, and returns how many. */
size_t ol_utf8_put(char out[4], uint32_t code);

extern const uint16_t ol_unicode_blocks;
extern const uint8_t ol_unicode_index[];
extern const char ol_unicode_flags[][129];

static inline unsigned ol_unicode_class(uint32_t code)
{
	const uint32_t block = code >> 7;
	if (block >= ol_unicode_blocks)
		return 0;
	return (unsigned)ol_unicode_flags[ol_unicode_index[block]][code & 127] & 31u;
}

/* Appends the canonical composition (NFC) of valid UTF-8. Where `marks_in` is given, each byte of
 * text has a mark (0 or 1) there, and each byte appended gets one in marks_out: 1 when a marked
 * byte had a part in it. */
bool ol_unicode_nfc(struct ol_buf *out, struct ol_buf *marks_out, const char *text, size_t size,
		    const char *marks_in);

/* The generated tables behind NFC. Marks carry the order of their combining classes. */
struct ol_unicode_decomposition {
	uint32_t code;
	uint16_t begin, count; /* into ol_unicode_decomposed */
};
struct ol_unicode_mark {
	uint32_t first, last;
	uint8_t order; /* > 0 */
};
struct ol_unicode_composition {
	uint32_t first, second, composed;
};
extern const uint16_t ol_unicode_decomposition_count, ol_unicode_mark_count,
	ol_unicode_composition_count;
extern const struct ol_unicode_decomposition ol_unicode_decompositions[];
extern const uint32_t ol_unicode_decomposed[];
extern const struct ol_unicode_mark ol_unicode_marks[];
extern const struct ol_unicode_composition ol_unicode_compositions[];

/* Characters younger than Unicode 14, which PCRE2 does not know, and their general category. */
struct ol_unicode_newer {
	uint32_t first, last;
	char category[3];
};
extern const uint16_t ol_unicode_newer_count;
extern const struct ol_unicode_newer ol_unicode_newer[];

#endif
