/* libmicrohttpd's callbacks: one request, from its first line to the last byte of its answer. */
#include "http/server_internal.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The first line is there. */
void *ol_http_on_uri(void *self, const char *uri, struct MHD_Connection *connection)
{
	struct ol_http_server *server = self;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct ol_conn *conn = info ? info->socket_context : NULL;
	if (!conn)
		return NULL;
	struct ol_http_request *r = ol_request_new(server, conn, connection, uri);
	if (!r)
		return NULL;
	pthread_mutex_lock(&server->lock);
	conn->request = r;
	r->peer_closed = conn->peer_closed;
	if (conn->state == OL_CONN_IDLE) {
		conn->state = OL_CONN_HEAD;
		conn->deadline = ol_http_now() + server->limits.head_time;
	}
	server->active++;
	pthread_mutex_unlock(&server->lock);
	ol_gauge_add(server->active_gauge, 1.0);
	return r;
}

static void add_headers(struct ol_http_request *r, struct MHD_Response *response)
{
	char number[16];
	MHD_add_response_header(response, "X-Request-Id", r->id);
	for (int i = 0; i < r->header_count; i++)
		MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
	if (r->retry_after > 0) {
		snprintf(number, sizeof number, "%d", r->retry_after);
		MHD_add_response_header(response, "Retry-After", number);
	}
	if (r->cross_origin) {
		MHD_add_response_header(response, "Access-Control-Allow-Origin", r->cross_origin);
		MHD_add_response_header(response, "Access-Control-Expose-Headers",
					"X-Request-Id, Retry-After");
		MHD_add_response_header(response, "Vary", "Origin");
	}
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (r->close_after || atomic_load(&r->server->stopping))
		MHD_add_response_header(response, "Connection", "close");
}

/* Hands the stored answer to libmicrohttpd. */
static enum MHD_Result queue_answer(struct ol_http_request *r, struct MHD_Connection *connection)
{
	struct ol_http_server *server = r->server;
	pthread_mutex_lock(&r->lock);
	struct MHD_Response *response = r->response;
	char *refusal = r->refusal;
	const int status = r->status;
	const bool streaming = r->streaming;
	r->response = NULL;
	r->refusal = NULL;
	r->taken = true;
	pthread_mutex_unlock(&r->lock);
	if (refusal) {
		if (response)
			MHD_destroy_response(response);
		response = MHD_create_response_from_buffer(strlen(refusal), refusal,
							   MHD_RESPMEM_MUST_FREE);
		if (!response)
			free(refusal);
		else
			MHD_add_response_header(response, "Content-Type", "application/json");
	}
	if (!response)
		return MHD_NO;
	add_headers(r, response);
	const int64_t allowance = server->limits.body_time +
				  (int64_t)(r->reply_size / server->limits.rate_min) * 1000;
	enum MHD_Result done = MHD_NO;
	if (ol_conn_enter(r, streaming ? OL_CONN_STREAM : OL_CONN_REPLY, ol_http_now() + allowance))
		done = MHD_queue_response(connection, (unsigned)status, response);
	MHD_destroy_response(response);
	return done;
}

/* Answers before the body is whole: the client hears of it at once, and what it still sends is
 * dropped, until it closes or its time is over. (A plain close would throw away the answer with the
 * bytes it has not read.) libmicrohttpd has sent nothing for this request yet. */
static enum MHD_Result answer_early(struct ol_http_request *r, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ol_buf head;
	pthread_mutex_lock(&r->lock);
	char *refusal = r->refusal;
	const int status = r->status;
	r->refusal = NULL;
	r->taken = true;
	pthread_mutex_unlock(&r->lock);
	ol_buf_init(&head, 1 << 16);
	ol_buf_printf(&head, "HTTP/1.1 %d %s\r\nConnection: close\r\nX-Request-Id: %s\r\n", status,
		      MHD_get_reason_phrase_for((unsigned)status), r->id);
	for (int i = 0; i < r->header_count; i++)
		ol_buf_printf(&head, "%s: %s\r\n", r->headers[i].name, r->headers[i].value);
	if (r->retry_after > 0)
		ol_buf_printf(&head, "Retry-After: %d\r\n", r->retry_after);
	if (r->cross_origin)
		ol_buf_printf(&head, "Access-Control-Allow-Origin: %s\r\nVary: Origin\r\n",
			      r->cross_origin);
	ol_buf_printf(&head, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		      refusal ? strlen(refusal) : 0, refusal ? refusal : "");
	bool good = refusal && !head.failed &&
		    ol_conn_enter(r, OL_CONN_LINGER, ol_http_now() + OL_HTTP_LINGER_TIME);
	if (good) {
		good = send(info->connect_fd, head.data, head.size, MSG_DONTWAIT | MSG_NOSIGNAL) ==
		       (ssize_t)head.size;
		shutdown(info->connect_fd, SHUT_WR);
		r->bytes_out = refusal ? strlen(refusal) : 0;
		r->discard = true;
	}
	ol_buf_release(&head);
	free(refusal);
	return good ? MHD_YES : MHD_NO;
}

