#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITER_BUFFER = 1 << 20 };

struct ol_writer {
	int fd;
	uint64_t offset; /* of the next append */
	size_t pending;  /* bytes in buffer, not yet written */
	char path[PATH_MAX];
	char temporary[PATH_MAX];
	uint8_t buffer[WRITER_BUFFER];
};

static enum ol_status fail_errno(struct ol_error *err, const char *verb, const char *path)
{
	const int code = errno;
	enum ol_status status = OL_ERR_IO;
	if (code == ENOENT)
		status = OL_ERR_NOT_FOUND;
	else if (code == ENOSPC || code == EDQUOT || code == EFBIG || code == ENOMEM)
		status = OL_ERR_FULL;
	return ol_fail(err, status, "cannot %s %s: %s%s", verb, path, strerror(code),
		       code == ENOSPC
			       ? " (free some space and run it again; nothing was left behind)"
			       : "");
}

enum ol_status ol_map_open(struct ol_map *map, const char *path, struct ol_error *err)
{
	struct stat st;
	*map = (struct ol_map){0};
	/* A named pipe would block the open until somebody writes; it is refused below. */
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail_errno(err, "open", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return ol_fail(err, OL_ERR_INPUT, "%s is not a regular file", path);
	}
	if (st.st_size > 0) {
		void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (data == MAP_FAILED) {
			close(fd);
			return fail_errno(err, "map", path);
		}
		*map = (struct ol_map){data, (size_t)st.st_size};
	}
	close(fd);
	return OL_OK;
}

void ol_map_close(struct ol_map *map)
{
	if (map->data)
		munmap((void *)(uintptr_t)map->data, map->size);
	*map = (struct ol_map){0};
}

void ol_map_forget(const uint8_t *bytes, size_t size)
{
#ifdef MADV_DONTNEED
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), address = (uintptr_t)bytes;
	const uintptr_t begin = address / page * page, end = (address + size) / page * page;
	if (begin < end)
		madvise((void *)begin, end - begin, MADV_DONTNEED); /* a hint */
#endif
}

enum ol_status ol_writer_open(struct ol_writer **writer_out, const char *path, struct ol_error *err)
{
	struct ol_writer *writer = malloc(sizeof *writer);
	if (!writer)
		return ol_fail(err, OL_ERR_FULL, "out of memory while writing %s", path);
	const int a = snprintf(writer->path, sizeof writer->path, "%s", path);
	const int b = snprintf(writer->temporary, sizeof writer->temporary, "%s.tmp-%ld", path,
			       (long)getpid());
	if (a < 0 || b < 0 || (size_t)b >= sizeof writer->temporary) {
		free(writer);
		return ol_fail(err, OL_ERR_INPUT, "the path %s is too long", path);
	}
	writer->fd = open(writer->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (writer->fd < 0) {
		free(writer);
		return fail_errno(err, "create", path);
	}
	writer->offset = 0;
	writer->pending = 0;
	*writer_out = writer;
	return OL_OK;
}

static enum ol_status write_all(struct ol_writer *writer, const uint8_t *bytes, size_t size,
				uint64_t offset, struct ol_error *err)
{
	while (size > 0) {
		const ssize_t n = pwrite(writer->fd, bytes, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_errno(err, "write", writer->path);
		bytes += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return OL_OK;
}

static enum ol_status flush_pending(struct ol_writer *writer, struct ol_error *err)
{
	const size_t size = writer->pending;
	writer->pending = 0;
	return write_all(writer, writer->buffer, size, writer->offset - size, err);
}

enum ol_status ol_writer_append(struct ol_writer *writer, const void *bytes, size_t size,
				struct ol_error *err)
{
	if (writer->pending + size > sizeof writer->buffer) {
		const enum ol_status s = flush_pending(writer, err);
		if (s != OL_OK)
			return s;
	}
	writer->offset += size;
	if (size > sizeof writer->buffer)
		return write_all(writer, bytes, size, writer->offset - size, err);
	if (size > 0)
		memcpy(writer->buffer + writer->pending, bytes, size);
	writer->pending += size;
	return OL_OK;
}

uint64_t ol_writer_offset(const struct ol_writer *writer)
{
	return writer->offset;
}

enum ol_status ol_writer_patch(struct ol_writer *writer, uint64_t offset, const void *bytes,
			       size_t size, struct ol_error *err)
{
	OL_ASSERT(offset <= writer->offset && size <= writer->offset - offset);
	const enum ol_status s = flush_pending(writer, err);
	return s == OL_OK ? write_all(writer, bytes, size, offset, err) : s;
}

static enum ol_status sync_folder_of(const char *path, struct ol_error *err)
{
	char folder[PATH_MAX];
	snprintf(folder, sizeof folder, "%s", path);
	char *slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder ? 1 : 0] = '\0';
	const int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(err, "open the folder of", path);
	const int result = fsync(fd);
	close(fd);
	return result == 0 ? OL_OK : fail_errno(err, "sync the folder of", path);
}

enum ol_status ol_writer_commit(struct ol_writer *writer, struct ol_error *err)
{
	enum ol_status s = flush_pending(writer, err);
	if (s == OL_OK && fsync(writer->fd) != 0)
		s = fail_errno(err, "sync", writer->path);
	if (s == OL_OK && rename(writer->temporary, writer->path) != 0)
		s = fail_errno(err, "rename into", writer->path);
	if (s == OL_OK)
		s = sync_folder_of(writer->path, err);
	if (s != OL_OK) {
		ol_writer_abort(writer);
		return s;
	}
	close(writer->fd);
	free(writer);
	return OL_OK;
}

void ol_writer_abort(struct ol_writer *writer)
{
	if (!writer)
		return;
	close(writer->fd);
	unlink(writer->temporary);
	free(writer);
}

enum ol_status ol_make_directories(const char *path, struct ol_error *err)
{
	char partial[PATH_MAX];
	const size_t length = strlen(path);
	if (length == 0 || length >= sizeof partial)
		return ol_fail(err, OL_ERR_INPUT, "the path \"%s\" is empty or too long", path);
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(partial, path, i);
		partial[i] = '\0';
		if (mkdir(partial, 0755) != 0 && errno != EEXIST)
			return fail_errno(err, "make the folder", partial);
	}
	struct stat st;
	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return ol_fail(err, OL_ERR_IO, "%s exists and is not a folder", path);
	return OL_OK;
}
