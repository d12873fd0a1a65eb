/* Bytes that say they are a receipt or a listing. The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include "ledger/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_receipt(const uint8_t *bytes, size_t size)
{
	struct ol_receipt receipt;
	struct ol_receipt_part parts[OL_PARTIES];
	struct ol_buf again;
	uint64_t sum = 0;

	if (ol_receipt_read(&receipt, parts, bytes, size) != OL_RECEIPT_WELL)
		return;
	ol_buf_init(&again, OL_RECEIPT_MAX);
	ol_receipt_write(&again, &receipt, parts);
	OL_ASSERT(again.size + OL_SIGNATURE_BYTES == size);
	OL_ASSERT(memcmp(again.data, bytes, again.size) == 0);
	for (uint32_t i = 0; i < receipt.parts; i++)
		sum += parts[i].amount.nano;
	OL_ASSERT(sum == receipt.price.nano);
	ol_buf_release(&again);
}

static void fuzz_listing(const uint8_t *bytes, size_t size)
{
	struct ol_listing listing;
	struct ol_receipt receipt = {0};
	struct ol_receipt_part parts[OL_PARTIES];

	if (ol_listing_read(&listing, bytes, size) != OL_LISTING_WELL)
		return;
	if (!ol_price(&receipt.price, &listing, 100, 1000))
		return;
	ol_receipt_parts(&receipt, parts, &listing, false);
	ol_receipt_split(&receipt, parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	uint8_t *bytes = malloc(size > 1 ? size - 1 : 1); /* exact, aligned */
	OL_ASSERT(bytes);
	memcpy(bytes, data + 1, size - 1);
	switch (data[0] % 2) {
	case 0: fuzz_receipt(bytes, size - 1); break;
	case 1: fuzz_listing(bytes, size - 1); break;
	}
	free(bytes);
	return 0;
}
