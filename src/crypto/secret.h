/* crypto/secret.h, floor 1: bytes that nobody else may see: wiped after use, compared in constant
 * time, kept out of swap and core dumps. By libsodium. */
#ifndef OL_CRYPTO_SECRET_H
#define OL_CRYPTO_SECRET_H

#include "base/base.h"

/* Zeroes memory; no compiler takes it away. NULL with size 0 is allowed. */
void ol_wipe(void *bytes, size_t size);

/* Are they equal? The time tells only the size. */
OL_MUST_CHECK bool ol_secret_equal(const void *a, const void *b, size_t size);

/* Memory between guard pages, locked into RAM where the system's limit allows it (the rest works
 * without), left out of core dumps, wiped when freed. A small piece costs four pages: for keys, not
 * for data. NULL when there is no memory. */
OL_MUST_CHECK void *ol_secret_alloc(size_t size);
void ol_secret_free(void *secret); /* NULL is allowed */

#endif
