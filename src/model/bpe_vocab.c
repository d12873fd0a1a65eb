/* Building the tables of model/bpe.h. */
#include "model/bpe.h"

#include "model/bpe_hash.h"
#include "model/unicode.h"

#include <stdlib.h>

enum { LOWER_ONE_EIGHTH_BLOCK = 0x2581 };

static size_t table_size(size_t count)
{
	size_t size = 16;
	while (size < count * 2)
		size *= 2;
	return size;
}

bool ol_text_table_reserve(struct ol_text_table *table, size_t count)
{
	const size_t size = table_size(count);
	if (table->slots && size <= table->mask + 1)
		return true;
	struct ol_text_slot *slots = malloc(size * sizeof *slots), *old = table->slots;
	if (!slots)
		return false;
	for (size_t i = 0; i < size; i++)
		slots[i].id = -1;
	for (size_t i = 0; old && i <= table->mask; i++) {
		if (old[i].id < 0)
			continue;
		size_t at = old[i].hash & (size - 1);
		while (slots[at].id >= 0)
			at = (at + 1) & (size - 1);
		slots[at] = old[i];
	}
	free(old);
	table->slots = slots;
	table->mask = size - 1;
	return true;
}

bool ol_text_table_put(struct ol_text_table *table, const char *pool, struct ol_text_ref text,
		       int32_t id)
{
	if (!ol_text_table_reserve(table, table->count + 1))
		return false;
	const uint32_t hash = ol_hash_text(pool + text.begin, text.size);
	size_t at = hash & table->mask;
	for (int probe = 0; probe < OL_BPE_PROBES_MAX; probe++, at = (at + 1) & table->mask) {
		struct ol_text_slot *slot = &table->slots[at];
		if (slot->id < 0) {
			*slot = (struct ol_text_slot){hash, text.begin, text.size, id};
			table->count++;
			return true;
		}
		if (slot->hash == hash && slot->size == text.size &&
		    memcmp(pool + slot->begin, pool + text.begin, text.size) == 0) {
			slot->id = id;
			return true;
		}
	}
	return false;
}

int32_t ol_text_table_find(const struct ol_text_table *table, const char *pool, const char *text,
			   size_t size)
{
	if (!table->slots)
		return -1;
	const uint32_t hash = ol_hash_text(text, size);
	for (size_t at = hash & table->mask; table->slots[at].id >= 0;
	     at = (at + 1) & table->mask) {
		const struct ol_text_slot *slot = &table->slots[at];
		if (slot->hash == hash && slot->size == size &&
		    memcmp(pool + slot->begin, text, size) == 0)
			return slot->id;
	}
	return -1;
}

int32_t ol_bpe_find(const struct ol_bpe *bpe, const char *text, size_t size)
{
	return ol_text_table_find(&bpe->texts, bpe->pool, text, size);
}

void ol_bpe_init(struct ol_bpe *bpe)
{
	*bpe = (struct ol_bpe){.unk_id = -1};
	memset(bpe->byte_ids, 0xff, sizeof bpe->byte_ids);
	memset(bpe->ascii_ids, 0xff, sizeof bpe->ascii_ids);
}

void ol_bpe_release(struct ol_bpe *bpe)
{
	free(bpe->pool);
	free(bpe->entries);
	free(bpe->texts.slots);
	free(bpe->raws.slots);
	free(bpe->merges);
	free(bpe->joints);
	free(bpe->special);
	free((void *)bpe->whole);
	*bpe = (struct ol_bpe){0};
}

bool ol_bpe_reserve(struct ol_bpe *bpe, size_t more)
{
	if (more > UINT32_MAX || bpe->pool_size + more > UINT32_MAX)
		return false;
	if (bpe->pool_size + more <= bpe->pool_room)
		return true;
	const size_t room = OL_MAX(bpe->pool_size + more, bpe->pool_room + bpe->pool_room / 2);
	char *pool = realloc(bpe->pool, room);
	if (!pool)
		return false;
	bpe->pool = pool;
	bpe->pool_room = room;
	return true;
}

static bool reserve_ids(struct ol_bpe *bpe, int32_t vocab_size)
{
	struct ol_text_ref *entries =
		realloc(bpe->entries, (size_t)vocab_size * sizeof *entries);
	if (!entries)
		return false;
	bpe->entries = entries;
	for (int32_t id = bpe->vocab_size; id < vocab_size; id++)
		entries[id] = (struct ol_text_ref){0, UINT32_MAX};
	bpe->vocab_size = vocab_size;
	return true;
}

