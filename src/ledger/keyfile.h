/* ledger/keyfile.h, floor 2: an account's private key, encrypted with a passphrase: Web3 Secret
 * Storage, version 3, the JSON that geth, MetaMask and others write and read.
 *
 *     derived key (32) = scrypt(passphrase, salt, n, r, p)      or PBKDF2-HMAC-SHA-256 when reading
 *     ciphertext       = AES-128-CTR(first half, iv) of the key
 *     mac              = Keccak-256(second half || ciphertext)  tells a wrong passphrase
 */
#ifndef OL_LEDGER_KEYFILE_H
#define OL_LEDGER_KEYFILE_H

#include "base/buf.h"
#include "base/random.h"
#include "crypto/ethereum.h"

enum { OL_KEYFILE_BYTES_MAX = 16 * 1024, OL_PASSPHRASE_MAX = 1024 };

/* What guessing a passphrase costs. Standard takes 256 MB and about a second. */
struct ol_keyfile_cost {
	uint64_t n;
	uint32_t r, p;
};
extern const struct ol_keyfile_cost ol_keyfile_standard, ol_keyfile_light;

/* Appends the JSON of a valid secret. */
OL_MUST_CHECK enum ol_status ol_keyfile_seal(struct ol_buf *json,
					     const uint8_t secret[OL_SECP256K1_SECRET_BYTES],
					     const void *passphrase, size_t passphrase_size,
					     const struct ol_keyfile_cost *cost,
					     const struct ol_random *random, struct ol_error *err);

/* The caller wipes the secret. INPUT: not a key file, a wrong passphrase, or a key that is not the
 * one of the address it names. UNSUPPORTED: another version, cipher or derivation. */
OL_MUST_CHECK enum ol_status ol_keyfile_open(uint8_t secret_out[OL_SECP256K1_SECRET_BYTES],
					     const char *json, size_t size, const void *passphrase,
					     size_t passphrase_size, struct ol_error *err);

/* The account it says it is of, without opening it. NOT_FOUND: it says nothing. */
OL_MUST_CHECK enum ol_status ol_keyfile_address(struct ol_address *address, const char *json,
						size_t size, struct ol_error *err);

#endif
