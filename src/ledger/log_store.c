#define _GNU_SOURCE
#include "ledger/log_store.h"
#include "ledger/tile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files, and folders with new names in them, that wait for a sync. When the list is full, a put
 * syncs by itself: a rebuild of millions of entries then costs one wait per so many files, not one
 * per file. */
enum {
	PENDING_MAX = 512,
	PENDING_PER_PUT = 2 + OL_TILE_PATH_MAX / 4,
	READ_PIECE = 64 * 1024,
	NAME_ROOM = OL_TILE_PATH_MAX + 8 /* a name with ".new" or ".p" behind it */
};

struct ol_log_folder {
	int root;
	uint32_t pending_count;
	bool broken; /* a sync failed: what is on the disk is not known any more */
	char pending[PENDING_MAX][NAME_ROOM];
	char path[]; /* for sentences */
};

static enum ol_status fail_io(const struct ol_log_folder *folder, struct ol_error *err,
			      const char *what, const char *name)
{
	const enum ol_status s = errno == ENOENT ? OL_ERR_NOT_FOUND
				 : errno == ENOSPC || errno == EDQUOT || errno == ENOMEM
					 ? OL_ERR_FULL
					 : OL_ERR_IO;
	return ol_fail(err, s, "cannot %s %s/%s: %s", what, folder->path, name, strerror(errno));
}

/* Nothing but the names of this format is ever touched. */
static bool name_valid(const char *name)
{
	struct ol_tile tile;
	return strcmp(name, OL_CHECKPOINT_NAME) == 0 || ol_tile_path_parse(&tile, name);
}

static enum ol_status folder_fetch(void *self, struct ol_buf *out, const char *name,
				   struct ol_error *err)
{
	struct ol_log_folder *folder = self;
	char piece[READ_PIECE];
	OL_ASSERT(name_valid(name));
	const int file = openat(folder->root, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (file < 0)
		return fail_io(folder, err, "open", name);
	for (;;) {
		const ssize_t got = read(file, piece, sizeof piece);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			const enum ol_status s = fail_io(folder, err, "read", name);
			close(file);
			return s;
		}
		if (got == 0)
			break;
		if (!ol_buf_append(out, piece, (size_t)got)) {
			close(file);
			return ol_fail(err, OL_ERR_FULL,
				       "%s/%s is larger than %zu bytes, the limit", folder->path,
				       name, out->max);
		}
	}
	close(file);
	return OL_OK;
}

static void remember(struct ol_log_folder *folder, const char *path)
{
	OL_ASSERT(folder->pending_count < PENDING_MAX);
	snprintf(folder->pending[folder->pending_count++], NAME_ROOM, "%s", path);
}

/* The folder above, "." for the root. */
static void parent_of(char parent[NAME_ROOM], const char *path)
{
	snprintf(parent, NAME_ROOM, "%s", path);
	char *slash = strrchr(parent, '/');
	if (slash)
		*slash = '\0';
	else
		snprintf(parent, NAME_ROOM, ".");
}

/* A folder that is new must be durable in the one above it. */
static enum ol_status make_parents(struct ol_log_folder *folder, const char *name,
				   struct ol_error *err)
{
	char path[NAME_ROOM], above[NAME_ROOM];
	snprintf(path, sizeof path, "%s", name);
	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdirat(folder->root, path, 0755) == 0) {
			parent_of(above, path);
			remember(folder, above);
		} else if (errno != EEXIST) {
			return fail_io(folder, err, "make the folder", path);
		}
		*slash = '/';
	}
	return OL_OK;
}

static enum ol_status write_all(struct ol_log_folder *folder, int file, const char *name,
				const void *bytes, size_t size, struct ol_error *err)
{
	for (const char *at = bytes; size > 0;) {
		const ssize_t done = write(file, at, size);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return fail_io(folder, err, "write", name);
		at += done;
		size -= (size_t)done;
	}
	return OL_OK;
}

static enum ol_status folder_sync(void *self, struct ol_error *err);

