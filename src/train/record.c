#include "train/record_internal.h"

#include "base/file.h"
#include "model/unicode.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const format_names[OL_DATA_FORMATS] = {
	"auto", "alpaca",     "sharegpt", "messages", "prompt",
	"text", "preference", "csv",      "plain",    "markdown"};

const char *ol_data_format_name(enum ol_data_format format)
{
	return format_names[format];
}

bool ol_data_format_parse(enum ol_data_format *format_out, const char *name)
{
	for (int i = 0; i < OL_DATA_FORMATS; i++)
		if (strcmp(format_names[i], name) == 0) {
			*format_out = (enum ol_data_format)i;
			return true;
		}
	return false;
}

const char *ol_role_name(enum ol_role role)
{
	switch (role) {
	case OL_ROLE_SYSTEM: return "system";
	case OL_ROLE_USER: return "user";
	case OL_ROLE_ASSISTANT: return "assistant";
	case OL_ROLE_TEXT: return "text";
	}
	OL_UNREACHABLE();
}

/* How a file is read. */
enum kind { KIND_UNKNOWN, KIND_LINES, KIND_JSON, KIND_CSV, KIND_PLAIN, KIND_MARKDOWN };

static bool ends_with(const char *name, const char *tail)
{
	const size_t a = strlen(name), b = strlen(tail);
	if (a < b)
		return false;
	for (size_t i = 0; i < b; i++) {
		const char c = name[a - b + i];
		if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != tail[i])
			return false;
	}
	return true;
}

static enum kind kind_of_name(const char *name)
{
	static const struct {
		const char *tail;
		enum kind kind;
	} rows[] = {{".jsonl", KIND_LINES}, {".ndjson", KIND_LINES},     {".json", KIND_JSON},
		    {".csv", KIND_CSV},     {".txt", KIND_PLAIN},        {".text", KIND_PLAIN},
		    {".md", KIND_MARKDOWN}, {".markdown", KIND_MARKDOWN}};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		if (ends_with(name, rows[i].tail))
			return rows[i].kind;
	return KIND_UNKNOWN;
}

