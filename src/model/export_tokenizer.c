/* The tokenizer kept with a model, as GGUF metadata: a tokenizer.json of byte-level BPE becomes
 * "gpt2", one with byte fallback and a SentencePiece model become "llama". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "model/export_internal.h"

enum {
	TOKEN_NORMAL = 1,
	TOKEN_UNKNOWN = 2,
	TOKEN_CONTROL = 3,
	TOKEN_USER = 4,
	TOKEN_UNUSED = 5,
	TOKEN_BYTE = 6
};

struct token {
	const char *text; /* NULL: unused; borrowed from the tree or the file */
	size_t size;
	int32_t type;
	float score;
};

struct tokenizer {
	const struct ol_model *model;
	struct ol_error *err;
	struct token *tokens; /* one per row of the embedding */
	int32_t count;
	int32_t unk; /* -1: none */
	bool add_bos, add_eos, space_prefix;
	const char *pre; /* gpt2 only */
	const json_t *merges;
};

static enum ol_status refuse(const struct tokenizer *t, const char *what)
{
	return ol_fail(t->err, OL_ERR_UNSUPPORTED,
		       "%s: the tokenizer cannot be written as GGUF: %s", t->model->path, what);
}

static enum ol_status set_token(struct tokenizer *t, int64_t id, const char *text, size_t size,
				int32_t type)
{
	if (id < 0 || id >= t->count)
		return refuse(t, "it has more tokens than the model has embeddings");
	t->tokens[id].text = text;
	t->tokens[id].size = size;
	t->tokens[id].type = type;
	return OL_OK;
}

/* ---- tokenizer.json ----------------------------------------------------------------------- */

static bool is_type(const json_t *object, const char *type)
{
	const char *own = json_string_value(json_object_get(object, "type"));
	return own && strcmp(own, type) == 0;
}

/* "<0x0A>" */
static bool is_byte(const char *text, size_t size)
{
	return size == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
}

static enum ol_status read_vocabulary(struct tokenizer *t, json_t *root, bool fallback)
{
	json_t *model = json_object_get(root, "model"), *id, *added;
	const char *text, *unk = json_string_value(json_object_get(model, "unk_token"));
	size_t i;
	enum ol_status s = OL_OK;
	json_object_foreach(json_object_get(model, "vocab"), text, id)
	{
		const size_t size = strlen(text);
		int32_t type = fallback && is_byte(text, size) ? TOKEN_BYTE : TOKEN_NORMAL;
		if (unk && strcmp(text, unk) == 0) {
			type = TOKEN_UNKNOWN;
			t->unk = (int32_t)json_integer_value(id);
		}
		s = set_token(t, json_integer_value(id), text, size, type);
		if (s != OL_OK)
			return s;
	}
	json_array_foreach(json_object_get(root, "added_tokens"), i, added)
	{
		const json_t *content = json_object_get(added, "content");
		const int64_t number = json_integer_value(json_object_get(added, "id"));
		const bool special = json_is_true(json_object_get(added, "special"));
		if (number == t->unk)
			continue;
		s = set_token(t, number, json_string_value(content), json_string_length(content),
			      special ? TOKEN_CONTROL : TOKEN_USER);
		if (s != OL_OK)
			return s;
	}
	return OL_OK;
}

/* The parts of a merge: "a b" or ["a", "b"]. */
static bool merge_parts(const json_t *merge, struct ol_gguf_text *a, struct ol_gguf_text *b)
{
	const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
	const char *text = json_string_value(merge);
	if (left && right && json_is_string(left) && json_is_string(right)) {
		*a = (struct ol_gguf_text){json_string_value(left), json_string_length(left)};
		*b = (struct ol_gguf_text){json_string_value(right), json_string_length(right)};
		return true;
	}
	const char *space = text && *text ? strchr(text + 1, ' ') : NULL;
	if (!space)
		return false;
	*a = (struct ol_gguf_text){text, (size_t)(space - text)};
	*b = (struct ol_gguf_text){space + 1, strlen(space + 1)};
	return true;
}

