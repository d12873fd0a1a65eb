/* Added tokens: their numbers, and finding them in a text. */
#include "model/tokenizer_added.h"

#include "model/config.h"
#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

/* Where tokens are looked for: a match begins in [at, limit). It ends by `free_end`, or its token
 * is blank and it ends by `size`. */
struct window {
	size_t at, limit, free_end, size;
};

/* The first place in the window with a text of the trie, and the longest one there. */
static bool find_text(const struct ol_tokenizer *t, const struct ol_trie *trie, const char *text,
		      struct window *w, size_t *end_out, int32_t *token_out)
{
	const size_t stop = trie->has_blank ? w->size : w->free_end;
	for (; w->at < w->limit; w->at++) {
		if (!trie->first[(uint8_t)text[w->at]])
			continue;
		int32_t node = 0;
		*token_out = -1;
		for (size_t i = w->at; i < stop; i++) {
			node = trie->nodes[node].child;
			while (node >= 0 && trie->nodes[node].byte != (uint8_t)text[i])
				node = trie->nodes[node].sibling;
			if (node < 0)
				break;
			const int32_t token = trie->nodes[node].token;
			if (token >= 0 && (i < w->free_end || t->added[token].blank)) {
				*token_out = token;
				*end_out = i + 1;
			}
		}
		if (*token_out >= 0)
			return true;
	}
	return false;
}

static int32_t trie_node(struct ol_trie *trie, uint8_t byte)
{
	if (trie->count == trie->room) {
		const size_t room = OL_MAX(trie->room * 2, (size_t)256);
		struct ol_trie_node *nodes =
			room < INT32_MAX ? realloc(trie->nodes, room * sizeof *nodes) : NULL;
		if (!nodes)
			return -1;
		trie->nodes = nodes;
		trie->room = room;
	}
	trie->nodes[trie->count] = (struct ol_trie_node){-1, -1, -1, byte};
	return (int32_t)trie->count++;
}

/* The first of two equal texts counts. */
static bool trie_add(struct ol_trie *trie, const char *text, size_t size, int32_t token)
{
	int32_t node = 0;
	if (trie->count == 0 && trie_node(trie, 0) < 0)
		return false;
	trie->first[(uint8_t)text[0]] = true;
	for (size_t i = 0; i < size; i++) {
		int32_t child = trie->nodes[node].child;
		while (child >= 0 && trie->nodes[child].byte != (uint8_t)text[i])
			child = trie->nodes[child].sibling;
		if (child < 0) {
			child = trie_node(trie, (uint8_t)text[i]);
			if (child < 0)
				return false;
			trie->nodes[child].sibling = trie->nodes[node].child;
			trie->nodes[node].child = child;
		}
		node = child;
	}
	if (trie->nodes[node].token < 0)
		trie->nodes[node].token = token;
	return true;
}

static bool same_options(const struct ol_added *a, const struct ol_added *b)
{
	return a->single_word == b->single_word && a->lstrip == b->lstrip &&
	       a->rstrip == b->rstrip && a->normalized == b->normalized && a->special == b->special;
}

/* The id the library gives an added token: that of an equal text before it, of the vocabulary, or
 * the next one past the size of the vocabulary. */
static enum ol_status number_tokens(struct ol_tokenizer *t, const char *path, struct ol_error *err)
{
	struct ol_bpe *bpe = &t->bpe;
	int32_t next = (int32_t)bpe->texts.count;
	size_t begin = 0;
	for (size_t i = 0; i < t->added_count; i++) {
		const struct ol_added *a = &t->added[i];
		const struct ol_text_ref text = {(uint32_t)begin, (uint32_t)a->content.size};
		if (a->content.size == 0)
			continue;
		memcpy(t->added_pool + begin, a->content.data, a->content.size);
		int32_t id = ol_text_table_find(&t->added_ids, t->added_pool, a->content.data,
						a->content.size);
		if (id < 0)
			id = ol_bpe_find(bpe, a->content.data, a->content.size);
		const bool is_new = id < 0;
		if (is_new)
			id = next++;
		/* In a vocabulary with holes the next id may be taken: an ordinary entry would then
		 * come out as a special token. */
		if (is_new && ol_bpe_has(bpe, id))
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: added_tokens: \"%.60s\" gets id %d, which "
				       "belongs to another entry of the vocabulary",
				       path, a->content.data, (int)id);
		if (id != a->id)
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: added_tokens: \"%.60s\" is declared as id %d, "
				       "but its place in the vocabulary makes it %d",
				       path, a->content.data, (int)a->id, (int)id);
		if (!ol_text_table_put(&t->added_ids, t->added_pool, text, id))
			return ol_fail(err, OL_ERR_FULL, "%s: added_tokens: out of memory", path);
		begin += a->content.size;
		t->vocab_size = OL_MAX(t->vocab_size, id + 1);
	}
	return OL_OK;
}

