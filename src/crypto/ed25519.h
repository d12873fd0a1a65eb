/* crypto/ed25519.h, floor 1: Ed25519 signatures (RFC 8032), by libsodium. */
#ifndef OL_CRYPTO_ED25519_H
#define OL_CRYPTO_ED25519_H

#include "base/base.h"

enum { OL_ED25519_SEED_BYTES = 32, OL_ED25519_PUBLIC_BYTES = 32, OL_ED25519_SIGNATURE_BYTES = 64 };

/* The private key: RFC 8032's 32 secret bytes and the public key behind them. */
struct ol_ed25519_key {
	uint8_t seed[OL_ED25519_SEED_BYTES];
	uint8_t public_key[OL_ED25519_PUBLIC_BYTES];
};

void ol_ed25519_key_from_seed(struct ol_ed25519_key *key,
			      const uint8_t seed[OL_ED25519_SEED_BYTES]);
void ol_ed25519_key_wipe(struct ol_ed25519_key *key);

/* Deterministic: the same message has the same signature. */
void ol_ed25519_sign(uint8_t signature_out[OL_ED25519_SIGNATURE_BYTES],
		     const struct ol_ed25519_key *key, const void *message, size_t size);

/* Refuses a non-canonical s, and points of small order. */
OL_MUST_CHECK bool ol_ed25519_verify(const uint8_t public_key[OL_ED25519_PUBLIC_BYTES],
				     const uint8_t signature[OL_ED25519_SIGNATURE_BYTES],
				     const void *message, size_t size);

#endif
