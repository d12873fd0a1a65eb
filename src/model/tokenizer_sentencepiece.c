/* Reading a SentencePiece tokenizer.model of type BPE: a protocol buffer, of which we read the
 * pieces, the few options that change the result, and nothing else.
 *
 *   ModelProto: 1 pieces { 1 text, 2 score, 3 type }, 2 trainer_spec, 3 normalizer_spec */
#include "model/config.h"
#include "model/tokenizer_parts.h"
#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_SIZE_MAX = 512 };

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum piece_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };
enum model_type { UNIGRAM = 1, BPE = 2, WORD = 3, CHAR = 4 };

/* A message that is being read. */
struct message {
	const uint8_t *at, *end;
	bool broken;
};
/* One field: a number, or bytes. */
struct field {
	uint32_t number;
	enum wire wire;
	uint64_t value;
	const char *bytes;
	size_t size;
};

static uint64_t read_varint(struct message *m)
{
	uint64_t value = 0;
	for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
		const uint8_t byte = *m->at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
	m->broken = true;
	return 0;
}

static uint64_t read_fixed(struct message *m, size_t size)
{
	uint64_t value = 0;
	if ((size_t)(m->end - m->at) < size) {
		m->broken = true;
		return 0;
	}
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)m->at[i] << 8 * i;
	m->at += size;
	return value;
}

/* false at the end of the message, or when it is broken. */
static bool next_field(struct message *m, struct field *f)
{
	if (m->broken || m->at == m->end)
		return false;
	const uint64_t key = read_varint(m);
	*f = (struct field){.number = (uint32_t)(key >> 3), .wire = (enum wire)(key & 7)};
	if (key >> 3 == 0 || key >> 3 > UINT32_MAX)
		m->broken = true;
	if (f->wire == WIRE_VARINT) {
		f->value = read_varint(m);
	} else if (f->wire == WIRE_FIXED64) {
		f->value = read_fixed(m, 8);
	} else if (f->wire == WIRE_FIXED32) {
		f->value = read_fixed(m, 4);
	} else if (f->wire == WIRE_BYTES) {
		const uint64_t size = read_varint(m);
		if (size > (uint64_t)(m->end - m->at)) {
			m->broken = true;
		} else {
			f->bytes = (const char *)m->at;
			f->size = (size_t)size;
			m->at += size;
		}
	} else {
		m->broken = true;
	}
	return !m->broken;
}

struct piece {
	float score;
	int32_t rank;
	enum piece_type type;
};

struct reader {
	struct ol_tokenizer *t;
	const char *path;
	struct ol_error *err;
	struct piece *pieces;
	size_t count, room;
	uint64_t model_type;
	int64_t bos_id;
	bool byte_fallback, dummy_prefix, extra_whitespace_removed, escaped, suffix, charsmap;
};

static enum ol_status broken(const struct reader *r, const char *where)
{
	return ol_fail(r->err, OL_ERR_INPUT,
		       "%s: %s: neither a tokenizer.json nor a whole SentencePiece "
		       "model",
		       r->path, where);
}

static enum ol_status full(const struct reader *r)
{
	return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory, or the pieces were made to collide",
		       r->path);
}

static enum ol_status read_piece(struct reader *r, const struct field *whole)
{
	struct message m = {(const uint8_t *)whole->bytes,
			    (const uint8_t *)whole->bytes + whole->size, false};
	struct piece piece = {.type = NORMAL};
	struct field f, text = {0};
	while (next_field(&m, &f)) {
		if (f.number == 1 && f.wire == WIRE_BYTES) {
			text = f;
		} else if (f.number == 2 && f.wire == WIRE_FIXED32) {
			const uint32_t bits = (uint32_t)f.value;
			memcpy(&piece.score, &bits, sizeof piece.score);
		} else if (f.number == 3 && f.wire == WIRE_VARINT) {
			piece.type = (enum piece_type)OL_MIN(f.value, (uint64_t)99);
		}
	}
	if (m.broken || piece.type < NORMAL || piece.type > BYTE || piece.score != piece.score)
		return broken(r, "pieces");
	if (piece.type == UNUSED)
		return ol_fail(r->err, OL_ERR_UNSUPPORTED,
			       "%s: pieces[%zu]: the type UNUSED is not "
			       "supported",
			       r->path, r->count);
	if (text.size == 0 || text.size > PIECE_SIZE_MAX ||
	    ol_utf8_check(text.bytes, text.size) < text.size)
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: pieces[%zu] is not UTF-8 of 1 to %d bytes", r->path, r->count,
			       PIECE_SIZE_MAX);
	if (r->count >= OL_VOCAB_MAX)
		return ol_fail(r->err, OL_ERR_FULL, "%s: more than %d pieces", r->path,
			       OL_VOCAB_MAX);
	if (r->count == r->room) {
		const size_t room = OL_MAX(r->room * 2, (size_t)1024);
		struct piece *pieces = realloc(r->pieces, room * sizeof *pieces);
		if (!pieces)
			return full(r);
		r->pieces = pieces;
		r->room = room;
	}
	struct ol_bpe *bpe = &r->t->bpe;
	if (ol_bpe_find(bpe, text.bytes, text.size) >= 0)
		return ol_fail(r->err, OL_ERR_INPUT, "%s: pieces[%zu] (\"%.*s\") comes twice",
			       r->path, r->count, (int)OL_MIN(text.size, (size_t)60), text.bytes);
	if (!ol_bpe_reserve(bpe, text.size))
		return full(r);
	memcpy(bpe->pool + bpe->pool_size, text.bytes, text.size);
	if (!ol_bpe_add_entry(bpe, text.size, (int32_t)r->count))
		return full(r);
	r->pieces[r->count++] = piece;
	return OL_OK;
}

