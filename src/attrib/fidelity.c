#include "attrib/fidelity.h"

#include "math/functions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Subsets -------------------------------------------------------------------------------- */

struct drawn {
	uint32_t word;
	size_t index;
};

static int by_word(const void *a, const void *b)
{
	const struct drawn *x = a, *y = b;
	if (x->word != y->word)
		return x->word < y->word ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

bool ol_subset_draw(uint8_t *keep, size_t count, uint32_t subset, double part)
{
	const size_t wanted = (size_t)(part * (double)count + 0.5);
	struct drawn *list = malloc((count + 1) * sizeof *list);
	if (!list)
		return false;
	for (size_t i = 0; i < count; i++) {
		const uint32_t counter[4] = {subset, (uint32_t)i, 0, 0}, key[2] = {1, 0x51d};
		uint32_t out[4];
		ol_philox(out, counter, key);
		list[i] = (struct drawn){out[0], i};
	}
	qsort(list, count, sizeof *list, by_word);
	memset(keep, 0, count);
	for (size_t i = 0; i < OL_MIN(wanted, count); i++)
		keep[list[i].index] = 1;
	free(list);
	return true;
}

/* ---- Ranks ---------------------------------------------------------------------------------- */

struct ranked {
	double value;
	size_t index;
};

static int by_value(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static void rank(double *out, struct ranked *list, const double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		list[i] = (struct ranked){values[i], i};
	qsort(list, n, sizeof *list, by_value);
	for (size_t i = 0; i < n;) {
		size_t end = i + 1;
		while (end < n && list[end].value == list[i].value)
			end++;
		for (size_t j = i; j < end; j++)
			out[list[j].index] = 0.5 * (double)(i + end - 1);
		i = end;
	}
}

double ol_spearman(const double *a, const double *b, size_t n)
{
	double *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *y);
	struct ranked *list = malloc((n + 1) * sizeof *list);
	double xy = 0.0, xx = 0.0, yy = 0.0;
	const bool room = x && y && list;
	if (room) {
		rank(x, list, a, n);
		rank(y, list, b, n);
	}
	for (size_t i = 0; room && i < n; i++) {
		const double u = x[i] - 0.5 * ((double)n - 1), v = y[i] - 0.5 * ((double)n - 1);
		xy += u * v;
		xx += u * u;
		yy += v * v;
	}
	free(x);
	free(y);
	free(list);
	if (!room)
		return (double)NAN;
	return xx > 0.0 && yy > 0.0 ? xy / sqrt(xx * yy) : 0.0;
}

/* ---- Coalitions ----------------------------------------------------------------------------- */

void ol_shapley(double *values, const double *worth, int players)
{
	double weight[OL_SHAPLEY_MAX]; /* of a coalition of so many others: s! (n - s - 1)! / n! */
	OL_ASSERT(players >= 1 && players <= OL_SHAPLEY_MAX);
	weight[0] = 1.0 / players;
	for (int s = 1; s < players; s++)
		weight[s] = weight[s - 1] * s / (players - s);
	for (int p = 0; p < players; p++) {
		const uint32_t own = 1u << p;
		values[p] = 0.0;
		for (uint32_t set = 0; set < 1u << players; set++)
			if (!(set & own))
				values[p] += weight[__builtin_popcount(set)] *
					     (worth[set | own] - worth[set]);
	}
}

double ol_share_distance(const double *a, const double *b, size_t n)
{
	double sum_a = 0.0, sum_b = 0.0, distance = 0.0;
	for (size_t i = 0; i < n; i++) {
		sum_a += a[i] > 0.0 ? a[i] : 0.0;
		sum_b += b[i] > 0.0 ? b[i] : 0.0;
	}
	if (sum_a <= 0.0 || sum_b <= 0.0)
		return sum_a > 0.0 || sum_b > 0.0 ? 1.0 : 0.0;
	for (size_t i = 0; i < n; i++)
		distance +=
			fabs((a[i] > 0.0 ? a[i] : 0.0) / sum_a - (b[i] > 0.0 ? b[i] : 0.0) / sum_b);
	return 0.5 * distance;
}
