/* cli/commands.h, floor 6: one function per command of `openledger`. Each returns the exit status:
 * 0 done, 1 refused with a sentence on stderr, 130 stopped by Ctrl-C. */
#ifndef OL_CLI_COMMANDS_H
#define OL_CLI_COMMANDS_H

#include "base/base.h"

#include <jansson.h>

int ol_command_import(int argc, char **argv);
int ol_command_models(int argc, char **argv);
int ol_command_generate(int argc, char **argv);
int ol_command_tokenize(int argc, char **argv);
int ol_command_score(int argc, char **argv);
int ol_command_bench(int argc, char **argv);
int ol_command_train_tokenizer(int argc, char **argv);
int ol_command_run(int argc, char **argv);
int ol_command_adapters(int argc, char **argv);
int ol_command_import_adapter(int argc, char **argv);
int ol_command_export(int argc, char **argv);
int ol_command_train(int argc, char **argv);
int ol_command_eval(int argc, char **argv);
int ol_command_reproduce(int argc, char **argv);
int ol_command_signer(int argc, char **argv);
int ol_command_ledger(int argc, char **argv);
int ol_command_account(int argc, char **argv);
int ol_command_witness(int argc, char **argv);
int ol_command_log(int argc, char **argv);
int ol_command_keys(int argc, char **argv);
int ol_command_verify(int argc, char **argv);
int ol_command_serve(int argc, char **argv);
int ol_command_train_job(int argc, char **argv); /* not listed: for the server */
int ol_command_index(int argc, char **argv);
int ol_command_attribute(int argc, char **argv);
int ol_command_audit(int argc, char **argv);
int ol_command_fidelity(int argc, char **argv);

/* Which code this program was built from: `git describe`, or the version. */
extern const char *ol_code_version;
/* How this program was called: what a person can type again. */
extern const char *ol_program;

/* Prints "openledger: sentence" and gives the exit status for it. */
int ol_report(const struct ol_error *err);
/* One line of JSON on stdout; takes the reference. */
int ol_print_json(json_t *object);
/* Adds "adapter_sha256" where there is an adapter. */
struct ol_adapter;
void ol_json_adapter(json_t *object, const struct ol_adapter *adapter);
/* For ol_adapter_index_request.progress (context: a bool, whether a terminal looks on), and its
 * result in words. */
bool ol_show_index_progress(void *context, const char *what, uint32_t done, uint32_t total);
struct ol_index_result;
void ol_print_index(const struct ol_index_result *result);
/* True after Ctrl-C; ol_interrupt_catch makes Ctrl-C set it (a second one kills). */
void ol_interrupt_catch(void);
bool ol_interrupted(void);
/* "1.5 GB", "430 MB" */
void ol_format_bytes(char text[32], uint64_t bytes);

#endif
