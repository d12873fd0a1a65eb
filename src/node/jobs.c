#include "node/jobs_internal.h"

#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- Opening ---- */

void jobs_wake(struct ol_jobs *jobs)
{
	const uint64_t one = 1;
	/* It fails only when there are 2^64 - 2 wakes already. */
	if (write(jobs->wake, &one, sizeof one) < 0)
		errno = 0;
}

void ol_jobs_watch(struct ol_jobs *jobs, void (*on_event)(void *context), void *context)
{
	pthread_mutex_lock(&jobs->watch_lock);
	jobs->on_event = on_event;
	jobs->watch_context = context;
	pthread_mutex_unlock(&jobs->watch_lock);
}

void jobs_tell(struct ol_jobs *jobs)
{
	pthread_mutex_lock(&jobs->watch_lock);
	if (jobs->on_event)
		jobs->on_event(jobs->watch_context);
	pthread_mutex_unlock(&jobs->watch_lock);
}

/* What ran when the last server ended goes on; what was to be cancelled or paused is. */
static enum ol_status recover(struct ol_jobs *jobs, struct ol_error *err)
{
	for (;;) {
		char id[OL_JOB_ID_CHARS + 1] = "";
		struct ol_query q;
		struct job job;
		ol_query_open(&q, jobs->store, "SELECT id FROM jobs WHERE status = ? LIMIT 1");
		ol_query_bind_int(&q, OL_JOB_RUNNING);
		if (ol_query_row(&q))
			snprintf(id, sizeof id, "%s", ol_query_text(&q, 0));
		enum ol_status s = ol_query_close(&q, err);
		if (s != OL_OK || !*id)
			return s;
		s = job_read(jobs, &job, NULL, id, err);
		if (s != OL_OK)
			return s;
		job.status = job.want == WANT_CANCEL  ? OL_JOB_CANCELLED
			     : job.want == WANT_PAUSE ? OL_JOB_PAUSED
						      : OL_JOB_QUEUED;
		job.want = WANT_NOTHING;
		job.estimated_finish = 0;
		if (job.status == OL_JOB_CANCELLED)
			job.finished_at = (int64_t)time(NULL);
		s = ol_store_begin(jobs->store, err);
		if (s == OL_OK) {
			s = job_update(jobs, &job, err);
			if (s == OL_OK)
				s = job_event(jobs, id, "info", "message", NULL, err,
					      "The server was started anew; the job is %s",
					      ol_job_status_name(job.status));
			s = ol_store_end(jobs->store, s, err);
		}
		if (s == OL_OK && job.status == OL_JOB_CANCELLED)
			job_clear(jobs, &job, true);
		job_release(&job);
		if (s != OL_OK)
			return s;
	}
}

static uint64_t half_of_memory(void)
{
	const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : (uint64_t)2 << 30;
}

static void set_defaults(struct ol_jobs_options *o)
{
	if (o->account_open_max == 0)
		o->account_open_max = 16;
	if (o->memory_max == 0)
		o->memory_max = half_of_memory();
	if (o->seconds_max == 0)
		o->seconds_max = 7 * 86400;
	if (o->report_seconds <= 0)
		o->report_seconds = 2;
}

enum ol_status ol_jobs_open(struct ol_jobs **jobs_out, const struct ol_home *home,
			    struct ol_store *store, struct ol_files *files,
			    const struct ol_jobs_options *options, struct ol_error *err)
{
	struct ol_jobs *jobs = calloc(1, sizeof *jobs);
	if (!jobs)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the jobs");
	jobs->home = *home;
	jobs->store = store;
	jobs->files = files;
	jobs->options = *options;
	pthread_mutex_init(&jobs->watch_lock, NULL);
	set_defaults(&jobs->options);
	jobs->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum ol_status s = jobs->wake < 0 ? ol_fail(err, OL_ERR_IO, "cannot make an eventfd: %s",
						    strerror(errno))
					  : OL_OK;
	if (s == OL_OK)
		s = ol_path_join(jobs->folder, err, home->path, "/jobs", "");
	if (s == OL_OK)
		s = ol_make_directories(jobs->folder, err);
	if (s == OL_OK)
		s = recover(jobs, err);
	if (s == OL_OK && options->launcher) {
		jobs->running = pthread_create(&jobs->runner, NULL, jobs_run, jobs) == 0;
		if (!jobs->running)
			s = ol_fail(err, OL_ERR_FULL, "cannot start the thread that runs jobs");
	}
	if (s != OL_OK) {
		ol_jobs_close(jobs);
		return s;
	}
	*jobs_out = jobs;
	return OL_OK;
}

void ol_jobs_close(struct ol_jobs *jobs)
{
	if (!jobs)
		return;
	jobs->closing = true;
	if (jobs->running) {
		jobs_wake(jobs);
		pthread_join(jobs->runner, NULL);
	}
	if (jobs->wake >= 0)
		close(jobs->wake);
	pthread_mutex_destroy(&jobs->watch_lock);
	free(jobs);
}

