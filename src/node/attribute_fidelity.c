/* Do an adapter's scores foretell what retraining does? */
#include "node/attribute_study_internal.h"

#include "attrib/answer.h"
#include "attrib/fidelity.h"
#include "base/clock.h"
#include "base/file.h"
#include "math/functions.h"
#include "node/adapters.h"
#include "node/attribute_index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUBSETS_MIN = 3, COALITION_PLAYERS = 8, RANDOM_REMOVALS = 2, MANY = 1 << 20 };

struct measuring {
	struct ol_study study;
	const struct ol_fidelity_request *q;
	struct ol_fidelity *out;
	char folder[OL_PATH_MAX]; /* kept losses */
	double started;
	struct ol_index *index;
	struct ol_records *query_records;
	struct ol_dataset *query_data;
	const struct ol_example **queries; /* (out->queries) */
	uint32_t *trained;                 /* (out->examples) the dataset's index of each */
	double *scores;                    /* (queries, examples)                         */
	double *lexical;                   /* the same, BM25                              */
	double *losses[2];                 /* (subsets, queries) by order                 */
	int subsets;                       /* that were retrained in both orders          */
};

/* ---- Questions ------------------------------------------------------------------------------ */

/* One answer, at the end: what an attribution is of. */
static bool is_question(const struct ol_sequence *e)
{
	int t = 0;
	while (t < e->count && e->targets[t] < 0)
		t++;
	if (t == e->count)
		return false;
	while (t < e->count && e->targets[t] >= 0)
		t++;
	return t == e->count;
}

static enum ol_status open_queries(struct measuring *m, struct ol_error *err)
{
	const struct ol_provenance *p = &m->study.from;
	const struct ol_chat_format chat = ol_runtime_chat_format(&p->base);
	const struct ol_dataset_options options = {.max_length = p->manifest.config.max_length,
						   .loss_on_prompt = p->manifest.loss_on_prompt,
						   .single_text = p->manifest.single_text,
						   .threads = m->study.machine.threads};
	enum ol_status s = OL_OK;
	if (m->q->query_count > 0) {
		s = ol_records_open(&m->query_records, m->q->queries, m->q->query_count,
				    OL_DATA_AUTO, err);
		if (s == OL_OK)
			s = ol_dataset_open(&m->query_data, m->query_records, &chat, &options, err);
	}
	if (s != OL_OK)
		return s;
	const struct ol_dataset *data = m->query_data ? m->query_data : p->dataset;
	const size_t all = ol_dataset_count(data);
	m->queries = calloc(all + 1, sizeof *m->queries);
	if (!m->queries)
		return ol_fail(err, OL_ERR_FULL, "out of memory for questions");
	for (size_t i = 0; i < all && m->out->queries < OL_FIDELITY_QUERIES; i++)
		if ((m->query_data || m->study.held_out[i]) &&
		    is_question(&ol_dataset_at(data, i)->sequence))
			m->queries[m->out->queries++] = ol_dataset_at(data, i);
	return m->out->queries >= 2
		       ? OL_OK
		       : ol_fail(err, OL_ERR_INPUT,
				 "\"%s\" was trained without held-out examples: give questions and "
				 "answers that it did not see with --queries",
				 m->q->adapter);
}

static enum ol_status list_trained(struct measuring *m, struct ol_error *err)
{
	m->trained = calloc(m->study.count + 1, sizeof *m->trained);
	if (!m->trained)
		return ol_fail(err, OL_ERR_FULL, "out of memory for examples");
	for (size_t i = 0; i < m->study.count; i++)
		if (!m->study.held_out[i])
			m->trained[m->out->examples++] = (uint32_t)i;
	return OL_OK;
}

/* ---- Scores --------------------------------------------------------------------------------- */

