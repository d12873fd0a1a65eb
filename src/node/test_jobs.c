/* Jobs: from a request to an adapter that is served, whatever ends in between.
 *
 * This program is its own trainer: started as `train-job FOLDER` it trains for real, or behaves as
 * the suffix of the model's name says. */
#define _GNU_SOURCE
#include "node/jobs.h"
#include "node/jobs_worker.h"

#include "model/model_internal.h"
#include "node/adapters.h"
#include "node/test_folder.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

/* ---- The trainer ---- */

static int steps_asked, die_at;

static volatile sig_atomic_t stop_asked;

static void on_term(int signal_number)
{
	(void)signal_number;
	stop_asked = 1;
}

/* Slow enough that a test can come in between; and it can die in the middle. */
static bool stopped(void)
{
	if (++steps_asked == die_at)
		raise(SIGKILL);
	nanosleep(&(struct timespec){.tv_nsec = 15000000}, NULL);
	return stop_asked != 0;
}

static bool is_first_attempt(const char *folder)
{
	char path[OL_PATH_MAX];
	OL_ASSERT(ol_path_join(path, NULL, folder, "/attempted", "") == OL_OK);
	FILE *file = fopen(path, "wx");
	if (file)
		fclose(file);
	return file != NULL;
}

static void say(const char *line)
{
	printf("%s\n", line);
	fflush(stdout);
}

static int be_trainer(const char *folder)
{
	char path[OL_PATH_MAX];
	json_error_t why;
	OL_ASSERT(ol_path_join(path, NULL, folder, "/job.json", "") == OL_OK);
	json_t *job = json_load_file(path, 0, &why);
	char model[OL_NAME_MAX + 1];
	snprintf(model, sizeof model, "%s", json_string_value(json_object_get(job, "model")));
	json_decref(job);
	signal(SIGTERM, on_term);
	if (strstr(model, ":crash-once:") && is_first_attempt(folder)) {
		say("{\"type\":\"start\",\"step\":0,\"steps\":9}");
		say("something odd happened at line 7");
		raise(SIGABRT);
	}
	if (strstr(model, ":die-once:") && is_first_attempt(folder))
		die_at = 25;
	if (strstr(model, ":crash-always:")) {
		say("the last words");
		return 3;
	}
	if (strstr(model, ":error:")) {
		say("{\"type\":\"error\",\"status\":1,\"text\":\"the run diverges at step 3\"}");
		return 1;
	}
	if (strstr(model, ":hang:")) {
		say("{\"type\":\"start\",\"step\":0,\"steps\":9}");
		for (;;)
			pause();
	}
	if (strstr(model, ":quick") || strstr(model, ":crash-once:")) {
		say("{\"type\":\"start\",\"step\":0,\"steps\":9}");
		say("{\"type\":\"step\",\"step\":9,\"loss\":1.5,\"rate\":0.1,\"tokens\":90,"
		    "\"seconds\":1}");
		say("{\"type\":\"nonsense\"} and {\"more\":");
		say("{\"type\":\"done\",\"sha256\":\"00\",\"step\":9,\"tokens\":90}");
		return 0;
	}
	const struct ol_job_work work = {.folder = folder, .fd = 1, .stopped = stopped};
	return ol_job_work(&work) ? 0 : 1;
}

/* ---- A node with a tiny model ---- */

static const struct ol_config base = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = 97,
	.hidden = 16,
	.ffn = 24,
	.layers = 2,
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

