#include "model/gguf.h"

#include <string.h>

#include "base/bytes.h"

static void put_u32(struct ol_buf *out, uint32_t value)
{
	uint8_t bytes[4];
	ol_store_u32(bytes, value);
	ol_buf_append(out, bytes, sizeof bytes);
}

static void put_u64(struct ol_buf *out, uint64_t value)
{
	uint8_t bytes[8];
	ol_store_u64(bytes, value);
	ol_buf_append(out, bytes, sizeof bytes);
}

static void put_key(struct ol_buf *out, const char *key, enum ol_gguf_type type)
{
	ol_gguf_put_item(out, key, strlen(key));
	put_u32(out, type);
}

void ol_gguf_put_header(struct ol_buf *out, uint64_t tensors, uint64_t keys)
{
	ol_buf_append(out, "GGUF", 4);
	put_u32(out, 3);
	put_u64(out, tensors);
	put_u64(out, keys);
}

void ol_gguf_put_u32(struct ol_buf *out, const char *key, uint32_t value)
{
	put_key(out, key, OL_GGUF_U32);
	put_u32(out, value);
}

void ol_gguf_put_f32(struct ol_buf *out, const char *key, float value)
{
	put_key(out, key, OL_GGUF_F32);
	put_u32(out, ol_float_bits(value));
}

void ol_gguf_put_bool(struct ol_buf *out, const char *key, bool value)
{
	const uint8_t byte = value;
	put_key(out, key, OL_GGUF_BOOL);
	ol_buf_append(out, &byte, 1);
}

void ol_gguf_put_string(struct ol_buf *out, const char *key, const char *bytes, size_t size)
{
	put_key(out, key, OL_GGUF_STRING);
	ol_gguf_put_item(out, bytes, size);
}

void ol_gguf_put_array(struct ol_buf *out, const char *key, enum ol_gguf_type item, uint64_t count)
{
	put_key(out, key, OL_GGUF_ARRAY);
	put_u32(out, item);
	put_u64(out, count);
}

void ol_gguf_put_item(struct ol_buf *out, const char *bytes, size_t size)
{
	put_u64(out, size);
	ol_buf_append(out, bytes, size);
}

void ol_gguf_put_tensor(struct ol_buf *out, const char *name, enum ol_source_type type,
			const uint64_t *shape, int dims, uint64_t offset)
{
	ol_gguf_put_item(out, name, strlen(name));
	put_u32(out, (uint32_t)dims);
	for (int i = dims; i-- > 0;)
		put_u64(out, shape[i]);
	put_u32(out, ol_gguf_tensor_type(type));
	put_u64(out, offset);
}
