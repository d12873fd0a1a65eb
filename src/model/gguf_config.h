/* model/gguf_config.h, floor 2: GGUF metadata to a config and to a tokenizer. */
#ifndef OL_MODEL_GGUF_CONFIG_H
#define OL_MODEL_GGUF_CONFIG_H

#include "model/config.h"
#include "model/gguf.h"

/* A checked config out of general.architecture and its keys. Whether the embeddings are tied is for
 * the tensors to say; it is set to false. */
OL_MUST_CHECK enum ol_status ol_gguf_config(struct ol_config *config, const struct ol_gguf *gguf,
					    const char *path, struct ol_error *err);

/* llama3 scaling as GGUF has it: the divisor of each of the head_dim / 2 rotary frequencies. */
void ol_gguf_rope_factors(float *factors, const struct ol_config *config);

/* The tokenizer: *name becomes "tokenizer.json" or "tokenizer.model" and text its bytes; *name is
 * NULL where the file has none. */
OL_MUST_CHECK enum ol_status ol_gguf_tokenizer(struct ol_buf *text, const char **name,
					       const struct ol_gguf *gguf, const char *path,
					       struct ol_error *err);

#endif
