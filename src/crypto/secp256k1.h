/* crypto/secp256k1.h, floor 1: ECDSA over secp256k1, as accounts of EVM chains sign, by
 * libsecp256k1.
 *
 * A signature is 65 bytes, r || s || v, v = 27 or 28 (which of two points r came from): what
 * wallets hand out and Solidity's ecrecover takes. s is always the lower of the two (EIP-2), and a
 * signature with the higher one is refused, so that nobody can make a second one from the first.
 * Nonces are RFC 6979's: the same digest has the same signature. */
#ifndef OL_CRYPTO_SECP256K1_H
#define OL_CRYPTO_SECP256K1_H

#include "base/base.h"

enum {
	OL_SECP256K1_SECRET_BYTES = 32,
	OL_SECP256K1_PUBLIC_BYTES = 64, /* x || y, without the 0x04 in front */
	OL_SECP256K1_SIGNATURE_BYTES = 65,
	OL_SECP256K1_DIGEST_BYTES = 32
};

/* Is it a private key: neither zero nor beyond the order of the group? */
OL_MUST_CHECK bool ol_secp256k1_secret_valid(const uint8_t secret[OL_SECP256K1_SECRET_BYTES]);

/* The secret must be valid. */
void ol_secp256k1_public(uint8_t public_out[OL_SECP256K1_PUBLIC_BYTES],
			 const uint8_t secret[OL_SECP256K1_SECRET_BYTES]);
void ol_secp256k1_sign(uint8_t signature_out[OL_SECP256K1_SIGNATURE_BYTES],
		       const uint8_t secret[OL_SECP256K1_SECRET_BYTES],
		       const uint8_t digest[OL_SECP256K1_DIGEST_BYTES]);

/* false: not a signature of this key over this digest, or one with a high s. */
OL_MUST_CHECK bool ol_secp256k1_verify(const uint8_t public_key[OL_SECP256K1_PUBLIC_BYTES],
				       const uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES],
				       const uint8_t digest[OL_SECP256K1_DIGEST_BYTES]);

/* The key that made the signature. Takes v of 27, 28, 0 or 1 (wallets differ). false: no key could
 * have made it, or its s is high. */
OL_MUST_CHECK bool ol_secp256k1_recover(uint8_t public_out[OL_SECP256K1_PUBLIC_BYTES],
					const uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES],
					const uint8_t digest[OL_SECP256K1_DIGEST_BYTES]);

#endif
