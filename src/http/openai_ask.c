/* http/openai_ask.c: from a request's fields to an ask. */
#include "http/openai_internal.h"

#include "base/random.h"
#include "crypto/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What OpenAI gives to /v1/completions without max_tokens. */
enum { COMPLETION_TOKENS_DEFAULT = 16, ANSWER_BYTES_A_TOKEN = 512 };
/* The smallest top_p there is; 0 means "only the likeliest", as OpenAI takes it. */
static const float TOP_P_MIN = 0x1p-126f;

static struct ol_sampling *sampling_of(struct ol_call *call)
{
	return &call->ask.answer.sampling;
}

/* --- fields ---------------------------------------------------------------- */

static void read_sampling(struct ol_call *call)
{
	struct ol_fields *f = &call->fields;
	struct ol_sampling *s = sampling_of(call);
	int64_t top_k = 0, seed = 0;
	*s = (struct ol_sampling){.temperature = 1.0f, .top_p = 1.0f, .repeat_penalty = 1.0f};
	(void)ol_fields_number(f, "temperature", &s->temperature, 0, 2);
	(void)ol_fields_number(f, "top_p", &s->top_p, 0, 1);
	s->top_p = OL_MAX(s->top_p, TOP_P_MIN);
	(void)ol_fields_number(f, "min_p", &s->min_p, 0, 1);
	(void)ol_fields_number(f, "presence_penalty", &s->presence_penalty, -2, 2);
	(void)ol_fields_number(f, "frequency_penalty", &s->frequency_penalty, -2, 2);
	(void)ol_fields_number(f, "repetition_penalty", &s->repeat_penalty, 0.01, 100);
	(void)ol_fields_integer(f, "top_k", &top_k, -1, OL_VOCAB_MAX);
	s->top_k = (int)OL_MAX(top_k, 0);
	call->ask.seed_given = ol_fields_integer(f, "seed", &seed, INT64_MIN, INT64_MAX);
	s->seed = (uint64_t)seed;
}

static bool parse_token(int32_t *token, const char *text, int vocab)
{
	int64_t n = 0;
	if (*text == '\0' || strlen(text) > 7 || (text[0] == '0' && text[1]))
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = 10 * n + (*text - '0');
	}
	*token = (int32_t)n;
	return n < vocab;
}

static void read_bias(struct ol_call *call)
{
	struct ol_fields *f = &call->fields;
	const json_t *object = ol_fields_get(f, "logit_bias");
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const int vocab = ol_model_config(r->model)->vocab_size;
	struct ol_sampling *s = sampling_of(call);
	const char *key;
	json_t *value;
	if (!object)
		return;
	if (!json_is_object(object) || json_object_size(object) > OL_OPENAI_BIAS_MAX) {
		ol_fields_fail(f, "logit_bias", "invalid_type",
			       "Invalid 'logit_bias': expected an object of at most %d tokens.",
			       OL_OPENAI_BIAS_MAX);
		return;
	}
	call->bias = calloc(json_object_size(object) + 1, sizeof *call->bias);
	s->bias = call->bias;
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		int32_t token;
		const double bias = json_number_value(value);
		if (!call->bias || !parse_token(&token, key, vocab) || !json_is_number(value) ||
		    !(bias >= -100 && bias <= 100)) {
			ol_fields_fail(f, "logit_bias", "invalid_value",
				       "Invalid 'logit_bias': '%.32s' must be a token of this "
				       "model (0 to %d) with a number from -100 to 100.",
				       key, vocab - 1);
			return;
		}
		call->bias[s->bias_count++] = (struct ol_logit_bias){token, (float)bias};
	}
}

static void add_stop(struct ol_call *call, const json_t *stop)
{
	struct ol_answer_options *o = &call->ask.answer;
	const size_t size = json_string_length(stop);
	if (!json_is_string(stop) || size == 0 || size > OL_OPENAI_STOP_BYTES_MAX ||
	    strlen(json_string_value(stop)) != size)
		ol_fields_fail(&call->fields, "stop", "invalid_value",
			       "Invalid 'stop': expected strings of 1 to %d bytes without NUL.",
			       OL_OPENAI_STOP_BYTES_MAX);
	else
		o->stops[o->stop_count++] = json_string_value(stop);
}

