/* The thread that runs jobs: one trainer at a time, its lines into the table, its end into a
 * status. */
#include "node/jobs_internal.h"

#include "base/clock.h"
#include "node/jobs_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	WORDS_MAX = 800,   /* last words of a trainer that crashes     */
	KIND_SECONDS = 20, /* to write a checkpoint after SIGTERM      */
	CRASHES_MAX = 1,   /* that are forgiven                        */
	TICK_MS = 500
};

enum told { TOLD_NOTHING, TOLD_DONE, TOLD_ERROR };

struct run {
	struct ol_jobs *jobs;
	struct job job;
	bool active, exited, broken_launcher, overdue;
	pid_t pid;
	int fd; /* -1: its output has ended */
	int wait_status;
	char line[OL_JOB_LINE_MAX];
	size_t line_size;
	bool line_too_long;
	char words[WORDS_MAX + 1];
	enum told told;
	int error_status;
	char error[OL_ERROR_TEXT_MAX];
	json_t *metrics; /* of the last step */
	bool fresh;      /* not in an event yet */
	int64_t first_step;
	double began, reported, asked_to_end; /* seconds; asked: 0 not yet */
};

/* ---- Writing ---- */

/* Wishes come from other threads: they are read in the transaction that writes the rest. */
static enum ol_status begin_write(struct run *r, struct ol_error *err)
{
	struct ol_query q;
	enum ol_status s = ol_store_begin(r->jobs->store, err);
	if (s != OL_OK)
		return s;
	ol_query_open(&q, r->jobs->store, "SELECT want FROM jobs WHERE id = ?");
	ol_query_bind_text(&q, r->job.id);
	if (ol_query_row(&q))
		r->job.want = (enum job_want)ol_query_int(&q, 0);
	s = ol_query_close(&q, err);
	return s == OL_OK ? s : ol_store_end(r->jobs->store, s, err);
}

static enum ol_status end_write(struct run *r, enum ol_status s, struct ol_error *err)
{
	if (s == OL_OK)
		s = job_update(r->jobs, &r->job, err);
	s = ol_store_end(r->jobs->store, s, err);
	if (s == OL_OK)
		jobs_tell(r->jobs);
	return s;
}

static enum ol_status event_of_metrics(struct run *r, struct ol_error *err)
{
	char loss[64] = "", valid[64] = "";
	const json_t *value = json_object_get(r->metrics, "train_loss"),
		     *valid_value = json_object_get(r->metrics, "valid_loss");
	if (!r->fresh || !r->metrics)
		return OL_OK;
	if (json_is_number(value))
		snprintf(loss, sizeof loss, ": training loss=%.4f", json_number_value(value));
	if (json_is_number(valid_value))
		snprintf(valid, sizeof valid, ", validation loss=%.4f",
			 json_number_value(valid_value));
	r->fresh = false;
	r->reported = ol_clock_seconds();
	return job_event(r->jobs, r->job.id, "info", "metrics", json_deep_copy(r->metrics), err,
			 "Step %lld/%lld%s%s", (long long)r->job.step, (long long)r->job.steps,
			 loss, valid);
}

/* What a failing store does to progress is no reason to end the training: the next one says it. */
static void report(struct run *r)
{
	enum ol_status s = begin_write(r, NULL);
	if (s == OL_OK) {
		s = event_of_metrics(r, NULL);
		(void)end_write(r, s, NULL);
	}
}

static void report_text(struct run *r, const char *level, const char *text, json_t *data)
{
	enum ol_status s = begin_write(r, NULL);
	if (s == OL_OK) {
		s = event_of_metrics(r, NULL);
		if (s == OL_OK)
			s = job_event(r->jobs, r->job.id, level, "message", data, NULL, "%s", text);
		else
			json_decref(data);
		(void)end_write(r, s, NULL);
	} else {
		json_decref(data);
	}
}

/* ---- What the trainer says ---- */

/* A trainer reads what strangers gave: its numbers are kept in bounds, too. */
static int64_t count_of(const json_t *line, const char *name)
{
	const int64_t value = json_integer_value(json_object_get(line, name));
	return OL_MAX(OL_MIN(value, INT64_C(1) << 40), INT64_C(0));
}

