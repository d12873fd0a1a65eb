#include "http/files_routes.h"

#include "http/later.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FORM_EXTRA = 64 << 10 /* bytes of a form beside its file */, FIELD_MAX = 64 };

struct ol_files_api {
	struct ol_files *files;
	struct ol_later *quick, *slow; /* what asks the store; what reads whole files */
	struct ol_later_route upload, list, get, content, remove;
};

bool ol_query_number(struct ol_http_request *request, int *out, const char *name, int low, int high,
		     int otherwise)
{
	const char *text = ol_http_query(request, name);
	char *end;
	*out = otherwise;
	if (!text)
		return true;
	errno = 0;
	const long value = strtol(text, &end, 10);
	if (errno == 0 && end != text && *end == '\0' && value >= low && value <= high) {
		*out = (int)value;
		return true;
	}
	ol_http_error(request, 400, "invalid_request_error", name, "invalid_value",
		      "%s must be a whole number from %d to %d.", name, low, high);
	return false;
}

static const char *account_of(const struct ol_http_request *request)
{
	return ol_http_caller(request)->account;
}

/* ---- Upload ---- */

enum field { FIELD_NONE, FIELD_FILE, FIELD_PURPOSE };

/* Of the request, while its body comes. */
struct form {
	struct ol_upload *upload; /* NULL until the file's part begins */
	enum field field;
	size_t extra;
	char name[OL_FILE_NAME_MAX + 2], purpose[FIELD_MAX];
};

static struct form *form_of(struct ol_http_request *request)
{
	struct form *form = ol_http_context(request);
	if (!form) {
		form = ol_http_alloc(request, sizeof *form);
		ol_http_set_context(request, form);
	}
	return form;
}

/* Some programs send a whole path. One byte more than a name may have stays: that is refused
 * later. */
static void take_name(struct form *form, const char *filename)
{
	const char *name = filename;
	for (const char *p = filename; *p; p++)
		if (*p == '/' || *p == '\\')
			name = p + 1;
	snprintf(form->name, sizeof form->name, "%s", name);
}

static bool refuse(struct ol_http_request *request, struct form *form, const char *param,
		   const char *sentence)
{
	ol_upload_abort(form->upload);
	form->upload = NULL;
	ol_http_error(request, 400, "invalid_request_error", param, "invalid_value", "%s",
		      sentence);
	return false;
}

static bool begin_part(void *self, struct ol_http_request *request, const struct ol_http_part *part)
{
	const struct ol_files_api *api = ((struct ol_later_route *)self)->self;
	struct form *form = form_of(request);
	struct ol_error err;
	if (!form) {
		ol_http_error_later(request, 503, 1, NULL, NULL, "out of memory for an upload");
		return false;
	}
	form->field = FIELD_NONE;
	if (strcmp(part->name, "purpose") == 0)
		form->field = FIELD_PURPOSE;
	if (strcmp(part->name, "file") != 0)
		return true;
	if (form->upload)
		return refuse(request, form, "file", "One upload is one file: send one `file`.");
	if (!part->filename || !*part->filename)
		return refuse(request, form, "file",
			      "The part `file` needs a filename: its extension tells the kind of "
			      "data.");
	take_name(form, part->filename);
	form->field = FIELD_FILE;
	if (ol_upload_open(&form->upload, api->files, account_of(request), &err) == OL_OK)
		return true;
	form->upload = NULL;
	ol_http_error_from(request, &err);
	return false;
}

static bool take_bytes(void *self, struct ol_http_request *request, const void *bytes, size_t size)
{
	struct form *form = ol_http_context(request);
	struct ol_error err;
	(void)self;
	if (form->field == FIELD_FILE) {
		const enum ol_status s = ol_upload_append(form->upload, bytes, size, &err);
		if (s == OL_OK)
			return true;
		ol_upload_abort(form->upload);
		form->upload = NULL;
		if (s == OL_ERR_FULL)
			ol_http_error(request, 413, "invalid_request_error", "file",
				      "file_too_large", "%s", err.text);
		else
			ol_http_error_from(request, &err);
		return false;
	}
	form->extra += size;
	if (form->extra > FORM_EXTRA)
		return refuse(request, form, NULL, "The form holds too much beside its file.");
	const size_t have = strlen(form->purpose);
	if (form->field == FIELD_PURPOSE) {
		if (size >= sizeof form->purpose - have || memchr(bytes, '\0', size))
			return refuse(request, form, "purpose", "The purpose is too long.");
		memcpy(form->purpose + have, bytes, size);
		form->purpose[have + size] = '\0';
	}
	return true;
}

static void abort_upload(void *self, struct ol_http_request *request)
{
	struct form *form = ol_http_context(request);
	(void)self;
	if (form)
		ol_upload_abort(form->upload);
}

static const struct ol_http_upload upload_callbacks = {begin_part, take_bytes, abort_upload};

static void finish_upload(void *self, struct ol_http_request *request)
{
	struct form *form = ol_http_context(request);
	struct ol_file file;
	struct ol_error err;
	(void)self;
	if (!form || !form->upload) {
		ol_http_error(request, 400, "invalid_request_error", "file", "missing_file",
			      "Send a form (multipart/form-data) with a `file` and a `purpose`.");
		return;
	}
	if (!*form->purpose) {
		ol_upload_abort(form->upload);
		ol_http_error(request, 400, "invalid_request_error", "purpose", "missing_purpose",
			      "Send the form field `purpose`: fine-tune.");
		return;
	}
	enum ol_status s = ol_purpose_check(form->purpose, &err);
	if (s != OL_OK) {
		ol_upload_abort(form->upload);
		ol_http_error_about(request, &err, "purpose", "not_found");
		return;
	}
	s = ol_upload_finish(form->upload, &file, form->name, form->purpose, &err);
	if (s == OL_OK) {
		ol_http_note(request, "file", file.id);
		ol_http_note_number(request, "bytes", (int64_t)file.bytes);
		ol_http_reply_json(request, 200, ol_file_json(&file));
	} else {
		ol_http_error_about(request, &err, "file", "not_found");
	}
}

