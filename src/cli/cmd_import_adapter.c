#include "cli/commands.h"
#include "cli/options.h"
#include "node/adapters.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct import_adapter_line {
	const char *base, *name;
	bool force, json;
	struct ol_texts operands;
};

/* A manifest that came with the adapter is kept as long as it speaks of these very numbers. */
static enum ol_status take_manifest(struct ol_manifest *manifest, const char *folder,
				    const struct ol_model *base, const char *base_name,
				    const struct ol_adapter *adapter, struct ol_error *err)
{
	bool found;
	const enum ol_status s = ol_adapter_manifest(manifest, &found, folder, err);
	if (s != OL_OK)
		return s;
	if (found &&
	    memcmp(manifest->adapter_sha256, ol_adapter_sha256(adapter), OL_SHA256_BYTES) == 0)
		return OL_OK;
	ol_manifest_release(manifest);
	memcpy(manifest->base_id, ol_model_id(base), OL_MODEL_ID_BYTES);
	snprintf(manifest->base_name, sizeof manifest->base_name, "%s", base_name);
	snprintf(manifest->code, sizeof manifest->code, "%s", ol_code_version);
	ol_manifest_stamp(manifest, (int64_t)time(NULL));
	return OL_OK;
}

static enum ol_status import_adapter(const struct import_adapter_line *l,
				     struct ol_adapter **adapter, struct ol_error *err)
{
	char base[OL_NAME_MAX + 1], path[OL_PATH_MAX];
	const char *folder = l->operands.values[0], *base_name = l->base;
	struct ol_home home;
	struct ol_model *model = NULL;
	struct ol_manifest manifest;
	ol_manifest_init(&manifest);
	enum ol_status s = ol_home_open(&home, err);
	if (s == OL_OK && !base_name) {
		s = ol_adapter_base(&home, base, folder, err);
		base_name = base;
	}
	if (s == OL_OK)
		s = ol_home_find_model(&home, path, base_name, err);
	if (s == OL_OK)
		s = ol_model_open(&model, path, err);
	if (s == OL_OK)
		s = ol_adapter_open(adapter, folder, ol_model_config(model), err);
	if (s == OL_OK)
		s = take_manifest(&manifest, folder, model, base_name, *adapter, err);
	if (s == OL_OK)
		s = ol_adapter_install(&home, l->name, *adapter, &manifest, l->force, err);
	ol_manifest_release(&manifest);
	ol_model_close(model);
	return s;
}

static int print_imported(const struct import_adapter_line *l, const struct ol_adapter *adapter)
{
	char hash[65], bytes[32];
	const struct ol_adapter_config *c = ol_adapter_settings(adapter);
	const uint64_t parameters = ol_adapter_parameters(adapter);
	ol_hex(hash, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	if (l->json)
		return ol_print_json(json_pack("{s:s, s:s, s:i, s:I}", "name", l->name, "sha256",
					       hash, "rank", c->rank, "parameters",
					       (json_int_t)parameters));
	ol_format_bytes(bytes, 2 * parameters);
	printf("%s: rank %d, %llu parameters (%s)\nsha256 %s\n", l->name, c->rank,
	       (unsigned long long)parameters, bytes, hash);
	return 0;
}

int ol_command_import_adapter(int argc, char **argv)
{
	struct import_adapter_line l = {0};
	char own_name[OL_NAME_MAX + 1];
	const struct ol_option options[] = {
		OL_TEXT("name", 'n', l.name, "NAME", "what to call it (default: after DIR)"),
		OL_TEXT("model", 'm', l.base, "BASE",
			"the base it is for (default: the one it names)"),
		OL_FLAG("force", 0, l.force, "replace an adapter of that name"),
		OL_FLAG("json", 0, l.json, "machine-readable output"),
	};
	const struct ol_command_line line = {
		.command = "openledger import-adapter",
		.usage = "DIR [options]",
		.about = "Brings in a LoRA adapter made elsewhere: a PEFT folder with\n"
			 "adapter_config.json and adapter_model.safetensors. Its numbers are kept "
			 "as bf16.",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.operands = &l.operands,
		.examples = "  openledger import-adapter ~/adapters/law -m smol --name law\n"};
	struct ol_error err = {0};
	struct ol_adapter *adapter = NULL;
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = OL_OK;
	if (l.operands.count != 1)
		s = ol_fail(&err, OL_ERR_INPUT, "import-adapter takes one DIR: a PEFT folder");
	if (s == OL_OK && !l.name) {
		ol_name_from_path(own_name, l.operands.values[0]);
		l.name = own_name;
	}
	if (s == OL_OK)
		s = import_adapter(&l, &adapter, &err);
	const int status = s == OL_OK ? print_imported(&l, adapter) : ol_report(&err);
	ol_adapter_close(adapter);
	return status;
}
