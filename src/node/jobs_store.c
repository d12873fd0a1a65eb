/* Jobs, events and checkpoints as rows, and as the API shows them. */
#include "node/jobs_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MESSAGE_MAX = 1200, EVENTS_MAX = 20000 };

static const char *const status_names[OL_JOB_STATUSES] = {"queued", "running",   "succeeded",
							  "failed", "cancelled", "paused"};

const char *ol_job_status_name(enum ol_job_status status)
{
	OL_ASSERT((unsigned)status < OL_JOB_STATUSES);
	return status_names[status];
}

void job_release(struct job *job)
{
	json_decref(job->request);
	free(job->error);
	job->request = NULL;
	job->error = NULL;
}

/* ---- Jobs ---- */

static const char columns[] =
	"SELECT n, id, account, base, model, training_file, validation_file, suffix, seed, request,"
	" status, want, crashes, made_at, started_at, finished_at, estimated_finish,"
	" trained_tokens, step, steps, sha256, error, error_code FROM jobs ";

#define COPY(field, column) snprintf(field, sizeof(field), "%s", ol_query_text(q, column))

/* False: out of memory, or a row that we did not write. */
static bool read_row(struct ol_query *q, struct job *job)
{
	json_error_t why;
	*job = (struct job){.n = ol_query_int(q, 0),
			    .seed = ol_query_int(q, 8),
			    .crashes = (int)ol_query_int(q, 12),
			    .made_at = ol_query_int(q, 13),
			    .started_at = ol_query_int(q, 14),
			    .finished_at = ol_query_int(q, 15),
			    .estimated_finish = ol_query_int(q, 16),
			    .trained_tokens = ol_query_int(q, 17),
			    .step = ol_query_int(q, 18),
			    .steps = ol_query_int(q, 19)};
	const int64_t status = ol_query_int(q, 10), want = ol_query_int(q, 11);
	COPY(job->id, 1);
	COPY(job->account, 2);
	COPY(job->base, 3);
	COPY(job->model, 4);
	COPY(job->training_file, 5);
	COPY(job->validation_file, 6);
	COPY(job->suffix, 7);
	COPY(job->sha256, 20);
	COPY(job->error_code, 22);
	job->request = json_loads(ol_query_text(q, 9), 0, &why);
	if (!ol_query_is_null(q, 21))
		job->error = strdup(ol_query_text(q, 21));
	if (!job->request || (!job->error && !ol_query_is_null(q, 21)) || status < 0 ||
	    status >= OL_JOB_STATUSES || want < WANT_NOTHING || want > WANT_PAUSE) {
		job_release(job);
		return false;
	}
	job->status = (enum ol_job_status)status;
	job->want = (enum job_want)want;
	return true;
}

/* The first row of an open query. */
static enum ol_status read_first(struct ol_query *q, struct job *job, bool *found,
				 struct ol_error *err)
{
	*found = ol_query_row(q);
	const bool good = !*found || read_row(q, job);
	const enum ol_status s = ol_query_close(q, err);
	if (s == OL_OK && !good) {
		*found = false;
		return ol_fail(err, OL_ERR_FULL,
			       "a job cannot be read: out of memory, or its row "
			       "is damaged");
	}
	if (s != OL_OK && *found && good)
		job_release(job);
	return s;
}

enum ol_status job_read(struct ol_jobs *jobs, struct job *job, const char *account, const char *id,
			struct ol_error *err)
{
	char sql[640];
	struct ol_query q;
	bool found;
	snprintf(sql, sizeof sql, "%sWHERE id = ?1 AND (?2 IS NULL OR account = ?2)", columns);
	ol_query_open(&q, jobs->store, sql);
	ol_query_bind_text(&q, id);
	ol_query_bind_text(&q, account);
	const enum ol_status s = read_first(&q, job, &found, err);
	return s == OL_OK && !found
		       ? ol_fail(err, OL_ERR_NOT_FOUND, "Could not find fine-tuning job: %.64s", id)
		       : s;
}

enum ol_status job_next(struct ol_jobs *jobs, struct job *job, bool *found, struct ol_error *err)
{
	char sql[1024];
	struct ol_query q;
	/* Fair: the account that was served longest ago, then the oldest job. */
	snprintf(sql, sizeof sql,
		 "%sWHERE status = ?1 ORDER BY"
		 " (SELECT max(o.turn) FROM jobs o WHERE o.account = jobs.account), n LIMIT 1",
		 columns);
	ol_query_open(&q, jobs->store, sql);
	ol_query_bind_int(&q, OL_JOB_QUEUED);
	return read_first(&q, job, found, err);
}

