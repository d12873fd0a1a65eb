#include "cli/commands.h"
#include "cli/options.h"
#include "node/attribute_index.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool ol_show_index_progress(void *context, const char *what, uint32_t done, uint32_t total)
{
	const bool *terminal = context;
	if (*terminal)
		fprintf(stderr, "\r\033[Kindex: %s %u of %u", what, done, total);
	return !ol_interrupted();
}

void ol_print_index(const struct ol_index_result *r)
{
	char root[2 * OL_SHA256_BYTES + 1];
	ol_hex(root, r->root, sizeof r->root);
	printf("attribution index: %u contributors, %u examples in %u clusters", r->payees,
	       r->examples, r->clusters);
	if (r->clusters < r->examples)
		printf(" (joined: %u the same, %u in words, %u in effect)", r->merged[0],
		       r->merged[1], r->merged[2]);
	printf("\n%u linears, %u numbers a row, %.0f%% of what an answer can say; %u outliers cut "
	       "short\nroot %s\n",
	       r->parts, r->values, 100.0 * r->energy, r->clipped, root);
}

static int print_result(const char *adapter, const struct ol_index_result *r, bool json)
{
	char root[2 * OL_SHA256_BYTES + 1];
	if (!json) {
		printf("%s: ", adapter);
		ol_print_index(r);
		return 0;
	}
	ol_hex(root, r->root, sizeof r->root);
	return ol_print_json(json_pack(
		"{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:I}", "adapter", adapter, "index", root,
		"contributors", (json_int_t)r->payees, "examples", (json_int_t)r->examples,
		"clusters", (json_int_t)r->clusters, "linears", (json_int_t)r->parts, "values",
		(json_int_t)r->values, "energy", r->energy, "clipped", (json_int_t)r->clipped));
}

/* "4" or "2-5". */
static enum ol_status parse_layers(struct ol_index_wish *w, const char *text, struct ol_error *err)
{
	char rest;
	if (!text)
		return OL_OK;
	const int n = sscanf(text, "%d-%d%c", &w->first_layer, &w->last_layer, &rest);
	if (n == 1 && sscanf(text, "%d%c", &w->first_layer, &rest) == 1)
		w->last_layer = w->first_layer;
	else if (n != 2)
		return ol_fail(err, OL_ERR_INPUT, "--layers %s: give one, or a range as 2-5", text);
	return w->first_layer >= 0 && w->last_layer >= w->first_layer
		       ? OL_OK
		       : ol_fail(err, OL_ERR_INPUT, "--layers %s is no range of layers", text);
}

int ol_command_index(int argc, char **argv)
{
	struct ol_adapter_index_request q = {.progress = ol_show_index_progress};
	struct ol_texts operands = {0}, data = {0};
	struct ol_index_wish *w = &q.wish;
	const char *layers = NULL;
	bool json = false, show = isatty(STDERR_FILENO) != 0;
	ol_index_wish_init(w);
	const struct ol_option options[] = {
		OL_TEXTS("data", 'd', data, "DATA",
			 "where the data lie now (may be repeated; default: as in the manifest)"),
		OL_TEXT("targets", 0, w->targets, "LIST",
			"linears that are looked at (q,k,v,o,down)"),
		OL_TEXT("layers", 0, layers, "A-B",
			"layers that are looked at (the upper two thirds)"),
		OL_NUMBER(INT, "row-bytes", 0, w->row_bytes, "N", 1024, 65536,
			  "of a contributor's row (64000)"),
		OL_NUMBER(INT, "draws", 0, w->draws, "N", 1, 64, "labels drawn per token (2)"),
		OL_NUMBER(INT, "curvature", 0, w->curvature, "N", 1, 1 << 24,
			  "examples that the curvature is made from (256)"),
		OL_NUMBER(FLOAT, "damping", 0, w->damping, "X", 1e-6, 1e6,
			  "over the mean eigenvalue (0.1)"),
		OL_NUMBER(FLOAT, "span-part", 0, w->span_part, "P", 0, 0.2,
			  "of the shares that spans may add (0.1)"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger index",
		.usage = "ADAPTER [options]",
		.about =
			"Makes the index that tells who shaped an adapter's answers, and names its "
			"root in\nthe manifest. `openledger train` does it by itself where "
			"contributors are known.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands};
	struct ol_error err = {0};
	struct ol_home home;
	struct ol_index_result result;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "index takes one ADAPTER");
	if (s == OL_OK)
		s = parse_layers(w, layers, &err);
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	q.adapter = operands.values[0];
	q.data = data.values;
	q.data_count = data.count;
	q.context = &show;
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_adapter_index(&result, &home, &q, &err);
	if (show)
		fprintf(stderr, "\r\033[K");
	return s == OL_OK ? print_result(q.adapter, &result, json) : ol_report(&err);
}
