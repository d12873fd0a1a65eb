/* http/server.h, floor 5: the transport: HTTP/1.1 on libmicrohttpd, a table of routes, answers now
 * or later, streams, limits, and who may ask. It knows nothing of models or money.
 *
 *      bytes ── head whole ──> checks: smuggling, Host, Origin, route, limits, caller
 *                                │ refused: answered here, no handler is called
 *                                v
 *               body whole ──> route.handle(self, request)         on a server thread
 *               (or piece by     │
 *               piece: upload)   ├─ ol_http_reply…, ol_http_error  now or later, any thread
 *                                └─ ol_http_stream_begin           now or later, any thread
 *                                     ol_http_stream_push …          any thread
 *                                   ol_http_stream_end
 *
 * WHO OWNS A REQUEST. From the moment route.handle is called, the request belongs to the handler,
 * and to whomever it hands it: one owner at a time, on any thread. The owner must finish it exactly
 * once: ol_http_reply*, ol_http_error* or ol_http_stream_end. That call ends the ownership; the
 * pointer and all that was read through it (body, parameters, caller, memory of ol_http_alloc) must
 * not be touched after it. A vanished client changes none of this: the request lives until it is
 * finished, and what is sent to nobody is dropped.
 *
 * WHEN THE CLIENT VANISHES (or reads too slowly, or the server stops), on_gone is called: exactly
 * once if that happens before the owner finishes, else never; on a server thread, possibly at the
 * same time as the owner's own calls. It says "stop working", it is not a call to finish, but may
 * finish the request if it is the owner's way of doing so. A finishing call on another thread waits
 * until a running on_gone has returned, so the context may be freed after finishing. Hence: on_gone
 * must not wait for a lock that is held while a request is being finished.
 *
 * A HANDLER NEVER WAITS: the few server threads carry all connections. It must not take long, read
 * disks, or block on the model; it hands the request to its thread and returns.
 *
 * All calls on one request by its owner must not overlap (one owner at a time), except ol_http_gone
 * and ol_http_request_id, which anybody may call who knows that it is not finished yet. */
#ifndef OL_HTTP_SERVER_H
#define OL_HTTP_SERVER_H

#include "base/buf.h"
#include "base/metrics.h"

#include <jansson.h>

struct ol_http_server;
struct ol_http_request;

enum {
	OL_HTTP_ID_MAX = 40,      /* "req_…" with its NUL */
	OL_HTTP_ACCOUNT_MAX = 80, /* with the NUL */
	OL_HTTP_KEY_ID_MAX = 32,  /* with the NUL */
	OL_HTTP_PARAMS_MAX = 4,
	OL_HTTP_NOTES_MAX = 12
};

/* ---- Who asks ---------------------------------------------------------------------------- */

/* Filled by the guard; the request keeps it. */
struct ol_http_caller {
	char account[OL_HTTP_ACCOUNT_MAX]; /* "local" where no key is needed */
	char key_id[OL_HTTP_KEY_ID_MAX];   /* "" without a key; never the key itself */
	uint64_t scopes;                   /* what the key may do; all bits for "local" */
	void *grant;                       /* the guard's own, handed to leave */
};

/* Why not. Filled by the guard; status 401, 402, 403 or 429. */
struct ol_http_refusal {
	int status;
	const char *type, *code; /* static texts of OpenAI's error form; code may be NULL */
	char text[256];
	int retry_after; /* seconds; 0: no such header */
};

struct ol_http_route;

struct ol_http_guard {
	/* Called on a server thread as soon as the head is there, before any body. token: what
	 * stands behind "Authorization: Bearer ", NULL when there is none. loopback: the server
	 * listens on a loopback address only. True: *caller is filled and leave will be called
	 * exactly once. False: *refusal is filled. It is asked even for routes with scope 0; there
	 * a request without a token must be let in. It must not wait for anything slow. */
	bool (*admit)(void *self, struct ol_http_caller *caller, struct ol_http_refusal *refusal,
		      const char *token, bool loopback, const struct ol_http_route *route);
	/* When the request has been finished and its answer has gone, any thread. May be NULL. */
	void (*leave)(void *self, const struct ol_http_caller *caller);
	void *self;
};

/* ---- Routes ------------------------------------------------------------------------------ */

typedef void ol_http_handler(void *self, struct ol_http_request *request);

/* Bodies that must not lie in memory. Callbacks come in order on one server thread at a time,
 * before handle; during them the request is the callee's as if it were the owner's, but it may only
 * read it, alloc, set its context, note, and ol_http_error. To refuse: release your state,
 * ol_http_error, return false: no further callback comes, and not handle. multipart/form-data is
 * taken apart (field by field); any other body comes as one part with name "" and no filename. */
struct ol_http_part {
	/* Valid during the call; all but name may be NULL. */
	const char *name, *filename, *content_type;
};
struct ol_http_upload {
	bool (*part)(void *self, struct ol_http_request *request, const struct ol_http_part *part);
	bool (*bytes)(void *self, struct ol_http_request *request, const void *bytes, size_t size);
	/* The body will not come whole (perhaps no part of it came): release your state. The
	 * request is gone after it. */
	void (*abort)(void *self, struct ol_http_request *request);
};

