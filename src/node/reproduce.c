#include "node/reproduce.h"

#include "base/file.h"
#include "node/adapters.h"
#include "node/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct again {
	const struct ol_home *home;
	const struct ol_reproduce_request *q;
	struct ol_manifest manifest;
	char base_name[OL_NAME_MAX + 1];
	struct ol_runtime base;
	struct ol_engine_options machine; /* threads and instructions */
	struct ol_adapter *start;         /* that training went on from; NULL: none */
	struct ol_records *records;
	struct ol_dataset *dataset;
	struct ol_trainer *trainer;
};

static enum ol_status open_manifest(struct again *a, struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	bool found = false;
	enum ol_status s = ol_home_find_adapter(a->home, folder, a->q->adapter, err);
	if (s == OL_OK)
		s = ol_adapter_manifest(&a->manifest, &found, folder, err);
	if (s == OL_OK && (!found || !a->manifest.trained))
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "nobody knows how \"%s\" was trained: it was made elsewhere, and its "
			    "manifest.json says nothing of data and config",
			    a->q->adapter);
	if (s == OL_OK && strcmp(a->manifest.arithmetic, OL_ARITHMETIC_VERSION) != 0)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "\"%s\" was trained under arithmetic %s; this program has %s",
			    a->q->adapter, a->manifest.arithmetic, OL_ARITHMETIC_VERSION);
	if (s == OL_OK)
		s = ol_adapter_base(a->home, a->base_name, folder, err);
	return s;
}

static enum ol_status open_base(struct again *a, struct ol_error *err)
{
	enum ol_status s = ol_runtime_open(&a->base, a->home, a->base_name, err);
	if (s == OL_OK &&
	    memcmp(ol_model_id(a->base.model), a->manifest.base_id, OL_MODEL_ID_BYTES) != 0) {
		char id[2 * OL_MODEL_ID_BYTES + 1];
		ol_hex(id, a->manifest.base_id, OL_MODEL_ID_BYTES);
		s = ol_fail(err, OL_ERR_INPUT,
			    "\"%s\" is not the base that \"%s\" was trained on, whose id is %s",
			    a->base_name, a->q->adapter, id);
	}
	return s == OL_OK ? ol_runtime_need_tokenizer(&a->base, err) : s;
}

/* The adapter that training went on from is one of the home's. */
static enum ol_status open_start(struct again *a, struct ol_error *err)
{
	static const uint8_t none[OL_SHA256_BYTES];
	struct ol_names names = {0};
	if (memcmp(a->manifest.config.start, none, sizeof none) == 0)
		return OL_OK;
	enum ol_status s = ol_home_adapters(a->home, &names, err);
	for (size_t i = 0; s == OL_OK && !a->start && i < names.count; i++) {
		char folder[OL_PATH_MAX];
		struct ol_adapter *one = NULL;
		if (ol_home_adapter_path(a->home, folder, names.names[i], NULL) != OL_OK ||
		    ol_adapter_open(&one, folder, ol_model_config(a->base.model), NULL) != OL_OK)
			continue;
		if (memcmp(ol_adapter_sha256(one), a->manifest.config.start, OL_SHA256_BYTES) == 0)
			a->start = one;
		else
			ol_adapter_close(one);
	}
	ol_names_release(&names);
	if (s == OL_OK && !a->start) {
		char hash[2 * OL_SHA256_BYTES + 1];
		ol_hex(hash, a->manifest.config.start, OL_SHA256_BYTES);
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "\"%s\" was trained on from an adapter that is not here, sha256 %s",
			    a->q->adapter, hash);
	}
	return s;
}

/* A file may have several sources, one per licence. */
static bool is_listed(const char *const *paths, int count, const char *path)
{
	for (int i = 0; i < count; i++)
		if (strcmp(paths[i], path) == 0)
			return true;
	return false;
}

static enum ol_status check_file(const struct ol_manifest_source *source, struct ol_error *err)
{
	uint8_t digest[OL_SHA256_BYTES];
	struct ol_map map;
	const enum ol_status s = ol_map_open(&map, source->path, err);
	if (s != OL_OK)
		return s;
	ol_sha256(digest, map.data, map.size);
	ol_map_close(&map);
	if (memcmp(digest, source->sha256, sizeof digest) == 0)
		return OL_OK;
	return ol_fail(err, OL_ERR_INPUT,
		       "%s is not the file that the adapter was trained on: it has changed since",
		       source->path);
}

