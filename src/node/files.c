#include "node/files.h"

#include "base/file.h"
#include "base/random.h"
#include "train/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static const char fine_tune[] = "fine-tune";

struct ol_files {
	struct ol_store *store;
	struct ol_files_options options;
	char incoming[OL_PATH_MAX], objects[OL_PATH_MAX];
	pthread_mutex_t lock; /* a content is entered or removed */
	int owner;            /* holds the lock of the home; -1: not the owner */
};

struct ol_upload {
	struct ol_files *files;
	struct ol_writer *writer;
	struct ol_sha256 hash;
	char account[OL_ACCOUNT_MAX + 1];
	char path[OL_PATH_MAX];
	uint64_t bytes;
};

void ol_object_id_make(char *id_out, const char *prefix, int count)
{
	static const char digits[] =
		"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const size_t length = strlen(prefix);
	memcpy(id_out, prefix, length);
	for (int i = 0; i < count; i++) /* 2^64 mod 62 favours nobody by more than 2^-58 */
		id_out[length + (size_t)i] = digits[ol_random_u64(&ol_random_system) % 62];
	id_out[length + (size_t)count] = '\0';
}

json_t *ol_list_json(json_t *data, bool has_more)
{
	const size_t count = json_array_size(data);
	json_t *first = json_object_get(json_array_get(data, 0), "id"),
	       *last = count ? json_object_get(json_array_get(data, count - 1), "id") : NULL;
	return json_pack("{s:s, s:o, s:O?, s:O?, s:b}", "object", "list", "data", data, "first_id",
			 first, "last_id", last, "has_more", has_more);
}

/* ---- Opening, sweeping ---- */

/* Calls drop for every name in a folder that is not hidden. */
static enum ol_status each_name(const char *folder, struct ol_files *files,
				void (*visit)(struct ol_files *files, const char *name),
				struct ol_error *err)
{
	DIR *dir = opendir(folder);
	if (!dir)
		return ol_fail(err, OL_ERR_IO, "cannot list %s: %s", folder, strerror(errno));
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		if (entry->d_name[0] != '.')
			visit(files, entry->d_name);
	closedir(dir);
	return OL_OK;
}

static void drop_incoming(struct ol_files *files, const char *name)
{
	char path[OL_PATH_MAX];
	if (ol_path_join(path, NULL, files->incoming, "/", name) == OL_OK)
		unlink(path);
}

static bool is_referred_to(struct ol_files *files, const char *hex, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, files->store, "SELECT 1 FROM files WHERE sha256 = ? LIMIT 1");
	ol_query_bind_text(&q, hex);
	const bool found = ol_query_row(&q);
	/* In doubt it stays. */
	return ol_query_close(&q, err) != OL_OK || found;
}

static void drop_object(struct ol_files *files, const char *name)
{
	char path[OL_PATH_MAX];
	if (!is_referred_to(files, name, NULL) &&
	    ol_path_join(path, NULL, files->objects, "/", name) == OL_OK)
		unlink(path);
}

/* Ends with the process, however that ends. */
static enum ol_status own_home(struct ol_files *files, const struct ol_home *home,
			       struct ol_error *err)
{
	char path[OL_PATH_MAX];
	const enum ol_status s = ol_path_join(path, err, home->path, "/files/lock", "");
	if (s != OL_OK)
		return s;
	files->owner = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (files->owner < 0)
		return ol_fail(err, OL_ERR_IO, "cannot open %s: %s", path, strerror(errno));
	if (flock(files->owner, LOCK_EX | LOCK_NB) != 0)
		return ol_fail(err, OL_ERR_IO,
			       "another server works on %s already: stop it, or give this one "
			       "another OPENLEDGER_HOME",
			       home->path);
	return OL_OK;
}

