/* The life of a request, what its owner reads, and its stream. */
#include "http/server_internal.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Life ---------------------------------------------------------------------------------- */

struct ol_http_request *ol_request_new(struct ol_http_server *server, struct ol_conn *conn,
				       struct MHD_Connection *connection, const char *uri)
{
	struct ol_http_request *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->server = server;
	r->conn = conn;
	r->connection = connection;
	r->started = ol_clock_seconds();
	atomic_init(&r->references, 1);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	ol_buf_init(&r->body, SIZE_MAX / 4);
	snprintf(r->id, sizeof r->id, "req_%016llx%08llx", (unsigned long long)server->id_salt,
		 (unsigned long long)atomic_fetch_add(&server->id_next, 1));
	const size_t size = uri ? strlen(uri) : 0;
	atomic_fetch_add(&server->alive, 1);
	r->uri = ol_http_alloc(r, size + 1);
	r->path = ol_http_alloc(r, size + 1);
	if (!r->uri || !r->path) {
		ol_request_unref(r);
		return NULL;
	}
	memcpy(r->uri, uri ? uri : "", size + 1);
	memcpy(r->path, r->uri, size + 1);
	char *mark = strchr(r->path, '?');
	if (mark) {
		*mark = '\0';
		r->query = mark + 1;
	}
	return r;
}

static void request_free(struct ol_http_request *r)
{
	struct ol_http_server *server = r->server;
	ol_log_request(r);
	if (r->admitted && server->options.guard.leave)
		server->options.guard.leave(server->options.guard.self, &r->caller);
	if (r->response)
		MHD_destroy_response(r->response);
	for (int i = 0; i < r->header_count; i++) {
		free(r->headers[i].name);
		free(r->headers[i].value);
	}
	ol_multipart_close(r->multipart);
	ol_queue_release(&r->queue);
	ol_buf_release(&r->body);
	atomic_fetch_sub(&server->body_memory, (int64_t)r->memory_counted);
	for (struct ol_http_memory *m = r->memory, *next; m; m = next) {
		next = m->next;
		free(m);
	}
	free(r->refusal);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
	atomic_fetch_sub(&server->alive, 1);
}

void ol_request_unref(struct ol_http_request *request)
{
	if (atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel) == 1)
		request_free(request);
}

void ol_request_resume(struct ol_http_request *request)
{
	if (request->suspended) {
		request->suspended = false;
		MHD_resume_connection(request->connection);
	}
}

/* Calls on_gone without the lock, and lets finishing calls know that it runs. With the lock held,
 * before and after. */
static void tell(struct ol_http_request *r)
{
	ol_http_gone_fn *on_gone = r->on_gone;
	void *context = r->gone_context;
	r->on_gone = NULL;
	if (!on_gone)
		return;
	r->telling = true;
	r->teller = pthread_self();
	pthread_mutex_unlock(&r->lock);
	on_gone(context, r);
	pthread_mutex_lock(&r->lock);
	r->telling = false;
	pthread_cond_broadcast(&r->changed);
}

void ol_request_mark(struct ol_http_request *request, enum ol_http_end why)
{
	int done = OL_END_DONE;
	atomic_compare_exchange_strong(&request->end, &done, (int)why);
}

void ol_request_lost(struct ol_http_request *request, enum ol_http_end why)
{
	pthread_mutex_lock(&request->lock);
	if (!request->gone && request->owned && !request->finished) {
		request->gone = true;
		ol_request_mark(request, why);
		tell(request);
	}
	pthread_mutex_unlock(&request->lock);
}

void ol_http_on_gone(struct ol_http_request *request, ol_http_gone_fn *on_gone, void *context)
{
	pthread_mutex_lock(&request->lock);
	while (request->telling && !pthread_equal(request->teller, pthread_self()))
		pthread_cond_wait(&request->changed, &request->lock);
	request->on_gone = on_gone;
	request->gone_context = context;
	if (request->gone)
		tell(request);
	pthread_mutex_unlock(&request->lock);
}

