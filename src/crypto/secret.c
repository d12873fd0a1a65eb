#include "crypto/secret.h"

#include <sodium.h>

void ol_wipe(void *bytes, size_t size)
{
	if (size > 0)
		sodium_memzero(bytes, size);
}

bool ol_secret_equal(const void *a, const void *b, size_t size)
{
	return size == 0 || sodium_memcmp(a, b, size) == 0;
}

void *ol_secret_alloc(size_t size)
{
	if (sodium_init() < 0)
		return NULL;
	void *secret = sodium_malloc(size);
	if (secret)
		sodium_memzero(secret, size);
	return secret;
}

void ol_secret_free(void *secret)
{
	sodium_free(secret);
}
