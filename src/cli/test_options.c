/* Command lines, one row each: what is taken, what is refused. */
#include "cli/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct values {
	bool flag, seed_given;
	int count;
	float ratio;
	uint64_t seed;
	const char *text;
	struct ol_texts texts, operands;
};

static enum ol_parse parse(struct values *v, bool operands, int argc, char **argv)
{
	const struct ol_option options[] = {
		OL_FLAG("flag", 'f', v->flag, "a flag"),
		OL_NUMBER(INT, "count", 'n', v->count, "N", 1, 10, "a number"),
		OL_NUMBER(FLOAT, "ratio", 0, v->ratio, "X", 0, 1, "a ratio"),
		OL_U64("seed", 's', v->seed, "S", "a seed", &v->seed_given),
		OL_TEXT("text", 't', v->text, "TEXT", "a text"),
		OL_TEXTS("stop", 0, v->texts, "TEXT", "many texts"),
	};
	const struct ol_command_line line = {.command = "openledger test",
					     .usage = "[options]",
					     .about = "A test.",
					     .options = options,
					     .option_count = OL_ARRAY_LEN(options),
					     .operands = operands ? &v->operands : NULL};
	return ol_options_parse(&line, argc, argv);
}

#define ARGS(...)                                                                                  \
	(int)(sizeof((const char *[]){"test", __VA_ARGS__}) / sizeof(char *)),                     \
		(char **)(uintptr_t)(const char *[])                                               \
	{                                                                                          \
		"test", __VA_ARGS__                                                                \
	}

static void lines_are_taken(void **state)
{
	struct values v = {0};
	(void)state;
	assert_int_equal(
		parse(&v, true,
		      ARGS("-f", "--count", "7", "one", "--ratio=0.5", "-s18446744073709551615",
			   "--text", "--count", "--stop", "a", "--stop=b", "--", "-x", "--")),
		OL_PARSE_GO);
	assert_true(v.flag && v.seed_given);
	assert_int_equal(v.count, 7);
	assert_true(v.ratio == 0.5f);
	assert_true(v.seed == UINT64_MAX);
	assert_string_equal(v.text, "--count"); /* a value may look like an option */
	assert_int_equal(v.texts.count, 2);
	assert_string_equal(v.texts.values[1], "b");
	assert_int_equal(v.operands.count, 3);
	assert_string_equal(v.operands.values[0], "one");
	assert_string_equal(v.operands.values[1], "-x");
	assert_string_equal(v.operands.values[2], "--");
}

static void lines_are_refused(void **state)
{
	static const char *const rows[][3] = {
		{"--nope", NULL, NULL},
		{"-z", NULL, NULL},
		{"--count", NULL, NULL},
		{"--count", "0", NULL},
		{"--count", "11", NULL},
		{"--count", "7x", NULL},
		{"--count", "", NULL},
		{"--count=", NULL, NULL},
		{"--ratio", "nan", NULL},
		{"--ratio", "inf", NULL},
		{"--ratio", "1.01", NULL},
		{"--seed", "-1", NULL},
		{"--seed", "1e3", NULL},
		{"--flag=yes", NULL, NULL},
		{"operand", NULL, NULL},
		{"--seed", "18446744073709551616", NULL},
		{"--count", "99999999999", NULL},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		struct values v = {0};
		const char *argv[] = {"test", rows[i][0], rows[i][1]};
		assert_int_equal(parse(&v, false, rows[i][1] ? 3 : 2, (char **)(uintptr_t)argv),
				 OL_PARSE_BAD);
	}
}

static void help_is_help(void **state)
{
	struct values v = {0};
	(void)state;
	assert_int_equal(parse(&v, false, ARGS("--help")), OL_PARSE_HELP);
	assert_int_equal(parse(&v, false, ARGS("-f", "-h")), OL_PARSE_HELP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_taken),
		cmocka_unit_test(lines_are_refused),
		cmocka_unit_test(help_is_help),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
