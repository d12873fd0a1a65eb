/* crypto/cipher.h, floor 1: what key files are encrypted with: AES-128 in counter mode, scrypt
 * (RFC 7914) and PBKDF2-HMAC-SHA-256 (RFC 8018), by OpenSSL and libsodium. */
#ifndef OL_CRYPTO_CIPHER_H
#define OL_CRYPTO_CIPHER_H

#include "base/base.h"

/* scrypt's own bound on its memory: 128 * n * r bytes. */
#define OL_SCRYPT_MEMORY_MAX (1ULL << 30)

/* Encrypts, or decrypts: it is the same. out may be in. */
OL_MUST_CHECK bool ol_aes128_ctr(uint8_t *out, const uint8_t *in, size_t size,
				 const uint8_t key[16], const uint8_t counter[16]);

/* n: a power of two above 1. false: parameters beyond the limits, or out of memory. */
OL_MUST_CHECK bool ol_scrypt(uint8_t *out, size_t size, const void *password, size_t password_size,
			     const void *salt, size_t salt_size, uint64_t n, uint32_t r,
			     uint32_t p);
OL_MUST_CHECK bool ol_pbkdf2_sha256(uint8_t *out, size_t size, const void *password,
				    size_t password_size, const void *salt, size_t salt_size,
				    uint32_t rounds);

#endif
