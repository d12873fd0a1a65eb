/* Interrupted runs: resumed from any checkpoint they give the bits of the uninterrupted one. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "train/test_support.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "train/trainer_internal.h"

static char folder[] = "build/test-resume-XXXXXX";

static void empty_folder(void)
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

/* Everything that a run has become, by its checkpoint: one file holds the whole state. */
static void state_hash(struct ol_trainer *trainer, uint8_t out[OL_SHA256_BYTES])
{
	char path[PATH_MAX];
	struct ol_map map;
	struct ol_error err = {0};
	must(ol_trainer_save(trainer, &err), &err);
	must(ol_checkpoint_path(path, folder, ol_trainer_steps_done(trainer), &err), &err);
	must(ol_map_open(&map, path, &err), &err);
	ol_sha256(out, map.data, map.size);
	ol_map_close(&map);
}

static const struct ol_train_options fresh = {.threads = 2, .folder = folder};
static const struct ol_train_options again = {.threads = 1, .folder = folder, .resume = true};

static void test_a_run_cut_at_every_step(void **state)
{
	(void)state;
	enum { STEPS = 9 };
	static struct toys toys;
	make_toys(&toys, 24);
	for (int method = 0; method < OL_TRAIN_METHODS; method++) {
		struct ol_model *base = tiny_model(method % 2, OL_WEIGHT_BF16);
		struct ol_train_config config = toy_config((enum ol_train_method)method, STEPS);
		uint8_t expected[OL_SHA256_BYTES], actual[OL_SHA256_BYTES];
		struct ol_step_report report;
		struct ol_error err = {0};
		config.dropout = 0.1f;
		config.patience = 5;
		struct ol_trainer *trainer = open_toys(base, &toys, &config, &fresh);
		run_toys(trainer);
		state_hash(trainer, expected);
		ol_trainer_close(trainer);
		empty_folder();
		/* Every step in a process of its own, so to speak. */
		trainer = open_toys(base, &toys, &config, &fresh);
		for (int step = 1;; step++) {
			must(ol_trainer_step(trainer, &report, &err), &err);
			assert_int_equal(report.step, step);
			if (ol_trainer_finished(trainer))
				break;
			must(ol_trainer_save(trainer, &err), &err);
			ol_trainer_close(trainer);
			trainer = open_toys(base, &toys, &config, &again);
			assert_int_equal(ol_trainer_steps_done(trainer), step);
			assert_string_equal(ol_trainer_notice(trainer), "");
		}
		state_hash(trainer, actual);
		assert_memory_equal(actual, expected, sizeof actual);
		ol_trainer_close(trainer);
		ol_model_close(base);
		empty_folder();
	}
}

/* Saves after every step, as long as it lives. */
static void train_until_killed(const struct ol_model *base, const struct toys *toys,
			       const struct ol_train_config *config)
{
	struct ol_step_report report;
	struct ol_trainer *trainer;
	/* No test library in here: whatever goes wrong, the parent finds out. */
	if (ol_trainer_open_examples(&trainer, base, &toys->list, config, &again, NULL) != OL_OK)
		_exit(1);
	while (!ol_trainer_finished(trainer))
		if (ol_trainer_step(trainer, &report, NULL) != OL_OK ||
		    ol_trainer_save(trainer, NULL) != OL_OK)
			_exit(1);
	_exit(0);
}

static void test_a_run_killed_at_any_moment(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 24);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	const struct ol_train_config config = toy_config(OL_TRAIN_LORA, SANITIZED ? 8 : 40);
	const double start = ol_clock_seconds();
	uint8_t expected[OL_SHA256_BYTES], actual[OL_SHA256_BYTES];
	struct ol_trainer *trainer = open_toys(base, &toys, &config, &fresh);
	run_toys(trainer);
	state_hash(trainer, expected);
	ol_trainer_close(trainer);
	empty_folder();
	/* Lives of a tenth to a half of the whole run; longer when the machine slows down. */
	const double whole = ol_clock_seconds() - start;
	int status = 1, deaths = 0;
	for (int life = 0; life < 200 && status != 0; life++) {
		const double seconds = whole * (0.1 + 0.1 * (life % 5) + 0.02 * life);
		const pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			train_until_killed(base, &toys, &config);
		const struct timespec moment = {(time_t)seconds,
						(long)(1e9 * (seconds - (double)(time_t)seconds))};
		nanosleep(&moment, NULL);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_false(WIFEXITED(status) && WEXITSTATUS(status) != 0);
		deaths += WIFSIGNALED(status);
	}
	assert_true(deaths > 0);
	trainer = open_toys(base, &toys, &config, &again);
	assert_true(ol_trainer_finished(trainer));
	state_hash(trainer, actual);
	assert_memory_equal(actual, expected, sizeof actual);
	ol_trainer_close(trainer);
	ol_model_close(base);
	empty_folder();
}

static void run_and_save(const struct ol_model *base, const struct toys *toys,
			 const struct ol_train_config *config, int steps)
{
	struct ol_trainer *trainer = open_toys(base, toys, config, &fresh);
	struct ol_step_report report;
	struct ol_error err = {0};
	for (int i = 0; i < steps; i++) {
		must(ol_trainer_step(trainer, &report, &err), &err);
		must(ol_trainer_save(trainer, &err), &err);
	}
	ol_trainer_close(trainer);
}

