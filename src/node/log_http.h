/* node/log_http.h, floor 4: other people's logs and witnesses over HTTP, by libcurl.
 *
 * Only http and https, no redirects, no more bytes than the caller has room for, and an end to
 * waiting: what answers may be anybody. */
#ifndef OL_NODE_LOG_HTTP_H
#define OL_NODE_LOG_HTTP_H

#include "ledger/log_store.h"

enum { OL_LOG_HTTP_TIMEOUT_MS = 20000, OL_LOG_HTTP_CONNECT_MS = 5000 };

/* The public files of a log under a URL; keeps its connection. One thread at a time. */
struct ol_log_http;
OL_MUST_CHECK enum ol_status ol_log_http_open(struct ol_log_http **http_out, const char *url,
					      struct ol_error *err);
void ol_log_http_close(struct ol_log_http *http);
struct ol_log_source ol_log_http_source(struct ol_log_http *http);

/* POSTs a body and appends the answer's to reply. IO: nobody answered within timeout_ms. */
OL_MUST_CHECK enum ol_status ol_log_http_post(struct ol_log_http *http, int *status_out,
					      struct ol_buf *reply, const char *name,
					      const void *body, size_t size, long timeout_ms,
					      struct ol_error *err);

#endif