enum ol_status ol_files_open(struct ol_files **files_out, const struct ol_home *home,
			     struct ol_store *store, const struct ol_files_options *options,
			     bool owner, struct ol_error *err)
{
	struct ol_files *files = calloc(1, sizeof *files);
	if (!files)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the files");
	files->store = store;
	files->owner = -1;
	files->options = *options;
	if (files->options.file_bytes_max == 0)
		files->options.file_bytes_max = OL_FILE_BYTES_MAX;
	if (files->options.account_bytes_max == 0)
		files->options.account_bytes_max = (uint64_t)2 << 30;
	if (files->options.account_files_max == 0)
		files->options.account_files_max = 1000;
	pthread_mutex_init(&files->lock, NULL);
	enum ol_status s = ol_path_join(files->incoming, err, home->path, "/files/incoming", "");
	if (s == OL_OK)
		s = ol_path_join(files->objects, err, home->path, "/files/objects", "");
	if (s == OL_OK)
		s = ol_make_directories(files->incoming, err);
	if (s == OL_OK)
		s = ol_make_directories(files->objects, err);
	if (s == OL_OK && owner)
		s = own_home(files, home, err);
	if (s == OL_OK && owner)
		s = each_name(files->incoming, files, drop_incoming, err);
	if (s == OL_OK && owner)
		s = each_name(files->objects, files, drop_object, err);
	if (s != OL_OK) {
		ol_files_close(files);
		return s;
	}
	*files_out = files;
	return OL_OK;
}

void ol_files_close(struct ol_files *files)
{
	if (!files)
		return;
	if (files->owner >= 0)
		close(files->owner);
	pthread_mutex_destroy(&files->lock);
	free(files);
}

uint64_t ol_files_bytes_max(const struct ol_files *files)
{
	return files->options.file_bytes_max;
}

/* ---- Uploads ---- */

enum ol_status ol_upload_open(struct ol_upload **upload_out, struct ol_files *files,
			      const char *account, struct ol_error *err)
{
	char name[32];
	struct ol_upload *upload = calloc(1, sizeof *upload);
	if (!upload || !ol_sha256_init(&upload->hash)) {
		free(upload);
		return ol_fail(err, OL_ERR_FULL, "out of memory for an upload");
	}
	upload->files = files;
	snprintf(upload->account, sizeof upload->account, "%s", account);
	ol_object_id_make(name, "/", 24);
	enum ol_status s = ol_path_join(upload->path, err, files->incoming, name, "");
	if (s == OL_OK)
		s = ol_writer_open(&upload->writer, upload->path, err);
	if (s != OL_OK) {
		ol_sha256_release(&upload->hash);
		free(upload);
		return s;
	}
	*upload_out = upload;
	return OL_OK;
}

enum ol_status ol_upload_append(struct ol_upload *upload, const void *bytes, size_t size,
				struct ol_error *err)
{
	if (size > upload->files->options.file_bytes_max - upload->bytes)
		return ol_fail(err, OL_ERR_FULL, "a file may have at most %llu bytes here",
			       (unsigned long long)upload->files->options.file_bytes_max);
	upload->bytes += size;
	ol_sha256_update(&upload->hash, bytes, size);
	return ol_writer_append(upload->writer, bytes, size, err);
}

void ol_upload_abort(struct ol_upload *upload)
{
	if (!upload)
		return;
	if (upload->writer)
		ol_writer_abort(upload->writer);
	ol_sha256_release(&upload->hash);
	free(upload);
}

static enum ol_status check_name(const char *name, struct ol_error *err)
{
	const size_t length = strlen(name);
	bool good = length > 0 && length <= OL_FILE_NAME_MAX && name[0] != '.';
	for (size_t i = 0; good && i < length; i++)
		good = (unsigned char)name[i] >= 0x20 && name[i] != 0x7f && name[i] != '/';
	return good ? OL_OK
		    : ol_fail(err, OL_ERR_INPUT,
			      "the file's name must have 1 to %d bytes, begin without '.', and "
			      "hold no '/' and no control characters",
			      OL_FILE_NAME_MAX);
}

