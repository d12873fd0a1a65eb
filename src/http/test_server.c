/* The transport, asked over real sockets: each row is one request as bytes and what must come
 * back. */
#include "http/assets.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- A small service ------------------------------------------------------------------------ */

static _Atomic int gone_count, finished_count, left_count, aborted_count;
static struct ol_http_request *_Atomic parked;

static void say(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_reply(request, 200, "text/plain", "hello", 5);
}

/* What was understood of a request. */
static void echo(void *self, struct ol_http_request *request)
{
	size_t size;
	const char *body = ol_http_body(request, &size);
	const char *id = ol_http_param(request, "id"), *rest = ol_http_param(request, "rest");
	const char *q = ol_http_query(request, "q"), *h = ol_http_header(request, "x-test");
	(void)self;
	ol_http_note(request, "model", "m\"\n");
	ol_http_note_number(request, "tokens", 7);
	ol_http_note_number(request, "bytes", 8);
	ol_http_reply_json(request, 200,
			   json_pack("{s:s?,s:s?,s:s?,s:s?,s:s,s:i,s:s}", "id", id, "rest", rest,
				     "q", q, "header", h, "body", body, "size", (int)size,
				     "account", ol_http_caller(request)->account));
}

static void parse(void *self, struct ol_http_request *request)
{
	json_t *value = ol_http_body_json(request);
	(void)self;
	if (value)
		ol_http_reply_json(request, 200, value);
}

static void *answer_later(void *self)
{
	struct ol_http_request *request = self;
	const struct timespec t = {.tv_nsec = 20000000};
	nanosleep(&t, NULL);
	ol_http_reply(request, 201, "text/plain", "later", 5);
	return NULL;
}

static void later(void *self, struct ol_http_request *request)
{
	pthread_t thread;
	(void)self;
	assert_int_equal(pthread_create(&thread, NULL, answer_later, request), 0);
	pthread_detach(thread);
}

static void *push_pieces(void *self)
{
	struct ol_http_request *request = self;
	const struct timespec t = {.tv_nsec = 1000000};
	ol_http_stream_begin(request, 200, "text/event-stream");
	for (int i = 0; i < 5; i++) {
		char text[24];
		snprintf(text, sizeof text, "{\"n\":%d}", i);
		if (!ol_http_stream_event(request, text, strlen(text)))
			break;
		nanosleep(&t, NULL);
	}
	ol_http_stream_end(request);
	return NULL;
}

static void stream(void *self, struct ol_http_request *request)
{
	pthread_t thread;
	(void)self;
	assert_int_equal(pthread_create(&thread, NULL, push_pieces, request), 0);
	pthread_detach(thread);
}

static void on_gone(void *context, struct ol_http_request *request)
{
	(void)context;
	assert_true(ol_http_gone(request));
	gone_count++;
}

/* Kept until the test ends it. */
static void park(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_on_gone(request, on_gone, NULL);
	atomic_store(&parked, request);
}

static void park_stream(void *self, struct ol_http_request *request)
{
	ol_http_stream_begin(request, 200, "text/event-stream");
	park(self, request);
}

/* Ends the request from on_gone itself. */
static void on_gone_end(void *context, struct ol_http_request *request)
{
	(void)context;
	finished_count++;
	ol_http_error(request, 500, NULL, NULL, NULL, "nobody reads this");
}

static void park_self(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_on_gone(request, on_gone_end, NULL);
}

static struct ol_http_request *wait_parked(void)
{
	struct ol_http_request *request;
	const struct timespec t = {.tv_nsec = 1000000};
	for (int i = 0; i < 5000; i++) {
		request = atomic_exchange(&parked, NULL);
		if (request)
			return request;
		nanosleep(&t, NULL);
	}
	fail_msg("no request came");
	return NULL;
}

static void wait_for(_Atomic int *count, int value)
{
	const struct timespec t = {.tv_nsec = 1000000};
	for (int i = 0; i < 5000 && atomic_load(count) < value; i++)
		nanosleep(&t, NULL);
	assert_int_equal(atomic_load(count), value);
}

struct upload {
	char names[128];
	size_t bytes;
	uint32_t sum;
};

static bool upload_part(void *self, struct ol_http_request *request,
			const struct ol_http_part *part)
{
	struct upload *u = ol_http_context(request);
	(void)self;
	if (!u) {
		u = ol_http_alloc(request, sizeof *u);
		ol_http_set_context(request, u);
	}
	snprintf(u->names + strlen(u->names), sizeof u->names - strlen(u->names), "%s=%s;",
		 part->name, part->filename ? part->filename : "-");
	if (strcmp(part->name, "bad") == 0) {
		ol_http_error(request, 422, NULL, "bad", NULL, "no such field");
		return false;
	}
	return true;
}

static bool upload_bytes(void *self, struct ol_http_request *request, const void *bytes,
			 size_t size)
{
	struct upload *u = ol_http_context(request);
	(void)self;
	for (size_t i = 0; i < size; i++)
		u->sum = u->sum * 31 + ((const uint8_t *)bytes)[i];
	u->bytes += size;
	return true;
}

static void upload_abort(void *self, struct ol_http_request *request)
{
	(void)self;
	(void)request;
	aborted_count++;
}

static void upload_done(void *self, struct ol_http_request *request)
{
	struct upload *u = ol_http_context(request);
	(void)self;
	ol_http_reply_json(request, 200,
			   json_pack("{s:s,s:i,s:I}", "names", u->names, "bytes", (int)u->bytes,
				     "sum", (json_int_t)u->sum));
}

static const struct ol_http_upload upload = {upload_part, upload_bytes, upload_abort};

static struct ol_assets *assets;

static void ui(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_assets_handle(assets, request);
}

enum { SCOPE_A = 1, SCOPE_B = 2 };

