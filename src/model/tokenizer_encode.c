/* Text to ids: the stages in the order of tokenizer_parts.h. */
#include "model/tokenizer_added.h"
#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_GROWTH_ROOM = 1 << 16 };

static enum ol_status no_memory(struct ol_error *err)
{
	return ol_fail(err, OL_ERR_FULL, "out of memory while tokenizing a text");
}

/* An append that failed met the limit of its buffer, or there is no memory. */
static enum ol_status no_room(const struct ol_buf *buf, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_FULL,
		       "the tokenizer's normalizers make more than %zu bytes of a text, "
		       "or there is no memory for them",
		       buf->max);
}

/* text is what the step reads; out is empty and has a limit. */
struct replacing {
	struct ol_buf *out, *marks_out;
	const char *text, *marks;
};

static bool copy_part(const struct replacing *r, size_t begin, size_t end)
{
	return ol_buf_append(r->out, r->text + begin, end - begin) &&
	       (!r->marks_out || ol_buf_append(r->marks_out, r->marks + begin, end - begin));
}

static bool put_content(const struct replacing *r, const struct ol_bytes *content, char mark)
{
	if (!ol_buf_append(r->out, content->data, content->size))
		return false;
	for (size_t i = 0; r->marks_out && i < content->size; i++)
		if (!ol_buf_append(r->marks_out, &mark, 1))
			return false;
	return true;
}

/* One byte for another text: the case that every SentencePiece-like file has. */
static bool replace_byte(const struct replacing *r, size_t size, int byte,
			 const struct ol_bytes *content)
{
	size_t at = 0;
	for (;;) {
		const char *hit = at < size ? memchr(r->text + at, byte, size - at) : NULL;
		const size_t found = hit ? (size_t)(hit - r->text) : size;
		if (!copy_part(r, at, found))
			return false;
		if (!hit)
			return true;
		if (!put_content(r, content, r->marks ? r->marks[found] : 0))
			return false;
		at = found + 1;
	}
}

static enum ol_status replace(const struct replacing *r, size_t size,
			      const struct ol_split *pattern, const struct ol_bytes *content,
			      struct ol_split_work *work, struct ol_error *err)
{
	const int byte = ol_split_single_byte(pattern);
	struct ol_pieces pieces = {0};
	if (byte >= 0)
		return replace_byte(r, size, byte, content) ? OL_OK : no_room(r->out, err);
	enum ol_status s = ol_split_find(pattern, work, &pieces, r->text, 0, size, err);
	for (size_t i = 0; s == OL_OK && i < pieces.count; i++) {
		const struct ol_piece *p = &pieces.list[i];
		const size_t length = p->end - p->begin;
		const char mark = r->marks && memchr(r->marks + p->begin, 1, length) ? 1 : 0;
		if (p->matched ? !put_content(r, content, mark) : !copy_part(r, p->begin, p->end))
			s = no_room(r->out, err);
	}
	ol_pieces_release(&pieces);
	return s;
}

static enum ol_status normalize_step(const struct ol_normalizer *step, const struct replacing *r,
				     size_t size, bool opens_text, struct ol_split_work *work,
				     struct ol_error *err)
{
	const bool prepend = size > 0 && (step->kind == OL_NORMALIZER_PREPEND || opens_text);
	bool ok = true;
	switch (step->kind) {
	case OL_NORMALIZER_NFC:
		ok = ol_unicode_nfc(r->out, r->marks_out, r->text, size, r->marks);
		break;
	case OL_NORMALIZER_PREPEND:
	case OL_NORMALIZER_PREPEND_FIRST:
		ok = (!prepend || put_content(r, &step->content, 0)) && copy_part(r, 0, size);
		break;
	case OL_NORMALIZER_REPLACE:
		return replace(r, size, step->pattern, &step->content, work, err);
	}
	return ok ? OL_OK : no_room(r->out, err);
}

