/* http/server_internal.h, floor 5: what the files of the transport share.
 *
 * THREADS. libmicrohttpd's (two or so; each carries its own connections), one watcher, and whoever
 * owns requests. A connection's callbacks all run on one of libmicrohttpd's threads.
 *
 * A CONN is the slot of one connection: its socket, what it is doing, and until when. Slots are
 * never freed before the server, so that an event that comes late finds a slot, and its number
 * tells that it is another connection now. All of a slot is guarded by server->lock.
 *
 * A REQUEST is counted twice at most: by the transport (from its first line until libmicrohttpd
 * says that it is over) and by its owner (from the handler until it is finished); whoever lets go
 * last frees it, after the log line. What both sides change is guarded by request->lock. A
 * suspended connection is resumed under that lock only, and libmicrohttpd cannot end a suspended
 * one: so the MHD_Connection is there whenever `suspended` is set.
 *
 * Order of locks: request->lock, then those of libmicrohttpd. server->lock is taken alone, or with
 * no request's lock held. No callback of an owner runs under a lock. */
#ifndef OL_HTTP_SERVER_INTERNAL_H
#define OL_HTTP_SERVER_INTERNAL_H

#include "http/head.h"
#include "http/multipart.h"
#include "http/routes.h"
#include "http/server.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
	OL_HTTP_CONNECTION_MEMORY = 64 << 10, /* of libmicrohttpd, touched as needed */
	OL_HTTP_HEAD_MAX = 24 << 10,
	OL_HTTP_STREAM_BLOCK = 4096,
	OL_HTTP_ARENA_BLOCK = 4096,
	OL_HTTP_ERROR_TEXT_MAX = 2048,
	OL_HTTP_TICK = 100,             /* ms: how exactly the watcher keeps times    */
	OL_HTTP_LINGER_TIME = 3000,     /* ms to read an answer sent before the body's end */
	OL_HTTP_REFUSED_TIME = 3000,    /* ms that a connection over a limit may take  */
	OL_HTTP_STUCK_TIME = 10000,     /* ms in which threads that live would have acted */
	OL_HTTP_SPARE_CONNECTIONS = 64, /* to tell those over the limit that they are */
	OL_HTTP_SET_HEADERS_MAX = 16,
	OL_HTTP_URL_MAX = 80,
	OL_HTTP_STATUS_CLASSES = 6 /* none, 1xx … 5xx */
};

/* What a connection is doing. */
enum ol_conn_state {
	OL_CONN_FREE,
	OL_CONN_IDLE,   /* nothing, or the first line of a request                        */
	OL_CONN_HEAD,   /* the headers of a request are coming                            */
	OL_CONN_BODY,   /* its body is coming                                             */
	OL_CONN_WAIT,   /* its owner has it                                               */
	OL_CONN_REPLY,  /* the answer is going out                                        */
	OL_CONN_STREAM, /* pieces of the answer are going out                             */
	OL_CONN_LINGER, /* answered already: what still comes is dropped, until it closes */
	OL_CONN_CLOSED  /* shut down by the watcher; libmicrohttpd will notice            */
};

struct ol_conn {
	uint32_t generation; /* odd: in use */
	enum ol_conn_state state;
	int fd;
	int64_t deadline;  /* ms of ol_http_now; 0: none           */
	bool peer_closed;  /* the client has sent its last byte     */
	int refuse_status; /* 503 or 429: over a limit when it came */
	uint32_t requests;
	uint64_t bytes_before; /* received when the last request was over, as the kernel counts */
	uint8_t address[16];   /* IPv4 mapped; all 0: not an IP connection */
	struct ol_http_request *request;
};

/* Why a request ended other than by being answered whole. Append-only: names are in the log. */
enum ol_http_end {
	OL_END_DONE,
	OL_END_GONE,    /* the client went away             */
	OL_END_SLOW,    /* it read or sent too slowly       */
	OL_END_STOPPED, /* the server stopped               */
	OL_END_REVOKED, /* its key was revoked              */
	OL_END_BROKEN   /* malformed on the way, no memory  */
};

