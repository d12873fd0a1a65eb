/* node/greedy.h, floor 4: what a model answers when it says the likeliest: samples while it trains,
 * and whether it knows a fact. */
#ifndef OL_NODE_GREEDY_H
#define OL_NODE_GREEDY_H

#include "model/engine.h"
#include "node/answer.h"
#include "train/dataset.h"

struct ol_greedy {
	struct ol_engine *engine; /* borrowed; its context holds prompt and answer */
	const struct ol_tokenizer *tokenizer;
	const struct ol_adapter_view *adapter; /* NULL: the base alone */
	int max_tokens;
};

/* Appends the answer to what stands before the last answer of an example; of a text, a continuation
 * of its first OL_GREEDY_TEXT_PROMPT tokens. The prompt is what training saw, to the token. */
enum { OL_GREEDY_TEXT_PROMPT = 16 };
OL_MUST_CHECK enum ol_status ol_greedy_answer(struct ol_buf *text, const struct ol_greedy *greedy,
					      const struct ol_example *example,
					      struct ol_error *err);
/* Tokens of that prompt. */
int ol_greedy_prompt(const struct ol_example *example);

/* Whether an answer is right: it holds the record's fact as whole words, or, where there is none,
 * equals the record's answer. Case, the kind of white space and a full stop at the end do not
 * count. */
bool ol_answer_is_right(const char *answer, size_t size, const struct ol_record *record);

#endif
