/* What is asked for, checked field by field; and the folder that a trainer works from. */
#include "node/jobs_internal.h"

#include "base/file.h"
#include "node/adapters.h"
#include "node/jobs_worker.h"
#include "node/train_files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { METADATA_KEY_MAX = 64, METADATA_VALUE_MAX = 512, MODEL_TAIL = 8 };
#define SEED_MAX INT64_C(9007199254740991) /* what every JSON reader keeps */

static enum ol_status refuse(struct ol_job_refusal *r, const char *field, enum ol_status status,
			     const char *sentence)
{
	snprintf(r->field, sizeof r->field, "%s", field);
	return ol_fail(&r->error, status, "%s", sentence);
}

/* NULL when it is not given or null. */
static const json_t *member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	return json_is_null(value) ? NULL : value;
}

static enum ol_status take_base(struct ol_jobs *jobs, struct job *job, const json_t *request,
				struct ol_job_refusal *r)
{
	const char *model = json_string_value(member(request, "model"));
	char path[OL_PATH_MAX];
	if (!model)
		return refuse(r, "model", OL_ERR_INPUT,
			      "model must name the base that is to be trained on");
	snprintf(r->field, sizeof r->field, "model");
	if (ol_name_check(model, NULL) != OL_OK)
		return ol_fail(&r->error, OL_ERR_NOT_FOUND, "there is no model \"%.100s\"", model);
	/* Training goes on from an adapter, if that is what is named. */
	if (!ol_home_has_model(&jobs->home, model) && ol_home_has_adapter(&jobs->home, model)) {
		enum ol_status s = ol_home_find_adapter(&jobs->home, path, model, &r->error);
		if (s == OL_OK)
			s = ol_adapter_base(&jobs->home, job->base, path, &r->error);
		json_object_set_new(job->request, "from", json_string(model));
		return s;
	}
	snprintf(job->base, sizeof job->base, "%s", model);
	return ol_home_find_model(&jobs->home, path, model, &r->error);
}

static enum ol_status take_file(struct ol_jobs *jobs, char id_out[OL_FILE_ID_CHARS + 1],
				const char *account, const json_t *request, const char *field,
				bool needed, struct ol_job_refusal *r)
{
	struct ol_file file;
	const json_t *value = member(request, field);
	snprintf(r->field, sizeof r->field, "%s", field);
	id_out[0] = '\0';
	if (!value && !needed)
		return OL_OK;
	if (!json_is_string(value))
		return ol_fail(&r->error, OL_ERR_INPUT,
			       "%s must be the id of a file (POST /v1/files)", field);
	const enum ol_status s =
		ol_files_find(jobs->files, &file, account, json_string_value(value), &r->error);
	if (s == OL_OK)
		memcpy(id_out, file.id, sizeof file.id);
	return s;
}

static enum ol_status take_suffix(struct job *job, const json_t *request, struct ol_job_refusal *r)
{
	const json_t *value = member(request, "suffix");
	const char *text = json_string_value(value);
	bool good = !value || (text && *text && strlen(text) <= OL_JOB_SUFFIX_MAX);
	for (const char *p = text; good && p && *p; p++)
		good = isalnum((unsigned char)*p) || strchr("._-", *p);
	if (!good)
		return refuse(r, "suffix", OL_ERR_INPUT,
			      "suffix must have 1 to 40 letters, digits, '.', '_' and '-'");
	snprintf(job->suffix, sizeof job->suffix, "%s", text ? text : "");
	return OL_OK;
}

static enum ol_status take_seed(struct job *job, const json_t *request, struct ol_job_refusal *r)
{
	const json_t *value = member(request, "seed");
	job->seed = value ? json_integer_value(value) : 1;
	if (value && (!json_is_integer(value) || job->seed < 0 || job->seed > SEED_MAX))
		return refuse(r, "seed", OL_ERR_INPUT,
			      "seed must be a whole number from 0 to 9007199254740991");
	return OL_OK;
}