/* Too much waits: the upload must not be left open. */
static void hand_upload_over(void *self, struct ol_http_request *request)
{
	struct form *form = ol_http_context(request);
	if (!form || !form->upload) {
		finish_upload(NULL, request);
	} else if (!ol_later_hand_over(self, request)) {
		ol_upload_abort(form->upload);
		ol_later_refuse(request);
	}
}

/* ---- The rest ---- */

static void list_files(void *self, struct ol_http_request *request)
{
	struct ol_files_api *api = self;
	struct ol_list_query query = {.after = ol_http_query(request, "after"),
				      .purpose = ol_http_query(request, "purpose")};
	const char *order = ol_http_query(request, "order");
	struct ol_error err;
	json_t *list;
	if (!ol_query_number(request, &query.limit, "limit", 1, OL_LIST_MAX, OL_LIST_MAX))
		return;
	if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
		ol_http_error(request, 400, "invalid_request_error", "order", "invalid_value",
			      "order must be asc or desc.");
		return;
	}
	query.oldest_first = order && strcmp(order, "asc") == 0;
	if (ol_files_list(api->files, &list, account_of(request), &query, &err) == OL_OK)
		ol_http_reply_json(request, 200, list);
	else
		ol_http_error_about(request, &err, "after", "not_found");
}

static void get_file(void *self, struct ol_http_request *request)
{
	struct ol_files_api *api = self;
	struct ol_file file;
	struct ol_error err;
	if (ol_files_find(api->files, &file, account_of(request), ol_http_param(request, "id"),
			  &err) == OL_OK)
		ol_http_reply_json(request, 200, ol_file_json(&file));
	else
		ol_http_error_about(request, &err, "id", "not_found");
}

static void get_content(void *self, struct ol_http_request *request)
{
	struct ol_files_api *api = self;
	struct ol_file file;
	struct ol_error err;
	char path[OL_PATH_MAX];
	enum ol_status s = ol_files_find(api->files, &file, account_of(request),
					 ol_http_param(request, "id"), &err);
	if (s == OL_OK)
		s = ol_files_content(api->files, path, &file, &err);
	const int fd = s == OL_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		/* Never shown as a page of this node: it is what a stranger has written. */
		ol_http_set_header(request, "content-disposition", "attachment");
		ol_http_reply_file(request, 200, "application/octet-stream", fd, 0, file.bytes);
		return;
	}
	if (s == OL_OK)
		(void)ol_fail(&err, OL_ERR_IO, "cannot open %s: %s", path, strerror(errno));
	ol_http_error_about(request, &err, "id", "not_found");
}

static void delete_file(void *self, struct ol_http_request *request)
{
	struct ol_files_api *api = self;
	struct ol_error err;
	const char *id = ol_http_param(request, "id");
	if (ol_files_delete(api->files, account_of(request), id, &err) == OL_OK)
		ol_http_reply_json(
			request, 200,
			json_pack("{s:s, s:s, s:b}", "id", id, "object", "file", "deleted", true));
	else
		ol_http_error_about(request, &err, "id", "not_found");
}

/* ---- The table ---- */

enum ol_status ol_files_api_open(struct ol_files_api **api_out, struct ol_files *files,
				 struct ol_error *err)
{
	struct ol_files_api *api = calloc(1, sizeof *api);
	if (!api)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the files' routes");
	api->files = files;
	enum ol_status s = ol_later_open(&api->quick, err);
	if (s == OL_OK)
		s = ol_later_open(&api->slow, err);
	if (s != OL_OK) {
		ol_files_api_close(api);
		return s;
	}
	api->upload = (struct ol_later_route){api->slow, finish_upload, api};
	api->list = (struct ol_later_route){api->quick, list_files, api};
	api->get = (struct ol_later_route){api->quick, get_file, api};
	api->content = (struct ol_later_route){api->quick, get_content, api};
	api->remove = (struct ol_later_route){api->quick, delete_file, api};
	*api_out = api;
	return OL_OK;
}

void ol_files_api_close(struct ol_files_api *api)
{
	if (!api)
		return;
	ol_later_close(api->quick);
	ol_later_close(api->slow);
	free(api);
}

void ol_files_routes(struct ol_http_route out[OL_FILES_ROUTES], struct ol_files_api *api)
{
	const uint64_t scope = OL_SCOPE_FILES;
	const struct ol_http_route routes[OL_FILES_ROUTES] = {
		{"POST", "/v1/files", scope, ol_files_bytes_max(api->files) + FORM_EXTRA,
		 hand_upload_over, &api->upload, &upload_callbacks},
		{"GET", "/v1/files", scope, 0, ol_later_handle, &api->list, NULL},
		{"GET", "/v1/files/{id}", scope, 0, ol_later_handle, &api->get, NULL},
		{"GET", "/v1/files/{id}/content", scope, 0, ol_later_handle, &api->content, NULL},
		{"DELETE", "/v1/files/{id}", scope, 0, ol_later_handle, &api->remove, NULL},
	};
	memcpy(out, routes, sizeof routes);
}
