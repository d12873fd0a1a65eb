#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/header_scan.h"

static const struct {
	const char *name;
	enum ol_source_type type;
	uint64_t bytes;
} dtypes[] = {
	{"F32", OL_SOURCE_F32, 4},       {"F16", OL_SOURCE_F16, 2},
	{"BF16", OL_SOURCE_BF16, 2},     {"F64", OL_SOURCE_OTHER, 8},
	{"I64", OL_SOURCE_OTHER, 8},     {"I32", OL_SOURCE_OTHER, 4},
	{"I16", OL_SOURCE_OTHER, 2},     {"I8", OL_SOURCE_OTHER, 1},
	{"U64", OL_SOURCE_OTHER, 8},     {"U32", OL_SOURCE_OTHER, 4},
	{"U16", OL_SOURCE_OTHER, 2},     {"U8", OL_SOURCE_OTHER, 1},
	{"F8_E4M3", OL_SOURCE_OTHER, 1}, {"F8_E5M2", OL_SOURCE_OTHER, 1},
	{"BOOL", OL_SOURCE_OTHER, 1},
};

struct reader {
	struct ol_json_scan scan;
	struct ol_buf name, text; /* the tensor's name, and any other string */
	struct ol_source_list *list;
	const uint8_t *data; /* where offsets count from */
	uint64_t data_bytes;
	const char *path;
	struct ol_error *err;
};

/* One tensor's entry as the header has it. */
struct entry {
	struct ol_source_tensor tensor;
	uint64_t item_bytes, begin, end;
	bool has_dtype, has_shape, has_offsets;
};

static enum ol_status refuse(struct reader *r, const char *what)
{
	char name[128];
	ol_source_printable(name, sizeof name, r->name.data ? r->name.data : "", r->name.size);
	return ol_fail(r->err, OL_ERR_INPUT, "%s: tensor %s: %s", r->path, name, what);
}

static enum ol_status bad_json(struct reader *r)
{
	if (r->name.failed || r->text.failed)
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->path);
	return ol_fail(r->err, OL_ERR_INPUT,
		       "%s: the header is not as safetensors headers are: %s at byte %zu", r->path,
		       r->scan.failure ? r->scan.failure : "something is wrong", 8 + r->scan.at);
}

static bool is_text(const struct ol_buf *buf, const char *text)
{
	return buf->size == strlen(text) && memcmp(buf->data, text, buf->size) == 0;
}

/* {"format": "pt", …}: texts only, and none of our business. */
static bool skip_metadata(struct reader *r)
{
	if (!ol_header_expect(&r->scan, '{'))
		return false;
	if (ol_header_accept(&r->scan, '}'))
		return true;
	do {
		if (!ol_header_string(&r->scan, &r->text) || !ol_header_expect(&r->scan, ':') ||
		    !ol_header_string(&r->scan, &r->text))
			return false;
	} while (ol_header_accept(&r->scan, ','));
	return ol_header_expect(&r->scan, '}');
}

static bool read_dtype(struct reader *r, struct entry *e)
{
	if (e->has_dtype || !ol_header_string(&r->scan, &r->text))
		return ol_json_scan_fail(&r->scan, "dtype stands there twice");
	for (size_t i = 0; i < OL_ARRAY_LEN(dtypes); i++)
		if (is_text(&r->text, dtypes[i].name)) {
			e->has_dtype = true;
			e->tensor.type = dtypes[i].type;
			e->item_bytes = dtypes[i].bytes;
			memcpy(e->tensor.type_name, dtypes[i].name, strlen(dtypes[i].name) + 1);
			return true;
		}
	return ol_json_scan_fail(&r->scan, "an unknown dtype");
}

static bool read_shape(struct reader *r, struct entry *e)
{
	struct ol_source_tensor *t = &e->tensor;
	if (e->has_shape || !ol_header_expect(&r->scan, '['))
		return ol_json_scan_fail(&r->scan, "shape stands there twice");
	e->has_shape = true;
	if (ol_header_accept(&r->scan, ']'))
		return true;
	do {
		if (t->dims == OL_SOURCE_DIMS_MAX)
			return ol_json_scan_fail(&r->scan, "a shape has more than 8 dimensions");
		if (!ol_header_u64(&r->scan, &t->shape[t->dims++]))
			return false;
	} while (ol_header_accept(&r->scan, ','));
	return ol_header_expect(&r->scan, ']');
}

static bool read_offsets(struct reader *r, struct entry *e)
{
	if (e->has_offsets)
		return ol_json_scan_fail(&r->scan, "data_offsets stands there twice");
	e->has_offsets = true;
	return ol_header_expect(&r->scan, '[') && ol_header_u64(&r->scan, &e->begin) &&
	       ol_header_expect(&r->scan, ',') && ol_header_u64(&r->scan, &e->end) &&
	       ol_header_expect(&r->scan, ']');
}

static bool read_entry(struct reader *r, struct entry *e)
{
	*e = (struct entry){0};
	if (!ol_header_expect(&r->scan, '{'))
		return false;
	do {
		bool ok = ol_header_string(&r->scan, &r->text) && ol_header_expect(&r->scan, ':');
		if (ok && is_text(&r->text, "dtype"))
			ok = read_dtype(r, e);
		else if (ok && is_text(&r->text, "shape"))
			ok = read_shape(r, e);
		else if (ok && is_text(&r->text, "data_offsets"))
			ok = read_offsets(r, e);
		else if (ok)
			ok = ol_json_scan_fail(&r->scan, "an unknown key in a tensor's entry");
		if (!ok)
			return false;
	} while (ol_header_accept(&r->scan, ','));
	return ol_header_expect(&r->scan, '}');
}

