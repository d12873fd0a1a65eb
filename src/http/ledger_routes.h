/* http/ledger_routes.h, floor 5: receipts, the public log, balances and prices.
 *
 *     GET  /v1/receipts/{id}            the receipt: its numbers, and its bytes in base64
 *     GET  /v1/receipts/{id}/proof      that it stands in the log (c2sp.org/tlog-proof)
 *     GET  /v1/events/{id}              any event of the log, as bytes in base64
 *     GET  /v1/log                      origin, key, size and root of the newest checkpoint
 *     GET  /log/{path*}                 the log's files (c2sp.org/tlog-tiles)
 *     GET  /v1/account                  what the asking account has
 *     POST /v1/listings                 a model's price and split (admin)
 *     POST /v1/grants                   test credit (admin)
 *     POST /v1/epochs/close             contributors are paid now; {"early": true}: for the
 *                                       present hour too (admin)
 *     GET  /v1/shares/{root}            a share table: who shaped an answer, or an epoch
 *     GET  /v1/accounts/{address}       what an account has (one's own, or admin)
 *
 * Everything but accounts is public: a log that only some may read proves nothing. What is not
 * in the index yet is waited for, a moment. */
#ifndef OL_HTTP_LEDGER_ROUTES_H
#define OL_HTTP_LEDGER_ROUTES_H

#include "http/server.h"
#include "node/economy.h"

enum { OL_LEDGER_ROUTES = 11 };

struct ol_ledger_api;
/* Borrows the economy. Close it after the server has stopped and before it is closed. */
OL_MUST_CHECK enum ol_status ol_ledger_api_open(struct ol_ledger_api **api_out,
						struct ol_economy *economy, struct ol_error *err);
void ol_ledger_api_close(struct ol_ledger_api *api);
void ol_ledger_routes(struct ol_http_route out[OL_LEDGER_ROUTES], struct ol_ledger_api *api);

#endif
