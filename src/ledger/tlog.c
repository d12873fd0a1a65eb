#include "ledger/tlog.h"
#include "ledger/proof.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The right edge of the tree: of every level the hashes that fill no tile yet. The rest of the tree
 * is in the store, and never needed again for writing. */
struct edge {
	uint32_t count;
	uint8_t hashes[OL_TILE_BYTES];
};

struct ol_tlog {
	const struct ol_log_store *store;
	struct ol_note_key key;
	uint64_t size, published;
	struct ol_log_checkpoint flushed;
	bool has_flushed, broken;
	struct ol_buf bundle; /* the entries under edges[0] */
	struct edge edges[OL_TILE_LEVELS];
};

static enum ol_status broken_before(struct ol_error *err)
{
	return ol_fail(err, OL_ERR_IO, "the public log failed before; open it again");
}

static enum ol_status put_tile(struct ol_tlog *log, int level, uint64_t index, uint32_t width,
			       struct ol_error *err)
{
	char path[OL_TILE_PATH_MAX];
	const struct ol_tile tile = {.level = level, .width = width, .index = index};
	const bool entries = level == OL_TILE_ENTRIES;
	const void *bytes = entries ? (const void *)log->bundle.data : log->edges[level].hashes;
	ol_tile_path(path, &tile);
	return log->store->put(log->store->self, path, bytes,
			       entries ? log->bundle.size : (size_t)width * OL_MERKLE_BYTES, err);
}

/* The level's tile is full: store it and hand its root to the level above. */
static enum ol_status fill(struct ol_tlog *log, int level, struct ol_error *err)
{
	struct edge *edge = &log->edges[level];
	const uint64_t index = (log->size - 1) >> 8 * level >> 8;
	enum ol_status s = put_tile(log, level, index, OL_TILE_WIDTH, err);
	if (s == OL_OK && level == 0) {
		s = put_tile(log, OL_TILE_ENTRIES, index, OL_TILE_WIDTH, err);
		ol_buf_clear(&log->bundle);
	}
	if (s == OL_OK && level + 1 < OL_TILE_LEVELS) {
		struct edge *above = &log->edges[level + 1];
		ol_tile_subtree(above->hashes + (size_t)above->count * OL_MERKLE_BYTES,
				edge->hashes, 8);
		above->count++;
	}
	edge->count = 0;
	return s;
}

enum ol_status ol_tlog_append(struct ol_tlog *log, const void *entry, size_t size,
			      struct ol_error *err)
{
	struct edge *edge = &log->edges[0];
	const uint8_t length[2] = {(uint8_t)(size >> 8), (uint8_t)size};
	enum ol_status s = OL_OK;
	if (log->broken)
		return broken_before(err);
	if (size > OL_ENTRY_MAX)
		return ol_fail(err, OL_ERR_INPUT, "a log entry of %zu bytes; at most %d fit", size,
			       OL_ENTRY_MAX);
	if (!ol_buf_append(&log->bundle, length, sizeof length) ||
	    !ol_buf_append(&log->bundle, entry, size)) {
		log->broken = true;
		return ol_fail(err, OL_ERR_FULL, "out of memory for the log's entries");
	}
	ol_merkle_leaf(edge->hashes + (size_t)edge->count * OL_MERKLE_BYTES, entry, size);
	edge->count++;
	log->size++;
	for (int level = 0;
	     s == OL_OK && level < OL_TILE_LEVELS && log->edges[level].count == OL_TILE_WIDTH;
	     level++)
		s = fill(log, level, err);
	log->broken = s != OL_OK;
	return s;
}

/* Subtrees of the right edge, as ol_tree_root asks for them. */
static enum ol_status edge_node(void *self, uint8_t out[OL_MERKLE_BYTES], int level, uint64_t index,
				struct ol_error *err)
{
	const struct ol_tlog *log = self;
	const int tile_level = level / 8, height = level % 8;
	const uint64_t first = (index << height) % OL_TILE_WIDTH;
	(void)err;
	OL_ASSERT(tile_level < OL_TILE_LEVELS &&
		  first + (1ULL << height) <= log->edges[tile_level].count);
	ol_tile_subtree(out, log->edges[tile_level].hashes + first * OL_MERKLE_BYTES, height);
	return OL_OK;
}