bool ol_bpe_reserve_tables(struct ol_bpe *bpe, size_t entries, size_t merges)
{
	const size_t size = table_size(merges);
	if (!ol_text_table_reserve(&bpe->texts, entries))
		return false;
	if (bpe->merges && size <= bpe->merge_mask + 1)
		return true;
	struct ol_merge_slot *slots = malloc(size * sizeof *slots), *old = bpe->merges;
	if (!slots)
		return false;
	for (size_t i = 0; i < size; i++)
		slots[i].left = -1;
	for (size_t i = 0; old && i <= bpe->merge_mask; i++) {
		if (old[i].left < 0)
			continue;
		size_t at = ol_hash_pair(old[i].left, old[i].right) & (size - 1);
		while (slots[at].left >= 0)
			at = (at + 1) & (size - 1);
		slots[at] = old[i];
	}
	free(old);
	bpe->merges = slots;
	bpe->merge_mask = size - 1;
	return true;
}

bool ol_bpe_add_entry(struct ol_bpe *bpe, size_t size, int32_t id)
{
	OL_ASSERT(size <= bpe->pool_room - bpe->pool_size && id >= 0);
	const struct ol_text_ref text = {(uint32_t)bpe->pool_size, (uint32_t)size};
	if (id >= bpe->vocab_size) {
		/* Room grows by doubling: entries come in any order of ids. */
		const int32_t past = bpe->vocab_size;
		if (!reserve_ids(bpe, OL_MAX(id + 1, past + past / 2)))
			return false;
	}
	if (bpe->entries[id].size != UINT32_MAX)
		bpe->shared_ids = true;
	if (!ol_text_table_put(&bpe->texts, bpe->pool, text, id))
		return false;
	bpe->entries[id] = text;
	bpe->pool_size += size;
	return true;
}

uint32_t ol_byte_alphabet(uint8_t byte)
{
	if ((byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad))
		return byte;
	/* The others follow from U+0100, in order: 0-32, 127-160, 173. */
	if (byte <= 32)
		return 256u + byte;
	return byte == 173 ? 256u + 67 : 256u + 33 + (byte - 127u);
}

bool ol_byte_alphabet_decode(const char *entry, size_t size, char *out, size_t *size_out)
{
	size_t n = 0, length;
	for (size_t at = 0; at < size; at += length) {
		const uint32_t code = ol_utf8_at(entry + at, &length);
		if (code >= 256 + 68)
			return false;
		const uint32_t byte = code < 256	? code
				      : code <= 256 + 32 ? code - 256
				      : code == 256 + 67 ? 173
							 : code - 256 - 33 + 127;
		if (ol_byte_alphabet((uint8_t)byte) != code)
			return false;
		out[n++] = (char)byte;
	}
	*size_out = n;
	return true;
}

/* Drops the ids that doubling made room for. */
static void trim_ids(struct ol_bpe *bpe)
{
	while (bpe->vocab_size > 0 && bpe->entries[bpe->vocab_size - 1].size == UINT32_MAX)
		bpe->vocab_size--;
}

static bool set_byte_symbols(struct ol_bpe *bpe)
{
	size_t total = 0;
	for (int32_t id = 0; id < bpe->vocab_size; id++)
		if (ol_bpe_has(bpe, id))
			total += bpe->entries[id].size;
	if (!ol_bpe_reserve(bpe, total) || !ol_text_table_reserve(&bpe->raws, bpe->texts.count))
		return false;
	for (size_t i = 0; i <= bpe->texts.mask; i++) {
		const struct ol_text_slot slot = bpe->texts.slots[i];
		size_t size;
		if (slot.id < 0)
			continue;
		if (!ol_bpe_reserve(bpe, slot.size))
			return false;
		if (!ol_byte_alphabet_decode(bpe->pool + slot.begin, slot.size,
					     bpe->pool + bpe->pool_size, &size))
			continue;
		const struct ol_text_ref raw = {(uint32_t)bpe->pool_size, (uint32_t)size};
		if (!ol_text_table_put(&bpe->raws, bpe->pool, raw, slot.id))
			return false;
		bpe->pool_size += size;
		bpe->longest = OL_MAX(bpe->longest, raw.size);
		if (size == 1 && !bpe->special[slot.id])
			bpe->byte_ids[(uint8_t)bpe->pool[raw.begin]] = slot.id;
	}
	return true;
}

static int32_t find_plain(const struct ol_bpe *bpe, const char *text, size_t size)
{
	const int32_t id = ol_bpe_find(bpe, text, size);
	return id >= 0 && bpe->special[id] ? -1 : id;
}

