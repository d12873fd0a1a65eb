/* The watcher: one thread that sees what libmicrohttpd does not: that the client of a suspended
 * connection is gone, and that a time has passed. It closes by shutdown(2), under server->lock:
 * libmicrohttpd closes the descriptor only after it has given up the slot. */
#include "http/server_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 64, WORDS_MAX = 1024 };
static const uint64_t WAKE = UINT64_MAX;

void ol_watch_wake(struct ol_http_server *server)
{
	const uint64_t one = 1;
	/* A full counter has woken it already. */
	(void)!write(server->watch_event, &one, sizeof one);
}

void ol_watch_add(struct ol_http_server *server, struct ol_conn *conn, uint32_t generation)
{
	const uint64_t index = (uint64_t)(conn - server->conns);
	struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET,
				    .data.u64 = (uint64_t)generation << 32 | index};
	/* Without it the connection still has its times. */
	(void)epoll_ctl(server->watch_epoll, EPOLL_CTL_ADD, conn->fd, &event);
}

/* A request that a connection has, with a reference; with server->lock held. */
static struct ol_http_request *borrow(struct ol_conn *conn)
{
	if (conn->request)
		atomic_fetch_add(&conn->request->references, 1);
	return conn->request;
}

/* The client can be told nothing more. */
void ol_request_drop(struct ol_http_request *r, enum ol_http_end why)
{
	ol_request_lost(r, why);
	pthread_mutex_lock(&r->lock);
	ol_request_mark(r, why);
	r->dead = true;
	ol_request_resume(r);
	pthread_mutex_unlock(&r->lock);
}

static void peer_closed(struct ol_http_server *server, uint64_t data)
{
	struct ol_conn *conn = &server->conns[(uint32_t)data];
	struct ol_http_request *r = NULL;
	pthread_mutex_lock(&server->lock);
	if (conn->generation == (uint32_t)(data >> 32)) {
		conn->peer_closed = true;
		r = borrow(conn);
	}
	pthread_mutex_unlock(&server->lock);
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->peer_closed = true;
	const bool waiting = r->suspended;
	pthread_mutex_unlock(&r->lock);
	if (waiting)
		ol_request_drop(r, OL_END_GONE);
	ol_request_unref(r);
}

/* A stream is late when there is something to take and nothing was taken for stall_time. */
static bool stream_late(struct ol_http_request *r, int64_t now)
{
	pthread_mutex_lock(&r->lock);
	const bool pending = r->queue.size > 0 || (r->stream_over && !r->stream_taken);
	const bool late =
		r->too_slow || (pending && !r->suspended &&
				now - r->progress > (int64_t)r->server->limits.stall_time);
	pthread_mutex_unlock(&r->lock);
	return late;
}

