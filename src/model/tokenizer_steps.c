#include "model/tokenizer_steps.h"

#include "model/config.h"
#include "model/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NESTING_MAX = 8 };

/* Where we are in a file, for messages: "tokenizer.json: pre_tokenizer". */
struct place {
	struct ol_tokenizer *t;
	const char *path, *part;
	struct ol_error *err;
};

static enum ol_status refuse(const struct place *p, const char *format, const char *detail)
{
	char sentence[256];
	snprintf(sentence, sizeof sentence, "%s %s", format, detail);
	return ol_fail(p->err, OL_ERR_UNSUPPORTED, "%s: %s: %.200s", p->path, p->part, sentence);
}

static enum ol_status wrong(const struct place *p, const char *key, const char *what)
{
	return ol_fail(p->err, OL_ERR_INPUT, "%s: %s: \"%s\" %s", p->path, p->part, key, what);
}

static enum ol_status full(const struct place *p)
{
	return ol_fail(p->err, OL_ERR_FULL, "%s: %s: out of memory", p->path, p->part);
}

static enum ol_status unknown_type(const struct place *p, const json_t *tree)
{
	const char *type = json_string_value(json_object_get(tree, "type"));
	return ol_fail(p->err, OL_ERR_UNSUPPORTED, "%s: %s: the type \"%.60s\" is not supported",
		       p->path, p->part, type ? type : "(none)");
}

static bool is_type(const json_t *tree, const char *type)
{
	const char *own = json_string_value(json_object_get(tree, "type"));
	return own && strcmp(own, type) == 0;
}

static enum ol_status get_flag(const struct place *p, const json_t *tree, const char *key,
			       bool missing, bool *flag)
{
	const json_t *value = json_object_get(tree, key);
	if (value && !json_is_boolean(value) && !json_is_null(value))
		return wrong(p, key, "is neither true nor false");
	*flag = json_is_boolean(value) ? json_is_true(value) : missing;
	return OL_OK;
}

static enum ol_status get_text(const struct place *p, const json_t *tree, const char *key,
			       struct ol_bytes *bytes)
{
	const json_t *value = json_object_get(tree, key);
	if (!json_is_string(value))
		return wrong(p, key, "is missing or not a string");
	return ol_bytes_set(bytes, json_string_value(value), json_string_length(value)) ? OL_OK
											: full(p);
}

static enum ol_status get_character(const struct place *p, const json_t *tree, const char *key,
				    struct ol_bytes *bytes)
{
	size_t length;
	const enum ol_status s = get_text(p, tree, key, bytes);
	if (s == OL_OK && (bytes->size == 0 ||
			   (ol_utf8_at(bytes->data, &length), length != bytes->size)))
		return wrong(p, key, "is not one character");
	return s;
}

static enum ol_status get_count(const struct place *p, const json_t *tree, const char *key,
				int32_t *count)
{
	const json_t *value = json_object_get(tree, key);
	const json_int_t n = json_integer_value(value);
	if (!json_is_integer(value) || n < 0 || n > 1000000)
		return wrong(p, key, "is not a whole number from 0 to 1000000");
	*count = (int32_t)n;
	return OL_OK;
}

/* {"String": "…"} or {"Regex": "…"}. */
static enum ol_status get_pattern(const struct place *p, const json_t *tree,
				  struct ol_split **split)
{
	const json_t *pattern = json_object_get(tree, "pattern");
	const json_t *string = json_object_get(pattern, "String");
	const json_t *regex = json_object_get(pattern, "Regex");
	char where[OL_ERROR_TEXT_MAX / 2];
	if (json_is_string(string) && json_string_length(string) > 0)
		return ol_split_open_string(split, json_string_value(string),
					    json_string_length(string))
			       ? OL_OK
			       : full(p);
	if (!json_is_string(regex))
		return wrong(p, "pattern", "is neither a String (not empty) nor a Regex");
	snprintf(where, sizeof where, "%.300s: %s", p->path, p->part);
	return ol_split_open_regex(split, json_string_value(regex), json_string_length(regex),
				   false, where, p->err);
}

