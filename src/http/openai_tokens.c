/* http/openai_tokens.c: /tokenize and /detokenize, as vLLM has them. */
#include "http/openai_internal.h"

#include <stdlib.h>

/* The model may be named; it must then be there. Adapters have their base's tokens. */
static bool read_model(struct ol_call *call)
{
	const char *model = NULL;
	struct ol_served *m = ol_http_alloc(call->request, sizeof *m);
	ol_fields_init(&call->fields, call->body);
	if (!m || call->fields.failed || !ol_fields_text(&call->fields, "model", &model))
		return true;
	if (ol_service_find(call->openai->service, m, model))
		return true;
	ol_openai_model_not_found(call->request, model);
	return false;
}

/* A call of this module's own: it is over when the handler returns. */
static struct ol_call *open_call(struct ol_openai *openai, struct ol_http_request *request)
{
	struct ol_call *call = ol_http_alloc(request, sizeof *call);
	json_t *body = call ? ol_http_body_json(request) : NULL;
	if (!call)
		ol_http_error_later(request, 503, 1, "server_error", "no_memory", "out of memory");
	if (!call || !body)
		return NULL;
	call->openai = openai;
	call->request = request;
	call->body = body;
	ol_buf_init(&call->scratch, OL_ANSWER_TEXT_MAX);
	if (!read_model(call)) {
		json_decref(body);
		return NULL;
	}
	if (!ol_service_runtime(openai->service)->tokenizer)
		ol_fields_fail(&call->fields, "model", "unsupported_model",
			       "This model was imported without a tokenizer.");
	return call;
}

static void write_tokens(struct ol_buf *out, const struct ol_call *call, bool strings)
{
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const struct ol_tokens *t = &call->prompts[0];
	ol_buf_printf(out, "{\"count\":%zu,\"max_model_len\":%lld,\"tokens\":[", t->count,
		      (long long)ol_service_room(call->openai->service));
	for (size_t i = 0; i < t->count; i++)
		ol_buf_printf(out, i ? ",%d" : "%d", t->ids[i]);
	ol_buf_append_text(out, "],\"token_strs\":");
	ol_buf_append_text(out, strings ? "[" : "null");
	for (size_t i = 0; strings && i < t->count; i++) {
		size_t size = 0;
		const char *entry = ol_tokenizer_entry(r->tokenizer, t->ids[i], &size);
		if (i > 0)
			ol_buf_append_text(out, ",");
		ol_write_string(out, entry ? entry : "", size);
	}
	ol_buf_append_text(out, strings ? "]}" : "}");
}

/* Answers with fields' fault; releases the call. */
static void refuse(struct ol_call *call)
{
	const struct ol_fields f = call->fields;
	struct ol_http_request *request = call->request;
	ol_call_release(call);
	ol_fields_reply(&f, request);
}

static void answer(struct ol_call *call)
{
	struct ol_http_request *request = call->request;
	struct ol_buf out = call->scratch;
	call->scratch = (struct ol_buf){0};
	ol_call_release(call);
	ol_http_reply_buf(request, 200, "application/json", &out);
}

void ol_openai_tokenize(void *self, struct ol_http_request *request)
{
	struct ol_call *call = open_call(self, request);
	bool special = true, open_answer = true, strings = false;
	if (!call)
		return;
	(void)ol_fields_bool(&call->fields, "add_special_tokens", &special);
	(void)ol_fields_bool(&call->fields, "add_generation_prompt", &open_answer);
	(void)ol_fields_bool(&call->fields, "return_token_strs", &strings);
	if (!call->fields.failed)
		ol_call_read_either(call, special, open_answer);
	if (call->fields.failed) {
		refuse(call);
		return;
	}
	write_tokens(&call->scratch, call, strings);
	answer(call);
}

void ol_openai_detokenize(void *self, struct ol_http_request *request)
{
	struct ol_call *call = open_call(self, request);
	struct ol_buf text;
	if (!call)
		return;
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	if (!json_is_integer(json_array_get(ol_fields_get(&call->fields, "tokens"), 0)))
		ol_fields_fail(&call->fields, "tokens", "invalid_type",
			       "Invalid type for 'tokens': expected an array of tokens.");
	if (!call->fields.failed)
		ol_call_read_prompt(call, "tokens");
	if (call->fields.failed) {
		refuse(call);
		return;
	}
	ol_buf_init(&text, OL_ANSWER_TEXT_MAX);
	if (!ol_tokenizer_decode(r->tokenizer, &text, call->prompts[0].ids, call->prompts[0].count,
				 false))
		call->scratch.failed = true;
	ol_buf_append_text(&call->scratch, "{\"prompt\":");
	ol_write_string(&call->scratch, text.data ? text.data : "", text.size);
	ol_buf_append_text(&call->scratch, "}");
	ol_buf_release(&text);
	answer(call);
}
