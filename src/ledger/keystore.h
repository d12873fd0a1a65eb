/* ledger/keystore.h, floor 2: the accounts of this machine: a folder of key files, one each
 * (ledger/keyfile.h), named as geth names them, so that the folder can be geth's own:
 *
 *     UTC--2026-01-31T12-00-00.000000000Z--cd2a3d9f938e13cd947ec05abc7fe734df8dd826
 *
 * The folder is 0700, the files 0600. */
#ifndef OL_LEDGER_KEYSTORE_H
#define OL_LEDGER_KEYSTORE_H

#include "ledger/keyfile.h"

enum { OL_KEYSTORE_PATH_MAX = 4096, OL_KEYSTORE_ACCOUNTS_MAX = 100000 };

struct ol_keystore {
	char folder[OL_KEYSTORE_PATH_MAX - 300]; /* room for a name behind it */
};

/* Makes the folder when it is missing. */
OL_MUST_CHECK enum ol_status ol_keystore_open(struct ol_keystore *keystore, const char *folder,
					      struct ol_error *err);

/* Keeps a secret under a passphrase. INPUT: the account is here already. time: POSIX seconds, for
 * the file's name. */
OL_MUST_CHECK enum ol_status ol_keystore_add(const struct ol_keystore *keystore,
					     struct ol_address *address,
					     const uint8_t secret[OL_SECP256K1_SECRET_BYTES],
					     const void *passphrase, size_t passphrase_size,
					     const struct ol_keyfile_cost *cost,
					     const struct ol_random *random, uint64_t time,
					     struct ol_error *err);
/* A new secret. */
OL_MUST_CHECK enum ol_status ol_keystore_new(const struct ol_keystore *keystore,
					     struct ol_address *address, const void *passphrase,
					     size_t passphrase_size,
					     const struct ol_keyfile_cost *cost,
					     const struct ol_random *random, uint64_t time,
					     struct ol_error *err);

/* All accounts in the order of their making; freed by the caller with free. */
OL_MUST_CHECK enum ol_status ol_keystore_list(const struct ol_keystore *keystore,
					      struct ol_address **addresses_out, size_t *count_out,
					      struct ol_error *err);
/* Appends the account's key file. NOT_FOUND: it is not here. path_out (may be NULL). */
OL_MUST_CHECK enum ol_status ol_keystore_read(const struct ol_keystore *keystore,
					      struct ol_buf *json,
					      char path_out[OL_KEYSTORE_PATH_MAX],
					      const struct ol_address *address,
					      struct ol_error *err);
/* The caller wipes the secret. */
OL_MUST_CHECK enum ol_status ol_keystore_unlock(const struct ol_keystore *keystore,
						uint8_t secret_out[OL_SECP256K1_SECRET_BYTES],
						const struct ol_address *address,
						const void *passphrase, size_t passphrase_size,
						struct ol_error *err);

#endif
