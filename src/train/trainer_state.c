/* What becomes of a run: evaluations, checkpoints, adapters and models. */
#include "train/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "math/functions.h"

enum { CHECKPOINTS_KEPT = 2 };

/* ---- Evaluation ---------------------------------------------------------------------------- */

static size_t value_count(const struct ol_trainer *t)
{
	size_t sum = 0;
	for (int i = 0; i < t->params.count; i++)
		sum += t->params.list[i].count;
	return sum;
}

static double perplexity(double loss)
{
	return ol_exp(loss);
}

/* Nats of answers (and rejected answers, if pairs) of the examples as they would be published. */
static enum ol_status published_nats(struct ol_trainer *t, const uint32_t *examples, size_t count,
				     bool pairs, double *nats, struct ol_error *err)
{
	const size_t per_unit = pairs ? 2 : 1;
	struct ol_adapter *adapter = NULL;
	const struct ol_sequence **sequences = calloc(per_unit * count + 1, sizeof *sequences);
	enum ol_status s = OL_OK;
	if (!sequences)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for an evaluation");
	if (s == OL_OK && ol_trainer_adapts(t))
		s = ol_trainer_make_adapter(t, NULL, &adapter, err);
	for (size_t i = 0; s == OL_OK && i < count; i++) {
		sequences[per_unit * i] = &t->examples[examples[i]].sequence;
		if (pairs)
			sequences[per_unit * i + 1] = &t->examples[examples[i]].rejected;
	}
	if (s == OL_OK)
		s = ol_sequence_nats(t->tape, t->shape.rows_max,
				     adapter ? ol_adapter_views(adapter) : NULL, sequences,
				     per_unit * count, nats, err);
	ol_adapter_close(adapter);
	free(sequences);
	return s;
}

/* loss: nats per answer token, or preference loss per pair. */
static void sum_up(const struct ol_trainer *t, const double *nats, bool pairs,
		   struct ol_evaluation *e)
{
	const double beta = (double)t->config.dpo_beta;
	double sum = 0, preference = 0;
	uint64_t bytes = 0;
	for (size_t i = 0; i < t->plan.held_out_count; i++) {
		const uint32_t index = t->plan.held_out[i];
		const double *n = nats + (pairs ? 2 * i : i);
		sum += n[0];
		bytes += t->examples[index].answer_bytes;
		e->tokens += (uint64_t)t->examples[index].answer_tokens;
		if (pairs) {
			const double *before = &t->reference[2 * index];
			const double z = beta * ((before[0] - n[0]) - (before[1] - n[1]));
			double slope;
			preference += ol_preference_loss(z, &slope);
			e->dpo_margin += z;
			e->dpo_accuracy += z > 0;
		}
	}
	const double count = (double)t->plan.held_out_count;
	e->examples = t->plan.held_out_count;
	e->loss = sum / (double)e->tokens;
	e->perplexity = perplexity(e->loss);
	e->nats_per_byte = bytes > 0 ? sum / (double)bytes : 0;
	if (pairs) {
		e->loss = preference / count;
		e->dpo_margin /= count;
		e->dpo_accuracy /= count;
	}
}

enum ol_status ol_trainer_evaluate(struct ol_trainer *t, struct ol_evaluation *evaluation,
				   struct ol_error *err)
{
	const size_t count = t->plan.held_out_count;
	const bool pairs = t->config.method == OL_TRAIN_DPO;
	*evaluation = (struct ol_evaluation){0};
	if (count == 0)
		return ol_fail(err, OL_ERR_NOT_FOUND,
			       "no example is held out: give --eval-fraction");
	double *nats = calloc(2 * count, sizeof *nats);
	if (!nats)
		return ol_fail(err, OL_ERR_FULL, "out of memory for an evaluation");
	enum ol_status s = pairs ? ol_trainer_reference(t, t->plan.held_out, count, err) : OL_OK;
	if (s == OL_OK)
		s = published_nats(t, t->plan.held_out, count, pairs, nats, err);
	if (s == OL_OK)
		sum_up(t, nats, pairs, evaluation);
	if (s == OL_OK && !isfinite(evaluation->loss))
		s = ol_fail(err, OL_ERR_INPUT,
			    "the run diverges: after step %d the loss of the held-out examples is "
			    "not finite; lower the learning rate",
			    t->step);
	free(nats);
	return s;
}

