/* cli/passphrase.h, floor 6: a passphrase from where the user has it: the file of
 * --passphrase-file, else $OPENLEDGER_PASSPHRASE, else asked for on the terminal without showing
 * it. The bytes lie in locked memory; release wipes them. */
#ifndef OL_CLI_PASSPHRASE_H
#define OL_CLI_PASSPHRASE_H

#include "ledger/keyfile.h"

struct ol_passphrase {
	char *bytes; /* OL_PASSPHRASE_MAX + 1 of them */
	size_t size;
};

/* file may be NULL. A final newline of the file is not part of it. twice: asked for again, and both
 * must agree. */
OL_MUST_CHECK enum ol_status ol_passphrase_get(struct ol_passphrase *passphrase, const char *file,
					       const char *prompt, bool twice,
					       struct ol_error *err);
void ol_passphrase_release(struct ol_passphrase *passphrase);

#endif