/* A Sequence's list under `key`. */
static enum ol_status get_list(const struct place *p, const json_t *tree, const char *key,
			       int nesting, const json_t **list)
{
	*list = json_object_get(tree, key);
	if (!json_is_array(*list))
		return wrong(p, key, "is missing or not a list");
	return nesting < NESTING_MAX ? OL_OK
				     : refuse(p, "sequences inside of sequences", "so deeply");
}

enum ol_status ol_tokenizer_read_added(struct ol_tokenizer *t, const json_t *tree, const char *path,
				       struct ol_error *err)
{
	const struct place p = {t, path, "added_tokens", err};
	size_t i;
	const json_t *item;
	if (!tree)
		return OL_OK;
	if (!json_is_array(tree))
		return wrong(&p, "added_tokens", "is not a list");
	if (json_array_size(tree) > OL_TOKENIZER_ADDED_MAX)
		return refuse(&p, "so many added tokens are", "not supported");
	t->added = calloc(json_array_size(tree) + 1, sizeof *t->added);
	if (!t->added)
		return full(&p);
	json_array_foreach(tree, i, item)
	{
		struct ol_added *added = &t->added[t->added_count];
		const json_t *id = json_object_get(item, "id");
		enum ol_status s = get_text(&p, item, "content", &added->content);
		t->added_count++;
		if (s == OL_OK && (!json_is_integer(id) || json_integer_value(id) < 0 ||
				   json_integer_value(id) >= OL_VOCAB_MAX))
			s = wrong(&p, added->content.data, "has no id, or one past the limit");
		if (s == OL_OK && added->content.size > OL_TOKENIZER_ADDED_SIZE_MAX)
			s = wrong(&p, added->content.data, "is longer than the limit");
		if (s == OL_OK)
			s = get_flag(&p, item, "single_word", false, &added->single_word);
		if (s == OL_OK)
			s = get_flag(&p, item, "lstrip", false, &added->lstrip);
		if (s == OL_OK)
			s = get_flag(&p, item, "rstrip", false, &added->rstrip);
		if (s == OL_OK)
			s = get_flag(&p, item, "normalized", true, &added->normalized);
		if (s == OL_OK)
			s = get_flag(&p, item, "special", false, &added->special);
		if (s != OL_OK)
			return s;
		added->id = (int32_t)json_integer_value(id);
	}
	return OL_OK;
}

static enum ol_status read_normalizer(const struct place *p, const json_t *tree, int nesting)
{
	struct ol_tokenizer *t = p->t;
	if (is_type(tree, "Sequence")) {
		size_t i;
		const json_t *list, *item;
		enum ol_status s = get_list(p, tree, "normalizers", nesting, &list);
		json_array_foreach(list, i, item)
			s = s == OL_OK ? read_normalizer(p, item, nesting + 1) : s;
		return s;
	}
	if (t->normalizer_count == OL_TOKENIZER_STEPS_MAX)
		return refuse(p, "so many steps are", "not supported");
	struct ol_normalizer *step = &t->normalizers[t->normalizer_count++];
	if (is_type(tree, "NFC")) {
		step->kind = OL_NORMALIZER_NFC;
		return OL_OK;
	}
	if (is_type(tree, "Prepend")) {
		step->kind = OL_NORMALIZER_PREPEND;
		return get_text(p, tree, "prepend", &step->content);
	}
	if (is_type(tree, "Replace")) {
		step->kind = OL_NORMALIZER_REPLACE;
		const enum ol_status s = get_text(p, tree, "content", &step->content);
		return s == OL_OK ? get_pattern(p, tree, &step->pattern) : s;
	}
	return unknown_type(p, tree);
}