/* The name tells, then what the caller says, then the first character. */
static enum kind kind_of_file(const char *name, const char *text, size_t size,
			      enum ol_data_format format)
{
	if (format == OL_DATA_CSV)
		return KIND_CSV;
	if (format == OL_DATA_PLAIN)
		return KIND_PLAIN;
	if (format == OL_DATA_MARKDOWN)
		return KIND_MARKDOWN;
	const enum kind kind = kind_of_name(name);
	size_t at = 0;
	while (at < size &&
	       (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r'))
		at++;
	const char first = at < size ? text[at] : '\0';
	/* JSON Lines in a .json file, and JSON in a file of any other name, are common. */
	if (kind == KIND_LINES && first == '[')
		return KIND_JSON;
	if (kind == KIND_UNKNOWN && (first == '{' || first == '['))
		return KIND_JSON;
	return kind;
}

static uint32_t line_of(const char *text, size_t at)
{
	uint32_t line = 1;
	for (size_t i = 0; i < at; i++)
		line += text[i] == '\n';
	return line;
}

static enum ol_status check_bytes(struct ol_record_reader *r, const char *text, size_t size)
{
	const size_t valid = ol_utf8_check(text, size);
	const char *nul = size ? memchr(text, '\0', size) : NULL;
	if (size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
		return ol_reader_fail(r, OL_ERR_INPUT, 1, NULL,
				      "the file is UTF-16: save it as UTF-8");
	if (valid < size)
		return ol_reader_fail(
			r, OL_ERR_INPUT, line_of(text, valid), NULL,
			"byte %zu of the file (0x%02x) is not UTF-8: save it as UTF-8", valid,
			(unsigned)(uint8_t)text[valid]);
	if (nul)
		return ol_reader_fail(r, OL_ERR_INPUT, line_of(text, (size_t)(nul - text)), NULL,
				      "the file has a NUL character: it is no text");
	return OL_OK;
}

static enum ol_status read_bytes(struct ol_record_reader *r, const char *text, size_t size,
				 enum ol_data_format format)
{
	static const char bom[] = "\xef\xbb\xbf";
	enum ol_status s = check_bytes(r, text, size);
	if (s != OL_OK)
		return s;
	if (size >= 3 && memcmp(text, bom, 3) == 0) {
		text += 3;
		size -= 3;
	}
	if (format >= OL_DATA_ALPACA && format <= OL_DATA_PREFERENCE) {
		r->shape = format;
		r->shape_given = true;
	}
	const size_t before = r->records->count;
	switch (kind_of_file(r->file, text, size, format)) {
	case KIND_UNKNOWN:
		return ol_reader_fail(
			r, OL_ERR_UNSUPPORTED, 1, NULL,
			"nobody can tell what kind of data this is: name it .jsonl, .json, .csv, "
			".txt or .md, or give the format");
	case KIND_LINES: s = ol_read_json(r, text, size, true); break;
	case KIND_JSON: s = ol_read_json(r, text, size, false); break;
	case KIND_CSV: s = ol_read_csv(r, text, size); break;
	case KIND_PLAIN: s = ol_read_plain(r, text, size); break;
	case KIND_MARKDOWN: s = ol_read_markdown(r, text, size); break;
	}
	if (s == OL_OK && r->records->count == before)
		s = ol_reader_fail(r, OL_ERR_INPUT, 1, NULL, "there is no record in the file");
	return s;
}

static enum ol_status begin_file(struct ol_record_reader *r, struct ol_records *records,
				 const char *file, struct ol_error *err)
{
	*r = (struct ol_record_reader){.records = records, .err = err};
	r->card = (struct ol_data_card){.train = true, .export_ = true, .commercial = true};
	r->file = ol_text_copy(&records->texts, file, strlen(file));
	return r->file ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for %s", file);
}

static enum ol_status read_file(struct ol_records *records, const char *path,
				enum ol_data_format format, struct ol_error *err)
{
	struct ol_record_reader r;
	struct ol_map map = {0};
	enum ol_status s = begin_file(&r, records, path, err);
	if (s == OL_OK)
		s = ol_data_card_find(&r.card, records, path, err);
	if (s == OL_OK)
		s = ol_map_open(&map, path, err);
	if (s == OL_OK)
		s = read_bytes(&r, map.data ? (const char *)map.data : "", map.size, format);
	ol_map_close(&map);
	free(r.turns);
	return s;
}

/* Files still to be read, or the names in a folder. */
struct paths {
	char **paths;
	int count, room;
};

static enum ol_status push_path(struct paths *list, const char *folder, const char *name,
				struct ol_error *err)
{
	char path[PATH_MAX];
	const size_t length = strlen(folder);
	const int n = snprintf(path, sizeof path, "%s%s%s", folder,
			       length > 0 && folder[length - 1] != '/' ? "/" : "", name);
	if (n < 0 || (size_t)n >= sizeof path)
		return ol_fail(err, OL_ERR_INPUT, "the path %s/%s is too long", folder, name);
	if (list->count == OL_DATA_FILES_MAX)
		return ol_fail(err, OL_ERR_FULL, "%s holds more than %d files: put them together",
			       folder, OL_DATA_FILES_MAX);
	if (list->count == list->room) {
		const int room = OL_MAX(2 * list->room, 64);
		char **grown = realloc(list->paths, (size_t)room * sizeof *grown);
		if (!grown)
			return ol_fail(err, OL_ERR_FULL, "out of memory for the files of %s",
				       folder);
		list->paths = grown;
		list->room = room;
	}
	char *copy = malloc((size_t)n + 1);
	if (!copy)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the files of %s", folder);
	memcpy(copy, path, (size_t)n + 1);
	list->paths[list->count++] = copy;
	return OL_OK;
}

static void paths_release(struct paths *list)
{
	for (int i = 0; i < list->count; i++)
		free(list->paths[i]);
	free(list->paths);
}

/* What lies beside data and is none. */
static bool is_passed_over(const char *name)
{
	return name[0] == '.' || ol_is_card_name(name) || strncmp(name, "README", 6) == 0 ||
	       strncmp(name, "LICENSE", 7) == 0 || strncmp(name, "LICENCE", 7) == 0 ||
	       strncmp(name, "NOTICE", 6) == 0;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum ol_status read_path(struct ol_records *records, const char *path,
				enum ol_data_format format, int depth, struct ol_error *err);

static enum ol_status read_folder(struct ol_records *records, const char *folder,
				  enum ol_data_format format, int depth, struct ol_error *err)
{
	struct paths list = {0};
	if (depth == OL_DATA_FOLDERS_MAX)
		return ol_fail(err, OL_ERR_FULL, "%s is more than %d folders deep", folder,
			       OL_DATA_FOLDERS_MAX);
	DIR *dir = opendir(folder);
	if (!dir)
		return ol_fail(err, OL_ERR_IO, "cannot list %s: %s", folder, strerror(errno));
	enum ol_status s = OL_OK;
	for (struct dirent *entry; s == OL_OK && (entry = readdir(dir)) != NULL;)
		if (!is_passed_over(entry->d_name))
			s = push_path(&list, folder, entry->d_name, err);
	closedir(dir);
	if (list.count > 0)
		qsort(list.paths, (size_t)list.count, sizeof *list.paths, compare_paths);
	for (int i = 0; i < list.count && s == OL_OK; i++)
		s = read_path(records, list.paths[i], format, depth + 1, err);
	if (s == OL_OK && list.count == 0)
		s = ol_fail(err, OL_ERR_INPUT, "there is no data file in %s", folder);
	paths_release(&list);
	return s;
}

static enum ol_status read_path(struct ol_records *records, const char *path,
				enum ol_data_format format, int depth, struct ol_error *err)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return ol_fail(err, errno == ENOENT ? OL_ERR_NOT_FOUND : OL_ERR_IO,
			       "cannot read the data %s: %s", path, strerror(errno));
	return S_ISDIR(st.st_mode) ? read_folder(records, path, format, depth, err)
				   : read_file(records, path, format, err);
}

static enum ol_status finish(struct ol_records **records_out, struct ol_records *records,
			     enum ol_status s)
{
	if (s == OL_OK)
		*records_out = records;
	else
		ol_records_close(records);
	return s;
}

enum ol_status ol_records_open(struct ol_records **records_out, const char *const *paths,
			       int path_count, enum ol_data_format format, struct ol_error *err)
{
	struct ol_records *records = calloc(1, sizeof *records);
	if (!records)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the records");
	enum ol_status s = path_count > 0
				   ? OL_OK
				   : ol_fail(err, OL_ERR_INPUT, "no data: name a file or a folder");
	for (int i = 0; i < path_count && s == OL_OK; i++)
		s = read_path(records, paths[i], format, 0, err);
	return finish(records_out, records, s);
}

enum ol_status ol_records_open_bytes(struct ol_records **records_out, const char *name,
				     const char *bytes, size_t size, enum ol_data_format format,
				     struct ol_error *err)
{
	struct ol_record_reader r;
	struct ol_records *records = calloc(1, sizeof *records);
	if (!records)
		return ol_fail(err, OL_ERR_FULL, "out of memory for the records");
	enum ol_status s = begin_file(&r, records, name, err);
	if (s == OL_OK)
		s = read_bytes(&r, bytes, size, format);
	free(r.turns);
	return finish(records_out, records, s);
}

void ol_records_close(struct ol_records *records)
{
	if (!records)
		return;
	ol_text_release(&records->texts);
	free(records->records);
	free(records->cards);
	free(records->ids);
	free(records->names);
	free(records);
}

size_t ol_records_count(const struct ol_records *records)
{
	return records->count;
}

const struct ol_record *ol_records_at(const struct ol_records *records, size_t index)
{
	OL_ASSERT(index < records->count);
	return &records->records[index];
}

int ol_records_cards(const struct ol_records *records, const struct ol_source_card **cards_out)
{
	*cards_out = records->cards;
	return records->card_count;
}
