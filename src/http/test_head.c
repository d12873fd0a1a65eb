/* Hosts, origins, paths: pure functions, row by row. (Heads as bytes: test_server.c.) */
#include "http/head.h"
#include "http/routes.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_host(void **state)
{
	static const struct {
		const char *text, *host; /* NULL: malformed */
		int port;
	} rows[] = {
		{"localhost", "localhost", -1},
		{"LocalHost:80", "localhost", 80},
		{"example.org.", "example.org", -1},
		{"example.org.:65535", "example.org", 65535},
		{"127.0.0.1:0", "127.0.0.1", 0},
		{"[::1]", "::1", -1},
		{"[FE80::1]:8080", "fe80::1", 8080},
		{"", NULL, -1},
		{":80", NULL, -1},
		{"a:", NULL, -1},
		{"a:65536", NULL, -1},
		{"a:123456", NULL, -1},
		{"a:8a", NULL, -1},
		{"a:-1", NULL, -1},
		{"a b", NULL, -1},
		{"user@a", NULL, -1},
		{"a/b", NULL, -1},
		{"[::1", NULL, -1},
		{"[]", NULL, -1},
		{"[::1]x", NULL, -1},
		{"[localhost]", NULL, -1},
		{"::1", NULL, -1},
		{"\xc3\xa4", NULL, -1},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, -1},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char host[32] = "";
		int port;
		const bool good = ol_host_split(host, sizeof host, &port, rows[i].text);
		if (good != (rows[i].host != NULL) ||
		    (good && (strcmp(host, rows[i].host) != 0 || port != rows[i].port)))
			fail_msg("\"%s\": %d \"%s\" %d", rows[i].text, good, host, port);
	}
}

static void test_origin(void **state)
{
	static const struct {
		const char *origin, *host;
		bool same;
	} rows[] = {
		{"http://localhost:8080", "localhost:8080", true},
		{"http://LOCALHOST", "localhost", true},
		{"http://localhost", "localhost:80", true},
		{"https://localhost", "localhost:443", true},
		{"https://localhost", "localhost:80", false},
		{"http://[::1]:1", "[::1]:1", true},
		{"http://localhost:8081", "localhost:8080", false},
		{"http://127.0.0.1:8080", "localhost:8080", false},
		{"http://localhost:8080.evil.example", "localhost:8080", false},
		{"http://localhost.evil.example", "localhost", false},
		{"ftp://localhost", "localhost", false},
		{"null", "null", false},
		{"", "", false},
		{"http://localhost:8080/", "localhost:8080", false},
		{"file://", "localhost", false},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		if (ol_origin_is_host(rows[i].origin, rows[i].host) != rows[i].same)
			fail_msg("\"%s\" at \"%s\"", rows[i].origin, rows[i].host);
}

static void test_decode(void **state)
{
	static const struct {
		const char *text;
		bool form;
		const char *decoded; /* NULL: malformed */
	} rows[] = {
		{"", false, ""},      {"a%20b", false, "a b"}, {"a+b", false, "a+b"},
		{"a+b", true, "a b"}, {"%2F%2f", false, "//"}, {"%C3%A4", false, "\xc3\xa4"},
		{"%", false, NULL},   {"%2", false, NULL},     {"%2g", false, NULL},
		{"%00", false, NULL}, {"%%20", false, NULL},   {"%+1", true, NULL},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char out[32];
		const bool good =
			ol_percent_decode(out, rows[i].text, strlen(rows[i].text), rows[i].form);
		if (good != (rows[i].decoded != NULL) ||
		    (good && strcmp(out, rows[i].decoded) != 0))
			fail_msg("\"%s\"", rows[i].text);
	}
}

static void nothing(void *self, struct ol_http_request *request)
{
	(void)self;
	(void)request;
}

static void test_routes(void **state)
{
	static const struct ol_http_route table[] = {
		{"GET", "/", 0, 0, nothing, NULL, NULL},
		{"GET", "/m", 0, 0, nothing, NULL, NULL},
		{"GET", "/m/{id}", 0, 0, nothing, NULL, NULL},
		{"POST", "/m/{id}", 0, 0, nothing, NULL, NULL},
		{"GET", "/m/{id}/c", 0, 0, nothing, NULL, NULL},
		{"GET", "/m/x/{c}", 0, 0, nothing, NULL, NULL},
		{"GET", "/m/{rest*}", 0, 0, nothing, NULL, NULL},
	};
	static const struct {
		const char *method, *path;
		int route; /* -1: no path, -2: no method */
		const char *params;
	} rows[] = {
		{"GET", "/", 0, ""},
		{"HEAD", "/", 0, ""},
		{"GET", "/m", 1, ""},
		{"GET", "/m/a", 2, "id=a;"},
		{"POST", "/m/a", 3, "id=a;"},
		{"GET", "/m/a/c", 4, "id=a;"},
		{"GET", "/m/x/c", 5, "c=c;"},
		{"GET", "/m/x/d", 5, "c=d;"},
		{"GET", "/m/a/b/c", 6, "rest=a/b/c;"},
		{"GET", "/m/a/", 6, "rest=a/;"},
		{"GET", "/m/", -1, ""},
		{"GET", "//", -1, ""},
		{"GET", "", -1, ""},
		{"GET", "m", -1, ""},
		{"GET", "/M", -1, ""},
		{"POST", "/m", -2, "GET, HEAD, OPTIONS"},
		{"PUT", "/m/a", -2, "GET, HEAD, POST, OPTIONS"},
	};
	struct ol_routes *routes;
	(void)state;
	assert_int_equal(ol_routes_open(&routes, table, OL_ARRAY_LEN(table), NULL), OL_OK);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_http_param params[OL_HTTP_PARAMS_MAX];
		const struct ol_http_route *route;
		char allow[128], text[128] = "";
		int count;
		const enum ol_route_match match = ol_routes_find(
			routes, &route, params, &count, allow, rows[i].method, rows[i].path);
		for (int k = 0; k < count; k++)
			snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s=%.*s;",
				 (int)params[k].name_size, params[k].name, (int)params[k].raw_size,
				 params[k].raw);
		const int got = match == OL_ROUTE_FOUND     ? (int)(route - table)
				: match == OL_ROUTE_NO_PATH ? -1
							    : -2;
		if (got != rows[i].route || strcmp(got == -2 ? allow : text, rows[i].params) != 0)
			fail_msg("%s %s: route %d, \"%s\", allow \"%s\"", rows[i].method,
				 rows[i].path, got, text, allow);
	}
	ol_routes_close(routes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_routes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