enum ol_status ol_purpose_check(const char *purpose, struct ol_error *err)
{
	if (strcmp(purpose, fine_tune) == 0)
		return OL_OK;
	if (strcmp(purpose, "batch") == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the purpose \"batch\" is not supported: this server has no batch "
			       "API; send the requests one by one, they are batched anyway");
	return ol_fail(err, OL_ERR_INPUT,
		       "the purpose must be \"fine-tune\"; \"%.40s\" is not supported", purpose);
}

/* Training data are read as the trainer will read them; and what nobody can be sure of now would be
 * a failed job later. */
static enum ol_status check_content(const char *path, struct ol_file *file, struct ol_error *err)
{
	struct ol_map map;
	struct ol_records *records = NULL;
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	s = map.size == 0 ? ol_fail(err, OL_ERR_INPUT, "%s is empty", file->name)
			  : ol_records_open_bytes(&records, file->name, (const char *)map.data,
						  map.size, OL_DATA_AUTO, err);
	if (s == OL_OK) {
		file->records = (int64_t)ol_records_count(records);
		ol_records_close(records);
		if (file->records == 0)
			s = ol_fail(err, OL_ERR_INPUT, "%s holds no example", file->name);
	}
	ol_map_close(&map);
	return s;
}

static enum ol_status check_room(struct ol_files *files, const struct ol_file *file,
				 struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, files->store,
		      "SELECT count(*), coalesce(sum(bytes), 0) FROM files WHERE account = ?");
	ol_query_bind_text(&q, file->account);
	const bool found = ol_query_row(&q);
	const int64_t count = found ? ol_query_int(&q, 0) : 0;
	const uint64_t bytes = found ? (uint64_t)ol_query_int(&q, 1) : 0;
	const enum ol_status s = ol_query_close(&q, err);
	if (s != OL_OK)
		return s;
	if (count >= files->options.account_files_max ||
	    bytes + file->bytes > files->options.account_bytes_max)
		return ol_fail(err, OL_ERR_INPUT,
			       "this account may keep at most %d files of %llu bytes together: "
			       "delete some first",
			       files->options.account_files_max,
			       (unsigned long long)files->options.account_bytes_max);
	return OL_OK;
}

static enum ol_status insert_file(struct ol_files *files, const struct ol_file *file,
				  const char *hex, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, files->store,
		      "INSERT INTO files (id, account, name, purpose, bytes, sha256, made_at,"
		      " records) VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
	ol_query_bind_text(&q, file->id);
	ol_query_bind_text(&q, file->account);
	ol_query_bind_text(&q, file->name);
	ol_query_bind_text(&q, file->purpose);
	ol_query_bind_int(&q, (int64_t)file->bytes);
	ol_query_bind_text(&q, hex);
	ol_query_bind_int(&q, file->made_at);
	ol_query_bind_int(&q, file->records);
	return ol_query_run(&q, err);
}

static enum ol_status sync_folder(const char *folder, struct ol_error *err)
{
	const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const bool good = fd >= 0 && fsync(fd) == 0;
	const int why = errno;
	if (fd >= 0)
		close(fd);
	return good ? OL_OK
		    : ol_fail(err, OL_ERR_IO, "cannot make %s durable: %s", folder, strerror(why));
}

/* The content under its hash, then the file in the list. */
static enum ol_status enter(struct ol_files *files, const struct ol_file *file, const char *from,
			    struct ol_error *err)
{
	char path[OL_PATH_MAX], hex[2 * OL_SHA256_BYTES + 1];
	ol_hex(hex, file->sha256, OL_SHA256_BYTES);
	enum ol_status s = ol_path_join(path, err, files->objects, "/", hex);
	if (s != OL_OK)
		return s;
	pthread_mutex_lock(&files->lock);
	s = check_room(files, file, err);
	if (s == OL_OK && rename(from, path) != 0)
		s = ol_fail(err, OL_ERR_IO, "cannot rename %s into %s: %s", from, path,
			    strerror(errno));
	if (s == OL_OK)
		s = sync_folder(files->objects, err);
	if (s == OL_OK)
		s = insert_file(files, file, hex, err);
	pthread_mutex_unlock(&files->lock);
	return s;
}