static bool read_trainer(struct reader *r, const struct field *whole)
{
	struct message m = {(const uint8_t *)whole->bytes,
			    (const uint8_t *)whole->bytes + whole->size, false};
	struct field f;
	while (next_field(&m, &f)) {
		if (f.wire != WIRE_VARINT)
			continue;
		if (f.number == 3)
			r->model_type = f.value;
		else if (f.number == 24)
			r->suffix = f.value != 0;
		else if (f.number == 35)
			r->byte_fallback = f.value != 0;
		else if (f.number == 41)
			r->bos_id = (int64_t)f.value;
	}
	return !m.broken;
}

static bool read_normalizer(struct reader *r, const struct field *whole)
{
	struct message m = {(const uint8_t *)whole->bytes,
			    (const uint8_t *)whole->bytes + whole->size, false};
	struct field f;
	while (next_field(&m, &f)) {
		if (f.number == 2 && f.wire == WIRE_BYTES)
			r->charsmap = f.size > 0;
		else if (f.number == 3)
			r->dummy_prefix = f.value != 0;
		else if (f.number == 4)
			r->extra_whitespace_removed = f.value != 0;
		else if (f.number == 5)
			r->escaped = f.value != 0;
	}
	return !m.broken;
}

static enum ol_status read_fields(struct reader *r, const char *bytes, size_t size)
{
	struct message m = {(const uint8_t *)bytes, (const uint8_t *)bytes + size, false};
	struct field f;
	enum ol_status s = OL_OK;
	while (s == OL_OK && next_field(&m, &f)) {
		if (f.wire != WIRE_BYTES)
			continue;
		if (f.number == 1)
			s = read_piece(r, &f);
		else if (f.number == 2 && !read_trainer(r, &f))
			s = broken(r, "trainer_spec");
		else if (f.number == 3 && !read_normalizer(r, &f))
			s = broken(r, "normalizer_spec");
	}
	if (s == OL_OK && (m.broken || r->count == 0))
		s = broken(r, "the file");
	return s;
}

static enum ol_status check_options(const struct reader *r)
{
	static const char *const types[] = {"?", "UNIGRAM", "BPE", "WORD", "CHAR"};
	const char *what = NULL;
	if (r->model_type != BPE)
		return ol_fail(r->err, OL_ERR_UNSUPPORTED,
			       "%s: a SentencePiece model of type %s is not "
			       "supported (only BPE is)",
			       r->path,
			       r->model_type < OL_ARRAY_LEN(types) ? types[r->model_type] : "?");
	if (r->charsmap)
		what = "precompiled_charsmap (a normalizer other than \"identity\")";
	else if (r->extra_whitespace_removed)
		what = "remove_extra_whitespaces";
	else if (!r->escaped)
		what = "escape_whitespaces off";
	else if (r->suffix)
		what = "treat_whitespace_as_suffix";
	if (what)
		return ol_fail(r->err, OL_ERR_UNSUPPORTED,
			       "%s: normalizer_spec: %s is not supported", r->path, what);
	return OL_OK;
}

/* Higher scores merge first; equal scores are equals, which merge from the left. */
static int compare_scores(const void *a, const void *b)
{
	const struct piece *const x = *(const struct piece *const *)a,
				  *const y = *(const struct piece *const *)b;
	return (x->score < y->score) - (x->score > y->score);
}

static bool rank_pieces(struct reader *r)
{
	struct piece **order = malloc(r->count * sizeof *order);
	int32_t rank = 0;
	if (!order)
		return false;
	for (size_t i = 0; i < r->count; i++)
		order[i] = &r->pieces[i];
	qsort(order, r->count, sizeof *order, compare_scores);
	for (size_t i = 0; i < r->count; i++) {
		if (i > 0 && order[i]->score != order[i - 1]->score)
			rank++;
		order[i]->rank = rank;
	}
	free(order);
	return true;
}

