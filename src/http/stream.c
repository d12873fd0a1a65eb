/* Streams: a bounded queue between the owner, who pushes, and libmicrohttpd, which takes. */
#include "base/arena.h"
#include "http/server_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING_MIN = 1024, RING_PAGES = 32 << 10 };

/* Larger rings are pages of their own, which go back to the system at once: thousands of slow
 * readers leave nothing behind. */
static uint8_t *ring_alloc(size_t room)
{
	return room < RING_PAGES ? malloc(room) : ol_block_alloc(room);
}

static void ring_free(uint8_t *bytes, size_t room)
{
	if (room < RING_PAGES)
		free(bytes);
	else
		ol_block_free(bytes, room);
}

void ol_queue_release(struct ol_http_queue *queue)
{
	ring_free(queue->bytes, queue->room);
	*queue = (struct ol_http_queue){0};
}

static size_t queue_take(struct ol_http_queue *queue, char *out, size_t room)
{
	const size_t size = OL_MIN(queue->size, room);
	const size_t first = OL_MIN(size, queue->room - queue->start);
	if (size == 0)
		return 0;
	memcpy(out, queue->bytes + queue->start, first);
	memcpy(out + first, queue->bytes, size - first);
	queue->start = (queue->start + size) % queue->room;
	queue->size -= size;
	return size;
}

static bool queue_grow(struct ol_http_queue *queue, size_t more)
{
	size_t room = OL_MAX(queue->room, (size_t)RING_MIN);
	if (queue->size + more <= queue->room)
		return true;
	while (room < queue->size + more)
		room *= 2;
	uint8_t *bytes = ring_alloc(room);
	const size_t size = queue->size;
	if (!bytes)
		return false;
	queue_take(queue, (char *)bytes, size);
	ring_free(queue->bytes, queue->room);
	*queue = (struct ol_http_queue){.bytes = bytes, .size = size, .room = room};
	return true;
}

static bool queue_put(struct ol_http_queue *queue, const void *bytes, size_t size)
{
	if (!queue_grow(queue, size))
		return false;
	const size_t end = (queue->start + queue->size) % queue->room;
	const size_t first = OL_MIN(size, queue->room - end);
	memcpy(queue->bytes + end, bytes, first);
	memcpy(queue->bytes, (const uint8_t *)bytes + first, size - first);
	queue->size += size;
	return true;
}

/* libmicrohttpd asks for more. */
ssize_t ol_stream_read(void *self, uint64_t position, char *out, size_t room)
{
	struct ol_http_request *r = self;
	ssize_t result = 0;
	(void)position;
	pthread_mutex_lock(&r->lock);
	const size_t taken = r->dead ? 0 : queue_take(&r->queue, out, room);
	if (taken > 0) {
		r->progress = ol_http_now();
		r->bytes_out += taken;
		result = (ssize_t)taken;
	} else if (r->dead) {
		result = MHD_CONTENT_READER_END_WITH_ERROR;
	} else if (r->stream_over) {
		r->stream_taken = true;
		result = MHD_CONTENT_READER_END_OF_STREAM;
	} else if (r->peer_closed || atomic_load(&r->server->halting)) {
		r->dead = true;
		result = MHD_CONTENT_READER_END_WITH_ERROR;
	} else {
		r->suspended = true;
		MHD_suspend_connection(r->connection);
	}
	pthread_mutex_unlock(&r->lock);
	return result;
}

void ol_http_stream_begin(struct ol_http_request *request, int status, const char *type)
{
	struct MHD_Response *response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, OL_HTTP_STREAM_BLOCK, ol_stream_read, request, NULL);
	if (response) {
		MHD_add_response_header(response, "Content-Type", type);
		MHD_add_response_header(response, "Cache-Control", "no-cache");
		MHD_add_response_header(response, "X-Accel-Buffering", "no");
	}
	pthread_mutex_lock(&request->lock);
	OL_ASSERT(request->owned && !request->finished && !request->streaming);
	request->streaming = true;
	request->events = strncmp(type, "text/event-stream", 17) == 0;
	request->status = status;
	request->progress = ol_http_now();
	if (!response)
		request->dead = true;
	else if (request->connection && !request->dead && !request->response)
		request->response = response;
	else
		MHD_destroy_response(response);
	ol_request_resume(request);
	pthread_mutex_unlock(&request->lock);
}

