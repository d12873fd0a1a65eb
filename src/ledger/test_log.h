/* ledger/test_log.h, floor 2: for tests: a signed log in a temporary folder, and its evil twin. */
#ifndef OL_LEDGER_TEST_LOG_H
#define OL_LEDGER_TEST_LOG_H

#include "ledger/log_store.h"
#include "ledger/proof.h"
#include "ledger/tile_reader.h"
#include "ledger/tlog.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct test_log {
	char path[64];
	struct ol_log_folder *folder;
	struct ol_log_store store;
	struct ol_tlog *log;
	struct ol_ed25519_key secret;
	struct ol_note_key key;
	uint64_t fork; /* entries from here on differ from those of logs with another `twin` */
	uint8_t twin;
};

/* Logs of the same key_seed have the same key and origin. */
static inline void test_log_make(struct test_log *t, uint8_t key_seed, uint64_t fork, uint8_t twin)
{
	const uint8_t seed[32] = {key_seed};
	memset(t, 0, sizeof *t);
	snprintf(t->path, sizeof t->path, "/tmp/openledger-test-XXXXXX");
	OL_ASSERT(mkdtemp(t->path));
	t->fork = fork;
	t->twin = twin;
	ol_ed25519_key_from_seed(&t->secret, seed);
	OL_ASSERT(ol_note_key_init(&t->key, "example.com/log", OL_NOTE_ED25519,
				   t->secret.public_key, NULL) == OL_OK);
	OL_ASSERT(ol_log_folder_open(&t->folder, t->path, NULL) == OL_OK);
	t->store = ol_log_folder_store(t->folder);
	OL_ASSERT(ol_tlog_open(&t->log, &t->store, &t->key, NULL) == OL_OK);
}

/* The signed checkpoint of the log as it is, unpublished. */
static inline void test_log_note(struct test_log *t, struct ol_buf *note,
				 struct ol_log_checkpoint *checkpoint)
{
	struct ol_buf body;
	OL_ASSERT(ol_tlog_flush(t->log, checkpoint, NULL) == OL_OK);
	ol_buf_init(&body, OL_NOTE_BYTES_MAX);
	ol_buf_init(note, OL_NOTE_BYTES_MAX);
	OL_ASSERT(ol_log_checkpoint_print(&body, checkpoint));
	OL_ASSERT(ol_note_append_text(note, body.data, body.size));
	OL_ASSERT(ol_note_sign(note, &t->key, &t->secret, body.data, body.size));
	ol_buf_release(&body);
}

static inline void test_log_grow(struct test_log *t, uint64_t size)
{
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note;
	while (ol_tlog_size(t->log) < size) {
		const uint64_t i = ol_tlog_size(t->log);
		char entry[64];
		const int length = snprintf(entry, sizeof entry, "entry %llu of %d",
					    (unsigned long long)i, i < t->fork ? 0 : t->twin);
		OL_ASSERT(ol_tlog_append(t->log, entry, (size_t)length, NULL) == OL_OK);
	}
	test_log_note(t, &note, &checkpoint);
	OL_ASSERT(ol_tlog_publish(t->log, note.data, note.size, NULL) == OL_OK);
	ol_buf_release(&note);
}

static inline void test_log_proof(struct test_log *t, struct ol_proof *proof, uint64_t old_size,
				  uint64_t size)
{
	struct ol_tile_reader *reader = ol_tile_reader_open(&t->store.source, size);
	OL_ASSERT(reader);
	const struct ol_tree tree = ol_tile_reader_tree(reader);
	OL_ASSERT(ol_consistency_prove(&tree, proof, old_size, size, NULL) == OL_OK);
	ol_tile_reader_close(reader);
}

static inline void test_log_remove(const char *folder)
{
	DIR *dir = opendir(folder);
	for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
		char path[512];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof path, "%.200s/%.255s", folder, e->d_name);
		if (unlink(path) != 0)
			test_log_remove(path);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

static inline void test_log_free(struct test_log *t)
{
	ol_tlog_close(t->log);
	ol_log_folder_close(t->folder);
	test_log_remove(t->path);
}

#endif
