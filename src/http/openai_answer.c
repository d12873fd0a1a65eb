/* http/openai_answer.c: what is sent back: chunks as tokens come, and the end. */
#include "http/openai_internal.h"

#include <stdlib.h>
#include <string.h>

/* Before what the client sees of the end, the answer is kept, where there is an Idempotency-Key. */
static void send_end(void *context, enum ol_status status)
{
	struct ol_call *call = context;
	struct ol_buf end = call->end;
	(void)status; /* not kept: the client gets it all the same */
	if (call->begun) {
		if (end.size > 0 && !ol_http_stream_push(call->request, end.data, end.size))
			call->cut_off = true;
		ol_http_stream_end(call->request);
		ol_buf_release(&end);
	} else {
		ol_http_reply_buf(call->request, call->status, call->type, &end);
	}
}

/* call->end, and all that was streamed before it, is the whole answer. Ends the call. */
static void finish(struct ol_call *call, int status, const char *type)
{
	struct ol_lease *lease = call->lease;
	call->status = status;
	call->type = type;
	ol_call_release(call);
	if (!lease) {
		send_end(call, OL_OK);
		return;
	}
	ol_idempotency_append(lease, call->end.data, call->end.size);
	ol_idempotency_finish(lease, status, type, send_end, call);
}

/* --- what goes wrong ------------------------------------------------------- */

/* An answer that came to nothing is not kept: who asks again is served anew. */
static void drop_lease(struct ol_call *call)
{
	if (call->lease)
		ol_idempotency_release(call->lease);
	call->lease = NULL;
}

static void fail(struct ol_call *call, int status, const char *param, const char *code,
		 int retry_after, const char *text)
{
	struct ol_http_request *request = call->request;
	const bool begun = call->begun;
	drop_lease(call);
	ol_call_release(call);
	ol_buf_release(&call->end);
	if (begun) {
		ol_http_stream_error(request, status, code, "%s", text);
		ol_http_stream_end(request);
	} else if (retry_after > 0) {
		ol_http_error_later(request, status, retry_after, ol_http_error_type(status), code,
				    "%s", text);
	} else {
		ol_http_error(request, status, ol_http_error_type(status), param, code, "%s", text);
	}
}

void ol_call_fail_fields(struct ol_call *call)
{
	const struct ol_fields f = call->fields;
	fail(call, f.status, f.param[0] ? f.param : NULL, f.code, f.status == 503, f.text);
}

void ol_call_refuse(struct ol_call *call, enum ol_ask_result result,
		    const struct ol_refusal *refusal, const struct ol_error *err)
{
	static const char *const prompts[] = {[OL_CALL_CHAT] = "messages",
					      [OL_CALL_COMPLETION] = "prompt",
					      [OL_CALL_EMBEDDING] = "input"};
	struct ol_http_request *request = call->request;
	switch (result) {
	case OL_ASK_OK: OL_UNREACHABLE();
	case OL_ASK_INVALID:
		fail(call, 400, prompts[call->kind], "invalid_value", 0, err->text);
		return;
	case OL_ASK_TOO_LONG:
		fail(call, 400, prompts[call->kind], "context_length_exceeded", 0, err->text);
		return;
	case OL_ASK_UNKNOWN_MODEL:
		fail(call, 404, "model", "model_not_found", 0, err->text);
		return;
	case OL_ASK_REFUSED:
		drop_lease(call);
		ol_call_release(call);
		if (refusal->retry_after > 0)
			ol_http_error_later(request, refusal->status, refusal->retry_after,
					    refusal->type, refusal->code, "%s", err->text);
		else
			ol_http_error(request, refusal->status, refusal->type, NULL, refusal->code,
				      "%s", err->text);
		return;
	case OL_ASK_FULL:
		fail(call, 429, NULL, "queue_full", 2,
		     "This node is busy: too many requests wait. Try again in a moment.");
		return;
	case OL_ASK_TENANT_FULL:
		fail(call, 429, NULL, "account_queue_full", 2,
		     "Too many of your requests wait. Try again when some have been answered.");
		return;
	case OL_ASK_NO_MEMORY:
		fail(call, 503, NULL, "no_memory", 5, "This node is out of memory for now.");
		return;
	case OL_ASK_CLOSED:
		fail(call, 503, NULL, "shutting_down", 5, "This node is shutting down.");
		return;
	}
	OL_UNREACHABLE();
}