static bool part_found(void *self, const struct ol_http_part *part)
{
	struct ol_http_request *r = self;
	if (r->route->upload->part(r->route->self, r, part))
		return true;
	r->upload_over = true;
	return false;
}

static bool bytes_found(void *self, const void *bytes, size_t size)
{
	struct ol_http_request *r = self;
	if (r->route->upload->bytes(r->route->self, r, bytes, size))
		return true;
	r->upload_over = true;
	return false;
}

static bool has_answer(struct ol_http_request *r)
{
	pthread_mutex_lock(&r->lock);
	const bool has = r->response || r->refusal;
	pthread_mutex_unlock(&r->lock);
	return has;
}

/* The upload cannot go on: its route lets go, and the client is told unless the route did so. */
static bool upload_failed(struct ol_http_request *r, const struct ol_error *err)
{
	if (!r->upload_over) {
		r->upload_over = true;
		r->route->upload->abort(r->route->self, r);
	}
	if (!has_answer(r))
		ol_request_refuse(r, err->status == OL_ERR_FULL ? 503 : 400, NULL, "malformed_form",
				  "%s.", err->text);
	return false;
}

static bool upload_begin(struct ol_http_request *r)
{
	const struct ol_multipart_sink sink = {part_found, bytes_found, r};
	const char *type = ol_http_header(r, "content-type");
	const struct ol_http_part whole = {.name = "", .content_type = type};
	struct ol_error err = {0};
	char media[24];
	snprintf(media, sizeof media, "%.19s", type ? type : "");
	r->upload_begun = true;
	if (ol_same_text(media, "multipart/form-data")) {
		if (ol_multipart_open(&r->multipart, type, &sink, &err) != OL_OK) {
			r->upload_over = true;
			return upload_failed(r, &err);
		}
		return true;
	}
	return part_found(r, &whole) || upload_failed(r, &err);
}

static bool take_upload(struct ol_http_request *r, const char *bytes, size_t size)
{
	struct ol_error err = {0};
	if (r->multipart)
		return ol_multipart_feed(r->multipart, bytes, size, &err) == OL_OK ||
		       upload_failed(r, &err);
	return bytes_found(r, bytes, size) || upload_failed(r, &err);
}

/* A body in memory counts against what all bodies may take together. */
static bool take_in_memory(struct ol_http_request *r, const char *bytes, size_t size)
{
	struct ol_http_server *server = r->server;
	const int64_t held = atomic_fetch_add(&server->body_memory, (int64_t)size);
	r->memory_counted += size;
	if (held + (int64_t)size > (int64_t)server->limits.memory_max) {
		r->retry_after = 1;
		ol_request_refuse(r, 503, NULL, "server_full",
				  "The server holds too many requests' bodies at the moment.");
		return false;
	}
	if (!ol_buf_append(&r->body, bytes, size)) {
		ol_request_refuse(r, 503, NULL, "server_full", "Out of memory for the body.");
		return false;
	}
	return true;
}

static bool take_body(struct ol_http_request *r, const char *bytes, size_t size)
{
	const struct ol_http_limits *limits = &r->server->limits;
	struct ol_error err = {0};
	r->body_size += size;
	if (r->body_size > r->route->body_max) {
		const bool begun = r->upload_begun && !r->upload_over;
		r->close_after = true;
		ol_request_refuse(r, 413, NULL, "body_too_large",
				  "The body may have at most %llu bytes.",
				  (unsigned long long)r->route->body_max);
		return begun ? upload_failed(r, &err) : false;
	}
	if (!ol_conn_enter(r, OL_CONN_BODY,
			   (int64_t)(1e3 * r->started) + limits->body_time +
				   (int64_t)(r->body_size / limits->rate_min) * 1000))
		return false;
	return r->route->upload ? take_upload(r, bytes, size) : take_in_memory(r, bytes, size);
}