/* Ids 0 … 2 are <unk>, <s>, </s>; each printable character is a token. */
static void put_tokenizer(struct ol_buf *out)
{
	static const char *const special[] = {"<unk>", "<s>", "</s>"};
	ol_buf_append_text(out, "{\"version\":\"1.0\",\"added_tokens\":[");
	for (int id = 0; id < 3; id++)
		ol_buf_printf(out,
			      "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,"
			      "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
			      "\"special\":true}",
			      id ? "," : "", id, special[id]);
	ol_buf_append_text(out,
			   "],\"normalizer\":null,\"pre_tokenizer\":null,"
			   "\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":"
			   "\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":"
			   "false,\"merges\":[],\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2");
	for (int c = ' '; c < '~'; c++)
		ol_buf_printf(out, ",\"%s%c\":%d", c == '"' || c == '\\' ? "\\" : "", c,
			      c - ' ' + 3);
	ol_buf_append_text(out, "}}}");
}

static void add_model(const struct ol_home *home, const char *name)
{
	struct ol_model *model;
	struct ol_buf tokenizer;
	char path[OL_PATH_MAX];
	ol_buf_init(&tokenizer, 1 << 20);
	put_tokenizer(&tokenizer);
	assert_int_equal(ol_model_random(&model, &base, OL_WEIGHT_F32, 5, NULL), OL_OK);
	const struct ol_model_text text = {"tokenizer.json", tokenizer.data, tokenizer.size};
	const struct ol_model_source source = {.config = &base,
					       .type = OL_WEIGHT_F32,
					       .texts = &text,
					       .text_count = 1,
					       .rows = ol_model_rows,
					       .context = model};
	assert_int_equal(ol_home_model_path(home, path, name, NULL), OL_OK);
	assert_int_equal(ol_model_write(path, &source, NULL), OL_OK);
	ol_model_close(model);
	ol_buf_release(&tokenizer);
}

struct world {
	struct ol_home home;
	struct ol_launcher *launcher;
	struct ol_store *store;
	struct ol_files *files;
	struct ol_jobs *jobs;
	char file[OL_FILE_ID_CHARS + 1];
	pthread_mutex_t lock;
	char made[16][OL_NAME_MAX + 1];
	_Atomic int made_count, events;
};

static void on_model(void *context, const char *model, const char *account)
{
	struct world *w = context;
	(void)account;
	pthread_mutex_lock(&w->lock);
	snprintf(w->made[w->made_count % 16], sizeof w->made[0], "%s", model);
	w->made_count++;
	pthread_mutex_unlock(&w->lock);
}

static void on_event(void *context)
{
	atomic_fetch_add(&((struct world *)context)->events, 1);
}

static void open_world(struct world *w, bool run)
{
	struct ol_error err = {0};
	if (run)
		assert_int_equal(ol_launcher_start(&w->launcher, "/proc/self/exe", &err), OL_OK);
	const struct ol_files_options none = {0};
	const struct ol_jobs_options options = {.launcher = w->launcher,
						.on_model = on_model,
						.context = w,
						.account_open_max = 6,
						.unconfined = true,
						.report_seconds = 0.05};
	assert_int_equal(ol_store_open(&w->store, &w->home, OL_STORE_NODE, &err), OL_OK);
	assert_int_equal(ol_files_open(&w->files, &w->home, w->store, &none, true, &err), OL_OK);
	if (ol_jobs_open(&w->jobs, &w->home, w->store, w->files, &options, &err) != OL_OK)
		fail_msg("%s", err.text);
	ol_jobs_watch(w->jobs, on_event, w);
}

static void close_world(struct world *w)
{
	ol_jobs_close(w->jobs);
	ol_files_close(w->files);
	ol_store_close(w->store);
	ol_launcher_close(w->launcher);
	w->launcher = NULL;
}

