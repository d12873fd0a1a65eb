/* Files: read whole, written all or nothing. What a crash, an abort or a full disk leaves. */
#define _GNU_SOURCE
#include "base/file.h"

#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { MIB = 1 << 20 };

/* Every test runs in an empty folder of its own, as the current folder. */
static char folder[64];
static int files_seen;

static int enter_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/openledger-test-file-XXXXXX");
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static int leave_folder(void **state)
{
	(void)state;
	return chdir("/") == 0 ? nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS) : -1;
}

static int count_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)path, (void)st, (void)ftw;
	files_seen += kind != FTW_D;
	return 0;
}

static int files_in_folder(void)
{
	files_seen = 0;
	assert_int_equal(nftw(folder, count_one, 8, FTW_PHYS), 0);
	return files_seen;
}

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void assert_holds(const char *path, const void *bytes, size_t size)
{
	struct ol_map map;
	struct ol_error err;
	assert_int_equal(ol_map_open(&map, path, &err), OL_OK);
	assert_int_equal(map.size, size);
	assert_true((map.data == NULL) == (size == 0));
	if (size > 0)
		assert_memory_equal(map.data, bytes, size);
	ol_map_close(&map);
	assert_null(map.data);
	ol_map_close(&map); /* once more is nothing */
}

static void test_map_of_a_file_and_of_an_empty_one(void **state)
{
	(void)state;
	put("full", "twelve bytes");
	put("empty", "");
	assert_holds("full", "twelve bytes", 12);
	assert_holds("empty", "", 0);
}

static void test_what_was_forgotten_is_read_again(void **state)
{
	enum { SIZE = 300000 };
	static char text[SIZE + 1];
	static const size_t parts[][2] = {{0, SIZE}, {1, 1}, {4095, 8194}, {200001, SIZE - 200001}};
	struct ol_map map;
	struct ol_error err;
	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		text[i] = (char)('a' + i * 7 % 23);
	put("long", text);
	assert_int_equal(ol_map_open(&map, "long", &err), OL_OK);
	for (size_t i = 0; i < OL_ARRAY_LEN(parts); i++) {
		assert_memory_equal(map.data, text, SIZE);
		ol_map_forget(map.data + parts[i][0], parts[i][1]);
	}
	assert_memory_equal(map.data, text, SIZE);
	ol_map_close(&map);
}

static void test_what_is_no_file_is_refused_by_name(void **state)
{
	static const struct {
		const char *path;
		enum ol_status status;
		const char *says;
	} rows[] = {
		{"absent", OL_ERR_NOT_FOUND, "cannot open absent: No such file or directory"},
		{"subfolder", OL_ERR_INPUT, "subfolder is not a regular file"},
		{"pipe", OL_ERR_INPUT, "pipe is not a regular file"}, /* and does not hang */
		{"/dev/null", OL_ERR_INPUT, "/dev/null is not a regular file"},
		{"file/inside", OL_ERR_IO, "cannot open file/inside: Not a directory"},
		{"", OL_ERR_NOT_FOUND, "cannot open : No such file or directory"},
	};
	(void)state;
	assert_int_equal(mkdir("subfolder", 0755), 0);
	assert_int_equal(mkfifo("pipe", 0644), 0);
	put("file", "x");
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_map map;
		struct ol_error err;
		assert_int_equal(ol_map_open(&map, rows[i].path, &err), rows[i].status);
		assert_int_equal(err.status, rows[i].status);
		assert_string_equal(err.text, rows[i].says);
		assert_null(map.data);
	}
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

/* Appends around the size of the writer's buffer, then a patch in what is already on disk, one in
 * the buffer, and one across both. */
