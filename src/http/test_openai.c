/* OpenAI's routes over a real socket: the bits that `generate` gives, whoever else asks; the code
 * that each fault has; what a stream, a receipt and a vanished client come to. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "node/test_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "crypto/text.h"
#include "http/openai.h"
#include "node/generate.h"

enum { ADAPTERS = 32, CROWD = 33 };

static char folder[OL_PATH_MAX / 2];
static struct ol_service *service;
static struct ol_http_server *server;
static struct ol_metrics *metrics;
static struct ol_openai openai;
static struct ol_http_route routes[OL_OPENAI_ROUTES_MAX];

/* --- a node ---------------------------------------------------------------- */

static void open_node(struct ol_service_options options)
{
	struct ol_runtime runtime;
	struct ol_error err;
	open_tiny(&runtime);
	assert_int_equal(ol_metrics_open(&metrics), OL_OK);
	options.runtime = &runtime;
	options.adapters = folder;
	options.engine.threads = 2;
	options.metrics = metrics;
	must(ol_service_open(&service, &options, &err), &err);
	openai = (struct ol_openai){.service = service, .metrics = metrics, .allow_load = true};
	const struct ol_http_options http = {
		.routes = routes, .route_count = ol_openai_routes(routes, &openai), .threads = 2};
	must(ol_http_server_open(&server, &http, &err), &err);
}

static void close_node(void)
{
	ol_http_server_stop(server, 0);
	ol_service_close(service);
	ol_http_server_close(server);
	ol_metrics_close(metrics);
}

/* --- a client -------------------------------------------------------------- */

struct reply {
	int status;
	struct ol_buf head, body;
};

static void release_reply(struct reply *r)
{
	ol_buf_release(&r->head);
	ol_buf_release(&r->body);
}

static int dial(const char *method, const char *path, const char *body)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				      .sin_port = htons(ol_http_server_port(server))};
	struct ol_buf text;
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	OL_ASSERT(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
	ol_buf_init(&text, 1 << 24);
	ol_buf_printf(&text,
		      "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n"
		      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		      method, path, ol_http_server_port(server), strlen(body));
	ol_buf_append_text(&text, body);
	for (size_t at = 0; at < text.size;) {
		const ssize_t n = send(fd, text.data + at, text.size - at, MSG_NOSIGNAL);
		OL_ASSERT(n > 0);
		at += (size_t)n;
	}
	ol_buf_release(&text);
	return fd;
}

static void unchunk(struct ol_buf *body)
{
	struct ol_buf out;
	ol_buf_init(&out, 1 << 26);
	for (const char *at = body->data; at && at < body->data + body->size;) {
		char *end;
		const size_t size = strtoul(at, &end, 16);
		OL_ASSERT(end[0] == '\r' && end[1] == '\n');
		ol_buf_append(&out, end + 2, size);
		at = end + 2 + size + 2;
		if (size == 0)
			break;
	}
	ol_buf_release(body);
	*body = out;
}

static void read_reply(struct reply *r, int fd)
{
	char piece[4096];
	*r = (struct reply){0};
	ol_buf_init(&r->head, 1 << 26);
	ol_buf_init(&r->body, 1 << 26);
	for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;)
		ol_buf_append(&r->head, piece, (size_t)n);
	(void)close(fd);
	char *split = r->head.data ? strstr(r->head.data, "\r\n\r\n") : NULL;
	OL_ASSERT(split);
	ol_buf_append(&r->body, split + 4, r->head.size - (size_t)(split + 4 - r->head.data));
	*split = '\0';
	r->status = (int)strtol(r->head.data + strlen("HTTP/1.1 "), NULL, 10);
	if (strstr(r->head.data, "chunked"))
		unchunk(&r->body);
}

static void call(struct reply *r, const char *method, const char *path, const char *body)
{
	read_reply(r, dial(method, path, body));
}

