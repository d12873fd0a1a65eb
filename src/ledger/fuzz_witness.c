/* Any bytes as an add-checkpoint request to a witness that knows one log: nothing is cosigned, and
 * every refusal has its words. */
#include "ledger/test_log.h"
#include "ledger/witness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ol_witness *make(void)
{
	char folder[] = "/tmp/openledger-fuzz-XXXXXX";
	const uint8_t nobody[OL_ED25519_PUBLIC_BYTES] = {9};
	struct ol_witness *witness = NULL;
	struct ol_note_key log;
	OL_ASSERT(mkdtemp(folder));
	OL_ASSERT(ol_witness_create(folder, "w", &ol_random_system, NULL) == OL_OK);
	OL_ASSERT(ol_note_key_init(&log, "example.com/log", OL_NOTE_ED25519, nobody, NULL) ==
		  OL_OK);
	OL_ASSERT(ol_witness_open(&witness, folder, &log, 1, &ol_clock_system, NULL) == OL_OK);
	test_log_remove(folder); /* nothing will be remembered */
	return witness;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ol_witness *witness;
	struct ol_buf reply;
	if (!witness)
		witness = make();
	ol_buf_init(&reply, OL_NOTE_BYTES_MAX);
	const enum ol_witness_answer answer =
		ol_witness_add(witness, &reply, size ? (const char *)data : "", size);
	OL_ASSERT(answer == OL_WITNESS_MALFORMED || answer == OL_WITNESS_UNKNOWN_LOG ||
		  answer == OL_WITNESS_UNSIGNED);
	OL_ASSERT(reply.size > 1 && reply.data[reply.size - 1] == '\n');
	ol_buf_release(&reply);
	return 0;
}
