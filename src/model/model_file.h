/* model/model_file.h, floor 2: the .olm file, version 1 (docs/FORMATS.md).
 *
 *     header 256 | config text | text directory | tensor directory | texts | padding | weights
 *
 * Little-endian. Every offset follows from the counts and sizes, so there is one right value for
 * each and a reader checks for it; what a reader need not do is trust any of them. */
#ifndef OL_MODEL_MODEL_FILE_H
#define OL_MODEL_MODEL_FILE_H

#include "base/file.h"
#include "model/model.h"
#include "model/model_id.h"

#define OL_MODEL_FILE_MAGIC "OLMODEL\n"
enum {
	OL_MODEL_FILE_VERSION = 1,
	OL_MODEL_PAGE = 4096, /* the weights begin at a multiple of this */
	OL_MODEL_CONFIG_MAX = 1 << 16,
	OL_MODEL_TEXT_MAX = 256 << 20 /* of one text */
};

struct ol_file_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t weight_type; /* enum ol_weight_type: what the matrices were asked to be */
	char arithmetic[32];  /* the version whose rules quantised them, NUL-padded       */
	uint8_t id[OL_MODEL_ID_BYTES];
	uint64_t file_bytes;
	uint64_t config_offset, config_bytes;
	uint64_t texts_offset;   /* text_count ol_file_text   */
	uint64_t tensors_offset; /* tensor_count ol_file_tensor */
	uint64_t data_offset, data_bytes;
	uint32_t text_count, tensor_count;
	uint8_t reserved[80]; /* zero */
	/* SHA-256 over all bytes before the weights, these 32 left out. */
	uint8_t checksum[OL_SHA256_BYTES];
};

struct ol_file_text {
	char name[OL_TEXT_NAME_MAX]; /* NUL-padded; entries ascend by name */
	uint64_t offset, bytes;      /* a NUL follows, not counted          */
	uint64_t reserved;           /* zero */
};

struct ol_file_tensor {
	char name[OL_TENSOR_NAME_MAX]; /* NUL-padded */
	uint32_t type;
	int32_t rows, cols;
	uint32_t vector;        /* 1: plain floats; 0: panels          */
	uint64_t offset, bytes; /* the offset counts from data_offset */
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are mapped as they are");
_Static_assert(sizeof(struct ol_file_header) == 256, "model file v1");
_Static_assert(offsetof(struct ol_file_header, id) == 48, "model file v1");
_Static_assert(offsetof(struct ol_file_header, file_bytes) == 80, "model file v1");
_Static_assert(offsetof(struct ol_file_header, checksum) == 224, "model file v1");
_Static_assert(sizeof(struct ol_file_text) == 64, "model file v1");
_Static_assert(sizeof(struct ol_file_tensor) == 80, "model file v1");
_Static_assert(offsetof(struct ol_file_tensor, offset) == 64, "model file v1");

/* The checksum of a file whose header is `header` and whose metadata end at data_offset. */
OL_MUST_CHECK bool ol_model_file_checksum(uint8_t out[OL_SHA256_BYTES],
					  const struct ol_file_header *header, const uint8_t *after,
					  size_t after_bytes);

/* Fills canonical with rows row0 .. row0+count-1 of a tensor. */
typedef enum ol_status ol_rows_fn(void *context, const struct ol_tensor *tensor, void *canonical,
				  int row0, int count, struct ol_error *err);

/* How many rows are handled at a time: whole panels, a few megabytes. */
int ol_tensor_chunk_rows(const struct ol_tensor *tensor);

/* Writes a model file, tensor by tensor in the layout's order, all or nothing. texts ascend by
 * name. progress (may be NULL) counts bytes of weights; its false cancels. */
struct ol_model_source {
	const struct ol_config *config;
	enum ol_weight_type type;
	const struct ol_model_text *texts;
	int text_count;
	ol_rows_fn *rows;
	void *context;
	bool (*progress)(void *context, uint64_t done, uint64_t total);
	void *progress_context;
};
OL_MUST_CHECK enum ol_status ol_model_write(const char *path, const struct ol_model_source *source,
					    struct ol_error *err);

/* As ol_model_open, over bytes in memory (for the fuzzer): the model borrows them. */
OL_MUST_CHECK enum ol_status ol_model_open_bytes(struct ol_model **model_out, const uint8_t *bytes,
						 size_t size, const char *path,
						 struct ol_error *err);

#endif
