/* http/jobs_routes.h, floor 5: /v1/fine_tuning/jobs, in OpenAI's shapes.
 *
 *     POST /v1/fine_tuning/jobs                     create
 *     GET  /v1/fine_tuning/jobs                     list: after, limit
 *     GET  /v1/fine_tuning/jobs/{id}                retrieve
 *     POST /v1/fine_tuning/jobs/{id}/cancel, /pause, /resume
 *     GET  /v1/fine_tuning/jobs/{id}/events         list: after, limit; with ?stream=true they come
 *                                                   as they happen (SSE), the old ones first, until
 *                                                   the job is over
 *     GET  /v1/fine_tuning/jobs/{id}/checkpoints    list: after, limit
 *
 * All of it runs on a thread of its own, which asks the store; create heeds Idempotency-Key. */
#ifndef OL_HTTP_JOBS_ROUTES_H
#define OL_HTTP_JOBS_ROUTES_H

#include "http/server.h"
#include "node/idempotency.h"
#include "node/jobs.h"

enum { OL_JOBS_ROUTES = 8, OL_JOBS_STREAMS_MAX = 256, OL_JOBS_ACCOUNT_STREAMS_MAX = 16 };

struct ol_jobs_api;
/* Borrows both; idempotency may be NULL. Close it after the server has stopped, and before server,
 * jobs and idempotency are closed. It watches the jobs (ol_jobs_watch). */
OL_MUST_CHECK enum ol_status ol_jobs_api_open(struct ol_jobs_api **api_out, struct ol_jobs *jobs,
					      struct ol_idempotency *idempotency,
					      struct ol_error *err);
void ol_jobs_api_close(struct ol_jobs_api *api);
void ol_jobs_routes(struct ol_http_route out[OL_JOBS_ROUTES], struct ol_jobs_api *api);

#endif
