#include "crypto/text.h"

#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool ol_hex_parse(uint8_t *bytes_out, size_t size, const char *text, size_t length)
{
	if (length != 2 * size)
		return false;
	for (size_t i = 0; i < size; i++) {
		const int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		bytes_out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool ol_base64_append(struct ol_buf *buf, const void *bytes, size_t size)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *b = bytes;
	bool fits = true;
	for (size_t i = 0; i < size; i += 3) {
		const size_t left = size - i;
		const uint32_t three = (uint32_t)b[i] << 16 |
				       (left > 1 ? (uint32_t)b[i + 1] << 8 : 0) |
				       (left > 2 ? (uint32_t)b[i + 2] : 0);
		const char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
				      left > 1 ? digits[three >> 6 & 63] : '=',
				      left > 2 ? digits[three & 63] : '='};
		fits = ol_buf_append(buf, four, sizeof four) && fits;
	}
	return fits;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

bool ol_base64_parse(uint8_t *bytes_out, size_t room, size_t *size_out, const char *text,
		     size_t length)
{
	*size_out = 0;
	if (length % 4 != 0)
		return false;
	size_t padding = 0;
	while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
		padding++;
	const size_t size = length / 4 * 3 - padding;
	if (size > room)
		return false;
	for (size_t i = 0; i < length; i += 4) {
		const size_t bytes = OL_MIN((size_t)3, size - i / 4 * 3);
		uint32_t three = 0;
		for (size_t j = 0; j < 4; j++) {
			const int digit = j <= bytes ? base64_digit(text[i + j]) : 0;
			if (digit < 0)
				return false;
			three = three << 6 | (uint32_t)digit;
		}
		if (bytes < 3 && (three & ((1U << 8 * (3 - bytes)) - 1)) != 0)
			return false;
		for (size_t j = 0; j < bytes; j++)
			bytes_out[i / 4 * 3 + j] = (uint8_t)(three >> (16 - 8 * j));
	}
	*size_out = size;
	return true;
}

bool ol_base64_parse_exact(uint8_t *bytes_out, size_t size, const char *text, size_t length)
{
	size_t got;
	return length == OL_BASE64_LENGTH(size) &&
	       ol_base64_parse(bytes_out, size, &got, text, length) && got == size;
}
