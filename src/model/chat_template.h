/* model/chat_template.h, floor 2: conversations to prompts, by the model's own Jinja template.
 *
 * The subset of Jinja that chat templates use, equal to @huggingface/jinja on the templates of the
 * model families we run. Values that came from the conversation are tracked through every filter,
 * slice and concatenation: the spans of the output that a user (not the template's author) wrote
 * are returned, and the tokenizer refuses to see special tokens there.
 *
 * A template is untrusted input: nesting, steps and output have limits with names. */
#ifndef OL_MODEL_CHAT_TEMPLATE_H
#define OL_MODEL_CHAT_TEMPLATE_H

#include "base/base.h"
#include "base/buf.h"
#include "model/tokenizer.h"

#include <jansson.h>

enum {
	OL_TEMPLATE_SOURCE_MAX = 1 << 20,
	OL_TEMPLATE_OUTPUT_MAX = 64 << 20,
	OL_TEMPLATE_STEPS_MAX = 10000000,   /* operations; long strings and lists count more */
	OL_TEMPLATE_MEMORY_MAX = 256 << 20, /* of one rendering, output included */
	OL_TEMPLATE_RANGE_MAX = 100000,     /* items of range() */
	OL_TEMPLATE_DEPTH_MAX = 64,         /* blocks and brackets inside each other */
	OL_TEMPLATE_HEIGHT_MAX = 200,       /* operations of one expression on top of each other */
	OL_TEMPLATE_EVALUATION_MAX = 500    /* the same while rendering, macro calls included */
};

struct ol_template;

struct ol_spans {
	struct ol_text_span *spans; /* ascending, disjoint, not touching */
	size_t count, room;
};
void ol_spans_release(struct ol_spans *spans);

OL_MUST_CHECK enum ol_status ol_template_open(struct ol_template **template_out, const char *source,
					      size_t size, const char *path, struct ol_error *err);
void ol_template_close(struct ol_template *tpl);

/* variables: an object with messages, tools, add_generation_prompt, … (input: everything in it is
 * the user's) and trusted: an object with bos_token, eos_token, … (the model's own). now: seconds
 * since 1970 for strftime_now. raise_exception in the template is OL_ERR_INPUT with its message;
 * errors of the template name line and column. */
OL_MUST_CHECK enum ol_status ol_template_render(const struct ol_template *tpl, struct ol_buf *text,
						struct ol_spans *input_spans,
						const json_t *variables, const json_t *trusted,
						int64_t now, struct ol_error *err);

#endif