static json_t *json_of(const struct reply *r)
{
	json_t *value = json_loadb(r->body.data, r->body.size,
				   JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (!value)
		fail_msg("%d, not JSON: %s", r->status, r->body.data);
	return value;
}

static json_t *call_json(int status, const char *method, const char *path, const char *body)
{
	struct reply r;
	call(&r, method, path, body);
	if (r.status != status)
		fail_msg("%d instead of %d: %s", r.status, status, r.body.data);
	json_t *value = json_of(&r);
	release_reply(&r);
	return value;
}

/* "choices[0].message.content" of an answer; borrowed. */
static const char *content_of(const json_t *answer)
{
	const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
	return json_string_value(json_object_get(json_object_get(choice, "message"), "content"));
}

/* --- bits ------------------------------------------------------------------ */

/* What ol_generate says to the same question; the caller frees. */
static char *expected(int adapter, const char *question, uint64_t seed, int tokens)
{
	struct ol_runtime r;
	struct ol_error err;
	struct ol_generation g;
	struct ol_tokens prompt = {0};
	const struct ol_engine_options engine = {.threads = 1, .step_rows = 64};
	const struct ol_logit_bias no_nul = {0, -100}; /* C strings are compared */
	const struct ol_answer_options o = {.max_tokens = tokens,
					    .ignore_eos = true,
					    .strip_lead_space = true,
					    .sampling = {.temperature = 1,
							 .top_p = 1,
							 .repeat_penalty = 1,
							 .seed = seed,
							 .bias = &no_nul,
							 .bias_count = 1}};
	json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
	open_tiny(&r);
	if (adapter >= 0)
		r.adapter = make_adapter((uint32_t)adapter);
	must(ol_runtime_encode_chat(&r, &prompt, messages, &err), &err);
	must(ol_runtime_start(&r, &engine, &err), &err);
	must(ol_generate(&g, &r, &prompt, &o, &err), &err);
	char *text = strdup(g.text.data);
	ol_generation_release(&g);
	ol_tokens_release(&prompt);
	json_decref(messages);
	ol_runtime_close(&r);
	return text;
}

struct question {
	int adapter, tokens;
	uint64_t seed;
	char text[64], *answer;
	uint64_t completion_tokens;
	bool stream;
};

static void body_of(char *out, size_t size, const struct question *q)
{
	char model[16];
	(void)snprintf(model, sizeof model, q->adapter < 0 ? "tiny" : "a%d", q->adapter);
	(void)snprintf(out, size,
		       "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],"
		       "\"max_tokens\":%d,\"seed\":%llu,\"ignore_eos\":true,"
		       "\"logit_bias\":{\"0\":-100},\"stream\":%s%s}",
		       model, q->text, q->tokens, (unsigned long long)q->seed,
		       q->stream ? "true" : "false",
		       q->stream ? ",\"stream_options\":{\"include_usage\":true}" : "");
}

/* The deltas of a stream joined, and the usage of its last chunk. */
static char *join_stream(struct reply *r, uint64_t *completion_tokens)
{
	struct ol_buf text;
	bool done = false;
	ol_buf_init(&text, 1 << 20);
	for (char *at = r->body.data, *end; at && (end = strstr(at, "\n\n")); at = end + 2) {
		*end = '\0';
		OL_ASSERT(strncmp(at, "data: ", 6) == 0 && !done);
		done = strcmp(at + 6, "[DONE]") == 0;
		json_t *chunk =
			done ? NULL
			     : json_loads(at + 6, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
		OL_ASSERT(done || chunk);
		const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
		const json_t *delta = json_object_get(json_object_get(choice, "delta"), "content");
		const json_t *usage = json_object_get(chunk, "usage");
		if (delta)
			ol_buf_append_text(&text, json_string_value(delta));
		if (json_is_object(usage))
			*completion_tokens = (uint64_t)json_integer_value(
				json_object_get(usage, "completion_tokens"));
		json_decref(chunk);
	}
	OL_ASSERT(done);
	char *joined = strdup(text.data ? text.data : "");
	ol_buf_release(&text);
	return joined;
}

static void *put_question(void *context)
{
	struct question *q = context;
	struct reply r;
	char body[512];
	body_of(body, sizeof body, q);
	call(&r, "POST", "/v1/chat/completions", body);
	OL_ASSERT(r.status == 200);
	if (q->stream) {
		q->answer = join_stream(&r, &q->completion_tokens);
	} else {
		json_t *answer = json_loadb(r.body.data, r.body.size, JSON_ALLOW_NUL, NULL);
		q->answer = strdup(content_of(answer));
		q->completion_tokens = (uint64_t)json_integer_value(
			json_object_get(json_object_get(answer, "usage"), "completion_tokens"));
		json_decref(answer);
	}
	release_reply(&r);
	return NULL;
}

/* Alone; with 32 others under 32 adapters, half of them streams; with so few pages that answers are
 * preempted: always what ol_generate says. */
static void test_bits(void **state)
{
	static const struct {
		uint64_t kv_bytes;
		int crowd;
	} rows[] = {{0, 1}, {0, CROWD}, {1 << 17, CROWD}};
	struct question *q = calloc(CROWD, sizeof *q);
	struct ol_service_stats stats;
	(void)state;
	for (size_t r = 0; r < OL_ARRAY_LEN(rows); r++) {
		pthread_t threads[CROWD];
		open_node((struct ol_service_options){.kv_bytes = rows[r].kv_bytes});
		for (int i = 0; i < rows[r].crowd; i++) {
			q[i] = (struct question){.adapter = i - 1,
						 .tokens = (r == 2 ? 150 : 20) + i % 30,
						 .seed = (uint64_t)i,
						 .stream = i % 2};
			(void)snprintf(q[i].text, sizeof q[i].text, "Question %d?", i);
			assert_int_equal(pthread_create(&threads[i], NULL, put_question, &q[i]), 0);
		}
		for (int i = 0; i < rows[r].crowd; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		ol_service_stats(service, &stats);
		assert_true(rows[r].kv_bytes == 0 || stats.scheduler.preempted > 0);
		close_node();
		for (int i = 0; i < rows[r].crowd; i++) {
			char *text = expected(q[i].adapter, q[i].text, q[i].seed, q[i].tokens);
			assert_string_equal(q[i].answer, text);
			assert_int_equal(q[i].completion_tokens, q[i].tokens);
			free(text);
			free(q[i].answer);
		}
	}
	free(q);
}

/* --- refusals -------------------------------------------------------------- */

#define CHAT "/v1/chat/completions"
#define TEXT "/v1/completions"
#define EMBED "/v1/embeddings"
#define SAY "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static const struct {
	const char *path, *body;
	int status;
	const char *code, *param; /* NULL: null */
} refusals[] = {
	{CHAT, "[]", 400, "invalid_type", NULL},
	{CHAT, "{" SAY "}", 400, "missing_required_parameter", "model"},
	{CHAT, "{\"model\":7," SAY "}", 400, "invalid_type", "model"},
	{CHAT, "{\"model\":\"nobody\"," SAY "}", 404, "model_not_found", "model"},
	{CHAT, "{\"model\":\"../a1\"," SAY "}", 404, "model_not_found", "model"},
	{CHAT, "{\"model\":\"tiny\"}", 400, "missing_required_parameter", "messages"},
	{CHAT, "{\"model\":\"tiny\",\"messages\":[]}", 400, "invalid_type", "messages"},
	{CHAT, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", 400,
	 "invalid_value", "messages[0].role"},
	{CHAT, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":7}]}", 400,
	 "invalid_type", "messages[0].content"},
	{CHAT,
	 "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
	 "\"image_url\"}]}]}",
	 400, "unsupported_content", "messages[0].content"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"temperature\":\"hot\"}", 400, "invalid_type",
	 "temperature"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"temperature\":2.1}", 400, "decimal_above_max_value",
	 "temperature"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"top_p\":-0.1}", 400, "decimal_below_min_value",
	 "top_p"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"min_p\":2}", 400, "decimal_above_max_value", "min_p"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"presence_penalty\":3}", 400,
	 "decimal_above_max_value", "presence_penalty"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"frequency_penalty\":-3}", 400,
	 "decimal_below_min_value", "frequency_penalty"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"repetition_penalty\":0}", 400,
	 "decimal_below_min_value", "repetition_penalty"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"top_k\":-2}", 400, "integer_below_min_value",
	 "top_k"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"n\":129}", 400, "integer_above_max_value", "n"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"n\":1.5}", 400, "invalid_type", "n"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"max_tokens\":0}", 400, "integer_below_min_value",
	 "max_tokens"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"max_completion_tokens\":600}", 400,
	 "context_length_exceeded", "messages"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"seed\":\"x\"}", 400, "invalid_type", "seed"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"stop\":[\"\"]}", 400, "invalid_value", "stop"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"stop\":7}", 400, "invalid_value", "stop"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"logit_bias\":{\"260\":1}}", 400, "invalid_value",
	 "logit_bias"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"logit_bias\":{\"01\":1}}", 400, "invalid_value",
	 "logit_bias"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"logit_bias\":{\"1\":101}}", 400, "invalid_value",
	 "logit_bias"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"top_logprobs\":2}", 400, "invalid_value",
	 "top_logprobs"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"logprobs\":true,\"top_logprobs\":21}", 400,
	 "integer_above_max_value", "top_logprobs"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"stream\":\"yes\"}", 400, "invalid_type", "stream"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"stream_options\":{}}", 400, "invalid_value",
	 "stream_options"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"tools\":[{}]}", 400, "unsupported_parameter",
	 "tools"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"modalities\":[\"audio\"]}", 400, "unsupported_value",
	 "modalities"},
	{CHAT, "{\"model\":\"tiny\"," SAY ",\"response_format\":{\"type\":\"xml\"}}", 400,
	 "invalid_value", "response_format"},
	{TEXT, "{\"model\":\"tiny\"}", 400, "missing_required_parameter", "prompt"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":[]}", 400, "empty_array", "prompt"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":[260]}", 400, "invalid_value", "prompt"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":[[1],[-1]]}", 400, "invalid_value", "prompt"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":[{}]}", 400, "invalid_type", "prompt"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":\"x\",\"suffix\":\"y\"}", 400,
	 "unsupported_parameter", "suffix"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":\"x\",\"best_of\":2}", 400, "unsupported_value",
	 "best_of"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":\"x\",\"echo\":true,\"logprobs\":1}", 400,
	 "unsupported_parameter", "echo"},
	{TEXT, "{\"model\":\"tiny\",\"prompt\":[97],\"echo\":true}", 400, "unsupported_parameter",
	 "echo"},
	{EMBED, "{\"model\":\"tiny\",\"input\":\"\"}", 400, "invalid_value", "input"},
	{EMBED, "{\"model\":\"tiny\",\"input\":\"x\",\"encoding_format\":\"hex\"}", 400,
	 "invalid_value", "encoding_format"},
	{EMBED, "{\"model\":\"tiny\",\"input\":\"x\",\"dimensions\":8}", 400, "unsupported_value",
	 "dimensions"},
	{"/tokenize", "{\"model\":\"nobody\",\"prompt\":\"x\"}", 404, "model_not_found", "model"},
	{"/tokenize", "{\"prompt\":7}", 400, "invalid_type", "prompt"},
	{"/detokenize", "{\"tokens\":\"x\"}", 400, "invalid_type", "tokens"},
	{"/v1/load_lora_adapter", "{}", 400, "missing_required_parameter", "lora_name"},
};

static void test_refusals(void **state)
{
	(void)state;
	open_node((struct ol_service_options){0});
	for (size_t i = 0; i < OL_ARRAY_LEN(refusals); i++) {
		json_t *answer =
			call_json(refusals[i].status, "POST", refusals[i].path, refusals[i].body);
		const json_t *error = json_object_get(answer, "error");
		const char *code = json_string_value(json_object_get(error, "code"));
		const char *param = json_string_value(json_object_get(error, "param"));
		const char *want = refusals[i].param ? refusals[i].param : "";
		if (!code || strcmp(code, refusals[i].code) != 0 ||
		    strcmp(param ? param : "", want) != 0 ||
		    !json_is_string(json_object_get(error, "message")))
			fail_msg("%s\ngave %s, %s", refusals[i].body, code, param);
		json_decref(answer);
	}
	close_node();
}

/* What is not known is passed over, and null is as good as nothing. */
static void test_unknown_fields(void **state)
{
	(void)state;
	open_node((struct ol_service_options){0});
	json_decref(call_json(200, "POST", CHAT,
			      "{\"model\":\"tiny\"," SAY
			      ",\"max_tokens\":2,\"user\":\"me\",\"store\":true,\"whatever\":[1],"
			      "\"stop\":null,\"seed\":null,\"n\":null,\"tools\":[],\"top_p\":0,"
			      "\"modalities\":[\"text\"],\"service_tier\":\"auto\"}"));
	close_node();
}

static void test_busy_and_draining(void **state)
{
	struct reply r;
	(void)state;
	open_node((struct ol_service_options){.queue_max = 2});
	call(&r, "POST", CHAT, "{\"model\":\"tiny\"," SAY ",\"n\":3}");
	assert_int_equal(r.status, 429);
	assert_non_null(strstr(r.body.data, "queue_full"));
	assert_non_null(strstr(r.head.data, "etry-"));
	release_reply(&r);
	openai.draining = true;
	ol_service_drain(service);
	call(&r, "POST", CHAT, "{\"model\":\"tiny\"," SAY "}");
	assert_int_equal(r.status, 503);
	assert_non_null(strstr(r.body.data, "shutting_down"));
	release_reply(&r);
	call(&r, "GET", "/health", "");
	assert_int_equal(r.status, 503);
	release_reply(&r);
	close_node();
}

/* --- answers --------------------------------------------------------------- */

static void test_embeddings_in_both_forms(void **state)
{
	float vector[32];
	size_t size;
	(void)state;
	open_node((struct ol_service_options){0});
	json_t *coded = call_json(200, "POST", EMBED,
				  "{\"model\":\"a3\",\"input\":[\"ab\",[99]],\"encoding_format\":"
				  "\"base64\"}");
	json_t *plain = call_json(200, "POST", EMBED, "{\"model\":\"a3\",\"input\":[\"ab\",[99]]}");
	for (size_t i = 0; i < 2; i++) {
		const json_t *a = json_array_get(json_object_get(coded, "data"), i);
		const json_t *b = json_array_get(json_object_get(plain, "data"), i);
		const json_t *text = json_object_get(a, "embedding");
		const json_t *list = json_object_get(b, "embedding");
		assert_true(ol_base64_parse((uint8_t *)vector, sizeof vector, &size,
					    json_string_value(text), json_string_length(text)));
		assert_int_equal(size, sizeof vector);
		for (size_t k = 0; k < 32; k++)
			assert_true((float)json_real_value(json_array_get(list, k)) == vector[k]);
	}
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(plain, "usage"), "prompt_tokens")),
			 3);
	json_decref(coded);
	json_decref(plain);
	close_node();
}