static void upload(struct world *w, const char *account, char id[OL_FILE_ID_CHARS + 1], int count)
{
	struct ol_upload *u;
	struct ol_file file;
	struct ol_error err = {0};
	assert_int_equal(ol_upload_open(&u, w->files, account, NULL), OL_OK);
	for (int i = 0; i < count; i++) {
		char line[128];
		const int n = snprintf(line, sizeof line,
				       "{\"prompt\":\"%d + %d =\",\"completion\":\" %d\","
				       "\"id\":\"e%d\"}\n",
				       i, i, i + i, i);
		assert_int_equal(ol_upload_append(u, line, (size_t)n, NULL), OL_OK);
	}
	if (ol_upload_finish(u, &file, "sums.jsonl", "fine-tune", &err) != OL_OK)
		fail_msg("%s", err.text);
	memcpy(id, file.id, sizeof file.id);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	pthread_mutex_init(&w->lock, NULL);
	test_home_make(&w->home);
	setenv("OPENLEDGER_THREADS", "1", 1);
	add_model(&w->home, "tiny");
	open_world(w, true);
	upload(w, "local", w->file, 24);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	close_world(w);
	test_folder_remove(w->home.path);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return 0;
}

/* ---- Asking ---- */

static json_t *create_as(struct world *w, const char *account, const char *file, const char *suffix,
			 json_t *more)
{
	struct ol_job_refusal refusal;
	json_t *job, *request = json_pack("{s:s, s:s, s:s}", "model", "tiny", "training_file", file,
					  "suffix", suffix);
	json_object_update(request, more);
	if (ol_jobs_create(w->jobs, &job, account, request, &refusal) != OL_OK)
		fail_msg("%s: %s", refusal.field, refusal.error.text);
	json_decref(request);
	json_decref(more);
	return job;
}

static char *create(struct world *w, const char *suffix, json_t *more)
{
	json_t *job = create_as(w, "local", w->file, suffix, more);
	assert_string_equal(json_string_value(json_object_get(job, "status")), "queued");
	char *id = strdup(json_string_value(json_object_get(job, "id")));
	json_decref(job);
	return id;
}

static json_t *real_steps(int steps)
{
	return json_pack("{s:{s:i, s:i, s:i}, s:{s:i}, s:i}", "openledger", "rank", 2, "steps",
			 steps, "checkpoint_steps", 10, "hyperparameters", "batch_size", 4, "seed",
			 7);
}

static json_t *get(struct world *w, const char *id)
{
	json_t *job;
	assert_int_equal(ol_jobs_get(w->jobs, &job, "local", id, NULL), OL_OK);
	return job;
}

static int64_t number_of(struct world *w, const char *id, const char *object, const char *name)
{
	json_t *job = get(w, id);
	const json_t *in = *object ? json_object_get(job, object) : job;
	const int64_t value = json_integer_value(json_object_get(in, name));
	json_decref(job);
	return value;
}

static bool has_status(struct world *w, const char *id, const char *status)
{
	json_t *job = get(w, id);
	const bool is = strcmp(json_string_value(json_object_get(job, "status")), status) == 0;
	json_decref(job);
	return is;
}

