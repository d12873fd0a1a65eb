#include "node/log_http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { URL_MAX = 2048 };

struct ol_log_http {
	CURL *curl;
	char url[URL_MAX]; /* without a slash at its end */
	char why[CURL_ERROR_SIZE];
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static bool curl_ready;

static void start_curl(void)
{
	curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

enum ol_status ol_log_http_open(struct ol_log_http **http_out, const char *url,
				struct ol_error *err)
{
	size_t length = strlen(url);
	while (length > 0 && url[length - 1] == '/')
		length--;
	if (length >= URL_MAX - 128 ||
	    (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
		return ol_fail(
			err, OL_ERR_INPUT,
			"\"%.100s\" is not the URL of a log: http:// or https:// and at most "
			"%d characters",
			url, URL_MAX - 128);
	OL_ASSERT(pthread_once(&curl_once, start_curl) == 0);
	struct ol_log_http *http = calloc(1, sizeof *http);
	if (http)
		http->curl = curl_ready ? curl_easy_init() : NULL;
	if (!http || !http->curl) {
		free(http);
		return ol_fail(err, OL_ERR_FULL, "out of memory for a connection");
	}
	memcpy(http->url, url, length);
	*http_out = http;
	return OL_OK;
}

void ol_log_http_close(struct ol_log_http *http)
{
	if (!http)
		return;
	curl_easy_cleanup(http->curl);
	free(http);
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context)
{
	struct ol_buf *out = context;
	return ol_buf_append(out, bytes, size * count) ? size * count : 0;
}

static void prepare(struct ol_log_http *http, struct ol_buf *out, const char *url, long timeout_ms)
{
	CURL *curl = http->curl;
	curl_easy_reset(curl);
	http->why[0] = '\0';
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)OL_LOG_HTTP_CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
	curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "gzip, identity");
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "openledger/" OL_VERSION);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->why);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
}

static enum ol_status perform(struct ol_log_http *http, int *status_out, const struct ol_buf *out,
			      const char *url, struct ol_error *err)
{
	long status = 0;
	const CURLcode code = curl_easy_perform(http->curl);
	if (code == CURLE_WRITE_ERROR)
		return ol_fail(err, OL_ERR_FULL,
			       "%s: the answer is larger than %zu bytes, the limit", url, out->max);
	if (code != CURLE_OK)
		return ol_fail(err, OL_ERR_IO, "%s: no answer: %s", url,
			       http->why[0] ? http->why : curl_easy_strerror(code));
	curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
	*status_out = (int)status;
	return OL_OK;
}

static enum ol_status http_fetch(void *self, struct ol_buf *out, const char *name,
				 struct ol_error *err)
{
	struct ol_log_http *http = self;
	char url[URL_MAX + 128];
	struct ol_buf body;
	int status = 0;
	snprintf(url, sizeof url, "%s/%s", http->url, name);
	ol_buf_init(&body, out->max - out->size); /* an error's page is no part of the file */
	prepare(http, &body, url, OL_LOG_HTTP_TIMEOUT_MS);
	enum ol_status s = perform(http, &status, &body, url, err);
	if (s == OL_OK && (status == 404 || status == 410))
		s = ol_fail(err, OL_ERR_NOT_FOUND, "%s is not there (%d)", url, status);
	else if (s == OL_OK && status != 200)
		s = ol_fail(err, OL_ERR_IO, "%s was answered with %d", url, status);
	if (s == OL_OK && !ol_buf_append(out, body.data, body.size))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for %s", url);
	ol_buf_release(&body);
	return s;
}

struct ol_log_source ol_log_http_source(struct ol_log_http *http)
{
	return (struct ol_log_source){.fetch = http_fetch, .self = http};
}

enum ol_status ol_log_http_post(struct ol_log_http *http, int *status_out, struct ol_buf *reply,
				const char *name, const void *body, size_t size, long timeout_ms,
				struct ol_error *err)
{
	char url[URL_MAX + 128];
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: text/plain");
	if (!headers)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	snprintf(url, sizeof url, "%s/%s", http->url, name);
	prepare(http, reply, url, timeout_ms);
	curl_easy_setopt(http->curl, CURLOPT_POST, 1L);
	curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
	curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
	const enum ol_status s = perform(http, status_out, reply, url, err);
	curl_slist_free_all(headers);
	return s;
}
