#include "crypto/ed25519.h"
#include "crypto/secret.h"

#include <string.h>
#include <sodium.h>

_Static_assert(sizeof(struct ol_ed25519_key) == crypto_sign_SECRETKEYBYTES,
	       "libsodium's secret key is seed || public key");

void ol_ed25519_key_from_seed(struct ol_ed25519_key *key, const uint8_t seed[OL_ED25519_SEED_BYTES])
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES], public_key[OL_ED25519_PUBLIC_BYTES];
	OL_ASSERT(sodium_init() >= 0);
	OL_ASSERT(crypto_sign_seed_keypair(public_key, secret, seed) == 0);
	memcpy(key, secret, sizeof *key);
	ol_wipe(secret, sizeof secret);
}

void ol_ed25519_key_wipe(struct ol_ed25519_key *key)
{
	ol_wipe(key, sizeof *key);
}

void ol_ed25519_sign(uint8_t signature_out[OL_ED25519_SIGNATURE_BYTES],
		     const struct ol_ed25519_key *key, const void *message, size_t size)
{
	OL_ASSERT(crypto_sign_detached(signature_out, NULL, message, size, (const uint8_t *)key) ==
		  0);
}

bool ol_ed25519_verify(const uint8_t public_key[OL_ED25519_PUBLIC_BYTES],
		       const uint8_t signature[OL_ED25519_SIGNATURE_BYTES], const void *message,
		       size_t size)
{
	return crypto_sign_verify_detached(signature, message, size, public_key) == 0;
}
