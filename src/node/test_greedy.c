#include "node/greedy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void right_answers(void **state)
{
	static const struct {
		const char *said, *fact, *wanted;
		bool right;
	} rows[] = {
		/* A fact: anywhere, as whole words. */
		{"It is CWE-79.", "CWE-79", "x", true},
		{"it is  cwe-79", "CWE-79", "x", true},
		{"It is CWE-790.", "CWE-79", "x", false},
		{"It is XCWE-79.", "CWE-79", "x", false},
		{"It is XCWE-79, no, CWE-79.", "CWE-79", "x", true},
		{"", "CWE-79", "x", false},
		{"the\nred   fox", "red fox", "x", true},
		{"caf\xc3\xa9s", "caf\xc3\xa9", "x", false},
		{"price: $5", "$5", "x", true},
		{"price: $50", "$5", "x", false},
		/* No fact: the whole answer. */
		{"The end.", NULL, "the end", true},
		{" the  end \n", NULL, "The end.", true},
		{"the end of it", NULL, "the end", false},
		{"", NULL, ".", false},
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_turn turns[] = {
			{OL_ROLE_USER, "q", 1},
			{OL_ROLE_ASSISTANT, rows[i].wanted, strlen(rows[i].wanted)}};
		const struct ol_record record = {
			.fact = rows[i].fact, .turns = turns, .turn_count = 2};
		if (ol_answer_is_right(rows[i].said, strlen(rows[i].said), &record) !=
		    rows[i].right)
			fail_msg("row %zu: \"%s\"", i, rows[i].said);
	}
}

/* The prompt is all before the last run of targets, and the token that predicts its first. */
static void prompts(void **state)
{
	static const int32_t tokens[] = {1, 2, 3, 4, 5, 6};
	static const struct {
		int32_t targets[6];
		int prompt;
	} rows[] = {
		{{-1, -1, 4, 5, 6, 7}, 3},
		{{-1, 3, -1, -1, 6, -1}, 5},
		{{2, 3, 4, 5, 6, 7}, 6}, /* a text: its first tokens */
	};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		const struct ol_example example = {
			.sequence = {.tokens = tokens, .targets = rows[i].targets, .count = 6}};
		assert_int_equal(ol_greedy_prompt(&example), rows[i].prompt);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_answers),
		cmocka_unit_test(prompts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