enum ol_status ol_upload_finish(struct ol_upload *upload, struct ol_file *file_out,
				const char *name, const char *purpose, struct ol_error *err)
{
	struct ol_files *files = upload->files;
	struct ol_file file = {.bytes = upload->bytes, .made_at = (int64_t)time(NULL)};
	char path[OL_PATH_MAX];
	ol_sha256_final(&upload->hash, file.sha256);
	memcpy(path, upload->path, sizeof path);
	snprintf(file.account, sizeof file.account, "%s", upload->account);
	ol_object_id_make(file.id, "file-", OL_FILE_ID_CHARS - 5);
	enum ol_status s = check_name(name, err);
	if (s == OL_OK)
		s = ol_purpose_check(purpose, err);
	if (s == OL_OK) {
		snprintf(file.name, sizeof file.name, "%s", name);
		snprintf(file.purpose, sizeof file.purpose, "%s", purpose);
		s = check_room(files, &file, err);
	}
	if (s != OL_OK) {
		ol_writer_abort(upload->writer);
		free(upload);
		return s;
	}
	s = ol_writer_commit(upload->writer, err);
	free(upload);
	if (s != OL_OK)
		return s;
	s = check_content(path, &file, err);
	if (s == OL_OK)
		s = enter(files, &file, path, err);
	if (s != OL_OK) {
		unlink(path);
		return s;
	}
	*file_out = file;
	return OL_OK;
}

/* ---- Files ---- */

static const char columns[] =
	"SELECT id, account, name, purpose, bytes, sha256, made_at, records, n FROM files";

