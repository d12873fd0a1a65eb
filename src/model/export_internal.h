/* model/export_internal.h, floor 2: what the writers of GGUF files share. */
#ifndef OL_MODEL_EXPORT_INTERNAL_H
#define OL_MODEL_EXPORT_INTERNAL_H

#include "model/gguf.h"
#include "model/model_internal.h"

/* What GGUF calls the architecture: Mistral is a llama there. */
const char *ol_gguf_arch_name(const struct ol_config *c);
/* The row of ours that stands at this row of the file: the architecture "llama" interleaves the
 * halves of each head of q and k. */
int ol_gguf_file_row(const struct ol_config *c, enum ol_tensor_role role, int row);

/* The metadata so far: keys with their values, and how many. */
struct ol_gguf_metadata {
	struct ol_buf body;
	uint64_t keys;
};

/* Appends tokenizer.* for the tokenizer kept with the model; nothing where it has none. */
OL_MUST_CHECK enum ol_status ol_export_tokenizer(struct ol_gguf_metadata *out,
						 const struct ol_model *model,
						 struct ol_error *err);

/* The GGUF name of a byte-level pre-tokenizer: by the regex of its Split, or NULL for the split of
 * GPT-2, with or without the digits set apart. NULL: GGUF has no name for it. */
const char *ol_gguf_pre_name(const char *regex, bool digits);

#endif
