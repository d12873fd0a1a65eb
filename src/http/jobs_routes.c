#include "http/jobs_routes.h"

#include "http/files_routes.h"
#include "http/later.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 20, PAGE_MAX = 1000, STREAM_PAGE = 64, ANSWER_MAX = 64 << 10 };

/* One client that listens. Lies in its request's memory. */
struct stream {
	struct stream *next;
	struct ol_jobs_api *api;
	struct ol_http_request *request;
	char account[OL_HTTP_ACCOUNT_MAX];
	char job[OL_JOB_ID_CHARS + 1];
	int64_t last; /* event that was sent */
};

struct ol_jobs_api {
	struct ol_jobs *jobs;
	struct ol_idempotency *idempotency;
	struct ol_later *later;
	struct stream *streams; /* the thread's alone */
	int stream_count;
	atomic_bool pump_waits; /* a round is in the queue already */
	struct ol_later_route create, list, get, cancel, pause, resume, events, checkpoints;
};

static const char *account_of(const struct ol_http_request *request)
{
	return ol_http_caller(request)->account;
}

/* ---- Create, with Idempotency-Key ---- */

/* An answer that is kept before it is sent. Lies in its request's memory. */
struct keeping {
	struct ol_jobs_api *api;
	struct ol_http_request *request;
	char *text;
	size_t size;
};

static void send_kept(void *context, enum ol_status status)
{
	struct keeping *k = context;
	char *text = k->text;
	(void)status; /* kept or not, the job is made: the client must know its id */
	ol_http_reply(k->request, 200, "application/json", text, k->size);
	free(text);
}

static void answer_create(struct ol_jobs_api *api, struct ol_http_request *request,
			  struct ol_lease *lease, json_t *job)
{
	struct keeping *k = lease ? ol_http_alloc(request, sizeof *k) : NULL;
	ol_http_note(request, "job", json_string_value(json_object_get(job, "id")));
	if (k)
		*k = (struct keeping){.api = api,
				      .request = request,
				      .text = json_dumps(job, JSON_COMPACT | JSON_PRESERVE_ORDER)};
	if (!k || !k->text) {
		if (lease)
			ol_idempotency_release(lease);
		ol_http_reply_json(request, 200, job);
		return;
	}
	json_decref(job);
	k->size = strlen(k->text);
	ol_idempotency_append(lease, k->text, k->size);
	ol_idempotency_finish(lease, 200, "application/json", send_kept, k);
}

static void create_once(struct ol_jobs_api *api, struct ol_http_request *request,
			struct ol_lease *lease)
{
	struct ol_job_refusal refusal = {.field = ""};
	json_t *job = NULL, *body = ol_http_body_json(request);
	if (!body) {
		if (lease)
			ol_idempotency_release(lease);
		return;
	}
	const enum ol_status s =
		ol_jobs_create(api->jobs, &job, account_of(request), body, &refusal);
	json_decref(body);
	if (s == OL_OK) {
		answer_create(api, request, lease, job);
		return;
	}
	/* A refusal has made nothing: asked again, it is judged again. */
	if (lease)
		ol_idempotency_release(lease);
	const char *param = *refusal.field ? refusal.field : NULL;
	if (s == OL_ERR_NOT_FOUND)
		ol_http_error(request, 404, "invalid_request_error", param,
			      param && strcmp(param, "model") == 0 ? "model_not_found"
								   : "file_not_found",
			      "%s", refusal.error.text);
	else if (s == OL_ERR_FULL)
		ol_http_error_later(request, 429, 60, "requests", "too_many_jobs", "%s",
				    refusal.error.text);
	else
		ol_http_error_about(request, &refusal.error, param, "fine_tune_not_found");
}

static void create(void *self, struct ol_http_request *request);

static void begin_again(void *context)
{
	struct keeping *k = context;
	create(k->api, k->request);
}