struct ol_http_note {
	const char *key;
	char *text; /* in the request's memory; NULL: a number */
	int64_t number;
};

struct ol_http_memory {
	struct ol_http_memory *next;
	size_t used, size;
	_Alignas(16) uint8_t bytes[];
};

/* Bytes pushed and not yet taken. */
struct ol_http_queue {
	uint8_t *bytes;
	size_t start, size, room; /* a ring */
};

struct ol_http_request {
	struct ol_http_server *server;
	struct ol_conn *conn;
	uint32_t conn_generation;
	_Atomic int references;
	struct ol_http_memory *memory;

	/* Of the transport's thread until the owner has it; read-only afterwards. */
	char id[OL_HTTP_ID_MAX];
	double started;
	char *uri;  /* as sent */
	char *path; /* without the query */
	const char *query;
	char method[16];
	struct ol_head head;
	const struct ol_http_route *route;
	struct ol_http_param params[OL_HTTP_PARAMS_MAX];
	int param_count;
	struct ol_http_caller caller;
	bool admitted;
	struct ol_buf body;
	uint64_t body_size;      /* bytes that came */
	uint64_t memory_counted; /* of limits.memory_max */
	struct ol_multipart *multipart;
	bool upload_begun, upload_over;
	bool head_done, handled, discard; /* discard: answered early, the body is dropped */
	bool head_only;                   /* HEAD */
	const char *cross_origin;         /* an allowed web page elsewhere */
	void *context;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct MHD_Connection *connection; /* NULL once libmicrohttpd is through with it */
	struct MHD_Response *response;     /* ready, not yet taken */
	int status;
	int retry_after;
	uint64_t reply_size;
	bool suspended;
	bool owned;    /* a handler has or had it                          */
	bool finished; /* by its owner                                     */
	bool gone;     /* and the owner has been told                      */
	bool telling;  /* on_gone is running, on teller                    */
	pthread_t teller;
	bool dead;        /* the connection must be closed, nothing more can be said */
	bool peer_closed; /* the client has sent its last byte */
	char *refusal;    /* an error's JSON, not yet taken; instead of a response */
	bool close_after; /* the connection ends with the answer */
	bool taken;       /* libmicrohttpd has the answer, or it was sent early */
	bool streaming, stream_over, stream_taken;
	bool events;   /* the stream is of server-sent events */
	bool too_slow; /* the queue stood over its limit */
	struct ol_http_queue queue;
	int64_t progress; /* ms: when the reader last took something */
	uint64_t bytes_out;
	ol_http_gone_fn *on_gone;
	void *gone_context;
	_Atomic int end; /* enum ol_http_end: the first cause that was seen */
	struct {
		char *name, *value;
	} headers[OL_HTTP_SET_HEADERS_MAX];
	int header_count;
	struct ol_http_note notes[OL_HTTP_NOTES_MAX];
	int note_count;
	double ended; /* when the transport was through */
};

struct ol_http_server {
	struct ol_http_options options;
	struct ol_http_limits limits;
	struct ol_routes *routes;
	struct MHD_Daemon *daemon;
	int listen_fd;
	uint16_t port;
	bool loopback;
	char address[64];
	char url[OL_HTTP_URL_MAX];
	uint64_t id_salt;
	_Atomic uint64_t id_next;
	_Atomic int64_t body_memory;
	_Atomic bool stopping; /* no more requests on a connection      */
	_Atomic bool halting;  /* nothing may be suspended any more     */

	pthread_mutex_t lock; /* all of conns */
	struct ol_conn *conns;
	uint32_t conn_count, conn_open; /* slots; in use */
	uint32_t conn_hint;             /* where a free one may be */
	uint32_t active;                /* requests of the transport */
	_Atomic uint32_t alive;         /* requests not yet freed */

	pthread_t watcher;
	bool watching;
	int watch_epoll, watch_event;
	_Atomic bool watch_stop;
	_Atomic int64_t ticked; /* ms: when the watcher last went round    */
	_Atomic uint32_t stuck; /* connections that nobody closes though shut */

