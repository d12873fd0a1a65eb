/* attrib/build.h, floor 3: making the index of an adapter.
 *
 *     labels drawn from the model ─> EK-FAC factors ─> the strongest directions that fit a row
 *     every example once more ─> its row ─> sketches, clusters, clips ─> the payees' rows
 *     their tokens ─> spans                                              ─> one file, one root
 *
 * About 2 + 3 draws forward and 1 + 2 draws backward passes over up to curvature_max examples, and
 * one of each over all. Rows and factors are the adapter's: a retrained adapter needs them anew.
 * Texts, and so spans and exact or textual clusters, are the Datanet's alone. */
#ifndef OL_ATTRIB_BUILD_H
#define OL_ATTRIB_BUILD_H

#include "attrib/index.h"
#include "model/engine.h"
#include "model/tape.h"

/* One training example; what it points to is borrowed. */
struct ol_index_source {
	const char *id, *contributor;
	const struct ol_sequence *sequence;
	uint64_t key; /* draws its labels: a function of the id, so that neighbours do not matter */
	uint32_t answer_tokens;
};

struct ol_index_request {
	const struct ol_model *model;
	const struct ol_adapter *adapter;
	const struct ol_index_source *sources; /* in the snapshot's order: the first of a cluster is
						* the earliest and is paid */
	uint32_t source_count;
	uint8_t snapshot_sha256[OL_SHA256_BYTES];
	struct ol_index_settings settings;
	bool low_confidence;
	const struct ol_kernels *kernels; /* NULL: the best */
	int threads;                      /* 0: all         */
	/* May be NULL; false stops (OL_ERR_CANCELLED). */
	bool (*progress)(void *context, const char *what, uint32_t done, uint32_t total);
	void *context;
};

/* What fits this base. */
void ol_index_defaults(struct ol_index_settings *settings, const struct ol_config *config);
OL_MUST_CHECK enum ol_status ol_index_settings_check(const struct ol_index_settings *settings,
						     const struct ol_config *config,
						     struct ol_error *err);

struct ol_index_result {
	uint8_t root[OL_SHA256_BYTES];
	uint32_t examples, payees, clusters, parts, values;
	uint32_t merged[3]; /* by enum ol_cluster_why */
	uint32_t clipped;   /* examples whose rows were longer than they may be */
	double energy;
};

/* Writes the index to `path`, all or nothing; beside it PATH.rows, which is removed. */
OL_MUST_CHECK enum ol_status ol_index_build(struct ol_index_result *result, const char *path,
					    const struct ol_index_request *request,
					    struct ol_error *err);

#endif
