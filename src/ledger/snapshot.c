/* A snapshot file: a header of one block, then what ol_book_save writes. */
#include "ledger/snapshot.h"

#include "base/arena.h"
#include "crypto/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SNAPSHOT_HEADER = 4096, SNAPSHOT_VERSION = 1, CHUNK = 1 << 20 };
#define SNAPSHOT_MAGIC "OLSNAPS\n"
static const char snapshot_draft[] = "snapshot.tmp";

struct snapshot_header {
	char magic[8];
	uint32_t version, zero;
	struct ol_journal_mark covers;
	uint64_t bytes;   /* of the book, behind the header   */
	uint8_t book[32]; /* their SHA-256                    */
	uint8_t hash[32]; /* of this block with 32 zeros here */
	uint8_t zeros[SNAPSHOT_HEADER - 176];
};
_Static_assert(sizeof(struct ol_journal_mark) == 88, "snapshot v1");
_Static_assert(sizeof(struct snapshot_header) == SNAPSHOT_HEADER, "snapshot v1");
_Static_assert(offsetof(struct snapshot_header, hash) == 144, "snapshot v1");

static void header_hash(uint8_t out[32], const struct snapshot_header *header)
{
	struct snapshot_header plain = *header;
	memset(plain.hash, 0, sizeof plain.hash);
	ol_sha256(out, &plain, sizeof plain);
}

static void snapshot_name(char name[OL_DISK_NAME_MAX], uint64_t sequence)
{
	snprintf(name, OL_DISK_NAME_MAX, "%016llx.snapshot", (unsigned long long)sequence);
}

/* ---- The list ------------------------------------------------------------ */

enum { LIST_MAX = 64 };

/* Of more than LIST_MAX the newest: the others are of no use. */
struct list {
	uint64_t sequences[LIST_MAX]; /* descending */
	size_t count;
	bool draft; /* one that was never finished */
};

static void add_name(void *context, const char *name)
{
	struct list *list = context;
	char again[OL_DISK_NAME_MAX], *end;
	uint64_t sequence = strtoull(name, &end, 16);
	if (strcmp(name, snapshot_draft) == 0)
		list->draft = true;
	snapshot_name(again, sequence);
	if (strcmp(name, again) != 0)
		return;
	for (size_t i = 0; i < list->count; i++) {
		if (sequence > list->sequences[i]) {
			const uint64_t older = list->sequences[i];
			list->sequences[i] = sequence;
			sequence = older;
		}
	}
	if (list->count < LIST_MAX)
		list->sequences[list->count++] = sequence;
}

/* ---- Writing ------------------------------------------------------------ */

struct out {
	const struct ol_disk *disk;
	int file;
	uint8_t *chunk;
	size_t used;
	uint64_t offset; /* of the chunk */
	struct ol_sha256 hash;
};

static enum ol_status flush(struct out *out, struct ol_error *err)
{
	const size_t size = out->used;
	const uint64_t offset = out->offset;
	if (size == 0)
		return OL_OK;
	out->used = 0;
	out->offset += size;
	ol_sha256_update(&out->hash, out->chunk, size);
	return out->disk->write(out->disk->self, out->file, out->chunk, size, offset, err);
}

static enum ol_status put_chunk(void *context, const void *bytes, size_t size, struct ol_error *err)
{
	struct out *out = context;
	const uint8_t *at = bytes;
	while (size > 0) {
		const size_t n = OL_MIN(size, CHUNK - out->used);
		memcpy(out->chunk + out->used, at, n);
		out->used += n;
		at += n;
		size -= n;
		if (out->used == CHUNK) {
			const enum ol_status s = flush(out, err);
			if (s != OL_OK)
				return s;
		}
	}
	return OL_OK;
}

static enum ol_status write_file(struct out *out, const struct ol_book *book,
				 const struct ol_journal_mark *covers, struct ol_error *err)
{
	struct snapshot_header header = {.version = SNAPSHOT_VERSION, .covers = *covers};
	memcpy(header.magic, SNAPSHOT_MAGIC, sizeof header.magic);
	out->offset = SNAPSHOT_HEADER;
	enum ol_status s = ol_book_save(book, put_chunk, out, err);
	if (s == OL_OK)
		s = flush(out, err);
	header.bytes = out->offset - SNAPSHOT_HEADER;
	ol_sha256_final(&out->hash, header.book);
	header_hash(header.hash, &header);
	if (s == OL_OK)
		s = out->disk->write(out->disk->self, out->file, &header, sizeof header, 0, err);
	if (s == OL_OK)
		s = out->disk->sync(out->disk->self, out->file, err);
	return s;
}

