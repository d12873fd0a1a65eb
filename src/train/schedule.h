/* train/schedule.h, floor 3: the learning rate of every step (docs/ARITHMETIC.md, "Training: the
 * run"): in f64, with our own cosine. */
#ifndef OL_TRAIN_SCHEDULE_H
#define OL_TRAIN_SCHEDULE_H

#include "base/base.h"

/* Append-only: the numbers are in checkpoints. */
enum ol_schedule { OL_SCHEDULE_CONSTANT = 0, OL_SCHEDULE_LINEAR = 1, OL_SCHEDULE_COSINE = 2 };
enum { OL_SCHEDULES = 3 };
const char *ol_schedule_name(enum ol_schedule schedule); /* "constant", "linear", "cosine" */
OL_MUST_CHECK bool ol_schedule_parse(enum ol_schedule *schedule_out, const char *name);

/* The fraction of the peak at step `step` (from 0) of `steps`:
 *
 *     1 │    ╭──╮             step < warmup: (step + 1) / warmup
 *       │   ╱    ╲            afterwards p = (step - warmup) / (steps - warmup):
 *     f │  ╱      ╲____       linear 1 - (1 - f) p, cosine f + (1 - f) (1 + cos(pi p)) / 2
 *       └─────────────────
 */
double ol_schedule_at(enum ol_schedule schedule, int step, int warmup, int steps,
		      double final_fraction);

#endif
