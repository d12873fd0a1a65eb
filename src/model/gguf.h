/* model/gguf.h, floor 2: GGUF files, version 3 (and 2, which differs in nothing we read).
 *
 *     "GGUF" version counts | key, type, value … | name, shape, type, offset … | padding | tensors
 *
 * Reading trusts nothing: every length, offset, type and name is checked, keys and tensors that
 * stand twice are refused, and so are tensors that overlap, leave holes or leave the file. Values
 * are views into the mapped bytes. Writing fills an ol_buf with the part before the tensors. */
#ifndef OL_MODEL_GGUF_H
#define OL_MODEL_GGUF_H

#include "base/buf.h"
#include "model/source.h"

enum ol_gguf_type {
	OL_GGUF_U8 = 0,
	OL_GGUF_I8 = 1,
	OL_GGUF_U16 = 2,
	OL_GGUF_I16 = 3,
	OL_GGUF_U32 = 4,
	OL_GGUF_I32 = 5,
	OL_GGUF_F32 = 6,
	OL_GGUF_BOOL = 7,
	OL_GGUF_STRING = 8,
	OL_GGUF_ARRAY = 9,
	OL_GGUF_U64 = 10,
	OL_GGUF_I64 = 11,
	OL_GGUF_F64 = 12
};
enum { OL_GGUF_TYPES = 13, OL_GGUF_KEYS_MAX = 1 << 16, OL_GGUF_TENSORS_MAX = 1 << 20 };

/* Bytes of a file; not NUL-terminated. */
struct ol_gguf_text {
	const char *bytes;
	size_t size;
};

struct ol_gguf_value {
	struct ol_gguf_text key;
	enum ol_gguf_type type, item; /* item: of an array */
	uint64_t count;               /* of an array; else 1 */
	const uint8_t *at;            /* the value, or the first item */
};

struct ol_gguf {
	struct ol_gguf_value *values; /* ascending by key */
	size_t count;
	struct ol_source_list tensors; /* sorted by name */
	uint32_t version;
};

/* The result borrows bytes and path. Release it also after a failure. */
OL_MUST_CHECK enum ol_status ol_gguf_read(struct ol_gguf *gguf, const uint8_t *bytes, size_t size,
					  const char *path, struct ol_error *err);
void ol_gguf_release(struct ol_gguf *gguf);

/* NULL: no such key. */
const struct ol_gguf_value *ol_gguf_find(const struct ol_gguf *gguf, const char *key);
/* False where the value is of another kind. Integers of any width; floats of both. */
bool ol_gguf_int(const struct ol_gguf_value *value, int64_t *out);
bool ol_gguf_real(const struct ol_gguf_value *value, double *out);
bool ol_gguf_bool(const struct ol_gguf_value *value, bool *out);
bool ol_gguf_string(const struct ol_gguf_value *value, struct ol_gguf_text *out);
bool ol_gguf_is_array(const struct ol_gguf_value *value, enum ol_gguf_type item);
/* The string at *cursor, which moves past it; begin with value->at, at most value->count times. */
struct ol_gguf_text ol_gguf_next_string(const uint8_t **cursor);

/* Number in the file of a type that we write; and the type of such a number. */
uint32_t ol_gguf_tensor_type(enum ol_source_type type);

/* Writing: one key, its type and its value. */

void ol_gguf_put_header(struct ol_buf *out, uint64_t tensors, uint64_t keys);
void ol_gguf_put_u32(struct ol_buf *out, const char *key, uint32_t value);
void ol_gguf_put_f32(struct ol_buf *out, const char *key, float value);
void ol_gguf_put_bool(struct ol_buf *out, const char *key, bool value);
void ol_gguf_put_string(struct ol_buf *out, const char *key, const char *bytes, size_t size);
/* The items follow, count of them: ol_gguf_put_item, or plain little-endian numbers. */
void ol_gguf_put_array(struct ol_buf *out, const char *key, enum ol_gguf_type item, uint64_t count);
void ol_gguf_put_item(struct ol_buf *out, const char *bytes, size_t size);
/* shape: outermost first, as everywhere in this program. */
void ol_gguf_put_tensor(struct ol_buf *out, const char *name, enum ol_source_type type,
			const uint64_t *shape, int dims, uint64_t offset);

#endif
