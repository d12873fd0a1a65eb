/* One line of JSON per request, and what is counted. Never a body, a query or a key. */
#include "http/server_internal.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const level_names[] = {"off", "error", "info", "debug"};
static const char *const end_names[] = {"done", "gone", "slow", "stopped", "revoked", "broken"};

int ol_http_log_level(const char *name)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(level_names); i++)
		if (strcmp(name, level_names[i]) == 0)
			return (int)i;
	return -1;
}

/* Bytes that are not ASCII become U+FFFD one by one: a log line is always valid. */
static void append_json(struct ol_buf *out, const char *text)
{
	ol_buf_append_text(out, "\"");
	for (const char *c = text; *c; c++) {
		if (*c == '"' || *c == '\\')
			ol_buf_printf(out, "\\%c", *c);
		else if ((unsigned char)*c < 0x20 || *c == 0x7f)
			ol_buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*c);
		else if ((unsigned char)*c >= 0x80)
			ol_buf_append_text(out, "\\ufffd");
		else
			ol_buf_append(out, c, 1);
	}
	ol_buf_append_text(out, "\"");
}

static void append_field(struct ol_buf *out, const char *key, const char *text)
{
	ol_buf_append_text(out, ",");
	append_json(out, key);
	ol_buf_append_text(out, ":");
	append_json(out, text);
}

static void begin_line(struct ol_buf *out, const char *level)
{
	struct timespec now;
	struct tm utc;
	char text[32];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
	ol_buf_printf(out, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\"", text,
		      (int)(now.tv_nsec / 1000000), level);
}

static void end_line(struct ol_http_server *server, struct ol_buf *out)
{
	ol_buf_append_text(out, "}\n");
	if (!out->failed && server->options.log_write)
		server->options.log_write(server->options.log_context, out->data, out->size);
	else if (!out->failed)
		(void)!fwrite(out->data, 1, out->size, stderr);
	ol_buf_release(out);
}

void ol_log_event(struct ol_http_server *server, enum ol_http_log level, const char *event,
		  const char *text)
{
	struct ol_buf line;
	if (level > server->options.log)
		return;
	ol_buf_init(&line, 1 << 16);
	begin_line(&line, level_names[level]);
	append_field(&line, "event", event);
	append_field(&line, "text", text);
	end_line(server, &line);
}

/* A note never stands beside a field of the same name: a line would be ambiguous. */
static void append_key(struct ol_buf *out, const char *key)
{
	static const char *const taken[] = {"time",  "level",   "event",    "id",    "method",
					    "route", "status",  "bytes_in", "bytes", "ms",
					    "end",   "account", "key"};
	ol_buf_append_text(out, ",");
	for (size_t i = 0; i < OL_ARRAY_LEN(taken); i++)
		if (strcmp(taken[i], key) == 0) {
			ol_buf_printf(out, "\"route_%s\":", key);
			return;
		}
	append_json(out, key);
	ol_buf_append_text(out, ":");
}

static void write_line(struct ol_http_request *r, const char *level, double ms)
{
	struct ol_buf line;
	ol_buf_init(&line, 1 << 16);
	begin_line(&line, level);
	append_field(&line, "event", "request");
	append_field(&line, "id", r->id);
	append_field(&line, "method", r->method);
	append_field(&line, "route", r->route ? r->route->path : "");
	ol_buf_printf(&line, ",\"status\":%d,\"bytes_in\":%llu,\"bytes\":%llu,\"ms\":%.3f",
		      r->status, (unsigned long long)r->body_size, (unsigned long long)r->bytes_out,
		      ms);
	append_field(&line, "end", end_names[atomic_load(&r->end)]);
	append_field(&line, "account", r->caller.account);
	append_field(&line, "key", r->caller.key_id);
	for (int i = 0; i < r->note_count; i++) {
		const struct ol_http_note *n = &r->notes[i];
		append_key(&line, n->key);
		if (n->text)
			append_json(&line, n->text);
		else
			ol_buf_printf(&line, "%lld", (long long)n->number);
	}
	end_line(r->server, &line);
}

static void count(struct ol_http_request *r, double seconds)
{
	struct ol_http_server *server = r->server;
	const size_t row = r->route ? (size_t)(r->route - server->options.routes)
				    : server->options.route_count;
	const int status_class = OL_MIN(OL_MAX(r->status / 100, 0), 5);
	ol_histogram_observe(server->seconds, seconds);
	ol_counter_add(server->bytes_in, r->body_size);
	ol_counter_add(server->bytes_out, r->bytes_out);
	_Atomic(struct ol_counter *) *slot =
		&server->answers[row * OL_HTTP_STATUS_CLASSES + (size_t)status_class];
	struct ol_counter *counter = atomic_load(slot);
	if (!counter && server->options.metrics) {
		const char *class_text =
			(const char *[]){"none", "1xx", "2xx", "3xx", "4xx", "5xx"}[status_class];
		const struct ol_label labels[] = {{"method", r->route ? r->route->method : ""},
						  {"route", r->route ? r->route->path : ""},
						  {"status", class_text}};
		counter = ol_metrics_counter(
			server->options.metrics, "openledger_http_requests_total",
			"Requests that are over, by route and class of status.", labels,
			(int)OL_ARRAY_LEN(labels));
		atomic_store(slot, counter);
	}
	ol_counter_add(counter, 1);
}

void ol_log_request(struct ol_http_request *r)
{
	const double seconds = (r->ended > 0.0 ? r->ended : ol_clock_seconds()) - r->started;
	const bool bad = r->status >= 500;
	count(r, seconds);
	if (r->server->options.log >= (bad ? OL_HTTP_LOG_ERROR : OL_HTTP_LOG_INFO))
		write_line(r, bad ? "error" : "info", 1e3 * seconds);
}

void ol_log_metrics(struct ol_http_server *server)
{
	struct ol_metrics *m = server->options.metrics;
	server->connections_gauge = ol_metrics_gauge(m, "openledger_http_connections",
						     "Connections that are open.", NULL, 0);
	server->active_gauge = ol_metrics_gauge(m, "openledger_http_requests_active",
						"Requests under way.", NULL, 0);
	server->bytes_in = ol_metrics_counter(m, "openledger_http_received_bytes_total",
					      "Bytes of bodies received.", NULL, 0);
	server->bytes_out = ol_metrics_counter(m, "openledger_http_sent_bytes_total",
					       "Bytes of bodies sent.", NULL, 0);
	server->seconds = ol_metrics_histogram(
		m, "openledger_http_request_seconds",
		"From a request's first line to the end of its answer.", NULL, 0, NULL, 0);
}
