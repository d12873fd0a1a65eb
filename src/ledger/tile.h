/* ledger/tile.h, floor 2: names of a log's files, as c2sp.org/tlog-tiles serves them.
 *
 *     checkpoint                       the newest signed checkpoint
 *     tile/L/N[.p/W]                   256 (or W, 1 to 255) hashes of level L
 *     tile/entries/N[.p/W]             the entries under such a tile of level 0, each after its
 *                                      length in two bytes, big-endian
 *
 * N is written in groups of three digits, all but the last after an x: 1234067 is x001/x234/067.
 * Hash i of tile N on level L is the root over the 256^L entries from (256 N + i) 256^L on. Names
 * are relative; they are the same on disk and under the URL of the log. */
#ifndef OL_LEDGER_TILE_H
#define OL_LEDGER_TILE_H

#include "crypto/merkle.h"

enum {
	OL_TILE_WIDTH = 256,
	OL_TILE_BYTES = OL_TILE_WIDTH * OL_MERKLE_BYTES,
	OL_TILE_LEVELS = 8,   /* what trees of up to 2^63 entries need */
	OL_TILE_ENTRIES = -1, /* the level of entry bundles          */
	OL_TILE_PATH_MAX = 64,
	OL_ENTRY_MAX = 65535, /* bytes of one entry                  */
	OL_BUNDLE_BYTES_MAX = OL_TILE_WIDTH * (2 + OL_ENTRY_MAX)
};

struct ol_tile {
	int level;      /* 0 .. 7, or OL_TILE_ENTRIES */
	uint32_t width; /* 1 .. 256                   */
	uint64_t index;
};

void ol_tile_path(char path_out[OL_TILE_PATH_MAX], const struct ol_tile *tile);
/* Only the one right spelling of a tile; false for everything else. */
OL_MUST_CHECK bool ol_tile_path_parse(struct ol_tile *tile, const char *path);

/* How wide this tile is in a log of so many entries: 256, less at its right edge, or 0. */
uint32_t ol_tile_width(uint64_t size, int level, uint64_t index);

/* The root over 2^height hashes. */
void ol_tile_subtree(uint8_t out[OL_MERKLE_BYTES], const uint8_t *hashes, int height);

#endif
