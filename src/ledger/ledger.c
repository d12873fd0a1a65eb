#include "ledger/ledger.h"

#include <stdlib.h>
#include <string.h>

static const char lock_name[] = "lock";

struct ol_ledger {
	struct ol_ledger_options options;
	struct ol_book *book;
	struct ol_journal *journal;
	int lock;
	bool stopped;
	struct ol_event events[OL_BATCH_EVENTS_MAX]; /* those of a batch that are written */
};

/* ---- Replay ------------------------------------------------------------ */

struct replay {
	struct ol_book *book;
	uint64_t records, transfers, events;
	uint8_t account_results[OL_BATCH_ACCOUNTS_MAX];
	uint8_t transfer_results[OL_BATCH_TRANSFERS_MAX];
};

static bool all_posted(const uint8_t *results, const struct ol_event *event)
{
	for (uint32_t i = 0; i < event->transfer_count; i++)
		if (results[event->first_transfer + i] != OL_POST_OK)
			return false;
	return true;
}

static enum ol_status fail_record(struct ol_error *err, const struct ol_journal_record *record,
				  const char *what)
{
	return ol_fail(err, OL_ERR_INPUT,
		       "record %llu of the journal %s: it was written by another version of this "
		       "program, or it is wrong",
		       (unsigned long long)record->sequence, what);
}

static enum ol_status replay_record(void *context, const struct ol_journal_record *record,
				    struct ol_error *err)
{
	struct replay *replay = context;
	const struct ol_postings *p = &record->postings;
	ol_book_advance(replay->book, record->timestamp_ms);
	const enum ol_status s = ol_book_admit(replay->book, p, err);
	if (s != OL_OK)
		return s;
	ol_book_post(replay->book, replay->account_results, replay->transfer_results, p,
		     record->timestamp_ms);
	if (memcmp(replay->account_results, record->account_results, p->account_count) != 0 ||
	    memcmp(replay->transfer_results, record->transfer_results, p->transfer_count) != 0)
		return fail_record(err, record, "holds answers that the book does not give");
	for (uint32_t i = 0; i < record->event_count; i++)
		if (!all_posted(replay->transfer_results, &record->events[i]))
			return fail_record(err, record, "logs an event that was not paid");
	replay->records += !record->seal;
	replay->transfers += p->transfer_count;
	replay->events += record->event_count;
	return OL_OK;
}

/* ---- Life ------------------------------------------------------------ */

static enum ol_status open_journal(struct ol_ledger *ledger, struct ol_ledger_opening *opening,
				   const struct ol_journal_mark *from, struct ol_error *err)
{
	struct replay *replay = calloc(1, sizeof *replay);
	if (!replay)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening the ledger");
	replay->book = ledger->book;
	const enum ol_status s =
		ol_journal_open(&ledger->journal, &opening->cut, &ledger->options.disk,
				&ledger->options.journal, from, replay_record, replay, err);
	opening->replayed = replay->records;
	opening->replayed_transfers = replay->transfers;
	free(replay);
	return s;
}

static enum ol_status open_inside(struct ol_ledger *ledger, struct ol_ledger_opening *opening,
				  struct ol_error *err)
{
	const struct ol_ledger_options *o = &ledger->options;
	struct ol_journal_mark from;
	uint8_t id[OL_JOURNAL_ID_BYTES];
	enum ol_status s = o->disk.lock(o->disk.self, &ledger->lock, lock_name, err);
	if (s == OL_OK)
		s = ol_snapshot_load(&o->disk, &ledger->book, &from, &opening->bad_snapshots,
				     &o->limits, ol_random_u64(&o->random), err);
	if (s != OL_OK)
		return s;
	opening->snapshot = from.sequence;
	s = open_journal(ledger, opening, &from, err);
	/* A snapshot without a journal is no beginning: something was lost. */
	if (s != OL_ERR_NOT_FOUND || from.sequence != 0 || opening->bad_snapshots != 0)
		return s;
	o->random.fill(o->random.self, id, sizeof id);
	opening->created = true;
	s = ol_journal_create(&o->disk, id, o->clock.now_ms(o->clock.self), err);
	return s == OL_OK ? open_journal(ledger, opening, NULL, err) : s;
}