static size_t listed(const char *query, bool *more)
{
	json_t *list = call_json(200, "GET", query, "");
	const size_t count = json_array_size(json_object_get(list, "data"));
	*more = json_is_true(json_object_get(list, "has_more"));
	json_decref(list);
	return count;
}

static void test_models(void **state)
{
	char body[OL_PATH_MAX];
	struct reply r;
	bool more;
	(void)state;
	open_node((struct ol_service_options){0});
	assert_int_equal(listed("/v1/models", &more), ADAPTERS + 1);
	assert_false(more);
	assert_int_equal(listed("/v1/models?limit=5", &more), 5);
	assert_true(more);
	assert_int_equal(listed("/v1/models?after=a8&limit=5", &more), 1);
	assert_false(more);
	json_t *one = call_json(200, "GET", "/v1/models/a5", "");
	assert_string_equal(json_string_value(json_object_get(one, "parent")), "tiny");
	assert_string_equal(json_string_value(json_object_get(one, "card")), "/v1/models/a5/card");
	json_decref(one);
	json_decref(call_json(404, "GET", "/v1/models/nobody", ""));
	json_decref(call_json(404, "GET", "/v1/models/a5/card", "")); /* it has none */
	(void)snprintf(body, sizeof body, "{\"lora_name\":\"new\",\"lora_path\":\"%s/a7\"}",
		       folder);
	call(&r, "POST", "/v1/load_lora_adapter", body);
	assert_int_equal(r.status, 200);
	release_reply(&r);
	json_decref(call_json(400, "POST", "/v1/load_lora_adapter", body));
	json_decref(call_json(200, "POST", CHAT, "{\"model\":\"new\"," SAY ",\"max_tokens\":2}"));
	call(&r, "POST", "/v1/unload_lora_adapter", "{\"lora_name\":\"new\"}");
	assert_int_equal(r.status, 200);
	release_reply(&r);
	json_decref(call_json(404, "POST", "/v1/unload_lora_adapter", "{\"lora_name\":\"new\"}"));
	json_decref(call_json(404, "POST", CHAT, "{\"model\":\"new\"," SAY "}"));
	close_node();
}

