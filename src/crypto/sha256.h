/* crypto/sha256.h, floor 1: SHA-256 (FIPS 180-4), by OpenSSL, which uses the processor's own.
 *
 * The only failure is memory at init; after that hashing cannot fail. */
#ifndef OL_CRYPTO_SHA256_H
#define OL_CRYPTO_SHA256_H

#include "base/base.h"

enum { OL_SHA256_BYTES = 32 };

/* A running hash. init .. update* .. final; release instead of final to give up. */
struct ol_sha256 {
	void *context;
};

OL_MUST_CHECK bool ol_sha256_init(struct ol_sha256 *hash); /* false: out of memory */
void ol_sha256_update(struct ol_sha256 *hash, const void *bytes, size_t size);
void ol_sha256_final(struct ol_sha256 *hash, uint8_t out[OL_SHA256_BYTES]); /* releases too */
void ol_sha256_release(struct ol_sha256 *hash);

/* The hash of one string of bytes. */
void ol_sha256(uint8_t out[OL_SHA256_BYTES], const void *bytes, size_t size);

/* Lower-case hexadecimal, NUL-terminated. */
void ol_hex(char *text_out, const uint8_t *bytes, size_t size); /* 2 * size + 1 characters */

#endif
