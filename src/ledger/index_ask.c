#include "ledger/index_inside.h"

#include "crypto/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One question: a statement with its parameters, holding the connection until it is closed. The
 * first failure is remembered and told by close. */
struct question {
	struct ol_ledger_index *index;
	sqlite3_stmt *statement;
	const char *sql;
	int code, bound;
	enum ol_status odd; /* a row that is not as this program writes them */
};

static void open_inside(struct question *q, struct ol_ledger_index *index, const char *sql)
{
	*q = (struct question){.index = index, .sql = sql};
	q->code = sqlite3_prepare_v2(index->db, sql, -1, &q->statement, NULL);
}

static void bind_u64(struct question *q, uint64_t value)
{
	const int code = sqlite3_bind_int64(q->statement, ++q->bound,
					    (int64_t)OL_MIN(value, (uint64_t)INT64_MAX));
	if (q->code == SQLITE_OK)
		q->code = code;
}

static void bind_blob(struct question *q, const void *bytes, size_t size)
{
	const int code =
		sqlite3_bind_blob(q->statement, ++q->bound, bytes, (int)size, SQLITE_TRANSIENT);
	if (q->code == SQLITE_OK)
		q->code = code;
}

static bool row(struct question *q)
{
	if ((q->code != SQLITE_OK && q->code != SQLITE_ROW) || q->odd != OL_OK)
		return false;
	q->code = sqlite3_step(q->statement);
	return q->code == SQLITE_ROW;
}

static uint64_t u64(struct question *q, int column)
{
	return (uint64_t)sqlite3_column_int64(q->statement, column);
}

/* A blob of exactly so many bytes; null is zeros where that is allowed. */
static void blob(struct question *q, int column, void *out, int size, bool may_be_null)
{
	const void *bytes = sqlite3_column_blob(q->statement, column);
	if (bytes && sqlite3_column_bytes(q->statement, column) == size) {
		memcpy(out, bytes, (size_t)size);
		return;
	}
	memset(out, 0, (size_t)size);
	if (bytes || !may_be_null)
		q->odd = OL_ERR_INPUT;
}

static enum ol_status close_inside(struct question *q, struct ol_error *err)
{
	enum ol_status s = OL_OK;
	if (q->odd != OL_OK)
		s = index_fail(q->index, SQLITE_CORRUPT, "a row of odd length", err);
	else if (q->code != SQLITE_OK && q->code != SQLITE_ROW && q->code != SQLITE_DONE)
		s = index_fail(q->index, q->code, q->sql, err);
	sqlite3_finalize(q->statement);
	return s;
}

static void ask(struct question *q, struct ol_ledger_index *index, const char *sql)
{
	index_enter(index);
	open_inside(q, index, sql);
}

static enum ol_status answered(struct question *q, struct ol_error *err)
{
	const enum ol_status s = close_inside(q, err);
	index_leave(q->index);
	return s;
}

/* ---- Events ------------------------------------------------------------ */

#define EVENT_COLUMNS                                                                              \
	"SELECT event_index, id, kind, sequence, time_ms, first_transfer, transfer_count, bytes "  \
	"FROM events "

static void read_event(struct question *q, struct ol_indexed_event *event)
{
	*event = (struct ol_indexed_event){.index = u64(q, 0),
					   .kind = (uint16_t)u64(q, 2),
					   .sequence = u64(q, 3),
					   .timestamp_ms = u64(q, 4),
					   .first_transfer = u64(q, 5),
					   .transfer_count = (uint32_t)u64(q, 6),
					   .bytes = sqlite3_column_blob(q->statement, 7),
					   .size = (uint32_t)sqlite3_column_bytes(q->statement, 7)};
	blob(q, 1, event->id, sizeof event->id, false);
	if (!event->bytes)
		event->bytes = (const uint8_t *)"";
}

static enum ol_status one_event(struct question *q, struct ol_indexed_event *event_out,
				struct ol_buf *bytes, struct ol_error *err)
{
	const bool found = row(q);
	bool kept = true;
	if (found) {
		read_event(q, event_out);
		const size_t at = bytes ? bytes->size : 0;
		kept = !bytes || ol_buf_append(bytes, event_out->bytes, event_out->size);
		event_out->bytes = bytes && kept ? (const uint8_t *)bytes->data + at : NULL;
	}
	const enum ol_status s = answered(q, err);
	if (s == OL_OK && !found)
		return ol_fail(err, OL_ERR_NOT_FOUND,
			       "the index has no such event: it does not exist, or is too young");
	if (s == OL_OK && !kept)
		return ol_fail(err, OL_ERR_FULL, "no room for an event of %u bytes",
			       event_out->size);
	return s;
}

