#include "train/bpe_train_internal.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_TEXT_MAX = 1 << 30 }; /* bytes of all different words */

static enum ol_status out_of_memory(struct ol_error *err)
{
	return ol_fail(err, OL_ERR_FULL, "learning a vocabulary: out of memory");
}

static uint32_t hash_bytes(const char *bytes, size_t size)
{
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (uint8_t)bytes[i]) * 16777619u;
	return hash ^ hash >> 15;
}

static uint32_t hash_pair(int32_t left, int32_t right)
{
	const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 32);
}

enum ol_status ol_bpe_trainer_open(struct ol_bpe_trainer **trainer_out, struct ol_error *err)
{
	struct ol_bpe_trainer *t = calloc(1, sizeof *t);
	*trainer_out = t;
	if (!t)
		return out_of_memory(err);
	ol_buf_init(&t->text, WORD_TEXT_MAX);
	t->word_mask = (1 << 16) - 1;
	t->word_slots = calloc(t->word_mask + 1, sizeof *t->word_slots);
	if (!t->word_slots || !ol_split_open_known(&t->split, OL_SPLIT_QWEN2)) {
		ol_bpe_trainer_close(t);
		*trainer_out = NULL;
		return out_of_memory(err);
	}
	return OL_OK;
}

void ol_bpe_trainer_close(struct ol_bpe_trainer *t)
{
	if (!t)
		return;
	for (size_t i = 0; t->pairs && i <= t->pair_mask; i++)
		free(t->pairs[i].words);
	for (int id = 0; id < t->entry_count; id++)
		free(t->entries[id].bytes);
	free(t->pairs);
	free(t->entries);
	free(t->merges);
	free(t->touched);
	free(t->heap);
	free(t->symbols);
	free(t->words);
	free(t->word_slots);
	ol_buf_release(&t->text);
	ol_pieces_release(&t->pieces);
	ol_split_close(t->split);
	free(t);
}

uint64_t ol_bpe_trainer_words(const struct ol_bpe_trainer *t)
{
	return t->total;
}

uint64_t ol_bpe_trainer_unique_words(const struct ol_bpe_trainer *t)
{
	return t->word_count;
}

/* ---- counting words ---- */

static bool grow_word_slots(struct ol_bpe_trainer *t)
{
	const size_t mask = 2 * t->word_mask + 1;
	uint32_t *slots = calloc(mask + 1, sizeof *slots);
	if (!slots)
		return false;
	for (size_t i = 0; i < t->word_count; i++) {
		size_t at = hash_bytes(t->text.data + t->words[i].begin, t->words[i].size) & mask;
		while (slots[at])
			at = (at + 1) & mask;
		slots[at] = (uint32_t)i + 1;
	}
	free(t->word_slots);
	t->word_slots = slots;
	t->word_mask = mask;
	return true;
}

static bool add_word(struct ol_bpe_trainer *t, uint32_t *slot, const char *bytes, size_t size)
{
	if (t->word_count == t->word_room) {
		const size_t room = OL_MAX(2 * t->word_room, (size_t)4096);
		struct word *words = realloc(t->words, room * sizeof *words);
		if (!words)
			return false;
		t->words = words;
		t->word_room = room;
	}
	const uint32_t begin = (uint32_t)t->text.size;
	if (!ol_buf_append(&t->text, bytes, size))
		return false;
	t->words[t->word_count++] =
		(struct word){.count = 1, .begin = begin, .size = (uint32_t)size};
	*slot = (uint32_t)t->word_count;
	return 2 * t->word_count <= t->word_mask || grow_word_slots(t);
}

static bool count_word(struct ol_bpe_trainer *t, const char *bytes, size_t size)
{
	size_t at = hash_bytes(bytes, size) & t->word_mask;
	t->total++;
	for (; t->word_slots[at]; at = (at + 1) & t->word_mask) {
		struct word *w = &t->words[t->word_slots[at] - 1];
		if (w->size == size && memcmp(t->text.data + w->begin, bytes, size) == 0) {
			w->count++;
			return true;
		}
	}
	return add_word(t, &t->word_slots[at], bytes, size);
}

/* How much of a long text to cut at once: up to a line's end that a character other than white
 * space follows, where every pattern of words has a boundary. */