/* limit: how much may stand in the queue with it. Two pieces, so that an event need not be copied
 * together. */
static bool push(struct ol_http_request *r, const struct ol_http_piece *pieces, int count,
		 size_t limit)
{
	size_t size = 0;
	for (int i = 0; i < count; i++)
		size += pieces[i].size;
	pthread_mutex_lock(&r->lock);
	OL_ASSERT(r->streaming && !r->finished);
	bool good = !r->gone && !r->dead && r->connection && !r->too_slow && !r->stream_over;
	if (good && size > limit - OL_MIN(limit, r->queue.size)) {
		/* The watcher closes it: nobody else may touch the socket. */
		r->too_slow = true;
		good = false;
		ol_watch_wake(r->server);
	}
	if (good && size > 0) {
		/* A reader that has taken all cannot be late. */
		if (r->queue.size == 0)
			r->progress = ol_http_now();
		good = queue_grow(&r->queue, size);
		for (int i = 0; good && i < count; i++)
			good = queue_put(&r->queue, pieces[i].bytes, pieces[i].size);
		ol_request_resume(r);
	}
	pthread_mutex_unlock(&r->lock);
	return good;
}

bool ol_http_stream_push(struct ol_http_request *request, const void *bytes, size_t size)
{
	const struct ol_http_piece piece = {bytes, size};
	return push(request, &piece, 1, request->server->limits.stream_queue_max);
}

bool ol_http_stream_event(struct ol_http_request *request, const void *bytes, size_t size)
{
	const struct ol_http_piece pieces[] = {{"data: ", 6}, {bytes, size}, {"\n\n", 2}};
	return push(request, pieces, 3, request->server->limits.stream_queue_max);
}

void ol_http_stream_error(struct ol_http_request *request, int status, const char *code,
			  const char *format, ...)
{
	char text[OL_HTTP_ERROR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	char *json = ol_error_json(status, ol_http_error_type(status), NULL, code, text);
	if (!json)
		return;
	const struct ol_http_piece pieces[] = {{"data: ", 6}, {json, strlen(json)}, {"\n\n", 2}};
	/* Whether it still arrives does not matter to anybody. */
	(void)!push(request, pieces, 3, SIZE_MAX);
	free(json);
}

void ol_http_stream_end(struct ol_http_request *request)
{
	pthread_mutex_lock(&request->lock);
	OL_ASSERT(request->streaming);
	ol_request_finish(request);
	request->stream_over = true;
	ol_request_resume(request);
	pthread_mutex_unlock(&request->lock);
	ol_request_unref(request);
}

/* Ends from outside: what can still be said is said; the owner is told, and still has to finish. */
void ol_request_end(struct ol_http_request *request, enum ol_http_end why)
{
	const bool revoked = why == OL_END_REVOKED;
	const int status = revoked ? 401 : 503;
	const char *code = revoked ? "key_revoked" : "server_stopping";
	const char *text =
		revoked ? "The API key was revoked while the request ran." : "The server stops.";
	char *json = ol_error_json(status, ol_http_error_type(status), NULL, code, text);
	ol_request_lost(request, why);
	pthread_mutex_lock(&request->lock);
	/* Not where an answer is on its way already, nor before there is anything to answer. */
	if (json && request->gone && request->connection && !request->dead) {
		if (request->streaming && !request->stream_over) {
			if (request->events && queue_grow(&request->queue, strlen(json) + 8)) {
				(void)queue_put(&request->queue, "data: ", 6);
				(void)queue_put(&request->queue, json, strlen(json));
				(void)queue_put(&request->queue, "\n\n", 2);
			}
			request->stream_over = true;
		} else if (!request->streaming && !request->response && !request->refusal) {
			request->refusal = json;
			request->status = status;
			request->close_after = true;
			json = NULL;
		}
		ol_request_resume(request);
	}
	pthread_mutex_unlock(&request->lock);
	free(json);
}
