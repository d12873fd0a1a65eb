/* The public log: its files against an independent construction at many sizes, proofs out of them,
 * a store that loses what was not synced at every step, damage to every byte, and rebuilding. */
#define _GNU_SOURCE
#include "ledger/tile_reader.h"
#include "ledger/tlog.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { FILES_MAX = 2048, HASH = OL_MERKLE_BYTES };

/* A store in memory that keeps what is durable apart from what is only written. */
struct file {
	char name[OL_TILE_PATH_MAX];
	uint8_t *now, *durable;
	size_t now_size, durable_size;
	bool exists, durable_exists;
};

struct store {
	struct file files[FILES_MAX];
	int count;
	int64_t fuel; /* calls until the power fails; negative: it does not */
	uint64_t random;
	int puts;
};

static uint64_t next_random(struct store *store)
{
	store->random ^= store->random << 13;
	store->random ^= store->random >> 7;
	store->random ^= store->random << 17;
	return store->random;
}

static struct file *find(struct store *store, const char *name)
{
	for (int i = 0; i < store->count; i++)
		if (strcmp(store->files[i].name, name) == 0)
			return &store->files[i];
	assert_true(store->count < FILES_MAX);
	struct file *file = &store->files[store->count++];
	snprintf(file->name, sizeof file->name, "%s", name);
	return file;
}

static bool power_fails(struct store *store)
{
	if (store->fuel < 0)
		return false;
	return store->fuel-- == 0 || store->fuel < 0;
}

static enum ol_status store_fetch(void *self, struct ol_buf *out, const char *name,
				  struct ol_error *err)
{
	const struct file *file = find(self, name);
	if (!file->exists)
		return ol_fail(err, OL_ERR_NOT_FOUND, "no %s", name);
	return ol_buf_append(out, file->now, file->now_size) ? OL_OK
							     : ol_fail(err, OL_ERR_FULL, "full");
}

static void set(uint8_t **to, size_t *to_size, const void *bytes, size_t size)
{
	uint8_t *copy = malloc(size + 1);
	assert_non_null(copy);
	if (size)
		memcpy(copy, bytes, size);
	free(*to);
	*to = copy;
	*to_size = size;
}

static enum ol_status store_put(void *self, const char *name, const void *bytes, size_t size,
				struct ol_error *err)
{
	struct store *store = self;
	struct file *file = find(store, name);
	const bool fails = power_fails(store);
	store->puts++;
	if (fails && next_random(store) % 2)
		return ol_fail(err, OL_ERR_IO, "power cut");
	set(&file->now, &file->now_size, bytes, size);
	file->exists = true;
	return fails ? ol_fail(err, OL_ERR_IO, "power cut") : OL_OK;
}

static enum ol_status store_sync(void *self, struct ol_error *err)
{
	struct store *store = self;
	const bool fails = power_fails(store);
	for (int i = 0; i < store->count; i++) {
		struct file *file = &store->files[i];
		if (fails && next_random(store) % 2)
			continue; /* this one did not get there */
		set(&file->durable, &file->durable_size, file->now, file->now_size);
		file->durable_exists = file->exists;
	}
	return fails ? ol_fail(err, OL_ERR_IO, "power cut") : OL_OK;
}

static enum ol_status store_drop(void *self, const char *name, struct ol_error *err)
{
	struct store *store = self;
	const size_t length = strlen(name);
	if (power_fails(store))
		return ol_fail(err, OL_ERR_IO, "power cut");
	for (int i = 0; i < store->count; i++)
		if (strncmp(store->files[i].name, name, length) == 0 &&
		    strncmp(store->files[i].name + length, ".p/", 3) == 0)
			store->files[i].exists = false;
	return OL_OK;
}

/* What is found after the power came back: the durable state, and of everything younger the old
 * bytes, the new ones, or a name with rubbish behind it. */