	/* Metrics. */
	struct ol_gauge *connections_gauge, *active_gauge;
	struct ol_counter *bytes_in, *bytes_out;
	_Atomic(struct ol_counter *) *answers; /* route * OL_HTTP_STATUS_CLASSES + status / 100 */
	struct ol_histogram *seconds;
};

int64_t ol_http_now(void); /* ms, does not jump */

/* server.c: libmicrohttpd's callbacks. */
void *ol_http_on_uri(void *self, const char *uri, struct MHD_Connection *connection);
enum MHD_Result ol_http_on_request(void *self, struct MHD_Connection *connection, const char *url,
				   const char *method, const char *version, const char *upload,
				   size_t *upload_size, void **context);
void ol_http_on_completed(void *self, struct MHD_Connection *connection, void **context,
			  enum MHD_RequestTerminationCode code);
size_t ol_http_leave_escaped(void *self, struct MHD_Connection *connection, char *text);

/* conn.c: slots. */
enum ol_status ol_conns_open(struct ol_http_server *server);
void ol_conns_close(struct ol_http_server *server);
void ol_conn_notify(void *self, struct MHD_Connection *connection, void **socket_context,
		    enum MHD_ConnectionNotificationCode code);
/* False: the watcher has given the connection up. */
bool ol_conn_enter(struct ol_http_request *request, enum ol_conn_state state, int64_t deadline);
/* Bytes that the kernel received on it; UINT64_MAX: unknown. */
uint64_t ol_conn_received(int fd);

/* watch.c: the watcher, and ending from outside. */
enum ol_status ol_watch_open(struct ol_http_server *server);
void ol_watch_close(struct ol_http_server *server);
/* The client can be told nothing more: the owner hears of it, the connection closes. */
void ol_request_drop(struct ol_http_request *request, enum ol_http_end why);
void ol_conn_nudge(struct ol_conn *conn);
void ol_watch_wake(struct ol_http_server *server);
void ol_watch_add(struct ol_http_server *server, struct ol_conn *conn, uint32_t generation);

/* request.c: life of a request. */
struct ol_http_request *ol_request_new(struct ol_http_server *server, struct ol_conn *conn,
				       struct MHD_Connection *connection, const char *uri);
void ol_request_unref(struct ol_http_request *request);
/* Tells the owner, once; the caller holds a reference and no lock. */
void ol_request_lost(struct ol_http_request *request, enum ol_http_end why);
/* Why it ends, unless that is known already. Any thread, any lock. */
void ol_request_mark(struct ol_http_request *request, enum ol_http_end why);
/* Lets libmicrohttpd go on with it. With the lock held. */
void ol_request_resume(struct ol_http_request *request);
/* Ends it with an answer or an error chunk where that can still be said. */
void ol_request_end(struct ol_http_request *request, enum ol_http_end why);
ssize_t ol_stream_read(void *self, uint64_t position, char *out, size_t room);
void ol_queue_release(struct ol_http_queue *queue);
struct ol_http_piece {
	const void *bytes;
	size_t size;
};
/* Marks it as finished by its owner, once on_gone does not run any more. With the lock held. */
void ol_request_finish(struct ol_http_request *request);

/* answer.c */
/* An error for a request that has no owner yet; stores the response. */
void ol_request_refuse(struct ol_http_request *request, int status, const char *param,
		       const char *code, const char *format, ...) OL_PRINTF(5, 6);
void ol_request_refuse_as(struct ol_http_request *request, const struct ol_http_refusal *refusal);
/* {"error":…} */
char *ol_error_json(int status, const char *type, const char *param, const char *code,
		    const char *text);
/* The whole answer as bytes, for a connection that is closed after it. */
void ol_error_bytes(struct ol_buf *out, int status, const char *id, const char *code,
		    const char *text);

/* admit.c: the checks between head and handler. True: go on. False: a refusal is stored. */
bool ol_request_check(struct ol_http_request *request, struct MHD_Connection *connection,
		      const char *method, const char *version);

/* log.c */
void ol_log_request(struct ol_http_request *request);
void ol_log_event(struct ol_http_server *server, enum ol_http_log level, const char *event,
		  const char *text);
void ol_log_metrics(struct ol_http_server *server);

#endif