static enum MHD_Result head_came(struct ol_http_request *r, struct MHD_Connection *connection,
				 const char *method, const char *version)
{
	const struct ol_http_limits *limits = &r->server->limits;
	r->head_done = true;
	if (!ol_conn_enter(r, OL_CONN_BODY, ol_http_now() + limits->body_time))
		return MHD_NO;
	bool good = ol_request_check(r, connection, method, version);
	if (good && r->route->upload)
		good = upload_begin(r);
	if (good)
		return MHD_YES;
	const bool body = ol_head_length(&r->head) > 0 || ol_head_chunked(&r->head);
	if (!body)
		return r->close_after ? queue_answer(r, connection) : MHD_YES;
	/* Who waits for "100 Continue" has sent nothing yet. */
	return ol_http_header(r, "expect") || r->head_only || r->response
		       ? queue_answer(r, connection)
		       : answer_early(r, connection);
}

/* The request is whole: it gets an owner. */
static void hand_over(struct ol_http_request *r)
{
	struct ol_error err = {0};
	r->handled = true;
	if (r->upload_begun && !r->upload_over && r->multipart &&
	    ol_multipart_end(r->multipart, &err) != OL_OK) {
		(void)upload_failed(r, &err);
		return;
	}
	r->upload_over = true;
	(void)ol_conn_enter(r, OL_CONN_WAIT, 0);
	pthread_mutex_lock(&r->lock);
	r->owned = true;
	pthread_mutex_unlock(&r->lock);
	atomic_fetch_add(&r->references, 1);
	r->route->handle(r->route->self, r);
}

static enum MHD_Result request_whole(struct ol_http_request *r, struct MHD_Connection *connection)
{
	enum { ANSWER, SUSPEND, CLOSE } next;
	if (r->discard)
		return MHD_NO;
	if (!r->handled && !has_answer(r))
		hand_over(r);
	pthread_mutex_lock(&r->lock);
	if (r->response || r->refusal) {
		next = r->dead ? CLOSE : ANSWER;
	} else if (r->dead || r->peer_closed || atomic_load(&r->server->halting)) {
		r->dead = true;
		next = CLOSE;
	} else {
		next = SUSPEND;
		r->suspended = true;
		MHD_suspend_connection(connection);
	}
	pthread_mutex_unlock(&r->lock);
	if (next == SUSPEND)
		return MHD_YES;
	return next == ANSWER ? queue_answer(r, connection) : MHD_NO;
}

enum MHD_Result ol_http_on_request(void *self, struct MHD_Connection *connection, const char *url,
				   const char *method, const char *version, const char *upload,
				   size_t *upload_size, void **context)
{
	struct ol_http_request *r = *context;
	(void)self;
	(void)url;
	if (!r)
		return MHD_NO; /* no memory, or no slot */
	if (!r->head_done)
		return head_came(r, connection, method, version);
	if (*upload_size == 0)
		return request_whole(r, connection);
	const size_t size = *upload_size;
	*upload_size = 0;
	if (r->discard || take_body(r, upload, size))
		return MHD_YES;
	return has_answer(r) ? answer_early(r, connection) : MHD_NO;
}

void ol_http_on_completed(void *self, struct MHD_Connection *connection, void **context,
			  enum MHD_RequestTerminationCode code)
{
	struct ol_http_server *server = self;
	struct ol_http_request *r = *context;
	(void)connection;
	if (!r)
		return;
	*context = NULL;
	if (r->upload_begun && !r->upload_over) {
		r->upload_over = true;
		r->route->upload->abort(r->route->self, r);
	}
	const uint64_t received = ol_conn_received(r->conn->fd);
	pthread_mutex_lock(&server->lock);
	r->conn->request = NULL;
	server->active--;
	if (r->conn->state != OL_CONN_CLOSED) {
		r->conn->state = OL_CONN_IDLE;
		r->conn->deadline = ol_http_now() + server->limits.idle_time;
		r->conn->bytes_before = received;
		ol_conn_nudge(r->conn);
	}
	pthread_mutex_unlock(&server->lock);
	ol_gauge_add(server->active_gauge, -1.0);
	const bool whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
	pthread_mutex_lock(&r->lock);
	if (!whole && !r->discard)
		ol_request_mark(r, OL_END_GONE);
	if (whole && !r->streaming && !r->head_only)
		r->bytes_out = r->reply_size;
	r->connection = NULL;
	r->dead = true;
	r->ended = ol_clock_seconds();
	pthread_mutex_unlock(&r->lock);
	ol_request_lost(r, OL_END_GONE);
	ol_request_unref(r);
}

/* We decode ourselves, after the checks. */
size_t ol_http_leave_escaped(void *self, struct MHD_Connection *connection, char *text)
{
	(void)self;
	(void)connection;
	return strlen(text);
}