static void read_file(struct ol_query *q, struct ol_file *file)
{
	const char *hex = ol_query_text(q, 5);
	*file = (struct ol_file){.bytes = (uint64_t)ol_query_int(q, 4),
				 .made_at = ol_query_int(q, 6),
				 .records = ol_query_int(q, 7)};
	snprintf(file->id, sizeof file->id, "%s", ol_query_text(q, 0));
	snprintf(file->account, sizeof file->account, "%s", ol_query_text(q, 1));
	snprintf(file->name, sizeof file->name, "%s", ol_query_text(q, 2));
	snprintf(file->purpose, sizeof file->purpose, "%s", ol_query_text(q, 3));
	for (int i = 0; i < OL_SHA256_BYTES && strlen(hex) == 2 * OL_SHA256_BYTES; i++) {
		const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
		file->sha256[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
}

/* The row's number, by which lists are ordered, too. */
static enum ol_status find(struct ol_files *files, struct ol_file *file_out, int64_t *n_out,
			   const char *account, const char *id, struct ol_error *err)
{
	char sql[256];
	struct ol_query q;
	snprintf(sql, sizeof sql, "%s WHERE id = ? AND account = ?", columns);
	ol_query_open(&q, files->store, sql);
	ol_query_bind_text(&q, id);
	ol_query_bind_text(&q, account);
	const bool found = ol_query_row(&q);
	if (found) {
		read_file(&q, file_out);
		*n_out = ol_query_int(&q, 8);
	}
	const enum ol_status s = ol_query_close(&q, err);
	return s == OL_OK && !found
		       ? ol_fail(err, OL_ERR_NOT_FOUND, "No such File object: %.64s", id)
		       : s;
}

enum ol_status ol_files_find(struct ol_files *files, struct ol_file *file_out, const char *account,
			     const char *id, struct ol_error *err)
{
	int64_t n;
	return find(files, file_out, &n, account, id, err);
}

enum ol_status ol_files_content(const struct ol_files *files, char path[OL_PATH_MAX],
				const struct ol_file *file, struct ol_error *err)
{
	char hex[2 * OL_SHA256_BYTES + 1];
	ol_hex(hex, file->sha256, OL_SHA256_BYTES);
	return ol_path_join(path, err, files->objects, "/", hex);
}

enum ol_status ol_files_link(struct ol_files *files, const struct ol_file *file, const char *path,
			     struct ol_error *err)
{
	char content[OL_PATH_MAX];
	const enum ol_status s = ol_files_content(files, content, file, err);
	if (s != OL_OK)
		return s;
	if (link(content, path) != 0 && errno != EEXIST)
		return ol_fail(err, errno == ENOENT ? OL_ERR_NOT_FOUND : OL_ERR_IO,
			       "cannot link %s to %s: %s", content, path, strerror(errno));
	return OL_OK;
}

enum ol_status ol_files_delete(struct ol_files *files, const char *account, const char *id,
			       struct ol_error *err)
{
	struct ol_file file;
	struct ol_query q;
	char hex[2 * OL_SHA256_BYTES + 1];
	pthread_mutex_lock(&files->lock);
	enum ol_status s = ol_files_find(files, &file, account, id, err);
	if (s == OL_OK) {
		ol_query_open(&q, files->store, "DELETE FROM files WHERE id = ?");
		ol_query_bind_text(&q, id);
		s = ol_query_run(&q, err);
	}
	if (s == OL_OK) {
		ol_hex(hex, file.sha256, OL_SHA256_BYTES);
		drop_object(files, hex);
	}
	pthread_mutex_unlock(&files->lock);
	return s;
}

json_t *ol_file_json(const struct ol_file *file)
{
	char hex[2 * OL_SHA256_BYTES + 1];
	ol_hex(hex, file->sha256, OL_SHA256_BYTES);
	return json_pack("{s:s, s:s, s:I, s:I, s:n, s:s, s:s, s:s, s:n, s:{s:s, s:I}}", "object",
			 "file", "id", file->id, "bytes", (json_int_t)file->bytes, "created_at",
			 (json_int_t)file->made_at, "expires_at", "filename", file->name, "purpose",
			 file->purpose, "status", "processed", "status_details", "openledger",
			 "sha256", hex, "records", (json_int_t)file->records);
}

enum ol_status ol_files_list(struct ol_files *files, json_t **list_out, const char *account,
			     const struct ol_list_query *query, struct ol_error *err)
{
	char sql[512];
	struct ol_query q;
	struct ol_file file;
	int64_t after = query->oldest_first ? 0 : INT64_MAX;
	enum ol_status s = OL_OK;
	if (query->after) {
		s = find(files, &file, &after, account, query->after, NULL);
		if (s != OL_OK)
			return ol_fail(err, s == OL_ERR_NOT_FOUND ? OL_ERR_INPUT : s,
				       "after: there is no file %.64s", query->after);
	}
	snprintf(sql, sizeof sql,
		 "%s WHERE account = ?1 AND n %s ?2 AND (?3 IS NULL OR purpose = ?3)"
		 " ORDER BY n %s LIMIT ?4",
		 columns, query->oldest_first ? ">" : "<", query->oldest_first ? "ASC" : "DESC");
	json_t *data = json_array();
	bool more = false;
	ol_query_open(&q, files->store, sql);
	ol_query_bind_text(&q, account);
	ol_query_bind_int(&q, after);
	ol_query_bind_text(&q, query->purpose);
	ol_query_bind_int(&q, query->limit + 1);
	while (!more && ol_query_row(&q)) {
		more = json_array_size(data) == (size_t)query->limit;
		read_file(&q, &file);
		if (!more)
			json_array_append_new(data, ol_file_json(&file));
	}
	s = ol_query_close(&q, err);
	*list_out = s == OL_OK ? ol_list_json(data, more) : NULL;
	if (s != OL_OK)
		json_decref(data);
	return s == OL_OK && !*list_out ? ol_fail(err, OL_ERR_FULL, "out of memory for the list")
					: s;
}
