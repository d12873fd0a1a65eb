/* attrib/index.h, floor 3: the response ledger of one adapter: a file from which the scores of any
 * answer follow with one backward pass (docs/FORMATS.md, "Attribution index").
 *
 *     parts      which linears are looked at, and in each the strongest directions of its outputs;
 *                with the rank's own directions and (F + lambda)^(-1/2) they turn a gradient of B
 *                into a row (project.h)
 *     payees     one row each: the sum of its examples' rows
 *     examples   one row and one sketch each; who owns it, which cluster of duplicates it is in
 *     spans      the examples' tokens and their suffix array (spans.h)
 *
 * Everything lies under one Merkle root, which the adapter's manifest names. A payee's row is a
 * leaf of its own, and a function of the examples' rows in the same file: who has the file can
 * check it without any model. A file is a function of (base, adapter, examples, settings),
 * whatever threads and instruction set made it. */
#ifndef OL_ATTRIB_INDEX_H
#define OL_ATTRIB_INDEX_H

#include "attrib/rows.h"
#include "attrib/shares.h"
#include "attrib/spans.h"

#define OL_INDEX_FILE "attribution.index"

enum {
	OL_INDEX_VERSION = 1,
	OL_INDEX_ROW_BYTES = 64000, /* of a payee, unless chosen        */
	OL_INDEX_ROW_BYTES_MIN = 1024,
	OL_INDEX_EXAMPLES_MAX = 10000000,
	OL_INDEX_PAYEES_MAX = 1 << 20,
	OL_INDEX_NAME_MAX = 256, /* bytes of an id or a contributor, as in train/record.h */
	OL_INDEX_LEAF = 65536    /* bytes of a leaf where rows are not leaves             */
};

/* How an index is made. All of it is in the file. */
struct ol_index_settings {
	uint64_t seed;          /* of the drawn labels; public                            */
	double damping;         /* lambda over the mean eigenvalue of a linear            */
	uint32_t draws;         /* labels drawn per token                                 */
	uint32_t curvature_max; /* examples that the curvature is made from, evenly spread */
	uint32_t row_bytes;     /* at most, of a row                                      */
	uint32_t targets;       /* bits 1 << ol_linear: which linears                     */
	uint32_t first_layer, last_layer; /* both included                               */
	/* Rows may be as long as that of so many millionths of the examples, and at most so many
	 * medians long. A million each: nothing is cut, as is the default (docs/PAYOUT.md says
	 * why: it would shield whoever poisons an adapter from the harm). */
	uint32_t norm_part, norm_median;
	uint32_t span_part; /* parts per billion of the positive scores that spans may add      */
};

/* One adapted linear. */
struct ol_index_part {
	int32_t layer, linear;
	int32_t outputs, rank, kept; /* directions of the outputs that are kept  */
	float scale;                 /* of the adapter                           */
	const float *outward;        /* (outputs, kept): directions as columns   */
	const float *inward;         /* (rank, rank): directions as rows         */
	const float *weight;         /* (kept, rank): (F + lambda)^(-1/2)        */
};

struct ol_index_payee {
	uint8_t id[OL_PAYEE_BYTES];
	const char *name;            /* ends with a NUL */
	uint32_t examples, clusters; /* its examples; the clusters that it is paid for */
};

struct ol_index_example {
	const char *id;   /* ends with a NUL */
	uint32_t payee;   /* who gave it     */
	uint32_t cluster; /* the example that stands for its duplicates: the first of them. Its
			   * giver is who the cluster pays                           */
	uint32_t tokens, answer_tokens;
	float clip; /* what its row is multiplied by in the payee's: 1, or less for an outlier */
};

/* A whole index: what is written, and what reading gives (then everything points into the file). */
struct ol_index_content {
	uint8_t base_id[OL_SHA256_BYTES], adapter_sha256[OL_SHA256_BYTES];
	uint8_t snapshot_sha256[OL_SHA256_BYTES];
	char arithmetic[32];
	struct ol_index_settings settings;
	uint64_t answer_tokens; /* of all examples: scores are divided by it */
	double energy;          /* of the whitened gradients that the rows keep, of 1 */
	bool low_confidence;    /* the adapter was not trained by a run that we know  */

	const struct ol_index_part *parts;
	struct ol_row_layout layout;
	const struct ol_index_payee *payees; /* ascending by id */
	uint32_t payee_count;
	const uint8_t *payee_rows; /* ol_row_bytes() each */
	const struct ol_index_example *examples;
	uint32_t example_count;
	const uint8_t *example_rows, *sketches;
	struct ol_span_corpus spans;
};

/* Writes the file, all or nothing; root_out: what it is committed under. */
OL_MUST_CHECK enum ol_status ol_index_write(const char *path, uint8_t root_out[OL_SHA256_BYTES],
					    const struct ol_index_content *content,
					    struct ol_error *err);

/* An open index: immutable, shared by threads. */
struct ol_index;

/* Nothing in the file is trusted: sizes, orders, numbers that would mislead and every bound are
 * checked, and the sections' hashes against the file's root, but for the examples' rows and
 * sketches and the suffix array, whose entries are checked when they are used. root: what the root
 * must be; NULL: any. */
OL_MUST_CHECK enum ol_status ol_index_open(struct ol_index **index_out, const char *path,
					   const uint8_t *root, struct ol_error *err);
/* The same of bytes in memory (64-byte aligned), which are borrowed. */
OL_MUST_CHECK enum ol_status ol_index_open_bytes(struct ol_index **index_out, const uint8_t *bytes,
						 size_t size, const char *where,
						 const uint8_t *root, struct ol_error *err);
void ol_index_close(struct ol_index *index);
const struct ol_index_content *ol_index_content(const struct ol_index *index);
const uint8_t *ol_index_root(const struct ol_index *index);

/* What opening left out: the hashes of all sections; and that every payee's row is the sum of its
 * examples' rows. */
OL_MUST_CHECK enum ol_status ol_index_audit(const struct ol_index *index, struct ol_error *err);

/* The row of a payee out of its clusters' rows: the sum of clip * row, in f32 what
 * ol_row_dequantize gives, in f64 and in the examples' order; then rounded to f32 and quantised.
 * False: out of memory, or the sum is beyond 2^60. */
OL_MUST_CHECK bool ol_index_payee_row(const struct ol_index_content *content, uint32_t payee,
				      void *row_out);

#endif