/* Appends the normalized text to out. The steps before the last go through buffers of their own. */
enum ol_status ol_tokenizer_normalize(const struct ol_tokenizer *t, struct ol_buf *out,
				      struct ol_buf *marks_out, const struct ol_stretch *stretch,
				      struct ol_split_work *work, struct ol_error *err)
{
	struct ol_buf between[2], between_marks[2];
	struct replacing r = {out, marks_out, stretch->text, stretch->marks};
	size_t size = stretch->size;
	enum ol_status s = OL_OK;
	if (t->normalizer_count == 0)
		return copy_part(&r, 0, size) ? OL_OK : no_room(out, err);
	for (int i = 0; i < 2; i++) {
		ol_buf_init(&between[i], out->max);
		ol_buf_init(&between_marks[i], out->max);
	}
	for (int i = 0; s == OL_OK && i < t->normalizer_count; i++) {
		const bool last = i == t->normalizer_count - 1;
		r.out = last ? out : &between[i & 1];
		if (marks_out)
			r.marks_out = last ? marks_out : &between_marks[i & 1];
		if (!last) {
			ol_buf_clear(&between[i & 1]);
			ol_buf_clear(&between_marks[i & 1]);
		}
		s = normalize_step(&t->normalizers[i], &r, size, stretch->opens_text, work, err);
		/* An empty buffer may have no memory yet. */
		size = r.out->size;
		r.text = size ? r.out->data : "";
		r.marks = !marks_out ? NULL : size ? r.marks_out->data : "";
	}
	for (int i = 0; i < 2; i++) {
		ol_buf_release(&between[i]);
		ol_buf_release(&between_marks[i]);
	}
	return s;
}

/* One call of encode. */
struct encoding {
	const struct ol_tokenizer *t;
	struct ol_error *err;
	struct ol_split_work *split; /* NULL: no pattern needs it */
	struct ol_bpe_work bpe;
	struct ol_tokens *out;
	struct ol_buf normalized; /* of all segments, one after the other */
	/* Steps that change the text (Metaspace, a prefix space) write here, two taking turns; the
	 * last one always into final, again of all segments. */
	struct ol_buf between[2], final;
	struct ol_pieces pieces[2];
	size_t changing_steps;
};

static bool push_all(struct ol_tokens *out, const int32_t *ids, int count)
{
	for (int i = 0; i < count; i++)
		if (!ol_tokens_push(out, ids[i]))
			return false;
	return true;
}

/* Joins neighbouring pieces as a Split's behavior says; in place, from `from` on. */
static void apply_behavior(struct ol_pieces *pieces, size_t from, enum ol_split_behavior behavior,
			   bool invert)
{
	struct ol_piece *list = pieces->list;
	size_t kept = from;
	bool previous = false;
	if (behavior == OL_SPLIT_MERGED_WITH_NEXT) {
		/* As the library: the same as with the previous, from the end backwards. */
		kept = pieces->count;
		for (size_t i = pieces->count; i-- > from;) {
			const struct ol_piece p = list[i];
			const bool matched = p.matched != invert;
			if (matched && !previous && kept < pieces->count)
				list[kept].begin = p.begin;
			else
				list[--kept] = p;
			previous = matched;
		}
		memmove(list + from, list + kept, (pieces->count - kept) * sizeof *list);
		pieces->count = from + (pieces->count - kept);
		return;
	}
	for (size_t i = from; i < pieces->count; i++) {
		const struct ol_piece p = list[i];
		const bool matched = p.matched != invert;
		bool join = false;
		switch (behavior) {
		case OL_SPLIT_REMOVED:
			if (matched)
				continue;
			break;
		case OL_SPLIT_ISOLATED: break;
		case OL_SPLIT_CONTIGUOUS: join = matched == previous && kept > from; break;
		case OL_SPLIT_MERGED_WITH_PREVIOUS:
			join = matched && !previous && kept > from;
			break;
		case OL_SPLIT_MERGED_WITH_NEXT: OL_UNREACHABLE();
		}
		previous = matched;
		if (join)
			list[kept - 1].end = p.end;
		else
			list[kept++] = p;
	}
	pieces->count = kept;
}