/* --- ends ------------------------------------------------------------------ */

#define LONG_STREAM                                                                                \
	"{\"model\":\"tiny\"," SAY ",\"max_tokens\":400,\"ignore_eos\":true,\"stream\":true}"

static void test_a_vanished_client_ends_its_answer(void **state)
{
	struct ol_service_stats stats;
	char piece[512];
	(void)state;
	open_node((struct ol_service_options){0});
	for (int i = 0; i < 8; i++) { /* streams, and one that has had nothing yet */
		const int fd = dial("POST", CHAT, LONG_STREAM);
		if (i > 0)
			assert_true(recv(fd, piece, sizeof piece, 0) > 0);
		(void)close(fd);
	}
	do {
		(void)nanosleep(&(struct timespec){0, 1000000}, NULL);
		ol_service_stats(service, &stats);
	} while (stats.asks_open > 0);
	assert_true(stats.cancelled + stats.scheduler.finished >= 8);
	json_decref(call_json(200, "POST", CHAT, "{\"model\":\"tiny\"," SAY ",\"max_tokens\":2}"));
	close_node();
}

/* A broken adapter has its status while nothing was sent; what breaks a stream is told in it. */
static void test_faults(void **state)
{
	char path[OL_PATH_MAX], piece[64];
	struct ol_error err;
	struct reply r;
	(void)state;
	write_adapter(folder, "broken", 1);
	must(ol_path_join(path, &err, folder, "/broken/adapter_model.safetensors", ""), &err);
	assert_int_equal(truncate(path, 100), 0);
	open_node((struct ol_service_options){0});
	call(&r, "POST", CHAT, "{\"model\":\"broken\"," SAY ",\"stream\":true}");
	assert_int_equal(r.status, 500);
	assert_non_null(strstr(r.body.data, "adapter_broken"));
	release_reply(&r);

	const int fd = dial("POST", CHAT, LONG_STREAM);
	assert_true(recv(fd, piece, 1, MSG_PEEK) > 0);
	ol_service_cancel_key(service, ""); /* the key of whoever asks without one */
	read_reply(&r, fd);
	assert_int_equal(r.status, 200);
	const bool told = strstr(r.body.data, "data: {\"error\":") != NULL;
	assert_true(told || strstr(r.body.data, "[DONE]")); /* or it was quicker */
	assert_true(!told || !strstr(r.body.data, "[DONE]"));
	release_reply(&r);
	close_node();
	must(ol_path_join(path, &err, folder, "/broken", ""), &err);
	remove_folder(path);
}

