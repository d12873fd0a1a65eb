/* http/openai_models.c: what can be asked for, and changing it. */
#include "http/openai_internal.h"

#include "crypto/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void ol_openai_model_not_found(struct ol_http_request *request, const char *model)
{
	ol_http_error(request, 404, "invalid_request_error", "model", "model_not_found",
		      "The model `%.128s` does not exist or you do not have access to it.", model);
}

static void write_member(struct ol_buf *out, const char *key, const char *value)
{
	ol_buf_printf(out, ",\"%s\":", key);
	if (value)
		ol_write_string(out, value, strlen(value));
	else
		ol_buf_append_text(out, "null");
}

/* OpenAI's four members, vLLM's root, parent and max_model_len, and ours. */
static void write_model(struct ol_buf *out, const struct ol_openai *openai,
			const struct ol_served *m)
{
	const struct ol_accounting *accounting = ol_service_accounting(openai->service);
	char id[2 * OL_MODEL_ID_BYTES + 1];
	const bool adapter = m->parent[0] != '\0';
	ol_buf_append_text(out, "{\"id\":");
	ol_write_string(out, m->name, strlen(m->name));
	ol_buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"openledger\"",
		      (long long)m->created);
	write_member(out, "root", adapter ? m->parent : m->name);
	write_member(out, "parent", adapter ? m->parent : NULL);
	ol_buf_printf(out, ",\"max_model_len\":%lld", (long long)ol_service_room(openai->service));
	if (adapter) {
		ol_buf_append_text(out, ",\"card\":\"/v1/models/");
		ol_buf_append_text(out, m->name); /* letters, digits and . _ - : only */
		ol_buf_append_text(out, "/card\"");
	} else {
		ol_hex(id, ol_model_id(ol_service_runtime(openai->service)->model),
		       OL_MODEL_ID_BYTES);
		write_member(out, "card", NULL);
		write_member(out, "model_id", id);
	}
	json_t *price = accounting->price ? accounting->price(accounting->self, m->name) : NULL;
	char *text = price ? json_dumps(price, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	ol_buf_append_text(out, ",\"price\":");
	ol_buf_append_text(out, text ? text : "null");
	ol_buf_append_text(out, "}");
	free(text);
	json_decref(price);
}

/* ?after=NAME&limit=N: so many after that name. */
void ol_openai_models(void *self, struct ol_http_request *request)
{
	struct ol_openai *openai = self;
	const char *after = ol_http_query(request, "after"),
		   *limit = ol_http_query(request, "limit");
	long most = OL_OPENAI_MODELS_MAX;
	struct ol_served *m = ol_http_alloc(request, sizeof *m);
	struct ol_buf out;
	char *end;
	if (limit) {
		most = strtol(limit, &end, 10);
		if (*end || end == limit || most < 1 || most > OL_OPENAI_MODELS_MAX) {
			ol_http_error(request, 400, "invalid_request_error", "limit",
				      "invalid_value", "'limit' must be from 1 to %d",
				      OL_OPENAI_MODELS_MAX);
			return;
		}
	}
	ol_buf_init(&out, OL_ANSWER_TEXT_MAX);
	ol_buf_append_text(&out, "{\"object\":\"list\",\"data\":[");
	bool more = m && ol_service_next(openai->service, m, after);
	for (long i = 0; more && i < most; i++) {
		if (i > 0)
			ol_buf_append_text(&out, ",");
		write_model(&out, openai, m);
		more = ol_service_next(openai->service, m, m->name);
	}
	ol_buf_printf(&out, "],\"has_more\":%s}", more ? "true" : "false");
	out.failed |= !m;
	ol_http_reply_buf(request, 200, "application/json", &out);
}

static struct ol_served *find(const struct ol_openai *openai, struct ol_http_request *request)
{
	const char *model = ol_http_param(request, "model");
	struct ol_served *m = ol_http_alloc(request, sizeof *m);
	if (!m) {
		ol_http_error_later(request, 503, 1, "server_error", "no_memory", "out of memory");
		return NULL;
	}
	if (ol_service_find(openai->service, m, model))
		return m;
	ol_openai_model_not_found(request, model);
	return NULL;
}

void ol_openai_model(void *self, struct ol_http_request *request)
{
	const struct ol_openai *openai = self;
	const struct ol_served *m = find(openai, request);
	struct ol_buf out;
	if (!m)
		return;
	ol_buf_init(&out, OL_OPENAI_BODY_MAX);
	write_model(&out, openai, m);
	ol_http_reply_buf(request, 200, "application/json", &out);
}

/* README.md of an adapter, as it lies there. */
void ol_openai_card(void *self, struct ol_http_request *request)
{
	const struct ol_served *m = find(self, request);
	char path[OL_PATH_MAX];
	struct stat info;
	if (!m)
		return;
	const int fd =
		m->folder[0] && ol_path_join(path, NULL, m->folder, "/README.md", "") == OL_OK
			? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
			: -1;
	if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
		if (fd >= 0)
			(void)close(fd);
		ol_http_error(request, 404, "invalid_request_error", "model", "no_card",
			      "The model `%s` has no card.", m->name);
		return;
	}
	ol_http_reply_file(request, 200, "text/markdown; charset=utf-8", fd, 0,
			   (uint64_t)info.st_size);
}

/* --- vLLM's names ---------------------------------------------------------- */

static void change(struct ol_openai *openai, struct ol_http_request *request, bool load)
{
	json_t *body = ol_http_body_json(request);
	const char *name = NULL, *folder = NULL;
	struct ol_fields f;
	struct ol_error err = {0};
	if (!body)
		return;
	ol_fields_init(&f, body);
	if (!f.failed && !ol_fields_text(&f, "lora_name", &name))
		ol_fields_fail(&f, "lora_name", "missing_required_parameter",
			       "Missing required parameter: 'lora_name'.");
	if (!f.failed && load)
		(void)ol_fields_text(&f, "lora_path", &folder);
	if (f.failed) {
		json_decref(body);
		ol_fields_reply(&f, request);
		return;
	}
	const enum ol_status s = load ? ol_service_load(openai->service, name, folder, &err)
				      : ol_service_unload(openai->service, name, &err);
	ol_http_note(request, "adapter", name);
	if (s == OL_OK) {
		struct ol_buf text;
		ol_buf_init(&text, OL_OPENAI_SMALL_BODY_MAX);
		ol_buf_printf(&text, "Success: LoRA adapter '%s' %s successfully.", name,
			      load ? "added" : "removed");
		json_decref(body);
		ol_http_reply_buf(request, 200, "text/plain; charset=utf-8", &text);
		return;
	}
	json_decref(body);
	ol_http_error_from(request, &err);
}

void ol_openai_load(void *self, struct ol_http_request *request)
{
	change(self, request, true);
}

void ol_openai_unload(void *self, struct ol_http_request *request)
{
	change(self, request, false);
}
