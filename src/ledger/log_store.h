/* ledger/log_store.h, floor 2: the public files of a log as a table of functions: on disk, over
 * HTTP, or in a test that lies. Names are those of ledger/tile.h.
 *
 * What a name holds never changes, except `checkpoint`. A writer promises no more than a careful
 * reader of POSIX believes: a name holds all of the bytes or is not there, and it stays so over a
 * power cut only after a sync that came later. */
#ifndef OL_LEDGER_LOG_STORE_H
#define OL_LEDGER_LOG_STORE_H

#include "base/buf.h"

#define OL_CHECKPOINT_NAME "checkpoint"

/* Reading: appends the file's bytes to out (the buf's max is the limit on its size). NOT_FOUND when
 * there is none, IO when the answer may change by asking again. */
struct ol_log_source {
	enum ol_status (*fetch)(void *self, struct ol_buf *out, const char *name,
				struct ol_error *err);
	void *self;
};

struct ol_log_store {
	struct ol_log_source source;
	/* Makes or replaces a file, whole; durable after sync. */
	enum ol_status (*put)(void *self, const char *name, const void *bytes, size_t size,
			      struct ol_error *err);
	/* Everything that was put is durable. A failure is final: reopen, never retry. */
	enum ol_status (*sync)(void *self, struct ol_error *err);
	/* Takes away the partial widths of a full tile (NAME.p/…); missing ones are fine. */
	enum ol_status (*drop_partials)(void *self, const char *name, struct ol_error *err);
	void *self;
};

/* A folder of this machine; made when missing. Files are 0644, folders 0755: they are public. */
struct ol_log_folder;
OL_MUST_CHECK enum ol_status ol_log_folder_open(struct ol_log_folder **folder_out, const char *path,
						struct ol_error *err);
/* Closing without a sync leaves to the system when the last puts become durable. */
void ol_log_folder_close(struct ol_log_folder *folder);
struct ol_log_store ol_log_folder_store(struct ol_log_folder *folder);

#endif