static const struct ol_http_route routes[] = {
	{"GET", "/hello", 0, 0, say, NULL, NULL},
	{"GET", "/echo", 0, 0, echo, NULL, NULL},
	{"POST", "/echo", SCOPE_A, 64, echo, NULL, NULL},
	{"POST", "/parse", SCOPE_A, 64, parse, NULL, NULL},
	{"GET", "/things/{id}", 0, 0, echo, NULL, NULL},
	{"GET", "/things/fixed", 0, 0, say, NULL, NULL},
	{"DELETE", "/things/{id}", SCOPE_B, 0, echo, NULL, NULL},
	{"GET", "/files/{rest*}", 0, 0, echo, NULL, NULL},
	{"GET", "/later", 0, 0, later, NULL, NULL},
	{"GET", "/stream", 0, 0, stream, NULL, NULL},
	{"GET", "/park", SCOPE_A, 0, park, NULL, NULL},
	{"GET", "/park-stream", SCOPE_A, 0, park_stream, NULL, NULL},
	{"GET", "/park-self", 0, 0, park_self, NULL, NULL},
	{"POST", "/upload", 0, 100000, upload_done, NULL, &upload},
	{"GET", "/ui", 0, 0, ui, NULL, NULL},
	{"GET", "/ui/{path*}", 0, 0, ui, NULL, NULL},
};

/* ---- A client ------------------------------------------------------------------------------- */

static struct ol_http_server *server;
static char log_text[1 << 20];
static size_t log_size;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_log(void *context, const char *line, size_t size)
{
	(void)context;
	pthread_mutex_lock(&log_lock);
	if (log_size + size < sizeof log_text) {
		memcpy(log_text + log_size, line, size);
		log_size += size;
	}
	pthread_mutex_unlock(&log_lock);
}

static bool admit(void *self, struct ol_http_caller *caller, struct ol_http_refusal *refusal,
		  const char *token, bool loopback, const struct ol_http_route *route)
{
	(void)self;
	(void)loopback;
	const bool known = token && strcmp(token, "good") == 0;
	*refusal = (struct ol_http_refusal){.status = 401, .code = "invalid_api_key"};
	snprintf(refusal->text, sizeof refusal->text, "no");
	if (token && strcmp(token, "busy") == 0) {
		refusal->status = 429;
		refusal->retry_after = 7;
		return false;
	}
	if (route->scope != 0 && !known)
		return false;
	if (route->scope & SCOPE_B) {
		refusal->status = 403;
		return false;
	}
	snprintf(caller->account, sizeof caller->account, "%s", known ? "someone" : "nobody");
	snprintf(caller->key_id, sizeof caller->key_id, "%s", known ? "key-1" : "");
	return true;
}

static void leave(void *self, const struct ol_http_caller *caller)
{
	(void)self;
	(void)caller;
	left_count++;
}

static const char *const names[] = {"node.example"};
static const char *const origins[] = {"https://app.example"};

static void start_at(const char *address, const struct ol_http_limits *limits,
		     struct ol_metrics *metrics)
{
	struct ol_error err;
	const struct ol_http_options options = {
		.address = address,
		.names = names,
		.name_count = 1,
		.origins = origins,
		.origin_count = 1,
		.routes = routes,
		.route_count = OL_ARRAY_LEN(routes),
		.limits = limits ? *limits : (struct ol_http_limits){0},
		.guard = {admit, leave, NULL},
		.metrics = metrics,
		.log = OL_HTTP_LOG_INFO,
		.log_write = keep_log,
	};
	gone_count = finished_count = left_count = aborted_count = 0;
	atomic_store(&parked, NULL);
	log_size = 0;
	if (ol_http_server_open(&server, &options, &err) != OL_OK)
		fail_msg("%s", err.text);
}

static void start(const struct ol_http_limits *limits, struct ol_metrics *metrics)
{
	start_at(NULL, limits, metrics);
}

static void stop(void)
{
	ol_http_server_close(server);
	server = NULL;
}

static int dial_from(const char *source)
{
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET};
	assert_true(fd >= 0);
	if (source) {
		inet_pton(AF_INET, source, &a.sin_addr);
		assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	}
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	a.sin_port = htons(ol_http_server_port(server));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static int dial(void)
{
	return dial_from(NULL);
}

static void send_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		const ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
		if (n <= 0)
			return; /* refused early: the answer tells */
		bytes += n;
		size -= (size_t)n;
	}
}

static void send_text(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

/* Reads until the connection closes, or `until` stands in what came, or 5 s. -1: not closed. */
static ssize_t receive(int fd, char *out, size_t max, const char *until)
{
	size_t used = 0;
	out[0] = '\0';
	while (used + 1 < max) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, 5000) <= 0)
			return -1;
		const ssize_t n = recv(fd, out + used, max - 1 - used, 0);
		if (n <= 0)
			return (ssize_t)used;
		used += (size_t)n;
		out[used] = '\0';
		if (until && strstr(out, until))
			return (ssize_t)used;
	}
	return -1;
}

static int status_of(const char *answer)
{
	return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : -1;
}

/* One request on a connection of its own that is closed after it. */
static int ask_bytes(char *answer, size_t max, const char *request, size_t size)
{
	const int fd = dial();
	send_all(fd, request, size);
	if (receive(fd, answer, max, NULL) < 0)
		fail_msg("the connection is not closed after %s; there came %s", request, answer);
	close(fd);
	return status_of(answer);
}

static int ask(char *answer, size_t max, const char *request)
{
	return ask_bytes(answer, max, request, strlen(request));
}

#define HOST "Host: 127.0.0.1\r\n"
#define CLOSE "Connection: close\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST CLOSE "\r\n"

/* ---- Tests ---------------------------------------------------------------------------------- */

struct row {
	const char *what, *request;
	int status;
	const char *found; /* in the answer */
};

static void check_rows(const struct row *rows, size_t count)
{
	char answer[65536];
	for (size_t i = 0; i < count; i++) {
		const int status = ask(answer, sizeof answer, rows[i].request);
		if (status != rows[i].status || (rows[i].found && !strstr(answer, rows[i].found)))
			fail_msg("%s: expected %d and \"%s\", got %s", rows[i].what, rows[i].status,
				 rows[i].found ? rows[i].found : "", answer);
	}
}

