/* attrib/build_internal.h, floor 3: what the files that build an index share.
 *
 *     build.c           its life; the examples' rows
 *     build_factors.c   labels, curvature, which directions are kept
 *     build_ledger.c    payees, clusters, clips, spans; the file */
#ifndef OL_ATTRIB_BUILD_INTERNAL_H
#define OL_ATTRIB_BUILD_INTERNAL_H

#include "attrib/build.h"
#include "attrib/project.h"
#include "base/file.h"

struct ol_build {
	const struct ol_index_request *q;
	const struct ol_config *config;
	const struct ol_adapter_view *view;
	const struct ol_kernels *kernels;
	struct ol_index_result *result;
	struct ol_tape *tape;
	struct ol_sequence *sequences; /* of the sources */
	float *ones;                   /* (rows_max) every target's weight */
	int rows_max;
	uint64_t answer_tokens;
	/* of the factors */
	struct ol_index_part *parts; /* owns its arrays */
	uint32_t *begin;
	struct ol_row_layout layout;
	double energy;
	/* of the rows */
	size_t stride;
	char rows_path[4096];
	struct ol_map rows;
};

OL_MUST_CHECK enum ol_status ol_build_progress(const struct ol_build *b, const char *what,
					       uint32_t done, uint32_t total, struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_build_pass(struct ol_build *b, const struct ol_sequence *sequences,
					   int count, const struct ol_tape_backward *request,
					   struct ol_error *err);
int ol_build_group(const struct ol_build *b, const struct ol_sequence *sequences, uint32_t count);
OL_MUST_CHECK enum ol_status ol_build_factors(struct ol_build *b, struct ol_error *err);
OL_MUST_CHECK enum ol_status ol_build_ledger(struct ol_build *b, const char *path,
					     struct ol_error *err);

#endif
