/* bench_ledger FOLDER [IDS [SECONDS]]: durable transfers per second, and the same ones by SQLite.
 *
 * FOLDER is made, filled and left for looking at; it must be on the disk that is to be measured.
 * IDS (default 10,000,000) transfers are posted first, so that the id check works on a full table.
 * Then, for SECONDS (default 10) each and in turn: batches of 1,000 and 8,000, each batch one
 * commit (one write, one fdatasync), between random accounts, and all of them into one hot account.
 * Then a snapshot, an opening from it, and an opening without. SQLite does the same transfers (id
 * check, balance check, two updates, one insert) with WAL and synchronous=FULL, from an empty
 * table, which is easier. */
#include "base/clock.h"
#include "base/file.h"
#include "ledger/ledger.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ACCOUNTS = 100000, BATCH_MAX = 8000, SAMPLES_MAX = 1 << 16 };

static struct ol_transfer transfers[BATCH_MAX];
static uint8_t account_results[OL_BATCH_ACCOUNTS_MAX], transfer_results[BATCH_MAX];
static double samples[SAMPLES_MAX];
static uint64_t dice_state = 1;
static uint64_t id_count;

static uint64_t dice(void)
{
	uint64_t z = dice_state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK) {
		fprintf(stderr, "bench_ledger: %s\n", err->text);
		exit(1);
	}
}

static struct ol_account_key account_key(uint64_t number)
{
	struct ol_account_key key;
	uint8_t address[20];
	uint64_t state = number * UINT64_C(0x9e3779b97f4a7c15);
	for (int i = 0; i < 20; i++)
		address[i] = (uint8_t)(state >> 8 * (i % 8) ^ (uint64_t)i * number);
	memcpy(address, &number, sizeof number);
	ol_account_key_init(&key, OL_ACCOUNT_ADDRESS, OL_CURRENCY_CREDIT, 0, address, 20);
	return key;
}

static void make_transfers(uint32_t count, bool hot)
{
	uint8_t random[OL_ID_RANDOM_BYTES];
	for (uint32_t i = 0; i < count; i++) {
		struct ol_transfer *t = &transfers[i];
		const uint64_t from = dice() % ACCOUNTS;
		uint64_t to = hot ? 0 : dice() % ACCOUNTS;
		const uint64_t a = dice(), b = ++id_count;
		memcpy(random, &a, 8);
		memcpy(random + 8, &b, 2);
		if (to == from)
			to = (from + 1) % ACCOUNTS;
		*t = (struct ol_transfer){.id = ol_id_make(ol_clock_system.now_ms(NULL), random),
					  .debit = account_key(from),
					  .credit = account_key(to),
					  .amount = {1 + dice() % 1000},
					  .code = OL_CODE_OTHER};
	}
}

/* For those that are measured, beside those that are there. */
static uint32_t ids_room(uint64_t ids)
{
	return (uint32_t)OL_MIN(2 * ids + (24u << 20), OL_BOOK_IDS_MAX);
}

/* ---- The ledger ------------------------------------------------------------ */

static struct ol_ledger *open_ledger(struct ol_disk *disk, uint64_t ids,
				     struct ol_ledger_opening *opening)
{
	struct ol_error err;
	struct ol_ledger *ledger = NULL;
	const struct ol_ledger_options options = {.disk = *disk,
						  .clock = ol_clock_system,
						  .random = ol_random_system,
						  .limits = {2 * ACCOUNTS, ids_room(ids), 1 << 16}};
	must(ol_ledger_open(&ledger, opening, &options, &err), &err);
	return ledger;
}

static void open_accounts(struct ol_ledger *ledger)
{
	static struct ol_account_op ops[BATCH_MAX];
	struct ol_error err;
	for (uint64_t at = 0; at < ACCOUNTS; at += BATCH_MAX) {
		struct ol_batch batch = {.account_results = account_results};
		for (uint64_t i = at; i < OL_MIN(at + BATCH_MAX, ACCOUNTS); i++)
			ops[batch.postings.account_count++] =
				(struct ol_account_op){.key = account_key(i),
						       .action = OL_ACCOUNT_OPEN,
						       .flags = OL_ACCOUNT_OVERDRAFT};
		batch.postings.accounts = ops;
		must(ol_ledger_post(ledger, &batch, &err), &err);
	}
	must(ol_ledger_commit(ledger, &err), &err);
}

