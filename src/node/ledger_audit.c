#include "node/ledger_audit.h"

#include "crypto/ed25519.h"
#include "ledger/key_event.h"
#include "ledger/receipt.h"
#include "node/epoch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RECEIPTS_STEP = 64, KEYS_MAX = 256 };

const char *ol_audit_row_name(enum ol_audit_row row)
{
	switch (row) {
	case OL_AUDIT_JOURNAL: return "journal";
	case OL_AUDIT_BOOK: return "book";
	case OL_AUDIT_SNAPSHOTS: return "snapshots";
	case OL_AUDIT_INDEX: return "index";
	case OL_AUDIT_RECEIPTS: return "receipts";
	case OL_AUDIT_LOG: return "public log";
	case OL_AUDIT_ROWS: break;
	}
	OL_UNREACHABLE();
}

bool ol_ledger_audit_holds(const struct ol_ledger_audit *audit)
{
	bool holds = true;
	for (int i = 0; i < OL_AUDIT_ROWS; i++)
		holds = holds && audit->rows[i].outcome == OL_AUDIT_OK;
	return holds;
}

#define SAY(audit, row, what, ...)                                                                 \
	do {                                                                                       \
		struct ol_audit_finding *finding_ = &(audit)->rows[row];                           \
		finding_->outcome = (what);                                                        \
		snprintf(finding_->text, sizeof finding_->text, __VA_ARGS__);                      \
	} while (0)

/* A wrong ledger is a finding; a machine that cannot look is an error. */
static enum ol_status found(struct ol_ledger_audit *audit, enum ol_audit_row row, enum ol_status s,
			    const struct ol_error *why, struct ol_error *err)
{
	if (s != OL_ERR_INPUT && s != OL_ERR_UNSUPPORTED && s != OL_ERR_NOT_FOUND)
		return ol_fail(err, s, "%s", why->text);
	SAY(audit, row, OL_AUDIT_NOT_OK, "%s", why->text);
	return OL_OK;
}

/* ---- Journal, book, snapshots ------------------------------------------------------------ */

static enum ol_status audit_journal(struct ol_ledger_audit *audit, const struct ol_disk *disk,
				    const struct ol_book_limits *limits, struct ol_error *err)
{
	const struct ol_ledger_report *r = &audit->report;
	struct ol_error why = {0};
	char digest[17];
	const enum ol_status s = ol_ledger_check(disk, &audit->report, limits,
						 ol_random_u64(&ol_random_system), false, &why);
	if (s == OL_ERR_NOT_FOUND)
		return ol_fail(err, s, "%s", why.text);
	if (s != OL_OK)
		return found(audit, OL_AUDIT_JOURNAL, s, &why, err);
	for (int i = 0; i < 8; i++)
		snprintf(digest + 2 * i, 3, "%02x", r->book[i]);
	SAY(audit, OL_AUDIT_JOURNAL, OL_AUDIT_OK,
	    "%" PRIu64 " records, %" PRIu64 " transfers, %" PRIu64
	    " events: every hash and every answer",
	    r->records, r->transfers, r->events);
	SAY(audit, OL_AUDIT_BOOK, OL_AUDIT_OK, "%u accounts, debits equal credits, digest %s…",
	    r->accounts, digest);
	if (r->bad_snapshots > 0)
		SAY(audit, OL_AUDIT_SNAPSHOTS, OL_AUDIT_NOT_OK,
		    "%u of %u cannot be read: delete them, the next start takes longer",
		    r->bad_snapshots, r->snapshots + r->bad_snapshots);
	else if (r->snapshots == 0)
		SAY(audit, OL_AUDIT_SNAPSHOTS, OL_AUDIT_OK, "none yet");
	else
		SAY(audit, OL_AUDIT_SNAPSHOTS, OL_AUDIT_OK, "%u, each the book at its place",
		    r->snapshots);
	return OL_OK;
}

/* ---- Index ------------------------------------------------------------ */