static void restart(struct store *store)
{
	for (int i = 0; i < store->count; i++) {
		struct file *file = &store->files[i];
		const uint64_t dice = next_random(store) % 4;
		const bool same = file->exists == file->durable_exists &&
				  file->now_size == file->durable_size &&
				  (file->now_size == 0 ||
				   memcmp(file->now, file->durable, file->now_size) == 0);
		if (same || dice == 0)
			continue;
		if (dice == 1 && strcmp(file->name, OL_CHECKPOINT_NAME) != 0 &&
		    !file->durable_exists) {
			file->now_size /= 2; /* torn: the name came before the bytes */
			file->exists = true;
		} else {
			set(&file->now, &file->now_size, file->durable, file->durable_size);
			file->exists = file->durable_exists;
		}
	}
	for (int i = 0; i < store->count; i++) {
		struct file *file = &store->files[i];
		set(&file->durable, &file->durable_size, file->now, file->now_size);
		file->durable_exists = file->exists;
	}
	store->fuel = -1;
}

static struct ol_log_store table(struct store *store)
{
	return (struct ol_log_store){.source = {.fetch = store_fetch, .self = store},
				     .put = store_put,
				     .sync = store_sync,
				     .drop_partials = store_drop,
				     .self = store};
}

static struct store *new_store(void)
{
	struct store *store = calloc(1, sizeof *store);
	assert_non_null(store);
	store->fuel = -1;
	store->random = 88172645463325252ULL;
	return store;
}

static void free_store(struct store *store)
{
	for (int i = 0; i < store->count; i++) {
		free(store->files[i].now);
		free(store->files[i].durable);
	}
	free(store);
}

static struct ol_ed25519_key secret;
static struct ol_note_key key;

static int setup(void **state)
{
	const uint8_t seed[32] = {42};
	(void)state;
	ol_ed25519_key_from_seed(&secret, seed);
	return ol_note_key_init(&key, "example.com/log", OL_NOTE_ED25519, secret.public_key,
				NULL) != OL_OK;
}

/* Entry i: its size is i mod 300, so that empty ones and long ones occur. */
static size_t entry(uint8_t out[512], uint64_t i)
{
	memset(out, (int)(i * 31 % 251), 512);
	for (int b = 0; b < 8; b++)
		out[b] = (uint8_t)(i >> 8 * b);
	return i % 300;
}

static enum ol_status append_to(struct ol_tlog *log, uint64_t size)
{
	uint8_t bytes[512];
	enum ol_status s = OL_OK;
	while (s == OL_OK && ol_tlog_size(log) < size)
		s = ol_tlog_append(log, bytes, entry(bytes, ol_tlog_size(log)), NULL);
	return s;
}

static void sign(struct ol_buf *note, const struct ol_log_checkpoint *checkpoint)
{
	struct ol_buf body;
	ol_buf_init(&body, OL_NOTE_BYTES_MAX);
	ol_buf_init(note, OL_NOTE_BYTES_MAX);
	assert_true(ol_log_checkpoint_print(&body, checkpoint));
	assert_true(ol_note_append_text(note, body.data, body.size));
	assert_true(ol_note_sign(note, &key, &secret, body.data, body.size));
	ol_buf_release(&body);
}

static enum ol_status publish(struct ol_tlog *log)
{
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note;
	enum ol_status s = ol_tlog_flush(log, &checkpoint, NULL);
	if (s != OL_OK)
		return s;
	sign(&note, &checkpoint);
	s = ol_tlog_publish(log, note.data, note.size, NULL);
	ol_buf_release(&note);
	return s;
}

/* The root by the plain rule, leaf after leaf. */
static void plain_root(uint8_t out[HASH], uint64_t size)
{
	struct ol_merkle tree;
	uint8_t bytes[512], leaf[HASH];
	ol_merkle_init(&tree);
	for (uint64_t i = 0; i < size; i++) {
		const size_t length = entry(bytes, i);
		ol_merkle_leaf(leaf, bytes, length);
		ol_merkle_add(&tree, leaf);
	}
	ol_merkle_root(&tree, out);
}