/* The index has the examples of the whole lineage; the run's own come last. */
static enum ol_status score(struct measuring *m, struct ol_error *err)
{
	const struct ol_index_content *c = ol_index_content(m->index);
	const size_t examples = m->out->examples;
	struct ol_attributor *attributor = NULL;
	double *all = malloc(((size_t)c->example_count + 1) * sizeof *all);
	if (!all || c->example_count < examples) {
		free(all);
		return ol_fail(err, OL_ERR_INPUT, "the index does not hold the run's examples");
	}
	const struct ol_attributor_options options = {
		.kernels = m->study.machine.kernels,
		.threads = m->study.machine.threads,
		.rows_max = m->study.rows_max,
		.rank_max = ol_adapter_views(m->study.adapter)->rank_max};
	enum ol_status s = ol_attributor_open(&attributor, m->study.from.base.model, &options, err);
	for (size_t i = 0; s == OL_OK && i < m->out->queries; i++) {
		struct ol_attribution result;
		/* Targets end the sequence; what stands before the first of them is the prompt. */
		const struct ol_sequence *e = &m->queries[i]->sequence;
		int prompt = 0;
		while (prompt < e->count && e->targets[prompt] < 0)
			prompt++;
		const struct ol_attribution_query q = {.index = m->index,
						       .adapter = m->study.adapter,
						       .prompt = e->tokens,
						       .prompt_count = prompt + 1,
						       .response = e->targets + prompt,
						       .response_count = e->count - prompt,
						       .scores = all};
		s = ol_attribute(attributor, &result, &q, 1, err);
		if (s == OL_OK)
			ol_attribution_release(&result);
		memcpy(m->scores + i * examples, all + (c->example_count - examples),
		       examples * sizeof *all);
	}
	ol_attributor_close(attributor);
	free(all);
	return s;
}

/* Okapi BM25 (k1 1.2, b 0.75) over token ids, the question with its answer against whole examples:
 * what no gradient is needed for. */
static bool score_lexical(struct measuring *m)
{
	const struct ol_dataset *data = m->study.from.dataset;
	const size_t vocab = (size_t)ol_model_config(m->study.from.base.model)->vocab_size;
	const size_t n = m->out->examples;
	double *idf = calloc(2 * vocab, sizeof *idf), mean = 0.0;
	if (!idf)
		return false;
	double *counts = idf + vocab;
	for (size_t i = 0; i < n; i++) {
		const struct ol_sequence *e = &ol_dataset_at(data, m->trained[i])->sequence;
		mean += (double)e->count / (double)n;
		for (int t = 0; t < e->count; t++) {
			idf[e->tokens[t]] += counts[e->tokens[t]] != (double)i + 1.0;
			counts[e->tokens[t]] = (double)i + 1.0;
		}
	}
	for (size_t v = 0; v < vocab; v++)
		idf[v] = ol_log(((double)n - idf[v] + 0.5) / (idf[v] + 0.5) + 1.0);
	for (size_t i = 0; i < n; i++) {
		const struct ol_sequence *e = &ol_dataset_at(data, m->trained[i])->sequence;
		const double length = 1.2 * (0.25 + 0.75 * e->count / mean);
		memset(counts, 0, vocab * sizeof *counts);
		for (int t = 0; t < e->count; t++)
			counts[e->tokens[t]]++;
		for (size_t k = 0; k < m->out->queries; k++) {
			const struct ol_sequence *ask = &m->queries[k]->sequence;
			double sum = 0.0;
			for (int t = 0; t < ask->count; t++) {
				const double there = counts[ask->tokens[t]];
				sum += idf[ask->tokens[t]] * there * 2.2 / (there + length);
			}
			m->lexical[k * n + i] = sum;
		}
	}
	free(idf);
	return true;
}

/* ---- Retraining ----------------------------------------------------------------------------- */

static bool late(const struct measuring *m)
{
	return m->q->seconds > 0 && ol_clock_seconds() - m->started > m->q->seconds;
}

static bool kept(const char *path, double *losses, size_t count)
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