enum ol_status ol_tokenizer_read_normalizer(struct ol_tokenizer *t, const json_t *tree,
					    const char *path, struct ol_error *err)
{
	const struct place p = {t, path, "normalizer", err};
	return tree ? read_normalizer(&p, tree, 0) : OL_OK;
}

static enum ol_status add_pretokenizer(const struct place *p, enum ol_pretokenizer_kind kind,
				       struct ol_pretokenizer **step_out)
{
	struct ol_tokenizer *t = p->t;
	if (t->pretokenizer_count == OL_TOKENIZER_STEPS_MAX)
		return refuse(p, "so many steps are", "not supported");
	*step_out = &t->pretokenizers[t->pretokenizer_count++];
	(*step_out)->kind = kind;
	(*step_out)->behavior = OL_SPLIT_ISOLATED;
	return OL_OK;
}

static enum ol_status get_behavior(const struct place *p, const json_t *tree,
				   enum ol_split_behavior *behavior)
{
	static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
					    "MergedWithNext", "Contiguous"};
	const char *name = json_string_value(json_object_get(tree, "behavior"));
	for (size_t i = 0; name && i < OL_ARRAY_LEN(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			*behavior = (enum ol_split_behavior)i;
			return OL_OK;
		}
	}
	return wrong(p, "behavior", "is not one of the five that exist");
}

static enum ol_status read_split(const struct place *p, const json_t *tree)
{
	struct ol_pretokenizer *step = NULL;
	enum ol_status s = add_pretokenizer(p, OL_PRETOKENIZER_SPLIT, &step);
	if (s == OL_OK)
		s = get_pattern(p, tree, &step->pattern);
	if (s == OL_OK)
		s = get_behavior(p, tree, &step->behavior);
	return s == OL_OK ? get_flag(p, tree, "invert", false, &step->invert) : s;
}

static enum ol_status read_byte_level(const struct place *p, const json_t *tree)
{
	struct ol_pretokenizer *step = NULL;
	bool prefix_space = true, use_regex = true;
	enum ol_status s = get_flag(p, tree, "add_prefix_space", true, &prefix_space);
	if (s == OL_OK)
		s = get_flag(p, tree, "use_regex", true, &use_regex);
	if (s == OL_OK && prefix_space)
		s = add_pretokenizer(p, OL_PRETOKENIZER_PREFIX_SPACE, &step);
	if (s == OL_OK && use_regex) {
		s = add_pretokenizer(p, OL_PRETOKENIZER_SPLIT, &step);
		if (s == OL_OK && !ol_split_open_known(&step->pattern, OL_SPLIT_GPT2))
			s = full(p);
	}
	p->t->byte_level = true;
	return s;
}

static enum ol_status read_digits(const struct place *p, const json_t *tree)
{
	struct ol_pretokenizer *step = NULL;
	bool individual = false;
	enum ol_status s = get_flag(p, tree, "individual_digits", false, &individual);
	if (s == OL_OK)
		s = add_pretokenizer(p, OL_PRETOKENIZER_SPLIT, &step);
	if (s != OL_OK)
		return s;
	step->behavior = individual ? OL_SPLIT_ISOLATED : OL_SPLIT_CONTIGUOUS;
	return ol_split_open_known(&step->pattern, OL_SPLIT_DIGIT) ? OL_OK : full(p);
}

/* The prepend_scheme of a Metaspace, or add_prefix_space in older files. */
static enum ol_status get_prepend(const struct place *p, const json_t *tree,
				  enum ol_prepend_scheme *scheme)
{
	const char *name = json_string_value(json_object_get(tree, "prepend_scheme"));
	const json_t *prefix = json_object_get(tree, "add_prefix_space");
	*scheme = OL_PREPEND_ALWAYS;
	if (name && strcmp(name, "never") == 0)
		*scheme = OL_PREPEND_NEVER;
	else if (name && strcmp(name, "first") == 0)
		*scheme = OL_PREPEND_FIRST;
	else if (name && strcmp(name, "always") != 0)
		return wrong(p, "prepend_scheme", "is none of always, first and never");
	if (json_is_false(prefix)) {
		if (name && *scheme != OL_PREPEND_NEVER)
			return wrong(p, "add_prefix_space", "contradicts prepend_scheme");
		*scheme = OL_PREPEND_NEVER;
	}
	return OL_OK;
}

