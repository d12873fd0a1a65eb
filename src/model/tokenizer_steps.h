/* model/tokenizer_steps.h, floor 2: the small parts of a tokenizer.json, as jansson trees (NULL:
 * the part is absent or null). Private to tokenizer_json.c and tokenizer_steps.c. */
#ifndef OL_MODEL_TOKENIZER_STEPS_H
#define OL_MODEL_TOKENIZER_STEPS_H

#include "model/tokenizer_parts.h"

#include <jansson.h>

enum ol_status ol_tokenizer_read_added(struct ol_tokenizer *t, const json_t *tree, const char *path,
				       struct ol_error *err);
enum ol_status ol_tokenizer_read_normalizer(struct ol_tokenizer *t, const json_t *tree,
					    const char *path, struct ol_error *err);
enum ol_status ol_tokenizer_read_pretokenizer(struct ol_tokenizer *t, const json_t *tree,
					      const char *path, struct ol_error *err);
enum ol_status ol_tokenizer_read_postprocessor(struct ol_tokenizer *t, const json_t *tree,
					       const char *path, struct ol_error *err);
enum ol_status ol_tokenizer_read_decoder(struct ol_tokenizer *t, const json_t *tree,
					 const char *path, struct ol_error *err);

#endif
