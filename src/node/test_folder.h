/* node/test_folder.h, floor 4: for tests: a home folder of their own, removed with all in it. */
#ifndef OL_NODE_TEST_FOLDER_H
#define OL_NODE_TEST_FOLDER_H

#include "node/home.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void test_home_make(struct ol_home *home)
{
	snprintf(home->path, sizeof home->path, "/tmp/openledger-test-XXXXXX");
	OL_ASSERT(mkdtemp(home->path));
	OL_ASSERT(setenv("OPENLEDGER_HOME", home->path, 1) == 0);
	OL_ASSERT(ol_home_open(home, NULL) == OL_OK);
}

static inline void test_folder_remove(const char *folder)
{
	DIR *dir = opendir(folder);
	for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
		char path[OL_PATH_MAX];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (ol_path_join(path, NULL, folder, "/", e->d_name) == OL_OK && unlink(path) != 0)
			test_folder_remove(path);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

/* A small generator for seeded properties (xorshift64*). */
static inline uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

#endif
