/* The real disk behind the table: each promise once. */
#include "base/disk.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static struct ol_disk disk;

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/openledger-disk-XXXXXX");
	return mkdtemp(folder) && ol_disk_open(&disk, folder, NULL) == OL_OK ? 0 : -1;
}

static void remove_one(void *context, const char *name)
{
	(void)context;
	assert_int_equal(disk.remove(disk.self, name, NULL), OL_OK);
}

static int tear_down(void **state)
{
	(void)state;
	assert_int_equal(disk.list(disk.self, remove_one, NULL, NULL), OL_OK);
	ol_disk_close(&disk);
	return rmdir(folder);
}

static void test_files(void **state)
{
	struct ol_error err;
	int file = -1, other = -1;
	uint64_t size = 0;
	size_t got = 0;
	char text[32] = "";
	(void)state;
	assert_int_equal(disk.open(disk.self, &file, "a", OL_DISK_READ, &err), OL_ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, folder));
	assert_int_equal(disk.open(disk.self, &file, "a", OL_DISK_CREATE, &err), OL_OK);
	assert_int_equal(disk.open(disk.self, &other, "a", OL_DISK_CREATE, &err), OL_ERR_IO);
	assert_int_equal(disk.write(disk.self, file, "hello", 5, 3, &err), OL_OK);
	assert_int_equal(disk.size(disk.self, file, &size, &err), OL_OK);
	assert_int_equal(size, 8);
	assert_int_equal(disk.read(disk.self, file, &got, text, sizeof text, 1, &err), OL_OK);
	assert_int_equal(got, 7);
	assert_memory_equal(text, "\0\0hello", 7);
	assert_int_equal(disk.read(disk.self, file, &got, text, sizeof text, 8, &err), OL_OK);
	assert_int_equal(got, 0);
	assert_int_equal(disk.allocate(disk.self, file, 10000, &err), OL_OK);
	assert_int_equal(disk.size(disk.self, file, &size, &err), OL_OK);
	assert_int_equal(size, 10000);
	assert_int_equal(disk.allocate(disk.self, file, 100, &err), OL_OK); /* never shrinks */
	assert_int_equal(disk.size(disk.self, file, &size, &err), OL_OK);
	assert_int_equal(size, 10000);
	assert_int_equal(disk.sync(disk.self, file, &err), OL_OK);
	assert_int_equal(disk.settle(disk.self, file, &err), OL_OK);
	assert_int_equal(disk.truncate(disk.self, file, 5, &err), OL_OK);
	assert_int_equal(disk.read(disk.self, file, &got, text, sizeof text, 0, &err), OL_OK);
	assert_int_equal(got, 5);
	disk.close(disk.self, file);
	/* What is open for reading is not written, and the sentence says which file. */
	assert_int_equal(disk.open(disk.self, &file, "a", OL_DISK_READ, &err), OL_OK);
	assert_int_equal(disk.write(disk.self, file, "x", 1, 0, &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "/a: "));
	disk.close(disk.self, file);
}

struct names {
	int count;
	char all[8][OL_DISK_NAME_MAX];
};

static void note(void *context, const char *name)
{
	struct names *names = context;
	assert_true(names->count < 8);
	snprintf(names->all[names->count++], OL_DISK_NAME_MAX, "%s", name);
}

static void test_names(void **state)
{
	struct ol_error err;
	struct names names = {0};
	int file = -1;
	size_t got;
	char text[4];
	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			disk.open(disk.self, &file, i ? "old" : "new", OL_DISK_CREATE, &err),
			OL_OK);
		assert_int_equal(disk.write(disk.self, file, i ? "old" : "new", 3, 0, &err), OL_OK);
		disk.close(disk.self, file);
	}
	assert_int_equal(disk.rename(disk.self, "new", "old", &err), OL_OK);
	assert_int_equal(disk.sync_dir(disk.self, &err), OL_OK);
	assert_int_equal(disk.list(disk.self, note, &names, &err), OL_OK);
	assert_int_equal(names.count, 1);
	assert_string_equal(names.all[0], "old");
	assert_int_equal(disk.open(disk.self, &file, "old", OL_DISK_WRITE, &err), OL_OK);
	assert_int_equal(disk.read(disk.self, file, &got, text, 3, 0, &err), OL_OK);
	assert_memory_equal(text, "new", 3);
	disk.close(disk.self, file);
	assert_int_equal(disk.rename(disk.self, "new", "old", &err), OL_ERR_NOT_FOUND);
	assert_int_equal(disk.remove(disk.self, "new", &err), OL_ERR_NOT_FOUND);
	/* A link that somebody put there is not followed. */
	char link[128];
	snprintf(link, sizeof link, "%s/link", folder);
	assert_int_equal(symlink("old", link), 0);
	assert_int_equal(disk.open(disk.self, &file, "link", OL_DISK_WRITE, &err), OL_ERR_IO);
}

static void test_lock(void **state)
{
	struct ol_error err;
	int first = -1, second = -1;
	(void)state;
	assert_int_equal(disk.lock(disk.self, &first, "lock", &err), OL_OK);
	assert_int_equal(disk.lock(disk.self, &second, "lock", &err), OL_ERR_IO);
	assert_non_null(strstr(err.text, "in use by another process"));
	disk.close(disk.self, first);
	assert_int_equal(disk.lock(disk.self, &second, "lock", &err), OL_OK);
	disk.close(disk.self, second);
	struct ol_disk none;
	assert_int_equal(ol_disk_open(&none, "no-such-folder", &err), OL_ERR_NOT_FOUND);
}

static void test_random(void **state)
{
	uint8_t bytes[1000] = {0};
	int ones = 0;
	(void)state;
	ol_random_system.fill(ol_random_system.self, bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		for (int bit = 0; bit < 8; bit++)
			ones += bytes[i] >> bit & 1;
	assert_in_range(ones, 3600, 4400); /* 4000, standard deviation 45 */
	assert_true(ol_random_u64(&ol_random_system) != ol_random_u64(&ol_random_system));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lock, set_up, tear_down),
		cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
