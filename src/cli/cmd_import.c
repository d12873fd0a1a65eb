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

/* What was asked for; name and type are checked by the time they are used. */
struct import_line {
	const char *weights, *name;
	bool json, force;
	struct ol_texts operands;
};

static enum ol_status import_model(struct ol_model **model, const struct import_line *l,
				   struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_home home;
	struct bar bar = {.on = isatty(STDERR_FILENO), .last = -1};
	struct ol_import_options import = {.progress = draw_bar, .context = &bar};
	if (!ol_weight_type_parse(&import.type, l->weights))
		return ol_fail(err, OL_ERR_INPUT,
			       "--weights %s is unknown: use f32, bf16, q8, q4 or nf4", l->weights);
	enum ol_status s = ol_name_check(l->name, err);
	if (s == OL_OK)
		s = ol_home_open(&home, err);
	if (s == OL_OK)
		s = ol_home_model_path(&home, path, l->name, err);
	if (s == OL_OK && !l->force && access(path, F_OK) == 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "there is already a model \"%s\": choose another --name, or --force to "
			    "replace it",
			    l->name);
	ol_interrupt_catch();
	if (s == OL_OK)
		s = ol_import(path, l->operands.values[0], &import, err);
	if (bar.on && bar.last >= 0)
		fprintf(stderr, "\r\033[K");
	return s == OL_OK ? ol_model_open(model, path, err) : s;
}

static int print_imported(const struct import_line *l, const struct ol_model *model, double seconds)
{
	char id[65], bytes[32];
	const uint64_t parameters = ol_model_parameters(model);
	const char *arch = ol_arch_name(ol_model_config(model)->arch);
	ol_hex(id, ol_model_id(model), OL_MODEL_ID_BYTES);
	ol_format_bytes(bytes, ol_model_nominal_bytes(model));
	if (l->json)
		return ol_print_json(json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "name", l->name,
					       "id", id, "architecture", arch, "weights",
					       l->weights, "parameters", (json_int_t)parameters,
					       "bytes", (json_int_t)ol_model_nominal_bytes(model)));
	printf("%s: %s, %.1fM parameters as %s (%s), in %.1f s\nid %s\n", l->name, arch,
	       1e-6 * (double)parameters, l->weights, bytes, seconds, id);
	return 0;
}

int ol_command_import(int argc, char **argv)
{
	struct import_line l = {.weights = "q8"};
	char own_name[OL_NAME_MAX + 1];
	const struct ol_option options[] = {
		OL_TEXT("weights", 'w', l.weights, "TYPE", "f32, bf16, q8 (default), q4 or nf4"),
		OL_TEXT("name", 'n', l.name, "NAME", "what to call it (default: after PATH)"),
		OL_FLAG("force", 0, l.force, "replace a model of that name"),
		OL_FLAG("json", 0, l.json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger import",
		.usage = "PATH [options]",
		.about = "Brings in a model once: reads a Hugging Face folder or a GGUF file,\n"
			 "checks it, and writes it in the form that opens at once.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &l.operands,
		.examples =
			"  openledger import ~/models/SmolLM2-135M-Instruct -w q8 --name smol\n"};
	struct ol_error err = {0};
	struct ol_model *model = NULL;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	const double start = ol_clock_seconds();
	if (l.operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "import takes one PATH: a Hugging Face folder or a GGUF file");
	if (s == OL_OK && !l.name) {
		ol_name_from_path(own_name, l.operands.values[0]);
		l.name = own_name;
	}
	if (s == OL_OK)
		s = import_model(&model, &l, &err);
	if (s != OL_OK)
		return ol_report(&err);
	const int status = print_imported(&l, model, ol_clock_seconds() - start);
	ol_model_close(model);
	return status;
}
