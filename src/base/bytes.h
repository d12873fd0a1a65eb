/* base/bytes.h, floor 0: fixed-width little-endian integers at any address; are bytes all zero? */
#ifndef OL_BASE_BYTES_H
#define OL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t ol_load_u16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t ol_load_u32(const void *p)
{
	const uint8_t *b = p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t ol_load_u64(const void *p)
{
	return ol_load_u32(p) | (uint64_t)ol_load_u32((const uint8_t *)p + 4) << 32;
}

static inline void ol_store_u16(void *p, uint16_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}

static inline void ol_store_u32(void *p, uint32_t v)
{
	uint8_t *b = p;
	for (int i = 0; i < 4; i++)
		b[i] = (uint8_t)(v >> 8 * i);
}

static inline void ol_store_u64(void *p, uint64_t v)
{
	uint8_t *b = p;
	for (int i = 0; i < 8; i++)
		b[i] = (uint8_t)(v >> 8 * i);
}

/* The bits of a float and back, without aliasing. */
static inline uint32_t ol_float_bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, sizeof u);
	return u;
}

static inline float ol_bits_float(uint32_t u)
{
	float f;
	memcpy(&f, &u, sizeof f);
	return f;
}

static inline bool ol_all_zero(const void *bytes, size_t size)
{
	const uint8_t *b = bytes;
	uint8_t any = 0;
	for (size_t i = 0; i < size; i++)
		any |= b[i];
	return any == 0;
}

#endif
