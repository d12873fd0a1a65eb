/* node/jobs_launcher.h, floor 4: starts trainers for a server that may not start processes itself.
 *
 *     openledger serve ──fork──> launcher ──fork, exec──> openledger train-job FOLDER
 *           │  (before threads,     │  ▲                        │ stdout and stderr
 *           │   before its filter)  │  └── their exit           │
 *           └──── socketpair ───────┘                           │
 *           <─────────────── one pipe per trainer ──────────────┘
 *
 * The launcher is forked while the server is still one thread and unfiltered, and knows two
 * things: to start the one program it was given, and to send signals to what it started. When the
 * server is gone, however it ended, the launcher asks its trainers to stop (they write a
 * checkpoint), and ends with them; when the launcher is killed, the kernel kills its trainers.
 *
 * A trainer runs at nice 19 under SCHED_IDLE, in the server's own session: the kernel groups
 * processes by session for fairness (autogroup), and only within one group does nice decide; a
 * trainer with a session of its own would get half of the machine, whatever its nice value. The
 * kernel kills it first when memory runs out. */
#ifndef OL_NODE_JOBS_LAUNCHER_H
#define OL_NODE_JOBS_LAUNCHER_H

#include "node/home.h"

#include <sys/types.h>

struct ol_launcher;

/* Call it first of all, while there is one thread. program: what is run (a path); copied. */
OL_MUST_CHECK enum ol_status ol_launcher_start(struct ol_launcher **launcher_out,
					       const char *program, struct ol_error *err);
/* Ends the trainers that are left (kindly, then for sure) and the launcher. NULL is allowed. */
void ol_launcher_close(struct ol_launcher *launcher);

struct ol_launch {
	const char *folder;  /* of the job: the trainer's argument          */
	uint64_t memory_max; /* bytes it may map for itself; 0: no limit    */
	uint64_t cpu_max;    /* seconds of processor time; 0: no limit      */
	bool normal;         /* priority like everybody's: for tests        */
};
/* *fd_out: the reading end of the trainer's output; the caller closes it. */
OL_MUST_CHECK enum ol_status ol_launcher_run(struct ol_launcher *launcher, pid_t *pid_out,
					     int *fd_out, const struct ol_launch *launch,
					     struct ol_error *err);
/* To a trainer that it started and that has not ended; else nothing happens. */
void ol_launcher_signal(struct ol_launcher *launcher, pid_t pid, int signal_number);
/* Readable when there is news: of an exit, or of the launcher's own end. */
int ol_launcher_fd(const struct ol_launcher *launcher);
/* Takes one piece of news without waiting: true for an exit, with its wait status. *dead: the
 * launcher is gone, and with it every trainer. */
bool ol_launcher_news(struct ol_launcher *launcher, pid_t *pid_out, int *status_out, bool *dead);

#endif
