#include "node/pace.h"

#include <stdlib.h>
#include <string.h>

/* Steps with prompts after which the answers' own time is measured anew. */
enum { MIXED_MAX = 64 };

/* What of the bound is aimed at; the rest is for what no estimate sees. */
static const double AIM = 0.85;

void ol_pace_init(struct ol_pace *pace, double stall_seconds)
{
	*pace = (struct ol_pace){.stall_seconds = stall_seconds};
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double ol_pace_step(const struct ol_pace *pace)
{
	double sorted[OL_PACE_STEPS];
	const size_t count = (size_t)pace->step_count;
	if (count == 0)
		return 0.0;
	memcpy(sorted, pace->steps, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, compare);
	return sorted[(count - 1) / 2];
}

static double bound_of(const struct ol_pace *pace)
{
	return OL_MAX(pace->stall_seconds, 2.0 * ol_pace_step(pace));
}

/* The answers' own time, in a step with so many. */
static double own_time(const struct ol_pace *pace, int answers)
{
	const double more = (double)answers / OL_MAX(pace->answers, 1);
	return ol_pace_step(pace) * OL_MAX(more, 1.0);
}

/* What so many rows cost from a position on. A row that has not been measured costs at most what a
 * whole step of answers does. */
static double rows_time(const struct ol_pace *pace, int rows, int position)
{
	if (pace->rows == 0)
		return rows * ol_pace_step(pace);
	const double further = (position + 0.5 * rows) / OL_MAX(pace->position, 1.0);
	return rows * pace->row_seconds * OL_MAX(further, 1.0);
}

int ol_pace_rows(const struct ol_pace *pace, int answers, int position, int most)
{
	if (answers == 0)
		return most;
	if (pace->step_count == 0 || answers > 2 * pace->answers || pace->mixed >= MIXED_MAX)
		return 0;
	const double left = AIM * bound_of(pace) - own_time(pace, answers);
	int low = 1, high = OL_MIN(most, OL_MAX(2 * pace->rows, 1));
	while (low < high) { /* the most rows that fit */
		const int middle = low + (high - low + 1) / 2;
		if (rows_time(pace, middle, position) <= left)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

void ol_pace_measured(struct ol_pace *pace, double seconds, int answers, int rows, double position,
		      bool all)
{
	if (rows > 0) {
		const double own = answers > 0 ? own_time(pace, answers) : 0.0;
		pace->mixed += answers > 0;
		if (all && rows < pace->rows && seconds <= AIM * bound_of(pace))
			return;
		pace->row_seconds = OL_MAX(seconds - own, 0.0) / rows;
		pace->position = position;
		pace->rows = rows;
		return;
	}
	if (answers == 0)
		return;
	/* Another crowd has another usual step. */
	if (answers > 2 * pace->answers || 2 * answers < pace->answers)
		pace->step_count = pace->step_next = 0;
	pace->steps[pace->step_next] = seconds;
	pace->step_next = (pace->step_next + 1) % OL_PACE_STEPS;
	pace->step_count = OL_MIN(pace->step_count + 1, OL_PACE_STEPS);
	pace->answers = answers;
	pace->mixed = 0;
}