enum ol_status job_take_turn(struct ol_jobs *jobs, const char *id, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, jobs->store,
		      "UPDATE jobs SET turn = (SELECT max(turn) + 1 FROM jobs) WHERE id = ?");
	ol_query_bind_text(&q, id);
	return ol_query_run(&q, err);
}

enum ol_status job_insert(struct ol_jobs *jobs, const struct job *job, struct ol_error *err)
{
	struct ol_query q;
	char *request = json_dumps(job->request, JSON_COMPACT | JSON_PRESERVE_ORDER);
	if (!request)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a job");
	ol_query_open(&q, jobs->store,
		      "INSERT INTO jobs (id, account, base, model, training_file, validation_file,"
		      " suffix, seed, request, status, want, crashes, made_at, started_at,"
		      " finished_at, estimated_finish, trained_tokens, step, steps, sha256, error,"
		      " error_code) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, 0, 0, 0, 0, 0,"
		      " 0, '', NULL, '')");
	ol_query_bind_text(&q, job->id);
	ol_query_bind_text(&q, job->account);
	ol_query_bind_text(&q, job->base);
	ol_query_bind_text(&q, job->model);
	ol_query_bind_text(&q, job->training_file);
	ol_query_bind_text(&q, job->validation_file);
	ol_query_bind_text(&q, job->suffix);
	ol_query_bind_int(&q, job->seed);
	ol_query_bind_text(&q, request);
	ol_query_bind_int(&q, job->status);
	ol_query_bind_int(&q, job->made_at);
	free(request);
	return ol_query_run(&q, err);
}

enum ol_status job_update(struct ol_jobs *jobs, const struct job *job, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, jobs->store,
		      "UPDATE jobs SET status = ?, want = ?, crashes = ?, started_at = ?,"
		      " finished_at = ?, estimated_finish = ?, trained_tokens = ?, step = ?,"
		      " steps = ?, sha256 = ?, error = ?, error_code = ? WHERE id = ?");
	ol_query_bind_int(&q, job->status);
	ol_query_bind_int(&q, job->want);
	ol_query_bind_int(&q, job->crashes);
	ol_query_bind_int(&q, job->started_at);
	ol_query_bind_int(&q, job->finished_at);
	ol_query_bind_int(&q, job->estimated_finish);
	ol_query_bind_int(&q, job->trained_tokens);
	ol_query_bind_int(&q, job->step);
	ol_query_bind_int(&q, job->steps);
	ol_query_bind_text(&q, job->sha256);
	ol_query_bind_text(&q, job->error);
	ol_query_bind_text(&q, job->error_code);
	ol_query_bind_text(&q, job->id);
	return ol_query_run(&q, err);
}

enum ol_status job_count_open(struct ol_jobs *jobs, const char *account, int *count_out,
			      struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(&q, jobs->store,
		      "SELECT count(*) FROM jobs WHERE account = ?1 AND status IN (?2, ?3, ?4)");
	ol_query_bind_text(&q, account);
	ol_query_bind_int(&q, OL_JOB_QUEUED);
	ol_query_bind_int(&q, OL_JOB_RUNNING);
	ol_query_bind_int(&q, OL_JOB_PAUSED);
	*count_out = ol_query_row(&q) ? (int)ol_query_int(&q, 0) : 0;
	return ol_query_close(&q, err);
}

/* ---- Events and checkpoints ---- */

static enum ol_status forget_old_events(struct ol_jobs *jobs, const char *job, struct ol_error *err)
{
	struct ol_query q;
	ol_query_open(
		&q, jobs->store,
		"DELETE FROM job_events WHERE job = ?1 AND type = 'metrics' AND n <="
		" (SELECT n FROM job_events WHERE job = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)");
	ol_query_bind_text(&q, job);
	ol_query_bind_int(&q, EVENTS_MAX);
	return ol_query_run(&q, err);
}

