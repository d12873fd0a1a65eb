/* http/later.h, floor 5: work that a handler must not do itself, because it touches the disk: one
 * thread that does one thing after another. */
#ifndef OL_HTTP_LATER_H
#define OL_HTTP_LATER_H

#include "http/server.h"

enum { OL_LATER_MAX = 1024 }; /* waiting; more are refused */

struct ol_later;

OL_MUST_CHECK enum ol_status ol_later_open(struct ol_later **later_out, struct ol_error *err);
/* Does what waits, then ends. NULL is allowed. */
void ol_later_close(struct ol_later *later);
/* False: too much waits. */
OL_MUST_CHECK bool ol_later_push(struct ol_later *later, void (*run)(void *context), void *context);

/* ---- Routes whose handlers run there ---- */

/* One per route; what route.self points at. */
struct ol_later_route {
	struct ol_later *later;
	ol_http_handler *handle; /* on the thread */
	void *self;
};
/* Hands the request over; false: too much waits, and it is still the caller's. */
OL_MUST_CHECK bool ol_later_hand_over(const struct ol_later_route *route,
				      struct ol_http_request *request);
/* Answers that. */
void ol_later_refuse(struct ol_http_request *request);
/* For route.handle, with an ol_later_route as self: one or the other. */
void ol_later_handle(void *self, struct ol_http_request *request);

#endif