static void on_start(struct run *r, const json_t *line)
{
	char text[256];
	r->job.step = r->first_step = count_of(line, "step");
	r->job.steps = count_of(line, "steps");
	r->job.trained_tokens = count_of(line, "tokens");
	r->began = ol_clock_seconds();
	if (r->job.step > 0)
		snprintf(text, sizeof text, "Fine-tuning goes on after step %lld of %lld",
			 (long long)r->job.step, (long long)r->job.steps);
	else
		snprintf(text, sizeof text, "Fine-tuning job started: %lld steps",
			 (long long)r->job.steps);
	json_t *data = json_copy((json_t *)(uintptr_t)line);
	json_object_del(data, "type");
	json_object_del(data, "tokens");
	report_text(r, "info", text, data);
}

static void copy_number(json_t *to, const char *name, const json_t *from, const char *source)
{
	json_t *value = json_object_get(from, source);
	if (json_is_number(value))
		json_object_set(to, name, value);
}

static void on_step(struct run *r, const json_t *line)
{
	const double now = ol_clock_seconds(),
		     per_step = (now - r->began) /
				(double)OL_MAX(count_of(line, "step") - r->first_step, INT64_C(1));
	r->job.step = count_of(line, "step");
	r->job.trained_tokens = count_of(line, "tokens");
	const double left = per_step * (double)(r->job.steps - r->job.step);
	r->job.estimated_finish = (int64_t)time(NULL) + (int64_t)OL_MIN(OL_MAX(left, 0.0), 1e9);
	json_decref(r->metrics);
	r->metrics = json_object();
	json_object_set_new(r->metrics, "step", json_integer(r->job.step));
	copy_number(r->metrics, "train_loss", line, "loss");
	copy_number(r->metrics, "learning_rate", line, "rate");
	copy_number(r->metrics, "valid_loss", line, "valid_loss");
	copy_number(r->metrics, "train_accuracy", line, "accuracy");
	copy_number(r->metrics, "train_margin", line, "margin");
	r->fresh = true;
	if (json_object_get(line, "valid_loss") ||
	    now - r->reported >= r->jobs->options.report_seconds)
		report(r);
}

static void on_saved(struct run *r, const json_t *line)
{
	const int64_t step = count_of(line, "step");
	enum ol_status s = begin_write(r, NULL);
	if (s != OL_OK)
		return;
	s = event_of_metrics(r, NULL);
	if (s == OL_OK)
		s = job_checkpoint(r->jobs, r->job.id, step, r->job.trained_tokens,
				   r->metrics ? r->metrics : json_object(), NULL);
	if (s == OL_OK)
		s = job_event(r->jobs, r->job.id, "info", "message", NULL, NULL,
			      "Checkpoint created at step %lld", (long long)step);
	(void)end_write(r, s, NULL);
}

static void on_done(struct run *r, const json_t *line)
{
	const char *sha = json_string_value(json_object_get(line, "sha256"));
	if (!sha || strlen(sha) >= sizeof r->job.sha256)
		return;
	r->told = TOLD_DONE;
	snprintf(r->job.sha256, sizeof r->job.sha256, "%s", sha);
	r->job.step = count_of(line, "step");
	if (!r->metrics)
		r->metrics = json_object();
	copy_number(r->metrics, "full_train_loss", line, "train_loss");
	copy_number(r->metrics, "full_valid_loss", line, "valid_loss");
	copy_number(r->metrics, "best_step", line, "best_step");
	r->fresh |= json_object_get(r->metrics, "full_train_loss") != NULL;
}

static void on_error(struct run *r, const json_t *line)
{
	const char *text = json_string_value(json_object_get(line, "text"));
	r->told = TOLD_ERROR;
	r->error_status = (int)json_integer_value(json_object_get(line, "status"));
	snprintf(r->error, sizeof r->error, "%s", text && *text ? text : "training failed");
}

