#include "model/tokenizer.h"

#include "model/tokenizer_added.h"
#include "model/unicode.h"

#include <stdlib.h>
#include <string.h>

void ol_tokens_release(struct ol_tokens *tokens)
{
	free(tokens->ids);
	*tokens = (struct ol_tokens){0};
}

bool ol_tokens_grow(struct ol_tokens *tokens)
{
	const size_t room = OL_MAX(tokens->room * 2, (size_t)64);
	int32_t *ids = realloc(tokens->ids, room * sizeof *ids);
	if (!ids)
		return false;
	tokens->ids = ids;
	tokens->room = room;
	return true;
}

bool ol_bytes_set(struct ol_bytes *bytes, const char *data, size_t size)
{
	char *copy = malloc(size + 1);
	if (!copy)
		return false;
	if (size)
		memcpy(copy, data, size);
	copy[size] = '\0';
	free(bytes->data);
	*bytes = (struct ol_bytes){copy, size};
	return true;
}

/* Names (what the file spells) and pieces (what they stand for) of every id, the pieces in one
 * block of their own. */
static bool build_pieces(struct ol_tokenizer *t)
{
	struct ol_buf pool;
	const size_t n = (size_t)t->vocab_size;
	struct ol_split_work *work = NULL;
	t->names = calloc(n + 1, sizeof *t->names);
	t->pieces = calloc(n + 1, sizeof *t->pieces);
	ol_buf_init(&pool, UINT32_MAX);
	if (!t->names || !t->pieces || (t->has_regex && !ol_split_work_open(&work)))
		return false;
	bool ok = ol_buf_append(&pool, "", 1); /* so that data is never NULL */
	for (size_t id = 0; ok && id < n; id++) {
		struct ol_bytes *name = &t->names[id];
		if (t->added_of[id] >= 0)
			*name = t->added[t->added_of[id]].content;
		else if (ol_bpe_has(&t->bpe, (int32_t)id))
			*name = (struct ol_bytes){t->bpe.pool + t->bpe.entries[id].begin,
						  t->bpe.entries[id].size};
		else
			continue;
		const size_t begin = pool.size;
		ok = ol_tokenizer_decode_entry(t, work, &pool, name->data, name->size);
		t->pieces[id].size = pool.size - begin;
	}
	ol_split_work_close(work);
	t->piece_pool = pool.data;
	size_t begin = 1;
	for (size_t id = 0; ok && id < n; id++) {
		t->pieces[id].data = pool.data + begin;
		begin += t->pieces[id].size;
	}
	return ok;
}

static bool has(const struct ol_tokenizer *t, int32_t id)
{
	return id >= 0 && id < t->vocab_size && t->names[id].data;
}

static bool needs_work(const struct ol_split *pattern)
{
	return pattern && ol_split_needs_work(pattern);
}

enum ol_status ol_tokenizer_finish(struct ol_tokenizer *t, const char *path, struct ol_error *err)
{
	for (int i = 0; i < OL_TOKENIZER_STEPS_MAX; i++)
		if (needs_work(t->normalizers[i].pattern) ||
		    needs_work(t->pretokenizers[i].pattern) || needs_work(t->decoders[i].pattern))
			t->has_regex = true;
	const enum ol_status s = ol_tokenizer_add_tokens(t, path, err);
	if (s != OL_OK)
		return s;
	if (!build_pieces(t))
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	for (int i = 0; i < t->before_count + t->after_count; i++) {
		const int32_t id =
			i < t->before_count ? t->before[i] : t->after[i - t->before_count];
		if (!has(t, id))
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: post_processor: the id %d is not in the vocabulary",
				       path, (int)id);
	}
	return OL_OK;
}

enum ol_status ol_tokenizer_open(struct ol_tokenizer **tokenizer_out, const char *bytes,
				 size_t size, const char *path, struct ol_error *err)
{
	size_t at = 0;
	if (size == 0 || size > OL_TOKENIZER_FILE_MAX)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: a tokenizer of %zu bytes; 1 to %d are supported", path, size,
			       OL_TOKENIZER_FILE_MAX);
	struct ol_tokenizer *t = calloc(1, sizeof *t);
	if (!t)
		return ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	while (at < size && strchr(" \n\r\t", bytes[at]) && bytes[at])
		at++;
	/* A SentencePiece model begins with a field of its own: 0x0a, which is a newline, but then
	 * no brace comes. */
	const bool json = at < size && bytes[at] == '{';
	enum ol_status s = json ? ol_tokenizer_read_json(t, bytes, size, path, err)
				: ol_tokenizer_read_sentencepiece(t, bytes, size, path, err);
	if (s == OL_OK)
		s = ol_tokenizer_finish(t, path, err);
	if (s == OL_OK)
		*tokenizer_out = t;
	else
		ol_tokenizer_close(t);
	return s;
}

void ol_tokenizer_close(struct ol_tokenizer *t)
{
	if (!t)
		return;
	ol_bpe_release(&t->bpe);
	for (int i = 0; i < OL_TOKENIZER_STEPS_MAX; i++) {
		free(t->normalizers[i].content.data);
		ol_split_close(t->normalizers[i].pattern);
		free(t->pretokenizers[i].replacement.data);
		ol_split_close(t->pretokenizers[i].pattern);
		free(t->decoders[i].content.data);
		ol_split_close(t->decoders[i].pattern);
	}
	for (size_t i = 0; i < t->added_count; i++)
		free(t->added[i].content.data);
	free(t->added);
	free(t->raw.nodes);
	free(t->normalized.nodes);
	free(t->names);
	free(t->pieces);
	free(t->special);
	free(t->added_of);
	free(t->added_ids.slots);
	free(t->piece_pool);
	free(t->added_pool);
	free(t);
}

int ol_tokenizer_vocab_size(const struct ol_tokenizer *t)
{
	return t->vocab_size;
}

int32_t ol_tokenizer_unknown(const struct ol_tokenizer *t)
{
	return t->bpe.unk_id;
}

const char *ol_tokenizer_piece(const struct ol_tokenizer *t, int32_t id, size_t *size_out)
{
	if (!has(t, id))
		return NULL;
	*size_out = t->pieces[id].size;
	return t->pieces[id].data;
}

const char *ol_tokenizer_entry(const struct ol_tokenizer *t, int32_t id, size_t *size_out)
{
	if (!has(t, id))
		return NULL;
	*size_out = t->names[id].size;
	return t->names[id].data;
}

bool ol_tokenizer_is_special(const struct ol_tokenizer *t, int32_t id)
{
	return has(t, id) && t->special[id];
}

int32_t ol_tokenizer_find(const struct ol_tokenizer *t, const char *entry)
{
	const size_t size = strlen(entry);
	const int32_t id = ol_text_table_find(&t->added_ids, t->added_pool, entry, size);
	return id >= 0 ? id : ol_bpe_find(&t->bpe, entry, size);
}
