/* http/witness_routes.h, floor 5: a witness's two requests, as c2sp.org/tlog-witness has them:
 *
 *     POST /add-checkpoint                  cosigns, or says why not (ledger/witness.h)
 *     GET  /SHA-256 of origin/checkpoint    what it cosigned last
 *
 * A witness is a process of its own with nothing else to do, so these handlers write to the disk
 * themselves: a log waits for its cosignature, nobody else for the log. */
#ifndef OL_HTTP_WITNESS_ROUTES_H
#define OL_HTTP_WITNESS_ROUTES_H

#include "http/server.h"
#include "ledger/witness.h"

enum { OL_WITNESS_ROUTES = 2 };

/* Fills the table; the witness is borrowed. */
void ol_witness_routes(struct ol_http_route routes[OL_WITNESS_ROUTES], struct ol_witness *witness);

/* Lets everybody ask: what a witness says is public, and it signs nothing that is not. */
struct ol_http_guard ol_witness_guard(void);

#endif
