/* openledger witness: signs that other people's logs only ever grow. */
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "http/witness_routes.h"
#include "node/home.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_MS = 2000, PORT = 7412 };

/* The keys of the logs; freed by the caller. */
static enum ol_status parse_logs(struct ol_note_key **logs_out, const struct ol_texts *texts,
				 struct ol_error *err)
{
	enum ol_status s = OL_OK;
	struct ol_note_key *logs = calloc((size_t)texts->count + 1, sizeof *logs);
	if (!logs)
		return ol_fail(err, OL_ERR_FULL, "out of memory");
	for (int i = 0; s == OL_OK && i < texts->count; i++)
		s = ol_note_key_parse(&logs[i], texts->values[i], err);
	if (s == OL_OK)
		*logs_out = logs;
	else
		free(logs);
	return s;
}

static enum ol_status serve(struct ol_witness *witness, const char *address, int port,
			    const struct ol_texts *names, struct ol_error *err)
{
	struct ol_http_route routes[OL_WITNESS_ROUTES];
	struct ol_http_server *server = NULL;
	char key[OL_VERIFIER_KEY_TEXT];
	ol_witness_routes(routes, witness);
	const struct ol_http_options options = {.address = address,
						.port = (uint16_t)port,
						.names = names->values,
						.name_count = (size_t)names->count,
						.routes = routes,
						.route_count = OL_WITNESS_ROUTES,
						.guard = ol_witness_guard(),
						.log = OL_HTTP_LOG_INFO};
	const enum ol_status s = ol_http_server_open(&server, &options, err);
	if (s != OL_OK)
		return s;
	ol_note_key_print(key, ol_witness_key(witness));
	printf("witness %s\n%s\n", ol_http_server_url(server), key);
	fflush(stdout);
	ol_interrupt_catch();
	while (!ol_interrupted())
		pause();
	ol_http_server_stop(server, DRAIN_MS);
	ol_http_server_close(server);
	return OL_OK;
}

int ol_command_witness(int argc, char **argv)
{
	const char *name = NULL, *folder = NULL, *address = "127.0.0.1";
	struct ol_texts log_texts = {0}, host_names = {0};
	int port = PORT;
	const struct ol_option options[] = {
		OL_TEXTS("log", 0, log_texts, "KEY",
			 "a log's verifier key: NAME+ID+BASE64; once for each log"),
		OL_TEXT("name", 0, name, "NAME",
			"make a key of this name if there is none: witness.example.com/1"),
		OL_TEXT("folder", 0, folder, "DIR", "where key and memory are (HOME/witness)"),
		OL_TEXT("address", 0, address, "IP", "to listen on (127.0.0.1)"),
		OL_NUMBER(INT, "port", 0, port, "N", 0, 65535, "to listen on (7412; 0: any)"),
		OL_TEXTS("host", 0, host_names, "NAME", "a name clients may call this server by"),
	};
	const struct ol_command_line line = {
		.command = "openledger witness",
		.usage = "--log KEY [options]",
		.about = "Cosigns the checkpoints of other people's logs, as long as each "
			 "continues the one\ncosigned before; refuses a forked or rolled-back "
			 "history (c2sp.org/tlog-witness).",
		.options = options,
		.option_count = OL_ARRAY_LEN(options),
		.examples = "  openledger witness --name witness.example.com/1 --log "
			    "example.com/log+530d903a+AekyeRrm…\n"};
	struct ol_home home;
	struct ol_note_key *logs = NULL;
	struct ol_witness *witness = NULL;
	struct ol_error err = {0};
	char path[OL_PATH_MAX], key_path[OL_PATH_MAX];
	const enum ol_parse parsed = ol_options_parse(&line, argc, argv);
	if (parsed != OL_PARSE_GO)
		return parsed == OL_PARSE_HELP ? 0 : 1;
	enum ol_status s = parse_logs(&logs, &log_texts, &err);
	if (s == OL_OK && !folder)
		s = ol_home_open(&home, &err);
	if (s == OL_OK)
		s = folder ? ol_path_join(path, &err, folder, "", "")
			   : ol_path_join(path, &err, home.path, "/witness", "");
	if (s == OL_OK)
		s = ol_path_join(key_path, &err, path, "/witness.key", "");
	if (s == OL_OK && access(key_path, F_OK) != 0)
		s = name ? ol_witness_create(path, name, &ol_random_system, &err)
			 : ol_fail(&err, OL_ERR_NOT_FOUND,
				   "there is no witness's key in %s yet; --name NAME makes one",
				   path);
	if (s == OL_OK)
		s = ol_witness_open(&witness, path, logs, (uint32_t)log_texts.count,
				    &ol_clock_system, &err);
	if (s == OL_OK && name && strcmp(ol_witness_key(witness)->name, name) != 0)
		s = ol_fail(&err, OL_ERR_INPUT, "the key in %s is named \"%s\"", path,
			    ol_witness_key(witness)->name);
	if (s == OL_OK)
		s = serve(witness, address, port, &host_names, &err);
	ol_witness_close(witness);
	free(logs);
	return s == OL_OK ? 0 : ol_report(&err);
}
