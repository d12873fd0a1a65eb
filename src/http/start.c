/* Starting and stopping. */
#define _DEFAULT_SOURCE
#include "http/server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 1024, FILES_BESIDE = 256, END_TIME = 1000, CLOSE_TIME = 5000 };

bool ol_http_is_loopback(const char *address)
{
	struct in_addr in;
	struct in6_addr in6;
	if (ol_same_text(address, "localhost"))
		return true;
	if (inet_pton(AF_INET, address, &in) == 1)
		return (ntohl(in.s_addr) >> 24) == 127;
	return inet_pton(AF_INET6, address, &in6) == 1 && IN6_IS_ADDR_LOOPBACK(&in6);
}

static void defaults(struct ol_http_server *server)
{
	struct ol_http_limits *l = &server->limits;
	const struct ol_http_limits standard = {
		.connections_max = 4096,
		.per_address_max = server->loopback ? UINT32_MAX : 256,
		.requests_max = 10000,
		.head_max = 16 << 10,
		.uri_max = 4 << 10,
		.headers_max = 64,
		.head_time = 10000,
		.idle_time = 60000,
		.body_time = 30000,
		.rate_min = 1 << 10,
		.stall_time = 30000,
		.stream_queue_max = 256 << 10,
		.memory_max = 256 << 20,
	};
	uint32_t *const fields = (uint32_t *)(void *)l;
	const uint32_t *const values = (const uint32_t *)(const void *)&standard;
	/* All but the last are of one kind and lie one behind the other. */
	_Static_assert(offsetof(struct ol_http_limits, memory_max) == 12 * sizeof(uint32_t),
		       "limits of 32 bits first");
	for (size_t i = 0; i < 12; i++)
		fields[i] = fields[i] ? fields[i] : values[i];
	l->memory_max = l->memory_max ? l->memory_max : standard.memory_max;
	l->head_max = OL_MIN(l->head_max, (uint32_t)OL_HTTP_HEAD_MAX);
	l->uri_max = OL_MIN(l->uri_max, l->head_max);
	l->headers_max = OL_MIN(l->headers_max, (uint32_t)OL_HEAD_FIELDS_MAX);
}

/* Each connection is a file: as many as the system gives, and what else is open. */
static void fit_files(struct ol_http_server *server)
{
	struct rlimit limit;
	const rlim_t wanted =
		server->limits.connections_max + OL_HTTP_SPARE_CONNECTIONS + (rlim_t)FILES_BESIDE;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = OL_MIN(wanted, limit.rlim_max);
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	const rlim_t beside = OL_HTTP_SPARE_CONNECTIONS + (rlim_t)FILES_BESIDE;
	server->limits.connections_max =
		limit.rlim_cur > beside ? (uint32_t)(limit.rlim_cur - beside) : 1;
	ol_log_event(server, OL_HTTP_LOG_ERROR, "limit",
		     "the system allows too few open files: fewer connections are taken "
		     "(ulimit -n)");
}

static enum ol_status listen_at(struct ol_http_server *server, struct ol_error *err)
{
	const uint16_t port = server->options.port;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = {0};
	socklen_t size = sizeof a.in;
	const int one = 1;
	if (inet_pton(AF_INET, server->address, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
	} else if (inet_pton(AF_INET6, server->address, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
		size = sizeof a.in6;
	} else {
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%s\" is no address to listen at: it must be numeric, like "
			       "127.0.0.1, 0.0.0.0 or ::1",
			       server->options.address);
	}
	const int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	server->listen_fd = fd;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    bind(fd, &a.any, size) != 0 || listen(fd, BACKLOG) != 0 ||
	    getsockname(fd, &a.any, &size) != 0)
		return ol_fail(err, OL_ERR_IO, "cannot listen at %s port %u: %s", server->address,
			       port, strerror(errno));
	const bool v6 = a.any.sa_family == AF_INET6;
	server->port = ntohs(v6 ? a.in6.sin6_port : a.in.sin_port);
	snprintf(server->url, sizeof server->url, "http://%s%s%s:%u", v6 ? "[" : "",
		 server->address, v6 ? "]" : "", server->port);
	return OL_OK;
}