static void test_answers(void **state)
{
	static const struct row rows[] = {
		{"plain", GET("/hello"), 200, "\r\n\r\nhello"},
		{"request id", GET("/hello"), 200, "X-Request-Id: req_"},
		{"HTTP/1.0", "GET /hello HTTP/1.0\r\n" HOST "\r\n", 200, "hello"},
		{"HEAD", "HEAD /hello HTTP/1.1\r\n" HOST CLOSE "\r\n", 200,
		 "Content-Length: 5\r\n"},
		{"no Accept, no agent", "GET /hello HTTP/1.1\r\nHost: localhost\r\n" CLOSE "\r\n",
		 200, NULL},
		{"parameter", GET("/things/a%2Fb%20c"), 200, "\"id\":\"a/b c\""},
		{"fixed segment first", GET("/things/fixed"), 200, "hello"},
		{"rest", GET("/files/a/b.txt"), 200, "\"rest\":\"a/b.txt\""},
		{"query", GET("/echo?x=1&q=a+b%21&q=2"), 200, "\"q\":\"a b!\""},
		{"empty query value", GET("/echo?q"), 200, "\"q\":\"\""},
		{"header", "GET /echo HTTP/1.1\r\n" HOST CLOSE "X-TEST:  v \t\r\n\r\n", 200,
		 "\"header\":\"v"},
		{"later", GET("/later"), 201, "later"},
		{"stream", GET("/stream"), 200, "data: {\"n\":4}\n\n"},
		{"stream by HTTP/1.0", "GET /stream HTTP/1.0\r\n" HOST "\r\n", 200,
		 "data: {\"n\":4}\n\n"},
		{"body",
		 "POST /echo HTTP/1.1\r\n" HOST CLOSE
		 "Authorization: bearer  good\r\nContent-Length: 3\r\n\r\nabc",
		 200, "\"body\":\"abc\",\"size\":3,\"account\":\"someone\""},
		{"chunked body",
		 "POST /echo HTTP/1.1\r\n" HOST CLOSE "Authorization: Bearer good\r\n"
		 "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: r\r\n\r\n",
		 200, "\"body\":\"abc\",\"size\":3"},
		{"100-continue",
		 "POST /echo HTTP/1.1\r\n" HOST CLOSE
		 "Authorization: Bearer good\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
		 100, "HTTP/1.1 200 OK"},
		{"OPTIONS", "OPTIONS /things/x HTTP/1.1\r\n" HOST CLOSE "\r\n", 204,
		 "Allow: GET, HEAD, DELETE, OPTIONS\r\n"},
		{"JSON",
		 "POST /parse HTTP/1.1\r\n" HOST CLOSE
		 "Authorization: Bearer good\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
		 200, "{\"a\":1}"},
	};
	(void)state;
	start(NULL, NULL);
	check_rows(rows, OL_ARRAY_LEN(rows));
	stop();
}

#define POST_AS_GOOD(fields, body)                                                                 \
	"POST /echo HTTP/1.1\r\n" HOST CLOSE "Authorization: Bearer good\r\n" fields "\r\n" body

