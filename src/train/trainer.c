#include "train/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* ---- The examples -------------------------------------------------------------------------- */

static void hash_sequence(struct ol_sha256 *hash, const struct ol_sequence *sequence)
{
	const size_t bytes = (size_t)sequence->count * sizeof(int32_t);
	ol_sha256_update(hash, &sequence->count, sizeof sequence->count);
	if (bytes > 0) {
		ol_sha256_update(hash, sequence->tokens, bytes);
		ol_sha256_update(hash, sequence->targets, bytes);
	}
}

static enum ol_status check_sequence(const struct ol_trainer *t, const struct ol_example *e,
				     const struct ol_sequence *sequence, struct ol_error *err)
{
	int targets = 0;
	for (int i = 0; i < sequence->count; i++) {
		const int32_t token = sequence->tokens[i], target = sequence->targets[i];
		if (token < 0 || token >= t->c->vocab_size || target < -1 ||
		    target >= t->c->vocab_size)
			return ol_fail(
				err, OL_ERR_INPUT,
				"the example \"%s\" has a token outside the vocabulary of %d",
				e->id, t->c->vocab_size);
		targets += target >= 0;
	}
	if (targets == 0)
		return ol_fail(err, OL_ERR_INPUT, "the example \"%s\" has no answer to learn",
			       e->id);
	return OL_OK;
}

static enum ol_status check_example(const struct ol_trainer *t, const struct ol_example *e,
				    struct ol_error *err)
{
	const bool pairs = t->config.method == OL_TRAIN_DPO;
	if (pairs && e->rejected.count == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the example \"%s\" has no rejected answer: preference tuning wants "
			       "records of prompt, chosen and rejected",
			       e->id);
	enum ol_status s = check_sequence(t, e, &e->sequence, err);
	if (s == OL_OK && pairs)
		s = check_sequence(t, e, &e->rejected, err);
	return s;
}

/* Copies the examples and hashes what the model will see of them. */
static enum ol_status take_examples(struct ol_trainer *t, const struct ol_examples *examples,
				    struct ol_error *err)
{
	struct ol_sha256 hash;
	t->count = examples->count;
	t->examples = calloc(t->count + 1, sizeof *t->examples);
	t->keys = calloc(t->count + 1, sizeof *t->keys);
	t->example_losses = calloc(t->count + 1, sizeof *t->example_losses);
	t->reference = calloc(2 * t->count + 1, sizeof *t->reference);
	if (!t->examples || !t->keys || !t->example_losses || !t->reference ||
	    !ol_sha256_init(&hash))
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu examples", t->count);
	memcpy(t->snapshot, examples->snapshot, sizeof t->snapshot);
	enum ol_status s = OL_OK;
	for (size_t i = 0; s == OL_OK && i < t->count; i++) {
		const struct ol_example *e = &examples->at[i];
		t->examples[i] = *e;
		t->examples[i].sequence.example = t->examples[i].rejected.example = e->key;
		t->keys[i] = e->key;
		t->example_losses[i] = NAN;
		t->reference[2 * i] = t->reference[2 * i + 1] = NAN;
		ol_sha256_update(&hash, &e->key, sizeof e->key);
		hash_sequence(&hash, &e->sequence);
		hash_sequence(&hash, &e->rejected);
		s = check_example(t, e, err);
	}
	ol_sha256_final(&hash, t->tokens);
	return s;
}

/* ---- Memory -------------------------------------------------------------------------------- */

enum { ROWS_ENOUGH = 2048, ROWS_FEW = 256 };

/* Most rows of one unit, and of any step: more room than that is of no use. */
static void measure_units(const struct ol_trainer *t, int64_t *unit_max, int64_t *step_max)
{
	const bool pairs = t->config.method == OL_TRAIN_DPO;
	*unit_max = 1;
	for (size_t i = 0; i < t->count; i++) {
		const struct ol_example *e = &t->examples[i];
		const int64_t rows = e->sequence.count + (pairs ? e->rejected.count : 0);
		*unit_max = OL_MAX(*unit_max, rows);
	}
	*step_max = *unit_max * t->config.batch;
}

