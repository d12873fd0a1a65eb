#include "http/witness_routes.h"

#include <stdio.h>
#include <string.h>

static void add_checkpoint(void *self, struct ol_http_request *request)
{
	struct ol_buf reply;
	size_t size;
	const char *body = ol_http_body(request, &size);
	ol_buf_init(&reply, OL_NOTE_BYTES_MAX);
	const enum ol_witness_answer answer = ol_witness_add(self, &reply, body, size);
	ol_http_reply_buf(request, (int)answer,
			  answer == OL_WITNESS_CONFLICT ? "text/x.tlog.size"
							: "text/plain; charset=utf-8",
			  &reply);
	ol_buf_release(&reply);
}

static void get_checkpoint(void *self, struct ol_http_request *request)
{
	static const char none[] = "no checkpoint of this log was cosigned here\n";
	struct ol_buf note;
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	if (ol_witness_checkpoint(self, &note, ol_http_param(request, "origin"))) {
		ol_http_set_header(request, "Cache-Control", "no-cache");
		ol_http_reply_buf(request, 200, "text/plain; charset=utf-8", &note);
	} else {
		ol_http_reply(request, 404, "text/plain; charset=utf-8", none, sizeof none - 1);
	}
	ol_buf_release(&note);
}

void ol_witness_routes(struct ol_http_route routes[OL_WITNESS_ROUTES], struct ol_witness *witness)
{
	routes[0] = (struct ol_http_route){.method = "POST",
					   .path = "/add-checkpoint",
					   .body_max = OL_WITNESS_REQUEST_MAX,
					   .handle = add_checkpoint,
					   .self = witness};
	routes[1] = (struct ol_http_route){.method = "GET",
					   .path = "/{origin}/checkpoint",
					   .handle = get_checkpoint,
					   .self = witness};
}

static bool admit(void *self, struct ol_http_caller *caller, struct ol_http_refusal *refusal,
		  const char *token, bool loopback, const struct ol_http_route *route)
{
	(void)self;
	(void)refusal;
	(void)token;
	(void)loopback;
	(void)route;
	memset(caller, 0, sizeof *caller);
	snprintf(caller->account, sizeof caller->account, "anybody");
	return true;
}

struct ol_http_guard ol_witness_guard(void)
{
	return (struct ol_http_guard){.admit = admit};
}
