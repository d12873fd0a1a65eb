/* node/store.h, floor 4: the node's operational records: API keys, files, jobs, kept answers.
 *
 *     HOME/node.sqlite3      keys, their usage, files, jobs and their events
 *     HOME/answers.sqlite3   answers kept for Idempotency-Key: large, short-lived
 *
 * None of it is money or log: those are the ledger's. Several processes open node.sqlite3 (a
 * server, `openledger keys`), each through ONE connection; the journal is a rollback journal and
 * every commit is synced. WAL is not used: the SQLite this is built with can lose its database when
 * two connections write at the moment the WAL begins anew. Files are made readable for their owner
 * alone.
 *
 * A store is used by many threads, one at a time: an open query or transaction holds its lock, so
 * both are short, and nothing is called from inside that waits. */
#ifndef OL_NODE_STORE_H
#define OL_NODE_STORE_H

#include "base/buf.h"
#include "node/home.h"

enum ol_store_kind { OL_STORE_NODE, OL_STORE_ANSWERS };
enum {
	OL_STORE_BUSY_MS = 10000, /* patience with another process that writes   */
	OL_STORE_PARAMETERS_MAX = 32
};

struct ol_store;

/* Makes or migrates the database. OL_ERR_UNSUPPORTED: a newer program has written it. */
OL_MUST_CHECK enum ol_status ol_store_open(struct ol_store **store_out, const struct ol_home *home,
					   enum ol_store_kind kind, struct ol_error *err);
void ol_store_close(struct ol_store *store);

/* True when another process has committed since the last call (or since open). */
bool ol_store_changed(struct ol_store *store);

/* ---- Transactions: between begin and end the thread owns the store ---- */

OL_MUST_CHECK enum ol_status ol_store_begin(struct ol_store *store, struct ol_error *err);
/* Commits what succeeded: with status OL_OK durable when this returns OL_OK, else rolled back and
 * status given back. */
enum ol_status ol_store_end(struct ol_store *store, enum ol_status status, struct ol_error *err);

/* ---- Queries ---- */

/* One statement: open, bind parameters in order, step through rows, close. The first failure is
 * remembered and told by close, so that only close needs checking. Texts that come back are
 * borrowed until the next row. */
struct ol_query {
	struct ol_store *store;
	void *statement;
	const char *sql;
	int bound, code;
};
void ol_query_open(struct ol_query *query, struct ol_store *store, const char *sql);
void ol_query_bind_text(struct ol_query *query, const char *text); /* NULL: null; copied */
void ol_query_bind_int(struct ol_query *query, int64_t value);
void ol_query_bind_real(struct ol_query *query, double value);                   /* NaN: null */
void ol_query_bind_blob(struct ol_query *query, const void *bytes, size_t size); /* copied */
/* True: there is a row. Statements that give none are run by the first call. */
bool ol_query_row(struct ol_query *query);
const char *ol_query_text(struct ol_query *query, int column); /* "" for null */
bool ol_query_is_null(struct ol_query *query, int column);
int64_t ol_query_int(struct ol_query *query, int column);
double ol_query_real(struct ol_query *query, int column); /* NaN for null */
const void *ol_query_blob(struct ol_query *query, int column, size_t *size_out);
/* OL_OK even when no row was found. */
enum ol_status ol_query_close(struct ol_query *query, struct ol_error *err);
/* Runs a statement that gives no rows, and closes it. */
OL_MUST_CHECK enum ol_status ol_query_run(struct ol_query *query, struct ol_error *err);
/* Rows that the last statement has changed; call it inside the transaction. */
int64_t ol_store_changes(struct ol_store *store);
int64_t ol_store_last_row(struct ol_store *store);

#endif
