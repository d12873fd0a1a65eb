/* http/guard.h, floor 5: API keys (node/keys.h) as the transport's guard. A request's grant is its
 * const struct ol_caller. */
#ifndef OL_HTTP_GUARD_H
#define OL_HTTP_GUARD_H

#include "http/server.h"
#include "node/keys.h"

/* Borrows keys until the server is closed. */
struct ol_http_guard ol_guard_of_keys(struct ol_keys *keys);

#endif
