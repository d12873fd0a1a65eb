/* bench_tlog [ENTRIES [BYTES]]: what the public log costs: appending, making a checkpoint durable
 * and public, proofs out of the files, and checking them. On a folder beside the working one. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "ledger/test_log.h"

#include <stdio.h>
#include <stdlib.h>

enum { PUBLISHED = 100, PROOFS = 2000 };

static void publish(struct test_log *t)
{
	struct ol_log_checkpoint checkpoint;
	struct ol_buf note;
	test_log_note(t, &note, &checkpoint);
	OL_ASSERT(ol_tlog_publish(t->log, note.data, note.size, NULL) == OL_OK);
	ol_buf_release(&note);
}

int main(int argc, char **argv)
{
	const uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
	const size_t bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 800;
	static uint8_t entry[OL_ENTRY_MAX];
	static double times[PUBLISHED];
	struct test_log t;
	struct ol_proof proof;
	struct ol_log_checkpoint checkpoint;
	OL_ASSERT(entries > 0 && bytes >= 8 && bytes <= sizeof entry);
	test_log_make(&t, 1, 0, 0);
	double start = ol_clock_seconds();
	for (uint64_t i = 0; i < entries; i++) {
		memcpy(entry, &i, sizeof i);
		OL_ASSERT(ol_tlog_append(t.log, entry, bytes, NULL) == OL_OK);
	}
	publish(&t);
	double seconds = ol_clock_seconds() - start;
	printf("append     %9.0f entries/s of %zu bytes, checkpoint included\n",
	       (double)entries / seconds, bytes);
	for (int i = 0; i < PUBLISHED; i++) {
		for (int j = 0; j < 10; j++)
			OL_ASSERT(ol_tlog_append(t.log, entry, bytes, NULL) == OL_OK);
		start = ol_clock_seconds();
		publish(&t);
		times[i] = ol_clock_seconds() - start;
	}
	printf("publish    %9.2f ms (median of %d, 10 entries each)\n",
	       1e3 * ol_median(times, PUBLISHED), PUBLISHED);
	OL_ASSERT(ol_tlog_flush(t.log, &checkpoint, NULL) == OL_OK);
	struct ol_tile_reader *reader = ol_tile_reader_open(&t.store.source, checkpoint.size);
	OL_ASSERT(reader);
	const struct ol_tree tree = ol_tile_reader_tree(reader);
	uint64_t random = 1;
	start = ol_clock_seconds();
	for (int i = 0; i < PROOFS; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		OL_ASSERT(ol_inclusion_prove(&tree, &proof, (random >> 20) % checkpoint.size,
					     checkpoint.size, NULL) == OL_OK);
	}
	printf("prove      %9.0f inclusion proofs/s out of the files\n",
	       PROOFS / (ol_clock_seconds() - start));
	uint8_t leaf[OL_MERKLE_BYTES] = {0};
	int right = 0;
	start = ol_clock_seconds();
	for (int i = 0; i < PROOFS; i++)
		right += ol_inclusion_verify(&proof, leaf, (uint64_t)i, checkpoint.size,
					     checkpoint.root);
	printf("verify     %9.0f inclusion proofs/s (%d of them right)\n",
	       PROOFS / (ol_clock_seconds() - start), right);
	ol_tile_reader_close(reader);
	test_log_free(&t);
	return 0;
}