/* SentencePiece has scores where BPE has ranks: the first merge that makes a piece decides. */
static enum ol_status score_merges(struct tokenizer *t, json_t *vocab)
{
	struct ol_buf whole;
	size_t i;
	json_t *merge;
	enum ol_status s = OL_OK;
	ol_buf_init(&whole, 1 << 20);
	json_array_foreach(t->merges, i, merge)
	{
		struct ol_gguf_text a, b;
		if (!merge_parts(merge, &a, &b)) {
			s = refuse(t, "a merge is no pair");
			break;
		}
		ol_buf_clear(&whole);
		ol_buf_append(&whole, a.bytes, a.size);
		ol_buf_append(&whole, b.bytes, b.size);
		const json_t *id = whole.failed ? NULL : json_object_get(vocab, whole.data);
		const int64_t number = json_integer_value(id);
		if (id && number >= 0 && number < t->count && t->tokens[number].score == 0)
			t->tokens[number].score = -(float)(i + 1);
	}
	ol_buf_release(&whole);
	return s;
}

static void read_template(struct tokenizer *t, const json_t *root)
{
	const json_t *post = json_object_get(root, "post_processor");
	const json_t *list = json_object_get(post, "processors");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (is_type(json_array_get(list, i), "TemplateProcessing"))
			post = json_array_get(list, i);
	const json_t *single = json_object_get(post, "single");
	const size_t count = json_array_size(single);
	t->add_bos = json_object_get(json_array_get(single, 0), "SpecialToken") != NULL;
	t->add_eos = count > 1 &&
		     json_object_get(json_array_get(single, count - 1), "SpecialToken") != NULL;
}

/* Something in the normalizer or the pre-tokenizer puts U+2581 before a text. */
static bool has_space_prefix(const json_t *root)
{
	const json_t *normalizer = json_object_get(root, "normalizer");
	const json_t *pre = json_object_get(root, "pre_tokenizer");
	const json_t *steps = json_object_get(normalizer, "normalizers");
	for (size_t i = 0; i < json_array_size(steps); i++)
		if (is_type(json_array_get(steps, i), "Prepend"))
			return true;
	if (is_type(normalizer, "Prepend"))
		return true;
	const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
	return is_type(pre, "Metaspace") && !(scheme && strcmp(scheme, "never") == 0);
}

/* The name for [Digits] [Split regex] ByteLevel. */
static enum ol_status read_pre(struct tokenizer *t, const json_t *root)
{
	const json_t *pre = json_object_get(root, "pre_tokenizer");
	const json_t *steps = json_object_get(pre, "pretokenizers");
	const char *regex = NULL;
	bool digits = false, known = true, level = is_type(pre, "ByteLevel");
	for (size_t i = 0; i < json_array_size(steps); i++) {
		const json_t *step = json_array_get(steps, i);
		if (is_type(step, "Digits"))
			digits = true;
		else if (is_type(step, "Split") && !regex)
			regex = json_string_value(
				json_object_get(json_object_get(step, "pattern"), "Regex"));
		else if (is_type(step, "ByteLevel"))
			level = true;
		else
			known = false;
	}
	t->pre = level && known ? ol_gguf_pre_name(regex, digits) : NULL;
	return t->pre ? OL_OK : refuse(t, "GGUF has no name for its pre-tokenizer");
}

static enum ol_status read_json(struct tokenizer *t, json_t *root)
{
	json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
	const bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
	t->merges = json_object_get(model, "merges");
	t->unk = -1;
	if (!is_type(model, "BPE") || !json_is_object(vocab) || !json_is_array(t->merges))
		return refuse(t, "it is no BPE with a vocabulary and merges");
	enum ol_status s = read_vocabulary(t, root, fallback);
	if (s != OL_OK)
		return s;
	read_template(t, root);
	if (!fallback)
		return read_pre(t, root);
	t->space_prefix = has_space_prefix(root);
	s = score_merges(t, vocab);
	t->merges = NULL;
	return s;
}

/* ---- tokenizer.model ---------------------------------------------------------------------- */

struct cursor {
	const uint8_t *at, *end;
	bool broken;
};

static uint64_t take_varint(struct cursor *c)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
		const uint8_t byte = *c->at++;
		value |= (uint64_t)(byte & 127) << shift;
		if (byte < 128)
			return value;
	}
	c->broken = true;
	return 0;
}

