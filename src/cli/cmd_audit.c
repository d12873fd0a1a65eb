#include "cli/commands.h"
#include "cli/options.h"
#include "node/attribute_study.h"

#include <stdio.h>
#include <unistd.h>

static bool show_progress(void *context, int done, int total, int step, int steps)
{
	const bool *show = context;
	(void)done;
	(void)total;
	if (*show)
		fprintf(stderr, "\r\033[Ktraining without them: step %d of %d", step, steps);
	return !ol_interrupted();
}

static json_t *row_json(const struct ol_audit_row *row)
{
	return json_pack("{s:I, s:I, s:f, s:f}", "examples", (json_int_t)row->examples,
			 "answer_tokens", (json_int_t)row->tokens, "loss_with", row->with,
			 "loss_without", row->without);
}

static int print_json(const struct ol_audit_request *q, const struct ol_audit *a)
{
	char hex[2 * OL_SHA256_BYTES + 1];
	json_t *contributors = json_object();
	ol_hex(hex, a->sha256, sizeof a->sha256);
	for (size_t i = 0; i < a->contributor_count; i++)
		json_object_set_new(contributors, a->contributors[i].name,
				    row_json(&a->contributors[i]));
	json_t *object =
		json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:o, s:o}", "adapter", q->adapter,
			  "without", q->without, "removed", (json_int_t)a->removed, "kept",
			  (json_int_t)a->kept, "adapter_sha256", hex, "own", row_json(&a->own),
			  "held_out", row_json(&a->held_out), "contributors", contributors);
	if (object && a->asked)
		json_object_set_new(object, "answer",
				    json_pack("{s:f, s:f, s:o}", "nats_with", a->answer_with,
					      "nats_without", a->answer_without, "score",
					      a->scored ? json_real(a->predicted) : json_null()));
	return ol_print_json(object);
}

static void print_row(const char *name, const struct ol_audit_row *row)
{
	if (row->examples > 0)
		printf("  %-32.32s %8zu %10.4f %10.4f %+10.4f\n", name, row->examples, row->with,
		       row->without, row->without - row->with);
}

static void print_audit(const struct ol_audit_request *q, const struct ol_audit *a)
{
	char hex[2 * OL_SHA256_BYTES + 1];
	ol_hex(hex, a->sha256, sizeof a->sha256);
	printf("%s without %s: %zu of %zu examples taken out, trained again in %.0f s\n\n"
	       "  %-32s %8s %10s %10s %10s\n",
	       q->adapter, q->without, a->removed, a->removed + a->kept, a->seconds,
	       "nats per answer token", "examples", "with", "without", "change");
	print_row("their own examples", &a->own);
	print_row("held-out examples", &a->held_out);
	for (size_t i = 0; a->contributor_count > 1 && i < a->contributor_count; i++)
		print_row(a->contributors[i].name, &a->contributors[i]);
	if (a->asked)
		printf("\nthe answer: %.3f nats with, %.3f without: %+.3f\n", a->answer_with,
		       a->answer_without, a->answer_without - a->answer_with);
	if (a->scored)
		printf("its attribution gives them a score of %+.3f\n", a->predicted);
	printf("\nadapter without them: sha256 %s\n", hex);
}

int ol_command_audit(int argc, char **argv)
{
	struct ol_audit_request q = {.watch = {.progress = show_progress}};
	struct ol_texts operands = {0}, data = {0};
	bool json = false, show = isatty(STDERR_FILENO) != 0;
	const struct ol_option options[] = {
		OL_TEXT("without", 'w', q.without, "NAME", "the contributor who is left out"),
		OL_TEXT("prompt", 'p', q.prompt, "TEXT", "also what becomes of an answer: to this"),
		OL_TEXT("response", 'r', q.response, "TEXT", "and this answer"),
		OL_TEXTS("data", 'd', data, "DATA",
			 "where the data lie now (may be repeated; default: as in the manifest)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger audit",
		.usage = "ADAPTER --without NAME [options]",
		.about = "Trains an adapter again without one contributor's examples, all else the "
			 "same, and\ncompares. Training gives the same bits every time: the "
			 "difference is theirs.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_error err = {0};
	struct ol_home home;
	struct ol_audit audit = {0};
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (operands.count != 1 || !q.without)
		s = ol_fail(&err, OL_ERR_INPUT, "audit takes one ADAPTER and --without NAME");
	else if (!q.prompt != !q.response)
		s = ol_fail(&err, OL_ERR_INPUT, "give both --prompt and --response, or neither");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	q.adapter = operands.values[0];
	q.data = data.values;
	q.data_count = data.count;
	q.watch.context = &show;
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_audit_run(&audit, &home, &q, &err);
	if (show)
		fprintf(stderr, "\r\033[K");
	int status = 0;
	if (s != OL_OK)
		status = ol_report(&err);
	else if (json)
		status = print_json(&q, &audit);
	else
		print_audit(&q, &audit);
	ol_audit_release(&audit);
	return status;
}