/* Whoever reads the files finds exactly the entries, and tiles that prove them. */
static void check_files(struct store *store, uint64_t expected_size, bool proofs)
{
	const struct ol_log_store functions = table(store);
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note, bytes;
	uint8_t root[HASH], text[512];
	ol_buf_init(&note, OL_NOTE_BYTES_MAX);
	assert_int_equal(store_fetch(store, &note, OL_CHECKPOINT_NAME, NULL), OL_OK);
	assert_int_equal(
		ol_log_checkpoint_open(&checkpoint, NULL, note.data, note.size, &key, NULL), OL_OK);
	ol_buf_release(&note);
	assert_int_equal(checkpoint.size, expected_size);
	plain_root(root, checkpoint.size);
	assert_memory_equal(root, checkpoint.root, HASH);
	struct ol_tile_reader *reader = ol_tile_reader_open(&functions.source, checkpoint.size);
	assert_non_null(reader);
	const struct ol_tree tree = ol_tile_reader_tree(reader);
	uint8_t again[HASH];
	assert_int_equal(ol_tree_root(&tree, again, checkpoint.size, NULL), OL_OK);
	assert_memory_equal(root, again, HASH);
	ol_buf_init(&bytes, 1024);
	for (uint64_t i = 0; i < checkpoint.size; i += proofs ? 1 : 97) {
		struct ol_proof proof;
		uint8_t leaf[HASH];
		const size_t length = entry(text, i);
		ol_buf_clear(&bytes);
		assert_int_equal(ol_tile_reader_entry(reader, &bytes, leaf, i, NULL), OL_OK);
		assert_int_equal(bytes.size, length);
		if (length > 0)
			assert_memory_equal(bytes.data, text, length);
		assert_int_equal(ol_tile_reader_inclusion(reader, &proof, leaf, i, root, NULL),
				 OL_OK);
	}
	ol_buf_release(&bytes);
	ol_tile_reader_close(reader);
}

static void test_sizes_around_the_edges_of_tiles(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {0,   1,   2,   3,   254, 255, 256,
					 257, 511, 512, 513, 767, 768, 1025};
	struct store *store = new_store();
	const struct ol_log_store functions = table(store);
	struct ol_tlog *log;
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	for (size_t i = 0; i < OL_ARRAY_LEN(sizes); i++) {
		assert_int_equal(append_to(log, sizes[i]), OL_OK);
		assert_int_equal(publish(log), OL_OK);
		check_files(store, sizes[i], false);
	}
	check_files(store, 1025, true);
	ol_tlog_close(log);
	free_store(store);
}

/* More than 65,536 entries: three levels of tiles, as in the example of the specification. */
static void test_three_levels(void **state)
{
	(void)state;
	struct store *store = new_store();
	const struct ol_log_store functions = table(store);
	struct ol_tlog *log;
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 70000), OL_OK);
	assert_int_equal(publish(log), OL_OK);
	assert_int_equal(find(store, "tile/0/272")->now_size, 8192);
	assert_int_equal(find(store, "tile/0/273.p/112")->now_size, 112 * 32);
	assert_int_equal(find(store, "tile/1/000")->now_size, 8192);
	assert_int_equal(find(store, "tile/1/001.p/17")->now_size, 17 * 32);
	assert_int_equal(find(store, "tile/2/000.p/1")->now_size, 32);
	assert_false(find(store, "tile/0/273")->exists);
	assert_true(find(store, "tile/entries/273.p/112")->exists);
	check_files(store, 70000, false);
	ol_tlog_close(log);
	free_store(store);
}

