#include "ledger/tile.h"
#include "ledger/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void ol_tile_path(char path_out[OL_TILE_PATH_MAX], const struct ol_tile *tile)
{
	char level[16], groups[48];
	size_t at = sizeof groups - 1;
	uint64_t index = tile->index;
	OL_ASSERT(tile->width >= 1 && tile->width <= OL_TILE_WIDTH);
	OL_ASSERT(tile->level >= OL_TILE_ENTRIES && tile->level < OL_TILE_LEVELS);
	groups[at] = '\0';
	for (bool last = true; last || index > 0; last = false) {
		char group[8];
		const int length = snprintf(group, sizeof group, last ? "%03u" : "x%03u/",
					    (unsigned)(index % 1000));
		at -= (size_t)length;
		memcpy(groups + at, group, (size_t)length);
		index /= 1000;
	}
	if (tile->level == OL_TILE_ENTRIES)
		snprintf(level, sizeof level, "entries");
	else
		snprintf(level, sizeof level, "%d", tile->level);
	if (tile->width < OL_TILE_WIDTH)
		snprintf(path_out, OL_TILE_PATH_MAX, "tile/%s/%s.p/%" PRIu32, level, groups + at,
			 tile->width);
	else
		snprintf(path_out, OL_TILE_PATH_MAX, "tile/%s/%s", level, groups + at);
}

static bool digits_of_index(uint64_t *index, const char *text)
{
	for (int i = 0; i < 3; i++) {
		if (text[i] < '0' || text[i] > '9' || *index > INT64_MAX / 10 - 1)
			return false;
		*index = *index * 10 + (uint64_t)(text[i] - '0');
	}
	return true;
}

bool ol_tile_path_parse(struct ol_tile *tile, const char *path)
{
	char again[OL_TILE_PATH_MAX];
	uint64_t width = OL_TILE_WIDTH;
	const char *at = path;
	if (strnlen(path, OL_TILE_PATH_MAX) == OL_TILE_PATH_MAX || strncmp(at, "tile/", 5) != 0)
		return false;
	at += 5;
	tile->index = 0;
	if (strncmp(at, "entries/", 8) == 0) {
		tile->level = OL_TILE_ENTRIES;
		at += 8;
	} else if (at[0] >= '0' && at[0] < '0' + OL_TILE_LEVELS && at[1] == '/') {
		tile->level = at[0] - '0';
		at += 2;
	} else {
		return false;
	}
	for (; *at == 'x'; at += 5)
		if (!digits_of_index(&tile->index, at + 1) || at[4] != '/')
			return false;
	if (!digits_of_index(&tile->index, at))
		return false;
	at += 3;
	if (strncmp(at, ".p/", 3) == 0) {
		if (!ol_decimal_parse(&width, at + 3, strlen(at + 3), OL_TILE_WIDTH - 1) ||
		    width == 0)
			return false;
	} else if (*at != '\0') {
		return false;
	}
	tile->width = (uint32_t)width;
	/* Superfluous groups ("x000/001") are the one odd spelling left. */
	ol_tile_path(again, tile);
	return strcmp(again, path) == 0;
}

uint32_t ol_tile_width(uint64_t size, int level, uint64_t index)
{
	const uint64_t hashes = size >> 8 * OL_MAX(level, 0);
	if (index > hashes / OL_TILE_WIDTH)
		return 0;
	return (uint32_t)OL_MIN(hashes - index * OL_TILE_WIDTH, (uint64_t)OL_TILE_WIDTH);
}

void ol_tile_subtree(uint8_t out[OL_MERKLE_BYTES], const uint8_t *hashes, int height)
{
	uint8_t level[OL_TILE_WIDTH / 2][OL_MERKLE_BYTES];
	OL_ASSERT(height >= 0 && height <= 8);
	if (height == 0) {
		memcpy(out, hashes, OL_MERKLE_BYTES);
		return;
	}
	int count = 1 << (height - 1);
	for (int i = 0; i < count; i++)
		ol_merkle_node(level[i], hashes + (size_t)(2 * i) * OL_MERKLE_BYTES,
			       hashes + (size_t)(2 * i + 1) * OL_MERKLE_BYTES);
	for (count /= 2; count >= 1; count /= 2)
		for (int i = 0; i < count; i++)
			ol_merkle_node(level[i], level[2 * i], level[2 * i + 1]);
	memcpy(out, level[0], OL_MERKLE_BYTES);
}
