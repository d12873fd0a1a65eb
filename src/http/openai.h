/* http/openai.h, floor 5: OpenAI's API over a serving node (node/service.h), with the extensions
 * that vLLM's clients know. docs/API.md says what every field means.
 *
 *     GET  /v1/models, /v1/models/{model}, /v1/models/{model}/card
 *     POST /v1/chat/completions, /v1/completions, /v1/embeddings, /tokenize, /detokenize
 *     POST /v1/load_lora_adapter, /v1/unload_lora_adapter          where allowed
 *     GET  /health, /metrics, /version
 *
 * LIFE OF ONE ANSWER. A handler (a server thread) reads and checks the request, makes tokens of it
 * and hands it to the service; from then on it belongs to the service's callbacks. A stream's head
 * is sent with its first token, so that what goes wrong before has its own status. The clerk's
 * thread sends what comes last: how each answer ended, what it cost, the receipt. */
#ifndef OL_HTTP_OPENAI_H
#define OL_HTTP_OPENAI_H

#include "http/server.h"
#include "node/idempotency.h"
#include "node/service.h"

enum {
	OL_OPENAI_ROUTES_MAX = 16,
	OL_OPENAI_BODY_MAX = 16 << 20,
	OL_OPENAI_SMALL_BODY_MAX = 64 << 10, /* of requests that carry no text */
	OL_OPENAI_MESSAGES_MAX = 4096,
	OL_OPENAI_STOPS_MAX = OL_STOPS_MAX,
	OL_OPENAI_STOP_BYTES_MAX = 1024,
	OL_OPENAI_BIAS_MAX = 1024,
	OL_OPENAI_MODELS_MAX = 10000 /* in one answer */
};

/* Filled in by the caller, which keeps it until the server is closed. */
struct ol_openai {
	struct ol_service *service;
	struct ol_metrics *metrics;         /* NULL: no /metrics */
	struct ol_idempotency *idempotency; /* NULL: Idempotency-Key is not looked at */
	bool allow_load;                    /* adapters may be loaded and unloaded */
	bool draining;                      /* set while the server stops: /health says so */
};

/* Puts the routes into out, which has room for OL_OPENAI_ROUTES_MAX; how many. */
size_t ol_openai_routes(struct ol_http_route *out, struct ol_openai *openai);

#endif
