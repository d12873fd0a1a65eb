/* base/clock.h, floor 0: time for measuring and for showing, never for a result, and the median of
 * what was measured. What the ledger writes down asks an ol_clock, so that a test can set it. */
#ifndef OL_BASE_CLOCK_H
#define OL_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* The time of day as a table of functions. It may jump; who needs order keeps the largest seen. */
struct ol_clock {
	void *self;
	uint64_t (*now_ms)(void *self); /* since 1970 */
};

extern const struct ol_clock ol_clock_system;

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