enum ol_status ol_trainer_nats(struct ol_trainer *t, double *nats, struct ol_error *err)
{
	uint32_t *all = calloc(t->count + 1, sizeof *all);
	if (!all)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu examples", t->count);
	for (uint32_t i = 0; i < t->count; i++)
		all[i] = i;
	const enum ol_status s = published_nats(t, all, t->count, false, nats, err);
	free(all);
	return s;
}

/* The masters as they are now become the best: rounded as they would be published. */
static enum ol_status keep_best(struct ol_trainer *t, double loss, struct ol_error *err)
{
	const size_t width = ol_trainer_adapts(t) ? sizeof(uint16_t) : sizeof(float);
	if (!t->best.values) {
		t->best.bytes = value_count(t) * width;
		t->best.values = malloc(t->best.bytes);
		if (!t->best.values)
			return ol_fail(err, OL_ERR_FULL, "out of memory for the best state");
	}
	t->best.step = t->step;
	t->best.loss = loss;
	t->best.stale = 0;
	size_t at = 0;
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		const float *w = t->params.w + p->offset;
		if (ol_trainer_adapts(t))
			for (size_t k = 0; k < p->count; k++)
				((uint16_t *)t->best.values)[at + k] = ol_f32_to_bf16(w[k]);
		else
			memcpy((float *)t->best.values + at, w, p->count * sizeof *w);
		at += p->count;
	}
	return OL_OK;
}

enum ol_status ol_trainer_evaluate_if_due(struct ol_trainer *t, struct ol_step_report *report,
					  struct ol_error *err)
{
	const struct ol_train_config *c = &t->config;
	const bool due = t->step == c->steps || (c->eval_every > 0 && t->step % c->eval_every == 0);
	if (!due || t->plan.held_out_count == 0)
		return OL_OK;
	struct ol_evaluation *e = &report->evaluation;
	enum ol_status s = ol_trainer_evaluate(t, e, err);
	if (s != OL_OK)
		return s;
	report->evaluated = true;
	t->best.evaluations++;
	t->best.stale++;
	e->best = t->best.step == 0 || e->loss < t->best.loss;
	if (e->best)
		s = keep_best(t, e->loss, err);
	t->stopped = c->patience > 0 && t->best.stale >= c->patience;
	return s;
}

/* ---- Checkpoints --------------------------------------------------------------------------- */

enum ol_status ol_trainer_save(struct ol_trainer *t, struct ol_error *err)
{
	char path[PATH_MAX];
	OL_ASSERT(t->folder && !t->broken);
	struct ol_checkpoint_source source = {
		.header = {.step = (uint32_t)t->step,
			   .example_count = t->count,
			   .beta1_power = t->optimizer.beta1_power,
			   .beta2_power = t->optimizer.beta2_power,
			   .best_loss = t->best.loss,
			   .best_type = t->best.step == 0      ? OL_BEST_NONE
					: ol_trainer_adapts(t) ? OL_BEST_BF16
							       : OL_BEST_F32,
			   .best_step = (uint32_t)t->best.step,
			   .evaluations = (uint32_t)t->best.evaluations,
			   .stale = (uint32_t)t->best.stale},
		.config = &t->config,
		.params = &t->params,
		.example_losses = t->example_losses,
		.best = t->best.values,
	};
	memcpy(source.header.base, ol_model_id(t->base), OL_MODEL_ID_BYTES);
	memcpy(source.header.snapshot, t->snapshot, OL_SHA256_BYTES);
	memcpy(source.header.tokens, t->tokens, OL_SHA256_BYTES);
	enum ol_status s = ol_make_directories(t->folder, err);
	if (s == OL_OK)
		s = ol_checkpoint_path(path, t->folder, t->step, err);
	if (s == OL_OK)
		s = ol_checkpoint_write(path, &source, err);
	if (s == OL_OK)
		ol_checkpoint_prune(t->folder, CHECKPOINTS_KEPT, t->step, t->best.step);
	return s;
}

