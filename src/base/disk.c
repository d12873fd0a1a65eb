#define _GNU_SOURCE
#include "base/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct folder {
	int fd;
	char path[PATH_MAX];
};

static enum ol_status fail_errno(struct ol_error *err, const struct folder *folder,
				 const char *verb, const char *name)
{
	const int code = errno;
	enum ol_status status = OL_ERR_IO;
	if (code == ENOENT)
		status = OL_ERR_NOT_FOUND;
	else if (code == ENOSPC || code == EDQUOT || code == EFBIG || code == ENOMEM)
		status = OL_ERR_FULL;
	return ol_fail(err, status, "cannot %s %s%s%s: %s", verb, folder->path, *name ? "/" : "",
		       name, strerror(code));
}

static enum ol_status fail_handle(struct ol_error *err, const struct folder *folder,
				  const char *verb, int file)
{
	char link[64], name[PATH_MAX];
	const int code = errno;
	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	const ssize_t n = readlink(link, name, sizeof name - 1);
	name[n > 0 ? n : 0] = '\0';
	const char *slash = strrchr(name, '/');
	errno = code;
	return fail_errno(err, folder, verb, slash ? slash + 1 : name);
}

static bool is_plain(const char *name)
{
	const size_t length = strlen(name);
	return length > 0 && length < OL_DISK_NAME_MAX && !strchr(name, '/') && name[0] != '.';
}

static enum ol_status real_open(void *self, int *file_out, const char *name, enum ol_disk_open how,
				struct ol_error *err)
{
	const struct folder *folder = self;
	int flags = O_CLOEXEC | O_NOFOLLOW;
	OL_ASSERT(is_plain(name));
	switch (how) {
	case OL_DISK_READ: flags |= O_RDONLY; break;
	case OL_DISK_WRITE: flags |= O_RDWR; break;
	case OL_DISK_CREATE: flags |= O_RDWR | O_CREAT | O_EXCL; break;
	}
	const int fd = openat(folder->fd, name, flags, 0600);
	if (fd < 0)
		return fail_errno(err, folder, how == OL_DISK_CREATE ? "create" : "open", name);
	*file_out = fd;
	return OL_OK;
}

static void real_close(void *self, int file)
{
	(void)self;
	close(file);
}

static enum ol_status real_read(void *self, int file, size_t *got_out, void *bytes, size_t size,
				uint64_t offset, struct ol_error *err)
{
	size_t got = 0;
	while (got < size) {
		const ssize_t n =
			pread(file, (uint8_t *)bytes + got, size - got, (off_t)(offset + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_handle(err, self, "read", file);
		if (n == 0)
			break;
		got += (size_t)n;
	}
	*got_out = got;
	return OL_OK;
}

static enum ol_status real_write(void *self, int file, const void *bytes, size_t size,
				 uint64_t offset, struct ol_error *err)
{
	const uint8_t *at = bytes;
	while (size > 0) {
		const ssize_t n = pwrite(file, at, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_handle(err, self, "write", file);
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return OL_OK;
}

static enum ol_status real_sync(void *self, int file, struct ol_error *err)
{
	return fdatasync(file) == 0 ? OL_OK : fail_handle(err, self, "sync", file);
}

static enum ol_status real_settle(void *self, int file, struct ol_error *err)
{
	if (fdatasync(file) != 0)
		return fail_handle(err, self, "sync", file);
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	return OL_OK;
}

static enum ol_status real_size(void *self, int file, uint64_t *size_out, struct ol_error *err)
{
	const off_t end = lseek(file, 0, SEEK_END);
	if (end < 0)
		return fail_handle(err, self, "ask the size of", file);
	*size_out = (uint64_t)end;
	return OL_OK;
}

static enum ol_status real_allocate(void *self, int file, uint64_t size, struct ol_error *err)
{
	const int code = posix_fallocate(file, 0, (off_t)size);
	if (code == 0)
		return OL_OK;
	errno = code;
	return fail_handle(err, self, "reserve room for", file);
}

static enum ol_status real_truncate(void *self, int file, uint64_t size, struct ol_error *err)
{
	return ftruncate(file, (off_t)size) == 0 ? OL_OK : fail_handle(err, self, "truncate", file);
}

static enum ol_status real_rename(void *self, const char *from, const char *to,
				  struct ol_error *err)
{
	const struct folder *folder = self;
	OL_ASSERT(is_plain(from) && is_plain(to));
	if (renameat(folder->fd, from, folder->fd, to) != 0)
		return fail_errno(err, folder, "rename into", to);
	return OL_OK;
}

static enum ol_status real_remove(void *self, const char *name, struct ol_error *err)
{
	const struct folder *folder = self;
	OL_ASSERT(is_plain(name));
	if (unlinkat(folder->fd, name, 0) != 0)
		return fail_errno(err, folder, "remove", name);
	return OL_OK;
}

static enum ol_status real_list(void *self, void (*visit)(void *context, const char *name),
				void *context, struct ol_error *err)
{
	const struct folder *folder = self;
	const int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		const enum ol_status s = fail_errno(err, folder, "list", "");
		if (fd >= 0)
			close(fd);
		return s;
	}
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(dir);
		if (!entry)
			break;
		if (is_plain(entry->d_name))
			visit(context, entry->d_name);
	}
	const enum ol_status s = errno == 0 ? OL_OK : fail_errno(err, folder, "list", "");
	closedir(dir);
	return s;
}

static enum ol_status real_sync_dir(void *self, struct ol_error *err)
{
	const struct folder *folder = self;
	return fsync(folder->fd) == 0 ? OL_OK : fail_errno(err, folder, "sync", "");
}

static enum ol_status real_lock(void *self, int *file_out, const char *name, struct ol_error *err)
{
	const struct folder *folder = self;
	OL_ASSERT(is_plain(name));
	const int fd = openat(folder->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail_errno(err, folder, "open", name);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		return ol_fail(err, OL_ERR_IO,
			       "%s is in use by another process (it holds %s): stop that first",
			       folder->path, name);
	}
	*file_out = fd;
	return OL_OK;
}

enum ol_status ol_disk_open(struct ol_disk *disk, const char *path, struct ol_error *err)
{
	struct folder *folder = malloc(sizeof *folder);
	if (!folder)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening %s", path);
	snprintf(folder->path, sizeof folder->path, "%s", path);
	folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder->fd < 0) {
		const enum ol_status s = fail_errno(err, folder, "open the folder", "");
		free(folder);
		return s;
	}
	*disk = (struct ol_disk){.self = folder,
				 .open = real_open,
				 .close = real_close,
				 .read = real_read,
				 .write = real_write,
				 .sync = real_sync,
				 .settle = real_settle,
				 .size = real_size,
				 .allocate = real_allocate,
				 .truncate = real_truncate,
				 .rename = real_rename,
				 .remove = real_remove,
				 .list = real_list,
				 .sync_dir = real_sync_dir,
				 .lock = real_lock};
	return OL_OK;
}

void ol_disk_close(struct ol_disk *disk)
{
	struct folder *folder = disk->self;
	if (folder) {
		close(folder->fd);
		free(folder);
	}
	*disk = (struct ol_disk){0};
}
