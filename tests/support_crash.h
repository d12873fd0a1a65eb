/* tests/support_crash.h: a ledger on the lying disk, driven at random, broken, opened again, and
 * held against the plain book.
 *
 * What must hold after every opening: the journal reaches at least as far as was acknowledged; the
 * book is what the plain book was at that very record; events are counted as logged. */
#ifndef OL_TESTS_SUPPORT_CRASH_H
#define OL_TESTS_SUPPORT_CRASH_H

#include "ledger/ledger.h"
#include "tests/support_book.h"
#include "tests/support_disk.h"

struct ol_crash_options {
	uint64_t seed;
	int recoveries; /* how many times it is broken and opened again          */
	int steps_max;  /* between two of them                                   */
	/* The first break only, for going through all of them: */
	uint64_t fault_call; /* which call after the start; 0: at random              */
	enum ol_sim_fault fault;
};

struct ol_crash_tally {
	uint64_t recoveries, batches, acknowledged, cuts, snapshots, from_snapshot, checks;
	uint64_t kinds[8]; /* of breaks */
};

/* true: all held. Else `why` is a sentence. */
bool ol_crash_run(const struct ol_crash_options *options, struct ol_crash_tally *tally,
		  char why[OL_ERROR_TEXT_MAX]);

/* The options of a ledger on that disk, with small limits; time and ids come from the world. */
struct ol_ledger_options ol_crash_ledger(struct ol_sim_disk *sim, struct ol_world *world);

#endif
