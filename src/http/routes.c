#include "http/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS_MAX = 12 };

enum segment_kind { FIXED, PARAM, REST };

struct segment {
	enum segment_kind kind;
	const char *text; /* the name, for parameters */
	size_t size;
};

struct pattern {
	struct segment segments[SEGMENTS_MAX];
	int count;
};

struct ol_routes {
	const struct ol_http_route *table;
	size_t count;
	struct pattern patterns[];
};

/* "/a/b" is the segments "a" and "b"; "/" is one empty segment. */
static bool compile(struct pattern *pattern, const char *path)
{
	int params = 0;
	if (*path != '/')
		return false;
	while (*path == '/') {
		const size_t size = strcspn(++path, "/");
		struct segment *s = &pattern->segments[pattern->count];
		if (pattern->count++ == SEGMENTS_MAX)
			return false;
		*s = (struct segment){FIXED, path, size};
		if (size > 2 && path[0] == '{' && path[size - 1] == '}') {
			const bool rest = path[size - 2] == '*';
			*s = (struct segment){rest ? REST : PARAM, path + 1, size - 2 - rest};
			if (s->size == 0 || ++params > OL_HTTP_PARAMS_MAX ||
			    (rest && path[size] != '\0'))
				return false;
		} else if (memchr(path, '{', size) || memchr(path, '}', size)) {
			return false;
		}
		path += size;
	}
	return *path == '\0';
}

static bool same_pattern(const struct pattern *a, const struct pattern *b)
{
	bool same = a->count == b->count;
	for (int i = 0; same && i < a->count; i++) {
		const struct segment *x = &a->segments[i], *y = &b->segments[i];
		same = x->kind == y->kind &&
		       (x->kind != FIXED ||
			(x->size == y->size && memcmp(x->text, y->text, x->size) == 0));
	}
	return same;
}

enum ol_status ol_routes_open(struct ol_routes **routes_out, const struct ol_http_route *table,
			      size_t count, struct ol_error *err)
{
	struct ol_routes *routes = calloc(1, sizeof *routes + count * sizeof routes->patterns[0]);
	*routes_out = NULL;
	if (!routes)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu routes", count);
	routes->table = table;
	routes->count = count;
	for (size_t i = 0; i < count; i++) {
		bool good = compile(&routes->patterns[i], table[i].path) && table[i].handle;
		for (size_t j = 0; good && j < i; j++)
			good = strcmp(table[i].method, table[j].method) != 0 ||
			       !same_pattern(&routes->patterns[i], &routes->patterns[j]);
		if (!good) {
			free(routes);
			return ol_fail(err, OL_ERR_INPUT,
				       "the route %s %s is malformed, has no handler, or is there "
				       "twice",
				       table[i].method, table[i].path);
		}
	}
	*routes_out = routes;
	return OL_OK;
}

void ol_routes_close(struct ol_routes *routes)
{
	free(routes);
}

static bool match(const struct pattern *pattern, struct ol_http_param *params, int *param_count,
		  const char *path)
{
	*param_count = 0;
	for (int i = 0; i < pattern->count; i++) {
		const struct segment *s = &pattern->segments[i];
		if (*path != '/')
			return false;
		path++;
		const size_t size = s->kind == REST ? strlen(path) : strcspn(path, "/");
		if (s->kind == FIXED) {
			if (size != s->size || memcmp(path, s->text, size) != 0)
				return false;
		} else {
			if (size == 0)
				return false;
			params[(*param_count)++] =
				(struct ol_http_param){s->text, s->size, path, size, NULL};
		}
		path += size;
	}
	return *path == '\0';
}

/* True when a says more about a path than b does: at the first difference it is the more fixed. */
static bool narrower(const struct pattern *a, const struct pattern *b)
{
	for (int i = 0; i < OL_MIN(a->count, b->count); i++)
		if (a->segments[i].kind != b->segments[i].kind)
			return a->segments[i].kind < b->segments[i].kind;
	return a->count > b->count;
}

static bool method_fits(const char *route, const char *method)
{
	return strcmp(route, method) == 0 ||
	       (strcmp(method, "HEAD") == 0 && strcmp(route, "GET") == 0);
}

static void allow_method(char allow[128], const char *method)
{
	const size_t size = strlen(method), used = strlen(allow);
	for (const char *at = strstr(allow, method); at; at = strstr(at + 1, method))
		if ((at == allow || at[-1] == ' ') && (at[size] == ',' || at[size] == '\0'))
			return;
	snprintf(allow + used, 128 - used, "%s%s", used ? ", " : "", method);
	if (strcmp(method, "GET") == 0)
		allow_method(allow, "HEAD");
}

enum ol_route_match ol_routes_find(const struct ol_routes *routes,
				   const struct ol_http_route **route_out,
				   struct ol_http_param params[OL_HTTP_PARAMS_MAX],
				   int *param_count, char allow[128], const char *method,
				   const char *path)
{
	const struct pattern *best = NULL;
	bool path_there = false;
	*route_out = NULL;
	*param_count = 0;
	allow[0] = '\0';
	for (size_t i = 0; i < routes->count; i++) {
		struct ol_http_param found[OL_HTTP_PARAMS_MAX];
		int count;
		if (!match(&routes->patterns[i], found, &count, path))
			continue;
		path_there = true;
		allow_method(allow, routes->table[i].method);
		if (!method_fits(routes->table[i].method, method) ||
		    (best && !narrower(&routes->patterns[i], best)))
			continue;
		best = &routes->patterns[i];
		*route_out = &routes->table[i];
		*param_count = count;
		memcpy(params, found, sizeof found);
	}
	if (path_there)
		allow_method(allow, "OPTIONS");
	return best ? OL_ROUTE_FOUND : path_there ? OL_ROUTE_NO_METHOD : OL_ROUTE_NO_PATH;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool ol_percent_decode(char *out, const char *text, size_t size, bool form)
{
	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		if (c == '%') {
			const int high = i + 1 < size ? hex_digit(text[i + 1]) : -1;
			const int low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
			if (high < 0 || low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		} else if (form && c == '+') {
			c = ' ';
		}
		if (c == '\0')
			return false;
		*out++ = c;
	}
	*out = '\0';
	return true;
}
