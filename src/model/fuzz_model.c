/* Any bytes as a model file. The size and the checksum are made right first, or nothing behind them
 * would ever be reached. */
#include <stdlib.h>
#include <string.h>

#include "model/model_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *bytes, size_t size)
{
	struct ol_file_header h;
	if (size < sizeof h)
		return;
	memcpy(&h, bytes, sizeof h);
	h.file_bytes = size;
	if (h.data_offset >= sizeof h && h.data_offset <= size)
		OL_ASSERT(ol_model_file_checksum(h.checksum, &h, bytes + sizeof h,
						 h.data_offset - sizeof h));
	memcpy(bytes, &h, sizeof h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_model *model;
	struct ol_error err;
	/* Aligned as a mapping is; the block ends where the file does, so that a sanitizer sees the
	 * first byte too far. */
	void *block;
	if (posix_memalign(&block, 64, size ? size : 1) != 0)
		return 0;
	uint8_t *bytes = block;
	if (size)
		memcpy(bytes, data, size);
	seal(bytes, size);
	if (ol_model_open_bytes(&model, bytes, size, "fuzz", &err) == OL_OK) {
		(void)!ol_model_verify(model, &err);
		ol_model_close(model);
	} else {
		OL_ASSERT(err.text[0] != '\0' && !strchr(err.text, '\n'));
	}
	free(bytes);
	return 0;
}
