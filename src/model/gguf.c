#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum { ALIGNMENT_DEFAULT = 32, ALIGNMENT_MAX = 1 << 20, NAME_MAX_BYTES = 1024, GGUF_DIMS_MAX = 4 };

struct reader {
	const uint8_t *begin, *at, *end;
	const char *path;
	struct ol_error *err;
	struct ol_gguf *gguf;
	uint64_t alignment;
};

static enum ol_status refuse(const struct reader *r, const char *what)
{
	return ol_fail(r->err, OL_ERR_INPUT, "%s: %s, at byte %zu (is the file truncated?)",
		       r->path, what, (size_t)(r->at - r->begin));
}

static size_t left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

/* ---- Scalars and strings ------------------------------------------------------------------ */

static bool take(struct reader *r, size_t size, const uint8_t **out)
{
	if (size > left(r))
		return false;
	*out = r->at;
	r->at += size;
	return true;
}

static bool take_u32(struct reader *r, uint32_t *out)
{
	const uint8_t *p;
	if (!take(r, 4, &p))
		return false;
	*out = ol_load_u32(p);
	return true;
}

static bool take_u64(struct reader *r, uint64_t *out)
{
	const uint8_t *p;
	if (!take(r, 8, &p))
		return false;
	*out = ol_load_u64(p);
	return true;
}

static bool take_text(struct reader *r, struct ol_gguf_text *out)
{
	uint64_t size;
	const uint8_t *p;
	if (!take_u64(r, &size) || size > left(r) || !take(r, (size_t)size, &p))
		return false;
	*out = (struct ol_gguf_text){(const char *)p, (size_t)size};
	return true;
}

/* Bytes of one value; 0 for strings and arrays. */
static size_t width(enum ol_gguf_type type)
{
	static const uint8_t widths[OL_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
	return widths[type];
}

/* ---- Keys and values ---------------------------------------------------------------------- */

static bool skip_items(struct reader *r, enum ol_gguf_type item, uint64_t count)
{
	const uint8_t *p;
	struct ol_gguf_text text;
	if (item != OL_GGUF_STRING)
		return count <= left(r) / width(item) && take(r, (size_t)count * width(item), &p);
	if (count > left(r) / 8)
		return false;
	for (uint64_t i = 0; i < count; i++)
		if (!take_text(r, &text))
			return false;
	return true;
}

static enum ol_status read_value(struct reader *r, struct ol_gguf_value *v)
{
	uint32_t type, item;
	*v = (struct ol_gguf_value){.count = 1};
	if (!take_text(r, &v->key) || !take_u32(r, &type))
		return refuse(r, "a key does not fit the file");
	if (v->key.size == 0 || v->key.size > NAME_MAX_BYTES)
		return refuse(r, "a key is empty or very long");
	if (type >= OL_GGUF_TYPES)
		return refuse(r, "a value is of an unknown type");
	v->type = v->item = (enum ol_gguf_type)type;
	if (v->type == OL_GGUF_ARRAY) {
		if (!take_u32(r, &item) || !take_u64(r, &v->count))
			return refuse(r, "an array does not fit the file");
		if (item >= OL_GGUF_TYPES || item == OL_GGUF_ARRAY)
			return refuse(r, "an array is of an unknown type, or of arrays");
		v->item = (enum ol_gguf_type)item;
	}
	v->at = r->at;
	if (!skip_items(r, v->item, v->count))
		return refuse(r, "a value does not fit the file");
	if (v->type == OL_GGUF_BOOL && *v->at > 1)
		return refuse(r, "a truth value is neither 0 nor 1");
	return OL_OK;
}

static int compare_text(const struct ol_gguf_text *a, const struct ol_gguf_text *b)
{
	const int order = memcmp(a->bytes, b->bytes, OL_MIN(a->size, b->size));
	return order ? order : (a->size > b->size) - (a->size < b->size);
}

static int by_key(const void *a, const void *b)
{
	const struct ol_gguf_value *x = a, *y = b;
	return compare_text(&x->key, &y->key);
}

static enum ol_status read_values(struct reader *r, uint64_t count)
{
	struct ol_gguf *g = r->gguf;
	char name[128];
	if (count > OL_GGUF_KEYS_MAX || count > left(r) / 12)
		return refuse(r, "more keys than the file can hold, or than 65536");
	g->values = calloc((size_t)count + 1, sizeof *g->values);
	if (!g->values)
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->path);
	for (; g->count < count; g->count++) {
		const enum ol_status s = read_value(r, &g->values[g->count]);
		if (s != OL_OK)
			return s;
	}
	qsort(g->values, g->count, sizeof *g->values, by_key);
	for (size_t i = 1; i < g->count; i++)
		if (by_key(&g->values[i - 1], &g->values[i]) == 0) {
			ol_source_printable(name, sizeof name, g->values[i].key.bytes,
					    g->values[i].key.size);
			return ol_fail(r->err, OL_ERR_INPUT, "%s: the key %s stands there twice",
				       r->path, name);
		}
	return OL_OK;
}

