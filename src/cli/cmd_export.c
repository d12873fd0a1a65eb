#include "cli/commands.h"
#include "cli/options.h"
#include "node/export.h"

#include <stdio.h>

int ol_command_export(int argc, char **argv)
{
	struct ol_export_request r = {0};
	struct ol_texts operands = {0};
	const char *format = NULL, *weights = NULL;
	bool json = false;
	const struct ol_option options[] = {
		OL_TEXT("format", 'f', format, "FORMAT",
			"adapters: peft, gguf, merged-safetensors, merged-gguf; models: gguf, "
			"safetensors"),
		OL_TEXT("output", 'o', r.output, "OUT", "the file or folder to write"),
		OL_TEXT("model", 'm', r.base, "BASE", "of an adapter: its base (default: found)"),
		OL_TEXT("weights", 'w', weights, "TYPE",
			"of a merged model: f32, bf16, q8 or q4 (f32 if the base is, else bf16)"),
		OL_FLAG("force", 0, r.replace, "replace what is at OUT"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger export",
		.usage = "NAME --format FORMAT -o OUT [options]",
		.about = "Hands out an adapter, or a model, for other programs.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &operands,
		.examples = "  openledger export law --format peft -o law-peft\n"
			    "  openledger export law --format merged-gguf -w q8 -o law.gguf\n"};
	struct ol_error err = {0};
	struct ol_home home;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (operands.count != 1 || !format || !r.output)
		s = ol_fail(&err, OL_ERR_INPUT,
			    "export needs an adapter or model (NAME), --format FORMAT and -o OUT");
	else if (!ol_export_format_parse(&r.format, format))
		s = ol_fail(&err, OL_ERR_INPUT,
			    "--format %s is unknown: use peft, gguf, safetensors, "
			    "merged-safetensors or merged-gguf",
			    format);
	else if (weights &&
		 (!ol_weight_type_parse(&r.weights, weights) || r.weights == OL_WEIGHT_NF4))
		s = ol_fail(&err, OL_ERR_INPUT, "--weights %s: use f32, bf16, q8 or q4", weights);
	r.weights_given = weights != NULL;
	r.name = operands.values[0];
	if (s == OL_OK)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_export(&home, &r, &err);
	if (s != OL_OK)
		return ol_report(&err);
	if (json)
		return ol_print_json(json_pack("{s:s, s:s, s:s}", "name", r.name, "format",
					       ol_export_format_name(r.format), "output",
					       r.output));
	printf("%s: written as %s to %s\n", r.name, ol_export_format_name(r.format), r.output);
	return 0;
}
