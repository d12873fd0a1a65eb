/* Files: what is listed is there, what is not listed is gone, whoever uploads what. */
#include "node/files.h"
#include "node/test_folder.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct world {
	struct ol_home home;
	struct ol_store *store;
	struct ol_files *files;
	struct ol_files_options options;
};

static void open_files(struct world *w)
{
	assert_int_equal(ol_store_open(&w->store, &w->home, OL_STORE_NODE, NULL), OL_OK);
	assert_int_equal(ol_files_open(&w->files, &w->home, w->store, &w->options, true, NULL),
			 OL_OK);
}

static void close_files(struct world *w)
{
	ol_files_close(w->files);
	ol_store_close(w->store);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	test_home_make(&w->home);
	open_files(w);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	close_files(w);
	test_folder_remove(w->home.path);
	free(w);
	return 0;
}

/* An example whose content is its number. */
static enum ol_status upload(struct world *w, struct ol_file *file, const char *account, int number,
			     const char *name, const char *purpose, struct ol_error *err)
{
	struct ol_upload *u;
	char line[96];
	const int n =
		snprintf(line, sizeof line, "{\"prompt\":\"%d\",\"completion\":\"x\"}\n", number);
	assert_int_equal(ol_upload_open(&u, w->files, account, NULL), OL_OK);
	for (int i = 0; i < n; i++) /* as it may come: byte by byte */
		assert_int_equal(ol_upload_append(u, line + i, 1, NULL), OL_OK);
	return ol_upload_finish(u, file, name, purpose, err);
}