/* Closed and opened at every size, the files are what they are when written in one go. */
static void test_opening_again_goes_on(void **state)
{
	(void)state;
	struct store *one = new_store(), *many = new_store();
	const struct ol_log_store a = table(one), b = table(many);
	struct ol_tlog *log;
	for (uint64_t size = 0; size <= 600; size++) {
		assert_int_equal(ol_tlog_open(&log, &b, &key, NULL), OL_OK);
		assert_int_equal(ol_tlog_size(log), size > 0 ? size - 1 : 0);
		assert_int_equal(append_to(log, size), OL_OK);
		assert_int_equal(publish(log), OL_OK);
		ol_tlog_close(log);
	}
	assert_int_equal(ol_tlog_open(&log, &a, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 600), OL_OK);
	assert_int_equal(publish(log), OL_OK);
	ol_tlog_close(log);
	for (int i = 0; i < one->count; i++) {
		const struct file *f = &one->files[i], *g = find(many, f->name);
		assert_int_equal(f->exists, g->exists);
		if (!f->exists)
			continue;
		assert_int_equal(f->now_size, g->now_size);
		assert_memory_equal(f->now, g->now, f->now_size);
	}
	/* Of the partial widths only those of the tiles that are not full yet were kept. */
	assert_false(find(many, "tile/0/000.p/7")->exists);
	assert_false(find(many, "tile/entries/001.p/200")->exists);
	assert_true(find(many, "tile/0/002.p/7")->exists);
	free_store(one);
	free_store(many);
}

/* The power fails at every call of a short life, many times over: the published checkpoint is
 * whole each time, never older than what publish acknowledged, and writing goes on to the same
 * bytes. Reconstructed tiles replace torn ones. */
static void test_every_power_cut(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		for (int64_t fuel = 0; fuel < 60; fuel++) {
			struct store *store = new_store();
			const struct ol_log_store functions = table(store);
			struct ol_tlog *log;
			uint64_t acknowledged = 0;
			bool any = false;
			store->random = seed * 0x9e3779b97f4a7c15ULL;
			store->fuel = fuel;
			assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
			for (uint64_t size = 100; size <= 700; size += 150) {
				if (append_to(log, size) != OL_OK || publish(log) != OL_OK)
					break;
				acknowledged = size;
				any = true;
			}
			ol_tlog_close(log);
			restart(store);
			assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
			assert_true(ol_tlog_size(log) >= acknowledged);
			if (any)
				check_files(store, ol_tlog_size(log), false);
			assert_int_equal(append_to(log, 800), OL_OK);
			assert_int_equal(publish(log), OL_OK);
			check_files(store, 800, false);
			ol_tlog_close(log);
			free_store(store);
		}
	}
}

static void test_a_failure_is_final(void **state)
{
	(void)state;
	struct store *store = new_store();
	const struct ol_log_store functions = table(store);
	struct ol_log_checkpoint checkpoint;
	struct ol_tlog *log;
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 10), OL_OK);
	store->fuel = 0;
	assert_int_equal(ol_tlog_flush(log, &checkpoint, NULL), OL_ERR_IO);
	store->fuel = -1;
	assert_int_equal(ol_tlog_flush(log, &checkpoint, NULL), OL_ERR_IO);
	assert_int_equal(append_to(log, 11), OL_ERR_IO);
	ol_tlog_close(log);
	free_store(store);
}

/* Any changed byte of the files that a writer goes on from is found when it opens them. */
static void test_damage_is_found_when_opening(void **state)
{
	(void)state;
	static const char *const names[] = {OL_CHECKPOINT_NAME, "tile/0/001.p/4", "tile/1/000.p/1",
					    "tile/entries/001.p/4"};
	struct store *store = new_store();
	const struct ol_log_store functions = table(store);
	struct ol_tlog *log;
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 260), OL_OK);
	assert_int_equal(publish(log), OL_OK);
	ol_tlog_close(log);
	for (size_t n = 0; n < OL_ARRAY_LEN(names); n++) {
		struct file *file = find(store, names[n]);
		assert_true(file->exists);
		for (size_t bit = 0; bit < 8 * file->now_size; bit++) {
			file->now[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_ERR_INPUT);
			file->now[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		file->now_size--;
		assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_ERR_INPUT);
		file->now_size++;
		if (n > 0) {
			file->exists = false;
			assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_ERR_INPUT);
			file->exists = true;
		}
	}
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	ol_tlog_close(log);
	free_store(store);
}

