/* The tokenizer of a GGUF file, written down as one of the two kinds that the tokenizer room reads:
 * "gpt2" becomes a tokenizer.json, "llama" a SentencePiece model. Same ids, same merges. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/export_internal.h"
#include "model/gguf_config.h"

enum token_type {
	TOKEN_NORMAL = 1,
	TOKEN_CONTROL = 3,
	TOKEN_USER = 4,
	TOKEN_UNUSED = 5,
	TOKEN_BYTE = 6
};

struct vocabulary {
	const struct ol_gguf *gguf;
	const char *path;
	struct ol_error *err;
	const struct ol_gguf_value *tokens, *types, *scores, *merges;
	int64_t bos, eos; /* -1: none */
	bool add_bos, add_eos;
};

static int32_t type_of(const struct vocabulary *v, uint64_t id)
{
	return v->types ? (int32_t)ol_load_u32(v->types->at + 4 * id) : TOKEN_NORMAL;
}

static enum ol_status open_vocabulary(struct vocabulary *v)
{
	const struct ol_gguf *g = v->gguf;
	v->tokens = ol_gguf_find(g, "tokenizer.ggml.tokens");
	v->types = ol_gguf_find(g, "tokenizer.ggml.token_type");
	v->scores = ol_gguf_find(g, "tokenizer.ggml.scores");
	v->merges = ol_gguf_find(g, "tokenizer.ggml.merges");
	const uint64_t count = v->tokens ? v->tokens->count : 0;
	if (!ol_gguf_is_array(v->tokens, OL_GGUF_STRING) || count == 0 || count > OL_VOCAB_MAX)
		return ol_fail(v->err, OL_ERR_INPUT,
			       "%s: tokenizer.ggml.tokens is no list of 1 to %d texts", v->path,
			       OL_VOCAB_MAX);
	if (v->types && (!ol_gguf_is_array(v->types, OL_GGUF_I32) || v->types->count != count))
		return ol_fail(
			v->err, OL_ERR_INPUT,
			"%s: tokenizer.ggml.token_type is no list of as many numbers as tokens",
			v->path);
	v->bos = v->eos = -1;
	(void)ol_gguf_int(ol_gguf_find(g, "tokenizer.ggml.bos_token_id"), &v->bos);
	(void)ol_gguf_int(ol_gguf_find(g, "tokenizer.ggml.eos_token_id"), &v->eos);
	if (v->bos >= (int64_t)count || v->eos >= (int64_t)count)
		return ol_fail(v->err, OL_ERR_INPUT,
			       "%s: tokenizer.ggml.bos_token_id or eos_token_id is no token",
			       v->path);
	return OL_OK;
}

static void read_flags(struct vocabulary *v, bool add_bos)
{
	v->add_bos = add_bos;
	v->add_eos = false;
	(void)ol_gguf_bool(ol_gguf_find(v->gguf, "tokenizer.ggml.add_bos_token"), &v->add_bos);
	(void)ol_gguf_bool(ol_gguf_find(v->gguf, "tokenizer.ggml.add_eos_token"), &v->add_eos);
	v->add_bos = v->add_bos && v->bos >= 0;
	v->add_eos = v->add_eos && v->eos >= 0;
}

/* ---- Byte-level BPE as tokenizer.json ----------------------------------------------------- */

#define GPT2_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define CASELESS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* What the names of pre-tokenizers mean. splits: regexes applied in turn, each piece isolated;
 * none: the split of GPT-2 that ByteLevel itself brings. */
