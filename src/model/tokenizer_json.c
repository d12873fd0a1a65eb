/* Reading tokenizer.json. The vocabulary and the merges are scanned in place (json_scan.h); the
 * small parts become jansson trees that tokenizer_steps.c reads. */
#include "model/json_scan.h"
#include "model/config.h"
#include "model/tokenizer_steps.h"

#include <stdlib.h>
#include <string.h>

/* Values found by their keys: bytes of the file, not parsed yet. */
struct value {
	const char *key;
	size_t begin, end; /* begin == end: absent */
};

struct reader {
	struct ol_tokenizer *t;
	const char *bytes;
	size_t size;
	const char *path;
	struct ol_error *err;
};

static enum ol_status malformed(const struct reader *r, const struct ol_json_scan *scan,
				const char *where)
{
	return ol_fail(r->err, OL_ERR_INPUT, "%s: %s: malformed JSON at byte %zu%s%s", r->path,
		       where, OL_MIN(scan->at, scan->size), scan->failure ? ": " : "",
		       scan->failure ? scan->failure : "");
}

/* Finds the values of an object that begins at `begin`; other keys are passed over. */
static enum ol_status find_values(const struct reader *r, const char *where, size_t begin,
				  struct value *values, size_t count, size_t *end_out)
{
	struct ol_json_scan scan = {r->bytes, begin, r->size, NULL};
	size_t key_begin, value_begin;
	if (!ol_json_scan_take(&scan, '{'))
		return malformed(r, &scan, where);
	bool first = true;
	while (!ol_json_scan_take(&scan, '}')) {
		if ((!first && !ol_json_scan_take(&scan, ',')) || ol_json_scan_peek(&scan) != '"' ||
		    !ol_json_scan_skip(&scan, &key_begin))
			return malformed(r, &scan, where);
		const size_t key_size = scan.at - key_begin - 2;
		const char *key = r->bytes + key_begin + 1;
		if (!ol_json_scan_take(&scan, ':') || !ol_json_scan_skip(&scan, &value_begin))
			return malformed(r, &scan, where);
		for (size_t i = 0; i < count; i++) {
			if (strlen(values[i].key) != key_size ||
			    memcmp(values[i].key, key, key_size) != 0)
				continue;
			if (values[i].begin != values[i].end)
				return ol_fail(r->err, OL_ERR_INPUT,
					       "%s: %s: the key \"%s\" comes twice", r->path, where,
					       values[i].key);
			values[i].begin = value_begin;
			values[i].end = scan.at;
		}
		first = false;
	}
	*end_out = scan.at;
	return OL_OK;
}