static void test_what_is_not_published(void **state)
{
	(void)state;
	struct store *store = new_store();
	const struct ol_log_store functions = table(store);
	struct ol_log_checkpoint old, now, changed;
	struct ol_buf note;
	struct ol_tlog *log;
	uint8_t too_long[OL_ENTRY_MAX + 1] = {0};
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 5), OL_OK);
	assert_int_equal(ol_tlog_flush(log, &old, NULL), OL_OK);
	assert_int_equal(append_to(log, 6), OL_OK);
	assert_int_equal(ol_tlog_flush(log, &now, NULL), OL_OK);
	sign(&note, &old); /* of an earlier flush */
	assert_int_equal(ol_tlog_publish(log, note.data, note.size, NULL), OL_ERR_INPUT);
	ol_buf_release(&note);
	changed = now;
	changed.root[31] ^= 1;
	sign(&note, &changed);
	assert_int_equal(ol_tlog_publish(log, note.data, note.size, NULL), OL_ERR_INPUT);
	ol_buf_release(&note);
	sign(&note, &now);
	note.data[note.size - 10] ^= 1;
	assert_int_equal(ol_tlog_publish(log, note.data, note.size, NULL), OL_ERR_INPUT);
	note.data[note.size - 10] ^= 1;
	assert_false(find(store, OL_CHECKPOINT_NAME)->exists);
	assert_int_equal(ol_tlog_publish(log, note.data, note.size, NULL), OL_OK);
	assert_int_equal(ol_tlog_publish(log, note.data, note.size, NULL), OL_OK); /* once more */
	ol_buf_release(&note);
	assert_int_equal(ol_tlog_append(log, too_long, sizeof too_long, NULL), OL_ERR_INPUT);
	assert_int_equal(ol_tlog_append(log, too_long, OL_ENTRY_MAX, NULL), OL_OK);
	ol_tlog_close(log);
	free_store(store);
}

/* Lies of the one who serves the files are found by whoever has the root. */
static void test_tiles_that_lie(void **state)
{
	(void)state;
	struct store *store = new_store();
	const struct ol_log_store functions = table(store);
	struct ol_tlog *log;
	uint8_t root[HASH], old_root[HASH], leaf[HASH], bytes[512];
	struct ol_proof proof;
	struct ol_buf out;
	assert_int_equal(ol_tlog_open(&log, &functions, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 300), OL_OK);
	assert_int_equal(publish(log), OL_OK);
	ol_tlog_close(log);
	plain_root(root, 300);
	plain_root(old_root, 290);
	const size_t length = entry(bytes, 280);
	ol_merkle_leaf(leaf, bytes, length);
	ol_buf_init(&out, 1024);
	for (int lie = 0; lie < 4; lie++) {
		static const char *const names[] = {"", "tile/0/001.p/44", "tile/1/000.p/1",
						    "tile/entries/001.p/44"};
		if (lie > 0)
			find(store, names[lie])->now[10] ^= 1;
		struct ol_tile_reader *reader = ol_tile_reader_open(&functions.source, 300);
		assert_non_null(reader);
		const bool right = lie == 0 || lie == 3;
		assert_int_equal(ol_tile_reader_inclusion(reader, &proof, leaf, 280, root, NULL),
				 right ? OL_OK : OL_ERR_INPUT);
		assert_int_equal(
			ol_tile_reader_consistency(reader, &proof, 290, old_root, root, NULL),
			right ? OL_OK : OL_ERR_INPUT);
		ol_buf_clear(&out);
		assert_int_equal(ol_tile_reader_entry(reader, &out, NULL, 256, NULL),
				 lie == 1 || lie == 3 ? OL_ERR_INPUT : OL_OK);
		ol_tile_reader_close(reader);
		if (lie > 0)
			find(store, names[lie])->now[10] ^= 1;
	}
	/* A checkpoint of 290 was never published, but the full tile's beginning serves it. */
	struct ol_tile_reader *reader = ol_tile_reader_open(&functions.source, 200);
	assert_non_null(reader);
	plain_root(root, 200);
	entry(bytes, 3);
	ol_merkle_leaf(leaf, bytes, 3);
	assert_int_equal(ol_tile_reader_inclusion(reader, &proof, leaf, 3, root, NULL), OL_OK);
	ol_tile_reader_close(reader);
	ol_buf_release(&out);
	free_store(store);
}

