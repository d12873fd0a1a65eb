/* Every inclusion and consistency proof of trees up to 512 leaves, against an implementation
 * written down from the recursive definitions of RFC 6962 (sections 2.1 to 2.1.2) that shares
 * nothing with the one under test but SHA-256; the reference tree of eight leaves; every flipped
 * bit; and the text form, c2sp.org/tlog-proof. */
#include "crypto/text.h"
#include "ledger/proof.h"
#include "ledger/tile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { LEAVES = 512, HASH = OL_MERKLE_BYTES };

static uint8_t leaf[LEAVES][HASH];

/* MTH(D[begin:end]), memoised: only ranges that the definition itself cuts are asked for. */
static uint8_t (*memo)[HASH];
static bool *known;

static void naive_root(uint8_t out[HASH], int begin, int end)
{
	const size_t at = (size_t)begin * (LEAVES + 1) + (size_t)end;
	if (begin == end) {
		ol_sha256(out, "", 0);
		return;
	}
	if (!known[at]) {
		if (end - begin == 1) {
			memcpy(memo[at], leaf[begin], HASH);
		} else {
			uint8_t bytes[1 + 2 * HASH] = {1};
			int k = 1;
			while (2 * k < end - begin)
				k *= 2;
			naive_root(bytes + 1, begin, begin + k);
			naive_root(bytes + 1 + HASH, begin + k, end);
			ol_sha256(memo[at], bytes, sizeof bytes);
		}
		known[at] = true;
	}
	memcpy(out, memo[at], HASH);
}

/* PATH(m, D[begin:end]) */
static void naive_path(struct ol_proof *proof, int m, int begin, int end)
{
	int k = 1;
	if (end - begin == 1)
		return;
	while (2 * k < end - begin)
		k *= 2;
	if (m < k) {
		naive_path(proof, m, begin, begin + k);
		naive_root(proof->hashes[proof->count++], begin + k, end);
	} else {
		naive_path(proof, m - k, begin + k, end);
		naive_root(proof->hashes[proof->count++], begin, begin + k);
	}
}

/* SUBPROOF(m, D[begin:end], whole) */
static void naive_subproof(struct ol_proof *proof, int m, int begin, int end, bool whole)
{
	int k = 1;
	if (m == end - begin) {
		if (!whole)
			naive_root(proof->hashes[proof->count++], begin, end);
		return;
	}
	while (2 * k < end - begin)
		k *= 2;
	if (m <= k) {
		naive_subproof(proof, m, begin, begin + k, whole);
		naive_root(proof->hashes[proof->count++], begin + k, end);
	} else {
		naive_subproof(proof, m - k, begin + k, end, false);
		naive_root(proof->hashes[proof->count++], begin, begin + k);
	}
}

static enum ol_status naive_node(void *self, uint8_t out[HASH], int level, uint64_t index,
				 struct ol_error *err)
{
	(void)self;
	(void)err;
	naive_root(out, (int)(index << level), (int)((index + 1) << level));
	return OL_OK;
}

static const struct ol_tree tree = {.node = naive_node};

static int setup(void **state)
{
	(void)state;
	memo = calloc((size_t)(LEAVES + 1) * (LEAVES + 1), sizeof *memo);
	known = calloc((size_t)(LEAVES + 1) * (LEAVES + 1), sizeof *known);
	for (int i = 0; i < LEAVES; i++) {
		const uint8_t data[2] = {(uint8_t)i, (uint8_t)(i >> 8)};
		ol_merkle_leaf(leaf[i], data, sizeof data);
	}
	return memo && known ? 0 : 1;
}

static int teardown(void **state)
{
	(void)state;
	free(memo);
	free(known);
	return 0;
}

static void assert_same(const struct ol_proof *a, const struct ol_proof *b)
{
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->hashes, b->hashes, (size_t)a->count * HASH);
}