/* The next field: its number, and either a value or a part of the message. False at the end. */
static bool next_field(struct cursor *c, unsigned *number, uint64_t *value, struct cursor *part)
{
	if (c->broken || c->at == c->end)
		return false;
	const uint64_t tag = take_varint(c);
	const size_t left = (size_t)(c->end - c->at);
	uint64_t size = 0;
	*number = (unsigned)(tag >> 3);
	*value = 0;
	*part = (struct cursor){c->at, c->at, false};
	switch (tag & 7) {
	case 0: *value = take_varint(c); return !c->broken;
	case 1: size = 8; break;
	case 2: size = take_varint(c); break;
	case 5: size = 4; break;
	default: c->broken = true;
	}
	if (c->broken || size > (size_t)(c->end - c->at) || left == 0) {
		c->broken = true;
		return false;
	}
	*part = (struct cursor){c->at, c->at + size, false};
	c->at += size;
	return true;
}

static enum ol_status read_piece(struct tokenizer *t, struct cursor c, int32_t id)
{
	struct ol_gguf_text text = {"", 0};
	int32_t type = TOKEN_NORMAL;
	uint32_t score = 0;
	unsigned number;
	uint64_t value;
	struct cursor part;
	while (next_field(&c, &number, &value, &part)) {
		if (number == 1)
			text = (struct ol_gguf_text){(const char *)part.at,
						     (size_t)(part.end - part.at)};
		else if (number == 2 && part.end - part.at == 4)
			score = ol_load_u32(part.at);
		else if (number == 3)
			type = (int32_t)value;
	}
	const enum ol_status s = set_token(t, id, text.bytes, text.size, type);
	if (s == OL_OK)
		t->tokens[id].score = ol_bits_float(score);
	if (s == OL_OK && type == TOKEN_UNKNOWN)
		t->unk = id;
	return s;
}

static enum ol_status read_sentencepiece(struct tokenizer *t, const char *bytes, size_t size)
{
	struct cursor c = {(const uint8_t *)bytes, (const uint8_t *)bytes + size, false};
	struct cursor part, inner;
	unsigned number, field;
	uint64_t value, ignored;
	int32_t id = 0;
	enum ol_status s = OL_OK;
	t->unk = -1;
	t->add_bos = t->space_prefix = true;
	while (s == OL_OK && next_field(&c, &number, &ignored, &part)) {
		if (number == 1) {
			s = read_piece(t, part, id++);
			continue;
		}
		while (number <= 3 && next_field(&part, &field, &value, &inner)) {
			if (number == 2 && field == 41)
				t->add_bos = (int64_t)value >= 0;
			if (number == 3 && field == 3)
				t->space_prefix = value != 0;
		}
	}
	if (s == OL_OK && c.broken)
		s = refuse(t, "tokenizer.model is damaged");
	return s;
}

/* ---- Metadata ----------------------------------------------------------------------------- */

static void put_tokens(struct ol_gguf_metadata *out, const struct tokenizer *t)
{
	ol_gguf_put_array(&out->body, "tokenizer.ggml.tokens", OL_GGUF_STRING, (uint64_t)t->count);
	for (int32_t id = 0; id < t->count; id++) {
		char unused[32];
		const int n = snprintf(unused, sizeof unused, "[PAD%d]", id);
		if (t->tokens[id].text)
			ol_gguf_put_item(&out->body, t->tokens[id].text, t->tokens[id].size);
		else
			ol_gguf_put_item(&out->body, unused, (size_t)n);
	}
	ol_gguf_put_array(&out->body, "tokenizer.ggml.token_type", OL_GGUF_I32, (uint64_t)t->count);
	for (int32_t id = 0; id < t->count; id++) {
		uint8_t bytes[4];
		const int32_t type = t->tokens[id].text ? t->tokens[id].type : TOKEN_UNUSED;
		ol_store_u32(bytes, (uint32_t)type);
		ol_buf_append(&out->body, bytes, sizeof bytes);
	}
	out->keys += 2;
}

