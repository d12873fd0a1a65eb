#include "attrib/answer.h"

#include "attrib/answer_internal.h"
#include "attrib/project.h"
#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_DEFAULT = 4096, MEMORY_DEFAULT = 1 << 30, SCAN_PIECE = 16 };

struct ol_attributor {
	const struct ol_model *model;
	const struct ol_config *config;
	const struct ol_kernels *kernels;
	const struct ol_row_kernels *row_kernels;
	struct ol_tape *tape;
	int rows_max;
	float *ones, *losses;      /* (rows_max) */
	int32_t *tokens, *targets; /* (rows_max) */
	/* What the last answers ran under. */
	struct ol_projector *projector;
	const struct ol_index *index;
	const struct ol_adapter *adapter;
};

/* ---- Life ----------------------------------------------------------------------------------- */

enum ol_status ol_attributor_open(struct ol_attributor **attributor_out,
				  const struct ol_model *model,
				  const struct ol_attributor_options *options, struct ol_error *err)
{
	struct ol_attributor *a = calloc(1, sizeof *a);
	*attributor_out = NULL;
	if (!a)
		return ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
	a->model = model;
	a->config = ol_model_config(model);
	a->kernels = options->kernels ? options->kernels : ol_kernels_best();
	a->row_kernels = ol_row_kernels_for(a->kernels->isa);
	a->rows_max = options->rows_max > 0 ? options->rows_max
					    : OL_MIN(a->config->context_max, ROWS_DEFAULT);
	struct ol_tape_options tape = {.kernels = a->kernels,
				       .threads = options->threads,
				       .rows_max = a->rows_max,
				       .rank_max = options->rank_max,
				       .recompute = options->recompute};
	const size_t most = options->memory_max ? options->memory_max : (size_t)MEMORY_DEFAULT;
	tape.recompute = tape.recompute || ol_tape_bytes(a->config, &tape) > most;
	const size_t rows = (size_t)a->rows_max;
	a->ones = malloc(rows * sizeof *a->ones);
	a->losses = malloc(rows * sizeof *a->losses);
	a->tokens = malloc(rows * sizeof *a->tokens);
	a->targets = malloc(rows * sizeof *a->targets);
	enum ol_status s =
		a->ones && a->losses && a->tokens && a->targets
			? ol_tape_open(&a->tape, a->config, ol_model_weights(model), &tape, err)
			: ol_fail(err, OL_ERR_FULL, "out of memory for attribution");
	for (int i = 0; s == OL_OK && i < a->rows_max; i++)
		a->ones[i] = 1.0f;
	if (s == OL_OK)
		*attributor_out = a;
	else
		ol_attributor_close(a);
	return s;
}

void ol_attributor_close(struct ol_attributor *a)
{
	if (!a)
		return;
	ol_projector_close(a->projector);
	ol_tape_close(a->tape);
	free(a->ones);
	free(a->losses);
	free(a->tokens);
	free(a->targets);
	free(a);
}

void ol_attributor_forget(struct ol_attributor *a)
{
	ol_projector_close(a->projector);
	a->projector = NULL;
	a->index = NULL;
	a->adapter = NULL;
}

int ol_attributor_rows_max(const struct ol_attributor *a)
{
	return a->rows_max;
}

void ol_attribution_release(struct ol_attribution *out)
{
	free(out->shares);
	free(out->told);
	free(out->bonus);
	free(out->top);
	free(out->spans);
	*out = (struct ol_attribution){0};
}

/* ---- Checking ------------------------------------------------------------------------------- */

static int rows_of(const struct ol_attribution_query *q)
{
	return q->prompt_count + q->response_count - 1;
}

