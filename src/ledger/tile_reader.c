#include "ledger/tile_reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Enough for the paths of a few proofs; a slot is found by level and index. */
enum { SLOTS = 64 };

struct slot {
	bool filled;
	int level;
	uint64_t index;
	uint32_t width;
	uint8_t hashes[OL_TILE_BYTES];
};

struct ol_tile_reader {
	struct ol_log_source source;
	uint64_t size;
	struct slot slots[SLOTS];
};

struct ol_tile_reader *ol_tile_reader_open(const struct ol_log_source *source, uint64_t size)
{
	struct ol_tile_reader *reader = calloc(1, sizeof *reader);
	if (!reader)
		return NULL;
	OL_ASSERT(size <= OL_TREE_SIZE_MAX);
	reader->source = *source;
	reader->size = size;
	return reader;
}

void ol_tile_reader_close(struct ol_tile_reader *reader)
{
	free(reader);
}

/* The file of a tile of this width. A partial one may be gone because the full one took its place:
 * its beginning is the same. */
static enum ol_status fetch(struct ol_tile_reader *reader, struct ol_buf *out,
			    const struct ol_tile *tile, struct ol_error *err)
{
	char path[OL_TILE_PATH_MAX];
	struct ol_tile full = *tile;
	const size_t before = out->size;
	ol_tile_path(path, tile);
	enum ol_status s = reader->source.fetch(reader->source.self, out, path, err);
	if (s != OL_ERR_NOT_FOUND || tile->width == OL_TILE_WIDTH)
		return s;
	OL_ASSERT(out->size == before);
	full.width = OL_TILE_WIDTH;
	ol_tile_path(path, &full);
	if (reader->source.fetch(reader->source.self, out, path, NULL) == OL_OK)
		return OL_OK;
	return s; /* the sentence about the first */
}

static enum ol_status load(struct ol_tile_reader *reader, struct slot *slot, int level,
			   uint64_t index, struct ol_error *err)
{
	const struct ol_tile tile = {
		.level = level, .width = ol_tile_width(reader->size, level, index), .index = index};
	const size_t wanted = (size_t)tile.width * OL_MERKLE_BYTES;
	struct ol_buf bytes;
	OL_ASSERT(tile.width > 0);
	ol_buf_init(&bytes, OL_TILE_BYTES);
	enum ol_status s = fetch(reader, &bytes, &tile, err);
	if (s == OL_OK && bytes.size != wanted && bytes.size != OL_TILE_BYTES) {
		char path[OL_TILE_PATH_MAX];
		ol_tile_path(path, &tile);
		s = ol_fail(err, OL_ERR_INPUT, "%s holds %zu bytes instead of %zu", path,
			    bytes.size, wanted);
	}
	slot->filled = s == OL_OK;
	if (s == OL_OK) {
		memcpy(slot->hashes, bytes.data, wanted);
		slot->level = level;
		slot->index = index;
		slot->width = tile.width;
	}
	ol_buf_release(&bytes);
	return s;
}

static enum ol_status node(void *self, uint8_t out[OL_MERKLE_BYTES], int level, uint64_t index,
			   struct ol_error *err)
{
	struct ol_tile_reader *reader = self;
	const int tile_level = level / 8, height = level % 8;
	const uint64_t first = index << height, tile = first / OL_TILE_WIDTH;
	struct slot *slot = &reader->slots[(tile * 7 + (uint64_t)tile_level * 19) % SLOTS];
	OL_ASSERT(tile_level < OL_TILE_LEVELS);
	if (!slot->filled || slot->level != tile_level || slot->index != tile) {
		const enum ol_status s = load(reader, slot, tile_level, tile, err);
		if (s != OL_OK)
			return s;
	}
	OL_ASSERT(first % OL_TILE_WIDTH + (1ULL << height) <= slot->width);
	ol_tile_subtree(out, slot->hashes + first % OL_TILE_WIDTH * OL_MERKLE_BYTES, height);
	return OL_OK;
}

struct ol_tree ol_tile_reader_tree(struct ol_tile_reader *reader)
{
	return (struct ol_tree){.node = node, .self = reader};
}

