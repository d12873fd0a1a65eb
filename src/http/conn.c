/* The slots of connections. */
#define _DEFAULT_SOURCE /* linux/tcp.h */
#include "http/server_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t ol_http_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

enum ol_status ol_conns_open(struct ol_http_server *server)
{
	server->conn_count = server->limits.connections_max + OL_HTTP_SPARE_CONNECTIONS;
	server->conns = calloc(server->conn_count, sizeof *server->conns);
	return server->conns ? OL_OK : OL_ERR_FULL;
}

void ol_conns_close(struct ol_http_server *server)
{
	free(server->conns);
}

static void keep_address(struct ol_conn *conn, const struct sockaddr *address)
{
	memset(conn->address, 0, sizeof conn->address);
	if (!address)
		return;
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
		conn->address[10] = conn->address[11] = 0xff;
		memcpy(conn->address + 12, &in->sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
		memcpy(conn->address, &in6->sin6_addr, 16);
	}
}

/* An IPv6 client owns a /64: its other addresses are its own. */
static bool same_client(const uint8_t a[16], const uint8_t b[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	return memcmp(a, b, memcmp(a, mapped, sizeof mapped) == 0 ? 16 : 8) == 0;
}

/* With the lock held. */
static struct ol_conn *find_free(struct ol_http_server *server)
{
	for (uint32_t i = 0; i < server->conn_count; i++) {
		struct ol_conn *conn = &server->conns[(server->conn_hint + i) % server->conn_count];
		if (conn->state == OL_CONN_FREE) {
			server->conn_hint += i + 1;
			return conn;
		}
	}
	return NULL;
}

/* With the lock held: over a limit it is let in only to be told so. */
static void judge(struct ol_http_server *server, struct ol_conn *conn)
{
	uint32_t same = 0;
	conn->refuse_status = 0;
	if (server->conn_open > server->limits.connections_max)
		conn->refuse_status = 503;
	if (server->limits.per_address_max < server->limits.connections_max)
		for (uint32_t i = 0; i < server->conn_count; i++)
			same += server->conns[i].state != OL_CONN_FREE &&
				same_client(server->conns[i].address, conn->address);
	if (same > server->limits.per_address_max)
		conn->refuse_status = 429;
}

static void conn_started(struct ol_http_server *server, struct MHD_Connection *connection,
			 void **socket_context)
{
	const union MHD_ConnectionInfo *fd =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	const union MHD_ConnectionInfo *address =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	uint32_t generation = 0;
	pthread_mutex_lock(&server->lock);
	struct ol_conn *conn = fd ? find_free(server) : NULL;
	if (conn) {
		generation = conn->generation + 1;
		*conn = (struct ol_conn){.generation = generation, .state = OL_CONN_IDLE};
		conn->fd = (int)fd->connect_fd;
		keep_address(conn, address ? address->client_addr : NULL);
		server->conn_open++;
		judge(server, conn);
		conn->deadline = ol_http_now() + (conn->refuse_status ? OL_HTTP_REFUSED_TIME
								      : server->limits.head_time);
	}
	pthread_mutex_unlock(&server->lock);
	*socket_context = conn;
	if (conn) {
		ol_watch_add(server, conn, generation);
		ol_gauge_add(server->connections_gauge, 1.0);
	}
}

static void conn_closed(struct ol_http_server *server, void **socket_context)
{
	struct ol_conn *conn = *socket_context;
	if (!conn)
		return;
	pthread_mutex_lock(&server->lock);
	conn->state = OL_CONN_FREE;
	conn->generation++;
	conn->fd = -1;
	server->conn_open--;
	server->conn_hint = (uint32_t)(conn - server->conns);
	pthread_mutex_unlock(&server->lock);
	*socket_context = NULL;
	ol_gauge_add(server->connections_gauge, -1.0);
}

void ol_conn_notify(void *self, struct MHD_Connection *connection, void **socket_context,
		    enum MHD_ConnectionNotificationCode code)
{
	switch (code) {
	case MHD_CONNECTION_NOTIFY_STARTED: conn_started(self, connection, socket_context); break;
	case MHD_CONNECTION_NOTIFY_CLOSED: conn_closed(self, socket_context); break;
	}
}

bool ol_conn_enter(struct ol_http_request *request, enum ol_conn_state state, int64_t deadline)
{
	struct ol_http_server *server = request->server;
	pthread_mutex_lock(&server->lock);
	const bool going = request->conn->state != OL_CONN_CLOSED;
	if (going) {
		request->conn->state = state;
		request->conn->deadline = deadline;
	}
	pthread_mutex_unlock(&server->lock);
	return going;
}

uint64_t ol_conn_received(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof info;
	memset(&info, 0, sizeof info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
		return UINT64_MAX; /* not TCP: unknown */
	return info.tcpi_bytes_received;
}