enum ol_status ol_ledger_open(struct ol_ledger **ledger_out, struct ol_ledger_opening *opening_out,
			      const struct ol_ledger_options *options, struct ol_error *err)
{
	struct ol_ledger_opening opening = {0};
	struct ol_ledger *ledger = calloc(1, sizeof *ledger);
	if (!ledger)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening the ledger");
	ledger->options = *options;
	ledger->lock = -1;
	const enum ol_status s = open_inside(ledger, &opening, err);
	if (s != OL_OK) {
		ol_ledger_close(ledger);
		return s;
	}
	if (opening_out)
		*opening_out = opening;
	*ledger_out = ledger;
	return OL_OK;
}

void ol_ledger_close(struct ol_ledger *ledger)
{
	if (!ledger)
		return;
	ol_journal_close(ledger->journal);
	ol_book_close(ledger->book);
	if (ledger->lock >= 0)
		ledger->options.disk.close(ledger->options.disk.self, ledger->lock);
	free(ledger);
}

const struct ol_book *ol_ledger_book(const struct ol_ledger *ledger)
{
	return ledger->book;
}

const struct ol_journal_mark *ol_ledger_durable(const struct ol_ledger *ledger)
{
	return ol_journal_durable(ledger->journal);
}

bool ol_ledger_stopped(const struct ol_ledger *ledger)
{
	return ledger->stopped;
}

/* ---- Posting ------------------------------------------------------------ */

static enum ol_status fail_stopped(struct ol_error *err)
{
	return ol_fail(
		err, OL_ERR_IO,
		"the ledger has stopped after a failure of the disk: restart, and it recovers "
		"from what is on the disk");
}

static enum ol_status stop_unless(struct ol_ledger *ledger, enum ol_status s)
{
	if (s != OL_OK)
		ledger->stopped = true;
	return s;
}

/* Only what was posted now is logged; a retry was logged the first time. */
static bool choose_events(struct ol_ledger *ledger, struct ol_journal_record *record,
			  struct ol_batch *batch)
{
	bool anything = false;
	for (uint32_t i = 0; i < batch->postings.account_count; i++)
		anything |= batch->account_results[i] == OL_ACCOUNT_OK;
	for (uint32_t i = 0; i < batch->postings.transfer_count; i++)
		anything |= batch->transfer_results[i] == OL_POST_OK;
	record->events = ledger->events;
	record->event_count = 0;
	for (uint32_t i = 0; i < batch->event_count; i++) {
		batch->event_indexes[i] = OL_EVENT_NOT_LOGGED;
		if (!all_posted(batch->transfer_results, &batch->events[i]))
			continue;
		batch->event_indexes[i] =
			ol_journal_end(ledger->journal)->event_count + record->event_count;
		ledger->events[record->event_count++] = batch->events[i];
		anything = true;
	}
	return anything;
}

static enum ol_status check_batch(const struct ol_journal_record *whole,
				  const struct ol_batch *batch, struct ol_error *err)
{
	if (ol_journal_record_bytes(whole) == 0)
		return ol_fail(
			err, OL_ERR_INPUT,
			"a batch is over a limit: %d account changes, %d transfers, %d events "
			"of %d bytes and %d together",
			OL_BATCH_ACCOUNTS_MAX, OL_BATCH_TRANSFERS_MAX, OL_BATCH_EVENTS_MAX,
			OL_EVENT_BYTES_MAX, OL_BATCH_EVENT_BYTES_MAX);
	for (uint32_t i = 0; i < batch->event_count; i++) {
		const struct ol_event *e = &batch->events[i];
		if (e->kind == 0 || e->first_transfer > batch->postings.transfer_count ||
		    e->transfer_count > batch->postings.transfer_count - e->first_transfer)
			return ol_fail(
				err, OL_ERR_INPUT,
				"event %u of a batch has no kind, or names transfers %u to %u "
				"of %u",
				i, e->first_transfer, e->first_transfer + e->transfer_count,
				batch->postings.transfer_count);
	}
	return OL_OK;
}

