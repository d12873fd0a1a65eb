#include "model/chat.h"

#include <stdlib.h>
#include <time.h>

static json_t *special_token(const struct ol_chat_format *f, int32_t id)
{
	size_t size = 0;
	const char *entry = id >= 0 ? ol_tokenizer_entry(f->tokenizer, id, &size) : NULL;
	return entry ? json_stringn(entry, size) : json_string("");
}

/* The variables every chat template expects from its model. */
static json_t *template_constants(const struct ol_chat_format *f)
{
	const struct ol_config *c = f->config;
	return json_pack("{s:o, s:o}", "bos_token", special_token(f, c->bos_id), "eos_token",
			 special_token(f, c->eos_count > 0 ? c->eos_ids[0] : -1));
}

int32_t ol_chat_opening(const struct ol_chat_format *format)
{
	struct ol_tokens opening = {0};
	const int32_t bos = format->config->bos_id;
	/* What the tokenizer puts around an empty text: its opening token comes first. */
	const enum ol_status s = ol_tokenizer_encode(format->tokenizer, &opening, "", 0,
						     OL_SPECIAL_NONE, true, NULL, 0, NULL);
	const bool opens = s == OL_OK && opening.count > 0 && bos >= 0 && opening.ids[0] == bos;
	ol_tokens_release(&opening);
	return opens ? bos : -1;
}

int32_t ol_chat_closing(const struct ol_chat_format *format)
{
	return format->config->eos_count > 0 ? format->config->eos_ids[0] : -1;
}

static enum ol_status join_texts(struct ol_buf *text, struct ol_spans *spans,
				 const json_t *messages, struct ol_error *err)
{
	size_t i;
	const json_t *message;
	json_array_foreach(messages, i, message)
	{
		const json_t *content = json_object_get(message, "content");
		if (!json_is_string(content))
			return ol_fail(err, OL_ERR_INPUT,
				       "message %zu has no text as its content: give it one",
				       i + 1);
		ol_buf_append(text, json_string_value(content), json_string_length(content));
	}
	if (text->failed)
		return ol_fail(err, OL_ERR_FULL, "the conversation is over its limit of %d bytes",
			       OL_TEMPLATE_OUTPUT_MAX);
	if (text->size > 0) {
		spans->spans = malloc(sizeof *spans->spans);
		if (!spans->spans)
			return ol_fail(err, OL_ERR_FULL, "out of memory for the conversation");
		spans->spans[0] = (struct ol_text_span){0, text->size};
		spans->count = spans->room = 1;
	}
	return OL_OK;
}

enum ol_status ol_chat_render(const struct ol_chat_format *format, struct ol_buf *text,
			      struct ol_spans *spans, const json_t *messages, bool open_answer,
			      struct ol_error *err)
{
	if (!format->chat)
		return join_texts(text, spans, messages, err);
	json_t *variables = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt",
				      open_answer ? 1 : 0);
	json_t *constants = template_constants(format);
	enum ol_status s = OL_OK;
	if (!variables || !constants)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the conversation");
	if (s == OL_OK)
		s = ol_template_render(format->chat, text, spans, variables, constants,
				       format->now ? format->now : (int64_t)time(NULL), err);
	json_decref(constants);
	json_decref(variables);
	return s;
}

enum ol_status ol_chat_encode(const struct ol_chat_format *format, struct ol_tokens *tokens,
			      json_t *messages, bool open_answer, struct ol_error *err)
{
	struct ol_buf text;
	struct ol_spans spans = {0};
	const int32_t opening = format->chat ? -1 : ol_chat_opening(format);
	const int32_t closing = format->chat || open_answer ? -1 : ol_chat_closing(format);
	ol_buf_init(&text, OL_TEMPLATE_OUTPUT_MAX);
	enum ol_status s = ol_chat_render(format, &text, &spans, messages, open_answer, err);
	bool room = true;
	if (s == OL_OK && opening >= 0)
		room = ol_tokens_push(tokens, opening);
	if (s == OL_OK)
		s = ol_tokenizer_encode(format->tokenizer, tokens, text.data ? text.data : "",
					text.size, OL_SPECIAL_PARSE, false, spans.spans,
					spans.count, err);
	if (s == OL_OK && closing >= 0)
		room = room && ol_tokens_push(tokens, closing);
	if (s == OL_OK && !room)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the conversation");
	ol_spans_release(&spans);
	ol_buf_release(&text);
	return s;
}
