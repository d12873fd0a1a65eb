#include "ledger/monitor.h"
#include "base/file.h"
#include "crypto/text.h"
#include "ledger/key_event.h"
#include "ledger/tile_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_MAX_BYTES = 4096, STATE_MAX = OL_NOTE_BYTES_MAX + 8 * 1024 };
static const char state_head[] = "openledger monitor 1\n";

struct ol_monitor {
	struct ol_monitor_options options;
	struct ol_note_key key;
	struct ol_merkle tree;          /* of the entries checked */
	struct ol_log_checkpoint known; /* size 0 before the first */
	struct ol_buf note;             /* its signed bytes        */
};

const char *ol_monitor_finding_name(enum ol_monitor_finding finding)
{
	switch (finding) {
	case OL_MONITOR_SAME: return "same";
	case OL_MONITOR_GREW: return "grew";
	case OL_MONITOR_UNREACHABLE: return "unreachable";
	case OL_MONITOR_UNSIGNED: return "unsigned";
	case OL_MONITOR_ROLLED_BACK: return "rolled-back";
	case OL_MONITOR_FORKED: return "forked";
	case OL_MONITOR_TRUNCATED: return "truncated";
	case OL_MONITOR_WRONG_FILES: return "wrong-files";
	}
	OL_UNREACHABLE();
}

bool ol_monitor_is_alarm(enum ol_monitor_finding finding)
{
	return finding >= OL_MONITOR_UNSIGNED;
}

static enum ol_status join(char path[PATH_MAX_BYTES], const char *a, const char *b,
			   struct ol_error *err)
{
	const int length = snprintf(path, PATH_MAX_BYTES, "%s/%s", a, b);
	if (length < 0 || length >= PATH_MAX_BYTES)
		return ol_fail(err, OL_ERR_INPUT, "the path %.60s… is too long", a);
	return OL_OK;
}

/* ---- What it remembers: head, one line per hash of the frontier, empty line, checkpoint ---- */