static size_t chunk_end(const char *text, size_t begin, size_t size)
{
	enum { CHUNK = 1 << 16 };
	size_t end = size - begin > CHUNK ? begin + CHUNK : size;
	while (end < size &&
	       !(text[end - 1] == '\n' && (uint8_t)text[end] > ' ' && (uint8_t)text[end] < 0x80))
		end++;
	return end;
}

enum ol_status ol_bpe_trainer_add(struct ol_bpe_trainer *t, const char *text, size_t size,
				  const char *where, struct ol_error *err)
{
	OL_ASSERT(!t->entries);
	const size_t good = ol_utf8_check(text, size);
	if (good != size)
		return ol_fail(err, OL_ERR_INPUT, "%s: not valid UTF-8 at byte %zu", where, good);
	for (size_t begin = 0; begin < size;) {
		const size_t end = chunk_end(text, begin, size);
		if (end - begin > INT32_MAX)
			return ol_fail(err, OL_ERR_FULL, "%s: a line of more than 2 GiB", where);
		t->pieces.count = 0;
		const enum ol_status s = ol_split_find(t->split, NULL, &t->pieces, text + begin, 0,
						       end - begin, err);
		if (s != OL_OK)
			return s;
		for (size_t i = 0; i < t->pieces.count; i++) {
			const struct ol_piece *p = &t->pieces.list[i];
			const size_t length = p->end - p->begin;
			if (length <= OL_BPE_TRAIN_WORD_MAX &&
			    !count_word(t, text + begin + p->begin, length))
				return out_of_memory(err);
		}
		begin = end;
	}
	return OL_OK;
}

/* ---- pairs ---- */

/* The slot of a pair: its own, or the free one where it belongs. */
static struct pair *find_pair(const struct ol_bpe_trainer *t, int32_t left, int32_t right)
{
	size_t at = hash_pair(left, right) & t->pair_mask;
	while (t->pairs[at].left >= 0 && (t->pairs[at].left != left || t->pairs[at].right != right))
		at = (at + 1) & t->pair_mask;
	return &t->pairs[at];
}

static bool reserve_pairs(struct ol_bpe_trainer *t, size_t slots)
{
	struct pair *old = t->pairs;
	const size_t old_slots = old ? t->pair_mask + 1 : 0;
	struct pair *pairs = malloc(slots * sizeof *pairs);
	if (!pairs)
		return false;
	for (size_t i = 0; i < slots; i++)
		pairs[i] = (struct pair){.left = -1};
	t->pairs = pairs;
	t->pair_mask = slots - 1;
	for (size_t i = 0; i < old_slots; i++)
		if (old[i].left >= 0)
			*find_pair(t, old[i].left, old[i].right) = old[i];
	free(old);
	return true;
}

/* Adds `count` (which may be negative) to a pair of the word `word`. */
static bool count_pair(struct ol_bpe_trainer *t, int32_t left, int32_t right, int64_t count,
		       uint32_t word)
{
	struct pair *p = find_pair(t, left, right);
	if (p->left < 0) {
		*p = (struct pair){.left = left, .right = right};
		if (2 * ++t->pair_count > t->pair_mask) {
			if (!reserve_pairs(t, 2 * (t->pair_mask + 1)))
				return false;
			p = find_pair(t, left, right);
		}
	}
	p->count += count;
	if (count < 0 || (p->word_count > 0 && p->words[p->word_count - 1] == word))
		return true;
	if (p->word_count == p->word_room) {
		const uint32_t room = OL_MAX(2 * p->word_room, 4u);
		uint32_t *words = realloc(p->words, room * sizeof *words);
		if (!words)
			return false;
		p->words = words;
		p->word_room = room;
	}
	p->words[p->word_count++] = word;
	return true;
}

static bool count_pairs_of(struct ol_bpe_trainer *t, uint32_t word, int sign)
{
	const struct word *w = &t->words[word];
	const int32_t *s = t->symbols + w->symbols;
	for (uint32_t i = 0; i + 1 < w->length; i++)
		if (!count_pair(t, s[i], s[i + 1], sign * (int64_t)w->count, word))
			return false;
	return true;
}

/* Is a to be merged before b? */
static bool comes_before(struct candidate a, struct candidate b)
{
	if (a.count != b.count)
		return a.count > b.count;
	return a.left != b.left ? a.left < b.left : a.right < b.right;
}

