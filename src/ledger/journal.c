/* Writing a journal: records gather in one buffer, and one write and one sync make them durable. */
#include "ledger/journal_inside.h"

#include "base/arena.h"

#include <stdio.h>
#include <stdlib.h>

struct ol_journal {
	struct ol_disk disk;
	struct ol_journal_mark durable, end;
	uint64_t segment_bytes;
	int file;
	uint64_t base;     /* of the open segment                                   */
	uint8_t *group;    /* bytes [durable.position, end.position) and the padding */
	size_t group_room; /* OL_JOURNAL_BLOCK more than a group may have            */
	uint32_t group_max, group_used;
	uint32_t last;        /* where the last record begins; its hash is still to come */
	uint64_t group_first; /* sequence */
	bool sealed;          /* the last durable record is a seal                     */
	bool stopped;
};

static const char segment_draft[] = "segment.tmp";

/* ---- Segments ------------------------------------------------------------ */

/* Appears under its name whole or not at all. The file stays open for writing. */
static enum ol_status make_segment(const struct ol_disk *disk, int *file_out,
				   const struct ol_journal_mark *after, uint64_t now_ms,
				   uint64_t bytes, struct ol_error *err)
{
	struct segment_header header = {.version = SEGMENT_VERSION,
					.base = after->position,
					.first_sequence = after->sequence + 1,
					.first_event = after->event_count,
					.created_ms = now_ms};
	char name[OL_DISK_NAME_MAX];
	int file = -1;
	memcpy(header.magic, SEGMENT_MAGIC, sizeof header.magic);
	memcpy(header.journal, after->id, sizeof header.journal);
	memcpy(header.previous, after->hash, sizeof header.previous);
	journal_segment_hash(header.hash, &header);
	journal_segment_name(name, after->position);
	enum ol_status s = disk->open(disk->self, &file, segment_draft, OL_DISK_CREATE, err);
	if (s != OL_OK)
		return s;
	s = disk->allocate(disk->self, file, bytes, err);
	if (s == OL_OK)
		s = disk->write(disk->self, file, &header, sizeof header, 0, err);
	if (s == OL_OK)
		s = disk->sync(disk->self, file, err);
	if (s == OL_OK)
		s = disk->rename(disk->self, segment_draft, name, err);
	if (s == OL_OK)
		s = disk->sync_dir(disk->self, err);
	if (s == OL_OK)
		*file_out = file;
	else
		disk->close(disk->self, file);
	return s;
}

/* What a crash left while a segment was made. */
static enum ol_status remove_draft(const struct ol_disk *disk, struct ol_error *err)
{
	struct ol_error gone;
	int file = -1;
	const enum ol_status s = disk->open(disk->self, &file, segment_draft, OL_DISK_READ, &gone);
	if (s == OL_ERR_NOT_FOUND)
		return OL_OK;
	if (s != OL_OK) {
		if (err)
			*err = gone;
		return s;
	}
	disk->close(disk->self, file);
	return disk->remove(disk->self, segment_draft, err);
}

static void note_name(void *context, const char *name)
{
	const size_t length = strlen(name), suffix = strlen(".journal");
	if (length > suffix && strcmp(name + length - suffix, ".journal") == 0)
		*(bool *)context = true;
}

enum ol_status ol_journal_create(const struct ol_disk *disk, const uint8_t id[OL_JOURNAL_ID_BYTES],
				 uint64_t now_ms, struct ol_error *err)
{
	struct ol_journal_mark genesis = {0};
	bool any = false;
	int file = -1;
	enum ol_status s = disk->list(disk->self, note_name, &any, err);
	if (s != OL_OK)
		return s;
	if (any)
		return ol_fail(err, OL_ERR_INPUT, "there is a journal in this folder already");
	memcpy(genesis.id, id, sizeof genesis.id);
	s = remove_draft(disk, err);
	if (s == OL_OK)
		s = make_segment(disk, &file, &genesis, now_ms, SEGMENT_HEADER, err);
	if (s == OL_OK)
		disk->close(disk->self, file);
	return s;
}

/* ---- Life ------------------------------------------------------------ */