/* The tree of a small value; NULL for an absent one and for null. */
static enum ol_status parse_tree(const struct reader *r, const struct value *value,
				 json_t **tree_out)
{
	json_error_t error;
	*tree_out = NULL;
	if (value->begin == value->end)
		return OL_OK;
	json_t *tree =
		json_loadb(r->bytes + value->begin, value->end - value->begin,
			   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	if (!tree)
		return ol_fail(r->err, OL_ERR_INPUT, "%s: %s: %s", r->path, value->key, error.text);
	if (json_is_null(tree))
		json_decref(tree);
	else
		*tree_out = tree;
	return OL_OK;
}

static enum ol_status read_vocab(const struct reader *r, const struct value *value)
{
	struct ol_bpe *bpe = &r->t->bpe;
	struct ol_json_scan scan = {r->bytes, value->begin, value->end, NULL};
	if (value->begin == value->end || !ol_json_scan_take(&scan, '{'))
		return ol_fail(r->err, OL_ERR_INPUT, "%s: model.vocab is missing or not an object",
			       r->path);
	if (!ol_bpe_reserve(bpe, value->end - value->begin))
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory for model.vocab", r->path);
	bool first = true;
	while (!ol_json_scan_take(&scan, '}')) {
		size_t size;
		int32_t id;
		if (!first && !ol_json_scan_take(&scan, ','))
			return malformed(r, &scan, "model.vocab");
		if (!ol_json_scan_string(&scan, bpe->pool + bpe->pool_size, &size) ||
		    !ol_json_scan_take(&scan, ':'))
			return malformed(r, &scan, "model.vocab");
		if (!ol_json_scan_index(&scan, &id) || id >= OL_VOCAB_MAX ||
		    size > OL_BPE_ENTRY_MAX)
			return ol_fail(r->err, OL_ERR_INPUT,
				       "%s: model.vocab: the entry \"%.*s\" has no "
				       "id from 0 to %d, or is longer than %d bytes",
				       r->path, (int)OL_MIN(size, (size_t)60),
				       bpe->pool + bpe->pool_size, OL_VOCAB_MAX - 1,
				       OL_BPE_ENTRY_MAX);
		if (!ol_bpe_add_entry(bpe, size, id))
			return ol_fail(r->err, OL_ERR_FULL,
				       "%s: out of memory for model.vocab, or its "
				       "entries were made to collide",
				       r->path);
		first = false;
	}
	return OL_OK;
}

static enum ol_status add_merge(const struct reader *r, int32_t rank, char *text, size_t left,
				size_t right)
{
	struct ol_bpe *bpe = &r->t->bpe;
	/* text holds left and right side by side: the entry they make. */
	const int32_t a = ol_bpe_find(bpe, text, left), b = ol_bpe_find(bpe, text + left, right);
	const int32_t made = ol_bpe_find(bpe, text, left + right);
	if (a < 0 || b < 0 || made < 0 || left == 0 || right == 0)
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: model.merges[%d] (\"%.*s\" + \"%.*s\"): a side "
			       "of it, or what it makes, is not in model.vocab",
			       r->path, (int)rank, (int)OL_MIN(left, (size_t)60), text,
			       (int)OL_MIN(right, (size_t)60), text + left);
	if (!ol_bpe_add_merge(bpe, a, b, rank, made))
		return ol_fail(r->err, OL_ERR_FULL,
			       "%s: out of memory for model.merges, or they were "
			       "made to collide",
			       r->path);
	return OL_OK;
}

/* "left right", or ["left", "right"]. */
static bool scan_merge(struct ol_json_scan *scan, char *text, size_t *left, size_t *right)
{
	if (ol_json_scan_peek(scan) == '[') {
		return ol_json_scan_take(scan, '[') && ol_json_scan_string(scan, text, left) &&
		       ol_json_scan_take(scan, ',') &&
		       ol_json_scan_string(scan, text + *left, right) &&
		       ol_json_scan_take(scan, ']');
	}
	size_t size;
	if (!ol_json_scan_string(scan, text, &size))
		return false;
	char *space = memchr(text, ' ', size);
	if (!space || memchr(space + 1, ' ', size - (size_t)(space + 1 - text)))
		return false;
	*left = (size_t)(space - text);
	*right = size - *left - 1;
	memmove(space, space + 1, *right);
	return true;
}

static enum ol_status read_merges(const struct reader *r, const struct value *value)
{
	struct ol_json_scan scan = {r->bytes, value->begin, value->end, NULL};
	enum ol_status s = OL_OK;
	if (value->begin == value->end || !ol_json_scan_take(&scan, '['))
		return ol_fail(r->err, OL_ERR_INPUT, "%s: model.merges is missing or not a list",
			       r->path);
	char *text = malloc(value->end - value->begin);
	if (!text)
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory for model.merges", r->path);
	for (int32_t rank = 0; s == OL_OK && !ol_json_scan_take(&scan, ']'); rank++) {
		size_t left, right;
		if ((rank > 0 && !ol_json_scan_take(&scan, ',')) ||
		    !scan_merge(&scan, text, &left, &right))
			s = ol_fail(r->err, OL_ERR_INPUT,
				    "%s: model.merges[%d] at byte %zu is neither "
				    "\"left right\" nor [\"left\", \"right\"]",
				    r->path, (int)rank, scan.at);
		else if (rank >= OL_BPE_MERGES_MAX)
			s = ol_fail(r->err, OL_ERR_FULL, "%s: model.merges has more than %d",
				    r->path, OL_BPE_MERGES_MAX);
		else
			s = add_merge(r, rank, text, left, right);
	}
	free(text);
	return s;
}

/* An option that must be off: absent, null, "" or 0. */
static enum ol_status check_absent(const struct reader *r, const struct value *value)
{
	json_t *tree = NULL;
	enum ol_status s = parse_tree(r, value, &tree);
	const bool nothing = !tree || (json_is_string(tree) && json_string_length(tree) == 0) ||
			     (json_is_number(tree) && json_number_value(tree) == 0);
	if (s == OL_OK && !nothing)
		s = ol_fail(r->err, OL_ERR_UNSUPPORTED, "%s: model.%s is not supported", r->path,
			    value->key);
	json_decref(tree);
	return s;
}

static enum ol_status read_flag(const struct reader *r, const struct value *value, bool *flag)
{
	json_t *tree = NULL;
	const enum ol_status s = parse_tree(r, value, &tree);
	*flag = json_is_true(tree);
	const bool right = !tree || json_is_boolean(tree);
	json_decref(tree);
	if (s == OL_OK && !right)
		return ol_fail(r->err, OL_ERR_INPUT, "%s: model.%s is neither true nor false",
			       r->path, value->key);
	return s;
}

static enum ol_status read_unknown(const struct reader *r, const struct value *value)
{
	json_t *tree = NULL;
	enum ol_status s = parse_tree(r, value, &tree);
	if (s == OL_OK && tree) {
		struct ol_bpe *bpe = &r->t->bpe;
		if (json_is_string(tree))
			bpe->unk_id =
				ol_bpe_find(bpe, json_string_value(tree), json_string_length(tree));
		if (bpe->unk_id < 0)
			s = ol_fail(r->err, OL_ERR_INPUT,
				    "%s: model.unk_token is not an entry of "
				    "model.vocab",
				    r->path);
	}
	json_decref(tree);
	return s;
}

static enum ol_status check_type(const struct reader *r, const struct value *value)
{
	json_t *tree = NULL;
	enum ol_status s = parse_tree(r, value, &tree);
	const char *type = json_string_value(tree);
	/* Old files leave the type out; then vocab and merges must be there, which is checked. */
	if (s == OL_OK && tree && (!type || strcmp(type, "BPE") != 0))
		s = ol_fail(r->err, OL_ERR_UNSUPPORTED,
			    "%s: a tokenizer model of type \"%.60s\" is not "
			    "supported (only BPE is)",
			    r->path, type ? type : "?");
	json_decref(tree);
	return s;
}

enum model_key {
	TYPE,
	DROPOUT,
	PREFIX,
	SUFFIX,
	UNK,
	FUSE_UNK,
	BYTE_FALLBACK,
	IGNORE_MERGES,
	VOCAB,
	MERGES,
	MODEL_KEYS
};

static enum ol_status find_model(const struct reader *r, const struct value *model, struct value *v)
{
	size_t end;
	if (model->begin == model->end)
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: the key \"model\" is missing: this is not a "
			       "tokenizer.json",
			       r->path);
	enum ol_status s = find_values(r, "model", model->begin, v, MODEL_KEYS, &end);
	if (s == OL_OK)
		s = check_type(r, &v[TYPE]);
	if (s == OL_OK)
		s = check_absent(r, &v[DROPOUT]);
	if (s == OL_OK)
		s = check_absent(r, &v[PREFIX]);
	if (s == OL_OK)
		s = check_absent(r, &v[SUFFIX]);
	return s;
}

