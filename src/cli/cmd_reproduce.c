#include "cli/commands.h"
#include "cli/options.h"
#include "node/reproduce.h"

#include <stdio.h>
#include <unistd.h>

static bool show_step(void *context, const struct ol_step_report *report, int steps)
{
	const bool *show = context;
	if (*show)
		fprintf(stderr, "\r\033[Kstep %d of %d, loss %.4f", report->step, steps,
			report->loss);
	return !ol_interrupted();
}

static int print_result(const char *adapter, const struct ol_reproduction *r, bool json)
{
	char wanted[2 * OL_SHA256_BYTES + 1], got[2 * OL_SHA256_BYTES + 1];
	ol_hex(wanted, r->wanted, OL_SHA256_BYTES);
	ol_hex(got, r->got, OL_SHA256_BYTES);
	if (json)
		return ol_print_json(json_pack("{s:s, s:b, s:s, s:s}", "adapter", adapter, "same",
					       r->same, "adapter_sha256", wanted,
					       "reproduced_sha256", got)) |
		       !r->same;
	if (r->same)
		printf("%s: the same, bit for bit\nsha256 %s\n", adapter, got);
	else
		printf("%s: NOT the same\nsha256 in the manifest %s\nsha256 of the run      %s\n",
		       adapter, wanted, got);
	return r->same ? 0 : 1;
}

int ol_command_reproduce(int argc, char **argv)
{
	struct ol_reproduce_request q = {.step = show_step};
	struct ol_texts operands = {0}, data = {0};
	bool json = false;
	const struct ol_option options[] = {
		OL_TEXTS("data", 'd', data, "DATA",
			 "where the data lie now (may be repeated; default: as in the manifest)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger reproduce",
		.usage = "ADAPTER [options]",
		.about = "Trains an adapter again, from its manifest, and compares the hash. Exit "
			 "status 0: the\nsame, bit for bit.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_error err = {0};
	struct ol_home home;
	struct ol_reproduction result;
	bool show = false;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "reproduce takes one ADAPTER");
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	show = isatty(STDERR_FILENO);
	q.adapter = operands.values[0];
	q.data = data.values;
	q.data_count = data.count;
	q.context = &show;
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_reproduce(&result, &home, &q, &err);
	if (show)
		fprintf(stderr, "\r\033[K");
	return s == OL_OK ? print_result(q.adapter, &result, json) : ol_report(&err);
}
