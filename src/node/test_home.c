/* Names and folders of a node. */
#include "node/home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void names_are_checked(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} rows[] = {
		{"smol", true},       {"SmolLM2-135M_v1.0", true},
		{"qwen3:0.6b", true}, {"7b", true},
		{"", false},          {".hidden", false},
		{"-dash", false},     {"a b", false},
		{"a/b", false},       {"a\nb", false},
		{"\xc3\xa9", false},  {"..", false},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		assert_int_equal(ol_name_check(rows[i].name, NULL) == OL_OK, rows[i].good);
	char longest[OL_NAME_MAX + 2];
	memset(longest, 'x', sizeof longest);
	longest[OL_NAME_MAX + 1] = '\0';
	assert_int_equal(ol_name_check(longest, NULL), OL_ERR_INPUT);
	longest[OL_NAME_MAX] = '\0';
	assert_int_equal(ol_name_check(longest, NULL), OL_OK);
}

static void names_come_from_paths(void **state)
{
	static const char *const rows[][2] = {
		{"/models/SmolLM2-135M/", "SmolLM2-135M"},
		{"model.q8_0.gguf", "model.q8_0"},
		{"./a b", "a-b"},
		{"../..", "model"},
		{"/", "model"},
		{".gguf", "gguf"},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char name[OL_NAME_MAX + 1];
		ol_name_from_path(name, rows[i][0]);
		assert_string_equal(name, rows[i][1]);
		assert_int_equal(ol_name_check(name, NULL), OL_OK);
	}
}

static void home_lists_and_finds(void **state)
{
	char folder[] = "/tmp/openledger-home-XXXXXX", path[OL_PATH_MAX];
	struct ol_home home;
	struct ol_names names = {0};
	struct ol_error err = {0};
	(void)state;
	assert_non_null(mkdtemp(folder));
	setenv("OPENLEDGER_HOME", folder, 1);
	assert_int_equal(ol_home_open(&home, &err), OL_OK);
	assert_int_equal(ol_home_find_model(&home, path, "one", &err), OL_ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "openledger import"));

	static const char *const files[] = {"two.olm", "one.olm", "notes.txt", ".olm"};
	for (size_t i = 0; i < OL_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/models/%s", folder, files[i]);
		fclose(fopen(path, "w"));
	}
	assert_int_equal(ol_home_models(&home, &names, &err), OL_OK);
	assert_int_equal(names.count, 2);
	assert_string_equal(names.names[0], "one");
	assert_string_equal(names.names[1], "two");
	assert_int_equal(ol_home_find_model(&home, path, "one", &err), OL_OK);
	assert_int_equal(ol_home_find_model(&home, path, "three", &err), OL_ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "there are: one, two"));
	assert_int_equal(ol_home_model_path(&home, path, "./a/b.olm", &err), OL_OK);
	assert_string_equal(path, "./a/b.olm"); /* a path is a path */
	ol_names_release(&names);

	for (size_t i = 0; i < OL_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/models/%s", folder, files[i]);
		unlink(path);
	}
	snprintf(path, sizeof path, "%s/models", folder);
	rmdir(path);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(names_come_from_paths),
		cmocka_unit_test(home_lists_and_finds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
