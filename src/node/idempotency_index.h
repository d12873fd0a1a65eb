/* node/idempotency_index.h, floor 4: which answers are kept, in memory: so that to begin a request
 * never asks the disk. Two tables with open addressing; the caller locks. */
#ifndef OL_NODE_IDEMPOTENCY_INDEX_H
#define OL_NODE_IDEMPOTENCY_INDEX_H

#include "crypto/sha256.h"

struct kept_entry {
	uint8_t id[OL_SHA256_BYTES]; /* of account and key: evenly spread */
	uint8_t fingerprint[OL_SHA256_BYTES];
	int64_t made_at;
	uint64_t account;
	uint32_t bytes; /* what it counts */
	bool used, whole;
};
struct kept_index {
	struct kept_entry *entries;
	size_t count, room;
};
struct kept_entry *kept_find(const struct kept_index *index, const uint8_t id[OL_SHA256_BYTES]);
/* False: out of memory. The id must not be there. */
OL_MUST_CHECK bool kept_put(struct kept_index *index, const struct kept_entry *entry);
void kept_remove(struct kept_index *index, struct kept_entry *entry);
void kept_release(struct kept_index *index);

/* Bytes per account (by the first eight bytes of its hash). An account with none takes no room. */
struct kept_account {
	uint64_t account, bytes;
};
struct kept_accounts {
	struct kept_account *at;
	size_t count, room;
};
uint64_t accounts_get(const struct kept_accounts *accounts, uint64_t account);
OL_MUST_CHECK bool accounts_add(struct kept_accounts *accounts, uint64_t account, uint64_t bytes);
void accounts_take(struct kept_accounts *accounts, uint64_t account, uint64_t bytes);
void accounts_release(struct kept_accounts *accounts);

#endif
