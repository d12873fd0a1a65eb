/* node/jobs_worker.h, floor 4: what a trainer process does for a job, and the lines in which it
 * says so; and how the API's words become a training run's.
 *
 * Lines of compact JSON on one descriptor, each with a "type"; what is no such line (a sanitizer's
 * report, an assertion) counts as last words:
 *
 *     {"type":"start","step":0,"steps":120,"tokens":0,"examples":400,"held_out":20,…}
 *     {"type":"step","step":1,"loss":2.31,"rate":0.001,"tokens":812,"seconds":0.4}
 *         tokens: in all, also those of runs before that this one goes on from;
 *         and after an evaluation "valid_loss", of preferences "accuracy" and "margin"
 *     {"type":"sample","question":…,"answer":…,"wanted":…}
 *     {"type":"saved","step":40}                 a checkpoint is whole
 *     {"type":"notice","text":…}                 something to look at
 *     {"type":"message","text":…}                what goes on
 *     {"type":"done","sha256":…,"step":120,"best_step":96,"train_loss":…,"valid_loss":…}
 *     {"type":"error","status":1,"text":…}       and it ends; status: enum ol_status */
#ifndef OL_NODE_JOBS_WORKER_H
#define OL_NODE_JOBS_WORKER_H

#include "node/train.h"

#include <jansson.h>

enum { OL_JOB_LINE_MAX = 1 << 16, OL_JOB_FILE_MAX = 1 << 20 };

/* What a job may ask for beside the wish. */
struct ol_job_extra {
	double multiplier;    /* of the learning rate; 0: not given */
	int samples;          /* answers at each evaluation         */
	int checkpoint_steps; /* 0: by time                         */
};
/* The API's "method", "hyperparameters" and "openledger" objects (NULL: not given) as a wish.
 * Texts are borrowed from them. On OL_ERR_INPUT field says which member it is. */
OL_MUST_CHECK enum ol_status ol_job_wish(struct ol_train_wish *wish, struct ol_job_extra *extra,
					 char field[64], const char *method,
					 const json_t *hyperparameters, const json_t *openledger,
					 struct ol_error *err);

struct ol_job_work {
	const char *folder;    /* of the job: job.json, lock          */
	int fd;                /* for the lines                        */
	const char *code;      /* which code this is, for the manifest */
	bool (*stopped)(void); /* asked after every step            */
};
/* The whole of it; false when it did not come to "done". */
bool ol_job_work(const struct ol_job_work *work);

#endif
