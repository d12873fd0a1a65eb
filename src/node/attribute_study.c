/* Retraining an adapter on a part of its examples. */
#include "node/attribute_study_internal.h"

#include "train/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_MIN = 512 };

static enum ol_status mark_held_out(struct ol_study *st, struct ol_error *err)
{
	const struct ol_train_config *config = &st->from.manifest.config;
	struct ol_plan plan = {0};
	st->count = ol_dataset_count(st->from.dataset);
	uint64_t *keys = malloc((st->count + 1) * sizeof *keys);
	st->held_out = calloc(st->count + 1, sizeof *st->held_out);
	enum ol_status s = keys && st->held_out
				   ? OL_OK
				   : ol_fail(err, OL_ERR_FULL, "out of memory for examples");
	for (size_t i = 0; s == OL_OK && i < st->count; i++)
		keys[i] = ol_dataset_at(st->from.dataset, i)->key;
	if (s == OL_OK)
		s = ol_plan_init(&plan, keys, st->count, (double)config->eval_fraction,
				 config->seed, config->order == OL_ORDER_SHUFFLED, err);
	for (size_t i = 0; s == OL_OK && i < plan.held_out_count; i++)
		st->held_out[plan.held_out[i]] = true;
	ol_plan_release(&plan);
	free(keys);
	return s;
}

enum ol_status ol_study_open(struct ol_study *st, const struct ol_home *home, const char *adapter,
			     const char *const *data, int data_count, struct ol_error *err)
{
	enum ol_status s = ol_runtime_environment(&st->machine, err);
	if (s == OL_OK)
		s = ol_provenance_open(&st->from, home, adapter, data, data_count,
				       OL_PROVENANCE_RUN, err);
	if (s == OL_OK && st->from.manifest.config.method == OL_TRAIN_DPO)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "\"%s\" was trained on preferences: those are not attributed yet",
			    adapter);
	if (s == OL_OK)
		s = ol_adapter_open(&st->adapter, st->from.folder,
				    ol_model_config(st->from.base.model), err);
	if (s == OL_OK)
		s = mark_held_out(st, err);
	if (s != OL_OK)
		return s;
	st->rows_max = OL_MAX(ROWS_MIN, ol_model_config(st->from.base.model)->context_max);
	st->rows_max = OL_MIN(st->rows_max, OL_MAX(ROWS_MIN, st->from.manifest.config.max_length));
	const struct ol_tape_options options = {.kernels = st->machine.kernels,
						.threads = st->machine.threads,
						.rows_max = st->rows_max,
						.rank_max =
							ol_adapter_views(st->adapter)->rank_max};
	return ol_tape_open(&st->tape, ol_model_config(st->from.base.model),
			    ol_model_weights(st->from.base.model), &options, err);
}

void ol_study_close(struct ol_study *st)
{
	ol_tape_close(st->tape);
	ol_adapter_close(st->adapter);
	ol_provenance_release(&st->from);
	free(st->held_out);
}

static enum ol_status run_steps(struct ol_study *st, struct ol_trainer *trainer, int steps,
				struct ol_error *err)
{
	enum ol_status s = OL_OK;
	while (s == OL_OK && !ol_trainer_finished(trainer)) {
		struct ol_step_report report;
		s = ol_trainer_step(trainer, &report, err);
		if (s == OL_OK && st->watch->progress &&
		    !st->watch->progress(st->watch->context, st->done, st->total, report.step,
					 steps))
			s = ol_fail(err, OL_ERR_CANCELLED, "stopped after %d of %d retrainings",
				    st->done, st->total);
	}
	return s;
}

enum ol_status ol_study_retrain(struct ol_study *st, struct ol_adapter **adapter, const bool *drop,
				uint64_t order, struct ol_error *err)
{
	const struct ol_provenance *p = &st->from;
	const struct ol_train_options options = {
		.kernels = st->machine.kernels, .threads = st->machine.threads, .start = p->start};
	struct ol_train_config config = p->manifest.config;
	struct ol_trainer *trainer = NULL;
	struct ol_example *at = malloc((st->count + 1) * sizeof *at);
	struct ol_examples examples = {.at = at};
	*adapter = NULL;
	if (!at)
		return ol_fail(err, OL_ERR_FULL, "out of memory for examples");
	config.seed += order;
	for (size_t i = 0; i < st->count; i++)
		if (!drop[i])
			at[examples.count++] = *ol_dataset_at(p->dataset, i);
	memcpy(examples.snapshot, ol_dataset_sha256(p->dataset), sizeof examples.snapshot);
	enum ol_status s = ol_trainer_open_examples(&trainer, p->base.model, &examples, &config,
						    &options, err);
	if (s == OL_OK)
		s = run_steps(st, trainer, config.steps, err);
	if (s == OL_OK)
		s = ol_trainer_adapter(trainer, adapter, err);
	if (s == OL_OK)
		st->done++;
	ol_trainer_close(trainer);
	free(at);
	return s;
}

enum ol_status ol_study_nats(struct ol_study *st, double *nats, const struct ol_adapter *adapter,
			     const struct ol_example *const *examples, size_t count,
			     struct ol_error *err)
{
	return count == 0 ? OL_OK
			  : ol_answer_nats(st->tape, st->rows_max, ol_adapter_views(adapter),
					   examples, count, nats, err);
}
