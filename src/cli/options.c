#include "cli/options.h"

#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const struct ol_command_line *line)
{
	printf("%s\n\nUsage: %s %s\n", line->about, line->command, line->usage);
	if (line->option_count > 0)
		printf("\nOptions:\n");
	for (int i = 0; i < line->option_count; i++) {
		const struct ol_option *o = &line->options[i];
		char left[64];
		snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
			 o->value ? " " : "", o->value ? o->value : "");
		printf("  %-30s %s\n", left, o->help);
	}
	if (line->examples)
		printf("\nExamples:\n%s", line->examples);
}

static enum ol_parse bad(const struct ol_command_line *line, const char *what, const char *a,
			 const char *b)
{
	char sentence[512];
	snprintf(sentence, sizeof sentence, "%s%s%s", what, a, b);
	fprintf(stderr, "openledger: %s; see `%s --help`\n", sentence, line->command);
	return OL_PARSE_BAD;
}

static bool parse_number(const struct ol_option *o, const char *text)
{
	char *end = NULL;
	double value;
	errno = 0;
	if (o->kind == OL_OPTION_U64) {
		const unsigned long long n = strtoull(text, &end, 0);
		if (errno || *end || end == text || strchr(text, '-'))
			return false;
		*(uint64_t *)o->target = n;
		return true;
	}
	if (o->kind == OL_OPTION_INT) {
		const long n = strtol(text, &end, 10);
		if (errno || n < INT32_MIN || n > INT32_MAX)
			return false;
		*(int *)o->target = (int)n;
		value = (double)n;
	} else {
		const float f = strtof(text, &end);
		*(float *)o->target = f;
		value = (double)f;
		if (!isfinite(value))
			return false;
	}
	const bool ranged = o->low != 0.0 || o->high != 0.0;
	return end != text && *end == '\0' && (!ranged || (value >= o->low && value <= o->high));
}

enum { SENTENCE_MAX = 400 };

/* False: the sentence says why not. */
static bool take_value(const struct ol_option *o, const char *text, char sentence[SENTENCE_MAX])
{
	struct ol_texts *texts = o->target;
	char range[96] = "";
	switch (o->kind) {
	case OL_OPTION_FLAG: OL_UNREACHABLE();
	case OL_OPTION_TEXT: *(const char **)o->target = text; return true;
	case OL_OPTION_TEXTS:
		if (texts->count < OL_TEXTS_MAX) {
			texts->values[texts->count++] = text;
			return true;
		}
		snprintf(sentence, SENTENCE_MAX, "too many times --%s", o->name);
		return false;
	case OL_OPTION_INT:
	case OL_OPTION_U64:
	case OL_OPTION_FLOAT:
		if (parse_number(o, text))
			return true;
		if (o->low != 0.0 || o->high != 0.0)
			snprintf(range, sizeof range, " (a number from %g to %g)", o->low, o->high);
		else
			snprintf(range, sizeof range, " (a number)");
		break;
	}
	snprintf(sentence, SENTENCE_MAX, "--%s cannot be \"%.200s\"%s", o->name, text, range);
	return false;
}

static const struct ol_option *find_long(const struct ol_command_line *line, const char *name,
					 size_t length)
{
	for (int i = 0; i < line->option_count; i++)
		if (strlen(line->options[i].name) == length &&
		    strncmp(line->options[i].name, name, length) == 0)
			return &line->options[i];
	return NULL;
}

static const struct ol_option *find_letter(const struct ol_command_line *line, char letter)
{
	for (int i = 0; i < line->option_count; i++)
		if (line->options[i].letter == letter)
			return &line->options[i];
	return NULL;
}

enum ol_parse ol_options_parse(const struct ol_command_line *line, int argc, char **argv)
{
	bool options_over = false;
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value = NULL;
		const struct ol_option *o = NULL;
		if (options_over || arg[0] != '-' || arg[1] == '\0') {
			if (!line->operands)
				return bad(line, "what is \"", arg,
					   "\"? This command takes options only");
			if (line->operands->count == OL_TEXTS_MAX)
				return bad(line, "too many arguments", "", "");
			line->operands->values[line->operands->count++] = arg;
			continue;
		}
		if (strcmp(arg, "--") == 0) {
			options_over = true;
			continue;
		}
		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
			print_help(line);
			return OL_PARSE_HELP;
		}
		if (arg[1] == '-') {
			const char *equals = strchr(arg, '=');
			o = find_long(line, arg + 2,
				      equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2);
			value = equals ? equals + 1 : NULL;
		} else {
			o = find_letter(line, arg[1]);
			value = arg[2] ? arg + 2 : NULL;
		}
		if (!o)
			return bad(line, "there is no option \"", arg, "\"");
		if (o->given)
			*o->given = true;
		if (o->kind == OL_OPTION_FLAG) {
			if (value)
				return bad(line, "--", o->name, " takes no value");
			*(bool *)o->target = true;
			continue;
		}
		if (!value && i + 1 == argc)
			return bad(line, "--", o->name, " needs a value");
		char sentence[SENTENCE_MAX];
		if (!take_value(o, value ? value : argv[++i], sentence))
			return bad(line, sentence, "", "");
	}
	return OL_PARSE_GO;
}

