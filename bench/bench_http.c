/* What the transport costs, with nothing behind it.
 *
 *     bench_http [SECONDS] [STREAMS...]     default: 2 s each; 1 64 1000 2000 streams
 *
 * Requests a second over 32 connections, answered on the server's thread and from another one; then
 * streams that get 20 events a second each: how late an event arrives (p50, p99), the processor
 * time of an event, and the memory of a stream. Server and client are processes of their own. */
#include "base/clock.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 8192, CONNECTIONS = 32, RATE = 20, LATE_MAX = 1 << 20 };

/* ---- The server's process ------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER;
static struct ol_http_request *later[STREAMS_MAX], *streams[STREAMS_MAX];
static int later_count, stream_count;

static void hello(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_reply(request, 200, "text/plain", "hello", 5);
}

static void post(void *self, struct ol_http_request *request)
{
	(void)self;
	pthread_mutex_lock(&lock);
	OL_ASSERT(later_count < STREAMS_MAX);
	later[later_count++] = request;
	pthread_cond_signal(&posted);
	pthread_mutex_unlock(&lock);
}

static void *answer_later(void *self)
{
	struct ol_http_request *taken[STREAMS_MAX];
	(void)self;
	for (;;) {
		pthread_mutex_lock(&lock);
		while (later_count == 0)
			pthread_cond_wait(&posted, &lock);
		const int count = later_count;
		memcpy(taken, later, (size_t)count * sizeof taken[0]);
		later_count = 0;
		pthread_mutex_unlock(&lock);
		for (int i = 0; i < count; i++)
			ol_http_reply(taken[i], 200, "text/plain", "later", 5);
	}
	return NULL;
}

static void stream(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_stream_begin(request, 200, "text/event-stream");
	pthread_mutex_lock(&lock);
	OL_ASSERT(stream_count < STREAMS_MAX);
	streams[stream_count++] = request;
	pthread_mutex_unlock(&lock);
}

/* Each event holds the moment it was pushed. Spread over the period, as tokens of a batch are not,
 * but as many clients' are. */
