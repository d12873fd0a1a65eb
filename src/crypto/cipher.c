#include "crypto/cipher.h"

#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>

bool ol_aes128_ctr(uint8_t *out, const uint8_t *in, size_t size, const uint8_t key[16],
		   const uint8_t counter[16])
{
	int done = 0;
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	const bool good = context && size <= INT_MAX &&
			  EVP_EncryptInit_ex(context, EVP_aes_128_ctr(), NULL, key, counter) == 1 &&
			  EVP_EncryptUpdate(context, out, &done, in, (int)size) == 1 &&
			  (size_t)done == size;
	EVP_CIPHER_CTX_free(context); /* wipes the key schedule */
	return good;
}

bool ol_scrypt(uint8_t *out, size_t size, const void *password, size_t password_size,
	       const void *salt, size_t salt_size, uint64_t n, uint32_t r, uint32_t p)
{
	if (n < 2 || (n & (n - 1)) != 0 || r == 0 || p == 0 || r > 1024 || p > 1024 ||
	    n > OL_SCRYPT_MEMORY_MAX / 128 / r)
		return false;
	/* Not OpenSSL's: that refuses n >= 2^(16 r), which the definition of key files uses itself.
	 * */
	return crypto_pwhash_scryptsalsa208sha256_ll(password, password_size, salt, salt_size, n, r,
						     p, out, size) == 0;
}

bool ol_pbkdf2_sha256(uint8_t *out, size_t size, const void *password, size_t password_size,
		      const void *salt, size_t salt_size, uint32_t rounds)
{
	if (password_size > INT_MAX || salt_size > INT_MAX || size > INT_MAX || rounds == 0 ||
	    rounds > INT_MAX)
		return false;
	return PKCS5_PBKDF2_HMAC(password, (int)password_size, salt, (int)salt_size, (int)rounds,
				 EVP_sha256(), (int)size, out) == 1;
}
