/* train/plan.h, floor 3: which examples make up which step (docs/ARITHMETIC.md, "Training: the
 * run").
 *
 *     held out:  hash of the id below eval_fraction        the same in every run over these data
 *     epoch e:   the others, sorted by Philox(seed; e, key of the example)
 *     step s:    batch examples of the epochs' orders, one after another: s * batch …
 *
 * Whether and where an example stands depends on it alone, never on its neighbours: without some
 * examples the others keep their order, and the held-out ones stay held out. That is what makes
 * training without one contributor comparable. */
#ifndef OL_TRAIN_PLAN_H
#define OL_TRAIN_PLAN_H

#include "base/base.h"

struct ol_plan_entry {
	uint64_t rank, key;
	uint32_t example;
};

struct ol_plan {
	uint64_t seed;
	bool shuffled;
	const uint64_t *keys; /* of all examples; borrowed */
	uint32_t *train, *held_out;
	size_t train_count, held_out_count;
	struct ol_plan_entry *order; /* (train_count) of epoch `epoch` */
	int64_t epoch;               /* -1: none yet */
};

/* keys (count): first 8 bytes of SHA-256(id), as in ol_example. At least one example stays for
 * training; with eval_fraction > 0 and two examples or more at least one is held out. */
OL_MUST_CHECK enum ol_status ol_plan_init(struct ol_plan *plan, const uint64_t *keys, size_t count,
					  double eval_fraction, uint64_t seed, bool shuffled,
					  struct ol_error *err);
void ol_plan_release(struct ol_plan *plan);

/* The examples of step `step` (from 0), in their order: out (batch). */
void ol_plan_step(struct ol_plan *plan, int64_t step, int batch, uint32_t *out);

/* Cuts `count` units of sizes[] rows, in their order, into groups of at most rows_max: returns the
 * end of the group that begins at `begin`. A unit larger than rows_max stands alone. */
size_t ol_plan_group(const int *sizes, size_t begin, size_t count, int rows_max);

#endif
