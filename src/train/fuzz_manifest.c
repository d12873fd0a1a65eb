/* Any text as a manifest.json: what is taken is what would have been written. */
#include <string.h>

#include "train/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_manifest manifest;
	struct ol_error err;
	if (ol_manifest_read(&manifest, (const char *)data, size, "fuzz", &err) == OL_OK) {
		struct ol_buf text;
		ol_buf_init(&text, OL_MANIFEST_MAX);
		OL_ASSERT(ol_manifest_write(&text, &manifest));
		OL_ASSERT(text.size == size && memcmp(text.data, data, size) == 0);
		ol_buf_release(&text);
	} else {
		OL_ASSERT(err.text[0] != '\0' && !strchr(err.text, '\n'));
	}
	ol_manifest_release(&manifest);
	return 0;
}
