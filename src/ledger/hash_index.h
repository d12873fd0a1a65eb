/* ledger/hash_index.h, floor 2: from a 64-bit hash to the number of an entry kept elsewhere.
 *
 * Linear probing over 8-byte slots {tag, ref + 1}: what is looked for is usually not there (a fresh
 * id), and then one cache line says so. The tag is the hash's upper half, and the home slot is the
 * tag's upper bits: a slot can be moved without touching its entry. */
#ifndef OL_LEDGER_HASH_INDEX_H
#define OL_LEDGER_HASH_INDEX_H

#include "base/base.h"

struct ol_hash_index {
	uint64_t *slots; /* 0: empty */
	uint32_t mask;
	int shift; /* home = tag >> shift */
};

enum { OL_HASH_INDEX_BITS_MAX = 28 };

/* The number of slots for max entries: a power of two, at most three quarters full. */
static inline uint64_t ol_hash_index_slots(uint32_t max)
{
	uint64_t slots = 64;
	while (slots / 4 * 3 < max)
		slots *= 2;
	return slots;
}

static inline void ol_hash_index_init(struct ol_hash_index *index, uint64_t *slots, uint64_t count)
{
	int bits = 0;
	while (UINT64_C(1) << bits < count)
		bits++;
	OL_ASSERT(count == UINT64_C(1) << bits && bits <= OL_HASH_INDEX_BITS_MAX);
	index->slots = slots;
	index->mask = (uint32_t)(count - 1);
	index->shift = 32 - bits;
}

static inline uint32_t ol_hash_index_home(const struct ol_hash_index *index, uint32_t tag)
{
	return tag >> index->shift;
}

static inline void ol_hash_index_prefetch(const struct ol_hash_index *index, uint32_t tag)
{
	__builtin_prefetch(&index->slots[ol_hash_index_home(index, tag)]);
}

/* Walks the entries that may be it: *at starts at the home slot. false: there are no more.
 *
 *     uint32_t at = ol_hash_index_home(index, tag), ref;
 *     while (ol_hash_index_next(index, tag, &at, &ref))
 *             if (entry ref is it) ...                                                        */
static inline bool ol_hash_index_next(const struct ol_hash_index *index, uint32_t tag, uint32_t *at,
				      uint32_t *ref)
{
	for (;;) {
		const uint64_t slot = index->slots[*at];
		if (slot == 0)
			return false;
		*at = (*at + 1) & index->mask;
		if ((uint32_t)(slot >> 32) == tag) {
			*ref = (uint32_t)slot - 1;
			return true;
		}
	}
}

static inline void ol_hash_index_insert(struct ol_hash_index *index, uint32_t tag, uint32_t ref)
{
	uint32_t at = ol_hash_index_home(index, tag);
	while (index->slots[at] != 0)
		at = (at + 1) & index->mask;
	index->slots[at] = (uint64_t)tag << 32 | (ref + 1);
}

/* The entry must be there. Later slots of the same run move up, so no tombstones gather. */
static inline void ol_hash_index_remove(struct ol_hash_index *index, uint32_t tag, uint32_t ref)
{
	const uint64_t wanted = (uint64_t)tag << 32 | (ref + 1);
	uint32_t hole = ol_hash_index_home(index, tag);
	while (index->slots[hole] != wanted) {
		OL_ASSERT(index->slots[hole] != 0);
		hole = (hole + 1) & index->mask;
	}
	for (uint32_t at = (hole + 1) & index->mask; index->slots[at] != 0;
	     at = (at + 1) & index->mask) {
		const uint32_t home = ol_hash_index_home(index, (uint32_t)(index->slots[at] >> 32));
		/* It may move to the hole unless its home lies behind the hole. */
		if (((at - home) & index->mask) >= ((at - hole) & index->mask)) {
			index->slots[hole] = index->slots[at];
			hole = at;
		}
	}
	index->slots[hole] = 0;
}

#endif
