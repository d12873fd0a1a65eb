/* http/openai_fields.h, floor 5: the fields of a request, checked one by one: type and range, with
 * the sentence and the code that OpenAI's clients know. The first fault is kept; later reads give
 * defaults, so that a handler may read all it wants and ask once.
 *
 * A field that is null counts as absent, as OpenAI has it. */
#ifndef OL_HTTP_OPENAI_FIELDS_H
#define OL_HTTP_OPENAI_FIELDS_H

#include "http/server.h"

#include <jansson.h>

struct ol_fields {
	const json_t *root; /* borrowed */
	bool failed;
	int status;       /* 400 */
	char param[64];   /* "" for none */
	const char *code; /* static; may be NULL */
	char text[512];
};

void ol_fields_init(struct ol_fields *fields, const json_t *root);
/* Marks a fault, unless there is one already. */
void ol_fields_fail(struct ol_fields *fields, const char *param, const char *code,
		    const char *format, ...) OL_PRINTF(4, 5);
/* Answers the request with the fault. */
void ol_fields_reply(const struct ol_fields *fields, struct ol_http_request *request);

/* NULL when absent or null. */
const json_t *ol_fields_get(const struct ol_fields *fields, const char *name);
/* Each leaves *out as it is when the field is absent; true: it was there and is good. */
bool ol_fields_bool(struct ol_fields *fields, const char *name, bool *out);
bool ol_fields_integer(struct ol_fields *fields, const char *name, int64_t *out, int64_t low,
		       int64_t high);
bool ol_fields_number(struct ol_fields *fields, const char *name, float *out, double low,
		      double high);
/* A text without NUL bytes. */
bool ol_fields_text(struct ol_fields *fields, const char *name, const char **out);
/* "a string", "an array", … for sentences. */
const char *ol_json_kind(const json_t *value);

#endif