/* The first request with this key is done. */
static void on_ready(void *context, enum ol_idempotency_verdict verdict, const struct ol_kept *kept)
{
	struct keeping *k = context;
	const struct ol_idempotency_row *row = ol_idempotency_row(verdict);
	if (verdict == OL_IDEMPOTENCY_REPLAY) {
		ol_http_set_header(k->request, OL_IDEMPOTENCY_REPLAYED, "true");
		ol_http_reply(k->request, kept->status, kept->type, kept->body, kept->size);
	} else if (verdict == OL_IDEMPOTENCY_AGAIN) {
		if (!ol_later_push(k->api->later, begin_again, k))
			ol_later_refuse(k->request);
	} else {
		ol_http_error(k->request, row->http, row->type, NULL, row->code, "%s",
			      row->sentence);
	}
}

static void create(void *self, struct ol_http_request *request)
{
	struct ol_jobs_api *api = self;
	const char *key = ol_http_header(request, "idempotency-key");
	struct ol_lease *lease = NULL;
	uint8_t print[OL_SHA256_BYTES];
	size_t size;
	if (!key || !api->idempotency) {
		create_once(api, request, NULL);
		return;
	}
	struct keeping *k = ol_http_alloc(request, sizeof *k);
	if (!k) {
		ol_later_refuse(request);
		return;
	}
	*k = (struct keeping){.api = api, .request = request};
	const char *body = ol_http_body(request, &size);
	ol_idempotency_fingerprint(print, "POST", ol_http_path(request), body, size);
	const enum ol_idempotency_verdict verdict = ol_idempotency_begin(
		api->idempotency, &lease, account_of(request), key, print, ANSWER_MAX, on_ready, k);
	const struct ol_idempotency_row *row = ol_idempotency_row(verdict);
	if (verdict == OL_IDEMPOTENCY_NEW)
		create_once(api, request, lease);
	else if (verdict != OL_IDEMPOTENCY_WAIT)
		ol_http_error(request, row->http, row->type, NULL, row->code, "%s", row->sentence);
}

/* ---- Read ---- */

static void get_job(void *self, struct ol_http_request *request)
{
	struct ol_jobs_api *api = self;
	struct ol_error err;
	json_t *job;
	if (ol_jobs_get(api->jobs, &job, account_of(request), ol_http_param(request, "id"), &err) ==
	    OL_OK)
		ol_http_reply_json(request, 200, job);
	else
		ol_http_error_about(request, &err, "fine_tuning_job_id", "fine_tune_not_found");
}

static void list_jobs(void *self, struct ol_http_request *request)
{
	struct ol_jobs_api *api = self;
	struct ol_error err;
	json_t *list;
	int limit;
	if (!ol_query_number(request, &limit, "limit", 1, PAGE_MAX, PAGE))
		return;
	if (ol_jobs_list(api->jobs, &list, account_of(request), ol_http_query(request, "after"),
			 limit, &err) == OL_OK)
		ol_http_reply_json(request, 200, list);
	else
		ol_http_error_about(request, &err, "after", "fine_tune_not_found");
}

static void list_checkpoints(void *self, struct ol_http_request *request)
{
	struct ol_jobs_api *api = self;
	struct ol_error err;
	json_t *list;
	int limit;
	if (!ol_query_number(request, &limit, "limit", 1, PAGE_MAX, 10))
		return;
	if (ol_jobs_checkpoints(api->jobs, &list, account_of(request), ol_http_param(request, "id"),
				ol_http_query(request, "after"), limit, &err) == OL_OK)
		ol_http_reply_json(request, 200, list);
	else
		ol_http_error_about(request, &err,
				    err.status == OL_ERR_INPUT ? "after" : "fine_tuning_job_id",
				    "fine_tune_not_found");
}