static enum ol_status read_metaspace(const struct place *p, const json_t *tree)
{
	struct ol_pretokenizer *step = NULL;
	bool split = true;
	enum ol_status s = add_pretokenizer(p, OL_PRETOKENIZER_METASPACE, &step);
	if (s == OL_OK)
		s = get_character(p, tree, "replacement", &step->replacement);
	if (s == OL_OK)
		s = get_prepend(p, tree, &step->prepend);
	if (s == OL_OK)
		s = get_flag(p, tree, "split", true, &split);
	if (s != OL_OK || !split)
		return s;
	step->behavior = OL_SPLIT_MERGED_WITH_NEXT;
	return ol_split_open_string(&step->pattern, step->replacement.data, step->replacement.size)
		       ? OL_OK
		       : full(p);
}

static enum ol_status read_pretokenizer(const struct place *p, const json_t *tree, int nesting)
{
	if (is_type(tree, "Sequence")) {
		size_t i;
		const json_t *list, *item;
		enum ol_status s = get_list(p, tree, "pretokenizers", nesting, &list);
		json_array_foreach(list, i, item)
			s = s == OL_OK ? read_pretokenizer(p, item, nesting + 1) : s;
		return s;
	}
	if (p->t->byte_level)
		return refuse(p, "a step behind ByteLevel is", "not supported");
	if (is_type(tree, "ByteLevel"))
		return read_byte_level(p, tree);
	if (is_type(tree, "Split"))
		return read_split(p, tree);
	if (is_type(tree, "Digits"))
		return read_digits(p, tree);
	if (is_type(tree, "Metaspace"))
		return read_metaspace(p, tree);
	return unknown_type(p, tree);
}

enum ol_status ol_tokenizer_read_pretokenizer(struct ol_tokenizer *t, const json_t *tree,
					      const char *path, struct ol_error *err)
{
	const struct place p = {t, path, "pre_tokenizer", err};
	return tree ? read_pretokenizer(&p, tree, 0) : OL_OK;
}

/* Appends the ids that a template's special token stands for. */
static enum ol_status add_template_ids(const struct place *p, const json_t *special,
				       const char *name, int32_t *list, int *count)
{
	const json_t *ids = json_object_get(json_object_get(special, name), "ids"), *id;
	size_t i;
	if (!json_is_array(ids))
		return wrong(p, name, "is not among special_tokens");
	json_array_foreach(ids, i, id)
	{
		const json_int_t n = json_integer_value(id);
		if (!json_is_integer(id) || n < 0 || n >= OL_VOCAB_MAX)
			return wrong(p, name, "has an id past the limit");
		if (*count == OL_TOKENIZER_TEMPLATE_MAX)
			return refuse(p, "so many ids around a text are", "not supported");
		list[(*count)++] = (int32_t)n;
	}
	return OL_OK;
}

static enum ol_status read_template(const struct place *p, const json_t *tree, bool *seen)
{
	struct ol_tokenizer *t = p->t;
	const json_t *single = json_object_get(tree, "single"), *piece;
	const json_t *special = json_object_get(tree, "special_tokens");
	bool text = false;
	size_t i;
	if (*seen)
		return refuse(p, "a second TemplateProcessing is", "not supported");
	*seen = true;
	if (!json_is_array(single))
		return wrong(p, "single", "is missing or not a list");
	json_array_foreach(single, i, piece)
	{
		const json_t *token = json_object_get(piece, "SpecialToken");
		const json_t *sequence = json_object_get(piece, "Sequence");
		const char *id = json_string_value(json_object_get(token ? token : sequence, "id"));
		enum ol_status s = OL_OK;
		if (!id)
			return wrong(p, "single",
				     "has a piece that is neither SpecialToken nor Sequence");
		if (token)
			s = add_template_ids(p, special, id, text ? t->after : t->before,
					     text ? &t->after_count : &t->before_count);
		else if (text || strcmp(id, "A") != 0)
			s = refuse(p, "a template other than one A between special tokens is",
				   "not supported");
		else
			text = true;
		if (s != OL_OK)
			return s;
	}
	return text ? OL_OK : wrong(p, "single", "has no place for the text");
}