enum ol_status job_event(struct ol_jobs *jobs, const char *job, const char *level, const char *type,
			 json_t *data, struct ol_error *err, const char *format, ...)
{
	char id[40], message[MESSAGE_MAX];
	struct ol_query q;
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	char *text = data ? json_dumps(data, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(data);
	ol_object_id_make(id, "ftevent-", 24);
	ol_query_open(&q, jobs->store,
		      "INSERT INTO job_events (id, job, made_at, level, type, message, data)"
		      " VALUES (?, ?, ?, ?, ?, ?, ?)");
	ol_query_bind_text(&q, id);
	ol_query_bind_text(&q, job);
	ol_query_bind_int(&q, (int64_t)time(NULL));
	ol_query_bind_text(&q, level);
	ol_query_bind_text(&q, type);
	ol_query_bind_text(&q, message);
	ol_query_bind_text(&q, text);
	free(text);
	const enum ol_status s = ol_query_run(&q, err);
	return s == OL_OK ? forget_old_events(jobs, job, err) : s;
}

enum ol_status job_checkpoint(struct ol_jobs *jobs, const char *job, int64_t step, int64_t tokens,
			      json_t *metrics, struct ol_error *err)
{
	char id[40];
	struct ol_query q;
	char *text = json_dumps(metrics, JSON_COMPACT | JSON_PRESERVE_ORDER);
	ol_object_id_make(id, "ftckpt_", 24);
	ol_query_open(&q, jobs->store,
		      "INSERT INTO job_checkpoints (id, job, made_at, step, tokens, metrics)"
		      " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (job, step) DO UPDATE SET"
		      " tokens = excluded.tokens, metrics = excluded.metrics");
	ol_query_bind_text(&q, id);
	ol_query_bind_text(&q, job);
	ol_query_bind_int(&q, (int64_t)time(NULL));
	ol_query_bind_int(&q, step);
	ol_query_bind_int(&q, tokens);
	ol_query_bind_text(&q, text ? text : "{}");
	free(text);
	return ol_query_run(&q, err);
}

/* ---- As the API shows them ---- */

static json_t *integer_or_null(int64_t value)
{
	return value == 0 ? json_null() : json_integer(value);
}

static json_t *text_or_null(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *or_auto(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);
	return value && !json_is_null(value) ? json_incref(value) : json_string("auto");
}

/* {"type":"supervised","supervised":{"hyperparameters":{…}}} */
static json_t *method_json(const char *method, json_t *hyperparameters)
{
	return json_pack("{s:s, s:{s:O}}", "type", method, method, "hyperparameters",
			 hyperparameters);
}

static json_t *error_json(const struct job *job)
{
	return job->error ? json_pack("{s:s, s:s, s:n}", "code", job->error_code, "message",
				      job->error, "param")
			  : json_null();
}

static json_t *ours_json(const struct job *job)
{
	json_t *ours = json_object();
	json_object_set_new(ours, "settings",
			    json_incref(json_object_get(job->request, "openledger")));
	json_object_set_new(ours, "model", json_string(job->model));
	json_object_set_new(ours, "step", json_integer(job->step));
	json_object_set_new(ours, "steps", integer_or_null(job->steps));
	json_object_set_new(ours, "started_at", integer_or_null(job->started_at));
	json_object_set_new(ours, "adapter_sha256", text_or_null(job->sha256));
	return ours;
}

json_t *job_json(const struct job *job)
{
	const json_t *asked = json_object_get(job->request, "hyperparameters");
	const char *method = json_string_value(json_object_get(job->request, "method"));
	json_t *metadata = json_object_get(job->request, "metadata");
	json_t *shown = json_object(), *out = json_object(), *files = json_array();
	json_object_set_new(shown, "batch_size", or_auto(asked, "batch_size"));
	json_object_set_new(shown, "learning_rate_multiplier",
			    or_auto(asked, "learning_rate_multiplier"));
	json_object_set_new(shown, "n_epochs", or_auto(asked, "n_epochs"));
	if (method && strcmp(method, "dpo") == 0)
		json_object_set_new(shown, "beta", or_auto(asked, "beta"));
	json_object_set_new(out, "object", json_string("fine_tuning.job"));
	json_object_set_new(out, "id", json_string(job->id));
	json_object_set_new(out, "model", json_string(job->base));
	json_object_set_new(out, "created_at", json_integer(job->made_at));
	json_object_set_new(out, "finished_at", integer_or_null(job->finished_at));
	json_object_set_new(out, "fine_tuned_model",
			    job->status == OL_JOB_SUCCEEDED ? json_string(job->model)
							    : json_null());
	json_object_set_new(out, "organization_id", json_string(job->account));
	json_object_set_new(out, "result_files", files);
	json_object_set_new(out, "status", json_string(ol_job_status_name(job->status)));
	json_object_set_new(out, "training_file", json_string(job->training_file));
	json_object_set_new(out, "validation_file", text_or_null(job->validation_file));
	json_object_set_new(out, "method", method_json(method ? method : "supervised", shown));
	json_object_set_new(out, "hyperparameters", shown);
	json_object_set_new(out, "trained_tokens",
			    job->status == OL_JOB_QUEUED ? json_null()
							 : json_integer(job->trained_tokens));
	json_object_set_new(out, "error", error_json(job));
	json_object_set_new(out, "user_provided_suffix", text_or_null(job->suffix));
	json_object_set_new(out, "seed", json_integer(job->seed));
	json_object_set_new(out, "estimated_finish", integer_or_null(job->estimated_finish));
	json_object_set_new(out, "integrations", json_array());
	json_object_set_new(out, "metadata", metadata ? json_incref(metadata) : json_null());
	json_object_set_new(out, "openledger", ours_json(job));
	return out;
}

static json_t *event_json(struct ol_query *q)
{
	json_error_t why;
	json_t *data = ol_query_is_null(q, 6) ? NULL : json_loads(ol_query_text(q, 6), 0, &why);
	json_t *event = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "object",
				  "fine_tuning.job.event", "id", ol_query_text(q, 1), "created_at",
				  (json_int_t)ol_query_int(q, 2), "level", ol_query_text(q, 3),
				  "message", ol_query_text(q, 5), "type", ol_query_text(q, 4));
	json_object_set_new(event, "data", data ? data : json_object());
	return event;
}