/* Seconds of this thread that the posting itself took. */
static double post(struct ol_ledger *ledger, uint32_t count)
{
	struct ol_batch batch = {.postings = {.transfers = transfers, .transfer_count = count},
				 .transfer_results = transfer_results};
	struct ol_error err;
	const double start = ol_clock_thread_seconds();
	must(ol_ledger_post(ledger, &batch, &err), &err);
	const double seconds = ol_clock_thread_seconds() - start;
	for (uint32_t i = 0; i < count; i++)
		if (transfer_results[i] != OL_POST_OK) {
			fprintf(stderr, "bench_ledger: a transfer was answered %s\n",
				ol_post_name(transfer_results[i]));
			exit(1);
		}
	return seconds;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void print_row(const char *name, uint32_t batch, const char *spread, uint64_t done,
		      double seconds, double posting, int commits)
{
	qsort(samples, (size_t)commits, sizeof *samples, compare);
	printf("%-9s %5u  %-8s %10.0f transfers/s   commit p50 %6.2f ms, p99 %6.2f ms", name, batch,
	       spread, (double)done / seconds, 1e3 * samples[commits / 2],
	       1e3 * samples[commits * 99 / 100]);
	if (posting > 0)
		printf("   posting %4.0f ns", 1e9 * posting / (double)done);
	printf("\n");
	fflush(stdout);
}

static void measure_ledger(struct ol_ledger *ledger, uint32_t batch, bool hot, double limit)
{
	struct ol_error err;
	double posting = 0, seconds = 0;
	uint64_t done = 0;
	int commits = 0;
	while (seconds < limit && commits < SAMPLES_MAX) {
		make_transfers(batch, hot); /* the clients' work */
		const double start = ol_clock_seconds();
		posting += post(ledger, batch);
		must(ol_ledger_commit(ledger, &err), &err);
		samples[commits] = ol_clock_seconds() - start;
		seconds += samples[commits++];
		done += batch;
	}
	print_row("openledger", batch, hot ? "one hot" : "uniform", done, seconds, posting,
		  commits);
}

static void bench_ledger(const char *folder, uint64_t ids, double limit)
{
	struct ol_disk disk;
	struct ol_error err;
	struct ol_ledger_opening opening;
	must(ol_make_directories(folder, &err), &err);
	must(ol_disk_open(&disk, folder, &err), &err);
	struct ol_ledger *ledger = open_ledger(&disk, ids, &opening);
	if (!opening.created) {
		fprintf(stderr, "bench_ledger: %s holds a ledger already\n", folder);
		exit(1);
	}
	open_accounts(ledger);
	double start = ol_clock_seconds();
	for (uint64_t done = 0; done < ids; done += BATCH_MAX) {
		make_transfers(BATCH_MAX, false);
		post(ledger, BATCH_MAX);
	}
	must(ol_ledger_commit(ledger, &err), &err);
	printf("filled with %u ids in %.1f s\n", ol_book_id_count(ol_ledger_book(ledger)),
	       ol_clock_seconds() - start);
	for (int round = 0; round < 2; round++)
		for (int hot = 0; hot < 2; hot++) {
			measure_ledger(ledger, 1000, hot, limit / 2);
			measure_ledger(ledger, 8000, hot, limit / 2);
		}
	const uint32_t live = ol_book_id_count(ol_ledger_book(ledger));
	start = ol_clock_seconds();
	must(ol_ledger_snapshot(ledger, &err), &err);
	printf("snapshot of %u ids: %.2f s\n", live, ol_clock_seconds() - start);
	ol_ledger_close(ledger);
	start = ol_clock_seconds();
	ledger = open_ledger(&disk, ids, &opening);
	printf("opened from it in %.2f s (%llu records replayed)\n", ol_clock_seconds() - start,
	       (unsigned long long)opening.replayed);
	ol_ledger_close(ledger);
	struct ol_ledger_report report;
	const struct ol_book_limits limits = {2 * ACCOUNTS, ids_room(ids), 1 << 16};
	start = ol_clock_seconds();
	must(ol_ledger_check(&disk, &report, &limits, 1, false, &err), &err);
	const double seconds = ol_clock_seconds() - start;
	printf("derived again from the journal and compared: %llu transfers in %.2f s (%.0f/s)\n",
	       (unsigned long long)report.transfers, seconds, (double)report.transfers / seconds);
	ol_disk_close(&disk);
}

/* ---- SQLite ------------------------------------------------------------ */

static void sql(sqlite3 *db, const char *text)
{
	char *message = NULL;
	if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK) {
		fprintf(stderr, "bench_ledger: SQLite: %s\n", message);
		exit(1);
	}
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *text)
{
	sqlite3_stmt *statement = NULL;
	if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK) {
		fprintf(stderr, "bench_ledger: SQLite: %s\n", sqlite3_errmsg(db));
		exit(1);
	}
	return statement;
}

static void run_statement(sqlite3 *db, sqlite3_stmt *statement)
{
	if (sqlite3_step(statement) != SQLITE_DONE || sqlite3_changes(db) != 1) {
		fprintf(stderr, "bench_ledger: SQLite: %s\n", sqlite3_errmsg(db));
		exit(1);
	}
	sqlite3_reset(statement);
}

