#include "cli/commands.h"
#include "cli/options.h"
#include "node/attribute_study.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static bool show_progress(void *context, int done, int total, int step, int steps)
{
	const bool *show = context;
	if (*show)
		fprintf(stderr, "\r\033[Kretraining %d of %d: step %d of %d", done + 1, total, step,
			steps);
	return !ol_interrupted();
}

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static int print_json(const struct ol_fidelity_request *q, const struct ol_fidelity *f)
{
	const struct ol_manifest_fidelity *m = &f->measured;
	return ol_print_json(
		json_pack("{s:s, s:i, s:f, s:I, s:I, s:i, s:o, s:o, s:o, s:o, s:o, s:f}", "adapter",
			  q->adapter, "subsets", m->subsets, "alpha", m->alpha, "examples",
			  (json_int_t)f->examples, "queries", (json_int_t)f->queries, "retrained",
			  f->retrained, "lds", number(m->lds), "ceiling", number(m->ceiling),
			  "bm25", number(f->bm25), "removal", number(m->removal), "shapley",
			  number(m->shapley), "seconds", f->seconds));
}

static void print_fidelity(const struct ol_fidelity_request *q, const struct ol_fidelity *f)
{
	const struct ol_manifest_fidelity *m = &f->measured;
	printf("%s: %d random subsets of %.0f%% of %zu examples, %zu questions; %d retrainings in "
	       "%.0f s\n\n",
	       q->adapter, m->subsets, 100.0 * m->alpha, f->examples, f->queries, f->retrained,
	       f->seconds);
	printf("  scores foretell retraining (LDS)          %6.3f\n"
	       "  the best possible, about                  %6.3f  (root of %.3f, one retraining "
	       "against another)\n"
	       "  words in common (BM25) foretell it        %6.3f\n",
	       m->lds, sqrt(OL_MAX(m->ceiling, 0.0)), m->ceiling, f->bm25);
	if (isfinite(m->removal))
		printf("  losing the best 1%% hurts so many times as\n"
		       "  much as losing a random 1%%                %6.1f\n",
		       m->removal);
	if (isfinite(m->shapley))
		printf("  distance of shares to exact Shapley       %6.3f\n", m->shapley);
	printf("\nwritten into the adapter's card\n");
}

int ol_command_fidelity(int argc, char **argv)
{
	struct ol_fidelity_request q = {.subsets = OL_FIDELITY_SUBSETS,
					.alpha = 0.5f,
					.watch = {.progress = show_progress}};
	struct ol_texts operands = {0}, data = {0}, queries = {0};
	bool json = false, show = isatty(STDERR_FILENO) != 0;
	float seconds = 0;
	const struct ol_option options[] = {
		OL_NUMBER(INT, "subsets", 0, q.subsets, "M", 3, 10000, "random subsets (20)"),
		OL_NUMBER(FLOAT, "alpha", 0, q.alpha, "A", 0.05, 0.99,
			  "part of the examples in each (0.5)"),
		OL_NUMBER(FLOAT, "seconds", 0, seconds, "T", 0, 1e9,
			  "begin no retraining after so long (0: no limit)"),
		OL_TEXTS("queries", 'q', queries, "DATA",
			 "questions with answers (default: the held-out examples)"),
		OL_FLAG("shapley", 0, q.shapley,
			"also train every coalition of at most 8 contributors"),
		OL_TEXTS("data", 'd', data, "DATA",
			 "where the data lie now (may be repeated; default: as in the manifest)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger fidelity",
		.usage = "ADAPTER [options]",
		.about = "Measures by retraining how far an adapter's attribution can be trusted, "
			 "and writes\nit into the adapter's card. What was trained is kept: a "
			 "study that was stopped goes on.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_error err = {0};
	struct ol_home home;
	struct ol_fidelity result;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "fidelity takes one ADAPTER");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	q.adapter = operands.values[0];
	q.seconds = (double)seconds;
	q.data = data.values;
	q.data_count = data.count;
	q.queries = queries.values;
	q.query_count = queries.count;
	q.watch.context = &show;
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_fidelity_run(&result, &home, &q, &err);
	if (show)
		fprintf(stderr, "\r\033[K");
	if (s != OL_OK)
		return ol_report(&err);
	if (json)
		return print_json(&q, &result);
	print_fidelity(&q, &result);
	return 0;
}