/* The first line in which two config texts differ, of which one line at most is long. */
static void describe_difference(char *text, size_t room, const struct ol_train_config *then,
				const struct ol_train_config *now)
{
	struct ol_buf a, b;
	ol_buf_init(&a, OL_TRAIN_CONFIG_MAX);
	ol_buf_init(&b, OL_TRAIN_CONFIG_MAX);
	text[0] = '\0';
	if (ol_train_config_write(&a, then) && ol_train_config_write(&b, now)) {
		const char *x = a.data, *y = b.data;
		for (;;) {
			const size_t n = strcspn(x, "\n"), m = strcspn(y, "\n");
			if (n != m || memcmp(x, y, n) != 0) {
				snprintf(text, room, "\"%.*s\" there, \"%.*s\" here", (int)n, x,
					 (int)m, y);
				break;
			}
			if (!x[n] || !y[m])
				break;
			x += n + 1;
			y += m + 1;
		}
	}
	ol_buf_release(&a);
	ol_buf_release(&b);
}

static enum ol_status check_same_run(const struct ol_trainer *t, const struct ol_checkpoint *c,
				     const char *path, struct ol_error *err)
{
	const struct ol_checkpoint_header *h = c->header;
	char difference[512];
	if (memcmp(h->base, ol_model_id(t->base), sizeof h->base) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is of a run over another base; resume with that base, or train "
			       "into another folder",
			       path);
	if (memcmp(h->snapshot, t->snapshot, sizeof h->snapshot) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is of a run over other data; resume with those, or train into "
			       "another folder",
			       path);
	describe_difference(difference, sizeof difference, &c->config, &t->config);
	if (difference[0])
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is of a run with other settings: %s; resume with the same, or "
			       "train into another folder",
			       path, difference);
	if (memcmp(h->tokens, t->tokens, sizeof h->tokens) != 0)
		return ol_fail(
			err, OL_ERR_INPUT,
			"%s is of a run whose examples were made of the same data in another "
			"way (length, loss on the prompt); resume with the same options",
			path);
	return OL_OK;
}

static bool same_tensors(const struct ol_trainer *t, const struct ol_checkpoint *c)
{
	const uint32_t best_type = ol_trainer_adapts(t) ? OL_BEST_BF16 : OL_BEST_F32;
	bool same = c->header->tensor_count == (uint32_t)t->params.count &&
		    c->header->example_count == t->count &&
		    (c->header->best_step == 0 || c->header->best_type == best_type);
	for (int i = 0; same && i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		const struct ol_checkpoint_tensor *from = &c->tensors[i];
		same = strcmp(p->name, from->name) == 0 && p->rows == from->rows &&
		       p->cols == from->cols && p->trained == (from->trained == 1);
	}
	return same;
}

static enum ol_status load(struct ol_trainer *t, const struct ol_checkpoint *c, const char *path,
			   struct ol_error *err)
{
	const struct ol_checkpoint_header *h = c->header;
	if (!same_tensors(t, c) || h->step > (uint32_t)t->config.steps)
		return ol_fail(err, OL_ERR_INPUT, "%s does not hold the tensors of this run", path);
	const float *from = c->state;
	for (int i = 0; i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		const size_t bytes = p->count * sizeof *from;
		memcpy(t->params.w + p->offset, from, bytes);
		from += p->count;
		if (!p->trained)
			continue;
		memcpy(t->params.m + p->offset, from, bytes);
		memcpy(t->params.v + p->offset, from + p->count, bytes);
		from += 2 * p->count;
	}
	memcpy(t->example_losses, c->example_losses, t->count * sizeof *t->example_losses);
	t->step = (int)h->step;
	t->optimizer = (struct ol_optimizer){h->beta1_power, h->beta2_power};
	t->best.step = (int)h->best_step;
	t->best.loss = h->best_loss;
	t->best.evaluations = (int)h->evaluations;
	t->best.stale = (int)h->stale;
	t->stopped = t->config.patience > 0 && t->best.stale >= t->config.patience;
	if (h->best_step == 0)
		return OL_OK;
	t->best.bytes = value_count(t) * (ol_trainer_adapts(t) ? sizeof(uint16_t) : sizeof(float));
	t->best.values = malloc(t->best.bytes);
	if (!t->best.values)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the best state");
	memcpy(t->best.values, c->best, t->best.bytes);
	return OL_OK;
}