void ol_journal_close(struct ol_journal *j)
{
	if (!j)
		return;
	if (j->file >= 0)
		j->disk.close(j->disk.self, j->file);
	ol_block_free(j->group, j->group_room);
	free(j);
}

/* The old segment ends exactly where its records end, and durably so, before there is a next. */
static enum ol_status rotate(struct ol_journal *j, struct ol_error *err)
{
	const uint64_t used = j->durable.position - j->base + SEGMENT_HEADER;
	const uint64_t needed = SEGMENT_HEADER + (uint64_t)j->group_used;
	enum ol_status s = j->disk.truncate(j->disk.self, j->file, used, err);
	if (s == OL_OK)
		s = j->disk.sync(j->disk.self, j->file, err);
	if (s != OL_OK)
		return s;
	j->disk.close(j->disk.self, j->file);
	j->file = -1;
	s = make_segment(&j->disk, &j->file, &j->durable, j->end.timestamp_ms,
			 OL_MAX(j->segment_bytes, needed), err);
	if (s == OL_OK)
		j->base = j->durable.position;
	return s;
}

/* Cuts off what was never acknowledged and takes room for what comes. The cut is durable before
 * anything is written: else a piece of the lost group might stand behind a new one. */
static enum ol_status prepare(struct ol_journal *j, uint64_t dirty, struct ol_error *err)
{
	const uint64_t used = j->end.position - j->base + SEGMENT_HEADER;
	char name[OL_DISK_NAME_MAX];
	uint64_t size = 0;
	journal_segment_name(name, j->base);
	enum ol_status s = j->disk.open(j->disk.self, &j->file, name, OL_DISK_WRITE, err);
	if (s == OL_OK && dirty > 0) {
		s = j->disk.truncate(j->disk.self, j->file, used, err);
		if (s == OL_OK)
			s = j->disk.sync(j->disk.self, j->file, err);
	}
	/* The whole records of a torn group are kept; the next group must not touch their last
	 * sector, so it begins in a new segment. */
	if (s == OL_OK && used % OL_JOURNAL_BLOCK != 0 && !OL_MUTANT(MUTANT_NO_NEW_SEGMENT)) {
		s = j->disk.sync_dir(j->disk.self, err);
		return s == OL_OK ? rotate(j, err) : s;
	}
	if (s == OL_OK)
		s = j->disk.size(j->disk.self, j->file, &size, err);
	if (s == OL_OK && size < j->segment_bytes)
		s = j->disk.allocate(j->disk.self, j->file, j->segment_bytes, err);
	/* A record may be whole and yet not durable: it was read from memory that a stopped process
	 * left behind. It counts from now on, so it is made durable now. */
	if (s == OL_OK)
		s = j->disk.sync(j->disk.self, j->file, err);
	/* The same of its name. */
	if (s == OL_OK && !OL_MUTANT(MUTANT_NAME_NOT_SYNCED))
		s = j->disk.sync_dir(j->disk.self, err);
	return s;
}

enum ol_status ol_journal_open(struct ol_journal **journal_out, uint64_t *cut_out,
			       const struct ol_disk *disk, const struct ol_journal_options *options,
			       const struct ol_journal_mark *from, ol_journal_visit *visit,
			       void *context, struct ol_error *err)
{
	struct journal_scan scan;
	enum ol_status s = remove_draft(disk, err);
	if (s == OL_OK)
		s = journal_scan(&scan, disk, JOURNAL_RECOVER, from, visit, context, err);
	if (s != OL_OK)
		return s;
	struct ol_journal *j = calloc(1, sizeof *j);
	if (!j)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening the journal");
	j->disk = *disk;
	j->file = -1;
	j->base = scan.base;
	j->durable = j->end = scan.mark;
	j->sealed = scan.sealed;
	j->segment_bytes = options && options->segment_bytes ? options->segment_bytes
							     : OL_JOURNAL_SEGMENT_BYTES;
	j->group_max = options && options->group_bytes ? options->group_bytes : OL_GROUP_BYTES_MAX;
	OL_ASSERT(j->segment_bytes % OL_JOURNAL_BLOCK == 0 && j->group_max <= OL_GROUP_BYTES_MAX);
	j->group_room = j->group_max + OL_JOURNAL_BLOCK;
	j->group = ol_block_alloc(j->group_room);
	s = j->group ? prepare(j, scan.dirty, err)
		     : ol_fail(err, OL_ERR_FULL, "out of memory while opening the journal");
	if (s != OL_OK) {
		ol_journal_close(j);
		return s;
	}
	if (cut_out)
		*cut_out = scan.dirty;
	*journal_out = j;
	return OL_OK;
}