static enum ol_status open_records(struct again *a, struct ol_error *err)
{
	const struct ol_manifest *m = &a->manifest;
	if (a->q->data_count > 0)
		return ol_records_open(&a->records, a->q->data, a->q->data_count, m->format, err);
	const char **paths = calloc(m->source_count + 1, sizeof *paths);
	int count = 0;
	enum ol_status s = OL_OK;
	if (!paths)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the data");
	for (size_t i = 0; s == OL_OK && i < m->source_count; i++) {
		const struct ol_manifest_source *source = &m->sources[i];
		if (!source->path)
			s = ol_fail(err, OL_ERR_NOT_FOUND,
				    "the manifest does not say where %s lay: give the data with -d",
				    source->file);
		else if (!is_listed(paths, count, source->path)) {
			s = check_file(source, err);
			paths[count++] = source->path;
		}
	}
	if (s == OL_OK)
		s = ol_records_open(&a->records, paths, count, m->format, err);
	free(paths);
	return s;
}

static enum ol_status open_dataset(struct again *a, struct ol_error *err)
{
	const struct ol_manifest *m = &a->manifest;
	const struct ol_chat_format chat = ol_runtime_chat_format(&a->base);
	const struct ol_dataset_options options = {.max_length = m->config.max_length,
						   .loss_on_prompt = m->loss_on_prompt,
						   .single_text = m->single_text,
						   .threads = a->machine.threads};
	enum ol_status s = open_records(a, err);
	if (s == OL_OK)
		s = ol_dataset_open(&a->dataset, a->records, &chat, &options, err);
	if (s == OL_OK &&
	    memcmp(ol_dataset_sha256(a->dataset), m->snapshot_sha256, OL_SHA256_BYTES) != 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "these are not the data that \"%s\" was trained on: their snapshot has "
			    "another hash",
			    a->q->adapter);
	return s;
}

static enum ol_status train(struct again *a, struct ol_error *err)
{
	const struct ol_train_options options = {
		.kernels = a->machine.kernels, .threads = a->machine.threads, .start = a->start};
	enum ol_status s = ol_trainer_open(&a->trainer, a->base.model, a->dataset,
					   &a->manifest.config, &options, err);
	while (s == OL_OK && !ol_trainer_finished(a->trainer)) {
		struct ol_step_report report;
		s = ol_trainer_step(a->trainer, &report, err);
		if (s == OL_OK && a->q->step &&
		    !a->q->step(a->q->context, &report, a->manifest.config.steps))
			s = ol_fail(err, OL_ERR_CANCELLED, "stopped after step %d of %d",
				    report.step, a->manifest.config.steps);
	}
	return s;
}

static enum ol_status compare(struct again *a, struct ol_reproduction *out, struct ol_error *err)
{
	struct ol_adapter *adapter = NULL;
	const enum ol_status s = ol_trainer_adapter(a->trainer, &adapter, err);
	if (s != OL_OK)
		return s;
	memcpy(out->wanted, a->manifest.adapter_sha256, OL_SHA256_BYTES);
	memcpy(out->got, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	out->same = memcmp(out->wanted, out->got, OL_SHA256_BYTES) == 0;
	ol_adapter_close(adapter);
	return OL_OK;
}

enum ol_status ol_reproduce(struct ol_reproduction *out, const struct ol_home *home,
			    const struct ol_reproduce_request *request, struct ol_error *err)
{
	struct again *a = calloc(1, sizeof *a);
	if (!a)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the run");
	*out = (struct ol_reproduction){0};
	a->home = home;
	a->q = request;
	ol_manifest_init(&a->manifest);
	enum ol_status s = ol_runtime_environment(&a->machine, err);
	if (s == OL_OK)
		s = open_manifest(a, err);
	if (s == OL_OK)
		s = open_base(a, err);
	if (s == OL_OK)
		s = open_start(a, err);
	if (s == OL_OK)
		s = open_dataset(a, err);
	if (s == OL_OK)
		s = train(a, err);
	if (s == OL_OK)
		s = compare(a, out, err);
	ol_trainer_close(a->trainer);
	ol_dataset_close(a->dataset);
	ol_records_close(a->records);
	ol_adapter_close(a->start);
	ol_runtime_close(&a->base);
	ol_manifest_release(&a->manifest);
	free(a);
	return s;
}
