#include "node/export.h"

#include "base/file.h"
#include "node/adapters.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *name;
	bool adapter, model, merged, folder;
} formats[OL_EXPORT_FORMATS] = {
	[OL_EXPORT_PEFT] = {"peft", true, false, false, true},
	[OL_EXPORT_GGUF] = {"gguf", true, true, false, false},
	[OL_EXPORT_SAFETENSORS] = {"safetensors", false, true, false, true},
	[OL_EXPORT_MERGED_SAFETENSORS] = {"merged-safetensors", true, false, true, true},
	[OL_EXPORT_MERGED_GGUF] = {"merged-gguf", true, false, true, false},
};

const char *ol_export_format_name(enum ol_export_format format)
{
	return formats[format].name;
}

bool ol_export_format_parse(enum ol_export_format *format_out, const char *name)
{
	for (int i = 0; i < OL_EXPORT_FORMATS; i++)
		if (strcmp(formats[i].name, name) == 0) {
			*format_out = (enum ol_export_format)i;
			return true;
		}
	return false;
}

/* A folder that holds nothing is as good as none. */
static bool is_free(const char *path)
{
	struct stat about;
	if (stat(path, &about) != 0)
		return errno == ENOENT;
	DIR *dir = S_ISDIR(about.st_mode) ? opendir(path) : NULL;
	int entries = 0;
	if (!dir)
		return false;
	while (readdir(dir))
		entries++;
	closedir(dir);
	return entries <= 2; /* "." and ".." */
}

static enum ol_status write_model(const struct ol_model *model, enum ol_export_format format,
				  const char *output, struct ol_error *err)
{
	return formats[format].folder ? ol_export_folder(output, model, err)
				      : ol_export_gguf(output, model, err);
}

/* An adapter that is handed out, and all it belongs to. */
struct parcel {
	const struct ol_export_request *request;
	char folder[OL_PATH_MAX];
	struct ol_manifest manifest;
	bool has_manifest;
	struct ol_model *base;
	struct ol_adapter *adapter;
};

static enum ol_status write_text(const char *folder, const char *name, const struct ol_buf *text,
				 struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_writer *writer;
	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return ol_fail(err, OL_ERR_INPUT, "the path %s/%s is too long", folder, name);
	enum ol_status s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, text->data, text->size, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

/* The card goes wherever there is a folder for it; the manifest with the adapter itself. */
static enum ol_status write_words(const struct parcel *p, struct ol_error *err)
{
	const struct ol_export_request *r = p->request;
	struct ol_buf card, manifest;
	if (!p->has_manifest || !formats[r->format].folder)
		return OL_OK;
	ol_buf_init(&card, OL_MANIFEST_MAX);
	ol_buf_init(&manifest, OL_MANIFEST_MAX);
	char name[OL_NAME_MAX + 1];
	ol_name_from_path(name, r->name);
	enum ol_status s = OL_OK;
	if (!ol_manifest_card(&card, &p->manifest, name, p->adapter) ||
	    !ol_manifest_write(&manifest, &p->manifest))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the card of \"%s\"", name);
	if (s == OL_OK)
		s = write_text(r->output, "README.md", &card, err);
	if (s == OL_OK && r->format == OL_EXPORT_PEFT)
		s = write_text(r->output, "manifest.json", &manifest, err);
	ol_buf_release(&manifest);
	ol_buf_release(&card);
	return s;
}

static enum ol_status write_merged(const struct parcel *p, struct ol_error *err)
{
	const struct ol_export_request *r = p->request;
	const bool f32 = ol_model_weight_type(p->base) == OL_WEIGHT_F32;
	const enum ol_weight_type type = r->weights_given ? r->weights
					 : f32            ? OL_WEIGHT_F32
							  : OL_WEIGHT_BF16;
	char between[OL_PATH_MAX];
	struct ol_model *merged = NULL;
	if (snprintf(between, sizeof between, "%s.merging.olm", r->output) >= (int)sizeof between)
		return ol_fail(err, OL_ERR_INPUT, "the path %s is too long", r->output);
	enum ol_status s = ol_adapter_merge(between, p->base, p->adapter, type, err);
	if (s == OL_OK)
		s = ol_model_open(&merged, between, err);
	unlink(between); /* mapped: it lives until it is closed */
	if (s == OL_OK)
		s = write_model(merged, r->format, r->output, err);
	ol_model_close(merged);
	return s;
}

