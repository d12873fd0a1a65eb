/* Answers and errors. */
#include "http/server_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ol_http_set_header(struct ol_http_request *request, const char *name, const char *value)
{
	for (const char *c = value; *c; c++)
		OL_ASSERT((unsigned char)*c >= 0x20 && *c != 0x7f);
	char *n = strdup(name), *v = strdup(value);
	pthread_mutex_lock(&request->lock);
	OL_ASSERT(request->header_count < OL_HTTP_SET_HEADERS_MAX);
	/* Not once an answer is being sent: the server may have ended the request by itself. */
	if (n && v && !request->taken) {
		request->headers[request->header_count].name = n;
		request->headers[request->header_count++].value = v;
		n = v = NULL;
	}
	pthread_mutex_unlock(&request->lock);
	free(n);
	free(v);
}

void ol_request_finish(struct ol_http_request *request)
{
	while (request->telling && !pthread_equal(request->teller, pthread_self()))
		pthread_cond_wait(&request->changed, &request->lock);
	OL_ASSERT(request->owned && !request->finished);
	request->finished = true;
}

/* Takes response or refusal; a request without an owner is in its checks or its upload. */
static void store(struct ol_http_request *r, int status, struct MHD_Response *response,
		  char *refusal, uint64_t size, int retry_after)
{
	pthread_mutex_lock(&r->lock);
	const bool owned = r->owned;
	if (owned)
		ol_request_finish(r);
	OL_ASSERT(!r->streaming);
	if (r->connection && !r->dead && !r->taken && !r->response && !r->refusal) {
		r->response = response;
		r->refusal = refusal;
		r->status = status;
		r->reply_size = size;
		r->retry_after = retry_after;
		r->dead = !response && !refusal; /* no memory: nothing can be said */
		response = NULL;
		refusal = NULL;
	}
	ol_request_resume(r);
	pthread_mutex_unlock(&r->lock);
	if (response)
		MHD_destroy_response(response);
	free(refusal);
	if (owned)
		ol_request_unref(r);
}

static void reply(struct ol_http_request *request, int status, const char *type, void *bytes,
		  size_t size, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(size, bytes, mode);
	if (!response && mode == MHD_RESPMEM_MUST_FREE)
		free(bytes);
	if (response && type)
		MHD_add_response_header(response, "Content-Type", type);
	store(request, status, response, NULL, size, 0);
}

void ol_http_reply(struct ol_http_request *request, int status, const char *type, const void *bytes,
		   size_t size)
{
	reply(request, status, type, (void *)bytes, size, MHD_RESPMEM_MUST_COPY);
}

void ol_http_reply_static(struct ol_http_request *request, int status, const char *type,
			  const void *bytes, size_t size)
{
	reply(request, status, type, (void *)bytes, size, MHD_RESPMEM_PERSISTENT);
}

void ol_http_reply_buf(struct ol_http_request *request, int status, const char *type,
		       struct ol_buf *buf)
{
	if (buf->failed) {
		ol_buf_release(buf);
		ol_http_error(request, 500, NULL, NULL, NULL, "Out of memory for the answer.");
		return;
	}
	char *bytes = buf->data;
	const size_t size = buf->size;
	buf->data = NULL;
	ol_buf_release(buf);
	reply(request, status, type, bytes, size, MHD_RESPMEM_MUST_FREE);
}

void ol_http_reply_json(struct ol_http_request *request, int status, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(object);
	if (!text) {
		ol_http_error(request, 500, NULL, NULL, NULL, "Out of memory for the answer.");
		return;
	}
	reply(request, status, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE);
}

void ol_http_reply_file(struct ol_http_request *request, int status, const char *type, int fd,
			uint64_t offset, uint64_t size)
{
	struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(size, fd, offset);
	if (!response)
		close(fd);
	else
		MHD_add_response_header(response, "Content-Type", type);
	store(request, status, response, NULL, size, 0);
}

/* ---- Errors --------------------------------------------------------------------------------- */

