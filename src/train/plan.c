#include "train/plan.h"

#include <stdlib.h>

#include "math/functions.h"

enum { PURPOSE_ORDER = 2 }; /* the first word of the counter */

/* The 32 high bits of the key against the fraction: both exact in f64. */
static bool is_held_out(uint64_t key, double fraction)
{
	return (double)(key >> 32) < fraction * 0x1p32;
}

static int compare_uint32(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Moves the example with the lowest (or highest) key from one list to the other. */
static void move_extreme(const uint64_t *keys, uint32_t *from, size_t *from_count, uint32_t *to,
			 size_t *to_count, bool lowest)
{
	size_t pick = 0;
	for (size_t i = 1; i < *from_count; i++) {
		const uint64_t a = keys[from[i]], b = keys[from[pick]];
		if (lowest ? a < b : a > b)
			pick = i;
	}
	to[(*to_count)++] = from[pick];
	from[pick] = from[--*from_count];
	qsort(from, *from_count, sizeof *from, compare_uint32);
}

enum ol_status ol_plan_init(struct ol_plan *plan, const uint64_t *keys, size_t count,
			    double eval_fraction, uint64_t seed, bool shuffled,
			    struct ol_error *err)
{
	*plan = (struct ol_plan){.seed = seed, .shuffled = shuffled, .keys = keys, .epoch = -1};
	if (count == 0)
		return ol_fail(err, OL_ERR_INPUT, "there is no example to train on");
	if (count > UINT32_MAX)
		return ol_fail(err, OL_ERR_FULL, "%zu examples are too many", count);
	plan->train = calloc(count, sizeof *plan->train);
	plan->held_out = calloc(count, sizeof *plan->held_out);
	plan->order = calloc(count, sizeof *plan->order);
	if (!plan->train || !plan->held_out || !plan->order) {
		ol_plan_release(plan);
		return ol_fail(err, OL_ERR_FULL, "out of memory for the plan of %zu examples",
			       count);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (is_held_out(keys[i], eval_fraction))
			plan->held_out[plan->held_out_count++] = i;
		else
			plan->train[plan->train_count++] = i;
	}
	if (plan->train_count == 0)
		move_extreme(keys, plan->held_out, &plan->held_out_count, plan->train,
			     &plan->train_count, false);
	else if (eval_fraction > 0 && plan->held_out_count == 0 && count >= 2)
		move_extreme(keys, plan->train, &plan->train_count, plan->held_out,
			     &plan->held_out_count, true);
	return OL_OK;
}

void ol_plan_release(struct ol_plan *plan)
{
	free(plan->train);
	free(plan->held_out);
	free(plan->order);
	*plan = (struct ol_plan){0};
}

static int compare_entries(const void *a, const void *b)
{
	const struct ol_plan_entry *x = a, *y = b;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->example > y->example) - (x->example < y->example);
}

static void order_epoch(struct ol_plan *plan, int64_t epoch)
{
	const uint32_t seed[2] = {(uint32_t)plan->seed, (uint32_t)(plan->seed >> 32)};
	for (size_t i = 0; i < plan->train_count; i++) {
		const uint32_t example = plan->train[i];
		const uint64_t key = plan->keys[example];
		const uint32_t counter[4] = {PURPOSE_ORDER, (uint32_t)epoch, (uint32_t)key,
					     (uint32_t)(key >> 32)};
		uint32_t words[4];
		ol_philox(words, counter, seed);
		plan->order[i] =
			(struct ol_plan_entry){(uint64_t)words[1] << 32 | words[0], key, example};
	}
	if (plan->shuffled)
		qsort(plan->order, plan->train_count, sizeof *plan->order, compare_entries);
	plan->epoch = epoch;
}

void ol_plan_step(struct ol_plan *plan, int64_t step, int batch, uint32_t *out)
{
	const int64_t per_epoch = (int64_t)plan->train_count;
	for (int i = 0; i < batch; i++) {
		const int64_t at = step * batch + i;
		if (at / per_epoch != plan->epoch)
			order_epoch(plan, at / per_epoch);
		out[i] = plan->order[at % per_epoch].example;
	}
}

size_t ol_plan_group(const int *sizes, size_t begin, size_t count, int rows_max)
{
	size_t end = begin + 1;
	int64_t rows = sizes[begin];
	while (end < count && rows + sizes[end] <= rows_max)
		rows += sizes[end++];
	return end;
}