/* Up to its position the index must be the one that is made anew; what is behind it is its lag. */
static enum ol_status compare_index(struct ol_ledger_audit *audit, struct ol_ledger_index *index,
				    struct ol_ledger_index *fresh, const struct ol_disk *disk,
				    struct ol_error *err)
{
	uint8_t is[32], should_be[32];
	struct ol_journal_mark mark;
	struct ol_ledger_index_sums sums, all;
	enum ol_status s = ol_ledger_index_digest(index, is, &mark, err);
	if (s == OL_OK && mark.sequence > 0)
		s = ol_ledger_index_catch_up(fresh, disk, &mark, err);
	if (s == OL_OK)
		s = ol_ledger_index_digest(fresh, should_be, NULL, err);
	if (s == OL_OK)
		s = ol_ledger_index_sums(fresh, &sums, err);
	if (s == OL_OK)
		s = ol_ledger_index_catch_up(fresh, disk, NULL, err);
	if (s == OL_OK)
		s = ol_ledger_index_sums(fresh, &all, err);
	if (s != OL_OK)
		return s;
	audit->indexed = mark.sequence;
	for (int i = 0; i < OL_CURRENCY_COUNT; i++)
		if (!ol_total_equal(all.debits[i], all.credits[i]))
			return ol_fail(err, OL_ERR_INPUT,
				       "its transfers do not add up: debits are not credits");
	if (memcmp(is, should_be, sizeof is) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "it is not what the journal gives: openledger ledger rebuild");
	SAY(audit, OL_AUDIT_INDEX, OL_AUDIT_OK,
	    "%" PRIu64 " transfers and %" PRIu64 " events, as one made anew; behind: %" PRIu64
	    " and %" PRIu64,
	    sums.transfers, sums.events, all.transfers - sums.transfers, all.events - sums.events);
	return OL_OK;
}

static enum ol_status audit_index(struct ol_ledger_audit *audit, const struct ol_ledger_home *paths,
				  struct ol_ledger_index *fresh, const struct ol_disk *disk,
				  struct ol_error *err)
{
	struct ol_ledger_index *index = NULL;
	struct ol_error why = {0};
	enum ol_status s = ol_ledger_index_open_read_only(&index, paths->index, &why);
	if (s == OL_ERR_NOT_FOUND)
		SAY(audit, OL_AUDIT_INDEX, OL_AUDIT_NOT_OK,
		    "there is none: openledger ledger rebuild");
	else if (s == OL_OK)
		s = compare_index(audit, index, fresh, disk, &why);
	ol_ledger_index_close(index);
	return s == OL_OK || s == OL_ERR_NOT_FOUND ? OL_OK
						   : found(audit, OL_AUDIT_INDEX, s, &why, err);
}

/* ---- Receipts ------------------------------------------------------------ */

/* Receipts of one step: the index must not be asked while it is walked. */
struct page {
	struct {
		struct ol_indexed_event event;
		uint8_t bytes[OL_RECEIPT_MAX];
	} receipts[RECEIPTS_STEP];
	uint32_t count;
	uint64_t next;
	bool full;
};

static bool collect(void *context, const struct ol_indexed_event *event)
{
	struct page *page = context;
	if (page->count == RECEIPTS_STEP)
		return false;
	page->next = event->index + 1;
	if (event->kind != OL_EVENT_RECEIPT)
		return true;
	page->receipts[page->count].event = *event;
	memcpy(page->receipts[page->count].bytes, event->bytes,
	       OL_MIN(event->size, (uint32_t)OL_RECEIPT_MAX));
	page->count++;
	return true;
}

struct paid {
	const struct ol_indexed_event *event;
	const struct ol_receipt *receipt;
	const struct ol_receipt_part *parts;
	uint32_t parts_paid;
	bool price_paid;
	const char *fault;
};