struct ol_http_route {
	const char *method; /* "GET" (answers HEAD too), "POST", "DELETE", "PUT", "PATCH" */
	/* "/v1/files/{id}/content": {x} is one segment, decoded, not empty, without NUL; a last
	 * "{x*}" is all the rest, slashes and all. Fixed segments win over parameters. */
	const char *path;
	uint64_t scope;    /* what the caller's key must have; 0: open to everybody */
	uint64_t body_max; /* bytes; more is answered 413. 0: a body is refused */
	ol_http_handler *handle;
	void *self;
	const struct ol_http_upload *upload; /* NULL: the body is gathered in memory */
};

/* ---- The server -------------------------------------------------------------------------- */

/* 0 stands for the default, named beside. Times are in milliseconds. */
struct ol_http_limits {
	uint32_t connections_max; /* 4,096; more are answered 503                             */
	uint32_t per_address_max; /* of one client; 256, or all on loopback; more are 429      */
	uint32_t requests_max;    /* on one connection, then it is closed; 10,000              */
	uint32_t head_max;        /* bytes of request line and headers; 16 KiB, at most 24; 431 */
	uint32_t uri_max;         /* bytes; 4 KiB; 414                                         */
	uint32_t headers_max;     /* fields; 64; 431                                           */
	uint32_t head_time;       /* until the head is whole; 10 s; 408                        */
	uint32_t idle_time;       /* between requests; 60 s                                    */
	uint32_t body_time;  /* until the body is whole, beside its bytes / rate_min; 30 s; 408 */
	uint32_t rate_min;   /* bytes a second that body and answer must make; 1 KiB      */
	uint32_t stall_time; /* a stream whose reader takes nothing; 30 s                 */
	uint32_t stream_queue_max; /* bytes pushed and not yet taken; 256 KiB                  */
	uint64_t memory_max;       /* bodies gathered in memory, all together; 256 MiB; 503    */
};

enum ol_http_log { OL_HTTP_LOG_OFF, OL_HTTP_LOG_ERROR, OL_HTTP_LOG_INFO, OL_HTTP_LOG_DEBUG };
/* "off", "error" (answers of 500 and more), "info" (every request), "debug". -1: no such level. */
int ol_http_log_level(const char *name);

struct ol_http_options {
	const char
		*address; /* "127.0.0.1" when NULL; a numeric IPv4 or IPv6 address, "localhost" */
	uint16_t port;    /* 0: any; ol_http_server_port tells which */
	int threads;      /* 2 when 0 */
	const char *const *names; /* further host names clients may use: "openledger.example.org" */
	size_t name_count;
	const char *const
		*origins; /* web pages elsewhere that may ask: "https://app.example.org" */
	size_t origin_count;
	const struct ol_http_route *routes; /* borrowed until close, as is all they point at */
	size_t route_count;
	struct ol_http_limits limits;
	/* admit NULL: everybody is "local", which is allowed on loopback addresses only. */
	struct ol_http_guard guard;
	struct ol_metrics *metrics; /* may be NULL */
	enum ol_http_log log;
	/* Gets whole lines of JSON with their newline, any thread; NULL: stderr. */
	void (*log_write)(void *context, const char *line, size_t size);
	void *log_context;
};

/* Starts to listen and to answer. OL_ERR_INPUT for a bad address, table or option; OL_ERR_IO when
 * the address cannot be had. */
OL_MUST_CHECK enum ol_status ol_http_server_open(struct ol_http_server **server_out,
						 const struct ol_http_options *options,
						 struct ol_error *err);
uint16_t ol_http_server_port(const struct ol_http_server *server);
/* "http://127.0.0.1:8080" */
const char *ol_http_server_url(const struct ol_http_server *server);

/* False when the server's own threads do not get on: for a watchdog. */
bool ol_http_server_healthy(const struct ol_http_server *server);

/* Takes no more connections, lets what is under way end for drain_ms, then ends the rest: streams
 * with an error chunk, waiting requests with 503; their on_gone is called, and their owners still
 * have to finish them. When it returns, no client is connected. May be called once, not from a
 * handler. */
void ol_http_server_stop(struct ol_http_server *server, uint32_t drain_ms);
/* Ends all that runs under a key: streams with an error chunk, waiting requests with 401; their
 * on_gone is called. Any thread. */
void ol_http_server_revoke(struct ol_http_server *server, const char *key_id);
/* stop (without drain, if it was not called) and release. Every request must have been finished:
 * close the services that own requests between stop and close. */
void ol_http_server_close(struct ol_http_server *server);

/* True for 127.0.0.0/8, ::1 and "localhost". */
bool ol_http_is_loopback(const char *address);

/* ---- Reading a request (owner) ------------------------------------------------------------ */

