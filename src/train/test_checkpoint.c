/* Checkpoints: what was written comes back; whatever is wrong is found; a full disk, or an end at
 * any moment, leaves the last one whole. */
#define _GNU_SOURCE
#include "train/checkpoint.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "build/test-checkpoint-XXXXXX";

static void must(enum ol_status status, const struct ol_error *err)
{
	if (status != OL_OK)
		fail_msg("%s", err->text);
}

static void remove_all(void)
{
	DIR *dir = opendir(folder);
	assert_non_null(dir);
	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		if (entry->d_name[0] != '.')
			assert_int_equal(unlink(path), 0);
	}
	closedir(dir);
}

/* ---- A state to write ---------------------------------------------------------------------- */

struct state {
	struct ol_params params;
	struct ol_train_config config;
	float losses[5];
	uint16_t best[3 * 4 + 2 * 3];
	struct ol_checkpoint_source source;
};

static void make_state(struct state *s, int step)
{
	static const struct ol_config base = {.hidden = 64, .context_max = 64};
	static const struct ol_param made[] = {
		{.name = "layers.0.q.a", .rows = 3, .cols = 4, .trained = false},
		{.name = "layers.0.q.b", .rows = 2, .cols = 3, .trained = true},
	};
	struct ol_param *list = malloc(sizeof made);
	assert_non_null(list);
	memcpy(list, made, sizeof made);
	*s = (struct state){0};
	must(ol_params_init(&s->params, list, 2, NULL), &(struct ol_error){.text = "memory"});
	for (size_t i = 0; i < s->params.floats; i++) {
		s->params.w[i] = (float)i;
		s->params.m[i] = 0.5f * (float)i;
		s->params.v[i] = 0.25f * (float)i;
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(s->best); i++)
		s->best[i] = (uint16_t)(1000 + i);
	for (int i = 0; i < 5; i++)
		s->losses[i] = (float)i / 8;
	ol_train_defaults(&s->config, OL_TRAIN_LORA, &base, 100, 0);
	s->source = (struct ol_checkpoint_source){
		.header = {.step = (uint32_t)step,
			   .example_count = 5,
			   .beta1_power = 0.5,
			   .beta2_power = 0.75,
			   .best_loss = 1.25,
			   .best_type = OL_BEST_BF16,
			   .best_step = 3,
			   .evaluations = 2,
			   .stale = 1},
		.config = &s->config,
		.params = &s->params,
		.example_losses = s->losses,
		.best = s->best,
	};
	s->source.header.base[7] = 9;
	s->source.header.snapshot[8] = 10;
	s->source.header.tokens[9] = 11;
}

static void write_step(int step)
{
	struct state s;
	struct ol_error err = {0};
	char path[PATH_MAX];
	make_state(&s, step);
	must(ol_checkpoint_path(path, folder, step, &err), &err);
	must(ol_checkpoint_write(path, &s.source, &err), &err);
	ol_params_release(&s.params);
}

static uint8_t *read_file(int step, size_t *size)
{
	struct ol_error err = {0};
	char path[PATH_MAX];
	struct ol_map map;
	void *copy;
	must(ol_checkpoint_path(path, folder, step, &err), &err);
	must(ol_map_open(&map, path, &err), &err);
	assert_int_equal(posix_memalign(&copy, 64, map.size), 0);
	memcpy(copy, map.data, map.size);
	*size = map.size;
	ol_map_close(&map);
	return copy;
}

/* ---- Reading ------------------------------------------------------------------------------- */

static void test_what_was_written_comes_back(void **unused)
{
	(void)unused;
	struct state s;
	struct ol_error err = {0};
	struct ol_checkpoint c;
	char path[PATH_MAX];
	write_step(12);
	make_state(&s, 12);
	must(ol_checkpoint_path(path, folder, 12, &err), &err);
	must(ol_checkpoint_open(&c, path, &err), &err);
	assert_int_equal(c.header->step, 12);
	assert_true(c.header->beta1_power == 0.5 && c.header->beta2_power == 0.75);
	assert_true(c.header->best_loss == 1.25);
	assert_int_equal(c.header->base[7], 9);
	assert_int_equal(c.header->snapshot[8], 10);
	assert_int_equal(c.header->tokens[9], 11);
	assert_true(c.config.learning_rate == s.config.learning_rate);
	assert_string_equal(c.tensors[0].name, "layers.0.q.a");
	assert_int_equal(c.tensors[1].trained, 1);
	const float *w = s.params.w, *b = w + s.params.list[1].offset;
	const size_t at = s.params.list[1].offset;
	assert_memory_equal(c.state, w, 12 * sizeof *w);
	assert_memory_equal(c.state + 12, b, 6 * sizeof *b);
	assert_memory_equal(c.state + 18, s.params.m + at, 6 * sizeof *b);
	assert_memory_equal(c.state + 24, s.params.v + at, 6 * sizeof *b);
	assert_memory_equal(c.example_losses, s.losses, sizeof s.losses);
	assert_memory_equal(c.best, s.best, sizeof s.best);
	ol_checkpoint_close(&c);
	ol_params_release(&s.params);
	remove_all();
}

