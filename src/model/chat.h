/* model/chat.h, floor 2: conversations to token ids, for answering and for training alike. */
#ifndef OL_MODEL_CHAT_H
#define OL_MODEL_CHAT_H

#include "model/chat_template.h"
#include "model/config.h"
#include "model/tokenizer.h"

/* All borrowed. Without a template, a conversation is its texts, joined as they are, between the
 * tokenizer's opening tokens and the end-of-text token. */
struct ol_chat_format {
	const struct ol_tokenizer *tokenizer;
	const struct ol_template *chat; /* NULL: none */
	const struct ol_config *config;
};

/* The ids of a conversation; user text cannot become a special token. messages: a JSON array of
 * {role, content}. open_answer: the prompt for the next answer follows (add_generation_prompt). */
OL_MUST_CHECK enum ol_status ol_chat_encode(const struct ol_chat_format *format,
					    struct ol_tokens *tokens, json_t *messages,
					    bool open_answer, struct ol_error *err);

#endif
