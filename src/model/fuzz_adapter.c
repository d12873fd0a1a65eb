/* Any bytes as an adapter_config.json, a NUL, and an adapter_model.safetensors: what is taken is
 * written and taken again without a change. */
#include <string.h>

#include "model/adapter_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct ol_config base = {
	.arch = OL_ARCH_LLAMA,
	.vocab_size = 5,
	.hidden = 4,
	.ffn = 6,
	.layers = 2,
	.heads = 2,
	.kv_heads = 1,
	.head_dim = 2,
};

static void round_trip(const struct ol_adapter *adapter)
{
	struct ol_adapter *again = NULL;
	struct ol_buf first, second;
	struct ol_error err;
	ol_buf_init(&first, OL_ADAPTER_CONFIG_MAX);
	ol_buf_init(&second, OL_ADAPTER_CONFIG_MAX);
	OL_ASSERT(ol_peft_config_write(&first, adapter));
	OL_ASSERT(ol_adapter_open_bytes(&again, first.data, first.size, adapter->file,
					adapter->file_bytes, "again", &base, &err) == OL_OK);
	OL_ASSERT(memcmp(adapter->sha256, again->sha256, OL_SHA256_BYTES) == 0);
	OL_ASSERT(ol_peft_config_write(&second, again));
	OL_ASSERT(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
	for (int i = 0; i < adapter->count; i++)
		OL_ASSERT(adapter->tensors[i].rank == again->tensors[i].rank &&
			  (adapter->tensors[i].rank == 0 ||
			   adapter->tensors[i].scale == again->tensors[i].scale));
	ol_buf_release(&first);
	ol_buf_release(&second);
	ol_adapter_close(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ol_adapter *adapter = NULL;
	struct ol_error err;
	const uint8_t *split = size ? memchr(data, '\0', size) : NULL;
	const size_t length = split ? (size_t)(split - data) : size;
	if (ol_adapter_open_bytes(&adapter, (const char *)data, length, split ? split + 1 : data,
				  split ? size - length - 1 : 0, "fuzz", &base, &err) == OL_OK)
		round_trip(adapter);
	else
		OL_ASSERT(err.text[0] != '\0' && !strchr(err.text, '\n'));
	ol_adapter_close(adapter);
	return 0;
}