static void *push_events(void *self)
{
	const struct timespec tick = {.tv_nsec = 1000000};
	double due[STREAMS_MAX] = {0};
	(void)self;
	for (;;) {
		nanosleep(&tick, NULL);
		const double now = ol_clock_seconds();
		pthread_mutex_lock(&lock);
		for (int i = 0; i < stream_count; i++) {
			char text[64];
			if (due[i] > now)
				continue;
			due[i] = due[i] > 0.0 ? due[i] + 1.0 / RATE : now + (i % 50) * 0.001;
			const int n = snprintf(text, sizeof text, "%.6f", ol_clock_seconds());
			if (ol_http_stream_event(streams[i], text, (size_t)n))
				continue;
			ol_http_stream_end(streams[i]);
			streams[i] = streams[--stream_count];
			due[i] = due[stream_count];
			due[stream_count] = 0.0;
			i--;
		}
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static _Noreturn void serve(int port_out)
{
	static const struct ol_http_route routes[] = {
		{"GET", "/hello", 0, 0, hello, NULL, NULL},
		{"GET", "/later", 0, 0, post, NULL, NULL},
		{"GET", "/stream", 0, 0, stream, NULL, NULL},
	};
	const struct ol_http_options options = {
		.routes = routes,
		.route_count = OL_ARRAY_LEN(routes),
		.log = OL_HTTP_LOG_OFF,
		.limits = {.connections_max = STREAMS_MAX, .requests_max = UINT32_MAX}};
	struct ol_http_server *server;
	struct ol_error err;
	pthread_t a, b;
	if (ol_http_server_open(&server, &options, &err) != OL_OK) {
		fprintf(stderr, "bench_http: %s\n", err.text);
		_exit(1);
	}
	OL_ASSERT(pthread_create(&a, NULL, answer_later, NULL) == 0);
	OL_ASSERT(pthread_create(&b, NULL, push_events, NULL) == 0);
	const uint16_t port = ol_http_server_port(server);
	OL_ASSERT(write(port_out, &port, sizeof port) == sizeof port);
	for (;;)
		pause();
}

/* ---- The client's --------------------------------------------------------------------------- */

static uint16_t server_port;
static pid_t server_pid;

static int dial(const char *request)
{
	const int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(server_port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	OL_ASSERT(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	OL_ASSERT(send(fd, request, strlen(request), MSG_NOSIGNAL) > 0);
	return fd;
}

/* From /proc: kB of memory, and ticks of processor time. */
static void server_costs(long *kb, long *ticks)
{
	char path[64], line[1024];
	long user = 0, system_time = 0;
	*kb = *ticks = 0;
	snprintf(path, sizeof path, "/proc/%d/status", (int)server_pid);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, "VmRSS:", 6) == 0)
			*kb = strtol(line + 6, NULL, 10);
	if (file)
		fclose(file);
	snprintf(path, sizeof path, "/proc/%d/stat", (int)server_pid);
	file = fopen(path, "r");
	const char *at = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	/* utime and stime are the 14th and 15th fields; the second ends with the bracket. */
	for (int field = 2; at && field < 14; field++)
		at = strchr(at + 1, ' ');
	if (at) {
		char *end;
		user = strtol(at, &end, 10);
		system_time = strtol(end, NULL, 10);
	}
	if (file)
		fclose(file);
	*ticks = user + system_time;
}

static void requests(const char *name, const char *request, double seconds)
{
	struct epoll_event events[CONNECTIONS];
	int fds[CONNECTIONS];
	long count = 0, kb, before, after;
	const int epoll = epoll_create1(0);
	server_costs(&kb, &before);
	for (int i = 0; i < CONNECTIONS; i++) {
		struct epoll_event event = {.events = EPOLLIN};
		event.data.fd = fds[i] = dial(request);
		epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
	}
	const double start = ol_clock_seconds();
	while (ol_clock_seconds() - start < seconds) {
		const int ready = epoll_wait(epoll, events, CONNECTIONS, 100);
		for (int i = 0; i < ready; i++) {
			char answer[1024];
			/* An answer is one segment. */
			OL_ASSERT(recv(events[i].data.fd, answer, sizeof answer, 0) > 0);
			count++;
			OL_ASSERT(send(events[i].data.fd, request, strlen(request), MSG_NOSIGNAL) >
				  0);
		}
	}
	const double took = ol_clock_seconds() - start;
	server_costs(&kb, &after);
	printf("%-28s %9.0f requests/s %7.1f us of the server's processors each\n", name,
	       (double)count / took,
	       1e6 * (double)(after - before) / (double)sysconf(_SC_CLK_TCK) / (double)count);
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
	close(epoll);
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void read_events(int fd, double *late, long *count)
{
	char text[8192];
	const ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
	const double now = ol_clock_seconds();
	if (n <= 0)
		return;
	text[n] = '\0';
	for (const char *at = strstr(text, "data: "); at; at = strstr(at + 6, "data: "))
		if (*count < LATE_MAX)
			late[(*count)++] = now - strtod(at + 6, NULL);
}

static void streaming(int count, double seconds)
{
	static double late[LATE_MAX];
	static int fds[STREAMS_MAX];
	struct epoll_event events[256];
	long seen = 0, kb_before, kb_after, before, after;
	const int epoll = epoll_create1(0);
	server_costs(&kb_before, &before);
	for (int i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLIN};
		event.data.fd = fds[i] = dial("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
		epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
	}
	const double warm = ol_clock_seconds() + 0.5;
	while (ol_clock_seconds() < warm) {
		const int ready = epoll_wait(epoll, events, 256, 100);
		for (int i = 0; i < ready; i++)
			read_events(events[i].data.fd, late, &seen);
	}
	seen = 0;
	server_costs(&kb_after, &before);
	const double start = ol_clock_seconds();
	while (ol_clock_seconds() - start < seconds) {
		const int ready = epoll_wait(epoll, events, 256, 100);
		for (int i = 0; i < ready; i++)
			read_events(events[i].data.fd, late, &seen);
	}
	const double took = ol_clock_seconds() - start;
	server_costs(&kb_after, &after);
	qsort(late, (size_t)seen, sizeof late[0], by_value);
	printf("%5d streams %17.0f events/s %9.1f us of the server's processors each; "
	       "late p50 %.2f ms, p99 %.2f ms; %ld kB a stream\n",
	       count, (double)seen / took,
	       seen ? 1e6 * (double)(after - before) / (double)sysconf(_SC_CLK_TCK) / (double)seen
		    : 0.0,
	       seen ? 1e3 * late[seen / 2] : 0.0, seen ? 1e3 * late[seen * 99 / 100] : 0.0,
	       (kb_after - kb_before) / count);
	for (int i = 0; i < count; i++)
		close(fds[i]);
	close(epoll);
	/* Until the server has let go of them. */
	const struct timespec pause_time = {.tv_nsec = 300000000};
	nanosleep(&pause_time, NULL);
}

int main(int argc, char **argv)
{
	static const int standard[] = {1, 64, 1000, 2000};
	const double seconds = argc > 1 ? strtod(argv[1], NULL) : 2.0;
	struct rlimit files;
	int pair[2];
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (pipe(pair) != 0)
		return 1;
	server_pid = fork();
	if (server_pid == 0)
		serve(pair[1]);
	if (server_pid < 0 || read(pair[0], &server_port, sizeof server_port) != 2)
		return 1;
	printf("%d connections, each with one request at a time\n", CONNECTIONS);
	requests("answered by the handler", "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
		 seconds);
	requests("answered by another thread", "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n",
		 seconds);
	printf("%d events a second on each stream\n", RATE);
	for (int i = 2; i < argc; i++)
		streaming((int)OL_MIN(OL_MAX(strtol(argv[i], NULL, 10), 1), STREAMS_MAX - 64),
			  seconds);
	for (size_t i = 0; argc <= 2 && i < OL_ARRAY_LEN(standard); i++)
		streaming(standard[i], seconds);
	kill(server_pid, SIGKILL);
	waitpid(server_pid, NULL, 0);
	return 0;
}
