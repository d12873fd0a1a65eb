/* node/signer_internal.h, floor 4: the messages between server and signer. Each is one packet.
 *
 *     request   kind (1 byte), then
 *               HELLO       nothing
 *               CHECKPOINT  proof hashes (1 byte, n), n times 32 bytes, the checkpoint's text
 *               EVENT       the bytes to sign
 *     answer    status (1 byte, enum ol_status), then
 *               of HELLO    last size (8), last root (32), verifier key as text
 *               else        the signature (64 bytes)
 *               a refusal   a sentence */
#ifndef OL_NODE_SIGNER_INTERNAL_H
#define OL_NODE_SIGNER_INTERNAL_H

#include "node/signer.h"

enum ol_signer_request { OL_SIGNER_HELLO = 1, OL_SIGNER_CHECKPOINT = 2, OL_SIGNER_EVENT = 3 };
enum { OL_SIGNER_ANSWER_MAX = 4096 };

/* The last signed checkpoint on disk: two records 4096 bytes apart, written in turn, so that a torn
 * write spoils only the one whose signature was never given. */
struct ol_signer_record {
	char magic[8]; /* "OLSIGNER" */
	uint64_t sequence;
	uint64_t size;
	uint8_t root[OL_MERKLE_BYTES];
	uint8_t key[OL_ED25519_PUBLIC_BYTES];
	uint8_t check[OL_SHA256_BYTES]; /* SHA-256 of all before */
};
_Static_assert(sizeof(struct ol_signer_record) == 120, "signer state v1");
enum { OL_SIGNER_RECORD_STEP = 4096 };

void ol_signer_record_seal(struct ol_signer_record *record);
bool ol_signer_record_good(const struct ol_signer_record *record);

/* No system call but those that answering needs; no tracing, no core. False, errno: not possible.
 * */
bool ol_signer_confine(void);

#endif