static enum ol_status check_query(const struct ol_attributor *a,
				  const struct ol_attribution_query *q, struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(q->index);
	if (memcmp(c->base_id, ol_model_id(a->model), OL_MODEL_ID_BYTES) != 0)
		return ol_fail(err, OL_ERR_INPUT, "the attribution index is over another base");
	if (memcmp(c->adapter_sha256, ol_adapter_sha256(q->adapter), OL_SHA256_BYTES) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the attribution index is of another adapter: "
			       "build it again with `openledger index`");
	if (strcmp(c->arithmetic, OL_ARITHMETIC_VERSION) != 0)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "the attribution index was made under arithmetic %s; this program "
			       "has %s",
			       c->arithmetic, OL_ARITHMETIC_VERSION);
	if (c->spans.vocab != (uint32_t)a->config->vocab_size)
		return ol_fail(err, OL_ERR_INPUT, "the attribution index has another vocabulary");
	if (q->prompt_count < 1 || q->response_count < 1)
		return ol_fail(err, OL_ERR_INPUT,
			       "there is nothing to attribute: prompt or "
			       "response is empty");
	if (q->prompt_count > a->rows_max || q->response_count > a->rows_max ||
	    rows_of(q) > a->rows_max)
		return ol_fail(err, OL_ERR_INPUT,
			       "prompt and response of %lld tokens are longer than the %d that can "
			       "be attributed",
			       (long long)q->prompt_count + q->response_count, a->rows_max);
	for (int i = 0; i < q->response_count; i++)
		if (q->response[i] < 0 || q->response[i] >= a->config->vocab_size)
			return ol_fail(err, OL_ERR_INPUT,
				       "token %d of the response is outside the "
				       "vocabulary",
				       i);
	return OL_OK;
}

static enum ol_status use(struct ol_attributor *a, const struct ol_attribution_query *q,
			  struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(q->index);
	const struct ol_projector_options options = {.kernels = a->kernels,
						     .threads = ol_tape_threads(a->tape),
						     .rows_max = a->rows_max};
	if (a->projector && a->index == q->index && a->adapter == q->adapter)
		return OL_OK;
	ol_projector_close(a->projector);
	a->projector = NULL;
	a->index = q->index;
	a->adapter = q->adapter;
	return ol_projector_open(&a->projector, a->config, ol_adapter_views(q->adapter), c->parts,
				 &c->layout, &options, err);
}

/* ---- The pass ------------------------------------------------------------------------------- */

/* Tokens and targets of an answer, and its blocks: equal ranges, in order, of the rows that predict
 * the response; the prompt's others go with the first. */
static void lay_out(struct ol_attributor *a, const struct ol_attribution_query *q, int row0,
		    struct ol_sequence *sequence, struct ol_cut *cuts)
{
	const int rows = rows_of(q), prompt = q->prompt_count;
	int32_t *tokens = a->tokens + row0, *targets = a->targets + row0;
	memcpy(tokens, q->prompt, (size_t)prompt * sizeof *tokens);
	memcpy(tokens + prompt, q->response, (size_t)(rows - prompt) * sizeof *tokens);
	for (int i = 0; i < rows; i++)
		targets[i] = i + 1 < prompt ? -1 : q->response[i + 1 - prompt];
	*sequence = (struct ol_sequence){tokens, targets, rows, 0};
	for (int b = 0; b < OL_SCORE_BLOCKS; b++) {
		const int64_t from = (int64_t)q->response_count * b / OL_SCORE_BLOCKS;
		const int64_t to = (int64_t)q->response_count * (b + 1) / OL_SCORE_BLOCKS;
		cuts[b] = (struct ol_cut){b ? row0 + prompt - 1 + (int)from : row0,
					  row0 + prompt - 1 + (int)to};
	}
}

static double sum_losses(const float *losses, int rows)
{
	double sum = 0.0;
	for (int i = 0; i < rows; i++)
		sum += (double)losses[i];
	return sum;
}