static enum ol_status split_pieces(struct encoding *e, const struct ol_split *pattern,
				   enum ol_split_behavior behavior, bool invert, const char *text,
				   struct ol_pieces *from, struct ol_pieces *to)
{
	for (size_t i = 0; i < from->count; i++) {
		const struct ol_piece *p = &from->list[i];
		const size_t first = to->count;
		if (p->begin == p->end)
			continue;
		const enum ol_status s =
			ol_split_find(pattern, e->split, to, text, p->begin, p->end, e->err);
		if (s != OL_OK)
			return s;
		if (behavior != OL_SPLIT_ISOLATED)
			apply_behavior(to, first, behavior, invert);
	}
	return OL_OK;
}

/* Metaspace and ByteLevel's prefix space: writes the changed pieces to out. */
static enum ol_status change_pieces(struct encoding *e, const struct ol_pretokenizer *step,
				    bool opens_text, struct ol_buf *out, const char *text,
				    struct ol_pieces *from, struct ol_pieces *to)
{
	const bool metaspace = step->kind == OL_PRETOKENIZER_METASPACE;
	const struct ol_bytes space = {(char[]){" "}, 1};
	const struct ol_bytes *prefix = metaspace ? &step->replacement : &space;
	for (size_t i = 0; i < from->count; i++) {
		const struct ol_piece *p = &from->list[i];
		const size_t size = p->end - p->begin, begin = out->size;
		const char *own = text + p->begin;
		if (size == 0)
			continue;
		const bool has_prefix =
			(metaspace && own[0] == ' ') ||
			(size >= prefix->size && memcmp(own, prefix->data, prefix->size) == 0);
		const bool wanted = !metaspace || step->prepend == OL_PREPEND_ALWAYS ||
				    (step->prepend == OL_PREPEND_FIRST && opens_text && i == 0);
		const struct replacing r = {out, NULL, own, NULL};
		bool ok = has_prefix || !wanted || put_content(&r, prefix, 0);
		ok = ok && (metaspace ? replace_byte(&r, size, ' ', &step->replacement)
				      : copy_part(&r, 0, size));
		if (!ok)
			return no_room(out, e->err);
		if (!ol_pieces_push(to, begin, out->size, false))
			return no_memory(e->err);
	}
	return OL_OK;
}

/* Cuts text[begin, end) into words: *pieces_out, whose text begins at *text_out. */
static enum ol_status pretokenize(struct encoding *e, const char *text, size_t begin, size_t end,
				  bool opens_text, const char **text_out,
				  struct ol_pieces **pieces_out)
{
	size_t changes = 0;
	struct ol_pieces *from = &e->pieces[0], *to = &e->pieces[1];
	enum ol_status s = OL_OK;
	from->count = 0;
	if (!ol_pieces_push(from, begin, end, false))
		return no_memory(e->err);
	for (int i = 0; s == OL_OK && i < e->t->pretokenizer_count; i++) {
		const struct ol_pretokenizer *step = &e->t->pretokenizers[i];
		to->count = 0;
		if (step->kind != OL_PRETOKENIZER_SPLIT) {
			struct ol_buf *out = &e->between[changes & 1];
			if (++changes == e->changing_steps)
				out = &e->final;
			else
				ol_buf_clear(out);
			s = change_pieces(e, step, opens_text, out, text, from, to);
			text = out->data;
			struct ol_pieces *swap = from;
			from = to;
			to = swap;
			to->count = 0;
		}
		if (s == OL_OK && step->pattern) {
			s = split_pieces(e, step->pattern, step->behavior, step->invert, text, from,
					 to);
			struct ol_pieces *swap = from;
			from = to;
			to = swap;
		}
	}
	*text_out = text;
	*pieces_out = from;
	return s;
}

