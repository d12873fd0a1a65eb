/* model/bpe.h, floor 2: byte-pair encoding of one word.
 *
 * An ol_bpe is a vocabulary (text <-> id) and ranked merges of id pairs. A word starts as one
 * symbol per byte (byte-level) or per character; the lowest-ranked adjacent pair merges, the
 * leftmost first, until none is left. Immutable once finished and shared by threads, apart from
 * `whole`, a memo of a pure function.
 *
 * Words are split further where no merge can ever reach across (see ol_bpe_finish), so that texts
 * without a pre-tokenizer are not one word of a million characters. */
#ifndef OL_MODEL_BPE_H
#define OL_MODEL_BPE_H

#include "base/base.h"
#include "model/tokenizer.h"

#include <stdatomic.h>

enum {
	OL_BPE_ENTRY_MAX = 1 << 16,  /* bytes of one vocabulary entry                 */
	OL_BPE_MERGES_MAX = 1 << 23,
	OL_BPE_PROBES_MAX = 1 << 12, /* a table that needs more was made to collide */
};

struct ol_text_ref {
	uint32_t begin, size; /* into the pool */
};

/* Texts of a pool to ids. Open addressing. */
struct ol_text_slot {
	uint32_t hash, begin, size;
	int32_t id; /* -1: free */
};
struct ol_text_table {
	struct ol_text_slot *slots;
	size_t mask, count;
};

struct ol_merge_slot {
	int32_t left, right; /* left -1: free */
	int32_t rank, made;
};

struct ol_bpe {
	char *pool;
	size_t pool_size, pool_room;
	struct ol_text_ref *entries; /* by id; .size UINT32_MAX: unused id */
	int32_t vocab_size;          /* highest id + 1            */
	struct ol_text_table texts;  /* entries as the file spells them */
	struct ol_text_table raws;   /* byte-level only: entries as the bytes they stand for */
	struct ol_merge_slot *merges;
	size_t merge_mask, merge_count;

	bool byte_level, byte_fallback, fuse_unk, ignore_merges;
	bool splittable;        /* joints are known: words may be cut where none is */
	bool shared_ids;        /* two entries have one id: ids do not tell texts */
	int32_t unk_id;         /* -1: unknown symbols vanish                     */
	uint8_t *special;       /* by id: never the result of a merge or a lookup */
	int32_t byte_ids[256];  /* byte-level: the symbol of a byte; else <0xNN>  */
	int32_t ascii_ids[128]; /* not byte-level: the symbol of a character      */
	uint32_t longest;       /* bytes of the longest entry, as matched         */

	/* Pairs of characters that some merge joins. Row and column 0 stand for U+2581. */
	uint64_t ascii_joints[128][2];
	bool ascii_known[128]; /* has a symbol of its own */
	uint64_t *joints; /* any characters: first << 32 | second; open addressing, 0: free */
	size_t joint_mask, joint_count;

	_Atomic uint8_t
		*whole; /* by id: is the entry, as a word, this one id? 0 not known, 1, 2 no */
};

/* While a word is being merged; owned by one call of encode. */
struct ol_bpe_symbol {
	int32_t id, prev, next; /* id -1: merged away */
};
struct ol_bpe_pending {
	int32_t rank, at, made;
};
struct ol_bpe_cached {
	uint32_t hash, begin;
	uint32_t tokens; /* where its ids are among the call's ids */
	uint16_t size, count;
};
struct ol_bpe_work {
	const char *base; /* cached words are [begin, begin+size) here; it may move between words */
	struct ol_tokens *out;
	size_t out_begin; /* cached ids are relative to it */
	struct ol_bpe_cached *cache;
	uint32_t cache_mask;
	struct ol_bpe_symbol *symbols;
	struct ol_bpe_pending *heap;
	int32_t *ids;
	size_t ids_room, symbol_room, heap_room, heap_count;
};

/* Building. The steps in order: init, add every entry, set the options, add merges, finish. */
void ol_bpe_init(struct ol_bpe *bpe);
void ol_bpe_release(struct ol_bpe *bpe);
/* Makes room for more bytes at pool + pool_size, to be claimed by ol_bpe_add_entry. */
OL_MUST_CHECK bool ol_bpe_reserve(struct ol_bpe *bpe, size_t more);
OL_MUST_CHECK bool ol_bpe_reserve_tables(struct ol_bpe *bpe, size_t entries, size_t merges);
/* The entry is the `size` bytes at pool + pool_size. An entry that comes twice keeps its last id.
 * false: out of memory, or too many collisions. */
OL_MUST_CHECK bool ol_bpe_add_entry(struct ol_bpe *bpe, size_t size, int32_t id);
/* Sets up byte symbols; call after the last entry and before merges. */
OL_MUST_CHECK bool ol_bpe_set_symbols(struct ol_bpe *bpe, bool byte_level);
OL_MUST_CHECK bool ol_bpe_add_merge(struct ol_bpe *bpe, int32_t left, int32_t right, int32_t rank,
				    int32_t made);
OL_MUST_CHECK bool ol_bpe_finish(struct ol_bpe *bpe);

int32_t ol_bpe_find(const struct ol_bpe *bpe, const char *text, size_t size); /* -1: none */
static inline bool ol_bpe_has(const struct ol_bpe *bpe, int32_t id)
{
	return id >= 0 && id < bpe->vocab_size && bpe->entries[id].size != UINT32_MAX;
}
/* The text table on its own: also used for added tokens. */
OL_MUST_CHECK bool ol_text_table_reserve(struct ol_text_table *table, size_t count);
OL_MUST_CHECK bool ol_text_table_put(struct ol_text_table *table, const char *pool,
				     struct ol_text_ref text, int32_t id);
int32_t ol_text_table_find(const struct ol_text_table *table, const char *pool, const char *text,
			   size_t size);

/* GPT-2's printable stand-ins for bytes. The bytes an entry spells, or false when it has a
 * character outside of that alphabet. out has room for size bytes. */
bool ol_byte_alphabet_decode(const char *entry, size_t size, char *out, size_t *size_out);
uint32_t ol_byte_alphabet(uint8_t byte); /* the code point that stands for a byte */

/* Encoding. */
OL_MUST_CHECK bool ol_bpe_work_init(struct ol_bpe_work *work, struct ol_tokens *out,
				    size_t text_size);
void ol_bpe_work_release(struct ol_bpe_work *work);
/* Appends the ids of the word [begin, end) of work->base to work->out. */
OL_MUST_CHECK bool ol_bpe_encode(const struct ol_bpe *bpe, struct ol_bpe_work *work, size_t begin,
				 size_t end);

#endif