static void act(struct ol_jobs_api *api, struct ol_http_request *request, enum ol_job_action action)
{
	struct ol_error err;
	json_t *job;
	if (ol_jobs_act(api->jobs, &job, account_of(request), ol_http_param(request, "id"), action,
			&err) == OL_OK)
		ol_http_reply_json(request, 200, job);
	else
		ol_http_error_about(request, &err, "fine_tuning_job_id", "fine_tune_not_found");
}

static void cancel_job(void *self, struct ol_http_request *request)
{
	act(self, request, OL_JOB_CANCEL);
}

static void pause_job(void *self, struct ol_http_request *request)
{
	act(self, request, OL_JOB_PAUSE);
}

static void resume_job(void *self, struct ol_http_request *request)
{
	act(self, request, OL_JOB_RESUME);
}

/* ---- Events ---- */

/* False: the stream is over, and its request finished. */
static bool send_news(struct stream *s)
{
	for (;;) {
		struct ol_error err;
		json_t *events;
		bool over = false, open = !ol_http_gone(s->request);
		if (open && ol_jobs_news(s->api->jobs, &events, &s->last, &over, s->account, s->job,
					 STREAM_PAGE, &err) != OL_OK) {
			ol_http_stream_error(s->request, 500, "server_error", "%s",
					     "The events cannot be read.");
			open = false;
			events = NULL;
		}
		const size_t count = open ? json_array_size(events) : 0;
		for (size_t i = 0; open && i < count; i++) {
			char *text = json_dumps(json_array_get(events, i),
						JSON_COMPACT | JSON_PRESERVE_ORDER);
			open = text && ol_http_stream_event(s->request, text, strlen(text));
			free(text);
		}
		if (count > 0 || open)
			json_decref(events);
		/* Whether the last word still fits changes nothing. */
		if (open && over && ol_http_stream_event(s->request, "[DONE]", 6))
			over = true;
		if (!open || over) {
			ol_http_stream_end(s->request);
			return false;
		}
		if (count < STREAM_PAGE)
			return true;
	}
}

static void pump(void *context)
{
	struct ol_jobs_api *api = context;
	atomic_store(&api->pump_waits, false);
	for (struct stream **at = &api->streams; *at;) {
		struct stream *next = (*at)->next; /* its memory ends with its request */
		if (send_news(*at)) {
			at = &(*at)->next;
		} else {
			*at = next;
			api->stream_count--;
		}
	}
}

/* From any thread: another round, unless one waits already. */
static void ask_for_round(struct ol_jobs_api *api)
{
	if (!atomic_exchange(&api->pump_waits, true) && !ol_later_push(api->later, pump, api))
		atomic_store(&api->pump_waits, false);
}

static void on_event(void *context)
{
	ask_for_round(context);
}

static void on_gone(void *context, struct ol_http_request *request)
{
	(void)request;
	ask_for_round(context);
}

static void begin_stream(struct ol_jobs_api *api, struct ol_http_request *request, json_t *job)
{
	int of_account = 0;
	for (const struct stream *s = api->streams; s; s = s->next)
		of_account += strcmp(s->account, account_of(request)) == 0;
	struct stream *s = ol_http_alloc(request, sizeof *s);
	if (!s || api->stream_count >= OL_JOBS_STREAMS_MAX ||
	    of_account >= OL_JOBS_ACCOUNT_STREAMS_MAX) {
		json_decref(job);
		ol_http_error_later(request, 429, 10, "requests", "too_many_streams",
				    "Too many streams of events are open.");
		return;
	}
	s->api = api;
	s->request = request;
	snprintf(s->account, sizeof s->account, "%s", account_of(request));
	snprintf(s->job, sizeof s->job, "%s", json_string_value(json_object_get(job, "id")));
	json_decref(job);
	ol_http_stream_begin(request, 200, "text/event-stream");
	ol_http_on_gone(request, on_gone, api);
	if (send_news(s)) {
		s->next = api->streams;
		api->streams = s;
		api->stream_count++;
	}
}