/* Written under another name and renamed: a reader sees all of a file or none. */
static enum ol_status folder_put(void *self, const char *name, const void *bytes, size_t size,
				 struct ol_error *err)
{
	struct ol_log_folder *folder = self;
	char temporary[NAME_ROOM];
	enum ol_status s = OL_OK;
	OL_ASSERT(name_valid(name));
	if (folder->broken)
		return ol_fail(err, OL_ERR_IO, "%s: an earlier sync failed; open the log again",
			       folder->path);
	if (folder->pending_count + PENDING_PER_PUT > PENDING_MAX)
		s = folder_sync(folder, err);
	if (s == OL_OK)
		s = make_parents(folder, name, err);
	if (s != OL_OK)
		return s;
	snprintf(temporary, sizeof temporary, "%s.new", name);
	const int file = openat(folder->root, temporary,
				O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (file < 0)
		return fail_io(folder, err, "make", temporary);
	s = write_all(folder, file, temporary, bytes, size, err);
	/* The checkpoint replaces an older one: its bytes must be there before its name is. */
	const bool is_checkpoint = strcmp(name, OL_CHECKPOINT_NAME) == 0;
	if (s == OL_OK && is_checkpoint && fsync(file) != 0) {
		folder->broken = true;
		s = fail_io(folder, err, "sync", temporary);
	}
	if (close(file) != 0 && s == OL_OK)
		s = fail_io(folder, err, "close", temporary);
	if (s == OL_OK && renameat(folder->root, temporary, folder->root, name) != 0)
		s = fail_io(folder, err, "rename", temporary);
	if (s != OL_OK)
		return s;
	if (!is_checkpoint)
		remember(folder, name);
	parent_of(temporary, name);
	remember(folder, temporary);
	return OL_OK;
}

static enum ol_status sync_path(struct ol_log_folder *folder, const char *path,
				struct ol_error *err)
{
	const int file = openat(folder->root, path, O_RDONLY | O_CLOEXEC);
	enum ol_status s = OL_OK;
	if (file < 0)
		return fail_io(folder, err, "open", path);
	if (fsync(file) != 0)
		s = fail_io(folder, err, "sync", path);
	close(file);
	return s;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static enum ol_status folder_sync(void *self, struct ol_error *err)
{
	struct ol_log_folder *folder = self;
	if (folder->broken)
		return ol_fail(err, OL_ERR_IO, "%s: an earlier sync failed; open the log again",
			       folder->path);
	qsort(folder->pending, folder->pending_count, sizeof folder->pending[0], by_name);
	for (uint32_t i = 0; i < folder->pending_count; i++) {
		if (i > 0 && strcmp(folder->pending[i - 1], folder->pending[i]) == 0)
			continue;
		const enum ol_status s = sync_path(folder, folder->pending[i], err);
		if (s != OL_OK) {
			folder->broken = true;
			return s;
		}
	}
	folder->pending_count = 0;
	return OL_OK;
}

static enum ol_status folder_drop_partials(void *self, const char *name, struct ol_error *err)
{
	struct ol_log_folder *folder = self;
	char path[NAME_ROOM];
	enum ol_status s = OL_OK;
	OL_ASSERT(name_valid(name));
	snprintf(path, sizeof path, "%s.p", name);
	const int at = openat(folder->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = at >= 0 ? fdopendir(at) : NULL;
	if (!dir) {
		const bool missing = at < 0 && errno == ENOENT;
		if (at >= 0)
			close(at);
		return missing ? OL_OK : fail_io(folder, err, "open", path);
	}
	for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
		if (entry->d_name[0] != '.' && unlinkat(at, entry->d_name, 0) != 0 && s == OL_OK)
			s = fail_io(folder, err, "remove from", path);
	closedir(dir);
	if (s == OL_OK && unlinkat(folder->root, path, AT_REMOVEDIR) != 0)
		s = fail_io(folder, err, "remove", path);
	return s;
}

enum ol_status ol_log_folder_open(struct ol_log_folder **folder_out, const char *path,
				  struct ol_error *err)
{
	struct ol_log_folder *folder = calloc(1, sizeof *folder + strlen(path) + 1);
	if (!folder)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	memcpy(folder->path, path, strlen(path) + 1);
	if (mkdir(path, 0755) != 0 && errno != EEXIST) {
		const enum ol_status s = fail_io(folder, err, "make the folder", "");
		free(folder);
		return s;
	}
	folder->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder->root < 0) {
		const enum ol_status s = fail_io(folder, err, "open the folder", "");
		free(folder);
		return s;
	}
	*folder_out = folder;
	return OL_OK;
}

void ol_log_folder_close(struct ol_log_folder *folder)
{
	if (!folder)
		return;
	close(folder->root);
	free(folder);
}

struct ol_log_store ol_log_folder_store(struct ol_log_folder *folder)
{
	return (struct ol_log_store){.source = {.fetch = folder_fetch, .self = folder},
				     .put = folder_put,
				     .sync = folder_sync,
				     .drop_partials = folder_drop_partials,
				     .self = folder};
}
