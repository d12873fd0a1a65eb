/* The node's key gives way to another: the event, the checkpoint of both keys, the files; broken
 * off on the way and done again; and that a monitor is told. */
#define _GNU_SOURCE
#include "node/key_rotation.h"
#include "ledger/monitor.h"
#include "node/test_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

/* A child of this test is the signer. */
static enum ol_status start(struct ol_signer **signer_out, const char *folder, const char *program,
			    struct ol_error *err)
{
	int ends[2];
	(void)program;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		const enum ol_status s = ol_signer_serve(ends[1], folder, ol_signer_rules,
							 ol_signer_rule_count, NULL);
		_exit(s == OL_OK ? 0 : 1);
	}
	close(ends[1]);
	return ol_signer_attach(signer_out, ends[0], pid, err);
}

static void make_home(struct ol_home *home, struct ol_ledger_home *paths)
{
	test_home_make(home);
	assert_int_equal(ol_ledger_home(paths, home, NULL), OL_OK);
}

static void rotate(struct ol_note_key *key, const struct ol_home *home)
{
	struct ol_error err = {0};
	if (ol_key_rotate(key, home, start, &err) != OL_OK)
		fail_msg("%s", err.text);
}

/* What a monitor that trusts `key` finds. */
static void monitor(const struct ol_ledger_home *paths, const struct ol_note_key *key,
		    const char *state, enum ol_monitor_finding finding, const char *next)
{
	struct ol_log_folder *folder;
	struct ol_monitor *watcher;
	struct ol_monitor_report report;
	struct ol_error err = {0};
	assert_int_equal(ol_log_folder_open(&folder, paths->log, NULL), OL_OK);
	const struct ol_monitor_options options = {
		.source = ol_log_folder_store(folder).source, .log_key = key, .folder = state};
	assert_int_equal(ol_monitor_open(&watcher, &options, NULL), OL_OK);
	if (ol_monitor_step(watcher, &report, &err) != OL_OK)
		fail_msg("%s", err.text);
	if (report.finding != finding)
		fail_msg("%s", report.text);
	assert_string_equal(report.next_key, next);
	ol_monitor_close(watcher);
	ol_log_folder_close(folder);
}

static void test_two_rotations(void **state)
{
	(void)state;
	struct ol_home home;
	struct ol_ledger_home paths;
	struct ol_note_key first, second, third;
	struct ol_signer *signer;
	char text[OL_VERIFIER_KEY_TEXT], watched[OL_PATH_MAX];
	struct ol_error err = {0};
	make_home(&home, &paths);
	assert_int_equal(ol_path_join(watched, NULL, home.path, "/watched", ""), OL_OK);
	assert_int_equal(ol_key_rotate(&second, &home, start, &err), OL_ERR_NOT_FOUND);
	assert_int_equal(ol_signer_create(paths.signer, "example.com/log", &ol_random_system, NULL),
			 OL_OK);
	assert_int_equal(start(&signer, paths.signer, NULL, NULL), OL_OK);
	first = *ol_signer_key(signer);
	ol_signer_stop(signer);
	rotate(&second, &home);
	assert_string_equal(second.name, first.name);
	assert_memory_not_equal(second.public_key, first.public_key, 32);
	/* Who trusted the first key is told of the second, in words both keys signed. */
	ol_note_key_print(text, &second);
	monitor(&paths, &first, watched, OL_MONITOR_GREW, text);
	monitor(&paths, &second, watched, OL_MONITOR_SAME, "");
	rotate(&third, &home);
	monitor(&paths, &first, watched, OL_MONITOR_UNSIGNED, "");
	ol_note_key_print(text, &third);
	monitor(&paths, &second, watched, OL_MONITOR_GREW, text);
	/* The old keys are kept. */
	char old[OL_PATH_MAX];
	snprintf(old, sizeof old, "%.3000s/node.key.%08x", paths.signer, first.id);
	assert_int_equal(access(old, F_OK), 0);
	test_folder_remove(home.path);
}

/* At each place where it can stop, the call is made again and ends it. */
static void test_broken_off(void **state)
{
	(void)state;
	for (int where = 0; where < 4; where++) {
		struct ol_home home;
		struct ol_ledger_home paths;
		struct ol_note_key next;
		struct ol_signer *signer;
		char ready[OL_PATH_MAX], folder[OL_PATH_MAX], from[OL_PATH_MAX], to[OL_PATH_MAX];
		make_home(&home, &paths);
		assert_int_equal(
			ol_signer_create(paths.signer, "example.com/log", &ol_random_system, NULL),
			OL_OK);
		snprintf(folder, sizeof folder, "%.3000s/signer.next", home.path);
		snprintf(ready, sizeof ready, "%.3000s/signer.ready", home.path);
		if (where == 0) /* the new key was made, nothing else */
			assert_int_equal(ol_signer_create(folder, "example.com/log",
							  &ol_random_system, NULL),
					 OL_OK);
		if (where >= 1) { /* all was ready, or one of the two files was moved */
			rotate(&next, &home);
			assert_int_equal(mkdir(ready, 0700), 0);
			for (int i = where - 1; i < 2; i++) {
				static const char *const names[2] = {"node.state", "node.key"};
				snprintf(from, sizeof from, "%.3000s/%s", paths.signer, names[i]);
				snprintf(to, sizeof to, "%.3000s/%s", ready, names[i]);
				assert_int_equal(rename(from, to), 0);
			}
			/* What lay there before the moves: the old key's files. */
			char pattern[OL_PATH_MAX];
			snprintf(pattern, sizeof pattern,
				 "cd '%.3000s' && for n in key state; do [ -e node.$n ] || "
				 "cp -p node.$n.* node.$n; done",
				 paths.signer);
			const pid_t shell = fork();
			assert_true(shell >= 0);
			if (shell == 0) {
				execl("/bin/sh", "sh", "-c", pattern, (char *)NULL);
				_exit(127);
			}
			int status;
			assert_int_equal(waitpid(shell, &status, 0), shell);
			assert_int_equal(status, 0);
		}
		struct ol_note_key after;
		rotate(&after, &home);
		if (where >= 1)
			assert_memory_equal(after.public_key, next.public_key, 32);
		assert_int_not_equal(access(ready, F_OK), 0);
		assert_int_not_equal(access(folder, F_OK), 0);
		assert_int_equal(start(&signer, paths.signer, NULL, NULL), OL_OK);
		assert_memory_equal(ol_signer_key(signer)->public_key, after.public_key, 32);
		ol_signer_stop(signer);
		test_folder_remove(home.path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_rotations),
		cmocka_unit_test(test_broken_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
