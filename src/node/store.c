#include "node/store.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/store_schema.h"

struct ol_store {
	sqlite3 *db;
	pthread_mutex_t lock; /* recursive: a transaction's queries take it again */
	int64_t data_version;
	char path[OL_PATH_MAX];
};

static enum ol_status fail_sql(const struct ol_store *store, int code, const char *what,
			       struct ol_error *err)
{
	enum ol_status s = OL_ERR_IO;
	if (code == SQLITE_FULL || code == SQLITE_NOMEM || code == SQLITE_TOOBIG)
		s = OL_ERR_FULL;
	if ((code & 0xff) == SQLITE_CONSTRAINT)
		s = OL_ERR_INPUT;
	if ((code & 0xff) == SQLITE_BUSY)
		return ol_fail(
			err, OL_ERR_IO,
			"%s stays locked by another process (%s): try again, or end that one",
			store->path, what);
	return ol_fail(err, s, "%s: %s (%s)", store->path, sqlite3_errmsg(store->db), what);
}

/* ---- Queries ---- */

void ol_query_open(struct ol_query *query, struct ol_store *store, const char *sql)
{
	sqlite3_stmt *statement = NULL;
	*query = (struct ol_query){.store = store, .sql = sql};
	pthread_mutex_lock(&store->lock);
	query->code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
	query->statement = statement;
}

static void bound(struct ol_query *query, int code)
{
	if (query->code == SQLITE_OK)
		query->code = code;
}

void ol_query_bind_text(struct ol_query *query, const char *text)
{
	const int at = ++query->bound;
	bound(query, text ? sqlite3_bind_text(query->statement, at, text, -1, SQLITE_TRANSIENT)
			  : sqlite3_bind_null(query->statement, at));
}

void ol_query_bind_int(struct ol_query *query, int64_t value)
{
	bound(query, sqlite3_bind_int64(query->statement, ++query->bound, value));
}

void ol_query_bind_real(struct ol_query *query, double value)
{
	const int at = ++query->bound; /* SQLite itself turns NaN into null */
	bound(query, sqlite3_bind_double(query->statement, at, value));
}

void ol_query_bind_blob(struct ol_query *query, const void *bytes, size_t size)
{
	bound(query, sqlite3_bind_blob64(query->statement, ++query->bound, size ? bytes : "", size,
					 SQLITE_TRANSIENT));
}

bool ol_query_row(struct ol_query *query)
{
	if (query->code != SQLITE_OK && query->code != SQLITE_ROW)
		return false;
	query->code = sqlite3_step(query->statement);
	return query->code == SQLITE_ROW;
}

const char *ol_query_text(struct ol_query *query, int column)
{
	const char *text = (const char *)sqlite3_column_text(query->statement, column);
	return text ? text : "";
}

bool ol_query_is_null(struct ol_query *query, int column)
{
	return sqlite3_column_type(query->statement, column) == SQLITE_NULL;
}

int64_t ol_query_int(struct ol_query *query, int column)
{
	return sqlite3_column_int64(query->statement, column);
}

double ol_query_real(struct ol_query *query, int column)
{
	return ol_query_is_null(query, column) ? (double)NAN
					       : sqlite3_column_double(query->statement, column);
}

const void *ol_query_blob(struct ol_query *query, int column, size_t *size_out)
{
	const void *bytes = sqlite3_column_blob(query->statement, column);
	*size_out = (size_t)sqlite3_column_bytes(query->statement, column);
	return bytes ? bytes : "";
}

enum ol_status ol_query_close(struct ol_query *query, struct ol_error *err)
{
	struct ol_store *store = query->store;
	enum ol_status s = OL_OK;
	if (query->code != SQLITE_OK && query->code != SQLITE_ROW && query->code != SQLITE_DONE)
		s = fail_sql(store, query->code, query->sql, err);
	sqlite3_finalize(query->statement);
	query->statement = NULL;
	pthread_mutex_unlock(&store->lock);
	return s;
}

enum ol_status ol_query_run(struct ol_query *query, struct ol_error *err)
{
	(void)ol_query_row(query);
	return ol_query_close(query, err);
}

int64_t ol_store_changes(struct ol_store *store)
{
	return sqlite3_changes64(store->db);
}

int64_t ol_store_last_row(struct ol_store *store)
{
	return sqlite3_last_insert_rowid(store->db);
}