static void put_scores(struct ol_gguf_metadata *out, const struct tokenizer *t)
{
	ol_gguf_put_array(&out->body, "tokenizer.ggml.scores", OL_GGUF_F32, (uint64_t)t->count);
	for (int32_t id = 0; id < t->count; id++) {
		uint8_t bytes[4];
		ol_store_u32(bytes, ol_float_bits(t->tokens[id].score));
		ol_buf_append(&out->body, bytes, sizeof bytes);
	}
	out->keys++;
}

static enum ol_status put_merges(struct ol_gguf_metadata *out, const struct tokenizer *t)
{
	size_t i;
	json_t *merge;
	struct ol_buf pair;
	ol_buf_init(&pair, 1 << 20);
	ol_gguf_put_array(&out->body, "tokenizer.ggml.merges", OL_GGUF_STRING,
			  json_array_size(t->merges));
	out->keys++;
	json_array_foreach(t->merges, i, merge)
	{
		struct ol_gguf_text a, b;
		if (!merge_parts(merge, &a, &b)) {
			ol_buf_release(&pair);
			return refuse(t, "a merge is no pair");
		}
		ol_buf_clear(&pair);
		ol_buf_append(&pair, a.bytes, a.size);
		ol_buf_append(&pair, " ", 1);
		ol_buf_append(&pair, b.bytes, b.size);
		ol_gguf_put_item(&out->body, pair.failed ? "" : pair.data, pair.size);
	}
	const bool ok = !pair.failed;
	ol_buf_release(&pair);
	return ok ? OL_OK : ol_fail(t->err, OL_ERR_FULL, "out of memory while exporting");
}

static void put_flag(struct ol_gguf_metadata *out, const char *key, bool value)
{
	ol_gguf_put_bool(&out->body, key, value);
	out->keys++;
}

static void put_string(struct ol_gguf_metadata *out, const char *key, const char *text)
{
	ol_gguf_put_string(&out->body, key, text, strlen(text));
	out->keys++;
}

static enum ol_status put_all(struct ol_gguf_metadata *out, const struct tokenizer *t)
{
	size_t size;
	const char *template = ol_model_text(t->model, "chat_template.jinja", &size);
	put_string(out, "tokenizer.ggml.model", t->pre ? "gpt2" : "llama");
	put_string(out, "tokenizer.ggml.pre", t->pre ? t->pre : "default");
	put_tokens(out, t);
	if (t->unk >= 0) {
		ol_gguf_put_u32(&out->body, "tokenizer.ggml.unknown_token_id", (uint32_t)t->unk);
		out->keys++;
	}
	put_flag(out, "tokenizer.ggml.add_bos_token", t->add_bos);
	put_flag(out, "tokenizer.ggml.add_eos_token", t->add_eos);
	if (template) {
		ol_gguf_put_string(&out->body, "tokenizer.chat_template", template, size);
		out->keys++;
	}
	if (t->pre)
		return put_merges(out, t);
	put_flag(out, "tokenizer.ggml.add_space_prefix", t->space_prefix);
	put_scores(out, t);
	return OL_OK;
}

enum ol_status ol_export_tokenizer(struct ol_gguf_metadata *out, const struct ol_model *model,
				   struct ol_error *err)
{
	struct tokenizer t = {.model = model, .err = err, .count = model->config.vocab_size};
	size_t json_size, model_size;
	const char *json = ol_model_text(model, "tokenizer.json", &json_size);
	const char *bytes = ol_model_text(model, "tokenizer.model", &model_size);
	json_t *root = NULL;
	enum ol_status s = OL_OK;
	if (!json && !bytes)
		return OL_OK;
	t.tokens = calloc((size_t)t.count, sizeof *t.tokens);
	if (!t.tokens)
		return ol_fail(err, OL_ERR_FULL, "out of memory while exporting %s", model->path);
	if (json) {
		root = json_loadb(json, json_size, JSON_REJECT_DUPLICATES, NULL);
		s = root ? read_json(&t, root) : refuse(&t, "tokenizer.json is no JSON");
	} else {
		s = read_sentencepiece(&t, bytes, model_size);
	}
	if (s == OL_OK)
		s = put_all(out, &t);
	json_decref(root);
	free(t.tokens);
	return s;
}
