/* tests/fuzz_replay.c: a main() for fuzz targets in builds without libFuzzer.
 *
 *     room_fuzz_x FOLDER-OR-FILE...
 *
 * Feeds each file to the target as it is, cut short at several lengths, and with single bytes
 * changed. The cuts and changes are the same on every run; FUZZ_REPLAY_ROUNDS (default 1)
 * multiplies them. An absent or empty folder is a failure: a replay of nothing proves nothing. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	CUTS = 8,
	CHANGES = 32,
	ROUNDS_MAX = 100000,
	/* A mutation costs a pass over the file: large files get fewer, at least one each. */
	MUTATED_BYTES_MAX = 4 << 20
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct counts {
	long files, runs;
};

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* The target gets a copy of exactly size bytes, so that a sanitizer sees one byte too far. */
static void feed(struct counts *counts, const uint8_t *data, size_t size, size_t at, uint8_t flip)
{
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy) {
		fprintf(stderr, "fuzz_replay: out of memory\n");
		exit(1);
	}
	if (size > 0)
		memcpy(copy, data, size);
	if (flip)
		copy[at] ^= flip;
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	counts->runs++;
}

static void replay_bytes(struct counts *counts, const uint8_t *data, size_t size, long rounds)
{
	uint64_t state = 0x6f70656e6c6564 + size;
	const long affordable = size > 0 ? (long)(MUTATED_BYTES_MAX / size) + 1 : 0;
	const long cuts = OL_MIN(CUTS, affordable) * rounds;
	const long changes = OL_MIN(CHANGES, affordable) * rounds;

	counts->files++;
	feed(counts, data, size, 0, 0);
	if (size == 0)
		return;
	feed(counts, data, size - 1, 0, 0);
	for (long i = 0; i < cuts; i++)
		feed(counts, data, next_random(&state) % size, 0, 0);
	for (long i = 0; i < changes; i++) {
		const size_t at = next_random(&state) % size;
		/* Half of them change one bit, half the whole byte. */
		const uint32_t r = next_random(&state);
		feed(counts, data, size, at,
		     r & 8 ? (uint8_t)(1u << (r & 7)) : (uint8_t)(r >> 8 | 1));
	}
}

static bool replay_file(struct counts *counts, const char *path, long rounds)
{
	struct ol_map map;
	struct ol_error err;
	if (ol_map_open(&map, path, &err) != OL_OK) {
		fprintf(stderr, "fuzz_replay: %s\n", err.text);
		return false;
	}
	replay_bytes(counts, map.data, map.size, rounds);
	ol_map_close(&map);
	return true;
}

static bool replay_folder(struct counts *counts, const char *path, long rounds)
{
	struct dirent **entries;
	const long before = counts->files;
	const int count = scandir(path, &entries, NULL, alphasort);
	bool ok = count >= 0;
	if (!ok)
		fprintf(stderr, "fuzz_replay: cannot read %s: %s\n", path, strerror(errno));
	for (int i = 0; i < count; i++) {
		char file[4096];
		const int length = snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			ok = length > 0 && (size_t)length < sizeof file &&
			     replay_file(counts, file, rounds) && ok;
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	if (ok && counts->files == before) {
		fprintf(stderr, "fuzz_replay: %s holds no file; commit a corpus there\n", path);
		ok = false;
	}
	return ok;
}

int main(int argc, char **argv)
{
	struct counts counts = {0};
	const char *wish = getenv("FUZZ_REPLAY_ROUNDS");
	const long rounds = wish ? OL_MIN(OL_MAX(strtol(wish, NULL, 10), 1), ROUNDS_MAX) : 1;
	bool ok = argc > 1;
	if (!ok)
		fprintf(stderr, "usage: %s CORPUS-FOLDER-OR-FILE...\n", argv[0]);
	for (int i = 1; i < argc; i++) {
		struct stat st;
		if (stat(argv[i], &st) == 0 && !S_ISDIR(st.st_mode))
			ok = replay_file(&counts, argv[i], rounds) && ok;
		else
			ok = replay_folder(&counts, argv[i], rounds) && ok;
	}
	printf("fuzz_replay: %ld runs of %ld files\n", counts.runs, counts.files);
	return ok ? 0 : 1;
}