static enum ol_status keep(const char *path, const double *losses, size_t count,
			   struct ol_error *err)
{
	struct ol_writer *writer;
	enum ol_status s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, losses, count * sizeof *losses, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

/* The questions' nats after training without some of the trained examples; drop (examples). */
static enum ol_status losses_without(struct measuring *m, double *losses, const uint8_t *drop,
				     uint64_t order, struct ol_error *err)
{
	struct ol_sha256 hash;
	uint8_t digest[OL_SHA256_BYTES];
	char name[2 * OL_SHA256_BYTES + 1], path[OL_PATH_MAX];
	OL_ASSERT(ol_sha256_init(&hash));
	ol_sha256_update(&hash, drop, m->out->examples);
	ol_sha256_update(&hash, &order, sizeof order);
	for (size_t i = 0; i < m->out->queries; i++)
		ol_sha256_update(&hash, m->queries[i]->id, strlen(m->queries[i]->id) + 1);
	ol_sha256_final(&hash, digest);
	ol_hex(name, digest, sizeof digest);
	enum ol_status s = ol_path_join(path, err, m->folder, "/", name);
	if (s != OL_OK)
		return s;
	if (kept(path, losses, m->out->queries)) {
		m->study.done++;
		return OL_OK;
	}
	bool *all = calloc(m->study.count + 1, sizeof *all);
	struct ol_adapter *adapter = NULL;
	if (!all)
		return ol_fail(err, OL_ERR_FULL, "out of memory for examples");
	for (size_t i = 0; i < m->out->examples; i++)
		all[m->trained[i]] = drop[i];
	s = ol_study_retrain(&m->study, &adapter, all, order, err);
	if (s == OL_OK)
		s = ol_study_nats(&m->study, losses, adapter, m->queries, m->out->queries, err);
	if (s == OL_OK)
		s = keep(path, losses, m->out->queries, err);
	m->out->retrained += s == OL_OK;
	ol_adapter_close(adapter);
	free(all);
	return s;
}

static enum ol_status draw(const struct measuring *m, uint8_t *drop, int subset,
			   struct ol_error *err)
{
	if (!ol_subset_draw(drop, m->out->examples, (uint32_t)subset, (double)m->q->alpha))
		return ol_fail(err, OL_ERR_FULL, "out of memory for a subset");
	for (size_t i = 0; i < m->out->examples; i++)
		drop[i] = !drop[i];
	return OL_OK;
}

static enum ol_status retrain_subsets(struct measuring *m, struct ol_error *err)
{
	uint8_t *drop = malloc(m->out->examples + 1);
	enum ol_status s = drop ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for subsets");
	for (int i = 0; s == OL_OK && i < m->q->subsets && !late(m); i++) {
		s = draw(m, drop, i, err);
		for (uint64_t order = 0; s == OL_OK && order < 2; order++)
			s = losses_without(m, m->losses[order] + (size_t)i * m->out->queries, drop,
					   order, err);
		m->subsets += s == OL_OK;
	}
	free(drop);
	if (s == OL_OK && m->subsets < SUBSETS_MIN)
		s = ol_fail(err, OL_ERR_INPUT,
			    "only %d subsets in the given time: at least %d are needed; what was "
			    "trained is kept, the same command goes on",
			    m->subsets, SUBSETS_MIN);
	return s;
}

/* ---- What it comes to ----------------------------------------------------------------------- */

/* The linear datamodeling score (Park et al., 2023): the rank correlation, over subsets, of the sum
 * of scores with what the question's loss became, averaged over questions and both orders. */
static enum ol_status correlate(const struct measuring *m, double *lds, const double *scores,
				struct ol_error *err)
{
	const size_t subsets = (size_t)m->subsets, examples = m->out->examples;
	double *predicted = malloc((2 * subsets + 1) * sizeof *predicted);
	double *real = predicted + subsets;
	uint8_t *drop = malloc(subsets * examples + 1);
	enum ol_status s =
		predicted && drop ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for ranks");
	*lds = 0.0;
	for (size_t i = 0; s == OL_OK && i < subsets; i++)
		s = draw(m, drop + i * examples, (int)i, err);
	for (size_t k = 0; s == OL_OK && k < m->out->queries; k++)
		for (int order = 0; order < 2; order++) {
			for (size_t i = 0; i < subsets; i++) {
				predicted[i] =
					scores ? 0.0 : -m->losses[!order][i * m->out->queries + k];
				for (size_t e = 0; scores && e < examples; e++)
					if (!drop[i * examples + e])
						predicted[i] += scores[k * examples + e];
				real[i] = -m->losses[order][i * m->out->queries + k];
			}
			*lds += ol_spearman(predicted, real, subsets) /
				(2.0 * (double)m->out->queries);
		}
	free(predicted);
	free(drop);
	return s;
}

struct total {
	double score;
	size_t example;
};

static int by_score(const void *a, const void *b)
{
	const struct total *x = a, *y = b;
	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->example < y->example ? -1 : x->example > y->example;
}

static double mean_of(const double *values, size_t n)
{
	double sum = 0.0;
	for (size_t i = 0; i < n; i++)
		sum += values[i] / (double)n;
	return sum;
}

/* How much more it hurts to lose the best hundredth of the examples than a random one. */
static enum ol_status removal(struct measuring *m, struct ol_error *err)
{
	const size_t n = m->out->examples, gone = OL_MAX(n / 100, (size_t)1);
	struct total *totals = calloc(n, sizeof *totals);
	uint8_t *drop = calloc(n, 1);
	double *losses = malloc((m->out->queries + 1) * sizeof *losses);
	double whole = 0.0, best = 0.0, random = 0.0;
	enum ol_status s = totals && drop && losses ? losses_without(m, losses, drop, 0, err)
						    : ol_fail(err, OL_ERR_FULL,
							      "out of memory for the removal test");
	if (s == OL_OK)
		whole = mean_of(losses, m->out->queries);
	for (size_t e = 0; s == OL_OK && e < n; e++) {
		totals[e].example = e;
		for (size_t k = 0; k < m->out->queries; k++)
			totals[e].score += m->scores[k * n + e];
	}
	if (s == OL_OK) {
		qsort(totals, n, sizeof *totals, by_score);
		for (size_t i = 0; i < gone; i++)
			drop[totals[i].example] = 1;
		s = losses_without(m, losses, drop, 0, err);
		best = s == OL_OK ? mean_of(losses, m->out->queries) - whole : 0.0;
	}
	for (uint32_t i = 0; s == OL_OK && i < RANDOM_REMOVALS; i++) {
		if (!ol_subset_draw(drop, n, MANY + i, (double)gone / (double)n))
			s = ol_fail(err, OL_ERR_FULL, "out of memory for a subset");
		if (s == OL_OK)
			s = losses_without(m, losses, drop, 0, err);
		if (s == OL_OK)
			random += (mean_of(losses, m->out->queries) - whole) / RANDOM_REMOVALS;
	}
	m->out->measured.removal = random > 0.0 ? best / random : (double)NAN;
	free(totals);
	free(drop);
	free(losses);
	return s;
}

/* All coalitions of contributors: the worth of one is how much lower the questions' loss is than
 * under the base with nobody's examples. A coalition of nobody has no run; it is the base. */
static enum ol_status coalitions(struct measuring *m, struct ol_error *err)
{
	const struct ol_manifest *manifest = &m->study.from.manifest;
	const size_t n = m->out->examples, k = m->out->queries;
	const int players = (int)manifest->contributor_count;
	double worth[1 << COALITION_PLAYERS], shapley[COALITION_PLAYERS] = {0};
	double shares[COALITION_PLAYERS] = {0};
	if (players < 2 || players > COALITION_PLAYERS)
		return ol_fail(err, OL_ERR_INPUT,
			       "%d contributors: all coalitions are only trained for 2 to %d",
			       players, COALITION_PLAYERS);
	int *giver = malloc((n + 1) * sizeof *giver);
	uint8_t *drop = malloc(n + 1);
	double *losses = malloc((k + 1) * sizeof *losses);
	enum ol_status s = giver && drop && losses
				   ? OL_OK
				   : ol_fail(err, OL_ERR_FULL, "out of memory for coalitions");
	for (size_t e = 0; s == OL_OK && e < n; e++) {
		const char *name = ol_dataset_at(m->study.from.dataset, m->trained[e])->contributor;
		giver[e] = 0;
		while (strcmp(manifest->contributors[giver[e]].name, name) != 0)
			giver[e]++;
		for (size_t i = 0; i < k; i++)
			shares[giver[e]] += m->scores[i * n + e];
	}
	for (uint32_t set = 0; s == OL_OK && set < 1u << players; set++) {
		size_t members = 0;
		for (size_t e = 0; e < n; e++) {
			drop[e] = !(set >> giver[e] & 1);
			members += !drop[e];
		}
		if (members > 0)
			s = losses_without(m, losses, drop, 0, err);
		else
			s = ol_answer_nats(m->study.tape, m->study.rows_max, NULL, m->queries, k,
					   losses, err);
		worth[set] = s == OL_OK ? -mean_of(losses, k) : 0.0;
	}
	if (s == OL_OK) {
		ol_shapley(shapley, worth, players);
		m->out->measured.shapley = ol_share_distance(shares, shapley, (size_t)players);
	}
	free(giver);
	free(drop);
	free(losses);
	return s;
}

/* ---- All of it ------------------------------------------------------------------------------ */

static enum ol_status prepare(struct measuring *m, const struct ol_home *home, struct ol_error *err)
{
	char hex[2 * OL_SHA256_BYTES + 1];
	enum ol_status s =
		ol_study_open(&m->study, home, m->q->adapter, m->q->data, m->q->data_count, err);
	if (s == OL_OK)
		s = ol_adapter_open_index(&m->index, m->study.from.folder, err);
	if (s == OL_OK)
		s = open_queries(m, err);
	if (s == OL_OK)
		s = list_trained(m, err);
	if (s != OL_OK)
		return s;
	ol_hex(hex, ol_adapter_sha256(m->study.adapter), OL_SHA256_BYTES);
	s = ol_path_join(m->folder, err, home->path, "/fidelity/", hex);
	if (s == OL_OK)
		s = ol_make_directories(m->folder, err);
	const size_t cells = m->out->queries * m->out->examples;
	const size_t results = (size_t)m->q->subsets * m->out->queries;
	m->scores = calloc(cells + 1, sizeof *m->scores);
	m->lexical = calloc(cells + 1, sizeof *m->lexical);
	m->losses[0] = calloc(results + 1, sizeof(double));
	m->losses[1] = calloc(results + 1, sizeof(double));
	if (s == OL_OK && (!m->scores || !m->lexical || !m->losses[0] || !m->losses[1]))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for scores");
	m->study.total = 2 * m->q->subsets + 2 + RANDOM_REMOVALS;
	if (m->q->shapley)
		m->study.total += 1 << OL_MIN(m->study.from.manifest.contributor_count,
					      (size_t)COALITION_PLAYERS);
	return s;
}

static enum ol_status measure(struct measuring *m, struct ol_error *err)
{
	struct ol_manifest_fidelity *f = &m->out->measured;
	*f = (struct ol_manifest_fidelity){
		0,           (double)m->q->alpha, (double)m->out->queries, (double)NAN, (double)NAN,
		(double)NAN, (double)NAN};
	enum ol_status s = score(m, err);
	if (s == OL_OK && !score_lexical(m))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for BM25");
	if (s == OL_OK)
		s = retrain_subsets(m, err);
	f->subsets = m->subsets;
	if (s == OL_OK)
		s = correlate(m, &f->lds, m->scores, err);
	if (s == OL_OK)
		s = correlate(m, &f->ceiling, NULL, err);
	if (s == OL_OK)
		s = correlate(m, &m->out->bm25, m->lexical, err);
	if (s == OL_OK && !late(m))
		s = removal(m, err);
	if (s == OL_OK && m->q->shapley)
		s = coalitions(m, err);
	return s;
}

static enum ol_status publish(struct measuring *m, struct ol_error *err)
{
	struct ol_manifest *manifest = &m->study.from.manifest;
	const char *slash = strrchr(m->q->adapter, '/');
	manifest->fidelity = m->out->measured;
	return ol_adapter_amend(m->study.from.folder, slash ? slash + 1 : m->q->adapter,
				m->study.adapter, manifest, err);
}

enum ol_status ol_fidelity_run(struct ol_fidelity *out, const struct ol_home *home,
			       const struct ol_fidelity_request *request, struct ol_error *err)
{
	struct measuring *m = calloc(1, sizeof *m);
	*out = (struct ol_fidelity){0};
	if (!m)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the study");
	m->q = request;
	m->out = out;
	m->started = ol_clock_seconds();
	m->study.watch = &request->watch;
	ol_manifest_init(&m->study.from.manifest);
	enum ol_status s = prepare(m, home, err);
	if (s == OL_OK)
		s = measure(m, err);
	if (s == OL_OK)
		s = publish(m, err);
	out->seconds = ol_clock_seconds() - m->started;
	ol_dataset_close(m->query_data);
	ol_records_close(m->query_records);
	ol_index_close(m->index);
	free((void *)m->queries);
	free(m->trained);
	free(m->scores);
	free(m->lexical);
	free(m->losses[0]);
	free(m->losses[1]);
	ol_study_close(&m->study);
	free(m);
	return s;
}