static void set_character_symbols(struct ol_bpe *bpe)
{
	static const char digits[] = "0123456789ABCDEF";
	for (int c = 0; c < 128; c++) {
		const char text = (char)c;
		bpe->ascii_ids[c] = find_plain(bpe, &text, 1);
		bpe->ascii_known[c] = bpe->ascii_ids[c] >= 0;
	}
	bpe->ascii_known[0] = find_plain(bpe, "\xe2\x96\x81", 3) >= 0;
	for (int b = 0; b < 256; b++) {
		const char text[6] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
		bpe->byte_ids[b] = find_plain(bpe, text, sizeof text);
	}
	for (size_t i = 0; i <= bpe->texts.mask; i++)
		if (bpe->texts.slots[i].id >= 0)
			bpe->longest = OL_MAX(bpe->longest, bpe->texts.slots[i].size);
}

bool ol_bpe_set_symbols(struct ol_bpe *bpe, bool byte_level)
{
	trim_ids(bpe);
	bpe->byte_level = byte_level;
	bpe->whole = calloc((size_t)bpe->vocab_size + 1, sizeof *bpe->whole);
	if (!bpe->whole || !ol_text_table_reserve(&bpe->texts, 1))
		return false;
	if (byte_level)
		return set_byte_symbols(bpe);
	set_character_symbols(bpe);
	return true;
}

bool ol_bpe_add_merge(struct ol_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t made)
{
	if (bpe->special[made])
		return true; /* what a user wrote never grows into a special token */
	if (!ol_bpe_reserve_tables(bpe, 0, bpe->merge_count + 1))
		return false;
	size_t at = ol_hash_pair(left, right) & bpe->merge_mask;
	for (int probe = 0; probe < OL_BPE_PROBES_MAX; probe++, at = (at + 1) & bpe->merge_mask) {
		struct ol_merge_slot *slot = &bpe->merges[at];
		const bool free_slot = slot->left < 0;
		if (free_slot || (slot->left == left && slot->right == right)) {
			bpe->merge_count += free_slot;
			*slot = (struct ol_merge_slot){left, right, rank, made};
			return true;
		}
	}
	return false;
}

static bool add_joint(struct ol_bpe *bpe, uint32_t first, uint32_t second)
{
	const int row = first == LOWER_ONE_EIGHTH_BLOCK ? 0 : first < 128 ? (int)first : -1;
	const int column = second == LOWER_ONE_EIGHTH_BLOCK ? 0 : second < 128 ? (int)second : -1;
	if (row >= 0 && column >= 0)
		bpe->ascii_joints[row][column >> 6] |= (uint64_t)1 << (column & 63);
	/* The table is sized for one joint per merge, so it always has a free slot. */
	const uint64_t key = (uint64_t)first << 32 | second | (uint64_t)1 << 63;
	size_t at = ol_hash_pair((int32_t)first, (int32_t)second) & bpe->joint_mask;
	for (int probe = 0; probe < OL_BPE_PROBES_MAX; probe++, at = (at + 1) & bpe->joint_mask) {
		if (bpe->joints[at] == 0) {
			bpe->joints[at] = key;
			bpe->joint_count++;
			return true;
		}
		if (bpe->joints[at] == key)
			return true;
	}
	return false;
}

/* A place between two characters that no merge's two sides ever meet at stays a boundary for good:
 * what is on its left merges as if nothing were on its right. */
static bool find_joints(struct ol_bpe *bpe)
{
	const size_t size = table_size(bpe->merge_count);
	bpe->joints = calloc(size, sizeof *bpe->joints);
	if (!bpe->joints)
		return false;
	bpe->joint_mask = size - 1;
	for (size_t i = 0; i <= bpe->merge_mask; i++) {
		const struct ol_merge_slot *m = &bpe->merges[i];
		size_t length;
		if (m->left < 0)
			continue;
		const struct ol_text_ref left = bpe->entries[m->left],
					 right = bpe->entries[m->right];
		const char *text = bpe->pool + left.begin;
		const uint32_t first = ol_utf8_at(text + ol_utf8_before(text, left.size), &length);
		const uint32_t second = ol_utf8_at(bpe->pool + right.begin, &length);
		if (!add_joint(bpe, first, second))
			return false;
	}
	return true;
}

bool ol_bpe_finish(struct ol_bpe *bpe)
{
	if (!ol_bpe_reserve_tables(bpe, 0, 1))
		return false;
	bpe->splittable = !bpe->byte_level && !bpe->shared_ids;
	return !bpe->splittable || find_joints(bpe);
}