/* Everything of the model but its merges, which need the special tokens to be known. */
static enum ol_status read_model(const struct reader *r, const struct value *v)
{
	struct ol_bpe *bpe = &r->t->bpe;
	enum ol_status s = read_vocab(r, &v[VOCAB]);
	if (s == OL_OK)
		s = read_unknown(r, &v[UNK]);
	if (s == OL_OK)
		s = read_flag(r, &v[FUSE_UNK], &bpe->fuse_unk);
	if (s == OL_OK)
		s = read_flag(r, &v[BYTE_FALLBACK], &bpe->byte_fallback);
	if (s == OL_OK)
		s = read_flag(r, &v[IGNORE_MERGES], &bpe->ignore_merges);
	if (s == OL_OK && bpe->byte_fallback && r->t->byte_level)
		s = ol_fail(r->err, OL_ERR_UNSUPPORTED,
			    "%s: model.byte_fallback together with a ByteLevel "
			    "pre-tokenizer is not supported",
			    r->path);
	return s;
}

static enum ol_status finish_model(const struct reader *r, const struct value *v)
{
	struct ol_bpe *bpe = &r->t->bpe;
	bpe->special = calloc((size_t)bpe->vocab_size + 1, 1);
	if (!bpe->special)
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->path);
	for (size_t i = 0; i < r->t->added_count; i++) {
		const struct ol_added *added = &r->t->added[i];
		const int32_t id = ol_bpe_find(bpe, added->content.data, added->content.size);
		if (id >= 0 && added->special)
			bpe->special[id] = 1;
	}
	if (!ol_bpe_set_symbols(bpe, r->t->byte_level))
		return ol_fail(r->err, OL_ERR_FULL,
			       "%s: out of memory for the vocabulary, or its entries "
			       "were made to collide",
			       r->path);
	enum ol_status s = read_merges(r, &v[MERGES]);
	if (s == OL_OK && !ol_bpe_finish(bpe))
		s = ol_fail(r->err, OL_ERR_FULL,
			    "%s: out of memory for the merges, or they were made to "
			    "collide",
			    r->path);
	return s;
}

