#include "cli/commands.h"
#include "node/signer.h"

#include <stdio.h>
#include <stdlib.h>

/* Started by the server, never by hand: `openledger signer FOLDER FD` (node/signer.h). */
int ol_command_signer(int argc, char **argv)
{
	struct ol_error err = {0};
	char *end = NULL;
	const long socket = argc == 3 ? strtol(argv[2], &end, 10) : -1;
	if (argc != 3 || *end != '\0' || socket < 3 || socket > 1023) {
		fprintf(stderr, "openledger: the signer is started by `openledger serve`\n");
		return 1;
	}
	if (ol_signer_serve((int)socket, argv[1], ol_signer_rules, ol_signer_rule_count, &err) !=
	    OL_OK)
		return ol_report(&err);
	return 0;
}
