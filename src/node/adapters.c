#include "node/adapters.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char manifest_name[] = "manifest.json";

enum ol_status ol_home_adapter_path(const struct ol_home *home, char path[OL_PATH_MAX],
				    const char *adapter, struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	if (strchr(adapter, '/'))
		return ol_path_join(path, err, adapter, "", "");
	enum ol_status s = ol_name_check(adapter, err);
	if (s == OL_OK)
		s = ol_path_join(folder, err, home->path, "/adapters/", "");
	return s == OL_OK ? ol_path_join(path, err, folder, adapter, "") : s;
}

static bool holds_adapter(const char *folder)
{
	char path[OL_PATH_MAX];
	return ol_path_join(path, NULL, folder, "/adapter_config.json", "") == OL_OK &&
	       access(path, R_OK) == 0;
}

bool ol_home_has_adapter(const struct ol_home *home, const char *adapter)
{
	char path[OL_PATH_MAX];
	return ol_home_adapter_path(home, path, adapter, NULL) == OL_OK && holds_adapter(path);
}

enum ol_status ol_home_adapters(const struct ol_home *home, struct ol_names *names,
				struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	enum ol_status s = ol_path_join(folder, err, home->path, "/adapters", "");
	if (s != OL_OK)
		return s;
	DIR *dir = opendir(folder);
	if (!dir && errno == ENOENT)
		return OL_OK; /* none yet */
	if (!dir)
		return ol_fail(err, OL_ERR_IO, "cannot list %s: %s", folder, strerror(errno));
	for (struct dirent *entry; s == OL_OK && (entry = readdir(dir)) != NULL;) {
		if (ol_name_check(entry->d_name, NULL) != OL_OK ||
		    !ol_home_has_adapter(home, entry->d_name))
			continue;
		if (!ol_names_push(names, entry->d_name, strlen(entry->d_name)))
			s = ol_fail(err, OL_ERR_FULL, "out of memory while listing %s", folder);
	}
	closedir(dir);
	ol_names_sort(names);
	return s;
}

enum ol_status ol_home_find_adapter(const struct ol_home *home, char path[OL_PATH_MAX],
				    const char *adapter, struct ol_error *err)
{
	enum ol_status s = ol_home_adapter_path(home, path, adapter, err);
	if (s != OL_OK || holds_adapter(path))
		return s;
	if (strchr(adapter, '/'))
		return ol_fail(err, OL_ERR_NOT_FOUND,
			       "%s is no adapter: there is no adapter_config.json in it", adapter);
	struct ol_names names = {0};
	struct ol_buf list;
	ol_buf_init(&list, OL_ERROR_TEXT_MAX / 2);
	if (ol_home_adapters(home, &names, NULL) == OL_OK)
		for (size_t i = 0; i < names.count; i++)
			ol_buf_printf(&list, "%s%s", i ? ", " : "", names.names[i]);
	if (names.count > 0)
		s = ol_fail(err, OL_ERR_NOT_FOUND, "there is no adapter \"%s\"; there are: %s",
			    adapter, list.data ? list.data : "");
	else
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "there is no adapter \"%s\", nor any other: make one with `openledger "
			    "train`, or bring one in with `openledger import-adapter DIR`",
			    adapter);
	ol_buf_release(&list);
	ol_names_release(&names);
	return s;
}

/* --- bases ----------------------------------------------------------------- */

enum ol_status ol_adapter_manifest(struct ol_manifest *manifest, bool *found, const char *folder,
				   struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_map map;
	ol_manifest_init(manifest);
	*found = false;
	enum ol_status s = ol_path_join(path, err, folder, "/", manifest_name);
	if (s != OL_OK || access(path, F_OK) != 0)
		return s;
	s = ol_map_open(&map, path, err);
	if (s == OL_OK) {
		s = ol_manifest_read(manifest, (const char *)map.data, map.size, path, err);
		ol_map_close(&map);
	}
	*found = s == OL_OK;
	if (s != OL_OK)
		ol_manifest_release(manifest);
	return s;
}

/* The home's model of this id. */
static bool model_by_id(const struct ol_home *home, char name[OL_NAME_MAX + 1],
			const uint8_t id[OL_MODEL_ID_BYTES])
{
	struct ol_names names = {0};
	bool found = false;
	if (ol_home_models(home, &names, NULL) == OL_OK)
		for (size_t i = 0; i < names.count && !found; i++) {
			char path[OL_PATH_MAX];
			struct ol_model *model;
			if (ol_home_model_path(home, path, names.names[i], NULL) != OL_OK ||
			    ol_model_open(&model, path, NULL) != OL_OK)
				continue;
			found = memcmp(ol_model_id(model), id, OL_MODEL_ID_BYTES) == 0;
			if (found)
				memcpy(name, names.names[i], OL_NAME_MAX + 1);
			ol_model_close(model);
		}
	ol_names_release(&names);
	return found;
}

/* A name as written, or the last part of a path or of "owner/name". */
static bool model_by_name(const struct ol_home *home, char name[OL_NAME_MAX + 1], const char *base)
{
	if (*base == '\0')
		return false;
	ol_name_from_path(name, base);
	return ol_home_has_model(home, name);
}