enum ol_status ol_ledger_post(struct ol_ledger *ledger, struct ol_batch *batch,
			      struct ol_error *err)
{
	const struct ol_clock *clock = &ledger->options.clock;
	struct ol_journal_record record = {.postings = batch->postings,
					   .account_results = batch->account_results,
					   .transfer_results = batch->transfer_results,
					   .events = batch->events,
					   .event_count = batch->event_count};
	if (ledger->stopped)
		return fail_stopped(err);
	enum ol_status s = check_batch(&record, batch, err);
	if (s != OL_OK)
		return s;
	/* A clock that jumps back stands still for the book. */
	record.timestamp_ms = OL_MIN(
		OL_MAX(clock->now_ms(clock->self), ol_book_now_ms(ledger->book)), OL_TIME_MS_MAX);
	ol_book_advance(ledger->book, record.timestamp_ms);
	s = ol_book_admit(ledger->book, &batch->postings, err);
	if (s != OL_OK)
		return s;
	/* Room in the group is made before anything happens. */
	if (!ol_journal_has_room(ledger->journal, ol_journal_record_bytes(&record))) {
		s = stop_unless(ledger, ol_journal_commit(ledger->journal, err));
		if (s != OL_OK)
			return s;
	}
	ol_book_post(ledger->book, batch->account_results, batch->transfer_results,
		     &batch->postings, record.timestamp_ms);
	batch->timestamp_ms = record.timestamp_ms;
	batch->sequence = 0;
	if (!choose_events(ledger, &record, batch))
		return OL_OK;
	s = stop_unless(ledger, ol_journal_append(ledger->journal, &record, err));
	batch->sequence = record.sequence;
	return s;
}

enum ol_status ol_ledger_commit(struct ol_ledger *ledger, struct ol_error *err)
{
	if (ledger->stopped)
		return fail_stopped(err);
	return stop_unless(ledger, ol_journal_commit(ledger->journal, err));
}

enum ol_status ol_ledger_seal(struct ol_ledger *ledger, struct ol_error *err)
{
	if (ledger->stopped)
		return fail_stopped(err);
	return stop_unless(ledger, ol_journal_seal(ledger->journal, 0, err));
}

enum ol_status ol_ledger_snapshot(struct ol_ledger *ledger, struct ol_error *err)
{
	if (ledger->stopped)
		return fail_stopped(err);
	/* The seal carries the clock of the book, so that replay finds the very state that is
	 * saved. */
	const enum ol_status s = stop_unless(
		ledger, ol_journal_seal(ledger->journal, ol_book_now_ms(ledger->book), err));
	return s == OL_OK ? ol_snapshot_write(&ledger->options.disk, ledger->book,
					      ol_journal_durable(ledger->journal), err)
			  : s;
}

/* ---- Snapshots beside ------------------------------------------------------------ */

struct beside {
	struct replay replay;
	uint64_t until, last; /* sequences */
};

static enum ol_status follow_record(void *context, const struct ol_journal_record *record,
				    struct ol_error *err)
{
	struct beside *beside = context;
	if (record->sequence > beside->until)
		return ol_fail(err, OL_ERR_CANCELLED, "far enough");
	const enum ol_status s = replay_record(&beside->replay, record, err);
	if (s == OL_OK)
		beside->last = record->sequence;
	return s;
}