static bool push_candidate(struct ol_bpe_trainer *t, struct candidate c)
{
	if (t->heap_count == t->heap_room) {
		const size_t room = OL_MAX(2 * t->heap_room, (size_t)4096);
		struct candidate *heap = realloc(t->heap, room * sizeof *heap);
		if (!heap)
			return false;
		t->heap = heap;
		t->heap_room = room;
	}
	size_t at = t->heap_count++;
	for (; at > 0 && comes_before(c, t->heap[(at - 1) / 2]); at = (at - 1) / 2)
		t->heap[at] = t->heap[(at - 1) / 2];
	t->heap[at] = c;
	return true;
}

static struct candidate pop_candidate(struct ol_bpe_trainer *t)
{
	const struct candidate top = t->heap[0], last = t->heap[--t->heap_count];
	size_t at = 0;
	for (size_t child = 1; child < t->heap_count; child = 2 * at + 1) {
		if (child + 1 < t->heap_count && comes_before(t->heap[child + 1], t->heap[child]))
			child++;
		if (!comes_before(t->heap[child], last))
			break;
		t->heap[at] = t->heap[child];
		at = child;
	}
	t->heap[at] = last;
	return top;
}

/* ---- learning ---- */

static bool add_entry(struct ol_bpe_trainer *t, const char *bytes, size_t size)
{
	char *copy = malloc(size + 1);
	if (!copy)
		return false;
	memcpy(copy, bytes, size);
	copy[size] = '\0';
	t->entries[t->entry_count++] = (struct entry){copy, (uint32_t)size};
	return true;
}

static bool start_entries(struct ol_bpe_trainer *t, int vocab_size, const char *const *special,
			  int special_count)
{
	t->entries = calloc((size_t)vocab_size, sizeof *t->entries);
	if (!t->entries)
		return false;
	for (int i = 0; i < special_count; i++)
		if (!add_entry(t, special[i], strlen(special[i])))
			return false;
	t->special_count = special_count;
	for (int byte = 0; byte < 256; byte++)
		if (!add_entry(t, (const char[]){(char)byte}, 1))
			return false;
	return true;
}

static bool start_pairs(struct ol_bpe_trainer *t)
{
	t->symbols = malloc(OL_MAX(t->text.size, (size_t)1) * sizeof *t->symbols);
	if (!t->symbols || !reserve_pairs(t, 1 << 16))
		return false;
	for (size_t i = 0; i < t->text.size; i++)
		t->symbols[i] = t->special_count + (uint8_t)t->text.data[i];
	for (size_t i = 0; i < t->word_count; i++) {
		t->words[i].symbols = t->words[i].begin;
		t->words[i].length = t->words[i].size;
		if (!count_pairs_of(t, (uint32_t)i, 1))
			return false;
	}
	for (size_t i = 0; i <= t->pair_mask; i++) {
		const struct pair *p = &t->pairs[i];
		if (p->left >= 0 &&
		    !push_candidate(t, (struct candidate){p->count, p->left, p->right}))
			return false;
	}
	return true;
}

/* The entry that spells left + right, new or old: "ab" + "c" and "a" + "bc" are one entry, and
 * both merges lead to it. -1: out of memory. */
static int32_t entry_of_pair(struct ol_bpe_trainer *t, int32_t left, int32_t right)
{
	const struct entry *l = &t->entries[left], *r = &t->entries[right];
	char bytes[OL_BPE_TRAIN_WORD_MAX];
	const uint32_t size = l->size + r->size;
	OL_ASSERT(size <= sizeof bytes);
	memcpy(bytes, l->bytes, l->size);
	memcpy(bytes + l->size, r->bytes, r->size);
	for (int id = t->special_count; id < t->entry_count; id++)
		if (t->entries[id].size == size && memcmp(t->entries[id].bytes, bytes, size) == 0)
			return id;
	return add_entry(t, bytes, size) ? t->entry_count - 1 : -1;
}

static void merge_in_word(struct ol_bpe_trainer *t, struct word *w, struct merge m, int32_t made)
{
	int32_t *s = t->symbols + w->symbols;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < w->length; kept++) {
		const bool here = i + 1 < w->length && s[i] == m.left && s[i + 1] == m.right;
		s[kept] = here ? made : s[i];
		i += here ? 2 : 1;
	}
	w->length = kept;
}

