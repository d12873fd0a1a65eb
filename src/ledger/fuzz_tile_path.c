/* Any text as the name of a tile, and any bytes as a bundle of entries. */
#include <string.h>

#include "ledger/tile_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_tile tile;
	struct ol_bundle bundle = {data, size, 0};
	const uint8_t *entry;
	char text[2 * OL_TILE_PATH_MAX], again[OL_TILE_PATH_MAX];
	size_t entry_size, total = 0;
	while (ol_bundle_next(&bundle, &entry, &entry_size))
		total += 2 + entry_size;
	OL_ASSERT(total == bundle.offset && total <= size);
	if (size >= sizeof text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (ol_tile_path_parse(&tile, text)) {
		ol_tile_path(again, &tile);
		OL_ASSERT(strcmp(again, text) == 0);
		OL_ASSERT(tile.width >= 1 && tile.width <= OL_TILE_WIDTH);
	}
	return 0;
}
