/* The checks between a whole head and its handler. Each has a row in tests/http_limits.py or
 * test_server.c. */
#include "http/server_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct collected {
	struct ol_head *head;
	bool too_many;
};

static enum MHD_Result collect(void *self, enum MHD_ValueKind kind, const char *name,
			       size_t name_size, const char *value, size_t value_size)
{
	struct collected *c = self;
	(void)kind;
	if (c->head->count == OL_HEAD_FIELDS_MAX) {
		c->too_many = true;
		return MHD_NO;
	}
	c->head->fields[c->head->count++] =
		(struct ol_field){name, value ? value : "", name_size, value_size};
	return MHD_YES;
}

/* A head that is not what it seems: nothing after it can be trusted to be where it seems. */
static bool refuse_and_close(struct ol_http_request *r, int status, const char *code,
			     const char *text)
{
	r->close_after = true;
	ol_request_refuse(r, status, NULL, code, "%s", text);
	return false;
}

static bool check_head(struct ol_http_request *r, struct MHD_Connection *connection,
		       const char *method, const char *version)
{
	const struct ol_http_limits *limits = &r->server->limits;
	struct collected c = {&r->head, false};
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	const size_t size = info ? info->header_size : 0;
	const struct ol_head_span span = {method, method + size, version, strlen(r->uri)};
	MHD_get_connection_values_n(connection, MHD_HEADER_KIND, collect, &c);
	if (strlen(r->uri) > limits->uri_max)
		return refuse_and_close(r, 414, "uri_too_long", "The address is too long.");
	if (c.too_many || (uint32_t)r->head.count > limits->headers_max)
		return refuse_and_close(r, 431, "too_many_headers",
					"The request has too many header fields.");
	if (size > limits->head_max)
		return refuse_and_close(r, 431, "headers_too_large",
					"The request's head is too large.");
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return refuse_and_close(r, 505, "http_version", "Only HTTP/1.1 and 1.0.");
	if (!ol_head_lies_well(&r->head, &span))
		return refuse_and_close(r, 400, "malformed_head",
					ol_head_fault_text(OL_HEAD_LINES));
	const enum ol_head_fault fault = ol_head_check(&r->head, strcmp(version, "HTTP/1.0") == 0);
	if (fault != OL_HEAD_OK)
		return refuse_and_close(r, fault == OL_HEAD_EXPECT_ODD ? 417 : 400,
					"malformed_head", ol_head_fault_text(fault));
	return true;
}

/* A path of visible ASCII; no other host may be named in it. */
static bool check_uri(struct ol_http_request *r)
{
	bool good =
		r->uri[0] == '/' || (strcmp(r->uri, "*") == 0 && strcmp(r->method, "OPTIONS") == 0);
	for (const char *c = r->uri; good && *c; c++)
		good = *c > 0x20 && *c < 0x7f && *c != '#';
	return good || refuse_and_close(r, 400, "malformed_uri",
					"The address must begin with / and hold visible ASCII.");
}

/* The address that this very connection came in at; "" when it is no IP connection. */
static void own_address(char text[INET6_ADDRSTRLEN], int fd)
{
	struct sockaddr_storage own;
	socklen_t size = sizeof own;
	text[0] = '\0';
	if (getsockname(fd, (struct sockaddr *)&own, &size) != 0)
		return;
	if (own.ss_family == AF_INET) {
		inet_ntop(AF_INET, &((struct sockaddr_in *)&own)->sin_addr, text, INET6_ADDRSTRLEN);
	} else if (own.ss_family == AF_INET6) {
		const struct in6_addr *in6 = &((struct sockaddr_in6 *)&own)->sin6_addr;
		if (IN6_IS_ADDR_V4MAPPED(in6))
			inet_ntop(AF_INET, in6->s6_addr + 12, text, INET6_ADDRSTRLEN);
		else
			inet_ntop(AF_INET6, in6, text, INET6_ADDRSTRLEN);
	}
}

