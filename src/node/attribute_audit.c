/* The adapter trained again without one contributor. */
#include "node/attribute_study_internal.h"

#include "attrib/answer.h"
#include "base/clock.h"
#include "node/attribute.h"
#include "node/attribute_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct auditing {
	struct ol_study study;
	const struct ol_audit_request *q;
	struct ol_audit *out;
	bool *drop;
	struct ol_adapter *without;
	const struct ol_example **examples; /* held out, then taken out */
	size_t held_out, own;
	double *with_nats, *without_nats;
};

static enum ol_status choose(struct auditing *a, struct ol_error *err)
{
	const struct ol_dataset *data = a->study.from.dataset;
	const size_t count = a->study.count;
	a->drop = calloc(count + 1, sizeof *a->drop);
	a->examples = calloc(count + 1, sizeof *a->examples);
	a->with_nats = calloc(2 * (count + 1), sizeof *a->with_nats);
	if (!a->drop || !a->examples || !a->with_nats)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the audit");
	a->without_nats = a->with_nats + count + 1;
	for (size_t i = 0; i < count; i++) {
		const struct ol_example *e = ol_dataset_at(data, i);
		a->drop[i] = !a->study.held_out[i] && strcmp(e->contributor, a->q->without) == 0;
		a->out->removed += a->drop[i];
		a->out->kept += !a->study.held_out[i] && !a->drop[i];
		if (a->study.held_out[i])
			a->examples[a->held_out++] = e;
	}
	for (size_t i = 0; i < count; i++)
		if (a->drop[i])
			a->examples[a->held_out + a->own++] = ol_dataset_at(data, i);
	if (a->out->removed == 0)
		return ol_fail(err, OL_ERR_NOT_FOUND,
			       "\"%s\" gave none of the examples that \"%s\" was trained on; its "
			       "manifest lists who did",
			       a->q->without, a->q->adapter);
	return a->out->kept > 0 ? OL_OK
				: ol_fail(err, OL_ERR_INPUT,
					  "\"%s\" gave all the examples: there is nothing to train "
					  "on without them",
					  a->q->without);
}

static void add_to_row(struct ol_audit_row *row, const struct auditing *a, size_t i)
{
	row->examples++;
	row->tokens += (uint64_t)a->examples[i]->answer_tokens;
	row->with += a->with_nats[i];
	row->without += a->without_nats[i];
}

static void divide(struct ol_audit_row *row)
{
	if (row->tokens > 0) {
		row->with /= (double)row->tokens;
		row->without /= (double)row->tokens;
	}
}

static enum ol_status sum_up(struct auditing *a, struct ol_error *err)
{
	struct ol_audit *out = a->out;
	out->contributors = calloc(a->held_out + 1, sizeof *out->contributors);
	if (!out->contributors)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the audit");
	for (size_t i = 0; i < a->held_out; i++) {
		size_t c = 0;
		while (c < out->contributor_count &&
		       strcmp(out->contributors[c].name, a->examples[i]->contributor) != 0)
			c++;
		struct ol_audit_row *row = &out->contributors[c];
		if (c == out->contributor_count) {
			out->contributor_count++;
			(void)snprintf(row->name, sizeof row->name, "%s",
				       a->examples[i]->contributor);
		}
		add_to_row(row, a, i);
		add_to_row(&out->held_out, a, i);
	}
	for (size_t i = 0; i < a->own; i++)
		add_to_row(&out->own, a, a->held_out + i);
	for (size_t c = 0; c < out->contributor_count; c++)
		divide(&out->contributors[c]);
	divide(&out->held_out);
	divide(&out->own);
	return OL_OK;
}

/* ---- One answer ----------------------------------------------------------------------------- */

static enum ol_status nats_of(struct auditing *a, double *nats, const struct ol_adapter *adapter,
			      const struct ol_example *example, struct ol_error *err)
{
	return ol_study_nats(&a->study, nats, adapter, &example, 1, err);
}

