/* base/arena.h, floor 0: memory with a lifetime.
 *
 * An ol_arena hands out zeroed, 64-byte aligned pieces of one block and takes them back all at
 * once (rewind to a mark). Three lifetimes exist: `boot` (the process), `request` (one call of a
 * client) and `scratch` (one function). Nothing on the token path calls malloc. */
#ifndef OL_BASE_ARENA_H
#define OL_BASE_ARENA_H

#include "base/base.h"

struct ol_arena {
	uint8_t *base;
	size_t used, size;
};

/* Reserves size bytes of address space (committed by the kernel on first touch). */
OL_MUST_CHECK enum ol_status ol_arena_init(struct ol_arena *arena, size_t size);
void ol_arena_release(struct ol_arena *arena);

/* NULL when the arena is full. The memory is zeroed. */
OL_MUST_CHECK void *ol_arena_alloc(struct ol_arena *arena, size_t size);
OL_MUST_CHECK char *ol_arena_strdup(struct ol_arena *arena, const char *text, size_t length);

static inline size_t ol_arena_mark(const struct ol_arena *arena)
{
	return arena->used;
}
void ol_arena_rewind(struct ol_arena *arena, size_t mark);

/* Big blocks outside any arena (weights, KV pages): 64-byte aligned, zeroed, huge pages where the
 * kernel gives them. NULL when there is no memory. */
OL_MUST_CHECK void *ol_block_alloc(size_t size);
void ol_block_free(void *block, size_t size);

#endif
