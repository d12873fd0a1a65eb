#include "node/home.h"

#include "base/buf.h"
#include "base/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char extension[] = ".olm";

enum ol_status ol_path_join(char path[OL_PATH_MAX], struct ol_error *err, const char *a,
			    const char *b, const char *c)
{
	const int n = snprintf(path, OL_PATH_MAX, "%s%s%s", a, b, c);
	if (n < 0 || n >= OL_PATH_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the path %s%s%s is too long", a, b, c);
	return OL_OK;
}

enum ol_status ol_home_open(struct ol_home *home, struct ol_error *err)
{
	char models[OL_PATH_MAX];
	const char *own = getenv("OPENLEDGER_HOME"), *xdg = getenv("XDG_DATA_HOME"),
		   *user = getenv("HOME");
	enum ol_status s;
	if (own && *own)
		s = ol_path_join(home->path, err, own, "", "");
	else if (xdg && *xdg)
		s = ol_path_join(home->path, err, xdg, "/openledger", "");
	else if (user && *user)
		s = ol_path_join(home->path, err, user, "/.local/share/openledger", "");
	else
		s = ol_fail(err, OL_ERR_INPUT,
			    "there is no home folder: set OPENLEDGER_HOME to the folder "
			    "that models are to be kept in");
	if (s == OL_OK)
		s = ol_path_join(models, err, home->path, "/models", "");
	return s == OL_OK ? ol_make_directories(models, err) : s;
}

static bool name_character(char c)
{
	return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-' || c == ':';
}

enum ol_status ol_name_check(const char *name, struct ol_error *err)
{
	const size_t length = strlen(name);
	bool good = length > 0 && length <= OL_NAME_MAX && name[0] != '.' && name[0] != '-';
	for (size_t i = 0; i < length; i++)
		good = good && name_character(name[i]);
	if (!good)
		return ol_fail(
			err, OL_ERR_INPUT,
			"\"%s\" is not a name: use at most %d letters, digits, '.', '_', '-' and "
			"':', "
			"beginning with a letter or digit",
			name, OL_NAME_MAX);
	return OL_OK;
}

void ol_name_from_path(char name[OL_NAME_MAX + 1], const char *path)
{
	size_t end = strlen(path), length = 0;
	while (end > 1 && path[end - 1] == '/')
		end--;
	size_t begin = end;
	while (begin > 0 && path[begin - 1] != '/')
		begin--;
	if (end - begin > 5 && strncmp(path + end - 5, ".gguf", 5) == 0)
		end -= 5;
	for (size_t i = begin; i < end && length < OL_NAME_MAX; i++)
		if (length > 0 || isalnum((unsigned char)path[i]))
			name[length++] = name_character(path[i]) ? path[i] : '-';
	if (length == 0)
		length = (size_t)snprintf(name, OL_NAME_MAX, "model");
	name[length] = '\0';
}

enum ol_status ol_home_model_path(const struct ol_home *home, char path[OL_PATH_MAX],
				  const char *model, struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	if (strchr(model, '/'))
		return ol_path_join(path, err, model, "", "");
	enum ol_status s = ol_name_check(model, err);
	if (s == OL_OK)
		s = ol_path_join(folder, err, home->path, "/models/", "");
	return s == OL_OK ? ol_path_join(path, err, folder, model, extension) : s;
}

enum ol_status ol_home_find_model(const struct ol_home *home, char path[OL_PATH_MAX],
				  const char *model, struct ol_error *err)
{
	enum ol_status s = ol_home_model_path(home, path, model, err);
	if (s != OL_OK || access(path, R_OK) == 0)
		return s;
	struct ol_names names = {0};
	struct ol_buf list;
	ol_buf_init(&list, OL_ERROR_TEXT_MAX / 2);
	if (ol_home_models(home, &names, NULL) == OL_OK)
		for (size_t i = 0; i < names.count; i++)
			ol_buf_printf(&list, "%s%s", i ? ", " : "", names.names[i]);
	if (names.count > 0)
		s = ol_fail(err, OL_ERR_NOT_FOUND, "there is no model \"%s\"; there are: %s", model,
			    list.data ? list.data : "");
	else
		s = ol_fail(err, OL_ERR_NOT_FOUND,
			    "there is no model \"%s\", nor any other: import one with "
			    "`openledger import PATH --name %s`",
			    model, model);
	ol_buf_release(&list);
	ol_names_release(&names);
	return s;
}

bool ol_home_has_model(const struct ol_home *home, const char *model)
{
	char path[OL_PATH_MAX];
	struct stat about;
	return ol_home_model_path(home, path, model, NULL) == OL_OK && stat(path, &about) == 0 &&
	       S_ISREG(about.st_mode);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

bool ol_names_push(struct ol_names *names, const char *name, size_t length)
{
	if (names->count == names->room) {
		const size_t room = OL_MAX(2 * names->room, (size_t)16);
		void *grown = realloc(names->names, room * sizeof *names->names);
		if (!grown)
			return false;
		names->names = grown;
		names->room = room;
	}
	memcpy(names->names[names->count], name, length);
	names->names[names->count++][length] = '\0';
	return true;
}

enum ol_status ol_home_models(const struct ol_home *home, struct ol_names *names,
			      struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	enum ol_status s = ol_path_join(folder, err, home->path, "/models", "");
	if (s != OL_OK)
		return s;
	DIR *dir = opendir(folder);
	if (!dir)
		return ol_fail(err, OL_ERR_IO, "cannot list %s: %s", folder, strerror(errno));
	for (struct dirent *entry; s == OL_OK && (entry = readdir(dir)) != NULL;) {
		const size_t length = strlen(entry->d_name), tail = sizeof extension - 1;
		if (length <= tail || length - tail > OL_NAME_MAX || entry->d_name[0] == '.' ||
		    strcmp(entry->d_name + length - tail, extension) != 0)
			continue;
		if (!ol_names_push(names, entry->d_name, length - tail))
			s = ol_fail(err, OL_ERR_FULL, "out of memory while listing %s", folder);
	}
	closedir(dir);
	ol_names_sort(names);
	return s;
}

void ol_names_sort(struct ol_names *names)
{
	if (names->count > 0)
		qsort(names->names, names->count, sizeof *names->names, compare_names);
}

void ol_names_release(struct ol_names *names)
{
	free(names->names);
	*names = (struct ol_names){0};
}
