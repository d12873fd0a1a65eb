/* attrib/answer.h, floor 3: who shaped an answer.
 *
 *     prompt + response ── one teacher-forced pass of the tape, forward and back ──> dy, h
 *         cut into OL_SCORE_BLOCKS blocks of positions, a row of 8-bit numbers each (project.h)
 *         x payees' rows ──> signed scores ──> shares (shares.h)       x spans (spans.h)
 *         x examples' rows ──> the examples that did most              (for people; never for pay)
 *
 * A pure function of (base, adapter, index, prompt, response): batch, threads, instruction set and
 * whether activations are kept or computed again leave no trace. A number that is not finite is an
 * error and pays nobody.
 *
 * An attributor is one thread's; indexes and adapters are shared. */
#ifndef OL_ATTRIB_ANSWER_H
#define OL_ATTRIB_ANSWER_H

#include "attrib/index.h"
#include "model/model.h"
#include "model/tape.h"

enum {
	OL_ATTRIBUTION_TOP_MAX = 1000,   /* examples                                           */
	OL_ATTRIBUTION_SCAN = 4096,      /* up to so many examples are all looked at exactly   */
	OL_ATTRIBUTION_SHORTLIST = 1000, /* of more, those whose sketches say most           */
	OL_ATTRIBUTION_BATCH_MAX = 64
};

struct ol_attributor;

struct ol_attributor_options {
	const struct ol_kernels *kernels; /* NULL: the best                                  */
	int threads;                      /* 0: all                                          */
	int rows_max;      /* of a pass: the longest prompt with its response; 0: the context,
			    * at most 4096                                                   */
	int rank_max;      /* the largest rank of any adapter that will come                 */
	size_t memory_max; /* activations above this are computed again instead of kept; 0: 1 GB */
	bool recompute;    /* always: the same bits                                          */
};

/* Borrows the model. */
OL_MUST_CHECK enum ol_status ol_attributor_open(struct ol_attributor **attributor_out,
						const struct ol_model *model,
						const struct ol_attributor_options *options,
						struct ol_error *err);
void ol_attributor_close(struct ol_attributor *attributor);
int ol_attributor_rows_max(const struct ol_attributor *attributor);
/* To be called before an index or an adapter is closed that it may have been asked about last. */
void ol_attributor_forget(struct ol_attributor *attributor);

struct ol_attribution_query {
	const struct ol_index *index; /* of this adapter over this base; checked */
	const struct ol_adapter *adapter;
	const int32_t *prompt, *response; /* ids; the prompt has one or more, as has the response */
	int prompt_count, response_count;
	int top;        /* examples wanted */
	bool gain;      /* also what the base alone makes of the answer: one more forward pass */
	double *scores; /* (examples of the index) every example's, in nats, as it is: not clipped,
			 * duplicates too; for measuring. NULL: not wanted                       */
};

struct ol_attributed_example {
	uint32_t example; /* of the index */
	int64_t score;
};

/* Its arrays are its own; ol_attribution_release. */
struct ol_attribution {
	const struct ol_index *index;
	bool clear;              /* some payee's score is told from zero               */
	bool low_confidence;     /* the index says so                                  */
	struct ol_share *shares; /* the share table: as the index's payees             */
	bool *told;              /* whose score is                                     */
	int64_t *bonus;          /* what spans added to the scores                     */
	uint32_t count;
	uint8_t root[OL_SHA256_BYTES];     /* of the share table */
	struct ol_attributed_example *top; /* descending; one of each cluster */
	int top_count;
	struct ol_span *spans; /* tokens of the response */
	int span_count;
	uint32_t span_tokens;   /* of the response that stand in some span */
	double nats, base_nats; /* of the response; base: NaN if not asked for */
};
void ol_attribution_release(struct ol_attribution *attribution);

/* count answers, at most OL_ATTRIBUTION_BATCH_MAX; neighbours of one adapter share passes. All or
 * nothing. OL_ERR_INPUT: too long, a token outside the vocabulary, an index of another adapter, a
 * score that is no number. */
OL_MUST_CHECK enum ol_status ol_attribute(struct ol_attributor *attributor,
					  struct ol_attribution *out,
					  const struct ol_attribution_query *queries, int count,
					  struct ol_error *err);

#endif