enum ol_status ol_ledger_index_event(struct ol_ledger_index *index,
				     struct ol_indexed_event *event_out, struct ol_buf *bytes,
				     uint64_t event_index, struct ol_error *err)
{
	struct question q;
	ask(&q, index, EVENT_COLUMNS "WHERE event_index = ?");
	bind_u64(&q, event_index);
	return one_event(&q, event_out, bytes, err);
}

enum ol_status ol_ledger_index_event_by_id(struct ol_ledger_index *index,
					   struct ol_indexed_event *event_out, struct ol_buf *bytes,
					   const uint8_t id[OL_EVENT_ID_BYTES],
					   struct ol_error *err)
{
	struct question q;
	ask(&q, index, EVENT_COLUMNS "WHERE id = ? ORDER BY event_index LIMIT 1");
	bind_blob(&q, id, OL_EVENT_ID_BYTES);
	return one_event(&q, event_out, bytes, err);
}

static enum ol_status visit_events(struct question *q, ol_ledger_index_event_visit *visit,
				   void *context, struct ol_error *err)
{
	struct ol_indexed_event event;
	while (row(q)) {
		read_event(q, &event);
		if (q->odd != OL_OK || !visit(context, &event))
			break;
	}
	return answered(q, err);
}

enum ol_status ol_ledger_index_events(struct ol_ledger_index *index, uint16_t kind, uint64_t before,
				      uint32_t limit, ol_ledger_index_event_visit *visit,
				      void *context, struct ol_error *err)
{
	struct question q;
	if (kind == 0) {
		ask(&q, index,
		    EVENT_COLUMNS "WHERE event_index < ? ORDER BY event_index DESC LIMIT ?");
	} else {
		ask(&q, index,
		    EVENT_COLUMNS "WHERE kind = ? AND event_index < ? "
				  "ORDER BY event_index DESC LIMIT ?");
		bind_u64(&q, kind);
	}
	bind_u64(&q, before);
	bind_u64(&q, limit);
	return visit_events(&q, visit, context, err);
}

enum ol_status ol_ledger_index_events_from(struct ol_ledger_index *index, uint64_t from,
					   uint32_t limit, ol_ledger_index_event_visit *visit,
					   void *context, struct ol_error *err)
{
	struct question q;
	ask(&q, index, EVENT_COLUMNS "WHERE event_index >= ? ORDER BY event_index LIMIT ?");
	bind_u64(&q, from);
	bind_u64(&q, limit);
	return visit_events(&q, visit, context, err);
}

/* ---- Transfers ------------------------------------------------------------ */

#define TRANSFER_COLUMNS                                                                           \
	"SELECT t.number, t.id, d.key, c.key, t.amount, t.code, t.flags, t.timeout_s, "            \
	"t.pending_id, t.user_data, t.sequence, t.time_ms, t.event_index FROM transfers t "        \
	"JOIN accounts d ON d.number = t.debit JOIN accounts c ON c.number = t.credit "

static void read_transfer(struct question *q, struct ol_indexed_transfer *out)
{
	struct ol_transfer *t = &out->transfer;
	uint8_t id[16];
	*out = (struct ol_indexed_transfer){.number = u64(q, 0),
					    .sequence = u64(q, 10),
					    .timestamp_ms = u64(q, 11),
					    .event_index = OL_LEDGER_INDEX_NO_EVENT};
	if (sqlite3_column_type(q->statement, 12) != SQLITE_NULL)
		out->event_index = u64(q, 12);
	blob(q, 1, id, sizeof id, false);
	t->id = index_get_id(id);
	blob(q, 2, &t->debit, sizeof t->debit, false);
	blob(q, 3, &t->credit, sizeof t->credit, false);
	t->amount = ol_amount(u64(q, 4));
	t->code = (uint16_t)u64(q, 5);
	t->flags = (uint16_t)u64(q, 6);
	t->timeout_s = (uint32_t)u64(q, 7);
	blob(q, 8, id, sizeof id, true);
	t->pending_id = index_get_id(id);
	blob(q, 9, t->user_data, sizeof t->user_data, true);
}

