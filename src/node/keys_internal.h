/* node/keys_internal.h, floor 4: what keys*.c share: a key in memory, buckets, counters. */
#ifndef OL_NODE_KEYS_INTERNAL_H
#define OL_NODE_KEYS_INTERNAL_H

#include "crypto/sha256.h"
#include "node/keys.h"

#include <pthread.h>

/* A minute's worth of something, in units of 1/(60 * 10^6): so a limit of L a minute refills by L
 * units each microsecond, and nothing is ever rounded. */
struct key_bucket {
	int64_t level; /* units; below zero after a request that came to more than was reserved */
	int64_t at;    /* microseconds                                                          */
};

/* Usage since it was last written. */
struct key_pending {
	int64_t day, requests, tokens;
	struct ol_amount money;
};

struct key {
	uint32_t n; /* its row, from 1 */
	struct ol_key_info info;
	uint8_t hash[OL_SHA256_BYTES];
	struct key_bucket requests, tokens;
	int64_t day; /* that info's counters of today are of */
	int64_t reserved_tokens;
	struct ol_amount reserved_money;
	struct key_pending pending, before; /* of `day`, and of days before it */
	bool ended;                         /* on_revoked has been told        */
};

struct ol_keys {
	struct ol_store *store;
	struct ol_keys_options options;
	pthread_mutex_t io;   /* first: reading and writing the store                     */
	pthread_mutex_t lock; /* second, never held while the store works: everything below */
	struct key **keys;    /* keys[n - 1]                                               */
	size_t count, room;
	uint32_t *index; /* of n, open addressing by the hash; 0: free */
	size_t index_room;
	int64_t looked_at; /* microseconds: when changes by others were last asked for */
	pthread_t watcher;
	pthread_cond_t wake;
	bool watching, closing;
};

int64_t key_now(const struct ol_keys *keys);
/* Moves the counters of today on when the day is over. */
void key_roll(struct key *key, int64_t now);
/* NULL: no such token. The caller holds lock. */
struct key *key_lookup(const struct ol_keys *keys, const uint8_t hash[OL_SHA256_BYTES]);
/* Reads what is new in the store. The caller holds io. */
OL_MUST_CHECK enum ol_status keys_reload(struct ol_keys *keys, struct ol_error *err);
/* Asks whether another process has changed something, at most once in a while; true: it had, and it
 * is read now. The caller holds neither lock. */
bool keys_look(struct ol_keys *keys);
/* Tells on_revoked what has ended. The caller holds neither lock. */
void keys_tell_ended(struct ol_keys *keys);

/* A new token, and a name for it that has nothing to do with it. */
void key_token_make(char token_out[OL_KEY_TOKEN_CHARS + 1], char id_out[OL_KEY_ID_CHARS + 1]);

#endif
