#include "cli/commands.h"
#include "cli/options.h"
#include "node/runtime.h"

#include <stdio.h>
#include <string.h>

static void print_tokens(const struct ol_runtime *r, const struct ol_tokens *tokens)
{
	for (size_t i = 0; i < tokens->count; i++) {
		size_t size = 0;
		const char *entry = ol_tokenizer_entry(r->tokenizer, tokens->ids[i], &size);
		printf("%7d  %.*s%s\n", tokens->ids[i], (int)size, entry ? entry : "",
		       ol_tokenizer_is_special(r->tokenizer, tokens->ids[i]) ? "   (special)" : "");
	}
}

static int print_json_tokens(const struct ol_runtime *r, const struct ol_tokens *tokens)
{
	json_t *ids = json_array(), *entries = json_array();
	for (size_t i = 0; i < tokens->count; i++) {
		size_t size = 0;
		const char *entry = ol_tokenizer_entry(r->tokenizer, tokens->ids[i], &size);
		json_array_append_new(ids, json_integer(tokens->ids[i]));
		json_array_append_new(entries, entry ? json_stringn(entry, size) : json_null());
	}
	return ol_print_json(json_pack("{s:o, s:o, s:I}", "tokens", ids, "entries", entries,
				       "count", (json_int_t)tokens->count));
}

int ol_command_tokenize(int argc, char **argv)
{
	const char *model = NULL, *prompt = NULL;
	bool json = false, chat = false, special = false;
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', model, "NAME", "whose tokenizer"),
		OL_TEXT("prompt", 'p', prompt, "TEXT", "the text"),
		OL_FLAG("chat", 0, chat, "as a user's message in the model's chat template"),
		OL_FLAG("special", 0, special,
			"special tokens written in the text become themselves"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {.command = "openledger tokenize",
					     .usage = "-m NAME -p TEXT [options]",
					     .about = "Shows a text as the model sees it.",
					     .options = options,
					     .option_count = OL_ARRAY_LEN(options)};
	struct ol_home home;
	struct ol_runtime r = {0};
	struct ol_tokens tokens = {0};
	struct ol_error err = {0};
	int exit_status = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (!model || !prompt)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "tokenize needs a model (-m NAME) and a text (-p TEXT)");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_runtime_open(&r, &home, model, &err);
	if (s == OL_OK)
		s = ol_runtime_need_tokenizer(&r, &err);
	if (s == OL_OK && chat) {
		json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", prompt);
		s = messages ? ol_runtime_encode_chat(&r, &tokens, messages, &err)
			     : ol_fail(&err, OL_ERR_INPUT, "the text is not valid UTF-8");
		json_decref(messages);
	} else if (s == OL_OK) {
		s = ol_tokenizer_encode(r.tokenizer, &tokens, prompt, strlen(prompt),
					special ? OL_SPECIAL_PARSE : OL_SPECIAL_NONE, true, NULL, 0,
					&err);
	}
	if (s == OL_OK && json)
		exit_status = print_json_tokens(&r, &tokens);
	else if (s == OL_OK)
		print_tokens(&r, &tokens);
	ol_tokens_release(&tokens);
	ol_runtime_close(&r);
	return s == OL_OK ? exit_status : ol_report(&err);
}
