#include "node/train.h"

#include "base/clock.h"
#include "base/file.h"
#include "math/functions.h"
#include "node/adapters.h"
#include "node/attribute_index.h"
#include "node/greedy.h"
#include "node/runtime.h"
#include "node/train_files.h"
#include "train/checkpoint.h"

#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SAMPLE_TOKENS = 48,
	CHECKPOINT_SECONDS = 60, /* at most so much work is lost, unless steps are given */
	NOTICES_MAX = 8
};

/* One run, from begin to end. */
struct run {
	const struct ol_train_request *q;
	struct ol_home home;
	struct ol_runtime base;
	struct ol_engine_options machine; /* threads and instructions */
	struct ol_adapter *from;          /* NULL: none */
	char from_folder[OL_PATH_MAX];
	struct ol_records *records;
	struct ol_dataset *dataset;
	struct ol_train_config config;
	struct ol_trainer *trainer;
	struct ol_step_log *metrics;
	struct ol_train_result *result;
	char folder[OL_PATH_MAX];
	size_t *samples; /* (sample_count) of the dataset */
	int sample_count;
	int saved_step;
	double saved_at, started;
	uint64_t tokens;
	double step_seconds;
};

void ol_train_wish_init(struct ol_train_wish *wish)
{
	*wish = (struct ol_train_wish){.warmup = -1,
				       .eval_every = -1,
				       .patience = -1,
				       .dropout = -1,
				       .weight_decay = -1,
				       .eval_fraction = -1,
				       .clip = -1,
				       .final_fraction = -1,
				       .dpo_beta = -1};
}

