/* node/attribute_index.h, floor 4: the attribution index of an adapter of this node.
 *
 *     adapter ─ its run's data, and those of the adapters it went on from (lineage) ─ without what
 *     was held out ─> HOME/adapters/NAME/attribution.index, its root in manifest.json
 *
 * An adapter made elsewhere gets one from the data it is said to be made from; its index says that
 * confidence is low, and so does every answer's attribution. */
#ifndef OL_NODE_ATTRIBUTE_INDEX_H
#define OL_NODE_ATTRIBUTE_INDEX_H

#include "attrib/build.h"
#include "node/home.h"

enum { OL_LINEAGE_MAX = 16 };

/* What is not said (as ol_index_wish_init leaves it) is chosen. */
struct ol_index_wish {
	int draws, curvature, row_bytes, first_layer, last_layer; /* -1 */
	float damping, span_part;                                 /* -1 */
	const char *targets;                                      /* NULL */
};
void ol_index_wish_init(struct ol_index_wish *wish);

struct ol_adapter_index_request {
	const char *adapter;
	const char *const *data; /* where its own run's data lie now; none: as the manifest says */
	int data_count;
	struct ol_index_wish wish;
	/* May be NULL; false stops. */
	bool (*progress)(void *context, const char *what, uint32_t done, uint32_t total);
	void *context;
};

OL_MUST_CHECK enum ol_status ol_adapter_index(struct ol_index_result *result,
					      const struct ol_home *home,
					      const struct ol_adapter_index_request *request,
					      struct ol_error *err);

/* The index of an adapter's folder, which must be the one that its manifest names.
 * OL_ERR_NOT_FOUND: there is none. */
OL_MUST_CHECK enum ol_status ol_adapter_open_index(struct ol_index **index_out, const char *folder,
						   struct ol_error *err);

#endif
