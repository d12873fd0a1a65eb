/* Ids to text. The library's decoders work on a list of strings; so do ours: one buffer and where
 * each string ends. */
#include "model/tokenizer_parts.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

struct strings {
	struct ol_buf text;
	size_t *ends;
	size_t count, room;
};

static bool end_string(struct strings *list)
{
	if (list->count == list->room) {
		const size_t room = OL_MAX(list->room * 2, (size_t)64);
		size_t *ends = realloc(list->ends, room * sizeof *ends);
		if (!ends)
			return false;
		list->ends = ends;
		list->room = room;
	}
	list->ends[list->count++] = list->text.size;
	return true;
}

static bool put(struct strings *list, const char *bytes, size_t size)
{
	return ol_buf_append(&list->text, bytes, size);
}

/* The value of "<0xNN>", or -1. */
static int byte_token(const char *s, size_t size)
{
	int value = 0;
	if (size != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
		return -1;
	for (int i = 3; i < 5; i++) {
		const char c = s[i] | 0x20;
		if (s[i] >= '0' && s[i] <= '9')
			value = value * 16 + (s[i] - '0');
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + (c - 'a' + 10);
		else if (s[i] != '+' || i != 3)
			return -1; /* the library's number parser takes a leading plus */
	}
	return value;
}

/* A run of byte tokens becomes their text, or one U+FFFD each when they are not UTF-8. */
static bool put_byte_run(struct strings *to, char *run, size_t *size)
{
	const size_t n = *size;
	*size = 0;
	if (n == 0)
		return true;
	if (ol_utf8_check(run, n) == n)
		return put(to, run, n) && end_string(to);
	for (size_t i = 0; i < n; i++)
		if (!put(to, "\xef\xbf\xbd", 3) || !end_string(to))
			return false;
	return true;
}

static bool decode_byte_fallback(struct strings *to, const struct strings *from)
{
	char *run = malloc(from->count + 1);
	size_t n = 0, begin = 0;
	bool ok = run != NULL;
	for (size_t i = 0; ok && i < from->count; begin = from->ends[i++]) {
		const char *s = from->text.data + begin;
		const size_t size = from->ends[i] - begin;
		const int byte = byte_token(s, size);
		if (byte >= 0)
			run[n++] = (char)byte;
		else
			ok = put_byte_run(to, run, &n) && put(to, s, size) && end_string(to);
	}
	ok = ok && put_byte_run(to, run, &n);
	free(run);
	return ok;
}

/* Appends the bytes that a byte-level entry spells; an entry that spells none is text. */
static bool append_spelled(struct ol_buf *out, const char *s, size_t size)
{
	char small[256], *bytes = size <= sizeof small ? small : malloc(size);
	size_t n;
	bool ok = bytes != NULL;
	if (ok && ol_byte_alphabet_decode(s, size, bytes, &n))
		ok = ol_buf_append(out, bytes, n);
	else if (ok)
		ok = ol_buf_append(out, s, size);
	if (bytes != small)
		free(bytes);
	return ok;
}

static bool decode_byte_level(struct strings *to, const struct strings *from)
{
	struct ol_buf bytes;
	size_t begin = 0;
	bool ok = true;
	ol_buf_init(&bytes, to->text.max);
	for (size_t i = 0; ok && i < from->count; begin = from->ends[i++])
		ok = append_spelled(&bytes, from->text.data + begin, from->ends[i] - begin);
	ok = ok && (bytes.size == 0 || ol_utf8_append_lossy(&to->text, bytes.data, bytes.size)) &&
	     end_string(to);
	ol_buf_release(&bytes);
	return ok;
}

static bool replace_in(struct strings *to, const struct ol_decoder *step,
		       struct ol_split_work *work, const char *s, size_t size)
{
	struct ol_pieces pieces = {0};
	bool ok = ol_split_find(step->pattern, work, &pieces, s, 0, size, NULL) == OL_OK;
	for (size_t i = 0; ok && i < pieces.count; i++) {
		const struct ol_piece *p = &pieces.list[i];
		ok = p->matched ? put(to, step->content.data, step->content.size)
				: put(to, s + p->begin, p->end - p->begin);
	}
	ol_pieces_release(&pieces);
	return ok;
}

static bool strip_in(struct strings *to, const struct ol_decoder *step, const char *s, size_t size)
{
	const struct ol_bytes *c = &step->content;
	for (int32_t i = 0; i < step->start && size >= c->size; i++) {
		if (memcmp(s, c->data, c->size) != 0)
			break;
		s += c->size;
		size -= c->size;
	}
	for (int32_t i = 0; i < step->stop && size >= c->size; i++) {
		if (memcmp(s + size - c->size, c->data, c->size) != 0)
			break;
		size -= c->size;
	}
	return put(to, s, size);
}

static bool metaspace_in(struct strings *to, const struct ol_decoder *step, bool first,
			 const char *s, size_t size)
{
	const struct ol_bytes *c = &step->content;
	bool ok = true;
	for (size_t at = 0; ok && at < size;) {
		size_t length;
		(void)ol_utf8_at(s + at, &length);
		if (length != c->size || memcmp(s + at, c->data, length) != 0)
			ok = put(to, s + at, length);
		else if (!first || !step->drop_first)
			ok = put(to, " ", 1);
		at += length;
	}
	return ok;
}

static bool decode_step(struct strings *to, const struct strings *from,
			const struct ol_decoder *step, struct ol_split_work *work)
{
	size_t begin = 0;
	bool ok = true;
	if (step->kind == OL_DECODER_BYTE_LEVEL)
		return decode_byte_level(to, from);
	if (step->kind == OL_DECODER_BYTE_FALLBACK)
		return decode_byte_fallback(to, from);
	if (step->kind == OL_DECODER_FUSE)
		return put(to, from->text.data, from->text.size) && end_string(to);
	for (size_t i = 0; ok && i < from->count; begin = from->ends[i++]) {
		const char *s = from->text.data + begin;
		const size_t size = from->ends[i] - begin;
		if (step->kind == OL_DECODER_REPLACE)
			ok = replace_in(to, step, work, s, size);
		else if (step->kind == OL_DECODER_STRIP)
			ok = strip_in(to, step, s, size);
		else
			ok = metaspace_in(to, step, i == 0, s, size);
		ok = ok && end_string(to);
	}
	return ok;
}

/* Runs the decoders; the result is in lists[*last]. */
static bool run_decoders(const struct ol_tokenizer *t, struct strings lists[2], int *last)
{
	struct ol_split_work *work = NULL;
	bool ok = !t->has_regex || ol_split_work_open(&work);
	*last = 0;
	for (int i = 0; ok && i < t->decoder_count; i++) {
		struct strings *to = &lists[!*last];
		ol_buf_clear(&to->text);
		to->count = 0;
		/* Data is never NULL, so that empty strings need no care. */
		ok = put(to, "", 0) && decode_step(to, &lists[*last], &t->decoders[i], work);
		*last = !*last;
	}
	ol_split_work_close(work);
	return ok;
}

static void release_lists(struct strings lists[2])
{
	for (int i = 0; i < 2; i++) {
		ol_buf_release(&lists[i].text);
		free(lists[i].ends);
	}
}

bool ol_tokenizer_decode(const struct ol_tokenizer *t, struct ol_buf *text, const int32_t *ids,
			 size_t count, bool skip_special)
{
	struct strings lists[2] = {0};
	int last = 0;
	ol_buf_init(&lists[0].text, text->max);
	ol_buf_init(&lists[1].text, text->max);
	bool ok = put(&lists[0], "", 0);
	for (size_t i = 0; ok && i < count; i++) {
		const int32_t id = ids[i];
		if (id < 0 || id >= t->vocab_size || !t->names[id].data ||
		    (skip_special && t->special[id]))
			continue;
		if (t->no_decoder && lists[0].count > 0)
			ok = put(&lists[0], " ", 1);
		ok = ok && put(&lists[0], t->names[id].data, t->names[id].size) &&
		     end_string(&lists[0]);
	}
	ok = ok && run_decoders(t, lists, &last) &&
	     ol_buf_append(text, lists[last].text.data, lists[last].text.size);
	release_lists(lists);
	return ok;
}

static bool in_middle(enum ol_decoder_kind kind)
{
	return kind == OL_DECODER_REPLACE || kind == OL_DECODER_METASPACE;
}

bool ol_tokenizer_decode_entry(const struct ol_tokenizer *t, struct ol_split_work *work,
			       struct ol_buf *out, const char *entry, size_t size)
{
	struct strings lists[2] = {0};
	int last = 0;
	bool bytes = false, fallback = false, ok = true;
	const char *text = entry;
	ol_buf_init(&lists[0].text, out->max);
	ol_buf_init(&lists[1].text, out->max);
	for (int i = 0; i < t->decoder_count; i++) {
		bytes = bytes || t->decoders[i].kind == OL_DECODER_BYTE_LEVEL;
		fallback = fallback || t->decoders[i].kind == OL_DECODER_BYTE_FALLBACK;
	}
	for (int i = 0; ok && i < t->decoder_count; i++) {
		const struct ol_decoder *step = &t->decoders[i];
		struct strings *to = &lists[last];
		if (!in_middle(step->kind))
			continue;
		ol_buf_clear(&to->text);
		ok = put(to, "", 0) && (step->kind == OL_DECODER_REPLACE
						? replace_in(to, step, work, text, size)
						: metaspace_in(to, step, false, text, size));
		text = to->text.data;
		size = to->text.size;
		last = !last;
	}
	const int byte = ok && fallback ? byte_token(text, size) : -1;
	const char one = (char)byte;
	if (byte >= 0)
		ok = ol_buf_append(out, &one, 1);
	else if (ok)
		ok = bytes ? append_spelled(out, text, size) : ol_buf_append(out, text, size);
	release_lists(lists);
	return ok;
}
