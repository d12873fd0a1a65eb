/* Any bytes from a stranger, sent to a real server over loopback. The first byte says in what
 * pieces. Whatever comes back must be whole answers, and the server must go on. */
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ANSWER_MAX = 1 << 20, WAIT_MS = 60000 /* of a machine that has other things to do */ };

static void say(void *self, struct ol_http_request *request)
{
	size_t size;
	const char *body = ol_http_body(request, &size);
	(void)self;
	(void)ol_http_query(request, "q");
	ol_http_reply(request, 200, "text/plain", body, size);
}

static void parse(void *self, struct ol_http_request *request)
{
	json_t *value = ol_http_body_json(request);
	(void)self;
	if (value)
		ol_http_reply_json(request, 200, value);
}

static void stream(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_stream_begin(request, 200, "text/event-stream");
	(void)!ol_http_stream_event(request, "1", 1);
	ol_http_stream_end(request);
}

static bool part(void *self, struct ol_http_request *request, const struct ol_http_part *found)
{
	(void)self;
	if (found->name[0] != 'x')
		return true;
	ol_http_error(request, 422, NULL, found->name, NULL, "no %s", found->name);
	return false;
}

static bool bytes(void *self, struct ol_http_request *request, const void *piece, size_t size)
{
	(void)self;
	(void)request;
	(void)piece;
	(void)size;
	return true;
}

static void stopped(void *self, struct ol_http_request *request)
{
	(void)self;
	(void)request;
}

static void uploaded(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_reply(request, 200, NULL, "up", 2);
}

static const struct ol_http_upload upload = {part, bytes, stopped};

static const struct ol_http_route routes[] = {
	{"GET", "/a", 0, 0, say, NULL, NULL},
	{"POST", "/a", 0, 4096, say, NULL, NULL},
	{"POST", "/json", 0, 4096, parse, NULL, NULL},
	{"GET", "/s", 0, 0, stream, NULL, NULL},
	{"GET", "/f/{id}/c", 0, 0, say, NULL, NULL},
	{"DELETE", "/f/{rest*}", 0, 0, say, NULL, NULL},
	{"POST", "/u", 0, 65536, uploaded, NULL, &upload},
};

static void no_log(void *context, const char *line, size_t size)
{
	(void)context;
	/* Each line is JSON whatever was asked. */
	json_t *object = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
	OL_ASSERT(object);
	json_decref(object);
}

static struct ol_http_server *the_server(void)
{
	static struct ol_http_server *server;
	struct ol_error err;
	const struct ol_http_options options = {.routes = routes,
						.route_count = OL_ARRAY_LEN(routes),
						.threads = 1,
						.log = OL_HTTP_LOG_INFO,
						.log_write = no_log};
	if (!server && ol_http_server_open(&server, &options, &err) != OL_OK) {
		fprintf(stderr, "fuzz_http: %s\n", err.text);
		OL_UNREACHABLE();
	}
	return server;
}

/* From ever another address of 127.0.0.0/8: closed connections keep their ports for a minute. */
static int dial(struct ol_http_server *server)
{
	static uint32_t next;
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET};
	a.sin_addr.s_addr = htonl(0x7f000002u + next++ % 0xfffff0u);
	OL_ASSERT(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.sin_port = htons(ol_http_server_port(server));
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	OL_ASSERT(errno == EINTR); /* the alarm again */
	close(fd);
	return dial(server);
}

static void feed(int fd, const uint8_t *data, size_t size, size_t piece)
{
	while (size > 0) {
		const size_t now = OL_MIN(size, piece);
		if (send(fd, data, now, MSG_NOSIGNAL) <= 0)
			return;
		data += now;
		size -= now;
	}
}

/* What comes until the server closes. */
static size_t answer_of(int fd, char *answer)
{
	size_t used = 0;
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		const int ready = poll(&p, 1, WAIT_MS);
		if (ready < 0 && errno == EINTR) /* libFuzzer's alarm */
			continue;
		OL_ASSERT(ready == 1); /* it hangs */
		const ssize_t n = recv(fd, answer + used, ANSWER_MAX - 1 - used, 0);
		if (n <= 0)
			return used;
		used += (size_t)n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char answer[ANSWER_MAX];
	struct ol_http_server *server = the_server();
	/* Of what is bigger than any limit, nothing is learned. */
	if (size < 1 || size > 100000)
		return 0;
	const int fd = dial(server);
	feed(fd, data + 1, size - 1, data[0] ? data[0] : size);
	/* Mostly it answers or closes by itself; else it learns that no more comes. */
	struct pollfd p = {.fd = fd, .events = POLLIN};
	poll(&p, 1, 2);
	shutdown(fd, SHUT_WR);
	const size_t came = answer_of(fd, answer);
	close(fd);
	answer[came] = '\0';
	OL_ASSERT(came == 0 || strncmp(answer, "HTTP/1.", 7) == 0);
	return 0;
}
