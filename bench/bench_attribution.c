/* Does influence predict what retraining does? The kill test of Proof of Attribution.
 *
 * usage: bench_attribution -m BASE -d DATA --queries DATA [options]; --help lists them.
 *
 * One adapter is trained on all the examples. Influence of every example on every query is computed
 * from it alone. Then adapters are trained on random subsets, and what each query's loss really
 * became is compared with what the scores say: the linear datamodeling score (LDS; Park et al.,
 * 2023), Spearman's rank correlation over subsets, averaged over queries. The number of optimiser
 * steps is the same for all subsets. Each subset is trained twice, in two orders: how well one
 * retraining predicts the other is the ceiling.
 *
 * Retraining takes the time; each result is kept in the --runs folder and not computed again. */
#include "attrib/fidelity.h"
#include "attrib/influence.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/options.h"
#include "math/functions.h"
#include "model/sampler.h"
#include "node/runtime.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct study {
	const char *base, *runs;
	struct ol_texts data, queries;
	int subsets, steps, rank, batch, max_length, draws, threads, example_max, query_max;
	float alpha, kept, rate, damping;
	bool standard, fresh; /* A trained too; A drawn anew for every run */

	struct ol_runtime runtime;
	struct ol_records *train_records, *query_records;
	struct ol_dataset *train_data, *query_data;
	const struct ol_example **train, **asked;
	struct ol_tape *tape;
	size_t examples, asks;
	int rows_max;
};

#define TRY(call)                                                                                  \
	do {                                                                                       \
		const enum ol_status try_status = (call);                                          \
		if (try_status != OL_OK)                                                           \
			return try_status;                                                         \
	} while (0)

/* --- running -------------------------------------------------------------------- */

static void configure(const struct study *s, struct ol_train_config *config, uint64_t order)
{
	ol_train_defaults(config, OL_TRAIN_LORA, ol_model_config(s->runtime.model), s->examples,
			  1.0);
	config->steps = s->steps;
	config->rank = s->rank;
	config->alpha = s->alpha * (float)s->rank;
	config->batch = s->batch;
	config->max_length = s->max_length;
	config->warmup = s->steps / 20;
	config->learning_rate = s->rate;
	config->attributable = !s->standard;
	config->seed = order;
	config->eval_fraction = 0.0f;
	config->eval_every = 0;
	if (s->fresh)
		config->init_seed = 1000 + order;
}

/* An adapter from the examples that `keep` names (NULL: all). */
static enum ol_status train(const struct study *s, const uint8_t *keep, uint64_t order,
			    struct ol_trainer **trainer_out, struct ol_error *err)
{
	const struct ol_train_options options = {.threads = s->threads};
	struct ol_train_config config;
	struct ol_step_report report;
	struct ol_examples examples = {0};
	struct ol_example *at = malloc(s->examples * sizeof *at);
	configure(s, &config, order);
	for (size_t i = 0; i < s->examples; i++)
		if (!keep || keep[i])
			at[examples.count++] = *s->train[i];
	examples.at = at;
	enum ol_status status = ol_trainer_open_examples(trainer_out, s->runtime.model, &examples,
							 &config, &options, err);
	free(at);
	while (status == OL_OK && !ol_trainer_finished(*trainer_out))
		status = ol_trainer_step(*trainer_out, &report, err);
	return status;
}

/* losses: nats of each query's answer. */
static enum ol_status ask(const struct study *s, const struct ol_adapter *adapter, float *losses,
			  struct ol_error *err)
{
	double *nats = malloc(s->asks * sizeof *nats);
	const enum ol_status status = ol_answer_nats(
		s->tape, s->rows_max, ol_adapter_views(adapter), s->asked, s->asks, nats, err);
	for (size_t q = 0; status == OL_OK && q < s->asks; q++)
		losses[q] = (float)nats[q];
	free(nats);
	return status;
}