static json_t *checkpoint_json(struct ol_query *q, const struct job *job)
{
	json_error_t why;
	json_t *metrics = json_loads(ol_query_text(q, 6), 0, &why);
	const int64_t step = ol_query_int(q, 3);
	char name[OL_NAME_MAX + 40];
	/* What is served is the last state (of the best evaluation); the name of an earlier one
	 * says which it was. */
	if (job->status == OL_JOB_SUCCEEDED && step == job->step)
		snprintf(name, sizeof name, "%s", job->model);
	else
		snprintf(name, sizeof name, "%s:ckpt-step-%lld", job->model, (long long)step);
	json_object_set_new(metrics, "step", json_integer(step));
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:o}", "object",
			 "fine_tuning.job.checkpoint", "id", ol_query_text(q, 1), "created_at",
			 (json_int_t)ol_query_int(q, 2), "fine_tuning_job_id", job->id,
			 "fine_tuned_model_checkpoint", name, "step_number", (json_int_t)step,
			 "metrics", metrics ? metrics : json_object());
}

/* The n of the row that `after` names, in a table of one job's (or account's) rows. */
static enum ol_status find_after(struct ol_jobs *jobs, int64_t *n_out, const char *sql,
				 const char *after, const char *owner, struct ol_error *err)
{
	struct ol_query q;
	*n_out = INT64_MAX;
	if (!after)
		return OL_OK;
	ol_query_open(&q, jobs->store, sql);
	ol_query_bind_text(&q, after);
	ol_query_bind_text(&q, owner);
	const bool found = ol_query_row(&q);
	if (found)
		*n_out = ol_query_int(&q, 0);
	const enum ol_status s = ol_query_close(&q, err);
	return s == OL_OK && !found
		       ? ol_fail(err, OL_ERR_INPUT, "after: there is no %.64s in this list", after)
		       : s;
}

static enum ol_status end_list(struct ol_query *q, json_t **list_out, json_t *data, bool more,
			       struct ol_error *err)
{
	const enum ol_status s = ol_query_close(q, err);
	*list_out = s == OL_OK ? ol_list_json(data, more) : NULL;
	if (s != OL_OK)
		json_decref(data);
	return s == OL_OK && !*list_out ? ol_fail(err, OL_ERR_FULL, "out of memory for the list")
					: s;
}

enum ol_status ol_jobs_get(struct ol_jobs *jobs, json_t **job_out, const char *account,
			   const char *id, struct ol_error *err)
{
	struct job job;
	const enum ol_status s = job_read(jobs, &job, account, id, err);
	if (s == OL_OK) {
		*job_out = job_json(&job);
		job_release(&job);
	}
	return s;
}