const struct ol_gguf_value *ol_gguf_find(const struct ol_gguf *gguf, const char *key)
{
	const struct ol_gguf_value wanted = {.key = {key, strlen(key)}};
	return gguf->count == 0
		       ? NULL
		       : bsearch(&wanted, gguf->values, gguf->count, sizeof *gguf->values, by_key);
}

bool ol_gguf_int(const struct ol_gguf_value *value, int64_t *out)
{
	if (!value)
		return false;
	switch (value->type) {
	case OL_GGUF_U8: *out = *value->at; return true;
	case OL_GGUF_I8: *out = (int8_t)*value->at; return true;
	case OL_GGUF_U16: *out = ol_load_u16(value->at); return true;
	case OL_GGUF_I16: *out = (int16_t)ol_load_u16(value->at); return true;
	case OL_GGUF_U32: *out = ol_load_u32(value->at); return true;
	case OL_GGUF_I32: *out = (int32_t)ol_load_u32(value->at); return true;
	case OL_GGUF_U64:
		*out = (int64_t)OL_MIN(ol_load_u64(value->at), (uint64_t)INT64_MAX);
		return true;
	case OL_GGUF_I64: *out = (int64_t)ol_load_u64(value->at); return true;
	case OL_GGUF_F32:
	case OL_GGUF_F64:
	case OL_GGUF_BOOL:
	case OL_GGUF_STRING:
	case OL_GGUF_ARRAY: break;
	}
	return false;
}

bool ol_gguf_real(const struct ol_gguf_value *value, double *out)
{
	if (value && value->type == OL_GGUF_F32) {
		*out = (double)ol_bits_float(ol_load_u32(value->at));
		return true;
	}
	if (value && value->type == OL_GGUF_F64) {
		const uint64_t bits = ol_load_u64(value->at);
		memcpy(out, &bits, sizeof bits);
		return true;
	}
	return false;
}

bool ol_gguf_bool(const struct ol_gguf_value *value, bool *out)
{
	if (!value || value->type != OL_GGUF_BOOL)
		return false;
	*out = *value->at == 1;
	return true;
}

bool ol_gguf_is_array(const struct ol_gguf_value *value, enum ol_gguf_type item)
{
	return value && value->type == OL_GGUF_ARRAY && value->item == item;
}

struct ol_gguf_text ol_gguf_next_string(const uint8_t **cursor)
{
	const struct ol_gguf_text text = {(const char *)*cursor + 8, (size_t)ol_load_u64(*cursor)};
	*cursor += 8 + text.size;
	return text;
}

bool ol_gguf_string(const struct ol_gguf_value *value, struct ol_gguf_text *out)
{
	if (!value || value->type != OL_GGUF_STRING)
		return false;
	const uint8_t *cursor = value->at;
	*out = ol_gguf_next_string(&cursor);
	return true;
}

/* ---- Tensors ------------------------------------------------------------------------------ */

static const struct {
	uint32_t number;
	enum ol_source_type type;
	const char *name;
} types[] = {
	{0, OL_SOURCE_F32, "F32"},       {1, OL_SOURCE_F16, "F16"},
	{30, OL_SOURCE_BF16, "BF16"},    {8, OL_SOURCE_Q8_0, "Q8_0"},
	{2, OL_SOURCE_Q4_0, "Q4_0"},     {12, OL_SOURCE_Q4_K, "Q4_K"},
	{14, OL_SOURCE_Q6_K, "Q6_K"},    {3, OL_SOURCE_OTHER, "Q4_1"},
	{6, OL_SOURCE_OTHER, "Q5_0"},    {7, OL_SOURCE_OTHER, "Q5_1"},
	{10, OL_SOURCE_OTHER, "Q2_K"},   {11, OL_SOURCE_OTHER, "Q3_K"},
	{13, OL_SOURCE_OTHER, "Q5_K"},   {20, OL_SOURCE_OTHER, "IQ4_NL"},
	{23, OL_SOURCE_OTHER, "IQ4_XS"}, {39, OL_SOURCE_OTHER, "MXFP4"},
};