static enum ol_status start_daemon(struct ol_http_server *server, struct ol_error *err)
{
	const int threads = server->options.threads > 0 ? server->options.threads : 2;
	const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
	/* A pool of one is not one to libmicrohttpd. */
	const unsigned pool = threads > 1 ? (unsigned)threads : 0;
	/* Its limit is per thread, and connections do not spread evenly: ours is the one that
	 * counts (conn.c), this one only lies above it. */
	const unsigned most = server->conn_count * (unsigned)OL_MAX(threads, 1);
	server->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, ol_http_on_request, server, MHD_OPTION_LISTEN_SOCKET,
		server->listen_fd, MHD_OPTION_THREAD_POOL_SIZE, pool, MHD_OPTION_CONNECTION_LIMIT,
		most, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)OL_HTTP_CONNECTION_MEMORY, MHD_OPTION_URI_LOG_CALLBACK, ol_http_on_uri,
		server, MHD_OPTION_NOTIFY_COMPLETED, ol_http_on_completed, server,
		MHD_OPTION_NOTIFY_CONNECTION, ol_conn_notify, server, MHD_OPTION_UNESCAPE_CALLBACK,
		ol_http_leave_escaped, NULL, MHD_OPTION_END);
	if (!server->daemon)
		return ol_fail(err, OL_ERR_IO, "the HTTP server does not start: %s",
			       strerror(errno));
	return OL_OK;
}

static enum ol_status open_parts(struct ol_http_server *server, struct ol_error *err)
{
	const struct ol_http_options *o = &server->options;
	enum ol_status s = ol_routes_open(&server->routes, o->routes, o->route_count, err);
	if (s != OL_OK)
		return s;
	if (!server->loopback && !o->guard.admit)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s can be reached by other machines, and there is no API key: make "
			       "one (openledger keys add), or listen at 127.0.0.1",
			       server->address);
	defaults(server);
	fit_files(server);
	ol_log_metrics(server);
	server->answers =
		calloc((o->route_count + 1) * OL_HTTP_STATUS_CLASSES, sizeof *server->answers);
	if (getrandom(&server->id_salt, sizeof server->id_salt, 0) !=
	    (ssize_t)sizeof server->id_salt)
		return ol_fail(err, OL_ERR_IO, "the system gives no random bytes: %s",
			       strerror(errno));
	if (!server->answers || ol_conns_open(server) != OL_OK)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %u connections",
			       server->limits.connections_max);
	s = listen_at(server, err);
	if (s == OL_OK && ol_watch_open(server) != OL_OK)
		s = ol_fail(err, OL_ERR_IO, "cannot watch connections: %s", strerror(errno));
	return s == OL_OK ? start_daemon(server, err) : s;
}

enum ol_status ol_http_server_open(struct ol_http_server **server_out,
				   const struct ol_http_options *options, struct ol_error *err)
{
	const char *address = options->address ? options->address : "127.0.0.1";
	struct ol_http_server *server = calloc(1, sizeof *server);
	*server_out = NULL;
	if (!server)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the server");
	server->options = *options;
	server->options.address = address;
	server->limits = options->limits;
	server->listen_fd = server->watch_epoll = server->watch_event = -1;
	server->loopback = ol_http_is_loopback(address);
	snprintf(server->address, sizeof server->address, "%s",
		 ol_same_text(address, "localhost") ? "127.0.0.1" : address);
	pthread_mutex_init(&server->lock, NULL);
	const enum ol_status s = open_parts(server, err);
	if (s != OL_OK) {
		ol_http_server_close(server);
		return s;
	}
	*server_out = server;
	return OL_OK;
}

uint16_t ol_http_server_port(const struct ol_http_server *server)
{
	return server->port;
}

