#include "crypto/merkle.h"

#include <string.h>

static const uint8_t leaf_prefix = 0, node_prefix = 1;

bool ol_merkle_leaf_init(struct ol_sha256 *hash)
{
	if (!ol_sha256_init(hash))
		return false;
	ol_sha256_update(hash, &leaf_prefix, 1);
	return true;
}

void ol_merkle_leaf(uint8_t out[OL_MERKLE_BYTES], const void *data, size_t size)
{
	struct ol_sha256 hash;
	OL_ASSERT(ol_merkle_leaf_init(&hash));
	ol_sha256_update(&hash, data, size);
	ol_sha256_final(&hash, out);
}

void ol_merkle_node(uint8_t out[OL_MERKLE_BYTES], const uint8_t left[OL_MERKLE_BYTES],
		    const uint8_t right[OL_MERKLE_BYTES])
{
	uint8_t bytes[1 + 2 * OL_MERKLE_BYTES];
	bytes[0] = node_prefix;
	memcpy(bytes + 1, left, OL_MERKLE_BYTES);
	memcpy(bytes + 1 + OL_MERKLE_BYTES, right, OL_MERKLE_BYTES);
	ol_sha256(out, bytes, sizeof bytes);
}

void ol_merkle_init(struct ol_merkle *tree)
{
	tree->count = 0;
}

void ol_merkle_add(struct ol_merkle *tree, const uint8_t leaf[OL_MERKLE_BYTES])
{
	uint8_t carry[OL_MERKLE_BYTES];
	int level = 0;
	memcpy(carry, leaf, sizeof carry);
	for (; tree->count >> level & 1; level++)
		ol_merkle_node(carry, tree->full[level], carry);
	memcpy(tree->full[level], carry, sizeof carry);
	tree->count++;
}

void ol_merkle_root(const struct ol_merkle *tree, uint8_t out[OL_MERKLE_BYTES])
{
	bool any = false;
	if (tree->count == 0)
		ol_sha256(out, NULL, 0);
	for (int level = 0; level < OL_MERKLE_LEVELS; level++) {
		if (!(tree->count >> level & 1))
			continue;
		if (any)
			ol_merkle_node(out, tree->full[level], out);
		else
			memcpy(out, tree->full[level], OL_MERKLE_BYTES);
		any = true;
	}
}
