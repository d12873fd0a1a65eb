/* base/disk.h, floor 0: one folder of a disk as a table of functions, so that a test can lie.
 *
 * Names are plain (no '/'). What a function promises is what a careful reader of POSIX believes and
 * no more: written bytes and sizes are durable after sync, names after sync_dir, and after a failed
 * sync nothing is known about what was written since the last good one. */
#ifndef OL_BASE_DISK_H
#define OL_BASE_DISK_H

#include "base/base.h"

enum { OL_DISK_NAME_MAX = 64 }; /* with its NUL */

enum ol_disk_open {
	OL_DISK_READ,  /* must exist                         */
	OL_DISK_WRITE, /* must exist; read and write         */
	OL_DISK_CREATE /* must not exist; read and write     */
};

struct ol_disk {
	void *self;
	/* *file_out is a handle >= 0, to be given back to close. */
	enum ol_status (*open)(void *self, int *file_out, const char *name, enum ol_disk_open how,
			       struct ol_error *err);
	void (*close)(void *self, int file);
	/* *got_out is less than size only at the end of the file. */
	enum ol_status (*read)(void *self, int file, size_t *got_out, void *bytes, size_t size,
			       uint64_t offset, struct ol_error *err);
	/* All or an error; after an error any part may have been written. Grows the file. */
	enum ol_status (*write)(void *self, int file, const void *bytes, size_t size,
				uint64_t offset, struct ol_error *err);
	/* Data and size are durable (fdatasync). A failure is final: never retry. */
	enum ol_status (*sync)(void *self, int file, struct ol_error *err);
	/* From now on the file reads as it is on the disk: makes durable what the system still
	 * holds, then drops its cache, which after a failed sync may show what the disk never
	 * got. */
	enum ol_status (*settle)(void *self, int file, struct ol_error *err);
	enum ol_status (*size)(void *self, int file, uint64_t *size_out, struct ol_error *err);
	/* Grows the file to size with zeros and takes the room for them now. */
	enum ol_status (*allocate)(void *self, int file, uint64_t size, struct ol_error *err);
	enum ol_status (*truncate)(void *self, int file, uint64_t size, struct ol_error *err);
	/* Replaces what `to` names. */
	enum ol_status (*rename)(void *self, const char *from, const char *to,
				 struct ol_error *err);
	enum ol_status (*remove)(void *self, const char *name, struct ol_error *err);
	/* Calls visit for every name, in no order. */
	enum ol_status (*list)(void *self, void (*visit)(void *context, const char *name),
			       void *context, struct ol_error *err);
	enum ol_status (*sync_dir)(void *self, struct ol_error *err);
	/* A lock against other processes, held until *file_out is closed: on the file `name`, made
	 * when missing. OL_ERR_IO: somebody else has it. */
	enum ol_status (*lock)(void *self, int *file_out, const char *name, struct ol_error *err);
};

/* The real thing. The folder must exist. */
OL_MUST_CHECK enum ol_status ol_disk_open(struct ol_disk *disk, const char *folder,
					  struct ol_error *err);
void ol_disk_close(struct ol_disk *disk);

#endif