static void keep_words(struct run *r, const char *line, size_t size)
{
	const size_t have = strlen(r->words), more = OL_MIN(size, (size_t)WORDS_MAX - 1);
	const size_t keep = OL_MIN(have, WORDS_MAX - 1 - more);
	memmove(r->words, r->words + have - keep, keep);
	memcpy(r->words + keep, line, more);
	r->words[keep + more] = ' ';
	r->words[keep + more + 1] = '\0';
}

static void on_line(struct run *r, const char *text, size_t size)
{
	json_error_t why;
	json_t *line = size > 0 && text[0] == '{' ? json_loadb(text, size, 0, &why) : NULL;
	const char *type = json_string_value(json_object_get(line, "type"));
	if (!type)
		keep_words(r, text, size);
	else if (strcmp(type, "start") == 0)
		on_start(r, line);
	else if (strcmp(type, "step") == 0)
		on_step(r, line);
	else if (strcmp(type, "saved") == 0)
		on_saved(r, line);
	else if (strcmp(type, "done") == 0)
		on_done(r, line);
	else if (strcmp(type, "error") == 0)
		on_error(r, line);
	else if (strcmp(type, "notice") == 0 && json_is_string(json_object_get(line, "text")))
		report_text(r, "warn", json_string_value(json_object_get(line, "text")), NULL);
	else if (strcmp(type, "message") == 0 && json_is_string(json_object_get(line, "text")))
		report_text(r, "info", json_string_value(json_object_get(line, "text")), NULL);
	else if (strcmp(type, "sample") == 0) {
		json_object_del(line, "type");
		report_text(r, "info", "Sample of a held-out example", json_incref(line));
	}
	json_decref(line);
}

static void take_output(struct run *r)
{
	char piece[16384];
	const ssize_t n = read(r->fd, piece, sizeof piece);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(r->fd);
		r->fd = -1;
		if (r->line_size > 0)
			keep_words(r, r->line, r->line_size);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (piece[i] == '\n') {
			if (!r->line_too_long)
				on_line(r, r->line, r->line_size);
			r->line_size = 0;
			r->line_too_long = false;
		} else if (r->line_size < sizeof r->line) {
			r->line[r->line_size++] = piece[i];
		} else {
			r->line_too_long = true;
		}
	}
}

/* ---- Starting ---- */

static enum ol_status launch(struct run *r, struct ol_error *err)
{
	const struct ol_jobs_options *o = &r->jobs->options;
	char folder[OL_PATH_MAX];
	enum ol_status s = job_path(r->jobs, folder, r->job.id, "", err);
	const struct ol_launch what = {.folder = folder,
				       .memory_max = o->unconfined ? 0 : o->memory_max,
				       .normal = o->unconfined};
	if (s == OL_OK)
		s = ol_launcher_run(o->launcher, &r->pid, &r->fd, &what, err);
	if (s == OL_OK)
		fcntl(r->fd, F_SETFL, O_NONBLOCK);
	return s;
}

/* Status first, then the process: should the server end in between, the job goes on. */
static enum ol_status start_next(struct run *r, bool *found, struct ol_error *err)
{
	enum ol_status s = ol_store_begin(r->jobs->store, err);
	if (s != OL_OK)
		return s;
	s = job_next(r->jobs, &r->job, found, err);
	if (s == OL_OK && *found) {
		r->job.status = OL_JOB_RUNNING;
		r->job.want = WANT_NOTHING;
		r->job.started_at = (int64_t)time(NULL);
		s = job_update(r->jobs, &r->job, err);
		if (s == OL_OK)
			s = job_take_turn(r->jobs, r->job.id, err);
	}
	s = ol_store_end(r->jobs->store, s, err);
	if (s != OL_OK && *found)
		job_release(&r->job);
	if (s != OL_OK || !*found)
		return s;
	r->told = TOLD_NOTHING;
	r->words[0] = r->error[0] = '\0';
	r->line_size = 0;
	r->exited = r->overdue = r->fresh = false;
	r->asked_to_end = 0;
	r->began = ol_clock_seconds();
	r->reported = 0;
	r->active = true;
	s = launch(r, err);
	if (s != OL_OK) {
		r->exited = true;
		r->fd = -1;
		r->told = TOLD_ERROR;
		r->error_status = OL_ERR_IO;
		snprintf(r->error, sizeof r->error, "%s", err->text);
	}
	return OL_OK;
}

