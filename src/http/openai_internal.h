/* http/openai_internal.h, floor 5: what the routes share: one call from its body to its answer.
 *
 * openai.c (the table), openai_ask.c (from fields to an ask), openai_prompt.c (texts and messages
 * to tokens), openai_answer.c (what is sent), openai_write.c (its JSON), openai_models.c,
 * openai_tokens.c. */
#ifndef OL_HTTP_OPENAI_INTERNAL_H
#define OL_HTTP_OPENAI_INTERNAL_H

#include "http/openai.h"
#include "http/openai_fields.h"

enum ol_call_kind { OL_CALL_CHAT, OL_CALL_COMPLETION, OL_CALL_EMBEDDING };

/* How much of one answer has been streamed. */
struct ol_call_part {
	bool opened;
	size_t text, tokens;
	size_t characters; /* of what came before `tokens`: text_offset */
};

/* Lies in the request's memory (ol_http_alloc); owns what it points at. */
struct ol_call {
	struct ol_openai *openai;
	struct ol_http_request *request;
	enum ol_call_kind kind;
	struct ol_lease *lease; /* NULL: no Idempotency-Key */
	struct ol_fields fields;
	json_t *body;

	/* What was asked. */
	struct ol_ask ask;
	struct ol_tokens *prompts;
	const char **echo; /* the prompts' texts, where they are to be repeated; in body */
	struct ol_logit_bias *bias;
	struct ol_grammar *grammar;
	char *grammar_text; /* what it was compiled from (node/service.h) */
	bool stream, include_usage, base64, logprobs;
	int top_logprobs;

	/* What is answered. */
	char id[40];
	int64_t created;
	bool begun;   /* the stream's head has gone */
	bool cut_off; /* nobody reads the stream any more */
	struct ol_call_part *parts;
	struct ol_buf scratch; /* of the scheduler's thread, then of the clerk's */
	struct ol_buf end;     /* what is sent when the answer has been kept */
	int status;
	const char *type;
};

/* ---- openai_prompt.c: body to prompts; on failure fields say why ---- */
void ol_call_read_messages(struct ol_call *call);
void ol_call_read_prompt(struct ol_call *call, const char *field);
/* For /tokenize: the tokens of "messages" or of "prompt". */
void ol_call_read_either(struct ol_call *call, bool special, bool open_answer);

/* ---- openai_ask.c ---- */
/* All of call->body into call->ask and its options; or call->fields say what is wrong. */
void ol_call_read(struct ol_call *call);
void ol_openai_chat(void *self, struct ol_http_request *request);
void ol_openai_completions(void *self, struct ol_http_request *request);
void ol_openai_embeddings(void *self, struct ol_http_request *request);
/* Gives back what the call owns. */
void ol_call_release(struct ol_call *call);

/* ---- openai_tokens.c ---- */
void ol_openai_tokenize(void *self, struct ol_http_request *request);
void ol_openai_detokenize(void *self, struct ol_http_request *request);

/* ---- openai_models.c ---- */
void ol_openai_models(void *self, struct ol_http_request *request);
void ol_openai_model(void *self, struct ol_http_request *request);
void ol_openai_card(void *self, struct ol_http_request *request);
void ol_openai_load(void *self, struct ol_http_request *request);
void ol_openai_unload(void *self, struct ol_http_request *request);
void ol_openai_model_not_found(struct ol_http_request *request, const char *model);

/* ---- openai_answer.c: the service's callbacks, and refusals ---- */
bool ol_call_on_token(void *call, size_t part, const struct ol_generation *generation,
		      size_t final);
void ol_call_on_done(void *call, const struct ol_answered *answered);
/* Ends the call with fields' fault, or with a refusal. */
void ol_call_fail_fields(struct ol_call *call);
void ol_call_refuse(struct ol_call *call, enum ol_ask_result result,
		    const struct ol_refusal *refusal, const struct ol_error *err);

/* ---- openai_write.c: JSON into a buf, which remembers its failures ---- */
void ol_write_string(struct ol_buf *out, const char *text, size_t size);
/* One event's JSON: what part p has to say since it was last told; finish NULL: it goes on. */
void ol_write_chunk(struct ol_buf *out, struct ol_call *call, size_t p,
		    const struct ol_generation *generation, size_t final, const char *finish,
		    const struct ol_answered *last);
/* The chunk of include_usage. */
void ol_write_usage_chunk(struct ol_buf *out, const struct ol_call *call,
			  const struct ol_answered *answered);
void ol_write_whole(struct ol_buf *out, struct ol_call *call, const struct ol_answered *answered);
void ol_write_embeddings(struct ol_buf *out, const struct ol_call *call,
			 const struct ol_answered *answered);

#endif