/* A draft is what a crash left: its name is not a snapshot's, and it is written anew. */
static enum ol_status tidy_up(const struct ol_disk *disk, size_t keep, struct ol_error *err)
{
	struct list list = {.count = 0};
	char name[OL_DISK_NAME_MAX];
	enum ol_status s = disk->list(disk->self, add_name, &list, err);
	if (s == OL_OK && list.draft)
		s = disk->remove(disk->self, snapshot_draft, err);
	for (size_t i = keep; s == OL_OK && i < list.count; i++) {
		snapshot_name(name, list.sequences[i]);
		s = disk->remove(disk->self, name, err);
	}
	return s;
}

enum ol_status ol_snapshot_write(const struct ol_disk *disk, const struct ol_book *book,
				 const struct ol_journal_mark *covers, struct ol_error *err)
{
	struct out out = {.disk = disk, .file = -1};
	char name[OL_DISK_NAME_MAX];
	OL_ASSERT(covers->sequence > 0 && covers->timestamp_ms == ol_book_now_ms(book));
	enum ol_status s = tidy_up(disk, LIST_MAX, err);
	if (s == OL_OK)
		s = disk->open(disk->self, &out.file, snapshot_draft, OL_DISK_CREATE, err);
	if (s != OL_OK)
		return s;
	out.chunk = ol_block_alloc(CHUNK);
	if (!out.chunk)
		s = ol_fail(err, OL_ERR_FULL, "out of memory while writing a snapshot");
	if (s == OL_OK && !ol_sha256_init(&out.hash))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while writing a snapshot");
	if (s == OL_OK)
		s = write_file(&out, book, covers, err);
	ol_block_free(out.chunk, CHUNK);
	disk->close(disk->self, out.file);
	snapshot_name(name, covers->sequence);
	if (s == OL_OK)
		s = disk->rename(disk->self, snapshot_draft, name, err);
	if (s == OL_OK)
		s = disk->sync_dir(disk->self, err);
	return s == OL_OK ? tidy_up(disk, OL_SNAPSHOTS_KEPT, err) : s;
}

/* ---- Reading ------------------------------------------------------------ */

struct in {
	const struct ol_disk *disk;
	int file;
	uint64_t offset, left;
	struct ol_sha256 hash;
};

static enum ol_status get_bytes(void *context, void *bytes, size_t size, struct ol_error *err)
{
	struct in *in = context;
	uint8_t *at = bytes;
	if (size > in->left)
		return ol_fail(err, OL_ERR_INPUT, "the snapshot is too short");
	while (size > 0) { /* in pieces, so that what is hashed is still in the cache */
		const size_t n = OL_MIN(size, CHUNK);
		size_t got = 0;
		const enum ol_status s =
			in->disk->read(in->disk->self, in->file, &got, at, n, in->offset, err);
		if (s != OL_OK)
			return s;
		if (got < n)
			return ol_fail(err, OL_ERR_INPUT, "the snapshot is too short");
		ol_sha256_update(&in->hash, at, n);
		in->offset += n;
		in->left -= n;
		at += n;
		size -= n;
	}
	return OL_OK;
}

/* OL_ERR_INPUT: this one is not good. */
static enum ol_status read_header(struct snapshot_header *header, const struct ol_disk *disk,
				  int file, uint64_t sequence, struct ol_error *err)
{
	uint8_t hash[32];
	uint64_t size = 0;
	size_t got = 0;
	enum ol_status s = disk->read(disk->self, file, &got, header, sizeof *header, 0, err);
	if (s == OL_OK)
		s = disk->size(disk->self, file, &size, err);
	if (s != OL_OK)
		return s;
	if (got < sizeof *header)
		return ol_fail(err, OL_ERR_INPUT, "the snapshot is too short");
	header_hash(hash, header);
	if (memcmp(header->magic, SNAPSHOT_MAGIC, sizeof header->magic) != 0 ||
	    memcmp(hash, header->hash, sizeof hash) != 0 || header->version != SNAPSHOT_VERSION ||
	    header->covers.sequence != sequence || size < SNAPSHOT_HEADER ||
	    header->bytes != size - SNAPSHOT_HEADER)
		return ol_fail(err, OL_ERR_INPUT, "the snapshot's header is wrong");
	return OL_OK;
}

