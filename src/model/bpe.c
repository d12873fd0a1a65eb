#include "model/bpe.h"

#include "model/bpe_hash.h"
#include "model/unicode.h"

#include <stdlib.h>

enum {
	SMALL_WORD = 48, /* symbols up to which searching an array beats a heap */
	CACHE_SMALL = 256,
	CACHE_LARGE = 1 << 14,
	CACHE_LARGE_TEXT = 1 << 16, /* bytes of text from which the large cache pays */
	CACHED_WORD_MAX = 128
};

bool ol_bpe_work_init(struct ol_bpe_work *work, struct ol_tokens *out, size_t text_size)
{
	const uint32_t size = text_size < CACHE_LARGE_TEXT ? CACHE_SMALL : CACHE_LARGE;
	*work = (struct ol_bpe_work){.out = out, .out_begin = out->count, .cache_mask = size - 1};
	work->cache = calloc(size, sizeof *work->cache);
	return work->cache != NULL;
}

void ol_bpe_work_release(struct ol_bpe_work *work)
{
	free(work->cache);
	free(work->symbols);
	free(work->heap);
	free(work->ids);
}

static bool reserve_symbols(struct ol_bpe_work *work, size_t count)
{
	if (count <= work->symbol_room)
		return true;
	free(work->symbols);
	free(work->heap);
	work->symbol_room = work->heap_room = 0;
	work->symbols = malloc(count * sizeof *work->symbols);
	/* Each pair enters once, and each merge adds at most two: below three per symbol. */
	work->heap = malloc(3 * count * sizeof *work->heap);
	if (!work->symbols || !work->heap)
		return false;
	work->symbol_room = count;
	work->heap_room = 3 * count;
	return true;
}

static bool reserve_word(struct ol_bpe_work *work, size_t size)
{
	if (size <= work->ids_room)
		return true;
	const size_t room = OL_MAX(size, OL_MAX(2 * work->ids_room, (size_t)256));
	free(work->ids);
	work->ids_room = 0;
	work->ids = malloc(room * sizeof *work->ids);
	if (!work->ids)
		return false;
	work->ids_room = room;
	return true;
}

static inline const struct ol_merge_slot *find_merge(const struct ol_bpe *bpe, int32_t left,
						     int32_t right)
{
	size_t at = ol_hash_pair(left, right) & bpe->merge_mask;
	for (; bpe->merges[at].left >= 0; at = (at + 1) & bpe->merge_mask)
		if (bpe->merges[at].left == left && bpe->merges[at].right == right)
			return &bpe->merges[at];
	return NULL;
}

static int32_t character_id(const struct ol_bpe *bpe, const char *text, size_t length)
{
	if (length == 1)
		return bpe->ascii_ids[(uint8_t)*text & 127];
	const int32_t id = ol_bpe_find(bpe, text, length);
	return id >= 0 && bpe->special[id] ? -1 : id;
}

/* An unknown symbol that has not been written yet: the library holds it back to fuse it with the
 * next one, and lets byte tokens overtake it. */
static void flush_unknown(const struct ol_bpe *bpe, int32_t *ids, size_t *count, bool *unknown)
{
	if (*unknown)
		ids[(*count)++] = bpe->unk_id;
	*unknown = false;
}

static void take_unknown(const struct ol_bpe *bpe, int32_t *ids, size_t *count, bool *unknown)
{
	if (bpe->unk_id < 0)
		return;
	if (!bpe->fuse_unk)
		flush_unknown(bpe, ids, count, unknown);
	*unknown = true;
}

static bool all_bytes_known(const struct ol_bpe *bpe, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bpe->byte_ids[(uint8_t)text[i]] < 0)
			return false;
	return true;
}

/* The symbols a word starts from; at most one per byte. */
static size_t start_symbols(const struct ol_bpe *bpe, int32_t *ids, const char *word, size_t size)
{
	size_t count = 0, length = 1;
	bool unknown = false;
	for (size_t at = 0; at < size; at += length) {
		int32_t id;
		if (bpe->byte_level) {
			id = bpe->byte_ids[(uint8_t)word[at]];
		} else {
			(void)ol_utf8_at(word + at, &length);
			id = character_id(bpe, word + at, length);
		}
		if (id >= 0) {
			flush_unknown(bpe, ids, &count, &unknown);
			ids[count++] = id;
		} else if (!bpe->byte_level && bpe->byte_fallback &&
			   all_bytes_known(bpe, word + at, length)) {
			for (size_t i = 0; i < length; i++)
				ids[count++] = bpe->byte_ids[(uint8_t)word[at + i]];
		} else {
			take_unknown(bpe, ids, &count, &unknown);
		}
	}
	flush_unknown(bpe, ids, &count, &unknown);
	return count;
}

