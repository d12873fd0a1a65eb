#include "node/eval.h"

#include "base/clock.h"
#include "base/file.h"
#include "node/adapters.h"
#include "node/greedy.h"
#include "node/runtime.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS = 512,       /* of a micro-batch, unless an example is longer */
	WAVE = 64,        /* examples between two calls of progress */
	ANSWER_MORE = 16, /* tokens that an answer may be longer than the right one */
	ANSWER_MAX = 256
};

struct evaluating {
	const struct ol_eval_request *q;
	struct ol_home home;
	struct ol_runtime model;
	struct ol_engine_options machine;
	struct ol_records *records;
	struct ol_dataset *dataset;
	const struct ol_example **examples; /* (count) */
	double *nats;                       /* (count) */
	struct ol_buf *answers;             /* (count) what was said; empty: not asked */
	bool *asked, *right;                /* (count) */
	size_t count;
	struct ol_eval *eval;
};

static enum ol_status open_model(struct evaluating *v, struct ol_error *err)
{
	char folder[OL_PATH_MAX], base[OL_NAME_MAX + 1];
	const char *name = v->q->model;
	enum ol_status s = OL_OK;
	if (v->q->adapter)
		s = ol_home_find_adapter(&v->home, folder, v->q->adapter, err);
	if (s == OL_OK && !name) {
		s = ol_adapter_base(&v->home, base, folder, err);
		name = base;
	}
	if (s == OL_OK)
		s = ol_runtime_open(&v->model, &v->home, name, err);
	if (s == OL_OK)
		s = ol_runtime_need_tokenizer(&v->model, err);
	if (s == OL_OK && v->q->adapter)
		s = ol_runtime_adapt(&v->model, &v->home, v->q->adapter, err);
	return s;
}

static enum ol_status open_data(struct evaluating *v, struct ol_error *err)
{
	const struct ol_chat_format chat = ol_runtime_chat_format(&v->model);
	const int context = ol_model_config(v->model.model)->context_max;
	const struct ol_dataset_options options = {
		.max_length = v->q->max_length ? OL_MIN(v->q->max_length, context)
					       : OL_MIN(context, OL_EVAL_LENGTH),
		.threads = v->machine.threads};
	enum ol_status s = ol_dataset_open(&v->dataset, v->records, &chat, &options, err);
	if (s != OL_OK)
		return s;
	v->count = ol_dataset_count(v->dataset);
	v->examples = calloc(v->count + 1, sizeof *v->examples);
	v->nats = calloc(v->count + 1, sizeof *v->nats);
	v->answers = calloc(v->count + 1, sizeof *v->answers);
	v->asked = calloc(v->count + 1, sizeof *v->asked);
	v->right = calloc(v->count + 1, sizeof *v->right);
	if (!v->examples || !v->nats || !v->answers || !v->asked || !v->right)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %zu examples", v->count);
	for (size_t i = 0; i < v->count; i++) {
		v->examples[i] = ol_dataset_at(v->dataset, i);
		ol_buf_init(&v->answers[i], OL_ANSWER_TEXT_MAX);
	}
	return OL_OK;
}

static enum ol_status progress(const struct evaluating *v, size_t done, bool answering,
			       struct ol_error *err)
{
	if (!v->q->progress || v->q->progress(v->q->context, done, v->count, answering))
		return OL_OK;
	return ol_fail(err, OL_ERR_CANCELLED, "the evaluation was stopped");
}