static void read_stops(struct ol_call *call)
{
	const json_t *value = ol_fields_get(&call->fields, "stop"), *stop;
	size_t i;
	if (!value)
		return;
	if (!json_is_array(value)) {
		add_stop(call, value);
		return;
	}
	if (json_array_size(value) > OL_OPENAI_STOPS_MAX)
		ol_fields_fail(&call->fields, "stop", "array_above_max_length",
			       "Invalid 'stop': at most %d texts.", OL_OPENAI_STOPS_MAX);
	json_array_foreach(value, i, stop)
	{
		if (!call->fields.failed)
			add_stop(call, stop);
	}
}

static void read_length(struct ol_call *call)
{
	int64_t tokens = call->kind == OL_CALL_COMPLETION ? COMPLETION_TOKENS_DEFAULT : 0;
	(void)ol_fields_integer(&call->fields, "max_tokens", &tokens, 1, OL_CONTEXT_MAX);
	if (call->kind == OL_CALL_CHAT)
		(void)ol_fields_integer(&call->fields, "max_completion_tokens", &tokens, 1,
					OL_CONTEXT_MAX);
	call->ask.answer.max_tokens = (int)tokens;
	(void)ol_fields_bool(&call->fields, "ignore_eos", &call->ask.answer.ignore_eos);
}

static void read_choices(struct ol_call *call)
{
	int64_t n = 1, best = 0;
	(void)ol_fields_integer(&call->fields, "n", &n, 1, OL_ASK_CHOICES_MAX);
	if (call->kind == OL_CALL_COMPLETION &&
	    ol_fields_integer(&call->fields, "best_of", &best, 1, OL_ASK_CHOICES_MAX) && best != n)
		ol_fields_fail(&call->fields, "best_of", "unsupported_value",
			       "Unsupported value: 'best_of' must equal 'n': every answer that is "
			       "made is given.");
	call->ask.choices = (int)n;
}

static void read_logprobs(struct ol_call *call)
{
	struct ol_fields *f = &call->fields;
	int64_t top = 0;
	if (call->kind == OL_CALL_CHAT) {
		(void)ol_fields_bool(f, "logprobs", &call->logprobs);
		if (ol_fields_integer(f, "top_logprobs", &top, 0, OL_LOGPROBS_MAX) &&
		    !call->logprobs)
			ol_fields_fail(f, "top_logprobs", "invalid_value",
				       "Invalid 'top_logprobs': it needs 'logprobs' to be true.");
	} else {
		call->logprobs = ol_fields_integer(f, "logprobs", &top, 0, OL_LOGPROBS_MAX);
	}
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	call->top_logprobs = (int)OL_MIN(top, ol_model_config(r->model)->vocab_size);
	if (call->logprobs)
		call->ask.answer.logprobs = OL_MAX(call->top_logprobs, 1);
}

static void read_stream(struct ol_call *call)
{
	const json_t *options = ol_fields_get(&call->fields, "stream_options");
	struct ol_fields inner;
	(void)ol_fields_bool(&call->fields, "stream", &call->stream);
	if (!options)
		return;
	if (!call->stream) {
		ol_fields_fail(&call->fields, "stream_options", "invalid_value",
			       "The 'stream_options' parameter is only allowed when 'stream' is "
			       "enabled.");
		return;
	}
	ol_fields_init(&inner, options);
	(void)ol_fields_bool(&inner, "include_usage", &call->include_usage);
	if (inner.failed)
		ol_fields_fail(&call->fields, "stream_options", inner.code, "%s", inner.text);
}