/* A page whose name was pointed at us (DNS rebinding) still says its own name here. */
static bool host_allowed(const struct ol_http_request *r, const char *host)
{
	const struct ol_http_server *server = r->server;
	char name[256], own[INET6_ADDRSTRLEN];
	int port;
	if (!ol_host_split(name, sizeof name, &port, host))
		return false;
	own_address(own, r->conn->fd);
	if (ol_same_text(own, name) || (ol_http_is_loopback(own) && ol_http_is_loopback(name)))
		return true;
	for (size_t i = 0; i < server->options.name_count; i++)
		if (ol_same_text(server->options.names[i], name))
			return true;
	return false;
}

static bool origin_listed(const struct ol_http_server *server, const char *origin)
{
	for (size_t i = 0; i < server->options.origin_count; i++)
		if (ol_same_text(server->options.origins[i], origin))
			return true;
	return false;
}

/* Browsers say where a page's request comes from. Only our own pages, and those named, may ask;
 * from elsewhere a person may follow a link, nothing else. Programs send neither header. */
static bool check_origin(struct ol_http_request *r)
{
	const char *origin = ol_http_header(r, "origin");
	const char *site = ol_http_header(r, "sec-fetch-site");
	const char *mode = ol_http_header(r, "sec-fetch-mode");
	const char *host = ol_http_header(r, "host");
	if (origin && origin_listed(r->server, origin)) {
		r->cross_origin = origin;
		return true;
	}
	if (origin && !ol_origin_is_host(origin, host)) {
		ol_request_refuse(r, 403, NULL, "origin_not_allowed",
				  "Web pages of %.200s may not ask this server; it can be allowed "
				  "in the server's configuration (origins).",
				  origin);
		return false;
	}
	if (!origin && site &&
	    (ol_same_text(site, "cross-site") || ol_same_text(site, "same-site")) &&
	    !(mode && ol_same_text(mode, "navigate") && strcmp(r->method, "GET") == 0)) {
		ol_request_refuse(r, 403, NULL, "origin_not_allowed",
				  "Web pages of other sites may not ask this server.");
		return false;
	}
	return true;
}

static bool check_route(struct ol_http_request *r)
{
	char allow[128];
	const bool options = strcmp(r->method, "OPTIONS") == 0;
	const enum ol_route_match match =
		ol_routes_find(r->server->routes, &r->route, r->params, &r->param_count, allow,
			       r->method, r->path);
	if (options && (match != OL_ROUTE_NO_PATH || strcmp(r->path, "*") == 0)) {
		if (allow[0])
			ol_http_set_header(r, "Allow", allow);
		if (r->cross_origin && allow[0]) {
			ol_http_set_header(r, "Access-Control-Allow-Methods", allow);
			ol_http_set_header(r, "Access-Control-Allow-Headers",
					   "Authorization, Content-Type, Idempotency-Key");
			ol_http_set_header(r, "Access-Control-Max-Age", "600");
		}
		ol_http_reply(r, 204, NULL, "", 0);
		return false;
	}
	if (match == OL_ROUTE_NO_METHOD) {
		ol_http_set_header(r, "Allow", allow);
		ol_request_refuse(r, 405, NULL, "method_not_allowed",
				  "%.15s is not a method of %.500s; there are %s.", r->method,
				  r->path, allow);
		return false;
	}
	if (match == OL_ROUTE_NO_PATH) {
		ol_request_refuse(r, 404, NULL, "unknown_url", "There is no %.15s %.500s.",
				  r->method, r->path);
		return false;
	}
	for (int i = 0; i < r->param_count; i++) {
		struct ol_http_param *p = &r->params[i];
		p->value = ol_http_alloc(r, p->raw_size + 1);
		if (!p->value || !ol_percent_decode(p->value, p->raw, p->raw_size, false)) {
			ol_request_refuse(r, 400, NULL, "malformed_uri",
					  "The address is malformed: a %% without two hexadecimal "
					  "digits, or a NUL.");
			return false;
		}
	}
	return true;
}