enum ol_status ol_adapter_base(const struct ol_home *home, char name[OL_NAME_MAX + 1],
			       const char *folder, struct ol_error *err)
{
	struct ol_manifest manifest;
	struct ol_adapter_about about;
	bool found;
	enum ol_status s = ol_adapter_look(&about, folder, err);
	if (s == OL_OK)
		s = ol_adapter_manifest(&manifest, &found, folder, err);
	if (s != OL_OK)
		return s;
	const char *base = found ? manifest.base_name : about.config.base_name;
	const bool here = (found && model_by_id(home, name, manifest.base_id)) ||
			  model_by_name(home, name, base);
	if (!here)
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "the base of %s, \"%s\", is not among the models: import it, or name "
			    "one with -m MODEL --adapter",
			    folder, base);
	ol_manifest_release(&manifest);
	return s;
}

/* --- installing ------------------------------------------------------------ */

static enum ol_status write_text(const char *folder, const char *name, const struct ol_buf *text,
				 struct ol_error *err)
{
	char path[OL_PATH_MAX];
	struct ol_writer *writer;
	enum ol_status s = ol_path_join(path, err, folder, "/", name);
	if (s == OL_OK)
		s = ol_writer_open(&writer, path, err);
	if (s != OL_OK)
		return s;
	s = ol_writer_append(writer, text->data, text->size, err);
	if (s == OL_OK)
		return ol_writer_commit(writer, err);
	ol_writer_abort(writer);
	return s;
}

/* Removes a folder of ours with the files in it. */
static void remove_folder(const char *folder)
{
	char path[OL_PATH_MAX];
	DIR *dir = opendir(folder);
	if (!dir)
		return;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		if (ol_path_join(path, NULL, folder, "/", entry->d_name) == OL_OK)
			unlink(path);
	closedir(dir);
	rmdir(folder);
}

enum ol_status ol_adapter_amend(const char *folder, const char *name,
				const struct ol_adapter *adapter,
				const struct ol_manifest *manifest, struct ol_error *err)
{
	struct ol_buf text, card;
	ol_buf_init(&text, OL_MANIFEST_MAX);
	ol_buf_init(&card, OL_MANIFEST_MAX);
	enum ol_status s = OL_OK;
	if (!ol_manifest_write(&text, manifest) ||
	    !ol_manifest_card(&card, manifest, name, adapter))
		s = ol_fail(err, OL_ERR_FULL, "out of memory for the manifest of \"%s\"", name);
	if (s == OL_OK)
		s = write_text(folder, manifest_name, &text, err);
	if (s == OL_OK)
		s = write_text(folder, "README.md", &card, err);
	ol_buf_release(&card);
	ol_buf_release(&text);
	return s;
}

static enum ol_status fill_folder(const char *folder, const char *name,
				  const struct ol_adapter *adapter,
				  const struct ol_manifest *manifest, struct ol_error *err)
{
	const enum ol_status s = ol_adapter_write(adapter, folder, err);
	return s == OL_OK ? ol_adapter_amend(folder, name, adapter, manifest, err) : s;
}

/* Puts the new folder in the old one's place. A crash between the two renames leaves the old one
 * under its other name; the next install of that name clears it away. */
static enum ol_status take_place(const char *fresh, const char *path, const char *old,
				 struct ol_error *err)
{
	remove_folder(old);
	if (rename(path, old) != 0 && errno != ENOENT)
		return ol_fail(err, OL_ERR_IO, "cannot move %s away: %s", path, strerror(errno));
	if (rename(fresh, path) != 0) {
		const int why = errno;
		if (rename(old, path) != 0 && errno != ENOENT)
			return ol_fail(err, OL_ERR_IO, "cannot move %s to %s; it stays as %s: %s",
				       fresh, path, old, strerror(why));
		return ol_fail(err, OL_ERR_IO, "cannot move %s to %s: %s", fresh, path,
			       strerror(why));
	}
	remove_folder(old);
	return OL_OK;
}

enum ol_status ol_adapter_install(const struct ol_home *home, const char *name,
				  const struct ol_adapter *adapter, struct ol_manifest *manifest,
				  bool replace, struct ol_error *err)
{
	char path[OL_PATH_MAX], adapters[OL_PATH_MAX], fresh[OL_PATH_MAX], old[OL_PATH_MAX];
	struct stat about;
	enum ol_status s = ol_name_check(name, err);
	if (s == OL_OK)
		s = ol_home_adapter_path(home, path, name, err);
	if (s == OL_OK)
		s = ol_path_join(adapters, err, home->path, "/adapters/", "");
	/* Hidden: a name never begins with a dot. */
	if (s == OL_OK)
		s = ol_path_join(fresh, err, adapters, ".new-", name);
	if (s == OL_OK)
		s = ol_path_join(old, err, adapters, ".old-", name);
	if (s == OL_OK && !replace && stat(path, &about) == 0)
		s = ol_fail(err, OL_ERR_INPUT,
			    "there is already an adapter \"%s\": choose another --name, or --force "
			    "to replace it",
			    name);
	if (s != OL_OK)
		return s;
	memcpy(manifest->adapter_sha256, ol_adapter_sha256(adapter), OL_SHA256_BYTES);
	remove_folder(fresh);
	s = fill_folder(fresh, name, adapter, manifest, err);
	if (s == OL_OK)
		s = take_place(fresh, path, old, err);
	if (s != OL_OK)
		remove_folder(fresh);
	return s;
}
