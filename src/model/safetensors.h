/* model/safetensors.h, floor 2: reading .safetensors files.
 *
 *     u64 header length | JSON header, padded with spaces | tensors, back to back, to the end
 *
 * Nothing in the file is trusted: offsets that overlap, leave holes, leave the file or do not match
 * their shapes, names that stand twice, and headers above 100 MB are refused. */
#ifndef OL_MODEL_SAFETENSORS_H
#define OL_MODEL_SAFETENSORS_H

#include "base/base.h"
#include "model/source.h"

enum { OL_SAFETENSORS_HEADER_MAX = 100000000, OL_SAFETENSORS_TENSORS_MAX = 1 << 20 };

/* Appends the tensors of one file to the list (unsorted); they borrow bytes and path. A list that
 * failed is still the caller's to release. */
OL_MUST_CHECK enum ol_status ol_safetensors_read(struct ol_source_list *list, const uint8_t *bytes,
						 size_t size, const char *path,
						 struct ol_error *err);

#endif
