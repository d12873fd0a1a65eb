#include "ledger/index_inside.h"

#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Amounts are 64 bits as they are (SQLite's integers have a sign: those above 2^63 show as negative
 * ones); totals are 16 bytes, low first; nothing is ever REAL. */
static const char schema[] =
	"CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE accounts(number INTEGER PRIMARY KEY, key BLOB NOT NULL,"
	" opened_ms INTEGER NOT NULL, flags INTEGER NOT NULL, debits BLOB NOT NULL,"
	" credits BLOB NOT NULL, transfers INTEGER NOT NULL);"
	"CREATE UNIQUE INDEX accounts_key ON accounts(key);"
	"CREATE TABLE events(event_index INTEGER PRIMARY KEY, id BLOB NOT NULL,"
	" kind INTEGER NOT NULL, sequence INTEGER NOT NULL, time_ms INTEGER NOT NULL,"
	" first_transfer INTEGER NOT NULL, transfer_count INTEGER NOT NULL, bytes BLOB NOT NULL);"
	"CREATE INDEX events_id ON events(id);"
	"CREATE INDEX events_kind ON events(kind);"
	"CREATE TABLE transfers(number INTEGER PRIMARY KEY, id BLOB NOT NULL,"
	" debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL,"
	" code INTEGER NOT NULL, flags INTEGER NOT NULL, timeout_s INTEGER NOT NULL,"
	" pending_id BLOB, user_data BLOB, sequence INTEGER NOT NULL, time_ms INTEGER NOT NULL,"
	" event_index INTEGER);"
	"CREATE UNIQUE INDEX transfers_id ON transfers(id);"
	"CREATE INDEX transfers_debit ON transfers(debit);"
	"CREATE INDEX transfers_credit ON transfers(credit);"
	"PRAGMA application_id = 1330399576; PRAGMA user_version = 1;";
enum { APPLICATION_ID = 1330399576 }; /* "OLIX" */
_Static_assert(OL_LEDGER_INDEX_VERSION == 1, "PRAGMA user_version in the schema");

/* The position as it stands in the file. */
_Static_assert(sizeof(struct ol_journal_mark) == 88, "index v1");
_Static_assert(offsetof(struct ol_journal_mark, hash) == 40, "index v1");

enum ol_status index_fail(const struct ol_ledger_index *index, int code, const char *what,
			  struct ol_error *err)
{
	const char *path = index->path && *index->path ? index->path : "the temporary index";
	const char *said = index->db ? sqlite3_errmsg(index->db) : sqlite3_errstr(code);
	switch (code & 0xff) {
	case SQLITE_BUSY:
		return ol_fail(err, OL_ERR_CANCELLED,
			       "%s stays locked by another process (%s): try again", path, what);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_CONSTRAINT:
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is damaged: %s (%s). Make it again: openledger ledger rebuild",
			       path, said, what);
	case SQLITE_FULL:
	case SQLITE_NOMEM:
	case SQLITE_TOOBIG: return ol_fail(err, OL_ERR_FULL, "%s: %s (%s)", path, said, what);
	}
	return ol_fail(err, OL_ERR_IO, "%s: %s (%s)", path, said, what);
}

