/* node/provenance.h, floor 4: what an adapter was made from, opened again.
 *
 *     adapter ─ manifest.json ─┬─ base (by id) with its tokenizer
 *                              ├─ data (by hash) ─ records ─ dataset (by snapshot)
 *                              └─ the adapter that training went on from (by hash)
 *
 * What is opened is what the manifest says, or the call fails and says which is not. */
#ifndef OL_NODE_PROVENANCE_H
#define OL_NODE_PROVENANCE_H

#include "node/home.h"
#include "node/runtime.h"
#include "train/manifest.h"
#include "train/trainer.h"

struct ol_provenance {
	char adapter[OL_PATH_MAX]; /* as it was named */
	char folder[OL_PATH_MAX];
	struct ol_manifest manifest;
	bool has_manifest;
	char base_name[OL_NAME_MAX + 1];
	struct ol_runtime base;
	struct ol_adapter *start; /* NULL: training began from the seed */
	char start_name[OL_NAME_MAX + 1];
	struct ol_records *records;
	struct ol_dataset *dataset;
};

enum ol_provenance_what {
	OL_PROVENANCE_RUN, /* the adapter must have been trained by a run that its manifest tells */
	OL_PROVENANCE_ANY  /* else the data are those given, cut as training would by default     */
};

/* data: where the data lie now; count 0: where the manifest says that they lay. Release it whatever
 * happened. */
OL_MUST_CHECK enum ol_status ol_provenance_open(struct ol_provenance *p, const struct ol_home *home,
						const char *adapter, const char *const *data,
						int data_count, enum ol_provenance_what what,
						struct ol_error *err);
void ol_provenance_release(struct ol_provenance *p);

#endif