static void damage(int step, bool cut)
{
	char path[PATH_MAX];
	must(ol_checkpoint_path(path, folder, step, NULL), &(struct ol_error){.text = "path"});
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	if (cut) {
		assert_int_equal(ftruncate(fileno(file), 1000), 0);
	} else {
		assert_int_equal(fseek(file, 3000, SEEK_SET), 0);
		const int byte = fgetc(file);
		assert_int_equal(fseek(file, 3000, SEEK_SET), 0);
		fputc(byte ^ 4, file);
	}
	fclose(file);
}

static void test_a_damaged_checkpoint_is_passed_over(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 24);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	const struct ol_train_config config = toy_config(OL_TRAIN_LORA, 20);
	for (int cut = 0; cut < 2; cut++) {
		/* Step 4 was evaluated: the best is kept beside 5 and 6. */
		run_and_save(base, &toys, &config, 6);
		damage(6, cut);
		struct ol_trainer *trainer = open_toys(base, &toys, &config, &again);
		assert_int_equal(ol_trainer_steps_done(trainer), 5);
		assert_non_null(strstr(ol_trainer_notice(trainer), "step-00000006"));
		assert_non_null(strstr(ol_trainer_notice(trainer), "damaged"));
		ol_trainer_close(trainer);
		damage(5, !cut);
		trainer = open_toys(base, &toys, &config, &again);
		assert_int_equal(ol_trainer_steps_done(trainer), 4);
		ol_trainer_close(trainer);
		damage(4, cut);
		trainer = open_toys(base, &toys, &config, &again);
		assert_int_equal(ol_trainer_steps_done(trainer), 0);
		ol_trainer_close(trainer);
		empty_folder();
	}
	ol_model_close(base);
}

/* One row per way of being another run: refused, saying what differs. */
static void test_checkpoints_of_another_run_are_refused(void **state)
{
	(void)state;
	static struct toys toys, others, tokens;
	make_toys(&toys, 24);
	make_toys(&others, 23);
	make_toys(&tokens, 24);
	tokens.tokens[7][1] ^= 1;
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	struct ol_model *other_base = tiny_model(false, OL_WEIGHT_Q8);
	const struct ol_train_config config = toy_config(OL_TRAIN_LORA, 20);
	struct ol_train_config warmer = config, longer = config;
	warmer.learning_rate = 0.5f;
	longer.steps = 21;
	const struct {
		const struct ol_model *base;
		const struct toys *toys;
		const struct ol_train_config *config;
		const struct ol_train_options *options;
		const char *said;
	} rows[] = {
		{other_base, &toys, &config, &again, "another base"},
		{base, &others, &config, &again, "other data"},
		{base, &tokens, &config, &again, "in another way"},
		{base, &toys, &warmer, &again, "learning_rate"},
		{base, &toys, &longer, &again, "\"steps 20\" there, \"steps 21\" here"},
		{base, &toys, &config, &fresh, "--resume"},
	};
	run_and_save(base, &toys, &config, 2);
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct ol_trainer *trainer;
		struct ol_error err = {0};
		assert_int_equal(ol_trainer_open_examples(&trainer, rows[i].base,
							  &rows[i].toys->list, rows[i].config,
							  rows[i].options, &err),
				 OL_ERR_INPUT);
		if (!strstr(err.text, rows[i].said))
			fail_msg("expected \"%s\" in: %s", rows[i].said, err.text);
	}
	ol_model_close(other_base);
	ol_model_close(base);
	empty_folder();
}

/* The run goes on where the disk was full, once there is room. */
static void test_a_full_disk(void **state)
{
	(void)state;
	static struct toys toys;
	make_toys(&toys, 24);
	struct ol_model *base = tiny_model(false, OL_WEIGHT_BF16);
	const struct ol_train_config config = toy_config(OL_TRAIN_LORA, 6);
	struct rlimit before;
	struct ol_step_report report;
	struct ol_error err = {0};
	run_and_save(base, &toys, &config, 2);
	struct ol_trainer *trainer = open_toys(base, &toys, &config, &again);
	must(ol_trainer_step(trainer, &report, &err), &err);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	const struct rlimit tight = {5000, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	const enum ol_status status = ol_trainer_save(trainer, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(status, OL_ERR_FULL);
	assert_non_null(strstr(err.text, "step-00000003"));
	struct ol_trainer *other = open_toys(base, &toys, &config, &again);
	assert_int_equal(ol_trainer_steps_done(other), 2);
	ol_trainer_close(other);
	must(ol_trainer_save(trainer, &err), &err);
	ol_trainer_close(trainer);
	trainer = open_toys(base, &toys, &config, &again);
	assert_int_equal(ol_trainer_steps_done(trainer), 3);
	ol_trainer_close(trainer);
	ol_model_close(base);
	empty_folder();
}

static int make_folder(void **state)
{
	(void)state;
	return ol_make_directories("build", NULL) == OL_OK && mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_run_cut_at_every_step),
		cmocka_unit_test(test_a_run_killed_at_any_moment),
		cmocka_unit_test(test_a_damaged_checkpoint_is_passed_over),
		cmocka_unit_test(test_checkpoints_of_another_run_are_refused),
		cmocka_unit_test(test_a_full_disk),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