static const struct row refusals[] = {
	/* Where it goes. */
	{"no such path", GET("/nothing"), 404, "\"code\":\"unknown_url\""},
	{"no such method", "PUT /things/x HTTP/1.1\r\n" HOST CLOSE "\r\n", 405,
	 "Allow: GET, HEAD, DELETE, OPTIONS\r\n"},
	{"odd method", "BREW /hello HTTP/1.1\r\n" HOST CLOSE "\r\n", 405, "Allow: GET"},
	{"longest method", "AAAAAAAAAAAAAAAAAAAA /hello HTTP/1.1\r\n" HOST "\r\n", 501, NULL},
	{"HEAD of what is only posted", "HEAD /parse HTTP/1.1\r\n" HOST CLOSE "\r\n", 405, NULL},
	{"empty segment", GET("/things/"), 404, NULL},
	{"bad escape", GET("/things/%zz"), 400, "malformed_uri"},
	{"NUL in a parameter", GET("/things/a%00b"), 400, "malformed_uri"},
	{"absolute address", "GET http://127.0.0.1/hello HTTP/1.1\r\n" HOST "\r\n", 400,
	 "malformed_uri"},
	{"fragment", GET("/hello#x"), 400, "malformed_uri"},
	{"bytes beyond ASCII", GET("/hello\xc3\xa4"), 400, "malformed_uri"},
	/* Who asks. */
	{"no key", "GET /park HTTP/1.1\r\n" HOST CLOSE "\r\n", 401, "WWW-Authenticate: Bearer\r\n"},
	{"wrong key", "GET /park HTTP/1.1\r\n" HOST CLOSE "Authorization: Bearer bad\r\n\r\n", 401,
	 "invalid_api_key"},
	{"another scheme",
	 "GET /park HTTP/1.1\r\n" HOST CLOSE "Authorization: Basic Z29vZA==\r\n\r\n", 401,
	 "invalid_api_key"},
	{"no scope",
	 "DELETE /things/a HTTP/1.1\r\n" HOST CLOSE "Authorization: Bearer good\r\n\r\n", 403,
	 "permission_error"},
	{"over a budget", "GET /hello HTTP/1.1\r\n" HOST CLOSE "Authorization: Bearer busy\r\n\r\n",
	 429, "Retry-After: 7\r\n"},
	{"two keys",
	 "GET /hello HTTP/1.1\r\n" HOST CLOSE
	 "Authorization: Bearer good\r\nAuthorization: Bearer bad\r\n\r\n",
	 400, "Authorization"},
	/* Who it was meant for, and who sent it. */
	{"another host", "GET /hello HTTP/1.1\r\nHost: evil.example\r\n" CLOSE "\r\n", 403,
	 "host_not_allowed"},
	{"a name that begins like ours",
	 "GET /hello HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n" CLOSE "\r\n", 403, NULL},
	{"user in the host", "GET /hello HTTP/1.1\r\nHost: a@127.0.0.1\r\n" CLOSE "\r\n", 403,
	 NULL},
	{"our name", "GET /hello HTTP/1.1\r\nHost: Node.Example.:8080\r\n" CLOSE "\r\n", 200, NULL},
	{"loopback by name", "GET /hello HTTP/1.1\r\nHost: LOCALHOST:1\r\n" CLOSE "\r\n", 200,
	 NULL},
	{"another origin",
	 "GET /hello HTTP/1.1\r\n" HOST CLOSE "Origin: https://evil.example\r\n\r\n", 403,
	 "origin_not_allowed"},
	{"origin null", "GET /hello HTTP/1.1\r\n" HOST CLOSE "Origin: null\r\n\r\n", 403,
	 "origin_not_allowed"},
	{"another port's origin",
	 "GET /hello HTTP/1.1\r\nHost: localhost:8080\r\n" CLOSE
	 "Origin: http://localhost:9090\r\n\r\n",
	 403, "origin_not_allowed"},
	{"our own origin",
	 "GET /hello HTTP/1.1\r\nHost: localhost:8080\r\n" CLOSE
	 "Origin: http://localhost:8080\r\n\r\n",
	 200, NULL},
	{"an allowed origin",
	 "GET /hello HTTP/1.1\r\n" HOST CLOSE "Origin: https://app.example\r\n\r\n", 200,
	 "Access-Control-Allow-Origin: https://app.example\r\n"},
	{"preflight of an allowed origin",
	 "OPTIONS /echo HTTP/1.1\r\n" HOST CLOSE "Origin: https://app.example\r\n"
	 "Access-Control-Request-Method: POST\r\n\r\n",
	 204, "Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"},
	{"preflight of another origin",
	 "OPTIONS /echo HTTP/1.1\r\n" HOST CLOSE "Origin: https://evil.example\r\n"
	 "Access-Control-Request-Method: POST\r\n\r\n",
	 403, "origin_not_allowed"},
	{"a picture on another site",
	 "GET /hello HTTP/1.1\r\n" HOST CLOSE
	 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n\r\n",
	 403, "origin_not_allowed"},
	{"a link on another site",
	 "GET /hello HTTP/1.1\r\n" HOST CLOSE
	 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n\r\n",
	 200, NULL},
	/* Smuggling. */
	{"no host", "GET /hello HTTP/1.1\r\n" CLOSE "\r\n", 400, "no Host"},
	{"no host by HTTP/1.0", "GET /hello HTTP/1.0\r\n\r\n", 400, "no Host"},
	{"two hosts", "GET /hello HTTP/1.1\r\n" HOST HOST "\r\n", 400, "Host"},
	{"length and coding",
	 POST_AS_GOOD("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n"),
	 400, "both Content-Length and Transfer-Encoding"},
	{"two lengths", POST_AS_GOOD("Content-Length: 1\r\nContent-Length: 1\r\n", "a"), 400,
	 "more than one Content-Length"},
	{"length with a sign", POST_AS_GOOD("Content-Length: +1\r\n", "a"), 400, NULL},
	{"hexadecimal length", POST_AS_GOOD("Content-Length: 0x1\r\n", "a"), 400, NULL},
	{"list of lengths", POST_AS_GOOD("Content-Length: 1, 1\r\n", "a"), 400, NULL},
	{"empty length", POST_AS_GOOD("Content-Length: \r\n", "a"), 400, NULL},
	{"two codings",
	 POST_AS_GOOD("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", ""), 400,
	 NULL},
	{"another coding", POST_AS_GOOD("Transfer-Encoding: gzip\r\n", ""), 400, "chunked"},
	{"list of codings", POST_AS_GOOD("Transfer-Encoding: gzip, chunked\r\n", ""), 400,
	 "chunked"},
	{"coding in HTTP/1.0",
	 "POST /echo HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
	 "HTTP/1.0"},
	{"white space before the colon", POST_AS_GOOD("Content-Length : 1\r\n", "a"), 400, "name"},
	{"folded line", "GET /hello HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400, "folded"},
	{"folded length", POST_AS_GOOD("Content-Length: 1\r\n 0\r\n", "a"), 400, "folded"},
	{"folded first line", "GET /hello HTTP/1.1\r\n X: a\r\n" HOST "\r\n", 400, NULL},
	{"bare line feed", "GET /hello HTTP/1.1\r\nX: a\n" HOST "\r\n", 400, "bare"},
	{"bare line feed at the end", "GET /hello HTTP/1.1\r\n" HOST "\n", 400, "bare"},
	{"bare line feed after the first line", "GET /hello HTTP/1.1\n" HOST "\r\n", 400, "bare"},
	{"carriage return in a value", "GET /hello HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n", 400,
	 "control"},
	{"no colon", "GET /hello HTTP/1.1\r\n" HOST "X\r\n\r\n", 400, NULL},
	{"empty name", "GET /hello HTTP/1.1\r\n" HOST ": x\r\n\r\n", 400, NULL},
	{"odd name", "GET /hello HTTP/1.1\r\n" HOST "X(y): x\r\n\r\n", 400, "name"},
	{"chunk size no number",
	 POST_AS_GOOD("Transfer-Encoding: chunked\r\n", "x\r\na\r\n0\r\n\r\n"), 400, NULL},
	{"chunk size with 0x",
	 POST_AS_GOOD("Transfer-Encoding: chunked\r\n", "0x1\r\na\r\n0\r\n\r\n"), 400, NULL},
	{"chunk size that overflows",
	 POST_AS_GOOD("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\na"), 413, NULL},
	{"chunk longer than its size",
	 POST_AS_GOOD("Transfer-Encoding: chunked\r\n", "1\r\nabc\r\n0\r\n\r\n"), 400, NULL},
	{"another expectation", POST_AS_GOOD("Expect: cake\r\nContent-Length: 1\r\n", ""), 417,
	 NULL},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, NULL},
	{"another protocol", "GET /hello FTP/1.1\r\n" HOST "\r\n", 400, NULL},
	/* Bodies. */
	{"too long, by its length", POST_AS_GOOD("Content-Length: 65\r\n", ""), 413,
	 "body_too_large"},
	{"too long, with Expect",
	 POST_AS_GOOD("Expect: 100-continue\r\nContent-Length: 65\r\n", ""), 413, NULL},
	{"too long, in chunks",
	 POST_AS_GOOD("Transfer-Encoding: chunked\r\n",
		      "40\r\n0123456789012345678901234567890123456789012345678901234567890123"
		      "\r\n1\r\nx\r\n0\r\n\r\n"),
	 413, "body_too_large"},
	{"where none is taken", "GET /hello HTTP/1.1\r\n" HOST CLOSE "Content-Length: 1\r\n\r\na",
	 413, NULL},
	{"packed", POST_AS_GOOD("Content-Encoding: gzip\r\nContent-Length: 1\r\n", "a"), 415, NULL},
	{"no JSON",
	 "POST /parse HTTP/1.1\r\n" HOST CLOSE
	 "Authorization: Bearer good\r\nContent-Length: 3\r\n\r\n{a}",
	 400, "invalid_json"},
	{"a key twice in JSON",
	 "POST /parse HTTP/1.1\r\n" HOST CLOSE
	 "Authorization: Bearer good\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}",
	 400, "invalid_json"},
};

