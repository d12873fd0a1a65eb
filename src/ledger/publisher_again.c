/* The public files once more from the events: to compare them, or to write them. */
#include "ledger/publisher.h"

#include <stdlib.h>
#include <string.h>

enum { STEP = 256 };

/* A store whose `put` compares with what is there. */
struct mirror {
	const struct ol_log_store *store;
	bool compare;
	uint64_t files;
};

static enum ol_status mirror_fetch(void *self, struct ol_buf *out, const char *name,
				   struct ol_error *err)
{
	const struct mirror *m = self;
	return m->store->source.fetch(m->store->source.self, out, name, err);
}

/* A partial tile may be gone because the full one took its place: its beginning is the same. */
static enum ol_status fetch_beginning(struct mirror *m, struct ol_buf *out, const char *name,
				      size_t size, struct ol_error *err)
{
	struct ol_tile tile;
	char full[OL_TILE_PATH_MAX];
	const enum ol_status s = mirror_fetch(m, out, name, err);
	if (s != OL_ERR_NOT_FOUND || !ol_tile_path_parse(&tile, name) ||
	    tile.width == OL_TILE_WIDTH)
		return s;
	tile.width = OL_TILE_WIDTH;
	ol_tile_path(full, &tile);
	if (mirror_fetch(m, out, full, NULL) != OL_OK)
		return s; /* the sentence about the first */
	out->size = OL_MIN(out->size, size);
	return OL_OK;
}

static enum ol_status mirror_put(void *self, const char *name, const void *bytes, size_t size,
				 struct ol_error *err)
{
	struct mirror *m = self;
	struct ol_buf there;
	m->files++;
	if (!m->compare)
		return m->store->put(m->store->self, name, bytes, size, err);
	ol_buf_init(&there, OL_BUNDLE_BYTES_MAX);
	enum ol_status s = fetch_beginning(m, &there, name, size, err);
	if (s == OL_ERR_NOT_FOUND)
		s = ol_fail(err, OL_ERR_INPUT,
			    "%s is missing in the public log: openledger ledger rebuild", name);
	else if (s == OL_OK && (there.size != size || memcmp(there.data, bytes, size) != 0))
		s = ol_fail(err, OL_ERR_INPUT,
			    "%s of the public log is not what the journal gives: openledger "
			    "ledger rebuild",
			    name);
	ol_buf_release(&there);
	return s;
}

static enum ol_status mirror_sync(void *self, struct ol_error *err)
{
	const struct mirror *m = self;
	return m->compare ? OL_OK : m->store->sync(m->store->self, err);
}

/* Nothing is published, so nothing becomes superfluous. */
static enum ol_status mirror_drop(void *self, const char *name, struct ol_error *err)
{
	(void)self, (void)name, (void)err;
	return OL_OK;
}

/* ---- The events under the checkpoint ---------------------------------------------- */

struct pass {
	uint64_t size, next;
	struct ol_merkle tree; /* of their ids */
	struct ol_tlog *log;   /* NULL: only the tree */
	enum ol_status status;
	struct ol_error *err;
};

static bool pass_event(void *context, const struct ol_indexed_event *event)
{
	struct pass *pass = context;
	uint8_t id[OL_EVENT_ID_BYTES];
	if (pass->next == pass->size || event->index != pass->next)
		return false;
	ol_event_id(id, event->bytes, event->size);
	if (memcmp(id, event->id, sizeof id) != 0) {
		pass->status = ol_fail(pass->err, OL_ERR_INPUT,
				       "event %llu of the index is damaged: openledger ledger "
				       "rebuild",
				       (unsigned long long)event->index);
		return false;
	}
	if (pass->log)
		pass->status = ol_tlog_append(pass->log, event->bytes, event->size, pass->err);
	else
		ol_merkle_add(&pass->tree, id);
	pass->next++;
	return pass->status == OL_OK;
}