static size_t default_memory(const struct ol_trainer *t)
{
	const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	const size_t machine =
		pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)4 << 30;
	/* QLoRA is for those who have little. */
	const size_t most =
		t->config.method == OL_TRAIN_QLORA ? (size_t)512 << 20 : (size_t)2 << 30;
	return OL_MIN(machine / 4, most);
}

/* The most rows of at least `least` and at most `most` that fit. */
static bool fit_rows(const struct ol_config *c, struct ol_tape_options *tape, int64_t least,
		     int64_t most, size_t budget)
{
	for (int64_t rows = OL_MAX(most, least);; rows = OL_MAX(rows * 3 / 4, least)) {
		tape->rows_max = (int)rows;
		if (ol_tape_bytes(c, tape) <= budget)
			return true;
		if (rows == least)
			return false;
	}
}

/* Rows of a micro-batch and recomputation, by the memory there is. All that comes out of it is
 * speed: recomputation costs a third more work, few rows read the weights more often. */
static enum ol_status choose_shape(struct ol_trainer *t, const struct ol_train_options *o,
				   struct ol_tape_options *tape, struct ol_error *err)
{
	int64_t unit_max, step_max;
	measure_units(t, &unit_max, &step_max);
	const size_t budget = o->memory_max ? o->memory_max : default_memory(t);
	const int64_t most = o->rows_max ? o->rows_max : OL_MIN(ROWS_ENOUGH, step_max);
	tape->recompute = o->recompute > 0;
	if (o->rows_max && !o->memory_max) {
		tape->rows_max = (int)OL_MAX(most, unit_max);
		return OL_OK;
	}
	if (o->recompute == 0 &&
	    fit_rows(t->c, tape, OL_MAX(unit_max, OL_MIN(ROWS_FEW, most)), most, budget))
		return OL_OK;
	tape->recompute = o->recompute >= 0;
	if (fit_rows(t->c, tape, unit_max, most, budget) || !o->memory_max)
		return OL_OK;
	return ol_fail(
		err, OL_ERR_FULL,
		"the longest example has %lld tokens and takes %zu MB of activations, but only "
		"%zu MB are allowed: give more memory, or a lower --max-length",
		(long long)unit_max, ol_tape_bytes(t->c, tape) >> 20, budget >> 20);
}

static enum ol_status open_tape(struct ol_trainer *t, const struct ol_train_options *o,
				struct ol_error *err)
{
	const struct ol_model *model = t->weights     ? t->weights
				       : t->converted ? t->converted
						      : t->base;
	struct ol_tape_options tape = {
		.kernels = t->kernels,
		.threads = o->threads,
		.rank_max = ol_trainer_adapts(t) ? t->config.rank : 0,
		.full = !ol_trainer_adapts(t),
	};
	enum ol_status s = choose_shape(t, o, &tape, err);
	if (s == OL_OK)
		s = ol_tape_open(&t->tape, t->c, ol_model_weights(model), &tape, err);
	if (s != OL_OK)
		return s;
	t->pool = ol_tape_threads(t->tape);
	t->shape.rows_max = tape.rows_max;
	t->shape.recompute = tape.recompute;
	t->shape.tape_bytes = ol_tape_bytes(t->c, &tape);
	const size_t batch = (size_t)t->config.batch, rows = (size_t)tape.rows_max;
	t->batch = calloc(batch, sizeof *t->batch);
	t->units = calloc(batch, sizeof *t->units);
	t->unit_rows = calloc(batch, sizeof *t->unit_rows);
	t->sequences = calloc(2 * batch, sizeof *t->sequences);
	t->nats = calloc(2 * batch, sizeof *t->nats);
	t->row_weights = calloc(rows, sizeof *t->row_weights);
	t->row_losses = calloc(rows, sizeof *t->row_losses);
	if (!t->batch || !t->units || !t->unit_rows || !t->sequences || !t->nats ||
	    !t->row_weights || !t->row_losses)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a batch of %zu", batch);
	return OL_OK;
}

/* ---- Life ---------------------------------------------------------------------------------- */