static void notice(const struct run *r, const char *format, ...) OL_PRINTF(2, 3);
static void notice(const struct run *r, const char *format, ...)
{
	char sentence[OL_ERROR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(sentence, sizeof sentence, format, args);
	va_end(args);
	if (r->q->watch.notice)
		r->q->watch.notice(r->q->watch.context, sentence);
}

/* ---- before ---- */

static enum ol_status path_of(char path[OL_PATH_MAX], struct ol_error *err, const char *a,
			      const char *b, const char *c)
{
	const int n = snprintf(path, OL_PATH_MAX, "%s%s%s", a, b, c);
	if (n < 0 || n >= OL_PATH_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the path %s%s%s is too long", a, b, c);
	return OL_OK;
}

static bool is_full(const struct run *r)
{
	return r->q->wish.method == OL_TRAIN_FULL;
}

/* What the run will make must not be there yet, unless it is to be replaced. */
static enum ol_status check_name(struct run *r, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	enum ol_status s = ol_name_check(r->q->name, err);
	if (s == OL_OK)
		s = path_of(r->folder, err, r->home.path, "/training/", r->q->name);
	if (s == OL_OK && is_full(r))
		s = ol_home_model_path(&r->home, path, r->q->name, err);
	if (s != OL_OK)
		return s;
	const bool taken =
		is_full(r) ? access(path, F_OK) == 0 : ol_home_has_adapter(&r->home, r->q->name);
	if (taken && !r->q->replace)
		return ol_fail(err, OL_ERR_INPUT,
			       "there is already %s \"%s\": choose another --name, or --force to "
			       "replace it",
			       is_full(r) ? "a model" : "an adapter", r->q->name);
	return OL_OK;
}

static enum ol_status open_base(struct run *r, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	enum ol_status s;
	if (r->q->base) {
		s = ol_runtime_open(&r->base, &r->home, r->q->base, err);
		if (s == OL_OK && r->base.adapter)
			s = ol_fail(err, OL_ERR_INPUT,
				    "\"%s\" is an adapter: name the base that is to be trained on, "
				    "`openledger adapters` lists it",
				    r->q->base);
	} else {
		s = ol_make_directories(r->folder, err);
		if (s == OL_OK)
			s = path_of(path, err, r->folder, "/start.olm", "");
		if (s == OL_OK)
			s = ol_import_blank(path, r->q->config, r->q->tokenizer, err);
		if (s == OL_OK)
			s = ol_runtime_open(&r->base, &r->home, path, err);
	}
	return s == OL_OK ? ol_runtime_need_tokenizer(&r->base, err) : s;
}

/* The adapter to go on from, and what its sources allow. */
static enum ol_status open_from(struct run *r, struct ol_error *err)
{
	if (!r->q->from)
		return OL_OK;
	const enum ol_status s = ol_home_find_adapter(&r->home, r->from_folder, r->q->from, err);
	return s == OL_OK ? ol_adapter_open(&r->from, r->from_folder,
					    ol_model_config(r->base.model), err)
			  : s;
}

static void tell_conflicts(const struct run *r)
{
	const struct ol_source_card *cards;
	int a = 0, b = 0;
	ol_records_cards(r->records, &cards);
	for (int i = 0; i < NOTICES_MAX && ol_records_conflict(r->records, &a, &b); i++)
		notice(r,
		       "the licences of %s (%s) and %s (%s) do not allow one work made of both: "
		       "what comes out may be used here, but ask before it is given to others",
		       cards[a].file, cards[a].license, cards[b].file, cards[b].license);
}

static enum ol_status may_export(const struct run *r, struct ol_error *err)
{
	const struct ol_source_card *cards;
	const int count = ol_records_cards(r->records, &cards);
	for (int i = 0; i < count; i++)
		if (!cards[i].export_)
			return ol_fail(err, OL_ERR_INPUT,
				       "the terms of %s forbid export (its data card says "
				       "terms.export is false): leave out --export, or this source",
				       cards[i].file);
	return OL_OK;
}

static enum ol_status open_records(struct run *r, struct ol_error *err)
{
	enum ol_status s =
		ol_records_open(&r->records, r->q->data, r->q->data_count, r->q->format, err);
	if (s == OL_OK)
		s = ol_records_may_train(r->records, err);
	if (s == OL_OK && r->q->export_path)
		s = may_export(r, err);
	if (s == OL_OK)
		tell_conflicts(r);
	return s;
}

static enum ol_status parse_words(struct ol_train_config *c, const struct ol_train_wish *w,
				  struct ol_error *err)
{
	static const char *const schedules[] = {"constant", "linear", "cosine"};
	bool known = w->schedule == NULL;
	for (int i = 0; i < 3 && !known; i++)
		if (strcmp(w->schedule, schedules[i]) == 0) {
			c->schedule = (enum ol_schedule)i;
			known = true;
		}
	if (!known)
		return ol_fail(err, OL_ERR_INPUT,
			       "--schedule %s is unknown: use constant, linear or cosine",
			       w->schedule);
	if (w->base_type && !ol_weight_type_parse(&c->base_type, w->base_type))
		return ol_fail(err, OL_ERR_INPUT, "--base-type %s is unknown: use nf4 or q8",
			       w->base_type);
	return w->targets ? ol_targets_parse(&c->targets, w->targets, err) : OL_OK;
}

/* Defaults for these data, then what was asked for. */
static enum ol_status choose_config(struct run *r, size_t examples, struct ol_error *err)
{
	const struct ol_train_wish *w = &r->q->wish;
	struct ol_train_config *c = &r->config;
	ol_train_defaults(c, w->method, ol_model_config(r->base.model), examples,
			  (double)w->epochs);
	/* What of the defaults follows from the number of steps follows from the one asked for. */
	if (w->batch > 0 && w->steps == 0) {
		const double steps = ceil((double)c->steps * c->batch / w->batch);
		c->steps = (int)OL_MAX(steps, 1.0);
	}
	if (w->steps > 0)
		c->steps = w->steps;
	if (w->batch > 0)
		c->batch = w->batch;
	if (w->batch > 0 || w->steps > 0) {
		c->warmup = OL_MIN(OL_MAX(c->steps * 3 / 100, 1), c->steps);
		c->eval_every = OL_MAX(c->steps / 10, 1);
	}
	if (w->rank > 0) {
		c->alpha = 2 * (float)w->rank;
		c->rank = w->rank;
	}
	if (w->alpha > 0)
		c->alpha = w->alpha;
	c->learning_rate = w->learning_rate > 0
				   ? w->learning_rate
				   : ol_train_default_rate(c->method, w->attributable,
							   ol_model_config(r->base.model));
	if (w->max_length > 0)
		c->max_length = w->max_length;
	if (w->warmup >= 0)
		c->warmup = w->warmup;
	if (w->eval_every >= 0)
		c->eval_every = w->eval_every;
	if (w->patience >= 0)
		c->patience = w->patience;
	const struct {
		float wish, *target;
	} floats[] = {{w->dropout, &c->dropout},
		      {w->weight_decay, &c->weight_decay},
		      {w->eval_fraction, &c->eval_fraction},
		      {w->clip, &c->clip_norm},
		      {w->final_fraction, &c->final_fraction},
		      {w->dpo_beta, &c->dpo_beta}};
	for (size_t i = 0; i < OL_ARRAY_LEN(floats); i++)
		if (floats[i].wish >= 0)
			*floats[i].target = floats[i].wish;
	if (r->from) {
		const struct ol_adapter_config *from = ol_adapter_settings(r->from);
		c->rank = from->rank;
		c->alpha = from->alpha;
		c->targets = from->targets;
	}
	c->attributable = w->attributable;
	c->rslora = r->from ? ol_adapter_settings(r->from)->rslora : w->rslora;
	c->from_scratch = r->q->base == NULL;
	if (w->seed_given)
		c->seed = w->seed;
	if (w->init_seed_given)
		c->init_seed = w->init_seed;
	const enum ol_status s = parse_words(c, w, err);
	return s == OL_OK ? ol_train_config_check(c, ol_model_config(r->base.model), err) : s;
}

static enum ol_status open_dataset(struct run *r, struct ol_error *err)
{
	const struct ol_chat_format chat = ol_runtime_chat_format(&r->base);
	enum ol_status s = choose_config(r, ol_records_count(r->records), err);
	const struct ol_dataset_options options = {.max_length = r->config.max_length,
						   .loss_on_prompt = r->q->wish.loss_on_prompt,
						   .threads = r->machine.threads};
	if (s == OL_OK)
		s = ol_dataset_open(&r->dataset, r->records, &chat, &options, err);
	if (s == OL_OK)
		s = choose_config(r, ol_dataset_count(r->dataset), err);
	if (s == OL_OK && ol_dataset_truncated(r->dataset) > 0)
		notice(r,
		       "%zu of %zu examples are longer than %d tokens and were cut: "
		       "--max-length keeps more",
		       ol_dataset_truncated(r->dataset), ol_dataset_count(r->dataset),
		       r->config.max_length);
	return s;
}

static enum ol_status show_preview(struct run *r, struct ol_error *err)
{
	struct ol_buf text;
	bool good = true;
	ol_buf_init(&text, (size_t)1 << 30);
	for (int i = 0; i < r->q->preview && (size_t)i < ol_dataset_count(r->dataset); i++)
		good = ol_example_preview(&text, ol_dataset_at(r->dataset, (size_t)i),
					  r->base.tokenizer, r->q->color) &&
		       ol_buf_append_text(&text, "\n") && good;
	if (good && r->q->watch.preview)
		r->q->watch.preview(r->q->watch.context, text.data ? text.data : "");
	ol_buf_release(&text);
	r->result->previewed = true;
	return good ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for the preview");
}

/* A run that was interrupted is neither forgotten nor gone on with unless somebody says so. */
static enum ol_status expect_no_run(const struct run *r, struct ol_error *err)
{
	struct ol_checkpoint_list list;
	if (r->q->resume || r->q->replace)
		return OL_OK;
	const enum ol_status s = ol_checkpoint_list(&list, r->folder, err);
	if (s != OL_OK)
		return s;
	const int newest = list.count > 0 ? list.steps[0] : 0;
	ol_checkpoint_list_release(&list);
	return newest == 0
		       ? OL_OK
		       : ol_fail(err, OL_ERR_INPUT,
				 "there is a run \"%s\" already, up to step %d: --resume goes on "
				 "with it, --force begins anew",
				 r->q->name, newest);
}

static enum ol_status open_trainer(struct run *r, struct ol_error *err)
{
	const struct ol_train_options options = {.kernels = r->machine.kernels,
						 .threads = r->machine.threads,
						 .memory_max = r->q->memory_max,
						 .folder = r->folder,
						 .resume = r->q->resume,
						 .start = r->from};
	enum ol_status s = expect_no_run(r, err);
	if (s == OL_OK && r->q->replace && !r->q->resume && r->q->base)
		s = ol_run_folder_clear(r->folder, err);
	if (s == OL_OK)
		s = ol_trainer_open(&r->trainer, r->base.model, r->dataset, &r->config, &options,
				    err);
	if (s != OL_OK)
		return s;
	if (ol_trainer_notice(r->trainer)[0])
		notice(r, "%s", ol_trainer_notice(r->trainer));
	r->saved_step = ol_trainer_steps_done(r->trainer);
	return ol_step_log_open(&r->metrics, r->folder, r->saved_step, err);
}

/* ---- samples ---- */

/* Held-out examples if there are any, else the first ones. */
static enum ol_status choose_samples(struct run *r, struct ol_error *err)
{
	const size_t count = ol_dataset_count(r->dataset);
	const bool held_out = ol_trainer_shape(r->trainer).held_out_examples > 0;
	r->samples = calloc((size_t)r->q->samples + 1, sizeof *r->samples);
	if (!r->samples)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the samples");
	for (size_t i = 0; i < count && r->sample_count < r->q->samples; i++)
		if (!held_out || ol_trainer_is_held_out(r->trainer, i))
			r->samples[r->sample_count++] = i;
	return OL_OK;
}

static enum ol_status answer_samples(struct run *r, const struct ol_model *model,
				     const struct ol_adapter_view *adapter, struct ol_error *err)
{
	struct ol_engine *engine;
	struct ol_engine_options options = r->machine;
	for (int i = 0; i < r->sample_count; i++) {
		const int prompt = ol_greedy_prompt(ol_dataset_at(r->dataset, r->samples[i]));
		options.kv_positions = OL_MAX(options.kv_positions, prompt + SAMPLE_TOKENS);
	}
	options.kv_positions = OL_MIN(options.kv_positions, ol_model_config(model)->context_max);
	enum ol_status s = ol_engine_open(&engine, model, &options, err);
	if (s != OL_OK)
		return s;
	const struct ol_greedy greedy = {.engine = engine,
					 .tokenizer = r->base.tokenizer,
					 .adapter = adapter,
					 .max_tokens = SAMPLE_TOKENS};
	for (int i = 0; i < r->sample_count && s == OL_OK; i++) {
		const struct ol_example *e = ol_dataset_at(r->dataset, r->samples[i]);
		const struct ol_record *record = e->record;
		const struct ol_turn *last = &record->turns[record->turn_count - 1];
		char question[160] = "", wanted[160];
		struct ol_buf text;
		ol_buf_init(&text, OL_ANSWER_TEXT_MAX);
		if (record->turn_count > 1)
			snprintf(question, sizeof question, "%.*s",
				 (int)OL_MIN(last[-1].size, sizeof question - 1), last[-1].text);
		snprintf(wanted, sizeof wanted, "%.*s", (int)OL_MIN(last->size, sizeof wanted - 1),
			 last->text);
		s = ol_greedy_answer(&text, &greedy, e, err);
		if (s == OL_OK)
			r->q->watch.sample(r->q->watch.context, question,
					   text.data ? text.data : "", wanted);
		ol_buf_release(&text);
	}
	ol_engine_close(engine);
	return s;
}

static enum ol_status show_samples(struct run *r, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	enum ol_status s = OL_OK;
	if (r->sample_count == 0 || !r->q->watch.sample)
		return OL_OK;
	if (!is_full(r)) {
		struct ol_adapter *adapter;
		s = ol_trainer_adapter(r->trainer, &adapter, err);
		if (s == OL_OK) {
			s = answer_samples(r, r->base.model, ol_adapter_views(adapter), err);
			ol_adapter_close(adapter);
		}
		return s;
	}
	struct ol_model *model;
	s = path_of(path, err, r->folder, "/sample.olm", "");
	if (s == OL_OK)
		s = ol_trainer_write_model(r->trainer, path, OL_WEIGHT_F32, err);
	if (s == OL_OK)
		s = ol_model_open(&model, path, err);
	if (s == OL_OK) {
		unlink(path); /* it stays mapped */
		s = answer_samples(r, model, NULL, err);
		ol_model_close(model);
	}
	return s;
}

/* ---- the run ---- */

static enum ol_status save(struct run *r, struct ol_error *err)
{
	struct ol_error why = {0};
	const enum ol_status s = ol_trainer_save(r->trainer, &why);
	if (s != OL_OK)
		return ol_fail(err, s,
			       "%s; the run stops at step %d, %s %d: mend it and go on with "
			       "--resume",
			       why.text, ol_trainer_steps_done(r->trainer),
			       r->saved_step > 0 ? "the last whole checkpoint is of step"
						 : "there is no checkpoint before step",
			       r->saved_step > 0 ? r->saved_step
						 : ol_trainer_steps_done(r->trainer));
	r->saved_step = ol_trainer_steps_done(r->trainer);
	r->saved_at = ol_clock_seconds();
	if (r->q->watch.saved)
		r->q->watch.saved(r->q->watch.context, r->saved_step);
	return OL_OK;
}

static bool checkpoint_due(const struct run *r, const struct ol_step_report *report)
{
	if (r->q->checkpoint_steps > 0)
		return report->step % r->q->checkpoint_steps == 0;
	return ol_clock_seconds() - r->saved_at > CHECKPOINT_SECONDS;
}

static enum ol_status stop(struct run *r, struct ol_error *err)
{
	const enum ol_status s =
		r->saved_step < ol_trainer_steps_done(r->trainer) ? save(r, err) : OL_OK;
	if (s != OL_OK)
		return s;
	return ol_fail(err, OL_ERR_CANCELLED,
		       "stopped after step %d of %d; the same command with --resume goes on from "
		       "there",
		       ol_trainer_steps_done(r->trainer), r->config.steps);
}

static enum ol_status one_step(struct run *r, bool *stopped, struct ol_error *err)
{
	struct ol_step_report report;
	struct ol_error why = {0};
	enum ol_status s = ol_trainer_step(r->trainer, &report, &why);
	if (s != OL_OK && r->saved_step > 0)
		return ol_fail(err, s, "%s (the checkpoint of step %d in %s is whole)", why.text,
			       r->saved_step, r->folder);
	if (s != OL_OK)
		return ol_fail(err, s, "%s", why.text);
	r->tokens += (uint64_t)report.tokens;
	r->step_seconds += report.seconds;
	s = ol_step_log_add(r->metrics, &report, err);
	if (s == OL_OK && r->q->watch.step)
		*stopped = !r->q->watch.step(r->q->watch.context, &report,
					     ol_clock_seconds() - r->started);
	if (s == OL_OK && report.evaluated && !*stopped)
		s = show_samples(r, err);
	if (s == OL_OK && checkpoint_due(r, &report))
		s = save(r, err);
	return s;
}

static enum ol_status run_steps(struct run *r, struct ol_error *err)
{
	enum ol_status s = OL_OK;
	bool stopped = false;
	const struct ol_train_start start = {.config = ol_trainer_config(r->trainer),
					     .dataset = r->dataset,
					     .shape = ol_trainer_shape(r->trainer),
					     .base_parameters = ol_model_parameters(r->base.model),
					     .step = ol_trainer_steps_done(r->trainer),
					     .folder = r->folder};
	if (r->q->watch.start)
		r->q->watch.start(r->q->watch.context, &start);
	r->started = r->saved_at = ol_clock_seconds();
	while (s == OL_OK && !stopped && !ol_trainer_finished(r->trainer))
		s = one_step(r, &stopped, err);
	if (s == OL_OK && stopped && !ol_trainer_finished(r->trainer))
		return stop(r, err);
	if (s == OL_OK && r->saved_step < ol_trainer_steps_done(r->trainer))
		s = save(r, err);
	return s == OL_OK ? ol_examples_write(r->folder, r->dataset, r->trainer, err) : s;
}

/* ---- after ---- */

/* What is known of the run, so that it does not depend on interruptions: the last loss of each
 * example, the best evaluation, and the held-out examples' tokens and bytes. */
static void measure(struct run *r)
{
	struct ol_train_result *result = r->result;
	const float *losses = ol_trainer_example_losses(r->trainer);
	const bool pairs = r->config.method == OL_TRAIN_DPO;
	double sum = 0, loss = 0, tokens = 0, bytes = 0;
	size_t seen = 0;
	result->examples = ol_dataset_count(r->dataset);
	for (size_t i = 0; i < result->examples; i++)
		if (isfinite(losses[i])) {
			sum += (double)losses[i];
			seen++;
		}
	result->train_loss = seen > 0 ? sum / (double)seen : (double)NAN;
	result->eval_loss = result->eval_perplexity = result->eval_nats_per_byte = (double)NAN;
	result->best_step = ol_trainer_best(r->trainer, &loss);
	result->steps = ol_trainer_steps_done(r->trainer);
	result->seconds = ol_clock_seconds() - r->started;
	result->tokens_per_second =
		r->step_seconds > 0 ? (double)r->tokens / r->step_seconds : (double)NAN;
	if (result->best_step == 0)
		return;
	result->eval_loss = loss;
	if (pairs)
		return;
	for (size_t i = 0; i < result->examples; i++) {
		const struct ol_example *e = ol_dataset_at(r->dataset, i);
		if (ol_trainer_is_held_out(r->trainer, i)) {
			tokens += e->answer_tokens;
			bytes += e->answer_bytes;
		}
	}
	result->eval_perplexity = ol_exp(loss);
	result->eval_nats_per_byte = bytes > 0 ? loss * tokens / bytes : (double)NAN;
}

/* What the adapter before was made of is in this one, too. Without a path: those data are not what
 * this run was trained on. */
static enum ol_status describe_from(const struct run *r, struct ol_manifest *m,
				    struct ol_error *err)
{
	struct ol_manifest before;
	bool found = false, room = true;
	ol_manifest_init(&before);
	enum ol_status s =
		r->from ? ol_adapter_manifest(&before, &found, r->from_folder, err) : OL_OK;
	for (size_t i = 0; s == OL_OK && room && i < before.source_count; i++) {
		struct ol_manifest_source source = before.sources[i];
		source.path = NULL;
		room = ol_manifest_add_source(m, &source);
	}
	ol_manifest_release(&before);
	return room || s != OL_OK ? s : ol_fail(err, OL_ERR_FULL, "out of memory for the manifest");
}

static enum ol_status describe(struct run *r, struct ol_manifest *m, struct ol_error *err)
{
	const struct ol_train_result *result = r->result;
	const char *name = r->q->base ? r->q->base : r->q->name;
	const char *slash = strrchr(name, '/');
	snprintf(m->base_name, sizeof m->base_name, "%s", slash ? slash + 1 : name);
	memcpy(m->base_id, ol_model_id(r->base.model), sizeof m->base_id);
	m->trained = true;
	m->config = *ol_trainer_config(r->trainer);
	m->train_loss = result->train_loss;
	m->eval_loss = result->eval_loss;
	m->eval_perplexity = result->eval_perplexity;
	m->eval_nats_per_byte = result->eval_nats_per_byte;
	m->format = r->q->format;
	m->loss_on_prompt = r->q->wish.loss_on_prompt;
	if (r->q->code)
		snprintf(m->code, sizeof m->code, "%s", r->q->code);
	ol_manifest_stamp(m, (int64_t)time(NULL));
	m->seconds = result->seconds;
	m->tokens_per_second = isfinite(result->tokens_per_second) ? result->tokens_per_second : 0;
	const enum ol_status s = ol_manifest_describe(m, r->records, r->dataset, err);
	return s == OL_OK ? describe_from(r, m, err) : s;
}

/* Whoever gave an example without a name cannot be named. */
static bool knows_contributors(const struct run *r)
{
	for (size_t i = 0; i < ol_dataset_count(r->dataset); i++)
		if (strcmp(ol_dataset_at(r->dataset, i)->contributor, "unknown") != 0)
			return true;
	return false;
}

/* The adapter is there already: without an index it is still an adapter. */
static void make_index(struct run *r)
{
	struct ol_error why = {0};
	struct ol_adapter_index_request q = {.adapter = r->q->name,
					     .data = r->q->data,
					     .data_count = r->q->data_count,
					     .progress = r->q->watch.index,
					     .context = r->q->watch.context};
	ol_index_wish_init(&q.wish);
	if (r->q->no_index || r->config.method == OL_TRAIN_DPO || !knows_contributors(r))
		return;
	r->result->indexed = ol_adapter_index(&r->result->index, &r->home, &q, &why) == OL_OK;
	if (!r->result->indexed)
		notice(r,
		       "the adapter is made, but not the index that its answers are attributed by "
		       "(%s): `openledger index %s` makes it",
		       why.text, r->q->name);
}

static enum ol_status publish_adapter(struct run *r, struct ol_error *err)
{
	static const char *const files[] = {"metrics.jsonl", "examples.jsonl"};
	struct ol_adapter *adapter = NULL;
	struct ol_manifest manifest;
	ol_manifest_init(&manifest);
	enum ol_status s = describe(r, &manifest, err);
	if (s == OL_OK)
		s = ol_trainer_adapter(r->trainer, &adapter, err);
	if (s == OL_OK)
		s = ol_adapter_install(&r->home, r->q->name, adapter, &manifest, r->q->replace,
				       err);
	if (s == OL_OK)
		s = ol_home_adapter_path(&r->home, r->result->path, r->q->name, err);
	for (size_t i = 0; i < OL_ARRAY_LEN(files) && s == OL_OK; i++)
		s = ol_run_file_copy(r->result->path, r->folder, files[i], err);
	if (s == OL_OK)
		memcpy(r->result->sha256, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	r->result->adapter = true;
	ol_adapter_close(adapter);
	ol_manifest_release(&manifest);
	if (s == OL_OK)
		make_index(r);
	return s;
}

static enum ol_status publish_model(struct run *r, struct ol_error *err)
{
	struct ol_model *model;
	enum ol_status s = ol_home_model_path(&r->home, r->result->path, r->q->name, err);
	if (s == OL_OK)
		s = ol_trainer_write_model(r->trainer, r->result->path, r->q->full_type, err);
	if (s == OL_OK)
		s = ol_model_open(&model, r->result->path, err);
	if (s == OL_OK) {
		memcpy(r->result->sha256, ol_model_id(model), OL_MODEL_ID_BYTES);
		if (r->q->export_path)
			s = ol_export_folder(r->q->export_path, model, err);
		ol_model_close(model);
	}
	return s;
}

static void close_run(struct run *r)
{
	ol_step_log_close(r->metrics);
	ol_trainer_close(r->trainer);
	ol_dataset_close(r->dataset);
	ol_records_close(r->records);
	ol_adapter_close(r->from);
	ol_runtime_close(&r->base);
	free(r->samples);
}

static enum ol_status train(struct run *r, struct ol_error *err)
{
	enum ol_status s = ol_runtime_environment(&r->machine, err);
	if (s == OL_OK)
		s = ol_home_open(&r->home, err);
	if (s == OL_OK)
		s = check_name(r, err);
	if (s == OL_OK && !r->q->base && (!r->q->config || !r->q->tokenizer || !is_full(r)))
		s = ol_fail(err, OL_ERR_INPUT,
			    "name a base (-m NAME), or begin from nothing with --method full "
			    "--config FILE --tokenizer FOLDER");
	if (s == OL_OK && r->q->replace && !r->q->resume && !r->q->base && r->q->preview == 0)
		s = ol_run_folder_clear(r->folder, err);
	/* The data are what people get wrong: they come before anything that takes long. */
	if (s == OL_OK)
		s = open_records(r, err);
	if (s == OL_OK)
		s = open_base(r, err);
	if (s == OL_OK)
		s = open_from(r, err);
	if (s == OL_OK)
		s = open_dataset(r, err);
	if (s != OL_OK || r->q->preview > 0)
		return s == OL_OK ? show_preview(r, err) : s;
	s = open_trainer(r, err);
	if (s == OL_OK)
		s = choose_samples(r, err);
	if (s == OL_OK)
		s = run_steps(r, err);
	if (s != OL_OK)
		return s;
	measure(r);
	return is_full(r) ? publish_model(r, err) : publish_adapter(r, err);
}

enum ol_status ol_train(struct ol_train_result *result, const struct ol_train_request *request,
			struct ol_error *err)
{
	struct run *r = calloc(1, sizeof *r);
	if (!r)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the run");
	*result = (struct ol_train_result){0};
	r->q = request;
	r->result = result;
	const enum ol_status s = train(r, err);
	close_run(r);
	free(r);
	return s;
}