static enum ol_status walk(struct pass *pass, struct ol_ledger_index *index, struct ol_error *err)
{
	pass->err = err;
	while (pass->next < pass->size) {
		const uint64_t before = pass->next;
		const enum ol_status s =
			ol_ledger_index_events_from(index, before, STEP, pass_event, pass, err);
		if (s != OL_OK || pass->status != OL_OK)
			return s != OL_OK ? s : pass->status;
		if (pass->next == before)
			return ol_fail(err, OL_ERR_INPUT,
				       "the public log has %llu events, the journal only %llu: it "
				       "was restored from an older copy, or the index lags",
				       (unsigned long long)pass->size, (unsigned long long)before);
	}
	return OL_OK;
}

/* The events must give the root that the world has seen. */
static enum ol_status check_root(const struct ol_log_checkpoint *checkpoint,
				 struct ol_ledger_index *index, struct ol_error *err)
{
	struct pass pass = {.size = checkpoint->size};
	uint8_t root[OL_MERKLE_BYTES];
	ol_merkle_init(&pass.tree);
	const enum ol_status s = walk(&pass, index, err);
	if (s != OL_OK)
		return s;
	ol_merkle_root(&pass.tree, root);
	if (memcmp(root, checkpoint->root, sizeof root) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the first %llu events of the journal are not those of the "
			       "published checkpoint: they are of two histories. Restore the "
			       "journal that belongs to this log",
			       (unsigned long long)checkpoint->size);
	return OL_OK;
}

static enum ol_status go_through(struct mirror *mirror, const struct ol_log_checkpoint *checkpoint,
				 const struct ol_note_key *log_key, struct ol_ledger_index *index,
				 struct ol_error *err)
{
	const struct ol_log_store store = {.source = {.fetch = mirror_fetch, .self = mirror},
					   .put = mirror_put,
					   .sync = mirror_sync,
					   .drop_partials = mirror_drop,
					   .self = mirror};
	struct pass pass = {.size = checkpoint->size};
	struct ol_log_checkpoint made;
	enum ol_status s = ol_tlog_create(&pass.log, &store, log_key, err);
	if (s == OL_OK)
		s = walk(&pass, index, err);
	if (s == OL_OK && checkpoint->size > 0)
		s = ol_tlog_flush(pass.log, &made, err);
	if (s == OL_OK && checkpoint->size > 0 &&
	    memcmp(made.root, checkpoint->root, sizeof made.root) != 0)
		s = ol_fail(err, OL_ERR_INPUT, "the index changed while it was read: try again");
	ol_tlog_close(pass.log);
	return s;
}

static enum ol_status again(struct ol_published *published_out, const struct ol_log_store *store,
			    bool compare, const struct ol_note_key *log_key,
			    struct ol_ledger_index *index, struct ol_error *err)
{
	struct mirror mirror = {.store = store, .compare = compare};
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note;
	*published_out = (struct ol_published){0};
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	enum ol_status s = store->source.fetch(store->source.self, &note, OL_CHECKPOINT_NAME, err);
	if (s == OL_ERR_NOT_FOUND) {
		ol_buf_release(&note);
		return OL_OK;
	}
	if (s == OL_OK)
		s = ol_log_checkpoint_open(&checkpoint, NULL, note.data ? note.data : "", note.size,
					   log_key, err);
	ol_buf_release(&note);
	if (s == OL_OK)
		s = check_root(&checkpoint, index, err);
	if (s == OL_OK)
		s = go_through(&mirror, &checkpoint, log_key, index, err);
	if (s == OL_OK)
		*published_out = (struct ol_published){checkpoint.size, true, mirror.files + 1};
	return s;
}

enum ol_status ol_published_check(struct ol_published *published_out,
				  const struct ol_log_store *store,
				  const struct ol_note_key *log_key, struct ol_ledger_index *index,
				  struct ol_error *err)
{
	return again(published_out, store, true, log_key, index, err);
}

enum ol_status ol_published_rebuild(struct ol_published *published_out,
				    const struct ol_log_store *store,
				    const struct ol_note_key *log_key,
				    struct ol_ledger_index *index, struct ol_error *err)
{
	return again(published_out, store, false, log_key, index, err);
}
