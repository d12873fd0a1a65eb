/* crypto/ethereum.h, floor 1: accounts of EVM chains and what their keys sign.
 *
 *     address = the last 20 bytes of Keccak-256(x || y of the public key)
 *
 * Written as 0x and 40 digits, their case being a checksum (EIP-55). Messages for people are signed
 * with a prefix that no transaction can have (EIP-191), structures by the hash of their types and
 * fields under a domain (EIP-712). */
#ifndef OL_CRYPTO_ETHEREUM_H
#define OL_CRYPTO_ETHEREUM_H

#include "crypto/keccak.h"
#include "crypto/secp256k1.h"

enum { OL_ADDRESS_BYTES = 20, OL_ADDRESS_TEXT = 43 }; /* "0x", 40 digits, NUL */

struct ol_address {
	uint8_t bytes[OL_ADDRESS_BYTES];
};

void ol_address_from_public(struct ol_address *address,
			    const uint8_t public_key[OL_SECP256K1_PUBLIC_BYTES]);
void ol_address_from_secret(struct ol_address *address,
			    const uint8_t secret[OL_SECP256K1_SECRET_BYTES]);
/* With the checksum of EIP-55. */
void ol_address_print(char text_out[OL_ADDRESS_TEXT], const struct ol_address *address);
/* Takes digits all in lower case, all in upper case, or with the right checksum; "0x" must be
 * there. Refuses a mixed case that is not the checksum: a digit was mistyped. */
OL_MUST_CHECK enum ol_status ol_address_parse(struct ol_address *address, const char *text,
					      struct ol_error *err);
/* The order of the bytes; 0 when equal. */
int ol_address_compare(const struct ol_address *a, const struct ol_address *b);
bool ol_address_is_zero(const struct ol_address *address);

/* The account whose key signed this digest; false: none could have. */
OL_MUST_CHECK bool ol_address_recover(struct ol_address *address,
				      const uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES],
				      const uint8_t digest[OL_KECCAK_BYTES]);

/* EIP-191, version 0x45 (`personal_sign`):
 * Keccak-256("\x19Ethereum Signed Message:\n" || decimal size || message). */
void ol_eip191_digest(uint8_t digest_out[OL_KECCAK_BYTES], const void *message, size_t size);

/* EIP-712: hashStruct(s) = Keccak-256(typeHash || each field as 32 bytes). A structure is hashed
 * field by field in the order of its type:
 *
 *     struct ol_eip712 s;
 *     ol_eip712_begin(&s, "Mail(address from,string contents)");
 *     ol_eip712_address(&s, &from);
 *     ol_eip712_string(&s, text, length);
 *     ol_eip712_end(&s, hash);
 *
 * A type that contains others carries their definitions behind its own, sorted by name, as the
 * standard says; a field of such a type is its hash: ol_eip712_bytes32. */
struct ol_eip712 {
	struct ol_keccak hash;
};

void ol_eip712_begin(struct ol_eip712 *structure, const char *type);
void ol_eip712_address(struct ol_eip712 *structure, const struct ol_address *address);
void ol_eip712_u64(struct ol_eip712 *structure, uint64_t value); /* any uintN type */
void ol_eip712_bool(struct ol_eip712 *structure, bool value);
void ol_eip712_bytes32(struct ol_eip712 *structure, const uint8_t bytes[32]);
void ol_eip712_string(struct ol_eip712 *structure, const void *text, size_t length); /* or bytes */
void ol_eip712_end(struct ol_eip712 *structure, uint8_t out[OL_KECCAK_BYTES]);

/* EIP712Domain(string name,string version,uint256 chainId[,address verifyingContract]);
 * contract NULL: the shorter type. */
void ol_eip712_domain(uint8_t out[OL_KECCAK_BYTES], const char *name, const char *version,
		      uint64_t chain_id, const struct ol_address *contract);
/* What is signed: Keccak-256(0x19 || 0x01 || domain || structure). */
void ol_eip712_digest(uint8_t digest_out[OL_KECCAK_BYTES], const uint8_t domain[OL_KECCAK_BYTES],
		      const uint8_t structure[OL_KECCAK_BYTES]);

#endif