enum ol_status ol_ledger_snapshot_beside(const struct ol_disk *disk,
					 const struct ol_journal_mark *durable,
					 const struct ol_book_limits *limits, uint64_t secret,
					 struct ol_error *err)
{
	struct ol_journal_mark from;
	struct beside *beside = calloc(1, sizeof *beside);
	if (!beside)
		return ol_fail(err, OL_ERR_FULL, "out of memory while writing a snapshot");
	enum ol_status s =
		ol_snapshot_load(disk, &beside->replay.book, &from, NULL, limits, secret, err);
	if (s == OL_OK && from.sequence < durable->sequence) {
		beside->until = durable->sequence;
		s = ol_journal_read(disk, NULL, &from, follow_record, beside, err);
		if (s == OL_OK || s == OL_ERR_CANCELLED)
			s = beside->last == durable->sequence
				    ? ol_snapshot_write(disk, beside->replay.book, durable, err)
				    : ol_fail(err, OL_ERR_INPUT,
					      "the journal ends before record %llu",
					      (unsigned long long)durable->sequence);
	}
	ol_book_close(beside->replay.book);
	free(beside);
	return s;
}

/* ---- Check ------------------------------------------------------------ */

enum { CLAIMS_MAX = 16 };

struct check {
	struct replay replay;
	struct ol_snapshot_claim claims[CLAIMS_MAX];
	size_t claim_count;
	uint32_t compared;
	bool sums;
};

static enum ol_status compare_claims(struct check *check, const struct ol_journal_record *record,
				     struct ol_error *err)
{
	uint8_t digest[32];
	for (size_t i = 0; i < check->claim_count; i++) {
		const struct ol_snapshot_claim *claim = &check->claims[i];
		if (claim->covers.sequence != record->sequence)
			continue;
		const enum ol_status s = ol_book_digest(check->replay.book, digest, err);
		if (s != OL_OK)
			return s;
		if (memcmp(digest, claim->book, sizeof digest) != 0 ||
		    memcmp(record->hash, claim->covers.hash, sizeof record->hash) != 0)
			return ol_fail(err, OL_ERR_INPUT,
				       "the snapshot of record %llu is not what the journal gives: "
				       "delete it",
				       (unsigned long long)record->sequence);
		check->compared++;
	}
	return OL_OK;
}

static enum ol_status check_record(void *context, const struct ol_journal_record *record,
				   struct ol_error *err)
{
	struct check *check = context;
	enum ol_status s = replay_record(&check->replay, record, err);
	if (s == OL_OK && check->sums)
		s = ol_book_check(check->replay.book, err);
	return s == OL_OK ? compare_claims(check, record, err) : s;
}

enum ol_status ol_ledger_check(const struct ol_disk *disk, struct ol_ledger_report *report_out,
			       const struct ol_book_limits *limits, uint64_t secret, bool sums,
			       struct ol_error *err)
{
	struct ol_ledger_report report = {0};
	struct check *check = calloc(1, sizeof *check);
	if (!check)
		return ol_fail(err, OL_ERR_FULL, "out of memory while checking the ledger");
	check->sums = sums;
	enum ol_status s = ol_snapshot_claims(disk, check->claims, CLAIMS_MAX, &check->claim_count,
					      &report.bad_snapshots, err);
	if (s == OL_OK)
		s = ol_book_open(&check->replay.book, limits, secret, err);
	if (s == OL_OK)
		s = ol_journal_verify(disk, &report.end, check_record, check, err);
	if (s == OL_OK)
		s = ol_book_check(check->replay.book, err);
	if (s == OL_OK)
		s = ol_book_digest(check->replay.book, report.book, err);
	if (s == OL_OK && check->compared < check->claim_count)
		s = ol_fail(err, OL_ERR_INPUT,
			    "a snapshot covers records that the journal does not have: restore the "
			    "journal from a backup");
	if (s == OL_OK) {
		report.records = check->replay.records;
		report.transfers = check->replay.transfers;
		report.events = check->replay.events;
		report.accounts = ol_book_account_count(check->replay.book);
		report.snapshots = check->compared;
		*report_out = report;
	}
	ol_book_close(check->replay.book);
	free(check);
	return s;
}