static enum ol_status write_file(const char *path, const void *bytes, size_t size,
				 struct ol_error *err)
{
	struct ol_writer *writer;
	enum ol_status s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, bytes, size, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

static enum ol_status save(const struct ol_monitor *monitor, struct ol_error *err)
{
	char path[PATH_MAX_BYTES];
	struct ol_buf text;
	if (!monitor->options.folder)
		return OL_OK;
	enum ol_status s = join(path, monitor->options.folder, "state", err);
	if (s != OL_OK)
		return s;
	ol_buf_init(&text, STATE_MAX);
	ol_buf_append_text(&text, state_head);
	for (int level = OL_MERKLE_LEVELS - 1; level >= 0; level--)
		if (monitor->tree.count >> level & 1) {
			ol_base64_append(&text, monitor->tree.full[level], OL_MERKLE_BYTES);
			ol_buf_append_text(&text, "\n");
		}
	ol_buf_append_text(&text, "\n");
	ol_buf_append(&text, monitor->note.data, monitor->note.size);
	s = text.failed ? ol_fail(err, OL_ERR_FULL, "out of memory for the monitor's state")
			: write_file(path, text.data, text.size, err);
	ol_buf_release(&text);
	return s;
}

static enum ol_status parse_state(struct ol_monitor *monitor, const char *text, size_t size,
				  const char *path, struct ol_error *err)
{
	const char *end = text + size;
	struct ol_proof hashes;
	uint8_t root[OL_MERKLE_BYTES];
	const size_t head = sizeof state_head - 1;
	bool good = size >= head && memcmp(text, state_head, head) == 0;
	text += good ? head : 0;
	good = good && ol_proof_parse(&hashes, &text, end, NULL) == OL_OK;
	if (good) {
		const char *note = text + 1;
		good = ol_log_checkpoint_open(&monitor->known, NULL, note, (size_t)(end - note),
					      &monitor->key, err) == OL_OK &&
		       ol_buf_append(&monitor->note, note, (size_t)(end - note));
	}
	uint32_t next = 0;
	for (int level = OL_MERKLE_LEVELS - 1; good && level >= 0; level--)
		if (monitor->known.size >> level & 1) {
			good = next < hashes.count;
			if (good)
				memcpy(monitor->tree.full[level], hashes.hashes[next++],
				       OL_MERKLE_BYTES);
		}
	monitor->tree.count = monitor->known.size;
	if (good)
		ol_merkle_root(&monitor->tree, root);
	if (!good || next != hashes.count || memcmp(root, monitor->known.root, sizeof root) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is damaged, or of another log; move it away to begin anew",
			       path);
	return OL_OK;
}

static enum ol_status load(struct ol_monitor *monitor, struct ol_error *err)
{
	char path[PATH_MAX_BYTES];
	struct ol_map map;
	if (!monitor->options.folder)
		return OL_OK;
	enum ol_status s = ol_make_directories(monitor->options.folder, err);
	if (s == OL_OK)
		s = join(path, monitor->options.folder, "state", err);
	if (s == OL_OK)
		s = ol_map_open(&map, path, err);
	if (s == OL_ERR_NOT_FOUND)
		return OL_OK;
	if (s != OL_OK)
		return s;
	s = map.data ? parse_state(monitor, (const char *)map.data, map.size, path, err)
		     : ol_fail(err, OL_ERR_INPUT, "%s is empty", path);
	ol_map_close(&map);
	return s;
}

enum ol_status ol_monitor_open(struct ol_monitor **monitor_out,
			       const struct ol_monitor_options *options, struct ol_error *err)
{
	struct ol_monitor *monitor = calloc(1, sizeof *monitor);
	if (!monitor)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	monitor->options = *options;
	monitor->key = *options->log_key;
	ol_merkle_init(&monitor->tree);
	ol_sha256(monitor->known.root, NULL, 0);
	ol_buf_init(&monitor->note, OL_NOTE_BYTES_MAX);
	const enum ol_status s = load(monitor, err);
	if (s == OL_OK)
		*monitor_out = monitor;
	else
		ol_monitor_close(monitor);
	return s;
}

void ol_monitor_close(struct ol_monitor *monitor)
{
	if (!monitor)
		return;
	ol_buf_release(&monitor->note);
	free(monitor);
}

uint64_t ol_monitor_size(const struct ol_monitor *monitor)
{
	return monitor->known.size;
}

/* ---- One look ---- */

static void find(struct ol_monitor_report *report, enum ol_monitor_finding finding,
		 const char *format, ...) OL_PRINTF(3, 4);

static void find(struct ol_monitor_report *report, enum ol_monitor_finding finding,
		 const char *format, ...)
{
	va_list list;
	report->finding = finding;
	va_start(list, format);
	vsnprintf(report->text, sizeof report->text, format, list);
	va_end(list);
}

/* What a failure to read means: a missing file is the log's fault, no answer is nobody's. */
static void find_by_status(struct ol_monitor_report *report, enum ol_status s, const char *text)
{
	if (s == OL_ERR_NOT_FOUND)
		find(report, OL_MONITOR_TRUNCATED,
		     "the log signed %" PRIu64
		     " entries but does not show all of its files: %.600s",
		     report->size, text);
	else if (s == OL_ERR_IO || s == OL_ERR_CANCELLED)
		find(report, OL_MONITOR_UNREACHABLE, "%.900s", text);
	else
		find(report, OL_MONITOR_WRONG_FILES, "%.900s", text);
}

/* Both signed checkpoints and what they mean, in a folder of its own. */
static enum ol_status keep_evidence(const struct ol_monitor *monitor,
				    struct ol_monitor_report *report, const struct ol_buf *shown,
				    struct ol_error *err)
{
	char hash[2 * OL_SHA256_BYTES + 1], name[128], folder[PATH_MAX_BYTES], path[PATH_MAX_BYTES];
	uint8_t of_shown[OL_SHA256_BYTES];
	if (!monitor->options.folder)
		return OL_OK;
	ol_sha256(of_shown, shown->data, shown->size);
	ol_hex(hash, of_shown, sizeof of_shown);
	snprintf(name, sizeof name, "evidence-%" PRIu64 "-%.16s", report->size, hash);
	enum ol_status s = join(folder, monitor->options.folder, name, err);
	if (s == OL_OK)
		s = ol_make_directories(folder, err);
	const struct {
		const char *name, *bytes;
		size_t size;
	} files[] = {{"known", monitor->note.data, monitor->note.size},
		     {"shown", shown->data, shown->size},
		     {"words", report->text, strlen(report->text)}};
	for (size_t i = 0; s == OL_OK && i < OL_ARRAY_LEN(files); i++) {
		s = join(path, folder, files[i].name, err);
		if (s == OL_OK)
			s = write_file(path, files[i].bytes, files[i].size, err);
	}
	if (s == OL_OK)
		snprintf(report->evidence, sizeof report->evidence, "%.1000s", folder);
	return s;
}

/* The tiles must say of entry `index` and of the full tiles that it ends what the entries say. */
static enum ol_status check_tiles(struct ol_tile_reader *reader, uint64_t index,
				  const uint8_t leaf[OL_MERKLE_BYTES], struct ol_error *err)
{
	const struct ol_tree tiles = ol_tile_reader_tree(reader);
	uint8_t hash[OL_MERKLE_BYTES], left[OL_MERKLE_BYTES], right[OL_MERKLE_BYTES];
	enum ol_status s = tiles.node(tiles.self, hash, 0, index, err);
	if (s == OL_OK && memcmp(hash, leaf, sizeof hash) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "entry %" PRIu64 " does not hash to what the log's tile says",
			       index);
	for (int level = 8; s == OL_OK && level < 64 && (index + 1) % (1ULL << level) == 0;
	     level += 8) {
		const uint64_t at = index >> level;
		s = tiles.node(tiles.self, hash, level, at, err);
		if (s == OL_OK)
			s = tiles.node(tiles.self, left, level - 1, 2 * at, err);
		if (s == OL_OK)
			s = tiles.node(tiles.self, right, level - 1, 2 * at + 1, err);
		if (s != OL_OK)
			return s;
		ol_merkle_node(left, left, right);
		if (memcmp(hash, left, sizeof hash) != 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "tile %" PRIu64
				       " of level %d does not hash to what the tile "
				       "above it says",
				       at, level / 8 - 1);
	}
	return s;
}

/* An event that says which key follows is worth a word. */
static void look_for_key(const struct ol_monitor *monitor, struct ol_monitor_report *report,
			 const uint8_t *entry, size_t size)
{
	struct ol_key_event event;
	struct ol_note_key next;
	if (ol_key_event_check(&event, entry, size, monitor->key.name, monitor->key.public_key) ==
		    OL_KEY_EVENT_WELL &&
	    ol_note_key_init(&next, monitor->key.name, OL_NOTE_ED25519, event.new_key, NULL) ==
		    OL_OK)
		ol_note_key_print(report->next_key, &next);
}

/* All entries of one bundle from *index on. INPUT with a sentence: the log's fault. *own: a failure
 * of the visitor. */
static enum ol_status read_bundle(struct ol_monitor *monitor, struct ol_monitor_report *report,
				  struct ol_tile_reader *reader, struct ol_merkle *tree,
				  enum ol_status *own, struct ol_error *err)
{
	const uint64_t first = tree->count / OL_TILE_WIDTH * OL_TILE_WIDTH;
	const uint64_t end = OL_MIN(report->size, first + OL_TILE_WIDTH);
	struct ol_buf bytes;
	ol_buf_init(&bytes, OL_BUNDLE_BYTES_MAX);
	enum ol_status s = ol_tile_reader_bundle(reader, &bytes, first, err);
	struct ol_bundle bundle = {(const uint8_t *)bytes.data, bytes.size, 0};
	for (uint64_t index = first; s == OL_OK && index < end; index++) {
		const uint8_t *entry;
		size_t entry_size;
		uint8_t leaf[OL_MERKLE_BYTES];
		if (!ol_bundle_next(&bundle, &entry, &entry_size)) {
			s = ol_fail(err, OL_ERR_NOT_FOUND,
				    "the bundle of entry %" PRIu64 " ends before it", index);
			break;
		}
		if (index < tree->count)
			continue;
		ol_merkle_leaf(leaf, entry, entry_size);
		s = check_tiles(reader, index, leaf, err);
		look_for_key(monitor, report, entry, entry_size);
		if (s == OL_OK && monitor->options.visit)
			s = *own = monitor->options.visit(monitor->options.context, index, entry,
							  entry_size, err);
		ol_merkle_add(tree, leaf);
	}
	ol_buf_release(&bytes);
	return s;
}

/* Do the log's own tiles show that the shown checkpoint continues the known one? */
static enum ol_status consistent(const struct ol_monitor *monitor,
				 const struct ol_log_checkpoint *old,
				 const struct ol_log_checkpoint *new, struct ol_error *err)
{
	struct ol_proof proof;
	struct ol_tile_reader *reader = ol_tile_reader_open(&monitor->options.source, new->size);
	if (!reader)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	const enum ol_status s =
		ol_tile_reader_consistency(reader, &proof, old->size, old->root, new->root, err);
	ol_tile_reader_close(reader);
	return s;
}

/* The checkpoint is signed and has more entries: read them all. */
static enum ol_status grow(struct ol_monitor *monitor, struct ol_monitor_report *report,
			   const struct ol_log_checkpoint *shown, struct ol_merkle *tree,
			   struct ol_error *err)
{
	struct ol_error why = {0};
	enum ol_status own = OL_OK;
	uint8_t root[OL_MERKLE_BYTES];
	enum ol_status s = consistent(monitor, &monitor->known, shown, &why);
	if (s == OL_ERR_FULL)
		return ol_fail(err, s, "%s", why.text);
	if (s == OL_ERR_INPUT) {
		find(report, OL_MONITOR_FORKED,
		     "the log forked: it signed a checkpoint of %" PRIu64
		     " entries that does not continue the %" PRIu64 " it signed before",
		     shown->size, monitor->known.size);
		return OL_OK;
	}
	struct ol_tile_reader *reader = ol_tile_reader_open(&monitor->options.source, shown->size);
	if (!reader)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	while (s == OL_OK && tree->count < shown->size)
		s = read_bundle(monitor, report, reader, tree, &own, &why);
	ol_tile_reader_close(reader);
	if (own != OL_OK)
		return ol_fail(err, own, "%s", why.text);
	if (s != OL_OK) {
		find_by_status(report, s, why.text);
		return OL_OK;
	}
	ol_merkle_root(tree, root);
	if (memcmp(root, shown->root, sizeof root) != 0)
		find(report, OL_MONITOR_WRONG_FILES,
		     "the log's %" PRIu64 " entries do not hash to the root it signed",
		     shown->size);
	else
		find(report, OL_MONITOR_GREW,
		     "%" PRIu64 " new entries, %" PRIu64 " in all; every hash is right",
		     shown->size - report->known_size, shown->size);
	return OL_OK;
}

static enum ol_status compare(struct ol_monitor *monitor, struct ol_monitor_report *report,
			      const struct ol_log_checkpoint *shown, struct ol_merkle *tree,
			      struct ol_error *err)
{
	const struct ol_log_checkpoint *known = &monitor->known;
	struct ol_error why = {0};
	if (shown->size > known->size)
		return grow(monitor, report, shown, tree, err);
	if (shown->size == known->size) {
		if (memcmp(shown->root, known->root, OL_MERKLE_BYTES) == 0)
			find(report, OL_MONITOR_SAME, "%" PRIu64 " entries, as before",
			     known->size);
		else
			find(report, OL_MONITOR_FORKED,
			     "the log forked: it signed two different histories of %" PRIu64
			     " entries",
			     known->size);
		return OL_OK;
	}
	const enum ol_status s = consistent(monitor, shown, known, &why);
	if (s == OL_ERR_FULL)
		return ol_fail(err, s, "%s", why.text);
	if (s == OL_ERR_INPUT)
		find(report, OL_MONITOR_FORKED,
		     "the log forked: it shows %" PRIu64 " entries that are not the beginning of "
		     "the %" PRIu64 " it signed before",
		     shown->size, known->size);
	else
		find(report, OL_MONITOR_ROLLED_BACK,
		     "the log was rolled back: it shows %" PRIu64 " entries but signed %" PRIu64
		     " before",
		     shown->size, known->size);
	return OL_OK;
}

enum ol_status ol_monitor_step(struct ol_monitor *monitor, struct ol_monitor_report *report,
			       struct ol_error *err)
{
	struct ol_log_checkpoint shown;
	struct ol_error why = {0};
	struct ol_buf note;
	struct ol_merkle tree = monitor->tree;
	memset(report, 0, sizeof *report);
	report->known_size = monitor->known.size;
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	enum ol_status s = monitor->options.source.fetch(monitor->options.source.self, &note,
							 OL_CHECKPOINT_NAME, &why);
	if (s != OL_OK) {
		find(report, OL_MONITOR_UNREACHABLE, "%.900s", why.text);
		ol_buf_release(&note);
		return OL_OK;
	}
	s = ol_log_checkpoint_open(&shown, NULL, note.data ? note.data : "", note.size,
				   &monitor->key, &why);
	if (s != OL_OK) {
		find(report, OL_MONITOR_UNSIGNED, "%.900s", why.text);
		s = OL_OK;
	} else {
		report->size = shown.size;
		s = compare(monitor, report, &shown, &tree, err);
	}
	if (s == OL_OK && report->finding == OL_MONITOR_GREW) {
		monitor->tree = tree;
		monitor->known = shown;
		ol_buf_release(&monitor->note);
		monitor->note = note;
		return save(monitor, err);
	}
	if (s == OL_OK && ol_monitor_is_alarm(report->finding))
		s = keep_evidence(monitor, report, &note, err);
	ol_buf_release(&note);
	return s;
}
