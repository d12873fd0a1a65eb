#include "crypto/sha256.h"

#include <openssl/evp.h>
#include <pthread.h>

/* Looked up once: OpenSSL 3 would search its providers again at every hash, which costs more than
 * hashing two nodes of a tree. */
static EVP_MD *shared_method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static void fetch_method(void)
{
	shared_method = EVP_MD_fetch(NULL, "SHA256", NULL);
	OL_ASSERT(shared_method);
}

static const EVP_MD *method(void)
{
	OL_ASSERT(pthread_once(&method_once, fetch_method) == 0);
	return shared_method;
}

bool ol_sha256_init(struct ol_sha256 *hash)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	if (context && EVP_DigestInit_ex(context, method(), NULL) != 1) {
		EVP_MD_CTX_free(context);
		context = NULL;
	}
	hash->context = context;
	return context != NULL;
}

void ol_sha256_update(struct ol_sha256 *hash, const void *bytes, size_t size)
{
	if (size > 0)
		OL_ASSERT(EVP_DigestUpdate(hash->context, bytes, size) == 1);
}

void ol_sha256_final(struct ol_sha256 *hash, uint8_t out[OL_SHA256_BYTES])
{
	OL_ASSERT(EVP_DigestFinal_ex(hash->context, out, NULL) == 1);
	ol_sha256_release(hash);
}

void ol_sha256_release(struct ol_sha256 *hash)
{
	EVP_MD_CTX_free(hash->context);
	hash->context = NULL;
}

void ol_sha256(uint8_t out[OL_SHA256_BYTES], const void *bytes, size_t size)
{
	static const uint8_t nothing;
	OL_ASSERT(EVP_Digest(size ? bytes : &nothing, size, out, NULL, method(), NULL) == 1);
}

void ol_hex(char *text_out, const uint8_t *bytes, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < size; i++) {
		text_out[2 * i] = digits[bytes[i] >> 4];
		text_out[2 * i + 1] = digits[bytes[i] & 15];
	}
	text_out[2 * size] = '\0';
}