static void test_every_inclusion_to_512(void **state)
{
	(void)state;
	for (int n = 1; n <= LEAVES; n++) {
		uint8_t root[HASH], again[HASH];
		naive_root(root, 0, n);
		assert_int_equal(ol_tree_root(&tree, again, (uint64_t)n, NULL), OL_OK);
		assert_memory_equal(root, again, HASH);
		for (int m = 0; m < n; m++) {
			struct ol_proof proof, naive = {0};
			naive_path(&naive, m, 0, n);
			assert_int_equal(
				ol_inclusion_prove(&tree, &proof, (uint64_t)m, (uint64_t)n, NULL),
				OL_OK);
			assert_same(&proof, &naive);
			assert_true(ol_inclusion_verify(&proof, leaf[m], (uint64_t)m, (uint64_t)n,
							root));
			/* Another place, another leaf, another size. */
			assert_false(ol_inclusion_verify(&proof, leaf[m], (uint64_t)(m + 1) % 512,
							 (uint64_t)n, root));
			assert_false(ol_inclusion_verify(&proof, leaf[(m + 1) % LEAVES],
							 (uint64_t)m, (uint64_t)n, root));
		}
	}
}

static void test_every_consistency_to_512(void **state)
{
	(void)state;
	for (int n = 0; n <= LEAVES; n++) {
		uint8_t new_root[HASH];
		naive_root(new_root, 0, n);
		for (int m = 0; m <= n; m++) {
			uint8_t old_root[HASH];
			struct ol_proof proof, naive = {0};
			naive_root(old_root, 0, m);
			if (m > 0)
				naive_subproof(&naive, m, 0, n, true);
			assert_int_equal(
				ol_consistency_prove(&tree, &proof, (uint64_t)m, (uint64_t)n, NULL),
				OL_OK);
			assert_same(&proof, &naive);
			assert_true(ol_consistency_verify(&proof, (uint64_t)m, old_root,
							  (uint64_t)n, new_root));
			if (m < n) {
				assert_false(ol_consistency_verify(&proof, (uint64_t)m, new_root,
								   (uint64_t)n, new_root));
				assert_false(ol_consistency_verify(&proof, (uint64_t)n, new_root,
								   (uint64_t)m, old_root));
			}
		}
	}
}

/* Every bit of the proofs of all trees up to 20, a hash too few and one too many. */
static void test_every_flipped_bit(void **state)
{
	(void)state;
	for (int n = 1; n <= 20; n++) {
		for (int m = 0; m < n; m++) {
			struct ol_proof path = {0}, sub = {0};
			uint8_t root[HASH], old_root[HASH];
			const uint64_t um = (uint64_t)m, un = (uint64_t)n;
			naive_root(root, 0, n);
			naive_root(old_root, 0, m);
			naive_path(&path, m, 0, n);
			if (m > 0)
				naive_subproof(&sub, m, 0, n, true);
			for (size_t bit = 0; bit < 8 * HASH * path.count; bit++) {
				uint8_t *byte = &path.hashes[0][0] + bit / 8;
				*byte ^= (uint8_t)(1 << bit % 8);
				assert_false(ol_inclusion_verify(&path, leaf[m], um, un, root));
				*byte ^= (uint8_t)(1 << bit % 8);
			}
			for (size_t bit = 0; bit < 8 * HASH * sub.count; bit++) {
				uint8_t *byte = &sub.hashes[0][0] + bit / 8;
				*byte ^= (uint8_t)(1 << bit % 8);
				assert_false(ol_consistency_verify(&sub, um, old_root, un, root));
				*byte ^= (uint8_t)(1 << bit % 8);
			}
			path.count++;
			sub.count++;
			assert_false(ol_inclusion_verify(&path, leaf[m], um, un, root));
			assert_false(ol_consistency_verify(&sub, um, old_root, un, root));
			path.count -= 2;
			sub.count -= 2;
			if (n > 1)
				assert_false(ol_inclusion_verify(&path, leaf[m], um, un, root));
			if (sub.count < OL_PROOF_HASHES_MAX)
				assert_false(ol_consistency_verify(&sub, um, old_root, un, root));
		}
	}
}

/* The tree of the Certificate Transparency reference code (its leaves stand in
 * crypto/test_merkle.c), with proofs as published there and in Go's and Rust's implementations. */