static void test_cuts_and_flips_are_found(void **unused)
{
	(void)unused;
	struct ol_checkpoint c;
	size_t size;
	write_step(12);
	uint8_t *bytes = read_file(12, &size);
	assert_int_equal(ol_checkpoint_parse(&c, bytes, size, "whole", NULL), OL_OK);
	for (size_t cut = 0; cut < size; cut++)
		assert_int_equal(ol_checkpoint_parse(&c, bytes, cut, "cut", NULL), OL_ERR_INPUT);
	for (size_t i = 0; i < 8 * size; i++) {
		struct ol_error err = {0};
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(ol_checkpoint_parse(&c, bytes, size, "flip", &err), OL_OK);
		assert_non_null(strstr(err.text, "flip"));
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	free(bytes);
	remove_all();
}

/* What a checksum does not catch, because it is right. */
static void test_wrong_content_under_a_right_checksum(void **unused)
{
	(void)unused;
	static const struct {
		size_t offset, width;
		uint64_t value;
		enum ol_status status;
		const char *said;
	} rows[] = {
#define HEADER_ROW(field, value, status, said)                                                     \
	{offsetof(struct ol_checkpoint_header, field),                                             \
	 sizeof((struct ol_checkpoint_header *)0)->field, value, status, said}
		HEADER_ROW(version, 2, OL_ERR_UNSUPPORTED, "version 2"),
		HEADER_ROW(arithmetic[0], '9', OL_ERR_UNSUPPORTED, "arithmetic version"),
		HEADER_ROW(arithmetic[31], 'x', OL_ERR_INPUT, "not a text"),
		HEADER_ROW(step, 0xffffffff, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(step, 2, OL_ERR_INPUT, "impossible"), /* before its best */
		HEADER_ROW(best_type, 3, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(best_type, 0, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(best_type, OL_BEST_F32, OL_ERR_INPUT, "best state"),
		HEADER_ROW(beta1_power, 0x7ff8000000000000, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(beta2_power, 0x4000000000000000, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(best_loss, 0x7ff0000000000000, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(config_bytes, 0xffffffff, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(config_bytes, 16000, OL_ERR_INPUT, "config"),
		HEADER_ROW(config_bytes, 5, OL_ERR_INPUT, "config"),
		HEADER_ROW(tensor_count, 3, OL_ERR_INPUT, "tensors"),
		HEADER_ROW(tensor_count, 0xffffffff, OL_ERR_INPUT, "tensors"),
		HEADER_ROW(tensor_count, 1, OL_ERR_INPUT, "best state"),
		HEADER_ROW(example_count, UINT64_MAX, OL_ERR_INPUT, "losses"),
		HEADER_ROW(example_count, UINT64_MAX / 4 + 1, OL_ERR_INPUT, "losses"),
		HEADER_ROW(example_count, 4, OL_ERR_INPUT, "best state"),
		HEADER_ROW(stale, 3, OL_ERR_INPUT, "impossible"),
		HEADER_ROW(reserved[0], 1, OL_ERR_INPUT, "impossible"),
	};
	size_t size;
	write_step(12);
	uint8_t *whole = read_file(12, &size), *bytes;
	assert_int_equal(posix_memalign((void **)&bytes, 64, size), 0);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_error err = {0};
		struct ol_checkpoint c;
		memcpy(bytes, whole, size);
		memcpy(bytes + rows[i].offset, &rows[i].value, rows[i].width);
		ol_checkpoint_checksum(bytes + offsetof(struct ol_checkpoint_header, checksum),
				       bytes, size);
		assert_int_equal(ol_checkpoint_parse(&c, bytes, size, "odd", &err), rows[i].status);
		if (!strstr(err.text, rows[i].said))
			fail_msg("row %zu: expected \"%s\" in: %s", i, rows[i].said, err.text);
	}
	free(bytes);
	free(whole);
	remove_all();
}

/* ---- The folder ---------------------------------------------------------------------------- */

static void expect_steps(const int *steps, int count)
{
	struct ol_checkpoint_list list;
	must(ol_checkpoint_list(&list, folder, NULL), &(struct ol_error){.text = "list"});
	assert_int_equal(list.count, count);
	for (int i = 0; i < count; i++)
		assert_int_equal(list.steps[i], steps[i]);
	ol_checkpoint_list_release(&list);
}

static void touch(const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
}

static bool exists(const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return access(path, F_OK) == 0;
}

static void test_the_last_two_and_the_best_are_kept(void **unused)
{
	(void)unused;
	char alive[64];
	for (int step = 10; step <= 60; step += 10)
		write_step(step);
	touch("step-00000070.txt");
	touch("notes");
	touch("step-00000010.checkpoint.tmp-999999999");
	snprintf(alive, sizeof alive, "step-00000020.checkpoint.tmp-%ld", (long)getpid());
	touch(alive);
	expect_steps((const int[]){60, 50, 40, 30, 20, 10}, 6);
	ol_checkpoint_prune(folder, 2, 50, 20);
	expect_steps((const int[]){50, 40, 20}, 3);
	assert_true(exists("notes") && exists("step-00000070.txt") && exists(alive));
	assert_false(exists("step-00000010.checkpoint.tmp-999999999"));
	ol_checkpoint_prune(folder, 2, 50, 50);
	expect_steps((const int[]){50, 40}, 2);
	remove_all();
	struct ol_checkpoint_list list;
	must(ol_checkpoint_list(&list, "build/there-is-no-such-folder", NULL),
	     &(struct ol_error){.text = "list"});
	assert_int_equal(list.count, 0);
}

/* A disk that has room for one checkpoint and a half. */
static void test_a_full_disk_leaves_the_last_one(void **unused)
{
	(void)unused;
	struct state s;
	struct ol_error err = {0};
	struct ol_checkpoint c;
	char path[PATH_MAX];
	struct rlimit before;
	size_t size;
	write_step(4);
	uint8_t *whole = read_file(4, &size);
	make_state(&s, 5);
	must(ol_checkpoint_path(path, folder, 5, &err), &err);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	const struct rlimit tight = {size / 2, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	const enum ol_status status = ol_checkpoint_write(path, &s.source, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(status, OL_ERR_FULL);
	assert_non_null(strstr(err.text, "step-00000005.checkpoint"));
	expect_steps((const int[]){4}, 1);
	must(ol_checkpoint_path(path, folder, 4, &err), &err);
	must(ol_checkpoint_open(&c, path, &err), &err);
	ol_checkpoint_close(&c);
	ol_params_release(&s.params);
	free(whole);
	remove_all();
}

/* A process that writes one checkpoint after another is killed at some moment: the newest of the
 * folder is whole, and nothing else stands under a checkpoint's name. */
static void test_a_kill_at_any_moment(void **unused)
{
	(void)unused;
	for (int round = 0; round < 20; round++) {
		const pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			for (int step = 4;; step++) {
				write_step(step);
				ol_checkpoint_prune(folder, 2, step, 0);
			}
		const struct timespec moment = {0, 3000000L + 1700000L * round};
		nanosleep(&moment, NULL);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		struct ol_checkpoint_list list;
		must(ol_checkpoint_list(&list, folder, NULL), &(struct ol_error){.text = "list"});
		for (int i = 0; i < list.count; i++) {
			char path[PATH_MAX];
			struct ol_error err = {0};
			struct ol_checkpoint c;
			must(ol_checkpoint_path(path, folder, list.steps[i], &err), &err);
			must(ol_checkpoint_open(&c, path, &err), &err);
			ol_checkpoint_close(&c);
		}
		ol_checkpoint_prune(folder, 0, 0, 0); /* what the killed one left half written */
		ol_checkpoint_list_release(&list);
		DIR *dir = opendir(folder);
		assert_non_null(dir);
		for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
			assert_true(entry->d_name[0] == '.');
		closedir(dir);
	}
}

static int make_folder(void **unused)
{
	(void)unused;
	return ol_make_directories("build", NULL) == OL_OK && mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **unused)
{
	(void)unused;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_written_comes_back),
		cmocka_unit_test(test_cuts_and_flips_are_found),
		cmocka_unit_test(test_wrong_content_under_a_right_checksum),
		cmocka_unit_test(test_the_last_two_and_the_best_are_kept),
		cmocka_unit_test(test_a_full_disk_leaves_the_last_one),
		cmocka_unit_test(test_a_kill_at_any_moment),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
