#include "cli/commands.h"
#include "cli/options.h"
#include "crypto/sha256.h"
#include "model/model.h"
#include "node/home.h"

#include <stdio.h>

struct row {
	const char *name;
	char id[65];
	const struct ol_config *config;
	const char *weights;
	uint64_t parameters, bytes;
};

static void print_row(const struct row *row)
{
	char bytes[32];
	ol_format_bytes(bytes, row->bytes);
	printf("%-32s %-8s %8.1fM  %-5s %8s  %8d  %.16s\n", row->name,
	       ol_arch_name(row->config->arch), 1e-6 * (double)row->parameters, row->weights, bytes,
	       row->config->context_max, row->id);
}

static json_t *json_row(const struct row *row)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:i}", "name", row->name, "id", row->id,
			 "architecture", ol_arch_name(row->config->arch), "weights", row->weights,
			 "parameters", (json_int_t)row->parameters, "bytes", (json_int_t)row->bytes,
			 "context", row->config->context_max);
}

int ol_command_models(int argc, char **argv)
{
	bool json = false, verify = false;
	const struct ol_option options[] = {
		OL_FLAG("verify", 0, verify, "recompute every model's id from its weights"),
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {.command = "openledger models",
					     .usage = "[options]",
					     .about = "Lists the models of this node.",
					     .options = options,
					     .option_count = OL_ARRAY_LEN(options)};
	struct ol_home home;
	struct ol_names names = {0};
	struct ol_error err = {0};
	int failures = 0;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = ol_home_models(&home, &names, &err);
	if (s != OL_OK)
		return ol_report(&err);
	json_t *list = json_array();
	if (!json && names.count == 0)
		printf("No models yet. `openledger import PATH` brings one in.\n");
	if (!json && names.count > 0)
		printf("%-32s %-8s %9s  %-5s %8s  %8s  %s\n", "NAME", "KIND", "SIZE", "TYPE",
		       "BYTES", "CONTEXT", "ID");
	for (size_t i = 0; i < names.count; i++) {
		char path[OL_PATH_MAX];
		struct ol_model *model = NULL;
		s = ol_home_find_model(&home, path, names.names[i], &err);
		if (s == OL_OK)
			s = ol_model_open(&model, path, &err);
		if (s == OL_OK && verify)
			s = ol_model_verify(model, &err);
		if (s == OL_OK) {
			struct row row = {.name = names.names[i],
					  .config = ol_model_config(model),
					  .weights =
						  ol_weight_type_name(ol_model_weight_type(model)),
					  .parameters = ol_model_parameters(model),
					  .bytes = ol_model_nominal_bytes(model)};
			ol_hex(row.id, ol_model_id(model), OL_MODEL_ID_BYTES);
			if (json)
				json_array_append_new(list, json_row(&row));
			else
				print_row(&row);
		} else {
			failures++;
			ol_report(&err);
		}
		ol_model_close(model);
	}
	ol_names_release(&names);
	if (json)
		return ol_print_json(json_pack("{s:s, s:o}", "object", "list", "data", list)) |
		       (failures > 0);
	json_decref(list);
	return failures > 0;
}
