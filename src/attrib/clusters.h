/* attrib/clusters.h, floor 3: which examples are the same thing said twice.
 *
 *     the same tokens                                         exact
 *     pieces of 5 tokens in common, 4 of 5 of them            MinHash (Broder, 1997), 64 hashes
 *     rows that point the same way, cosine >= 0.95            sketches propose, rows decide
 *
 * What is joined by any of them is one cluster, named by its first example: that one is paid. An
 * example is compared with its neighbours in hash tables only, so 10^6 of them take seconds; what
 * the tables miss stays apart. */
#ifndef OL_ATTRIB_CLUSTERS_H
#define OL_ATTRIB_CLUSTERS_H

#include "attrib/rows.h"
#include "attrib/spans.h"

enum {
	OL_CLUSTER_PIECE = 5, /* tokens of a piece                          */
	OL_CLUSTER_HASHES = 64,
	OL_CLUSTER_SAME_MIN = 52, /* of the hashes: a Jaccard similarity of 0.8 */
	OL_CLUSTER_COSINE = 95    /* hundredths */
};

enum ol_cluster_why { OL_CLUSTER_EXACT, OL_CLUSTER_TEXT, OL_CLUSTER_ROW };
enum { OL_CLUSTER_WHYS = 3 };

struct ol_cluster_rows {
	const struct ol_row_kernels *kernels;
	const struct ol_row_layout *layout;
	const uint8_t *rows, *sketches;
};

/* clusters (count): the first example of each one's cluster. merged (OL_CLUSTER_WHYS): how many
 * were joined by what. rows may be NULL: texts alone. */
OL_MUST_CHECK enum ol_status ol_clusters_find(uint32_t *clusters, uint32_t *merged,
					      const struct ol_span_text *texts, uint32_t count,
					      const struct ol_cluster_rows *rows,
					      struct ol_error *err);

#endif