static bool push_merge(struct merge **list, size_t *count, size_t *room, struct merge m)
{
	if (*count == *room) {
		const size_t more = OL_MAX(2 * *room, (size_t)1024);
		struct merge *grown = realloc(*list, more * sizeof *grown);
		if (!grown)
			return false;
		*list = grown;
		*room = more;
	}
	(*list)[(*count)++] = m;
	return true;
}

/* Notes the pairs of a word that have the new symbol: no other pair became more frequent. */
static bool touch_pairs(struct ol_bpe_trainer *t, const struct word *w, int32_t made,
			uint32_t stamp)
{
	const int32_t *s = t->symbols + w->symbols;
	for (uint32_t k = 0; k + 1 < w->length; k++) {
		if (s[k] != made && s[k + 1] != made)
			continue;
		struct pair *p = find_pair(t, s[k], s[k + 1]);
		if (p->touched == stamp)
			continue;
		p->touched = stamp;
		if (!push_merge(&t->touched, &t->touched_count, &t->touched_room,
				(struct merge){s[k], s[k + 1]}))
			return false;
	}
	return true;
}

/* Merges a pair in all its words. Counts change by taking each word's pairs out and putting those
 * of its shorter form in; pairs that have become more frequent become candidates (those of pairs
 * that have become rarer are corrected when they surface). */
static bool merge_pair(struct ol_bpe_trainer *t, struct merge m, int32_t made, uint32_t stamp)
{
	struct pair *p = find_pair(t, m.left, m.right);
	uint32_t *words = p->words;
	const uint32_t count = p->word_count;
	bool ok = p->merged || push_merge(&t->merges, &t->merge_count, &t->merge_room, m);
	p->merged = true;
	p->words = NULL;
	p->word_count = p->word_room = 0;
	t->touched_count = 0;
	for (uint32_t i = 0; ok && i < count; i++) {
		struct word *w = &t->words[words[i]];
		if (w->visited == stamp)
			continue;
		w->visited = stamp;
		ok = count_pairs_of(t, words[i], -1);
		merge_in_word(t, w, m, made);
		ok = ok && count_pairs_of(t, words[i], 1) && touch_pairs(t, w, made, stamp);
	}
	free(words);
	for (size_t i = 0; ok && i < t->touched_count; i++) {
		const struct pair *q = find_pair(t, t->touched[i].left, t->touched[i].right);
		ok = push_candidate(t, (struct candidate){q->count, q->left, q->right});
	}
	return ok;
}

static enum ol_status learn_merges(struct ol_bpe_trainer *t, int vocab_size, struct ol_error *err)
{
	uint32_t stamp = 0;
	while (t->entry_count < vocab_size) {
		if (t->heap_count == 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "the text gives only %d of %d vocabulary entries: give more "
				       "text or ask for a smaller vocabulary",
				       t->entry_count, vocab_size);
		const struct candidate c = pop_candidate(t);
		const int64_t count = find_pair(t, c.left, c.right)->count;
		if (count !=
		    c.count) { /* an old count: back with the right one, unless it is there */
			if (count >= OL_BPE_TRAIN_COUNT_MIN && count < c.count &&
			    !push_candidate(t, (struct candidate){count, c.left, c.right}))
				return out_of_memory(err);
			continue;
		}
		if (count < OL_BPE_TRAIN_COUNT_MIN)
			continue;
		const struct merge m = {c.left, c.right};
		const int32_t made = entry_of_pair(t, m.left, m.right);
		if (made < 0 || !merge_pair(t, m, made, ++stamp))
			return out_of_memory(err);
	}
	return OL_OK;
}

enum ol_status ol_bpe_trainer_learn(struct ol_bpe_trainer *t, int vocab_size,
				    const char *const *special, int special_count,
				    struct ol_error *err)
{
	OL_ASSERT(!t->entries && special_count >= 0 && special_count <= OL_BPE_TRAIN_SPECIAL_MAX);
	if (vocab_size < special_count + 256 || vocab_size > OL_BPE_TRAIN_VOCAB_MAX)
		return ol_fail(
			err, OL_ERR_INPUT,
			"a vocabulary of %d entries cannot be learned: it must have %d to %d "
			"(256 bytes and %d special tokens among them)",
			vocab_size, special_count + 256, OL_BPE_TRAIN_VOCAB_MAX, special_count);
	if (!start_entries(t, vocab_size, special, special_count) || !start_pairs(t))
		return out_of_memory(err);
	return learn_merges(t, vocab_size, err);
}
