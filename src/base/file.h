/* base/file.h, floor 0: files, read whole by mapping and written all or nothing.
 *
 * Errors name the path and the system's reason. */
#ifndef OL_BASE_FILE_H
#define OL_BASE_FILE_H

#include "base/base.h"

/* A read-only view of a whole file. data is NULL for an empty file. */
struct ol_map {
	const uint8_t *data;
	size_t size;
};

OL_MUST_CHECK enum ol_status ol_map_open(struct ol_map *map, const char *path,
					 struct ol_error *err);
void ol_map_close(struct ol_map *map);
/* Bytes of a map that were read and will hardly be read again: the process gives up their memory.
 * Reading them again reads the file. */
void ol_map_forget(const uint8_t *bytes, size_t size);

/* A file that appears under its name only when ol_writer_commit has made it durable (temporary
 * name in the same folder, fsync, rename, fsync of the folder). Abort, or a crash, leaves nothing
 * under the name. A failed fsync is final: the writer must be aborted, never retried. */
struct ol_writer;

OL_MUST_CHECK enum ol_status ol_writer_open(struct ol_writer **writer_out, const char *path,
					    struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_writer_append(struct ol_writer *writer, const void *bytes,
					      size_t size, struct ol_error *err);
/* Bytes written so far: the offset of the next append. */
uint64_t ol_writer_offset(const struct ol_writer *writer);
/* Overwrites earlier bytes (headers whose numbers are known last). */
OL_MUST_CHECK enum ol_status ol_writer_patch(struct ol_writer *writer, uint64_t offset,
					     const void *bytes, size_t size, struct ol_error *err);
/* Both end the writer's life. */
OL_MUST_CHECK enum ol_status ol_writer_commit(struct ol_writer *writer, struct ol_error *err);
void ol_writer_abort(struct ol_writer *writer);

/* Makes a directory and its parents. */
OL_MUST_CHECK enum ol_status ol_make_directories(const char *path, struct ol_error *err);

#endif