static enum ol_status score(struct auditing *a, const struct ol_tokens *prompt,
			    const struct ol_tokens *response, struct ol_error *err)
{
	struct ol_index *index;
	struct ol_attributor *attributor = NULL;
	struct ol_attribution result = {0};
	uint8_t payee[OL_PAYEE_BYTES];
	if (ol_adapter_open_index(&index, a->study.from.folder, NULL) != OL_OK)
		return OL_OK; /* an audit needs none */
	const struct ol_attributor_options options = {
		.kernels = a->study.machine.kernels,
		.threads = a->study.machine.threads,
		.rows_max = (int)(prompt->count + response->count),
		.rank_max = ol_adapter_views(a->study.adapter)->rank_max};
	const struct ol_attribution_query query = {.index = index,
						   .adapter = a->study.adapter,
						   .prompt = prompt->ids,
						   .prompt_count = (int)prompt->count,
						   .response = response->ids,
						   .response_count = (int)response->count};
	enum ol_status s = ol_attributor_open(&attributor, a->study.from.base.model, &options, err);
	if (s == OL_OK)
		s = ol_attribute(attributor, &result, &query, 1, err);
	ol_payee_id(payee, a->q->without);
	for (uint32_t i = 0; s == OL_OK && i < result.count; i++)
		if (memcmp(result.shares[i].payee, payee, sizeof payee) == 0) {
			a->out->scored = true;
			a->out->predicted =
				(double)(result.shares[i].score - result.bonus[i]) / OL_SHARE_WHOLE;
		}
	ol_attribution_release(&result);
	ol_attributor_close(attributor);
	ol_index_close(index);
	return s;
}

static enum ol_status ask(struct auditing *a, struct ol_error *err)
{
	const struct ol_runtime *r = &a->study.from.base;
	struct ol_tokens prompt = {0}, response = {0}, all = {0}, targets = {0};
	bool room = true;
	enum ol_status s = ol_runtime_encode_exchange(r, &prompt, &response, a->q->prompt,
						      a->q->response, false, err);
	if (s == OL_OK && (response.count == 0 || prompt.count == 0))
		s = ol_fail(err, OL_ERR_INPUT, "the prompt or the response is empty");
	const size_t rows = s == OL_OK ? prompt.count + response.count - 1 : 0;
	if (s == OL_OK && rows > (size_t)a->study.rows_max)
		s = ol_fail(err, OL_ERR_INPUT, "prompt and response are longer than %d tokens",
			    a->study.rows_max);
	for (size_t i = 0; s == OL_OK && room && i < rows; i++)
		room = ol_tokens_push(&all, i < prompt.count ? prompt.ids[i]
							     : response.ids[i - prompt.count]) &&
		       ol_tokens_push(&targets, i + 1 < prompt.count
							? -1
							: response.ids[i + 1 - prompt.count]);
	if (s == OL_OK && !room)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the answer");
	const struct ol_example example = {.id = "answer",
					   .sequence = {all.ids, targets.ids, (int32_t)rows, 0},
					   .answer_tokens = (int32_t)response.count};
	a->out->asked = true;
	if (s == OL_OK)
		s = nats_of(a, &a->out->answer_with, a->study.adapter, &example, err);
	if (s == OL_OK)
		s = nats_of(a, &a->out->answer_without, a->without, &example, err);
	if (s == OL_OK)
		s = score(a, &prompt, &response, err);
	ol_tokens_release(&prompt);
	ol_tokens_release(&response);
	ol_tokens_release(&all);
	ol_tokens_release(&targets);
	return s;
}

/* ---- All of it ------------------------------------------------------------------------------ */

static enum ol_status audit(struct auditing *a, struct ol_error *err)
{
	struct ol_study *st = &a->study;
	const size_t count = a->held_out + a->own;
	enum ol_status s = ol_study_retrain(st, &a->without, a->drop, 0, err);
	if (s == OL_OK)
		s = ol_study_nats(st, a->with_nats, st->adapter, a->examples, count, err);
	if (s == OL_OK)
		s = ol_study_nats(st, a->without_nats, a->without, a->examples, count, err);
	if (s == OL_OK)
		s = sum_up(a, err);
	if (s == OL_OK && a->q->prompt)
		s = ask(a, err);
	if (s == OL_OK)
		memcpy(a->out->sha256, ol_adapter_sha256(a->without), OL_SHA256_BYTES);
	return s;
}

enum ol_status ol_audit_run(struct ol_audit *out, const struct ol_home *home,
			    const struct ol_audit_request *request, struct ol_error *err)
{
	struct auditing *a = calloc(1, sizeof *a);
	const double start = ol_clock_seconds();
	*out = (struct ol_audit){0};
	if (!a)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the audit");
	a->q = request;
	a->out = out;
	a->study.watch = &request->watch;
	a->study.total = 1;
	ol_manifest_init(&a->study.from.manifest);
	enum ol_status s = ol_study_open(&a->study, home, request->adapter, request->data,
					 request->data_count, err);
	if (s == OL_OK)
		s = choose(a, err);
	if (s == OL_OK)
		s = audit(a, err);
	out->seconds = ol_clock_seconds() - start;
	free(a->drop);
	free((void *)a->examples);
	free(a->with_nats);
	ol_adapter_close(a->without);
	ol_study_close(&a->study);
	free(a);
	return s;
}

void ol_audit_release(struct ol_audit *out)
{
	free(out->contributors);
	*out = (struct ol_audit){0};
}