static enum ol_status read_postprocessor(const struct place *p, const json_t *tree, int nesting,
					 bool *seen)
{
	if (is_type(tree, "Sequence")) {
		size_t i;
		const json_t *list, *item;
		enum ol_status s = get_list(p, tree, "processors", nesting, &list);
		json_array_foreach(list, i, item)
			s = s == OL_OK ? read_postprocessor(p, item, nesting + 1, seen) : s;
		return s;
	}
	if (is_type(tree, "ByteLevel"))
		return OL_OK; /* moves offsets, which we do not report */
	if (is_type(tree, "TemplateProcessing"))
		return read_template(p, tree, seen);
	return unknown_type(p, tree);
}

enum ol_status ol_tokenizer_read_postprocessor(struct ol_tokenizer *t, const json_t *tree,
					       const char *path, struct ol_error *err)
{
	const struct place p = {t, path, "post_processor", err};
	bool seen = false;
	return tree ? read_postprocessor(&p, tree, 0, &seen) : OL_OK;
}

static enum ol_status read_decoder(const struct place *p, const json_t *tree, int nesting)
{
	struct ol_tokenizer *t = p->t;
	if (is_type(tree, "Sequence")) {
		size_t i;
		const json_t *list, *item;
		enum ol_status s = get_list(p, tree, "decoders", nesting, &list);
		json_array_foreach(list, i, item)
			s = s == OL_OK ? read_decoder(p, item, nesting + 1) : s;
		return s;
	}
	if (t->decoder_count == OL_TOKENIZER_STEPS_MAX)
		return refuse(p, "so many steps are", "not supported");
	struct ol_decoder *step = &t->decoders[t->decoder_count++];
	enum ol_status s = OL_OK;
	if (is_type(tree, "ByteLevel")) {
		step->kind = OL_DECODER_BYTE_LEVEL;
	} else if (is_type(tree, "ByteFallback")) {
		step->kind = OL_DECODER_BYTE_FALLBACK;
	} else if (is_type(tree, "Fuse")) {
		step->kind = OL_DECODER_FUSE;
	} else if (is_type(tree, "Replace")) {
		step->kind = OL_DECODER_REPLACE;
		s = get_text(p, tree, "content", &step->content);
		return s == OL_OK ? get_pattern(p, tree, &step->pattern) : s;
	} else if (is_type(tree, "Strip")) {
		step->kind = OL_DECODER_STRIP;
		s = get_character(p, tree, "content", &step->content);
		if (s == OL_OK)
			s = get_count(p, tree, "start", &step->start);
		return s == OL_OK ? get_count(p, tree, "stop", &step->stop) : s;
	} else if (is_type(tree, "Metaspace")) {
		enum ol_prepend_scheme scheme;
		step->kind = OL_DECODER_METASPACE;
		s = get_character(p, tree, "replacement", &step->content);
		if (s == OL_OK)
			s = get_prepend(p, tree, &scheme);
		step->drop_first = s == OL_OK && scheme != OL_PREPEND_NEVER;
	} else {
		s = unknown_type(p, tree);
	}
	return s;
}

enum ol_status ol_tokenizer_read_decoder(struct ol_tokenizer *t, const json_t *tree,
					 const char *path, struct ol_error *err)
{
	const struct place p = {t, path, "decoder", err};
	t->no_decoder = !tree;
	return tree ? read_decoder(&p, tree, 0) : OL_OK;
}
