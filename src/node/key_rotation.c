#define _GNU_SOURCE
#include "node/key_rotation.h"
#include "ledger/bookkeeper.h"
#include "ledger/key_event.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PUBLISH_MS = 60000 };

static enum ol_status fail_io(struct ol_error *err, const char *what, const char *path)
{
	return ol_fail(err, OL_ERR_IO, "cannot %s %s: %s", what, path, strerror(errno));
}

static enum ol_status sync_folder(const char *path, struct ol_error *err)
{
	const int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum ol_status s = OL_OK;
	if (folder < 0 || fsync(folder) != 0)
		s = fail_io(err, "sync", path);
	if (folder >= 0)
		close(folder);
	return s;
}

/* from/NAME takes the place of to/NAME; when it has done so before, nothing is left to do. */
static enum ol_status take_over(const char *to, const char *from, const char *name,
				struct ol_error *err)
{
	char source[OL_PATH_MAX], target[OL_PATH_MAX];
	enum ol_status s = ol_path_join(source, err, from, name, "");
	if (s == OL_OK)
		s = ol_path_join(target, err, to, name, "");
	if (s == OL_OK && rename(source, target) != 0 && errno != ENOENT)
		s = fail_io(err, "rename", source);
	return s;
}

/* The old key stays beside the new one: what it signed must be explained for years. */
static enum ol_status keep_old(const char *folder, const char *name, uint32_t id,
			       struct ol_error *err)
{
	char path[OL_PATH_MAX], kept[OL_PATH_MAX], end[16];
	snprintf(end, sizeof end, ".%08" PRIx32, id);
	enum ol_status s = ol_path_join(path, err, folder, name, "");
	if (s == OL_OK)
		s = ol_path_join(kept, err, path, end, "");
	if (s == OL_OK && link(path, kept) != 0 && errno != EEXIST)
		s = fail_io(err, "keep", path);
	return s;
}

/* State before key: a state without its key is refused by the signer, and so is the other way. */
static enum ol_status adopt(const struct ol_home *home, const char *folder, const char *ready,
			    struct ol_error *err)
{
	enum ol_status s = take_over(folder, ready, "/node.state", err);
	if (s == OL_OK)
		s = take_over(folder, ready, "/node.key", err);
	if (s == OL_OK)
		s = sync_folder(folder, err);
	if (s == OL_OK && rmdir(ready) != 0)
		s = fail_io(err, "remove", ready);
	return s == OL_OK ? sync_folder(home->path, err) : s;
}

static enum ol_status post(struct ol_books *books, const struct ol_key_event *event,
			   struct ol_error *err)
{
	struct ol_event entry = {
		.bytes = (const uint8_t *)event, .size = sizeof *event, .kind = OL_EVENT_KEY};
	uint64_t index = 0;
	struct ol_batch batch = {.events = &entry, .event_count = 1, .event_indexes = &index};
	enum ol_status s = ol_bookkeeper_post(books->keeper, &batch, OL_DURABLE, err);
	if (s == OL_OK)
		s = ol_publisher_wait(books->publisher, index, PUBLISH_MS, err);
	return s;
}

/* The event, and the checkpoint that both keys sign. */
static enum ol_status announce(const struct ol_home *home, struct ol_signer *old,
			       struct ol_signer *next, struct ol_error *err)
{
	const struct ol_books_options options = {.signer = old, .second_signer = next};
	const struct ol_note_key *old_key = ol_signer_key(old), *new_key = ol_signer_key(next);
	struct ol_books books;
	struct ol_key_event event;
	struct ol_log_checkpoint checkpoint;
	struct ol_note note;
	struct ol_buf bytes;
	enum ol_status s = ol_books_open(&books, home, &options, err);
	if (s != OL_OK)
		return s;
	ol_buf_init(&bytes, OL_NOTE_BYTES_MAX);
	ol_key_event_begin(&event, old_key->name, old_key->public_key, new_key->public_key,
			   ol_bookkeeper_now_ms(books.keeper));
	s = ol_signer_event(old, event.old_signature, &event, OL_KEY_EVENT_SIGNED, err);
	if (s == OL_OK)
		s = ol_signer_event(next, event.new_signature, &event, OL_KEY_EVENT_SIGNED, err);
	if (s == OL_OK)
		s = post(&books, &event, err);
	if (s == OL_OK)
		s = ol_publisher_checkpoint(books.publisher, &checkpoint, &bytes, err);
	if (s == OL_OK)
		s = ol_note_parse(&note, bytes.data, bytes.size, err);
	if (s == OL_OK && (ol_note_check(&note, old_key, NULL) != OL_NOTE_SIGNED ||
			   ol_note_check(&note, new_key, NULL) != OL_NOTE_SIGNED))
		s = ol_fail(err, OL_ERR_INPUT,
			    "the published checkpoint bears not both keys' "
			    "signatures");
	ol_buf_release(&bytes);
	ol_books_close(&books);
	return s;
}

enum ol_status ol_key_rotate(struct ol_note_key *new_key, const struct ol_home *home,
			     ol_signer_starter *start, struct ol_error *err)
{
	struct ol_ledger_home paths;
	struct ol_signer *old = NULL, *next = NULL;
	char folder[OL_PATH_MAX], ready[OL_PATH_MAX];
	uint32_t old_id = 0;
	enum ol_status s = ol_ledger_home(&paths, home, err);
	if (s == OL_OK)
		s = ol_path_join(folder, err, home->path, "/signer.next", "");
	if (s == OL_OK)
		s = ol_path_join(ready, err, home->path, "/signer.ready", "");
	if (s == OL_OK && !ol_signer_exists(paths.signer))
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "this node has no key yet; `openledger serve` "
			    "makes it");
	if (s == OL_OK && access(ready, F_OK) != 0) {
		s = start(&old, paths.signer, NULL, err);
		if (s == OL_OK && !ol_signer_exists(folder))
			s = ol_signer_create(folder, ol_signer_key(old)->name, &ol_random_system,
					     err);
		if (s == OL_OK)
			s = start(&next, folder, NULL, err);
		if (s == OL_OK) {
			old_id = ol_signer_key(old)->id;
			s = announce(home, old, next, err);
		}
		ol_signer_stop(old);
		ol_signer_stop(next);
		if (s == OL_OK)
			s = keep_old(paths.signer, "/node.key", old_id, err);
		if (s == OL_OK)
			s = keep_old(paths.signer, "/node.state", old_id, err);
		if (s == OL_OK && rename(folder, ready) != 0)
			s = fail_io(err, "rename", folder);
		if (s == OL_OK)
			s = sync_folder(home->path, err);
	}
	if (s == OL_OK)
		s = adopt(home, paths.signer, ready, err);
	/* Started once more: it must accept its files, and says who it is. */
	if (s == OL_OK)
		s = start(&next, paths.signer, NULL, err);
	if (s == OL_OK) {
		*new_key = *ol_signer_key(next);
		ol_signer_stop(next);
		s = ol_ledger_home_keep_key(&paths, new_key, err);
	}
	return s;
}
