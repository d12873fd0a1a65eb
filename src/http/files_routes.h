/* http/files_routes.h, floor 5: /v1/files, in OpenAI's shapes.
 *
 *     POST   /v1/files                upload: multipart, `file` and `purpose`
 *     GET    /v1/files                list: after, limit, order, purpose
 *     GET    /v1/files/{id}           retrieve
 *     GET    /v1/files/{id}/content   what was uploaded
 *     DELETE /v1/files/{id}
 *
 * An upload goes to the disk piece by piece as it comes; reading it as training data, and whatever
 * asks the store, is done on threads of its own. */
#ifndef OL_HTTP_FILES_ROUTES_H
#define OL_HTTP_FILES_ROUTES_H

#include "http/server.h"
#include "node/files.h"

enum { OL_FILES_ROUTES = 5 };

struct ol_files_api;
/* Borrows files. Close it after the server has stopped and before it is closed. */
OL_MUST_CHECK enum ol_status ol_files_api_open(struct ol_files_api **api_out,
					       struct ol_files *files, struct ol_error *err);
void ol_files_api_close(struct ol_files_api *api);
void ol_files_routes(struct ol_http_route out[OL_FILES_ROUTES], struct ol_files_api *api);

/* A query parameter as a number in [low, high]; absent: otherwise. False: refused (400), the
 * request is finished. */
OL_MUST_CHECK bool ol_query_number(struct ol_http_request *request, int *out, const char *name,
				   int low, int high, int otherwise);

#endif
