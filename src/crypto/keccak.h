/* crypto/keccak.h, floor 1: Keccak-256 as Ethereum uses it: the Keccak of the SHA-3 competition,
 * rate 136 bytes, padding 0x01 … 0x80. SHA3-256 (FIPS 202) differs only in its padding, 0x06. */
#ifndef OL_CRYPTO_KECCAK_H
#define OL_CRYPTO_KECCAK_H

#include "base/base.h"

enum { OL_KECCAK_BYTES = 32, OL_KECCAK_RATE = 136 };

/* A running hash: init .. update* .. final. Needs no release. */
struct ol_keccak {
	uint64_t lanes[25];
	uint32_t filled; /* bytes of the current block, < OL_KECCAK_RATE */
};

void ol_keccak_init(struct ol_keccak *hash);
void ol_keccak_update(struct ol_keccak *hash, const void *bytes, size_t size);
void ol_keccak_final(struct ol_keccak *hash, uint8_t out[OL_KECCAK_BYTES]);

/* The hash of one string of bytes. */
void ol_keccak256(uint8_t out[OL_KECCAK_BYTES], const void *bytes, size_t size);

#endif
