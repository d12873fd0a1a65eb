/* model/bpe_hash.h, floor 2: the hashes of bpe.c and bpe_vocab.c. Private to the two. */
#ifndef OL_MODEL_BPE_HASH_H
#define OL_MODEL_BPE_HASH_H

#include <stdint.h>
#include <string.h>

static inline uint64_t ol_load64(const char *s)
{
	uint64_t v;
	memcpy(&v, s, sizeof v);
	return v;
}

static inline uint64_t ol_load32(const char *s)
{
	uint32_t v;
	memcpy(&v, s, sizeof v);
	return v;
}

/* Short words are read as two overlapping pieces. */
static inline uint32_t ol_hash_text(const char *s, size_t n)
{
	uint64_t a = 0, b = 0;
	if (n >= 8) {
		a = ol_load64(s);
		b = ol_load64(s + n - 8);
		for (size_t i = 8; i + 8 < n; i += 8)
			a = (a ^ ol_load64(s + i) ^ a >> 31) * 0x9fb21c651e98df25u;
	} else if (n >= 4) {
		a = ol_load32(s);
		b = ol_load32(s + n - 4);
	} else if (n > 0) {
		a = (uint64_t)(uint8_t)s[0] << 16 | (uint64_t)(uint8_t)s[n / 2] << 8 |
		    (uint8_t)s[n - 1];
	}
	uint64_t h = (a ^ n * 0xa0761d6478bd642fu) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 29 ^ b) * 0xbf58476d1ce4e5b9u;
	return (uint32_t)(h >> 32);
}

static inline uint32_t ol_hash_pair(int32_t left, int32_t right)
{
	const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	const uint64_t h = (key ^ key >> 29) * 0x9e3779b97f4a7c15u;
	return (uint32_t)((h ^ h >> 32) * 0xbf58476d1ce4e5b9u >> 32);
}

#endif
