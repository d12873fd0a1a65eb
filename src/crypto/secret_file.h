/* crypto/secret_file.h, floor 1: files that only their owner may read. */
#ifndef OL_CRYPTO_SECRET_FILE_H
#define OL_CRYPTO_SECRET_FILE_H

#include "base/base.h"

/* Makes a file of mode 0600, whole and durable or not at all. It must not exist yet (INPUT). */
OL_MUST_CHECK enum ol_status ol_secret_file_create(const char *path, const void *bytes, size_t size,
						   struct ol_error *err);

/* Reads at most room bytes. Refuses a file that others may read or write, and one larger than room.
 * The caller wipes the bytes. */
OL_MUST_CHECK enum ol_status ol_secret_file_read(const char *path, void *bytes_out, size_t room,
						 size_t *size_out, struct ol_error *err);

/* A folder that only its owner may enter; made when missing. */
OL_MUST_CHECK enum ol_status ol_secret_folder_make(const char *path, struct ol_error *err);

#endif
