#include "cli/commands.h"
#include "cli/options.h"
#include "node/adapters.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct row {
	const char *name;
	struct ol_adapter_about about;
	struct ol_manifest manifest;
	bool has_manifest;
};

static const char *base_of(const struct row *row)
{
	return row->has_manifest ? row->manifest.base_name : row->about.config.base_name;
}

/* "all", "all,head", or the linears' names. */
static void list_targets(char out[64], uint32_t targets)
{
	size_t n = 0;
	uint32_t left = targets;
	out[0] = '\0';
	if ((targets & OL_TARGETS_ALL) == OL_TARGETS_ALL) {
		n = (size_t)snprintf(out, 64, "all");
		left &= ~(uint32_t)OL_TARGETS_ALL;
	}
	for (int i = 0; i < OL_LINEARS; i++)
		if (left & 1u << i)
			n += (size_t)snprintf(out + n, 64 - n, "%s%s", n ? "," : "",
					      ol_linear_name((enum ol_linear)i));
}

static void print_row(const struct row *row)
{
	char bytes[32], targets[64], loss[32] = "-";
	const double value = isfinite(row->manifest.eval_loss) ? row->manifest.eval_loss
							       : row->manifest.train_loss;
	ol_format_bytes(bytes, row->about.bytes);
	list_targets(targets, row->about.config.targets);
	if (isfinite(value))
		snprintf(loss, sizeof loss, "%.4f", value);
	printf("%-24s %-24.24s %4d  %-14s %9llu %8s  %8s  %.10s\n", row->name, base_of(row),
	       row->about.config.rank, targets, (unsigned long long)row->about.parameters, bytes,
	       loss, row->has_manifest ? row->manifest.created : "-");
}

static json_t *number_or_null(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *json_row(const struct row *row)
{
	char targets[64], hash[65];
	list_targets(targets, row->about.config.targets);
	ol_hex(hash, row->manifest.adapter_sha256, OL_SHA256_BYTES);
	return json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:o, s:o, s:s?, s:s?}", "name", row->name,
			 "base", base_of(row), "rank", row->about.config.rank, "targets", targets,
			 "parameters", (json_int_t)row->about.parameters, "bytes",
			 (json_int_t)row->about.bytes, "train_loss",
			 number_or_null(row->manifest.train_loss), "eval_loss",
			 number_or_null(row->manifest.eval_loss), "created",
			 row->has_manifest ? row->manifest.created : NULL, "sha256",
			 row->has_manifest ? hash : NULL);
}

static enum ol_status look(struct row *row, const struct ol_home *home, struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	enum ol_status s = ol_home_find_adapter(home, folder, row->name, err);
	if (s == OL_OK)
		s = ol_adapter_look(&row->about, folder, err);
	if (s == OL_OK)
		s = ol_adapter_manifest(&row->manifest, &row->has_manifest, folder, err);
	return s;
}

int ol_command_adapters(int argc, char **argv)
{
	bool json = false;
	const struct ol_option options[] = {
		OL_FLAG("json", 0, json, "machine-readable output"),
	};
	const struct ol_command_line line = {.command = "openledger adapters",
					     .usage = "[options]",
					     .about = "Lists the adapters of this node.",
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
		s = ol_home_adapters(&home, &names, &err);
	if (s != OL_OK)
		return ol_report(&err);
	json_t *list = json_array();
	if (!json && names.count == 0)
		printf("No adapters yet. `openledger train` makes one, `openledger import-adapter "
		       "DIR` brings one in.\n");
	if (!json && names.count > 0)
		printf("%-24s %-24s %4s  %-14s %9s %8s  %8s  %s\n", "NAME", "BASE", "RANK",
		       "TARGETS", "NUMBERS", "BYTES", "LOSS", "DATE");
	for (size_t i = 0; i < names.count; i++) {
		struct row row = {.name = names.names[i]};
		ol_manifest_init(&row.manifest);
		if (look(&row, &home, &err) != OL_OK) {
			failures++;
			ol_report(&err);
		} else if (json) {
			json_array_append_new(list, json_row(&row));
		} else {
			print_row(&row);
		}
		ol_manifest_release(&row.manifest);
	}
	ol_names_release(&names);
	if (json)
		return ol_print_json(json_pack("{s:s, s:o}", "object", "list", "data", list)) |
		       (failures > 0);
	json_decref(list);
	return failures > 0;
}
