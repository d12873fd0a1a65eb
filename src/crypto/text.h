/* crypto/text.h, floor 1: bytes as text and back: hexadecimal and base64 (RFC 4648, section 4), in
 * exactly one spelling each. Printing hexadecimal is ol_hex (crypto/sha256.h). */
#ifndef OL_CRYPTO_TEXT_H
#define OL_CRYPTO_TEXT_H

#include "base/buf.h"

/* Reads 2 * size hexadecimal digits of either case, no more and no less. */
OL_MUST_CHECK bool ol_hex_parse(uint8_t *bytes_out, size_t size, const char *text, size_t length);

/* Characters of the base64 of so many bytes, with padding, without a NUL. */
#define OL_BASE64_LENGTH(size) (((size) + 2) / 3 * 4)

/* Appends the base64 of the bytes; false when the buf is full. */
bool ol_base64_append(struct ol_buf *buf, const void *bytes, size_t size);

/* Reads base64 with its padding. Refuses any other character, missing padding, bits set behind the
 * last byte, and more bytes than room. */
OL_MUST_CHECK bool ol_base64_parse(uint8_t *bytes_out, size_t room, size_t *size_out,
				   const char *text, size_t length);
/* The same, and the size must be just that. */
OL_MUST_CHECK bool ol_base64_parse_exact(uint8_t *bytes_out, size_t size, const char *text,
					 size_t length);

#endif
