/* http/openai.c: the table of routes, and those that need no model. */
#include "http/openai_internal.h"

#include "node/keys.h"

#include <string.h>

static void health(void *self, struct ol_http_request *request)
{
	const struct ol_openai *openai = self;
	struct ol_service_stats stats;
	ol_service_stats(openai->service, &stats);
	ol_http_reply_json(request, openai->draining ? 503 : 200,
			   json_pack("{s:s, s:I}", "status", openai->draining ? "draining" : "ok",
				     "requests", (json_int_t)stats.asks_open));
}

static void version(void *self, struct ol_http_request *request)
{
	const struct ol_openai *openai = self;
	ol_http_reply_json(request, 200,
			   json_pack("{s:s, s:s, s:s}", "version", OL_VERSION, "arithmetic",
				     OL_ARITHMETIC_VERSION, "system_fingerprint",
				     ol_service_fingerprint(openai->service)));
}

static void metrics(void *self, struct ol_http_request *request)
{
	const struct ol_openai *openai = self;
	struct ol_buf text;
	ol_buf_init(&text, OL_OPENAI_BODY_MAX);
	if (!ol_metrics_write(openai->metrics, &text))
		text.failed = true;
	ol_http_reply_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", &text);
}

static const struct ol_http_route fixed[] = {
	{.method = "GET", .path = "/health", .scope = OL_SCOPE_NONE, .handle = health},
	{.method = "GET", .path = "/version", .scope = OL_SCOPE_NONE, .handle = version},
	{.method = "GET",
	 .path = "/v1/models",
	 .scope = OL_SCOPE_MODELS,
	 .handle = ol_openai_models},
	{.method = "GET",
	 .path = "/v1/models/{model}",
	 .scope = OL_SCOPE_MODELS,
	 .handle = ol_openai_model},
	{.method = "GET",
	 .path = "/v1/models/{model}/card",
	 .scope = OL_SCOPE_MODELS,
	 .handle = ol_openai_card},
	{.method = "POST",
	 .path = "/v1/chat/completions",
	 .scope = OL_SCOPE_INFERENCE,
	 .body_max = OL_OPENAI_BODY_MAX,
	 .handle = ol_openai_chat},
	{.method = "POST",
	 .path = "/v1/completions",
	 .scope = OL_SCOPE_INFERENCE,
	 .body_max = OL_OPENAI_BODY_MAX,
	 .handle = ol_openai_completions},
	{.method = "POST",
	 .path = "/v1/embeddings",
	 .scope = OL_SCOPE_INFERENCE,
	 .body_max = OL_OPENAI_BODY_MAX,
	 .handle = ol_openai_embeddings},
	{.method = "POST",
	 .path = "/tokenize",
	 .scope = OL_SCOPE_INFERENCE,
	 .body_max = OL_OPENAI_BODY_MAX,
	 .handle = ol_openai_tokenize},
	{.method = "POST",
	 .path = "/detokenize",
	 .scope = OL_SCOPE_INFERENCE,
	 .body_max = OL_OPENAI_BODY_MAX,
	 .handle = ol_openai_detokenize},
};

static const struct ol_http_route loading[] = {
	{.method = "POST",
	 .path = "/v1/load_lora_adapter",
	 .scope = OL_SCOPE_ADMIN,
	 .body_max = OL_OPENAI_SMALL_BODY_MAX,
	 .handle = ol_openai_load},
	{.method = "POST",
	 .path = "/v1/unload_lora_adapter",
	 .scope = OL_SCOPE_ADMIN,
	 .body_max = OL_OPENAI_SMALL_BODY_MAX,
	 .handle = ol_openai_unload},
};

static const struct ol_http_route watching = {
	.method = "GET", .path = "/metrics", .scope = OL_SCOPE_METRICS, .handle = metrics};

size_t ol_openai_routes(struct ol_http_route *out, struct ol_openai *openai)
{
	size_t count = 0;
	_Static_assert(OL_ARRAY_LEN(fixed) + OL_ARRAY_LEN(loading) + 1 <= OL_OPENAI_ROUTES_MAX,
		       "room for all");
	for (size_t i = 0; i < OL_ARRAY_LEN(fixed); i++)
		out[count++] = fixed[i];
	for (size_t i = 0; i < OL_ARRAY_LEN(loading) && openai->allow_load; i++)
		out[count++] = loading[i];
	if (openai->metrics)
		out[count++] = watching;
	for (size_t i = 0; i < count; i++)
		out[i].self = openai;
	return count;
}
