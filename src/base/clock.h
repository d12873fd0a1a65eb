/* base/clock.h, floor 0: time for measuring and for showing, never for a result. */
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

#endif