/* ---- Creating ---- */

static enum ol_status insert(struct ol_jobs *jobs, const struct job *job, struct ol_error *err)
{
	int open = 0;
	enum ol_status s = ol_store_begin(jobs->store, err);
	if (s != OL_OK)
		return s;
	s = job_count_open(jobs, job->account, &open, err);
	if (s == OL_OK && open >= jobs->options.account_open_max)
		s = ol_fail(err, OL_ERR_FULL,
			    "this account has %d jobs that are not over, and may have no more: "
			    "wait, or cancel some",
			    open);
	if (s == OL_OK)
		s = job_insert(jobs, job, err);
	if (s == OL_OK)
		s = job_event(jobs, job->id, "info", "message", NULL, err,
			      "Created fine-tuning job: %s", job->id);
	if (s == OL_OK)
		s = job_event(jobs, job->id, "info", "message", NULL, err,
			      "Files validated, the job is queued");
	return ol_store_end(jobs->store, s, err);
}

enum ol_status ol_jobs_create(struct ol_jobs *jobs, json_t **job_out, const char *account,
			      json_t *request, struct ol_job_refusal *refusal)
{
	struct job job;
	enum ol_status s = job_parse(jobs, &job, account, request, refusal);
	if (s == OL_OK)
		s = job_prepare(jobs, &job, &refusal->error);
	if (s == OL_OK) {
		s = insert(jobs, &job, &refusal->error);
		if (s != OL_OK)
			job_clear(jobs, &job, false);
	}
	if (s == OL_OK) {
		*job_out = job_json(&job);
		jobs_wake(jobs);
		jobs_tell(jobs);
	}
	job_release(&job);
	return s;
}

/* ---- Cancel, pause, resume ---- */

static enum ol_status refuse_action(const struct job *job, const char *action, struct ol_error *err)
{
	return ol_fail(err, OL_ERR_INPUT, "the job %s is %s: it cannot be %s", job->id,
		       ol_job_status_name(job->status), action);
}

/* What the action makes of the job; a running one is ended by the runner, which sees `want`. */
static enum ol_status apply(struct job *job, enum ol_job_action action, struct ol_error *err)
{
	const bool waits = job->status == OL_JOB_QUEUED || job->status == OL_JOB_PAUSED,
		   runs = job->status == OL_JOB_RUNNING;
	switch (action) {
	case OL_JOB_CANCEL:
		if (!waits && !runs)
			return refuse_action(job, "cancelled", err);
		if (runs)
			job->want = WANT_CANCEL;
		else
			job->finished_at = (int64_t)time(NULL);
		if (waits)
			job->status = OL_JOB_CANCELLED;
		return OL_OK;
	case OL_JOB_PAUSE:
		if (job->status == OL_JOB_PAUSED || (!waits && !runs) || job->want == WANT_CANCEL)
			return refuse_action(job, "paused", err);
		if (runs)
			job->want = WANT_PAUSE;
		else
			job->status = OL_JOB_PAUSED;
		return OL_OK;
	case OL_JOB_RESUME:
		if (runs && job->want == WANT_PAUSE)
			return ol_fail(err, OL_ERR_INPUT,
				       "the job %s is still writing its checkpoint: try again in a "
				       "moment",
				       job->id);
		if (job->status != OL_JOB_PAUSED)
			return refuse_action(job, "resumed", err);
		job->status = OL_JOB_QUEUED;
		return OL_OK;
	}
	OL_UNREACHABLE();
}

enum ol_status ol_jobs_act(struct ol_jobs *jobs, json_t **job_out, const char *account,
			   const char *id, enum ol_job_action action, struct ol_error *err)
{
	static const char *const words[] = {"Cancelling", "Pausing", "Resuming"};
	struct job job;
	enum ol_status s = ol_store_begin(jobs->store, err);
	if (s != OL_OK)
		return s;
	s = job_read(jobs, &job, account, id, err);
	if (s != OL_OK)
		return ol_store_end(jobs->store, s, err);
	s = apply(&job, action, err);
	if (s == OL_OK)
		s = job_update(jobs, &job, err);
	if (s == OL_OK)
		s = job_event(jobs, id, "info", "message", NULL, err, "%s the job", words[action]);
	s = ol_store_end(jobs->store, s, err);
	if (s == OL_OK) {
		if (job.status == OL_JOB_CANCELLED)
			job_clear(jobs, &job, true);
		/* What it will be in a moment is what it is called already. */
		if (job.want == WANT_CANCEL)
			job.status = OL_JOB_CANCELLED;
		if (job.want == WANT_PAUSE)
			job.status = OL_JOB_PAUSED;
		*job_out = job_json(&job);
		jobs_wake(jobs);
		jobs_tell(jobs);
	}
	job_release(&job);
	return s;
}