/* An empty token is passed over, and so is one that comes again with the same options. */
static void drop_repeats(struct ol_tokenizer *t)
{
	size_t kept = 0;
	for (size_t i = 0; i < t->added_count; i++) {
		struct ol_added *a = &t->added[i];
		const int32_t id = ol_text_table_find(&t->added_ids, t->added_pool, a->content.data,
						      a->content.size);
		const int32_t before = id < 0 ? -1 : t->added_of[id];
		if (a->content.size == 0 || (before >= 0 && same_options(a, &t->added[before]))) {
			free(a->content.data);
			continue;
		}
		t->added_of[id] = (int32_t)kept;
		t->added[kept++] = *a;
	}
	t->added_count = kept;
}

/* A text counts as special when any token with this text is. */
static void note_special(struct ol_tokenizer *t)
{
	for (size_t i = 0; i < t->added_count; i++)
		if (t->added[i].special)
			t->special[t->added[i].id] = 1;
}

/* White space throughout, and found as it stands. */
static bool is_blank(const struct ol_added *a)
{
	for (size_t at = 0; at < a->content.size;) {
		size_t length;
		const uint32_t point = ol_utf8_at(a->content.data + at, &length);
		if (!(ol_unicode_class(point) & OL_UNICODE_SPACE))
			return false;
		at += length;
	}
	return !a->special && !a->single_word && !a->lstrip && !a->rstrip;
}

static enum ol_status add_pattern(struct ol_tokenizer *t, int32_t token, struct ol_split_work *work,
				  const char *path, struct ol_error *err)
{
	struct ol_added *a = &t->added[token];
	enum ol_status s = OL_OK;
	struct ol_buf text;
	a->blank = is_blank(a);
	struct ol_trie *trie = a->normalized ? &t->normalized : &t->raw;
	trie->has_blank = trie->has_blank || a->blank;
	if (!a->normalized)
		return trie_add(&t->raw, a->content.data, a->content.size, token)
			       ? OL_OK
			       : ol_fail(err, OL_ERR_FULL, "%s: added_tokens: out of memory", path);
	ol_buf_init(&text, OL_TOKENIZER_TEXT_MAX);
	const struct ol_stretch stretch = {a->content.data, NULL, a->content.size, true};
	s = ol_tokenizer_normalize(t, &text, NULL, &stretch, work, err);
	if (s == OL_OK && text.size == 0)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "%s: added_tokens: the normalizer leaves nothing of "
			    "\"%.60s\"",
			    path, a->content.data);
	if (s == OL_OK && text.size > 64 * OL_TOKENIZER_ADDED_SIZE_MAX)
		s = ol_fail(err, OL_ERR_FULL,
			    "%s: added_tokens: the normalizer makes \"%.60s\" too long", path,
			    a->content.data);
	if (s == OL_OK && !trie_add(&t->normalized, text.data, text.size, token))
		s = ol_fail(err, OL_ERR_FULL, "%s: added_tokens: out of memory", path);
	ol_buf_release(&text);
	return s;
}

/* Special tokens go first, so that they win over an equal text. */
static enum ol_status build_tries(struct ol_tokenizer *t, const char *path, struct ol_error *err)
{
	struct ol_split_work *work = NULL;
	enum ol_status s = OL_OK;
	if (!ol_split_work_open(&work))
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; s == OL_OK && i < t->added_count; i++)
			if (t->added[i].special == (round == 0) &&
			    (round == 0 || !t->special[t->added[i].id]))
				s = add_pattern(t, (int32_t)i, work, path, err);
	ol_split_work_close(work);
	return s;
}

enum ol_status ol_tokenizer_add_tokens(struct ol_tokenizer *t, const char *path,
				       struct ol_error *err)
{
	size_t total = 1;
	for (size_t i = 0; i < t->added_count; i++)
		total += t->added[i].content.size;
	t->vocab_size = t->bpe.vocab_size;
	t->added_pool = malloc(total);
	if (!t->added_pool)
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	enum ol_status s = number_tokens(t, path, err);
	if (s != OL_OK)
		return s;
	t->special = calloc((size_t)t->vocab_size + 1, 1);
	t->added_of = malloc(((size_t)t->vocab_size + 1) * sizeof *t->added_of);
	if (!t->special || !t->added_of)
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	for (int32_t id = 0; id <= t->vocab_size; id++)
		t->added_of[id] = -1;
	drop_repeats(t);
	note_special(t);
	return build_tries(t, path, err);
}

