/* node/attribute_study.h, floor 4: what retraining says about an adapter's attribution.
 *
 *     audit      the adapter trained again without one contributor, all else the same: what it
 *                would not know
 *     fidelity   trained again on many random parts of its examples: do the scores foretell what
 *                every question's loss becomes? The answer goes into the adapter's card
 *
 * Retraining gives the same bits every time, so an audit is no estimate: it is what happens. The
 * number of steps and every setting stay; held-out examples stay held out. */
#ifndef OL_NODE_ATTRIBUTE_STUDY_H
#define OL_NODE_ATTRIBUTE_STUDY_H

#include "node/home.h"
#include "train/manifest.h"

struct ol_study_watch {
	/* May be NULL; false stops. done of total retrainings, and how far the one under way is. */
	bool (*progress)(void *context, int done, int total, int step, int steps);
	void *context;
};

/* ---- audit ---- */

struct ol_audit_request {
	const char *adapter, *without;
	const char *prompt, *response; /* also what becomes of this answer; NULL: none */
	const char *const *data;       /* where the data lie now; none: as the manifest says */
	int data_count;
	struct ol_study_watch watch;
};

/* Mean nats per answer token with and without. */
struct ol_audit_row {
	char name[OL_NAME_MAX * 2 + 1];
	size_t examples;
	uint64_t tokens;
	double with, without;
};
struct ol_audit {
	size_t removed, kept;              /* examples that were trained on */
	struct ol_audit_row held_out, own; /* held-out examples; those that were taken out */
	struct ol_audit_row *contributors; /* of the held-out examples, by name; or of all */
	size_t contributor_count;
	bool asked;
	double answer_with, answer_without; /* nats of the answer */
	bool scored;
	double predicted;                /* the index's score for it; nats */
	uint8_t sha256[OL_SHA256_BYTES]; /* of the adapter without */
	double seconds;
};
OL_MUST_CHECK enum ol_status ol_audit_run(struct ol_audit *audit, const struct ol_home *home,
					  const struct ol_audit_request *request,
					  struct ol_error *err);
void ol_audit_release(struct ol_audit *audit);

/* ---- fidelity ---- */

enum { OL_FIDELITY_SUBSETS = 20, OL_FIDELITY_QUERIES = 100 };

struct ol_fidelity_request {
	const char *adapter;
	const char *const *data, *const *queries; /* queries: none: the held-out examples */
	int data_count, query_count;
	int subsets;
	float alpha;    /* part of the examples in each */
	double seconds; /* no new retraining after so long; 0: no limit */
	bool shapley;   /* all coalitions of at most 8 contributors, too */
	struct ol_study_watch watch;
};
struct ol_fidelity {
	struct ol_manifest_fidelity measured;
	size_t examples, queries;
	int retrained; /* now; others were kept from before */
	double bm25;   /* what lexical search reaches */
	double seconds;
};
/* Needs the adapter's index. Retrainings are kept in HOME/fidelity/, so that a stopped study goes
 * on. Writes the result into manifest and card. */
OL_MUST_CHECK enum ol_status ol_fidelity_run(struct ol_fidelity *fidelity,
					     const struct ol_home *home,
					     const struct ol_fidelity_request *request,
					     struct ol_error *err);

#endif