const struct ol_journal_mark *ol_journal_durable(const struct ol_journal *j)
{
	return &j->durable;
}

const struct ol_journal_mark *ol_journal_end(const struct ol_journal *j)
{
	return &j->end;
}

/* ---- Appending ------------------------------------------------------------ */

static enum ol_status fail_stopped(struct ol_error *err)
{
	return ol_fail(
		err, OL_ERR_IO,
		"the journal has stopped after a failed write: restart, and it recovers from "
		"what is on the disk");
}

/* Gives the last record of the group its final length and its hash. */
static enum ol_status finish_last(struct ol_journal *j, uint32_t align, struct ol_error *err)
{
	uint8_t *bytes = j->group + j->last;
	const uint32_t end = (j->group_used + align - 1) / align * align;
	struct record_header h;
	memset(j->group + j->group_used, 0, end - j->group_used);
	memcpy(&h, bytes, sizeof h);
	h.length = end - j->last;
	memcpy(h.previous, j->end.hash, sizeof h.previous);
	memcpy(bytes, &h, sizeof h);
	if (!journal_record_hash(h.hash, bytes, h.length))
		return ol_fail(err, OL_ERR_FULL, "out of memory while hashing a record");
	memcpy(bytes, &h, sizeof h);
	memcpy(j->end.hash, h.hash, sizeof h.hash);
	j->group_used = end;
	j->end.position = j->durable.position + end;
	return OL_OK;
}

static void put(uint8_t **at, const void *bytes, size_t size)
{
	if (size > 0)
		memcpy(*at, bytes, size);
	*at += size;
}

static void encode(uint8_t *at, const struct record_header *h,
		   const struct ol_journal_record *record)
{
	const struct ol_postings *p = &record->postings;
	put(&at, h, sizeof *h);
	put(&at, p->accounts, p->account_count * sizeof *p->accounts);
	put(&at, p->transfers, p->transfer_count * sizeof *p->transfers);
	for (uint32_t i = 0; i < record->event_count; i++) {
		const struct ol_event *event = &record->events[i];
		const struct event_entry e = {event->size, event->kind, 0, event->first_transfer,
					      event->transfer_count};
		put(&at, &e, sizeof e);
	}
	put(&at, record->account_results, p->account_count);
	put(&at, record->transfer_results, p->transfer_count);
	for (uint32_t i = 0; i < record->event_count; i++)
		put(&at, record->events[i].bytes, record->events[i].size);
}

/* length: from ol_journal_record_bytes; the padding inside it is written by finish_last. */
static enum ol_status append(struct ol_journal *j, struct ol_journal_record *record,
			     uint32_t length, struct ol_error *err)
{
	uint32_t event_bytes = 0;
	enum ol_status s = OL_OK;
	OL_ASSERT(record->timestamp_ms >= j->end.timestamp_ms);
	if (j->group_used > 0)
		s = finish_last(j, RECORD_ALIGN, err);
	else
		j->group_first = j->end.sequence + 1;
	if (s != OL_OK) {
		j->stopped = true;
		return s;
	}
	for (uint32_t i = 0; i < record->event_count; i++)
		event_bytes += record->events[i].size;
	record->sequence = j->end.sequence + 1;
	record->position = j->end.position;
	record->event_index = j->end.event_count;
	struct record_header h = {.version = RECORD_VERSION,
				  .kind = record->seal ? RECORD_SEAL : RECORD_BATCH,
				  .sequence = record->sequence,
				  .group = j->group_first,
				  .position = record->position,
				  .timestamp_ms = record->timestamp_ms,
				  .accounts = record->postings.account_count,
				  .transfers = record->postings.transfer_count,
				  .events = record->event_count,
				  .event_bytes = event_bytes,
				  .event_index = record->event_index};
	memcpy(h.magic, RECORD_MAGIC, sizeof h.magic);
	memcpy(h.journal, j->end.id, sizeof h.journal);
	j->last = j->group_used;
	memset(j->group + j->last + length - RECORD_ALIGN, 0, RECORD_ALIGN);
	encode(j->group + j->last, &h, record);
	j->group_used += length;
	j->end.sequence = record->sequence;
	j->end.last = record->position;
	j->end.position = record->position + length;
	j->end.timestamp_ms = record->timestamp_ms;
	j->end.event_count += record->event_count;
	return OL_OK;
}

