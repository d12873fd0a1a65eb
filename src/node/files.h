/* node/files.h, floor 4: files that clients upload: /v1/files.
 *
 *     HOME/files/incoming/ID      an upload under way; swept when a server starts
 *     HOME/files/objects/SHA256   contents, each once, whoever uploaded it
 *     node.sqlite3                who has which file under what name
 *
 * A file is listed only when its content is durable, and a content lies there as long as a file
 * refers to it: a crash leaves at most a content too many, which the next start removes. What is
 * uploaded for fine-tuning is read as training data before it is accepted; the error names file,
 * line and field.
 *
 * One account never sees another's files. All functions but upload's own may be called from any
 * thread; those that touch the disk say so by their ol_error. */
#ifndef OL_NODE_FILES_H
#define OL_NODE_FILES_H

#include "crypto/sha256.h"
#include "node/keys.h"

#include <jansson.h>

enum {
	OL_FILE_ID_CHARS = 29,  /* "file-", 24             */
	OL_FILE_NAME_MAX = 255, /* bytes of UTF-8          */
	OL_FILE_PURPOSE_MAX = 31,
	OL_LIST_MAX = 10000 /* of one page, as OpenAI has it */
};
/* Of one upload, unless chosen: training data are read whole into memory before use. */
#define OL_FILE_BYTES_MAX (UINT64_C(128) << 20)

struct ol_files;
struct ol_upload;

struct ol_files_options {
	uint64_t file_bytes_max, account_bytes_max; /* 0: OL_FILE_BYTES_MAX, 2 GiB */
	int account_files_max;                      /* 0: 1,000                    */
};

struct ol_file {
	char id[OL_FILE_ID_CHARS + 1];
	char account[OL_ACCOUNT_MAX + 1];
	char name[OL_FILE_NAME_MAX + 1];
	char purpose[OL_FILE_PURPOSE_MAX + 1];
	uint64_t bytes;
	uint8_t sha256[OL_SHA256_BYTES];
	int64_t made_at;
	int64_t records; /* examples in it */
};

/* Borrows the store. owner: the one process that takes uploads and runs jobs, the server: removes
 * what a crash left over. OL_ERR_IO: there is another owner already. */
OL_MUST_CHECK enum ol_status ol_files_open(struct ol_files **files_out, const struct ol_home *home,
					   struct ol_store *store,
					   const struct ol_files_options *options, bool owner,
					   struct ol_error *err);
void ol_files_close(struct ol_files *files);
uint64_t ol_files_bytes_max(const struct ol_files *files);

/* ---- Uploads: one thread at a time each ---- */

OL_MUST_CHECK enum ol_status ol_upload_open(struct ol_upload **upload_out, struct ol_files *files,
					    const char *account, struct ol_error *err);
/* OL_ERR_FULL: more than a file may have. */
OL_MUST_CHECK enum ol_status ol_upload_append(struct ol_upload *upload, const void *bytes,
					      size_t size, struct ol_error *err);
/* Makes it durable, reads it, lists it; ends the upload whatever happens. Takes as long as the file
 * is big. OL_ERR_INPUT: a bad name, purpose or content, or the account has no room. */
OL_MUST_CHECK enum ol_status ol_upload_finish(struct ol_upload *upload, struct ol_file *file_out,
					      const char *name, const char *purpose,
					      struct ol_error *err);
void ol_upload_abort(struct ol_upload *upload); /* NULL is allowed */
/* Is it a purpose that files may have here? */
OL_MUST_CHECK enum ol_status ol_purpose_check(const char *purpose, struct ol_error *err);

/* ---- Files ---- */

/* OL_ERR_NOT_FOUND, also for another account's. */
OL_MUST_CHECK enum ol_status ol_files_find(struct ol_files *files, struct ol_file *file_out,
					   const char *account, const char *id,
					   struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_files_delete(struct ol_files *files, const char *account,
					     const char *id, struct ol_error *err);

struct ol_list_query {
	const char *after;   /* an id: those behind it; NULL: from the first */
	const char *purpose; /* NULL: any                                    */
	int limit;           /* 1 … OL_LIST_MAX                              */
	bool oldest_first;
};
/* {"object":"list","data":[…],"first_id","last_id","has_more"}, as OpenAI has it. */
OL_MUST_CHECK enum ol_status ol_files_list(struct ol_files *files, json_t **list_out,
					   const char *account, const struct ol_list_query *query,
					   struct ol_error *err);
/* The file object of the API; NULL: out of memory. */
json_t *ol_file_json(const struct ol_file *file);

/* Where its content lies. It stays there only as long as the file: open it, or link it. */
OL_MUST_CHECK enum ol_status ol_files_content(const struct ol_files *files, char path[OL_PATH_MAX],
					      const struct ol_file *file, struct ol_error *err);
/* Gives the content a second name, which outlives the file. */
OL_MUST_CHECK enum ol_status ol_files_link(struct ol_files *files, const struct ol_file *file,
					   const char *path, struct ol_error *err);

/* "file-" and the like, with count random letters and digits behind it. */
void ol_object_id_make(char *id_out, const char *prefix, int count);
/* A list of the API from its rows; takes the reference. */
json_t *ol_list_json(json_t *data, bool has_more);

#endif