/* Forward and back over answers of one adapter: rows (count, OL_SCORE_BLOCKS) of the projector. */
static enum ol_status pass(struct ol_attributor *a, struct ol_attribution *out,
			   const struct ol_attribution_query *queries, int count, float *rows,
			   struct ol_error *err)
{
	struct ol_sequence sequences[OL_ATTRIBUTION_BATCH_MAX];
	struct ol_cut cuts[OL_ATTRIBUTION_BATCH_MAX * OL_SCORE_BLOCKS];
	const struct ol_micro_batch micro = {sequences, count, ol_adapter_views(a->adapter), NULL};
	bool gain = false;
	for (int i = 0, row0 = 0; i < count; row0 += rows_of(&queries[i++])) {
		lay_out(a, &queries[i], row0, &sequences[i], cuts + i * OL_SCORE_BLOCKS);
		gain = gain || queries[i].gain;
	}
	const struct ol_tape_backward backward = {.row_weights = a->ones,
						  .losses = a->losses,
						  .observe = ol_projector_observe,
						  .context = a->projector,
						  .observed = ol_projector_observed(a->projector)};
	ol_projector_begin(a->projector, rows, cuts, count * OL_SCORE_BLOCKS);
	enum ol_status s = ol_tape_forward(a->tape, &micro, err);
	if (s == OL_OK)
		s = ol_tape_backward(a->tape, &backward, err);
	for (int i = 0; s == OL_OK && i < count; i++) {
		out[i].nats =
			sum_losses(a->losses + cuts[i * OL_SCORE_BLOCKS].row0, sequences[i].count);
		out[i].base_nats = (double)NAN;
	}
	if (s != OL_OK || !gain)
		return s;
	const struct ol_micro_batch base = {sequences, count, NULL, NULL};
	s = ol_tape_forward(a->tape, &base, err);
	if (s == OL_OK)
		ol_tape_losses(a->tape, a->losses);
	for (int i = 0; s == OL_OK && i < count; i++)
		if (queries[i].gain)
			out[i].base_nats = sum_losses(a->losses + cuts[i * OL_SCORE_BLOCKS].row0,
						      sequences[i].count);
	return s;
}

/* ---- Scores --------------------------------------------------------------------------------- */

struct scan {
	const struct ol_attributor *a;
	const struct ol_index_content *c;
	const uint8_t *rows; /* OL_SCORE_BLOCKS of the answer */
	double (*products)[OL_SCORE_BLOCKS];
	uint32_t count;
};

static void scan_piece(void *context, int index, int thread)
{
	const struct scan *s = context;
	const size_t stride = ol_row_bytes(&s->c->layout);
	const uint32_t begin = (uint32_t)index * SCAN_PIECE;
	(void)thread;
	for (uint32_t i = begin; i < OL_MIN(begin + SCAN_PIECE, s->count); i++)
		ol_row_dot_blocks(s->a->row_kernels, &s->c->layout, s->products[i], s->rows,
				  s->c->payee_rows + (size_t)i * stride);
}

_Static_assert((int)OL_SCORE_BLOCKS == (int)OL_ROW_BLOCKS, "a block of an answer is a row");

/* blocks (payees, OL_SCORE_BLOCKS) in score units. */
static enum ol_status score_payees(const struct ol_attributor *a,
				   int64_t (*blocks)[OL_SCORE_BLOCKS],
				   const struct ol_index_content *c, const uint8_t *rows,
				   struct ol_error *err)
{
	struct scan s = {a, c, rows, malloc(c->payee_count * sizeof *s.products), c->payee_count};
	enum ol_status status = OL_OK;
	if (!s.products)
		return ol_fail(err, OL_ERR_FULL, "out of memory for scores");
	ol_pool_for(ol_tape_threads(a->tape), (int)((s.count + SCAN_PIECE - 1) / SCAN_PIECE),
		    scan_piece, &s);
	for (uint32_t i = 0; status == OL_OK && i < s.count; i++)
		for (int b = 0; status == OL_OK && b < OL_SCORE_BLOCKS; b++)
			status = ol_score_fix(&blocks[i][b],
					      s.products[i][b] / (double)c->answer_tokens, err);
	free(s.products);
	return status;
}