static enum ol_status run(struct ol_ledger_index *index, const char *sql, struct ol_error *err)
{
	const int code = sqlite3_exec(index->db, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? OL_OK : index_fail(index, code, sql, err);
}

/* Runs a statement that gives no rows, and makes it ready for the next time. */
static enum ol_status run_put(struct ol_ledger_index *index, sqlite3_stmt *put,
			      struct ol_error *err)
{
	const int code = sqlite3_step(put);
	const enum ol_status s =
		code == SQLITE_DONE ? OL_OK : index_fail(index, code, sqlite3_sql(put), err);
	sqlite3_reset(put);
	return s;
}

/* The one number that a statement gives. */
static enum ol_status ask(struct ol_ledger_index *index, int64_t *value_out, const char *sql,
			  struct ol_error *err)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(index->db, sql, -1, &statement, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	*value_out = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
	const enum ol_status s = code == SQLITE_ROW ? OL_OK : index_fail(index, code, sql, err);
	sqlite3_finalize(statement);
	return s;
}

/* ---- Accounts touched by the transaction at hand ---------------------------------- */

enum { SLOTS = 1 << 13, TOUCHED_MAX = SLOTS / 2 };

struct account {
	struct ol_account_key key;
	uint64_t number, opened_ms, transfers;
	struct ol_total debits, credits;
	uint32_t flags;
	bool used;
};

/* An account is read once and written once a transaction, however hot it is. */
struct index_touched {
	struct account slots[SLOTS];
	uint32_t count;
	uint64_t secret; /* nobody chooses addresses that collide */
	/* Of the record at hand: how many of its transfers before this one were posted, and which
	 * event speaks of this one (its number in the record + 1; 0: none). */
	uint32_t posted_before[OL_BATCH_TRANSFERS_MAX + 1];
	uint32_t event_of[OL_BATCH_TRANSFERS_MAX];
};

static void forget_touched(struct ol_ledger_index *index)
{
	struct index_touched *t = index->touched;
	if (t->count > 0)
		memset(t->slots, 0, sizeof t->slots);
	t->count = 0;
}

static enum ol_status write_touched(struct ol_ledger_index *index, struct ol_error *err)
{
	struct index_touched *t = index->touched;
	enum ol_status s = OL_OK;
	for (uint32_t i = 0; s == OL_OK && t->count > 0 && i < SLOTS; i++) {
		const struct account *a = &t->slots[i];
		if (!a->used)
			continue;
		sqlite3_bind_int64(index->put_account, 1, (int64_t)a->number);
		sqlite3_bind_blob(index->put_account, 2, &a->key, sizeof a->key, SQLITE_STATIC);
		sqlite3_bind_int64(index->put_account, 3, (int64_t)a->opened_ms);
		sqlite3_bind_int64(index->put_account, 4, a->flags);
		sqlite3_bind_blob(index->put_account, 5, &a->debits, sizeof a->debits,
				  SQLITE_STATIC);
		sqlite3_bind_blob(index->put_account, 6, &a->credits, sizeof a->credits,
				  SQLITE_STATIC);
		sqlite3_bind_int64(index->put_account, 7, (int64_t)a->transfers);
		s = run_put(index, index->put_account, err);
	}
	forget_touched(index);
	return s;
}

static uint64_t slot_of(const struct index_touched *t, const struct ol_account_key *key)
{
	uint64_t words[4], h = t->secret;
	memcpy(words, key, sizeof words);
	for (int i = 0; i < 4; i++) {
		h = (h ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h % SLOTS;
}

/* What the file knows of an account; a new one gets the next number. */
static enum ol_status read_account(struct ol_ledger_index *index, struct account *a,
				   uint64_t now_ms, struct ol_error *err)
{
	sqlite3_stmt *get = index->get_account;
	enum ol_status s = OL_OK;
	sqlite3_bind_blob(get, 1, &a->key, sizeof a->key, SQLITE_STATIC);
	const int code = sqlite3_step(get);
	if (code == SQLITE_ROW) {
		a->number = (uint64_t)sqlite3_column_int64(get, 0);
		a->opened_ms = (uint64_t)sqlite3_column_int64(get, 1);
		a->flags = (uint32_t)sqlite3_column_int64(get, 2);
		a->transfers = (uint64_t)sqlite3_column_int64(get, 5);
		if (sqlite3_column_bytes(get, 3) == sizeof a->debits &&
		    sqlite3_column_bytes(get, 4) == sizeof a->credits) {
			memcpy(&a->debits, sqlite3_column_blob(get, 3), sizeof a->debits);
			memcpy(&a->credits, sqlite3_column_blob(get, 4), sizeof a->credits);
		} else {
			s = index_fail(index, SQLITE_CORRUPT, "totals of an account", err);
		}
	} else if (code == SQLITE_DONE) {
		a->number = ++index->accounts;
		a->opened_ms = now_ms;
	} else {
		s = index_fail(index, code, sqlite3_sql(get), err);
	}
	sqlite3_reset(get);
	a->used = s == OL_OK;
	return s;
}

static enum ol_status touch(struct ol_ledger_index *index, struct account **account_out,
			    const struct ol_account_key *key, uint64_t now_ms, struct ol_error *err)
{
	struct index_touched *t = index->touched;
	uint64_t slot = slot_of(t, key);
	while (t->slots[slot].used && memcmp(&t->slots[slot].key, key, sizeof *key) != 0)
		slot = (slot + 1) % SLOTS;
	struct account *a = *account_out = &t->slots[slot];
	if (a->used)
		return OL_OK;
	*a = (struct account){.key = *key};
	t->count++;
	return read_account(index, a, now_ms, err);
}

/* ---- Taking in a record ------------------------------------------------------------ */

static enum ol_status take_account(struct ol_ledger_index *index, const struct ol_account_op *op,
				   uint64_t now_ms, struct ol_error *err)
{
	struct account *a = NULL;
	if (index->touched->count >= TOUCHED_MAX) {
		const enum ol_status s = write_touched(index, err);
		if (s != OL_OK)
			return s;
	}
	const enum ol_status s = touch(index, &a, &op->key, now_ms, err);
	if (s == OL_OK)
		a->flags = op->flags;
	return s;
}

static void bind_bytes_or_null(sqlite3_stmt *put, int at, const void *bytes, int size, bool null)
{
	if (null)
		sqlite3_bind_null(put, at);
	else
		sqlite3_bind_blob(put, at, bytes, size, SQLITE_TRANSIENT);
}

static enum ol_status take_transfer(struct ol_ledger_index *index,
				    const struct ol_journal_record *record, uint32_t i,
				    struct ol_error *err)
{
	static const uint8_t zeros[16];
	const struct ol_transfer *t = &record->postings.transfers[i];
	const uint32_t event = index->touched->event_of[i];
	sqlite3_stmt *put = index->put_transfer;
	struct account *debit = NULL, *credit = NULL;
	uint8_t id[16], pending_id[16];
	enum ol_status s = OL_OK;
	if (index->touched->count + 1 >= TOUCHED_MAX)
		s = write_touched(index, err);
	if (s == OL_OK)
		s = touch(index, &debit, &t->debit, record->timestamp_ms, err);
	if (s == OL_OK)
		s = touch(index, &credit, &t->credit, record->timestamp_ms, err);
	if (s != OL_OK)
		return s;
	debit->transfers++;
	credit->transfers++;
	if (!(t->flags & OL_TRANSFER_PENDING)) {
		ol_total_add(&debit->debits, t->amount);
		ol_total_add(&credit->credits, t->amount);
	}
	index_put_id(id, t->id);
	index_put_id(pending_id, t->pending_id);
	sqlite3_bind_int64(put, 1, (int64_t)++index->transfers);
	sqlite3_bind_blob(put, 2, id, sizeof id, SQLITE_TRANSIENT);
	sqlite3_bind_int64(put, 3, (int64_t)debit->number);
	sqlite3_bind_int64(put, 4, (int64_t)credit->number);
	sqlite3_bind_int64(put, 5, (int64_t)t->amount.nano);
	sqlite3_bind_int64(put, 6, t->code);
	sqlite3_bind_int64(put, 7, t->flags);
	sqlite3_bind_int64(put, 8, t->timeout_s);
	bind_bytes_or_null(put, 9, pending_id, sizeof pending_id, ol_id_is_zero(t->pending_id));
	bind_bytes_or_null(put, 10, t->user_data, sizeof t->user_data,
			   memcmp(t->user_data, zeros, sizeof zeros) == 0);
	sqlite3_bind_int64(put, 11, (int64_t)record->sequence);
	sqlite3_bind_int64(put, 12, (int64_t)record->timestamp_ms);
	if (event > 0)
		sqlite3_bind_int64(put, 13, (int64_t)(record->event_index + event - 1));
	else
		sqlite3_bind_null(put, 13);
	return run_put(index, put, err);
}

static enum ol_status take_event(struct ol_ledger_index *index,
				 const struct ol_journal_record *record, uint32_t i,
				 uint64_t transfers_before, struct ol_error *err)
{
	const struct ol_event *e = &record->events[i];
	sqlite3_stmt *put = index->put_event;
	uint8_t id[OL_EVENT_ID_BYTES];
	const uint64_t first =
		e->transfer_count > 0
			? transfers_before + index->touched->posted_before[e->first_transfer] + 1
			: 0;
	ol_event_id(id, e->bytes, e->size);
	sqlite3_bind_int64(put, 1, (int64_t)(record->event_index + i));
	sqlite3_bind_blob(put, 2, id, sizeof id, SQLITE_TRANSIENT);
	sqlite3_bind_int64(put, 3, e->kind);
	sqlite3_bind_int64(put, 4, (int64_t)record->sequence);
	sqlite3_bind_int64(put, 5, (int64_t)record->timestamp_ms);
	sqlite3_bind_int64(put, 6, (int64_t)first);
	sqlite3_bind_int64(put, 7, e->transfer_count);
	sqlite3_bind_blob(put, 8, e->size > 0 ? (const void *)e->bytes : "", (int)e->size,
			  SQLITE_STATIC);
	return run_put(index, put, err);
}

static enum ol_status take_record(struct ol_ledger_index *index,
				  const struct ol_journal_record *record, struct ol_error *err)
{
	const struct ol_postings *p = &record->postings;
	struct index_touched *t = index->touched;
	const uint64_t before = index->transfers;
	enum ol_status s = OL_OK;
	for (uint32_t i = 0; s == OL_OK && i < p->account_count; i++)
		if (record->account_results[i] == OL_ACCOUNT_OK)
			s = take_account(index, &p->accounts[i], record->timestamp_ms, err);
	memset(t->event_of, 0, p->transfer_count * sizeof *t->event_of);
	for (uint32_t i = record->event_count; i-- > 0;)
		for (uint32_t j = 0; j < record->events[i].transfer_count; j++)
			t->event_of[record->events[i].first_transfer + j] = i + 1;
	t->posted_before[0] = 0;
	for (uint32_t i = 0; s == OL_OK && i < p->transfer_count; i++) {
		const bool posted = record->transfer_results[i] == OL_POST_OK;
		t->posted_before[i + 1] = t->posted_before[i] + posted;
		if (posted)
			s = take_transfer(index, record, i, err);
	}
	for (uint32_t i = 0; s == OL_OK && i < record->event_count; i++)
		s = take_event(index, record, i, before, err);
	return s;
}

/* ---- Catching up ------------------------------------------------------------ */

struct intake {
	struct ol_ledger_index *index;
	const struct ol_journal_mark *until;
	struct ol_journal_mark mark;
	uint64_t rows, bytes; /* of the transaction at hand */
	bool open, reached;
};

static enum ol_status count(struct ol_ledger_index *index, struct ol_error *err)
{
	int64_t accounts, transfers;
	enum ol_status s =
		ask(index, &accounts, "SELECT ifnull(max(number), 0) FROM accounts", err);
	if (s == OL_OK)
		s = ask(index, &transfers, "SELECT ifnull(max(number), 0) FROM transfers", err);
	if (s != OL_OK)
		return s;
	index->accounts = (uint64_t)accounts;
	index->transfers = (uint64_t)transfers;
	return OL_OK;
}

static enum ol_status begin(struct intake *in, struct ol_error *err)
{
	index_enter(in->index);
	const enum ol_status s = run(in->index, "BEGIN IMMEDIATE", err);
	in->open = s == OL_OK;
	in->rows = in->bytes = 0;
	if (s != OL_OK)
		index_leave(in->index);
	return s;
}

/* Ends the transaction: all of it with its position, or nothing. */
static enum ol_status end(struct intake *in, enum ol_status s, struct ol_error *err)
{
	struct ol_ledger_index *index = in->index;
	if (s == OL_OK)
		s = write_touched(index, err);
	if (s == OL_OK) {
		sqlite3_bind_blob(index->put_position, 1, &in->mark, sizeof in->mark,
				  SQLITE_TRANSIENT);
		s = run_put(index, index->put_position, err);
	}
	if (s == OL_OK)
		s = run(index, "COMMIT", err);
	if (s != OL_OK) {
		forget_touched(index);
		if (!sqlite3_get_autocommit(index->db))
			(void)sqlite3_exec(index->db, "ROLLBACK", NULL, NULL, NULL);
		(void)count(index, NULL); /* a failure shows again at the next attempt */
	}
	in->open = false;
	index_leave(index);
	return s;
}

static enum ol_status other_history(const struct ol_ledger_index *index, const char *why,
				    struct ol_error *err)
{
	return ol_fail(err, OL_ERR_INPUT,
		       "%s does not belong to this journal: %s. If the journal is the right one: "
		       "openledger ledger rebuild",
		       index->path, why);
}

static enum ol_status take(void *context, const struct ol_journal_record *record,
			   struct ol_error *err)
{
	struct intake *in = context;
	const uint32_t bytes = ol_journal_record_bytes(record);
	enum ol_status s = in->open ? OL_OK : begin(in, err);
	if (s != OL_OK)
		return s;
	s = take_record(in->index, record, err);
	in->rows += record->postings.account_count + record->postings.transfer_count +
		    record->event_count;
	in->bytes += bytes;
	in->mark.sequence = record->sequence;
	in->mark.last = record->position;
	in->mark.position = record->position + bytes; /* at least: a group pads its last one */
	in->mark.timestamp_ms = record->timestamp_ms;
	in->mark.event_count = record->event_index + record->event_count;
	memcpy(in->mark.hash, record->hash, sizeof in->mark.hash);
	in->reached = record->sequence == in->until->sequence;
	if (s == OL_OK && in->reached &&
	    memcmp(record->hash, in->until->hash, sizeof record->hash) != 0)
		s = other_history(in->index, "it goes on differently", err);
	if (in->reached)
		in->mark = *in->until;
	if (s != OL_OK || in->reached || in->rows >= OL_LEDGER_INDEX_STEP_ROWS ||
	    in->bytes >= OL_LEDGER_INDEX_STEP_BYTES)
		s = end(in, s, err);
	return s == OL_OK && in->reached ? OL_ERR_CANCELLED : s;
}

static enum ol_status read_up_to(struct ol_ledger_index *index, const struct ol_disk *journal,
				 const struct ol_journal_mark *from,
				 const struct ol_journal_mark *until, struct ol_error *err)
{
	struct intake in = {.index = index, .until = until, .mark = *from};
	struct ol_error why = {0};
	memcpy(in.mark.id, until->id, sizeof in.mark.id);
	enum ol_status s =
		ol_journal_read(journal, NULL, from->sequence > 0 ? from : NULL, take, &in, &why);
	if (in.open)
		(void)end(&in, OL_ERR_CANCELLED, NULL); /* rolled back */
	if (in.reached && s == OL_ERR_CANCELLED && why.status == OL_OK)
		return OL_OK;
	if (s == OL_OK)
		return ol_fail(err, OL_ERR_INPUT,
			       "the journal ends before record %llu, which was durable: restore it "
			       "from a backup",
			       (unsigned long long)until->sequence);
	return ol_fail(err, s, "%s (read for %s)", why.text, index->path);
}

static enum ol_status catch_up(struct ol_ledger_index *index, const struct ol_disk *journal,
			       const struct ol_journal_mark *until, struct ol_error *err)
{
	struct ol_journal_mark from, end_mark;
	enum ol_status s = ol_ledger_index_position(index, &from, err);
	if (s == OL_OK && !until) {
		s = ol_journal_read(journal, &end_mark, from.sequence > 0 ? &from : NULL, NULL,
				    NULL, err);
		until = &end_mark;
	}
	if (s != OL_OK || until->sequence == 0)
		return s;
	if (from.sequence > 0 && memcmp(from.id, until->id, sizeof from.id) != 0)
		return other_history(index, "it was made from another one", err);
	if (from.sequence > until->sequence)
		return other_history(index, "it is ahead of it", err);
	if (from.sequence == until->sequence)
		return memcmp(from.hash, until->hash, sizeof from.hash) == 0
			       ? OL_OK
			       : other_history(index, "its last record is another one", err);
	return read_up_to(index, journal, &from, until, err);
}

/* Between reading the position and writing what follows it, nobody else may do the same: a server's
 * publisher and whoever begins to use the books both catch up. */
enum ol_status ol_ledger_index_catch_up(struct ol_ledger_index *index,
					const struct ol_disk *journal,
					const struct ol_journal_mark *until, struct ol_error *err)
{
	OL_ASSERT(!index->read_only);
	pthread_mutex_lock(&index->catching_up);
	const enum ol_status s = catch_up(index, journal, until, err);
	pthread_mutex_unlock(&index->catching_up);
	return s;
}

/* ---- Position ------------------------------------------------------------ */

enum ol_status index_position(struct ol_ledger_index *index, struct ol_journal_mark *mark_out,
			      struct ol_error *err)
{
	static const char sql[] = "SELECT value FROM meta WHERE name = 'position'";
	sqlite3_stmt *statement = NULL;
	enum ol_status s = OL_OK;
	*mark_out = (struct ol_journal_mark){0};
	int code = sqlite3_prepare_v2(index->db, sql, -1, &statement, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW && sqlite3_column_bytes(statement, 0) == sizeof *mark_out)
		memcpy(mark_out, sqlite3_column_blob(statement, 0), sizeof *mark_out);
	else if (code != SQLITE_DONE)
		s = index_fail(index, code == SQLITE_ROW ? SQLITE_CORRUPT : code, sql, err);
	sqlite3_finalize(statement);
	return s;
}

enum ol_status ol_ledger_index_position(struct ol_ledger_index *index,
					struct ol_journal_mark *mark_out, struct ol_error *err)
{
	index_enter(index);
	const enum ol_status s = index_position(index, mark_out, err);
	index_leave(index);
	return s;
}

/* ---- Opening ------------------------------------------------------------ */

static enum ol_status open_file(struct ol_ledger_index *index, struct ol_error *err)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
			  (*index->path ? 0 : SQLITE_OPEN_CREATE);
	if (*index->path) {
		/* Made here and not by SQLite: for its owner alone. */
		const int fd = open(index->path,
				    O_RDWR | O_CLOEXEC | (index->read_only ? 0 : O_CREAT), 0600);
		if (fd < 0)
			return ol_fail(err, errno == ENOENT ? OL_ERR_NOT_FOUND : OL_ERR_IO,
				       "cannot open %s: %s", index->path, strerror(errno));
		close(fd);
	}
	const int code = sqlite3_open_v2(index->path, &index->db, flags, NULL);
	if (code != SQLITE_OK)
		return index_fail(index, code, "open", err);
	sqlite3_extended_result_codes(index->db, 1);
	sqlite3_busy_timeout(index->db, OL_LEDGER_INDEX_BUSY_MS);
	/* A database from strangers must not run functions of its own. */
	sqlite3_db_config(index->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(index->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	const enum ol_status s = run(index, "PRAGMA journal_mode = DELETE", err);
	if (s != OL_OK || index->read_only)
		return s == OL_OK ? run(index, "PRAGMA query_only = ON", err) : s;
	return run(index, "PRAGMA synchronous = FULL", err);
}

static enum ol_status check_version(struct ol_ledger_index *index, struct ol_error *err)
{
	int64_t application, version, tables;
	enum ol_status s = index->read_only ? OL_OK : run(index, "BEGIN IMMEDIATE", err);
	if (s == OL_OK)
		s = ask(index, &application, "PRAGMA application_id", err);
	if (s == OL_OK)
		s = ask(index, &version, "PRAGMA user_version", err);
	if (s == OL_OK)
		s = ask(index, &tables, "SELECT count(*) FROM sqlite_schema", err);
	if (s == OL_OK && tables == 0 && !index->read_only)
		s = run(index, schema, err);
	else if (s == OL_OK && application != APPLICATION_ID)
		s = ol_fail(err, OL_ERR_INPUT,
			    "%s is not the index of a ledger: move it away, then openledger "
			    "ledger rebuild",
			    index->path);
	else if (s == OL_OK && version != OL_LEDGER_INDEX_VERSION)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "%s is of version %lld, this program makes version %d: openledger "
			    "ledger rebuild",
			    index->path, (long long)version, OL_LEDGER_INDEX_VERSION);
	if (s == OL_OK && !index->read_only)
		s = run(index, "COMMIT", err);
	return s;
}

static enum ol_status prepare_puts(struct ol_ledger_index *index, struct ol_error *err)
{
	const struct {
		sqlite3_stmt **statement;
		const char *sql;
	} puts[] = {
		{&index->put_event, "INSERT INTO events VALUES(?,?,?,?,?,?,?,?)"},
		{&index->put_transfer, "INSERT INTO transfers VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&index->put_account, "INSERT OR REPLACE INTO accounts VALUES(?,?,?,?,?,?,?)"},
		{&index->put_position, "INSERT OR REPLACE INTO meta VALUES('position', ?)"},
		{&index->get_account, "SELECT number, opened_ms, flags, debits, credits, transfers"
				      " FROM accounts WHERE key = ?"},
	};
	index->touched = calloc(1, sizeof *index->touched);
	if (!index->touched)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the ledger's index");
	index->touched->secret = ol_random_u64(&ol_random_system);
	for (size_t i = 0; i < OL_ARRAY_LEN(puts); i++) {
		const int code =
			sqlite3_prepare_v3(index->db, puts[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
					   puts[i].statement, NULL);
		if (code != SQLITE_OK)
			return index_fail(index, code, puts[i].sql, err);
	}
	return count(index, err);
}

static enum ol_status open_as(struct ol_ledger_index **index_out, const char *path, bool read_only,
			      struct ol_error *err)
{
	struct ol_ledger_index *index = calloc(1, sizeof *index);
	*index_out = NULL;
	if (!index)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the ledger's index");
	index->read_only = read_only;
	pthread_mutex_init(&index->turn, NULL);
	pthread_mutex_init(&index->lock, NULL);
	pthread_mutex_init(&index->catching_up, NULL);
	index->path = strdup(path);
	enum ol_status s = index->path ? open_file(index, err)
				       : ol_fail(err, OL_ERR_FULL, "out of memory for %s", path);
	if (s == OL_OK)
		s = check_version(index, err);
	if (s == OL_OK && !read_only)
		s = prepare_puts(index, err);
	if (s != OL_OK) {
		ol_ledger_index_close(index);
		return s;
	}
	*index_out = index;
	return OL_OK;
}

enum ol_status ol_ledger_index_open(struct ol_ledger_index **index_out, const char *path,
				    struct ol_error *err)
{
	return open_as(index_out, path, false, err);
}

enum ol_status ol_ledger_index_open_read_only(struct ol_ledger_index **index_out, const char *path,
					      struct ol_error *err)
{
	return open_as(index_out, path, true, err);
}

void ol_ledger_index_close(struct ol_ledger_index *index)
{
	if (!index)
		return;
	sqlite3_finalize(index->put_event);
	sqlite3_finalize(index->put_transfer);
	sqlite3_finalize(index->put_account);
	sqlite3_finalize(index->put_position);
	sqlite3_finalize(index->get_account);
	OL_ASSERT(sqlite3_close(index->db) == SQLITE_OK); /* else a query was left open */
	pthread_mutex_destroy(&index->catching_up);
	pthread_mutex_destroy(&index->lock);
	pthread_mutex_destroy(&index->turn);
	free(index->touched);
	free(index->path);
	free(index);
}

/* ---- Rebuilding ------------------------------------------------------------ */

/* The new file is durable before it takes the name, and no journal of the old file is left that
 * SQLite would roll back into the new one. */
static enum ol_status put_in_place(const char *path, const char *fresh, struct ol_error *err)
{
	struct ol_buf name;
	ol_buf_init(&name, 1 << 16);
	const int file = open(fresh, O_RDONLY | O_CLOEXEC);
	bool good = file >= 0 && fsync(file) == 0;
	if (file >= 0)
		close(file);
	good = good && ol_buf_printf(&name, "%s-journal", path) &&
	       (unlink(name.data) == 0 || errno == ENOENT) && rename(fresh, path) == 0;
	ol_buf_clear(&name);
	const char *slash = strrchr(path, '/');
	good = good &&
	       ol_buf_append(&name, slash ? path : ".", slash ? (size_t)(slash - path) + 1 : 1);
	const int folder = good ? open(name.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	good = folder >= 0 && fsync(folder) == 0;
	const int code = errno;
	if (folder >= 0)
		close(folder);
	ol_buf_release(&name);
	return good ? OL_OK
		    : ol_fail(err, OL_ERR_IO, "cannot put %s in its place: %s", path,
			      strerror(code));
}

static enum ol_status remove_fresh(const char *fresh, struct ol_error *err)
{
	struct ol_buf name;
	ol_buf_init(&name, 1 << 16);
	const bool good = ol_buf_printf(&name, "%s-journal", fresh) &&
			  (unlink(fresh) == 0 || errno == ENOENT) &&
			  (unlink(name.data) == 0 || errno == ENOENT);
	ol_buf_release(&name);
	return good ? OL_OK
		    : ol_fail(err, OL_ERR_IO, "cannot remove %s: %s", fresh, strerror(errno));
}

enum ol_status ol_ledger_index_rebuild(const char *path, const struct ol_disk *journal,
				       const struct ol_journal_mark *until, struct ol_error *err)
{
	struct ol_ledger_index *index = NULL;
	struct ol_buf fresh;
	ol_buf_init(&fresh, 1 << 16);
	enum ol_status s = ol_buf_printf(&fresh, "%s.new", path)
				   ? remove_fresh(fresh.data, err)
				   : ol_fail(err, OL_ERR_FULL, "the path %s is too long", path);
	if (s == OL_OK)
		s = ol_ledger_index_open(&index, fresh.data, err);
	OL_ASSERT(index || s != OL_OK);
	/* A crash leaves a file that is thrown away: nothing needs to be durable on the way. */
	if (s == OL_OK)
		s = run(index,
			"PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"
			"PRAGMA cache_size = -65536",
			err);
	if (s == OL_OK)
		s = ol_ledger_index_catch_up(index, journal, until, err);
	ol_ledger_index_close(index);
	if (s == OL_OK)
		s = put_in_place(path, fresh.data, err);
	else if (fresh.data)
		(void)remove_fresh(fresh.data, NULL);
	ol_buf_release(&fresh);
	return s;
}
