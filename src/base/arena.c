#define _GNU_SOURCE
#include "base/arena.h"

#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64 };

void *ol_block_alloc(size_t size)
{
	void *block = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (block == MAP_FAILED)
		return NULL;
#ifdef MADV_HUGEPAGE
	if (size >= (size_t)4 << 20)
		madvise(block, size, MADV_HUGEPAGE); /* a hint; its refusal changes nothing */
#endif
	return block;
}

void ol_block_free(void *block, size_t size)
{
	if (block)
		munmap(block, size ? size : 1);
}

enum ol_status ol_arena_init(struct ol_arena *arena, size_t size)
{
	arena->base = ol_block_alloc(size);
	arena->used = 0;
	arena->size = arena->base ? size : 0;
	return arena->base ? OL_OK : OL_ERR_FULL;
}

void ol_arena_release(struct ol_arena *arena)
{
	ol_block_free(arena->base, arena->size);
	*arena = (struct ol_arena){0};
}

void *ol_arena_alloc(struct ol_arena *arena, size_t size)
{
	const size_t start = (arena->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (start > arena->size || size > arena->size - start)
		return NULL;
	arena->used = start + size;
	return memset(arena->base + start, 0, size);
}

char *ol_arena_strdup(struct ol_arena *arena, const char *text, size_t length)
{
	char *copy = length < SIZE_MAX ? ol_arena_alloc(arena, length + 1) : NULL;
	if (copy)
		memcpy(copy, text, length);
	return copy;
}

void ol_arena_rewind(struct ol_arena *arena, size_t mark)
{
	OL_ASSERT(mark <= arena->used);
	arena->used = mark;
}
