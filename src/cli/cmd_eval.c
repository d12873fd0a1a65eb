#include "cli/commands.h"
#include "cli/options.h"
#include "math/functions.h"
#include "node/eval.h"

#include <stdio.h>
#include <unistd.h>

static bool show_progress(void *context, size_t done, size_t total, bool answering)
{
	const bool *terminal = context;
	if (*terminal)
		fprintf(stderr, "\r\033[K%s %zu/%zu", answering ? "answered" : "read", done, total);
	return !ol_interrupted();
}

static json_t *sums_json(const struct ol_eval_sums *s, bool answers)
{
	json_t *object =
		json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "examples", (json_int_t)s->examples,
			  "answer_tokens", (json_int_t)s->tokens, "answer_bytes",
			  (json_int_t)s->bytes, "loss", ol_eval_loss(s), "perplexity",
			  ol_exp(ol_eval_loss(s)), "nats_per_byte", ol_eval_nats_per_byte(s));
	if (object && answers) {
		json_object_set_new(object, "asked", json_integer((json_int_t)s->asked));
		json_object_set_new(object, "right", json_integer((json_int_t)s->right));
		json_object_set_new(object, "exact_match",
				    s->asked > 0 ? json_real((double)s->right / (double)s->asked)
						 : json_null());
	}
	return object;
}

static void print_sums(const char *name, const struct ol_eval_sums *s, bool answers)
{
	printf("%-32.32s %8llu %9.4f %11.2f %11.4f", name, (unsigned long long)s->examples,
	       ol_eval_loss(s), ol_exp(ol_eval_loss(s)), ol_eval_nats_per_byte(s));
	if (answers && s->asked > 0)
		printf("   %llu of %llu (%.0f%%)", (unsigned long long)s->right,
		       (unsigned long long)s->asked, 100.0 * (double)s->right / (double)s->asked);
	putchar('\n');
}

static int print_eval(const struct ol_eval *eval, const struct ol_eval_request *q, bool json)
{
	if (json) {
		json_t *object = sums_json(&eval->total, q->answers);
		json_t *contributors = json_object();
		for (size_t i = 0; i < eval->contributor_count; i++)
			json_object_set_new(contributors, eval->contributors[i].contributor,
					    sums_json(&eval->contributors[i], q->answers));
		if (object && q->model)
			json_object_set_new(object, "model", json_string(q->model));
		if (object && q->adapter)
			json_object_set_new(object, "adapter", json_string(q->adapter));
		json_object_set_new(object, "truncated", json_integer((json_int_t)eval->truncated));
		json_object_set_new(object, "contributors", contributors);
		return ol_print_json(object);
	}
	printf("%-32s %8s %9s %11s %11s%s\n", "", "examples", "loss", "perplexity", "nats/byte",
	       q->answers && eval->total.asked > 0 ? "   right" : "");
	if (eval->contributor_count > 1)
		for (size_t i = 0; i < eval->contributor_count; i++)
			print_sums(eval->contributors[i].contributor, &eval->contributors[i],
				   q->answers);
	print_sums("all", &eval->total, q->answers);
	return 0;
}

int ol_command_eval(int argc, char **argv)
{
	struct ol_eval_request q = {.progress = show_progress};
	struct ol_texts data = {0}, more = {0};
	const char *format = "auto";
	bool json = false, no_answers = false, terminal = isatty(STDERR_FILENO) != 0;
	struct ol_error err = {0};
	struct ol_eval eval;
	const struct ol_option options[] = {
		OL_TEXT("model", 'm', q.model, "NAME", "which model (default: the adapter's base)"),
		OL_TEXT("adapter", 'a', q.adapter, "NAME", "with this adapter"),
		OL_TEXTS("data", 'd', data, "PATH", "a file or a folder (may be repeated)"),
		OL_TEXT("format", 0, format, "KIND", "of the data (auto)"),
		OL_NUMBER(INT, "max-length", 0, q.max_length, "N", 2, 1 << 24,
			  "tokens of an example (2048 or the context)"),
		OL_FLAG("no-answers", 0, no_answers, "losses only: let the model answer nothing"),
		OL_TEXT("per-example", 0, q.per_example, "FILE", "write a line of JSON for each"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger eval",
		.usage = "-m NAME [-a ADAPTER] -d DATA... [options]",
		.about =
			"How well a model answers your data: loss, perplexity, nats per byte, and\n"
			"how many answers are right (hold the record's fact, or equal its answer).",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &more,
		.examples = "  openledger eval -m base -a mine -d held-out.jsonl\n"};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	for (int i = 0; i < more.count && data.count < OL_TEXTS_MAX; i++)
		data.values[data.count++] = more.values[i];
	if (!q.model && !q.adapter)
		s = ol_fail(&err, OL_ERR_INPUT, "eval needs a model (-m NAME) or an adapter (-a)");
	else if (data.count == 0)
		s = ol_fail(&err, OL_ERR_INPUT, "eval needs data: -d FILE-OR-FOLDER");
	else if (!ol_data_format_parse(&q.format, format))
		s = ol_fail(&err, OL_ERR_INPUT, "--format %s is unknown", format);
	q.data = data.values;
	q.data_count = data.count;
	q.answers = !no_answers;
	q.context = &terminal;
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_evaluate(&eval, &q, &err);
	if (terminal)
		fprintf(stderr, "\r\033[K");
	if (s != OL_OK)
		return ol_report(&err);
	const int status = print_eval(&eval, &q, json);
	ol_eval_release(&eval);
	return status;
}
