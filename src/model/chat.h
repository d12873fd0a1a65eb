/* model/chat.h, floor 2: conversations to token ids, for answering and for training alike. */
#ifndef OL_MODEL_CHAT_H
#define OL_MODEL_CHAT_H

#include "model/chat_template.h"
#include "model/config.h"
#include "model/tokenizer.h"

/* What strftime_now tells a template while a model is trained: a fixed moment (26 Jul 2024, which
 * the templates that ask for it use themselves where there is no clock), so that the same data give
 * the same tokens on any day. */
enum { OL_CHAT_TRAINING_NOW = 1721952000 };

/* All borrowed. Without a template, a conversation is its texts, joined as they are, between the
 * tokenizer's opening tokens and the end-of-text token. */
struct ol_chat_format {
	const struct ol_tokenizer *tokenizer;
	const struct ol_template *chat; /* NULL: none */
	const struct ol_config *config;
	int64_t now; /* seconds since 1970, for templates that ask; 0: by the clock */
};

/* The ids of a conversation; user text cannot become a special token. messages: a JSON array of
 * {role, content}. open_answer: the prompt for the next answer follows (add_generation_prompt). */
OL_MUST_CHECK enum ol_status ol_chat_encode(const struct ol_chat_format *format,
					    struct ol_tokens *tokens, json_t *messages,
					    bool open_answer, struct ol_error *err);

/* The text of a conversation before it becomes ids, and the spans of it that the messages (not the
 * template's author) wrote: for ol_tokenizer_encode with OL_SPECIAL_PARSE. Without a template, the
 * joined texts, all of it in spans; opening and closing tokens are not in it. */
OL_MUST_CHECK enum ol_status ol_chat_render(const struct ol_chat_format *format,
					    struct ol_buf *text, struct ol_spans *spans,
					    const json_t *messages, bool open_answer,
					    struct ol_error *err);

/* The token that opens a text of its own (BOS, where the tokenizer's post-processor puts it), and
 * the one that ends it; -1: none. */
int32_t ol_chat_opening(const struct ol_chat_format *format);
int32_t ol_chat_closing(const struct ol_chat_format *format);

#endif
