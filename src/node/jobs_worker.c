#include "node/jobs_worker.h"

#include "base/buf.h"
#include "base/file.h"
#include "model/model.h"
#include "node/eval.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_SECONDS = 60, SAMPLE_TEXT_MAX = 4000 };

struct work {
	const struct ol_job_work *w;
	json_t *job;
	uint64_t tokens; /* trained on, by those before us, too */
	bool broken;     /* nobody reads any more      */
	bool indexing;   /* has been said              */
};

/* ---- Saying ---- */

/* Takes the reference. One write per line: lines of others do not get inside. */
static void say(struct work *work, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
	json_decref(line);
	const size_t size = text ? strlen(text) : 0;
	if (text && size < OL_JOB_LINE_MAX) {
		text[size] = '\n';
		for (size_t at = 0; at <= size && !work->broken;) {
			const ssize_t n = write(work->w->fd, text + at, size + 1 - at);
			if (n > 0)
				at += (size_t)n;
			else if (n < 0 && errno != EINTR)
				work->broken = true;
		}
	}
	free(text);
}

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static void on_notice(void *context, const char *sentence)
{
	say(context, json_pack("{s:s, s:s}", "type", "notice", "text", sentence));
}

/* What the steps already done were trained on: the run's own log says it (train_files.h). It is cut
 * to those steps by now, and a line each. */
static uint64_t tokens_before(const char *folder)
{
	char path[OL_PATH_MAX], line[1024];
	uint64_t tokens = 0;
	if (ol_path_join(path, NULL, folder, "/metrics.jsonl", "") != OL_OK)
		return 0;
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file)) {
		json_error_t why;
		json_t *step = json_loads(line, 0, &why);
		tokens += (uint64_t)json_integer_value(json_object_get(step, "tokens"));
		json_decref(step);
	}
	if (file)
		fclose(file);
	return tokens;
}

static void on_start(void *context, const struct ol_train_start *start)
{
	struct work *work = context;
	work->tokens = start->step > 0 ? tokens_before(start->folder) : 0;
	say(work,
	    json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:i, s:f}", "type", "start", "step",
		      start->step, "steps", start->config->steps, "tokens",
		      (json_int_t)work->tokens, "examples", (json_int_t)start->shape.train_examples,
		      "held_out", (json_int_t)start->shape.held_out_examples, "parameters",
		      (json_int_t)start->shape.trained_parameters, "batch", start->config->batch,
		      "learning_rate", (double)start->config->learning_rate));
}

static bool on_step(void *context, const struct ol_step_report *r, double seconds)
{
	struct work *work = context;
	const bool pairs = r->dpo_margin != 0;
	work->tokens += (uint64_t)r->tokens;
	json_t *line = json_pack("{s:s, s:i, s:o, s:f, s:I, s:f}", "type", "step", "step", r->step,
				 "loss", number(r->loss), "rate", (double)r->learning_rate,
				 "tokens", (json_int_t)work->tokens, "seconds", seconds);
	if (r->evaluated)
		json_object_set_new(line, "valid_loss", number(r->evaluation.loss));
	if (pairs) {
		json_object_set_new(line, "accuracy", number(r->dpo_accuracy));
		json_object_set_new(line, "margin", number(r->dpo_margin));
	}
	say(work, line);
	return !work->broken && !work->w->stopped();
}

static json_t *text_of(const char *text)
{
	/* A cut may fall into a character: then what is before it. */
	for (size_t n = strnlen(text, SAMPLE_TEXT_MAX); n > 0; n--) {
		json_t *value = json_stringn(text, n);
		if (value)
			return value;
	}
	return json_string("");
}

static void on_sample(void *context, const char *question, const char *answer, const char *wanted)
{
	say(context,
	    json_pack("{s:s, s:o, s:o, s:o}", "type", "sample", "question", text_of(question),
		      "answer", text_of(answer), "wanted", text_of(wanted)));
}

static void on_saved(void *context, int step)
{
	say(context, json_pack("{s:s, s:i}", "type", "saved", "step", step));
}

/* Who asks to stop gets the adapter without its index: that can be made later. */
static bool on_index(void *context, const char *what, uint32_t done, uint32_t total)
{
	struct work *work = context;
	(void)what, (void)done, (void)total;
	if (!work->indexing)
		say(work, json_pack("{s:s, s:s}", "type", "message", "text",
				    "Training is done; making the index of attribution"));
	work->indexing = true;
	return !work->broken && !work->w->stopped();
}

/* ---- The run ---- */

static enum ol_status read_job(struct work *work, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_map map;
	json_error_t why;
	enum ol_status s = ol_path_join(path, err, work->w->folder, "/job.json", "");
	if (s == OL_OK)
		s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	if (map.size <= OL_JOB_FILE_MAX)
		work->job =
			json_loadb((const char *)map.data, map.size, JSON_REJECT_DUPLICATES, &why);
	ol_map_close(&map);
	return work->job ? OL_OK : ol_fail(err, OL_ERR_INPUT, "%s is damaged", path);
}