enum part { ADDED_TOKENS, NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR, DECODER, MODEL, PARTS };

typedef enum ol_status read_part(struct ol_tokenizer *t, const json_t *tree, const char *path,
				 struct ol_error *err);

enum ol_status ol_tokenizer_read_json(struct ol_tokenizer *t, const char *bytes, size_t size,
				      const char *path, struct ol_error *err)
{
	static read_part *const readers[] = {
		[ADDED_TOKENS] = ol_tokenizer_read_added,
		[NORMALIZER] = ol_tokenizer_read_normalizer,
		[PRE_TOKENIZER] = ol_tokenizer_read_pretokenizer,
		[POST_PROCESSOR] = ol_tokenizer_read_postprocessor,
		[DECODER] = ol_tokenizer_read_decoder,
	};
	struct value parts[PARTS] = {
		[ADDED_TOKENS] = {.key = "added_tokens"},
		[NORMALIZER] = {.key = "normalizer"},
		[PRE_TOKENIZER] = {.key = "pre_tokenizer"},
		[POST_PROCESSOR] = {.key = "post_processor"},
		[DECODER] = {.key = "decoder"},
		[MODEL] = {.key = "model"},
	};
	struct value keys[MODEL_KEYS] = {
		[TYPE] = {.key = "type"},
		[DROPOUT] = {.key = "dropout"},
		[PREFIX] = {.key = "continuing_subword_prefix"},
		[SUFFIX] = {.key = "end_of_word_suffix"},
		[UNK] = {.key = "unk_token"},
		[FUSE_UNK] = {.key = "fuse_unk"},
		[BYTE_FALLBACK] = {.key = "byte_fallback"},
		[IGNORE_MERGES] = {.key = "ignore_merges"},
		[VOCAB] = {.key = "vocab"},
		[MERGES] = {.key = "merges"},
	};
	const struct reader r = {t, bytes, size, path, err};
	size_t end = 0;
	ol_bpe_init(&t->bpe);
	enum ol_status s = find_values(&r, "the file", 0, parts, PARTS, &end);
	struct ol_json_scan rest = {bytes, end, size, NULL};
	if (s == OL_OK && (ol_json_scan_peek(&rest) || rest.at != size))
		s = malformed(&r, &rest, "after the closing brace");
	if (s == OL_OK)
		s = find_model(&r, &parts[MODEL], keys);
	for (size_t i = 0; s == OL_OK && i < OL_ARRAY_LEN(readers); i++) {
		json_t *tree = NULL;
		s = parse_tree(&r, &parts[i], &tree);
		if (s == OL_OK)
			s = readers[i](t, tree, path, err);
		json_decref(tree);
	}
	if (s == OL_OK)
		s = read_model(&r, keys);
	return s == OL_OK ? finish_model(&r, keys) : s;
}
