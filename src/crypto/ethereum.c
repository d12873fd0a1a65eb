#include "crypto/ethereum.h"
#include "crypto/sha256.h"
#include "crypto/text.h"

#include <stdio.h>
#include <string.h>

void ol_address_from_public(struct ol_address *address,
			    const uint8_t public_key[OL_SECP256K1_PUBLIC_BYTES])
{
	uint8_t hash[OL_KECCAK_BYTES];
	ol_keccak256(hash, public_key, OL_SECP256K1_PUBLIC_BYTES);
	memcpy(address->bytes, hash + sizeof hash - OL_ADDRESS_BYTES, OL_ADDRESS_BYTES);
}

void ol_address_from_secret(struct ol_address *address,
			    const uint8_t secret[OL_SECP256K1_SECRET_BYTES])
{
	uint8_t public_key[OL_SECP256K1_PUBLIC_BYTES];
	ol_secp256k1_public(public_key, secret);
	ol_address_from_public(address, public_key);
}

void ol_address_print(char text_out[OL_ADDRESS_TEXT], const struct ol_address *address)
{
	uint8_t hash[OL_KECCAK_BYTES];
	char *digits = text_out + 2;
	memcpy(text_out, "0x", 2);
	ol_hex(digits, address->bytes, OL_ADDRESS_BYTES);
	ol_keccak256(hash, digits, 2 * OL_ADDRESS_BYTES);
	for (size_t i = 0; i < 2 * OL_ADDRESS_BYTES; i++)
		if ((hash[i / 2] >> (i % 2 ? 0 : 4) & 8) && digits[i] >= 'a')
			digits[i] = (char)(digits[i] - 'a' + 'A');
}

enum ol_status ol_address_parse(struct ol_address *address, const char *text, struct ol_error *err)
{
	const size_t length = strlen(text);
	char right[OL_ADDRESS_TEXT];
	bool lower = false, upper = false;
	if (length != OL_ADDRESS_TEXT - 1 || text[0] != '0' || text[1] != 'x' ||
	    !ol_hex_parse(address->bytes, OL_ADDRESS_BYTES, text + 2, length - 2))
		return ol_fail(
			err, OL_ERR_INPUT,
			"\"%.60s\" is not an account: it must be 0x and 40 hexadecimal digits",
			text);
	for (const char *c = text + 2; *c; c++) {
		lower = lower || (*c >= 'a' && *c <= 'f');
		upper = upper || (*c >= 'A' && *c <= 'F');
	}
	ol_address_print(right, address);
	if (lower && upper && strcmp(text, right) != 0)
		return ol_fail(
			err, OL_ERR_INPUT,
			"the checksum of the account %s is wrong: a digit was mistyped (copy "
			"it again; capitals matter)",
			text);
	return OL_OK;
}

int ol_address_compare(const struct ol_address *a, const struct ol_address *b)
{
	return memcmp(a->bytes, b->bytes, OL_ADDRESS_BYTES);
}

bool ol_address_is_zero(const struct ol_address *address)
{
	static const struct ol_address zero;
	return ol_address_compare(address, &zero) == 0;
}

bool ol_address_recover(struct ol_address *address,
			const uint8_t signature[OL_SECP256K1_SIGNATURE_BYTES],
			const uint8_t digest[OL_KECCAK_BYTES])
{
	uint8_t public_key[OL_SECP256K1_PUBLIC_BYTES];
	if (!ol_secp256k1_recover(public_key, signature, digest))
		return false;
	ol_address_from_public(address, public_key);
	return true;
}

void ol_eip191_digest(uint8_t digest_out[OL_KECCAK_BYTES], const void *message, size_t size)
{
	struct ol_keccak hash;
	char prefix[64];
	const int length = snprintf(prefix, sizeof prefix,
				    "\x19"
				    "Ethereum Signed Message:\n%zu",
				    size);
	ol_keccak_init(&hash);
	ol_keccak_update(&hash, prefix, (size_t)length);
	ol_keccak_update(&hash, message, size);
	ol_keccak_final(&hash, digest_out);
}

void ol_eip712_begin(struct ol_eip712 *structure, const char *type)
{
	ol_keccak_init(&structure->hash);
	ol_eip712_string(structure, type, strlen(type)); /* its typeHash is hashed alike */
}

void ol_eip712_bytes32(struct ol_eip712 *structure, const uint8_t bytes[32])
{
	ol_keccak_update(&structure->hash, bytes, 32);
}

void ol_eip712_address(struct ol_eip712 *structure, const struct ol_address *address)
{
	uint8_t word[32] = {0};
	memcpy(word + 32 - OL_ADDRESS_BYTES, address->bytes, OL_ADDRESS_BYTES);
	ol_eip712_bytes32(structure, word);
}

void ol_eip712_u64(struct ol_eip712 *structure, uint64_t value)
{
	uint8_t word[32] = {0};
	for (int i = 0; i < 8; i++)
		word[31 - i] = (uint8_t)(value >> 8 * i);
	ol_eip712_bytes32(structure, word);
}

void ol_eip712_bool(struct ol_eip712 *structure, bool value)
{
	ol_eip712_u64(structure, value);
}

void ol_eip712_string(struct ol_eip712 *structure, const void *text, size_t length)
{
	uint8_t word[OL_KECCAK_BYTES];
	ol_keccak256(word, text, length);
	ol_eip712_bytes32(structure, word);
}

void ol_eip712_end(struct ol_eip712 *structure, uint8_t out[OL_KECCAK_BYTES])
{
	ol_keccak_final(&structure->hash, out);
}

void ol_eip712_domain(uint8_t out[OL_KECCAK_BYTES], const char *name, const char *version,
		      uint64_t chain_id, const struct ol_address *contract)
{
	struct ol_eip712 domain;
	ol_eip712_begin(&domain,
			contract ? "EIP712Domain(string name,string version,uint256 chainId,"
				   "address verifyingContract)"
				 : "EIP712Domain(string name,string version,uint256 chainId)");
	ol_eip712_string(&domain, name, strlen(name));
	ol_eip712_string(&domain, version, strlen(version));
	ol_eip712_u64(&domain, chain_id);
	if (contract)
		ol_eip712_address(&domain, contract);
	ol_eip712_end(&domain, out);
}

void ol_eip712_digest(uint8_t digest_out[OL_KECCAK_BYTES], const uint8_t domain[OL_KECCAK_BYTES],
		      const uint8_t structure[OL_KECCAK_BYTES])
{
	static const uint8_t prefix[2] = {0x19, 0x01};
	struct ol_keccak hash;
	ol_keccak_init(&hash);
	ol_keccak_update(&hash, prefix, sizeof prefix);
	ol_keccak_update(&hash, domain, OL_KECCAK_BYTES);
	ol_keccak_update(&hash, structure, OL_KECCAK_BYTES);
	ol_keccak_final(&hash, digest_out);
}