static bool same_key(const struct ol_account_key *a, const struct ol_account_key *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/* Every transfer of a receipt is its price, or one of its parts. */
static bool match_transfer(void *context, const struct ol_indexed_transfer *indexed)
{
	struct paid *paid = context;
	const struct ol_transfer *t = &indexed->transfer;
	if (indexed->event_index != paid->event->index ||
	    memcmp(t->user_data, paid->event->id, sizeof t->user_data) != 0)
		paid->fault = "one of its transfers is another event's";
	if (t->flags & (OL_TRANSFER_POST | OL_TRANSFER_VOID)) {
		if (paid->price_paid || !ol_id_equal(t->pending_id, paid->receipt->reservation) ||
		    t->amount.nano != paid->receipt->price.nano)
			paid->fault = "its price was not paid as it says";
		paid->price_paid = true;
		return !paid->fault;
	}
	for (uint32_t i = 0; i < paid->receipt->parts; i++) {
		const struct ol_receipt_part *part = &paid->parts[i];
		if (!ol_id_equal(part->transfer, t->id))
			continue;
		if (part->amount.nano != t->amount.nano || !same_key(&part->account, &t->credit) ||
		    t->flags & OL_TRANSFER_PENDING)
			paid->fault = "a part was not paid as it says";
		paid->parts_paid++;
		return !paid->fault;
	}
	paid->fault = "one of its transfers is none of its parts";
	return false;
}

/* The keys that this log has had: its own, and those that key events name. None: not known. */
struct keys {
	uint8_t known[KEYS_MAX][OL_ED25519_PUBLIC_BYTES];
	uint32_t count;
};

static bool has_key(const struct keys *keys, const uint8_t key[OL_ED25519_PUBLIC_BYTES])
{
	for (uint32_t i = 0; i < keys->count; i++)
		if (memcmp(keys->known[i], key, OL_ED25519_PUBLIC_BYTES) == 0)
			return true;
	return false;
}

static void add_key(struct keys *keys, const uint8_t key[OL_ED25519_PUBLIC_BYTES])
{
	if (keys->count < KEYS_MAX && !has_key(keys, key))
		memcpy(keys->known[keys->count++], key, OL_ED25519_PUBLIC_BYTES);
}

static bool collect_keys(void *context, const struct ol_indexed_event *event)
{
	struct ol_key_event key;
	if (event->size != sizeof key)
		return true;
	memcpy(&key, event->bytes, sizeof key);
	add_key(context, key.old_key);
	add_key(context, key.new_key);
	return true;
}

static enum ol_status find_keys(struct keys *keys, const struct ol_ledger_home *paths,
				struct ol_ledger_index *fresh, struct ol_error *err)
{
	struct ol_note_key own;
	keys->count = 0;
	if (ol_ledger_home_key(&own, paths, NULL) != OL_OK)
		return OL_OK; /* the row of the public log says why */
	add_key(keys, own.public_key);
	return ol_ledger_index_events(fresh, OL_EVENT_KEY, UINT64_MAX, KEYS_MAX, collect_keys, keys,
				      err);
}

/* NULL: the receipt is signed and was paid as it says. */
static enum ol_status check_receipt(const char **fault_out, struct ol_ledger_index *index,
				    const struct keys *keys, const struct ol_indexed_event *event,
				    const uint8_t *bytes, struct ol_error *err)
{
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	struct paid paid = {.event = event, .receipt = &receipt, .parts = parts};
	uint32_t owed = 0;
	const enum ol_receipt_fault fault =
		event->size > OL_RECEIPT_MAX ? OL_RECEIPT_SIZE
					     : ol_receipt_read(&receipt, parts, bytes, event->size);
	*fault_out = fault == OL_RECEIPT_WELL ? NULL : ol_receipt_fault_text(fault);
	if (*fault_out)
		return OL_OK;
	const size_t body = event->size - OL_SIGNATURE_BYTES;
	if (!ol_ed25519_verify(receipt.node, bytes + body, bytes, body)) {
		*fault_out = "its signature is not the node's";
		return OL_OK;
	}
	if (keys->count > 0 && !has_key(keys, receipt.node)) {
		*fault_out = "it is signed by a key that was never this log's";
		return OL_OK;
	}
	const enum ol_status s =
		ol_ledger_index_event_transfers(index, event->index, match_transfer, &paid, err);
	for (uint32_t i = 0; i < receipt.parts; i++)
		owed += !ol_amount_is_zero(parts[i].amount);
	if (s == OL_OK && !paid.fault && paid.parts_paid != owed)
		paid.fault = "not all of its parts were paid";
	if (s == OL_OK && !paid.fault && !paid.price_paid && !ol_amount_is_zero(receipt.price))
		paid.fault = "its price was not paid";
	*fault_out = paid.fault;
	return s;
}

/* Closes of one step, as receipts. */
struct closes {
	struct {
		uint64_t index;
		uint32_t size;
		uint8_t bytes[sizeof(struct ol_epoch_event)];
	} one[RECEIPTS_STEP];
	uint32_t count;
	uint64_t before;
};

static bool collect_close(void *context, const struct ol_indexed_event *event)
{
	struct closes *c = context;
	c->before = c->one[c->count].index = event->index;
	c->one[c->count].size = event->size;
	memcpy(c->one[c->count].bytes, event->bytes,
	       OL_MIN(event->size, (uint32_t)sizeof c->one[0].bytes));
	return ++c->count < RECEIPTS_STEP;
}

/* Contributors were paid by the scores of the answers. Share tables do not follow from the journal:
 * what needs one that is not here is counted, not wrong. */
static enum ol_status audit_epochs(struct ol_ledger_audit *audit,
				   const struct ol_ledger_home *paths,
				   struct ol_ledger_index *fresh, struct ol_error *err)
{
	struct closes *c = calloc(1, sizeof *c);
	struct ol_home home;
	struct ol_error why;
	const char *fault = NULL;
	uint64_t event = 0;
	if (!c)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the epochs");
	(void)snprintf(home.path, sizeof home.path, "%s", paths->folder);
	char *end = strrchr(home.path, '/'); /* HOME/ledger */
	if (end)
		*end = '\0';
	enum ol_status s = OL_OK;
	c->before = UINT64_MAX;
	do {
		c->count = 0;
		s = ol_ledger_index_events(fresh, OL_EVENT_EPOCH_CLOSE, c->before, RECEIPTS_STEP,
					   collect_close, c, err);
		for (uint32_t i = 0; s == OL_OK && !fault && i < c->count; i++) {
			event = c->one[i].index;
			s = ol_epoch_check(&fault, fresh, &home, event, c->one[i].bytes,
					   c->one[i].size, &why);
			audit->epochs += s == OL_OK;
			audit->epochs_unknown += s == OL_ERR_NOT_FOUND;
			if (s == OL_ERR_INPUT)
				fault = "one of its share tables is damaged";
			else if (s != OL_OK && s != OL_ERR_NOT_FOUND)
				(void)ol_fail(err, s, "%s", why.text);
			if (s == OL_ERR_INPUT || s == OL_ERR_NOT_FOUND)
				s = OL_OK;
		}
	} while (s == OL_OK && !fault && c->count == RECEIPTS_STEP);
	free(c);
	if (s == OL_OK && fault)
		SAY(audit, OL_AUDIT_RECEIPTS, OL_AUDIT_NOT_OK,
		    "the close of an epoch, event %" PRIu64 ": %s", event, fault);
	else if (s == OL_OK && audit->epochs + audit->epochs_unknown > 0)
		SAY(audit, OL_AUDIT_RECEIPTS, OL_AUDIT_OK,
		    "%" PRIu64 ", signed, and paid as they say; %" PRIu64
		    " pots paid out by the scores (%" PRIu64
		    " more could not be compared: their share tables are not here)",
		    audit->receipts, audit->epochs, audit->epochs_unknown);
	return s;
}

static enum ol_status audit_receipts(struct ol_ledger_audit *audit,
				     const struct ol_ledger_home *paths,
				     struct ol_ledger_index *fresh, struct ol_error *err)
{
	struct page *page = calloc(1, sizeof *page);
	struct keys keys;
	const char *fault = NULL;
	uint64_t before = UINT64_MAX, event = 0;
	if (!page)
		return ol_fail(err, OL_ERR_FULL, "out of memory for receipts");
	enum ol_status s = find_keys(&keys, paths, fresh, err);
	while (s == OL_OK && !fault && page->next != before) {
		before = page->next;
		page->count = 0;
		s = ol_ledger_index_events_from(fresh, page->next, 16 * RECEIPTS_STEP, collect,
						page, err);
		for (uint32_t i = 0; s == OL_OK && !fault && i < page->count; i++) {
			event = page->receipts[i].event.index;
			s = check_receipt(&fault, fresh, &keys, &page->receipts[i].event,
					  page->receipts[i].bytes, err);
			audit->receipts++;
		}
	}
	free(page);
	if (s == OL_OK && fault)
		SAY(audit, OL_AUDIT_RECEIPTS, OL_AUDIT_NOT_OK,
		    "the receipt of event %" PRIu64 ": %s", event, fault);
	else if (s == OL_OK)
		SAY(audit, OL_AUDIT_RECEIPTS, OL_AUDIT_OK,
		    "%" PRIu64 ", signed, and paid as they say", audit->receipts);
	return s;
}

/* ---- Public log ------------------------------------------------------------ */

/* Beside a running node the checkpoint may be exchanged while its files are compared: what is
 * compared is the one that was read before the index caught up, so that it covers all of it. */
struct frozen {
	const struct ol_log_store *store;
	struct ol_buf note;
	enum ol_status status; /* of reading it */
};

static enum ol_status frozen_fetch(void *self, struct ol_buf *out, const char *name,
				   struct ol_error *err)
{
	const struct frozen *f = self;
	if (strcmp(name, OL_CHECKPOINT_NAME) != 0)
		return f->store->source.fetch(f->store->source.self, out, name, err);
	if (f->status != OL_OK)
		return ol_fail(err, f->status, "there is no checkpoint");
	return ol_buf_append(out, f->note.data ? f->note.data : "", f->note.size)
		       ? OL_OK
		       : ol_fail(err, OL_ERR_FULL, "no room for a checkpoint");
}

static enum ol_status compare_log(struct ol_published *published, const struct ol_log_store *store,
				  const struct ol_note_key *key, struct ol_ledger_index *fresh,
				  const struct ol_disk *disk, struct ol_error *err)
{
	struct frozen frozen = {.store = store};
	const struct ol_log_store seen = {.source = {.fetch = frozen_fetch, .self = &frozen}};
	ol_buf_init(&frozen.note, OL_NOTE_BYTES_MAX);
	frozen.status =
		store->source.fetch(store->source.self, &frozen.note, OL_CHECKPOINT_NAME, err);
	enum ol_status s = frozen.status == OL_ERR_NOT_FOUND ? OL_OK : frozen.status;
	if (s == OL_OK) /* what is published was durable */
		s = ol_ledger_index_catch_up(fresh, disk, NULL, err);
	if (s == OL_OK)
		s = ol_published_check(published, &seen, key, fresh, err);
	ol_buf_release(&frozen.note);
	return s;
}

static enum ol_status audit_log(struct ol_ledger_audit *audit, const struct ol_ledger_home *paths,
				struct ol_ledger_index *fresh, const struct ol_disk *disk,
				struct ol_error *err)
{
	struct ol_log_folder *folder = NULL;
	struct ol_published published;
	struct ol_note_key key;
	struct ol_error why = {0};
	struct stat st;
	if (stat(paths->key, &st) != 0 && stat(paths->log, &st) != 0) {
		SAY(audit, OL_AUDIT_LOG, OL_AUDIT_OK, "nothing has been published");
		return OL_OK;
	}
	enum ol_status s = ol_ledger_home_key(&key, paths, &why);
	if (s == OL_OK && stat(paths->log, &st) != 0)
		s = ol_fail(&why, OL_ERR_INPUT,
			    "%s is missing: the node publishes it again when it starts",
			    paths->log);
	if (s == OL_OK)
		s = ol_log_folder_open(&folder, paths->log, &why);
	if (s == OL_OK) {
		const struct ol_log_store store = ol_log_folder_store(folder);
		s = compare_log(&published, &store, &key, fresh, disk, &why);
	}
	ol_log_folder_close(folder);
	if (s != OL_OK)
		return found(audit, OL_AUDIT_LOG, s, &why, err);
	audit->published = published.size;
	const uint64_t events = OL_MAX(audit->report.events, published.size);
	if (published.published)
		SAY(audit, OL_AUDIT_LOG, OL_AUDIT_OK,
		    "%" PRIu64 " events under the checkpoint of %s, %" PRIu64 " files; %" PRIu64
		    " events not yet",
		    published.size, key.name, published.files, events - published.size);
	else
		SAY(audit, OL_AUDIT_LOG, OL_AUDIT_OK,
		    "no checkpoint yet, %" PRIu64 " events wait for one", events);
	return OL_OK;
}

/* ---- All of it ------------------------------------------------------------ */

static enum ol_status open_disk(struct ol_disk *disk, const struct ol_ledger_home *paths,
				struct ol_error *err)
{
	struct stat st;
	if (stat(paths->folder, &st) != 0)
		return ol_fail(err, OL_ERR_NOT_FOUND,
			       "there is no ledger in %s: openledger serve begins one",
			       paths->folder);
	return ol_disk_open(disk, paths->folder, err);
}

static const struct ol_book_limits *limits_or_usual(const struct ol_book_limits *limits)
{
	static const struct ol_book_limits usual = OL_BOOKS_LIMITS;
	return limits && limits->accounts_max > 0 ? limits : &usual;
}

enum ol_status ol_ledger_audit(struct ol_ledger_audit *audit, const struct ol_ledger_home *paths,
			       const struct ol_book_limits *limits, struct ol_error *err)
{
	struct ol_ledger_index *fresh = NULL;
	struct ol_disk disk;
	memset(audit, 0, sizeof *audit);
	enum ol_status s = open_disk(&disk, paths, err);
	if (s != OL_OK)
		return s;
	for (int i = 0; i < OL_AUDIT_ROWS; i++)
		SAY(audit, i, OL_AUDIT_NOT_MADE, "not compared: the journal is the measure");
	s = audit_journal(audit, &disk, limits_or_usual(limits), err);
	if (s == OL_OK && audit->rows[OL_AUDIT_JOURNAL].outcome == OL_AUDIT_OK) {
		s = ol_ledger_index_open(&fresh, "", err);
		if (s == OL_OK)
			s = audit_index(audit, paths, fresh, &disk, err);
		if (s == OL_OK)
			s = audit_log(audit, paths, fresh, &disk, err);
		if (s == OL_OK)
			s = ol_ledger_index_catch_up(fresh, &disk, NULL, err);
		if (s == OL_OK)
			s = audit_receipts(audit, paths, fresh, err);
		if (s == OL_OK && audit->rows[OL_AUDIT_RECEIPTS].outcome == OL_AUDIT_OK)
			s = audit_epochs(audit, paths, fresh, err);
	}
	ol_ledger_index_close(fresh);
	ol_disk_close(&disk);
	return s;
}

/* ---- Again ------------------------------------------------------------ */

static enum ol_status rebuild_log(struct ol_published *published,
				  const struct ol_ledger_home *paths, struct ol_error *err)
{
	struct ol_ledger_index *index = NULL;
	struct ol_log_folder *folder = NULL;
	struct ol_note_key key;
	enum ol_status s = ol_ledger_home_key(&key, paths, err);
	*published = (struct ol_published){0};
	if (s == OL_ERR_NOT_FOUND)
		return OL_OK; /* it never published */
	if (s == OL_OK)
		s = ol_log_folder_open(&folder, paths->log, err);
	if (s == OL_OK)
		s = ol_ledger_index_open(&index, paths->index, err);
	if (s == OL_OK) {
		const struct ol_log_store store = ol_log_folder_store(folder);
		s = ol_published_rebuild(published, &store, &key, index, err);
	}
	ol_ledger_index_close(index);
	ol_log_folder_close(folder);
	return s;
}

static enum ol_status stop_here(void *context, const struct ol_journal_record *record,
				struct ol_error *err)
{
	(void)context, (void)record, (void)err;
	return OL_ERR_CANCELLED;
}

/* Opening a ledger begins one where there is none; that is not what was asked for. */
static enum ol_status find_journal(const struct ol_disk *disk, struct ol_error *err)
{
	const enum ol_status s = ol_journal_read(disk, NULL, NULL, stop_here, NULL, err);
	return s == OL_ERR_CANCELLED ? OL_OK : s;
}

enum ol_status ol_ledger_rebuild(struct ol_ledger_rebuilt *rebuilt_out,
				 const struct ol_ledger_home *paths,
				 const struct ol_book_limits *limits, struct ol_error *err)
{
	struct ol_ledger *ledger = NULL;
	struct ol_disk disk;
	enum ol_status s = open_disk(&disk, paths, err);
	if (s != OL_OK)
		return s;
	s = find_journal(&disk, err);
	/* Opening takes the lock, cuts off what was never acknowledged, and says how far it is
	 * durable. */
	const struct ol_ledger_options options = {.disk = disk,
						  .clock = ol_clock_system,
						  .random = ol_random_system,
						  .limits = *limits_or_usual(limits),
						  /* Nothing is written: no room is taken. */
						  .journal = {.segment_bytes = OL_JOURNAL_BLOCK}};
	if (s == OL_OK)
		s = ol_ledger_open(&ledger, NULL, &options, err);
	if (s == OL_OK) {
		rebuilt_out->until = *ol_ledger_durable(ledger);
		s = ol_ledger_index_rebuild(paths->index, &disk, &rebuilt_out->until, err);
	}
	if (s == OL_OK)
		s = rebuild_log(&rebuilt_out->published, paths, err);
	ol_ledger_close(ledger);
	ol_disk_close(&disk);
	return s;
}