static void list_events(void *self, struct ol_http_request *request)
{
	struct ol_jobs_api *api = self;
	const char *id = ol_http_param(request, "id"), *stream = ol_http_query(request, "stream");
	struct ol_error err;
	json_t *list;
	int limit;
	if (stream && strcmp(stream, "true") == 0) {
		if (ol_jobs_get(api->jobs, &list, account_of(request), id, &err) == OL_OK)
			begin_stream(api, request, list);
		else
			ol_http_error_about(request, &err, "fine_tuning_job_id",
					    "fine_tune_not_found");
		return;
	}
	if (!ol_query_number(request, &limit, "limit", 1, PAGE_MAX, PAGE))
		return;
	if (ol_jobs_events(api->jobs, &list, account_of(request), id,
			   ol_http_query(request, "after"), limit, &err) == OL_OK)
		ol_http_reply_json(request, 200, list);
	else
		ol_http_error_about(request, &err,
				    err.status == OL_ERR_INPUT ? "after" : "fine_tuning_job_id",
				    "fine_tune_not_found");
}

/* ---- The table ---- */

enum ol_status ol_jobs_api_open(struct ol_jobs_api **api_out, struct ol_jobs *jobs,
				struct ol_idempotency *idempotency, struct ol_error *err)
{
	struct ol_jobs_api *api = calloc(1, sizeof *api);
	if (!api)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the jobs' routes");
	api->jobs = jobs;
	api->idempotency = idempotency;
	const enum ol_status s = ol_later_open(&api->later, err);
	if (s != OL_OK) {
		free(api);
		return s;
	}
	api->create = (struct ol_later_route){api->later, create, api};
	api->list = (struct ol_later_route){api->later, list_jobs, api};
	api->get = (struct ol_later_route){api->later, get_job, api};
	api->cancel = (struct ol_later_route){api->later, cancel_job, api};
	api->pause = (struct ol_later_route){api->later, pause_job, api};
	api->resume = (struct ol_later_route){api->later, resume_job, api};
	api->events = (struct ol_later_route){api->later, list_events, api};
	api->checkpoints = (struct ol_later_route){api->later, list_checkpoints, api};
	ol_jobs_watch(jobs, on_event, api);
	*api_out = api;
	return OL_OK;
}

void ol_jobs_api_close(struct ol_jobs_api *api)
{
	if (!api)
		return;
	ol_jobs_watch(api->jobs, NULL, NULL);
	ol_later_close(api->later);
	/* The server has stopped: whoever listened is gone. */
	for (struct stream *s = api->streams, *next; s; s = next) {
		next = s->next;
		ol_http_stream_end(s->request);
	}
	free(api);
}

void ol_jobs_routes(struct ol_http_route out[OL_JOBS_ROUTES], struct ol_jobs_api *api)
{
	const uint64_t scope = OL_SCOPE_JOBS;
#define JOBS "/v1/fine_tuning/jobs"
	const struct ol_http_route routes[OL_JOBS_ROUTES] = {
		{"POST", JOBS, scope, OL_JOB_REQUEST_MAX, ol_later_handle, &api->create, NULL},
		{"GET", JOBS, scope, 0, ol_later_handle, &api->list, NULL},
		{"GET", JOBS "/{id}", scope, 0, ol_later_handle, &api->get, NULL},
		{"POST", JOBS "/{id}/cancel", scope, 1024, ol_later_handle, &api->cancel, NULL},
		{"POST", JOBS "/{id}/pause", scope, 1024, ol_later_handle, &api->pause, NULL},
		{"POST", JOBS "/{id}/resume", scope, 1024, ol_later_handle, &api->resume, NULL},
		{"GET", JOBS "/{id}/events", scope, 0, ol_later_handle, &api->events, NULL},
		{"GET", JOBS "/{id}/checkpoints", scope, 0, ol_later_handle, &api->checkpoints,
		 NULL},
	};
	memcpy(out, routes, sizeof routes);
}
