/* manifest.json: the struct, its canonical text, and back. */
#include "train/manifest.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"

enum { VERSION = 1, DUMP = JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9) };

/* ---- The struct --------------------------------------------------------------------------- */

void ol_manifest_init(struct ol_manifest *manifest)
{
	*manifest = (struct ol_manifest){
		.train_loss = NAN,
		.eval_loss = NAN,
		.eval_perplexity = NAN,
		.eval_nats_per_byte = NAN,
		.seconds = NAN,
		.tokens_per_second = NAN,
		.fidelity = {0, NAN, NAN, NAN, NAN, NAN, NAN},
	};
	snprintf(manifest->arithmetic, sizeof manifest->arithmetic, "%s", OL_ARITHMETIC_VERSION);
	snprintf(manifest->code, sizeof manifest->code, "%s", OL_VERSION);
}

static void release_source(struct ol_manifest_source *source)
{
	free(source->file);
	free(source->path);
	free(source->license);
	free(source->attribution);
}

void ol_manifest_release(struct ol_manifest *manifest)
{
	for (size_t i = 0; i < manifest->source_count; i++)
		release_source(&manifest->sources[i]);
	for (size_t i = 0; i < manifest->contributor_count; i++)
		free(manifest->contributors[i].name);
	free(manifest->sources);
	free(manifest->contributors);
	ol_manifest_init(manifest);
}

