#include "crypto/keccak.h"

#include <string.h>

/* The round constants of iota, and for each step of the chain through all lanes but the first the
 * lane it goes to (pi) and by how much it turns (rho). FIPS 202, section 3.2. */
static const uint64_t round_constants[24] = {
	0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000,
	0x000000000000808b, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
	0x000000000000008a, 0x0000000000000088, 0x0000000080008009, 0x000000008000000a,
	0x000000008000808b, 0x800000000000008b, 0x8000000000008089, 0x8000000000008003,
	0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
	0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};
static const uint8_t pi_lane[24] = {10, 7,  11, 17, 18, 3, 5,  16, 8,  21, 24, 4,
				    15, 23, 19, 13, 12, 2, 20, 14, 22, 9,  6,  1};
static const uint8_t rho_turn[24] = {1,  3,  6,  10, 15, 21, 28, 36, 45, 55, 2,  14,
				     27, 41, 56, 8,  25, 43, 62, 18, 39, 61, 20, 44};

static uint64_t turn(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static void permute(uint64_t a[25])
{
	for (int round = 0; round < 24; round++) {
		uint64_t column[5], carried;
		for (int x = 0; x < 5; x++)
			column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
		for (int i = 0; i < 25; i++)
			a[i] ^= column[(i + 4) % 5] ^ turn(column[(i + 1) % 5], 1);
		carried = a[1];
		for (int i = 0; i < 24; i++) {
			const uint64_t next = a[pi_lane[i]];
			a[pi_lane[i]] = turn(carried, rho_turn[i]);
			carried = next;
		}
		for (int y = 0; y < 25; y += 5) {
			uint64_t row[5];
			memcpy(row, a + y, sizeof row);
			for (int x = 0; x < 5; x++)
				a[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
		}
		a[0] ^= round_constants[round];
	}
}

static void absorb_byte(struct ol_keccak *hash, uint32_t at, uint8_t byte)
{
	hash->lanes[at / 8] ^= (uint64_t)byte << 8 * (at % 8);
}

void ol_keccak_init(struct ol_keccak *hash)
{
	memset(hash, 0, sizeof *hash);
}

void ol_keccak_update(struct ol_keccak *hash, const void *bytes, size_t size)
{
	const uint8_t *b = bytes;
	for (size_t i = 0; i < size; i++) {
		absorb_byte(hash, hash->filled++, b[i]);
		if (hash->filled == OL_KECCAK_RATE) {
			permute(hash->lanes);
			hash->filled = 0;
		}
	}
}

void ol_keccak_final(struct ol_keccak *hash, uint8_t out[OL_KECCAK_BYTES])
{
	absorb_byte(hash, hash->filled, 0x01);
	absorb_byte(hash, OL_KECCAK_RATE - 1, 0x80);
	permute(hash->lanes);
	for (int i = 0; i < OL_KECCAK_BYTES; i++)
		out[i] = (uint8_t)(hash->lanes[i / 8] >> 8 * (i % 8));
}

void ol_keccak256(uint8_t out[OL_KECCAK_BYTES], const void *bytes, size_t size)
{
	struct ol_keccak hash;
	ol_keccak_init(&hash);
	ol_keccak_update(&hash, bytes, size);
	ol_keccak_final(&hash, out);
}
