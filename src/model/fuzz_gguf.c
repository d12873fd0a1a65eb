/* Any bytes as a GGUF file: its config and its tokenizer come out, or one line says why not. */
#include <string.h>

#include "model/gguf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct ol_gguf *gguf)
{
	struct ol_config config;
	struct ol_error err;
	struct ol_buf text;
	const char *name;
	float row[256];
	ol_buf_init(&text, 1 << 24);
	if (ol_gguf_config(&config, gguf, "fuzz", &err) == OL_OK)
		OL_ASSERT(ol_config_check(&config, "fuzz", NULL) == OL_OK);
	(void)!ol_gguf_tokenizer(&text, &name, gguf, "fuzz", &err);
	ol_buf_release(&text);
	for (size_t i = 0; i < gguf->tensors.count; i++) {
		const struct ol_source_tensor *t = &gguf->tensors.items[i];
		const int cols = ol_source_block_values(t->type);
		const uint64_t blocks = t->bytes / (uint64_t)ol_source_block_bytes(t->type);
		for (uint64_t b = 0; b < OL_MIN(blocks, 64u); b++)
			ol_source_read_row(row, t, b, cols);
		ol_source_read_row(row, t, blocks - 1, cols);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_gguf gguf;
	struct ol_error err;
	if (ol_gguf_read(&gguf, data, size, "fuzz", &err) == OL_OK)
		read_all(&gguf);
	else
		OL_ASSERT(err.text[0] != '\0' && !strchr(err.text, '\n'));
	ol_gguf_release(&gguf);
	return 0;
}
