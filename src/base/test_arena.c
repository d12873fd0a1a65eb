/* Arenas: zeroed, aligned, bounded, taken back by marks. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { SIZE = 1 << 16 };

static void fill(void *p, size_t size)
{
	memset(p, 0xa5, size);
}

static bool all_zero(const uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static void test_pieces_are_aligned_zeroed_and_apart(void **state)
{
	(void)state;
	struct ol_arena arena;
	uint8_t *before = NULL;
	size_t before_size = 0;
	assert_int_equal(ol_arena_init(&arena, SIZE), OL_OK);
	for (size_t size = 0; size < 300; size += 7) {
		uint8_t *piece = ol_arena_alloc(&arena, size);
		assert_non_null(piece);
		assert_int_equal((uintptr_t)piece % 64, 0);
		assert_true(before == NULL || piece >= before + before_size);
		assert_true(all_zero(piece, size));
		fill(piece, size);
		before = piece;
		before_size = size;
	}
	ol_arena_release(&arena);
	assert_null(arena.base);
}

static void test_memory_taken_back_comes_zeroed_again(void **state)
{
	(void)state;
	struct ol_arena arena;
	assert_int_equal(ol_arena_init(&arena, SIZE), OL_OK);
	uint8_t *kept = ol_arena_alloc(&arena, 100);
	assert_non_null(kept);
	fill(kept, 100);
	const size_t mark = ol_arena_mark(&arena);
	uint8_t *first = ol_arena_alloc(&arena, 1000);
	assert_non_null(first);
	fill(first, 1000);
	ol_arena_rewind(&arena, mark);
	uint8_t *second = ol_arena_alloc(&arena, 1000);
	assert_ptr_equal(first, second);
	assert_true(all_zero(second, 1000));
	assert_int_equal(kept[0], 0xa5);
	assert_int_equal(kept[99], 0xa5);
	ol_arena_release(&arena);
}

static void test_the_size_is_the_limit(void **state)
{
	(void)state;
	struct ol_arena arena;
	assert_int_equal(ol_arena_init(&arena, 256), OL_OK);
	assert_null(ol_arena_alloc(&arena, 257));
	assert_null(ol_arena_alloc(&arena, SIZE_MAX));
	assert_null(ol_arena_alloc(&arena, SIZE_MAX - 63));
	assert_int_equal(ol_arena_mark(&arena), 0); /* a refusal takes nothing */
	assert_non_null(ol_arena_alloc(&arena, 1));
	assert_null(ol_arena_alloc(&arena, 193)); /* 64 + 193 > 256 */
	uint8_t *last = ol_arena_alloc(&arena, 192);
	assert_non_null(last);
	fill(last, 192);
	assert_null(ol_arena_alloc(&arena, 1));
	ol_arena_release(&arena);
}

static void test_strdup_copies_length_bytes_and_ends_them(void **state)
{
	(void)state;
	struct ol_arena arena;
	assert_int_equal(ol_arena_init(&arena, 128), OL_OK);
	const char *copy = ol_arena_strdup(&arena, "one\0two", 7);
	assert_non_null(copy);
	assert_memory_equal(copy, "one\0two", 8);
	assert_null(ol_arena_strdup(&arena, "", SIZE_MAX));
	assert_null(ol_arena_strdup(&arena, copy, 64)); /* its NUL would not fit */
	assert_string_equal(ol_arena_strdup(&arena, "", 0), "");
	ol_arena_release(&arena);
}

static void test_blocks(void **state)
{
	static const size_t sizes[] = {0, 1, 4096, 5000, (size_t)4 << 20, ((size_t)4 << 20) + 1};
	(void)state;
	for (size_t i = 0; i < OL_ARRAY_LEN(sizes); i++) {
		uint8_t *block = ol_block_alloc(sizes[i]);
		assert_non_null(block);
		assert_int_equal((uintptr_t)block % 64, 0);
		if (sizes[i] > 0) {
			assert_int_equal(block[0] | block[sizes[i] - 1], 0);
			block[0] = block[sizes[i] - 1] = 1;
		}
		ol_block_free(block, sizes[i]);
	}
	ol_block_free(NULL, 0);
	/* More than an address space: told, not trapped. */
	assert_null(ol_block_alloc(SIZE_MAX / 2));
	struct ol_arena arena;
	assert_int_equal(ol_arena_init(&arena, SIZE_MAX / 2), OL_ERR_FULL);
	assert_null(ol_arena_alloc(&arena, 1));
	ol_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_are_aligned_zeroed_and_apart),
		cmocka_unit_test(test_memory_taken_back_comes_zeroed_again),
		cmocka_unit_test(test_the_size_is_the_limit),
		cmocka_unit_test(test_strdup_copies_length_bytes_and_ends_them),
		cmocka_unit_test(test_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