struct sqlite_ledger {
	sqlite3 *db;
	sqlite3_stmt *insert, *debit, *credit;
};

static void sqlite_batch(const struct sqlite_ledger *s, uint32_t count)
{
	sql(s->db, "BEGIN IMMEDIATE");
	for (uint32_t i = 0; i < count; i++) {
		const struct ol_transfer *t = &transfers[i];
		sqlite3_bind_blob(s->insert, 1, &t->id, 16, SQLITE_STATIC);
		sqlite3_bind_blob(s->insert, 2, &t->debit, 32, SQLITE_STATIC);
		sqlite3_bind_blob(s->insert, 3, &t->credit, 32, SQLITE_STATIC);
		sqlite3_bind_int64(s->insert, 4, (sqlite3_int64)t->amount.nano);
		run_statement(s->db, s->insert);
		sqlite3_bind_int64(s->debit, 1, (sqlite3_int64)t->amount.nano);
		sqlite3_bind_blob(s->debit, 2, &t->debit, 32, SQLITE_STATIC);
		run_statement(s->db, s->debit);
		sqlite3_bind_int64(s->credit, 1, (sqlite3_int64)t->amount.nano);
		sqlite3_bind_blob(s->credit, 2, &t->credit, 32, SQLITE_STATIC);
		run_statement(s->db, s->credit);
	}
	sql(s->db, "COMMIT");
}

static void measure_sqlite(const struct sqlite_ledger *s, uint32_t batch, bool hot, double limit)
{
	double seconds = 0;
	uint64_t done = 0;
	int commits = 0;
	while (seconds < limit && commits < SAMPLES_MAX) {
		make_transfers(batch, hot);
		const double start = ol_clock_seconds();
		sqlite_batch(s, batch);
		samples[commits] = ol_clock_seconds() - start;
		seconds += samples[commits++];
		done += batch;
	}
	print_row("SQLite", batch, hot ? "one hot" : "uniform", done, seconds, 0, commits);
}

static void bench_sqlite(const char *folder, double limit)
{
	struct sqlite_ledger s = {0};
	char path[4096];
	snprintf(path, sizeof path, "%s/sqlite.db", folder);
	if (sqlite3_open(path, &s.db) != SQLITE_OK) {
		fprintf(stderr, "bench_ledger: cannot open %s\n", path);
		exit(1);
	}
	sql(s.db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-1000000;"
		  "PRAGMA wal_autocheckpoint=20000;"
		  "CREATE TABLE account (id BLOB PRIMARY KEY, debits INTEGER NOT NULL,"
		  " credits INTEGER NOT NULL, overdraft INTEGER NOT NULL) WITHOUT ROWID;"
		  "CREATE TABLE transfer (id BLOB PRIMARY KEY, debit BLOB NOT NULL,"
		  " credit BLOB NOT NULL, units INTEGER NOT NULL) WITHOUT ROWID; BEGIN");
	sqlite3_stmt *open = prepare(s.db, "INSERT INTO account VALUES (?, 0, 0, 1)");
	for (uint64_t i = 0; i < ACCOUNTS; i++) {
		const struct ol_account_key key = account_key(i);
		sqlite3_bind_blob(open, 1, &key, sizeof key, SQLITE_TRANSIENT);
		run_statement(s.db, open);
	}
	sql(s.db, "COMMIT");
	s.insert = prepare(s.db, "INSERT INTO transfer VALUES (?, ?, ?, ?)");
	s.debit = prepare(s.db, "UPDATE account SET debits = debits + ?1 WHERE id = ?2"
				" AND (overdraft OR credits - debits >= ?1)");
	s.credit = prepare(s.db, "UPDATE account SET credits = credits + ?1 WHERE id = ?2");
	for (int hot = 0; hot < 2; hot++) {
		measure_sqlite(&s, 1000, hot, limit);
		measure_sqlite(&s, 8000, hot, limit);
	}
	sqlite3_finalize(open);
	sqlite3_finalize(s.insert);
	sqlite3_finalize(s.debit);
	sqlite3_finalize(s.credit);
	sqlite3_close(s.db);
}

int main(int argc, char **argv)
{
	const uint64_t ids = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000000;
	const double limit = argc > 3 ? strtod(argv[3], NULL) : 10;
	if (argc < 2 || limit <= 0 || ids > OL_BOOK_IDS_MAX / 4) {
		fprintf(stderr, "usage: bench_ledger FOLDER [IDS [SECONDS]]\n");
		return 1;
	}
	bench_ledger(argv[1], ids, limit);
	bench_sqlite(argv[1], limit);
	return 0;
}
