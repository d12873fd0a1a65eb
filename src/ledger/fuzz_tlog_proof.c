/* Any bytes as a tlog-proof: what is taken is printed again as it was, and proves nothing. */
#include <string.h>

#include "crypto/text.h"
#include "ledger/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t extra[OL_TLOG_PROOF_EXTRA_MAX];
	struct ol_tlog_proof proof;
	const uint8_t leaf[OL_MERKLE_BYTES] = {1};
	struct ol_note_key key;
	struct ol_buf again;
	size_t extra_size = 0;
	if (ol_tlog_proof_parse(&proof, (const char *)data, size, NULL) != OL_OK)
		return 0;
	if (proof.extra)
		OL_ASSERT(ol_base64_parse(extra, sizeof extra, &extra_size, proof.extra,
					  proof.extra_length));
	ol_buf_init(&again, OL_TLOG_PROOF_BYTES_MAX);
	OL_ASSERT(ol_tlog_proof_print(&again, proof.extra ? extra : NULL, extra_size, proof.index,
				      &proof.inclusion, proof.note, proof.note_size));
	OL_ASSERT(again.size == size && memcmp(again.data, data, size) == 0);
	ol_buf_release(&again);
	const uint8_t nobody[OL_ED25519_PUBLIC_BYTES] = {9};
	OL_ASSERT(ol_note_key_init(&key, "example.com/fancylog", OL_NOTE_ED25519, nobody, NULL) ==
		  OL_OK);
	const struct ol_log_policy policy = {.log = &key};
	OL_ASSERT(ol_tlog_proof_verify(&proof, leaf, &policy, NULL, NULL) != OL_OK);
	return 0;
}