static void await_status(struct world *w, const char *id, const char *status)
{
	for (int i = 0; i < 12000; i++) {
		if (has_status(w, id, status))
			return;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	json_t *job = get(w, id);
	char *text = json_dumps(job, JSON_INDENT(1));
	fail_msg("not %s: %s", status, text);
}

static void await_step(struct world *w, const char *id, int64_t step)
{
	for (int i = 0; i < 12000; i++) {
		if (number_of(w, id, "openledger", "step") >= step)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	fail_msg("step %d is not reached", (int)step);
}

static char *sha_of(struct world *w, const char *id)
{
	json_t *job = get(w, id);
	char *sha = strdup(json_string_value(
		json_object_get(json_object_get(job, "openledger"), "adapter_sha256")));
	json_decref(job);
	return sha;
}

/* How many events hold a text in their message. */
static int events_with(struct world *w, const char *id, const char *text)
{
	json_t *list;
	int count = 0;
	assert_int_equal(ol_jobs_events(w->jobs, &list, "local", id, NULL, 1000, NULL), OL_OK);
	json_t *data = json_object_get(list, "data");
	for (size_t i = 0; i < json_array_size(data); i++)
		count += strstr(json_string_value(
					json_object_get(json_array_get(data, i), "message")),
				text) != NULL;
	json_decref(list);
	return count;
}

static void act(struct world *w, const char *id, enum ol_job_action action, const char *shows)
{
	json_t *job;
	struct ol_error err = {0};
	if (ol_jobs_act(w->jobs, &job, "local", id, action, &err) != OL_OK)
		fail_msg("%s", err.text);
	assert_string_equal(json_string_value(json_object_get(job, "status")), shows);
	json_decref(job);
}

/* ---- From request to adapter ---- */

static void a_job_makes_an_adapter(void **state)
{
	struct world *w = *state;
	struct ol_adapter *adapter;
	char path[OL_PATH_MAX], hex[2 * OL_SHA256_BYTES + 1];
	char *id = create(w, "sums", real_steps(30));
	await_status(w, id, "succeeded");
	json_t *job = get(w, id);
	const char *model = json_string_value(json_object_get(job, "fine_tuned_model"));
	assert_non_null(model);
	assert_memory_equal(model, "ft:tiny:sums:", 13);
	assert_string_equal(model + 13, id + strlen(id) - 8);
	assert_int_equal(w->made_count, 1);
	assert_string_equal(w->made[0], model);
	assert_true(json_integer_value(json_object_get(job, "trained_tokens")) > 30 * 4);
	assert_true(json_integer_value(json_object_get(job, "finished_at")) > 0);
	assert_true(json_is_null(json_object_get(job, "error")));
	/* It is what it says it is. */
	char *sha = sha_of(w, id);
	assert_int_equal(ol_home_find_adapter(&w->home, path, model, NULL), OL_OK);
	assert_int_equal(ol_adapter_open(&adapter, path, &base, NULL), OL_OK);
	ol_hex(hex, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	assert_string_equal(hex, sha);
	ol_adapter_close(adapter);
	assert_int_equal(events_with(w, id, "Created fine-tuning job"), 1);
	assert_int_equal(events_with(w, id, "job started: 30 steps"), 1);
	assert_true(events_with(w, id, "training loss=") >= 1);
	assert_int_equal(events_with(w, id, "Checkpoint created"), 3);
	assert_int_equal(events_with(w, id, "successfully completed"), 1);
	/* Pages: newest first, each once. */
	json_t *list;
	char after[64] = "";
	int count = 0;
	for (bool more = true; more; json_decref(list)) {
		assert_int_equal(ol_jobs_checkpoints(w->jobs, &list, "local", id,
						     *after ? after : NULL, 2, NULL),
				 OL_OK);
		json_t *data = json_object_get(list, "data");
		count += (int)json_array_size(data);
		more = json_is_true(json_object_get(list, "has_more"));
		snprintf(after, sizeof after, "%s",
			 json_string_value(json_object_get(list, "last_id")));
		if (count == 2)
			assert_string_equal(
				json_string_value(json_object_get(json_array_get(data, 0),
								  "fine_tuned_model_checkpoint")),
				model);
	}
	assert_int_equal(count, 3);
	free(sha);
	free(id);
	json_decref(job);
}

static void streams_see_every_event_once(void **state)
{
	struct world *w = *state;
	char *id = create(w, "quick", NULL);
	int64_t last = 0;
	bool over = false;
	int count = 0;
	while (!over) {
		json_t *events;
		assert_int_equal(ol_jobs_news(w->jobs, &events, &last, &over, "local", id, 2, NULL),
				 OL_OK);
		count += (int)json_array_size(events);
		json_decref(events);
	}
	json_t *list;
	assert_int_equal(ol_jobs_events(w->jobs, &list, "local", id, NULL, 1000, NULL), OL_OK);
	assert_int_equal(json_array_size(json_object_get(list, "data")), count);
	assert_true(count >= 5);
	assert_true(w->events > 0);
	json_decref(list);
	free(id);
}

/* ---- The same bits, whatever ends in between ---- */

static void pause_restart_and_death_keep_the_bits(void **state)
{
	struct world *w = *state;
	enum { STEPS = 60 };
	char *plain = create(w, "plain", real_steps(STEPS));
	await_status(w, plain, "succeeded");
	char *expected = sha_of(w, plain);
	const int64_t tokens = number_of(w, plain, "", "trained_tokens");
	char *paused = create(w, "paused", real_steps(STEPS));
	await_step(w, paused, 15);
	act(w, paused, OL_JOB_PAUSE, "paused");
	await_status(w, paused, "paused");
	const int64_t at = number_of(w, paused, "openledger", "step");
	assert_in_range(at, 15, STEPS - 1);
	for (;;) { /* until its checkpoint is written */
		json_t *job;
		if (ol_jobs_act(w->jobs, &job, "local", paused, OL_JOB_RESUME, NULL) == OL_OK) {
			json_decref(job);
			break;
		}
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	await_status(w, paused, "succeeded");
	assert_int_equal(events_with(w, paused, "goes on after step"), 1);
	/* The server stops in an orderly way and is started again. */
	char *restarted = create(w, "restarted", real_steps(STEPS));
	await_step(w, restarted, 15);
	close_world(w);
	open_world(w, true);
	await_status(w, restarted, "succeeded");
	assert_int_equal(events_with(w, restarted, "server is stopping"), 1);
	/* The trainer is killed in the middle. */
	char *killed = create(w, "die-once", real_steps(STEPS));
	await_status(w, killed, "succeeded");
	assert_int_equal(events_with(w, killed, "signal 9"), 1);
	assert_int_equal(events_with(w, killed, "goes on after step 20 of 60"), 1);
	char *const ids[] = {plain, paused, restarted, killed};
	for (size_t i = 0; i < OL_ARRAY_LEN(ids); i++) {
		char *sha = sha_of(w, ids[i]);
		assert_string_equal(sha, expected);
		assert_int_equal(number_of(w, ids[i], "", "trained_tokens"), tokens);
		free(sha);
		free(ids[i]);
	}
	free(expected);
}

/* kill -9 of the whole server: its trainers stop, the next server goes on. */
static void kill_9_of_the_server_keeps_the_bits(void **state)
{
	struct world *w = *state;
	enum { STEPS = 60 };
	char *plain = create(w, "plain", real_steps(STEPS));
	await_status(w, plain, "succeeded");
	char *expected = sha_of(w, plain);
	close_world(w);
	int ends[2];
	char id[OL_JOB_ID_CHARS + 1] = "";
	assert_int_equal(pipe(ends), 0);
	const pid_t server = fork();
	if (server == 0) {
		open_world(w, true);
		char *made = create(w, "doomed", real_steps(STEPS));
		await_step(w, made, 25);
		OL_ASSERT(write(ends[1], made, strlen(made)) > 0);
		for (;;)
			pause();
	}
	close(ends[1]);
	assert_true(read(ends[0], id, sizeof id - 1) > 0);
	kill(server, SIGKILL);
	assert_int_equal(waitpid(server, NULL, 0), server);
	close(ends[0]);
	open_world(w, true);
	await_status(w, id, "succeeded");
	assert_int_equal(events_with(w, id, "server was started anew"), 1);
	assert_true(events_with(w, id, "goes on after step") >= 1);
	char *sha = sha_of(w, id);
	assert_string_equal(sha, expected);
	free(sha);
	free(expected);
	free(plain);
}

/* ---- Every way to end ---- */

static void every_end_has_its_status(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *suffix, *status, *code, *says;
	} rows[] = {
		{"quick", "succeeded", NULL, "New fine-tuned model created"},
		{"crash-once", "succeeded", NULL, "signal 6: something odd happened at line 7"},
		{"error", "failed", "training_failed", "the run diverges at step 3"},
		{"crash-always", "failed", "trainer_crashed", "status 3: the last words"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char *id = create(w, rows[i].suffix, NULL);
		await_status(w, id, rows[i].status);
		assert_true(events_with(w, id, rows[i].says) >= 1);
		json_t *job = get(w, id);
		const json_t *error = json_object_get(job, "error");
		if (rows[i].code) {
			assert_string_equal(json_string_value(json_object_get(error, "code")),
					    rows[i].code);
			assert_non_null(strstr(json_string_value(json_object_get(error, "message")),
					       rows[i].says));
			assert_true(json_is_null(json_object_get(job, "fine_tuned_model")));
		} else {
			assert_true(json_is_null(error));
		}
		json_decref(job);
		free(id);
	}
	/* The one that crashed always was tried twice, the others once more at most. */
	assert_int_equal(w->made_count, 2);
}

static void actions_fit_the_status(void **state)
{
	struct world *w = *state;
	json_t *job;
	struct ol_error err;
	char *running = create(w, "hang", NULL), *waiting = create(w, "quick", NULL);
	await_status(w, running, "running");
	assert_true(has_status(w, waiting, "queued"));
	act(w, waiting, OL_JOB_PAUSE, "paused");
	assert_int_equal(ol_jobs_act(w->jobs, &job, "local", waiting, OL_JOB_PAUSE, &err),
			 OL_ERR_INPUT);
	assert_non_null(strstr(err.text, "is paused"));
	act(w, waiting, OL_JOB_RESUME, "queued");
	assert_int_equal(ol_jobs_act(w->jobs, &job, "local", waiting, OL_JOB_RESUME, NULL),
			 OL_ERR_INPUT);
	assert_int_equal(ol_jobs_act(w->jobs, &job, "local", running, OL_JOB_RESUME, NULL),
			 OL_ERR_INPUT);
	assert_int_equal(ol_jobs_act(w->jobs, &job, "0xother", running, OL_JOB_CANCEL, &err),
			 OL_ERR_NOT_FOUND);
	act(w, running, OL_JOB_CANCEL, "cancelled");
	await_status(w, running, "cancelled");
	await_status(w, waiting, "succeeded");
	for (int action = OL_JOB_CANCEL; action <= OL_JOB_RESUME; action++)
		assert_int_equal(ol_jobs_act(w->jobs, &job, "local", running,
					     (enum ol_job_action)action, NULL),
				 OL_ERR_INPUT);
	char *cancelled = create(w, "hang", NULL);
	act(w, cancelled, OL_JOB_CANCEL, "cancelled");
	await_status(w, cancelled, "cancelled");
	free(cancelled);
	free(running);
	free(waiting);
}

static void accounts_take_turns(void **state)
{
	struct world *w = *state;
	char other[OL_FILE_ID_CHARS + 1];
	upload(w, "0xother", other, 3);
	close_world(w);
	open_world(w, false); /* kept, not run */
	static const char *const order[] = {
		":quick-a1:", ":quick-b1:", ":quick-a2:", ":quick-b2:", ":quick-a3:"};
	for (int i = 0; i < 3; i++) {
		char suffix[24];
		snprintf(suffix, sizeof suffix, "quick-a%d", i + 1);
		free(create(w, suffix, NULL));
	}
	json_decref(create_as(w, "0xother", other, "quick-b1", NULL));
	json_decref(create_as(w, "0xother", other, "quick-b2", NULL));
	close_world(w);
	open_world(w, true);
	for (int i = 0; i < 4000 && w->made_count < 5; i++)
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	assert_int_equal(w->made_count, 5);
	for (int i = 0; i < 5; i++)
		assert_non_null(strstr(w->made[i], order[i]));
}

/* ---- What is refused ---- */

static void bad_requests_name_the_field(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *json, *field;
		enum ol_status status;
	} rows[] = {
		{"[]", "", OL_ERR_INPUT},
		{"{'training_file':'F'}", "model", OL_ERR_INPUT},
		{"{'model':'nope','training_file':'F'}", "model", OL_ERR_NOT_FOUND},
		{"{'model':'../tiny','training_file':'F'}", "model", OL_ERR_NOT_FOUND},
		{"{'model':'tiny'}", "training_file", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'file-nope'}", "training_file", OL_ERR_NOT_FOUND},
		{"{'model':'tiny','training_file':'F','validation_file':7}", "validation_file",
		 OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','suffix':'a b'}", "suffix", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','suffix':'a:b'}", "suffix", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','seed':-1}", "seed", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','metadata':{'a':1}}", "metadata",
		 OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','integrations':[{}]}", "integrations",
		 OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','method':{'type':'reinforcement'}}",
		 "method.type", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','hyperparameters':{'n_epochs':0}}",
		 "hyperparameters.n_epochs", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','method':{'type':'supervised','supervised':"
		 "{'hyperparameters':{'batch_size':1.5}}}}",
		 "hyperparameters.batch_size", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','hyperparameters':"
		 "{'learning_rate_multiplier':0}}",
		 "hyperparameters.learning_rate_multiplier", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','openledger':{'rnk':3}}", "openledger.rnk",
		 OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','openledger':{'rank':0}}", "openledger.rank",
		 OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','openledger':{'targets':'q,z'}}",
		 "openledger.targets", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','openledger':{'attributable':1}}",
		 "openledger.attributable", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','openledger':{'schedule':'wavy'}}",
		 "openledger.schedule", OL_ERR_INPUT},
		{"{'model':'tiny','training_file':'F','openledger':{'quantization':'q2'}}",
		 "openledger.quantization", OL_ERR_INPUT},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char text[512];
		size_t n = 0;
		json_error_t why;
		json_t *job;
		struct ol_job_refusal refusal;
		for (const char *p = rows[i].json; *p; p++)
			if (p[0] == 'F' && p[1] == '\'')
				n += (size_t)snprintf(text + n, sizeof text - n, "%s", w->file);
			else
				text[n++] = (char)(*p == '\'' ? '"' : *p);
		text[n] = '\0';
		json_t *request = json_loads(text, 0, &why);
		assert_non_null(request);
		assert_int_equal(ol_jobs_create(w->jobs, &job, "local", request, &refusal),
				 rows[i].status);
		assert_string_equal(refusal.field, rows[i].field);
		assert_true(strlen(refusal.error.text) > 10);
		json_decref(request);
	}
}

static void open_jobs_are_bounded(void **state)
{
	struct world *w = *state;
	struct ol_job_refusal refusal;
	json_t *job, *request = json_pack("{s:s, s:s}", "model", "tiny", "training_file", w->file);
	close_world(w);
	open_world(w, false);
	for (int i = 0; i < 6; i++)
		free(create(w, "quick", NULL));
	assert_int_equal(ol_jobs_create(w->jobs, &job, "local", request, &refusal), OL_ERR_FULL);
	json_decref(request);
}

static void a_file_may_be_deleted_meanwhile(void **state)
{
	struct world *w = *state;
	close_world(w);
	open_world(w, false);
	char *id = create(w, "sums", real_steps(3));
	assert_int_equal(ol_files_delete(w->files, "local", w->file, NULL), OL_OK);
	close_world(w);
	open_world(w, true);
	await_status(w, id, "succeeded");
	free(id);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "train-job") == 0)
		return be_trainer(argv[2]);
#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ROW(a_job_makes_an_adapter),
		ROW(streams_see_every_event_once),
		ROW(pause_restart_and_death_keep_the_bits),
		ROW(kill_9_of_the_server_keeps_the_bits),
		ROW(every_end_has_its_status),
		ROW(actions_fit_the_status),
		ROW(accounts_take_turns),
		ROW(bad_requests_name_the_field),
		ROW(open_jobs_are_bounded),
		ROW(a_file_may_be_deleted_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