void ol_manifest_stamp(struct ol_manifest *manifest, int64_t seconds)
{
	const time_t at = (time_t)seconds;
	struct tm parts;
	if (!gmtime_r(&at, &parts) || strftime(manifest->created, sizeof manifest->created,
					       "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
		manifest->created[0] = '\0';
}

static bool copy_text(char **out, const char *text)
{
	*out = text ? strdup(text) : NULL;
	return !text || *out;
}

/* Makes room for one more of an array of `count`. */
static bool grow(void **items, size_t count, size_t size)
{
	if (count & (count - 1)) /* grown at 0, 1, 2, 4, 8, … only */
		return true;
	void *grown = realloc(*items, (count ? 2 * count : 1) * size);
	if (grown)
		*items = grown;
	return grown != NULL;
}

bool ol_manifest_add_source(struct ol_manifest *manifest, const struct ol_manifest_source *source)
{
	if (!grow((void **)&manifest->sources, manifest->source_count, sizeof *manifest->sources))
		return false;
	struct ol_manifest_source *own = &manifest->sources[manifest->source_count];
	*own = *source;
	const bool file = copy_text(&own->file, source->file);
	const bool path = copy_text(&own->path, source->path);
	const bool license = copy_text(&own->license, source->license);
	const bool attribution = copy_text(&own->attribution, source->attribution);
	if (!file || !path || !license || !attribution) {
		release_source(own);
		return false;
	}
	manifest->source_count++;
	return true;
}

bool ol_manifest_add_contributor(struct ol_manifest *manifest, const char *name, uint64_t examples)
{
	size_t low = 0, high = manifest->contributor_count;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		const int order = strcmp(manifest->contributors[middle].name, name);
		if (order == 0) {
			manifest->contributors[middle].examples += examples;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	char *own;
	if (!grow((void **)&manifest->contributors, manifest->contributor_count,
		  sizeof *manifest->contributors) ||
	    !copy_text(&own, name))
		return false;
	memmove(&manifest->contributors[low + 1], &manifest->contributors[low],
		(manifest->contributor_count - low) * sizeof *manifest->contributors);
	manifest->contributors[low] = (struct ol_manifest_contributor){own, examples};
	manifest->contributor_count++;
	return true;
}

static const char *without_folders(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static enum ol_status describe_sources(struct ol_manifest *manifest,
				       const struct ol_records *records, struct ol_error *err)
{
	const struct ol_source_card *cards;
	const int count = ol_records_cards(records, &cards);
	for (int i = 0; i < count; i++) {
		struct ol_manifest_source source = {
			.file = (char *)(uintptr_t)without_folders(cards[i].file),
			.path = (char *)(uintptr_t)cards[i].file,
			.license = (char *)(uintptr_t)cards[i].license,
			.attribution = (char *)(uintptr_t)cards[i].attribution,
			.train = cards[i].train,
			.export_ = cards[i].export_,
			.commercial = cards[i].commercial,
		};
		struct ol_map map;
		const enum ol_status s = ol_map_open(&map, cards[i].file, err);
		if (s != OL_OK)
			return s;
		ol_sha256(source.sha256, map.data, map.size);
		ol_map_close(&map);
		if (!ol_manifest_add_source(manifest, &source))
			return ol_fail(err, OL_ERR_FULL, "out of memory for the manifest");
	}
	return OL_OK;
}

enum ol_status ol_manifest_describe(struct ol_manifest *manifest, const struct ol_records *records,
				    const struct ol_dataset *dataset, struct ol_error *err)
{
	manifest->trained = true;
	manifest->examples = ol_dataset_count(dataset);
	memcpy(manifest->snapshot_sha256, ol_dataset_sha256(dataset), OL_SHA256_BYTES);
	for (size_t i = 0; i < ol_dataset_count(dataset); i++)
		if (!ol_manifest_add_contributor(manifest, ol_dataset_at(dataset, i)->contributor,
						 1))
			return ol_fail(err, OL_ERR_FULL, "out of memory for the manifest");
	return describe_sources(manifest, records, err);
}

enum ol_status ol_manifest_may_export(const struct ol_manifest *manifest, struct ol_error *err)
{
	for (size_t i = 0; i < manifest->source_count; i++)
		if (!manifest->sources[i].export_)
			return ol_fail(err, OL_ERR_INPUT,
				       "this adapter was trained on %s (%s), whose terms forbid "
				       "handing out what was made of it",
				       manifest->sources[i].file,
				       manifest->sources[i].license ? manifest->sources[i].license
								    : "no licence named");
	return OL_OK;
}

/* ---- Writing ------------------------------------------------------------------------------ */

static json_t *hex_json(const uint8_t *bytes)
{
	char text[2 * OL_SHA256_BYTES + 1];
	ol_hex(text, bytes, OL_SHA256_BYTES);
	return json_string(text);
}

static json_t *real_json(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *text_json(const char *text)
{
	return text ? json_string(text) : json_null();
}

/* The config's lines as members, in their order. */
static json_t *config_json(const struct ol_train_config *config)
{
	json_t *object = json_object();
	struct ol_buf text;
	ol_buf_init(&text, OL_TRAIN_CONFIG_MAX);
	bool ok = ol_train_config_write(&text, config);
	for (char *line = text.data; ok && line && *line;) {
		char *end = strchr(line, '\n'), *space = strchr(line, ' ');
		OL_ASSERT(end && space && space < end);
		*space = *end = '\0';
		ok = json_object_set_new(object, line, json_string(space + 1)) == 0;
		line = end + 1;
	}
	ol_buf_release(&text);
	if (ok)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *sources_json(const struct ol_manifest *m)
{
	json_t *list = json_array();
	for (size_t i = 0; i < m->source_count; i++) {
		const struct ol_manifest_source *s = &m->sources[i];
		if (json_array_append_new(
			    list, json_pack("{s:s, s:o, s:o, s:o, s:b, s:b, s:b}", "file", s->file,
					    "sha256", hex_json(s->sha256), "license",
					    text_json(s->license), "attribution",
					    text_json(s->attribution), "train", s->train, "export",
					    s->export_, "commercial", s->commercial)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *contributors_json(const struct ol_manifest *m)
{
	json_t *list = json_array();
	for (size_t i = 0; i < m->contributor_count; i++)
		if (json_array_append_new(
			    list, json_pack("{s:s, s:I}", "name", m->contributors[i].name,
					    "examples", (json_int_t)m->contributors[i].examples)) !=
		    0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *training_json(const struct ol_manifest *m)
{
	if (!m->trained)
		return json_null();
	return json_pack("{s:o, s:{s:s, s:b, s:b}, s:o, s:I, s:o, s:o, s:{s:o, s:o, s:o, s:o}}",
			 "config", config_json(&m->config), "data", "format",
			 ol_data_format_name(m->format), "loss_on_prompt", m->loss_on_prompt,
			 "single_text", m->single_text, "snapshot_sha256",
			 hex_json(m->snapshot_sha256), "examples", (json_int_t)m->examples,
			 "sources", sources_json(m), "contributors", contributors_json(m),
			 "metrics", "train_loss", real_json(m->train_loss), "eval_loss",
			 real_json(m->eval_loss), "eval_perplexity", real_json(m->eval_perplexity),
			 "eval_nats_per_byte", real_json(m->eval_nats_per_byte));
}

static json_t *attribution_json(const struct ol_manifest *m)
{
	const struct ol_manifest_fidelity *f = &m->fidelity;
	return json_pack("{s:o, s:o}", "index", hex_json(m->index_root), "fidelity",
			 f->subsets == 0
				 ? json_null()
				 : json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "subsets",
					     f->subsets, "alpha", real_json(f->alpha), "queries",
					     real_json(f->queries), "lds", real_json(f->lds),
					     "ceiling", real_json(f->ceiling), "removal",
					     real_json(f->removal), "shapley",
					     real_json(f->shapley)));
}

static json_t *run_json(const struct ol_manifest *m)
{
	json_t *paths = json_array();
	for (size_t i = 0; m->trained && i < m->source_count; i++)
		json_array_append_new(paths, text_json(m->sources[i].path));
	return json_pack("{s:s, s:o, s:o, s:o}", "created", m->created, "seconds",
			 real_json(m->seconds), "tokens_per_second",
			 real_json(m->tokens_per_second), "paths", paths);
}

bool ol_manifest_write(struct ol_buf *text, const struct ol_manifest *manifest)
{
	json_t *root = json_pack("{s:i, s:o, s:{s:s, s:o}, s:s, s:s, s:o}", "manifest", VERSION,
				 "adapter_sha256", hex_json(manifest->adapter_sha256), "base",
				 "name", manifest->base_name, "id", hex_json(manifest->base_id),
				 "arithmetic", manifest->arithmetic, "code", manifest->code,
				 "training", training_json(manifest));
	bool whole = !manifest->indexed ||
		     json_object_set_new(root, "attribution", attribution_json(manifest)) == 0;
	whole = json_object_set_new(root, "run", run_json(manifest)) == 0 && whole;
	char *dump = root && whole ? json_dumps(root, DUMP) : NULL;
	const bool ok = dump && ol_buf_append_text(text, dump) && ol_buf_append_text(text, "\n");
	free(dump);
	json_decref(root);
	return ok;
}

/* ---- Reading ------------------------------------------------------------------------------ */

struct reader {
	struct ol_manifest *m;
	const char *where;
	struct ol_error *err;
};

static enum ol_status damaged(const struct reader *r, const char *key)
{
	return ol_fail(r->err, OL_ERR_INPUT, "%s: \"%s\" is missing or not what it should be",
		       r->where, key);
}

static bool read_hex(uint8_t *out, const json_t *value)
{
	const char *text = json_string_value(value);
	if (!text || strlen(text) != 2 * OL_SHA256_BYTES ||
	    strspn(text, "0123456789abcdef") != 2 * OL_SHA256_BYTES)
		return false;
	for (int i = 0; i < OL_SHA256_BYTES; i++) {
		const char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
		out[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

static bool read_text(char *out, size_t room, const json_t *value)
{
	const char *text = json_string_value(value);
	if (!text || strlen(text) >= room)
		return false;
	memcpy(out, text, strlen(text) + 1);
	return true;
}

static bool read_count(uint64_t *out, const json_t *value)
{
	*out = json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
	return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool read_real(double *out, const json_t *value)
{
	*out = json_is_real(value) ? json_real_value(value) : NAN;
	return json_is_real(value) || json_is_null(value);
}

static bool read_bool(bool *out, const json_t *value)
{
	*out = json_is_true(value);
	return json_is_boolean(value);
}

/* A text, or null. */
static bool borrow_text(char **out, const json_t *value)
{
	*out = (char *)(uintptr_t)json_string_value(value);
	return json_is_null(value) ||
	       (json_is_string(value) && json_string_length(value) <= OL_MANIFEST_TEXT_MAX);
}

static enum ol_status read_config(const struct reader *r, json_t *object)
{
	const char *key;
	json_t *value;
	struct ol_buf text;
	struct ol_error why = {0};
	ol_buf_init(&text, OL_TRAIN_CONFIG_MAX);
	json_object_foreach(object, key, value)
	{
		if (!json_is_string(value) ||
		    !ol_buf_printf(&text, "%s %s\n", key, json_string_value(value)))
			text.failed = true;
	}
	enum ol_status s =
		text.failed || !text.data
			? damaged(r, "config")
			: ol_train_config_read(&r->m->config, text.data, text.size, &why);
	if (s != OL_OK && why.text[0])
		s = ol_fail(r->err, s, "%s: %s", r->where, why.text);
	ol_buf_release(&text);
	return s;
}

static enum ol_status read_sources(const struct reader *r, const json_t *list, const json_t *paths)
{
	if (!json_is_array(list) || !json_is_array(paths) ||
	    json_array_size(list) != json_array_size(paths))
		return damaged(r, "sources");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		struct ol_manifest_source s = {0};
		const bool good =
			borrow_text(&s.file, json_object_get(item, "file")) && s.file &&
			read_hex(s.sha256, json_object_get(item, "sha256")) &&
			borrow_text(&s.license, json_object_get(item, "license")) &&
			borrow_text(&s.attribution, json_object_get(item, "attribution")) &&
			read_bool(&s.train, json_object_get(item, "train")) &&
			read_bool(&s.export_, json_object_get(item, "export")) &&
			read_bool(&s.commercial, json_object_get(item, "commercial")) &&
			borrow_text(&s.path, json_array_get(paths, i));
		if (!good)
			return damaged(r, "sources");
		if (!ol_manifest_add_source(r->m, &s))
			return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->where);
	}
	return OL_OK;
}

static enum ol_status read_contributors(const struct reader *r, const json_t *list)
{
	if (!json_is_array(list))
		return damaged(r, "contributors");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		uint64_t examples;
		char *name;
		if (!borrow_text(&name, json_object_get(item, "name")) || !name ||
		    !read_count(&examples, json_object_get(item, "examples")))
			return damaged(r, "contributors");
		if (!ol_manifest_add_contributor(r->m, name, examples))
			return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->where);
	}
	return OL_OK;
}

static enum ol_status read_training(const struct reader *r, const json_t *training,
				    const json_t *paths)
{
	struct ol_manifest *m = r->m;
	if (json_is_null(training))
		return OL_OK;
	const json_t *data = json_object_get(training, "data");
	const json_t *metrics = json_object_get(training, "metrics");
	const char *format = json_string_value(json_object_get(data, "format"));
	m->trained = true;
	enum ol_status s = read_config(r, json_object_get(training, "config"));
	if (s == OL_OK &&
	    !(format && ol_data_format_parse(&m->format, format) &&
	      read_bool(&m->loss_on_prompt, json_object_get(data, "loss_on_prompt")) &&
	      read_bool(&m->single_text, json_object_get(data, "single_text"))))
		s = damaged(r, "data");
	if (s == OL_OK &&
	    !read_hex(m->snapshot_sha256, json_object_get(training, "snapshot_sha256")))
		s = damaged(r, "snapshot_sha256");
	if (s == OL_OK && !read_count(&m->examples, json_object_get(training, "examples")))
		s = damaged(r, "examples");
	if (s == OL_OK)
		s = read_sources(r, json_object_get(training, "sources"), paths);
	if (s == OL_OK)
		s = read_contributors(r, json_object_get(training, "contributors"));
	if (s == OL_OK &&
	    !(read_real(&m->train_loss, json_object_get(metrics, "train_loss")) &&
	      read_real(&m->eval_loss, json_object_get(metrics, "eval_loss")) &&
	      read_real(&m->eval_perplexity, json_object_get(metrics, "eval_perplexity")) &&
	      read_real(&m->eval_nats_per_byte, json_object_get(metrics, "eval_nats_per_byte"))))
		s = damaged(r, "metrics");
	return s;
}

/* Where there is no index there is no such member. */
static enum ol_status read_attribution(const struct reader *r, const json_t *attribution)
{
	struct ol_manifest_fidelity *f = &r->m->fidelity;
	const json_t *fidelity = json_object_get(attribution, "fidelity");
	uint64_t subsets;
	if (!attribution)
		return OL_OK;
	r->m->indexed = true;
	if (!read_hex(r->m->index_root, json_object_get(attribution, "index")))
		return damaged(r, "index");
	if (json_is_null(fidelity))
		return OL_OK;
	if (!read_count(&subsets, json_object_get(fidelity, "subsets")) || subsets == 0 ||
	    subsets > INT32_MAX || !read_real(&f->alpha, json_object_get(fidelity, "alpha")) ||
	    !read_real(&f->queries, json_object_get(fidelity, "queries")) ||
	    !read_real(&f->lds, json_object_get(fidelity, "lds")) ||
	    !read_real(&f->ceiling, json_object_get(fidelity, "ceiling")) ||
	    !read_real(&f->removal, json_object_get(fidelity, "removal")) ||
	    !read_real(&f->shapley, json_object_get(fidelity, "shapley")))
		return damaged(r, "fidelity");
	f->subsets = (int)subsets;
	return OL_OK;
}

static enum ol_status read_root(const struct reader *r, const json_t *root)
{
	struct ol_manifest *m = r->m;
	const json_t *version = json_object_get(root, "manifest");
	const json_t *base = json_object_get(root, "base"), *run = json_object_get(root, "run");
	if (!json_is_integer(version))
		return damaged(r, "manifest");
	if (json_integer_value(version) != VERSION)
		return ol_fail(r->err, OL_ERR_UNSUPPORTED,
			       "%s: a manifest of version %lld; this program reads version %d",
			       r->where, (long long)json_integer_value(version), VERSION);
	if (!read_hex(m->adapter_sha256, json_object_get(root, "adapter_sha256")))
		return damaged(r, "adapter_sha256");
	if (!read_text(m->base_name, sizeof m->base_name, json_object_get(base, "name")) ||
	    !read_hex(m->base_id, json_object_get(base, "id")))
		return damaged(r, "base");
	if (!read_text(m->arithmetic, sizeof m->arithmetic, json_object_get(root, "arithmetic")))
		return damaged(r, "arithmetic");
	if (!read_text(m->code, sizeof m->code, json_object_get(root, "code")))
		return damaged(r, "code");
	if (!read_text(m->created, sizeof m->created, json_object_get(run, "created")) ||
	    !read_real(&m->seconds, json_object_get(run, "seconds")) ||
	    !read_real(&m->tokens_per_second, json_object_get(run, "tokens_per_second")))
		return damaged(r, "run");
	const enum ol_status s = read_attribution(r, json_object_get(root, "attribution"));
	return s == OL_OK ? read_training(r, json_object_get(root, "training"),
					  json_object_get(run, "paths"))
			  : s;
}

/* One text per manifest: what this program would not have written is refused. */
static enum ol_status check_canonical(const struct reader *r, const char *text, size_t size)
{
	struct ol_buf again;
	ol_buf_init(&again, OL_MANIFEST_MAX);
	const bool written = ol_manifest_write(&again, r->m);
	const bool same = written && again.size == size && memcmp(again.data, text, size) == 0;
	ol_buf_release(&again);
	if (!written)
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->where);
	return same ? OL_OK
		    : ol_fail(r->err, OL_ERR_INPUT,
			      "%s: not the text that this program writes: it was changed by hand",
			      r->where);
}

enum ol_status ol_manifest_read(struct ol_manifest *manifest, const char *text, size_t size,
				const char *where, struct ol_error *err)
{
	const struct reader r = {manifest, where, err};
	json_error_t why;
	ol_manifest_init(manifest);
	json_t *root = size <= OL_MANIFEST_MAX
			       ? json_loadb(text, size, JSON_REJECT_DUPLICATES, &why)
			       : NULL;
	if (size > OL_MANIFEST_MAX)
		return ol_fail(err, OL_ERR_INPUT, "%s: %zu bytes, above the limit of %d", where,
			       size, OL_MANIFEST_MAX);
	if (!root)
		return ol_fail(err, OL_ERR_INPUT, "%s: line %d: not JSON: %s", where, why.line,
			       why.text);
	enum ol_status s = read_root(&r, root);
	json_decref(root);
	return s == OL_OK ? check_canonical(&r, text, size) : s;
}
