/* A folder of checkpoints: which there are, which may go. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "step-"
#define SUFFIX ".checkpoint"
#define TEMPORARY ".tmp-" /* base/file.c appends this and the writer's process id */

enum { DIGITS = 8 };

enum ol_status ol_checkpoint_path(char path[PATH_MAX], const char *folder, int step,
				  struct ol_error *err)
{
	const int length =
		snprintf(path, PATH_MAX, "%s/" PREFIX "%0*d" SUFFIX, folder, DIGITS, step);
	if (length < 0 || length >= PATH_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the path %s is too long", folder);
	return OL_OK;
}

/* The step of a checkpoint's name, or -1; *rest: what follows the suffix. */
static int step_of(const char *name, const char **rest)
{
	const size_t prefix = strlen(PREFIX), suffix = strlen(SUFFIX);
	char *end;
	if (strncmp(name, PREFIX, prefix) != 0)
		return -1;
	const long step = strtol(name + prefix, &end, 10);
	if (end != name + prefix + DIGITS && end != name + prefix + DIGITS + 1)
		return -1;
	if (step < 0 || step > OL_TRAIN_STEPS_MAX || strncmp(end, SUFFIX, suffix) != 0)
		return -1;
	*rest = end + suffix;
	return (int)step;
}

static int compare_descending(const void *a, const void *b)
{
	const int x = *(const int *)a, y = *(const int *)b;
	return (x < y) - (x > y);
}

enum ol_status ol_checkpoint_list(struct ol_checkpoint_list *list, const char *folder,
				  struct ol_error *err)
{
	int room = 0;
	*list = (struct ol_checkpoint_list){0};
	DIR *dir = opendir(folder);
	if (!dir)
		return errno == ENOENT ? OL_OK
				       : ol_fail(err, OL_ERR_IO, "cannot read the folder %s: %s",
						 folder, strerror(errno));
	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		const char *rest;
		const int step = step_of(entry->d_name, &rest);
		if (step < 0 || *rest != '\0')
			continue;
		if (list->count == room) {
			room = room ? 2 * room : 16;
			int *steps = realloc(list->steps, (size_t)room * sizeof *steps);
			if (!steps) {
				closedir(dir);
				ol_checkpoint_list_release(list);
				return ol_fail(err, OL_ERR_FULL, "out of memory while reading %s",
					       folder);
			}
			list->steps = steps;
		}
		list->steps[list->count++] = step;
	}
	closedir(dir);
	if (list->count > 0)
		qsort(list->steps, (size_t)list->count, sizeof *list->steps, compare_descending);
	return OL_OK;
}

void ol_checkpoint_list_release(struct ol_checkpoint_list *list)
{
	free(list->steps);
	*list = (struct ol_checkpoint_list){0};
}

/* Whether `rest` says that a process which is no more was writing this. */
static bool is_orphan(const char *rest)
{
	char *end;
	if (strncmp(rest, TEMPORARY, strlen(TEMPORARY)) != 0)
		return false;
	const long pid = strtol(rest + strlen(TEMPORARY), &end, 10);
	return *end == '\0' && pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static void delete_orphans(const char *folder)
{
	char path[PATH_MAX];
	DIR *dir = opendir(folder);
	for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
		const char *rest;
		const int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		if (step_of(entry->d_name, &rest) >= 0 && is_orphan(rest) && length > 0 &&
		    (size_t)length < sizeof path)
			unlink(path);
	}
	if (dir)
		closedir(dir);
}

void ol_checkpoint_prune(const char *folder, int keep, int step, int best_step)
{
	struct ol_checkpoint_list list;
	char path[PATH_MAX];
	int kept = 0;
	delete_orphans(folder);
	if (ol_checkpoint_list(&list, folder, NULL) != OL_OK)
		return;
	for (int i = 0; i < list.count; i++) {
		const int at = list.steps[i];
		const bool keeps = at <= step && (kept < keep || at == best_step);
		kept += at <= step;
		if (!keeps && ol_checkpoint_path(path, folder, at, NULL) == OL_OK)
			unlink(path);
	}
	ol_checkpoint_list_release(&list);
}