/* ---- Transactions ---- */

static enum ol_status run_text(struct ol_store *store, const char *sql, struct ol_error *err)
{
	const int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? OL_OK : fail_sql(store, code, sql, err);
}

enum ol_status ol_store_begin(struct ol_store *store, struct ol_error *err)
{
	pthread_mutex_lock(&store->lock);
	const enum ol_status s = run_text(store, "BEGIN IMMEDIATE", err);
	if (s != OL_OK)
		pthread_mutex_unlock(&store->lock);
	return s;
}

enum ol_status ol_store_end(struct ol_store *store, enum ol_status status, struct ol_error *err)
{
	if (status == OL_OK)
		status = run_text(store, "COMMIT", err);
	/* A failed commit may have rolled back already; then there is nothing left to undo. */
	if (status != OL_OK && !sqlite3_get_autocommit(store->db))
		(void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
	pthread_mutex_unlock(&store->lock);
	return status;
}

/* ---- Opening ---- */

static int64_t ask_number(struct ol_store *store, const char *pragma)
{
	struct ol_query q;
	ol_query_open(&q, store, pragma);
	const int64_t value = ol_query_row(&q) ? ol_query_int(&q, 0) : -1;
	return ol_query_close(&q, NULL) == OL_OK ? value : -1;
}

bool ol_store_changed(struct ol_store *store)
{
	pthread_mutex_lock(&store->lock);
	const int64_t now = ask_number(store, "PRAGMA data_version");
	/* What cannot be asked (locked for a moment) counts as unchanged until it can. */
	const bool changed = now >= 0 && now != store->data_version;
	if (changed)
		store->data_version = now;
	pthread_mutex_unlock(&store->lock);
	return changed;
}

static enum ol_status migrate(struct ol_store *store, const struct ol_store_schema *schema,
			      struct ol_error *err)
{
	enum ol_status s = ol_store_begin(store, err);
	if (s != OL_OK)
		return s;
	const int64_t version = ask_number(store, "PRAGMA user_version");
	if (version < 0)
		s = ol_fail(err, OL_ERR_IO, "%s: cannot read its version", store->path);
	else if (version > schema->count)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "%s is of version %lld; this program knows versions up to %d: use the "
			    "newer program that wrote it",
			    store->path, (long long)version, schema->count);
	for (int64_t i = version; s == OL_OK && i < schema->count; i++) {
		char mark[64];
		snprintf(mark, sizeof mark, "PRAGMA user_version = %lld", (long long)i + 1);
		s = run_text(store, schema->steps[i], err);
		if (s == OL_OK)
			s = run_text(store, mark, err);
	}
	return ol_store_end(store, s, err);
}

static enum ol_status open_database(struct ol_store *store, struct ol_error *err)
{
	const int fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return ol_fail(err, OL_ERR_IO, "cannot open %s: %s", store->path, strerror(errno));
	close(fd);
	if (sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX,
			    NULL) != SQLITE_OK)
		return fail_sql(store, sqlite3_errcode(store->db), "open", err);
	sqlite3_extended_result_codes(store->db, 1);
	sqlite3_busy_timeout(store->db, OL_STORE_BUSY_MS);
	/* A database from strangers must not run functions of its own. */
	sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	return run_text(store,
			"PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"
			"PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;",
			err);
}

enum ol_status ol_store_open(struct ol_store **store_out, const struct ol_home *home,
			     enum ol_store_kind kind, struct ol_error *err)
{
	const struct ol_store_schema schema = ol_store_schema(kind);
	struct ol_store *store = calloc(1, sizeof *store);
	pthread_mutexattr_t recursive;
	if (!store)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %s", schema.file);
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&store->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	enum ol_status s = ol_path_join(store->path, err, home->path, "/", schema.file);
	if (s == OL_OK)
		s = open_database(store, err);
	if (s == OL_OK)
		s = migrate(store, &schema, err);
	if (s != OL_OK) {
		ol_store_close(store);
		return s;
	}
	store->data_version = ask_number(store, "PRAGMA data_version");
	*store_out = store;
	return OL_OK;
}

void ol_store_close(struct ol_store *store)
{
	if (!store)
		return;
	OL_ASSERT(sqlite3_close(store->db) == SQLITE_OK); /* else a query was left open */
	pthread_mutex_destroy(&store->lock);
	free(store);
}