enum ol_status ol_tile_reader_inclusion(struct ol_tile_reader *reader, struct ol_proof *proof,
					const uint8_t leaf[OL_MERKLE_BYTES], uint64_t index,
					const uint8_t root[OL_MERKLE_BYTES], struct ol_error *err)
{
	const struct ol_tree tree = ol_tile_reader_tree(reader);
	if (index >= reader->size)
		return ol_fail(err, OL_ERR_INPUT,
			       "there is no entry %" PRIu64 " in a log of %" PRIu64, index,
			       reader->size);
	const enum ol_status s = ol_inclusion_prove(&tree, proof, index, reader->size, err);
	if (s == OL_OK && !ol_inclusion_verify(proof, leaf, index, reader->size, root))
		return ol_fail(err, OL_ERR_INPUT,
			       "the log's tiles do not lead from entry %" PRIu64
			       " to the root of its checkpoint of %" PRIu64 " entries",
			       index, reader->size);
	return s;
}

enum ol_status ol_tile_reader_consistency(struct ol_tile_reader *reader, struct ol_proof *proof,
					  uint64_t old_size,
					  const uint8_t old_root[OL_MERKLE_BYTES],
					  const uint8_t root[OL_MERKLE_BYTES], struct ol_error *err)
{
	const struct ol_tree tree = ol_tile_reader_tree(reader);
	if (old_size > reader->size)
		return ol_fail(err, OL_ERR_INPUT,
			       "a log of %" PRIu64 " entries cannot continue one of %" PRIu64,
			       reader->size, old_size);
	const enum ol_status s = ol_consistency_prove(&tree, proof, old_size, reader->size, err);
	if (s == OL_OK && !ol_consistency_verify(proof, old_size, old_root, reader->size, root))
		return ol_fail(err, OL_ERR_INPUT,
			       "the log's tiles do not show that its %" PRIu64
			       " entries continue the %" PRIu64 " known ones",
			       reader->size, old_size);
	return s;
}

enum ol_status ol_tile_reader_bundle(struct ol_tile_reader *reader, struct ol_buf *out,
				     uint64_t index, struct ol_error *err)
{
	const uint64_t number = index / OL_TILE_WIDTH;
	const struct ol_tile tile = {.level = OL_TILE_ENTRIES,
				     .width = ol_tile_width(reader->size, 0, number),
				     .index = number};
	OL_ASSERT(index < reader->size);
	return fetch(reader, out, &tile, err);
}

bool ol_bundle_next(struct ol_bundle *bundle, const uint8_t **entry_out, size_t *size_out)
{
	const size_t left = bundle->size - bundle->offset;
	const uint8_t *at = bundle->bytes + bundle->offset;
	if (left < 2)
		return false;
	const size_t size = (size_t)at[0] << 8 | at[1];
	if (left < 2 + size)
		return false;
	*entry_out = at + 2;
	*size_out = size;
	bundle->offset += 2 + size;
	return true;
}

enum ol_status ol_tile_reader_entry(struct ol_tile_reader *reader, struct ol_buf *out,
				    uint8_t leaf_out[OL_MERKLE_BYTES], uint64_t index,
				    struct ol_error *err)
{
	uint8_t leaf[OL_MERKLE_BYTES], stored[OL_MERKLE_BYTES];
	const uint8_t *entry = NULL;
	size_t size = 0;
	struct ol_buf bytes;
	if (index >= reader->size)
		return ol_fail(err, OL_ERR_INPUT,
			       "there is no entry %" PRIu64 " in a log of %" PRIu64, index,
			       reader->size);
	ol_buf_init(&bytes, OL_BUNDLE_BYTES_MAX);
	enum ol_status s = ol_tile_reader_bundle(reader, &bytes, index, err);
	struct ol_bundle bundle = {(const uint8_t *)bytes.data, bytes.size, 0};
	for (uint64_t i = 0; s == OL_OK && i <= index % OL_TILE_WIDTH; i++)
		if (!ol_bundle_next(&bundle, &entry, &size))
			s = ol_fail(err, OL_ERR_INPUT,
				    "the log's bundle of entry %" PRIu64 " ends before it", index);
	if (s == OL_OK)
		s = node(reader, stored, 0, index, err);
	if (s == OL_OK) {
		ol_merkle_leaf(leaf, entry, size);
		if (leaf_out)
			memcpy(leaf_out, leaf, sizeof leaf);
		if (memcmp(leaf, stored, sizeof leaf) != 0)
			s = ol_fail(err, OL_ERR_INPUT,
				    "entry %" PRIu64 " of the log does not hash to its tile",
				    index);
		else if (!ol_buf_append(out, entry, size))
			s = ol_fail(err, OL_ERR_FULL, "entry %" PRIu64 " is larger than the limit",
				    index);
	}
	ol_buf_release(&bytes);
	return s;
}
