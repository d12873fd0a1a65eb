/* Where the strings, ids and names of records live, and the canonical form of a record. */
#include "train/record_internal.h"

#include "base/bytes.h"
#include "crypto/merkle.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 20, ALIGNMENT = sizeof(void *) };

struct ol_text_block {
	struct ol_text_block *next;
	size_t used, size;
	_Alignas(ALIGNMENT) char bytes[];
};

char *ol_text_reserve(struct ol_text_store *store, size_t size)
{
	struct ol_text_block *block = store->blocks;
	if (!block || block->size - block->used < size) {
		const size_t room = OL_MAX(size, (size_t)BLOCK);
		block = malloc(sizeof *block + room);
		if (!block)
			return NULL;
		*block = (struct ol_text_block){.next = store->blocks, .size = room};
		store->blocks = block;
	}
	return block->bytes + block->used;
}

void ol_text_take(struct ol_text_store *store, size_t size)
{
	struct ol_text_block *block = store->blocks;
	OL_ASSERT(size == 0 || (block && size <= block->size - block->used));
	if (block)
		block->used = OL_MIN((block->used + size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
				     block->size);
}

char *ol_text_copy(struct ol_text_store *store, const char *text, size_t size)
{
	char *copy = ol_text_reserve(store, size + 1);
	if (!copy)
		return NULL;
	memcpy(copy, text, size);
	copy[size] = '\0';
	ol_text_take(store, size + 1);
	return copy;
}

void ol_text_release(struct ol_text_store *store)
{
	while (store->blocks) {
		struct ol_text_block *next = store->blocks->next;
		free(store->blocks);
		store->blocks = next;
	}
}

uint64_t ol_record_key(const char *id, size_t size)
{
	uint8_t digest[OL_SHA256_BYTES];
	ol_sha256(digest, id, size);
	return ol_load_u64(digest);
}

static struct ol_id_slot *probe_id(const struct ol_records *records, struct ol_id_slot *slots,
				   size_t count, const char *id, uint64_t key)
{
	for (size_t at = (size_t)key & (count - 1);; at = (at + 1) & (count - 1)) {
		if (slots[at].record == 0)
			return &slots[at];
		const struct ol_record *other = &records->records[slots[at].record - 1];
		if (other->key == key && strcmp(other->id, id) == 0)
			return &slots[at];
	}
}

struct ol_id_slot *ol_records_id_slot(struct ol_records *records, const char *id, uint64_t key)
{
	if (2 * (records->count + 1) > records->id_slots) {
		const size_t room = OL_MAX(2 * records->id_slots, (size_t)256);
		struct ol_id_slot *slots = calloc(room, sizeof *slots);
		if (!slots)
			return NULL;
		for (size_t i = 0; i < records->id_slots; i++) {
			const struct ol_id_slot old = records->ids[i];
			if (!old.record)
				continue;
			const struct ol_record *record = &records->records[old.record - 1];
			*probe_id(records, slots, room, record->id, record->key) = old;
		}
		free(records->ids);
		records->ids = slots;
		records->id_slots = room;
	}
	return probe_id(records, records->ids, records->id_slots, id, key);
}

static struct ol_name_slot *probe_name(struct ol_name_slot *slots, size_t count, const char *text,
				       size_t size, uint64_t key)
{
	for (size_t at = (size_t)key & (count - 1);; at = (at + 1) & (count - 1)) {
		struct ol_name_slot *slot = &slots[at];
		if (!slot->name || (slot->key == key && strlen(slot->name) == size &&
				    memcmp(slot->name, text, size) == 0))
			return slot;
	}
}

const char *ol_records_name(struct ol_records *records, const char *text, size_t size)
{
	const uint64_t key = ol_record_key(text, size);
	if (2 * (records->name_count + 1) > records->name_slots) {
		const size_t room = OL_MAX(2 * records->name_slots, (size_t)64);
		struct ol_name_slot *slots = calloc(room, sizeof *slots);
		if (!slots)
			return NULL;
		for (size_t i = 0; i < records->name_slots; i++) {
			const struct ol_name_slot old = records->names[i];
			if (old.name)
				*probe_name(slots, room, old.name, strlen(old.name), old.key) = old;
		}
		free(records->names);
		records->names = slots;
		records->name_slots = room;
	}
	struct ol_name_slot *slot =
		probe_name(records->names, records->name_slots, text, size, key);
	if (!slot->name) {
		slot->name = ol_text_copy(&records->texts, text, size);
		if (!slot->name)
			return NULL;
		slot->key = key;
		records->name_count++;
	}
	return slot->name;
}

/* A JSON string by RFC 8785: only what must be escaped is. */
static void write_string(struct ol_buf *json, const char *text, size_t size)
{
	static const char short_of[] = "\b\t\n\f\r", short_as[] = "btnfr";
	size_t from = 0;
	ol_buf_append(json, "\"", 1);
	for (size_t i = 0; i < size; i++) {
		const unsigned char c = (unsigned char)text[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		ol_buf_append(json, text + from, i - from);
		from = i + 1;
		const char *hit = c ? strchr(short_of, c) : NULL;
		if (c == '"' || c == '\\')
			ol_buf_printf(json, "\\%c", c);
		else if (hit)
			ol_buf_printf(json, "\\%c", short_as[hit - short_of]);
		else
			ol_buf_printf(json, "\\u%04x", c);
	}
	ol_buf_append(json, text + from, size - from);
	ol_buf_append(json, "\"", 1);
}

static void write_member(struct ol_buf *json, const char *name, const char *text, size_t size)
{
	ol_buf_printf(json, "%s\"%s\":", json->data[json->size - 1] == '{' ? "" : ",", name);
	write_string(json, text, size);
}

bool ol_record_write(struct ol_buf *json, const struct ol_record *record)
{
	const bool is_text = record->turns[0].role == OL_ROLE_TEXT;
	const int messages = record->turn_count - (record->rejected ? 1 : 0);
	const struct ol_turn *last = &record->turns[record->turn_count - 1];
	if (!ol_buf_append(json, "{", 1))
		return false;
	if (record->rejected)
		write_member(json, "chosen", last->text, last->size);
	write_member(json, "contributor", record->contributor, strlen(record->contributor));
	if (record->fact)
		write_member(json, "fact", record->fact, strlen(record->fact));
	if (record->id)
		write_member(json, "id", record->id, strlen(record->id));
	if (record->license)
		write_member(json, "license", record->license, strlen(record->license));
	if (!is_text) {
		ol_buf_append_text(json, ",\"messages\":[");
		for (int i = 0; i < messages; i++) {
			const struct ol_turn *turn = &record->turns[i];
			const char *role = ol_role_name(turn->role);
			ol_buf_append_text(json, i ? ",{" : "{");
			write_member(json, "content", turn->text, turn->size);
			write_member(json, "role", role, strlen(role));
			ol_buf_append(json, "}", 1);
		}
		ol_buf_append(json, "]", 1);
	}
	if (record->rejected)
		write_member(json, "rejected", record->rejected, record->rejected_size);
	if (is_text)
		write_member(json, "text", record->turns[0].text, record->turns[0].size);
	ol_buf_append(json, "}", 1);
	return !json->failed;
}

enum ol_status ol_records_sha256(const struct ol_records *records, uint8_t out[OL_SHA256_BYTES],
				 struct ol_error *err)
{
	struct ol_merkle tree;
	struct ol_buf json;
	bool good = true;
	ol_merkle_init(&tree);
	ol_buf_init(&json, (size_t)1 << 40);
	for (size_t i = 0; i < records->count && good; i++) {
		uint8_t leaf[OL_MERKLE_BYTES];
		ol_buf_clear(&json);
		good = ol_record_write(&json, &records->records[i]);
		if (good) {
			ol_merkle_leaf(leaf, json.data, json.size);
			ol_merkle_add(&tree, leaf);
		}
	}
	ol_buf_release(&json);
	if (!good)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the snapshot's hash");
	ol_merkle_root(&tree, out);
	return OL_OK;
}