static enum ol_status write_adapter(const struct parcel *p, struct ol_error *err)
{
	const struct ol_export_request *r = p->request;
	switch (r->format) {
	case OL_EXPORT_PEFT: return ol_adapter_write(p->adapter, r->output, err);
	case OL_EXPORT_GGUF:
		return ol_adapter_write_gguf(p->adapter, r->output, ol_model_config(p->base), err);
	case OL_EXPORT_MERGED_SAFETENSORS:
	case OL_EXPORT_MERGED_GGUF: return write_merged(p, err);
	case OL_EXPORT_SAFETENSORS: break;
	}
	OL_UNREACHABLE();
}

static enum ol_status open_parcel(struct parcel *p, const struct ol_home *home,
				  struct ol_error *err)
{
	char base[OL_NAME_MAX + 1], path[OL_PATH_MAX];
	const char *name = p->request->base;
	enum ol_status s = ol_home_find_adapter(home, p->folder, p->request->name, err);
	if (s == OL_OK)
		s = ol_adapter_manifest(&p->manifest, &p->has_manifest, p->folder, err);
	if (s == OL_OK)
		s = ol_manifest_may_export(&p->manifest, err);
	if (s == OL_OK && !name) {
		s = ol_adapter_base(home, base, p->folder, err);
		name = base;
	}
	if (s == OL_OK)
		s = ol_home_find_model(home, path, name, err);
	if (s == OL_OK)
		s = ol_model_open(&p->base, path, err);
	return s == OL_OK ? ol_adapter_open(&p->adapter, p->folder, ol_model_config(p->base), err)
			  : s;
}

static enum ol_status export_adapter(const struct ol_home *home,
				     const struct ol_export_request *request, struct ol_error *err)
{
	struct parcel p = {.request = request};
	ol_manifest_init(&p.manifest);
	enum ol_status s = open_parcel(&p, home, err);
	if (s == OL_OK)
		s = write_adapter(&p, err);
	if (s == OL_OK)
		s = write_words(&p, err);
	ol_adapter_close(p.adapter);
	ol_model_close(p.base);
	ol_manifest_release(&p.manifest);
	return s;
}

static enum ol_status export_model(const struct ol_home *home,
				   const struct ol_export_request *request, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_model *model = NULL;
	enum ol_status s = ol_home_find_model(home, path, request->name, err);
	if (s == OL_OK)
		s = ol_model_open(&model, path, err);
	if (s == OL_OK)
		s = write_model(model, request->format, request->output, err);
	ol_model_close(model);
	return s;
}

enum ol_status ol_export(const struct ol_home *home, const struct ol_export_request *request,
			 struct ol_error *err)
{
	const enum ol_export_format format = request->format;
	const bool model = ol_home_has_model(home, request->name);
	const bool adapter = ol_home_has_adapter(home, request->name);
	if (!request->replace && !is_free(request->output))
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is there already: choose another place, or --force to replace "
			       "it",
			       request->output);
	if (model && formats[format].model)
		return export_model(home, request, err);
	if (adapter && formats[format].adapter)
		return export_adapter(home, request, err);
	if (model)
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%s\" is a model: it is exported as gguf or safetensors, not %s",
			       request->name, formats[format].name);
	if (adapter)
		return ol_fail(err, OL_ERR_INPUT,
			       "\"%s\" is an adapter: it is exported as peft, gguf, "
			       "merged-safetensors or merged-gguf",
			       request->name);
	return ol_fail(err, OL_ERR_NOT_FOUND, "there is neither an adapter nor a model \"%s\"",
		       request->name);
}