/* ---- Ending ---- */

static void describe_exit(const struct run *r, char text[WORDS_MAX + 128])
{
	const char *colon = r->words[0] ? ": " : "";
	if (WIFSIGNALED(r->wait_status))
		snprintf(text, WORDS_MAX + 128, "the trainer was ended by signal %d%s%s",
			 WTERMSIG(r->wait_status), colon, r->words);
	else
		snprintf(text, WORDS_MAX + 128, "the trainer ended with status %d%s%s",
			 WEXITSTATUS(r->wait_status), colon, r->words);
}

static enum ol_status fail_job(struct run *r, const char *code, const char *sentence,
			       struct ol_error *err)
{
	r->job.status = OL_JOB_FAILED;
	free(r->job.error);
	r->job.error = strdup(sentence);
	snprintf(r->job.error_code, sizeof r->job.error_code, "%s", code);
	return job_event(r->jobs, r->job.id, "error", "message", NULL, err,
			 "The job has failed: %s", sentence);
}

static enum ol_status succeed(struct run *r, struct ol_error *err)
{
	r->job.status = OL_JOB_SUCCEEDED;
	enum ol_status s = job_checkpoint(r->jobs, r->job.id, r->job.step, r->job.trained_tokens,
					  r->metrics, err);
	if (s == OL_OK)
		s = job_event(r->jobs, r->job.id, "info", "message", NULL, err,
			      "New fine-tuned model created: %s", r->job.model);
	return s == OL_OK ? job_event(r->jobs, r->job.id, "info", "message", NULL, err,
				      "The job has successfully completed")
			  : s;
}

static enum ol_status crash(struct run *r, struct ol_error *err)
{
	char text[WORDS_MAX + 128];
	describe_exit(r, text);
	if (r->job.crashes >= CRASHES_MAX)
		return fail_job(r, "trainer_crashed", text, err);
	r->job.crashes++;
	r->job.status = OL_JOB_QUEUED;
	return job_event(r->jobs, r->job.id, "warn", "message", NULL, err,
			 "%s; it is started again from its last checkpoint", text);
}

/* What the end of the process means. */
static enum ol_status judge(struct run *r, struct ol_error *err)
{
	const bool stopped = r->told == TOLD_ERROR && r->error_status == OL_ERR_CANCELLED;
	if (r->told == TOLD_DONE)
		return succeed(r, err);
	if (r->job.want == WANT_CANCEL) {
		r->job.status = OL_JOB_CANCELLED;
		return job_event(r->jobs, r->job.id, "info", "message", NULL, err,
				 "The job was cancelled");
	}
	if (r->overdue)
		return fail_job(r, "time_limit", "the training took longer than a job may", err);
	if (r->told == TOLD_ERROR && !stopped)
		return fail_job(r, "training_failed", r->error, err);
	if (r->job.want == WANT_PAUSE) {
		r->job.status = OL_JOB_PAUSED;
		return job_event(r->jobs, r->job.id, "info", "message", NULL, err,
				 "The job is paused after step %lld", (long long)r->job.step);
	}
	if (r->jobs->closing) {
		r->job.status = OL_JOB_QUEUED;
		return job_event(
			r->jobs, r->job.id, "info", "message", NULL, err,
			"The server is stopping; the job goes on when it is started again");
	}
	return crash(r, err);
}