/* With server->lock held. */
static void shut(struct ol_conn *conn, const char *last_words, size_t size)
{
	if (size > 0)
		(void)!send(conn->fd, last_words, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(conn->fd, SHUT_RDWR);
	conn->state = OL_CONN_CLOSED;
	conn->deadline = ol_http_now() + OL_HTTP_STUCK_TIME;
}

/* With server->lock held: the time of a connection has come. */
static void time_out(struct ol_conn *conn, const char *words, size_t size)
{
	switch (conn->state) {
	case OL_CONN_IDLE:
		/* Nobody who has asked nothing is told that it took too long. */
		if (conn->bytes_before == ol_conn_received(conn->fd))
			size = 0;
		shut(conn, words, size);
		break;
	case OL_CONN_HEAD:
	case OL_CONN_BODY: shut(conn, words, size); break;
	case OL_CONN_REPLY:
	case OL_CONN_LINGER: shut(conn, NULL, 0); break;
	case OL_CONN_STREAM: /* judged by its request */
	case OL_CONN_WAIT:
	case OL_CONN_CLOSED:
	case OL_CONN_FREE: break;
	}
}

/* With server->lock held. libmicrohttpd waits for edges: an end that came together with the last
 * bytes was one edge with them, and it will not look again. This makes another; what is unread
 * stays readable. */
void ol_conn_nudge(struct ol_conn *conn)
{
	if (conn->peer_closed)
		shutdown(conn->fd, SHUT_RD);
}

/* One connection's turn; true with a request to be dropped, or judged if it is a stream. */
static struct ol_http_request *visit(struct ol_conn *conn, bool *stream, uint32_t *stuck,
				     int64_t now, const struct ol_buf *words)
{
	*stream = conn->state == OL_CONN_STREAM;
	if (*stream)
		return borrow(conn);
	if (conn->state == OL_CONN_IDLE || conn->state == OL_CONN_HEAD ||
	    conn->state == OL_CONN_BODY || conn->state == OL_CONN_LINGER)
		ol_conn_nudge(conn);
	if (conn->state == OL_CONN_FREE || conn->deadline == 0 || now < conn->deadline)
		return NULL;
	if (conn->state == OL_CONN_CLOSED) {
		(*stuck)++;
		return NULL;
	}
	const bool lingering = conn->state == OL_CONN_LINGER;
	struct ol_http_request *r = lingering ? NULL : borrow(conn);
	if (r)
		ol_request_mark(r, OL_END_SLOW);
	time_out(conn, words->data, words->size);
	return r;
}

static void tick(struct ol_http_server *server, const struct ol_buf *words)
{
	const int64_t now = ol_http_now();
	uint32_t stuck = 0;
	pthread_mutex_lock(&server->lock);
	const uint32_t count = server->conn_open > 0 ? server->conn_count : 0;
	pthread_mutex_unlock(&server->lock);
	for (uint32_t i = 0; i < count; i++) {
		struct ol_conn *conn = &server->conns[i];
		bool stream;
		pthread_mutex_lock(&server->lock);
		struct ol_http_request *r = visit(conn, &stream, &stuck, now, words);
		pthread_mutex_unlock(&server->lock);
		if (!r)
			continue;
		if (!stream || stream_late(r, now)) {
			ol_request_mark(r, OL_END_SLOW);
			if (stream) {
				pthread_mutex_lock(&server->lock);
				if (conn->request == r)
					shut(conn, NULL, 0);
				pthread_mutex_unlock(&server->lock);
			}
			ol_request_drop(r, OL_END_SLOW);
		}
		ol_request_unref(r);
	}
	atomic_store(&server->stuck, stuck);
	atomic_store(&server->ticked, now);
}

bool ol_http_server_healthy(const struct ol_http_server *server)
{
	return atomic_load(&server->stuck) == 0 &&
	       ol_http_now() - atomic_load(&server->ticked) < OL_HTTP_STUCK_TIME;
}

static void *watch(void *self)
{
	struct ol_http_server *server = self;
	struct epoll_event events[EVENTS_MAX];
	struct ol_buf words;
	int64_t next = ol_http_now() + OL_HTTP_TICK;
	ol_buf_init(&words, WORDS_MAX);
	ol_error_bytes(&words, 408, NULL, "request_timeout", "The request took too long to come.");
	while (!atomic_load(&server->watch_stop)) {
		const int64_t wait = OL_MAX(next - ol_http_now(), 0);
		const int count = epoll_wait(server->watch_epoll, events, EVENTS_MAX, (int)wait);
		for (int i = 0; i < count; i++) {
			uint64_t woken;
			if (events[i].data.u64 != WAKE) {
				peer_closed(server, events[i].data.u64);
			} else {
				(void)!read(server->watch_event, &woken, sizeof woken);
				next = ol_http_now();
			}
		}
		if (ol_http_now() >= next) {
			tick(server, &words);
			next = ol_http_now() + OL_HTTP_TICK;
		}
	}
	ol_buf_release(&words);
	return NULL;
}

enum ol_status ol_watch_open(struct ol_http_server *server)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE};
	server->watch_epoll = epoll_create1(EPOLL_CLOEXEC);
	server->watch_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->watch_epoll < 0 || server->watch_event < 0 ||
	    epoll_ctl(server->watch_epoll, EPOLL_CTL_ADD, server->watch_event, &event) != 0 ||
	    pthread_create(&server->watcher, NULL, watch, server) != 0)
		return OL_ERR_IO;
	server->watching = true;
	atomic_store(&server->ticked, ol_http_now());
	return OL_OK;
}

void ol_watch_close(struct ol_http_server *server)
{
	if (server->watching) {
		atomic_store(&server->watch_stop, true);
		ol_watch_wake(server);
		pthread_join(server->watcher, NULL);
	}
	if (server->watch_epoll >= 0)
		close(server->watch_epoll);
	if (server->watch_event >= 0)
		close(server->watch_event);
}