static enum ol_status add_entry(struct reader *r, struct entry *e)
{
	uint64_t bytes = e->item_bytes;
	if (!e->has_dtype || !e->has_shape || !e->has_offsets)
		return refuse(r, "dtype, shape or data_offsets is missing");
	for (int i = 0; i < e->tensor.dims; i++)
		if (__builtin_mul_overflow(bytes, e->tensor.shape[i], &bytes))
			return refuse(r, "its size does not fit 64 bits");
	if (e->begin > e->end || e->end > r->data_bytes)
		return refuse(r, "its data lie outside the file (is the file truncated?)");
	if (e->end - e->begin != bytes)
		return refuse(r, "its data_offsets do not match its dtype and shape");
	if (r->list->count >= OL_SAFETENSORS_TENSORS_MAX)
		return refuse(r, "the file has more than 1048576 tensors");
	e->tensor.data = r->data + e->begin;
	e->tensor.bytes = bytes;
	e->tensor.path = r->path;
	if (!ol_source_list_add(r->list, &e->tensor, r->name.data ? r->name.data : "",
				r->name.size))
		return ol_fail(r->err, OL_ERR_FULL, "%s: out of memory", r->path);
	return OL_OK;
}

static enum ol_status read_header(struct reader *r)
{
	if (!ol_header_expect(&r->scan, '{'))
		return bad_json(r);
	if (ol_header_accept(&r->scan, '}'))
		return ol_header_end(&r->scan) ? OL_OK : bad_json(r);
	bool metadata = false;
	do {
		struct entry e;
		if (!ol_header_string(&r->scan, &r->name) || !ol_header_expect(&r->scan, ':'))
			return bad_json(r);
		if (is_text(&r->name, "__metadata__")) {
			if (metadata || !skip_metadata(r))
				return bad_json(r);
			metadata = true;
			continue;
		}
		if (!read_entry(r, &e))
			return bad_json(r);
		const enum ol_status s = add_entry(r, &e);
		if (s != OL_OK)
			return s;
	} while (ol_header_accept(&r->scan, ','));
	ol_header_expect(&r->scan, '}');
	return ol_header_end(&r->scan) ? OL_OK : bad_json(r);
}

static int by_place(const void *a, const void *b)
{
	const struct ol_source_tensor *x = a, *y = b;
	if (x->data != y->data)
		return x->data < y->data ? -1 : 1;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Every byte after the header belongs to exactly one tensor. */
static enum ol_status check_cover(struct reader *r, size_t first)
{
	const size_t count = r->list->count - first;
	struct ol_source_tensor *items = count > 0 ? &r->list->items[first] : NULL;
	uint64_t end = 0;
	char name[128];
	if (count > 0)
		qsort(items, count, sizeof *items, by_place);
	for (size_t i = 0; i < count; i++) {
		const uint64_t begin = (uint64_t)(items[i].data - r->data);
		ol_source_printable(name, sizeof name, items[i].name, strlen(items[i].name));
		if (begin < end)
			return ol_fail(r->err, OL_ERR_INPUT,
				       "%s: tensor %s overlaps the one before it", r->path, name);
		if (begin > end)
			return ol_fail(r->err, OL_ERR_INPUT, "%s: there is a hole before tensor %s",
				       r->path, name);
		end += items[i].bytes;
	}
	if (end != r->data_bytes)
		return ol_fail(r->err, OL_ERR_INPUT,
			       "%s: %llu bytes after the last tensor belong to nothing", r->path,
			       (unsigned long long)(r->data_bytes - end));
	return OL_OK;
}

enum ol_status ol_safetensors_read(struct ol_source_list *list, const uint8_t *bytes, size_t size,
				   const char *path, struct ol_error *err)
{
	if (size < 8)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: %zu bytes are too few for a safetensors file", path, size);
	const uint64_t header = ol_load_u64(bytes);
	if (header > OL_SAFETENSORS_HEADER_MAX)
		return ol_fail(
			err, OL_ERR_INPUT,
			"%s: a header of %llu bytes, above the limit of %d: not a safetensors "
			"file?",
			path, (unsigned long long)header, OL_SAFETENSORS_HEADER_MAX);
	if (header > size - 8)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: the header of %llu bytes does not fit the file of %zu: it is "
			       "truncated",
			       path, (unsigned long long)header, size);
	const size_t first = list->count;
	struct reader r = {
		.scan = {.text = (const char *)bytes + 8, .size = (size_t)header},
		.list = list,
		.data = bytes + 8 + header,
		.data_bytes = size - 8 - header,
		.path = path,
		.err = err,
	};
	ol_buf_init(&r.name, OL_SAFETENSORS_HEADER_MAX);
	ol_buf_init(&r.text, OL_SAFETENSORS_HEADER_MAX);
	enum ol_status s = read_header(&r);
	ol_buf_release(&r.name);
	ol_buf_release(&r.text);
	if (s == OL_OK)
		s = check_cover(&r, first);
	return s;
}
