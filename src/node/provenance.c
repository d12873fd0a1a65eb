#include "node/provenance.h"

#include "base/file.h"
#include "node/adapters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum ol_status open_manifest(struct ol_provenance *p, const struct ol_home *home,
				    enum ol_provenance_what what, struct ol_error *err)
{
	enum ol_status s = ol_home_find_adapter(home, p->folder, p->adapter, err);
	if (s == OL_OK)
		s = ol_adapter_manifest(&p->manifest, &p->has_manifest, p->folder, err);
	if (s == OL_OK && what == OL_PROVENANCE_RUN && !p->manifest.trained)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "nobody knows how \"%s\" was trained: it was made elsewhere, and its "
			    "manifest.json says nothing of data and config",
			    p->adapter);
	if (s == OL_OK && p->manifest.trained &&
	    strcmp(p->manifest.arithmetic, OL_ARITHMETIC_VERSION) != 0)
		s = ol_fail(err, OL_ERR_UNSUPPORTED,
			    "\"%s\" was trained under arithmetic %s; this program has %s",
			    p->adapter, p->manifest.arithmetic, OL_ARITHMETIC_VERSION);
	if (s == OL_OK)
		s = ol_adapter_base(home, p->base_name, p->folder, err);
	return s;
}

static enum ol_status open_base(struct ol_provenance *p, const struct ol_home *home,
				struct ol_error *err)
{
	enum ol_status s = ol_runtime_open(&p->base, home, p->base_name, err);
	if (s == OL_OK && p->manifest.trained &&
	    memcmp(ol_model_id(p->base.model), p->manifest.base_id, OL_MODEL_ID_BYTES) != 0) {
		char id[2 * OL_MODEL_ID_BYTES + 1];
		ol_hex(id, p->manifest.base_id, OL_MODEL_ID_BYTES);
		s = ol_fail(err, OL_ERR_INPUT,
			    "\"%s\" is not the base that \"%s\" was trained on, whose id is %s",
			    p->base_name, p->adapter, id);
	}
	return s == OL_OK ? ol_runtime_need_tokenizer(&p->base, err) : s;
}

/* The adapter that training went on from is one of the home's. */
static enum ol_status open_start(struct ol_provenance *p, const struct ol_home *home,
				 struct ol_error *err)
{
	static const uint8_t none[OL_SHA256_BYTES];
	struct ol_names names = {0};
	if (memcmp(p->manifest.config.start, none, sizeof none) == 0)
		return OL_OK;
	enum ol_status s = ol_home_adapters(home, &names, err);
	for (size_t i = 0; s == OL_OK && !p->start && i < names.count; i++) {
		char folder[OL_PATH_MAX];
		struct ol_adapter *one = NULL;
		if (ol_home_adapter_path(home, folder, names.names[i], NULL) != OL_OK ||
		    ol_adapter_open(&one, folder, ol_model_config(p->base.model), NULL) != OL_OK)
			continue;
		if (memcmp(ol_adapter_sha256(one), p->manifest.config.start, OL_SHA256_BYTES) !=
		    0) {
			ol_adapter_close(one);
			continue;
		}
		p->start = one;
		memcpy(p->start_name, names.names[i], sizeof p->start_name);
	}
	ol_names_release(&names);
	if (s == OL_OK && !p->start) {
		char hash[2 * OL_SHA256_BYTES + 1];
		ol_hex(hash, p->manifest.config.start, OL_SHA256_BYTES);
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "\"%s\" was trained on from an adapter that is not here, sha256 %s",
			    p->adapter, hash);
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

static enum ol_status open_records(struct ol_provenance *p, const char *const *data, int data_count,
				   struct ol_error *err)
{
	const struct ol_manifest *m = &p->manifest;
	if (data_count > 0)
		return ol_records_open(&p->records, data, data_count, m->format, err);
	const char **paths = calloc(m->source_count + 1, sizeof *paths);
	int count = 0;
	enum ol_status s = OL_OK;
	if (!paths)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the data");
	/* What an adapter that training went on from was made of is named, too, but without a path;
	 * the snapshot's hash tells whether the others are all. */
	for (size_t i = 0; s == OL_OK && i < m->source_count; i++) {
		const struct ol_manifest_source *source = &m->sources[i];
		if (source->path && !is_listed(paths, count, source->path)) {
			s = check_file(source, err);
			paths[count++] = source->path;
		}
	}
	if (s == OL_OK && count == 0)
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "the manifest does not say where %s lay: give the data with -d",
			    m->source_count > 0 ? m->sources[0].file : "the data");
	if (s == OL_OK)
		s = ol_records_open(&p->records, paths, count, m->format, err);
	free(paths);
	return s;
}