/* One trainer per job, also when the one before has not quite ended. The lock ends with us. */
static enum ol_status lock_job(const struct work *work, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	const enum ol_status s = ol_path_join(path, err, work->w->folder, "/lock", "");
	if (s != OL_OK)
		return s;
	const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return ol_fail(err, OL_ERR_IO, "cannot open %s: %s", path, strerror(errno));
	for (int i = 0; i < LOCK_SECONDS * 10; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return OL_OK; /* fd stays open until the process ends */
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
	close(fd);
	return ol_fail(err, OL_ERR_IO, "another trainer still works on this job");
}

static enum ol_status apply_multiplier(struct ol_train_wish *wish, const char *base,
				       double multiplier, struct ol_error *err)
{
	struct ol_home home;
	struct ol_model *model;
	char path[OL_PATH_MAX];
	if (multiplier <= 0)
		return OL_OK;
	enum ol_status s = ol_home_open(&home, err);
	if (s == OL_OK)
		s = ol_home_find_model(&home, path, base, err);
	if (s == OL_OK)
		s = ol_model_open(&model, path, err);
	if (s != OL_OK)
		return s;
	wish->learning_rate =
		(float)(multiplier * (double)ol_train_default_rate(wish->method, wish->attributable,
								   ol_model_config(model)));
	ol_model_close(model);
	return OL_OK;
}

/* The validation file's loss under what was made; NaN when there is none. */
static enum ol_status validate(double *loss_out, const char *model, const char *file,
			       struct ol_error *err)
{
	struct ol_eval eval;
	const char *const data[] = {file};
	const struct ol_eval_request request = {
		.adapter = model, .data = data, .data_count = 1, .format = OL_DATA_AUTO};
	*loss_out = (double)NAN;
	if (!file)
		return OL_OK;
	const enum ol_status s = ol_evaluate(&eval, &request, err);
	if (s == OL_OK) {
		*loss_out = ol_eval_loss(&eval.total);
		ol_eval_release(&eval);
	}
	return s;
}

static enum ol_status train(struct work *work, struct ol_error *err)
{
	struct ol_train_result result;
	const char *base, *model, *data, *method, *validation = NULL;
	json_t *hyperparameters = NULL, *openledger = NULL;
	const char *from = NULL;
	json_int_t seed, memory;
	struct ol_job_extra extra;
	double valid;
	char field[64], hex[2 * OL_SHA256_BYTES + 1];
	struct ol_train_request q = {.format = OL_DATA_AUTO,
				     .resume = true,
				     .replace = true, /* a run that died after installing */
				     .code = work->w->code,
				     .watch = {.notice = on_notice,
					       .start = on_start,
					       .step = on_step,
					       .sample = on_sample,
					       .saved = on_saved,
					       .index = on_index,
					       .context = work}};
	if (json_unpack(work->job, "{s:s, s:s, s:s, s:s, s:I, s:I, s?s, s?s, s?o, s?o}", "base",
			&base, "model", &model, "data", &data, "method", &method, "seed", &seed,
			"memory_max", &memory, "validation", &validation, "from", &from,
			"hyperparameters", &hyperparameters, "openledger", &openledger) != 0)
		return ol_fail(err, OL_ERR_INPUT, "%s/job.json is damaged", work->w->folder);
	enum ol_status s =
		ol_job_wish(&q.wish, &extra, field, method, hyperparameters, openledger, err);
	if (s == OL_OK)
		s = apply_multiplier(&q.wish, base, extra.multiplier, err);
	if (s != OL_OK)
		return s;
	q.samples = extra.samples;
	q.checkpoint_steps = extra.checkpoint_steps;
	q.base = base;
	q.from = from;
	q.name = model;
	q.data = &data;
	q.data_count = 1;
	q.wish.seed = (uint64_t)seed;
	q.wish.seed_given = true;
	q.memory_max = (size_t)memory / 2; /* for activations; the rest is weights and state */
	/* Then that is what is looked at, and every example is learned from. */
	if (validation && q.wish.eval_fraction < 0)
		q.wish.eval_fraction = 0;
	s = ol_train(&result, &q, err);
	if (s == OL_OK)
		s = validate(&valid, model, validation, err);
	if (s != OL_OK)
		return s;
	ol_hex(hex, result.sha256, OL_SHA256_BYTES);
	say(work, json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:I}", "type", "done", "sha256", hex,
			    "step", result.steps, "best_step", result.best_step, "train_loss",
			    number(result.train_loss), "valid_loss",
			    number(validation ? valid : result.eval_loss), "tokens",
			    (json_int_t)work->tokens));
	return OL_OK;
}

bool ol_job_work(const struct ol_job_work *w)
{
	struct work work = {.w = w};
	struct ol_error err = {0};
	enum ol_status s = read_job(&work, &err);
	if (s == OL_OK)
		s = lock_job(&work, &err);
	if (s == OL_OK)
		s = train(&work, &err);
	if (s != OL_OK)
		say(&work, json_pack("{s:s, s:i, s:o}", "type", "error", "status", (int)s, "text",
				     text_of(err.text)));
	json_decref(work.job);
	return s == OL_OK;
}