/* A stretch without added tokens, normalized. */
static enum ol_status encode_stretch(struct encoding *e, const char *text, size_t begin, size_t end,
				     bool opens_text)
{
	struct ol_pieces *pieces = NULL;
	if (begin == end)
		return OL_OK;
	const enum ol_status s =
		pretokenize(e, text, begin, end, opens_text, &e->bpe.base, &pieces);
	if (s != OL_OK)
		return s;
	for (size_t i = 0; i < pieces->count; i++)
		if (!ol_bpe_encode(&e->t->bpe, &e->bpe, pieces->list[i].begin, pieces->list[i].end))
			return no_memory(e->err);
	return OL_OK;
}

/* Looks for normalized added tokens in [begin, size) of the normalized text. */
static enum ol_status encode_normalized(struct encoding *e, size_t begin,
					const struct ol_plain *plain, enum ol_special special,
					bool opens_text)
{
	const char *text = e->normalized.data + begin;
	const size_t size = e->normalized.size - begin;
	struct ol_cuts cuts = {0};
	if (special == OL_SPECIAL_NONE || e->t->normalized.count == 0)
		return encode_stretch(e, e->normalized.data, begin, begin + size, opens_text);
	enum ol_status s =
		ol_tokenizer_find_added(e->t, &e->t->normalized, text, size, plain, &cuts, e->err);
	for (size_t i = 0; s == OL_OK && i < cuts.count; i++) {
		const struct ol_cut *cut = &cuts.list[i];
		if (cut->id < 0)
			s = encode_stretch(e, e->normalized.data, begin + cut->begin,
					   begin + cut->end, opens_text && cut->begin == 0);
		else if (!ol_tokens_push(e->out, cut->id))
			s = no_memory(e->err);
	}
	free(cuts.list);
	return s;
}

/* Marks of the bytes of [begin, end) that lie in plain spans. */
static char *marks_of(const struct ol_plain *plain, size_t begin, size_t end)
{
	char *marks = calloc(end - begin + 1, 1);
	for (size_t i = 0; marks && i < plain->count; i++) {
		const size_t from = OL_MAX(plain->spans[i].begin, begin);
		const size_t to = OL_MIN(plain->spans[i].end, end);
		if (from < to)
			memset(marks + (from - begin), 1, to - from);
	}
	return marks;
}

/* A stretch of the original text between added tokens. */
static enum ol_status encode_segment(struct encoding *e, const char *text, size_t begin, size_t end,
				     const struct ol_plain *plain, enum ol_special special)
{
	const bool watch = special == OL_SPECIAL_PARSE && e->t->normalized.count > 0;
	if (e->t->normalizer_count == 0 && !watch)
		return encode_stretch(e, text, begin, end, begin == 0);
	struct ol_buf marks;
	char *marks_in = NULL;
	const size_t from = e->normalized.size;
	ol_buf_init(&marks, e->normalized.max);
	if (watch && plain->count > 0) {
		marks_in = marks_of(plain, begin, end);
		if (!marks_in)
			return no_memory(e->err);
	}
	const struct ol_stretch stretch = {text + begin, marks_in, end - begin, begin == 0};
	enum ol_status s = ol_tokenizer_normalize(e->t, &e->normalized, marks_in ? &marks : NULL,
						  &stretch, e->split, e->err);
	const struct ol_plain own = {NULL, 0, marks_in ? marks.data : NULL};
	if (s == OL_OK && e->normalized.size > from)
		s = encode_normalized(e, from, &own, special, begin == 0);
	ol_buf_release(&marks);
	free(marks_in);
	return s;
}

