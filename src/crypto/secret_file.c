#define _GNU_SOURCE
#include "crypto/secret_file.h"
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum ol_status fail_io(struct ol_error *err, const char *what, const char *path)
{
	return ol_fail(err, errno == ENOENT ? OL_ERR_NOT_FOUND : OL_ERR_IO, "cannot %s %s: %s",
		       what, path, strerror(errno));
}

static bool write_all(int file, const void *bytes, size_t size)
{
	for (const char *at = bytes; size > 0;) {
		const ssize_t done = write(file, at, size);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return false;
		at += done;
		size -= (size_t)done;
	}
	return true;
}

static enum ol_status sync_parent(const char *path, struct ol_error *err)
{
	char *folder = strdup(path);
	enum ol_status s = OL_OK;
	if (!folder)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	char *slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	const int file = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0 || fsync(file) != 0)
		s = fail_io(err, "sync the folder of", path);
	if (file >= 0)
		close(file);
	free(folder);
	return s;
}

enum ol_status ol_secret_file_create(const char *path, const void *bytes, size_t size,
				     struct ol_error *err)
{
	const size_t room = strlen(path) + 32;
	char *temporary = malloc(room);
	enum ol_status s = OL_OK;
	if (!temporary)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	snprintf(temporary, room, "%s.new-%ld", path, (long)getpid());
	unlink(temporary); /* of a process that died */
	const int file =
		open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0)
		s = fail_io(err, "make", path);
	if (s == OL_OK && (!write_all(file, bytes, size) || fsync(file) != 0))
		s = fail_io(err, "write", path);
	if (file >= 0 && close(file) != 0 && s == OL_OK)
		s = fail_io(err, "write", path);
	/* link, unlike rename, never replaces what is there. */
	if (s == OL_OK && link(temporary, path) != 0)
		s = errno == EEXIST ? ol_fail(err, OL_ERR_INPUT, "%s exists already", path)
				    : fail_io(err, "make", path);
	if (file >= 0)
		unlink(temporary);
	if (s == OL_OK)
		s = sync_parent(path, err);
	free(temporary);
	return s;
}

enum ol_status ol_secret_file_read(const char *path, void *bytes_out, size_t room, size_t *size_out,
				   struct ol_error *err)
{
	struct stat stat;
	enum ol_status s = OL_OK;
	size_t size = 0;
	*size_out = 0;
	const int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return fail_io(err, "open", path);
	if (fstat(file, &stat) != 0)
		s = fail_io(err, "examine", path);
	else if (!S_ISREG(stat.st_mode) || (stat.st_mode & 077) != 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "%s holds a secret but others may read it; `chmod 600` it", path);
	else if (stat.st_size < 0 || (uint64_t)stat.st_size > room)
		s = ol_fail(err, OL_ERR_INPUT, "%s is larger than %zu bytes, the limit", path,
			    room);
	while (s == OL_OK && size < room) {
		const ssize_t got = read(file, (char *)bytes_out + size, room - size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			s = fail_io(err, "read", path);
		if (got <= 0)
			break;
		size += (size_t)got;
	}
	close(file);
	if (s != OL_OK)
		ol_wipe(bytes_out, size);
	else
		*size_out = size;
	return s;
}

enum ol_status ol_secret_folder_make(const char *path, struct ol_error *err)
{
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return fail_io(err, "make the folder", path);
	return OL_OK;
}
