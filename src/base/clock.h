/* base/clock.h, floor 0: time for measuring and for showing, never for a result, and the median of
 * what was measured. */
#ifndef OL_BASE_CLOCK_H
#define OL_BASE_CLOCK_H

#include <time.h>

/* Seconds since some fixed moment; does not jump. */
static inline double ol_clock_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of processor time of the calling thread: other processes do not count. */
static inline double ol_clock_thread_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Sorts the values. 0 when there are none; the mean of the two in the middle of an even count. */
double ol_median(double *values, int count);

#endif