/* Reads what is left: are all the bytes what the header says? */
static bool rest_is_good(struct in *in, const struct snapshot_header *header)
{
	uint8_t hash[32], *chunk = ol_block_alloc(CHUNK);
	bool good = chunk != NULL;
	while (good && in->left > 0)
		good = get_bytes(in, chunk, (size_t)OL_MIN(in->left, CHUNK), NULL) == OL_OK;
	ol_block_free(chunk, CHUNK);
	ol_sha256_final(&in->hash, hash);
	good = good && memcmp(hash, header->book, sizeof hash) == 0;
	return ol_sha256_init(&in->hash) && good;
}

static enum ol_status load_one(struct ol_book *book, struct ol_journal_mark *covers,
			       const struct ol_disk *disk, uint64_t sequence, struct ol_error *err)
{
	struct in in = {.disk = disk, .file = -1, .offset = SNAPSHOT_HEADER};
	struct snapshot_header header;
	uint8_t hash[32];
	char name[OL_DISK_NAME_MAX];
	snapshot_name(name, sequence);
	enum ol_status s = disk->open(disk->self, &in.file, name, OL_DISK_READ, err);
	if (s != OL_OK)
		return s;
	s = read_header(&header, disk, in.file, sequence, err);
	if (s == OL_OK && !ol_sha256_init(&in.hash))
		s = ol_fail(err, OL_ERR_FULL, "out of memory while reading a snapshot");
	if (s == OL_OK) {
		in.left = header.bytes;
		s = ol_book_load(book, get_bytes, &in, err);
		if (s == OL_ERR_FULL && !rest_is_good(&in, &header))
			s = OL_ERR_INPUT; /* a damaged count, not a large book */
		ol_sha256_final(&in.hash, hash);
		if (s == OL_OK && (in.left != 0 || memcmp(hash, header.book, sizeof hash) != 0))
			s = ol_fail(err, OL_ERR_INPUT, "the snapshot's checksum is wrong");
	}
	disk->close(disk->self, in.file);
	if (s == OL_OK && header.covers.timestamp_ms != ol_book_now_ms(book))
		s = ol_fail(err, OL_ERR_INPUT, "the snapshot's times differ");
	if (s == OL_OK)
		*covers = header.covers;
	return s;
}

enum ol_status ol_snapshot_load(const struct ol_disk *disk, struct ol_book **book_out,
				struct ol_journal_mark *covers, uint32_t *bad_out,
				const struct ol_book_limits *limits, uint64_t secret,
				struct ol_error *err)
{
	struct list list = {.count = 0};
	struct ol_book *book = NULL;
	uint32_t bad = 0;
	enum ol_status s = disk->list(disk->self, add_name, &list, err);
	if (s != OL_OK)
		return s;
	*covers = (struct ol_journal_mark){0};
	for (size_t i = 0; i < list.count; i++) {
		s = ol_book_open(&book, limits, secret, err);
		if (s == OL_OK)
			s = load_one(book, covers, disk, list.sequences[i], err);
		if (s == OL_OK)
			break;
		ol_book_close(book);
		book = NULL;
		if (s != OL_ERR_INPUT)
			return s;
		bad++;
	}
	if (bad_out)
		*bad_out = bad;
	if (!book) {
		s = ol_book_open(&book, limits, secret, err);
		if (s != OL_OK)
			return s;
	}
	*book_out = book;
	return OL_OK;
}

static enum ol_status read_claim(struct ol_snapshot_claim *claim, const struct ol_disk *disk,
				 uint64_t sequence, struct ol_error *err)
{
	struct snapshot_header header;
	char name[OL_DISK_NAME_MAX];
	int file = -1;
	snapshot_name(name, sequence);
	enum ol_status s = disk->open(disk->self, &file, name, OL_DISK_READ, err);
	if (s != OL_OK)
		return s;
	s = read_header(&header, disk, file, sequence, err);
	disk->close(disk->self, file);
	claim->covers = header.covers;
	memcpy(claim->book, header.book, sizeof claim->book);
	return s;
}

enum ol_status ol_snapshot_claims(const struct ol_disk *disk, struct ol_snapshot_claim *claims_out,
				  size_t room, size_t *count_out, uint32_t *bad_out,
				  struct ol_error *err)
{
	struct list list = {.count = 0};
	enum ol_status s = disk->list(disk->self, add_name, &list, err);
	*count_out = 0;
	*bad_out = 0;
	for (size_t i = 0; s == OL_OK && i < list.count && *count_out < room; i++) {
		s = read_claim(&claims_out[*count_out], disk, list.sequences[i], err);
		if (s == OL_OK)
			++*count_out;
		if (s == OL_ERR_INPUT) {
			++*bad_out;
			s = OL_OK;
		}
	}
	return s;
}