static enum ol_status measure_losses(struct evaluating *v, struct ol_error *err)
{
	const struct ol_config *config = ol_model_config(v->model.model);
	const struct ol_adapter_view *view = ol_runtime_adapter(&v->model);
	const int rows = OL_MAX(ol_dataset_longest(v->dataset), ROWS);
	const struct ol_tape_options options = {.kernels = v->machine.kernels,
						.threads = v->machine.threads,
						.rows_max = rows,
						.rank_max = view ? view->rank_max : 0,
						.recompute = true};
	struct ol_tape *tape;
	enum ol_status s =
		ol_tape_open(&tape, config, ol_model_weights(v->model.model), &options, err);
	if (s != OL_OK)
		return s;
	for (size_t at = 0; at < v->count && s == OL_OK; at += WAVE) {
		s = ol_answer_nats(tape, rows, view, v->examples + at,
				   OL_MIN(v->count - at, (size_t)WAVE), v->nats + at, err);
		if (s == OL_OK)
			s = progress(v, OL_MIN(at + WAVE, v->count), false, err);
	}
	ol_tape_close(tape);
	return s;
}

/* The last example of a conversation holds its last answer; texts ask nothing. */
static bool is_question(const struct evaluating *v, size_t i)
{
	const struct ol_record *record = v->examples[i]->record;
	return record->turns[0].role != OL_ROLE_TEXT && !v->examples[i]->truncated &&
	       (i + 1 == v->count || v->examples[i + 1]->record != record);
}

static enum ol_status ask_all(struct evaluating *v, struct ol_error *err)
{
	struct ol_engine_options options = v->machine;
	struct ol_engine *engine;
	const int context = ol_model_config(v->model.model)->context_max;
	options.kv_positions = OL_MIN(ol_dataset_longest(v->dataset) + ANSWER_MAX + 1, context);
	enum ol_status s = ol_engine_open(&engine, v->model.model, &options, err);
	if (s != OL_OK)
		return s;
	for (size_t i = 0; i < v->count && s == OL_OK; i++) {
		const struct ol_greedy greedy = {
			.engine = engine,
			.tokenizer = v->model.tokenizer,
			.adapter = ol_runtime_adapter(&v->model),
			.max_tokens =
				OL_MIN(v->examples[i]->answer_tokens + ANSWER_MORE, ANSWER_MAX)};
		struct ol_buf *answer = &v->answers[i];
		if (!is_question(v, i))
			continue;
		s = ol_greedy_answer(answer, &greedy, v->examples[i], err);
		v->asked[i] = true;
		v->right[i] =
			s == OL_OK && answer->data &&
			ol_answer_is_right(answer->data, answer->size, v->examples[i]->record);
		if (s == OL_OK)
			s = progress(v, i + 1, true, err);
	}
	ol_engine_close(engine);
	return s;
}

static void add_example(struct ol_eval_sums *sums, const struct evaluating *v, size_t i)
{
	const struct ol_example *e = v->examples[i];
	sums->examples++;
	sums->tokens += (uint64_t)e->answer_tokens;
	sums->bytes += e->answer_bytes;
	sums->nats += v->nats[i];
	sums->asked += v->asked[i];
	sums->right += v->right[i];
}

/* Contributors are few; their names are kept once by the records, so pointers tell them apart. */
static struct ol_eval_sums *sums_of(struct ol_eval *eval, const char *contributor, size_t *room)
{
	for (size_t i = 0; i < eval->contributor_count; i++)
		if (eval->contributors[i].contributor == contributor)
			return &eval->contributors[i];
	if (eval->contributor_count == *room) {
		*room = OL_MAX(2 * *room, (size_t)16);
		void *grown = realloc(eval->contributors, *room * sizeof *eval->contributors);
		if (!grown)
			return NULL;
		eval->contributors = grown;
	}
	struct ol_eval_sums *sums = &eval->contributors[eval->contributor_count++];
	*sums = (struct ol_eval_sums){.contributor = contributor};
	return sums;
}

