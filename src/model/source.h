/* model/source.h, floor 2: a tensor as somebody else's file holds it.
 *
 * What safetensors and GGUF readers produce and import consumes: name, element type, shape and a
 * place inside the mapped file. Reading a row gives floats in the order that the format's own
 * reference has (docs/FORMATS.md, "Source types"). */
#ifndef OL_MODEL_SOURCE_H
#define OL_MODEL_SOURCE_H

#include "base/base.h"

enum ol_source_type {
	OL_SOURCE_F32,
	OL_SOURCE_F16,
	OL_SOURCE_BF16,
	OL_SOURCE_Q8_0,
	OL_SOURCE_Q4_0,
	OL_SOURCE_Q4_K,
	OL_SOURCE_Q6_K,
	OL_SOURCE_OTHER /* its size is known, its values are not read: type_name says what it is */
};

enum { OL_SOURCE_DIMS_MAX = 8 };

struct ol_source_tensor {
	char *name; /* owned by the list */
	enum ol_source_type type;
	char type_name[16];
	int dims;
	uint64_t shape[OL_SOURCE_DIMS_MAX]; /* outermost first; the last lies contiguous */
	const uint8_t *data;                /* borrowed from the mapped file, any alignment */
	uint64_t bytes;
	const char *path; /* of the file, for messages; borrowed */
	bool used;        /* import has taken it */
};

/* Grows while a file is read; sorted by name once it is whole. */
struct ol_source_list {
	struct ol_source_tensor *items;
	size_t count, room;
};

void ol_source_list_release(struct ol_source_list *list);
/* Copies the tensor and its name (name_size bytes). False: out of memory. */
OL_MUST_CHECK bool ol_source_list_add(struct ol_source_list *list,
				      const struct ol_source_tensor *tensor, const char *name,
				      size_t name_size);
/* Sorts by name; refuses a name that stands twice. */
OL_MUST_CHECK enum ol_status ol_source_list_sort(struct ol_source_list *list, struct ol_error *err);
/* NULL: none of that name. The list must be sorted. */
struct ol_source_tensor *ol_source_list_find(const struct ol_source_list *list, const char *name);

/* Values per block and bytes per block: 1 and 4 for f32. OL_SOURCE_OTHER has none. */
int ol_source_block_values(enum ol_source_type type);
int ol_source_block_bytes(enum ol_source_type type);

/* The `cols` floats of row `row`; cols is a multiple of the block. */
void ol_source_read_row(float *x, const struct ol_source_tensor *tensor, uint64_t row, int cols);
/* The bytes of a row. */
const uint8_t *ol_source_row(const struct ol_source_tensor *tensor, uint64_t row, int cols);

/* Writes the name so that it is safe on a terminal: control and non-ASCII bytes become '?'. */
void ol_source_printable(char *out, size_t room, const char *name, size_t size);

#endif