/* --- money ----------------------------------------------------------------- */

static bool poor;

static bool reserve(void *self, void **charge, struct ol_refusal *refusal, const struct ol_ask *ask,
		    uint64_t prompt_tokens, uint64_t completion_max, struct ol_error *err)
{
	(void)self;
	(void)charge;
	(void)prompt_tokens;
	(void)completion_max;
	OL_ASSERT(strcmp(ask->account, "local") == 0);
	if (!poor)
		return true;
	*refusal = (struct ol_refusal){402, "insufficient_quota", "insufficient_quota", 0};
	(void)ol_fail(err, OL_ERR_INPUT, "3 OPEN are missing");
	return false;
}

static enum ol_status post(void *self, void *charge, json_t **receipt,
			   const struct ol_answered *answered, struct ol_error *err)
{
	(void)self;
	(void)charge;
	(void)err;
	*receipt = json_pack("{s:{s:I}}", "receipt", "leaf",
			     (json_int_t)answered->usage.completion_tokens);
	return OL_OK;
}

static json_t *price(void *self, const char *model)
{
	(void)self;
	return json_string(model);
}

static void test_receipts(void **state)
{
	struct reply r;
	(void)state;
	open_node((struct ol_service_options){
		.accounting = {.reserve = reserve, .post = post, .price = price}});
	json_t *answer = call_json(200, "POST", CHAT,
				   "{\"model\":\"tiny\"," SAY
				   ",\"max_tokens\":5,\"ignore_eos\":true,\"seed\":9}");
	const json_t *extra = json_object_get(answer, "openledger");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(extra, "receipt"), "leaf")), 5);
	assert_int_equal(json_integer_value(json_object_get(extra, "seed")), 9);
	json_decref(answer);
	call(&r, "POST", CHAT,
	     "{\"model\":\"tiny\"," SAY ",\"max_tokens\":5,\"ignore_eos\":true,\"stream\":true}");
	assert_non_null(strstr(r.body.data, "\"receipt\":{\"leaf\":5}"));
	release_reply(&r);
	json_t *model = call_json(200, "GET", "/v1/models/a2", "");
	assert_string_equal(json_string_value(json_object_get(model, "price")), "a2");
	json_decref(model);
	poor = true;
	answer = call_json(402, "POST", CHAT, "{\"model\":\"tiny\"," SAY "}");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(answer, "error"), "message")),
		"3 OPEN are missing");
	json_decref(answer);
	poor = false;
	close_node();
}

static int make_adapters(void **state)
{
	(void)state;
	make_folder(folder, sizeof folder);
	for (uint32_t i = 0; i < ADAPTERS; i++) {
		char name[16];
		(void)snprintf(name, sizeof name, "a%u", i);
		write_adapter(folder, name, i);
	}
	return 0;
}

static int remove_adapters(void **state)
{
	(void)state;
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_unknown_fields),
		cmocka_unit_test(test_busy_and_draining),
		cmocka_unit_test(test_embeddings_in_both_forms),
		cmocka_unit_test(test_models),
		cmocka_unit_test(test_a_vanished_client_ends_its_answer),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_receipts),
	};
	return cmocka_run_group_tests(tests, make_adapters, remove_adapters);
}