static void test_refusals(void **state)
{
	static const char nul[] = "GET /hello HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
	static const char nul_name[] = "GET /hello HTTP/1.1\r\n" HOST "X\0: b\r\n\r\n";
	static const char nul_uri[] = "GET /hel\0lo HTTP/1.1\r\n" HOST "\r\n";
	char answer[4096];
	(void)state;
	start(NULL, NULL);
	check_rows(refusals, OL_ARRAY_LEN(refusals));
	assert_int_equal(ask_bytes(answer, sizeof answer, nul, sizeof nul - 1), 400);
	assert_int_equal(ask_bytes(answer, sizeof answer, nul_name, sizeof nul_name - 1), 400);
	assert_int_equal(ask_bytes(answer, sizeof answer, nul_uri, sizeof nul_uri - 1), 400);
	stop();
}

static void test_limits(void **state)
{
	const struct ol_http_limits limits = {
		.connections_max = 4,
		.per_address_max = 2,
		.requests_max = 3,
		.head_max = 2048,
		.uri_max = 256,
		.headers_max = 16,
		.head_time = 300,
		.idle_time = 300,
		.body_time = 300,
	};
	char answer[8192], request[16384];
	int fds[6];
	(void)state;
	start(&limits, NULL);

	/* Head. */
	int n = snprintf(request, sizeof request, "GET /%0300d HTTP/1.1\r\n" HOST "\r\n", 0);
	assert_int_equal(ask_bytes(answer, sizeof answer, request, (size_t)n), 414);
	n = snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\n" HOST "X: %02100d\r\n\r\n",
		     0);
	assert_int_equal(ask_bytes(answer, sizeof answer, request, (size_t)n), 431);
	n = snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\n" HOST);
	for (int i = 0; i < 16; i++)
		n += snprintf(request + n, sizeof request - (size_t)n, "X: %d\r\n", i);
	n += snprintf(request + n, sizeof request - (size_t)n, "\r\n");
	assert_int_equal(ask_bytes(answer, sizeof answer, request, (size_t)n), 431);
	/* Beyond what libmicrohttpd keeps, too. */
	char *huge = malloc(200000);
	memset(huge, 'a', 200000);
	memcpy(huge, "GET /hello HTTP/1.1\r\nX: ", 24);
	assert_int_equal(ask_bytes(answer, sizeof answer, huge, 200000), 431);
	memcpy(huge, "GET /aaaaaaaaaaaaaaaaaaa", 24);
	assert_int_equal(ask_bytes(answer, sizeof answer, huge, 200000), 414);
	free(huge);

	/* Times. */
	assert_int_equal(ask(answer, sizeof answer, "GET /hel"), 408);
	assert_int_equal(ask(answer, sizeof answer, "GET /hello HTTP/1.1\r\nHost: "), 408);
	assert_int_equal(ask(answer, sizeof answer, POST_AS_GOOD("Content-Length: 2\r\n", "a")),
			 408);
	assert_int_equal(ask(answer, sizeof answer, ""), -1); /* asked nothing: no words */
	assert_string_equal(answer, "");

	/* Requests on one connection; idle ones are closed. */
	fds[0] = dial();
	for (int i = 0; i < 3; i++) {
		send_text(fds[0], "GET /hello HTTP/1.1\r\n" HOST "\r\n");
		assert_true(receive(fds[0], answer, sizeof answer, "hello") > 0);
		assert_int_equal(strstr(answer, "Connection: close") != NULL, i == 2);
	}
	assert_int_equal(receive(fds[0], answer, sizeof answer, NULL), 0);
	close(fds[0]);
	fds[0] = dial();
	send_text(fds[0], "GET /hello HTTP/1.1\r\n" HOST "\r\n");
	assert_true(receive(fds[0], answer, sizeof answer, "hello") > 0);
	assert_int_equal(receive(fds[0], answer, sizeof answer, NULL), 0);
	close(fds[0]);
	stop();
}

static void test_too_many(void **state)
{
	const struct ol_http_limits limits = {.connections_max = 4, .per_address_max = 2};
	static const char *const sources[] = {"127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"};
	char answer[4096];
	int fds[4], more;
	(void)state;
	start(&limits, NULL);
	for (int i = 0; i < 4; i++) {
		fds[i] = dial_from(sources[i]);
		send_text(fds[i], "GET /hello HTTP/1.1\r\n" HOST "\r\n");
		assert_true(receive(fds[i], answer, sizeof answer, "hello") > 0);
		if (i != 1)
			continue;
		more = dial_from("127.0.0.2");
		send_text(more, GET("/hello"));
		assert_true(receive(more, answer, sizeof answer, NULL) > 0);
		assert_int_equal(status_of(answer), 429);
		assert_non_null(strstr(answer, "Retry-After: 1\r\n"));
		close(more);
	}
	more = dial_from("127.0.0.4");
	send_text(more, GET("/hello"));
	assert_true(receive(more, answer, sizeof answer, NULL) > 0);
	assert_int_equal(status_of(answer), 503);
	close(more);
	/* Room again once others left. */
	close(fds[0]);
	for (int i = 0; i < 100 && status_of(answer) != 200; i++) {
		const struct timespec t = {.tv_nsec = 10000000};
		nanosleep(&t, NULL);
		more = dial_from("127.0.0.4");
		send_text(more, GET("/hello"));
		assert_true(receive(more, answer, sizeof answer, NULL) > 0);
		close(more);
	}
	assert_int_equal(status_of(answer), 200);
	for (int i = 1; i < 4; i++)
		close(fds[i]);
	stop();
}

