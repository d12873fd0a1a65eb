#include "ledger/key_event.h"
#include "ledger/receipt.h"
#include "node/signer.h"

#include <string.h>

/* A receipt of this node: everything that its bytes alone can tell is right (ledger/receipt.h), the
 * split of the price included. Its own signature is what is missing. */
static bool receipt_well_formed(const uint8_t *bytes, size_t size, const char *origin,
				const uint8_t key[OL_ED25519_PUBLIC_BYTES], const char **why)
{
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	uint8_t whole[OL_RECEIPT_MAX] = {0};
	(void)origin;
	if (size > sizeof whole - OL_SIGNATURE_BYTES) {
		*why = ol_receipt_fault_text(OL_RECEIPT_SIZE);
		return false;
	}
	memcpy(whole, bytes, size);
	const enum ol_receipt_fault fault =
		ol_receipt_read(&receipt, parts, whole, size + OL_SIGNATURE_BYTES);
	if (fault != OL_RECEIPT_WELL) {
		*why = ol_receipt_fault_text(fault);
		return false;
	}
	*why = "it is of another node";
	return memcmp(receipt.node, key, sizeof receipt.node) == 0;
}

static bool key_event_well_formed(const uint8_t *bytes, size_t size, const char *origin,
				  const uint8_t key[OL_ED25519_PUBLIC_BYTES], const char **why)
{
	const enum ol_key_event_fault fault = ol_key_event_check_unsigned(bytes, size, origin, key);
	*why = ol_key_event_fault_text(fault);
	return fault == OL_KEY_EVENT_WELL;
}

const struct ol_signer_rule ol_signer_rules[] = {
	{OL_EVENT_RECEIPT, receipt_well_formed},
	{OL_EVENT_KEY, key_event_well_formed},
};
const uint32_t ol_signer_rule_count = OL_ARRAY_LEN(ol_signer_rules);