enum ol_status ol_jobs_list(struct ol_jobs *jobs, json_t **list_out, const char *account,
			    const char *after, int limit, struct ol_error *err)
{
	char sql[640];
	struct ol_query q;
	int64_t n;
	bool more = false;
	const enum ol_status s = find_after(
		jobs, &n, "SELECT n FROM jobs WHERE id = ? AND account = ?", after, account, err);
	if (s != OL_OK)
		return s;
	json_t *data = json_array();
	snprintf(sql, sizeof sql, "%sWHERE account = ? AND n < ? ORDER BY n DESC LIMIT ?", columns);
	ol_query_open(&q, jobs->store, sql);
	ol_query_bind_text(&q, account);
	ol_query_bind_int(&q, n);
	ol_query_bind_int(&q, limit + 1);
	while (!more && ol_query_row(&q)) {
		struct job job;
		more = json_array_size(data) == (size_t)limit;
		if (more || !read_row(&q, &job))
			continue;
		json_array_append_new(data, job_json(&job));
		job_release(&job);
	}
	return end_list(&q, list_out, data, more, err);
}

enum ol_status ol_jobs_events(struct ol_jobs *jobs, json_t **list_out, const char *account,
			      const char *id, const char *after, int limit, struct ol_error *err)
{
	struct job job;
	struct ol_query q;
	int64_t n;
	bool more = false;
	enum ol_status s = job_read(jobs, &job, account, id, err);
	if (s != OL_OK)
		return s;
	job_release(&job);
	s = find_after(jobs, &n, "SELECT n FROM job_events WHERE id = ? AND job = ?", after, id,
		       err);
	if (s != OL_OK)
		return s;
	json_t *data = json_array();
	ol_query_open(&q, jobs->store,
		      "SELECT n, id, made_at, level, type, message, data FROM job_events"
		      " WHERE job = ? AND n < ? ORDER BY n DESC LIMIT ?");
	ol_query_bind_text(&q, id);
	ol_query_bind_int(&q, n);
	ol_query_bind_int(&q, limit + 1);
	while (!more && ol_query_row(&q)) {
		more = json_array_size(data) == (size_t)limit;
		if (!more)
			json_array_append_new(data, event_json(&q));
	}
	return end_list(&q, list_out, data, more, err);
}

enum ol_status ol_jobs_checkpoints(struct ol_jobs *jobs, json_t **list_out, const char *account,
				   const char *id, const char *after, int limit,
				   struct ol_error *err)
{
	struct job job;
	struct ol_query q;
	int64_t n;
	bool more = false;
	enum ol_status s = job_read(jobs, &job, account, id, err);
	if (s != OL_OK)
		return s;
	s = find_after(jobs, &n, "SELECT n FROM job_checkpoints WHERE id = ? AND job = ?", after,
		       id, err);
	if (s != OL_OK) {
		job_release(&job);
		return s;
	}
	json_t *data = json_array();
	ol_query_open(&q, jobs->store,
		      "SELECT n, id, made_at, step, tokens, job, metrics FROM job_checkpoints"
		      " WHERE job = ? AND n < ? ORDER BY n DESC LIMIT ?");
	ol_query_bind_text(&q, id);
	ol_query_bind_int(&q, n);
	ol_query_bind_int(&q, limit + 1);
	while (!more && ol_query_row(&q)) {
		more = json_array_size(data) == (size_t)limit;
		if (!more)
			json_array_append_new(data, checkpoint_json(&q, &job));
	}
	job_release(&job);
	return end_list(&q, list_out, data, more, err);
}

enum ol_status ol_jobs_news(struct ol_jobs *jobs, json_t **events_out, int64_t *last, bool *over,
			    const char *account, const char *id, int limit, struct ol_error *err)
{
	struct job job;
	struct ol_query q;
	/* First whether it is over, then the events: so that none comes after the last. */
	enum ol_status s = job_read(jobs, &job, account, id, err);
	if (s != OL_OK)
		return s;
	*over = job.status != OL_JOB_QUEUED && job.status != OL_JOB_RUNNING &&
		job.status != OL_JOB_PAUSED;
	job_release(&job);
	*events_out = json_array();
	ol_query_open(&q, jobs->store,
		      "SELECT n, id, made_at, level, type, message, data FROM job_events"
		      " WHERE job = ? AND n > ? ORDER BY n LIMIT ?");
	ol_query_bind_text(&q, id);
	ol_query_bind_int(&q, *last);
	ol_query_bind_int(&q, limit);
	while (ol_query_row(&q)) {
		*last = ol_query_int(&q, 0);
		json_array_append_new(*events_out, event_json(&q));
	}
	*over = *over && json_array_size(*events_out) < (size_t)limit;
	s = ol_query_close(&q, err);
	if (s != OL_OK) {
		json_decref(*events_out);
		*events_out = NULL;
	}
	return s;
}