static const char *const reference_leaves[8] = {
	"",
	"00",
	"10",
	"2021",
	"3031",
	"40414243",
	"5051525354555657",
	"606162636465666768696a6b6c6d6e6f",
};
static const char *const reference_roots[9] = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};
static const struct {
	uint64_t index, size;
	const char *hashes[4];
} reference_paths[] = {
	{0, 1, {NULL}},
	{0,
	 8,
	 {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
	  "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
	  "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
	{5,
	 8,
	 {"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
	  "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
	  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
	{2, 3, {"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
	{1,
	 5,
	 {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	  "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
	  "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
};
static const struct {
	uint64_t old_size, new_size;
	const char *hashes[4];
} reference_consistency[] = {
	{1, 1, {NULL}},
	{1,
	 8,
	 {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
	  "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
	  "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
	{6,
	 8,
	 {"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
	  "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
	  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
	{2,
	 5,
	 {"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
	  "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
};

static void load_hash(uint8_t out[HASH], const char *hex)
{
	assert_true(ol_hex_parse(out, HASH, hex, strlen(hex)));
}

static void load_proof(struct ol_proof *proof, const char *const *hashes)
{
	proof->count = 0;
	while (proof->count < 4 && hashes[proof->count]) {
		load_hash(proof->hashes[proof->count], hashes[proof->count]);
		proof->count++;
	}
}

static void test_the_reference_tree(void **state)
{
	(void)state;
	uint8_t hash[8][HASH], roots[9][HASH];
	for (int i = 0; i <= 8; i++)
		load_hash(roots[i], reference_roots[i]);
	for (int i = 0; i < 8; i++) {
		uint8_t bytes[16];
		const size_t size = strlen(reference_leaves[i]) / 2;
		assert_true(ol_hex_parse(bytes, size, reference_leaves[i], 2 * size));
		ol_merkle_leaf(hash[i], bytes, size);
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(reference_paths); i++) {
		struct ol_proof proof;
		load_proof(&proof, reference_paths[i].hashes);
		assert_true(ol_inclusion_verify(&proof, hash[reference_paths[i].index],
						reference_paths[i].index, reference_paths[i].size,
						roots[reference_paths[i].size]));
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(reference_consistency); i++) {
		struct ol_proof proof;
		const uint64_t m = reference_consistency[i].old_size;
		const uint64_t n = reference_consistency[i].new_size;
		load_proof(&proof, reference_consistency[i].hashes);
		assert_true(ol_consistency_verify(&proof, m, roots[m], n, roots[n]));
	}
}

static void test_sizes_at_the_limit(void **state)
{
	(void)state;
	/* Nonsense of all heights must be refused without running away. */
	struct ol_proof proof = {.count = OL_PROOF_HASHES_MAX - 1};
	uint8_t root[HASH] = {0};
	const uint64_t sizes[] = {
		1, 2, 3, 1ULL << 32, OL_TREE_SIZE_MAX - 1, OL_TREE_SIZE_MAX, UINT64_MAX};
	for (size_t i = 0; i < OL_ARRAY_LEN(sizes); i++)
		for (size_t j = 0; j < OL_ARRAY_LEN(sizes); j++) {
			assert_false(
				ol_inclusion_verify(&proof, leaf[0], sizes[i], sizes[j], root));
			assert_false(ol_consistency_verify(&proof, sizes[i], root, sizes[j], root));
		}
}

/* A log of 300 leaves, its key, a witness and the proof of leaf 77, all as text. */
struct proven {
	struct ol_note_key log, witness;
	struct ol_buf note, text;
};

static void prove(struct proven *p, const void *extra, size_t extra_size)
{
	const uint8_t seed[32] = {5};
	struct ol_log_checkpoint checkpoint = {.origin = "example.com/log", .size = 300};
	struct ol_ed25519_key secret;
	struct ol_proof inclusion;
	struct ol_buf body;
	ol_ed25519_key_from_seed(&secret, seed);
	assert_int_equal(ol_note_key_init(&p->log, "example.com/log", OL_NOTE_ED25519,
					  secret.public_key, NULL),
			 OL_OK);
	assert_int_equal(ol_note_key_init(&p->witness, "example.com/w", OL_NOTE_COSIGNATURE,
					  secret.public_key, NULL),
			 OL_OK);
	naive_root(checkpoint.root, 0, 300);
	ol_buf_init(&body, OL_NOTE_BYTES_MAX);
	ol_buf_init(&p->note, OL_NOTE_BYTES_MAX);
	ol_buf_init(&p->text, OL_TLOG_PROOF_BYTES_MAX);
	assert_true(ol_log_checkpoint_print(&body, &checkpoint));
	assert_true(ol_note_append_text(&p->note, body.data, body.size));
	assert_true(ol_note_sign(&p->note, &p->log, &secret, body.data, body.size));
	assert_true(ol_note_cosign(&p->note, &p->witness, &secret, 99, body.data, body.size));
	assert_int_equal(ol_inclusion_prove(&tree, &inclusion, 77, 300, NULL), OL_OK);
	assert_true(ol_tlog_proof_print(&p->text, extra, extra_size, 77, &inclusion, p->note.data,
					p->note.size));
	ol_buf_release(&body);
}

static void unprove(struct proven *p)
{
	ol_buf_release(&p->note);
	ol_buf_release(&p->text);
}

static void test_a_proof_as_text(void **state)
{
	(void)state;
	struct proven p;
	struct ol_tlog_proof proof;
	struct ol_tlog_proof_result result;
	prove(&p, "hello", 5);
	const struct ol_log_policy policy = {&p.log, &p.witness, 1, 1};
	assert_memory_equal(p.text.data, "c2sp.org/tlog-proof@v1\nextra aGVsbG8=\nindex 77\n", 47);
	assert_int_equal(ol_tlog_proof_parse(&proof, p.text.data, p.text.size, NULL), OL_OK);
	assert_int_equal(proof.index, 77);
	assert_int_equal(proof.extra_length, 8);
	assert_int_equal(proof.note_size, p.note.size);
	assert_memory_equal(proof.note, p.note.data, p.note.size);
	assert_int_equal(ol_tlog_proof_verify(&proof, leaf[77], &policy, &result, NULL), OL_OK);
	assert_int_equal(result.checkpoint.size, 300);
	assert_int_equal(result.cosigned, 1);
	assert_int_equal(result.latest_cosigned, 99);
	assert_int_equal(ol_tlog_proof_verify(&proof, leaf[78], &policy, NULL, NULL), OL_ERR_INPUT);
	/* Two witnesses asked for, one there. */
	const struct ol_note_key both[2] = {p.witness, p.log};
	const struct ol_log_policy strict = {&p.log, both, 1, 2};
	assert_int_equal(ol_tlog_proof_verify(&proof, leaf[77], &strict, NULL, NULL), OL_ERR_INPUT);
	unprove(&p);
}

/* Only the extra line may change without the proof being refused: nobody signs it. */
static void test_every_flipped_bit_of_the_text(void **state)
{
	(void)state;
	struct proven p;
	prove(&p, NULL, 0);
	const struct ol_log_policy policy = {&p.log, &p.witness, 1, 1};
	for (size_t bit = 0; bit < 8 * p.text.size; bit++) {
		struct ol_tlog_proof proof;
		p.text.data[bit / 8] ^= (char)(1 << bit % 8);
		if (ol_tlog_proof_parse(&proof, p.text.data, p.text.size, NULL) == OL_OK)
			assert_int_equal(
				ol_tlog_proof_verify(&proof, leaf[77], &policy, NULL, NULL),
				OL_ERR_INPUT);
		p.text.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	for (size_t size = 0; size < p.text.size; size++) {
		struct ol_tlog_proof proof;
		if (ol_tlog_proof_parse(&proof, p.text.data, size, NULL) == OL_OK)
			assert_int_equal(
				ol_tlog_proof_verify(&proof, leaf[77], &policy, NULL, NULL),
				OL_ERR_INPUT);
	}
	unprove(&p);
}

static void test_names_of_tiles(void **state)
{
	(void)state;
	static const struct {
		struct ol_tile tile;
		const char *path;
	} rows[] = {
		{{0, 256, 0}, "tile/0/000"},
		{{0, 1, 0}, "tile/0/000.p/1"},
		{{1, 255, 999}, "tile/1/999.p/255"},
		{{7, 256, 1000}, "tile/7/x001/000"},
		{{0, 256, 1234067}, "tile/0/x001/x234/067"},
		{{OL_TILE_ENTRIES, 256, 1234067}, "tile/entries/x001/x234/067"},
		{{OL_TILE_ENTRIES, 9, 5}, "tile/entries/005.p/9"},
		{{0, 256, 36028797018963967}, "tile/0/x036/x028/x797/x018/x963/967"},
	};
	static const char *const bad[] = {
		"",
		"tile",
		"tile/",
		"tile/0",
		"tile/0/",
		"tile/0/0",
		"tile/0/00",
		"tile/0/0000",
		"tile/00/000",
		"tile/8/000",
		"tile/-1/000",
		"tile/0/000.p/0",
		"tile/0/000.p/256",
		"tile/0/000.p/01",
		"tile/0/000.p/",
		"tile/0/000.p",
		"tile/0/000/",
		"tile/0/x000/001",
		"tile/0/x001/234/567",
		"tile/0/001/x234",
		"tile/0/X001/000",
		"tile/0/../000",
		"tile/entries/00a",
		"tile/entries",
		"/tile/0/000",
		"checkpoint",
		"tile/0/000?x",
		"tile/0/x999/x999/x999/x999/x999/x999/999",
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++) {
		char path[OL_TILE_PATH_MAX];
		struct ol_tile tile;
		ol_tile_path(path, &rows[i].tile);
		assert_string_equal(path, rows[i].path);
		assert_true(ol_tile_path_parse(&tile, path));
		assert_int_equal(tile.level, rows[i].tile.level);
		assert_int_equal(tile.width, rows[i].tile.width);
		assert_int_equal(tile.index, rows[i].tile.index);
	}
	for (size_t i = 0; i < OL_ARRAY_LEN(bad); i++) {
		struct ol_tile tile;
		assert_false(ol_tile_path_parse(&tile, bad[i]));
	}
}

/* The example of c2sp.org/tlog-tiles: a tree of 70,000. */
static void test_widths_of_tiles(void **state)
{
	(void)state;
	assert_int_equal(ol_tile_width(70000, 0, 272), 256);
	assert_int_equal(ol_tile_width(70000, 0, 273), 112);
	assert_int_equal(ol_tile_width(70000, 0, 274), 0);
	assert_int_equal(ol_tile_width(70000, OL_TILE_ENTRIES, 273), 112);
	assert_int_equal(ol_tile_width(70000, 1, 0), 256);
	assert_int_equal(ol_tile_width(70000, 1, 1), 17);
	assert_int_equal(ol_tile_width(70000, 2, 0), 1);
	assert_int_equal(ol_tile_width(256, 0, 0), 256);
	assert_int_equal(ol_tile_width(256, 1, 0), 1);
	assert_int_equal(ol_tile_width(0, 0, 0), 0);
	for (int height = 0; height <= 8; height++) {
		uint8_t expected[HASH], actual[HASH];
		naive_root(expected, 0, 1 << height);
		ol_tile_subtree(actual, &leaf[0][0], height);
		assert_memory_equal(expected, actual, HASH);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_inclusion_to_512),
		cmocka_unit_test(test_every_consistency_to_512),
		cmocka_unit_test(test_every_flipped_bit),
		cmocka_unit_test(test_the_reference_tree),
		cmocka_unit_test(test_sizes_at_the_limit),
		cmocka_unit_test(test_a_proof_as_text),
		cmocka_unit_test(test_every_flipped_bit_of_the_text),
		cmocka_unit_test(test_names_of_tiles),
		cmocka_unit_test(test_widths_of_tiles),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
