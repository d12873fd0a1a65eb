/* cli/options.h, floor 6: command lines from one table per command: what is parsed is what --help
 * prints. */
#ifndef OL_CLI_OPTIONS_H
#define OL_CLI_OPTIONS_H

#include "base/base.h"
#include "base/buf.h"

enum ol_option_kind {
	OL_OPTION_FLAG,  /* bool            */
	OL_OPTION_INT,   /* int             */
	OL_OPTION_U64,   /* uint64_t        */
	OL_OPTION_FLOAT, /* float           */
	OL_OPTION_TEXT,  /* const char *    */
	OL_OPTION_TEXTS  /* struct ol_texts */
};

enum { OL_TEXTS_MAX = 64 };
struct ol_texts {
	const char *values[OL_TEXTS_MAX];
	int count;
};

struct ol_option {
	const char *name; /* without dashes */
	char letter;      /* 0: none        */
	enum ol_option_kind kind;
	void *target;      /* holds the default; the parser overwrites it */
	const char *value; /* what the help calls the value: "N", "TEXT" */
	const char *help;
	double low, high; /* inclusive range of numbers; both 0: not checked */
	bool *given;      /* set when the option was on the line; may be NULL */
};

/* The rows of such a table. */
#define OL_FLAG(name, letter, target, help)                                                        \
	{                                                                                          \
		name, letter, OL_OPTION_FLAG, &(target), NULL, help, 0, 0, NULL                    \
	}
#define OL_TEXT(name, letter, target, value, help)                                                 \
	{                                                                                          \
		name, letter, OL_OPTION_TEXT, &(target), value, help, 0, 0, NULL                   \
	}
#define OL_TEXTS(name, letter, target, value, help)                                                \
	{                                                                                          \
		name, letter, OL_OPTION_TEXTS, &(target), value, help, 0, 0, NULL                  \
	}
#define OL_U64(name, letter, target, value, help, given)                                           \
	{                                                                                          \
		name, letter, OL_OPTION_U64, &(target), value, help, 0, 0, given                   \
	}
/* kind: INT or FLOAT; low to high is the range it must lie in. */
#define OL_NUMBER(kind, name, letter, target, value, low, high, help)                              \
	{                                                                                          \
		name, letter, OL_OPTION_##kind, &(target), value, help, low, high, NULL            \
	}

struct ol_command_line {
	const char *command; /* "openledger generate"                    */
	const char *usage;   /* "-m NAME -p TEXT [options]"              */
	const char *about;   /* a sentence or two                        */
	const struct ol_option *options;
	int option_count;
	struct ol_texts *operands; /* what is not an option; NULL: none allowed */
	const char *examples;      /* may be NULL */
};

enum ol_parse { OL_PARSE_GO, OL_PARSE_HELP, OL_PARSE_BAD };

/* argv[0] is the command itself. Prints help to stdout (HELP) or one sentence to stderr (BAD). */
OL_MUST_CHECK enum ol_parse ol_options_parse(const struct ol_command_line *line, int argc,
					     char **argv);

/* A configuration file in INI form: `name = value` as the long options have them, under [section];
 * flags are true or false. Other sections are other programs' business. Errors name file and line.
 * The values point into *texts, which the caller frees when the options are not used any more. */
OL_MUST_CHECK enum ol_status ol_options_read(const struct ol_command_line *line, const char *path,
					     const char *section, struct ol_buf *texts,
					     struct ol_error *err);
/* What the options are now, in the same form, on stdout. */
void ol_options_print(const struct ol_command_line *line, const char *section);

/* Commands that share a first word: `openledger WORD COMMAND …`. */
struct ol_subcommand {
	const char *name, *about;
	int (*run)(int argc, char **argv);
};
struct ol_family {
	const char *word;
	const char *about, *footer; /* lines with their ends; footer may be NULL */
	const struct ol_subcommand *commands;
	int count;
	int width; /* of the names in the list */
};
/* Runs the command that argv[1] names; prints the list for --help, and to stderr for none. */
int ol_family_run(const struct ol_family *family, int argc, char **argv);

#endif
