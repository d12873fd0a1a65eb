/* model/model_internal.h, floor 2: the inside of an ol_model, shared by the files that make one. */
#ifndef OL_MODEL_MODEL_INTERNAL_H
#define OL_MODEL_MODEL_INTERNAL_H

#include "model/model_file.h"

struct ol_model {
	struct ol_config config;
	enum ol_weight_type type;
	uint8_t id[OL_MODEL_ID_BYTES];
	char path[256]; /* for messages; the end of a long one */
	struct ol_layout layout;
	struct ol_weights weights;
	struct ol_layer_weights *layers;
	struct ol_model_text texts[OL_TEXTS_MAX];
	int text_count;
	const uint8_t *data; /* the weights, layout.bytes long */
	struct ol_map map;   /* where data come from a file  */
	void *block;         /* where they are ours          */
	char *text_block;    /* where the texts are ours     */
};

/* A model without weights: config copied, layout made. NULL: out of memory. */
OL_MUST_CHECK struct ol_model *ol_model_new(const struct ol_config *config,
					    enum ol_weight_type type, const char *path);
/* Points every matrix and vector into data. */
void ol_model_bind(struct ol_model *model, const uint8_t *data);
/* A tensor of the model, from its own layout or an equal one, as a matrix (not for vectors). */
struct ol_matrix ol_model_matrix(const struct ol_model *model, const struct ol_tensor *tensor);
/* Rows of a tensor in canonical form; an ol_rows_fn with the model as context. */
enum ol_status ol_model_rows(void *model, const struct ol_tensor *tensor, void *canonical, int row0,
			     int count, struct ol_error *err);

#endif