static enum ol_status take_metadata(struct job *job, const json_t *request,
				    struct ol_job_refusal *r)
{
	json_t *object = json_object_get(request, "metadata");
	const char *key;
	json_t *value;
	bool good = !object || json_is_null(object) ||
		    (json_is_object(object) && json_object_size(object) <= OL_JOB_METADATA_MAX);
	if (good && json_is_object(object))
		json_object_foreach(object, key, value) good =
			good && strlen(key) <= METADATA_KEY_MAX && json_is_string(value) &&
			json_string_length(value) <= METADATA_VALUE_MAX;
	if (!good)
		return refuse(r, "metadata", OL_ERR_INPUT,
			      "metadata must be an object of at most 16 texts, keys up to 64 and "
			      "values up to 512 bytes");
	if (json_is_object(object))
		json_object_set(job->request, "metadata", object);
	return OL_OK;
}

/* "method", or the older "hyperparameters" beside it. */
static enum ol_status take_method(struct job *job, const json_t *request, struct ol_job_refusal *r)
{
	const json_t *method = member(request, "method"), *ours = member(request, "openledger"),
		     *usual = member(request, "hyperparameters");
	const char *type = "supervised";
	struct ol_train_wish wish;
	struct ol_job_extra extra;
	if (method && (!json_is_object(method) || !json_is_string(member(method, "type"))))
		return refuse(r, "method", OL_ERR_INPUT,
			      "method must be an object with a type: supervised or dpo");
	if (method) {
		type = json_string_value(member(method, "type"));
		const json_t *inner = member(member(method, type), "hyperparameters");
		usual = inner ? inner : usual;
	}
	if (usual && !json_is_object(usual))
		return refuse(r, "hyperparameters", OL_ERR_INPUT,
			      "hyperparameters must be an object");
	if (ours && !json_is_object(ours))
		return refuse(r, "openledger", OL_ERR_INPUT, "openledger must be an object");
	const enum ol_status s = ol_job_wish(&wish, &extra, r->field, type, usual, ours, &r->error);
	if (s != OL_OK)
		return s;
	json_object_set_new(job->request, "method", json_string(type));
	json_object_set_new(job->request, "hyperparameters",
			    usual ? json_deep_copy(usual) : json_object());
	json_object_set_new(job->request, "openledger",
			    ours ? json_deep_copy(ours) : json_object());
	return OL_OK;
}

static enum ol_status take_name(struct job *job, struct ol_job_refusal *r)
{
	char name[4 * OL_NAME_MAX];
	const size_t id = strlen(job->id);
	snprintf(name, sizeof name, "ft:%s:%s:%s", job->base, job->suffix,
		 job->id + id - MODEL_TAIL);
	if (strlen(name) > OL_NAME_MAX)
		return refuse(r, "suffix", OL_ERR_INPUT,
			      "the names of base and suffix are too long together");
	memcpy(job->model, name, strlen(name) + 1);
	return OL_OK;
}

enum ol_status job_parse(struct ol_jobs *jobs, struct job *job, const char *account,
			 json_t *request, struct ol_job_refusal *r)
{
	*r = (struct ol_job_refusal){0};
	*job = (struct job){.made_at = (int64_t)time(NULL)};
	ol_object_id_make(job->id, "ftjob-", 24);
	snprintf(job->account, sizeof job->account, "%s", account);
	job->request = json_object();
	if (!json_is_object(request))
		return refuse(r, "", OL_ERR_INPUT, "the request must be a JSON object");
	const json_t *integrations = member(request, "integrations");
	if (integrations && json_array_size(integrations) > 0)
		return refuse(r, "integrations", OL_ERR_INPUT,
			      "integrations are not supported: leave them out; events and metrics "
			      "come from this server");
	enum ol_status s = take_base(jobs, job, request, r);
	if (s == OL_OK)
		s = take_file(jobs, job->training_file, account, request, "training_file", true, r);
	if (s == OL_OK)
		s = take_file(jobs, job->validation_file, account, request, "validation_file",
			      false, r);
	if (s == OL_OK)
		s = take_suffix(job, request, r);
	if (s == OL_OK)
		s = take_seed(job, request, r);
	if (s == OL_OK)
		s = take_metadata(job, request, r);
	if (s == OL_OK)
		s = take_method(job, request, r);
	if (s == OL_OK)
		s = take_name(job, r);
	if (s == OL_OK && json_object_get(job->request, "from") == NULL)
		r->field[0] = '\0';
	return s;
}