uint32_t ol_gguf_tensor_type(enum ol_source_type type)
{
	for (size_t i = 0; i < OL_ARRAY_LEN(types); i++)
		if (types[i].type == type && type != OL_SOURCE_OTHER)
			return types[i].number;
	OL_UNREACHABLE();
}

/* Without the size of a type nothing after it can be placed, so a type we do not read ends it. */
static enum ol_status find_type(const struct reader *r, struct ol_source_tensor *t, uint32_t number,
				const char *name)
{
	const char *type_name = "unknown";
	for (size_t i = 0; i < OL_ARRAY_LEN(types); i++) {
		if (types[i].number != number)
			continue;
		t->type = types[i].type;
		type_name = types[i].name;
		if (t->type == OL_SOURCE_OTHER)
			break;
		memcpy(t->type_name, type_name, strlen(type_name) + 1);
		return OL_OK;
	}
	return ol_fail(
		r->err, OL_ERR_UNSUPPORTED,
		"%s: tensor %s is of type %s (%u); F32, F16, BF16, Q8_0, Q4_0, Q4_K and Q6_K "
		"are read",
		r->path, name, type_name, number);
}

/* Shape and bytes; the file has the innermost dimension first. */
static enum ol_status read_shape(struct reader *r, struct ol_source_tensor *t, const char *name)
{
	uint32_t dims, type;
	uint64_t shape[GGUF_DIMS_MAX], values = 1;
	if (!take_u32(r, &dims) || dims == 0 || dims > GGUF_DIMS_MAX)
		return refuse(r, "a tensor has no dimension, or more than 4");
	for (uint32_t i = 0; i < dims; i++) {
		if (!take_u64(r, &shape[i]))
			return refuse(r, "a tensor's entry does not fit the file");
		if (shape[i] == 0 || __builtin_mul_overflow(values, shape[i], &values))
			return ol_fail(r->err, OL_ERR_INPUT,
				       "%s: tensor %s: its size is 0 or does not fit 64 bits",
				       r->path, name);
		t->shape[dims - 1 - i] = shape[i];
	}
	t->dims = (int)dims;
	if (!take_u32(r, &type))
		return refuse(r, "a tensor's entry does not fit the file");
	const enum ol_status s = find_type(r, t, type, name);
	if (s != OL_OK)
		return s;
	const uint64_t block = (uint64_t)ol_source_block_values(t->type);
	if (shape[0] % block != 0)
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: tensor %s: rows of %llu values are no whole blocks of %s",
			       r->path, name, (unsigned long long)shape[0], t->type_name);
	if (__builtin_mul_overflow(values / block, (uint64_t)ol_source_block_bytes(t->type),
				   &t->bytes))
		return ol_fail(r->err, OL_ERR_INPUT, "%s: tensor %s: its size does not fit 64 bits",
			       r->path, name);
	return OL_OK;
}

/* One entry; *offset counts from the start of the tensors, which is not known yet. */
static enum ol_status read_tensor(struct reader *r, uint64_t *offset)
{
	struct ol_source_tensor t = {.path = r->path};
	struct ol_gguf_text name;
	char printable[128];
	if (!take_text(r, &name) || name.size == 0 || name.size > NAME_MAX_BYTES)
		return refuse(r, "a tensor's name is empty, very long or not in the file");
	if (memchr(name.bytes, '\0', name.size))
		return refuse(r, "a tensor's name holds a NUL");
	ol_source_printable(printable, sizeof printable, name.bytes, name.size);
	const enum ol_status s = read_shape(r, &t, printable);
	if (s != OL_OK)
		return s;
	if (!take_u64(r, offset))
		return refuse(r, "a tensor's entry does not fit the file");
	if (!ol_source_list_add(&r->gguf->tensors, &t, name.bytes, name.size))
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->path);
	return OL_OK;
}

