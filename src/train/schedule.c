#include "train/schedule.h"

#include <string.h>

#include "math/functions.h"

static const char *const names[OL_SCHEDULES] = {"constant", "linear", "cosine"};

const char *ol_schedule_name(enum ol_schedule schedule)
{
	OL_ASSERT((unsigned)schedule < OL_SCHEDULES);
	return names[schedule];
}

bool ol_schedule_parse(enum ol_schedule *schedule_out, const char *name)
{
	for (int i = 0; i < OL_SCHEDULES; i++)
		if (strcmp(name, names[i]) == 0) {
			*schedule_out = (enum ol_schedule)i;
			return true;
		}
	return false;
}

double ol_schedule_at(enum ol_schedule schedule, int step, int warmup, int steps,
		      double final_fraction)
{
	const double pi = 0x1.921fb54442d18p+1;
	OL_ASSERT(step >= 0 && warmup >= 0 && step < steps);
	if (step < warmup)
		return (double)(step + 1) / (double)warmup;
	const double p = (double)(step - warmup) / (double)(steps - warmup);
	double sine, cosine;
	switch (schedule) {
	case OL_SCHEDULE_CONSTANT: return 1;
	case OL_SCHEDULE_LINEAR: return 1 - (1 - final_fraction) * p;
	case OL_SCHEDULE_COSINE:
		ol_sincos(&sine, &cosine, pi * p);
		return final_fraction + (1 - final_fraction) * ((1 + cosine) / 2);
	}
	OL_UNREACHABLE();
}
