/* crypto/merkle.h, floor 1: the Merkle tree hash of RFC 6962 / RFC 9162.
 *
 *     leaf  = SHA-256(0x00 || data)          node = SHA-256(0x01 || left || right)
 *     root of n leaves: left subtree of the largest power of two < n; of none: SHA-256("")
 *
 * The root is built leaf by leaf: what is kept is one hash per bit of the count. */
#ifndef OL_CRYPTO_MERKLE_H
#define OL_CRYPTO_MERKLE_H

#include "crypto/sha256.h"

enum { OL_MERKLE_BYTES = OL_SHA256_BYTES, OL_MERKLE_LEVELS = 64 };

struct ol_merkle {
	uint64_t count; /* leaves so far; bit i set: full[i] is the root of a full tree of 2^i */
	uint8_t full[OL_MERKLE_LEVELS][OL_MERKLE_BYTES];
};

void ol_merkle_init(struct ol_merkle *tree);
void ol_merkle_add(struct ol_merkle *tree, const uint8_t leaf[OL_MERKLE_BYTES]);
/* May be asked at any size; the tree goes on afterwards. */
void ol_merkle_root(const struct ol_merkle *tree, uint8_t out[OL_MERKLE_BYTES]);

void ol_merkle_leaf(uint8_t out[OL_MERKLE_BYTES], const void *data, size_t size);
/* out may be left or right. */
void ol_merkle_node(uint8_t out[OL_MERKLE_BYTES], const uint8_t left[OL_MERKLE_BYTES],
		    const uint8_t right[OL_MERKLE_BYTES]);

/* The leaf hash of data that come in pieces: then ol_sha256_update and ol_sha256_final. */
OL_MUST_CHECK bool ol_merkle_leaf_init(struct ol_sha256 *hash); /* false: out of memory */

#endif