const char *ol_http_request_id(const struct ol_http_request *request);
const struct ol_http_caller *ol_http_caller(const struct ol_http_request *request);
const struct ol_http_route *ol_http_route(const struct ol_http_request *request);
const char *ol_http_path(const struct ol_http_request *request); /* as sent, without the query */
/* NULL when there is none. Parameters and query values are decoded and hold no NUL. */
const char *ol_http_param(const struct ol_http_request *request, const char *name);
const char *ol_http_query(const struct ol_http_request *request, const char *name);
const char *ol_http_header(const struct ol_http_request *request, const char *name);
/* NUL-terminated beyond size; "" when there is none or it went to upload. */
const char *ol_http_body(const struct ol_http_request *request, size_t *size_out);
/* Body as one JSON value; on failure answers 400 itself (finishes the request) and gives NULL. */
OL_MUST_CHECK json_t *ol_http_body_json(struct ol_http_request *request);
/* Zeroed, 16-byte aligned memory that lives as long as the request; NULL: out of memory. */
OL_MUST_CHECK void *ol_http_alloc(struct ol_http_request *request, size_t size);
/* One pointer of the owner's. */
void ol_http_set_context(struct ol_http_request *request, void *context);
void *ol_http_context(const struct ol_http_request *request);

/* Tells when the client is gone (see above). If it is gone already, on_gone is called at once, on
 * this thread. NULL takes it back; then none is running any more. */
typedef void ol_http_gone_fn(void *context, struct ol_http_request *request);
void ol_http_on_gone(struct ol_http_request *request, ol_http_gone_fn *on_gone, void *context);
bool ol_http_gone(const struct ol_http_request *request);

/* Fields for the log line of this request: "model", "prompt_tokens". key must be a static text;
 * never a prompt, never a secret. */
void ol_http_note(struct ol_http_request *request, const char *key, const char *text);
void ol_http_note_number(struct ol_http_request *request, const char *key, int64_t number);

/* ---- Answering (owner) -------------------------------------------------------------------- */

/* Before the answer; both are copied. Control characters in value are refused (our bug). */
void ol_http_set_header(struct ol_http_request *request, const char *name, const char *value);

/* Each of these finishes the request. type: "application/json". */
void ol_http_reply(struct ol_http_request *request, int status, const char *type, const void *bytes,
		   size_t size);
/* The bytes are not copied: they live as long as the server. */
void ol_http_reply_static(struct ol_http_request *request, int status, const char *type,
			  const void *bytes, size_t size);
/* Takes what is in buf and leaves it empty. A failed buf (see base/buf.h) is answered 500. */
void ol_http_reply_buf(struct ol_http_request *request, int status, const char *type,
		       struct ol_buf *buf);
/* Takes the reference. */
void ol_http_reply_json(struct ol_http_request *request, int status, json_t *object);
/* size bytes from offset of a regular file; takes the descriptor. */
void ol_http_reply_file(struct ol_http_request *request, int status, const char *type, int fd,
			uint64_t offset, uint64_t size);
/* {"error":{"message","type","param","code"}}; param and code may be NULL. */
void ol_http_error(struct ol_http_request *request, int status, const char *type, const char *param,
		   const char *code, const char *format, ...) OL_PRINTF(6, 7);
/* The same with a Retry-After header: status 429 or 503. */
void ol_http_error_later(struct ol_http_request *request, int status, int seconds, const char *type,
			 const char *code, const char *format, ...) OL_PRINTF(6, 7);
/* The world's failure: 400, 404, 429, 500, 501 or 503 by its status, in its words (but for
 * OL_ERR_IO, whose words are for the log). */
void ol_http_error_from(struct ol_http_request *request, const struct ol_error *err);
/* The same about a parameter (NULL: none): what is not found or wrong has a code. */
void ol_http_error_about(struct ol_http_request *request, const struct ol_error *err,
			 const char *param, const char *not_found_code);
/* The usual type for a status: "invalid_request_error", "server_error", … */
const char *ol_http_error_type(int status);

/* ---- Streams (owner) ---------------------------------------------------------------------- */

/* Sends the head; type is "text/event-stream" or another that may be cut anywhere. */
void ol_http_stream_begin(struct ol_http_request *request, int status, const char *type);
/* Queues bytes, never waits. False: the client is gone or too slow (the queue stood over its limit,
 * or nothing was taken for stall_time), and will get no more: stop, and end. */
OL_MUST_CHECK bool ol_http_stream_push(struct ol_http_request *request, const void *bytes,
				       size_t size);
/* "data: " + bytes + "\n\n". The bytes must hold no newline (JSON_COMPACT does not). */
OL_MUST_CHECK bool ol_http_stream_event(struct ol_http_request *request, const void *bytes,
					size_t size);
/* Queues `data: {"error": …}`, whatever the limit. */
void ol_http_stream_error(struct ol_http_request *request, int status, const char *code,
			  const char *format, ...) OL_PRINTF(4, 5);
/* Finishes the request; what is queued is still sent. */
void ol_http_stream_end(struct ol_http_request *request);

#endif
