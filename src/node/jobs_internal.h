/* node/jobs_internal.h, floor 4: what jobs*.c share: a job's row, how it is read and changed. */
#ifndef OL_NODE_JOBS_INTERNAL_H
#define OL_NODE_JOBS_INTERNAL_H

#include "node/jobs.h"

#include <pthread.h>

/* What somebody wants of a job that runs. Append-only: on disk. */
enum job_want { WANT_NOTHING = 0, WANT_CANCEL = 1, WANT_PAUSE = 2 };

struct job {
	int64_t n;
	char id[OL_JOB_ID_CHARS + 1], account[OL_ACCOUNT_MAX + 1];
	char base[OL_NAME_MAX + 1], model[OL_NAME_MAX + 1];
	char training_file[OL_FILE_ID_CHARS + 1], validation_file[OL_FILE_ID_CHARS + 1];
	char suffix[OL_JOB_SUFFIX_MAX + 1];
	enum ol_job_status status;
	enum job_want want;
	int crashes;
	int64_t made_at, started_at, finished_at, estimated_finish, trained_tokens;
	int64_t step, steps, seed;
	char sha256[2 * OL_SHA256_BYTES + 1];
	json_t *request; /* method, hyperparameters, openledger, metadata as they were understood */
	char *error;     /* the sentence; NULL */
	char error_code[32];
};
void job_release(struct job *job);

struct ol_jobs {
	struct ol_home home;
	struct ol_store *store;
	struct ol_files *files;
	struct ol_jobs_options options;
	char folder[OL_PATH_MAX]; /* HOME/jobs */
	pthread_t runner;
	int wake; /* eventfd */
	bool running;
	_Atomic bool closing;
	pthread_mutex_t watch_lock;
	void (*on_event)(void *context);
	void *watch_context;
};
void jobs_wake(struct ol_jobs *jobs);

/* ---- jobs_store.c ---- */

/* account NULL: anybody's. */
OL_MUST_CHECK enum ol_status job_read(struct ol_jobs *jobs, struct job *job, const char *account,
				      const char *id, struct ol_error *err);
/* The next one to run; *found false: none waits. */
OL_MUST_CHECK enum ol_status job_next(struct ol_jobs *jobs, struct job *job, bool *found,
				      struct ol_error *err);
/* Its account has had its turn. */
OL_MUST_CHECK enum ol_status job_take_turn(struct ol_jobs *jobs, const char *id,
					   struct ol_error *err);
OL_MUST_CHECK enum ol_status job_insert(struct ol_jobs *jobs, const struct job *job,
					struct ol_error *err);
/* Writes what changes in a job's life. */
OL_MUST_CHECK enum ol_status job_update(struct ol_jobs *jobs, const struct job *job,
					struct ol_error *err);
OL_MUST_CHECK enum ol_status job_event(struct ol_jobs *jobs, const char *job, const char *level,
				       const char *type, json_t *data /* taken; may be NULL */,
				       struct ol_error *err, const char *format, ...)
	OL_PRINTF(7, 8);
OL_MUST_CHECK enum ol_status job_checkpoint(struct ol_jobs *jobs, const char *job, int64_t step,
					    int64_t tokens, json_t *metrics /* borrowed */,
					    struct ol_error *err);
OL_MUST_CHECK enum ol_status job_count_open(struct ol_jobs *jobs, const char *account,
					    int *count_out, struct ol_error *err);
/* Tells the watcher. */
void jobs_tell(struct ol_jobs *jobs);
json_t *job_json(const struct job *job);

/* ---- jobs_request.c ---- */

/* Checks a create object and fills in the job (all but n); the folder's job.json comes from it,
 * too. */
OL_MUST_CHECK enum ol_status job_parse(struct ol_jobs *jobs, struct job *job, const char *account,
				       json_t *request, struct ol_job_refusal *refusal);
/* Makes HOME/jobs/ID with the linked data and job.json. */
OL_MUST_CHECK enum ol_status job_prepare(struct ol_jobs *jobs, const struct job *job,
					 struct ol_error *err);
OL_MUST_CHECK enum ol_status job_path(const struct ol_jobs *jobs, char path[OL_PATH_MAX],
				      const char *id, const char *below, struct ol_error *err);
/* Removes a job's folder, and its checkpoints with `training`. Best effort. */
void job_clear(const struct ol_jobs *jobs, const struct job *job, bool training);

/* ---- jobs_runner.c ---- */

void *jobs_run(void *jobs);

#endif
