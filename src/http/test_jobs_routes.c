/* Files and fine-tuning jobs as a client of the API meets them. This program is its own trainer. */
#include "http/files_routes.h"
#include "http/jobs_routes.h"

#include "model/model_internal.h"
#include "node/test_folder.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

static const struct ol_config base = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = 16,
	.hidden = 16,
	.ffn = 16,
	.layers = 1,
	.heads = 2,
	.kv_heads = 1,
	.head_dim = 8,
	.context_max = 64,
	.norm_eps = 1e-5f,
	.embed_scale = 1.0f,
	.attention_scale = 0x1.6a09e6p-2f,
	.rope_theta = 10000,
	.rope_theta_local = 10000,
	.rope_factor = 1,
	.bos_id = 1,
	.eos_ids = {2},
	.eos_count = 1,
};

static int be_trainer(void)
{
	for (int step = 1; step <= 3; step++) {
		if (step == 1)
			printf("{\"type\":\"start\",\"step\":0,\"steps\":3}\n");
		printf("{\"type\":\"step\",\"step\":%d,\"loss\":1,\"valid_loss\":2,\"tokens\":%d}"
		       "\n",
		       step, 10 * step);
		printf("{\"type\":\"saved\",\"step\":%d}\n", step);
		fflush(stdout);
		nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	}
	printf("{\"type\":\"done\",\"sha256\":\"00\",\"step\":3}\n");
	return 0;
}

struct world {
	struct ol_home home;
	struct ol_launcher *launcher;
	struct ol_store *store;
	struct ol_files *files;
	struct ol_jobs *jobs;
	struct ol_idempotency *kept;
	struct ol_files_api *files_api;
	struct ol_jobs_api *jobs_api;
	struct ol_http_server *server;
	struct ol_http_route routes[OL_FILES_ROUTES + OL_JOBS_ROUTES];
	struct ol_buf answer; /* the last one, head and body */
	char file[OL_FILE_ID_CHARS + 1];
};

static void open_api(struct world *w)
{
	const struct ol_files_options limits = {.file_bytes_max = 100000};
	const struct ol_jobs_options options = {
		.launcher = w->launcher, .unconfined = true, .report_seconds = 0.01};
	const struct ol_idempotency_options none = {0};
	assert_int_equal(ol_store_open(&w->store, &w->home, OL_STORE_NODE, NULL), OL_OK);
	assert_int_equal(ol_files_open(&w->files, &w->home, w->store, &limits, true, NULL), OL_OK);
	assert_int_equal(ol_jobs_open(&w->jobs, &w->home, w->store, w->files, &options, NULL),
			 OL_OK);
	assert_int_equal(ol_idempotency_open(&w->kept, &w->home, &none, NULL), OL_OK);
	assert_int_equal(ol_files_api_open(&w->files_api, w->files, NULL), OL_OK);
	assert_int_equal(ol_jobs_api_open(&w->jobs_api, w->jobs, w->kept, NULL), OL_OK);
	ol_files_routes(w->routes, w->files_api);
	ol_jobs_routes(w->routes + OL_FILES_ROUTES, w->jobs_api);
	const struct ol_http_options server = {.routes = w->routes,
					       .route_count = OL_ARRAY_LEN(w->routes),
					       .log = OL_HTTP_LOG_OFF};
	assert_int_equal(ol_http_server_open(&w->server, &server, NULL), OL_OK);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct ol_model *model;
	char path[OL_PATH_MAX];
	test_home_make(&w->home);
	assert_int_equal(ol_launcher_start(&w->launcher, "/proc/self/exe", NULL), OL_OK);
	assert_int_equal(ol_model_random(&model, &base, OL_WEIGHT_F32, 5, NULL), OL_OK);
	const struct ol_model_source source = {
		.config = &base, .type = OL_WEIGHT_F32, .rows = ol_model_rows, .context = model};
	assert_int_equal(ol_home_model_path(&w->home, path, "tiny", NULL), OL_OK);
	assert_int_equal(ol_model_write(path, &source, NULL), OL_OK);
	ol_model_close(model);
	ol_buf_init(&w->answer, 1 << 20);
	open_api(w);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	ol_http_server_stop(w->server, 1000);
	ol_jobs_api_close(w->jobs_api);
	ol_files_api_close(w->files_api);
	ol_idempotency_close(w->kept);
	ol_http_server_close(w->server);
	ol_jobs_close(w->jobs);
	ol_files_close(w->files);
	ol_store_close(w->store);
	ol_launcher_close(w->launcher);
	ol_buf_release(&w->answer);
	test_folder_remove(w->home.path);
	free(w);
	return 0;
}