/* A client that goes away is told of, once; the owner still ends its request. */
static void test_gone(void **state)
{
	static const char park_request[] =
		"GET /park HTTP/1.1\r\n" HOST "Authorization: Bearer good\r\n\r\n";
	static const char stream_request[] =
		"GET /park-stream HTTP/1.1\r\n" HOST "Authorization: Bearer good\r\n\r\n";
	char answer[4096];
	(void)state;
	start(NULL, NULL);
	int fd = dial();
	send_text(fd, park_request);
	struct ol_http_request *request = wait_parked();
	assert_false(ol_http_gone(request));
	close(fd);
	wait_for(&gone_count, 1);
	assert_true(ol_http_gone(request));
	ol_http_on_gone(request, on_gone, NULL); /* told at once */
	assert_int_equal(gone_count, 2);
	ol_http_reply(request, 200, "text/plain", "x", 1);
	wait_for(&left_count, 1);

	fd = dial();
	send_text(fd, stream_request);
	request = wait_parked();
	assert_true(ol_http_stream_push(request, "abc", 3));
	assert_true(receive(fd, answer, sizeof answer, "abc") > 0);
	close(fd);
	wait_for(&gone_count, 3);
	assert_false(ol_http_stream_push(request, "abc", 3));
	ol_http_stream_end(request);
	wait_for(&left_count, 2);

	/* Answered whole: never told. */
	fd = dial();
	send_text(fd, park_request);
	request = wait_parked();
	ol_http_reply(request, 200, "text/plain", "x", 1);
	assert_true(receive(fd, answer, sizeof answer, "\r\n\r\nx") > 0);
	close(fd);
	wait_for(&left_count, 3);
	assert_int_equal(gone_count, 3);

	/* The end may come from on_gone. */
	fd = dial();
	send_text(fd, "GET /park-self HTTP/1.1\r\n" HOST "\r\n");
	const struct timespec t = {.tv_nsec = 50000000};
	nanosleep(&t, NULL);
	close(fd);
	wait_for(&finished_count, 1);
	stop();
	assert_non_null(strstr(log_text, "\"end\":\"gone\""));
}

/* Reads nothing: the queue fills, the push is refused, on_gone is called. */
static void test_slow_reader(void **state)
{
	const struct ol_http_limits limits = {.stream_queue_max = 65536, .stall_time = 400};
	static const char request_text[] =
		"GET /park-stream HTTP/1.1\r\n" HOST "Authorization: Bearer good\r\n\r\n";
	static char piece[16384];
	(void)state;
	memset(piece, 'x', sizeof piece);
	for (int stall = 0; stall < 2; stall++) {
		start(&limits, NULL);
		const int fd = dial();
		send_text(fd, request_text);
		struct ol_http_request *request = wait_parked();
		/* The kernel takes some megabytes; then nothing more goes. */
		int pushed = 0;
		const struct timespec t = {.tv_nsec = 2000000};
		while (pushed < 4000 && ol_http_stream_push(request, piece, sizeof piece)) {
			pushed++;
			nanosleep(&t, NULL);
			if (stall && pushed == 400)
				break;
		}
		assert_in_range(pushed, 4, 3999);
		wait_for(&gone_count, 1);
		assert_false(ol_http_stream_push(request, piece, 1));
		ol_http_stream_end(request);
		close(fd);
		wait_for(&left_count, 1);
		stop();
		assert_non_null(strstr(log_text, "\"end\":\"slow\""));
	}
}

static void test_upload(void **state)
{
	static const char form[] =
		"--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n"
		"--B\r\nContent-Disposition: form-data; name=\"file\"; "
		"filename=\"a \\\"b\\\".txt\"\r\n"
		"Content-Type: text/plain\r\n\r\n\r\n--\r\n-B\r\n\r\n--B--\r\n";
	char request[4096], answer[4096];
	(void)state;
	start(NULL, NULL);
	int n = snprintf(request, sizeof request,
			 "POST /upload HTTP/1.1\r\n" HOST CLOSE
			 "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: %zu\r\n"
			 "\r\n%s",
			 sizeof form - 1, form);
	/* However it is cut, the same comes out. */
	char first[4096] = "";
	for (int cut = n - (int)sizeof form; cut <= n; cut += 3) {
		const int fd = dial();
		send_all(fd, request, (size_t)cut);
		if (cut < n) {
			const struct timespec t = {.tv_nsec = 300000};
			nanosleep(&t, NULL);
		}
		send_all(fd, request + cut, (size_t)(n - cut));
		assert_true(receive(fd, answer, sizeof answer, NULL) > 0);
		close(fd);
		const char *body = strstr(answer, "\r\n\r\n");
		assert_non_null(body);
		if (!*first)
			snprintf(first, sizeof first, "%s", body);
		assert_string_equal(body, first);
	}
	assert_non_null(
		strstr(first, "\"names\":\"purpose=-;file=a \\\"b\\\".txt;\",\"bytes\":19"));
	stop();
}

static void test_upload_refused(void **state)
{
	char request[4096], answer[4096];
	(void)state;
	start(NULL, NULL);
	/* The field is refused while the body is still coming. */
	const int n = snprintf(
		request, sizeof request,
		"POST /upload HTTP/1.1\r\n" HOST
		"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 90000\r\n\r\n"
		"--B\r\nContent-Disposition: form-data; name=bad\r\n\r\nx");
	assert_int_equal(ask_bytes(answer, sizeof answer, request, (size_t)n), 422);
	assert_non_null(strstr(answer, "no such field"));
	/* Cut off before its end; without a boundary; without a disposition. */
	static const struct row rows[] = {
		{"cut off",
		 "POST /upload HTTP/1.1\r\n" HOST CLOSE
		 "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 5\r\n\r\n"
		 "--B\r\n",
		 400, "closing boundary"},
		{"no boundary",
		 "POST /upload HTTP/1.1\r\n" HOST CLOSE
		 "Content-Type: multipart/form-data\r\nContent-Length: 5\r\n\r\n--B\r\n",
		 400, "boundary"},
		{"no disposition",
		 "POST /upload HTTP/1.1\r\n" HOST CLOSE
		 "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 13\r\n\r\n"
		 "--B\r\nX: y\r\n\r\n",
		 400, "Content-Disposition"},
		{"too long",
		 "POST /upload HTTP/1.1\r\n" HOST CLOSE "Content-Length: 100001\r\n\r\n", 413,
		 NULL},
		{"not a form", "POST /upload HTTP/1.1\r\n" HOST CLOSE "Content-Length: 2\r\n\r\nab",
		 200, "\"names\":\"=-;\",\"bytes\":2"},
	};
	check_rows(rows, OL_ARRAY_LEN(rows));
	/* A client that goes away in the middle. */
	aborted_count = 0;
	const int fd = dial();
	send_all(fd, request, (size_t)n - 30);
	const struct timespec t = {.tv_nsec = 50000000};
	nanosleep(&t, NULL);
	close(fd);
	wait_for(&aborted_count, 1);
	stop();
}