/* Breaks ties: a function of the index and the answer, known to both sides beforehand. */
static void make_salt(uint8_t salt[OL_SHA256_BYTES], const struct ol_attribution_query *q)
{
	struct ol_sha256 hash;
	uint8_t bytes[4];
	OL_ASSERT(ol_sha256_init(&hash));
	ol_sha256_update(&hash, ol_index_root(q->index), OL_SHA256_BYTES);
	for (int i = 0; i < q->prompt_count + q->response_count; i++) {
		ol_store_u32(bytes,
			     (uint32_t)(i < q->prompt_count ? q->prompt[i]
							    : q->response[i - q->prompt_count]));
		ol_sha256_update(&hash, bytes, sizeof bytes);
	}
	ol_sha256_final(&hash, salt);
}

/* Spans' tokens, each counted once, and the payees' weights. */
static void weigh_spans(struct ol_attribution *out, const struct ol_index_content *c,
			uint64_t *evidence)
{
	int end = 0;
	for (int i = 0; i < out->span_count; i++) {
		const struct ol_span *span = &out->spans[i];
		uint32_t clusters[OL_SPAN_SOURCES];
		int distinct = 0;
		out->span_tokens +=
			(uint32_t)(span->begin + span->count - OL_MAX(end, span->begin));
		end = span->begin + span->count;
		for (int k = 0; k < span->source_count; k++) {
			const uint32_t cluster = c->examples[span->sources[k].example].cluster;
			int j = 0;
			while (j < distinct && clusters[j] != cluster)
				j++;
			if (j == distinct)
				clusters[distinct++] = cluster;
		}
		for (int k = 0; k < distinct; k++)
			evidence[c->examples[clusters[k]].payee] +=
				span->surprise / (uint64_t)distinct;
	}
}

static enum ol_status add_spans(struct ol_attribution *out, const struct ol_attribution_query *q,
				struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(q->index);
	uint64_t *evidence = calloc(c->payee_count, sizeof *evidence);
	int64_t *scores = calloc(c->payee_count, sizeof *scores);
	struct ol_span *room = malloc(OL_SPANS_MAX * sizeof *room);
	enum ol_status s = OL_OK;
	if (!evidence || !scores || !room)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for spans");
	if (s == OL_OK)
		s = ol_span_corpus_find(room, &out->span_count, &c->spans, q->response,
					q->response_count, err);
	if (s == OL_OK) {
		out->spans = room;
		room = NULL;
		weigh_spans(out, c, evidence);
	}
	if (s == OL_OK && out->clear) {
		const uint64_t part = (uint64_t)c->settings.span_part * out->span_tokens /
				      (uint64_t)q->response_count;
		for (uint32_t i = 0; i < c->payee_count; i++)
			scores[i] = out->shares[i].score;
		s = ol_shares_evidence(out->bonus, scores, evidence, c->payee_count, (uint32_t)part,
				       err);
	}
	for (uint32_t i = 0; s == OL_OK && i < c->payee_count; i++) {
		out->shares[i].score += out->bonus[i];
		out->told[i] = out->told[i] || out->bonus[i] > 0;
	}
	free(evidence);
	free(scores);
	free(room);
	return s;
}

