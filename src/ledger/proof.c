#include "ledger/proof.h"

#include <inttypes.h>
#include <string.h>

/* The largest power of two smaller than n; n >= 2. */
static uint64_t split(uint64_t n)
{
	return 1ULL << (63 - __builtin_clzll(n - 1));
}

bool ol_inclusion_verify(const struct ol_proof *proof, const uint8_t leaf[OL_MERKLE_BYTES],
			 uint64_t index, uint64_t size, const uint8_t root[OL_MERKLE_BYTES])
{
	uint8_t hash[OL_MERKLE_BYTES];
	if (index >= size)
		return false;
	uint64_t node = index, last = size - 1;
	memcpy(hash, leaf, sizeof hash);
	for (uint32_t i = 0; i < proof->count; i++) {
		if (last == 0)
			return false;
		if (node % 2 == 1 || node == last) {
			ol_merkle_node(hash, proof->hashes[i], hash);
			while (node % 2 == 0 && node != 0) {
				node >>= 1;
				last >>= 1;
			}
		} else {
			ol_merkle_node(hash, hash, proof->hashes[i]);
		}
		node >>= 1;
		last >>= 1;
	}
	return last == 0 && memcmp(hash, root, sizeof hash) == 0;
}

bool ol_consistency_verify(const struct ol_proof *proof, uint64_t old_size,
			   const uint8_t old_root[OL_MERKLE_BYTES], uint64_t new_size,
			   const uint8_t new_root[OL_MERKLE_BYTES])
{
	uint8_t old_hash[OL_MERKLE_BYTES], new_hash[OL_MERKLE_BYTES];
	if (old_size > new_size)
		return false;
	if (old_size == 0)
		ol_sha256(old_hash, NULL, 0);
	if (old_size == 0 && memcmp(old_hash, old_root, sizeof old_hash) != 0)
		return false;
	if (old_size == new_size)
		return proof->count == 0 && memcmp(old_root, new_root, OL_MERKLE_BYTES) == 0;
	if (old_size == 0)
		return proof->count == 0;
	uint64_t node = old_size - 1, last = new_size - 1;
	while (node % 2 == 1) {
		node >>= 1;
		last >>= 1;
	}
	/* An old tree that is one full subtree starts with its own root, which is not sent. */
	uint32_t i = 0;
	const uint8_t *start = old_root;
	if (node != 0) {
		if (proof->count == 0)
			return false;
		start = proof->hashes[i++];
	}
	memcpy(old_hash, start, sizeof old_hash);
	memcpy(new_hash, start, sizeof new_hash);
	for (; i < proof->count; i++) {
		if (last == 0)
			return false;
		if (node % 2 == 1 || node == last) {
			ol_merkle_node(old_hash, proof->hashes[i], old_hash);
			ol_merkle_node(new_hash, proof->hashes[i], new_hash);
			while (node % 2 == 0 && node != 0) {
				node >>= 1;
				last >>= 1;
			}
		} else {
			ol_merkle_node(new_hash, new_hash, proof->hashes[i]);
		}
		node >>= 1;
		last >>= 1;
	}
	return last == 0 && memcmp(old_hash, old_root, sizeof old_hash) == 0 &&
	       memcmp(new_hash, new_root, sizeof new_hash) == 0;
}

/* The root over leaves [begin, end), begin being a multiple of the power of two that is at least
 * end - begin: full subtrees from the right, joined leftwards. */
static enum ol_status range_root(const struct ol_tree *tree, uint8_t out[OL_MERKLE_BYTES],
				 uint64_t begin, uint64_t end, struct ol_error *err)
{
	bool any = false;
	while (end > begin) {
		const uint64_t left = end - begin;
		const int level = __builtin_ctzll(left);
		uint8_t hash[OL_MERKLE_BYTES];
		const uint64_t index = (end >> level) - 1;
		const enum ol_status s = tree->node(tree->self, hash, level, index, err);
		if (s != OL_OK)
			return s;
		if (any)
			ol_merkle_node(out, hash, out);
		else
			memcpy(out, hash, OL_MERKLE_BYTES);
		any = true;
		end -= 1ULL << level;
	}
	return OL_OK;
}

enum ol_status ol_tree_root(const struct ol_tree *tree, uint8_t out[OL_MERKLE_BYTES], uint64_t size,
			    struct ol_error *err)
{
	if (size == 0) {
		ol_sha256(out, NULL, 0);
		return OL_OK;
	}
	return range_root(tree, out, 0, size, err);
}

static enum ol_status push_range(const struct ol_tree *tree, struct ol_proof *proof, uint64_t begin,
				 uint64_t end, struct ol_error *err)
{
	OL_ASSERT(proof->count < OL_PROOF_HASHES_MAX);
	return range_root(tree, proof->hashes[proof->count++], begin, end, err);
}

/* Proofs are collected on the way down, and sent from the leaf upwards. */
static void reverse(struct ol_proof *proof)
{
	for (uint32_t i = 0, j = proof->count; i + 1 < j; i++) {
		uint8_t hash[OL_MERKLE_BYTES];
		j--;
		memcpy(hash, proof->hashes[i], sizeof hash);
		memcpy(proof->hashes[i], proof->hashes[j], sizeof hash);
		memcpy(proof->hashes[j], hash, sizeof hash);
	}
}

enum ol_status ol_inclusion_prove(const struct ol_tree *tree, struct ol_proof *proof,
				  uint64_t index, uint64_t size, struct ol_error *err)
{
	uint64_t begin = 0, end = size;
	enum ol_status s = OL_OK;
	OL_ASSERT(index < size && size <= OL_TREE_SIZE_MAX);
	proof->count = 0;
	while (s == OL_OK && end - begin > 1) {
		const uint64_t middle = begin + split(end - begin);
		if (index < middle) {
			s = push_range(tree, proof, middle, end, err);
			end = middle;
		} else {
			s = push_range(tree, proof, begin, middle, err);
			begin = middle;
		}
	}
	reverse(proof);
	return s;
}

enum ol_status ol_consistency_prove(const struct ol_tree *tree, struct ol_proof *proof,
				    uint64_t old_size, uint64_t new_size, struct ol_error *err)
{
	uint64_t begin = 0, end = new_size;
	enum ol_status s = OL_OK;
	OL_ASSERT(old_size <= new_size && new_size <= OL_TREE_SIZE_MAX);
	proof->count = 0;
	if (old_size == 0 || old_size == new_size)
		return OL_OK;
	/* SUBPROOF of RFC 6962: down to the subtree that both trees have as a whole. */
	while (s == OL_OK && old_size != end) {
		const uint64_t middle = begin + split(end - begin);
		if (old_size <= middle) {
			s = push_range(tree, proof, middle, end, err);
			end = middle;
		} else {
			s = push_range(tree, proof, begin, middle, err);
			begin = middle;
		}
	}
	if (s == OL_OK && begin != 0)
		s = push_range(tree, proof, begin, end, err);
	reverse(proof);
	return s;
}