/* Requests one behind the other, sent at once. */
static void test_pipeline(void **state)
{
	static const char request[] = "GET /hello HTTP/1.1\r\n" HOST "\r\n"
				      "GET /later HTTP/1.1\r\n" HOST "\r\n" GET("/stream");
	char answer[8192];
	(void)state;
	start(NULL, NULL);
	assert_int_equal(ask(answer, sizeof answer, request), 200);
	const char *second = strstr(answer, "\r\n\r\nhello");
	assert_non_null(second);
	second = strstr(second, "\r\n\r\nlater");
	assert_non_null(second);
	assert_non_null(strstr(second, "data: {\"n\":4}"));
	stop();
}

static void test_stop(void **state)
{
	static const char park_request[] =
		"GET /park HTTP/1.1\r\n" HOST "Authorization: Bearer good\r\n\r\n";
	static const char stream_request[] =
		"GET /park-stream HTTP/1.1\r\n" HOST "Authorization: Bearer good\r\n\r\n";
	char answer[4096];
	(void)state;
	start(NULL, NULL);
	const int idle = dial(), waiting = dial(), streaming = dial();
	send_text(waiting, park_request);
	struct ol_http_request *first = wait_parked();
	send_text(streaming, stream_request);
	struct ol_http_request *second = wait_parked();
	assert_true(ol_http_stream_push(second, "abc", 3));
	ol_http_server_stop(server, 50);
	assert_int_equal(gone_count, 2);
	ol_http_reply(first, 200, "text/plain", "x", 1);
	assert_false(ol_http_stream_push(second, "abc", 3));
	ol_http_stream_end(second);
	assert_true(receive(waiting, answer, sizeof answer, NULL) > 0);
	assert_int_equal(status_of(answer), 503);
	assert_non_null(strstr(answer, "server_stopping"));
	assert_true(receive(streaming, answer, sizeof answer, NULL) > 0);
	assert_non_null(strstr(answer, "abc"));
	assert_non_null(strstr(answer, "data: {\"error\":"));
	assert_non_null(strstr(answer, "\r\n0\r\n\r\n")); /* whole, as chunks go */
	assert_int_equal(receive(idle, answer, sizeof answer, NULL), 0);
	close(idle);
	close(waiting);
	close(streaming);
	stop();

	/* What ends in time is answered in full. */
	start(NULL, NULL);
	const int fd = dial();
	send_text(fd, GET("/later"));
	const struct timespec t = {.tv_nsec = 5000000};
	nanosleep(&t, NULL);
	ol_http_server_stop(server, 5000);
	assert_true(receive(fd, answer, sizeof answer, NULL) > 0);
	assert_int_equal(status_of(answer), 201);
	close(fd);
	stop();
}

static void test_revoke(void **state)
{
	static const char request_text[] =
		"GET /park HTTP/1.1\r\n" HOST "Authorization: Bearer good\r\n\r\n";
	char answer[4096];
	(void)state;
	start(NULL, NULL);
	const int fd = dial();
	send_text(fd, request_text);
	struct ol_http_request *request = wait_parked();
	ol_http_server_revoke(server, "key-2");
	assert_int_equal(gone_count, 0);
	ol_http_server_revoke(server, "key-1");
	assert_int_equal(gone_count, 1);
	assert_true(receive(fd, answer, sizeof answer, "key_revoked") > 0);
	assert_int_equal(status_of(answer), 401);
	ol_http_reply(request, 200, "text/plain", "x", 1);
	close(fd);
	stop();
}

/* Every request has its line, and no line holds a key, a body or a query. */
static void test_log(void **state)
{
	char answer[4096];
	struct ol_metrics *metrics;
	struct ol_buf text;
	int lines = 0;
	(void)state;
	assert_int_equal(ol_metrics_open(&metrics), OL_OK);
	start(NULL, metrics);
	assert_int_equal(ask(answer, sizeof answer,
			     "POST /echo?secret HTTP/1.1\r\n" HOST CLOSE
			     "Authorization: Bearer good\r\nContent-Length: 6\r\n\r\nsecret"),
			 200);
	assert_int_equal(ask(answer, sizeof answer, GET("/nothing?secret")), 404);
	stop();
	log_text[log_size] = '\0';
	assert_null(strstr(log_text, "secret"));
	assert_null(strstr(log_text, "good"));
	for (char *line = log_text, *end; *line; line = end + 1, lines++) {
		end = strchr(line, '\n');
		assert_non_null(end);
		json_t *object =
			json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(object);
		assert_string_equal(json_string_value(json_object_get(object, "event")), "request");
		if (lines == 0) {
			assert_int_equal(json_integer_value(json_object_get(object, "status")),
					 200);
			assert_string_equal(json_string_value(json_object_get(object, "route")),
					    "/echo");
			assert_string_equal(json_string_value(json_object_get(object, "key")),
					    "key-1");
			assert_string_equal(json_string_value(json_object_get(object, "account")),
					    "someone");
			assert_string_equal(json_string_value(json_object_get(object, "model")),
					    "m\"\n");
			assert_int_equal(json_integer_value(json_object_get(object, "route_bytes")),
					 8);
			assert_int_equal(json_integer_value(json_object_get(object, "tokens")), 7);
			assert_int_equal(json_integer_value(json_object_get(object, "bytes_in")),
					 6);
		}
		json_decref(object);
	}
	assert_int_equal(lines, 2);
	ol_buf_init(&text, 1 << 20);
	assert_true(ol_metrics_write(metrics, &text));
	assert_non_null(strstr(text.data, "openledger_http_requests_total{method=\"POST\",route=\""
					  "/echo\",status=\"2xx\"} 1\n"));
	assert_non_null(strstr(text.data, "openledger_http_connections 0\n"));
	assert_non_null(strstr(text.data, "openledger_http_requests_active 0\n"));
	assert_non_null(strstr(text.data, "openledger_http_request_seconds_count 2\n"));
	ol_buf_release(&text);
	ol_metrics_close(metrics);
}