/* Merges in place by searching the lowest rank each time. */
static size_t merge_small(const struct ol_bpe *bpe, int32_t *ids, size_t count)
{
	int32_t rank[SMALL_WORD], made[SMALL_WORD];
	if (count < 2)
		return count;
	for (size_t i = 0; i + 1 < count; i++) {
		const struct ol_merge_slot *m = find_merge(bpe, ids[i], ids[i + 1]);
		rank[i] = m ? m->rank : INT32_MAX;
		made[i] = m ? m->made : 0;
	}
	while (count > 1) {
		size_t best = 0;
		for (size_t i = 1; i + 1 < count; i++)
			if (rank[i] < rank[best])
				best = i;
		if (rank[best] == INT32_MAX)
			break;
		ids[best] = made[best];
		count--;
		for (size_t i = best + 1; i < count; i++) {
			ids[i] = ids[i + 1];
			rank[i - 1] = rank[i];
			made[i - 1] = made[i];
		}
		for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < count; i++) {
			const struct ol_merge_slot *m = find_merge(bpe, ids[i], ids[i + 1]);
			rank[i] = m ? m->rank : INT32_MAX;
			made[i] = m ? m->made : 0;
		}
	}
	return count;
}

static inline bool goes_before(const struct ol_bpe_pending *a, const struct ol_bpe_pending *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct ol_bpe_work *work, struct ol_bpe_pending item)
{
	OL_ASSERT(work->heap_count < work->heap_room);
	size_t at = work->heap_count++;
	while (at > 0 && goes_before(&item, &work->heap[(at - 1) / 2])) {
		work->heap[at] = work->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	work->heap[at] = item;
}

static struct ol_bpe_pending heap_pop(struct ol_bpe_work *work)
{
	const struct ol_bpe_pending top = work->heap[0];
	const struct ol_bpe_pending item = work->heap[--work->heap_count];
	size_t at = 0;
	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= work->heap_count)
			break;
		if (child + 1 < work->heap_count &&
		    goes_before(&work->heap[child + 1], &work->heap[child]))
			child++;
		if (!goes_before(&work->heap[child], &item))
			break;
		work->heap[at] = work->heap[child];
		at = child;
	}
	work->heap[at] = item;
	return top;
}

static void push_pair(const struct ol_bpe *bpe, struct ol_bpe_work *work, int32_t at)
{
	const struct ol_bpe_symbol *s = &work->symbols[at];
	if (at < 0 || s->next < 0)
		return;
	const struct ol_merge_slot *m = find_merge(bpe, s->id, work->symbols[s->next].id);
	if (m)
		heap_push(work, (struct ol_bpe_pending){m->rank, at, m->made});
}

/* The same result in n log n: a queue of pairs by (rank, place). A pair that has changed since it
 * was queued is recognised when it no longer makes the same symbol, as in the library. */
static bool merge_large(const struct ol_bpe *bpe, struct ol_bpe_work *work, size_t *count_in_out)
{
	const int32_t count = (int32_t)*count_in_out;
	if (!reserve_symbols(work, (size_t)count + 1))
		return false;
	struct ol_bpe_symbol *s = work->symbols;
	for (int32_t i = 0; i < count; i++)
		s[i] = (struct ol_bpe_symbol){work->ids[i], i - 1, i + 1 < count ? i + 1 : -1};
	work->heap_count = 0;
	for (int32_t i = 0; i + 1 < count; i++)
		push_pair(bpe, work, i);
	while (work->heap_count > 0) {
		const struct ol_bpe_pending top = heap_pop(work);
		const int32_t right = s[top.at].next;
		if (s[top.at].id < 0 || right < 0)
			continue;
		const struct ol_merge_slot *m = find_merge(bpe, s[top.at].id, s[right].id);
		if (!m || m->made != top.made)
			continue;
		s[top.at].id = top.made;
		s[top.at].next = s[right].next;
		s[right].id = -1;
		if (s[right].next >= 0)
			s[s[right].next].prev = top.at;
		if (s[top.at].prev >= 0)
			push_pair(bpe, work, s[top.at].prev);
		push_pair(bpe, work, top.at);
	}
	size_t kept = 0;
	for (int32_t i = 0; i < count; i++)
		if (s[i].id >= 0)
			work->ids[kept++] = s[i].id;
	*count_in_out = kept;
	return true;
}

static bool push_ids(struct ol_tokens *out, const int32_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!ol_tokens_push(out, ids[i]))
			return false;
	return true;
}

static void remember(struct ol_bpe_work *work, uint32_t hash, size_t begin, size_t size,
		     size_t count)
{
	const size_t tokens = work->out->count - count - work->out_begin;
	if (size > CACHED_WORD_MAX || tokens > UINT32_MAX)
		return;
	work->cache[hash & work->cache_mask] = (struct ol_bpe_cached){
		hash, (uint32_t)begin, (uint32_t)tokens, (uint16_t)size, (uint16_t)count};
}

static const struct ol_bpe_cached *recall(const struct ol_bpe_work *work, uint32_t hash,
					  const char *word, size_t size)
{
	const struct ol_bpe_cached *c = &work->cache[hash & work->cache_mask];
	if (c->hash != hash || c->size != size || memcmp(work->base + c->begin, word, size) != 0)
		return NULL;
	return c;
}

