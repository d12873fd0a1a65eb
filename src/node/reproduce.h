/* node/reproduce.h, floor 4: training an adapter again, from its manifest.
 *
 * Base (by id), data (by hash), config and seeds come from the manifest; nothing is written. The
 * same program gives the same bytes on any machine: what comes out says whether the manifest tells
 * the truth. */
#ifndef OL_NODE_REPRODUCE_H
#define OL_NODE_REPRODUCE_H

#include "node/home.h"
#include "train/trainer.h"

struct ol_reproduce_request {
	const char *adapter;
	/* Where the data lie now; none: where the manifest says that they lay. */
	const char *const *data;
	int data_count;
	/* Called after every step; may be NULL. False stops (OL_ERR_CANCELLED). */
	bool (*step)(void *context, const struct ol_step_report *report, int steps);
	void *context;
};

struct ol_reproduction {
	uint8_t wanted[OL_SHA256_BYTES], got[OL_SHA256_BYTES]; /* of the adapter's tensors */
	bool same;
};

/* Fails where base, data or config are not those of the manifest, saying which. Another hash is no
 * failure: `same` is false. */
OL_MUST_CHECK enum ol_status ol_reproduce(struct ol_reproduction *out, const struct ol_home *home,
					  const struct ol_reproduce_request *request,
					  struct ol_error *err);

#endif
