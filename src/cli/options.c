#include "cli/options.h"

#include <errno.h>
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

static enum ol_parse take_value(const struct ol_command_line *line, const struct ol_option *o,
				const char *text)
{
	struct ol_texts *texts = o->target;
	char range[96] = "";
	switch (o->kind) {
	case OL_OPTION_FLAG: OL_UNREACHABLE();
	case OL_OPTION_TEXT: *(const char **)o->target = text; return OL_PARSE_GO;
	case OL_OPTION_TEXTS:
		if (texts->count == OL_TEXTS_MAX)
			return bad(line, "too many times --", o->name, "");
		texts->values[texts->count++] = text;
		return OL_PARSE_GO;
	case OL_OPTION_INT:
	case OL_OPTION_U64:
	case OL_OPTION_FLOAT:
		if (parse_number(o, text))
			return OL_PARSE_GO;
		if (o->low != 0.0 || o->high != 0.0)
			snprintf(range, sizeof range, " (a number from %g to %g)", o->low, o->high);
		else
			snprintf(range, sizeof range, " (a number)");
		break;
	}
	char refusal[300];
	snprintf(refusal, sizeof refusal, "%s cannot be \"%.200s\"", o->name, text);
	return bad(line, "--", refusal, range);
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
		const enum ol_parse taken = take_value(line, o, value ? value : argv[++i]);
		if (taken != OL_PARSE_GO)
			return taken;
	}
	return OL_PARSE_GO;
}