bool ol_journal_has_room(const struct ol_journal *j, uint32_t bytes)
{
	return bytes <= j->group_max - j->group_used;
}

enum ol_status ol_journal_append(struct ol_journal *j, struct ol_journal_record *record,
				 struct ol_error *err)
{
	const uint32_t length = ol_journal_record_bytes(record);
	if (j->stopped)
		return fail_stopped(err);
	OL_ASSERT(!record->seal);
	if (length == 0)
		return ol_fail(
			err, OL_ERR_INPUT,
			"a batch is over a limit: %d account changes, %d transfers, %d events "
			"of %d bytes and %d together",
			OL_BATCH_ACCOUNTS_MAX, OL_BATCH_TRANSFERS_MAX, OL_BATCH_EVENTS_MAX,
			OL_EVENT_BYTES_MAX, OL_BATCH_EVENT_BYTES_MAX);
	if (!ol_journal_has_room(j, length))
		return ol_fail(err, OL_ERR_FULL, "the group is full: commit it first");
	return append(j, record, length, err);
}

/* ---- Committing ------------------------------------------------------------ */

static bool is_seal(const struct ol_journal *j)
{
	struct record_header h;
	memcpy(&h, j->group + j->last, sizeof h);
	return h.kind == RECORD_SEAL;
}

static enum ol_status write_group(struct ol_journal *j, struct ol_error *err)
{
	uint64_t offset = j->durable.position - j->base + SEGMENT_HEADER;
	if (offset > SEGMENT_HEADER && offset + j->group_used > j->segment_bytes) {
		const enum ol_status s = rotate(j, err);
		if (s != OL_OK)
			return s;
		offset = SEGMENT_HEADER;
	}
	enum ol_status s =
		j->disk.write(j->disk.self, j->file, j->group, j->group_used, offset, err);
	if (OL_MUTANT(MUTANT_ACK_BEFORE_SYNC) || (OL_MUTANT(MUTANT_SNAPSHOT_FIRST) && is_seal(j)))
		return s;
	if (s == OL_OK)
		s = j->disk.sync(j->disk.self, j->file, err);
	if (OL_MUTANT(MUTANT_RETRY_SYNC) && s != OL_OK)
		s = j->disk.sync(j->disk.self, j->file, err);
	return s;
}

enum ol_status ol_journal_commit(struct ol_journal *j, struct ol_error *err)
{
	if (j->stopped)
		return fail_stopped(err);
	if (j->group_used == 0)
		return OL_OK;
	const uint32_t align = OL_MUTANT(MUTANT_NO_PADDING) ? RECORD_ALIGN : OL_JOURNAL_BLOCK;
	enum ol_status s = finish_last(j, align, err);
	if (s == OL_OK)
		s = write_group(j, err);
	if (s != OL_OK) {
		j->stopped = true;
		return s;
	}
	j->durable = j->end;
	j->sealed = is_seal(j);
	j->group_used = 0;
	return OL_OK;
}

enum ol_status ol_journal_seal(struct ol_journal *j, uint64_t now_ms, struct ol_error *err)
{
	struct ol_journal_record seal = {.seal = true};
	enum ol_status s = ol_journal_commit(j, err);
	if (s != OL_OK || (j->sealed && now_ms <= j->durable.timestamp_ms))
		return s;
	seal.timestamp_ms = OL_MAX(now_ms, j->end.timestamp_ms);
	s = append(j, &seal, ol_journal_record_bytes(&seal), err);
	return s == OL_OK ? ol_journal_commit(j, err) : s;
}
