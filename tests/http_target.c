/* A server with nothing behind it, for tests/faults_http.py to throw things at.
 *
 *     http_target CONNECTIONS     prints "PORT n", serves until SIGTERM, drains, exits 0
 *
 * One thread plays the model: it answers what waits and pushes to what streams. */
#include "http/server.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE = 4096, TICK_NS = 1000000, DRAIN_MS = 500 };

struct job {
	struct job *next;
	struct ol_http_request *request;
	enum { LATER, STREAM, PARK } kind;
	int left; /* pieces of a stream; ticks of a later answer */
	_Atomic bool gone;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct job *fresh; /* posted, not yet seen by the worker */
static _Atomic bool quit;

static void on_gone(void *context, struct ol_http_request *request)
{
	struct job *job = context;
	(void)request;
	job->gone = true;
}

static void post(struct ol_http_request *request, int kind, int left)
{
	struct job *job = calloc(1, sizeof *job);
	OL_ASSERT(job);
	job->request = request;
	job->kind = kind;
	job->left = left;
	ol_http_on_gone(request, on_gone, job);
	pthread_mutex_lock(&lock);
	job->next = fresh;
	fresh = job;
	pthread_mutex_unlock(&lock);
}

static void hello(void *self, struct ol_http_request *request)
{
	(void)self;
	ol_http_reply(request, 200, "text/plain", "hello", 5);
}

static void sink(void *self, struct ol_http_request *request)
{
	size_t size;
	(void)self;
	(void)ol_http_body(request, &size);
	ol_http_reply_json(request, 200, json_pack("{s:i}", "size", (int)size));
}

static void later(void *self, struct ol_http_request *request)
{
	(void)self;
	post(request, LATER, 3);
}

static void endless(void *self, struct ol_http_request *request)
{
	(void)self;
	post(request, STREAM, 1 << 30);
}

static void short_stream(void *self, struct ol_http_request *request)
{
	(void)self;
	post(request, STREAM, 3);
}

static void park(void *self, struct ol_http_request *request)
{
	(void)self;
	post(request, PARK, 0);
}

static void metrics_route(void *self, struct ol_http_request *request)
{
	struct ol_buf text;
	ol_buf_init(&text, 1 << 20);
	(void)!ol_metrics_write(self, &text);
	ol_http_reply_buf(request, 200, "text/plain; version=0.0.4", &text);
}

static bool part(void *self, struct ol_http_request *request, const struct ol_http_part *found)
{
	(void)self;
	(void)request;
	(void)found;
	return true;
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

/* True when the job is over and its request finished. */
static bool work(struct job *job)
{
	static const char piece[PIECE];
	switch (job->kind) {
	case LATER:
		if (--job->left > 0 && !job->gone && !quit)
			return false;
		ol_http_reply(job->request, 200, "text/plain", "later", 5);
		return true;
	case STREAM:
		if (--job->left > 0 && ol_http_stream_push(job->request, piece, sizeof piece))
			return false;
		ol_http_stream_end(job->request);
		return true;
	case PARK:
		if (!job->gone && !quit)
			return false;
		ol_http_error_later(job->request, 503, 1, NULL, NULL, "nothing came of it");
		return true;
	}
	OL_UNREACHABLE();
}

static void *worker(void *self)
{
	struct job *jobs = NULL;
	const struct timespec tick = {.tv_nsec = TICK_NS};
	(void)self;
	for (;;) {
		pthread_mutex_lock(&lock);
		struct job *news = fresh;
		fresh = NULL;
		const bool over = quit && !jobs && !news;
		pthread_mutex_unlock(&lock);
		while (news) {
			struct job *next = news->next;
			if (news->kind == STREAM)
				ol_http_stream_begin(news->request, 200, "text/event-stream");
			news->next = jobs;
			jobs = news;
			news = next;
		}
		for (struct job **at = &jobs; *at;) {
			struct job *job = *at;
			if (work(job)) {
				*at = job->next;
				free(job);
			} else {
				at = &job->next;
			}
		}
		if (over)
			return NULL;
		nanosleep(&tick, NULL);
	}
}

int main(int argc, char **argv)
{
	static const struct ol_http_upload upload = {part, bytes, stopped};
	struct ol_metrics *metrics;
	struct ol_http_server *server;
	struct ol_error err;
	pthread_t thread;
	sigset_t signals;
	int signal_number;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (ol_metrics_open(&metrics) != OL_OK)
		return 1;
	const struct ol_http_route routes[] = {
		{"GET", "/hello", 0, 0, hello, NULL, NULL},
		{"GET", "/later", 0, 0, later, NULL, NULL},
		{"GET", "/endless", 0, 0, endless, NULL, NULL},
		{"GET", "/stream", 0, 0, short_stream, NULL, NULL},
		{"GET", "/park", 0, 0, park, NULL, NULL},
		{"POST", "/sink", 0, 1 << 20, sink, NULL, NULL},
		{"POST", "/upload", 0, 64 << 20, hello, NULL, &upload},
		{"GET", "/metrics", 0, 0, metrics_route, metrics, NULL},
	};
	const struct ol_http_options options = {
		.routes = routes,
		.route_count = OL_ARRAY_LEN(routes),
		.metrics = metrics,
		.log = OL_HTTP_LOG_OFF,
		.limits = {.connections_max = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0,
			   .requests_max = UINT32_MAX,
			   .head_time = 1500,
			   .body_time = 1500,
			   .idle_time = 20000,
			   .stall_time = 1500,
			   .stream_queue_max = 64 << 10},
	};
	if (ol_http_server_open(&server, &options, &err) != OL_OK) {
		fprintf(stderr, "http_target: %s\n", err.text);
		return 1;
	}
	OL_ASSERT(pthread_create(&thread, NULL, worker, NULL) == 0);
	printf("PORT %u\n", ol_http_server_port(server));
	fflush(stdout);
	sigwait(&signals, &signal_number);
	ol_http_server_stop(server, DRAIN_MS);
	pthread_mutex_lock(&lock);
	quit = true;
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	ol_http_server_close(server);
	ol_metrics_close(metrics);
	return 0;
}