/* The same on a real folder, then everything deleted but the checkpoint and rebuilt. */
static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *where)
{
	(void)stat;
	(void)where;
	return kind == FTW_DP ? rmdir(path) : unlink(path);
}

static void test_a_folder_rebuilt(void **state)
{
	(void)state;
	char path[] = "/tmp/ol_test_tlog_XXXXXX", copy[] = "/tmp/ol_test_tlog_XXXXXX";
	struct ol_log_folder *folder, *other;
	struct ol_tlog *log;
	struct ol_log_checkpoint first, second;
	static const char *const names[] = {"tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2",
					    "tile/entries/001", "tile/entries/002.p/88"};
	assert_non_null(mkdtemp(path));
	assert_non_null(mkdtemp(copy));
	assert_int_equal(ol_log_folder_open(&folder, path, NULL), OL_OK);
	const struct ol_log_store store = ol_log_folder_store(folder);
	assert_int_equal(ol_tlog_open(&log, &store, &key, NULL), OL_OK);
	for (uint64_t size = 50; size <= 600; size += 50) {
		assert_int_equal(append_to(log, size), OL_OK);
		assert_int_equal(publish(log), OL_OK);
	}
	assert_int_equal(ol_tlog_flush(log, &first, NULL), OL_OK);
	ol_tlog_close(log);
	assert_int_equal(ol_tlog_open(&log, &store, &key, NULL), OL_OK);
	assert_int_equal(ol_tlog_size(log), 600);
	ol_tlog_close(log);
	assert_int_equal(ol_log_folder_open(&other, copy, NULL), OL_OK);
	const struct ol_log_store store2 = ol_log_folder_store(other);
	assert_int_equal(ol_tlog_create(&log, &store2, &key, NULL), OL_OK);
	assert_int_equal(append_to(log, 600), OL_OK);
	assert_int_equal(ol_tlog_flush(log, &second, NULL), OL_OK);
	assert_memory_equal(&first, &second, sizeof first);
	for (size_t i = 0; i < OL_ARRAY_LEN(names); i++) {
		struct ol_buf a, b;
		ol_buf_init(&a, OL_BUNDLE_BYTES_MAX);
		ol_buf_init(&b, OL_BUNDLE_BYTES_MAX);
		assert_int_equal(store.source.fetch(folder, &a, names[i], NULL), OL_OK);
		assert_int_equal(store2.source.fetch(other, &b, names[i], NULL), OL_OK);
		assert_int_equal(a.size, b.size);
		assert_memory_equal(a.data, b.data, a.size);
		ol_buf_release(&a);
		ol_buf_release(&b);
	}
	struct ol_buf gone;
	ol_buf_init(&gone, OL_BUNDLE_BYTES_MAX);
	assert_int_equal(store.source.fetch(folder, &gone, "tile/0/000.p/50", NULL),
			 OL_ERR_NOT_FOUND);
	ol_buf_release(&gone);
	ol_tlog_close(log);
	ol_log_folder_close(folder);
	ol_log_folder_close(other);
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	nftw(copy, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_around_the_edges_of_tiles),
		cmocka_unit_test(test_three_levels),
		cmocka_unit_test(test_opening_again_goes_on),
		cmocka_unit_test(test_every_power_cut),
		cmocka_unit_test(test_a_failure_is_final),
		cmocka_unit_test(test_damage_is_found_when_opening),
		cmocka_unit_test(test_what_is_not_published),
		cmocka_unit_test(test_tiles_that_lie),
		cmocka_unit_test(test_a_folder_rebuilt),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
