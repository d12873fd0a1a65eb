/* http/routes.h, floor 5: which route is meant by a method and a path. */
#ifndef OL_HTTP_ROUTES_H
#define OL_HTTP_ROUTES_H

#include "http/server.h"

struct ol_routes;

/* A name in the pattern, and where its value stands in the path, still encoded. */
struct ol_http_param {
	const char *name;
	size_t name_size;
	const char *raw;
	size_t raw_size;
	char *value; /* decoded; filled by the caller */
};

enum ol_route_match { OL_ROUTE_FOUND, OL_ROUTE_NO_PATH, OL_ROUTE_NO_METHOD };

/* Compiles the patterns; OL_ERR_INPUT names the one that is malformed or there twice. The table is
 * borrowed. */
OL_MUST_CHECK enum ol_status ol_routes_open(struct ol_routes **routes_out,
					    const struct ol_http_route *table, size_t count,
					    struct ol_error *err);
void ol_routes_close(struct ol_routes *routes);
/* NO_METHOD: allow holds the methods there are, as the Allow header wants them. */
enum ol_route_match ol_routes_find(const struct ol_routes *routes,
				   const struct ol_http_route **route_out,
				   struct ol_http_param params[OL_HTTP_PARAMS_MAX],
				   int *param_count, char allow[128], const char *method,
				   const char *path);

/* Decodes %XX into out (as long as text, plus one), and '+' too when form is set. False: malformed,
 * or a NUL. */
OL_MUST_CHECK bool ol_percent_decode(char *out, const char *text, size_t size, bool form);

#endif
