/* train/bpe_train_internal.h, floor 3: what bpe_train.c and bpe_write.c share. Private to them. */
#ifndef OL_TRAIN_BPE_TRAIN_INTERNAL_H
#define OL_TRAIN_BPE_TRAIN_INTERNAL_H

#include "model/split.h"
#include "train/bpe_train.h"

struct merge {
	int32_t left, right;
};

/* One different word. Its symbols shrink in place as pairs merge. */
struct word {
	uint64_t count;
	uint32_t begin, size;     /* bytes, in text                     */
	uint32_t symbols, length; /* its symbols, in trainer->symbols   */
	uint32_t visited;         /* the last merge that looked at it   */
};

/* Two neighbours and the words that have them (or had them: words that lost the pair stay). */
struct pair {
	int32_t left, right; /* left -1: free slot */
	int64_t count;
	uint32_t *words;
	uint32_t word_count, word_room;
	uint32_t touched; /* the last merge that made it more frequent */
	bool merged;      /* it is in the list of merges               */
};

struct candidate {
	int64_t count;
	int32_t left, right;
};

struct entry {
	char *bytes;
	uint32_t size;
};

struct ol_bpe_trainer {
	struct ol_split *split;
	struct ol_pieces pieces;

	struct ol_buf text; /* the different words, one after another */
	struct word *words;
	size_t word_count, word_room;
	uint32_t *word_slots; /* index + 1 into words; open addressing, 0: free */
	size_t word_mask;
	uint64_t total;

	int32_t *symbols;
	struct pair *pairs; /* open addressing */
	size_t pair_mask, pair_count;
	struct candidate *heap;
	size_t heap_count, heap_room;
	struct merge *touched; /* pairs that the merge at hand made more frequent */
	size_t touched_count, touched_room;

	struct entry *entries;
	int entry_count, special_count;
	struct merge *merges;
	size_t merge_count, merge_room;
};

#endif