/* ---- A client ---- */

static int dial(const struct world *w)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(ol_http_server_port(w->server)),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
	return fd;
}

static void send_all(int fd, const char *bytes, size_t size)
{
	for (size_t at = 0; at < size;) {
		const ssize_t n = send(fd, bytes + at, size - at, MSG_NOSIGNAL);
		if (n <= 0)
			return; /* it has answered already */
		at += (size_t)n;
	}
}

/* The status; head and body in w->answer. headers: whole lines, or "". */
static int ask(struct world *w, const char *method, const char *path, const char *headers,
	       const char *body, size_t size)
{
	char piece[4096];
	struct ol_buf request;
	const int fd = dial(w);
	ol_buf_init(&request, 1 << 20);
	ol_buf_printf(&request, "%s %s HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n%s",
		      method, path, ol_http_server_port(w->server), headers);
	if (size > 0 || strcmp(method, "POST") == 0)
		ol_buf_printf(&request, "Content-Length: %zu\r\n", size);
	ol_buf_append_text(&request, "\r\n");
	ol_buf_append(&request, body, size);
	send_all(fd, request.data, request.size);
	ol_buf_release(&request);
	ol_buf_clear(&w->answer);
	for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;)
		assert_true(ol_buf_append(&w->answer, piece, (size_t)n));
	close(fd);
	assert_true(w->answer.size > 12);
	return (int)strtol(w->answer.data + 9, NULL, 10);
}

static const char *body_of(const struct world *w)
{
	const char *end = strstr(w->answer.data, "\r\n\r\n");
	assert_non_null(end);
	return end + 4;
}

static json_t *json_of(const struct world *w)
{
	json_error_t why;
	json_t *value = json_loads(body_of(w), 0, &why);
	if (!value)
		fail_msg("no JSON: %s", w->answer.data);
	return value;
}