static enum ol_status visit_transfers(struct question *q, ol_ledger_index_transfer_visit *visit,
				      void *context, struct ol_error *err)
{
	struct ol_indexed_transfer transfer;
	while (row(q)) {
		read_transfer(q, &transfer);
		if (q->odd != OL_OK || !visit(context, &transfer))
			break;
	}
	return answered(q, err);
}

enum ol_status ol_ledger_index_transfer(struct ol_ledger_index *index,
					struct ol_indexed_transfer *transfer_out, struct ol_id id,
					struct ol_error *err)
{
	struct question q;
	uint8_t bytes[16];
	index_put_id(bytes, id);
	ask(&q, index, TRANSFER_COLUMNS "WHERE t.id = ?");
	bind_blob(&q, bytes, sizeof bytes);
	const bool found = row(&q);
	if (found)
		read_transfer(&q, transfer_out);
	const enum ol_status s = answered(&q, err);
	return s != OL_OK || found ? s
				   : ol_fail(err, OL_ERR_NOT_FOUND,
					     "the index has no such transfer: it was not posted, "
					     "or is too young");
}

enum ol_status ol_ledger_index_statement(struct ol_ledger_index *index,
					 const struct ol_account_key *account, uint64_t before,
					 uint32_t limit, ol_ledger_index_transfer_visit *visit,
					 void *context, struct ol_error *err)
{
	/* Each side by its own index, merged: the largest account pages as fast as the smallest. */
	static const char sql[] =
		"WITH a(n) AS MATERIALIZED (SELECT number FROM accounts WHERE key = ?1), "
		"p(number) AS (SELECT number FROM transfers WHERE debit = (SELECT n FROM a) AND "
		"number < ?2 UNION ALL SELECT number FROM transfers WHERE credit = (SELECT n FROM "
		"a) AND number < ?2 ORDER BY 1 DESC LIMIT ?3) " TRANSFER_COLUMNS
		"JOIN p ON p.number = t.number ORDER BY t.number DESC";
	struct question q;
	ask(&q, index, sql);
	bind_blob(&q, account, sizeof *account);
	bind_u64(&q, before);
	bind_u64(&q, limit);
	return visit_transfers(&q, visit, context, err);
}

enum ol_status ol_ledger_index_event_transfers(struct ol_ledger_index *index, uint64_t event_index,
					       ol_ledger_index_transfer_visit *visit, void *context,
					       struct ol_error *err)
{
	struct question q;
	ask(&q, index, "SELECT first_transfer, transfer_count FROM events WHERE event_index = ?");
	bind_u64(&q, event_index);
	const bool found = row(&q);
	const uint64_t first = found ? u64(&q, 0) : 0, count = found ? u64(&q, 1) : 0;
	const enum ol_status s = close_inside(&q, err);
	if (s != OL_OK || !found) {
		index_leave(index);
		return s != OL_OK ? s
				  : ol_fail(err, OL_ERR_NOT_FOUND,
					    "the index has no event %llu: it does not exist, or "
					    "is too young",
					    (unsigned long long)event_index);
	}
	open_inside(&q, index,
		    TRANSFER_COLUMNS "WHERE t.number >= ? AND t.number < ? ORDER BY t.number");
	bind_u64(&q, first);
	bind_u64(&q, first + count);
	return visit_transfers(&q, visit, context, err);
}

/* ---- Sums ------------------------------------------------------------ */

#define ACCOUNT_COLUMNS "SELECT key, opened_ms, flags, debits, credits, transfers FROM accounts "

static void read_account(struct question *q, struct ol_indexed_account *account)
{
	*account = (struct ol_indexed_account){
		.opened_ms = u64(q, 1), .flags = (uint32_t)u64(q, 2), .transfers = u64(q, 5)};
	blob(q, 0, &account->key, sizeof account->key, false);
	blob(q, 3, &account->debits, sizeof account->debits, false);
	blob(q, 4, &account->credits, sizeof account->credits, false);
}

enum ol_status ol_ledger_index_account(struct ol_ledger_index *index,
				       struct ol_indexed_account *account_out,
				       const struct ol_account_key *key, struct ol_error *err)
{
	struct question q;
	ask(&q, index, ACCOUNT_COLUMNS "WHERE key = ?");
	bind_blob(&q, key, sizeof *key);
	const bool found = row(&q);
	if (found)
		read_account(&q, account_out);
	const enum ol_status s = answered(&q, err);
	return s != OL_OK || found ? s
				   : ol_fail(err, OL_ERR_NOT_FOUND,
					     "the index has no such account: it was never opened, "
					     "or is too young");
}