static void edge_root(struct ol_tlog *log, uint8_t out[OL_MERKLE_BYTES])
{
	const struct ol_tree tree = {.node = edge_node, .self = log};
	OL_ASSERT(ol_tree_root(&tree, out, log->size, NULL) == OL_OK);
}

enum ol_status ol_tlog_flush(struct ol_tlog *log, struct ol_log_checkpoint *checkpoint,
			     struct ol_error *err)
{
	enum ol_status s = OL_OK;
	if (log->broken)
		return broken_before(err);
	if (log->has_flushed && log->flushed.size == log->size) {
		*checkpoint = log->flushed;
		return OL_OK;
	}
	if (log->edges[0].count > 0)
		s = put_tile(log, OL_TILE_ENTRIES, log->size >> 8, log->edges[0].count, err);
	for (int level = 0; s == OL_OK && level < OL_TILE_LEVELS; level++)
		/* What did not grow since the last flush is there already. */
		if (log->edges[level].count > 0 &&
		    !(log->has_flushed && log->flushed.size >> 8 * level == log->size >> 8 * level))
			s = put_tile(log, level, log->size >> 8 * level >> 8,
				     log->edges[level].count, err);
	if (s == OL_OK)
		s = log->store->sync(log->store->self, err);
	if (s != OL_OK) {
		log->broken = true;
		return s;
	}
	memset(&log->flushed, 0, sizeof log->flushed);
	memcpy(log->flushed.origin, log->key.name, sizeof log->flushed.origin);
	log->flushed.size = log->size;
	edge_root(log, log->flushed.root);
	log->has_flushed = true;
	*checkpoint = log->flushed;
	return OL_OK;
}

/* A tile that was at the edge of the former checkpoint and is full now needs no partial widths. */
static enum ol_status drop_partials(struct ol_tlog *log, uint64_t before, uint64_t now,
				    struct ol_error *err)
{
	enum ol_status s = OL_OK;
	for (int level = OL_TILE_ENTRIES; s == OL_OK && level < OL_TILE_LEVELS; level++) {
		const uint64_t index = before >> 8 * OL_MAX(level, 0) >> 8;
		const struct ol_tile tile = {
			.level = level, .width = OL_TILE_WIDTH, .index = index};
		char path[OL_TILE_PATH_MAX];
		if (ol_tile_width(before, level, index) == 0 ||
		    ol_tile_width(now, level, index) < OL_TILE_WIDTH)
			continue;
		ol_tile_path(path, &tile);
		s = log->store->drop_partials(log->store->self, path, err);
	}
	return s;
}

enum ol_status ol_tlog_publish(struct ol_tlog *log, const char *note, size_t size,
			       struct ol_error *err)
{
	struct ol_log_checkpoint checkpoint;
	const uint64_t before = log->published;
	if (log->broken)
		return broken_before(err);
	enum ol_status s = ol_log_checkpoint_open(&checkpoint, NULL, note, size, &log->key, err);
	if (s != OL_OK)
		return s;
	if (!log->has_flushed || checkpoint.size != log->flushed.size ||
	    checkpoint.extension_lines != 0 ||
	    memcmp(checkpoint.root, log->flushed.root, OL_MERKLE_BYTES) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the checkpoint of size %" PRIu64 " is not the one whose files were "
			       "made durable last",
			       checkpoint.size);
	s = log->store->put(log->store->self, OL_CHECKPOINT_NAME, note, size, err);
	if (s == OL_OK)
		s = log->store->sync(log->store->self, err);
	if (s == OL_OK) {
		log->published = checkpoint.size;
		s = drop_partials(log, before, checkpoint.size, err);
	}
	log->broken = s != OL_OK;
	return s;
}

uint64_t ol_tlog_size(const struct ol_tlog *log)
{
	return log->size;
}

uint64_t ol_tlog_published(const struct ol_tlog *log)
{
	return log->published;
}