static void test_writes_what_was_appended_and_patched(void **state)
{
	static const size_t pieces[] = {0,       1,       7,           MIB - 9, 1,      MIB,
					MIB + 1, 3 * MIB, 2 * MIB - 1, 5,       MIB / 2};
	(void)state;
	struct ol_writer *writer;
	uint8_t *expected = malloc(16 * MIB);
	size_t size = 0;
	assert_non_null(expected);
	for (size_t i = 0; i < 16 * MIB; i++)
		expected[i] = pattern(i);
	assert_int_equal(ol_writer_open(&writer, "out", NULL), OL_OK);
	for (size_t i = 0; i < OL_ARRAY_LEN(pieces); i++) {
		assert_int_equal(ol_writer_offset(writer), size);
		assert_int_equal(ol_writer_append(writer, expected + size, pieces[i], NULL), OL_OK);
		size += pieces[i];
		if (i == OL_ARRAY_LEN(pieces) / 2)
			assert_int_equal(ol_writer_patch(writer, size - 3, "end", 3, NULL), OL_OK);
		if (i == OL_ARRAY_LEN(pieces) / 2)
			memcpy(expected + size - 3, "end", 3);
	}
	assert_int_equal(ol_writer_patch(writer, 0, "header", 6, NULL), OL_OK);
	assert_int_equal(ol_writer_patch(writer, size - MIB, expected, MIB, NULL), OL_OK);
	memmove(expected + size - MIB, expected, MIB);
	memcpy(expected, "header", 6);
	assert_int_equal(ol_writer_append(writer, "tail", 4, NULL), OL_OK);
	memcpy(expected + size, "tail", 4);
	size += 4;
	assert_int_equal(access("out", F_OK), -1); /* not there before the commit */
	assert_int_equal(ol_writer_commit(writer, NULL), OL_OK);
	assert_holds("out", expected, size);
	assert_int_equal(files_in_folder(), 1);
	free(expected);
}

static void test_commit_replaces_and_empty_is_a_file(void **state)
{
	(void)state;
	struct ol_writer *writer;
	put("out", "old");
	assert_int_equal(ol_writer_open(&writer, "out", NULL), OL_OK);
	assert_int_equal(ol_writer_append(writer, "brand new", 9, NULL), OL_OK);
	assert_holds("out", "old", 3);
	assert_int_equal(ol_writer_commit(writer, NULL), OL_OK);
	assert_holds("out", "brand new", 9);

	char absolute[128];
	snprintf(absolute, sizeof absolute, "%s/nothing", folder);
	assert_int_equal(ol_writer_open(&writer, absolute, NULL), OL_OK);
	assert_int_equal(ol_writer_commit(writer, NULL), OL_OK);
	assert_holds("nothing", "", 0);
	assert_int_equal(files_in_folder(), 2);
}

static void test_abort_leaves_nothing_new(void **state)
{
	(void)state;
	struct ol_writer *writer;
	put("kept", "old");
	assert_int_equal(ol_writer_open(&writer, "kept", NULL), OL_OK);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ol_writer_append(writer, folder, sizeof folder, NULL), OL_OK);
	ol_writer_abort(writer);
	assert_int_equal(ol_writer_open(&writer, "never", NULL), OL_OK);
	ol_writer_abort(writer);
	ol_writer_abort(NULL);
	assert_holds("kept", "old", 3);
	assert_int_equal(files_in_folder(), 1);
}

