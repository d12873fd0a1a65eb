/* A journal, and a saved book, from a stranger: a backup that was tampered with. The first byte
 * says how the rest is read:
 *
 *     even, bit 1 off   a segment as it is
 *     even, bit 1 on    records, whose place, chain and hash are put right first, so that what
 *                       they hold is reached
 *     odd               what ol_book_save writes
 *
 * Whatever is accepted is posted into a book, and the book's sums must hold. */
#include "ledger/journal_inside.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_MAX = 1 << 16 };

struct one_file {
	uint8_t bytes[FILE_MAX];
	size_t size;
};

static enum ol_status mem_open(void *self, int *file_out, const char *name, enum ol_disk_open how,
			       struct ol_error *err)
{
	(void)self;
	(void)name;
	(void)how;
	(void)err;
	*file_out = 1;
	return OL_OK;
}

static void mem_close(void *self, int file)
{
	(void)self;
	(void)file;
}

static enum ol_status mem_read(void *self, int file, size_t *got_out, void *bytes, size_t size,
			       uint64_t offset, struct ol_error *err)
{
	const struct one_file *f = self;
	(void)file;
	(void)err;
	*got_out = offset >= f->size ? 0 : OL_MIN(size, f->size - offset);
	memcpy(bytes, f->bytes + OL_MIN(offset, f->size), *got_out);
	return OL_OK;
}

static enum ol_status mem_size(void *self, int file, uint64_t *size_out, struct ol_error *err)
{
	(void)file;
	(void)err;
	*size_out = ((struct one_file *)self)->size;
	return OL_OK;
}

static enum ol_status mem_list(void *self, void (*visit)(void *context, const char *name),
			       void *context, struct ol_error *err)
{
	(void)self;
	(void)err;
	visit(context, "0000000000000000.journal");
	return OL_OK;
}

/* A good segment header, then the records with what guards them made right. */
static void put_right(struct one_file *f, const uint8_t *data, size_t size)
{
	struct segment_header header = {.version = SEGMENT_VERSION, .first_sequence = 1};
	uint8_t previous[OL_JOURNAL_HASH_BYTES] = {0};
	uint64_t sequence = 0, at = 0, events = 0;
	memcpy(header.magic, SEGMENT_MAGIC, sizeof header.magic);
	journal_segment_hash(header.hash, &header);
	memcpy(f->bytes, &header, sizeof header);
	f->size = SEGMENT_HEADER +
		  OL_MIN(size, FILE_MAX - SEGMENT_HEADER) / RECORD_ALIGN * RECORD_ALIGN;
	memcpy(f->bytes + SEGMENT_HEADER, data, f->size - SEGMENT_HEADER);
	while (SEGMENT_HEADER + at + 3 * RECORD_ALIGN <= f->size) {
		uint8_t *bytes = f->bytes + SEGMENT_HEADER + at;
		struct record_header h;
		memcpy(&h, bytes, sizeof h);
		memcpy(h.magic, RECORD_MAGIC, sizeof h.magic);
		h.version = RECORD_VERSION;
		h.kind = h.kind % 3;
		h.length = h.length / RECORD_ALIGN * RECORD_ALIGN;
		if (h.length < sizeof h || h.length > f->size - SEGMENT_HEADER - at)
			h.length = (uint32_t)(f->size - SEGMENT_HEADER - at);
		h.sequence = ++sequence;
		h.group = sequence;
		h.position = at;
		h.event_index = events;
		h.zero = 0;
		events += h.events;
		memset(h.journal, 0, sizeof h.journal);
		memcpy(h.previous, previous, sizeof previous);
		memcpy(bytes, &h, sizeof h);
		if (!journal_record_hash(h.hash, bytes, h.length))
			return;
		memcpy(bytes, &h, sizeof h);
		memcpy(previous, h.hash, sizeof previous);
		at += h.length;
	}
}

static uint64_t bytes_seen;

static enum ol_status visit(void *context, const struct ol_journal_record *record,
			    struct ol_error *err)
{
	static uint8_t ops[OL_BATCH_ACCOUNTS_MAX], results[OL_BATCH_TRANSFERS_MAX];
	struct ol_book *book = context;
	ol_book_advance(book, record->timestamp_ms);
	const enum ol_status s = ol_book_admit(book, &record->postings, err);
	if (s != OL_OK)
		return s;
	ol_book_post(book, ops, results, &record->postings, record->timestamp_ms);
	OL_ASSERT(ol_book_check(book, NULL) == OL_OK);
	for (uint32_t i = 0; i < record->event_count; i++)
		for (uint32_t b = 0; b < record->events[i].size; b++)
			bytes_seen += record->events[i].bytes[b];
	return OL_OK;
}

struct pieces {
	const uint8_t *data;
	size_t left;
};

static enum ol_status get(void *context, void *bytes, size_t size, struct ol_error *err)
{
	struct pieces *p = context;
	if (size > p->left)
		return ol_fail(err, OL_ERR_INPUT, "too short");
	if (size > 0)
		memcpy(bytes, p->data, size);
	p->data += size;
	p->left -= size;
	return OL_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ol_book_limits limits = {64, 256, 64};
	static struct one_file file;
	const struct ol_disk disk = {.self = &file,
				     .open = mem_open,
				     .close = mem_close,
				     .read = mem_read,
				     .size = mem_size,
				     .list = mem_list};
	struct ol_book *book = NULL;
	if (size < 1 || ol_book_open(&book, &limits, 1, NULL) != OL_OK)
		return 0;
	const uint8_t mode = data[0];
	struct pieces pieces = {data + 1, size - 1};
	if (mode % 2) {
		if (ol_book_load(book, get, &pieces, NULL) == OL_OK) {
			ol_book_advance(book,
					OL_MIN(ol_book_now_ms(book) + 90000000, OL_TIME_MS_MAX));
			OL_ASSERT(ol_book_pending_count(book) == 0);
			OL_ASSERT(ol_book_check(book, NULL) == OL_OK);
		}
	} else {
		if (mode & 2) {
			put_right(&file, pieces.data, pieces.left);
		} else {
			file.size = OL_MIN(pieces.left, FILE_MAX);
			memcpy(file.bytes, pieces.data, file.size);
		}
		const enum ol_status s = ol_journal_verify(&disk, NULL, visit, book, NULL);
		(void)s;
	}
	ol_book_close(book);
	return 0;
}