static void test_assets(void **state)
{
	static const struct ol_asset table[] = {
		{"index.html", (const uint8_t *)"<p>", 3, false},
		{"assets/a-1.js", (const uint8_t *)"1;", 2, true},
	};
	static const struct row rows[] = {
		{"index", GET("/ui"), 200, "Content-Type: text/html; charset=utf-8\r\n"},
		{"index is asked for again", GET("/ui/index.html"), 200,
		 "Cache-Control: no-cache\r\n"},
		{"script", GET("/ui/assets/a-1.js"), 200,
		 "Cache-Control: public, max-age=31536000, immutable\r\n"},
		{"type", GET("/ui/assets/a-1.js"), 200,
		 "Content-Type: text/javascript; charset=utf-8\r\n"},
		{"page of the UI", GET("/ui/models/x"), 200, "\r\n\r\n<p>"},
		{"no such file", GET("/ui/assets/b.js"), 404, "unknown_url"},
		{"not above", GET("/ui/../index.html"), 404, "unknown_url"},
		{"policy", GET("/ui"), 200, "Content-Security-Policy: default-src 'self';"},
	};
	char answer[4096], request[512], tag[64];
	(void)state;
	assert_int_equal(ol_assets_open(&assets, table, OL_ARRAY_LEN(table), NULL), OL_OK);
	start(NULL, NULL);
	check_rows(rows, OL_ARRAY_LEN(rows));
	assert_int_equal(ask(answer, sizeof answer, GET("/ui")), 200);
	const char *at = strstr(answer, "ETag: ");
	assert_non_null(at);
	snprintf(tag, sizeof tag, "%.34s", at + 6);
	snprintf(request, sizeof request,
		 "GET /ui HTTP/1.1\r\n" HOST CLOSE "If-None-Match: \"x\", %s\r\n\r\n", tag);
	assert_int_equal(ask(answer, sizeof answer, request), 304);
	assert_null(strstr(answer, "<p>"));
	stop();
	ol_assets_close(assets);
}

/* On all addresses it answers as the one it was reached at, and by its names. */
static void test_any_address(void **state)
{
	static const struct row rows[] = {
		{"address", GET("/hello"), 200, NULL},
		{"loopback's name", "GET /hello HTTP/1.1\r\nHost: localhost:80\r\n" CLOSE "\r\n",
		 200, NULL},
		{"our name", "GET /hello HTTP/1.1\r\nHost: node.example\r\n" CLOSE "\r\n", 200,
		 NULL},
		{"another", "GET /hello HTTP/1.1\r\nHost: evil.example\r\n" CLOSE "\r\n", 403,
		 NULL},
		{"another address", "GET /hello HTTP/1.1\r\nHost: 10.0.0.1\r\n" CLOSE "\r\n", 403,
		 NULL},
		{"all addresses", "GET /hello HTTP/1.1\r\nHost: 0.0.0.0\r\n" CLOSE "\r\n", 403,
		 NULL},
	};
	(void)state;
	start_at("0.0.0.0", NULL, NULL);
	assert_non_null(strstr(ol_http_server_url(server), "http://0.0.0.0:"));
	check_rows(rows, OL_ARRAY_LEN(rows));
	assert_true(ol_http_server_healthy(server));
	stop();
	/* IPv6, where there is any. */
	struct ol_http_server *six;
	struct ol_error err;
	const struct ol_http_options options = {.address = "::1", .log = OL_HTTP_LOG_OFF};
	const enum ol_status s = ol_http_server_open(&six, &options, &err);
	if (s != OL_OK) {
		print_message("no IPv6 here: %s\n", err.text);
		return;
	}
	assert_non_null(strstr(ol_http_server_url(six), "http://[::1]:"));
	ol_http_server_close(six);
}

/* What cannot be opened, and why. */
static void test_open(void **state)
{
	static const struct ol_http_route twice[] = {
		{"GET", "/a/{x}", 0, 0, say, NULL, NULL},
		{"GET", "/a/{y}", 0, 0, say, NULL, NULL},
	};
	static const struct ol_http_route odd[] = {{"GET", "/a/{x*}/b", 0, 0, say, NULL, NULL}};
	const struct {
		struct ol_http_options options;
		const char *found;
	} rows[] = {
		{{.address = "0.0.0.0"}, "API key"},
		{{.address = "::"}, "API key"},
		{{.address = "example.org", .guard = {admit, NULL, NULL}}, "numeric"},
		{{.routes = twice, .route_count = 2}, "twice"},
		{{.routes = odd, .route_count = 1}, "malformed"},
	};
	struct ol_error err;
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_http_server *none;
		assert_int_equal(ol_http_server_open(&none, &rows[i].options, &err), OL_ERR_INPUT);
		assert_null(none);
		if (!strstr(err.text, rows[i].found))
			fail_msg("row %zu: %s", i, err.text);
	}
	struct ol_http_server *first, *second;
	const struct ol_http_options one = {.log = OL_HTTP_LOG_OFF};
	assert_int_equal(ol_http_server_open(&first, &one, &err), OL_OK);
	const struct ol_http_options same = {.port = ol_http_server_port(first)};
	assert_int_equal(ol_http_server_open(&second, &same, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "cannot listen"));
	ol_http_server_close(first);
	assert_true(ol_http_is_loopback("127.3.2.1") && ol_http_is_loopback("::1"));
	assert_false(ol_http_is_loopback("0.0.0.0") || ol_http_is_loopback("128.0.0.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),  cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_limits),   cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_gone),     cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_upload),   cmocka_unit_test(test_upload_refused),
		cmocka_unit_test(test_pipeline), cmocka_unit_test(test_stop),
		cmocka_unit_test(test_revoke),   cmocka_unit_test(test_log),
		cmocka_unit_test(test_assets),   cmocka_unit_test(test_any_address),
		cmocka_unit_test(test_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
