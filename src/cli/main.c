/* openledger: one program, many commands. */
#include "cli/commands.h"
#include "math/kernels.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *about;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"run", "a first look: the same bits on every instruction set of this machine",
	 ol_command_run},
	{"import", "bring in a model: a Hugging Face folder or a GGUF file", ol_command_import},
	{"models", "the models that are here", ol_command_models},
	{"adapters", "the adapters that are here", ol_command_adapters},
	{"import-adapter", "bring in a LoRA adapter: a PEFT folder", ol_command_import_adapter},
	{"reproduce", "train an adapter again, and compare the hash", ol_command_reproduce},
	{"index", "make what an adapter's answers are attributed by", ol_command_index},
	{"attribute", "who shaped an answer", ol_command_attribute},
	{"audit", "train an adapter again without one contributor: what truly changes",
	 ol_command_audit},
	{"fidelity", "measure by retraining how far an adapter's attribution can be trusted",
	 ol_command_fidelity},
	{"export", "hand out an adapter or a model in other programs' formats", ol_command_export},
	{"generate", "continue a text, or answer in chat", ol_command_generate},
	{"train", "an adapter, or a whole model, from your data", ol_command_train},
	{"eval", "how well a model, with or without an adapter, answers your data",
	 ol_command_eval},
	{"score", "how well a model predicts a file, and the hash of every logit",
	 ol_command_score},
	{"tokenize", "a text as the model sees it", ol_command_tokenize},
	{"train-tokenizer", "learn a vocabulary from text, with a chat template",
	 ol_command_train_tokenizer},
	{"serve", "answer over HTTP, as OpenAI's API does: the base and all its adapters",
	 ol_command_serve},
	{"verify", "is a receipt true: everything on it computed again", ol_command_verify},
	{"keys", "API keys: who may use this node, for what, and how much", ol_command_keys},
	{"ledger", "the books: check, rebuild, statements, events", ol_command_ledger},
	{"account", "EVM accounts: make, list, import, export", ol_command_account},
	{"log", "public logs: follow one, check a proof", ol_command_log},
	{"witness", "cosign other people's logs while they only grow", ol_command_witness},
	{"signer", NULL, ol_command_signer}, /* the server starts it */
	{"bench", "how fast this machine is, beside what it could be", ol_command_bench},
};

static void print_usage(FILE *out)
{
	fprintf(out, "OpenLedger: small specialised language models whose every number can be "
		     "recomputed.\n\n"
		     "Usage: openledger COMMAND [options]\n\nCommands:\n");
	for (size_t i = 0; i < OL_ARRAY_LEN(commands); i++)
		if (commands[i].about)
			fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].about);
	fprintf(out, "\n`openledger COMMAND --help` tells more. Models live in $OPENLEDGER_HOME "
		     "(default: the\n"
		     "XDG data folder); OPENLEDGER_THREADS and OPENLEDGER_ISA choose threads and "
		     "instructions.\n");
}

/* Written by cmake/code_version.cmake at every build. */
extern const char ol_built_from[];

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	ol_code_version = ol_built_from;
	if (argc > 0)
		ol_program = argv[0];
	for (size_t i = 0; i < OL_ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (strcmp(name, "train-job") == 0) /* what a server starts; not for people */
		return ol_command_train_job(argc - 1, argv + 1);
	if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
		printf("openledger %s (%s), arithmetic %s\n", OL_VERSION, ol_code_version,
		       OL_ARITHMETIC_VERSION);
		return 0;
	}
	if (*name == '\0' || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
	    strcmp(name, "help") == 0) {
		print_usage(*name ? stdout : stderr);
		return *name ? 0 : 1;
	}
	fprintf(stderr, "openledger: there is no command \"%s\"; `openledger --help` lists them\n",
		name);
	return 1;
}
