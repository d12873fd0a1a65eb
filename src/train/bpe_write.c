#include "train/bpe_train_internal.h"

#include "model/bpe.h"
#include "model/unicode.h"

#include <string.h>

/* A JSON string of valid UTF-8. */
static void put_string(struct ol_buf *json, const char *text, size_t size)
{
	ol_buf_append_text(json, "\"");
	for (size_t i = 0; i < size; i++) {
		const char c = text[i];
		if (c == '"' || c == '\\')
			ol_buf_printf(json, "\\%c", c);
		else if ((uint8_t)c < 0x20)
			ol_buf_printf(json, "\\u%04x", (unsigned)c);
		else
			ol_buf_append(json, &c, 1);
	}
	ol_buf_append_text(json, "\"");
}

/* An entry as the file spells it: bytes by GPT-2's printable stand-ins, special tokens as they
 * are. Returns its size. */
static size_t spell(const struct ol_bpe_trainer *t, int32_t id, char out[4 * OL_BPE_TRAIN_WORD_MAX])
{
	const struct entry *e = &t->entries[id];
	size_t size = 0;
	for (uint32_t i = 0; i < e->size; i++)
		size += ol_utf8_put(out + size, ol_byte_alphabet((uint8_t)e->bytes[i]));
	return size;
}

static void put_special_tokens(const struct ol_bpe_trainer *t, struct ol_buf *json)
{
	ol_buf_append_text(json, "  \"added_tokens\": [");
	for (int id = 0; id < t->special_count; id++) {
		ol_buf_printf(json, "%s\n    {\"id\": %d, \"content\": ", id ? "," : "", id);
		put_string(json, t->entries[id].bytes, t->entries[id].size);
		ol_buf_append_text(json, ", \"single_word\": false, \"lstrip\": false, "
					 "\"rstrip\": false, \"normalized\": false, "
					 "\"special\": true}");
	}
	ol_buf_append_text(json, t->special_count ? "\n  ],\n" : "],\n");
}

static void put_pretokenizer(struct ol_buf *json)
{
	const char *pattern = ol_split_known_pattern(OL_SPLIT_QWEN2);
	ol_buf_append_text(json, "  \"pre_tokenizer\": {\"type\": \"Sequence\", "
				 "\"pretokenizers\": [\n"
				 "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
	put_string(json, pattern, strlen(pattern));
	ol_buf_append_text(json, "}, \"behavior\": \"Isolated\", \"invert\": false},\n"
				 "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
				 "\"trim_offsets\": false, \"use_regex\": false}\n"
				 "  ]},\n");
}

static void put_postprocessor(struct ol_buf *json, const char *bos, int32_t bos_id)
{
	if (!bos) {
		ol_buf_append_text(json, "  \"post_processor\": null,\n");
		return;
	}
	static const char *const sequence[2] = {"A", "B"};
	static const char *const keys[2] = {"single", "pair"};
	ol_buf_append_text(json, "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n");
	for (int key = 0; key < 2; key++) {
		ol_buf_printf(json, "    \"%s\": [", keys[key]);
		for (int i = 0; i <= key; i++) {
			ol_buf_printf(json, "%s{\"SpecialToken\": {\"id\": ", i ? ", " : "");
			put_string(json, bos, strlen(bos));
			ol_buf_printf(json,
				      ", \"type_id\": %d}}, {\"Sequence\": {\"id\": \"%s\", "
				      "\"type_id\": %d}}",
				      i, sequence[i], i);
		}
		ol_buf_append_text(json, "],\n");
	}
	ol_buf_append_text(json, "    \"special_tokens\": {");
	put_string(json, bos, strlen(bos));
	ol_buf_append_text(json, ": {\"id\": ");
	put_string(json, bos, strlen(bos));
	ol_buf_printf(json, ", \"ids\": [%d], \"tokens\": [", bos_id);
	put_string(json, bos, strlen(bos));
	ol_buf_append_text(json, "]}}},\n");
}

static void put_model(const struct ol_bpe_trainer *t, struct ol_buf *json)
{
	char text[4 * OL_BPE_TRAIN_WORD_MAX];
	ol_buf_append_text(json, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, "
				 "\"unk_token\": null,\n"
				 "    \"continuing_subword_prefix\": null, "
				 "\"end_of_word_suffix\": null,\n"
				 "    \"fuse_unk\": false, \"byte_fallback\": false, "
				 "\"ignore_merges\": false,\n"
				 "    \"vocab\": {");
	for (int32_t id = 0; id < t->entry_count; id++) {
		ol_buf_append_text(json, id ? ",\n      " : "\n      ");
		if (id < t->special_count)
			put_string(json, t->entries[id].bytes, t->entries[id].size);
		else
			put_string(json, text, spell(t, id, text));
		ol_buf_printf(json, ": %d", id);
	}
	ol_buf_append_text(json, "\n    },\n    \"merges\": [");
	for (size_t i = 0; i < t->merge_count; i++) {
		ol_buf_append_text(json, i ? ",\n      [" : "\n      [");
		put_string(json, text, spell(t, t->merges[i].left, text));
		ol_buf_append_text(json, ", ");
		put_string(json, text, spell(t, t->merges[i].right, text));
		ol_buf_append_text(json, "]");
	}
	ol_buf_append_text(json, t->merge_count ? "\n    ]\n  }\n" : "]\n  }\n");
}

enum ol_status ol_bpe_trainer_write(const struct ol_bpe_trainer *t, struct ol_buf *json,
				    const char *bos, struct ol_error *err)
{
	OL_ASSERT(t->entries);
	int32_t bos_id = 0;
	while (bos && bos_id < t->special_count && strcmp(t->entries[bos_id].bytes, bos) != 0)
		bos_id++;
	OL_ASSERT(!bos || bos_id < t->special_count);
	ol_buf_append_text(json, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
				 "  \"padding\": null,\n");
	put_special_tokens(t, json);
	ol_buf_append_text(json, "  \"normalizer\": null,\n");
	put_pretokenizer(json);
	put_postprocessor(json, bos, bos_id);
	ol_buf_append_text(json, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": "
				 "false, \"trim_offsets\": false, \"use_regex\": false},\n");
	put_model(t, json);
	ol_buf_append_text(json, "}\n");
	if (json->failed)
		return ol_fail(err, OL_ERR_FULL, "writing a vocabulary: out of memory");
	return OL_OK;
}