static enum ol_status load_edge(struct ol_tlog *log, int level, struct ol_error *err)
{
	const bool entries = level == OL_TILE_ENTRIES;
	const uint64_t index = log->size >> 8 * OL_MAX(level, 0) >> 8;
	const struct ol_tile tile = {
		.level = level, .width = ol_tile_width(log->size, level, index), .index = index};
	char path[OL_TILE_PATH_MAX];
	struct ol_buf bytes;
	if (tile.width == 0)
		return OL_OK;
	ol_tile_path(path, &tile);
	if (entries)
		return log->store->source.fetch(log->store->source.self, &log->bundle, path, err);
	ol_buf_init(&bytes, OL_TILE_BYTES);
	enum ol_status s = log->store->source.fetch(log->store->source.self, &bytes, path, err);
	if (s == OL_OK && bytes.size != (size_t)tile.width * OL_MERKLE_BYTES)
		s = ol_fail(err, OL_ERR_INPUT, "%s holds %zu bytes instead of %zu", path,
			    bytes.size, (size_t)tile.width * OL_MERKLE_BYTES);
	if (s == OL_OK) {
		memcpy(log->edges[level].hashes, bytes.data, bytes.size);
		log->edges[level].count = tile.width;
	}
	ol_buf_release(&bytes);
	return s;
}

/* The entries must hash to the tile above them: they will be written again when it is full. */
static bool bundle_matches(const struct ol_tlog *log)
{
	const uint8_t *at = (const uint8_t *)log->bundle.data;
	size_t left = log->bundle.size;
	for (uint32_t i = 0; i < log->edges[0].count; i++) {
		uint8_t hash[OL_MERKLE_BYTES];
		const size_t size = left >= 2 ? (size_t)at[0] << 8 | at[1] : 0;
		if (left < 2 + size)
			return false;
		ol_merkle_leaf(hash, at + 2, size);
		if (memcmp(hash, log->edges[0].hashes + (size_t)i * OL_MERKLE_BYTES, sizeof hash) !=
		    0)
			return false;
		at += 2 + size;
		left -= 2 + size;
	}
	return left == 0;
}

static enum ol_status load(struct ol_tlog *log, struct ol_error *err)
{
	struct ol_buf note;
	uint8_t root[OL_MERKLE_BYTES];
	struct ol_error why = {0};
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	enum ol_status s =
		log->store->source.fetch(log->store->source.self, &note, OL_CHECKPOINT_NAME, err);
	if (s == OL_ERR_NOT_FOUND) {
		ol_buf_release(&note);
		return OL_OK;
	}
	if (s == OL_OK)
		s = ol_log_checkpoint_open(&log->flushed, NULL, note.data ? note.data : "",
					   note.size, &log->key, err);
	ol_buf_release(&note);
	if (s != OL_OK)
		return s;
	log->size = log->published = log->flushed.size;
	for (int level = OL_TILE_ENTRIES; s == OL_OK && level < OL_TILE_LEVELS; level++)
		s = load_edge(log, level, &why);
	if (s == OL_ERR_IO || s == OL_ERR_FULL)
		return ol_fail(err, s, "%s", why.text);
	if (s == OL_OK)
		edge_root(log, root);
	if (s != OL_OK || memcmp(root, log->flushed.root, sizeof root) != 0 || !bundle_matches(log))
		return ol_fail(
			err, OL_ERR_INPUT,
			"the files of the public log do not hash to its checkpoint of %" PRIu64
			" entries (%s); rebuild them: openledger ledger rebuild",
			log->size, s != OL_OK ? why.text : "their contents were changed");
	log->has_flushed = true;
	return OL_OK;
}

enum ol_status ol_tlog_create(struct ol_tlog **log_out, const struct ol_log_store *store,
			      const struct ol_note_key *log_key, struct ol_error *err)
{
	struct ol_tlog *log = calloc(1, sizeof *log);
	if (!log)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	log->store = store;
	log->key = *log_key;
	ol_buf_init(&log->bundle, OL_BUNDLE_BYTES_MAX);
	*log_out = log;
	return OL_OK;
}

enum ol_status ol_tlog_open(struct ol_tlog **log_out, const struct ol_log_store *store,
			    const struct ol_note_key *log_key, struct ol_error *err)
{
	struct ol_tlog *log = NULL;
	enum ol_status s = ol_tlog_create(&log, store, log_key, err);
	if (s == OL_OK)
		s = load(log, err);
	if (s == OL_OK)
		*log_out = log;
	else if (log)
		ol_tlog_close(log);
	return s;
}

void ol_tlog_close(struct ol_tlog *log)
{
	if (!log)
		return;
	ol_buf_release(&log->bundle);
	free(log);
}