static const char *text_at(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static int get(struct world *w, const char *path)
{
	return ask(w, "GET", path, "", "", 0);
}

static int post(struct world *w, const char *path, const char *headers, const char *body)
{
	char all[256];
	snprintf(all, sizeof all, "Content-Type: application/json\r\n%s", headers);
	return ask(w, "POST", path, all, body, strlen(body));
}

#define FORM "Content-Type: multipart/form-data; boundary=XX\r\n"
#define PURPOSE(text) "--XX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" text "\r\n"
#define DATA(name, text)                                                                           \
	"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" name                  \
	"\"\r\nContent-Type: application/octet-stream\r\n\r\n" text "\r\n"
#define END "--XX--\r\n"
#define GOOD "{\"prompt\":\"a\",\"completion\":\"b\"}\n"

static int upload(struct world *w, const char *form)
{
	return ask(w, "POST", "/v1/files", FORM, form, strlen(form));
}

static void upload_good(struct world *w)
{
	assert_int_equal(upload(w, PURPOSE("fine-tune") DATA("d.jsonl", GOOD) END), 200);
	json_t *file = json_of(w);
	snprintf(w->file, sizeof w->file, "%s", text_at(file, "id"));
	json_decref(file);
}

/* ---- Files ---- */

static void a_file_goes_up_and_comes_back(void **state)
{
	struct world *w = *state;
	char path[128];
	upload_good(w);
	json_t *file = json_of(w);
	assert_memory_equal(w->file, "file-", 5);
	assert_string_equal(text_at(file, "object"), "file");
	assert_string_equal(text_at(file, "filename"), "d.jsonl");
	assert_string_equal(text_at(file, "purpose"), "fine-tune");
	assert_string_equal(text_at(file, "status"), "processed");
	assert_int_equal(json_integer_value(json_object_get(file, "bytes")), strlen(GOOD));
	json_decref(file);
	snprintf(path, sizeof path, "/v1/files/%s", w->file);
	assert_int_equal(get(w, path), 200);
	snprintf(path, sizeof path, "/v1/files/%s/content", w->file);
	assert_int_equal(get(w, path), 200);
	assert_string_equal(body_of(w), GOOD);
	/* The same content again, the purpose behind the file: another file. */
	assert_int_equal(upload(w, DATA("C:\\x\\e.jsonl", GOOD) PURPOSE("fine-tune") END), 200);
	file = json_of(w);
	assert_string_equal(text_at(file, "filename"), "e.jsonl");
	snprintf(path, sizeof path, "/v1/files/%s", text_at(file, "id"));
	json_decref(file);
	assert_int_equal(ask(w, "DELETE", path, "", "", 0), 200);
	assert_non_null(strstr(body_of(w), "\"deleted\":true"));
	assert_int_equal(get(w, path), 404);
	/* The first one's content is still there. */
	snprintf(path, sizeof path, "/v1/files/%s/content", w->file);
	assert_int_equal(get(w, path), 200);
	snprintf(path, sizeof path, "/v1/files/%s", w->file);
	assert_int_equal(ask(w, "DELETE", path, "", "", 0), 200);
	char objects[OL_PATH_MAX];
	assert_int_equal(ol_path_join(objects, NULL, w->home.path, "/files/objects", ""), OL_OK);
	assert_int_equal(rmdir(objects), 0); /* empty */
}

static void bad_uploads_are_refused(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *form;
		int status;
		const char *says;
	} rows[] = {
		{PURPOSE("fine-tune") END, 400, "\"param\":\"file\""},
		{DATA("d.jsonl", GOOD) END, 400, "\"param\":\"purpose\""},
		{PURPOSE("batch") DATA("d.jsonl", GOOD) END, 400, "no batch API"},
		{PURPOSE("assistants") DATA("d.jsonl", GOOD) END, 400, "\"param\":\"purpose\""},
		{PURPOSE("fine-tune") DATA("d.jsonl", GOOD "{\"promt\":1}\n") END, 400,
		 "d.jsonl:2"},
		{PURPOSE("fine-tune") DATA("d.jsonl", "") END, 400, "empty"},
		{PURPOSE("fine-tune") DATA(".hidden", GOOD) END, 400, "name"},
		{PURPOSE("fine-tune") DATA("d.jsonl", GOOD) DATA("e.jsonl", GOOD) END, 400,
		 "one `file`"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const int status = upload(w, rows[i].form);
		if (status != rows[i].status || !strstr(body_of(w), rows[i].says))
			fail_msg("row %zu: %d %s", i, status, body_of(w));
	}
	char *big = malloc(150000), head[] = PURPOSE("fine-tune") DATA("d.jsonl", "");
	memset(big, 'x', 150000);
	memcpy(big, head, sizeof head - 3);
	assert_int_equal(ask(w, "POST", "/v1/files", FORM, big, 150000), 413);
	free(big);
	/* What was refused leaves nothing. */
	char path[OL_PATH_MAX];
	assert_int_equal(ol_path_join(path, NULL, w->home.path, "/files/incoming", ""), OL_OK);
	for (int i = 0; i < 200 && rmdir(path) != 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	assert_int_not_equal(access(path, F_OK), 0);
}

static void files_come_in_pages(void **state)
{
	struct world *w = *state;
	char path[256], after[64] = "";
	int count = 0;
	for (int i = 0; i < 5; i++)
		upload_good(w);
	for (bool more = true; more;) {
		snprintf(path, sizeof path, "/v1/files?limit=2&order=asc%s%s",
			 *after ? "&after=" : "", after);
		assert_int_equal(get(w, path), 200);
		json_t *list = json_of(w);
		const size_t rows = json_array_size(json_object_get(list, "data"));
		assert_string_equal(text_at(list, "object"), "list");
		more = json_is_true(json_object_get(list, "has_more"));
		assert_int_equal(rows, more ? 2 : 1);
		count += (int)rows;
		snprintf(after, sizeof after, "%s", text_at(list, "last_id"));
		json_decref(list);
	}
	assert_int_equal(count, 5);
	assert_string_equal(after, w->file);
	assert_int_equal(get(w, "/v1/files?limit=0"), 400);
	assert_int_equal(get(w, "/v1/files?limit=x"), 400);
	assert_int_equal(get(w, "/v1/files?order=up"), 400);
	assert_int_equal(get(w, "/v1/files?after=file-nope"), 400);
	assert_int_equal(get(w, "/v1/files?purpose=batch"), 200);
	assert_non_null(strstr(body_of(w), "\"data\":[]"));
}

/* ---- Jobs ---- */

static void create(struct world *w, char id[64], const char *headers)
{
	char body[256];
	snprintf(body, sizeof body,
		 "{\"model\":\"tiny\",\"training_file\":\"%s\",\"suffix\":\"x\"}", w->file);
	if (post(w, "/v1/fine_tuning/jobs", headers, body) != 200)
		fail_msg("%s", w->answer.data);
	json_t *job = json_of(w);
	snprintf(id, 64, "%s", text_at(job, "id"));
	json_decref(job);
}

static void a_job_is_followed_to_its_end(void **state)
{
	struct world *w = *state;
	char id[64], path[256];
	upload_good(w);
	create(w, id, "");
	json_t *job = json_of(w);
	assert_memory_equal(id, "ftjob-", 6);
	assert_string_equal(text_at(job, "object"), "fine_tuning.job");
	assert_string_equal(text_at(job, "status"), "queued");
	assert_string_equal(text_at(job, "training_file"), w->file);
	assert_true(json_is_null(json_object_get(job, "fine_tuned_model")));
	assert_true(json_is_array(json_object_get(job, "result_files")));
	assert_string_equal(text_at(json_object_get(job, "method"), "type"), "supervised");
	json_decref(job);
	/* The stream ends with the job. */
	snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%s/events?stream=true", id);
	assert_int_equal(get(w, path), 200);
	static const char *const seen[] = {"Created fine-tuning job",      "job started: 3 steps",
					   "Checkpoint created at step 1", "Step 3/3",
					   "successfully completed",       "data: [DONE]"};
	const char *at = w->answer.data;
	for (size_t i = 0; i < OL_ARRAY_LEN(seen); i++) {
		at = strstr(at, seen[i]);
		if (!at)
			fail_msg("no \"%s\" in: %s", seen[i], w->answer.data);
	}
	snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%s", id);
	assert_int_equal(get(w, path), 200);
	job = json_of(w);
	assert_string_equal(text_at(job, "status"), "succeeded");
	assert_memory_equal(text_at(job, "fine_tuned_model"), "ft:tiny:x:", 10);
	json_decref(job);
	snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%s/events?limit=3", id);
	assert_int_equal(get(w, path), 200);
	job = json_of(w);
	assert_int_equal(json_array_size(json_object_get(job, "data")), 3);
	assert_true(json_is_true(json_object_get(job, "has_more")));
	json_decref(job);
	snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%s/checkpoints", id);
	assert_int_equal(get(w, path), 200);
	assert_non_null(strstr(body_of(w), "\"step_number\":3"));
	assert_int_equal(get(w, "/v1/fine_tuning/jobs?limit=1"), 200);
	assert_non_null(strstr(body_of(w), id));
	snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%s/cancel", id);
	assert_int_equal(post(w, path, "", ""), 400);
}

static void bad_jobs_are_refused(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *method, *path, *body;
		int status;
		const char *says;
	} rows[] = {
		{"POST", "", "{", 400, ""},
		{"POST", "", "{\"model\":\"nope\"}", 404, "\"code\":\"model_not_found\""},
		{"POST", "", "{\"model\":\"tiny\"}", 400, "\"param\":\"training_file\""},
		{"POST", "", "{\"model\":\"tiny\",\"training_file\":\"file-x\"}", 404,
		 "\"code\":\"file_not_found\""},
		{"GET", "/ftjob-nope", "", 404, "fine_tune_not_found"},
		{"GET", "/ftjob-nope/events", "", 404, "fine_tune_not_found"},
		{"GET", "/ftjob-nope/events?stream=true", "", 404, "fine_tune_not_found"},
		{"GET", "/ftjob-nope/checkpoints", "", 404, "fine_tune_not_found"},
		{"POST", "/ftjob-nope/cancel", "", 404, "fine_tune_not_found"},
		{"POST", "/ftjob-nope/pause", "", 404, "fine_tune_not_found"},
		{"POST", "/ftjob-nope/resume", "", 404, "fine_tune_not_found"},
		{"GET", "?limit=5000", "", 400, "\"param\":\"limit\""},
		{"GET", "?after=ftjob-nope", "", 400, "\"param\":\"after\""},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char path[128];
		snprintf(path, sizeof path, "/v1/fine_tuning/jobs%s", rows[i].path);
		const int status = strcmp(rows[i].method, "GET") == 0
					   ? get(w, path)
					   : post(w, path, "", rows[i].body);
		if (status != rows[i].status || !strstr(body_of(w), rows[i].says))
			fail_msg("row %zu: %d %s", i, status, body_of(w));
	}
}

static void create_heeds_idempotency_key(void **state)
{
	struct world *w = *state;
	char first[64], second[64], body[256];
	upload_good(w);
	create(w, first, "Idempotency-Key: k1\r\n");
	assert_null(strstr(w->answer.data, "eplayed"));
	create(w, second, "Idempotency-Key: k1\r\n");
	assert_string_equal(first, second);
	assert_true(strstr(w->answer.data, "Replayed: true") ||
		    strstr(w->answer.data, "replayed: true"));
	create(w, second, "Idempotency-Key: k2\r\n");
	assert_string_not_equal(first, second);
	snprintf(body, sizeof body, "{\"model\":\"tiny\",\"training_file\":\"%s\"}", w->file);
	assert_int_equal(post(w, "/v1/fine_tuning/jobs", "Idempotency-Key: k1\r\n", body), 422);
	/* A refusal is not kept. */
	assert_int_equal(post(w, "/v1/fine_tuning/jobs", "Idempotency-Key: k3\r\n", "{}"), 400);
	create(w, second, "Idempotency-Key: k3\r\n");
}

static void a_listener_may_leave(void **state)
{
	struct world *w = *state;
	char id[64], request[512];
	upload_good(w);
	create(w, id, "");
	for (int i = 0; i < 5; i++) {
		const int fd = dial(w);
		snprintf(request, sizeof request,
			 "GET /v1/fine_tuning/jobs/%s/events?stream=true HTTP/1.1\r\n"
			 "Host: localhost:%d\r\n\r\n",
			 id, ol_http_server_port(w->server));
		send_all(fd, request, strlen(request));
		assert_true(recv(fd, request, 20, 0) > 0);
		close(fd);
	}
	char path[128];
	snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%s/events?stream=true", id);
	assert_int_equal(get(w, path), 200);
	assert_non_null(strstr(w->answer.data, "[DONE]"));
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "train-job") == 0)
		return be_trainer();
#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ROW(a_file_goes_up_and_comes_back), ROW(bad_uploads_are_refused),
		ROW(files_come_in_pages),           ROW(a_job_is_followed_to_its_end),
		ROW(bad_jobs_are_refused),          ROW(create_heeds_idempotency_key),
		ROW(a_listener_may_leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