/* The adapter to go on from belongs to the config: by its hash. */
static enum ol_status take_start(struct ol_trainer *t, const struct ol_adapter *start,
				 struct ol_error *err)
{
	static const uint8_t none[OL_SHA256_BYTES];
	const bool named = memcmp(t->config.start, none, sizeof none) != 0;
	t->start = start;
	if (!start)
		return named ? ol_fail(err, OL_ERR_INPUT,
				       "the config goes on from an adapter, but none was given")
			     : OL_OK;
	if (named && memcmp(t->config.start, ol_adapter_sha256(start), OL_SHA256_BYTES) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "the adapter to go on from is not the one that the config names");
	memcpy(t->config.start, ol_adapter_sha256(start), OL_SHA256_BYTES);
	return OL_OK;
}

static enum ol_status open_all(struct ol_trainer *t, const struct ol_examples *examples,
			       const struct ol_train_options *o, struct ol_error *err)
{
	const struct ol_train_config *config = &t->config;
	enum ol_status s = take_start(t, o->start, err);
	if (s == OL_OK)
		s = ol_train_config_check(config, t->c, err);
	if (s == OL_OK)
		s = take_examples(t, examples, err);
	if (s == OL_OK)
		s = ol_plan_init(&t->plan, t->keys, t->count, (double)config->eval_fraction,
				 config->seed, config->order == OL_ORDER_SHUFFLED, err);
	if (s != OL_OK)
		return s;
	t->shape.train_examples = t->plan.train_count;
	t->shape.held_out_examples = t->plan.held_out_count;
	if (o->folder && !o->resume)
		s = ol_trainer_expect_empty(t, err);
	if (s == OL_OK && config->method == OL_TRAIN_QLORA &&
	    ol_model_weight_type(t->base) != config->base_type)
		s = ol_model_convert(&t->converted, t->base, config->base_type, o->threads, err);
	if (s == OL_OK)
		s = ol_trainer_make_weights(t, err);
	if (s == OL_OK)
		s = open_tape(t, o, err);
	if (s == OL_OK && o->folder && o->resume)
		s = ol_trainer_resume(t, err);
	if (s == OL_OK)
		ol_trainer_pack(t);
	return s;
}

enum ol_status ol_trainer_open_examples(struct ol_trainer **trainer_out,
					const struct ol_model *base,
					const struct ol_examples *examples,
					const struct ol_train_config *config,
					const struct ol_train_options *options,
					struct ol_error *err)
{
	const struct ol_train_options none = {0}, *o = options ? options : &none;
	struct ol_trainer *t = calloc(1, sizeof *t);
	if (!t)
		return ol_fail(err, OL_ERR_FULL, "out of memory while opening the trainer");
	t->config = *config;
	t->base = base;
	t->c = ol_model_config(base);
	t->kernels = o->kernels ? o->kernels : ol_kernels_best();
	t->gradients = ol_gradients_for(t->kernels->isa);
	t->folder = o->folder;
	t->optimizer = (struct ol_optimizer){1, 1};
	enum ol_status s = t->gradients
				   ? open_all(t, examples, o, err)
				   : ol_fail(err, OL_ERR_UNSUPPORTED,
					     "there are no gradients for the instruction set %s",
					     t->kernels->name);
	if (s != OL_OK) {
		ol_trainer_close(t);
		return s;
	}
	*trainer_out = t;
	return OL_OK;
}

void ol_trainer_close(struct ol_trainer *t)
{
	if (!t)
		return;
	ol_tape_close(t->tape);
	ol_trainer_release_weights(t);
	ol_model_close(t->converted);
	ol_plan_release(&t->plan);
	free(t->best.values);
	free(t->examples);
	free(t->keys);
	free(t->example_losses);
	free(t->reference);
	free(t->batch);
	free(t->units);
	free(t->unit_rows);
	free(t->sequences);
	free(t->nats);
	free(t->row_weights);
	free(t->row_losses);
	free(t);
}

/* ---- Steps --------------------------------------------------------------------------------- */