enum ol_status ol_ledger_index_accounts(struct ol_ledger_index *index,
					ol_ledger_index_account_visit *visit, void *context,
					struct ol_error *err)
{
	struct ol_indexed_account account;
	struct question q;
	ask(&q, index, ACCOUNT_COLUMNS "ORDER BY number");
	while (row(&q)) {
		read_account(&q, &account);
		if (q.odd != OL_OK || !visit(context, &account))
			break;
	}
	return answered(&q, err);
}

static bool add_account(void *context, const struct ol_indexed_account *account)
{
	struct ol_ledger_index_sums *sums = context;
	const uint8_t currency = account->key.currency;
	if (currency >= OL_CURRENCY_COUNT)
		return false;
	sums->accounts++;
	sums->debits[currency] = ol_total_of(ol_total_value(sums->debits[currency]) +
					     ol_total_value(account->debits));
	sums->credits[currency] = ol_total_of(ol_total_value(sums->credits[currency]) +
					      ol_total_value(account->credits));
	return true;
}

enum ol_status ol_ledger_index_sums(struct ol_ledger_index *index,
				    struct ol_ledger_index_sums *sums_out, struct ol_error *err)
{
	struct question q;
	*sums_out = (struct ol_ledger_index_sums){0};
	enum ol_status s = ol_ledger_index_accounts(index, add_account, sums_out, err);
	if (s != OL_OK)
		return s;
	ask(&q, index, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM transfers)");
	if (row(&q)) {
		sums_out->events = u64(&q, 0);
		sums_out->transfers = u64(&q, 1);
	}
	return answered(&q, err);
}

/* ---- Digest ------------------------------------------------------------ */

/* Every value with its type and length, so that no two contents have the same bytes. */
static void hash_row(struct ol_sha256 *hash, sqlite3_stmt *statement)
{
	for (int i = 0; i < sqlite3_column_count(statement); i++) {
		const uint8_t type = (uint8_t)sqlite3_column_type(statement, i);
		ol_sha256_update(hash, &type, 1);
		if (type == SQLITE_INTEGER) {
			const int64_t number = sqlite3_column_int64(statement, i);
			ol_sha256_update(hash, &number, sizeof number);
			continue;
		}
		const void *bytes = sqlite3_column_blob(statement, i);
		const uint64_t size = (uint64_t)sqlite3_column_bytes(statement, i);
		ol_sha256_update(hash, &size, sizeof size);
		if (size > 0)
			ol_sha256_update(hash, bytes, size);
	}
}

enum ol_status ol_ledger_index_digest(struct ol_ledger_index *index, uint8_t out[32],
				      struct ol_journal_mark *mark_out, struct ol_error *err)
{
	static const char *const tables[] = {
		"SELECT name, value FROM meta ORDER BY name",
		"SELECT * FROM accounts ORDER BY number",
		"SELECT * FROM events ORDER BY event_index",
		"SELECT * FROM transfers ORDER BY number",
	};
	enum ol_status s = OL_OK;
	struct ol_sha256 hash;
	if (!ol_sha256_init(&hash))
		return ol_fail(err, OL_ERR_FULL, "out of memory for a hash");
	index_enter(index);
	/* One transaction: another process may be writing. */
	int code = sqlite3_exec(index->db, "BEGIN", NULL, NULL, NULL);
	if (code != SQLITE_OK)
		s = index_fail(index, code, "BEGIN", err);
	if (s == OL_OK && mark_out)
		s = index_position(index, mark_out, err);
	for (size_t i = 0; s == OL_OK && i < OL_ARRAY_LEN(tables); i++) {
		const uint8_t table = (uint8_t)i;
		struct question q;
		ol_sha256_update(&hash, &table, 1);
		open_inside(&q, index, tables[i]);
		while (row(&q))
			hash_row(&hash, q.statement);
		s = close_inside(&q, err);
	}
	code = sqlite3_exec(index->db, "COMMIT", NULL, NULL, NULL);
	if (s == OL_OK && code != SQLITE_OK)
		s = index_fail(index, code, "COMMIT", err);
	index_leave(index);
	ol_sha256_final(&hash, out);
	return s;
}
