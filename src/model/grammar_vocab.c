/* The tokens of a model as tries of bytes. */
#include "model/grammar_internal.h"

#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { PLAIN_MAX = 64, SLOTS = 4096 };

struct piece {
	const char *bytes;
	uint32_t size;
	int32_t id;
	uint32_t plain; /* characters, if it is plain; else 0 */
};

static int compare_pieces(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;
	const int order = memcmp(x->bytes, y->bytes, OL_MIN(x->size, y->size));
	if (order != 0)
		return order;
	if (x->size != y->size)
		return x->size < y->size ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

/* Whole characters that a string holds as they are: how many; 0 if it is not that. */
static uint32_t plain_characters(const char *bytes, size_t size)
{
	uint32_t count = 0;
	uint8_t lex = OL_LEX_PLAIN;
	for (size_t i = 0; i < size; i++) {
		if (bytes[i] == '\\')
			return 0;
		/* U+2028 and U+2029: what "." in a pattern leaves out. */
		if (size - i >= 3 && memcmp(bytes + i, "\xe2\x80", 2) == 0 &&
		    (bytes[i + 2] == '\xa8' || bytes[i + 2] == '\xa9'))
			return 0;
		lex = ol_grammar_lex(lex, (uint8_t)bytes[i], true);
		if (lex == OL_LEX_DEAD)
			return 0;
		count += lex == OL_LEX_PLAIN;
	}
	return lex == OL_LEX_PLAIN && count <= PLAIN_MAX ? count : 0;
}

static bool is_eos(const struct ol_grammar_vocab *v, int32_t id)
{
	for (int i = 0; i < v->eos_count; i++)
		if (v->eos[i] == id)
			return true;
	return false;
}

/* The bytes of all tokens that may ever be allowed; how many there are. */
static bool read_pieces(struct ol_grammar_vocab *v, const struct ol_tokenizer *t, uint32_t *count)
{
	const int n = OL_MIN(v->vocab_size, ol_tokenizer_vocab_size(t));
	struct ol_buf bytes;
	ol_buf_init(&bytes, UINT32_MAX);
	*count = 0;
	for (int32_t id = 0; id < n && !bytes.failed; id++) {
		size_t size = 0;
		const char *piece = ol_tokenizer_piece(t, id, &size);
		if (!piece || size == 0 || size > OL_GRAMMAR_PIECE_MAX ||
		    ol_tokenizer_is_special(t, id) || is_eos(v, id))
			continue;
		int opens = 0;
		for (size_t i = 0; i < size; i++)
			opens += piece[i] == '[' || piece[i] == '{';
		v->begin[id] = (uint32_t)bytes.size;
		v->size[id] = (uint32_t)size;
		v->longest = OL_MAX(v->longest, (int)size);
		v->opens_max = OL_MAX(v->opens_max, opens);
		++*count;
		(void)ol_buf_append(&bytes, piece, size);
	}
	v->bytes = bytes.data;
	return !bytes.failed && v->bytes;
}

/* Nodes for sorted pieces. With plain false, those that are plain are left out. */
static bool build_trie(struct ol_trie *trie, const struct piece *pieces, uint32_t count, bool plain)
{
	uint32_t open[OL_GRAMMAR_PIECE_MAX + 1];
	uint32_t depth = 0;
	const struct piece *last = NULL;
	for (uint32_t i = 0; i < count; i++) {
		const struct piece *p = &pieces[i];
		uint32_t common = 0;
		if (!plain && p->plain > 0)
			continue;
		while (last && common < OL_MIN(last->size, p->size) &&
		       last->bytes[common] == p->bytes[common])
			common++;
		if (last && common == p->size && last->size == p->size)
			continue; /* the same bytes: reached through `same` */
		for (; depth > common; depth--)
			trie->nodes[open[depth - 1]].skip = trie->count;
		for (; depth < p->size; depth++) {
			void *nodes = trie->nodes;
			if (!ol_grammar_grow(&nodes, &trie->room, trie->count, sizeof *trie->nodes,
					     UINT32_MAX / 64))
				return false;
			trie->nodes = nodes;
			open[depth] = trie->count;
			trie->nodes[trie->count++] = (struct ol_trie_node){
				.token = -1,
				.byte = (uint8_t)p->bytes[depth],
				.depth = (uint16_t)(depth + 1),
			};
		}
		trie->nodes[open[depth - 1]].token = p->id;
		last = p;
	}
	for (; depth > 0; depth--)
		trie->nodes[open[depth - 1]].skip = trie->count;
	return true;
}

static bool build_plain(struct ol_grammar_vocab *v, const struct piece *pieces, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		v->plain_max = OL_MAX(v->plain_max, (int)pieces[i].plain);
	v->plain = calloc((size_t)(v->plain_max + 1) * v->words, sizeof *v->plain);
	for (uint32_t i = 0; v->plain && i < count; i++)
		for (uint32_t n = pieces[i].plain; n > 0 && n <= (uint32_t)v->plain_max; n++)
			v->plain[n * v->words + (size_t)pieces[i].id / 64] |= 1ull
									      << pieces[i].id % 64;
	return v->plain != NULL;
}

static bool build(struct ol_grammar_vocab *v, const struct ol_tokenizer *tokenizer)
{
	uint32_t count, n = 0;
	if (!read_pieces(v, tokenizer, &count))
		return false;
	struct piece *pieces = calloc((size_t)count + 1, sizeof *pieces);
	if (!pieces)
		return false;
	for (int32_t id = 0; id < v->vocab_size; id++) {
		v->same[id] = -1;
		if (v->size[id] == 0)
			continue;
		const char *bytes = v->bytes + v->begin[id];
		pieces[n++] = (struct piece){bytes, v->size[id], id,
					     plain_characters(bytes, v->size[id])};
	}
	qsort(pieces, count, sizeof *pieces, compare_pieces);
	for (uint32_t i = 0; i + 1 < count; i++)
		if (pieces[i].size == pieces[i + 1].size &&
		    memcmp(pieces[i].bytes, pieces[i + 1].bytes, pieces[i].size) == 0)
			v->same[pieces[i].id] = pieces[i + 1].id;
	const bool ok = build_trie(&v->all, pieces, count, true) &&
			build_trie(&v->special, pieces, count, false) &&
			build_plain(v, pieces, count);
	free(pieces);
	return ok;
}

bool ol_grammar_vocab_spells(const struct ol_grammar_vocab *v, uint8_t byte)
{
	for (uint32_t i = 0; i < v->all.count; i = v->all.nodes[i].skip)
		if (v->all.nodes[i].byte == byte)
			return v->all.nodes[i].token >= 0;
	return false;
}

/* Where a value stands half written, any byte may be the only one to go on with. */
enum ol_status ol_grammar_vocab_check(const struct ol_grammar_vocab *v, struct ol_error *err)
{
	static const uint8_t ranges[][2] = {{0x20, 0x7e}, {0x80, 0xbf}, {0xc2, 0xf4}};
	for (size_t r = 0; r < OL_ARRAY_LEN(ranges); r++)
		for (int byte = ranges[r][0]; byte <= ranges[r][1]; byte++)
			if (!ol_grammar_vocab_spells(v, (uint8_t)byte))
				return ol_fail(
					err, OL_ERR_UNSUPPORTED,
					"JSON output needs a token for every single "
					"byte, and this model's tokenizer has none for 0x%02x: "
					"use a model with a byte-level or byte-fallback "
					"tokenizer",
					(unsigned)byte);
	return OL_OK;
}

static void vocab_free(struct ol_grammar_vocab *v)
{
	ol_grammar_cache_release(v);
	free(v->eos);
	free(v->bytes);
	free(v->begin);
	free(v->size);
	free(v->same);
	free(v->all.nodes);
	free(v->special.nodes);
	free(v->plain);
	free(v->run.links);
	free(v->levels);
	free(v->marks);
	free((void *)v->slots);
	(void)pthread_mutex_destroy(&v->lock);
	free(v);
}

enum ol_status ol_grammar_vocab_open(struct ol_grammar_vocab **vocab_out,
				     const struct ol_tokenizer *tokenizer, int vocab_size,
				     const int32_t *eos_ids, int eos_count, size_t cache_bytes,
				     struct ol_error *err)
{
	const size_t n = (size_t)vocab_size;
	struct ol_grammar_vocab *v = calloc(1, sizeof *v);
	*vocab_out = NULL;
	if (!v)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the tokens' bytes");
	atomic_init(&v->references, 1);
	(void)pthread_mutex_init(&v->lock, NULL);
	v->vocab_size = vocab_size;
	v->words = (n + 63) / 64;
	v->cache_max = cache_bytes ? cache_bytes : OL_GRAMMAR_CACHE_BYTES;
	v->slot_count = SLOTS;
	v->eos = calloc((size_t)eos_count + 1, sizeof *v->eos);
	v->begin = calloc(n + 1, sizeof *v->begin);
	v->size = calloc(n + 1, sizeof *v->size);
	v->same = calloc(n + 1, sizeof *v->same);
	v->slots = calloc(SLOTS, sizeof *v->slots);
	v->run.links = calloc(OL_GRAMMAR_LINKS_MAX, sizeof *v->run.links);
	v->levels = calloc(OL_GRAMMAR_PIECE_MAX + 2, sizeof *v->levels);
	v->marks = calloc(OL_GRAMMAR_PIECE_MAX + 2, sizeof *v->marks);
	bool ok = v->eos && v->begin && v->size && v->same && v->slots && v->run.links &&
		  v->levels && v->marks;
	if (ok) {
		for (int i = 0; i < eos_count; i++)
			v->eos[v->eos_count++] = eos_ids[i];
		ok = build(v, tokenizer);
	}
	if (!ok) {
		vocab_free(v);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the tokens' bytes");
	}
	*vocab_out = v;
	return OL_OK;
}

void ol_grammar_vocab_drop(struct ol_grammar_vocab *vocab)
{
	if (atomic_fetch_sub(&vocab->references, 1) == 1)
		vocab_free(vocab);
}

/* --- grammars that are kept ------------------------------------------------ */

/* Takes the last of them out. Under the lock; it is closed after it, because that may come back
 * here. */
static struct ol_grammar *take_last(struct ol_grammar_vocab *v)
{
	struct ol_grammar *g = v->kept[--v->kept_count];
	v->kept_bytes -= g->bytes;
	return g;
}

void ol_grammar_vocab_close(struct ol_grammar_vocab *vocab)
{
	if (!vocab)
		return;
	const struct ol_grammar *last;
	do {
		(void)pthread_mutex_lock(&vocab->lock);
		last = vocab->kept_count > 0 ? take_last(vocab) : NULL;
		(void)pthread_mutex_unlock(&vocab->lock);
		ol_grammar_close(last);
	} while (last);
	ol_grammar_vocab_drop(vocab);
}

struct ol_grammar *ol_grammar_kept(struct ol_grammar_vocab *v,
				   const uint8_t id[OL_GRAMMAR_ID_BYTES])
{
	struct ol_grammar *found = NULL;
	(void)pthread_mutex_lock(&v->lock);
	for (int i = 0; i < v->kept_count && !found; i++) {
		if (memcmp(v->kept[i]->id, id, OL_GRAMMAR_ID_BYTES) != 0)
			continue;
		found = v->kept[i];
		memmove((void *)&v->kept[1], (void *)&v->kept[0],
			(size_t)i * sizeof(struct ol_grammar *));
		v->kept[0] = found;
		(void)ol_grammar_hold(found);
	}
	(void)pthread_mutex_unlock(&v->lock);
	return found;
}

void ol_grammar_keep(struct ol_grammar_vocab *v, struct ol_grammar *g)
{
	struct ol_grammar *gone[OL_GRAMMAR_KEPT_MAX];
	int gone_count = 0;
	(void)pthread_mutex_lock(&v->lock);
	g->serial = ++v->serials;
	while (v->kept_count > 0 && (v->kept_count == OL_GRAMMAR_KEPT_MAX ||
				     v->kept_bytes + g->bytes > OL_GRAMMAR_KEPT_BYTES))
		gone[gone_count++] = take_last(v);
	if (g->bytes <= OL_GRAMMAR_KEPT_BYTES) {
		memmove((void *)&v->kept[1], (void *)&v->kept[0],
			(size_t)v->kept_count * sizeof(struct ol_grammar *));
		v->kept[0] = g;
		v->kept_count++;
		v->kept_bytes += g->bytes;
		(void)ol_grammar_hold(g);
	}
	(void)pthread_mutex_unlock(&v->lock);
	while (gone_count > 0)
		ol_grammar_close(gone[--gone_count]);
}

void ol_grammar_vocab_stats(struct ol_grammar_vocab *v, struct ol_grammar_vocab_stats *stats)
{
	(void)pthread_mutex_lock(&v->lock);
	*stats = (struct ol_grammar_vocab_stats){
		.hits = v->hits,
		.misses = v->misses,
		.cache_bytes = v->cache_bytes,
		.trie_bytes = ((size_t)v->all.room + v->special.room) * sizeof *v->all.nodes +
			      (size_t)(v->plain_max + 1) * v->words * sizeof *v->plain};
	(void)pthread_mutex_unlock(&v->lock);
}