static enum ol_status keep_losses(const char *path, const float *losses, size_t count,
				  struct ol_error *err)
{
	struct ol_writer *writer;
	TRY(ol_writer_open(&writer, path, err));
	const enum ol_status status = ol_writer_append(writer, losses, count * sizeof *losses, err);
	if (status == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return status;
}

static bool kept_losses(const char *path, float *losses, size_t count)
{
	struct ol_map map;
	if (ol_map_open(&map, path, NULL) != OL_OK)
		return false;
	const bool right = map.size == count * sizeof *losses;
	if (right)
		memcpy(losses, map.data, map.size);
	ol_map_close(&map);
	return right;
}

/* The queries' losses after training on a subset in an order. */
static enum ol_status retrain(const struct study *s, int subset, uint64_t order, float *losses,
			      struct ol_error *err)
{
	char path[OL_PATH_MAX];
	(void)snprintf(path, sizeof path, "%s/%s-%g-%d-%llu.losses", s->runs,
		       s->fresh      ? "fresh"
		       : s->standard ? "standard"
				     : "frozen",
		       (double)s->kept, subset, (unsigned long long)order);
	if (kept_losses(path, losses, s->asks))
		return OL_OK;
	uint8_t *keep = malloc(s->examples);
	struct ol_trainer *trainer = NULL;
	struct ol_adapter *adapter = NULL;
	if (!ol_subset_draw(keep, s->examples, (uint32_t)subset, (double)s->kept))
		return ol_fail(err, OL_ERR_FULL, "out of memory for a subset");
	enum ol_status status = train(s, keep, order, &trainer, err);
	if (status == OL_OK)
		status = ol_trainer_adapter(trainer, &adapter, err);
	if (status == OL_OK)
		status = ask(s, adapter, losses, err);
	if (status == OL_OK)
		status = keep_losses(path, losses, s->asks, err);
	ol_adapter_close(adapter);
	ol_trainer_close(trainer);
	free(keep);
	return status;
}

/* --- scores --------------------------------------------------------------------- */

/* Labels drawn from the model at every target of an example. */
static enum ol_status draw_labels(const struct study *s, const struct ol_adapter *adapter,
				  const struct ol_sequence *sequence, uint32_t index, uint32_t draw,
				  struct ol_sampler *sampler, float *logits, int32_t *labels,
				  struct ol_error *err)
{
	const int vocab = ol_model_config(s->runtime.model)->vocab_size;
	const struct ol_sampling sampling = {.temperature = 1.0f,
					     .top_p = 1.0f,
					     .repeat_penalty = 1.0f,
					     .seed = draw,
					     .choice = index};
	struct ol_session *session;
	TRY(ol_session_open(&session, s->runtime.engine));
	struct ol_run run = {.session = session,
			     .tokens = sequence->tokens,
			     .count = sequence->count,
			     .want = OL_LOGITS_ALL,
			     .logits = logits,
			     .adapter = ol_adapter_views(adapter)};
	const enum ol_status status = ol_engine_step(s->runtime.engine, &run, 1, err);
	for (int t = 0; status == OL_OK && t < sequence->count; t++)
		labels[t] = sequence->targets[t] < 0
				    ? -1
				    : ol_sampler_choose(sampler, logits + (size_t)t * (size_t)vocab,
							&sampling, (uint32_t)t, sequence->tokens,
							t + 1, 0, NULL);
	ol_session_close(session);
	return status;
}

/* One backward pass over sequences already gathered, every target with weight 1. */
static enum ol_status backward(const struct study *s, const struct ol_adapter *adapter,
			       const struct ol_sequence *batch, int count,
			       struct ol_influence *influence, struct ol_error *err)
{
	const struct ol_micro_batch micro = {batch, count, ol_adapter_views(adapter), NULL};
	float *ones = malloc((size_t)s->rows_max * sizeof *ones);
	for (int i = 0; i < s->rows_max; i++)
		ones[i] = 1.0f;
	const struct ol_tape_backward request = {
		.row_weights = ones, .observe = ol_influence_observe, .context = influence};
	enum ol_status status = ol_tape_forward(s->tape, &micro, err);
	if (status == OL_OK)
		status = ol_tape_backward(s->tape, &request, err);
	free(ones);
	return status;
}

/* FACTORS or EIGENVALUES over the training examples; drawn: with the model's labels, else with
 * those of the data (the empirical Fisher). */
static enum ol_status curvature(const struct study *s, const struct ol_adapter *adapter,
				struct ol_influence *influence, bool drawn, double *tokens_out,
				struct ol_error *err)
{
	const size_t vocab = (size_t)ol_model_config(s->runtime.model)->vocab_size;
	float *logits = malloc((size_t)s->max_length * vocab * sizeof *logits);
	int32_t *labels = malloc((size_t)s->max_length * sizeof *labels);
	struct ol_sampler *sampler = NULL;
	enum ol_status status =
		ol_sampler_open(&sampler, ol_engine_kernels(s->runtime.engine), (int)vocab);
	*tokens_out = 0.0;
	for (int draw = 0; draw < (drawn ? s->draws : 1); draw++) {
		for (size_t i = 0; status == OL_OK && i < s->examples; i++) {
			struct ol_sequence sequence = s->train[i]->sequence;
			if (drawn) {
				status = draw_labels(s, adapter, &sequence, (uint32_t)i,
						     (uint32_t)draw, sampler, logits, labels, err);
				sequence.targets = labels;
			}
			if (status == OL_OK)
				status = backward(s, adapter, &sequence, 1, influence, err);
			*tokens_out += s->train[i]->answer_tokens;
		}
	}
	ol_sampler_close(sampler);
	free(labels);
	free(logits);
	return status;
}

/* rows (count of the dataset, floats): the gradient of every example. */
static enum ol_status gradients(const struct study *s, const struct ol_adapter *adapter,
				struct ol_influence *influence,
				const struct ol_example *const *examples, size_t count, float *rows,
				struct ol_error *err)
{
	const size_t floats = ol_influence_floats(influence);
	enum ol_status status = OL_OK;
	for (size_t i = 0; status == OL_OK && i < count; i++) {
		const struct ol_sequence *sequence = &examples[i]->sequence;
		float *const out = rows + i * floats;
		const int length = sequence->count;
		ol_influence_collect(influence, &out, &length, 1);
		status = backward(s, adapter, sequence, 1, influence, err);
	}
	return status;
}

/* scores (queries, examples) = asked . examples */
static void dot_rows(double *scores, const float *asked, const float *examples, size_t queries,
		     size_t count, size_t floats)
{
	for (size_t q = 0; q < queries; q++)
		for (size_t i = 0; i < count; i++) {
			const float *a = asked + q * floats, *b = examples + i * floats;
			float lane[16] = {0};
			size_t k = 0;
			for (; k + 16 <= floats; k += 16)
				for (size_t j = 0; j < 16; j++)
					lane[j] += a[k + j] * b[k + j];
			double sum = 0.0;
			for (; k < floats; k++)
				sum += (double)a[k] * b[k];
			for (size_t j = 0; j < 16; j++)
				sum += (double)lane[j];
			scores[q * count + i] = sum;
		}
}

enum method { PLAIN, EMPIRICAL, TRUE_FISHER, TRUE_FISHER_ADAM, BM25, METHODS };
static const char *const method_names[METHODS] = {"gradient dot product", "empirical Fisher",
						  "true Fisher", "true Fisher, Adam coordinates",
						  "BM25"};

static enum ol_status influence_scores(const struct study *s, enum method method,
				       const struct ol_adapter *adapter,
				       const float *const *moments, double *scores,
				       struct ol_error *err)
{
	const struct ol_influence_options options = {
		.threads = ol_tape_threads(s->tape),
		.rows_max = s->rows_max,
		.second_moments = method == TRUE_FISHER_ADAM ? moments : NULL};
	struct ol_influence *influence;
	double tokens;
	TRY(ol_influence_open(&influence, ol_model_config(s->runtime.model),
			      ol_adapter_views(adapter), &options, err));
	const size_t floats = ol_influence_floats(influence);
	float *rows = malloc((s->examples + s->asks) * floats * sizeof *rows);
	enum ol_status status = OL_OK;
	if (method != PLAIN) {
		ol_influence_begin(influence, OL_INFLUENCE_FACTORS);
		status = curvature(s, adapter, influence, method != EMPIRICAL, &tokens, err);
		if (status == OL_OK)
			status = ol_influence_factorise(influence, err);
		ol_influence_begin(influence, OL_INFLUENCE_EIGENVALUES);
		if (status == OL_OK)
			status =
				curvature(s, adapter, influence, method != EMPIRICAL, &tokens, err);
		if (status == OL_OK)
			ol_influence_precondition(influence, tokens, (double)s->damping);
	}
	ol_influence_begin(influence,
			   method == PLAIN ? OL_INFLUENCE_PLAIN : OL_INFLUENCE_GRADIENTS);
	if (status == OL_OK)
		status = gradients(s, adapter, influence, s->train, s->examples, rows, err);
	if (status == OL_OK)
		status = gradients(s, adapter, influence, s->asked, s->asks,
				   rows + s->examples * floats, err);
	if (status == OL_OK)
		dot_rows(scores, rows + s->examples * floats, rows, s->asks, s->examples, floats);
	free(rows);
	ol_influence_close(influence);
	return status;
}

/* Okapi BM25 (k1 1.2, b 0.75) over token ids, a query against whole examples. */
static void bm25_scores(const struct study *s, double *scores)
{
	const size_t vocab = (size_t)ol_model_config(s->runtime.model)->vocab_size;
	double *idf = calloc(vocab, sizeof *idf), *counts = calloc(vocab, sizeof *counts);
	double mean = 0.0;
	for (size_t i = 0; i < s->examples; i++) {
		const struct ol_sequence *e = &s->train[i]->sequence;
		mean += (double)e->count / (double)s->examples;
		for (int t = 0; t < e->count; t++)
			counts[e->tokens[t]] = (double)i + 1.0;
		for (int t = 0; t < e->count; t++)
			if (counts[e->tokens[t]] == (double)i + 1.0) {
				idf[e->tokens[t]]++;
				counts[e->tokens[t]] = 0.0;
			}
	}
	for (size_t v = 0; v < vocab; v++)
		idf[v] = log(((double)s->examples - idf[v] + 0.5) / (idf[v] + 0.5) + 1.0);
	for (size_t i = 0; i < s->examples; i++) {
		const struct ol_sequence *e = &s->train[i]->sequence;
		const double length = 1.2 * (0.25 + 0.75 * e->count / mean);
		memset(counts, 0, vocab * sizeof *counts);
		for (int t = 0; t < e->count; t++)
			counts[e->tokens[t]]++;
		for (size_t q = 0; q < s->asks; q++) {
			const struct ol_sequence *ask = &s->asked[q]->sequence;
			double sum = 0.0;
			for (int t = 0; t < ask->count; t++) {
				const double n = counts[ask->tokens[t]];
				sum += idf[ask->tokens[t]] * n * 2.2 / (n + length);
			}
			scores[q * s->examples + i] = sum;
		}
	}
	free(idf);
	free(counts);
}

/* --- how well they predict ------------------------------------------------------- */

/* LDS of scores against losses (subsets, queries); score NULL: against other losses. */
static double lds(const struct study *s, const double *scores, const float *other,
		  const float *losses)
{
	double *predicted = malloc(2 * (size_t)s->subsets * sizeof *predicted);
	double *real = predicted + s->subsets, sum = 0.0;
	uint8_t *keep = malloc((size_t)s->subsets * s->examples);
	for (int m = 0; m < s->subsets; m++)
		OL_ASSERT(ol_subset_draw(keep + (size_t)m * s->examples, s->examples, (uint32_t)m,
					 (double)s->kept));
	for (size_t q = 0; q < s->asks; q++) {
		for (int m = 0; m < s->subsets; m++) {
			real[m] = -(double)losses[(size_t)m * s->asks + q];
			predicted[m] = other ? -(double)other[(size_t)m * s->asks + q] : 0.0;
			for (size_t i = 0; !other && i < s->examples; i++)
				if (keep[(size_t)m * s->examples + i])
					predicted[m] += scores[q * s->examples + i];
		}
		sum += ol_spearman(predicted, real, (size_t)s->subsets) / (double)s->asks;
	}
	free(keep);
	free(predicted);
	return sum;
}

static enum ol_status measure(struct study *s, struct ol_error *err)
{
	const size_t cells = (size_t)s->subsets * s->asks;
	float *first = malloc(2 * cells * sizeof *first), *second = first + cells;
	double *scores = malloc(s->asks * s->examples * sizeof *scores);
	struct ol_trainer *trainer = NULL;
	struct ol_adapter *adapter = NULL;
	const double start = ol_clock_seconds();
	TRY(train(s, NULL, 1, &trainer, err));
	TRY(ol_trainer_adapter(trainer, &adapter, err));
	printf("trained on all %zu examples: %d steps, %.1f s\n", s->examples, s->steps,
	       ol_clock_seconds() - start);
	for (int m = 0; m < s->subsets; m++) {
		TRY(retrain(s, m, 1, first + (size_t)m * s->asks, err));
		TRY(retrain(s, m, 2, second + (size_t)m * s->asks, err));
		printf("\rsubset %d of %d, %.0f s", m + 1, s->subsets, ol_clock_seconds() - start);
		(void)fflush(stdout);
	}
	const double ceiling = lds(s, NULL, second, first);
	printf("\nretrain against retrain %.3f: the best possible LDS is about %.3f\n", ceiling,
	       sqrt(OL_MAX(ceiling, 0.0)));
	const float **moments =
		calloc((size_t)ol_linear_count(ol_model_config(s->runtime.model)), sizeof *moments);
	for (int i = 0; i < ol_linear_count(ol_model_config(s->runtime.model)); i++)
		moments[i] = ol_trainer_second_moment(trainer, i);
	for (enum method method = PLAIN; method < METHODS; method++) {
		const double began = ol_clock_seconds();
		if (method == BM25)
			bm25_scores(s, scores);
		else
			TRY(influence_scores(s, method, adapter, moments, scores, err));
		printf("%-32s LDS %.3f / %.3f   (%.1f s)\n", method_names[method],
		       lds(s, scores, NULL, first), lds(s, scores, NULL, second),
		       ol_clock_seconds() - began);
	}
	free((void *)moments);
	free(scores);
	free(first);
	ol_adapter_close(adapter);
	ol_trainer_close(trainer);
	return OL_OK;
}

/* --- setting up ------------------------------------------------------------------ */

/* At most `most` examples of what the files hold, evenly spread over them. */
static enum ol_status open_data(struct study *s, const struct ol_texts *paths, size_t most,
				struct ol_records **records, struct ol_dataset **data,
				const struct ol_example ***out, size_t *count_out,
				struct ol_error *err)
{
	const struct ol_chat_format chat = {.tokenizer = s->runtime.tokenizer,
					    .chat = s->runtime.chat,
					    .config = ol_model_config(s->runtime.model),
					    .now = OL_CHAT_TRAINING_NOW};
	const struct ol_dataset_options options = {.max_length = s->max_length};
	TRY(ol_records_open(records, paths->values, paths->count, OL_DATA_AUTO, err));
	TRY(ol_dataset_open(data, *records, &chat, &options, err));
	const size_t all = ol_dataset_count(*data), count = OL_MIN(all, most);
	*out = malloc(count * sizeof **out);
	for (size_t i = 0; i < count; i++)
		(*out)[i] = ol_dataset_at(*data, i * all / count);
	*count_out = count;
	return OL_OK;
}

static enum ol_status open_study(struct study *s, struct ol_error *err)
{
	struct ol_home home;
	TRY(ol_home_open(&home, err));
	TRY(ol_runtime_open(&s->runtime, &home, s->base, err));
	const struct ol_engine_options engine = {.threads = s->threads,
						 .step_rows = s->max_length,
						 .kv_positions = 2 * s->max_length};
	TRY(ol_runtime_start(&s->runtime, &engine, err));
	TRY(open_data(s, &s->data, (size_t)s->example_max, &s->train_records, &s->train_data,
		      &s->train, &s->examples, err));
	TRY(open_data(s, &s->queries, (size_t)s->query_max, &s->query_records, &s->query_data,
		      &s->asked, &s->asks, err));
	s->rows_max = OL_MAX(s->max_length, 512);
	const struct ol_tape_options tape = {
		.threads = s->threads, .rows_max = s->rows_max, .rank_max = s->rank};
	TRY(ol_tape_open(&s->tape, ol_model_config(s->runtime.model),
			 ol_model_weights(s->runtime.model), &tape, err));
	return ol_make_directories(s->runs, err);
}

int main(int argc, char **argv)
{
	struct study s = {.runs = "build/attribution-runs",
			  .subsets = 20,
			  .steps = 180,
			  .rank = 16,
			  .batch = 8,
			  .max_length = 128,
			  .draws = 4,
			  .example_max = 480,
			  .query_max = 100,
			  .alpha = 2.0f,
			  .kept = 0.5f,
			  .rate = 2e-3f,
			  .damping = 0.1f};
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', s.base, "NAME", "the base"),
		OL_TEXTS("data", 'd', s.data, "PATH", "training examples"),
		OL_TEXTS("queries", 'q', s.queries, "PATH", "questions not sampled from them"),
		OL_TEXT("runs", 0, s.runs, "DIR", "where retrainings are kept"),
		OL_NUMBER(INT, "subsets", 0, s.subsets, "M", 2, 10000, "random subsets"),
		OL_NUMBER(FLOAT, "kept", 0, s.kept, "PART", 0.01, 0.99, "part of each subset"),
		OL_NUMBER(INT, "steps", 0, s.steps, "N", 1, 1000000, "of the optimiser"),
		OL_NUMBER(INT, "rank", 0, s.rank, "R", 1, 512, "of the adapter"),
		OL_NUMBER(INT, "batch", 0, s.batch, "N", 1, 4096, "examples a step"),
		OL_NUMBER(INT, "max-length", 0, s.max_length, "N", 8, 8192, "tokens an example"),
		OL_NUMBER(INT, "examples", 0, s.example_max, "N", 2, 1000000, "at most"),
		OL_NUMBER(INT, "asked", 0, s.query_max, "N", 1, 1000000, "queries at most"),
		OL_NUMBER(INT, "draws", 0, s.draws, "N", 1, 64, "of labels per token"),
		OL_NUMBER(FLOAT, "lr", 0, s.rate, "X", 1e-8, 1, "learning rate"),
		OL_NUMBER(FLOAT, "damping", 0, s.damping, "X", 0, 1000, "of the curvature"),
		OL_NUMBER(INT, "threads", 0, s.threads, "N", 0, 256, "0: all"),
		OL_FLAG("standard", 0, s.standard, "train A too"),
		OL_FLAG("fresh", 0, s.fresh, "draw A anew for every order"),
	};
	const struct ol_command_line line = {.command = "bench_attribution",
					     .usage = "-m BASE -d DATA -q QUERIES [options]",
					     .about = "Influence scores against retraining.",
					     .options = options,
					     .option_count = (int)OL_ARRAY_LEN(options)};
	struct ol_error err = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : OL_ERR_INPUT;
	enum ol_status status = open_study(&s, &err);
	if (status == OL_OK)
		status = measure(&s, &err);
	if (status != OL_OK)
		(void)fprintf(stderr, "bench_attribution: %s\n", err.text);
	return (int)status;
}