/* A process that dies anywhere before the commit leaves what was under the name as it was. */
static void test_crash_leaves_the_old_file(void **state)
{
	(void)state;
	put("kept", "old");
	for (int megabytes = 0; megabytes < 4; megabytes++) {
		int status = 0;
		const pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			static uint8_t bytes[MIB];
			struct ol_writer *writer;
			bool ok = ol_writer_open(&writer, "kept", NULL) == OL_OK;
			for (int i = 0; i < megabytes; i++)
				ok = ok && ol_writer_append(writer, bytes, MIB, NULL) == OL_OK;
			if (ok)
				kill(getpid(), SIGKILL);
			_exit(1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_holds("kept", "old", 3);
	}
}

static void test_a_path_that_cannot_be_written_is_refused_by_name(void **state)
{
	(void)state;
	struct ol_writer *writer = NULL;
	struct ol_error err;
	put("file", "x");
	assert_int_equal(ol_writer_open(&writer, "no/such/folder/out", &err), OL_ERR_NOT_FOUND);
	assert_string_equal(err.text,
			    "cannot create no/such/folder/out: No such file or directory");
	assert_int_equal(ol_writer_open(&writer, "file/out", &err), OL_ERR_IO);
	char *longest = calloc(1, 5001);
	assert_non_null(longest);
	memset(longest, 'x', 5000);
	assert_int_equal(ol_writer_open(&writer, longest, &err), OL_ERR_INPUT);
	free(longest);
	/* The target is a folder: seen at the commit, which then leaves nothing. */
	assert_int_equal(mkdir("folder", 0755), 0);
	assert_int_equal(ol_writer_open(&writer, "folder", NULL), OL_OK);
	assert_int_equal(ol_writer_commit(writer, &err), OL_ERR_IO);
	assert_string_equal(err.text, "cannot rename into folder: Is a directory");
	assert_int_equal(files_in_folder(), 1);
}

/* The disk gives out after `room` bytes, at an append, at a patch or only at the commit. */
static void fill_disk(size_t room, size_t piece, size_t total)
{
	static const uint8_t bytes[2 * MIB];
	struct rlimit before, tight;
	struct ol_writer *writer;
	struct ol_error err = {0};
	put("kept", "old");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	tight = before;
	tight.rlim_cur = room;
	assert_int_equal(ol_writer_open(&writer, "kept", NULL), OL_OK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	enum ol_status s = OL_OK;
	for (size_t done = 0; s == OL_OK && done < total; done += piece)
		s = ol_writer_append(writer, bytes, piece, &err);
	if (s == OL_OK)
		s = ol_writer_commit(writer, &err);
	else
		ol_writer_abort(writer);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(s, OL_ERR_FULL);
	assert_string_equal(err.text, "cannot write kept: File too large");
	assert_holds("kept", "old", 3);
	assert_int_equal(files_in_folder(), 1);
}

static void test_a_full_disk_leaves_nothing(void **state)
{
	(void)state;
	void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
	fill_disk(0, 1, 1);
	fill_disk(1000, 600, 1200);
	fill_disk(MIB + 5, 1000, 2 * MIB);
	fill_disk(MIB, 2 * MIB, 2 * MIB);
	fill_disk(4096 - 1, 4096, 4096);
	signal(SIGXFSZ, old);
}

static void test_make_directories(void **state)
{
	struct stat st;
	struct ol_error err;
	char *longest = calloc(1, 5001);
	(void)state;
	assert_non_null(longest);
	memset(longest, 'x', 5000);
	assert_int_equal(ol_make_directories("a/b/c", NULL), OL_OK);
	assert_int_equal(ol_make_directories("a/b/c", NULL), OL_OK);
	assert_int_equal(ol_make_directories("a//b/d/", NULL), OL_OK);
	assert_int_equal(ol_make_directories("/", NULL), OL_OK);
	assert_true(stat("a/b/c", &st) == 0 && S_ISDIR(st.st_mode));
	assert_true(stat("a/b/d", &st) == 0 && S_ISDIR(st.st_mode));
	put("file", "x");
	assert_int_equal(ol_make_directories("file", &err), OL_ERR_IO);
	assert_string_equal(err.text, "file exists and is not a folder");
	assert_int_equal(ol_make_directories("file/sub", &err), OL_ERR_IO);
	assert_string_equal(err.text, "cannot make the folder file/sub: Not a directory");
	assert_int_equal(ol_make_directories("", &err), OL_ERR_INPUT);
	assert_int_equal(ol_make_directories(longest, &err), OL_ERR_INPUT);
	free(longest);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(test_map_of_a_file_and_of_an_empty_one),
		IN_FOLDER(test_what_was_forgotten_is_read_again),
		IN_FOLDER(test_what_is_no_file_is_refused_by_name),
		IN_FOLDER(test_writes_what_was_appended_and_patched),
		IN_FOLDER(test_commit_replaces_and_empty_is_a_file),
		IN_FOLDER(test_abort_leaves_nothing_new),
		IN_FOLDER(test_crash_leaves_the_old_file),
		IN_FOLDER(test_a_path_that_cannot_be_written_is_refused_by_name),
		IN_FOLDER(test_a_full_disk_leaves_nothing),
		IN_FOLDER(test_make_directories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