static bool sum_up(struct evaluating *v)
{
	struct ol_eval *eval = v->eval;
	size_t room = 0, bytes = 1;
	for (size_t i = 0; i < v->count; i++) {
		struct ol_eval_sums *sums = sums_of(eval, v->examples[i]->contributor, &room);
		if (!sums)
			return false;
		add_example(&eval->total, v, i);
		add_example(sums, v, i);
	}
	eval->truncated = ol_dataset_truncated(v->dataset);
	/* The records go; the names stay. */
	for (size_t i = 0; i < eval->contributor_count; i++)
		bytes += strlen(eval->contributors[i].contributor) + 1;
	char *at = eval->names = malloc(bytes);
	for (size_t i = 0; at && i < eval->contributor_count; i++) {
		const size_t size = strlen(eval->contributors[i].contributor) + 1;
		memcpy(at, eval->contributors[i].contributor, size);
		eval->contributors[i].contributor = at;
		at += size;
	}
	return at != NULL;
}

static json_t *example_json(const struct evaluating *v, size_t i)
{
	const struct ol_example *e = v->examples[i];
	const struct ol_buf *answer = &v->answers[i];
	json_t *line = json_pack("{s:s, s:s, s:s, s:I, s:f, s:i, s:i}", "id", e->id, "contributor",
				 e->contributor, "file", e->record->file, "line",
				 (json_int_t)e->record->line, "nats", v->nats[i], "answer_tokens",
				 e->answer_tokens, "answer_bytes", (int)e->answer_bytes);
	if (line && v->asked[i]) {
		json_object_set_new(line, "answer",
				    json_stringn(answer->data ? answer->data : "", answer->size));
		json_object_set_new(line, "right", json_boolean(v->right[i]));
	}
	return line;
}

static enum ol_status write_examples(const struct evaluating *v, struct ol_error *err)
{
	struct ol_writer *writer;
	enum ol_status s = ol_writer_open(&writer, v->q->per_example, err);
	if (s != OL_OK)
		return s;
	for (size_t i = 0; i < v->count && s == OL_OK; i++) {
		json_t *line = example_json(v, i);
		char *text = line ? json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER |
							     JSON_REAL_PRECISION(9))
				  : NULL;
		s = text ? ol_writer_append(writer, text, strlen(text), err)
			 : ol_fail(err, OL_ERR_FULL, "out of memory for %s", v->q->per_example);
		if (s == OL_OK)
			s = ol_writer_append(writer, "\n", 1, err);
		free(text);
		json_decref(line);
	}
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

static void close_all(struct evaluating *v)
{
	for (size_t i = 0; v->answers && i < v->count; i++)
		ol_buf_release(&v->answers[i]);
	free(v->answers);
	free(v->asked);
	free(v->right);
	free(v->nats);
	free(v->examples);
	ol_dataset_close(v->dataset);
	ol_records_close(v->records);
	ol_runtime_close(&v->model);
}

enum ol_status ol_evaluate(struct ol_eval *eval, const struct ol_eval_request *request,
			   struct ol_error *err)
{
	struct evaluating v = {.q = request, .eval = eval};
	const double start = ol_clock_seconds();
	*eval = (struct ol_eval){0};
	enum ol_status s = ol_runtime_environment(&v.machine, err);
	if (s == OL_OK)
		s = ol_home_open(&v.home, err);
	if (s == OL_OK)
		s = ol_records_open(&v.records, request->data, request->data_count, request->format,
				    err);
	if (s == OL_OK)
		s = open_model(&v, err);
	if (s == OL_OK)
		s = open_data(&v, err);
	if (s == OL_OK)
		s = measure_losses(&v, err);
	if (s == OL_OK && request->answers)
		s = ask_all(&v, err);
	if (s == OL_OK && request->per_example)
		s = write_examples(&v, err);
	if (s == OL_OK && !sum_up(&v))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the evaluation");
	eval->seconds = ol_clock_seconds() - start;
	close_all(&v);
	if (s != OL_OK)
		ol_eval_release(eval);
	return s;
}

void ol_eval_release(struct ol_eval *eval)
{
	free(eval->contributors);
	free(eval->names);
	*eval = (struct ol_eval){0};
}