static void fail_outcome(struct ol_call *call, const struct ol_answered *answered)
{
	char text[OL_ERROR_TEXT_MAX];
	memcpy(text, answered->err->text, sizeof text);
	switch (answered->outcome) {
	case OL_OUTCOME_DONE: OL_UNREACHABLE();
	case OL_OUTCOME_CANCELLED:
		/* By a client that is gone, who will not read this; or by whoever ended its key. */
		fail(call, 401, NULL, "invalid_api_key", 0,
		     "The API key was revoked while the answer was made.");
		return;
	case OL_OUTCOME_DEADLINE: fail(call, 504, NULL, "timeout", 0, text); return;
	case OL_OUTCOME_UNKNOWN_ADAPTER: /* it was unloaded while the request waited */
		fail(call, 404, "model", "model_not_found", 0, text);
		return;
	case OL_OUTCOME_BROKEN_ADAPTER: fail(call, 500, "model", "adapter_broken", 0, text); return;
	case OL_OUTCOME_FAILED: fail(call, 500, NULL, "engine_error", 0, text); return;
	case OL_OUTCOME_STOPPED: fail(call, 503, NULL, "shutting_down", 5, text); return;
	}
	OL_UNREACHABLE();
}

/* --- streams --------------------------------------------------------------- */

static void begin_stream(struct ol_call *call)
{
	if (!call->begun)
		ol_http_stream_begin(call->request, 200, "text/event-stream");
	call->begun = true;
}

/* False: nobody reads or keeps it. */
static bool send(struct ol_call *call, const struct ol_buf *events)
{
	if (call->lease)
		ol_idempotency_append(call->lease, events->data, events->size);
	if (!call->cut_off && !ol_http_stream_push(call->request, events->data, events->size))
		call->cut_off = true;
	return !call->cut_off || call->lease;
}

bool ol_call_on_token(void *context, size_t p, const struct ol_generation *generation, size_t final)
{
	struct ol_call *call = context;
	if (!call->lease && (call->cut_off || ol_http_gone(call->request)))
		return false;
	if (final == call->parts[p].text)
		return true; /* nothing that can be shown yet */
	begin_stream(call);
	ol_buf_clear(&call->scratch);
	ol_buf_append_text(&call->scratch, "data: ");
	ol_write_chunk(&call->scratch, call, p, generation, final, NULL, NULL);
	ol_buf_append_text(&call->scratch, "\n\n");
	return !call->scratch.failed && send(call, &call->scratch);
}

static void write_stream_end(struct ol_call *call, const struct ol_answered *answered)
{
	for (size_t p = 0; p < answered->part_count; p++) {
		const struct ol_generation *g = &answered->parts[p].generation;
		const bool last = p + 1 == answered->part_count && !call->include_usage;
		ol_buf_append_text(&call->end, "data: ");
		ol_write_chunk(&call->end, call, p, g, g->text.size, ol_finish_name(g->finish),
			       last ? answered : NULL);
		ol_buf_append_text(&call->end, "\n\n");
	}
	if (call->include_usage) {
		ol_buf_append_text(&call->end, "data: ");
		ol_write_usage_chunk(&call->end, call, answered);
		ol_buf_append_text(&call->end, "\n\n");
	}
	ol_buf_append_text(&call->end, "data: [DONE]\n\n");
}

/* --- the end --------------------------------------------------------------- */

static void note(struct ol_call *call, const struct ol_answered *answered)
{
	ol_http_note_number(call->request, "prompt_tokens", (int64_t)answered->usage.prompt_tokens);
	ol_http_note_number(call->request, "completion_tokens",
			    (int64_t)answered->usage.completion_tokens);
	ol_http_note_number(call->request, "cached_tokens", (int64_t)answered->usage.cached_tokens);
	if (answered->first_token_seconds > 0.0)
		ol_http_note_number(call->request, "first_token_ms",
				    (int64_t)(1e3 * answered->first_token_seconds));
}

void ol_call_on_done(void *context, const struct ol_answered *answered)
{
	struct ol_call *call = context;
	note(call, answered);
	if (answered->outcome != OL_OUTCOME_DONE) {
		fail_outcome(call, answered);
		return;
	}
	ol_buf_init(&call->end, OL_ANSWER_TEXT_MAX);
	if (call->stream)
		write_stream_end(call, answered);
	else if (call->kind == OL_CALL_EMBEDDING)
		ol_write_embeddings(&call->end, call, answered);
	else
		ol_write_whole(&call->end, call, answered);
	if (call->end.failed) {
		fail(call, 500, NULL, "answer_too_long", 0,
		     "The answer is larger than this node can send: ask for fewer at once.");
		return;
	}
	if (call->stream)
		begin_stream(call);
	finish(call, 200, call->stream ? "text/event-stream" : "application/json");
}