static int32_t find_word(const struct ol_bpe *bpe, uint32_t hash, const char *word, size_t size)
{
	const struct ol_text_table *table = bpe->byte_level ? &bpe->raws : &bpe->texts;
	for (size_t at = hash & table->mask; table->slots[at].id >= 0;
	     at = (at + 1) & table->mask) {
		const struct ol_text_slot *slot = &table->slots[at];
		if (slot->hash == hash && slot->size == size &&
		    memcmp(bpe->pool + slot->begin, word, size) == 0)
			return slot->id;
	}
	return -1;
}

/* A word that nothing cuts further. Most words of a text are entries of the vocabulary that come
 * out as themselves; which ones do is found out the first time and noted in bpe->whole. */
static bool encode_word(const struct ol_bpe *bpe, struct ol_bpe_work *work, size_t begin,
			size_t end)
{
	const char *word = work->base + begin;
	const size_t size = end - begin;
	const uint32_t hash = ol_hash_text(word, size);
	const int32_t id = size <= bpe->longest ? find_word(bpe, hash, word, size) : -1;
	uint8_t whole = 2;
	if (id >= 0) {
		whole = atomic_load_explicit(&bpe->whole[id], memory_order_relaxed);
		if (whole == 1 && !bpe->shared_ids)
			return ol_tokens_push(work->out, id);
	}
	const struct ol_bpe_cached *c = recall(work, hash, word, size);
	if (c) {
		for (size_t i = 0; i < c->count; i++)
			if (!ol_tokens_push(work->out,
					    work->out->ids[work->out_begin + c->tokens + i]))
				return false;
		return true;
	}
	if (!reserve_word(work, size))
		return false;
	size_t count = start_symbols(bpe, work->ids, word, size);
	if (count <= SMALL_WORD && !bpe->shared_ids)
		count = merge_small(bpe, work->ids, count);
	else if (!merge_large(bpe, work, &count))
		return false;
	if (id >= 0 && whole == 0)
		atomic_store_explicit(&bpe->whole[id], count == 1 && work->ids[0] == id ? 1 : 2,
				      memory_order_relaxed);
	if (!push_ids(work->out, work->ids, count))
		return false;
	remember(work, hash, begin, size, count);
	return true;
}

static int joint_index(uint32_t code)
{
	return code == 0x2581 ? 0 : code < 128 && code > 0 ? (int)code : -1;
}

/* May a merge reach across the place between these two characters? */
static bool is_joint(const struct ol_bpe *bpe, uint32_t first, uint32_t second)
{
	const uint64_t key = (uint64_t)first << 32 | second | (uint64_t)1 << 63;
	size_t at = ol_hash_pair((int32_t)first, (int32_t)second) & bpe->joint_mask;
	for (; bpe->joints[at] != 0; at = (at + 1) & bpe->joint_mask)
		if (bpe->joints[at] == key)
			return true;
	return false;
}

/* Cuts a word where no merge reaches across. Never beside a character without an entry of its own:
 * what it becomes (bytes, or one fused unknown) does not follow the text of the entries. */
static bool encode_cut(const struct ol_bpe *bpe, struct ol_bpe_work *work, size_t begin, size_t end)
{
	const char *text = work->base;
	size_t word = begin, length;
	uint32_t last = ol_utf8_at(text + begin, &length);
	bool last_known = character_id(bpe, text + begin, length) >= 0;
	int last_index = joint_index(last);
	for (size_t at = begin + length; at < end; at += length) {
		const uint32_t code = ol_utf8_at(text + at, &length);
		const int index = joint_index(code);
		bool joined, known;
		if (index >= 0 && last_index >= 0) {
			joined = bpe->ascii_joints[last_index][index >> 6] >> (index & 63) & 1;
			known = bpe->ascii_known[index];
		} else {
			known = character_id(bpe, text + at, length) >= 0;
			joined = known && last_known && is_joint(bpe, last, code);
		}
		if (!joined && known && last_known) {
			if (!encode_word(bpe, work, word, at))
				return false;
			text = work->base;
			word = at;
		}
		last = code;
		last_known = known;
		last_index = index;
	}
	return encode_word(bpe, work, word, end);
}

bool ol_bpe_encode(const struct ol_bpe *bpe, struct ol_bpe_work *work, size_t begin, size_t end)
{
	if (begin == end)
		return true;
	if (bpe->ignore_merges && end - begin <= bpe->longest) {
		const char *word = work->base + begin;
		const int32_t id =
			find_word(bpe, ol_hash_text(word, end - begin), word, end - begin);
		if (id >= 0 && !bpe->special[id])
			return ol_tokens_push(work->out, id);
	}
	return bpe->splittable ? encode_cut(bpe, work, begin, end)
			       : encode_word(bpe, work, begin, end);
}
