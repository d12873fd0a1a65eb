/* The monitor against logs that lie: forked, rolled back, truncated, of a wrong key, with changed
 * entries and tiles; each lie is named, and evidence kept. */
#define _GNU_SOURCE
#include "ledger/monitor.h"
#include "ledger/test_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

static char folder[64];
static struct test_log honest, evil;
/* Where the monitor's questions go; one name may be answered wrongly, or not at all. */
static struct test_log *shown;
static const char *changed, *missing;
static bool offline;
static uint64_t visited;

static enum ol_status fetch(void *self, struct ol_buf *out, const char *name, struct ol_error *err)
{
	const size_t before = out->size;
	(void)self;
	if (offline)
		return ol_fail(err, OL_ERR_IO, "no answer from the network");
	if (missing && strcmp(missing, name) == 0)
		return ol_fail(err, OL_ERR_NOT_FOUND, "%s is not there", name);
	const enum ol_status s =
		shown->store.source.fetch(shown->store.source.self, out, name, err);
	if (s == OL_OK && changed && strcmp(changed, name) == 0)
		out->data[before + 5] ^= 1;
	return s;
}

static enum ol_status visit(void *context, uint64_t index, const uint8_t *entry, size_t size,
			    struct ol_error *err)
{
	(void)context;
	(void)err;
	assert_int_equal(index, visited);
	assert_true(size > 6 && memcmp(entry, "entry ", 6) == 0);
	visited++;
	return OL_OK;
}

static struct ol_monitor *open_monitor(void)
{
	const struct ol_monitor_options options = {
		.source = {fetch, NULL}, .log_key = &honest.key, .folder = folder, .visit = visit};
	struct ol_monitor *monitor = NULL;
	struct ol_error err = {0};
	if (ol_monitor_open(&monitor, &options, &err) != OL_OK)
		fail_msg("%s", err.text);
	return monitor;
}

static void expect(struct ol_monitor *monitor, enum ol_monitor_finding finding, const char *words)
{
	struct ol_monitor_report report;
	struct ol_error err = {0};
	if (ol_monitor_step(monitor, &report, &err) != OL_OK)
		fail_msg("%s", err.text);
	if (report.finding != finding)
		fail_msg("%s: %s", ol_monitor_finding_name(report.finding), report.text);
	if (words)
		assert_non_null(strstr(report.text, words));
	assert_int_equal(report.evidence[0] != '\0', ol_monitor_is_alarm(finding));
	if (ol_monitor_is_alarm(finding)) {
		char path[OL_ERROR_TEXT_MAX + 16];
		struct stat stat_of;
		snprintf(path, sizeof path, "%s/shown", report.evidence);
		assert_int_equal(stat(path, &stat_of), 0);
		assert_true(stat_of.st_size > 0);
	}
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/openledger-test-XXXXXX");
	if (!mkdtemp(folder))
		return 1;
	test_log_make(&honest, 1, 100000, 0);
	test_log_make(&evil, 1, 400, 1);
	shown = &honest;
	changed = missing = NULL;
	offline = false;
	visited = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_log_free(&honest);
	test_log_free(&evil);
	test_log_remove(folder);
	return 0;
}

static void test_an_honest_log(void **state)
{
	(void)state;
	struct ol_monitor *monitor = open_monitor();
	expect(monitor, OL_MONITOR_UNREACHABLE, NULL); /* it has published nothing yet */
	test_log_grow(&honest, 0);
	expect(monitor, OL_MONITOR_SAME, NULL);
	for (uint64_t size = 100; size <= 900; size += 200) {
		test_log_grow(&honest, size);
		expect(monitor, OL_MONITOR_GREW, "every hash is right");
		assert_int_equal(visited, size);
		expect(monitor, OL_MONITOR_SAME, NULL);
	}
	offline = true;
	expect(monitor, OL_MONITOR_UNREACHABLE, NULL);
	offline = false;
	ol_monitor_close(monitor);
	monitor = open_monitor(); /* and does not read again what it knows */
	assert_int_equal(ol_monitor_size(monitor), 900);
	test_log_grow(&honest, 70000); /* tiles of two levels become full */
	expect(monitor, OL_MONITOR_GREW, NULL);
	assert_int_equal(visited, 70000);
	ol_monitor_close(monitor);
}

static void test_a_fork(void **state)
{
	(void)state;
	test_log_grow(&honest, 500);
	struct ol_monitor *monitor = open_monitor();
	expect(monitor, OL_MONITOR_GREW, NULL);
	shown = &evil;
	test_log_grow(&evil, 500);
	expect(monitor, OL_MONITOR_FORKED, "two different histories of 500");
	test_log_grow(&evil, 600);
	expect(monitor, OL_MONITOR_FORKED, "does not continue");
	ol_monitor_close(monitor);
	monitor = open_monitor(); /* over a restart too */
	expect(monitor, OL_MONITOR_FORKED, NULL);
	shown = &honest;
	test_log_grow(&honest, 601);
	expect(monitor, OL_MONITOR_GREW, NULL);
	ol_monitor_close(monitor);
}