static bool check_caller(struct ol_http_request *r)
{
	const struct ol_http_guard *guard = &r->server->options.guard;
	const char *header = ol_http_header(r, "authorization"), *token = NULL;
	struct ol_http_refusal refusal = {.status = 401};
	if (!guard->admit) {
		snprintf(r->caller.account, sizeof r->caller.account, "local");
		r->caller.scopes = UINT64_MAX;
		return true;
	}
	if (header) {
		char scheme[8];
		snprintf(scheme, sizeof scheme, "%.7s", header);
		if (!ol_same_text(scheme, "bearer ")) {
			snprintf(refusal.text, sizeof refusal.text,
				 "The Authorization header must be \"Bearer\" and an API key.");
			refusal.code = "invalid_api_key";
			ol_request_refuse_as(r, &refusal);
			return false;
		}
		token = header + 7 + strspn(header + 7, " ");
	}
	if (!guard->admit(guard->self, &r->caller, &refusal, token, r->server->loopback,
			  r->route)) {
		ol_request_refuse_as(r, &refusal);
		return false;
	}
	r->admitted = true;
	return true;
}

static bool check_body(struct ol_http_request *r)
{
	const int64_t length = ol_head_length(&r->head);
	const bool chunked = ol_head_chunked(&r->head);
	const uint64_t max = r->route->body_max;
	const char *encoding = ol_http_header(r, "content-encoding");
	if ((length > 0 && (uint64_t)length > max) || (chunked && max == 0)) {
		ol_request_refuse(r, 413, NULL, "body_too_large",
				  max ? "The body may have at most %llu bytes."
				      : "This request takes no body.",
				  (unsigned long long)max);
		return false;
	}
	if (encoding && !ol_same_text(encoding, "identity")) {
		ol_request_refuse(r, 415, NULL, "content_encoding",
				  "Bodies must come unpacked, without Content-Encoding.");
		return false;
	}
	return true;
}

/* The head lies in the connection's memory, which may end before the request does. */
static bool keep_head(struct ol_http_request *r)
{
	for (int i = 0; i < r->head.count; i++) {
		struct ol_field *f = &r->head.fields[i];
		const bool secret = ol_same_text(f->name, "authorization");
		char *copy = ol_http_alloc(r, f->name_size + 1 + f->value_size + 1);
		if (!copy) {
			r->head.count = 0;
			return refuse_and_close(r, 503, NULL, "Out of memory.");
		}
		memcpy(copy, f->name, f->name_size);
		if (!secret)
			memcpy(copy + f->name_size + 1, f->value, f->value_size);
		f->name = copy;
		f->value = copy + f->name_size + 1;
	}
	r->cross_origin = r->cross_origin ? ol_http_header(r, "origin") : NULL;
	return true;
}

bool ol_request_check(struct ol_http_request *r, struct MHD_Connection *connection,
		      const char *method, const char *version)
{
	const uint32_t nth = ++r->conn->requests;
	const int refuse = r->conn->refuse_status;
	snprintf(r->method, sizeof r->method, "%s", method);
	r->head_only = strcmp(r->method, "HEAD") == 0;
	if (!check_head(r, connection, method, version))
		return false;
	if (refuse || atomic_load(&r->server->stopping)) {
		r->retry_after = 1;
		return refuse_and_close(r, refuse ? refuse : 503,
					refuse == 429 ? "too_many_connections"
					: refuse      ? "server_full"
						      : "server_stopping",
					refuse == 429 ? "Too many connections from your address."
					: refuse      ? "The server has too many connections."
						      : "The server is stopping.");
	}
	if (nth >= r->server->limits.requests_max)
		r->close_after = true;
	if (strlen(method) >= sizeof r->method)
		return refuse_and_close(r, 501, "method_unknown", "There is no such method.");
	if (!check_uri(r))
		return false;
	if (!host_allowed(r, ol_http_header(r, "host"))) {
		ol_request_refuse(r, 403, NULL, "host_not_allowed",
				  "This server does not answer as %.200s; it can be allowed in its "
				  "configuration (names).",
				  ol_http_header(r, "host"));
		return false;
	}
	return check_origin(r) && check_route(r) && check_caller(r) && check_body(r) &&
	       keep_head(r);
}
