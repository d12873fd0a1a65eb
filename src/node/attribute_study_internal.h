/* node/attribute_study_internal.h, floor 4: retraining, for audit and fidelity. */
#ifndef OL_NODE_ATTRIBUTE_STUDY_INTERNAL_H
#define OL_NODE_ATTRIBUTE_STUDY_INTERNAL_H

#include "node/attribute_study.h"
#include "node/provenance.h"

struct ol_study {
	struct ol_provenance from;
	struct ol_adapter *adapter;
	struct ol_engine_options machine;
	const struct ol_study_watch *watch;
	bool *held_out; /* (examples of the dataset) */
	size_t count;
	struct ol_tape *tape; /* for losses */
	int rows_max;
	int done, total; /* retrainings */
};

OL_MUST_CHECK enum ol_status ol_study_open(struct ol_study *study, const struct ol_home *home,
					   const char *adapter, const char *const *data,
					   int data_count, struct ol_error *err);
void ol_study_close(struct ol_study *study);
/* Trains without the examples that `drop` (count) marks; order: added to the run's seed, and so
 * another order of examples. */
OL_MUST_CHECK enum ol_status ol_study_retrain(struct ol_study *study, struct ol_adapter **adapter,
					      const bool *drop, uint64_t order,
					      struct ol_error *err);
/* Nats of examples' answers. */
OL_MUST_CHECK enum ol_status ol_study_nats(struct ol_study *study, double *nats,
					   const struct ol_adapter *adapter,
					   const struct ol_example *const *examples, size_t count,
					   struct ol_error *err);

#endif