/* False: the store failed; it is tried again. */
static bool finish(struct run *r)
{
	const struct job before = r->job;
	/* First it is served, then the job has succeeded: who sees that can ask for the model. */
	if (r->told == TOLD_DONE && r->jobs->options.on_model)
		r->jobs->options.on_model(r->jobs->options.context, r->job.model, r->job.account);
	enum ol_status s = begin_write(r, NULL);
	if (s != OL_OK)
		return false;
	s = event_of_metrics(r, NULL);
	if (s == OL_OK)
		s = judge(r, NULL);
	const bool over = r->job.status != OL_JOB_QUEUED && r->job.status != OL_JOB_PAUSED;
	r->job.want = WANT_NOTHING;
	r->job.estimated_finish = 0;
	if (over)
		r->job.finished_at = (int64_t)time(NULL);
	s = end_write(r, s, NULL);
	if (s != OL_OK) {
		r->job.status = before.status;
		r->job.crashes = before.crashes;
		r->job.finished_at = 0;
		return false;
	}
	if (r->job.status == OL_JOB_CANCELLED)
		job_clear(r->jobs, &r->job, true);
	job_release(&r->job);
	json_decref(r->metrics);
	r->metrics = NULL;
	r->active = false;
	return true;
}

/* ---- The loop ---- */

static void ask_to_end(struct run *r, int signal_number)
{
	if (r->asked_to_end == 0 || signal_number == SIGKILL)
		ol_launcher_signal(r->jobs->options.launcher, r->pid, signal_number);
	if (r->asked_to_end == 0)
		r->asked_to_end = ol_clock_seconds();
}

static enum job_want want_of(struct run *r)
{
	struct ol_query q;
	enum job_want want = WANT_NOTHING;
	ol_query_open(&q, r->jobs->store, "SELECT want FROM jobs WHERE id = ?");
	ol_query_bind_text(&q, r->job.id);
	if (ol_query_row(&q))
		want = (enum job_want)ol_query_int(&q, 0);
	return ol_query_close(&q, NULL) == OL_OK ? want : WANT_NOTHING;
}

static void look_after(struct run *r)
{
	const double now = ol_clock_seconds();
	const enum job_want want = want_of(r);
	if (r->exited)
		return;
	r->overdue |= now - r->began > (double)r->jobs->options.seconds_max;
	if (want == WANT_CANCEL)
		ask_to_end(r, SIGKILL);
	else if (want == WANT_PAUSE || r->jobs->closing || r->overdue)
		ask_to_end(r, SIGTERM);
	if (r->asked_to_end > 0 && now - r->asked_to_end > KIND_SECONDS)
		ask_to_end(r, SIGKILL);
}

static void take_news(struct run *r)
{
	pid_t pid;
	int status;
	bool dead = false;
	while (ol_launcher_news(r->jobs->options.launcher, &pid, &status, &dead))
		if (r->active && pid == r->pid) {
			r->exited = true;
			r->wait_status = status;
		}
	if (dead && !r->exited) {
		r->exited = true; /* the kernel ends a launcher's trainers with it */
		r->wait_status = SIGKILL;
	}
	r->broken_launcher |= dead;
}

static void wait_for_news(const struct run *r)
{
	uint64_t wakes;
	struct pollfd fds[3] = {
		{.fd = r->jobs->wake, .events = POLLIN},
		{.fd = r->broken_launcher ? -1 : ol_launcher_fd(r->jobs->options.launcher),
		 .events = POLLIN},
		{.fd = r->active ? r->fd : -1, .events = POLLIN}};
	(void)poll(fds, 3, r->active ? TICK_MS : 60000);
	while (read(r->jobs->wake, &wakes, sizeof wakes) > 0)
		continue;
}

void *jobs_run(void *context)
{
	struct ol_jobs *jobs = context;
	struct ol_error err = {0};
	struct run *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->jobs = jobs;
	r->fd = -1;
	for (;;) {
		bool found = false;
		if (!r->active && jobs->closing)
			break;
		/* What the store refuses now is tried again with the next wake. */
		if (!r->active && !r->broken_launcher && start_next(r, &found, &err) != OL_OK)
			r->active = false;
		if (!(r->active && r->exited && r->fd < 0))
			wait_for_news(r);
		take_news(r);
		if (!r->active)
			continue;
		if (r->fd >= 0)
			take_output(r);
		if (r->exited && r->fd < 0) {
			if (!finish(r)) {
				if (jobs->closing)
					break;
				nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
			}
		} else {
			look_after(r);
		}
	}
	if (r->active)
		job_release(&r->job);
	json_decref(r->metrics);
	free(r);
	return NULL;
}
