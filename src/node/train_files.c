#include "node/train_files.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char metrics_name[] = "metrics.jsonl", examples_name[] = "examples.jsonl";

struct ol_step_log {
	FILE *file;
	char path[OL_PATH_MAX];
};

static enum ol_status file_path(char path[OL_PATH_MAX], const char *folder, const char *name,
				struct ol_error *err)
{
	const int n = snprintf(path, OL_PATH_MAX, "%s/%s", folder, name);
	if (n < 0 || n >= OL_PATH_MAX)
		return ol_fail(err, OL_ERR_INPUT, "the path %s/%s is too long", folder, name);
	return OL_OK;
}

static enum ol_status fail_write(const char *path, struct ol_error *err)
{
	return ol_fail(err, errno == ENOSPC ? OL_ERR_FULL : OL_ERR_IO, "cannot write %s: %s", path,
		       strerror(errno));
}

/* The lines of steps up to `done`; everything else came after the checkpoint that is gone on
 * from, and will come again. */
static size_t length_until(const struct ol_map *map, int done)
{
	const char *text = (const char *)map->data;
	size_t at = 0;
	while (at < map->size) {
		static const char begin[] = "{\"step\":";
		const char *end = memchr(text + at, '\n', map->size - at);
		const size_t skip = sizeof begin - 1;
		char number[16] = "";
		if (!end || map->size - at < skip || memcmp(text + at, begin, skip) != 0)
			break;
		memcpy(number, text + at + skip, OL_MIN(sizeof number - 1, map->size - at - skip));
		if (strtol(number, NULL, 10) > done)
			break;
		at = (size_t)(end - text) + 1;
	}
	return at;
}

enum ol_status ol_step_log_open(struct ol_step_log **metrics_out, const char *folder, int done,
				struct ol_error *err)
{
	struct ol_step_log *m = calloc(1, sizeof *m);
	struct ol_map map = {0};
	if (!m)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the metrics");
	enum ol_status s = ol_make_directories(folder, err);
	if (s == OL_OK)
		s = file_path(m->path, folder, metrics_name, err);
	size_t keep = 0;
	if (s == OL_OK && done > 0 && access(m->path, F_OK) == 0) {
		s = ol_map_open(&map, m->path, err);
		keep = length_until(&map, done);
		ol_map_close(&map);
	}
	if (s == OL_OK) {
		m->file = fopen(m->path, keep > 0 ? "r+" : "w");
		if (!m->file || fseek(m->file, (long)keep, SEEK_SET) != 0 ||
		    ftruncate(fileno(m->file), (off_t)keep) != 0)
			s = fail_write(m->path, err);
	}
	if (s == OL_OK)
		*metrics_out = m;
	else
		ol_step_log_close(m);
	return s;
}

/* Takes the reference. */
static enum ol_status write_line(FILE *file, const char *path, json_t *object, struct ol_error *err)
{
	const bool good = object && json_dumpf(object, file,
					       JSON_COMPACT | JSON_PRESERVE_ORDER |
						       JSON_REAL_PRECISION(9)) == 0;
	json_decref(object);
	if (!good || fputc('\n', file) == EOF || fflush(file) != 0)
		return fail_write(path, err);
	return OL_OK;
}

enum ol_status ol_step_log_add(struct ol_step_log *metrics, const struct ol_step_report *report,
			       struct ol_error *err)
{
	const struct ol_evaluation *e = &report->evaluation;
	json_t *line = json_pack(
		"{s:i, s:f, s:f, s:f, s:i, s:i, s:i, s:f}", "step", report->step, "loss",
		report->loss, "learning_rate", (double)report->learning_rate, "gradient_norm",
		report->gradient_norm, "examples", report->examples, "tokens", report->tokens,
		"answer_tokens", report->answer_tokens, "seconds", report->seconds);
	if (line && report->dpo_margin != 0) {
		json_object_set_new(line, "dpo_accuracy", json_real(report->dpo_accuracy));
		json_object_set_new(line, "dpo_margin", json_real(report->dpo_margin));
	}
	enum ol_status s = write_line(metrics->file, metrics->path, line, err);
	if (s != OL_OK || !report->evaluated)
		return s;
	line = json_pack("{s:i, s:f, s:f, s:f, s:I, s:b}", "step", report->step, "eval_loss",
			 e->loss, "eval_perplexity", e->perplexity, "eval_nats_per_byte",
			 e->nats_per_byte, "eval_examples", (json_int_t)e->examples, "best",
			 e->best);
	return write_line(metrics->file, metrics->path, line, err);
}

void ol_step_log_close(struct ol_step_log *metrics)
{
	if (!metrics)
		return;
	if (metrics->file)
		fclose(metrics->file);
	free(metrics);
}

enum ol_status ol_examples_write(const char *folder, const struct ol_dataset *dataset,
				 const struct ol_trainer *trainer, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	const float *losses = ol_trainer_example_losses(trainer);
	enum ol_status s = file_path(path, folder, examples_name, err);
	FILE *file = s == OL_OK ? fopen(path, "w") : NULL;
	if (s == OL_OK && !file)
		s = fail_write(path, err);
	for (size_t i = 0; i < ol_dataset_count(dataset) && s == OL_OK; i++) {
		const struct ol_example *e = ol_dataset_at(dataset, i);
		json_t *loss = isfinite(losses[i]) ? json_real((double)losses[i]) : json_null();
		s = write_line(file, path,
			       json_pack("{s:s, s:s, s:s, s:I, s:i, s:b, s:o}", "id", e->id,
					 "contributor", e->contributor, "file", e->record->file,
					 "line", (json_int_t)e->record->line, "answer_tokens",
					 e->answer_tokens, "held_out",
					 ol_trainer_is_held_out(trainer, i), "loss", loss),
			       err);
	}
	if (file && fclose(file) != 0 && s == OL_OK)
		s = fail_write(path, err);
	return s;
}

enum ol_status ol_run_file_copy(const char *to, const char *from, const char *name,
				struct ol_error *err)
{
	char source[OL_PATH_MAX], target[OL_PATH_MAX];
	struct ol_map map = {0};
	struct ol_writer *writer;
	enum ol_status s = file_path(source, from, name, err);
	if (s == OL_OK)
		s = file_path(target, to, name, err);
	if (s == OL_OK)
		s = ol_map_open(&map, source, err);
	if (s == OL_OK)
		s = ol_writer_open(&writer, target, err);
	if (s == OL_OK) {
		s = ol_writer_append(writer, map.data, map.size, err);
		if (s == OL_OK)
			s = ol_writer_commit(writer, err);
		else
			ol_writer_abort(writer);
	}
	ol_map_close(&map);
	return s;
}

enum ol_status ol_run_folder_clear(const char *folder, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	DIR *dir = opendir(folder);
	enum ol_status s = OL_OK;
	if (!dir)
		return errno == ENOENT ? OL_OK
				       : ol_fail(err, OL_ERR_IO, "cannot list %s: %s", folder,
						 strerror(errno));
	for (struct dirent *entry; s == OL_OK && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		s = file_path(path, folder, entry->d_name, err);
		if (s == OL_OK && unlink(path) != 0 && errno != ENOENT)
			s = ol_fail(err, OL_ERR_IO, "cannot remove %s: %s", path, strerror(errno));
	}
	closedir(dir);
	return s;
}
