/* What the oracle made of many texts (tests/oracle/tokenizer/make_golden.mjs) against what we
 * make of them: ids and decoded text, no difference. Reads every *.jsonl of
 * tests/golden/tokenizer, or of the folder OL_TOKENIZER_GOLDEN instead (the full comparison,
 * tests/oracle/tokenizer/run). */
#include "base/file.h"
#include "model/tokenizer.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SHOWN_MAX = 5 };

struct counts {
	size_t records, bytes, ids, differences;
};

static void show(struct counts *counts, const char *path, size_t line, const char *what,
		 const char *text)
{
	if (counts->differences++ < SHOWN_MAX)
		fprintf(stderr, "%s:%zu: %s differs: %.300s\n", path, line, what,
			text ? text : "(ids)");
}

/* The ids of a JSON list. */
static struct ol_tokens list_ids(const json_t *list)
{
	struct ol_tokens tokens = {0};
	size_t i;
	json_t *id;
	json_array_foreach(list, i, id)
		assert_true(ol_tokens_push(&tokens, (int32_t)json_integer_value(id)));
	return tokens;
}

static bool decodes_to(const struct ol_tokenizer *t, const struct ol_tokens *tokens, bool skip,
		       const json_t *wanted, const json_t *text)
{
	struct ol_buf buf;
	const json_t *expected = json_is_null(wanted) ? text : wanted;
	ol_buf_init(&buf, 1 << 24);
	assert_true(ol_tokenizer_decode(t, &buf, tokens->ids, tokens->count, skip));
	const bool same =
		buf.size == json_string_length(expected) &&
		(buf.size == 0 || memcmp(buf.data, json_string_value(expected), buf.size) == 0);
	ol_buf_release(&buf);
	return same;
}

static void compare_record(const struct ol_tokenizer *t, const json_t *record,
			   struct counts *counts, const char *path, size_t line)
{
	const json_t *text = json_array_get(record, 0);
	struct ol_tokens wanted = list_ids(json_array_get(record, 2)), got = {0};
	struct ol_error err = {0};
	const char *string = json_string_value(text);
	counts->records++;
	if (string) {
		const size_t size = json_string_length(text);
		const bool with_template = json_is_true(json_array_get(record, 1));
		if (ol_tokenizer_encode(t, &got, string, size, OL_SPECIAL_PARSE, with_template,
					NULL, 0, &err) != OL_OK)
			fail_msg("%s:%zu: %s", path, line, err.text);
		counts->bytes += size;
		counts->ids += got.count;
		if (got.count != wanted.count ||
		    (got.count && memcmp(got.ids, wanted.ids, got.count * sizeof *got.ids) != 0))
			show(counts, path, line, "encode", string);
	}
	if (!decodes_to(t, &wanted, false, json_array_get(record, 3), text))
		show(counts, path, line, "decode", string);
	if (!decodes_to(t, &wanted, true, json_array_get(record, 4), text))
		show(counts, path, line, "decode without specials", string);
	ol_tokens_release(&wanted);
	ol_tokens_release(&got);
}

static struct ol_tokenizer *open_tokenizer(const char *folder, const char *header)
{
	struct ol_tokenizer *t = NULL;
	struct ol_error err = {0};
	struct ol_map map;
	char path[PATH_MAX];
	json_t *line = json_loads(header, 0, NULL);
	const char *name = json_string_value(json_object_get(line, "tokenizer"));
	assert_non_null(name);
	snprintf(path, sizeof path, "%s%s%s", name[0] == '/' ? "" : folder,
		 name[0] == '/' ? "" : "/", name);
	json_decref(line);
	if (ol_map_open(&map, path, &err) != OL_OK ||
	    ol_tokenizer_open(&t, (const char *)map.data, map.size, path, &err) != OL_OK)
		fail_msg("%s", err.text);
	ol_map_close(&map);
	return t;
}

static void compare_file(const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct counts counts = {0};
	char *line = NULL;
	size_t room = 0, number = 1;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	assert_true(getline(&line, &room, file) > 0);
	struct ol_tokenizer *t = open_tokenizer(folder, line);
	while (getline(&line, &room, file) > 0) {
		json_error_t error;
		json_t *record = json_loads(line, JSON_ALLOW_NUL, &error);
		if (!record)
			fail_msg("%s:%zu: %s", path, number, error.text);
		compare_record(t, record, &counts, path, ++number);
		json_decref(record);
	}
	printf("%s: %zu records, %zu bytes, %zu ids, %zu differences\n", name, counts.records,
	       counts.bytes, counts.ids, counts.differences);
	free(line);
	fclose(file);
	ol_tokenizer_close(t);
	assert_true(counts.records > 0);
	assert_int_equal(counts.differences, 0);
}

static void compare_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	size_t files = 0;
	if (!dir)
		fail_msg("cannot open the folder %s", folder);
	while ((entry = readdir(dir))) {
		const size_t length = strlen(entry->d_name);
		if (length > 6 && strcmp(entry->d_name + length - 6, ".jsonl") == 0) {
			compare_file(folder, entry->d_name);
			files++;
		}
	}
	closedir(dir);
	assert_true(files > 0);
}

static void goldens_hold(void **state)
{
	(void)state;
	const char *extra = getenv("OL_TOKENIZER_GOLDEN");
	if (!extra)
		compare_folder(OL_SOURCE_DIR "/tests/golden/tokenizer");
	else
		compare_folder(extra);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(goldens_hold)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
