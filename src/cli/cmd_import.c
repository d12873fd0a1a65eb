#include "base/clock.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/sha256.h"
#include "model/model.h"
#include "node/home.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bar {
	bool on;
	int last; /* per mille drawn */
};

static bool draw_bar(void *context, uint64_t done, uint64_t total)
{
	struct bar *bar = context;
	const int mille = total ? (int)(1000.0 * (double)done / (double)total) : 1000;
	if (bar->on && mille != bar->last) {
		char text[41];
		for (int i = 0; i < 40; i++)
			text[i] = mille >= (i + 1) * 25 ? '#' : '.';
		text[40] = '\0';
		fprintf(stderr, "\r[%s] %3d%%", text, mille / 10);
		bar->last = mille;
	}
	return !ol_interrupted();
}

int ol_command_import(int argc, char **argv)
{
	const char *weights = "q8", *name = NULL;
	char own_name[OL_NAME_MAX + 1], path[OL_PATH_MAX];
	bool json = false, force = false;
	struct ol_texts operands = {0};
	const struct ol_option options[] = {
		OL_TEXT("weights", 'w', weights, "TYPE", "f32, bf16, q8 (default), q4 or nf4"),
		OL_TEXT("name", 'n', name, "NAME", "what to call it (default: after PATH)"),
		OL_FLAG("force", 0, force, "replace a model of that name"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger import",
		.usage = "PATH [options]",
		.about =
			"Brings in a model once: reads a Hugging Face folder or a GGUF file, "
			"checks it, and\n"
			"writes it in the form that opens at once.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands,
		.examples =
			"  openledger import ~/models/SmolLM2-135M-Instruct --weights q8 --name "
			"smol\n"};
	struct ol_import_options import = {.progress = draw_bar};
	struct bar bar = {.on = isatty(STDERR_FILENO), .last = -1};
	struct ol_home home;
	struct ol_error err = {0};
	struct ol_model *model = NULL;

	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	import.context = &bar;
	enum ol_status s = OL_OK;
	if (operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "import takes one PATH: a Hugging Face folder or a GGUF file");
	else if (!ol_weight_type_parse(&import.type, weights))
		s = ol_fail(&err, OL_ERR_INPUT,
			    "--weights %s is unknown: use f32, bf16, q8, q4 or nf4", weights);
	if (s == OL_OK && !name) {
		ol_name_from_path(own_name, operands.values[0]);
		name = own_name;
	}
	if (s == OL_OK)
		s = ol_name_check(name, &err);
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_home_model_path(&home, path, name, &err);
	if (s == OL_OK && !force && access(path, F_OK) == 0)
		s = ol_fail(
			&err, OL_ERR_INPUT,
			"there is already a model \"%s\": choose another --name, or --force to "
			"replace it",
			name);
	ol_interrupt_catch();
	const double start = ol_clock_seconds();
	if (s == OL_OK)
		s = ol_import(path, operands.values[0], &import, &err);
	if (bar.on && bar.last >= 0)
		fprintf(stderr, "\r\033[K");
	if (s == OL_OK)
		s = ol_model_open(&model, path, &err);
	if (s != OL_OK)
		return ol_report(&err);

	char id[65], bytes[32];
	ol_hex(id, ol_model_id(model), OL_MODEL_ID_BYTES);
	ol_format_bytes(bytes, ol_model_nominal_bytes(model));
	const uint64_t parameters = ol_model_parameters(model);
	const char *arch = ol_arch_name(ol_model_config(model)->arch);
	int status = 0;
	if (json)
		status = ol_print_json(json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "name", name,
						 "id", id, "architecture", arch, "weights", weights,
						 "parameters", (json_int_t)parameters, "bytes",
						 (json_int_t)ol_model_nominal_bytes(model)));
	else
		printf("%s: %s, %.1fM parameters as %s (%s), in %.1f s\nid %s\n", name, arch,
		       1e-6 * (double)parameters, weights, bytes, ol_clock_seconds() - start, id);
	ol_model_close(model);
	return status;
}