static enum ol_status encode_text(struct encoding *e, const char *text, size_t size,
				  enum ol_special special, const struct ol_plain *plain)
{
	struct ol_cuts cuts = {0};
	if (size == 0)
		return OL_OK;
	if (special == OL_SPECIAL_NONE || e->t->raw.count == 0)
		return encode_segment(e, text, 0, size, plain, special);
	enum ol_status s =
		ol_tokenizer_find_added(e->t, &e->t->raw, text, size, plain, &cuts, e->err);
	for (size_t i = 0; s == OL_OK && i < cuts.count; i++) {
		const struct ol_cut *cut = &cuts.list[i];
		if (cut->id < 0)
			s = encode_segment(e, text, cut->begin, cut->end, plain, special);
		else if (!ol_tokens_push(e->out, cut->id))
			s = no_memory(e->err);
	}
	free(cuts.list);
	return s;
}

static enum ol_status open_encoding(struct encoding *e, size_t size)
{
	const size_t max = size * OL_TOKENIZER_GROWTH_MAX + MIN_GROWTH_ROOM;
	ol_buf_init(&e->normalized, OL_MIN(max, (size_t)UINT32_MAX));
	ol_buf_init(&e->between[0], e->normalized.max);
	ol_buf_init(&e->between[1], e->normalized.max);
	ol_buf_init(&e->final, e->normalized.max);
	for (int i = 0; i < e->t->pretokenizer_count; i++)
		e->changing_steps += e->t->pretokenizers[i].kind != OL_PRETOKENIZER_SPLIT;
	if (!ol_bpe_work_init(&e->bpe, e->out, size) ||
	    (e->t->has_regex && !ol_split_work_open(&e->split)))
		return no_memory(e->err);
	return OL_OK;
}

static void close_encoding(struct encoding *e)
{
	ol_split_work_close(e->split);
	ol_bpe_work_release(&e->bpe);
	ol_buf_release(&e->normalized);
	ol_buf_release(&e->between[0]);
	ol_buf_release(&e->between[1]);
	ol_buf_release(&e->final);
	ol_pieces_release(&e->pieces[0]);
	ol_pieces_release(&e->pieces[1]);
}

enum ol_status ol_tokenizer_encode(const struct ol_tokenizer *t, struct ol_tokens *tokens,
				   const char *text, size_t size, enum ol_special special,
				   bool add_template, const struct ol_text_span *plain,
				   size_t plain_count, struct ol_error *err)
{
	const size_t begin = tokens->count;
	struct encoding e = {.t = t, .err = err, .out = tokens};
	/* Text in which nothing is special is text that a user wrote from end to end. */
	const struct ol_text_span whole = {0, size};
	const bool blanks = t->raw.has_blank || t->normalized.has_blank;
	struct ol_plain spans = {plain, plain ? plain_count : 0, NULL};
	if (special == OL_SPECIAL_NONE && blanks) {
		spans = (struct ol_plain){&whole, 1, NULL};
		special = OL_SPECIAL_PARSE;
	}
	for (size_t i = 0; i < spans.count; i++)
		OL_ASSERT(spans.spans[i].begin <= spans.spans[i].end &&
			  spans.spans[i].end <= size &&
			  (i == 0 || spans.spans[i - 1].end <= spans.spans[i].begin));
	if (size > OL_TOKENIZER_TEXT_MAX)
		return ol_fail(err, OL_ERR_FULL,
			       "a text of %zu bytes is too long to tokenize at once: the "
			       "limit is %d",
			       size, OL_TOKENIZER_TEXT_MAX);
	const size_t valid = ol_utf8_check(text, size);
	if (valid < size)
		return ol_fail(err, OL_ERR_INPUT, "the text is not valid UTF-8 at byte %zu", valid);
	enum ol_status s = open_encoding(&e, size);
	if (s == OL_OK && add_template && !push_all(tokens, t->before, t->before_count))
		s = no_memory(err);
	if (s == OL_OK)
		s = encode_text(&e, text, size, special, &spans);
	if (s == OL_OK && add_template && !push_all(tokens, t->after, t->after_count))
		s = no_memory(err);
	close_encoding(&e);
	if (s != OL_OK)
		tokens->count = begin; /* nothing half-done */
	return s;
}
