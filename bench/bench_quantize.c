/* Quantising on one core: CPU time a weight for each type and instruction set, the best of several
 * rounds over rows of 1024 roughly normal weights. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "math/kernels.h"

enum { COLS = 1024, ROWS = 256, ROUNDS = 5 };

static double nanoseconds(const struct ol_kernels *kernels, enum ol_weight_type type,
			  const float *x)
{
	static uint8_t row[4 * COLS];
	double best = 1e9;
	for (int round = 0; round < ROUNDS; round++) {
		const double begin = ol_clock_thread_seconds();
		for (size_t r = 0; r < ROWS; r++)
			OL_ASSERT(kernels->quantize_row(row, type, x + r * COLS, COLS));
		const double seconds = ol_clock_thread_seconds() - begin;
		best = OL_MIN(best, seconds);
	}
	return best / (ROWS * COLS) * 1e9;
}

int main(void)
{
	static float x[ROWS * COLS];
	uint32_t state = 1;
	for (size_t i = 0; i < OL_ARRAY_LEN(x); i++)
		for (int term = 0; term < 4; term++) {
			state = state * 1664525u + 1013904223u;
			x[i] += 0.02f * ((float)(state >> 8) * 0x1p-24f - 0.5f);
		}
	for (int isa = 0; isa < OL_ISAS; isa++) {
		const struct ol_kernels *kernels = ol_kernels_for((enum ol_isa)isa);
		for (int t = OL_WEIGHT_BF16; kernels && t < OL_WEIGHT_TYPES; t++) {
			const double ns = nanoseconds(kernels, (enum ol_weight_type)t, x);
			printf("%-7s %-5s %7.2f ns a weight, %6.2f s for 430 million\n",
			       kernels->name, ol_weight_type_name((enum ol_weight_type)t), ns,
			       ns * 0.43);
		}
	}
	return 0;
}
