/* node/jobs.h, floor 4: training jobs: one table and one stream of events, whoever asks (the API's
 * /v1/fine_tuning/jobs, ModelFactory).
 *
 *     create ─> queued ──> running ──┬─> succeeded   adapter installed, on_model called
 *                 ▲  │        │      ├─> failed      a sentence says why
 *                 │  │        │      └─> cancelled
 *                 │  └─> paused <┘ pause (checkpoint written)
 *                 └──────────┘ resume; or the server ended: the next one goes on
 *
 * One job trains at a time; the next one is that of the account whose last start is longest ago.
 * The trainer is a process of its own (jobs_launcher.h) that says what it does in lines of JSON
 * (jobs_worker.h). A run is a pure function of base, data and config: stopped and gone on with, it
 * ends with the same bits. A trainer that crashes is started again from its checkpoint once, then
 * the job has failed with its last words.
 *
 *     HOME/jobs/ID/job.json    what the trainer is to do
 *     HOME/jobs/ID/data/…      the files, linked: they may be deleted meanwhile
 *     HOME/training/MODEL/     checkpoints and metrics (node/train.h)
 *     HOME/adapters/MODEL/     the result: ft:BASE:SUFFIX:ID
 *
 * All functions may be called from any thread; they read and write the store. */
#ifndef OL_NODE_JOBS_H
#define OL_NODE_JOBS_H

#include "node/files.h"
#include "node/jobs_launcher.h"

enum {
	OL_JOB_ID_CHARS = 31, /* "ftjob-", 24 … and a spare */
	OL_JOB_SUFFIX_MAX = 40,
	OL_JOB_FIELD_MAX = 64,
	OL_JOB_REQUEST_MAX = 1 << 16, /* bytes of what create is given */
	OL_JOB_METADATA_MAX = 16      /* pairs, as OpenAI has it       */
};

/* Append-only: the numbers are on disk. */
enum ol_job_status {
	OL_JOB_QUEUED = 0,
	OL_JOB_RUNNING = 1,
	OL_JOB_SUCCEEDED = 2,
	OL_JOB_FAILED = 3,
	OL_JOB_CANCELLED = 4,
	OL_JOB_PAUSED = 5
};
enum { OL_JOB_STATUSES = 6 };
const char *ol_job_status_name(enum ol_job_status status); /* OpenAI's words */

struct ol_jobs;

struct ol_jobs_options {
	struct ol_launcher *launcher; /* borrowed; NULL: jobs are kept and shown, none is run */
	/* A model was made, and its job is about to be called succeeded; on the jobs' own thread,
	 * with no lock held; possibly twice for one model. */
	void (*on_model)(void *context, const char *model, const char *account);
	void *context;
	int account_open_max;  /* jobs of one account that are not over; 0: 16     */
	uint64_t memory_max;   /* of a trainer; 0: half of the machine's           */
	uint64_t seconds_max;  /* of training, wall clock; 0: a week               */
	bool unconfined;       /* for tests (busy machines, sanitizers): usual priority, no limit */
	double report_seconds; /* between two metrics events; 0: 2                 */
};

/* Borrows store and files. What was running when the last server ended is queued again. */
OL_MUST_CHECK enum ol_status ol_jobs_open(struct ol_jobs **jobs_out, const struct ol_home *home,
					  struct ol_store *store, struct ol_files *files,
					  const struct ol_jobs_options *options,
					  struct ol_error *err);
/* Asks the trainer for a checkpoint, waits for its end; its job stays queued. NULL is allowed. */
void ol_jobs_close(struct ol_jobs *jobs);

/* on_event is called when there are new events of some job: look at them. On any thread; it must
 * not wait, nor call back into jobs. One watcher; NULL takes it back, and then it is not running
 * any more. */
void ol_jobs_watch(struct ol_jobs *jobs, void (*on_event)(void *context), void *context);

/* Why a request was refused: field is the parameter's name ("hyperparameters.n_epochs"), or "". */
struct ol_job_refusal {
	char field[OL_JOB_FIELD_MAX];
	struct ol_error error;
};
/* request: the API's create object. OL_ERR_INPUT and OL_ERR_NOT_FOUND name the field; OL_ERR_FULL:
 * too many jobs of this account are open. *job_out: the API's job object. */
OL_MUST_CHECK enum ol_status ol_jobs_create(struct ol_jobs *jobs, json_t **job_out,
					    const char *account, json_t *request,
					    struct ol_job_refusal *refusal);

/* The job's object. OL_ERR_NOT_FOUND, also for another account's. */
OL_MUST_CHECK enum ol_status ol_jobs_get(struct ol_jobs *jobs, json_t **job_out,
					 const char *account, const char *id, struct ol_error *err);
enum ol_job_action { OL_JOB_CANCEL, OL_JOB_PAUSE, OL_JOB_RESUME };
/* OL_ERR_INPUT: not in its status. The object shows the new status at once; a trainer that is asked
 * to pause still writes its checkpoint. */
OL_MUST_CHECK enum ol_status ol_jobs_act(struct ol_jobs *jobs, json_t **job_out,
					 const char *account, const char *id,
					 enum ol_job_action action, struct ol_error *err);
/* Lists, newest first; after: an id of the same kind, or NULL. */
OL_MUST_CHECK enum ol_status ol_jobs_list(struct ol_jobs *jobs, json_t **list_out,
					  const char *account, const char *after, int limit,
					  struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_jobs_events(struct ol_jobs *jobs, json_t **list_out,
					    const char *account, const char *id, const char *after,
					    int limit, struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_jobs_checkpoints(struct ol_jobs *jobs, json_t **list_out,
						 const char *account, const char *id,
						 const char *after, int limit,
						 struct ol_error *err);
/* For streams: events of a job in order, those with a number above *last, at most limit; *last
 * moves on. *over: the job has ended and these are the last. */
OL_MUST_CHECK enum ol_status ol_jobs_news(struct ol_jobs *jobs, json_t **events_out, int64_t *last,
					  bool *over, const char *account, const char *id,
					  int limit, struct ol_error *err);

#endif
