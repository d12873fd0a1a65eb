/* Reading a journal: every record is checked in full before anybody sees it, and what is not whole
 * is told apart: damage, or a write that never ended. */
#include "ledger/journal_inside.h"

#include "base/arena.h"
#include "crypto/sha256.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Hashes and names ------------------------------------------------------------ */

void journal_segment_name(char name[OL_DISK_NAME_MAX], uint64_t base)
{
	snprintf(name, OL_DISK_NAME_MAX, "%016llx.journal", (unsigned long long)base);
}

bool journal_record_hash(uint8_t out[OL_JOURNAL_HASH_BYTES], const void *record, uint32_t length)
{
	const uint8_t *bytes = record;
	struct ol_sha256 hash;
	if (!ol_sha256_init(&hash))
		return false;
	ol_sha256_update(&hash, bytes, offsetof(struct record_header, hash));
	ol_sha256_update(&hash, bytes + sizeof(struct record_header),
			 length - sizeof(struct record_header));
	ol_sha256_final(&hash, out);
	return true;
}

void journal_segment_hash(uint8_t out[OL_JOURNAL_HASH_BYTES], const struct segment_header *header)
{
	struct segment_header plain = *header;
	memset(plain.hash, 0, sizeof plain.hash);
	ol_sha256(out, &plain, sizeof plain);
}

/* ---- The list of segments ------------------------------------------------------------ */

struct segments {
	uint64_t *bases; /* ascending */
	size_t count, room;
	bool failed;
};

static bool base_of_name(uint64_t *base_out, const char *name)
{
	char again[OL_DISK_NAME_MAX];
	char *end;
	*base_out = strtoull(name, &end, 16);
	journal_segment_name(again, *base_out);
	return strcmp(name, again) == 0;
}

static void add_segment(void *context, const char *name)
{
	struct segments *list = context;
	uint64_t base;
	if (!base_of_name(&base, name))
		return;
	if (list->count == list->room) {
		const size_t room = list->room ? 2 * list->room : 16;
		uint64_t *bases = realloc(list->bases, room * sizeof *bases);
		if (!bases) {
			list->failed = true;
			return;
		}
		list->bases = bases;
		list->room = room;
	}
	list->bases[list->count++] = base;
}