static unsigned class_of(const char *text, size_t at)
{
	size_t length;
	return ol_unicode_class(ol_utf8_at(text + at, &length));
}

static bool stands_alone(const char *text, size_t begin, size_t end, size_t size)
{
	const bool left =
		begin == 0 || !(class_of(text, ol_utf8_before(text, begin)) & OL_UNICODE_WORD);
	return left && (end == size || !(class_of(text, end) & OL_UNICODE_WORD));
}

static size_t spaces_before(const char *text, size_t at)
{
	while (at > 0) {
		const size_t last = ol_utf8_before(text, at);
		if (!(class_of(text, last) & OL_UNICODE_SPACE))
			break;
		at = last;
	}
	return at;
}

static size_t spaces_after(const char *text, size_t at, size_t size)
{
	while (at < size && (class_of(text, at) & OL_UNICODE_SPACE)) {
		size_t length;
		(void)ol_utf8_at(text + at, &length);
		at += length;
	}
	return at;
}

/* The plain part that ends after `at`, or (size, size). *span only moves on. */
static void next_plain(const struct ol_plain *plain, size_t *span, size_t at, size_t size,
		       size_t *begin, size_t *end)
{
	*begin = *end = size;
	if (plain->marks && at < size) {
		const char *hit = memchr(plain->marks + at, 1, size - at);
		const char *over = hit ? memchr(hit, 0, size - (size_t)(hit - plain->marks)) : NULL;
		*begin = hit ? (size_t)(hit - plain->marks) : size;
		*end = over ? (size_t)(over - plain->marks) : size;
		return;
	}
	for (; *span < plain->count; ++*span) {
		const struct ol_text_span *s = &plain->spans[*span];
		if (s->end > at && s->end > s->begin) {
			*begin = OL_MIN(s->begin, size);
			*end = OL_MIN(s->end, size);
			return;
		}
	}
}

/* The window that begins at `at`: up to the next plain part, or inside one. */
static struct window window_at(const struct ol_plain *plain, size_t *span, size_t at, size_t size)
{
	size_t begin, end;
	next_plain(plain, span, at, size, &begin, &end);
	if (begin > at)
		return (struct window){at, begin, begin, size};
	return (struct window){at, end, 0, size};
}

enum ol_status ol_tokenizer_find_added(const struct ol_tokenizer *t, const struct ol_trie *trie,
				       const char *text, size_t size, const struct ol_plain *plain,
				       struct ol_cuts *cuts, struct ol_error *err)
{
	size_t at = 0, done = 0, span = 0, end;
	int32_t token;
	bool ok = true;
	while (ok && trie->count > 0 && at < size) {
		struct window w = window_at(plain, &span, at, size);
		at = w.limit;
		if ((w.free_end == 0 && !trie->has_blank) ||
		    !find_text(t, trie, text, &w, &end, &token))
			continue;
		const struct ol_added *a = &t->added[t->added_of[t->added[token].id]];
		size_t begin = w.at, stop = end;
		at = end;
		if (a->single_word && !stands_alone(text, begin, end, size))
			continue;
		if (a->lstrip)
			begin = OL_MAX(spaces_before(text, begin), done);
		if (a->rstrip)
			stop = spaces_after(text, stop, size);
		if (done < begin)
			ok = ol_cuts_push(cuts, done, begin, -1);
		ok = ok && ol_cuts_push(cuts, begin, stop, a->id);
		done = stop;
	}
	if (ok && done != size)
		ok = ol_cuts_push(cuts, done, size, -1);
	return ok ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory while tokenizing a text");
}

bool ol_cuts_push(struct ol_cuts *cuts, size_t begin, size_t end, int32_t id)
{
	if (cuts->count == cuts->room) {
		const size_t room = OL_MAX(cuts->room * 2, (size_t)16);
		struct ol_cut *list = realloc(cuts->list, room * sizeof *list);
		if (!list)
			return false;
		cuts->list = list;
		cuts->room = room;
	}
	cuts->list[cuts->count++] = (struct ol_cut){begin, end, id};
	return true;
}