/* Tensors follow one another in the order of their entries, each at the next multiple of the
 * alignment, and after the last comes at most the padding. */
static enum ol_status place_tensors(struct reader *r, const uint64_t *offsets)
{
	const uint64_t at = (uint64_t)(r->at - r->begin), size = (uint64_t)(r->end - r->begin);
	const uint64_t begin = (at + r->alignment - 1) / r->alignment * r->alignment;
	uint64_t expected = 0;
	for (size_t i = 0; i < r->gguf->tensors.count; i++) {
		struct ol_source_tensor *t = &r->gguf->tensors.items[i];
		char name[128];
		ol_source_printable(name, sizeof name, t->name, strlen(t->name));
		if (offsets[i] != expected)
			return ol_fail(r->err, OL_ERR_INPUT,
				       "%s: tensor %s lies at %llu where %llu is free: it overlaps "
				       "another or leaves a hole",
				       r->path, name, (unsigned long long)offsets[i],
				       (unsigned long long)expected);
		if (begin > size || offsets[i] > size - begin ||
		    t->bytes > size - begin - offsets[i])
			return ol_fail(r->err, OL_ERR_INPUT,
				       "%s: tensor %s: its data lie outside the file (is the file "
				       "truncated?)",
				       r->path, name);
		t->data = r->begin + begin + offsets[i];
		expected = (offsets[i] + t->bytes + r->alignment - 1) / r->alignment * r->alignment;
	}
	if (r->gguf->tensors.count > 0 && size > begin && size - begin > expected)
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: %llu bytes after the last tensor belong to nothing", r->path,
			       (unsigned long long)(size - begin - expected));
	return OL_OK;
}

static enum ol_status read_tensors(struct reader *r, uint64_t count)
{
	if (count > OL_GGUF_TENSORS_MAX || count > left(r) / 32)
		return refuse(r, "more tensors than the file can hold, or than 1048576");
	uint64_t *offsets = calloc((size_t)count + 1, sizeof *offsets);
	if (!offsets)
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->path);
	enum ol_status s = OL_OK;
	for (uint64_t i = 0; s == OL_OK && i < count; i++)
		s = read_tensor(r, &offsets[i]);
	if (s == OL_OK)
		s = place_tensors(r, offsets);
	free(offsets);
	return s == OL_OK ? ol_source_list_sort(&r->gguf->tensors, r->err) : s;
}

/* ---- The file ----------------------------------------------------------------------------- */

static enum ol_status read_alignment(struct reader *r)
{
	int64_t alignment = ALIGNMENT_DEFAULT;
	const struct ol_gguf_value *value = ol_gguf_find(r->gguf, "general.alignment");
	if (value && (!ol_gguf_int(value, &alignment) || alignment < 8 ||
		      alignment > ALIGNMENT_MAX || alignment % 8 != 0))
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: general.alignment is not a multiple of 8 up to %d", r->path,
			       ALIGNMENT_MAX);
	r->alignment = (uint64_t)alignment;
	return OL_OK;
}

enum ol_status ol_gguf_read(struct ol_gguf *gguf, const uint8_t *bytes, size_t size,
			    const char *path, struct ol_error *err)
{
	struct reader r = {bytes, bytes, bytes + size, path, err, gguf, ALIGNMENT_DEFAULT};
	const uint8_t *magic;
	uint64_t tensors, keys;
	*gguf = (struct ol_gguf){0};
	if (!take(&r, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s is neither a Hugging Face model folder nor a GGUF file", path);
	if (!take_u32(&r, &gguf->version) || !take_u64(&r, &tensors) || !take_u64(&r, &keys))
		return refuse(&r, "the header does not fit the file");
	if (gguf->version != 2 && gguf->version != 3)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: GGUF version %u%s; versions 2 and 3 in little-endian are read",
			       path, gguf->version, gguf->version & 0xffff ? "" : " (big-endian)");
	enum ol_status s = read_values(&r, keys);
	if (s == OL_OK)
		s = read_alignment(&r);
	return s == OL_OK ? read_tensors(&r, tensors) : s;
}

void ol_gguf_release(struct ol_gguf *gguf)
{
	free(gguf->values);
	ol_source_list_release(&gguf->tensors);
	*gguf = (struct ol_gguf){0};
}