/* The gradient of all examples together is not finite: which of them is to blame? */
static enum ol_status blame(struct ol_trainer *t, int examples, struct ol_error *err)
{
	uint32_t *batch = malloc((size_t)examples * sizeof *batch);
	if (batch)
		memcpy(batch, t->batch, (size_t)examples * sizeof *batch);
	for (int i = 0; batch && i < examples; i++) {
		struct ol_step_report report = {0};
		t->batch[0] = batch[i];
		const enum ol_status s = ol_trainer_accumulate(t, 1, &report, err);
		if (s == OL_OK && isfinite(ol_params_norm(&t->params, t->pool, t->gradients)))
			continue;
		const char *id = t->examples[batch[i]].id;
		free(batch);
		return s != OL_OK ? s
				  : ol_fail(err, OL_ERR_INPUT,
					    "the run diverges: at step %d the gradient of the "
					    "example \"%s\" is not finite; lower the learning rate",
					    t->step + 1, id);
	}
	free(batch);
	return ol_fail(err, OL_ERR_INPUT,
		       "the run diverges: at step %d the gradient of %d examples is not finite, "
		       "\"%s\" among them; lower the learning rate",
		       t->step + 1, examples, t->examples[t->batch[0]].id);
}

static enum ol_status make_step(struct ol_trainer *t, struct ol_step_report *report,
				struct ol_error *err)
{
	const struct ol_train_config *c = &t->config;
	ol_plan_step(&t->plan, t->step, c->batch, t->batch);
	enum ol_status s = ol_trainer_accumulate(t, c->batch, report, err);
	if (s != OL_OK)
		return s;
	report->gradient_norm = ol_params_norm(&t->params, t->pool, t->gradients);
	if (!isfinite(report->gradient_norm))
		return blame(t, c->batch, err);
	const double fraction = ol_schedule_at(c->schedule, t->step, c->warmup, c->steps,
					       (double)c->final_fraction);
	const struct ol_optimizer_settings settings = {
		.learning_rate = (float)((double)c->learning_rate * fraction),
		.beta1 = c->beta1,
		.beta2 = c->beta2,
		.eps = c->eps,
		.weight_decay = c->weight_decay,
		.clip_norm = c->clip_norm,
	};
	report->learning_rate = settings.learning_rate;
	ol_optimizer_step(&t->optimizer, &t->params, t->pool, t->gradients, &settings,
			  report->gradient_norm);
	ol_trainer_pack(t);
	report->step = ++t->step;
	return OL_OK;
}

enum ol_status ol_trainer_step(struct ol_trainer *t, struct ol_step_report *report,
			       struct ol_error *err)
{
	const double start = ol_clock_seconds();
	OL_ASSERT(!ol_trainer_finished(t) && !t->broken);
	*report = (struct ol_step_report){0};
	enum ol_status s = make_step(t, report, err);
	report->seconds = ol_clock_seconds() - start;
	if (s == OL_OK)
		s = ol_trainer_evaluate_if_due(t, report, err);
	t->broken = s != OL_OK;
	return s;
}

/* ---- What is known ------------------------------------------------------------------------- */

int ol_trainer_steps_done(const struct ol_trainer *t)
{
	return t->step;
}

bool ol_trainer_finished(const struct ol_trainer *t)
{
	return t->step >= t->config.steps || t->stopped;
}

const struct ol_train_config *ol_trainer_config(const struct ol_trainer *t)
{
	return &t->config;
}

const char *ol_trainer_notice(const struct ol_trainer *t)
{
	return t->notice.text;
}

int ol_trainer_best(const struct ol_trainer *t, double *loss_out)
{
	if (loss_out)
		*loss_out = t->best.loss;
	return t->best.step;
}

struct ol_train_shape ol_trainer_shape(const struct ol_trainer *t)
{
	return t->shape;
}

const float *ol_trainer_example_losses(const struct ol_trainer *t)
{
	return t->example_losses;
}

bool ol_trainer_is_held_out(const struct ol_trainer *t, size_t example)
{
	for (size_t i = 0; i < t->plan.held_out_count; i++)
		if (t->plan.held_out[i] == example)
			return true;
	return false;
}