static enum ol_status load_file(struct ol_trainer *t, int step, struct ol_error *err)
{
	char path[PATH_MAX];
	struct ol_checkpoint checkpoint;
	enum ol_status s = ol_checkpoint_path(path, t->folder, step, err);
	if (s == OL_OK)
		s = ol_checkpoint_open(&checkpoint, path, &t->notice);
	if (s != OL_OK) {
		/* Damaged or unreadable: the one before it will do. Another version will not. */
		return s == OL_ERR_UNSUPPORTED ? ol_fail(err, s, "%s", t->notice.text)
					       : OL_ERR_NOT_FOUND;
	}
	s = check_same_run(t, &checkpoint, path, err);
	if (s == OL_OK)
		s = load(t, &checkpoint, path, err);
	ol_checkpoint_close(&checkpoint);
	return s;
}

enum ol_status ol_trainer_resume(struct ol_trainer *t, struct ol_error *err)
{
	struct ol_checkpoint_list list;
	enum ol_status s = ol_checkpoint_list(&list, t->folder, err);
	if (s != OL_OK)
		return s;
	for (int i = 0; i < list.count; i++) {
		s = load_file(t, list.steps[i], err);
		if (s != OL_ERR_NOT_FOUND)
			break;
	}
	ol_checkpoint_list_release(&list);
	return s == OL_ERR_NOT_FOUND ? OL_OK : s;
}

enum ol_status ol_trainer_expect_empty(const struct ol_trainer *t, struct ol_error *err)
{
	struct ol_checkpoint_list list;
	const enum ol_status s = ol_checkpoint_list(&list, t->folder, err);
	if (s != OL_OK)
		return s;
	const int count = list.count, newest = count > 0 ? list.steps[0] : 0;
	ol_checkpoint_list_release(&list);
	return count == 0
		       ? OL_OK
		       : ol_fail(err, OL_ERR_INPUT,
				 "%s holds checkpoints up to step %d: give --resume to go on from "
				 "there, or train into another folder",
				 t->folder, newest);
}

/* ---- What is published --------------------------------------------------------------------- */

enum ol_status ol_trainer_adapter(const struct ol_trainer *t, struct ol_adapter **adapter_out,
				  struct ol_error *err)
{
	if (!ol_trainer_adapts(t))
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "full training makes a model, not an adapter");
	return ol_trainer_make_adapter(t, t->best.values, adapter_out, err);
}

enum ol_status ol_trainer_write_model(const struct ol_trainer *t, const char *path,
				      enum ol_weight_type type, struct ol_error *err)
{
	struct ol_model *model;
	if (ol_trainer_adapts(t))
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "adapter training makes an adapter, not a model");
	enum ol_status s = ol_model_blank(&model, t->base, type, err);
	if (s != OL_OK)
		return s;
	const float *values = t->best.values;
	for (int i = 0; s == OL_OK && i < t->params.count; i++) {
		const struct ol_param *p = &t->params.list[i];
		const float *w = t->best.values ? values : t->params.w + p->offset;
		if (!ol_model_set_rows(model, p->tag, w, 0, p->rows))
			s = ol_fail(err, OL_ERR_INPUT,
				    "the tensor %s holds a number that %s cannot", p->name,
				    ol_weight_type_name(type));
		values = values ? values + p->count : NULL;
	}
	if (s == OL_OK)
		s = ol_model_save(path, model, err);
	ol_model_close(model);
	return s;
}
