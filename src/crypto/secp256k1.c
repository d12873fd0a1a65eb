#include "crypto/secp256k1.h"
#include "base/random.h"
#include "crypto/secret.h"

#include <pthread.h>
#include <string.h>
#include <secp256k1.h>
#include <secp256k1_recovery.h>

/* One context for the process: made once, blinded once, only read afterwards. */
static secp256k1_context *shared_context;
static pthread_once_t context_once = PTHREAD_ONCE_INIT;

static void make_context(void)
{
	uint8_t blind[32];
	shared_context =
		secp256k1_context_create(SECP256K1_CONTEXT_SIGN | SECP256K1_CONTEXT_VERIFY);
	OL_ASSERT(shared_context);
	ol_random_system.fill(ol_random_system.self, blind, sizeof blind);
	OL_ASSERT(secp256k1_context_randomize(shared_context, blind) == 1);
	ol_wipe(blind, sizeof blind);
}

static const secp256k1_context *context(void)
{
	OL_ASSERT(pthread_once(&context_once, make_context) == 0);
	return shared_context;
}

static void print_public(uint8_t public_out[OL_SECP256K1_PUBLIC_BYTES],
			 const secp256k1_pubkey *point)
{
	uint8_t bytes[1 + OL_SECP256K1_PUBLIC_BYTES];
	size_t size = sizeof bytes;
	OL_ASSERT(secp256k1_ec_pubkey_serialize(context(), bytes, &size, point,
						SECP256K1_EC_UNCOMPRESSED) == 1);
	memcpy(public_out, bytes + 1, OL_SECP256K1_PUBLIC_BYTES);
}

bool ol_secp256k1_secret_valid(const uint8_t secret[OL_SECP256K1_SECRET_BYTES])
{
	return secp256k1_ec_seckey_verify(context(), secret) == 1;
}

void ol_secp256k1_public(uint8_t public_out[OL_SECP256K1_PUBLIC_BYTES],
			 const uint8_t secret[OL_SECP256K1_SECRET_BYTES])
{
	secp256k1_pubkey point;
	OL_ASSERT(secp256k1_ec_pubkey_create(context(), &point, secret) == 1);
	print_public(public_out, &point);
}

void ol_secp256k1_sign(uint8_t signature_out[OL_SECP256K1_SIGNATURE_BYTES],
		       const uint8_t secret[OL_SECP256K1_SECRET_BYTES],
		       const uint8_t digest[OL_SECP256K1_DIGEST_BYTES])
{
	secp256k1_ecdsa_recoverable_signature signature;
	int which;
	OL_ASSERT(secp256k1_ecdsa_sign_recoverable(context(), &signature, digest, secret, NULL,
						   NULL) == 1);
	OL_ASSERT(secp256k1_ecdsa_recoverable_signature_serialize_compact(context(), signature_out,
									  &which, &signature) == 1);
	/* 2 and 3 stand for an r beyond the order: one digest in 2^127 has one. */
	OL_ASSERT(which == 0 || which == 1);
	signature_out[64] = (uint8_t)(27 + which);
}

/* false unless r and s are in range and s is the lower one. */
static bool parse_low(secp256k1_ecdsa_signature *out, const uint8_t signature[64])
{
	return secp256k1_ecdsa_signature_parse_compact(context(), out, signature) == 1 &&
	       secp256k1_ecdsa_signature_normalize(context(), NULL, out) == 0;
}

bool ol_secp256k1_recover(uint8_t public_out[OL_SECP256K1_PUBLIC_BYTES],
			  const uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES],
			  const uint8_t digest[OL_SECP256K1_DIGEST_BYTES])
{
	const uint8_t v = signature[64];
	const int which = v >= 27 ? v - 27 : v;
	secp256k1_ecdsa_signature low;
	secp256k1_ecdsa_recoverable_signature recoverable;
	secp256k1_pubkey point;
	if (which > 1 || !parse_low(&low, signature) ||
	    secp256k1_ecdsa_recoverable_signature_parse_compact(context(), &recoverable, signature,
								which) != 1 ||
	    secp256k1_ecdsa_recover(context(), &point, &recoverable, digest) != 1)
		return false;
	print_public(public_out, &point);
	return true;
}

bool ol_secp256k1_verify(const uint8_t public_key[OL_SECP256K1_PUBLIC_BYTES],
			 const uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES],
			 const uint8_t digest[OL_SECP256K1_DIGEST_BYTES])
{
	/* Recovering binds v too, which plain verification would leave open. */
	uint8_t recovered[OL_SECP256K1_PUBLIC_BYTES];
	return ol_secp256k1_recover(recovered, signature, digest) &&
	       memcmp(recovered, public_key, sizeof recovered) == 0;
}