static enum ol_status share_out(const struct ol_attributor *a, struct ol_attribution *out,
				const struct ol_attribution_query *q, const uint8_t *rows,
				struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(q->index);
	const uint32_t count = out->count = c->payee_count;
	int64_t(*blocks)[OL_SCORE_BLOCKS] = calloc(count, sizeof *blocks);
	uint8_t salt[OL_SHA256_BYTES];
	out->shares = calloc(count, sizeof *out->shares);
	out->told = calloc(count, sizeof *out->told);
	out->bonus = calloc(count, sizeof *out->bonus);
	enum ol_status s = blocks && out->shares && out->told && out->bonus
				   ? score_payees(a, blocks, c, rows, err)
				   : ol_fail(err, OL_ERR_FULL, "out of memory for scores");
	for (uint32_t i = 0; s == OL_OK && i < count; i++) {
		memcpy(out->shares[i].payee, c->payees[i].id, OL_PAYEE_BYTES);
		for (int b = 0; b < OL_SCORE_BLOCKS; b++)
			out->shares[i].score += blocks[i][b];
	}
	if (s == OL_OK) {
		out->clear = ol_scores_judge(out->told, (const int64_t(*)[OL_SCORE_BLOCKS])blocks,
					     count);
		s = add_spans(out, q, err);
	}
	make_salt(salt, q);
	if (s == OL_OK)
		s = ol_shares_of_answer(out->shares, out->told, count, out->clear, salt, err);
	if (s == OL_OK)
		s = ol_shares_root(out->root, out->shares, count, err);
	free(blocks);
	return s;
}

/* Everything of one answer after its pass. */
static enum ol_status finish(const struct ol_attributor *a, struct ol_attribution *out,
			     const struct ol_attribution_query *q, const float *x,
			     struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(q->index);
	const size_t stride = ol_row_bytes(&c->layout), values = (size_t)c->layout.values;
	uint8_t *rows = aligned_alloc(OL_ROW_ALIGN, OL_SCORE_BLOCKS * stride);
	bool finite = true;
	enum ol_status s = OL_OK;
	if (!rows)
		return ol_fail(err, OL_ERR_FULL, "out of memory for scores");
	for (size_t b = 0; b < OL_SCORE_BLOCKS; b++)
		finite = ol_row_quantize(&c->layout, rows + b * stride, x + b * values) && finite;
	if (!finite)
		s = ol_fail(err, OL_ERR_INPUT,
			    "the answer's gradient is not finite: nobody is paid "
			    "for it");
	out->index = q->index;
	out->low_confidence = c->low_confidence;
	if (s == OL_OK)
		s = share_out(a, out, q, rows, err);
	if (s == OL_OK)
		s = ol_attribution_find_top(out, q, a->row_kernels, rows, err);
	free(rows);
	return s;
}

static enum ol_status attribute_group(struct ol_attributor *a, struct ol_attribution *out,
				      const struct ol_attribution_query *queries, int count,
				      struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(queries[0].index);
	const size_t values = (size_t)c->layout.values * OL_SCORE_BLOCKS;
	enum ol_status s = use(a, &queries[0], err);
	float *rows = malloc((size_t)count * values * sizeof *rows);
	if (s == OL_OK && !rows)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for %d answers' rows", count);
	if (s == OL_OK)
		s = pass(a, out, queries, count, rows, err);
	for (int i = 0; s == OL_OK && i < count; i++)
		s = finish(a, &out[i], &queries[i], rows + (size_t)i * values, err);
	free(rows);
	return s;
}

enum ol_status ol_attribute(struct ol_attributor *a, struct ol_attribution *out,
			    const struct ol_attribution_query *queries, int count,
			    struct ol_error *err)
{
	enum ol_status s = OL_OK;
	OL_ASSERT(count >= 0 && count <= OL_ATTRIBUTION_BATCH_MAX);
	for (int i = 0; i < count; i++)
		out[i] = (struct ol_attribution){0};
	for (int i = 0; s == OL_OK && i < count; i++)
		s = check_query(a, &queries[i], err);
	for (int i = 0; s == OL_OK && i < count;) {
		int n = 1, rows = rows_of(&queries[i]);
		while (i + n < count && queries[i + n].index == queries[i].index &&
		       queries[i + n].adapter == queries[i].adapter &&
		       rows + rows_of(&queries[i + n]) <= a->rows_max)
			rows += rows_of(&queries[i + n++]);
		s = attribute_group(a, out + i, queries + i, n, err);
		i += n;
	}
	for (int i = 0; s != OL_OK && i < count; i++)
		ol_attribution_release(&out[i]);
	return s;
}
