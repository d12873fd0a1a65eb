/* node/eval.h, floor 4: how well a model, with or without an adapter, knows some data.
 *
 * Losses are teacher-forced, over the answers' tokens as training would see them; right answers are
 * counted by letting the model answer greedily (node/greedy.h). */
#ifndef OL_NODE_EVAL_H
#define OL_NODE_EVAL_H

#include "node/home.h"
#include "train/dataset.h"

struct ol_eval_request {
	const char *model;   /* NULL: the adapter's base */
	const char *adapter; /* NULL: the model alone    */
	const char *const *data;
	int data_count;
	enum ol_data_format format;
	int max_length;          /* 0: the context, at most OL_EVAL_LENGTH */
	bool answers;            /* let it answer, too                       */
	const char *per_example; /* a JSONL file to write; NULL: none    */
	/* Now and then; false stops. May be NULL. */
	bool (*progress)(void *context, size_t done, size_t total, bool answering);
	void *context;
};
enum { OL_EVAL_LENGTH = 2048 };

/* Sums over examples; `asked` are those that were to be answered. */
struct ol_eval_sums {
	const char *contributor; /* NULL in the total */
	uint64_t examples, tokens, bytes, asked, right;
	double nats;
};
struct ol_eval {
	struct ol_eval_sums total;
	struct ol_eval_sums *contributors; /* (contributor_count), in the data's order */
	size_t contributor_count, truncated;
	double seconds;
	char *names; /* owns the contributors' names */
};
static inline double ol_eval_loss(const struct ol_eval_sums *s)
{
	return s->tokens > 0 ? s->nats / (double)s->tokens : 0;
}
static inline double ol_eval_nats_per_byte(const struct ol_eval_sums *s)
{
	return s->bytes > 0 ? s->nats / (double)s->bytes : 0;
}

OL_MUST_CHECK enum ol_status ol_evaluate(struct ol_eval *eval,
					 const struct ol_eval_request *request,
					 struct ol_error *err);
void ol_eval_release(struct ol_eval *eval);

#endif