static void test_a_fork_behind_a_roll_back(void **state)
{
	(void)state;
	test_log_grow(&honest, 500);
	struct ol_monitor *monitor = open_monitor();
	expect(monitor, OL_MONITOR_GREW, NULL);
	/* The twin shows 450 of its own first, then has to show the tiles of 500. */
	test_log_grow(&evil, 450);
	struct ol_buf note;
	struct ol_log_checkpoint checkpoint;
	test_log_note(&evil, &note, &checkpoint);
	test_log_grow(&evil, 500);
	assert_int_equal(
		evil.store.put(evil.folder, OL_CHECKPOINT_NAME, note.data, note.size, NULL), OL_OK);
	ol_buf_release(&note);
	shown = &evil;
	expect(monitor, OL_MONITOR_FORKED, "not the beginning");
	ol_monitor_close(monitor);
}

static void test_a_roll_back(void **state)
{
	(void)state;
	struct ol_monitor *monitor = open_monitor();
	struct ol_buf note;
	struct ol_log_checkpoint checkpoint;
	test_log_grow(&honest, 300);
	test_log_note(&honest, &note, &checkpoint);
	test_log_grow(&honest, 500);
	expect(monitor, OL_MONITOR_GREW, NULL);
	assert_int_equal(
		honest.store.put(honest.folder, OL_CHECKPOINT_NAME, note.data, note.size, NULL),
		OL_OK);
	expect(monitor, OL_MONITOR_ROLLED_BACK, "shows 300 entries but signed 500");
	ol_buf_release(&note);
	ol_monitor_close(monitor);
}

static void test_files_that_are_missing_or_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		bool gone;
		enum ol_monitor_finding finding;
	} rows[] = {
		{"tile/entries/001.p/44", true, OL_MONITOR_TRUNCATED},
		{"tile/0/001.p/44", true, OL_MONITOR_TRUNCATED},
		{"tile/1/000.p/1", true, OL_MONITOR_TRUNCATED},
		{"tile/entries/000", true, OL_MONITOR_TRUNCATED},
		{"tile/entries/000", false, OL_MONITOR_WRONG_FILES},
		{"tile/entries/001.p/44", false, OL_MONITOR_WRONG_FILES},
		{"tile/0/000", false, OL_MONITOR_WRONG_FILES},
		{"tile/0/001.p/44", false, OL_MONITOR_WRONG_FILES},
		{"tile/1/000.p/1", false, OL_MONITOR_WRONG_FILES},
		{OL_CHECKPOINT_NAME, false, OL_MONITOR_UNSIGNED},
	};
	test_log_grow(&honest, 300);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_monitor *monitor = open_monitor();
		visited = 0;
		changed = rows[i].gone ? NULL : rows[i].name;
		missing = rows[i].gone ? rows[i].name : NULL;
		expect(monitor, rows[i].finding, NULL);
		assert_int_equal(ol_monitor_size(monitor), 0);
		ol_monitor_close(monitor);
	}
	changed = missing = NULL;
	visited = 0;
	struct ol_monitor *monitor = open_monitor();
	expect(monitor, OL_MONITOR_GREW, NULL);
	ol_monitor_close(monitor);
}

static void test_a_wrong_key(void **state)
{
	(void)state;
	struct test_log stranger;
	test_log_grow(&honest, 3);
	struct ol_monitor *monitor = open_monitor();
	expect(monitor, OL_MONITOR_GREW, NULL);
	test_log_make(&stranger, 2, 100, 0);
	test_log_grow(&stranger, 5);
	shown = &stranger;
	expect(monitor, OL_MONITOR_UNSIGNED, "does not bear the signature");
	shown = &honest;
	expect(monitor, OL_MONITOR_SAME, NULL);
	ol_monitor_close(monitor);
	test_log_free(&stranger);
}

/* Every changed byte of its state is found. */
static void test_its_state(void **state)
{
	(void)state;
	char path[128];
	uint8_t bytes[4096];
	test_log_grow(&honest, 300);
	struct ol_monitor *monitor = open_monitor();
	expect(monitor, OL_MONITOR_GREW, NULL);
	ol_monitor_close(monitor);
	snprintf(path, sizeof path, "%s/state", folder);
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	const size_t size = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	assert_true(size > 100 && size < sizeof bytes);
	for (size_t i = 0; i <= size; i++) {
		const struct ol_monitor_options options = {
			.source = {fetch, NULL}, .log_key = &honest.key, .folder = folder};
		if (i < size)
			bytes[i] ^= 4;
		file = fopen(path, "wb");
		assert_non_null(file);
		assert_int_equal(fwrite(bytes, 1, size, file), size);
		fclose(file);
		if (i < size)
			bytes[i] ^= 4;
		assert_int_equal(ol_monitor_open(&monitor, &options, NULL),
				 i < size ? OL_ERR_INPUT : OL_OK);
		if (i == size)
			ol_monitor_close(monitor);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_an_honest_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_fork, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_fork_behind_a_roll_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_roll_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_that_are_missing_or_wrong, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_wrong_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_its_state, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
