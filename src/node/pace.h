/* node/pace.h, floor 4: how much of a prompt a step may read while answers are under way.
 *
 *     bound  = max(stall_seconds, 2 * the usual step of answers alone)
 *     a step = the answers' own time + rows * what a row costs at its position
 *
 * Both are measured as they come; nothing is known of the machine. The estimates lean to the side
 * of the answers: a row may cost more the further back it has to look, but not more than in
 * proportion; answers that joined cost as much as those who were measured; a prompt's share at
 * most doubles from one step to the next. Arithmetic alone: the scheduler has the clock. */
#ifndef OL_NODE_PACE_H
#define OL_NODE_PACE_H

#include "base/base.h"

enum { OL_PACE_STEPS = 31 };

struct ol_pace {
	double stall_seconds;
	double steps[OL_PACE_STEPS]; /* the newest steps of answers alone, a ring */
	int step_count, step_next;
	int answers;        /* in the newest of them */
	int mixed;          /* steps with prompts since then */
	double row_seconds; /* of the newest rows of prompts; valid if rows > 0 */
	double position;    /* their mean position */
	int rows;           /* how many they were */
};

void ol_pace_init(struct ol_pace *pace, double stall_seconds);
/* The usual step of answers alone (the median); 0: not known. */
double ol_pace_step(const struct ol_pace *pace);
/* Rows of prompts for a step with so many answers, at most `most`. position: of the furthest
 * prompt. 0: this step is for the answers alone, whose time has to be known first. */
int ol_pace_rows(const struct ol_pace *pace, int answers, int position, int most);
/* What a step took. position: the mean one of its prompts' rows; all: there were no more of them,
 * so their number says nothing about what fits. */
void ol_pace_measured(struct ol_pace *pace, double seconds, int answers, int rows, double position,
		      bool all);

#endif
