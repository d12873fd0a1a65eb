#include "base/file.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "train/bpe_train.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* What a model with this tokenizer talks in. Ids ascend from 0 in this order. */
static const char *const special_tokens[] = {"<|end|>", "<|bos|>", "<|system|>", "<|user|>",
					     "<|assistant|>"};
#define END "<|end|>"
#define BOS "<|bos|>"

static const char tokenizer_config[] = "{\n"
				       "  \"add_bos_token\": true,\n"
				       "  \"add_eos_token\": false,\n"
				       "  \"bos_token\": \"" BOS "\",\n"
				       "  \"clean_up_tokenization_spaces\": false,\n"
				       "  \"eos_token\": \"" END "\",\n"
				       "  \"model_max_length\": 1000000000,\n"
				       "  \"pad_token\": \"" END "\",\n"
				       "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n"
				       "}\n";

/* Every turn is one marker, its text and END, the same token that ends a text of the pre-training
 * corpus, so that a model stops in both. */
static const char chat_template[] =
	"{{- bos_token }}\n"
	"{%- for message in messages %}\n"
	"    {%- if message['role'] not in ['system', 'user', 'assistant'] %}\n"
	"        {{- raise_exception('a message is by \"system\", \"user\" or \"assistant\"') }}\n"
	"    {%- endif %}\n"
	"    {{- '<|' + message['role'] + '|>' }}\n"
	"    {{- message['content'] | trim }}\n"
	"    {{- '" END "' }}\n"
	"{%- endfor %}\n"
	"{%- if add_generation_prompt %}\n"
	"    {{- '<|assistant|>' }}\n"
	"{%- endif %}\n";

/* Adds every text of a JSON value: the strings under "text" and "content". */
static enum ol_status add_strings(struct ol_bpe_trainer *trainer, const json_t *value,
				  const char *where, struct ol_error *err)
{
	static const char *const keys[] = {"text", "content", "messages"};
	enum ol_status s = OL_OK;
	size_t i;
	json_t *item;
	json_array_foreach(value, i, item)
	{
		if (s == OL_OK && json_is_object(item))
			s = add_strings(trainer, item, where, err);
	}
	for (i = 0; s == OL_OK && i < OL_ARRAY_LEN(keys); i++) {
		item = json_object_get(value, keys[i]);
		if (json_is_string(item))
			s = ol_bpe_trainer_add(trainer, json_string_value(item),
					       json_string_length(item), where, err);
		else if (json_is_array(item))
			s = add_strings(trainer, item, where, err);
	}
	return s;
}

static bool is_blank(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
			return false;
	return true;
}

static enum ol_status add_json_lines(struct ol_bpe_trainer *trainer, const char *text, size_t size,
				     const char *path, struct ol_error *err)
{
	size_t number = 0;
	for (size_t begin = 0, end; begin < size; begin = end + 1) {
		const char *newline = memchr(text + begin, '\n', size - begin);
		char where[PATH_MAX + 32];
		json_error_t error;
		end = newline ? (size_t)(newline - text) : size;
		number++;
		if (is_blank(text + begin, end - begin))
			continue;
		snprintf(where, sizeof where, "%s:%zu", path, number);
		json_t *row = json_loadb(text + begin, end - begin, JSON_REJECT_DUPLICATES, &error);
		if (!json_is_object(row)) {
			json_decref(row);
			return ol_fail(err, OL_ERR_INPUT, "%s: not an object of JSON: %s", where,
				       row ? "another kind of value" : error.text);
		}
		const enum ol_status s = add_strings(trainer, row, where, err);
		json_decref(row);
		if (s != OL_OK)
			return s;
	}
	return OL_OK;
}

static enum ol_status add_file(struct ol_bpe_trainer *trainer, const char *path,
			       struct ol_error *err)
{
	struct ol_map map;
	const char *dot = strrchr(path, '.');
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	if (dot && strcmp(dot, ".jsonl") == 0)
		s = add_json_lines(trainer, (const char *)map.data, map.size, path, err);
	else
		s = ol_bpe_trainer_add(trainer, (const char *)map.data, map.size, path, err);
	ol_map_close(&map);
	return s;
}

static enum ol_status write_file(const char *folder, const char *name, const char *bytes,
				 size_t size, struct ol_error *err)
{
	struct ol_writer *writer;
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return ol_fail(err, OL_ERR_INPUT, "%s/%s: the path is too long", folder, name);
	enum ol_status s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, bytes, size, err);
	if (s != OL_OK) {
		ol_writer_abort(writer);
		return s;
	}
	return ol_writer_commit(writer, err);
}

static enum ol_status write_folder(const struct ol_bpe_trainer *trainer, const char *folder,
				   struct ol_error *err)
{
	struct ol_buf json;
	ol_buf_init(&json, 1 << 30);
	enum ol_status s = ol_bpe_trainer_write(trainer, &json, BOS, err);
	if (s == OL_OK)
		s = ol_make_directories(folder, err);
	if (s == OL_OK)
		s = write_file(folder, "tokenizer.json", json.data, json.size, err);
	if (s == OL_OK)
		s = write_file(folder, "tokenizer_config.json", tokenizer_config,
			       sizeof tokenizer_config - 1, err);
	if (s == OL_OK)
		s = write_file(folder, "chat_template.jinja", chat_template,
			       sizeof chat_template - 1, err);
	ol_buf_release(&json);
	return s;
}

int ol_command_train_tokenizer(int argc, char **argv)
{
	struct ol_texts data = {0};
	const char *folder = NULL;
	int vocab = 4096;
	const struct ol_option options[] = {
		OL_TEXTS("data", 'd', data, "FILE",
			 "text, or .jsonl with \"text\" or \"messages\"; may be repeated"),
		OL_TEXT("out", 'o', folder, "DIR", "where the files go"),
		OL_NUMBER(INT, "vocab", 0, vocab, "N", 512, 1 << 20, "entries, all included"),
	};
	const struct ol_command_line line = {
		.command = "openledger train-tokenizer",
		.usage = "-d FILE -o DIR [options]",
		.about = "Learns a byte-level BPE vocabulary and writes tokenizer.json, "
			 "tokenizer_config.json and chat_template.jinja.\nThe same texts, in any "
			 "order, give the same bytes.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options)};
	struct ol_bpe_trainer *trainer = NULL;
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (data.count == 0 || !folder)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "train-tokenizer needs a text (-d FILE) and a folder (-o DIR)");
	if (s == OL_OK)
		s = ol_bpe_trainer_open(&trainer, &err);
	for (int i = 0; s == OL_OK && i < data.count; i++)
		s = add_file(trainer, data.values[i], &err);
	if (s == OL_OK)
		s = ol_bpe_trainer_learn(trainer, vocab, special_tokens,
					 OL_ARRAY_LEN(special_tokens), &err);
	if (s == OL_OK)
		s = write_folder(trainer, folder, &err);
	if (s == OL_OK)
		printf("%d entries from %llu words (%llu different): %s/tokenizer.json\n", vocab,
		       (unsigned long long)ol_bpe_trainer_words(trainer),
		       (unsigned long long)ol_bpe_trainer_unique_words(trainer), folder);
	ol_bpe_trainer_close(trainer);
	return s == OL_OK ? 0 : ol_report(&err);
}