const char *ol_http_server_url(const struct ol_http_server *server)
{
	return server->url;
}

/* ---- Stopping ------------------------------------------------------------------------------- */

static void nap(void)
{
	const struct timespec t = {.tv_nsec = 5000000};
	nanosleep(&t, NULL);
}

/* Calls each for every request there is, with a reference and no lock. key_id NULL: all. */
static void for_each(struct ol_http_server *server, enum ol_http_end why, const char *key_id,
		     void (*each)(struct ol_http_request *request, enum ol_http_end why))
{
	for (uint32_t i = 0; i < server->conn_count; i++) {
		pthread_mutex_lock(&server->lock);
		struct ol_http_request *r = server->conns[i].request;
		if (r)
			atomic_fetch_add(&r->references, 1);
		pthread_mutex_unlock(&server->lock);
		if (!r)
			continue;
		pthread_mutex_lock(&r->lock);
		/* The caller is written before there is an owner, and not afterwards. */
		const bool meant = !key_id || (r->owned && strcmp(r->caller.key_id, key_id) == 0);
		pthread_mutex_unlock(&r->lock);
		if (meant)
			each(r, why);
		ol_request_unref(r);
	}
}

void ol_http_server_revoke(struct ol_http_server *server, const char *key_id)
{
	for_each(server, OL_END_REVOKED, key_id, ol_request_end);
}

/* Closes what is idle (or all) and counts what is under way. */
static uint32_t shut_idle(struct ol_http_server *server, bool all, uint32_t *open_out)
{
	pthread_mutex_lock(&server->lock);
	for (uint32_t i = 0; i < server->conn_count; i++) {
		struct ol_conn *conn = &server->conns[i];
		if (conn->state == OL_CONN_IDLE ||
		    (all && conn->state != OL_CONN_FREE && conn->state != OL_CONN_CLOSED)) {
			shutdown(conn->fd, SHUT_RDWR);
			conn->state = OL_CONN_CLOSED;
			conn->deadline = ol_http_now() + OL_HTTP_STUCK_TIME;
		}
	}
	const uint32_t active = server->active;
	*open_out = server->conn_open;
	pthread_mutex_unlock(&server->lock);
	return active;
}

static void drain(struct ol_http_server *server, uint32_t ms)
{
	const int64_t until = ol_http_now() + ms;
	uint32_t open;
	while (shut_idle(server, false, &open) > 0 && ol_http_now() < until)
		nap();
}

void ol_http_server_stop(struct ol_http_server *server, uint32_t drain_ms)
{
	uint32_t open = 1;
	if (!server->daemon || atomic_exchange(&server->stopping, true))
		return;
	const MHD_socket listening = MHD_quiesce_daemon(server->daemon);
	drain(server, drain_ms);
	for_each(server, OL_END_STOPPED, NULL, ol_request_end);
	drain(server, END_TIME);
	/* From here nothing is suspended any more; what was, goes on and finds that it is over. */
	atomic_store(&server->halting, true);
	for_each(server, OL_END_STOPPED, NULL, ol_request_drop);
	const int64_t until = ol_http_now() + END_TIME;
	while (open > 0 && ol_http_now() < until) {
		shut_idle(server, true, &open);
		if (open > 0)
			nap();
	}
	MHD_stop_daemon(server->daemon);
	server->daemon = NULL;
	if (listening != MHD_INVALID_SOCKET)
		close(listening);
	server->listen_fd = -1;
}

void ol_http_server_close(struct ol_http_server *server)
{
	if (!server)
		return;
	ol_http_server_stop(server, 0);
	if (server->listen_fd >= 0)
		close(server->listen_fd);
	ol_watch_close(server);
	const int64_t until = ol_http_now() + CLOSE_TIME;
	while (atomic_load(&server->alive) > 0 && ol_http_now() < until)
		nap();
	OL_ASSERT(atomic_load(&server->alive) == 0);
	ol_routes_close(server->routes);
	ol_conns_close(server);
	free((void *)server->answers);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