static int count_names(const struct world *w, const char *below)
{
	char path[OL_PATH_MAX];
	int count = 0;
	assert_int_equal(ol_path_join(path, NULL, w->home.path, below, ""), OL_OK);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void accounts_see_their_own(void **state)
{
	struct world *w = *state;
	struct ol_file mine, theirs, found;
	json_t *list;
	const struct ol_list_query all = {.limit = 10};
	assert_int_equal(upload(w, &mine, "a", 1, "m.jsonl", "fine-tune", NULL), OL_OK);
	assert_int_equal(upload(w, &theirs, "b", 1, "t.jsonl", "fine-tune", NULL), OL_OK);
	assert_int_equal(mine.records, 1);
	assert_int_equal(count_names(w, "/files/objects"), 1);
	assert_int_equal(ol_files_find(w->files, &found, "a", mine.id, NULL), OL_OK);
	assert_string_equal(found.name, "m.jsonl");
	assert_memory_equal(found.sha256, mine.sha256, OL_SHA256_BYTES);
	assert_int_equal(ol_files_find(w->files, &found, "a", theirs.id, NULL), OL_ERR_NOT_FOUND);
	assert_int_equal(ol_files_delete(w->files, "a", theirs.id, NULL), OL_ERR_NOT_FOUND);
	assert_int_equal(ol_files_list(w->files, &list, "a", &all, NULL), OL_OK);
	assert_int_equal(json_array_size(json_object_get(list, "data")), 1);
	json_decref(list);
	const struct ol_list_query after = {.limit = 10, .after = theirs.id};
	assert_int_equal(ol_files_list(w->files, &list, "a", &after, NULL), OL_ERR_INPUT);
}

static void refusals_leave_nothing(void **state)
{
	struct world *w = *state;
	struct ol_file file;
	struct ol_error err;
	char longest[OL_FILE_NAME_MAX + 2];
	memset(longest, 'n', sizeof longest);
	longest[OL_FILE_NAME_MAX + 1] = '\0';
	const struct {
		const char *name, *purpose, *says;
	} rows[] = {
		{"", "fine-tune", "name"},          {".x.jsonl", "fine-tune", "name"},
		{"a/b.jsonl", "fine-tune", "name"}, {"a\nb.jsonl", "fine-tune", "name"},
		{longest, "fine-tune", "name"},     {"a.jsonl", "", "purpose"},
		{"a.jsonl", "batch", "batch API"},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		assert_int_equal(upload(w, &file, "a", 1, rows[i].name, rows[i].purpose, &err),
				 OL_ERR_INPUT);
		if (!strstr(err.text, rows[i].says))
			fail_msg("row %zu: %s", i, err.text);
	}
	assert_int_equal(count_names(w, "/files/incoming"), 0);
	assert_int_equal(count_names(w, "/files/objects"), 0);
}

static void room_is_bounded(void **state)
{
	struct world *w = *state;
	struct ol_file first, file;
	struct ol_upload *u;
	struct ol_error err;
	close_files(w);
	w->options = (struct ol_files_options){
		.file_bytes_max = 64, .account_bytes_max = 90, .account_files_max = 3};
	open_files(w);
	assert_int_equal(upload(w, &first, "a", 1, "m.jsonl", "fine-tune", NULL), OL_OK);
	assert_int_equal(first.bytes, 32);
	assert_int_equal(upload(w, &file, "a", 2, "m.jsonl", "fine-tune", NULL), OL_OK);
	assert_int_equal(upload(w, &file, "a", 3, "m.jsonl", "fine-tune", &err), OL_ERR_INPUT);
	assert_int_equal(upload(w, &file, "b", 3, "m.jsonl", "fine-tune", NULL), OL_OK);
	assert_int_equal(ol_files_delete(w->files, "a", first.id, NULL), OL_OK);
	assert_int_equal(upload(w, &file, "a", 3, "m.jsonl", "fine-tune", NULL), OL_OK);
	assert_int_equal(ol_upload_open(&u, w->files, "c", NULL), OL_OK);
	char bytes[64] = {0};
	assert_int_equal(ol_upload_append(u, bytes, 64, NULL), OL_OK);
	assert_int_equal(ol_upload_append(u, bytes, 1, &err), OL_ERR_FULL);
	assert_non_null(strstr(err.text, "64 bytes"));
	ol_upload_abort(u);
	assert_int_equal(count_names(w, "/files/incoming"), 0);
}

/* A crash leaves uploads half done, and contents that nobody came to list. */
static void a_start_sweeps(void **state)
{
	struct world *w = *state;
	struct ol_file file;
	char path[OL_PATH_MAX];
	assert_int_equal(upload(w, &file, "a", 1, "m.jsonl", "fine-tune", NULL), OL_OK);
	static const char *const left[] = {"/files/incoming/half.tmp-1", "/files/objects/00ff"};
	for (size_t i = 0; i < OL_ARRAY_LEN(left); i++) {
		assert_int_equal(ol_path_join(path, NULL, w->home.path, left[i], ""), OL_OK);
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		fclose(f);
	}
	close_files(w);
	open_files(w);
	assert_int_equal(count_names(w, "/files/incoming"), 0);
	assert_int_equal(count_names(w, "/files/objects"), 1);
	assert_int_equal(ol_files_content(w->files, path, &file, NULL), OL_OK);
	assert_int_equal(access(path, R_OK), 0);
}

static void one_server_owns_the_home(void **state)
{
	struct world *w = *state;
	struct ol_files *other;
	struct ol_error err;
	assert_int_equal(ol_files_open(&other, &w->home, w->store, &w->options, true, &err),
			 OL_ERR_IO);
	assert_non_null(strstr(err.text, "another server"));
	assert_int_equal(ol_files_open(&other, &w->home, w->store, &w->options, false, NULL),
			 OL_OK);
	ol_files_close(other);
}

/* Random uploads and deletions of five contents by three accounts: a content is there exactly as
 * long as a file refers to it, and the lists are what was done. */
static void contents_live_as_long_as_files(void **state)
{
	struct world *w = *state;
	enum { FILES = 40, CONTENTS = 5 };
	static const char *const accounts[] = {"a", "b", "c"};
	struct ol_file files[FILES];
	int contents[FILES], references[CONTENTS] = {0}, count = 0;
	uint64_t seed = 99;
	for (int step = 0; step < 120; step++) {
		const uint64_t what = test_random(&seed);
		if (count < FILES && what % 5 < 3) {
			contents[count] = (int)(what / 8 % CONTENTS);
			references[contents[count]]++;
			assert_int_equal(upload(w, &files[count], accounts[what / 64 % 3],
						contents[count], "f.jsonl", "fine-tune", NULL),
					 OL_OK);
			count++;
		} else if (count > 0) {
			const int at = (int)(what / 8 % (uint64_t)count);
			assert_int_equal(
				ol_files_delete(w->files, files[at].account, files[at].id, NULL),
				OL_OK);
			references[contents[at]]--;
			files[at] = files[--count];
			contents[at] = contents[count];
		}
		int wanted = 0;
		for (int i = 0; i < CONTENTS; i++)
			wanted += references[i] > 0;
		assert_int_equal(count_names(w, "/files/objects"), wanted);
		if (step % 40 == 39) {
			close_files(w);
			open_files(w);
		}
	}
	for (int i = 0; i < count; i++) {
		struct ol_file found;
		char path[OL_PATH_MAX];
		assert_int_equal(
			ol_files_find(w->files, &found, files[i].account, files[i].id, NULL),
			OL_OK);
		assert_int_equal(ol_files_content(w->files, path, &found, NULL), OL_OK);
		assert_int_equal(access(path, R_OK), 0);
	}
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ROW(accounts_see_their_own),
		ROW(refusals_leave_nothing),
		ROW(room_is_bounded),
		ROW(a_start_sweeps),
		ROW(contents_live_as_long_as_files),
		ROW(one_server_owns_the_home),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