bool ol_http_gone(const struct ol_http_request *request)
{
	struct ol_http_request *r = (struct ol_http_request *)request; /* only for its lock */
	pthread_mutex_lock(&r->lock);
	const bool gone = r->gone;
	pthread_mutex_unlock(&r->lock);
	return gone;
}

/* ---- Reading -------------------------------------------------------------------------------- */

const char *ol_http_request_id(const struct ol_http_request *request)
{
	return request->id;
}

const struct ol_http_caller *ol_http_caller(const struct ol_http_request *request)
{
	return &request->caller;
}

const struct ol_http_route *ol_http_route(const struct ol_http_request *request)
{
	return request->route;
}

const char *ol_http_path(const struct ol_http_request *request)
{
	return request->path;
}

const char *ol_http_param(const struct ol_http_request *request, const char *name)
{
	for (int i = 0; i < request->param_count; i++)
		if (strlen(name) == request->params[i].name_size &&
		    memcmp(name, request->params[i].name, request->params[i].name_size) == 0)
			return request->params[i].value;
	return NULL;
}

const char *ol_http_query(const struct ol_http_request *request, const char *name)
{
	const char *at = request->query;
	const size_t name_size = strlen(name);
	while (at && *at) {
		const size_t size = strcspn(at, "&"), key = strcspn(at, "=&");
		if (key == name_size && memcmp(at, name, key) == 0) {
			const size_t skip = key < size ? key + 1 : size;
			/* The memory is the request's, and its owner is the only one who asks. */
			char *value =
				ol_http_alloc((struct ol_http_request *)request, size - skip + 1);
			if (!value || !ol_percent_decode(value, at + skip, size - skip, true))
				return NULL;
			return value;
		}
		at += size + (at[size] == '&');
	}
	return NULL;
}

const char *ol_http_header(const struct ol_http_request *request, const char *name)
{
	return ol_head_find(&request->head, name);
}

const char *ol_http_body(const struct ol_http_request *request, size_t *size_out)
{
	if (size_out)
		*size_out = request->body.size;
	return request->body.data ? request->body.data : "";
}

json_t *ol_http_body_json(struct ol_http_request *request)
{
	json_error_t error;
	size_t size;
	const char *body = ol_http_body(request, &size);
	json_t *value = json_loadb(body, size, JSON_REJECT_DUPLICATES, &error);
	if (!value)
		ol_http_error(request, 400, NULL, NULL, "invalid_json",
			      "The body is not valid JSON: %s (line %d, column %d).", error.text,
			      error.line, error.column);
	return value;
}

void *ol_http_alloc(struct ol_http_request *request, size_t size)
{
	struct ol_http_memory *m = request->memory;
	if (size > SIZE_MAX / 4)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	if (!m || size > m->size - m->used) {
		const size_t room = OL_MAX(size, (size_t)OL_HTTP_ARENA_BLOCK);
		m = calloc(1, sizeof *m + room);
		if (!m)
			return NULL;
		m->size = room;
		m->next = request->memory;
		request->memory = m;
	}
	void *piece = m->bytes + m->used;
	m->used += size;
	return piece;
}

void ol_http_set_context(struct ol_http_request *request, void *context)
{
	request->context = context;
}

void *ol_http_context(const struct ol_http_request *request)
{
	return request->context;
}

static struct ol_http_note *add_note(struct ol_http_request *request, const char *key)
{
	for (int i = 0; i < request->note_count; i++)
		if (strcmp(request->notes[i].key, key) == 0)
			return &request->notes[i];
	if (request->note_count == OL_HTTP_NOTES_MAX)
		return NULL;
	return &request->notes[request->note_count++];
}

void ol_http_note(struct ol_http_request *request, const char *key, const char *text)
{
	struct ol_http_note *note = add_note(request, key);
	char *copy = note ? ol_http_alloc(request, strlen(text) + 1) : NULL;
	if (!note)
		return;
	*note = (struct ol_http_note){.key = key, .text = copy};
	if (copy)
		memcpy(copy, text, strlen(text));
}

void ol_http_note_number(struct ol_http_request *request, const char *key, int64_t number)
{
	struct ol_http_note *note = add_note(request, key);
	if (note)
		*note = (struct ol_http_note){.key = key, .number = number};
}