static const struct pre_tokenizer {
	const char *name;
	bool digits, ignore_merges, add_bos, nfc;
	const char *splits[4];
} pre_tokenizers[] = {
	{"gpt-2", false, false, false, false, {NULL}},
	{"smollm", true, false, false, false, {NULL}},
	{"llama-bpe", false, true, true, false, {CASELESS "\\p{N}{1,3}" REST}},
	{"llama3", false, true, true, false, {CASELESS "\\p{N}{1,3}" REST}},
	{"llama-v3", false, true, true, false, {CASELESS "\\p{N}{1,3}" REST}},
	{"qwen2", false, false, false, true, {CASELESS "\\p{N}" REST}},
	{"deepseek-r1-qwen", false, false, false, true, {CASELESS "\\p{N}" REST}},
	{"default",
	 false,
	 false,
	 false,
	 false,
	 {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_WORDS, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

const char *ol_gguf_pre_name(const char *regex, bool digits)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(pre_tokenizers); i++) {
		const struct pre_tokenizer *pre = &pre_tokenizers[i];
		const bool same = regex ? pre->splits[0] && strcmp(pre->splits[0], regex) == 0
					: !pre->splits[0];
		if (same && pre->digits == digits && !pre->splits[1])
			return pre->name;
	}
	return NULL;
}

static void put_json(struct ol_buf *out, const char *bytes, size_t size)
{
	ol_buf_append_text(out, "\"");
	for (size_t i = 0; i < size; i++) {
		const unsigned char c = (unsigned char)bytes[i];
		if (c == '"' || c == '\\')
			ol_buf_printf(out, "\\%c", c);
		else if (c < ' ')
			ol_buf_printf(out, "\\u%04x", c);
		else
			ol_buf_append(out, &bytes[i], 1);
	}
	ol_buf_append_text(out, "\"");
}

static const struct pre_tokenizer *find_pre(const struct vocabulary *v)
{
	struct ol_gguf_text pre = {"default", 7};
	char name[64];
	(void)ol_gguf_string(ol_gguf_find(v->gguf, "tokenizer.ggml.pre"), &pre);
	ol_source_printable(name, sizeof name, pre.bytes, pre.size);
	for (size_t i = 0; i < OL_ARRAY_LEN(pre_tokenizers); i++)
		if (strcmp(name, pre_tokenizers[i].name) == 0)
			return &pre_tokenizers[i];
	(void)ol_fail(
		v->err, OL_ERR_UNSUPPORTED,
		"%s: the pre-tokenizer \"%s\" is not known; gpt-2, smollm, llama-bpe, qwen2 and "
		"default are",
		v->path, name);
	return NULL;
}

static void put_pre_tokenizer(struct ol_buf *out, const struct pre_tokenizer *pre)
{
	const bool own = pre->splits[0] != NULL;
	ol_buf_printf(out, "\"normalizer\":%s,", pre->nfc ? "{\"type\":\"NFC\"}" : "null");
	ol_buf_append_text(out, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
	if (pre->digits)
		ol_buf_append_text(out, "{\"type\":\"Digits\",\"individual_digits\":true},");
	for (size_t i = 0; i < OL_ARRAY_LEN(pre->splits) && pre->splits[i]; i++) {
		ol_buf_append_text(out, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
		put_json(out, pre->splits[i], strlen(pre->splits[i]));
		ol_buf_append_text(out, "},\"behavior\":\"Isolated\",\"invert\":false},");
	}
	ol_buf_printf(out,
		      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
		      "\"use_regex\":%s}]},\n",
		      own ? "false" : "true");
}

static struct ol_gguf_text token_text(const struct vocabulary *v, int64_t id)
{
	const uint8_t *cursor = v->tokens->at;
	struct ol_gguf_text text = ol_gguf_next_string(&cursor);
	for (int64_t i = 0; i < id; i++)
		text = ol_gguf_next_string(&cursor);
	return text;
}

/* One special token of the template: where it stands, or what its id is. */
static void put_special(struct ol_buf *out, const struct vocabulary *v, int64_t id, bool definition)
{
	const struct ol_gguf_text text = token_text(v, id);
	if (definition) {
		put_json(out, text.bytes, text.size);
		ol_buf_append_text(out, ":{\"id\":");
		put_json(out, text.bytes, text.size);
		ol_buf_printf(out, ",\"ids\":[%lld],\"tokens\":[", (long long)id);
		put_json(out, text.bytes, text.size);
		ol_buf_append_text(out, "]}");
	} else {
		ol_buf_append_text(out, "{\"SpecialToken\":{\"id\":");
		put_json(out, text.bytes, text.size);
		ol_buf_append_text(out, ",\"type_id\":0}}");
	}
}

static void put_post_processor(struct ol_buf *out, const struct vocabulary *v)
{
	ol_buf_append_text(out, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
				"\"trim_offsets\":true,\"use_regex\":true},\n\"post_processor\":");
	if (!v->add_bos && !v->add_eos) {
		ol_buf_append_text(out, "null,\n");
		return;
	}
	ol_buf_append_text(out, "{\"type\":\"TemplateProcessing\",\"single\":[");
	if (v->add_bos)
		put_special(out, v, v->bos, false);
	ol_buf_printf(out, "%s{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}", v->add_bos ? "," : "");
	if (v->add_eos) {
		ol_buf_append_text(out, ",");
		put_special(out, v, v->eos, false);
	}
	ol_buf_append_text(out, "],\"pair\":[],\"special_tokens\":{");
	if (v->add_bos)
		put_special(out, v, v->bos, true);
	if (v->add_eos && v->eos != v->bos) {
		ol_buf_append_text(out, v->add_bos ? "," : "");
		put_special(out, v, v->eos, true);
	}
	ol_buf_append_text(out, "}},\n");
}

static void put_added(struct ol_buf *out, const struct vocabulary *v)
{
	const uint8_t *cursor = v->tokens->at;
	const char *comma = "";
	ol_buf_append_text(out, "\"added_tokens\":[");
	for (uint64_t id = 0; id < v->tokens->count; id++) {
		const struct ol_gguf_text text = ol_gguf_next_string(&cursor);
		const int32_t type = type_of(v, id);
		if (type != TOKEN_CONTROL && type != TOKEN_USER)
			continue;
		ol_buf_printf(out, "%s\n{\"id\":%llu,\"content\":", comma, (unsigned long long)id);
		put_json(out, text.bytes, text.size);
		ol_buf_printf(out,
			      ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
			      "\"normalized\":false,\"special\":%s}",
			      type == TOKEN_CONTROL ? "true" : "false");
		comma = ",";
	}
	ol_buf_append_text(out, "],\n");
}

static enum ol_status put_merges(struct ol_buf *out, const struct vocabulary *v)
{
	const uint8_t *cursor = v->merges->at;
	ol_buf_append_text(out, "\"merges\":[");
	for (uint64_t i = 0; i < v->merges->count; i++) {
		const struct ol_gguf_text pair = ol_gguf_next_string(&cursor);
		const char *space =
			pair.size > 1 ? memchr(pair.bytes + 1, ' ', pair.size - 1) : NULL;
		if (!space)
			return ol_fail(v->err, OL_ERR_INPUT,
				       "%s: tokenizer.ggml.merges: entry %llu is no pair", v->path,
				       (unsigned long long)i);
		const size_t left = (size_t)(space - pair.bytes);
		ol_buf_append_text(out, i ? ",\n[" : "\n[");
		put_json(out, pair.bytes, left);
		ol_buf_append_text(out, ",");
		put_json(out, space + 1, pair.size - left - 1);
		ol_buf_append_text(out, "]");
	}
	ol_buf_append_text(out, "]");
	return OL_OK;
}

static bool is_added(const struct vocabulary *v, uint64_t id)
{
	return type_of(v, id) == TOKEN_CONTROL || type_of(v, id) == TOKEN_USER;
}

/* In a tokenizer.json an added token that the vocabulary lacks has the next id after it, in order.
 * So added tokens may be left out of the vocabulary, as the original files do, where they follow
 * the normal ones without a gap; elsewhere they must stand in it to keep their ids. */
static bool added_follow(const struct vocabulary *v)
{
	uint64_t id = 0;
	while (id < v->tokens->count && type_of(v, id) == TOKEN_NORMAL)
		id++;
	while (id < v->tokens->count && is_added(v, id))
		id++;
	while (id < v->tokens->count && type_of(v, id) == TOKEN_UNUSED)
		id++;
	return id == v->tokens->count;
}

static enum ol_status put_model(struct ol_buf *out, const struct vocabulary *v, bool ignore_merges)
{
	const bool follow = added_follow(v);
	const uint8_t *cursor = v->tokens->at;
	const char *comma = "";
	ol_buf_printf(
		out,
		"\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
		"\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
		"\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,\n\"vocab\":{",
		ignore_merges ? "true" : "false");
	for (uint64_t id = 0; id < v->tokens->count; id++) {
		const struct ol_gguf_text text = ol_gguf_next_string(&cursor);
		if (type_of(v, id) != TOKEN_NORMAL && (follow || !is_added(v, id)))
			continue;
		ol_buf_printf(out, "%s\n", comma);
		put_json(out, text.bytes, text.size);
		ol_buf_printf(out, ":%llu", (unsigned long long)id);
		comma = ",";
	}
	ol_buf_append_text(out, "},\n");
	const enum ol_status s = put_merges(out, v);
	ol_buf_append_text(out, "}}\n");
	return s;
}

static enum ol_status write_json(struct ol_buf *out, struct vocabulary *v)
{
	const struct pre_tokenizer *pre = find_pre(v);
	if (!pre)
		return OL_ERR_UNSUPPORTED;
	if (!ol_gguf_is_array(v->merges, OL_GGUF_STRING))
		return ol_fail(v->err, OL_ERR_INPUT,
			       "%s: tokenizer.ggml.merges is no list of texts", v->path);
	read_flags(v, pre->add_bos);
	ol_buf_append_text(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
	put_added(out, v);
	put_pre_tokenizer(out, pre);
	put_post_processor(out, v);
	return put_model(out, v, pre->ignore_merges);
}

/* ---- SentencePiece BPE as a ModelProto ---------------------------------------------------- */

enum { WIRE_VARINT = 0, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static void put_varint(struct ol_buf *out, uint64_t value)
{
	do {
		const uint8_t byte = (uint8_t)(value & 127) | (value > 127 ? 128 : 0);
		ol_buf_append(out, &byte, 1);
		value >>= 7;
	} while (value);
}

static void put_number(struct ol_buf *out, unsigned field, uint64_t value)
{
	put_varint(out, field << 3 | WIRE_VARINT);
	put_varint(out, value);
}

static void put_bytes(struct ol_buf *out, unsigned field, const char *bytes, size_t size)
{
	put_varint(out, field << 3 | WIRE_BYTES);
	put_varint(out, size);
	ol_buf_append(out, bytes, size);
}

static bool put_pieces(struct ol_buf *out, const struct vocabulary *v, bool *bytes)
{
	const uint8_t *cursor = v->tokens->at;
	struct ol_buf piece;
	ol_buf_init(&piece, 1 << 20);
	*bytes = false;
	for (uint64_t id = 0; id < v->tokens->count && !piece.failed; id++) {
		const struct ol_gguf_text text = ol_gguf_next_string(&cursor);
		const int32_t type = type_of(v, id);
		ol_buf_clear(&piece);
		put_bytes(&piece, 1, text.bytes, text.size);
		put_varint(&piece, 2 << 3 | WIRE_FIXED32);
		ol_buf_append(&piece, v->scores->at + 4 * id, 4);
		if (type != TOKEN_NORMAL)
			put_number(&piece, 3, (uint64_t)type);
		*bytes = *bytes || type == TOKEN_BYTE;
		put_bytes(out, 1, piece.data ? piece.data : "", piece.size);
	}
	const bool ok = !piece.failed && !out->failed;
	ol_buf_release(&piece);
	return ok;
}

static enum ol_status write_sentencepiece(struct ol_buf *out, struct vocabulary *v)
{
	struct ol_buf spec;
	bool prefix = true, bytes;
	if (!ol_gguf_is_array(v->scores, OL_GGUF_F32) || v->scores->count != v->tokens->count)
		return ol_fail(v->err, OL_ERR_INPUT,
			       "%s: tokenizer.ggml.scores is no list of as many numbers as tokens",
			       v->path);
	for (uint64_t id = 0; id < v->tokens->count; id++) {
		const int32_t type = type_of(v, id);
		if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
			return ol_fail(v->err, OL_ERR_INPUT,
				       "%s: tokenizer.ggml.token_type: token %llu has the type %d",
				       v->path, (unsigned long long)id, type);
	}
	read_flags(v, true);
	(void)ol_gguf_bool(ol_gguf_find(v->gguf, "tokenizer.ggml.add_space_prefix"), &prefix);
	if (!put_pieces(out, v, &bytes))
		return ol_fail(v->err, OL_ERR_FULL, "%s: out of memory", v->path);
	ol_buf_init(&spec, 4096);
	put_number(&spec, 3, 2); /* model_type BPE */
	put_number(&spec, 35, bytes);
	put_number(&spec, 41, v->add_bos ? (uint64_t)v->bos : UINT64_MAX);
	put_bytes(out, 2, spec.data ? spec.data : "", spec.size);
	ol_buf_clear(&spec);
	put_bytes(&spec, 1, "identity", 8);
	put_number(&spec, 3, prefix); /* add_dummy_prefix */
	put_number(&spec, 4, 0);      /* remove_extra_whitespaces */
	put_number(&spec, 5, 1);      /* escape_whitespaces */
	put_bytes(out, 3, spec.data ? spec.data : "", spec.size);
	const bool ok = !spec.failed;
	ol_buf_release(&spec);
	return ok ? OL_OK : ol_fail(v->err, OL_ERR_FULL, "%s: out of memory", v->path);
}

enum ol_status ol_gguf_tokenizer(struct ol_buf *text, const char **name, const struct ol_gguf *gguf,
				 const char *path, struct ol_error *err)
{
	struct vocabulary v = {.gguf = gguf, .path = path, .err = err};
	struct ol_gguf_text model;
	char kind[64];
	*name = NULL;
	if (!ol_gguf_string(ol_gguf_find(gguf, "tokenizer.ggml.model"), &model))
		return OL_OK;
	ol_source_printable(kind, sizeof kind, model.bytes, model.size);
	const bool gpt2 = strcmp(kind, "gpt2") == 0, llama = strcmp(kind, "llama") == 0;
	if (strcmp(kind, "none") == 0 || strcmp(kind, "no_vocab") == 0)
		return OL_OK;
	if (!gpt2 && !llama)
		return ol_fail(
			err, OL_ERR_UNSUPPORTED,
			"%s: a tokenizer of the kind \"%s\" is not supported; gpt2 and llama are",
			path, kind);
	enum ol_status s = open_vocabulary(&v);
	if (s == OL_OK)
		s = gpt2 ? write_json(text, &v) : write_sentencepiece(text, &v);
	if (s == OL_OK && text->failed)
		s = ol_fail(err, OL_ERR_FULL, "%s: out of memory", path);
	if (s == OL_OK)
		*name = gpt2 ? "tokenizer.json" : "tokenizer.model";
	return s;
}