/* What changes an answer and is not done here is refused by name, never passed over. */
static void refuse_unsupported(struct ol_call *call)
{
	static const struct {
		const char *name, *why;
	} rows[] = {
		{"tools", "this node does not call tools"},
		{"functions", "this node does not call functions"},
		{"audio", "this node makes text"},
		{"prediction", "this node does not take predicted outputs"},
		{"web_search_options", "this node does not search"},
		{"suffix", "this node does not insert before a suffix"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const json_t *value = ol_fields_get(&call->fields, rows[i].name);
		const bool empty = (json_is_array(value) && json_array_size(value) == 0) ||
				   (json_is_string(value) && json_string_length(value) == 0);
		if (value && !empty)
			ol_fields_fail(&call->fields, rows[i].name, "unsupported_parameter",
				       "Unsupported parameter: '%s': %s.", rows[i].name,
				       rows[i].why);
	}
	const json_t *modalities = ol_fields_get(&call->fields, "modalities");
	const char *only = json_string_value(json_array_get(modalities, 0));
	if (modalities && (json_array_size(modalities) != 1 || !only || strcmp(only, "text") != 0))
		ol_fields_fail(&call->fields, "modalities", "unsupported_value",
			       "Unsupported value: 'modalities' can only be [\"text\"].");
}

/* The receipt says what bound the answer. */
static void keep_grammar(struct ol_call *call, const json_t *format, const json_t *choice)
{
	json_t *text = choice ? json_pack("{s:s, s:O}", "type", "choice", "choices", choice)
			      : json_incref((json_t *)format);
	call->grammar_text = text ? json_dumps(text, JSON_COMPACT) : NULL;
	json_decref(text);
	call->ask.grammar_text = call->grammar_text;
	if (!call->grammar_text)
		ol_fields_fail(&call->fields, NULL, "out_of_memory", "Out of memory.");
}

/* Structured output, by grammars: response_format as OpenAI has it, or vLLM's guided_choice. */
static void read_format(struct ol_call *call)
{
	struct ol_fields *f = &call->fields;
	const json_t *format = ol_fields_get(f, "response_format");
	const json_t *choice = ol_fields_get(f, "guided_choice");
	const char *type = json_string_value(json_object_get(format, "type"));
	const char *param = choice ? "guided_choice" : "response_format";
	struct ol_grammar_vocab *vocab = ol_service_vocab(call->openai->service);
	struct ol_error err = {0};
	if (f->failed || (!choice && (!format || (type && strcmp(type, "text") == 0))))
		return;
	if (choice && format)
		ol_fields_fail(f, param, "invalid_value",
			       "Invalid 'guided_choice': give it or 'response_format', not both.");
	else if (!vocab)
		ol_fields_fail(f, param, "unsupported_value",
			       "Unsupported value: this model's tokens cannot spell all of JSON.");
	else if ((choice ? ol_grammar_open_choice(&call->grammar, vocab, choice, &err)
			 : ol_grammar_open_format(&call->grammar, vocab, format, &err)) != OL_OK)
		ol_fields_fail(f, param,
			       err.status == OL_ERR_UNSUPPORTED ? "unsupported_value"
								: "invalid_value",
			       "Invalid '%s': %s", param, err.text);
	call->ask.answer.grammar = call->grammar;
	if (call->grammar)
		keep_grammar(call, format, choice);
}

/* echo is only of texts: what tokens of a prompt look like is for /detokenize to say. */
static void read_echo(struct ol_call *call)
{
	bool echo = false;
	(void)ol_fields_bool(&call->fields, "echo", &echo);
	if (echo && call->logprobs)
		ol_fields_fail(&call->fields, "echo", "unsupported_parameter",
			       "Unsupported parameter: 'echo' together with 'logprobs'.");
	for (size_t i = 0; echo && call->prompts && i < call->ask.prompt_count; i++)
		if (call->echo[i] && call->echo[i][0] == '\0' && call->prompts[i].count > 0)
			ol_fields_fail(&call->fields, "echo", "unsupported_parameter",
				       "Unsupported parameter: 'echo' of a prompt that was given "
				       "as tokens.");
	if (!echo) {
		free(call->echo);
		call->echo = NULL;
	}
}

static void read_embedding(struct ol_call *call)
{
	struct ol_fields *f = &call->fields;
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const int64_t size = ol_model_config(r->model)->hidden;
	const char *format = "float";
	int64_t dimensions = size;
	(void)ol_fields_text(f, "encoding_format", &format);
	call->base64 = strcmp(format, "base64") == 0;
	if (!call->base64 && strcmp(format, "float") != 0)
		ol_fields_fail(f, "encoding_format", "invalid_value",
			       "Invalid value: '%.32s'. Supported values are: 'float' and "
			       "'base64'.",
			       format);
	if (ol_fields_integer(f, "dimensions", &dimensions, 1, OL_HIDDEN_MAX) && dimensions != size)
		ol_fields_fail(f, "dimensions", "unsupported_value",
			       "Unsupported value: this model's embeddings have %lld dimensions.",
			       (long long)size);
	*sampling_of(call) = (struct ol_sampling){.top_p = 1.0f, .repeat_penalty = 1.0f};
	call->ask.embed = true;
	call->ask.choices = 1;
}

static void read_answer(struct ol_call *call)
{
	read_sampling(call);
	read_bias(call);
	read_stops(call);
	read_length(call);
	read_choices(call);
	read_logprobs(call);
	read_stream(call);
	refuse_unsupported(call);
	read_format(call);
	call->ask.answer.strip_lead_space = call->kind == OL_CALL_CHAT;
}

/* --- the call -------------------------------------------------------------- */

void ol_call_release(struct ol_call *call)
{
	for (size_t i = 0; call->prompts && i < call->ask.prompt_count; i++)
		ol_tokens_release(&call->prompts[i]);
	free(call->prompts);
	free((void *)call->echo);
	free(call->bias);
	ol_grammar_close(call->grammar);
	free(call->grammar_text);
	free(call->parts);
	ol_buf_release(&call->scratch);
	json_decref(call->body);
	call->prompts = NULL;
	call->echo = NULL;
	call->bias = NULL;
	call->grammar = NULL;
	call->grammar_text = NULL;
	call->parts = NULL;
	call->body = NULL;
}

static void name_call(struct ol_call *call)
{
	static const char *const prefixes[] = {[OL_CALL_CHAT] = "chatcmpl",
					       [OL_CALL_COMPLETION] = "cmpl",
					       [OL_CALL_EMBEDDING] = "embd"};
	(void)snprintf(call->id, sizeof call->id, "%s-%016llx%08x", prefixes[call->kind],
		       (unsigned long long)ol_random_u64(&ol_random_system),
		       (unsigned)ol_random_u64(&ol_random_system));
	call->created = (int64_t)time(NULL);
}

/* Accounts share neither queue nor prefixes: a tenant is an account. */
static uint64_t tenant_of(const char *account)
{
	uint8_t digest[OL_SHA256_BYTES];
	uint64_t tenant;
	ol_sha256(digest, account, strlen(account));
	memcpy(&tenant, digest, sizeof tenant);
	return tenant;
}

void ol_call_read(struct ol_call *call)
{
	const struct ol_runtime *r = ol_service_runtime(call->openai->service);
	const char *model = NULL;
	ol_fields_init(&call->fields, call->body);
	if (!call->fields.failed && !ol_fields_text(&call->fields, "model", &model))
		ol_fields_fail(&call->fields, "model", "missing_required_parameter",
			       "you must provide a model parameter");
	call->ask.model = model;
	if (!r->tokenizer)
		ol_fields_fail(&call->fields, "model", "unsupported_model",
			       "This model was imported without a tokenizer.");
	if (call->fields.failed)
		return;
	if (call->kind == OL_CALL_EMBEDDING)
		read_embedding(call);
	else
		read_answer(call);
	if (call->fields.failed)
		return;
	if (call->kind == OL_CALL_CHAT) {
		ol_call_read_messages(call);
		free((void *)call->echo);
		call->echo = NULL;
	} else {
		ol_call_read_prompt(call, call->kind == OL_CALL_EMBEDDING ? "input" : "prompt");
		read_echo(call);
	}
	if (call->fields.failed)
		return;
	call->parts =
		calloc(call->ask.prompt_count * (size_t)call->ask.choices, sizeof *call->parts);
	if (!call->parts) {
		ol_fields_fail(&call->fields, "", NULL, "out of memory");
		call->fields.status = 503;
	}
}

static void on_gone(void *context, struct ol_http_request *request)
{
	struct ol_call *call = context;
	(void)request;
	/* Who sent an Idempotency-Key will come back for the answer. */
	if (!call->lease)
		ol_service_cancel(call->openai->service, call->ask.id);
}

/* From here on the request belongs to the service's callbacks, unless it is refused. */
static void ask(struct ol_call *call)
{
	struct ol_refusal refusal;
	struct ol_error err = {0};
	const struct ol_http_caller *caller = ol_http_caller(call->request);
	struct ol_service *service = call->openai->service;
	struct ol_lease *lease = call->lease;
	json_t *body = ol_http_body_json(call->request);
	if (!body) { /* it has been answered, and the call is gone */
		if (lease)
			ol_idempotency_release(lease);
		return;
	}
	call->body = body;
	ol_call_read(call);
	if (call->fields.failed) {
		ol_call_fail_fields(call);
		return;
	}
	name_call(call);
	call->ask.id = ol_service_id(service);
	call->ask.tenant = tenant_of(caller->account);
	call->ask.account = caller->account;
	call->ask.key_id = caller->key_id;
	call->ask.caller = caller->grant;
	call->ask.on_token = call->stream ? ol_call_on_token : NULL;
	call->ask.on_done = ol_call_on_done;
	call->ask.context = call;
	ol_http_note(call->request, "model", call->ask.model);
	ol_http_on_gone(call->request, on_gone, call);
	const enum ol_ask_result result = ol_service_ask(service, &call->ask, &refusal, &err);
	if (result != OL_ASK_OK)
		ol_call_refuse(call, result, &refusal, &err);
}

/* --- Idempotency-Key ------------------------------------------------------- */

static void begin(struct ol_call *call);

static void refuse_key(struct ol_http_request *request, enum ol_idempotency_verdict verdict)
{
	const struct ol_idempotency_row *row = ol_idempotency_row(verdict);
	ol_http_error(request, row->http, row->type, NULL, row->code, "%s", row->sentence);
}

/* What the first request of that key came to. */
static void on_ready(void *context, enum ol_idempotency_verdict verdict, const struct ol_kept *kept)
{
	struct ol_call *call = context;
	if (verdict == OL_IDEMPOTENCY_AGAIN) {
		begin(call);
	} else if (verdict == OL_IDEMPOTENCY_REPLAY) {
		ol_http_set_header(call->request, OL_IDEMPOTENCY_REPLAYED, "true");
		ol_http_reply(call->request, kept->status, kept->type, kept->body, kept->size);
	} else {
		refuse_key(call->request, verdict);
	}
}

static void begin(struct ol_call *call)
{
	const char *key = ol_http_header(call->request, "idempotency-key");
	uint8_t fingerprint[OL_SHA256_BYTES];
	size_t size;
	if (!key || !call->openai->idempotency) {
		ask(call);
		return;
	}
	const char *body = ol_http_body(call->request, &size);
	ol_idempotency_fingerprint(fingerprint, "POST", ol_http_path(call->request), body, size);
	const size_t room = (size_t)ol_service_room(call->openai->service);
	const enum ol_idempotency_verdict verdict = ol_idempotency_begin(
		call->openai->idempotency, &call->lease, ol_http_caller(call->request)->account,
		key, fingerprint,
		OL_MIN(room * ANSWER_BYTES_A_TOKEN, (size_t)OL_IDEMPOTENCY_ANSWER_MAX), on_ready,
		call);
	if (verdict == OL_IDEMPOTENCY_NEW)
		ask(call);
	else if (verdict != OL_IDEMPOTENCY_WAIT)
		refuse_key(call->request, verdict);
}

static void open_call(struct ol_openai *openai, struct ol_http_request *request,
		      enum ol_call_kind kind)
{
	struct ol_call *call = ol_http_alloc(request, sizeof *call);
	if (!call) {
		ol_http_error_later(request, 503, 1, "server_error", "no_memory", "out of memory");
		return;
	}
	call->openai = openai;
	call->request = request;
	call->kind = kind;
	ol_buf_init(&call->scratch, OL_ANSWER_TEXT_MAX);
	begin(call);
}

void ol_openai_chat(void *self, struct ol_http_request *request)
{
	open_call(self, request, OL_CALL_CHAT);
}

void ol_openai_completions(void *self, struct ol_http_request *request)
{
	open_call(self, request, OL_CALL_COMPLETION);
}

void ol_openai_embeddings(void *self, struct ol_http_request *request)
{
	open_call(self, request, OL_CALL_EMBEDDING);
}