const char *ol_http_error_type(int status)
{
	switch (status) {
	case 401: return "authentication_error";
	case 402: return "insufficient_quota";
	case 403: return "permission_error";
	case 404: return "not_found_error";
	case 409: return "conflict_error";
	case 429: return "rate_limit_error";
	default: return status >= 500 ? "server_error" : "invalid_request_error";
	}
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

char *ol_error_json(int status, const char *type, const char *param, const char *code,
		    const char *text)
{
	json_t *message = json_string(text);
	if (!message) /* a client's text that is no UTF-8 was quoted */
		message = json_string("The request is malformed: it is not UTF-8.");
	json_t *object = json_pack("{s:{s:o,s:s,s:o,s:o}}", "error", "message", message, "type",
				   type ? type : ol_http_error_type(status), "param",
				   text_or_null(param), "code", text_or_null(code));
	char *json = object ? json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(object);
	return json;
}

void ol_error_bytes(struct ol_buf *out, int status, const char *id, const char *code,
		    const char *text)
{
	char *json = ol_error_json(status, NULL, NULL, code, text);
	const char *body = json ? json : "";
	ol_buf_printf(out,
		      "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
		      "%s%s%sContent-Length: %zu\r\n\r\n%s",
		      status, MHD_get_reason_phrase_for((unsigned)status),
		      id ? "X-Request-Id: " : "", id ? id : "", id ? "\r\n" : "", strlen(body),
		      body);
	free(json);
}

static void error_with(struct ol_http_request *request, int status, const char *type,
		       const char *param, const char *code, const char *text, int retry_after)
{
	char *json = ol_error_json(status, type, param, code, text);
	store(request, status, NULL, json, json ? strlen(json) : 0, retry_after);
}

void ol_http_error(struct ol_http_request *request, int status, const char *type, const char *param,
		   const char *code, const char *format, ...)
{
	char text[OL_HTTP_ERROR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	error_with(request, status, type, param, code, text, 0);
}

void ol_http_error_later(struct ol_http_request *request, int status, int seconds, const char *type,
			 const char *code, const char *format, ...)
{
	char text[OL_HTTP_ERROR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	error_with(request, status, type, NULL, code, text, OL_MAX(seconds, 1));
}

void ol_http_error_from(struct ol_http_request *request, const struct ol_error *err)
{
	switch (err->status) {
	case OL_OK: OL_UNREACHABLE();
	case OL_ERR_INPUT: ol_http_error(request, 400, NULL, NULL, NULL, "%s", err->text); return;
	case OL_ERR_IO:
		ol_log_event(request->server, OL_HTTP_LOG_ERROR, request->id, err->text);
		ol_http_error(request, 500, NULL, NULL, NULL,
			      "The node's disk or network failed; its log tells more (%s).",
			      request->id);
		return;
	case OL_ERR_FULL: ol_http_error_later(request, 503, 1, NULL, NULL, "%s", err->text); return;
	case OL_ERR_UNSUPPORTED:
		ol_http_error(request, 501, NULL, NULL, NULL, "%s", err->text);
		return;
	case OL_ERR_NOT_FOUND:
		ol_http_error(request, 404, NULL, NULL, NULL, "%s", err->text);
		return;
	case OL_ERR_CANCELLED:
		ol_http_error_later(request, 503, 1, NULL, NULL, "%s", err->text);
		return;
	}
	OL_UNREACHABLE();
}

void ol_http_error_about(struct ol_http_request *request, const struct ol_error *err,
			 const char *param, const char *not_found_code)
{
	if (err->status == OL_ERR_NOT_FOUND)
		ol_http_error(request, 404, "invalid_request_error", param, not_found_code, "%s",
			      err->text);
	else if (err->status == OL_ERR_INPUT)
		ol_http_error(request, 400, "invalid_request_error", param, "invalid_value", "%s",
			      err->text);
	else
		ol_http_error_from(request, err);
}

void ol_request_refuse(struct ol_http_request *request, int status, const char *param,
		       const char *code, const char *format, ...)
{
	char text[OL_HTTP_ERROR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	OL_ASSERT(!request->owned);
	error_with(request, status, NULL, param, code, text, request->retry_after);
}

void ol_request_refuse_as(struct ol_http_request *request, const struct ol_http_refusal *refusal)
{
	if (refusal->status == 401)
		ol_http_set_header(request, "WWW-Authenticate", "Bearer");
	error_with(request, refusal->status, refusal->type, NULL, refusal->code, refusal->text,
		   refusal->retry_after);
}