static enum ol_status open_dataset(struct ol_provenance *p, const char *const *data, int data_count,
				   struct ol_error *err)
{
	const struct ol_manifest *m = &p->manifest;
	const struct ol_chat_format chat = ol_runtime_chat_format(&p->base);
	struct ol_engine_options machine = {0};
	enum ol_status s = ol_runtime_environment(&machine, err);
	const struct ol_dataset_options options = {.max_length = m->config.max_length,
						   .loss_on_prompt = m->loss_on_prompt,
						   .single_text = m->single_text,
						   .threads = machine.threads};
	if (s == OL_OK)
		s = open_records(p, data, data_count, err);
	if (s == OL_OK)
		s = ol_dataset_open(&p->dataset, p->records, &chat, &options, err);
	if (s == OL_OK &&
	    memcmp(ol_dataset_sha256(p->dataset), m->snapshot_sha256, OL_SHA256_BYTES) != 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "these are not the data that \"%s\" was trained on: their snapshot has "
			    "another hash",
			    p->adapter);
	return s;
}

/* An adapter made elsewhere: the data are said to be these. */
static enum ol_status open_claimed(struct ol_provenance *p, const char *const *data, int data_count,
				   struct ol_error *err)
{
	const struct ol_chat_format chat = ol_runtime_chat_format(&p->base);
	struct ol_train_config config;
	struct ol_engine_options machine = {0};
	if (data_count == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%s\" was made elsewhere: say with -d which data it was made from",
			       p->adapter);
	ol_train_defaults(&config, OL_TRAIN_LORA, ol_model_config(p->base.model), 1, 1.0);
	enum ol_status s = ol_runtime_environment(&machine, err);
	const struct ol_dataset_options options = {.max_length = config.max_length,
						   .threads = machine.threads};
	if (s == OL_OK)
		s = ol_records_open(&p->records, data, data_count, OL_DATA_AUTO, err);
	return s == OL_OK ? ol_dataset_open(&p->dataset, p->records, &chat, &options, err) : s;
}

enum ol_status ol_provenance_open(struct ol_provenance *p, const struct ol_home *home,
				  const char *adapter, const char *const *data, int data_count,
				  enum ol_provenance_what what, struct ol_error *err)
{
	memset(p, 0, sizeof *p);
	ol_manifest_init(&p->manifest);
	(void)snprintf(p->adapter, sizeof p->adapter, "%s", adapter);
	enum ol_status s = open_manifest(p, home, what, err);
	if (s == OL_OK)
		s = open_base(p, home, err);
	if (s == OL_OK && p->manifest.trained)
		s = open_start(p, home, err);
	if (s == OL_OK)
		s = p->manifest.trained ? open_dataset(p, data, data_count, err)
					: open_claimed(p, data, data_count, err);
	return s;
}

void ol_provenance_release(struct ol_provenance *p)
{
	ol_dataset_close(p->dataset);
	ol_records_close(p->records);
	ol_adapter_close(p->start);
	ol_runtime_close(&p->base);
	ol_manifest_release(&p->manifest);
}
