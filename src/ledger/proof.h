/* ledger/proof.h, floor 2: proofs about a log's tree (RFC 6962, section 2.1; verified as RFC 9162,
 * sections 2.1.3.2 and 2.1.4.2, says), and the file that carries one to somebody offline.
 *
 * An inclusion proof is the hashes beside the path from a leaf to the root; a consistency proof
 * shows that the tree of m leaves is the beginning of the tree of n:
 *
 *            root of 7             inclusion of leaf 2 in 7:  [d3, ab, efg]
 *           /         \            consistency of 3 and 7:    [c2, d3, ab, efg]
 *       abcd           efg
 *      /    \         /   \
 *    ab     cd      ef     g6
 *   / \     / \     / \
 *  a0 b1  c2  d3  e4  f5
 *
 * Verifying needs the proof and two hashes, nothing else. */
#ifndef OL_LEDGER_PROOF_H
#define OL_LEDGER_PROOF_H

#include "ledger/checkpoint.h"

enum { OL_PROOF_HASHES_MAX = 64 };

struct ol_proof {
	uint32_t count;
	uint8_t hashes[OL_PROOF_HASHES_MAX][OL_MERKLE_BYTES];
};

OL_MUST_CHECK bool ol_inclusion_verify(const struct ol_proof *proof,
				       const uint8_t leaf[OL_MERKLE_BYTES], uint64_t index,
				       uint64_t size, const uint8_t root[OL_MERKLE_BYTES]);
/* Is the tree of old_size leaves the beginning of that of new_size? Equal sizes need equal roots;
 * the empty tree is the beginning of every tree; neither case has a hash in its proof. */
OL_MUST_CHECK bool ol_consistency_verify(const struct ol_proof *proof, uint64_t old_size,
					 const uint8_t old_root[OL_MERKLE_BYTES], uint64_t new_size,
					 const uint8_t new_root[OL_MERKLE_BYTES]);

/* A tree whose hashes can be looked up: node() gives the root of the full subtree over leaves
 * [index << level, (index + 1) << level), all of which exist. */
struct ol_tree {
	enum ol_status (*node)(void *self, uint8_t out[OL_MERKLE_BYTES], int level, uint64_t index,
			       struct ol_error *err);
	void *self;
};

OL_MUST_CHECK enum ol_status ol_tree_root(const struct ol_tree *tree, uint8_t out[OL_MERKLE_BYTES],
					  uint64_t size, struct ol_error *err);
/* index < size. */
OL_MUST_CHECK enum ol_status ol_inclusion_prove(const struct ol_tree *tree, struct ol_proof *proof,
						uint64_t index, uint64_t size,
						struct ol_error *err);
/* old_size <= new_size. */
OL_MUST_CHECK enum ol_status ol_consistency_prove(const struct ol_tree *tree,
						  struct ol_proof *proof, uint64_t old_size,
						  uint64_t new_size, struct ol_error *err);

/* c2sp.org/tlog-proof: text that proves offline that an entry is in a log.
 *
 *     c2sp.org/tlog-proof@v1
 *     extra BASE64             (may be absent; proves nothing by itself)
 *     index 73894
 *     gSKyXoYZUgZ6jduWYrkD…    one hash per line, from the leaf's sibling upwards
 *
 *     the checkpoint, with the signatures of the log and of witnesses */
enum { OL_TLOG_PROOF_EXTRA_MAX = 256 * 1024, OL_TLOG_PROOF_BYTES_MAX = 1024 * 1024 };

struct ol_tlog_proof {
	const char *extra; /* its base64, inside the text; NULL: none */
	size_t extra_length;
	uint64_t index;
	struct ol_proof inclusion;
	const char *note; /* the signed checkpoint, inside the text */
	size_t note_size;
};

/* The proof borrows text. */
OL_MUST_CHECK enum ol_status ol_tlog_proof_parse(struct ol_tlog_proof *proof, const char *text,
						 size_t size, struct ol_error *err);
/* extra NULL with size 0: no such line. */
bool ol_tlog_proof_print(struct ol_buf *out, const void *extra, size_t extra_size, uint64_t index,
			 const struct ol_proof *inclusion, const char *note, size_t note_size);

/* What a verifier trusts. */
struct ol_log_policy {
	const struct ol_note_key *log;
	const struct ol_note_key *witnesses;
	uint32_t witness_count;
	uint32_t quorum; /* so many of them must have cosigned; 0: the log's word is enough */
};

struct ol_tlog_proof_result {
	struct ol_log_checkpoint checkpoint;
	uint32_t cosigned;        /* witnesses of the policy that did           */
	uint64_t latest_cosigned; /* the youngest of their times, POSIX seconds */
};

/* Is this leaf in the log, by the policy? INPUT, with the reason in words, if not. result may be
 * NULL. */
OL_MUST_CHECK enum ol_status ol_tlog_proof_verify(const struct ol_tlog_proof *proof,
						  const uint8_t leaf[OL_MERKLE_BYTES],
						  const struct ol_log_policy *policy,
						  struct ol_tlog_proof_result *result,
						  struct ol_error *err);
/* The part of it that needs only the checkpoint: signatures of the log and of enough witnesses. */
OL_MUST_CHECK enum ol_status ol_log_policy_check(const struct ol_log_policy *policy,
						 struct ol_tlog_proof_result *result,
						 const char *note, size_t note_size,
						 struct ol_error *err);

/* Lines of base64 hashes, as proofs travel; parsing stops at an empty line. */
bool ol_proof_print(struct ol_buf *out, const struct ol_proof *proof);
OL_MUST_CHECK enum ol_status ol_proof_parse(struct ol_proof *proof, const char **text,
					    const char *end, struct ol_error *err);

#endif