static int compare_bases(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* ---- The reader ------------------------------------------------------------ */

enum { WINDOW_MAX = OL_RECORD_BYTES_MAX + (1 << 20), WINDOW_FIRST = 1 << 16 };

struct reader {
	const struct ol_disk *disk;
	struct segments segments;
	size_t current; /* of segments */
	int file;
	uint64_t file_size;
	char name[OL_DISK_NAME_MAX];
	uint8_t *window; /* file bytes [window_at, window_at + window_size) */
	size_t window_room, window_size, ahead;
	uint64_t window_at;
	struct ol_event *events;
	size_t event_room;
	uint64_t group; /* of the last record; 0: not known */
	struct journal_scan *scan;
	bool check_mark; /* the next record is the one that `from` names */
	enum journal_purpose purpose;
	bool again; /* the record at the mark was read twice        */
};

static void reader_release(struct reader *r)
{
	if (r->file >= 0)
		r->disk->close(r->disk->self, r->file);
	ol_block_free(r->window, r->window_room);
	free(r->segments.bases);
	free(r->events);
}

/* Bytes of the file from offset, as many as wanted or as there are. NULL: an error. What is read
 * ahead doubles, so that a reader who wants the last few records does not read for nothing. */
static const uint8_t *look(struct reader *r, size_t *got_out, uint64_t offset, size_t wanted,
			   struct ol_error *err)
{
	if (offset < r->window_at || offset + wanted > r->window_at + r->window_size) {
		const size_t size = OL_MIN(OL_MAX(r->ahead, wanted), r->window_room);
		r->ahead = OL_MIN(2 * size, r->window_room);
		r->window_at = offset;
		r->window_size = 0;
		if (r->disk->read(r->disk->self, r->file, &r->window_size, r->window, size, offset,
				  err) != OL_OK) {
			r->window_size = 0;
			return NULL;
		}
	}
	const size_t have = (size_t)(r->window_at + r->window_size - offset);
	*got_out = OL_MIN(have, wanted);
	return r->window + (offset - r->window_at);
}

static enum ol_status fail_damage(struct ol_error *err, const struct reader *r, uint64_t offset,
				  const char *what)
{
	return ol_fail(err, OL_ERR_INPUT,
		       "the journal is damaged: record %llu in %s at byte %llu %s. Nothing was "
		       "changed; restore this file from a backup",
		       (unsigned long long)r->scan->mark.sequence + (r->check_mark ? 0 : 1),
		       r->name, (unsigned long long)offset, what);
}

/* ---- One record ------------------------------------------------------------ */

static uint64_t content_bytes(uint64_t accounts, uint64_t transfers, uint64_t events,
			      uint64_t event_bytes)
{
	return sizeof(struct record_header) + accounts * (sizeof(struct ol_account_op) + 1) +
	       transfers * (sizeof(struct ol_transfer) + 1) + events * sizeof(struct event_entry) +
	       event_bytes;
}

uint32_t ol_journal_record_bytes(const struct ol_journal_record *record)
{
	uint64_t event_bytes = 0;
	if (record->postings.account_count > OL_BATCH_ACCOUNTS_MAX ||
	    record->postings.transfer_count > OL_BATCH_TRANSFERS_MAX ||
	    record->event_count > OL_BATCH_EVENTS_MAX)
		return 0;
	for (uint32_t i = 0; i < record->event_count; i++) {
		if (record->events[i].size > OL_EVENT_BYTES_MAX)
			return 0;
		event_bytes += record->events[i].size;
	}
	if (event_bytes > OL_BATCH_EVENT_BYTES_MAX)
		return 0;
	const uint64_t bytes =
		content_bytes(record->postings.account_count, record->postings.transfer_count,
			      record->event_count, event_bytes);
	return (uint32_t)((bytes + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN);
}

/* Whole in itself: its hash is right and it belongs to this journal. size: bytes there are. */
static bool is_whole(const struct reader *r, const uint8_t *bytes, size_t size)
{
	struct record_header h;
	uint8_t hash[OL_JOURNAL_HASH_BYTES];
	if (size < sizeof h)
		return false;
	memcpy(&h, bytes, sizeof h);
	if (memcmp(h.magic, RECORD_MAGIC, sizeof h.magic) != 0 || h.length < sizeof h ||
	    h.length % RECORD_ALIGN != 0 || h.length > size)
		return false;
	if (OL_MUTANT(MUTANT_CHECKSUM_OFF))
		return true;
	return memcmp(h.journal, r->scan->mark.id, sizeof h.journal) == 0 &&
	       journal_record_hash(hash, bytes, h.length) && memcmp(hash, h.hash, sizeof hash) == 0;
}

/* Does it follow the last one? NULL, or what is wrong. Its hash is right. */
static const char *why_not_next(const struct reader *r, const struct record_header *h,
				uint64_t position)
{
	const struct ol_journal_mark *mark = &r->scan->mark;
	const uint64_t content =
		content_bytes(h->accounts, h->transfers, h->events, h->event_bytes);
	if (h->version != RECORD_VERSION)
		return "is of a version that this program does not know";
	if (h->sequence != mark->sequence + 1 || h->position != position)
		return "belongs elsewhere";
	if (!OL_MUTANT(MUTANT_CHAIN_OFF) &&
	    memcmp(h->previous, mark->hash, sizeof h->previous) != 0)
		return "does not continue the chain of hashes";
	if (h->kind == RECORD_SEAL ? content != sizeof *h : h->kind != RECORD_BATCH)
		return "is of an unknown kind";
	if (h->accounts > OL_BATCH_ACCOUNTS_MAX || h->transfers > OL_BATCH_TRANSFERS_MAX ||
	    h->events > OL_BATCH_EVENTS_MAX || h->event_bytes > OL_BATCH_EVENT_BYTES_MAX ||
	    content > h->length || h->length - content >= OL_JOURNAL_BLOCK + RECORD_ALIGN)
		return "has counts that do not fit its length";
	if (h->timestamp_ms < mark->timestamp_ms || h->timestamp_ms > OL_TIME_MS_MAX)
		return "is older than the one before it";
	if (h->event_index != mark->event_count || h->zero != 0)
		return "counts its events wrongly";
	if (h->group == 0 || h->group > h->sequence)
		return "belongs to a group that cannot be";
	if (h->group != h->sequence && r->group != 0 && h->group != r->group)
		return "belongs to a group that has ended";
	return NULL;
}

/* Fills the caller's view from a whole record. NULL, or what is wrong with its events. */
static const char *read_content(struct reader *r, struct ol_journal_record *record,
				const struct record_header *h, const uint8_t *bytes)
{
	const uint8_t *at = bytes + sizeof *h;
	if (h->events > r->event_room) {
		struct ol_event *events = realloc(r->events, h->events * sizeof *events);
		if (!events)
			return "does not fit the memory of this machine";
		r->events = events;
		r->event_room = h->events;
	}
	*record = (struct ol_journal_record){.sequence = h->sequence,
					     .timestamp_ms = h->timestamp_ms,
					     .position = h->position,
					     .event_index = h->event_index,
					     .events = r->events,
					     .event_count = h->events,
					     .seal = h->kind == RECORD_SEAL};
	memcpy(record->hash, h->hash, sizeof record->hash);
	record->postings.accounts = (const struct ol_account_op *)(const void *)at;
	record->postings.account_count = h->accounts;
	at += h->accounts * sizeof(struct ol_account_op);
	record->postings.transfers = (const struct ol_transfer *)(const void *)at;
	record->postings.transfer_count = h->transfers;
	at += h->transfers * sizeof(struct ol_transfer);
	const uint8_t *entries = at;
	at += h->events * sizeof(struct event_entry);
	record->account_results = at;
	record->transfer_results = at + h->accounts;
	at += h->accounts + h->transfers;
	uint64_t left = h->event_bytes;
	for (uint32_t i = 0; i < h->events; i++) {
		struct event_entry e;
		memcpy(&e, entries + i * sizeof e, sizeof e);
		if (e.size > OL_EVENT_BYTES_MAX || e.size > left || e.zero != 0 ||
		    e.first_transfer > h->transfers ||
		    e.transfer_count > h->transfers - e.first_transfer)
			return "has an event that lies outside";
		r->events[i] =
			(struct ol_event){at, e.size, e.kind, e.first_transfer, e.transfer_count};
		at += e.size;
		left -= e.size;
	}
	return left == 0 ? NULL : "has bytes that belong to no event";
}

/* ---- What is not whole ------------------------------------------------------------ */

/* Is there, anywhere behind offset, a whole record of a group that began after the record which is
 * missing here? Then that one was durable once. Also finds the end of what is not zero. */
static enum ol_status search_later(struct reader *r, bool *found_out, uint64_t *dirty_out,
				   uint64_t offset, uint64_t sequence, struct ol_error *err)
{
	uint64_t end = offset;
	*found_out = false;
	for (uint64_t at = offset; at < r->file_size && !*found_out;) {
		size_t got = 0;
		/* As much as the window holds, so that a whole record fits behind a candidate. */
		const uint8_t *bytes = look(r, &got, at, sizeof(struct record_header), err);
		if (!bytes)
			return err ? err->status : OL_ERR_IO;
		if (got == 0)
			break;
		const size_t step = OL_MIN(got, RECORD_ALIGN);
		for (size_t i = 0; i < step; i++)
			if (bytes[i] != 0)
				end = at + i + 1;
		if (got >= sizeof(struct record_header) && memcmp(bytes, RECORD_MAGIC, 8) == 0) {
			struct record_header h;
			memcpy(&h, bytes, sizeof h);
			bytes = look(r, &got, at, OL_MIN(h.length, OL_RECORD_BYTES_MAX), err);
			if (!bytes)
				return err ? err->status : OL_ERR_IO;
			*found_out = h.group > sequence && is_whole(r, bytes, got);
		}
		at += step;
	}
	*dirty_out = end - offset;
	return OL_OK;
}

/* ---- Walking ------------------------------------------------------------ */

/* Room for the whole segment, or for the largest record and more. */
static bool fit_window(struct reader *r)
{
	const size_t room = (size_t)OL_MIN(OL_MAX(r->file_size, SEGMENT_HEADER), WINDOW_MAX);
	if (room <= r->window_room)
		return true;
	ol_block_free(r->window, r->window_room);
	r->window = ol_block_alloc(room);
	r->window_room = r->window ? room : 0;
	return r->window != NULL;
}

static enum ol_status open_segment(struct reader *r, size_t index, bool from_its_start,
				   struct ol_error *err)
{
	const struct ol_journal_mark *mark = &r->scan->mark;
	struct segment_header header;
	uint8_t hash[OL_JOURNAL_HASH_BYTES];
	size_t got = 0;
	if (r->file >= 0)
		r->disk->close(r->disk->self, r->file);
	r->file = -1;
	r->current = index;
	r->window_size = 0;
	journal_segment_name(r->name, r->segments.bases[index]);
	enum ol_status s = r->disk->open(r->disk->self, &r->file, r->name, OL_DISK_READ, err);
	if (s == OL_OK && r->purpose == JOURNAL_RECOVER && index + 1 == r->segments.count &&
	    !OL_MUTANT(MUTANT_NO_SETTLE))
		s = r->disk->settle(r->disk->self, r->file, err);
	if (s == OL_OK)
		s = r->disk->size(r->disk->self, r->file, &r->file_size, err);
	if (s == OL_OK)
		s = r->disk->read(r->disk->self, r->file, &got, &header, sizeof header, 0, err);
	if (s == OL_OK && !fit_window(r))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while reading the journal");
	if (s != OL_OK)
		return s;
	if (got < sizeof header || memcmp(header.magic, SEGMENT_MAGIC, 8) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is not a journal segment: restore it from a backup", r->name);
	journal_segment_hash(hash, &header);
	if (!OL_MUTANT(MUTANT_CHECKSUM_OFF) && memcmp(hash, header.hash, sizeof hash) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the journal is damaged: the header of %s. Nothing was changed; "
			       "restore this file from a backup",
			       r->name);
	if (header.version != SEGMENT_VERSION)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s is of version %u; this program knows %d", r->name,
			       header.version, SEGMENT_VERSION);
	if (index == 0 && from_its_start)
		memcpy(r->scan->mark.id, header.journal, sizeof header.journal);
	if (header.base != r->segments.bases[index] ||
	    memcmp(header.journal, mark->id, sizeof header.journal) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s belongs to another journal: put the right file back", r->name);
	if (from_its_start && (header.first_sequence != mark->sequence + 1 ||
			       header.first_event != mark->event_count ||
			       (!OL_MUTANT(MUTANT_CHAIN_OFF) &&
				memcmp(header.previous, mark->hash, sizeof mark->hash) != 0)))
		return ol_fail(err, OL_ERR_INPUT,
			       "the journal is damaged: %s does not go on where record %llu "
			       "ended. Restore the segments from a backup",
			       r->name, (unsigned long long)mark->sequence);
	r->scan->base = header.base;
	return OL_OK;
}

static enum ol_status bad_record(struct reader *r, bool *again_out, uint64_t offset,
				 struct ol_error *err)
{
	bool durable = false;
	enum ol_status s = OL_OK;
	if (r->check_mark || r->current + 1 < r->segments.count)
		durable = true;
	else
		s = search_later(r, &durable, &r->scan->dirty, offset, r->scan->mark.sequence + 1,
				 err);
	if (s != OL_OK || !durable)
		return s;
	if (r->again)
		return fail_damage(err, r, offset, "is not whole, and later ones are");
	/* Beside a running writer, it may have become whole between two looks. */
	r->window_size = 0;
	r->again = *again_out = true;
	return OL_OK;
}

static bool is_empty(const uint8_t *bytes, size_t size)
{
	uint8_t any = 0;
	for (size_t i = 0; i < OL_MIN(size, sizeof(struct record_header)); i++)
		any |= bytes[i];
	return any == 0;
}

/* Takes the record at the mark. *more_out false: the journal ends here. */
static enum ol_status step(struct reader *r, bool *more_out, ol_journal_visit *visit, void *context,
			   struct ol_error *err)
{
	struct ol_journal_mark *mark = &r->scan->mark;
	const uint64_t offset = mark->position - r->scan->base + SEGMENT_HEADER;
	struct record_header h = {.length = 0};
	struct ol_journal_record record;
	size_t got = 0;
	*more_out = false;
	const uint8_t *bytes = look(r, &got, offset, sizeof h, err);
	if (!bytes)
		return err ? err->status : OL_ERR_IO;
	if (got >= sizeof h) {
		memcpy(&h, bytes, sizeof h);
		if (h.length > sizeof h && h.length <= OL_RECORD_BYTES_MAX)
			bytes = look(r, &got, offset, h.length, err);
		if (!bytes)
			return err ? err->status : OL_ERR_IO;
	}
	/* Who only reads need not know what lies behind the end of a segment that is being
	 * filled. */
	if (r->purpose == JOURNAL_FOLLOW && !r->check_mark && r->current + 1 == r->segments.count &&
	    is_empty(bytes, got))
		return OL_OK;
	if (!is_whole(r, bytes, got))
		return bad_record(r, more_out, offset, err);
	const char *why = why_not_next(r, &h, mark->position);
	if (!why)
		why = read_content(r, &record, &h, bytes);
	if (why)
		return fail_damage(err, r, offset, why);
	if (r->check_mark)
		r->check_mark = false;
	else if (visit) {
		const enum ol_status s = visit(context, &record, err);
		if (s != OL_OK)
			return s;
	}
	mark->sequence = h.sequence;
	mark->last = h.position;
	mark->position = h.position + h.length;
	mark->timestamp_ms = h.timestamp_ms;
	mark->event_count = h.event_index + h.events;
	memcpy(mark->hash, h.hash, sizeof mark->hash);
	r->group = h.group;
	r->again = false;
	r->scan->sealed = record.seal;
	*more_out = true;
	return OL_OK;
}

static enum ol_status walk(struct reader *r, ol_journal_visit *visit, void *context,
			   struct ol_error *err)
{
	for (;;) {
		const bool last = r->current + 1 == r->segments.count;
		const uint64_t offset = r->scan->mark.position - r->scan->base + SEGMENT_HEADER;
		bool more = true;
		enum ol_status s = OL_OK;
		if (!last && r->scan->mark.position == r->segments.bases[r->current + 1]) {
			if (offset != r->file_size)
				return fail_damage(err, r, offset, "has bytes behind it");
			s = open_segment(r, r->current + 1, true, err);
		} else {
			s = step(r, &more, visit, context, err);
		}
		if (s != OL_OK || !more)
			return s;
	}
}

/* The last segment that begins at or before the record which `from` names. */
static size_t segment_of(const struct segments *list, uint64_t position)
{
	size_t index = 0;
	while (index + 1 < list->count && list->bases[index + 1] <= position)
		index++;
	return index;
}

static enum ol_status start(struct reader *r, const struct ol_journal_mark *from,
			    struct ol_error *err)
{
	struct ol_journal_mark *mark = &r->scan->mark;
	if (!from || from->sequence == 0)
		return open_segment(r, 0, true, err);
	/* Stand before the record that `from` names, and expect exactly that one. */
	memcpy(mark->id, from->id, sizeof mark->id);
	const enum ol_status s = open_segment(r, segment_of(&r->segments, from->last), false, err);
	if (s != OL_OK)
		return s;
	const uint64_t offset = from->last - r->scan->base + SEGMENT_HEADER;
	struct record_header h = {.length = 0};
	size_t got = 0;
	const uint8_t *bytes = look(r, &got, offset, sizeof h, err);
	if (!bytes)
		return err ? err->status : OL_ERR_IO;
	if (got == sizeof h)
		memcpy(&h, bytes, sizeof h);
	if (got < sizeof h || memcmp(h.hash, from->hash, sizeof h.hash) != 0 ||
	    h.sequence != from->sequence)
		return ol_fail(err, OL_ERR_INPUT,
			       "the journal does not hold record %llu, which a snapshot covers (%s "
			       "at byte %llu): records are missing. Restore the journal from a "
			       "backup",
			       (unsigned long long)from->sequence, r->name,
			       (unsigned long long)offset);
	mark->sequence = from->sequence - 1;
	mark->position = from->last;
	mark->timestamp_ms = 0;
	mark->event_count = h.event_index;
	memcpy(mark->hash, h.previous, sizeof mark->hash);
	r->check_mark = true;
	return OL_OK;
}

static enum ol_status list_segments(struct reader *r, struct ol_error *err)
{
	const enum ol_status s = r->disk->list(r->disk->self, add_segment, &r->segments, err);
	if (s != OL_OK)
		return s;
	if (r->segments.failed)
		return ol_fail(err, OL_ERR_FULL, "out of memory while listing the journal");
	if (r->segments.count == 0)
		return ol_fail(err, OL_ERR_NOT_FOUND, "there is no journal in this folder");
	qsort(r->segments.bases, r->segments.count, sizeof *r->segments.bases, compare_bases);
	if (r->segments.bases[0] != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the first segment of the journal is missing: restore it from a "
			       "backup");
	return OL_OK;
}

enum ol_status journal_scan(struct journal_scan *scan, const struct ol_disk *disk,
			    enum journal_purpose purpose, const struct ol_journal_mark *from,
			    ol_journal_visit *visit, void *context, struct ol_error *err)
{
	struct ol_error unheard;
	struct reader r = {
		.disk = disk, .file = -1, .scan = scan, .purpose = purpose, .ahead = WINDOW_FIRST};
	if (!err)
		err = &unheard; /* look() reports through it */
	*scan = (struct journal_scan){0};
	r.window = ol_block_alloc(r.window_room);
	enum ol_status s =
		r.window ? OL_OK
			 : ol_fail(err, OL_ERR_FULL, "out of memory while reading the journal");
	if (s == OL_OK)
		s = list_segments(&r, err);
	if (s == OL_OK)
		s = start(&r, from, err);
	if (s == OL_OK)
		s = walk(&r, visit, context, err);
	reader_release(&r);
	return s;
}

enum ol_status ol_journal_read(const struct ol_disk *disk, struct ol_journal_mark *mark_out,
			       const struct ol_journal_mark *from, ol_journal_visit *visit,
			       void *context, struct ol_error *err)
{
	struct journal_scan scan;
	const enum ol_status s =
		journal_scan(&scan, disk, JOURNAL_FOLLOW, from, visit, context, err);
	if (s == OL_OK && mark_out)
		*mark_out = scan.mark;
	return s;
}

enum ol_status ol_journal_verify(const struct ol_disk *disk, struct ol_journal_mark *mark_out,
				 ol_journal_visit *visit, void *context, struct ol_error *err)
{
	struct journal_scan scan;
	const enum ol_status s =
		journal_scan(&scan, disk, JOURNAL_VERIFY, NULL, visit, context, err);
	if (s == OL_OK && mark_out)
		*mark_out = scan.mark;
	return s;
}