/* Every way to put a piece together from two others is a merge. */
static bool add_merges(struct reader *r)
{
	struct ol_bpe *bpe = &r->t->bpe;
	for (size_t id = 0; id < r->count; id++) {
		const struct ol_text_ref whole = bpe->entries[id];
		size_t length;
		if (r->pieces[id].type != NORMAL)
			continue;
		for (size_t at = 0; at < whole.size; at += length) {
			const char *text = bpe->pool + whole.begin;
			(void)ol_utf8_at(text + at, &length);
			const int32_t left = at > 0 ? ol_bpe_find(bpe, text, at) : -1;
			const int32_t right =
				left >= 0 ? ol_bpe_find(bpe, text + at, whole.size - at) : -1;
			if (right < 0 || r->pieces[left].type != NORMAL ||
			    r->pieces[right].type != NORMAL)
				continue;
			if (!ol_bpe_add_merge(bpe, left, right, r->pieces[id].rank, (int32_t)id))
				return false;
		}
	}
	return true;
}

/* Control, unknown and user-defined pieces become added tokens: their text is matched as a whole
 * (or, of what a user wrote, not at all). */
static bool add_tokens(struct reader *r)
{
	struct ol_tokenizer *t = r->t;
	size_t count = 0;
	for (size_t id = 0; id < r->count; id++)
		count += r->pieces[id].type != NORMAL && r->pieces[id].type != BYTE;
	t->added = calloc(count + 1, sizeof *t->added);
	if (!t->added)
		return false;
	for (size_t id = 0; id < r->count; id++) {
		const struct ol_text_ref text = t->bpe.entries[id];
		const enum piece_type type = r->pieces[id].type;
		if (type == NORMAL || type == BYTE)
			continue;
		struct ol_added *added = &t->added[t->added_count++];
		*added = (struct ol_added){.id = (int32_t)id, .special = type != USER_DEFINED};
		if (!ol_bytes_set(&added->content, t->bpe.pool + text.begin, text.size))
			return false;
	}
	return true;
}

static bool add_steps(struct reader *r)
{
	static const char block[] = "\xe2\x96\x81"; /* U+2581 stands for a space */
	struct ol_tokenizer *t = r->t;
	struct ol_normalizer *n = t->normalizers;
	struct ol_decoder *d = t->decoders;
	bool ok = true;
	if (r->dummy_prefix) {
		n->kind = OL_NORMALIZER_PREPEND_FIRST;
		ok = ol_bytes_set(&n->content, block, 3);
		n++;
	}
	n->kind = OL_NORMALIZER_REPLACE;
	ok = ok && ol_bytes_set(&n->content, block, 3) && ol_split_open_string(&n->pattern, " ", 1);
	t->normalizer_count = (int)(n + 1 - t->normalizers);
	d->kind = OL_DECODER_REPLACE;
	ok = ok && ol_bytes_set(&d->content, " ", 1) && ol_split_open_string(&d->pattern, block, 3);
	(++d)->kind = OL_DECODER_BYTE_FALLBACK;
	(++d)->kind = OL_DECODER_FUSE;
	if (r->dummy_prefix) {
		(++d)->kind = OL_DECODER_STRIP;
		d->start = 1;
		ok = ok && ol_bytes_set(&d->content, " ", 1);
	}
	t->decoder_count = (int)(d + 1 - t->decoders);
	if (r->bos_id >= 0 && (uint64_t)r->bos_id < r->count &&
	    r->pieces[r->bos_id].type == CONTROL)
		t->before[t->before_count++] = (int32_t)r->bos_id;
	return ok;
}

static enum ol_status build(struct reader *r)
{
	struct ol_bpe *bpe = &r->t->bpe;
	bpe->byte_fallback = r->byte_fallback;
	bpe->fuse_unk = true;
	bpe->special = calloc(r->count + 1, 1);
	if (!bpe->special)
		return full(r);
	for (size_t id = 0; id < r->count; id++) {
		bpe->special[id] = r->pieces[id].type == CONTROL || r->pieces[id].type == UNKNOWN;
		if (r->pieces[id].type == UNKNOWN && bpe->unk_id < 0)
			bpe->unk_id = (int32_t)id;
	}
	if (!rank_pieces(r) || !ol_bpe_set_symbols(bpe, false) || !add_merges(r) ||
	    !ol_bpe_finish(bpe) || !add_tokens(r) || !add_steps(r))
		return full(r);
	return OL_OK;
}

enum ol_status ol_tokenizer_read_sentencepiece(struct ol_tokenizer *t, const char *bytes,
					       size_t size, const char *path, struct ol_error *err)
{
	/* What a spec does not say has these values. */
	struct reader r = {.t = t, .path = path, .err = err, .model_type = UNIGRAM, .bos_id = 1,
			   .dummy_prefix = true, .extra_whitespace_removed = true, .escaped = true};
	ol_bpe_init(&t->bpe);
	enum ol_status s = read_fields(&r, bytes, size);
	if (s == OL_OK)
		s = check_options(&r);
	if (s == OL_OK)
		s = build(&r);
	free(r.pieces);
	return s;
}