/* ---- The folder ---- */

enum ol_status job_path(const struct ol_jobs *jobs, char path[OL_PATH_MAX], const char *id,
			const char *below, struct ol_error *err)
{
	char folder[OL_PATH_MAX];
	const enum ol_status s = ol_path_join(folder, err, jobs->folder, "/", id);
	return s == OL_OK ? ol_path_join(path, err, folder, below, "") : s;
}

/* data/training-NAME: the extension tells the kind of data, the name is in the manifest. */
static enum ol_status link_file(struct ol_jobs *jobs, json_t *work, const char *member_name,
				const struct job *job, const char *file_id, const char *subfolder,
				struct ol_error *err)
{
	struct ol_file file;
	char folder[OL_PATH_MAX], path[OL_PATH_MAX];
	if (!*file_id)
		return OL_OK;
	enum ol_status s = ol_files_find(jobs->files, &file, job->account, file_id, err);
	if (s == OL_OK)
		s = job_path(jobs, folder, job->id, subfolder, err);
	if (s == OL_OK)
		s = ol_make_directories(folder, err);
	if (s == OL_OK)
		s = ol_path_join(path, err, folder, "/", file.name);
	if (s == OL_OK)
		s = ol_files_link(jobs->files, &file, path, err);
	if (s == OL_OK && json_object_set_new(work, member_name, json_string(path)) != 0)
		s = ol_fail(err, OL_ERR_INPUT, "the path %s is not UTF-8", path);
	return s;
}

static enum ol_status write_work(const char *path, const json_t *work, struct ol_error *err)
{
	struct ol_writer *writer;
	char *text = json_dumps(work, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	if (!text)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %s", path);
	enum ol_status s = ol_writer_open(&writer, path, err);
	if (s == OL_OK) {
		s = ol_writer_append(writer, text, strlen(text), err);
		if (s == OL_OK)
			s = ol_writer_commit(writer, err);
		else
			ol_writer_abort(writer);
	}
	free(text);
	return s;
}

enum ol_status job_prepare(struct ol_jobs *jobs, const struct job *job, struct ol_error *err)
{
	char path[OL_PATH_MAX];
	json_t *work = json_pack("{s:s, s:s, s:I, s:I, s:O, s:O, s:O}", "base", job->base, "model",
				 job->model, "seed", (json_int_t)job->seed, "memory_max",
				 (json_int_t)jobs->options.memory_max, "method",
				 json_object_get(job->request, "method"), "hyperparameters",
				 json_object_get(job->request, "hyperparameters"), "openledger",
				 json_object_get(job->request, "openledger"));
	json_t *from = json_object_get(job->request, "from");
	if (!work)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a job");
	if (from)
		json_object_set(work, "from", from);
	enum ol_status s = link_file(jobs, work, "data", job, job->training_file, "/data", err);
	if (s == OL_OK)
		s = link_file(jobs, work, "validation", job, job->validation_file, "/validation",
			      err);
	if (s == OL_OK)
		s = job_path(jobs, path, job->id, "/job.json", err);
	if (s == OL_OK)
		s = write_work(path, work, err);
	json_decref(work);
	return s;
}

/* A folder and what is in it; symbolic links are removed, not followed. */
static void remove_folder(const char *folder, int depth)
{
	char path[OL_PATH_MAX];
	struct stat about;
	DIR *dir = depth > 0 ? opendir(folder) : NULL;
	for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    ol_path_join(path, NULL, folder, "/", e->d_name) != OL_OK)
			continue;
		if (lstat(path, &about) == 0 && S_ISDIR(about.st_mode))
			remove_folder(path, depth - 1);
		else
			unlink(path);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

void job_clear(const struct ol_jobs *jobs, const struct job *job, bool training)
{
	char path[OL_PATH_MAX];
	if (job_path(jobs, path, job->id, "", NULL) == OL_OK)
		remove_folder(path, 3);
	if (training &&
	    ol_path_join(path, NULL, jobs->home.path, "/training/", job->model) == OL_OK)
		remove_folder(path, 3);
}