/* --- configuration files --------------------------------------------------- */

struct reading {
	const struct ol_command_line *line;
	const char *section;
	struct ol_buf *texts;
	char sentence[SENTENCE_MAX]; /* of the first fault */
};

static bool take_flag(const struct ol_option *o, const char *text, char sentence[SENTENCE_MAX])
{
	const bool yes = strcmp(text, "true") == 0;
	if (!yes && strcmp(text, "false") != 0) {
		snprintf(sentence, SENTENCE_MAX, "%s is true or false, not \"%.200s\"", o->name,
			 text);
		return false;
	}
	*(bool *)o->target = yes;
	return true;
}

/* inih's callback: 0 marks a fault. The text outlives it in a buf that never moves. */
static int take_entry(void *context, const char *section, const char *name, const char *text)
{
	struct reading *r = context;
	char sentence[SENTENCE_MAX] = "";
	if (strcmp(section, r->section) != 0)
		return 1;
	const struct ol_option *o = find_long(r->line, name, strlen(name));
	const char *kept = r->texts->data + r->texts->size;
	if (!o || strcmp(name, "config") == 0 || strcmp(name, "check-config") == 0)
		snprintf(sentence, sizeof sentence, "there is no option \"%.100s\"", name);
	else if (r->texts->size + strlen(text) + 1 >= r->texts->room ||
		 !ol_buf_append(r->texts, text, strlen(text) + 1))
		snprintf(sentence, sizeof sentence, "the file is too long");
	else if (o->kind == OL_OPTION_FLAG ? take_flag(o, text, sentence)
					   : take_value(o, kept, sentence)) {
		if (o->given)
			*o->given = true;
		return 1;
	}
	if (r->sentence[0] == '\0')
		memcpy(r->sentence, sentence, sizeof sentence);
	return 0;
}

enum ol_status ol_options_read(const struct ol_command_line *line, const char *path,
			       const char *section, struct ol_buf *texts, struct ol_error *err)
{
	enum { TEXTS_MAX = 64 << 10 };
	static const char zeros[TEXTS_MAX];
	struct reading r = {.line = line, .section = section, .texts = texts};
	ol_buf_init(texts, TEXTS_MAX);
	if (!ol_buf_append(texts, zeros, TEXTS_MAX)) /* so that it never moves */
		return ol_fail(err, OL_ERR_FULL, "out of memory for %s", path);
	ol_buf_clear(texts);
	const int bad_line = ini_parse(path, take_entry, &r);
	if (bad_line == 0)
		return OL_OK;
	if (bad_line < 0)
		return ol_fail(err, OL_ERR_IO, "cannot read %s: %s", path, strerror(errno));
	return ol_fail(err, OL_ERR_INPUT, "%s:%d: %s", path, bad_line,
		       r.sentence[0] ? r.sentence : "this is neither a [section] nor name = value");
}

void ol_options_print(const struct ol_command_line *line, const char *section)
{
	printf("[%s]\n", section);
	for (int i = 0; i < line->option_count; i++) {
		const struct ol_option *o = &line->options[i];
		const struct ol_texts *texts = o->target;
		const char *text;
		if (strcmp(o->name, "config") == 0 || strcmp(o->name, "check-config") == 0)
			continue;
		switch (o->kind) {
		case OL_OPTION_FLAG:
			printf("%s = %s\n", o->name, *(bool *)o->target ? "true" : "false");
			break;
		case OL_OPTION_INT: printf("%s = %d\n", o->name, *(int *)o->target); break;
		case OL_OPTION_U64:
			printf("%s = %llu\n", o->name, (unsigned long long)*(uint64_t *)o->target);
			break;
		case OL_OPTION_FLOAT:
			printf("%s = %.9g\n", o->name, (double)*(float *)o->target);
			break;
		case OL_OPTION_TEXT:
			text = *(const char **)o->target;
			if (text)
				printf("%s = %s\n", o->name, text);
			break;
		case OL_OPTION_TEXTS:
			for (int k = 0; k < texts->count; k++)
				printf("%s = %s\n", o->name, texts->values[k]);
			break;
		}
	}
}

int ol_family_run(const struct ol_family *family, int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *word = family->word;
	for (int i = 0; i < family->count; i++)
		if (strcmp(family->commands[i].name, what) == 0)
			return family->commands[i].run(argc - 1, argv + 1);
	const bool help = strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0;
	if (*what && !help) {
		fprintf(stderr,
			"openledger: there is no command \"%s %s\"; `openledger %s --help` lists "
			"them\n",
			word, what, word);
		return 1;
	}
	FILE *out = help ? stdout : stderr;
	fprintf(out, "Usage: openledger %s COMMAND [options]\n%s\n", word, family->about);
	for (int i = 0; i < family->count; i++)
		fprintf(out, "  %-*s %s\n", family->width, family->commands[i].name,
			family->commands[i].about);
	if (family->footer)
		fputs(family->footer, out);
	return help ? 0 : 1;
}
